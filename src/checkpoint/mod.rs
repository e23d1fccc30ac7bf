//! Weight files: their headers, and which of the stored tensors an architecture loads.
//!
//! Nothing here reads a file: callers bring the bytes that are asked for ([`safetensors::parse_header`], [`gguf::Reader`]).

pub mod gguf;
pub mod index;
pub mod inventory;
mod parts;
pub mod safetensors;

pub use inventory::{Matched, Matcher, match_inventory};
pub use parts::{files_of_part, inventory_of_part};
pub use safetensors::{Header, HeaderError, HeaderTensor, Parsed, parse_header};

/// A name from outside as messages show it: at most 120 characters, none of which control a terminal.
pub(crate) fn quotable(text: &str) -> String {
    const MOST: usize = 120;
    let mut out: String = text.chars().take(MOST).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(MOST).is_some() {
        out.push('…');
    }
    out
}
