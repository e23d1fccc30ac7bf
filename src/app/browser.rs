//! The browser: clipboard, history, files, sizes. Whatever the page asks of it goes through here.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use js_sys::{Array, Date};
use leptos::prelude::*;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, BlobPropertyBag, HtmlAnchorElement, HtmlElement, Url};

use super::dom::{element, get};

/// The width of an element in CSS pixels; 0 when it is not there.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates
pub fn width_of(id: &str) -> u32 {
    element(id).map_or(0, |element| element.get_bounding_client_rect().width() as u32)
}

/// How far from the left edge of an element a place in the window is, as a share of the element's width.
pub fn share_of(id: &str, client_x: f64) -> Option<f64> {
    let place = element(id)?.get_bounding_client_rect();
    (place.width() > 0.0).then(|| (client_x - place.left()) / place.width())
}

/// Scrolls to one element and puts the focus on another.
pub fn go_to(place: &str, focus: &str) {
    if let Some(place) = element(place) {
        place.scroll_into_view();
    }
    if let Some(field) = element(focus) {
        let _ = field.unchecked_into::<HtmlElement>().focus();
    }
}

/// Says why the page does not work, outside of what it draws.
pub fn explain(text: &str) {
    if let Some(place) = element("boot-error") {
        place.set_text_content(Some(text));
        let _ = place.remove_attribute("hidden");
    }
}

/// Tells tests and measurements that the page works.
pub fn ready() {
    if let Some(root) = document().document_element() {
        let _ = root.set_attribute("data-ready", "true");
    }
    if let Some(performance) = window().performance() {
        let _ = performance.mark("vramfit-ready");
    }
}

/// The query of the address, with its question mark.
pub fn query() -> String {
    window().location().search().unwrap_or_default()
}

/// The address of the page with another query.
pub fn address_with(query: &str) -> String {
    let address = window().location().href().unwrap_or_default();
    let page = address.split(['?', '#']).next().unwrap_or_default();
    format!("{page}?{query}")
}

/// How an address enters the history.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// In the place of the present one.
    Same,
    /// After it, so that Back returns.
    New,
}

/// Changes the query in the address bar.
pub fn set_query(query: &str, entry: Entry) {
    let Ok(history) = window().history() else { return };
    let address = address_with(query);
    // Browsers refuse when it is done too often, and for pages opened from a file; the page works without.
    let _ = match entry {
        Entry::Same => history.replace_state_with_url(&JsValue::NULL, "", Some(&address)),
        Entry::New => history.push_state_with_url(&JsValue::NULL, "", Some(&address)),
    };
}

/// Puts text on the clipboard; false when the browser does not let it.
pub async fn copy(text: &str) -> bool {
    let navigator = window().navigator();
    // Missing where the page is not served safely.
    if !get(&navigator, "clipboard").is_object() {
        return false;
    }
    JsFuture::from(navigator.clipboard().write_text(text)).await.is_ok()
}

/// Hands a text to the user as a file.
pub fn download(name: &str, text: &str) -> Result<(), JsValue> {
    let kind = BlobPropertyBag::new();
    kind.set_type("application/json");
    let parts = Array::new();
    parts.push(&JsValue::from_str(text));
    let blob = Blob::new_with_str_sequence_and_options(&parts, &kind)?;
    let address = Url::create_object_url_with_blob(&blob)?;
    let link: HtmlAnchorElement = document().create_element("a")?.unchecked_into();
    link.set_href(&address);
    link.set_download(name);
    link.click();
    Later::default().run(
        10_000,
        Box::new(move || {
            let _ = Url::revoke_object_url(&address);
        }),
    );
    Ok(())
}

/// Work that waits for a pause: asked again before its time, it starts to wait anew.
#[derive(Default)]
pub struct Later(Rc<Waiting>);

/// The one timer runs on when it is asked again, and waits for the rest when it is over: timers cost more than a look at the clock.
#[derive(Default)]
struct Waiting {
    work: RefCell<Option<Box<dyn FnOnce()>>>,
    /// When it is done, by the clock in milliseconds.
    due: Cell<f64>,
    is_running: Cell<bool>,
}

impl Later {
    /// Does it after so many milliseconds without another call.
    pub fn run(&self, milliseconds: u32, work: Box<dyn FnOnce()>) {
        let pause = f64::from(milliseconds);
        self.0.work.replace(Some(work));
        self.0.due.set(Date::now() + pause);
        if !self.0.is_running.replace(true) {
            wait(self.0.clone(), pause, pause);
        }
    }

    /// Does not do it.
    pub fn stop(&self) {
        self.0.work.take();
    }
}

/// Waits for `rest` of a pause in milliseconds.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates
fn wait(waiting: Rc<Waiting>, pause: f64, rest: f64) {
    let over = move || {
        let rest = waiting.due.get() - Date::now();
        // More than the whole: the clock was put back meanwhile.
        if rest > 0.0 && rest <= pause && waiting.work.borrow().is_some() {
            return wait(waiting, pause, rest);
        }
        waiting.is_running.set(false);
        let work = waiting.work.take();
        if let Some(work) = work {
            work();
        }
    };
    set_timeout(over, Duration::from_millis(rest.ceil() as u64));
}
