//! BERT and the encoders whose layers are BERT's: `RoBERTa` and XLM-R, ELECTRA, ERNIE, Longformer, `BigBird` ...; they differ in
//! heads, poolers and widths of the embedding.

use super::decoder::{Draft, Tensors};
use super::encoder::{BERT_DEFAULTS, Block, Blocks, Defaults, Dim, Heads, Sizes, Spec, embeddings};
use super::{ConfigError, Fields};
use Block::{Linear, Matrix, Norm, Table, UntiedLinear, UntiedMatrix, Vector};
use Dim::{Embedding, Fixed, Hidden, Inner, Labels, Mapping, Own, Positions, Types, Vocab};

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

/// `cls.predictions` at the width of the embedding.
const NARROW_PREDICTIONS: Blocks = &[
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
            ("Model", &[($pooler, Linear(Hidden, Hidden))]),
        ]
    };
}

/// `lm_head` as `RoBERTa` has it.
pub(super) const ROBERTA_LM_HEAD: Blocks = &[
    ("lm_head.dense", Linear(Hidden, Hidden)),
    ("lm_head.layer_norm", Norm(Hidden)),
    ("lm_head.bias", Vector(Vocab)),
    ("lm_head.decoder", UntiedLinear(Hidden, Vocab)),
];

/// `RoBERTa`'s heads: only the bare model and multiple choice pool.
macro_rules! roberta_heads {
    ($pooler:literal) => {
        &[
            ("ForMaskedLM", ROBERTA_LM_HEAD),
            ("ForCausalLM", ROBERTA_LM_HEAD),
            ("ForSequenceClassification", DEEP_CLASSIFIER),
            ("ForMultipleChoice", &[($pooler, Linear(Hidden, Hidden)), CHOICE]),
            ("ForTokenClassification", &[CLASSIFIER]),
            ("ForQuestionAnswering", &[SPANS]),
            ("Model", &[($pooler, Linear(Hidden, Hidden))]),
        ]
    };
}

pub(super) use roberta_heads;

const ROBERTA_HEADS: Heads = roberta_heads!("roberta.pooler.dense");

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

const BERT: Spec =
    Spec { base: "bert", layer_prefix: "bert.encoder.layer", outside: embeddings!("bert"), layer: LAYER, heads: bert_heads!("bert.pooler.dense") };

const ROBERTA: Spec = Spec { base: "roberta", layer_prefix: "roberta.encoder.layer", outside: embeddings!("roberta"), layer: LAYER, heads: ROBERTA_HEADS };

const ROBERTA_XL: Spec = Spec {
    outside: &[
        ("roberta.embeddings.word_embeddings", Table(Vocab, Embedding)),
        ("roberta.embeddings.position_embeddings", Table(Positions, Embedding)),
        ("roberta.embeddings.token_type_embeddings", Table(Types, Embedding)),
        ("roberta.encoder.LayerNorm", Norm(Hidden)),
    ],
    layer: layer!(("attention.self_attn_layer_norm", Norm(Hidden)), ("LayerNorm", Norm(Hidden))),
    ..ROBERTA
};

const ROBERTA_PRELAYERNORM: Spec = Spec {
    base: "roberta_prelayernorm",
    layer_prefix: "roberta_prelayernorm.encoder.layer",
    outside: embeddings!("roberta_prelayernorm", "roberta_prelayernorm.LayerNorm" => Norm(Hidden)),
    layer: layer!(("attention.LayerNorm", Norm(Hidden)), ("intermediate.LayerNorm", Norm(Hidden))),
    heads: roberta_heads!("roberta_prelayernorm.pooler.dense"),
};

const DATA2VEC: Spec = Spec {
    base: "data2vec_text",
    layer_prefix: "data2vec_text.encoder.layer",
    outside: embeddings!("data2vec_text"),
    layer: LAYER,
    heads: roberta_heads!("data2vec_text.pooler.dense"),
};

const LONGFORMER: Spec = Spec {
    base: "longformer",
    layer_prefix: "longformer.encoder.layer",
    outside: embeddings!("longformer"),
    layer: layer!(
        ("attention.self.query_global", Linear(Hidden, Hidden)),
        ("attention.self.key_global", Linear(Hidden, Hidden)),
        ("attention.self.value_global", Linear(Hidden, Hidden)),
        ("attention.output.LayerNorm", Norm(Hidden)),
        ("output.LayerNorm", Norm(Hidden))
    ),
    heads: roberta_heads!("longformer.pooler.dense"),
};

const ELECTRA: Spec = Spec {
    base: "electra",
    layer_prefix: "electra.encoder.layer",
    outside: embeddings!("electra", "electra.embeddings_project" => Linear(Embedding, Mapping)),
    layer: LAYER,
    heads: ELECTRA_HEADS,
};

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

/// BERT; Jina's second version calls itself so too, but biases attention by distance (`ALiBi`) and gates its feed-forward.
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
    let sizes = Sizes::read(f, &BERT_DEFAULTS)?;
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
        (false, false) => BERT.read(f, &sizes),
        _ => Err(f.impossible("feed_forward_type", "a gated feed-forward and ALiBi are known together only")),
    }
}

/// `RoBERTa`: 50,265 tokens and two positions more than its context where the file gives them.
pub(super) fn read_roberta(f: &Fields) -> Result<Draft, ConfigError> {
    ROBERTA.read(f, &Sizes::read(f, &Defaults { vocab: 50265, ..BERT_DEFAULTS })?)
}

/// XLM-RoBERTa and `CamemBERT`: `RoBERTa`'s tensors with BERT's defaults.
pub(super) fn read_xlm_roberta(f: &Fields) -> Result<Draft, ConfigError> {
    ROBERTA.read(f, &Sizes::read(f, &BERT_DEFAULTS)?)
}

pub(super) fn read_xlm_roberta_xl(f: &Fields) -> Result<Draft, ConfigError> {
    let class = Defaults { vocab: 250_880, hidden: 2560, layers: 36, heads: 32, inner: 10240, positions: 514, types: 1 };
    ROBERTA_XL.read(f, &Sizes::read(f, &class)?)
}

pub(super) fn read_roberta_prelayernorm(f: &Fields) -> Result<Draft, ConfigError> {
    ROBERTA_PRELAYERNORM.read(f, &Sizes::read(f, &Defaults { vocab: 50265, ..BERT_DEFAULTS })?)
}

pub(super) fn read_data2vec_text(f: &Fields) -> Result<Draft, ConfigError> {
    DATA2VEC.read(f, &Sizes::read(f, &BERT_DEFAULTS)?)
}

pub(super) fn read_longformer(f: &Fields) -> Result<Draft, ConfigError> {
    f.raw("attention_window");
    LONGFORMER.read(f, &Sizes::read(f, &BERT_DEFAULTS)?)
}

pub(super) fn read_electra(f: &Fields) -> Result<Draft, ConfigError> {
    let sizes = Sizes::read(f, &Defaults { hidden: 256, heads: 4, inner: 1024, ..BERT_DEFAULTS })?;
    ELECTRA.read(f, &Sizes { embedding: f.optional_count("embedding_size")?.unwrap_or(128), ..sizes })
}

pub(super) fn read_ernie(f: &Fields) -> Result<Draft, ConfigError> {
    let sizes = Sizes::read(f, &BERT_DEFAULTS)?;
    let tasks = f.optional_count("task_type_vocab_size")?.unwrap_or(3);
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

pub(super) fn read_rembert(f: &Fields) -> Result<Draft, ConfigError> {
    let class = Defaults { vocab: 250_300, hidden: 1152, layers: 32, heads: 18, inner: 4608, ..BERT_DEFAULTS };
    let (embedding, own) = (f.optional_count("input_embedding_size")?.unwrap_or(256), f.optional_count("output_embedding_size")?.unwrap_or(1664));
    REMBERT.read(f, &Sizes { embedding, own, ..Sizes::read(f, &class)? })
}

pub(super) fn read_roformer(f: &Fields) -> Result<Draft, ConfigError> {
    f.flag("rotary_value", false)?;
    let sizes = Sizes::read(f, &Defaults { vocab: 50000, positions: 1536, ..BERT_DEFAULTS })?;
    ROFORMER.read(f, &Sizes { embedding: f.optional_count("embedding_size")?.unwrap_or(sizes.hidden), own: sizes.head_dim, ..sizes })
}

/// X-MOD: XLM-R with an adapter per language in every layer.
pub(super) fn read_xmod(f: &Fields) -> Result<Draft, ConfigError> {
    let sizes = Sizes::read(f, &BERT_DEFAULTS)?;
    let reduction = f.optional_count("adapter_reduction_factor")?.unwrap_or(2);
    let bottleneck = sizes.hidden / reduction;
    let languages = f.raw("languages").and_then(serde_json::Value::as_array).map_or(1, Vec::len) as u64;
    let own_norm = f.flag("adapter_layer_norm", false)?;
    let pre_norm = f.flag("pre_norm", false)?;
    f.flag("adapter_reuse_layer_norm", true)?;
    f.flag("ln_before_adapter", true)?;
    f.optional_text("default_language")?;
    let mut draft = ROBERTA.read(f, &sizes)?;
    if pre_norm {
        draft.decoder.tensors.extend(sizes.tensors(&[("roberta.encoder.LayerNorm", Norm(Hidden))]));
    }
    let mut adapters = Tensors::default();
    adapters.experts("output.adapter_modules.{}.dense1", languages, sizes.hidden, bottleneck).experts(
        "output.adapter_modules.{}.dense2",
        languages,
        bottleneck,
        sizes.hidden,
    );
    let mut adapters = adapters.build();
    for (module, width) in [("dense1", bottleneck), ("dense2", sizes.hidden)] {
        let name = format!("output.adapter_modules.{{}}.{module}.bias");
        adapters.push(crate::model::Tensor { name, role: crate::model::Role::Other, shape: vec![width], count: languages, stored: None });
    }
    if own_norm {
        adapters.extend(sizes.tensors(&[("output.adapter_layer_norm", Norm(Hidden))]));
    }
    for (_, tensors) in &mut draft.decoder.layers {
        tensors.extend(adapters.iter().cloned());
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

/// `MPNet`: one table of relative positions for all layers.
pub(super) fn read_mpnet(f: &Fields) -> Result<Draft, ConfigError> {
    const MPNET: Spec = Spec {
        base: "mpnet",
        layer_prefix: "mpnet.encoder.layer",
        outside: embeddings!("mpnet", "mpnet.encoder.relative_attention_bias" => Table(Own, Dim::Own2)),
        layer: &[
            ("attention.attn.q", Linear(Hidden, Hidden)),
            ("attention.attn.k", Linear(Hidden, Hidden)),
            ("attention.attn.v", Linear(Hidden, Hidden)),
            ("attention.attn.o", Linear(Hidden, Hidden)),
            ("attention.LayerNorm", Norm(Hidden)),
            ("intermediate.dense", Linear(Hidden, Inner)),
            ("output.dense", Linear(Inner, Hidden)),
            ("output.LayerNorm", Norm(Hidden)),
        ],
        heads: roberta_heads!("mpnet.pooler.dense"),
    };
    let sizes = Sizes::read(f, &Defaults { vocab: 30527, types: 0, ..BERT_DEFAULTS })?;
    let own = f.optional_count("relative_attention_num_buckets")?.unwrap_or(32);
    MPNET.read(f, &Sizes { types: 0, own, own2: sizes.heads, ..sizes })
}

/// ALBERT: every layer of a group is the same one, so its tensors stand outside the layers and count once.
pub(super) fn read_albert(f: &Fields) -> Result<Draft, ConfigError> {
    const PREDICTIONS: Blocks = &[
        ("predictions.bias", Vector(Vocab)),
        ("predictions.LayerNorm", Norm(Embedding)),
        ("predictions.dense", Linear(Hidden, Embedding)),
        ("predictions.decoder", UntiedLinear(Embedding, Vocab)),
    ];
    const ALBERT: Spec = Spec {
        base: "albert",
        layer_prefix: "albert.encoder.layers",
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
    let sizes = Sizes { embedding: f.optional_count("embedding_size")?.unwrap_or(128), ..sizes };
    let groups = super::encoder::layer_count(f, "num_hidden_groups", 1)?;
    let repeats = super::encoder::layer_count(f, "inner_group_num", 1)?;
    if groups.saturating_mul(repeats) > 10_000 {
        return Err(f.impossible("num_hidden_groups", "no model has more than 10,000 layers"));
    }
    let mut shared = Tensors::default();
    for (group, repeat) in (0..groups).flat_map(|group| (0..repeats).map(move |repeat| (group, repeat))) {
        shared.nested(&format!("albert.encoder.albert_layer_groups.{group}.albert_layers.{repeat}"), sizes.tensors(SHARED));
    }
    let mut draft = ALBERT.read(f, &sizes)?;
    draft.decoder.tensors.extend(shared.build());
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
    for (module, key, inputs, outputs, default) in [
        ("attention.query", "q_groups", hidden, hidden, 4),
        ("attention.key", "k_groups", hidden, hidden, 4),
        ("attention.value", "v_groups", hidden, hidden, 4),
        ("post_attention.conv1d", "post_attention_groups", hidden, hidden, 1),
        ("intermediate.conv1d", "intermediate_groups", hidden, inner, 4),
        ("output.conv1d", "output_groups", inner, hidden, 4),
    ] {
        let groups = f.optional_count(key)?.unwrap_or(default);
        if !inputs.is_multiple_of(groups) {
            return Err(f.impossible(key, "it must divide the width that it groups"));
        }
        tensors.convolution(module, &[outputs, inputs / groups, 1], true);
    }
    tensors.norm("post_attention.layernorm", hidden, true).norm("output.layernorm", hidden, true);
    let layer = tensors.build();
    let mut draft = spec.read(f, &sizes)?;
    for (_, tensors) in &mut draft.decoder.layers {
        tensors.clone_from(&layer);
    }
    Ok(draft)
}

/// `BertGenerationEncoder` and its decoder: BERT without token types and pooler.
pub(super) fn read_bert_generation(f: &Fields) -> Result<Draft, ConfigError> {
    const SPEC: Spec =
        Spec { heads: &[("Decoder", &[("lm_head.bias", Vector(Vocab)), ("lm_head.decoder", UntiedLinear(Hidden, Vocab))]), ("Encoder", &[])], ..BERT };
    let class = Defaults { vocab: 50358, hidden: 1024, layers: 24, heads: 16, inner: 4096, positions: 512, types: 0 };
    SPEC.read(f, &Sizes { types: 0, ..Sizes::read(f, &class)? })
}

/// `DeBERTa` 1 to 3: positions relative to each other, poolers only in classifiers.
const DEBERTA_HEADS: Heads = &[
    ("ForMaskedLM", NARROW_PREDICTIONS),
    ("ForSequenceClassification", &[("pooler.dense", Linear(Own, Own)), ("classifier", Linear(Own, Labels))]),
    ("ForMultipleChoice", &[("pooler.dense", Linear(Own, Own)), ("classifier", Linear(Own, Fixed(1)))]),
    ("ForTokenClassification", &[CLASSIFIER]),
    ("ForQuestionAnswering", &[SPANS]),
    ("Model", &[]),
];

const DEBERTA_EMBEDDINGS: Blocks = &[
    ("deberta.embeddings.word_embeddings", Table(Vocab, Embedding)),
    ("deberta.embeddings.position_embeddings", Table(Positions, Embedding)),
    ("deberta.embeddings.token_type_embeddings", Table(Types, Embedding)),
    ("deberta.embeddings.embed_proj", Matrix(Embedding, Mapping)),
    ("deberta.embeddings.LayerNorm", Norm(Hidden)),
];

const DEBERTA_REST: Blocks = &[
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

fn deberta(f: &Fields, class: &Defaults) -> Result<Deberta, ConfigError> {
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

pub(super) fn read_deberta(f: &Fields) -> Result<Draft, ConfigError> {
    const SPEC: Spec = Spec { base: "deberta", layer_prefix: "deberta.encoder.layer", outside: DEBERTA_EMBEDDINGS, layer: &[], heads: DEBERTA_HEADS };
    let Deberta { sizes, relative, span, content_to_position, position_to_content } = deberta(f, &Defaults { vocab: 50265, types: 0, ..BERT_DEFAULTS })?;
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
    tensors.extend(sizes.tensors(DEBERTA_REST));
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

pub(super) fn read_deberta_v2(f: &Fields) -> Result<Draft, ConfigError> {
    const SPEC: Spec = Spec { base: "deberta", layer_prefix: "deberta.encoder.layer", outside: DEBERTA_EMBEDDINGS, layer: &[], heads: DEBERTA_HEADS };
    let class = Defaults { vocab: 128_100, hidden: 1536, layers: 24, heads: 24, inner: 6144, positions: 512, types: 0 };
    let Deberta { mut sizes, relative, span, content_to_position, position_to_content } = deberta(f, &class)?;
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
    tensors.extend(sizes.tensors(DEBERTA_REST));
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
    let groups = f.optional_count("conv_groups")?.unwrap_or(1);
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
