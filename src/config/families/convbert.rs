//! Two more encoders of text: ConvBERT (half of its heads are spans of a convolution) and XLNet (relative positions in every layer,
//! a vector for masked tokens).

use super::decoder::{Draft, Tensors, labels};
use super::encoder::{BERT_DEFAULTS, Block, Dim, Sizes, Spec, embeddings, head_dim, layer_count};
use super::narrow_bert::ELECTRA_HEADS;
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Keeps, Role};
use Block::{Linear, Norm};
use Dim::{Embedding, Hidden, Mapping};

pub(super) fn read_convbert(f: &Fields) -> Result<Draft, ConfigError> {
    const SPEC: Spec = Spec {
        base: "convbert",
        layer_prefix: "convbert.encoder.layer",
        outside: embeddings!("convbert", "convbert.embeddings_project" => Linear(Embedding, Mapping)),
        layer: &[("attention.output.dense", Linear(Hidden, Hidden)), ("attention.output.LayerNorm", Norm(Hidden)), ("output.LayerNorm", Norm(Hidden))],
        heads: ELECTRA_HEADS,
    };
    let sizes = Sizes::read(f, &BERT_DEFAULTS)?;
    let sizes = Sizes { embedding: f.count_or("embedding_size", 768)?, ..sizes };
    let (hidden, inner) = (sizes.hidden, sizes.inner);
    let heads = (sizes.heads / f.count_or("head_ratio", 2)?).max(1);
    let (width, kernel) = (heads.saturating_mul(hidden / heads / 2), f.count_or("conv_kernel_size", 9)?);
    let groups = f.count_or("num_groups", 1)?;
    if !hidden.is_multiple_of(groups) || !inner.is_multiple_of(groups) {
        return Err(f.impossible("num_groups", "it must divide `hidden_size` and `intermediate_size`"));
    }
    let mut t = Tensors::default();
    for name in ["query", "key", "value", "conv_out_layer"] {
        t.linear(&format!("attention.self.{name}"), hidden, width, true);
    }
    t.tensor("attention.self.key_conv_attn_layer.depthwise.weight", Role::Other, &[hidden, 1, kernel])
        .tensor("attention.self.key_conv_attn_layer.pointwise.weight", Role::Other, &[width, hidden, 1])
        .tensor("attention.self.key_conv_attn_layer.bias", Role::Other, &[width, 1])
        .linear("attention.self.conv_kernel_layer", width, heads.saturating_mul(kernel), true);
    for (name, role, inputs, outputs) in [("intermediate.dense", Role::Up, hidden, inner), ("output.dense", Role::Down, inner, hidden)] {
        if groups == 1 {
            t.linear(name, inputs, outputs, true);
        } else {
            t.tensor(&format!("{name}.weight"), role, &[groups, inputs / groups, outputs / groups]).tensor(&format!("{name}.bias"), role, &[outputs]);
        }
    }
    let more = t.build();
    let mut draft = SPEC.read(f, &Sizes { heads, kv_heads: heads, head_dim: hidden / heads / 2, ..sizes })?;
    if !f.flag("summary_use_proj", false)? {
        // Unlike ELECTRA's, its class has no such key: choices are judged without a further matrix.
        draft.decoder.tensors.retain(|tensor| !tensor.name.starts_with("sequence_summary"));
    }
    for (_, tensors) in &mut draft.decoder.layers {
        tensors.extend(more.iter().cloned());
    }
    Ok(draft)
}

pub(super) fn read_xlnet(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(&[("vocab_size", 32_000), ("hidden_size", 1024), ("num_attention_heads", 16), ("d_inner", 4096)]);
    let (hidden, heads, inner, vocab) = (f.count("hidden_size")?, f.count("num_attention_heads")?, f.count("d_inner")?, f.count("vocab_size")?);
    let layers = layer_count(f, "num_hidden_layers", 24)?;
    let head = head_dim(f, "num_attention_heads", hidden, heads)?;
    for key in ["attn_type", "bi_data", "clamp_len", "d_head", "mem_len", "reuse_len", "same_length", "use_mems_eval", "use_mems_train", "ff_activation"] {
        f.touch(key);
    }
    for key in ["summary_activation", "summary_last_dropout", "summary_type", "untie_r"] {
        f.touch(key);
    }
    let mut t = Tensors::default();
    for (name, role) in [("q", Role::Query), ("k", Role::Key), ("v", Role::Value), ("o", Role::AttentionOutput), ("r", Role::Position)] {
        t.tensor(&format!("rel_attn.{name}"), role, &[hidden, heads, head]);
    }
    for name in ["r_r_bias", "r_s_bias", "r_w_bias"] {
        t.tensor(&format!("rel_attn.{name}"), Role::Position, &[heads, head]);
    }
    t.tensor("rel_attn.seg_embed", Role::Position, &[2, heads, head]).norm("rel_attn.layer_norm", hidden, true).norm("ff.layer_norm", hidden, true);
    t.tensor("ff.layer_1.weight", Role::Up, &[inner, hidden]).tensor("ff.layer_1.bias", Role::Up, &[inner]);
    let layer = t.tensor("ff.layer_2.weight", Role::Down, &[hidden, inner]).tensor("ff.layer_2.bias", Role::Down, &[hidden]).build();
    let mut t = Tensors::default();
    t.tensor("transformer.word_embedding.weight", Role::Embedding, &[vocab, hidden]).tensor("transformer.mask_emb", Role::Other, &[1, 1, hidden]);
    let class = f.architecture()?.unwrap_or_default();
    let mut assumptions = Vec::new();
    let summarises = f.flag("summary_use_proj", true)?;
    let summary = |t: &mut Tensors| {
        if summarises {
            t.linear("sequence_summary.summary", hidden, hidden, true);
        }
    };
    match class.as_str() {
        "XLNetModel" => {}
        "XLNetForSequenceClassification" => {
            summary(&mut t);
            t.linear("logits_proj", hidden, labels(f)?, true);
        }
        "XLNetForMultipleChoice" => {
            summary(&mut t);
            t.linear("logits_proj", hidden, 1, true);
        }
        "XLNetForTokenClassification" => _ = t.linear("classifier", hidden, labels(f)?, true),
        "XLNetForQuestionAnsweringSimple" => _ = t.linear("qa_outputs", hidden, labels(f)?, true),
        _ => {
            if class != "XLNetLMHeadModel" {
                assumptions.push(format!("architecture `{class}` is counted with a language-model head"));
            }
            if !f.flag("tie_word_embeddings", true)? {
                t.tensor("lm_loss.weight", Role::Head, &[vocab, hidden]);
            }
            t.tensor("lm_loss.bias", Role::Head, &[vocab]);
        }
    }
    let sizes = Sizes::plain(hidden, inner, layers, heads, head, vocab);
    let draft = sizes.model(ComponentKind::TextEncoder, "transformer", "transformer.layer", t.build(), sizes.equal_layers(Keeps::Nothing, &layer));
    Ok(Draft { assumptions, ..draft })
}
