//! The header of a safetensors file: 8 bytes of little-endian length, then JSON, then the tensors' bytes.
//!
//! The format is described at <https://huggingface.co/docs/safetensors/index#format>. Its checks are made here too: every byte
//! of the file belongs to exactly one tensor, so a header that passes states the weights' size exactly.
//!
//! Memory: nothing is allocated by a length or a count that the file claims, only for entries that were read. One header keeps
//! at most [`MAX_TENSORS`] tensors and 10,000 metadata entries, never more than [`most_memory`]; the text itself is the caller's.

mod entries;
mod error;
#[cfg(test)]
mod tests;

use super::quotable;
use crate::encoding::Encoding;
use entries::read_json;
pub use error::HeaderError;

/// The longest JSON header, in bytes: the format's own limit (`MAX_HEADER_SIZE` in safetensors/src/tensor.rs, release 0.8), which
/// every reader shares, so no file beyond it can be loaded anywhere.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

/// The most tensors in one file that are read. The largest models known have half a million tensors in all of their files.
pub const MAX_TENSORS: usize = 1_000_000;

/// Bytes of the length in front of the JSON.
const LENGTH_BYTES: u64 = 8;

/// The most bytes that [`parse_header`] allocates for a header of `bytes` bytes, the header that it returns included, whatever
/// the header claims: 24 times its length and 64 KiB (`tests/parser_memory.rs`).
pub const fn most_memory(bytes: u64) -> u64 {
    bytes.saturating_mul(24).saturating_add(64 << 10)
}

/// What [`parse_header`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The header is longer than the bytes at hand.
    NeedMore {
        /// The bytes needed from the start of the file, those at hand included.
        bytes: u64,
    },
    /// The whole header.
    Header(Header),
}

/// The header of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Its tensors, in the order in which they are listed.
    pub tensors: Vec<HeaderTensor>,
    /// The texts of `__metadata__`, such as `format`: `pt`.
    pub metadata: Vec<(String, String)>,
}

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderTensor {
    /// Its name.
    pub name: String,
    /// How its values are stored.
    pub encoding: Encoding,
    /// Its shape; empty for a single value.
    pub shape: Vec<u64>,
    /// Its first byte, counted from the end of the header.
    pub begin: u64,
    /// The byte after its last one, counted likewise.
    pub end: u64,
}
/// Reads the header at the start of a file. `file_size` is the size of the whole file in bytes, where it is known.
///
/// # Errors
/// [`HeaderError`] says what is wrong with the file. A prefix that is merely too short is [`Parsed::NeedMore`], unless
/// `file_size` says that there is no more.
///
/// ```
/// use vramfit::checkpoint::{Parsed, parse_header};
/// let json = br#"{"wte.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}"#;
/// let mut file = (json.len() as u64).to_le_bytes().to_vec();
/// assert_eq!(parse_header(&file, None), Ok(Parsed::NeedMore { bytes: 8 + 66 }));
/// file.extend(json);
/// let Ok(Parsed::Header(header)) = parse_header(&file, Some(8 + 66 + 24)) else { panic!() };
/// assert_eq!(header.tensors[0].shape, [2, 3]);
/// ```
pub fn parse_header(prefix: &[u8], file_size: Option<u64>) -> Result<Parsed, HeaderError> {
    if let Some(bytes) = file_size.filter(|&size| size < LENGTH_BYTES) {
        return Err(HeaderError::TooShort { bytes });
    }
    let Some((length, rest)) = prefix.split_first_chunk::<8>() else { return Ok(Parsed::NeedMore { bytes: LENGTH_BYTES }) };
    if length == b"version " {
        return Err(HeaderError::LfsPointer);
    }
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER_BYTES {
        return Err(HeaderError::TooLarge { bytes: length });
    }
    let header_end = LENGTH_BYTES + length;
    if let Some(have) = file_size.filter(|&size| size < header_end) {
        return Err(HeaderError::CutOff { have, need: header_end });
    }
    let Some(json) = usize::try_from(length).ok().and_then(|length| rest.get(..length)) else {
        return Ok(Parsed::NeedMore { bytes: header_end });
    };
    let header = read_json(std::str::from_utf8(json).map_err(|_| HeaderError::NotText)?)?;
    let need = header_end.saturating_add(check_layout(&header.tensors)?);
    match file_size {
        Some(have) if have < need => Err(HeaderError::FileCutOff { have, need }),
        Some(have) if have > need => Err(HeaderError::FileTooLong { have, need }),
        _ => Ok(Parsed::Header(header)),
    }
}

/// Checks that the tensors cover their part of the file without overlap or hole; returns where they end.
fn check_layout(tensors: &[HeaderTensor]) -> Result<u64, HeaderError> {
    let mut order: Vec<&HeaderTensor> = tensors.iter().collect();
    order.sort_unstable_by_key(|tensor| (tensor.begin, tensor.end));
    order.into_iter().try_fold(0, |reached, tensor| match tensor.begin.checked_sub(reached) {
        Some(0) => Ok(tensor.end),
        Some(bytes) => Err(HeaderError::Hole { name: quotable(&tensor.name), bytes }),
        None => Err(HeaderError::Overlap { name: quotable(&tensor.name) }),
    })
}
