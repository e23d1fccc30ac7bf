//! Writes GGUF headers: versions 1 to 3, both byte orders, sound or not.

use serde_json::Value;
use vramfit::checkpoint::gguf::{GgufError, Header, Reader, Step};

/// A file under construction. Tensors' bytes are counted, not written.
#[derive(Clone, Debug)]
pub struct GgufFile {
    pub version: u32,
    pub is_big_endian: bool,
    pub alignment: u64,
    keys: u64,
    metadata: Vec<u8>,
    tensors: u64,
    infos: Vec<u8>,
    /// Bytes of the tensors so far, with padding.
    pub data: u64,
    /// The same without padding.
    pub written: u64,
}

/// The header of a file, read at once.
pub fn header_of(file: &GgufFile) -> Result<Header, GgufError> {
    let bytes = file.header();
    let mut reader = Reader::new(Some(bytes.len() as u64 + file.data));
    assert_eq!(reader.read(0, &bytes)?, Step::Done);
    reader.finish()
}

/// Numbers of value types.
pub const U8: u32 = 0;
pub const I8: u32 = 1;
pub const U16: u32 = 2;
pub const I16: u32 = 3;
pub const U32: u32 = 4;
pub const I32: u32 = 5;
pub const F32: u32 = 6;
pub const BOOL: u32 = 7;
pub const TEXT: u32 = 8;
pub const LIST: u32 = 9;
pub const U64: u32 = 10;
pub const I64: u32 = 11;
pub const F64: u32 = 12;

impl GgufFile {
    pub fn new(version: u32, is_big_endian: bool) -> Self {
        Self { version, is_big_endian, alignment: 32, keys: 0, metadata: Vec::new(), tensors: 0, infos: Vec::new(), data: 0, written: 0 }
    }

    /// A number of `width` bytes.
    pub fn bytes(&self, value: u64, width: usize) -> Vec<u8> {
        let little = value.to_le_bytes();
        let mut bytes = little[..width].to_vec();
        if self.is_big_endian {
            bytes.reverse();
        }
        bytes
    }

    pub fn length(&self, value: u64) -> Vec<u8> {
        self.bytes(value, if self.version == 1 { 4 } else { 8 })
    }

    pub fn text_bytes(&self, text: &[u8]) -> Vec<u8> {
        [self.length(text.len() as u64), text.to_vec()].concat()
    }

    /// An entry of any type, its value as bytes.
    pub fn entry(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.keys += 1;
        let entry = [self.text_bytes(key.as_bytes()), self.bytes(kind.into(), 4), value.to_vec()].concat();
        self.metadata.extend(entry);
        self
    }

    pub fn u32(self, key: &str, value: u32) -> Self {
        let bytes = self.bytes(value.into(), 4);
        self.entry(key, U32, &bytes)
    }

    pub fn text(self, key: &str, value: &str) -> Self {
        let bytes = self.text_bytes(value.as_bytes());
        self.entry(key, TEXT, &bytes)
    }

    /// A list, its elements as bytes.
    pub fn list(self, key: &str, kind: u32, elements: &[Vec<u8>]) -> Self {
        let bytes = [self.bytes(kind.into(), 4), self.length(elements.len() as u64), elements.concat()].concat();
        self.entry(key, LIST, &bytes)
    }

    pub fn texts(self, key: &str, texts: impl IntoIterator<Item = String>) -> Self {
        let elements: Vec<_> = texts.into_iter().map(|text| self.text_bytes(text.as_bytes())).collect();
        self.list(key, TEXT, &elements)
    }

    pub fn integers(self, key: &str, kind: u32, width: usize, values: &[i64]) -> Self {
        let elements: Vec<_> = values.iter().map(|value| self.bytes(value.cast_unsigned(), width)).collect();
        self.list(key, kind, &elements)
    }

    /// A value as JSON has it, with the types that llama.cpp's converter uses.
    pub fn json(self, key: &str, value: &Value) -> Self {
        match value {
            Value::Bool(flag) => self.entry(key, BOOL, &[u8::from(*flag)]),
            Value::String(text) => self.text(key, text),
            Value::Number(number) if number.is_u64() => self.u32(key, u32::try_from(number.as_u64().unwrap()).unwrap()),
            #[allow(clippy::cast_possible_truncation)]
            Value::Number(number) => {
                let bytes = self.bytes((number.as_f64().unwrap() as f32).to_bits().into(), 4);
                self.entry(key, F32, &bytes)
            }
            Value::Array(list) if list.iter().all(Value::is_boolean) => {
                let values: Vec<i64> = list.iter().map(|item| item.as_bool().unwrap().into()).collect();
                self.integers(key, BOOL, 1, &values)
            }
            Value::Array(list) if list.iter().all(Value::is_i64) => {
                let values: Vec<i64> = list.iter().map(|item| item.as_i64().unwrap()).collect();
                self.integers(key, I32, 4, &values)
            }
            Value::Array(list) if list.iter().all(Value::is_string) => self.texts(key, list.iter().map(|item| item.as_str().unwrap().to_owned())),
            Value::Array(list) => {
                let elements: Vec<_> = list.iter().map(|_| self.bytes(0, 4)).collect();
                self.list(key, F32, &elements)
            }
            _ => panic!("{key}"),
        }
    }

    /// A tensor's info with an offset of one's own; dimensions as ggml has them, columns first.
    pub fn info(mut self, name: &[u8], dimensions: &[u64], id: u32, offset: u64) -> Self {
        self.tensors += 1;
        let mut info = self.text_bytes(name);
        info.extend(self.bytes(dimensions.len() as u64, 4));
        for n in dimensions {
            info.extend(self.length(*n));
        }
        info.extend(self.bytes(id.into(), 4));
        info.extend(self.bytes(offset, 8));
        self.infos.extend(info);
        self
    }

    /// A tensor behind the others.
    pub fn tensor(self, name: &str, dimensions: &[u64], id: u32) -> Self {
        let encoding = vramfit::encoding::Encoding::from_ggml(id).unwrap();
        let size = encoding.bytes_for(dimensions.iter().product()).unwrap().get();
        let offset = self.data;
        let mut file = self.info(name.as_bytes(), dimensions, id, offset);
        file.data = (offset + size).next_multiple_of(file.alignment);
        file.written += size;
        file
    }

    /// The header up to the tensors' bytes, with counts of one's own.
    pub fn with_counts(&self, tensors: u64, keys: u64) -> Vec<u8> {
        let version = self.bytes(self.version.into(), 4);
        let mut file = [b"GGUF".to_vec(), version, self.length(tensors), self.length(keys), self.metadata.clone(), self.infos.clone()].concat();
        if self.tensors > 0 {
            file.resize(file.len().next_multiple_of(usize::try_from(self.alignment).unwrap()), 0);
        }
        file
    }

    /// The header up to the tensors' bytes.
    pub fn header(&self) -> Vec<u8> {
        self.with_counts(self.tensors, self.keys)
    }
}
