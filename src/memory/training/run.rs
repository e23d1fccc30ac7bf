//! A training run with every default filled in.

use super::habits::{Default, Habits};
use super::modules::Module;
use super::recipe::{Recipe, default_recipe};
use super::targets;
use super::world::World;
use crate::encoding::Encoding;
use crate::formula::{Expr, Source};
use crate::gpu::Card;
use crate::model::{Component, ComponentKind, FeedForward, Frames, Model, Patches, Role, Span, Work};
use crate::quantity::Decimal;
use crate::runtime::{Choices, Chosen, EstimateError, MAX_COUNT, Place};
use crate::scenario::{
    AdapterDtype, Algorithm, Checkpointing, Kernels, Loss, Method, Offload, OffloadDevice, Optimizer, Precision, Reference, Rollout, Scenario, Schedule,
    Sharding, Targets, Trainable, Trainer, Weights,
};
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
fn pick<T: std::fmt::Display>(choices: &mut Choices, key: &'static str, asked: Option<T>, default: T, rule: &str) -> T {
    let is_default = asked.is_none();
    let value = asked.unwrap_or(default);
    choices.said(key, value.to_string(), is_default.then(|| rule.to_owned()));
    value
}

/// The same, where a framework has a default of its own.
fn usual<T: std::fmt::Display>(choices: &mut Choices, key: &'static str, asked: Option<T>, (default, rule): Default<T>) -> T {
    pick(choices, key, asked, default, rule)
}

/// The list that a setting is told in.
fn told<'c>(is_told: bool, choices: &'c mut Choices, aside: &'c mut Choices) -> &'c mut Choices {
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
        let habits = Habits::of(trainer, algorithm, method, format.is_some());
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
            // What is not quantised and wide makes a wide hidden state, which matrix products cast.
            recipe = Recipe { casts_weights: widens.is_some(), ..recipe.of_adapters(if is_wide { Encoding::F32 } else { recipe.compute }) };
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
        let (rank, rule) = habits.rank;
        let lora_rank = told(method.is_low_rank(), &mut choices, &mut aside).count("lora_rank", asked.lora_rank, rank, rule, 1 << 20)?;
        let usual_targets = habits.targets.filter(|_| method.is_low_rank() && asked.lora_targets.is_none());
        let named = usual_targets.map(|(names, _)| Targets::Named(names.iter().map(|name| (*name).to_owned()).collect()));
        let targets = targets::resolve(model, method, asked.lora_targets.as_ref().or(named.as_ref()), &mut assumptions)?;
        if method.is_low_rank() || method == Method::Ia3 {
            choices.said(
                "lora_targets",
                targets.to_string(),
                asked.lora_targets.is_none().then(|| match usual_targets {
                    Some((_, why)) => why.to_owned(),
                    None if method == Method::Qlora => "the QLoRA paper's".to_owned(),
                    None if targets == Targets::AllLinear => "PEFT knows none for the family".to_owned(),
                    None => "PEFT's for the family".to_owned(),
                }),
            );
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
                must: "it must be above 0 and at most 1",
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
        Ok(Self {
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
        })
    }

    /// `value` elements of a token on this rank: split over the tensor-parallel ranks where `splits`, and with sequence parallelism
    /// whatever is between the matrices too.
    pub fn width(&self, value: u64, name: &'static str, source: Source, splits: bool) -> Expr {
        let whole = Expr::leaf(value, name, source);
        if self.world.tensor.value > 1 && (splits || self.scenario.training.sequence_parallel) { whole.ceil_div(self.world.tensor.leaf("GPUs")) } else { whole }
    }

    /// Tokens of one forward pass on this rank.
    pub fn tokens(&self) -> Expr {
        if let Some(tokens) = self.per_image() {
            return Expr::Product(std::iter::once(self.rows.leaf("images")).chain(tokens).collect());
        }
        let mut length = self.length.leaf("tokens");
        if self.method == Method::Prompt {
            length = Expr::Sum(vec![length, self.virtual_tokens.leaf("virtual tokens")]);
        }
        Expr::Product(vec![self.rows.leaf("sequences"), self.world.of_context(length)])
    }

    /// Tokens of one sequence on this rank.
    pub fn sequence(&self) -> Expr {
        self.per_image().and_then(|mut factors| factors.pop()).unwrap_or_else(|| self.length.leaf("tokens"))
    }

    /// For models that read images alone: the tokens of one as a factor, or no factor where there are only feature maps.
    fn per_image(&self) -> Option<Vec<Expr>> {
        let decoder = self.model.decoder();
        match (&decoder.work, decoder.patches()) {
            (Work::Images(_), _) => Some(Vec::new()),
            (_, Some(patches)) => Some(vec![self.patches(&patches)]),
            _ => None,
        }
    }

    /// Whether images are all that the model reads.
    pub fn reads_images_alone(&self) -> bool {
        self.per_image().is_some()
    }

    /// Tokens of one image.
    pub fn patches(&self, patches: &Patches) -> Expr {
        let size = self.image.unwrap_or_default();
        let source = Source::Derived(
            format!("{} × {} pixels in patches of {} × {}, and {} more", size.0, size.1, patches.side.0, patches.side.1, patches.others).into(),
        );
        Expr::leaf(patches.tokens(size).unwrap_or_default(), "tokens of an image", source)
    }

    /// How a vision tower beside the language model cuts its images; `None` where it reads none.
    pub fn reads(&self, tower: &Component) -> Option<Patches> {
        tower.patches().filter(|_| self.images.value > 0)
    }

    /// Tokens that a vision tower beside the language model reads in one pass.
    pub fn tower_tokens(&self, patches: &Patches) -> Expr {
        Expr::Product(vec![self.rows.leaf("sequences"), self.images.leaf("images"), self.patches(patches)])
    }

    /// How an audio tower turns sound into tokens; `None` where it hears none.
    pub fn hears(&self, tower: &Component) -> Option<Frames> {
        tower.frames().filter(|_| self.seconds.value > 0)
    }

    /// Tokens that an audio tower reads in one pass.
    pub fn sound_tokens(&self, frames: &Frames) -> Expr {
        Expr::Product(vec![self.rows.leaf("sequences"), self.sound(frames)])
    }

    /// Tokens of the sound in one sample.
    fn sound(&self, frames: &Frames) -> Expr {
        let windows = frames.window_seconds().map_or_else(String::new, |seconds| format!(", in windows of {seconds} s"));
        let source = Source::Derived(format!("{} s of sound, {} frames of 10 ms a token{windows}", self.seconds.value, frames.per_token).into());
        Expr::leaf(frames.tokens(self.seconds.value).unwrap_or_default(), "tokens of sound", source)
    }

    /// For decoders that listen to an encoder: its tokens.
    pub fn encoder_tokens(&self) -> Option<Expr> {
        let tower = listened_to(self.model)?;
        Some(self.sound(&self.hears(tower)?))
    }

    /// Tokens of one sequence of the decoder.
    pub fn decoder_tokens(&self) -> Expr {
        self.length.leaf("tokens")
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

    /// Whether a module gets an adapter. Embeddings have one only where they are named.
    pub fn adapts(&self, module: &Module<'_>) -> bool {
        let is_kind = match self.method {
            Method::Ia3 => module.is_linear(),
            method => method.is_low_rank() && (module.is_linear() || module.role == Role::Embedding),
        };
        is_kind && targets::takes(&self.targets, module.leaf, module.role)
    }

    /// Whether experts that are matrices of their own get adapters.
    pub fn adapts_experts(&self) -> bool {
        self.method.is_low_rank() && targets::takes_experts(&self.targets, self.model)
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

/// Says what room experts have. None gets more tokens than there are, so that more than as many even shares is never filled.
fn check_capacity_factor(model: &Model, asked: Option<Decimal>, choices: &mut Choices) -> Result<(), EstimateError> {
    let mixtures = model.anatomy.counted().flat_map(|part| &part.layers).filter_map(|run| match run.layer.feed_forward {
        FeedForward::MixtureOfExperts { experts, active, .. } => Some((experts, active)),
        FeedForward::Dense { .. } | FeedForward::None => None,
    });
    let mixtures: Vec<(u64, u64)> = mixtures.collect();
    let (numerator, denominator) = asked.unwrap_or(Decimal::new(1, 0)).parts();
    let has_room = |&(experts, active): &(u64, u64)| u128::from(numerator) * u128::from(active) <= u128::from(denominator) * u128::from(experts);
    if let Some(factor) = asked
        && (numerator == 0 || !mixtures.is_empty() && !mixtures.iter().any(has_room))
    {
        let must = "it must be above 0, and at most experts / experts per token: none gets more tokens than there are";
        return Err(EstimateError::OutOfRange { what: "expert_capacity_factor", value: factor.to_string(), must });
    }
    if !mixtures.is_empty() {
        pick(choices, "expert_capacity_factor", asked, Decimal::new(1, 0), "tokens are spread evenly");
    }
    Ok(())
}

/// The audio encoder whose states the decoder's cross-attention reads (Whisper).
fn listened_to(model: &Model) -> Option<&Component> {
    let listens = model.decoder().layers.iter().flat_map(|run| &run.tensors).any(|tensor| tensor.name.contains("encoder_attn."));
    model.anatomy.counted().skip(1).find(|part| part.frames().is_some()).filter(|_| listens)
}

/// Seconds of sound in a sample: for encoder-decoders one window, else none unless they are asked for.
fn seconds(model: &Model, asked: Option<u64>, choices: &mut Choices) -> Result<Chosen, EstimateError> {
    let towers = || model.anatomy.counted().skip(1).filter(|part| part.kind == ComponentKind::AudioTower);
    let hears = towers().any(|part| part.frames().is_some());
    if asked.is_some_and(|seconds| seconds > 0) && !hears {
        let why = if towers().next().is_some() { "how its audio tower turns sound into tokens is not known here" } else { "it has no audio tower beside a language model" };
        return Err(unsupported(format!("seconds of sound cannot be counted for this model: {why}")));
    }
    let window = listened_to(model).and_then(Component::frames).and_then(|frames| frames.window_seconds());
    let (default, rule) = window.map_or((0, "texts alone"), |seconds| (seconds, "one window of its encoder"));
    told(hears, choices, &mut Choices::default()).count("audio_seconds", asked.filter(|&seconds| seconds > 0), default, rule, MAX_COUNT)
}

/// The size of images, for networks that read them.
fn image(model: &Model, scenario: &Scenario, is_read: bool, choices: &mut Choices) -> Result<Option<(u64, u64)>, EstimateError> {
    if !is_read {
        return Ok(None);
    }
    let patches = || model.anatomy.counted().find_map(Component::patches);
    let own = if let Work::Images(images) = &model.decoder().work { Some(images.size) } else { patches().and_then(|patches| patches.size) };
    let Some((width, height)) = scenario.picture.size.or(own) else {
        return Err(unsupported("this model reads images of any size: say theirs, such as --image-size 1024x768".to_owned()));
    };
    if patches().is_some_and(|patches| patches.tokens((width, height)).is_none()) {
        return Err(unsupported("images of this size are smaller than one patch".to_owned()));
    }
    choices.said("image_size", format!("{width}x{height}"), scenario.picture.size.is_none().then(|| "what the network was made for".to_owned()));
    Ok(Some((width, height)))
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

/// The format of QLoRA's paper: 4-bit normal floats with quantised scales.
const PAPER: &str = "nf4-dq";

pub(super) fn unsupported(sentence: String) -> EstimateError {
    EstimateError::Unsupported(sentence)
}

/// Forward passes per step: chosen, or what a global batch takes.
fn accumulation(scenario: &Scenario, world: &World, micro_batch: u64, choices: &mut Choices) -> Result<Chosen, EstimateError> {
    let asked = &scenario.training;
    let Some(global) = asked.global_batch else {
        // A pipeline with fewer micro-batches than stages would stand still most of the time.
        let (default, rule) =
            if world.pipeline.value > 1 { (world.pipeline.value, "as many as pipeline stages") } else { (1, "a step after every forward pass") };
        return choices.count("grad_accum", asked.grad_accum, default, rule, MAX_COUNT);
    };
    let at_once = micro_batch.checked_mul(world.data.value).ok_or(crate::quantity::Overflow)?;
    if !global.is_multiple_of(at_once) || global == 0 {
        return Err(unsupported(format!(
            "a global batch of {global} sequences is no multiple of {micro_batch} (micro-batch) × {} (replicas)",
            world.data.value
        )));
    }
    let value = global / at_once;
    choices.said("grad_accum", value.to_string(), Some(format!("{global} sequences over {} replicas of {micro_batch}", world.data.value)));
    Ok(Chosen { value, source: Source::Derived("global batch / (micro-batch × replicas)".into()) })
}

/// Sequences of one forward pass: preference methods put the chosen and the rejected answer into one batch.
fn rows(algorithm: Algorithm, micro_batch: &Chosen) -> Chosen {
    match algorithm {
        Algorithm::Dpo | Algorithm::Orpo | Algorithm::Reward => {
            Chosen { value: micro_batch.value.saturating_mul(2), source: Source::Derived("chosen and rejected answers in one batch (TRL 1.16)".into()) }
        }
        Algorithm::Sft | Algorithm::Kto | Algorithm::Ppo | Algorithm::Grpo => micro_batch.clone(),
    }
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
