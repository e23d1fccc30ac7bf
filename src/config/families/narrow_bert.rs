//! BERT with embeddings of another width than its layers': ELECTRA, `RemBERT`, `RoFormer`, ALBERT (whose layers are one), `SqueezeBERT`.

use super::bert::{CHOICE, CLASSIFIER, DEEP_CLASSIFIER, LAYER, NARROW_PREDICTIONS, SPANS, predictions};
use super::decoder::{Draft, Tensors};
use super::encoder::{BERT_DEFAULTS, Block, Blocks, Defaults, Dim, Heads, Sizes, Spec, embeddings};
use super::{ConfigError, Fields};
use crate::model::Role;
use Block::{Linear, Norm, Table, UntiedLinear, UntiedMatrix, Vector};
use Dim::{Embedding, Fixed, Hidden, Inner, Labels, Mapping, Own, Positions, Types, Vocab};

/// ELECTRA never pools; its generator predicts at the width of the embedding.
const GENERATOR: Blocks = &[
    ("generator_predictions.LayerNorm", Norm(Embedding)),
    ("generator_predictions.dense", Linear(Hidden, Embedding)),
    ("generator_lm_head.bias", Vector(Vocab)),
    ("generator_lm_head", UntiedMatrix(Embedding, Vocab)),
];

pub(super) const ELECTRA_HEADS: Heads = &[
    (
        "ForPreTraining",
        &[("discriminator_predictions.dense", Linear(Hidden, Hidden)), ("discriminator_predictions.dense_prediction", Linear(Hidden, Fixed(1)))],
    ),
    ("ForMaskedLM", GENERATOR),
    ("ForCausalLM", GENERATOR),
    ("ForSequenceClassification", DEEP_CLASSIFIER),
    ("ForMultipleChoice", &[("sequence_summary.summary", Linear(Hidden, Hidden)), CHOICE]),
    ("ForTokenClassification", &[CLASSIFIER]),
    ("ForQuestionAnswering", &[SPANS]),
    ("Model", &[]),
];

const ELECTRA: Spec = Spec {
    base: "electra",
    layer_prefix: "electra.encoder.layer",
    outside: embeddings!("electra", "electra.embeddings_project" => Linear(Embedding, Mapping)),
    layer: LAYER,
    heads: ELECTRA_HEADS,
};

const REMBERT_LM_HEAD: Blocks =
    &[("cls.predictions.dense", Linear(Hidden, Own)), ("cls.predictions.LayerNorm", Norm(Own)), ("cls.predictions.decoder", Linear(Own, Vocab))];

const REMBERT: Spec = Spec {
    base: "rembert",
    layer_prefix: "rembert.encoder.layer",
    outside: embeddings!("rembert", "rembert.encoder.embedding_hidden_mapping_in" => Linear(Embedding, Hidden)),
    layer: LAYER,
    heads: &[
        ("ForMaskedLM", REMBERT_LM_HEAD),
        ("ForCausalLM", REMBERT_LM_HEAD),
        ("ForSequenceClassification", &[("rembert.pooler.dense", Linear(Hidden, Hidden)), CLASSIFIER]),
        ("ForMultipleChoice", &[("rembert.pooler.dense", Linear(Hidden, Hidden)), CHOICE]),
        ("ForTokenClassification", &[CLASSIFIER]),
        ("ForQuestionAnswering", &[SPANS]),
        ("Model", &[("rembert.pooler.dense", Linear(Hidden, Hidden))]),
    ],
};

/// `RoFormer` turns queries and keys, so its positions are not among the embeddings.
const ROFORMER: Spec = Spec {
    base: "roformer",
    layer_prefix: "roformer.encoder.layer",
    outside: &[
        ("roformer.embeddings.word_embeddings", Table(Vocab, Embedding)),
        ("roformer.embeddings.token_type_embeddings", Table(Types, Embedding)),
        ("roformer.embeddings.LayerNorm", Norm(Embedding)),
        ("roformer.embeddings_project", Linear(Embedding, Mapping)),
        ("roformer.encoder.embed_positions", Table(Positions, Own)),
    ],
    layer: LAYER,
    heads: &[
        ("ForMaskedLM", NARROW_PREDICTIONS),
        ("ForCausalLM", NARROW_PREDICTIONS),
        ("ForSequenceClassification", DEEP_CLASSIFIER),
        ("ForMultipleChoice", &[CHOICE]),
        ("ForTokenClassification", &[CLASSIFIER]),
        ("ForQuestionAnswering", &[("qa_outputs", Linear(Hidden, Fixed(2)))]),
        ("Model", &[]),
    ],
};

pub(super) fn read_electra(f: &Fields) -> Result<Draft, ConfigError> {
    let sizes = Sizes::read(f, &Defaults { hidden: 256, heads: 4, inner: 1024, ..BERT_DEFAULTS })?;
    ELECTRA.read(f, &Sizes { embedding: f.count_or("embedding_size", 128)?, ..sizes })
}

pub(super) fn read_rembert(f: &Fields) -> Result<Draft, ConfigError> {
    let class = Defaults { vocab: 250_300, hidden: 1152, layers: 32, heads: 18, inner: 4608, ..BERT_DEFAULTS };
    let (embedding, own) = (f.count_or("input_embedding_size", 256)?, f.count_or("output_embedding_size", 1664)?);
    REMBERT.read(f, &Sizes { embedding, own, ..Sizes::read(f, &class)? })
}

pub(super) fn read_roformer(f: &Fields) -> Result<Draft, ConfigError> {
    f.flag("rotary_value", false)?;
    let sizes = Sizes::read(f, &Defaults { vocab: 50000, positions: 1536, ..BERT_DEFAULTS })?;
    ROFORMER.read(f, &Sizes { embedding: f.optional_count("embedding_size")?.unwrap_or(sizes.hidden), own: sizes.head_dim, ..sizes })
}

/// ALBERT: all layers of a group are one. The first layers have the groups' tensors, the others pass tokens through them.
pub(super) fn read_albert(f: &Fields) -> Result<Draft, ConfigError> {
    const PREDICTIONS: Blocks = &[
        ("predictions.bias", Vector(Vocab)),
        ("predictions.LayerNorm", Norm(Embedding)),
        ("predictions.dense", Linear(Hidden, Embedding)),
        ("predictions.decoder", UntiedLinear(Embedding, Vocab)),
    ];
    const ALBERT: Spec = Spec {
        base: "albert",
        layer_prefix: "albert.encoder.albert_layer_groups",
        outside: embeddings!("albert", "albert.encoder.embedding_hidden_mapping_in" => Linear(Embedding, Hidden)),
        layer: &[],
        heads: &[
            (
                "ForPreTraining",
                &[
                    ("albert.pooler", Linear(Hidden, Hidden)),
                    ("sop_classifier.classifier", Linear(Hidden, Labels)),
                    ("predictions.bias", Vector(Vocab)),
                    ("predictions.LayerNorm", Norm(Embedding)),
                    ("predictions.dense", Linear(Hidden, Embedding)),
                    ("predictions.decoder", UntiedLinear(Embedding, Vocab)),
                ],
            ),
            ("ForMaskedLM", PREDICTIONS),
            ("ForSequenceClassification", &[("albert.pooler", Linear(Hidden, Hidden)), CLASSIFIER]),
            ("ForMultipleChoice", &[("albert.pooler", Linear(Hidden, Hidden)), CHOICE]),
            ("ForTokenClassification", &[CLASSIFIER]),
            ("ForQuestionAnswering", &[SPANS]),
            ("Model", &[("albert.pooler", Linear(Hidden, Hidden))]),
        ],
    };
    const SHARED: Blocks = &[
        ("full_layer_layer_norm", Norm(Hidden)),
        ("attention.query", Linear(Hidden, Hidden)),
        ("attention.key", Linear(Hidden, Hidden)),
        ("attention.value", Linear(Hidden, Hidden)),
        ("attention.dense", Linear(Hidden, Hidden)),
        ("attention.LayerNorm", Norm(Hidden)),
        ("ffn", Linear(Hidden, Inner)),
        ("ffn_output", Linear(Inner, Hidden)),
    ];
    let sizes = Sizes::read(f, &Defaults { vocab: 30000, hidden: 4096, heads: 64, inner: 16384, ..BERT_DEFAULTS })?;
    let sizes = Sizes { embedding: f.count_or("embedding_size", 128)?, ..sizes };
    let groups = super::encoder::layer_count(f, "num_hidden_groups", 1)?;
    let repeats = super::encoder::layer_count(f, "inner_group_num", 1)?;
    if groups.saturating_mul(repeats) > 10_000 {
        return Err(f.impossible("num_hidden_groups", "no model has more than 10,000 layers"));
    }
    let mut group = Tensors::default();
    for repeat in 0..repeats {
        group.nested(&format!("albert_layers.{repeat}"), sizes.tensors(SHARED));
    }
    let group = group.build();
    let mut draft = ALBERT.read(f, &sizes)?;
    let mut layers = draft.decoder.layers.iter_mut();
    // Groups that no layer uses are stored all the same.
    let mut unused = Tensors::default();
    for number in 0..groups {
        match layers.next() {
            Some((_, tensors)) => tensors.clone_from(&group),
            None => _ = unused.nested(&format!("albert.encoder.albert_layer_groups.{number}"), group.clone()),
        }
    }
    draft.decoder.tensors.extend(unused.build());
    Ok(draft)
}

/// `SqueezeBERT`: BERT's matrices as grouped convolutions.
pub(super) fn read_squeezebert(f: &Fields) -> Result<Draft, ConfigError> {
    let sizes = Sizes::read(f, &BERT_DEFAULTS)?;
    let spec = Spec {
        base: "transformer",
        layer_prefix: "transformer.encoder.layers",
        outside: embeddings!("transformer"),
        layer: &[],
        heads: &[
            ("ForMaskedLM", predictions!(("transformer.pooler.dense", Linear(Hidden, Hidden)))),
            ("ForSequenceClassification", &[("transformer.pooler.dense", Linear(Hidden, Hidden)), CLASSIFIER]),
            ("ForMultipleChoice", &[("transformer.pooler.dense", Linear(Hidden, Hidden)), CHOICE]),
            ("ForTokenClassification", &[("transformer.pooler.dense", Linear(Hidden, Hidden)), CLASSIFIER]),
            ("ForQuestionAnswering", &[("transformer.pooler.dense", Linear(Hidden, Hidden)), SPANS]),
            ("Model", &[("transformer.pooler.dense", Linear(Hidden, Hidden))]),
        ],
    };
    let sizes = Sizes { embedding: f.optional_count("embedding_size")?.unwrap_or(sizes.hidden), ..sizes };
    let (hidden, inner) = (sizes.hidden, sizes.inner);
    let mut tensors = Tensors::default();
    for (module, role, key, inputs, outputs, default) in [
        ("attention.query", Role::Query, "q_groups", hidden, hidden, 4),
        ("attention.key", Role::Key, "k_groups", hidden, hidden, 4),
        ("attention.value", Role::Value, "v_groups", hidden, hidden, 4),
        ("post_attention.conv1d", Role::AttentionOutput, "post_attention_groups", hidden, hidden, 1),
        ("intermediate.conv1d", Role::Up, "intermediate_groups", hidden, inner, 4),
        ("output.conv1d", Role::Down, "output_groups", inner, hidden, 4),
    ] {
        let groups = f.count_or(key, default)?;
        if !inputs.is_multiple_of(groups) {
            return Err(f.impossible(key, "it must divide the width that it groups"));
        }
        tensors.tensor(&format!("{module}.weight"), role, &[outputs, inputs / groups, 1]).tensor(&format!("{module}.bias"), role, &[outputs]);
    }
    tensors.norm("post_attention.layernorm", hidden, true).norm("output.layernorm", hidden, true);
    let layer = tensors.build();
    let mut draft = spec.read(f, &sizes)?;
    for (_, tensors) in &mut draft.decoder.layers {
        tensors.clone_from(&layer);
    }
    Ok(draft)
}
