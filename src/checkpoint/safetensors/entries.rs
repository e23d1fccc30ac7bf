//! The JSON of a header: entries that are sound, each by itself and by name.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Header, HeaderError, HeaderTensor, MAX_TENSORS};
use crate::checkpoint::quotable;
use crate::encoding::Encoding;

/// The most dimensions of a tensor that are read.
const MAX_DIMENSIONS: usize = 16;

/// The most entries of `__metadata__` that are kept; real files have a few.
const MAX_METADATA: usize = 10_000;

/// The entry of the JSON that is not a tensor.
pub(super) const METADATA: &str = "__metadata__";

/// The JSON as a header whose entries are sound, each by itself and by name.
pub(super) fn read_json(text: &str) -> Result<Header, HeaderError> {
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
        match values.and_then(|values| Some((values, encoding.bytes_for(values).ok()?))) {
            // `MisalignedSlice` of the format's own reader.
            Some((values, _)) if !values.is_multiple_of(encoding.block_elements) => {
                Err(HeaderError::PartByte { name: quotable(&name), dtype: encoding.name, values })
            }
            None => Err(HeaderError::TooManyValues { name: quotable(&name) }),
            Some((_, needed)) if needed.get() != stored => Err(HeaderError::WrongLength { name: quotable(&name), needed: needed.get(), stored }),
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
