//! `SegFormer`: stages of attention over a reduced sequence and a feed-forward with a depthwise convolution.

use super::decoder::{Draft, Tensors, labels};
use super::vision::{Encoder, Style, Task, VIT, bare, block, channels, classifier, depths, linear, norm, per_stage_of, staged, task};
use super::{ConfigError, Fields};
use crate::model::Role;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let depths = depths(f, &[2, 2, 2, 2])?;
    let stages = depths.len();
    if f.optional_count("num_encoder_blocks")?.is_some_and(|blocks| blocks != stages as u64) {
        return Err(f.impossible("num_encoder_blocks", "it must be the number of entries in `depths`"));
    }
    let list = |key, default: &[u64]| per_stage_of(f, key, default, stages);
    let widths = list("hidden_sizes", &[32, 64, 160, 256])?;
    let heads = list("num_attention_heads", &[1, 2, 5, 8])?;
    let ratios = list("mlp_ratios", &[4, 4, 4, 4])?;
    let reductions = list("sr_ratios", &[8, 4, 2, 1])?;
    let kernels = list("patch_sizes", &[7, 3, 3, 3])?;
    f.touch("strides");
    // Images of any size pass.
    f.touch("image_size");
    let (task, class) = task(f)?;
    let style = Style {
        qkv: &["attention.self.query", "attention.self.key", "attention.self.value"],
        up: "mlp.dense1",
        down: "mlp.dense2",
        norms: &["layer_norm_1", "layer_norm_2"],
        ..VIT
    };
    let mut t = Tensors::default();
    let mut layers = Vec::new();
    let mut before = channels(f)?;
    for stage in 0..stages {
        let width = widths[stage];
        if !width.is_multiple_of(heads[stage]) {
            return Err(f.impossible("num_attention_heads", "each must divide its stage's width"));
        }
        let name = format!("segformer.encoder.patch_embeddings.{stage}");
        t.convolution(&format!("{name}.proj"), &[width, before, kernels[stage], kernels[stage]], true);
        norm(&mut t, &format!("{name}.layer_norm"), width, true);
        let inner = width * ratios[stage];
        let encoder = Encoder { hidden: width, layers: depths[stage], heads: heads[stage], intermediate: inner };
        let mut one = Tensors::default();
        one.convolution("mlp.dwconv.dwconv", &[inner, 1, 3, 3], true);
        if reductions[stage] > 1 {
            one.convolution("attention.self.sr", &[width, width, reductions[stage], reductions[stage]], true);
            norm(&mut one, "attention.self.layer_norm", width, true);
        }
        let tensors: Vec<_> = style.tensors(&encoder).into_iter().chain(one.build()).collect();
        for number in 0..depths[stage] {
            t.nested(&format!("segformer.encoder.block.{stage}.{number}"), tensors.clone());
            layers.push(block(width, heads[stage], inner));
        }
        norm(&mut t, &format!("segformer.encoder.layer_norm.{stage}"), width, true);
        before = width;
    }
    let is_segmentation = class.ends_with("ForSemanticSegmentation");
    if is_segmentation {
        let width = f.count_or("decoder_hidden_size", 256)?;
        for (stage, &inputs) in widths.iter().enumerate() {
            linear(&mut t, Role::Other, &format!("decode_head.linear_c.{stage}.proj"), inputs, width, true);
        }
        t.convolution("decode_head.linear_fuse", &[width, width.saturating_mul(stages as u64), 1, 1], false);
        norm(&mut t, "decode_head.batch_norm", width, true);
        t.convolution("decode_head.classifier", &[labels(f)?, width, 1, 1], true);
    } else {
        f.touch("decoder_hidden_size");
    }
    if let Task::Classification { labels } = task {
        classifier(&mut t, "classifier", before, labels);
    }
    let mut draft = staged(before, t.build(), layers, "segformer");
    if task == Task::Other && !is_segmentation {
        bare(&mut draft, &class);
    }
    Ok(draft)
}
