//! Llama 4: three of four layers see only their own chunk; experts with one shared expert in every or every other layer; a
//! tower whose patches a pixel shuffle puts together.

use super::decoder::{Decoder, Draft, Head, LLAMA_NORMS, Shape, Tensors};
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_in};
use super::towers::{TowerShape, patches, projector, vision_tower};
use super::{ConfigError, Fields};
use crate::model::{Component, FeedForward, Layer, Mixer, Role, Span};

/// `Llama4TextConfig` of transformers 5.23.
const TEXT: &[(&str, u64)] = &[
    ("vocab_size", 202_048),
    ("hidden_size", 5120),
    ("intermediate_size", 8192),
    ("intermediate_size_mlp", 16_384),
    ("num_hidden_layers", 48),
    ("num_attention_heads", 40),
    ("num_key_value_heads", 8),
    ("head_dim", 128),
    ("num_experts_per_tok", 1),
    ("num_experts", 16),
    ("interleave_moe_layer_step", 1),
    ("attention_chunk_size", 8192),
];

/// `Llama4VisionConfig`.
const VISION: &[(&str, u64)] = &[
    ("hidden_size", 768),
    ("num_hidden_layers", 34),
    ("num_attention_heads", 16),
    ("num_channels", 3),
    ("intermediate_size", 5632),
    ("vision_output_dim", 7680),
    ("image_size", 448),
    ("patch_size", 14),
    ("projector_input_dim", 4096),
    ("projector_output_dim", 4096),
];

pub(super) fn read_text(f: &Fields) -> Result<Draft, ConfigError> {
    let f = f.with_defaults(TEXT);
    let shape = Shape::read(&f)?;
    let attention_bias = f.flag("attention_bias", false)?;
    let (width, dense_width) = (f.count("intermediate_size")?, f.count("intermediate_size_mlp")?);
    let listed = f.raw("moe_layers").map(|_| f.layer_numbers("moe_layers")).transpose()?;
    // A step of 0 makes no layer sparse, and files without sparse layers say 0 of everything about them.
    let step = f.optional_count_or_zero("interleave_moe_layer_step")?.unwrap_or(1);
    let sparse = |number: u64| listed.as_ref().map_or_else(|| step > 0 && (number + 1).is_multiple_of(step), |layers| layers.contains(&number));
    let (experts, active) = if (0..shape.layers).any(sparse) {
        let experts = f.count("num_experts")?;
        (experts, f.active_experts(experts, 1)?)
    } else {
        f.touch("num_experts");
        f.touch("num_experts_per_tok");
        (0, 0)
    };
    let spans = spans(&f, &shape)?;
    let layers = (0..shape.layers).zip(spans).map(|(number, span)| {
        let is_sparse = sparse(number);
        let mut tensors = Tensors::default();
        tensors.attention(&shape, attention_bias, attention_bias).norms(LLAMA_NORMS, shape.hidden);
        let mut mlp =
            |prefix: &str, width: u64| {
                tensors
                    .linear(&format!("{prefix}.gate_proj"), shape.hidden, width, false)
                    .linear(&format!("{prefix}.up_proj"), shape.hidden, width, false)
                    .linear(&format!("{prefix}.down_proj"), width, shape.hidden, false);
            };
        let feed_forward = if is_sparse {
            mlp("feed_forward.shared_expert", width);
            // All experts of a matrix in one tensor, in the published files too.
            tensors
                .tensor("feed_forward.experts.gate_up_proj", Role::ExpertGateUp, &[experts, shape.hidden, width.saturating_mul(2)])
                .tensor("feed_forward.experts.down_proj", Role::ExpertDown, &[experts, width, shape.hidden])
                .linear("feed_forward.router", shape.hidden, experts, false);
            FeedForward::MixtureOfExperts { experts, active, intermediate: width, shared: width }
        } else {
            mlp("feed_forward", dense_width);
            FeedForward::Dense { intermediate: dense_width, gated: true }
        };
        (Layer { mixer: Mixer::Attention(shape.attention(span)), feed_forward }, tensors.build())
    });
    let layers = layers.collect();
    // Norms of query and key heads have no weight.
    f.flag("use_qk_norm", true)?;
    Ok(Decoder::llama_like(shape, layers, false).into())
}

/// Layers with rotary positions are chunked, the others see everything; `layer_types` wins.
fn spans(f: &Fields, shape: &Shape) -> Result<Vec<Span>, ConfigError> {
    let chunk = f.optional_count("attention_chunk_size")?.map_or(Span::Full, Span::Chunked);
    let interval = f.step_or("no_rope_layer_interval", 4, &["no_rope_layers", "layer_types"])?;
    let rotary = f.optional_counts("no_rope_layers")?.filter(|layers| !layers.is_empty());
    // An older spelling of the interval, which the class does not read.
    f.touch("nope_layer_interval");
    if let Some(types) = f.optional_texts("layer_types")? {
        if types.len() as u64 != shape.layers {
            return Err(f.impossible("layer_types", "it must have one entry per layer (`num_hidden_layers`)"));
        }
        let span = |kind: &String| match kind.as_str() {
            "full_attention" => Ok(Span::Full),
            "chunked_attention" => Ok(chunk),
            _ => Err(f.impossible("layer_types", "only `full_attention` and `chunked_attention` are known for Llama 4")),
        };
        return types.iter().map(span).collect();
    }
    let Some(rotary) = rotary else {
        return Ok((1..=shape.layers).map(|number| if number.is_multiple_of(interval) { Span::Full } else { chunk }).collect());
    };
    if (rotary.len() as u64) < shape.layers {
        return Err(f.impossible("no_rope_layers", "it must have one entry per layer (`num_hidden_layers`)"));
    }
    Ok((0..shape.layers).zip(rotary).map(|(_, rotary)| if rotary == 0 { Span::Full } else { chunk }).collect())
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper = Wrapper { default_type: "llama4_text", names: Names::Behind("language_model"), head: Head::ByArchitecture, tie: Tie::Text };
    let text = f.part(TEXT_CONFIGS)?;
    let draft = language_in(f, &text, &wrapper)?;
    let vision = f.part(&["vision_config"])?.with_defaults(VISION);
    let hidden = draft.decoder.shape.hidden;
    let projection = Tensors::default().linear("multi_modal_projector.linear_1", vision.count("vision_output_dim")?, hidden, false).build();
    // No biases, whatever the file says: the class does not read it.
    vision.flag("multi_modal_projector_bias", false)?;
    vision.touch("vision_feature_layer");
    Ok(draft.with(tower(&vision)?).with(projector(hidden, projection)))
}

fn tower(f: &Fields) -> Result<Component, ConfigError> {
    let tower = TowerShape::read(f, TowerShape::KEYS)?;
    let (hidden, intermediate, patch) = (tower.hidden, tower.intermediate, f.count("patch_size")?);
    let layer = Tensors::default()
        .linear("self_attn.q_proj", hidden, hidden, true)
        .linear("self_attn.k_proj", hidden, hidden, true)
        .linear("self_attn.v_proj", hidden, hidden, true)
        .linear("self_attn.o_proj", hidden, hidden, true)
        .linear("mlp.fc1", hidden, intermediate, true)
        .linear("mlp.fc2", intermediate, hidden, true)
        .norm("input_layernorm", hidden, true)
        .norm("post_attention_layernorm", hidden, true)
        .build();
    let (adapter_in, adapter_out) = (f.count("projector_input_dim")?, f.count("projector_output_dim")?);
    // Decides how many patches are put together, and with `intermediate_size` the width after it.
    f.optional_number("pixel_shuffle_ratio")?;
    let tensors = Tensors::default()
        .linear("patch_embedding.linear", f.count("num_channels")?.saturating_mul(patch).saturating_mul(patch), hidden, false)
        .tensor("class_embedding", Role::Other, &[hidden])
        .tensor("positional_embedding_vlm", Role::Position, &[patches(f)? + 1, hidden])
        .norm("layernorm_pre", hidden, true)
        .norm("layernorm_post", hidden, true)
        .linear("vision_adapter.mlp.fc1", intermediate, adapter_in, false)
        .linear("vision_adapter.mlp.fc2", adapter_out, adapter_out, false)
        .build();
    let tensors = Tensors::default().nested("vision_model", tensors).build();
    Ok(vision_tower(hidden, "vision_model.model.layers", tensors, tower.layers(&layer)))
}
