//! Settings that few change: one row each, named by its key in links, where its reading and writing are.

use leptos::prelude::*;
use vramfit::link;
use vramfit::quantity::Decimal;
use vramfit::runtime::{Engine, Setting as EngineSetting, Way, engine};
use vramfit::scenario::Scenario;

use super::dom;
use super::field::count;
use super::state::AppState;

/// A setting.
struct Setting {
    /// Its key in links.
    key: &'static str,
    label: &'static str,
    kind: Kind,
    /// Its key among the choices that an estimate reports; empty when it reports none.
    used: &'static str,
    /// Whether it means something for an engine.
    applies: fn(&dyn Engine) -> bool,
}

/// How it is chosen.
enum Kind {
    /// A count.
    Count,
    /// More than 0, at most 1.
    Share,
    /// Gibibytes.
    Gibibytes,
    /// Text, with an example.
    Text(&'static str),
    /// On or off.
    Switch,
}

/// Settings that belong together.
struct Group {
    id: &'static str,
    title: &'static str,
    settings: &'static [Setting],
}

static GROUPS: &[Group] = &[
    Group {
        id: "spread",
        title: "Over several GPUs",
        settings: &[
            Setting { key: "tp", label: "Tensor parallel", kind: Kind::Count, used: "tensor_parallel", applies: |_| true },
            Setting { key: "pp", label: "Pipeline parallel", kind: Kind::Count, used: "pipeline_parallel", applies: |engine| has(engine, Way::Pipeline) },
            Setting { key: "dp", label: "Data parallel", kind: Kind::Count, used: "data_parallel", applies: |engine| has(engine, Way::Data) },
            Setting { key: "ep", label: "Expert parallel", kind: Kind::Count, used: "expert_parallel", applies: |engine| has(engine, Way::Expert) },
            Setting { key: "cp", label: "Context parallel", kind: Kind::Count, used: "context_parallel", applies: |engine| has(engine, Way::Context) },
            Setting { key: "dpa", label: "Replicate attention alone", kind: Kind::Switch, used: "", applies: |engine| has(engine, Way::Data) },
        ],
    },
    Group {
        id: "engine",
        title: "Engine",
        settings: &[
            Setting { key: "rv", label: "Version", kind: Kind::Text("0.10.2"), used: "runtime_version", applies: |_| true },
            Setting {
                key: "util",
                label: "GPU memory utilization",
                kind: Kind::Share,
                used: "gpu_memory_utilization",
                applies: |engine| engine.fraction().is_some_and(|fraction| fraction.key() == "gpu_memory_utilization"),
            },
            Setting {
                key: "static",
                label: "Memory fraction, static",
                kind: Kind::Share,
                used: "mem_fraction_static",
                applies: |engine| takes(engine, EngineSetting::MemFractionStatic),
            },
            Setting { key: "mbt", label: "Batched tokens", kind: Kind::Count, used: "max_num_batched_tokens", applies: |engine| engine.fraction().is_some() },
            Setting { key: "mns", label: "Sequences", kind: Kind::Count, used: "max_num_seqs", applies: |engine| engine.fraction().is_some() },
            Setting {
                key: "share",
                label: "Common prefix, share of the context",
                kind: Kind::Share,
                used: "",
                applies: |engine| takes(engine, EngineSetting::PrefixShare),
            },
            Setting {
                key: "offload",
                label: "Weights on the host, GiB per GPU",
                kind: Kind::Gibibytes,
                used: "",
                applies: |engine| takes(engine, EngineSetting::CpuOffload),
            },
            Setting { key: "loras", label: "LoRA adapters at once", kind: Kind::Count, used: "", applies: |engine| takes(engine, EngineSetting::Loras) },
            Setting { key: "rank", label: "Largest LoRA rank", kind: Kind::Count, used: "", applies: |engine| takes(engine, EngineSetting::Loras) },
            Setting { key: "eager", label: "Enforce eager", kind: Kind::Switch, used: "", applies: |engine| engine.fraction().is_some() },
        ],
    },
];

fn has(engine: &dyn Engine, way: Way) -> bool {
    engine.ways().contains(&way)
}

fn takes(engine: &dyn Engine, setting: EngineSetting) -> bool {
    engine.settings().contains(&setting)
}

/// How many settings are not at their defaults.
pub fn changed(scenario: &Scenario) -> usize {
    GROUPS.iter().flat_map(|group| group.settings).filter(|setting| link::setting(scenario, setting.key).is_some()).count()
}

/// Every group with its settings.
pub fn markup(out: &mut String) {
    for group in GROUPS {
        dom::weave(out, &["<fieldset id='group-", group.id, "'><legend>", group.title, "</legend>"]);
        for setting in group.settings {
            setting.markup(out);
        }
        out.push_str("</fieldset>");
    }
}

/// Makes them work.
pub fn bind(state: AppState) {
    dom::follow(move || {
        state.scenario.with(|scenario| {
            for group in GROUPS {
                for setting in group.settings {
                    setting.show(state, scenario);
                }
            }
        });
    });
    for setting in GROUPS.iter().flat_map(|group| group.settings) {
        dom::on(&setting.id(), "change", move |event| {
            let text = if matches!(setting.kind, Kind::Switch) {
                Ok(if dom::target(&event, "checked").is_truthy() { "1".to_owned() } else { String::new() })
            } else {
                setting.written(dom::typed(&event).trim())
            };
            let mut scenario = state.scenario.get_untracked();
            let taken = text.and_then(|text| link::set(&mut scenario, setting.key, &text));
            setting.complain(taken.as_ref().err().map_or("", String::as_str));
            if taken.is_ok() {
                state.scenario.set(scenario);
            }
        });
    }
}

impl Setting {
    fn id(&self) -> String {
        ["set-", self.key].concat()
    }

    fn markup(&self, out: &mut String) {
        let id = self.id();
        let opening = ["<div class='field' id='", "-field'><label for='", "'>"].join(&id);
        let rest = match self.kind {
            Kind::Switch => {
                dom::weave(out, &["<label class='check' id='", &id, "-field'><input id='", &id, "' type='checkbox'>", self.label, "</label>"]);
                return;
            }
            Kind::Text(_) => "' type='text' autocomplete='off' spellcheck='false' aria-describedby='",
            Kind::Count | Kind::Share | Kind::Gibibytes => {
                "' class='number' type='text' inputmode='decimal' autocomplete='off' spellcheck='false' aria-describedby='"
            }
        };
        dom::weave(
            out,
            &[&opening, self.label, "</label><input id='", &id, rest, &id, "-problem'><p class='problem' id='", &id, "-problem' aria-live='polite'></p></div>"],
        );
    }

    /// What was chosen, with what it is when nothing is; what does not apply is there only to be taken back.
    fn show(&self, state: AppState, scenario: &Scenario) {
        let id = self.id();
        let chosen = link::setting(scenario, self.key);
        dom::flag(&[&id, "-field"].concat(), "hidden", chosen.is_none() && !engine(scenario.runtime).is_some_and(self.applies));
        match self.kind {
            Kind::Switch => dom::set_checked(&id, chosen.is_some()),
            _ => {
                dom::set_value(&id, &self.shown(chosen.as_deref().unwrap_or_default()));
                let used = state.used.with(|used| used.iter().find(|(key, _)| *key == self.used).map(|(_, value)| value.clone()));
                let example = if let Kind::Text(example) = self.kind { example } else { "" };
                dom::attribute(&id, "placeholder", used.as_deref().unwrap_or(example));
            }
        }
    }

    /// As a field shows it.
    fn shown(&self, written: &str) -> String {
        match (&self.kind, written.parse::<u64>()) {
            (Kind::Count, Ok(count)) => vramfit::format::grouped(count),
            (Kind::Gibibytes, Ok(bytes)) => {
                let size = vramfit::format::fixed(bytes, vramfit::quantity::GIB, 2);
                size.strip_suffix(".00").unwrap_or(&size).replace(',', "")
            }
            _ => written.to_owned(),
        }
    }

    /// What was typed, as links write it.
    fn written(&self, typed: &str) -> Result<String, String> {
        match self.kind {
            _ if typed.is_empty() => Ok(String::new()),
            Kind::Count => count(typed).map(|count| count.map_or_else(String::new, |count| count.to_string())),
            Kind::Share => match typed.parse::<Decimal>() {
                Ok(share) if share.is_fraction() => Ok(share.to_string()),
                _ => Err("It must be above 0 and at most 1, such as 0.92.".to_owned()),
            },
            Kind::Gibibytes => {
                let bytes = typed.parse::<Decimal>().ok().and_then(|size| size.floor_of(vramfit::quantity::GIB).ok());
                bytes.map(|bytes| bytes.to_string()).ok_or_else(|| "Type a number of GiB, such as 10.5.".to_owned())
            }
            Kind::Text(_) | Kind::Switch => Ok(typed.to_owned()),
        }
    }

    fn complain(&self, why: &str) {
        let id = self.id();
        dom::text(&[&id, "-problem"].concat(), why);
        dom::attribute(&id, "aria-invalid", if why.is_empty() { "false" } else { "true" });
    }
}
