//! BLIP (a BERT that attends to the image), BLIP-2 and `InstructBLIP` (a Q-Former before any language model), GIT.

use super::decoder::{Draft, Head, Tensors, component};
use super::multimodal::{Tie, Wrapper, language, vision};
use super::vision::{BERT, Encoder, Style, Tower, linear, norm};
use super::{ConfigError, Fields};
use crate::model::{Component, ComponentKind, Keeps, Layer, Mixer, Role, Tensor};

const KEYS: [&str; 6] = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings"];

fn with_defaults(f: &Fields, values: [u64; 6]) -> Fields {
    let defaults: Vec<_> = KEYS.into_iter().zip(values).collect();
    f.with_defaults(&defaults)
}

/// An encoder's layers as a decoder's: they cache.
fn caching(mut layers: Vec<(Layer, Vec<Tensor>)>) -> Vec<(Layer, Vec<Tensor>)> {
    for (layer, _) in &mut layers {
        if let Mixer::Attention(attention) = &mut layer.mixer {
            attention.keeps = Keeps::Own;
        }
    }
    layers
}

/// Attention to `inputs`-wide features, as BERT spells it.
pub(super) fn cross_attention(e: &Encoder, inputs: u64, inner: &str) -> Vec<Tensor> {
    let mut t = Tensors::default();
    linear(&mut t, Role::Query, &format!("crossattention.{inner}.query"), e.hidden, e.hidden, true);
    linear(&mut t, Role::Key, &format!("crossattention.{inner}.key"), inputs, e.hidden, true);
    linear(&mut t, Role::Value, &format!("crossattention.{inner}.value"), inputs, e.hidden, true);
    linear(&mut t, Role::AttentionOutput, "crossattention.output.dense", e.hidden, e.hidden, true);
    norm(&mut t, "crossattention.output.LayerNorm", e.hidden, true);
    t.build()
}

/// BLIP's text model, relative to its module.
fn blip_text(f: &Fields, features: u64) -> Result<(Tower, u64), ConfigError> {
    let e = Encoder::read(f)?;
    let vocab = f.count("vocab_size")?;
    let mut t = Tensors::default();
    t.tensor("embeddings.word_embeddings.weight", Role::Embedding, &[vocab, e.hidden]).tensor(
        "embeddings.position_embeddings.weight",
        Role::Position,
        &[f.count("max_position_embeddings")?, e.hidden],
    );
    norm(&mut t, "embeddings.LayerNorm", e.hidden, true);
    let cross = if f.flag("is_decoder", true)? { cross_attention(&e, features, "self") } else { Vec::new() };
    Ok((Tower { encoder: e, layers_at: "encoder.layer".to_owned(), tensors: t.build(), layers: BERT.layers_with(&e, &cross) }, vocab))
}

/// BLIP, by its class: captions, answers, retrieval, or bare.
pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let class = f.architecture()?.unwrap_or_else(|| "BlipModel".to_owned());
    let tower = super::vision::tower(&f.part(&["vision_config"])?, "blip_vision_model")?.below("vision_model");
    let features = tower.hidden();
    let text_fields = f.part(&["text_config"])?;
    // The class sets it to the tower's width.
    text_fields.touch("encoder_hidden_size");
    for key in ["projection_dim", "tie_encoder_decoder", "cross_attention_hidden_size", "add_cross_attention"] {
        text_fields.touch(key);
    }
    let text_fields = with_defaults(&text_fields, [30_524, 768, 3072, 12, 8, 512]);
    let width = text_fields.count("hidden_size")?;
    let own = blip_text(&text_fields, features)?;
    let vocab = own.1;
    let projection = f.count_or("projection_dim", 512)?;
    let shared = f.count_or("image_text_hidden_size", 256)?;
    // Either flag ties the head, and both do where nothing is said.
    let (outer, inner) = (f.flag("tie_word_embeddings", true)?, text_fields.flag("tie_word_embeddings", true)?);
    let vision = |draft: Draft| draft.with(tower.component("vision", ComponentKind::VisionTower));
    let decoder = |(mut text, vocab): (Tower, u64)| {
        text.layers = caching(text.layers);
        let mut t = Tensors::default();
        linear(&mut t, Role::Other, "text_decoder.cls.predictions.transform.dense", width, width, true);
        norm(&mut t, "text_decoder.cls.predictions.transform.LayerNorm", width, true);
        t.tensor("text_decoder.cls.predictions.bias", Role::Head, &[vocab]);
        if !outer && !inner {
            t.linear("text_decoder.cls.predictions.decoder", width, vocab, true);
        }
        text.below("text_decoder.bert").with(t).draft(ComponentKind::TextDecoder, "", vocab)
    };
    Ok(match class.as_str() {
        "BlipForConditionalGeneration" => vision(decoder(own)),
        "BlipForQuestionAnswering" => {
            let encoder = blip_text(&text_fields, features)?.0.below("text_encoder").component("text_encoder", ComponentKind::TextEncoder);
            vision(decoder(own)).with(encoder)
        }
        "BlipForImageTextRetrieval" => {
            let mut t = Tensors::default();
            linear(&mut t, Role::Other, "vision_proj", features, shared, true);
            linear(&mut t, Role::Other, "text_proj", width, shared, true);
            linear(&mut t, Role::Score, "itm_head", width, 2, true);
            vision(own.0.below("text_encoder").with(t).draft(ComponentKind::TextEncoder, "", vocab))
        }
        _ => {
            let mut t = Tensors::default();
            linear(&mut t, Role::Other, "text_model.pooler.dense", width, width, true);
            linear(&mut t, Role::Other, "visual_projection", features, projection, false);
            linear(&mut t, Role::Other, "text_projection", width, projection, false);
            t.tensor("logit_scale", Role::Other, &[]);
            let mut draft = vision(own.0.below("text_model").with(t).draft(ComponentKind::TextEncoder, "", vocab));
            if class != "BlipModel" {
                draft.assumptions.push(format!("architecture `{class}` is counted as `BlipModel`"));
            }
            draft
        }
    })
}

/// BLIP-2.
pub(super) fn read2(f: &Fields) -> Result<Draft, ConfigError> {
    if f.architecture()?.as_deref() == Some("Blip2ForImageTextRetrieval") {
        return retrieval(f);
    }
    read_q_former(f, "blip_2_vision_model", false)
}

/// BLIP-2 that matches images with texts: the Q-Former reads the words itself, and there is no language model.
fn retrieval(f: &Fields) -> Result<Draft, ConfigError> {
    f.pass_over(&["text_config"]);
    let tower = vision(f, "blip_2_vision_model")?.below("vision_model");
    let fields = f.part(&["qformer_config"])?;
    fields.touch("model_type");
    fields.touch("encoder_hidden_size");
    let fields = with_defaults(&fields, [30_522, 768, 3072, 12, 12, 512]);
    let former = q_former(&fields, tower.hidden(), false)?;
    let hidden = former.hidden_size;
    let (vocab, positions, width) = (fields.count("vocab_size")?, fields.count("max_position_embeddings")?, f.count_or("image_text_hidden_size", 256)?);
    let mut t = Tensors::default();
    t.tensor("query_tokens", Role::Other, &[1, f.count_or("num_query_tokens", 32)?, hidden]);
    t.tensor("embeddings.word_embeddings.weight", Role::Embedding, &[vocab, hidden]);
    t.tensor("embeddings.position_embeddings.weight", Role::Position, &[positions, hidden]);
    linear(&mut t, Role::Other, "vision_projection", hidden, width, true);
    linear(&mut t, Role::Other, "text_projection", hidden, width, true);
    linear(&mut t, Role::Score, "itm_head", hidden, 2, true);
    let heads = component("projector", ComponentKind::Projector, width, "", t.build(), Vec::new());
    Ok(tower.draft(ComponentKind::VisionTower, "", 0).with(former).with(heads))
}

/// `InstructBLIP`, for images and videos: its Q-Former reads the instruction too.
pub(super) fn read_instruct(f: &Fields) -> Result<Draft, ConfigError> {
    read_q_former(f, "instructblip_vision_model", true)
}

fn read_q_former(f: &Fields, tower_type: &str, reads_text: bool) -> Result<Draft, ConfigError> {
    // BLIP-2's bare class holds a language model with its head; InstructBLIP's does not.
    let head = if f.architecture()?.as_deref() == Some("Blip2Model") { Head::Language } else { Head::ByArchitecture };
    let draft = language(f, &Wrapper { head, tie: Tie::Text, ..Wrapper::new("opt") })?;
    let width = draft.decoder.shape.hidden;
    let tower = vision(f, tower_type)?.below("vision_model");
    let fields = f.part(&["qformer_config"])?;
    fields.touch("model_type");
    // The class sets it to the tower's width.
    fields.touch("encoder_hidden_size");
    let fields = with_defaults(&fields, [30_522, 768, 3072, 12, 12, 512]);
    let former = q_former(&fields, tower.hidden(), reads_text)?;
    let hidden = former.hidden_size;
    let mut t = Tensors::default();
    t.tensor("query_tokens", Role::Other, &[1, f.count_or("num_query_tokens", 32)?, hidden]);
    linear(&mut t, Role::Other, "language_projection", hidden, width, true);
    f.touch("image_text_hidden_size");
    let draft = draft.with(tower.component("vision", ComponentKind::VisionTower)).with(former);
    Ok(draft.with(component("projector", ComponentKind::Projector, width, "", t.build(), Vec::new())))
}

/// BERT's layers, every `cross_attention_frequency`-th attending to the image; queries have a feed-forward of their own.
pub(super) fn q_former(f: &Fields, features: u64, always_reads_text: bool) -> Result<Component, ConfigError> {
    let e = Encoder::read(f)?;
    let frequency = f.count_or("cross_attention_frequency", 2)?;
    let reads_text = always_reads_text || f.flag("use_qformer_text_input", false)?;
    let base = Style { qkv: &["attention.attention.query", "attention.attention.key", "attention.attention.value"], ..BERT };
    let style = if reads_text {
        base
    } else {
        Style { up: "intermediate_query.dense", down: "output_query.dense", norms: &["attention.output.LayerNorm", "output_query.LayerNorm"], ..base }
    };
    let mut queries = Tensors::default();
    if reads_text {
        linear(&mut queries, Role::Up, "intermediate_query.dense", e.hidden, e.intermediate, true);
        linear(&mut queries, Role::Down, "output_query.dense", e.intermediate, e.hidden, true);
        norm(&mut queries, "output_query.LayerNorm", e.hidden, true);
    }
    let mut layers = style.layers_with(&e, &queries.build());
    let cross = cross_attention(&e, features, "attention");
    for ((_, tensors), number) in layers.iter_mut().zip(0_u64..) {
        if number.is_multiple_of(frequency) {
            tensors.extend(cross.iter().cloned());
        }
    }
    let mut t = Tensors::default();
    let (vocab, positions) = (f.count("vocab_size")?, f.count("max_position_embeddings")?);
    if always_reads_text {
        t.tensor("qformer.embeddings.word_embeddings.weight", Role::Embedding, &[vocab, e.hidden]).tensor(
            "qformer.embeddings.position_embeddings.weight",
            Role::Position,
            &[positions, e.hidden],
        );
        norm(&mut t, "qformer.embeddings.layernorm", e.hidden, true);
    } else {
        norm(&mut t, "qformer.layernorm", e.hidden, true);
        f.not_counted("vocab_size");
        f.not_counted("max_position_embeddings");
    }
    Ok(component("q_former", ComponentKind::Projector, e.hidden, "qformer.encoder.layer", t.build(), layers))
}

/// GIT: one BERT-like decoder over the image's features and the text.
pub(super) fn read_git(f: &Fields) -> Result<Draft, ConfigError> {
    if f.architecture()?.as_deref() == Some(super::grok::CLASS) {
        return super::grok::read(f);
    }
    let f = &with_defaults(f, [30_522, 768, 3072, 6, 12, 1024]);
    let e = Encoder::read(f)?;
    let vocab = f.count("vocab_size")?;
    let class = f.architecture()?.unwrap_or_default();
    let vision = f.part(&["vision_config"])?;
    let tower = super::vision::tower(&vision, "git_vision_model")?.below("git.image_encoder");
    let features = tower.hidden();
    let mut t = Tensors::default();
    t.tensor("git.embeddings.word_embeddings.weight", Role::Embedding, &[vocab, e.hidden]).tensor(
        "git.embeddings.position_embeddings.weight",
        Role::Position,
        &[f.count("max_position_embeddings")?, e.hidden],
    );
    norm(&mut t, "git.embeddings.LayerNorm", e.hidden, true);
    linear(&mut t, Role::Other, "git.visual_projection.visual_projection.0", features, e.hidden, true);
    norm(&mut t, "git.visual_projection.visual_projection.1", e.hidden, true);
    if let Some(images) = f.optional_count("num_image_with_embedding")? {
        if images > 10_000 {
            return Err(f.impossible("num_image_with_embedding", "it must be at most 10,000"));
        }
        for number in 0..images {
            t.tensor(&format!("git.img_temporal_embedding.{number}"), Role::Other, &[1, 1, features]);
        }
    }
    let tied = f.optional_flag("tie_word_embeddings")?.unwrap_or(false);
    if class != "GitModel" {
        if !tied {
            t.tensor("output.weight", Role::Head, &[vocab, e.hidden]);
        }
        t.tensor("output.bias", Role::Head, &[vocab]);
    }
    let decoder = Tower { encoder: e, layers_at: "git.encoder.layer".to_owned(), tensors: t.build(), layers: caching(BERT.layers(&e)) };
    Ok(decoder.draft(ComponentKind::TextDecoder, "git", vocab).with(tower.component("vision", ComponentKind::VisionTower)))
}
