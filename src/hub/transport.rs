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
    fn the_token_is_not_printed() {
        let request = Request { url: "https://x".into(), range: None, token: Some("hf_secret".into()), max_bytes: 1 };
        assert!(!format!("{request:?}").contains("secret"));
    }
}
