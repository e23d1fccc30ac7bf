//! `OneFormer`: the decoder of pixels of `Mask2Former`, queries that a task's text begins and small layers refine, then layers that
//! attend to the maps.

use super::backbones::{Usual, backbone};
use super::decoder::{Draft, Tensors, labels};
use super::mask2former::pixels;
use super::networks::{Network, class, feed_forward, heads, layers, layers_or_none, norms, projections, size};
use super::vision::{Encoder, linear, norm};
use super::{ConfigError, Fields};
use crate::model::Role;

/// Swin-T, as its class takes it where the config has no backbone.
const TINY: Usual = Usual { model_type: "swin", config: "{}", stages: &[1, 2, 3, 4] };

/// Attention as `torch.nn.MultiheadAttention` has it.
fn attention(t: &mut Tensors, at: &str, width: u64) {
    t.tensor(&format!("{at}.in_proj_weight"), Role::Qkv, &[3 * width, width]).tensor(&format!("{at}.in_proj_bias"), Role::Qkv, &[3 * width]).linear(
        &format!("{at}.out_proj"),
        width,
        width,
        true,
    );
}

/// Matrices one after another, each under a module of its own.
fn blocks(t: &mut Tensors, at: &str, widths: &[u64]) {
    for (number, step) in widths.windows(2).enumerate() {
        linear(t, Role::Other, &format!("{at}.layers.{number}.0"), step[0], step[1], true);
    }
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_alias("hidden_dim", "hidden_size").with_alias("decoder_layers", "num_hidden_layers");
    let class = class(f)?;
    let (feature, mask, hidden) = (size(f, "conv_dim", 256)?, size(f, "mask_dim", 256)?, size(f, "hidden_dim", 256)?);
    let inner = size(f, "dim_feedforward", 2048)?;
    let heads = heads(f, "num_attention_heads", 8, hidden)?;
    let backbone = backbone(f, "model.pixel_level_module.encoder", TINY, false)?;
    let mut network = Network::default();
    // The first prediction is made before any layer.
    let decoder = Encoder { hidden, layers: layers(f, "decoder_layers", 10)?.saturating_sub(1), heads, intermediate: inner };
    let mut layer = Tensors::default();
    attention(&mut layer, "cross_attn.multihead_attn", hidden);
    projections(&mut layer, "self_attn.self_attn", &["k_proj", "v_proj", "q_proj", "out_proj"], hidden);
    feed_forward(&mut layer, ["ffn.linear1", "ffn.linear2"], hidden, inner);
    norms(&mut layer, &["cross_attn.norm", "self_attn.norm", "ffn.norm"], hidden);
    network.stack("decoder", "model.transformer_module.decoder.layers", &decoder, &layer.build());
    let queries = Encoder { layers: layers_or_none(f, "query_dec_layers", 2)?, ..decoder };
    attention(&mut layer, "self_attn", hidden);
    attention(&mut layer, "multihead_attn", hidden);
    feed_forward(&mut layer, ["linear1", "linear2"], hidden, inner);
    norms(&mut layer, &["norm1", "norm2", "norm3"], hidden);
    let at = "model.transformer_module.decoder";
    network.stack("queries", &format!("{at}.query_transformer.decoder.layers"), &queries, &layer.build());
    pixels(f, &mut network, &backbone.channels, [feature, mask], "strides")?;

    let t = &mut network.t;
    norm(t, &format!("{at}.query_transformer.decoder.norm"), hidden, true);
    norm(t, &format!("{at}.decoder_norm"), hidden, true);
    t.convolution(&format!("{at}.query_input_projection"), &[hidden, feature, 1, 1], true);
    linear(t, Role::Score, &format!("{at}.class_embed"), hidden, labels(f)?.saturating_add(1), true);
    blocks(t, &format!("{at}.mask_embed"), &[hidden, hidden, hidden, mask]);
    t.embedding("model.transformer_module.queries_embedder", size(f, "num_queries", 150)?, hidden).embedding("model.transformer_module.level_embed", 3, hidden);
    // The class holds its projections of maps in a plain list: they are no parameters.
    f.touch("enforce_input_proj");
    blocks(t, "model.task_encoder.task_mlp", &[size(f, "task_seq_len", 77)?, hidden, hidden]);
    if !class.ends_with("Model") {
        // How much the contrastive loss counts: null leaves it out.
        if !f.has("contrastive_temperature") || f.optional_number("contrastive_temperature")?.is_some() {
            t.tensor("criterion.logit_scale", Role::Other, &[1]);
        }
        if !class.is_empty() && !class.ends_with("ForUniversalSegmentation") {
            network.headless(&class);
        }
    }
    if f.flag("is_training", false)? {
        network.assume("`is_training` adds a tower of text that plays no part in use: it is not counted".to_owned());
    }
    for key in ["text_encoder_context_length", "text_encoder_n_ctx", "text_encoder_num_layers", "text_encoder_proj_layers", "text_encoder_vocab_size"] {
        f.touch(key);
    }
    for key in ["text_encoder_width", "max_seq_len", "num_classes", "train_num_points", "pre_norm", "use_task_norm"] {
        f.touch(key);
    }
    network.part(backbone.component);
    Ok(network.draft(hidden))
}
