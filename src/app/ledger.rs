//! Where it goes: one row per term at the peak; a row opens to its formula and to where each of its values came from.

use leptos::prelude::*;
use vramfit::estimate::{Basis, Device, Entry, Estimate, Term};
use vramfit::format::{Unit, fixed, grouped, percent};
use vramfit::formula::Expr;
use vramfit::quantity::{Bytes, Overflow};

use super::state::AppState;

/// A term at the peak.
#[derive(Clone, PartialEq)]
struct Row {
    term: Term,
    bytes: Bytes,
    size: String,
    share: String,
    basis: String,
}

/// One computation behind a row.
struct Line {
    /// When it is held; empty for what the row shows.
    when: String,
    code: String,
    why: String,
    band: String,
    sources: Vec<String>,
}

/// The ledger of the device that decides.
pub fn view(state: AppState) -> AnyView {
    let rows = Memo::new(move |_| {
        let unit = state.unit.get();
        state.of_estimate(|estimate| rows(estimate, unit)).unwrap_or_default()
    });
    let total = Memo::new(move |_| state.of_estimate(|estimate| Ok::<_, Overflow>(estimate.worst()?.peak()?.1.expected)).unwrap_or_default());
    let total_size = Memo::new(move |_| size(state.unit.get(), total.get()));
    let unit = Memo::new(move |_| state.unit.get().name().to_owned());
    view! {
        <section class="card" aria-labelledby="ledger-title">
            <h2 id="ledger-title">"Where it goes"</h2>
            <table id="ledger">
                <caption class="visually-hidden">"Memory by what it is for, at the peak; each row opens to its formula"</caption>
                <thead>
                    <tr>
                        <th scope="col">"Term"</th>
                        <th scope="col" class="figure">
                            {unit}
                        </th>
                        <th scope="col" class="figure share">
                            "Share"
                        </th>
                        <th scope="col" class="basis">
                            "Basis"
                        </th>
                    </tr>
                </thead>
                <tbody>
                    <For
                        each=move || rows.with(|rows| rows.iter().map(|row| row.term).collect::<Vec<_>>())
                        key=|term| term.name()
                        children=move |term| row(state, rows, term)
                    />
                </tbody>
                <tfoot hidden=move || rows.with(Vec::is_empty)>
                    <tr>
                        <th scope="row">"At the peak"</th>
                        <td class="figure">
                            <data value=move || total.get().get().to_string()>{total_size}</data>
                        </td>
                        <td class="share"></td>
                        <td class="basis"></td>
                    </tr>
                </tfoot>
            </table>
        </section>
    }
    .into_any()
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
        let basis = if let Some(entry) = entries().find(|entry| entry.stages.contains(&stage)) {
            let range = if amount.is_exact() { String::new() } else { format!(", {} to {}", unit.number(amount.low), unit.number(amount.high)) };
            format!("{}{range}", basis(entry.basis))
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

fn row(state: AppState, rows: Memo<Vec<Row>>, term: Term) -> impl IntoView {
    let is_open = RwSignal::new(false);
    let of = move |read: fn(&Row) -> String| Memo::new(move |_| rows.with(|rows| rows.iter().find(|row| row.term == term).map_or_else(String::new, read)));
    let is_idle = Memo::new(move |_| rows.with(|rows| rows.iter().any(|row| row.term == term && row.bytes == Bytes::ZERO)));
    let swatch = format!("swatch swatch--{}", term.name());
    view! {
        <tr data-term=term.name() class:idle=is_idle>
            <th scope="row">
                <button type="button" aria-expanded=move || is_open.get().to_string() on:click=move |_| is_open.update(|is_open| *is_open = !*is_open)>
                    <span class=swatch aria-hidden="true"></span>
                    {term.label()}
                </button>
            </th>
            <td class="figure">
                <data value=of(|row| row.bytes.get().to_string())>{of(|row| row.size.clone())}</data>
            </td>
            <td class="figure share">{of(|row| row.share.clone())}</td>
            <td class="basis">{of(|row| row.basis.clone())}</td>
        </tr>
        {move || is_open.get().then(|| opened(state, term))}
    }
}

/// The row under an open row.
fn opened(state: AppState, term: Term) -> AnyView {
    let lines = move || {
        let unit = state.unit.get();
        let lines = state.of_estimate(|estimate| lines(estimate.worst()?, term, unit)).unwrap_or_default();
        lines.into_iter().map(line_view).collect_view()
    };
    view! {
        <tr class="formula">
            <td colspan="4">{lines}</td>
        </tr>
    }
    .into_any()
}

fn line_view(line: Line) -> AnyView {
    let Line { when, code, why, band, sources } = line;
    let sources = sources.into_iter().map(|source| view! { <li>{source}</li> }).collect_view();
    view! {
        <div class="line">
            <p class="line__when">{when}</p>
            <code>{code}</code>
            <p>{why}</p>
            <p>{band}</p>
            <ul>{sources}</ul>
        </div>
    }
    .into_any()
}

/// First what makes up the row's figure, then what the term takes at other times.
fn lines(device: &Device, term: Term, unit: Unit) -> Result<Vec<Line>, Overflow> {
    let (peak, _) = device.peak()?;
    let of_term = || device.entries.iter().filter(move |entry| entry.term == term);
    let (held, others): (Vec<&Entry>, Vec<&Entry>) = of_term().partition(|entry| entry.stages.contains(&peak));
    let mut lines = match held.as_slice() {
        [] => vec![Line { when: String::new(), code: format!("nothing {} = 0 B", peak.doing()), why: String::new(), band: String::new(), sources: Vec::new() }],
        [entry] => vec![line(entry, String::new(), unit)],
        several => {
            let sum = Expr::Sum(several.iter().map(|entry| entry.formula.clone()).collect());
            let code = with_value(&sum, device.term_at(term, peak)?.expected);
            let total = Line { when: String::new(), code, why: String::new(), band: String::new(), sources: Vec::new() };
            std::iter::once(total).chain(several.iter().map(|entry| line(entry, String::new(), unit))).collect()
        }
    };
    lines.extend(others.into_iter().map(|entry| line(entry, capital(&when(entry)), unit)));
    Ok(lines)
}

fn line(entry: &Entry, when: String, unit: Unit) -> Line {
    let amount = entry.amount;
    let band = if amount.is_exact() { String::new() } else { format!("Likely {} to {}.", unit.number(amount.low), unit.text(amount.high)) };
    let sources = entry.formula.sources().into_iter().map(|(value, source)| format!("{value}: {source}")).collect();
    Line { when, code: with_value(&entry.formula, amount.expected), why: format!("Rule: {}", entry.source), band, sources }
}

/// `48 layers × 2 × ... = 6,442,450,944 B`
fn with_value(formula: &Expr, bytes: Bytes) -> String {
    format!("{formula} = {} B", grouped(bytes.get()))
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}", first.to_uppercase(), letters.as_str()))
}
