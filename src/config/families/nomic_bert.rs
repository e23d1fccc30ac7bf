//! Encoders with rotary positions in BERT's order of norms: Nomic BERT (its second version with experts), GTE (`gte`, and `new` as its own
//! code calls it) and Jina v3.

use super::decoder::{Draft, Tensors};
use super::encoder::{BERT_DEFAULTS, Block, Blocks, Defaults, Dim, Heads, Sizes, Spec, head_of, kind};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Role, Span};
use Block::{Linear, Matrix, Norm, Table, UntiedLinear, UntiedMatrix, Vector};
use Dim::{Fixed, Hidden, Inner, Labels, Positions, Types, Vocab};

const NOMIC_PREDICTIONS: Blocks = &[
    ("cls.predictions.transform.dense", Linear(Hidden, Hidden)),
    ("cls.predictions.transform.layer_norm", Norm(Hidden)),
    ("cls.predictions.bias", Vector(Vocab)),
    ("cls.predictions.decoder", UntiedLinear(Hidden, Vocab)),
];

const NOMIC_HEADS: Heads = &[
    ("ForPreTraining", NOMIC_PREDICTIONS),
    ("ForMaskedLM", NOMIC_PREDICTIONS),
    ("ForSequenceClassification", &[("pooler.dense", Linear(Hidden, Hidden)), ("classifier", Linear(Hidden, Labels))]),
    ("ForTokenClassification", &[("classifier", Linear(Hidden, Labels))]),
    ("Model", &[]),
];

/// Nomic BERT; files spell its keys as GPT-2's.
pub(super) fn read_nomic(f: &Fields) -> Result<Draft, ConfigError> {
    let sizes = Sizes::read(f, &Defaults { vocab: 30528, positions: 0, ..BERT_DEFAULTS })?;
    let head_dim = f.optional_count("head_dim")?.unwrap_or(sizes.head_dim);
    let multiple = f.count_or("pad_vocab_size_multiple", 1)?;
    let vocab = sizes.vocab.div_ceil(multiple).saturating_mul(multiple);
    let gated = f.optional_text("activation_function")?.is_none_or(|name| name.ends_with("glu"));
    let sizes = Sizes { head_dim, vocab, gated, ..sizes };
    let (hidden, inner) = (sizes.hidden, sizes.inner);
    let queries = sizes.heads.saturating_mul(head_dim);
    let bias = |key: &str| f.flag(key, false);
    let (qkv_bias, up_bias, down_bias) = (bias("qkv_proj_bias")?, bias("mlp_fc1_bias")?, bias("mlp_fc2_bias")?);
    let experts = f.optional_count_or_zero("num_experts")?.unwrap_or(0);
    let every = f.optional_count_or_zero("moe_every_n_layers")?.unwrap_or(0);
    let active = f.count_or("moe_top_k", 1)?;
    if experts > 0 && active > experts {
        return Err(f.impossible("moe_top_k", "it cannot be more than the number of experts"));
    }
    f.touch("num_shared_experts");
    let mut assumptions = Vec::new();
    let mut tensors = sizes.tensors(&[
        ("embeddings.word_embeddings", Table(Vocab, Hidden)),
        ("embeddings.token_type_embeddings", Table(Types, Hidden)),
        ("emb_ln", Norm(Hidden)),
    ]);
    tensors.extend(sizes.tensors(head_of(f, NOMIC_HEADS, &mut assumptions)?));
    let (kind, keeps) = kind(f)?;
    let layer = |number: u64| {
        let mut tensors = Tensors::default();
        let mut layer = sizes.layer(Span::Full, keeps);
        tensors.linear("attn.Wqkv", hidden, queries.saturating_mul(3), qkv_bias).linear("attn.out_proj", queries, hidden, qkv_bias);
        tensors.norm("norm1", hidden, true).norm("norm2", hidden, true);
        if experts > 0 && every > 0 && number % every == 1 {
            tensors.linear("mlp.router.layer", hidden, experts, false);
            tensors.experts("mlp.experts.{}.w1", experts, hidden, inner).experts("mlp.experts.{}.w2", experts, inner, hidden);
            tensors.tensor("mlp.experts.bias", Role::Other, &[hidden]);
            layer.feed_forward = FeedForward::MixtureOfExperts { experts, active, intermediate: inner, shared: 0 };
        } else if gated {
            tensors.linear("mlp.fc11", hidden, inner, up_bias).linear("mlp.fc12", hidden, inner, up_bias).linear("mlp.fc2", inner, hidden, down_bias);
        } else {
            tensors.linear("mlp.fc1", hidden, inner, up_bias).linear("mlp.fc2", inner, hidden, down_bias);
        }
        (layer, tensors.build())
    };
    let layers = (0..sizes.layers).map(layer).collect();
    Ok(Draft { assumptions, ..sizes.model(kind, "bert", "encoder.layers", tensors, layers) })
}

const GTE_LM_HEAD: Blocks = &[
    ("lm_head.dense", Linear(Hidden, Hidden)),
    ("lm_head.norm", Norm(Hidden)),
    ("lm_head.decoder.bias", Vector(Vocab)),
    ("lm_head.decoder", UntiedMatrix(Hidden, Vocab)),
];

/// GTE: no biases into the gated feed-forward, a pooler only below a classifier.
const GTE: Spec = Spec {
    base: "new",
    layer_prefix: "encoder.layer",
    outside: &[
        ("embeddings.word_embeddings", Table(Vocab, Hidden)),
        ("embeddings.position_embeddings", Table(Positions, Hidden)),
        ("embeddings.token_type_embeddings", Table(Types, Hidden)),
        ("embeddings.LayerNorm", Norm(Hidden)),
    ],
    layer: &[
        ("attention.qkv_proj", Linear(Hidden, Dim::Own)),
        ("attention.o_proj", Linear(Hidden, Hidden)),
        ("mlp.up_gate_proj", Matrix(Hidden, Dim::Own2)),
        ("mlp.down_proj", Linear(Inner, Hidden)),
        ("attn_ln", Norm(Hidden)),
        ("mlp_ln", Norm(Hidden)),
    ],
    heads: &[
        ("ForMaskedLM", GTE_LM_HEAD),
        ("ForSequenceClassification", &[("pooler.dense", Linear(Hidden, Hidden)), ("classifier", Linear(Hidden, Labels))]),
        ("ForMultipleChoice", &[("pooler.dense", Linear(Hidden, Hidden)), ("classifier", Linear(Hidden, Fixed(1)))]),
        ("ForTokenClassification", &[("classifier", Linear(Hidden, Labels))]),
        ("ForQuestionAnswering", &[("qa_outputs", Linear(Hidden, Labels))]),
        ("Model", &[]),
    ],
};

pub(super) fn read_gte(f: &Fields) -> Result<Draft, ConfigError> {
    // Only absolute positions have a table.
    let absolute = f.optional_text("position_embedding_type")?.is_some_and(|kind| kind == "absolute");
    if f.optional_text("layer_norm_type")?.is_some_and(|kind| kind != "layer_norm") {
        return Err(f.impossible("layer_norm_type", "only `layer_norm` is understood"));
    }
    let sizes = Sizes::read(f, &Defaults { vocab: 250_048, positions: 8192, types: 1, ..BERT_DEFAULTS })?;
    let positions = if absolute { sizes.positions } else { 0 };
    GTE.read(f, &Sizes { positions, own: 3 * sizes.hidden, own2: 2 * sizes.inner, gated: true, ..sizes })
}

/// Jina v3: XLM-R with rotary positions.
pub(super) fn read_jina_v3(f: &Fields) -> Result<Draft, ConfigError> {
    const SPEC: Spec = Spec {
        base: "roberta",
        layer_prefix: "roberta.layers",
        outside: &[
            ("roberta.embeddings.word_embeddings", Table(Vocab, Hidden)),
            ("roberta.embeddings.token_type_embeddings", Table(Types, Hidden)),
            ("roberta.embeddings.LayerNorm", Norm(Hidden)),
        ],
        layer: &[
            ("self_attn.q_proj", Linear(Hidden, Hidden)),
            ("self_attn.k_proj", Linear(Hidden, Hidden)),
            ("self_attn.v_proj", Linear(Hidden, Hidden)),
            ("self_attn.o_proj", Linear(Hidden, Hidden)),
            ("post_attention_layernorm", Norm(Hidden)),
            ("mlp.fc1", Linear(Hidden, Inner)),
            ("mlp.fc2", Linear(Inner, Hidden)),
            ("post_mlp_layernorm", Norm(Hidden)),
        ],
        heads: &[
            ("ForMaskedLM", super::roberta::ROBERTA_LM_HEAD),
            ("ForSequenceClassification", &[("classifier.dense", Linear(Hidden, Hidden)), ("classifier.out_proj", Linear(Hidden, Labels))]),
            ("ForTokenClassification", &[("classifier", Linear(Hidden, Labels))]),
            ("ForQuestionAnswering", &[("qa_outputs", Linear(Hidden, Labels))]),
            ("Model", &[("roberta.pooler.dense", Linear(Hidden, Hidden))]),
        ],
    };
    let class = Defaults { vocab: 250_002, hidden: 1024, layers: 24, heads: 16, inner: 4096, positions: 0, types: 1 };
    SPEC.read(f, &Sizes::read(f, &class)?)
}

/// The same as its own repository has it: an adapter per task (`lora_adaptations`) on every table and matrix, queries, keys and values
/// being one matrix there.
pub(super) fn read_jina_v3_with_tasks(f: &Fields) -> Result<Draft, ConfigError> {
    let mut draft = read_jina_v3(f)?;
    let tasks = f.optional_texts("lora_adaptations")?.map_or(0, |tasks| tasks.len() as u64);
    let rank = f.count_or("lora_rank", 4)?;
    for key in ["lora_alpha", "lora_dropout_p", "lora_main_params_trainable", "load_trained_adapters", "matryoshka_dimensions", "truncate_dim"] {
        f.touch(key);
    }
    for key in ["rotary_emb_base", "task_instructions", "position_embedding_type"] {
        f.touch(key);
    }
    let adapter = |t: &mut Tensors, module: &str, inputs: u64, outputs: u64| {
        t.tensor(&format!("{module}.parametrizations.weight.0.lora_A"), Role::Other, &[tasks, rank, inputs]).tensor(
            &format!("{module}.parametrizations.weight.0.lora_B"),
            Role::Other,
            &[tasks, outputs, rank],
        );
    };
    let hidden = draft.decoder.shape.hidden;
    let inner = f.count_or("intermediate_size", 4096)?;
    let mut t = Tensors::default();
    adapter(&mut t, "mixer.Wqkv", hidden, hidden.saturating_mul(3));
    adapter(&mut t, "mixer.out_proj", hidden, hidden);
    adapter(&mut t, "mlp.fc1", hidden, inner);
    adapter(&mut t, "mlp.fc2", inner, hidden);
    let per_layer = t.build();
    for (_, tensors) in &mut draft.decoder.layers {
        tensors.extend(per_layer.iter().cloned());
    }
    adapter(&mut t, "roberta.embeddings.word_embeddings", draft.decoder.shape.vocab, hidden);
    adapter(&mut t, "roberta.embeddings.token_type_embeddings", f.count_or("type_vocab_size", 1)?, hidden);
    if draft.decoder.tensors.iter().any(|tensor| tensor.name.starts_with("roberta.pooler.")) {
        adapter(&mut t, "roberta.pooler.dense", hidden, hidden);
    }
    draft.decoder.tensors.extend(t.build());
    Ok(draft)
}

#[cfg(test)]
mod tests {
    #[test]
    fn adapters_of_tasks_are_counted_as_published() {
        // jinaai/jina-embeddings-v3.
        let config = r#"{"model_type": "xlm-roberta", "architectures": ["XLMRobertaModel"], "hidden_size": 1024, "intermediate_size": 4096,
            "auto_map": {"AutoModel": "jinaai/xlm-roberta-flash-implementation--modeling_lora.XLMRobertaLoRA"}, "num_attention_heads": 16,
            "num_hidden_layers": 24, "vocab_size": 250002, "type_vocab_size": 1, "max_position_embeddings": 8194, "position_embedding_type": "rotary",
            "lora_adaptations": ["retrieval.query", "retrieval.passage", "separation", "classification", "text-matching"], "lora_rank": 4, "lora_alpha": 1}"#;
        let anatomy = crate::config::read(config).unwrap();
        assert_eq!(anatomy.parameters().unwrap().get(), 572_310_396);
        assert!(anatomy.assumptions.is_empty(), "{:?}", anatomy.assumptions);
    }
}
