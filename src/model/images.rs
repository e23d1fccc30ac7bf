//! What happens to images in a convolutional network: its operators in order, from which the size of every feature map follows.

use serde::{Deserialize, Serialize};

/// A network that reads images through feature maps. It takes images of any size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Images {
    /// Channels of an image.
    pub channels: u64,
    /// Width and height that it was made for.
    pub size: (u64, u64),
    /// Its operators in order, written down: whoever only hands a model on need not know them.
    steps: Vec<u64>,
}

/// One operator, or several that belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// A convolution (with a kernel of one: a matrix over channels).
    Convolution(Window, u64),
    /// The normalisation of each channel over the batch.
    BatchNorm,
    /// The normalisation of each pixel over its channels.
    LayerNorm,
    /// The response normalisation of `ConvNeXt` 2.
    ResponseNorm,
    /// An activation whose backward reads its result: `ReLU`, sigmoid.
    Rectifier,
    /// An activation whose backward reads its input: GELU, `SiLU`.
    Smooth,
    /// The largest of a window.
    MaxPool(Window),
    /// The mean of a window.
    AveragePool(Window),
    /// The mean of everything: one pixel is left.
    GlobalPool,
    /// Means of so many windows a side, whatever the size.
    AdaptivePool(u64),
    /// All pixels to channels of one.
    Flatten,
    /// A learned factor per channel.
    Scale,
    /// A dropout.
    Dropout,
    /// Squeeze and excitation: a factor per channel from the means, through so many values.
    Gate(u64),
    /// So many rows and columns of zeros more.
    Pad(u64),
    /// As many as the window's steps take to cover the map (TensorFlow's `SAME`): a copy even where there are none.
    PadSame(Window),
    /// Attention among the pixels of square windows (Swin).
    Windows {
        /// Its heads.
        heads: u64,
        /// Pixels of a row of a window.
        side: u64,
        /// Whether queries and keys are scaled to the same length (Swin 2).
        is_cosine: bool,
        /// Whether windows are moved by half of their side, so that a mask tells apart what is not side by side.
        is_shifted: bool,
    },
    /// Two by two pixels to one of all their channels.
    Fold,
    /// The sum of what both make of the same input; an empty shortcut is the input itself.
    Residual {
        /// The block.
        body: Vec<Step>,
        /// What makes its input as wide as its result.
        shortcut: Vec<Step>,
    },
    /// The input with what the block makes of it beside it, channel by channel.
    Dense(Vec<Step>),
}

/// A window that moves over a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Its side.
    pub kernel: u64,
    /// How far it moves.
    pub stride: u64,
    /// Zeros around the map.
    pub padding: u64,
}

impl Window {
    /// A window that keeps the size of the map but for its stride.
    pub const fn same(kernel: u64, stride: u64) -> Self {
        Self { kernel, stride, padding: kernel.saturating_sub(1) / 2 }
    }

    /// A window without padding.
    pub const fn tight(kernel: u64, stride: u64) -> Self {
        Self { kernel, stride, padding: 0 }
    }

    /// The side of a map with the zeros that its steps take to cover it.
    pub fn padded(&self, side: u64) -> Option<u64> {
        let rest = side.checked_rem(self.stride)?;
        side.checked_add(self.kernel.saturating_sub(if rest == 0 { self.stride } else { rest }))
    }

    /// The side of its result; `None` where the map is smaller than the window.
    pub fn of(&self, side: u64) -> Option<u64> {
        let around = self.padding.checked_mul(2)?;
        side.checked_add(around)?.checked_sub(self.kernel)?.checked_div(self.stride)?.checked_add(1)
    }
}

/// The shape of a feature map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map {
    /// Values of a pixel.
    pub channels: u64,
    /// Pixels of a row.
    pub width: u64,
    /// Rows.
    pub height: u64,
}

impl Map {
    /// Its values; `None` where they pass 2^64 - 1.
    pub fn values(&self) -> Option<u64> {
        self.width.checked_mul(self.height)?.checked_mul(self.channels)
    }

    /// The map with zeros up to whole windows of this side.
    pub fn in_windows(self, side: u64) -> Option<Self> {
        Some(Self { width: self.width.checked_next_multiple_of(side)?, height: self.height.checked_next_multiple_of(side)?, ..self })
    }

    /// The map that a step makes of it; `None` where it is too small, or too large.
    pub fn after(self, step: &Step) -> Option<Self> {
        let through = |window: &Window, channels| Some(Self { channels, width: window.of(self.width)?, height: window.of(self.height)? });
        match step {
            Step::Convolution(window, outputs) => through(window, *outputs),
            Step::MaxPool(window) | Step::AveragePool(window) => through(window, self.channels),
            Step::GlobalPool => Some(Self { width: 1, height: 1, ..self }),
            Step::AdaptivePool(side) => Some(Self { width: *side, height: *side, ..self }),
            Step::Flatten => Some(Self { channels: self.values()?, width: 1, height: 1 }),
            Step::Residual { body, .. } => body.iter().try_fold(self, Self::after),
            Step::Dense(body) => {
                let made = body.iter().try_fold(self, Self::after)?;
                Some(Self { channels: self.channels.checked_add(made.channels)?, ..made })
            }
            Step::Pad(more) => Some(Self { width: self.width.checked_add(*more)?, height: self.height.checked_add(*more)?, ..self }),
            Step::PadSame(window) => Some(Self { width: window.padded(self.width)?, height: window.padded(self.height)?, ..self }),
            Step::Fold => Some(Self { channels: self.channels.checked_mul(4)?, width: self.width.div_ceil(2), height: self.height.div_ceil(2) }),
            Step::BatchNorm
            | Step::LayerNorm
            | Step::ResponseNorm
            | Step::Rectifier
            | Step::Smooth
            | Step::Scale
            | Step::Dropout
            | Step::Gate(_)
            | Step::Windows { .. } => Some(self),
        }
    }
}

impl Images {
    /// A network of these operators.
    pub fn new(channels: u64, size: (u64, u64), steps: &[Step]) -> Self {
        let written = postcard::to_allocvec(steps).unwrap_or_default();
        Self { channels, size, steps: written.into_iter().map(u64::from).collect() }
    }

    /// Its operators in order.
    pub fn steps(&self) -> Vec<Step> {
        let written: Vec<u8> = self.steps.iter().filter_map(|&byte| u8::try_from(byte).ok()).collect();
        postcard::from_bytes(&written).unwrap_or_default()
    }

    /// The map of an image of this width and height.
    pub const fn map(&self, (width, height): (u64, u64)) -> Map {
        Map { channels: self.channels, width, height }
    }

    /// Values of the maps that are held at the worst moment of a pass that keeps nothing for a backward pass: what an operator reads and
    /// makes, and what waits beside a block. `None` where an image is too small, or too large.
    pub fn widest(&self, size: (u64, u64)) -> Option<u64> {
        widest(&self.steps(), self.map(size), 0)
    }
}

fn widest(steps: &[Step], mut map: Map, waiting: u64) -> Option<u64> {
    let mut most = 0;
    for step in steps {
        let (before, after) = (map.values()?, map.after(step)?);
        let inside = match step {
            Step::Residual { body, shortcut } => {
                let body = widest(body, map, waiting.checked_add(before)?)?;
                body.max(widest(shortcut, map, waiting.checked_add(after.values()?)?)?)
            }
            Step::Dense(body) => widest(body, map, waiting.checked_add(before)?)?,
            Step::Windows { heads, side, .. } => {
                let windows = map.in_windows(*side)?;
                let scores = Map { channels: heads.checked_mul(side.checked_mul(*side)?)?, ..windows }.values()?;
                // Queries, keys and values, the scores and what softmax makes of them.
                windows.values()?.checked_mul(3)?.checked_add(scores.checked_mul(2)?)?.checked_add(waiting)?
            }
            _ => 0,
        };
        most = most.max(inside).max(waiting.checked_add(before)?.checked_add(after.values()?)?);
        map = after;
    }
    Some(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_shrink_maps() {
        assert_eq!([224, 225, 7].map(|side| Window::same(7, 2).of(side)), [Some(112), Some(113), Some(4)]);
        assert_eq!(Window::same(3, 2).of(112), Some(56));
        assert_eq!(Window::tight(4, 4).of(224), Some(56));
        assert_eq!(Window::tight(4, 4).of(3), None);
        // TensorFlow pads an even map by one where it halves, an odd one by two.
        assert_eq!([224, 113, 56].map(|side| Window::tight(3, 2).padded(side)), [Some(225), Some(115), Some(57)]);
        assert_eq!(Window { kernel: 1, stride: 0, padding: 0 }.of(3), None);
    }

    #[test]
    fn blocks_hold_their_input() {
        let convolution = |outputs| Step::Convolution(Window::same(3, 1), outputs);
        let block = Step::Residual { body: vec![convolution(4), convolution(2)], shortcut: Vec::new() };
        let steps = [block, Step::Dense(vec![convolution(3)]), Step::GlobalPool];
        let images = Images::new(2, (4, 4), &steps);
        assert_eq!(images.steps(), steps);
        // In the block: its input, and 2 channels that become 4.
        assert_eq!(images.widest((4, 4)), Some(16 * (2 + 2 + 4)));
        let last = steps.iter().try_fold(images.map((4, 4)), Map::after).unwrap();
        assert_eq!((last.channels, last.width), (5, 1));
        assert_eq!(images.widest((u64::MAX, 2)), None);
    }
}
