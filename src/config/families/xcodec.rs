//! X-Codec: DAC's coder for sound and a `HuBERT` for its meaning, both narrowed to codes of shared codebooks (which are buffers).

use super::decoder::{Draft, Tensors};
use super::multimodal::lasting;
use super::{ConfigError, Fields, family_of};
use crate::model::ComponentKind;

/// What `XcodecConfig` of transformers 5.23 gives DAC.
const ACOUSTIC: &str = r#"{"encoder_hidden_size": 64, "downsampling_ratios": [8, 5, 4, 2], "decoder_hidden_size": 1024,
    "upsampling_ratios": [8, 5, 4, 2], "hidden_size": 256}"#;

/// Most blocks, and units in one, that are read.
const MAX: usize = 32;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let part = |key: &'static str| f.part(&[key]);
    let (sound, meaning) = (part("acoustic_model_config")?.with_values(ACOUSTIC), part("semantic_model_config")?);
    for unread in
        ["model_type", "codebook_size", "codebook_dim", "n_codebooks", "codebook_loss_weight", "commitment_loss_weight", "quantizer_dropout", "sampling_rate"]
    {
        sound.touch(unread);
    }
    let (mut t, acoustic) = super::dac::coder(&sound, ["acoustic_encoder", "acoustic_decoder"])?;
    let kind = meaning.optional_text("model_type")?.unwrap_or_else(|| "hubert".to_owned());
    let family = family_of(&kind).filter(|_| ["hubert", "wavlm"].contains(&kind.as_str()));
    let family = family.ok_or_else(|| meaning.impossible("model_type", "only `hubert` and `wavlm` are known here"))?;
    let mut draft = (family.read)(&meaning.as_class("Model"))?;
    let width = draft.decoder.shape.hidden;
    semantic(f, &mut t, width)?;
    let both = acoustic.saturating_add(width);
    t.linear("fc", both, both, true).linear("fc1", both, width, true).linear("fc2", both, acoustic, true);
    for unread in ["sample_rate", "target_bandwidths", "codebook_size", "codebook_dim"] {
        f.touch(unread);
    }
    f.touch("architectures");
    let within = |name: &str| name.strip_prefix(kind.as_str()).map_or_else(|| name.to_owned(), |rest| format!("semantic_model{rest}"));
    let decoder = &mut draft.decoder;
    for tensor in &mut decoder.tensors {
        tensor.name = within(&tensor.name);
    }
    decoder.layer_prefix = lasting(within(decoder.layer_prefix));
    decoder.base = "";
    decoder.tensors.extend(t.build());
    draft.kind = ComponentKind::AudioTower;
    Ok(draft)
}

/// The convolutions before and after the codes of meaning.
fn semantic(f: &Fields, t: &mut Tensors, width: u64) -> Result<(), ConfigError> {
    let list = |key: &'static str| match f.counts_or(key, &[1, 1])? {
        list if !list.is_empty() && list.len() <= MAX && list.iter().all(|&n| (1..=1 << 16).contains(&n)) => Ok(list),
        _ => Err(f.impossible(key, "it must be a list of factors, at least 1 each")),
    };
    let (ratios, strides, dilations) = (list("channel_ratios")?, list("strides")?, list("block_dilations")?);
    if ratios.len() != strides.len() {
        return Err(f.impossible("strides", "it must have one entry for each of `channel_ratios`"));
    }
    let (kernel, unit) = (f.count_or("kernel_size", 3)?, f.count_or("unit_kernel_size", 3)?);
    let widths: Vec<u64> = ratios.iter().map(|ratio| width.saturating_mul(*ratio)).collect();
    let units = |t: &mut Tensors, at: &str, width: u64| {
        for number in 0..dilations.len() {
            let at = format!("{at}.res_units.{number}");
            t.convolution(&format!("{at}.conv1"), &[width, width, unit], false).convolution(&format!("{at}.conv2"), &[width, width, 1], false);
        }
    };
    t.convolution("encoder_semantic.conv", &[width, width, kernel], false);
    let mut before = width;
    for (number, (&stride, &after)) in strides.iter().zip(&widths).enumerate() {
        let at = format!("encoder_semantic.conv_blocks.{number}");
        units(t, &at, before);
        t.convolution(&format!("{at}.conv"), &[after, before, if stride == 1 { 3 } else { 2 * stride }], true);
        before = after;
    }
    t.convolution("decoder_semantic.conv1", &[widths[0], width, kernel], false);
    for (number, (&stride, &before)) in strides.iter().zip(&widths).enumerate() {
        let (at, after) = (format!("decoder_semantic.conv_blocks.{number}"), widths.get(number + 1).copied().unwrap_or(width));
        // One that lengthens is transposed (inputs first) and has no bias.
        if stride == 1 {
            t.convolution(&format!("{at}.conv"), &[after, before, 3], true);
        } else {
            t.convolution(&format!("{at}.conv"), &[before, after, 2 * stride], false);
        }
        units(t, &at, after);
    }
    t.convolution("decoder_semantic.conv2", &[width, width, kernel], false);
    Ok(())
}
