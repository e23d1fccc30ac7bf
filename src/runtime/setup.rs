//! A scenario as an engine takes it: with every default filled in, its ranges checked, and where each value came from.

use super::across::Across;
use super::{Draft, Engine, EstimateError, Known, Place, Rules, Setting, Spread, parallel, settings};
use crate::encoding::Encoding;
use crate::estimate::Choice;
use crate::formula::{Expr, Source};
use crate::gpu::Card;
use crate::model::{Attention, CacheGroup, LayerRun, Mixer, Model};
use crate::quantity::{Decimal, Overflow};
use crate::scenario::{CacheImplementation, Scenario, Version, Weights};
use crate::weights::Store;

/// A value with where it came from.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The value.
    pub value: u64,
    /// Where it came from.
    pub source: Source,
}

impl Chosen {
    /// As a leaf of a formula.
    pub fn leaf(&self, name: &'static str) -> Expr {
        Expr::leaf(self.value, name, self.source.clone())
    }
}

/// A scenario with every default filled in.
pub struct Setup<'a> {
    /// The model.
    pub model: &'a Model,
    /// What was asked.
    pub scenario: &'a Scenario,
    /// The engine.
    pub engine: &'static dyn Engine,
    /// How weights are stored.
    pub store: Store,
    /// Its version.
    pub version: Version,
    /// One card.
    pub card: Card,
    /// How the model is spread over GPUs.
    pub spread: Spread,
    /// The rank that is computed.
    pub place: Place,
    /// Tokens per request.
    pub context: Chosen,
    /// How many of them are the answer, where the engine has such a rule; else none.
    pub answer: Chosen,
    /// Requests at once, of one replica.
    pub batch: Chosen,
    /// The format of the weights; what "as stored" means where neither files nor config say it.
    pub weights: Weights,
    /// The dtype of computation.
    pub dtype: Encoding,
    /// False when neither the config nor the files say the dtype.
    pub is_dtype_known: bool,
    /// The encoding of keys and values.
    pub kv_encoding: Encoding,
    /// Tokens of one step; the engine's default filled in. The whole load's tokens where the engine has no limit.
    pub step_tokens: Chosen,
    /// Sequences of one step.
    pub step_sequences: Chosen,
    /// The share of the card that the engine takes, for engines that have such a rule.
    pub utilization: Option<(Decimal, Source)>,
    /// What the decoder reads through cross-attention, where the engine counts it.
    pub across: Option<Across<'a>>,
    /// What drafts tokens for the model to check.
    pub draft: Option<Draft<'a>>,
    /// Tokens that it drafts at once; none without.
    pub drafted: Chosen,
    /// Every setting as used.
    pub choices: Vec<Choice>,
    /// What was assumed.
    pub assumptions: Vec<String>,
}

/// The context that is used when none is chosen.
pub const DEFAULT_CONTEXT: u64 = 8192;

/// Tokens of an answer that are planned for where the user does not say.
const LONGEST_ANSWER: u64 = 2048;

/// The largest context, batch or step that is computed.
pub const MAX_COUNT: u64 = 1 << 40;

impl<'a> Setup<'a> {
    /// Fills in the defaults and checks the ranges; of settings that the engine has ([`check`]).
    pub(crate) fn new((engine, store, read_across): Rules, model: &'a Model, scenario: &'a Scenario) -> Result<Self, EstimateError> {
        let card = scenario.card()?;
        let mut choices = Choices::default();
        let newest = engine.newest();
        let version = scenario.serving.runtime_version.unwrap_or(newest);
        choices.said("runtime", engine.label().to_owned(), model.is_pipeline().then(|| "diffusion pipelines run in diffusers".to_owned()));
        choices.said("runtime_version", version.to_string(), scenario.serving.runtime_version.is_none().then(|| "the newest whose rules are known".to_owned()));
        choices.said("gpu", card.name.clone(), scenario.gpu.is_none().then(|| "none was named".to_owned()));
        let (context, rule) = engine.default_context(model).unwrap_or_else(|| default_context(model, (DEFAULT_CONTEXT, "8,192 tokens")));
        let context = choices.count("context", scenario.context, context, rule, MAX_COUNT)?;
        let answer = if !model.is_pipeline() && settings(scenario.runtime).contains(&Setting::Answer) {
            let default = (context.value / 2).min(LONGEST_ANSWER);
            choices.count("answer_tokens", scenario.serving.answer, default, "half of the context, at most 2,048 tokens", MAX_COUNT)?
        } else {
            Chosen { value: 0, source: Source::Derived("no rule of this engine depends on it".into()) }
        };
        let batch = choices.count("batch", scenario.batch, 1, "one request at a time", MAX_COUNT)?;
        let spread = Spread::new(model, scenario, engine, &mut choices)?;
        parallel::check_ways(&spread, engine.facts().ways, engine.label())?;
        let batch = spread.requests(batch);

        let (stored, is_dtype_known, mut assumptions) = stored_dtype(model);
        let (weights, reason) = crate::weights::meant(model, scenario.weights);
        let unpacked = engine.unpacks(model).filter(|_| weights == Weights::AsStored);
        if let Some(dtype) = unpacked {
            assumptions.push(format!("{} does not keep quantised weights of this file: they are loaded as {dtype}", engine.label()));
        }
        let weights = unpacked.map_or(weights, Weights::Plain);
        let dtype = weights.encoding().unwrap_or_else(|| engine.compute_dtype(stored));
        choices.said("weights", weights.name().into_owned(), reason);
        let kv_encoding = scenario.kv_cache.encoding().unwrap_or(dtype);
        if !model.is_pipeline() {
            choices.said("kv_cache", kv_encoding.to_string(), scenario.kv_cache.encoding().is_none().then(|| "the dtype of computation".to_owned()));
        }

        let load_tokens = context.value.checked_mul(batch.value).ok_or(Overflow)?;
        let defaults = engine.defaults(&Known { model, scenario, card: &card, spread: &spread, version, context: context.value });
        let step_tokens = match defaults.step_tokens {
            Some(default) => {
                choices.count("max_num_batched_tokens", scenario.max_num_batched_tokens, default, "the engine's default for this card", MAX_COUNT)?
            }
            None => Chosen { value: load_tokens, source: Source::Derived("context × requests, prefilled at once".into()) },
        };
        let step_sequences = match defaults.step_sequences {
            Some(default) => {
                choices.count("max_num_seqs", scenario.max_num_seqs, default.min(step_tokens.value), "the engine's default for this card", MAX_COUNT)?
            }
            None => Chosen { value: batch.value, source: batch.source.clone() },
        };
        let utilization = fraction(engine, scenario, defaults.utilization, &mut choices)?;
        assumptions.extend(beyond_maximum(model, context.value));
        if version > newest {
            assumptions.push(format!("{} {version} is newer than the rules here: those of {newest} are used", engine.label()));
        }
        assumptions.extend(card.notes.iter().cloned());
        if settings(scenario.runtime).contains(&Setting::Cache) && !model.is_pipeline() {
            let cache = scenario.serving.cache;
            choices.said("cache_implementation", cache.name().to_owned(), (cache == CacheImplementation::Dynamic).then(|| "what generate() makes".to_owned()));
        }
        let across = read_across(model, engine, (&context, &step_tokens), &mut choices);
        let (draft, drafted) = Draft::of(model, scenario, &mut choices)?;
        let choices = choices.0;
        let setup = Self {
            model,
            scenario,
            engine,
            store,
            version,
            card,
            place: Place { stage: 0, is_first: true, is_last: true, layers: 0..model.decoder().layer_count() },
            spread,
            context,
            answer,
            batch,
            weights,
            dtype,
            is_dtype_known,
            kv_encoding,
            step_tokens,
            step_sequences,
            utilization,
            across,
            draft,
            drafted,
            choices,
            assumptions,
        };
        engine.check(&setup)?;
        Ok(setup)
    }

    /// The places of every pipeline stage.
    pub fn places(&self) -> Vec<Place> {
        let stages = self.engine.stages(self, self.model.decoder().layer_count(), self.spread.pipeline.value);
        Place::of_stages(&stages)
    }

    /// The runs of the decoder's layers on this rank, each with how many of its layers are here.
    pub fn runs(&self) -> impl Iterator<Item = (u64, &LayerRun)> {
        self.model.decoder().runs_in(self.place.layers.clone())
    }

    /// The layers on this rank that keep keys and values, by what they keep; those of the draft are on the last stage.
    pub fn cache_groups(&self) -> Vec<CacheGroup> {
        let mut groups = self.model.decoder().cache_groups_in(self.place.layers.clone());
        groups.extend(self.draft.filter(|_| self.place.is_last).into_iter().flat_map(|draft| draft.layers().cache_groups()));
        groups
    }

    /// KV heads that one rank holds: split over the ranks, but never less than one.
    pub fn rank_kv_heads(&self, attention: &Attention) -> u64 {
        (attention.kv_heads / self.spread.tensor.value).max(1)
    }

    /// Elements that one layer keeps of one token on one rank, as factors: KV heads × (key + value elements). A latent is
    /// whole on every rank.
    pub fn cache_elements(&self, mixer: &Mixer) -> Vec<Expr> {
        match mixer {
            Mixer::Latent(latent) => vec![Expr::Sum(vec![
                Expr::leaf(latent.kv_lora_rank, "kv_lora_rank", Source::Config("kv_lora_rank".into())),
                Expr::leaf(latent.rope_dim, "rotary part", Source::Config("qk_rope_head_dim".into())),
            ])],
            Mixer::Attention(attention) | Mixer::Parallel(attention, _) => {
                let heads = Expr::leaf(self.rank_kv_heads(attention), "KV heads", Source::Config("num_key_value_heads".into()));
                let head_dim = |value| Expr::leaf(value, "head_dim", Source::Config("head_dim, or hidden_size / num_attention_heads".into()));
                if attention.key_dim == attention.value_dim {
                    return vec![Expr::named(2, "(K and V)"), heads, head_dim(attention.key_dim)];
                }
                vec![heads, Expr::Sum(vec![head_dim(attention.key_dim), head_dim(attention.value_dim)])]
            }
            Mixer::Recurrent(_) | Mixer::None => Vec::new(),
        }
    }

    /// Refuses heads or widths that do not divide over the ranks.
    pub(super) fn check_division(&self, replicates_kv_heads: bool) -> Result<(), EstimateError> {
        let ranks = self.spread.tensor.value;
        // Encoders keep no cache and split their heads all the same.
        for layers in &self.model.decoder().layers {
            let Some(&Attention { heads, kv_heads, .. }) = layers.layer.mixer.attention().filter(|attention| attention.kv_heads > 0) else { continue };
            if !heads.is_multiple_of(ranks) {
                return Err(EstimateError::Unsupported(format!(
                    "{heads} attention heads do not divide over {ranks} GPUs; choose a count that divides {heads}"
                )));
            }
            let replicable = replicates_kv_heads && ranks.is_multiple_of(kv_heads);
            if !kv_heads.is_multiple_of(ranks) && !replicable {
                let label = self.engine.label();
                return Err(EstimateError::Unsupported(format!(
                    "{label} cannot split {kv_heads} KV heads over {ranks} GPUs; choose a count that divides {kv_heads}"
                )));
            }
            // Only vLLM has it (`config/model.py:verify_with_parallel_config`).
            let (alike, queries) = ((ranks / kv_heads).max(1), heads / kv_heads);
            if self.spread.context.value > alike || !queries.is_multiple_of(self.spread.context.value) {
                return Err(EstimateError::Unsupported(format!("choose a context parallelism up to {alike} that divides {queries}")));
            }
        }
        Ok(())
    }
}

/// The context that is used when none is chosen: an engine's default with its rule, at most the model's maximum.
pub(super) fn default_context(model: &Model, (tokens, rule): (u64, &'static str)) -> (u64, &'static str) {
    match model.anatomy.max_context {
        Some(max) if max <= tokens => (max, "the model's maximum"),
        None if tokens == DEFAULT_CONTEXT => (tokens, "8,192 tokens; the config does not say the model's maximum"),
        _ => (tokens, rule),
    }
}

/// What a context beyond the model's maximum asks for.
pub(super) fn beyond_maximum(model: &Model, context: u64) -> Option<String> {
    let max = model.anatomy.max_context.filter(|max| context > *max)?;
    let max = crate::format::grouped(max);
    Some(format!("the context is longer than the model's maximum of {max} tokens: it needs a scaled position encoding to work at all"))
}

/// The share of the card that an engine takes, by its own name for it.
fn fraction(engine: &dyn Engine, scenario: &Scenario, default: Option<Decimal>, choices: &mut Choices) -> Result<Option<(Decimal, Source)>, EstimateError> {
    let Some(fraction) = engine.facts().fraction else { return Ok(None) };
    let key = fraction.key();
    match (fraction.chosen(scenario), default) {
        (Some(chosen), _) if chosen.is_fraction() => {
            choices.said(key, chosen.to_string(), None);
            Ok(Some((chosen, Source::User(key))))
        }
        (Some(chosen), _) => Err(EstimateError::OutOfRange { what: key, value: chosen.to_string(), must: "it must be above 0 and at most 1".into() }),
        (None, Some(default)) => {
            choices.said(key, default.to_string(), Some("the engine's default".to_owned()));
            Ok(Some((default, Source::Default("the engine's default".into()))))
        }
        (None, None) => Ok(None),
    }
}

/// The dtype of the stored weights: config.json, else the files, else bfloat16 as an assumption.
pub(super) fn stored_dtype(model: &Model) -> (Encoding, bool, Vec<String>) {
    if let Some(dtype) = model.anatomy.dtype {
        return (dtype, true, Vec::new());
    }
    let first_float =
        model.provenance.files.as_ref().and_then(|files| files.loaded.iter().find_map(|(tensor, _)| tensor.stored.filter(|stored| stored.is_float)));
    match first_float {
        Some(stored) => (stored, true, Vec::new()),
        None => (
            Encoding::BF16,
            false,
            vec!["config.json does not say the dtype: weights are counted at 2 bytes, and take twice that if the files hold float32".to_owned()],
        ),
    }
}

/// Settings as they are filled in.
#[derive(Default)]
pub(crate) struct Choices(pub(crate) Vec<Choice>);

impl Choices {
    pub(crate) fn said(&mut self, key: &'static str, value: String, default: Option<String>) {
        self.0.push(Choice { key, value, default });
    }

    pub(crate) fn count(&mut self, key: &'static str, asked: Option<u64>, default: u64, rule: &'static str, max: u64) -> Result<Chosen, EstimateError> {
        let chosen = match asked {
            Some(value) if (1..=max).contains(&value) => Chosen { value, source: Source::User(key) },
            Some(value) => {
                return Err(EstimateError::OutOfRange {
                    what: key,
                    value: value.to_string(),
                    must: format!("it must be 1 to {}", crate::format::grouped(max)).into(),
                });
            }
            None => Chosen { value: default, source: Source::Default(rule.into()) },
        };
        self.said(key, chosen.value.to_string(), asked.is_none().then(|| rule.to_owned()));
        Ok(chosen)
    }
}
