//! Reads the header of a GGUF file piece by piece.
//!
//! A tokenizer in the metadata may take tens of megabytes. So [`Reader`] resumes where it stopped and never looks at a byte
//! twice but for the last item of a piece that was cut; lists are walked over without keeping them, and lists of numbers are
//! not even walked over.
//!
//! Memory: nothing is allocated by a length or a count that the file claims. Kept are the keys and short values (at most
//! [`MAX_KEYS`]), [`MAX_KEPT_ELEMENTS`] list elements in all, and names, dimensions and offsets of at most [`MAX_TENSORS`] tensors:
//! never more than [`most_memory`].

use std::collections::HashSet;
use std::collections::btree_map::Entry;

use super::GgufError;
use super::metadata::{Metadata, Value};
use crate::checkpoint::safetensors::MAX_TENSORS;
use crate::checkpoint::{HeaderTensor, quotable};
use crate::encoding::Encoding;

/// The longest header that is read. The longest known, with a vocabulary of 262,144 tokens, has 16 MB.
pub const MAX_HEADER_BYTES: u64 = 1 << 30;

/// The most metadata entries that are read; real files have a few dozen.
const MAX_KEYS: u64 = 100_000;

/// The longest key: the format's own limit.
const MAX_KEY: u64 = 65_535;

/// The longest tensor name. ggml has at most 63 bytes, its users up to 255.
const MAX_NAME: u64 = 1024;

/// The longest text that is kept.
pub(super) const MAX_TEXT: u64 = 1024;

/// The longest list that is kept: one element per layer of any model.
const MAX_LIST: u64 = 4096;

/// The most list elements that are kept in all.
const MAX_KEPT_ELEMENTS: usize = 65_536;

/// `general.alignment` of files that do not say it.
const DEFAULT_ALIGNMENT: u64 = 32;

/// Dimensions of a tensor in ggml (`GGML_MAX_DIMS`).
const MAX_DIMENSIONS: u32 = 4;

/// The most bytes that a [`Reader`] allocates for a header of `bytes` bytes, the header that it returns included, whatever the
/// header claims: 16 times its length and 64 KiB (`tests/parser_memory.rs`).
pub const fn most_memory(bytes: u64) -> u64 {
    bytes.saturating_mul(16).saturating_add(64 << 10)
}

/// The header of one file.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// The format's version.
    pub version: u32,
    /// Whether numbers in the file are big-endian.
    pub is_big_endian: bool,
    /// The metadata.
    pub metadata: Metadata,
    /// The tensors in the file's order. Shapes are rows first, as everywhere in this library (ggml lists columns first).
    pub tensors: Vec<HeaderTensor>,
    /// Where the tensors' bytes begin in the file.
    pub data_begin: u64,
}

/// What [`Reader::read`] wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// At least `bytes` bytes of the file from `at` on. What lies between may be skipped.
    Need {
        /// Where to go on.
        at: u64,
        /// How many bytes at least.
        bytes: u64,
    },
    /// The header is whole: take it with [`Reader::finish`].
    Done,
}

/// Whether a file that begins with these bytes is a GGUF file.
pub fn is_gguf(prefix: &[u8]) -> bool {
    prefix.starts_with(b"GGUF")
}

/// A header that is being read.
///
/// ```
/// use vramfit::checkpoint::gguf::{Reader, Step};
/// let mut file = b"GGUF\x03\x00\x00\x00".to_vec(); // version 3
/// file.extend([0u8; 16]); // no tensors, no metadata
/// let mut reader = Reader::new(Some(24));
/// assert_eq!(reader.read(0, &file[..8]), Ok(Step::Need { at: 0, bytes: 24 }));
/// assert_eq!(reader.read(0, &file), Ok(Step::Done));
/// assert_eq!(reader.finish().unwrap().version, 3);
/// ```
#[derive(Debug)]
pub struct Reader {
    file_size: Option<u64>,
    /// The first byte that was not taken in.
    at: u64,
    next: Item,
    version: u32,
    is_big_endian: bool,
    keys_left: u64,
    tensors_left: u64,
    kept_elements: usize,
    metadata: Metadata,
    tensors: Vec<HeaderTensor>,
}

/// What stands at [`Reader::at`].
#[derive(Debug)]
enum Item {
    Start,
    Key,
    Elements { key: String, kind: Kind, left: u64, kept: Option<Vec<i64>> },
    Tensor,
    End,
}

/// Types of metadata values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unsigned(usize),
    Signed(usize),
    Float(usize),
    Bool,
    Text,
    List,
}

impl Kind {
    /// The format's numbers (`enum gguf_type`).
    fn of(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Unsigned(1),
            1 => Self::Signed(1),
            2 => Self::Unsigned(2),
            3 => Self::Signed(2),
            4 => Self::Unsigned(4),
            5 => Self::Signed(4),
            6 => Self::Float(4),
            7 => Self::Bool,
            8 => Self::Text,
            9 => Self::List,
            10 => Self::Unsigned(8),
            11 => Self::Signed(8),
            12 => Self::Float(8),
            _ => return None,
        })
    }

    /// Bytes of a value, where they do not depend on it.
    const fn width(self) -> Option<usize> {
        match self {
            Self::Unsigned(width) | Self::Signed(width) | Self::Float(width) => Some(width),
            Self::Bool => Some(1),
            Self::Text | Self::List => None,
        }
    }
}

/// Why an item could not be read.
enum Stop {
    /// The piece ends too early: the offset in the file up to which bytes are needed.
    Short(u64),
    Bad(GgufError),
}

impl From<GgufError> for Stop {
    fn from(error: GgufError) -> Self {
        Self::Bad(error)
    }
}

/// A piece of the file and a place in it.
struct Piece<'a> {
    rest: &'a [u8],
    at: u64,
    is_big_endian: bool,
    /// Bytes of a length: 4 in version 1, 8 since.
    length_width: usize,
}

impl<'a> Piece<'a> {
    fn take(&mut self, count: u64) -> Result<&'a [u8], Stop> {
        let end = self.at.checked_add(count).ok_or(GgufError::TooLong)?;
        let taken = usize::try_from(count).ok().and_then(|count| self.rest.split_at_checked(count));
        let (taken, rest) = taken.ok_or(Stop::Short(end))?;
        (self.rest, self.at) = (rest, end);
        Ok(taken)
    }

    /// Goes on without the bytes, which may lie beyond the piece.
    fn skip(&mut self, count: u64) -> Result<(), Stop> {
        self.at = self.at.checked_add(count).ok_or(GgufError::TooLong)?;
        self.rest = usize::try_from(count).ok().and_then(|count| self.rest.get(count..)).unwrap_or_default();
        Ok(())
    }

    fn unsigned(&mut self, width: usize) -> Result<u64, Stop> {
        let bytes = self.take(width as u64)?;
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Ok(if self.is_big_endian { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) })
    }

    fn number(&mut self) -> Result<u32, Stop> {
        Ok(u32::try_from(self.unsigned(4)?).unwrap_or(u32::MAX))
    }

    fn length(&mut self) -> Result<u64, Stop> {
        self.unsigned(self.length_width)
    }

    /// A name: its length, then UTF-8.
    fn name(&mut self, what: &'static str, most: u64) -> Result<String, Stop> {
        let length = self.length()?;
        let text = self.take(at_most(what, length, most)?)?;
        Ok(std::str::from_utf8(text).map_err(|_| GgufError::NotText(what))?.to_owned())
    }

    /// A value of fixed width; `None` for the kinds that have none.
    fn plain(&mut self, kind: Kind) -> Result<Option<Value>, Stop> {
        Ok(Some(match kind {
            Kind::Unsigned(width) => Value::Integer(i64::try_from(self.unsigned(width)?).unwrap_or(i64::MAX)),
            Kind::Signed(width) => {
                // Moves the sign to the top and back down.
                let shift = 64 - 8 * u32::try_from(width).unwrap_or(8);
                Value::Integer(self.unsigned(width)?.wrapping_shl(shift).cast_signed() >> shift)
            }
            Kind::Float(4) => Value::Float(f64::from(f32::from_bits(self.number()?))),
            Kind::Float(_) => Value::Float(f64::from_bits(self.unsigned(8)?)),
            Kind::Bool => Value::Bool(self.unsigned(1)? != 0),
            Kind::Text | Kind::List => return Ok(None),
        }))
    }
}

fn at_most(what: &'static str, claimed: u64, most: u64) -> Result<u64, GgufError> {
    if claimed > most { Err(GgufError::TooMany { what, claimed, most }) } else { Ok(claimed) }
}

impl Reader {
    /// A reader at the start of a file, with the size of the file in bytes where it is known.
    pub fn new(file_size: Option<u64>) -> Self {
        Self {
            file_size,
            at: 0,
            next: Item::Start,
            version: 0,
            is_big_endian: false,
            keys_left: 0,
            tensors_left: 0,
            kept_elements: 0,
            metadata: Metadata::default(),
            tensors: Vec::new(),
        }
    }

    /// Takes in a piece of the file that begins at byte `begin`: 0 at first, then the `at` that was asked for (a piece that
    /// begins earlier does too).
    ///
    /// # Errors
    /// [`GgufError`] says what is wrong with the file.
    pub fn read(&mut self, begin: u64, piece: &[u8]) -> Result<Step, GgufError> {
        loop {
            if matches!(self.next, Item::End) {
                return Ok(Step::Done);
            }
            let rest = self.at.checked_sub(begin).and_then(|skipped| piece.get(usize::try_from(skipped).ok()?..));
            let length_width = if self.version == 1 { 4 } else { 8 };
            let mut piece = Piece { rest: rest.unwrap_or_default(), at: self.at, is_big_endian: self.is_big_endian, length_width };
            let short = match self.item(&mut piece) {
                Ok(()) => {
                    self.at = piece.at;
                    self.within(self.at)?;
                    continue;
                }
                Err(Stop::Short(end)) => end,
                Err(Stop::Bad(error)) => return Err(error),
            };
            self.within(short)?;
            return Ok(Step::Need { at: self.at, bytes: short - self.at });
        }
    }

    /// Whether the header may go on to this byte.
    fn within(&self, end: u64) -> Result<(), GgufError> {
        match self.file_size {
            Some(have) if have < end => Err(GgufError::CutOff { have, need: end }),
            _ if end > MAX_HEADER_BYTES => Err(GgufError::TooLong),
            _ => Ok(()),
        }
    }

    /// Reads one item. What the item itself is made of is kept only when all of it is there.
    fn item(&mut self, piece: &mut Piece) -> Result<(), Stop> {
        match std::mem::replace(&mut self.next, Item::End) {
            Item::Start => self.start(piece).inspect_err(|_| self.next = Item::Start)?,
            Item::Key => self.key(piece).inspect_err(|_| self.next = Item::Key)?,
            Item::Elements { key, kind, left, kept } => return self.elements(piece, key, kind, left, kept),
            Item::Tensor => self.tensor(piece).inspect_err(|_| self.next = Item::Tensor)?,
            Item::End => {}
        }
        Ok(())
    }

    /// The letters, the version and the counts.
    fn start(&mut self, piece: &mut Piece) -> Result<(), Stop> {
        // Files that are something else may be shorter than a header.
        let there = piece.rest.len().min(8);
        if piece.rest.starts_with(b"version ") {
            return Err(GgufError::LfsPointer.into());
        }
        if !is_gguf(piece.rest) && !b"GGUF".starts_with(&piece.rest[..there.min(4)]) {
            return Err(GgufError::NotGguf.into());
        }
        if there < 8 {
            return Err(Stop::Short(16));
        }
        piece.take(4)?;
        let version = piece.number()?;
        // A small number that looks large was written in the other order.
        self.is_big_endian = version.trailing_zeros() >= 16 && version != 0;
        piece.is_big_endian = self.is_big_endian;
        self.version = if self.is_big_endian { version.swap_bytes() } else { version };
        if !(1..=3).contains(&self.version) {
            return Err(GgufError::Version(self.version).into());
        }
        piece.length_width = if self.version == 1 { 4 } else { 8 };
        if piece.rest.len() < 2 * piece.length_width {
            return Err(Stop::Short(8 + 2 * piece.length_width as u64));
        }
        self.tensors_left = at_most("a number of tensors", piece.length()?, MAX_TENSORS as u64)?;
        self.keys_left = at_most("a number of metadata entries", piece.length()?, MAX_KEYS)?;
        self.after_key()
    }

    /// What follows a whole metadata entry.
    fn after_key(&mut self) -> Result<(), Stop> {
        self.next = Item::Key;
        if self.keys_left == 0 {
            self.alignment()?;
            self.next = if self.tensors_left == 0 { Item::End } else { Item::Tensor };
        }
        Ok(())
    }

    fn key(&mut self, piece: &mut Piece) -> Result<(), Stop> {
        let key = piece.name("a metadata key", MAX_KEY)?;
        let kind = kind(&key, piece.number()?)?;
        let value = match kind {
            Kind::List => {
                let element = self::kind(&key, piece.number()?)?;
                let left = piece.length()?;
                if element == Kind::List {
                    return Err(GgufError::NestedList(quotable(&key)).into());
                }
                let is_kept = !matches!(element, Kind::Text | Kind::Float(_)) && left <= MAX_LIST && !key.starts_with("tokenizer.");
                let kept = (is_kept && self.kept_elements < MAX_KEPT_ELEMENTS).then(Vec::new);
                self.insert(&key, Value::List(left))?;
                self.next = Item::Elements { key, kind: element, left, kept };
                return Ok(());
            }
            Kind::Text => {
                let length = piece.length()?;
                if length > MAX_TEXT {
                    piece.skip(length)?;
                    Value::LongText
                } else {
                    Value::Text(String::from_utf8_lossy(piece.take(length)?).into_owned())
                }
            }
            plain => piece.plain(plain)?.unwrap_or(Value::LongText),
        };
        self.insert(&key, value)?;
        self.keys_left -= 1;
        self.after_key()
    }

    fn insert(&mut self, key: &str, value: Value) -> Result<(), GgufError> {
        match self.metadata.0.entry(key.to_owned()) {
            Entry::Occupied(_) => Err(GgufError::Repeated(quotable(key))),
            Entry::Vacant(place) => {
                place.insert(value);
                Ok(())
            }
        }
    }

    /// Elements of a list, as many as the piece has.
    fn elements(&mut self, piece: &mut Piece, key: String, kind: Kind, mut left: u64, mut kept: Option<Vec<i64>>) -> Result<(), Stop> {
        let begin = piece.at;
        let walked = match (&mut kept, kind.width()) {
            (None, Some(width)) => {
                let bytes = left.checked_mul(width as u64).ok_or(GgufError::TooLong)?;
                left = 0;
                piece.skip(bytes)
            }
            (None, None) => piece.texts(&mut left),
            (Some(values), _) => piece.integers(kind, &mut left, values),
        };
        match walked {
            Ok(()) => {}
            // What was walked over counts; the next call goes on behind it.
            Err(Stop::Short(_)) if piece.at > begin => {}
            Err(stop) => {
                self.next = Item::Elements { key, kind, left, kept };
                return Err(stop);
            }
        }
        if left > 0 {
            self.next = Item::Elements { key, kind, left, kept };
            return Ok(());
        }
        if let Some(mut values) = kept {
            values.shrink_to_fit();
            self.kept_elements += values.len();
            self.metadata.0.insert(key, Value::Integers(values));
        }
        self.keys_left -= 1;
        self.after_key()
    }

    fn alignment(&self) -> Result<u64, GgufError> {
        match self.metadata.get("general.alignment") {
            None => Ok(DEFAULT_ALIGNMENT),
            Some(Value::Integer(value)) => u32::try_from(*value).ok().filter(|value| value.is_power_of_two()).map(u64::from).ok_or(GgufError::BadAlignment),
            Some(_) => Err(GgufError::BadAlignment),
        }
    }

    fn tensor(&mut self, piece: &mut Piece) -> Result<(), Stop> {
        let name = piece.name("a tensor's name", MAX_NAME)?;
        let dimensions = piece.number()?;
        if dimensions > MAX_DIMENSIONS {
            return Err(GgufError::TooManyDimensions { name: quotable(&name), dimensions }.into());
        }
        let mut shape = Vec::with_capacity(dimensions as usize);
        for _ in 0..dimensions {
            shape.push(piece.length()?);
        }
        let id = piece.number()?;
        let begin = piece.unsigned(8)?;
        let encoding = Encoding::from_ggml(id).ok_or_else(|| GgufError::UnknownType { name: quotable(&name), id })?;
        let row = shape.first().copied().unwrap_or(1);
        if !row.is_multiple_of(encoding.block_elements) {
            return Err(GgufError::BrokenBlock { name: quotable(&name), row, block: encoding.block_elements }.into());
        }
        let values = shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n));
        let end = values.and_then(|values| encoding.bytes_for(values).ok()).and_then(|bytes| begin.checked_add(bytes.get()));
        let end = end.ok_or_else(|| GgufError::TooManyValues(quotable(&name)))?;
        shape.reverse();
        self.tensors.push(HeaderTensor { name, encoding, shape, begin, end });
        self.tensors_left -= 1;
        self.next = if self.tensors_left == 0 { Item::End } else { Item::Tensor };
        Ok(())
    }

    /// The header, when [`Self::read`] has said that it is done.
    ///
    /// # Errors
    /// [`GgufError`] when the header was not read to its end, or when names or places of the tensors are not sound.
    pub fn finish(self) -> Result<Header, GgufError> {
        if !matches!(self.next, Item::End) {
            return Err(GgufError::CutOff { have: self.at, need: self.at.saturating_add(1) });
        }
        let alignment = self.alignment()?;
        let data_begin = if self.tensors.is_empty() { self.at } else { self.at.checked_next_multiple_of(alignment).ok_or(GgufError::TooLong)? };
        unrepeated(&self.tensors)?;
        check_layout(&self.tensors, alignment, data_begin, self.file_size)?;
        Ok(Header { version: self.version, is_big_endian: self.is_big_endian, metadata: self.metadata, tensors: self.tensors, data_begin })
    }
}

fn kind(key: &str, number: u32) -> Result<Kind, GgufError> {
    Kind::of(number).ok_or_else(|| GgufError::UnknownValueType { key: quotable(key), kind: number })
}

impl Piece<'_> {
    /// Walks over texts: the one loop that a vocabulary makes long.
    fn texts(&mut self, left: &mut u64) -> Result<(), Stop> {
        while *left > 0 {
            let length = self.length()?;
            self.skip(length)?;
            *left -= 1;
        }
        Ok(())
    }

    fn integers(&mut self, kind: Kind, left: &mut u64, values: &mut Vec<i64>) -> Result<(), Stop> {
        while *left > 0 {
            values.push(match self.plain(kind)? {
                Some(Value::Integer(value)) => value,
                Some(Value::Bool(value)) => i64::from(value),
                _ => 0,
            });
            *left -= 1;
        }
        Ok(())
    }
}

fn unrepeated(tensors: &[HeaderTensor]) -> Result<(), GgufError> {
    let mut names = HashSet::new();
    match tensors.iter().find(|tensor| !names.insert(tensor.name.as_str())) {
        Some(tensor) => Err(GgufError::Repeated(quotable(&tensor.name))),
        None => Ok(()),
    }
}

/// Checks that each tensor is aligned, in the file, and alone in its bytes. ggml leaves no holes but those of the alignment;
/// they do not matter here.
fn check_layout(tensors: &[HeaderTensor], alignment: u64, data_begin: u64, file_size: Option<u64>) -> Result<(), GgufError> {
    let mut order: Vec<&HeaderTensor> = tensors.iter().collect();
    order.sort_unstable_by_key(|tensor| (tensor.begin, tensor.end));
    let mut reached = 0;
    for tensor in order {
        if !tensor.begin.is_multiple_of(alignment) {
            return Err(GgufError::Misaligned { name: quotable(&tensor.name), offset: tensor.begin, alignment });
        }
        if tensor.begin < reached {
            return Err(GgufError::Overlap(quotable(&tensor.name)));
        }
        reached = tensor.end;
        let need = data_begin.saturating_add(tensor.end);
        if let Some(have) = file_size.filter(|&have| have < need) {
            return Err(GgufError::FileCutOff { name: quotable(&tensor.name), have, need });
        }
    }
    Ok(())
}

/// The parts of a split model (`-00001-of-00003.gguf`, by `split.no`) as one header; a whole file as it is.
///
/// # Errors
/// [`GgufError::Split`] when parts are missing or do not belong together.
pub fn join(mut parts: Vec<Header>) -> Result<Header, GgufError> {
    let wrong = |why: String| Err(GgufError::Split(why));
    let number = |part: &Header| part.metadata.count("split.no").unwrap_or(0);
    let count = parts.iter().map(|part| part.metadata.count("split.count").unwrap_or(1).max(1)).max().unwrap_or(0);
    parts.sort_by_key(number);
    for (expected, part) in parts.iter().enumerate() {
        if part.metadata.count("split.count").unwrap_or(1).max(1) != count {
            return wrong("they say that there are different numbers of parts".to_owned());
        }
        match number(part) {
            found if found > expected as u64 => return wrong(format!("part {} of {count} is missing", expected + 1)),
            found if found < expected as u64 => return wrong(format!("part {} of {count} is there twice", found + 1)),
            _ => {}
        }
    }
    if (parts.len() as u64) < count {
        return wrong(format!("part {} of {count} is missing", parts.len() + 1));
    }
    let mut parts = parts.into_iter();
    let Some(mut whole) = parts.next() else { return wrong("there are none".to_owned()) };
    whole.tensors.extend(parts.flat_map(|part| part.tensors));
    unrepeated(&whole.tensors)?;
    match whole.metadata.count("split.tensors.count") {
        Some(stated) if count > 1 && stated != whole.tensors.len() as u64 => {
            wrong(format!("they should have {stated} tensors and have {}", whole.tensors.len()))
        }
        _ => Ok(whole),
    }
}
