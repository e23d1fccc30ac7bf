//! What is wrong with the header of a weight file.

use super::MAX_TENSORS;
use crate::format::grouped;

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
    /// Values of less than a byte that do not fill whole bytes.
    #[error("`{name}` has {} values of {dtype}, which do not fill whole bytes", grouped(*values))]
    PartByte {
        /// The tensor.
        name: String,
        /// Its dtype.
        dtype: &'static str,
        /// How many values it has.
        values: u64,
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
