//! Llama 3.2 Vision: every fifth layer of the decoder attends to the image and keeps nothing per token of text; a tower in
//! two parts, the second one gated, with positions per tile and aspect ratio.

use super::decoder::{Decoder, Draft, Head, LLAMA_NORMS, Shape, Tensors};
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_in};
use super::towers::{TowerShape, patches, projector, vision_tower};
use super::{ConfigError, Fields};
use crate::model::{Attention, Component, FeedForward, Keeps, Layer, Mixer, Role, Span};

/// `MllamaTextConfig` of transformers 5.23.
const TEXT: &[(&str, u64)] = &[
    ("vocab_size", 128_256),
    ("hidden_size", 4096),
    ("intermediate_size", 14_336),
    ("num_hidden_layers", 40),
    ("num_attention_heads", 32),
    ("num_key_value_heads", 8),
];

/// Layers that attend to the image when the config does not say.
const CROSS_LAYERS: [u64; 8] = [3, 8, 13, 18, 23, 28, 33, 38];

/// `MllamaVisionConfig`.
const VISION: &[(&str, u64)] = &[
    ("hidden_size", 1280),
    ("num_hidden_layers", 32),
    ("num_global_layers", 8),
    ("attention_heads", 16),
    ("num_channels", 3),
    ("intermediate_size", 5120),
    ("vision_output_dim", 7680),
    ("image_size", 448),
    ("patch_size", 14),
    ("max_num_tiles", 4),
];

/// Rows of the embedding beyond the vocabulary: tokens for images.
const EXTRA_ROWS: u64 = 8;

pub(super) fn read_text(f: &Fields) -> Result<Draft, ConfigError> {
    let f = f.with_defaults(TEXT);
    let shape = Shape::read(&f)?;
    let intermediate = f.count("intermediate_size")?;
    let crossing = if f.raw("cross_attention_layers").is_some() { f.layer_numbers("cross_attention_layers")? } else { CROSS_LAYERS.into() };
    let (queries, keys) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
    let layer = |number: u64| {
        let mut tensors = Tensors::default();
        let attention = shape.attention(Span::Full);
        let attention = if crossing.contains(&number) {
            tensors
                .linear("cross_attn.q_proj", shape.hidden, queries, false)
                .linear("cross_attn.k_proj", shape.hidden, keys, false)
                .linear("cross_attn.v_proj", shape.hidden, keys, false)
                .linear("cross_attn.o_proj", queries, shape.hidden, false)
                .norm("cross_attn.q_norm", shape.head_dim, false)
                .norm("cross_attn.k_norm", shape.head_dim, false)
                .tensor("cross_attn_attn_gate", Role::Other, &[1])
                .tensor("cross_attn_mlp_gate", Role::Other, &[1]);
            Attention { keeps: Keeps::Encoder, ..attention }
        } else {
            tensors.attention(&shape, false, false);
            attention
        };
        tensors.gated_mlp(shape.hidden, intermediate, false).norms(LLAMA_NORMS, shape.hidden);
        (Layer { mixer: Mixer::Attention(attention), feed_forward: FeedForward::Dense { intermediate, gated: true } }, tensors.build())
    };
    let layers = (0..shape.layers).map(layer).collect();
    let mut decoder = Decoder::llama_like(shape, layers, false);
    decoder.tensors =
        Tensors::default().embedding("model.embed_tokens", shape.vocab + EXTRA_ROWS, shape.hidden).norm("model.norm", shape.hidden, false).build();
    Ok(decoder.into())
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper = Wrapper { default_type: "mllama_text_model", names: Names::Behind("language_model"), head: Head::ByArchitecture, tie: Tie::Never };
    let text = f.part(TEXT_CONFIGS)?;
    let draft = language_in(f, &text, &wrapper)?;
    if f.architecture()?.is_some_and(|class| class.ends_with("ForCausalLM")) {
        // The language model alone, built from the same file.
        f.touch("vision_config");
        return Ok(draft);
    }
    let vision = f.part(&["vision_config"])?.with_defaults(VISION);
    let hidden = draft.decoder.shape.hidden;
    let projection = Tensors::default().linear("multi_modal_projector", vision.count("vision_output_dim")?, hidden, true).build();
    let [tower, global] = towers(&vision)?;
    Ok(draft.with(tower).with(global).with(projector(hidden, projection)))
}

/// The tower and its second, gated part.
fn towers(f: &Fields) -> Result<[Component; 2], ConfigError> {
    let tower = TowerShape::read(f, ["hidden_size", "num_hidden_layers", "attention_heads", "intermediate_size"])?;
    let global = TowerShape { layers: f.count("num_global_layers")?, ..tower }.checked(f, "num_global_layers", "attention_heads")?;
    let (hidden, intermediate, patch) = (tower.hidden, tower.intermediate, f.count("patch_size")?);
    let layer = |gated: bool| {
        let mut tensors = Tensors::default();
        tensors
            .linear("self_attn.q_proj", hidden, hidden, false)
            .linear("self_attn.k_proj", hidden, hidden, false)
            .linear("self_attn.v_proj", hidden, hidden, false)
            .linear("self_attn.o_proj", hidden, hidden, false)
            .linear("mlp.fc1", hidden, intermediate, true)
            .linear("mlp.fc2", intermediate, hidden, true)
            .norm("input_layernorm", hidden, true)
            .norm("post_attention_layernorm", hidden, true);
        if gated {
            tensors.tensor("gate_attn", Role::Other, &[1]).tensor("gate_ffn", Role::Other, &[1]);
        }
        tensors.build()
    };
    // One more for images that are not there.
    let ratios = f.raw("supported_aspect_ratios").and_then(|ratios| ratios.as_array()).map_or(8, Vec::len) as u64 + 1;
    let per_ratio = f.count("max_num_tiles")?.saturating_mul(hidden);
    let positions = patches(f)? + 1;
    // Which layers' outputs go into `vision_output_dim`.
    f.touch("intermediate_layers_indices");
    let tensors = Tensors::default()
        .convolution("patch_embedding", &[hidden, f.count("num_channels")?, patch, patch], false)
        .tensor("class_embedding", Role::Other, &[hidden])
        .tensor("gated_positional_embedding.embedding", Role::Position, &[positions, hidden])
        .tensor("gated_positional_embedding.gate", Role::Other, &[1])
        .tensor("gated_positional_embedding.tile_embedding.weight", Role::Position, &[ratios, per_ratio.saturating_mul(positions)])
        .tensor("pre_tile_positional_embedding.embedding.weight", Role::Position, &[ratios, per_ratio])
        .tensor("pre_tile_positional_embedding.gate", Role::Other, &[1])
        .tensor("post_tile_positional_embedding.embedding.weight", Role::Position, &[ratios, per_ratio])
        .tensor("post_tile_positional_embedding.gate", Role::Other, &[1])
        .norm("layernorm_pre", hidden, true)
        .norm("layernorm_post", hidden, true)
        .build();
    let tensors = Tensors::default().nested("vision_model", tensors).build();
    Ok([
        vision_tower(hidden, "vision_model.transformer.layers", tensors, tower.layers(&layer(false))),
        vision_tower(hidden, "vision_model.global_transformer.layers", Vec::new(), global.layers(&layer(true))),
    ])
}
