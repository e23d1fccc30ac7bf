//! Lists of modules that stay unquantised, in the ways in which quantisers write them.
//!
//! A plain name means that module and what is below it (`model.layers.0.mlp`), and one without a wrapper before it the modules so called
//! anywhere (`lm_head`, `gate`); to compressed-tensors it means that module alone. `*` stands for any letters (modelopt, gpt-oss); `re:`
//! begins a Python regular expression from the start of the name (compressed-tensors). Wrappers put `model.` and `language_model.` before
//! names or leave them out, so both are tried.

use std::collections::HashSet;

use regex_lite::{Regex, RegexBuilder};

/// Segments that checkpoints come with or without before the rest of a name.
const WRAPPERS: &[&str] = &["model", "language_model", "base_model", "transformer", "text_model"];

/// The same as expressions would spell them.
const PREFIXES: &[&str] = &["", "model.", "model.language_model.", "language_model.model.", "language_model."];

/// The longest expression, and how large it may become.
const EXPRESSION_LENGTH: usize = 1000;
const EXPRESSION_SIZE: usize = 1 << 18;

/// A list of exceptions.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    /// Plain names, which may stand anywhere.
    plain: HashSet<String>,
    /// Plain names that began with a wrapper, without it: from the first segment on.
    rooted: HashSet<String>,
    /// Whether a plain name means that module alone, not what is below it.
    is_exact: bool,
    globs: Vec<Vec<u8>>,
    expressions: Vec<Expression>,
    /// Entries that could not be read.
    pub unread: Vec<String>,
    names_layers: bool,
}

/// A regular expression over names.
#[derive(Clone, Debug)]
struct Expression {
    /// It matches where any of these does.
    tests: Vec<Test>,
    /// Whether it is true of the names that do not match.
    is_negative: bool,
}

/// What an expression asks of a name. Most of them are letters with `.*` around, which take no engine.
#[derive(Clone, Debug)]
enum Test {
    Contains(String),
    Starts(String),
    Matches(Regex),
}

impl Test {
    /// Letters with `.*` around them, and a few such in brackets to choose from: `.*mlp\.(gate|up)_proj.*`.
    fn choices(text: &str) -> Option<Vec<Self>> {
        let Some((before, rest)) = text.split_once('(') else { return Some(vec![Self::plain(text)?]) };
        let (inside, after) = rest.split_once(')')?;
        if inside.contains(['(', '?', '\\']) || before.ends_with('\\') || after.contains(['(', ')']) {
            return None;
        }
        inside.split('|').map(|choice| Self::plain(&[before, choice, after].concat())).collect()
    }

    /// Letters, perhaps with `.*` before and after them.
    fn plain(text: &str) -> Option<Self> {
        let (inner, is_anywhere) = text.strip_prefix(".*").map_or((text, false), |rest| (rest, true));
        // What follows the match plays no part.
        let letters = inner.strip_suffix(".*").unwrap_or(inner).replace("\\.", "\u{1}");
        if letters.contains(['.', '*', '+', '?', '(', ')', '[', ']', '{', '}', '|', '\\', '^', '$']) {
            return None;
        }
        let letters = letters.replace('\u{1}', ".");
        Some(if is_anywhere { Self::Contains(letters) } else { Self::Starts(letters) })
    }

    fn is_true_of(&self, name: &str) -> bool {
        match self {
            Self::Contains(letters) => name.contains(letters.as_str()),
            Self::Starts(letters) => name.starts_with(letters.as_str()),
            Self::Matches(regex) => regex.is_match(name),
        }
    }
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
                match Expression::read(expression) {
                    Some(expression) => patterns.expressions.push(expression),
                    None => patterns.unread.push(text.to_owned()),
                }
            } else if text.contains(['*', '?']) {
                patterns.globs.push(without_wrappers(text).as_bytes().to_vec());
            } else {
                // A point at an end keeps AutoAWQ, which looks for the letters anywhere, from longer names: `mlp.gate.`.
                let name = text.strip_suffix(".weight").unwrap_or(text).trim_matches('.');
                let bare = without_wrappers(name);
                if bare == name { &mut patterns.plain } else { &mut patterns.rooted }.insert(bare.to_owned());
            }
        }
        patterns
    }

    /// The same list where a plain name means that module alone.
    #[must_use]
    pub fn exactly(self) -> Self {
        Self { is_exact: true, ..self }
    }

    /// Whether it may tell layers apart: whether a number stands in it.
    pub fn names_layers(&self) -> bool {
        self.names_layers
    }

    /// Whether a module, by its full name (`model.layers.3.mlp.gate`), is in the list.
    pub fn has(&self, module: &str) -> bool {
        let bare = without_wrappers(module);
        self.has_plain(bare) || self.globs.iter().any(|glob| is_glob(glob, bare.as_bytes())) || self.has_expression(module, bare)
    }

    fn has_expression(&self, module: &str, bare: &str) -> bool {
        if self.expressions.is_empty() {
            return false;
        }
        let mut names: Vec<String> = PREFIXES.iter().map(|prefix| format!("{prefix}{bare}")).collect();
        names.push(module.to_owned());
        self.expressions.iter().any(|expression| names.iter().any(|name| expression.tests.iter().any(|test| test.is_true_of(name))) != expression.is_negative)
    }

    /// Whether the name, or a run of its segments, is listed.
    fn has_plain(&self, bare: &str) -> bool {
        let is_listed = |names: &HashSet<String>, rest: &str| {
            let mut ends = rest.match_indices('.').map(|(at, _)| at).filter(|_| !self.is_exact).chain(std::iter::once(rest.len()));
            !names.is_empty() && ends.any(|end| names.contains(&rest[..end]))
        };
        let mut starts = std::iter::once(0).chain(bare.match_indices('.').map(|(at, _)| at + 1));
        is_listed(&self.rooted, bare) || starts.any(|start| is_listed(&self.plain, &bare[start..]))
    }
}

impl Expression {
    /// Python's `match`: from the start of the name. Of look-around, which takes no linear time, only the one way to say "all
    /// others" is read: `^(?!...).*`.
    fn read(text: &str) -> Option<Self> {
        if text.len() > EXPRESSION_LENGTH {
            return None;
        }
        let others = text.strip_prefix('^').unwrap_or(text).strip_prefix("(?!").and_then(|rest| rest.trim_end_matches('$').strip_suffix(").*"));
        let text = others.unwrap_or(text);
        let matches = || Some(vec![Test::Matches(RegexBuilder::new(&format!("^(?:{text})")).size_limit(EXPRESSION_SIZE).build().ok()?)]);
        Some(Self { tests: Test::choices(text).or_else(matches)?, is_negative: others.is_some() })
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
            ("mlp.gate.", "model.layers.3.mlp.gate"),
            ("model.layers.0.", "model.layers.0.mlp.up_proj"),
        ] {
            assert!(has(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("gate", "model.layers.3.mlp.gate_proj"),
            ("model.layers.1", "model.layers.10.self_attn.q_proj"),
            ("lm_head", "model.lm_head_norm"),
            ("model.layers.0.mlp.gate", "model.layers.0.mlp.up_proj"),
            // Molmo's head and the last matrix of its layers.
            ("model.transformer.ff_out", "model.transformer.blocks.0.ff_out"),
        ] {
            assert!(!has(pattern, name), "{pattern} {name}");
        }
        let exact = Patterns::new(["model.layers.0.linear_attn", "lm_head", "re:.*gate$"]).exactly();
        assert!(["lm_head", "model.language_model.layers.0.linear_attn", "model.layers.3.mlp.gate"].iter().all(|name| exact.has(name)));
        assert!(["model.layers.0.linear_attn.out_proj", "model.layers.10.linear_attn", "model.lm_head.x"].iter().all(|name| !exact.has(name)));
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
        for bad in ["re:(", "re:a)", "re:*", "re:[", "re:(?<=x)y", r"re:a\1", "re:a(?=b)c", "re:x{1000}{1000}"] {
            assert_eq!(Patterns::new([bad]).unread, [bad]);
        }
        let deep = format!("re:{}", "(".repeat(1000));
        assert_eq!(Patterns::new([deep.as_str()]).unread.len(), 1);
        // Exponential for a matcher that tries one way after the other.
        assert!(!has("re:((a*)*)*b", &"a".repeat(200)));
        assert!(Patterns::new(["layers.0"]).names_layers() && !Patterns::new(["lm_head"]).names_layers());
    }
}
