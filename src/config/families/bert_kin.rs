//! Encoders with BERT's layer and another way to attend: Nyströmformer, YOSO and MRA (positions begin at two, nothing pools), and
//! FNet, whose layers mix by Fourier transforms and have no attention.

use super::bert::{CHOICE, CLASSIFIER, DEEP_CLASSIFIER, LAYER, NEXT_SENTENCE, SPANS, predictions};
use super::decoder::{Draft, Tensors};
use super::encoder::{BERT_DEFAULTS, Block, Blocks, Defaults, Dim, Heads, Sizes, Spec, embeddings};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer};
use Block::{Linear, Norm, Table, UntiedLinear, Vector};
use Dim::{Embedding, Fixed, Hidden, Inner, Labels, Own, Positions, Types, Vocab};

/// `cls.predictions` alone.
pub(super) const PREDICTIONS: Blocks = predictions!();

const HEADS: Heads = &[
    ("ForMaskedLM", PREDICTIONS),
    ("ForSequenceClassification", DEEP_CLASSIFIER),
    ("ForMultipleChoice", &[("pre_classifier", Linear(Hidden, Hidden)), CHOICE]),
    ("ForTokenClassification", &[CLASSIFIER]),
    ("ForQuestionAnswering", &[SPANS]),
    ("Model", &[]),
];

const NYSTROM: Spec =
    Spec { base: "nystromformer", layer_prefix: "nystromformer.encoder.layer", outside: embeddings!("nystromformer"), layer: LAYER, heads: HEADS };
const YOSO: Spec = Spec { base: "yoso", layer_prefix: "yoso.encoder.layer", outside: embeddings!("yoso"), layer: LAYER, heads: HEADS };
const MRA: Spec = Spec { base: "mra", layer_prefix: "mra.encoder.layer", outside: embeddings!("mra"), layer: LAYER, heads: HEADS };

/// Keys of how attention is approximated.
const METHOD: &[&str] = &[
    "approx_mode",
    "attn_implementation",
    "block_per_row",
    "hash_code_len",
    "initial_prior_diagonal_n_blocks",
    "initial_prior_first_n_blocks",
    "inv_coeff_init_option",
    "lsh_backward",
    "num_hash",
    "num_landmarks",
    "segment_means_seq_len",
    "use_expectation",
    "use_fast_hash",
];

/// One of the three; `window` is the key of a convolution over the values, one kernel per head, and its default.
fn read_kin(f: &Fields, spec: &Spec, class: &Defaults, window: Option<(&str, u64)>) -> Result<Draft, ConfigError> {
    let sizes = Sizes::read(f, class)?;
    let sizes = Sizes { positions: sizes.positions.saturating_add(2), ..sizes };
    for key in METHOD {
        f.touch(key);
    }
    let mut draft = spec.read(f, &sizes)?;
    let Some((key, default)) = window else { return Ok(draft) };
    let kernel = if f.has(key) { f.optional_count(key)? } else { Some(default).filter(|&kernel| kernel > 0) };
    if let Some(kernel) = kernel {
        let convolution = Tensors::default().convolution("attention.self.conv", &[sizes.heads, 1, kernel, 1], false).build();
        for (_, tensors) in &mut draft.decoder.layers {
            tensors.extend(convolution.iter().cloned());
        }
    }
    Ok(draft)
}

pub(super) fn read_nystromformer(f: &Fields) -> Result<Draft, ConfigError> {
    read_kin(f, &NYSTROM, &Defaults { vocab: 30_000, ..BERT_DEFAULTS }, Some(("conv_kernel_size", 65)))
}

pub(super) fn read_yoso(f: &Fields) -> Result<Draft, ConfigError> {
    read_kin(f, &YOSO, &Defaults { vocab: 50_265, positions: 4096, types: 1, ..BERT_DEFAULTS }, Some(("conv_window", 0)))
}

pub(super) fn read_mra(f: &Fields) -> Result<Draft, ConfigError> {
    read_kin(f, &MRA, &Defaults { vocab: 50_265, types: 1, ..BERT_DEFAULTS }, None)
}

pub(super) fn read_fnet(f: &Fields) -> Result<Draft, ConfigError> {
    const POOLER: (&str, Block) = ("fnet.pooler.dense", Linear(Hidden, Hidden));
    const FNET: Spec = Spec {
        base: "fnet",
        layer_prefix: "fnet.encoder.layer",
        outside: embeddings!("fnet", "fnet.embeddings.projection" => Linear(Embedding, Hidden)),
        layer: &[
            ("fourier.output.LayerNorm", Norm(Hidden)),
            ("intermediate.dense", Linear(Hidden, Inner)),
            ("output.dense", Linear(Inner, Hidden)),
            ("output.LayerNorm", Norm(Hidden)),
        ],
        // It pools whatever stands above.
        heads: &[
            ("ForPreTraining", &[POOLER, NEXT_SENTENCE, PREDICTIONS[0], PREDICTIONS[1], PREDICTIONS[2], PREDICTIONS[3]]),
            ("ForMaskedLM", &[POOLER, PREDICTIONS[0], PREDICTIONS[1], PREDICTIONS[2], PREDICTIONS[3]]),
            ("ForNextSentencePrediction", &[POOLER, NEXT_SENTENCE]),
            ("ForSequenceClassification", &[POOLER, ("classifier", Linear(Hidden, Labels))]),
            ("ForMultipleChoice", &[POOLER, CHOICE]),
            ("ForTokenClassification", &[POOLER, CLASSIFIER]),
            ("ForQuestionAnswering", &[POOLER, SPANS]),
            ("Model", &[POOLER]),
        ],
    };
    // Its layers have no heads; what the class needs for shapes alone is one.
    let sizes = Sizes::read(&f.with_defaults(&[("num_attention_heads", 1)]), &Defaults { vocab: 32_000, types: 4, heads: 1, ..BERT_DEFAULTS })?;
    f.touch("tpu_short_seq_length");
    f.touch("use_tpu_fourier_optimizations");
    let mut draft = FNET.read(f, &sizes)?;
    for (layer, _) in &mut draft.decoder.layers {
        *layer = Layer { mixer: Mixer::None, feed_forward: FeedForward::Dense { intermediate: sizes.inner, gated: false } };
    }
    Ok(draft)
}

/// `NeoBERT`: rotary positions, RMSNorms, a gate in the feed-forward of two thirds the width, no biases. Its own code.
pub(super) fn read_neobert(f: &Fields) -> Result<Draft, ConfigError> {
    const SPEC: Spec = Spec {
        base: "model",
        layer_prefix: "model.transformer_encoder",
        outside: &[("model.encoder", Block::Table(Vocab, Embedding)), ("model.layer_norm", Block::Scale(Hidden))],
        layer: &[
            ("qkv", Block::Matrix(Hidden, Dim::Own)),
            ("wo", Block::Matrix(Hidden, Hidden)),
            ("ffn.w12", Block::Matrix(Hidden, Dim::Own2)),
            ("ffn.w3", Block::Matrix(Inner, Hidden)),
            ("attention_norm", Block::Scale(Hidden)),
            ("ffn_norm", Block::Scale(Hidden)),
        ],
        heads: &[
            ("LMHead", &[("decoder", Linear(Hidden, Vocab))]),
            ("ForMaskedLM", &[("decoder", Linear(Hidden, Vocab))]),
            ("ForSequenceClassification", &[("dense", Linear(Hidden, Hidden)), ("classifier", Linear(Hidden, Labels))]),
            ("Model", &[]),
            ("NeoBERT", &[]),
        ],
    };
    let sizes = Sizes::read(f, &Defaults { layers: 28, positions: 0, types: 0, ..BERT_DEFAULTS })?;
    for key in ["embedding_init_range", "decoder_init_range", "max_length", "norm_eps", "hidden_act"] {
        f.touch(key);
    }
    // To a multiple of eight.
    let inner = (sizes.inner.saturating_mul(2) / 3).div_ceil(8) * 8;
    let sizes = Sizes { inner, own: sizes.hidden.saturating_mul(3), own2: inner.saturating_mul(2), gated: true, types: 0, positions: 0, ..sizes };
    SPEC.read(f, &sizes)
}

/// `VisualBERT`: BERT with features of image regions beside the words, which have tables of their own.
pub(super) fn read_visual_bert(f: &Fields) -> Result<Draft, ConfigError> {
    const POOLER: (&str, Block) = ("visual_bert.pooler.dense", Linear(Hidden, Hidden));
    const SPEC: Spec = Spec {
        base: "visual_bert",
        layer_prefix: "visual_bert.encoder.layer",
        outside: embeddings!(
            "visual_bert",
            "visual_bert.embeddings.visual_token_type_embeddings" => Table(Types, Hidden),
            "visual_bert.embeddings.visual_position_embeddings" => Table(Positions, Hidden),
            "visual_bert.embeddings.visual_projection" => Linear(Own, Hidden)
        ),
        layer: LAYER,
        heads: &[
            ("ForPreTraining", &[POOLER, PREDICTIONS[0], PREDICTIONS[1], PREDICTIONS[2], PREDICTIONS[3], NEXT_SENTENCE]),
            ("ForQuestionAnswering", &[POOLER, ("cls", Linear(Hidden, Labels))]),
            ("ForVisualReasoning", &[POOLER, ("cls", Linear(Hidden, Labels))]),
            ("ForMultipleChoice", &[POOLER, ("cls", Linear(Hidden, Fixed(1)))]),
            ("Model", &[POOLER]),
        ],
    };
    f.flag("special_visual_initialize", true)?;
    if f.flag("bypass_transformer", false)? {
        return Err(f.impossible("bypass_transformer", "it must be false: no published model goes around its layers"));
    }
    let sizes = Sizes::read(f, &BERT_DEFAULTS)?;
    SPEC.read(f, &Sizes { own: f.count_or("visual_embedding_dim", 512)?, ..sizes })
}

#[cfg(test)]
mod tests {
    #[test]
    fn published_count_of_neobert() {
        let config = r#"{"model_type": "neobert", "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 12, "vocab_size": 30522,
            "max_length": 4096, "architectures": ["NeoBERTLMHead"]}"#;
        assert_eq!(crate::config::read(config).unwrap().parameters().unwrap().get(), 245_136_954);
    }
}
