//! Which stored tensors an architecture loads, and the run-length coded inventory of both kinds.
//!
//! A tensor belongs to the module that its name gives without the last segment, so every form of a quantised matrix
//! (`qweight`, `scales`, `weight_packed` ...) goes where its plain `weight` would. The base prefix (`model.`,
//! `transformer.`) is ignored, because checkpoints come with and without it; numbers of layers and experts become `{}`.
//!
//! Work and memory grow with the number of stored tensors: a model of a trillion parameters has half a million.

mod module;
mod names;
mod rows;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Header, HeaderTensor, quotable};
use crate::format::{Unit, fixed, grouped};
use crate::model::{Anatomy, Files, Role, Tensor};
use crate::quantity::{Bytes, GIB, MIB, Overflow, ParamCount};
use module::{Module, Place};
use names::{guess_role, module_of, put_numbers, take_numbers};
use rows::{Key, Members, Rows};

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
    /// Tensors outside the layers that the class which wrote the files does not have, with the numbers of their modules.
    anew: Vec<(usize, Tensor)>,
    /// Names of stored tensors with their numbers taken out.
    patterns: Vec<Pattern>,
    by_name: HashMap<String, usize>,
    seen: HashSet<(usize, Place)>,
    found: HashSet<(usize, Place)>,
    groups: HashMap<Group, Members>,
    files: Files,
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

impl Matcher {
    /// A matcher that has seen no file.
    pub fn new(anatomy: &Anatomy) -> Self {
        let base = anatomy.components.first().map_or("", |component| component.base.as_ref());
        let mut matcher = Self {
            base: if base.is_empty() { String::new() } else { format!("{base}.") },
            expected: Vec::new(),
            by_path: HashMap::new(),
            anew: Vec::new(),
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

    /// The same for files that another class of the family wrote: what that one does not have, a pooler say, transformers makes anew
    /// (`from_pretrained`: "newly initialized") when the files lack it, in the dtype of the rest.
    #[must_use]
    pub fn written_by(mut self, anatomy: &Anatomy, writer: &Anatomy) -> Self {
        let written = Self::new(writer).by_path;
        for tensor in anatomy.counted().flat_map(|component| &component.tensors) {
            let path = module_of(&tensor.name);
            let path = path.strip_prefix(&self.base).unwrap_or(path);
            if let Some(&number) = self.by_path.get(path).filter(|_| !written.contains_key(path)) {
                self.anew.push((number, tensor.clone()));
            }
        }
        self
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
        let found = &self.found;
        self.anew.retain(|(number, _)| !found.contains(&(*number, Place::default())));
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
        if missing.is_none() && !self.anew.is_empty() {
            notes.extend(loaded.make(&self.anew)?);
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
        let is_anew = |number| self.anew.iter().any(|(anew, _)| *anew == number);
        for (number, module) in self.expected.iter().enumerate().filter(|(number, _)| substitute != Some(*number) && !is_anew(*number)) {
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
