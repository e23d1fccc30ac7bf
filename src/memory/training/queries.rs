//! Parts in which learned queries read what a tower gives: Q-Formers (BLIP-2, arXiv 2301.12597), whose layers attend to the queries
//! themselves and every so often to the tower's tokens, and perceiver resamplers (Flamingo, arXiv 2204.14198; IDEFICS), whose layers
//! attend to the tower's tokens and the queries side by side. Widths are of one set of queries: those of an image, or of a window.

use super::activations::{Group, Pass, rules};
use super::layer::{linear_of, norm_kind};
use super::modules::{AttentionPart, FeedForwardPart, Module, Parts, modules};
use super::run::Run;
use super::tape::{Mask, PerToken, Tape, Value};
use crate::formula::{Expr, Source};
use crate::model::{Attention, Component, LayerRun, Role, Tensor};
use crate::scenario::{AttentionImplementation, Checkpointing, Method};

/// Names of learned queries.
const QUERIES: [&str; 4] = ["query_tokens", "query", "latents", "latent_query"];

/// Whether a tensor is learned queries.
pub(super) fn is_queries(tensor: &Tensor) -> bool {
    let leaf = tensor.name.rsplit_once('.').map_or(tensor.name.as_str(), |(_, leaf)| leaf);
    tensor.role == Role::Other && tensor.shape.len() > 1 && QUERIES.contains(&leaf)
}

/// How many queries of this width a part has.
fn count(part: &Component, width: u64) -> Option<u64> {
    let shape = &part.tensors.iter().find(|tensor| is_queries(tensor) && tensor.shape.last() == Some(&width))?.shape;
    shape.iter().rev().nth(1).copied()
}

/// What queries read: so many tokens of this width in each set, and whether a gradient flows back into them.
pub(super) struct Features {
    pub tokens: Expr,
    pub width: u64,
    pub flow: bool,
}

/// The queries of a part, or of the part that stands behind it; `None` where it has no layers that read with them.
pub(super) fn of(part: &Component, next: Option<&Component>) -> Option<Expr> {
    let reads = |layers: &LayerRun| layers.layer.mixer.attention().is_some() && !layers.tensors.is_empty();
    if part.layers.is_empty() || !part.layers.iter().all(reads) {
        return None;
    }
    let queries = count(part, part.hidden_size).or_else(|| count(next?, part.hidden_size))?;
    Some(Expr::leaf(queries, "queries", Source::Derived("shape of the learned queries".into())))
}

/// The pass of one set of queries through a part.
pub(super) fn pass(run: &Run, part: &Component, queries: Expr, features: &Features) -> Pass {
    let rules = &rules(run, queries.clone());
    let is_trained = run.method == Method::Full;
    let mut reader = Reader { run, tape: Tape::new(rules), queries, tokens: features.tokens.clone(), hidden: part.hidden_size, is_trained };
    // In front of the layers: a feed-forward over the tower's tokens (Idefics2), or a norm of the queries (BLIP-2).
    let outside = Parts::of(&part.tensors, part.hidden_size);
    let is_perceiver = part.layers.iter().any(|layers| is_perceiver(&layers.tensors));
    let tokens = reader.tokens.clone();
    let mut context = reader.value(&tokens, features.width, rules.stream(), features.flow);
    for feed_forward in &outside.feed_forwards {
        context = reader.feed_forward(context, feed_forward, &tokens);
    }
    // The queries are a parameter: held anyway.
    let mut at = reader.value(&reader.queries.clone(), part.hidden_size, rules.stream(), is_trained);
    reader.tape.is_kept_elsewhere(at);
    if !is_perceiver {
        at = reader.norms(at, &outside);
    }
    // transformers 5.23: `Blip2QFormerLayer` is a `GradientCheckpointingLayer`, `Idefics2PerceiverLayer` is not.
    let recomputes = run.checkpointing != Checkpointing::None && !is_perceiver;
    let flows = is_trained || reader.tape.needs_gradient(context) || reader.adapts(&part.layers);
    if recomputes && flows {
        reader.tape.save(context);
    }
    let mut groups = Vec::new();
    let mut tail = PerToken::default();
    for layers in &part.layers {
        for _ in 0..layers.count {
            let before = std::mem::replace(&mut reader.tape, Tape::new(rules));
            let [queries, read] = [at, context].map(|value| before.carry(value, &mut reader.tape));
            tail.add_all(&before.finish().saved);
            let mut input = PerToken::default();
            if reader.tape.needs_gradient(queries) || flows {
                input.add(&reader.tape.width(queries), rules.stream());
            }
            at = reader.layer(layers, queries, read);
            let after = std::mem::replace(&mut reader.tape, Tape::new(rules));
            [at, context] = [at, read].map(|value| after.carry(value, &mut reader.tape));
            let kept = after.finish();
            if is_perceiver {
                tail.add_all(&kept.saved);
            } else {
                Group::add(&mut groups, kept, input);
            }
        }
    }
    if is_perceiver {
        reader.norms(at, &outside);
    }
    tail.add_all(&reader.tape.finish().saved);
    Pass::new(groups, tail)
}

/// Whether a layer has a norm of what it reads beside that of its queries.
fn is_perceiver(tensors: &[Tensor]) -> bool {
    tensors.iter().any(|tensor| tensor.role == Role::Norm && tensor.name.contains("context"))
}

/// A set of queries at work.
struct Reader<'a, 'r> {
    run: &'a Run<'a>,
    tape: Tape<'r>,
    queries: Expr,
    tokens: Expr,
    hidden: u64,
    is_trained: bool,
}

impl Reader<'_, '_> {
    fn value(&mut self, rows: &Expr, width: u64, bytes: u64, needs_gradient: bool) -> Value {
        self.tape.value(of_rows(rows, width), bytes, needs_gradient)
    }

    /// Whether any matrix of these layers has an adapter.
    fn adapts(&self, layers: &[LayerRun]) -> bool {
        layers.iter().any(|layers| modules(&layers.tensors, self.hidden).iter().any(|module| self.run.adapts(module)))
    }

    fn linear(&mut self, input: Value, module: &Module, rows: &Expr) -> Value {
        let mut linear = linear_of(self.run, module, of_rows(rows, module.rows), self.is_trained);
        linear.rank = linear.rank.map(|rank| Expr::Product(vec![rows.clone(), rank]));
        self.tape.linear(input, &linear)
    }

    fn norm(&mut self, input: Value, module: Option<&Module>, rows: &Expr) -> Value {
        let Some(module) = module else { return input };
        let kind = norm_kind(&self.run.model.anatomy.model_type, module);
        self.tape.norm(input, kind, rows, self.run.learns(Role::Norm, self.is_trained))
    }

    /// The norms outside of the layers.
    fn norms(&mut self, at: Value, outside: &Parts) -> Value {
        let rows = self.queries.clone();
        outside.norms.iter().fold(at, |at, norm| self.norm(at, Some(norm), &rows))
    }

    fn layer(&mut self, layers: &LayerRun, at: Value, context: Value) -> Value {
        let parts = Parts::of(&layers.tensors, self.hidden);
        let Some(&attention) = layers.layer.mixer.attention() else { return at };
        if is_perceiver(&layers.tensors) { self.perceiver(&parts, &attention, at, context) } else { self.q_former(&parts, &attention, at, context) }
    }

    /// Attention and a feed-forward, each behind norms. Keys and values are of the tower's tokens and the queries.
    fn perceiver(&mut self, parts: &Parts, attention: &Attention, at: Value, context: Value) -> Value {
        let (rows, tokens) = (self.queries.clone(), self.tokens.clone());
        let is_of_context = |norm: &&Module| norm.path.contains("context");
        let mut others = parts.norms.iter().filter(|norm| !is_of_context(norm));
        let read = self.norm(context, parts.norms.iter().find(is_of_context), &tokens);
        let queries = self.norm(at, others.next(), &rows);
        let all = Expr::Sum(vec![tokens, rows.clone()]);
        let flows = self.tape.needs_gradient(queries) || self.tape.needs_gradient(read);
        let bytes = self.tape.bytes(queries);
        let both = self.value(&all, self.hidden, bytes, flows);
        let made = parts.attentions.first().map(|part| self.attention(queries, (both, &all), part, attention));
        let at = self.added(at, made);
        let normed = self.norm(at, others.next(), &rows);
        let made = parts.feed_forwards.first().map(|part| self.feed_forward(normed, part, &rows));
        self.added(at, made)
    }

    /// Attention among the queries, then to the tower where the layer does that, then a feed-forward, each with a norm behind it.
    fn q_former(&mut self, parts: &Parts, attention: &Attention, at: Value, context: Value) -> Value {
        let (rows, tokens) = (self.queries.clone(), self.tokens.clone());
        let norm_of = |block: &str| parts.norms.iter().find(|norm| norm.path.starts_with(block));
        let mut at = at;
        for part in &parts.attentions {
            let is_cross = part.is_cross();
            let made = self.attention(at, if is_cross { (context, &tokens) } else { (at, &rows) }, part, attention);
            let sum = self.added(at, Some(made));
            at = self.norm(sum, norm_of(if is_cross { "crossattention" } else { "attention" }), &rows);
        }
        // Where it reads texts too, queries have a feed-forward of their own.
        let is_own = |part: &&FeedForwardPart| part.up.is_some_and(|up| up.path.contains("query"));
        let made = parts.feed_forwards.iter().find(is_own).or(parts.feed_forwards.first()).map(|part| self.feed_forward(at, part, &rows));
        let sum = self.added(at, made);
        self.norm(sum, norm_of("output_query").or_else(|| norm_of("output")), &rows)
    }

    /// The sum of two values, the second of which may pass a dropout.
    fn added(&mut self, at: Value, made: Option<Value>) -> Value {
        let Some(made) = made else { return at };
        let made = self.tape.dropout(made);
        let flows = self.tape.needs_gradient(at) || self.tape.needs_gradient(made);
        let bytes = self.tape.bytes(at);
        self.value(&self.queries.clone(), self.hidden, bytes, flows)
    }

    fn attention(&mut self, queries: Value, (read, keys): (Value, &Expr), part: &AttentionPart, attention: &Attention) -> Value {
        let rows = self.queries.clone();
        let Attention { heads, kv_heads, key_dim, value_dim, .. } = *attention;
        let mut made = [(part.query, queries, &rows), (part.key, read, keys), (part.value, read, keys)].map(|(module, input, rows)| match module {
            Some(module) => self.linear(input, &module, rows),
            None => input,
        });
        for (value, norm, heads, rows) in [(0, part.query_norm, heads, &rows), (1, part.key_norm, kv_heads, keys)] {
            made[value] = self.norm(made[value], norm.as_ref(), &of_rows(rows, heads));
        }
        let wide = [key_dim, value_dim].map(|size| of_rows(keys, heads.saturating_mul(size)));
        let result = of_rows(&rows, heads.saturating_mul(value_dim));
        let heads_of = heads;
        let heads = of_rows(&rows, heads);
        let repeats = kv_heads < heads_of && self.tape.rules.attention == AttentionImplementation::Eager;
        let context = self.tape.attention_to(made, &heads, repeats.then_some([&wide[0], &wide[1]]), Mask::None, (keys, result));
        part.output.map_or(context, |output| self.linear(context, &output, &rows))
    }

    /// `down(f(gate) × up)`, or `down(f(up))`: functions whose backward reads their input (GELU, `SiLU`).
    fn feed_forward(&mut self, input: Value, part: &FeedForwardPart, rows: &Expr) -> Value {
        let (Some(up), Some(down)) = (part.up, part.down) else { return input };
        let up = self.linear(input, &up, rows);
        let gate = part.gate.map(|gate| self.linear(input, &gate, rows));
        let product = self.tape.like(up, self.tape.width(up));
        if self.tape.needs_gradient(up) {
            self.tape.save(up);
            if let Some(gate) = gate {
                let activated = self.tape.like(gate, self.tape.width(gate));
                self.tape.save(gate);
                self.tape.save(activated);
            }
        }
        let bytes = self.tape.bytes(up);
        self.tape.works_with(of_rows(rows, down.columns), 2 * bytes);
        self.linear(product, &down, rows)
    }
}

/// So many values for each row.
pub(super) fn of_rows(rows: &Expr, width: u64) -> Expr {
    Expr::Product(vec![rows.clone(), Expr::leaf(width, "width", Source::Derived("shapes of the projector".into()))])
}
