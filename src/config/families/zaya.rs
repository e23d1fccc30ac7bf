//! Zaya: attention over convolved, compressed queries and keys, whose values are half the token's own and half the one before's;
//! experts behind a small router network that may also skip them.

use super::decoder::{Decoder, Draft, Head, Shape, Tensors};
use super::recurrent::{Kind, fused_experts, kinds_of_layers};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer, Recurrence, RecurrenceKind, Role, Span};

/// `ZayaConfig` of transformers 5.23.
const DEFAULTS: &[(&str, u64)] = &[
    ("num_key_value_heads", 2),
    ("head_dim", 128),
    ("moe_intermediate_size", 2048),
    ("num_experts", 16),
    ("router_hidden_size", 256),
    ("cca_time0", 2),
    ("cca_time1", 2),
];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(DEFAULTS);
    let shape = Shape::read(f)?;
    let (hidden, router) = (shape.hidden, f.count("router_hidden_size")?);
    let (count, width) = (f.count("num_experts")?, f.count("moe_intermediate_size")?);
    let active = f.active_experts(count, 1)?;
    let bias = f.flag("attention_bias", false)?;
    let (first, second) = (f.count("cca_time0")?, f.count("cca_time1")?);
    let window = f.optional_count("sliding_window")?;
    // "hybrid_sliding" is this family's alone.
    let spans = match f.optional_texts("layer_types")? {
        Some(names) if names.len() as u64 != shape.layers => return Err(f.impossible("layer_types", "it must have one entry per layer (`num_hidden_layers`)")),
        Some(names) if names.iter().any(|name| name == "hybrid_sliding") => names
            .iter()
            .map(|name| match (name.as_str(), window) {
                ("hybrid", _) => Ok(Span::Full),
                ("hybrid_sliding", Some(window)) => Ok(Span::Sliding(window)),
                _ => Err(f.impossible("layer_types", "it must name `hybrid`, or `hybrid_sliding` together with a `sliding_window`")),
            })
            .collect::<Result<Vec<_>, _>>()?,
        _ => {
            kinds_of_layers(f, "layer_types", shape.layers, &[Kind::Hybrid])?;
            (0..shape.layers).map(|_| Span::Full).collect()
        }
    };
    let (queries, keys) = (shape.heads.saturating_mul(shape.head_dim), shape.kv_heads.saturating_mul(shape.head_dim));
    let channels = queries.saturating_add(keys);
    let recurrence =
        Recurrence { kind: RecurrenceKind::ShortConvolution, conv_channels: channels, conv_kernel: first + second - 2, state: keys / 2, state_dtype: None };
    let layers = (0..shape.layers).zip(spans).map(|(number, span)| {
        let mut t = Tensors::default();
        t.norms(&["input_layernorm", "post_attention_layernorm"], hidden)
            .linear("self_attn.qkv_proj.q_proj", hidden, queries, bias)
            .linear("self_attn.qkv_proj.k_proj", hidden, keys, bias)
            .linear("self_attn.qkv_proj.v_proj_current", hidden, keys / 2, bias)
            .linear("self_attn.qkv_proj.v_proj_delayed", hidden, keys / 2, bias)
            .convolution("self_attn.qkv_proj.conv_qk_depthwise", &[channels, 1, first], true)
            .convolution("self_attn.qkv_proj.conv_qk_grouped", &[channels, shape.head_dim, second], true)
            .tensor("self_attn.qk_norm.temp", Role::Norm, &[shape.kv_heads])
            .linear("self_attn.o_proj", queries, hidden, bias)
            .linear("mlp.gate.down_proj", hidden, router, true)
            .norm("mlp.gate.router_mlp.norm", router, false)
            .linear("mlp.gate.router_mlp.fc1", router, router, true)
            .linear("mlp.gate.router_mlp.fc2", router, router, true)
            .linear("mlp.gate.router_mlp.out_proj", router, count + 1, false);
        if number > 0 {
            t.tensor("mlp.gate.router_states_scale", Role::Router, &[router]);
        }
        for at in ["post_attention_residual_scale", "post_mlp_residual_scale"] {
            for name in ["hidden_states_scale", "hidden_states_bias", "residual_scale", "residual_bias"] {
                t.tensor(&format!("{at}.{name}"), Role::Other, &[hidden]);
            }
        }
        fused_experts(&mut t, "mlp.experts", count, hidden, width);
        let feed_forward = FeedForward::MixtureOfExperts { experts: count, active, intermediate: width, shared: 0 };
        (Layer { mixer: Mixer::Parallel(shape.attention(span), recurrence), feed_forward }, t.build())
    });
    let layers = layers.collect();
    let mut decoder = Decoder::llama_like(shape, layers, true);
    let scales = Tensors::default()
        .tensor("model.input_hidden_states_scale", Role::Other, &[hidden])
        .tensor("model.input_hidden_states_bias", Role::Other, &[hidden])
        .build();
    decoder.tensors.extend(scales);
    if f.flag("lm_head_bias", false)? {
        decoder.head = Head::LanguageWithBias;
    }
    Ok(decoder.into())
}
