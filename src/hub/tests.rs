//! The protocol against a scripted Hub.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::session::WAITS;
use super::*;
use crate::checkpoint::HeaderError;
use crate::config::ConfigError;
use crate::model::Anatomy;

const CONFIG: &str = r#"{"model_type": "llama", "hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2,
    "vocab_size": 10, "torch_dtype": "bfloat16"}"#;
const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

/// Runs a future whose parts are always ready soon.
fn run<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..100_000 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
    panic!("the future waits for nothing");
}

type Change = Box<dyn Fn(&Request, Response) -> Result<Response, TransportError>>;

/// A Hub with one repository.
struct Script {
    files: BTreeMap<String, Vec<u8>>,
    /// Changes an answer on its way.
    change: Change,
    requests: RefCell<Vec<Request>>,
    in_flight: Cell<usize>,
    most_in_flight: Cell<usize>,
    pauses: RefCell<Vec<u64>>,
}

impl Script {
    fn new(files: &[(&str, Vec<u8>)]) -> Self {
        let mut files: BTreeMap<String, Vec<u8>> = files.iter().map(|(name, content)| ((*name).to_owned(), content.clone())).collect();
        files.entry("config.json".to_owned()).or_insert_with(|| CONFIG.into());
        Self {
            files,
            change: Box::new(|_, response| Ok(response)),
            requests: RefCell::default(),
            in_flight: Cell::new(0),
            most_in_flight: Cell::new(0),
            pauses: RefCell::default(),
        }
    }

    fn changed(mut self, change: impl Fn(&Request, Response) -> Result<Response, TransportError> + 'static) -> Self {
        self.change = Box::new(change);
        self
    }

    fn answer(&self, request: &Request) -> Response {
        if request.url.contains("/api/models/") {
            let siblings: Vec<_> = self.files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
            let body = serde_json::json!({ "id": "org/name", "sha": SHA, "gated": false, "siblings": siblings });
            return Response { status: 200, headers: Headers::default(), body: body.to_string().into_bytes() };
        }
        let name = request.url.split_once(&format!("/org/name/resolve/{SHA}/")).expect("files are asked for at the commit").1;
        match (self.files.get(name), request.range) {
            (None, _) => failure(404, "EntryNotFound"),
            (Some(content), None) => Response { status: 200, headers: Headers::default(), body: content.clone() },
            (Some(content), Some((first, last))) => {
                let last = last.min(content.len() as u64 - 1);
                let body = content[usize::try_from(first).unwrap()..=usize::try_from(last).unwrap()].to_vec();
                let content_range = Some(format!("bytes {first}-{last}/{}", content.len()));
                Response { status: 206, headers: Headers { content_range, ..Headers::default() }, body }
            }
        }
    }
}

impl Transport for Script {
    async fn get(&self, request: Request) -> Result<Response, TransportError> {
        self.in_flight.set(self.in_flight.get() + 1);
        self.most_in_flight.set(self.most_in_flight.get().max(self.in_flight.get()));
        let mut has_waited = false;
        poll_fn(|context| {
            if has_waited {
                return Poll::Ready(());
            }
            has_waited = true;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        self.in_flight.set(self.in_flight.get() - 1);
        let answer = (self.change)(&request, self.answer(&request))?;
        let limit = request.max_bytes;
        self.requests.borrow_mut().push(request);
        if answer.body.len() as u64 > limit { Err(TransportError::TooLarge { limit }) } else { Ok(answer) }
    }

    async fn pause(&self, milliseconds: u64) {
        self.pauses.borrow_mut().push(milliseconds);
    }
}

fn failure(status: u16, code: &str) -> Response {
    let error_code = Some(code.to_owned()).filter(|code| !code.is_empty());
    Response { status, headers: Headers { error_code, ..Headers::default() }, body: b"{}".to_vec() }
}

fn is_weights(request: &Request) -> bool {
    request.url.contains("model") && request.range.is_some()
}

/// Names and shapes of everything that the config describes.
fn tensors(anatomy: &Anatomy) -> Vec<(String, Vec<u64>)> {
    let component = &anatomy.components[0];
    let mut tensors: Vec<_> = component.tensors.iter().map(|tensor| (tensor.name.clone(), tensor.shape.clone())).collect();
    let mut first = 0;
    for run in &component.layers {
        for layer in first..first + run.count {
            tensors.extend(run.tensors.iter().map(|tensor| (format!("{}.{layer}.{}", component.layer_prefix, tensor.name), tensor.shape.clone())));
        }
        first += run.count;
    }
    tensors
}

/// A safetensors file in bf16; `padding` lengthens its header.
fn weight_file(tensors: &[(String, Vec<u64>)], padding: usize) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".to_owned(), serde_json::json!({ "format": "pt", "padding": "x".repeat(padding) }));
    let mut end = 0;
    for (name, shape) in tensors {
        let begin = end;
        end += 2 * shape.iter().product::<u64>();
        header.insert(name.clone(), serde_json::json!({ "dtype": "BF16", "shape": shape, "data_offsets": [begin, end] }));
    }
    let json = serde_json::Value::Object(header).to_string();
    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.extend(json.as_bytes());
    file.resize(file.len() + usize::try_from(end).unwrap(), 0);
    file
}

fn whole() -> Vec<u8> {
    weight_file(&tensors(&config::read(CONFIG).unwrap()), 0)
}

fn shards(count: usize, padding: usize) -> Vec<(String, Vec<u8>)> {
    let tensors = tensors(&config::read(CONFIG).unwrap());
    let size = tensors.len().div_ceil(count);
    let parts = (0..count).map(|part| tensors.iter().skip(part * size).take(size).cloned().collect::<Vec<_>>());
    parts.enumerate().map(|(part, tensors)| (format!("model-{:05}-of-{count:05}.safetensors", part + 1), weight_file(&tensors, padding))).collect()
}

fn script_of(files: &[(String, Vec<u8>)]) -> Script {
    Script::new(&files.iter().map(|(name, content)| (name.as_str(), content.clone())).collect::<Vec<_>>())
}

fn opened(script: &Script) -> Result<Model, HubError> {
    let reference = "https://huggingface.co/org/name".parse().unwrap();
    run(open(script, &Endpoint::default(), &reference, None, &|_| ()))
}

fn single() -> Script {
    Script::new(&[("model.safetensors", whole())])
}

#[test]
fn shards_are_read_at_the_commit() {
    let script = script_of(&shards(2, 0));
    let seen = RefCell::new(Vec::new());
    let reference = "org/name@main".parse().unwrap();
    let model = run(open(&script, &Endpoint::default(), &reference, Some("hf_x"), &|progress| seen.borrow_mut().push(progress))).unwrap();
    let parameters = model.anatomy.parameters().unwrap();
    let files = model.provenance.files.as_ref().unwrap();
    assert_eq!((files.count, files.elements, files.bytes.get()), (2, parameters, 2 * parameters.get()));
    assert_eq!((model.provenance.id.as_deref(), model.provenance.revision.as_deref()), (Some("org/name"), Some(SHA)));
    assert!(model.provenance.source == Origin::Headers && model.provenance.notes.is_empty());

    let requests = script.requests.borrow();
    let urls: Vec<&str> = requests.iter().map(|request| request.url.as_str()).collect();
    assert_eq!(urls[0], "https://huggingface.co/api/models/org/name/revision/main");
    assert_eq!(urls[1], format!("https://huggingface.co/org/name/resolve/{SHA}/config.json"));
    assert_eq!(urls.len(), 4);
    assert!(requests[2..].iter().all(|request| request.range == Some((0, 99_999)) && request.max_bytes == 100_000));
    assert!(requests.iter().all(|request| request.token.as_deref() == Some("hf_x")));

    let seen = seen.into_inner();
    assert_eq!(seen.iter().map(|progress| (progress.files_done, progress.files)).collect::<Vec<_>>(), [(0, 2), (1, 2), (2, 2)]);
    assert_eq!(seen[2].bytes_total, Some(seen[2].bytes));
    assert!(seen[0].bytes < seen[1].bytes && seen[0].bytes_total.is_none());
}

#[test]
fn a_long_header_takes_a_second_range() {
    let script = Script::new(&[("model.safetensors", weight_file(&tensors(&config::read(CONFIG).unwrap()), 150_000))]);
    let model = opened(&script).unwrap();
    assert_eq!(model.provenance.files.unwrap().elements, model.anatomy.parameters().unwrap());
    let requests = script.requests.borrow();
    let ranges: Vec<_> = requests.iter().filter_map(|request| request.range).collect();
    assert_eq!((ranges.len(), ranges[0], ranges[1].0), (2, (0, 99_999), 100_000));
    assert!(ranges[1].1 > 150_000);
}

#[test]
fn at_most_eight_requests_are_in_flight() {
    let script = script_of(&shards(20, 120_000));
    assert_eq!(opened(&script).unwrap().provenance.files.unwrap().count, 20);
    assert_eq!(script.most_in_flight.get(), IN_FLIGHT);
    assert_eq!(script.in_flight.get(), 0);
}

#[test]
fn without_safetensors_the_config_is_used_and_it_is_said() {
    let model = opened(&Script::new(&[("pytorch_model.bin", vec![0; 10])])).unwrap();
    assert_eq!((model.provenance.source, model.provenance.files), (Origin::Config, None));
    assert_eq!(model.provenance.notes, ["no safetensors files here (only pytorch_model.bin): estimated from config.json"]);
}

#[test]
fn the_folder_of_a_pasted_address_comes_first() {
    let script = Script::new(&[("sub/model.safetensors", whole()), ("model.safetensors", b"no".to_vec())]);
    let reference = "https://huggingface.co/org/name/tree/main/sub".parse().unwrap();
    let model = run(open(&script, &Endpoint::default(), &reference, None, &|_| ())).unwrap();
    assert_eq!(model.provenance.files.unwrap().count, 1);
    assert_eq!(model.provenance.notes, ["`sub` has no config.json: the repository's own is used"]);
}

#[test]
fn a_token_goes_to_the_chosen_hub_only() {
    let script = single();
    let reference = "https://hub.example/org/name".parse().unwrap();
    run(open(&script, &Endpoint::default(), &reference, Some("hf_x"), &|_| ())).unwrap();
    let requests = script.requests.borrow();
    assert!(requests.iter().all(|request| request.url.starts_with("https://hub.example/") && request.token.is_none()));
}

#[test]
fn errors_of_the_hub_are_told_apart() {
    let repo = || RepoId::parse("org/name").unwrap();
    let at =
        |answer: fn(&Request) -> Option<Response>| opened(&single().changed(move |request, response| Ok(answer(request).unwrap_or(response)))).unwrap_err();
    assert_eq!(at(|_| Some(failure(401, "RepoNotFound"))), HubError::NotFoundOrPrivate { repo: repo(), had_token: false });
    assert_eq!(at(|request| request.url.ends_with("config.json").then(|| failure(401, "GatedRepo"))), HubError::Gated { repo: repo(), had_token: false });
    assert_eq!(at(|_| Some(failure(429, ""))), HubError::RateLimited { wait: None });
    assert_eq!(at(|request| is_weights(request).then(|| failure(502, ""))), HubError::Server { status: 502 });
    assert_eq!(
        at(|request| is_weights(request).then(|| failure(416, ""))),
        HubError::Header { file: "model.safetensors".into(), error: HeaderError::TooShort { bytes: 0 } }
    );
    let without_config = Script { files: BTreeMap::from([("model.safetensors".to_owned(), whole())]), ..Script::new(&[]) };
    assert_eq!(opened(&without_config).unwrap_err(), HubError::FileMissing { repo: repo(), file: "config.json".into() });
}

#[test]
fn errors_of_the_network_are_told_apart() {
    for (error, expected) in [
        (TransportError::Offline("no route".into()), HubError::Offline { why: "no route".into() }),
        (TransportError::Cancelled, HubError::Cancelled),
        (TransportError::TimedOut, HubError::TimedOut),
    ] {
        let script = single().changed(move |request, response| if is_weights(request) { Err(error.clone()) } else { Ok(response) });
        assert_eq!(opened(&script).unwrap_err(), expected);
    }
}

#[test]
fn what_is_refused_for_now_is_asked_again_after_a_pause() {
    for (status, refusals) in [(429, 1), (503, 2)] {
        let left = Cell::new(refusals);
        let script = single().changed(move |request, response| {
            let is_refused = request.url.ends_with("config.json") && left.get() > 0;
            left.set(left.get() - usize::from(is_refused));
            Ok(if is_refused { failure(status, "") } else { response })
        });
        let seen = RefCell::new(Vec::new());
        let reference = "org/name".parse().unwrap();
        let model = run(open(&script, &Endpoint::default(), &reference, None, &|progress| seen.borrow_mut().push(progress.pause))).unwrap();
        assert_eq!(model.provenance.files.unwrap().count, 1);
        assert_eq!(*script.pauses.borrow(), WAITS[..refusals]);
        assert_eq!(seen.into_inner().iter().filter(|pause| **pause > 0).count(), refusals, "and it is said");
    }
    // As long as the Hub asks for, and not at all where that is too long.
    for (seconds, pauses) in [("7", &[7000, 7000][..]), ("120", &[])] {
        let script = single().changed(move |_, _| {
            let headers = Headers { retry_after: Some(seconds.to_owned()), ..Headers::default() };
            Ok(Response { headers, ..failure(429, "") })
        });
        assert_eq!(opened(&script).unwrap_err(), HubError::RateLimited { wait: seconds.parse().ok() });
        assert_eq!(script.pauses.borrow().as_slice(), pauses);
    }
    // Not for ever, and nothing else is asked again.
    let script = single().changed(|_, _| Ok(failure(429, "")));
    assert_eq!(opened(&script).unwrap_err(), HubError::RateLimited { wait: None });
    assert_eq!((script.requests.borrow().len(), script.pauses.borrow().as_slice()), (1 + WAITS.len(), WAITS));
    let script = single().changed(|_, _| Ok(failure(404, "RepoNotFound")));
    assert!(opened(&script).is_err() && script.pauses.borrow().is_empty());
    // Many files that are refused at once do not add up to a flood.
    let script = script_of(&shards(20, 0)).changed(|request, response| Ok(if is_weights(request) { failure(500, "") } else { response }));
    assert_eq!(opened(&script).unwrap_err(), HubError::Server { status: 500 });
    assert!(script.pauses.borrow().len() <= MAX_RETRIES);
}

#[test]
fn the_quantisation_may_be_described_beside_the_config() {
    const QUANTIZED: &str =
        r#"{"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": null, "exclude_modules": ["lm_head"]}}"#;
    let script = Script::new(&[("hf_quant_config.json", QUANTIZED.into())]);
    assert_eq!(opened(&script).unwrap().anatomy.quantization.expect("a quantisation").method, "modelopt");
    let urls: Vec<String> = script.requests.borrow().iter().map(|request| request.url.clone()).collect();
    assert_eq!(urls.iter().filter(|url| url.ends_with("/hf_quant_config.json")).count(), 1, "{urls:?}");
    // Only the one beside the config that is read.
    let script = Script::new(&[("sub/hf_quant_config.json", QUANTIZED.into())]);
    assert_eq!(opened(&script).unwrap().anatomy.quantization, None);
    let script = Script::new(&[("hf_quant_config.json", b"{".to_vec())]);
    assert!(matches!(opened(&script).unwrap_err(), HubError::Config(ConfigError::NotJson(_))));
}

#[test]
fn broken_answers_are_told_apart() {
    let weights = |change: fn(&mut Response)| {
        let script = single().changed(move |request, mut response| {
            if is_weights(request) {
                change(&mut response);
            }
            Ok(response)
        });
        opened(&script).unwrap_err()
    };
    let file = || "model.safetensors".to_owned();
    let range = |text: &str| Some(text.to_owned());
    assert_eq!(weights(|response| response.body.truncate(50)), HubError::CutOff { file: file() });
    assert_eq!(
        weights(|response| {
            response.headers = Headers { content_length: Some("5000".into()), ..Headers::default() };
            response.body.truncate(50);
        }),
        HubError::CutOff { file: file() }
    );
    assert!(matches!(weights(|response| response.body = vec![0; 200_000]), HubError::NoRanges { .. }));
    for text in ["bytes 1-99/100", "bytes 0-99", "bytes 9-0/10", "bytes 0-200000/300000", "items 0-99/100", "bytes 0-99/99", "bytes 0-0/10"] {
        let script = single().changed(move |request, mut response| {
            if is_weights(request) {
                response.headers.content_range = range(text);
            }
            Ok(response)
        });
        assert!(matches!(opened(&script).unwrap_err(), HubError::Malformed { .. }), "{text}");
    }
    let size_off = single().changed(|request, mut response| {
        if let Some(text) = response.headers.content_range.as_mut().filter(|_| is_weights(request)) {
            text.push('0');
        }
        Ok(response)
    });
    assert!(matches!(opened(&size_off).unwrap_err(), HubError::Header { error: HeaderError::FileCutOff { .. } | HeaderError::FileTooLong { .. }, .. }));
}

#[test]
fn a_list_of_very_many_files_is_no_other_address() {
    let names: Vec<_> = (0..600_000).map(|at| serde_json::json!({ "rfilename": format!("checkpoints/step-{at}/x") })).collect();
    let body = serde_json::json!({ "sha": SHA, "siblings": names }).to_string().into_bytes();
    let long = single().changed(move |_, response| Ok(Response { body: body.clone(), ..response }));
    let error = opened(&long).unwrap_err();
    assert_eq!(error, HubError::LongListing { limit: 16 << 20 });
    assert!(error.to_string().contains("16,777,216 bytes") && error.advice().contains("open their folder"), "{error}");
}

#[test]
fn json_that_is_none_is_said() {
    let listing =
        single().changed(|request, response| Ok(if request.url.contains("/api/") { Response { body: b"{\"sha\": 1".to_vec(), ..response } } else { response }));
    assert!(matches!(opened(&listing).unwrap_err(), HubError::NoListing { .. }));
    let sha = single().changed(|_, response| Ok(Response { body: b"{\"sha\": \"../../x\"}".to_vec(), ..response }));
    assert!(matches!(opened(&sha).unwrap_err(), HubError::NoListing { .. }));
    let config = Script::new(&[("config.json", b"{".to_vec())]);
    assert!(matches!(opened(&config).unwrap_err(), HubError::Config(ConfigError::NotJson(_))));
    let text = Script::new(&[("config.json", vec![0xff, 0xfe])]);
    assert!(matches!(opened(&text).unwrap_err(), HubError::Malformed { .. }));
    let page = Script::new(&[("model.safetensors", b"<!doctype html><title>x</title>".to_vec())]);
    assert!(matches!(opened(&page).unwrap_err(), HubError::Header { error: HeaderError::TooLarge { .. }, .. }));
}

#[test]
fn a_small_file_may_come_whole() {
    let script = single().changed(|request, mut response| {
        if is_weights(request) {
            response.status = 200;
            response.headers = Headers::default();
        }
        Ok(response)
    });
    assert_eq!(opened(&script).unwrap().provenance.files.unwrap().count, 1);
}

#[test]
fn names_that_are_no_paths_are_passed_over() {
    for (name, expected) in [("a/b.safetensors", true), ("../x", false), ("a//b", false), ("/a", false), ("a\u{1b}b", false), ("", false)] {
        assert_eq!(is_path(name), expected, "{name:?}");
    }
}
