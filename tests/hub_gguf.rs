//! GGUF repositories on the Hub: the choice among files, ranges, parts, encoders beside, links.

mod common;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use common::gguf::{GgufFile, U16};
use vramfit::hub::{self, Endpoint, Headers, HubError, ModelRef, Progress, Request, Response, Transport, TransportError};
use vramfit::model::{Model, Origin};
use vramfit::reader::{self, NothingKept, Picked, What, Wish};

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";
const Q4_K: u32 = 12;
const Q8_0: u32 = 8;
const F16: u32 = 1;

/// A Hub with one repository. Of files, only headers exist; the rest is zeros.
#[derive(Default)]
struct Repository {
    files: BTreeMap<String, (Vec<u8>, u64)>,
    /// Whether the Hub says sizes.
    is_silent: bool,
    requests: RefCell<Vec<Request>>,
}

impl Repository {
    fn with(mut self, name: &str, file: &GgufFile) -> Self {
        let header = file.header();
        let size = header.len() as u64 + file.data;
        self.files.insert(name.to_owned(), (header, size));
        self
    }

    fn text(mut self, name: &str, text: &str) -> Self {
        self.files.insert(name.to_owned(), (text.as_bytes().to_vec(), text.len() as u64));
        self
    }

    fn ranges(&self) -> Vec<(u64, u64)> {
        self.requests.borrow().iter().filter_map(|request| request.range).collect()
    }
}

impl Transport for Repository {
    async fn get(&self, request: Request) -> Result<Response, TransportError> {
        self.requests.borrow_mut().push(request.clone());
        if request.url.contains("/api/models/") {
            let has_sizes = request.url.ends_with("?blobs=true") && !self.is_silent;
            let siblings: Vec<_> = self
                .files
                .iter()
                .map(|(name, (_, size))| if has_sizes { serde_json::json!({"rfilename": name, "size": size}) } else { serde_json::json!({"rfilename": name}) })
                .collect();
            let body = serde_json::json!({ "id": "org/name", "sha": SHA, "siblings": siblings }).to_string().into_bytes();
            return Ok(Response { status: 200, body, ..Response::default() });
        }
        let name = request.url.split_once(&format!("/org/name/resolve/{SHA}/")).expect("files are asked for at the commit").1;
        let Some((content, size)) = self.files.get(name) else {
            let headers = Headers { error_code: Some("EntryNotFound".into()), ..Headers::default() };
            return Ok(Response { status: 404, headers, body: Vec::new() });
        };
        let Some((first, last)) = request.range else { return Ok(Response { status: 200, headers: Headers::default(), body: content.clone() }) };
        if first >= *size {
            return Ok(Response { status: 416, ..Response::default() });
        }
        let last = last.min(size - 1);
        let body = (first..=last).map(|at| content.get(usize::try_from(at).unwrap()).copied().unwrap_or(0)).collect();
        Ok(Response { status: 206, headers: Headers { content_range: Some(format!("bytes {first}-{last}/{size}")), ..Headers::default() }, body })
    }

    async fn pause(&self, _: u64) {}
}

/// Runs what is always ready.
fn run<F: Future>(future: F) -> F::Output {
    match pin!(future).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing here waits"),
    }
}

fn open(repository: &Repository, text: &str) -> Result<Model, HubError> {
    run(hub::open(repository, &Endpoint::default(), &text.parse::<ModelRef>()?, None, &|_| ()))
}

/// Llama of two layers with all matrices in one type, and a vocabulary of so many texts.
fn llama(id: u32, layers: std::ops::Range<u32>, texts: usize) -> GgufFile {
    let mut file = GgufFile::new(3, false);
    if layers.start == 0 {
        for (key, value) in [("block_count", 2), ("embedding_length", 256), ("feed_forward_length", 512), ("context_length", 4096)] {
            file = file.u32(&format!("llama.{key}"), value);
        }
        file = file.text("general.architecture", "llama").u32("llama.attention.head_count", 4).u32("llama.attention.head_count_kv", 2);
        file = file.texts("tokenizer.ggml.tokens", (0..texts).map(|n| format!("token{n}")));
        file = file.tensor("token_embd.weight", &[256, 1024], id).tensor("output_norm.weight", &[256], 0);
    }
    for layer in layers {
        for (name, shape) in [("attn_q", [256, 256]), ("attn_k", [256, 128]), ("attn_v", [256, 128]), ("attn_output", [256, 256])] {
            file = file.tensor(&format!("blk.{layer}.{name}.weight"), &shape, id);
        }
        for (name, shape) in [("ffn_gate", [256, 512]), ("ffn_up", [256, 512]), ("ffn_down", [512, 256])] {
            file = file.tensor(&format!("blk.{layer}.{name}.weight"), &shape, id);
        }
        for name in ["attn_norm", "ffn_norm"] {
            file = file.tensor(&format!("blk.{layer}.{name}.weight"), &[256], 0);
        }
    }
    file
}

/// Values of the matrices, and bytes of the five norms.
const MATRICES: u64 = 262_144 + 2 * (2 * 65_536 + 2 * 32_768 + 3 * 131_072);
const NORMS: u64 = 5 * 256 * 4;

fn split(id: u32, number: u32) -> GgufFile {
    let word = |value: u32| value.to_le_bytes()[..2].to_vec();
    llama(id, number..number + 1, 10).entry("split.no", U16, &word(number)).entry("split.count", U16, &word(2))
}

fn encoder() -> GgufFile {
    GgufFile::new(3, false).text("general.architecture", "clip").u32("clip.vision.embedding_length", 64).tensor("v.patch_embd.weight", &[64, 64], 1).tensor(
        "mm.0.weight",
        &[64, 256],
        1,
    )
}

/// Three recipes, one of them split in a folder, and what stands beside.
fn several() -> Repository {
    Repository::default()
        .text("config.json", "{}")
        .text("README.md", "x")
        .with("m-Q4_K_M.gguf", &llama(Q4_K, 0..2, 10))
        .with("m-Q8_0.gguf", &llama(Q8_0, 0..2, 10))
        .with("F16/m-F16-00001-of-00002.gguf", &split(F16, 0))
        .with("F16/m-F16-00002-of-00002.gguf", &split(F16, 1))
        .with("m.imatrix.gguf", &GgufFile::new(3, false))
}

fn stored(model: &Model) -> u64 {
    model.provenance.files.as_ref().unwrap().bytes.get()
}

#[test]
fn several_files_are_a_choice_with_sizes_and_each_can_be_named() {
    let repository = several();
    let Err(HubError::ChooseFile { repo, files, .. }) = open(&repository, "org/name") else { panic!("a choice") };
    let rows: Vec<_> = files.iter().map(|file| (file.recipe.as_str(), file.parts, file.path.as_str())).collect();
    assert_eq!(rows, [("Q4_K_M", 1, "m-Q4_K_M.gguf"), ("Q8_0", 1, "m-Q8_0.gguf"), ("F16", 2, "F16/m-F16-00001-of-00002.gguf")]);
    let size = |name: &str| repository.files[name].1;
    assert_eq!(files[1].bytes.unwrap().get(), size("m-Q8_0.gguf"));
    assert_eq!(files[2].bytes.unwrap().get(), size("F16/m-F16-00001-of-00002.gguf") + size("F16/m-F16-00002-of-00002.gguf"));
    assert!(repository.ranges().is_empty(), "no header is read before one is chosen");

    for (file, bytes) in files.iter().zip([MATRICES / 256 * 144, MATRICES / 32 * 34, MATRICES * 2]) {
        let model = open(&repository, &repo.address_of(None, &file.path)).unwrap();
        assert_eq!((stored(&model), model.provenance.source), (bytes + NORMS, Origin::Gguf));
        assert_eq!(model.anatomy.parameters().unwrap().get(), MATRICES + NORMS / 4);
        assert_eq!((model.provenance.files.as_ref().unwrap().count, model.provenance.revision.as_deref()), (file.parts.into(), Some(SHA)));
        assert!(model.provenance.notes.is_empty(), "{:?}", model.provenance.notes);
    }
    // The second part, or the folder, means the same.
    for text in ["https://huggingface.co/org/name/blob/main/F16/m-F16-00002-of-00002.gguf?download=true", "https://huggingface.co/org/name/tree/main/F16"] {
        let model = open(&repository, text).unwrap();
        assert_eq!(stored(&model), MATRICES * 2 + NORMS, "{text}");
        assert_eq!(model.provenance.id.as_deref(), Some("hf://org/name/F16/m-F16-00001-of-00002.gguf"));
    }
    let missing = open(&repository, "hf://org/name/none.gguf").unwrap_err();
    assert!(matches!(&missing, HubError::FileMissing { file, .. } if file == "none.gguf") && missing.advice().contains("are then listed"));
    // A recipe as llama.cpp and Ollama write it; one that is not there, or of two files, leaves the choice.
    let model = open(&repository, "hf.co/org/name:q8_0").unwrap();
    assert_eq!((stored(&model), model.provenance.id.as_deref()), (MATRICES / 32 * 34 + NORMS, Some("hf://org/name/m-Q8_0.gguf")));
    assert_eq!(stored(&open(&repository, "org/name:F16").unwrap()), MATRICES * 2 + NORMS);
    let missing = open(&repository, "org/name:Q5_K_M").unwrap_err();
    assert_eq!(missing.to_string(), "`org/name` has no GGUF file of the recipe `Q5_K_M`");
    assert_eq!(missing.files_to_choose().map(|(_, _, files)| files.len()), Some(3));
    let one = Repository::default().with("m-Q8_0.gguf", &llama(Q8_0, 0..2, 10));
    assert!(matches!(open(&one, "org/name:q4"), Err(HubError::RecipeMissing { recipe, files, .. }) if recipe == "q4" && files.len() == 1));
    let twice = several().with("other/m-Q8_0.gguf", &llama(Q8_0, 0..2, 10));
    assert!(matches!(open(&twice, "org/name:Q8_0"), Err(HubError::ChooseFile { files, .. }) if files.len() == 2));
    let none = Repository::default().text("config.json", "{}");
    let nothing = open(&none, "org/name:Q8_0").unwrap_err();
    assert!(matches!(&nothing, HubError::RecipeMissing { files, .. } if files.is_empty()) && nothing.advice().contains("no GGUF files at all"));
    assert!(matches!(open(&repository, "org/name/tree/main/F32"), Err(HubError::FolderMissing { folder, .. }) if folder == "F32"));
}

#[test]
fn where_sizes_are_not_said_the_choice_has_none_and_files_are_read() {
    let repository = Repository { is_silent: true, ..several() };
    let Err(HubError::ChooseFile { files, .. }) = open(&repository, "org/name@v1") else { panic!("a choice") };
    assert!(files.iter().all(|file| file.bytes.is_none()));
    assert_eq!(stored(&open(&repository, "hf://org/name/m-Q8_0.gguf").unwrap()), MATRICES / 32 * 34 + NORMS);
}

#[test]
fn the_only_file_is_read_without_asking_by_ranges_that_grow() {
    // A vocabulary of some 2.6 MB.
    let repository = Repository::default().with("only.Q8_0.gguf", &llama(Q8_0, 0..2, 140_000));
    let seen = RefCell::new(Vec::new());
    let reference = "org/name".parse().unwrap();
    let model = run(hub::open(&repository, &Endpoint::default(), &reference, None, &|now: Progress| seen.borrow_mut().push(now))).unwrap();
    assert_eq!(stored(&model), MATRICES / 32 * 34 + NORMS);
    let lengths: Vec<u64> = repository.ranges().iter().map(|(first, last)| (last + 1 - first) >> 20).collect();
    assert_eq!(lengths[..2], [1, 2], "{lengths:?}");
    assert!(repository.ranges().windows(2).all(|pair| pair[0].1 + 1 - pair[1].0 < 64), "nothing twice but what a range cut");
    let urls: Vec<String> = repository.requests.borrow().iter().map(|request| request.url.clone()).collect();
    assert_eq!(urls[1], format!("https://huggingface.co/api/models/org/name/revision/{SHA}?blobs=true"));
    let seen = seen.into_inner();
    assert!(seen.windows(2).all(|pair| pair[0].bytes <= pair[1].bytes) && seen.len() >= 4, "progress within the file");
    assert_eq!(seen.last().map(|now| (now.files_done, now.files)), Some((1, 1)));
}

#[test]
fn encoders_beside_come_along_when_there_is_one_kind() {
    let one = Repository::default().with("m-Q8_0.gguf", &llama(Q8_0, 0..2, 10)).with("mmproj-F16.gguf", &encoder());
    let model = open(&one, "org/name").unwrap();
    assert_eq!(stored(&model), MATRICES / 32 * 34 + NORMS + 2 * (64 * 64 + 64 * 256));
    assert_eq!(model.provenance.notes, ["with the encoders of mmproj-F16.gguf"]);
    assert_eq!(stored(&open(&one, "hf://org/name/mmproj-F16.gguf").unwrap()), 2 * (64 * 64 + 64 * 256));

    let two = one.with("mmproj-F32.gguf", &encoder());
    let model = open(&two, "org/name").unwrap();
    assert_eq!(stored(&model), MATRICES / 32 * 34 + NORMS);
    assert!(model.provenance.notes[0].contains("several: mmproj-F16.gguf, mmproj-F32.gguf"));
}

#[test]
fn other_weights_win_unless_a_gguf_file_is_named() {
    const CONFIG: &str =
        r#"{"model_type": "llama", "hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "vocab_size": 10}"#;
    let gguf = || Repository::default().with("m-Q8_0.gguf", &llama(Q8_0, 0..2, 10)).text("config.json", CONFIG);
    let with_bin = gguf().text("pytorch_model.bin", "x");
    assert_eq!(open(&with_bin, "org/name").unwrap().provenance.source, Origin::Config);
    assert_eq!(open(&with_bin, "hf://org/name/m-Q8_0.gguf").unwrap().provenance.source, Origin::Gguf);
    assert_eq!(open(&gguf(), "org/name").unwrap().provenance.source, Origin::Gguf);
    // A recipe is not passed over where the repository is a pipeline, an adapter or a sentence encoder.
    for other in ["model_index.json", "adapter_config.json", "modules.json"] {
        assert_eq!(open(&gguf().text(other, "{}"), "org/name:Q8_0").unwrap().provenance.source, Origin::Gguf, "{other}");
        let without = Repository::default().text("config.json", CONFIG).text(other, "{}");
        assert!(matches!(open(&without, "org/name:Q8_0"), Err(HubError::RecipeMissing { .. })), "{other}");
    }
    assert_eq!(open(&gguf(), "https://huggingface.co/org/name/blob/main/config.json").unwrap().provenance.source, Origin::Config);
}

#[test]
fn damaged_files_are_said_with_their_name() {
    let whole = llama(Q8_0, 0..2, 10);
    let mut cut = Repository::default().with("m.gguf", &whole);
    cut.files.get_mut("m.gguf").unwrap().1 -= 1000;
    let mut page = Repository::default().with("m.gguf", &whole);
    page.files.get_mut("m.gguf").unwrap().0[0] = b'<';
    let mut part = Repository::default().with("m-00001-of-00002.gguf", &split(F16, 0));
    for (repository, expected) in [(&cut, "cut off"), (&page, "not a GGUF file")] {
        for is_silent in [false, true] {
            let repository = Repository { is_silent, files: repository.files.clone(), ..Repository::default() };
            // Without sizes, only what the header itself shows is found.
            if let Err(error) = open(&repository, "org/name") {
                assert!(error.to_string().contains(expected) && error.to_string().contains("m.gguf"), "{error}");
            } else {
                assert!(is_silent && expected == "cut off");
            }
        }
    }
    assert!(matches!(open(&part, "org/name"), Err(HubError::FileMissing { file, .. }) if file == "m-00002-of-00002.gguf"));
    part.files.clear();
    assert!(open(&part, "org/name").is_err());
}

#[test]
fn the_page_gets_the_choice_and_its_link_names_the_file() {
    let repository = several();
    let ask = |what: What| run(reader::answer(&repository, &NothingKept, &Picked::nothing(), &Wish { what, endpoint: None, token: None }, &|_| ())).result;
    let on_hub = |text: &str| ask(What::Hub { text: text.to_owned(), revision: None, may_be_built_in: false });
    let failure = on_hub("org/name@v2").unwrap_err();
    assert_eq!(failure.problem, "`org/name` has 3 GGUF files to choose from.");
    let offer = failure.files.into_iter().find(|offer| offer.file.recipe == "Q8_0").unwrap();
    assert!(matches!(&offer.what, What::Hub { revision: Some(revision), .. } if revision == "v2"));
    let found = ask(offer.what).unwrap();
    let link = vramfit::link::Link { model: Some(found.link.clone()), ..vramfit::link::Link::default() };
    let query = link.encode();
    assert_eq!(query, format!("v=1&m=hf://org/name/m-Q8_0.gguf&rev={SHA}"));
    let vramfit::link::ModelLink::Hub { id, revision } = vramfit::link::Link::decode(&query).model.unwrap() else { panic!("of the Hub") };
    let again = ask(What::Hub { text: id, revision, may_be_built_in: true }).unwrap();
    assert_eq!(again, found);
}
