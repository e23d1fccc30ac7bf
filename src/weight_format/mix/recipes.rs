//! The recipes: one row for each file type, and what stands in where rows are too short.

use super::MixRow;
use super::Rule::{All, First, Grouped, GroupedOrExperts, More, Part, PartOrMore};
use crate::encoding::Encoding as E;

/// One type for everything, with the output in six bits.
const fn plain(name: &'static str, default: E) -> MixRow {
    MixRow {
        name,
        default,
        output: E::Q6_K,
        embedding: default,
        value: All(default),
        key: default,
        query: default,
        down: All(default),
        attention_output: default,
        attention_output_of_eight: default,
        gate_up: default,
        falcon: None,
        experts: None,
    }
}

/// The same with five bits for the attention's output where there are eight experts.
const fn small(name: &'static str, default: E) -> MixRow {
    MixRow { attention_output_of_eight: E::Q5_K, ..plain(name, default) }
}

/// Types of one and two bits: `better` for the embedding's values, keys' and values' and the first layers' down projections.
const fn tiny(name: &'static str, default: E, better: E, attention_output: E) -> MixRow {
    MixRow {
        output: E::Q5_K,
        embedding: better,
        value: GroupedOrExperts(E::Q4_K, better),
        down: Part(8, better, default),
        attention_output,
        ..small(name, default)
    }
}

/// A dtype: llama.cpp follows the recipes only where the type is quantised.
const fn unquantised(name: &'static str, default: E) -> MixRow {
    MixRow { output: default, ..plain(name, default) }
}

/// Every file type that `llama-quantize` makes.
pub static MIXES: &[MixRow] = &[
    MixRow { value: More(E::Q6_K, E::Q4_K), down: More(E::Q6_K, E::Q4_K), falcon: Some((Part(16, E::Q6_K, E::Q5_K), E::Q4_K)), ..small("q4_k_m", E::Q4_K) },
    MixRow { output: E::Q8_0, ..plain("q8_0", E::Q8_0) },
    plain("q6_k", E::Q6_K),
    MixRow { value: More(E::Q6_K, E::Q5_K), down: More(E::Q6_K, E::Q5_K), ..plain("q5_k_m", E::Q5_K) },
    plain("q5_k_s", E::Q5_K),
    plain("q5_1", E::Q5_1),
    plain("q5_0", E::Q5_0),
    MixRow { value: First(4, E::Q5_K, E::Q4_K), down: Part(8, E::Q5_K, E::Q4_K), falcon: Some((All(E::Q4_K), E::Q4_K)), ..small("q4_k_s", E::Q4_K) },
    plain("q4_1", E::Q4_1),
    plain("q4_0", E::Q4_0),
    MixRow { value: Grouped(E::Q5_K, E::IQ4_NL), down: Part(8, E::Q5_K, E::IQ4_NL), ..small("iq4_nl", E::IQ4_NL) },
    MixRow { value: Grouped(E::Q5_K, E::IQ4_XS), down: Part(8, E::Q5_K, E::IQ4_XS), ..small("iq4_xs", E::IQ4_XS) },
    MixRow { attention_output: E::Q5_K, value: All(E::Q5_K), down: All(E::Q5_K), falcon: Some((All(E::Q4_K), E::Q4_K)), ..plain("q3_k_l", E::Q3_K) },
    MixRow {
        attention_output: E::Q4_K,
        value: First(2, E::Q5_K, E::Q4_K),
        down: Part(16, E::Q5_K, E::Q4_K),
        falcon: Some((Part(16, E::Q5_K, E::Q4_K), E::Q3_K)),
        ..small("q3_k_m", E::Q3_K)
    },
    small("q3_k_s", E::Q3_K),
    MixRow { attention_output: E::Q4_K, value: All(E::Q4_K), down: PartOrMore(E::Q4_K, E::IQ3_S), ..small("iq3_m", E::IQ3_S) },
    MixRow { value: Grouped(E::Q4_K, E::IQ3_S), ..small("iq3_s", E::IQ3_S) },
    MixRow { value: Grouped(E::Q4_K, E::IQ3_S), key: E::IQ3_XXS, query: E::IQ3_XXS, gate_up: E::IQ3_XXS, ..small("iq3_xs", E::IQ3_S) },
    MixRow {
        output: E::Q5_K,
        embedding: E::IQ3_S,
        value: Grouped(E::Q4_K, E::IQ3_S),
        key: E::IQ2_S,
        query: E::IQ2_S,
        down: Part(8, E::Q4_K, E::Q3_K),
        attention_output: E::IQ3_S,
        ..small("iq3_xxs", E::IQ3_XXS)
    },
    MixRow { attention_output: E::Q3_K, value: Grouped(E::Q4_K, E::Q3_K), down: All(E::Q3_K), ..small("q2_k", E::Q2_K) },
    MixRow { value: Grouped(E::Q4_K, E::Q2_K), down: Part(8, E::Q4_K, E::Q2_K), ..plain("q2_k_s", E::Q2_K) },
    tiny("iq2_m", E::IQ2_S, E::IQ3_S, E::IQ3_S),
    tiny("iq2_s", E::IQ2_XS, E::IQ3_S, E::IQ3_S),
    tiny("iq2_xs", E::IQ2_XS, E::Q2_K, E::IQ2_XS),
    tiny("iq2_xxs", E::IQ2_XXS, E::Q2_K, E::IQ2_XXS),
    tiny("iq1_m", E::IQ1_M, E::Q2_K, E::IQ2_XXS),
    tiny("iq1_s", E::IQ1_S, E::Q2_K, E::IQ2_XXS),
    MixRow { embedding: E::Q4_K, ..plain("tq2_0", E::TQ2_0) },
    MixRow { embedding: E::Q4_K, ..plain("tq1_0", E::TQ1_0) },
    MixRow { embedding: E::Q4_K, ..plain("q2_0", E::Q2_0) },
    plain("q1_0", E::Q1_0),
    MixRow { output: E::Q8_0, experts: Some(E::MXFP4), ..plain("mxfp4_moe", E::Q8_0) },
    unquantised("gguf-f16", E::F16),
    unquantised("gguf-bf16", E::BF16),
    unquantised("gguf-f32", E::F32),
];

/// What stands in for a type whose blocks are longer than the rows allow (`tensor_type_fallback`).
pub(super) static STAND_INS: &[(E, E)] = &[
    (E::IQ1_S, E::IQ4_NL),
    (E::IQ1_M, E::IQ4_NL),
    (E::IQ2_XXS, E::IQ4_NL),
    (E::IQ2_XS, E::IQ4_NL),
    (E::IQ2_S, E::IQ4_NL),
    (E::IQ3_XXS, E::IQ4_NL),
    (E::IQ3_S, E::IQ4_NL),
    (E::IQ4_XS, E::IQ4_NL),
    (E::Q2_0, E::Q4_0),
    (E::Q2_K, E::Q4_0),
    (E::Q3_K, E::Q4_0),
    (E::TQ1_0, E::Q4_0),
    (E::TQ2_0, E::Q4_0),
    (E::Q4_K, E::Q5_0),
    (E::Q5_K, E::Q5_1),
    (E::Q6_K, E::Q8_0),
];
