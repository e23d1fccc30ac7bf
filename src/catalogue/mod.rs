//! The built-in catalogue: configs of well-known models, so that there is something to see before anything is fetched.
//!
//! `assets/models/catalogue.jsonl` has one model per line, in the order of ids: id, revision (null where it is not known),
//! date, source, and the keys of its config.json that matter here. Every line is written alike, so it can be searched
//! without parsing it; the test below holds it to that.

use crate::config::{self, ConfigError};
use crate::model::{Model, Origin, Provenance};

/// The file, as build.rs hands it on: without dates and sources on the page.
const LINES: &str = include_str!(concat!(env!("OUT_DIR"), "/catalogue.jsonl"));

/// The model that is shown first.
pub const DEFAULT_MODEL: &str = "Qwen/Qwen3-30B-A3B";

/// Most ids that a search answers with.
const MAX_FOUND: usize = 12;

/// A model of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its Hub id.
    pub id: &'static str,
    /// The commit that the facts are from, where it is known.
    pub revision: Option<&'static str>,
    /// The day it was entered; empty on the page.
    pub date: &'static str,
    /// Where the facts are from; empty on the page.
    pub source: &'static str,
    /// Its config.json, without the keys that do not matter.
    pub config_text: &'static str,
}

impl Entry {
    fn of_line(line: &'static str) -> Option<Self> {
        let (facts, config) = line.split_once(r#","config":"#)?;
        Some(Self {
            id: text(facts, r#"{"id":""#)?,
            revision: text(facts, r#","revision":""#),
            date: text(facts, r#","date":""#).unwrap_or_default(),
            source: text(facts, r#","source":""#).unwrap_or_default(),
            config_text: config.strip_suffix('}')?,
        })
    }
}

/// The text between what opens it and the next quote.
fn text(line: &'static str, opening: &str) -> Option<&'static str> {
    line.split_once(opening)?.1.split('"').next()
}

/// The ids alone, a line each: all that the page's first module holds of the catalogue.
const IDS: &str = include_str!(concat!(env!("OUT_DIR"), "/ids.txt"));

/// The ids, in the order of the file (case does not count).
pub fn ids() -> impl Iterator<Item = &'static str> {
    IDS.lines()
}

/// Whether there is a model with this id, without regard to case.
pub fn is_known(id: &str) -> bool {
    ids().any(|known| known.eq_ignore_ascii_case(id.trim()))
}

/// The model with this id, without regard to case.
pub fn find(id: &str) -> Option<Entry> {
    let id = id.trim();
    let line = LINES.lines().find(|line| text(line, r#"{"id":""#).is_some_and(|known| known.eq_ignore_ascii_case(id)))?;
    Entry::of_line(line)
}

/// The ids that have every word of the query in them, without regard to case: first those whose id or name begins with the
/// first word. At most twelve; an empty query finds the first twelve.
pub fn search(query: &str) -> Vec<&'static str> {
    let query = query.to_ascii_lowercase();
    let words: Vec<&str> = query.split_whitespace().collect();
    let first = words.first().copied().unwrap_or_default();
    let (mut begin, mut rest) = (Vec::new(), Vec::new());
    for id in ids() {
        let lower = id.to_ascii_lowercase();
        if words.iter().all(|word| lower.contains(word)) {
            let name = lower.split_once('/').map_or(lower.as_str(), |(_, name)| name);
            if lower.starts_with(first) || name.starts_with(first) { begin.push(id) } else { rest.push(id) }
        }
    }
    begin.append(&mut rest);
    begin.truncate(MAX_FOUND);
    begin
}

/// Reads the model with this id; `None` when the catalogue does not have it.
pub fn open(id: &str) -> Option<Result<Model, ConfigError>> {
    let entry = find(id)?;
    Some(config::read(entry.config_text).map(|anatomy| Model {
        anatomy,
        provenance: Provenance {
            id: Some(entry.id.to_owned()),
            revision: entry.revision.map(str::to_owned),
            source: Origin::Catalogue,
            files: None,
            notes: Vec::new(),
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// Parameters as counted by transformers' own classes on the meta device (for models that share every dimension with
    /// one that was counted, its count; for `google/gemma-7b`, `google/gemma-2-2b-it`, `openai-community/gpt2`,
    /// `Qwen/Qwen2.5-3B` and `Qwen/Qwen3-32B` the published ones).
    const PARAMETERS: &[(&str, u64)] = &[
        ("01-ai/Yi-34B", 34_388_917_248),
        ("01-ai/Yi-6B", 6_061_035_520),
        ("deepseek-ai/deepseek-llm-7b-base", 6_910_365_696),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", 70_553_706_496),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", 8_030_261_248),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", 32_763_876_352),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", 7_615_616_512),
        ("google/gemma-2-27b-it", 27_227_128_320),
        ("google/gemma-2-2b-it", 2_614_341_888),
        ("google/gemma-2-9b", 9_241_705_984),
        ("google/gemma-2-9b-it", 9_241_705_984),
        ("google/gemma-2b", 2_506_172_416),
        ("google/gemma-7b", 8_537_680_896),
        ("HuggingFaceTB/SmolLM-1.7B", 1_711_376_384),
        ("HuggingFaceTB/SmolLM-135M", 134_515_008),
        ("HuggingFaceTB/SmolLM2-360M", 361_821_120),
        ("meta-llama/Llama-2-13b-hf", 13_015_864_320),
        ("meta-llama/Llama-2-7b-chat-hf", 6_738_415_616),
        ("meta-llama/Llama-2-7b-hf", 6_738_415_616),
        ("meta-llama/Llama-3.1-405B", 405_853_388_800),
        ("meta-llama/Llama-3.1-70B-Instruct", 70_553_706_496),
        ("meta-llama/Llama-3.1-8B", 8_030_261_248),
        ("meta-llama/Llama-3.1-8B-Instruct", 8_030_261_248),
        ("meta-llama/Llama-3.2-1B", 1_235_814_400),
        ("meta-llama/Llama-3.2-3B-Instruct", 3_212_749_824),
        ("meta-llama/Llama-3.3-70B-Instruct", 70_553_706_496),
        ("meta-llama/Meta-Llama-3-70B", 70_553_706_496),
        ("meta-llama/Meta-Llama-3-8B", 8_030_261_248),
        ("microsoft/Phi-3-medium-4k-instruct", 13_960_238_080),
        ("microsoft/Phi-3.5-mini-instruct", 3_821_079_552),
        ("microsoft/phi-4", 14_659_507_200),
        ("microsoft/Phi-4-mini-instruct", 3_836_021_760),
        ("mistralai/Mistral-7B-Instruct-v0.2", 7_241_732_096),
        ("mistralai/Mistral-7B-Instruct-v0.3", 7_248_023_552),
        ("mistralai/Mistral-7B-v0.1", 7_241_732_096),
        ("mistralai/Mistral-7B-v0.3", 7_248_023_552),
        ("mistralai/Mistral-Nemo-Instruct-2407", 12_247_782_400),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", 46_702_792_704),
        ("mistralai/Mixtral-8x7B-v0.1", 46_702_792_704),
        ("openai-community/gpt2", 124_439_808),
        ("openai-community/gpt2-large", 774_030_080),
        ("openai-community/gpt2-medium", 354_823_168),
        ("Qwen/Qwen1.5-110B", 111_209_914_368),
        ("Qwen/Qwen1.5-7B", 7_721_324_544),
        ("Qwen/Qwen2-0.5B", 494_032_768),
        ("Qwen/Qwen2-1.5B", 1_543_714_304),
        ("Qwen/Qwen2-7B", 7_615_616_512),
        ("Qwen/Qwen2.5-0.5B", 494_032_768),
        ("Qwen/Qwen2.5-1.5B", 1_543_714_304),
        ("Qwen/Qwen2.5-14B", 14_770_033_664),
        ("Qwen/Qwen2.5-14B-Instruct", 14_770_033_664),
        ("Qwen/Qwen2.5-32B", 32_763_876_352),
        ("Qwen/Qwen2.5-32B-Instruct", 32_763_876_352),
        ("Qwen/Qwen2.5-3B", 3_085_938_688),
        ("Qwen/Qwen2.5-72B", 72_706_203_648),
        ("Qwen/Qwen2.5-72B-Instruct", 72_706_203_648),
        ("Qwen/Qwen2.5-7B", 7_615_616_512),
        ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512),
        ("Qwen/Qwen2.5-Coder-32B-Instruct", 32_763_876_352),
        ("Qwen/Qwen3-0.6B", 596_049_920),
        ("Qwen/Qwen3-1.7B", 1_720_574_976),
        ("Qwen/Qwen3-14B", 14_768_307_200),
        ("Qwen/Qwen3-235B-A22B", 235_093_634_560),
        ("Qwen/Qwen3-235B-A22B-Instruct-2507", 235_093_634_560),
        ("Qwen/Qwen3-30B-A3B", 30_532_122_624),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", 30_532_122_624),
        ("Qwen/Qwen3-32B", 32_762_123_264),
        ("Qwen/Qwen3-4B", 4_022_468_096),
        ("Qwen/Qwen3-4B-Instruct-2507", 4_022_468_096),
        ("Qwen/Qwen3-8B", 8_190_735_360),
        ("Qwen/Qwen3-Coder-480B-A35B-Instruct", 480_154_875_392),
        ("Qwen/QwQ-32B", 32_763_876_352),
        ("tiiuae/Falcon3-7B-Base", 7_455_550_464),
        ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", 1_100_048_384),
    ];

    #[test]
    fn parameters_are_exact() {
        assert!(ids().count() >= 35);
        assert!(ids().eq(PARAMETERS.iter().map(|(id, _)| *id)), "the table above has the ids of the file, in its order");
        for &(id, parameters) in PARAMETERS {
            let model = open(id).unwrap().unwrap_or_else(|error| panic!("{id}: {error}"));
            assert_eq!(model.anatomy.parameters().unwrap().get(), parameters, "{id}");
            assert!(!model.anatomy.is_guess && model.anatomy.assumptions.is_empty(), "{id}: {:?}", model.anatomy.assumptions);
            assert_eq!(model.anatomy.keys_not_understood, Vec::<String>::new(), "{id}");
            assert_eq!(model.anatomy.quantization, None, "{id}");
            assert!(model.anatomy.max_context.is_some(), "{id}");
            assert_eq!((model.provenance.id.as_deref(), model.provenance.source), (Some(id), Origin::Catalogue));
        }
    }

    #[test]
    fn scanning_a_line_gives_what_parsing_it_gives() {
        for line in LINES.lines() {
            let entry = Entry::of_line(line).unwrap_or_else(|| panic!("{line}"));
            let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{}: {error}", entry.id));
            assert_eq!(value["id"], entry.id);
            assert_eq!(value["revision"].as_str(), entry.revision, "{}", entry.id);
            assert_eq!(value["date"], entry.date);
            assert_eq!(value["source"], entry.source);
            assert_eq!(serde_json::from_str::<Value>(entry.config_text).ok().as_ref(), value.get("config"), "{}", entry.id);
            assert_eq!(value.as_object().map(serde_json::Map::len), Some(5), "{}", entry.id);
            assert_eq!(find(&entry.id.to_ascii_uppercase()), Some(entry), "ids are unique without regard to case");
        }
    }

    #[test]
    fn ids_are_found_by_their_words() {
        assert_eq!(find(" qwen/qwen3-4b ").map(|entry| entry.id), Some("Qwen/Qwen3-4B"));
        assert_eq!(find("Qwen/Qwen3"), None);
        assert_eq!(find(""), None);
        assert!(open("nobody/nothing").is_none());
        assert!(find(DEFAULT_MODEL).is_some());
        assert_eq!(search("mixtral"), ["mistralai/Mixtral-8x7B-Instruct-v0.1", "mistralai/Mixtral-8x7B-v0.1"]);
        assert_eq!(search("30b QWEN3 2507"), ["Qwen/Qwen3-30B-A3B-Instruct-2507"]);
        assert_eq!(search("gpt2").len(), 3);
        assert!(search("llama").iter().take(3).all(|id| id.starts_with("meta-llama/")), "ids and names that begin with the word come first");
        assert_eq!(search("").len(), MAX_FOUND);
        assert!(search("qwen").len() == MAX_FOUND && search("no such model").is_empty());
    }
}
