//! Nemotron-H and Nemotron 3: each layer is one block behind one norm: Mamba-2, attention, a feed-forward or experts without a gate.
//! The Puzzle variant gives each block sizes of its own (`block_configs`).

use super::decoder::{Decoder, Draft, Head, Shape, Tensors};
use super::recurrent::{Kind, LayerTensors, Mamba2, kinds, layer_count, token_predictor};
use super::{ConfigError, Fields};
use crate::encoding::Encoding;
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

/// Its layers where the config lists none.
const OF_CLASS: &[Kind] = &[Kind::Recurrent, Kind::Experts, Kind::Full, Kind::Dense];

/// What only layers of experts, and only recurrent ones, read.
const EXPERT_SIZES: &[&str] = &["num_experts", "num_experts_per_tok", "moe_intermediate_size", "moe_shared_expert_intermediate_size"];
const MAMBA_SIZES: &[&str] = &["ssm_state_size", "mamba_num_heads", "mamba_head_dim", "n_groups", "conv_kernel"];

/// The blocks of one model.
struct Blocks {
    shape: Shape,
    span: Span,
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
    // The authors' older files spell the size of a head in their own way.
    let f = &f.with_alias("head_dim", "attention_head_dim").with_defaults(DEFAULTS);
    let of_layers = f.optional_objects("block_configs")?;
    let listed = match of_layers.as_deref().map(of_blocks).transpose()? {
        None => pattern(f, "layers_block_type", "hybrid_override_pattern")?,
        listed => listed,
    };
    let is_default = listed.is_none();
    let kinds = listed.unwrap_or_else(|| OF_CLASS.to_vec());
    f.touch("hybrid_override_pattern");
    f.touch("layers_block_type");
    if kinds.is_empty() {
        return Err(f.impossible(if f.has("layers_block_type") { "layers_block_type" } else { "hybrid_override_pattern" }, "it must name at least one layer"));
    }
    // The class takes the pattern's length; a file whose number differs is not what it seems.
    let layers = layer_count(f, kinds.len() as u64)?;
    if f.optional_count("num_hidden_layers")?.is_some_and(|stated| stated != layers) {
        return Err(f.impossible("num_hidden_layers", "it must be the length of the layer pattern"));
    }
    let heads = f.count("num_attention_heads")?;
    let kv_heads = f.optional_count("num_key_value_heads")?.unwrap_or(heads);
    let shape = Shape { hidden: f.count("hidden_size")?, layers, vocab: f.count("vocab_size")?, heads, kv_heads, head_dim: f.count("head_dim")? };
    // The class of per-block sizes has Llama's base.
    let (base, layer_prefix) = if of_layers.is_some() { ("model", "model.layers") } else { ("backbone", "backbone.layers") };
    let built = all_layers(f, shape, &kinds, of_layers.as_deref())?;
    for (kind, keys) in [(Kind::Experts, EXPERT_SIZES), (Kind::Dense, &["intermediate_size"]), (Kind::Recurrent, MAMBA_SIZES)] {
        for key in keys.iter().filter(|_| !kinds.contains(&kind)) {
            f.not_counted(key);
        }
    }
    let tensors =
        Tensors::default().embedding(&format!("{base}.embeddings"), shape.vocab, shape.hidden).norm(&format!("{base}.norm_f"), shape.hidden, false).build();
    let decoder = Decoder { shape, base, layer_prefix, tensors, layers: built, head: Head::ByArchitecture, head_module: "lm_head", tied_by_default: false };
    let mut draft = decoder.never_tied(f)?;
    if is_default {
        draft.assumptions.push("`layers_block_type` is not in the config: the four layers of its class are counted".to_owned());
    }
    let predictors = super::experts::predictors(f)?;
    let of_predicted = f.optional_objects("mtp_block_configs")?.filter(|blocks| !blocks.is_empty());
    let predicted = match of_predicted.as_deref().map(of_blocks).transpose()? {
        Some(kinds) => kinds,
        None => pattern(f, "mtp_layers_block_type", "mtp_hybrid_override_pattern")?.unwrap_or_else(|| vec![Kind::Full, Kind::Experts]),
    };
    if predictors == 0 || predicted.is_empty() {
        return Ok(draft);
    }
    let mut layers = Vec::new();
    for _ in 0..predictors {
        for (number, (layer, tensors)) in all_layers(f, shape, &predicted, of_predicted.as_deref())?.into_iter().enumerate() {
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

/// The layers of these kinds, with the sizes of their own blocks where the config has them.
fn all_layers(f: &Fields, shape: Shape, kinds: &[Kind], of_layers: Option<&[Fields]>) -> Result<Vec<LayerTensors>, ConfigError> {
    let Some(of_layers) = of_layers else {
        let blocks = blocks(&Sizes { f, block: None }, shape)?;
        return Ok(kinds.iter().map(|&kind| blocks.layer(kind)).collect());
    };
    kinds.iter().zip(of_layers).map(|(&kind, block)| Ok(blocks(&Sizes { f, block: Some(block) }, shape)?.layer(kind))).collect()
}

/// The kinds that per-block sizes name.
fn of_blocks(of_layers: &[Fields]) -> Result<Vec<Kind>, ConfigError> {
    let kind = |block: &Fields| match block.optional_text("block_type")?.as_deref() {
        Some("mamba") => Ok(Kind::Recurrent),
        Some("attention") => Ok(Kind::Full),
        Some("moe") => Ok(Kind::Experts),
        Some("mlp") => Ok(Kind::Dense),
        _ => Err(block.impossible("block_type", "it must be mamba, attention, moe or mlp")),
    };
    of_layers.iter().map(kind).collect()
}

/// Sizes of one block: its own, else the model's.
struct Sizes<'a> {
    f: &'a Fields,
    block: Option<&'a Fields>,
}

impl Sizes<'_> {
    fn optional(&self, key: &str) -> Result<Option<u64>, ConfigError> {
        match self.block.map(|block| block.optional_count(key)).transpose()?.flatten() {
            None => self.f.optional_count(key),
            own => Ok(own),
        }
    }

    fn count(&self, key: &'static str) -> Result<u64, ConfigError> {
        self.optional(key)?.ok_or_else(|| self.f.missing(key))
    }

    /// Older spellings win, as in the class.
    fn renamed(&self, older: &'static str, key: &'static str) -> Result<u64, ConfigError> {
        match self.optional(older)? {
            None => self.count(key),
            Some(size) => Ok(size),
        }
    }
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

fn blocks(sizes: &Sizes, shape: Shape) -> Result<Blocks, ConfigError> {
    let f = sizes.f;
    let (heads, head_dim) = (sizes.count("mamba_num_heads")?, sizes.count("mamba_head_dim")?);
    let bias = f.flag("use_bias", false)?;
    let mamba = Mamba2 {
        hidden: shape.hidden,
        inner: heads.saturating_mul(head_dim),
        heads,
        head_dim,
        groups: sizes.renamed("mamba_n_groups", "n_groups")?,
        state: sizes.count("ssm_state_size")?,
        kernel: sizes.renamed("mamba_d_conv", "conv_kernel")?,
        conv_bias: f.flag("mamba_conv_bias", f.flag("use_conv_bias", true)?)?,
        in_bias: bias,
        out_bias: bias,
        gated_norm: true,
        state_dtype: Some(f.optional_dtype("mamba_ssm_cache_dtype")?.unwrap_or(Encoding::F32)),
    };
    // Read by no layer of the class: attention has no biases, the width is heads times their size, the shared experts are one.
    for unread in ["attention_bias", "expand", "mamba_expand", "mamba_proj_bias", "n_shared_experts"] {
        f.touch(unread);
    }
    let heads = sizes.count("num_attention_heads")?;
    let kv_heads = sizes.optional("num_key_value_heads")?.unwrap_or(heads);
    if !heads.is_multiple_of(kv_heads) {
        return Err(f.impossible("num_key_value_heads", "it must divide `num_attention_heads`"));
    }
    let experts = sizes.count("num_experts")?;
    let active = sizes.optional("num_experts_per_tok")?.unwrap_or(2.min(experts));
    if active > experts {
        return Err(f.impossible("num_experts_per_tok", "it cannot be more than the number of experts"));
    }
    // Windows are those of per-block sizes; the model's own key is read by no layer.
    f.touch("sliding_window");
    let window = sizes.block.map(|block| block.optional_count("sliding_window")).transpose()?.flatten();
    Ok(Blocks {
        shape: Shape { heads, kv_heads, ..shape },
        span: window.map_or(Span::Full, Span::Sliding),
        mamba,
        mlp_bias: f.flag("mlp_bias", false)?,
        intermediate: sizes.count("intermediate_size")?,
        experts,
        active,
        expert_width: sizes.count("moe_intermediate_size")?,
        shared_width: sizes.count("moe_shared_expert_intermediate_size")?,
        latent: sizes.optional("moe_latent_size")?,
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
                mixer = Mixer::Attention(self.shape.attention(self.span));
            }
            Kind::Dense => {
                self.feed_forward(&mut t, "mixer", self.intermediate);
                feed_forward = FeedForward::Dense { intermediate: self.intermediate, gated: false };
            }
            Kind::Experts => {
                let inputs = self.latent.unwrap_or(hidden);
                t.linear("mixer.gate", hidden, self.experts, false).experts("mixer.experts.{}.up_proj", self.experts, inputs, self.expert_width).experts(
                    "mixer.experts.{}.down_proj",
                    self.experts,
                    self.expert_width,
                    inputs,
                );
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
