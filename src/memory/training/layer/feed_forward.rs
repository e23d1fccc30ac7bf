//! Feed-forwards on the tape: dense ones, and routed experts.

use super::super::modules::{FeedForwardPart, Module, Parts};
use super::super::run::Run;
use super::super::tape::{Linear, Value};
use super::{TANH_GELU, Walk, shape_of};
use crate::formula::{Expr, Source};
use crate::model::FeedForward;
use crate::scenario::Kernels;

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

impl<'a> Walk<'a, '_> {
    pub(super) fn feed_forwards(&mut self, input: Value, parts: &Parts<'a>) -> Value {
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
    pub(super) fn activated(&mut self, [gate, up]: [Option<Value>; 2], inner: &Expr) -> Value {
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
        // What an expert has room for beyond its even share is kept whether tokens fill it or not.
        let factor = self.run.scenario.training.capacity_factor;
        let times = |width: Expr| {
            let even = Expr::Product(vec![chosen(), width]);
            match factor {
                Some(ratio) => Expr::Fraction { ratio, name: "capacity factor", source: Source::User("expert capacity factor"), of: Box::new(even) },
                None => even,
            }
        };
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
}
