//! MiniMax-M3: norms of each query and key head, an indexer that picks blocks of tokens in some layers, dense layers before the
//! mixtures; with a CLIP-like tower over patches of image and time whose features are merged after they are projected.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors, component};
use super::experts::{Mixture, MixtureDefaults, dense_or_sparse, sparse_layers};
use super::multimodal::{Names, Tie, Wrapper, language_of, squared};
use super::vision::{CLIP, Encoder, Tower, linear, norm};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Mixer, Role, Span};

/// `MiniMaxM3VLTextConfig` of transformers 5.23.
const TEXT: &[(&str, u64)] = &[
    ("vocab_size", 200_064),
    ("hidden_size", 6144),
    ("intermediate_size", 3072),
    ("num_hidden_layers", 60),
    ("num_attention_heads", 64),
    ("num_key_value_heads", 4),
    ("head_dim", 128),
    ("dense_intermediate_size", 12_288),
    ("shared_intermediate_size", 3072),
    ("index_n_heads", 4),
    ("index_head_dim", 128),
];

/// `MiniMaxM3VLVisionConfig`.
const TOWER: &[(&str, u64)] = &[
    ("hidden_size", 1280),
    ("intermediate_size", 5120),
    ("num_hidden_layers", 32),
    ("num_attention_heads", 16),
    ("num_channels", 3),
    ("patch_size", 14),
    ("temporal_patch_size", 2),
    ("spatial_merge_size", 2),
];

pub(super) fn read_text(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(TEXT);
    let shape = Shape::read(f)?;
    // The width of an expert; some files say it a second time.
    let width = f.count("intermediate_size")?;
    f.touch("moe_intermediate_size");
    f.touch("n_shared_experts");
    let mixture = Mixture::read(f, MixtureDefaults { experts: 128, active: 4, width, shared: 1 })?;
    f.not_counted("moe_intermediate_size");
    let mixture = Mixture { width, shared: f.count("shared_intermediate_size")?, ..mixture };
    let sparse = sparse_layers(f, &shape, 0)?;
    let index = f.nested(&["sparse_attention_config"])?;
    let (heads, dim) = match &index {
        Some(index) => {
            for key in ["sparse_block_size", "sparse_disable_index_value", "sparse_init_block", "sparse_local_block", "sparse_score_type", "sparse_topk_blocks"]
            {
                index.touch(key);
            }
            index.touch("use_sparse_attention");
            (index.optional_count("sparse_num_index_heads")?, index.optional_count("sparse_index_dim")?)
        }
        None => (None, None),
    };
    let (heads, dim) = (heads.map_or_else(|| f.count("index_n_heads"), Ok)?, dim.map_or_else(|| f.count("index_head_dim"), Ok)?);
    let indexed = indexed_layers(f, index.as_ref(), &shape)?;
    for key in ["index_block_size", "index_topk_blocks", "index_local_blocks", "qk_norm_type", "rotary_dim", "use_gemma_norm", "use_qk_norm"] {
        f.touch(key);
    }
    if f.flag("attention_output_gate", false)? {
        return Err(f.impossible("attention_output_gate", "the class has no gate at attention's output"));
    }
    let hidden = shape.hidden;
    // Dense layers have a width of their own.
    let dense = &f.with_defaults(&[]).replaced("intermediate_size", f.count("dense_intermediate_size")?);
    let layers = dense_or_sparse(dense, &shape, &sparse, &mixture, LLAMA_NORMS, |number, tensors| {
        tensors.attention(&shape, false, false).query_key_norm(&shape);
        if indexed[number] {
            tensors
                .linear("self_attn.indexer.q_proj", hidden, heads.saturating_mul(dim), false)
                .linear("self_attn.indexer.k_proj", hidden, dim, false)
                .norms(&["self_attn.indexer.q_norm", "self_attn.indexer.k_norm"], dim);
        }
        Ok(Mixer::Attention(shape.attention(Span::Full)))
    })?;
    let mut draft = Draft::from(Decoder::llama_like(shape, layers, false));
    let count = indexed.iter().filter(|&&is_indexed| is_indexed).count();
    if count > 0 {
        draft.assumptions.push(format!("the indexers of {count} layers keep {dim} more elements per token each, which are not in the cache's figure"));
    }
    if f.optional_count_or_zero("num_mtp_modules")?.or(f.optional_count_or_zero("num_nextn_predict_layers")?).unwrap_or(0) > 0 {
        draft.assumptions.push("layers that predict further tokens, which the files may hold, are not counted".to_owned());
    }
    Ok(draft)
}

/// Which layers have an indexer: `layer_types`, or `sparse_attention_freq`; none when the config has neither.
fn indexed_layers(f: &Fields, index: Option<&Fields>, shape: &Shape) -> Result<Vec<bool>, ConfigError> {
    let count = usize::try_from(shape.layers).unwrap_or(0);
    let by_number = index.map(|index| index.optional_counts("sparse_attention_freq")).transpose()?.flatten();
    let listed = match (f.optional_texts("layer_types")?, by_number) {
        (Some(types), _) => types.iter().map(|kind| kind == "minimax_m3_sparse").collect(),
        (None, Some(list)) => list.iter().map(|&one| one != 0).collect(),
        (None, None) => vec![false; count],
    };
    if listed.len() != count {
        let why = "it must have one entry per layer (`num_hidden_layers`)";
        return Err(match index {
            Some(index) if !f.has("layer_types") => index.impossible("sparse_attention_freq", why),
            _ => f.impossible("layer_types", why),
        });
    }
    Ok(listed)
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let text = f.part(&["text_config"])?;
    text.touch("model_type");
    let wrapper = Wrapper { names: Names::Inside("model.language_model"), tie: Tie::Either, ..Wrapper::new("minimax_m3_vl_text") };
    let draft = language_of(f, &text, "minimax_m3_vl_text".to_owned(), &wrapper)?;
    let width = draft.decoder.shape.hidden;
    let v = f.part(&["vision_config"])?.with_defaults(TOWER);
    for key in ["image_size", "img_token_compression_config", "model_type", "projection_dim", "rope_mode", "vision_segment_max_frames", "vocab_size"] {
        v.touch(key);
    }
    for key in ["img_token_compression_config", "merged_hidden_size", "multimodal_projector_bias", "process_image_mode"] {
        f.touch(key);
    }
    let encoder = Encoder::read(&v)?;
    let patch = v.count("patch_size")?;
    let mut t = Tensors::default();
    t.convolution("embeddings.proj", &[encoder.hidden, v.count("num_channels")?, v.count("temporal_patch_size")?, patch, patch], false);
    norm(&mut t, "pre_layrnorm", encoder.hidden, true);
    let tower = Tower { encoder, layers_at: "layers".to_owned(), tensors: t.build(), layers: CLIP.layers(&encoder) }.below("model.vision_tower");
    let inner = f.count_or("projector_hidden_size", 6144)?;
    let mut t = Tensors::default();
    let merged = width.saturating_mul(squared(&v, "spatial_merge_size", 2)?);
    for (name, inputs, outputs) in
        [("linear_1", encoder.hidden, inner), ("linear_2", inner, width), ("merge_linear_1", merged, inner), ("merge_linear_2", inner, width)]
    {
        linear(&mut t, Role::Other, &format!("model.multi_modal_projector.{name}"), inputs, outputs, true);
    }
    let projector = component("projector", ComponentKind::Projector, width, "", t.build(), Vec::new());
    Ok(draft.with(tower.component("vision", ComponentKind::VisionTower)).with(projector))
}
