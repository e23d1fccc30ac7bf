//! The joints between markup and signals. Components write their markup as text and bind its moving parts here. Nothing in this
//! file is generic on the inside: closures arrive boxed, so the page holds one kind of each binding and stays small.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use js_sys::Reflect;
use leptos::prelude::*;
pub use vramfit::markup::weave;
use vramfit::markup::{Change, Place, changes};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Element, Event, HtmlElement, HtmlInputElement};

/// Does something now, and again whenever a signal that it reads changes; for as long as the page lives.
pub fn follow(work: impl Fn() + 'static) {
    follow_boxed(Box::new(work));
}

fn follow_boxed(work: Box<dyn Fn()>) {
    std::mem::forget(RenderEffect::new(move |_: Option<()>| work()));
}

/// Does something whenever an event comes to an element.
pub fn on(id: &str, event: &str, work: impl Fn(Event) + 'static) {
    on_boxed(id, event, Box::new(work));
}

fn on_boxed(id: &str, event: &str, work: Box<dyn Fn(Event)>) {
    let Some(element) = element(id) else { return };
    if !matches!(event, "input" | "change") {
        return listen(&element, event, work);
    }
    // What stands in the field now is the user's.
    let key = [id, " ", VALUE].concat();
    let heard = move |event| {
        forget(&key);
        work(event);
    };
    listen(&element, event, Box::new(heard));
}

/// Does something whenever an event comes to the window.
pub fn on_window(event: &str, work: impl Fn(Event) + 'static) {
    listen(&window(), event, Box::new(work));
}

fn listen(target: &web_sys::EventTarget, event: &str, work: Box<dyn Fn(Event)>) {
    let listener = Closure::wrap(work);
    let _ = target.add_event_listener_with_callback(event, listener.as_ref().unchecked_ref());
    listener.forget();
}

/// The element with this id.
pub fn element(id: &str) -> Option<Element> {
    document().get_element_by_id(id)
}

thread_local! {
    /// What was written last, by place.
    static WRITTEN: RefCell<BTreeMap<String, Written>> = const { RefCell::new(BTreeMap::new()) };
    /// How often elements with ids were written anew, which takes others off the page.
    static RENEWALS: Cell<u32> = const { Cell::new(0) };
}

/// The last writing of a place.
struct Written {
    element: Element,
    /// `None` where something else may stand there by now.
    value: Option<String>,
    /// [`RENEWALS`] when the element was last known to be on the page.
    seen: u32,
}

/// Writes a value into a place of an element, unless it stands there already; `write` gets the element and what was there.
fn put(id: &str, place: &str, value: &str, write: &dyn Fn(&Element, Option<&str>)) {
    let key = [id, " ", place].concat();
    let renewals = RENEWALS.get();
    // What stood there; what is written is kept before it is, as the browser may come back here on it.
    let known = WRITTEN.with_borrow_mut(|written| {
        let known = written.get_mut(&key).filter(|known| known.seen == renewals || known.element.is_connected())?;
        known.seen = renewals;
        let differs = known.value.as_deref() != Some(value);
        Some(differs.then(|| (known.element.clone(), known.value.replace(value.to_owned()))))
    });
    match known {
        Some(None) => {}
        Some(Some((element, before))) => write(&element, before.as_deref()),
        None => {
            let Some(element) = element(id) else { return };
            let now = Written { element: element.clone(), value: Some(value.to_owned()), seen: renewals };
            WRITTEN.with_borrow_mut(|written| _ = written.insert(key, now));
            write(&element, None);
        }
    }
}

/// Writes the text of an element.
pub fn text(id: &str, text: &str) {
    put(id, "text", text, &|element, before| match element.first_child() {
        // A text that stays is laid out again, not made anew.
        Some(child) if before.is_some_and(|before| !before.is_empty()) && !text.is_empty() => child.set_node_value(Some(text)),
        _ => element.set_text_content(Some(text)),
    });
}

/// Writes the inside of an element. Where the elements are the same as before, only what differs in them is changed.
pub fn html(id: &str, markup: &str) {
    put(id, "html", markup, &|element, before| {
        let found = before.filter(|before| !before.is_empty()).and_then(|before| changes(before, markup));
        if !found.is_some_and(|found| patch(element, &found)) {
            element.set_inner_html(markup);
            // Places are known by ids.
            if before.is_none_or(|before| before.contains(" id=")) {
                RENEWALS.set(RENEWALS.get() + 1);
            }
        }
    });
}

/// Changes what stands in the elements below one; false when they are not as they were written.
fn patch(top: &Element, changes: &[Change]) -> bool {
    let elements = top.get_elements_by_tag_name("*");
    changes.iter().all(|change| {
        let Some(element) = change.element.map_or_else(|| Some(top.clone()), |number| elements.item(number)) else { return false };
        match change.place {
            Place::Attribute(name) => element.set_attribute(name, &change.value).is_ok(),
            Place::Text(child) => {
                let child = element.child_nodes().item(child);
                child.inspect(|child| child.set_node_value(Some(&change.value))).is_some()
            }
        }
    })
}

/// Writes an attribute.
pub fn attribute(id: &str, name: &str, value: &str) {
    put(id, name, value, &|element, _| _ = element.set_attribute(name, value));
}

/// Sets or takes away an attribute that is there or not.
pub fn flag(id: &str, name: &str, is_set: bool) {
    put(id, name, if is_set { "set" } else { "" }, &|element, _| _ = element.toggle_attribute_with_force(name, is_set));
}

/// A style property, as scripts may set it under the page's policy.
pub fn style(id: &str, name: &str, value: &str) {
    put(id, name, value, &|element, _| _ = element.unchecked_ref::<HtmlElement>().style().set_property(name, value));
}

/// The place of what stands in a field.
const VALUE: &str = "value of the field";

fn forget(key: &str) {
    WRITTEN.with_borrow_mut(|written| written.get_mut(key).map(|known| known.value = None));
}

/// Makes the next [`set_value`] write, whatever was written before.
pub fn forget_value(id: &str) {
    forget(&[id, " ", VALUE].concat());
}

/// What stands in a field.
pub fn set_value(id: &str, value: &str) {
    put(id, VALUE, value, &|field, before| {
        // Selects have the same property.
        let field = field.unchecked_ref::<HtmlInputElement>();
        if before.is_some() || field.value() != value {
            field.set_value(value);
        }
    });
}

/// Whether a box is ticked.
pub fn set_checked(id: &str, is_checked: bool) {
    if let Some(field) = element(id) {
        field.unchecked_into::<HtmlInputElement>().set_checked(is_checked);
    }
}

/// `object.key`
pub fn get(object: &JsValue, key: &str) -> JsValue {
    Reflect::get(object, &key.into()).unwrap_or(JsValue::UNDEFINED)
}

/// A property of what an event came to.
pub fn target(event: &Event, key: &str) -> JsValue {
    event.target().map_or(JsValue::UNDEFINED, |target| get(&target, key))
}

/// What stands in the field that an event came to.
pub fn typed(event: &Event) -> String {
    event.target().map_or_else(String::new, |field| field.unchecked_into::<HtmlInputElement>().value())
}

/// The key that was pressed.
pub fn key(event: &Event) -> String {
    get(event, "key").as_string().unwrap_or_default()
}

/// An attribute of the nearest element around an event that has it.
pub fn nearest(event: &Event, name: &str) -> Option<String> {
    let target: Element = event.target()?.dyn_into().ok()?;
    target.closest(&["[", name, "]"].concat()).ok()??.get_attribute(name)
}
