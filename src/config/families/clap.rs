//! CLAP: sound and text in one space: a hierarchical encoder of spectrograms with shifted windows, RoBERTa's layers, two matrices each.

use super::decoder::{Draft, Tensors, component};
use super::vision::{BERT, Encoder, Tower, block, depths, linear, norm, per_stage_of};
use super::{ConfigError, Fields};
use crate::model::{Component, ComponentKind, Layer, Role, Tensor};

/// `ClapTextConfig` of transformers 5.23.
const TEXT: &[(&str, u64)] = &[
    ("vocab_size", 50_265),
    ("hidden_size", 768),
    ("num_hidden_layers", 12),
    ("num_attention_heads", 12),
    ("intermediate_size", 3072),
    ("max_position_embeddings", 514),
    ("type_vocab_size", 1),
];

/// `ClapAudioConfig`.
const AUDIO: &[(&str, u64)] =
    &[("window_size", 8), ("num_mel_bins", 64), ("patch_size", 4), ("patch_embeds_hidden_size", 96), ("patch_embed_input_channels", 1), ("hidden_size", 768)];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let text = f.part(&["text_config"])?.with_defaults(TEXT);
    let audio = f.part(&["audio_config"])?.with_defaults(AUDIO);
    let class = f.architecture()?.unwrap_or_default();
    let whole = class.is_empty() || class.ends_with("ClapModel");
    let projection = f.count_or("projection_dim", 512)?;
    // Copies of the text's; the class sets them.
    for key in ["hidden_size", "num_hidden_layers", "projection_hidden_act"] {
        f.touch(key);
    }
    for part in [&text, &audio] {
        for key in ["model_type", "projection_dim", "projection_hidden_act"] {
            part.touch(key);
        }
    }
    let project = |t: &mut Tensors, name: &str, inputs: u64| {
        linear(t, Role::Other, &format!("{name}_projection.linear1"), inputs, projection, true);
        linear(t, Role::Other, &format!("{name}_projection.linear2"), projection, projection, true);
    };

    let e = Encoder::read(&text)?;
    let vocab = text.count("vocab_size")?;
    let mut t = Tensors::default();
    t.tensor("embeddings.word_embeddings.weight", Role::Embedding, &[vocab, e.hidden])
        .tensor("embeddings.position_embeddings.weight", Role::Position, &[text.count("max_position_embeddings")?, e.hidden])
        .tensor("embeddings.token_type_embeddings.weight", Role::Embedding, &[text.count("type_vocab_size")?, e.hidden]);
    norm(&mut t, "embeddings.LayerNorm", e.hidden, true);
    linear(&mut t, Role::Other, "pooler.dense", e.hidden, e.hidden, true);
    let tower = Tower { encoder: e, layers_at: "encoder.layer".to_owned(), tensors: t.build(), layers: BERT.layers(&e) }.below("text_model");
    let mut top = Tensors::default();
    project(&mut top, "text", e.hidden);
    if !whole {
        let mut draft = tower.with(top).draft(ComponentKind::TextEncoder, "", vocab);
        draft.assumptions.push(format!("architecture `{class}` is counted as the part for text"));
        return Ok(draft);
    }
    top.tensor("logit_scale_a", Role::Other, &[]).tensor("logit_scale_t", Role::Other, &[]);
    let mut draft = tower.with(top).draft(ComponentKind::TextEncoder, "", vocab);
    let mut hearing = audio_part(&audio)?;
    let mut t = Tensors::default();
    // As wide as the config says, be the last stage another.
    project(&mut t, "audio", audio.count_or("hidden_size", 768)?);
    hearing.tensors.extend(t.build());
    if audio.flag("enable_fusion", false)? {
        draft.assumptions.push("the fusion of long sounds is counted for the types `daf_2d`, `aff_2d` and `iaff_2d`".to_owned());
    }
    Ok(draft.with(hearing))
}

fn audio_part(f: &Fields) -> Result<Component, ConfigError> {
    let depths = depths(f, &[2, 2, 6, 2])?;
    let heads = per_stage_of(f, "num_attention_heads", &[4, 8, 16, 32], depths.len())?;
    let (first, mels) = (f.count("patch_embeds_hidden_size")?, f.count("num_mel_bins")?);
    let patch = super::vision::pair(f, "patch_size")?;
    let fusion = f.flag("enable_fusion", false)?;
    let mapped = fusion && f.optional_text("fusion_type")?.is_some_and(|kind| kind == "channel_map");
    let channels = f.count("patch_embed_input_channels")?.saturating_mul(if mapped { 4 } else { 1 });
    for key in ["spec_size", "patch_stride", "num_classes", "num_hidden_layers", "flatten_patch_embeds", "hidden_size"] {
        f.touch(key);
    }
    let mut t = Tensors::default();
    t.convolution("patch_embed.proj", &[first, channels, patch[0], patch[1]], true);
    if f.flag("enable_patch_layer_norm", true)? {
        norm(&mut t, "patch_embed.norm", first, true);
    }
    if fusion {
        let narrow = first / f.count_or("aff_block_r", 4)?;
        for (part, at) in [("local_att", [0, 1, 3, 4]), ("global_att", [1, 2, 4, 5])] {
            let name = |number: u64| format!("patch_embed.fusion_model.{part}.{number}");
            t.convolution(&name(at[0]), &[narrow, first, 1, 1], true).convolution(&name(at[2]), &[first, narrow, 1, 1], true);
            norm(&mut t, &name(at[1]), narrow, true);
            norm(&mut t, &name(at[3]), first, true);
        }
        t.convolution("patch_embed.mel_conv2d", &[first, f.count("patch_embed_input_channels")?, patch[0], patch[1].saturating_mul(3)], true);
    } else {
        f.touch("aff_block_r");
    }
    let ratio = super::towers::scaled(f, "mlp_ratio", 4.0, 1)?;
    let side = f.count("window_size")?.saturating_mul(2).saturating_sub(1);
    let bias = f.flag("qkv_bias", true)?;
    let (mut width, mut layers): (u64, Vec<Layer>) = (first, Vec::new());
    for (stage, (&depth, &heads)) in depths.iter().zip(&heads).enumerate() {
        let inner = width.saturating_mul(ratio);
        for number in 0..depth {
            let tensors: Vec<Tensor> = {
                let mut t = Tensors::default();
                norm(&mut t, "layernorm_before", width, true);
                norm(&mut t, "layernorm_after", width, true);
                t.tensor("attention.self.relative_position_bias_table", Role::Position, &[side.saturating_mul(side), heads]);
                for (leaf, role) in [("query", Role::Query), ("key", Role::Key), ("value", Role::Value)] {
                    linear(&mut t, role, &format!("attention.self.{leaf}"), width, width, bias);
                }
                linear(&mut t, Role::AttentionOutput, "attention.output.dense", width, width, true);
                linear(&mut t, Role::Up, "intermediate.dense", width, inner, true);
                linear(&mut t, Role::Down, "output.dense", inner, width, true);
                t.build()
            };
            t.nested(&format!("layers.{stage}.blocks.{number}"), tensors);
            layers.push(block(width, heads, inner));
        }
        if stage + 1 < depths.len() {
            let (twice, four) = (width.saturating_mul(2), width.saturating_mul(4));
            linear(&mut t, Role::Other, &format!("layers.{stage}.downsample.reduction"), four, twice, false);
            norm(&mut t, &format!("layers.{stage}.downsample.norm"), four, true);
            width = twice;
        }
    }
    norm(&mut t, "batch_norm", mels, true);
    norm(&mut t, "norm", width, true);
    let tensors = Tensors::default().nested("audio_model.audio_encoder", t.build()).build();
    let layers = layers.into_iter().map(|layer| (layer, Vec::new())).collect();
    Ok(component("audio", ComponentKind::AudioTower, width, "", tensors, layers))
}
