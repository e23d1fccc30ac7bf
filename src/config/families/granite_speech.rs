//! Granite Speech: a conformer over spectrograms, a Q-Former over windows of its frames, Granite.

use super::blip::q_former;
use super::decoder::{Draft, Head, Tensors, component};
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_in};
use super::towers::{TowerShape, audio_tower};
use super::{ConfigError, Fields};
use crate::model::{Component, ComponentKind, Mixer, Role, Span};

/// `GraniteSpeechEncoderConfig` of transformers 5.23.
const ENCODER: &[(&str, u64)] = &[
    ("input_dim", 160),
    ("num_layers", 10),
    ("hidden_dim", 1024),
    ("feedforward_mult", 4),
    ("num_heads", 8),
    ("output_dim", 42),
    ("max_pos_emb", 512),
    ("conv_kernel_size", 15),
    ("conv_expansion_factor", 2),
];

/// `Blip2QFormerConfig`.
const FORMER: &[(&str, u64)] = &[
    ("vocab_size", 30_522),
    ("hidden_size", 768),
    ("num_hidden_layers", 12),
    ("num_attention_heads", 12),
    ("intermediate_size", 3072),
    ("max_position_embeddings", 512),
    ("encoder_hidden_size", 1408),
];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper =
        Wrapper { default_type: "granite", names: Names::Inside("model.language_model"), head: Head::ByArchitecture, tie: Tie::Wrapper { default: true } };
    let text = f.part(TEXT_CONFIGS)?;
    let draft = language_in(f, &text, &wrapper)?;
    let width = draft.decoder.shape.hidden;
    let encoder = conformer(&f.part(&["encoder_config"])?.with_defaults(ENCODER))?;
    let fields = f.part(&["projector_config"])?.with_defaults(FORMER);
    fields.touch("model_type");
    let mut former = q_former(&fields, fields.count("encoder_hidden_size")?, false)?;
    // One query per token that a window of frames becomes.
    let (window, rate) = (f.count_or("window_size", 15)?, f.count_or("downsample_rate", 5)?);
    for layers in &mut former.layers {
        if let Mixer::Attention(attention) = &mut layers.layer.mixer {
            attention.span = Span::Chunked(window);
        }
    }
    // The adapter is in a file of its own, and loaded for speech only.
    f.touch("has_lora_adapter");
    let projector = Tensors::default()
        .tensor("model.projector.query", Role::Other, &[1, window / rate, former.hidden_size])
        .linear("model.projector.linear", former.hidden_size, width, true)
        .build();
    Ok(draft.with(encoder).with(former).with(component("projector", ComponentKind::Projector, width, "", projector, Vec::new())))
}

/// Two half feed-forwards around attention with relative positions and a gated convolution; in the middle it predicts characters.
fn conformer(f: &Fields) -> Result<Component, ConfigError> {
    let (hidden, output) = (f.count("hidden_dim")?, f.count("output_dim")?);
    let inner = hidden.saturating_mul(f.count("feedforward_mult")?);
    let tower = TowerShape { hidden, layers: f.count("num_layers")?, heads: f.count("num_heads")?, intermediate: inner, gated: false };
    let tower = tower.checked(f, "num_layers", "num_heads")?;
    let head = f.optional_count("dim_head")?.unwrap_or(hidden / tower.heads);
    let (queries, wide) = (head.saturating_mul(tower.heads), hidden.saturating_mul(f.count("conv_expansion_factor")?));
    let mut t = Tensors::default();
    for name in ["ff1", "ff2"] {
        t.norm(&format!("{name}.pre_norm"), hidden, true).linear(&format!("{name}.up_proj"), hidden, inner, true).linear(
            &format!("{name}.down_proj"),
            inner,
            hidden,
            true,
        );
    }
    let layer = t
        .norm("attn.pre_norm", hidden, true)
        .linear("attn.to_q", hidden, queries, false)
        .linear("attn.to_kv", hidden, queries.saturating_mul(2), false)
        .linear("attn.to_out", queries, hidden, true)
        .embedding("attn.rel_pos_emb", f.count("max_pos_emb")?.saturating_mul(2).saturating_add(1), head)
        .norm("conv.norm", hidden, true)
        .convolution("conv.up_conv", &[wide.saturating_mul(2), hidden, 1], true)
        .convolution("conv.depth_conv.conv", &[wide, 1, f.count("conv_kernel_size")?], false)
        .norm("conv.batch_norm", wide, true)
        .convolution("conv.down_conv", &[hidden, wide, 1], true)
        .norm("post_norm", hidden, true)
        .build();
    let outside = Tensors::default()
        .linear("model.encoder.input_linear", f.count("input_dim")?, hidden, true)
        .linear("model.encoder.out", hidden, output, true)
        .linear("model.encoder.out_mid", output, hidden, true)
        .build();
    f.touch("model_type");
    // Blocks of frames attend to themselves.
    let span = Span::Chunked(f.count_or("context_size", 200)?);
    Ok(audio_tower(hidden, "model.encoder.layers", outside, tower.layers_within(span, head, &layer)))
}
