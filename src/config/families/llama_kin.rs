//! Families whose layers are Llama's with other flags: which biases, which norms on queries and keys, which layers slide.

use super::classic::{Bias, QueryKeyNorm, Sizes, Variant, all_full, all_sliding, spans_with, window_or};
use super::decoder::{Draft, Head, Shape, Tensors};
use super::experts::{MLP, Mixture, Names};
use super::{ConfigError, Fields};
use crate::model::Span;

/// Seed-OSS: biases on q, k and v, another flag for that of o; `head_dim` 128.
pub(super) fn seed_oss(f: &Fields) -> Result<Draft, ConfigError> {
    let variant = Variant {
        sizes: Some(Sizes { hidden: 4096, layers: 64, heads: 80, kv_heads: Some(8), head_dim: Some(128), intermediate: Some(27_648), vocab: 155_136 }),
        qkv_bias: Bias::Key("attention_bias", true),
        output_bias: Bias::Key("attention_out_bias", false),
        ..Variant::LLAMA
    };
    variant.read(f)
}

/// Hunyuan (dense): a norm on each query and key head, whatever `use_qk_norm` says.
pub(super) fn hunyuan(f: &Fields) -> Result<Draft, ConfigError> {
    f.flag("use_qk_norm", true)?;
    f.touch("mlp_bias");
    let variant = Variant {
        sizes: Some(Sizes { hidden: 4096, layers: 32, heads: 32, kv_heads: None, head_dim: None, intermediate: Some(11_008), vocab: 290_943 }),
        mlp_bias: Bias::Never,
        query_key_norm: QueryKeyNorm::OfHead("self_attn.query_layernorm", "self_attn.key_layernorm"),
        ..Variant::LLAMA
    };
    variant.read(f)
}

/// Helium: no bias on o, `head_dim` 128.
pub(super) fn helium(f: &Fields) -> Result<Draft, ConfigError> {
    let variant = Variant {
        sizes: Some(Sizes { hidden: 2560, layers: 24, heads: 20, kv_heads: Some(20), head_dim: Some(128), intermediate: Some(7040), vocab: 48_000 }),
        output_bias: Bias::Never,
        ..Variant::LLAMA
    };
    let mut draft = variant.read(f)?;
    // The output's matrix is square, whatever the heads give.
    let hidden = draft.decoder.shape.hidden;
    for tensor in draft.decoder.layers.iter_mut().flat_map(|(_, tensors)| tensors) {
        if tensor.name == "self_attn.o_proj.weight" {
            tensor.shape = vec![hidden, hidden];
        }
    }
    Ok(draft)
}

/// SmolLM3: tied head; a window, when one is used, in the layers without rotary positions.
pub(super) fn smollm3(f: &Fields) -> Result<Draft, ConfigError> {
    let variant = Variant {
        sizes: Some(Sizes { hidden: 2048, layers: 36, heads: 16, kv_heads: Some(4), head_dim: None, intermediate: Some(11_008), vocab: 128_256 }),
        tied: true,
        spans: smollm3_spans,
        ..Variant::LLAMA
    };
    variant.read(f)
}

fn smollm3_spans(f: &Fields, shape: &Shape) -> Result<Vec<Span>, ConfigError> {
    let window = f.optional_count("sliding_window")?.filter(|_| f.flag("use_sliding_window", false).unwrap_or(false));
    f.flag("use_sliding_window", false)?;
    let interval = f.step_or("no_rope_layer_interval", 4, &["no_rope_layers", "layer_types"])?;
    let rotary = f.optional_counts("no_rope_layers")?;
    if rotary.as_ref().is_some_and(|list| list.len() as u64 != shape.layers) {
        return Err(f.impossible("no_rope_layers", "it must have one entry per layer (`num_hidden_layers`)"));
    }
    let numbers = (0..shape.layers).map(|number| u64::from(!(number + 1).is_multiple_of(interval)));
    let rotary = rotary.unwrap_or_else(|| numbers.collect());
    spans_with(f, shape, window, |number| usize::try_from(number).is_ok_and(|number| rotary[number] == 0))
}

/// ERNIE 4.5 (dense): one flag for every bias; `head_dim` 128, tied head.
pub(super) fn ernie4_5(f: &Fields) -> Result<Draft, ConfigError> {
    let bias = Bias::Key("use_bias", false);
    let variant = Variant {
        sizes: Some(Sizes { hidden: 1024, layers: 18, heads: 16, kv_heads: Some(2), head_dim: Some(128), intermediate: Some(3072), vocab: 103_424 }),
        qkv_bias: bias,
        output_bias: bias,
        mlp_bias: bias,
        tied: true,
        ..Variant::LLAMA
    };
    variant.read(f)
}

/// IQuest-Coder: `head_dim` 128.
pub(super) fn iquestcoder(f: &Fields) -> Result<Draft, ConfigError> {
    let sizes = Sizes { hidden: 5120, layers: 80, heads: 40, kv_heads: Some(8), head_dim: Some(128), intermediate: Some(27_648), vocab: 76_800 };
    Variant { sizes: Some(sizes), ..Variant::LLAMA }.read(f)
}

/// HyperCLOVA X: norms after each block too, unless `use_post_norm` is off.
pub(super) fn hyperclovax(f: &Fields) -> Result<Draft, ConfigError> {
    const NORMS: &[&str] = &["input_layernorm", "post_attention_layernorm", "post_norm1", "post_norm2"];
    let norms = if f.flag("use_post_norm", true)? { NORMS } else { &NORMS[..2] };
    let sizes = Sizes { hidden: 4096, layers: 32, heads: 32, kv_heads: None, head_dim: None, intermediate: Some(11_008), vocab: 32_000 };
    Variant { sizes: Some(sizes), norms, ..Variant::LLAMA }.read(f)
}

/// Code World Model: layers 0, 4, 8 ... see everything, the others slide.
pub(super) fn cwm(f: &Fields) -> Result<Draft, ConfigError> {
    let variant = Variant {
        sizes: Some(Sizes { hidden: 6144, layers: 64, heads: 48, kv_heads: Some(8), head_dim: Some(128), intermediate: Some(21_504), vocab: 128_256 }),
        qkv_bias: Bias::Never,
        output_bias: Bias::Never,
        spans: |f, shape| spans_with(f, shape, window_or(f, 8192)?, |number| !number.is_multiple_of(4)),
        ..Variant::LLAMA
    };
    variant.read(f)
}

/// InternLM 3: one flag for q, k and v, another for the rest; in its own class they are one.
pub(super) fn internlm3(f: &Fields) -> Result<Draft, ConfigError> {
    let attention = f.flag("attention_bias", false)?;
    let (qkv, rest) = (f.flag("qkv_bias", attention)?, f.flag("bias", attention)?);
    let when = |flag| if flag { Bias::Always } else { Bias::Never };
    let variant = Variant {
        sizes: Some(Sizes { hidden: 4096, layers: 48, heads: 32, kv_heads: Some(2), head_dim: Some(128), intermediate: Some(10_240), vocab: 128_512 }),
        qkv_bias: when(qkv),
        output_bias: when(rest),
        mlp_bias: when(rest),
        ..Variant::LLAMA
    };
    variant.read(f)
}

/// XVERSE: without any bias, and experts as wide as `intermediate_size` where there are some.
pub(super) fn xverse(f: &Fields) -> Result<Draft, ConfigError> {
    let mut draft = unbiased(f)?;
    let Some(experts) = f.optional_count_or_zero("num_experts")?.filter(|&experts| experts > 0) else { return Ok(draft) };
    let width = f.count("intermediate_size")?;
    let shared = f.optional_count_or_zero("n_shared_experts")?.unwrap_or(0).saturating_mul(width);
    let mixture = Mixture { experts, active: f.active_experts(experts, 6.min(experts))?, width, shared, bias: false };
    let mut t = Tensors::default();
    mixture.add(&mut t, Names { router: "mlp.router", ..MLP }, draft.decoder.shape.hidden);
    let feed_forward = t.build();
    for (layer, tensors) in &mut draft.decoder.layers {
        tensors.retain(|tensor| !tensor.name.starts_with("mlp."));
        tensors.extend(feed_forward.iter().cloned());
        layer.feed_forward = mixture.feed_forward();
    }
    Ok(draft)
}

/// openPangu Embedded: one flag for the biases of q, k, v and o.
pub(super) fn pangu(f: &Fields) -> Result<Draft, ConfigError> {
    let bias = Bias::Key("bias", true);
    Variant { qkv_bias: bias, output_bias: bias, mlp_bias: Bias::Never, spans: all_full, ..Variant::LLAMA }.read(f)
}

/// Skywork, Aquila and the first Yi: Llama 1 without any bias.
pub(super) fn unbiased(f: &Fields) -> Result<Draft, ConfigError> {
    Variant { qkv_bias: Bias::Never, output_bias: Bias::Never, mlp_bias: Bias::Never, spans: all_full, ..Variant::LLAMA }.read(f)
}

/// Solar Pro: Llama with a window; its skip connections have no parameters.
pub(super) fn solar(f: &Fields) -> Result<Draft, ConfigError> {
    Variant { spans: all_sliding, ..Variant::LLAMA }.read(f)
}

/// MobileLLM: a head only where `share_embedding` is off.
pub(super) fn mobilellm(f: &Fields) -> Result<Draft, ConfigError> {
    let mut draft = Variant::LLAMA.read(f)?;
    if f.flag("share_embedding", false)? {
        draft.decoder.head = Head::Nothing;
    }
    Ok(draft)
}
