//! What each layer is: its heads from the metadata, everything else from the shapes of its own tensors.
//!
//! No detour through the fields of a config.json: what a file leaves out would be filled with the defaults of some class. The
//! shapes leave little to say, and what they cannot say (heads, windows, states) is in keys that are the same for all
//! architectures (llama.cpp 0c1e57098, `src/llama-model.cpp`, `load_hparams`; `src/llama-hparams.cpp`, `n_embd_r` and `n_embd_s`).

use super::GgufError;
use super::arch::{self, Slides};
use super::metadata::Keys;
use crate::format::grouped;
use crate::model::{Attention, FeedForward, Keeps, LatentAttention, Layer, Mixer, Recurrence, RecurrenceKind, Span, Tensor};

/// The most of anything that is multiplied with a width: heads, experts, taps of a convolution.
const MAX_COUNT: u64 = 1 << 20;

/// The widest that is read: with [`MAX_COUNT`] of them still far from 2^64.
const MAX_WIDTH: u64 = 1 << 40;

/// What the layers of a stack have in common.
pub struct Layers<'a> {
    pub keys: &'a Keys<'a>,
    pub arch: &'a str,
    /// Layers of the stack, multi-token prediction left out.
    pub count: u64,
    pub hidden: u64,
    /// Encoders keep nothing.
    pub keeps: Keeps,
}

/// The tensors of one layer.
#[derive(Clone, Copy)]
struct View<'a>(&'a [Tensor]);

impl<'a> View<'a> {
    fn find(self, name: &str) -> Option<&'a Tensor> {
        self.0.iter().find(|tensor| tensor.name == name)
    }

    fn has(self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn has_any(self, names: &[&str]) -> bool {
        names.iter().any(|name| self.has(name))
    }

    /// Rows of a matrix: how many values it makes.
    fn outputs(self, name: &str) -> Option<u64> {
        let tensor = self.find(name)?;
        let rows = tensor.shape.iter().rev().skip(1).try_fold(1u64, |product, &n| product.checked_mul(n));
        rows.filter(|&rows| rows <= MAX_WIDTH)
    }

    /// Columns of a matrix: how many values it takes.
    fn inputs(self, name: &str) -> Option<u64> {
        self.find(name)?.shape.last().copied().filter(|&columns| columns <= MAX_WIDTH)
    }
}

/// A layer with what its tensors and the metadata disagree on.
pub struct Read {
    pub layer: Layer,
    pub doubt: Option<String>,
}

impl Layers<'_> {
    /// Layer `number` by its tensors.
    ///
    /// # Errors
    /// [`GgufError`] when a key has a value that cannot be.
    pub fn layer(&self, number: u64, tensors: &[Tensor]) -> Result<Read, GgufError> {
        let view = View(tensors);
        let mut doubt = None;
        let recurrence = self.recurrence(number, view)?;
        let attention = if self.attends(number, view, recurrence.as_ref())? { Some(self.attention(number, view, &mut doubt)?) } else { None };
        let mixer = match (attention, recurrence) {
            (Some(Mixer::Attention(attention)), Some(recurrence)) => Mixer::Parallel(attention, recurrence),
            (Some(mixer), _) => mixer,
            (None, Some(recurrence)) => Mixer::Recurrent(recurrence),
            (None, None) => Mixer::None,
        };
        let feed_forward = self.feed_forward(number, view)?;
        if mixer == Mixer::None && feed_forward == FeedForward::None && doubt.is_none() {
            doubt = Some(format!("layer {number} has neither attention nor a recurrence nor a feed-forward that is known"));
        }
        Ok(Read { layer: Layer { mixer, feed_forward }, doubt })
    }

    fn heads(&self, number: u64) -> Result<(u64, u64), GgufError> {
        let heads = self.keys.of_layer("attention.head_count", number, MAX_COUNT)?.unwrap_or(0);
        Ok((heads, self.keys.of_layer("attention.head_count_kv", number, MAX_COUNT)?.unwrap_or(heads)))
    }

    /// Whether the layer has softmax attention. Some recurrences name their projections alike: then those of Mamba beside an
    /// output of attention are both there, those of other kinds are not attention.
    fn attends(&self, number: u64, view: View, recurrence: Option<&Recurrence>) -> Result<bool, GgufError> {
        let has_output = view.has_any(&["attn_output.weight", "attn_out.weight", "attn_o.weight", "attn_output_b.weight"]);
        let (heads, kv_heads) = self.heads(number)?;
        let is_beside = recurrence.is_none_or(|recurrence| matches!(recurrence.kind, RecurrenceKind::Mamba1 | RecurrenceKind::Mamba2));
        Ok(has_output && heads > 0 && kv_heads > 0 && is_beside)
    }

    fn attention(&self, number: u64, view: View, doubt: &mut Option<String>) -> Result<Mixer, GgufError> {
        let (heads, kv_heads) = self.heads(number)?;
        let span = self.span(number)?;
        let stated = |key: &str, of_window: &str| self.stated(span, key, of_window);
        let (key_length, value_length) = (
            stated("attention.key_length", "attention.key_length_swa")?.unwrap_or(self.hidden / heads),
            stated("attention.value_length", "attention.value_length_swa")?.unwrap_or(self.hidden / heads),
        );
        if let (Some(rank), Some(made)) = (stated("attention.kv_lora_rank", "attention.kv_lora_rank_swa")?, view.outputs("attn_kv_a_mqa.weight")) {
            return self.latent(view, span, (heads, rank, made), (key_length, value_length));
        }
        let mut of_head = |name: &str, stated: u64| match view.outputs(name) {
            Some(rows) if rows.is_multiple_of(kv_heads) => rows / kv_heads,
            Some(rows) => {
                *doubt = Some(format!("`{name}` of layer {number} has {} rows, which its {kv_heads} heads do not divide", grouped(rows)));
                stated
            }
            None => stated,
        };
        let key_dim = of_head("attn_k.weight", key_length);
        let value_dim = of_head("attn_v.weight", if view.has("attn_k.weight") && !view.has("attn_v.weight") { key_dim } else { value_length });
        if let Some(rows) = view.outputs("attn_qkv.weight") {
            let expected = heads * key_dim + kv_heads * (key_dim + value_dim);
            if rows != expected {
                *doubt = Some(format!("`attn_qkv.weight` of layer {number} has {} rows where the heads give {}", grouped(rows), grouped(expected)));
            }
        }
        if !heads.is_multiple_of(kv_heads) {
            *doubt = Some(format!("the {heads} heads of layer {number} are no multiple of its {kv_heads} heads of keys and values"));
        }
        let keeps = if self.keeps == Keeps::Own && number >= self.layers_with_own_cache()? { Keeps::Shared } else { self.keeps };
        Ok(Mixer::Attention(Attention { heads, kv_heads, key_dim, value_dim, span, keeps }))
    }

    /// A size that layers with a window may have of their own.
    fn stated(&self, span: Span, key: &str, of_window: &str) -> Result<Option<u64>, GgufError> {
        let own = if span == Span::Full { None } else { self.keys.count(of_window, MAX_COUNT)? };
        Ok(own.or(self.keys.count(key, MAX_COUNT)?))
    }

    /// Multi-head latent attention. Newer files state the sizes of heads as they are cached (`key_length` = rank + rotary part)
    /// and, under other keys, as they are computed.
    fn latent(&self, view: View, span: Span, (heads, kv_lora_rank, made): (u64, u64, u64), lengths: (u64, u64)) -> Result<Mixer, GgufError> {
        let rope_dim = made.checked_sub(kv_lora_rank).ok_or_else(|| self.keys.wrong("attention.kv_lora_rank", "it is more than `attn_kv_a_mqa` makes"))?;
        let key = self.stated(span, "attention.key_length_mla", "attention.key_length_mla_swa")?.unwrap_or(lengths.0);
        let value_dim = self.stated(span, "attention.value_length_mla", "attention.value_length_mla_swa")?.unwrap_or(lengths.1);
        let has_indexer = view.0.iter().any(|tensor| tensor.name.starts_with("indexer."));
        let indexer = if has_indexer { self.keys.count("attention.indexer.key_length", MAX_COUNT)?.unwrap_or(0) } else { 0 };
        Ok(Mixer::Latent(LatentAttention { heads, kv_lora_rank, rope_dim, nope_dim: key.saturating_sub(rope_dim), value_dim, indexer, span }))
    }

    /// Layers from here on read the cache of an earlier one.
    fn layers_with_own_cache(&self) -> Result<u64, GgufError> {
        let shared = self.keys.count("attention.shared_kv_layers", MAX_COUNT)?;
        Ok(match (shared, arch::layers_with_own_cache(self.arch)) {
            (Some(shared), _) => self.count.saturating_sub(shared),
            (None, Some(own)) => own,
            (None, None) => self.count,
        })
    }

    /// How far back a layer sees: by the list in the file, else by the architecture's rule.
    fn span(&self, number: u64) -> Result<Span, GgufError> {
        let stated = self.keys.count("attention.sliding_window", MAX_WIDTH)?;
        let slides = arch::slides(self.arch);
        let default = match slides {
            Some(Slides::AllButOneOf { window, .. }) => window,
            Some(Slides::Chunks) => Some(8192),
            _ => None,
        };
        let Some(window) = stated.or(default).filter(|&window| window > 0 && slides != Some(Slides::None)) else { return Ok(Span::Full) };
        let (pattern, period) = self.keys.list_or_count("attention.sliding_window_pattern", number)?;
        let is_full = match (pattern, slides) {
            (Some(slides), _) => slides == 0,
            (None, Some(Slides::AllButOneOf { period: usual, full_first, .. })) => {
                let period = period.unwrap_or(usual).max(1);
                number % period == if full_first { 0 } else { period - 1 }
            }
            (None, Some(Slides::Chunks)) => number % 4 == 3,
            (None, Some(Slides::All)) => false,
            (None, Some(Slides::None) | None) => true,
        };
        Ok(match slides {
            _ if is_full => Span::Full,
            Some(Slides::Chunks) => Span::Chunked(8192),
            _ => Span::Sliding(window),
        })
    }

    /// Whether the file has a window and nothing says for which layers.
    pub fn has_unplaced_window(&self) -> Result<bool, GgufError> {
        let window = self.keys.count("attention.sliding_window", MAX_WIDTH)?.unwrap_or(0);
        Ok(window > 0 && arch::slides(self.arch).is_none() && self.keys.list_or_count("attention.sliding_window_pattern", 0)?.0.is_none())
    }

    /// The recurrence of a layer, if it has one.
    fn recurrence(&self, number: u64, view: View) -> Result<Option<Recurrence>, GgufError> {
        let convolution = |name: &str| (view.outputs(name).unwrap_or(0), view.inputs(name).unwrap_or(0).min(MAX_COUNT));
        let recurrence = |kind, (conv_channels, conv_kernel), state| Some(Recurrence { kind, conv_channels, conv_kernel, state, state_dtype: None });
        if view.has("shortconv.conv.weight") {
            return Ok(recurrence(RecurrenceKind::ShortConvolution, convolution("shortconv.conv.weight"), 0));
        }
        if view.has("ssm_conv1d_q.weight") {
            let (channels, kernel) = convolution("ssm_conv1d_q.weight");
            let head = self.keys.count("kda.head_dim", MAX_COUNT)?.unwrap_or(0);
            return Ok(recurrence(RecurrenceKind::KimiDelta, (3 * channels, kernel), channels * head));
        }
        if view.has("ssm_conv1d.weight") {
            let (inner, state) = (self.keys.required("ssm.inner_size", MAX_WIDTH)?, self.keys.required("ssm.state_size", MAX_COUNT)?);
            let kind = match () {
                () if view.has_any(&["ssm_ba.weight", "ssm_alpha.weight", "ssm_beta.weight"]) => RecurrenceKind::GatedDeltaNet,
                () if view.has("ssm_x.weight") && self.keys.count("ssm.group_count", MAX_COUNT)?.is_none_or(|groups| groups == 0) => RecurrenceKind::Mamba1,
                () => RecurrenceKind::Mamba2,
            };
            return Ok(recurrence(kind, convolution("ssm_conv1d.weight"), inner * state));
        }
        if view.has("time_mix_output.weight") {
            let head = self.keys.required("wkv.head_size", MAX_COUNT)?;
            let shifts = self.keys.count("token_shift_count", MAX_COUNT)?.unwrap_or(2);
            return Ok(recurrence(RecurrenceKind::Rwkv, (0, 0), self.hidden * head + shifts * self.hidden));
        }
        // Attention's tensors, but one matrix per head as the state.
        let (listed, interval) = (self.keys.list_or_count("attention.recurrent_layers", number)?.0, self.keys.count("full_attention_interval", MAX_COUNT)?);
        let is_linear = match (listed, interval) {
            (Some(listed), _) => listed != 0,
            (None, Some(interval)) => !(number + 1).is_multiple_of(interval.max(1)),
            (None, None) => false,
        };
        let (heads, _) = self.heads(number)?;
        if !is_linear || heads == 0 {
            return Ok(None);
        }
        let head = self.keys.count("attention.key_length", MAX_COUNT)?.unwrap_or(self.hidden / heads).min(MAX_COUNT);
        Ok(recurrence(RecurrenceKind::Linear, (0, 0), heads * head * head))
    }

    fn feed_forward(&self, number: u64, view: View) -> Result<FeedForward, GgufError> {
        let width = |names: &[&str]| names.iter().find_map(|name| view.inputs(name));
        let dense = width(&["ffn_down.weight", "channel_mix_value.weight"]);
        // The experts of old files stand one by one.
        let Some(intermediate) = width(&["ffn_down_exps.weight", "ffn_down.{}.weight"]) else {
            return Ok(dense.map_or(FeedForward::None, |intermediate| {
                // Gate and up projection may be one matrix.
                let up = view.outputs("ffn_up.weight").unwrap_or(0);
                let gated = view.has("ffn_gate.weight") || up == 2 * intermediate;
                FeedForward::Dense { intermediate, gated }
            }));
        };
        let experts = self.keys.required("expert_count", MAX_COUNT)?;
        let active = self.keys.of_layer("expert_used_count", number, MAX_COUNT)?.unwrap_or(experts);
        if active > experts || experts == 0 {
            return Err(self.keys.wrong("expert_used_count", "it cannot be more than the number of experts"));
        }
        let shared = width(&["ffn_down_shexp.weight"]).unwrap_or(0) + dense.unwrap_or(0);
        Ok(FeedForward::MixtureOfExperts { experts, active, intermediate, shared })
    }
}
