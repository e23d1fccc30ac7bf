//! llama.cpp's file types: recipes that give each tensor a type by what it is and where it stands.
//!
//! Read from llama.cpp (`src/llama-quant.cpp` in llama-cpp-python 0.3.36): `tensor_get_category`, `llama_tensor_get_type_impl`,
//! `tensor_type_fallback`, `llama_ftype_get_default_type`. Without an importance matrix, as `llama-quantize` does by itself.

mod recipes;

use crate::encoding::Encoding as E;
pub use recipes::MIXES;
use recipes::STAND_INS;

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

impl Rule {
    /// The types between which it chooses.
    fn types(self) -> [E; 2] {
        match self {
            Self::All(all) => [all; 2],
            Self::Part(_, better, rest)
            | Self::First(_, better, rest)
            | Self::More(better, rest)
            | Self::PartOrMore(better, rest)
            | Self::Grouped(better, rest)
            | Self::GroupedOrExperts(better, rest) => [better, rest],
        }
    }
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
    /// For types that know only experts and the rest: the experts' type.
    experts: Option<E>,
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

    /// The types that its recipe names, that of most matrices first.
    pub fn types(self) -> Vec<E> {
        let [value, down] = [self.value, self.down].map(Rule::types);
        let others = [self.output, self.embedding, value[0], value[1], self.key, self.query, down[0], down[1], self.attention_output, self.gate_up];
        let mut all = vec![self.default];
        for encoding in others.into_iter().chain(self.experts) {
            if !all.contains(&encoding) {
                all.push(encoding);
            }
        }
        all
    }

    /// Whether it packs anything: the dtypes do not.
    pub fn is_quantised(self) -> bool {
        !self.default.is_float
    }

    /// Whether `llama-quantize` stops at rows of so many values: they are no whole blocks of the type, and nothing stands in for it.
    pub fn stops_at(self, row: u64) -> bool {
        let (block, default) = (self.default.block_elements, self.default);
        block > 32 && !row.is_multiple_of(block) && STAND_INS.iter().all(|(from, _)| *from != default)
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
            _ if self.experts.is_some() => self.experts.filter(|_| is_expert).unwrap_or(self.default),
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
        assert_eq!(Mix::from_name("q4_k_m").unwrap().types(), [E::Q4_K, E::Q6_K]);
        assert_eq!(Mix::from_name("mxfp4_moe").unwrap().types(), [E::Q8_0, E::MXFP4]);
        assert_eq!(mix.encoding(Category::Output, (0, 1), false, 100, &LLAMA_8B), E::BF16);
        assert_eq!(Mix::unquantised(E::Q4_K), None);
    }
}
