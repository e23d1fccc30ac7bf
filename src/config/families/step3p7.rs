//! Step-3.5 and 3.7: a gate per head at attention's output, another number of heads in sliding layers, a shared expert of its own
//! width; Step-3.7 with a tower whose output two strided convolutions widen. Lists per layer may go on for predictor layers.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors, component};
use super::experts::{Mixture, MixtureDefaults, dense_or_sparse};
use super::multimodal::{Names, Tie, Wrapper, language_of};
use super::step3_text::sparse_layers;
use super::towers::scaled;
use super::vision::{CLIP, Encoder, Patches, Style, Tower, linear, norm};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Mixer, Role, Span};

/// `Step3p7TextConfig` of transformers 5.23.
const TEXT: &[(&str, u64)] = &[
    ("vocab_size", 128_815),
    ("hidden_size", 4096),
    ("intermediate_size", 11_264),
    ("num_hidden_layers", 45),
    ("num_attention_heads", 64),
    ("num_key_value_heads", 8),
    ("head_dim", 128),
    ("share_expert_dim", 1280),
];

/// `Step3p7VisionConfig`.
const TOWER: &[(&str, u64)] =
    &[("hidden_size", 1536), ("num_hidden_layers", 47), ("num_attention_heads", 16), ("num_channels", 3), ("image_size", 728), ("patch_size", 14)];

const STYLE: Style = Style { norms: &["layernorm_before", "layernorm_after"], scales: &["lambda_1", "lambda_2"], ..CLIP };

/// Step-3.7, or its language model alone where the fields stand in the outermost object.
pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    if f.raw("text_config").is_none() && f.has("hidden_size") {
        return read_text(f);
    }
    let text = f.part(&["text_config"])?;
    text.touch("model_type");
    let wrapper = Wrapper { names: Names::Inside("model.language_model"), tie: Tie::Wrapper { default: false }, ..Wrapper::new("step3p5") };
    let draft = language_of(f, &text, "step3p5".to_owned(), &wrapper)?;
    let width = draft.decoder.shape.hidden;
    let v = f.part(&["vision_config"])?;
    // The names of the first files.
    let v = v.with_alias("hidden_size", "width").with_alias("num_hidden_layers", "layers").with_alias("num_attention_heads", "heads").with_defaults(TOWER);
    for key in ["intermediate_size", "layer_scale_init_value", "ls_init_value", "max_position_embeddings", "model_type"] {
        v.touch(key);
    }
    let encoder = Encoder::read_with(&v, scaled(&v, "mlp_ratio", 8960.0 / 1536.0, v.count("hidden_size")?)?)?;
    let (hidden, patches) = (encoder.hidden, Patches::read(&v)?);
    let mut t = Tensors::default();
    patches.convolution(&mut t, "embeddings.patch_embedding", hidden, false);
    t.embedding("embeddings.position_embedding", patches.number, hidden);
    norm(&mut t, "pre_layernorm", hidden, true);
    let (twice, four_times) = (hidden.saturating_mul(2), hidden.saturating_mul(4));
    t.convolution("downsampler1", &[twice, hidden, 3, 3], true).convolution("downsampler2", &[four_times, twice, 3, 3], true);
    let tower = Tower { encoder, layers_at: "layers".to_owned(), tensors: t.build(), layers: STYLE.layers(&encoder) }.below("model.vision_model");
    let mut t = Tensors::default();
    linear(&mut t, Role::Other, "model.multi_modal_projector", four_times, width, f.flag("projector_bias", false)?);
    let projector = component("projector", ComponentKind::Projector, width, "", t.build(), Vec::new());
    Ok(draft.with(tower.component("vision", ComponentKind::VisionTower)).with(projector))
}

pub(super) fn read_text(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(TEXT);
    let groups = f.optional_count("num_attention_groups")?.filter(|_| !f.has("num_key_value_heads"));
    let shape = Shape::read(f)?;
    let shape = Shape { kv_heads: groups.unwrap_or(shape.kv_heads), ..shape };
    let bias = f.flag("attention_bias", false)?;
    let shared = match f.optional_count("share_expert_dims")? {
        Some(width) => width,
        None => f.count("share_expert_dim")?,
    };
    let mixture = Mixture::read(f, MixtureDefaults { experts: 288, active: 8, width: 1280, shared: 1 })?;
    let mixture = Mixture { shared, bias: f.flag("mlp_bias", false)?, ..mixture };
    let slides: Vec<bool> = per_layer(f, "layer_types", &shape, "sliding_attention")?.unwrap_or_else(|| vec![false; layer_count(&shape)]);
    let window = if slides.contains(&true) { Some(f.count("sliding_window")?) } else { f.touch("sliding_window") };
    let other = f.nested(&["attention_other_setting"])?;
    let sliding_heads = match f.optional_count("num_sliding_attention_heads")? {
        Some(heads) => Some(heads),
        None => other.map(|other| other.optional_count("num_attention_heads")).transpose()?.flatten(),
    };
    let sliding = Shape { heads: sliding_heads.unwrap_or(shape.heads), ..shape };
    if !sliding.heads.is_multiple_of(shape.kv_heads) || !shape.heads.is_multiple_of(shape.kv_heads) {
        return Err(f.impossible("num_key_value_heads", "it must divide the number of heads"));
    }
    let sparse = match per_layer(f, "mlp_layer_types", &shape, "sparse")? {
        Some(sparse) => sparse,
        None => {
            let first = f.optional_count_or_zero("first_k_dense_replace")?.unwrap_or(3);
            let listed = sparse_layers(f)?;
            (0..shape.layers).map(|number| listed.as_ref().map_or(number >= first, |list| list.contains(&number))).collect()
        }
    };
    // Further settings of the same layers, and those of predictor layers.
    for key in ["moe_layers_enum", "mtp_layer_types", "mtp_mlp_layer_types", "n_shared_experts", "partial_rotary_factors", "per_layer_config"] {
        f.touch(key);
    }
    for key in ["moe_router_scaling_factor", "query_pre_attn_scalar", "swiglu_limits", "swiglu_limits_shared", "use_moe_router_bias"] {
        f.touch(key);
    }
    // `true` and `per-head`: one gate for each head; other texts: one for each element.
    let per_head = match f.raw("gating") {
        Some(serde_json::Value::String(kind)) => kind == "per-head",
        _ => true,
    };
    let layers = dense_or_sparse(f, &shape, &sparse, &mixture, LLAMA_NORMS, |number, tensors| {
        let shape = if slides[number] { &sliding } else { &shape };
        let gates = if per_head { shape.heads } else { shape.heads.saturating_mul(shape.head_dim) };
        tensors.attention(shape, bias, bias).query_key_norm(shape).linear("self_attn.g_proj", shape.hidden, gates, false);
        Ok(Mixer::Attention(shape.attention(window.filter(|_| slides[number]).map_or(Span::Full, Span::Sliding))))
    })?;
    let mut draft = Draft::from(Decoder::llama_like(shape, layers, false));
    if f.optional_count_or_zero("num_nextn_predict_layers")?.unwrap_or(0) > 0 {
        draft.assumptions.push("layers that predict further tokens, which the files may hold, are not counted".to_owned());
    }
    Ok(draft)
}

fn layer_count(shape: &Shape) -> usize {
    usize::try_from(shape.layers).unwrap_or(0)
}

/// Whether each layer is of this kind; entries after the last layer are those of predictors.
fn per_layer(f: &Fields, key: &'static str, shape: &Shape, kind: &str) -> Result<Option<Vec<bool>>, ConfigError> {
    let Some(list) = f.optional_texts(key)? else { return Ok(None) };
    if list.len() < layer_count(shape) {
        return Err(f.impossible(key, "it must have one entry per layer (`num_hidden_layers`)"));
    }
    Ok(Some(list.iter().take(layer_count(shape)).map(|one| one == kind).collect()))
}
