//! A model that exists nowhere yet, by its sizes: `layers=32,hidden=4096,heads=32,kv-heads=8,intermediate=14336,vocab=128256`.
//!
//! The sizes become the config of a family that is understood to the parameter, so everything else about such a model is as in
//! that family. Whatever was not given and is not a size of that family alone is said as an assumption.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{ConfigError, read as read_config};
use crate::format::{grouped, parameters};
use crate::model::Anatomy;
use crate::quantity::{Decimal, ParamCount};

/// A size that can be given.
#[derive(Debug, PartialEq, Eq)]
pub struct Size {
    /// Its name.
    pub name: &'static str,
    /// The key of config.json that it stands for, which names it too; empty where there is none.
    pub key: &'static str,
    /// What it is, for people.
    pub label: &'static str,
}

const fn size(name: &'static str, key: &'static str, label: &'static str) -> Size {
    Size { name, key, label }
}

/// Every size, in the order in which they are written.
pub static SIZES: &[Size] = &[
    size("layers", "num_hidden_layers", "Layers"),
    size("hidden", "hidden_size", "Hidden size"),
    size("heads", "num_attention_heads", "Attention heads"),
    size("kv-heads", "num_key_value_heads", "Key-value heads"),
    size("head-dim", "head_dim", "Size of a head"),
    size("intermediate", "intermediate_size", "Intermediate size"),
    size("vocab", "vocab_size", "Vocabulary"),
    size("params", "", "Parameters in all"),
    size("experts", "num_experts", "Experts"),
    size("active-experts", "num_experts_per_tok", "Active experts"),
    size("expert-intermediate", "moe_intermediate_size", "Intermediate size of an expert"),
    size("shared-experts", "n_shared_experts", "Shared experts"),
    size("dense-layers", "first_k_dense_replace", "First layers without experts"),
    size("window", "sliding_window", "Sliding window"),
    size("full-every", "full_attention_interval", "One layer with full attention of every"),
    size("kv-lora-rank", "kv_lora_rank", "Latent rank of keys and values (MLA)"),
    size("q-lora-rank", "q_lora_rank", "Latent rank of queries"),
    size("rope-head-dim", "qk_rope_head_dim", "Rotary part of a latent head"),
    size("nope-head-dim", "qk_nope_head_dim", "Other part of a latent head"),
    size("v-head-dim", "v_head_dim", "Values of a latent head"),
    size("recurrent", "", "Recurrence (mamba2 or gated-delta-net)"),
    size("state-heads", "state_heads", "Heads of the recurrence"),
    size("state-head-dim", "state_head_dim", "Size of such a head"),
    size("state-size", "state_size", "State for each element of it"),
    size("state-groups", "state_groups", "Groups (of a delta-net: heads) of its keys"),
    size("conv-kernel", "conv_kernel", "Columns of its convolution"),
    size("context", "max_position_embeddings", "Longest context"),
    size("tied", "tie_word_embeddings", "Tied embeddings (yes or no)"),
    size("dtype", "dtype", "Dtype"),
];

/// What is taken for a size that was not given.
struct Unsaid {
    name: &'static str,
    what: &'static str,
    /// The size without which it plays no part; empty for none.
    with: &'static str,
    /// The size with which it plays no part; empty for none.
    without: &'static str,
}

const fn unsaid(name: &'static str, what: &'static str, with: &'static str, without: &'static str) -> Unsaid {
    Unsaid { name, what, with, without }
}

const UNSAID: &[Unsaid] = &[
    unsaid("kv-heads", "as many as heads", "heads", "kv-lora-rank"),
    unsaid("head-dim", "the hidden size over the heads", "heads", "kv-lora-rank"),
    unsaid("q-lora-rank", "queries are projected at once", "kv-lora-rank", ""),
    unsaid("rope-head-dim", "64", "kv-lora-rank", ""),
    unsaid("nope-head-dim", "128", "kv-lora-rank", ""),
    unsaid("v-head-dim", "128", "kv-lora-rank", ""),
    unsaid("state-groups", "one for all heads of Mamba-2, a head of keys for each head of a delta-net", "recurrent", ""),
    unsaid("conv-kernel", "4", "recurrent", ""),
    unsaid("tied", "the head has a matrix of its own", "", ""),
    unsaid("context", "no limit is known", "", ""),
];

impl Unsaid {
    fn counts(&self, given: &Given) -> bool {
        !given.has(self.name) && (self.with.is_empty() || given.has(self.with)) && !given.has(self.without)
    }
}

/// Sizes that mean something beside another one only.
const BESIDE: &[(&str, &[&str])] = &[
    ("experts", &["active-experts", "expert-intermediate", "shared-experts", "dense-layers"]),
    ("kv-lora-rank", &["q-lora-rank", "rope-head-dim", "nope-head-dim", "v-head-dim"]),
    ("recurrent", &["state-heads", "state-head-dim", "state-size", "state-groups", "conv-kernel"]),
];

/// Sizes that would have no part in the model, and why.
struct Idle {
    names: &'static [&'static str],
    /// The size beside which they have none; empty where any will do.
    beside: &'static str,
    /// Sizes, one of which would give them a part.
    unless: &'static [&'static str],
    why: &'static str,
}

const IDLE: &[Idle] = &[
    Idle {
        names: &["full-every"],
        beside: "",
        unless: &["window", "recurrent"],
        why: "`full-every` tells layers apart: say what the others have, with `window` or `recurrent`",
    },
    Idle { names: &["window"], beside: "kv-lora-rank", unless: &[], why: "latent attention has no window in any engine: leave out `window` or `kv-lora-rank`" },
    Idle {
        names: &["kv-heads", "head-dim"],
        beside: "kv-lora-rank",
        unless: &[],
        why: "latent attention has heads of its own sizes: leave out `kv-heads` and `head-dim`, or `kv-lora-rank`",
    },
    Idle {
        names: &["heads", "kv-heads", "head-dim", "window", "kv-lora-rank"],
        beside: "recurrent",
        unless: &["full-every"],
        why: "every layer has the recurrence in the place of attention: say which have attention with `full-every`, or leave out its sizes \
              (`heads`, `kv-heads`, `head-dim`, `window`, `kv-lora-rank`)",
    },
];

impl Idle {
    fn is_met(&self, given: &Given) -> bool {
        let has_any = |names: &[&str]| names.iter().any(|name| given.has(name));
        has_any(self.names) && (self.beside.is_empty() || given.has(self.beside)) && !has_any(self.unless)
    }
}

/// The longest text that is read, in bytes.
const MAX_LENGTH: usize = 1000;

/// Names of the sizes, for messages.
const NAMES: &str = "layers, hidden, heads, kv-heads, head-dim, intermediate, vocab, params, experts, active-experts, expert-intermediate, \
    shared-experts, dense-layers, window, full-every, kv-lora-rank, q-lora-rank, rope-head-dim, nope-head-dim, v-head-dim, recurrent, \
    state-heads, state-head-dim, state-size, state-groups, conv-kernel, context, tied, dtype";

/// Why sizes make no model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManualError {
    /// A piece of the text is no `NAME=VALUE`, or it is too long.
    #[error("a model by hand is written as `layers=32,hidden=4096,...`: `{0}` is not a name with a value")]
    NotAPair(String),
    /// A name that is not known.
    #[error("`{0}` is not a size of a model; the sizes are {NAMES}")]
    Unknown(String),
    /// A size that is given twice.
    #[error("`{0}` is given twice")]
    Twice(&'static str),
    /// A value that cannot be.
    #[error("`{name}` is `{value}`: {why}")]
    Value {
        /// The size.
        name: &'static str,
        /// The value, shortened.
        value: String,
        /// What it must be.
        why: &'static str,
    },
    /// A size that is needed.
    #[error("`{0}` is missing: without it there is no telling how large the model is")]
    Missing(&'static str),
    /// Sizes that do not go together.
    #[error("{0}")]
    Contradiction(&'static str),
    /// No intermediate size comes near the number of parameters.
    #[error("no intermediate size makes these sizes come to {wanted} parameters: the rest of the model alone has {without}")]
    TooFew {
        /// The parameters that were given.
        wanted: String,
        /// Those without feed-forwards.
        without: String,
    },
    /// What the family's reader says.
    #[error("{0}")]
    Config(#[from] ConfigError),
}

/// A model by hand.
#[derive(Clone, Debug, PartialEq)]
pub struct Manual {
    /// What it is.
    pub anatomy: Anatomy,
    /// The same sizes as links have them: `layers:32,hidden:4096`.
    pub text: String,
}

/// Whether a text is meant as a model by hand rather than as the name of one: it begins with the name of something and its value.
pub fn is_manual(text: &str) -> bool {
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'_' | b' '));
    !text.contains('/') && text.split_once(['=', ':']).is_some_and(|(name, _)| is_name(name))
}

/// Reads sizes: pairs of a name and a value, `=` or `:` between the two, commas or spaces between pairs. A whole number may have
/// commas before every three digits: `vocab=128,256`.
///
/// # Errors
/// [`ManualError`] names what is missing, unknown or impossible.
///
/// ```
/// let llama = vramfit::config::manual::read("layers=32,hidden=4096,heads=32,intermediate=11008,vocab=32000").unwrap();
/// assert_eq!(llama.anatomy.parameters().unwrap().get(), 6_738_415_616);
/// ```
pub fn read(text: &str) -> Result<Manual, ManualError> {
    let given = Given::parse(text)?;
    let plan = Plan::new(&given)?;
    let mut said = vec![plan.family_said()];
    let mut anatomy = match (plan.width, given.parameters()?) {
        (Some(width), None) => plan.anatomy(width)?,
        (Some(width), Some(wanted)) => {
            let anatomy = plan.anatomy(width)?;
            let count = anatomy.parameters().map_err(ConfigError::from)?;
            if count != wanted {
                said.push(format!("the sizes come to {} parameters: those count, not the {} that were given", parameters(count), parameters(wanted)));
            }
            anatomy
        }
        (None, Some(wanted)) => {
            let width = plan.width_for(wanted)?;
            said.push(format!("`{}` of {} follows from {} parameters", plan.width_name, grouped(width), parameters(wanted)));
            plan.anatomy(width)?
        }
        (None, None) => return Err(ManualError::Missing(plan.width_name)),
    };
    said.extend(UNSAID.iter().filter(|unsaid| unsaid.counts(&given)).map(|unsaid| format!("`{}` was not given: {}", unsaid.name, unsaid.what)));
    anatomy.assumptions.splice(0..0, said);
    Ok(Manual { anatomy, text: given.to_text() })
}

impl Size {
    fn is_called(&self, name: &str) -> bool {
        let name = name.trim().replace('_', "-");
        name.eq_ignore_ascii_case(self.name) || (!self.key.is_empty() && name.eq_ignore_ascii_case(&self.key.replace('_', "-")))
    }
}

/// The values as they were written, by name.
struct Given(BTreeMap<&'static str, String>);

impl Given {
    fn parse(text: &str) -> Result<Self, ManualError> {
        let mut values = BTreeMap::new();
        if text.len() > MAX_LENGTH {
            return Err(ManualError::NotAPair(shortened(text)));
        }
        for pair in &pairs(text) {
            let (name, value) = pair
                .split_once(['=', ':'])
                .filter(|(name, value)| !name.is_empty() && !value.is_empty())
                .ok_or_else(|| ManualError::NotAPair(shortened(pair)))?;
            let size = SIZES.iter().find(|size| size.is_called(name)).ok_or_else(|| ManualError::Unknown(shortened(name)))?;
            let value = ungrouped(value).ok_or_else(|| ManualError::Value {
                name: size.name,
                value: shortened(value),
                why: "a comma in a number stands before three digits, as in 128,256",
            })?;
            if values.insert(size.name, value).is_some() {
                return Err(ManualError::Twice(size.name));
            }
        }
        Ok(Self(values))
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn wrong(&self, name: &'static str, why: &'static str) -> ManualError {
        ManualError::Value { name, value: shortened(self.0.get(name).map_or("", String::as_str)), why }
    }

    /// A whole number.
    fn count(&self, name: &'static str) -> Result<Option<u64>, ManualError> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        let count = text.replace('_', "").parse().ok().filter(|count| (0..=1u64 << 40).contains(count));
        count.map(Some).ok_or_else(|| self.wrong(name, "it must be a whole number such as 4096"))
    }

    fn needed(&self, name: &'static str) -> Result<u64, ManualError> {
        self.count(name)?.ok_or(ManualError::Missing(name))
    }

    /// All parameters: `6738415616`, `6.74B`, `350M`.
    fn parameters(&self) -> Result<Option<ParamCount>, ManualError> {
        const NAME: &str = "params";
        let Some(text) = self.0.get(NAME) else { return Ok(None) };
        let units = [('T', 1_000_000_000_000), ('B', 1_000_000_000), ('M', 1_000_000), ('K', 1000)];
        let unit = text.chars().next_back().and_then(|last| units.into_iter().find(|(letter, _)| last.eq_ignore_ascii_case(letter)));
        let (number, unit) = unit.map_or((text.as_str(), 1), |(_, unit)| (&text[..text.len() - 1], unit));
        let count = number.replace('_', "").parse::<Decimal>().ok().and_then(|number| number.floor_of(unit).ok());
        count.filter(|count| *count > 0).map(|count| Some(ParamCount(count))).ok_or_else(|| self.wrong(NAME, "it must be a number such as 7B or 350M"))
    }

    fn to_text(&self) -> String {
        let pairs = SIZES.iter().filter_map(|size| Some(format!("{}:{}", size.name, self.0.get(size.name)?)));
        pairs.collect::<Vec<_>>().join(",")
    }
}

/// The pairs of a text. What begins with a digit and has no name goes on with the number before the comma.
fn pairs(text: &str) -> Vec<String> {
    let mut pairs: Vec<String> = Vec::new();
    for word in text.split([' ', '\n', '\t', ';']) {
        let before = pairs.len();
        for piece in word.split(',').filter(|piece| !piece.is_empty()) {
            let goes_on = piece.starts_with(|first: char| first.is_ascii_digit()) && !piece.contains(['=', ':']);
            match pairs.get_mut(before..).and_then(<[String]>::last_mut).filter(|_| goes_on) {
                Some(number) => number.extend([",", piece]),
                None => pairs.push(piece.to_owned()),
            }
        }
    }
    pairs
}

/// A value without the commas that part its digits; `None` where they part something else.
fn ungrouped(value: &str) -> Option<String> {
    let Some((first, rest)) = value.split_once(',') else { return Some(value.to_owned()) };
    let are_digits = |group: &str| group.bytes().all(|byte| byte.is_ascii_digit());
    let is_first = (1..=3).contains(&first.len()) && are_digits(first) && !first.starts_with('0');
    (is_first && rest.split(',').all(|group| group.len() == 3 && are_digits(group))).then(|| value.replace(',', ""))
}

/// A text, short enough for a message.
fn shortened(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(40).collect()
}

/// The config to be, apart from the width of its feed-forwards.
struct Plan {
    /// The family that is read.
    model_type: &'static str,
    config: Map<String, Value>,
    /// The key of the width that may follow from the parameters.
    width_key: &'static str,
    /// What the user calls it.
    width_name: &'static str,
    width: Option<u64>,
}

impl Plan {
    fn new(given: &Given) -> Result<Self, ManualError> {
        let mut config = Map::new();
        let attends = !given.has("recurrent") || given.has("full-every");
        for name in ["layers", "hidden", "heads", "vocab"] {
            if name != "heads" || attends {
                given.needed(name)?;
            }
        }
        for (base, names) in BESIDE {
            if names.iter().any(|name| given.has(name)) && !given.has(base) {
                return Err(ManualError::Missing(base));
            }
        }
        if let Some(idle) = IDLE.iter().find(|idle| idle.is_met(given)) {
            return Err(ManualError::Contradiction(idle.why));
        }
        if given.count("full-every")?.is_some_and(|every| every < 2 || given.count("layers").is_ok_and(|layers| Some(every) > layers)) {
            return Err(given.wrong("full-every", "it must be from 2 to the number of layers, or all layers are alike"));
        }
        if let Some(kind) = given.0.get("recurrent") {
            for name in ["state-heads", "state-head-dim", "state-size"] {
                given.needed(name)?;
            }
            config.insert("recurrent".to_owned(), kind.to_ascii_lowercase().into());
        }
        // Which family has such layers: Llama's, Mixtral's with its window, for experts beside others GLM-4.5's; whatever else is put
        // together of parts.
        let has_experts = given.has("experts");
        let has_shared = has_experts && (given.has("shared-experts") || given.has("dense-layers"));
        let is_composed = ["kv-lora-rank", "recurrent", "full-every"].iter().any(|name| given.has(name)) || (has_shared && given.has("window"));
        let is_mixed = has_shared || (has_experts && is_composed);
        let (width_key, width_name) = match (has_experts, is_mixed) {
            (_, true) => ("moe_intermediate_size", "expert-intermediate"),
            (true, false) => ("intermediate_size", "expert-intermediate"),
            (false, false) => ("intermediate_size", "intermediate"),
        };
        let model_type = match (has_experts, is_mixed) {
            _ if is_composed => "by_hand",
            (_, true) => "glm4_moe",
            (true, false) => "mixtral",
            (false, false) if given.has("window") => "mistral",
            (false, false) => "llama",
        };
        config.insert("model_type".to_owned(), model_type.into());
        for size in SIZES.iter().filter(|size| !matches!(size.name, "params" | "tied" | "dtype" | "intermediate" | "expert-intermediate" | "recurrent")) {
            if let Some(count) = given.count(size.name)? {
                config.insert(size.key.to_owned(), count.into());
            }
        }
        if has_experts {
            given.needed("active-experts")?;
        }
        if is_mixed {
            config.entry("n_shared_experts").or_insert(json!(0));
            config.entry("first_k_dense_replace").or_insert(json!(0));
            if !is_composed {
                // What GLM-4.5 takes for granted where nothing is said.
                config.insert("use_qk_norm".to_owned(), json!(false));
                config.insert("num_nextn_predict_layers".to_owned(), json!(0));
                config.entry("num_key_value_heads").or_insert(given.needed("heads")?.into());
            }
            if let Some(width) = given.count("intermediate")? {
                config.insert("intermediate_size".to_owned(), width.into());
            } else if given.count("dense-layers")?.is_some_and(|layers| layers > 0) {
                return Err(ManualError::Missing("intermediate"));
            }
        } else if has_experts && given.has("intermediate") && given.has("expert-intermediate") {
            return Err(ManualError::Contradiction("`intermediate` is the size of layers without experts: say how many with `dense-layers`, or leave it out"));
        }
        if let Some(tied) = given.0.get("tied") {
            let is_tied = match tied.to_ascii_lowercase().as_str() {
                "yes" | "true" | "1" => true,
                "no" | "false" | "0" => false,
                _ => return Err(given.wrong("tied", "it is yes or no")),
            };
            config.insert("tie_word_embeddings".to_owned(), is_tied.into());
        }
        if let Some(dtype) = given.0.get("dtype") {
            let name = match dtype.as_str() {
                "bf16" => "bfloat16",
                "fp16" => "float16",
                "fp32" => "float32",
                other => other,
            };
            config.insert("dtype".to_owned(), name.into());
        }
        // Without dense layers the one width there is is the experts'.
        let width = match (given.count(width_name)?, given.count("intermediate")?) {
            (None, width) if !is_mixed => width,
            (width, _) => width,
        };
        Ok(Self { model_type, config, width_key, width_name, width })
    }

    fn family_said(&self) -> String {
        const LIKE: &str = "gated feed-forwards, one matrix for each projection, no biases";
        match self.model_type {
            "by_hand" => format!("by hand: whatever is not a size is as in most models ({LIKE})"),
            family => format!("by hand: whatever is not a size is as in a `{family}` model ({LIKE})"),
        }
    }

    fn anatomy(&self, width: u64) -> Result<Anatomy, ManualError> {
        let mut config = self.config.clone();
        config.insert(self.width_key.to_owned(), width.into());
        Ok(read_config(&Value::Object(config).to_string())?)
    }

    fn parameters(&self, width: u64) -> Result<u64, ManualError> {
        Ok(self.anatomy(width)?.parameters().map_err(ConfigError::from)?.get())
    }

    /// The width at which all parameters come nearest to `wanted`: they grow by the same number with every unit of it.
    fn width_for(&self, wanted: ParamCount) -> Result<u64, ManualError> {
        let (one, two) = (self.parameters(1)?, self.parameters(2)?);
        let each = two.saturating_sub(one).max(1);
        let without = one.saturating_sub(each);
        let width = wanted.get().saturating_sub(without).saturating_add(each / 2) / each;
        if width == 0 {
            return Err(ManualError::TooFew { wanted: parameters(wanted), without: parameters(ParamCount(without)) });
        }
        Ok(width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FeedForward, Span};

    fn total(text: &str) -> u64 {
        read(text).unwrap_or_else(|error| panic!("{text}: {error}")).anatomy.parameters().unwrap().get()
    }

    #[test]
    fn sizes_of_published_models_come_to_their_parameters() {
        // Llama 2 7B, Llama 3.1 8B, TinyLlama: as transformers counts them.
        for (text, count) in [
            ("layers=32,hidden=4096,heads=32,intermediate=11008,vocab=32000", 6_738_415_616),
            ("layers:32 hidden:4096 heads:32 kv-heads:8 intermediate:14336 vocab:128_256", 8_030_261_248),
            ("num_hidden_layers=22, hidden_size=2048, num_attention_heads=32, num_key_value_heads=4, intermediate_size=5632, vocab_size=32000", 1_100_048_384),
            // Mixtral 8x7B, with either word for the width of its experts.
            ("layers=32,hidden=4096,heads=32,kv-heads=8,expert-intermediate=14336,vocab=32000,experts=8,active-experts=2", 46_702_792_704),
            ("layers=32,hidden=4096,heads=32,kv-heads=8,intermediate=14336,vocab=32000,experts=8,active-experts=2", 46_702_792_704),
        ] {
            assert_eq!(total(text), count, "{text}");
        }
        let mixtral = read("layers=32,hidden=4096,heads=32,kv-heads=8,intermediate=14336,vocab=32000,experts=8,active-experts=2").unwrap();
        assert_eq!(mixtral.anatomy.active_parameters().unwrap().get(), 12_879_925_248);
    }

    #[test]
    fn experts_beside_others_are_counted_one_by_one() {
        let text = "layers=3,hidden=64,heads=4,head-dim=16,intermediate=256,vocab=100,experts=8,active-experts=2,expert-intermediate=32,shared-experts=1,dense-layers=1";
        let (attention, norms) = (4 * 64 * 64, 2 * 64);
        let (dense, sparse) = (3 * 64 * 256, 9 * 3 * 64 * 32 + 64 * 8);
        assert_eq!(total(text), 3 * (attention + norms) + dense + 2 * sparse + 64 + 2 * 100 * 64);
        let layers = read(text).unwrap().anatomy.components.remove(0).layers;
        assert_eq!(layers[0].layer.feed_forward, FeedForward::Dense { intermediate: 256, gated: true });
        assert_eq!(layers[1].layer.feed_forward, FeedForward::MixtureOfExperts { experts: 8, active: 2, intermediate: 32, shared: 32 });
        // No dense layers need no width of theirs.
        assert_eq!(total(&text.replace("intermediate=256,", "").replace(",dense-layers=1", "")), 3 * (attention + norms + sparse) + 64 + 2 * 100 * 64);
    }

    /// The layers of a model by hand, as runs.
    fn runs(text: &str) -> Vec<(u64, crate::model::Layer)> {
        let anatomy = read(text).unwrap_or_else(|error| panic!("{text}: {error}")).anatomy;
        assert!(anatomy.keys_not_understood.is_empty(), "{:?}", anatomy.keys_not_understood);
        anatomy.components[0].layers.iter().map(|run| (run.count, run.layer)).collect()
    }

    #[test]
    fn latent_attention_comes_to_the_parameters_of_published_models() {
        for (text, count) in [
            // DeepSeek-V2-Lite and DeepSeek-V3 without its module for further tokens, as transformers counts them.
            (
                "layers=27,hidden=2048,heads=16,intermediate=10944,vocab=102400,experts=64,active-experts=6,expert-intermediate=1408,shared-experts=2,\
                 dense-layers=1,kv-lora-rank=512",
                15_706_484_224,
            ),
            (
                "layers=61,hidden=7168,heads=128,intermediate=18432,vocab=129280,experts=256,active-experts=8,expert-intermediate=2048,shared-experts=1,\
                 dense-layers=3,kv-lora-rank=512,q-lora-rank=1536",
                671_026_404_352,
            ),
        ] {
            assert_eq!(total(text), count, "{text}");
            assert_eq!(runs(text)[0].1.mixer.cache_elements_per_token(), 512 + 64);
        }
        let said = read("layers=2,hidden=64,heads=4,intermediate=128,vocab=100,kv-lora-rank=16").unwrap().anatomy.assumptions;
        assert!(said.iter().any(|line| line.contains("`v-head-dim`")) && !said.iter().any(|line| line.contains("`kv-heads`")), "{said:?}");
    }

    #[test]
    fn windows_and_recurrences_take_turns_with_full_attention() {
        const SIZES: &str = "layers=12,hidden=64,heads=4,kv-heads=2,intermediate=128,vocab=100";
        let sliding = runs(&format!("{SIZES},window=1024,full-every=6"));
        let spans: Vec<_> = sliding.iter().map(|(count, layer)| (*count, layer.mixer.span().unwrap())).collect();
        assert_eq!(spans, [(5, Span::Sliding(1024)), (1, Span::Full), (5, Span::Sliding(1024)), (1, Span::Full)]);

        let attention = 2 * 64 * 64 + 2 * 32 * 64;
        let around = 12 * (3 * 64 * 128 + 2 * 64) + 64 + 2 * 100 * 64;
        // Two heads of 32 with 16 columns of state: in, out, a convolution with its bias, three vectors of heads, a norm.
        let mamba = 64 * (2 * 64 + 2 * 16 + 2) + 64 * 64 + (64 + 2 * 16) * (4 + 1) + 3 * 2 + 64;
        let hybrid = format!("{SIZES},recurrent=mamba2,state-heads=2,state-head-dim=32,state-size=16,full-every=4");
        assert_eq!(total(&hybrid), around + 3 * attention + 9 * mamba);
        let kept: Vec<_> = runs(&hybrid).iter().map(|(count, layer)| (*count, layer.mixer.cache_elements_per_token())).collect();
        assert_eq!(kept, [(3, 0), (1, 64), (3, 0), (1, 64), (3, 0), (1, 64)]);
        // Alone it needs no heads of attention.
        let alone = hybrid.replace("heads=4,kv-heads=2,", "").replace(",full-every=4", "");
        assert_eq!(total(&alone), around + 12 * mamba);

        // Two heads of values over one of keys.
        let delta = format!(
            "{SIZES},recurrent=gated-delta-net,state-heads=2,state-head-dim=32,state-size=16,state-groups=1,full-every=4,\
            experts=8,active-experts=2,expert-intermediate=32,shared-experts=1"
        )
        .replace("intermediate=128,", "");
        let net = 64 * (2 * 16 + 2 * 64 + 2 * 2) + 64 * 64 + (2 * 16 + 64) * 4 + 2 * 2 + 32;
        let sparse = 9 * 3 * 64 * 32 + 64 * 8;
        assert_eq!(total(&delta), 12 * (sparse + 2 * 64) + 64 + 2 * 100 * 64 + 3 * attention + 9 * net);
        // A window beside shared experts.
        let window = format!("{SIZES},experts=8,active-experts=2,expert-intermediate=32,shared-experts=1,window=8").replace("intermediate=128,", "");
        assert_eq!(runs(&window), [(12, crate::model::Layer { mixer: runs(&format!("{SIZES},window=8"))[0].1.mixer, ..runs(&window)[0].1 })]);
        assert_eq!(total(&window), 12 * (sparse + attention + 2 * 64) + 64 + 2 * 100 * 64);
    }

    #[test]
    fn the_width_follows_from_the_parameters() {
        let sizes = "layers=32,hidden=4096,heads=32,vocab=32000";
        let manual = read(&format!("{sizes},params=6738415616")).unwrap();
        assert_eq!(manual.anatomy, {
            let mut same = read(&format!("{sizes},intermediate=11008")).unwrap().anatomy;
            same.assumptions = manual.anatomy.assumptions.clone();
            same
        });
        assert!(manual.anatomy.assumptions.iter().any(|said| said.contains("11,008") && said.contains("6.74 B")), "{:?}", manual.anatomy.assumptions);
        // The nearest width is never further off than half of one step.
        let count = total(&format!("{sizes},params=7B"));
        assert!(count.abs_diff(7_000_000_000) <= 32 * 3 * 4096 / 2, "{count}");
        assert!(matches!(read(&format!("{sizes},params=1B")), Err(ManualError::TooFew { .. })));
        // Given both, the sizes count, and it is said.
        let both = read(&format!("{sizes},intermediate=11008,params=7B")).unwrap();
        assert!(both.anatomy.parameters().unwrap().get() == 6_738_415_616 && both.anatomy.assumptions[1].contains("7.00 B"));
    }

    #[test]
    fn what_was_not_given_is_said() {
        let short = read("layers=2,hidden=64,heads=4,intermediate=128,vocab=100").unwrap().anatomy;
        for word in ["`llama`", "`kv-heads`", "`head-dim`", "`tied`", "`context`"] {
            assert!(short.assumptions.iter().any(|said| said.contains(word)), "{word}: {:?}", short.assumptions);
        }
        let long =
            read("layers=2,hidden=64,heads=4,kv-heads=2,head-dim=16,intermediate=128,vocab=100,context=4096,tied=yes,dtype=fp16,window=1024").unwrap().anatomy;
        assert_eq!(long.assumptions.len(), 1, "{:?}", long.assumptions);
        assert_eq!((long.max_context, long.dtype.unwrap().name), (Some(4096), "F16"));
        assert_eq!(long.components[0].layers[0].layer.mixer.span(), Some(Span::Sliding(1024)));
        assert_eq!(short.parameters().unwrap().get() - long.parameters().unwrap().get(), 64 * 100 + 2 * 2 * 64 * 32);
        assert!(short.keys_not_understood.is_empty() && long.keys_not_understood.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named() {
        const WHOLE: &str = "layers=2,hidden=64,heads=4,intermediate=128,vocab=100";
        let said = |text: &str| read(text).unwrap_err().to_string();
        for name in ["layers", "hidden", "heads", "vocab", "intermediate"] {
            let without: Vec<&str> = WHOLE.split(',').filter(|pair| !pair.starts_with(&format!("{name}="))).collect();
            assert!(said(&without.join(",")).contains(&format!("`{name}` is missing")), "{name}");
        }
        for (more, word) in [
            ("layerz=3", "`layerz`"),
            ("layers=3", "twice"),
            ("context", "not a name with a value"),
            ("context=", "not a name with a value"),
            ("context=lots", "`context`"),
            ("context=4,09", "`context` is `4,09`"),
            ("context=0,125", "`context` is `0,125`"),
            ("context=1234,567", "`context` is `1234,567`"),
            ("params=7,5B", "`params` is `7,5B`"),
            ("params=7,500B", "`params` is `7,500B`"),
            ("context=4096, 5", "`5` is not a name with a value"),
            ("kv-heads=3", "num_key_value_heads"),
            ("kv-heads=0", "num_key_value_heads"),
            ("tied=perhaps", "`tied`"),
            ("params=many", "`params`"),
            ("dtype=float7", "dtype"),
            ("active-experts=2", "`experts` is missing"),
            ("experts=8", "`active-experts` is missing"),
            ("experts=8,active-experts=2,expert-intermediate=32", "`dense-layers`"),
            ("window=8,kv-lora-rank=16", "latent attention has no window"),
            ("full-every=4", "`full-every` tells layers apart"),
            ("window=8,full-every=3", "`full-every` is `3`"),
            ("window=8,full-every=1", "`full-every` is `1`"),
            ("kv-lora-rank=16,kv-heads=2", "leave out `kv-heads`"),
            ("kv-lora-rank=16,head-dim=99", "leave out `kv-heads` and `head-dim`"),
            ("recurrent=mamba2,state-heads=2,state-head-dim=32,state-size=16", "every layer has the recurrence"),
            ("q-lora-rank=16", "`kv-lora-rank` is missing"),
            ("state-size=16", "`recurrent` is missing"),
            ("recurrent=mamba2,state-heads=2,state-head-dim=64,full-every=2", "`state-size` is missing"),
            ("recurrent=rnn,state-heads=2,state-head-dim=64,state-size=16,full-every=2", "`mamba2` and `gated-delta-net`"),
        ] {
            let error = said(&format!("{WHOLE},{more}"));
            assert!(error.contains(word), "{more}: {error}");
        }
        // Without heads, every other size of attention is one too many.
        for more in ["kv-heads=2", "head-dim=16", "window=8", "kv-lora-rank=16"] {
            let alone = WHOLE.replace("heads=4,", "recurrent=mamba2,state-heads=2,state-head-dim=32,state-size=16,");
            assert!(read(&alone).is_ok() && said(&format!("{alone},{more}")).contains("every layer has the recurrence"), "{more}");
        }
        assert!(said("").contains("`layers`") && said(&"x".repeat(2000)).contains("not a name"));
        assert!(matches!(read("layers=10000,hidden=1099511627776,heads=1,intermediate=1099511627776,vocab=1"), Err(ManualError::Config(_))));
    }

    #[test]
    fn a_text_leads_back_to_itself() {
        let text = "vocab=100 layers=2,hidden=64;heads=4, intermediate=128";
        let manual = read(text).unwrap();
        assert_eq!(manual.text, "layers:2,hidden:64,heads:4,intermediate:128,vocab:100");
        assert_eq!(read(&manual.text).unwrap(), manual);
        assert_eq!(read(&text.replace("100", "1,234,567")).unwrap().text, manual.text.replace("100", "1234567"));
        assert!(is_manual(text) && is_manual(&manual.text) && is_manual("num_hidden_layers=2"));
        for name in ["org/name", "https://huggingface.co/x", "{\"layers\": 2}", "layers", "hf://org/name", "hub.example:8443/org/name", "gpt2", "=", "7=x"] {
            assert!(!is_manual(name), "{name}");
        }
        assert_eq!(NAMES.split(", ").map(str::trim).collect::<Vec<_>>(), SIZES.iter().map(|size| size.name).collect::<Vec<_>>());
    }

    proptest::proptest! {
        #[test]
        fn any_text_does_no_harm(text in r"((layers|hidden|heads|kv-heads|intermediate|vocab|params|experts|active-experts|shared-experts|window|full-every|kv-lora-rank|state-heads|state-size)[=:][0-9]{1,20}[BKx.]?[, ]){0,12}|\PC{0,60}") {
            if let Ok(manual) = read(&text) {
                proptest::prop_assert_eq!(&read(&manual.text), &Ok(manual.clone()));
            }
        }

        #[test]
        fn sizes_in_any_order_are_the_same_model(layers in 1u64..100, hidden in 1u64..512, heads in 1u64..16, width in 1u64..5000, vocab in 1u64..100_000) {
            let pairs = [format!("layers={layers}"), format!("hidden={}", hidden * heads), format!("heads={heads}"), format!("intermediate={width}"), format!("vocab={vocab}")];
            let there = read(&pairs.join(",")).unwrap();
            let back: Vec<String> = pairs.into_iter().rev().collect();
            proptest::prop_assert_eq!(read(&back.join(",")).unwrap(), there);
        }
    }
}
