//! What the page's first module answers, and how answers cross between its modules.

use crate::cases;
use crate::common::model;
use crate::draws::{any_config, any_scenario, any_spread, any_training, scenario_of, with};
use proptest::prelude::*;
use vramfit::memory::{common_estimate, estimate, set_aside};
use vramfit::reader::{self, desk};
use vramfit::scenario::{Runtime, Scenario, Serving, Task, Training, Weights};

/// What most people ask: vLLM, in formats that pack nothing.
fn common_scenario() -> impl Strategy<Value = Scenario> {
    let plain = Weights::all().filter(|format| matches!(format, Weights::AsStored | Weights::Plain(_)));
    scenario_of(&[Runtime::Vllm], prop::sample::select(plain.collect::<Vec<_>>()))
}

/// The page's first module answers for every built-in model as the whole engine does.
#[test]
fn built_in_models_are_answered_alike() {
    let mut common = 0;
    for id in vramfit::catalogue::ids() {
        let Some(Ok(model)) = vramfit::catalogue::open(id) else { panic!("{id}") };
        for (weights, gpus) in [("as-stored", 1), ("bf16", 1), ("fp32", 2), ("fp8", 1), ("q4_k_m", 1)] {
            let scenario = Scenario { weights: weights.parse().unwrap(), gpus: Some(gpus), batch: Some(4), ..Scenario::default() };
            if let Some(answer) = common_estimate(&model, &scenario) {
                assert_eq!(answer, estimate(&model, &scenario), "{id} {weights}");
                common += 1;
            }
        }
    }
    assert!(common > 500, "{common}");
}

proptest! {
    #![proptest_config(cases())]

    /// The page's first module has little code; what it answers is what the whole engine answers.
    #[test]
    fn what_is_answered_at_once_is_the_same(config in any_config(), scenario in common_scenario(), (parallel, serving) in any_spread()) {
        let serving = Serving { max_loras: None, max_lora_rank: None, kv_offloading_size: None, speculative_tokens: None, ..serving };
        let scenario = Scenario { gpus: None, ..with(scenario, parallel, serving) };
        let model = model(config);
        let answer = common_estimate(&model, &scenario);
        prop_assume!(answer.is_some());
        prop_assert_eq!(answer, Some(estimate(&model, &scenario)));
    }

    #[test]
    fn answers_cross_between_the_modules_unchanged(config in any_config(), scenario in any_scenario(), training in any_training(), is_training in any::<bool>()) {
        let task = if is_training { Task::Train } else { Task::Serve };
        let scenario = Scenario { task, training: if is_training { training } else { Training::default() }, ..scenario };
        let (model, drafts, query) = (model(config), desk::Drafts::default(), desk::query(&scenario));
        let said = desk::estimate(&model, &query, &drafts, &mut desk::Last::default());
        prop_assert_eq!(reader::decode(&reader::encode(&said)), Some(said.clone()));
        // What the engine has not is set aside, and said.
        let (kept, aside) = if is_training { (scenario, Vec::new()) } else { set_aside(&scenario, &model) };
        let plain = estimate(&model, &kept).map(|mut answer| {
            answer.warnings.extend(aside);
            answer
        });
        prop_assert_eq!(said, desk::shown(plain));
        if let Ok(swept) = desk::sweep(&model, &query, &drafts) {
            prop_assert_eq!(reader::decode(&reader::encode(&swept)), Some(swept));
        }
    }
}
