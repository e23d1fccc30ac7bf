//! Which of a repository's files are the model's weights.

use std::collections::BTreeMap;

use crate::format::grouped;

/// The most weight files of one model that are read; the largest models known have below 300.
const MAX_FILES: usize = 2_000;

/// How names of weight files end.
const SUFFIX: &str = ".safetensors";

/// Ends of files that hold weights in other formats.
const OTHER_FORMATS: &[&str] = &["bin", "gguf", "pt", "pth", "ckpt", "h5", "msgpack", "onnx", "npz"];

/// The weight files to read; none when the weights must be estimated from the config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Paths in the repository.
    pub files: Vec<String>,
    /// What was done and why, each a sentence.
    pub notes: Vec<String>,
}

/// Chooses among the `names` (paths) of a repository those in `folder` (empty for the top): the set that the `wanted` file belongs
/// to, else `model.safetensors`, else the shards `model-00001-of-00002.safetensors` ..., else all. Copies in other formats or
/// precisions beside them are not read.
pub fn choose(names: &[String], folder: &str, wanted: Option<&str>) -> Choice {
    let here: Vec<&str> = names.iter().map(String::as_str).filter(|name| parent(name) == folder).collect();
    let files: Vec<&str> = here.iter().copied().filter(|name| name.ends_with(SUFFIX)).collect();
    let mut sets: BTreeMap<(&str, u64), BTreeMap<u64, &str>> = BTreeMap::new();
    for &file in &files {
        if let Some((stem, index, total)) = shard(file) {
            sets.entry((stem, total)).or_default().insert(index, file);
        }
    }
    let is_complete = |set: &((&str, u64), BTreeMap<u64, &str>)| set.1.len() as u64 == set.0.1;
    let single = files.iter().copied().find(|file| base_name(file) == "model.safetensors");
    let set = match wanted.filter(|wanted| files.contains(wanted)) {
        Some(wanted) => match shard(wanted) {
            Some((stem, _, total)) => sets.remove_entry(&(stem, total)),
            None => return Choice { files: vec![wanted.to_owned()], notes: Vec::new() },
        },
        None if single.is_some() => return Choice { files: single.into_iter().map(str::to_owned).collect(), notes: Vec::new() },
        None => sets.into_iter().filter(|((stem, _), _)| base_name(stem) == "model").max_by_key(|set| (is_complete(set), set.0.1)),
    };
    match set {
        Some(set) if is_complete(&set) => bounded(set.1.into_values().collect(), Vec::new()),
        Some(((stem, total), set)) => Choice {
            files: Vec::new(),
            notes: vec![format!(
                "the repository has {} of the {} files `{stem}-*-of-{total:05}{SUFFIX}`: estimated from config.json",
                grouped(set.len() as u64),
                grouped(total)
            )],
        },
        None if files.is_empty() => Choice { files: Vec::new(), notes: vec![no_safetensors(&here)] },
        None => {
            let note = format!("there is no `model{SUFFIX}` here: every safetensors file is read ({})", listed(&files));
            bounded(files, vec![note])
        }
    }
}

fn bounded(files: Vec<&str>, notes: Vec<String>) -> Choice {
    if files.len() > MAX_FILES {
        let (count, most) = (grouped(files.len() as u64), grouped(MAX_FILES as u64));
        return Choice { files: Vec::new(), notes: vec![format!("{count} weight files are more than the {most} that are read: estimated from config.json")] };
    }
    Choice { files: files.into_iter().map(str::to_owned).collect(), notes }
}

fn no_safetensors(here: &[&str]) -> String {
    let is_weights = |name: &&str| name.rsplit_once('.').is_some_and(|(_, extension)| OTHER_FORMATS.contains(&extension));
    let others: Vec<&str> = here.iter().copied().filter(is_weights).collect();
    let only = if others.is_empty() { String::new() } else { format!(" (only {})", listed(&others)) };
    format!("no safetensors files here{only}: estimated from config.json")
}

/// The first two names and how many more there are.
fn listed(files: &[&str]) -> String {
    let first = files.iter().take(2).copied().map(base_name).collect::<Vec<_>>().join(", ");
    match files.len() {
        0..=2 => first,
        count => format!("{first} and {} more", grouped(count as u64 - 2)),
    }
}

/// `STEM-00001-of-00002.safetensors` as the stem, the shard's number and the number of shards.
fn shard(name: &str) -> Option<(&str, u64, u64)> {
    let (rest, total) = name.strip_suffix(SUFFIX)?.rsplit_once("-of-")?;
    let (stem, index) = rest.rsplit_once('-')?;
    let number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
    Some((stem, number(index)?, number(total)?))
}

/// The folder of a path; empty at the top.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn base_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(names: &[&str], folder: &str, wanted: Option<&str>) -> Choice {
        choose(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), folder, wanted)
    }

    #[test]
    fn the_standard_set_wins_over_its_copies() {
        let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        let mut names = vec!["README.md", "consolidated.safetensors", "model.fp16.safetensors", "original/model.safetensors"];
        names.extend(shards);
        let chosen = pick(&names, "", None);
        assert_eq!(chosen.files, shards);
        assert!(chosen.notes.is_empty());
        names.push("model.safetensors");
        assert_eq!(pick(&names, "", None).files, ["model.safetensors"]);
        assert_eq!(pick(&names, "", Some(shards[1])).files, shards);
        assert_eq!(pick(&names, "", Some("model.fp16.safetensors")).files, ["model.fp16.safetensors"]);
        assert_eq!(pick(&names, "", Some("README.md")).files, ["model.safetensors"]);
        assert_eq!(pick(&names, "original", None).files, ["original/model.safetensors"]);
    }

    #[test]
    fn other_names_are_read_with_a_note() {
        let chosen = pick(&["a.safetensors", "b-1-of-1.safetensors"], "", None);
        assert_eq!(chosen.files, ["a.safetensors", "b-1-of-1.safetensors"]);
        assert_eq!(chosen.notes, ["there is no `model.safetensors` here: every safetensors file is read (a.safetensors, b-1-of-1.safetensors)"]);
    }

    #[test]
    fn what_cannot_be_read_is_estimated_with_a_note() {
        for (names, note) in [
            (vec!["pytorch_model.bin"], "no safetensors files here (only pytorch_model.bin): estimated from config.json"),
            (vec!["a.gguf", "b.gguf", "c.gguf"], "no safetensors files here (only a.gguf, b.gguf and 1 more): estimated from config.json"),
            (vec!["README.md"], "no safetensors files here: estimated from config.json"),
            (
                vec!["model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors"],
                "the repository has 2 of the 3 files `model-*-of-00003.safetensors`: estimated from config.json",
            ),
        ] {
            let chosen = pick(&names, "", None);
            assert!(chosen.files.is_empty());
            assert_eq!(chosen.notes, [note]);
        }
        let many: Vec<String> = (0..=MAX_FILES).map(|number| format!("part{number}.safetensors")).collect();
        let chosen = choose(&many, "", None);
        assert!(chosen.files.is_empty() && chosen.notes[0].contains("2,001"));
    }
}
