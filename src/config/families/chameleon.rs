//! Chameleon: Llama's layers with LayerNorms over all query and key heads, and an image tokeniser whose tokens are part of
//! the vocabulary.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors, layers_by_span};
use super::towers::vision_tower;
use super::vqgan::Tokenizer;
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Role, Span};

/// `ChameleonVQVAEConfig` of transformers 5.23.
const TOKENIZER: &[(&str, u64)] = &[("embed_dim", 256), ("num_embeddings", 8192), ("resolution", 512)];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read(f)?;
    let intermediate = f.count("intermediate_size")?;
    let attention_bias = f.flag("attention_bias", false)?;
    let mut tensors = Tensors::default();
    tensors.attention(&shape, attention_bias, attention_bias);
    for (module, heads) in [("self_attn.q_norm", shape.heads), ("self_attn.k_norm", shape.kv_heads)] {
        for kind in ["weight", "bias"] {
            tensors.tensor(&format!("{module}.{kind}"), Role::Norm, &[heads, shape.head_dim]);
        }
    }
    let tensors = tensors.gated_mlp(shape.hidden, intermediate, f.flag("mlp_bias", false)?).norms(LLAMA_NORMS, shape.hidden).build();
    // Where the norms stand, not how many.
    f.flag("swin_norm", false)?;
    f.touch("vocabulary_map");
    f.touch("model_parallel_size");
    let layers = layers_by_span(&shape, FeedForward::Dense { intermediate, gated: true }, &tensors, |_| Span::Full);
    let draft = Draft::from(Decoder::llama_like(shape, layers, false));

    let vq = f.part(&["vq_config"])?;
    let mut tokenizer = Tokenizer::read(&vq)?;
    let vq = vq.with_defaults(TOKENIZER);
    tokenizer.embed = vq.count("embed_dim")?;
    tokenizer.entries = vq.count("num_embeddings")?;
    let vanilla = vq.optional_text("attn_type")?.is_none_or(|kind| kind == "vanilla");
    tokenizer.middle_attends = vanilla;
    let attending = vq.optional_counts("attn_resolutions")?.unwrap_or_default();
    let mut resolution = vq.count("resolution")?;
    for attends in &mut tokenizer.attends {
        *attends = vanilla && attending.contains(&resolution);
        resolution /= 2;
    }
    let tensors = Tensors::default().nested("model.vqmodel", tokenizer.tensors()).build();
    Ok(draft.with(vision_tower(tokenizer.embed, "", tensors, Vec::new())))
}
