//! Brings the pieces of a header from wherever the file is.

use super::{GgufError, Header, Reader, Step};

/// Bytes asked for first: most headers without a vocabulary fit.
const FIRST: u64 = 1 << 20;

/// The most bytes asked for at once; the longest vocabularies fit in one.
const LARGEST: u64 = 16 << 20;

/// Reads the header of a file. `bring` is asked for bytes from a place on; it returns where its bytes begin (there, or before) and
/// the bytes. What the reader passes over is not asked for. `wrong` makes the caller's error of what is wrong with the file.
///
/// # Errors
/// What `bring` and `wrong` say.
pub async fn read_header<E>(
    size: Option<u64>,
    bring: impl AsyncFn(u64, u64) -> Result<(u64, Vec<u8>), E>,
    wrong: impl Fn(GgufError) -> E,
) -> Result<Header, E> {
    let mut reader = Reader::new(size);
    let (mut begin, mut piece, mut ask) = (0, Vec::new(), FIRST);
    while let Step::Need { at, bytes } = reader.read(begin, &piece).map_err(&wrong)? {
        let rest = size.map_or(u64::MAX, |size| size.saturating_sub(at));
        (begin, piece) = bring(at, bytes.max(ask).min(rest)).await?;
        let (have, need) = (begin.saturating_add(piece.len() as u64), at.saturating_add(bytes));
        if have < need {
            return Err(wrong(GgufError::CutOff { have, need }));
        }
        ask = ask.saturating_mul(2).min(LARGEST);
    }
    reader.finish().map_err(wrong)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// A file of one list of texts, `texts` long, and no tensors.
    fn vocabulary(texts: u64) -> Vec<u8> {
        let word = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
        let mut file = [b"GGUF".as_slice(), &3u32.to_le_bytes(), &0u64.to_le_bytes(), &1u64.to_le_bytes()].concat();
        file.extend([word("tokenizer.ggml.tokens"), 9u32.to_le_bytes().to_vec(), 8u32.to_le_bytes().to_vec(), texts.to_le_bytes().to_vec()].concat());
        (0..texts).for_each(|_| file.extend(word("token")));
        file
    }

    fn run(file: &[u8], size: Option<u64>) -> (Result<Header, GgufError>, Vec<(u64, u64)>) {
        let asked = RefCell::new(Vec::new());
        let bring = async |at: u64, bytes: u64| {
            asked.borrow_mut().push((at, bytes));
            let at_index = usize::try_from(at).unwrap().min(file.len());
            let end = (at_index + usize::try_from(bytes).unwrap()).min(file.len());
            Ok((at, file[at_index..end].to_vec()))
        };
        let result = {
            let mut future = pin!(read_header(size, bring, |error| error));
            match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(result) => result,
                Poll::Pending => panic!("nothing here waits"),
            }
        };
        (result, asked.into_inner())
    }

    #[test]
    fn pieces_double_and_nothing_is_brought_twice() {
        let file = vocabulary(400_000);
        let (header, asked) = run(&file, Some(file.len() as u64));
        assert_eq!(header.unwrap().metadata.length("tokenizer.ggml.tokens"), Some(400_000));
        assert_eq!(asked.iter().map(|&(_, bytes)| bytes >> 20).collect::<Vec<_>>(), [1, 2, 1]);
        for pair in asked.windows(2) {
            let overlap = (pair[0].0 + pair[0].1).checked_sub(pair[1].0).unwrap();
            assert!(overlap < 16, "only what a piece cut is asked for again: {asked:?}");
        }
    }

    #[test]
    fn a_file_that_ends_early_is_cut_off_whether_its_size_is_known_or_not() {
        let file = vocabulary(1000);
        let cut = &file[..file.len() / 2];
        for size in [None, Some(cut.len() as u64)] {
            assert!(matches!(run(cut, size).0, Err(GgufError::CutOff { .. })), "{size:?}");
        }
        assert!(run(&file, None).0.is_ok());
        assert!(matches!(run(&[], None).0, Err(GgufError::CutOff { have: 0, .. })));
    }
}
