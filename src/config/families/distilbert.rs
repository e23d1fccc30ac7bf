//! `DistilBERT`, XLM and `FlauBERT`: the same layer by Lample's names (`q_lin`, `ffn.lin1`), with learned positions.

use super::decoder::{Draft, Tensors, labels};
use super::encoder::{BERT_DEFAULTS, Block, Blocks, Defaults, Dim, Heads, Sizes, Spec, head_of};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Keeps};
use Block::{Linear, Norm, Table, UntiedMatrix, Vector};
use Dim::{Fixed, Hidden, Inner, Labels, Positions, Vocab};

const DISTILBERT: Spec = Spec {
    base: "distilbert",
    layer_prefix: "distilbert.transformer.layer",
    outside: &[
        ("distilbert.embeddings.word_embeddings", Table(Vocab, Hidden)),
        ("distilbert.embeddings.position_embeddings", Table(Positions, Hidden)),
        ("distilbert.embeddings.LayerNorm", Norm(Hidden)),
    ],
    layer: &[
        ("attention.q_lin", Linear(Hidden, Hidden)),
        ("attention.k_lin", Linear(Hidden, Hidden)),
        ("attention.v_lin", Linear(Hidden, Hidden)),
        ("attention.out_lin", Linear(Hidden, Hidden)),
        ("sa_layer_norm", Norm(Hidden)),
        ("ffn.lin1", Linear(Hidden, Inner)),
        ("ffn.lin2", Linear(Inner, Hidden)),
        ("output_layer_norm", Norm(Hidden)),
    ],
    heads: &[
        (
            "ForMaskedLM",
            &[
                ("vocab_transform", Linear(Hidden, Hidden)),
                ("vocab_layer_norm", Norm(Hidden)),
                ("vocab_projector.bias", Vector(Vocab)),
                ("vocab_projector", UntiedMatrix(Hidden, Vocab)),
            ],
        ),
        ("ForSequenceClassification", &[("pre_classifier", Linear(Hidden, Hidden)), ("classifier", Linear(Hidden, Labels))]),
        ("ForMultipleChoice", &[("pre_classifier", Linear(Hidden, Hidden)), ("classifier", Linear(Hidden, Fixed(1)))]),
        ("ForTokenClassification", &[("classifier", Linear(Hidden, Labels))]),
        ("ForQuestionAnswering", &[("qa_outputs", Linear(Hidden, Labels))]),
        ("Model", &[]),
    ],
};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let inner = f.count_or("hidden_dim", BERT_DEFAULTS.inner)?;
    f.flag("sinusoidal_pos_embds", false)?;
    f.flag("tie_weights_", true)?;
    let sizes = Sizes::read(f, &Defaults { layers: 6, types: 0, ..BERT_DEFAULTS })?;
    f.not_counted("intermediate_size");
    DISTILBERT.read(f, &Sizes { inner, types: 0, ..sizes })
}

const XLM_LAYER: Blocks = &[
    ("attentions.{}.q_lin", Linear(Hidden, Hidden)),
    ("attentions.{}.k_lin", Linear(Hidden, Hidden)),
    ("attentions.{}.v_lin", Linear(Hidden, Hidden)),
    ("attentions.{}.out_lin", Linear(Hidden, Hidden)),
    ("layer_norm1.{}", Norm(Hidden)),
    ("ffns.{}.lin1", Linear(Hidden, Inner)),
    ("ffns.{}.lin2", Linear(Inner, Hidden)),
    ("layer_norm2.{}", Norm(Hidden)),
];

const XLM_HEADS: Heads = &[
    ("WithLMHeadModel", &[("pred_layer.proj.bias", Vector(Vocab)), ("pred_layer.proj", UntiedMatrix(Hidden, Vocab))]),
    ("ForMaskedLM", &[("pred_layer.proj.bias", Vector(Vocab)), ("pred_layer.proj", UntiedMatrix(Hidden, Vocab))]),
    ("ForSequenceClassification", &[("sequence_summary.summary", Linear(Hidden, Labels))]),
    ("ForTokenClassification", &[("classifier", Linear(Hidden, Labels))]),
    ("ForQuestionAnsweringSimple", &[("qa_outputs", Linear(Hidden, Labels))]),
    ("Model", &[]),
];

/// XLM and `FlauBERT`. The modules of a layer lie in lists of their own, so they are named by list.
pub(super) fn read_xlm(f: &Fields) -> Result<Draft, ConfigError> {
    let or = |key: &str, default: u64| f.count_or(key, default);
    let hidden = or("emb_dim", 2048)?;
    let heads = or("num_attention_heads", 16)?;
    let layers = super::encoder::layer_count(f, "num_hidden_layers", 12)?;
    let mut sizes = Sizes {
        hidden,
        inner: 4 * hidden,
        layers,
        heads,
        kv_heads: heads,
        head_dim: super::encoder::head_dim(f, "num_attention_heads", hidden, heads)?,
        vocab: match f.optional_count("vocab_size")? {
            Some(vocab) => vocab,
            None => or("n_words", 30145)?,
        },
        embedding: hidden,
        positions: or("max_position_embeddings", 512)?,
        types: 0,
        labels: labels(f)?,
        own: 0,
        own2: 0,
        tied: f.flag("tie_word_embeddings", true)?,
        gated: false,
    };
    if f.flag("asm", false)? {
        return Err(f.impossible("asm", "an adaptive softmax is not understood"));
    }
    let languages = f.count_or("n_langs", 1)?;
    let with_languages = f.flag("use_lang_emb", true)? && languages > 1;
    sizes.own = if with_languages { languages } else { 0 };
    for key in ["causal", "is_encoder", "sinusoidal_embeddings", "gelu_activation", "pre_norm"] {
        f.flag(key, false)?;
    }
    f.touch("n_words");
    let mut assumptions = Vec::new();
    let mut tensors = sizes.tensors(&[
        ("transformer.embeddings", Table(Vocab, Hidden)),
        ("transformer.position_embeddings", Table(Positions, Hidden)),
        ("transformer.lang_embeddings", Table(Dim::Own, Hidden)),
        ("transformer.layer_norm_emb", Norm(Hidden)),
    ]);
    tensors.extend(sizes.tensors(head_of(f, XLM_HEADS, &mut assumptions)?));
    let mut layer = Tensors::default();
    layer.extend(sizes.tensors(XLM_LAYER));
    let layers = sizes.equal_layers(Keeps::Nothing, &layer.build());
    Ok(Draft { assumptions, ..sizes.model(ComponentKind::TextEncoder, "transformer", "transformer", tensors, layers) })
}
