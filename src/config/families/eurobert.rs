//! `EuroBERT` and `UltraBERT`: Llama's tensors read in both directions, with BERT's heads.

use super::decoder::Draft;
use super::encoder::{Block, Defaults, Dim, Heads, Sizes, head_of};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Keeps, Mixer, Span};
use Block::{Linear, Matrix, Scale, Table, UntiedMatrix, Vector};
use Dim::{Hidden, Inner, Keys, Labels, Own, Own2, Queries, Vocab};

const CLASS: Defaults = Defaults { vocab: 128_256, hidden: 768, layers: 12, heads: 12, inner: 3072, positions: 0, types: 0 };

/// The language-model head has a bias where the feed-forward has.
const HEADS: Heads = &[
    ("ForMaskedLM", &[("lm_head", UntiedMatrix(Hidden, Vocab)), ("lm_head.bias", Vector(Own))]),
    ("ForSequenceClassification", &[("dense", Linear(Hidden, Hidden)), ("classifier", Linear(Hidden, Labels))]),
    ("ForTokenClassification", &[("classifier", Linear(Hidden, Labels))]),
    ("ForQuestionAnswering", &[("qa_outputs", Linear(Hidden, Labels))]),
    ("Model", &[]),
];

/// The language-model head has a width of its own between its matrices.
const ULTRA_HEADS: Heads = &[
    ("ForMaskedLM", &[("head.linear1", Matrix(Hidden, Own2)), ("head.linear2", Matrix(Own2, Hidden)), ("head.decoder", UntiedMatrix(Hidden, Vocab))]),
    ("ForSequenceClassification", &[("classifier", Linear(Hidden, Labels))]),
    ("ForTokenClassification", &[("classifier", Linear(Hidden, Labels))]),
    ("ForQuestionAnswering", &[("qa_outputs", Linear(Hidden, Labels))]),
    ("Model", &[]),
];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    read_with(f, &CLASS, HEADS)
}

/// `UltraBERT`: two of three layers see a window only, and its language-model head narrows before it widens.
pub(super) fn read_ultra(f: &Fields) -> Result<Draft, ConfigError> {
    let mut draft = read_with(f, &Defaults { vocab: 32_000, hidden: 4096, layers: 32, heads: 32, inner: 11_008, ..CLASS }, ULTRA_HEADS)?;
    // Older files give a window per layer, zero or null for all.
    let windows = f.raw("attention_windows").map(|list| {
        let window = |one: &serde_json::Value| if one.is_null() { Some(0) } else { one.as_u64().filter(|&window| window <= 1 << 40) };
        let windows = list.as_array().and_then(|list| list.iter().map(window).collect::<Option<Vec<u64>>>());
        windows.ok_or_else(|| f.impossible("attention_windows", "it must be a list of whole numbers, zero or null for layers that see everything"))
    });
    let windows = windows.transpose()?;
    let given = windows.iter().flatten().copied().find(|&window| window > 0);
    let radius = given.or(f.optional_count("sliding_window")?).unwrap_or(128);
    let listed = f.optional_texts("layer_types")?;
    for (key, entries) in [("layer_types", listed.as_ref().map(Vec::len)), ("attention_windows", windows.as_ref().map(Vec::len))] {
        if entries.is_some_and(|entries| entries != draft.decoder.layers.len()) {
            return Err(f.impossible(key, "it must have one entry per layer (`num_hidden_layers`)"));
        }
    }
    if listed.iter().flatten().any(|kind| !["full_attention", "sliding_attention"].contains(&kind.as_str())) {
        return Err(f.impossible("layer_types", "only `full_attention` and `sliding_attention` are known for this model type"));
    }
    let slides = |number: usize| match (&listed, &windows) {
        (Some(kinds), _) => kinds.get(number).is_some_and(|kind| kind == "sliding_attention"),
        (None, Some(windows)) => windows.get(number).is_some_and(|&window| window > 0),
        (None, None) => !(number + 1).is_multiple_of(3),
    };
    for (number, (layer, _)) in draft.decoder.layers.iter_mut().enumerate() {
        if let Mixer::Attention(attention) = &mut layer.mixer
            && slides(number)
        {
            attention.span = Span::Sliding(radius.saturating_mul(2).saturating_add(1));
        }
    }
    Ok(draft)
}

fn read_with(f: &Fields, class: &Defaults, heads: Heads) -> Result<Draft, ConfigError> {
    let sizes = Sizes::read(f, class)?;
    let mut assumptions = Vec::new();
    let kv_heads = f.optional_count("num_key_value_heads")?.unwrap_or(sizes.heads);
    if !sizes.heads.is_multiple_of(kv_heads) {
        return Err(f.impossible("num_key_value_heads", "it must divide `num_attention_heads`"));
    }
    let head_dim = f.optional_count("head_dim")?.unwrap_or(sizes.head_dim);
    let tied = f.flag("tie_word_embeddings", false)?;
    let attention_bias = f.flag("attention_bias", false)?;
    let mlp_bias = f.flag("mlp_bias", false)?;
    let head = head_of(f, heads, &mut assumptions)?;
    let narrows = head.iter().any(|(_, block)| matches!(block, Matrix(_, Own2)));
    let own2 = if narrows { f.count_or("prediction_head_size", 768)? } else { f.touch("prediction_head_size").unwrap_or_default() };
    let sizes = Sizes { types: 0, kv_heads, head_dim, tied, gated: true, own: if mlp_bias { sizes.vocab } else { 0 }, own2, ..sizes };
    let mut tensors = sizes.tensors(&[("model.embed_tokens", Table(Vocab, Hidden)), ("model.norm", Scale(Hidden))]);
    tensors.extend(sizes.tensors(head));
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
