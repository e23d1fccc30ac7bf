//! DeepSeek's mixtures over multi-head latent attention and their kin (Kimi-K2, GLM-4.7-Flash, GLM-5, A.X-K1): a table of
//! what the classes give where a config is silent. DeepSeek-MoE (v1) has Llama's attention instead.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors};
use super::experts::{Mixture, MixtureDefaults, dense_or_sparse, predictors, sparse_layers, token_predictor};
use super::latent::{Defaults, Indexer, Latent, latent_shape};
use super::{ConfigError, Fields};
use crate::model::{Component, Mixer, Span};

/// One of the kin.
struct Kin {
    /// `None` for Llama's attention.
    latent: Option<Defaults>,
    mixture: MixtureDefaults,
    first_dense: u64,
    /// Heads of the sparse-attention indexer.
    indexer: Option<u64>,
    /// A norm after the experts, in layers that have them.
    norms_experts: bool,
    /// Whether the class reads `mlp_bias` beside Llama's attention.
    mlp_bias: bool,
}

const fn mla(query_rank: u64, nope: u64, value: u64) -> Defaults {
    Defaults { query_rank: Some(query_rank), rank: 512, rope: 64, nope, value }
}

const fn mixture(experts: u64, active: u64, width: u64, shared: u64) -> MixtureDefaults {
    MixtureDefaults { experts, active, width, shared }
}

const V1: Kin = Kin { latent: None, mixture: mixture(1, 1, 1407, 0), first_dense: 0, indexer: None, norms_experts: false, mlp_bias: false };
const V2: Kin = Kin { latent: Some(mla(1536, 128, 128)), mixture: mixture(64, 6, 1407, 2), ..V1 };
const V3: Kin = Kin { latent: Some(mla(1536, 128, 128)), mixture: mixture(256, 8, 2048, 1), first_dense: 3, ..V1 };
const V32: Kin = Kin { indexer: Some(64), ..V3 };
const GLM_LITE: Kin = Kin { latent: Some(mla(768, 192, 256)), mixture: mixture(64, 4, 1536, 1), first_dense: 1, ..V1 };
const GLM_DSA: Kin = Kin { latent: Some(mla(2048, 192, 256)), mixture: mixture(256, 8, 2048, 1), first_dense: 3, indexer: Some(32), ..V1 };
const AXK1: Kin = Kin { latent: Some(mla(1536, 128, 128)), mixture: mixture(192, 8, 2048, 1), first_dense: 1, norms_experts: true, ..V1 };

/// `Mistral4Config` of transformers 5.23.
const MISTRAL4_SIZES: &[(&str, u64)] =
    &[("vocab_size", 131_072), ("hidden_size", 4096), ("intermediate_size", 12_288), ("num_hidden_layers", 36), ("num_attention_heads", 32)];
const MISTRAL4: Kin = Kin { latent: Some(Defaults { rank: 256, ..mla(1024, 64, 128) }), mixture: mixture(128, 4, 2048, 1), ..V1 };

pub(super) fn read_mistral4(f: &Fields) -> Result<Draft, ConfigError> {
    read(&f.with_defaults(MISTRAL4_SIZES), &MISTRAL4)
}

/// `DeepseekOcr2TextConfig` of transformers 5.23: Llama's attention, and a list that says which layers have experts.
const OCR2_SIZES: &[(&str, u64)] =
    &[("vocab_size", 102_400), ("hidden_size", 4096), ("intermediate_size", 11_008), ("num_hidden_layers", 32), ("num_attention_heads", 32)];

pub(super) fn read_ocr2_text(f: &Fields) -> Result<Draft, ConfigError> {
    if !f.has("mlp_layer_types") {
        return Err(f.missing("mlp_layer_types"));
    }
    read_ocr_text(&f.with_defaults(OCR2_SIZES), Kin { mixture: mixture(64, 64, 1407, 2), ..V1 })
}

/// `UnlimitedOcrTextConfig`: the same with sizes of its own, and experts in all but the first layer.
const UNLIMITED_SIZES: &[(&str, u64)] = &[
    ("vocab_size", 129_280),
    ("hidden_size", 1280),
    ("intermediate_size", 6848),
    ("num_hidden_layers", 12),
    ("num_attention_heads", 10),
    ("num_key_value_heads", 10),
];

pub(super) fn read_unlimited_text(f: &Fields) -> Result<Draft, ConfigError> {
    for key in ["layer_types", "sliding_window"] {
        f.touch(key);
    }
    read_ocr_text(&f.with_defaults(UNLIMITED_SIZES), Kin { mixture: mixture(64, 6, 896, 2), first_dense: 1, ..V1 })
}

fn read_ocr_text(f: &Fields, kin: Kin) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(&[("num_experts", 64)]);
    // The class takes the size of a head from the hidden size.
    f.touch("head_dim");
    let head = f.count("hidden_size")? / f.count("num_attention_heads")?;
    if head == 0 {
        return Err(f.impossible("num_attention_heads", "it cannot be more than `hidden_size`"));
    }
    read(&f.with_defaults(&[]).replaced("head_dim", head), &Kin { mlp_bias: true, ..kin })
}

pub(super) fn read_v1(f: &Fields) -> Result<Draft, ConfigError> {
    read(f, &V1)
}

pub(super) fn read_v2(f: &Fields) -> Result<Draft, ConfigError> {
    read(f, &V2)
}

pub(super) fn read_v3(f: &Fields) -> Result<Draft, ConfigError> {
    read(f, &V3)
}

pub(super) fn read_v32(f: &Fields) -> Result<Draft, ConfigError> {
    read(f, &V32)
}

pub(super) fn read_glm4_moe_lite(f: &Fields) -> Result<Draft, ConfigError> {
    read(f, &GLM_LITE)
}

pub(super) fn read_glm_moe_dsa(f: &Fields) -> Result<Draft, ConfigError> {
    read(f, &GLM_DSA)
}

pub(super) fn read_axk1(f: &Fields) -> Result<Draft, ConfigError> {
    read(f, &AXK1)
}

/// The language part of a larger model, by the `model_type` that it names (or that its class takes for granted): the decoder
/// and its token predictor.
pub(super) fn text(f: &Fields, default: &str) -> Result<(Decoder, Option<Component>), ConfigError> {
    let model_type = f.optional_text("model_type")?;
    match model_type.as_deref().unwrap_or(default) {
        "deepseek" => parts(f, &V1),
        "deepseek_v2" => parts(f, &V2),
        "deepseek_v3" | "kimi_k2" => parts(f, &V3),
        "deepseek_v32" => parts(f, &V32),
        _ => Err(f.impossible("model_type", "as a language part only DeepSeek's types are known here")),
    }
}

fn read(f: &Fields, kin: &Kin) -> Result<Draft, ConfigError> {
    let (decoder, predictor) = parts(f, kin)?;
    Ok(Draft::from(decoder).with_any(predictor))
}

fn parts(f: &Fields, kin: &Kin) -> Result<(Decoder, Option<Component>), ConfigError> {
    // Small DeepSeek-V2 models say `use_mla: false` and have Llama's attention.
    let latent = if f.flag("use_mla", true)? { kin.latent } else { None };
    let shape = if latent.is_some() { latent_shape(f)? } else { plain_shape(f)? };
    // DeepSeek's first mixture is dense where the config names no experts.
    let has_experts = kin.latent.is_some() || f.optional_count_or_zero("num_experts")?.is_some();
    let sparse = if has_experts { sparse_layers(f, &shape, kin.first_dense)? } else { vec![false; usize::try_from(shape.layers).unwrap_or(0)] };
    let mixture = Mixture::read(f, kin.mixture)?;
    // DeepSeek-V2's class and its kin alone read it.
    let mixture = Mixture { bias: f.flag("mlp_bias", false)? && (kin.mlp_bias || (kin.latent.is_some() && kin.indexer.is_none())), ..mixture };
    let latent = latent.map(|defaults| Latent::read(f, shape.heads, defaults)).transpose()?;
    let indexed = indexed_layers(f, kin, &shape)?;
    let indexer = kin.indexer.map(|heads| Indexer::read(f, heads)).transpose()?;
    let bias = f.flag("attention_bias", false)?;
    let mut layers = dense_or_sparse(f, &shape, &sparse, &mixture, LLAMA_NORMS, |number, tensors| {
        let Some(latent) = latent else {
            tensors.attention(&shape, bias, bias);
            return Ok(Mixer::Attention(shape.attention(Span::Full)));
        };
        latent.add(tensors, "self_attn", shape.hidden);
        let Some(indexer) = indexer.filter(|_| indexed[number]) else { return Ok(latent.mixer(0)) };
        let rank = latent.query_rank.ok_or_else(|| f.impossible("q_lora_rank", "the indexer reads the compressed queries, so it must be a number"))?;
        indexer.add(tensors, shape.hidden, rank);
        Ok(latent.mixer(indexer.head_dim))
    })?;
    if kin.norms_experts {
        for ((_, tensors), _) in layers.iter_mut().zip(&sparse).filter(|(_, is_sparse)| **is_sparse) {
            tensors.extend(Tensors::default().norm("mlp.post_mlp_layernorm", shape.hidden, false).build());
        }
    }
    // The predictor has an indexer of its own even where the last layers use an earlier one's.
    let like = indexed.iter().rposition(|is_own| *is_own).map_or(layers.last(), |number| layers.get(number));
    let predictor = token_predictor(&shape, predictors(f)?, like);
    Ok((Decoder::llama_like(shape, layers, false), predictor))
}

/// Sizes with Llama's attention; the head sizes of MLA stand in these files as zeros.
fn plain_shape(f: &Fields) -> Result<Shape, ConfigError> {
    for key in ["q_lora_rank", "kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"] {
        f.touch(key);
    }
    Shape::read(f)
}

/// Which layers have an indexer of their own: the others use the choice of an earlier one.
fn indexed_layers(f: &Fields, kin: &Kin, shape: &Shape) -> Result<Vec<bool>, ConfigError> {
    let count = usize::try_from(shape.layers).unwrap_or(0);
    if kin.indexer.is_none() {
        return Ok(vec![false; count]);
    }
    f.touch("layer_types");
    indexer_schedule(f, count)
}

/// The same by `indexer_types`, `index_topk_pattern`, or every so many layers.
pub(super) fn indexer_schedule(f: &Fields, count: usize) -> Result<Vec<bool>, ConfigError> {
    let own = |kind: &str| match kind {
        "full" | "F" => Ok(true),
        "shared" | "S" => Ok(false),
        _ => Err(f.impossible("indexer_types", "only `full` and `shared` are known")),
    };
    let listed = match f.optional_texts("indexer_types")? {
        Some(types) => Some(types.iter().map(|kind| own(kind)).collect::<Result<Vec<_>, _>>()?),
        None => f.optional_text("index_topk_pattern")?.map(|pattern| pattern.chars().map(|kind| kind == 'F').collect()),
    };
    if let Some(listed) = listed {
        let key = if f.has("indexer_types") { "indexer_types" } else { "index_topk_pattern" };
        return if listed.len() == count { Ok(listed) } else { Err(f.impossible(key, "it must have one entry per layer (`num_hidden_layers`)")) };
    }
    let step = f.optional_count_or_zero("index_topk_freq")?.unwrap_or(1).max(1);
    let offset = f.optional_count_or_zero("index_skip_topk_offset")?.unwrap_or(2);
    Ok((0..count as u64).map(|number| (number + 1).saturating_sub(offset).is_multiple_of(step)).collect())
}
