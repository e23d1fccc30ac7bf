//! Sound as tokens: what an audio tower's convolutions make of a spectrogram, from the shapes of its own tensors.

use super::{Component, ComponentKind, Role, Tensor};

/// Frames of the spectrogram in a second: 160 samples each, of 16,000 (`WhisperFeatureExtractor` of transformers 5.23).
const PER_SECOND: u64 = 100;

/// Seconds of sound in a request, where a tower has no window of its own.
pub const SECONDS: u64 = 30;

/// Bands of a spectrogram whose frames are put side by side (`GraniteSpeechFeatureExtractor`: `n_mels`).
const BANDS: u64 = 80;

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
    /// over the plane of the spectrogram (Qwen3-Omni, Qwen3-ASR), or a conformer (Granite Speech, Gemma 3n, Phi-4). Of other towers it is not
    /// known.
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
        if let Some(stacked) = shape("input_linear").and_then(|shape| shape.get(1)) {
            // Granite Speech: frames side by side, no convolution.
            return Some(Frames { per_token: (stacked / BANDS).max(1), window, values: *stacked, maps: Vec::new() });
        }
        if let Some(halved) = self.halved() {
            return Some(halved);
        }
        let (&[width, 1, 3, 3], &[.., inputs]) = (shape("conv2d1")?, shape("conv_out")?) else { return None };
        // Three halvings of both sides; what is left of the bands stands beside the channels.
        let bands = inputs.checked_div(width)?;
        let map = |times: u64| inputs.checked_mul(times);
        Some(Frames { per_token: 8, window, values: bands.checked_mul(64)?, maps: vec![map(16)?, map(4)?, inputs] })
    }

    /// Convolutions of three by three in front that each halve both sides, and a matrix of what is left of the bands beside the channels
    /// (Gemma 3n, Gemma 4, Phi-4 multimodal). One channel after another is part of the convolution before it.
    fn halved(&self) -> Option<Frames> {
        let is_first = |tensor: &&Tensor| matches!(*tensor.shape.as_slice(), [_, 1, 3, 3]);
        let is_next = |tensor: &&Tensor| matches!(*tensor.shape.as_slice(), [_, _, 3, 3]);
        let last = self.tensors.iter().find(|tensor| tensor.name.ends_with("input_proj_linear.weight") || tensor.name.ends_with("embed.out.weight"))?;
        let (&[channels, ..], &[_, inputs]) = (self.tensors.iter().find(is_first)?.shape.as_slice(), last.shape.as_slice()) else { return None };
        let convolutions: Vec<u64> = self.tensors.iter().filter(is_next).filter_map(|tensor| tensor.shape.first().copied()).collect();
        let bands = inputs.checked_div(*convolutions.last().filter(|_| channels > 0)?)?;
        let times = u32::try_from(convolutions.len()).ok().filter(|&times| times < 8)?;
        let area = |halvings: u32| bands.checked_mul(4_u64.checked_pow(halvings)?);
        let maps = convolutions.iter().zip((0..times).rev()).map(|(channels, left)| area(left)?.checked_mul(*channels)).collect::<Option<_>>()?;
        Some(Frames { per_token: 1 << times, window: None, values: area(times)?, maps })
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
