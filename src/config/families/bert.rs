//! BERT, the heads that stand above it, and what bears its tensors' names: ERNIE, Megatron's, `BigBird`, DPR, `BertGeneration`.

use super::decoder::Draft;
use super::encoder::{BERT_DEFAULTS, Block, Blocks, Defaults, Dim, Heads, Sizes, Spec, embeddings};
use super::{ConfigError, Fields};
use Block::{Linear, Matrix, Norm, Table, UntiedLinear, Vector};
use Dim::{Embedding, Fixed, Hidden, Inner, Labels, Own, Positions, Types, Vocab};

/// BERT's layer, and what a family adds to it.
macro_rules! layer {
    ($(($name:literal, $block:expr)),*) => {
        &[
            ("attention.self.query", Linear(Hidden, Hidden)),
            ("attention.self.key", Linear(Hidden, Hidden)),
            ("attention.self.value", Linear(Hidden, Hidden)),
            ("attention.output.dense", Linear(Hidden, Hidden)),
            ("intermediate.dense", Linear(Hidden, Inner)),
            ("output.dense", Linear(Inner, Hidden)),
            $(($name, $block),)*
        ]
    };
}

pub(super) use layer;

pub(super) const LAYER: Blocks = layer!(("attention.output.LayerNorm", Norm(Hidden)), ("output.LayerNorm", Norm(Hidden)));

/// `cls.predictions` and what else stands above.
macro_rules! predictions {
    ($($more:expr),*) => {
        &[
            ("cls.predictions.transform.dense", Linear(Hidden, Hidden)),
            ("cls.predictions.transform.LayerNorm", Norm(Hidden)),
            ("cls.predictions.bias", Vector(Vocab)),
            ("cls.predictions.decoder", UntiedLinear(Hidden, Vocab)),
            $($more,)*
        ]
    };
}

pub(super) use predictions;

/// `cls.predictions` at the width of the embedding.
pub(super) const NARROW_PREDICTIONS: Blocks = &[
    ("cls.predictions.transform.dense", Linear(Hidden, Embedding)),
    ("cls.predictions.transform.LayerNorm", Norm(Embedding)),
    ("cls.predictions.bias", Vector(Vocab)),
    ("cls.predictions.decoder", UntiedLinear(Embedding, Vocab)),
];

pub(super) const CLASSIFIER: (&str, Block) = ("classifier", Linear(Hidden, Labels));
pub(super) const CHOICE: (&str, Block) = ("classifier", Linear(Hidden, Fixed(1)));
pub(super) const SPANS: (&str, Block) = ("qa_outputs", Linear(Hidden, Labels));
pub(super) const NEXT_SENTENCE: (&str, Block) = ("cls.seq_relationship", Linear(Hidden, Fixed(2)));
pub(super) const DEEP_CLASSIFIER: Blocks = &[("classifier.dense", Linear(Hidden, Hidden)), ("classifier.out_proj", Linear(Hidden, Labels))];

/// BERT's heads with this pooler.
macro_rules! bert_heads {
    ($pooler:literal) => {
        &[
            ("ForPreTraining", predictions!(($pooler, Linear(Hidden, Hidden)), NEXT_SENTENCE)),
            ("ForMaskedLM", predictions!()),
            ("LMHeadModel", predictions!()),
            ("ForCausalLM", predictions!()),
            ("ForNextSentencePrediction", &[($pooler, Linear(Hidden, Hidden)), NEXT_SENTENCE]),
            ("ForSequenceClassification", &[($pooler, Linear(Hidden, Hidden)), CLASSIFIER]),
            ("ForMultipleChoice", &[($pooler, Linear(Hidden, Hidden)), CHOICE]),
            ("ForTokenClassification", &[CLASSIFIER]),
            ("ForQuestionAnswering", &[SPANS]),
            (COLBERT, &[($pooler, Linear(Hidden, Hidden)), ("linear", Matrix(Hidden, Fixed(COLBERT_WIDTH)))]),
            ("Model", &[($pooler, Linear(Hidden, Hidden))]),
        ]
    };
}

/// `ColBERT`'s class, and the numbers that it keeps of each token unless `artifact.metadata` says otherwise (its `dim`).
const COLBERT: &str = "HF_ColBERT";
const COLBERT_WIDTH: u64 = 128;

const BERT: Spec =
    Spec { base: "bert", layer_prefix: "bert.encoder.layer", outside: embeddings!("bert"), layer: LAYER, heads: bert_heads!("bert.pooler.dense") };

const ERNIE: Spec = Spec {
    base: "ernie",
    layer_prefix: "ernie.encoder.layer",
    outside: embeddings!("ernie", "ernie.embeddings.task_type_embeddings" => Table(Own, Hidden)),
    layer: LAYER,
    heads: bert_heads!("ernie.pooler.dense"),
};

const MEGATRON: Spec = Spec {
    outside: &[
        ("bert.embeddings.word_embeddings", Table(Vocab, Embedding)),
        ("bert.embeddings.position_embeddings", Table(Positions, Embedding)),
        ("bert.embeddings.token_type_embeddings", Table(Types, Embedding)),
        ("bert.encoder.ln", Norm(Hidden)),
    ],
    layer: layer!(("attention.ln", Norm(Hidden)), ("ln", Norm(Hidden))),
    ..BERT
};

/// `BigBird` pools in pretraining and classification alike.
const BIG_BIRD: Spec = Spec {
    heads: &[
        ("ForPreTraining", predictions!(("bert.pooler", Linear(Hidden, Hidden)), NEXT_SENTENCE)),
        ("ForMaskedLM", predictions!(("bert.pooler", Linear(Hidden, Hidden)))),
        ("ForCausalLM", predictions!(("bert.pooler", Linear(Hidden, Hidden)))),
        (
            "ForSequenceClassification",
            &[("bert.pooler", Linear(Hidden, Hidden)), ("classifier.dense", Linear(Hidden, Hidden)), ("classifier.out_proj", Linear(Hidden, Labels))],
        ),
        ("ForMultipleChoice", &[("bert.pooler", Linear(Hidden, Hidden)), CHOICE]),
        ("ForTokenClassification", &[("bert.pooler", Linear(Hidden, Hidden)), CLASSIFIER]),
        (
            "ForQuestionAnswering",
            &[
                ("qa_classifier.intermediate.dense", Linear(Hidden, Inner)),
                ("qa_classifier.output.dense", Linear(Inner, Hidden)),
                ("qa_classifier.output.LayerNorm", Norm(Hidden)),
                ("qa_classifier.qa_outputs", Linear(Hidden, Fixed(2))),
            ],
        ),
        ("Model", &[("bert.pooler", Linear(Hidden, Hidden))]),
    ],
    ..BERT
};

/// BERT. Jina's second version and `MosaicBERT` (DNABERT-2) call themselves so too, but bias attention by distance (`ALiBi`) and gate
/// their feed-forward.
pub(super) fn read_bert(f: &Fields) -> Result<Draft, ConfigError> {
    const JINA: Spec = Spec {
        outside: &[
            ("bert.embeddings.word_embeddings", Table(Vocab, Embedding)),
            ("bert.embeddings.token_type_embeddings", Table(Types, Embedding)),
            ("bert.embeddings.LayerNorm", Norm(Embedding)),
        ],
        layer: &[
            ("attention.self.query", Linear(Hidden, Hidden)),
            ("attention.self.key", Linear(Hidden, Hidden)),
            ("attention.self.value", Linear(Hidden, Hidden)),
            ("attention.output.dense", Linear(Hidden, Hidden)),
            ("attention.output.LayerNorm", Norm(Hidden)),
            ("mlp.gated_layers", Matrix(Hidden, Own)),
            ("mlp.wo", Linear(Inner, Hidden)),
            ("mlp.layernorm", Norm(Hidden)),
        ],
        ..BERT
    };
    /// `bert_layers.py` of `MosaicBERT`: queries, keys and values in one matrix.
    const MOSAIC: Spec = Spec {
        layer: &[
            ("attention.self.Wqkv", Linear(Hidden, Dim::Own2)),
            ("attention.output.dense", Linear(Hidden, Hidden)),
            ("attention.output.LayerNorm", Norm(Hidden)),
            ("mlp.gated_layers", Matrix(Hidden, Own)),
            ("mlp.wo", Linear(Inner, Hidden)),
            ("mlp.layernorm", Norm(Hidden)),
        ],
        ..JINA
    };
    let sizes = Sizes::read(f, &BERT_DEFAULTS)?;
    // The length of the biases at first: transformers' own class does not know it.
    if f.raw("auto_map").is_some() && f.optional_count("alibi_starting_size")?.is_some() {
        let (own, own2) = (sizes.inner.saturating_mul(2), sizes.hidden.saturating_mul(3));
        return MOSAIC.read(f, &Sizes { own, own2, positions: 0, gated: true, ..sizes });
    }
    let is_gated = f.optional_text("feed_forward_type")?.is_some_and(|kind| kind.ends_with("glu"));
    let is_alibi = f.optional_text("position_embedding_type")?.is_some_and(|kind| kind == "alibi");
    match (is_gated, is_alibi) {
        (true, true) => {
            let sizes = Sizes { own: 2 * sizes.inner, gated: true, ..sizes };
            // The published embedding models name the class of their pretraining, but keep its pooler and no head.
            let embeds = f.optional_text("emb_pooler")?.is_some();
            let mut draft = if embeds { JINA.read(&f.as_class("JinaBertModel"), &sizes)? } else { JINA.read(f, &sizes)? };
            if embeds {
                draft.assumptions.push("`emb_pooler` makes this an embedding model: its pooler is counted, and no masked-language-model head".to_owned());
            }
            if f.raw("auto_map").is_some_and(|map| map.to_string().contains("qk-post-norm")) {
                draft.assumptions.push("the norms of queries and keys in this Jina model's own code are not counted".to_owned());
            }
            Ok(draft)
        }
        (false, false) => {
            let mut draft = BERT.read(f, &sizes)?;
            if let Some(class) = f.architecture()?.filter(|class| class == COLBERT) {
                draft.assumptions.push(format!("`{class}` keeps {COLBERT_WIDTH} numbers of each token unless `dim` in `artifact.metadata` says otherwise"));
            }
            Ok(draft)
        }
        _ => Err(f.impossible("feed_forward_type", "a gated feed-forward and ALiBi are known together only")),
    }
}

pub(super) fn read_ernie(f: &Fields) -> Result<Draft, ConfigError> {
    let sizes = Sizes::read(f, &BERT_DEFAULTS)?;
    let tasks = f.count_or("task_type_vocab_size", 3)?;
    ERNIE.read(f, &Sizes { own: if f.flag("use_task_id", false)? { tasks } else { 0 }, ..sizes })
}

pub(super) fn read_megatron_bert(f: &Fields) -> Result<Draft, ConfigError> {
    MEGATRON.read(f, &Sizes::read(f, &Defaults { vocab: 29056, hidden: 1024, layers: 24, heads: 16, inner: 4096, ..BERT_DEFAULTS })?)
}

pub(super) fn read_big_bird(f: &Fields) -> Result<Draft, ConfigError> {
    let sizes = Sizes::read(f, &Defaults { vocab: 50358, positions: 4096, ..BERT_DEFAULTS })?;
    if f.flag("use_bias", true)? {
        return BIG_BIRD.read(f, &sizes);
    }
    let mut draft = BIG_BIRD.read(f, &sizes)?;
    let biases = ["attention.self.query.bias", "attention.self.key.bias", "attention.self.value.bias"];
    for (_, tensors) in &mut draft.decoder.layers {
        tensors.retain(|tensor| !biases.contains(&tensor.name.as_str()));
    }
    Ok(draft)
}

/// DPR's encoders: BERT without a pooler, under the encoder's own name; the reader scores spans.
pub(super) fn read_dpr(f: &Fields) -> Result<Draft, ConfigError> {
    const HEADS: Heads = &[
        ("Encoder", &[("encode_proj", Linear(Hidden, Own))]),
        ("Reader", &[("encode_proj", Linear(Hidden, Own)), ("qa_outputs", Linear(Dim::Own2, Fixed(2))), ("qa_classifier", Linear(Dim::Own2, Fixed(1)))]),
    ];
    let sizes = Sizes::read(f, &BERT_DEFAULTS)?;
    let own = f.optional_count_or_zero("projection_dim")?.unwrap_or(0);
    let own2 = if own > 0 { own } else { sizes.hidden };
    Spec { heads: HEADS, ..BERT }.read(f, &Sizes { own, own2, ..sizes })
}

/// `BertGenerationEncoder` and its decoder: BERT without token types and pooler.
pub(super) fn read_bert_generation(f: &Fields) -> Result<Draft, ConfigError> {
    const SPEC: Spec =
        Spec { heads: &[("Decoder", &[("lm_head.bias", Vector(Vocab)), ("lm_head.decoder", UntiedLinear(Hidden, Vocab))]), ("Encoder", &[])], ..BERT };
    let class = Defaults { vocab: 50358, hidden: 1024, layers: 24, heads: 16, inner: 4096, positions: 512, types: 0 };
    SPEC.read(f, &Sizes { types: 0, ..Sizes::read(f, &class)? })
}

#[cfg(test)]
mod tests {
    use crate::config::read;

    fn count(class: &str, more: &str) -> (u64, Vec<String>) {
        let config = format!(
            r#"{{"model_type": "bert", "architectures": ["{class}"], "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12,
                "num_hidden_layers": 12, "max_position_embeddings": 512, "type_vocab_size": 2, "position_embedding_type": "absolute"{more}}}"#
        );
        let anatomy = read(&config).unwrap();
        (anatomy.parameters().unwrap().get(), anatomy.assumptions)
    }

    #[test]
    fn mosaic_bert_gates_its_feed_forward_and_has_no_table_of_positions() {
        let dna = r#", "vocab_size": 4096, "alibi_starting_size": 512, "auto_map": {"AutoModelForMaskedLM": "bert_layers.BertForMaskedLM"}"#;
        // DNABERT-2-117M by its bare class; its head has a matrix, a norm and a bias, and no pooler below it.
        assert_eq!(count("BertModel", dna), (117_068_544, vec![]));
        assert_eq!(count("BertForMaskedLM", dna), (117_068_544 + 1536 + 4096, vec![]));
        // Without code of its own it is BERT, and the key is not understood.
        let plain = read(r#"{"model_type": "bert", "architectures": ["BertModel"], "alibi_starting_size": 512}"#).unwrap();
        assert_eq!((plain.parameters().unwrap().get(), plain.keys_not_understood), (109_482_240, vec!["alibi_starting_size".to_owned()]));
    }

    #[test]
    fn colbert_narrows_each_token() {
        let (parameters, lines) = count("HF_ColBERT", r#", "vocab_size": 30522"#);
        assert_eq!(parameters, 109_482_240 + 768 * 128);
        assert!(lines.len() == 1 && lines[0].contains("`dim`"), "{lines:?}");
    }
}
