//! Models that were read stay in the browser, so that they open again without a network.
//!
//! What is kept of a model are the Hub's answers, cut to what is read of them: configs, lists of files, headers. Opening it again
//! runs the same code over those, so a newer page reads them anew. What a token was sent for is never kept.

use std::cell::{Cell, RefCell};

use serde::{Deserialize, Serialize};

use super::{Progress, decode, encode};
use crate::hub::{self, Endpoint, Headers, ModelRef, RepoId, Request, Response, Transport, TransportError};
use crate::model::Model;

/// The most bytes that are kept of one model.
const MAX_BYTES: usize = 16 << 20;

/// Changes whenever [`Entry`] does.
const VERSION: u8 = 2;

/// Where texts of bytes stay from one visit to the next. A store may lose what it has at any time.
pub trait Store {
    /// What was put under a key.
    fn get(&self, key: &str) -> impl Future<Output = Option<Vec<u8>>>;

    /// Puts bytes under a key, if there is room.
    fn put(&self, key: &str, bytes: Vec<u8>) -> impl Future<Output = ()>;

    /// The day it is, as `2026-11-21`.
    fn today(&self) -> String;
}

/// A store that keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NothingKept;

impl Store for NothingKept {
    async fn get(&self, _: &str) -> Option<Vec<u8>> {
        None
    }

    async fn put(&self, _: &str, _: Vec<u8>) {}

    fn today(&self) -> String {
        String::new()
    }
}

/// What stands under a key.
#[derive(Serialize, Deserialize)]
enum Entry {
    /// The same as under another key.
    Same(String),
    /// An opening.
    Opening(Opening),
}

/// The opening of a model: what it was called, and what the Hub answered.
#[derive(Serialize, Deserialize)]
struct Opening {
    date: String,
    id: String,
    revision: Option<String>,
    folder: Option<String>,
    file: Option<String>,
    recipe: Option<String>,
    answers: Vec<Answered>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Answered {
    url: String,
    /// The first byte of the range that was asked for.
    begin: Option<u64>,
    status: u16,
    content_range: Option<String>,
    body: Vec<u8>,
}

/// The key of what a reference means on a Hub.
pub(super) fn key(endpoint: &Endpoint, reference: &ModelRef) -> String {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    // None of the parts has a line break.
    [endpoint.as_str(), reference.id.as_str(), &part(&reference.revision), &part(&reference.folder), &part(&reference.file), &part(&reference.recipe)]
        .join("\n")
}

/// Whether a revision is a whole commit: what it holds never changes.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The model under a key, with the day on which it was read.
pub(super) async fn open<S: Store>(store: &S, key: &str, endpoint: &Endpoint, progress: &dyn Fn(Progress)) -> Option<(Model, String)> {
    let opening = match load(store, key).await? {
        Entry::Opening(opening) => opening,
        Entry::Same(other) => match load(store, &other).await? {
            Entry::Opening(opening) => opening,
            Entry::Same(_) => return None,
        },
    };
    let Opening { date, id, revision, folder, file, recipe, answers } = opening;
    let reference = ModelRef { id: RepoId::parse(&id).ok()?, revision, folder, file, recipe, endpoint: None };
    let model = hub::open(&Replay(answers), endpoint, &reference, None, progress).await.ok()?;
    Some((model, date))
}

async fn load<S: Store>(store: &S, key: &str) -> Option<Entry> {
    let bytes = store.get(key).await?;
    let (version, rest) = bytes.split_first()?;
    decode(rest).filter(|_| *version == VERSION)
}

async fn save<S: Store>(store: &S, key: &str, entry: &Entry) {
    let mut bytes = vec![VERSION];
    bytes.extend(encode(entry));
    store.put(key, bytes).await;
}

/// A network whose answers are noted.
pub(super) struct Recorder<'a, T> {
    transport: &'a T,
    answers: RefCell<Vec<Answered>>,
    bytes: Cell<usize>,
}

impl<'a, T: Transport> Recorder<'a, T> {
    pub fn new(transport: &'a T) -> Self {
        Self { transport, answers: RefCell::default(), bytes: Cell::new(0) }
    }

    /// Keeps what was noted, under the key of the commit that was read, and under the one by which it was asked for.
    pub async fn keep<S: Store>(self, store: &S, reference: &ModelRef, at_commit: String, as_asked: String) {
        if self.bytes.get() > MAX_BYTES {
            return;
        }
        let ModelRef { id, revision, folder, file, recipe, .. } = reference.clone();
        let opening = Opening { date: store.today(), id: id.to_string(), revision, folder, file, recipe, answers: self.answers.into_inner() };
        save(store, &at_commit, &Entry::Opening(opening)).await;
        if as_asked != at_commit {
            save(store, &as_asked, &Entry::Same(at_commit)).await;
        }
    }

    fn note(&self, request: &Request, response: &Response) {
        let content_range = response.headers.content_range.clone();
        let (body, content_range) = cut(&response.body, content_range);
        self.bytes.set(self.bytes.get().saturating_add(body.len()));
        if self.bytes.get() > MAX_BYTES {
            self.answers.borrow_mut().clear();
            return;
        }
        let begin = request.range.map(|(begin, _)| begin);
        self.answers.borrow_mut().push(Answered { url: request.url.clone(), begin, status: response.status, content_range, body });
    }
}

impl<T: Transport> Transport for Recorder<'_, T> {
    async fn get(&self, request: Request) -> Result<Response, TransportError> {
        let response = self.transport.get(request.clone()).await?;
        if matches!(response.status, 200 | 206) && request.token.is_none() {
            self.note(&request, &response);
        }
        Ok(response)
    }

    async fn pause(&self, milliseconds: u64) {
        self.transport.pause(milliseconds).await;
    }
}

/// The beginning of a safetensors file without the weights behind its header; anything else as it is.
fn cut(body: &[u8], content_range: Option<String>) -> (Vec<u8>, Option<String>) {
    let header = || {
        let length = u64::from_le_bytes(*body.first_chunk::<8>()?).checked_add(8)?;
        let text = content_range.as_deref()?;
        let (begin, _, total) = hub::content_range_parts(text)?;
        let is_header = begin == 0 && body.get(8) == Some(&b'{') && length < body.len() as u64;
        let kept = usize::try_from(length).ok().filter(|_| is_header)?;
        let total = total.map_or_else(|| "*".to_owned(), |total| total.to_string());
        Some((body.get(..kept)?.to_vec(), format!("bytes 0-{}/{total}", length - 1)))
    };
    match header() {
        Some((body, range)) => (body, Some(range)),
        None => (body.to_vec(), content_range),
    }
}

/// A network of answers that were noted.
struct Replay(Vec<Answered>);

impl Transport for Replay {
    async fn get(&self, request: Request) -> Result<Response, TransportError> {
        let begin = request.range.map(|(begin, _)| begin);
        let found = self.0.iter().find(|answer| answer.url == request.url && answer.begin == begin).cloned();
        let Answered { status, content_range, body, .. } = found.ok_or_else(|| TransportError::Offline("this was not kept".to_owned()))?;
        Ok(Response { status, headers: Headers { content_range, ..Headers::default() }, body })
    }

    async fn pause(&self, _: u64) {}
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::link::ModelLink;
    use crate::reader::{Answer, Picked, What, Wish, answer};

    const SHA: &str = "0123456789abcdef0123456789abcdef01234567";
    const CONFIG: &str = r#"{"model_type": "llama", "hidden_size": 4, "intermediate_size": 4, "num_attention_heads": 1, "num_hidden_layers": 1,
        "vocab_size": 4, "tie_word_embeddings": true}"#;

    /// A browser: a Hub that may be out of reach, and a store.
    #[derive(Default)]
    struct Browser {
        is_offline: Cell<bool>,
        kept: RefCell<BTreeMap<String, Vec<u8>>>,
        requests: Cell<usize>,
    }

    impl Transport for Browser {
        async fn get(&self, request: Request) -> Result<Response, TransportError> {
            self.requests.set(self.requests.get() + 1);
            if self.is_offline.get() {
                return Err(TransportError::Offline("unplugged".to_owned()));
            }
            if request.url.contains("/gated/") && request.token.is_none() {
                let headers = Headers { error_code: Some("GatedRepo".into()), ..Headers::default() };
                return Ok(Response { status: 401, headers, body: Vec::new() });
            }
            let body = if request.url.contains("/api/models/") {
                let owner = ["gated", "gguf"].into_iter().find(|owner| request.url.contains(&format!("/{owner}/"))).unwrap_or("org");
                let weights: &[&str] = if owner == "gguf" { &["m.gguf"] } else { &["model.safetensors", "model.fp16.safetensors"] };
                let siblings: Vec<_> = ["config.json", "sub/vocab.txt"].iter().chain(weights).map(|name| serde_json::json!({"rfilename": name})).collect();
                serde_json::json!({"id": format!("{owner}/name"), "sha": SHA, "siblings": siblings}).to_string().into_bytes()
            } else if request.url.ends_with("config.json") {
                CONFIG.into()
            } else {
                weights()
            };
            let Some((first, last)) = request.range else { return Ok(Response { status: 200, body, ..Response::default() }) };
            let last = last.min(body.len() as u64 - 1);
            let part = body[usize::try_from(first).unwrap()..=usize::try_from(last).unwrap()].to_vec();
            let headers = Headers { content_range: Some(format!("bytes {first}-{last}/{}", body.len())), ..Headers::default() };
            Ok(Response { status: 206, headers, body: part })
        }

        async fn pause(&self, _: u64) {}
    }

    impl Store for Browser {
        async fn get(&self, key: &str) -> Option<Vec<u8>> {
            self.kept.borrow().get(key).cloned()
        }

        async fn put(&self, key: &str, bytes: Vec<u8>) {
            self.kept.borrow_mut().insert(key.to_owned(), bytes);
        }

        fn today(&self) -> String {
            "2026-11-21".to_owned()
        }
    }

    /// All tensors of the config in bf16: an embedding, seven matrices, three norms.
    fn weights() -> Vec<u8> {
        let layer = |name: &str| format!("model.layers.0.{name}.weight");
        let mut names = vec![("model.embed_tokens.weight".to_owned(), 16), ("model.norm.weight".to_owned(), 4)];
        names.extend(
            ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
                .map(|name| (layer(name), 16)),
        );
        names.extend(["input_layernorm", "post_attention_layernorm"].map(|name| (layer(name), 4)));
        let (mut header, mut end) = (serde_json::Map::new(), 0);
        for (name, count) in names {
            let shape: &[u64] = if count == 16 { &[4, 4] } else { &[4] };
            header.insert(name, serde_json::json!({"dtype": "BF16", "shape": shape, "data_offsets": [end, end + 2 * count]}));
            end += 2 * count;
        }
        let text = serde_json::Value::Object(header).to_string();
        let mut file = (text.len() as u64).to_le_bytes().to_vec();
        file.extend(text.as_bytes());
        file.resize(file.len() + usize::try_from(end).unwrap(), 0);
        file
    }

    fn ask(browser: &Browser, text: &str, revision: Option<&str>, token: Option<&str>) -> Answer {
        let what = What::Hub { text: text.to_owned(), revision: revision.map(str::to_owned), may_be_built_in: false };
        let wish = Wish { what, endpoint: None, token: token.map(str::to_owned) };
        let picked = Picked::nothing();
        let mut answering = std::pin::pin!(answer(browser, browser, &picked, &wish, &|_| {}));
        match answering.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => answer,
            Poll::Pending => panic!("nothing here waits"),
        }
    }

    #[test]
    fn a_model_opens_again_without_a_network() {
        let browser = Browser::default();
        let first = ask(&browser, "org/name", None, None).result.unwrap();
        assert_eq!(first.link, ModelLink::Hub { id: "org/name".into(), revision: Some(SHA.into()) });
        assert_eq!((first.note.as_str(), first.model.provenance.source.name()), ("", "headers"));
        let asked = browser.requests.get();
        // A commit never changes: the Hub is not asked again.
        let pinned = ask(&browser, "org/name", Some(SHA), None).result.unwrap();
        assert_eq!((&pinned.model, &pinned.link), (&first.model, &first.link));
        assert!(pinned.note.contains("2026-11-21") && browser.requests.get() == asked);
        // A name may mean something else by now.
        ask(&browser, "org/name", None, None).result.unwrap();
        assert!(browser.requests.get() > asked);
        browser.is_offline.set(true);
        let offline = ask(&browser, "org/name", None, None).result.unwrap();
        assert_eq!((&offline.model, &offline.link), (&first.model, &first.link));
        assert!(offline.note.contains("cannot be reached") && offline.note.contains("2026-11-21"), "{}", offline.note);
        assert!(ask(&browser, "org/other", None, None).result.unwrap_err().may_retry);
        assert!(ask(&browser, "https://hub.example/org/name", Some(SHA), None).result.is_err(), "another Hub's model is another one");
    }

    #[test]
    fn a_folder_stays_in_its_link() {
        let browser = Browser::default();
        let first = ask(&browser, "https://huggingface.co/org/name/tree/main/sub", None, None).result.unwrap();
        let id = format!("org/name/tree/{SHA}/sub");
        assert_eq!(first.link, ModelLink::Hub { id: id.clone(), revision: Some(SHA.into()) });
        let asked = browser.requests.get();
        let again = ask(&browser, &id, Some(SHA), None).result.unwrap();
        assert_eq!((again.model, again.link, browser.requests.get()), (first.model, first.link, asked));
    }

    #[test]
    fn a_file_that_was_chosen_stays_in_its_link() {
        let browser = Browser::default();
        for (id, file) in [("org/name", "model.fp16.safetensors"), ("gguf/name", "config.json")] {
            let first = ask(&browser, &format!("https://huggingface.co/{id}/blob/main/{file}"), None, None).result.unwrap();
            let address = format!("hf://{id}/{file}");
            assert_eq!(first.link, ModelLink::Hub { id: address.clone(), revision: Some(SHA.into()) });
            let asked = browser.requests.get();
            let again = ask(&browser, &address, Some(SHA), None).result.unwrap();
            assert_eq!((again.model, again.link, browser.requests.get()), (first.model, first.link, asked));
            // The repository's own model is another one.
            let _ = ask(&browser, id, Some(SHA), None);
            assert!(browser.requests.get() > asked, "{id} was not read before");
        }
        // Without the file nothing else is read.
        let config = ask(&browser, "https://huggingface.co/org/name/blob/main/config.json", None, None).result.unwrap();
        assert_eq!(config.link, ModelLink::Hub { id: "org/name".into(), revision: Some(SHA.into()) });
    }

    #[test]
    fn what_a_token_opens_is_not_kept() {
        let browser = Browser::default();
        assert!(ask(&browser, "gated/name", None, None).result.unwrap_err().wants_token);
        ask(&browser, "gated/name", None, Some("hf_x")).result.unwrap();
        assert!(browser.kept.borrow().is_empty());
        assert!(ask(&browser, "gated/name", Some(SHA), None).result.unwrap_err().wants_token);
    }

    #[test]
    fn weights_are_not_kept_and_damage_does_no_harm() {
        let browser = Browser::default();
        let first = ask(&browser, "org/name", None, None).result.unwrap();
        let entries: Vec<(String, Vec<u8>)> = browser.kept.borrow().iter().map(|(key, bytes)| (key.clone(), bytes.clone())).collect();
        let header = u64::from_le_bytes(*weights().first_chunk().unwrap());
        let (key, bytes) = entries.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
        assert!(entries.len() == 2 && bytes.len() < usize::try_from(header).unwrap() + CONFIG.len() + 700, "{} bytes of {header}", bytes.len());
        for end in (0..bytes.len()).step_by(7) {
            let mut damaged = bytes[..end].to_vec();
            browser.kept.borrow_mut().insert(key.clone(), damaged.clone());
            assert_eq!(ask(&browser, "org/name", Some(SHA), None).result.unwrap().model, first.model, "cut at {end}: read anew");
            damaged = bytes.clone();
            damaged[end] ^= 0x55;
            browser.kept.borrow_mut().insert(key.clone(), damaged);
            assert!(ask(&browser, "org/name", Some(SHA), None).result.is_ok(), "changed at {end}");
        }
        let other_version = [vec![VERSION + 1], bytes[1..].to_vec()].concat();
        browser.kept.borrow_mut().insert(key.clone(), other_version);
        browser.is_offline.set(true);
        assert!(ask(&browser, "org/name", Some(SHA), None).result.is_err());
    }

    #[test]
    fn only_headers_are_cut() {
        let cut = |body: &[u8], range: Option<&str>| cut(body, range.map(str::to_owned));
        let file = weights();
        let header = 8 + u64::from_le_bytes(*file.first_chunk().unwrap());
        let (body, range) = cut(&file, Some("bytes 0-9999/123456"));
        assert_eq!((body.len() as u64, range), (header, Some(format!("bytes 0-{}/123456", header - 1))));
        for (body, range) in
            [(&file[..], None), (&file[..], Some("bytes 1-9/10")), (b"GGUF0000{", Some("bytes 0-8/99")), (&file[..20], Some("bytes 0-19/99")), (b"", None)]
        {
            assert_eq!(cut(body, range), (body.to_vec(), range.map(str::to_owned)));
        }
    }
}
