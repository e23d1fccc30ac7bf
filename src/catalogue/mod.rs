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

/// The ids, in the order of the file (case does not count).
pub fn ids() -> impl Iterator<Item = &'static str> {
    LINES.lines().filter_map(|line| text(line, r#"{"id":""#))
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

/// Of these ids, a line each, those that have every word of the query in them, without regard to case: first those whose id or
/// name begins with the first word. At most twelve; an empty query finds the first twelve. The page's first module has no
/// catalogue: it asks the reader for the ids and searches among them here.
pub fn search<'a>(ids: &'a str, query: &str) -> Vec<&'a str> {
    let query = query.to_ascii_lowercase();
    let words: Vec<&str> = query.split_whitespace().collect();
    let first = words.first().copied().unwrap_or_default();
    let (mut begin, mut rest) = (Vec::new(), Vec::new());
    for id in ids.lines() {
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
        let all = ids().collect::<Vec<_>>().join("\n");
        let search = |query| search(&all, query);
        assert_eq!(search("mixtral 8x7b"), ["mistralai/Mixtral-8x7B-Instruct-v0.1", "mistralai/Mixtral-8x7B-v0.1"]);
        assert_eq!(search("30b QWEN3 2507"), ["Qwen/Qwen3-30B-A3B-Instruct-2507", "Qwen/Qwen3-30B-A3B-Thinking-2507"]);
        assert_eq!(search("gpt2").len(), 3);
        let begins = |id: &&str| id.split_once('/').is_some_and(|(_, name)| name.to_ascii_lowercase().starts_with("llama"));
        assert!(search("llama").iter().all(begins), "ids and names that begin with the word come first");
        assert_eq!(search("").len(), MAX_FOUND);
        assert!(search("qwen").len() == MAX_FOUND && search("no such model").is_empty());
    }
}
