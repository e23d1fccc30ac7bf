//! Turns `assets/gpus.csv` into a table of constants. The file is checked on the way: a wrong cell stops the build with a
//! sentence that names its row and column.

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

/// Names in the table and in `enum Vendor`.
const VENDORS: [(&str, &str); 5] = [("NVIDIA", "Nvidia"), ("AMD", "Amd"), ("Apple", "Apple"), ("Intel", "Intel"), ("Google", "Google")];

/// Letters in the table and names in `enum Evidence`.
const EVIDENCE: [(&str, &str); 3] = [("S", "Seen"), ("R", "Recalled"), ("D", "Derived")];

/// Past any real card, small enough that bytes stay far inside 64 bits.
const MAX_WHOLE: u64 = 1 << 24;

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed={TABLE}");
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
    let path = Path::new(&folder).join("gpus.rs");
    std::fs::write(&path, table()?).map_err(|error| format!("{}: {error}", path.display()))
}

/// The Rust expression for the whole table.
fn table() -> Result<String, String> {
    let mut reader = csv::Reader::from_path(TABLE).map_err(|error| format!("{TABLE}: {error}"))?;
    let header = reader.headers().map_err(|error| format!("{TABLE}: {error}"))?;
    if !header.iter().eq(COLUMNS) {
        return Err(format!("{TABLE}, line 1: the columns must be {}", COLUMNS.join(",")));
    }
    let mut out = String::from("&[\n");
    let mut seen = HashMap::new();
    for record in reader.records() {
        let record = record.map_err(|error| format!("{TABLE}: {error}"))?;
        let row = Row(&record);
        if let Some(line) = seen.insert(row.name()?.to_ascii_lowercase(), row.line()) {
            return Err(row.wrong("name", &format!("the name stands in line {line} already (case does not count)")));
        }
        row.write(&mut out)?;
    }
    if seen.is_empty() {
        return Err(format!("{TABLE}: there is no GPU in it"));
    }
    out.push(']');
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
        if name.bytes().all(|byte| (b' '..=b'~').contains(&byte)) { Ok(name) } else { Err(self.wrong("name", "it must be plain ASCII")) }
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

    fn decimal(&self, column: &str) -> Result<Option<f32>, String> {
        match self.cell(column) {
            "" => Ok(None),
            cell => match cell.parse::<f32>() {
                Ok(number) if number.is_finite() && number > 0.0 => Ok(Some(number)),
                _ => Err(self.wrong(column, "it must be a number above 0, or empty")),
            },
        }
    }

    /// The Rust name that stands for the cell's text.
    fn one_of(&self, column: &str, known: &[(&str, &'static str)]) -> Result<&'static str, String> {
        let cell = self.cell(column);
        known.iter().find(|(text, _)| *text == cell).map(|(_, name)| *name).ok_or_else(|| {
            let texts: Vec<_> = known.iter().map(|(text, _)| *text).collect();
            self.wrong(column, &format!("it must be one of {}", texts.join(", ")))
        })
    }

    /// A memory figure with its evidence as Rust expressions: both or neither.
    fn figure(&self, column: &str, evidence: &str) -> Result<(Option<u64>, String), String> {
        match (self.whole(column)?, self.cell(evidence)) {
            (None, "") => Ok((None, "None".to_owned())),
            (None, _) => Err(self.wrong(evidence, &format!("there is no figure in `{column}` that it could be the evidence of"))),
            (figure, _) => Ok((figure, format!("Some(Evidence::{})", self.one_of(evidence, &EVIDENCE)?))),
        }
    }

    /// Appends the row as a Rust expression.
    fn write(&self, out: &mut String) -> Result<(), String> {
        let vendor = self.one_of("vendor", &VENDORS)?;
        let sm_count = self.whole("sm_count")?;
        if sm_count.is_some() && vendor != "Nvidia" {
            return Err(self.wrong("sm_count", "only NVIDIA counts streaming multiprocessors: it must be empty"));
        }
        let marketing_gb = self.whole("marketing_gb")?.ok_or_else(|| self.wrong("marketing_gb", "it must not be empty"))?;
        let (driver_mib, driver_evidence) = self.figure("smi_total_mib", "smi_evidence")?;
        let (process_mib, process_evidence) = self.figure("api_total_mib", "api_evidence")?;
        if process_mib.zip(driver_mib).is_some_and(|(process, driver)| process > driver) {
            return Err(self.wrong("api_total_mib", "a process cannot get more than the driver has (`smi_total_mib`)"));
        }
        writeln!(
            out,
            "Gpu {{ name: {:?}, vendor: Vendor::{vendor}, architecture: {:?}, compute_capability: {:?}, sm_count: {sm_count:?}, memory_type: {:?}, \
             marketing_gb: {marketing_gb}, driver_mib: {driver_mib:?}, driver_evidence: {driver_evidence}, process_mib: {process_mib:?}, \
             process_evidence: {process_evidence}, bandwidth_gb_s: {:?}, bf16_tflops: {:?}, fp8_tflops: {:?}, fp4_tflops: {:?}, interconnect: {:?}, \
             notes: {:?}, source: {:?} }},",
            self.name()?,
            self.text("architecture")?,
            self.optional_text("compute_capability"),
            self.text("memory_type")?,
            self.decimal("bandwidth_gb_s")?,
            self.decimal("bf16_dense_tflops")?,
            self.decimal("fp8_dense_tflops")?,
            self.decimal("fp4_dense_tflops")?,
            self.optional_text("interconnect"),
            self.optional_text("notes"),
            self.text("source")?,
        )
        .map_err(|error| error.to_string())
    }
}
