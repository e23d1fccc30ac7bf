//! dots3 note: latent attention whose heads have a gate, indexed in some layers and sliding with sizes of its own in the others; a
//! mixture; a tower for images whose deeper layers hold ever more experts, and one for sound.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Tensors, component};
use super::experts::{Mixture, MixtureDefaults, dense_or_sparse, sparse_layers};
use super::latent::{Defaults, Indexer, Latent, latent_shape};
use super::multimodal::{Names, Tie, Wrapper, language_of};
use super::vision::{Encoder, linear, norm};
use super::{ConfigError, Fields};
use crate::model::{Attention, Component, ComponentKind, FeedForward, Keeps, Layer, Mixer, Role, Span};

/// `Dots3NoteTextConfig` of transformers 5.23.
const TEXT: &[(&str, u64)] =
    &[("vocab_size", 152_064), ("hidden_size", 5120), ("intermediate_size", 13_824), ("num_hidden_layers", 46), ("num_attention_heads", 128)];
const LATENT: Defaults = Defaults { query_rank: Some(1024), rank: 512, rope: 64, nope: 128, value: 128 };
const MIXTURE: MixtureDefaults = MixtureDefaults { experts: 256, active: 8, width: 1536, shared: 1 };
/// Sizes of layers that slide: heads, ranks of queries and of keys and values, a head with its rotary part and without, a value.
const SLIDING: [(&str, u64); 6] =
    [("num_attention_heads", 64), ("q_lora_rank", 1024), ("kv_lora_rank", 1024), ("head_dim", 256), ("qk_nope_head_dim", 192), ("v_head_dim", 128)];

/// `Dots3NoteVisionConfig`.
const TOWER: &[(&str, u64)] = &[
    ("intermediate_size", 4224),
    ("num_hidden_layers", 42),
    ("num_channels", 3),
    ("patch_size", 14),
    ("moe_intermediate_size", 2112),
    ("adapter_merge_size", 2),
    ("num_local_experts", 64),
];
/// Experts of each layer of the tower, from the first sparse one on.
const PYRAMID: [u64; 17] = [4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 64];

/// A size that the first files have under another name, which wins.
fn first_or(f: &Fields, [first, now]: [&str; 2], of_class: u64) -> Result<u64, ConfigError> {
    match f.optional_count(first)? {
        Some(size) => {
            f.touch(now);
            Ok(size)
        }
        None => f.count_or(now, of_class),
    }
}

/// What each layer attends to: all, an indexer's choice, or a window.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Full,
    Indexed,
    Sliding,
}

fn kinds(f: &Fields, layers: u64) -> Result<Vec<Kind>, ConfigError> {
    // A file that speaks of single layers says which of them are indexed.
    let says = f.has("per_layer_config");
    let indexes = f.optional_flag("use_dsa")?.or((!says).then_some(true));
    let slides = f.flag("use_sliding_window", true)?;
    let other = if indexes == Some(false) { Kind::Full } else { Kind::Indexed };
    let Some(types) = f.optional_texts("layer_types")? else {
        return Ok((0..layers).map(|number| if !slides || number < 2 || number % 4 == 1 { other } else { Kind::Sliding }).collect());
    };
    if types.len() as u64 != layers {
        return Err(f.impossible("layer_types", "it must have one entry per layer (`num_hidden_layers`)"));
    }
    let kind = |name: &String| match (name.as_str(), indexes) {
        ("sliding_attention", _) => Ok(Kind::Sliding),
        ("full_attention", Some(true)) | ("indexed_attention", Some(true) | None) => Ok(Kind::Indexed),
        ("full_attention", _) | ("indexed_attention", Some(false)) => Ok(Kind::Full),
        _ => Err(f.impossible("layer_types", "only `full_attention`, `indexed_attention` and `sliding_attention` are known for this model type")),
    };
    types.iter().map(kind).collect()
}

/// The attention of sliding layers under `swa_*`, where single layers have no objects of their own.
fn sliding(f: &Fields, full: &Latent) -> Result<Latent, ConfigError> {
    let mut sizes = [0; 6];
    for (size, (key, of_class)) in sizes.iter_mut().zip(SLIDING) {
        *size = f.count_or(&format!("swa_{key}"), of_class)?;
    }
    let [heads, query_rank, rank, head, nope, value] = sizes;
    let rope = match f.optional_count("swa_qk_rope_head_dim")? {
        Some(rope) => rope,
        None => head.checked_sub(nope).ok_or_else(|| f.impossible("swa_head_dim", "it must be at least `swa_qk_nope_head_dim`"))?,
    };
    Ok(Latent { heads, query_rank: Some(query_rank), rank, rope, nope, value, bias: full.bias })
}

/// What layer `number` says of its own in `per_layer_config`; `None` where it says nothing.
fn place(own: Option<&Fields>, number: usize) -> Result<Option<Fields>, ConfigError> {
    own.map_or(Ok(None), |own| own.nested(&[&format!("{number:02}"), &format!("{number:03}"), &number.to_string()]))
}

/// The attention and the indexer of a layer that says its own sizes (`Dots3NoteTextAttention` reads them of every layer).
fn own_sizes(place: &Fields, (usual, indexer): (Latent, Indexer)) -> Result<(Latent, Indexer), ConfigError> {
    for key in ["num_key_value_heads", "head_dim"] {
        place.touch(key);
    }
    let of = |key: &str, usual: u64| Ok::<_, ConfigError>(place.optional_count(key)?.unwrap_or(usual));
    let latent = Latent {
        heads: of("num_attention_heads", usual.heads)?,
        query_rank: Some(of("q_lora_rank", usual.query_rank.unwrap_or(0))?),
        rank: of("kv_lora_rank", usual.rank)?,
        rope: of("qk_rope_head_dim", usual.rope)?,
        nope: of("qk_nope_head_dim", usual.nope)?,
        value: of("v_head_dim", usual.value)?,
        bias: place.flag("attention_bias", usual.bias)?,
    };
    Ok((latent, Indexer { heads: of("index_n_heads", indexer.heads)?, head_dim: of("index_head_dim", indexer.head_dim)? }))
}

pub(super) fn read_text(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(TEXT);
    let shape = latent_shape(f)?;
    let latent = Latent::read(f, shape.heads, LATENT)?;
    if latent.query_rank.is_none() {
        return Err(f.impossible("q_lora_rank", "this model type compresses its queries"));
    }
    let indexer = Indexer::read(f, 64)?;
    let kinds = kinds(f, shape.layers)?;
    let window = f.optional_count("sliding_window")?.or(f.optional_count("sliding_window_size")?).unwrap_or(512);
    let own = f.nested(&["per_layer_config"])?;
    let mixture = Mixture::read(f, MIXTURE)?;
    let several = mixture.shared / mixture.width;
    let mixture = Mixture {
        shared: several.saturating_mul(first_or(f, ["moe_shared_expert_intermediate_size", "shared_experts_intermediate_size"], 1536)?),
        bias: false,
        ..mixture
    };
    for key in SLIDING.iter().map(|(key, _)| *key).chain(["qk_rope_head_dim", "num_key_value_heads"]) {
        f.touch(&format!("swa_{key}"));
    }
    for key in ["mlp_bias", "num_key_value_heads", "use_sliding_window"] {
        f.touch(key);
    }
    // A list names the sparse layers among those that are not dense anyhow.
    let first = f.optional_count_or_zero("first_k_dense_replace")?.unwrap_or(1);
    let names_types = f.has("mlp_layer_types");
    let sparse: Vec<bool> = (0..).zip(sparse_layers(f, &shape, 1)?).map(|(number, is_sparse)| is_sparse && (names_types || number >= first)).collect();
    let layers = dense_or_sparse(f, &shape, &sparse, &mixture, LLAMA_NORMS, |number, t| {
        let slides = kinds[number] == Kind::Sliding;
        let usual = if slides && own.is_none() { sliding(f, &latent)? } else { latent };
        let (latent, indexer) = match place(own.as_ref(), number)? {
            Some(place) => own_sizes(&place, (usual, indexer))?,
            None => (usual, indexer),
        };
        latent.add(t, "self_attn", shape.hidden);
        t.norm("self_attn.k_rope_only_layernorm", latent.rope, false).linear("self_attn.g_proj", shape.hidden, latent.heads, false);
        let keys = if kinds[number] == Kind::Indexed {
            indexer.add(t, shape.hidden, latent.query_rank.unwrap_or(0));
            indexer.head_dim
        } else {
            0
        };
        Ok(latent.within(if slides { Span::Sliding(window) } else { Span::Full }, keys))
    })?;
    Ok(Decoder::llama_like(shape, layers, false).into())
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    // The first files have the language model's sizes outside.
    let (text, outside) = match f.nested(&["text_config"])? {
        Some(text) => {
            // What the first files had outside is not read there any more.
            let outer: Vec<String> = SLIDING.iter().map(|(key, _)| format!("swa_{key}")).chain(["moe_shared_expert_intermediate_size".to_owned()]).collect();
            f.pass_over(&outer.iter().map(String::as_str).collect::<Vec<_>>());
            (text, false)
        }
        None => (f.with_defaults(&[]), true),
    };
    let wrapper = Wrapper { names: Names::Inside("model.language_model"), tie: Tie::Wrapper { default: false }, ..Wrapper::new("dots3_note_text") };
    if outside && f.architecture()?.is_some_and(|class| class.ends_with("ForCausalLM")) {
        f.pass_over(&["vision_config", "audio_config"]);
        return read_text(f);
    }
    let draft = language_of(f, &text, "dots3_note_text".to_owned(), &wrapper)?;
    let width = draft.decoder.shape.hidden;
    Ok(draft.with(eyes(&f.part(&["vision_config"])?, width)?).with(ears(&f.part(&["audio_config"])?, width)?))
}

/// How many experts each layer of the tower has; 0: a plain feed-forward.
fn pyramid(v: &Fields, layers: u64) -> Result<Vec<u64>, ConfigError> {
    let per_layer = "it must have one entry per layer (`num_hidden_layers`)";
    if let Some(Some(list)) = v.raw("pyramid_num_routed").map(serde_json::Value::as_array) {
        let counts: Vec<u64> = list.iter().map(|count| count.as_i64().map_or(0, |count| u64::try_from(count).unwrap_or(0))).collect();
        let is_sane = counts.len() as u64 == layers && counts.iter().all(|&count| count < 1 << 20);
        return if is_sane { Ok(counts) } else { Err(v.impossible("pyramid_num_routed", per_layer)) };
    }
    let Some(types) = v.optional_texts("mlp_layer_types")? else {
        v.not_counted("num_local_experts");
        let dense = layers.saturating_sub(PYRAMID.len() as u64);
        return if layers == 42 {
            Ok((0..dense).map(|_| 0).chain(PYRAMID).collect())
        } else {
            Err(v.impossible("num_hidden_layers", "without `mlp_layer_types` its experts are known for 42 layers only"))
        };
    };
    if types.len() as u64 != layers {
        return Err(v.impossible("mlp_layer_types", per_layer));
    }
    let (all, own) = (v.count("num_local_experts")?, v.nested(&["per_layer_config"])?);
    let experts = |(number, kind): (usize, &String)| {
        if kind != "sparse" {
            return Ok(0);
        }
        Ok(place(own.as_ref(), number)?.map(|place| place.optional_count("num_local_experts")).transpose()?.flatten().unwrap_or(all))
    };
    types.iter().enumerate().map(experts).collect()
}

fn eyes(v: &Fields, text: u64) -> Result<Component, ConfigError> {
    let v = v.with_defaults(TOWER);
    for key in ["model_type", "rope_parameters", "capacity_factor", "router_scale", "router_scaling_factor", "adapter_in_dim", "is_causal"] {
        v.touch(key);
    }
    let hidden = first_or(&v, ["embed_dim", "hidden_size"], 1536)?;
    let (heads, layers) = (first_or(&v, ["num_heads", "num_attention_heads"], 24)?, v.count("num_hidden_layers")?);
    let v = v.with_derived("hidden_size", hidden).with_derived("num_attention_heads", heads);
    let e = Encoder::read(&v)?;
    let (head, dense, narrow) = (hidden / heads, v.count("intermediate_size")?, v.count("moe_intermediate_size")?);
    let (channels, patch, merge) = (v.count("num_channels")?, v.count("patch_size")?, v.count("adapter_merge_size")?);
    v.touch("spatial_merge_size");
    let (bias, mlp_bias) = (v.optional_flag("use_bias")?.map_or_else(|| v.flag("attention_bias", false), Ok)?, v.flag("mlp_bias", false)?);
    let active = v.count_or("num_experts_per_tok", 2)?;
    let layer = |experts: u64| {
        let mut t = Tensors::default();
        linear(&mut t, Role::Qkv, "attn.qkv", hidden, 3 * hidden, bias);
        linear(&mut t, Role::AttentionOutput, "attn.proj", hidden, hidden, bias);
        t.norms(&["attn.q_norm", "attn.k_norm"], head).norms(&["norm1", "norm2"], hidden);
        let feed_forward = if experts == 0 {
            t.gated_mlp(hidden, dense, mlp_bias);
            FeedForward::Dense { intermediate: dense, gated: true }
        } else {
            t.linear("mlp.gate", hidden, experts, false);
            let mixture = Mixture { experts, active: active.min(experts), width: narrow, shared: 0, bias: false };
            mixture.add_routed(&mut t, super::experts::MLP, hidden);
            mixture.feed_forward()
        };
        let attention = Attention { heads, kv_heads: heads, key_dim: head, value_dim: head, span: Span::Full, keeps: Keeps::Nothing };
        (Layer { mixer: Mixer::Attention(attention), feed_forward }, t.build())
    };
    let layers = pyramid(&v, layers)?.into_iter().map(layer).collect();
    let joined = hidden.saturating_mul(merge.saturating_mul(merge));
    let mut t = Tensors::default();
    t.convolution("model.vision_tower.patch_embed.proj", &[hidden, channels, patch, patch], true);
    norm(&mut t, "model.vision_tower.patch_embed.norm", hidden, false);
    norm(&mut t, "model.vision_tower.merger.ln_q", hidden, true);
    linear(&mut t, Role::Other, "model.vision_tower.merger.mlp.0", joined, joined, true);
    linear(&mut t, Role::Other, "model.vision_tower.merger.mlp.2", joined, v.count_or("adapter_out_dim", text)?, true);
    norm(&mut t, "model.vision_tower.norm", hidden, false);
    Ok(component("vision", ComponentKind::VisionTower, e.hidden, "model.vision_tower.blocks", t.build(), layers))
}

fn ears(a: &Fields, text: u64) -> Result<Component, ConfigError> {
    let whisper = a.nested(&["whisper_config"])?;
    // The first files name the encoder's sizes as Whisper does.
    let size = |key: &'static str, of_whisper: &str, of_class: u64| match &whisper {
        Some(whisper) if whisper.has(of_whisper) => whisper.count_or(of_whisper, of_class),
        _ => a.count_or(key, of_class),
    };
    let hidden = size("hidden_size", "d_model", 1280)?;
    let (layers, heads) = (size("num_hidden_layers", "encoder_layers", 32)?, size("num_attention_heads", "encoder_attention_heads", 20)?);
    let (inner, bands) = (size("intermediate_size", "encoder_ffn_dim", 5120)?, size("feature_size", "num_mel_bins", 128)?);
    for key in ["model_type", "hop_length", "sampling_rate", "adapter_input_size", "whisper_adapter_in_dim", "head_dim", "num_key_value_heads"] {
        a.touch(key);
    }
    for key in ["conv_output_size", "samples_per_token", "max_position_embeddings"] {
        a.touch(key);
    }
    let Some(head) = hidden.checked_div(heads).filter(|head| head.saturating_mul(heads) == hidden) else {
        return Err(a.impossible("num_attention_heads", "it must divide `hidden_size`"));
    };
    if layers > super::decoder::Shape::MAX_LAYERS {
        return Err(a.impossible("num_hidden_layers", "no model has more than 10,000 layers"));
    }
    let (channels, bias) = (a.count_or("downsample_hidden_size", 480)?, a.flag("attention_bias", true)?);
    let outputs = match a.optional_count("whisper_adapter_out_dim")?.or(a.optional_count("adapter_output_size")?) {
        Some(outputs) => outputs,
        None => a.count_or("adapter_out_dim", text)?,
    };
    let mut t = Tensors::default();
    t.linear("self_attn.q_proj", hidden, hidden, bias)
        .linear("self_attn.k_proj", hidden, hidden, false)
        .linear("self_attn.v_proj", hidden, hidden, bias)
        .linear("self_attn.o_proj", hidden, hidden, bias)
        .linear("mlp.gate_up_proj", hidden, 2 * inner, true)
        .linear("mlp.down_proj", inner, hidden, true)
        .norms(LLAMA_NORMS, hidden);
    let attention = Attention { heads, kv_heads: heads, key_dim: head, value_dim: head, span: Span::Full, keeps: Keeps::Nothing };
    let layer = Layer { mixer: Mixer::Attention(attention), feed_forward: FeedForward::Dense { intermediate: inner, gated: true } };
    let tensors = t.build();
    let mut t = Tensors::default();
    for (number, inputs) in [1, channels, channels].into_iter().enumerate() {
        t.convolution(&format!("model.audio_tower.conv_stem.convs.{number}"), &[channels, inputs, 3, 3], true);
    }
    linear(&mut t, Role::Other, "model.audio_tower.conv_stem.conv_out", channels.saturating_mul(bands.div_ceil(8)), hidden, false);
    norm(&mut t, "model.audio_tower.layer_norm", hidden, false);
    norm(&mut t, "model.audio_tower.adapter.norm", hidden, true);
    linear(&mut t, Role::Other, "model.audio_tower.adapter.fc1", hidden, outputs, true);
    linear(&mut t, Role::Other, "model.audio_tower.adapter.fc2", outputs, outputs, true);
    Ok(component("audio", ComponentKind::AudioTower, hidden, "model.audio_tower.layers", t.build(), (0..layers).map(|_| (layer, tensors.clone())).collect()))
}
