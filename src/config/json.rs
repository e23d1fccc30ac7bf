//! The one door for JSON from outside: bounded, and tolerant of what Python writes.

use serde_json::Value;

use super::ConfigError;

/// The largest config that is read. The largest on the Hub (with per-layer quantisation lists) are below 2 MB.
pub const MAX_BYTES: usize = 10 << 20;

/// Parses JSON. Bare `Infinity`, `-Infinity` and `NaN`, which Python writes and JSON forbids, are read as `null`.
pub fn parse(text: &str) -> Result<Value, ConfigError> {
    if text.len() > MAX_BYTES {
        return Err(ConfigError::TooLarge(text.len()));
    }
    let text = text.trim_start_matches('\u{feff}');
    serde_json::from_str(text).or_else(|error| match without_bare_words(text) {
        Some(mended) => serde_json::from_str(&mended).map_err(|_| ConfigError::NotJson(error.to_string())),
        None => Err(ConfigError::NotJson(error.to_string())),
    })
}

/// JSON without the spaces and line breaks between its parts.
pub fn compact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if first == '"' { string_end(rest) } else { first.len_utf8() };
        if !first.is_ascii_whitespace() {
            out.push_str(&rest[..length]);
        }
        rest = &rest[length..];
    }
    out
}

/// The text with Python's bare number words outside strings replaced by `null`; `None` when there is none.
fn without_bare_words(text: &str) -> Option<String> {
    const WORDS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut found) = (text, false);
    while let Some(at) = rest.find(['"', '-', 'I', 'N']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (copied, skipped) = if rest.starts_with('"') {
            let end = string_end(rest);
            (&rest[..end], end)
        } else if let Some(word) = WORDS.iter().find(|word| rest.starts_with(**word)) {
            found = true;
            ("null", word.len())
        } else {
            (&rest[..1], 1)
        };
        out.push_str(copied);
        rest = &rest[skipped..];
    }
    out.push_str(rest);
    found.then_some(out)
}

/// The length of the string literal at the start of `text`, quotes included.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_words_are_replaced() {
        let value = parse(r#"{"a": [Infinity, -Infinity, NaN, -1], "b": "NaN \" Infinity", "N": 2}"#).unwrap();
        assert_eq!(value.to_string(), r#"{"N":2,"a":[null,null,null,-1],"b":"NaN \" Infinity"}"#);
    }

    #[test]
    fn compact_json_is_the_same_json() {
        let text = "{\n  \"a b\": [1, 1e-06,\tnull],\r\n \"c\": \"x \\\" y\"\n}";
        assert_eq!(compact(text), r#"{"a b":[1,1e-06,null],"c":"x \" y"}"#);
        assert_eq!((compact("\"never closed"), compact("é { ")), ("\"never closed".to_owned(), "é{".to_owned()));
    }

    #[test]
    fn what_is_not_json_says_where() {
        let error = parse("{\"a\": 1,\n oops}").unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
        assert!(parse(&" ".repeat(MAX_BYTES + 1)).is_err());
    }
}
