//! The comparisons as a table.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::records::Engine;

/// One figure of a log beside the estimate's.
pub struct Comparison {
    pub engine: &'static Engine,
    pub version: String,
    pub term: &'static str,
    pub id: String,
    pub model: String,
    pub measured: f64,
    pub low: f64,
    pub predicted: f64,
    pub high: f64,
    /// Why it is outside its band.
    pub beyond: Option<String>,
    /// Why it is off, though in its band: of those that are the worst of their kind.
    pub worst: Option<String>,
}

/// How often what (a term, or the record) of an engine is not compared, and why.
pub type Left = BTreeMap<(&'static str, String, String), usize>;

const GIB: f64 = 1_073_741_824.0;

/// Terms that are counts, not sizes.
const COUNTS: &[&str] = &["kv_tokens", "kv_bytes_per_token"];

impl Comparison {
    /// In percent of what was measured.
    pub fn error(&self) -> f64 {
        (self.predicted - self.measured) / self.measured * 100.0
    }

    pub fn is_in_band(&self) -> bool {
        // Around a band: allocators round, in parts of a figure; logs print hundredths of a GiB.
        let slack = match self.term {
            "weights" => self.measured * 0.01,
            term if COUNTS.contains(&term) => self.measured * 0.005,
            _ => (self.measured * 0.005).max(0.01 * GIB),
        };
        (self.low - slack..=self.high + slack).contains(&self.measured)
    }
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

impl Comparison {
    /// Why it is off, where its record says so.
    pub fn why(&self) -> &str {
        self.beyond.as_deref().or(self.worst.as_deref()).unwrap_or("")
    }
}

/// The comparisons by what `key` makes of them.
pub fn groups<'a>(all: impl Iterator<Item = &'a Comparison>, key: impl Fn(&Comparison) -> String) -> BTreeMap<String, Vec<&'a Comparison>> {
    let mut groups: BTreeMap<String, Vec<&Comparison>> = BTreeMap::new();
    for one in all {
        groups.entry(key(one)).or_default().push(one);
    }
    groups
}

/// By runtime and term.
pub fn by_term(one: &Comparison) -> String {
    format!("{} {}", one.engine.label, one.term)
}

/// The one that is off most.
pub fn worst<'a>(group: &[&'a Comparison]) -> &'a Comparison {
    group.iter().max_by(|a, b| a.error().abs().total_cmp(&b.error().abs())).unwrap()
}

/// A line for each group of comparisons: count, medians in percent and in GiB, the worst.
fn summary<'a>(out: &mut String, all: impl Iterator<Item = &'a Comparison>, key: impl Fn(&Comparison) -> String) {
    out.push_str("| what | records | median % | median of sizes % | median of sizes GiB | in band | worst % | why the worst is |\n");
    out.push_str("| --- | ---: | ---: | ---: | ---: | ---: | --- | --- |\n");
    for (name, group) in groups(all, key) {
        let errors: Vec<f64> = group.iter().map(|one| one.error()).collect();
        let worst = worst(&group);
        let absolute = median(errors.iter().map(|error| error.abs()).collect());
        let sizes = median(group.iter().map(|one| (one.predicted - one.measured).abs() / GIB).collect());
        let sizes = if COUNTS.contains(&worst.term) { "–".to_owned() } else { format!("{sizes:.3}") };
        let inside = group.iter().filter(|one| one.is_in_band()).count();
        let (count, middle, error, why) = (group.len(), median(errors), worst.error(), worst.why());
        writeln!(out, "| {name} | {count} | {middle:+.2} | {absolute:.2} | {sizes} | {inside} | {} {error:+.1} | {why} |", worst.id).unwrap();
    }
}

/// Everything, as docs/measured.md has it.
pub fn report(all: &[Comparison], left: &Left) -> String {
    let mut out = String::from(
        "# Predicted beside measured\n\nWritten by `scripts/measured`. Public logs of engines; the records with their sources are in tests/measured. Errors are (predicted − measured) / measured in percent; sizes in GiB, tokens and bytes per token as they are. `compute_mla` are logs of ik_llama.cpp, a fork of llama.cpp, with DeepSeek's models: upstream's rules are computed, and the fork is told apart.\n\n## By runtime and term\n\n",
    );
    summary(&mut out, all.iter(), by_term);
    out.push_str("\n## By version\n\n");
    let is_versioned = |one: &&Comparison| ["weights", "kv_available", "compute", "compute_mla"].contains(&one.term);
    let version = |one: &Comparison| one.version.split([' ', '+']).next().unwrap_or_default().to_owned();
    summary(&mut out, all.iter().filter(is_versioned), |one| format!("{} {}: {}", one.engine.label, version(one), one.term));
    out.push_str("\n## Every figure\n\n| record | model | term | predicted | measured | % | why beyond its band |\n");
    out.push_str("| --- | --- | --- | ---: | ---: | ---: | --- |\n");
    for one in all {
        let shown = |value: f64| if COUNTS.contains(&one.term) { format!("{value:.0}") } else { format!("{:.3}", value / GIB) };
        let (predicted, measured) = (shown(one.predicted), shown(one.measured));
        let why = one.beyond.as_deref().unwrap_or("");
        writeln!(out, "| {} | {} | {} | {predicted} | {measured} | {:+.2} | {why} |", one.id, one.model, one.term, one.error()).unwrap();
    }
    out.push_str("\n## Not compared\n\n| runtime | what | how often | why |\n| --- | --- | ---: | --- |\n");
    for ((engine, what, reason), times) in left {
        writeln!(out, "| {engine} | {what} | {times} | {reason} |").unwrap();
    }
    out
}
