//! Who quantises: the methods that a [`Scheme`](super::Scheme) can be of.

use serde::{Deserialize, Serialize};

macro_rules! methods {
    ($($variant:ident = $name:literal,)*) => {
        /// A quantisation method.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Method {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl Method {
            /// Its name for people.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

methods! {
    Gptq = "GPTQ",
    AutoRound = "AutoRound",
    Awq = "AWQ",
    CompressedTensors = "compressed-tensors",
    LlmInt8 = "LLM.int8()",
    Nf4 = "NF4",
    Fp4 = "FP4",
    Fp8 = "FP8",
    Nvfp4 = "NVFP4",
    Mxfp = "MXFP",
    Hqq = "HQQ",
    Sinq = "SINQ",
    Mlx = "MLX",
    MlxMxfp = "MLX MXFP",
    MlxNvfp4 = "MLX NVFP4",
    Exl2 = "EXL2",
    Exl3 = "EXL3",
    TorchAo = "TorchAO",
    TorchAoFp8 = "TorchAO FP8",
    Quanto = "Quanto",
    QuantoFp8 = "Quanto FP8",
    Eetq = "EETQ",
    Aqlm = "AQLM",
    Vptq = "VPTQ",
    Higgs = "HIGGS",
    Gemma = "Gemma",
    BitNet = "BitNet",
}
