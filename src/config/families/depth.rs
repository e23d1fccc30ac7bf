//! What networks that see depth share above their backbones: maps brought to several scales, and fused from the smallest up.

use super::backbones::Usual;
use super::decoder::Tensors;
use super::networks::size;
use super::vision::{linear, norm, per_stage};
use super::{ConfigError, Fields};
use crate::model::Role;

/// `DINOv2`, as Depth Anything takes it.
pub(super) const DINOV2: Usual =
    Usual { model_type: "dinov2", config: r#"{"image_size": 518, "patch_size": 14, "num_attention_heads": 6, "hidden_size": 384}"#, stages: &[9, 10, 11, 12] };

/// How a network brings maps to scales and fuses them.
pub(super) struct Neck<'a> {
    /// Channels of the maps that it reads: one for all, or one each.
    pub inputs: &'a [u64],
    /// Whether maps are made of tokens first, and which tokens besides them are joined.
    pub reassembles: bool,
    pub reads_class_token: bool,
    pub default_widths: &'a [u64],
    pub default_fused: u64,
    /// Whether fusion blocks read a coarse map of depths too.
    pub is_prompted: bool,
}

impl Neck<'_> {
    /// Its tensors; gives the width of what is fused.
    pub(super) fn add(&self, f: &Fields, t: &mut Tensors) -> Result<u64, ConfigError> {
        let widths = per_stage(f, "neck_hidden_sizes", self.default_widths)?;
        let fused = size(f, "fusion_hidden_size", self.default_fused)?;
        let factors = match f.raw("reassemble_factors") {
            None => vec![4.0, 2.0, 1.0, 0.5],
            Some(value) => value.as_array().and_then(|list| list.iter().map(serde_json::Value::as_f64).collect::<Option<Vec<_>>>()).unwrap_or_default(),
        };
        if self.reassembles && (factors.len() != widths.len() || factors.iter().any(|&factor| !(factor > 0.0 && factor <= 1024.0))) {
            return Err(f.impossible("reassemble_factors", "it must have one factor per entry of `neck_hidden_sizes`"));
        }
        let normed = f.flag("use_batch_norm_in_fusion_residual", false)?;
        let bias = f.optional_flag("use_bias_in_fusion_residual")?.unwrap_or(!normed);
        for (number, &width) in widths.iter().enumerate() {
            let hidden = self.inputs.get(number).or(self.inputs.last()).copied().unwrap_or(0);
            if self.reassembles {
                let at = format!("neck.reassemble_stage.layers.{number}");
                t.convolution(&format!("{at}.projection"), &[width, hidden, 1, 1], true);
                // Transposed to enlarge, nothing to keep, 3 x 3 to shrink.
                if factors[number] > 1.0 {
                    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                    let side = factors[number] as u64;
                    t.convolution(&format!("{at}.resize"), &[width, width, side, side], true);
                } else if factors[number] < 1.0 {
                    t.convolution(&format!("{at}.resize"), &[width, width, 3, 3], true);
                }
                if self.reads_class_token {
                    linear(t, Role::Other, &format!("neck.reassemble_stage.readout_projects.{number}.0"), hidden.saturating_mul(2), hidden, true);
                }
            }
            t.convolution(&format!("neck.convs.{number}"), &[fused, width, 3, 3], false);
            let at = format!("neck.fusion_stage.layers.{number}");
            t.convolution(&format!("{at}.projection"), &[fused, fused, 1, 1], true);
            for half in [1, 2] {
                for step in [1, 2] {
                    t.convolution(&format!("{at}.residual_layer{half}.convolution{step}"), &[fused, fused, 3, 3], bias);
                    if normed {
                        norm(t, &format!("{at}.residual_layer{half}.batch_norm{step}"), fused, true);
                    }
                }
            }
            if self.is_prompted {
                for (step, inputs) in [(1, 1), (2, fused), (3, fused)] {
                    t.convolution(&format!("{at}.prompt_depth_layer.convolution{step}"), &[fused, inputs, 3, 3], true);
                }
            }
        }
        Ok(fused)
    }
}
