//! `ZoeDepth`: DPT over a `BEiT`, and heads that turn relative depths into metric ones by bins whose centres are drawn to attractors.

use super::backbones::{Usual, backbone};
use super::decoder::{Draft, Tensors};
use super::depth::Neck;
use super::networks::{Network, class, feed_forward, heads, layers, norms, projections, size};
use super::vision::{Encoder, per_stage};
use super::{ConfigError, Fields};

const BEIT: Usual = Usual {
    model_type: "beit",
    config: r#"{"image_size": 384, "num_hidden_layers": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16,
        "use_relative_position_bias": true}"#,
    stages: &[6, 12, 18, 24],
};

/// Two convolutions of single pixels.
fn pixels(t: &mut Tensors, at: &str, [inputs, inner, outputs]: [u64; 3]) {
    t.convolution(&format!("{at}.conv1"), &[inner, inputs, 1, 1], true).convolution(&format!("{at}.conv2"), &[outputs, inner, 1, 1], true);
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let backbone = backbone(f, "backbone", BEIT, false)?;
    let kind = f.nested(&["backbone_config"])?.map(|inner| inner.optional_text("model_type")).transpose()?.flatten();
    let neck = Neck {
        inputs: &backbone.channels.clone(),
        reassembles: kind.as_deref() != Some("swinv2"),
        reads_class_token: f.optional_text("readout_type")?.is_none_or(|kind| kind == "project"),
        default_widths: &[96, 192, 384, 768],
        default_fused: 256,
        is_prompted: false,
    };
    let mut network = Network::default();
    let t = &mut network.t;
    let fused = neck.add(f, t)?;
    let relative = size(f, "num_relative_features", 32)?;
    if f.flag("add_projection", false)? {
        t.convolution("relative_head.projection", &[256, 256, 3, 3], true);
    }
    t.convolution("relative_head.conv1", &[fused / 2, fused, 3, 3], true).convolution("relative_head.conv2", &[relative, fused / 2, 3, 3], true).convolution(
        "relative_head.conv3",
        &[1, relative, 1, 1],
        true,
    );
    for key in ["head_in_index", "attractor_alpha", "attractor_gamma", "attractor_kind", "min_temp", "max_temp"] {
        f.touch(key);
    }
    let (narrow, bins) = (size(f, "bottleneck_features", 256)?, size(f, "bin_embedding_dim", 128)?);
    let attractors = per_stage(f, "num_attractors", &[16, 8, 4, 1])?;
    // Normed centres need two numbers each.
    let each = if f.optional_text("bin_centers_type")?.is_some_and(|kind| kind == "normed") { 2 } else { 1 };
    let ranges = f.optional_objects("bin_configurations")?.unwrap_or_default();
    let mut counts = Vec::new();
    for range in &ranges {
        counts.push(size(range, "n_bins", 64)?);
        for key in ["name", "min_depth", "max_depth"] {
            range.touch(key);
        }
    }
    if counts.is_empty() {
        counts.push(64);
    }
    t.convolution("metric_head.conv2", &[narrow, narrow, 1, 1], true);
    if let [count] = counts[..] {
        pixels(t, "metric_head.seed_bin_regressor", [narrow, 256, count]);
        pixels(t, "metric_head.seed_projector", [narrow, 128, bins]);
        for number in 0..4 {
            pixels(t, &format!("metric_head.projectors.{number}"), [fused, 128, bins]);
            let Some(attractors) = attractors.get(number) else { return Err(f.impossible("num_attractors", "it must have four entries")) };
            pixels(t, &format!("metric_head.attractors.{number}"), [bins, bins, attractors * each]);
        }
        binomial(t, "metric_head.conditional_log_binomial", relative + 1 + bins, 2);
    } else {
        for (number, &count) in counts.iter().enumerate() {
            pixels(t, &format!("metric_head.seed_bin_regressors.{number}"), [narrow, bins / 2, count]);
            for level in 0..attractors.len() {
                // The class takes its own default of 16 here, whatever the config says.
                pixels(t, &format!("metric_head.attractors.{number}.{level}"), [bins, bins, 16 * each]);
            }
            binomial(t, &format!("metric_head.conditional_log_binomial.{number}"), relative + bins, 4);
        }
        pixels(t, "metric_head.seed_projector", [narrow, bins / 2, bins]);
        for number in 0..4 {
            pixels(t, &format!("metric_head.projectors.{number}"), [fused, bins / 2, bins]);
        }
        let width = size(f, "patch_transformer_hidden_size", 128)?;
        let encoder = Encoder {
            hidden: width,
            layers: layers(f, "num_patch_transformer_layers", 4)?,
            heads: heads(f, "patch_transformer_num_attention_heads", 4, width)?,
            intermediate: size(f, "patch_transformer_intermediate_size", 1024)?,
        };
        t.convolution("metric_head.patch_transformer.embedding_convPxP", &[width, narrow, 1, 1], true)
            .linear("metric_head.mlp_classifier.linear1", 128, 128, true)
            .linear("metric_head.mlp_classifier.linear2", 128, 2, true);
        let mut layer = Tensors::default();
        projections(&mut layer, "self_attn", &["query", "key", "value", "out_proj"], width);
        feed_forward(&mut layer, ["linear1", "linear2"], width, encoder.intermediate);
        norms(&mut layer, &["norm1", "norm2"], width);
        network.stack("patch_transformer", "metric_head.patch_transformer.transformer_encoder", &encoder, &layer.build());
    }
    for key in ["num_patch_transformer_layers", "patch_transformer_hidden_size", "patch_transformer_intermediate_size", "patch_transformer_num_attention_heads"]
    {
        f.touch(key);
    }
    if !class.is_empty() && !class.ends_with("ForDepthEstimation") {
        network.headless(&class);
    }
    Ok(network.over(backbone))
}

fn binomial(t: &mut Tensors, at: &str, inputs: u64, factor: u64) {
    let inner = inputs / factor;
    t.convolution(&format!("{at}.mlp.0"), &[inner, inputs, 1, 1], true).convolution(&format!("{at}.mlp.2"), &[4, inner, 1, 1], true);
}
