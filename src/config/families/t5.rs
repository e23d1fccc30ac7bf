//! T5, mT5, UMT5, `LongT5`, Switch Transformers: bias tables for relative positions, no other biases, RMSNorms; the classes that end in
//! `EncoderModel` have no decoder.

use super::decoder::{Draft, Tensors, labels};
use super::encoder::{Sizes, encoder_component, layer_count};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, FeedForward, Keeps, Layer, Span, Tensor};

/// What differs between them.
#[allow(clippy::struct_excessive_bools)] // Independent facts about a class.
#[derive(Clone, Copy)]
struct Kin {
    vocab: u64,
    hidden: u64,
    inner: u64,
    layers: u64,
    heads: u64,
    /// Whether the feed-forward is gated when the config does not say.
    gated: bool,
    /// Whether every layer has a table of relative positions, or the first alone.
    table_in_every_layer: bool,
    /// Whether the head is the embedding when the config does not say.
    tied: bool,
    /// Whether it is so whatever the config says.
    always_tied: bool,
}

const T5: Kin = Kin { vocab: 32128, hidden: 512, inner: 2048, layers: 6, heads: 8, gated: false, table_in_every_layer: false, tied: true, always_tied: false };

const MT5: Kin = Kin { vocab: 250_112, inner: 1024, layers: 8, heads: 6, gated: true, tied: false, ..T5 };

/// What the layers of one stack are.
struct Stack<'a> {
    sizes: &'a Sizes,
    is_decoder: bool,
    /// Name of the self-attention's module.
    attention: &'a str,
    buckets: u64,
    table_in_every_layer: bool,
    /// Experts, and every how many layers.
    sparse: Option<(u64, u64)>,
    router_bias: bool,
    feed_forward: &'a str,
}

impl Stack<'_> {
    fn attention(&self, tensors: &mut Tensors, module: &str) {
        let (hidden, all) = (self.sizes.hidden, self.sizes.heads.saturating_mul(self.sizes.head_dim));
        for leaf in ["q", "k", "v"] {
            tensors.linear(&format!("{module}.{leaf}"), hidden, all, false);
        }
        tensors.linear(&format!("{module}.o"), all, hidden, false);
    }

    fn layer(&self, number: u64) -> (Layer, Vec<Tensor>) {
        let (hidden, inner, heads) = (self.sizes.hidden, self.sizes.inner, self.sizes.heads);
        let mut tensors = Tensors::default();
        let own = format!("layer.0.{}", self.attention);
        self.attention(&mut tensors, &own);
        if number == 0 || self.table_in_every_layer {
            tensors.embedding(&format!("{own}.relative_attention_bias"), self.buckets, heads);
        }
        if self.attention.starts_with("TransientGlobal") {
            if number == 0 {
                tensors.embedding(&format!("{own}.global_relative_attention_bias"), self.buckets, heads);
            }
            tensors.norm(&format!("{own}.global_input_layer_norm"), hidden, false);
        }
        tensors.norm("layer.0.layer_norm", hidden, false);
        let last = if self.is_decoder { 2 } else { 1 };
        if self.is_decoder {
            self.attention(&mut tensors, "layer.1.EncDecAttention");
            tensors.norm("layer.1.layer_norm", hidden, false);
        }
        let mut layer = self.sizes.layer(Span::Full, if self.is_decoder { Keeps::Own } else { Keeps::Nothing });
        let module = format!("layer.{last}.{}", self.feed_forward);
        match self.sparse.filter(|(_, step)| *step == 1 || (*step > 0 && number % step == 1)) {
            Some((experts, _)) => {
                tensors
                    .linear(&format!("{module}.router.classifier"), hidden, experts, self.router_bias)
                    .experts(&format!("{module}.experts.expert_{{}}.wi"), experts, hidden, inner)
                    .experts(&format!("{module}.experts.expert_{{}}.wo"), experts, inner, hidden);
                layer.feed_forward = FeedForward::MixtureOfExperts { experts, active: 1, intermediate: inner, shared: 0 };
            }
            None => {
                let inputs: &[&str] = if self.sizes.gated { &["wi_0", "wi_1"] } else { &["wi"] };
                for leaf in inputs {
                    tensors.linear(&format!("{module}.{leaf}"), hidden, inner, false);
                }
                tensors.linear(&format!("{module}.wo"), inner, hidden, false);
            }
        }
        tensors.norm(&format!("layer.{last}.layer_norm"), hidden, false);
        (layer, tensors.build())
    }

    fn layers(&self) -> Vec<(Layer, Vec<Tensor>)> {
        (0..self.sizes.layers).map(|number| self.layer(number)).collect()
    }
}

pub(super) fn read_t5(f: &Fields) -> Result<Draft, ConfigError> {
    read(f, &T5, "SelfAttention", None)
}

/// T5 whose config class ties whatever the file says (UDOP).
pub(super) fn read_tied(f: &Fields) -> Result<Draft, ConfigError> {
    read(f, &Kin { always_tied: true, ..T5 }, "SelfAttention", None)
}

/// T5 with a gated feed-forward where the config does not say.
pub(super) fn read_gated(f: &Fields) -> Result<Draft, ConfigError> {
    read(f, &Kin { gated: true, ..T5 }, "SelfAttention", None)
}

pub(super) fn read_mt5(f: &Fields) -> Result<Draft, ConfigError> {
    read(f, &MT5, "SelfAttention", None)
}

pub(super) fn read_umt5(f: &Fields) -> Result<Draft, ConfigError> {
    read(f, &Kin { tied: true, table_in_every_layer: true, ..MT5 }, "SelfAttention", None)
}

/// `LongT5`: local attention in the encoder, with transient global tokens or without.
pub(super) fn read_longt5(f: &Fields) -> Result<Draft, ConfigError> {
    let attention = match f.optional_text("encoder_attention_type")?.as_deref() {
        None | Some("local") => "LocalSelfAttention",
        Some("transient-global") => "TransientGlobalSelfAttention",
        Some(_) => return Err(f.impossible("encoder_attention_type", "it must be `local` or `transient-global`")),
    };
    f.optional_count("local_radius")?;
    f.optional_count("global_block_size")?;
    read(f, &Kin { always_tied: true, ..T5 }, attention, None)
}

/// Switch Transformers: one expert per token in every so many layers.
pub(super) fn read_switch(f: &Fields) -> Result<Draft, ConfigError> {
    let kin = Kin { hidden: 768, layers: 12, heads: 12, ..T5 };
    read(f, &kin, "SelfAttention", Some(f.count_or("num_experts", 8)?))
}

fn read(f: &Fields, kin: &Kin, encoder_attention: &str, experts: Option<u64>) -> Result<Draft, ConfigError> {
    let or = |key: &str, default: u64| f.count_or(key, default);
    let gated = match f.optional_text("feed_forward_proj")? {
        Some(kind) => kind.starts_with("gated"),
        None => kin.gated,
    };
    // Written by the class beside the text, and read before it.
    let gated = f.flag("is_gated_act", gated)?;
    f.optional_text("dense_act_fn")?;
    let (hidden, inner, vocab) = (or("d_model", kin.hidden)?, or("d_ff", kin.inner)?, or("vocab_size", kin.vocab)?);
    let layers = layer_count(&f.with_alias("num_layers", "num_hidden_layers"), "num_layers", kin.layers)?;
    let decoder_layers = match layer_count(f, "num_decoder_layers", 0)? {
        0 => layers,
        given => given,
    };
    let heads = or("num_heads", kin.heads)?;
    let buckets = or("relative_attention_num_buckets", 32)?;
    let mut encoder = Sizes::plain(hidden, inner, layers, heads, or("d_kv", 64)?, vocab);
    encoder.gated = gated && experts.is_none();
    let decoder = Sizes { layers: decoder_layers, ..encoder };
    // Their classes take null for what they have themselves, which ProstT5's files hold.
    let tied = f.optional_flag("tie_word_embeddings")?.unwrap_or(kin.tied) || kin.always_tied;
    // Every how many layers; without sparse layers a step as long as the stack, which makes one only where that is 1.
    let sparse = |key: &str, step: &str, layers: u64| -> Result<Option<(u64, u64)>, ConfigError> {
        let Some(experts) = experts else { return Ok(None) };
        let sparse = f.optional_count_or_zero(key)?.unwrap_or(3);
        let step = f.optional_count_or_zero(step)?.or(layers.checked_div(sparse)).unwrap_or(layers);
        Ok(Some((experts, step)))
    };
    let router_bias = experts.is_some() && f.flag("router_bias", false)?;
    let feed_forward = if experts.is_some() { "mlp" } else { "DenseReluDense" };
    let (table_in_every_layer, sparse_encoder, sparse_decoder) = (
        kin.table_in_every_layer,
        sparse("num_sparse_encoder_layers", "encoder_sparse_step", layers)?,
        sparse("num_sparse_decoder_layers", "decoder_sparse_step", decoder_layers)?,
    );
    f.touch("expert_capacity");
    let stack = Stack {
        sizes: &encoder,
        is_decoder: false,
        attention: encoder_attention,
        buckets,
        table_in_every_layer,
        sparse: sparse_encoder,
        router_bias,
        feed_forward,
    };
    let encoder_layers = stack.layers();
    let mut tensors = Tensors::default();
    tensors.embedding("shared", vocab, hidden);
    let class = f.architecture()?.unwrap_or_default();
    let is = |ending: &str| class.ends_with(ending);
    // Untied, the stacks of Switch Transformers hold embeddings of their own.
    let splits = !tied && experts.is_some();
    if is("EncoderModel") || is("EncoderForTokenClassification") || is("ForTokenClassification") {
        if is("ForTokenClassification") {
            tensors.linear("classifier", hidden, labels(f)?, true);
        }
        tensors.norm("encoder.final_layer_norm", hidden, false);
        if splits {
            tensors.embedding("encoder.embed_tokens", vocab, hidden);
        }
        return Ok(encoder.model(ComponentKind::TextEncoder, "transformer", "encoder.block", tensors.build(), encoder_layers));
    }
    tensors.norm("decoder.final_layer_norm", hidden, false);
    if splits {
        tensors.embedding("encoder.embed_tokens", vocab, hidden).embedding("decoder.embed_tokens", vocab, hidden);
    }
    let mut assumptions = Vec::new();
    if is("ForSequenceClassification") {
        tensors.linear("classification_head.dense", hidden, hidden, true).linear("classification_head.out_proj", hidden, labels(f)?, true);
    } else if is("ForQuestionAnswering") {
        tensors.linear("qa_outputs", hidden, labels(f)?, true);
    } else if !is("Model") || is("WithLMHeadModel") {
        if !tied {
            tensors.linear("lm_head", hidden, vocab, false);
        }
        if !is("ForConditionalGeneration") && !is("WithLMHeadModel") {
            assumptions.push("counted with encoder, decoder and language-model head".to_owned());
        }
    }
    let stack = Stack { sizes: &decoder, is_decoder: true, attention: "SelfAttention", sparse: sparse_decoder, ..stack };
    let decoder_layers = stack.layers();
    let norm = Tensors::default().norm("encoder.final_layer_norm", hidden, false).build();
    let component = encoder_component(&encoder, ComponentKind::TextEncoder, "encoder.block", norm, encoder_layers);
    let draft = decoder.model(ComponentKind::TextDecoder, "transformer", "decoder.block", tensors.build(), decoder_layers);
    Ok(Draft { assumptions, ..draft.with(component) })
}
