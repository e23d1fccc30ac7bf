//! One layer's forward pass, written down on a tape from the layer's own modules.

use super::modules::{AttentionPart, FeedForwardPart, Module, Parts, is_feed_forward};
use super::run::Run;
use super::tape::{Kept, Linear, NormKind, Rules, Tape, Value};
use crate::formula::{Expr, Source};
use crate::model::{Attention, Component, Computation, FeedForward, Layer, LayerRun, Mixer, Recurrence, RecurrenceKind, Span};
use crate::scenario::Kernels;

/// Families whose norms have no bias and are LayerNorms all the same.
const LAYER_NORMS: &[&str] = &["mpt", "dbrx", "olmo", "modernbert"];
/// Families whose LayerNorm is written out in float32 (`CohereLayerNorm`).
const WRITTEN_LAYER_NORMS: &[&str] = &["cohere", "cohere2", "cohere2_vision", "aya_vision"];
/// Families whose RMS norms stay in float32 up to their end (`self._norm(x.float()) * (1 + self.weight.float())`).
const FLOAT_NORMS: &[&str] = &["gemma", "recurrent_gemma", "t5gemma", "vaultgemma", "olmo2", "olmo3", "paligemma", "qwen3_next", "qwen3_5", "colgemma"];
/// Families whose attention and feed-forward read the same hidden state through norms of their own.
const PARALLEL: &[&str] = &["gpt_neox", "falcon"];
/// Families whose softmax is not in float32 when attention is written out.
const LOW_SOFTMAX: &[&str] = &["gpt2", "gpt_bigcode", "bert", "roberta", "xlm-roberta", "vit", "distilbert", "electra", "mpnet", "bart", "mbart", "marian"];

/// True when a family, or a model around it, is in the list.
fn is_any(model_type: &str, families: &[&str]) -> bool {
    families.iter().any(|family| {
        model_type.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with(|next: char| next == '_' || next.is_ascii_digit()))
    })
}

/// True when softmax is computed in float32 where attention is written out.
pub(super) fn softmax_in_float32(model_type: &str) -> bool {
    !LOW_SOFTMAX.contains(&model_type)
}

/// The kind of a norm.
pub(super) fn norm_kind(model_type: &str, norm: &Module<'_>) -> NormKind {
    if WRITTEN_LAYER_NORMS.contains(&model_type) {
        NormKind::LayerFloat
    } else if norm.has_bias || LAYER_NORMS.contains(&model_type) {
        NormKind::Layer
    } else if is_any(model_type, FLOAT_NORMS) {
        NormKind::RmsFloat
    } else {
        NormKind::Rms
    }
}

/// How an activation function is kept for its backward.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Activation {
    /// One operator that keeps its input.
    Input,
    /// One operator that keeps its result.
    Result,
    /// Written out in Python: so many tensors besides.
    Composed(u64),
}

/// GELU by tanh: one operator of PyTorch, `0.5 x (1 + tanh(c (x + 0.044715 x^3)))` in transformers 5.23 `activations.py`.
const TANH_GELU: &[&str] = &["gelu_new", "gelu_fast", "gated-gelu"];

impl Activation {
    fn of(run: &Run) -> Self {
        match run.model.anatomy.computation.activation.as_deref() {
            Some("relu") => Self::Result,
            Some("quick_gelu") => Self::Composed(1),
            // x, tanh, half of x, and the sum.
            Some(name) if run.kernels == Kernels::Transformers && TANH_GELU.contains(&name) => Self::Composed(3),
            _ => Self::Input,
        }
    }
}

/// Whether transformers writes a model's activation function out that is an operator of PyTorch.
pub(super) fn is_written_out(computation: &Computation) -> bool {
    computation.activation.as_deref().is_some_and(|name| TANH_GELU.contains(&name))
}

/// A layer as it is walked.
pub(super) struct Walk<'a, 'r> {
    pub run: &'a Run<'a>,
    pub tape: Tape<'r>,
    component: &'a Component,
    layer: Layer,
    is_trained: bool,
}

/// What a layer keeps, and whether gradients flow out of it.
pub(super) struct Walked {
    pub kept: Kept,
    pub flows: bool,
}

/// One layer of a run. `flows` says whether its input needs a gradient; `is_trained` whether its weights are.
pub(super) fn walk(run: &Run, rules: &Rules, component: &Component, layers: &LayerRun, is_trained: bool, flows: bool) -> Walked {
    let mut walk = Walk { run, tape: Tape::new(rules), component, layer: layers.layer, is_trained };
    let parts = Parts::of(&layers.tensors, component.hidden_size);
    let width = walk.hidden();
    let stream = walk.tape.value(width, rules.stream(), flows);
    walk.tape.select(stream);
    let end = walk.blocks(&parts, stream);
    let flows = walk.tape.needs_gradient(end);
    Walked { kept: walk.tape.finish(), flows }
}

impl<'a> Walk<'a, '_> {
    fn hidden(&self) -> Expr {
        self.run.width(self.component.hidden_size, "hidden_size", Source::Config("hidden_size".into()), false)
    }

    /// The blocks one after the other, each behind its norm and added to the hidden state.
    fn blocks(&mut self, parts: &Parts<'a>, stream: Value) -> Value {
        let has_mlp = parts.has_experts || !parts.feed_forwards.is_empty();
        let has_recurrence = !parts.recurrence.is_empty();
        let blocks = parts.attentions.len() + usize::from(has_recurrence) + usize::from(has_mlp);
        let is_parallel = PARALLEL.contains(&self.run.model.anatomy.model_type.as_str());
        let mut norms = parts.norms.iter();
        // Norms that are more than blocks stand behind them.
        let mut behind = parts.norms.len().saturating_sub(blocks);
        let shares = parts.norms.len() < blocks && !parts.norms.is_empty();
        let (mut at, mut normed) = (stream, None);
        for (index, block) in (0..blocks).map(|index| (index, Block::nth(index, parts.attentions.len(), has_recurrence))) {
            let reads = if is_parallel || shares && normed.is_none() { stream } else { at };
            // Blocks without a norm of their own read what the one before read; a feed-forward comes last, with the last norm.
            let is_own = !shares || normed.is_none() || index + 1 == blocks && norms.len() > 0;
            let input = match normed {
                Some(input) if !is_own => input,
                _ => match norms.next() {
                    Some(norm) => self.norm(reads, norm),
                    None => self.plain_norm(reads),
                },
            };
            normed = Some(input);
            let mut result = match block {
                Block::Attention(index) => self.attention(input, &parts.attentions[index]),
                Block::Recurrence => self.recurrence(input, &parts.recurrence),
                Block::FeedForward => self.feed_forwards(input, parts),
            };
            if behind > 0
                && let Some(norm) = norms.next()
            {
                behind -= 1;
                result = self.norm(result, norm);
            }
            let result = self.tape.dropout(result);
            let flows = self.tape.needs_gradient(at) || self.tape.needs_gradient(result);
            at = self.tape.value(self.hidden(), self.tape.rules.stream(), flows);
        }
        for other in &parts.others {
            let inputs = self.run.width(other.columns, "inputs", shape_of(other), false);
            let input = self.tape.like(at, inputs);
            let result = self.linear(input, other, "outputs", false);
            if self.tape.needs_gradient(result) {
                self.tape.save(result);
            }
        }
        at
    }

    fn norm(&mut self, input: Value, norm: &Module<'a>) -> Value {
        let kind = norm_kind(&self.run.model.anatomy.model_type, norm);
        self.tape.norm(input, kind, &Expr::constant(1), self.trains(norm))
    }

    /// A norm without a weight (OLMo), or none.
    fn plain_norm(&mut self, input: Value) -> Value {
        if self.run.model.anatomy.model_type != "olmo" {
            return input;
        }
        // `OlmoLayerNorm`: the operator of PyTorch on float32 values.
        let bytes = self.tape.bytes(input);
        let wide = self.tape.cast(input, 4);
        let normed = self.tape.norm(wide, NormKind::Layer, &Expr::constant(1), false);
        self.tape.cast(normed, bytes)
    }

    fn trains(&self, module: &Module<'_>) -> bool {
        self.run.trains(module.role, self.is_trained)
    }

    fn linear(&mut self, input: Value, module: &Module<'a>, name: &'static str, splits: bool) -> Value {
        let outputs = self.run.width(module.rows, name, shape_of(module), splits);
        let linear = self.linear_of(module, outputs);
        self.tape.linear(input, &linear)
    }

    fn linear_of(&self, module: &Module<'a>, outputs: Expr) -> Linear {
        let adapts = self.run.adapts(module);
        let low_rank = adapts && self.run.method.is_low_rank();
        Linear {
            outputs,
            is_trained: self.trains(module),
            rank: low_rank.then(|| self.run.lora_rank.leaf("rank")),
            magnitudes: low_rank && self.run.has_magnitudes(),
            factors: (adapts && !low_rank).then(|| is_feed_forward(module)),
        }
    }

    fn attention(&mut self, input: Value, part: &AttentionPart<'a>) -> Value {
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
        if let Some(fused) = &part.fused {
            let all = self.linear(input, fused, "query, key and value width", true);
            // Parts of one tensor: keeping any of them keeps it whole. Rotation makes new queries and keys.
            (query, key, value) = (all, all, all);
            if self.rotates() {
                query = self.tape.like(all, queries.clone());
                key = self.tape.like(all, keys);
            }
        } else {
            query = part.query.map_or(input, |query| self.linear(input, &query, "query width", true));
            let reads = if part.is_cross() { self.encoder_states(input) } else { input };
            // Layers without keys of their own read those of an earlier one.
            key = match part.key {
                Some(key) => self.linear(reads, &key, "KV width", true),
                None => self.borrowed(keys.clone()),
            };
            value = part.value.map_or(key, |value| self.linear(reads, &value, "KV width", true));
            let gated = part.query.is_some_and(|query| query.rows == 2 * heads * key_dim);
            query = self.head_norm(query, part.query_norm, heads, &queries);
            if part.query_norm.is_none() {
                query = self.tape.like(query, queries.clone());
            }
            key = if part.key.is_some() { self.head_norm(key, part.key_norm, kv_heads, &keys) } else { key };
            if part.value.is_some() && self.tape.width(value) != values {
                value = self.tape.like(value, values);
            }
            if gated {
                // The other half of the query projection gates the result: its sigmoid and both factors are kept.
                let gate = self.tape.like(query, wide[1].clone());
                self.tape.save(gate);
            }
        }
        let heads = self.run.width(heads, "heads", Source::Config("num_attention_heads".into()), true);
        let is_masked = self.run.masks(attention.span);
        let result = self.tape.attention([query, key, value], &heads, [&wide[0], &wide[1]], is_masked);
        let hidden = "hidden_size";
        part.output.map_or(result, |output| self.linear(result, &output, hidden, false))
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

    fn heads(&self) -> u64 {
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
        // Values are a part of what holds keys too.
        let result = self.tape.attention([query, key, both], &heads, [&queries, &values], false);
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
    fn encoder_states(&mut self, like: Value) -> Value {
        let width = self.hidden();
        let states = self.tape.like(like, width);
        self.tape.is_kept_elsewhere(states);
        states
    }

    /// Keys and values that another layer keeps.
    fn borrowed(&mut self, width: Expr) -> Value {
        let value = self.tape.value(width, self.tape.rules.compute, true);
        self.tape.is_kept_elsewhere(value);
        value
    }

    fn feed_forwards(&mut self, input: Value, parts: &Parts<'a>) -> Value {
        let mut result = None;
        if parts.has_experts {
            result = Some(self.experts(input, parts.router.as_ref()));
        }
        for part in &parts.feed_forwards {
            let one = self.feed_forward(input, part);
            result = Some(result.unwrap_or(one));
        }
        result.unwrap_or(input)
    }

    fn feed_forward(&mut self, input: Value, part: &FeedForwardPart<'a>) -> Value {
        const INNER: &str = "intermediate_size";
        let Some(down) = part.down else { return input };
        let inner = self.run.width(down.columns, INNER, Source::Config("intermediate_size".into()), true);
        let first = match (&part.both, &part.gate, &part.up) {
            (Some(both), ..) => {
                let outputs = self.run.width(both.rows, "gate and up width", shape_of(both), true);
                let linear = self.linear_of(both, outputs);
                let both = self.tape.linear(input, &linear);
                [Some(both), Some(both)]
            }
            (None, gate, up) => [gate.as_ref(), up.as_ref()].map(|module| {
                module.map(|module| {
                    let linear = self.linear_of(module, inner.clone());
                    self.tape.linear(input, &linear)
                })
            }),
        };
        let product = self.activated(first, &inner);
        let wide = if self.run.adapts(&down) { self.tape.rules.adapter } else { self.tape.rules.compute };
        self.tape.works_with(inner, 2 * wide);
        self.linear(product, &down, "hidden_size", false)
    }

    /// `f(gate) × up`, or `f(up)` without a gate.
    fn activated(&mut self, [gate, up]: [Option<Value>; 2], inner: &Expr) -> Value {
        let activation = Activation::of(self.run);
        let (of, by) = match (gate, up) {
            (Some(gate), Some(up)) => (gate, Some(up)),
            (one, other) => match one.or(other) {
                Some(one) => (one, None),
                None => return self.borrowed(inner.clone()),
            },
        };
        let result = self.tape.like(of, inner.clone());
        if !self.tape.needs_gradient(of) && !by.is_some_and(|by| self.tape.needs_gradient(by)) {
            return result;
        }
        match activation {
            Activation::Result if !self.tape.rules.fused => self.tape.save(result),
            Activation::Composed(others) if !self.tape.rules.fused => {
                self.tape.save(of);
                let bytes = self.tape.bytes(of);
                self.tape.keep(inner, others * bytes);
            }
            _ => self.tape.save(of),
        }
        let Some(by) = by else { return result };
        self.tape.save(by);
        if !self.tape.rules.fused {
            self.tape.save(result);
        }
        self.tape.like(of, inner.clone())
    }

    /// Routed experts as grouped matrix products (transformers 5.23 `integrations/moe.py:grouped_mm_experts_forward`).
    fn experts(&mut self, input: Value, router: Option<&Module<'a>>) -> Value {
        let FeedForward::MixtureOfExperts { experts, active, intermediate, .. } = self.layer.feed_forward else { return input };
        if let Some(router) = router {
            self.linear(input, router, "experts", false);
        }
        let config = |key: &'static str| Source::Config(key.into());
        let experts = self.run.width(experts, "experts", config("num_experts"), false);
        let chosen = || Expr::leaf(active, "experts per token", config("num_experts_per_tok"));
        let times = |width: Expr| Expr::Product(vec![chosen(), width]);
        let is_trained = self.run.trains(crate::model::Role::ExpertUp, self.is_trained);
        let is_adapted = self.run.adapts_experts();
        let flows = self.tape.needs_gradient(input);
        if flows || is_trained {
            // Probabilities in float32, their sum, and per choice its index (three of them), its weight in two types.
            self.tape.keep(&experts, 4);
            self.tape.keep_bytes(4);
            self.tape.keep(&chosen(), 38);
        }
        let wide = self.run.width(intermediate, "expert width", config("moe_intermediate_size"), true);
        let low_rank = is_adapted.then(|| times(self.run.lora_rank.leaf("rank")));
        let linear = |outputs: Expr| Linear { outputs, is_trained, rank: low_rank.clone(), magnitudes: false, factors: None };
        let sorted = self.tape.like(input, times(self.hidden()));
        let gated = self
            .component
            .layers
            .iter()
            .flat_map(|run| &run.tensors)
            .any(|tensor| matches!(tensor.role, crate::model::Role::ExpertGate | crate::model::Role::ExpertGateUp));
        let inner = times(wide);
        let first = if gated {
            let gate = self.tape.linear(sorted, &linear(inner.clone()));
            let up = self.tape.linear(sorted, &linear(inner.clone()));
            [Some(gate), Some(up)]
        } else {
            [None, Some(self.tape.linear(sorted, &linear(inner.clone())))]
        };
        let product = self.activated(first, &inner);
        self.tape.works_with(inner, 2 * self.tape.rules.compute);
        let result = self.tape.linear(product, &linear(times(self.hidden())));
        if self.tape.needs_gradient(result) {
            self.tape.save(result); // times its weight
        }
        let hidden = self.hidden();
        self.tape.like(result, hidden)
    }

    /// A recurrence with the kernels that its family is trained with.
    fn recurrence(&mut self, input: Value, modules: &[Module<'a>]) -> Value {
        let Some(&recurrence) = self.layer.mixer.recurrence() else { return input };
        let (inputs, outputs): (Vec<Module<'a>>, Vec<Module<'a>>) = modules.iter().partition(|module| module.role == crate::model::Role::MixerInput);
        let hidden = self.component.hidden_size;
        let mut first = None;
        for module in inputs.iter().filter(|module| module.columns == hidden) {
            let result = self.linear(input, module, "recurrence's inputs", true);
            if self.tape.needs_gradient(result) {
                self.tape.save(result); // the kernel, or what follows, reads it
            }
            first = first.or(Some(result));
        }
        let flows = first.unwrap_or(input);
        let inner = outputs.first().map_or(hidden, |output| output.columns);
        let inner = self.run.width(inner, "recurrence's width", Source::Derived("input of the output projection".into()), true);
        if self.tape.needs_gradient(flows) {
            self.keep_recurrence(&recurrence, &inner);
        }
        let result = self.tape.value(inner.clone(), self.tape.rules.compute, self.tape.needs_gradient(flows));
        self.tape.works_with(inner, 2 * self.tape.rules.compute);
        match outputs.first() {
            // The kernel of Mamba-2 includes the projection and computes its input again.
            Some(output) if recurrence.kind == RecurrenceKind::Mamba2 => {
                self.tape.value(self.run.width(output.rows, "hidden_size", shape_of(output), false), self.tape.rules.compute, true)
            }
            Some(output) => self.linear(result, output, "hidden_size", false),
            None => result,
        }
    }

    /// What the kernels keep between the projections.
    fn keep_recurrence(&mut self, recurrence: &Recurrence, inner: &Expr) {
        let low = self.tape.rules.compute;
        let channels = self.run.width(recurrence.conv_channels, "convolution channels", Source::Config("convolution channels".into()), true);
        match recurrence.kind {
            // mamba_ssm `MambaSplitConv1dScanCombinedFn`: the projected input and the scan's result.
            RecurrenceKind::Mamba2 => self.tape.keep(inner, low),
            // mamba_ssm `MambaInnerFn`: the scan's result, and its state in float32 once in 2,048 tokens.
            RecurrenceKind::Mamba1 => {
                self.tape.keep(inner, low);
                let states = Expr::leaf(recurrence.state, "state elements", Source::Config("state size".into()));
                self.tape.keep(&Expr::Product(vec![Expr::named(2, "(state and its input)"), states]).ceil_div(Expr::named(2048, "tokens of a chunk")), 4);
            }
            // fla `chunk_gated_delta_rule`: the convolution's input and result, the triangle of a chunk of 64, decays in float32, results.
            RecurrenceKind::GatedDeltaNet | RecurrenceKind::KimiDelta => {
                self.tape.keep(&channels, 2 * low);
                self.tape.keep(inner, 2 * low);
                self.tape.keep_bytes(64 * low);
            }
            // A product, the convolution's result, and their gated product.
            RecurrenceKind::ShortConvolution => self.tape.keep(inner, 2 * low),
            RecurrenceKind::Linear | RecurrenceKind::Rglru | RecurrenceKind::Rwkv | RecurrenceKind::Xlstm => {
                self.tape.keep(inner, 2 * low + 4);
            }
        }
    }
}

/// A block of a layer.
enum Block {
    Attention(usize),
    Recurrence,
    FeedForward,
}

impl Block {
    const fn nth(index: usize, attentions: usize, has_recurrence: bool) -> Self {
        if index < attentions {
            Self::Attention(index)
        } else if index == attentions && has_recurrence {
            Self::Recurrence
        } else {
            Self::FeedForward
        }
    }
}

fn shape_of(module: &Module<'_>) -> Source {
    Source::Derived(format!("shape of {}", module.path).into())
}

fn head_source(is_query: bool) -> Source {
    Source::Config(if is_query { "num_attention_heads" } else { "num_key_value_heads" }.into())
}

/// Whether a span needs a mask at this length: kernels then take keys and values one per query head.
pub(super) fn needs_mask(span: Span, tokens: u64) -> bool {
    match span {
        Span::Full => false,
        Span::Sliding(reach) | Span::Chunked(reach) => tokens > reach,
    }
}
