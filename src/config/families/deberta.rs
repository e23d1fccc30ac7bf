//! `DeBERTa` and its second generation: attention over relative positions, whose tables and projections the config turns on.

use super::bert::{CLASSIFIER, NARROW_PREDICTIONS, SPANS};
use super::decoder::{Draft, Tensors};
use super::encoder::{BERT_DEFAULTS, Block, Blocks, Defaults, Dim, Heads, Sizes, Spec};
use super::{ConfigError, Fields};
use Block::{Linear, Matrix, Norm, Table, Vector};
use Dim::{Embedding, Fixed, Hidden, Inner, Labels, Mapping, Own, Positions, Types, Vocab};

/// Positions relative to each other, poolers only in classifiers.
const HEADS: Heads = &[
    ("ForMaskedLM", NARROW_PREDICTIONS),
    ("ForSequenceClassification", &[("pooler.dense", Linear(Own, Own)), ("classifier", Linear(Own, Labels))]),
    ("ForMultipleChoice", &[("pooler.dense", Linear(Own, Own)), ("classifier", Linear(Own, Fixed(1)))]),
    ("ForTokenClassification", &[CLASSIFIER]),
    ("ForQuestionAnswering", &[SPANS]),
    ("Model", &[]),
];

const EMBEDDINGS: Blocks = &[
    ("deberta.embeddings.word_embeddings", Table(Vocab, Embedding)),
    ("deberta.embeddings.position_embeddings", Table(Positions, Embedding)),
    ("deberta.embeddings.token_type_embeddings", Table(Types, Embedding)),
    ("deberta.embeddings.embed_proj", Matrix(Embedding, Mapping)),
    ("deberta.embeddings.LayerNorm", Norm(Hidden)),
];

const REST: Blocks = &[
    ("attention.output.dense", Linear(Hidden, Hidden)),
    ("attention.output.LayerNorm", Norm(Hidden)),
    ("intermediate.dense", Linear(Hidden, Inner)),
    ("output.dense", Linear(Inner, Hidden)),
    ("output.LayerNorm", Norm(Hidden)),
];

/// What both generations read.
struct Deberta {
    sizes: Sizes,
    relative: bool,
    /// Rows of the table of relative positions on each side of zero.
    span: u64,
    content_to_position: bool,
    position_to_content: bool,
}

fn both(f: &Fields, class: &Defaults) -> Result<Deberta, ConfigError> {
    let sizes = Sizes::read(f, class)?;
    let relative = f.flag("relative_attention", false)?;
    let biased = f.flag("position_biased_input", true)?;
    // -1 stands for the longest input.
    let given = f.raw("max_relative_positions").and_then(serde_json::Value::as_i64).and_then(|n| u64::try_from(n).ok()).filter(|&n| n > 0);
    let types: Vec<String> = match f.raw("pos_att_type") {
        Some(serde_json::Value::String(text)) => text.to_lowercase().split('|').map(|kind| kind.trim().to_owned()).collect(),
        _ => f.optional_texts("pos_att_type")?.unwrap_or_default(),
    };
    let has = |kind: &str| types.iter().any(|given| given == kind);
    let (content_to_position, position_to_content) = (has("c2p"), has("p2c"));
    let embedding = f.optional_count("embedding_size")?.unwrap_or(sizes.hidden);
    let own = f.optional_count("pooler_hidden_size")?.unwrap_or(sizes.hidden);
    let span = given.unwrap_or(sizes.positions).min(1 << 40);
    let sizes = Sizes { embedding, own, positions: if biased { sizes.positions } else { 0 }, ..sizes };
    Ok(Deberta { sizes, relative, span, content_to_position, position_to_content })
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    const SPEC: Spec = Spec { base: "deberta", layer_prefix: "deberta.encoder.layer", outside: EMBEDDINGS, layer: &[], heads: HEADS };
    let Deberta { sizes, relative, span, content_to_position, position_to_content } = both(f, &Defaults { vocab: 50265, types: 0, ..BERT_DEFAULTS })?;
    let talking = f.flag("talking_head", false)?;
    let mut tensors = Tensors::default();
    tensors.linear("attention.self.in_proj", sizes.hidden, 3 * sizes.hidden, false);
    sizes.add(&mut tensors, "attention.self.q_bias", Vector(Hidden));
    sizes.add(&mut tensors, "attention.self.v_bias", Vector(Hidden));
    if relative && content_to_position {
        tensors.linear("attention.self.pos_proj", sizes.hidden, sizes.hidden, false);
    }
    if relative && position_to_content {
        tensors.linear("attention.self.pos_q_proj", sizes.hidden, sizes.hidden, true);
    }
    if talking {
        tensors.linear("attention.self.head_logits_proj", sizes.heads, sizes.heads, false).linear(
            "attention.self.head_weights_proj",
            sizes.heads,
            sizes.heads,
            false,
        );
    }
    tensors.extend(sizes.tensors(REST));
    let layer = tensors.build();
    let mut draft = SPEC.read(f, &sizes)?;
    if relative {
        draft.decoder.tensors.extend(Tensors::default().embedding("deberta.encoder.rel_embeddings", 2 * span, sizes.hidden).build());
    }
    for (_, tensors) in &mut draft.decoder.layers {
        tensors.clone_from(&layer);
    }
    Ok(draft)
}

pub(super) fn read2(f: &Fields) -> Result<Draft, ConfigError> {
    const SPEC: Spec = Spec { base: "deberta", layer_prefix: "deberta.encoder.layer", outside: EMBEDDINGS, layer: &[], heads: HEADS };
    let class = Defaults { vocab: 128_100, hidden: 1536, layers: 24, heads: 24, inner: 6144, positions: 512, types: 0 };
    let Deberta { mut sizes, relative, span, content_to_position, position_to_content } = both(f, &class)?;
    if let Some(head_dim) = f.optional_count("attention_head_size")? {
        sizes.head_dim = head_dim;
    }
    let shares = f.flag("share_att_key", false)?;
    let all = sizes.heads.saturating_mul(sizes.head_dim);
    let mut tensors = Tensors::default();
    let mut projection = |module: &str| _ = tensors.linear(module, sizes.hidden, all, true);
    projection("attention.self.query_proj");
    projection("attention.self.key_proj");
    projection("attention.self.value_proj");
    if relative && !shares && content_to_position {
        projection("attention.self.pos_key_proj");
    }
    if relative && !shares && position_to_content {
        projection("attention.self.pos_query_proj");
    }
    tensors.extend(sizes.tensors(REST));
    let layer = tensors.build();
    let mut outside = Tensors::default();
    let buckets = f.raw("position_buckets").and_then(serde_json::Value::as_i64).and_then(|n| u64::try_from(n).ok()).filter(|&n| n > 0);
    if relative {
        outside.embedding("deberta.encoder.rel_embeddings", 2 * buckets.unwrap_or(span).min(1 << 40), sizes.hidden);
    }
    if f.optional_text("norm_rel_ebd")?.is_some_and(|norms| norms.contains("layer_norm")) {
        outside.norm("deberta.encoder.LayerNorm", sizes.hidden, true);
    }
    let kernel = f.optional_count_or_zero("conv_kernel_size")?.unwrap_or(0);
    let groups = f.count_or("conv_groups", 1)?;
    if kernel > 0 {
        if !sizes.hidden.is_multiple_of(groups) {
            return Err(f.impossible("conv_groups", "it must divide `hidden_size`"));
        }
        outside.convolution("deberta.encoder.conv.conv", &[sizes.hidden, sizes.hidden / groups, kernel], true).norm(
            "deberta.encoder.conv.LayerNorm",
            sizes.hidden,
            true,
        );
    }
    f.optional_text("conv_act")?;
    let mut draft = SPEC.read(f, &sizes)?;
    draft.decoder.tensors.extend(outside.build());
    for (_, tensors) in &mut draft.decoder.layers {
        tensors.clone_from(&layer);
    }
    Ok(draft)
}
