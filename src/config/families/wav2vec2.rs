//! wav2vec 2.0 and its kin (`HuBERT`, `WavLM`, `UniSpeech`, data2vec-audio): convolutions over samples, a convolution over positions and a
//! bidirectional stack; heads by class.

use super::audio::{feature_extractor, grouped_inputs, of_samples, position_convolution, wav2vec2_windows, x_vector};
use super::decoder::{Draft, Tensors};
use super::encoder::{Defaults, Sizes, without_head};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Keeps, Role, Span, Tensor, Window};

const CLASS: Defaults = Defaults { vocab: 32, hidden: 768, layers: 12, heads: 12, inner: 3072, positions: 0, types: 0 };

/// What differs.
#[allow(clippy::struct_excessive_bools)] // Independent facts about a class.
#[derive(Clone, Copy)]
struct Kin {
    base: &'static str,
    layer_prefix: &'static str,
    /// `HuBERT` may leave the norm before the projection out.
    optional_norm: bool,
    /// `WavLM`'s gated relative positions.
    gated_positions: bool,
    /// data2vec: several plain convolutions over positions, norms after every convolution.
    plain_positions: bool,
    /// Whether the class has adapters of wav2vec 2.0's kind.
    adapters: bool,
    /// Whether the vector that stands for masked frames is there though nothing is masked.
    always_masks: bool,
    /// Conformer layers: two half feed-forwards around attention and a convolution.
    conformer: bool,
}

const WAV2VEC2: Kin = Kin {
    base: "wav2vec2",
    layer_prefix: "wav2vec2.encoder.layers",
    optional_norm: false,
    gated_positions: false,
    plain_positions: false,
    adapters: true,
    always_masks: false,
    conformer: false,
};

pub(super) fn read_wav2vec2(f: &Fields) -> Result<Draft, ConfigError> {
    read(f, &WAV2VEC2)
}

pub(super) fn read_hubert(f: &Fields) -> Result<Draft, ConfigError> {
    read(f, &Kin { base: "hubert", layer_prefix: "hubert.encoder.layers", optional_norm: true, adapters: false, ..WAV2VEC2 })
}

pub(super) fn read_wavlm(f: &Fields) -> Result<Draft, ConfigError> {
    read(f, &Kin { base: "wavlm", layer_prefix: "wavlm.encoder.layers", gated_positions: true, ..WAV2VEC2 })
}

pub(super) fn read_unispeech(f: &Fields) -> Result<Draft, ConfigError> {
    read(f, &Kin { base: "unispeech", layer_prefix: "unispeech.encoder.layers", adapters: false, ..WAV2VEC2 })
}

pub(super) fn read_unispeech_sat(f: &Fields) -> Result<Draft, ConfigError> {
    read(f, &Kin { base: "unispeech_sat", layer_prefix: "unispeech_sat.encoder.layers", adapters: false, always_masks: true, ..WAV2VEC2 })
}

pub(super) fn read_data2vec_audio(f: &Fields) -> Result<Draft, ConfigError> {
    read(f, &Kin { base: "data2vec_audio", layer_prefix: "data2vec_audio.encoder.layers", plain_positions: true, ..WAV2VEC2 })
}

pub(super) fn read_conformer(f: &Fields) -> Result<Draft, ConfigError> {
    for key in ["max_source_positions", "rotary_embedding_base", "conformer_conv_dropout"] {
        f.touch(key);
    }
    read(f, &Kin { base: "wav2vec2_conformer", layer_prefix: "wav2vec2_conformer.encoder.layers", conformer: true, ..WAV2VEC2 })
}

/// A conformer layer: positions relative to each other have a matrix and two biases per head.
fn conformer_layer(f: &Fields, sizes: &Sizes) -> Result<Vec<Tensor>, ConfigError> {
    let (hidden, inner) = (sizes.hidden, sizes.inner);
    let kernel = f.count_or("conv_depthwise_kernel_size", 31)?;
    let mut t = Tensors::default();
    for half in ["ffn1", "ffn2"] {
        t.norm(&format!("{half}_layer_norm"), hidden, true).linear(&format!("{half}.intermediate_dense"), hidden, inner, true).linear(
            &format!("{half}.output_dense"),
            inner,
            hidden,
            true,
        );
    }
    t.norm("self_attn_layer_norm", hidden, true);
    for leaf in ["linear_q", "linear_k", "linear_v", "linear_out"] {
        t.linear(&format!("self_attn.{leaf}"), hidden, hidden, true);
    }
    if f.optional_text("position_embeddings_type")?.map_or(!f.has("position_embeddings_type"), |kind| kind == "relative") {
        t.linear("self_attn.linear_pos", hidden, hidden, false).tensor("self_attn.pos_bias_u", Role::Position, &[sizes.heads, sizes.head_dim]).tensor(
            "self_attn.pos_bias_v",
            Role::Position,
            &[sizes.heads, sizes.head_dim],
        );
    }
    t.norm("conv_module.layer_norm", hidden, true)
        .convolution("conv_module.pointwise_conv1", &[hidden.saturating_mul(2), hidden, 1], false)
        .convolution("conv_module.depthwise_conv", &[hidden, 1, kernel], false)
        .norm("conv_module.batch_norm", hidden, true)
        .convolution("conv_module.pointwise_conv2", &[hidden, hidden, 1], false)
        .norm("final_layer_norm", hidden, true);
    Ok(t.build())
}

fn read(f: &Fields, kin: &Kin) -> Result<Draft, ConfigError> {
    let or = |key: &str, default: u64| f.count_or(key, default);
    let sizes = Sizes::read(f, &CLASS)?;
    let hidden = sizes.hidden;
    let module = |leaf: &str| format!("{}.{leaf}", kin.base);
    let mut tensors = Tensors::default();
    // Most classes make the vector that stands for masked frames only when they may mask.
    let masks_time = f.optional_number("mask_time_prob")?.unwrap_or(0.05) > 0.0;
    let masks_features = f.optional_number("mask_feature_prob")?.unwrap_or(0.0) > 0.0;
    if masks_time || masks_features || kin.always_masks {
        tensors.tensor(&module("masked_spec_embed"), Role::Other, &[hidden]);
    }
    let frames = feature_extractor(f, &mut tensors, &module("feature_extractor"), kin.plain_positions)?;
    if !kin.optional_norm || f.flag("feat_proj_layer_norm", true)? {
        tensors.norm(&module("feature_projection.layer_norm"), frames, true);
    }
    tensors.linear(&module("feature_projection.projection"), frames, hidden, true);
    if kin.plain_positions {
        let kernel = or("conv_pos_kernel_size", 19)?;
        let inputs = grouped_inputs(f, hidden)?;
        for number in 0..or("num_conv_pos_embeddings", 5)?.min(1000) {
            tensors.convolution(&module(&format!("encoder.pos_conv_embed.layers.{number}.conv")), &[hidden, inputs, kernel], true);
        }
    } else if kin.optional_norm && f.flag("conv_pos_batch_norm", false)? {
        let kernel = or("num_conv_pos_embeddings", 128)?;
        tensors.convolution(&module("encoder.pos_conv_embed.conv"), &[hidden, grouped_inputs(f, hidden)?, kernel], true).norm(
            &module("encoder.pos_conv_embed.batch_norm"),
            hidden,
            true,
        );
    } else {
        position_convolution(f, &mut tensors, &module("encoder.pos_conv_embed"), hidden)?;
    }
    tensors.norm(&module("encoder.layer_norm"), hidden, true);
    let mut windows = wav2vec2_windows(f)?;
    let output = adapter(f, kin, hidden, &mut tensors, &mut windows)?;
    head(f, &sizes, output, &mut tensors)?;
    let stable = f.flag("do_stable_layer_norm", false)?;
    let bottleneck = f.optional_count("adapter_attn_dim")?.filter(|_| stable && !kin.gated_positions);
    let buckets = or("num_buckets", 320)?;
    let conformer = if kin.conformer { Some(conformer_layer(f, &sizes)?) } else { None };
    let layers = (0..sizes.layers).map(|number| {
        if let Some(layer) = &conformer {
            return (sizes.layer(Span::Full, Keeps::Nothing), layer.clone());
        }
        let mut tensors = Tensors::default();
        for leaf in ["k_proj", "v_proj", "q_proj", "out_proj"] {
            tensors.linear(&format!("attention.{leaf}"), hidden, hidden, true);
        }
        if kin.gated_positions {
            tensors.tensor("attention.gru_rel_pos_const", Role::Position, &[1, sizes.heads, 1, 1]).linear(
                "attention.gru_rel_pos_linear",
                sizes.head_dim,
                8,
                true,
            );
            if number == 0 {
                tensors.embedding("attention.rel_attn_embed", buckets, sizes.heads);
            }
        }
        tensors
            .norm("layer_norm", hidden, true)
            .linear("feed_forward.intermediate_dense", hidden, sizes.inner, true)
            .linear("feed_forward.output_dense", sizes.inner, hidden, true)
            .norm("final_layer_norm", hidden, true);
        if let Some(width) = bottleneck {
            tensors.norm("adapter_layer.norm", hidden, true).linear("adapter_layer.linear_1", hidden, width, true).linear(
                "adapter_layer.linear_2",
                width,
                hidden,
                true,
            );
        }
        (sizes.layer(Span::Full, Keeps::Nothing), tensors.build())
    });
    let layers = layers.collect();
    let mut draft = sizes.model(ComponentKind::AudioTower, kin.base, kin.layer_prefix, tensors.build(), layers);
    draft.work = of_samples(windows);
    if kin.base.starts_with("unispeech") && f.architecture()?.is_some_and(|class| class.ends_with("ForPreTraining")) {
        draft.assumptions.push("the heads of its pretraining are counted as those of wav2vec 2.0, which are a little smaller".to_owned());
    }
    draft.assumptions.extend(without_head(f, &["ForCTC", "ForSequenceClassification", "ForAudioFrameClassification", "ForXVector", "ForPreTraining"])?);
    Ok(draft)
}

/// Convolutions that shorten the output, where there are any; the width that the heads then see.
fn adapter(f: &Fields, kin: &Kin, hidden: u64, tensors: &mut Tensors, windows: &mut Vec<Window>) -> Result<u64, ConfigError> {
    if !kin.adapters || !f.flag("add_adapter", false)? {
        f.touch("output_hidden_size");
        return Ok(hidden);
    }
    let or = |key: &str, default: u64| f.count_or(key, default);
    let output = or("output_hidden_size", hidden)?;
    let kernel = or("adapter_kernel_size", 3)?;
    let stride = f.optional_count("adapter_stride")?.unwrap_or(2);
    let module = |leaf: &str| format!("{}.adapter.{leaf}", kin.base);
    if output != hidden {
        tensors.linear(&module("proj"), hidden, output, true).norm(&module("proj_layer_norm"), output, true);
    }
    for number in 0..or("num_adapter_layers", 3)?.min(1000) {
        tensors.convolution(&module(&format!("layers.{number}.conv")), &[2 * output, output, kernel], true);
        windows.push(Window { kernel, stride, padding: 1 });
    }
    Ok(output)
}

/// What stands above the encoder, which writes `output` wide, for words and for classes of sounds and speakers.
pub(super) fn task_head(f: &Fields, sizes: &Sizes, output: u64, default_projection: u64, tensors: &mut Tensors) -> Result<(), ConfigError> {
    let class = f.architecture()?.unwrap_or_default();
    let is = |ending: &str| class.ends_with(ending);
    let projection = f.count_or("classifier_proj_size", default_projection)?;
    if f.flag("use_weighted_layer_sum", false)? && (is("Classification") || is("XVector")) {
        tensors.tensor("layer_weights", Role::Other, &[sizes.layers + 1]);
    }
    if !is("ForCTC") {
        f.not_counted("vocab_size");
    } else if f.has("vocab_size") && f.raw("vocab_size").is_none() {
        return Err(f.impossible("vocab_size", "the head of a CTC model needs it"));
    }
    if is("ForCTC") {
        tensors.linear("lm_head", output, sizes.vocab, true);
    } else if is("ForSequenceClassification") {
        tensors.linear("projector", sizes.hidden, projection, true).linear("classifier", projection, sizes.labels, true);
    } else if is("ForAudioFrameClassification") {
        tensors.linear("classifier", sizes.hidden, sizes.labels, true);
    } else if is("ForXVector") {
        tensors.extend(x_vector(f, sizes.hidden, sizes.labels)?);
    }
    Ok(())
}

fn head(f: &Fields, sizes: &Sizes, output: u64, tensors: &mut Tensors) -> Result<(), ConfigError> {
    task_head(f, sizes, output, 256, tensors)?;
    if f.architecture()?.is_some_and(|class| class.ends_with("ForPreTraining")) {
        let or = |key: &str, default: u64| f.count_or(key, default);
        let (groups, vectors) = (or("num_codevector_groups", 2)?, or("num_codevectors_per_group", 320)?);
        let (codes, projected) = (or("codevector_dim", 256)?, or("proj_codevector_dim", 256)?);
        let frames = f.optional_counts("conv_dim")?.and_then(|widths| widths.last().copied()).unwrap_or(512);
        let entries = groups.saturating_mul(vectors);
        tensors
            .tensor("quantizer.codevectors", Role::Other, &[1, entries, codes / groups])
            .linear("quantizer.weight_proj", frames, entries, true)
            .linear("project_hid", sizes.hidden, projected, true)
            .linear("project_q", codes, projected, true);
    }
    Ok(())
}
