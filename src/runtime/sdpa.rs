//! Which attention transformers 5.23 has for a family: what its models say (`_supports_sdpa`, `_supports_flash_attn`), and what
//! `from_pretrained` makes of a choice (`modeling_utils.py`, `get_correct_attn_implementation`, `_flash_attn_can_dispatch`): where there is no
//! SDPA the default is eager, where there is no flash attention that choice raises.

use crate::model::Model;

/// Families that have neither SDPA nor flash attention.
#[rustfmt::skip]
const EAGER_ONLY: &[&str] = &[
    "big_bird", "bigbird_pegasus", "blip", "bloom", "bros", "canine", "clap", "codegen", "convbert", "cpmant", "cvt", "dab-detr", "deberta",
    "deberta-v2", "deepseek_v4", "donut-swin", "fastspeech2_conformer", "flaubert", "flava", "fsmt", "funnel", "git", "glpn", "gpt_neox_japanese",
    "grounding-dino", "hiera", "hy_v4", "ibert", "imagegpt", "layoutlmv2", "layoutlmv3", "led", "levit", "lilt", "longformer", "longt5", "luke",
    "lxmert", "markuplm", "megatron-bert", "mm-grounding-dino", "mobilevit", "mpnet", "mpt", "mra", "mvp", "nllb-moe", "nystromformer", "openai-gpt",
    "perceiver", "prophetnet", "pvt", "pvt_v2", "reformer", "rembert", "roformer", "sew-d", "speech_to_text", "speecht5", "splinter", "squeezebert",
    "superglue", "swin2sr", "swinv2", "switch_transformers", "table-transformer", "tapas", "timesformer", "trocr", "vilt", "visual_bert", "vitdet",
    "vits", "wavlm", "xglm", "xlm", "xlnet", "yoso",
];

/// Families that have flash attention, and no SDPA.
#[rustfmt::skip]
const EAGER_OR_FLASH: &[&str] = &[
    "bark", "gemma2", "gpt_neo", "gpt_oss", "gptj", "granite_swa", "granitemoe_swa", "mimo_v2_flash", "openai_privacy_filter", "pegasus_x", "t5gemma",
    "vaultgemma",
];

/// Further families without flash attention: those with SDPA, those whose attention is in a part with SDPA (`got_ocr2`), and those
/// without scores.
#[rustfmt::skip]
const WITHOUT_FLASH: &[&str] = &[
    "axk2", "beit", "bit", "blip-2", "convnext", "convnextv2", "dac", "data2vec-vision", "deepseek_v32", "depth_anything", "depth_pro",
    "dinov3_convnext", "doge", "dpr", "efficientnet", "encodec", "eomt", "falcon_mamba", "fnet", "focalnet", "glm5_next", "glm5_next_text",
    "glm_moe_dsa", "got_ocr2", "granite_speech", "granite_speech_plus", "hgnet_v2", "idefics", "inkling_mm_model", "inkling_text", "kosmos-2",
    "layoutlm", "llama4", "llama4_text", "mamba", "mamba2", "mask2former", "maskformer", "minimax_m3_vl", "minimax_m3_vl_text", "mistral_large4",
    "mistral_large4_text", "mllama", "mobilenet_v1", "mobilenet_v2", "mobilevitv2", "mt5", "oneformer", "parakeet_ctc", "parakeet_encoder",
    "parakeet_rnnt", "parakeet_tdt", "pix2struct", "poolformer", "pop2piano", "prompt_depth_anything", "qwen4_exp", "qwen4_exp_text", "regnet",
    "resnet", "rt_detr_resnet", "rwkv", "sam", "sam_hq", "sam_vision_model", "seamless_m4t", "seamless_m4t_v2", "siglip2", "siglip2_vision_model",
    "step3p7", "superpoint", "swiftformer", "swin", "t5", "t5gemma2", "timesfm", "timm_wrapper", "udop", "umt5", "upernet", "vitmatte", "vitpose",
    "wav2vec2-bert", "wav2vec2-conformer", "xlstm", "zoedepth",
];

/// Families of which not every token attends to every other in long inputs, by kernels or blocks of their own.
#[rustfmt::skip]
const IN_PART: &[&str] = &[
    "big_bird", "bigbird_pegasus", "led", "longformer", "longt5", "mra", "nystromformer", "reformer", "yoso",
];

/// Whether a model is of one of these families, by any of its types.
fn is_any(model: &Model, families: &[&str]) -> bool {
    model.anatomy.types().iter().any(|model_type| families.contains(model_type))
}

/// Whether attention is written out (eager) where no way is chosen, or SDPA: scores are tensors then. PyTorch's kernels cap no scores either.
pub(crate) fn is_written_out(model: &Model) -> bool {
    is_any(model, EAGER_ONLY) || is_any(model, EAGER_OR_FLASH) || model.anatomy.computation.caps_scores
}

/// The same of every part of it, by its own type alone.
pub(crate) fn is_whole_written_out(model: &Model) -> bool {
    let model_type = &model.anatomy.model_type.as_str();
    EAGER_ONLY.contains(model_type) || EAGER_OR_FLASH.contains(model_type)
}

/// Whether scores of all pairs are more than it computes.
pub(crate) fn attends_in_part(model: &Model) -> bool {
    is_any(model, IN_PART)
}

/// Why flash attention cannot be chosen; `None` where it can.
pub(crate) fn without_flash(model: &Model) -> Option<String> {
    if !is_any(model, EAGER_ONLY) && !is_any(model, WITHOUT_FLASH) {
        return None;
    }
    let (name, default) =
        (&model.anatomy.model_type, if is_written_out(model) { "eager, which is also what the default becomes" } else { "sdpa, the default" });
    Some(format!("transformers 5.23 has no flash attention for `{name}` models and refuses to load them with it: choose {default} (--attention)"))
}
