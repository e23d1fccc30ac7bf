//! Every tensor of a model as a format stores it: what the files have, what config.json says, or what one asks for.
//!
//! The one place that decides it; sums over its answer are what the ledger shows, and what engines split by layer.

mod converted;
mod gguf;

pub use converted::Converted;
pub use gguf::stops_at;

use std::ops::Range;

use crate::encoding::Encoding;
use crate::model::{Anatomy, ComponentKind, Files, Item, Matrix, Model, Place, Quantization, Role, Tensor, is_taken, scheme_for};
use crate::quantity::{Bytes, Decimal, Overflow, ParamCount};
use crate::weight_format::{Along, Scheme, Weights};

/// A tensor in some layers, as it is stored there. A tensor whose format differs from layer to layer is several of these, and so is
/// one that a format stores as several.
#[derive(Clone, Debug)]
pub struct Stored<'a> {
    /// The tensor of the inventory.
    pub tensor: &'a Tensor,
    /// Its place in the architecture; `None` for tensors of files, which are not told apart by layer.
    pub place: Option<Place>,
    /// The layers of its component (`0..1` outside of layers); of tensors of files only the number counts.
    pub layers: Range<u64>,
    /// What is stored in each of these layers.
    pub matrix: Matrix,
    /// How.
    pub form: Form,
}

/// How values are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    /// All in one encoding.
    Plain(Encoding),
    /// As a quantised matrix.
    Packed(Scheme),
    /// So many bytes each, whatever they are.
    Bytes(Decimal),
}

/// Equal things that are stored, of all layers together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Piece {
    /// What they are, in the plural.
    pub what: &'static str,
    /// What there is one of.
    pub along: Along,
    /// How many.
    pub count: u64,
    /// What one takes.
    pub unit: Unit,
}

/// What one of them takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unit {
    /// A value of this encoding.
    Value(Encoding),
    /// Bits.
    Bits(Decimal),
    /// Bytes.
    Bytes(Decimal),
}

impl Unit {
    /// The size of so many.
    ///
    /// # Errors
    /// [`Overflow`] when it passes 2^64 - 1.
    pub fn bytes(self, count: u64) -> Result<Bytes, Overflow> {
        match self {
            Self::Value(encoding) => encoding.bytes_for(count),
            Self::Bits(bits) => Ok(Bytes(bits.ceil_of(count)?.div_ceil(8))),
            Self::Bytes(bytes) => bytes.ceil_of(count).map(Bytes),
        }
    }
}

impl Stored<'_> {
    /// In how many layers it is.
    pub fn times(&self) -> u64 {
        self.layers.end - self.layers.start
    }

    /// What it consists of, in all its layers.
    ///
    /// # Errors
    /// [`Overflow`] when a count passes 2^64 - 1.
    pub fn pieces(&self) -> Result<Vec<Piece>, Overflow> {
        let Matrix { count, rows, columns } = self.matrix;
        let count = count.checked_mul(self.times()).ok_or(Overflow)?;
        let all = |unit| {
            let values = count.checked_mul(rows).and_then(|rows| rows.checked_mul(columns)).ok_or(Overflow)?;
            Ok(vec![Piece { what: "parameters", along: Along::Weights, count: values, unit }])
        };
        match self.form {
            Form::Plain(encoding) => all(Unit::Value(encoding)),
            Form::Bytes(bytes) => all(Unit::Bytes(bytes)),
            Form::Packed(scheme) => {
                let parts = scheme.parts(count, rows, columns)?;
                Ok(parts.map(|part| Piece { what: part.what, along: part.along, count: part.count, unit: Unit::Bits(part.bits) }).collect())
            }
        }
    }

    /// Its size in all its layers.
    ///
    /// # Errors
    /// [`Overflow`] when it passes 2^64 - 1.
    pub fn bytes(&self) -> Result<Bytes, Overflow> {
        self.pieces()?.into_iter().try_fold(Bytes::ZERO, |sum, piece| sum.plus(piece.unit.bytes(piece.count)?))
    }
}

/// What says how every tensor of a model is stored in a format: [`stored`], or [`plain`] where that is enough.
pub type Store = for<'a> fn(&'a Model, Weights, Encoding) -> Result<Vec<Stored<'a>>, Overflow>;

/// Every tensor that a loader takes, as `format` stores it. `dtype` is that of computation, in which loaders keep what is not
/// quantised.
///
/// # Errors
/// [`Overflow`] when the sizes are not possible.
pub fn stored(model: &Model, format: Weights, dtype: Encoding) -> Result<Vec<Stored<'_>>, Overflow> {
    let anatomy = &model.anatomy;
    let Some(files) = files_of(model, format) else { return of_architecture(anatomy, format, dtype) };
    of_files(files, anatomy, dtype, |tensor, matrix| match format {
        Weights::AsStored => None,
        Weights::Mix(mix) => Some(Form::Plain(gguf::type_of_loose(mix, tensor, matrix))),
        _ => Some(form(format, dtype, tensor, matrix, (true, tensor.name.contains("{}")))),
    })
}

/// The files whose tensors are counted: of a guessed architecture they know more.
fn files_of(model: &Model, format: Weights) -> Option<&Files> {
    model.provenance.files.as_ref().filter(|_| format == Weights::AsStored || model.anatomy.is_guess)
}

/// [`stored`] for those who know what llama.cpp's converter makes of the weights.
///
/// # Errors
/// [`Overflow`] when the sizes are not possible.
pub fn stored_as<'a>(model: &'a Model, format: Weights, dtype: Encoding, converted: Option<&Converted<'_>>) -> Result<Vec<Stored<'a>>, Overflow> {
    match format {
        Weights::Mix(mix) if files_of(model, format).is_none() => gguf::stored(&model.anatomy, mix, converted),
        _ => stored(model, format, dtype),
    }
}

/// Whether [`plain`] says the same as [`stored`] of this format: nothing is packed on the way, and what is packed is in files.
pub fn is_plain(model: &Model, format: Weights) -> bool {
    match format {
        Weights::AsStored => model.provenance.files.is_some() || model.anatomy.quantization.is_none(),
        Weights::Plain(_) => true,
        _ => false,
    }
}

/// [`stored`] for formats that pack nothing ([`is_plain`]), in little code.
///
/// # Errors
/// [`Overflow`] when the sizes are not possible.
pub fn plain(model: &Model, format: Weights, dtype: Encoding) -> Result<Vec<Stored<'_>>, Overflow> {
    let anatomy = &model.anatomy;
    match (&model.provenance.files, format) {
        (Some(files), Weights::AsStored) => of_files(files, anatomy, dtype, |_, _| None),
        (Some(files), Weights::Plain(encoding)) if anatomy.is_guess => of_files(files, anatomy, dtype, |_, _| Some(Form::Plain(encoding))),
        (_, Weights::Plain(encoding)) => of_all(anatomy, |_, _| Form::Plain(encoding)),
        _ => of_all(anatomy, |_, _| Form::Plain(dtype)),
    }
}

/// The same by the architecture alone, whatever files there are.
///
/// # Errors
/// [`Overflow`] when the sizes are not possible.
pub fn of_architecture(anatomy: &Anatomy, format: Weights, dtype: Encoding) -> Result<Vec<Stored<'_>>, Overflow> {
    if let Weights::Mix(mix) = format {
        return gguf::stored(anatomy, mix, Converted::of(anatomy).and_then(Result::ok).as_ref());
    }
    // What the config describes has its own exceptions.
    let (mut all, scheme) = match said_by_config(anatomy, format) {
        Some(quantization) => (of_config(anatomy, quantization, dtype)?, quantization.schemes.first().copied()),
        None if format == Weights::AsStored => (of_all(anatomy, |_, _| Form::Plain(dtype))?, None),
        None => (of_all(anatomy, |item, matrix| form(format, dtype, item.tensor, matrix, (item.is_main(), item.is_in_layer())))?, format.scheme()),
    };
    let copied = scheme.filter(|scheme| scheme.copies_tied_head && scheme.takes.head);
    if let (Some(scheme), Some(embedding)) = (copied, tied_embedding(anatomy)) {
        let (matrix, form) = (embedding.matrix()?, Form::Packed(scheme_for(scheme, Role::Head)));
        all.push(Stored { tensor: embedding.tensor, place: Some(embedding.place), layers: embedding.layers, matrix, form });
    }
    Ok(all)
}

/// The embedding of a text decoder that has no head of its own.
fn tied_embedding(anatomy: &Anatomy) -> Option<Item<'_>> {
    let decoder = anatomy.components.first().filter(|component| component.kind == ComponentKind::TextDecoder)?;
    let has_head = decoder.tensors.iter().any(|tensor| tensor.role == Role::Head && tensor.is_matrix());
    anatomy.inventory().find(|item| !has_head && item.place.component == 0 && item.tensor.role == Role::Embedding)
}

/// The quantisation of the config where it is what is asked for, and its size is known.
fn said_by_config(anatomy: &Anatomy, format: Weights) -> Option<&Quantization> {
    let quantization = anatomy.quantization.as_ref().filter(|quantization| !quantization.schemes.is_empty())?;
    match format.scheme() {
        None => (format == Weights::AsStored).then_some(quantization),
        Some(asked) => {
            let is_same =
                |scheme: &Scheme| scheme.method == asked.method && scheme.bits == asked.bits && scheme.group == asked.group && scheme.nested == asked.nested;
            quantization.schemes.iter().all(is_same).then_some(quantization)
        }
    }
}

/// The form of a tensor when one asks for a format that goes by role alone.
fn form(format: Weights, dtype: Encoding, tensor: &Tensor, matrix: Matrix, (is_language, is_in_layer): (bool, bool)) -> Form {
    match format {
        Weights::Plain(encoding) => Form::Plain(encoding),
        Weights::Bytes(bytes) => Form::Bytes(bytes),
        _ => match format.scheme() {
            Some(scheme) if is_taken(scheme.takes, is_language, is_in_layer, tensor) && scheme.fits(matrix.columns) => {
                Form::Packed(scheme_for(scheme, tensor.role))
            }
            _ => Form::Plain(dtype),
        },
    }
}

fn of_all<'a>(anatomy: &'a Anatomy, form: impl Fn(&Item<'_>, Matrix) -> Form) -> Result<Vec<Stored<'a>>, Overflow> {
    let one = |item: Item<'a>| {
        let matrix = item.matrix()?;
        // Adapters come in a format of their own, whatever the model beside them has.
        let own = item.tensor.stored.filter(|_| item.tensor.role == Role::Adapter);
        let form = own.map_or_else(|| form(&item, matrix), Form::Plain);
        Ok(Stored { tensor: item.tensor, place: Some(item.place), layers: item.layers, matrix, form })
    };
    anatomy.inventory().map(one).collect()
}

/// As the config says: what it names in its format, and what lies between as it was.
fn of_config<'a>(anatomy: &'a Anatomy, quantization: &Quantization, dtype: Encoding) -> Result<Vec<Stored<'a>>, Overflow> {
    let mut all = Vec::new();
    for item in anatomy.inventory() {
        let matrix = item.matrix()?;
        let mut add = |layers: Range<u64>, form| {
            if !layers.is_empty() {
                all.push(Stored { tensor: item.tensor, place: Some(item.place), layers, matrix, form });
            }
        };
        let mut next = item.layers.start;
        for assigned in quantization.of(item.place) {
            add(next..assigned.layers.start, Form::Plain(dtype));
            let scheme = quantization.schemes.get(assigned.scheme).map(|scheme| Form::Packed(scheme_for(*scheme, item.tensor.role)));
            add(assigned.layers.clone(), scheme.unwrap_or(Form::Plain(dtype)));
            next = assigned.layers.end;
        }
        add(next..item.layers.end, Form::Plain(dtype));
    }
    Ok(all)
}

/// As the files have them, or as `asked` says of their tensors.
fn of_files<'a>(files: &'a Files, anatomy: &Anatomy, dtype: Encoding, asked: impl Fn(&Tensor, Matrix) -> Option<Form>) -> Result<Vec<Stored<'a>>, Overflow> {
    let main = main_encoding(files);
    let hidden = anatomy.components.first().map_or(0, |component| component.hidden_size);
    let one = |(tensor, times): &'a (Tensor, u64)| {
        let matrix = Matrix::of(tensor, hidden)?;
        let own = match tensor.stored {
            Some(stored) if anatomy.quantization.is_some() || main != Some(stored) => stored,
            _ => dtype,
        };
        let form = match tensor.stored {
            // Whatever is packed already stays so: what it holds is not known without its config.
            Some(stored) if !stored.is_float => Form::Plain(stored),
            _ => asked(tensor, matrix).unwrap_or(Form::Plain(own)),
        };
        Ok(Stored { tensor, place: None, layers: 0..*times, matrix, form })
    };
    files.loaded.iter().map(one).collect()
}

/// The float encoding that most values of the files have. Loaders give the dtype of computation to what is in it, and keep the few
/// tensors in another one (routers, scales and norms in float32).
fn main_encoding(files: &Files) -> Option<Encoding> {
    let mut sums: Vec<(Encoding, u64)> = Vec::new();
    for (tensor, times) in &files.loaded {
        let Some(stored) = tensor.stored.filter(|stored| stored.is_float) else { continue };
        let elements = tensor.elements().map_or(0, ParamCount::get).saturating_mul(*times);
        match sums.iter_mut().find(|(encoding, _)| *encoding == stored) {
            Some((_, sum)) => *sum = sum.saturating_add(elements),
            None => sums.push((stored, elements)),
        }
    }
    sums.into_iter().max_by_key(|(_, sum)| *sum).map(|(encoding, _)| encoding)
}

/// The format that is meant by "as stored", with the reason for people: the files' own, else what config.json says, else what the
/// name says, else the dtype of config.json, else bfloat16.
pub fn meant(model: &Model, asked: Weights) -> (Weights, Option<String>) {
    if asked != Weights::AsStored {
        return (asked, None);
    }
    let anatomy = &model.anatomy;
    if model.provenance.files.is_some() {
        return (asked, Some("as the headers of the files say".to_owned()));
    }
    if let Some(quantization) = &anatomy.quantization {
        let schemes: Vec<String> = quantization.schemes.iter().map(Scheme::to_string).collect();
        let said = if schemes.is_empty() { quantization.method.clone() } else { schemes.join("; ") };
        return (asked, Some(format!("config.json says {said}")));
    }
    let name = model.provenance.id.as_deref().unwrap_or_default();
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    match (Weights::from_model_name(name), anatomy.dtype) {
        (Some((format, word)), _) => (format, Some(format!("the name says `{}`, and neither headers nor config.json say another", word.replace('+', " ")))),
        (None, Some(dtype)) => (asked, Some(format!("the dtype of config.json: {dtype}"))),
        (None, None) => (asked, Some("bf16: neither files, config.json nor the name say another".to_owned())),
    }
}
