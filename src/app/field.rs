//! The parts that forms are made of: a typed number, a slider, a choice.

use leptos::prelude::*;
use vramfit::quantity::Decimal;

use super::state::AppState;

/// Takes what was typed; an empty text means the default. The error says what is expected.
pub type Take = fn(AppState, &str) -> Result<(), String>;

/// A number that is typed.
pub struct Field {
    /// Its id in the document.
    pub id: &'static str,
    /// Its name.
    pub label: &'static str,
    /// What it shows while nobody types in it.
    pub value: Memo<String>,
    /// Takes what was typed.
    pub take: Take,
    /// Whether every keystroke counts; else what is left behind.
    pub is_live: bool,
    /// When it does not apply.
    pub is_disabled: Signal<bool>,
}

/// A label and an input, with what is wrong under it.
pub fn field(state: AppState, field: Field) -> AnyView {
    let Field { id, label, value, take, is_live, is_disabled } = field;
    let draft = RwSignal::new(None::<String>);
    let problem = RwSignal::new(String::new());
    let text = Memo::new(move |_| draft.get().unwrap_or_else(|| value.get()));
    let on_input = move |event: web_sys::Event| {
        let typed = event_target_value(&event);
        if is_live && take(state, &typed).is_ok() {
            problem.set(String::new());
        }
        draft.set(Some(typed));
    };
    let on_change = move |event: web_sys::Event| {
        let typed = event_target_value(&event);
        match take(state, &typed) {
            Ok(()) => {
                problem.set(String::new());
                draft.set(None);
            }
            Err(why) => {
                problem.set(why);
                draft.set(Some(typed));
            }
        }
    };
    let problem_id = format!("{id}-problem");
    view! {
        <div class="field">
            <label for=id>{label}</label>
            <input
                id=id
                class="number"
                type="text"
                inputmode="decimal"
                autocomplete="off"
                spellcheck="false"
                disabled=is_disabled
                aria-invalid=move || problem.with(|problem| if problem.is_empty() { "false" } else { "true" })
                aria-describedby=problem_id.clone()
                prop:value=text
                on:input=on_input
                on:change=on_change
            />
            <p class="problem" id=problem_id aria-live="polite">
                {problem}
            </p>
        </div>
    }
    .into_any()
}

/// A slider over whole positions.
pub struct Slider {
    /// Its id in the document.
    pub id: &'static str,
    /// Its name.
    pub label: &'static str,
    /// Where it stands.
    pub position: Memo<u64>,
    /// Its last position.
    pub last: Memo<u64>,
    /// What the position means.
    pub said: Memo<String>,
    /// Takes a position.
    pub take: fn(AppState, u64),
    /// A position to mark, with what it is.
    pub mark: Memo<Option<(u64, String)>>,
    /// What is written under the track, from its start to its end.
    pub scale: Memo<Vec<String>>,
}

/// A slider with its scale.
pub fn slider(state: AppState, slider: Slider) -> AnyView {
    let Slider { id, label, position, last, said, take, mark, scale } = slider;
    let value = Memo::new(move |_| position.get().min(last.get()).to_string());
    let filled = Memo::new(move |_| along(position.get(), last.get()));
    let place = Memo::new(move |_| mark.with(|mark| mark.as_ref().map_or_else(String::new, |(at, _)| along(*at, last.get()))));
    let marked = Memo::new(move |_| mark.with(|mark| mark.as_ref().map_or_else(String::new, |(_, text)| text.clone())));
    view! {
        <div class="slider">
            <div class="track">
                <span class="mark" hidden=move || place.with(String::is_empty) style:left=move || place.get()></span>
                <input
                    id=id
                    type="range"
                    aria-label=label
                    min="0"
                    max=move || last.get().to_string()
                    step="1"
                    aria-valuetext=said
                    style=("--filled", move || filled.get())
                    prop:value=value
                    on:input=move |event| {
                        if let Ok(position) = event_target_value(&event).parse() {
                            take(state, position);
                        }
                    }
                />
            </div>
            <div class="scale" aria-hidden="true">
                {move || scale.get().into_iter().map(|text| view! { <span>{text}</span> }).collect_view()}
            </div>
            <p class="note">{marked}</p>
        </div>
    }
    .into_any()
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
    /// The `option` elements.
    pub options: AnyView,
    /// The value that is chosen.
    pub value: Memo<String>,
    /// Takes another value.
    pub take: fn(AppState, &str),
}

/// A label and a select.
pub fn choice(state: AppState, choice: Choice) -> AnyView {
    let Choice { id, label, options, value, take } = choice;
    view! {
        <div class="field">
            <label for=id>{label}</label>
            <select id=id prop:value=value on:change=move |event| take(state, &event_target_value(&event))>
                {options}
            </select>
        </div>
    }
    .into_any()
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
