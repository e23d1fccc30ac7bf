//! What the model box suggests from the Hub.

use std::cell::RefCell;

use crate::format::sentence;
use crate::hub::{self, Endpoint, NoAnswer, Transport};

/// Answers that are kept for texts that are typed again, letter by letter back and forth.
const MOST: usize = 50;

/// Asks Hubs for suggestions, and each question once.
#[derive(Debug, Default)]
pub struct Suggestions {
    /// Answers by question.
    kept: RefCell<Vec<(String, String)>>,
}

impl Suggestions {
    /// Without an answer.
    pub const fn new() -> Self {
        Self { kept: RefCell::new(Vec::new()) }
    }

    /// A line of what is worth saying (empty for nothing), then ids, a line each: what the Hub at `endpoint` has for a text that is
    /// being typed. An empty `endpoint` stands for the default one, an empty `token` for none.
    pub async fn ask<T: Transport>(&self, transport: &T, text: &str, endpoint: &str, token: &str) -> String {
        let hub = if endpoint.is_empty() { Some(Endpoint::default()) } else { Endpoint::parse(endpoint).ok() };
        // What is wrong with an endpoint is said beside its field.
        let Some(hub) = hub else { return String::new() };
        let question = [hub.as_str(), text.trim()].join("\n");
        if let Some((_, lines)) = self.kept.borrow().iter().find(|(known, _)| *known == question && token.is_empty()) {
            return lines.clone();
        }
        let (why, rest) = match hub::search(transport, &hub, text, Some(token).filter(|token| !token.is_empty())).await {
            Ok(ids) => {
                let lines = ids.iter().fold(String::new(), |lines, id| lines + "\n" + id.as_str());
                // What a token shows is not for whoever has none.
                if token.is_empty() {
                    let mut kept = self.kept.borrow_mut();
                    kept.truncate(MOST - 1);
                    kept.insert(0, (question, lines.clone()));
                }
                return lines;
            }
            Err(NoAnswer::Cancelled) => return String::new(),
            Err(why @ NoAnswer::RateLimited) => (why, "Built-in models only, for a few minutes."),
            Err(why) => (why, "Built-in models only."),
        };
        [&sentence(&why.to_string()), rest].join(" ")
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::hub::{Request, Response, TransportError};

    struct Hub(Result<Response, TransportError>, RefCell<Vec<Request>>);

    impl Transport for Hub {
        async fn get(&self, request: Request) -> Result<Response, TransportError> {
            self.1.borrow_mut().push(request);
            self.0.clone()
        }

        async fn pause(&self, _: u64) {}
    }

    const HUB: &str = "http://localhost:1";

    fn ask(suggestions: &Suggestions, hub: &Hub, text: &str, endpoint: &str, token: &str) -> String {
        match pin!(suggestions.ask(hub, text, endpoint, token)).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(lines) => lines,
            Poll::Pending => panic!("nothing here waits"),
        }
    }

    fn body(status: u16, body: &str) -> Response {
        Response { status, body: body.as_bytes().to_vec(), ..Response::default() }
    }

    #[test]
    fn one_line_is_said_then_come_the_ids() {
        let said = |answer, endpoint| ask(&Suggestions::new(), &Hub(answer, RefCell::default()), "qwen", endpoint, "");
        assert_eq!(said(Ok(body(200, r#"[{"id":"a/b"},{"id":"c"}]"#)), HUB), "\na/b\nc");
        assert_eq!(said(Ok(body(200, "[]")), HUB), "");
        assert_eq!(said(Err(TransportError::Cancelled), HUB), "");
        assert_eq!(said(Ok(body(429, "")), HUB), "The Hub limits how often it can be asked. Built-in models only, for a few minutes.");
        assert_eq!(said(Err(TransportError::Offline("x".into())), HUB), "The Hub cannot be reached. Built-in models only.");
        assert_eq!(said(Ok(body(200, "[]")), "not an address"), "");
    }

    #[test]
    fn a_question_is_asked_once_and_never_for_another_token() {
        let suggestions = Suggestions::new();
        let hub = Hub(Ok(body(200, r#"[{"id":"a/b"}]"#)), RefCell::default());
        for _ in 0..2 {
            assert_eq!(ask(&suggestions, &hub, "a/b ", HUB, ""), "\na/b");
        }
        assert_eq!(hub.1.borrow().len(), 1);
        assert!(hub.1.borrow()[0].url.starts_with("http://localhost:1/api/models?search="));
        ask(&suggestions, &hub, "a/b", "", "");
        for token in ["hf_x", "hf_y"] {
            ask(&suggestions, &hub, "a/b", HUB, token);
        }
        assert_eq!(hub.1.borrow().len(), 4, "another Hub, and each token");
        for number in 0..2 * MOST {
            ask(&suggestions, &hub, &format!("text{number}"), HUB, "");
        }
        assert_eq!(suggestions.kept.borrow().len(), MOST);
        // Refusals are not kept.
        let refusing = Hub(Ok(body(429, "")), RefCell::default());
        for _ in 0..2 {
            ask(&suggestions, &refusing, "other", HUB, "");
        }
        assert_eq!(refusing.1.borrow().len(), 2);
    }
}
