//! Sound as tokens: what an audio tower's convolutions make of a spectrogram, from the shapes of its own tensors.

use super::{Component, ComponentKind, Role};

/// Frames of the spectrogram in a second: 160 samples each, of 16,000 (`WhisperFeatureExtractor` of transformers 5.23).
const PER_SECOND: u64 = 100;

/// How an audio tower turns sound into tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frames {
    /// Frames of the spectrogram that become one token.
    pub per_token: u64,
    /// Tokens of the windows that sound is padded to, where the tower has a table of positions.
    pub window: Option<u64>,
    /// Values of the spectrogram that become one token.
    pub values: u64,
    /// Values that each convolution makes of them.
    pub maps: Vec<u64>,
}

impl Frames {
    /// Tokens of so many seconds of sound, whole windows where there are windows; `None` where they pass 2^64 - 1.
    pub fn tokens(&self, seconds: u64) -> Option<u64> {
        let tokens = seconds.checked_mul(PER_SECOND)?.div_ceil(self.per_token.max(1));
        match self.window {
            Some(window) if window > 0 => tokens.div_ceil(window).checked_mul(window),
            _ => Some(tokens),
        }
    }

    /// Seconds of a window.
    pub fn window_seconds(&self) -> Option<u64> {
        Some((self.window?.checked_mul(self.per_token)? / PER_SECOND).max(1))
    }
}

impl Component {
    /// How this part turns sound into tokens, where it is a transformer behind Whisper's two convolutions over frames, or behind three
    /// over the plane of the spectrogram (Qwen3-Omni, Qwen3-ASR). Of other towers it is not known.
    pub fn frames(&self) -> Option<Frames> {
        if self.kind != ComponentKind::AudioTower || self.layers.iter().all(|run| run.tensors.is_empty()) {
            return None;
        }
        let named = |name: &str| self.tensors.iter().find(|tensor| tensor.name.rsplit('.').nth(1) == Some(name) && tensor.name.ends_with(".weight"));
        let shape = |name: &str| named(name).map(|tensor| tensor.shape.as_slice());
        let table = self.tensors.iter().find(|tensor| tensor.role == Role::Position && tensor.shape.last() == Some(&self.hidden_size));
        let window = table.and_then(|table| table.shape.iter().rev().nth(1).copied());
        if let (Some(&[first, bands, 3]), Some(&[second, between, 3])) = (shape("conv1"), shape("conv2"))
            && first == between
            && second == self.hidden_size
        {
            // The second has a stride of two.
            return Some(Frames { per_token: 2, window, values: bands.checked_mul(2)?, maps: vec![first.checked_mul(2)?, second] });
        }
        let (&[width, 1, 3, 3], &[.., inputs]) = (shape("conv2d1")?, shape("conv_out")?) else { return None };
        // Three halvings of both sides; what is left of the bands stands beside the channels.
        let bands = inputs.checked_div(width)?;
        let map = |times: u64| inputs.checked_mul(times);
        Some(Frames { per_token: 8, window, values: bands.checked_mul(64)?, maps: vec![map(16)?, map(4)?, inputs] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_fills_whole_windows() {
        let whisper = Frames { per_token: 2, window: Some(1500), values: 160, maps: Vec::new() };
        assert_eq!([1, 30, 31].map(|seconds| whisper.tokens(seconds)), [Some(1500), Some(1500), Some(3000)]);
        assert_eq!(whisper.window_seconds(), Some(30));
        let free = Frames { per_token: 8, window: None, ..whisper };
        assert_eq!((free.tokens(10), free.tokens(u64::MAX), free.window_seconds()), (Some(125), None, None));
    }
}
