//! The joints between markup and signals. Components write their markup as text and bind its moving parts here. Nothing in this
//! file is generic on the inside: closures arrive boxed, so the page holds one kind of each binding and stays small.

use std::cell::RefCell;

use js_sys::Reflect;
use leptos::prelude::*;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Element, Event, HtmlElement};

/// Does something now, and again whenever a signal that it reads changes; for as long as the page lives.
pub fn follow(work: impl Fn() + 'static) {
    follow_boxed(Box::new(work));
}

fn follow_boxed(work: Box<dyn Fn()>) {
    std::mem::forget(RenderEffect::new(move |_: Option<()>| work()));
}

/// Does something whenever an event comes to an element.
pub fn on(id: &str, event: &str, work: impl Fn(Event) + 'static) {
    if let Some(element) = element(id) {
        listen(&element, event, Box::new(work));
    }
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

/// Writes the text of an element.
pub fn text(id: &str, text: &str) {
    if let Some(element) = element(id)
        && element.text_content().as_deref() != Some(text)
    {
        element.set_text_content(Some(text));
    }
}

thread_local! {
    /// What was written last where markup goes.
    static WRITTEN: RefCell<Vec<(&'static str, String)>> = const { RefCell::new(Vec::new()) };
}

/// Writes the inside of an element, unless that is there already.
pub fn html(id: &'static str, markup: &str) {
    let is_new = WRITTEN.with_borrow_mut(|written| {
        if let Some((_, before)) = written.iter_mut().find(|(known, _)| *known == id) {
            let is_new = before != markup;
            markup.clone_into(before);
            return is_new;
        }
        written.push((id, markup.to_owned()));
        true
    });
    if is_new && let Some(element) = element(id) {
        element.set_inner_html(markup);
    }
}

/// Writes an attribute.
pub fn attribute(id: &str, name: &str, value: &str) {
    if let Some(element) = element(id)
        && element.get_attribute(name).as_deref() != Some(value)
    {
        let _ = element.set_attribute(name, value);
    }
}

/// Sets or takes away an attribute that is there or not.
pub fn flag(id: &str, name: &str, is_set: bool) {
    if let Some(element) = element(id) {
        let _ = element.toggle_attribute_with_force(name, is_set);
    }
}

/// What stands in a field.
pub fn set_value(id: &str, value: &str) {
    if let Some(element) = element(id)
        && get(&element, "value").as_string().as_deref() != Some(value)
    {
        let _ = Reflect::set(&element, &"value".into(), &value.into());
    }
}

/// Whether a box is ticked.
pub fn set_checked(id: &str, is_checked: bool) {
    if let Some(element) = element(id) {
        let _ = Reflect::set(&element, &"checked".into(), &is_checked.into());
    }
}

/// A style property, as scripts may set it under the page's policy.
pub fn style(id: &str, name: &str, value: &str) {
    if let Some(element) = element(id) {
        let _ = element.unchecked_into::<HtmlElement>().style().set_property(name, value);
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
    target(event, "value").as_string().unwrap_or_default()
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

/// Appends text to markup: what stands in it stays text.
pub fn escape(out: &mut String, text: &str) {
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&quot;"),
            letter => out.push(letter),
        }
    }
}

/// Markup from pieces in turn: the first is markup, the second text, and so on.
pub fn weave(out: &mut String, pieces: &[&str]) {
    for (index, piece) in pieces.iter().enumerate() {
        if index % 2 == 0 { out.push_str(piece) } else { escape(out, piece) }
    }
}
