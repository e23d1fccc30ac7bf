//! The modules of a layer, from its tensors: which norms, attentions, feed-forwards and recurrences there are, and in which order.

use crate::model::{Role, Tensor};

/// A module with a weight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Module<'a> {
    /// Its path inside the layer: `self_attn.q_proj`.
    pub path: &'a str,
    /// The last part of it.
    pub leaf: &'a str,
    /// What it is for.
    pub role: Role,
    /// Elements of its result (of a vector: its length).
    pub rows: u64,
    /// Elements of its input; 0 for vectors.
    pub columns: u64,
    /// How many there are.
    pub count: u64,
    /// Whether it has a bias.
    pub has_bias: bool,
    /// What a convolution's weight has.
    pub convolution: Option<Convolution>,
}

/// The weight of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Convolution {
    /// Channels of its result.
    pub outputs: u64,
    /// Channels that it reads; of one in groups as far as its shape tells.
    pub inputs: u64,
    /// Groups of channels that do not mix.
    pub groups: u64,
    /// Values of its window.
    pub area: u64,
    /// Whether the window has one side.
    pub is_of_samples: bool,
}

impl Convolution {
    /// By its shape: `[outputs, inputs / groups, window ..]`. In a layer one input of several outputs is one of each.
    fn of(tensor: &Tensor) -> Option<Self> {
        let [outputs, inputs, ref window @ ..] = *tensor.shape.as_slice() else { return None };
        let is_other = tensor.role.is_expert() || matches!(tensor.role, Role::Norm | Role::Embedding | Role::Position | Role::MixerState);
        if window.is_empty() || is_other {
            return None;
        }
        let area = window.iter().try_fold(1_u64, |area, side| area.checked_mul(*side))?;
        let groups = if inputs == 1 { outputs } else { 1 };
        Some(Self { outputs, inputs: inputs.checked_mul(groups)?, groups, area, is_of_samples: window.len() == 1 })
    }

    /// Channels that one group reads: what the shape of a weight says.
    pub fn of_group(self) -> u64 {
        self.inputs / self.groups.max(1)
    }

    /// The same where the channels that it reads are known.
    pub fn reading(self, channels: u64) -> Self {
        Self { inputs: channels, groups: channels.checked_div(self.of_group()).unwrap_or(1).max(1), ..self }
    }
}

/// Whether a feed-forward's matrix is cut into groups of inputs and outputs, so that one side of all groups is the hidden state.
fn is_in_groups(tensor: &Tensor, hidden: u64) -> bool {
    let [groups, inputs, outputs] = *tensor.shape.as_slice() else { return false };
    match tensor.role {
        Role::Up => groups.saturating_mul(inputs) == hidden,
        // A last side of one is a convolution's window.
        Role::Down => outputs > 1 && groups.saturating_mul(outputs) == hidden,
        _ => false,
    }
}

impl<'a> Module<'a> {
    fn new(tensor: &'a Tensor, path: &'a str, hidden: u64) -> Self {
        let leaf = path.rsplit_once('.').map_or(path, |(_, leaf)| leaf);
        let (rows, columns) = match *tensor.shape.as_slice() {
            [rows] => (rows, 0),
            [rows, columns] => (rows, columns),
            // `ConvBERT`'s matrices in groups: `[groups, inputs / groups, outputs / groups]`.
            [groups, inputs, outputs] if is_in_groups(tensor, hidden) => (groups.saturating_mul(outputs), groups.saturating_mul(inputs)),
            _ => (0, 0),
        };
        // GPT-2's `Conv1D` keeps its matrices the other way round.
        let is_reversed = match tensor.role {
            Role::Qkv | Role::Gate | Role::Up | Role::GateUp => columns != hidden && rows == hidden,
            Role::AttentionOutput | Role::Down => columns == hidden && rows != hidden,
            _ => false,
        };
        let (rows, columns) = if is_reversed && columns > 0 { (columns, rows) } else { (rows, columns) };
        Self {
            path,
            leaf,
            role: tensor.role,
            rows,
            columns,
            count: tensor.count,
            has_bias: false,
            convolution: Convolution::of(tensor).filter(|_| columns == 0),
        }
    }

    /// The same as a matrix where it is a convolution that sees one token at a time (`SqueezeBERT`'s `Conv1d` of width 1).
    fn per_token(self) -> Self {
        match self.convolution {
            Some(of) if of.is_of_samples && of.area == 1 => Self { rows: of.outputs, columns: of.inputs, ..self },
            _ => self,
        }
    }

    /// True for what multiplies: a matrix or a convolution.
    pub const fn is_product(&self) -> bool {
        self.is_linear() || self.convolution.is_some()
    }

    /// True for one matrix that is no embedding.
    pub const fn is_linear(&self) -> bool {
        self.columns > 0 && !matches!(self.role, Role::Embedding | Role::Position | Role::Norm | Role::MixerConvolution | Role::MixerState)
    }
}

/// Whether IA3 scales a module's input: that of feed-forwards (true), else its output.
pub(super) const fn is_feed_forward(module: &Module<'_>) -> bool {
    matches!(module.role, Role::Down | Role::Gate | Role::Up | Role::GateUp)
}

/// The modules of a list of tensors, in their order. What has no `weight` of its own (decays, sinks, biases of experts) is left out.
pub(super) fn modules(tensors: &[Tensor], hidden: u64) -> Vec<Module<'_>> {
    let mut found: Vec<Module<'_>> = Vec::new();
    for tensor in tensors {
        match tensor.name.rsplit_once('.') {
            // torch's `weight_norm`: the directions have the weight's shape.
            Some((path, "weight" | "weight_v")) => found.push(Module::new(tensor, path, hidden)),
            Some((path, "bias")) => {
                if let Some(module) = found.iter_mut().rev().find(|module| module.path == path) {
                    module.has_bias = true;
                }
            }
            _ => {}
        }
    }
    found
}

/// The modules outside of layers. The first of them reads what the part is given, be it in one channel; a convolution over samples reads
/// what the product before it makes.
pub(super) fn outside(tensors: &[Tensor], hidden: u64) -> Vec<Module<'_>> {
    let mut found = modules(tensors, hidden);
    let mut before: Option<u64> = None;
    for module in found.iter_mut().filter(|module| module.is_product()) {
        if let Some(of) = module.convolution {
            let each = of.of_group();
            let channels = match before {
                None => each,
                Some(made) if of.is_of_samples && made.is_multiple_of(each.max(1)) => made,
                Some(_) => of.inputs,
            };
            module.convolution = Some(of.reading(channels));
        }
        before = Some(module.convolution.map_or(module.rows, |of| of.outputs));
    }
    found
}

/// An attention's matrices and norms.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AttentionPart<'a> {
    pub query: Option<Module<'a>>,
    pub key: Option<Module<'a>>,
    pub value: Option<Module<'a>>,
    /// The three in one.
    pub fused: Option<Module<'a>>,
    /// To the latent of queries.
    pub query_down: Option<Module<'a>>,
    /// To the latent of keys and values.
    pub latent_down: Option<Module<'a>>,
    /// From it.
    pub latent_up: Option<Module<'a>>,
    pub output: Option<Module<'a>>,
    /// What its sigmoid scales the result by.
    pub gate: Option<Module<'a>>,
    pub query_norm: Option<Module<'a>>,
    pub key_norm: Option<Module<'a>>,
    /// Of the queries' latent.
    pub query_down_norm: Option<Module<'a>>,
    /// Of the keys' and values' latent.
    pub latent_norm: Option<Module<'a>>,
    /// A convolution beside the heads, as in [`SPAN`].
    pub span: [Option<Module<'a>>; 4],
}

/// The modules of `ConvBERT`'s convolution: two of keys, what makes kernels of them, what is convolved.
const SPAN: [&str; 4] = ["key_conv_attn_layer.depthwise", "key_conv_attn_layer.pointwise", "conv_kernel_layer", "conv_out_layer"];

impl AttentionPart<'_> {
    /// Reads another sequence than its queries come from.
    pub fn is_cross(&self) -> bool {
        const NAMES: [&str; 5] = ["encoder_attn", "EncDecAttention", "crossattention", "cross_attn", "encoder_decoder_attention"];
        let any = self.query.or(self.key).or(self.fused);
        any.is_some_and(|module| NAMES.iter().any(|name| module.path.contains(name)))
    }
}

/// A feed-forward's matrices.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FeedForwardPart<'a> {
    pub gate: Option<Module<'a>>,
    pub up: Option<Module<'a>>,
    /// Both in one.
    pub both: Option<Module<'a>>,
    pub down: Option<Module<'a>>,
}

/// The parts of a layer.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts<'a> {
    pub attentions: Vec<AttentionPart<'a>>,
    pub feed_forwards: Vec<FeedForwardPart<'a>>,
    pub router: Option<Module<'a>>,
    /// True when there are routed experts.
    pub has_experts: bool,
    /// A recurrence's matrices.
    pub recurrence: Vec<Module<'a>>,
    /// Norms of the hidden state.
    pub norms: Vec<Module<'a>>,
    /// Matrices that are none of these.
    pub others: Vec<Module<'a>>,
}

/// Puts a module into a slot of the last part, or of a new one where that is taken.
fn place<'a, P: Copy + Default>(parts: &mut Vec<P>, module: Module<'a>, slot: impl Fn(&mut P) -> &mut Option<Module<'a>>) {
    if parts.last_mut().is_none_or(|last| slot(last).is_some()) {
        parts.push(P::default());
    }
    if let Some(last) = parts.last_mut() {
        *slot(last) = Some(module);
    }
}

impl<'a> Parts<'a> {
    pub fn of(tensors: &'a [Tensor], hidden: u64) -> Self {
        let mut parts = Self::default();
        for module in modules(tensors, hidden) {
            parts.take(module, hidden);
        }
        parts.has_experts = tensors.iter().any(|tensor| tensor.role.is_expert());
        parts
    }

    fn take(&mut self, module: Module<'a>, hidden: u64) {
        if let Some(at) = SPAN.iter().position(|name| module.path.ends_with(name)) {
            return place(&mut self.attentions, module, |part| &mut part.span[at]);
        }
        let module = module.per_token();
        match module.role {
            Role::Norm => self.take_norm(module, hidden),
            role if role.is_expert() => {}
            _ if !module.is_linear() => {}
            Role::Query => place(&mut self.attentions, module, |part| &mut part.query),
            Role::Key => place(&mut self.attentions, module, |part| &mut part.key),
            Role::Value => place(&mut self.attentions, module, |part| &mut part.value),
            Role::Qkv => place(&mut self.attentions, module, |part| &mut part.fused),
            Role::LatentDown if module.leaf.starts_with('q') => place(&mut self.attentions, module, |part| &mut part.query_down),
            Role::LatentDown => place(&mut self.attentions, module, |part| &mut part.latent_down),
            Role::LatentUp => place(&mut self.attentions, module, |part| &mut part.latent_up),
            Role::OutputDown | Role::AttentionOutput => place(&mut self.attentions, module, |part| &mut part.output),
            Role::Gate if module.path.contains("attn") => place(&mut self.attentions, module, |part| &mut part.gate),
            Role::Gate => place(&mut self.feed_forwards, module, |part| &mut part.gate),
            Role::Up => place(&mut self.feed_forwards, module, |part| &mut part.up),
            Role::GateUp => place(&mut self.feed_forwards, module, |part| &mut part.both),
            Role::Down => place(&mut self.feed_forwards, module, |part| &mut part.down),
            Role::Router => self.router = Some(module),
            // Gemma 4 calls it so.
            _ if module.path.ends_with("router.proj") => self.router = Some(module),
            Role::MixerInput | Role::MixerOutput => self.recurrence.push(module),
            _ => self.others.push(module),
        }
    }

    fn take_norm(&mut self, module: Module<'a>, hidden: u64) {
        let leaf = module.leaf;
        let is_inside = leaf.starts_with("q_") || leaf.starts_with("k_") || leaf.starts_with("kv_") || leaf.starts_with("query") || leaf.starts_with("key");
        if is_inside {
            let slot: for<'p> fn(&'p mut AttentionPart<'a>) -> &'p mut Option<Module<'a>> = match leaf {
                _ if leaf.starts_with("q_a") => |part| &mut part.query_down_norm,
                _ if leaf.starts_with("kv_") => |part| &mut part.latent_norm,
                _ if leaf.starts_with('q') => |part| &mut part.query_norm,
                _ => |part| &mut part.key_norm,
            };
            place(&mut self.attentions, module, slot);
        } else if module.rows == hidden && !(module.path.contains("mamba.") || module.path.contains("mixer.") || module.path.contains("linear_attn.")) {
            self.norms.push(module);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, shape: &[u64]) -> Tensor {
        let module = name.rsplit_once('.').map_or(name, |(path, _)| path);
        Tensor { name: name.to_owned(), role: Role::of_module(module), shape: shape.to_vec(), count: 1, stored: None }
    }

    #[test]
    fn a_layer_falls_into_its_parts() {
        let names = ["input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "self_attn.q_norm", "mlp.gate_proj"];
        let mut tensors: Vec<Tensor> =
            names.iter().map(|name| tensor(&format!("{name}.weight"), if name.contains("norm") { &[64] } else { &[64, 64] })).collect();
        tensors.push(tensor("self_attn.q_proj.bias", &[64]));
        let parts = Parts::of(&tensors, 64);
        assert_eq!((parts.norms.len(), parts.attentions.len(), parts.feed_forwards.len()), (1, 1, 1));
        let attention = parts.attentions[0];
        assert!(attention.query.is_some() && attention.output.is_some() && attention.query_norm.is_some() && !attention.is_cross());
    }

    #[test]
    fn a_decoder_layer_of_two_attentions_is_told_apart() {
        let names = ["self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj", "self_attn.out_proj", "encoder_attn.k_proj", "encoder_attn.q_proj"];
        let tensors: Vec<Tensor> = names.iter().map(|name| tensor(&format!("{name}.weight"), &[8, 8])).collect();
        let parts = Parts::of(&tensors, 8);
        assert_eq!(parts.attentions.iter().map(AttentionPart::is_cross).collect::<Vec<_>>(), [false, true]);
    }
}
