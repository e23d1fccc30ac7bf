//! One layer's forward pass, written down on a tape from the layer's own modules.

mod attention;
mod conformer;
mod feed_forward;
mod recurrence;
mod span;

pub(super) use attention::{has_distances, is_table_of_distances};
pub(super) use feed_forward::takes_all_experts;

use super::modules::{Module, Parts, is_feed_forward};
use super::run::Run;
use super::tape::{Kept, Linear, NormKind, Rules, Tape, Value};
use crate::formula::{Expr, Source};
use crate::model::{Component, Computation, Layer, LayerRun, Span, Tensor};
use crate::runtime::sdpa;
use crate::scenario::{AttentionImplementation, Trainer};

/// Families whose norms have no bias and are LayerNorms all the same.
const LAYER_NORMS: &[&str] = &["mpt", "dbrx", "olmo", "modernbert"];
/// Families whose LayerNorm is written out in float32 (`CohereLayerNorm`).
const WRITTEN_LAYER_NORMS: &[&str] = &["cohere", "cohere2", "cohere2_vision", "aya_vision"];
/// Families whose RMS norms stay in float32 up to their end (`self._norm(x.float()) * (1 + self.weight.float())`).
const FLOAT_NORMS: &[&str] = &[
    "gemma",
    "recurrent_gemma",
    "diffusion_gemma",
    "embedding_gemma",
    "t5gemma",
    "vaultgemma",
    "paligemma",
    "colgemma",
    "olmo2",
    "olmo3",
    "olmo_hybrid",
    "flex_olmo",
    "qwen3_next",
    "qwen3_5",
    "qwen4_exp",
    "gpt_oss",
    "openai_privacy_filter",
    "afmoe",
    "beam",
    "deepseek_v4",
    "minimax_m3",
    "step3p7",
];
/// T5 and what is written after it: norms of its own (`T5LayerNorm`), and a dropout in feed-forwards.
const T5_KIN: &[&str] = &["t5", "mt5", "umt5", "longt5", "pix2struct", "pop2piano", "switch_transformers", "udop"];
/// Families that norm values, too, without a weight (`v_norm` with `with_scale=False`).
const VALUE_NORMS: &[&str] = &["gemma3n", "gemma4", "diffusion_gemma", "embedding_gemma2"];
/// Families that take heads apart to rotate a part of them and put them together again, whatever the part (`apply_rotary_pos_emb`).
const REJOINED: &[&str] = &[
    "bailing_hybrid",
    "bamba",
    "glm",
    "glm4",
    "glm4_moe",
    "glm4v",
    "glm4v_text",
    "glm4v_moe",
    "glm4v_moe_text",
    "glm_image",
    "glm_ocr",
    "gpt_neox",
    "laguna",
    "mimo_v2_flash",
    "minimax_m2",
    "minimax_m3",
    "minimax_m3_vl",
    "moonshine",
    "nemotron",
    "persimmon",
    "phi",
    "phi3",
    "phi4_multimodal",
    "phi4mm",
    "qwen3_5",
    "qwen3_5_text",
    "qwen3_5_moe",
    "qwen3_5_moe_text",
    "qwen3_next",
    "recurrent_gemma",
    "stablelm",
    "step3p7",
    "zaya",
];
/// Families that rotate whole heads where their config says less: the rest by an angle of zero.
const WHOLE: &[&str] = &["gemma4", "embedding_gemma2", "diffusion_gemma"];
/// Families whose attention and feed-forward read the same hidden state through norms of their own.
const PARALLEL: &[&str] = &["gpt_neox", "falcon"];
/// Families whose softmax is in the type of its scores when attention is written out (transformers 5.23 `eager_attention_forward`).
#[rustfmt::skip]
const LOW_SOFTMAX: &[&str] = &[
    "albert", "bart", "bert", "bert-generation", "big_bird", "bigbird_pegasus", "biogpt", "blenderbot", "blenderbot-small", "bridgetower", "camembert",
    "canine", "convbert", "ctrl", "cvt", "data2vec-audio", "data2vec-text", "deberta", "deberta-v2", "deepseek_v4", "detr", "dinov2", "dinov2_with_registers",
    "dinov3_vit", "distilbert", "donut-swin", "dpt", "electra", "ernie", "esm", "flava", "fsmt", "git", "glpn", "gpt2", "gpt_neox_japanese", "gpt_oss", "gte",
    "hiera", "hubert", "hy_v4", "jina_embeddings_v3", "kosmos-2", "levit", "llama4", "llama4_text", "longt5", "luke", "lxmert", "m2m_100", "marian", "mbart",
    "megatron-bert", "mimo_v2_flash", "mobilebert", "mobilevit", "mpnet", "mt5", "musicgen", "musicgen_melody", "mvp", "nllb-moe", "nomic_bert", "openai-gpt",
    "owlvit", "pegasus", "pegasus_x", "pix2struct", "plbart", "pop2piano", "pvt", "pvt_v2", "rembert", "roberta", "roberta-prelayernorm", "roc_bert",
    "roformer", "seamless_m4t", "seamless_m4t_v2", "speech_to_text", "speecht5", "squeezebert", "swinv2", "switch_transformers", "t5", "table-transformer",
    "tapas", "timesformer", "trocr", "udop", "umt5", "unispeech", "unispeech-sat", "videomae", "visual_bert", "vitdet", "wav2vec2", "wav2vec2-bert",
    "wav2vec2-conformer", "whisper", "xlm-roberta", "xlm-roberta-xl", "xlnet", "xmod", "yolos",
];
/// Families that make a mask where one that hides later tokens alone would do (`allow_is_causal_skip=False` in transformers 5.23): `ALiBi` may be
/// added to it, or what an indexer chose, of which some layers have none of their own.
const ALWAYS_MASKED: &[&str] = &["falcon", "mistral_large4", "mistral_large4_text", "glm_moe_dsa", "deepseek_v32", "axk2"];
/// Families that make a mask of numbers for every head out of the values (`DogeAttention.prepare_dynamic_mask`).
const MASKED_BY_HEAD: &[&str] = &["doge"];
/// Families that take keys and values out of one product by lists of indices, which copies them (`FalconAttention._split_heads`).
const INDEXED: &[&str] = &["falcon"];

/// Whether attention is written out though another way is asked for.
pub(super) fn falls_back_to_eager(run: &Run) -> bool {
    // Unsloth has its own ways (flex attention).
    let is_written_out = || run.trainer != Trainer::Unsloth && sdpa::is_written_out(run.model);
    match run.scenario.attention {
        AttentionImplementation::Eager => false,
        AttentionImplementation::Sdpa => is_written_out(),
        AttentionImplementation::Flash => is_written_out() && sdpa::without_flash(run.model).is_some(),
    }
}

/// What is said of flash attention where a family does not have it: other trainers and versions may.
pub(super) fn without_flash(run: &Run) -> Option<String> {
    let is_chosen = run.scenario.attention == AttentionImplementation::Flash && run.trainer != Trainer::Unsloth;
    is_chosen.then(|| sdpa::without_flash(run.model)).flatten()
}

/// True when a family, or a model around it, is in the list.
fn is_any(model_type: &str, families: &[&str]) -> bool {
    families.iter().any(|family| {
        model_type.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with(|next: char| next == '_' || next.is_ascii_digit()))
    })
}

/// True when softmax is computed in float32 where attention is written out: of a decoder inside of another model by its own type.
pub(super) fn softmax_in_float32(run: &Run) -> bool {
    !run.model.anatomy.types().iter().any(|model_type| LOW_SOFTMAX.contains(model_type))
}

/// The kind of a norm.
pub(super) fn norm_kind(model_type: &str, norm: &Module<'_>) -> NormKind {
    if WRITTEN_LAYER_NORMS.contains(&model_type) {
        NormKind::LayerFloat
    } else if norm.has_bias || LAYER_NORMS.contains(&model_type) {
        NormKind::Layer
    } else if is_any(model_type, FLOAT_NORMS) {
        NormKind::RmsFloat
    } else if is_any(model_type, T5_KIN) {
        NormKind::RmsWidened
    } else {
        NormKind::Rms
    }
}

/// GELU by tanh: one operator of PyTorch, `0.5 x (1 + tanh(c (x + 0.044715 x^3)))` in transformers 5.23 `activations.py`.
const TANH_GELU: &[&str] = &["gelu_new", "gelu_fast", "gated-gelu"];

/// Whether transformers writes a model's activation function out that is an operator of PyTorch.
pub(super) fn is_written_out(computation: &Computation) -> bool {
    TANH_GELU.contains(&computation.activation.as_str())
}

/// Whether queries of heads of this size are put together of a rotated part and the rest (`torch.cat`): their heads then lie one after
/// the other, as do those of an attention's result, and what the output projection reads is a copy in the order of tokens.
fn rejoins(run: &Run, head: u64) -> bool {
    let anatomy = &run.model.anatomy;
    let is_partial = anatomy.rotary.is_some_and(|rotary| rotary.width < head);
    REJOINED.contains(&anatomy.model_type.as_str()) || is_partial && !is_any(&anatomy.model_type, WHOLE)
}

/// A layer as it is walked.
pub(super) struct Walk<'a, 'r> {
    pub run: &'a Run<'a>,
    pub tape: Tape<'r>,
    component: &'a Component,
    layer: Layer,
    tensors: &'a [Tensor],
    is_trained: bool,
}

/// What a layer keeps, and whether gradients flow out of it.
pub(super) struct Walked {
    pub kept: Kept,
    pub flows: bool,
}

/// One layer of a run. `flows` says whether its input needs a gradient; `is_trained` whether its weights are.
pub(super) fn walk(run: &Run, rules: &Rules, component: &Component, layers: &LayerRun, is_trained: bool, flows: bool) -> Walked {
    let mut walk = Walk { run, tape: Tape::new(rules), component, layer: layers.layer, tensors: &layers.tensors, is_trained };
    let parts = Parts::of(&layers.tensors, component.hidden_size);
    let width = walk.hidden();
    let stream = walk.tape.value(width, rules.stream(), flows);
    walk.tape.select(stream);
    let end = if conformer::is_conformer(layers, component.hidden_size) { walk.conformer(&layers.tensors, stream) } else { walk.blocks(&parts, stream) };
    let (flows, has_input) = (walk.tape.needs_gradient(end), walk.tape.is_kept(stream));
    Walked { kept: Kept { has_input, ..walk.tape.finish() }, flows }
}

impl<'a> Walk<'a, '_> {
    pub(super) fn hidden(&self) -> Expr {
        self.run.width(self.component.hidden_size, "hidden_size", Source::Config("hidden_size".into()), false)
    }

    /// The blocks one after the other, each behind its norm and added to the hidden state.
    fn blocks(&mut self, parts: &Parts<'a>, stream: Value) -> Value {
        let has_mlp = parts.has_experts || !parts.feed_forwards.is_empty();
        let has_recurrence = !parts.recurrence.is_empty();
        let blocks = parts.attentions.len() + usize::from(has_recurrence) + usize::from(has_mlp);
        let is_parallel = PARALLEL.contains(&self.run.model.anatomy.model_type.as_str());
        let mut norms = parts.norms.iter();
        // Norms that are more than blocks stand behind them.
        let mut behind = parts.norms.len().saturating_sub(blocks);
        let shares = parts.norms.len() < blocks && !parts.norms.is_empty();
        let (mut at, mut normed) = (stream, None);
        for (index, block) in (0..blocks).map(|index| (index, Block::nth(index, parts.attentions.len(), has_recurrence))) {
            let reads = if is_parallel || shares && normed.is_none() { stream } else { at };
            // Blocks without a norm of their own read what the one before read; a feed-forward comes last, with the last norm.
            let is_own = !shares || normed.is_none() || index + 1 == blocks && norms.len() > 0;
            let input = match normed {
                Some(input) if !is_own => input,
                _ => match norms.next() {
                    Some(norm) => self.norm(reads, norm),
                    None => self.plain_norm(reads),
                },
            };
            normed = Some(input);
            let mut result = match block {
                Block::Attention(index) => self.attention(input, &parts.attentions[index]),
                Block::Recurrence => self.recurrence(input, &parts.recurrence),
                Block::FeedForward => self.feed_forwards(input, parts),
            };
            if behind > 0
                && let Some(norm) = norms.next()
            {
                behind -= 1;
                result = self.norm(result, norm);
            }
            let result = self.tape.dropout(result);
            let flows = self.tape.needs_gradient(at) || self.tape.needs_gradient(result);
            at = self.tape.value(self.hidden(), self.tape.rules.stream(), flows);
        }
        // Norms around experts that run beside a feed-forward (Gemma 4) read values of their own.
        for norm in norms {
            let own = self.tape.like(at, self.hidden());
            self.norm(own, norm);
        }
        // Nothing flows back through the choice of an indexer.
        for other in parts.others.iter().filter(|other| !other.path.contains("indexer")) {
            let inputs = self.run.width(other.columns, "inputs", shape_of(other), false);
            let input = self.tape.like(at, inputs);
            let result = self.linear(input, other, "outputs", false);
            if self.tape.needs_gradient(result) {
                self.tape.save(result);
            }
        }
        at
    }

    pub(super) fn norm(&mut self, input: Value, norm: &Module<'a>) -> Value {
        let kind = norm_kind(&self.run.model.anatomy.model_type, norm);
        self.tape.norm(input, kind, &Expr::constant(1), self.trains(norm))
    }

    /// A norm without a weight (OLMo, HRM-Text), or none.
    fn plain_norm(&mut self, input: Value) -> Value {
        let kind = match self.run.model.anatomy.model_type.as_str() {
            "olmo" => NormKind::Layer,
            "hrm_text" => NormKind::RmsFloat,
            _ => return input,
        };
        // `OlmoLayerNorm`, `HrmTextRMSNorm`: on float32 values.
        let bytes = self.tape.bytes(input);
        let wide = self.tape.cast(input, 4);
        let normed = self.tape.norm(wide, kind, &Expr::constant(1), false);
        self.tape.cast(normed, bytes)
    }

    pub(super) fn trains(&self, module: &Module<'_>) -> bool {
        self.run.learns(module.role, self.is_trained)
    }

    pub(super) fn linear(&mut self, input: Value, module: &Module<'a>, name: &'static str, splits: bool) -> Value {
        let outputs = self.run.width(module.rows, name, shape_of(module), splits);
        let linear = self.linear_of(module, outputs);
        self.tape.linear(input, &linear)
    }

    pub(super) fn linear_of(&self, module: &Module<'a>, outputs: Expr) -> Linear {
        linear_of(self.run, module, outputs, self.is_trained)
    }
}

/// A matrix, with what adapts it; `is_trained` where its layer is.
pub(super) fn linear_of(run: &Run, module: &Module, outputs: Expr, is_trained: bool) -> Linear {
    let adapts = run.adapts(module);
    let low_rank = adapts && run.method.is_low_rank();
    Linear {
        outputs,
        is_trained: run.learns(module.role, is_trained),
        rank: low_rank.then(|| run.lora_rank.leaf("rank")),
        magnitudes: low_rank && run.has_magnitudes(),
        factors: (adapts && !low_rank).then(|| is_feed_forward(module)),
    }
}

/// A block of a layer.
enum Block {
    Attention(usize),
    Recurrence,
    FeedForward,
}

impl Block {
    const fn nth(index: usize, attentions: usize, has_recurrence: bool) -> Self {
        if index < attentions {
            Self::Attention(index)
        } else if index == attentions && has_recurrence {
            Self::Recurrence
        } else {
            Self::FeedForward
        }
    }
}

fn shape_of(module: &Module<'_>) -> Source {
    Source::Derived(format!("shape of {}", module.path).into())
}

/// Whether a span needs a mask at this length: kernels then take keys and values one per query head.
pub(super) fn needs_mask(span: Span, tokens: u64) -> bool {
    match span {
        Span::Full => false,
        Span::Sliding(reach) | Span::Chunked(reach) => tokens > reach,
    }
}
