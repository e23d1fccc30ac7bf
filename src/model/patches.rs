//! Images as tokens: a vision tower's patches, from the shapes of its own tensors.

use super::{Component, ComponentKind, Role};

/// How a vision tower cuts images into tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patches {
    /// Width and height of a patch in pixels.
    pub side: (u64, u64),
    /// Channels of a pixel.
    pub channels: u64,
    /// Width and height of the images that its table of positions is for; `None` where it has none, and images may be of any size.
    pub size: Option<(u64, u64)>,
    /// Tokens besides: of the class, registers.
    pub others: u64,
}

/// Names of tensors that are tokens themselves.
const TOKENS: &[&str] = &["cls_token", "class_embedding", "class_token", "distillation_token", "register_tokens", "dist_token"];

impl Patches {
    /// Tokens of an image; `None` where it is smaller than a patch.
    pub fn tokens(&self, (width, height): (u64, u64)) -> Option<u64> {
        let (columns, rows) = (width.checked_div(self.side.0)?, height.checked_div(self.side.1)?);
        columns.checked_mul(rows).filter(|&patches| patches > 0)?.checked_add(self.others)
    }
}

impl Component {
    /// How this part cuts images into tokens, where it is a transformer over patches.
    pub fn patches(&self) -> Option<Patches> {
        if self.kind != ComponentKind::VisionTower || self.layers.iter().all(|run| run.tensors.is_empty()) {
            return None;
        }
        // The convolution that makes patches is the one whose window is its stride: (hidden size, channels, [frames,] height, width).
        let (side, channels) = self.tensors.iter().find_map(|tensor| match *tensor.shape.as_slice() {
            [hidden, channels, height, width] | [hidden, channels, _, height, width] if hidden == self.hidden_size && channels <= 4 && height > 1 => {
                Some(((width, height), channels))
            }
            _ => None,
        })?;
        let others = self.tensors.iter().filter(|tensor| TOKENS.iter().any(|name| tensor.name.ends_with(name)));
        let others = others.map(|tensor| if tensor.shape.len() == 3 { tensor.shape[1] } else { 1 }).sum();
        let table = self.tensors.iter().find(|tensor| tensor.role == Role::Position && tensor.shape.last() == Some(&self.hidden_size));
        let rows = table.and_then(|table| table.shape.iter().rev().nth(1).copied());
        // A table for patches alone, or for the other tokens too; only square images have tables.
        let size = rows.and_then(|rows| {
            let grid = [rows.checked_sub(others)?, rows].into_iter().find(|patches| patches.isqrt().pow(2) == *patches)?.isqrt();
            Some((grid.checked_mul(side.0)?, grid.checked_mul(side.1)?))
        });
        Some(Patches { side, channels, size, others })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_cut_into_whole_patches() {
        let patches = Patches { side: (14, 14), channels: 3, size: Some((336, 336)), others: 1 };
        assert_eq!([(336, 336), (350, 14), (27, 14), (13, 14)].map(|size| patches.tokens(size)), [Some(577), Some(26), Some(2), None]);
        assert_eq!(Patches { side: (0, 1), ..patches }.tokens((1, 1)), None);
    }
}
