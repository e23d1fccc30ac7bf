//! `ModernBERT`: rotary positions, a gated feed-forward, local attention in all but every third layer; the first layer has no norm before its attention.

use super::decoder::{Draft, Tensors};
use super::encoder::{Block, Defaults, Dim, Heads, Sizes, head_of};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Keeps, Span};
use Block::{Linear, Vector};
use Dim::{Fixed, Hidden, Labels, Own, Vocab};

const CLASS: Defaults = Defaults { vocab: 50368, hidden: 768, layers: 22, heads: 12, inner: 1152, positions: 0, types: 0 };

/// All but the bare model have `head` below these.
const HEADS: Heads = &[
    ("ForMaskedLM", &[("decoder.bias", Vector(Own)), ("decoder", Block::UntiedMatrix(Hidden, Vocab))]),
    ("ForSequenceClassification", &[("classifier", Linear(Hidden, Labels))]),
    ("ForTokenClassification", &[("classifier", Linear(Hidden, Labels))]),
    ("ForQuestionAnswering", &[("classifier", Linear(Hidden, Labels))]),
    ("ForMultipleChoice", &[("classifier", Linear(Hidden, Fixed(1)))]),
    ("Model", &[]),
];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let sizes = Sizes::read(f, &CLASS)?;
    let (hidden, inner, vocab) = (sizes.hidden, sizes.inner, sizes.vocab);
    f.optional_text("position_embedding_type")?;
    let norm_bias = f.flag("norm_bias", false)?;
    let attention_bias = f.flag("attention_bias", false)?;
    let mlp_bias = f.flag("mlp_bias", false)?;
    let classifier_bias = f.flag("classifier_bias", false)?;
    let decoder_bias = f.flag("decoder_bias", true)?;
    let sizes = Sizes { own: if decoder_bias { vocab } else { 0 }, gated: true, ..sizes };
    let mut assumptions = Vec::new();
    let head = head_of(f, HEADS, &mut assumptions)?;
    let mut tensors = Tensors::default();
    tensors.embedding("model.embeddings.tok_embeddings", vocab, hidden).norm("model.embeddings.norm", hidden, norm_bias).norm(
        "model.final_norm",
        hidden,
        norm_bias,
    );
    if !head.is_empty() {
        tensors.linear("head.dense", hidden, hidden, classifier_bias).norm("head.norm", hidden, norm_bias);
    }
    tensors.extend(sizes.tensors(head));
    let spans = spans(f, sizes.layers)?;
    let layers = (0..).zip(spans).map(|(number, span): (u64, Span)| {
        let mut tensors = Tensors::default();
        if number > 0 {
            tensors.norm("attn_norm", hidden, norm_bias);
        }
        tensors
            .linear("attn.Wqkv", hidden, 3 * hidden, attention_bias)
            .linear("attn.Wo", hidden, hidden, attention_bias)
            .norm("mlp_norm", hidden, norm_bias)
            .linear("mlp.Wi", hidden, 2 * inner, mlp_bias)
            .linear("mlp.Wo", inner, hidden, mlp_bias);
        (sizes.layer(span, Keeps::Nothing), tensors.build())
    });
    let layers = layers.collect();
    Ok(Draft { assumptions, ..sizes.model(ComponentKind::TextEncoder, "model", "model.layers", tensors.build(), layers) })
}

/// `layer_types`, else full attention in every `global_attn_every_n_layers`-th layer from the first on.
fn spans(f: &Fields, layers: u64) -> Result<Vec<Span>, ConfigError> {
    let window = f.count_or("local_attention", 128)?;
    let every = f.step_or("global_attn_every_n_layers", 3, &["layer_types"])?;
    let Some(types) = f.optional_texts("layer_types")? else {
        return Ok((0..layers).map(|number| if number.is_multiple_of(every) { Span::Full } else { Span::Sliding(window) }).collect());
    };
    if types.len() as u64 != layers {
        return Err(f.impossible("layer_types", "it must have one entry per layer (`num_hidden_layers`)"));
    }
    let span = |kind: &String| match kind.as_str() {
        "full_attention" => Ok(Span::Full),
        "sliding_attention" => Ok(Span::Sliding(window)),
        _ => Err(f.impossible("layer_types", "only `full_attention` and `sliding_attention` are known for this model type")),
    };
    types.iter().map(span).collect()
}
