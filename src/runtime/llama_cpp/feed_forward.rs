//! What the feed-forward of a layer makes and drops.

use super::graph::Graph;
use super::pool::{Factor, Ticket};
use super::style::has_fused_gate;
use crate::model::{FeedForward, LayerRun, Role};
use crate::quantity::Overflow;

/// Up to so many experts per token are summed by one kernel, for which their outputs are kept (`ggml-cuda.cu`,
/// `MOE_WEIGHTED_REDUCTION_MAX_EXPERTS`).
const MOST_FUSED_EXPERTS: u64 = 15;

fn width(count: u64) -> Factor {
    Factor::config(count, "intermediate_size", "intermediate_size")
}

impl Graph<'_> {
    /// The feed-forward of a layer, and the sums with the residual before and behind it.
    pub(super) fn feed_forward(&mut self, run: &LayerRun, mixed: Option<Ticket>, is_last: bool) -> Result<(), Overflow> {
        // The mixer's output and the residual become one, in the place of the former.
        if let Some(mixed) = mixed
            && let Some(before) = self.residual.replace(mixed)
        {
            self.give(before);
        }
        if self.style.is_parallel || run.layer.feed_forward == FeedForward::None {
            return Ok(());
        }
        let norm = if self.style.has_pre_norms { Some(self.norm()?) } else { None };
        let out = self.experts_or_dense(run, norm)?;
        let out = if is_last && mixed.is_none() { self.pick_rows(out)? } else { out };
        if let Some(before) = self.residual.replace(out) {
            self.give(before);
        }
        Ok(())
    }

    /// Attention and feed-forward side by side: the feed-forward is computed first, then attention's projection.
    pub(super) fn parallel_feed_forward(&mut self, run: &LayerRun, norm: Ticket, mixed: Ticket, is_last: bool) -> Result<Ticket, Overflow> {
        let out = self.experts_or_dense(run, Some(norm))?;
        let projected = self.multiply(Role::AttentionOutput, self.of_rows("attention's projection", self.run.hidden))?;
        self.give(mixed);
        self.give(projected);
        if is_last { self.pick_rows(out) } else { Ok(out) }
    }

    fn experts_or_dense(&mut self, run: &LayerRun, norm: Option<Ticket>) -> Result<Ticket, Overflow> {
        match run.layer.feed_forward {
            FeedForward::Dense { intermediate, gated } => {
                let roles = Roles { gate: Role::Gate, up: Role::Up, down: Role::Down };
                self.dense(width(intermediate), gated, has_fused_gate(run), norm, &roles)
            }
            FeedForward::MixtureOfExperts { experts, active, intermediate, shared } => self.experts(experts, active, intermediate, shared, norm),
            FeedForward::None => self.take(self.of_rows("residual", self.run.hidden)),
        }
    }

    fn dense(&mut self, width: Factor, is_gated: bool, is_fused: bool, norm: Option<Ticket>, roles: &Roles) -> Result<Ticket, Overflow> {
        let inner = |graph: &Self, what| graph.of_rows(what, width);
        let give_norm = |graph: &mut Self| graph.give_all(norm);
        let active = match (is_gated, is_fused) {
            (true, true) => {
                let both = self.of_heads("gate and up projection", Factor::of(2, "(gate and up)"), width);
                let both = self.multiply(Role::GateUp, both)?;
                give_norm(self);
                let active = self.take(inner(self, "their product"))?;
                self.give(both);
                active
            }
            (true, false) => {
                let gate = self.multiply(roles.gate, inner(self, "the gate"))?;
                let up = self.multiply(roles.up, inner(self, "the up projection"))?;
                give_norm(self);
                let active = self.take(inner(self, "their product"))?;
                self.give(gate);
                self.give(up);
                active
            }
            (false, _) => {
                let up = self.multiply(roles.up, inner(self, "the up projection"))?;
                give_norm(self);
                up
            }
        };
        let down = self.multiply(roles.down, self.of_rows("the down projection", self.run.hidden))?;
        self.give(active);
        Ok(down)
    }

    fn experts(&mut self, experts: u64, active: u64, intermediate: u64, shared: u64, norm: Option<Ticket>) -> Result<Ticket, Overflow> {
        let experts = Factor::config(experts, "experts", "num_experts");
        let used = Factor::config(active, "experts per token", "num_experts_per_tok");
        let inner = Factor::config(intermediate, "expert width", "moe_intermediate_size");
        let hidden = self.run.hidden;
        let scores = self.multiply(Role::Router, self.of_rows("router scores", experts))?;
        let order = self.take(self.of_rows("the experts' order", experts))?;
        self.give(scores);
        let weights = self.take(self.of_rows("the experts' weights", used))?;
        let gate = self.multiply(Role::ExpertGate, self.of_heads("the experts' gates", used, inner))?;
        let up = self.multiply(Role::ExpertUp, self.of_heads("the experts' up projections", used, inner))?;
        if shared == 0 {
            self.give_all(norm);
        }
        let product = self.take(self.of_heads("their products", used, inner))?;
        self.give(gate);
        self.give(up);
        let down = self.multiply(Role::ExpertDown, self.of_heads("the experts' outputs", used, hidden))?;
        self.give(product);
        self.give(order);
        let out = if active == 1 {
            let out = self.take(self.of_rows("the experts' sum", hidden))?;
            self.give(down);
            out
        } else {
            let weighted = if active <= MOST_FUSED_EXPERTS { Some(self.take(self.of_heads("the experts' weighted outputs", used, hidden))?) } else { None };
            let out = self.take(self.of_rows("the experts' sum", hidden))?;
            self.give_all(weighted);
            self.give(down);
            out
        };
        self.give(weights);
        if shared > 0 {
            let roles = Roles { gate: Role::Gate, up: Role::Up, down: Role::Down };
            let shared = Factor::config(shared, "width of shared experts", "shared_expert_intermediate_size");
            let beside = self.dense(shared, true, false, norm, &roles)?;
            self.give(beside);
        }
        Ok(out)
    }
}

/// Which weights a feed-forward reads.
struct Roles {
    gate: Role,
    up: Role,
    down: Role,
}
