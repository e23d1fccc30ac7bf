//! Mixtures of experts: routers, routed and shared experts, where they stand, and predictors of further tokens.

use super::decoder::{Shape, Tensors, component};
use super::{ConfigError, Fields};
use crate::model::{Component, ComponentKind, FeedForward, Layer, Role, Tensor};

/// What the modules of a mixture are called in checkpoints.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    pub router: &'static str,
    /// Gate, up and down matrix of expert `{}`.
    pub experts: [&'static str; 3],
    /// The feed-forward that every token passes.
    pub shared: &'static str,
}

/// As in DeepSeek, Qwen, GLM and most others.
pub const MLP: Names =
    Names { router: "mlp.gate", experts: ["mlp.experts.{}.gate_proj", "mlp.experts.{}.up_proj", "mlp.experts.{}.down_proj"], shared: "mlp.shared_experts" };

/// As in Mixtral, Phi-MoE and MiniMax.
pub const BLOCK_SPARSE: Names = Names {
    router: "block_sparse_moe.gate",
    experts: ["block_sparse_moe.experts.{}.w1", "block_sparse_moe.experts.{}.w3", "block_sparse_moe.experts.{}.w2"],
    shared: "block_sparse_moe.shared_experts",
};

/// A mixture of gated experts.
#[derive(Clone, Copy, Debug)]
pub struct Mixture {
    pub experts: u64,
    pub active: u64,
    /// Inner width of one routed expert.
    pub width: u64,
    /// Inner width of all shared experts together; 0 without.
    pub shared: u64,
    /// Whether shared experts and dense layers have biases.
    pub bias: bool,
}

/// The sizes that a class gives where the config is silent.
#[derive(Clone, Copy, Debug)]
pub struct MixtureDefaults {
    pub experts: u64,
    pub active: u64,
    pub width: u64,
    /// Shared experts.
    pub shared: u64,
}

impl Mixture {
    /// Reads `num_experts`, `num_experts_per_tok`, `moe_intermediate_size` and `n_shared_experts` under their aliases; a
    /// shared expert is as wide as a routed one.
    pub fn read(f: &Fields, defaults: MixtureDefaults) -> Result<Self, ConfigError> {
        let experts = f.count_or("num_experts", defaults.experts)?;
        let width = f.count_or("moe_intermediate_size", defaults.width)?;
        // A file that says null has none.
        let shared = if f.has_any("n_shared_experts") { f.optional_count_or_zero("n_shared_experts")?.unwrap_or(0) } else { defaults.shared };
        Ok(Self { experts, active: f.active_experts(experts, defaults.active.min(experts))?, width, shared: shared.saturating_mul(width), bias: false })
    }

    /// Its tensors.
    pub fn add(&self, tensors: &mut Tensors, names: Names, hidden: u64) {
        tensors.linear(names.router, hidden, self.experts, false);
        self.add_routed(tensors, names, hidden);
        if self.shared > 0 {
            gated(tensors, names.shared, hidden, self.shared, self.bias);
        }
    }

    /// The routed experts alone.
    pub fn add_routed(&self, tensors: &mut Tensors, names: Names, hidden: u64) {
        let [gate, up, down] = names.experts;
        tensors.experts(gate, self.experts, hidden, self.width).experts(up, self.experts, hidden, self.width).experts(down, self.experts, self.width, hidden);
    }

    /// The same with gate and up matrices of all experts in one tensor: (module, shape) of both, as the files have them.
    pub fn add_fused(tensors: &mut Tensors, gate_up: (&str, &[u64]), down: (&str, &[u64])) {
        tensors.tensor(gate_up.0, Role::ExpertGateUp, gate_up.1).tensor(down.0, Role::ExpertDown, down.1);
    }

    /// What it is to a token.
    pub const fn feed_forward(&self) -> FeedForward {
        FeedForward::MixtureOfExperts { experts: self.experts, active: self.active, intermediate: self.width, shared: self.shared }
    }
}

/// Gate, up and down projections under any module.
pub fn gated(tensors: &mut Tensors, module: &str, hidden: u64, intermediate: u64, bias: bool) {
    tensors.linear(&format!("{module}.gate_proj"), hidden, intermediate, bias).linear(&format!("{module}.up_proj"), hidden, intermediate, bias).linear(
        &format!("{module}.down_proj"),
        intermediate,
        hidden,
        bias,
    );
}

/// Which layers have experts: `mlp_layer_types`, or a list in `moe_layer_freq`, or every `moe_layer_freq`-th from
/// `first_k_dense_replace` on.
pub fn sparse_layers(f: &Fields, shape: &Shape, first_dense: u64) -> Result<Vec<bool>, ConfigError> {
    let first = f.optional_count_or_zero("first_k_dense_replace")?.unwrap_or(first_dense);
    if let Some(types) = f.optional_texts("mlp_layer_types")? {
        f.touch("moe_layer_freq");
        if types.len() as u64 != shape.layers {
            return Err(f.impossible("mlp_layer_types", "it must have one entry per layer (`num_hidden_layers`)"));
        }
        let is_sparse = types.iter().map(|kind| match kind.as_str() {
            "sparse" => Ok(true),
            "dense" => Ok(false),
            _ => Err(f.impossible("mlp_layer_types", "only `sparse` and `dense` are known for this model type")),
        });
        return is_sparse.collect();
    }
    if f.raw("moe_layer_freq").is_some_and(serde_json::Value::is_array) {
        let list = f.optional_counts("moe_layer_freq")?.unwrap_or_default();
        if list.len() as u64 != shape.layers {
            return Err(f.impossible("moe_layer_freq", "as a list it must have one entry per layer (`num_hidden_layers`)"));
        }
        return Ok(list.into_iter().map(|one| one != 0).collect());
    }
    let step = f.count_or("moe_layer_freq", 1)?;
    Ok((0..shape.layers).map(|number| number >= first && number.is_multiple_of(step)).collect())
}

/// The layers in order: each adds its attention to `tensors` and names its mixer; the rest is a mixture where `sparse` says
/// so, and a dense feed-forward elsewhere.
pub fn dense_or_sparse(
    f: &Fields,
    shape: &Shape,
    sparse: &[bool],
    mixture: &Mixture,
    norms: &[&str],
    mut mixer: impl FnMut(usize, &mut Tensors) -> Result<crate::model::Mixer, ConfigError>,
) -> Result<Vec<(Layer, Vec<Tensor>)>, ConfigError> {
    // Present in every file of these families, used only by dense layers.
    let dense = if sparse.iter().all(|&is_sparse| is_sparse) { f.touch("intermediate_size").unwrap_or(0) } else { f.count("intermediate_size")? };
    let layer = |(number, &is_sparse): (usize, &bool)| {
        let mut tensors = Tensors::default();
        let mixer = mixer(number, &mut tensors)?;
        let feed_forward = if is_sparse {
            mixture.add(&mut tensors, MLP, shape.hidden);
            mixture.feed_forward()
        } else {
            tensors.gated_mlp(shape.hidden, dense, mixture.bias);
            FeedForward::Dense { intermediate: dense, gated: true }
        };
        Ok((Layer { mixer, feed_forward }, tensors.norms(norms, shape.hidden).build()))
    };
    sparse.iter().enumerate().map(layer).collect()
}

/// How many further layers predict tokens; the config may say none.
pub fn predictors(f: &Fields) -> Result<u64, ConfigError> {
    let count = f.optional_count_or_zero("num_nextn_predict_layers")?.unwrap_or(0);
    if count > Shape::MAX_LAYERS {
        return Err(f.impossible("num_nextn_predict_layers", "no model has more than 10,000 layers"));
    }
    Ok(count)
}

/// DeepSeek's predictor: one more layer (a copy of the last one's kind) that reads a token's embedding beside the hidden
/// state, with an embedding and a head of its own in the files.
pub fn token_predictor(shape: &Shape, count: u64, last: Option<&(Layer, Vec<Tensor>)>) -> Option<Component> {
    let (layer, tensors) = last.filter(|_| count > 0)?;
    let mut more = Tensors::default()
        .embedding("embed_tokens", shape.vocab, shape.hidden)
        .norm("enorm", shape.hidden, false)
        .norm("hnorm", shape.hidden, false)
        .linear("eh_proj", shape.hidden.saturating_mul(2), shape.hidden, false)
        .norm("shared_head.norm", shape.hidden, false)
        .linear("shared_head.head", shape.hidden, shape.vocab, false)
        .build();
    more.extend(tensors.iter().cloned());
    Some(predictor_component(shape, "model.layers", (0..count).map(|_| (*layer, more.clone())).collect()))
}

/// Layers that predict further tokens as a part of their own.
pub fn predictor_component(shape: &Shape, layer_prefix: &'static str, layers: Vec<(Layer, Vec<Tensor>)>) -> Component {
    component("mtp", ComponentKind::TokenPredictor, shape.hidden, layer_prefix, Vec::new(), layers)
}
