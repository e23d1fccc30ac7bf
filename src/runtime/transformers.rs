//! Hugging Face transformers, `model.generate()` with the dynamic cache and SDPA attention.
//!
//! Rules read from transformers 5.23: `cache_utils.py` (`DynamicLayer`, `DynamicSlidingWindowLayer`), `generation/utils.py`
//! (`logits_to_keep`), `modeling_utils.py` (`dtype="auto"`, `tp_plan`).

use super::common::{communication, context, feed_forward_width, states};
use super::{Engine, EstimateError, Packing, Setup, ShardRules};
use crate::encoding::Encoding;
use crate::estimate::{Basis, Budget, Capacity, Entry, RUNNING, Stage, Term};
use crate::formula::{Expr, Source};
use crate::model::{Mixer, Model, Origin, Span};
use crate::quantity::{Bytes, Overflow};
use crate::scenario::{KvCache, Version};

pub(super) struct Transformers;

const CACHE: &str = "transformers 5.23 cache_utils.py: keys and values of every layer, grown by concatenation";

impl Engine for Transformers {
    fn label(&self) -> &'static str {
        "transformers"
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

    fn check(&self, setup: &Setup) -> Result<(), EstimateError> {
        if setup.scenario.kv_cache == KvCache::Fp8 {
            return Err(EstimateError::Unsupported("transformers keeps keys and values in the dtype of computation; an FP8 KV cache is for vLLM".to_owned()));
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
        let context = setup.context.leaf("tokens");
        let groups = setup.cache_groups();
        // Cached tokens of a layer: while prefilling all of them, afterwards at most the window less the token being written.
        let entry = |stages, is_prefill: bool| {
            let parts = groups.iter().map(|group| {
                let mut product = vec![Expr::leaf(group.layers, "layers", Source::Config("num_hidden_layers".into()))];
                product.extend(setup.cache_elements(&group.mixer));
                product.push(match group.span {
                    Span::Sliding(window) if !is_prefill => {
                        let window = Expr::leaf(window, "window", Source::Config("sliding_window".into()));
                        Expr::Min(vec![context.clone(), window.minus(Expr::constant(1))])
                    }
                    Span::Chunked(chunk) if !is_prefill => {
                        Expr::Min(vec![context.clone(), Expr::leaf(chunk, "chunk", Source::Config("attention_chunk_size".into()))])
                    }
                    Span::Sliding(_) | Span::Chunked(_) | Span::Full => context.clone(),
                });
                product.push(setup.batch.leaf("requests"));
                Expr::Product(product)
            });
            let formula = Expr::encoded(Expr::sum(parts.collect()), setup.kv_encoding);
            Entry::exact(Term::KvCache, formula, Basis::Derived, CACHE, stages)
        };
        if groups.iter().all(|group| group.span == Span::Full) {
            return Ok(vec![entry(RUNNING, false)?]);
        }
        Ok(vec![entry(&[Stage::Prefill], true)?, entry(&[Stage::Sampling, Stage::Decode], false)?])
    }

    fn overheads(&self, setup: &Setup) -> Result<Vec<Entry>, Overflow> {
        let decoder = setup.model.decoder();
        let requests = setup.batch.leaf("requests");
        let prompt = Expr::Product(vec![setup.context.leaf("tokens"), requests.clone()]);
        let width = feed_forward_width(setup);
        let hidden = || Expr::leaf(decoder.hidden_size, "hidden_size", Source::Config("hidden_size".into()));
        let per_token = Expr::Sum(vec![width, Expr::Product(vec![Expr::constant(4), hidden()])]);
        let prefill = Expr::encoded(Expr::Product(vec![prompt, per_token.clone()]), setup.dtype);
        // One step of decoding holds the old and the new keys and values of one layer while it appends.
        let largest = setup.cache_groups().into_iter().map(|group| group.mixer).max_by_key(Mixer::cache_elements_per_token);
        let mut copy = vec![requests.clone(), setup.context.leaf("tokens")];
        copy.extend(largest.map(|mixer| setup.cache_elements(&mixer)).unwrap_or_default());
        let step = Expr::Sum(vec![
            Expr::encoded(Expr::Product(vec![requests.clone(), per_token]), setup.dtype),
            Expr::encoded(Expr::Product(copy), setup.kv_encoding),
        ]);
        let vocabulary = Expr::leaf(decoder.vocab_size, "vocab_size", Source::Config("vocab_size".into()));
        let logits = Expr::Sum(vec![
            Expr::encoded(Expr::Product(vec![requests.clone(), vocabulary.clone()]), setup.dtype),
            Expr::encoded(Expr::Product(vec![requests, vocabulary]), Encoding::F32),
        ]);
        let mut entries = vec![
            Entry::modelled(
                Term::Activations,
                prefill,
                (0, 130),
                "one layer while prefilling: 3 × feed-forward width + 4 × hidden_size per token. Measured ±8 % on Qwen2.5 (transformers 4.46, A100); newer logs show much less",
                &[Stage::Prefill],
            )?,
            Entry::modelled(
                Term::Activations,
                step,
                (50, 150),
                "one layer of one step, with a second copy of its keys and values while they are concatenated",
                &[Stage::Decode],
            )?,
            Entry::modelled(
                Term::Logits,
                logits,
                (60, 150),
                "generate() asks for the last position only; a float32 copy is made for sampling",
                &[Stage::Sampling, Stage::Decode],
            )?,
        ];
        entries.extend(states(setup)?);
        entries.push(context(setup)?);
        entries.extend(communication(setup)?);
        Ok(entries)
    }

    fn budget(&self, _setup: &Setup) -> Result<Option<Budget>, Overflow> {
        Ok(None)
    }

    fn capacity(&self, setup: &Setup, room: Bytes) -> Result<Capacity, Overflow> {
        let elements = setup.cache_groups().iter().try_fold(0u64, |sum, group| {
            let layer = Expr::Product(setup.cache_elements(&group.mixer)).evaluate()?;
            sum.checked_add(layer.checked_mul(group.layers).ok_or(Overflow)?).ok_or(Overflow)
        })?;
        let per_token = setup.kv_encoding.bytes_for(elements)?.get().max(1);
        let tokens = room.get() / per_token;
        let hundredths = u128::from(tokens) * 100 / u128::from(setup.context.value);
        Ok(Capacity { kv_cache_bytes: room, kv_cache_tokens: tokens, concurrency_hundredths: u64::try_from(hundredths).unwrap_or(u64::MAX) })
    }
}
