//! SGLang: a static share of the card for weights and pools of tokens, the rest for everything else.
//!
//! Read from SGLang 0.5.23: `arg_groups/memory_hook.py` (defaults), `model_executor/pool_configurator.py` (sizes of tokens),
//! `mem_cache/kv_cache_configurator.py` (what is left for the pools, states), `layers/rotary_embedding/base.py`. "Init torch
//! distributed" says 0.13 GB on four GPUs on PCIe, 1.0 on two H200, 1.8 to 2.0 on eight.

mod defaults;

use super::across::Across;
use super::common::{self, context, feed_forward_width};
use super::vllm;
use super::{Defaults, Engine, EstimateError, Facts, Fraction, Known, Setup, ShardRules, Way};
use crate::encoding::Encoding;
use crate::estimate::{ALWAYS, Basis, Budget, Capacity, Entry, Ledger, RUNNING, Stage, Term};
use crate::formula::{Expr, Source};
use crate::model::{CacheGroup, ComponentKind, Mixer, Recurrence, Role, Span};
use crate::quantity::{Bytes, MIB, Overflow};
use crate::scenario::{Version, Weights};
use crate::weight_format::Method;

pub(super) struct Sglang;

/// `swa_full_tokens_ratio`: tokens of the pool of sliding layers for each token of the pool of full ones, in tenths.
const SLIDING_TENTHS: u64 = 8;

/// `mamba_full_memory_ratio`: bytes for states for each byte of the pool of tokens, in tenths.
const STATE_TENTHS: u64 = 9;

const POOL: &str = "SGLang 0.5.23 model_executor/pool_configurator.py: pools of tokens, pages of one token";

/// What is known of it before it computes anything.
pub(super) static FACTS: Facts = Facts { label: "SGLang", fraction: Some(Fraction::Static), ways: &[Way::Pipeline, Way::Data, Way::Expert] };

impl Engine for Sglang {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn newest(&self) -> Version {
        defaults::NEWEST
    }

    fn compute_dtype(&self, stored: Encoding) -> Encoding {
        // `dtype="auto"`: float32 checkpoints are run in 16 bits.
        if stored == Encoding::F32 { Encoding::F16 } else { stored }
    }

    fn defaults(&self, known: &Known) -> Defaults {
        defaults::of(known)
    }

    fn pooled(&self) -> &'static [Term] {
        &[Term::KvCache, Term::CrossKvCache, Term::State]
    }

    fn counts_across(&self, _part: ComponentKind) -> bool {
        true
    }

    fn check(&self, setup: &Setup) -> Result<(), EstimateError> {
        common::check_not_apple(setup)?;
        common::check_kv_cache(setup)?;
        setup.check_division(true)
    }

    fn shard_rules(&self) -> ShardRules {
        ShardRules::of_server(
            64,
            "SGLang: projections, embedding and head are split (the vocabulary padded to a multiple of 64), norms and routers are whole on every rank, KV heads are repeated when there are fewer than ranks",
        )
    }

    fn kv_cache(&self, setup: &Setup) -> Result<Vec<Entry>, Overflow> {
        let groups = setup.cache_groups();
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let requests = || setup.batch.leaf("requests");
        let tokens = || setup.context.leaf("tokens");
        // The tokens of a step are shared by all requests.
        let held = |group: &CacheGroup, is_prefill: bool| {
            let all = Expr::Product(vec![requests(), tokens()]);
            let of = |span: u64, name: &'static str, key: &'static str| {
                let span = Expr::Product(vec![requests(), Expr::leaf(span, name, Source::Config(key.into()))]);
                let span = if is_prefill { Expr::Sum(vec![span, setup.step_tokens.leaf("tokens per step")]) } else { span };
                Expr::Min(vec![all.clone(), span])
            };
            let held = match group.span {
                Span::Full => all,
                Span::Sliding(window) => of(window, "window", "sliding_window"),
                Span::Chunked(chunk) => of(chunk, "chunk", "attention_chunk_size"),
            };
            Expr::Product(vec![held, cell(setup, group)])
        };
        let entry = |is_prefill, stages| {
            let formula = Expr::sum(groups.iter().map(|group| held(group, is_prefill)).collect());
            Entry::exact(Term::KvCache, formula, Basis::Derived, POOL, stages)
        };
        if let Some(across) = &setup.across {
            return slots(setup, across);
        }
        if groups.iter().all(|group| group.span == Span::Full) {
            return Ok(vec![entry(false, RUNNING)?]);
        }
        Ok(vec![entry(true, &[Stage::Prefill, Stage::Sampling])?, entry(false, &[Stage::Decode])?])
    }

    fn overheads(&self, setup: &Setup) -> Result<Vec<Entry>, Overflow> {
        let decoder = setup.model.decoder();
        let hidden = || Expr::leaf(decoder.hidden_size, "hidden_size", Source::Config("hidden_size".into()));
        let step = |tokens: Expr| {
            let per_token = Expr::Sum(vec![feed_forward_width(setup), Expr::Product(vec![Expr::constant(4), hidden()])]);
            Expr::encoded(Expr::Product(vec![tokens, per_token]), setup.dtype)
        };
        let source =
            "one layer of one step: feed-forward (gate, up and product) + 4 × hidden_size per token, as measured for vLLM; no public log of SGLang says it";
        let mut entries = vec![
            Entry::modelled(Term::Activations, step(setup.step_tokens.leaf("tokens per step")), (60, 200), source, &[Stage::Prefill])?,
            Entry::modelled(Term::Activations, step(setup.batch.leaf("requests")), (60, 200), source, &[Stage::Decode])?,
        ];
        if setup.place.is_last {
            let vocabulary = Expr::leaf(decoder.vocab_size, "vocab_size", Source::Config("vocab_size".into()));
            let values = Expr::Product(vec![setup.batch.leaf("requests"), vocabulary]);
            let logits = Expr::Sum(vec![Expr::encoded(values.clone(), setup.dtype), Expr::encoded(values, Encoding::F32)]);
            let source = "SGLang layers/logits_processor.py: logits of the last position of each request, and their float32 copy";
            entries.push(Entry::modelled(Term::Logits, logits, (100, 300), source, &[Stage::Sampling, Stage::Decode])?);
        }
        let workspace = Expr::leaf(384 * MIB, "B", Source::Runtime("SGLANG_FLASHINFER_WORKSPACE_SIZE"));
        let source = "workspace of FlashInfer's attention; other kernels of attention take less";
        entries.push(Entry::exact(Term::Workspace, workspace, Basis::Modelled, source, RUNNING)?.with_band(Bytes(32 * MIB), Bytes(512 * MIB), Basis::Modelled));
        entries.extend(common::rotary_table(setup, 1, Encoding::F32)?);
        entries.extend(common::latent_copies(setup, "SGLang models/deepseek_v2.py: w_kc and w_vc, copies of kv_b_proj that decode uses")?);
        entries.extend(widened(setup)?);
        entries.extend(states(setup)?);
        entries.extend(graphs(setup)?);
        entries.push(context(setup)?);
        entries.extend(communication(setup)?);
        Ok(entries)
    }

    fn budget(&self, setup: &Setup, _ledger: &Ledger) -> Result<Option<Budget>, Overflow> {
        let Some((ratio, source)) = setup.utilization.clone() else { return Ok(None) };
        // What is free once the context and the communicators are there.
        let mut before = vec![context(setup)?.formula];
        before.extend(communication(setup)?.map(|entry| entry.formula));
        let total = Expr::leaf(setup.card.usable.get(), "B", setup.card.usable_source.clone());
        let before = Expr::Min(vec![Expr::sum(before), total.clone()]);
        let formula = Expr::Fraction { ratio, name: "mem_fraction_static", source, of: Box::new(total.minus(before)) };
        let outside: &[Term] = if defaults::sizes_after_capture(setup) {
            &[Term::RuntimeContext, Term::Communication, Term::Activations, Term::Logits, Term::Workspace]
        } else {
            &[Term::RuntimeContext, Term::Communication, Term::Activations, Term::Logits, Term::Workspace, Term::CudaGraphs]
        };
        Ok(Some(Budget { bytes: Bytes(formula.evaluate()?), formula, name: "SGLang static memory", outside }))
    }

    fn capacity(&self, setup: &Setup, room: Bytes) -> Result<Capacity, Overflow> {
        if let Some(across) = &setup.across {
            let slot = slot(setup, across).evaluate()?.max(1);
            let request = setup.context.value.checked_add(across.tokens.evaluate()?).ok_or(Overflow)?;
            let tokens = room.get() / slot;
            let concurrency_hundredths = u64::try_from(u128::from(tokens) * 100 / u128::from(request)).unwrap_or(u64::MAX);
            return Ok(Capacity { kv_cache_bytes: Bytes(tokens.checked_mul(slot).ok_or(Overflow)?), kv_cache_tokens: tokens, concurrency_hundredths });
        }
        let has_states = setup.model.decoder().layers.iter().any(|run| run.layer.mixer.recurrence().is_some());
        let room = if has_states { Bytes(u64::try_from(u128::from(room.get()) * 10 / u128::from(10 + STATE_TENTHS)).map_err(|_| Overflow)?) } else { room };
        let groups = setup.cache_groups();
        let has_full = groups.iter().any(|group| group.span == Span::Full);
        // Bytes of ten tokens of the main pool, with what the pool of sliding layers has for them.
        let mut ten: u64 = 0;
        for group in &groups {
            let share = if group.span == Span::Full || !has_full { 10 } else { SLIDING_TENTHS };
            let bytes = cell(setup, group).evaluate()?.checked_mul(share).ok_or(Overflow)?;
            ten = ten.checked_add(bytes).ok_or(Overflow)?;
        }
        let tokens = u64::try_from(u128::from(room.get()) * 10 / u128::from(ten.max(1))).unwrap_or(u64::MAX);
        let used = u64::try_from(u128::from(tokens) * u128::from(ten) / 10).map_err(|_| Overflow)?;
        let hundredths = u128::from(tokens) * 100 / u128::from(setup.context.value);
        Ok(Capacity { kv_cache_bytes: Bytes(used), kv_cache_tokens: tokens, concurrency_hundredths: u64::try_from(hundredths).unwrap_or(u64::MAX) })
    }
}

/// NCCL and the custom all-reduce: little on PCIe, as in vLLM.
fn communication(setup: &Setup) -> Result<Option<Entry>, Overflow> {
    if vllm::is_large(&setup.card) { common::communication(setup) } else { vllm::communication(setup) }
}

/// Keys and values of models whose decoder reads across: tokens of the encoder take slots of the same pool, before those of the text.
fn slots(setup: &Setup, across: &Across) -> Result<Vec<Entry>, Overflow> {
    let source =
        "SGLang models/whisper.py, models/mllama.py (pad_input_ids): every token of the encoder has a slot in the pool, and a slot has room in every layer";
    let of = |term, tokens: Expr| {
        let formula = Expr::Product(vec![setup.batch.leaf("requests"), tokens, slot(setup, across)]);
        Entry::exact(term, formula, Basis::Derived, source, RUNNING)
    };
    Ok(vec![of(Term::KvCache, setup.context.leaf("tokens"))?, of(Term::CrossKvCache, across.tokens.clone())?])
}

/// Bytes of a slot on one rank: keys and values of every layer with attention, those across and of an encoder of sound among them
/// (`configs/model_config.py`: `num_attention_layers` of Whisper).
fn slot(setup: &Setup, across: &Across) -> Expr {
    let mut parts: Vec<Expr> = setup.cache_groups().iter().map(|group| common::cell(setup, group.layers, setup.cache_elements(&group.mixer))).collect();
    let mut reading: Vec<(u64, Mixer)> = Vec::new();
    for (layers, run) in setup.runs() {
        let Some(mixer) = (across.mixer)(run) else { continue };
        match reading.iter_mut().find(|(_, known)| *known == mixer) {
            Some((count, _)) => *count += layers,
            None => reading.push((layers, mixer)),
        }
    }
    parts.extend(reading.iter().map(|(layers, mixer)| common::cell(setup, *layers, setup.cache_elements(mixer))));
    if let (ComponentKind::AudioTower, Some((_, mixer))) = (across.part.kind, reading.first()) {
        let layers = Expr::named(across.part.layer_count(), "layers of the encoder");
        parts.push(Expr::encoded(Expr::Product([vec![layers], setup.cache_elements(mixer)].concat()), setup.kv_encoding));
    }
    Expr::sum(parts)
}

/// Bytes of one token in the layers of a group on one rank.
fn cell(setup: &Setup, group: &CacheGroup) -> Expr {
    let own = common::cell(setup, group.layers, setup.cache_elements(&group.mixer));
    match group.mixer {
        Mixer::Latent(latent) if latent.indexer > 0 => {
            // One byte for each element and a float32 scale for each 128 of them.
            let index = Expr::Sum(vec![Expr::named(latent.indexer, "B of indexer keys"), Expr::named(4 * latent.indexer.div_ceil(128), "B of scales")]);
            Expr::Sum(vec![own, Expr::Product(vec![Expr::named(group.layers, "layers"), index])])
        }
        _ => own,
    }
}

/// What 16 bits of DeepSeek V4's `wo_a` take beside the 8 that the files have of it. Blackwell for data centres multiplies with 8
/// (`server_args.py`: `SGLANG_OPT_FP8_WO_A_GEMM` is switched off for others).
fn widened(setup: &Setup) -> Result<Option<Entry>, Overflow> {
    let of_files = setup.model.anatomy.quantization.as_ref().filter(|_| setup.weights == Weights::AsStored);
    let Some(quantization) = of_files.filter(|_| !vllm::is_large_blackwell(&setup.card)) else { return Ok(None) };
    let is_packed = |scheme: usize| quantization.schemes.get(scheme).is_some_and(|scheme| scheme.method == Method::Fp8);
    let here = &setup.place.layers;
    let parts = setup.model.anatomy.inventory().filter(|item| item.place.component == 0 && item.tensor.role == Role::OutputDown).filter_map(|item| {
        let of_item = quantization.of(item.place).iter().filter(|assigned| is_packed(assigned.scheme));
        let layers: u64 = of_item.map(|assigned| assigned.layers.end.min(here.end).saturating_sub(assigned.layers.start.max(here.start))).sum();
        (layers > 0).then(|| Expr::Product(vec![common::matrix(setup, layers, item.tensor), Expr::named(1, "B more")]))
    });
    let parts: Vec<Expr> = parts.collect();
    if parts.is_empty() {
        return Ok(None);
    }
    Entry::exact(Term::Weights, Expr::sum(parts), Basis::Derived, "SGLang models/deepseek_v4.py: wo_a is kept in bfloat16", ALWAYS).map(Some)
}

/// States of the chosen load: one slot for each request; the radix cache keeps more where there is room.
fn states(setup: &Setup) -> Result<Option<Entry>, Overflow> {
    let state = |recurrence: &Recurrence| {
        let mut parts = Vec::new();
        if recurrence.conv_channels > 0 {
            let columns = Expr::named(recurrence.conv_kernel.saturating_sub(1), "columns");
            let channels = setup.spread.per_rank(Expr::named(recurrence.conv_channels, "channels"));
            parts.push(Expr::encoded(Expr::Product(vec![channels, columns]), setup.dtype));
        }
        if recurrence.state > 0 {
            parts.push(Expr::encoded(setup.spread.per_rank(Expr::named(recurrence.state, "state elements")), recurrence.state_dtype.unwrap_or(Encoding::F32)));
        }
        Expr::sum(parts)
    };
    let Some(states) = common::per_layer_states(setup, state) else { return Ok(None) };
    let formula = Expr::Product(vec![setup.batch.leaf("requests"), states]);
    let source =
        "SGLang mem_cache: one slot of state for each request (convolution in the dtype of computation, state in float32); three to five with the radix cache";
    Entry::modelled(Term::State, formula, (100, 500), source, RUNNING).map(Some)
}

/// Captured CUDA graphs: in SGLang's own estimate, 2 MiB for each sequence of the largest.
fn graphs(setup: &Setup) -> Result<Option<Entry>, Overflow> {
    if setup.scenario.enforce_eager {
        return Ok(None);
    }
    let each = Expr::leaf(2 * MIB, "B", Source::Runtime("SGLang arg_groups/memory_hook.py:reserve_for_graph_mb"));
    let formula = Expr::Product(vec![Expr::named(defaults::graph_sequences(setup), "sequences"), each]);
    let source = "captured graphs by SGLang's own estimate; public logs: 0.06 to 0.11 GiB with few sequences, 0.6 to 1.3 with the defaults";
    let entry = Entry::exact(Term::CudaGraphs, formula, Basis::Modelled, source, RUNNING)?;
    let high = entry.amount.expected.max(Bytes(700 * MIB)).times(2)?;
    Ok(Some(entry.with_band(Bytes(60 * MIB), high, Basis::Modelled)))
}
