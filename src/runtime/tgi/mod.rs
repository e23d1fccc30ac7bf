//! Text Generation Inference (TGI): a prompt as long as a step may be first, then what is free of nine tenths of the card for blocks of
//! keys and values; CUDA graphs are captured in the tenth that is left.
//!
//! Read from TGI 3.3.7, its last release (in maintenance since December 2025): `server/text_generation_server/models/flash_causal_lm.py`
//! (`warmup`, `init_kv_cache`, `cuda_graph_warmup`), `models/globals.py` (`TGI_WIGGLE_ROOM`, `BLOCK_SIZE` by attention),
//! `models/__init__.py` (`head_size` of DeepSeek), `models/model.py` (`window_size=None`: no block is given up behind a window),
//! `utils/import_utils.py` (`get_cuda_free_memory`), `layers/attention/flashinfer.py` (a workspace of 128 MiB),
//! `layers/tensor_parallel.py` and `speculative.py` (a head that is the embedding is read once more), and `launcher/src/main.rs`
//! (`resolve_attention`, `compute_optimal`, `vram_maximum`, `--cuda-graphs` 1, 2, 4, 8, 16, 32). Two public logs were compared
//! (tests/measured/tgi.jsonl): what is not in its source has wide bands.

mod launcher;

use super::common::{self, Blocks, communication, context, feed_forward_width};
use super::{Defaults, Engine, EstimateError, Facts, Fraction, Known, Setup, ShardRules, across};
use crate::encoding::Encoding;
use crate::estimate::{Basis, Budget, Capacity, Entry, Ledger, RUNNING, Stage, Term};
use crate::formula::{Expr, Source};
use crate::gpu::{Card, Vendor};
use crate::model::{CacheGroup, ComponentKind, Keeps, Mixer, Model, Role};
use crate::quantity::{Bytes, Decimal, MIB, Overflow};
use crate::scenario::{Version, Weights};
use launcher::{prompt_tokens, uses_flashinfer};

pub(super) struct Tgi;

/// What is known of it before it computes anything.
pub(super) static FACTS: Facts = Facts { label: "TGI", fraction: Some(Fraction::Cuda), ways: &[] };

/// The first version whose rules are known: those before it plan without chunks of prompts.
const OLDEST: Version = Version(3, 0, 0);

/// `TGI_WIGGLE_ROOM`, what the server plans with of what it may use, in hundredths: (from this version, share), the newest first.
const WIGGLE_ROOMS: &[(Version, u64)] = &[(Version(3, 3, 0), 90), (Version(3, 1, 0), 93), (OLDEST, 95)];

/// Families with cross-attention (to images) that it has a paged cache for (`mllama_causal_lm.py`).
const CROSS_ATTENDING: &[&str] = &["mllama"];

/// `quant_method` of files with which it captures no graphs (`launcher/src/main.rs`); those of bitsandbytes it does not load.
const WITHOUT_GRAPHS: &[&str] = &["exl2"];

/// FlashInfer's workspace (`get_workspace`).
const WORKSPACE: u64 = 128 * MIB;

/// Graphs by default: the most requests of one.
const LARGEST_GRAPH: u64 = 32;

impl Engine for Tgi {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn newest(&self) -> Version {
        Version(3, 3, 7)
    }

    fn compute_dtype(&self, stored: Encoding) -> Encoding {
        // Two bytes either way: `--dtype` says which, float16 or bfloat16 by the family when it is not given.
        if stored == Encoding::F32 { Encoding::F16 } else { stored }
    }

    fn defaults(&self, known: &Known) -> Defaults {
        Defaults { utilization: Some(Decimal::new(1, 0)), step_tokens: Some(prompt_tokens(known)), step_sequences: None }
    }

    fn check(&self, setup: &Setup) -> Result<(), EstimateError> {
        common::check_not_apple(setup)?;
        common::check_kv_cache(setup)?;
        let refused = |sentence: &str| Err(EstimateError::Unsupported(sentence.to_owned()));
        if !matches!(vendor(&setup.card), Vendor::Nvidia | Vendor::Amd) {
            return refused("TGI is counted on NVIDIA and AMD cards only: choose one of those, or another runtime");
        }
        if setup.version < OLDEST {
            return refused("the rules of TGI are known from version 3.0 on: choose that or a later one");
        }
        if matches!(setup.weights, Weights::Mix(_)) {
            return refused("TGI's own server loads no GGUF files (its llama.cpp backend is llama.cpp): choose another format, or llama.cpp");
        }
        if setup.model.decoder().layers.iter().any(|run| run.layer.mixer.recurrence().is_some()) {
            return refused("TGI pages keys and values of attention only: models with recurrent layers run in vLLM, SGLang or transformers");
        }
        if let Some(sentence) = not_causal(setup.model) {
            return refused(sentence);
        }
        setup.check_division(false)
    }

    fn shard_rules(&self) -> ShardRules {
        ShardRules::of_server(1, "TGI 3.3.7 layers/tensor_parallel.py: projections, embedding and head are split, norms and routers are whole on every rank")
    }

    fn kv_cache(&self, setup: &Setup) -> Result<Vec<Entry>, Overflow> {
        let source = "TGI 3.3.7 flash_causal_lm.py: blocks for every layer over the whole context, also behind a window (model.py: window_size=None)";
        blocks(setup).entries(setup, source)
    }

    fn overheads(&self, setup: &Setup) -> Result<Vec<Entry>, Overflow> {
        let decoder = setup.model.decoder();
        let is_guess = setup.scenario.max_num_batched_tokens.is_none() && launcher::is_unread(setup.model, &setup.card);
        let step = |tokens: Expr| {
            let hidden = Expr::leaf(decoder.hidden_size, "hidden_size", Source::Config("hidden_size".into()));
            let per_token = Expr::Sum(vec![feed_forward_width(setup), Expr::Product(vec![Expr::constant(4), hidden])]);
            Expr::encoded(Expr::Product(vec![tokens, per_token]), setup.dtype)
        };
        let source = if is_guess {
            "one layer over the longest prompt (max_batch_prefill_tokens): feed-forward + 4 × hidden_size per token. The launcher computes how many tokens from intermediate_size, which no layer of this mixture of experts has and so is not kept here: 4,096 are taken, and the band is as wide as what other mixtures come to (1,200 to 33,000)"
        } else {
            "one layer over the longest prompt (max_batch_prefill_tokens), which the server tries before it counts its blocks: feed-forward (gate, up and product) + 4 × hidden_size per token, as measured for vLLM; two public logs were compared"
        };
        let (band, basis) = if is_guess { ((10, 2000), Basis::RuleOfThumb) } else { ((50, 250), Basis::Modelled) };
        let longest = Entry::modelled(Term::Activations, step(setup.step_tokens.leaf("tokens per step")), band, source, &[Stage::Prefill])?;
        let decoding = "one layer over one token of each request: feed-forward (gate, up and product) + 4 × hidden_size per token, as measured for vLLM";
        let mut entries =
            vec![Entry { basis, ..longest }, Entry::modelled(Term::Activations, step(setup.batch.leaf("requests")), (50, 250), decoding, &[Stage::Decode])?];
        let vocabulary = || Expr::leaf(decoder.vocab_size, "vocab_size", Source::Config("vocab_size".into()));
        let values = || Expr::Product(vec![setup.batch.leaf("requests"), vocabulary()]);
        let logits = Expr::Sum(vec![Expr::encoded(values(), setup.dtype), Expr::encoded(Expr::Product(vec![Expr::constant(2), values()]), Encoding::F32)]);
        let source = "TGI 3.3.7 flash_causal_lm.py (generate_token), utils/tokens.py: logits of the last position of each request, their float32 copy, and its logarithms";
        entries.push(Entry::modelled(Term::Logits, logits, (50, 300), source, &[Stage::Sampling, Stage::Decode])?);
        if uses_flashinfer(setup.model, &setup.card) {
            let workspace = Expr::leaf(WORKSPACE, "B", Source::Runtime("TGI layers/attention/flashinfer.py:get_workspace"));
            entries.push(Entry::exact(Term::Workspace, workspace, Basis::Derived, "one workspace for FlashInfer's attention", RUNNING)?);
        }
        entries.extend(tied_head(setup)?);
        entries.extend(common::rotary_table(setup, 1, setup.dtype)?);
        entries.extend(graphs(setup)?);
        entries.push(context(setup)?);
        entries.extend(communication(setup)?);
        Ok(entries)
    }

    fn budget(&self, setup: &Setup, _ledger: &Ledger) -> Result<Option<Budget>, Overflow> {
        let Some((ratio, source)) = setup.utilization.clone() else { return Ok(None) };
        let total = Expr::leaf(setup.card.usable.get(), "B", setup.card.usable_source.clone());
        let allowed = Expr::Fraction { ratio, name: Fraction::Cuda.key(), source, of: Box::new(total) };
        let wiggle = Source::Runtime("TGI models/globals.py: 0.90 by default, 0.93 before 3.3, 0.95 in 3.0");
        let hundredths = WIGGLE_ROOMS.iter().find(|(from, _)| setup.version >= *from).map_or(90, |(_, share)| *share);
        let formula = Expr::Fraction { ratio: Decimal::new(hundredths, 2), name: "TGI_WIGGLE_ROOM", source: wiggle, of: Box::new(allowed) };
        // What is free is read from the driver: the context counts, graphs come afterwards.
        Ok(Some(Budget { bytes: Bytes(formula.evaluate()?), formula, name: "TGI budget", outside: &[Term::CudaGraphs] }))
    }

    fn capacity(&self, setup: &Setup, room: Bytes) -> Result<Capacity, Overflow> {
        blocks(setup).capacity(setup, room)
    }
}

/// Why a model is none that writes text token by token, by itself; `None` of those that do.
fn not_causal(model: &Model) -> Option<&'static str> {
    let decoder = model.decoder();
    let keeps = |kept| decoder.layers.iter().any(|run| run.layer.mixer.attention().is_some_and(|attention| attention.keeps == kept));
    if decoder.kind != ComponentKind::TextDecoder || keeps(Keeps::Nothing) {
        return Some("TGI serves models that write text token by token, which this one does not: choose transformers");
    }
    let has = |kind| model.anatomy.counted().any(|part| part.kind == kind);
    if has(ComponentKind::AudioTower) {
        return Some("TGI has no model that reads sound: choose transformers");
    }
    let has_encoder = has(ComponentKind::TextEncoder) || (across::is_read(model) && !CROSS_ATTENDING.contains(&model.anatomy.model_type.as_str()));
    let sentence = "TGI pages keys and values of decoders alone; one that reads an encoder through cross-attention is not counted: choose transformers";
    has_encoder.then_some(sentence)
}

fn vendor(card: &Card) -> Vendor {
    card.gpu.map_or(Vendor::Nvidia, |gpu| gpu.vendor)
}

/// The blocks that its kernels of attention take.
fn blocks(setup: &Setup) -> Blocks {
    let capability = |gpu: &crate::gpu::Gpu| gpu.compute_capability.split('.').next().and_then(|major| major.parse::<u64>().ok());
    // Of a card that is not known newer kernels are assumed.
    let is_recent = vendor(&setup.card) == Vendor::Nvidia && setup.card.gpu.and_then(capability).is_none_or(|major| major >= 8);
    let (tokens, rule) = match (uses_flashinfer(setup.model, &setup.card), is_recent) {
        (true, _) => (1, "FlashInfer: blocks of one token"),
        (false, true) => (256, "flash decoding: blocks of 256 tokens"),
        (false, false) => (16, "paged attention: blocks of 16 tokens"),
    };
    Blocks { tokens, rule, cell }
}

/// Bytes of one token in the layers of a group on one rank.
fn cell(setup: &Setup, group: &CacheGroup) -> Expr {
    let elements = match group.mixer {
        // Latents are kept as whole keys and values, both as wide as the wider of the two; the server reads keys that DeepSeek's
        // configs do not have, and takes 128 + 64 for them.
        Mixer::Latent(latent) => vec![
            Expr::named(2, "(K and V)"),
            setup.spread.per_rank(Expr::leaf(latent.heads, "KV heads", Source::Config("num_key_value_heads".into()))),
            Expr::Max(vec![
                Expr::leaf(192, "head_size", Source::Runtime("TGI models/__init__.py: qk_nope_dim 128 + qk_rope_dim 64")),
                Expr::leaf(latent.value_dim, "v_head_dim", Source::Config("v_head_dim".into())),
            ]),
        ],
        mixer => setup.cache_elements(&mixer),
    };
    common::cell(setup, group.layers, elements)
}

/// A head that is the embedding is read from the files once more.
fn tied_head(setup: &Setup) -> Result<Option<Entry>, Overflow> {
    let decoder = setup.model.decoder();
    if decoder.tensors.iter().any(|tensor| tensor.role == Role::Head && tensor.is_matrix()) {
        return Ok(None);
    }
    let vocabulary = Expr::leaf(decoder.vocab_size, "vocab_size", Source::Config("vocab_size".into()));
    let hidden = Expr::leaf(decoder.hidden_size, "hidden_size", Source::Config("hidden_size".into()));
    let source = "TGI layers/tensor_parallel.py (TensorParallelHead): the embedding is read once more as the head, split over the ranks";
    common::copies(setup, vec![setup.spread.per_rank(Expr::Product(vec![vocabulary, hidden]))], source)
}

/// Whether graphs are captured: the launcher does not with `--quantize` bitsandbytes (its 4-bit formats are others) and exl2.
fn captures(setup: &Setup) -> bool {
    if setup.scenario.enforce_eager {
        return false;
    }
    if setup.weights == Weights::AsStored {
        return !setup.model.anatomy.quantization.as_ref().is_some_and(|quantization| WITHOUT_GRAPHS.contains(&quantization.method.as_str()));
    }
    let format = setup.weights.name();
    format != "int8" && !format.starts_with("exl2-")
}

/// Captured graphs of up to 32 requests, which share one pool.
fn graphs(setup: &Setup) -> Result<Option<Entry>, Overflow> {
    if !captures(setup) {
        return Ok(None);
    }
    let requests = || Expr::leaf(LARGEST_GRAPH, "requests", Source::Runtime("--cuda-graphs: 1, 2, 4, 8, 16, 32"));
    let tables = Expr::Product(vec![requests(), setup.context.leaf("tokens"), Expr::named(4, "B of a block's number")]);
    let vocabulary = Expr::leaf(setup.model.decoder().vocab_size, "vocab_size", Source::Config("vocab_size".into()));
    let logits = Expr::encoded(Expr::Product(vec![requests(), vocabulary]), setup.dtype);
    let own = Expr::leaf(6 * 8 * MIB, "B", Source::Default("6 graphs of 8 MiB, about vLLM's median of one; no public log of TGI was compared".into()));
    let source = "captured graphs: tables of blocks and logits of the largest (cuda_graph_warmup, in descending order from one pool), and what the driver keeps for each; behind the budget, in the tenth that is left";
    let entry = Entry::exact(Term::CudaGraphs, Expr::Sum(vec![tables, logits, own]), Basis::RuleOfThumb, source, RUNNING)?;
    let high = entry.amount.expected.plus(Bytes(1000 * MIB))?;
    Ok(Some(entry.with_band(Bytes::ZERO, high, Basis::RuleOfThumb)))
}
