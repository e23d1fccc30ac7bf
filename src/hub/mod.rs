//! The Hub's protocol: from the name of a model to its config and the headers of its weight files.
//!
//! No I/O happens here: requests go through a [`Transport`]. One request describes the repository and pins its commit, one
//! brings config.json, then one range of each weight file brings its header (a second one where the header is long). GGUF files
//! describe themselves: a second request for the description has their sizes, then ranges bring the header of the one that is meant.
//!
//! Memory: a list of files of at most 16 MiB, a config of at most 10 MiB, at most eight headers at a time (100 MB each by the
//! format's limit, a few hundred KB in practice), and a run-length coded inventory of at most a million tensors.

mod endpoint;
mod error;
mod gguf;
mod repo;
mod search;
mod shelf;
mod transport;
mod weights;

use std::cell::Cell;

use serde::Deserialize;
use shelf::OnHub;

use crate::checkpoint::{Header, HeaderError, Matched, Matcher, Parsed, parse_header, quotable};
use crate::config;
use crate::model::{Model, Origin, Provenance};
use crate::repository::{self, Kind, RepositoryError, Shelf};

pub use endpoint::{BadEndpoint, Endpoint};
pub use error::{Asked, HubError};
pub use repo::{ModelRef, RepoId};
pub use search::{NoAnswer, search};
pub use transport::{Headers, Request, Response, Transport, TransportError};
pub(crate) use weights::parent;
pub use weights::{Choice, choose};

/// Requests under way at the same time: the Hub serves many behind one address, and browsers open few connections to a host.
pub const IN_FLIGHT: usize = 8;

/// Bytes of the first range of a weight file. 97 % of headers fit (`hf_api.py` of `huggingface_hub` asks for as many).
const FIRST_BYTES: u64 = 100_000;

/// Ranges asked for one header: the first, the rest, and two more where a host sends less than was asked for.
const MAX_RANGES: usize = 4;

/// Milliseconds to wait before a request is sent again that the Hub refused for now (429, 5xx), where it does not say how long:
/// browsers may not read that.
const WAITS: &[u64] = &[1000, 5000];

/// The most milliseconds that are waited because the Hub asks for it. Whoever would wait longer is told at once.
const LONGEST_WAIT: u64 = 15_000;

/// Requests that are sent again while one model is opened.
const MAX_RETRIES: usize = 2 * IN_FLIGHT;

/// What modelopt puts beside a config.json that does not describe the quantisation.
pub(crate) const QUANT_CONFIG: &str = "hf_quant_config.json";

/// The longest description of a repository that is read, in bytes. The longest known (tens of thousands of files) have a few MB.
const MAX_LISTING: u64 = 16 << 20;

/// How far the opening of a model is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Weight files whose header was read.
    pub files_done: u64,
    /// Weight files in all.
    pub files: u64,
    /// Bytes received so far.
    pub bytes: u64,
    /// Bytes in all, once known: lengths of headers are not known before they are read.
    pub bytes_total: Option<u64>,
    /// Milliseconds that are waited before a request is sent again; 0 when nothing waits.
    pub pause: u64,
}

/// Opens a model: its config, and what its weight files hold. `progress` is called once before and once after each weight file.
///
/// An endpoint in `reference` (from a pasted address) wins over `endpoint`; the token is sent only if the two are the same, so a
/// pasted address cannot carry it elsewhere. Drop the future to cancel.
///
/// # Errors
/// [`HubError`] says what is wrong and what to do. Weights that cannot be read because there are no safetensors files are not an
/// error: the model is then the config's, and a note says so. Where the weights are in several GGUF files to choose among,
/// [`HubError::ChooseFile`] has them.
pub async fn open<T: Transport>(
    transport: &T,
    endpoint: &Endpoint,
    reference: &ModelRef,
    token: Option<&str>,
    progress: &dyn Fn(Progress),
) -> Result<Model, HubError> {
    let own = reference.endpoint.as_ref().unwrap_or(endpoint);
    let token = token.filter(|_| own == endpoint);
    let hub = Session { transport, endpoint: own, token, progress, state: Cell::default(), retries: Cell::new(MAX_RETRIES) };
    hub.open(reference, false).await
}

/// The opening of one model.
struct Session<'a, T> {
    transport: &'a T,
    endpoint: &'a Endpoint,
    token: Option<&'a str>,
    progress: &'a dyn Fn(Progress),
    /// How far it is.
    state: Cell<Progress>,
    /// How often requests may still be sent again.
    retries: Cell<usize>,
}

/// A repository at one commit.
struct Listing {
    repo: RepoId,
    /// The commit; `None` when the Hub does not say.
    commit: Option<String>,
    /// What files are asked for at: the commit, else what the user named, else `main`.
    revision: String,
    /// Its files, as paths; empty when the Hub does not list them.
    names: Vec<String>,
}

/// The description of a repository as the Hub sends it; it has much more.
#[derive(Deserialize)]
struct RawListing {
    id: Option<String>,
    sha: Option<String>,
    siblings: Option<Vec<Sibling>>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    /// Bytes, where they were asked for.
    size: Option<u64>,
}

/// A part of a file.
struct Range {
    /// The first byte: the one that was asked for, or 0 where the host sent the whole of a small file.
    begin: u64,
    bytes: Vec<u8>,
    /// Bytes of the whole file, where the host says it.
    size: Option<u64>,
}

impl<T: Transport> Session<'_, T> {
    /// The model of a reference; an adapter's base is no adapter itself.
    async fn open(&self, reference: &ModelRef, is_base: bool) -> Result<Model, HubError> {
        let listing = self.listing(reference).await?;
        let folder = reference.folder.as_deref().unwrap_or_default();
        let kind = repository::kind(&listing.names, folder).filter(|_| !gguf::is_named(reference));
        if kind.is_none() && gguf::is_meant(&listing, reference) {
            return gguf::open(self, listing, reference).await;
        }
        let shelf = OnHub { session: self, listing: &listing };
        if let Some(kind) = kind {
            if is_base && kind == Kind::Adapter {
                return Err(RepositoryError::Adapter(format!("its base `{}` is an adapter too", listing.repo)).into());
            }
            let content = repository::read(&shelf, kind, folder).await?;
            return Ok(content.into_model(Some(listing.repo.to_string()), listing.commit));
        }
        let mut notes = Vec::new();
        let (config, quant_config) = self.config(&listing, folder, &mut notes).await?;
        let mut anatomy = config::read_with(&config, quant_config.as_deref()).map_err(HubError::Config)?;
        let choice = weights::choose(&listing.names, folder, reference.file.as_deref());
        notes.extend(choice.notes);
        let mut matcher = Matcher::new(&anatomy);
        shelf.headers(&choice.files, &mut |_, header| Ok(matcher.add(header)?)).await?;
        let (source, files) = if choice.files.is_empty() {
            (Origin::Config, None)
        } else {
            let Matched { files, notes: found } = matcher.finish()?;
            notes.extend(found);
            config::quantization_of_files(&mut anatomy, &files);
            (Origin::Headers, Some(files))
        };
        let provenance = Provenance { id: Some(listing.repo.to_string()), revision: listing.commit, source, files, notes };
        Ok(Model { anatomy, provenance })
    }

    /// Changes how far it is, and says so.
    fn tell(&self, change: impl FnOnce(&mut Progress)) {
        let mut state = self.state.get();
        change(&mut state);
        state.bytes_total = (state.files > 0 && state.files_done == state.files).then_some(state.bytes);
        self.state.set(state);
        (self.progress)(state);
    }

    /// One request, sent again after a pause where the Hub refuses it for now; the answer has status 200 or 206 and at most
    /// `max_bytes`.
    async fn get(&self, asked: &Asked<'_>, url: String, range: Option<(u64, u64)>, max_bytes: u64) -> Result<Response, HubError> {
        let request = Request { url, range, token: self.token.map(str::to_owned), max_bytes };
        for &usual in WAITS {
            let answer = self.get_once(request.clone(), asked).await;
            let wait = match &answer {
                Err(HubError::RateLimited { wait: Some(seconds) }) => seconds.saturating_mul(1000),
                Err(HubError::RateLimited { wait: None } | HubError::Server { .. }) => usual,
                _ => return answer,
            };
            if wait > LONGEST_WAIT || self.retries.get() == 0 {
                return answer;
            }
            self.retries.set(self.retries.get() - 1);
            self.tell(|state| state.pause = wait);
            self.transport.pause(wait).await;
            self.tell(|state| state.pause = 0);
        }
        self.get_once(request, asked).await
    }

    async fn get_once(&self, request: Request, asked: &Asked<'_>) -> Result<Response, HubError> {
        let max_bytes = request.max_bytes;
        let response = self.transport.get(request).await.map_err(|error| HubError::from_transport(error, asked))?;
        let length = response.body.len() as u64;
        let mut state = self.state.get();
        state.bytes = state.bytes.saturating_add(length);
        self.state.set(state);
        match response.status {
            200 | 206 if length > max_bytes => Err(HubError::TooLarge { file: asked.name(), limit: max_bytes }),
            200 | 206 => Ok(response),
            status => Err(HubError::from_response(status, &response.headers, asked)),
        }
    }

    fn asked<'a>(&self, repo: &'a RepoId, revision: Option<&'a str>, file: Option<&'a str>) -> Asked<'a> {
        Asked { repo, revision, file, had_token: self.token.is_some() }
    }

    /// The commit and the files of the repository.
    async fn listing(&self, reference: &ModelRef) -> Result<Listing, HubError> {
        let asked = self.asked(&reference.id, reference.revision.as_deref(), None);
        let url = self.endpoint.api_model(&reference.id, asked.revision);
        let raw = self.raw_listing(&asked, url).await?;
        if let Some(sha) = raw.sha.as_ref().filter(|sha| !(7..=64).contains(&sha.len()) || !sha.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            return Err(HubError::Malformed { file: asked.name(), why: format!("`{}` is not a commit", quotable(sha)) });
        }
        // Old ids such as `gpt2` lead to the repository's present one.
        let repo = raw.id.and_then(|id| RepoId::parse(&id).ok()).unwrap_or_else(|| reference.id.clone());
        let revision = raw.sha.clone().or_else(|| reference.revision.clone()).unwrap_or_else(|| "main".to_owned());
        let names = raw.siblings.unwrap_or_default().into_iter().map(|sibling| sibling.rfilename).filter(|name| is_path(name)).collect();
        Ok(Listing { repo, commit: raw.sha, revision, names })
    }

    async fn raw_listing(&self, asked: &Asked<'_>, url: String) -> Result<RawListing, HubError> {
        let body = self.get(asked, url, None, MAX_LISTING).await?.body;
        serde_json::from_slice(&body).map_err(|error| HubError::Malformed { file: asked.name(), why: quotable(&error.to_string()) })
    }

    /// The text of config.json (the folder's, else the one at the top), and of the file beside it that describes the quantisation.
    async fn config(&self, listing: &Listing, folder: &str, notes: &mut Vec<String>) -> Result<(String, Option<String>), HubError> {
        const CONFIG: &str = "config.json";
        let in_folder = if folder.is_empty() { CONFIG.to_owned() } else { format!("{folder}/{CONFIG}") };
        let has = |file: &str| listing.names.is_empty() || listing.names.iter().any(|name| name == file);
        let file = if has(&in_folder) { in_folder.as_str() } else { CONFIG };
        if !has(file) {
            return Err(HubError::FileMissing { repo: listing.repo.clone(), file: CONFIG.to_owned() });
        }
        if file != in_folder {
            notes.push(format!("`{}` has no config.json: the repository's own is used", quotable(folder)));
        }
        let config = self.text(listing, file).await?;
        let beside = file.strip_suffix(CONFIG).map(|folder| format!("{folder}{QUANT_CONFIG}"));
        let quant_config = match beside.filter(|file| listing.names.contains(file)) {
            Some(file) => Some(self.text(listing, &file).await?),
            None => None,
        };
        Ok((config, quant_config))
    }

    /// The header of a weight file, by ranges from its beginning.
    async fn header<'a>(&self, listing: &'a Listing, file: &'a str) -> Result<(&'a str, Header), HubError> {
        let wrong = |error| HubError::Header { file: file.to_owned(), error };
        let (mut prefix, mut size, mut need) = (Vec::new(), None, FIRST_BYTES);
        for _ in 0..MAX_RANGES {
            let have = prefix.len() as u64;
            let Some(range) = self.range(listing, file, have, need).await? else {
                return Err(wrong(if have == 0 { HeaderError::TooShort { bytes: 0 } } else { HeaderError::CutOff { have, need } }));
            };
            if let (Some(before), Some(now)) = (size, range.size)
                && before != now
            {
                return Err(HubError::Malformed { file: file.to_owned(), why: "its size changed between two requests".to_owned() });
            }
            size = size.or(range.size);
            prefix.truncate(usize::try_from(range.begin).unwrap_or(usize::MAX));
            prefix.extend(range.bytes);
            match parse_header(&prefix, size).map_err(wrong)? {
                Parsed::Header(header) => return Ok((file, header)),
                Parsed::NeedMore { bytes } => need = bytes,
            }
        }
        Err(wrong(HeaderError::CutOff { have: prefix.len() as u64, need }))
    }

    /// Bytes of a file from `have` to before `need`, or fewer; `None` when the file ends before `have`.
    async fn range(&self, listing: &Listing, file: &str, have: u64, need: u64) -> Result<Option<Range>, HubError> {
        let asked = self.asked(&listing.repo, Some(&listing.revision), Some(file));
        let url = self.endpoint.resolve(&listing.repo, &listing.revision, file);
        // At least as much as the first range, so that the text of an error is never too long to be understood.
        let response = match self.get(&asked, url, Some((have, need - 1)), FIRST_BYTES.max(need - have)).await {
            Err(HubError::TooLarge { file, .. }) => return Err(HubError::NoRanges { file }),
            // Range not satisfiable.
            Err(HubError::Unexpected { status: 416 }) => return Ok(None),
            answer => answer?,
        };
        Ok(Some(if response.status == 200 {
            Range { begin: 0, size: Some(response.body.len() as u64), bytes: response.body }
        } else {
            let size = checked_range(&response, have, need, &asked)?;
            Range { begin: have, bytes: response.body, size }
        }))
    }
}

/// Checks that an answer with status 206 is the range from `have` on, at most up to `need`; returns the size of the whole file
/// where the host says it. Without a `Content-Range` (a browser may hide it) only the length can be checked.
fn checked_range(response: &Response, have: u64, need: u64, asked: &Asked<'_>) -> Result<Option<u64>, HubError> {
    let length = response.body.len() as u64;
    let Headers { content_range, content_length, .. } = &response.headers;
    let Some(text) = content_range else {
        let promised = content_length.as_ref().and_then(|text| text.trim().parse::<u64>().ok());
        return if promised.is_some_and(|promised| promised > length) { Err(HubError::CutOff { file: asked.name() }) } else { Ok(None) };
    };
    let wrong = || HubError::Malformed { file: asked.name(), why: format!("`Content-Range: {}` is not what was asked for", quotable(text)) };
    let (first, last, total) = content_range_parts(text).ok_or_else(wrong)?;
    if first != have || last < first || last >= need || total.is_some_and(|total| total <= last) {
        return Err(wrong());
    }
    match (last - first + 1).cmp(&length) {
        std::cmp::Ordering::Equal => Ok(total),
        std::cmp::Ordering::Greater => Err(HubError::CutOff { file: asked.name() }),
        std::cmp::Ordering::Less => Err(wrong()),
    }
}

/// `bytes 0-99/1000` as first byte, last byte and size, which may be `*`.
pub(crate) fn content_range_parts(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?, total))
}

/// A path that stays one when it is put into an address, and that may be shown.
fn is_path(name: &str) -> bool {
    const LONGEST: usize = 1024;
    name.len() <= LONGEST && !name.chars().any(char::is_control) && name.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
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
    fn json_that_is_none_is_said() {
        let listing = single()
            .changed(|request, response| Ok(if request.url.contains("/api/") { Response { body: b"{\"sha\": 1".to_vec(), ..response } } else { response }));
        assert!(matches!(opened(&listing).unwrap_err(), HubError::Malformed { .. }));
        let sha = single().changed(|_, response| Ok(Response { body: b"{\"sha\": \"../../x\"}".to_vec(), ..response }));
        assert!(matches!(opened(&sha).unwrap_err(), HubError::Malformed { .. }));
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
}
