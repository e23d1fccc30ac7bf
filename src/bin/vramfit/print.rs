//! Tables for people. Colours on a terminal only (`anstream` takes them out of pipes).

use std::io::{ErrorKind, Write};

use anstream::{eprintln, println};
use anstyle::{AnsiColor, Style};
use serde_json::Value;
use vramfit::encoding::Encoding;
use vramfit::estimate::{Basis, Choice, Device, Estimate, Ledger};
use vramfit::format::{Unit, fixed, grouped, parameters, percent};
use vramfit::formula::{Expr, Leaf};
use vramfit::model::{Component, LayerRun, Model, Origin, Work};
use vramfit::plan::{Largest, LongestContext, Question};
use vramfit::quantity::Overflow;
use vramfit::report;
use vramfit::weight_format::Weights;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GREEN: Style = AnsiColor::Green.on_default().bold();
const RED: Style = AnsiColor::Red.on_default().bold();

/// A message about bad input, on standard error.
pub fn error(message: &str) {
    eprintln!("{RED}vramfit:{RED:#} {message}");
}

/// Pretty JSON on standard output.
pub fn json(value: &Value) {
    // As one text: written piece by piece, each line is a call of the system.
    let text = format!("{value:#}\n");
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has read enough.
        Err(problem) if problem.kind() != ErrorKind::BrokenPipe => error(&format!("the answer cannot be written: {problem}")),
        _ => {}
    }
}

/// The answer: verdict, moments, ledger with formulas, capacity, assumptions.
pub fn estimate(model: &Model, estimate: &Estimate, longest: LongestContext) -> Result<(), Overflow> {
    let unit = Unit::Gib;
    let verdict = report::verdict(estimate, unit)?;
    let colour = if verdict.fits { GREEN } else { RED };
    println!("{BOLD}{}{BOLD:#}  {}", name(model), facts(model)?);
    println!("{colour}{}{colour:#}{}", verdict.claim, verdict.rest);
    println!("{}\n", verdict.summary);

    let device = estimate.worst()?;
    for device in &estimate.devices {
        let title = match estimate.devices.len() {
            1 => "Where it goes".to_owned(),
            _ => format!("GPU {}, {}", numbers(device), device.gpu),
        };
        ledger(&title, device)?;
    }
    if let Some(host) = &estimate.host {
        ledger("Host memory", host)?;
    }

    if let Some(minimum) = device.minimum {
        println!("{:<28}{:>10}  one request of this context", "Minimum to run", unit.number(minimum));
    }
    println!("{:<28}{:>10}", "Loaded", unit.number(device.loaded()?.expected));
    println!("{:<28}{:>10}", "Steady at this load", unit.number(device.steady()?.expected));
    if let Some(budget) = &device.budget {
        println!("{:<28}{:>10}", budget.name, unit.number(budget.bytes));
    }
    if let Some(claim) = device.claim {
        println!("{:<28}{:>10}  what the engine will claim", "Claim", unit.number(claim));
    } else if estimate.trainable.is_none() {
        println!("{:<28}{:>10}  what the engine will claim: its peak, nothing is set aside", "Claim", unit.number(device.peak()?.1.expected));
    }
    println!("{:<28}{:>10}", "Usable on the card", unit.number(device.usable));
    if let Some(capacity) = estimate.capacity {
        let concurrency = fixed(capacity.concurrency_hundredths, 100, 2);
        println!(
            "{:<28}{:>10}  {} tokens, {concurrency} requests of this context",
            "Room for the KV cache",
            unit.number(capacity.kv_cache_bytes),
            grouped(capacity.kv_cache_tokens)
        );
    }
    if !model.is_pipeline() && !matches!(model.decoder().work, Work::Images(_)) {
        let max = model.anatomy.max_context.map(|max| format!("  the model's maximum is {}", grouped(max))).unwrap_or_default();
        println!("{:<28}{:>10}{max}", "Longest context that fits", tokens(longest));
    }
    println!();
    let is_plain = |choice: &&Choice| choice.default.is_some() && !(choice.key.ends_with("_parallel") && choice.value == "1");
    for choice in estimate.choices.iter().filter(is_plain) {
        println!("{DIM}default {} = {}: {}{DIM:#}", choice.key, choice.value, choice.default.as_deref().unwrap_or_default());
    }
    for sentence in estimate.warnings.iter().chain(&estimate.assumptions) {
        println!("note: {sentence}");
    }
    Ok(())
}

/// `1`, or `1 to 3`.
fn numbers(device: &Device) -> String {
    match (device.ranks.start, device.ranks.end - 1) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first} to {last}"),
    }
}

/// The entries at the peak, with their formulas, and the peak.
fn ledger(title: &str, ledger: &Ledger) -> Result<(), Overflow> {
    let unit = Unit::Gib;
    let (peak_stage, peak) = ledger.peak()?;
    println!("{BOLD}{:<28}{:>10}{:>9}  basis{BOLD:#}", title, unit.name(), "share");
    for term in ledger.terms() {
        let amount = ledger.term_at(term, peak_stage)?;
        if amount.expected.get() == 0 {
            continue;
        }
        let entries = || ledger.entries.iter().filter(|entry| entry.term == term && entry.stages.contains(&peak_stage));
        let basis = ledger.basis_at(term, peak_stage).map_or("", Basis::name);
        let band = unit.range(amount.low, amount.high).map_or_else(String::new, |range| format!(" ({range})"));
        let name = term.label();
        println!("{name:<28}{:>10}{:>9}  {basis}{band}", unit.number(amount.expected), percent(amount.expected, peak.expected));
        for entry in entries() {
            match &entry.formula {
                Expr::Leaf(Leaf { source: Some(source), .. }) => println!("  {DIM}{source}{DIM:#}"),
                formula => println!("  {DIM}{formula} = {} B{DIM:#}", grouped(entry.amount.expected.get())),
            }
        }
    }
    println!("{BOLD}{:<28}{:>10}{BOLD:#}  {}\n", "Peak", unit.number(peak.expected), peak_stage.doing());
    Ok(())
}

/// The anatomy.
pub fn inspect(model: &Model) -> Result<(), Overflow> {
    println!("{BOLD}{}{BOLD:#}  {}", name(model), facts(model)?);
    let anatomy = &model.anatomy;
    println!("model type {}, read from {}", anatomy.model_type, model.provenance.source.name());
    for component in &anatomy.components {
        println!("\n{BOLD}{}{BOLD:#}: {}", component.name, outline(component)?);
        let layers: Vec<String> = component.layers.iter().map(layers_of).collect();
        for (times, turn) in turns(&layers) {
            let indent = if times > 1 { "    " } else { "" };
            if times > 1 {
                println!("  {times:>4} times in turn:");
            }
            for line in turn {
                println!("{indent}{line}");
            }
        }
    }
    keeps(model)?;
    println!("\n{BOLD}{:<20}{:>20}{BOLD:#}", "Role", "parameters");
    let mut roles: Vec<(&str, u64)> = Vec::new();
    for (tensor, times) in anatomy.tensors() {
        let elements = tensor.elements()?.times(times)?.get();
        match roles.iter_mut().find(|(role, _)| *role == tensor.role.name()) {
            Some((_, sum)) => *sum += elements,
            None => roles.push((tensor.role.name(), elements)),
        }
    }
    for (role, sum) in roles {
        println!("{role:<20}{:>20}", grouped(sum));
    }
    if let Some(files) = &model.provenance.files {
        println!("\n{} files hold {} elements in {} bytes", files.count, grouped(files.elements.get()), grouped(files.bytes.get()));
        for (part, bytes) in files.by_part()? {
            println!("{part:<20}{:>20} bytes, {}", grouped(bytes.get()), Unit::Gib.text(bytes));
        }
    }
    println!("\nkeys used: {}", anatomy.keys_used.join(", "));
    if !anatomy.keys_not_understood.is_empty() {
        println!("keys not understood: {}", anatomy.keys_not_understood.join(", "));
    }
    for sentence in anatomy.assumptions.iter().chain(&model.provenance.notes) {
        println!("note: {sentence}");
    }
    Ok(())
}

/// `3,212,749,824 parameters in 28 layers, hidden size 3,072, vocabulary 128,256`
fn outline(component: &Component) -> Result<String, Overflow> {
    let parameters = grouped(component.parameters()?.get());
    let layers = match component.layer_count() {
        0 => String::new(),
        1 => " in 1 layer".to_owned(),
        count => format!(" in {count} layers"),
    };
    let size = |name: &str, size: u64| if size == 0 { String::new() } else { format!(", {name} {}", grouped(size)) };
    Ok(format!("{parameters} parameters{layers}{}{}", size("hidden size", component.hidden_size), size("vocabulary", component.vocab_size)))
}

/// A run of equal layers as a line.
fn layers_of(run: &LayerRun) -> String {
    let mixer = run.layer.mixer;
    let span = mixer.span().map(|span| format!(", {span}")).unwrap_or_default();
    let state = Some(mixer.state_elements_per_sequence()).filter(|state| *state > 0).map(|state| format!(", {} state elements per sequence", grouped(state)));
    let cached = grouped(mixer.cache_elements_per_token());
    format!("  {:>4} × {mixer}{span}, {}: {cached} cache elements per token{}", run.count, run.layer.feed_forward, state.unwrap_or_default())
}

/// The most lines that a turn has.
const LONGEST_TURN: usize = 12;

/// Lines that come again and again in the same order, once each with how often; of all turns the one that takes in the most lines.
fn turns<T: PartialEq>(mut lines: &[T]) -> Vec<(usize, &[T])> {
    let mut found = Vec::new();
    while !lines.is_empty() {
        let often = |length: usize| lines.chunks_exact(length).take_while(|turn| *turn == &lines[..length]).count();
        let repeated = (2..=LONGEST_TURN.min(lines.len() / 2)).map(|length| (often(length), length)).filter(|(times, _)| *times > 1);
        let (times, length) = repeated.max_by_key(|(times, length)| (times * length, *times)).unwrap_or((1, 1));
        found.push((times, &lines[..length]));
        lines = &lines[times * length..];
    }
    found
}

/// What the decoder keeps: per token by how far back its layers see, at two bytes an element, and per sequence.
fn keeps(model: &Model) -> Result<(), Overflow> {
    println!();
    for (kind, elements) in report::cached_by_span(model.decoder()) {
        println!("a token leaves {} cached elements ({kind}): {} bytes at 16 bits", grouped(elements), grouped(elements.saturating_mul(2)));
    }
    if let Some(states) = report::states(&model.anatomy)? {
        println!("a sequence keeps {}", states.sentence());
    }
    Ok(())
}

/// The answer to `solve --for context`.
pub fn solved(model: &Model, question: Question, found: Largest, notes: &[String]) {
    let is_one = found == Largest::Count(1);
    let what = match question {
        Question::Context if is_one => "token per sequence fits",
        Question::Context => "tokens per sequence fit",
        Question::MicroBatch if is_one => "sample in one forward pass fits",
        Question::MicroBatch => "samples in one forward pass fit",
        Question::LoraRank => "is the highest rank that fits",
        Question::Gpus if is_one => "GPU is enough",
        Question::Gpus => "GPUs are the fewest that fit",
        Question::Sharding => "is the least sharding that fits",
    };
    match found {
        Largest::Nothing if question == Question::Gpus => println!("{BOLD}No number{BOLD:#} of GPUs that was tried fits"),
        Largest::Nothing if question == Question::Sharding => println!("{BOLD}Not even zero3{BOLD:#} fits"),
        Largest::Nothing => println!("{BOLD}Not even 1{BOLD:#} fits"),
        Largest::Count(count) => println!("{BOLD}{}{BOLD:#} {what}", grouped(count)),
        Largest::Sharding(stage) => println!("{BOLD}{stage}{BOLD:#} {what}"),
        Largest::Unlimited => println!("{BOLD}Any number{BOLD:#} fits"),
    }
    if let (Question::Context, Some(max)) = (question, model.anatomy.max_context) {
        println!("the model's maximum is {}", grouped(max));
    }
    for sentence in notes {
        println!("note: {sentence}");
    }
}

/// Every GPU.
pub fn gpus() {
    println!("{BOLD}{:<36}{:<22}{:>12}{:>12}{:>10}{BOLD:#}", "Name", "Architecture", "driver MiB", "usable MiB", "GB/s");
    for gpu in vramfit::gpu::all() {
        let figure = |value: Option<u64>| value.map_or_else(|| "–".to_owned(), |value| value.to_string());
        let bandwidth = gpu.bandwidth_gb_s.map_or_else(|| "–".to_owned(), |value| value.to_string());
        println!("{:<36}{:<22}{:>12}{:>12}{bandwidth:>10}", gpu.name, gpu.architecture, figure(gpu.driver_mib), figure(gpu.process_mib));
    }
}

/// Every format: of weights, then of the values that they consist of. What one shares with the one before is not said again.
pub fn formats() {
    println!("{BOLD}{:<16}{:>10}  What it stores{BOLD:#}", "--weights", "bits");
    let mut before = Default::default();
    for format in Weights::all() {
        let number = if format.number().is_some() { "N" } else { "" };
        println!("{:<16}{:>10}  {}", format!("{}{number}", format.stem()), format.bits_per_weight().unwrap_or_default(), format.layout());
        let shared = (format.takes(), format.source());
        if let ((takes, leaves), Some(source)) = &shared
            && shared != before
        {
            println!("{:<28}takes {takes}; leaves {leaves}", "");
            println!("{:<28}{DIM}{source}{DIM:#}", "");
        }
        before = shared;
    }
    println!();
    println!("{BOLD}{:<14}{:<20}{:<12}{:>8}{:>8}{:>10}{BOLD:#}", "Values", "config.json", "flag", "block", "bytes", "bits");
    for encoding in Encoding::all() {
        let (config_name, flag) = (encoding.config_name.unwrap_or("–"), encoding.flag.unwrap_or("–"));
        let (elements, bytes) = (encoding.block_elements, encoding.block_bytes);
        println!("{:<14}{config_name:<20}{flag:<12}{elements:>8}{bytes:>8}{:>10}", encoding.name, encoding.bits());
    }
}

fn name(model: &Model) -> &str {
    let nameless = if model.provenance.source == Origin::Manual { "(by hand)" } else { "(a config)" };
    model.provenance.id.as_deref().unwrap_or(nameless)
}

/// `7.24 B parameters · 32 layers · GQA 32/8 × 128 · 2 files`
fn facts(model: &Model) -> Result<String, Overflow> {
    let decoder = model.decoder();
    let mixer = decoder.layers.first().map(|run| format!(" · {}", run.layer.mixer)).unwrap_or_default();
    let files = match model.provenance.files.as_ref().map(|files| files.count) {
        None => String::new(),
        Some(1) => " · header of 1 file".to_owned(),
        Some(count) => format!(" · headers of {count} files"),
    };
    Ok(format!("{} parameters · {} layers{mixer}{files}", parameters(model.anatomy.parameters()?), decoder.layer_count()))
}

fn tokens(longest: LongestContext) -> String {
    match longest {
        LongestContext::Nothing => "none".to_owned(),
        LongestContext::Tokens(tokens) => grouped(tokens),
        LongestContext::Unlimited => "any".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::turns;

    #[test]
    fn layers_in_turns_are_said_once() {
        assert_eq!(turns(b"abababab"), [(4, &b"ab"[..])]);
        assert_eq!(turns(b"abc"), [(1, &b"a"[..]), (1, b"b"), (1, b"c")]);
        assert_eq!(turns(b"xabcabcab"), [(1, &b"x"[..]), (2, b"abc"), (1, b"a"), (1, b"b")]);
        assert_eq!(turns(b"ababcababc"), [(2, &b"ababc"[..])]);
        assert!(turns::<u8>(&[]).is_empty());
    }
}
