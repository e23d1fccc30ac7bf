//! What the Hub's protocol needs of a network: one kind of request, one kind of answer.

use std::fmt;

/// A GET request. Nothing else is ever sent: no other method and no header but the two below, so that browsers need no
/// preflight for anonymous requests.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// The address.
    pub url: String,
    /// The first and the last byte wanted (`Range: bytes=FIRST-LAST`).
    pub range: Option<(u64, u64)>,
    /// The access token (`Authorization: Bearer TOKEN`). It must not follow a redirect to another host.
    pub token: Option<String>,
    /// The most bytes of body that are read; a longer body is [`TransportError::TooLarge`].
    pub max_bytes: u64,
}

impl fmt::Debug for Request {
    /// Without the token, which must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "(hidden)");
        let Self { url, range, max_bytes, .. } = self;
        f.debug_struct("Request").field("url", url).field("range", range).field("token", &token).field("max_bytes", max_bytes).finish()
    }
}

/// The answer, whatever its status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status after redirects.
    pub status: u16,
    /// The headers that matter.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
}

/// The headers that matter, as text; `None` also where a browser hides them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// `X-Error-Code`.
    pub error_code: Option<String>,
    /// `X-Error-Message`.
    pub error_message: Option<String>,
    /// `Content-Range`.
    pub content_range: Option<String>,
    /// `Content-Length`.
    pub content_length: Option<String>,
    /// `Retry-After`.
    pub retry_after: Option<String>,
    /// `RateLimit`, which the Hub sends: `"api";r=0;t=55`.
    pub rate_limit: Option<String>,
}

impl Headers {
    /// Seconds that the host asks to wait before it is asked again, where it says so in a way that is understood (not as a date).
    ///
    /// `Retry-After`, else the time until the window of `RateLimit` ends, as `huggingface_hub` 1.0 reads it
    /// (`utils/_http.py: parse_ratelimit_headers`).
    pub fn seconds_to_wait(&self) -> Option<u64> {
        let until_reset = |text: &String| text.split(';').find_map(|part| part.trim().strip_prefix("t=")?.parse().ok());
        self.retry_after.as_ref().and_then(|text| text.trim().parse().ok()).or_else(|| self.rate_limit.as_ref().and_then(until_reset))
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The host cannot be reached, or the connection broke. Browsers do not tell this from a refusal by CORS.
    #[error("{0}")]
    Offline(String),
    /// The user cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The body is longer than [`Request::max_bytes`].
    #[error("the answer is longer than {limit} bytes")]
    TooLarge {
        /// The most bytes that were to be read.
        limit: u64,
    },
    /// There was no answer in time.
    #[error("no answer in time")]
    TimedOut,
}

/// A network: the browser's `fetch`, an HTTP client, or a script in a test.
///
/// Implementations follow redirects, give up at [`Request::max_bytes`] without reading on, and stop when the future is dropped.
/// Futures need not be `Send`: the browser's are not.
pub trait Transport {
    /// Sends one request. Every HTTP status is an answer, not an error.
    fn get(&self, request: Request) -> impl Future<Output = Result<Response, TransportError>>;

    /// Waits before a request is sent again.
    fn pause(&self, milliseconds: u64) -> impl Future<Output = ()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_to_wait_is_read() {
        let wait = |after: Option<&str>, limit: Option<&str>| {
            Headers { retry_after: after.map(str::to_owned), rate_limit: limit.map(str::to_owned), ..Headers::default() }.seconds_to_wait()
        };
        assert_eq!(wait(Some(" 120 "), Some("\"api\";r=0;t=55")), Some(120));
        assert_eq!(wait(None, Some("\"api\";r=0;t=55")), Some(55));
        assert_eq!(wait(Some("Wed, 21 Oct 2026 07:28:00 GMT"), Some("\"pages\"; r=3; t=9")), Some(9));
        for (after, limit) in [(None, None), (Some("soon"), None), (Some("-1"), Some("\"api\";r=0")), (Some("99999999999999999999"), Some("t=x"))] {
            assert_eq!(wait(after, limit), None);
        }
    }

    #[test]
    fn the_token_is_not_printed() {
        let request = Request { url: "https://x".into(), range: None, token: Some("hf_secret".into()), max_bytes: 1 };
        assert!(!format!("{request:?}").contains("secret"));
    }
}
