//! What was read of each engine: its lists of methods of quantisation, and of families whose decoder reads across.
//!
//! A row holds versions that were read, never ones that were inferred: what lies between two of them, before the first or after the
//! last is not known, and is answered with a warning.

use crate::scenario::{Runtime, Version};

/// The last version of one list and the first of the next: those between them were not read.
type Turn = (Version, Version);

/// Names that came and went together.
#[derive(Clone, Copy)]
pub(super) struct Row {
    /// As configs have them.
    pub names: &'static [&'static str],
    /// The last version that was read without and the first with; `None` where the oldest that was read has them.
    pub since: Option<Turn>,
    /// The last version that was read with and the first without; `None` where the newest that was read has them.
    pub until: Option<Turn>,
    /// A package that loads them where the engine has no code of its own.
    pub plugin: Option<&'static str>,
    /// The first and last version that was read where they are loaded only with a flag (`--allow-deprecated-quantization`).
    pub flagged: Option<Turn>,
}

impl Row {
    /// Not in that version, but in this one.
    const fn since(mut self, without: Version, with: Version) -> Self {
        self.since = Some((without, with));
        self
    }

    /// In that version, but not in this one.
    const fn until(mut self, with: Version, without: Version) -> Self {
        self.until = Some((with, without));
        self
    }

    const fn plugin(mut self, name: &'static str) -> Self {
        self.plugin = Some(name);
        self
    }

    const fn flagged(mut self, first: Version, last: Version) -> Self {
        self.flagged = Some((first, last));
        self
    }
}

/// Of every version that was read.
const fn row(names: &'static [&'static str]) -> Row {
    Row { names, since: None, until: None, plugin: None, flagged: None }
}

/// What is done with a name that has no row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Miss {
    /// The engine's own list is whole: what is not in it raises an error.
    Refused,
    /// One file was read, and others may load it.
    Said,
    /// Nothing: it is answered for elsewhere.
    Passed,
}

/// A list of one engine.
#[derive(Clone, Copy)]
pub(super) struct List {
    pub rows: &'static [Row],
    pub miss: Miss,
}

const NO_LIST: List = List { rows: &[], miss: Miss::Passed };

const fn whole(rows: &'static [Row]) -> List {
    List { rows, miss: Miss::Refused }
}

const fn partly(rows: &'static [Row]) -> List {
    List { rows, miss: Miss::Said }
}

impl List {
    /// The row of a name.
    pub fn row(&self, name: &str) -> Option<Row> {
        self.rows.iter().find(|row| row.names.contains(&name)).copied()
    }
}

/// What is known of one engine.
pub(super) struct Loads {
    /// The oldest version whose rules of memory were read, and what else is known of those before; `None` for engines without versions.
    pub oldest: Option<(Version, &'static str)>,
    /// The oldest and the newest version whose lists were read.
    pub read: (Version, Version),
    /// Methods of quantisation as `quant_method` names them, `gguf` for files of llama.cpp and `mlx` for MLX's own.
    pub methods: List,
    /// `model_type` of families whose decoder reads an encoder's output or an image's.
    pub across: List,
}

/// Engines of which one version is known, and none can be named.
const UNNAMED: (Version, Version) = (Version(0, 0, 0), Version(u32::MAX, 0, 0));

/// The oldest version of vLLM whose rules were read.
pub(crate) const OLDEST_VLLM: Version = Version(0, 6, 3);

const GPTQ: &[&str] = &["gptq", "gptq_marlin", "auto_gptq", "gptqmodel"];
const AWQ: &[&str] = &["awq", "awq_marlin", "auto_awq", "cpu_awq"];
const AUTO_ROUND: &[&str] = &["auto-round", "auto_round", "autoround", "intel/auto-round", "inc"];
const MODELOPT: &[&str] = &["modelopt", "modelopt_fp8", "modelopt_fp4", "modelopt_mxfp8", "modelopt_mixed"];
const MXFP4: &[&str] = &["mxfp4", "gpt_oss_mxfp4"];
const GGUF: &[&str] = &["gguf"];

const GGUF_PLUGIN: &str = "vllm-gguf-plugin";
const BNB_PLUGIN: &str = "vllm-bnb-plugin";
const BART_PLUGIN: &str = "bart-plugin";

/// `model_executor/layers/quantization/__init__.py` (`QUANTIZATION_METHODS`, `DEPRECATED_QUANTIZATION_METHODS`) and `models/registry.py`
/// (`_PREVIOUSLY_SUPPORTED_MODELS`, `_OOT_SUPPORTED_MODELS`) of every version that `tests/fixtures/vllm_loads.jsonl` has; no other was
/// read. The plugins are those of vLLM's documentation and of the Python index.
static VLLM: Loads = Loads {
    oldest: Some((OLDEST_VLLM, "")),
    read: (OLDEST_VLLM, Version(0, 33, 0)),
    methods: whole(&[
        row(GPTQ),
        row(AWQ),
        row(&["fp8", "deepgemm_fp8", "compressed-tensors"]),
        row(MODELOPT),
        row(&["fbgemm_fp8"]).flagged(Version(0, 14, 0), Version(0, 33, 0)),
        row(&["experts_int8"]).flagged(Version(0, 14, 0), Version(0, 19, 0)),
        row(&["quark", "quark_mxfp4"]).since(Version(0, 6, 6), Version(0, 7, 3)),
        row(&["moe_wna16"]).since(Version(0, 6, 6), Version(0, 7, 3)),
        row(&["torchao"]).since(Version(0, 7, 3), Version(0, 8, 5)),
        row(AUTO_ROUND).since(Version(0, 8, 5), Version(0, 9, 2)).flagged(Version(0, 14, 0), Version(0, 14, 0)),
        row(MXFP4).since(Version(0, 10, 0), Version(0, 10, 2)),
        row(&["fp_quant"]).since(Version(0, 11, 0), Version(0, 11, 2)).flagged(Version(0, 14, 0), Version(0, 33, 0)),
        row(&["mxfp8"]).since(Version(0, 18, 1), Version(0, 19, 0)),
        row(&["deepseek_v4_fp8", "humming", "online", "fp8_per_tensor", "fp8_per_block", "int8_per_channel_weight_only"])
            .since(Version(0, 19, 0), Version(0, 20, 0)),
        row(&["fp8_per_channel"]).since(Version(0, 22, 0), Version(0, 24, 0)),
        row(&["nvfp4_per_token"]).since(Version(0, 25, 1), Version(0, 27, 1)),
        row(&["bitsandbytes"]).until(Version(0, 27, 1), Version(0, 29, 0)).plugin(BNB_PLUGIN),
        row(GGUF).until(Version(0, 22, 0), Version(0, 24, 0)).plugin(GGUF_PLUGIN),
        row(&["aqlm", "marlin", "qqq", "neuron_quant"]).until(Version(0, 10, 0), Version(0, 10, 2)),
        row(&["tpu_int8"]).until(Version(0, 13, 0), Version(0, 14, 0)),
        row(&["deepspeedfp"]).until(Version(0, 14, 0), Version(0, 15, 0)).flagged(Version(0, 14, 0), Version(0, 14, 0)),
        row(&["gptq_marlin_24", "ipex"]).until(Version(0, 15, 0), Version(0, 16, 0)).flagged(Version(0, 14, 0), Version(0, 15, 0)),
        row(&["hqq"]).since(Version(0, 6, 4), Version(0, 6, 6)).until(Version(0, 14, 0), Version(0, 15, 0)).flagged(Version(0, 14, 0), Version(0, 14, 0)),
        row(&["ptpc_fp8"]).since(Version(0, 6, 6), Version(0, 7, 3)).until(Version(0, 18, 1), Version(0, 19, 0)).flagged(Version(0, 14, 0), Version(0, 18, 1)),
        row(&["bitblas", "gptq_bitblas"])
            .since(Version(0, 7, 3), Version(0, 8, 5))
            .until(Version(0, 15, 0), Version(0, 16, 0))
            .flagged(Version(0, 14, 0), Version(0, 15, 0)),
        row(&["nvfp4"]).since(Version(0, 7, 3), Version(0, 8, 5)).until(Version(0, 8, 5), Version(0, 9, 2)),
        row(&["rtn"]).since(Version(0, 8, 5), Version(0, 9, 2)).until(Version(0, 14, 0), Version(0, 15, 0)).flagged(Version(0, 14, 0), Version(0, 14, 0)),
        row(&["petit_nvfp4"])
            .since(Version(0, 10, 0), Version(0, 10, 2))
            .until(Version(0, 19, 0), Version(0, 20, 0))
            .flagged(Version(0, 14, 0), Version(0, 19, 0)),
        row(&["cpu_gptq"]).since(Version(0, 11, 2), Version(0, 12, 0)).until(Version(0, 13, 0), Version(0, 14, 0)),
    ]),
    across: whole(&[
        row(&["whisper"]).since(Version(0, 6, 6), Version(0, 7, 3)),
        row(&["cohere_asr"]).since(Version(0, 18, 1), Version(0, 19, 0)),
        row(&["mllama"]).until(Version(0, 10, 2), Version(0, 11, 0)),
        row(&["bart"]).until(Version(0, 10, 2), Version(0, 11, 0)).plugin(BART_PLUGIN),
        row(&["florence2"]).since(Version(0, 6, 3), Version(0, 6, 4)).until(Version(0, 10, 2), Version(0, 11, 0)).plugin(BART_PLUGIN),
        row(&["mbart"]).since(Version(0, 10, 0), Version(0, 10, 2)).until(Version(0, 10, 2), Version(0, 11, 0)).plugin(BART_PLUGIN),
        row(&[super::DONUT]).since(Version(0, 10, 0), Version(0, 10, 2)).until(Version(0, 10, 2), Version(0, 11, 0)),
    ]),
};

/// 0.5.23 on CUDA, and no other version: `srt/layers/quantization/__init__.py`, `configs/model_config.py` (`is_encoder_decoder_model`).
static SGLANG: Loads = Loads {
    oldest: Some((Version(0, 5, 23), ", with the share of the card that 0.4 takes by default where that was named")),
    read: (Version(0, 5, 23), Version(0, 5, 23)),
    methods: whole(&[
        row(GPTQ),
        row(AWQ),
        row(AUTO_ROUND),
        row(MODELOPT),
        row(MXFP4),
        row(GGUF),
        row(&["fp8", "deepgemm_fp8", "deepseek_v4_fp8", "mxfp8", "w8a8_fp8", "w8a8_int8", "blockwise_int8", "w4afp8", "modelslim", "auto-round-int8"]),
        row(&["compressed-tensors", "bitsandbytes", "quark", "quark_mxfp4", "quark_int4fp8_moe", "petit_nvfp4", "nvfp4_online", "minimax_m3_nvfp4"]),
        row(&["moe_wna16", "humming", "mxfp_w4a8"]),
    ]),
    across: whole(&[row(&["whisper", "mllama"])]),
};

/// `_torch/model_config.py` (`load_hf_quant_config`), `_torch/models/_arch_index.py`; its other files may load more.
static TENSORRT_LLM: Loads = Loads {
    oldest: Some((Version(1, 0, 0), "")),
    read: (Version(1, 0, 0), Version(1, 0, 0)),
    methods: partly(&[row(GPTQ), row(MODELOPT), row(MXFP4), row(&["fp8", "deepseek_v4_fp8", "mxfp8", "nvfp4", "compressed-tensors"])]),
    across: partly(&[row(&["mllama", "t5", "bart", "mbart", "whisper"])]),
};

/// 3.3.7, its last: `utils/quantization.py` (`get_loader`). Its formats of bitsandbytes and EETQ are made while loading, of unquantised
/// files ([`super::MADE_WHILE_LOADING`]).
static TGI: Loads = Loads {
    oldest: Some((Version(3, 0, 0), "")),
    read: (Version(3, 3, 7), Version(3, 3, 7)),
    methods: whole(&[row(GPTQ), row(AWQ), row(&["fp8", "fbgemm_fp8", "compressed-tensors", "exl2", "marlin", "gptq_marlin_24"])]),
    across: NO_LIST,
};

/// 5.23 alone: `quantizers/auto.py` (`AUTO_QUANTIZATION_CONFIG_MAPPING`); another method is passed over with a warning, and its matrices with it.
static TRANSFORMERS: Loads = Loads {
    oldest: Some((Version(5, 23, 0), "")),
    read: (Version(5, 23, 0), Version(5, 23, 0)),
    methods: whole(&[
        row(&["gptq", "awq", "bitsandbytes", "aqlm", "quanto", "quark", "fouroversix", "fp_quant", "eetq", "higgs", "hqq", "compressed-tensors"]),
        row(&["fbgemm_fp8", "torchao", "bitnet", "vptq", "spqr", "fp8", "gguf", "nvfp4", "mxfp8", "auto-round", "mxfp4", "metal", "sinq", "gemma"]),
    ]),
    across: NO_LIST,
};

/// mlx-lm 0.32.2 `utils.py` (`load_model`); of compressed-tensors the packed formats alone. Scales without a known method are an error
/// of its strict loading.
static MLX: Loads = Loads {
    oldest: None,
    read: UNNAMED,
    methods: whole(&[row(&["mlx", "bitnet", "mxfp4", "mxfp8", "fp8", "compressed-tensors", "modelopt", "awq", "gptq"])]),
    across: NO_LIST,
};

/// What it loads is a GGUF, made by its converter; `convert_hf_to_gguf.py` knows T5 alone of those that read across.
static LLAMA_CPP: Loads =
    Loads { oldest: None, read: UNNAMED, methods: List { rows: &[row(GGUF)], miss: Miss::Passed }, across: whole(&[row(&["t5", "mt5", "umt5"])]) };

/// Its own engine has Llama 3.2 Vision besides (`model/models/mllama`).
static OLLAMA: Loads = Loads { across: whole(&[row(&["t5", "mt5", "umt5", "mllama"])]), ..LLAMA_CPP };

pub(super) const fn loads(runtime: Runtime) -> &'static Loads {
    match runtime {
        Runtime::Vllm => &VLLM,
        Runtime::Sglang => &SGLANG,
        Runtime::TensorRtLlm => &TENSORRT_LLM,
        Runtime::Tgi => &TGI,
        Runtime::Transformers => &TRANSFORMERS,
        Runtime::Mlx => &MLX,
        Runtime::LlamaCpp | Runtime::LmStudio => &LLAMA_CPP,
        Runtime::Ollama => &OLLAMA,
    }
}
