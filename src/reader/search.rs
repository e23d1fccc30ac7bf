//! What the model box suggests from the Hub.

use crate::hub::{self, Endpoint, NoAnswer, Transport};

/// A line of what is worth saying (empty for nothing), then ids, a line each: what the Hub at `endpoint` has for a text that is
/// being typed. An empty `endpoint` stands for the default one, an empty `token` for none.
pub async fn suggestions<T: Transport>(transport: &T, text: &str, endpoint: &str, token: &str) -> String {
    let hub = if endpoint.is_empty() { Some(Endpoint::default()) } else { Endpoint::parse(endpoint).ok() };
    // What is wrong with an endpoint is said beside its field.
    let Some(hub) = hub else { return String::new() };
    match hub::search(transport, &hub, text, Some(token).filter(|token| !token.is_empty())).await {
        Ok(ids) => ids.iter().fold(String::new(), |lines, id| lines + "\n" + id.as_str()),
        Err(NoAnswer::Cancelled) => String::new(),
        Err(why @ NoAnswer::RateLimited) => format!("{} Built-in models only, for a few minutes.", crate::format::sentence(&why.to_string())),
        Err(why) => format!("{} Built-in models only.", crate::format::sentence(&why.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::hub::{Request, Response, TransportError};

    struct Hub(Result<Response, TransportError>);

    impl Transport for Hub {
        async fn get(&self, request: Request) -> Result<Response, TransportError> {
            assert!(request.url.starts_with("http://localhost:1/api/models?search="));
            assert_eq!(request.token, None);
            self.0.clone()
        }

        async fn pause(&self, _: u64) {}
    }

    fn said(answer: Result<Response, TransportError>, endpoint: &str) -> String {
        match pin!(suggestions(&Hub(answer), "qwen", endpoint, "")).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(lines) => lines,
            Poll::Pending => panic!("nothing here waits"),
        }
    }

    #[test]
    fn one_line_is_said_then_come_the_ids() {
        const HUB: &str = "http://localhost:1";
        let body = |status, body: &str| Ok(Response { status, body: body.as_bytes().to_vec(), ..Response::default() });
        assert_eq!(said(body(200, r#"[{"id":"a/b"},{"id":"c"}]"#), HUB), "\na/b\nc");
        assert_eq!(said(body(200, "[]"), HUB), "");
        assert_eq!(said(Err(TransportError::Cancelled), HUB), "");
        assert_eq!(said(body(429, ""), HUB), "The Hub limits how often it can be asked. Built-in models only, for a few minutes.");
        assert_eq!(said(Err(TransportError::Offline("x".into())), HUB), "The Hub cannot be reached. Built-in models only.");
        assert_eq!(said(body(200, "[]"), "not an address"), "");
    }
}
