//! Search as one types: ids of models that have these words in them.

use serde::Deserialize;

use super::{Endpoint, RepoId, Request, Transport, TransportError};

/// Ids that are asked for.
const LIMIT: usize = 8;

/// The longest answer that is read. A row has a few KB at most: its tags.
const MAX_ANSWER: u64 = 256 << 10;

/// Letters and digits below which too much would be found.
const SHORTEST: usize = 2;

/// The longest text that is asked for: that of the longest id.
const LONGEST: usize = 193;

/// Why a search has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// There is no connection to the Hub.
    #[error("the Hub cannot be reached")]
    Offline,
    /// The next key was pressed.
    #[error("cancelled")]
    Cancelled,
    /// Too many requests came from this address or account.
    #[error("the Hub limits how often it can be asked")]
    RateLimited,
    /// Another status, or an answer that is no list of models.
    #[error("the Hub does not search")]
    Unexpected,
}

#[derive(Deserialize)]
struct Row {
    id: String,
}

/// Ids on the Hub that match a text, at most eight; none, without asking, for a text that is no part of an id: an address, a
/// pasted config, a single letter.
///
/// # Errors
/// [`NoAnswer`] says why; nothing is tried again, since the next key asks anew.
pub async fn search<T: Transport>(transport: &T, endpoint: &Endpoint, text: &str, token: Option<&str>) -> Result<Vec<RepoId>, NoAnswer> {
    let text = text.trim();
    if !is_part_of_id(text) {
        return Ok(Vec::new());
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    let request = Request { url: endpoint.search(&words.join(" "), LIMIT), range: None, token: token.map(str::to_owned), max_bytes: MAX_ANSWER };
    let response = transport.get(request).await.map_err(|error| match error {
        TransportError::Offline(_) | TransportError::TimedOut => NoAnswer::Offline,
        TransportError::Cancelled => NoAnswer::Cancelled,
        TransportError::TooLarge { .. } => NoAnswer::Unexpected,
    })?;
    match response.status {
        200 if response.body.len() as u64 <= MAX_ANSWER => {}
        429 => return Err(NoAnswer::RateLimited),
        _ => return Err(NoAnswer::Unexpected),
    }
    let rows: Vec<Row> = serde_json::from_slice(&response.body).map_err(|_| NoAnswer::Unexpected)?;
    Ok(rows.into_iter().filter_map(|row| RepoId::parse(&row.id).ok()).take(LIMIT).collect())
}

fn is_part_of_id(text: &str) -> bool {
    let is_sign = |c: char| c.is_ascii_alphanumeric() || c.is_whitespace() || "-_./".contains(c);
    let has_letters = text.chars().filter(char::is_ascii_alphanumeric).count() >= SHORTEST;
    let is_address = ["huggingface.co/", "hf.co/", "/", "."].iter().any(|start| text.starts_with(start));
    text.len() <= LONGEST && text.chars().all(is_sign) && has_letters && !is_address && text.matches('/').count() <= 1
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::hub::Response;

    /// A Hub with one answer to everything.
    struct Hub {
        answer: Result<Response, TransportError>,
        asked: RefCell<Vec<Request>>,
    }

    impl Transport for Hub {
        async fn get(&self, request: Request) -> Result<Response, TransportError> {
            self.asked.borrow_mut().push(request);
            self.answer.clone()
        }

        async fn pause(&self, _: u64) {
            panic!("a search is not tried again");
        }
    }

    fn ask(answer: Result<Response, TransportError>, text: &str) -> (Result<Vec<String>, NoAnswer>, Vec<Request>) {
        let hub = Hub { answer, asked: RefCell::default() };
        let found = match pin!(search(&hub, &Endpoint::default(), text, Some("hf_x"))).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(found) => found.map(|ids| ids.iter().map(ToString::to_string).collect()),
            Poll::Pending => panic!("nothing here waits"),
        };
        (found, hub.asked.into_inner())
    }

    fn body(status: u16, body: &str) -> Response {
        Response { status, body: body.as_bytes().to_vec(), ..Response::default() }
    }

    #[test]
    fn ids_come_in_the_order_of_the_hub() {
        let rows = r#"[{"_id":"1","id":"org/b-7B","gated":"auto","tags":["x"]},{"id":"gpt2"},{"id":"../etc"},{"id":"org/a"}]"#;
        let (found, asked) = ask(Ok(body(200, rows)), "  org   7b ");
        assert_eq!(found.unwrap(), ["org/b-7B", "gpt2", "org/a"], "and what is no id is passed over");
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].url, "https://huggingface.co/api/models?search=org%207b&limit=8&sort=downloads");
        assert_eq!((asked[0].token.as_deref(), asked[0].range, asked[0].max_bytes), (Some("hf_x"), None, MAX_ANSWER));
        let many = serde_json::to_string(&(0..50).map(|n| serde_json::json!({"id": format!("org/m{n}")})).collect::<Vec<_>>()).unwrap();
        assert_eq!(ask(Ok(body(200, &many)), "org").0.unwrap().len(), LIMIT);
    }

    #[test]
    fn what_is_no_part_of_an_id_is_not_asked() {
        let long = "x".repeat(LONGEST + 1);
        for text in [
            "",
            " ",
            "q",
            "--",
            "{\"model_type\": 1}",
            "https://huggingface.co/org/name",
            "hf.co/org/name",
            "huggingface.co/org/name",
            "org/name@main",
            "./config.json",
            "/models/llama",
            "a/b/c",
            "layers=32,hidden=4096",
            "m\u{f6}del",
            long.as_str(),
        ] {
            let (found, asked) = ask(Ok(body(200, "[]")), text);
            assert_eq!((found, asked.len()), (Ok(Vec::new()), 0), "{text}");
        }
        for text in ["o1", "qwen", "meta-llama/", "Qwen/Qwen3", "llama 3.1 instruct", "org_x/name.v2"] {
            assert_eq!(ask(Ok(body(200, "[]")), text).1.len(), 1, "{text}");
        }
    }

    #[test]
    fn why_there_is_no_answer_is_told_apart() {
        let why = |answer| ask(answer, "qwen").0.unwrap_err();
        assert_eq!(why(Err(TransportError::Offline("x".into()))), NoAnswer::Offline);
        assert_eq!(why(Err(TransportError::TimedOut)), NoAnswer::Offline);
        assert_eq!(why(Err(TransportError::Cancelled)), NoAnswer::Cancelled);
        assert_eq!(why(Err(TransportError::TooLarge { limit: 1 })), NoAnswer::Unexpected);
        assert_eq!(why(Ok(body(429, "{}"))), NoAnswer::RateLimited);
        for (status, text) in [(404, "[]"), (500, "[]"), (200, "{}"), (200, "<html>"), (200, "[{\"name\": 1}]")] {
            assert_eq!(why(Ok(body(status, text))), NoAnswer::Unexpected, "{status} {text}");
        }
        assert_eq!(why(Ok(Response { status: 200, body: vec![b' '; 300 << 10], ..Response::default() })), NoAnswer::Unexpected);
    }

    proptest::proptest! {
        #[test]
        fn any_answer_and_any_text_do_no_harm(status in 0u16..1000, answer in r#"[\[\]{}":,a-z0-9/ \\]{0,120}|\PC{0,40}"#, text in r"[a-z/.@ :-]{0,20}|\PC{0,20}") {
            if let Ok(found) = ask(Ok(body(status, &answer)), &text).0 {
                proptest::prop_assert!(found.len() <= LIMIT && found.iter().all(|id| RepoId::parse(id).is_ok()));
            }
        }
    }
}
