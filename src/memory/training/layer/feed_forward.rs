//! Feed-forwards on the tape: dense ones, and routed experts.

use super::super::experts;
use super::super::modules::{FeedForwardPart, Module, Parts};
use super::super::run::Run;
use super::super::tape::{Linear, NormKind, Of, Value};
use super::{T5_KIN, TANH_GELU, Walk, is_any, shape_of};
use crate::formula::{Expr, Source};
use crate::model::{FeedForward, Role};
use crate::scenario::Kernels;

/// Families whose router is a product in float32 (`F.linear(hidden_states.float(), self.weight.float())`): its input is cast.
const FLOAT_ROUTERS: &[&str] = &[
    "axk1",
    "axk2",
    "bailing_hybrid",
    "beam",
    "deepseek_ocr2",
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v32",
    "dots1",
    "dots3_note",
    "ernie4_5_moe",
    "ernie4_5_vl_moe",
    "exaone_moe",
    "flint",
    "glm4_moe",
    "glm4v_moe",
    "glm5_next",
    "glm_moe_dsa",
    "hunyuan_v1_moe",
    "hy_v3",
    "hy_v4",
    "kimi_k2",
    "kimi_linear",
    "kolibri1",
    "longcat_flash",
    "mimo_v2_flash",
    "mistral_large4",
    "muse_spark",
    "nemotron_h",
    "solar_open",
    "unlimited_ocr",
];
/// Families that pass every token through every expert, scaled by zero where it was not chosen (`Llama4TextExperts`).
const ALL_EXPERTS: &[&str] = &["llama4"];

/// Whether transformers 5.23 passes every token of this family through every expert.
pub(in crate::memory::training) fn takes_all_experts(model_type: &str) -> bool {
    is_any(model_type, ALL_EXPERTS)
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
    /// xIELU (transformers 5.23 `XIELUActivation`): products with its two factors, an exponential, and where its input is positive.
    Xielu,
}

impl Activation {
    fn of(run: &Run) -> Self {
        match run.model.anatomy.computation.activation.as_str() {
            // `GptOssExperts._apply_gate`: the gate cut off, its sigmoid, and the other half with one added.
            _ if run.model.anatomy.model_type == "gpt_oss" => Self::Composed(3),
            "relu" => Self::Result,
            "quick_gelu" => Self::Composed(1),
            "xielu" => Self::Xielu,
            // x, tanh, half of x, and the sum.
            name if run.kernels == Kernels::Transformers && TANH_GELU.contains(&name) => Self::Composed(3),
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
        // A convolution in groups says what one of them reads.
        let width = part.up.filter(|_| down.convolution.is_some()).map_or(down.columns, |up| up.rows);
        let inner = self.run.width(width, INNER, Source::Config("intermediate_size".into()), true);
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
        let mut product = self.activated(first, &inner);
        if is_any(&self.run.model.anatomy.model_type, T5_KIN) {
            product = self.tape.dropout(product);
        }
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
            Activation::Xielu => {
                self.tape.save(of);
                let bytes = self.tape.bytes(of);
                // What the factor of the negative side multiplies is kept where that factor is trained.
                let others = 2 + u64::from(self.run.learns(Role::Other, self.is_trained));
                self.tape.keep(inner, others * bytes + 1);
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
        if self.tape.needs_gradient(input) {
            let (hidden, bytes) = (self.hidden(), self.tape.bytes(input));
            self.tape.keep(&hidden, bytes * self.run.model.anatomy.computation.noises);
        }
        if let Some(router) = router {
            self.router(input, router);
            self.widened(router);
        }
        let config = |key: &'static str| Source::Config(key.into());
        let takes_all = takes_all_experts(&self.run.model.anatomy.model_type);
        let active = if takes_all { experts } else { active };
        let experts = self.run.width(experts, "experts", config("num_experts"), false);
        let chosen = || Expr::leaf(active, "experts per token", config(if takes_all { "num_local_experts" } else { "num_experts_per_tok" }));
        // What an expert has room for beyond its even share is kept whether tokens fill it or not.
        let factor = self.run.scenario.training.capacity_factor;
        let times = |width: Expr| {
            let even = Expr::Product(vec![chosen(), width]);
            match factor {
                Some(ratio) => Expr::Fraction { ratio, name: "capacity factor", source: Source::User("expert capacity factor"), of: Box::new(even) },
                None => even,
            }
        };
        let is_trained = self.run.learns(Role::ExpertUp, self.is_trained);
        let flows = self.tape.needs_gradient(input);
        if flows || is_trained {
            // Probabilities in float32, their sum, and per choice its index (three of them), its weight in two types.
            self.tape.keep(&experts, 4);
            self.tape.keep_bytes(4);
            self.tape.keep(&chosen(), if takes_all { 2 } else { 38 });
        }
        let wide = self.run.width(intermediate, "expert width", config("moe_intermediate_size"), true);
        // Adapters that are added to the weights make these as if they were trained.
        let adds = experts::adds_to_weights(self.run);
        let linear = |roles: &[Role], outputs: Expr| {
            let rank = experts::rank(self.run, roles);
            let low_rank = rank.filter(|_| !adds).map(|rank| times(Expr::leaf(rank, "rank", self.run.lora_rank.source.clone())));
            Linear { outputs, is_trained: is_trained || adds && rank.is_some(), rank: low_rank, magnitudes: false, factors: None }
        };
        let (first_roles, last_roles) = ([Role::ExpertGate, Role::ExpertUp, Role::ExpertGateUp], [Role::ExpertDown]);
        let mut sorted = self.tape.like(input, times(self.hidden()));
        if takes_all && self.tape.needs_gradient(sorted) {
            // Times its score, before the product.
            self.tape.save(sorted);
            sorted = self.tape.like(sorted, times(self.hidden()));
        }
        let gated = self.component.layers.iter().flat_map(|run| &run.tensors).any(|tensor| matches!(tensor.role, Role::ExpertGate | Role::ExpertGateUp));
        let inner = times(wide);
        let first = if gated {
            let gate = self.tape.linear(sorted, &linear(&first_roles, inner.clone()));
            let up = self.tape.linear(sorted, &linear(&first_roles, inner.clone()));
            [Some(gate), Some(up)]
        } else {
            [None, Some(self.tape.linear(sorted, &linear(&first_roles, inner.clone())))]
        };
        let product = self.activated(first, &inner);
        self.tape.works_with(inner, 2 * self.tape.rules.compute);
        let result = self.tape.linear(product, &linear(&last_roles, times(self.hidden())));
        if self.tape.needs_gradient(result) && !takes_all {
            self.tape.save(result); // times its weight
        }
        let hidden = self.hidden();
        self.tape.like(result, hidden)
    }

    /// A router that is computed in float32 keeps a float32 copy of its weight, whatever passes through it.
    fn widened(&mut self, router: &Module<'a>) {
        let is_widened = is_any(&self.run.model.anatomy.model_type, FLOAT_ROUTERS) && self.run.base.block_bytes < 4;
        if is_widened && self.run.recipe.weight.block_bytes < 4 {
            let values = Expr::leaf(router.rows.saturating_mul(router.columns), "router", shape_of(router));
            self.tape.keep_of(Of::Pass, &values, 4);
        }
    }

    /// The product that chooses experts, with what is done to its input.
    fn router(&mut self, input: Value, router: &Module<'a>) {
        let model_type = &self.run.model.anatomy.model_type;
        let mut input = if is_any(model_type, FLOAT_ROUTERS) { self.tape.cast(input, 4) } else { input };
        // Gemma 4: a norm of its own without a weight, and a factor for each value.
        if self.component.layers.iter().flat_map(|run| &run.tensors).any(|tensor| tensor.name.ends_with("router.scale")) {
            let own = self.tape.like(input, self.hidden());
            let normed = self.tape.norm(own, NormKind::RmsFloat, &Expr::constant(1), false);
            if self.run.learns(Role::Other, self.is_trained) {
                self.tape.save(normed);
            }
            input = self.tape.like(normed, self.hidden());
        }
        self.linear(input, router, "experts", false);
    }
}
