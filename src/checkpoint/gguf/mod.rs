//! GGUF, the file format of llama.cpp: a header of metadata and tensor infos, then the tensors' bytes.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>; details where that is silent are those of ggml's reader
//! (`ggml/src/gguf.cpp`, llama.cpp 0c1e57098) and gguf-py 0.19 (`gguf_reader.py`). Versions 1 to 3, both byte orders.
//!
//! [`Reader`] takes a file piece by piece ([`read_header`] brings them) and keeps only what matters for memory; [`read`] makes a model's anatomy and inventory
//! of it. Everything that decides the size of weights is in the tensor infos: names, dimensions, types, offsets.

mod arch;
mod error;
mod inventory;
mod layers;
mod metadata;
mod model;
mod name;
mod pieces;
mod reader;
mod tensors;

pub use error::GgufError;
pub use metadata::{Metadata, Value};
pub use model::{Contents, read};
pub use name::{FileSet, Part, is_beside, is_encoder, recipe};
pub use pieces::read_header;
pub use reader::{Header, MAX_HEADER_BYTES, Reader, Step, is_gguf, join, most_memory};
