//! GPUs by the names that drivers print and people type: `NVIDIA A100-SXM4-80GB`, `RTX4090`, `Tesla T4`.
//!
//! [`super::find`] takes the table's names and parts of them. Where it finds nothing, this goes on by words: those that say nothing
//! fall away, words that are run together are taken apart, order does not matter, and a name without a word of a variant is the
//! plain card's.

use std::collections::HashSet;

use super::{Gpu, GpuError, MAX_CANDIDATES, MAX_INPUT, Vendor, all, find, nearest, shortened};

/// What `nvidia-smi`, `rocm-smi`, `hl-smi` and operating systems call a card where its words are not those of the table: seen in
/// public logs. Cards that differ in the plug alone, with the same chip and memory, are one row.
const CALLED: &[(&str, &str)] = &[
    ("H100 80GB HBM3", "H100 SXM5 80GB"),
    ("H100 80GB HBM2e", "H100 PCIe 80GB"),
    ("H200", "H200 SXM"),
    ("GH200 480GB", "GH200 96GB"), // 480 GB are the processor's
    ("V100 PCIE 32GB", "V100 SXM2 32GB"),
    ("P100 SXM2 16GB", "Tesla P100 PCIe 16GB"),
    ("RTX PRO 6000 Blackwell Max-Q Workstation Edition", "RTX PRO 6000 Blackwell Max-Q"),
    ("RTX 4000 SFF Ada Generation", "RTX 4000 Ada"),
    ("MI250X/MI250", "Instinct MI250X (per GCD)"),
    ("MI250", "Instinct MI250X (per GCD)"),
    ("Radeon 8060S", "Ryzen AI Max+ 395 (Strix Halo)"),
    ("RYZEN AI MAX+ 395 w/ Radeon 8060S", "Ryzen AI Max+ 395 (Strix Halo)"),
    ("HL-225", "Gaudi 2"),
    ("HL-325L", "Gaudi 3"),
];

/// Words that tell no card from another.
const IDLE: &[&str] = &[
    "nvidia",
    "amd",
    "apple",
    "intel",
    "google",
    "corporation",
    "r",
    "tm",
    "gpu",
    "graphics",
    "generation",
    "edition",
    "series",
    "tesla",
    "instinct",
    "nvgpu",
    "ac",
    "vf",
];

/// Words that no card of another maker has.
const MAKERS: &[(&str, Vendor)] = &[
    ("nvidia", Vendor::Nvidia),
    ("tesla", Vendor::Nvidia),
    ("amd", Vendor::Amd),
    ("instinct", Vendor::Amd),
    ("apple", Vendor::Apple),
    ("intel", Vendor::Intel),
    ("google", Vendor::Google),
];

/// Words of variants: without one, the plain card is meant.
const VARIANTS: &[&str] = &["ti", "super", "laptop", "d"];

/// The GPU that goes by this name: in the table, or as a driver prints it, or as it is commonly typed.
///
/// # Errors
/// [`GpuError`] names the candidates, or the nearest names.
///
/// ```
/// use vramfit::gpu::named;
/// assert_eq!(named("NVIDIA A100-SXM4-80GB").unwrap().name, "A100 80GB SXM");
/// assert_eq!(named("rtx4090").unwrap().name, "GeForce RTX 4090");
/// assert!(named("H100").is_err());
/// ```
pub fn named(name: &str) -> Result<&'static Gpu, GpuError> {
    let plain = find(name);
    if plain.is_ok() || name.len() > MAX_INPUT {
        return plain;
    }
    let known: HashSet<String> = all().iter().map(|gpu| gpu.name).chain(CALLED.iter().map(|(called, _)| *called)).flat_map(words).collect();
    let mut wanted: Vec<String> = words(name).flat_map(|word| taken_apart(&word, &known).unwrap_or_else(|| vec![word])).collect();
    let called = CALLED.iter().find(|(called, _)| words(called).eq(wanted.iter().cloned()));
    wanted.retain(|word| !word.starts_with("hbm"));
    let mut found: Vec<&Gpu> = match called {
        Some((_, name)) => vec![find(name)?],
        None => all().iter().filter(|gpu| has_all(gpu.name, &wanted)).collect(),
    };
    let is_variant = |gpu: &Gpu| words(gpu.name).any(|word| VARIANTS.contains(&word.as_str()) && !wanted.contains(&word));
    if found.iter().any(|gpu| !is_variant(gpu)) {
        found.retain(|gpu| !is_variant(gpu));
    }
    // A maker that is said is the card's.
    let makers: Vec<Vendor> = MAKERS.iter().filter(|(word, _)| every_word(name).any(|said| said == *word)).map(|(_, maker)| *maker).collect();
    let other = found.first().copied();
    found.retain(|gpu| makers.is_empty() || makers.contains(&gpu.vendor));
    match found.as_slice() {
        _ if wanted.is_empty() => plain,
        [] => Err(match (plain, other) {
            (_, Some(gpu)) => GpuError::OtherVendor { input: shortened(name.trim()), gpu: gpu.name, vendor: gpu.vendor },
            (Err(error @ GpuError::Ambiguous { .. }), None) => error,
            _ => GpuError::Unknown { input: shortened(name.trim()), nearest: nearest(&wanted.join(" ")) },
        }),
        [gpu] => Ok(gpu),
        several => {
            let candidates = several.iter().take(MAX_CANDIDATES).map(|gpu| gpu.name).collect();
            Err(GpuError::Ambiguous { input: shortened(name.trim()), candidates })
        }
    }
}

/// Cards that are sold with other sizes than the table's under one name, these in GB, and where that was read (as comments: the page
/// does without).
const OTHER_SIZES: &[(&str, &str)] = &[
    ("GeForce GTX 1060 6GB", "3"),         // custompcreview.com/news/nvidia-launches-geforce-gtx-1060-3gb-priced-200
    ("GeForce RTX 3050 8GB", "6"),         // thinkcomputers.org/nvidia-geforce-rtx-3050-6gb-officially-launched
    ("GeForce RTX 3060 12GB", "8"),        // thinkcomputers.org/nvidia-finally-introduces-geforce-rtx-3060-8gb-and-rtx-3060-ti-gddr6x
    ("RTX A2000 12GB", "6"),               // tomshardware.fr/nvidia-lance-une-rtx-a2000-low-profile
    ("RTX PRO 5000 Blackwell 48GB", "72"), // svethardware.cz/nvidia-uvedla-72gb-verzi-karty-rtx-pro-5000/62241
    ("Tesla P100 PCIe 16GB", "12"),        // NVIDIA, Tesla P100 PCIe product brief PB-08248-001_v01 (manualmachine.com)
    ("Jetson AGX Orin 64GB", "32"),        // NVIDIA, Jetson AGX Orin technical brief, as mzph.cn/web/30785.shtml has it
    ("Arc A770 16GB", "8"),                // meterpreter.org/intel-confirms-that-arc-a770-a750-will-be-launched-soon (PC Games Hardware)
];

/// What is worth saying where a name leaves the size open and the card is sold with several: `RTX 3060` has 8 GB too.
pub fn unsaid_size(name: &str, gpu: &Gpu) -> Option<String> {
    let (_, others) = OTHER_SIZES.iter().find(|(card, _)| *card == gpu.name)?;
    let is_open = !words(name).any(|word| word.ends_with("gb"));
    is_open.then(|| format!("`{}` says no size of memory, and is sold with {others} GB too: it is taken for {}", shortened(name.trim()), gpu.name))
}

/// The words of a name in lower case.
fn every_word(name: &str) -> impl Iterator<Item = String> {
    name.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|part| !part.is_empty()).map(str::to_ascii_lowercase)
}

/// The words of a name that tell cards apart, in lower case: `NVIDIA A100-SXM4-80G` has `a100`, `sxm` and `80gb`.
fn words(name: &str) -> impl Iterator<Item = String> {
    every_word(name).filter(|word| !IDLE.contains(&word.as_str())).map(|word| {
        let number = word.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        match word.strip_prefix(number) {
            // The socket's generation goes with the chip's.
            _ if word.starts_with("sxm") => "sxm".to_owned(),
            Some("g" | "gib") if number.bytes().all(|byte| byte.is_ascii_digit()) => format!("{number}gb"),
            _ => word,
        }
    })
}

/// A word as known words that are run together: `rtx4090` is `rtx` and `4090`.
fn taken_apart(word: &str, known: &HashSet<String>) -> Option<Vec<String>> {
    if known.contains(word) {
        return Some(vec![word.to_owned()]);
    }
    // Between a letter and a number only, and not after one letter: `a1000` is not `a` and `1000`.
    let cuts = (2..word.len()).rev().filter(|&at| word.as_bytes()[at - 1].is_ascii_digit() != word.as_bytes()[at].is_ascii_digit());
    cuts.filter(|&at| known.contains(&word[..at])).find_map(|at| {
        let mut parts = vec![word[..at].to_owned()];
        parts.extend(taken_apart(&word[at..], known)?);
        Some(parts)
    })
}

/// Whether all the words are among the name's.
fn has_all(name: &str, wanted: &[String]) -> bool {
    let has: Vec<String> = words(name).collect();
    wanted.iter().all(|word| has.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_names_are_those_of_the_table() {
        for (wanted, name) in [
            // nvidia-smi, as public logs have them
            ("NVIDIA H100 80GB HBM3", "H100 SXM5 80GB"),
            ("NVIDIA H100 PCIe", "H100 PCIe 80GB"),
            ("NVIDIA H100 NVL", "H100 NVL 94GB"),
            ("NVIDIA A100-SXM4-80GB", "A100 80GB SXM"),
            ("NVIDIA A100-SXM4-40GB", "A100 40GB SXM/PCIe"),
            ("NVIDIA A100-PCIE-40GB", "A100 40GB SXM/PCIe"),
            ("NVIDIA A100 80GB PCIe", "A100 80GB PCIe"),
            ("NVIDIA GeForce RTX 4090", "GeForce RTX 4090"),
            ("NVIDIA GeForce RTX 4090 Laptop GPU", "GeForce RTX 4090 Laptop"),
            ("NVIDIA GeForce RTX 4070 Ti SUPER", "GeForce RTX 4070 Ti SUPER"),
            ("NVIDIA GeForce RTX 3060", "GeForce RTX 3060 12GB"),
            ("NVIDIA RTX A6000", "RTX A6000"),
            ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
            ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX PRO 6000 Blackwell Server"),
            ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "RTX PRO 6000 Blackwell Workstation"),
            ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "RTX PRO 6000 Blackwell Max-Q"),
            ("Tesla T4", "T4"),
            ("Tesla V100-SXM2-16GB", "V100 PCIe/SXM2 16GB"),
            ("Tesla V100-SXM3-32GB", "V100 SXM2 32GB"),
            ("Tesla V100-PCIE-32GB", "V100 SXM2 32GB"),
            ("Tesla P100-PCIE-16GB", "Tesla P100 PCIe 16GB"),
            ("Quadro RTX 6000", "Quadro RTX 6000"),
            ("NVIDIA L40S", "L40S"),
            ("NVIDIA L40", "L40"),
            ("NVIDIA H200", "H200 SXM"),
            ("NVIDIA H200 NVL", "H200 NVL"),
            ("NVIDIA H20", "H20 96GB"),
            ("NVIDIA GH200 480GB", "GH200 96GB"),
            ("NVIDIA GH200 144G HBM3e", "GH200 144GB"),
            ("NVIDIA B200", "B200 SXM"),
            ("NVIDIA GB200", "GB200 (per GPU)"),
            ("NVIDIA B300 SXM6 AC", "B300 SXM"),
            ("NVIDIA GB10", "DGX Spark (GB10)"),
            ("Orin (nvgpu)", "Jetson AGX Orin 64GB"),
            // rocm-smi, hl-smi, operating systems
            ("AMD Instinct MI300X VF", "Instinct MI300X"),
            ("AMD Instinct MI250X/MI250", "Instinct MI250X (per GCD)"),
            ("AMD Radeon RX 7900 XT", "Radeon RX 7900 XT"),
            ("Radeon 8060S Graphics", "Ryzen AI Max+ 395 (Strix Halo)"),
            ("Intel(R) Arc(TM) A770 Graphics", "Arc A770 16GB"),
            ("HL-225", "Gaudi 2"),
            ("Apple M1", "M1"),
            // as people type
            ("B200", "B200 SXM"),
            ("4090", "GeForce RTX 4090"),
            ("rtx4090", "GeForce RTX 4090"),
            ("3090ti", "GeForce RTX 3090 Ti"),
            ("RTX 4080 super", "GeForce RTX 4080 SUPER"),
            ("gaudi2", "Gaudi 2"),
            ("h100-sxm", "H100 SXM5 80GB"),
            ("80GB A100 PCIe", "A100 80GB PCIe"),
            ("MI300X", "Instinct MI300X"),
        ] {
            assert_eq!(named(wanted).map(|found| found.name), Ok(name), "{wanted}");
        }
    }

    #[test]
    fn what_could_be_several_is_said_and_nothing_else() {
        for (wanted, candidates) in [
            ("A100", &["A100 40GB SXM/PCIe", "A100 80GB SXM", "A100 80GB PCIe"][..]),
            ("A100-80G", &["A100 80GB SXM", "A100 80GB PCIe"]),
            ("H100", &["H100 PCIe 80GB", "H100 SXM5 80GB", "H100 NVL 94GB"]),
            ("NVIDIA GeForce RTX 3080", &["GeForce RTX 3080 10GB", "GeForce RTX 3080 12GB"]),
            ("NVIDIA GeForce RTX 4060 Ti", &["GeForce RTX 4060 Ti 8GB", "GeForce RTX 4060 Ti 16GB"]),
            ("Apple M3 Max", &["M3 Max 30-core", "M3 Max 40-core"]),
            ("MI300", &["Instinct MI300A", "Instinct MI300X"]),
        ] {
            assert_eq!(named(wanted), Err(GpuError::Ambiguous { input: wanted.to_owned(), candidates: candidates.to_vec() }), "{wanted}");
        }
        let Err(GpuError::Ambiguous { candidates, .. }) = named("RTX 6000") else { panic!("three generations are called so") };
        assert_eq!(candidates[..2], ["Quadro RTX 6000", "RTX 6000 Ada"]);
        assert!(!candidates.contains(&"RTX A6000"), "{candidates:?}");
    }

    #[test]
    fn a_maker_that_is_said_is_the_cards() {
        for (wanted, card, maker) in [
            ("Apple T4", "T4", Vendor::Nvidia),
            ("Intel 4090", "GeForce RTX 4090", Vendor::Nvidia),
            ("AMD H100", "H100 PCIe 80GB", Vendor::Nvidia),
            ("Instinct L40S", "L40S", Vendor::Nvidia),
            ("NVIDIA MI300X", "Instinct MI300X", Vendor::Amd),
            ("Tesla M4 Max", "M4 Max", Vendor::Apple),
            ("Tesla M4", "M4", Vendor::Apple),
            // Also where a driver's name is known as a whole.
            ("Apple H200", "H200 SXM", Vendor::Nvidia),
            ("AMD H200", "H200 SXM", Vendor::Nvidia),
            ("Intel H100 80GB HBM3", "H100 SXM5 80GB", Vendor::Nvidia),
            ("NVIDIA MI250", "Instinct MI250X (per GCD)", Vendor::Amd),
            ("NVIDIA HL-225", "Gaudi 2", Vendor::Intel),
            ("NVIDIA Radeon 8060S", "Ryzen AI Max+ 395 (Strix Halo)", Vendor::Amd),
        ] {
            let Err(error @ GpuError::OtherVendor { gpu, vendor, .. }) = named(wanted) else { panic!("{wanted}: {:?}", named(wanted)) };
            assert!(gpu.starts_with(card) && vendor == maker, "{error}");
            assert!(error.to_string().contains(maker.name()), "{error}");
        }
        // One of two makers is enough: machines name the processor's as well.
        assert_eq!(named("Intel Xeon").map(|gpu| gpu.name).ok(), None);
        assert_eq!(named("intel nvidia t4").map(|gpu| gpu.name), Ok("T4"));
    }

    #[test]
    fn a_size_that_a_name_leaves_open_is_said() {
        for (wanted, is_open) in [
            ("RTX 3060", true),
            ("NVIDIA GeForce RTX 3060", true),
            ("Orin (nvgpu)", true),
            ("rtx 3060 12gb", false),
            ("RTX 4090", false),
            ("A100 80G SXM", false),
            // Sold with one size, whatever the table calls them.
            ("NVIDIA H100 PCIe", false),
            ("NVIDIA H100 NVL", false),
            ("NVIDIA H20", false),
        ] {
            let said = unsaid_size(wanted, named(wanted).unwrap());
            assert_eq!(said.is_some(), is_open, "{wanted}: {said:?}");
        }
        assert!(all().iter().all(|gpu| unsaid_size(gpu.name, gpu).is_none()));
        // Each is a row of the table, and the only one of its name: of two, the name alone would be neither.
        for (card, _) in OTHER_SIZES {
            let stem = card.rsplit_once(' ').unwrap().0;
            assert_eq!(named(stem).map(|gpu| gpu.name), Ok(*card), "{stem}");
        }
    }

    #[test]
    fn another_card_is_not_taken_for_one_of_the_table() {
        for wanted in
            ["NVIDIA A100-SXM-64GB", "NVIDIA H20-3e", "NVIDIA H800 PCIe", "NVIDIA RTX 500 Ada Generation", "RTX A1000", "Tesla P4", "K80", "A100D", ""]
        {
            assert!(matches!(named(wanted), Err(GpuError::Unknown { .. })), "{wanted}: {:?}", named(wanted));
        }
    }

    #[test]
    fn every_name_and_alias_leads_to_its_own_row() {
        for gpu in all() {
            assert_eq!(named(gpu.name).map(|found| found.name), Ok(gpu.name));
            assert_eq!(named(&format!("{} {}", gpu.vendor.name(), gpu.name)).map(|found| found.name), Ok(gpu.name));
            // Whatever the table's own search finds by a part of a name is found here too.
            for part in gpu.name.split(' ') {
                if let Ok(found) = find(part) {
                    assert_eq!(named(part), Ok(found), "{part}");
                }
            }
        }
        for (called, name) in CALLED {
            assert!(all().iter().any(|gpu| gpu.name == *name), "{called}: {name} is not in the table");
        }
    }
}
