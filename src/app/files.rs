//! Files that are picked or dropped. They go to the reader as the browser has them; the page looks at none, and nothing is sent.

use js_sys::Array;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Event, HtmlElement};

use super::state::AppState;
use super::{dom, load};

/// The ways to pick. Fields of files cannot be styled, so buttons stand for them.
pub const MARKUP: &str = "\
    <span class='files'>\
      <button type='button' id='pick-files' class='link' title='A config.json, .safetensors files or their index, .gguf files. Nothing is uploaded.'>Files…</button>\
      <button type='button' id='pick-folder' class='link' title='The folder of a model. Nothing is uploaded.'>Folder…</button>\
      <input id='files' type='file' multiple hidden aria-label='Files of a model'>\
      <input id='folder' type='file' webkitdirectory hidden aria-label='The folder of a model'>\
    </span>";

#[wasm_bindgen]
extern "C" {
    /// `DataTransferItem`
    #[derive(Clone)]
    type Item;

    #[wasm_bindgen(method, js_name = webkitGetAsEntry)]
    fn entry(this: &Item) -> JsValue;

    #[wasm_bindgen(method, js_name = getAsFile)]
    fn file(this: &Item) -> JsValue;
}

/// Makes it work.
pub fn bind(state: AppState) {
    for (button, field) in [("pick-files", "files"), ("pick-folder", "folder")] {
        dom::on(button, "click", move |_| {
            if let Some(field) = dom::element(field) {
                field.unchecked_into::<HtmlElement>().click();
            }
        });
        dom::on(field, "change", move |event| {
            load::pick(state, Array::from(&dom::target(&event, "files")));
            // So that the same files can be picked again.
            dom::set_value(field, "");
        });
    }
    dom::on_window("dragover", |event| {
        if !items(&event).is_empty() {
            event.prevent_default();
            dom::flag("inputs", "data-drop", true);
        }
    });
    dom::on_window("dragleave", |_| dom::flag("inputs", "data-drop", false));
    dom::on_window("drop", move |event| {
        dom::flag("inputs", "data-drop", false);
        let items = items(&event);
        if !items.is_empty() {
            event.prevent_default();
            // Entries can be asked for now only; a folder has no file.
            let given = items.iter().map(|item| Some(item.entry()).filter(JsValue::is_object).unwrap_or_else(|| item.file()));
            load::pick(state, given.collect());
        }
    });
}

/// What is dragged, without texts.
fn items(event: &Event) -> Vec<Item> {
    let all = dom::get(&dom::get(event, "dataTransfer"), "items");
    let all = if all.is_object() { Array::from(&all) } else { Array::new() };
    all.iter().filter(|item| dom::get(item, "kind").as_string().as_deref() == Some("file")).map(JsCast::unchecked_into).collect()
}
