//! wav2vec 2.0 BERT: Conformer layers (two half feed-forwards around attention and a convolution) over filter banks.

use super::decoder::{Draft, Tensors};
use super::encoder::{Defaults, Sizes, without_head};
use super::wav2vec2::task_head;
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Keeps, Role};

const CLASS: Defaults = Defaults { vocab: 32, hidden: 1024, layers: 24, heads: 16, inner: 4096, positions: 0, types: 0 };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let or = |key: &str, default: u64| f.count_or(key, default);
    let sizes = Sizes::read(f, &CLASS)?;
    let (hidden, inner) = (sizes.hidden, sizes.inner);
    for key in ["add_adapter", "use_intermediate_ffn_before_adapter"] {
        if f.flag(key, false)? {
            return Err(f.impossible(key, "its adapters are not understood"));
        }
    }
    for key in ["output_hidden_size", "max_source_positions", "adapter_kernel_size", "num_adapter_layers", "rotary_embedding_base"] {
        f.touch(key);
    }
    let banks = or("feature_projection_input_dim", 160)?;
    let mut tensors = Tensors::default();
    if f.optional_number("mask_time_prob")?.unwrap_or(0.05) > 0.0 || f.optional_number("mask_feature_prob")?.unwrap_or(0.0) > 0.0 {
        tensors.tensor("wav2vec2_bert.masked_spec_embed", Role::Other, &[hidden]);
    }
    tensors.norm("wav2vec2_bert.feature_projection.layer_norm", banks, true).linear("wav2vec2_bert.feature_projection.projection", banks, hidden, true);
    task_head(f, &sizes, hidden, 768, &mut tensors)?;
    let kernel = or("conv_depthwise_kernel_size", 31)?;
    let reach = or("left_max_position_embeddings", 64)? + or("right_max_position_embeddings", 8)? + 1;
    let mut layer = Tensors::default();
    for half in ["ffn1", "ffn2"] {
        layer.norm(&format!("{half}_layer_norm"), hidden, true).linear(&format!("{half}.intermediate_dense"), hidden, inner, true).linear(
            &format!("{half}.output_dense"),
            inner,
            hidden,
            true,
        );
    }
    for leaf in ["linear_q", "linear_k", "linear_v", "linear_out"] {
        layer.linear(&format!("self_attn.{leaf}"), hidden, hidden, true);
    }
    match f.optional_text("position_embeddings_type")?.as_deref() {
        None if f.has("position_embeddings_type") => {}
        Some("rotary") => {}
        None | Some("relative_key") => _ = layer.embedding("self_attn.distance_embedding", reach, sizes.head_dim),
        Some("relative") => {
            layer.linear("self_attn.linear_pos", hidden, hidden, false);
            for name in ["self_attn.pos_bias_u", "self_attn.pos_bias_v"] {
                layer.tensor(name, Role::Position, &[sizes.heads, sizes.head_dim]);
            }
        }
        Some(_) => return Err(f.impossible("position_embeddings_type", "it must be `relative_key`, `relative` or `rotary`")),
    }
    layer
        .convolution("conv_module.pointwise_conv1", &[2 * hidden, hidden, 1], false)
        .convolution("conv_module.depthwise_conv", &[hidden, 1, kernel], false)
        .convolution("conv_module.pointwise_conv2", &[hidden, hidden, 1], false);
    for name in ["self_attn_layer_norm", "conv_module.layer_norm", "conv_module.depthwise_layer_norm", "final_layer_norm"] {
        layer.norm(name, hidden, true);
    }
    let layers = sizes.equal_layers(Keeps::Nothing, &layer.build());
    let mut draft = sizes.model(ComponentKind::AudioTower, "wav2vec2_bert", "wav2vec2_bert.encoder.layers", tensors.build(), layers);
    draft.assumptions.extend(without_head(f, &["ForCTC", "ForSequenceClassification", "ForAudioFrameClassification", "ForXVector"])?);
    Ok(draft)
}
