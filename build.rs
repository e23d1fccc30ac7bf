//! Checks `assets/gpus.csv` and turns it into the compact text that `src/gpu` reads: a line per row, cells between bars. A wrong
//! cell stops the build with a sentence that names its row and column. The page, compiled to WebAssembly, does without the
//! cells that it does not show; neither does it get where the models of `assets/models/catalogue.jsonl` are from.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use csv::StringRecord;

/// The table, from the root of the package.
const TABLE: &str = "assets/gpus.csv";

/// Its columns, in order.
const COLUMNS: [&str; 18] = [
    "name",
    "vendor",
    "architecture",
    "compute_capability",
    "sm_count",
    "memory_type",
    "marketing_gb",
    "smi_total_mib",
    "smi_evidence",
    "api_total_mib",
    "api_evidence",
    "bandwidth_gb_s",
    "bf16_dense_tflops",
    "fp8_dense_tflops",
    "fp4_dense_tflops",
    "interconnect",
    "notes",
    "source",
];

/// Who makes GPUs; `enum Vendor` knows them by these names.
const VENDORS: [&str; 5] = ["NVIDIA", "AMD", "Apple", "Intel", "Google"];

/// Letters that `enum Evidence` is known by.
const EVIDENCE: [&str; 3] = ["S", "R", "D"];

/// The built-in models, from the root of the package.
const MODELS: &str = "assets/models/catalogue.jsonl";

/// Between two cells.
const BAR: char = '|';

/// Past any real card, small enough that bytes stay far inside 64 bits.
const MAX_WHOLE: u64 = 1 << 24;

/// Hundredths up to here are exact in 32-bit floats.
const MAX_HUNDREDTHS: u64 = 1 << 24;

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed={TABLE}");
    println!("cargo::rerun-if-changed={MODELS}");
    println!("cargo::rerun-if-changed=build.rs");
    match generate() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("cargo::error={}", message.replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

fn generate() -> Result<(), String> {
    let folder = std::env::var_os("OUT_DIR").ok_or("cargo did not say where generated files go (OUT_DIR)")?;
    let is_page = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "unknown");
    for (name, text) in [("gpus.txt", table(is_page)?), ("catalogue.jsonl", models(is_page)?)] {
        let path = Path::new(&folder).join(name);
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// The built-in models, a line each.
fn models(is_page: bool) -> Result<String, String> {
    let all = std::fs::read_to_string(MODELS).map_err(|error| format!("{MODELS}: {error}"))?;
    let mut out = String::new();
    for line in all.lines() {
        let parts = line.split_once(",\"date\":").and_then(|(id, rest)| Some((id, rest.split_once(",\"config\":")?.1)));
        let (id, config) = parts.ok_or_else(|| format!("{MODELS}: a line without `date` and `config` after it: {line}"))?;
        let line = if is_page { format!("{id},\"config\":{config}") } else { line.to_owned() };
        out.push_str(&line);
        out.push('\n');
    }
    Ok(out)
}

/// The whole table.
fn table(is_page: bool) -> Result<String, String> {
    let mut reader = csv::Reader::from_path(TABLE).map_err(|error| format!("{TABLE}: {error}"))?;
    let header = reader.headers().map_err(|error| format!("{TABLE}: {error}"))?;
    if !header.iter().eq(COLUMNS) {
        return Err(format!("{TABLE}, line 1: the columns must be {}", COLUMNS.join(",")));
    }
    let mut out = String::new();
    let mut seen = HashMap::new();
    for record in reader.records() {
        let record = record.map_err(|error| format!("{TABLE}: {error}"))?;
        let row = Row(&record);
        if let Some(line) = seen.insert(row.name()?.to_ascii_lowercase(), row.line()) {
            return Err(row.wrong("name", &format!("the name stands in line {line} already (case does not count)")));
        }
        row.write(&mut out, is_page)?;
    }
    if seen.is_empty() {
        return Err(format!("{TABLE}: there is no GPU in it"));
    }
    Ok(out)
}

/// One line of the table.
struct Row<'a>(&'a StringRecord);

impl Row<'_> {
    fn line(&self) -> u64 {
        self.0.position().map_or(0, csv::Position::line)
    }

    fn cell(&self, column: &str) -> &str {
        let index = COLUMNS.iter().position(|name| *name == column);
        index.and_then(|index| self.0.get(index)).unwrap_or_default().trim()
    }

    fn wrong(&self, column: &str, why: &str) -> String {
        format!("{TABLE}, line {} (`{}`), column `{column}`: `{}`: {why}", self.line(), self.cell("name"), self.cell(column))
    }

    fn text(&self, column: &str) -> Result<&str, String> {
        match self.cell(column) {
            "" => Err(self.wrong(column, "it must not be empty")),
            text => Ok(text),
        }
    }

    /// A text that may be missing, which a dash says too.
    fn optional_text(&self, column: &str) -> &str {
        match self.cell(column) {
            "-" => "",
            text => text,
        }
    }

    fn name(&self) -> Result<&str, String> {
        let name = self.text("name")?;
        // Several names are joined by commas.
        let is_plain = name.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b',');
        if is_plain { Ok(name) } else { Err(self.wrong("name", "it must be plain ASCII without a comma")) }
    }

    fn whole(&self, column: &str) -> Result<Option<u64>, String> {
        match self.cell(column) {
            "" => Ok(None),
            cell => match cell.parse() {
                Ok(number) if (1..=MAX_WHOLE).contains(&number) => Ok(Some(number)),
                _ => Err(self.wrong(column, &format!("it must be a whole number from 1 to {MAX_WHOLE}, or empty"))),
            },
        }
    }

    /// A decimal with up to two places, in hundredths.
    fn hundredths(&self, column: &str) -> Result<Option<u64>, String> {
        let cell = self.cell(column);
        if cell.is_empty() {
            return Ok(None);
        }
        let (whole, places) = cell.split_once('.').unwrap_or((cell, ""));
        let number = if places.len() <= 2 { format!("{whole}{places:0<2}").parse() } else { return Err(self.wrong(column, "it may have two decimals")) };
        match number {
            Ok(number) if (1..=MAX_HUNDREDTHS).contains(&number) => Ok(Some(number)),
            _ => Err(self.wrong(column, "it must be a number above 0, or empty")),
        }
    }

    fn one_of<'a>(&'a self, column: &str, known: &[&str]) -> Result<&'a str, String> {
        let cell = self.cell(column);
        if known.contains(&cell) { Ok(cell) } else { Err(self.wrong(column, &format!("it must be one of {}", known.join(", ")))) }
    }

    /// A memory figure with its evidence: both or neither.
    fn figure(&self, column: &str, evidence: &str) -> Result<(Option<u64>, &str), String> {
        match (self.whole(column)?, self.cell(evidence)) {
            (None, "") => Ok((None, "")),
            (None, _) => Err(self.wrong(evidence, &format!("there is no figure in `{column}` that it could be the evidence of"))),
            (figure, _) => Ok((figure, self.one_of(evidence, &EVIDENCE)?)),
        }
    }

    /// Appends the row: its cells in the order of the columns, decimals in hundredths.
    fn write(&self, out: &mut String, is_page: bool) -> Result<(), String> {
        let vendor = self.one_of("vendor", &VENDORS)?;
        let sm_count = self.whole("sm_count")?;
        if sm_count.is_some() && vendor != "NVIDIA" {
            return Err(self.wrong("sm_count", "only NVIDIA counts streaming multiprocessors: it must be empty"));
        }
        let marketing_gb = self.whole("marketing_gb")?.ok_or_else(|| self.wrong("marketing_gb", "it must not be empty"))?;
        let (driver_mib, driver_evidence) = self.figure("smi_total_mib", "smi_evidence")?;
        let (process_mib, process_evidence) = self.figure("api_total_mib", "api_evidence")?;
        if process_mib.zip(driver_mib).is_some_and(|(process, driver)| process > driver) {
            return Err(self.wrong("api_total_mib", "a process cannot get more than the driver has (`smi_total_mib`)"));
        }
        let number = |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string());
        let mut cells = vec![
            self.name()?.to_owned(),
            vendor.to_owned(),
            self.text("architecture")?.to_owned(),
            number(sm_count),
            self.text("memory_type")?.to_owned(),
            marketing_gb.to_string(),
            number(driver_mib),
            driver_evidence.to_owned(),
            number(process_mib),
            process_evidence.to_owned(),
            number(self.hundredths("bandwidth_gb_s")?),
        ];
        let others = [
            self.optional_text("compute_capability").to_owned(),
            number(self.hundredths("bf16_dense_tflops")?),
            number(self.hundredths("fp8_dense_tflops")?),
            number(self.hundredths("fp4_dense_tflops")?),
            self.optional_text("interconnect").to_owned(),
            self.optional_text("notes").to_owned(),
            self.text("source")?.to_owned(),
        ];
        if !is_page {
            cells.extend(others);
        }
        if cells.iter().any(|cell| cell.contains([BAR, '\n'])) {
            return Err(self.wrong("name", "no cell of the row may have a bar or a line break in it"));
        }
        writeln!(out, "{}", cells.join("|")).map_err(|error| error.to_string())
    }
}
