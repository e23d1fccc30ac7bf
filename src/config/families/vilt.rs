//! `ViLT`: words and patches of an image in one encoder, told apart by their kind.

use super::decoder::{Draft, Tensors, labels};
use super::vision::{Encoder, Patches, Tower, VIT, linear, norm};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Role};

/// `ViltConfig` of transformers 5.23.
const CLASS: &[(&str, u64)] = &[
    ("hidden_size", 768),
    ("intermediate_size", 3072),
    ("num_hidden_layers", 12),
    ("num_attention_heads", 12),
    ("image_size", 384),
    ("patch_size", 32),
    ("vocab_size", 30_522),
    ("max_position_embeddings", 40),
    ("type_vocab_size", 2),
    ("modality_type_vocab_size", 2),
];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(CLASS);
    let (e, patches, vocab) = (Encoder::read(f)?, Patches::read(f)?, f.count("vocab_size")?);
    let hidden = e.hidden;
    for key in ["max_image_length", "num_images"] {
        f.touch(key);
    }
    let class = f.architecture()?.unwrap_or_default();
    let mut t = Tensors::default();
    t.tensor("embeddings.cls_token", Role::Other, &[1, 1, hidden])
        .tensor("embeddings.position_embeddings", Role::Position, &[1, patches.number.saturating_add(1), hidden])
        .tensor("embeddings.text_embeddings.word_embeddings.weight", Role::Embedding, &[vocab, hidden])
        .tensor("embeddings.text_embeddings.position_embeddings.weight", Role::Position, &[f.count("max_position_embeddings")?, hidden])
        .tensor("embeddings.text_embeddings.token_type_embeddings.weight", Role::Other, &[f.count("type_vocab_size")?, hidden]);
    norm(&mut t, "embeddings.text_embeddings.LayerNorm", hidden, true);
    patches.convolution(&mut t, "embeddings.patch_embeddings.projection", hidden, true);
    let mut kinds = f.count("modality_type_vocab_size")?;
    if class.ends_with("ForImagesAndTextClassification") {
        // Each image of a pair has a kind of its own: the class is built with three.
        kinds = kinds.max(3);
    }
    t.tensor("embeddings.token_type_embeddings.weight", Role::Other, &[kinds, hidden]);
    norm(&mut t, "layernorm", hidden, true);
    if !class.ends_with("ForTokenClassification") {
        linear(&mut t, Role::Other, "pooler.dense", hidden, hidden, true);
    }
    let style = VIT.biases(f.flag("qkv_bias", true)?, true, true);
    let tower = Tower { encoder: e, layers_at: "encoder.layer".to_owned(), tensors: t.build(), layers: style.layers(&e) };
    let mut head = Tensors::default();
    let twice = hidden.saturating_mul(2);
    let mut assumptions = Vec::new();
    match class.as_str() {
        "ViltModel" => {}
        "ViltForQuestionAnswering" => {
            linear(&mut head, Role::Score, "classifier.0", hidden, twice, true);
            norm(&mut head, "classifier.1", twice, true);
            linear(&mut head, Role::Score, "classifier.3", twice, labels(f)?, true);
        }
        "ViltForImageAndTextRetrieval" => linear(&mut head, Role::Score, "rank_output", hidden, 1, true),
        "ViltForTokenClassification" => linear(&mut head, Role::Score, "classifier", hidden, labels(f)?, true),
        "ViltForMaskedLM" => {
            linear(&mut head, Role::Other, "mlm_score.transform.dense", hidden, hidden, true);
            norm(&mut head, "mlm_score.transform.LayerNorm", hidden, true);
            // The embedding whatever the file says.
            head.tensor("mlm_score.bias", Role::Head, &[vocab]);
        }
        _ => assumptions.push(format!("architecture `{class}` is counted as `ViltModel`, without its head")),
    }
    f.touch("tie_word_embeddings");
    let tower = if class == "ViltModel" { tower } else { tower.below("vilt") };
    Ok(Draft { assumptions, ..tower.with(head).draft(ComponentKind::TextEncoder, "", vocab) })
}
