//! The vocabulary of audio encoders: Whisper's stack behind two convolutions, and the convolutional front of wav2vec 2.0.

use super::decoder::{Tensors, component};
use super::encoder::{Sizes, head_dim, layer_count, seq2seq_layer};
use super::{ConfigError, Fields};
use crate::model::{Component, ComponentKind, Input, Keeps, Role, SECONDS, Tensor, Window, Work};

/// Keys and defaults of an encoder like Whisper's.
pub struct WhisperKeys {
    pub layers: (&'static str, u64),
    pub heads: (&'static str, u64),
    pub inner: (&'static str, u64),
    pub hidden: u64,
    pub mels: u64,
}

/// `WhisperConfig`.
pub const WHISPER: WhisperKeys =
    WhisperKeys { layers: ("encoder_layers", 4), heads: ("encoder_attention_heads", 6), inner: ("encoder_ffn_dim", 1536), hidden: 384, mels: 80 };

/// The same with the sizes of Whisper large, as language models hear with it.
pub const WHISPER_LARGE: WhisperKeys =
    WhisperKeys { layers: ("encoder_layers", 32), heads: ("encoder_attention_heads", 20), inner: ("encoder_ffn_dim", 5120), hidden: 1280, mels: 128 };

/// Whisper's encoder. `module` is its path, `layer_prefix` the path of its layers.
pub fn whisper_encoder(f: &Fields, keys: &WhisperKeys, module: &str, layer_prefix: &'static str) -> Result<(Sizes, Component), ConfigError> {
    let or = |key: &str, default: u64| f.count_or(key, default);
    let hidden = or("hidden_size", keys.hidden)?;
    let heads = or(keys.heads.0, keys.heads.1)?;
    let layers = layer_count(f, keys.layers.0, keys.layers.1)?;
    let inner = or(keys.inner.0, keys.inner.1)?;
    let sizes = Sizes::plain(hidden, inner, layers, heads, head_dim(f, keys.heads.0, hidden, heads)?, 0);
    let mels = or("num_mel_bins", keys.mels)?;
    let positions = or("max_source_positions", 1500)?;
    let tensors = Tensors::default()
        .convolution(&format!("{module}.conv1"), &[hidden, mels, 3], true)
        .convolution(&format!("{module}.conv2"), &[hidden, hidden, 3], true)
        .embedding(&format!("{module}.embed_positions"), positions, hidden)
        .norm(&format!("{module}.layer_norm"), hidden, true)
        .build();
    let layers = sizes.equal_layers(Keeps::Nothing, &seq2seq_layer(hidden, inner, false, false));
    Ok((sizes, component("audio", ComponentKind::AudioTower, hidden, layer_prefix, tensors, layers)))
}

/// The convolutions of wav2vec 2.0 that turn samples into frames: widths `conv_dim`, kernels `conv_kernel`; a norm after the
/// first one (`group`) or after each (`layer`). Returns the width of the frames.
pub fn feature_extractor(f: &Fields, tensors: &mut Tensors, module: &str, norm_everywhere: bool) -> Result<u64, ConfigError> {
    let list = |key: &str, default: &[u64]| f.counts_or(key, default);
    let widths = list("conv_dim", &[512; 7])?;
    let kernels = list("conv_kernel", &[10, 3, 3, 3, 3, 2, 2])?;
    if widths.len() != kernels.len() || widths.is_empty() {
        return Err(f.impossible("conv_kernel", "it must have one entry per entry of `conv_dim`"));
    }
    f.optional_counts("conv_stride")?;
    f.touch("num_feat_extract_layers");
    let bias = f.flag("conv_bias", false)?;
    let everywhere = norm_everywhere || f.optional_text("feat_extract_norm")?.is_some_and(|norm| norm == "layer");
    let mut inputs = 1;
    for (number, (&width, &kernel)) in widths.iter().zip(&kernels).enumerate() {
        tensors.convolution(&format!("{module}.conv_layers.{number}.conv"), &[width, inputs, kernel], bias);
        if everywhere || number == 0 {
            tensors.norm(&format!("{module}.conv_layers.{number}.layer_norm"), width, true);
        }
        inputs = width;
    }
    Ok(inputs)
}

/// Samples of a second.
const SAMPLES: u64 = 16_000;

/// What becomes of the sound of a request through convolutions without padding over its samples.
pub fn of_samples(windows: impl IntoIterator<Item = Window>) -> Work {
    of_sound(SECONDS * SAMPLES, windows, "at 16 kHz")
}

/// The same over frames of 10 ms.
pub fn of_frames(windows: impl IntoIterator<Item = Window>) -> Work {
    of_sound(SECONDS * 100, windows, "in frames of 10 ms")
}

fn of_sound(length: u64, windows: impl IntoIterator<Item = Window>, cut: &str) -> Work {
    let mut strides = Vec::new();
    let tokens = windows.into_iter().try_fold(length, |length, window| {
        strides.push(window.stride.to_string());
        window.of(length)
    });
    let input = |tokens| Input {
        tokens,
        rule: format!("{SECONDS} s of sound in a request, {cut}, through convolutions with strides of {}", strides.join(", ")).into(),
    };
    tokens.map(input).map_or(Work::Tokens, Work::Input)
}

/// The steps of [`feature_extractor`] over samples.
pub fn wav2vec2_windows(f: &Fields) -> Result<Vec<Window>, ConfigError> {
    let (kernels, strides) = (f.counts_or("conv_kernel", &[10, 3, 3, 3, 3, 2, 2])?, f.counts_or("conv_stride", &[5, 2, 2, 2, 2, 2, 2])?);
    if kernels.len() != strides.len() {
        return Err(f.impossible("conv_stride", "it must have one entry per entry of `conv_kernel`"));
    }
    let windows: Vec<Window> = kernels.into_iter().zip(strides).map(|(kernel, stride)| Window::tight(kernel, stride)).collect();
    if windows.iter().try_fold(SECONDS * SAMPLES, |length, window| window.of(length)).is_none() {
        return Err(f.impossible("conv_kernel", "with `conv_stride` it must leave something of a request's sound"));
    }
    Ok(windows)
}

/// A convolution over positions whose kernel is kept as direction and length per column (weight norm).
pub fn position_convolution(f: &Fields, tensors: &mut Tensors, module: &str, hidden: u64) -> Result<(), ConfigError> {
    let kernel = f.count_or("num_conv_pos_embeddings", 128)?;
    let inputs = grouped_inputs(f, hidden)?;
    tensors.tensor(&format!("{module}.conv.bias"), Role::Other, &[hidden]).tensor(&format!("{module}.conv.weight_g"), Role::Other, &[1, 1, kernel]).tensor(
        &format!("{module}.conv.weight_v"),
        Role::Other,
        &[hidden, inputs, kernel],
    );
    Ok(())
}

/// Inputs of one group of the convolution over positions.
pub fn grouped_inputs(f: &Fields, hidden: u64) -> Result<u64, ConfigError> {
    let groups = f.count_or("num_conv_pos_embedding_groups", 16)?;
    if !hidden.is_multiple_of(groups) {
        return Err(f.impossible("num_conv_pos_embedding_groups", "it must divide `hidden_size`"));
    }
    Ok(hidden / groups)
}

/// The head that tells speakers apart: time-delay layers `tdnn_dim` wide, and two linear layers above their mean and deviation.
pub fn x_vector(f: &Fields, hidden: u64, labels: u64) -> Result<Vec<Tensor>, ConfigError> {
    let list = |key: &str, default: &[u64]| f.counts_or(key, default);
    let widths = list("tdnn_dim", &[512, 512, 512, 512, 1500])?;
    let kernels = list("tdnn_kernel", &[5, 3, 3, 1, 1])?;
    let (Some(&first), Some(&last)) = (widths.first(), widths.last()) else {
        return Err(f.impossible("tdnn_dim", "it must not be empty"));
    };
    if widths.len() != kernels.len() {
        return Err(f.impossible("tdnn_kernel", "it must have one entry per entry of `tdnn_dim`"));
    }
    let output = f.count_or("xvector_output_dim", 512)?;
    let mut tensors = Tensors::default();
    tensors.linear("projector", hidden, first, true);
    let mut inputs = first;
    for (number, (&width, &kernel)) in widths.iter().zip(&kernels).enumerate() {
        tensors.linear(&format!("tdnn.{number}.kernel"), inputs.saturating_mul(kernel), width, true);
        inputs = width;
    }
    tensors.linear("feature_extractor", last.saturating_mul(2), output, true).linear("classifier", output, output, true);
    tensors.tensor("objective.weight", Role::Score, &[output, labels]);
    Ok(tensors.build())
}

#[cfg(test)]
mod tests {
    use crate::config::read;

    #[test]
    fn convolutions_leave_something_of_the_sound() {
        let of = |more: &str| read(&format!(r#"{{"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForCTC"]{more}}}"#)).map_err(|error| error.to_string());
        assert!(of("").is_ok());
        for (more, key) in [
            (r#", "conv_stride": [5, 2]"#, "conv_stride"),
            (r#", "conv_stride": [0, 2, 2, 2, 2, 2, 2]"#, "conv_stride"),
            (r#", "conv_kernel": [1000000000, 3, 3, 3, 3, 2, 2]"#, "conv_kernel"),
        ] {
            let error = of(more).unwrap_err();
            assert!(error.contains(key), "{more}: {error}");
        }
    }
}
