//! Ledgers of serving.

use crate::common::{model, parameter_bytes};
use crate::draws::{any_config, any_format, any_scenario, any_spread, with};
use crate::{cases, possible};
use proptest::prelude::*;
use vramfit::estimate::{Estimate, Stage};
use vramfit::memory::estimate;
use vramfit::quantity::Bytes;
use vramfit::scenario::{KvCache, Runtime, Scenario};

fn peak(answer: &Estimate) -> u64 {
    answer.devices[0].peak().unwrap().1.expected.get()
}

/// The peak to hold against a smaller load's. Where ggml fills a compute buffer, each value goes into the smallest hole that holds it,
/// and a longer context may leave smaller gaps than a shorter one: there it is the top of the band.
fn peak_of_more(answer: &Estimate, runtime: Runtime) -> u64 {
    match runtime {
        Runtime::LlamaCpp | Runtime::Ollama | Runtime::LmStudio => answer.devices[0].peak().unwrap().1.high.get(),
        _ => peak(answer),
    }
}

/// A batch to hold against a smaller one. llama.cpp reserves its graphs for a micro-batch rounded up to as many tokens of every sequence,
/// which is less for 401 sequences than for 400 (401 and 800 tokens of 401); of a multiple of the sequences, be they LM Studio's four at
/// the least, it is never less.
const fn more_requests(batch: u64, more: u64, runtime: Runtime) -> u64 {
    match runtime {
        Runtime::LlamaCpp | Runtime::Ollama | Runtime::LmStudio => batch * 4 * (1 + more / 4),
        _ => batch + more,
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn ledgers_add_up_and_formulas_are_the_numbers(config in any_config(), scenario in any_scenario(), (parallel, serving) in any_spread()) {
        let scenario = Scenario { gpus: None, ..with(scenario, parallel, serving) };
        let answer = possible(&model(config), &scenario)?;
        let mut ranks = 0;
        for device in &answer.devices {
            prop_assert!(device.ranks.start == ranks && device.ranks.end > ranks);
            ranks = device.ranks.end;
            for entry in &device.entries {
                prop_assert_eq!(entry.formula.evaluate(), Ok(entry.amount.expected.get()), "{}", entry.formula);
                prop_assert!(entry.amount.low <= entry.amount.expected && entry.amount.expected <= entry.amount.high);
            }
            let mut worst = Bytes::ZERO;
            for &stage in Stage::SERVING {
                let terms = device.terms().map(|term| device.term_at(term, stage).unwrap().expected);
                let sum = Bytes::total(terms).unwrap();
                prop_assert_eq!(sum, device.at(stage).unwrap().expected);
                worst = worst.max(sum);
            }
            prop_assert_eq!(worst, device.peak().unwrap().1.expected);
            prop_assert!(device.loaded().unwrap().expected <= worst && device.steady().unwrap().expected <= worst);
        }
    }

    #[test]
    fn more_never_takes_less(config in any_config(), scenario in any_scenario(), more in 1u64..50_000) {
        let model = model(config);
        // Engines have default contexts of their own.
        let scenario = Scenario { context: scenario.context.or(Some(4096)), ..scenario };
        let answer = possible(&model, &scenario)?;
        let context = scenario.context.unwrap_or(8192);
        let batch = scenario.batch.unwrap_or(1);
        let mut grown = vec![
            Scenario { context: Some(context + more), ..scenario.clone() },
            Scenario { batch: Some(more_requests(batch, more % 64, scenario.runtime)), ..scenario.clone() },
            Scenario { kv_cache: KvCache::Bf16, ..scenario.clone() },
        ];
        if scenario.kv_cache != KvCache::Fp8 {
            grown.pop();
        }
        for scenario in grown {
            // In transformers a default context may be below the one that is compared.
            let scenario = Scenario { context: scenario.context.or(Some(context.max(8192))), ..scenario };
            let Ok(larger) = estimate(&model, &scenario) else { continue };
            let larger = peak_of_more(&larger, scenario.runtime);
            prop_assert!(larger >= peak(&answer), "{larger} < {} for {scenario:?}", peak(&answer));
        }
    }

    #[test]
    fn ranks_hold_the_whole_and_the_repeated_part(config in any_config(), ranks in prop::sample::select(vec![2u64, 4, 8]), format in any_format()) {
        let model = model(config);
        let weights = |gpus| {
            let scenario = Scenario { gpus: Some(gpus), weights: format, ..Scenario::default() };
            Ok::<u64, TestCaseError>(parameter_bytes(&possible(&model, &scenario)?.devices[0]))
        };
        let (one, each) = (weights(1)?, weights(ranks)?);
        prop_assert!(each * ranks >= one && each < one, "{each} × {ranks} against {one}");
    }
}
