//! Lists of modules that stay unquantised, in the ways in which quantisers write them.
//!
//! A plain name means that module and what is below it, and a short one the modules so called anywhere (`lm_head`, `gate`,
//! `model.layers.0.mlp`); `*` stands for any letters (modelopt, gpt-oss); `re:` begins a Python regular expression from the start
//! of the name (compressed-tensors). Wrappers put `model.` and `language_model.` before names or leave them out, so both are tried.
//!
//! The expressions are matched by a small backtracking matcher with a bound on its steps: what the lists use, look-ahead
//! included, which the linear-time libraries lack, at a fiftieth of their size.

use std::collections::HashSet;

/// Segments that checkpoints come with or without before the rest of a name.
const WRAPPERS: &[&str] = &["model", "language_model", "base_model", "transformer", "text_model"];

/// The same as expressions would spell them.
const PREFIXES: &[&str] = &["", "model.", "model.language_model.", "language_model.model.", "language_model."];

/// Steps that one expression may take on one name.
const STEPS: u32 = 20_000;

/// A list of exceptions.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    /// Plain names without wrappers.
    plain: HashSet<String>,
    globs: Vec<Vec<u8>>,
    expressions: Vec<Vec<Vec<Node>>>,
    /// Entries that could not be read.
    pub unread: Vec<String>,
    names_layers: bool,
}

impl Patterns {
    /// Reads a list.
    pub fn new<'a>(list: impl IntoIterator<Item = &'a str>) -> Self {
        let mut patterns = Self::default();
        for text in list {
            patterns.names_layers |= text.bytes().any(|byte| byte.is_ascii_digit());
            // transformers reads every entry as an expression too; only these letters tell.
            let is_expression = text.contains(['(', '[', '|', '\\', '^', '$']);
            if let Some(expression) = text.strip_prefix("re:").or(is_expression.then_some(text)) {
                match parse(expression.as_bytes()) {
                    Some(alternatives) => patterns.expressions.push(alternatives),
                    None => patterns.unread.push(text.to_owned()),
                }
            } else if text.contains(['*', '?']) {
                patterns.globs.push(without_wrappers(text).as_bytes().to_vec());
            } else {
                patterns.plain.insert(without_wrappers(text.strip_suffix(".weight").unwrap_or(text)).to_owned());
            }
        }
        patterns
    }

    /// True when there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.globs.is_empty() && self.expressions.is_empty()
    }

    /// Whether it may tell layers apart: whether a number stands in it.
    pub fn names_layers(&self) -> bool {
        self.names_layers
    }

    /// Whether a module, by its full name (`model.layers.3.mlp.gate`), is in the list.
    pub fn has(&self, module: &str) -> bool {
        let bare = without_wrappers(module);
        self.has_plain(bare)
            || self.globs.iter().any(|glob| is_glob(glob, bare.as_bytes()))
            || self.expressions.iter().any(|expression| {
                let names = PREFIXES.iter().map(|prefix| format!("{prefix}{bare}")).chain(std::iter::once(module.to_owned()));
                names.into_iter().any(|name| {
                    let mut run = Run { text: name.as_bytes(), steps: STEPS };
                    run.any(expression, 0, &mut |_, _| true)
                })
            })
    }

    /// Whether any run of segments of the name is listed.
    fn has_plain(&self, bare: &str) -> bool {
        if self.plain.is_empty() {
            return false;
        }
        let starts = std::iter::once(0).chain(bare.match_indices('.').map(|(at, _)| at + 1));
        starts.into_iter().any(|start| {
            let rest = &bare[start..];
            let ends = rest.match_indices('.').map(|(at, _)| at).chain(std::iter::once(rest.len()));
            ends.into_iter().any(|end| self.plain.contains(&rest[..end]))
        })
    }
}

/// A name without the segments that wrappers put before it; never empty.
fn without_wrappers(mut name: &str) -> &str {
    while let Some((first, rest)) = name.split_once('.')
        && WRAPPERS.contains(&first)
    {
        name = rest;
    }
    name
}

/// Shell-like: `*` any letters, `?` one; what is below a match belongs to it.
fn is_glob(glob: &[u8], name: &[u8]) -> bool {
    // The place of the last `*` and how much of the name it has taken.
    let (mut at, mut seen, mut star) = (0, 0, None);
    loop {
        match glob.get(at) {
            None if seen == name.len() || name[seen] == b'.' => return true,
            Some(b'*') => {
                star = Some((at + 1, seen));
                at += 1;
                continue;
            }
            Some(&letter) if seen < name.len() && (letter == b'?' || letter == name[seen]) => {
                at += 1;
                seen += 1;
                continue;
            }
            _ => {}
        }
        match star {
            Some((after, taken)) if taken < name.len() => {
                star = Some((after, taken + 1));
                (at, seen) = (after, taken + 1);
            }
            _ => return false,
        }
    }
}

/// A piece of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    /// One letter of a set: its ranges, and whether it is all others instead.
    One(Vec<(u8, u8)>, bool),
    Start,
    End,
    /// One of several.
    Group(Vec<Vec<Node>>),
    /// What follows must, or must not, be one of these.
    Ahead(Vec<Vec<Node>>, bool),
    /// The same thing between so many times.
    Repeat(Box<Node>, usize, usize),
}

/// The alternatives of an expression; `None` where something is not understood.
fn parse(text: &[u8]) -> Option<Vec<Vec<Node>>> {
    let mut parser = Parser { text, at: 0 };
    let alternatives = parser.alternatives(0)?;
    (parser.at == text.len()).then_some(alternatives)
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    /// Brackets within brackets.
    const DEEPEST: usize = 8;

    fn next(&mut self) -> Option<u8> {
        let letter = self.text.get(self.at).copied()?;
        self.at += 1;
        Some(letter)
    }

    fn takes(&mut self, word: &[u8]) -> bool {
        let found = self.text[self.at..].starts_with(word);
        if found {
            self.at += word.len();
        }
        found
    }

    fn alternatives(&mut self, depth: usize) -> Option<Vec<Vec<Node>>> {
        let mut all = vec![Vec::new()];
        while let Some(&letter) = self.text.get(self.at) {
            match letter {
                b')' => break,
                b'|' => {
                    self.at += 1;
                    all.push(Vec::new());
                }
                _ => {
                    let node = self.node(depth)?;
                    let node = self.repeated(node)?;
                    all.last_mut()?.push(node);
                }
            }
        }
        Some(all)
    }

    fn node(&mut self, depth: usize) -> Option<Node> {
        Some(match self.next()? {
            b'^' => Node::Start,
            b'$' => Node::End,
            b'.' => Node::One(Vec::new(), true),
            b'\\' => {
                let letter = self.next()?;
                class(letter)?
            }
            b'[' => self.set()?,
            b'(' if depth < Self::DEEPEST => {
                let ahead = if self.takes(b"?=") { Some(true) } else { self.takes(b"?!").then_some(false) };
                // Names and flags of groups are not read; look-behind neither.
                if ahead.is_none() && !self.takes(b"?:") && self.text.get(self.at) == Some(&b'?') {
                    return None;
                }
                let inner = self.alternatives(depth + 1)?;
                if self.next()? != b')' {
                    return None;
                }
                match ahead {
                    Some(wanted) => Node::Ahead(inner, wanted),
                    None => Node::Group(inner),
                }
            }
            b'*' | b'+' | b'?' | b'(' => return None,
            letter => Node::One(vec![(letter, letter)], false),
        })
    }

    fn set(&mut self) -> Option<Node> {
        let is_negative = self.takes(b"^");
        let mut ranges = Vec::new();
        loop {
            let low = match self.next()? {
                b']' if !ranges.is_empty() => return Some(Node::One(ranges, is_negative)),
                b'\\' => match class(self.next()?)? {
                    Node::One(more, false) => {
                        ranges.extend(more);
                        continue;
                    }
                    _ => return None,
                },
                letter => letter,
            };
            let is_range = self.text.get(self.at) == Some(&b'-') && self.text.get(self.at + 1).is_some_and(|next| *next != b']');
            let high = if is_range {
                self.at += 1;
                self.next()?
            } else {
                low
            };
            ranges.push((low, high));
        }
    }

    fn repeated(&mut self, node: Node) -> Option<Node> {
        let (least, most) = match self.text.get(self.at) {
            Some(b'*') => (0, usize::MAX),
            Some(b'+') => (1, usize::MAX),
            Some(b'?') => (0, 1),
            Some(b'{') => {
                let length = self.text[self.at..].iter().position(|letter| *letter == b'}')?;
                let inner = std::str::from_utf8(&self.text[self.at + 1..self.at + length]).ok()?;
                self.at += length;
                match inner.split_once(',') {
                    Some((least, "")) => (least.parse().ok()?, usize::MAX),
                    Some((least, most)) => (least.parse().ok()?, most.parse().ok()?),
                    None => inner.parse().map(|count| (count, count)).ok()?,
                }
            }
            _ => return Some(node),
        };
        self.at += 1;
        // Whether it takes little or much first changes nothing here.
        self.takes(b"?");
        Some(Node::Repeat(Box::new(node), least, most))
    }
}

/// `\d`, `\w`, `\s` and escaped letters.
fn class(letter: u8) -> Option<Node> {
    Some(match letter {
        b'd' => Node::One(vec![(b'0', b'9')], false),
        b'w' => Node::One(vec![(b'0', b'9'), (b'a', b'z'), (b'A', b'Z'), (b'_', b'_')], false),
        b's' => Node::One(vec![(b' ', b' '), (b'\t', b'\r')], false),
        b'D' => Node::One(vec![(b'0', b'9')], true),
        letter if letter.is_ascii_alphanumeric() => return None,
        letter => Node::One(vec![(letter, letter)], false),
    })
}

/// One expression on one name.
struct Run<'a> {
    text: &'a [u8],
    /// What it may still do.
    steps: u32,
}

/// What must hold behind a match that ends at a place.
type Then<'a> = &'a mut dyn FnMut(&mut Run<'_>, usize) -> bool;

impl Run<'_> {
    fn any(&mut self, alternatives: &[Vec<Node>], at: usize, then: Then<'_>) -> bool {
        alternatives.iter().any(|nodes| self.all(nodes, at, then))
    }

    fn all(&mut self, nodes: &[Node], at: usize, then: Then<'_>) -> bool {
        let Some(steps) = self.steps.checked_sub(1) else { return false };
        self.steps = steps;
        let Some((first, rest)) = nodes.split_first() else { return then(self, at) };
        match first {
            Node::Start => at == 0 && self.all(rest, at, then),
            Node::End => at == self.text.len() && self.all(rest, at, then),
            Node::One(ranges, is_negative) => {
                let is_in = |letter: &u8| ranges.iter().any(|(low, high)| (low..=high).contains(&letter)) != *is_negative;
                self.text.get(at).is_some_and(is_in) && self.all(rest, at + 1, then)
            }
            Node::Group(inner) => self.any(inner, at, &mut |run, end| run.all(rest, end, then)),
            Node::Ahead(inner, wanted) => self.any(inner, at, &mut |_, _| true) == *wanted && self.all(rest, at, then),
            Node::Repeat(node, least, most) => self.repeat(node, (*least, *most), rest, at, then),
        }
    }

    fn repeat(&mut self, node: &Node, (least, most): (usize, usize), rest: &[Node], at: usize, then: Then<'_>) -> bool {
        if least == 0 && self.all(rest, at, then) {
            return true;
        }
        let fewer = (least.saturating_sub(1), most.saturating_sub(1));
        most > 0 && self.all(std::slice::from_ref(node), at, &mut |run, end| end > at && run.repeat(node, fewer, rest, end, then))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(pattern: &str, name: &str) -> bool {
        let patterns = Patterns::new([pattern]);
        assert!(patterns.unread.is_empty(), "{pattern}");
        patterns.has(name)
    }

    #[test]
    fn plain_names_mean_modules() {
        for (pattern, name) in [
            ("lm_head", "lm_head"),
            ("gate", "model.layers.3.mlp.gate"),
            ("model.layers.0", "model.layers.0.self_attn.q_proj"),
            ("model.layers.0.mlp", "layers.0.mlp.up_proj"),
            ("model.vision_tower", "vision_tower.layers.0.fc1"),
            ("language_model.model.layers.1.mlp.gate", "model.language_model.layers.1.mlp.gate"),
            ("model.layers.0.block_sparse_moe.gate.weight", "model.layers.0.block_sparse_moe.gate"),
        ] {
            assert!(has(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("gate", "model.layers.3.mlp.gate_proj"),
            ("model.layers.1", "model.layers.10.self_attn.q_proj"),
            ("lm_head", "model.lm_head_norm"),
            ("model.layers.0.mlp.gate", "model.layers.0.mlp.up_proj"),
        ] {
            assert!(!has(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn stars_stand_for_any_letters() {
        for (pattern, name, expected) in [
            ("model.layers.*.self_attn", "model.layers.7.self_attn.q_proj", true),
            ("model.layers.0*", "model.layers.0.mlp.up_proj", true),
            ("model.layers.0*", "model.layers.10.mlp.up_proj", false),
            ("model.layers.1.*", "model.layers.1.mlp.up_proj", true),
            ("model.layers.1.*", "model.layers.11.mlp.up_proj", false),
            ("*.mlp.gate", "layers.4.mlp.gate", true),
            ("*.mlp.gate", "layers.4.mlp.gate_proj", false),
            ("model.layers.3.self_attn*", "model.layers.3.self_attn.o_proj", true),
            ("layers.?.mlp", "layers.12.mlp", false),
            ("*", "anything.at.all", true),
        ] {
            assert_eq!(has(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn expressions_are_those_of_the_lists() {
        for (pattern, name, expected) in [
            ("re:.*lm_head", "lm_head", true),
            ("re:.*gate$", "model.layers.0.mlp.gate", true),
            ("re:.*gate$", "model.layers.0.mlp.gate_proj", false),
            (r"re:.*mlp\.(gate|up|gate_up|down)_proj.*", "model.layers.0.mlp.up_proj", true),
            (r"re:.*mlp\.(gate|up|gate_up|down)_proj.*", "model.layers.0.mlp.experts.3.up_proj", false),
            ("re:.*self_attn.*", "model.layers.5.self_attn.q_proj", true),
            ("re:visual.*", "model.visual.blocks.0.mlp.fc1", true),
            (r"re:model\.layers\.([0-9]|1[0-9])\..*", "model.layers.19.mlp.up_proj", true),
            (r"re:model\.layers\.([0-9]|1[0-9])\..*", "model.layers.20.mlp.up_proj", false),
            (r"re:^(?!.*experts).*", "model.layers.2.self_attn.q_proj", true),
            (r"re:^(?!.*experts).*", "model.layers.2.mlp.experts.0.up_proj", false),
            (r"re:.*layers\.\d{2}\.mlp", "model.layers.12.mlp.up_proj", true),
            (r"re:.*layers\.\d{2}\.mlp", "model.layers.1.mlp.up_proj", false),
            (r"re:.*[^.]+_proj$", "a.q_proj", true),
            ("re:(q|k)_proj", "layers.0.q_proj", false),
        ] {
            assert_eq!(has(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_not_understood_is_said_and_nothing_runs_away() {
        for bad in ["re:(", "re:a)", "re:*", "re:[", "re:(?<name>x)", r"re:\b", "re:(?<=x)y"] {
            assert_eq!(Patterns::new([bad]).unread, [bad]);
        }
        let deep = format!("re:{}", "(".repeat(1000));
        assert_eq!(Patterns::new([deep.as_str()]).unread.len(), 1);
        // Exponential for a matcher without a bound.
        assert!(!has("re:((a*)*)*b", &"a".repeat(200)));
        assert!(Patterns::new(["layers.0"]).names_layers() && !Patterns::new(["lm_head"]).names_layers());
    }
}
