//! Resamplers without layers of their own: learned queries that attend once, or block by block, to what a tower gives (MiniCPM-V, Aria,
//! Kosmos-2, IDEFICS). Which side a module is on is told by its name.

use super::activations::{Pass, rules};
use super::layer::{linear_of, norm_kind};
use super::modules::{Module, modules};
use super::queries::{Features, is_queries, of_rows};
use super::run::Run;
use super::tape::{Linear, Mask, Tape, Value};
use crate::formula::{Expr, Source};
use crate::model::{Component, Role, Tensor};
use crate::scenario::{AttentionImplementation, Method};

/// Values of a head, which no weight tells: Kosmos-2's; Aria's have 72, IDEFICS's 96, MiniCPM-V's 128.
const HEAD: u64 = 64;

/// The queries of a part that has no layers, and their count.
pub(super) fn of(part: &Component) -> Option<Expr> {
    let tensor = part.tensors.iter().find(|tensor| is_queries(tensor)).filter(|_| part.layers.is_empty())?;
    let count = tensor.shape.iter().rev().nth(1).copied()?;
    Some(Expr::leaf(count, "queries", Source::Derived("shape of the learned queries".into())))
}

/// The pass of one set of queries.
pub(super) fn pass(run: &Run, part: &Component, queries: Expr, features: &Features) -> Option<Pass> {
    let learned = part.tensors.iter().find(|tensor| is_queries(tensor))?;
    let width = learned.shape.last().copied()?;
    let all = modules(&part.tensors, part.hidden_size);
    let fused = part.tensors.iter().find(|tensor| tensor.name.ends_with("in_proj_weight"));
    let mut blocks: Vec<&str> = all.iter().map(|module| block_of(module.path)).filter(|block| !block.is_empty()).collect();
    blocks.dedup();
    let mut rules = rules(run, queries.clone());
    if fused.is_some() || !blocks.is_empty() {
        // torch's `MultiheadAttention` that is asked for its scores, and IDEFICS, write attention out.
        rules.attention = AttentionImplementation::Eager;
    }
    let is_trained = run.method == Method::Full;
    // Latents are keys and values of their own too (Flamingo, arXiv 2204.14198).
    let joins = learned.name.contains("latent");
    let mut walk = Walk { run, tape: Tape::new(&rules), rows: queries, tokens: features.tokens.clone(), is_trained, joins };
    let context = walk.value(&features.tokens, features.width, features.flow);
    let mut at = walk.value(&walk.rows.clone(), width, is_trained);
    if blocks.is_empty() {
        at = walk.block(&all, fused, context, at);
        // A matrix that is a parameter itself.
        if let Some(last) = part.tensors.iter().find(|tensor| tensor.name.ends_with("resampler.proj") && tensor.shape.len() == 2) {
            let rows = walk.rows.clone();
            walk.plain(at, last.shape[1], &rows);
        }
    }
    for block in blocks {
        let own: Vec<Module> = all.iter().filter(|module| block_of(module.path) == block).copied().collect();
        at = walk.block(&own, None, context, at);
    }
    Some(Pass::new(Vec::new(), walk.tape.finish().saved))
}

/// `blocks.3` of `model.resampler.blocks.3.0.q_proj`; all of what is in no block.
fn block_of(path: &str) -> &str {
    let Some(at) = path.find("blocks.") else { return "" };
    let number = at + "blocks.".len();
    let end = path[number..].find('.').map_or(path.len(), |more| number + more);
    &path[..end]
}

struct Walk<'a, 'r> {
    run: &'a Run<'a>,
    tape: Tape<'r>,
    rows: Expr,
    tokens: Expr,
    is_trained: bool,
    joins: bool,
}

impl Walk<'_, '_> {
    fn value(&mut self, rows: &Expr, width: u64, flows: bool) -> Value {
        let bytes = self.tape.rules.stream();
        self.tape.value(of_rows(rows, width), bytes, flows)
    }

    fn linear(&mut self, input: Value, module: &Module, rows: &Expr) -> Value {
        let mut linear = linear_of(self.run, module, of_rows(rows, module.rows), self.is_trained);
        linear.rank = linear.rank.map(|rank| Expr::Product(vec![rows.clone(), rank]));
        self.tape.linear(input, &linear)
    }

    /// A product with a parameter that is no module: no adapter finds it.
    fn plain(&mut self, input: Value, outputs: u64, rows: &Expr) -> Value {
        let linear = Linear { outputs: of_rows(rows, outputs), is_trained: self.is_trained, rank: None, magnitudes: false, factors: None };
        self.tape.linear(input, &linear)
    }

    fn norm(&mut self, input: Value, module: &Module, rows: &Expr) -> Value {
        let kind = norm_kind(&self.run.model.anatomy.model_type, module);
        self.tape.norm(input, kind, rows, self.run.learns(Role::Norm, self.is_trained))
    }

    /// Norms, keys and values of the tower's tokens, attention, and what follows it. `fused` holds a second projection of all three.
    fn block(&mut self, modules: &[Module], fused: Option<&Tensor>, context: Value, at: Value) -> Value {
        let (rows, tokens) = (self.rows.clone(), self.tokens.clone());
        let is_of_context = |module: &Module| module.path.contains("kv") || module.path.contains("context") || module.leaf == "dense";
        let mut read = context;
        for module in modules.iter().filter(|module| is_of_context(module) && module.is_linear()) {
            read = self.linear(read, module, &tokens);
        }
        if let Some(norm) = modules.iter().find(|module| is_of_context(module) && module.role == Role::Norm) {
            read = self.norm(read, norm, &tokens);
        }
        // In front of the first product of the queries, then behind it.
        let is_of_heads = |module: &Module| module.leaf.starts_with("q_") || module.leaf.starts_with("k_");
        let mut norms = modules.iter().filter(|module| module.role == Role::Norm && !is_of_context(module) && !is_of_heads(module));
        let mut query = at;
        if !modules.iter().any(|module| module.leaf == "dense")
            && let Some(norm) = norms.next()
        {
            query = self.norm(at, norm, &rows);
        }
        let keys = if self.joins { Expr::Sum(vec![tokens.clone(), rows.clone()]) } else { tokens };
        let named = |leaf: &str| modules.iter().find(|module| module.leaf == leaf);
        let mut read_again = read;
        if self.joins {
            let flows = self.tape.needs_gradient(read) || self.tape.needs_gradient(query);
            let width = named("k_proj").map_or(0, |module| module.columns);
            read = self.value(&keys, width, flows);
            // IDEFICS puts both side by side for keys, and again for values.
            read_again = if block_of(modules.first().map_or("", |module| module.path)).is_empty() { read } else { self.value(&keys, width, flows) };
        }
        let mut made = [(named("q_proj"), query, &rows), (named("k_proj"), read, &keys), (named("v_proj"), read_again, &keys)]
            .map(|(module, input, rows)| module.map_or(input, |module| self.linear(input, module, rows)));
        let mut width = named("q_proj").map(|module| module.rows);
        if let Some(fused) = fused {
            let inputs = fused.shape.last().copied().unwrap_or_default();
            for (value, rows) in made.iter_mut().zip([&rows, &keys, &keys]) {
                *value = self.plain(*value, inputs, rows);
            }
            width = Some(inputs);
        }
        let Some(width) = width else { return at };
        let heads = of_rows(&rows, width.div_ceil(HEAD));
        let result = self.tape.attention_to(made, &heads, None, Mask::None, (&keys, of_rows(&rows, width)));
        self.behind(modules, norms.copied().collect(), result, is_of_context)
    }

    /// The products behind attention in their order; where one makes what the next reads in a feed-forward, an activation is between them.
    fn behind(&mut self, modules: &[Module], norms: Vec<Module>, result: Value, is_of_context: impl Fn(&Module) -> bool) -> Value {
        let rows = self.rows.clone();
        let mut norms = norms.into_iter();
        let mut at = result;
        let is_behind = |module: &&Module| module.is_linear() && !is_of_context(module) && !matches!(module.leaf, "q_proj" | "k_proj" | "v_proj");
        for module in modules.iter().filter(is_behind) {
            if matches!(module.leaf, "linear_in" | "fc")
                && let Some(norm) = norms.next()
            {
                at = self.norm(at, &norm, &rows);
            }
            // GELU's backward reads its input, ReLU's (IDEFICS) its result, which the next product keeps.
            if module.leaf == "linear_out" && self.tape.needs_gradient(at) {
                self.tape.save(at);
                at = self.tape.like(at, of_rows(&rows, module.columns));
            }
            at = self.linear(at, module, &rows);
        }
        norms.fold(at, |at, norm| self.norm(at, &norm, &rows))
    }
}
