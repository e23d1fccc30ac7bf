//! Attention on the tape: queries, keys and values, each with its norms and adapters.

use super::super::modules::{AttentionPart, Module};
use super::super::tape::{Mask, NormKind, Value};
use super::{ALWAYS_MASKED, INDEXED, MASKED_BY_HEAD, VALUE_NORMS, Walk, is_any, norm_kind, rejoins, shape_of};
use crate::formula::{Expr, Source};
use crate::model::{Attention, Component, ComponentKind, Keeps, Mixer, Span, Tensor};
use crate::scenario::AttentionImplementation;

/// The largest heads that flash attention takes, and for which transformers gives SDPA keys and values as they are
/// (`sdpa_attention.py:use_gqa_in_sdpa`).
const MOST_OF_FLASH: u64 = 256;

/// Whether a part has tables of values by distance that its attention adds to the scores (T5, `MPNet`).
pub(in crate::memory::training) fn has_distances(component: &Component) -> bool {
    let layers = component.layers.iter().flat_map(|layers| &layers.tensors);
    component.tensors.iter().chain(layers).any(is_table_of_distances)
}

/// Whether a tensor is such a table.
pub(in crate::memory::training) fn is_table_of_distances(tensor: &Tensor) -> bool {
    tensor.name.ends_with("relative_attention_bias.weight")
}

/// Whether tokens do not see later ones.
fn is_causal(mixer: &Mixer) -> bool {
    mixer.attention().is_some_and(|attention| attention.keeps != Keeps::Nothing)
}

impl<'a> Walk<'a, '_> {
    pub(super) fn attention(&mut self, input: Value, part: &AttentionPart<'a>) -> Value {
        if let (Some(up), Mixer::Latent(_)) = (part.latent_up, self.layer.mixer) {
            return self.latent_attention(input, part, &up);
        }
        let Some(&attention) = self.layer.mixer.attention() else { return self.unknown(input, part) };
        let Attention { heads, kv_heads, key_dim, value_dim, .. } = attention;
        let width = |heads: u64, size: u64, name| self.run.width(heads.saturating_mul(size), name, Source::Config("heads × size of a head".into()), true);
        let (queries, keys) = (width(heads, key_dim, "query width"), width(kv_heads, key_dim, "KV width"));
        let values = width(kv_heads, value_dim, "KV width");
        let wide = [queries.clone(), if value_dim == key_dim { queries.clone() } else { width(heads, value_dim, "value width") }];
        let [mut query, mut key, mut value];
        // The other half of the query projection gates the result.
        let gated = part.query.is_some_and(|query| query.rows == heads.saturating_mul(2).saturating_mul(key_dim));
        if let Some(fused) = &part.fused {
            let all = self.linear(input, fused, "query, key and value width", true);
            // Parts of one tensor: keeping any of them keeps it whole. Rotation makes new queries and keys.
            (query, key, value) = (all, all, all);
            if self.rotates() {
                query = self.tape.like(all, queries.clone());
                key = self.tape.like(all, keys);
            }
            if INDEXED.contains(&self.run.model.anatomy.model_type.as_str()) {
                value = self.tape.like(all, values);
            }
        } else {
            query = part.query.map_or(input, |query| self.linear(input, &query, "query width", true));
            let is_cross = part.is_cross();
            let reads = if is_cross { self.encoder_states(input) } else { input };
            // Layers without keys of their own read those of an earlier one.
            key = match part.key {
                Some(key) => self.linear(reads, &key, "KV width", true),
                None => self.borrowed(keys.clone()),
            };
            value = part.value.map_or(key, |value| self.linear(reads, &value, "KV width", true));
            query = self.head_norm(query, part.query_norm, heads, &queries);
            if part.query_norm.is_none() {
                query = self.tape.like(query, queries.clone());
            }
            key = if part.key.is_some() { self.head_norm(key, part.key_norm, kv_heads, &keys) } else { key };
            if part.value.is_some() && self.tape.width(value) != values {
                value = self.tape.like(value, values.clone());
            }
            if part.key.is_some() && is_any(&self.run.model.anatomy.model_type, VALUE_NORMS) {
                let rows = self.run.width(kv_heads, "KV heads", head_source(false), true);
                value = self.tape.norm(value, NormKind::RmsFloat, &rows, false);
            }
            // There are as many keys and values as the encoder has tokens.
            if is_cross && self.run.encoder_tokens().is_some() {
                (key, value) = (self.tape.like(key, self.of_encoder(keys)), self.tape.like(value, self.of_encoder(values)));
            }
        }
        let heads = self.run.width(heads, "heads", Source::Config("num_attention_heads".into()), true);
        let mask = self.mask(attention.span, part);
        let is_for_flash = mask == Mask::None && key_dim == value_dim && key_dim <= MOST_OF_FLASH;
        let repeats = match self.tape.rules.attention {
            AttentionImplementation::Eager => true,
            AttentionImplementation::Sdpa => !is_for_flash,
            AttentionImplementation::Flash => false,
        };
        // One head for all queries is read as many times without a copy; a product of several sequences makes one.
        let is_copied = match kv_heads.div_ceil(self.run.world.tensor.value) {
            1 => self.tape.rules.attention == AttentionImplementation::Eager && self.run.rows.value > 1,
            _ => kv_heads < attention.heads,
        };
        let copies = (repeats && is_copied).then_some([&wide[0], &wide[1]]);
        let result = self.tape.attention([query, key, value], &heads, copies, mask, wide[1].clone());
        let result = if self.rotates() && rejoins(self.run, key_dim) && self.takes_order(is_for_flash) {
            self.tape.like(result, self.tape.width(result))
        } else {
            result
        };
        let result = self.beside_span(input, query, result, part);
        let result = match part.gate {
            Some(gate) => {
                let gate = self.linear(input, &gate, "width of the gate", true);
                self.gated_result(result, gate)
            }
            None if gated => self.gated_result(result, query),
            None => result,
        };
        let hidden = "hidden_size";
        part.output.map_or(result, |output| self.linear(result, &output, hidden, false))
    }

    /// What is added to the scores of an attention.
    fn mask(&self, span: Span, part: &AttentionPart<'a>) -> Mask {
        if has_distances(self.component) {
            // A decoder's attention to its encoder has values of zero, those of the layer whose table is used (`T5Attention`).
            return match part.is_cross() {
                false => Mask::Distances(is_causal(&self.layer.mixer)),
                true if self.tensors.iter().any(is_table_of_distances) => Mask::Distances(false),
                true => Mask::Elsewhere,
            };
        }
        // Towers attend to their windows one by one.
        let is_tower = matches!(self.component.kind, ComponentKind::VisionTower | ComponentKind::AudioTower);
        let model_type = self.run.model.anatomy.model_type.as_str();
        if is_tower {
            Mask::None
        } else if MASKED_BY_HEAD.contains(&model_type) {
            Mask::OfHeads
        } else if self.run.masks(span) || ALWAYS_MASKED.contains(&model_type) {
            Mask::Seen
        } else {
            Mask::None
        }
    }

    /// Whether attention's result lies as its queries do: flash attention makes it like them (`empty_like`), the kernels that take masks and
    /// values of another size make it in the order of tokens (torch 2.15 `flash_attn/flash_api.cpp:mha_fwd`, `attention.cu`).
    fn takes_order(&self, is_for_flash: bool) -> bool {
        self.tape.rules.attention != AttentionImplementation::Sdpa || is_for_flash
    }

    /// The result times the sigmoid of a gate: both factors are kept.
    fn gated_result(&mut self, result: Value, gate: Value) -> Value {
        if self.tape.needs_gradient(gate) || self.tape.needs_gradient(result) {
            let sigmoid = self.tape.like(gate, self.tape.width(result));
            self.tape.save(sigmoid);
            self.tape.save(result);
        }
        self.tape.like(result, self.tape.width(result))
    }

    /// Queries or keys, each head normed where the family does that.
    fn head_norm(&mut self, value: Value, norm: Option<Module<'a>>, heads: u64, width: &Expr) -> Value {
        let Some(norm) = norm else { return value };
        let value = if self.tape.width(value) == *width { value } else { self.tape.like(value, width.clone()) };
        let kind = norm_kind(&self.run.model.anatomy.model_type, &norm);
        let is_whole = norm.rows > self.layer.mixer.attention().map_or(0, |attention| attention.key_dim);
        let rows = if is_whole {
            Expr::constant(1)
        } else {
            self.run.width(heads, if heads == self.heads() { "heads" } else { "KV heads" }, head_source(heads == self.heads()), true)
        };
        self.tape.norm(value, kind, &rows, self.trains(&norm))
    }

    pub(super) fn heads(&self) -> u64 {
        self.layer.mixer.attention().map_or(0, |attention| attention.heads)
    }

    /// Keys and values through a latent: both are made for every head.
    fn latent_attention(&mut self, input: Value, part: &AttentionPart<'a>, up: &Module<'a>) -> Value {
        let Mixer::Latent(latent) = self.layer.mixer else { return input };
        let config = |key: &'static str| Source::Config(key.into());
        let wide = |value: u64, name| self.run.width(latent.heads.saturating_mul(value), name, config("heads × size of a head"), true);
        let (queries, values) = (wide(latent.nope_dim + latent.rope_dim, "query width"), wide(latent.value_dim, "value width"));
        let mut from = input;
        if let Some(down) = &part.query_down {
            from = self.linear(input, down, "q_lora_rank", false);
            if let Some(norm) = part.query_down_norm {
                from = self.norm(from, &norm);
            }
        }
        let query = part.query.map_or(from, |query| self.linear(from, &query, "query width", true));
        // Positions are rotated in and the parts put together: a new tensor.
        let query = self.tape.like(query, queries.clone());
        let compressed = part.latent_down.map_or(input, |down| self.linear(input, &down, "latent and rotary part", false));
        let latent_width = self.run.width(latent.kv_lora_rank, "kv_lora_rank", config("kv_lora_rank"), false);
        let mut from = self.tape.like(compressed, latent_width);
        if let Some(norm) = part.latent_norm {
            from = self.norm(from, &norm);
        }
        let both = self.linear(from, up, "key and value width of all heads", true);
        let key = self.tape.like(both, queries.clone());
        let heads = self.run.width(latent.heads, "heads", config("num_attention_heads"), true);
        // An indexer's choice is a mask; nothing flows back into it, so that it keeps nothing.
        let is_masked = latent.indexer > 0 || self.run.masks(latent.span) || ALWAYS_MASKED.contains(&self.run.model.anatomy.model_type.as_str());
        let mask = if is_masked { Mask::Seen } else { Mask::None };
        let head = latent.nope_dim + latent.rope_dim;
        // Values are a part of what holds keys too.
        let result = self.tape.attention([query, key, both], &heads, None, mask, values.clone());
        let is_for_flash = mask == Mask::None && head == latent.value_dim && head <= MOST_OF_FLASH;
        let result = if self.takes_order(is_for_flash) { self.tape.like(result, values) } else { result };
        part.output.map_or(result, |output| self.linear(result, &output, "hidden_size", false))
    }

    /// An attention in a layer whose mixer says nothing of it: every matrix keeps its input and its result.
    fn unknown(&mut self, input: Value, part: &AttentionPart<'a>) -> Value {
        let modules = [part.query, part.key, part.value, part.fused, part.query_down, part.latent_down, part.latent_up, part.output];
        let mut last = input;
        for module in modules.into_iter().flatten() {
            let width = self.run.width(module.columns, "inputs", shape_of(&module), false);
            let from = if self.tape.width(input) == width { input } else { self.tape.like(last, width) };
            last = self.linear(from, &module, "outputs", false);
            if self.tape.needs_gradient(last) {
                self.tape.save(last);
            }
        }
        last
    }

    /// Whether positions are rotated into queries and keys.
    fn rotates(&self) -> bool {
        let has_table = self.component.tensors.iter().any(|tensor| tensor.role == crate::model::Role::Position);
        !has_table && !matches!(self.run.model.anatomy.model_type.as_str(), "gpt2" | "gpt_bigcode" | "bloom" | "mpt")
    }

    /// What a decoder's cross-attention reads: kept once for all layers.
    pub(super) fn encoder_states(&mut self, like: Value) -> Value {
        let width = self.of_encoder(self.hidden());
        let states = self.tape.like(like, width);
        self.tape.is_kept_elsewhere(states);
        states
    }

    /// What the encoder's tokens take, told per token of the decoder.
    fn of_encoder(&self, width: Expr) -> Expr {
        let Some(tokens) = self.run.encoder_tokens() else { return width };
        Expr::Product(vec![width, tokens]).ceil_div(self.run.decoder_tokens())
    }

    /// Keys and values that another layer keeps.
    pub(super) fn borrowed(&mut self, width: Expr) -> Value {
        let value = self.tape.value(width, self.tape.rules.compute, true);
        self.tape.is_kept_elsewhere(value);
        value
    }
}

fn head_source(is_query: bool) -> Source {
    Source::Config(if is_query { "num_attention_heads" } else { "num_key_value_heads" }.into())
}
