//! Classes of a repository's own code under a `model_type` that another class has made known.

use super::ConfigError;
use super::fields::Fields;

/// What of a type's name its classes leave out: `gemma3_text` is built as `Gemma3ForCausalLM`.
const LEFT_OUT: &[&str] = &["_model", "_text", "_text_model"];

/// Types whose classes bear another name: all that are read as this type, beside its own.
const NAMED_OTHERWISE: &[(&str, &str)] = &[
    ("RefinedWeb", "RW"),
    ("RefinedWebModel", "RW"),
    ("audio-spectrogram-transformer", "AST"),
    ("bailing_hybrid", "BailingMoeV2_5"),
    ("bailing_moe", "BailingMoeV2"),
    ("bailing_moe_linear", "BailingMoeLinearV2"),
    ("bert", "HF_ColBERT"),
    ("bert", "JinaBert"),
    ("clip", "CLIPText"),
    ("clip", "CLIPVision"),
    ("deci", "DeciCoder"),
    ("deci", "DeciLM"),
    ("deepseek_vl_v2", "DeepseekOCR"),
    ("deepseek_vl_v2", "DeepseekOCR2"),
    ("dpr", "DPRContext"),
    ("dpr", "DPRQuestion"),
    ("emu3_text_model", "Emu3"),
    ("ernie4_5_moe_vl", "Ernie4_5_VL"),
    ("ernie4_5_moe_vl", "Ernie4_5_VLMoe"),
    ("falcon", "RW"),
    ("git", "Grok1"),
    ("glmga", "Glm46V"),
    ("gpt-sw3", "GPT2"),
    ("hf_olmo", "OLMo"),
    ("hunyuan", "HunYuanMoEV1"),
    ("hunyuan_v1_dense", "HunYuanDenseV1"),
    ("hunyuan_v1_moe", "HunYuan"),
    ("hunyuan_v1_moe", "HunYuanMoEV1"),
    ("inkling_mm_model", "Inkling"),
    ("intern_vit_6b", "InternVision"),
    ("internlm2", "Llama"),
    ("internlm3", "Llama"),
    ("iquestcoder", "Llama"),
    ("kimi_k2", "DeepseekV3"),
    ("llama", "Eagle3Llama"),
    ("llama", "LlamaForCausalLMEagle3"),
    ("llama_bidirec", "LlamaBidirectional"),
    ("llava", "LlavaGemma"),
    ("llava", "LlavaLlama"),
    ("llava", "LlavaMistral"),
    ("llava", "LlavaMixtral"),
    ("llava", "LlavaQwen"),
    ("llava", "LlavaQwen2"),
    ("llava", "LlavaQwen3"),
    ("marian", "MarianMT"),
    ("minimax_m3_vl", "MiniMaxM3Sparse"),
    ("moondream1", "HfMoondream"),
    ("mt5", "T5"),
    ("nemotron-nas", "DeciLM"),
    ("nemotron_h_omni", "NemotronH_Nano_Omni_Reasoning_V3"),
    ("nemotron_h_omni", "NemotronH_Omni_Reasoning_V3"),
    ("nemotron_h_omni", "NemotronH_Super_Omni_Reasoning_V3"),
    ("parakeet_ctc", "Parakeet"),
    ("parakeet_rnnt", "Parakeet"),
    ("parakeet_tdt", "Parakeet"),
    ("phi-msft", "MixFormerSequential"),
    ("phi-msft", "Phi"),
    ("pixtral", "Llava"),
    ("pp_chart2table", "GotOcr2"),
    ("qwen2_5_omni", "Qwen2_5OmniThinker"),
    ("rwkv5", "Rwkv"),
    ("sam2_video", "Sam2"),
    ("sam3_video", "Sam3Tracker"),
    ("shieldgemma2", "Gemma3"),
    ("skywork_chat", "SkyworkR1VChat"),
    ("speech_to_text", "Speech2Text"),
    ("stablelm", "StableLMEpoch"),
    ("t5", "MT5"),
    ("telechat", "TeleChat2"),
    ("xlm-roberta", "XLMRobertaLoRA"),
];

/// What transformers puts before the name of a class that is written in another framework.
const FRAMEWORKS: &[&str] = &["Flax", "TF"];

/// What may follow the name in a class's own: nothing (`MiniCPMV`), one of these, or what it is for (`ForCausalLM`).
const TOPS: &[&str] = &[
    "",
    "Backbone",
    "BaseModel",
    "CausalLM",
    "Decoder",
    "DoubleHeadsModel",
    "Encoder",
    "EncoderModel",
    "LMHeadModel",
    "Model",
    "ModelLM",
    "ModelWithLMHead",
    "ModelWithProjection",
    "PreTrainedModel",
    "TextModel",
    "VisionModel",
    "WithLMHeadModel",
];

/// The bare class of whatever type, as a config is read that is loaded without its head.
const BARE: &str = "Model";

/// What follows `name` in a class's name, whatever separates and capitalises the letters of either.
fn after<'a>(class: &'a str, name: &str) -> Option<&'a str> {
    let mut letters = class.chars();
    for wanted in name.chars().filter(char::is_ascii_alphanumeric) {
        letters.find(char::is_ascii_alphanumeric).filter(|letter| letter.eq_ignore_ascii_case(&wanted))?;
    }
    Some(letters.as_str().trim_start_matches('_'))
}

/// Whether `rest` of a class's name says what it is for. A language model's name ends there: what follows is another's
/// (`ForCausalLMEagle3`).
fn is_purpose(rest: &str) -> bool {
    let purpose = rest.strip_prefix("Model").unwrap_or(rest).strip_prefix("For");
    purpose.is_some_and(|purpose| purpose.starts_with(|letter: char| letter.is_ascii_uppercase()) && purpose.strip_prefix("CausalLM").is_none_or(str::is_empty))
}

/// Whether `class` is one that models of this type are built as, by its name: the type's, and a top.
fn is_own(class: &str, model_type: &str) -> bool {
    let is_top = |rest: &str| TOPS.contains(&rest) || is_purpose(rest);
    let plain = FRAMEWORKS.iter().filter_map(|framework| class.strip_prefix(framework));
    let classes: Vec<&str> = std::iter::once(class).chain(plain).collect();
    let shorter = LEFT_OUT.iter().filter_map(|end| model_type.strip_suffix(end));
    let others = NAMED_OTHERWISE.iter().filter(|(kind, _)| *kind == model_type).map(|(_, name)| *name);
    let mut names = std::iter::once(model_type).chain(shorter).chain(others);
    class == BARE || names.any(|name| classes.iter().any(|class| after(class, name).is_some_and(is_top)))
}

/// The class of other code that `auto_map` names for the model itself; one whose name is not the type's before others.
fn mapped(f: &Fields, model_type: &str) -> Option<String> {
    let entries = f.raw("auto_map").and_then(|map| map.as_object()).into_iter().flatten();
    // `REPOSITORY--module.Class`; a tokenizer's entry is a list.
    let entries = entries.filter(|(auto, _)| auto.starts_with("AutoModel"));
    let classes: Vec<&str> = entries.filter_map(|(_, path)| path.as_str()?.rsplit('.').next()).collect();
    let other = classes.iter().find(|class| !is_own(class, model_type));
    other.or(classes.first()).map(|&class| class.to_owned())
}

/// The sizes that the config gives and no reader asked for.
fn sizes_left(f: &Fields) -> Option<String> {
    let (_, left) = f.accounts();
    let sizes: Vec<String> = left.iter().filter(|key| f.gives_a_size(key)).map(|key| format!("`{key}`")).collect();
    (!sizes.is_empty()).then(|| sizes.join(", "))
}

/// What a line that already names the class does not say yet: the sizes that are left out.
pub(super) fn left_out(f: &Fields) -> String {
    sizes_left(f).map_or_else(String::new, |sizes| format!("; not counted: {sizes}"))
}

/// What is assumed of a model whose class is not its type's own: whatever `architectures` names, and what only `auto_map` does where
/// the config gives sizes that its type's reader did not ask for.
pub(super) fn assumption(f: &Fields, model_type: &str) -> Result<Option<String>, ConfigError> {
    let sizes = sizes_left(f);
    let without = sizes.as_ref().map_or_else(String::new, |sizes| format!(", without {sizes}"));
    let named = f.architecture()?.filter(|class| !is_own(class, model_type));
    Ok(match named.or_else(|| mapped(f, model_type).filter(|_| sizes.is_some())) {
        None => None,
        Some(class) if is_own(&class, model_type) => {
            Some(format!("class `{class}` of this repository's own code (`auto_map`) is read as that of other `{model_type}` models{without}"))
        }
        Some(class) => Some(format!("class `{class}` is not one that `{model_type}` models are known to be built as; it is read as one of them{without}")),
    })
}

#[cfg(test)]
mod tests {
    use crate::config::read;

    #[test]
    fn a_class_of_other_code_with_sizes_that_are_not_read_is_said() {
        let flagged = |class: &str, mapped: &str, more: &str| {
            let config = format!(
                r#"{{"model_type": "qwen2", "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 100,
                    "architectures": ["{class}"], "auto_map": {{"AutoModel": "{mapped}", "AutoTokenizer": ["tokenization_x.XTokenizer", null]}}{more}}}"#
            );
            let lines = read(&config).unwrap().assumptions;
            lines.into_iter().filter(|line| line.contains(" read as ")).collect::<Vec<_>>()
        };
        let own = "modeling_qwen.Qwen2ForCausalLM";
        assert!(flagged("Qwen2ForCausalLM", own, "").is_empty());
        // Code of its own is said where sizes are left, whatever its class is called.
        let lines = flagged("Qwen2ForCausalLM", own, r#", "resampler_dim": 32"#);
        assert!(lines.len() == 1 && lines[0].contains("`auto_map`") && lines[0].ends_with("without `resampler_dim`"), "{lines:?}");
        // A name that begins alike is another's, known or not.
        for class in ["Qwen3ForCausalLM", "Qwen2RLModel", "Qwen2DuoForCausalLM", "QwenForCausalLM"] {
            let lines = flagged(class, own, "");
            assert!(lines.len() == 1 && lines[0].ends_with("one of them"), "{class}: {lines:?}");
        }
        assert!(flagged("Qwen2ForCausalLM", "modeling_duo.DuoModel", "").is_empty());
        let lines = flagged("DuoForCausalLM", own, r#", "resampler_dim": 32, "resampler_note": 1"#);
        assert!(lines.len() == 1 && lines[0].contains("`DuoForCausalLM`") && lines[0].ends_with("without `resampler_dim`"), "{lines:?}");
        let lines = flagged("Qwen2ForCausalLM", "someone/repo--modeling_duo.DuoModel", r#", "second": {"rows": 3}"#);
        assert!(lines.len() == 1 && lines[0].contains("`DuoModel`") && lines[0].contains("`second`"), "{lines:?}");
    }

    /// Published models whose class bears another name than their type's.
    #[test]
    fn models_under_another_types_class_are_counted_and_not_said() {
        let text = r#""text_config": {"model_type": "clip_text_model", "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
            "num_attention_heads": 12, "vocab_size": 49408, "max_position_embeddings": 77, "projection_dim": 768}"#;
        let vision = r#""vision_config": {"model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
            "num_attention_heads": 16, "image_size": 224, "patch_size": 14, "projection_dim": 768}"#;
        let clip = format!(r#""model_type": "clip", "projection_dim": 768, {text}, {vision}"#);
        let pixtral = r#""model_type": "pixtral", "image_token_index": 10, "projector_hidden_act": "gelu", "vision_feature_layer": -1,
            "vision_feature_select_strategy": "full", "text_config": {"model_type": "mistral", "hidden_size": 5120, "intermediate_size": 14336,
            "num_hidden_layers": 40, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 131072, "sliding_window": null},
            "vision_config": {"model_type": "pixtral", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
            "head_dim": 64, "image_size": 1024, "patch_size": 16}"#;
        let internlm = r#""model_type": "internlm2", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": 8, "vocab_size": 92544, "bias": false, "tie_word_embeddings": false"#;
        let ling = r#""model_type": "bailing_moe", "hidden_size": 2048, "intermediate_size": 5120, "moe_intermediate_size": 512, "num_experts": 256,
            "num_experts_per_tok": 8, "num_shared_experts": 1, "first_k_dense_replace": 1, "num_hidden_layers": 20, "num_attention_heads": 16,
            "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 157184, "use_qk_norm": true, "use_bias": false, "use_qkv_bias": false,
            "moe_router_enable_expert_bias": true, "tie_word_embeddings": false"#;
        for (config, class, parameters) in [
            // openai/clip-vit-large-patch14: its text encoder, as Stable Diffusion 1 has it, and its tower with the projection.
            (clip.as_str(), "CLIPTextModel", 123_060_480),
            (&clip, "CLIPVisionModelWithProjection", 303_966_208),
            (&clip, "CLIPModel", 427_616_513),
            // Pixtral 12B as the library counts it.
            (pixtral, "LlavaForConditionalGeneration", 12_682_739_712),
            // InternLM2 7B, and its copies with Llama's tensors.
            (internlm, "InternLM2ForCausalLM", 7_737_708_544),
            (internlm, "LlamaForCausalLM", 7_737_708_544),
            // Ling-mini 2.0: the Hub counts 256 more in each sparse layer, which are buffers.
            (ling, "BailingMoeV2ForCausalLM", 16_255_643_392 - 19 * 256),
        ] {
            let anatomy = read(&format!(r#"{{"architectures": ["{class}"], {config}}}"#)).unwrap();
            assert_eq!(anatomy.parameters().unwrap().get(), parameters, "{class}");
            assert!(
                anatomy.assumptions.is_empty() && anatomy.keys_not_understood.is_empty(),
                "{class}: {:?} {:?}",
                anatomy.assumptions,
                anatomy.keys_not_understood
            );
        }
    }

    #[test]
    fn classes_are_told_apart_by_their_whole_names() {
        for (model_type, class) in [
            ("bailing_moe", "BailingMoeV2ForCausalLM"),
            ("clip", "CLIPTextModelWithProjection"),
            ("clip", "CLIPVisionModelWithProjection"),
            ("ernie4_5_moe_vl", "Ernie4_5_VLForConditionalGeneration"),
            ("ernie4_5_moe_vl", "Ernie4_5_VLMoeForConditionalGeneration"),
            ("falcon", "RWForCausalLM"),
            ("internlm2", "LlamaForCausalLM"),
            ("llama_bidirec", "LlamaBidirectionalForSequenceClassification"),
            ("llama_bidirec", "LlamaBidirectionalModel"),
            ("mt5", "T5ForConditionalGeneration"),
            ("opt", "FlaxOPTForCausalLM"),
            ("opt", "TFOPTForCausalLM"),
            ("pixtral", "LlavaForConditionalGeneration"),
            ("stablelm", "StableLMEpochForCausalLM"),
            ("t5", "MT5ForConditionalGeneration"),
        ] {
            assert!(super::is_own(class, model_type), "{model_type} {class}");
        }
        for (model_type, class) in [
            ("gpt_oss", "GptOssForCausalLMEagle3"),
            ("deepseek_v3", "DeepseekV3ForCausalLMNextN"),
            ("llama", "LlamaForCausalLMWithNumericDecoding"),
            ("llama", "FlaxMistralForCausalLM"),
            ("mt5", "UMT5ForConditionalGeneration"),
        ] {
            assert!(!super::is_own(class, model_type), "{model_type} {class}");
        }
    }

    #[test]
    fn a_class_beside_the_known_ones_of_a_wrapper_is_said_whatever_the_outer_object_repeats() {
        let text = r#""hidden_size": 64, "intermediate_size": 128, "moe_intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 4, "vocab_size": 100, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1,
            "use_mla": false, "q_lora_rank": null, "kv_lora_rank": null, "qk_nope_head_dim": 0, "qk_rope_head_dim": 0, "v_head_dim": 0"#;
        let reading = |class: &str, more: &str| {
            let config = format!(
                r#"{{"model_type": "deepseek_vl_v2", "architectures": ["{class}"], {text}, "language_config": {{{text}}}, "projector_config":
                    {{"input_dim": 64, "n_embed": 64, "projector_type": "linear"}}, "vision_config":
                    {{"width": 64, "layers": 2, "heads": 4, "image_size": 28, "patch_size": 14}}{more}}}"#
            );
            read(&config).unwrap()
        };
        for own in ["DeepseekVLV2ForCausalLM", "DeepseekOCRForCausalLM", "DeepseekOCR2ForCausalLM"] {
            let anatomy = reading(own, "");
            assert!(anatomy.assumptions.is_empty() && anatomy.keys_not_understood.is_empty(), "{:?} {:?}", anatomy.assumptions, anatomy.keys_not_understood);
        }
        // What the outer object repeats is not what the class has besides.
        let anatomy = reading("DeepseekGlanceForCausalLM", r#", "glance_rank": 8"#);
        assert!(anatomy.assumptions.len() == 1 && anatomy.assumptions[0].ends_with("without `glance_rank`"), "{:?}", anatomy.assumptions);
        assert_eq!(reading("DeepseekGlanceForCausalLM", "").assumptions.len(), 1);
        // An outer size that differs from the inner one is not understood.
        assert_eq!(reading("DeepseekVLV2ForCausalLM", r#", "hidden_size": 65"#).keys_not_understood, ["hidden_size"]);
    }
}
