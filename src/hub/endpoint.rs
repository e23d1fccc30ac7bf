//! The address of a Hub, and the addresses below it.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::fmt;

use super::RepoId;
use crate::checkpoint::quotable;

/// A text that is not the address of a Hub. Displays as what is wrong; [`BadEndpoint::ADVICE`] is what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{input}` is not the address of a Hub: {why}")]
pub struct BadEndpoint {
    /// The text, shortened.
    pub input: String,
    /// What is wrong.
    pub why: &'static str,
}

impl BadEndpoint {
    /// What to do, as a sentence.
    pub const ADVICE: &str = "Write it as https://huggingface.co is written.";
}

/// A Hub: <https://huggingface.co> or one that answers alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(String);

impl Default for Endpoint {
    fn default() -> Self {
        Self("https://huggingface.co".to_owned())
    }
}

impl Endpoint {
    /// Reads an address such as `https://huggingface.co`; `http` is for loopback hosts only.
    ///
    /// # Errors
    /// [`BadEndpoint`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, BadEndpoint> {
        let text = text.trim().trim_end_matches('/');
        // What stands before an @ may be a password.
        let shown = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
        let bad = |why| BadEndpoint { input: quotable(shown), why };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("it must begin with https://"))?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let authority = authority.to_ascii_lowercase();
        let host = host(&authority).ok_or_else(|| bad("it needs a host name, and no user name in front of it"))?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "https" => "https",
            "http" if is_loopback(host) => "http",
            "http" => return Err(bad("http is allowed for this computer only (localhost); use https")),
            _ => return Err(bad("it must begin with https://")),
        };
        if path.is_empty() {
            return Ok(Self(format!("{scheme}://{authority}")));
        }
        let is_plain = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(is_unreserved);
        if path.split('/').all(is_plain) { Ok(Self(format!("{scheme}://{authority}/{path}"))) } else { Err(bad("its path has signs that do not belong there")) }
    }

    /// The address, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where the Hub describes a model: its commit and its list of files.
    pub fn api_model(&self, id: &RepoId, revision: Option<&str>) -> String {
        let revision = revision.map_or_else(String::new, |revision| format!("/revision/{}", encoded(revision)));
        format!("{self}/api/models/{id}{revision}")
    }

    /// Where the Hub searches among the ids of models: at most `limit`, those that are downloaded most first.
    pub fn search(&self, words: &str, limit: usize) -> String {
        format!("{self}/api/models?search={}&limit={limit}&sort=downloads", encoded(words))
    }

    /// Where a file of a model is.
    pub fn resolve(&self, id: &RepoId, revision: &str, path: &str) -> String {
        let path: Vec<String> = path.split('/').map(encoded).collect();
        format!("{self}/{id}/resolve/{}/{}", encoded(revision), path.join("/"))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Endpoint {
    type Err = BadEndpoint;

    fn from_str(text: &str) -> Result<Self, BadEndpoint> {
        Self::parse(text)
    }
}

/// The host of `host` or `host:port`, when both are sound.
fn host(authority: &str) -> Option<&str> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)),
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    (is_host && port.is_none_or(is_port)).then_some(host)
}

fn is_loopback(host: &str) -> bool {
    let v6 = || host.trim_matches(['[', ']']).parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback());
    host == "localhost" || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback()) || v6()
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// One path segment, percent-encoded (RFC 3986): a slash in it is encoded too.
fn encoded(segment: &str) -> String {
    let mut out = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if is_unreserved(byte) {
            out.push(char::from(byte));
        } else {
            let digit = |nibble: u8| char::from(b"0123456789ABCDEF"[usize::from(nibble)]);
            out.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_safe_addresses_are_taken() {
        for (text, address) in [
            ("https://huggingface.co", "https://huggingface.co"),
            (" HTTPS://HuggingFace.co/ ", "https://huggingface.co"),
            ("https://mirror.example:8443/hf", "https://mirror.example:8443/hf"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
            ("http://[::1]:80", "http://[::1]:80"),
            ("https://[2001:db8::1]", "https://[2001:db8::1]"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().as_str(), address);
        }
        for bad in [
            "",
            "huggingface.co",
            "http://huggingface.co",
            "http://127.0.0.1.evil.example",
            "http://192.168.0.1",
            "ftp://x.example",
            "https://",
            "https://user:pass@x.example",
            "https://x.example?q=1",
            "https://x.example/a/../b",
            "https://x.example:0",
            "https://x.example:99999",
            "https://x.example:+80",
            "https://[::1",
            "https://x example",
            "javascript://x",
            "https://x.example/a?b",
            "https://x.example#y",
        ] {
            assert!(matches!(Endpoint::parse(bad), Err(BadEndpoint { .. })), "{bad}");
        }
    }

    #[test]
    fn addresses_are_encoded() {
        let (hub, id) = (Endpoint::default(), RepoId::parse("org/name.v1_x").unwrap());
        assert_eq!(hub.api_model(&id, None), "https://huggingface.co/api/models/org/name.v1_x");
        assert_eq!(hub.api_model(&id, Some("refs/pr/1")), "https://huggingface.co/api/models/org/name.v1_x/revision/refs%2Fpr%2F1");
        assert_eq!(hub.resolve(&id, "main", "a dir/ü#?%.safetensors"), "https://huggingface.co/org/name.v1_x/resolve/main/a%20dir/%C3%BC%23%3F%25.safetensors");
    }
}
