//! What is wrong with a GGUF file.

use crate::config::ConfigError;
use crate::format::grouped;
use crate::quantity::Overflow;

/// What is wrong with a GGUF file, or with the parts of a split one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GgufError {
    /// It does not begin with the four letters.
    #[error("this is not a GGUF file: it does not begin with `GGUF`")]
    NotGguf,
    /// The file is a stand-in that Git LFS left.
    #[error("this is a Git LFS pointer, a small text that stands for the weight file")]
    LfsPointer,
    /// A version that is not known.
    #[error("this GGUF file has version {0}; versions 1 to 3 are read")]
    Version(u32),
    /// The file ends within the header.
    #[error("the header of this file is cut off: the file has {} bytes and its header goes on to byte {} at least", grouped(*have), grouped(*need))]
    CutOff {
        /// Bytes of the file.
        have: u64,
        /// Bytes that the header needs at least.
        need: u64,
    },
    /// The header is longer than any.
    #[error("the header of this file goes on beyond the {} bytes that are read: the file is damaged", grouped(super::MAX_HEADER_BYTES))]
    TooLong,
    /// A count or length that cannot be.
    #[error("this file claims {what} of {}, more than the {} that are read: it is damaged", grouped(*claimed), grouped(*most))]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// The number in the file.
        claimed: u64,
        /// The most that is read.
        most: u64,
    },
    /// A name is not UTF-8.
    #[error("{0} of this file is not text (UTF-8)")]
    NotText(&'static str),
    /// A name occurs twice.
    #[error("this file lists `{0}` twice")]
    Repeated(String),
    /// A value has a type that the format does not have.
    #[error("the metadata `{key}` has the type {kind}, which GGUF does not have")]
    UnknownValueType {
        /// The key.
        key: String,
        /// The type's number.
        kind: u32,
    },
    /// A list of lists.
    #[error("the metadata `{0}` is a list of lists, which llama.cpp does not read")]
    NestedList(String),
    /// The alignment is no alignment.
    #[error("`general.alignment` must be a power of two that fits 32 bits")]
    BadAlignment,
    /// A tensor has a type that is not known.
    #[error("`{name}` has the ggml type {id}, which is not known{}", if removed(*id) { " any more: llama.cpp gave it up" } else { "" })]
    UnknownType {
        /// The tensor.
        name: String,
        /// The type's number.
        id: u32,
    },
    /// A tensor has too many dimensions.
    #[error("`{name}` has {dimensions} dimensions; ggml has at most 4")]
    TooManyDimensions {
        /// The tensor.
        name: String,
        /// How many.
        dimensions: u32,
    },
    /// Rows are not whole blocks.
    #[error("the rows of `{name}` have {row} values, not a multiple of the {block} in a block of its type")]
    BrokenBlock {
        /// The tensor.
        name: String,
        /// Values in a row.
        row: u64,
        /// Values in a block.
        block: u64,
    },
    /// The dimensions multiply to more than is possible.
    #[error("the dimensions of `{0}` multiply to more values than are possible")]
    TooManyValues(String),
    /// A tensor begins off the alignment.
    #[error("`{name}` begins at byte {offset}, which is not a multiple of the alignment {alignment}")]
    Misaligned {
        /// The tensor.
        name: String,
        /// Its first byte.
        offset: u64,
        /// The alignment.
        alignment: u64,
    },
    /// Two tensors share bytes.
    #[error("`{0}` overlaps the tensor before it in the file")]
    Overlap(String),
    /// The file ends before its last tensor does.
    #[error("this file is cut off: it has {} bytes and `{name}` goes on to byte {}", grouped(*have), grouped(*need))]
    FileCutOff {
        /// The tensor that ends last.
        name: String,
        /// Bytes of the file.
        have: u64,
        /// Where the tensor ends.
        need: u64,
    },
    /// Parts of a split file do not make one.
    #[error("the parts do not make one model: {0}")]
    Split(String),
    /// A key that is needed is missing or impossible.
    #[error("the metadata of this file cannot be read as a model: {0}")]
    Metadata(String),
    /// It has no tensors.
    #[error("this file has no tensors, only {0}")]
    NoTensors(&'static str),
    /// The sizes add up to more than is possible.
    #[error("the sizes in this file add up to more than is possible")]
    Overflow,
}

/// Types that ggml had and gave up (`Q4_2`, `Q4_3`, the repacked `Q4_0_4_4` and `IQ4_NL_4_4` kinds).
const fn removed(id: u32) -> bool {
    matches!(id, 4 | 5 | 31..=33 | 36..=38)
}

impl From<Overflow> for GgufError {
    fn from(_: Overflow) -> Self {
        Self::Overflow
    }
}

impl From<ConfigError> for GgufError {
    fn from(error: ConfigError) -> Self {
        Self::Metadata(error.to_string())
    }
}
