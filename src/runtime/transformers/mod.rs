//! Hugging Face transformers, `model.generate()`; attention with SDPA, flash attention, or written out. Further GPUs get whole layers
//! (`device_map="auto"`) unless tensor parallelism is asked for.
//!
//! Rules read from transformers 5.23: `generation/utils.py` (`logits_to_keep`), `modeling_utils.py` (`dtype="auto"`, `tp_plan`), and
//! for its caches in [`cache`].

mod balance;
mod cache;
mod encoder;
mod plans;

use super::common::{communication, context, feed_forward_width, states};
use super::parallel::even_stages;
use super::{Engine, EstimateError, Facts, Packing, Setup, ShardRules, Way, sdpa};
use crate::encoding::Encoding;
use crate::estimate::{Basis, Capacity, Entry, RUNNING, Stage, Term};
use crate::formula::{Expr, Source};
use crate::gpu::Vendor;
use crate::model::{ComponentKind, Model, Origin, Role};
use crate::quantity::{Bytes, Overflow};
use crate::scenario::{AttentionImplementation, CacheImplementation, KvCache, Version, Weights};
use crate::weight_format::Method;
use crate::weights::{Form, Stored, stored};

pub(super) use plans::has_plan;

pub(super) struct Transformers;

/// What is known of it before it computes anything.
pub(super) static FACTS: Facts = Facts { label: "transformers", fraction: None, ways: &[Way::Pipeline] };

impl Engine for Transformers {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn newest(&self) -> Version {
        Version(5, 23, 0)
    }

    fn compute_dtype(&self, stored: Encoding) -> Encoding {
        stored // `dtype="auto"` since 5.0
    }

    fn unpacks(&self, model: &Model) -> Option<Encoding> {
        // modeling_gguf_pytorch_utils.py: every tensor is dequantised to float32, and `dtype="auto"` follows the first one.
        (model.provenance.source == Origin::Gguf).then_some(Encoding::F32)
    }

    fn places_layers(&self) -> bool {
        true
    }

    fn unfollowed(&self, model: &Model) -> Option<&'static str> {
        const SAID: &str = "layers are counted as spread evenly over the GPUs, and parts beside the decoder on each of them: where device_map=\"auto\" puts what of a model of several parts is not known here";
        (!balance::follows(model)).then_some(SAID)
    }

    fn stages(&self, setup: &Setup, layers: u64, stages: u64) -> Vec<u64> {
        balance::stages(setup, stages).unwrap_or_else(|| even_stages(layers, stages))
    }

    fn counts_across(&self, _part: ComponentKind) -> bool {
        true
    }

    fn check(&self, setup: &Setup) -> Result<(), EstimateError> {
        if setup.scenario.kv_cache == KvCache::Fp8 && setup.scenario.serving.cache != CacheImplementation::Quantized {
            let message = "transformers keeps keys and values in the dtype of computation; an FP8 KV cache is for vLLM, or for its quantized cache (--cache-implementation)";
            return Err(EstimateError::Unsupported(message.to_owned()));
        }
        let is_of_encoder = setup.across.as_ref().is_some_and(|across| across.part.kind != ComponentKind::VisionTower);
        if is_of_encoder && setup.scenario.serving.cache == CacheImplementation::Quantized {
            return Err(EstimateError::Unsupported("transformers has no quantised cache for encoder-decoders: leave out --cache-implementation".to_owned()));
        }
        if setup.draft.is_some() && setup.scenario.serving.cache != CacheImplementation::Dynamic {
            return Err(EstimateError::Unsupported(
                "drafted tokens are counted with transformers' dynamic cache only: leave out --cache-implementation".to_owned(),
            ));
        }
        if setup.scenario.attention == AttentionImplementation::Flash
            && let Some(why) = sdpa::without_flash(setup.model)
        {
            return Err(EstimateError::Unsupported(why));
        }
        // Another version that was named is answered with a warning (`loads`).
        let is_split = setup.spread.tensor.value > 1 && setup.version == self.newest();
        if is_split && setup.model.provenance.source != Origin::Manual && !plans::has_plan(setup.model) {
            let family = &setup.model.anatomy.model_type;
            let why = if plans::has_plan_of_experts(setup.model) {
                "splits the experts of this family alone (enable_expert_parallel), which is not counted; without that every GPU would hold the whole model"
            } else {
                "every GPU would hold the whole model"
            };
            return Err(EstimateError::Unsupported(format!(
                "transformers 5.23 has no tp_plan for `{family}`: {why}; leave out --tp (--gpus gives each GPU layers of its own)"
            )));
        }
        setup.check_division(false)
    }

    fn shard_rules(&self) -> ShardRules {
        ShardRules {
            vocabulary_padding: 1,
            splits_embedding: false,
            packing: Packing::Tight,
            source: "transformers 5.23 tp_plan: projections and the head are split, embedding and norms are whole on every rank",
        }
    }

    fn kv_cache(&self, setup: &Setup) -> Result<Vec<Entry>, Overflow> {
        let mut entries = cache::entries(setup)?;
        entries.extend(encoder::entries(setup)?);
        Ok(entries)
    }

    fn on_host(&self, setup: &Setup) -> Result<Option<Entry>, Overflow> {
        cache::on_host(setup)
    }

    fn overheads(&self, setup: &Setup) -> Result<Vec<Entry>, Overflow> {
        if let Some(maps) = super::images::activations(setup)? {
            let mut entries = vec![maps, context(setup)?];
            entries.extend(workspace(setup)?);
            return Ok(entries);
        }
        let decoder = setup.model.decoder();
        let requests = || setup.batch.leaf("requests");
        let hidden = || Expr::leaf(decoder.hidden_size, "hidden_size", Source::Config("hidden_size".into()));
        let per_token = Expr::Sum(vec![feed_forward_width(setup), Expr::Product(vec![Expr::constant(4), hidden()])]);
        let layer = |tokens: Expr, cached: Expr| {
            let feed_forward = Expr::encoded(Expr::Product(vec![tokens.clone(), requests(), per_token.clone()]), setup.dtype);
            match scores(setup, vec![tokens.clone(), cached, requests()]) {
                Some(scores) => {
                    let around = Expr::encoded(Expr::Product(vec![tokens, requests(), Expr::constant(4), hidden()]), setup.dtype);
                    Expr::Max(vec![feed_forward, Expr::Sum(vec![scores, around])])
                }
                None => feed_forward,
            }
        };
        let step = Expr::Sum(vec![layer(Expr::constant(1), setup.context.leaf("tokens")), cache::copies(setup)]);
        let mut prefill = layer(step_of_prefill(setup), prompt(setup));
        if let Some(encoder) = encoder::pass(setup) {
            prefill = Expr::Max(vec![encoder, prefill]);
        }
        let mut entries = vec![
            Entry::modelled(Term::Activations, prefill, (0, 115), source_of_prefill(setup), &[Stage::Prefill])?,
            Entry::modelled(Term::Activations, step, (50, 150), "one layer of one step, with what its cache copies or unpacks meanwhile", &[Stage::Decode])?,
        ];
        entries.extend(logits(setup)?);
        entries.extend(workspace(setup)?);
        entries.extend(unpacked_matrix(setup)?);
        entries.extend(states(setup)?);
        entries.push(context(setup)?);
        entries.extend(communication(setup)?);
        Ok(entries)
    }

    fn capacity(&self, setup: &Setup, room: Bytes) -> Result<Capacity, Overflow> {
        let per_token = cache::per_token(setup)?;
        // What is read across is kept whole, however few tokens there are.
        let across = encoder::bytes_of_request(setup)?;
        let request = u128::from(per_token) * u128::from(setup.context.value) + u128::from(across);
        let hundredths = u64::try_from(u128::from(room.get()) * 100 / request.max(1)).unwrap_or(u64::MAX);
        let tokens = room.get().saturating_sub(across.saturating_mul(setup.batch.value)) / per_token;
        Ok(Capacity { kv_cache_bytes: room, kv_cache_tokens: tokens, concurrency_hundredths: hundredths })
    }
}

/// Logits of the last position. On several GPUs they are made where the head is: on the last, or on the first with a table that the
/// embedding shares (`integrations/accelerate.py:infer_auto_device_map` puts tied modules together); what the model gives goes back to
/// the first (accelerate `hooks.py`: `io_same_device`), where it is sampled from.
fn logits(setup: &Setup) -> Result<Option<Entry>, Overflow> {
    let decoder = setup.model.decoder();
    let has_head = || setup.place.is_last && decoder.tensors.iter().any(|tensor| tensor.role == Role::Head);
    let sizes = match setup.place.is_first {
        true => vec![setup.dtype, Encoding::F32],
        false if has_head() => vec![setup.dtype],
        false => return Ok(None),
    };
    let of = |encoding| {
        let vocabulary = Expr::leaf(decoder.vocab_size, "vocab_size", Source::Config("vocab_size".into()));
        Expr::encoded(Expr::Product(vec![setup.batch.leaf("requests"), vocabulary]), encoding)
    };
    let source = "generate() asks for the last position only; a float32 copy is made for sampling, on the first GPU";
    let formula = Expr::sum(sizes.into_iter().map(of).collect());
    Entry::modelled(Term::Logits, formula, (60, 150), source, &[Stage::Sampling, Stage::Decode]).map(Some)
}

/// Tokens of the prompt: what the answer leaves of the context, at least one.
fn prompt(setup: &Setup) -> Expr {
    let tokens = setup.context.value.saturating_sub(setup.answer.value).max(1);
    Expr::leaf(tokens, "tokens of the prompt", Source::Derived(format!("{} tokens less {} of the answer", setup.context.value, setup.answer.value).into()))
}

/// Tokens of one step of prefilling: the prompt, or as many as `prefill_chunk_size` allows.
fn step_of_prefill(setup: &Setup) -> Expr {
    match setup.scenario.max_num_batched_tokens {
        Some(chunk) => Expr::Min(vec![prompt(setup), Expr::leaf(chunk, "tokens of a step", Source::User("prefill_chunk_size"))]),
        None => prompt(setup),
    }
}

/// Whether attention is written out: as chosen, or because SDPA is not to be had.
fn is_eager(setup: &Setup) -> bool {
    match setup.scenario.attention {
        AttentionImplementation::Eager => true,
        AttentionImplementation::Sdpa => sdpa::is_written_out(setup.model),
        AttentionImplementation::Flash => false,
    }
}

/// What the prefill's claim is read from.
fn source_of_prefill(setup: &Setup) -> &'static str {
    match setup.scenario.attention {
        AttentionImplementation::Sdpa if is_eager(setup) && sdpa::attends_in_part(setup.model) => {
            "one layer while prefilling: transformers 5.23 has no SDPA for this family and writes attention out (eager); scores of all pairs are counted, of which it computes a part in long inputs"
        }
        AttentionImplementation::Sdpa if is_eager(setup) => {
            "one layer while prefilling: transformers 5.23 has no SDPA for this family and writes attention out (eager), so scores are counted"
        }
        _ => {
            "one layer while prefilling: 3 × feed-forward width + 4 × hidden_size per token, by the lifetimes of its tensors; -1 to +5 % in public logs of Qwen2.5 (transformers 4.46, A100). Those of Qwen3 (4.51, H20) show none of it, as when the prompt is read in chunks (prefill_chunk_size)"
        }
    }
}

/// The scores of one layer, where attention is written out (`eager_attention_forward`): in the dtype of computation, and the softmax
/// in float32, whose input is converted before unless the dtype is float16 on a GPU.
fn scores(setup: &Setup, sizes: Vec<Expr>) -> Option<Expr> {
    if !is_eager(setup) {
        return None;
    }
    let heads = setup.cache_groups().iter().filter_map(|group| group.mixer.attention()).map(|attention| attention.heads).max()?;
    let bytes = match setup.dtype {
        dtype if dtype == Encoding::F32 => 8,
        dtype if dtype == Encoding::F16 => 6,
        _ => 10,
    };
    let heads = setup.spread.per_rank(Expr::leaf(heads, "heads", Source::Config("num_attention_heads".into())));
    Some(Expr::Product(sizes.into_iter().chain([heads, Expr::named(bytes, "B per score")]).collect()))
}

/// Methods whose kernels multiply from a copy of a whole matrix in the dtype of computation.
const UNPACKING: &[Method] = &[Method::Gptq, Method::AutoRound, Method::Awq, Method::Nf4, Method::Fp4, Method::Hqq];

/// That copy, of the largest matrix; `None` where none is made.
fn unpacked_matrix(setup: &Setup) -> Result<Option<Entry>, Overflow> {
    let is_unquantised = setup.weights == Weights::AsStored && setup.model.anatomy.quantization.is_none();
    if is_unquantised || setup.weights.encoding().is_some() {
        return Ok(None);
    }
    let all = stored(setup.model, setup.weights, setup.dtype)?;
    let unpacks = |tensor: &&Stored| matches!(tensor.form, Form::Packed(scheme) if UNPACKING.contains(&scheme.method));
    let largest = all.iter().filter(unpacks).map(|tensor| tensor.matrix).max_by_key(|matrix| matrix.rows.saturating_mul(matrix.columns));
    let Some(matrix) = largest else { return Ok(None) };
    let values = Expr::Product(vec![Expr::named(matrix.rows, "outputs"), Expr::named(matrix.columns, "inputs of the largest matrix")]);
    let source = "kernels that unpack a matrix before they multiply: bitsandbytes `dequantize_4bit` for more than one token, AutoAWQ `dequantize_gemm` from 1,024 tokens on, ExLlama's `temp_dq` for GPTQ; Marlin's do not";
    Entry::modelled(Term::Workspace, Expr::encoded(values, setup.dtype), (0, 300), source, RUNNING).map(Some)
}

/// What PyTorch sets aside for cuBLAS at the first matrix product (`CUDABlas.cpp`, `parseChosenWorkspaceSize`).
fn workspace(setup: &Setup) -> Result<Option<Entry>, Overflow> {
    let (kib, source) = match setup.card.gpu {
        Some(gpu) if gpu.vendor != Vendor::Nvidia => return Ok(None),
        Some(gpu) if gpu.architecture == "Hopper" || gpu.architecture == "Blackwell" && gpu.memory_type.starts_with("HBM") => {
            (32 * 1024, "Hopper and Blackwell of data centres")
        }
        _ => (8 * 1024 + 128, "NVIDIA GPUs but Hopper and Blackwell of data centres"),
    };
    let formula = Expr::Product(vec![Expr::leaf(kib, "KiB", Source::Default(source.into())), Expr::constant(1024)]);
    Entry::exact(Term::Workspace, formula, Basis::Derived, "PyTorch's workspace of cuBLAS", RUNNING).map(Some)
}
