//! A GPU as an estimate sees it: what its driver reports, and what of that a process can get.

use super::{Gpu, Vendor};
use crate::formula::Source;
use crate::quantity::{Bytes, MIB};

/// What NVIDIA's driver keeps of a card for itself, where the CUDA total is not known: the median of eleven public pairs of
/// `nvidia-smi` total and CUDA total on Linux (354, 373, 379, 450, 461, 461, 478, 490, 621, 640 and 729 MiB).
const DRIVER_RESERVE_MIB: u64 = 461;

/// What an operating system that shares the memory keeps, where the process total is not known: 4 to 10 GiB, the cautious end.
const SYSTEM_SHARE_MIB: u64 = 10 << 10;

/// A bare CUDA context: 3.05 MiB per streaming multiprocessor, in hundredths. Public figures: 107 MiB (34 SMs), 256 (82),
/// 426 (142), 555 (188).
const CONTEXT_PER_SM: u64 = 305;

/// Kernels and handles that come with the first operations of PyTorch, in MiB: 50 to 250, and up to 600 with engines that load
/// compiled kernels (FlashInfer, Triton, cuBLASLt).
const KERNELS_MIB: Band = Band { low: 50, expected: 150, high: 600 };

/// Low, expected and high in MiB.
struct Band {
    low: u64,
    expected: u64,
    high: u64,
}

/// A GPU to fit into.
#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    /// What it is called.
    pub name: String,
    /// Its row in the table; `None` when only a size was given.
    pub gpu: Option<&'static Gpu>,
    /// Its memory as the driver counts it.
    pub capacity: Bytes,
    /// What a process sees as the total.
    pub usable: Bytes,
    /// Where `usable` came from.
    pub usable_source: Source,
    /// What was assumed, each a sentence.
    pub notes: Vec<String>,
}

impl Card {
    /// A card of the table.
    pub fn of(gpu: &'static Gpu) -> Self {
        let mut notes = Vec::new();
        let capacity = capacity(gpu, &mut notes);
        let (usable, usable_source) = usable(gpu, capacity, &mut notes);
        Self { name: gpu.name.to_owned(), gpu: Some(gpu), capacity: mib(capacity), usable: mib(usable), usable_source, notes }
    }

    /// A size that stands for a GPU, taken to be NVIDIA's.
    pub fn custom(usable: Bytes) -> Self {
        let notes = vec!["only the usable memory was given: runtime costs are those of an NVIDIA card".to_owned()];
        Self { name: "Custom GPU".to_owned(), gpu: None, capacity: usable, usable, usable_source: Source::User("usable memory"), notes }
    }

    /// A card of the table of which a process can get this much.
    pub fn with_usable(gpu: &'static Gpu, usable: Bytes) -> Self {
        let mut notes = Vec::new();
        let mut capacity = mib(capacity(gpu, &mut notes));
        if usable > capacity {
            notes.push(format!("the usable memory that was given is more than the driver reports for {}: it is taken as the capacity too", gpu.name));
            capacity = usable;
        }
        Self { name: gpu.name.to_owned(), gpu: Some(gpu), capacity, usable, usable_source: Source::User("usable memory"), notes }
    }

    /// What a process on the card costs before it holds anything (low, expected, high): context, kernels, handles.
    pub fn context_bytes(&self) -> (Bytes, Bytes, Bytes, Source) {
        let of = |low, expected, high, rule: &'static str| (mib(low), mib(expected), mib(high), Source::Default(rule.into()));
        match self.gpu.map_or(Vendor::Nvidia, |gpu| gpu.vendor) {
            Vendor::Nvidia => match self.gpu.and_then(|gpu| gpu.sm_count) {
                Some(sm_count) => {
                    let bare = bare_context(sm_count);
                    let rule = format!(
                        "CUDA context of 3.05 MiB per SM × {sm_count} SMs, and {} MiB of kernels ({} to {})",
                        KERNELS_MIB.expected, KERNELS_MIB.low, KERNELS_MIB.high
                    );
                    let with = |kernels| Bytes(bare + kernels * MIB);
                    (with(KERNELS_MIB.low), with(KERNELS_MIB.expected), with(KERNELS_MIB.high), Source::Derived(rule.into()))
                }
                None => of(250, 450, 900, "CUDA context and kernels of PyTorch, number of SMs not known: 450 MiB (250 to 900)"),
            },
            Vendor::Amd => of(300, 400, 500, "ROCm context: 300 to 500 MiB, a rule of thumb"),
            Vendor::Intel => of(300, 900, 1200, "XPU context: 0.88 GiB in one public vLLM log of an Arc card"),
            Vendor::Apple => of(0, 0, 300, "Metal: no context is charged against the working-set limit; libraries up to about 300 MiB, a guess"),
            Vendor::Google => of(0, 400, 900, "no public figure: 400 MiB (0 to 900), a guess"),
        }
    }
}

/// MiB as bytes. Figures of the table are below 2^24, so this cannot overflow.
const fn mib(count: u64) -> Bytes {
    Bytes(count * MIB)
}

const fn bare_context(sm_count: u64) -> u64 {
    sm_count * CONTEXT_PER_SM * MIB / 100
}

/// The capacity in MiB: what the driver reports, else what a process sees, else the size on the box.
fn capacity(gpu: &Gpu, notes: &mut Vec<String>) -> u64 {
    gpu.driver_mib.or(gpu.process_mib).unwrap_or_else(|| {
        let size = gpu.marketing_gb;
        if gpu.vendor != Vendor::Apple {
            notes.push(format!("the driver's figure for {} is not known: its {size} GB are taken as {size} GiB", gpu.name));
        }
        size << 10
    })
}

/// What a process can get of `capacity`, both in MiB.
fn usable(gpu: &Gpu, capacity: u64, notes: &mut Vec<String>) -> (u64, Source) {
    if gpu.vendor == Vendor::Apple {
        return working_set(gpu, capacity, notes);
    }
    if let Some((process, evidence)) = gpu.process_mib.zip(gpu.process_evidence) {
        if gpu.is_unified() {
            notes.push("the memory is shared with the operating system: what that uses (4 to 10 GiB) is not free".to_owned());
        }
        return (process, Source::Gpu(format!("{}, total that a process sees, {}", gpu.name, evidence.phrase()).into()));
    }
    if gpu.is_unified() {
        notes.push("the memory is shared with the operating system: 10 GiB are left to it".to_owned());
        return (capacity.saturating_sub(SYSTEM_SHARE_MIB), Source::Derived("capacity less 10 GiB for the operating system (4 to 10 GiB)".into()));
    }
    if gpu.vendor == Vendor::Nvidia {
        let rule = "driver's total less what the driver keeps: 461 MiB, the median of eleven public pairs (354 to 729 MiB)";
        return (capacity.saturating_sub(DRIVER_RESERVE_MIB), Source::Derived(rule.into()));
    }
    notes.push(format!("how much memory a process can get on {} is not known: all of it is assumed", gpu.name));
    (capacity, Source::Gpu(format!("{}, all of its memory", gpu.name).into()))
}

/// Metal's recommended working-set size: two thirds of the memory up to 32 GB, three quarters above.
fn working_set(gpu: &Gpu, capacity: u64, notes: &mut Vec<String>) -> (u64, Source) {
    notes.push(format!(
        "macOS decides how much of the memory the GPU may use (`iogpu.wired_limit_mb` raises it); this row is {} with {} GB, the most it is sold with",
        gpu.name, gpu.marketing_gb
    ));
    if gpu.marketing_gb <= 32 {
        return (capacity * 2 / 3, Source::Derived("two thirds of the memory: Metal's working-set limit up to 32 GB".into()));
    }
    if gpu.marketing_gb >= 128 {
        notes.push("recent macOS gives up to 0.84 of the memory at 128 GB and more: read the limit on the machine".to_owned());
    }
    (capacity * 3 / 4, Source::Derived("three quarters of the memory: Metal's working-set limit above 32 GB".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{all, find};
    use crate::quantity::GIB;

    fn card(name: &str) -> Card {
        Card::of(find(name).unwrap())
    }

    #[test]
    fn usable_memory_is_what_a_process_sees() {
        for (name, capacity, usable) in [
            ("H100 SXM5 80GB", 81_559, 81_081),
            ("GeForce RTX 4090", 24_564, 24_210),
            ("GeForce RTX 3090", 24_576, 24_126),
            ("GeForce RTX 4080", 16_376, 16_376 - 461),
            ("RTX PRO 4000 Blackwell", 24_576, 24_576 - 461),
            ("Instinct MI300X", 196_588, 196_588),
            ("Jetson AGX Orin 64GB", 65_536, 65_536 - 10_240),
            ("M1", 16_384, 10_922),
            ("M4", 32_768, 21_845),
            ("M1 Max", 65_536, 49_152),
            ("M2 Ultra", 196_608, 147_456),
        ] {
            let card = card(name);
            assert_eq!((card.capacity, card.usable), (mib(capacity), mib(usable)), "{name}");
        }
        assert_eq!(card("M2 Ultra").usable, Bytes(154_618_822_656)); // as a public log has it
    }

    #[test]
    fn every_card_is_possible() {
        for gpu in all() {
            let card = Card::of(gpu);
            assert!(card.usable > Bytes::ZERO && card.usable <= card.capacity, "{}", gpu.name);
            let (low, expected, high, source) = card.context_bytes();
            assert!(low <= expected && expected <= high && high < card.usable, "{}", gpu.name);
            assert!(!source.to_string().is_empty());
        }
    }

    #[test]
    fn a_given_size_stands_for_a_card_or_replaces_its_own() {
        let alone = Card::custom(Bytes(24 * GIB));
        assert_eq!((alone.capacity, alone.usable, alone.gpu), (Bytes(24 * GIB), Bytes(24 * GIB), None));
        assert_eq!(alone.context_bytes().1, mib(450));
        let gpu = find("GeForce RTX 4090").unwrap();
        let smaller = Card::with_usable(gpu, Bytes(20 * GIB));
        assert_eq!((smaller.capacity, smaller.usable), (mib(24_564), Bytes(20 * GIB)));
        assert!(smaller.notes.is_empty());
        let larger = Card::with_usable(gpu, Bytes(48 * GIB));
        assert_eq!((larger.capacity, larger.notes.len()), (Bytes(48 * GIB), 1));
        assert_eq!(Card::custom(Bytes(u64::MAX)).usable, Bytes(u64::MAX));
    }

    /// Total less free memory when a vLLM worker started on an otherwise empty card, in hundredths of a GiB (public logs).
    const VLLM_AT_START: &[(&str, u64)] =
        &[("A100 80GB SXM", 41), ("L40S", 49), ("GeForce RTX 3090", 51), ("H100 SXM5 80GB", 53), ("H100 SXM5 80GB", 61), ("H200 SXM", 60)];

    /// Per-process memory of a bare context in MiB (public logs).
    const BARE_CONTEXTS: &[(&str, u64)] =
        &[("GeForce RTX 4060 Ti 16GB", 107), ("GeForce RTX 3090", 256), ("RTX 6000 Ada", 426), ("RTX PRO 6000 Blackwell Workstation", 555)];

    #[test]
    fn contexts_are_near_what_was_measured() {
        for &(name, hundredths) in VLLM_AT_START {
            let measured = GIB * hundredths / 100;
            let (low, expected, high, _) = card(name).context_bytes();
            assert!((low.get()..=high.get()).contains(&measured), "{name}: {low:?} to {high:?}, measured {measured}");
            assert!(expected.get().abs_diff(measured) * 4 <= measured, "{name}: {expected:?}, measured {measured}");
        }
        for &(name, measured) in BARE_CONTEXTS {
            let bare = find(name).unwrap().sm_count.map(bare_context).unwrap();
            assert!(bare.abs_diff(measured * MIB) * 100 <= measured * MIB * 7, "{name}: {bare}");
        }
    }
}
