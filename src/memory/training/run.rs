//! A training run with every default filled in.

use super::experts::{self, Experts};
use super::habits::{Habits, Usual};
use super::modules::{Module, modules};
use super::recipe::{Recipe, default_recipe};
use super::samples::{accumulation, check_capacity_factor, image, rows, seconds};
use super::targets;
use super::unfollowed;
use super::world::World;
use crate::encoding::Encoding;
use crate::formula::{Expr, Source};
use crate::gpu::Card;
use crate::model::{Component, Model, Role, Span, Tensor, Work};
use crate::quantity::Decimal;
use crate::runtime::{Choices, Chosen, EstimateError, MAX_COUNT, Place};
use crate::scenario::{
    AdapterDtype, Algorithm, Checkpointing, Kernels, Loss, Method, Offload, OffloadDevice, Optimizer, Precision, Reference, Rollout, Scenario, Schedule,
    Sharding, Targets, Trainable, Trainer, Weights,
};
use crate::weight_format;
use crate::weights::{Stored, of_architecture};

/// The length of a sequence when none is chosen.
const DEFAULT_LENGTH: u64 = 2048;

/// A training run on one rank.
pub(super) struct Run<'a> {
    /// The model.
    pub model: &'a Model,
    /// What was asked.
    pub scenario: &'a Scenario,
    /// One card.
    pub card: Card,
    /// How it is spread over GPUs.
    pub world: World,
    /// The rank that is computed.
    pub place: Place,
    /// The framework whose defaults are used.
    pub trainer: Trainer,
    /// What is trained.
    pub method: Method,
    /// What is learned from.
    pub algorithm: Algorithm,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// Rank of optimizers that project gradients.
    pub optimizer_rank: Chosen,
    /// Types of what is trained.
    pub recipe: Recipe,
    /// The type of frozen weights.
    pub base: Encoding,
    /// How frozen tensors are stored, where they are quantised.
    pub packed: Option<Vec<Stored<'a>>>,
    /// Whether 16-bit computation goes with wider states.
    pub is_mixed: bool,
    /// What computes matrices in 8-bit float.
    pub fp8: Option<Fp8>,
    /// Sequences of one forward pass.
    pub rows: Chosen,
    /// Forward passes per step.
    pub accumulation: Chosen,
    /// Tokens of one sequence.
    pub length: Chosen,
    /// Width and height of an image, for networks that read images.
    pub image: Option<(u64, u64)>,
    /// Images of one sample, for models with a vision tower beside the language model.
    pub images: Chosen,
    /// Seconds of sound in one sample, for models that hear.
    pub seconds: Chosen,
    /// What is recomputed.
    pub checkpointing: Checkpointing,
    /// How the loss is computed.
    pub loss: Loss,
    /// Whether norms and feed-forwards are fused.
    pub kernels: Kernels,
    /// Rank of low-rank adapters.
    pub lora_rank: Chosen,
    /// Modules with adapters, resolved to names that the model has.
    pub targets: Targets,
    /// Which parameters of experts have adapters.
    pub experts: Experts,
    /// Dropout before a low-rank adapter.
    pub has_adapter_dropout: bool,
    /// Virtual tokens.
    pub virtual_tokens: Chosen,
    /// What `freeze` leaves trainable, or low-rank adapters train whole.
    pub trainable: Trainable,
    /// How states are shared.
    pub sharding: Sharding,
    /// Units gathered ahead.
    pub prefetch: Chosen,
    /// What lies elsewhere.
    pub offload: Offload,
    /// Where.
    pub offload_device: OffloadDevice,
    /// The pipeline's schedule.
    pub schedule: Schedule,
    /// Chunks of layers on a stage.
    pub virtual_stages: Chosen,
    /// What answers are compared with.
    pub reference: Reference,
    /// What writes completions.
    pub rollout: Rollout,
    /// The share of the card that it takes.
    pub rollout_memory: Decimal,
    /// Every setting as used.
    pub choices: Choices,
    /// What was assumed.
    pub assumptions: Vec<String>,
}

/// What computes matrices in 8-bit float.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fp8 {
    /// NVIDIA's `TransformerEngine`, as Megatron-LM uses it.
    TransformerEngine,
    /// torchao, as torchtitan uses it with FSDP.
    TorchAo,
}

/// A choice, with the rule of its default said.
pub(super) fn pick<T: std::fmt::Display>(choices: &mut Choices, key: &'static str, asked: Option<T>, default: T, rule: &str) -> T {
    let is_default = asked.is_none();
    let value = asked.unwrap_or(default);
    choices.said(key, value.to_string(), is_default.then(|| rule.to_owned()));
    value
}

/// The same, where a framework has a default of its own.
fn usual<T: std::fmt::Display>(choices: &mut Choices, key: &'static str, asked: Option<T>, (default, rule): Usual<T>) -> T {
    pick(choices, key, asked, default, rule)
}

/// Chunks of the interleaved schedule are alike.
fn check_chunks(model: &Model, world: &World, schedule: Schedule, chunks: u64) -> Result<(), EstimateError> {
    let (layers, stages) = (model.decoder().layer_count(), world.pipeline.value);
    if stages == 1 || schedule != Schedule::Interleaved || layers.is_multiple_of(stages.saturating_mul(chunks)) {
        return Ok(());
    }
    Err(unsupported(format!(
        "{layers} layers do not divide over {stages} pipeline stages of {chunks} chunks each: Megatron-LM refuses that \
         (core/transformer/transformer_config.py: layers of a stage \"must be divisible by virtual pipeline parallel degree\")"
    )))
}

/// The list that a setting is told in.
pub(super) fn told<'c>(is_told: bool, choices: &'c mut Choices, aside: &'c mut Choices) -> &'c mut Choices {
    if is_told { choices } else { aside }
}

impl<'a> Run<'a> {
    /// Fills in the defaults and checks the ranges.
    pub fn new(model: &'a Model, scenario: &'a Scenario) -> Result<Self, EstimateError> {
        let asked = &scenario.training;
        let card = scenario.card()?;
        let mut choices = Choices::default();
        // Settings that play no part here: checked, and not told.
        let mut aside = Choices::default();
        let mut assumptions: Vec<String> = card.notes.clone();
        choices.said("gpu", card.name.clone(), scenario.gpu.is_none().then(|| "none was named".to_owned()));
        let world = World::new(model, scenario, &mut choices)?;
        let trainer = pick(&mut choices, "trainer", asked.trainer, Trainer::Torch, "PyTorch, and PEFT for adapters");
        let method = pick(&mut choices, "method", asked.method, Method::Full, "every weight is trained");
        let algorithm = pick(&mut choices, "algorithm", asked.algorithm, Algorithm::Sft, "supervised");
        let optimizer = pick(&mut choices, "optimizer", asked.optimizer, Optimizer::Adamw, "transformers' default, fused");
        let optimizer_rank = told(matches!(optimizer, Optimizer::Galore | Optimizer::Apollo), &mut choices, &mut aside).count(
            "optimizer_rank",
            asked.optimizer_rank,
            128,
            "as in GaLore's examples",
            1 << 20,
        )?;
        let format = packed_format(model, scenario.weights, method)?;
        let habits = Habits::of(trainer, algorithm, method, format.and_then(|format| quantised_by(model, format)));
        let precision = usual(&mut choices, "precision", asked.precision, habits.precision);
        let sharding = match world.data.value * world.context.value {
            1 => pick(&mut choices, "sharding", asked.sharding, Sharding::None, "one replica"),
            _ => pick(&mut choices, "sharding", asked.sharding, Sharding::Ddp, "several replicas"),
        };
        let (recipe, rule) = default_recipe(sharding, world.tensor.value * world.pipeline.value > 1);
        let is_mixed = matches!(precision, Precision::Bf16Mixed | Precision::Fp16Mixed);
        let recipe = if is_mixed { pick(&mut choices, "mixed_recipe", asked.mixed_recipe, recipe, rule) } else { recipe };
        let fp8 = (precision == Precision::Fp8).then_some(if sharding.shares_weights() { Fp8::TorchAo } else { Fp8::TransformerEngine });
        let mut recipe = match asked.mixed_recipe.filter(|_| fp8.is_some()) {
            // Matrices in 8-bit float over the states of mixed precision.
            Some(asked) => {
                choices.said("mixed_recipe", asked.to_string(), None);
                Recipe::of(Precision::Bf16Mixed, asked)
            }
            None => Recipe::of(precision, recipe),
        };
        let widens = habits.widens_frozen.filter(|_| method.is_adapter() && (format.is_some() || is_mixed) && scenario.weights.encoding().is_none());
        let base = match (method.is_adapter(), scenario.weights.encoding()) {
            (true, Some(asked)) => asked,
            (true, None) if widens.is_some() => Encoding::F32,
            (true, None) => recipe.compute,
            (false, _) => recipe.weight,
        };
        if method.is_adapter() {
            let adapter = usual(&mut choices, "adapter_dtype", asked.adapter_dtype, habits.adapter);
            let is_wide = adapter == AdapterDtype::Fp32 || (widens.is_some() && format.is_none());
            // What is not quantised and wide makes a wide hidden state, which matrix products cast where they are not wide themselves.
            recipe = Recipe {
                casts_weights: widens.is_some() && recipe.compute != Encoding::F32,
                ..recipe.of_adapters(if is_wide { Encoding::F32 } else { recipe.compute })
            };
        }
        assumptions.extend(widens.map(|why| format!("frozen values that are not quantised are float32 ({why})")));
        let packed = format.map(|format| of_architecture(&model.anatomy, format, base)).transpose()?;
        choices.said("weights", scenario.weights.name().into_owned(), None);

        let micro_batch = choices.count("micro_batch", asked.micro_batch, 1, "one sequence", MAX_COUNT)?;
        let accumulation = accumulation(scenario, &world, micro_batch.value, &mut choices)?;
        if asked.optimizer_in_backward && accumulation.value > 1 {
            return Err(unsupported("gradients that are used up in the backward pass cannot be accumulated over several".to_owned()));
        }
        let max = model.anatomy.max_context.unwrap_or(DEFAULT_LENGTH);
        let (default, rule) = if max <= DEFAULT_LENGTH { (max, "the model's maximum") } else { (DEFAULT_LENGTH, "2,048 tokens") };
        let is_seeing = matches!(model.decoder().work, Work::Images(_)) || model.decoder().patches().is_some();
        let has_tower = model.anatomy.counted().skip(1).any(|part| part.patches().is_some());
        let count = scenario.picture.count.filter(|&count| count > 0);
        if count.is_some() && !has_tower {
            let why = if is_seeing { "each sample is one image, and the micro-batch says how many" } else { "it reads no images" };
            return Err(unsupported(format!("this model has no vision tower beside a language model: {why}")));
        }
        let images = told(has_tower, &mut choices, &mut aside).count("images", count, 0, "texts alone", MAX_COUNT)?;
        let image = image(model, scenario, is_seeing || images.value > 0, &mut choices)?;
        let seconds = seconds(model, asked.audio_seconds, &mut choices)?;
        let length = told(!is_seeing, &mut choices, &mut aside).count("seq_len", asked.seq_len, default, rule, MAX_COUNT)?;
        if model.anatomy.max_context.is_some_and(|max| length.value > max) {
            let max = crate::format::grouped(max);
            assumptions.push(format!("sequences are longer than the model's maximum of {max} tokens: it needs a scaled position encoding to work at all"));
        }
        let rows = rows(algorithm, &micro_batch);
        check_capacity_factor(model, asked.capacity_factor, &mut choices)?;
        let checkpointing = usual(&mut choices, "gradient_checkpointing", asked.checkpointing, habits.checkpointing);
        let loss = usual(&mut choices, "loss", asked.loss, habits.loss);
        let kernels = usual(&mut choices, "kernels", asked.kernels, habits.kernels);
        choices.said("attention", scenario.attention.name().to_owned(), None);
        assumptions.extend(unfollowed::notes(model)?);
        let (rank, rule) = habits.rank;
        let lora_rank = told(method.is_low_rank(), &mut choices, &mut aside).count("lora_rank", asked.lora_rank, rank, rule, 1 << 20)?;
        let mut usual_targets = habits.targets.filter(|_| method.is_low_rank() && asked.lora_targets.is_none());
        let named = usual_targets.map(|(names, _)| Targets::Named(names.iter().map(|name| (*name).to_owned()).collect()));
        let (targets, rule) = match named.map(|named| targets::resolve(model, method, Some(&named), &mut assumptions)) {
            Some(Ok(targets)) => targets,
            none => {
                if none.is_some() {
                    assumptions.push(format!("this model has none of the modules that {trainer} names: PEFT's rule is taken"));
                }
                usual_targets = None;
                targets::resolve(model, method, asked.lora_targets.as_ref(), &mut assumptions)?
            }
        };
        if method.is_low_rank() || method == Method::Ia3 {
            choices.said("lora_targets", targets.to_string(), asked.lora_targets.is_none().then(|| usual_targets.map_or(rule, |(_, why)| why).to_owned()));
        }
        let virtual_tokens = told(matches!(method, Method::Prefix | Method::Prompt), &mut choices, &mut aside).count(
            "virtual_tokens",
            asked.virtual_tokens,
            20,
            "as in PEFT's examples",
            1 << 20,
        )?;
        if method != Method::Freeze && asked.trainable.as_ref().is_some_and(|trainable| trainable.last_layers > 0) {
            let advice = "choose the method freeze, or name roles for low-rank adapters to train whole";
            return Err(unsupported(format!("only freeze trains the last layers, and the method is {method}: {advice}")));
        }
        let trainable = asked.trainable.clone().unwrap_or(Trainable { last_layers: 2, roles: Vec::new() });
        if method == Method::Freeze || method.is_low_rank() && asked.trainable.is_some() {
            choices.said("trainable", trainable.to_string(), asked.trainable.is_none().then(|| "the last two layers".to_owned()));
        }
        let gathers = sharding.shares_weights() || asked.offload == Some(Offload::Params);
        let prefetch = told(gathers, &mut choices, &mut aside).count("prefetch", asked.prefetch, 1, "one unit ahead", 64)?;
        let offload = usual(&mut choices, "offload", asked.offload, habits.offload);
        let offload_device =
            pick(told(offload != Offload::None, &mut choices, &mut aside), "offload_device", asked.offload_device, OffloadDevice::Cpu, "host memory");
        let schedule = pick(
            told(world.pipeline.value > 1, &mut choices, &mut aside),
            "pipeline_schedule",
            asked.schedule,
            Schedule::OneForwardOneBackward,
            "one forward, one backward",
        );
        let virtual_stages = told(schedule == Schedule::Interleaved, &mut choices, &mut aside).count(
            "virtual_stages",
            asked.virtual_stages,
            2,
            "two chunks a stage",
            1 << 10,
        )?;
        let (passes, stages) = (accumulation.value, world.pipeline.value);
        if stages > 1 && schedule == Schedule::Interleaved && passes < stages {
            return Err(unsupported(format!(
                "the interleaved schedule takes at least as many micro-batches as pipeline stages: {passes} are fewer than {stages} (Megatron-LM core/pipeline_parallel/schedules.py)"
            )));
        }
        check_chunks(model, &world, schedule, virtual_stages.value)?;
        let reference = reference(algorithm, method, asked.reference, &mut choices)?;
        let is_rolled = matches!(algorithm, Algorithm::Grpo | Algorithm::Ppo);
        let generations = told(is_rolled, &mut choices, &mut aside).count(
            "generations",
            asked.generations,
            if algorithm == Algorithm::Grpo { 8 } else { 1 },
            "TRL's default",
            MAX_COUNT,
        )?;
        let (rollout, rule) = if algorithm == Algorithm::Grpo { (Rollout::Colocate, "TRL: vllm_mode=\"colocate\"") } else { (Rollout::Generate, "generate()") };
        let rollout = pick(told(is_rolled, &mut choices, &mut aside), "rollout", asked.rollout, rollout, rule);
        let rollout_memory = asked.rollout_memory.unwrap_or(Decimal::new(3, 1));
        if !rollout_memory.is_fraction() {
            return Err(EstimateError::OutOfRange {
                what: "rollout memory fraction",
                value: rollout_memory.to_string(),
                must: "it must be above 0 and at most 1".into(),
            });
        }
        told(is_rolled && matches!(rollout, Rollout::Colocate | Rollout::ColocateAsleep), &mut choices, &mut aside).said(
            "rollout_memory_fraction",
            rollout_memory.to_string(),
            asked.rollout_memory.is_none().then(|| "TRL's vllm_gpu_memory_utilization".to_owned()),
        );
        let completions = rows.value.saturating_mul(accumulation.value).saturating_mul(world.data.value);
        if is_rolled && !completions.is_multiple_of(generations.value) {
            assumptions.push(format!("a step of {completions} completions holds no whole groups of {}: trainers ask for a multiple", generations.value));
        }
        let dropout = asked.lora_dropout.unwrap_or(Decimal::new(0, 0));
        let experts = Experts::of(model, method, &targets)?;
        let run = Self {
            model,
            scenario,
            card,
            place: Place { stage: 0, is_first: true, is_last: true, layers: 0..model.decoder().layer_count() },
            world,
            trainer,
            method,
            algorithm,
            optimizer,
            optimizer_rank,
            recipe,
            base,
            packed,
            is_mixed,
            fp8,
            rows,
            accumulation,
            length,
            image,
            images,
            seconds,
            checkpointing,
            loss,
            kernels,
            lora_rank,
            targets,
            experts,
            has_adapter_dropout: dropout != Decimal::new(0, 0),
            virtual_tokens,
            trainable,
            sharding,
            prefetch,
            offload,
            offload_device,
            schedule,
            virtual_stages,
            reference,
            rollout,
            rollout_memory,
            choices,
            assumptions,
        };
        experts::check(&run)?;
        super::images::check(&run)?;
        Ok(run)
    }

    /// `value` elements of a token on this rank: split over the tensor-parallel ranks where `splits`, and with sequence parallelism
    /// whatever is between the matrices too.
    pub fn width(&self, value: u64, name: &'static str, source: Source, splits: bool) -> Expr {
        let whole = Expr::leaf(value, name, source);
        if self.world.tensor.value > 1 && (splits || self.scenario.training.sequence_parallel) { whole.ceil_div(self.world.tensor.leaf("GPUs")) } else { whole }
    }

    /// Whether a tensor of this role is trained, in a layer (or outside) that is or is not.
    pub fn trains(&self, role: Role, is_layer_trained: bool) -> bool {
        match self.method {
            Method::Full => true,
            Method::Freeze => is_layer_trained || self.trainable.roles.iter().any(|name| *name == role.name()),
            _ => false,
        }
    }

    /// Whether modules of this role are trained whole beside low-rank adapters.
    pub fn saves(&self, role: Role) -> bool {
        self.method.is_low_rank() && self.trainable.roles.iter().any(|name| *name == role.name())
    }

    /// Whether a pass goes through weights of this role that are trained: the model's own, or copies beside adapters.
    pub fn learns(&self, role: Role, is_layer_trained: bool) -> bool {
        self.trains(role, is_layer_trained) || self.saves(role)
    }

    /// Whether a module gets an adapter. Embeddings have one only where they are named.
    pub fn adapts(&self, module: &Module<'_>) -> bool {
        let is_matrix = module.is_linear() && module.convolution.is_none();
        let is_kind = match self.method {
            Method::Ia3 => is_matrix,
            method => method.is_low_rank() && (is_matrix || module.role == Role::Embedding),
        };
        // Convolutions where they are named; the head of what only looks at images is a matrix like others.
        let is_all = self.targets == Targets::AllLinear;
        let is_kind = is_kind || !is_all && module.convolution.is_some() && (self.method.is_low_rank() || self.method == Method::Ia3);
        if is_all && module.role == Role::Score && self.reads_images_alone() {
            return is_kind;
        }
        is_kind && self.experts.takes(module.leaf, module.role).unwrap_or_else(|| targets::takes(&self.targets, module.leaf, module.role))
    }

    /// Whether anything of a part has an adapter or, beside adapters, is trained whole.
    pub fn adapts_some_of(&self, part: &Component) -> bool {
        let is_of = |tensor: &Tensor| self.saves(tensor.role) || experts::adapter(self, tensor).is_some();
        let of_layers = part.layers.iter().any(|layers| modules(&layers.tensors, part.hidden_size).iter().any(|module| self.adapts(module)));
        let mut tensors = part.layers.iter().flat_map(|layers| &layers.tensors).chain(&part.tensors);
        of_layers || super::images::products(part).all().any(|module| self.adapts(module)) || tensors.any(is_of)
    }

    /// Whether adapters have a magnitude per output.
    pub fn has_magnitudes(&self) -> bool {
        self.method == Method::Dora
    }

    /// Whether attention with this span needs a mask here.
    pub fn masks(&self, span: Span) -> bool {
        super::layer::needs_mask(span, self.length.value)
    }

    /// Whether gradients are kept from one forward pass to the next.
    pub fn keeps_gradients(&self) -> bool {
        self.accumulation.value > 1 || self.recipe.has_gradient_buffer
    }
}

/// The format that quantises frozen tensors, where one does: what one asks for, what the config says, for QLoRA the paper's.
fn packed_format(model: &Model, asked: Weights, method: Method) -> Result<Option<Weights>, EstimateError> {
    let is_packed_already = model.anatomy.quantization.as_ref().is_some_and(|quantization| !quantization.schemes.is_empty());
    let format = match asked {
        Weights::AsStored if method == Method::Qlora && !is_packed_already => PAPER.parse().unwrap_or(asked),
        Weights::Mix(_) | Weights::Bytes(_) => return Err(unsupported(format!("{} is a format to run models in, not to train them", asked.name()))),
        asked => asked,
    };
    let is_packed = format.scheme().is_some() || format == Weights::AsStored && is_packed_already && method.is_adapter();
    match (is_packed, method.is_adapter()) {
        (false, _) => Ok(None),
        (true, true) => Ok(Some(format)),
        (true, false) => Err(unsupported("quantised weights cannot be trained themselves: choose an adapter such as qlora, or 16-bit weights".to_owned())),
    }
}

/// What the frozen tensors are quantised by: of several formats of a config the first.
fn quantised_by(model: &Model, format: Weights) -> Option<weight_format::Method> {
    let stored = || model.anatomy.quantization.as_ref().and_then(|quantization| quantization.schemes.first().copied());
    format.scheme().or_else(stored).map(|scheme| scheme.method)
}

/// The format of QLoRA's paper: 4-bit normal floats with quantised scales.
const PAPER: &str = "nf4-dq";

pub(super) fn unsupported(sentence: String) -> EstimateError {
    EstimateError::Unsupported(sentence)
}

/// What answers are compared with.
fn reference(algorithm: Algorithm, method: Method, asked: Option<Reference>, choices: &mut Choices) -> Result<Reference, EstimateError> {
    let is_told = !matches!(algorithm, Algorithm::Sft | Algorithm::Orpo | Algorithm::Reward);
    let (default, rule) = match algorithm {
        Algorithm::Sft | Algorithm::Orpo | Algorithm::Reward => (Reference::None, "this algorithm compares with none"),
        Algorithm::Grpo => (Reference::None, "TRL 1.16: beta is 0"),
        Algorithm::Dpo | Algorithm::Kto | Algorithm::Ppo if method.is_adapter() => (Reference::Adapter, "the model without its adapters"),
        Algorithm::Dpo | Algorithm::Kto | Algorithm::Ppo => (Reference::Copy, "a second copy of the model"),
    };
    if asked == Some(Reference::Adapter) && !method.is_adapter() {
        return Err(unsupported("only a model with adapters can be its own reference: there is nothing to switch off".to_owned()));
    }
    Ok(pick(told(is_told || asked.is_some(), choices, &mut Choices::default()), "reference", asked, default, rule))
}
