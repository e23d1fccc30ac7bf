//! Gemma 4: full layers have wider heads, other numbers of them, and keys that may serve as values; the last layers may
//! read an earlier layer's cache; experts beside a dense feed-forward; an embedding per layer. Towers for images and
//! sound; the unified models project patches and waveforms without one.

use super::decoder::{Decoder, Draft, Head, Shape, Tensors};
use super::gemma::GEMMA2_NORMS;
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_in};
use super::towers::{TowerShape, audio_tower, projector, vision_tower};
use super::{ConfigError, Fields};
use crate::model::{Attention, Component, FeedForward, Keeps, Layer, Mixer, Role, Span, Tensor};

/// `Gemma4TextConfig` of transformers 5.23.
const TEXT: &[(&str, u64)] = &[
    ("vocab_size", 262_144),
    ("hidden_size", 2304),
    ("intermediate_size", 9216),
    ("num_hidden_layers", 30),
    ("num_attention_heads", 8),
    ("num_key_value_heads", 4),
    ("head_dim", 256),
    ("global_head_dim", 512),
    ("sliding_window", 512),
    ("vocab_size_per_layer_input", 262_144),
    ("hidden_size_per_layer_input", 256),
    ("num_kv_shared_layers", 0),
];

/// `Gemma4UnifiedTextConfig` where it differs: no embedding per layer, a wider window.
const UNIFIED_TEXT: &[(&str, u64)] = &[("sliding_window", 1024), ("hidden_size_per_layer_input", 0)];

/// `Gemma4VisionConfig`.
const VISION: &[(&str, u64)] = &[
    ("hidden_size", 768),
    ("intermediate_size", 3072),
    ("num_hidden_layers", 16),
    ("num_attention_heads", 12),
    ("num_key_value_heads", 12),
    ("head_dim", 64),
    ("patch_size", 16),
    ("position_embedding_size", 10_240),
];

/// `Gemma4AudioConfig`.
const AUDIO: &[(&str, u64)] =
    &[("hidden_size", 1024), ("num_hidden_layers", 12), ("num_attention_heads", 8), ("conv_kernel_size", 5), ("output_proj_dims", 1536)];

/// `Gemma4UnifiedVisionConfig` and `Gemma4UnifiedAudioConfig`.
const UNIFIED_PARTS: &[(&str, u64)] =
    &[("patch_size", 16), ("pooling_kernel_size", 3), ("mm_embed_dim", 3840), ("mm_posemb_size", 1120), ("output_proj_dims", 3840), ("audio_embed_dim", 640)];

/// Norms of layers with experts besides.
const EXPERT_NORMS: &[&str] = &["post_feedforward_layernorm_1", "post_feedforward_layernorm_2", "pre_feedforward_layernorm_2"];

/// What is the same in all layers of the decoder.
struct Plan {
    shape: Shape,
    intermediate: u64,
    attention_bias: bool,
    /// Keys serve as values in full layers.
    key_is_value: bool,
    /// The first layer that reads an earlier one's cache.
    first_shared: u64,
    /// Whether those have a feed-forward of twice the width.
    double_wide: bool,
    /// Width of the embedding per layer; 0 without one.
    per_layer: u64,
    experts: Option<Experts>,
}

struct Experts {
    count: u64,
    active: u64,
    intermediate: u64,
}

pub(super) fn read_text(f: &Fields) -> Result<Draft, ConfigError> {
    read_decoder(&f.with_defaults(TEXT), Kind::Usual)
}

pub(super) fn read_unified_text(f: &Fields) -> Result<Draft, ConfigError> {
    read_decoder(&f.with_defaults(UNIFIED_TEXT).with_defaults(TEXT), Kind::Usual)
}

/// What is fixed where the text is not a language model of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Usual,
    /// Every layer reads the cache of the model that it drafts for.
    Assistant,
    /// Keys always serve as values in full layers.
    Diffusion,
}

fn read_decoder(f: &Fields, kind: Kind) -> Result<Draft, ConfigError> {
    let shape = Shape::read(f)?;
    let shared = f.optional_count_or_zero("num_kv_shared_layers")?.unwrap_or(0);
    let first_shared = match kind {
        Kind::Assistant => 0,
        _ => shape
            .layers
            .checked_sub(shared)
            .filter(|&first| first > 0)
            .ok_or_else(|| f.impossible("num_kv_shared_layers", "some layer must have a cache of its own"))?,
    };
    let plan = Plan {
        intermediate: f.count("intermediate_size")?,
        attention_bias: f.flag("attention_bias", false)?,
        key_is_value: f.flag("attention_k_eq_v", false)? || kind == Kind::Diffusion,
        first_shared,
        double_wide: f.flag("use_double_wide_mlp", false)?,
        per_layer: f.optional_count_or_zero("hidden_size_per_layer_input")?.unwrap_or(0),
        experts: experts(f, kind)?,
        shape,
    };
    let spans = spans(f, &shape)?;
    let layers = (0..shape.layers).zip(spans).map(|(number, span)| Ok(layer(&plan, number, attention(f, &plan, number, span)?)));
    let layers = layers.collect::<Result<_, ConfigError>>()?;
    let mut decoder = Decoder::llama_like(shape, layers, true);
    let rows = f.count("vocab_size_per_layer_input")?;
    if plan.per_layer > 0 {
        let packed = plan.per_layer.saturating_mul(shape.layers);
        let tensors = Tensors::default()
            .embedding("model.embed_tokens_per_layer", rows, packed)
            .linear("model.per_layer_model_projection", shape.hidden, packed, false)
            .norm("model.per_layer_projection_norm", plan.per_layer, false)
            .build();
        decoder.tensors.extend(tensors);
    }
    Ok(decoder.into())
}

fn experts(f: &Fields, kind: Kind) -> Result<Option<Experts>, ConfigError> {
    if !f.flag("enable_moe_block", kind == Kind::Diffusion)? {
        // Present in files without experts too, null or not.
        f.touch("num_experts");
        f.touch("top_k_experts");
        f.touch("moe_intermediate_size");
        return Ok(None);
    }
    let (count, active) = (f.count("num_experts")?, f.count("top_k_experts")?);
    if active > count {
        return Err(f.impossible("top_k_experts", "it cannot be more than the number of experts"));
    }
    Ok(Some(Experts { count, active, intermediate: f.count("moe_intermediate_size")? }))
}

/// `layer_types`, or five sliding and one full; the last layer is always full.
fn spans(f: &Fields, shape: &Shape) -> Result<Vec<Span>, ConfigError> {
    let window = f.count("sliding_window")?;
    // "all": a window to both sides, half of it each; "vision" changes the mask alone.
    let window = if f.raw("use_bidirectional_attention").is_some_and(|kind| kind == "all") { window / 2 + 1 } else { window };
    let mut spans: Vec<Span> = match f.optional_texts("layer_types")? {
        Some(types) if types.len() as u64 != shape.layers => {
            return Err(f.impossible("layer_types", "it must have one entry per layer (`num_hidden_layers`)"));
        }
        Some(types) => {
            let span = |kind: &String| match kind.as_str() {
                "full_attention" => Ok(Span::Full),
                "sliding_attention" => Ok(Span::Sliding(window)),
                _ => Err(f.impossible("layer_types", "only `full_attention` and `sliding_attention` are known for Gemma 4")),
            };
            types.iter().map(span).collect::<Result<_, _>>()?
        }
        None => (1..=shape.layers).map(|number| if number.is_multiple_of(6) { Span::Full } else { Span::Sliding(window) }).collect(),
    };
    if let Some(last) = spans.last_mut() {
        *last = Span::Full;
    }
    Ok(spans)
}

/// The heads of layer `number`: by `per_layer_config` where the file has it (newer ones), else by the keys for full layers.
fn attention(f: &Fields, plan: &Plan, number: u64, span: Span) -> Result<Attention, ConfigError> {
    let usual = plan.shape.attention(span);
    let keeps = if number >= plan.first_shared { Keeps::Shared } else { Keeps::Own };
    let (kv_heads, head_dim) = if let Some(layers) = f.nested(&["per_layer_config"])? {
        // Newer files pad the numbers to one length.
        match layers.nested(&[&number.to_string(), &format!("{number:02}"), &format!("{number:03}")])? {
            Some(layer) => (layer.optional_count("num_key_value_heads")?, layer.optional_count("head_dim")?),
            None => (None, None),
        }
    } else {
        let global = (f.optional_count("num_global_key_value_heads")?, f.optional_count("global_head_dim")?);
        match span {
            Span::Full => (global.0.filter(|_| plan.key_is_value), global.1),
            _ => (None, None),
        }
    };
    let kv_heads = kv_heads.unwrap_or(usual.kv_heads);
    if !usual.heads.is_multiple_of(kv_heads) {
        return Err(f.impossible("num_global_key_value_heads", "it must divide `num_attention_heads`"));
    }
    let head_dim = head_dim.unwrap_or(usual.key_dim);
    Ok(Attention { kv_heads, key_dim: head_dim, value_dim: head_dim, keeps, ..usual })
}

fn layer(plan: &Plan, number: u64, attention: Attention) -> (Layer, Vec<Tensor>) {
    let (hidden, head) = (plan.shape.hidden, attention.key_dim);
    let (queries, keys) = (attention.heads.saturating_mul(head), attention.kv_heads.saturating_mul(head));
    let is_shared = number >= plan.first_shared;
    let mut tensors = Tensors::default();
    tensors.linear("self_attn.q_proj", hidden, queries, plan.attention_bias).norm("self_attn.q_norm", head, false);
    if !is_shared {
        tensors.linear("self_attn.k_proj", hidden, keys, plan.attention_bias).norm("self_attn.k_norm", head, false);
        if !plan.key_is_value || attention.span != Span::Full {
            tensors.linear("self_attn.v_proj", hidden, keys, plan.attention_bias);
        }
    }
    let intermediate = if is_shared && plan.double_wide { plan.intermediate.saturating_mul(2) } else { plan.intermediate };
    tensors.linear("self_attn.o_proj", queries, hidden, plan.attention_bias).gated_mlp(hidden, intermediate, false).norms(GEMMA2_NORMS, hidden);
    if plan.per_layer > 0 {
        tensors.linear("per_layer_input_gate", hidden, plan.per_layer, false).linear("per_layer_projection", plan.per_layer, hidden, false).norm(
            "post_per_layer_input_norm",
            hidden,
            false,
        );
    }
    let feed_forward = match &plan.experts {
        None => FeedForward::Dense { intermediate, gated: true },
        Some(experts) => {
            let width = experts.intermediate;
            tensors
                .linear("router.proj", hidden, experts.count, false)
                .tensor("router.scale", Role::Other, &[hidden])
                .tensor("router.per_expert_scale", Role::Other, &[experts.count])
                .tensor("experts.gate_up_proj", Role::ExpertGateUp, &[experts.count, width.saturating_mul(2), hidden])
                .tensor("experts.down_proj", Role::ExpertDown, &[experts.count, hidden, width])
                .norms(EXPERT_NORMS, hidden);
            FeedForward::MixtureOfExperts { experts: experts.count, active: experts.active, intermediate: width, shared: intermediate }
        }
    };
    (Layer { mixer: Mixer::Attention(attention), feed_forward }, tensors.build())
}

fn language(f: &Fields, text_type: &'static str) -> Result<Draft, ConfigError> {
    let wrapper = Wrapper { default_type: text_type, names: Names::Inside("model.language_model"), head: Head::ByArchitecture, tie: Tie::WrapperThenText };
    let text = f.part(TEXT_CONFIGS)?;
    language_in(f, &text, &wrapper)
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let mut draft = language(f, "gemma4_text")?;
    let hidden = draft.decoder.shape.hidden;
    if let Some(vision) = f.nested(&["vision_config"])? {
        let vision = vision.with_defaults(VISION);
        let tower = vision_part(&vision)?;
        let width = tower.hidden_size;
        draft = draft.with(tower).with(embedder("model.embed_vision", width, hidden));
    }
    if let Some(audio) = f.nested(&["audio_config"])? {
        let audio = audio.with_defaults(AUDIO);
        draft = draft.with(audio_part(&audio)?).with(embedder("model.embed_audio", audio.count("output_proj_dims")?, hidden));
    }
    Ok(draft)
}

/// Maps what a tower gives out to the decoder's width; its norm has no weight.
fn embedder(module: &str, width: u64, hidden: u64) -> Component {
    projector(hidden, Tensors::default().linear(&format!("{module}.embedding_projection"), width, hidden, false).build())
}

fn vision_part(f: &Fields) -> Result<Component, ConfigError> {
    let (hidden, intermediate, head) = (f.count("hidden_size")?, f.count("intermediate_size")?, f.count("head_dim")?);
    let (heads, kv_heads) = (f.count("num_attention_heads")?, f.count("num_key_value_heads")?);
    let tower = TowerShape { gated: true, ..TowerShape::read(f, TowerShape::KEYS)? };
    let (queries, keys) = (heads.saturating_mul(head), kv_heads.saturating_mul(head));
    // Clipping stores limits beside each matrix: buffers. Standardising does likewise.
    f.flag("use_clipped_linears", false)?;
    f.flag("standardize", false)?;
    for key in ["global_head_dim", "pooling_kernel_size", "default_output_length", "attention_bias"] {
        f.touch(key);
    }
    let layer = Tensors::default()
        .linear("self_attn.q_proj.linear", hidden, queries, false)
        .linear("self_attn.k_proj.linear", hidden, keys, false)
        .linear("self_attn.v_proj.linear", hidden, keys, false)
        .linear("self_attn.o_proj.linear", queries, hidden, false)
        .norm("self_attn.q_norm", head, false)
        .norm("self_attn.k_norm", head, false)
        .linear("mlp.gate_proj.linear", hidden, intermediate, false)
        .linear("mlp.up_proj.linear", hidden, intermediate, false)
        .linear("mlp.down_proj.linear", intermediate, hidden, false)
        .norms(GEMMA2_NORMS, hidden)
        .build();
    let patch = f.count("patch_size")?;
    let tensors = Tensors::default()
        .linear("model.vision_tower.patch_embedder.input_proj", patch.saturating_mul(patch).saturating_mul(3), hidden, false)
        .tensor("model.vision_tower.patch_embedder.position_embedding_table", Role::Position, &[2, f.count("position_embedding_size")?, hidden])
        .build();
    Ok(vision_tower(hidden, "model.vision_tower.encoder.layers", tensors, tower.layers(&layer)))
}

/// A conformer: two feed-forwards around attention and a convolution.
fn audio_part(f: &Fields) -> Result<Component, ConfigError> {
    let hidden = f.count("hidden_size")?;
    let intermediate = hidden.saturating_mul(4);
    let tower = TowerShape { hidden, layers: f.count("num_hidden_layers")?, heads: f.count("num_attention_heads")?, intermediate, gated: false };
    let tower = tower.checked(f, "num_hidden_layers", "num_attention_heads")?;
    let channels = f.counts_or("subsampling_conv_channels", &[128, 32])?;
    let &[first, second] = channels.as_slice() else {
        return Err(f.impossible("subsampling_conv_channels", "it must be a list of two sizes"));
    };
    f.flag("use_clipped_linears", true)?;
    // A block of frames attends to itself and to some before and behind it.
    let or = |key: &str, default: u64| Ok::<_, ConfigError>(f.optional_count_or_zero(key)?.unwrap_or(default));
    let reach = [or("attention_chunk_size", 12)?, or("attention_context_left", 13)?.saturating_sub(1), or("attention_context_right", 0)?];
    let span = Span::Chunked(reach.into_iter().fold(0, u64::saturating_add));
    let mut layer = Tensors::default();
    for name in ["feed_forward1", "feed_forward2"] {
        layer
            .linear(&format!("{name}.ffw_layer_1.linear"), hidden, intermediate, false)
            .linear(&format!("{name}.ffw_layer_2.linear"), intermediate, hidden, false)
            .norm(&format!("{name}.pre_layer_norm"), hidden, false)
            .norm(&format!("{name}.post_layer_norm"), hidden, false);
    }
    let layer = layer
        .linear("self_attn.q_proj.linear", hidden, hidden, false)
        .linear("self_attn.k_proj.linear", hidden, hidden, false)
        .linear("self_attn.v_proj.linear", hidden, hidden, false)
        .linear("self_attn.post.linear", hidden, hidden, false)
        .linear("self_attn.relative_k_proj", hidden, hidden, false)
        .tensor("self_attn.per_dim_scale", Role::Other, &[hidden / tower.heads])
        .linear("lconv1d.linear_start.linear", hidden, hidden.saturating_mul(2), false)
        .linear("lconv1d.linear_end.linear", hidden, hidden, false)
        .convolution("lconv1d.depthwise_conv1d", &[hidden, 1, f.count("conv_kernel_size")?], false)
        .norm("lconv1d.pre_layer_norm", hidden, false)
        .norm("lconv1d.conv_norm", hidden, false)
        .norms(&["norm_pre_attn", "norm_post_attn", "norm_out"], hidden)
        .build();
    let tensors = Tensors::default()
        .convolution("subsample_conv_projection.layer0.conv", &[first, 1, 3, 3], false)
        .norm("subsample_conv_projection.layer0.norm", first, false)
        .convolution("subsample_conv_projection.layer1.conv", &[second, first, 3, 3], false)
        .norm("subsample_conv_projection.layer1.norm", second, false)
        .linear("subsample_conv_projection.input_proj_linear", (first / 4).saturating_mul(second), hidden, false)
        .linear("output_proj", hidden, f.count("output_proj_dims")?, true)
        .build();
    let tensors = Tensors::default().nested("model.audio_tower", tensors).build();
    Ok(audio_tower(hidden, "model.audio_tower.layers", tensors, tower.layers_within(span, hidden / tower.heads, &layer)))
}

pub(super) fn read_unified(f: &Fields) -> Result<Draft, ConfigError> {
    let mut draft = language(f, "gemma4_unified_text")?;
    let hidden = draft.decoder.shape.hidden;
    if let Some(vision) = f.nested(&["vision_config"])? {
        let vision = vision.with_defaults(UNIFIED_PARTS);
        let side = vision.count("patch_size")?.saturating_mul(vision.count("pooling_kernel_size")?);
        let (patch, width) = (side.saturating_mul(side).saturating_mul(3), vision.count("mm_embed_dim")?);
        let tensors = Tensors::default()
            .norm("model.embed_vision.patch_ln1", patch, true)
            .linear("model.embed_vision.patch_dense", patch, width, true)
            .norm("model.embed_vision.patch_ln2", width, true)
            .tensor("model.embed_vision.pos_embedding", Role::Position, &[vision.count("mm_posemb_size")?, 2, width])
            .norm("model.embed_vision.pos_norm", width, true)
            .build();
        draft = draft.with(vision_tower(width, "", tensors, Vec::new())).with(embedder(
            "model.embed_vision.multimodal_embedder",
            vision.count("output_proj_dims")?,
            hidden,
        ));
    }
    if let Some(audio) = f.nested(&["audio_config"])? {
        draft = draft.with(embedder("model.embed_audio", audio.with_defaults(UNIFIED_PARTS).count("audio_embed_dim")?, hidden));
    }
    Ok(draft)
}

/// The small decoder that drafts for a Gemma 4 model: it sees that model's embeddings and cache, and keeps none of its own.
pub(super) fn read_assistant(f: &Fields) -> Result<Draft, ConfigError> {
    let text = f.part(TEXT_CONFIGS)?;
    let unified = text.optional_text("model_type")?.is_some_and(|name| name == "gemma4_unified_text");
    let text = text.with_defaults(if unified { UNIFIED_TEXT } else { &[] }).with_defaults(TEXT);
    let mut draft = read_decoder(&text, Kind::Assistant)?;
    for key in ["architectures", "dtype", "tie_word_embeddings"] {
        text.touch(key);
    }
    let shape = draft.decoder.shape;
    let backbone = f.count_or("backbone_hidden_size", if f.model_type() == "gemma4_unified_assistant" { 3840 } else { 1536 })?;
    let mut tensors = Tensors::default();
    tensors.linear("pre_projection", backbone.saturating_mul(2), shape.hidden, false).linear("post_projection", shape.hidden, backbone, false);
    if f.flag("use_ordered_embeddings", false)? {
        // The order of the tokens beside them is a buffer.
        tensors.linear("masked_embedding.centroids", shape.hidden, f.count_or("num_centroids", 2048)?, false);
        f.touch("centroid_intermediate_top_k");
    }
    draft.decoder.tensors.extend(tensors.build());
    Ok(draft)
}

/// Diffusion over blocks of text: an encoder that writes the cache and a decoder that reads it share all weights; the decoder also
/// reads what it thought a step before, through a feed-forward of its own.
pub(super) fn read_diffusion(f: &Fields) -> Result<Draft, ConfigError> {
    let text = f.part(TEXT_CONFIGS)?.with_defaults(TEXT).replaced("hidden_size_per_layer_input", 0);
    let mut draft = read_decoder(&text, Kind::Diffusion)?;
    for key in ["architectures", "dtype", "tie_word_embeddings"] {
        text.touch(key);
    }
    let shape = draft.decoder.shape;
    let inner = text.count("intermediate_size")?;
    let own = Tensors::default()
        .norm("model.decoder.self_conditioning.pre_norm", shape.hidden, false)
        .linear("model.decoder.self_conditioning.gate_proj", shape.hidden, inner, false)
        .linear("model.decoder.self_conditioning.up_proj", shape.hidden, inner, false)
        .linear("model.decoder.self_conditioning.down_proj", inner, shape.hidden, false)
        .build();
    let decoder = &mut draft.decoder;
    for tensor in &mut decoder.tensors {
        tensor.name = tensor.name.replacen("model.", "model.decoder.", 1);
    }
    decoder.tensors.extend(own);
    (decoder.base, decoder.layer_prefix, decoder.head) = ("model", "model.decoder.layers", Head::Nothing);
    if f.architecture()?.is_some_and(|class| !class.ends_with("Model")) && !f.flag("tie_word_embeddings", true)? {
        decoder.tensors.extend(Tensors::default().linear("lm_head", shape.hidden, shape.vocab, false).build());
    }
    f.touch("canvas_length");
    let Some(vision) = f.nested(&["vision_config"])? else { return Ok(draft) };
    let tower = vision_part(&vision.with_defaults(VISION))?;
    let width = tower.hidden_size;
    Ok(draft.with(tower).with(embedder("model.encoder.embed_vision", width, shape.hidden)))
}
