//! The browser's network.

use js_sys::{Function, Promise, Reflect, Uint8Array};
use vramfit::hub::{Headers, Request, Response, Transport, TransportError};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::AbortSignal;

/// The network of the browser.
pub struct FetchTransport {
    /// Breaks off what is under way.
    pub signal: AbortSignal,
}

impl Transport for FetchTransport {
    async fn get(&self, request: Request) -> Result<Response, TransportError> {
        let mut builder = gloo_net::http::Request::get(&request.url).abort_signal(Some(&self.signal));
        if let Some((first, last)) = request.range {
            builder = builder.header("Range", &format!("bytes={first}-{last}"));
        }
        if let Some(token) = &request.token {
            // Browsers take it off when they follow a redirect to another host.
            builder = builder.header("Authorization", &format!("Bearer {token}"));
        }
        let answer = builder.send().await.map_err(|_| self.failure("the browser got no answer"))?;
        let given = answer.headers();
        let headers = Headers {
            error_code: given.get("x-error-code"),
            error_message: given.get("x-error-message"),
            content_range: given.get("content-range"),
            content_length: given.get("content-length"),
            retry_after: given.get("retry-after"),
            rate_limit: given.get("ratelimit"),
        };
        let limit = request.max_bytes;
        let body = match answer.body() {
            Some(stream) => {
                let promised = headers.content_length.as_ref().and_then(|length| length.parse::<u64>().ok());
                if promised.is_some_and(|bytes| bytes > limit) {
                    let _ = call(&stream, "cancel");
                    return Err(TransportError::TooLarge { limit });
                }
                read_stream(&stream, limit).await.map_err(|stop| stop.unwrap_or_else(|| self.failure("the connection broke")))?
            }
            None => Vec::new(),
        };
        Ok(Response { status: answer.status(), headers, body })
    }

    #[allow(clippy::cast_precision_loss)] // seconds
    async fn pause(&self, milliseconds: u64) {
        let wait = Promise::new(&mut |done, _| {
            let set = Reflect::get(&js_sys::global(), &"setTimeout".into()).and_then(JsCast::dyn_into::<Function>);
            _ = set.and_then(|set| set.call2(&JsValue::UNDEFINED, &done, &JsValue::from_f64(milliseconds as f64)));
        });
        let _ = JsFuture::from(wait).await;
    }
}

impl FetchTransport {
    fn failure(&self, what: &str) -> TransportError {
        if self.signal.aborted() {
            return TransportError::Cancelled;
        }
        let is_online = web_sys::window().is_none_or(|window| window.navigator().on_line());
        TransportError::Offline(if is_online { what.to_owned() } else { "this device is offline".to_owned() })
    }
}

/// Reads a stream to its end; `Err(None)` when it broke.
async fn read_stream(stream: &JsValue, limit: u64) -> Result<Vec<u8>, Option<TransportError>> {
    let broke = |_: JsValue| None;
    let reader = call(stream, "getReader").map_err(broke)?;
    let mut body = Vec::new();
    loop {
        let next: Promise = call(&reader, "read").map_err(broke)?.unchecked_into();
        let chunk = JsFuture::from(next).await.map_err(broke)?;
        if get(&chunk, "done").is_truthy() {
            return Ok(body);
        }
        let bytes: Uint8Array = get(&chunk, "value").unchecked_into();
        if body.len() as u64 + u64::from(bytes.length()) > limit {
            let _ = call(&reader, "cancel");
            return Err(Some(TransportError::TooLarge { limit }));
        }
        body.extend(bytes.to_vec());
    }
}

/// `object.method()`
pub fn call(object: &JsValue, method: &str) -> Result<JsValue, JsValue> {
    let function: Function = Reflect::get(object, &method.into())?.dyn_into()?;
    function.call0(object)
}

/// `object.key`
pub fn get(object: &JsValue, key: &str) -> JsValue {
    Reflect::get(object, &key.into()).unwrap_or(JsValue::UNDEFINED)
}
