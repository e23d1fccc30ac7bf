//! Pipelines of diffusers: text encoders, then the denoiser step by step, then the autoencoder's decoder; all parts stay on the GPU.
//!
//! Rules read from diffusers 0.42: `pipelines/*/pipeline_*.py` (order of the parts, guidance as a doubled batch, `needs_upcasting`),
//! `models/autoencoders/vae.py`, and the lifetimes of the tensors of each class.

use super::common::context;
use super::{Engine, EstimateError, Facts, Packing, Setup, ShardRules};
use crate::encoding::Encoding;
use crate::estimate::{Capacity, Entry, Stage, Term};
use crate::formula::{Expr, Source};
use crate::model::{Component, ComponentKind, Decoding, Denoising, FeedForward, Model, Work};
use crate::quantity::{Bytes, Overflow, ParamCount};
use crate::scenario::Version;

pub(super) struct Diffusers;

/// Pipelines that decode in float32 when the autoencoder was made in float16 (`needs_upcasting`), by how their names begin.
const UPCASTING: &[&str] = &["StableDiffusionXL", "Kolors"];

/// Tokens of a prompt where the denoiser's config does not say them: what CLIP reads.
const PROMPT: u64 = 77;

/// What is known of it before it computes anything.
pub(super) static FACTS: Facts = Facts { label: "diffusers", fraction: None, ways: &[] };

impl Engine for Diffusers {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn newest(&self) -> Version {
        Version(0, 42, 0)
    }

    fn compute_dtype(&self, stored: Encoding) -> Encoding {
        stored
    }

    fn default_context(&self, model: &Model) -> Option<(u64, &'static str)> {
        let tokens = denoising(model.decoder()).map_or(0, |denoising| denoising.text_tokens);
        Some(if tokens > 0 { (tokens, "the tokens of a prompt that this denoiser reads") } else { (PROMPT, "the tokens of a prompt that CLIP reads") })
    }

    fn moments(&self) -> &'static [Stage] {
        Stage::PIPELINE
    }

    fn check(&self, setup: &Setup) -> Result<(), EstimateError> {
        if setup.spread.world() > 1 {
            return Err(EstimateError::Unsupported("a diffusion pipeline runs on one GPU here: splitting its parts over GPUs is not computed".to_owned()));
        }
        Ok(())
    }

    fn shard_rules(&self) -> ShardRules {
        ShardRules {
            vocabulary_padding: 1,
            splits_embedding: false,
            packing: Packing::Tight,
            source: "diffusers 0.42 DiffusionPipeline.from_pretrained: every part of model_index.json",
        }
    }

    fn kv_cache(&self, _setup: &Setup) -> Result<Vec<Entry>, Overflow> {
        Ok(Vec::new())
    }

    fn overheads(&self, setup: &Setup) -> Result<Vec<Entry>, Overflow> {
        let mut entries = vec![context(setup)?];
        entries.extend(text_encoding(setup)?);
        let decoder = setup.model.anatomy.components.iter().find_map(|part| if let Work::Decode(decoding) = part.work { Some(decoding) } else { None });
        if let Some(denoising) = denoising(setup.model.decoder()) {
            let size = Size::new(setup, &denoising, decoder.as_ref());
            entries.push(denoise(setup, &denoising, &size)?);
            if let Some(decoding) = decoder {
                entries.push(latents(setup, &decoding, &size)?);
                entries.push(decode(setup, &decoding, &size)?);
            }
        }
        Ok(entries)
    }

    fn capacity(&self, _setup: &Setup, room: Bytes) -> Result<Capacity, Overflow> {
        Ok(Capacity { kv_cache_bytes: room, kv_cache_tokens: 0, concurrency_hundredths: 0 })
    }
}

fn denoising(component: &Component) -> Option<Denoising> {
    if let Work::Denoise(denoising) = component.work { Some(denoising) } else { None }
}

/// What is made, in pixels of the latents and of the result.
struct Size {
    latent: [Expr; 3],
    pixels: [Expr; 3],
}

impl Size {
    /// The picture that was asked for, else the one that the pipeline makes by itself.
    fn new(setup: &Setup, denoising: &Denoising, decoding: Option<&Decoding>) -> Self {
        let (scale, frame_scale) = decoding.map_or((8, 1), |decoding| (decoding.scale.max(1), decoding.frame_scale.max(1)));
        let picture = &setup.scenario.picture;
        let (columns, rows, own_frames) = denoising.output;
        let default = || Source::Default("what the pipeline makes unless told otherwise".into());
        let chosen = |asked: Option<u64>, own: u64, name: &'static str, key: &'static str| match asked {
            Some(value) => (value, Expr::leaf(value, name, Source::User(key))),
            None => (own, Expr::leaf(own, name, default())),
        };
        let (width, across) = chosen(picture.size.map(|size| size.0), columns.saturating_mul(scale), "width", "image size");
        let (height, down) = chosen(picture.size.map(|size| size.1), rows.saturating_mul(scale), "height", "image size");
        let (frames, over_time) = chosen(picture.frames, own_frames, "frames", "frames");
        let latent = |size: u64, name| Expr::leaf(size.div_ceil(scale), name, Source::Derived(format!("{scale} pixels each").into()));
        let latent_frames = frames.saturating_sub(1).div_ceil(frame_scale).saturating_add(1);
        let latent_frames = Expr::leaf(latent_frames, "latent frames", Source::Derived(format!("the first, and one for {frame_scale} more each").into()));
        Self { latent: [latent(width, "columns"), latent(height, "rows"), latent_frames], pixels: [across, down, over_time] }
    }

    fn product(parts: &[Expr], rest: impl IntoIterator<Item = Expr>) -> Vec<Expr> {
        parts.iter().cloned().chain(rest).collect()
    }
}

/// One pass of the widest text encoder.
fn text_encoding(setup: &Setup) -> Result<Option<Entry>, Overflow> {
    let encoders = setup.model.anatomy.components.iter().filter(|part| part.kind == ComponentKind::TextEncoder);
    let width = |part: &Component| {
        let inner = match part.widest_feed_forward() {
            Some(FeedForward::Dense { intermediate, .. }) => intermediate,
            Some(other) => other.active_width(),
            None => 0,
        };
        inner.saturating_mul(3).saturating_add(part.hidden_size.saturating_mul(4))
    };
    let Some(widest) = encoders.max_by_key(|part| width(part)) else { return Ok(None) };
    let per_token =
        Expr::leaf(width(widest), format!("values per token of {}", widest.name), Source::Derived("3 × feed-forward width + 4 × hidden size".into()));
    let formula = Expr::encoded(Expr::Product(vec![setup.batch.leaf("images"), setup.context.leaf("tokens of the prompt"), per_token]), setup.dtype);
    Entry::modelled(
        Term::Activations,
        formula,
        (50, 300),
        "one layer of the widest text encoder, prompt and negative prompt one after the other",
        &[Stage::TextEncode],
    )
    .map(Some)
}

/// One step of the denoiser.
fn denoise(setup: &Setup, denoising: &Denoising, size: &Size) -> Result<Entry, Overflow> {
    let name = &setup.model.decoder().name;
    let patch = || Expr::named(denoising.patch.max(1), "patch");
    let mut tokens = vec![Expr::Product(vec![size.latent[0].clone().floor_div(patch()), size.latent[1].clone().floor_div(patch()), size.latent[2].clone()])];
    if denoising.text_tokens > 0 {
        tokens.push(setup.context.leaf("tokens of the prompt"));
    }
    let values = Expr::leaf(denoising.values, "values per token", Source::Derived(format!("lifetimes of the tensors of one block of {name}").into()));
    let copies = Expr::leaf(denoising.copies, "copies", Source::Derived("guidance runs with and without the prompt in one batch".into()));
    let formula = Expr::encoded(Expr::Product(vec![setup.batch.leaf("images"), copies, Expr::sum(tokens), values]), setup.dtype);
    Entry::modelled(Term::Activations, formula, (70, 150), "the widest moment of one block; attention with SDPA", &[Stage::Denoise])
}

/// The latents, and what scheduler and denoiser make of them in a step.
fn latents(setup: &Setup, decoding: &Decoding, size: &Size) -> Result<Entry, Overflow> {
    const COPIES: u64 = 4;
    let rest = [Expr::leaf(decoding.channels, "channels", Source::Config("latent_channels".into())), setup.batch.leaf("images"), Expr::named(COPIES, "copies")];
    let formula = Expr::encoded(Expr::Product(Size::product(&size.latent, rest)), setup.dtype);
    Entry::modelled(
        Term::Latents,
        formula,
        (50, 200),
        "latents, noise, the denoiser's answer and the scheduler's next step",
        &[Stage::Denoise, Stage::VaeDecode],
    )
}

/// The decoder, on the whole batch at once.
fn decode(setup: &Setup, decoding: &Decoding, size: &Size) -> Result<Entry, Overflow> {
    let is_upcast = setup.dtype == Encoding::F16 && UPCASTING.iter().any(|name| setup.model.anatomy.model_type.starts_with(name));
    let dtype = if is_upcast { Encoding::F32 } else { setup.dtype };
    let of_class = |values: u64, name| Expr::leaf(values, name, Source::Derived("lifetimes of the decoder's tensors".into()));
    let mut parts = Vec::new();
    if decoding.per_pixel > 0 {
        parts.push(of_class(decoding.per_pixel, "values per pixel"));
    }
    if decoding.per_frame_pixel > 0 {
        parts.push(Expr::Product(vec![size.pixels[2].clone(), of_class(decoding.per_frame_pixel, "values per pixel of a frame")]));
    }
    let values = Expr::Product(Size::product(&size.pixels[..2], [setup.batch.leaf("images"), Expr::sum(parts)]));
    let mut sizes = vec![Expr::encoded(values, dtype)];
    if is_upcast {
        let parts = setup.model.anatomy.components.iter().filter(|part| part.kind == ComponentKind::Autoencoder);
        let parameters = parts.map(|part| part.parameters().map_or(0, ParamCount::get)).sum();
        let source = Source::Derived("upcast_vae: float32 while decoding".into());
        sizes.push(Expr::encoded(Expr::leaf(parameters, "parameters of the autoencoder once more", source), Encoding::F16));
    }
    let formula = Expr::sum(sizes);
    Entry::modelled(
        Term::VaeDecode,
        formula,
        (75, 160),
        "the widest moment of the decoder and the copies that cuDNN makes of a convolution's input and output; no tiling, no slicing",
        &[Stage::VaeDecode],
    )
}
