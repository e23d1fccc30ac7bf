//! What the browser keeps from one visit to the next: its cache of answers, of which the address is ours to choose.

use js_sys::{Array, Date, Uint8Array};
use vramfit::reader::Store;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};

use super::transport::get;

/// The name of the cache.
const NAME: &str = "vramfit-models";

/// The most entries: two for each model.
const MOST: u32 = 100;

#[wasm_bindgen]
extern "C" {
    /// `CacheStorage`
    type Caches;

    #[wasm_bindgen(catch, method)]
    async fn open(this: &Caches, name: &str) -> Result<JsValue, JsValue>;

    /// `Cache`
    type Cache;

    #[wasm_bindgen(catch, method, js_name = match)]
    async fn find(this: &Cache, address: &str) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(catch, method)]
    async fn put(this: &Cache, address: &str, answer: &Answer) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(catch, method)]
    async fn keys(this: &Cache) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(catch, method)]
    async fn delete(this: &Cache, request: &JsValue) -> Result<JsValue, JsValue>;

    /// `Response`
    #[wasm_bindgen(js_name = Response)]
    type Answer;

    #[wasm_bindgen(catch, constructor, js_class = Response)]
    fn new(body: &Uint8Array) -> Result<Answer, JsValue>;

    #[wasm_bindgen(catch, method, js_name = arrayBuffer)]
    async fn bytes(this: &Answer) -> Result<JsValue, JsValue>;
}

/// The browser's cache; where a page may not have one, nothing is kept.
pub struct BrowserStore;

impl Store for BrowserStore {
    async fn get(&self, key: &str) -> Option<Vec<u8>> {
        let answer = cache().await?.find(&address(key)).await.ok().filter(JsValue::is_object)?;
        let bytes = answer.unchecked_into::<Answer>().bytes().await.ok()?;
        Some(Uint8Array::new(&bytes).to_vec())
    }

    async fn put(&self, key: &str, bytes: Vec<u8>) {
        let Some(cache) = cache().await else { return };
        let Ok(answer) = Answer::new(&Uint8Array::from(bytes.as_slice())) else { return };
        // Full: the model opens all the same, from the Hub.
        let _ = cache.put(&address(key), &answer).await;
        // The oldest come first.
        let Ok(keys) = cache.keys().await else { return };
        let keys: Array = keys.unchecked_into();
        for old in keys.iter().take(keys.length().saturating_sub(MOST) as usize) {
            let _ = cache.delete(&old).await;
        }
    }

    fn today(&self) -> String {
        String::from(Date::new_0().to_iso_string()).chars().take(10).collect()
    }
}

async fn cache() -> Option<Cache> {
    let caches = get(&js_sys::global(), "caches");
    let caches: Caches = Some(caches).filter(JsValue::is_object)?.unchecked_into();
    Some(caches.open(NAME).await.ok()?.unchecked_into())
}

/// An address on the page's own host that stands for a key; nothing is ever fetched from it.
fn address(key: &str) -> String {
    ["/kept?", &String::from(js_sys::encode_uri_component(key))].concat()
}
