//! The header of a safetensors file: 8 bytes of little-endian length, then JSON, then the tensors' bytes.
//!
//! The format is described at <https://huggingface.co/docs/safetensors/index#format>. Its checks are made here too: every byte
//! of the file belongs to exactly one tensor, so a header that passes states the weights' size exactly.
//!
//! Memory: nothing is allocated by a length or a count that the file claims, only for entries that were read. One header keeps
//! at most [`MAX_TENSORS`] tensors and 10,000 metadata entries, never more than [`most_memory`]; the text itself is the caller's.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::quotable;
use crate::encoding::Encoding;
use crate::format::grouped;

/// The longest JSON header, in bytes: the format's own limit (`MAX_HEADER_SIZE` in safetensors/src/tensor.rs, release 0.8), which
/// every reader shares, so no file beyond it can be loaded anywhere.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

/// The most tensors in one file that are read. The largest models known have half a million tensors in all of their files.
pub const MAX_TENSORS: usize = 1_000_000;

/// The most dimensions of a tensor that are read.
const MAX_DIMENSIONS: usize = 16;

/// The most entries of `__metadata__` that are kept; real files have a few.
const MAX_METADATA: usize = 10_000;

/// Bytes of the length in front of the JSON.
const LENGTH_BYTES: u64 = 8;

/// The entry of the JSON that is not a tensor.
const METADATA: &str = "__metadata__";

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

/// What is wrong with the header of a weight file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The file cannot hold a header.
    #[error("this file has only {bytes} bytes, too few for a safetensors header")]
    TooShort {
        /// Bytes of the file.
        bytes: u64,
    },
    /// The file is a stand-in that Git LFS left.
    #[error("this is a Git LFS pointer, a small text that stands for the weight file")]
    LfsPointer,
    /// The length in front is impossible.
    #[error("this is not a safetensors file, or it is damaged: it claims a header of {} bytes, above the format's limit", grouped(*bytes))]
    TooLarge {
        /// Bytes that the header claims.
        bytes: u64,
    },
    /// The file ends within the header.
    #[error("the header of this file is cut off: {} of {} bytes are there", grouped(*have), grouped(*need))]
    CutOff {
        /// Bytes of the file that are there.
        have: u64,
        /// Bytes up to the end of the header.
        need: u64,
    },
    /// The header is not UTF-8.
    #[error("the header of this file is not text (UTF-8)")]
    NotText,
    /// The header is not the JSON that the format asks for.
    #[error("the header of this file is not a JSON object of tensors: {0}")]
    NotJson(String),
    /// There are more tensors than any model has.
    #[error("there are more tensors than the {} that are read", grouped(MAX_TENSORS as u64))]
    TooManyTensors,
    /// A name occurs twice.
    #[error("the header of this file lists `{name}` twice")]
    Repeated {
        /// The name.
        name: String,
    },
    /// A tensor's entry is not one.
    #[error("the header's entry for `{name}` cannot be read: {why}")]
    BadTensor {
        /// The tensor.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// A dtype that is not known.
    #[error("`{name}` is stored as `{dtype}`, which is not a dtype that is known")]
    UnknownDtype {
        /// The tensor.
        name: String,
        /// Its dtype.
        dtype: String,
    },
    /// The shape multiplies to more than is possible.
    #[error("the shape of `{name}` multiplies to more values than are possible")]
    TooManyValues {
        /// The tensor.
        name: String,
    },
    /// The end lies before the beginning.
    #[error("the bytes of `{name}` end at {end}, before they begin at {begin}")]
    Backwards {
        /// The tensor.
        name: String,
        /// Its first byte.
        begin: u64,
        /// The byte after its last one.
        end: u64,
    },
    /// The shape and the offsets disagree.
    #[error("the shape of `{name}` needs {} bytes, but {} are stored", grouped(*needed), grouped(*stored))]
    WrongLength {
        /// The tensor.
        name: String,
        /// Bytes by shape and dtype.
        needed: u64,
        /// Bytes by its offsets.
        stored: u64,
    },
    /// Two tensors share bytes.
    #[error("`{name}` overlaps the tensor before it in the file")]
    Overlap {
        /// The later tensor.
        name: String,
    },
    /// Bytes belong to no tensor.
    #[error("{} bytes before `{name}` belong to no tensor: the file is damaged", grouped(*bytes))]
    Hole {
        /// The tensor after the hole.
        name: String,
        /// Bytes of the hole.
        bytes: u64,
    },
    /// The file ends before its last tensor does.
    #[error("this file is cut off: it has {} bytes and its header describes {}", grouped(*have), grouped(*need))]
    FileCutOff {
        /// Bytes of the file.
        have: u64,
        /// Bytes that the header describes, its own included.
        need: u64,
    },
    /// The file goes on after its last tensor.
    #[error("this file has {} bytes, more than the {} that its header describes", grouped(*have), grouped(*need))]
    FileTooLong {
        /// Bytes of the file.
        have: u64,
        /// Bytes that the header describes, its own included.
        need: u64,
    },
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

/// The JSON as a header whose entries are sound, each by itself and by name.
fn read_json(text: &str) -> Result<Header, HeaderError> {
    let (mut header, mut failure) = (Header::default(), None);
    let mut json = serde_json::Deserializer::from_str(text);
    let read = json.deserialize_map(Entries { header: &mut header, failure: &mut failure }).and_then(|()| json.end());
    if let Some(failure) = failure {
        return Err(failure);
    }
    read.map_err(|error| HeaderError::NotJson(quotable(&error.to_string())))?;
    match repeated_name(&header.tensors) {
        Some(name) => Err(HeaderError::Repeated { name: quotable(name) }),
        None => Ok(header),
    }
}

fn repeated_name(tensors: &[HeaderTensor]) -> Option<&str> {
    let mut names = HashSet::new();
    tensors.iter().map(|tensor| tensor.name.as_str()).find(|name| !names.insert(*name))
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

/// Reads the entries one by one. A failure that is ours, not the JSON parser's, is left in `failure`.
struct Entries<'a> {
    header: &'a mut Header,
    failure: &'a mut Option<HeaderError>,
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with an entry for each tensor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { header, failure } = self;
        let mut fail = |error: HeaderError| {
            let message = A::Error::custom(&error);
            *failure = Some(error);
            message
        };
        let mut has_metadata = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA {
                if has_metadata {
                    return Err(fail(HeaderError::Repeated { name }));
                }
                has_metadata = true;
                map.next_value_seed(Metadata(&mut header.metadata))?;
            } else if header.tensors.len() == MAX_TENSORS {
                return Err(fail(HeaderError::TooManyTensors));
            } else {
                let entry = map.next_value::<Entry<'de>>().map_err(|error| HeaderError::BadTensor { name: quotable(&name), why: quotable(&error.to_string()) });
                header.tensors.push(entry.and_then(|entry| entry.into_tensor(name)).map_err(&mut fail)?);
            }
        }
        Ok(())
    }
}

/// A tensor as the JSON has it; other keys are passed over, as other readers do.
#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    dtype: Cow<'a, str>,
    shape: Dimensions,
    data_offsets: (u64, u64),
}

impl Entry<'_> {
    fn into_tensor(self, name: String) -> Result<HeaderTensor, HeaderError> {
        let Self { dtype, shape: Dimensions(shape), data_offsets: (begin, end) } = self;
        let Some(encoding) = Encoding::from_safetensors(&dtype) else {
            return Err(HeaderError::UnknownDtype { name: quotable(&name), dtype: quotable(&dtype) });
        };
        let Some(stored) = end.checked_sub(begin) else {
            return Err(HeaderError::Backwards { name: quotable(&name), begin, end });
        };
        let values = shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n));
        match values.and_then(|values| encoding.bytes_for(values).ok()) {
            None => Err(HeaderError::TooManyValues { name: quotable(&name) }),
            Some(needed) if needed.get() != stored => Err(HeaderError::WrongLength { name: quotable(&name), needed: needed.get(), stored }),
            Some(_) => Ok(HeaderTensor { name, encoding, shape, begin, end }),
        }
    }
}

/// A shape of at most [`MAX_DIMENSIONS`].
struct Dimensions(Vec<u64>);

impl<'de> Deserialize<'de> for Dimensions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Shape;

        impl<'de> Visitor<'de> for Shape {
            type Value = Dimensions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a shape of at most {MAX_DIMENSIONS} whole numbers")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Dimensions, A::Error> {
                let mut dimensions = Vec::new();
                while let Some(dimension) = seq.next_element()? {
                    if dimensions.len() == MAX_DIMENSIONS {
                        return Err(A::Error::invalid_length(MAX_DIMENSIONS + 1, &self));
                    }
                    dimensions.push(dimension);
                }
                Ok(Dimensions(dimensions))
            }
        }

        deserializer.deserialize_seq(Shape)
    }
}

/// The visits of values that are passed over.
macro_rules! pass_over {
    ($value:expr; $($visit:ident: $kind:ty),+) => {
        $(fn $visit<E>(self, _: $kind) -> Result<Self::Value, E> {
            Ok($value)
        })+

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok($value)
        }
    };
}

/// Keeps the texts of `__metadata__`; whatever else stands there is passed over, for it does not matter here.
struct Metadata<'a>(&'a mut Vec<(String, String)>);

impl<'de> DeserializeSeed<'de> for Metadata<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Metadata<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(metadata) = self;
        while let Some((key, value)) = map.next_entry::<String, Text>()? {
            if let Some(value) = value.0.filter(|_| metadata.len() < MAX_METADATA) {
                metadata.push((key, value));
            }
        }
        Ok(())
    }

    pass_over!((); visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);
}

/// A text, or nothing when it is another kind of value.
struct Text(Option<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Anything;

        impl<'de> Visitor<'de> for Anything {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(Some(text.to_owned())))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }

            pass_over!(Text(None); visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64);
        }

        deserializer.deserialize_any(Anything)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The start of a file with this JSON.
    fn framed(json: &str) -> Vec<u8> {
        let mut file = (json.len() as u64).to_le_bytes().to_vec();
        file.extend(json.as_bytes());
        file
    }

    fn parse(json: &str) -> Result<Header, HeaderError> {
        match parse_header(&framed(json), None)? {
            Parsed::Header(header) => Ok(header),
            Parsed::NeedMore { bytes } => panic!("{bytes} bytes for {json}"),
        }
    }

    fn entry(name: &str, dtype: &str, shape: &str, begin: u64, end: u64) -> String {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
    }

    fn one(dtype: &str, shape: &str, begin: u64, end: u64) -> Result<Header, HeaderError> {
        parse(&format!("{{{}}}", entry("x", dtype, shape, begin, end)))
    }

    #[test]
    fn a_header_is_read_in_full() {
        let tensors = [
            entry("b", "BF16", "[2, 3]", 4, 16),
            entry("a", "F32", "[]", 0, 4),
            entry("packed", "F4", "[3, 2]", 16, 19),
            entry("six", "F6_E2M3", "[4]", 19, 22),
            entry("none", "U8", "[0, 7]", 22, 22),
        ];
        let json = format!(r#"{{"__metadata__":{{"format":"pt","odd":[1,{{}}],"n":1.5,"o":{{"a":[]}}}},{}}}   "#, tensors.join(","));
        let header = parse(&json).unwrap();
        assert_eq!(header.metadata, [("format".to_owned(), "pt".to_owned())]);
        assert_eq!(header.tensors.len(), 5);
        assert_eq!(header.tensors[0], HeaderTensor { name: "b".into(), encoding: Encoding::BF16, shape: vec![2, 3], begin: 4, end: 16 });
        assert_eq!(parse("{}"), Ok(Header::default()));
        for odd in ["null", "true", "-1", "1", "0.5", "\"x\"", "[{}]", "{}"] {
            assert_eq!(parse(&format!(r#"{{"__metadata__":{odd}}}"#)), Ok(Header::default()), "{odd}");
        }
    }

    /// Every dtype of the format, with the bits of one value (`Dtype::bitsize` of safetensors 0.8): offsets must fit the shape.
    #[test]
    fn every_dtype_is_checked_against_its_offsets() {
        for (bits, dtypes) in [
            (4, &["F4"][..]),
            (6, &["F6_E2M3", "F6_E3M2"]),
            (8, &["BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"]),
            (16, &["I16", "U16", "F16", "BF16"]),
            (32, &["I32", "U32", "F32"]),
            (64, &["I64", "U64", "F64", "C64"]),
        ] {
            for dtype in dtypes {
                let bytes = 24 * bits / 8;
                assert!(one(dtype, "[2, 3, 4]", 0, bytes).is_ok(), "{dtype}");
                for stored in [bytes - 1, bytes + 1] {
                    let expected = HeaderError::WrongLength { name: "x".into(), needed: bytes, stored };
                    assert_eq!(one(dtype, "[2, 3, 4]", 0, stored), Err(expected), "{dtype}");
                }
            }
        }
        assert_eq!(Encoding::all().filter(|encoding| Encoding::from_safetensors(encoding.name).is_some()).count(), 22);
    }

    #[test]
    fn more_is_asked_for_until_the_header_is_whole() {
        let file = framed(&format!("{{{}}}", entry("x", "U8", "[9]", 0, 9)));
        let whole = file.len() as u64;
        for have in 0..file.len() {
            let bytes = if have < 8 { 8 } else { whole };
            assert_eq!(parse_header(&file[..have], None), Ok(Parsed::NeedMore { bytes }), "{have}");
            assert_eq!(parse_header(&file[..have], Some(whole + 9)), Ok(Parsed::NeedMore { bytes }), "{have}");
        }
        assert!(matches!(parse_header(&file, Some(whole + 9)), Ok(Parsed::Header(_))));
        assert_eq!(parse_header(&file, Some(whole + 8)), Err(HeaderError::FileCutOff { have: whole + 8, need: whole + 9 }));
        assert_eq!(parse_header(&file, Some(whole + 10)), Err(HeaderError::FileTooLong { have: whole + 10, need: whole + 9 }));
        assert_eq!(parse_header(&file[..20], Some(20)), Err(HeaderError::CutOff { have: 20, need: whole }));
        assert_eq!(parse_header(&[], Some(3)), Err(HeaderError::TooShort { bytes: 3 }));
    }

    #[test]
    fn what_is_not_a_header_is_said() {
        assert_eq!(parse_header(b"version https://git-lfs.github.com/spec/v1", None), Err(HeaderError::LfsPointer));
        assert!(matches!(parse_header(b"<!doctype html>", None), Err(HeaderError::TooLarge { .. })));
        let most = MAX_HEADER_BYTES.to_le_bytes();
        assert_eq!(parse_header(&most, None), Ok(Parsed::NeedMore { bytes: MAX_HEADER_BYTES + 8 }));
        assert_eq!(parse_header(&(MAX_HEADER_BYTES + 1).to_le_bytes(), None), Err(HeaderError::TooLarge { bytes: MAX_HEADER_BYTES + 1 }));
        let mut file = framed("{\"x\"}");
        file[9] = 0xff;
        assert_eq!(parse_header(&file, None), Err(HeaderError::NotText));
        for json in ["", "[]", "{", "{}}", "null", "{\"__metadata__\":{}"] {
            assert!(matches!(parse(json), Err(HeaderError::NotJson(_))), "{json}");
        }
    }

    #[test]
    fn every_tensor_is_checked() {
        let x = || "x".to_owned();
        assert_eq!(one("Q4", "[1]", 0, 1), Err(HeaderError::UnknownDtype { name: x(), dtype: "Q4".into() }));
        assert_eq!(one("U8", "[4]", 9, 5), Err(HeaderError::Backwards { name: x(), begin: 9, end: 5 }));
        assert_eq!(one("F16", "[4]", 0, 7), Err(HeaderError::WrongLength { name: x(), needed: 8, stored: 7 }));
        assert_eq!(one("U8", "[4294967296,4294967296]", 0, 0), Err(HeaderError::TooManyValues { name: x() }));
        assert_eq!(one("F64", "[4611686018427387904]", 0, 0), Err(HeaderError::TooManyValues { name: x() }));
        assert_eq!(one("U8", "[4]", 3, 7), Err(HeaderError::Hole { name: x(), bytes: 3 }));
        for shape in ["[-1]", "[1.5]", "\"x\"", "null", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]"] {
            assert!(matches!(one("U8", shape, 0, 1), Err(HeaderError::BadTensor { .. })), "{shape}");
        }
        for bad in [r#"{"x":{"dtype":"U8","shape":[1]}}"#, r#"{"x":7}"#, r#"{"x":{"dtype":"U8","dtype":"U8","shape":[],"data_offsets":[0,1]}}"#] {
            assert!(matches!(parse(bad), Err(HeaderError::BadTensor { .. })), "{bad}");
        }
        let pair = |a: String, b: String| parse(&format!("{{{a},{b}}}"));
        assert_eq!(pair(entry("a", "U8", "[4]", 0, 4), entry("x", "U8", "[4]", 3, 7)), Err(HeaderError::Overlap { name: x() }));
        assert_eq!(pair(entry("a", "U8", "[4]", 0, 4), entry("x", "U8", "[4]", 6, 10)), Err(HeaderError::Hole { name: x(), bytes: 2 }));
        assert_eq!(pair(entry("x", "U8", "[4]", 0, 4), entry("x", "U8", "[4]", 4, 8)), Err(HeaderError::Repeated { name: x() }));
        let metadata = r#""__metadata__":{}"#.to_owned();
        assert_eq!(pair(metadata.clone(), metadata), Err(HeaderError::Repeated { name: METADATA.into() }));
    }

    #[test]
    fn messages_cannot_drive_a_terminal() {
        let error = parse(&format!("{{{}}}", entry("\\u001b[31m", "Q4", "[1]", 0, 1))).unwrap_err();
        assert!(!error.to_string().contains('\u{1b}'));
        let long = "n".repeat(5000);
        assert!(parse(&format!("{{{}}}", entry(&long, "Q4", "[1]", 0, 1))).unwrap_err().to_string().len() < 400);
    }

    /// Whatever comes: no panic, no request beyond the bound, and no room kept beyond what the bytes could fill.
    fn survives(bytes: &[u8], file_size: Option<u64>) {
        match parse_header(bytes, file_size) {
            Ok(Parsed::NeedMore { bytes: need }) => assert!(need > bytes.len() as u64 && need <= MAX_HEADER_BYTES + LENGTH_BYTES),
            Ok(Parsed::Header(header)) => assert!(header.tensors.capacity() <= bytes.len() && header.metadata.capacity() <= bytes.len()),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..400), size in proptest::option::of(any::<u64>())) {
            survives(&bytes, size);
            let mut file = (bytes.len() as u64).to_le_bytes().to_vec();
            file.extend(&bytes);
            survives(&file, size);
        }

        #[test]
        fn mutated_headers_do_no_harm(
            count in 1u64..12,
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
            cut in any::<proptest::sample::Index>(),
        ) {
            let entries: Vec<String> = (0..count).map(|n| entry(&format!("layers.{n}.weight"), "BF16", "[2,3]", 12 * n, 12 * (n + 1))).collect();
            let mut file = framed(&format!(r#"{{"__metadata__":{{"format":"pt"}},{}}}"#, entries.join(",")));
            let size = file.len() as u64 + 12 * count;
            prop_assert!(matches!(parse_header(&file, Some(size)), Ok(Parsed::Header(_))));
            for (at, byte) in changes {
                let at = at.index(file.len());
                file[at] = byte;
            }
            survives(&file, Some(size));
            survives(&file, None);
            survives(&file[..cut.index(file.len())], None);
        }

        #[test]
        fn any_text_of_json_signs_does_no_harm(json in r#"[{}\[\]",:0-9a-z \\.-]{0,200}"#) {
            survives(&framed(&json), None);
            survives(&framed(&format!(r#"{{"x":{json}}}"#)), None);
        }
    }
}
