//! Order for short lists. The library's sorts are made for long ones and are several kilobytes of the page for each type.

/// Sorts a short list by a key; what has the same key stays in its order.
pub fn sort_short<T, K: Ord>(list: &mut [T], key: impl Fn(&T) -> K) {
    for end in 1..list.len() {
        let mut at = end;
        while at > 0 && key(&list[at - 1]) > key(&list[at]) {
            list.swap(at - 1, at);
            at -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_lists_are_sorted_as_the_library_does() {
        for list in [&[][..], &[(1, 0)], &[(2, 0), (1, 1), (2, 2), (0, 3), (1, 4), (2, 5)]] {
            let (mut ours, mut theirs) = (list.to_vec(), list.to_vec());
            sort_short(&mut ours, |(key, _)| *key);
            theirs.sort_by_key(|(key, _)| *key);
            assert_eq!(ours, theirs);
        }
    }
}
