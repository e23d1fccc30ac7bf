//! Molmo 2: a tower whose chosen layers are pooled by attention, a gated projector, and a decoder with rows for added tokens.

use super::decoder::{Decoder, Draft, Head, LLAMA_NORMS, Shape, Tensors, layers_by_span};
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_in};
use super::towers::{TowerShape, projector, vision_tower};
use super::{ConfigError, Fields};
use crate::model::{Component, FeedForward, Role, Span};

/// `Molmo2TextConfig` of transformers 5.23.
const TEXT: &[(&str, u64)] = &[
    ("hidden_size", 4096),
    ("num_attention_heads", 32),
    ("num_key_value_heads", 8),
    ("head_dim", 128),
    ("vocab_size", 151_936),
    ("num_hidden_layers", 36),
    ("intermediate_size", 12_288),
];

/// `Molmo2VisionConfig`.
const VISION: &[(&str, u64)] = &[
    ("hidden_size", 1152),
    ("intermediate_size", 4304),
    ("num_hidden_layers", 25),
    ("num_attention_heads", 16),
    ("num_key_value_heads", 16),
    ("head_dim", 72),
    ("num_channels", 3),
];

/// `Molmo2AdapterConfig`.
const ADAPTER: &[(&str, u64)] = &[
    ("hidden_size", 1152),
    ("num_attention_heads", 16),
    ("num_key_value_heads", 16),
    ("head_dim", 72),
    ("intermediate_size", 18_944),
    ("text_hidden_size", 3584),
];

pub(super) fn read_text(f: &Fields) -> Result<Draft, ConfigError> {
    let f = f.with_defaults(TEXT);
    let shape = Shape::read(&f)?;
    let intermediate = f.count("intermediate_size")?;
    // The published files say `qkv_bias`.
    let bias = f.flag("attention_bias", false)? || f.flag("qkv_bias", false)?;
    let mut layer = Tensors::default();
    layer.attention(&shape, bias, false);
    match f.optional_text("qk_norm_type")?.as_deref() {
        None | Some("qwen3") => _ = layer.query_key_norm(&shape),
        Some("olmo") => {
            layer.norm("self_attn.q_norm", shape.heads.saturating_mul(shape.head_dim), false).norm(
                "self_attn.k_norm",
                shape.kv_heads.saturating_mul(shape.head_dim),
                false,
            );
        }
        Some(_) => return Err(f.impossible("qk_norm_type", "it must be `qwen3` or `olmo`")),
    }
    let layer = layer.gated_mlp(shape.hidden, intermediate, false).norms(LLAMA_NORMS, shape.hidden).build();
    let layers = layers_by_span(&shape, FeedForward::Dense { intermediate, gated: true }, &layer, |_| Span::Full);
    // Where norms stand and which layers scale positions.
    f.flag("norm_after", false)?;
    f.touch("rope_scaling_layers");
    let added = f.optional_count_or_zero("additional_vocab_size")?.unwrap_or(128);
    let mut decoder = Decoder::llama_like(shape, layers, false);
    decoder.tensors =
        Tensors::default().embedding("model.embed_tokens", shape.vocab.saturating_add(added), shape.hidden).norm("model.norm", shape.hidden, false).build();
    Ok(decoder.into())
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper = Wrapper { default_type: "molmo2_text", names: Names::Inside("model.language_model"), head: Head::ByArchitecture, tie: Tie::Never };
    let text = f.part(TEXT_CONFIGS)?;
    let draft = language_in(f, &text, &wrapper)?;
    let adapter = f.part(&["adapter_config"])?.with_defaults(ADAPTER);
    let key = if adapter.has("vit_layers") { "vit_layers" } else { "vision_feature_layer" };
    let read =
        adapter.raw(key).and_then(|list| list.as_array()).map_or_else(|| vec![24, 18], |list| list.iter().filter_map(serde_json::Value::as_i64).collect());
    let Some(&deepest) = read.iter().max() else { return Err(adapter.impossible(key, "it must be a list of layer numbers")) };

    let v = f.part(&["vision_config", "vit_config"])?.with_defaults(VISION);
    let mut layers = v.count("num_hidden_layers")?;
    if f.has("vit_config") {
        // The first files count layers that their weights lack: the deepest one that is read is the last.
        let last = if read.iter().all(|&layer| layer >= 0) { u64::try_from(deepest).ok().map(|layer| layer.saturating_add(1)) } else { None };
        layers = last.unwrap_or(layers).min(layers);
    }
    let tower = TowerShape { layers, ..TowerShape::read(&v, TowerShape::KEYS)? };
    let (hidden, inner) = (tower.hidden, tower.intermediate);
    let mut layer = Tensors::default();
    layer.norm("layer_norm1", hidden, true).norm("layer_norm2", hidden, true);
    attention(&v, &mut layer, "self_attn", hidden)?;
    let layer = layer.linear("mlp.fc1", hidden, inner, true).linear("mlp.fc2", inner, hidden, true).build();
    let (patch, positions) = patches(&v)?;
    let inputs = patch.saturating_mul(patch).saturating_mul(v.count("num_channels")?);
    let outside = Tensors::default()
        .tensor("model.vision_tower.positional_embedding", Role::Position, &[positions, hidden])
        .linear("model.vision_tower.patch_embedding", inputs, hidden, true)
        .build();
    let tower: Component = vision_tower(hidden, "model.vision_tower.layers", outside, tower.layers(&layer));

    let (inner, width) = (adapter.count("intermediate_size")?, adapter.count("text_hidden_size")?);
    let pooled = adapter.count("hidden_size")?;
    let bias = adapter.flag("mlp_bias", false)?;
    let mut t = Tensors::default();
    attention(&adapter, &mut t, "model.multi_modal_projector.image_pooling_2d", pooled.saturating_mul(read.len() as u64))?;
    let t = t
        .linear("model.multi_modal_projector.image_projector.gate_proj", pooled, inner, bias)
        .linear("model.multi_modal_projector.image_projector.up_proj", pooled, inner, bias)
        .linear("model.multi_modal_projector.image_projector.down_proj", inner, width, false)
        .build();
    Ok(draft.with(tower).with(projector(width, t)))
}

/// Attention of the tower and of the pooling, which reads this wide.
fn attention(f: &Fields, t: &mut Tensors, module: &str, inputs: u64) -> Result<(), ConfigError> {
    let (hidden, head) = (f.count("hidden_size")?, f.count("head_dim")?);
    let queries = f.count("num_attention_heads")?.saturating_mul(head);
    let keys = f.count("num_key_value_heads")?.saturating_mul(head);
    let bias = f.flag("attention_bias", true)?;
    t.linear(&format!("{module}.q_proj"), inputs, queries, bias)
        .linear(&format!("{module}.k_proj"), inputs, keys, bias)
        .linear(&format!("{module}.v_proj"), inputs, keys, bias)
        .linear(&format!("{module}.o_proj"), queries, hidden, bias);
    Ok(())
}

/// The side of a patch and the number of positions, in the spellings of the first files and of the class.
fn patches(f: &Fields) -> Result<(u64, u64), ConfigError> {
    let patch = f.optional_count("image_patch_size")?.or(f.optional_count("patch_size")?).unwrap_or(14);
    let key = if f.has("image_default_input_size") { "image_default_input_size" } else { "image_size" };
    let sides = f.counts_or(key, &[378, 378])?;
    let &[height, width] = sides.as_slice() else { return Err(f.impossible(key, "it must be a height and a width")) };
    let positions = f.optional_count("image_num_pos")?.or(f.optional_count("num_position_embeddings")?);
    Ok((patch, positions.unwrap_or((height / patch).saturating_mul(width / patch))))
}
