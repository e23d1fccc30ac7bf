//! RT-DETR, its second version and D-FINE: a backbone of convolutions, layers over its smallest map, convolutions that carry
//! what they see to the larger maps and back, and a decoder whose queries look at a few points of each.

use super::backbones::{Usual, backbone};
use super::decoder::{Draft, Tensors, labels};
use super::networks::{
    Network, QKVO, class, deformable, feed_forward, heads, layers, normed, norms, perceptron, projections, ratio, size, size_or_zero, times,
};
use super::vision::{Encoder, bare, channels, depths, linear, norm, per_stage, per_stage_of, staged};
use super::{ConfigError, Fields};
use crate::model::Role;

/// What the three differ in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    First,
    Second,
    Fine,
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    model(f, Version::First)
}

/// The second version counts the levels that its decoder samples by a key of its own.
pub(super) fn read2(f: &Fields) -> Result<Draft, ConfigError> {
    model(f, Version::Second)
}

/// D-FINE: other blocks of convolutions, gates in the decoder, boxes as distributions over bins.
pub(super) fn read_fine(f: &Fields) -> Result<Draft, ConfigError> {
    model(f, Version::Fine)
}

/// A `ResNet` with a stem of three convolutions, and pools before the shortcuts that shrink.
pub(super) fn resnet(f: &Fields) -> Result<(Tensors, Vec<u64>), ConfigError> {
    let depths = depths(f, &[3, 4, 6, 3])?;
    let widths = per_stage_of(f, "hidden_sizes", &[256, 512, 1024, 2048], depths.len())?;
    let stem = size(f, "embedding_size", 64)?;
    let is_basic = f.optional_text("layer_type")?.as_deref() == Some("basic");
    let shrinks_first = f.flag("downsample_in_first_stage", false)?;
    f.touch("downsample_in_bottleneck");
    let mut t = Tensors::default();
    let add = |t: &mut Tensors, at: &str, shape| normed(t, &format!("{at}.convolution"), &format!("{at}.normalization"), shape);
    for (number, (inputs, outputs)) in [(channels(f)?, stem / 2), (stem / 2, stem / 2), (stem / 2, stem)].into_iter().enumerate() {
        add(&mut t, &format!("embedder.embedder.{number}"), [outputs, inputs, 3, 3]);
    }
    let mut before = stem;
    for (stage, (&width, &depth)) in widths.iter().zip(&depths).enumerate() {
        for number in 0..depth {
            let at = format!("encoder.stages.{stage}.layers.{number}");
            let shrinks = number == 0 && (stage > 0 || shrinks_first);
            // A first basic block has a shortcut of its own even where nothing changes.
            if before != width || shrinks || (is_basic && number == 0) {
                let pools = if is_basic { before != width } else { shrinks };
                add(&mut t, &if pools { format!("{at}.shortcut.1") } else { format!("{at}.shortcut") }, [width, before, 1, 1]);
            }
            let inner = width / 4;
            let shapes: &[[u64; 4]] =
                if is_basic { &[[width, before, 3, 3], [width, width, 3, 3]] } else { &[[inner, before, 1, 1], [inner, inner, 3, 3], [width, inner, 1, 1]] };
            for (place, &shape) in shapes.iter().enumerate() {
                add(&mut t, &format!("{at}.layer.{place}"), shape);
            }
            before = width;
        }
    }
    Ok((t, std::iter::once(stem).chain(widths).collect()))
}

/// The backbone alone.
pub(super) fn read_resnet(f: &Fields) -> Result<Draft, ConfigError> {
    let (mut t, widths) = resnet(f)?;
    let class = class(f)?;
    let mut draft = staged(widths.last().copied().unwrap_or(0), t.build(), Vec::new(), "");
    if !class.is_empty() && !class.ends_with("Backbone") {
        bare(&mut draft, &class);
    }
    Ok(draft)
}

/// Convolutions with their norms, by the names that these classes give them.
struct Convolutions<'a>(&'a mut Tensors);

impl Convolutions<'_> {
    fn add(&mut self, at: &str, shape: [u64; 4]) {
        normed(self.0, &format!("{at}.conv"), &format!("{at}.norm"), shape);
    }

    /// Two ways, one through blocks of two convolutions side by side, joined by a sum.
    fn cross_stage(&mut self, at: &str, inputs: u64, outputs: u64, inner: u64, blocks: u64) {
        self.add(&format!("{at}.conv1"), [inner, inputs, 1, 1]);
        self.add(&format!("{at}.conv2"), [inner, inputs, 1, 1]);
        for number in 0..blocks {
            self.add(&format!("{at}.bottlenecks.{number}.conv1"), [inner, inner, 3, 3]);
            self.add(&format!("{at}.bottlenecks.{number}.conv2"), [inner, inner, 1, 1]);
        }
        if inner != outputs {
            self.add(&format!("{at}.conv3"), [outputs, inner, 1, 1]);
        }
    }

    /// D-FINE's block of two of them.
    fn aggregation(&mut self, at: &str, width: u64, inner: u64, blocks: u64) {
        self.add(&format!("{at}.conv1"), [2 * width, 2 * width, 1, 1]);
        self.cross_stage(&format!("{at}.csp_rep1"), width, inner, inner, blocks);
        self.add(&format!("{at}.conv2"), [inner, inner, 3, 3]);
        self.cross_stage(&format!("{at}.csp_rep2"), inner, inner, inner, blocks);
        self.add(&format!("{at}.conv3"), [inner, inner, 3, 3]);
        self.add(&format!("{at}.conv4"), [width, 2 * width + 2 * inner, 1, 1]);
    }
}

/// Points that a query looks at in all levels and heads: one number, or in D-FINE one per level.
fn samples(f: &Fields, version: Version, levels: u64, heads: u64) -> Result<u64, ConfigError> {
    if version == Version::Fine && f.raw("decoder_n_points").is_some_and(serde_json::Value::is_array) {
        let points = per_stage(f, "decoder_n_points", &[])?;
        return Ok(points.iter().fold(0_u64, |sum, &points| sum.saturating_add(points)).saturating_mul(heads));
    }
    let levels = if version == Version::Second { size(f, "decoder_n_levels", 3)? } else { levels };
    Ok(heads.saturating_mul(levels).saturating_mul(size(f, "decoder_n_points", 4)?))
}

fn model(f: &Fields, version: Version) -> Result<Draft, ConfigError> {
    let f = &f.with_alias("d_model", "hidden_size").with_alias("encoder_attention_heads", "num_attention_heads");
    let is_fine = version == Version::Fine;
    let class = class(f)?;
    let (width, inner) = (size(f, "d_model", 256)?, size(f, "encoder_hidden_dim", 256)?);
    let usual = Usual { model_type: if is_fine { "hgnet_v2" } else { "rt_detr_resnet" }, config: "{}", stages: &[2, 3, 4] };
    let backbone = backbone(f, "model.backbone.model", usual, f.flag("freeze_backbone_batch_norms", true)?)?;
    let maps = per_stage(f, "encoder_in_channels", &[512, 1024, 2048])?;
    let inputs = per_stage(f, "decoder_in_channels", &[256, 256, 256])?;
    let levels = size(f, "num_feature_levels", 3)?;
    if levels > 64 || maps.len() > 64 || inputs.len() > 64 {
        return Err(f.impossible("num_feature_levels", "it must be at most 64"));
    }
    f.touch("feat_strides");
    let labels = labels(f)?;
    let mut network = Network::default();

    let decoder = Encoder {
        hidden: width,
        layers: layers(f, "decoder_layers", 6)?,
        heads: heads(f, "decoder_attention_heads", 8, width)?,
        intermediate: size(f, "decoder_ffn_dim", 1024)?,
    };
    let samples = samples(f, version, levels, decoder.heads)?;
    let mut layer = Tensors::default();
    projections(&mut layer, "self_attn", QKVO, width);
    norms(&mut layer, &["self_attn_layer_norm", "final_layer_norm"], width);
    if is_fine {
        layer.linear("encoder_attn.sampling_offsets", width, samples.saturating_mul(2), true).linear("encoder_attn.attention_weights", width, samples, true);
        layer.linear("gateway.gate", 2 * width, 2 * width, true).norm("gateway.norm", width, true);
    } else {
        deformable(&mut layer, "encoder_attn", width, samples);
        norm(&mut layer, "encoder_attn_layer_norm", width, true);
    }
    let names = if is_fine { ["mlp.layers.0", "mlp.layers.1"] } else { ["mlp.fc1", "mlp.fc2"] };
    feed_forward(&mut layer, names, width, decoder.intermediate);
    // D-FINE keeps as many further layers as follow the one that it is evaluated at.
    let extra = match f.raw("eval_idx").and_then(serde_json::Value::as_i64) {
        Some(at) if is_fine && at >= 0 => decoder.layers.saturating_sub(at.unsigned_abs() + 1),
        Some(at) if is_fine => (at.unsigned_abs() - 1).min(decoder.layers),
        _ => 0,
    };
    network.stack("decoder", "model.decoder.layers", &Encoder { layers: decoder.layers + extra, ..decoder }, &layer.build());

    // `encode_proj_layers` names the maps that have layers of their own.
    let attended = per_map(f)?;
    let encoder = Encoder {
        hidden: inner,
        layers: layers(f, "encoder_layers", 1)? * attended,
        heads: heads(f, "encoder_attention_heads", 8, inner)?,
        intermediate: size(f, "encoder_ffn_dim", 1024)?,
    };
    projections(&mut layer, "self_attn", QKVO, inner);
    norms(&mut layer, &["self_attn_layer_norm", "final_layer_norm"], inner);
    feed_forward(&mut layer, names, inner, encoder.intermediate);
    network.stack("encoder", "model.encoder.aifi.0.layers", &encoder, &layer.build());

    let t = &mut network.t;
    for (number, &channels) in backbone.channels.iter().take(if is_fine { inputs.len() } else { usize::MAX }).enumerate() {
        normed(t, &format!("model.encoder_input_proj.{number}.0"), &format!("model.encoder_input_proj.{number}.1"), [inner, channels, 1, 1]);
    }
    let expansion = ratio(f, "hidden_expansion", 1.0)?;
    let blocks = if is_fine { rounded(3.0 * ratio(f, "depth_mult", 1.0)?) } else { 3 };
    if blocks > 100 {
        return Err(f.impossible("depth_mult", "it must be at most 33"));
    }
    let mut c = Convolutions(t);
    for (ways, places, kernel) in [("fpn_blocks", "lateral_convs", 1), ("pan_blocks", "downsample_convs", 3)] {
        for number in 0..maps.len() - 1 {
            let (block, place) = (format!("model.encoder.{ways}.{number}"), format!("model.encoder.{places}.{number}"));
            if is_fine {
                c.aggregation(&block, inner, times(inner, expansion) / 2, blocks);
                if kernel == 1 {
                    c.add(&place, [inner, inner, 1, 1]);
                } else {
                    c.add(&format!("{place}.conv1"), [inner, inner, 1, 1]);
                    c.add(&format!("{place}.conv2"), [inner, 1, kernel, kernel]);
                }
            } else {
                c.cross_stage(&block, 2 * inner, inner, times(inner, expansion), blocks);
                c.add(&place, [inner, inner, kernel, kernel]);
            }
        }
    }
    if size_or_zero(f, "num_denoising", 100)? > 0 {
        t.embedding("model.denoising_class_embed", labels.saturating_add(1), width);
    }
    if f.flag("learn_initial_query", false)? {
        t.embedding("model.weight_embedding", size(f, "num_queries", 300)?, width);
    } else {
        f.touch("num_queries");
    }
    linear(t, Role::Other, "model.enc_output.0", width, width, true);
    norm(t, "model.enc_output.1", width, true);
    linear(t, Role::Score, "model.enc_score_head", width, labels, true);
    perceptron(t, "model.enc_bbox_head", &[width, width, width, 4]);
    let last = inputs.last().copied().unwrap_or(width);
    let mut before = last;
    for number in 0..inputs.len().max(usize::try_from(levels).unwrap_or(0)) {
        let at = format!("model.decoder_input_proj.{number}");
        let (channels, kernel) = match inputs.get(number) {
            Some(&channels) => (if is_fine { last } else { channels }, 1),
            None => (before, 3),
        };
        if !(is_fine && width == last) {
            normed(t, &format!("{at}.0"), &format!("{at}.1"), [width, channels, kernel, kernel]);
        }
        if number >= inputs.len() && !is_fine {
            before = width;
        }
    }
    perceptron(t, "model.decoder.query_pos_head", &[4, 2 * width, width]);
    let bins = if is_fine { size(f, "max_num_bins", 32)? + 1 } else { 1 };
    if is_fine {
        t.tensor("model.decoder.reg_scale", Role::Other, &[1]).tensor("model.decoder.up", Role::Other, &[1]);
        perceptron(t, "model.decoder.pre_bbox_head", &[width, width, width, 4]);
        let (top, quality) = (size(f, "top_prob_values", 4)?, size(f, "lqe_hidden_dim", 64)?);
        let steps = usize::try_from(layers(f, "lqe_layers", 2)?).unwrap_or(0);
        if steps > 32 {
            return Err(f.impossible("lqe_layers", "it must be at most 32"));
        }
        let widths: Vec<u64> = std::iter::once(4 * (top + 1)).chain(std::iter::repeat_n(quality, steps.saturating_sub(1))).chain([1]).collect();
        for number in 0..decoder.layers {
            perceptron(t, &format!("model.decoder.lqe_layers.{number}.reg_conf"), &widths);
        }
    }
    if !class.ends_with("Model") {
        let scaled = rounded(ratio(f, "layer_scale", 1.0)? * approximate(width));
        // The later versions' decoders have copies of the heads, which are the same matrices unless it is said otherwise.
        let has_copies = version != Version::First && !f.flag("tie_word_embeddings", true)?;
        for at in ["model.decoder.", ""].into_iter().take(1 + usize::from(has_copies)) {
            for number in 0..decoder.layers {
                linear(t, Role::Score, &format!("{at}class_embed.{number}"), width, labels, true);
                let side = if number >= decoder.layers - extra.min(decoder.layers) { scaled } else { width };
                perceptron(t, &format!("{at}bbox_embed.{number}"), &[side, side, side, 4 * bins]);
            }
        }
        if !class.is_empty() && !class.ends_with("ForObjectDetection") {
            network.headless(&class);
        }
    }
    network.part(backbone.component);
    Ok(network.draft(width))
}

/// How many maps have layers of their own: by default one.
fn per_map(f: &Fields) -> Result<u64, ConfigError> {
    match f.optional_counts("encode_proj_layers")? {
        None => Ok(1),
        Some(list) if list.len() <= 8 => Ok(list.len() as u64),
        Some(_) => Err(f.impossible("encode_proj_layers", "it must be a list of maps, at most 8")),
    }
}

#[allow(clippy::cast_precision_loss)]
const fn approximate(width: u64) -> f64 {
    width as f64
}

/// As Python rounds: halves to even.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn rounded(number: f64) -> u64 {
    number.round_ties_even() as u64
}
