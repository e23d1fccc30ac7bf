//! `quantization_config` to a [`Quantization`]: which formats it describes, and which tensors have which.
//!
//! A method is a row of [`METHODS`](methods::METHODS) with its reader. What a reader finds are rules by module name; they are
//! resolved here to the tensors of the architecture, once, so that an estimate need not look at names.

mod codebooks;
mod gptq;
mod headers;
mod methods;
mod patterns;
mod tensors;

use serde_json::{Map, Value};

use super::{ConfigError, Fields};
use crate::model::{Anatomy, Assigned, Item, Quantization, is_taken};
use crate::weight_format::{Group, Scheme};
pub use headers::quantization_of_files;
use patterns::Patterns;

/// What a method says.
#[derive(Default)]
struct Said {
    /// The formats; the first is that of all modules that no rule names.
    schemes: Vec<Scheme>,
    /// Modules and the format that they have (by its number), or none; the first rule that fits counts.
    rules: Vec<(Patterns, Option<usize>)>,
    /// Whether modules that no rule names stay as they were.
    only_named: bool,
    /// Modules whose files leave out two weights of every four.
    sparse: Option<Sparse>,
    /// What is to be known of such files.
    note: Option<&'static str>,
}

/// Modules of which two weights in four are zero and left out.
struct Sparse {
    /// The modules that are meant; `None` for all that have a format.
    targets: Option<Patterns>,
    /// Those of them that are whole.
    ignored: Patterns,
}

impl Said {
    /// One format for everything but the modules of a list.
    fn one(scheme: Scheme, left: &[&str]) -> Self {
        Self { schemes: vec![scheme], rules: vec![(Patterns::new(left.iter().copied()), None)], ..Self::default() }
    }

    /// Adds the halved copy of every format, each as far behind its own as there are formats.
    fn halve(&mut self, sparse: Sparse) {
        let halves: Vec<Scheme> = self.schemes.iter().map(|scheme| scheme.two_of_four()).collect();
        self.schemes.extend(halves);
        self.sparse = Some(sparse);
    }

    /// The number of the format of a module that has this one.
    fn halved(&self, module: &str, scheme: usize) -> usize {
        let is_in = |sparse: &&Sparse| sparse.targets.as_ref().is_none_or(|targets| targets.has(module)) && !sparse.ignored.has(module);
        scheme + self.sparse.as_ref().filter(is_in).map_or(0, |_| self.schemes.len() / 2)
    }

    /// The number of a format, which is added if it is new.
    fn number(&mut self, scheme: Scheme) -> usize {
        self.schemes.iter().position(|known| *known == scheme).unwrap_or_else(|| {
            self.schemes.push(scheme);
            self.schemes.len() - 1
        })
    }

    /// Gives modules a format, before all rules that come later.
    fn rule<'a>(&mut self, modules: impl IntoIterator<Item = &'a str>, scheme: Option<Scheme>) {
        let scheme = scheme.map(|scheme| self.number(scheme));
        self.rules.push((Patterns::new(modules), scheme));
    }
}

/// Where configs keep it. MLX writes its own object besides; its `quantization_config` is a copy of that.
const KEYS: [&str; 3] = ["quantization_config", "compression_config", "quantization"];

/// The object that describes the quantisation: of the config, of the language model in it, or the file beside it.
pub(super) fn object(f: &Fields, text: Option<&Fields>, beside: Option<&Value>) -> Result<Option<Map<String, Value>>, ConfigError> {
    for fields in std::iter::once(f).chain(text) {
        for key in KEYS {
            match fields.raw(key) {
                None => {}
                Some(Value::Object(object)) if object.is_empty() => {}
                Some(Value::Object(object)) => {
                    let mut object = object.clone();
                    // MLX writes its object twice.
                    fields.touch_copies(&KEYS, &object);
                    // DeepSeek V4 says it outside, and transformers moves it in.
                    if let Some(dtype) = fields.raw("expert_dtype") {
                        object.entry("expert_dtype").or_insert_with(|| dtype.clone());
                    }
                    return Ok(Some(object));
                }
                // Other tools' keys of the same name.
                Some(_) if key == "quantization" => {}
                Some(_) => return Err(fields.impossible(key, "it must be an object")),
            }
        }
    }
    Ok(beside.and_then(Value::as_object).cloned())
}

/// Reads the object for this architecture, whose assumptions get what is left open.
pub(super) fn read(object: &Map<String, Value>, anatomy: &mut Anatomy) -> Quantization {
    let about = About(object);
    let method = about.method();
    let said = methods::METHODS.iter().find(|(names, _)| names.contains(&method.as_str())).and_then(|(_, read)| read(about));
    let Some(said) = said.filter(|said| !said.schemes.is_empty()) else {
        return Quantization { method, ..Quantization::default() };
    };
    let unread: Vec<String> = said.rules.iter().flat_map(|(patterns, _)| patterns.unread.iter().cloned()).collect();
    if !unread.is_empty() {
        let assumption = format!("{} entries of the list of unquantised modules are not understood (first: `{}`): they name nothing", unread.len(), unread[0]);
        anatomy.assumptions.push(assumption);
    }
    let mut assigned: Vec<Assigned> = anatomy.inventory().flat_map(|item| said.assign(&item)).collect();
    let is_halved = |one: &Assigned| said.sparse.is_none() || one.scheme >= said.schemes.len() / 2;
    anatomy.assumptions.extend(said.note.filter(|_| assigned.iter().any(is_halved)).map(str::to_owned));
    let Said { mut schemes, sparse, .. } = said;
    if sparse.is_some() {
        // A format and its half are seldom both used.
        let used: Vec<usize> = (0..schemes.len()).filter(|number| assigned.iter().any(|one| one.scheme == *number)).collect();
        for one in &mut assigned {
            one.scheme = used.iter().position(|number| *number == one.scheme).unwrap_or_default();
        }
        schemes = used.into_iter().filter_map(|number| schemes.get(number).copied()).collect();
    }
    Quantization { method, schemes, assigned }
}

impl Said {
    /// The layers of one tensor that have a format, in order.
    fn assign(&self, item: &Item<'_>) -> Vec<Assigned> {
        let mut all: Vec<Assigned> = Vec::new();
        let Some(columns) = item.matrix().ok().map(|matrix| matrix.columns).filter(|_| item.tensor.is_matrix()) else { return all };
        let by_default = || {
            let scheme = self.schemes.first().filter(|_| !self.only_named)?;
            is_taken(scheme.takes, item.is_main(), item.is_in_layer(), item.tensor).then_some(0)
        };
        let default = by_default();
        let names_modules = self.rules.iter().any(|(_, scheme)| scheme.is_some());
        if default.is_none() && !names_modules {
            return all;
        }
        let of_layer = |layer: u64| {
            let module = item.module(layer);
            let rule = self.rules.iter().find(|(patterns, _)| patterns.has(&module));
            let scheme = rule.map_or(default, |(_, scheme)| *scheme).filter(|scheme| self.schemes[*scheme].fits(columns));
            scheme.map(|scheme| self.halved(&module, scheme))
        };
        let of_sparse = self.sparse.iter().flat_map(|sparse| sparse.targets.iter().chain([&sparse.ignored]));
        let tells_layers = self.rules.iter().map(|(patterns, _)| patterns).chain(of_sparse).any(Patterns::names_layers);
        let mut add = |layers: std::ops::Range<u64>, scheme: Option<usize>| {
            let Some(scheme) = scheme else { return };
            match all.last_mut() {
                Some(last) if last.scheme == scheme && last.layers.end == layers.start => last.layers.end = layers.end,
                _ => all.push(Assigned { place: item.place, layers, scheme }),
            }
        };
        if tells_layers && item.is_in_layer() {
            item.layers.clone().for_each(|layer| add(layer..layer + 1, of_layer(layer)));
        } else {
            add(item.layers.clone(), of_layer(item.layers.start));
        }
        all
    }
}

/// An object about quantisation, read leniently: what is not there or of another kind is not said.
#[derive(Clone, Copy)]
struct About<'a>(&'a Map<String, Value>);

impl<'a> About<'a> {
    /// `quant_method` in the spelling of engines (they read it without regard to case, and with either mark), or the method that other
    /// keys give away.
    fn method(self) -> String {
        if let Some(method) = self.text("quant_method") {
            return method.to_ascii_lowercase().replace("compressed_tensors", "compressed-tensors");
        }
        let by_key = [
            ("load_in_4bit", "bitsandbytes"),
            ("load_in_8bit", "bitsandbytes"),
            ("config_groups", "compressed-tensors"),
            ("quant_algo", "modelopt"),
            ("producer", "modelopt"),
            ("quantization", "modelopt"),
            ("w_bit", "awq"),
            ("global_quant_config", "quark"),
        ];
        match by_key.iter().find(|(key, _)| self.0.contains_key(*key)) {
            Some((_, method)) => (*method).to_owned(),
            None if self.0.contains_key("bits") && self.0.contains_key("group_size") => "mlx".to_owned(),
            None => "unnamed".to_owned(),
        }
    }

    fn get(self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn text(self, key: &str) -> Option<&'a str> {
        self.get(key)?.as_str()
    }

    fn flag(self, key: &str) -> Option<bool> {
        self.get(key)?.as_bool()
    }

    /// A whole number of bits or values, at most a million.
    fn count(self, key: &str) -> Option<u64> {
        self.get(key)?.as_u64().filter(|count| (1..=1 << 20).contains(count))
    }

    fn object(self, key: &str) -> Option<Self> {
        self.get(key)?.as_object().map(Self)
    }

    /// A list of texts; a single text is a list too.
    fn texts(self, key: &str) -> Option<Vec<&'a str>> {
        match self.get(key)? {
            Value::String(text) => Some(vec![text]),
            Value::Array(list) => Some(list.iter().filter_map(Value::as_str).collect()),
            _ => None,
        }
    }

    /// Objects under their keys.
    fn objects(self) -> impl Iterator<Item = (&'a str, Self)> {
        self.0.iter().filter_map(|(key, value)| Some((key.as_str(), Self(value.as_object()?))))
    }

    /// The modules that stay unquantised, under whichever name the list has; `None` where there is none.
    fn left(self) -> Option<Vec<&'a str>> {
        LISTS.iter().find_map(|key| self.texts(key))
    }

    /// `group_size`: a number of inputs; -1 or 0 for whole rows; the default where it is not said.
    fn group(self, default: Group) -> Group {
        match self.get("group_size") {
            None => default,
            Some(_) => self.count("group_size").map_or(Group::Row, Group::Inputs),
        }
    }
}

/// What quantisers call the list of unquantised modules.
const LISTS: &[&str] = &[
    "modules_to_not_convert",
    "ignore",
    "exclude_modules",
    "llm_int8_skip_modules",
    "skip_modules",
    "linear_weights_not_to_quantize",
    "exclude",
    "ignored_layers",
];
