//! LXMERT: words, and regions that a detector found in an image, each in layers of its own, then in layers that look at each other.

use super::decoder::{Draft, Tensors};
use super::networks::{heads, layers_or_none, size};
use super::vision::{BERT, Encoder, Style, Tower, linear, norm};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Role};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let (hidden, intermediate, vocab) = (size(f, "hidden_size", 768)?, size(f, "intermediate_size", 3072)?, size(f, "vocab_size", 30_522)?);
    let heads = heads(f, "num_attention_heads", 12, hidden)?;
    let stack = |key, default| Ok::<_, ConfigError>(Encoder { hidden, layers: layers_or_none(f, key, default)?, heads, intermediate });
    let (words, regions, both) = (stack("l_layers", 9)?, stack("r_layers", 5)?, stack("x_layers", 5)?);
    // The three again, as the class writes them.
    f.touch("num_hidden_layers");
    let seen = size(f, "visual_feat_dim", 2048)?;
    let mut t = Tensors::default();
    for (table, rows) in [
        ("word_embeddings", vocab),
        ("position_embeddings", size(f, "max_position_embeddings", 512)?),
        ("token_type_embeddings", size(f, "type_vocab_size", 2)?),
    ] {
        let role = if table == "word_embeddings" { Role::Embedding } else { Role::Position };
        t.tensor(&format!("embeddings.{table}.weight"), role, &[rows, hidden]);
    }
    norm(&mut t, "embeddings.LayerNorm", hidden, true);
    linear(&mut t, Role::Other, "pooler.dense", hidden, hidden, true);
    let mut eyes = Tensors::default();
    for (name, inputs) in [("visn", seen), ("box", size(f, "visual_pos_dim", 4)?)] {
        linear(&mut eyes, Role::Other, &format!("encoder.visn_fc.{name}_fc"), inputs, hidden, true);
        norm(&mut eyes, &format!("encoder.visn_fc.{name}_layer_norm"), hidden, true);
    }
    let class = f.architecture()?.unwrap_or_else(|| "LxmertModel".to_owned());
    let tower = |encoder: Encoder, at: &str, tensors: Tensors, layers| {
        let mut tensors = tensors;
        let tower = Tower { encoder, layers_at: format!("encoder.{at}"), tensors: tensors.build(), layers };
        if class == "LxmertModel" { tower } else { tower.below("lxmert") }
    };
    let own = tower(words, "layer", t, BERT.layers(&words)).with(head(f, &class, [hidden, vocab, seen])?);
    let seeing = tower(regions, "r_layers", eyes, BERT.layers(&regions)).component("vision", ComponentKind::VisionTower);
    let crossing = tower(both, "x_layers", Tensors::default(), Style::layers_of(&both, &crossing(&both))).component("cross_modal", ComponentKind::Other);
    let mut draft = own.draft(ComponentKind::TextEncoder, "", vocab).with(seeing).with(crossing);
    if !["LxmertModel", "LxmertForPreTraining", "LxmertForQuestionAnswering"].contains(&class.as_str()) {
        draft.assumptions.push(format!("architecture `{class}` is counted without its head"));
    }
    Ok(draft)
}

/// A layer of both: one attention to the other side that both share, and each side's own layer.
fn crossing(e: &Encoder) -> Vec<crate::model::Tensor> {
    let mut t = Tensors::default();
    for (module, inner) in [("visual_attention", "att"), ("lang_self_att", "self"), ("visn_self_att", "self")] {
        for (leaf, role) in [("query", Role::Query), ("key", Role::Key), ("value", Role::Value)] {
            linear(&mut t, role, &format!("{module}.{inner}.{leaf}"), e.hidden, e.hidden, true);
        }
        linear(&mut t, Role::AttentionOutput, &format!("{module}.output.dense"), e.hidden, e.hidden, true);
        norm(&mut t, &format!("{module}.output.LayerNorm"), e.hidden, true);
    }
    for side in ["lang", "visn"] {
        linear(&mut t, Role::Up, &format!("{side}_inter.dense"), e.hidden, e.intermediate, true);
        linear(&mut t, Role::Down, &format!("{side}_output.dense"), e.intermediate, e.hidden, true);
        norm(&mut t, &format!("{side}_output.LayerNorm"), e.hidden, true);
    }
    t.build()
}

/// What stands above, by the class.
fn head(f: &Fields, class: &str, [hidden, vocab, seen]: [u64; 3]) -> Result<Tensors, ConfigError> {
    let mut t = Tensors::default();
    let transform = |t: &mut Tensors, at: &str| {
        linear(t, Role::Other, &format!("{at}.transform.dense"), hidden, hidden, true);
        norm(t, &format!("{at}.transform.LayerNorm"), hidden, true);
    };
    let tied = f.flag("tie_word_embeddings", true)?;
    let (answers, objects, attributes) = (size(f, "num_qa_labels", 9500)?, size(f, "num_object_labels", 1600)?, size(f, "num_attr_labels", 400)?);
    let (tells_objects, asks) = (f.flag("task_obj_predict", true)?, f.flag("task_qa", true)?);
    let told = [("obj", "visual_obj_loss", objects), ("attr", "visual_attr_loss", attributes), ("feat", "visual_feat_loss", seen)];
    let told = told.map(|(name, key, count)| f.flag(key, true).map(|is_told| (name, is_told, count)));
    for unread in ["task_matched", "task_mask_lm", "visual_loss_normalizer"] {
        f.touch(unread);
    }
    if class == "LxmertForPreTraining" {
        transform(&mut t, "cls.predictions");
        t.tensor("cls.predictions.bias", Role::Head, &[vocab]);
        if !tied {
            t.tensor("cls.predictions.decoder.weight", Role::Head, &[vocab, hidden]);
        }
        linear(&mut t, Role::Score, "cls.seq_relationship", hidden, 2, true);
        if tells_objects {
            transform(&mut t, "obj_predict_head");
            for one in told {
                let (name, is_told, count) = one?;
                if is_told {
                    linear(&mut t, Role::Score, &format!("obj_predict_head.decoder_dict.{name}"), hidden, count, true);
                }
            }
        }
    }
    if class == "LxmertForQuestionAnswering" || (class == "LxmertForPreTraining" && asks) {
        linear(&mut t, Role::Other, "answer_head.logit_fc.0", hidden, 2 * hidden, true);
        norm(&mut t, "answer_head.logit_fc.2", 2 * hidden, true);
        linear(&mut t, Role::Score, "answer_head.logit_fc.3", 2 * hidden, answers, true);
    }
    Ok(t)
}
