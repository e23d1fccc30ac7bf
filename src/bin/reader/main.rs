//! The reader: the page's second module of WebAssembly. It turns names, addresses and files into models, answers what the first
//! module has no rules for, and knows no more of the page than the bytes that [`vramfit::reader`] describes. Compiled for anything
//! else, it only says what it is.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
mod files;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
mod store;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
mod transport;

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
mod module {
    use std::cell::RefCell;
    use std::rc::Rc;

    use js_sys::{Array, Function};
    use vramfit::format::Unit;
    use vramfit::model::Model;
    use vramfit::reader::{self, Answer, Failure, Progress, Suggestions, What, Wish, desk};
    use wasm_bindgen::JsValue;
    use wasm_bindgen::prelude::wasm_bindgen;
    use web_sys::AbortSignal;

    use super::files;
    use super::store::BrowserStore;
    use super::transport::FetchTransport;

    /// The ids of the built-in models, a line each.
    #[wasm_bindgen]
    pub fn models() -> String {
        reader::built_in_ids()
    }

    /// [`reader::sizes`].
    #[wasm_bindgen]
    pub fn sizes() -> String {
        reader::sizes()
    }

    /// What the Hub at `endpoint` (the default one where it is empty) has for a text that is being typed: a line of what is worth
    /// saying, then ids, a line each.
    #[wasm_bindgen]
    pub async fn search(text: String, endpoint: String, token: String, signal: AbortSignal) -> String {
        let suggestions = SUGGESTIONS.with(Rc::clone);
        suggestions.ask(&FetchTransport { signal }, &text, &endpoint, &token).await
    }

    const OTHER_VERSION: &str = "two parts of this page are of different versions";

    thread_local! {
        /// The model that figures are asked of.
        static MODEL: RefCell<Option<Model>> = const { RefCell::new(None) };
        /// What may draft tokens for it.
        static DRAFTS: RefCell<desk::Drafts> = RefCell::default();
        static LAST: RefCell<desk::Last> = RefCell::default();
        static SUGGESTIONS: Rc<Suggestions> = Rc::default();
    }

    /// Takes the model that figures will be asked of, out of the bytes of an [`Answer`].
    #[wasm_bindgen]
    pub fn take(answer: &[u8]) {
        MODEL.set(reader::model_of(answer));
        LAST.with_borrow_mut(desk::Last::forget);
    }

    /// What is said of that model, or why it cannot be.
    fn of_model<T>(say: impl FnOnce(&Model, &desk::Drafts) -> Result<T, String>) -> Result<T, String> {
        DRAFTS.with_borrow(|drafts| MODEL.with_borrow(|model| model.as_ref().map_or_else(|| Err(OTHER_VERSION.to_owned()), |model| say(model, drafts))))
    }

    /// The bytes of [`desk::estimate`].
    #[wasm_bindgen]
    pub fn estimate(query: &str) -> Vec<u8> {
        reader::encode(&of_model(|model, drafts| LAST.with_borrow_mut(|last| desk::estimate(model, query, drafts, last))))
    }

    /// The bytes of [`desk::sweep`].
    #[wasm_bindgen]
    pub fn sweep(query: &str) -> Vec<u8> {
        reader::encode(&of_model(|model, drafts| desk::sweep(model, query, drafts)))
    }

    /// The bytes of [`desk::timeline`].
    #[wasm_bindgen]
    pub fn timeline(query: &str, is_decimal: bool, width: u32) -> Vec<u8> {
        let unit = if is_decimal { Unit::Gb } else { Unit::Gib };
        reader::encode(&of_model(|model, drafts| LAST.with_borrow_mut(|last| desk::timeline(model, query, drafts, last, (unit, width)))))
    }

    /// The bytes of [`desk::anatomy`].
    #[wasm_bindgen]
    pub fn anatomy() -> Vec<u8> {
        reader::encode(&of_model(|model, _| desk::anatomy(model)))
    }

    /// The bytes of [`desk::report`].
    #[wasm_bindgen]
    pub fn report(query: &str) -> Vec<u8> {
        reader::encode(&of_model(|model, drafts| desk::report(model, query, drafts)))
    }

    /// Reads the model that the bytes of a [`Wish`] ask for; the bytes of its [`Answer`]. `progress` is called with the files read,
    /// the files in all, the bytes received, and the milliseconds that are waited; `given` has the files and entries that were
    /// picked or dropped.
    #[wasm_bindgen]
    pub async fn read(wish: Vec<u8>, progress: Function, signal: AbortSignal, given: Array) -> Vec<u8> {
        #[allow(clippy::cast_precision_loss)] // counts far below 2^53
        let report = |now: Progress| {
            let number = |count: u64| JsValue::from_f64(count as f64);
            let _ = progress.call4(&JsValue::NULL, &number(now.files_done), &number(now.files), &number(now.bytes), &number(now.pause));
        };
        let answer = match reader::decode::<Wish>(&wish) {
            Some(wish) => {
                let given = if matches!(wish.what, What::Files { .. }) { given } else { Array::new() };
                let answer = reader::answer(&FetchTransport { signal }, &BrowserStore, &files::picked(&given).await, &wish, &report).await;
                if let Ok(found) = &answer.result {
                    DRAFTS.with_borrow_mut(|drafts| drafts.keep(&wish.what, found));
                    LAST.with_borrow_mut(desk::Last::forget);
                }
                answer
            }
            None => Answer { endpoint: None, result: Err(Failure::new(OTHER_VERSION, "Reload the page.")) },
        };
        reader::encode(&answer)
    }
}

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
fn main() {}

#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
fn main() {
    println!("This is the part of vramfit's page that reads models. The command line is called `vramfit`.");
}
