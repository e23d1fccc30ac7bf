//! A Hub that is written in a test, and the published pipelines of `fixtures/pipelines.jsonl`.

use std::collections::BTreeMap;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use serde_json::{Value, json};
use vramfit::hub::{Endpoint, Headers, HubError, Request, Response, Transport, TransportError, open};
use vramfit::model::Model;

/// Repositories with their files.
#[derive(Default)]
pub struct Hub(BTreeMap<String, BTreeMap<String, Vec<u8>>>);

impl Hub {
    /// The same with one more.
    pub fn with(mut self, id: &str, files: &[(&str, Vec<u8>)]) -> Self {
        self.0.insert(id.to_owned(), files.iter().map(|(name, content)| ((*name).to_owned(), content.clone())).collect());
        self
    }

    /// Opens a model as one does on the Hub.
    pub fn open(&self, id: &str) -> Result<Model, HubError> {
        let (endpoint, reference) = (Endpoint::default(), id.parse().unwrap());
        let mut opening = pin!(open(self, &endpoint, &reference, None, &|_| {}));
        for _ in 0..10_000 {
            if let Poll::Ready(answer) = opening.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return answer;
            }
        }
        panic!("the future waits for nothing");
    }
}

impl Transport for Hub {
    async fn get(&self, request: Request) -> Result<Response, TransportError> {
        let path = request.url.split_once("://").unwrap().1.split_once('/').unwrap().1;
        let found = match path.strip_prefix("api/models/") {
            Some(rest) => self.0.iter().find(|(id, _)| rest.starts_with(id.as_str())).map(|(id, files)| {
                let names: Vec<Value> = files.keys().map(|name| json!({"rfilename": name})).collect();
                json!({"id": id, "sha": "0123456789abcdef0123456789abcdef01234567", "siblings": names}).to_string().into_bytes()
            }),
            None => {
                let file = |(id, files): (&String, &BTreeMap<String, Vec<u8>>)| {
                    let name = path.strip_prefix(id.as_str())?.strip_prefix("/resolve/")?.split_once('/')?.1;
                    files.get(name).cloned()
                };
                self.0.iter().find_map(file)
            }
        };
        let status = if found.is_some() { 200 } else { 404 };
        Ok(Response { status, headers: Headers::default(), body: found.unwrap_or_default() })
    }

    async fn pause(&self, _: u64) {}
}

/// A file of JSON.
pub fn text(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// A published pipeline.
pub fn published(id: &str) -> Model {
    let rows = include_str!("../fixtures/pipelines.jsonl").lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let row = rows.into_iter().find(|row| row["id"] == id).unwrap();
    let files: Vec<(&str, Vec<u8>)> = row["files"].as_object().unwrap().iter().map(|(name, config)| (name.as_str(), text(config))).collect();
    Hub::default().with(id, &files).open(id).unwrap()
}
