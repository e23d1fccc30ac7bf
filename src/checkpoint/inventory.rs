//! Which stored tensors an architecture loads, and the run-length coded inventory of both kinds.
//!
//! A tensor belongs to the module that its name gives without the last segment, so every form of a quantised matrix
//! (`qweight`, `scales`, `weight_packed` ...) goes where its plain `weight` would. The base prefix (`model.`,
//! `transformer.`) is ignored, because checkpoints come with and without it; numbers of layers and experts become `{}`.
//!
//! Work and memory grow with the number of stored tensors: a model of a trillion parameters has half a million.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use super::{Header, HeaderTensor, quotable};
use crate::encoding::Encoding;
use crate::format::{Unit, fixed, grouped};
use crate::model::{Anatomy, Files, Role, Tensor, module_and_leaf};
use crate::quantity::{Bytes, GIB, MIB, Overflow, ParamCount};

/// Names of tensors left out that a note lists.
const NAMED: usize = 3;

/// The head, which files of tied models may hold in place of the embedding.
const HEAD: &str = "lm_head";

/// What [`match_inventory`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matched {
    /// The inventory. A tensor of a layer is named by its path in the files with `{}` for the layer and the expert.
    pub files: Files,
    /// What does not agree with the architecture, each a sentence.
    pub notes: Vec<String>,
}

/// Decides which of the stored tensors the architecture loads, over the headers of all files of a model.
///
/// When modules of the architecture are missing, it does not describe the files: then every tensor is loaded, with the role
/// that its name suggests, and a note says so.
///
/// # Errors
/// [`Overflow`] when the sizes add up to more than is possible.
pub fn match_inventory<'a>(anatomy: &Anatomy, headers: impl Iterator<Item = &'a Header>) -> Result<Matched, Overflow> {
    let mut matcher = Matcher::new(anatomy);
    for header in headers {
        matcher.add(header)?;
    }
    matcher.finish()
}

/// [`match_inventory`] file by file, for callers that do not keep the headers. The order of the files does not matter.
pub struct Matcher {
    base: String,
    /// The architecture's modules in its order.
    expected: Vec<Module>,
    by_path: HashMap<String, usize>,
    /// Names of stored tensors with their numbers taken out.
    patterns: Vec<Pattern>,
    by_name: HashMap<String, usize>,
    seen: HashSet<(usize, Place)>,
    found: HashSet<(usize, Place)>,
    groups: HashMap<Group, Members>,
    files: Files,
}

/// A module of the architecture.
struct Module {
    path: String,
    role: Role,
    /// Whether it stands outside the layers.
    is_outside: bool,
    /// The layers that have it, in order.
    spans: Vec<Span>,
}

/// Layers in a row, and the experts that the module has in each.
struct Span {
    layers: Range<u64>,
    experts: Option<u64>,
}

/// The numbers in a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Place {
    layer: Option<u64>,
    expert: Option<u64>,
}

/// A name with `{}` for its numbers, without the base prefix.
struct Pattern {
    name: String,
    /// Whether the files have it with the base prefix.
    has_base: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Standing {
    /// A module of the architecture, by its number in [`Matcher::expected`].
    Expected(usize),
    /// Not in the architecture.
    Extra,
    /// Another tensor has its name.
    Repeated,
}

/// What tensors share that are told together.
#[derive(PartialEq, Eq, Hash)]
struct Group {
    pattern: usize,
    standing: Standing,
    shape: Vec<u64>,
    dtype: &'static str,
}

/// The tensors of a [`Group`].
struct Members {
    encoding: Encoding,
    bytes: Bytes,
    /// How many there are in each layer.
    per_layer: BTreeMap<Option<u64>, u64>,
}

impl Matcher {
    /// A matcher that has seen no file.
    pub fn new(anatomy: &Anatomy) -> Self {
        let base = anatomy.components.first().map_or("", |component| component.base.as_ref());
        let mut matcher = Self {
            base: if base.is_empty() { String::new() } else { format!("{base}.") },
            expected: Vec::new(),
            by_path: HashMap::new(),
            patterns: Vec::new(),
            by_name: HashMap::new(),
            seen: HashSet::new(),
            found: HashSet::new(),
            groups: HashMap::new(),
            files: Files::default(),
        };
        for component in anatomy.counted() {
            for tensor in &component.tensors {
                let module = matcher.expect(module_of(&tensor.name), tensor.role);
                module.is_outside = true;
            }
            let mut first: u64 = 0;
            for run in &component.layers {
                let layers = first..first.saturating_add(run.count);
                for tensor in &run.tensors {
                    let module = matcher.expect(&format!("{}.{{}}.{}", component.layer_prefix, module_of(&tensor.name)), tensor.role);
                    module.extend(layers.clone(), tensor.name.contains("experts.{}").then_some(tensor.count));
                }
                first = layers.end;
            }
        }
        matcher
    }

    fn expect(&mut self, path: &str, role: Role) -> &mut Module {
        let path = path.strip_prefix(&self.base).unwrap_or(path).to_owned();
        let number = *self.by_path.entry(path.clone()).or_insert(self.expected.len());
        if number == self.expected.len() {
            self.expected.push(Module { path, role, is_outside: false, spans: Vec::new() });
        }
        &mut self.expected[number]
    }

    /// Takes in the header of one file.
    ///
    /// # Errors
    /// [`Overflow`] when the sizes add up to more than is possible.
    pub fn add(&mut self, header: &Header) -> Result<(), Overflow> {
        self.files.count += 1;
        header.tensors.iter().try_for_each(|tensor| self.add_tensor(tensor))
    }

    /// Different tensors taken in so far.
    pub fn tensors(&self) -> usize {
        self.seen.len()
    }

    fn add_tensor(&mut self, tensor: &HeaderTensor) -> Result<(), Overflow> {
        let bytes = Bytes(tensor.end).minus(Bytes(tensor.begin))?;
        let elements = tensor.shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n)).ok_or(Overflow)?;
        self.files.bytes = self.files.bytes.plus(bytes)?;
        self.files.elements = self.files.elements.plus(ParamCount(elements))?;

        let bare = tensor.name.strip_prefix(&self.base);
        let name = bare.unwrap_or(&tensor.name);
        let is_outside = self.by_path.get(module_of(name)).is_some_and(|&number| self.expected[number].is_outside);
        let (pattern, place) = if is_outside { (name.to_owned(), Place::default()) } else { take_numbers(name) };
        let module = self.by_path.get(module_of(&pattern)).copied().filter(|&number| self.expected[number].has(place));
        let pattern = self.intern(pattern, bare.is_some());
        let standing = match module {
            _ if !self.seen.insert((pattern, place)) => Standing::Repeated,
            Some(number) => {
                self.found.insert((number, place));
                Standing::Expected(number)
            }
            None => Standing::Extra,
        };
        let group = Group { pattern, standing, shape: tensor.shape.clone(), dtype: tensor.encoding.name };
        let members = self.groups.entry(group).or_insert_with(|| Members { encoding: tensor.encoding, bytes: Bytes::ZERO, per_layer: BTreeMap::new() });
        members.bytes = members.bytes.plus(bytes)?;
        *members.per_layer.entry(place.layer).or_insert(0) += 1;
        Ok(())
    }

    fn intern(&mut self, name: String, has_base: bool) -> usize {
        if let Some(&number) = self.by_name.get(&name) {
            self.patterns[number].has_base |= has_base;
            return number;
        }
        self.by_name.insert(name.clone(), self.patterns.len());
        self.patterns.push(Pattern { name, has_base });
        self.patterns.len() - 1
    }

    /// The inventory of all files taken in.
    ///
    /// # Errors
    /// [`Overflow`] when the sizes add up to more than is possible.
    pub fn finish(mut self) -> Result<Matched, Overflow> {
        let substitute = self.head_for_embedding();
        let missing = self.missing(substitute);
        let mut notes = Vec::new();
        if let Some((count, first)) = &missing {
            let total = self.expected.iter().map(Module::occurrences).fold(0, u64::saturating_add);
            notes.push(format!(
                "{} of the {} modules that config.json describes are not in the files (first: `{}`): every stored tensor is counted as loaded",
                grouped(*count),
                grouped(total),
                quotable(first)
            ));
        }

        let (mut loaded, mut left) = (Rows::default(), Rows::default());
        let (mut repeated, mut repeated_bytes) = (0, Bytes::ZERO);
        for (group, members) in std::mem::take(&mut self.groups) {
            let pattern = &self.patterns[group.pattern];
            let place = match group.standing {
                Standing::Repeated => {
                    repeated += members.count();
                    repeated_bytes = repeated_bytes.plus(members.bytes)?;
                    None
                }
                _ if missing.is_some() => Some((0, guess_role(&pattern.name))),
                Standing::Expected(number) => Some((number, self.expected[number].role)),
                Standing::Extra if substitute.is_some() && module_of(&pattern.name) == HEAD => Some((0, Role::Embedding)),
                Standing::Extra => None,
            };
            let name = if pattern.has_base { format!("{}{}", self.base, pattern.name) } else { pattern.name.clone() };
            match place {
                Some((order, role)) => loaded.add(Key { order, name, shape: group.shape, dtype: group.dtype }, role, members)?,
                None => left.add(Key { order: 0, name, shape: group.shape, dtype: group.dtype }, guess_role(&pattern.name), members)?,
            }
        }
        if repeated > 0 {
            let (tensors, are) = plural(repeated);
            notes.push(format!("{tensors} ({}) {are} in the files more than once; one copy of each is counted", size(repeated_bytes)));
        }
        if left.count > repeated {
            let (tensors, are) = plural(left.count);
            let more = if left.by_key.len() > NAMED { ", ..." } else { "" };
            let names: Vec<String> = left.by_key.keys().take(NAMED).map(|key| format!("`{}`", quotable(&key.name))).collect();
            notes.push(format!("{tensors} ({}) of the files {are} not loaded: {}{more}", size(left.bytes), names.join(", ")));
        }
        self.files.loaded = loaded.into_tensors();
        self.files.left = left.into_tensors();
        Ok(Matched { files: self.files, notes })
    }

    /// The embedding's number when only the head that is tied to it is stored.
    fn head_for_embedding(&self) -> Option<usize> {
        let embedding = self.expected.iter().position(|module| module.role == Role::Embedding && module.is_outside)?;
        let is_stored = |path: &str| self.patterns.iter().any(|pattern| module_of(&pattern.name) == path);
        let is_tied = !self.by_path.contains_key(HEAD);
        (is_tied && is_stored(HEAD) && !self.found.contains(&(embedding, Place::default()))).then_some(embedding)
    }

    /// How many modules of the architecture are not in the files, and the first of them; `None` when all are.
    fn missing(&self, substitute: Option<usize>) -> Option<(u64, String)> {
        let mut found: HashMap<usize, u64> = HashMap::new();
        for (number, _) in &self.found {
            *found.entry(*number).or_insert(0) += 1;
        }
        let mut missing: Option<(u64, String)> = None;
        for (number, module) in self.expected.iter().enumerate().filter(|(number, _)| substitute != Some(*number)) {
            let lacking = module.occurrences().saturating_sub(found.get(&number).copied().unwrap_or(0));
            if lacking > 0 {
                missing = Some(match missing {
                    Some((count, first)) => (count.saturating_add(lacking), first),
                    None => {
                        // At most one step more than there are tensors in the files.
                        let first = module.places().find(|place| !self.found.contains(&(number, *place)));
                        (lacking, put_numbers(&module.path, first.unwrap_or_default()))
                    }
                });
            }
        }
        missing
    }
}

impl Module {
    /// Adds layers after those it has.
    fn extend(&mut self, layers: Range<u64>, experts: Option<u64>) {
        match self.spans.last_mut() {
            // Another tensor of the same module.
            Some(last) if last.layers.end >= layers.end => {}
            Some(last) if last.layers.end == layers.start && last.experts == experts => last.layers.end = layers.end,
            _ => self.spans.push(Span { layers, experts }),
        }
    }

    /// Whether the architecture has it there.
    fn has(&self, place: Place) -> bool {
        let Some(layer) = place.layer else { return self.is_outside && place.expert.is_none() };
        let at = self.spans.partition_point(|span| span.layers.end <= layer);
        self.spans.get(at).is_some_and(|span| {
            span.layers.contains(&layer)
                && match (span.experts, place.expert) {
                    (Some(count), Some(expert)) => expert < count,
                    (experts, expert) => experts.is_none() && expert.is_none(),
                }
        })
    }

    /// How often the architecture has it.
    fn occurrences(&self) -> u64 {
        let in_layers = |span: &Span| (span.layers.end - span.layers.start).saturating_mul(span.experts.unwrap_or(1));
        self.spans.iter().map(in_layers).fold(u64::from(self.is_outside), u64::saturating_add)
    }

    /// Where the architecture has it.
    fn places(&self) -> impl Iterator<Item = Place> + '_ {
        let outside = self.is_outside.then(Place::default);
        let in_layers = self.spans.iter().flat_map(|span| {
            let experts = move || (0..span.experts.unwrap_or(1)).map(move |expert| span.experts.map(|_| expert));
            span.layers.clone().flat_map(move |layer| experts().map(move |expert| Place { layer: Some(layer), expert }))
        });
        outside.into_iter().chain(in_layers)
    }
}

impl Members {
    fn count(&self) -> u64 {
        self.per_layer.values().sum()
    }
}

/// By what rows are sorted: the architecture's order, then the name.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    order: usize,
    name: String,
    shape: Vec<u64>,
    dtype: &'static str,
}

#[derive(Default)]
struct Rows {
    by_key: BTreeMap<Key, (Role, Members)>,
    count: u64,
    bytes: Bytes,
}

impl Rows {
    fn add(&mut self, key: Key, role: Role, members: Members) -> Result<(), Overflow> {
        self.count += members.count();
        self.bytes = self.bytes.plus(members.bytes)?;
        let empty = Members { encoding: members.encoding, bytes: Bytes::ZERO, per_layer: BTreeMap::new() };
        let (_, row) = self.by_key.entry(key).or_insert((role, empty));
        row.bytes = row.bytes.plus(members.bytes)?;
        for (layer, count) in members.per_layer {
            *row.per_layer.entry(layer).or_insert(0) += count;
        }
        Ok(())
    }

    /// One tensor, with the number of layers, for each count per layer that occurs.
    fn into_tensors(self) -> Vec<(Tensor, u64)> {
        let mut tensors = Vec::new();
        for (key, (role, members)) in self.by_key {
            let mut layers_by_count: BTreeMap<u64, u64> = BTreeMap::new();
            for count in members.per_layer.into_values() {
                *layers_by_count.entry(count).or_insert(0) += 1;
            }
            for (count, layers) in layers_by_count {
                let tensor = Tensor { name: key.name.clone(), role, shape: key.shape.clone(), count, stored: Some(members.encoding) };
                tensors.push((tensor, layers));
            }
        }
        tensors
    }
}

/// The module of a tensor, by its name.
fn module_of(name: &str) -> &str {
    module_and_leaf(name).0
}

/// The name with `{}` for the number after `experts` and for the first other number, which is the layer's.
fn take_numbers(name: &str) -> (String, Place) {
    let (mut pattern, mut place) = (String::with_capacity(name.len()), Place::default());
    let mut previous = "";
    for (index, segment) in name.split('.').enumerate() {
        let slot = if previous == "experts" { &mut place.expert } else { &mut place.layer };
        if index > 0 {
            pattern.push('.');
        }
        match number(segment) {
            Some(number) if slot.is_none() => {
                *slot = Some(number);
                pattern.push_str("{}");
            }
            _ => pattern.push_str(segment),
        }
        previous = segment;
    }
    (pattern, place)
}

/// The pattern of a module of the architecture as a name.
fn put_numbers(path: &str, place: Place) -> String {
    [place.layer, place.expert].into_iter().flatten().fold(path.to_owned(), |path, number| path.replacen("{}", &number.to_string(), 1))
}

/// A segment that is a number as Python writes one.
fn number(segment: &str) -> Option<u64> {
    let is_plain = segment.bytes().all(|byte| byte.is_ascii_digit()) && (segment == "0" || !segment.starts_with('0'));
    is_plain.then(|| segment.parse().ok()).flatten()
}

/// The role that the name of a stored tensor suggests.
fn guess_role(pattern: &str) -> Role {
    match Role::of_module(module_of(pattern)) {
        // Fused experts are parameters themselves: `experts.gate_up_proj`.
        Role::Other => Role::of_module(pattern),
        role => role,
    }
}

/// `1 tensor` and `is`, `12 tensors` and `are`.
fn plural(count: u64) -> (String, &'static str) {
    if count == 1 { ("1 tensor".to_owned(), "is") } else { (format!("{} tensors", grouped(count)), "are") }
}

/// A size in the unit that suits it.
fn size(bytes: Bytes) -> String {
    match bytes.get() {
        n if n >= GIB => Unit::Gib.text(bytes),
        n if n >= MIB => format!("{} MiB", fixed(n, MIB, 1)),
        n => format!("{} bytes", grouped(n)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const LLAMA: &str = r#"{"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2,
        "num_hidden_layers": 3, "vocab_size": 100}"#;
    const MIXTRAL: &str = r#"{"model_type": "mixtral", "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2,
        "num_hidden_layers": 2, "vocab_size": 100, "num_local_experts": 4, "num_experts_per_tok": 2}"#;

    fn anatomy(config: &str) -> Anatomy {
        config::read(config).unwrap()
    }

    fn tied() -> Anatomy {
        anatomy(&LLAMA.replacen('{', "{\"tie_word_embeddings\": true, ", 1))
    }

    fn stored(name: &str, encoding: Encoding, shape: &[u64]) -> HeaderTensor {
        let end = encoding.bytes_for(shape.iter().product()).unwrap().get();
        HeaderTensor { name: name.to_owned(), encoding, shape: shape.to_vec(), begin: 0, end }
    }

    /// Every tensor of the architecture as files hold them.
    fn written(anatomy: &Anatomy) -> Vec<HeaderTensor> {
        let component = &anatomy.components[0];
        let mut tensors: Vec<HeaderTensor> = component.tensors.iter().map(|tensor| stored(&tensor.name, Encoding::BF16, &tensor.shape)).collect();
        let mut first = 0;
        for run in &component.layers {
            for layer in first..first + run.count {
                for tensor in &run.tensors {
                    for expert in 0..tensor.count {
                        let name = format!("{}.{layer}.{}", component.layer_prefix, tensor.name.replace("{}", &expert.to_string()));
                        tensors.push(stored(&name, Encoding::BF16, &tensor.shape));
                    }
                }
            }
            first += run.count;
        }
        tensors
    }

    fn matched(anatomy: &Anatomy, tensors: Vec<HeaderTensor>) -> Matched {
        match_inventory(anatomy, [Header { tensors, metadata: Vec::new() }].iter()).unwrap()
    }

    fn elements(tensors: &[(Tensor, u64)]) -> u64 {
        tensors.iter().map(|(tensor, times)| tensor.elements().unwrap().get() * times).sum()
    }

    #[test]
    fn files_of_the_architecture_are_loaded_whole() {
        for config in [LLAMA, MIXTRAL] {
            let anatomy = anatomy(config);
            let parameters = anatomy.parameters().unwrap().get();
            let with_base = matched(&anatomy, written(&anatomy));
            assert_eq!(with_base.notes, [""; 0]);
            assert_eq!(elements(&with_base.files.loaded), parameters);
            assert_eq!((with_base.files.elements, with_base.files.bytes, with_base.files.count), (ParamCount(parameters), Bytes(2 * parameters), 1));
            let bare = |tensor: HeaderTensor| HeaderTensor { name: tensor.name.strip_prefix("model.").unwrap_or(&tensor.name).to_owned(), ..tensor };
            let without_base = matched(&anatomy, written(&anatomy).into_iter().map(bare).collect());
            assert_eq!(without_base.notes, [""; 0]);
            assert_eq!(elements(&without_base.files.loaded), parameters);
            let roles = |matched: &Matched| matched.files.loaded.iter().map(|(tensor, times)| (tensor.role, tensor.count, *times)).collect::<Vec<_>>();
            assert_eq!(roles(&with_base), roles(&without_base));
        }
    }

    #[test]
    fn layers_and_experts_are_run_length_coded() {
        let anatomy = anatomy(MIXTRAL);
        let files = matched(&anatomy, written(&anatomy)).files;
        let (expert, layers) = files.loaded.iter().find(|(tensor, _)| tensor.role == Role::ExpertDown).unwrap();
        assert_eq!((expert.name.as_str(), expert.count, *layers), ("model.layers.{}.block_sparse_moe.experts.{}.w2.weight", 4, 2));
        assert_eq!(expert.stored, Some(Encoding::BF16));
        assert_eq!(files.loaded[0].0.name, "model.embed_tokens.weight");
        assert_eq!(files.loaded.len(), 3 + 4 + 1 + 3 + 2);
    }

    #[test]
    fn the_order_of_the_files_does_not_matter() {
        let anatomy = anatomy(MIXTRAL);
        let headers: Vec<Header> = written(&anatomy).into_iter().map(|tensor| Header { tensors: vec![tensor], metadata: Vec::new() }).collect();
        assert_eq!(match_inventory(&anatomy, headers.iter()), match_inventory(&anatomy, headers.iter().rev()));
    }

    #[test]
    fn buffers_and_extra_modules_are_left() {
        let anatomy = tied();
        let mut tensors = written(&anatomy);
        for layer in 0..3 {
            tensors.push(stored(&format!("model.layers.{layer}.self_attn.rotary_emb.inv_freq"), Encoding::F32, &[8]));
        }
        tensors.push(stored("model.layers.3.self_attn.q_proj.weight", Encoding::BF16, &[64, 64]));
        tensors.push(stored("lm_head.weight", Encoding::BF16, &[100, 64]));
        let matched = matched(&anatomy, tensors);
        assert_eq!(elements(&matched.files.loaded), anatomy.parameters().unwrap().get());
        assert_eq!(
            matched.notes,
            ["5 tensors (21,088 bytes) of the files are not loaded: `lm_head.weight`, `model.layers.{}.self_attn.q_proj.weight`, \
                 `model.layers.{}.self_attn.rotary_emb.inv_freq`"]
        );
        let times: Vec<u64> = matched.files.left.iter().map(|(_, times)| *times).collect();
        assert_eq!(times, [1, 1, 3]);
    }

    #[test]
    fn a_tied_head_stands_for_a_missing_embedding() {
        let anatomy = tied();
        let renamed = |tensor: HeaderTensor| match tensor.name.as_str() {
            "model.embed_tokens.weight" => HeaderTensor { name: "lm_head.weight".into(), ..tensor },
            _ => tensor,
        };
        let matched = matched(&anatomy, written(&anatomy).into_iter().map(renamed).collect());
        assert_eq!(matched.notes, [""; 0]);
        let head = matched.files.loaded.iter().find(|(tensor, _)| tensor.name == "lm_head.weight").unwrap();
        assert_eq!(head.0.role, Role::Embedding);
        assert_eq!(elements(&matched.files.loaded), anatomy.parameters().unwrap().get());
    }

    #[test]
    fn files_that_lack_modules_are_loaded_as_they_are() {
        let anatomy = anatomy(LLAMA);
        let mut tensors = written(&anatomy);
        tensors.retain(|tensor| !tensor.name.contains("layers.1.mlp"));
        tensors.push(stored("visual.blocks.7.mlp.up_proj.weight", Encoding::F16, &[4, 4]));
        tensors.push(stored("model.layers.1.mlp.experts.gate_up_proj", Encoding::F16, &[4, 4, 8]));
        let total: u64 = tensors.iter().map(|tensor| tensor.shape.iter().product::<u64>()).sum();
        let matched = matched(&anatomy, tensors);
        assert_eq!(
            matched.notes,
            ["3 of the 30 modules that config.json describes are not in the files (first: `layers.1.mlp.gate_proj`): every stored tensor is counted as loaded"]
        );
        assert!(matched.files.left.is_empty());
        assert_eq!(elements(&matched.files.loaded), total);
        let role = |name: &str| matched.files.loaded.iter().find(|(tensor, _)| tensor.name == name).unwrap().0.role;
        assert_eq!(role("visual.blocks.{}.mlp.up_proj.weight"), Role::Up);
        assert_eq!(role("model.layers.{}.mlp.experts.gate_up_proj"), Role::ExpertGateUp);
    }

    #[test]
    fn quantised_forms_go_with_their_module() {
        let anatomy = anatomy(LLAMA);
        let mut tensors = written(&anatomy);
        tensors.retain(|tensor| tensor.name != "model.layers.0.mlp.up_proj.weight");
        let packed = Encoding::from_safetensors("I32").unwrap();
        tensors.push(stored("model.layers.0.mlp.up_proj.qweight", packed, &[8, 128]));
        tensors.push(stored("model.layers.0.mlp.up_proj.scales", Encoding::F16, &[1, 128]));
        let matched = matched(&anatomy, tensors);
        assert_eq!(matched.notes, [""; 0]);
        let up: Vec<_> = matched.files.loaded.iter().filter(|(tensor, _)| tensor.role == Role::Up).map(|(tensor, times)| (tensor.stored, *times)).collect();
        assert_eq!(up, [(Some(packed), 1), (Some(Encoding::F16), 1), (Some(Encoding::BF16), 2)]);
    }

    #[test]
    fn second_copies_count_once() {
        let anatomy = anatomy(LLAMA);
        let mut tensors = written(&anatomy);
        tensors.push(stored("model.norm.weight", Encoding::BF16, &[64]));
        let matched = matched(&anatomy, tensors);
        assert_eq!(matched.notes, ["1 tensor (128 bytes) is in the files more than once; one copy of each is counted"]);
        assert_eq!(elements(&matched.files.loaded), anatomy.parameters().unwrap().get());
    }

    #[test]
    fn sums_that_do_not_fit_are_errors() {
        let huge = |name: &str| HeaderTensor { name: name.to_owned(), encoding: Encoding::F8_E4M3, shape: vec![1 << 63], begin: 0, end: 1 << 63 };
        let headers = [Header { tensors: vec![huge("a"), huge("b")], metadata: Vec::new() }];
        assert_eq!(match_inventory(&anatomy(LLAMA), headers.iter()), Err(Overflow));
    }

    #[test]
    fn only_plain_numbers_are_taken_out() {
        let place = |layer, expert| Place { layer, expert };
        for (name, pattern, numbers) in [
            ("layers.12.mlp.experts.7.w1.weight", "layers.{}.mlp.experts.{}.w1.weight", place(Some(12), Some(7))),
            ("experts.7.w1", "experts.{}.w1", place(None, Some(7))),
            ("h.01.x", "h.01.x", place(None, None)),
            ("h.+1.x", "h.+1.x", place(None, None)),
            ("a.1.b.2.c", "a.{}.b.2.c", place(Some(1), None)),
            ("a.99999999999999999999.b", "a.99999999999999999999.b", place(None, None)),
            ("", "", place(None, None)),
            (".", ".", place(None, None)),
        ] {
            assert_eq!(take_numbers(name), (pattern.to_owned(), numbers), "{name}");
        }
    }
}
