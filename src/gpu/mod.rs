//! What a GPU has: memory as its driver and its programs see it, bandwidth, architecture, each figure with its source.
//!
//! The table is `assets/gpus.csv`, checked and made compact by `build.rs`; its columns are the fields of [`Gpu`]. Compiled to
//! WebAssembly, the fields that the page does not show are empty: `compute_capability`, the TFLOPS, `interconnect`, `notes`, `source`.
//! [`Card`] is what an estimate works with: a row, or a size that the user gave.

use std::sync::LazyLock;

mod card;
mod name;

pub use card::Card;
pub use name::{named, unsaid_size};

use crate::order::sort_short;

/// A row of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Gpu {
    /// Its name, unique without regard to case: `GeForce RTX 4090`.
    pub name: &'static str,
    /// Who makes it.
    pub vendor: Vendor,
    /// `Ada`, `Hopper`, `CDNA3`.
    pub architecture: &'static str,
    /// NVIDIA's compute capability (`8.9`) or AMD's target (`gfx942`); empty for the rest.
    pub compute_capability: &'static str,
    /// Streaming multiprocessors of an NVIDIA card, by the vendor's whitepapers, where that is certain.
    pub sm_count: Option<u64>,
    /// `GDDR6X`, `HBM3`; ends in `unified` when it is shared with the operating system.
    pub memory_type: &'static str,
    /// The size that it is sold by.
    pub marketing_gb: u64,
    /// What the driver reports in MiB (`nvidia-smi`).
    pub driver_mib: Option<u64>,
    /// How that is known.
    pub driver_evidence: Option<Evidence>,
    /// What a process sees as the total in MiB (`cudaMemGetInfo`, torch, HIP): what engines multiply by their fraction.
    pub process_mib: Option<u64>,
    /// How that is known.
    pub process_evidence: Option<Evidence>,
    /// Memory bandwidth in GB/s.
    pub bandwidth_gb_s: Option<f32>,
    /// Dense TFLOPS in bf16 (Turing and Volta: fp16; Apple: fp32).
    pub bf16_tflops: Option<f32>,
    /// Dense TFLOPS in fp8.
    pub fp8_tflops: Option<f32>,
    /// Dense TFLOPS in fp4.
    pub fp4_tflops: Option<f32>,
    /// The links to other devices; empty where there is none or none is known.
    pub interconnect: &'static str,
    /// What else is worth knowing.
    pub notes: &'static str,
    /// Where the figures are from.
    pub source: &'static str,
}

/// Who makes a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// NVIDIA.
    Nvidia,
    /// AMD.
    Amd,
    /// Apple.
    Apple,
    /// Intel.
    Intel,
    /// Google.
    Google,
}

impl Vendor {
    /// The vendor in the table.
    fn of_name(name: &str) -> Self {
        let others = [Self::Amd, Self::Apple, Self::Intel, Self::Google];
        others.into_iter().find(|vendor| vendor.name() == name).unwrap_or(Self::Nvidia)
    }

    /// The name as the vendor writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nvidia => "NVIDIA",
            Self::Amd => "AMD",
            Self::Apple => "Apple",
            Self::Intel => "Intel",
            Self::Google => "Google",
        }
    }
}

/// How a memory figure is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Seen in a public log.
    Seen,
    /// Recalled from common logs, not checked again.
    Recalled,
    /// Derived from a sibling or from a documented rule.
    Derived,
}

impl Evidence {
    /// The evidence in the table.
    fn of_letter(letter: &str) -> Option<Self> {
        match letter {
            "S" => Some(Self::Seen),
            "R" => Some(Self::Recalled),
            "D" => Some(Self::Derived),
            _ => None,
        }
    }

    /// The evidence in words: `seen in a public log`.
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::Seen => "seen in a public log",
            Self::Recalled => "recalled from common logs",
            Self::Derived => "derived",
        }
    }
}

impl Gpu {
    /// Reads a line as build.rs writes it.
    fn of_line(line: &'static str) -> Self {
        let mut cells = line.split('|');
        let mut text = || cells.next().unwrap_or_default();
        // In the order in which they are written.
        Self {
            name: text(),
            vendor: Vendor::of_name(text()),
            architecture: text(),
            sm_count: number(text()),
            memory_type: text(),
            marketing_gb: number(text()).unwrap_or_default(),
            driver_mib: number(text()),
            driver_evidence: Evidence::of_letter(text()),
            process_mib: number(text()),
            process_evidence: Evidence::of_letter(text()),
            bandwidth_gb_s: hundredths(text()),
            compute_capability: text(),
            bf16_tflops: hundredths(text()),
            fp8_tflops: hundredths(text()),
            fp4_tflops: hundredths(text()),
            interconnect: text(),
            notes: text(),
            source: text(),
        }
    }

    /// True when the memory is shared with the operating system.
    pub fn is_unified(&self) -> bool {
        self.memory_type.ends_with("unified")
    }
}

/// A cell with a whole number.
fn number(cell: &str) -> Option<u64> {
    cell.parse().ok()
}

/// A cell in hundredths, below 2^24: the float that is nearest to the decimal.
fn hundredths(cell: &str) -> Option<f32> {
    let hundredths: u32 = cell.parse().ok()?;
    #[allow(clippy::cast_precision_loss)] // exact below 2^24
    Some(hundredths as f32 / 100.0)
}

/// No GPU, or more than one, goes by a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// Several names have the text in them.
    #[error("`{input}` is part of several GPU names: {}; write more of the one you mean", .candidates.join(", "))]
    Ambiguous {
        /// What was asked for, shortened.
        input: String,
        /// The first names that have it in them.
        candidates: Vec<&'static str>,
    },
    /// The text names a maker that the card is not from.
    #[error("`{input}`: the table has {gpu} by {}, and none of that name by another maker; correct the name, or give the card's memory instead (--gpu-capacity-bytes)", .vendor.name())]
    OtherVendor {
        /// What was asked for, shortened.
        input: String,
        /// The card that its other words name; the first of several.
        gpu: &'static str,
        /// Who makes that.
        vendor: Vendor,
    },
    /// No name has the text in it.
    #[error("no GPU is called `{input}`{}", meant(.nearest))]
    Unknown {
        /// What was asked for, shortened.
        input: String,
        /// The nearest names, best first; none when nothing is near.
        nearest: Vec<&'static str>,
    },
}

/// The end of the sentence about an unknown name.
fn meant(nearest: &[&'static str]) -> String {
    match nearest {
        [] => "; see the list of GPUs, or give the usable memory in bytes instead".to_owned(),
        names => format!("; did you mean {}?", names.join(" or ")),
    }
}

/// Made by build.rs from assets/gpus.csv, read when it is first asked for.
static GPUS: LazyLock<Vec<Gpu>> = LazyLock::new(|| include_str!(concat!(env!("OUT_DIR"), "/gpus.txt")).lines().map(Gpu::of_line).collect());

/// Most candidates that an error names.
const MAX_CANDIDATES: usize = 8;
/// Most near names that an error suggests.
const MAX_NEAREST: usize = 3;
/// Longest input that near names are looked for; every name is shorter.
const MAX_INPUT: usize = 64;

/// Every GPU that is known, in the table's order.
pub fn all() -> &'static [Gpu] {
    &GPUS
}

/// The GPU that the table has by just this name, without regard to case.
pub fn exact(name: &str) -> Option<&'static Gpu> {
    all().iter().find(|gpu| gpu.name.eq_ignore_ascii_case(name))
}

/// The GPU with this name, without regard to case, the vendor's before it or not; else the only one whose name has these words in it,
/// in this order; else the one among those that ends with them while the others go on from it: `RTX 4090` is no `GeForce RTX 4090 D`.
///
/// # Errors
/// [`GpuError`] names the candidates, or the nearest names.
///
/// ```
/// use vramfit::gpu::find;
/// assert_eq!(find("NVIDIA GeForce RTX 4090").unwrap().name, "GeForce RTX 4090");
/// assert_eq!(find("rtx 4090").unwrap().name, "GeForce RTX 4090");
/// assert_eq!(find("h100 sxm").unwrap().name, "H100 SXM5 80GB");
/// assert!(find("H100").is_err());
/// ```
pub fn find(name: &str) -> Result<&'static Gpu, GpuError> {
    let wanted = name.trim().to_ascii_lowercase();
    let (mut found, mut ending): (Vec<&'static Gpu>, _) = (Vec::new(), None);
    for gpu in all() {
        let full = [gpu.vendor.name(), " ", gpu.name].concat().to_ascii_lowercase();
        if full == wanted || gpu.name.eq_ignore_ascii_case(&wanted) {
            return Ok(gpu);
        }
        if let Some(rest) = wanted.split_whitespace().try_fold(full.as_str(), after) {
            found.push(gpu);
            ending = ending.or(rest.is_empty().then_some(gpu));
        }
    }
    let input = shortened(name.trim());
    match (found.as_slice(), ending) {
        _ if wanted.is_empty() => Err(GpuError::Unknown { input, nearest: Vec::new() }),
        ([], _) => Err(GpuError::Unknown { input, nearest: nearest(&wanted) }),
        ([gpu], _) => Ok(*gpu),
        (several, Some(gpu)) if several.iter().all(|other| other.name.starts_with(gpu.name)) => Ok(gpu),
        (several, _) => Err(GpuError::Ambiguous { input, candidates: several.iter().take(MAX_CANDIDATES).map(|gpu| gpu.name).collect() }),
    }
}

/// What comes after a word in a text; a number is no part of a longer one: `RTX 500` is not in `RTX 5000`.
fn after<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let is_digit = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
    let is_cut = |at: usize| is_digit(at.wrapping_sub(1)) && is_digit(at);
    let (at, _) = text.match_indices(word).find(|(at, _)| !is_cut(*at) && !is_cut(at + word.len()))?;
    text.get(at + word.len()..)
}

fn shortened(input: &str) -> String {
    match input.char_indices().nth(MAX_INPUT) {
        Some((at, _)) => format!("{}…", &input[..at]),
        None => input.to_owned(),
    }
}

/// The names that have something near `wanted` (lower case) in them: at most half of it differs.
fn nearest(wanted: &str) -> Vec<&'static str> {
    if wanted.is_empty() || wanted.len() > MAX_INPUT {
        return Vec::new();
    }
    let mut ranked: Vec<_> = all()
        .iter()
        .map(|gpu| (part_distance(wanted.as_bytes(), gpu.name.to_ascii_lowercase().as_bytes()), gpu.name))
        .filter(|(distance, _)| distance * 2 <= wanted.len())
        .collect();
    sort_short(&mut ranked, |&(distance, name)| (distance, name.len()));
    ranked.into_iter().take(MAX_NEAREST).map(|(_, name)| name).collect()
}

/// The fewest insertions, deletions and replacements that turn `wanted` into some part of `text`.
fn part_distance(wanted: &[u8], text: &[u8]) -> usize {
    // Row i: the distance of the first i bytes of `wanted` to the best part of `text` that ends here.
    let mut column: Vec<usize> = (0..=wanted.len()).collect();
    let mut best = wanted.len();
    for &byte in text {
        let mut diagonal = 0;
        for (row, &letter) in wanted.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != byte);
            diagonal = column[row + 1];
            column[row + 1] = replaced.min(diagonal + 1).min(column[row] + 1);
        }
        best = best.min(column[wanted.len()]);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_table_is_large_and_its_names_are_unique() {
        assert!(all().len() >= 150, "{}", all().len());
        let names: HashSet<_> = all().iter().map(|gpu| gpu.name.to_ascii_lowercase()).collect();
        assert_eq!(names.len(), all().len());
        for vendor in [Vendor::Nvidia, Vendor::Amd, Vendor::Apple, Vendor::Intel, Vendor::Google] {
            assert!(all().iter().any(|gpu| gpu.vendor == vendor), "{}", vendor.name());
        }
    }

    #[test]
    fn the_figures_are_possible() {
        for gpu in all() {
            assert!(!gpu.source.is_empty() && gpu.name.len() <= MAX_INPUT, "{}", gpu.name);
            assert_eq!(gpu.driver_mib.is_some(), gpu.driver_evidence.is_some(), "{}", gpu.name);
            assert_eq!(gpu.process_mib.is_some(), gpu.process_evidence.is_some(), "{}", gpu.name);
            for mib in [gpu.driver_mib, gpu.process_mib].into_iter().flatten() {
                let marketing = gpu.marketing_gb * 1024;
                assert!(mib <= marketing * 102 / 100 && mib >= marketing * 3 / 4, "{}: {mib} MiB", gpu.name);
            }
            assert!(gpu.bandwidth_gb_s.is_some_and(|bandwidth| (50.0..10_000.0).contains(&bandwidth)), "{}", gpu.name);
            if let (Some(fp8), Some(bf16)) = (gpu.fp8_tflops, gpu.bf16_tflops) {
                assert!(fp8 >= bf16, "{}", gpu.name);
            }
        }
    }

    #[test]
    fn an_exact_name_wins_then_a_part_that_occurs_once() {
        assert_eq!(find("GeForce RTX 4090").unwrap().name, "GeForce RTX 4090");
        assert_eq!(find(" geforce rtx 3090 TI ").unwrap().name, "GeForce RTX 3090 Ti");
        assert_eq!(find("a10").unwrap().name, "A10");
        assert_eq!(find("MI300X").unwrap().name, "Instinct MI300X");
        assert_eq!(find("l40s").unwrap().name, "L40S");
        for gpu in all() {
            assert_eq!(find(gpu.name).map(|found| found.name), Ok(gpu.name));
        }
    }

    #[test]
    fn the_plain_card_wins_over_its_variants() {
        for (wanted, name) in [
            ("RTX 4090", "GeForce RTX 4090"),
            ("4090", "GeForce RTX 4090"),
            ("NVIDIA RTX 4090", "GeForce RTX 4090"),
            ("GeForce 4070", "GeForce RTX 4070"),
            ("4070 ti", "GeForce RTX 4070 Ti"),
            ("RTX 4090 D", "GeForce RTX 4090 D"),
            ("AMD Radeon RX 7900 XT", "Radeon RX 7900 XT"),
            ("7900 xt", "Radeon RX 7900 XT"),
            ("AMD MI300X", "Instinct MI300X"),
            ("NVIDIA A10", "A10"),
            ("NVIDIA A40", "A40"),
            ("Apple M4", "M4"),
        ] {
            assert_eq!(find(wanted).map(|found| found.name), Ok(name), "{wanted}");
        }
        for gpu in all() {
            assert_eq!(find(&format!("{} {}", gpu.vendor.name(), gpu.name)).map(|found| found.name), Ok(gpu.name));
        }
    }

    #[test]
    fn a_number_is_not_completed() {
        // Each of them is a card of its own that the table has not, or a slip.
        for wanted in ["RTX 500 Ada", "RTX 400 Ada", "RTX 200 Ada", "Tesla P4", "MI25", "Quadro RTX 600", "RTX 090", "50X"] {
            assert!(matches!(find(wanted), Err(GpuError::Unknown { .. })), "{wanted}: {:?}", find(wanted));
        }
        // Letters may go on, and the number may come later in the name.
        assert_eq!(find("h100 sxm").map(|found| found.name), Ok("H100 SXM5 80GB"));
        assert_eq!(after("h800 80gb", "80"), Some("gb"));
        assert_eq!((after("rtx 4090", "40"), after("rtx 4090", "90")), (None, None));
    }

    #[test]
    fn errors_name_the_candidates() {
        let Err(GpuError::Ambiguous { candidates, .. }) = find("RTX 3080") else { panic!("there are two of them") };
        assert_eq!(candidates, ["GeForce RTX 3080 10GB", "GeForce RTX 3080 12GB", "GeForce RTX 3080 Ti", "GeForce RTX 3080 Laptop 16GB"]);
        // One name ends with it, but the others are no variants of that one.
        let Err(GpuError::Ambiguous { candidates, .. }) = find("RTX 6000") else { panic!("three generations are called so") };
        assert!(["Quadro RTX 6000", "RTX 6000 Ada"].iter().all(|name| candidates.contains(name)), "{candidates:?}");
        assert!(matches!(find("RTX"), Err(GpuError::Ambiguous { candidates, .. }) if candidates.len() == MAX_CANDIDATES));
        for (wanted, first) in [("RTX4090", "GeForce RTX 4090"), ("H100 SMX5", "H100 SXM5 80GB")] {
            let Err(error @ GpuError::Unknown { .. }) = find(wanted) else { panic!("{wanted} is not a name") };
            let GpuError::Unknown { nearest, .. } = &error else { continue };
            assert_eq!(nearest.first(), Some(&first), "{wanted}");
            assert!(error.to_string().contains(first), "{error}");
        }
        for nothing in ["", "  ", "zzzzqqqq", "é", &"x".repeat(10_000)] {
            let Err(error) = find(nothing) else { panic!("{nothing} is not a name") };
            assert!(matches!(&error, GpuError::Unknown { nearest, .. } if nearest.is_empty()) && error.to_string().len() < 300, "{error}");
        }
    }

    #[test]
    fn distances_are_to_the_nearest_part() {
        for (wanted, text, distance) in [("4090", "rtx 4090 d", 0), ("rtx4090", "rtx 4090 d", 1), ("abc", "", 3), ("", "abc", 0), ("h200", "h100", 1)] {
            assert_eq!(part_distance(wanted.as_bytes(), text.as_bytes()), distance, "{wanted} in {text}");
        }
    }
}
