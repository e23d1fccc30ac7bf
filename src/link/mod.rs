//! Scenario <-> URL: a readable query with short keys, defaults left out, versioned. A token is never in it.

mod llama_cpp;
mod serving;
mod training;

use serde::{Deserialize, Serialize};

use crate::quantity::{Bytes, Decimal};
use crate::scenario::{Picture, Scenario, UnknownChoice};
use crate::weight_format::UnknownFormat;

/// The version that links carry.
pub const VERSION: &str = "1";

/// What a link says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Link {
    /// The model.
    pub model: Option<ModelLink>,
    /// The Hub's address, when it is not the default one.
    pub endpoint: Option<String>,
    /// The scenario.
    pub scenario: Scenario,
    /// Keys that are not known here; kept and passed on.
    pub unknown: Vec<(String, String)>,
    /// What could not be read, each a sentence.
    pub problems: Vec<String>,
}

/// The model of a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModelLink {
    /// A repository, with the revision that was read.
    Hub {
        /// `ORG/NAME`.
        id: String,
        /// A branch, tag or commit.
        revision: Option<String>,
    },
    /// A pasted config.json.
    Config(String),
    /// A model by hand: its sizes as [`crate::config::manual`] writes them.
    Manual(String),
    /// Files of one's own, by the name of the first: a link cannot carry them, only say that it meant them.
    Files(String),
}

/// One scenario key: how it is written, and how it is read.
struct Key {
    name: &'static str,
    write: fn(&Scenario) -> Option<String>,
    read: fn(&mut Scenario, &str) -> Result<(), String>,
}

macro_rules! count {
    ($name:literal, $($field:ident).+) => {
        Key {
            name: $name,
            write: |scenario| scenario.$($field).+.map(|value| value.to_string()),
            read: |scenario, text| {
                scenario.$($field).+ = Some(whole(text)?);
                Ok(())
            },
        }
    };
}

macro_rules! choice {
    ($name:literal, $($field:ident).+) => {
        Key {
            name: $name,
            write: |scenario| (scenario.$($field).+ != Scenario::default().$($field).+).then(|| scenario.$($field).+.name().to_owned()),
            read: |scenario, text| {
                scenario.$($field).+ = text.parse().map_err(|error: UnknownChoice| error.to_string())?;
                Ok(())
            },
        }
    };
}

macro_rules! parsed {
    ($name:literal, $kind:ty, $($field:ident).+) => {
        Key {
            name: $name,
            write: |scenario| scenario.$($field).+.as_ref().map(ToString::to_string),
            read: |scenario, text| {
                scenario.$($field).+ = Some(text.parse::<$kind>().map_err(|error| error.to_string())?);
                Ok(())
            },
        }
    };
}

macro_rules! switch {
    ($name:literal, $($field:ident).+) => {
        Key {
            name: $name,
            write: |scenario| scenario.$($field).+.then(|| "1".to_owned()),
            read: |scenario, text| {
                scenario.$($field).+ = text != "0";
                Ok(())
            },
        }
    };
}

macro_rules! bytes {
    ($name:literal, $($field:ident).+) => {
        Key {
            name: $name,
            write: |scenario| scenario.$($field).+.map(|bytes| bytes.get().to_string()),
            read: |scenario, text| {
                scenario.$($field).+ = Some(Bytes(whole(text)?));
                Ok(())
            },
        }
    };
}

use {bytes, choice, count, parsed, switch};

/// The scenario's keys by group, in the order in which links have them.
static GROUPS: &[&[Key]] = &[BASE, serving::PARALLEL, serving::SERVING, training::TRAINING, llama_cpp::LLAMA_CPP];

fn keys() -> impl Iterator<Item = &'static Key> {
    GROUPS.iter().copied().flatten()
}

static BASE: &[Key] = &[
    Key {
        name: "gpu",
        // No GPU but a capacity is a choice too: an empty name.
        write: |scenario| (scenario.gpu != Scenario::default().gpu).then(|| scenario.gpu.clone().unwrap_or_default()),
        read: |scenario, text| {
            scenario.gpu = Some(text.to_owned()).filter(|name| !name.is_empty());
            Ok(())
        },
    },
    bytes!("cap", gpu_capacity),
    count!("n", gpus),
    count!("tp", tensor_parallel),
    choice!("task", task),
    choice!("rt", runtime),
    count!("ctx", context),
    count!("b", batch),
    Key {
        name: "w",
        write: |scenario| (scenario.weights != Scenario::default().weights).then(|| scenario.weights.name().into_owned()),
        read: |scenario, text| {
            scenario.weights = text.parse().map_err(|error: UnknownFormat| error.to_string())?;
            Ok(())
        },
    },
    choice!("kv", kv_cache),
    parsed!("util", Decimal, gpu_memory_utilization),
    count!("mbt", max_num_batched_tokens),
    count!("mns", max_num_seqs),
    switch!("eager", enforce_eager),
    choice!("attn", attention),
    Key {
        name: "img",
        write: |scenario| scenario.picture.size.map(|(width, height)| format!("{width}x{height}")),
        read: |scenario, text| {
            scenario.picture.size = Some(Picture::parse_size(text)?);
            Ok(())
        },
    },
    Key {
        name: "frames",
        write: |scenario| scenario.picture.frames.map(|frames| frames.to_string()),
        read: |scenario, text| {
            scenario.picture.frames = Some(Picture::parse_frames(text)?);
            Ok(())
        },
    },
    count!("imgs", picture.count),
];

/// The settings of a scenario that are not at their defaults, as links write them: keys and values.
pub fn settings(scenario: &Scenario) -> impl Iterator<Item = (&'static str, String)> + '_ {
    keys().filter_map(|key| Some((key.name, (key.write)(scenario)?)))
}

/// Changes a setting as links write it; an empty text means its default.
///
/// # Errors
///
/// A sentence about what is wrong with the text; the scenario is as before.
pub fn set(scenario: &mut Scenario, key: &str, text: &str) -> Result<(), String> {
    let mut changed = Scenario::default();
    for known in keys() {
        let value = if known.name == key { Some(text.to_owned()).filter(|text| !text.is_empty()) } else { (known.write)(scenario) };
        if let Some(value) = value {
            (known.read)(&mut changed, &value)?;
        }
    }
    *scenario = changed;
    Ok(())
}

fn whole(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is not a whole number"))
}

impl Link {
    /// The query, without the question mark.
    pub fn encode(&self) -> String {
        let mut pairs = vec![("v", VERSION.to_owned())];
        match &self.model {
            Some(ModelLink::Hub { id, revision }) => {
                pairs.push(("m", id.clone()));
                pairs.extend(revision.clone().map(|revision| ("rev", revision)));
            }
            Some(ModelLink::Config(text)) => pairs.push(("c", text.clone())),
            Some(ModelLink::Manual(sizes)) => pairs.push(("manual", sizes.clone())),
            Some(ModelLink::Files(name)) => pairs.push(("f", name.clone())),
            None => {}
        }
        pairs.extend(self.endpoint.clone().map(|endpoint| ("endpoint", endpoint)));
        for (name, value) in settings(&self.scenario) {
            pairs.push((name, value));
        }
        pairs.extend(self.unknown.iter().map(|(name, value)| (name.as_str(), value.clone())));
        pairs.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect::<Vec<_>>().join("&")
    }

    /// Reads a query, with or without its question mark. What cannot be read is said in `problems`; the rest is used.
    pub fn decode(query: &str) -> Self {
        let mut link = Self::default();
        let (mut id, mut revision, mut config, mut manual, mut files) = (None, None, None, None, None);
        for pair in query.trim_start_matches('?').split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (unescape(name), unescape(value));
            match name.as_str() {
                "v" if value == VERSION => {}
                "v" => link.problems.push(format!("this link has version {value}, this page reads version {VERSION}: some of it may be missing")),
                "m" => id = Some(value).filter(|id| !id.is_empty()),
                "rev" => revision = Some(value).filter(|revision| !revision.is_empty()),
                "c" => config = Some(value),
                "manual" => manual = Some(value).filter(|sizes| !sizes.is_empty()),
                "f" => files = Some(value).filter(|name| !name.is_empty()),
                "endpoint" => link.endpoint = Some(value).filter(|endpoint| !endpoint.is_empty()),
                name_text => match keys().find(|key| key.name == name_text) {
                    Some(key) => {
                        if let Err(why) = (key.read)(&mut link.scenario, &value) {
                            link.problems.push(format!("`{name}` in this link is left at its default: {why}"));
                        }
                    }
                    None => link.unknown.push((name, value)),
                },
            }
        }
        let named = id.map(|id| ModelLink::Hub { id, revision });
        link.model = config.map(ModelLink::Config).or(manual.map(ModelLink::Manual)).or(named).or(files.map(ModelLink::Files));
        for (name, _) in &link.unknown {
            link.problems.push(format!("`{name}` in this link is not known here and changes nothing"));
        }
        link
    }
}

/// Percent-encoding that keeps what reads well in a query.
fn escape(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' | b':' | b',' | b'@' | b'{' | b'}' | b'[' | b']' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            other => {
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
    out
}

/// The reverse; what is not valid stays as it is.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |offset: usize| bytes.get(at + offset).and_then(|byte| char::from(*byte).to_digit(16));
        match (bytes[at], hex(1), hex(2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                at += 3;
            }
            (b'+', ..) => {
                out.push(b' ');
                at += 1;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{AttentionImplementation, FlashAttention, KvCache, LlamaCpp, Picture, Runtime};

    #[test]
    fn defaults_are_left_out_and_links_read_well() {
        assert_eq!(Link::default().encode(), "v=1");
        let link = Link {
            model: Some(ModelLink::Hub { id: "mistralai/Mistral-7B-v0.1".into(), revision: None }),
            scenario: Scenario { gpu: Some("GeForce RTX 4090".into()), context: Some(32_768), kv_cache: KvCache::Fp8, ..Scenario::default() },
            ..Link::default()
        };
        assert_eq!(link.encode(), "v=1&m=mistralai/Mistral-7B-v0.1&gpu=GeForce+RTX+4090&ctx=32768&kv=fp8");
        assert_eq!(Link::decode(&link.encode()), link);
    }

    #[test]
    fn everything_comes_back() {
        let link = Link {
            model: Some(ModelLink::Config(r#"{"model_type":"llama","x":"a&b=c+d %41 é"}"#.into())),
            endpoint: Some("http://127.0.0.1:8000".into()),
            scenario: Scenario {
                gpu: None,
                gpu_capacity: Some(Bytes(12_345)),
                gpus: Some(2),
                tensor_parallel: Some(2),
                runtime: Runtime::Transformers,
                context: Some(1),
                batch: Some(7),
                weights: "exl2-4.65".parse().unwrap(),
                kv_cache: KvCache::Fp32,
                gpu_memory_utilization: Some("0.85".parse().unwrap()),
                max_num_batched_tokens: Some(4096),
                max_num_seqs: Some(64),
                enforce_eager: true,
                llama_cpp: LlamaCpp {
                    gpu_layers: Some(20),
                    tensor_split: vec!["3".parse().unwrap(), "1.5".parse().unwrap()],
                    cpu_moe_layers: Some(4),
                    overrides: vec!["blk\\.[0-9]\\.=CUDA1".parse().unwrap(), "exps=CPU".parse().unwrap()],
                    ubatch: Some(256),
                    flash_attention: FlashAttention::Off,
                    swa_full: true,
                    no_kv_offload: true,
                    parallel: Some(3),
                    kv_cache_k: Some(KvCache::Q8_0),
                    kv_cache_v: Some(KvCache::Iq4Nl),
                    mmproj: true,
                },
                attention: AttentionImplementation::Eager,
                picture: Picture { size: Some((1280, 720)), frames: Some(81), count: Some(2) },
                ..Scenario::default()
            },
            ..Link::default()
        };
        assert_eq!(Link::decode(&link.encode()), link);
    }

    #[test]
    fn files_on_the_hub_and_files_of_ones_own_come_back() {
        for model in [
            ModelLink::Hub { id: "hf://org/name/UD Q2/m-00001-of-00002.gguf".into(), revision: Some("0123abc".into()) },
            ModelLink::Files("my model.gguf".into()),
            ModelLink::Manual("layers:32,hidden:4096,kv-heads:8".into()),
        ] {
            let link = Link { model: Some(model), ..Link::default() };
            assert_eq!(Link::decode(&link.encode()), link);
        }
        let manual = Link { model: Some(ModelLink::Manual("layers:32,hidden:4096".into())), ..Link::default() };
        assert_eq!(manual.encode(), "v=1&manual=layers:32,hidden:4096");
    }

    #[test]
    fn one_setting_is_set_and_taken_back() {
        let mut scenario = Scenario { batch: Some(3), ..Scenario::default() };
        set(&mut scenario, "pp", "4").unwrap();
        assert_eq!((scenario.parallel.pipeline, settings(&scenario).find(|(key, _)| *key == "pp")), (Some(4), Some(("pp", "4".to_owned()))));
        assert!(set(&mut scenario, "util", "lots").is_err());
        set(&mut scenario, "pp", "").unwrap();
        assert_eq!(scenario, Scenario { batch: Some(3), ..Scenario::default() });
    }

    #[test]
    fn what_cannot_be_read_is_said_and_kept() {
        let link = Link::decode("?v=1&m=a/b&ctx=lots&future=%E2%9C%93&b=3&bad=%");
        assert_eq!(link.scenario.batch, Some(3));
        assert_eq!(link.scenario.context, None);
        assert_eq!(link.problems.len(), 3, "{:?}", link.problems);
        assert!(link.encode().contains("future=%E2%9C%93"));
        assert_eq!(Link::decode("v=9").problems.len(), 1);
    }

    proptest::proptest! {
        #[test]
        fn any_query_does_no_harm_and_its_link_leads_back(query in r"[?]?((v|m|rev|c|f|manual|endpoint|ctx|b|tp|w|gpu|util|x)=[a-z0-9:,/+%.-]{0,12}&?){0,8}|\PC{0,60}") {
            let link = Link::decode(&query);
            let again = Link::decode(&link.encode());
            proptest::prop_assert_eq!((&again.model, &again.endpoint, &again.scenario, &again.unknown), (&link.model, &link.endpoint, &link.scenario, &link.unknown));
        }
    }
}
