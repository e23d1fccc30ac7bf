//! The page's second module, the reader (`src/bin/reader`): fetched when it is first needed, and asked.

use std::cell::RefCell;
use std::sync::Arc;

use js_sys::Array;
use leptos::prelude::*;
use leptos::task::spawn_local;
use serde::de::DeserializeOwned;
use vramfit::estimate::Estimate;
use vramfit::format::Unit;
use vramfit::plan::Sweep;
use vramfit::reader;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use web_sys::AbortSignal;

#[wasm_bindgen]
extern "C" {
    /// The reader's exports, as `assets/boot.js` fetches them.
    #[derive(Clone)]
    pub type Reader;

    #[wasm_bindgen(catch, js_name = vramfitReader)]
    async fn fetch_reader() -> Result<JsValue, JsValue>;

    #[wasm_bindgen(catch, method)]
    pub fn models(this: &Reader) -> Result<String, JsValue>;

    #[wasm_bindgen(catch, method)]
    pub fn sizes(this: &Reader) -> Result<String, JsValue>;

    #[wasm_bindgen(catch, method)]
    pub async fn search(this: &Reader, text: &str, endpoint: &str, token: &str, signal: &AbortSignal) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(catch, method)]
    pub async fn read(this: &Reader, wish: Vec<u8>, progress: &JsValue, signal: &AbortSignal, given: &Array) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(catch, method)]
    fn take(this: &Reader, answer: &[u8]) -> Result<(), JsValue>;

    #[wasm_bindgen(catch, method)]
    fn estimate(this: &Reader, query: &str) -> Result<Vec<u8>, JsValue>;

    #[wasm_bindgen(catch, method)]
    fn sweep(this: &Reader, query: &str) -> Result<Vec<u8>, JsValue>;

    #[wasm_bindgen(catch, method)]
    fn timeline(this: &Reader, query: &str, is_decimal: bool, width: u32) -> Result<Vec<u8>, JsValue>;

    #[wasm_bindgen(catch, method)]
    fn anatomy(this: &Reader) -> Result<Vec<u8>, JsValue>;

    #[wasm_bindgen(catch, method)]
    fn report(this: &Reader, query: &str) -> Result<Vec<u8>, JsValue>;
}

/// How far the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// Nobody needed it yet, or it is on its way.
    NotYet,
    /// It can be asked.
    Here,
    /// It could not be fetched.
    Failed,
}

thread_local! {
    static READER: RefCell<Option<Reader>> = const { RefCell::new(None) };
    static FETCHED: ArcRwSignal<Fetched> = ArcRwSignal::new(Fetched::NotYet);
    /// The model that the reader has taken.
    static TAKEN: RefCell<Option<Arc<[u8]>>> = const { RefCell::new(None) };
}

/// The reader; fetched where it is not here yet. `None` when it cannot be had.
pub async fn fetch() -> Option<Reader> {
    if let Some(reader) = READER.with_borrow(Clone::clone) {
        return Some(reader);
    }
    let reader: Option<Reader> = fetch_reader().await.ok().map(Into::into);
    READER.set(reader.clone());
    let now = if reader.is_some() { Fetched::Here } else { Fetched::Failed };
    let fetched = fetched();
    if fetched.get_untracked() != now {
        fetched.set(now);
    }
    reader
}

/// How far it is.
pub fn fetched() -> ArcRwSignal<Fetched> {
    FETCHED.with(Clone::clone)
}

/// Fetches the reader ahead of its first question.
pub fn prepare() {
    spawn_local(async { _ = fetch().await });
}

/// [`reader::desk::estimate`] of a model, given as the bytes that it came in.
pub fn estimate(model: &Arc<[u8]>, query: &str) -> Result<Estimate, String> {
    ask(model, |reader| reader.estimate(query))
}

/// [`reader::desk::sweep`].
pub fn sweep(model: &Arc<[u8]>, query: &str) -> Result<Sweep, String> {
    ask(model, |reader| reader.sweep(query))
}

/// [`reader::desk::timeline`].
pub fn timeline(model: &Arc<[u8]>, query: &str, unit: Unit, width: u32) -> Result<String, String> {
    ask(model, |reader| reader.timeline(query, unit == Unit::Gb, width))
}

/// [`reader::desk::anatomy`].
pub fn anatomy(model: &Arc<[u8]>) -> Result<String, String> {
    ask(model, Reader::anatomy)
}

/// [`reader::desk::report`].
pub fn report(model: &Arc<[u8]>, query: &str) -> Result<String, String> {
    ask(model, |reader| reader.report(query))
}

fn ask<T: DeserializeOwned>(model: &Arc<[u8]>, question: impl FnOnce(&Reader) -> Result<Vec<u8>, JsValue>) -> Result<T, String> {
    let answer = READER.with_borrow(|reader| {
        let reader = reader.as_ref()?;
        if !TAKEN.with_borrow(|taken| taken.as_ref().is_some_and(|taken| Arc::ptr_eq(taken, model))) {
            reader.take(model).ok()?;
            TAKEN.set(Some(model.clone()));
        }
        reader::decode::<Result<T, String>>(&question(reader).ok()?)
    });
    answer.unwrap_or_else(|| Err("The second part of this page gave no answer. Reload the page.".to_owned()))
}
