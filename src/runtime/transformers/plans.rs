//! Which families transformers splits over GPUs: those whose config class has a `base_model_tp_plan`, its own or a base's, over all classes
//! in `configuration_*.py` of transformers 5.23. Of others `tp_plan="auto"` splits at most the head: every GPU holds the whole model.

use crate::model::Model;

/// `model_type` of each config class with a plan; `t5gemma` has that of its halves (`t5_gemma_module`).
#[rustfmt::skip]
const PLANNED: &[&str] = &[
    "afmoe", "apertus", "arcee", "aria_text", "axk1", "axk2", "bailing_hybrid", "beam", "cohere", "cohere2", "cohere2_moe", "cohere_compass_text",
    "cosmos3_edge_text", "cwm", "deepseek_ocr2_encoder", "deepseek_ocr2_text", "deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4",
    "diffusion_gemma_text", "doge", "dots1", "dots3_note_text", "dots3_note_vision_encoder", "embedding_gemma2_text", "ernie4_5", "ernie4_5_moe",
    "ernie4_5_vl_moe_text", "ernie4_5_vl_moe_vision", "esmc", "eurobert", "exaone4", "exaone_moe", "flex_olmo", "flint", "gemma", "gemma2",
    "gemma3_text", "gemma3n_text", "gemma4_text", "gemma4_unified_text", "gemma4_vision", "glm", "glm4", "glm4_moe", "glm4_moe_lite",
    "glm4v_moe_text", "glm4v_text", "glm5_next_text", "glm_image_text", "glm_moe_dsa", "glm_ocr_text", "gpt_neox", "granite", "granite4_vision_text",
    "granite_docling_text", "granite_swa", "granitemoe", "granitemoe_swa", "granitemoehybrid", "granitemoeshared", "helium", "higgs_audio_v2",
    "hrm_text", "hunyuan_v1_moe", "hy_v3", "hy_v4", "hyperclovax", "inkling2_text", "inkling_text", "internlm3", "iquestcoder", "jais2", "jamba",
    "kimi_linear", "kolibri1", "laguna", "lfm2_moe", "llama", "llama4", "llama4_text", "llama4_vision_model", "longcat_flash", "mellum",
    "mimo_v2_flash", "minicpm3", "minimax", "minimax_m2", "minimax_m3_vl_text", "ministral", "ministral3", "mistral", "mistral4",
    "mistral_large4_text", "mixtral", "muse_glimmer", "muse_glimmer_assistant", "muse_glimmer_text", "muse_glimmer_vision", "muse_spark",
    "muse_spark_text", "nanochat", "nemotron", "nemotron_h", "neomme", "olmo", "olmo2", "olmo3", "olmo_hybrid", "olmoe", "paddleocr_vl_text", "phi",
    "phi3", "phi4_multimodal", "phimoe", "qwen2", "qwen2_5_omni_text", "qwen2_5_vl_text", "qwen2_moe", "qwen2_vl_text", "qwen3", "qwen3_5_moe_text",
    "qwen3_5_text", "qwen3_moe", "qwen3_next", "qwen3_omni_moe_talker_code_predictor", "qwen3_omni_moe_talker_text", "qwen3_omni_moe_text",
    "qwen3_vl_moe_text", "qwen4_exp_text", "seed_oss", "smollm3", "solar_open", "starcoder2", "step3p5", "t5_gemma_module", "t5gemma",
    "t5gemma2_decoder", "t5gemma2_text", "ultrabert", "unlimited_ocr_text", "vaultgemma", "voxtral_realtime_text", "youtu",
];

/// Those with a `base_model_ep_plan` alone: their experts are split, where that is asked for.
const OF_EXPERTS: &[&str] = &["gpt_oss", "openai_privacy_filter", "zaya"];

fn is_of(model: &Model, families: &[&str]) -> bool {
    let is_in = |family: &&str| families.contains(family) || families.iter().any(|one| one.strip_suffix("_text") == Some(family));
    model.anatomy.types().iter().any(is_in)
}

/// Whether the family is split.
pub(in crate::runtime) fn has_plan(model: &Model) -> bool {
    is_of(model, PLANNED)
}

/// Whether its experts alone can be.
pub(super) fn has_plan_of_experts(model: &Model) -> bool {
    is_of(model, OF_EXPERTS)
}
