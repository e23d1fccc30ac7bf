//! Links and configs as text.

use crate::cases;
use crate::common::model;
use crate::draws::{any_config, any_scenario, any_spread, any_training};
use proptest::prelude::*;
use vramfit::link::{Link, ModelLink};
use vramfit::memory::estimate;
use vramfit::scenario::{Scenario, Task};

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn links_come_back(scenario in any_scenario(), (parallel, serving) in any_spread(), training in prop::option::of(any_training()), id in "[a-zA-Z0-9._-]{1,20}/[a-zA-Z0-9._-]{1,20}", revision in prop::option::of("[0-9a-f]{40}"), endpoint in prop::option::of("https://[a-z]{1,9}\\.example/\\PC{0,9}")) {
        let task = if training.is_some() { Task::Train } else { Task::Serve };
        let scenario = Scenario { parallel, serving, task, training: training.unwrap_or_default(), ..scenario };
        let link = Link { model: Some(ModelLink::Hub { id, revision }), endpoint, scenario, ..Link::default() };
        let text = link.encode();
        prop_assert!(text.is_ascii() && !text.contains([' ', '"', '<', '#']));
        prop_assert_eq!(Link::decode(&text), link);
    }

    #[test]
    fn any_text_is_a_link_or_a_complaint(text in "\\PC{0,200}") {
        let link = Link::decode(&text);
        // What was read is written and read alike.
        let again = Link::decode(&link.encode());
        prop_assert_eq!(again.scenario, link.scenario);
        prop_assert_eq!(again.model, link.model);
    }

    #[test]
    fn any_text_is_a_config_or_an_error(configs in prop::collection::vec(any_config(), 2), text in "\\PC{0,300}", cut in 0usize..400, key in "[a-z_]{1,12}", value in prop::sample::select(vec!["0", "-1", "1e400", "null", "[]", "{}", "true", "\"8\"", "18446744073709551615", "1099511627776", "0.5", "NaN"])) {
        let _ = vramfit::config::read(&text);
        for config in configs {
            // A truncated config.
            let end = (0..=cut.min(config.len())).rev().find(|&end| config.is_char_boundary(end)).unwrap_or(0);
            let _ = vramfit::config::read(&config[..end]);
            // A key more, and every number replaced.
            let _ = vramfit::config::read(&config.replacen('{', &format!("{{\"{key}\": {value}, "), 1));
            for number in ["4096", "32", "12", "768", "8"] {
                if let Ok(anatomy) = vramfit::config::read(&config.replace(&format!(": {number},"), &format!(": {value},"))) {
                    let model = vramfit::model::Model { anatomy, ..model(config) };
                    let _ = estimate(&model, &Scenario::default());
                }
            }
        }
    }
}
