//! Conformer layers on the tape (Gulati et al., arXiv 2005.08100): half feed-forwards, attention with relative positions, and a gated
//! depthwise convolution, each behind a norm of its own.

use super::super::modules::{Module, modules};
use super::super::tape::{Mask, Value};
use super::{Walk, shape_of};
use crate::formula::{Expr, Source};
use crate::model::{LayerRun, Role, Span, Tensor};
use crate::scenario::AttentionImplementation;

/// The first part of a module's path.
fn block_of<'a>(module: &Module<'a>) -> &'a str {
    module.path.split('.').next().unwrap_or(module.path)
}

/// Whether a layer has attention, and a block of its own with a depthwise convolution (`ConvBERT`'s are within its attention).
pub(super) fn is_conformer(layers: &LayerRun, hidden: u64) -> bool {
    let all = modules(&layers.tensors, hidden);
    let is_depthwise = |module: &&Module| module.convolution.is_some_and(|of| of.groups > 1 && of.groups == of.outputs) && module.role == Role::Other;
    let block = all.iter().find(is_depthwise).map(block_of);
    layers.layer.mixer.attention().is_some() && block.is_some_and(|block| !all.iter().any(|module| module.role == Role::Query && block_of(module) == block))
}

/// How a layer knows where its tokens are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Positions {
    /// By nothing of its own: its input may be rotated.
    Elsewhere,
    /// By a matrix that projects distances, or by a table of them: a part of each score.
    Scored,
    /// The same, with two biases, so that there are two kinds of queries (Transformer-XL, arXiv 1901.02860).
    Biased,
}

impl Positions {
    fn of(tensors: &[Tensor], products: &[Module], key_dim: u64) -> Self {
        if tensors.iter().any(|tensor| tensor.name.ends_with("bias_u")) {
            Self::Biased
        } else if products.iter().any(|module| module.leaf.contains("pos") || is_table(module, key_dim)) {
            Self::Scored
        } else {
            Self::Elsewhere
        }
    }
}

/// Whether a module is a vector for each distance.
fn is_table(module: &Module, key_dim: u64) -> bool {
    module.columns == key_dim && module.rows > module.columns && module.role == Role::Other
}

impl<'a> Walk<'a, '_> {
    /// Blocks by the first part of their names, in the order of their tensors; what is kept does not depend on it.
    pub(super) fn conformer(&mut self, tensors: &'a [Tensor], stream: Value) -> Value {
        let hidden = self.component.hidden_size;
        let all = modules(tensors, hidden);
        let (norms, products): (Vec<Module>, Vec<Module>) = all.into_iter().partition(|module| module.role == Role::Norm);
        let mut blocks: Vec<&str> = Vec::new();
        for product in &products {
            if !blocks.contains(&block_of(product)) {
                blocks.push(block_of(product));
            }
        }
        let mut at = stream;
        let mut behind: Vec<&Module> = norms.iter().filter(|norm| norm.rows == hidden).collect();
        for block in blocks {
            let own: Vec<Module> = products.iter().filter(|module| block_of(module) == block).copied().collect();
            // One norm in front; a second one of a convolution is in its middle.
            let mut inside = norms.iter().filter(|norm| block_of(norm) == block);
            let front = inside.next().filter(|norm| norm.rows == hidden).or_else(|| behind.first().copied());
            behind.retain(|norm| front.is_none_or(|front| !std::ptr::eq(*norm, front)));
            let middle = inside.next();
            behind.retain(|norm| middle.is_none_or(|middle| !std::ptr::eq(*norm, middle)));
            let read = front.map_or(at, |norm| self.norm(at, norm));
            let result = if own.iter().any(|module| module.role == Role::Query) { self.near(read, &own, tensors) } else { self.gated(read, &own, middle) };
            let result = self.tape.dropout(result);
            let flows = self.tape.needs_gradient(at) || self.tape.needs_gradient(result);
            at = self.tape.value(self.hidden(), self.tape.rules.stream(), flows);
        }
        behind.into_iter().fold(at, |at, norm| self.norm(at, norm))
    }

    /// Products one after the other. Where one made twice what the next reads there is a gate between them, else, but for a depthwise
    /// convolution, an activation.
    fn gated(&mut self, input: Value, products: &[Module<'a>], middle: Option<&Module<'a>>) -> Value {
        let mut at = input;
        let mut made = 0;
        for (index, module) in products.iter().enumerate() {
            let (inputs, outputs) = module.convolution.map_or((module.columns, module.rows), |of| (of.inputs, of.outputs));
            let is_depthwise = module.convolution.is_some_and(|of| of.groups > 1);
            let is_gate = index > 0 && made == inputs.saturating_mul(2);
            if index > 0 && self.tape.needs_gradient(at) && (is_gate || !is_depthwise) {
                self.tape.save(at);
                let width = self.run.width(inputs, "inputs", shape_of(module), true);
                at = self.tape.like(at, width);
            }
            // The backward of a convolution reads its input even where its weight is frozen.
            if module.convolution.is_some() && self.tape.needs_gradient(at) {
                self.tape.save(at);
            }
            let outputs_width = self.run.width(outputs, "outputs", shape_of(module), true);
            let linear = self.linear_of(module, outputs_width);
            at = self.tape.linear(at, &linear);
            if is_depthwise && let Some(norm) = middle {
                at = self.norm(at, norm);
            }
            made = outputs;
        }
        at
    }

    /// Attention. Where scores have a part by distance it is written out, and softmax is kept; else that part, as the kernel's mask.
    fn near(&mut self, input: Value, products: &[Module<'a>], tensors: &[Tensor]) -> Value {
        let Some(&attention) = self.layer.mixer.attention() else { return input };
        let positions = Positions::of(tensors, products, attention.key_dim);
        // What projects the positions themselves reads none of the tokens.
        let is_of_tokens = |module: &&Module| module.columns > 0 && !is_table(module, attention.key_dim) && !module.leaf.contains("pos");
        let matrices: Vec<&Module> = products.iter().filter(is_of_tokens).collect();
        let Some((out, reading)) = matrices.split_last() else { return input };
        let made: Vec<Value> = reading.iter().map(|module| self.linear(input, module, "outputs", true)).collect();
        let wide = attention.heads.saturating_mul(attention.value_dim);
        let wide = self.run.width(wide, "query width", Source::Config("heads × size of a head".into()), true);
        let heads = self.run.width(attention.heads, "heads", Source::Config("num_attention_heads".into()), true);
        let context = match (positions, made.as_slice()) {
            (Positions::Elsewhere, &[query, key, value]) => self.tape.attention([query, key, value], &heads, None, Mask::None, wide.clone()),
            _ => self.by_distance(&made, (&wide, &heads), positions, products.iter().any(|module| is_table(module, attention.key_dim))),
        };
        self.linear(context, out, "hidden_size", false)
    }

    /// Attention with a part of each score by distance.
    fn by_distance(&mut self, made: &[Value], (wide, heads): (&Expr, &Expr), positions: Positions, has_table: bool) -> Value {
        let Some(&attention) = self.layer.mixer.attention() else { return self.tape.value(wide.clone(), self.tape.rules.compute, false) };
        let flows = made.iter().any(|value| self.tape.needs_gradient(*value));
        for value in made.iter().filter(|_| flows) {
            self.tape.save(*value);
        }
        let low = self.tape.rules.compute;
        let context = self.tape.value(wide.clone(), low, flows);
        self.tape.select(context);
        if !flows {
            return context;
        }
        let sequence = self.tape.rules.sequence.clone();
        let keys = match attention.span {
            Span::Full => sequence,
            Span::Sliding(reach) | Span::Chunked(reach) => Expr::Min(vec![sequence, Expr::leaf(reach, "tokens of a block", Source::Config("context".into()))]),
        };
        self.tape.keep(&Expr::Product(vec![heads.clone(), keys.clone()]), low);
        if self.tape.rules.attention != AttentionImplementation::Eager {
            self.tape.save(context);
            self.tape.keep(heads, 4);
        }
        if positions == Positions::Biased {
            // The second queries, and a projected vector for each distance: one less than twice the tokens.
            self.tape.keep(wide, 3 * low);
        }
        if has_table {
            // A vector and its index for each pair of positions of a block, the same for all blocks and sequences.
            let size = Expr::leaf(attention.key_dim, "size of a head", Source::Config("heads × size of a head".into()));
            let tokens = Expr::Product(vec![self.run.rows.leaf("sequences"), self.tape.rules.sequence.clone()]);
            let pairs = Expr::Product(vec![keys.clone(), keys]);
            self.tape.keep(&Expr::Product(vec![pairs.clone(), size]).ceil_div(tokens.clone()), low);
            self.tape.keep(&pairs.ceil_div(tokens), 8);
        }
        context
    }
}
