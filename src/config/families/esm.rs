//! ESM-2: BERT with norms before attention and feed-forward, rotary positions in its published models, a head that predicts contacts.

use super::decoder::Draft;
use super::encoder::{BERT_DEFAULTS, Block, Blocks, Defaults, Dim, Sizes, Spec};
use super::{ConfigError, Fields};
use Block::{Linear, Norm, Table, UntiedMatrix, Vector};
use Dim::{Embedding, Fixed, Hidden, Inner, Labels, Own, Own2, Positions, Vocab};

const CONTACTS: (&str, Block) = ("esm.contact_head.regression", Linear(Own, Fixed(1)));
const DEEP: Blocks = &[CONTACTS, ("classifier.dense", Linear(Hidden, Hidden)), ("classifier.out_proj", Linear(Hidden, Labels))];

const ESM: Spec = Spec {
    base: "esm",
    layer_prefix: "esm.encoder.layer",
    outside: &[
        ("esm.embeddings.word_embeddings", Table(Vocab, Embedding)),
        ("esm.embeddings.position_embeddings", Table(Positions, Embedding)),
        ("esm.embeddings.layer_norm", Norm(Own2)),
        ("esm.encoder.emb_layer_norm_after", Norm(Hidden)),
    ],
    layer: &[
        ("attention.self.query", Linear(Hidden, Hidden)),
        ("attention.self.key", Linear(Hidden, Hidden)),
        ("attention.self.value", Linear(Hidden, Hidden)),
        ("attention.output.dense", Linear(Hidden, Hidden)),
        ("attention.LayerNorm", Norm(Hidden)),
        ("intermediate.dense", Linear(Hidden, Inner)),
        ("output.dense", Linear(Inner, Hidden)),
        ("LayerNorm", Norm(Hidden)),
    ],
    heads: &[
        (
            "ForMaskedLM",
            &[
                CONTACTS,
                ("lm_head.dense", Linear(Hidden, Hidden)),
                ("lm_head.layer_norm", Norm(Hidden)),
                ("lm_head.bias", Vector(Vocab)),
                ("lm_head.decoder", UntiedMatrix(Hidden, Vocab)),
            ],
        ),
        ("ForSequenceClassification", DEEP),
        ("ForTokenClassification", &[CONTACTS, ("classifier", Linear(Hidden, Labels))]),
        ("Model", &[CONTACTS, ("esm.pooler.dense", Linear(Hidden, Hidden))]),
    ],
};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let vocab = f.count("vocab_size")?;
    let sizes = Sizes::read(f, &Defaults { vocab, positions: 1026, types: 0, ..BERT_DEFAULTS })?;
    let is_absolute = f.optional_text("position_embedding_type")?.is_none_or(|kind| kind == "absolute");
    let own2 = if f.flag("emb_layer_norm_before", false)? { sizes.hidden } else { 0 };
    for key in ["esmfold_config", "is_folding_model", "token_dropout", "vocab_list"] {
        f.touch(key);
    }
    if f.flag("is_folding_model", false)? {
        return Err(f.impossible("is_folding_model", "the folding trunk of ESMFold is not known here"));
    }
    let positions = if is_absolute { sizes.positions } else { 0 };
    let gate = f.optional_flag("add_bias_fnn")?;
    let sizes = Sizes { types: 0, own: sizes.layers.saturating_mul(sizes.heads), own2, gated: gate.is_some(), ..sizes };
    let mut draft = ESM.read(f, &Sizes { positions, ..sizes })?;
    if let Some(has_bias) = gate {
        gated(&mut draft, has_bias);
        // Its class makes the table whether positions turn or not.
        if positions == 0 {
            draft.decoder.tensors.extend(sizes.tensors(&[("esm.embeddings.position_embeddings", Table(Positions, Embedding))]));
        }
    }
    Ok(draft)
}

/// The feed-forward of the Nucleotide Transformer's second version (its `modeling_esm.py`): gate and up in one matrix, biases by
/// `add_bias_fnn`.
fn gated(draft: &mut Draft, has_bias: bool) {
    const BIASES: [&str; 2] = ["intermediate.dense.bias", "output.dense.bias"];
    for (_, tensors) in &mut draft.decoder.layers {
        tensors.retain(|tensor| has_bias || !BIASES.contains(&tensor.name.as_str()));
        for tensor in tensors.iter_mut().filter(|tensor| tensor.name.starts_with("intermediate.dense.")) {
            if let Some(outputs) = tensor.shape.first_mut() {
                *outputs = outputs.saturating_mul(2);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_nucleotide_transformer_gates_its_feed_forward() {
        let count = |more: &str| {
            let config = format!(
                r#"{{"model_type": "esm", "architectures": ["EsmForMaskedLM"], "hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 16,
                    "num_hidden_layers": 12, "max_position_embeddings": 2050, "position_embedding_type": "rotary", "emb_layer_norm_before": false,
                    "tie_word_embeddings": false, "vocab_size": 4107{more}}}"#
            );
            crate::config::read(&config).unwrap().parameters().unwrap().get()
        };
        // Of the second version with 50 million, 55.9 million as published.
        assert_eq!(count(r#", "add_bias_fnn": false"#), 55_904_972);
        assert_eq!(count(r#", "add_bias_fnn": true"#), 55_904_972 + 12 * (4096 + 512));
        // ESM-2 has neither the gate nor the table.
        assert_eq!(count(""), 55_904_972 - 2050 * 512 - 12 * (2048 * 512 - 2048 - 512));
    }
}
