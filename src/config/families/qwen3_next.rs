//! Qwen3-Next and the language models of Qwen3.5: gated delta-net in three of four layers, gated attention in the fourth; experts
//! with a gated shared one, or a dense feed-forward; a multi-token-prediction module beside the model.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors};
use super::recurrent::{
    DeltaNet, GATE_UP_DOWN, Kind, LayerTensors, experts, fused_experts, gated, gated_attention, interval_kinds, layer_count, token_predictor,
};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer};

/// What differs between the three classes of transformers 5.23.
struct Variant {
    defaults: &'static [(&'static str, u64)],
    /// Qwen3-Next projects queries, keys, values and gates at once and holds its experts one by one; Qwen3.5 the other way round.
    is_next: bool,
    experts: Experts,
    /// How the config says how many layers predict further tokens.
    predictors: &'static str,
}

/// Which layers have experts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Experts {
    Never,
    Always,
    /// By `decoder_sparse_step` and `mlp_only_layers`.
    ByStep,
}

const NEXT: Variant = Variant {
    defaults: &[
        ("num_key_value_heads", 2),
        ("head_dim", 256),
        ("num_experts", 512),
        ("num_experts_per_tok", 10),
        ("moe_intermediate_size", 512),
        ("shared_expert_intermediate_size", 512),
    ],
    is_next: true,
    experts: Experts::ByStep,
    predictors: "num_nextn_predict_layers",
};

const DENSE: Variant =
    Variant { defaults: &[("num_key_value_heads", 4), ("head_dim", 256)], is_next: false, experts: Experts::Never, predictors: "mtp_num_hidden_layers" };

const SPARSE: Variant = Variant {
    defaults: &[
        ("num_key_value_heads", 2),
        ("head_dim", 256),
        ("num_experts", 256),
        ("num_experts_per_tok", 8),
        ("moe_intermediate_size", 512),
        ("shared_expert_intermediate_size", 512),
    ],
    is_next: false,
    experts: Experts::Always,
    predictors: "mtp_num_hidden_layers",
};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let mut draft = read_variant(f, &NEXT)?;
    if !f.has(NEXT.predictors) {
        draft.assumptions.push("the files also hold one layer of multi-token prediction, as the published ones do; the config does not say".to_owned());
    }
    Ok(draft)
}

pub(super) fn read_dense(f: &Fields) -> Result<Draft, ConfigError> {
    read_variant(f, &DENSE)
}

pub(super) fn read_sparse(f: &Fields) -> Result<Draft, ConfigError> {
    read_variant(f, &SPARSE)
}

/// The parts of one model's layers.
struct Blocks<'a> {
    f: &'a Fields,
    shape: Shape,
    delta: DeltaNet,
    variant: &'a Variant,
    attention_bias: bool,
    /// (experts, active, their width, the shared one's width)
    experts: Option<(u64, u64, u64, u64)>,
}

fn read_variant(f: &Fields, variant: &Variant) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(variant.defaults);
    let shape = Shape::read(f)?;
    let of_experts = match variant.experts {
        Experts::Never => None,
        _ => match f.optional_count_or_zero("num_experts")?.unwrap_or(0) {
            0 if variant.experts == Experts::Always => return Err(f.impossible("num_experts", "every layer of this family has experts")),
            0 => None,
            count => Some((count, f.active_experts(count, count)?, f.count("moe_intermediate_size")?, f.count("shared_expert_intermediate_size")?)),
        },
    };
    // Read where no layer needs it too: present in most files.
    f.optional_count_or_zero("intermediate_size")?;
    f.flag("attn_output_gate", true)?;
    let (step, dense_layers) = (f.count_or("decoder_sparse_step", 1)?, f.layer_numbers("mlp_only_layers")?);
    let delta = DeltaNet::read(f, shape.hidden)?;
    let blocks = Blocks { f, shape, delta, variant, attention_bias: f.flag("attention_bias", false)?, experts: of_experts };
    let layers = (0..shape.layers).zip(interval_kinds(f, shape.layers)?).map(|(number, kind)| {
        let is_sparse = variant.experts == Experts::Always || ((number + 1).is_multiple_of(step) && !dense_layers.contains(&number));
        blocks.layer(kind, is_sparse)
    });
    let layers = layers.collect::<Result<_, ConfigError>>()?;
    let draft = Draft::from(Decoder::llama_like(shape, layers, false));
    let has_own_embedding = f.flag("mtp_use_dedicated_embeddings", false)?;
    // Qwen3-Next's config is silent about its one layer.
    let silent = u64::from(variant.is_next);
    let predictors = layer_count(f, f.optional_count_or_zero(variant.predictors)?.unwrap_or(silent))?;
    if predictors == 0 {
        return Ok(draft);
    }
    let layers = (0..predictors).map(|_| blocks.layer(Kind::Full, variant.experts != Experts::Never)).collect::<Result<_, ConfigError>>()?;
    let mut t = Tensors::default();
    t.linear("mtp.fc", 2 * shape.hidden, shape.hidden, false).norms(&["mtp.norm", "mtp.pre_fc_norm_embedding", "mtp.pre_fc_norm_hidden"], shape.hidden);
    if has_own_embedding {
        t.embedding("mtp.embed_tokens", shape.vocab, shape.hidden);
    }
    Ok(draft.with(token_predictor(&shape, "mtp.layers", t.build(), layers)))
}

impl Blocks<'_> {
    fn layer(&self, kind: Kind, is_sparse: bool) -> Result<LayerTensors, ConfigError> {
        let mut t = Tensors::default();
        t.norms(LLAMA_NORMS, self.shape.hidden);
        let mixer = if kind == Kind::Full {
            gated_attention(&mut t, &self.shape, self.attention_bias)
        } else {
            let (keys_values, values, heads) = (self.delta.channels(), self.delta.values(), self.delta.value_heads);
            if self.variant.is_next {
                self.delta.tensors(&mut t, &[("in_proj_qkvz", keys_values.saturating_add(values)), ("in_proj_ba", 2 * heads)]);
            } else {
                self.delta.tensors(&mut t, &[("in_proj_qkv", keys_values), ("in_proj_z", values), ("in_proj_b", heads), ("in_proj_a", heads)]);
            }
            Mixer::Recurrent(self.delta.recurrence())
        };
        let hidden = self.shape.hidden;
        let feed_forward = match self.experts.filter(|_| is_sparse) {
            Some((count, active, intermediate, shared)) => {
                t.linear("mlp.gate", hidden, count, false).linear("mlp.shared_expert_gate", hidden, 1, false);
                gated(&mut t, "mlp.shared_expert", GATE_UP_DOWN, hidden, shared, false);
                if self.variant.is_next {
                    experts(&mut t, "mlp.experts", GATE_UP_DOWN, count, hidden, intermediate);
                } else {
                    fused_experts(&mut t, "mlp.experts", count, hidden, intermediate);
                }
                FeedForward::MixtureOfExperts { experts: count, active, intermediate, shared }
            }
            None => gated(&mut t, "mlp", GATE_UP_DOWN, hidden, self.f.count("intermediate_size")?, false),
        };
        Ok((Layer { mixer, feed_forward }, t.build()))
    }
}
