//! What an engine loads at all: which methods of quantisation, which families whose decoder reads across, and by the rules of which
//! versions it is answered.
//!
//! Only what a source shows to be refused is refused, at a version between those that were read ([`tables`]). Where they are silent it is
//! answered, with a warning. Where only older versions load a model and none was named, the newest of those is taken, and said.

mod mlx;
mod split;
mod tables;

use std::borrow::Cow;

use super::transformers::has_plan;
use super::{EstimateError, across};
use crate::estimate::{Choice, Estimate};
use crate::model::{Model, Origin};
use crate::scenario::{Runtime, Scenario, Version, Weights};
use crate::weight_format::Method;
pub(crate) use tables::OLDEST_VLLM;
use tables::{List, Loads, Miss, loads};

/// Donut as vLLM has it: `model_type` is that of every vision encoder with a text decoder.
const DONUT: &str = "donut";

/// What TGI makes of unquantised files (`--quantize bitsandbytes`, `bitsandbytes-nf4`, `bitsandbytes-fp4`, `eetq`).
const MADE_WHILE_LOADING: &[&str] = &["bitsandbytes", "eetq"];

/// Families that `generate()` of transformers guides by default (`guidance_scale` of their `generation_config.json`): every request is two rows.
const GUIDED: &[&str] = &["musicgen", "musicgen_melody", "dia"];

/// The method of quantisation that is loaded, and whether it is the repository's own; `None` for plain dtypes and what names none.
fn method(model: &Model, asked: Weights) -> Option<(&str, bool)> {
    match crate::weights::meant(model, asked).0 {
        Weights::AsStored if model.provenance.source == Origin::Gguf => Some(("gguf", true)),
        Weights::AsStored => {
            let method = model.anatomy.quantization.as_ref().map(|quantization| quantization.method.as_str())?;
            (!matches!(method, "" | "unnamed")).then_some((method, true))
        }
        Weights::Mix(_) => Some(("gguf", false)),
        Weights::Scheme(named, _) => Some((name_of(named.scheme.method), false)),
        Weights::Plain(_) | Weights::Bytes(_) => None,
    }
}

/// What configs call files of a format that is asked for by name.
pub(crate) const fn name_of(method: Method) -> &'static str {
    match method {
        Method::Gptq => "gptq",
        Method::AutoRound => "auto-round",
        Method::Awq => "awq",
        Method::CompressedTensors | Method::Nvfp4 | Method::Mxfp => "compressed-tensors",
        Method::LlmInt8 | Method::Nf4 | Method::Fp4 => "bitsandbytes",
        Method::Fp8 => "fp8",
        Method::Hqq => "hqq",
        Method::Sinq => "sinq",
        Method::Mlx | Method::MlxMxfp | Method::MlxNvfp4 => "mlx",
        Method::Exl2 => "exl2",
        Method::Exl3 => "exl3",
        Method::TorchAo | Method::TorchAoFp8 => "torchao",
        Method::Quanto | Method::QuantoFp8 => "quanto",
        Method::Eetq => "eetq",
        Method::Aqlm => "aqlm",
        Method::Vptq => "vptq",
        Method::Higgs => "higgs",
        Method::Gemma => "gemma",
        Method::BitNet => "bitnet",
    }
}

/// A scenario whose version loads the model, with what is to be said of it.
pub(crate) struct Settled<'a> {
    /// The scenario, with a version where the newest does not load it.
    pub scenario: Cow<'a, Scenario>,
    reason: Option<String>,
    assumptions: Vec<String>,
    warnings: Vec<String>,
}

/// Settles by which version it is answered.
///
/// # Errors
/// [`EstimateError::Unsupported`] where a source shows that the engine loads no such model.
pub(crate) fn settle<'a>(model: &Model, scenario: &'a Scenario) -> Result<Settled<'a>, EstimateError> {
    let mut settled = Settled { scenario: Cow::Borrowed(scenario), reason: None, assumptions: Vec::new(), warnings: Vec::new() };
    if model.is_pipeline() {
        return Ok(settled);
    }
    let (loads, label, named) = (loads(scenario.runtime), scenario.runtime.label(), scenario.serving.runtime_version);
    if across::is_read(model) {
        let family = family(model);
        let what = Thing { name: family, said: format!("`{family}` (its decoder reads what an encoder or an image gives)"), advice: served_by(family) };
        settled.hold(loads, &loads.across, &what, true)?;
    }
    if let Some((method, is_own)) = method(model, scenario.weights)
        && !(scenario.runtime == Runtime::Tgi && !is_own && MADE_WHILE_LOADING.contains(&method))
    {
        let said = if method == "gguf" { "GGUF files".to_owned() } else { format!("weights quantised with `{method}`") };
        settled.hold(loads, &loads.methods, &Thing { name: method, said, advice: loaded_by(method) }, is_own)?;
        if scenario.runtime == Runtime::Mlx && is_own {
            mlx::settle_method(model, method, &mut settled)?;
        }
    }
    if scenario.runtime == Runtime::Mlx {
        settled.warnings.extend(mlx::without_family(model));
    }
    let torn = split::torn(model, &settled.scenario);
    settled.warnings.extend(torn);
    if scenario.runtime == Runtime::Sglang {
        settled.warnings.extend(within_tensor(scenario));
    }
    if matches!(scenario.runtime, Runtime::Vllm | Runtime::Sglang) && model.anatomy.model_type == "deepseek_v4" {
        settled.warnings.push(EIGHT_BITS.to_owned());
    }
    if scenario.runtime == Runtime::Transformers {
        if GUIDED.contains(&model.anatomy.model_type.as_str()) {
            let sentence = "this family generates with guidance unless guidance_scale is 1: every request is two rows, one without its prompt; name twice as many requests";
            settled.warnings.push(sentence.to_owned());
        }
        if let Some(version) = named.filter(|&version| {
            version != loads.read.1 && model.provenance.source != Origin::Manual && !has_plan(model) && scenario.tensor_parallel.is_some_and(|ranks| ranks > 1)
        }) {
            settled.warnings.push(format!(
                "transformers {} has no tp_plan for `{}`; whether {version} has was not read: counted as if it split the model",
                loads.read.1, model.anatomy.model_type
            ));
        }
    }
    if let (Some(version), Some((oldest, besides))) = (named, loads.oldest)
        && version < oldest
    {
        settled.assumptions.push(format!("{label} {version} is older than the rules here: those of {oldest} are used{besides}"));
    }
    Ok(settled)
}

/// vLLM 0.33 `v1/kv_cache_interface.py` and `v1/attention/backends/mla/sparse_swa.py`; SGLang's pool has the same layout.
const EIGHT_BITS: &str = "this engine keeps DeepSeek V4's keys and values by default in 584 bytes for each 512 values (448 in 8 bits, 64 in 16, and scales): what is counted here for 512 values is 1.75 times as much in 16 bits, and 0.88 times in 8. Layers that compress also keep a window (sliding_window), which is not counted";

/// Of replicas of attention, which SGLang counts among its tensor-parallel ranks (`--tp 8 --dp 2` is 8 GPUs).
fn within_tensor(scenario: &Scenario) -> Option<String> {
    let (tensor, data) = (scenario.tensor_parallel?, scenario.parallel.data?);
    let is_theirs = scenario.parallel.data_attention && tensor > 1 && data > 1 && tensor.is_multiple_of(data);
    is_theirs.then(|| {
        format!(
            "SGLang counts replicas of attention among its tensor-parallel ranks: its own --tp {tensor} --dp {data} is {tensor} GPUs, and --tp {} --dp {data} here, where {tensor} × {data} are counted",
            tensor / data
        )
    })
}

/// The name that a family has in the tables.
fn family(model: &Model) -> &str {
    match model.anatomy.types() {
        ["vision-encoder-decoder", "mbart"] => DONUT,
        [family, _] => family,
    }
}

/// Engines that have a row, each with the versions.
fn having(list: impl Fn(&Loads) -> List, name: &str) -> Vec<String> {
    let said = |runtime: &Runtime| {
        let row = list(loads(*runtime)).row(name)?;
        let until = row.until.map_or(String::new(), |(last, _)| format!(" up to {last}"));
        let plugin = row.plugin.map_or(String::new(), |plugin| format!(" (later with {plugin})"));
        Some(format!("{}{until}{plugin}", runtime.label()))
    };
    Runtime::ALL.iter().filter_map(said).collect()
}

/// What else loads a method.
fn loaded_by(method: &str) -> String {
    let labels = having(|loads| loads.methods, method);
    if labels.is_empty() { "choose other files, or a format with --weights".to_owned() } else { format!("they are loaded by {}", labels.join(", ")) }
}

/// What else serves a family that reads across; transformers has them all.
fn served_by(family: &str) -> String {
    let mut labels = having(|loads| loads.across, family);
    labels.push(Runtime::Transformers.label().to_owned());
    format!("it is served by {}", labels.join(", "))
}

/// What is looked up in a list.
struct Thing<'a> {
    name: &'a str,
    said: String,
    advice: String,
}

/// What a list says of a name at a version.
enum Verdict {
    Loaded,
    /// Only with a flag.
    Flagged,
    /// The newest version that was read with it, where none was named.
    By(Version),
    /// Not known, and why.
    Unsure(String),
    /// Why not.
    Refused(String),
}

/// Looks a name up. A version is refused only between two that were read.
fn verdict(loads: &Loads, list: &List, name: &str, named: Option<Version>) -> Verdict {
    let (oldest, newest) = loads.read;
    let version = named.unwrap_or(newest);
    let is_within = (oldest..=newest).contains(&version);
    let Some(row) = list.row(name) else {
        return match list.miss {
            Miss::Passed => Verdict::Loaded,
            Miss::Refused if is_within => Verdict::Refused(String::new()),
            Miss::Refused => Verdict::Unsure(format!("{newest} does not, and what {version} loads was not read")),
            Miss::Said => Verdict::Unsure("the files that were read have none".to_owned()),
        };
    };
    match (row.since, row.until) {
        (_, Some((last, _))) if named.is_none() => Verdict::By(last),
        (_, Some((last, gone))) if version >= gone => match row.plugin {
            Some(plugin) => Verdict::Unsure(format!("{last} does by itself, later versions with {plugin}, whose memory was not read")),
            None if is_within => Verdict::Refused(format!("up to {last}, not in {version}")),
            None => Verdict::Unsure(format!("{last} does and {gone} does not; what {version} loads was not read")),
        },
        (_, Some((last, gone))) if version > last => Verdict::Unsure(format!("{last} does and {gone} does not; what {version} loads was not read")),
        (Some((without, with)), _) if version <= without && is_within => Verdict::Refused(format!("since {with}, not in {version}")),
        (Some((without, with)), _) if version < with => Verdict::Unsure(format!("{with} does and {without} does not; what {version} loads was not read")),
        _ if version < oldest => Verdict::Unsure(format!("{oldest} does, and what {version} loads was not read")),
        _ if row.flagged.is_some_and(|(first, last)| (first..=last).contains(&version)) => Verdict::Flagged,
        _ => Verdict::Loaded,
    }
}

impl Settled<'_> {
    /// Holds a list against the version. What somebody asks what-if about is said; what the files are is refused.
    fn hold(&mut self, loads: &Loads, list: &List, thing: &Thing, is_own: bool) -> Result<(), EstimateError> {
        let (label, said) = (self.scenario.runtime.label(), &thing.said);
        let named = self.scenario.serving.runtime_version;
        match verdict(loads, list, thing.name, named) {
            Verdict::Loaded => {}
            Verdict::Flagged => {
                let version = named.unwrap_or(loads.read.1);
                self.warnings.push(format!("{label} {version} loads {said} only with --allow-deprecated-quantization"));
            }
            Verdict::By(last) => {
                let newest = loads.read.1;
                let plugin = list.row(thing.name).and_then(|row| row.plugin).map_or(String::new(), |plugin| format!(" without {plugin}"));
                self.scenario.to_mut().serving.runtime_version = Some(last);
                self.reason = Some(format!("the newest known that loads {said}"));
                self.warnings.push(format!("{label} {newest} does not load {said}{plugin}: this is the answer for {last}, the newest known that does"));
                // That version may ask for a flag.
                return self.hold(loads, list, thing, is_own);
            }
            Verdict::Unsure(why) => self.warnings.push(format!("whether {label} loads {said} is not known: {why}")),
            Verdict::Refused(when) => {
                let sentence = if when.is_empty() {
                    format!("{label} does not load {said}: {}", thing.advice)
                } else {
                    format!("{label} loads {said} {when}: {}", thing.advice)
                };
                if is_own {
                    return Err(EstimateError::Unsupported(sentence));
                }
                self.warnings.push(sentence);
            }
        }
        Ok(())
    }

    /// Says in the answer what was settled.
    pub fn say_in(self, answer: &mut Estimate) {
        let choice = answer.choices.iter_mut().find(|choice| choice.key == "runtime_version");
        if let (Some(choice), Some(reason)) = (choice, self.reason) {
            *choice = Choice { default: Some(reason), ..choice.clone() };
        }
        answer.assumptions.extend(self.assumptions);
        answer.warnings.extend(self.warnings);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The lists of every version of vLLM that was read.
    const READ: &str = include_str!("../../../tests/fixtures/vllm_loads.jsonl");

    /// Names that no config had before the method with another name was there, and that overrides map.
    const ALIASES: &[&str] = &["auto_gptq", "auto_awq", "cpu_awq", "modelopt_fp4", "modelopt_mxfp8", "modelopt_mixed", "gpt_oss_mxfp4", "inc", "auto-round"];

    #[test]
    fn vllm_loads_what_each_version_lists() {
        let loads = loads(Runtime::Vllm);
        let rows: Vec<Value> = READ.lines().map(|line| serde_json::from_str(line).expect("a row of JSON")).collect();
        let mut wrong = Vec::new();
        for (list, key) in [(&loads.methods, "methods"), (&loads.across, "families")] {
            let listed = |row: &Value, key: &str, name: &str| row[key].as_array().is_some_and(|names| names.iter().any(|one| one == name));
            let names: std::collections::BTreeSet<&str> =
                rows.iter().flat_map(|row| row[key].as_array().into_iter().flatten()).filter_map(Value::as_str).collect();
            assert!(names.len() > 6, "{key}");
            for (row, name) in rows.iter().flat_map(|row| names.iter().map(move |name| (row, *name))) {
                let version: Version = row["version"].as_str().expect("a version").parse().expect("a version");
                let (is_listed, is_flagged) = (listed(row, key, name), key == "methods" && listed(row, "deprecated", name));
                let is_right = match verdict(loads, list, name, Some(version)) {
                    Verdict::Loaded => (is_listed && !is_flagged) || ALIASES.contains(&name),
                    Verdict::Flagged => is_listed && is_flagged || ALIASES.contains(&name),
                    Verdict::Refused(_) => !is_listed,
                    // A plugin's, where the engine itself has it no more.
                    Verdict::Unsure(_) => !is_listed && list.row(name).is_some_and(|row| row.plugin.is_some()),
                    Verdict::By(_) => false,
                };
                if !is_right {
                    wrong.push(format!("{name} at {version}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join(", "));
    }

    /// What no source shows is answered.
    #[test]
    fn versions_that_were_not_read_are_never_refused() {
        for runtime in Runtime::ALL {
            let loads = loads(*runtime);
            for list in [&loads.methods, &loads.across] {
                let names = list.rows.iter().flat_map(|row| row.names).chain(&["of_tomorrow"]);
                for (name, version) in names.flat_map(|name| [Version(0, 0, 1), Version(99, 0, 0)].map(|version| (name, version))) {
                    let is_read = (loads.read.0..=loads.read.1).contains(&version);
                    assert!(is_read || !matches!(verdict(loads, list, name, Some(version)), Verdict::Refused(_)), "{runtime:?} {name} {version}");
                }
            }
        }
    }
}
