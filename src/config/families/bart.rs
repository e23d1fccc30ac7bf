//! BART and the encoder-decoders built like it: mBART, Pegasus, Marian, Blenderbot, M2M-100, `PLBart`, LED, NLLB-MoE. They differ
//! in positions, in norms around the stacks and in defaults.

use super::decoder::{Draft, Tensors, labels_or};
use super::encoder::{Sizes, encoder_component, head_dim, layer_count, seq2seq_attention, seq2seq_layer};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, FeedForward, Keeps, Layer, Role, Span, Tensor};

/// What one of them has.
#[derive(Clone, Copy)]
struct Kin {
    base: &'static str,
    vocab: u64,
    hidden: u64,
    /// Layers, heads and inner width of the encoder and the decoder.
    encoder: [u64; 3],
    decoder: [u64; 3],
    /// Longest inputs, and rows of the tables of positions beyond that; `None`: positions are computed.
    positions: u64,
    more_positions: Option<u64>,
    /// A LayerNorm after the embeddings.
    embedding_norm: bool,
    /// A LayerNorm after the last layer.
    final_norm: bool,
    /// Labels of a classifier when the config does not say.
    labels: u64,
    /// Whether the decoder alone has an output matrix of its own, whatever the config ties.
    untied_alone: bool,
}

const BART: Kin = Kin {
    base: "model",
    vocab: 50265,
    hidden: 1024,
    encoder: [12, 16, 4096],
    decoder: [12, 16, 4096],
    positions: 1024,
    more_positions: Some(2),
    embedding_norm: true,
    final_norm: false,
    labels: 2,
    untied_alone: false,
};

/// Sizes of an encoder or decoder stack.
struct Stack {
    sizes: Sizes,
    positions: u64,
}

fn stack(f: &Fields, kin: &Kin, keys: [&str; 4], defaults: [u64; 3]) -> Result<Stack, ConfigError> {
    let or = |key: &str, default: u64| f.count_or(key, default);
    let hidden = or("hidden_size", kin.hidden)?;
    let layers = layer_count(f, keys[0], defaults[0])?;
    let heads = or(keys[1], defaults[1])?;
    let vocab = or("vocab_size", kin.vocab)?;
    let sizes = Sizes::plain(hidden, or(keys[2], defaults[2])?, layers, heads, head_dim(f, keys[1], hidden, heads)?, vocab);
    let positions = or(keys[3], kin.positions)?;
    Ok(Stack { sizes, positions: kin.more_positions.map_or(0, |more| positions + more) })
}

/// Positions and norms of a stack.
fn outside(kin: &Kin, stack: &Stack, name: &str) -> Vec<Tensor> {
    let hidden = stack.sizes.hidden;
    let mut tensors = Tensors::default();
    let module = |leaf: &str| format!("{}.{name}.{leaf}", kin.base);
    if stack.positions > 0 {
        tensors.embedding(&module("embed_positions"), stack.positions, hidden);
    }
    if kin.embedding_norm {
        tensors.norm(&module("layernorm_embedding"), hidden, true);
    }
    if kin.final_norm {
        tensors.norm(&module("layer_norm"), hidden, true);
    }
    tensors.build()
}

fn read_kin(f: &Fields, kin: &Kin) -> Result<Draft, ConfigError> {
    build(f, kin, "max_position_embeddings", "max_position_embeddings", |stack, crosses| {
        let tensors = seq2seq_layer(stack.hidden, stack.inner, crosses, true);
        let keeps = if crosses { Keeps::Own } else { Keeps::Nothing };
        Ok(stack.equal_layers(keeps, &tensors))
    })
}

/// The model with layers of the family's own making (sizes of the stack, whether it is the decoder).
fn build(
    f: &Fields,
    kin: &Kin,
    encoder_positions: &str,
    decoder_positions: &str,
    layers: impl Fn(&Sizes, bool) -> Result<Vec<(Layer, Vec<Tensor>)>, ConfigError>,
) -> Result<Draft, ConfigError> {
    // `num_hidden_layers` is another name of `encoder_layers`, which wins where files have both.
    let [layers_by_default, heads, inner] = kin.encoder;
    let by_default = [f.optional_count("num_hidden_layers")?.unwrap_or(layers_by_default), heads, inner];
    let encoder = stack(f, kin, ["encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", encoder_positions], by_default)?;
    let decoder = stack(f, kin, ["decoder_layers", "decoder_attention_heads", "decoder_ffn_dim", decoder_positions], kin.decoder)?;
    let (hidden, vocab) = (decoder.sizes.hidden, decoder.sizes.vocab);
    let mut assumptions = Vec::new();
    let tied = f.flag("tie_word_embeddings", true)?;
    let base = kin.base;
    let mut tensors = Tensors::default();
    tensors.embedding(&format!("{base}.shared"), vocab, hidden);
    if !tied {
        tensors.embedding(&format!("{base}.encoder.embed_tokens"), vocab, hidden).embedding(&format!("{base}.decoder.embed_tokens"), vocab, hidden);
    }
    tensors.extend(outside(kin, &decoder, "decoder"));
    let class = f.architecture()?.unwrap_or_default();
    let is = |ending: &str| class.ends_with(ending);
    if is("ForSequenceClassification") {
        let labels = labels_or(f, kin.labels)?;
        tensors.linear("classification_head.dense", hidden, hidden, true).linear("classification_head.out_proj", hidden, labels, true);
    } else if is("ForQuestionAnswering") {
        // A start and an end, however many labels the config has.
        tensors.linear("qa_outputs", hidden, 2, true);
    } else if is("ForCausalLM") {
        return Ok(decoder_alone(kin, &decoder, tied && !kin.untied_alone, layers(&decoder.sizes, true)?));
    } else if is("MTModel") || !is("Model") {
        if !tied {
            tensors.linear("lm_head", hidden, vocab, false);
        }
        if !is("ForConditionalGeneration") && !is("MTModel") {
            assumptions.push("counted with encoder, decoder and language-model head".to_owned());
        }
    }
    let encoder_prefix = if base == "led" { "led.encoder.layers" } else { "model.encoder.layers" };
    let decoder_prefix = if base == "led" { "led.decoder.layers" } else { "model.decoder.layers" };
    let encoder_tensors = outside(kin, &encoder, "encoder");
    let component = encoder_component(&encoder.sizes, ComponentKind::TextEncoder, encoder_prefix, encoder_tensors, layers(&encoder.sizes, false)?);
    let draft = decoder.sizes.model(ComponentKind::TextDecoder, base, decoder_prefix, tensors.build(), layers(&decoder.sizes, true)?);
    Ok(Draft { assumptions, ..draft.with(component) })
}

/// The decoder without an encoder, as speech and vision models take it; it still attends to one.
fn decoder_alone(kin: &Kin, decoder: &Stack, tied: bool, layers: Vec<(Layer, Vec<Tensor>)>) -> Draft {
    let (hidden, vocab) = (decoder.sizes.hidden, decoder.sizes.vocab);
    let mut tensors = Tensors::default();
    tensors.embedding("model.decoder.embed_tokens", vocab, hidden).extend(outside(kin, decoder, "decoder"));
    if !tied {
        tensors.linear("lm_head", hidden, vocab, false);
    }
    decoder.sizes.model(ComponentKind::TextDecoder, "model", "model.decoder.layers", tensors.build(), layers)
}

pub(super) fn read_bart(f: &Fields) -> Result<Draft, ConfigError> {
    for key in ["add_final_layer_norm", "normalize_before", "normalize_embedding", "add_bias_logits", "static_position_embeddings"] {
        f.flag(key, false)?;
    }
    read_kin(f, &Kin { labels: 3, ..BART })
}

pub(super) fn read_mbart(f: &Fields) -> Result<Draft, ConfigError> {
    read_kin(f, &Kin { final_norm: true, ..BART })
}

pub(super) fn read_plbart(f: &Fields) -> Result<Draft, ConfigError> {
    read_kin(f, &Kin { vocab: 50005, hidden: 768, encoder: [6, 12, 3072], decoder: [6, 12, 3072], ..BART })
}

/// MVP: BART, unless it has prompts of its own.
pub(super) fn read_mvp(f: &Fields) -> Result<Draft, ConfigError> {
    if f.flag("use_prompt", false)? {
        return Err(f.impossible("use_prompt", "the prompts of this model type are not known here"));
    }
    for key in ["prompt_length", "prompt_mid_dim"] {
        f.touch(key);
    }
    read_kin(f, &Kin { vocab: 50_267, ..BART })
}

/// BigBird-Pegasus: attention without biases unless `use_bias` says so.
pub(super) fn read_bigbird_pegasus(f: &Fields) -> Result<Draft, ConfigError> {
    let kin = Kin { vocab: 96_103, encoder: [16, 16, 4096], decoder: [16, 16, 4096], positions: 4096, more_positions: Some(0), untied_alone: true, ..BART };
    let bias = f.flag("use_bias", false)?;
    f.touch("num_random_blocks");
    build(f, &kin, "max_position_embeddings", "max_position_embeddings", |stack, crosses| {
        let mut tensors = seq2seq_layer(stack.hidden, stack.inner, crosses, true);
        let is_bias = |name: &str| name.ends_with("_proj.bias");
        tensors.retain(|tensor| bias || !is_bias(&tensor.name));
        let keeps = if crosses { Keeps::Own } else { Keeps::Nothing };
        Ok(stack.equal_layers(keeps, &tensors))
    })
}

/// Pegasus: its positions are sines, yet stored.
pub(super) fn read_pegasus(f: &Fields) -> Result<Draft, ConfigError> {
    read_kin(f, &Kin { more_positions: Some(0), embedding_norm: false, final_norm: true, ..BART })
}

/// PEGASUS-X: local attention in the encoder, with tokens that see everything; attention without biases, positions computed.
pub(super) fn read_pegasus_x(f: &Fields) -> Result<Draft, ConfigError> {
    let kin = Kin {
        vocab: 96_103,
        encoder: [16, 16, 4096],
        decoder: [16, 16, 4096],
        positions: 16_384,
        more_positions: None,
        embedding_norm: false,
        final_norm: true,
        ..BART
    };
    let tokens = f.count_or("num_global_tokens", 32)?;
    f.touch("stagger_local_blocks");
    let mut draft = build(f, &kin, "max_position_embeddings", "max_position_embeddings", |stack, crosses| {
        let mut tensors = seq2seq_layer(stack.hidden, stack.inner, crosses, true);
        tensors.retain(|tensor| !tensor.name.ends_with("_proj.bias"));
        if !crosses {
            tensors.extend(Tensors::default().norm("global_self_attn_layer_norm", stack.hidden, true).build());
        }
        Ok(stack.equal_layers(if crosses { Keeps::Own } else { Keeps::Nothing }, &tensors))
    })?;
    for encoder in &mut draft.others {
        let width = encoder.hidden_size;
        encoder.tensors.extend(Tensors::default().tensor("model.encoder.embed_global.weight", Role::Other, &[tokens, width]).build());
    }
    Ok(draft)
}

/// Marian: no norms around the stacks; some checkpoints have a vocabulary per language.
pub(super) fn read_marian(f: &Fields) -> Result<Draft, ConfigError> {
    let kin = Kin { vocab: 58101, more_positions: Some(0), embedding_norm: false, ..BART };
    let vocab = f.count_or("vocab_size", kin.vocab)?;
    let decoder_vocab = f.optional_count("decoder_vocab_size")?.unwrap_or(vocab);
    let shares = f.flag("share_encoder_decoder_embeddings", true)?;
    let mut draft = read_kin(f, &kin)?;
    if !shares {
        // Its two tables are apart; the head is the decoder's.
        let hidden = draft.decoder.shape.hidden;
        let tables =
            Tensors::default().embedding("model.encoder.embed_tokens", vocab, hidden).embedding("model.decoder.embed_tokens", decoder_vocab, hidden).build();
        draft.decoder.tensors.retain(|tensor| !matches!(tensor.role, Role::Embedding));
        draft.decoder.tensors.extend(tables);
        draft.decoder.shape.vocab = decoder_vocab;
    }
    Ok(draft)
}

pub(super) fn read_blenderbot(f: &Fields) -> Result<Draft, ConfigError> {
    let kin = Kin {
        vocab: 8008,
        hidden: 2560,
        encoder: [2, 32, 10240],
        decoder: [24, 32, 10240],
        positions: 128,
        more_positions: Some(0),
        embedding_norm: false,
        final_norm: true,
        ..BART
    };
    read_kin(f, &kin)
}

pub(super) fn read_blenderbot_small(f: &Fields) -> Result<Draft, ConfigError> {
    read_kin(f, &Kin { hidden: 512, encoder: [8, 16, 2048], decoder: [8, 16, 2048], positions: 512, more_positions: Some(0), ..BART })
}

/// M2M-100 and NLLB: computed positions.
pub(super) fn read_m2m_100(f: &Fields) -> Result<Draft, ConfigError> {
    read_kin(f, &Kin { vocab: 128_112, more_positions: None, embedding_norm: false, final_norm: true, ..BART })
}

/// LED: Longformer's attention in the encoder, which has positions of its own.
pub(super) fn read_led(f: &Fields) -> Result<Draft, ConfigError> {
    f.raw("attention_window");
    build(
        &f.with_defaults(&[("max_encoder_position_embeddings", 16_384)]),
        &Kin { base: "led", more_positions: Some(0), ..BART },
        "max_encoder_position_embeddings",
        "max_decoder_position_embeddings",
        |stack, crosses| {
            let keeps = if crosses { Keeps::Own } else { Keeps::Nothing };
            let (hidden, inner) = (stack.hidden, stack.inner);
            if crosses {
                return Ok(stack.equal_layers(keeps, &seq2seq_layer(hidden, inner, true, true)));
            }
            let mut tensors = Tensors::default();
            for leaf in ["query", "key", "value", "query_global", "key_global", "value_global"] {
                tensors.linear(&format!("self_attn.longformer_self_attn.{leaf}"), hidden, hidden, true);
            }
            tensors.linear("self_attn.output", hidden, hidden, true).norm("self_attn_layer_norm", hidden, true);
            tensors.linear("fc1", hidden, inner, true).linear("fc2", inner, hidden, true).norm("final_layer_norm", hidden, true);
            Ok(stack.equal_layers(keeps, &tensors.build()))
        },
    )
}

/// NLLB-MoE: M2M-100 with experts in every `*_sparse_step`-th layer, two of which a token uses.
pub(super) fn read_nllb_moe(f: &Fields) -> Result<Draft, ConfigError> {
    let experts = f.count_or("num_experts", 128)?;
    let router_bias = f.flag("router_bias", false)?;
    let steps = [f.optional_count_or_zero("encoder_sparse_step")?.unwrap_or(4), f.optional_count_or_zero("decoder_sparse_step")?.unwrap_or(4)];
    let kin = Kin { vocab: 128_112, more_positions: None, embedding_norm: false, final_norm: true, ..BART };
    build(f, &kin, "max_position_embeddings", "max_position_embeddings", |stack, crosses| {
        let step = steps[usize::from(crosses)];
        let keeps = if crosses { Keeps::Own } else { Keeps::Nothing };
        let (hidden, inner) = (stack.hidden, stack.inner);
        let layer = |number: u64| {
            let mut tensors = Tensors::default();
            seq2seq_attention(&mut tensors, "self_attn", hidden, true);
            if crosses {
                seq2seq_attention(&mut tensors, "cross_attention", hidden, true);
            }
            let mut layer = stack.layer(Span::Full, keeps);
            if step > 0 && (number + 1).is_multiple_of(step) {
                tensors.linear("ffn.router.classifier", hidden, experts, router_bias);
                expert(&mut tensors, "ffn.experts.expert_{}.fc1", experts, hidden, inner);
                expert(&mut tensors, "ffn.experts.expert_{}.fc2", experts, inner, hidden);
                layer.feed_forward = FeedForward::MixtureOfExperts { experts, active: experts.min(2), intermediate: inner, shared: 0 };
            } else {
                tensors.linear("ffn.fc1", hidden, inner, true).linear("ffn.fc2", inner, hidden, true);
            }
            (layer, tensors.norm("ff_layer_norm", hidden, true).build())
        };
        Ok((0..stack.layers).map(layer).collect())
    })
}

/// The experts' matrices with their biases.
fn expert(tensors: &mut Tensors, module: &str, count: u64, inputs: u64, outputs: u64) {
    tensors.experts(module, count, inputs, outputs);
    let bias = Tensor { name: format!("{module}.bias"), role: Role::of_module(module), shape: vec![outputs], count, stored: None };
    tensors.extend(vec![bias]);
}
