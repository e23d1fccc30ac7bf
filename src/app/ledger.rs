//! Where it goes: one row per term at the peak; a row opens to its formula and to where each of its values came from.

use leptos::prelude::*;
use vramfit::estimate::{Basis, Device, Entry, Estimate, Term};
use vramfit::format::{Unit, fixed, grouped, percent};
use vramfit::formula::Expr;
use vramfit::quantity::{Bytes, Overflow};

use super::dom;
use super::state::AppState;

/// A term at the peak.
struct Row {
    term: Term,
    bytes: Bytes,
    size: String,
    share: String,
    basis: String,
}

/// The ledger of the device that decides.
pub const MARKUP: &str = "\
    <section class='card' aria-labelledby='ledger-title'>\
      <h2 id='ledger-title'>Where it goes</h2>\
      <table id='ledger'>\
        <caption class='visually-hidden'>Memory by what it is for, at the peak; each row opens to its formula</caption>\
        <thead><tr>\
          <th scope='col'>Term</th>\
          <th scope='col' class='figure' id='ledger-unit'></th>\
          <th scope='col' class='figure share'>Share</th>\
          <th scope='col' class='basis'>Basis</th>\
        </tr></thead>\
        <tbody id='ledger-rows'></tbody>\
        <tfoot id='ledger-total' hidden><tr>\
          <th scope='row'>At the peak</th>\
          <td class='figure'><data id='total' value='0'></data></td>\
          <td class='share'></td>\
          <td class='basis'></td>\
        </tr></tfoot>\
      </table>\
    </section>";

/// Keeps it up to date, and opens its rows.
pub fn bind(state: AppState) {
    let opened = ArcRwSignal::new(Vec::<String>::new());
    let toggled = opened.clone();
    dom::follow(move || {
        let unit = state.unit.get();
        let rows = state.of_estimate(|estimate| rows(estimate, unit)).unwrap_or_default();
        let total = state.of_estimate(|estimate| Ok::<_, Overflow>(estimate.worst()?.peak()?.1.expected)).unwrap_or_default();
        // Rows stay where they are as long as there are the same, so that the focus does.
        let mut skeleton = String::new();
        for row in &rows {
            frame(&mut skeleton, row.term);
        }
        dom::html("ledger-rows", &skeleton);
        for row in &rows {
            fill(row);
            let is_open = opened.with(|opened| opened.iter().any(|term| term == row.term.name()));
            let lines = if is_open { state.of_estimate(|estimate| lines(estimate.worst()?, row.term, unit)) } else { None };
            unfold(row.term, is_open, &lines.unwrap_or_default());
        }
        dom::text("ledger-unit", unit.name());
        dom::text("total", &size(unit, total));
        dom::attribute("total", "value", &total.get().to_string());
        dom::flag("ledger-total", "hidden", rows.is_empty());
    });
    dom::on("ledger-rows", "click", move |event| {
        let Some(term) = dom::nearest(&event, "data-opens") else { return };
        toggled.update(|opened| match opened.iter().position(|known| *known == term) {
            Some(at) => _ = opened.remove(at),
            None => opened.push(term),
        });
    });
}

/// The elements of a term: its row, and the one that opens under it.
fn frame(out: &mut String, term: Term) {
    let name = term.name();
    let row = [
        "<tr id='row-",
        "' data-term='",
        "'><th scope='row'><button type='button' id='opens-",
        "' data-opens='",
        "' aria-expanded='false'><span aria-hidden='true' class='swatch swatch--",
        "'></span>",
    ]
    .join(name);
    let cells = [
        "</button></th><td class='figure'><data id='bytes-",
        "'></data></td><td class='figure share' id='share-",
        "'></td><td class='basis' id='basis-",
        "'></td></tr><tr class='formula' hidden id='formula-",
        "'><td colspan='4' id='lines-",
        "'></td></tr>",
    ]
    .join(name);
    dom::weave(out, &[&row, term.label(), &cells]);
}

fn fill(row: &Row) {
    let name = row.term.name();
    let id = |part: &str| [part, name].concat();
    dom::attribute(&id("row-"), "class", if row.bytes == Bytes::ZERO { "idle" } else { "" });
    dom::attribute(&id("bytes-"), "value", &row.bytes.get().to_string());
    dom::text(&id("bytes-"), &row.size);
    dom::text(&id("share-"), &row.share);
    dom::text(&id("basis-"), &row.basis);
}

/// Shows the computations behind a row, or hides them.
fn unfold(term: Term, is_open: bool, lines: &str) {
    let id = |part: &str| [part, term.name()].concat();
    dom::attribute(&id("opens-"), "aria-expanded", if is_open { "true" } else { "false" });
    dom::flag(&id("formula-"), "hidden", !is_open);
    dom::html(&id("lines-"), lines);
}

/// Two decimals, as a table wants them.
fn size(unit: Unit, bytes: Bytes) -> String {
    fixed(bytes.get(), unit.bytes(), 2)
}

fn rows(estimate: &Estimate, unit: Unit) -> Result<Vec<Row>, Overflow> {
    let device = estimate.worst()?;
    let (stage, peak) = device.peak()?;
    let row = |term| {
        let amount = device.term_at(term, stage)?;
        let bytes = amount.expected;
        let entries = || device.entries.iter().filter(move |entry| entry.term == term);
        let basis = if let Some(least) = device.basis_at(term, stage) {
            let range = unit.range(amount.low, amount.high).map_or_else(String::new, |range| [", ", &range].concat());
            [basis(least), &range].concat()
        } else {
            // Not held at the peak: its largest, and when.
            let largest = entries().max_by_key(|entry| entry.amount.expected);
            largest.map_or_else(String::new, |entry| format!("{} {}", unit.number(entry.amount.expected), when(entry)))
        };
        Ok(Row { term, bytes, size: size(unit, bytes), share: percent(bytes, peak.expected), basis })
    };
    device.terms().map(row).collect()
}

fn basis(basis: Basis) -> &'static str {
    match basis {
        Basis::Exact => "exact",
        Basis::Derived => "exact by the engine's rules",
        Basis::Modelled => "modelled",
        Basis::RuleOfThumb => "rule of thumb",
    }
}

/// `while sampling and while decoding`
fn when(entry: &Entry) -> String {
    entry.stages.iter().map(|stage| stage.doing()).collect::<Vec<_>>().join(" and ")
}

/// First what makes up the row's figure, then what the term takes at other times.
fn lines(device: &Device, term: Term, unit: Unit) -> Result<String, Overflow> {
    let (peak, _) = device.peak()?;
    let of_term = || device.entries.iter().filter(move |entry| entry.term == term);
    let (held, others): (Vec<&Entry>, Vec<&Entry>) = of_term().partition(|entry| entry.stages.contains(&peak));
    let mut out = String::new();
    match held.as_slice() {
        [] => sum(&mut out, &format!("nothing {} = 0 B", peak.doing())),
        [_] => {}
        several => {
            let total = Expr::Sum(several.iter().map(|entry| entry.formula.clone()).collect());
            sum(&mut out, &with_value(&total, device.term_at(term, peak)?.expected));
        }
    }
    for entry in held {
        line(&mut out, entry, "", unit);
    }
    for entry in others {
        line(&mut out, entry, &capital(&when(entry)), unit);
    }
    Ok(out)
}

/// A computation without more to say about it.
fn sum(out: &mut String, code: &str) {
    dom::weave(out, &["<div class='line'><code>", code, "</code></div>"]);
}

/// A computation, when it is held (empty for what the row shows), and where its values come from.
fn line(out: &mut String, entry: &Entry, when: &str, unit: Unit) {
    let amount = entry.amount;
    let band = unit.range(amount.low, amount.high).map_or_else(String::new, |range| ["Likely ", &range, " ", unit.name(), "."].concat());
    let code = with_value(&entry.formula, amount.expected);
    dom::weave(out, &["<div class='line'><p class='line__when'>", when, "</p><code>", &code, "</code><p>Rule: ", entry.source, "</p><p>", &band, "</p><ul>"]);
    for (value, source) in entry.formula.sources() {
        dom::weave(out, &["<li>", &format!("{value}: {source}"), "</li>"]);
    }
    out.push_str("</ul></div>");
}

/// `48 layers × 2 × ... = 6,442,450,944 B`
fn with_value(formula: &Expr, bytes: Bytes) -> String {
    format!("{formula} = {} B", grouped(bytes.get()))
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| [first.to_ascii_uppercase().to_string().as_str(), letters.as_str()].concat())
}
