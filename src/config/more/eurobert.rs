//! `EuroBERT`: Llama's tensors read in both directions, with BERT's heads.

use super::decoder::Draft;
use super::encoder::{Block, Defaults, Dim, Heads, Sizes, head_of};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Keeps};
use Block::{Linear, Matrix, Scale, Table, UntiedMatrix, Vector};
use Dim::{Hidden, Inner, Keys, Labels, Own, Queries, Vocab};

const CLASS: Defaults = Defaults { vocab: 128_256, hidden: 768, layers: 12, heads: 12, inner: 3072, positions: 0, types: 0 };

/// The language-model head has a bias where the feed-forward has.
const HEADS: Heads = &[
    ("ForMaskedLM", &[("lm_head", UntiedMatrix(Hidden, Vocab)), ("lm_head.bias", Vector(Own))]),
    ("ForSequenceClassification", &[("dense", Linear(Hidden, Hidden)), ("classifier", Linear(Hidden, Labels))]),
    ("ForTokenClassification", &[("classifier", Linear(Hidden, Labels))]),
    ("ForQuestionAnswering", &[("qa_outputs", Linear(Hidden, Labels))]),
    ("Model", &[]),
];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let sizes = Sizes::read(f, &CLASS)?;
    let kv_heads = f.optional_count("num_key_value_heads")?.unwrap_or(sizes.heads);
    if !sizes.heads.is_multiple_of(kv_heads) {
        return Err(f.impossible("num_key_value_heads", "it must divide `num_attention_heads`"));
    }
    let head_dim = f.optional_count("head_dim")?.unwrap_or(sizes.head_dim);
    let tied = f.flag("tie_word_embeddings", false)?;
    let attention_bias = f.flag("attention_bias", false)?;
    let mlp_bias = f.flag("mlp_bias", false)?;
    let sizes = Sizes { types: 0, kv_heads, head_dim, tied, gated: true, own: if mlp_bias { sizes.vocab } else { 0 }, ..sizes };
    let mut assumptions = Vec::new();
    let mut tensors = sizes.tensors(&[("model.embed_tokens", Table(Vocab, Hidden)), ("model.norm", Scale(Hidden))]);
    tensors.extend(sizes.tensors(head_of(f, HEADS, &mut assumptions)?));
    let mut layer = sizes.tensors(if attention_bias {
        &[
            ("self_attn.q_proj", Linear(Hidden, Queries)),
            ("self_attn.k_proj", Linear(Hidden, Keys)),
            ("self_attn.v_proj", Linear(Hidden, Keys)),
            ("self_attn.o_proj", Linear(Queries, Hidden)),
        ]
    } else {
        &[
            ("self_attn.q_proj", Matrix(Hidden, Queries)),
            ("self_attn.k_proj", Matrix(Hidden, Keys)),
            ("self_attn.v_proj", Matrix(Hidden, Keys)),
            ("self_attn.o_proj", Matrix(Queries, Hidden)),
        ]
    });
    layer.extend(sizes.tensors(if mlp_bias {
        &[("mlp.gate_proj", Linear(Hidden, Inner)), ("mlp.up_proj", Linear(Hidden, Inner)), ("mlp.down_proj", Linear(Inner, Hidden))]
    } else {
        &[("mlp.gate_proj", Matrix(Hidden, Inner)), ("mlp.up_proj", Matrix(Hidden, Inner)), ("mlp.down_proj", Matrix(Inner, Hidden))]
    }));
    layer.extend(sizes.tensors(&[("input_layernorm", Scale(Hidden)), ("post_attention_layernorm", Scale(Hidden))]));
    let layers = sizes.equal_layers(Keeps::Nothing, &layer);
    Ok(Draft { assumptions, ..sizes.model(ComponentKind::TextEncoder, "model", "model.layers", tensors, layers) })
}
