//! Markup as text: writing it so that what is put in stays text, and finding what differs between two writings.

use std::borrow::Cow;

/// Appends text to markup: what stands in it stays text.
pub fn escape(out: &mut String, text: &str) {
    for letter in text.chars() {
        match ENTITIES.iter().find(|(plain, _)| *plain == letter) {
            Some((_, entity)) => out.push_str(entity),
            None => out.push(letter),
        }
    }
}

const ENTITIES: &[(char, &str)] = &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('\'', "&#39;"), ('"', "&quot;")];

/// Markup from pieces in turn: the first is markup, the second text, and so on.
pub fn weave(out: &mut String, pieces: &[&str]) {
    for (index, piece) in pieces.iter().enumerate() {
        if index % 2 == 0 { out.push_str(piece) } else { escape(out, piece) }
    }
}

/// A difference between two writings of the same elements.
#[derive(Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// The number of the element in the order of the text, from 0; `None` for what holds the markup.
    pub element: Option<u32>,
    /// What of it.
    pub place: Place<'a>,
    /// What stands there now.
    pub value: Cow<'a, str>,
}

/// A place in an element.
#[derive(Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// An attribute.
    Attribute(&'a str),
    /// The child of this number, which is text.
    Text(u32),
}

/// Attributes that say how a field begins: written later, they change nothing that one sees.
const BEGINNINGS: &[&str] = &["value", "checked", "selected", "open"];

/// What to change in the elements of `old` to make them those of `new`; `None` when the elements are others, or there is something
/// in the markup that this does not read (comments, entities by other names).
///
/// ```
/// use vramfit::markup::{Place, changes};
/// let found = changes("<p class='a'>1 of <b>2</b></p>", "<p class='z'>1 of <b>3</b></p>").unwrap();
/// assert_eq!((found[0].element, &found[0].place, &*found[0].value), (Some(0), &Place::Attribute("class"), "z"));
/// assert_eq!((found[1].element, &found[1].place, &*found[1].value), (Some(1), &Place::Text(0), "3"));
/// assert_eq!(changes("<p>1</p>", "<p>1<b></b></p>"), None);
/// assert_eq!(changes("<p id='a'>1</p>", "<p id='b'>1</p>"), None);
/// ```
pub fn changes<'a>(old: &str, new: &'a str) -> Option<Vec<Change<'a>>> {
    let (mut old, mut new) = (Reader(old), Reader(new));
    let mut found = Vec::new();
    // Open elements, each with its number and how many children it has so far.
    let mut open: Vec<(Option<u32>, u32)> = vec![(None, 0)];
    let mut count = 0;
    loop {
        let (before, now) = (old.next()?, new.next()?);
        let (holder, child) = *open.last()?;
        match (before, now) {
            (Piece::End, Piece::End) => return (open.len() == 1).then_some(found),
            (Piece::Close(one), Piece::Close(other)) if one == other && open.len() > 1 => _ = open.pop(),
            (Piece::Text(before), Piece::Text(now)) => {
                if before != now {
                    found.push(Change { element: holder, place: Place::Text(child), value: unescape(now)? });
                }
                open.last_mut()?.1 += 1;
            }
            (Piece::Open { name, attributes, is_closed }, Piece::Open { name: other, attributes: now, is_closed: also })
                if name == other && is_closed == also =>
            {
                if attributes != now {
                    compare(name, attributes, now, count, &mut found)?;
                }
                open.last_mut()?.1 += 1;
                if !is_closed {
                    open.push((Some(count), 0));
                }
                count += 1;
            }
            _ => return None,
        }
    }
}

fn compare<'a>(tag: &str, mut old: &str, mut new: &'a str, element: u32, found: &mut Vec<Change<'a>>) -> Option<()> {
    loop {
        let (before, now) = (attribute(&mut old)?, attribute(&mut new)?);
        match (before, now) {
            (("", _), ("", _)) => return Some(()),
            ((name, before), (other, now)) if name == other => {
                if before != now {
                    // Another id is another element, for those who know it by that.
                    if name == "id" || BEGINNINGS.contains(&name) && tag != "data" {
                        return None;
                    }
                    found.push(Change { element: Some(element), place: Place::Attribute(other), value: unescape(now)? });
                }
            }
            _ => return None,
        }
    }
}

/// The next attribute, its value in quotes or empty; without a name at the end.
fn attribute<'a>(text: &mut &'a str) -> Option<(&'a str, &'a str)> {
    let rest = text.trim_start();
    if rest.is_empty() {
        return Some(("", ""));
    }
    let end = rest.find(['=', ' ', '\n']).unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    let Some(value) = rest.strip_prefix('=') else {
        *text = rest;
        return Some((name, ""));
    };
    let quote = value.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
    let (value, rest) = value[1..].split_once(quote)?;
    *text = rest;
    Some((name, value))
}

fn unescape(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('&') {
        return Some(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let (plain, entity) = ENTITIES.iter().find(|(_, entity)| after.starts_with(&entity[1..]))?;
        out.push(*plain);
        rest = &after[entity.len() - 1..];
    }
    out.push_str(rest);
    Some(Cow::Owned(out))
}

/// Elements that have no end of their own.
const VOID: &[&str] = &["input", "br", "hr", "img", "col"];

#[derive(Clone, Copy)]
enum Piece<'a> {
    Open { name: &'a str, attributes: &'a str, is_closed: bool },
    Close(&'a str),
    Text(&'a str),
    End,
}

struct Reader<'a>(&'a str);

impl<'a> Reader<'a> {
    /// The next piece; `None` for what is not markup as it is written here.
    fn next(&mut self) -> Option<Piece<'a>> {
        if self.0.is_empty() {
            return Some(Piece::End);
        }
        let Some(tag) = self.0.strip_prefix('<') else {
            let end = self.0.find('<').unwrap_or(self.0.len());
            let (text, rest) = self.0.split_at(end);
            self.0 = rest;
            return Some(Piece::Text(text));
        };
        let (inside, rest) = tag.split_at(end_of_tag(tag)?);
        self.0 = &rest[1..];
        if let Some(name) = inside.strip_prefix('/') {
            return Some(Piece::Close(name.trim_end()));
        }
        let (inside, is_closed) = inside.strip_suffix('/').map_or((inside, false), |inside| (inside, true));
        let (name, attributes) = inside.split_at(inside.find([' ', '\n']).unwrap_or(inside.len()));
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return None;
        }
        Some(Piece::Open { name, attributes, is_closed: is_closed || VOID.contains(&name) })
    }
}

/// Where the `>` is that is not inside of a quoted value.
fn end_of_tag(text: &str) -> Option<usize> {
    let mut quote = None;
    text.bytes().position(|byte| match quote {
        Some(open) => {
            if byte == open {
                quote = None;
            }
            false
        }
        None => {
            if matches!(byte, b'\'' | b'"') {
                quote = Some(byte);
            }
            byte == b'>'
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(old: &str, new: &str) -> Option<Vec<String>> {
        let told = |change: Change| format!("{:?} {:?} {}", change.element, change.place, change.value);
        changes(old, new).map(|found| found.into_iter().map(told).collect())
    }

    #[test]
    fn numbers_are_those_of_the_document() {
        let old = "<svg a='1'><rect x='1'/><g><text>a</text></g></svg>tail<input id='i' class='b'><p>x<b>y</b>z</p>";
        let new = "<svg a='1'><rect x='2'/><g><text>&lt;b&gt;</text></g></svg>tail<input id='i' class='c'><p>x<b>y</b>w</p>";
        let expected = ["Some(1) Attribute(\"x\") 2", "Some(3) Text(0) <b>", "Some(4) Attribute(\"class\") c", "Some(5) Text(2) w"];
        assert_eq!(told(old, new).unwrap(), expected);
        assert_eq!(told("a<i></i>", "b<i></i>").unwrap(), ["None Text(0) b"]);
        assert_eq!(told("<p title='a>b'>1</p>", "<p title='a>c'>1</p>").unwrap(), ["Some(0) Attribute(\"title\") a>c"]);
    }

    #[test]
    fn other_elements_are_written_anew() {
        for (old, new) in [
            ("<p></p>", "<b></b>"),
            ("<p></p>", "<p>text</p>"),
            ("<p a='1'></p>", "<p b='1'></p>"),
            ("<p a='1'></p>", "<p a='1' b='1'></p>"),
            ("<p>1</p>", "<p>&nbsp;</p>"),
            ("<input value='1'>", "<input value='2'>"),
            ("<!-- 1 -->", "<!-- 2 -->"),
            ("<p>1</p>", "<p>2"),
        ] {
            assert_eq!(changes(old, new), None, "{old} {new}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(old in "[<>/=' a&;\"p]{0,24}", new in "[<>/=' a&;\"p]{0,24}") {
            let _ = changes(&old, &new);
            if let Some(found) = changes(&new, &new) {
                prop_assert!(found.is_empty());
            }
        }

        #[test]
        fn what_is_escaped_comes_back(text in "\\PC{0,16}") {
            let mut out = String::new();
            escape(&mut out, &text);
            prop_assert_eq!(unescape(&out).unwrap(), text);
        }
    }
}
