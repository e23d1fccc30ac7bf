//! `RoBERTa` and its kin: BERT with heads of its own and positions that begin at two: XLM-R, Longformer, `Data2Vec`, X-MOD, `MPNet`.

use super::bert::{CHOICE, CLASSIFIER, DEEP_CLASSIFIER, LAYER, SPANS, layer};
use super::decoder::{Draft, Tensors};
use super::encoder::{BERT_DEFAULTS, Block, Blocks, Defaults, Dim, Heads, Sizes, Spec, embeddings};
use super::{ConfigError, Fields};
use Block::{Linear, Norm, Table, UntiedLinear, Vector};
use Dim::{Embedding, Hidden, Inner, Own, Positions, Types, Vocab};

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

/// `RoBERTa`: 50,265 tokens and two positions more than its context where the file gives them.
pub(super) fn read_roberta(f: &Fields) -> Result<Draft, ConfigError> {
    ROBERTA.read(f, &Sizes::read(f, &Defaults { vocab: 50265, ..BERT_DEFAULTS })?)
}

/// XLM-RoBERTa and `CamemBERT`: `RoBERTa`'s tensors with BERT's defaults.
pub(super) fn read_xlm_roberta(f: &Fields) -> Result<Draft, ConfigError> {
    if f.has("lora_adaptations") {
        return super::nomic_bert::read_jina_v3_with_tasks(f);
    }
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

/// X-MOD: XLM-R with an adapter per language in every layer.
pub(super) fn read_xmod(f: &Fields) -> Result<Draft, ConfigError> {
    let sizes = Sizes::read(f, &BERT_DEFAULTS)?;
    let reduction = f.count_or("adapter_reduction_factor", 2)?;
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
    let own = f.count_or("relative_attention_num_buckets", 32)?;
    MPNET.read(f, &Sizes { types: 0, own, own2: sizes.heads, ..sizes })
}
