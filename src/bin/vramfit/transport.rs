//! The network of the command line: one thread per request, so that several are under way at once.

use std::io::Read;
use std::time::Duration;

use futures_channel::oneshot;
use ureq::Agent;
use vramfit::hub::{Headers, Request, Response, Transport, TransportError};

/// The most redirects of one request.
const MAX_REDIRECTS: usize = 5;

/// HTTP by `ureq`.
pub struct Http {
    agent: Agent,
}

impl Http {
    /// A client that follows no redirect by itself: the token's way is decided here.
    pub fn new() -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(Duration::from_secs(15)))
            .timeout_global(Some(Duration::from_secs(60)))
            .user_agent(concat!("vramfit/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.into() }
    }
}

impl Transport for Http {
    async fn get(&self, request: Request) -> Result<Response, TransportError> {
        let (send, receive) = oneshot::channel();
        let agent = self.agent.clone();
        std::thread::spawn(move || {
            // The receiver is gone when the user's answer no longer needs this one.
            let _ = send.send(fetch(&agent, request));
        });
        receive.await.unwrap_or(Err(TransportError::Cancelled))
    }

    async fn pause(&self, milliseconds: u64) {
        let (send, receive) = oneshot::channel();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(milliseconds));
            let _ = send.send(());
        });
        let _ = receive.await;
    }
}

fn fetch(agent: &Agent, request: Request) -> Result<Response, TransportError> {
    let mut url = request.url;
    let home = origin(&url).to_owned();
    for _ in 0..=MAX_REDIRECTS {
        let mut call = agent.get(&url).header("Accept-Encoding", "identity");
        if let Some((first, last)) = request.range {
            call = call.header("Range", format!("bytes={first}-{last}"));
        }
        // A token never follows a redirect to another host.
        if let Some(token) = request.token.as_ref().filter(|_| origin(&url) == home) {
            call = call.header("Authorization", format!("Bearer {token}"));
        }
        let answer = call.call().map_err(|error| failure(&error))?;
        let status = answer.status().as_u16();
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        if let (300..=399, Some(location)) = (status, header("location")) {
            url = joined(&url, &location);
            continue;
        }
        let headers = Headers {
            error_code: header("x-error-code"),
            error_message: header("x-error-message"),
            content_range: header("content-range"),
            content_length: header("content-length"),
            retry_after: header("retry-after"),
            rate_limit: header("ratelimit"),
        };
        let mut body = Vec::new();
        let limit = request.max_bytes;
        answer.into_body().into_reader().take(limit.saturating_add(1)).read_to_end(&mut body).map_err(broken_off)?;
        if body.len() as u64 > limit {
            return Err(TransportError::TooLarge { limit });
        }
        return Ok(Response { status, headers, body });
    }
    Err(TransportError::Offline(format!("more than {MAX_REDIRECTS} redirects")))
}

fn failure(error: &ureq::Error) -> TransportError {
    match error {
        ureq::Error::Timeout(_) => TransportError::TimedOut,
        other => TransportError::Offline(other.to_string()),
    }
}

/// A body that did not come to its end.
fn broken_off(error: std::io::Error) -> TransportError {
    // `ureq` hands its own errors on inside of those of the body.
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(inner) => failure(inner),
        None => TransportError::Offline(error.to_string()),
    }
}

/// `https://host:port` of an address.
fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    &url[..end]
}

/// A `Location` seen from `url`: an address, or a path on the same host.
fn joined(url: &str, location: &str) -> String {
    match location {
        whole if whole.contains("://") => whole.to_owned(),
        path if path.starts_with('/') => format!("{}{path}", origin(url)),
        relative => {
            let path = url.split(['?', '#']).next().unwrap_or(url);
            let folder = path.rfind('/').filter(|&at| at >= origin(url).len()).map_or(path, |at| &path[..at]);
            format!("{folder}/{relative}")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_body_that_does_not_go_on_is_out_of_time_and_one_that_breaks_off_is_not() {
        for (stays, is_late) in [(true, true), (false, false)] {
            let host = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/x", host.local_addr().unwrap());
            let (done, wait) = std::sync::mpsc::channel::<()>();
            let server = std::thread::spawn(move || {
                let (mut stream, _) = host.accept().unwrap();
                let _ = stream.read(&mut [0; 4096]).unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").unwrap();
                if stays {
                    let _ = wait.recv();
                }
            });
            let agent: Agent = Agent::config_builder().timeout_global(Some(Duration::from_millis(500))).build().into();
            let answer = fetch(&agent, Request { url, range: None, token: None, max_bytes: 1000 });
            drop(done);
            server.join().unwrap();
            let error = answer.map(|_| ()).unwrap_err();
            assert!(if is_late { matches!(error, TransportError::TimedOut) } else { matches!(error, TransportError::Offline(_)) }, "{error:?}");
        }
    }

    #[test]
    fn redirects_are_seen_from_where_they_are() {
        for (url, location, to) in [
            ("https://hub/a/resolve/x", "/api/resolve-cache/y", "https://hub/api/resolve-cache/y"),
            ("https://hub/a?q=/b", "https://cdn:8443/z?s=1", "https://cdn:8443/z?s=1"),
            ("http://hub:80/a/b", "c", "http://hub:80/a/c"),
        ] {
            assert_eq!(joined(url, location), to);
        }
        assert_eq!(origin("http://127.0.0.1:8000/x/y"), "http://127.0.0.1:8000");
        assert_ne!(origin("http://127.0.0.1:8000/x"), origin("http://127.0.0.1:8001/x"));
        assert_eq!(origin("https://hub?x=/"), "https://hub");
    }
}
