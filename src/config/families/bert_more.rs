//! More encoders with BERT's layers: `RoCBert` (sounds and shapes of characters), I-BERT, LUKE (entities beside words), Splinter, TAPAS
//! (tables), BROS (places on a page), `MarkupLM` (paths in a page), CANINE (characters instead of words).

use super::bert::{CHOICE, CLASSIFIER, DEEP_CLASSIFIER, LAYER, NEXT_SENTENCE, SPANS};
use super::bert_kin::PREDICTIONS;
use super::decoder::{Draft, Tensors, labels};
use super::encoder::{BERT_DEFAULTS, Block, Blocks, Defaults, Dim, Heads, Sizes, Spec, embeddings};
use super::roberta::{ROBERTA_LM_HEAD, roberta_heads};
use super::{ConfigError, Fields};
use crate::model::{Role, Tensor};
use Block::{Linear, Matrix, Norm, Table, UntiedLinear, UntiedMatrix, UntiedVector, Vector};
use Dim::{Hidden, Labels, Own, Own2};

/// Heads that pool where they answer once per text, with this pooler and these masked-language-model heads; the rows that follow come first.
macro_rules! heads {
    ($pooler:literal, $masked:expr $(, $ending:literal => $blocks:expr)*) => {
        &[
            $(($ending, $blocks),)*
            ("ForMaskedLM", $masked),
            ("ForCausalLM", $masked),
            ("ForNextSentencePrediction", &[($pooler, Linear(Hidden, Hidden)), NEXT_SENTENCE]),
            ("ForSequenceClassification", &[($pooler, Linear(Hidden, Hidden)), CLASSIFIER]),
            ("ForMultipleChoice", &[($pooler, Linear(Hidden, Hidden)), CHOICE]),
            ("ForTokenClassification", &[CLASSIFIER]),
            ("ForQuestionAnswering", &[SPANS]),
            ("Model", &[($pooler, Linear(Hidden, Hidden))]),
        ]
    };
}

/// `RoCBert`: what a character sounds like and looks like beside it, brought to one width by a matrix.
pub(super) fn read_roc_bert(f: &Fields) -> Result<Draft, ConfigError> {
    const SPEC: Spec = Spec {
        base: "roc_bert",
        layer_prefix: "roc_bert.encoder.layer",
        outside: embeddings!("roc_bert"),
        layer: LAYER,
        heads: heads!("roc_bert.pooler.dense", PREDICTIONS, "ForPreTraining" => &[
            ("roc_bert.pooler.dense", Linear(Hidden, Hidden)),
            PREDICTIONS[0], PREDICTIONS[1], PREDICTIONS[2], PREDICTIONS[3],
        ]),
    };
    let sizes = Sizes::read(f, &BERT_DEFAULTS)?;
    let mut draft = SPEC.read(f, &sizes)?;
    let mut width = sizes.hidden;
    let mut t = Tensors::default();
    for (flag, name, keys, defaults) in [
        ("enable_pronunciation", "pronunciation_embed", ["pronunciation_vocab_size", "pronunciation_embed_dim"], [910, 768]),
        ("enable_shape", "shape_embed", ["shape_vocab_size", "shape_embed_dim"], [24_858, 512]),
    ] {
        let (rows, dim) = (f.count_or(keys[0], defaults[0])?, f.count_or(keys[1], defaults[1])?);
        if f.flag(flag, true)? {
            t.embedding(&format!("roc_bert.embeddings.{name}"), rows, dim);
            width = width.saturating_add(dim);
        }
    }
    if f.flag("concat_input", true)? {
        t.linear("roc_bert.embeddings.map_inputs_layer", width, sizes.hidden, true);
    }
    draft.decoder.tensors.extend(t.build());
    Ok(draft)
}

/// I-BERT: RoBERTa, its arithmetic in integers.
pub(super) fn read_ibert(f: &Fields) -> Result<Draft, ConfigError> {
    const HEADS: Heads = roberta_heads!("ibert.pooler.dense");
    const SPEC: Spec = Spec { base: "ibert", layer_prefix: "ibert.encoder.layer", outside: embeddings!("ibert"), layer: LAYER, heads: HEADS };
    f.touch("quant_mode");
    f.touch("force_dequant");
    SPEC.read(f, &Sizes::read(f, &BERT_DEFAULTS)?)
}

/// LUKE: entities have tables of their own and, in attention, queries of their own.
pub(super) fn read_luke(f: &Fields) -> Result<Draft, ConfigError> {
    const MASKED: Blocks = &[
        ("luke.pooler.dense", Linear(Hidden, Hidden)),
        ("lm_head.dense", Linear(Hidden, Hidden)),
        ("lm_head.layer_norm", Norm(Hidden)),
        // Never the embedding; the flag ties its bias, and the entities' matrix.
        ("lm_head.decoder", Linear(Hidden, Dim::Vocab)),
        ("entity_predictions.bias", Vector(Own)),
        ("entity_predictions.transform.dense", Linear(Hidden, Own2)),
        ("entity_predictions.transform.LayerNorm", Norm(Own2)),
        ("lm_head.bias", UntiedVector(Dim::Vocab)),
        ("entity_predictions.decoder", UntiedMatrix(Own2, Own)),
    ];
    const SPEC: Spec = Spec {
        base: "luke",
        layer_prefix: "luke.encoder.layer",
        outside: embeddings!(
            "luke",
            "luke.entity_embeddings.entity_embeddings" => Table(Own, Own2),
            "luke.entity_embeddings.position_embeddings" => Table(Dim::Positions, Hidden),
            "luke.entity_embeddings.token_type_embeddings" => Table(Dim::Types, Hidden),
            "luke.entity_embeddings.LayerNorm" => Norm(Hidden)
        ),
        layer: LAYER,
        heads: heads!("luke.pooler.dense", MASKED, "ForEntityClassification" => &[("luke.pooler.dense", Linear(Hidden, Hidden)), CLASSIFIER]),
    };
    let sizes = Sizes::read(f, &Defaults { vocab: 50_267, ..BERT_DEFAULTS })?;
    let own = f.count_or("entity_vocab_size", 500_000)?;
    let sizes = Sizes { own, own2: f.count_or("entity_emb_size", 256)?, ..sizes };
    let mut draft = SPEC.read(f, &sizes)?;
    if sizes.own2 != sizes.hidden {
        draft.decoder.tensors.extend(sizes.tensors(&[("luke.entity_embeddings.entity_embedding_dense", Matrix(Own2, Hidden))]));
    }
    if f.flag("use_entity_aware_attention", true)? {
        const QUERIES: Blocks = &[
            ("attention.self.w2e_query", Linear(Hidden, Hidden)),
            ("attention.self.e2w_query", Linear(Hidden, Hidden)),
            ("attention.self.e2e_query", Linear(Hidden, Hidden)),
        ];
        for (_, tensors) in &mut draft.decoder.layers {
            tensors.extend(sizes.tensors(QUERIES));
        }
    }
    Ok(draft)
}

/// Splinter: spans are found by comparing a question token with the text, for starts and for ends.
pub(super) fn read_splinter(f: &Fields) -> Result<Draft, ConfigError> {
    const SPANS: Blocks = &[
        ("splinter_qass.query_start_transform.dense", Linear(Hidden, Hidden)),
        ("splinter_qass.query_start_transform.LayerNorm", Norm(Hidden)),
        ("splinter_qass.query_end_transform.dense", Linear(Hidden, Hidden)),
        ("splinter_qass.query_end_transform.LayerNorm", Norm(Hidden)),
        ("splinter_qass.start_transform.dense", Linear(Hidden, Hidden)),
        ("splinter_qass.start_transform.LayerNorm", Norm(Hidden)),
        ("splinter_qass.end_transform.dense", Linear(Hidden, Hidden)),
        ("splinter_qass.end_transform.LayerNorm", Norm(Hidden)),
        ("splinter_qass.start_classifier", Matrix(Hidden, Hidden)),
        ("splinter_qass.end_classifier", Matrix(Hidden, Hidden)),
    ];
    const SPEC: Spec = Spec {
        base: "splinter",
        layer_prefix: "splinter.encoder.layer",
        outside: embeddings!("splinter"),
        layer: LAYER,
        heads: &[("ForPreTraining", SPANS), ("ForQuestionAnswering", SPANS), ("ForMaskedLM", SPANS), ("Model", &[])],
    };
    SPEC.read(f, &Sizes::read(f, &BERT_DEFAULTS)?)
}

/// TAPAS: a table of types per property of a cell.
pub(super) fn read_tapas(f: &Fields) -> Result<Draft, ConfigError> {
    const CELLS: Blocks = &[("tapas.pooler.dense", Linear(Hidden, Hidden)), ("output_weights", Vector(Hidden)), ("column_output_weights", Vector(Hidden))];
    const SPEC: Spec = Spec {
        base: "tapas",
        layer_prefix: "tapas.encoder.layer",
        outside: embeddings!("tapas"),
        layer: LAYER,
        heads: heads!("tapas.pooler.dense", PREDICTIONS, "ForQuestionAnswering" => CELLS),
    };
    let types = f.counts_or("type_vocab_sizes", &[3, 256, 256, 2, 256, 256, 10])?;
    if types.len() > 1000 {
        return Err(f.impossible("type_vocab_sizes", "it is longer than any model's"));
    }
    for key in ["max_num_columns", "max_num_rows", "select_one_column", "reset_position_index_per_cell"] {
        f.touch(key);
    }
    let sizes = Sizes::read(f, &Defaults { positions: 1024, types: 0, ..BERT_DEFAULTS })?;
    let mut draft = SPEC.read(f, &Sizes { types: 0, ..sizes })?;
    let mut t = Tensors::default();
    for (number, &rows) in types.iter().enumerate() {
        t.embedding(&format!("tapas.embeddings.token_type_embeddings_{number}"), rows, sizes.hidden);
    }
    let answers = f.optional_count_or_zero("num_aggregation_labels")?.unwrap_or(0);
    if f.architecture()?.is_some_and(|class| class.ends_with("ForQuestionAnswering")) {
        t.tensor("output_bias", Role::Score, &[]).tensor("column_output_bias", Role::Score, &[]);
        if answers > 0 {
            t.linear("aggregation_classifier", sizes.hidden, answers, true);
        }
    }
    draft.decoder.tensors.extend(t.build());
    Ok(draft)
}

/// BROS: distances between boxes on the page steer attention.
pub(super) fn read_bros(f: &Fields) -> Result<Draft, ConfigError> {
    const SPEC: Spec = Spec {
        base: "bros",
        layer_prefix: "bros.encoder.layer",
        outside: embeddings!("bros", "bros.bbox_embeddings.bbox_projection" => Matrix(Own2, Own)),
        layer: LAYER,
        heads: heads!("bros.pooler.dense", &[], "ForTokenClassification" => &[("bros.pooler.dense", Linear(Hidden, Hidden)), CLASSIFIER]),
    };
    for key in ["dim_bbox", "dim_bbox_sinusoid_emb_1d", "n_relations"] {
        f.touch(key);
    }
    let sizes = Sizes::read(f, &BERT_DEFAULTS)?;
    let own = f.optional_count("dim_bbox_projection")?.unwrap_or(sizes.head_dim);
    let own2 = f.optional_count("dim_bbox_sinusoid_emb_2d")?.unwrap_or(sizes.hidden / 4);
    SPEC.read(f, &Sizes { own, own2, ..sizes })
}

/// `MarkupLM`: where a word stands in the tree of a page, by tags and their numbers at each depth.
pub(super) fn read_markuplm(f: &Fields) -> Result<Draft, ConfigError> {
    const SPEC: Spec = Spec {
        base: "markuplm",
        layer_prefix: "markuplm.encoder.layer",
        outside: embeddings!("markuplm"),
        layer: LAYER,
        heads: heads!("markuplm.pooler.dense", PREDICTIONS),
    };
    let or = |key: &str, default: u64| f.count_or(key, default);
    let (depth, unit) = (or("max_depth", 50)?, or("xpath_unit_hidden_size", 32)?);
    if depth > 10_000 {
        return Err(f.impossible("max_depth", "no page is deeper than 10,000"));
    }
    let sizes = Sizes::read(f, &BERT_DEFAULTS)?;
    let (hidden, path, inner) = (sizes.hidden, depth.saturating_mul(unit), sizes.hidden.saturating_mul(4));
    let mut t = Tensors::default();
    let at = |leaf: &str| format!("markuplm.embeddings.xpath_embeddings.{leaf}");
    t.linear(&at("xpath_unitseq2_embeddings"), path, hidden, true).linear(&at("xpath_unitseq2_inner"), path, inner, true).linear(
        &at("inner2emb"),
        inner,
        hidden,
        true,
    );
    for (name, rows) in
        [("xpath_tag_sub_embeddings", or("max_xpath_tag_unit_embeddings", 256)?), ("xpath_subs_sub_embeddings", or("max_xpath_subs_unit_embeddings", 1024)?)]
    {
        t.repeated(&at(&format!("{name}.{{}}.weight")), Role::Position, depth, &[rows, unit]);
    }
    let mut draft = SPEC.read(f, &sizes)?;
    draft.decoder.tensors.extend(t.build());
    Ok(draft)
}

/// CANINE: characters by several hashes, a layer over all of them, BERT over every fourth, and a layer back to all.
pub(super) fn read_canine(f: &Fields) -> Result<Draft, ConfigError> {
    const SPEC: Spec = Spec {
        base: "canine",
        layer_prefix: "canine.encoder.layer",
        outside: &[
            ("canine.char_embeddings.char_position_embeddings", Table(Own, Hidden)),
            ("canine.char_embeddings.token_type_embeddings", Table(Dim::Types, Hidden)),
            ("canine.char_embeddings.LayerNorm", Norm(Hidden)),
            ("canine.chars_to_molecules.LayerNorm", Norm(Hidden)),
            ("canine.projection.LayerNorm", Norm(Hidden)),
            ("canine.pooler.dense", Linear(Hidden, Hidden)),
        ],
        layer: LAYER,
        heads: &[
            ("ForSequenceClassification", &[CLASSIFIER]),
            ("ForMultipleChoice", &[CHOICE]),
            ("ForTokenClassification", &[CLASSIFIER]),
            ("ForQuestionAnswering", &[("qa_outputs", Linear(Hidden, Labels))]),
            ("Model", &[]),
        ],
    };
    let or = |key: &str, default: u64| f.count_or(key, default);
    let (hashes, buckets) = (or("num_hash_functions", 8)?, or("num_hash_buckets", 16_384)?);
    let (rate, kernel) = (or("downsampling_rate", 4)?, or("upsampling_kernel_size", 4)?);
    f.touch("local_transformer_stride");
    let sizes = Sizes::read(f, &Defaults { vocab: 1, types: 16, positions: 16_384, ..BERT_DEFAULTS })?;
    if hashes > 1000 || !sizes.hidden.is_multiple_of(hashes) {
        return Err(f.impossible("num_hash_functions", "it must divide `hidden_size`, and be at most 1000"));
    }
    let hidden = sizes.hidden;
    let mut draft = SPEC.read(f, &Sizes { own: buckets, vocab: 0, ..sizes })?;
    let around: Vec<Tensor> = sizes.tensors(LAYER);
    let mut t = Tensors::default();
    for number in 0..hashes {
        t.embedding(&format!("canine.char_embeddings.HashBucketCodepointEmbedder_{number}"), buckets, hidden / hashes);
    }
    t.nested("canine.initial_char_encoder.layer.0", around.clone())
        .nested("canine.final_char_encoder.layer.0", around)
        .convolution("canine.chars_to_molecules.conv", &[hidden, hidden, rate], true)
        .convolution("canine.projection.conv", &[hidden, hidden.saturating_mul(2), kernel], true);
    draft.decoder.tensors.extend(t.build());
    // How long a text may be is the number of rows of positions.
    f.touch("max_position_embeddings");
    labels(f)?;
    Ok(draft)
}

/// `MobileBERT`: narrow layers between wide ones, with several feed-forwards each; its norms are scales and shifts.
pub(super) fn read_mobilebert(f: &Fields) -> Result<Draft, ConfigError> {
    const MASKED: Blocks = &[
        ("cls.predictions.transform.dense", Linear(Hidden, Hidden)),
        ("cls.predictions.transform.LayerNorm", Norm(Hidden)),
        ("cls.predictions.bias", Vector(Dim::Vocab)),
        ("cls.predictions.dense", Matrix(Dim::Vocab, Own2)),
        ("cls.predictions.decoder", UntiedLinear(Dim::Embedding, Dim::Vocab)),
    ];
    const PRETRAINING: Blocks = &[("mobilebert.pooler.dense", Linear(Hidden, Own)), MASKED[0], MASKED[1], MASKED[2], MASKED[3], MASKED[4], NEXT_SENTENCE];
    const SPEC: Spec = Spec {
        base: "mobilebert",
        layer_prefix: "mobilebert.encoder.layer",
        outside: &[
            ("mobilebert.embeddings.word_embeddings", Table(Dim::Vocab, Dim::Embedding)),
            ("mobilebert.embeddings.position_embeddings", Table(Dim::Positions, Hidden)),
            ("mobilebert.embeddings.token_type_embeddings", Table(Dim::Types, Hidden)),
            ("mobilebert.embeddings.LayerNorm", Norm(Hidden)),
        ],
        layer: &[],
        heads: &[
            ("ForPreTraining", PRETRAINING),
            ("ForMaskedLM", MASKED),
            ("ForNextSentencePrediction", &[("mobilebert.pooler.dense", Linear(Hidden, Own)), NEXT_SENTENCE]),
            ("ForSequenceClassification", &[("mobilebert.pooler.dense", Linear(Hidden, Own)), CLASSIFIER]),
            ("ForMultipleChoice", &[("mobilebert.pooler.dense", Linear(Hidden, Own)), CHOICE]),
            ("ForTokenClassification", &[CLASSIFIER]),
            ("ForQuestionAnswering", &[SPANS]),
            ("Model", &[("mobilebert.pooler.dense", Linear(Hidden, Own))]),
        ],
    };
    let or = |key: &str, default: u64| f.count_or(key, default);
    let sizes = Sizes::read(f, &Defaults { hidden: 512, layers: 24, heads: 4, inner: 512, ..BERT_DEFAULTS })?;
    let (hidden, inner, embedding) = (sizes.hidden, sizes.inner, or("embedding_size", 128)?);
    let bottleneck = f.flag("use_bottleneck", true)?;
    let narrow = or("intra_bottleneck_size", 128)?;
    // Of attention and the feed-forwards, where the file does not say.
    let width = or("true_hidden_size", if bottleneck { narrow } else { hidden })?;
    let shared = f.flag("key_query_shared_bottleneck", true)?;
    let for_attention = f.flag("use_bottleneck_attention", false)?;
    // Whether the pooler has a matrix at all.
    let own = if f.flag("classifier_activation", true)? { hidden } else { 0 };
    let own2 = hidden.checked_sub(embedding).ok_or_else(|| f.impossible("embedding_size", "it cannot be wider than `hidden_size`"))?;
    let trigrams = if f.flag("trigram_input", true)? { embedding.saturating_mul(3) } else { embedding };
    f.touch("normalization_type");

    let values = if for_attention { width } else { hidden };
    let mut t = Tensors::default();
    t.linear("attention.self.query", width, width, true)
        .linear("attention.self.key", width, width, true)
        .linear("attention.self.value", values, width, true)
        .linear("attention.output.dense", width, width, true)
        .norm("attention.output.LayerNorm", width, true)
        .linear("intermediate.dense", width, inner, true)
        .linear("output.dense", inner, width, true)
        .norm("output.LayerNorm", width, true);
    if bottleneck {
        t.linear("output.bottleneck.dense", width, hidden, true).norm("output.bottleneck.LayerNorm", hidden, true);
        let parts: &[&str] = if shared { &["input", "attention"] } else { &["input"] };
        for part in parts {
            t.linear(&format!("bottleneck.{part}.dense"), hidden, narrow, true).norm(&format!("bottleneck.{part}.LayerNorm"), narrow, true);
        }
    }
    for number in 0..super::encoder::layer_count(f, "num_feedforward_networks", 4)? - 1 {
        let at = format!("ffn.{number}");
        t.linear(&format!("{at}.intermediate.dense"), width, inner, true).linear(&format!("{at}.output.dense"), inner, width, true).norm(
            &format!("{at}.output.LayerNorm"),
            width,
            true,
        );
    }
    let layer = t.build();
    let mut draft = SPEC.read(f, &Sizes { embedding, own, own2, ..sizes })?;
    for (_, tensors) in &mut draft.decoder.layers {
        tensors.extend(layer.iter().cloned());
    }
    if trigrams != embedding || embedding != hidden {
        draft.decoder.tensors.extend(Tensors::default().linear("mobilebert.embeddings.embedding_transformation", trigrams, hidden, true).build());
    }
    Ok(draft)
}
