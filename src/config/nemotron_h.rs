//! Nemotron-H and Nemotron 3: each layer is one block behind one norm: Mamba-2, attention, a feed-forward or experts without a gate.

use super::decoder::{Decoder, Draft, Head, Shape, Tensors};
use super::recurrent::{Kind, LayerTensors, Mamba2, kinds, layer_count, token_predictor};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer, Span};

const KINDS: &[Kind] = &[Kind::Recurrent, Kind::Full, Kind::Experts, Kind::Dense];

/// `NemotronHConfig` of transformers 5.23.
const DEFAULTS: &[(&str, u64)] = &[
    ("num_attention_heads", 32),
    ("num_key_value_heads", 8),
    ("head_dim", 128),
    ("intermediate_size", 21_504),
    ("ssm_state_size", 128),
    ("mamba_num_heads", 128),
    ("mamba_head_dim", 64),
    ("n_groups", 8),
    ("conv_kernel", 4),
    ("num_experts", 8),
    ("num_experts_per_tok", 2),
    ("moe_intermediate_size", 7688),
    ("moe_shared_expert_intermediate_size", 7688),
];

/// The blocks of one model.
struct Blocks {
    shape: Shape,
    mamba: Mamba2,
    mlp_bias: bool,
    intermediate: u64,
    experts: u64,
    active: u64,
    expert_width: u64,
    shared_width: u64,
    /// Experts may work on a narrower latent.
    latent: Option<u64>,
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(DEFAULTS);
    let kinds = match pattern(f, "layers_block_type", "hybrid_override_pattern")? {
        Some(kinds) => kinds,
        None => return Err(ConfigError::Missing { key: "hybrid_override_pattern", model_type: f.model_type() }),
    };
    // The class takes the pattern's length; a file whose number differs is not what it seems.
    let layers = layer_count(f, kinds.len() as u64)?;
    if f.optional_count("num_hidden_layers")?.is_some_and(|stated| stated != layers) {
        return Err(f.impossible("num_hidden_layers", "it must be the length of the layer pattern"));
    }
    let heads = f.count("num_attention_heads")?;
    let kv_heads = f.optional_count("num_key_value_heads")?.unwrap_or(heads);
    if !heads.is_multiple_of(kv_heads) {
        return Err(f.impossible("num_key_value_heads", "it must divide `num_attention_heads`"));
    }
    f.touch("attention_head_dim");
    let shape = Shape { hidden: f.count("hidden_size")?, layers, vocab: f.count("vocab_size")?, heads, kv_heads, head_dim: f.count("head_dim")? };
    let blocks = blocks(f, shape)?;
    let built = kinds.iter().map(|&kind| blocks.layer(kind)).collect();
    let tensors = Tensors::default().embedding("backbone.embeddings", shape.vocab, shape.hidden).norm("backbone.norm_f", shape.hidden, false).build();
    let decoder =
        Decoder { shape, base: "backbone", layer_prefix: "backbone.layers", tensors, layers: built, head: Head::ByArchitecture, head_module: "lm_head", tied_by_default: false };
    let draft = Draft::from(decoder);
    let predictors = f.optional_count_or_zero("num_nextn_predict_layers")?.unwrap_or(0);
    let predicted = pattern(f, "mtp_layers_block_type", "mtp_hybrid_override_pattern")?.unwrap_or_else(|| vec![Kind::Full, Kind::Experts]);
    if predictors == 0 || predicted.is_empty() {
        return Ok(draft);
    }
    let mut layers = Vec::new();
    for _ in 0..layer_count(f, predictors)? {
        for (number, &kind) in predicted.iter().enumerate() {
            let (layer, tensors) = blocks.layer(kind);
            let mut t = Tensors::default();
            if number == 0 {
                t.norms(&["enorm", "hnorm"], shape.hidden).linear("eh_proj", 2 * shape.hidden, shape.hidden, false);
            }
            if number + 1 == predicted.len() {
                t.norm("final_layernorm", shape.hidden, false);
            }
            layers.push((layer, t.build().into_iter().chain(tensors).collect()));
        }
    }
    Ok(draft.with(token_predictor(&shape, "mtp.layers", Vec::new(), layers)))
}

/// A pattern as a list of kinds, or as a text of one letter per layer.
fn pattern(f: &Fields, list: &str, letters: &str) -> Result<Option<Vec<Kind>>, ConfigError> {
    let spelled = f.optional_text(letters)?;
    for list in [list, "layer_types"] {
        // The second spelling is the main pattern's only.
        if list == "layer_types" && letters != "hybrid_override_pattern" {
            continue;
        }
        if let Some(kinds) = kinds(f, list, KINDS)? {
            return Ok(Some(kinds));
        }
    }
    let kind = |letter| match letter {
        'M' => Some(Kind::Recurrent),
        '*' => Some(Kind::Full),
        'E' => Some(Kind::Experts),
        '-' => Some(Kind::Dense),
        _ => None,
    };
    let Some(spelled) = spelled else { return Ok(None) };
    let kinds: Option<Vec<Kind>> = spelled.chars().map(kind).collect();
    kinds.map(Some).ok_or_else(|| f.impossible(letters, "its letters must be M (Mamba-2), * (attention), - (feed-forward) or E (experts)"))
}

fn blocks(f: &Fields, shape: Shape) -> Result<Blocks, ConfigError> {
    // Older spellings win, as in the class.
    let renamed = |older: &'static str, key: &'static str| Ok::<_, ConfigError>(f.optional_count(older)?.map_or_else(|| f.count(key), Ok)?);
    let (heads, head_dim) = (f.count("mamba_num_heads")?, f.count("mamba_head_dim")?);
    let bias = f.flag("use_bias", false)?;
    let mamba = Mamba2 {
        hidden: shape.hidden,
        inner: heads.saturating_mul(head_dim),
        heads,
        head_dim,
        groups: renamed("mamba_n_groups", "n_groups")?,
        state: f.count("ssm_state_size")?,
        kernel: renamed("mamba_d_conv", "conv_kernel")?,
        conv_bias: f.flag("mamba_conv_bias", f.flag("use_conv_bias", true)?)?,
        in_bias: bias,
        out_bias: bias,
        gated_norm: true,
    };
    // Read by no layer of the class: attention has no biases, the width is heads times their size, the shared experts are one.
    for unread in ["attention_bias", "expand", "mamba_expand", "mamba_proj_bias", "n_shared_experts", "sliding_window"] {
        f.touch(unread);
    }
    let experts = f.count("num_experts")?;
    Ok(Blocks {
        shape,
        mamba,
        mlp_bias: f.flag("mlp_bias", false)?,
        intermediate: f.count("intermediate_size")?,
        experts,
        active: f.active_experts(experts, 2.min(experts))?,
        expert_width: f.count("moe_intermediate_size")?,
        shared_width: f.count("moe_shared_expert_intermediate_size")?,
        latent: f.optional_count("moe_latent_size")?,
    })
}

impl Blocks {
    fn layer(&self, kind: Kind) -> LayerTensors {
        let mut t = Tensors::default();
        let hidden = self.shape.hidden;
        t.norm("norm", hidden, false);
        let (mut mixer, mut feed_forward) = (Mixer::None, FeedForward::None);
        match kind {
            Kind::Recurrent => {
                self.mamba.tensors(&mut t, "mixer");
                mixer = Mixer::Recurrent(self.mamba.recurrence());
            }
            Kind::Full | Kind::Sliding | Kind::Hybrid => {
                let (queries, keys) = (self.shape.heads.saturating_mul(self.shape.head_dim), self.shape.kv_heads.saturating_mul(self.shape.head_dim));
                t.linear("mixer.q_proj", hidden, queries, false)
                    .linear("mixer.k_proj", hidden, keys, false)
                    .linear("mixer.v_proj", hidden, keys, false)
                    .linear("mixer.o_proj", queries, hidden, false);
                mixer = Mixer::Attention(self.shape.attention(Span::Full));
            }
            Kind::Dense => {
                self.feed_forward(&mut t, "mixer", self.intermediate);
                feed_forward = FeedForward::Dense { intermediate: self.intermediate, gated: false };
            }
            Kind::Experts => {
                let inputs = self.latent.unwrap_or(hidden);
                t.linear("mixer.gate", hidden, self.experts, false)
                    .experts("mixer.experts.{}.up_proj", self.experts, inputs, self.expert_width)
                    .experts("mixer.experts.{}.down_proj", self.experts, self.expert_width, inputs);
                self.feed_forward(&mut t, "mixer.shared_experts", self.shared_width);
                if let Some(latent) = self.latent {
                    t.linear("mixer.fc1_latent_proj", hidden, latent, self.mlp_bias).linear("mixer.fc2_latent_proj", latent, hidden, self.mlp_bias);
                }
                feed_forward =
                    FeedForward::MixtureOfExperts { experts: self.experts, active: self.active, intermediate: self.expert_width, shared: self.shared_width };
            }
        }
        (Layer { mixer, feed_forward }, t.build())
    }

    fn feed_forward(&self, t: &mut Tensors, at: &str, width: u64) {
        t.linear(&format!("{at}.up_proj"), self.shape.hidden, width, self.mlp_bias).linear(&format!("{at}.down_proj"), width, self.shape.hidden, self.mlp_bias);
    }
}
