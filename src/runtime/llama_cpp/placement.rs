//! Which tensor lies where: layers on their devices, the input embedding on the host, the output behind the last layer, and what
//! is told otherwise by name.
//!
//! Read from llama.cpp 0c1e57098: `llama-model.cpp` (`load_tensors`), `llama-model-loader.cpp` (`create_tensor`: overrides, the
//! tied output as a second copy), `ggml-cuda.cu` (`ggml_backend_cuda_buffer_type_get_alloc_size`: padding of rows to 512).

use regex_lite::Regex;

use super::run::{Run, Spot, Staged};
use crate::encoding::Encoding;
use crate::estimate::{ALWAYS, Basis, Entry, Term};
use crate::format::grouped;
use crate::model::{Anatomy, ComponentKind, Origin, Role, Tensor};
use crate::quantity::Overflow;
use crate::runtime::EstimateError;
use crate::runtime::asked::Asked;
use crate::runtime::loads::name_of;
use crate::runtime::pile::Pile;
use crate::scenario::Weights;
use crate::weights::{Converted, Form, Stored, stops_at, stored_as};

/// Weights by place: the devices, and last the host.
pub(super) struct Weighed {
    places: Vec<Pile>,
    pub staged: Vec<Staged>,
    basis: Basis,
}

const SOURCE: &str = "llama.cpp llama-model.cpp (load_tensors): layers on their devices, the input embedding on the host; types by llama-quant.cpp";

/// Rows of quantised matrices are padded to a multiple of this on CUDA (`MATRIX_ROW_PADDING`).
const ROW_PADDING: u64 = 512;

/// An override with its pattern read.
struct Override {
    pattern: Regex,
    spot: Spot,
}

/// Weighs every tensor that is loaded.
pub(super) fn weigh(asked: &Asked, run: &Run, file: &File) -> Result<Weighed, EstimateError> {
    let all = stored_as(asked.model, file.format, asked.dtype, file.converted.as_ref())?;
    let overrides = overrides(asked, run)?;
    let mut weighed = Weighed { places: Vec::new(), staged: Vec::new(), basis: basis(asked, file.format) };
    weighed.places.resize_with(run.devices.len() + 1, Pile::default);
    let output = run.spots.last().copied().unwrap_or(Spot::Host);
    let is_tied = !all.iter().any(|stored| is_of_text(asked, stored) && stored.tensor.role == Role::Head);
    for stored in &all {
        if !is_of_text(asked, stored) {
            if asked.scenario.llama_cpp.mmproj {
                weighed.add(run, stored, stored.times(), Spot::Device(0))?;
            }
            continue;
        }
        if is_outside(stored) {
            let is_input = matches!(stored.tensor.role, Role::Embedding | Role::Position);
            let home = if is_input { Spot::Host } else { output };
            let spot = overridden(run, &overrides, stored.tensor, None).unwrap_or(home);
            weighed.add(run, stored, stored.times(), spot)?;
            let is_output = stored.tensor.role == Role::Head || is_tied && is_token_embedding(stored.tensor);
            if is_tied && is_output && output != Spot::Host {
                weighed.add(run, stored, 1, output)?;
            }
            if is_output && output == Spot::Host {
                weighed.stage(stored, run.layers..run.layers + 1)?;
            }
            continue;
        }
        weighed.add_layers(run, stored, &overrides)?;
    }
    Ok(weighed)
}

/// Sure to the byte when the files were read, else as sure as the recipe.
fn basis(asked: &Asked, format: Weights) -> Basis {
    let is_read = asked.model.provenance.files.is_some() && format == Weights::AsStored;
    if is_read { Basis::Exact } else { Basis::Derived }
}

/// How names of tensors begin in files of towers and projectors (`clip.cpp`).
const OF_TOWERS: &[&str] = &["v.", "a.", "mm."];

/// Text models are one file, towers and projectors another.
fn is_of_text(asked: &Asked, stored: &Stored) -> bool {
    let Some(place) = &stored.place else { return !OF_TOWERS.iter().any(|start| stored.tensor.name.starts_with(start)) };
    let kind = asked.model.anatomy.components.get(place.component).map(|component| component.kind);
    place.component == 0 || matches!(kind, Some(ComponentKind::TextDecoder | ComponentKind::TextEncoder))
}

/// Outside of the layers.
fn is_outside(stored: &Stored) -> bool {
    stored.place.map_or_else(|| !stored.tensor.name.contains("{}"), |place| place.run == 0)
}

/// The embedding of tokens, not that of layers or positions.
fn is_token_embedding(tensor: &Tensor) -> bool {
    tensor.role == Role::Embedding && !tensor.name.contains("per_layer")
}

impl Weighed {
    /// A tensor of layers, layer by layer where they lie apart.
    fn add_layers(&mut self, run: &Run, stored: &Stored, overrides: &[Override]) -> Result<(), Overflow> {
        let mut layer = stored.layers.start;
        while layer < stored.layers.end {
            // Files do not say which layers a tensor is in: as many layers are spread over all.
            let real = |layer: u64| if stored.place.is_some() { layer } else { layer * run.layers / stored.times().max(1) };
            let spot_of = |layer: u64| {
                let home = usize::try_from(real(layer)).ok().and_then(|layer| run.spots.get(layer)).copied().unwrap_or(Spot::Host);
                overridden(run, overrides, stored.tensor, Some(real(layer))).unwrap_or(home)
            };
            let spot = spot_of(layer);
            let start = layer;
            layer += 1;
            if overrides.is_empty() && stored.place.is_some() {
                layer = run.stretch(start).min(stored.layers.end).max(layer);
            }
            while layer < stored.layers.end && spot_of(layer) == spot {
                layer += 1;
            }
            self.add(run, stored, layer - start, spot)?;
            if spot == Spot::Host {
                self.stage(stored, real(start)..real(layer - 1) + 1)?;
            }
        }
        Ok(())
    }

    /// A tensor in so many layers.
    fn add(&mut self, run: &Run, stored: &Stored, times: u64, spot: Spot) -> Result<(), Overflow> {
        let place = match spot {
            Spot::Device(device) => device,
            Spot::Host => run.devices.len(),
        };
        let Some(pile) = self.places.get_mut(place) else { return Ok(()) };
        pile.add(stored, times)?;
        if let (Form::Plain(encoding), Spot::Device(_)) = (stored.form, spot) {
            let rest = stored.matrix.columns % ROW_PADDING;
            if encoding.block_elements > 1 && rest > 0 {
                let each = encoding.bytes_for(ROW_PADDING - rest)?.get();
                pile.padding = each.checked_mul(times).and_then(|more| pile.padding.checked_add(more)).ok_or(Overflow)?;
            }
        }
        Ok(())
    }

    /// The entry of a place; `None` where nothing lies.
    pub(super) fn entry(&self, place: usize, asked: &Asked, format: Weights) -> Result<Option<Entry>, Overflow> {
        let Some(place) = self.places.get(place) else { return Ok(None) };
        let padding = "ggml-cuda.cu: rows of quantised matrices are padded to 512 values";
        let Some(formula) = place.formula(asked, format == Weights::AsStored, padding) else { return Ok(None) };
        Entry::exact(Term::Weights, formula, self.basis, SOURCE, ALWAYS).map(Some)
    }

    fn stage(&mut self, stored: &Stored, layers: std::ops::Range<u64>) -> Result<(), Overflow> {
        let bytes = stored.bytes()?.get() / stored.times().max(1);
        self.staged.push(Staged { layers, role: stored.tensor.role, bytes });
        Ok(())
    }
}

/// What `--n-cpu-moe` and `--override-tensor` say, in this order.
fn overrides(asked: &Asked, run: &Run) -> Result<Vec<Override>, EstimateError> {
    let flags = &asked.scenario.llama_cpp;
    let mut all = Vec::new();
    if let Some(layers) = flags.cpu_moe_layers {
        let host = |layer: u64| format!(r"blk\.{layer}\.ffn_(up|down|gate|gate_up)_(ch|)exps");
        let patterns = (0..layers.min(run.layers)).filter_map(|layer| Regex::new(&host(layer)).ok());
        all.extend(patterns.map(|pattern| Override { pattern, spot: Spot::Host }));
    }
    for one in &flags.overrides {
        let pattern = Regex::new(&one.pattern)
            .map_err(|_| EstimateError::Unsupported(format!("`{}` is not a regular expression that is understood here", one.pattern)))?;
        let spot = match one.device {
            None => Spot::Host,
            Some(device) => {
                let found = usize::try_from(device).ok().filter(|device| *device < run.devices.len());
                Spot::Device(found.ok_or_else(|| EstimateError::Unsupported(format!("`{one}`: there are {} GPUs, counted from 0", run.devices.len())))?)
            }
        };
        all.push(Override { pattern, spot });
    }
    Ok(all)
}

fn overridden(run: &Run, overrides: &[Override], tensor: &Tensor, layer: Option<u64>) -> Option<Spot> {
    if overrides.is_empty() {
        return None;
    }
    let name = if run.model.provenance.source == Origin::Gguf { read_name(tensor, layer) } else { gguf_name(tensor, layer) };
    overrides.iter().find(|one| one.pattern.is_match(&name)).map(|one| one.spot)
}

/// The name of a tensor that was read from a GGUF file.
fn read_name(tensor: &Tensor, layer: Option<u64>) -> String {
    layer.map_or_else(|| tensor.name.clone(), |layer| tensor.name.replacen("{}", &layer.to_string(), 1))
}

/// (role, name in GGUF files)
const NAMES: &[(Role, &str)] = &[
    (Role::Embedding, "token_embd"),
    (Role::Position, "position_embd"),
    (Role::Head, "output"),
    (Role::Query, "attn_q"),
    (Role::Key, "attn_k"),
    (Role::Value, "attn_v"),
    (Role::Qkv, "attn_qkv"),
    (Role::LatentUp, "attn_kv_b"),
    (Role::OutputDown, "attn_output_a"),
    (Role::AttentionOutput, "attn_output"),
    (Role::Gate, "ffn_gate"),
    (Role::Up, "ffn_up"),
    (Role::GateUp, "ffn_up"),
    (Role::Down, "ffn_down"),
    (Role::Router, "ffn_gate_inp"),
    (Role::ExpertGate, "ffn_gate_exps"),
    (Role::ExpertUp, "ffn_up_exps"),
    (Role::ExpertGateUp, "ffn_gate_up_exps"),
    (Role::ExpertDown, "ffn_down_exps"),
    (Role::MixerInput, "ssm_in"),
    (Role::MixerOutput, "ssm_out"),
    (Role::MixerConvolution, "ssm_conv1d"),
    (Role::MixerState, "ssm_a"),
];

/// The name of a tensor in GGUF files, near enough for the patterns that people write.
fn gguf_name(tensor: &Tensor, layer: Option<u64>) -> String {
    let is_shared = tensor.name.contains("shared_expert");
    let known = match tensor.role {
        Role::LatentDown if tensor.name.contains("q_a") => "attn_q_a",
        Role::LatentDown => "attn_kv_a_mqa",
        Role::Norm if tensor.name.contains("post_attention") || tensor.name.contains("ffn") || tensor.name.contains("mlp") => "ffn_norm",
        Role::Norm if layer.is_none() => "output_norm",
        Role::Norm => "attn_norm",
        role => NAMES.iter().find(|(known, _)| *known == role).map_or("other", |(_, name)| name),
    };
    let shared = if is_shared && known.starts_with("ffn_") { "_shexp" } else { "" };
    let ending = if tensor.name.ends_with("bias") { "bias" } else { "weight" };
    match layer {
        Some(layer) => format!("blk.{layer}.{known}{shared}.{ending}"),
        None => format!("{known}.{ending}"),
    }
}

/// The file that llama.cpp loads.
pub(super) struct File<'a> {
    /// Its type.
    pub format: Weights,
    /// What the converter made of weights that are stored quantised; `None` where none are, or where it does not read them.
    converted: Option<Converted<'a>>,
}

/// The file that stands for what is asked: llama.cpp loads GGUF files only.
pub(super) fn file<'a>(asked: &Asked<'a>, notes: &mut Vec<String>) -> Result<File<'a>, EstimateError> {
    if asked.weights == Weights::AsStored && is_gguf(asked) {
        return Ok(File { format: Weights::AsStored, converted: None });
    }
    let unquantised = |dtype: Encoding| crate::weight_format::Mix::unquantised(dtype).map_or(Weights::Plain(dtype), Weights::Mix);
    let anatomy = &asked.model.anatomy;
    let is_asked = asked.scenario.weights != Weights::AsStored;
    // What the converter makes of 32 bits unless told otherwise.
    let dtype = if asked.dtype == Encoding::F32 { Encoding::BF16 } else { asked.dtype };
    let (format, converted) = match asked.weights {
        Weights::Scheme(named, _) if !is_asked => {
            // A name tells a format, not what configs call its method.
            let converted = Converted::named(anatomy, named.scheme, name_of(named.scheme.method));
            (unquantised(dtype), Some(converted.map_err(|_| format!("weights of the format that the name tells ({})", asked.weights.label()))))
        }
        Weights::Scheme(..) => {
            return Err(EstimateError::Unsupported(format!(
                "llama.cpp loads GGUF files, not {} weights: choose a file type of its own (q4_k_m, q8_0, iq4_xs ...)",
                asked.weights.label()
            )));
        }
        Weights::AsStored => {
            if dtype != asked.dtype {
                notes.push("llama.cpp loads GGUF files: weights of 32 bits are counted in 16, which its converter makes of them unless told otherwise (--outtype); name fp32 for that".to_owned());
            }
            (unquantised(dtype), Converted::of(anatomy))
        }
        Weights::Plain(dtype) => (unquantised(dtype), Converted::of(anatomy)),
        Weights::Mix(_) | Weights::Bytes(_) => (asked.weights, Converted::of(anatomy)),
    };
    if let Weights::Mix(mix) = format {
        let read = converted.as_ref().and_then(|converted| converted.as_ref().ok());
        if let Some(row) = stops_at(anatomy, mix, read) {
            let block = mix.default_type().block_elements;
            return Err(EstimateError::Unsupported(format!(
                "llama-quantize makes no {} of this model: rows of {} values are not whole blocks of {block}, and nothing stands in for that type; choose another file type",
                mix.name,
                grouped(row)
            )));
        }
        // Of a guessed architecture, and of GGUF files, what is counted is what the files have.
        if let Some(converted) = converted.as_ref().filter(|_| !is_gguf(asked) && !anatomy.is_guess) {
            notes.extend(about_stored(anatomy, mix, converted, is_asked));
        }
    }
    Ok(File { format, converted: converted.and_then(Result::ok) })
}

/// What is to be known of weights that are stored quantised, and that the converter reads first.
fn about_stored(anatomy: &Anatomy, mix: crate::weight_format::Mix, converted: &Result<Converted, String>, is_asked: bool) -> Option<String> {
    let name = mix.default_type();
    let another = if is_asked { "" } else { "; name a file type (q4_k_m, q8_0 ...) for another" };
    match converted {
        Err(what) => Some(format!(
            "llama.cpp loads GGUF files, and its converter does not read {what}: the unquantised model is counted{}{another}",
            if is_asked { String::new() } else { format!(" in {name}") }
        )),
        Ok(converted) => {
            let types = converted.types(anatomy);
            let is_told = mix.is_quantised() && types.iter().any(|kept| !mix.types().contains(kept));
            let kept: Vec<&str> = types.iter().map(|encoding| encoding.name).collect();
            match kept.as_slice() {
                [] if is_asked => None,
                [] => Some(format!("llama.cpp loads GGUF files: `{}` weights are counted as converted to {name}{another}", converted.method())),
                kept if is_told => Some(format!(
                    "weights that are stored as {0} stay {0} in this file, as published files have it, and the others are counted as {1}: llama-quantize leaves {0} as it is when told so for each such tensor, and stops otherwise (`requantizing from type ... is disabled`)",
                    kept.join(" and "),
                    mix.name
                )),
                kept => {
                    Some(format!("llama.cpp loads GGUF files: weights that are stored as {0} stay {0} there, and the others become {name}", kept.join(" and ")))
                }
            }
        }
    }
}

/// Whether GGUF files were read.
fn is_gguf(asked: &Asked) -> bool {
    asked.model.provenance.source == Origin::Gguf
}
