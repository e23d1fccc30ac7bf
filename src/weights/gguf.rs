//! A model as llama.cpp keeps it: `convert_hf_to_gguf` decides which tensors there are, the file type what each becomes.
//!
//! Read from llama.cpp in llama-cpp-python 0.3.36: `conversion/base.py` (what stays in float32), `conversion/deepseek.py` (the
//! latent's projection in two), `src/llama-quant.cpp` (`tensor_allows_quantization`, the counters of `quantize_state_impl`).

use std::ops::Range;

use super::{Converted, Form, Stored};
use crate::encoding::Encoding;
use crate::model::{Anatomy, Component, FeedForward, Item, Matrix, Mixer, Role, Tensor};
use crate::quantity::Overflow;
use crate::weight_format::{Category, Facts, Mix};

/// Matrices that stay in 16 bits.
const KEPT: &[&str] = &["altup", "laurel", "per_layer_model_proj"];

/// Projections from a latent.
const LOW_RANK: &[&str] = &["q_b_proj", "attn.wq_b", "attn.wo_b"];

/// Model types whose models of so many layers llama.cpp calls 70B, some only with grouped heads (Llama's 65B has plain ones).
const SEVENTY: &[(&str, u64, bool)] = &[
    ("llama", 80, true),
    ("mistral", 80, true),
    ("mixtral", 80, true),
    ("qwen2", 80, false),
    ("nemotron-nas", 80, false),
    ("deci", 80, false),
    ("olmo", 80, false),
    ("jais2", 68, false),
];

/// Every tensor of the architecture in its type. Towers stand in a file of their own (`mmproj`), which is not this one.
///
/// What the converter took over stays so in every file type: `llama-quantize` requantises nothing unless it is told to.
pub(super) fn stored<'a>(anatomy: &'a Anatomy, mix: Mix, converted: Option<&Converted<'_>>) -> Result<Vec<Stored<'a>>, Overflow> {
    let facts = facts(anatomy);
    let mut all = Vec::new();
    let mut tensors = Vec::new();
    for item in anatomy.inventory().filter(Item::is_main) {
        let kind = category(item.tensor);
        // What the recipes leave has one type in all layers.
        let runs = if kind.is_some() { Runs::default() } else { Runs::of(item.layers.clone(), unquantised(mix, item.tensor)) };
        let kept = converted.map_or_else(Vec::new, |converted| converted.kept(&item));
        let parts = parts(&item)?.into_iter().map(|matrix| (matrix, runs.clone())).collect();
        tensors.push(Written { item, kind, kept, parts });
    }
    let layers_of = |tensor: &Written<'_>| tensor.item.layers.end - tensor.item.layers.start;
    let values = tensors.iter().filter(|tensor| tensor.kind == Some(Category::Value)).map(layers_of).fold(0, u64::saturating_add);
    let mut count = Counters { values, layers: anatomy.components.first().map_or(0, Component::layer_count), ..Counters::default() };
    // What stands in the same layers is gone through layer by layer, as the counters do.
    for run in tensors.chunk_by_mut(|a, b| (a.item.place.component, a.item.place.run) == (b.item.place.component, b.item.place.run)) {
        for layer in run[0].item.layers.clone() {
            for Written { kind, kept, parts, .. } in &mut *run {
                let Some(kind) = *kind else { continue };
                let position = count.position(kind, layer, &facts, mix);
                let own = kept.iter().find(|(layers, _)| layers.contains(&layer)).map(|(_, encoding)| *encoding);
                for (matrix, runs) in parts {
                    if let Some(own) = own.filter(|own| matrix.columns.is_multiple_of(own.block_elements)) {
                        runs.push(layer, own);
                        continue;
                    }
                    runs.push(layer, mix.encoding(kind, position, matrix.count > 1, matrix.columns, &facts));
                }
            }
            count.layer_done();
        }
    }
    for Written { item, parts, .. } in tensors {
        for (matrix, runs) in parts {
            let stored = |(layers, encoding)| Stored { tensor: item.tensor, place: Some(item.place), layers, matrix, form: Form::Plain(encoding) };
            all.extend(runs.0.into_iter().map(stored));
        }
    }
    Ok(all)
}

/// A tensor as the converter writes it.
struct Written<'a> {
    item: Item<'a>,
    /// What it is to the recipes.
    kind: Option<Category>,
    /// What the converter takes over as it is stored, by layer.
    kept: Vec<(Range<u64>, Encoding)>,
    /// The tensors that it becomes, with their types.
    parts: Vec<(Matrix, Runs)>,
}

/// Rows of so many values, at which `llama-quantize` stops for want of a type ([`Mix::stops_at`]).
pub fn stops_at(anatomy: &Anatomy, mix: Mix, converted: Option<&Converted<'_>>) -> Option<u64> {
    let is_whole = |item: &Item<'_>| converted.is_some_and(|converted| !converted.kept(item).is_empty());
    let recipes = anatomy.inventory().filter(|item| item.is_main() && category(item.tensor).is_some_and(|kind| kind != Category::Output));
    recipes.filter(|item| !is_whole(item)).filter_map(|item| Some(item.matrix().ok()?.columns)).find(|columns| mix.stops_at(*columns))
}

/// The type of a tensor of which only the files' name is known.
pub(super) fn type_of_loose(mix: Mix, tensor: &Tensor, matrix: Matrix) -> Encoding {
    match category(tensor) {
        Some(kind) => mix.encoding(kind, (1, 2), matrix.count > 1, matrix.columns, &Facts::default()),
        None => unquantised(mix, tensor),
    }
}

/// Layers in a row with one type.
#[derive(Clone, Default)]
struct Runs(Vec<(Range<u64>, Encoding)>);

impl Runs {
    /// The same in all layers.
    fn of(layers: Range<u64>, encoding: Encoding) -> Self {
        Self(if layers.is_empty() { Vec::new() } else { vec![(layers, encoding)] })
    }

    fn push(&mut self, layer: u64, encoding: Encoding) {
        match self.0.last_mut() {
            Some((layers, last)) if layers.end == layer && *last == encoding => layers.end = layer + 1,
            _ => self.0.push((layer..layer + 1, encoding)),
        }
    }
}

/// How many of a kind were seen, and how many there are.
#[derive(Default)]
struct Counters {
    values: u64,
    layers: u64,
    value: u64,
    down: u64,
    feed_forward: u64,
    has_feed_forward: bool,
}

impl Counters {
    /// The place of the next tensor of a kind, `i` of `n`.
    fn position(&mut self, kind: Category, layer: u64, facts: &Facts, mix: Mix) -> (u64, u64) {
        match kind {
            Category::Value => {
                self.value += 1;
                (self.value - 1, self.values)
            }
            Category::Down => {
                self.down += 1;
                self.has_feed_forward = true;
                // In mixtures the layer's number counts, but for the smallest types.
                (if facts.experts > 1 && !mix.is_tiny() { layer } else { self.down - 1 }, self.layers)
            }
            Category::GateUp => (if facts.experts > 1 { layer } else { self.feed_forward }, self.layers),
            _ => (layer, self.layers),
        }
    }

    fn layer_done(&mut self) {
        self.feed_forward += u64::from(std::mem::take(&mut self.has_feed_forward));
    }
}

fn facts(anatomy: &Anatomy) -> Facts {
    let Some(decoder) = anatomy.components.first() else { return Facts::default() };
    let attention = decoder.layers.first().and_then(|run| run.layer.mixer.attention());
    let experts = decoder.layers.iter().find_map(|run| match run.layer.feed_forward {
        FeedForward::MixtureOfExperts { experts, .. } => Some(experts),
        FeedForward::Dense { .. } | FeedForward::None => None,
    });
    let is_grouped = attention.is_some_and(|attention| attention.heads != attention.kv_heads);
    let (model_type, layers) = (anatomy.model_type.as_str(), decoder.layer_count());
    Facts {
        grouping: attention.map_or(0, |attention| attention.heads / attention.kv_heads.max(1)),
        experts: experts.unwrap_or(0),
        is_70b: SEVENTY.iter().any(|(name, count, must_group)| (*name, *count) == (model_type, layers) && (is_grouped || !must_group)),
        is_falcon: model_type == "falcon",
        is_tied: !decoder.tensors.iter().any(|tensor| tensor.role == Role::Head && tensor.is_matrix()),
    }
}

/// What a tensor is to the recipes; `None` for what they leave.
fn category(tensor: &Tensor) -> Option<Category> {
    if !tensor.is_matrix() || KEPT.iter().any(|kept| tensor.name.contains(kept)) {
        return None;
    }
    Some(match tensor.role {
        Role::Router => return None,
        // Gates of shared experts have one output: a vector to llama.cpp.
        Role::Other if tensor.shape.first() == Some(&1) => return None,
        Role::Embedding => Category::Embedding,
        Role::Head => Category::Output,
        // `attn_q_b`, behind a latent, is another name, and so is DeepSeek V4's `attn_output_b`.
        Role::Query | Role::AttentionOutput if LOW_RANK.iter().any(|name| tensor.name.contains(name)) => Category::Other,
        Role::Query => Category::Query,
        Role::Key => Category::Key,
        Role::Value | Role::Qkv => Category::Value,
        Role::AttentionOutput => Category::AttentionOutput,
        Role::Gate | Role::Up | Role::GateUp | Role::ExpertGate | Role::ExpertUp | Role::ExpertGateUp => Category::GateUp,
        Role::Down | Role::ExpertDown => Category::Down,
        _ => Category::Other,
    })
}

/// The type of what is not quantised: norms, biases, routers and the like in float32.
fn unquantised(mix: Mix, tensor: &Tensor) -> Encoding {
    let half = if mix.default_type() == Encoding::BF16 { Encoding::BF16 } else { Encoding::F16 };
    let is_kept = KEPT.iter().any(|kept| tensor.name.contains(kept));
    match tensor.shape.len() {
        0 | 1 => Encoding::F32,
        _ if mix.default_type() == Encoding::F32 => Encoding::F32,
        _ if is_kept => half,
        _ => Encoding::F32,
    }
}

/// A tensor as the converter writes it: the projection from the latent to keys and values becomes one for keys, its inputs and
/// outputs swapped, and one for values.
fn parts(item: &Item<'_>) -> Result<Vec<Matrix>, Overflow> {
    let whole = item.matrix()?;
    let mixer = item.place.run.checked_sub(1).and_then(|run| item.component.layers.get(run)).map(|run| run.layer.mixer);
    match (item.tensor.role, mixer) {
        (Role::LatentUp, Some(Mixer::Latent(latent))) if item.tensor.is_matrix() => {
            let (heads, rank) = (latent.heads, latent.kv_lora_rank);
            let keys = Matrix { count: heads, rows: rank, columns: latent.nope_dim };
            let values = Matrix { count: heads, rows: latent.value_dim, columns: rank };
            let is_whole = heads.checked_mul(latent.nope_dim.saturating_add(latent.value_dim)) == Some(whole.rows) && whole.columns == rank;
            Ok(if is_whole { vec![keys, values] } else { vec![whole] })
        }
        _ => Ok(vec![whole]),
    }
}
