//! The parts that forms are made of: a typed number, a slider, a choice.

use std::cell::Cell;
use std::rc::Rc;

use leptos::prelude::*;
use vramfit::quantity::Decimal;

use super::dom;
use super::state::AppState;

/// Takes what was typed; an empty text means the default. The error says what is expected.
pub type Take = fn(AppState, &str) -> Result<(), String>;

/// Shows the state in one part of a form. Whoever binds parts runs these whenever the state changes, all in one go.
pub type Show = Box<dyn Fn()>;

/// A number that is typed.
pub struct Field {
    /// Its id in the document.
    pub id: &'static str,
    /// Its name.
    pub label: &'static str,
    /// What it shows while nobody types in it.
    pub value: fn(AppState) -> String,
    /// Takes what was typed.
    pub take: Take,
    /// Whether every keystroke counts; else what is left behind.
    pub is_live: bool,
}

impl Field {
    /// A label and an input, with what is wrong under it.
    pub fn markup(&self, out: &mut String) {
        let head = ["<div class='field' id='", "-field'><label id='", "-label' for='", "'>"].join(self.id);
        let input = [
            "</label><input id='",
            "' class='number' type='text' inputmode='decimal' autocomplete='off' spellcheck='false' placeholder='auto' aria-invalid='false' aria-describedby='",
            "-problem'><p class='problem' id='",
            "-problem' aria-live='polite'></p></div>",
        ]
        .join(self.id);
        dom::weave(out, &[&head, self.label, &input]);
    }

    /// Hears what is typed.
    pub fn bind(&'static self, state: AppState) -> Show {
        // What was typed stays as it is until it is taken.
        let is_draft = Rc::new(Cell::new(false));
        let (typing, leaving) = (is_draft.clone(), is_draft.clone());
        dom::on(self.id, "input", move |event| {
            typing.set(true);
            if self.is_live && (self.take)(state, &dom::typed(&event)).is_ok() {
                self.complain("");
            }
        });
        dom::on(self.id, "change", move |event| match (self.take)(state, &dom::typed(&event)) {
            Ok(()) => {
                leaving.set(false);
                self.complain("");
                dom::set_value(self.id, &untrack(|| (self.value)(state)));
            }
            Err(why) => self.complain(&why),
        });
        Box::new(move || {
            let value = (self.value)(state);
            if !is_draft.get() {
                dom::set_value(self.id, &value);
            }
        })
    }

    fn complain(&self, why: &str) {
        dom::text(&[self.id, "-problem"].concat(), why);
        dom::attribute(self.id, "aria-invalid", if why.is_empty() { "false" } else { "true" });
    }
}

/// A slider over whole positions.
pub struct Slider {
    /// Its id in the document.
    pub id: &'static str,
    /// Its name.
    pub label: &'static str,
    /// Takes a position.
    pub take: fn(AppState, u64),
    /// Its position, and what that means.
    pub stand: fn(AppState) -> (u64, String),
    /// What it stands on.
    pub track: fn(AppState) -> Track,
}

/// What a slider stands on.
pub struct Track {
    /// Its last position.
    pub last: u64,
    /// A position to mark, with what it is.
    pub mark: Option<(u64, String)>,
    /// What is written under the track, from its start to its end.
    pub scale: Vec<String>,
}

impl Slider {
    /// A slider with its scale.
    pub fn markup(&self, out: &mut String) {
        let track = [
            "<div class='slider'><div class='track'><span id='",
            "-mark' class='mark' hidden></span><input id='",
            "' type='range' min='0' max='1' step='1' aria-label='",
        ]
        .join(self.id);
        let scale = ["'></div><div id='", "-scale' class='scale' aria-hidden='true'></div><p id='", "-note' class='note'></p></div>"].join(self.id);
        dom::weave(out, &[&track, self.label, &scale]);
    }

    /// Hears where it is moved.
    pub fn bind(&'static self, state: AppState) -> Show {
        dom::on(self.id, "input", move |event| {
            if let Ok(position) = dom::typed(&event).parse() {
                (self.take)(state, position);
            }
        });
        dom::follow(move || self.lay((self.track)(state), state));
        Box::new(move || self.show((self.stand)(state)))
    }

    fn show(&self, (position, said): (u64, String)) {
        dom::attribute(self.id, "aria-valuetext", &said);
        dom::set_value(self.id, &position.to_string());
    }

    fn lay(&self, track: Track, state: AppState) {
        let Track { last, mark, scale } = track;
        let id = |part: &str| [self.id, part].concat();
        dom::attribute(self.id, "max", &last.to_string());
        // The browser keeps it within its track, so that where it stood may not be where it stands now.
        dom::forget_value(self.id);
        self.show(untrack(|| (self.stand)(state)));
        let (place, note) = mark.map_or_else(Default::default, |(at, note)| (along(at, last), note));
        dom::flag(&id("-mark"), "hidden", place.is_empty());
        dom::style(&id("-mark"), "left", &place);
        dom::text(&id("-note"), &note);
        let mut ticks = String::new();
        for text in &scale {
            dom::weave(&mut ticks, &["<span>", text, "</span>"]);
        }
        dom::html(&id("-scale"), &ticks);
    }
}

/// Where the middle of the thumb is at a position: the thumb stays within the track.
fn along(position: u64, last: u64) -> String {
    let per_mille = position.min(last) * 1000 / last.max(1);
    format!("calc(8px + (100% - 16px) * {}.{:03})", per_mille / 1000, per_mille % 1000)
}

/// A choice among a few.
pub struct Choice {
    /// Its id in the document.
    pub id: &'static str,
    /// Its name.
    pub label: &'static str,
    /// The value that is chosen.
    pub value: fn(AppState) -> String,
    /// Takes another value.
    pub take: fn(AppState, &str),
}

impl Choice {
    /// A label and a select with these `option` elements.
    pub fn markup(&self, out: &mut String, options: &str) {
        let head = ["<div class='field' id='", "-field'><label for='", "'>"].join(self.id);
        let select = ["</label><select id='", "'>"].join(self.id);
        dom::weave(out, &[&head, self.label, &select, "", options, "", "</select></div>"]);
    }

    /// Puts the choice that is made in an empty list.
    pub fn begin(&self, value: &str, label: &str) {
        let mut only = String::new();
        option(&mut only, self.id, value, label);
        dom::html(self.id, &only);
    }

    /// Fills the list.
    pub fn fill(&self, state: AppState, options: &str) {
        dom::html(self.id, options);
        dom::forget_value(self.id);
        dom::set_value(self.id, &untrack(|| (self.value)(state)));
    }

    /// Hears what is chosen.
    pub fn bind(&'static self, state: AppState) -> Show {
        dom::on(self.id, "change", move |event| (self.take)(state, &dom::typed(&event)));
        Box::new(move || dom::set_value(self.id, &(self.value)(state)))
    }
}

/// Appends an option.
pub fn option(out: &mut String, id: &str, value: &str, label: &str) {
    let opening = ["<option id='", id, "-", value, "' value='", value, "'>"].concat();
    dom::weave(out, &[&opening, label, "</option>"]);
}

/// Reads a count as people write it: `8192`, `8,192`, `32k`, `1.5M`. Nothing is `None`.
pub fn count(text: &str) -> Result<Option<u64>, String> {
    let plain: String = text.chars().filter(|letter| !letter.is_whitespace() && !matches!(letter, ',' | '_' | '\'')).collect();
    let (digits, unit) = match plain.char_indices().next_back() {
        None => return Ok(None),
        Some((at, 'k' | 'K')) => (&plain[..at], 1 << 10),
        Some((at, 'm' | 'M')) => (&plain[..at], 1 << 20),
        Some(_) => (plain.as_str(), 1),
    };
    let wrong = || format!("“{}” is not a count such as 8192 or 32k.", text.trim());
    let number: Decimal = digits.parse().map_err(|_| wrong())?;
    let count = number.floor_of(unit).map_err(|_| wrong())?;
    let is_whole = unit > 1 || number.ceil_of(unit) == Ok(count);
    if count == 0 || !is_whole {
        return Err(format!("{} It must be a whole number from 1 on.", wrong()));
    }
    Ok(Some(count))
}
