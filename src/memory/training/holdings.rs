//! What a rank holds of the model before anything is shared: every tensor of its stage, whether it is trained, and its adapters.

use super::experts;
use super::modules::{Convolution, Module, is_feed_forward, modules};
use super::run::Run;
use super::unfollowed;
use crate::model::{Component, Layer, LayerRun, Role, Tensor};
use crate::quantity::Overflow;
use crate::scenario::Method;
use crate::weights::{Form, Stored, Unit};

/// Equal tensors of a rank.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held<'a> {
    /// The tensor, whole.
    pub tensor: &'a Tensor,
    /// In how many layers of this stage it is.
    pub times: u64,
    /// Elements of one of them on this rank.
    pub elements: u64,
    /// Whether the model's own values are trained.
    pub is_trained: bool,
    /// Whether it is in a layer.
    pub is_in_layer: bool,
    /// The unit it is gathered with: its layer, or the rest (0).
    pub unit: usize,
}

/// Everything of a rank.
pub(super) struct Holdings<'a> {
    /// The model's tensors.
    pub tensors: Vec<Held<'a>>,
    /// Elements of adapters on this rank: of what is not, and of what is an expert's.
    pub adapters: [u64; 2],
    /// The shapes of adapters, for optimizers that care: (of an expert, rows, columns, how many).
    pub adapter_shapes: Vec<(bool, u64, u64, u64)>,
}

/// Equal things that frozen tensors are stored as: what they are, how many, what one takes.
pub(super) type Piece = (&'static str, u64, Unit);

impl<'a> Holdings<'a> {
    /// What the rank has.
    pub fn of(run: &Run<'a>) -> Result<Self, Overflow> {
        let mut this = Self { tensors: Vec::new(), adapters: [0; 2], adapter_shapes: Vec::new() };
        let mut unit = 0;
        for (index, component) in run.model.anatomy.counted().enumerate() {
            this.take_outside(run, component, index == 0)?;
            for part in parts(run, component, index == 0) {
                unit += 1;
                this.take_layers(run, component, &part, unit)?;
            }
        }
        this.take_virtual_tokens(run)?;
        Ok(this)
    }

    fn take_outside(&mut self, run: &Run<'a>, component: &'a Component, is_decoder: bool) -> Result<(), Overflow> {
        for tensor in &component.tensors {
            let times = if is_decoder { times_outside(run, tensor) } else { 1 };
            if times > 0 {
                let elements = local(run, tensor, None)?;
                self.tensors.push(Held { tensor, times, elements, is_trained: run.trains(tensor.role, false), is_in_layer: false, unit: 0 });
                self.save(run, tensor, elements, times)?;
            }
        }
        if run.method.is_adapter() && (!is_decoder || run.place.is_first) {
            super::images::products(component).all().filter(|module| run.adapts(module)).try_for_each(|module| self.adapt(run, module, 1))?;
        }
        Ok(())
    }

    fn take_layers(&mut self, run: &Run<'a>, component: &'a Component, part: &Part<'a>, unit: usize) -> Result<(), Overflow> {
        for tensor in part.tensors {
            let elements = local(run, tensor, Some(part.layer))?;
            let is_trained = run.trains(tensor.role, part.is_trained);
            self.tensors.push(Held { tensor, times: part.count, elements, is_trained, is_in_layer: true, unit });
            self.save(run, tensor, elements, part.count)?;
            if let Some((matrices, rank)) = experts::adapter(run, tensor) {
                self.adapt_experts(run, tensor, (matrices, rank), part)?;
            }
        }
        for module in modules(part.tensors, component.hidden_size) {
            if !module.role.is_expert() && run.adapts(&module) {
                self.adapt(run, &module, part.count)?;
            }
        }
        Ok(())
    }

    /// PEFT's `modules_to_save`: a copy that is trained; the original stays.
    fn save(&mut self, run: &Run, tensor: &Tensor, elements: u64, times: u64) -> Result<(), Overflow> {
        if !run.saves(tensor.role) {
            return Ok(());
        }
        let columns = if tensor.shape.len() > 1 { tensor.shape.last().copied().unwrap_or(1).max(1) } else { 1 };
        self.add_adapter(usize::from(tensor.role.is_expert()), elements.div_ceil(columns), columns, times)
    }

    /// PEFT: a matrix down to the rank and one up from it; a magnitude per output (DoRA); one factor per output or input (IA3).
    fn adapt(&mut self, run: &Run, module: &Module, times: u64) -> Result<(), Overflow> {
        let ranks = run.world.tensor.value;
        let is_row_parallel = matches!(module.role, Role::AttentionOutput | Role::Down | Role::MixerOutput);
        let part = |whole: u64, splits: bool| if splits { whole.div_ceil(ranks) } else { whole };
        let (inputs, outputs) = (part(module.columns, is_row_parallel), part(module.rows, !is_row_parallel));
        let rank = run.lora_rank.value;
        if let Some(convolution) = module.convolution {
            return self.adapt_convolution(run, module, convolution, times);
        }
        let shapes: &[(u64, u64)] = match run.method {
            Method::Ia3 => &[(if is_feed_forward(module) { inputs } else { outputs }, 1)],
            Method::Dora => &[(rank, inputs), (outputs, rank), (outputs, 1)],
            _ => &[(rank, inputs), (outputs, rank)],
        };
        for &(rows, columns) in shapes {
            let times = times.checked_mul(module.count).ok_or(Overflow)?;
            self.add_adapter(0, rows, columns, times)?;
        }
        Ok(())
    }

    /// PEFT 0.21 `tuners/lora/layer.py:_ConvNd`: down by the whole window, up by one pixel, in the convolution's groups.
    fn adapt_convolution(&mut self, run: &Run, module: &Module, of: Convolution, times: u64) -> Result<(), Overflow> {
        let rank = run.lora_rank.value;
        let down = of.inputs.checked_mul(of.area).ok_or(Overflow)?;
        let shapes: &[(u64, u64)] = match run.method {
            Method::Ia3 => &[(if is_feed_forward(module) { of.inputs } else { of.outputs }, 1)],
            Method::Dora => &[(rank, down), (of.outputs, rank / of.groups.max(1)), (of.outputs, 1)],
            _ => &[(rank, down), (of.outputs, rank / of.groups.max(1))],
        };
        let times = times.checked_mul(module.count).ok_or(Overflow)?;
        shapes.iter().try_for_each(|&(rows, columns)| self.add_adapter(0, rows, columns, times))
    }

    fn adapt_experts(&mut self, run: &Run, tensor: &Tensor, (matrices, rank): (u64, u64), part: &Part) -> Result<(), Overflow> {
        let (stacked, rows, columns) = match *tensor.shape.as_slice() {
            [rows, columns] => (1, rows, columns),
            [stacked, rows, columns] => (stacked, rows, columns),
            _ => return Ok(()),
        };
        let experts = tensor.count.checked_mul(stacked).ok_or(Overflow)?.div_ceil(run.world.expert.value);
        let times = experts.checked_mul(part.count).ok_or(Overflow)?;
        self.add_adapter(1, rank, columns, times)?;
        self.add_adapter(1, rows.checked_mul(matrices).ok_or(Overflow)?, rank, times)
    }

    fn add_adapter(&mut self, kind: usize, rows: u64, columns: u64, times: u64) -> Result<(), Overflow> {
        let elements = rows.checked_mul(columns).and_then(|one| one.checked_mul(times)).ok_or(Overflow)?;
        self.adapters[kind] = self.adapters[kind].checked_add(elements).ok_or(Overflow)?;
        self.adapter_shapes.push((kind == 1, rows, columns, times));
        Ok(())
    }

    /// Prefix tuning learns keys and values of every layer, prompt tuning embeddings.
    fn take_virtual_tokens(&mut self, run: &Run) -> Result<(), Overflow> {
        let decoder = run.model.decoder();
        let tokens = run.virtual_tokens.value;
        match run.method {
            Method::Prompt if run.place.is_first => self.add_adapter(0, tokens, decoder.hidden_size, 1),
            Method::Prefix => {
                for (count, layers) in decoder.runs_in(run.place.layers.clone()) {
                    let Some(attention) = layers.layer.mixer.attention() else { continue };
                    let width = attention.kv_heads.checked_mul(attention.key_dim + attention.value_dim).ok_or(Overflow)?;
                    self.add_adapter(0, tokens, width.div_ceil(run.world.tensor.value), count)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Elements of the model's own trained tensors.
    pub fn trained(&self) -> Result<[u64; 2], Overflow> {
        self.sum(|held| held.is_trained)
    }

    /// Elements of tensors, apart for experts.
    pub fn sum(&self, wanted: impl Fn(&Held) -> bool) -> Result<[u64; 2], Overflow> {
        self.tensors.iter().filter(|held| wanted(held)).try_fold([0u64; 2], |mut sum, held| {
            let more = held.elements.checked_mul(held.times).ok_or(Overflow)?;
            let kind = usize::from(held.tensor.role.is_expert());
            sum[kind] = sum[kind].checked_add(more).ok_or(Overflow)?;
            Ok(sum)
        })
    }

    /// Elements of the largest layer on this rank, and of everything outside of layers.
    pub fn units(&self) -> Result<(u64, u64), Overflow> {
        let mut layers: Vec<u64> = Vec::new();
        let mut root = 0u64;
        for held in &self.tensors {
            if held.is_in_layer {
                layers.resize(layers.len().max(held.unit), 0);
                let sum = &mut layers[held.unit - 1];
                *sum = sum.checked_add(held.elements).ok_or(Overflow)?;
            } else {
                root = root.checked_add(held.elements.checked_mul(held.times).ok_or(Overflow)?).ok_or(Overflow)?;
            }
        }
        Ok((layers.into_iter().max().unwrap_or(0), root))
    }

    /// Bytes of the largest layer as it is stored.
    pub fn stored_layer(&self, run: &Run) -> Result<u64, Overflow> {
        let mut layers: Vec<u64> = Vec::new();
        for held in self.tensors.iter().filter(|held| held.is_in_layer) {
            layers.resize(layers.len().max(held.unit), 0);
            for (_, count, unit) in stored(run, held, 1)? {
                let sum = &mut layers[held.unit - 1];
                *sum = sum.checked_add(unit.bytes(count)?.get()).ok_or(Overflow)?;
            }
        }
        Ok(layers.into_iter().max().unwrap_or(0))
    }

    /// Elements of the largest tensor of which `wanted`.
    pub fn largest(&self, wanted: impl Fn(&Held) -> bool) -> u64 {
        self.tensors.iter().filter(|held| wanted(held)).map(|held| held.elements / held.tensor.count.max(1)).max().unwrap_or(0)
    }

    /// Elements of the largest tensor of adapters.
    pub fn largest_adapter(&self) -> u64 {
        self.adapter_shapes.iter().map(|(_, rows, columns, _)| rows.saturating_mul(*columns)).max().unwrap_or(0)
    }

    /// Frozen tensors as they are stored, apart for experts.
    pub fn frozen(&self, run: &Run) -> Result<Vec<(Piece, bool)>, Overflow> {
        let mut piles: Vec<(Piece, bool)> = Vec::new();
        for held in self.tensors.iter().filter(|held| !held.is_trained) {
            let is_expert = held.tensor.role.is_expert();
            for (what, count, unit) in stored(run, held, held.times)? {
                match piles.iter_mut().find(|((name, _, of), expert)| *name == what && *of == unit && *expert == is_expert) {
                    Some(((_, sum, _), _)) => *sum = sum.checked_add(count).ok_or(Overflow)?,
                    None => piles.push(((what, count, unit), is_expert)),
                }
            }
        }
        Ok(piles)
    }
}

/// What a frozen tensor consists of as it is stored, `times` of it.
pub(super) fn stored(run: &Run, held: &Held, times: u64) -> Result<Vec<Piece>, Overflow> {
    let forms: Vec<&Stored> = forms(run, held).collect();
    let plain = |encoding, times: u64| Ok(vec![("frozen parameters", held.elements.checked_mul(times).ok_or(Overflow)?, Unit::Value(encoding))]);
    let (Some(first), Some(end)) = (forms.iter().map(|form| form.layers.start).min(), forms.iter().map(|form| form.layers.end).max()) else {
        return plain(run.base, times);
    };
    let mut pieces = Vec::new();
    for form in forms {
        // A rank has as much of each form as all have.
        let times = times.checked_mul(form.times()).ok_or(Overflow)?.div_ceil((end - first).max(1));
        match form.form {
            Form::Plain(encoding) => pieces.extend(plain(encoding, times)?),
            Form::Bytes(bytes) => pieces.push(("frozen parameters", held.elements.checked_mul(times).ok_or(Overflow)?, Unit::Bytes(bytes))),
            Form::Packed(scheme) => {
                let (count, columns) = (form.matrix.count.max(1), form.matrix.columns.max(1));
                let rows = (held.elements / count).div_ceil(columns);
                let parts = scheme.parts(count.checked_mul(times).ok_or(Overflow)?, rows, columns)?;
                pieces.extend(parts.map(|part| (part.what, part.count, Unit::Bits(part.bits))));
            }
        }
    }
    Ok(pieces)
}

/// The forms of a tensor, by layers.
fn forms<'r>(run: &'r Run, held: &Held) -> impl Iterator<Item = &'r Stored<'r>> {
    let tensor: *const Tensor = held.tensor;
    run.packed.iter().flatten().filter(move |stored| std::ptr::eq(stored.tensor, tensor))
}

/// True for matrices that are stored in a quantised format.
pub(super) fn is_quantised(run: &Run, held: &Held) -> bool {
    forms(run, held).any(|stored| matches!(stored.form, Form::Packed(_)))
}

/// Layers of a component that are alike and alike in being trained.
pub(super) struct Part<'a> {
    /// How many.
    pub count: u64,
    /// What each is.
    pub layer: &'a Layer,
    /// The run they are of.
    pub run: &'a LayerRun,
    /// Its tensors.
    pub tensors: &'a [Tensor],
    /// Whether `freeze` trains them.
    pub is_trained: bool,
}

/// The layers of a component on this stage, in order.
pub(super) fn parts<'a>(run: &Run<'a>, component: &'a Component, is_decoder: bool) -> Vec<Part<'a>> {
    let all = component.layer_count();
    let first_trained = if is_decoder && run.method == Method::Freeze { all.saturating_sub(run.trainable.last_layers) } else { all };
    let here = if is_decoder { run.place.layers.clone() } else { 0..all };
    let mut parts = Vec::new();
    for (range, is_trained) in [(here.start..here.end.min(first_trained), false), (here.start.max(first_trained)..here.end, true)] {
        let layers = component.runs_in(range).map(|(count, layers)| Part {
            count,
            layer: &layers.layer,
            run: layers,
            tensors: &layers.tensors,
            // What passes through the weights of others is trained if those are.
            is_trained: is_trained && unfollowed::like(component, layers).is_none_or(|like| end_of(component, like) > first_trained),
        });
        parts.extend(layers);
    }
    parts
}

/// The layer behind a run of layers.
fn end_of(component: &Component, run: &LayerRun) -> u64 {
    let before = component.layers.iter().take_while(|other| !std::ptr::eq(*other, run));
    before.fold(run.count, |end, other| end.saturating_add(other.count))
}

/// Whether a tensor of the decoder outside its layers is on this stage: what reads tokens on the first, the rest on the last; a table
/// that serves as both on both.
fn times_outside(run: &Run, tensor: &Tensor) -> u64 {
    let place = &run.place;
    let reads = matches!(tensor.role, Role::Embedding | Role::Position);
    u64::from(if reads { place.is_first || place.is_last && super::loss::is_tied(run.model.decoder(), tensor) } else { place.is_last })
}

/// Elements of a tensor on one rank of tensor and expert parallelism (Megatron's rules: vocabularies, heads and inner widths are
/// split, norms and routers are whole, KV heads never less than one).
fn local(run: &Run, tensor: &Tensor, layer: Option<&Layer>) -> Result<u64, Overflow> {
    let elements = tensor.elements()?.get();
    let (ranks, spread) = (run.world.tensor.value, run.world.expert.value);
    if ranks == 1 && spread == 1 {
        return Ok(elements);
    }
    let attention = layer.and_then(|layer| layer.mixer.attention());
    let heads = |query: u64| {
        let Some(attention) = attention else { return Ok(elements.div_ceil(ranks)) };
        let kv = attention.kv_heads.div_ceil(ranks).max(1);
        let all = query * attention.heads + (1 + query) * attention.kv_heads;
        let here = query * attention.heads.div_ceil(ranks) + (1 + query) * kv;
        u64::try_from(u128::from(elements) * u128::from(here) / u128::from(all.max(1))).map_err(|_| Overflow)
    };
    match tensor.role {
        role if role.is_expert() => {
            let experts = layer.and_then(|layer| layer.feed_forward.experts()).unwrap_or(tensor.count).max(1);
            Ok((elements / experts).checked_mul(experts.div_ceil(spread)).ok_or(Overflow)?.div_ceil(ranks))
        }
        Role::Key | Role::Value => heads(0),
        Role::Qkv => heads(1),
        Role::Norm | Role::Router | Role::Position | Role::Score | Role::Other | Role::LatentDown => Ok(elements),
        Role::AttentionOutput | Role::MixerOutput | Role::Down if tensor.is_vector() => Ok(elements),
        _ => Ok(elements.div_ceil(ranks)),
    }
}
