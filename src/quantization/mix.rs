//! llama.cpp's file types: recipes that give each tensor a type by what it is and where it stands.
//!
//! Read from llama.cpp (`src/llama-quant.cpp` in llama-cpp-python 0.3.36): `tensor_get_category`, `llama_tensor_get_type_impl`,
//! `tensor_type_fallback`, `llama_ftype_get_default_type`. Without an importance matrix, as `llama-quantize` does by itself.

use crate::encoding::Encoding as E;

/// What a tensor is to the recipes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// `token_embd`.
    Embedding,
    /// `output`.
    Output,
    /// `attn_q`.
    Query,
    /// `attn_k`.
    Key,
    /// `attn_v`, `attn_qkv`, `attn_kv_b`.
    Value,
    /// `attn_output`.
    AttentionOutput,
    /// `ffn_gate`, `ffn_up` and those of experts.
    GateUp,
    /// `ffn_down` and those of experts.
    Down,
    /// Any other matrix.
    Other,
}

/// What the recipes ask of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Query heads per KV head.
    pub grouping: u64,
    /// Experts of a mixture; 0 without.
    pub experts: u64,
    /// Llama's and Qwen's 80-layer models with grouped heads.
    pub is_70b: bool,
    /// Falcon has rules of its own.
    pub is_falcon: bool,
    /// Whether the embedding is the head.
    pub is_tied: bool,
}

/// A choice by the place of a tensor among its kind, `i` of `n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// The same everywhere.
    All(E),
    /// `i < n / part`, else the rest.
    Part(u64, E, E),
    /// The first few, else the rest.
    First(u64, E, E),
    /// The first and last eighth and every third between, else the rest.
    More(E, E),
    /// The first eighth, and with eight experts those of `More`, else the rest.
    PartOrMore(E, E),
    /// With four or more query heads per KV head, else the rest.
    Grouped(E, E),
    /// The same, or with four or more experts.
    GroupedOrExperts(E, E),
}

/// A file type: one row of [`MIXES`].
#[derive(Debug, PartialEq, Eq)]
pub struct MixRow {
    /// Its name on the command line: llama.cpp's, in small letters.
    pub name: &'static str,
    default: E,
    output: E,
    embedding: E,
    value: Rule,
    key: E,
    query: E,
    down: Rule,
    attention_output: E,
    /// `attn_output` in a mixture of eight experts.
    attention_output_of_eight: E,
    /// `ffn_gate` and `ffn_up` between the first and the last eighth.
    gate_up: E,
    /// Falcon's `ffn_down` and `attn_output`, where they differ.
    falcon: Option<(Rule, E)>,
}

/// A file type of llama.cpp.
#[derive(Clone, Copy, Debug)]
pub struct Mix(&'static MixRow);

impl PartialEq for Mix {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}
impl Eq for Mix {}

impl std::ops::Deref for Mix {
    type Target = MixRow;

    fn deref(&self) -> &MixRow {
        self.0
    }
}

/// One type for everything, with the output in six bits.
const fn plain(name: &'static str, default: E) -> MixRow {
    MixRow {
        name,
        default,
        output: E::Q6_K,
        embedding: default,
        value: Rule::All(default),
        key: default,
        query: default,
        down: Rule::All(default),
        attention_output: default,
        attention_output_of_eight: default,
        gate_up: default,
        falcon: None,
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
        value: Rule::GroupedOrExperts(E::Q4_K, better),
        down: Rule::Part(8, better, default),
        attention_output,
        ..small(name, default)
    }
}

/// A dtype: llama.cpp follows the recipes only where the type is quantised.
const fn unquantised(name: &'static str, default: E) -> MixRow {
    MixRow { output: default, ..plain(name, default) }
}

use Rule::{All, First, Grouped, More, Part, PartOrMore};

/// Every file type that `llama-quantize` makes.
pub static MIXES: &[MixRow] = &[
    MixRow {
        value: More(E::Q6_K, E::Q4_K),
        down: More(E::Q6_K, E::Q4_K),
        falcon: Some((Part(16, E::Q6_K, E::Q5_K), E::Q4_K)),
        ..small("q4_k_m", E::Q4_K)
    },
    MixRow { output: E::Q8_0, ..plain("q8_0", E::Q8_0) },
    plain("q6_k", E::Q6_K),
    MixRow { value: More(E::Q6_K, E::Q5_K), down: More(E::Q6_K, E::Q5_K), ..plain("q5_k_m", E::Q5_K) },
    plain("q5_k_s", E::Q5_K),
    plain("q5_1", E::Q5_1),
    plain("q5_0", E::Q5_0),
    MixRow {
        value: First(4, E::Q5_K, E::Q4_K),
        down: Part(8, E::Q5_K, E::Q4_K),
        falcon: Some((All(E::Q4_K), E::Q4_K)),
        ..small("q4_k_s", E::Q4_K)
    },
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
    MixRow { output: E::Q8_0, embedding: E::Q8_0, ..plain("mxfp4_moe", E::Q8_0) },
    unquantised("gguf-f16", E::F16),
    unquantised("gguf-bf16", E::BF16),
    unquantised("gguf-f32", E::F32),
];

/// Where the recipes were read.
pub const SOURCE: &str = "llama.cpp src/llama-quant.cpp (llama_tensor_get_type_impl), without an importance matrix";

impl Mix {
    /// Every file type.
    pub fn all() -> impl Iterator<Item = Self> {
        MIXES.iter().map(Self)
    }

    /// The file type with this name (`q4_k_m`), in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|mix| mix.name.eq_ignore_ascii_case(name))
    }

    /// The file type that keeps everything in one dtype, as `convert_hf_to_gguf` writes it: norms, biases and routers in float32.
    pub fn unquantised(dtype: E) -> Option<Self> {
        Self::all().find(|mix| !mix.is_quantised() && mix.default == dtype)
    }

    /// The type that most matrices get.
    pub fn default_type(self) -> E {
        self.default
    }

    fn is_quantised(self) -> bool {
        !self.default.is_float
    }

    /// The types of one and two bits have a branch of their own; it counts down projections one by one, also where a layer has
    /// several.
    pub fn is_tiny(self) -> bool {
        matches!(self.value, Rule::GroupedOrExperts(..))
    }

    /// The type of a tensor: `i` of the `n` of its kind, with rows of `row` values. Experts of a mixture stand in one tensor of
    /// three dimensions.
    pub fn encoding(self, category: Category, (i, n): (u64, u64), is_expert: bool, row: u64, facts: &Facts) -> E {
        if !self.is_quantised() {
            return self.default;
        }
        let is_tiny = self.is_tiny();
        let pick = |rule| pick(rule, i, n, facts);
        let chosen = match category {
            Category::Output => self.output_type(row, facts),
            Category::Embedding if facts.is_tied => self.output_type(row, facts),
            _ if self.name == "mxfp4_moe" => {
                if is_expert {
                    E::MXFP4
                } else {
                    E::Q8_0
                }
            }
            Category::Embedding => self.embedding,
            Category::Value if is_tiny => pick(self.value),
            Category::Value if facts.experts == 8 => E::Q8_0,
            Category::Value => {
                let value = pick(self.value);
                if facts.is_70b && [E::Q3_K, E::Q4_K].contains(&value) { E::Q5_K } else { value }
            }
            Category::Key if facts.experts == 8 && is_tiny => E::Q4_K,
            Category::Key if facts.experts == 8 => E::Q8_0,
            Category::Key => self.key,
            Category::Query => self.query,
            Category::Down => self.down_type(i, n, facts),
            Category::AttentionOutput => match self.falcon {
                Some((_, output)) if facts.is_falcon => output,
                None if facts.is_falcon && !is_tiny => self.default,
                _ if facts.experts == 8 => self.attention_output_of_eight,
                _ => self.attention_output,
            },
            Category::GateUp if i >= n / 8 && i < 7 * n / 8 => self.gate_up,
            Category::GateUp | Category::Other => self.default,
        };
        fallback(chosen, row)
    }

    fn output_type(self, row: u64, facts: &Facts) -> E {
        if facts.is_falcon || !row.is_multiple_of(self.default.block_elements) { E::Q8_0 } else { self.output }
    }

    fn down_type(self, i: u64, n: u64, facts: &Facts) -> E {
        match self.falcon {
            // Behind the first sixteenth Falcon has the better type only where the others have more bits.
            Some((Rule::Part(part, first, better), rest)) if facts.is_falcon => match i {
                i if i < n / part => first,
                i if has_more_bits(i, n) => better,
                _ => rest,
            },
            Some((rule, _)) if facts.is_falcon => pick(rule, i, n, facts),
            _ => pick(self.down, i, n, facts),
        }
    }
}

fn pick(rule: Rule, i: u64, n: u64, facts: &Facts) -> E {
    let (is_better, better, rest) = match rule {
        Rule::All(all) => return all,
        Rule::Part(part, better, rest) => (i < n / part, better, rest),
        Rule::First(count, better, rest) => (i < count, better, rest),
        Rule::More(better, rest) => (has_more_bits(i, n), better, rest),
        Rule::PartOrMore(better, rest) => (i < n / 8 || (facts.experts == 8 && has_more_bits(i, n)), better, rest),
        Rule::Grouped(better, rest) => (facts.grouping >= 4, better, rest),
        Rule::GroupedOrExperts(better, rest) => (facts.grouping >= 4 || facts.experts >= 4, better, rest),
    };
    if is_better { better } else { rest }
}

/// `use_more_bits`: the first and the last eighth, and every third between.
fn has_more_bits(i: u64, n: u64) -> bool {
    i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2
}

/// What stands in for a type whose blocks are longer than the rows allow (`tensor_type_fallback`).
static STAND_INS: &[(E, E)] = &[
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

/// The type itself where rows are whole blocks, else what stands in for it, else 16 bits.
fn fallback(chosen: E, row: u64) -> E {
    let fits = |encoding: E| row.is_multiple_of(encoding.block_elements);
    if fits(chosen) {
        return chosen;
    }
    let stand_in = STAND_INS.iter().find(|(from, _)| *from == chosen).map(|(_, to)| *to);
    stand_in.filter(|encoding| fits(*encoding)).unwrap_or(E::F16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LLAMA_8B: Facts = Facts { grouping: 4, experts: 0, is_70b: false, is_falcon: false, is_tied: false };

    fn of(name: &str, category: Category, i: u64, facts: &Facts) -> E {
        Mix::from_name(name).unwrap().encoding(category, (i, 32), false, 4096, facts)
    }

    #[test]
    fn better_types_stand_where_the_source_puts_them() {
        let better: Vec<u64> = (0..32).filter(|&i| of("Q4_K_M", Category::Down, i, &LLAMA_8B) == E::Q6_K).collect();
        assert_eq!(better, [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]);
        assert_eq!(of("q4_k_s", Category::Value, 3, &LLAMA_8B), E::Q5_K);
        assert_eq!(of("q4_k_s", Category::Value, 4, &LLAMA_8B), E::Q4_K);
        assert_eq!(of("q3_k_m", Category::Down, 1, &LLAMA_8B), E::Q5_K);
        assert_eq!(of("q3_k_m", Category::Down, 2, &LLAMA_8B), E::Q4_K);
        assert_eq!(of("iq3_xs", Category::GateUp, 3, &LLAMA_8B), E::IQ3_S);
        assert_eq!(of("iq3_xs", Category::GateUp, 4, &LLAMA_8B), E::IQ3_XXS);
        assert_eq!(of("iq3_xs", Category::GateUp, 28, &LLAMA_8B), E::IQ3_S);
    }

    #[test]
    fn models_change_the_recipe() {
        let plain_heads = Facts { grouping: 1, ..LLAMA_8B };
        assert_eq!(of("q2_k", Category::Value, 0, &LLAMA_8B), E::Q4_K);
        assert_eq!(of("q2_k", Category::Value, 0, &plain_heads), E::Q3_K);
        let big = Facts { grouping: 8, is_70b: true, ..LLAMA_8B };
        assert_eq!(of("q4_k_m", Category::Value, 4, &big), E::Q5_K);
        assert_eq!(of("q4_k_m", Category::Value, 0, &big), E::Q6_K);
        let eight = Facts { experts: 8, ..LLAMA_8B };
        assert_eq!(of("q4_k_m", Category::Key, 9, &eight), E::Q8_0);
        assert_eq!(of("iq2_xs", Category::Key, 9, &eight), E::Q4_K);
        assert_eq!(of("q4_k_m", Category::AttentionOutput, 9, &eight), E::Q5_K);
        assert_eq!(of("q5_k_m", Category::AttentionOutput, 9, &eight), E::Q5_K);
        assert_eq!(of("iq1_s", Category::Value, 9, &Facts { grouping: 1, experts: 128, ..LLAMA_8B }), E::Q4_K);
        let tied = Facts { is_tied: true, ..LLAMA_8B };
        assert_eq!(of("q4_k_m", Category::Embedding, 0, &tied), E::Q6_K);
        assert_eq!(of("q4_k_m", Category::Embedding, 0, &LLAMA_8B), E::Q4_K);
        assert_eq!(of("q8_0", Category::Output, 0, &LLAMA_8B), E::Q8_0);
        let falcon = Facts { is_falcon: true, ..LLAMA_8B };
        assert_eq!(of("q4_k_m", Category::Output, 0, &falcon), E::Q8_0);
        assert_eq!([0, 2, 3, 4].map(|i| of("q4_k_m", Category::Down, i, &falcon)), [E::Q6_K, E::Q5_K, E::Q5_K, E::Q4_K]);
    }

    #[test]
    fn rows_that_are_not_whole_blocks_get_another_type() {
        let mix = Mix::from_name("q4_k_m").unwrap();
        let at = |row| mix.encoding(Category::Other, (0, 1), false, row, &LLAMA_8B);
        assert_eq!([at(256), at(896), at(100)], [E::Q4_K, E::Q5_0, E::F16]);
        assert_eq!(mix.encoding(Category::Output, (0, 1), false, 896, &LLAMA_8B), E::Q8_0);
    }

    #[test]
    fn plain_types_have_no_recipe() {
        let mix = Mix::unquantised(E::BF16).unwrap();
        assert_eq!(mix.name, "gguf-bf16");
        assert_eq!(mix.encoding(Category::Output, (0, 1), false, 100, &LLAMA_8B), E::BF16);
        assert_eq!(Mix::unquantised(E::Q4_K), None);
    }
}
