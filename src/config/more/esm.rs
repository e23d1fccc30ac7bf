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
    ESM.read(f, &Sizes { positions, types: 0, own: sizes.layers.saturating_mul(sizes.heads), own2, ..sizes })
}
