//! Settings that few change: one row each, named by its key in links, where its reading and writing are.

use leptos::prelude::*;
use vramfit::link;
use vramfit::quantity::Decimal;
use vramfit::runtime::{Facts, Setting as EngineSetting, Way, facts, settings};
use vramfit::scenario::{
    Algorithm, AttentionImplementation, CacheImplementation, FlashAttention, KvCache, Loss, Offload, Precision, Reference, Rollout, Runtime, Scenario,
    Sharding, Task, Trainer,
};

use super::dom;
use super::field::{count, option};
use super::state::AppState;

/// A setting.
struct Setting {
    /// Its key in links.
    key: &'static str,
    label: &'static str,
    kind: Kind,
    /// Its key among the choices that an estimate reports; empty when it reports none.
    used: &'static str,
    /// Whether it means something in this case.
    applies: fn(&Case) -> bool,
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
    /// One of these: names, and labels.
    Choice(&'static [(&'static str, &'static str)]),
    /// On or off.
    Switch,
}

/// What decides which settings mean something.
struct Case {
    is_training: bool,
    algorithm: Algorithm,
    runtime: Runtime,
    is_pipeline: bool,
    /// Whether the size of a picture matters.
    reads_images: bool,
}

impl Case {
    fn of(state: AppState, scenario: &Scenario) -> Self {
        Self {
            is_training: scenario.task == Task::Train,
            algorithm: scenario.training.algorithm.unwrap_or(Algorithm::Sft),
            runtime: scenario.runtime,
            is_pipeline: state.shown.with(|shown| shown.as_ref().is_some_and(|shown| shown.model.is_pipeline())),
            reads_images: state.shown.with(|shown| shown.as_ref().is_some_and(|shown| shown.model.has_pictures(scenario.task == Task::Train))),
        }
    }

    fn engine(&self) -> Option<&'static Facts> {
        facts(self.runtime).filter(|_| !self.is_pipeline && !self.is_training)
    }

    fn has(&self, way: Way) -> bool {
        self.is_training || self.engine().is_some_and(|engine| engine.ways.contains(&way))
    }

    fn takes(&self, setting: EngineSetting) -> bool {
        !self.is_pipeline && !self.is_training && settings(self.runtime).contains(&setting)
    }

    fn trains(&self) -> bool {
        self.is_training
    }

    fn compares(&self) -> bool {
        self.is_training && matches!(self.algorithm, Algorithm::Dpo | Algorithm::Kto | Algorithm::Ppo | Algorithm::Grpo)
    }

    fn rolls_out(&self) -> bool {
        self.is_training && matches!(self.algorithm, Algorithm::Ppo | Algorithm::Grpo)
    }

    fn is_transformers(&self) -> bool {
        self.takes(EngineSetting::Attention)
    }

    fn drafts(&self) -> bool {
        self.takes(EngineSetting::Drafting)
    }

    fn is_llama_cpp(&self) -> bool {
        self.takes(EngineSetting::LlamaCpp)
    }
}

/// Settings that belong together.
struct Group {
    id: &'static str,
    title: &'static str,
    settings: &'static [Setting],
}

static GROUPS: &[Group] = &[
    Group {
        id: "training",
        title: "Training",
        settings: &[
            Setting { key: "by", label: "Trainer", kind: Kind::Choice(Trainer::OPTIONS), used: "trainer", applies: Case::trains },
            Setting { key: "algo", label: "Algorithm", kind: Kind::Choice(Algorithm::OPTIONS), used: "algorithm", applies: Case::trains },
            Setting { key: "ref", label: "Reference model", kind: Kind::Choice(Reference::OPTIONS), used: "reference", applies: Case::compares },
            Setting { key: "gen", label: "Generations", kind: Kind::Count, used: "generations", applies: Case::rolls_out },
            Setting { key: "roll", label: "Rollout", kind: Kind::Choice(Rollout::OPTIONS), used: "rollout", applies: Case::rolls_out },
            Setting { key: "rollmem", label: "Rollout's share of the card", kind: Kind::Share, used: "rollout_memory_fraction", applies: Case::rolls_out },
            Setting { key: "prec", label: "Precision", kind: Kind::Choice(Precision::OPTIONS), used: "precision", applies: Case::trains },
            Setting {
                key: "gc",
                label: "Activation checkpointing",
                kind: Kind::Text("none, selective, full, every-2"),
                used: "gradient_checkpointing",
                applies: Case::trains,
            },
            Setting { key: "r", label: "LoRA rank", kind: Kind::Count, used: "lora_rank", applies: Case::trains },
            Setting { key: "lt", label: "LoRA targets", kind: Kind::Text("all-linear"), used: "lora_targets", applies: Case::trains },
            Setting { key: "sh", label: "Sharding", kind: Kind::Choice(Sharding::OPTIONS), used: "sharding", applies: Case::trains },
            Setting { key: "ga", label: "Gradient accumulation", kind: Kind::Count, used: "grad_accum", applies: Case::trains },
            Setting { key: "gb", label: "Global batch", kind: Kind::Count, used: "global_batch", applies: Case::trains },
            Setting { key: "capf", label: "Expert capacity factor", kind: Kind::Text("1.25"), used: "expert_capacity_factor", applies: Case::trains },
            Setting { key: "loss", label: "Loss", kind: Kind::Choice(Loss::OPTIONS), used: "loss", applies: Case::trains },
            Setting { key: "off", label: "Offload", kind: Kind::Choice(Offload::OPTIONS), used: "offload", applies: Case::trains },
            Setting { key: "oib", label: "Optimizer in the backward pass", kind: Kind::Switch, used: "", applies: Case::trains },
            Setting { key: "sp", label: "Sequence parallel", kind: Kind::Switch, used: "", applies: Case::trains },
            Setting { key: "ema", label: "Average of the weights (EMA)", kind: Kind::Switch, used: "", applies: Case::trains },
        ],
    },
    Group {
        id: "spread",
        title: "Over several GPUs",
        settings: &[
            Setting {
                key: "tp",
                label: "Tensor parallel",
                kind: Kind::Count,
                used: "tensor_parallel",
                applies: |case| case.is_training || case.engine().is_some(),
            },
            Setting { key: "pp", label: "Pipeline parallel", kind: Kind::Count, used: "pipeline_parallel", applies: |case| case.has(Way::Pipeline) },
            Setting { key: "dp", label: "Data parallel", kind: Kind::Count, used: "data_parallel", applies: |case| case.has(Way::Data) },
            Setting { key: "ep", label: "Expert parallel", kind: Kind::Count, used: "expert_parallel", applies: |case| case.has(Way::Expert) },
            Setting { key: "cp", label: "Context parallel", kind: Kind::Count, used: "context_parallel", applies: |case| case.has(Way::Context) },
            Setting { key: "dpa", label: "Replicate attention alone", kind: Kind::Switch, used: "", applies: |case| case.has(Way::Data) },
        ],
    },
    Group {
        id: "engine",
        title: "Engine",
        settings: &[
            Setting { key: "rv", label: "Version", kind: Kind::Text("0.10.2"), used: "runtime_version", applies: |case| case.takes(EngineSetting::Version) },
            Setting {
                key: "util",
                label: "GPU memory utilization",
                kind: Kind::Share,
                used: "gpu_memory_utilization",
                applies: |case| case.takes(EngineSetting::Utilization),
            },
            Setting {
                key: "static",
                label: "Memory fraction, static",
                kind: Kind::Share,
                used: "mem_fraction_static",
                applies: |case| case.takes(EngineSetting::MemFractionStatic),
            },
            Setting {
                key: "mbt",
                label: "Batched tokens",
                kind: Kind::Count,
                used: "max_num_batched_tokens",
                applies: |case| case.takes(EngineSetting::StepTokens),
            },
            Setting { key: "mns", label: "Sequences", kind: Kind::Count, used: "max_num_seqs", applies: |case| case.takes(EngineSetting::StepSequences) },
            Setting {
                key: "share",
                label: "Common prefix, share of the context",
                kind: Kind::Share,
                used: "",
                applies: |case| case.takes(EngineSetting::PrefixShare),
            },
            Setting {
                key: "offload",
                label: "Weights on the host, GiB per GPU",
                kind: Kind::Gibibytes,
                used: "",
                applies: |case| case.takes(EngineSetting::CpuOffload),
            },
            Setting {
                key: "kvoff",
                label: "KV cache on the host, GiB",
                kind: Kind::Gibibytes,
                used: "",
                applies: |case| case.takes(EngineSetting::KvOffloading),
            },
            Setting { key: "loras", label: "LoRA adapters at once", kind: Kind::Count, used: "", applies: |case| case.takes(EngineSetting::Loras) },
            Setting { key: "rank", label: "Largest LoRA rank", kind: Kind::Count, used: "", applies: |case| case.takes(EngineSetting::Loras) },
            Setting { key: "ans", label: "Tokens of the answer", kind: Kind::Count, used: "answer_tokens", applies: Case::is_transformers },
            Setting { key: "cache", label: "Cache", kind: Kind::Choice(CacheImplementation::OPTIONS), used: "", applies: Case::is_transformers },
            Setting { key: "spec", label: "Drafted tokens (MTP)", kind: Kind::Count, used: "", applies: Case::drafts },
            Setting {
                key: "attn",
                label: "Attention",
                kind: Kind::Choice(AttentionImplementation::OPTIONS),
                used: "attention",
                applies: Case::is_transformers,
            },
            Setting { key: "draft", label: "Draft model", kind: Kind::Text("Qwen/Qwen3-0.6B"), used: "", applies: Case::drafts },
            Setting { key: "eager", label: "Enforce eager", kind: Kind::Switch, used: "", applies: |case| case.takes(EngineSetting::EnforceEager) },
        ],
    },
    Group {
        id: "llama-cpp",
        title: "llama.cpp",
        settings: &[
            Setting { key: "ngl", label: "Layers on the GPU (-ngl)", kind: Kind::Count, used: "gpu_layers", applies: Case::is_llama_cpp },
            Setting { key: "ncmoe", label: "Layers with experts on the host", kind: Kind::Count, used: "n_cpu_moe", applies: Case::is_llama_cpp },
            Setting { key: "ts", label: "Tensor split", kind: Kind::Text("3,1"), used: "tensor_split", applies: Case::is_llama_cpp },
            Setting { key: "ot", label: "Override tensors", kind: Kind::Text("exps=CPU"), used: "override_tensor", applies: Case::is_llama_cpp },
            Setting { key: "ub", label: "Micro-batch (-ub)", kind: Kind::Count, used: "ubatch", applies: Case::is_llama_cpp },
            Setting { key: "np", label: "Slots (-np)", kind: Kind::Count, used: "parallel", applies: Case::is_llama_cpp },
            Setting { key: "fa", label: "Flash attention", kind: Kind::Choice(FlashAttention::OPTIONS), used: "flash_attention", applies: Case::is_llama_cpp },
            Setting { key: "kvk", label: "K cache", kind: Kind::Choice(KvCache::OPTIONS), used: "kv_cache_k", applies: Case::is_llama_cpp },
            Setting { key: "kvv", label: "V cache", kind: Kind::Choice(KvCache::OPTIONS), used: "kv_cache_v", applies: Case::is_llama_cpp },
            Setting { key: "swafull", label: "Whole cache for sliding layers", kind: Kind::Switch, used: "", applies: Case::is_llama_cpp },
            Setting { key: "nkvo", label: "KV cache on the host (-nkvo)", kind: Kind::Switch, used: "", applies: Case::is_llama_cpp },
            Setting { key: "mmproj", label: "Load the encoders (mmproj)", kind: Kind::Switch, used: "", applies: Case::is_llama_cpp },
        ],
    },
    Group {
        id: "picture",
        title: "Pictures",
        settings: &[
            Setting { key: "img", label: "Size of the picture", kind: Kind::Text("1024x1024"), used: "image_size", applies: |case| case.reads_images },
            Setting { key: "imgs", label: "Images in a sample", kind: Kind::Count, used: "images", applies: |case| case.is_training && case.reads_images },
            Setting { key: "sec", label: "Seconds of sound in a sample", kind: Kind::Count, used: "audio_seconds", applies: Case::trains },
            Setting { key: "frames", label: "Frames", kind: Kind::Count, used: "frames", applies: |case| case.is_pipeline },
        ],
    },
];

/// How many settings are not at their defaults.
pub fn changed(scenario: &Scenario) -> usize {
    link::settings(scenario).filter(|(key, _)| all().any(|setting| setting.key == *key)).count()
}

fn all() -> impl Iterator<Item = &'static Setting> {
    GROUPS.iter().flat_map(|group| group.settings)
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
            let case = Case::of(state, scenario);
            let chosen: Vec<(&str, String)> = link::settings(scenario).collect();
            for setting in all() {
                let chosen = chosen.iter().find(|(key, _)| *key == setting.key).map(|(_, value)| value.as_str());
                setting.show(state, chosen, &case);
            }
        });
    });
    for setting in all() {
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
            Kind::Choice(choices) => {
                let mut options = ["<option id='", &id, "-' value=''>Default</option>"].concat();
                for (name, label) in choices {
                    option(&mut options, &id, name, label);
                }
                let select = ["</label><select id='", "' aria-describedby='", "-problem'>"].join(&id);
                let end = ["</select><p class='problem' id='", &id, "-problem' aria-live='polite'></p></div>"].concat();
                dom::weave(out, &[&opening, self.label, &select, "", &options, "", &end]);
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
    fn show(&self, state: AppState, chosen: Option<&str>, case: &Case) {
        let id = self.id();
        dom::flag(&[&id, "-field"].concat(), "hidden", chosen.is_none() && !(self.applies)(case));
        match self.kind {
            Kind::Switch => dom::set_checked(&id, chosen.is_some()),
            _ => {
                dom::set_value(&id, &self.shown(chosen.unwrap_or_default()));
                let used = state.used(self.used);
                let example = if let Kind::Text(example) = self.kind { example } else { "" };
                if let Kind::Choice(choices) = self.kind {
                    let of_name =
                        |name: &str| choices.iter().find(|(known, _)| *known == name).map_or_else(|| name.to_owned(), |(_, label)| (*label).to_owned());
                    let default = used.filter(|_| chosen.is_none()).map_or_else(|| "Default".to_owned(), |used| ["Default: ", &of_name(&used)].concat());
                    dom::text(&[&id, "-"].concat(), &default);
                } else {
                    dom::attribute(&id, "placeholder", used.as_deref().unwrap_or(example));
                }
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
            Kind::Text(_) | Kind::Choice(_) | Kind::Switch => Ok(typed.to_owned()),
        }
    }

    fn complain(&self, why: &str) {
        let id = self.id();
        dom::text(&[&id, "-problem"].concat(), why);
        dom::attribute(&id, "aria-invalid", if why.is_empty() { "false" } else { "true" });
    }
}
