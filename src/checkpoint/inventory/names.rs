//! Names of tensors: their modules, the numbers in them, the roles that they suggest.

use super::module::Place;
use crate::model::{Role, module_and_leaf};

/// The module of a tensor, by its name.
pub(super) fn module_of(name: &str) -> &str {
    module_and_leaf(name).0
}

/// The name with `{}` for the number after `experts` and for the first other number, which is the layer's.
pub(super) fn take_numbers(name: &str) -> (String, Place) {
    let (mut pattern, mut place) = (String::with_capacity(name.len()), Place::default());
    let mut previous = "";
    for (index, segment) in name.split('.').enumerate() {
        let slot = if previous == "experts" { &mut place.expert } else { &mut place.layer };
        if index > 0 {
            pattern.push('.');
        }
        match number(segment) {
            Some(number) if slot.is_none() => {
                *slot = Some(number);
                pattern.push_str("{}");
            }
            _ => pattern.push_str(segment),
        }
        previous = segment;
    }
    (pattern, place)
}

/// The pattern of a module of the architecture as a name.
pub(super) fn put_numbers(path: &str, place: Place) -> String {
    [place.layer, place.expert].into_iter().flatten().fold(path.to_owned(), |path, number| path.replacen("{}", &number.to_string(), 1))
}

/// A segment that is a number as Python writes one.
pub(super) fn number(segment: &str) -> Option<u64> {
    let is_plain = segment.bytes().all(|byte| byte.is_ascii_digit()) && (segment == "0" || !segment.starts_with('0'));
    is_plain.then(|| segment.parse().ok()).flatten()
}

/// The role that the name of a stored tensor suggests.
pub(super) fn guess_role(pattern: &str) -> Role {
    match Role::of_module(module_of(pattern)) {
        // Fused experts are parameters themselves: `experts.gate_up_proj`.
        Role::Other => Role::of_module(pattern),
        role => role,
    }
}
