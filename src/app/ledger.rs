//! Where it goes: one row per term at the peak; a row opens to its formula and to where each of its values came from.

use leptos::prelude::*;
use vramfit::estimate::{Basis, Entry, Ledger, Term};
use vramfit::format::{Unit, fixed, grouped, percent};
use vramfit::formula::Expr;
use vramfit::quantity::{Bytes, Overflow};

use super::dom;
use super::state::AppState;

/// The rows of one ledger, and what they add up to.
#[derive(Default)]
struct Part {
    rows: Vec<Row>,
    total: Bytes,
}

/// A term at the peak.
struct Row {
    term: Term,
    /// What the ids of its elements end in: its name, behind that of its part.
    id: String,
    bytes: Bytes,
    size: String,
    share: String,
    basis: String,
    /// What stands under it when it is open.
    lines: Option<String>,
}

/// The host's part; the GPU's has no name.
const HOST: &str = "host-";

/// The ledger of the device that decides, and the host's where something lies there.
pub const MARKUP: &str = "\
    <section id='part' class='card' aria-labelledby='ledger-title'>\
      <h2 id='ledger-title'>Where it goes</h2>\
      <table id='ledger' class='ledger'>\
        <caption class='visually-hidden'>Memory by what it is for, at the peak; each row opens to its formula</caption>\
        <thead><tr>\
          <th scope='col'>Term</th>\
          <th scope='col' class='figure' id='ledger-unit'></th>\
          <th scope='col' class='figure share'>Share</th>\
          <th scope='col' class='basis'>Basis</th>\
        </tr></thead>\
        <tbody id='rows'></tbody>\
        <tfoot><tr>\
          <th scope='row'>At the peak</th>\
          <td class='figure'><data id='total' value='0'></data></td>\
          <td class='share'></td>\
          <td class='basis'></td>\
        </tr></tfoot>\
      </table>\
      <div id='host-part' hidden>\
      <table class='ledger'>\
        <caption>On the host</caption>\
        <thead class='visually-hidden'><tr><th scope='col'>Term</th><th scope='col'>Size</th><th scope='col'>Share</th><th scope='col'>Basis</th></tr></thead>\
        <tbody id='host-rows'></tbody>\
        <tfoot><tr>\
          <th scope='row'>At the peak</th>\
          <td class='figure'><data id='host-total' value='0'></data></td>\
          <td class='share'></td>\
          <td class='basis'></td>\
        </tr></tfoot>\
      </table></div>\
    </section>";

/// Keeps it up to date, and opens its rows.
pub fn bind(state: AppState) {
    let opened = ArcRwSignal::new(Vec::<String>::new());
    let shown = opened.clone();
    dom::follow(move || {
        let unit = state.unit.get();
        dom::text("ledger-unit", unit.name());
        shown.with(|opened| {
            let read = |prefix: &str, ledger: &Ledger| part(ledger, prefix, unit, opened);
            show("", unit, &state.of_estimate(|estimate| read("", &estimate.worst()?.ledger)).unwrap_or_default());
            let host = state.of_estimate(|estimate| estimate.host.as_ref().map(|ledger| read(HOST, ledger)).transpose());
            show(HOST, unit, &host.flatten().unwrap_or_default());
        });
    });
    for prefix in ["", HOST] {
        let opened = opened.clone();
        dom::on(&[prefix, "rows"].concat(), "click", move |event| {
            let Some(row) = dom::nearest(&event, "data-opens") else { return };
            opened.update(|opened| match opened.iter().position(|known| *known == row) {
                Some(at) => _ = opened.remove(at),
                None => opened.push(row),
            });
        });
    }
}

/// Rows stay where they are as long as there are the same, so that the focus does.
fn show(prefix: &str, unit: Unit, part: &Part) {
    let id = |what: &str| [prefix, what].concat();
    let mut skeleton = String::new();
    for row in &part.rows {
        frame(&mut skeleton, row);
    }
    dom::html(&id("rows"), &skeleton);
    for row in &part.rows {
        fill(row);
    }
    dom::text(&id("total"), &size(unit, part.total));
    dom::attribute(&id("total"), "value", &part.total.get().to_string());
    dom::flag(&id("part"), "hidden", part.rows.is_empty());
}

/// The elements of a term: its row, and the one that opens under it.
fn frame(out: &mut String, row: &Row) {
    let opening =
        ["<tr id='row-", "' data-term='", "'><th scope='row'><button type='button' id='opens-", "' data-opens='", "' aria-expanded='false'>"].join(&row.id);
    let cells = [
        "</button></th><td class='figure'><data id='bytes-",
        "'></data></td><td class='figure share' id='share-",
        "'></td><td class='basis' id='basis-",
        "'></td></tr><tr class='formula' hidden id='formula-",
        "'><td colspan='4' id='lines-",
        "'></td></tr>",
    ]
    .join(&row.id);
    dom::weave(out, &[&opening, "", "<span aria-hidden='true' class='swatch swatch--", row.term.name(), "'></span>", row.term.label(), &cells]);
}

/// Its figures, and the computations behind them where it is open.
fn fill(row: &Row) {
    let id = |part: &str| [part, &row.id].concat();
    dom::attribute(&id("row-"), "class", if row.bytes == Bytes::ZERO { "idle" } else { "" });
    dom::attribute(&id("bytes-"), "value", &row.bytes.get().to_string());
    dom::text(&id("bytes-"), &row.size);
    dom::text(&id("share-"), &row.share);
    dom::text(&id("basis-"), &row.basis);
    dom::attribute(&id("opens-"), "aria-expanded", if row.lines.is_some() { "true" } else { "false" });
    dom::flag(&id("formula-"), "hidden", row.lines.is_none());
    dom::html(&id("lines-"), row.lines.as_deref().unwrap_or_default());
}

/// Two decimals, as a table wants them.
fn size(unit: Unit, bytes: Bytes) -> String {
    fixed(bytes.get(), unit.bytes(), 2)
}

fn part(ledger: &Ledger, prefix: &str, unit: Unit, opened: &[String]) -> Result<Part, Overflow> {
    let (stage, peak) = ledger.peak()?;
    let row = |term: Term| {
        let amount = ledger.term_at(term, stage)?;
        let bytes = amount.expected;
        let entries = || ledger.entries.iter().filter(move |entry| entry.term == term);
        let basis = if let Some(least) = ledger.basis_at(term, stage) {
            let range = unit.range(amount.low, amount.high).map_or_else(String::new, |range| [", ", &range].concat());
            [basis(least), &range].concat()
        } else {
            // Not held at the peak: its largest, and when.
            let largest = entries().max_by_key(|entry| entry.amount.expected);
            largest.map_or_else(String::new, |entry| format!("{} {}", unit.number(entry.amount.expected), when(entry)))
        };
        let id = [prefix, term.name()].concat();
        let lines = opened.contains(&id).then(|| lines(ledger, term, unit)).transpose()?;
        Ok(Row { term, id, bytes, size: size(unit, bytes), share: percent(bytes, peak.expected), basis, lines })
    };
    Ok(Part { rows: ledger.terms().map(row).collect::<Result<_, Overflow>>()?, total: peak.expected })
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
fn lines(ledger: &Ledger, term: Term, unit: Unit) -> Result<String, Overflow> {
    let (peak, _) = ledger.peak()?;
    let of_term = || ledger.entries.iter().filter(move |entry| entry.term == term);
    let (held, others): (Vec<&Entry>, Vec<&Entry>) = of_term().partition(|entry| entry.stages.contains(&peak));
    let mut out = String::new();
    match held.as_slice() {
        [] => sum(&mut out, &format!("nothing {} = 0 B", peak.doing())),
        [_] => {}
        several => {
            let total = Expr::Sum(several.iter().map(|entry| entry.formula.clone()).collect());
            sum(&mut out, &with_value(&total, ledger.term_at(term, peak)?.expected));
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
