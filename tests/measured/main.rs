//! Predicted beside measured: public logs of engines, each a record with its source in `*.jsonl`.
//!
//! A record says what was run (`scenario`, as a link has it), of which model (`config`), and what the log says in bytes or tokens
//! (`measured`). Nothing is dropped in silence: a record that cannot be compared says why (`skipped`), so does a figure of one
//! (`left`), and a figure outside the prediction's band (`beyond`). The test fails when a median leaves its limit (`limits.json`) or
//! a figure its band without a reason.
//!
//! `scripts/measured` prints the table and writes it into docs/measured.md.

#[path = "../common/mod.rs"]
mod common;
mod records;
mod table;
mod terms;

use std::collections::BTreeMap;

use serde_json::Value;
use vramfit::memory::estimate;
use vramfit::runtime::EstimateError;

use records::{ENGINES, rows};
use table::{Comparison, Left, median};

/// Every comparison, and why the other records and figures have none.
fn compare() -> (Vec<Comparison>, Left) {
    let (mut all, mut left) = (Vec::new(), Left::new());
    for engine in ENGINES {
        for record in rows(engine.records) {
            let mut leave = |what: &str, reason: &str| *left.entry((engine.label, what.to_owned(), reason.to_owned())).or_insert(0) += 1;
            for (term, reason) in record["left"].as_object().into_iter().flatten() {
                leave(term, reason.as_str().unwrap());
            }
            if let Some(reason) = record["skipped"].as_str() {
                leave("the record", reason);
                continue;
            }
            let id = record["id"].as_str().unwrap();
            let answer = match estimate(&records::model(&record), &records::scenario(&record)) {
                Ok(answer) => answer,
                Err(EstimateError::Unsupported(reason)) => {
                    leave("the record", &reason);
                    continue;
                }
                Err(error) => panic!("{id}: {error}"),
            };
            for (key, measured) in record["measured"].as_object().unwrap() {
                let (term, [low, predicted, high]) = terms::predicted(&answer, engine.sums, key).unwrap_or_else(|| panic!("{id}: {key}"));
                all.push(Comparison {
                    engine,
                    version: record["version"].as_str().unwrap_or("not stated").to_owned(),
                    term,
                    id: id.to_owned(),
                    model: record["model"].as_str().unwrap().to_owned(),
                    measured: measured.as_f64().unwrap(),
                    low,
                    predicted,
                    high,
                    beyond: record["beyond"][key].as_str().map(str::to_owned),
                    worst: record["worst"][key].as_str().map(str::to_owned),
                });
            }
        }
    }
    (all, left)
}

/// What is wrong: medians beyond their limits, figures outside their bands without a reason, reasons without need, and figures that are
/// off most of their kind, by more than two percent, without one.
fn wrong(all: &[Comparison], limits: &BTreeMap<String, BTreeMap<String, f64>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (engine, terms) in limits {
        for (term, limit) in terms {
            let errors: Vec<f64> = all.iter().filter(|one| one.engine.name == engine && one.term == term).map(|one| one.error().abs()).collect();
            let (count, median) = (errors.len(), if errors.is_empty() { f64::INFINITY } else { median(errors) });
            if median > *limit {
                wrong.push(format!("{engine} {term}: the median of {count} errors is {median:.2} %, its limit is {limit} %"));
            }
        }
    }
    for (name, group) in table::groups(all.iter(), table::by_term) {
        let worst = table::worst(&group);
        if worst.error().abs() > 2.0 && worst.why().is_empty() {
            wrong.push(format!("{name}: {} is off by {:+.1} %, the most of all, and its record does not say why", worst.id, worst.error()));
        }
    }
    for one in all {
        match (one.is_in_band(), &one.beyond) {
            (false, None) => wrong.push(format!("{} {}: {:.4e} is outside {:.4e} to {:.4e}", one.id, one.term, one.measured, one.low, one.high)),
            (true, Some(why)) => wrong.push(format!("{} {}: is in its band, yet its record says why it is not: {why}", one.id, one.term)),
            _ => {}
        }
    }
    wrong
}

#[test]
fn medians_keep_their_limits_and_figures_their_bands() {
    let (all, left) = compare();
    let report = table::report(&all, &left);
    println!("{report}");
    if let Some(path) = std::env::var_os("VRAMFIT_WRITE") {
        std::fs::write(path, &report).unwrap();
    }
    let wrong = wrong(&all, &serde_json::from_str(include_str!("limits.json")).unwrap());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_record_has_its_source_and_what_it_says() {
    let mut ids = std::collections::BTreeSet::new();
    for record in ENGINES.iter().flat_map(|engine| rows(engine.records)) {
        let id = record["id"].as_str().unwrap().to_owned();
        for key in ["model", "source", "quote", "trust"] {
            assert!(record[key].as_str().is_some_and(|text| !text.is_empty()), "{id} has no {key}");
        }
        assert!(record["skipped"].is_string() || record["measured"].as_object().is_some_and(|measured| !measured.is_empty()), "{id} says nothing");
        assert!(ids.insert(id.clone()), "{id} is there twice");
    }
    let limits: Value = serde_json::from_str(include_str!("limits.json")).unwrap();
    assert!(limits.as_object().unwrap().keys().all(|name| ENGINES.iter().any(|engine| engine.name == name)));
}
