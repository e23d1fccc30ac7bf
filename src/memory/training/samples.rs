//! What a forward pass reads: sequences, images, sound, and the tokens of each.

use super::run::{Run, pick, told, unsupported};
use super::tape::Tokens;
use super::world::World;
use crate::formula::{Expr, Source};
use crate::model::{Component, ComponentKind, FeedForward, Frames, Model, Patches, Work};
use crate::quantity::Decimal;
use crate::runtime::{Choices, Chosen, EstimateError, MAX_COUNT};
use crate::scenario::{Algorithm, Method, Scenario};

impl Run<'_> {
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

    /// The same with the sequences among them.
    pub fn all_tokens(&self) -> Tokens {
        Tokens { all: self.tokens(), rows: self.rows.leaf("sequences") }
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
    pub fn sound(&self, frames: &Frames) -> Expr {
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
}

/// The audio encoder whose states the decoder's cross-attention reads (Whisper).
fn listened_to(model: &Model) -> Option<&Component> {
    let listens = model.decoder().layers.iter().flat_map(|run| &run.tensors).any(|tensor| tensor.name.contains("encoder_attn."));
    model.anatomy.counted().skip(1).find(|part| part.frames().is_some()).filter(|_| listens)
}

/// Seconds of sound in a sample: for encoder-decoders one window, else none unless they are asked for.
pub(super) fn seconds(model: &Model, asked: Option<u64>, choices: &mut Choices) -> Result<Chosen, EstimateError> {
    let towers = || model.anatomy.counted().skip(1).filter(|part| part.kind == ComponentKind::AudioTower);
    let hears = towers().any(|part| part.frames().is_some());
    if asked.is_some_and(|seconds| seconds > 0) && !hears {
        let why = if towers().next().is_some() {
            "how its audio tower turns sound into tokens is not known here"
        } else {
            "it has no audio tower beside a language model"
        };
        return Err(unsupported(format!("seconds of sound cannot be counted for this model: {why}")));
    }
    let window = listened_to(model).and_then(Component::frames).and_then(|frames| frames.window_seconds());
    let (default, rule) = window.map_or((0, "texts alone"), |seconds| (seconds, "one window of its encoder"));
    told(hears, choices, &mut Choices::default()).count("audio_seconds", asked.filter(|&seconds| seconds > 0), default, rule, MAX_COUNT)
}

/// The size of images, for networks that read them.
pub(super) fn image(model: &Model, scenario: &Scenario, is_read: bool, choices: &mut Choices) -> Result<Option<(u64, u64)>, EstimateError> {
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

/// Sequences of one forward pass: preference methods put the chosen and the rejected answer into one batch.
pub(super) fn rows(algorithm: Algorithm, micro_batch: &Chosen) -> Chosen {
    match algorithm {
        Algorithm::Dpo | Algorithm::Orpo | Algorithm::Reward => {
            Chosen { value: micro_batch.value.saturating_mul(2), source: Source::Derived("chosen and rejected answers in one batch (TRL 1.16)".into()) }
        }
        Algorithm::Sft | Algorithm::Kto | Algorithm::Ppo | Algorithm::Grpo => micro_batch.clone(),
    }
}

/// Forward passes per step: chosen, or what a global batch takes.
pub(super) fn accumulation(scenario: &Scenario, world: &World, micro_batch: u64, choices: &mut Choices) -> Result<Chosen, EstimateError> {
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

/// Says what room experts have. None gets more tokens than there are, so that more than as many even shares is never filled.
pub(super) fn check_capacity_factor(model: &Model, asked: Option<Decimal>, choices: &mut Choices) -> Result<(), EstimateError> {
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
        return Err(EstimateError::OutOfRange { what: "expert_capacity_factor", value: factor.to_string(), must: must.into() });
    }
    if !mixtures.is_empty() {
        pick(choices, "expert_capacity_factor", asked, Decimal::new(1, 0), "tokens are spread evenly");
    }
    Ok(())
}
