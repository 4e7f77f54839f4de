//! NumPy's `.npy`, read in place.
//!
//! What flows in: mapped bytes. What flows out: the offset, the shape and the type of the numbers in them. Nothing here
//! knows what the numbers mean.

use std::borrow::Cow;
use std::path::Path;

use bytemuck::Pod;
use npyz::{DType, Endianness, NpyHeader, Order, TypeChar};

use super::error::DatasetError;
use super::limits::check_size;

const MAGIC: &[u8] = b"\x93NUMPY";

/// Header text longer than this describes something other than one plain array; NumPy itself stops at 10,000.
const MAX_HEADER: usize = 8_192;

/// A number type of `.npy` that some reader here accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    F16,
    F32,
    I32,
    I64,
    U32,
    U64,
}

impl Scalar {
    fn bytes(self) -> u64 {
        match self {
            Scalar::F16 => 2,
            Scalar::F32 | Scalar::I32 | Scalar::U32 => 4,
            Scalar::I64 | Scalar::U64 => 8,
        }
    }
}

/// The fields of the header, and where the numbers begin.
#[derive(Debug)]
pub(super) struct Layout {
    pub scalar: Scalar,
    pub shape: Vec<u64>,
    /// The byte at which the numbers begin. Writers align it to 64, old ones to 16; a hostile file may not align it.
    pub offset: usize,
}

/// Reads the header of the `.npy` file `bytes`, of `axes` axes and one of the `accepted` types, which
/// `expected` names in errors. Does not check the number of bytes after it: see [`Layout::check_size`].
pub(super) fn read_layout(
    path: &Path,
    bytes: &[u8],
    axes: usize,
    accepted: &[Scalar],
    expected: &'static str,
) -> Result<Layout, DatasetError> {
    let offset = header_len(path, bytes)?;
    let bad_header =
        |reason: String| DatasetError::BadHeader { path: path.to_owned(), format: "npy", reason };
    check_text(&bytes[MAGIC.len() + 4..offset]).map_err(|reason| bad_header(reason.to_owned()))?;
    let header = NpyHeader::from_reader(&bytes[..offset]).map_err(|error| bad_header(error.to_string()))?;

    let dtype = header.dtype();
    let unsupported =
        || DatasetError::UnsupportedType { path: path.to_owned(), expected, found: dtype.descr() };
    let DType::Plain(word) = &dtype else { return Err(unsupported()) };
    let scalar = match (word.type_char(), word.size_field()) {
        (TypeChar::Float, 2) => Scalar::F16,
        (TypeChar::Float, 4) => Scalar::F32,
        (TypeChar::Int, 4) => Scalar::I32,
        (TypeChar::Int, 8) => Scalar::I64,
        (TypeChar::Uint, 4) => Scalar::U32,
        (TypeChar::Uint, 8) => Scalar::U64,
        _ => return Err(unsupported()),
    };
    if !accepted.contains(&scalar) {
        return Err(unsupported());
    }
    if word.endianness() != Endianness::Little {
        return Err(DatasetError::BigEndian { path: path.to_owned(), expected, found: dtype.descr() });
    }
    let shape = header.shape().to_vec();
    if shape.len() != axes {
        return Err(DatasetError::WrongShape { path: path.to_owned(), expected: axes, found: shape });
    }
    if axes > 1 && header.order() == Order::Fortran {
        return Err(DatasetError::FortranOrder { path: path.to_owned() });
    }
    Ok(Layout { scalar, shape, offset })
}

impl Layout {
    /// Checks that the file of `found` bytes has exactly `count` numbers after its header.
    /// `count` comes from a checked shape.
    pub(super) fn check_size(&self, path: &Path, count: usize, found: usize) -> Result<(), DatasetError> {
        check_size(path, self.offset as u64 + count as u64 * self.scalar.bytes(), found)
    }
}

/// Returns `bytes` as numbers: in place if they are aligned for `T`, copied if a header of odd length misaligned
/// them. `bytes.len()` is a multiple of the size of `T`.
pub(super) fn numbers<T: Pod>(bytes: &[u8]) -> Cow<'_, [T]> {
    match bytemuck::try_cast_slice(bytes) {
        Ok(numbers) => Cow::Borrowed(numbers),
        Err(_) => {
            let mut numbers = vec![T::zeroed(); bytes.len() / size_of::<T>()];
            bytemuck::cast_slice_mut(&mut numbers).copy_from_slice(bytes);
            Cow::Owned(numbers)
        }
    }
}

/// The number of bytes from the magic to the end of the header text.
fn header_len(path: &Path, bytes: &[u8]) -> Result<usize, DatasetError> {
    if bytes.is_empty() {
        return Err(DatasetError::EmptyFile { path: path.to_owned() });
    }
    if !bytes.starts_with(MAGIC) {
        return Err(DatasetError::WrongMagic {
            path: path.to_owned(),
            format: "npy",
            expected: r#"begin with "\x93NUMPY""#,
            found: format!("\"{}\"", bytes[..bytes.len().min(MAGIC.len())].escape_ascii()),
        });
    }
    // Version 1 counts the text in 2 bytes, versions 2 and 3 in 4.
    let (before, text) = match bytes[MAGIC.len()..] {
        [1, _, low, high, ..] => (10, u16::from_le_bytes([low, high]) as usize),
        [2 | 3, _, a, b, c, d, ..] => (12, u32::from_le_bytes([a, b, c, d]) as usize),
        [] | [1..=3, ..] => return Err(DatasetError::truncated(path, 12, bytes)),
        [version, ..] => {
            let reason = format!("expected version 1, 2 or 3, found {version}");
            return Err(DatasetError::BadHeader { path: path.to_owned(), format: "npy", reason });
        }
    };
    if text > MAX_HEADER {
        let reason = format!("expected at most {MAX_HEADER} bytes of text, found {text}");
        return Err(DatasetError::BadHeader { path: path.to_owned(), format: "npy", reason });
    }
    if before + text > bytes.len() {
        return Err(DatasetError::truncated(path, before + text, bytes));
    }
    Ok(before + text)
}

/// Refuses header text that is not the description of one plain array.
///
/// The parser behind [`NpyHeader`] descends once per bracket, so that a page of them would exhaust the
/// stack, and multiplies the shape unchecked. Two brackets and fewer than 20 digits rule both out.
fn check_text(text: &[u8]) -> Result<(), &'static str> {
    if !text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"{}()[],:'\"<>|=_ \r\n\t\0".contains(byte)) {
        return Err("unexpected characters in the description of the array");
    }
    let opening = |byte: &u8| b"{([".contains(byte);
    if text.iter().filter(|byte| opening(byte)).count() != 2 {
        return Err(
            "expected a dictionary with one shape, found other brackets (structured types are not read)",
        );
    }
    let inner = text.iter().rposition(opening).unwrap_or(0) + 1;
    let shape = text[inner..].split(|byte| b")]}".contains(byte)).next().unwrap_or_default();
    if !shape.iter().all(|byte| byte.is_ascii_digit() || b", ".contains(byte)) {
        return Err("expected a shape of decimal numbers");
    }
    if shape.iter().filter(|byte| byte.is_ascii_digit()).count() > 19 {
        return Err("the shape has more digits than any array can");
    }
    Ok(())
}
