//! Inkling: attention whose keys, values and outputs pass short convolutions, with learned biases by distance, sliding in most layers;
//! experts after the first dense layers; sound as embeddings of quantised spectra, images folded step by step.

use super::decoder::{Decoder, Draft, Shape, Tensors, component};
use super::multimodal::{Names, Wrapper, language_of};
use super::recurrent::{GATE_UP_DOWN, LayerTensors, fused_experts, gated, small};
use super::{ConfigError, Fields};
use crate::model::{Component, ComponentKind, FeedForward, Layer, Mixer, Recurrence, RecurrenceKind, Role, Span};

/// `InklingTextConfig` of transformers 5.23.
const TEXT: &[(&str, u64)] = &[
    ("vocab_size", 201_024),
    ("hidden_size", 6144),
    ("num_hidden_layers", 66),
    ("num_attention_heads", 64),
    ("num_key_value_heads", 8),
    ("head_dim", 128),
    ("swa_num_attention_heads", 64),
    ("swa_num_key_value_heads", 16),
    ("swa_head_dim", 128),
    ("sliding_window_size", 512),
    ("d_rel", 16),
    ("rel_extent", 1024),
    ("intermediate_size", 24_576),
    ("moe_intermediate_size", 3072),
    ("num_experts", 256),
    ("num_experts_per_tok", 6),
    ("n_shared_experts", 2),
];

/// `InklingVisionConfig`.
const VISION: &[(&str, u64)] = &[("patch_size", 40), ("temporal_patch_size", 2), ("num_channels", 3), ("n_layers", 24)];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let text = f.part(&["text_config"])?;
    let wrapper = Wrapper { names: Names::Inside("model.language_model"), ..Wrapper::new("inkling_text") };
    let mut draft = language_of(f, &text, "inkling_text".to_owned(), &wrapper)?;
    let width = draft.decoder.shape.hidden;
    if let Some(predictors) = f.nested(&["mtp_config"])?
        && predictors.optional_count_or_zero("num_nextn_predict_layers")?.is_some_and(|layers| layers > 0)
    {
        draft.assumptions.push("layers that predict further tokens, which the files hold beside, are not counted".to_owned());
    }
    let audio = f.part(&["audio_config"])?.with_defaults(&[("n_mel_bins", 80), ("mel_vocab_size", 256)]);
    let rows = audio.count("n_mel_bins")?.saturating_mul(audio.count("mel_vocab_size")?);
    let mut t = Tensors::default();
    t.embedding("model.audio_tower.embed_audio_tokens.embed_audio_tokens", rows, width).norm("model.audio_tower.norm", width, false);
    let audio = component("audio", ComponentKind::AudioTower, width, "", t.build(), Vec::new());
    let vision = f.part(&["vision_config"])?.with_defaults(VISION);
    Ok(draft.with(tower(&vision, width)?).with(audio))
}

pub(super) fn read_text(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(TEXT);
    let shape = Shape::read(f)?;
    let sliding = Shape::checked(
        f,
        shape.hidden,
        shape.layers,
        shape.vocab,
        (f.count("swa_num_attention_heads")?, f.count("swa_num_key_value_heads")?, Some(f.count("swa_head_dim")?)),
    )?;
    let (window, extent) = (f.optional_count("sliding_window")?.map_or_else(|| f.count("sliding_window_size"), Ok)?, f.count("rel_extent")?);
    let kernel = f.optional_count("sconv_kernel_size")?.or(f.optional_count("conv_kernel_size")?).unwrap_or(4);
    let slides = listed(f, "layer_types", shape.layers, "hybrid_sliding", "hybrid")?;
    let local = f.has("local_layer_ids").then(|| f.layer_numbers("local_layer_ids")).transpose()?;
    let dense = listed(f, "mlp_layer_types", shape.layers, "dense", "sparse")?;
    let first = f.optional_count_or_zero("dense_mlp_idx")?.unwrap_or(0);
    // Published files call the experts' width `intermediate_size`.
    let (dense_width, expert_width) = match f.optional_count("dense_intermediate_size")? {
        Some(width) => (width, f.count("intermediate_size")?),
        None => (f.count("intermediate_size")?, f.count("moe_intermediate_size")?),
    };
    f.touch("moe_intermediate_size");
    for unread in ["unpadded_vocab_size", "use_sconv", "use_embed_norm", "use_gate_bias", "norm_after_topk", "use_global_scale", "gate_activation"] {
        f.touch(unread);
    }
    let experts = f.count("num_experts")?;
    let (active, shared) = (f.active_experts(experts, experts)?, f.count("n_shared_experts")?);
    f.touch("shared_expert_sink");
    let hidden = shape.hidden;
    let layers = (0..shape.layers).map(|number| {
        let place = usize::try_from(number).unwrap_or(usize::MAX);
        let is_sliding = match (&slides, &local) {
            (Some(listed), _) => listed[place],
            (None, Some(local)) => local.contains(&number),
            (None, None) => !(number + 1).is_multiple_of(6),
        };
        let (own, span) = if is_sliding { (sliding, Span::Sliding(window)) } else { (shape, Span::Full) };
        let (keys, distances) = (own.kv_heads.saturating_mul(own.head_dim), f.count("d_rel")?);
        let mut t = Tensors::default();
        t.attention(&own, false, false)
            .linear("self_attn.r_proj", hidden, own.heads.saturating_mul(distances), false)
            .query_key_norm(&own)
            .tensor("self_attn.rel_logits_proj.proj", Role::Other, &[distances, if is_sliding { window } else { extent }])
            .norms(&["input_layernorm", "post_attention_layernorm"], hidden);
        for (module, width) in [("self_attn.k_sconv", keys), ("self_attn.v_sconv", keys), ("attn_sconv", hidden), ("mlp_sconv", hidden)] {
            t.tensor(&format!("{module}.conv1d.weight"), Role::MixerConvolution, &[width, 1, kernel]);
        }
        let channels = keys.saturating_mul(2).saturating_add(hidden.saturating_mul(2));
        let past = Recurrence { kind: RecurrenceKind::ShortConvolution, conv_channels: channels, conv_kernel: kernel, state: 0, state_dtype: None };
        let is_dense = dense.as_ref().map_or(number < first, |listed| listed[place]);
        let feed_forward = if is_dense {
            gated(&mut t, "mlp", GATE_UP_DOWN, hidden, dense_width, false);
            t.tensor("mlp.global_scale", Role::Other, &[1]);
            FeedForward::Dense { intermediate: dense_width, gated: true }
        } else {
            t.linear("mlp.gate", hidden, experts.saturating_add(shared), false).tensor("mlp.gate.global_scale", Role::Other, &[1]);
            fused_experts(&mut t, "mlp.experts", experts, hidden, expert_width);
            for (name, role, of) in [
                ("gate_proj", Role::Gate, [expert_width, hidden]),
                ("up_proj", Role::Up, [expert_width, hidden]),
                ("down_proj", Role::Down, [hidden, expert_width]),
            ] {
                t.tensor(&format!("mlp.shared_experts.{name}"), role, &[shared, of[0], of[1]]);
            }
            FeedForward::MixtureOfExperts { experts, active, intermediate: expert_width, shared: shared.saturating_mul(expert_width) }
        };
        Ok((Layer { mixer: Mixer::Parallel(own.attention(span), past), feed_forward }, t.build()))
    });
    let layers: Vec<LayerTensors> = layers.collect::<Result<_, ConfigError>>()?;
    let mut decoder = Decoder::llama_like(shape, layers, false);
    decoder.tensors.extend(Tensors::default().norm("model.embed_tokens.embed_norm", hidden, false).build());
    decoder.never_tied(f)
}

/// Which layers are `one` by a list that has `one` or `other` for each; `None` without the list.
pub(super) fn listed(f: &Fields, key: &str, layers: u64, one: &str, other: &str) -> Result<Option<Vec<bool>>, ConfigError> {
    let Some(names) = f.optional_texts(key)? else { return Ok(None) };
    if names.len() as u64 != layers {
        return Err(f.impossible(key, "it must have one entry per layer (`num_hidden_layers`)"));
    }
    if names.iter().any(|name| name != one && name != other) {
        return Err(f.impossible(key, "it names a kind of layer that this model type does not have"));
    }
    Ok(Some(names.iter().map(|name| name == one).collect()))
}

/// A grid of an image at one depth: frames, side of a patch's cell, channels.
#[derive(Clone, Copy)]
struct Grid {
    frames: u64,
    side: u64,
    channels: u64,
}

impl Grid {
    /// How many pixels one cell stands for.
    fn cells(self) -> u64 {
        self.frames.saturating_mul(self.side).saturating_mul(self.side)
    }
}

/// The tower: each layer folds space, then time, into channels and projects them.
fn tower(v: &Fields, width: u64) -> Result<Component, ConfigError> {
    for unread in ["hidden_size", "num_attention_heads", "text_hidden_size", "model_type", "rms_norm_eps"] {
        v.touch(unread);
    }
    let layers = v.optional_count("num_hidden_layers")?.map_or_else(|| v.count("n_layers"), Ok)?;
    let (patch, frames, channels) = (v.count("patch_size")?, v.count("temporal_patch_size")?, v.count("num_channels")?);
    if patch > 1 << 12 || frames > 1 << 12 || layers > 10_000 {
        return Err(v.impossible("patch_size", "no model has patches or towers of that size"));
    }
    let grids = grids(patch, frames, channels);
    let steps = chosen(&grids, layers, channels);
    let mut t = Tensors::default();
    for (number, pair) in (1..).zip(steps.windows(2)) {
        let (from, to) = (grids[pair[0]], grids[pair[1]]);
        let (module, folded) =
            (format!("model.vision_tower.encoder_layers.{}", number - 1), to.frames / from.frames * (to.side / from.side) * (to.side / from.side));
        let outputs = if number == layers { width } else { to.channels };
        t.tensor(&format!("{module}.projection.weight"), Role::Other, &[outputs, from.channels.saturating_mul(folded)]);
        if number != layers {
            t.norm(&format!("{module}.layer_norm"), outputs, false);
        }
    }
    t.norm("model.vision_tower.final_norm", width, false);
    Ok(component("vision", ComponentKind::VisionTower, width, "", t.build(), Vec::new()))
}

/// The grids that folding goes through: the factors of the patch, largest first, then those of time; channels in whole 64s.
fn grids(patch: u64, frames: u64, channels: u64) -> Vec<Grid> {
    let round = |values: u64| values.div_ceil(64).saturating_mul(64);
    let mut all = vec![Grid { frames: 1, side: 1, channels }];
    let (mut side, mut time) = (1, 1);
    for factor in factors(patch) {
        side *= factor;
        all.push(Grid { frames: 1, side, channels: round(side.saturating_mul(side).saturating_mul(channels)) });
    }
    for factor in factors(frames) {
        time *= factor;
        // As the class has it: rounded before time is multiplied in.
        all.push(Grid { frames: time, side, channels: side.saturating_mul(side).saturating_mul(channels).saturating_mul(time).saturating_mul(64) });
    }
    all
}

/// Prime factors, largest first.
fn factors(mut number: u64) -> Vec<u64> {
    let mut found = Vec::new();
    for divisor in 2.. {
        if divisor > number {
            break;
        }
        while number.is_multiple_of(divisor) {
            found.push(divisor);
            number /= divisor;
        }
    }
    found.reverse();
    found
}

/// The grid before and after each layer: nearest to even steps of the logarithm of what a cell stands for; each once while they last.
fn chosen(grids: &[Grid], layers: u64, channels: u64) -> Vec<usize> {
    let last = grids.len() - 1;
    let whole = small(grids[last].cells().saturating_mul(channels)).ln();
    let wanted: Vec<f64> = (0..=layers).map(|step| whole * small(step) / small(layers)).collect();
    let cost = |step: usize, grid: usize| (wanted[step] - small(grids[grid].cells()).ln()).abs();
    let mut steps: Vec<usize> = if wanted.len() > grids.len() {
        let nearest = |step: usize| (0..grids.len()).min_by(|&one, &other| cost(step, one).total_cmp(&cost(step, other))).unwrap_or(0);
        (0..wanted.len()).map(nearest).collect()
    } else {
        ascending(wanted.len(), grids.len(), cost)
    };
    if let [first, .., end] = steps.as_mut_slice() {
        (*first, *end) = (0, last);
    }
    steps
}

/// The ascending choice of `count` out of `of` with the least cost in all.
fn ascending(count: usize, of: usize, cost: impl Fn(usize, usize) -> f64) -> Vec<usize> {
    // best[grid]: the cost of the steps so far with the latest at `grid`, and where they were.
    let mut best: Vec<(f64, Vec<usize>)> = (0..of).map(|grid| (cost(0, grid), vec![grid])).collect();
    for step in 1..count {
        let of_grid = |grid: usize| {
            let before = best[..grid].iter().min_by(|one, other| one.0.total_cmp(&other.0));
            before.map_or((f64::INFINITY, Vec::new()), |(sum, places)| (sum + cost(step, grid), places.iter().copied().chain([grid]).collect()))
        };
        best = (0..of).map(of_grid).collect();
    }
    best.into_iter().min_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, places)| places).unwrap_or_default()
}
