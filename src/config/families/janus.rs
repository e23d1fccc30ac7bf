//! Janus, in its authors' form (`multi_modality`) and in that of transformers: a SigLIP tower to read images, a tokeniser
//! with its own embedding, aligner and head to make them.

use super::decoder::{Draft, Head, Tensors, component};
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_in};
use super::towers::{NAMED_TOWERS, TowerShape, patches, projector, timm_tower, vision_tower};
use super::vqgan::{LLAMAGEN, Tokenizer};
use super::{ConfigError, Fields};
use crate::model::{Component, ComponentKind};

/// `JanusVisionConfig` of transformers 5.23.
const VISION: &[(&str, u64)] = &[
    ("hidden_size", 1024),
    ("num_hidden_layers", 24),
    ("num_attention_heads", 16),
    ("num_channels", 3),
    ("image_size", 384),
    ("patch_size", 16),
    ("projection_dim", 2048),
    ("depth", 2),
];

/// `JanusVQVAEConfig`.
const TOKENIZER: &[(&str, u64)] =
    &[("embed_dim", 8), ("num_embeddings", 16_384), ("projection_dim", 2048), ("num_hidden_layers", 2), ("image_token_embed_dim", 2048)];

/// Most matrices of a projector that are read.
const MAX_DEPTH: u64 = 64;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper = Wrapper { default_type: "llama", names: Names::Inside("model.language_model"), head: Head::ByArchitecture, tie: Tie::WrapperThenText };
    let text = f.part(TEXT_CONFIGS)?;
    let draft = language_in(f, &text, &wrapper)?;
    let vision = f.part(&["vision_config"])?.with_defaults(VISION);
    let [tower, aligner] = tower(&vision)?;
    let vq = f.part(&["vq_config"])?;
    let mut tokenizer = Tokenizer::read(&vq)?;
    let vq = vq.with_defaults(TOKENIZER);
    tokenizer.embed = vq.count("embed_dim")?;
    tokenizer.entries = vq.count("num_embeddings")?;
    tokenizer.decodes = true;
    attends_at_the_bottom(&mut tokenizer);
    let (width, token) = (vq.count("projection_dim")?, vq.count("image_token_embed_dim")?);
    let mut tensors = Tensors::default();
    tensors.nested("model.vqmodel", tokenizer.tensors()).embedding("model.generation_embeddings", tokenizer.entries, tokenizer.embed).linear(
        "model.generation_aligner.fc1",
        tokenizer.embed,
        width,
        true,
    );
    for number in 0..depth(&vq, "num_hidden_layers")? - 1 {
        tensors.linear(&format!("model.generation_aligner.hidden_layers.{number}"), width, width, true);
    }
    tensors.linear("model.generation_head.proj_out", token, width, true).linear("model.generation_head.vision_head", width, tokenizer.entries, true);
    Ok(draft.with(tower).with(aligner).with(generator(width, tensors)))
}

fn generator(width: u64, mut tensors: Tensors) -> Component {
    component("image_generation", ComponentKind::Other, width, "", tensors.build(), Vec::new())
}

/// Attention in the blocks of the lowest resolution.
fn attends_at_the_bottom(tokenizer: &mut Tokenizer) {
    if let Some(last) = tokenizer.attends.last_mut() {
        *last = true;
    }
}

fn depth(f: &Fields, key: &'static str) -> Result<u64, ConfigError> {
    match f.count(key)? {
        depth if depth <= MAX_DEPTH => Ok(depth),
        _ => Err(f.impossible(key, "it must be at most 64")),
    }
}

fn tower(f: &Fields) -> Result<[Component; 2], ConfigError> {
    let hidden = f.count("hidden_size")?;
    let intermediate = super::towers::scaled(f, "mlp_ratio", 4.0, hidden)?;
    let tower = TowerShape { hidden, layers: f.count("num_hidden_layers")?, heads: f.count("num_attention_heads")?, intermediate, gated: false };
    let tower = tower.checked(f, "num_hidden_layers", "num_attention_heads")?;
    let bias = f.flag("attention_bias", true)?;
    let mut layer = Tensors::default();
    layer
        .norm("layer_norm1", hidden, true)
        .linear("self_attn.q_proj", hidden, hidden, bias)
        .linear("self_attn.k_proj", hidden, hidden, bias)
        .linear("self_attn.v_proj", hidden, hidden, bias)
        .linear("self_attn.projection_layer", hidden, hidden, true)
        .norm("layer_norm2", hidden, true)
        .linear("mlp.fc1", hidden, intermediate, true)
        .linear("mlp.fc2", intermediate, hidden, true);
    if f.flag("use_qk_norm", false)? {
        layer.norm("self_attn.q_norm", hidden, true).norm("self_attn.k_norm", hidden, true);
    }
    let patch = f.count("patch_size")?;
    let tensors = Tensors::default()
        .convolution("model.vision_model.embeddings.patch_embedding", &[hidden, f.count("num_channels")?, patch, patch], true)
        .embedding("model.vision_model.embeddings.position_embedding", patches(f)?, hidden)
        .norm("model.vision_model.post_layernorm", hidden, true)
        .build();
    let width = f.count("projection_dim")?;
    let mut aligner = Tensors::default();
    aligner.linear("model.aligner.fc1", hidden, width, true);
    for number in 0..depth(f, "depth")? - 1 {
        aligner.linear(&format!("model.aligner.hidden_layers.{number}"), width, width, true);
    }
    f.touch("num_image_tokens");
    let tower = vision_tower(hidden, "model.vision_model.encoder.layers", tensors, tower.layers(&layer.build()));
    Ok([tower, projector(width, aligner.build())])
}

/// The authors' form: parts by name, their sizes under `params`.
pub(super) fn read_multi_modality(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper = Wrapper { default_type: "llama", names: Names::Behind("language_model"), head: Head::Language, tie: Tie::Text };
    let mut draft = language_in(f, &f.required_nested(TEXT_CONFIGS)?, &wrapper)?;
    let params = |key: &'static str| -> Result<Option<Fields>, ConfigError> {
        let Some(part) = f.nested(&[key])? else { return Ok(None) };
        part.touch("cls");
        part.nested(&["params"])
    };
    if let Some(vision) = params("vision_config")? {
        draft = draft.with(named_tower(&vision, "vision_model.vision_tower")?);
        for key in ["high_res_cfg", "low_res_cfg"] {
            if vision.has(key) {
                draft.assumptions.push(format!("`vision_config.params.{key}` is not understood: one tower is counted"));
            }
        }
    }
    if let Some(aligner) = params("aligner_config")? {
        draft = draft.with(mlp_projector(&aligner, "aligner")?);
    }
    let Some(vision) = params("gen_vision_config")? else { return Ok(draft) };
    let (entries, embed) = (vision.count("image_token_size")?, vision.count("n_embed")?);
    let mut tokenizer = Tokenizer {
        naming: LLAMAGEN,
        image: [3, 3],
        base: 128,
        multipliers: vec![1, 1, 2, 2, 4],
        blocks: 2,
        latent: 256,
        double_latent: false,
        embed,
        entries,
        attends: vec![false; 5],
        middle_attends: true,
        decodes: true,
    };
    attends_at_the_bottom(&mut tokenizer);
    let mut tensors = Tensors::default();
    tensors.nested("gen_vision_model", tokenizer.tensors()).embedding("gen_embed", entries, embed);
    let mut width = embed;
    if let Some(aligner) = params("gen_aligner_config")? {
        let aligner = mlp_projector(&aligner, "gen_aligner")?;
        width = aligner.hidden_size;
        tensors.extend(aligner.tensors);
    }
    if let Some(head) = params("gen_head_config")? {
        let inner = head.count("image_token_embed")?;
        tensors.linear("gen_head.output_mlp_projector", head.count("n_embed")?, inner, true).linear(
            "gen_head.vision_head",
            inner,
            head.count("image_token_size")?,
            true,
        );
    }
    Ok(draft.with(generator(width, tensors)))
}

/// A tower by its name among the published ones.
fn named_tower(f: &Fields, prefix: &'static str) -> Result<Component, ConfigError> {
    let name = f.optional_text("model_name")?.unwrap_or_default();
    let Some((_, [hidden, layers, heads, intermediate, image, patch])) = NAMED_TOWERS.iter().find(|(known, _)| *known == name) else {
        return Err(f.impossible("model_name", "this vision tower is not known here"));
    };
    for key in ["select_feature", "select_layer"] {
        f.touch(key);
    }
    let tower = TowerShape { hidden: *hidden, layers: *layers, heads: *heads, intermediate: *intermediate, gated: false };
    let side = f.optional_count("image_size")?.unwrap_or(*image) / patch;
    let layer_prefix = super::multimodal::lasting(format!("{prefix}.blocks"));
    Ok(timm_tower(tower, side.saturating_mul(side), *patch, prefix, layer_prefix))
}

/// DeepSeek's projector: matrices with an activation between them.
fn mlp_projector(f: &Fields, prefix: &str) -> Result<Component, ConfigError> {
    let (inputs, width) = (f.count("input_dim")?, f.count("n_embed")?);
    let kind = f.optional_text("projector_type")?.unwrap_or_else(|| "mlp_gelu".to_owned());
    let depth = match kind.as_str() {
        "identity" => 0,
        "linear" => 1,
        "mlp_gelu" => depth(f, "depth")?,
        _ => return Err(f.impossible("projector_type", "only `mlp_gelu`, `linear` and `identity` are known")),
    };
    let mut tensors = Tensors::default();
    for number in 0..depth {
        // Activations take the odd places.
        let name = if kind == "linear" { format!("{prefix}.layers") } else { format!("{prefix}.layers.{}", 2 * number) };
        tensors.linear(&name, if number == 0 { inputs } else { width }, width, true);
    }
    Ok(projector(width, tensors.build()))
}
