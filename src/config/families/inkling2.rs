//! Inkling 2: attention with a gate, sinks and learned biases by distance, sliding in most layers; in the others the weights of the
//! short convolutions follow the token, and queries, keys and values read the blocks of layers below apart. Experts in every layer.

use super::decoder::{Decoder, Draft, Shape, Tensors};
use super::inkling::listed;
use super::multimodal::{Names, Wrapper, language_of};
use super::recurrent::{LayerTensors, fused_experts, scaled};
use super::towers::projector;
use super::vision::{CLIP, Encoder, Style, Tower, linear, norm};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, FeedForward, Layer, Mixer, Recurrence, RecurrenceKind, Role, Span};

/// `Inkling2TextConfig` and `Inkling2VisionConfig` of transformers 5.23.
const TEXT: &[(&str, u64)] = &[
    ("vocab_size", 201_024),
    ("hidden_size", 4608),
    ("num_hidden_layers", 48),
    ("num_attention_heads", 48),
    ("num_key_value_heads", 8),
    ("head_dim", 128),
    ("swa_num_attention_heads", 48),
    ("swa_num_key_value_heads", 8),
    ("swa_head_dim", 128),
    ("sliding_window_size", 1024),
    ("d_rel", 16),
    ("rel_extent", 1024),
    ("moe_intermediate_size", 2304),
    ("num_experts", 384),
    ("num_experts_per_tok", 8),
];
const VISION: &[(&str, u64)] = &[
    ("hidden_size", 1024),
    ("num_hidden_layers", 23),
    ("num_attention_heads", 16),
    ("num_channels", 3),
    ("patch_size", 20),
    ("spatial_merge_size", 2),
    ("posemb_grid_size", 32),
    ("projection_hidden_dim", 4096),
];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let text = f.part(&["text_config"])?;
    let wrapper = Wrapper { names: Names::Inside("model.language_model"), ..Wrapper::new("inkling2_text") };
    let draft = language_of(f, &text, "inkling2_text".to_owned(), &wrapper)?;
    let width = draft.decoder.shape.hidden;
    let v = f.part(&["vision_config"])?;
    let v = v.with_alias("patch_size", "native_patch_size").with_alias("spatial_merge_size", "adapter_merge_size").with_defaults(VISION);
    for unread in ["model_type", "text_hidden_size", "layer_scale_init_value"] {
        v.touch(unread);
    }
    let hidden = v.count("hidden_size")?;
    let e = Encoder::read_with(&v, v.optional_count("intermediate_size")?.map_or_else(|| scaled(&v, "mlp_ratio", 4.0, hidden), Ok)?)?;
    v.touch("mlp_ratio");
    let (side, merge, grid) = (v.count("patch_size")?, v.count("spatial_merge_size")?, v.count("posemb_grid_size")?);
    let mut t = Tensors::default();
    let pixels = side.saturating_mul(side).saturating_mul(v.count("num_channels")?);
    t.tensor("embeddings.class_embedding", Role::Other, &[hidden])
        .tensor("embeddings.cls_position_embedding", Role::Position, &[hidden])
        .tensor("embeddings.patch_embedding.weight", Role::Other, &[hidden, pixels])
        .tensor("embeddings.position_embedding.weight", Role::Position, &[grid.saturating_mul(grid), hidden]);
    norm(&mut t, "pre_layernorm", hidden, true);
    let style = Style { norms: &["layernorm_before", "layernorm_after"], scales: &["lambda_1", "lambda_2"], ..CLIP };
    let tower = Tower { encoder: e, layers_at: "layers".to_owned(), tensors: t.build(), layers: style.layers(&e) }.below("model.vision_tower");
    let (inner, bias) = (v.count("projection_hidden_dim")?, v.flag("projector_bias", false)?);
    let mut merger = Tensors::default();
    linear(&mut merger, Role::Other, "model.vision_tower.merger.linear_1", hidden.saturating_mul(merge).saturating_mul(merge), inner, bias);
    linear(&mut merger, Role::Other, "model.vision_tower.merger.linear_2", inner, width, bias);
    Ok(draft.with(tower.component("vision", ComponentKind::VisionTower)).with(projector(width, merger.build())))
}

pub(super) fn read_text(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_alias("moe_intermediate_size", "intermediate_size").with_defaults(TEXT);
    let shape = Shape::read(f)?;
    let heads = (f.count("swa_num_attention_heads")?, f.count("swa_num_key_value_heads")?, Some(f.count("swa_head_dim")?));
    let sliding = Shape::checked(f, shape.hidden, shape.layers, shape.vocab, heads)?;
    let window = f.optional_count("sliding_window")?.map_or_else(|| f.count("sliding_window_size"), Ok)?;
    let (distances, extent) = (f.count("d_rel")?, f.count("rel_extent")?);
    let kernel = f.optional_count("conv_kernel_size")?.or(f.optional_count("sconv_kernel_size")?).unwrap_or(4);
    let slides = listed(f, "layer_types", shape.layers, "hybrid_sliding", "hybrid")?;
    let (experts, width) = (f.count("num_experts")?, f.count("moe_intermediate_size")?);
    let active = f.active_experts(experts, experts)?;
    for unread in ["unpadded_vocab_size", "n_layers_per_attn_res_block", "log_scaling_alpha", "log_scaling_n_floor"] {
        f.touch(unread);
    }
    for unread in ["mlp_gate_softcap", "mlp_up_softcap", "qk_l2_clip_threshold", "rel_l2_clip_threshold"] {
        f.touch(unread);
    }
    let hidden = shape.hidden;
    let layers = (0..shape.layers).map(|number| {
        let place = usize::try_from(number).unwrap_or(usize::MAX);
        let is_sliding = slides.as_ref().map_or(!(number + 1).is_multiple_of(6), |listed| listed[place]);
        let (own, span) = if is_sliding { (sliding, Span::Sliding(window)) } else { (shape, Span::Full) };
        let (queries, keys) = (own.heads.saturating_mul(own.head_dim), own.kv_heads.saturating_mul(own.head_dim));
        let mut t = Tensors::default();
        t.attention(&own, false, false)
            .linear("self_attn.r_proj", hidden, own.heads.saturating_mul(distances), false)
            .linear("self_attn.gate_proj", hidden, queries, false)
            .linear("self_attn.sink_proj", hidden, own.heads, false)
            .tensor("self_attn.rel_logits_proj.proj", Role::Other, &[distances, if is_sliding { window } else { extent }])
            .tensor("self_attn.q_l2_clip.scale", Role::Norm, &[own.heads, own.head_dim])
            .tensor("self_attn.rel_l2_clip.scale", Role::Norm, &[own.heads, distances])
            .tensor("mlp_input.query", Role::Other, &[hidden])
            .norm("post_attention_layernorm", hidden, false);
        for module in ["post_attention_convolution", "post_mlp_convolution"] {
            t.tensor(&format!("{module}.conv1d.weight"), Role::MixerConvolution, &[hidden, 1, kernel]);
        }
        for module in ["self_attn.k_sconv", "self_attn.v_sconv"] {
            if is_sliding {
                t.tensor(&format!("{module}.conv1d.weight"), Role::MixerConvolution, &[keys, 1, kernel]);
            } else {
                t.tensor(&format!("{module}.static_weight"), Role::MixerConvolution, &[kernel, keys]).linear(
                    &format!("{module}.weight_proj"),
                    hidden,
                    own.kv_heads.saturating_mul(kernel),
                    false,
                );
            }
        }
        if is_sliding {
            t.norm("input_layernorm", hidden, false);
        } else {
            t.norms(&["q_input_layernorm", "k_input_layernorm", "v_input_layernorm"], hidden);
        }
        // The first layer has no blocks below it.
        match (number, is_sliding) {
            (0, _) => {}
            (_, true) => _ = t.tensor("attention_input.query", Role::Other, &[hidden]),
            (_, false) => _ = t.tensor("attention_input.query", Role::Other, &[3, hidden]),
        }
        t.linear("mlp.gate", hidden, experts, false);
        fused_experts(&mut t, "mlp.experts", experts, hidden, width);
        let channels = keys.saturating_mul(2).saturating_add(hidden.saturating_mul(2));
        let past = Recurrence { kind: RecurrenceKind::ShortConvolution, conv_channels: channels, conv_kernel: kernel, state: 0, state_dtype: None };
        let feed_forward = FeedForward::MixtureOfExperts { experts, active, intermediate: width, shared: 0 };
        (Layer { mixer: Mixer::Parallel(own.attention(span), past), feed_forward }, t.build())
    });
    let layers: Vec<LayerTensors> = layers.collect();
    let mut decoder = Decoder::llama_like(shape, layers, false);
    decoder
        .tensors
        .extend(Tensors::default().norm("model.embed_tokens.embed_norm", hidden, false).tensor("model.final_input.query", Role::Other, &[hidden]).build());
    decoder.never_tied(f)
}
