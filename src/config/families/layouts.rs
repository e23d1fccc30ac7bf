//! Encoders of pages: `LayoutLM` (where a word stands is added to it), `LayoutLM` 3 (patches of the page among the words) and `LiLT` (a
//! second, narrower stream for the layout beside `RoBERTa`'s).

use super::bert::LAYER;
use super::bert_kin::PREDICTIONS;
use super::decoder::{Draft, Tensors, labels};
use super::encoder::{BERT_DEFAULTS, Block, Defaults, Dim, Sizes, Spec, embeddings};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Keeps, Role, Tensor};
use Block::{Linear, Table};
use Dim::{Hidden, Labels, Own};

/// `LayoutLM` pools whatever stands above.
pub(super) fn read_layoutlm(f: &Fields) -> Result<Draft, ConfigError> {
    const POOLER: (&str, Block) = ("layoutlm.pooler.dense", Linear(Hidden, Hidden));
    const SPEC: Spec = Spec {
        base: "layoutlm",
        layer_prefix: "layoutlm.encoder.layer",
        outside: embeddings!(
            "layoutlm",
            "layoutlm.embeddings.x_position_embeddings" => Table(Own, Hidden),
            "layoutlm.embeddings.y_position_embeddings" => Table(Own, Hidden),
            "layoutlm.embeddings.h_position_embeddings" => Table(Own, Hidden),
            "layoutlm.embeddings.w_position_embeddings" => Table(Own, Hidden)
        ),
        layer: LAYER,
        heads: &[
            ("ForMaskedLM", &[POOLER, PREDICTIONS[0], PREDICTIONS[1], PREDICTIONS[2], PREDICTIONS[3]]),
            ("Classification", &[POOLER, ("classifier", Linear(Hidden, Labels))]),
            ("ForQuestionAnswering", &[POOLER, ("qa_outputs", Linear(Hidden, Labels))]),
            ("Model", &[POOLER]),
        ],
    };
    let own = f.count_or("max_2d_position_embeddings", 1024)?;
    SPEC.read(f, &Sizes { own, ..Sizes::read(f, &BERT_DEFAULTS)? })
}

/// The embeddings of words with `RoBERTa`'s tables.
fn words(t: &mut Tensors, s: &Sizes, at: &str) {
    let name = |leaf: &str| format!("{at}.{leaf}");
    t.embedding(&name("word_embeddings"), s.vocab, s.hidden).embedding(&name("position_embeddings"), s.positions, s.hidden).embedding(
        &name("token_type_embeddings"),
        s.types,
        s.hidden,
    );
    t.norm(&name("LayerNorm"), s.hidden, true);
}

/// A classifier of two matrices, or what else the class puts above; the bare model pools when its family does.
fn above(f: &Fields, t: &mut Tensors, s: &Sizes, base: &'static str, pools: bool) -> Result<Vec<String>, ConfigError> {
    let class = f.architecture()?.unwrap_or_default();
    let labels = labels(f)?;
    let mut deep =
        |module: &str| {
            t.linear(&format!("{module}.dense"), s.hidden, s.hidden, true)
                .tensor(&format!("{module}.out_proj.weight"), Role::Score, &[labels, s.hidden])
                .tensor(&format!("{module}.out_proj.bias"), Role::Score, &[labels]);
        };
    match class.as_str() {
        name if name.ends_with("ForSequenceClassification") => deep("classifier"),
        // LayoutLM 3 takes a classifier of two matrices for ten labels and more, and always for spans.
        name if name.ends_with("ForTokenClassification") && !pools && labels >= 10 => deep("classifier"),
        name if name.ends_with("ForQuestionAnswering") && !pools => deep("qa_outputs"),
        name if name.ends_with("ForTokenClassification") => _ = t.linear("classifier", s.hidden, labels, true),
        name if name.ends_with("ForQuestionAnswering") => _ = t.linear("qa_outputs", s.hidden, labels, true),
        name if name.ends_with("Model") => {
            if pools {
                t.linear(&format!("{base}.pooler.dense"), s.hidden, s.hidden, true);
            }
        }
        _ => return Ok(vec![format!("architecture `{class}` is counted as the plain encoder")]),
    }
    Ok(Vec::new())
}

fn finish(s: &Sizes, base: &'static str, prefix: &'static str, t: &mut Tensors, layer: &[Tensor], assumptions: Vec<String>) -> Draft {
    Draft { assumptions, ..s.model(ComponentKind::TextEncoder, base, prefix, t.build(), s.equal_layers(Keeps::Nothing, layer)) }
}

pub(super) fn read_lilt(f: &Fields) -> Result<Draft, ConfigError> {
    let s = Sizes::read(f, &BERT_DEFAULTS)?;
    let shrink = f.count_or("channel_shrink_ratio", 4)?;
    let rows = f.count_or("max_2d_position_embeddings", 1024)?;
    let (narrow, inner) = (s.hidden / shrink, s.inner / shrink);
    if narrow == 0 || inner == 0 {
        return Err(f.impossible("channel_shrink_ratio", "it must be less than the widths that it divides"));
    }
    let mut t = Tensors::default();
    words(&mut t, &s, "lilt.embeddings");
    let at = "lilt.layout_embeddings";
    for axis in ["x", "y", "h", "w"] {
        t.embedding(&format!("{at}.{axis}_position_embeddings"), rows, s.hidden / 6);
    }
    // The sixth parts of all six numbers of a box.
    t.embedding(&format!("{at}.box_position_embeddings"), s.positions, narrow).linear(&format!("{at}.box_linear_embeddings"), s.hidden / 6 * 6, narrow, true);
    t.norm(&format!("{at}.LayerNorm"), narrow, true);
    let mut layer = Tensors::default();
    layer.extend(s.tensors(LAYER));
    for name in ["query", "key", "value"] {
        layer.linear(&format!("attention.self.layout_{name}"), narrow, narrow, true);
    }
    layer
        .linear("attention.layout_output.dense", narrow, narrow, true)
        .norm("attention.layout_output.LayerNorm", narrow, true)
        .linear("layout_intermediate.dense", narrow, inner, true)
        .linear("layout_output.dense", inner, narrow, true)
        .norm("layout_output.LayerNorm", narrow, true);
    let layer = layer.build();
    let assumptions = above(f, &mut t, &s, "lilt", true)?;
    Ok(finish(&s, "lilt", "lilt.encoder.layer", &mut t, &layer, assumptions))
}

pub(super) fn read_layoutlmv3(f: &Fields) -> Result<Draft, ConfigError> {
    let s = Sizes::read(f, &Defaults { vocab: 50265, ..BERT_DEFAULTS })?;
    let or = |key: &str, default: u64| f.count_or(key, default);
    let (rows, patch) = (or("max_2d_position_embeddings", 1024)?, or("patch_size", 16)?);
    let mut t = Tensors::default();
    if f.flag("text_embed", true)? {
        words(&mut t, &s, "layoutlmv3.embeddings");
        for (axis, key) in [("x", "coordinate_size"), ("y", "coordinate_size"), ("h", "shape_size"), ("w", "shape_size")] {
            t.embedding(&format!("layoutlmv3.embeddings.{axis}_position_embeddings"), rows, or(key, 128)?);
        }
    }
    if f.flag("visual_embed", true)? {
        let side = or("input_size", 224)? / patch;
        t.convolution("layoutlmv3.patch_embed.proj", &[s.hidden, or("num_channels", 3)?, patch, patch], true)
            .tensor("layoutlmv3.cls_token", Role::Other, &[1, 1, s.hidden])
            .tensor("layoutlmv3.pos_embed", Role::Position, &[1, side.saturating_mul(side).saturating_add(1), s.hidden])
            .norm("layoutlmv3.LayerNorm", s.hidden, true)
            .norm("layoutlmv3.norm", s.hidden, true);
    }
    if f.flag("has_relative_attention_bias", true)? {
        t.linear("layoutlmv3.encoder.rel_pos_bias", or("rel_pos_bins", 32)?, s.heads, false);
    }
    if f.flag("has_spatial_attention_bias", true)? {
        let bins = or("rel_2d_pos_bins", 64)?;
        t.linear("layoutlmv3.encoder.rel_pos_x_bias", bins, s.heads, false).linear("layoutlmv3.encoder.rel_pos_y_bias", bins, s.heads, false);
    }
    for key in ["max_rel_2d_pos", "max_rel_pos", "second_input_size", "input_size", "coordinate_size", "shape_size", "rel_2d_pos_bins", "rel_pos_bins"] {
        f.touch(key);
    }
    let assumptions = above(f, &mut t, &s, "layoutlmv3", false)?;
    Ok(finish(&s, "layoutlmv3", "layoutlmv3.encoder.layer", &mut t, &s.tensors(LAYER), assumptions))
}
