//! Pyramid transformers: PVT 1 and 2, whose attention looks at a reduced map, and `PoolFormer`, which pools instead of attending.

use super::decoder::{Draft, Tensors, labels_or};
use super::networks::{class, feed_forward, norms, pair_or, ratio, times};
use super::vision::{Encoder, Style, VIT, bare, block, channels, depths, linear, norm, per_stage_of, staged};
use super::{ConfigError, Fields};
use crate::model::{Layer, Role};

/// What every stage gives.
struct Stage {
    width: u64,
    before: u64,
    depth: u64,
    heads: u64,
    inner: u64,
    reduction: u64,
    kernel: u64,
    stride: u64,
}

impl Stage {
    /// Its blocks below `at`, each with `more` than the style's tensors.
    fn blocks(&self, t: &mut Tensors, at: &str, style: &Style, mut more: Tensors) -> impl Iterator<Item = Layer> + use<> {
        let encoder = Encoder { hidden: self.width, layers: self.depth, heads: self.heads, intermediate: self.inner };
        let tensors: Vec<_> = style.tensors(&encoder).into_iter().chain(more.build()).collect();
        for number in 0..self.depth {
            t.nested(&format!("{at}.{number}"), tensors.clone());
        }
        let layer = block(self.width, self.heads, self.inner);
        (0..self.depth).map(move |_| layer)
    }
}

/// The stages of the two, whose keys differ in one name.
fn stages(f: &Fields, reductions: &'static str, defaults: [[u64; 4]; 2]) -> Result<Vec<Stage>, ConfigError> {
    let depths = depths(f, &[2, 2, 2, 2])?;
    let list = |key, default: &[u64]| per_stage_of(f, key, default, depths.len());
    let [widths, kernels] = defaults;
    let (widths, kernels) = (list("hidden_sizes", &widths)?, list("patch_sizes", &kernels)?);
    let (heads, ratios) = (list("num_attention_heads", &[1, 2, 5, 8])?, list("mlp_ratios", &[8, 8, 4, 4])?);
    let (reductions, strides) = (list(reductions, &[8, 4, 2, 1])?, list("strides", &[4, 2, 2, 2])?);
    f.touch("num_encoder_blocks");
    let mut before = channels(f)?;
    let mut stages = Vec::new();
    for (number, &width) in widths.iter().enumerate() {
        if !width.is_multiple_of(heads[number]) {
            return Err(f.impossible("num_attention_heads", "each must divide its stage's width"));
        }
        stages.push(Stage {
            width,
            before,
            depth: depths[number],
            heads: heads[number],
            inner: width.saturating_mul(ratios[number]),
            reduction: reductions[number],
            kernel: kernels[number],
            stride: strides[number],
        });
        before = width;
    }
    Ok(stages)
}

fn finish(f: &Fields, mut t: Tensors, layers: Vec<Layer>, width: u64, base: &'static str) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let is_classifier = class.ends_with("ForImageClassification");
    if is_classifier {
        // The configs of PVT say 1000 classes by themselves.
        let labels = labels_or(f, if base == "pvt" { 1000 } else { 2 })?;
        linear(&mut t, Role::Score, "classifier", width, labels, true);
    }
    let mut draft = staged(width, t.build(), layers, base);
    if !is_classifier && !class.is_empty() && !class.ends_with("Model") && !class.ends_with("Backbone") {
        bare(&mut draft, &class);
    }
    Ok(draft)
}

/// PVT: learned positions in every stage, a class token in the last.
pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let stages = stages(f, "sequence_reduction_ratios", [[64, 128, 320, 512], [4, 2, 2, 2]])?;
    let image = pair_or(f, "image_size", [224, 224])?;
    let bias = f.flag("qkv_bias", true)?;
    let style = Style {
        qkv: &["attention.self.query", "attention.self.key", "attention.self.value"],
        up: "mlp.dense1",
        down: "mlp.dense2",
        norms: &["layer_norm_1", "layer_norm_2"],
        ..VIT.biases(bias, true, true)
    };
    let mut t = Tensors::default();
    let mut layers = Vec::new();
    for (number, stage) in stages.iter().enumerate() {
        let width = stage.width;
        let shift = u32::try_from(number).unwrap_or(u32::MAX - 1) + 1;
        let shrunk = if number == 0 { image } else { image.map(|side| side.checked_shr(shift).unwrap_or(0)) };
        let is_last = number + 1 == stages.len();
        let places = (shrunk[0] / stage.kernel).saturating_mul(shrunk[1] / stage.kernel).saturating_add(u64::from(is_last));
        let at = format!("pvt.encoder.patch_embeddings.{number}");
        t.tensor(&format!("{at}.position_embeddings"), Role::Position, &[1, places, width]);
        if is_last {
            t.tensor(&format!("{at}.cls_token"), Role::Other, &[1, 1, width]);
        }
        // The class takes the stride for the kernel.
        t.convolution(&format!("{at}.projection"), &[width, stage.before, stage.stride, stage.stride], true);
        norm(&mut t, &format!("{at}.layer_norm"), width, true);
        let mut more = Tensors::default();
        if stage.reduction > 1 {
            more.convolution("attention.self.sequence_reduction", &[width, width, stage.reduction, stage.reduction], true);
            norm(&mut more, "attention.self.layer_norm", width, true);
        }
        layers.extend(stage.blocks(&mut t, &format!("pvt.encoder.block.{number}"), &style, more));
    }
    let width = stages.last().map_or(0, |stage| stage.width);
    norm(&mut t, "pvt.encoder.layer_norm", width, true);
    finish(f, t, layers, width, "pvt")
}

/// PVT 2: overlapping patches and a depthwise convolution in the feed-forward, no positions.
pub(super) fn read2(f: &Fields) -> Result<Draft, ConfigError> {
    let stages = stages(f, "sr_ratios", [[32, 64, 160, 256], [7, 3, 3, 3]])?;
    let (bias, is_linear) = (f.flag("qkv_bias", true)?, f.flag("linear_attention", false)?);
    f.touch("image_size");
    let style = Style {
        qkv: &["attention.query", "attention.key", "attention.value"],
        output: "attention.proj",
        up: "mlp.dense1",
        down: "mlp.dense2",
        norms: &["layer_norm_1", "layer_norm_2"],
        ..VIT.biases(bias, true, true)
    };
    let mut t = Tensors::default();
    let mut layers = Vec::new();
    for (number, stage) in stages.iter().enumerate() {
        let width = stage.width;
        let at = format!("pvt_v2.encoder.layers.{number}");
        t.convolution(&format!("{at}.patch_embedding.proj"), &[width, stage.before, stage.kernel, stage.kernel], true);
        norms(&mut t, &[&format!("{at}.patch_embedding.layer_norm"), &format!("{at}.layer_norm")], width);
        let mut more = Tensors::default();
        more.convolution("mlp.dwconv.dwconv", &[stage.inner, 1, 3, 3], true);
        if is_linear || stage.reduction > 1 {
            let side = if is_linear { 1 } else { stage.reduction };
            more.convolution("attention.spatial_reduction", &[width, width, side, side], true);
            norm(&mut more, "attention.layer_norm", width, true);
        }
        layers.extend(stage.blocks(&mut t, &format!("{at}.blocks"), &style, more));
    }
    let width = stages.last().map_or(0, |stage| stage.width);
    finish(f, t, layers, width, "pvt_v2")
}

/// `PoolFormer`: pools, group norms of one group, two convolutions of single pixels, layer scales.
pub(super) fn read_pool(f: &Fields) -> Result<Draft, ConfigError> {
    let depths = depths(f, &[2, 2, 6, 2])?;
    let widths = per_stage_of(f, "hidden_sizes", &[64, 128, 320, 512], depths.len())?;
    let kernels = per_stage_of(f, "patch_sizes", &[7, 3, 3, 3], depths.len())?;
    let (ratio, is_scaled) = (ratio(f, "mlp_ratio", 4.0)?, f.flag("use_layer_scale", true)?);
    for key in ["num_encoder_blocks", "strides", "padding", "pool_size", "patch_size", "layer_scale_init_value"] {
        f.touch(key);
    }
    let mut t = Tensors::default();
    let mut before = channels(f)?;
    for (number, (&width, &depth)) in widths.iter().zip(&depths).enumerate() {
        let side = kernels[number];
        t.convolution(&format!("poolformer.encoder.patch_embeddings.{number}.projection"), &[width, before, side, side], true);
        let inner = times(width, ratio);
        for layer in 0..depth {
            let at = format!("poolformer.encoder.block.{number}.{layer}");
            feed_forward(&mut t, [&format!("{at}.output.conv1"), &format!("{at}.output.conv2")], width, inner);
            norms(&mut t, &[&format!("{at}.before_norm"), &format!("{at}.after_norm")], width);
            if is_scaled {
                t.tensor(&format!("{at}.layer_scale_1"), Role::Other, &[width]).tensor(&format!("{at}.layer_scale_2"), Role::Other, &[width]);
            }
        }
        before = width;
    }
    if class(f)?.ends_with("ForImageClassification") {
        norm(&mut t, "norm", before, true);
    }
    finish(f, t, Vec::new(), before, "poolformer")
}
