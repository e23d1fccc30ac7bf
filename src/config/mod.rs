//! `config.json` to [`Anatomy`]: one small file per family over a shared vocabulary of blocks.
//!
//! To add a family: write `config/NAME.rs` with a function `fn(&Fields) -> Result<Draft, ConfigError>` that names its
//! blocks ([`decoder`]), and add its row to [`FAMILIES`].

mod classic;
mod decoder;
mod delta;
mod experts;
mod fields;
pub mod json;
mod multimodal;
mod recurrent;

mod aria;
mod audio;
mod audio_language;
mod baichuan;
mod bailing_linear;
mod bamba;
mod bart;
mod bert;
mod blip;
mod bloom;
mod chameleon;
mod chatglm;
mod clip;
mod cohere;
mod cohere_vision;
mod convnet;
mod cpmant;
mod decilm;
mod deepseek_vl;
mod depth_anything;
mod distilbert;
mod encoder;
mod ernie4_5_vl;
mod eurobert;
mod exaone;
mod falcon;
mod fuyu;
mod gemma;
mod gemma3;
mod gemma3_vision;
mod gemma3n;
mod gemma4;
mod glm;
mod glm4v;
mod gpt2;
mod gpt2_kin;
mod gpt_bigcode;
mod gpt_neo;
mod gpt_neox;
mod gptj;
mod granite;
mod granitemoehybrid;
mod idefics;
mod infer;
mod internlm;
mod internvl;
mod jamba;
mod janus;
mod kimi_linear;
mod kimi_vl;
mod kosmos2;
mod latent;
mod lfm2;
mod lfm2_vl;
mod llama;
mod llama4;
mod llama_kin;
mod llama_more;
mod llava;
mod mamba;
mod mimo;
mod minicpm;
mod minicpmv;
mod minimax;
mod ministral;
mod mistral;
mod mistral3;
mod mixtral;
mod mobilenet;
mod modernbert;
mod modernbert_decoder;
mod moonshine;
mod mpt;
mod nemotron_h;
mod nomic_bert;
mod olmo;
mod olmo_hybrid;
mod openai_gpt;
mod openelm;
mod opt;
mod paligemma;
mod persimmon;
mod phi;
mod phi3;
mod phi4flash;
mod plamo;
mod plamo2;
mod qwen;

mod afmoe;
mod arctic;
mod aria_text;
mod axk2;
mod bailing_hybrid;
mod bailing_moe;
mod dbrx;
mod deepseek;
mod deepseek_v4;
mod dots1;
mod ernie4_5_moe;
mod exaone_moe;
mod glm4_moe;
mod gpt_oss;
mod granitemoe;
mod grok;
mod hunyuan_v1_moe;
mod jetmoe;
mod kimi_k25;
mod kimi_k3;
mod latent_dense;
mod longcat_flash;
mod mimo_v2_flash;
mod minimax_m2;
mod mllama;
mod normed_moe;
mod olmoe;
mod phi3_v;
mod phi4_multimodal;
mod phimoe;
mod qwen2;
mod qwen2_moe;
mod qwen3;
mod qwen3_5;
mod qwen3_moe;
mod qwen3_next;
mod qwen_omni;
mod qwen_vl;
mod recurrent_gemma;
mod rwkv;
mod sam;
mod segformer;
mod stablelm;
mod starcoder2;
mod step3_text;
mod swin;
mod t5;
mod t5gemma;
mod telechat;
mod towers;
mod ungated;
mod vision;
mod vit;
mod vqgan;
mod wav2vec2;
mod wav2vec2_bert;
mod whisper;
mod xglm;
mod xlstm;
mod zamba;
mod zaya;

use crate::encoding::Encoding;
use crate::model::Anatomy;
use decoder::Draft;
pub use fields::Fields;

/// A family: its `model_type` and the reader of its fields.
struct Family {
    model_type: &'static str,
    read: fn(&Fields) -> Result<Draft, ConfigError>,
}

const fn family(model_type: &'static str, read: fn(&Fields) -> Result<Draft, ConfigError>) -> Family {
    Family { model_type, read }
}

/// Every family that is understood to the parameter.
static FAMILIES: &[Family] = &[
    family("apertus", ungated::apertus),
    family("aquila", llama_kin::unbiased),
    family("arcee", ungated::arcee),
    family("baichuan", baichuan::read),
    family("biogpt", xglm::read_biogpt),
    family("bitnet", llama_more::bitnet),
    family("bloom", bloom::read),
    family("btlm", gpt2_kin::jais),
    family("chatglm", chatglm::read),
    family("codegen", gptj::read_codegen),
    family("codeshell", gpt2_kin::codeshell),
    family("cohere", cohere::read),
    family("cohere2", cohere::read_cohere2),
    family("cpmant", cpmant::read),
    family("ctrl", openai_gpt::read_ctrl),
    family("cwm", llama_kin::cwm),
    family("diffllama", llama_more::diffllama),
    family("doge", llama_more::doge),
    family("ernie4_5", llama_kin::ernie4_5),
    family("exaone", exaone::read),
    family("exaone4", exaone::read_exaone4),
    family("falcon", falcon::read),
    family("albert", bert::read_albert),
    family("bart", bart::read_bart),
    family("bert", bert::read_bert),
    family("bert-generation", bert::read_bert_generation),
    family("big_bird", bert::read_big_bird),
    family("blenderbot", bart::read_blenderbot),
    family("blenderbot-small", bart::read_blenderbot_small),
    family("camembert", bert::read_xlm_roberta),
    family("data2vec-audio", wav2vec2::read_data2vec_audio),
    family("data2vec-text", bert::read_data2vec_text),
    family("deberta", bert::read_deberta),
    family("deberta-v2", bert::read_deberta_v2),
    family("distilbert", distilbert::read),
    family("dpr", bert::read_dpr),
    family("electra", bert::read_electra),
    family("ernie", bert::read_ernie),
    family("eurobert", eurobert::read),
    family("flaubert", distilbert::read_xlm),
    family("gemma", gemma::read_gemma),
    family("gemma2", gemma::read_gemma2),
    family("glm", glm::read),
    family("glm4", glm::read_glm4),
    family("gpt2", gpt2::read),
    family("gpt_bigcode", gpt_bigcode::read),
    family("gpt_neo", gpt_neo::read),
    family("gpt_neox", gpt_neox::read),
    family("gpt_neox_japanese", gpt_neox::read_japanese),
    family("gpt_refact", gpt2_kin::refact),
    family("gptj", gptj::read),
    family("granite", granite::read),
    family("granite_swa", granite::read_swa),
    family("helium", llama_kin::helium),
    family("hf_olmo", olmo::read_own),
    family("hunyuan_v1_dense", llama_kin::hunyuan),
    family("hyperclovax", llama_kin::hyperclovax),
    family("internlm", internlm::read),
    family("internlm2", internlm::read_internlm2),
    family("internlm3", llama_kin::internlm3),
    family("iquestcoder", llama_kin::iquestcoder),
    family("jais", gpt2_kin::jais),
    family("jais2", ungated::jais2),
    family("llama", llama::read),
    family("mimo", mimo::read),
    family("minicpm", minicpm::read),
    family("ministral", ministral::read),
    family("ministral3", ministral::read_ministral3),
    family("altclip", clip::read_altclip),
    family("aya_vision", cohere_vision::read_aya),
    family("beit", vit::read_beit),
    family("blip", blip::read),
    family("blip-2", blip::read2),
    family("chinese_clip", clip::read_chinese),
    family("clip", clip::read),
    family("clip_text_model", clip::read_text),
    family("clip_vision_model", clip::read_vision),
    family("cohere2_vision", cohere_vision::read_command),
    family("colpali", paligemma::read_colpali),
    family("convnext", convnet::read_convnext),
    family("convnextv2", convnet::read_convnext2),
    family("data2vec-vision", vit::read_data2vec),
    family("deit", vit::read_deit),
    family("depth_anything", depth_anything::read),
    family("dinov2", vit::read_dinov2),
    family("dinov2_with_registers", vit::read_dinov2_registers),
    family("dinov3_convnext", convnet::read_dinov3),
    family("dinov3_vit", vit::read_dinov3),
    family("efficientnet", mobilenet::read_efficient),
    family("git", blip::read_git),
    family("got_ocr2", sam::read_got),
    family("idefics2", idefics::read2),
    family("idefics3", idefics::read3),
    family("ijepa", vit::read_ijepa),
    family("instructblip", blip::read_instruct),
    family("instructblipvideo", blip::read_instruct),
    family("intern_vit_6b", clip::read_vision),
    family("internvl", internvl::read),
    family("internvl_chat", internvl::read_chat),
    family("internvl_vision", clip::read_vision),
    family("kosmos-2", kosmos2::read),
    family("lfm2_vl", lfm2_vl::read),
    family("llava", llava::read),
    family("llava_llama", llava::read),
    family("llava_mistral", llava::read_first_mistral),
    family("llava_next", llava::read_next),
    family("llava_next_video", llava::read_next_video),
    family("llava_onevision", llava::read_onevision),
    family("llava_qwen", llava::read_first_qwen),
    family("metaclip_2", clip::read),
    family("metaclip_2_text_model", clip::read_text),
    family("metaclip_2_vision_model", clip::read_vision),
    family("minicpmv", minicpmv::read),
    family("aria", aria::read),
    family("chameleon", chameleon::read),
    family("deepseek_vl", deepseek_vl::read),
    family("deepseek_vl_v2", deepseek_vl::read_v2),
    family("ernie4_5_moe_vl", ernie4_5_vl::read),
    family("ernie4_5_vl_moe", ernie4_5_vl::read),
    family("ernie4_5_vl_moe_text", ernie4_5_vl::read_text),
    family("fuyu", fuyu::read),
    family("gemma3", gemma3_vision::read),
    family("gemma3_text", gemma3::read),
    family("gemma4", gemma4::read),
    family("gemma4_text", gemma4::read_text),
    family("gemma4_unified", gemma4::read_unified),
    family("gemma4_unified_text", gemma4::read_unified_text),
    family("glm46v", glm4v::read),
    family("glm4v", glm4v::read),
    family("glm4v_moe", glm4v::read_moe),
    family("glm4v_moe_text", glm4v::read_moe_text),
    family("glm4v_text", glm4v::read_text),
    family("glm_ocr", glm4v::read_ocr),
    family("glm_ocr_text", glm4v::read_ocr_text),
    family("janus", janus::read),
    family("kimi_k25", kimi_k25::read),
    family("kimi_vl", kimi_vl::read),
    family("llama4", llama4::read),
    family("llama4_text", llama4::read_text),
    family("gte", nomic_bert::read_gte),
    family("hubert", wav2vec2::read_hubert),
    family("jina_embeddings_v3", nomic_bert::read_jina_v3),
    family("led", bart::read_led),
    family("longformer", bert::read_longformer),
    family("longt5", t5::read_longt5),
    family("m2m_100", bart::read_m2m_100),
    family("marian", bart::read_marian),
    family("mbart", bart::read_mbart),
    family("megatron-bert", bert::read_megatron_bert),
    family("mistral", mistral::read),
    family("mistral3", mistral3::read),
    family("mixtral", mixtral::read),
    family("mobilellm", llama_kin::mobilellm),
    family("modernbert-decoder", modernbert_decoder::read),
    family("moss", gptj::read_codegen),
    family("mpt", mpt::read),
    family("nanochat", ungated::nanochat),
    family("nemotron", ungated::nemotron),
    family("olmo", olmo::read),
    family("olmo2", olmo::read_olmo2),
    family("olmo3", olmo::read_olmo3),
    family("openai-gpt", openai_gpt::read),
    family("openelm", openelm::read),
    family("opt", opt::read),
    family("orion", stablelm::read_orion),
    family("persimmon", persimmon::read),
    family("phi", phi::read),
    family("phi-msft", phi::read_msft),
    family("phi3", phi3::read),
    family("phi3small", phi::read_small),
    family("plamo", plamo::read),
    family("qwen", qwen::read),
    family("bailing_hybrid", bailing_hybrid::read),
    family("bailing_moe_linear", bailing_linear::read),
    family("bamba", bamba::read_bamba),
    family("deci", decilm::read_deci),
    family("falcon_h1", bamba::read_falcon_h1),
    family("falcon_mamba", mamba::read_mamba),
    family("gemma3n", gemma3n::read),
    family("gemma3n_text", gemma3n::read_text),
    family("granitemoehybrid", granitemoehybrid::read),
    family("jamba", jamba::read),
    family("kimi_linear", kimi_linear::read),
    family("lfm2", lfm2::read),
    family("lfm2_moe", lfm2::read_moe),
    family("lfm3", lfm2::read_lfm3),
    family("mamba", mamba::read_mamba),
    family("mamba2", mamba::read_mamba2),
    family("minimax", minimax::read),
    family("nemotron-nas", decilm::read),
    family("nemotron_h", nemotron_h::read),
    family("nemotron_h_puzzle", nemotron_h::read),
    family("olmo_hybrid", olmo_hybrid::read),
    family("phi4flash", phi4flash::read),
    family("plamo2", plamo2::read),
    family("afmoe", afmoe::read),
    family("arctic", arctic::read),
    family("aria_text", aria_text::read),
    family("axk1", deepseek::read_axk1),
    family("axk2", axk2::read),
    family("bailing_moe", bailing_moe::read_v1),
    family("bailing_moe_v2", bailing_moe::read_v2),
    family("dbrx", dbrx::read),
    family("deepseek", deepseek::read_v1),
    family("deepseek_v2", deepseek::read_v2),
    family("deepseek_v3", deepseek::read_v3),
    family("deepseek_v32", deepseek::read_v32),
    family("deepseek_v4", deepseek_v4::read),
    family("dots1", dots1::read),
    family("ernie4_5_moe", ernie4_5_moe::read),
    family("exaone_moe", exaone_moe::read),
    family("flex_olmo", olmoe::read_flex_olmo),
    family("glm4_moe", glm4_moe::read_glm4_moe),
    family("glm4_moe_lite", deepseek::read_glm4_moe_lite),
    family("glm_moe_dsa", deepseek::read_glm_moe_dsa),
    family("gpt_oss", gpt_oss::read),
    family("granitemoe", granitemoe::read),
    family("granitemoe_swa", granitemoe::read_sliding),
    family("granitemoeshared", granitemoe::read_shared),
    family("grok-1", grok::read),
    family("hunyuan_v1_moe", hunyuan_v1_moe::read),
    family("hy_v3", normed_moe::read_hy_v3),
    family("jetmoe", jetmoe::read),
    family("kimi_k2", deepseek::read_v3),
    family("kimi_k3", kimi_k25::read_k3),
    family("laguna", normed_moe::read_laguna),
    family("longcat_flash", longcat_flash::read),
    family("mellum", normed_moe::read_mellum),
    family("mimo_v2_flash", mimo_v2_flash::read),
    family("minicpm3", latent_dense::read_minicpm3),
    family("minimax_m2", minimax_m2::read),
    family("olmoe", olmoe::read_olmoe),
    family("phimoe", phimoe::read),
    family("mobilenet_v1", mobilenet::read),
    family("mobilenet_v2", mobilenet::read2),
    family("paligemma", paligemma::read),
    family("pixtral", clip::read_vision),
    family("qwen2", qwen2::read),
    family("qwen2_moe", qwen2_moe::read),
    family("mllama", mllama::read),
    family("mllama_text_model", mllama::read_text),
    family("multi_modality", janus::read_multi_modality),
    family("phi3_v", phi3_v::read),
    family("phi4_multimodal", phi4_multimodal::read),
    family("phi4mm", phi4_multimodal::read_phi4mm),
    family("qwen2_5_omni", qwen_omni::read),
    family("qwen2_5_omni_text", qwen_omni::read_text),
    family("qwen2_5_omni_thinker", qwen_omni::read_thinker),
    family("qwen2_5_vl", qwen_vl::read_qwen2_5_vl),
    family("qwen2_5_vl_text", qwen_vl::read_text),
    family("qwen2_vl", qwen_vl::read_qwen2_vl),
    family("qwen2_vl_text", qwen_vl::read_text),
    family("modernbert", modernbert::read),
    family("moonshine", moonshine::read),
    family("mpnet", bert::read_mpnet),
    family("mt5", t5::read_mt5),
    family("new", nomic_bert::read_gte),
    family("nllb-moe", bart::read_nllb_moe),
    family("nomic_bert", nomic_bert::read_nomic),
    family("pegasus", bart::read_pegasus),
    family("plbart", bart::read_plbart),
    family("qwen2_audio", audio_language::read_qwen2_audio),
    family("qwen3", qwen3::read),
    family("qwen3_5", qwen3_5::read_dense),
    family("qwen3_5_moe", qwen3_5::read_sparse),
    family("qwen3_5_moe_text", qwen3_next::read_sparse),
    family("qwen3_5_text", qwen3_next::read_dense),
    family("qwen3_moe", qwen3_moe::read),
    family("RefinedWeb", falcon::read_refined_web),
    family("RefinedWebModel", falcon::read),
    family("seed_oss", llama_kin::seed_oss),
    family("skywork", llama_kin::unbiased),
    family("smollm3", llama_kin::smollm3),
    family("solar", llama_kin::solar),
    family("stablelm", stablelm::read),
    family("stablelm_epoch", stablelm::read),
    family("starcoder2", starcoder2::read),
    family("telechat", telechat::read),
    family("vaultgemma", gemma3::read_vaultgemma),
    family("xglm", xglm::read),
    family("xverse", llama_kin::unbiased),
    family("Yi", llama_kin::unbiased),
    family("qwen3_next", qwen3_next::read),
    family("recurrent_gemma", recurrent_gemma::read),
    family("rwkv", rwkv::read_rwkv4),
    family("rwkv5", rwkv::read_rwkv5),
    family("xlstm", xlstm::read),
    family("zamba", zamba::read),
    family("zamba2", zamba::read_zamba2),
    family("zaya", zaya::read),
    family("solar_open", glm4_moe::read_solar_open),
    family("step3_text", step3_text::read),
    family("youtu", latent_dense::read_youtu),
    family("regnet", convnet::read_regnet),
    family("resnet", convnet::read_resnet),
    family("sam", sam::read),
    family("sam_vision_model", sam::read_vision),
    family("segformer", segformer::read),
    family("siglip", clip::read_siglip),
    family("siglip2", clip::read_siglip2),
    family("siglip2_text_model", clip::read_siglip_text),
    family("siglip2_vision_model", clip::read_vision),
    family("siglip_text_model", clip::read_siglip_text),
    family("siglip_vision_model", clip::read_vision),
    family("smolvlm", idefics::read3),
    family("swin", swin::read),
    family("swinv2", swin::read2),
    family("video_llava", llava::read_video),
    family("vipllava", llava::read_vip),
    family("vit", vit::read),
    family("vit_mae", vit::read_mae),
    family("vit_msn", vit::read_msn),
    family("yolos", vit::read_yolos),
    family("qwen3_omni_moe", qwen_omni::read3),
    family("qwen3_omni_moe_text", qwen_omni::read_text3),
    family("qwen3_omni_moe_thinker", qwen_omni::read_thinker3),
    family("qwen3_vl", qwen_vl::read_qwen3_vl),
    family("qwen3_vl_moe", qwen_vl::read_qwen3_vl_moe),
    family("qwen3_vl_moe_text", qwen_vl::read_text3_moe),
    family("qwen3_vl_text", qwen_vl::read_text3),
    family("rembert", bert::read_rembert),
    family("roberta", bert::read_roberta),
    family("roberta-prelayernorm", bert::read_roberta_prelayernorm),
    family("roformer", bert::read_roformer),
    family("squeezebert", bert::read_squeezebert),
    family("switch_transformers", t5::read_switch),
    family("t5", t5::read_t5),
    family("t5gemma", t5gemma::read),
    family("umt5", t5::read_umt5),
    family("unispeech", wav2vec2::read_unispeech),
    family("unispeech-sat", wav2vec2::read_unispeech_sat),
    family("voxtral", audio_language::read_voxtral),
    family("wav2vec2", wav2vec2::read_wav2vec2),
    family("wav2vec2-bert", wav2vec2_bert::read),
    family("wavlm", wav2vec2::read_wavlm),
    family("whisper", whisper::read),
    family("xlm", distilbert::read_xlm),
    family("xlm-roberta", bert::read_xlm_roberta),
    family("xlm-roberta-xl", bert::read_xlm_roberta_xl),
    family("xmod", bert::read_xmod),
];

/// What is wrong with a config.json.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It is not JSON.
    #[error("this config is not valid JSON: {0}")]
    NotJson(String),
    /// It is JSON, but not an object.
    #[error("a config.json is a JSON object with keys such as `model_type`; this is not one")]
    NotAnObject,
    /// It is larger than any config.
    #[error("this config has {0} bytes; the most that is read is {max}", max = json::MAX_BYTES)]
    TooLarge(usize),
    /// A key that is needed is missing.
    #[error("`{key}` is missing in the config of this {model_type} model; add it, or check that this is the right file")]
    Missing {
        /// The key.
        key: &'static str,
        /// The model type.
        model_type: String,
    },
    /// A key has a value that cannot be.
    #[error("`{key}` is {value}: {why}")]
    Impossible {
        /// The key.
        key: String,
        /// Its value as written, shortened.
        value: String,
        /// What it must be.
        why: &'static str,
    },
    /// `model_type` is not known and the fields are not those of a decoder.
    #[error("model type `{model_type}` is not understood yet, and it cannot be read as a plain decoder: {why}")]
    UnknownType {
        /// Its name.
        model_type: String,
        /// What stands in the way.
        why: String,
    },
    /// There is no `model_type`.
    #[error("the config has no `model_type`, so the architecture is not known; it usually reads \"llama\", \"qwen3\" or the like")]
    NoType,
    /// The sizes multiply to more than is possible.
    #[error("the sizes in this config multiply to more parameters than are possible")]
    Overflow,
}

impl From<crate::quantity::Overflow> for ConfigError {
    fn from(_: crate::quantity::Overflow) -> Self {
        Self::Overflow
    }
}

/// The model types that are understood to the parameter.
pub fn model_types() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|family| family.model_type)
}

/// The language model of a larger one, by its own family.
fn read_language_model(f: &Fields, default: &'static str) -> Result<Draft, ConfigError> {
    let model_type = f.optional_text("model_type")?.unwrap_or_else(|| default.to_owned());
    match FAMILIES.iter().find(|family| family.model_type == model_type) {
        Some(family) => (family.read)(f),
        None => Err(ConfigError::UnknownType { model_type, why: "it is the language model inside this one".to_owned() }),
    }
}

/// Reads the text of a config.json.
///
/// # Errors
/// [`ConfigError`] names the key that is missing or impossible.
///
/// ```
/// let config = r#"{"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32,
///                  "num_hidden_layers": 32, "vocab_size": 32000}"#;
/// let anatomy = vramfit::config::read(config).unwrap();
/// assert_eq!(anatomy.parameters().unwrap().get(), 6_738_415_616);
/// ```
pub fn read(text: &str) -> Result<Anatomy, ConfigError> {
    let fields = Fields::new(json::parse(text)?)?;
    let mut assumptions = Vec::new();
    let model_type = match fields.optional_text("model_type")? {
        Some(name) => name,
        None => {
            let (name, how) = infer::model_type(&fields)?.ok_or(ConfigError::NoType)?;
            assumptions.push(how);
            name.to_owned()
        }
    };
    let known = FAMILIES.iter().find(|family| family.model_type == model_type);
    let draft = match known {
        Some(family) => (family.read)(&fields)?,
        None => {
            let unknown = |why| ConfigError::UnknownType { model_type: model_type.clone(), why };
            let draft = llama::read(&fields).map_err(|error| match error {
                ConfigError::Missing { key, .. } => unknown(format!("its config has no `{key}`")),
                other => other,
            })?;
            if let Some(key) = fields.structural_keys_left().next() {
                return Err(unknown(format!("`{key}` changes what its layers are")));
            }
            assumptions.push(format!(
                "model type `{model_type}` is not known here: its fields are read as those of a Llama-like decoder, so parameters and cache may be wrong by a lot"
            ));
            draft
        }
    };
    // Wrappers leave both to the language model's config.
    let text = fields.nested(multimodal::TEXT_CONFIGS)?;
    let with_dtype = text.as_ref().filter(|_| fields.raw("dtype").is_none()).unwrap_or(&fields);
    let dtype = match with_dtype.optional_text("dtype")? {
        Some(name) => Some(Encoding::from_config(&name).ok_or_else(|| with_dtype.impossible("dtype", "not a dtype that is known, such as bfloat16"))?),
        None => None,
    };
    let quantization = fields.quantization()?;
    let max_context = match (fields.optional_count("max_position_embeddings")?, text) {
        (None, Some(text)) => text.optional_count("max_position_embeddings")?,
        (context, _) => context,
    };
    let components = draft.into_components(&fields, &mut assumptions)?;
    let (keys_used, keys_not_understood) = fields.accounts();
    let is_guess = known.is_none();
    let anatomy = Anatomy { model_type, components, dtype, max_context, quantization, keys_used, keys_not_understood, assumptions, is_guess };
    anatomy.parameters()?;
    Ok(anatomy)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LLAMA: &str =
        r#"{"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 100}"#;

    fn with(key: &str, value: &str) -> Result<Anatomy, ConfigError> {
        read(&LLAMA.replacen('{', &format!("{{\"{key}\": {value}, "), 1))
    }

    #[test]
    fn errors_name_the_key() {
        for (key, value) in [
            ("num_key_value_heads", "0"),
            ("num_key_value_heads", "-8"),
            ("head_dim", "1.5"),
            ("head_dim", "\"x\""),
            ("num_key_value_heads", "1e30"),
            ("max_position_embeddings", "[]"),
        ] {
            let error = with(key, value).unwrap_err();
            assert!(error.to_string().contains(key), "{key}: {error}");
        }
        assert!(matches!(read(r#"{"model_type": "llama"}"#), Err(ConfigError::Missing { key: "hidden_size", .. })));
        assert_eq!(read(r#"{"hidden_size": 1}"#), Err(ConfigError::NoType));
        let error = read(r#"{"model_type": "hyperbrain"}"#).unwrap_err().to_string();
        assert!(error.contains("`hyperbrain`") && error.contains("`hidden_size`"), "{error}");
        assert_eq!(read("[1]"), Err(ConfigError::NotAnObject));
        assert!(matches!(read("{"), Err(ConfigError::NotJson(_))));
        assert_eq!(read(&LLAMA.replace("100}", "1099511627776, \"x\": 1}").replace("64,", "1099511627776,")), Err(ConfigError::Overflow));
    }

    #[test]
    fn an_unknown_type_with_llama_like_fields_is_a_marked_guess() {
        let guess = read(&LLAMA.replace("llama", "newmodel")).unwrap();
        assert!(guess.is_guess);
        assert!(guess.assumptions[0].contains("`newmodel`"));
        // Fields that say otherwise are no Llama's.
        for key in ["n_routed_experts", "kv_lora_rank", "mamba_d_state", "vision_config"] {
            let error = read(&LLAMA.replace("llama", "newmodel").replacen('{', &format!("{{\"{key}\": 4, "), 1)).unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
        }
        assert_eq!(guess.parameters(), read(LLAMA).unwrap().parameters());
    }

    #[test]
    fn bare_infinity_and_nan_are_read() {
        let anatomy = with("time_step_limit", "[0.0, Infinity]").unwrap();
        assert_eq!(anatomy.parameters(), read(LLAMA).unwrap().parameters());
        assert!(with("x", "NaN").is_ok() && with("x", "\"Infinity\"").is_ok());
    }

    #[test]
    fn mistral_slides_unless_it_says_null() {
        let span = |more: &str| {
            let anatomy = read(&LLAMA.replace("llama", "mistral").replacen('{', &format!("{{{more}"), 1)).unwrap();
            anatomy.components[0].layers[0].layer.mixer.span().unwrap()
        };
        assert_eq!(span(""), crate::model::Span::Sliding(4096));
        assert_eq!(span("\"sliding_window\": null, "), crate::model::Span::Full);
        assert_eq!(span("\"sliding_window\": 128, "), crate::model::Span::Sliding(128));
    }

    #[test]
    fn keys_are_accounted_for() {
        let anatomy = with("mystery_rank", "8").unwrap();
        assert_eq!(anatomy.keys_not_understood, ["mystery_rank"]);
        assert!(anatomy.keys_used.contains(&"hidden_size".to_owned()));
    }
}
