//! One opening of a model: requests that are sent again where the Hub refuses them for now, and what they bring.

use std::cell::Cell;

use serde::Deserialize;

use super::{Asked, Endpoint, Headers, HubError, IN_FLIGHT, ModelRef, Progress, QUANT_CONFIG, RepoId, Request, Response, Transport};
use crate::checkpoint::{Header, HeaderError, Parsed, parse_header, quotable};

/// Bytes of the first range of a weight file. 97 % of headers fit (`hf_api.py` of `huggingface_hub` asks for as many).
const FIRST_BYTES: u64 = 100_000;

/// Ranges asked for one header: the first, the rest, and two more where a host sends less than was asked for.
const MAX_RANGES: usize = 4;

/// Milliseconds to wait before a request is sent again that the Hub refused for now (429, 5xx), where it does not say how long:
/// browsers may not read that.
pub(super) const WAITS: &[u64] = &[1000, 5000];

/// The most milliseconds that are waited because the Hub asks for it. Whoever would wait longer is told at once.
const LONGEST_WAIT: u64 = 15_000;

/// Requests that are sent again while one model is opened.
pub(super) const MAX_RETRIES: usize = 2 * IN_FLIGHT;

/// The longest description of a repository that is read, in bytes. The longest known (tens of thousands of files) have a few MB.
const MAX_LISTING: u64 = 16 << 20;

/// The opening of one model.
pub(super) struct Session<'a, T> {
    pub transport: &'a T,
    pub endpoint: &'a Endpoint,
    pub token: Option<&'a str>,
    pub progress: &'a dyn Fn(Progress),
    /// How far it is.
    pub state: Cell<Progress>,
    /// How often requests may still be sent again.
    pub retries: Cell<usize>,
}

/// A repository at one commit.
pub(super) struct Listing {
    pub repo: RepoId,
    /// The commit; `None` when the Hub does not say.
    pub commit: Option<String>,
    /// What files are asked for at: the commit, else what the user named, else `main`.
    pub revision: String,
    /// Its files, as paths; empty when the Hub does not list them.
    pub names: Vec<String>,
}

/// The description of a repository as the Hub sends it; it has much more.
#[derive(Deserialize)]
pub(super) struct RawListing {
    pub id: Option<String>,
    pub sha: Option<String>,
    pub siblings: Option<Vec<Sibling>>,
}

#[derive(Deserialize)]
pub(super) struct Sibling {
    pub rfilename: String,
    /// Bytes, where they were asked for.
    pub size: Option<u64>,
}

/// A part of a file.
pub(super) struct Range {
    /// The first byte: the one that was asked for, or 0 where the host sent the whole of a small file.
    pub begin: u64,
    pub bytes: Vec<u8>,
    /// Bytes of the whole file, where the host says it.
    pub size: Option<u64>,
}

impl<T: Transport> Session<'_, T> {
    /// Changes how far it is, and says so.
    pub fn tell(&self, change: impl FnOnce(&mut Progress)) {
        let mut state = self.state.get();
        change(&mut state);
        state.bytes_total = (state.files > 0 && state.files_done == state.files).then_some(state.bytes);
        self.state.set(state);
        (self.progress)(state);
    }

    /// One request, sent again after a pause where the Hub refuses it for now; the answer has status 200 or 206 and at most
    /// `max_bytes`.
    pub async fn get(&self, asked: &Asked<'_>, url: String, range: Option<(u64, u64)>, max_bytes: u64) -> Result<Response, HubError> {
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
            200 | 206 if length > max_bytes => Err(asked.too_large(max_bytes)),
            200 | 206 => Ok(response),
            status => Err(HubError::from_response(status, &response.headers, asked)),
        }
    }

    pub fn asked<'a>(&self, repo: &'a RepoId, revision: Option<&'a str>, file: Option<&'a str>) -> Asked<'a> {
        Asked { repo, revision, file, had_token: self.token.is_some() }
    }

    /// The commit and the files of the repository.
    pub async fn listing(&self, reference: &ModelRef) -> Result<Listing, HubError> {
        let asked = self.asked(&reference.id, reference.revision.as_deref(), None);
        let url = self.endpoint.api_model(&reference.id, asked.revision);
        let raw = self.raw_listing(&asked, url).await?;
        if let Some(sha) = raw.sha.as_ref().filter(|sha| !(7..=64).contains(&sha.len()) || !sha.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            return Err(asked.malformed(format!("`{}` is not a commit", quotable(sha))));
        }
        // Old ids such as `gpt2` lead to the repository's present one.
        let repo = raw.id.and_then(|id| RepoId::parse(&id).ok()).unwrap_or_else(|| reference.id.clone());
        let revision = raw.sha.clone().or_else(|| reference.revision.clone()).unwrap_or_else(|| "main".to_owned());
        let names = raw.siblings.unwrap_or_default().into_iter().map(|sibling| sibling.rfilename).filter(|name| is_path(name)).collect();
        Ok(Listing { repo, commit: raw.sha, revision, names })
    }

    pub async fn raw_listing(&self, asked: &Asked<'_>, url: String) -> Result<RawListing, HubError> {
        let body = self.get(asked, url, None, MAX_LISTING).await?.body;
        serde_json::from_slice(&body).map_err(|error| asked.malformed(quotable(&error.to_string())))
    }

    /// The text of config.json (the folder's, else the one at the top), and of the file beside it that describes the quantisation.
    pub async fn config(&self, listing: &Listing, folder: &str, notes: &mut Vec<String>) -> Result<(String, Option<String>), HubError> {
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
    pub async fn header<'a>(&self, listing: &'a Listing, file: &'a str) -> Result<(&'a str, Header), HubError> {
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
    pub async fn range(&self, listing: &Listing, file: &str, have: u64, need: u64) -> Result<Option<Range>, HubError> {
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
    let wrong = || asked.malformed(format!("`Content-Range: {}` is not what was asked for", quotable(text)));
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
pub(super) fn is_path(name: &str) -> bool {
    const LONGEST: usize = 1024;
    name.len() <= LONGEST && !name.chars().any(char::is_control) && name.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
}
