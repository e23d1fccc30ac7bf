//! Names of models as people give them: ids, and every kind of address that the Hub's pages have.

use std::fmt;
use std::str::FromStr;

use super::{Endpoint, HubError};
use crate::checkpoint::quotable;

/// The longest text that is read as the name of a model, in bytes.
const MAX_LENGTH: usize = 2048;

/// The longest part of an id, in characters (`REPO_ID_REGEX` of `huggingface_hub`).
const MAX_PART: usize = 96;

/// Hosts that are the Hub itself.
const HUB_HOSTS: &[&str] = &["huggingface.co", "www.huggingface.co", "hf.co", "www.hf.co", "huggingface.com"];

/// First segments of addresses that are not models, and what they are.
const NOT_MODELS: &[(&str, &str)] = &[
    ("datasets", "a dataset"),
    ("spaces", "a Space"),
    ("collections", "a collection"),
    ("papers", "a paper"),
    ("docs", "documentation"),
    ("blog", "a blog post"),
    ("models", "the list of models"),
    ("buckets", "a bucket"),
    ("api", "an API address"),
    ("organizations", "an organization"),
    ("settings", "a settings page"),
];

/// Segments after an id that a revision follows, and what follows that.
const VERBS: &[(&str, Rest)] = &[
    ("tree", Rest::Folder),
    ("blob", Rest::File),
    ("resolve", Rest::File),
    ("raw", Rest::File),
    ("blame", Rest::File),
    ("edit", Rest::File),
    ("revision", Rest::Nothing),
    ("commit", Rest::Nothing),
    ("commits", Rest::Nothing),
];

/// Segments after an id that lead to pages about it.
const PAGES: &[&str] = &["discussions", "settings", "community"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    Folder,
    File,
    Nothing,
}

/// The id of a model: `ORG/NAME`, or `NAME` for the oldest ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoId(String);

impl RepoId {
    /// Reads an id by the Hub's own rules.
    ///
    /// # Errors
    /// [`HubError::BadId`] says which rule it breaks.
    pub fn parse(text: &str) -> Result<Self, HubError> {
        match Self::broken_rule(text) {
            None => Ok(Self(text.to_owned())),
            Some(why) => Err(HubError::BadId { input: quotable(text), why }),
        }
    }

    fn broken_rule(text: &str) -> Option<&'static str> {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let has_word_ends = |part: &str| part.starts_with(is_word) && part.ends_with(is_word);
        let mut parts = text.split('/');
        if text.is_empty() {
            Some("no name is given")
        } else if !text.chars().all(|c| is_word(c) || matches!(c, '-' | '.' | '/')) {
            Some("an id has letters, digits, `-`, `_` and `.` only")
        } else if text.matches('/').count() > 1 {
            Some("an id is ORG/NAME, with one slash")
        } else if !parts.clone().all(has_word_ends) {
            Some("each part of an id begins and ends with a letter, a digit or `_`")
        } else if text.contains("--") || text.contains("..") || text.strip_suffix(".git").is_some() {
            Some("an id has no `--`, no `..` and no `.git` at its end")
        } else if parts.any(|part| part.len() > MAX_PART) {
            Some("a part of an id has at most 96 characters")
        } else {
            None
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A file of the repository as a text that [`ModelRef`] reads: `hf://ORG/NAME@REVISION/PATH`.
    pub fn address_of(&self, revision: Option<&str>, file: &str) -> String {
        let revision = revision.map_or_else(String::new, |revision| format!("@{}", escaped(revision).replace('/', "%2F")));
        format!("hf://{self}{revision}/{}", escaped(file))
    }

    /// A folder of the repository as a text that [`ModelRef`] reads: `ORG/NAME/tree/REVISION/FOLDER`.
    pub fn address_of_folder(&self, revision: &str, folder: &str) -> String {
        format!("{self}/tree/{}/{}", escaped(revision).replace('/', "%2F"), escaped(folder))
    }
}

/// A percent sign begins a sign that is written otherwise; everything else stands for itself.
fn escaped(text: &str) -> String {
    text.replace('%', "%25")
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A model on a Hub, as far as what was typed or pasted says.
///
/// ```
/// use vramfit::hub::ModelRef;
/// let model: ModelRef = "https://huggingface.co/openai-community/gpt2/blob/main/config.json?download=true".parse().unwrap();
/// assert_eq!(model.id.as_str(), "openai-community/gpt2");
/// assert_eq!(model.revision.as_deref(), Some("main"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRef {
    /// Which model.
    pub id: RepoId,
    /// A branch, a tag, a commit or a reference such as `refs/pr/1`.
    pub revision: Option<String>,
    /// The folder in which config and weights are looked for first.
    pub folder: Option<String>,
    /// The file that was named, with its folder.
    pub file: Option<String>,
    /// The recipe of the GGUF file that is meant: `Q4_K_M` of `ORG/NAME:Q4_K_M`, as llama.cpp and Ollama write it.
    pub recipe: Option<String>,
    /// The Hub of a pasted address, when it is not huggingface.co.
    pub endpoint: Option<Endpoint>,
}

impl ModelRef {
    /// Whether it names a model and nothing more: no revision, no part of the repository, no Hub of its own.
    pub fn is_plain(&self) -> bool {
        matches!(self, Self { id: _, revision: None, folder: None, file: None, recipe: None, endpoint: None })
    }

    /// Whether both name the same part of the same repository, at whichever revision and on whichever Hub.
    pub fn is_same_part(&self, other: &Self) -> bool {
        let recipe = |one: &Self| one.recipe.as_ref().map(|recipe| recipe.to_ascii_lowercase());
        (&self.id, &self.folder, &self.file) == (&other.id, &other.folder, &other.file) && recipe(self) == recipe(other)
    }
}

impl FromStr for ModelRef {
    type Err = HubError;

    fn from_str(input: &str) -> Result<Self, HubError> {
        let text = input.trim_matches(|c: char| c.is_whitespace() || "\"'`<>“”‘’,;\u{200b}\u{feff}".contains(c));
        let bad = |why| HubError::BadId { input: quotable(text), why };
        if text.len() > MAX_LENGTH {
            return Err(bad("it is too long for a model's name"));
        }
        let (form, endpoint, path) = split(text)?;
        let segments = path.split('/').filter(|segment| !segment.is_empty()).map(decoded).collect::<Option<Vec<String>>>();
        let mut segments = segments.ok_or_else(|| bad("its percent signs are not those of an address"))?;
        if let (Form::Plain, [name]) = (form, segments.as_slice())
            && is_ollama_tag(name)
        {
            return Err(HubError::OllamaTag(quotable(name)));
        }
        let recipe = take_recipe(&mut segments);
        let mut model = match form {
            Form::Plain if segments.iter().take(2).any(|segment| segment.contains('@')) => with_revision(&segments, false),
            Form::Scheme => with_revision(segments.strip_prefix(&["models".to_owned()]).unwrap_or(&segments), true),
            Form::Plain | Form::Address => from_address(&segments, form),
        }?;
        (model.endpoint, model.recipe) = (endpoint, recipe);
        let is_sound = |path: &Option<String>| path.iter().all(|path| path.split('/').all(is_sound_segment));
        if ![&model.revision, &model.folder, &model.file].into_iter().all(is_sound) {
            return Err(bad("its revision or path has signs that do not belong there"));
        }
        Ok(model)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `ORG/NAME`, `ORG/NAME@REVISION`
    Plain,
    /// `hf://ORG/NAME@REVISION/PATH`
    Scheme,
    /// `https://HOST/ORG/NAME/tree/REVISION/PATH`
    Address,
}

/// The text as its form, the Hub that it names, and the path.
fn split(text: &str) -> Result<(Form, Option<Endpoint>, &str), HubError> {
    let is_hub = |host: &str| HUB_HOSTS.iter().any(|known| known.eq_ignore_ascii_case(host));
    let until_query = |path: &str| path.find(['?', '#']).unwrap_or(path.len());
    if let Some((scheme, rest)) = text.split_once("://") {
        if scheme.eq_ignore_ascii_case("hf") {
            return Ok((Form::Scheme, None, rest));
        }
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let is_web = scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http");
        let endpoint = if is_web && is_hub(host) { None } else { Some(Endpoint::parse(&format!("{scheme}://{host}"))?) };
        return Ok((Form::Address, endpoint, &path[..until_query(path)]));
    }
    Ok(match text.split_once('/') {
        Some((host, path)) if is_hub(host) => (Form::Address, None, &path[..until_query(path)]),
        _ => (Form::Plain, None, text),
    })
}

/// `NAME:TAG`, as Ollama's library names models.
fn is_ollama_tag(text: &str) -> bool {
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    let has_letter = |word: &str| word.bytes().any(|byte| byte.is_ascii_alphabetic());
    // `C:` is a drive, `localhost:8080` an address.
    text.split_once(':').is_some_and(|(name, tag)| name.len() > 1 && is_word(name) && is_word(tag) && has_letter(tag))
}

/// What follows on the colon of `ORG/NAME:RECIPE`, which is taken off; Ollama's `latest` says nothing.
fn take_recipe(segments: &mut [String]) -> Option<String> {
    let [_, name] = segments else { return None };
    let (id, recipe) = name.split_once(':')?;
    let is_recipe = !recipe.is_empty() && recipe.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    let (id, recipe) = is_recipe.then(|| (id.to_owned(), recipe.to_owned()))?;
    *name = id;
    Some(recipe).filter(|recipe| recipe != "latest")
}

/// `ORG/NAME@REVISION`, where `has_path` says whether a path may follow.
fn with_revision(segments: &[String], has_path: bool) -> Result<ModelRef, HubError> {
    check_kind(segments)?;
    let (id, rest) = segments.split_at(id_length(segments));
    let id = id.join("/");
    let Some((id, first)) = id.split_once('@') else {
        let path = rest.join("/");
        // Folders and files look alike here: a file has an extension.
        let kind = if rest.last().is_some_and(|last| last.contains('.')) { Rest::File } else { Rest::Folder };
        return Ok(ModelRef::at(RepoId::parse(&id)?, None, path, kind));
    };
    let mut tail = first.split('/').map(str::to_owned).collect::<Vec<_>>();
    tail.extend_from_slice(rest);
    let id = RepoId::parse(id)?;
    if !has_path {
        return Ok(ModelRef::at(id, Some(tail.join("/")), String::new(), Rest::Nothing));
    }
    let (revision, path) = split_revision(&tail);
    let kind = if path.last().is_some_and(|last| last.contains('.')) { Rest::File } else { Rest::Folder };
    Ok(ModelRef::at(id, revision, path.join("/"), kind))
}

/// The path of a page or an API address.
fn from_address(segments: &[String], form: Form) -> Result<ModelRef, HubError> {
    let segments = match segments {
        [api, models, rest @ ..] if form == Form::Address && api == "api" && models == "models" => rest,
        _ => segments,
    };
    check_kind(segments)?;
    let (id, rest) = segments.split_at(id_length(segments));
    let joined = id.join("/");
    let id = RepoId::parse(joined.strip_suffix(".git").unwrap_or(&joined))?;
    let Some((verb, rest)) = rest.split_first() else {
        return Ok(ModelRef::at(id, None, String::new(), Rest::Nothing));
    };
    match VERBS.iter().find(|(name, _)| name == verb) {
        Some((_, kind)) => {
            let (revision, path) = split_revision(rest);
            Ok(ModelRef::at(id, revision, path.join("/"), *kind))
        }
        None if form == Form::Address => Ok(ModelRef::at(id, None, String::new(), Rest::Nothing)),
        None => Err(HubError::BadId { input: quotable(&segments.join("/")), why: "an id is ORG/NAME, with one slash" }),
    }
}

/// An error for paths of datasets and the like.
fn check_kind(segments: &[String]) -> Result<(), HubError> {
    match segments.first().and_then(|first| NOT_MODELS.iter().find(|(segment, _)| segment == first)) {
        Some(&(_, what)) => Err(HubError::NotAModel { what }),
        None => Ok(()),
    }
}

/// How many segments the id has: one for the oldest models, whose address goes on at once with a verb.
fn id_length(segments: &[String]) -> usize {
    let is_single = segments.get(1).is_some_and(|second| PAGES.contains(&second.as_str()) || VERBS.iter().any(|(verb, _)| verb == second));
    if is_single { 1 } else { segments.len().min(2) }
}

/// The revision at the front (`refs/pr/1` takes three segments) and the rest.
fn split_revision(segments: &[String]) -> (Option<String>, &[String]) {
    let length = if segments.len() >= 3 && segments[0] == "refs" { 3 } else { segments.len().min(1) };
    let (revision, rest) = segments.split_at(length);
    ((length > 0).then(|| revision.join("/")), rest)
}

impl ModelRef {
    fn at(id: RepoId, revision: Option<String>, path: String, kind: Rest) -> Self {
        let path = (!path.is_empty() && kind != Rest::Nothing).then_some(path);
        let (folder, file) = match path {
            Some(file) if kind == Rest::File => (file.rsplit_once('/').map(|(folder, _)| folder.to_owned()), Some(file)),
            folder => (folder, None),
        };
        Self { id, revision: revision.filter(|revision| !revision.is_empty()), folder, file, recipe: None, endpoint: None }
    }
}

/// A segment that stays what it is in an address and in git: no `..`, no control characters, none of git's own signs.
fn is_sound_segment(segment: &str) -> bool {
    !matches!(segment, "" | "." | "..") && !segment.contains("..") && !segment.chars().any(|c| c.is_control() || "\\:^~*?[".contains(c))
}

/// A percent-encoded segment as text.
fn decoded(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let digit = |at: usize| tail.get(at).and_then(|&digit| char::from(digit).to_digit(16)).and_then(|digit| u8::try_from(digit).ok());
            bytes.push((digit(0)? << 4) | digit(1)?);
            rest = tail.get(2..)?;
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (input, id, revision, folder, file)
    type Row = (&'static str, &'static str, Option<&'static str>, Option<&'static str>, Option<&'static str>);

    const ROWS: &[Row] = &[
        ("mistralai/Mistral-7B-v0.1", "mistralai/Mistral-7B-v0.1", None, None, None),
        ("  'mistralai/Mistral-7B-v0.1' \n", "mistralai/Mistral-7B-v0.1", None, None, None),
        ("gpt2", "gpt2", None, None, None),
        ("gpt2@main", "gpt2", Some("main"), None, None),
        ("org/name@refs/pr/1", "org/name", Some("refs/pr/1"), None, None),
        ("org/name@v1.0", "org/name", Some("v1.0"), None, None),
        ("org/name/tree/main", "org/name", Some("main"), None, None),
        ("org/name.git", "org/name", None, None, None),
        ("https://huggingface.co/org/name", "org/name", None, None, None),
        ("https://huggingface.co/org/name/", "org/name", None, None, None),
        ("https://huggingface.co/org/name.git", "org/name", None, None, None),
        ("http://www.huggingface.co/org/name#usage", "org/name", None, None, None),
        ("HTTPS://HuggingFace.co/org/name?library=transformers", "org/name", None, None, None),
        ("https://huggingface.co/org/name/tree/main", "org/name", Some("main"), None, None),
        ("https://huggingface.co/org/name/tree/main/sub/dir", "org/name", Some("main"), Some("sub/dir"), None),
        ("https://huggingface.co/org/name/tree/refs%2Fpr%2F1", "org/name", Some("refs/pr/1"), None, None),
        ("https://huggingface.co/org/name/tree/refs/pr/1/sub", "org/name", Some("refs/pr/1"), Some("sub"), None),
        ("https://huggingface.co/org/name/blob/main/config.json", "org/name", Some("main"), None, Some("config.json")),
        ("https://huggingface.co/org/name/blob/v2/a%20b/m.safetensors?show_file_info=x", "org/name", Some("v2"), Some("a b"), Some("a b/m.safetensors")),
        ("https://huggingface.co/org/name/resolve/main/model.safetensors?download=true", "org/name", Some("main"), None, Some("model.safetensors")),
        ("https://huggingface.co/org/name/raw/main/config.json", "org/name", Some("main"), None, Some("config.json")),
        ("https://huggingface.co/org/name/commit/0123abcd", "org/name", Some("0123abcd"), None, None),
        ("https://huggingface.co/org/name/discussions/3", "org/name", None, None, None),
        ("https://huggingface.co/gpt2", "gpt2", None, None, None),
        ("https://huggingface.co/gpt2/tree/main", "gpt2", Some("main"), None, None),
        ("https://huggingface.co/gpt2/blob/main/config.json", "gpt2", Some("main"), None, Some("config.json")),
        ("https://huggingface.co/api/models/org/name/revision/main", "org/name", Some("main"), None, None),
        ("huggingface.co/org/name", "org/name", None, None, None),
        ("hf.co/org/name/tree/main", "org/name", Some("main"), None, None),
        ("hf://org/name", "org/name", None, None, None),
        ("hf://models/org/name@v1/sub/config.json", "org/name", Some("v1"), Some("sub"), Some("sub/config.json")),
        ("hf://org/name@refs%2Fpr%2F1/sub", "org/name", Some("refs/pr/1"), Some("sub"), None),
        ("hf://org/name/config.json", "org/name", None, None, Some("config.json")),
    ];

    #[test]
    fn every_form_is_understood() {
        for &(input, id, revision, folder, file) in ROWS {
            let model: ModelRef = input.parse().unwrap_or_else(|error| panic!("{input}: {error}"));
            let got = (model.id.as_str(), model.revision.as_deref(), model.folder.as_deref(), model.file.as_deref());
            assert_eq!(got, (id, revision, folder, file), "{input}");
            assert_eq!(model.endpoint, None, "{input}");
        }
    }

    #[test]
    fn a_recipe_follows_on_a_colon() {
        for (input, recipe) in [
            ("org/name:Q4_K_M", Some("Q4_K_M")),
            ("hf.co/org/name:UD-Q2_K_XL", Some("UD-Q2_K_XL")),
            ("https://huggingface.co/org/name:q8_0", Some("q8_0")),
            ("hf://org/name:Q8_0", Some("Q8_0")),
            ("hf.co/org/name:latest", None),
            ("org/name", None),
        ] {
            let model: ModelRef = input.parse().unwrap_or_else(|error| panic!("{input}: {error}"));
            assert_eq!((model.id.as_str(), model.recipe.as_deref()), ("org/name", recipe), "{input}");
        }
    }

    #[test]
    fn a_tag_of_ollamas_is_said_to_be_one() {
        for name in ["mistral:7b", "llama3.1:8b-instruct-q4_K_M", "qwen3:latest"] {
            assert_eq!(name.parse::<ModelRef>(), Err(HubError::OllamaTag(name.to_owned())));
        }
    }

    #[test]
    fn the_address_of_a_file_leads_back_to_it() {
        let id = RepoId::parse("org/name").unwrap();
        for file in ["m-Q4_K_M.gguf", "UD Q2/m 1%2F@a#b-00001-of-00003.gguf", "a/b/c.d.gguf"] {
            for revision in [None, Some("main"), Some("refs/pr/1")] {
                let address = id.address_of(revision, file);
                let model: ModelRef = address.parse().unwrap();
                assert_eq!((&model.id, model.revision.as_deref(), model.file.as_deref()), (&id, revision, Some(file)), "{address}");
                assert_eq!(model.folder.as_deref(), file.rsplit_once('/').map(|(folder, _)| folder));
            }
        }
        assert_eq!(id.address_of(None, "x.gguf"), "hf://org/name/x.gguf");
        let single: ModelRef = RepoId::parse("gpt2").unwrap().address_of(Some("v1"), "a/m.safetensors").parse().unwrap();
        assert_eq!((single.id.as_str(), single.revision.as_deref(), single.file.as_deref()), ("gpt2", Some("v1"), Some("a/m.safetensors")));
        for folder in ["sub", "a b/v1.5 100%", "x@y"] {
            for revision in ["main", "refs/pr/1"] {
                let address = id.address_of_folder(revision, folder);
                let model: ModelRef = address.parse().unwrap();
                assert_eq!((&model.id, model.revision.as_deref(), model.folder.as_deref(), model.file), (&id, Some(revision), Some(folder), None), "{address}");
            }
        }
    }

    #[test]
    fn another_host_is_an_endpoint() {
        let model: ModelRef = "https://hub.example:8443/org/name/tree/main".parse().unwrap();
        assert_eq!((model.id.as_str(), model.endpoint.unwrap().as_str()), ("org/name", "https://hub.example:8443"));
        let model: ModelRef = "http://127.0.0.1:9000/org/name".parse().unwrap();
        assert_eq!(model.endpoint.unwrap().as_str(), "http://127.0.0.1:9000");
        for bad in ["http://hub.example/org/name", "https://user:secret@huggingface.co/org/name", "file:///org/name"] {
            assert!(matches!(bad.parse::<ModelRef>(), Err(HubError::BadEndpoint { .. })), "{bad}");
        }
    }

    #[test]
    fn what_is_not_a_model_is_said() {
        for (input, what) in [
            ("https://huggingface.co/datasets/squad", "a dataset"),
            ("https://huggingface.co/spaces/org/name", "a Space"),
            ("https://huggingface.co/models?search=llama", "the list of models"),
            ("datasets/org/name", "a dataset"),
            ("hf://datasets/org/name", "a dataset"),
        ] {
            assert_eq!(input.parse::<ModelRef>(), Err(HubError::NotAModel { what }), "{input}");
        }
    }

    #[test]
    fn bad_names_are_refused() {
        let long = format!("org/{}", "x".repeat(97));
        let very_long = "x".repeat(5000);
        for bad in [
            "",
            "  ",
            "/",
            "https://huggingface.co/",
            "org/na me",
            "org/näme",
            "a/b/c",
            "org/-name",
            "org/name.",
            "org/na--me",
            "org/..",
            "../etc",
            "org/name:",
            "org/name:Q4:K",
            "org:Q4/name",
            "{\"model_type\": 1}",
            "git@hf.co:org/name",
            "org/name@a..b",
            "org/name@a\u{1b}b",
            "https://huggingface.co/org/name/tree/%2e%2e",
            "https://huggingface.co/org/name/blob/main/../x",
            "https://huggingface.co/org/n%zz",
            "https://huggingface.co/org/n%ff",
            "https://huggingface.co/org%2Fname%2Fx",
            long.as_str(),
            very_long.as_str(),
        ] {
            assert!(matches!(bad.parse::<ModelRef>(), Err(HubError::BadId { .. })), "{bad}: {:?}", bad.parse::<ModelRef>());
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_does_no_harm(text in r"[a-zA-Z0-9:/@%.?#\-_~ \\]{0,80}|\PC{0,40}") {
            if let Ok(model) = text.parse::<ModelRef>() {
                proptest::prop_assert_eq!(RepoId::parse(model.id.as_str()), Ok(model.id));
            }
        }
    }
}
