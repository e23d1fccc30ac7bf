//! Vision networks that are put together: a backbone with a config of its own ([`super::backbones`]), stacks of layers over what it
//! sees, small heads. Tensors outside of stacks have their full names.

use super::backbones::Backbone;
use super::decoder::{Draft, Tensors, component};
use super::multimodal::lasting;
use super::vision::{Encoder, Style, Tower, linear, norm};
use super::{ConfigError, Fields};
use crate::model::{Component, ComponentKind, Layer, Role, Tensor};

/// A network under construction. The first stack stands for the whole; the others are parts beside it.
#[derive(Default)]
pub(super) struct Network {
    /// What is outside of stacks.
    pub t: Tensors,
    stacks: Vec<Stack>,
    parts: Vec<Component>,
    assumptions: Vec<String>,
}

struct Stack {
    name: &'static str,
    prefix: String,
    encoder: Encoder,
    layers: Vec<(Layer, Vec<Tensor>)>,
}

impl Network {
    /// Equal layers below `prefix`.
    pub(super) fn stack(&mut self, name: &'static str, prefix: &str, encoder: &Encoder, layer: &[Tensor]) {
        self.stack_of(name, prefix, encoder, Style::layers_of(encoder, layer));
    }

    /// Layers that may differ.
    pub(super) fn stack_of(&mut self, name: &'static str, prefix: &str, encoder: &Encoder, layers: Vec<(Layer, Vec<Tensor>)>) {
        self.stacks.push(Stack { name, prefix: prefix.to_owned(), encoder: *encoder, layers });
    }

    /// Another part: a backbone, a text tower.
    pub(super) fn part(&mut self, component: Component) {
        self.parts.push(component);
    }

    /// What is not known of it, a sentence.
    pub(super) fn assume(&mut self, how: String) {
        self.assumptions.push(how);
    }

    /// A class that is none of those known: counted without its head.
    pub(super) fn headless(&mut self, class: &str) {
        self.assume(format!("architecture `{class}` is counted without its head"));
    }

    /// The finished network, for which its backbone stands: the stacks are parts beside it.
    pub(super) fn over(mut self, backbone: Backbone) -> Draft {
        let Component { hidden_size, layer_prefix, tensors, layers, .. } = backbone.component;
        let encoder = Encoder { hidden: hidden_size, layers: 0, heads: 1, intermediate: 0 };
        let layers = layers.into_iter().flat_map(|run| (0..run.count).map(move |_| (run.layer, run.tensors.clone()))).collect();
        let stack = Stack { name: "vision", prefix: layer_prefix.into_owned(), encoder, layers };
        self.stacks.insert(0, stack);
        let own = self.t.build();
        self.t.extend(tensors).extend(own);
        self.draft(hidden_size)
    }

    /// The finished network.
    pub(super) fn draft(mut self, hidden: u64) -> Draft {
        let mut stacks = self.stacks.into_iter();
        let first = stacks.next().unwrap_or(Stack {
            name: "vision",
            prefix: String::new(),
            encoder: Encoder { hidden, layers: 0, heads: 1, intermediate: 0 },
            layers: Vec::new(),
        });
        let tower = Tower { encoder: first.encoder, layers_at: first.prefix, tensors: self.t.build(), layers: first.layers };
        let mut draft = tower.draft(ComponentKind::VisionTower, "model", 0);
        draft.assumptions = self.assumptions;
        for Stack { name, prefix, encoder, layers } in stacks {
            draft = draft.with(component(name, ComponentKind::VisionTower, encoder.hidden, lasting(prefix), Vec::new(), layers));
        }
        self.parts.into_iter().fold(draft, Draft::with)
    }
}

/// A size with its class's default, at most a million: products of three are far from overflow.
pub(super) fn size(f: &Fields, key: &str, default: u64) -> Result<u64, ConfigError> {
    at_most(f, key, f.count_or(key, default)?, 1_000_000)
}

/// The same for a size that may be zero.
pub(super) fn size_or_zero(f: &Fields, key: &str, default: u64) -> Result<u64, ConfigError> {
    at_most(f, key, f.optional_count_or_zero(key)?.unwrap_or(default), 1_000_000)
}

/// A number of layers or blocks with its class's default.
pub(super) fn layers(f: &Fields, key: &str, default: u64) -> Result<u64, ConfigError> {
    at_most(f, key, f.count_or(key, default)?, 1000)
}

/// The same where there may be none.
pub(super) fn layers_or_none(f: &Fields, key: &str, default: u64) -> Result<u64, ConfigError> {
    at_most(f, key, f.optional_count_or_zero(key)?.unwrap_or(default), 1000)
}

fn at_most(f: &Fields, key: &str, value: u64, most: u64) -> Result<u64, ConfigError> {
    if value > most { Err(f.impossible(key, "it is larger than in any network of this kind")) } else { Ok(value) }
}

/// Heads, which must divide the width.
pub(super) fn heads(f: &Fields, key: &str, default: u64, width: u64) -> Result<u64, ConfigError> {
    let heads = size(f, key, default)?;
    if width.is_multiple_of(heads) { Ok(heads) } else { Err(f.impossible(key, "it must divide the width of its layers")) }
}

/// A fraction with its class's default, above 0 and at most 10,000.
pub(super) fn ratio(f: &Fields, key: &str, default: f64) -> Result<f64, ConfigError> {
    match f.optional_number(key)?.unwrap_or(default) {
        ratio if ratio > 0.0 && ratio <= 10_000.0 => Ok(ratio),
        _ => Err(f.impossible(key, "it must be a positive ratio")),
    }
}

/// A width times a ratio, cut to a whole number as Python's `int` does.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
pub(super) fn times(width: u64, ratio: f64) -> u64 {
    // Widths are at most 2^40 and ratios 10^4: exact enough and inside `u64`.
    (width as f64 * ratio) as u64
}

/// A size that is one number or a list of equal use (height and width), with its class's default.
pub(super) fn pair_or(f: &Fields, key: &'static str, default: [u64; 2]) -> Result<[u64; 2], ConfigError> {
    if f.raw(key).is_some_and(|value| !value.is_null()) { super::vision::pair(f, key) } else { Ok(default) }
}

/// Matrices one after another under `name.layers`.
pub(super) fn perceptron(t: &mut Tensors, name: &str, widths: &[u64]) {
    for (number, step) in widths.windows(2).enumerate() {
        linear(t, Role::Other, &format!("{name}.layers.{number}"), step[0], step[1], true);
    }
}

/// Square matrices with biases: the projections of an attention, by their names.
pub(super) fn projections(t: &mut Tensors, at: &str, names: &[&str], width: u64) {
    for name in names {
        t.linear(&format!("{at}.{name}"), width, width, true);
    }
}

/// Projections of attention as most of these networks name them.
pub(super) const QKVO: &[&str] = &["q_proj", "k_proj", "v_proj", "o_proj"];

/// Attention that looks at a few points around each query, in `levels` maps.
pub(super) fn deformable(t: &mut Tensors, at: &str, width: u64, samples: u64) {
    t.linear(&format!("{at}.sampling_offsets"), width, samples.saturating_mul(2), true).linear(&format!("{at}.attention_weights"), width, samples, true);
    projections(t, at, &["value_proj", "output_proj"], width);
}

/// Two matrices, by their names.
pub(super) fn feed_forward(t: &mut Tensors, [up, down]: [&str; 2], width: u64, inner: u64) {
    linear(t, Role::Up, up, width, inner, true);
    linear(t, Role::Down, down, inner, width, true);
}

/// Norms with biases, by their names.
pub(super) fn norms(t: &mut Tensors, names: &[&str], width: u64) {
    for name in names {
        norm(t, name, width, true);
    }
}

/// A convolution without a bias and a norm over what it makes, by their names.
pub(super) fn normed(t: &mut Tensors, convolution: &str, normalization: &str, shape: [u64; 4]) {
    t.convolution(convolution, &shape, false);
    norm(t, normalization, shape[0], true);
}

/// The class that `architectures` names, or nothing.
pub(super) fn class(f: &Fields) -> Result<String, ConfigError> {
    Ok(f.architecture()?.unwrap_or_default())
}

/// `depth` matrices from one width to another over an inner one: `proj_in`, those between, `proj_out`.
pub(super) fn perceptron_of(t: &mut Tensors, name: &str, [inputs, inner, outputs]: [u64; 3], depth: u64) {
    linear(t, Role::Up, &format!("{name}.proj_in"), inputs, inner, true);
    for number in 0..depth.saturating_sub(2) {
        linear(t, Role::Other, &format!("{name}.layers.{number}"), inner, inner, true);
    }
    linear(t, Role::Down, &format!("{name}.proj_out"), inner, outputs, true);
}
