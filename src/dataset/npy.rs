//! NumPy's `.npy`: the layout of the array that a file has.
//!
//! What flows in: mapped bytes. What flows out: where the items are, their type and the shape. Nothing here knows what
//! the items mean.

use std::path::Path;

use npyz::{DType, Endianness, NpyHeader, Order, TypeChar};

use super::array::Array;
use super::error::DatasetError;
use super::limits::{check_dim, check_rows, check_size};
use super::scalar::Scalar;

const MAGIC: &[u8] = b"\x93NUMPY";

/// Header text longer than this describes something other than one plain array; NumPy itself stops at 10,000.
const MAX_HEADER: usize = 8_192;

/// The most characters of an item of text.
const MAX_TEXT: u64 = 4_096;

/// The type of the items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Number(Scalar),
    /// Text of this many code points of 4 bytes, the last of which may be 0.
    Unicode(usize),
    /// Text of this many bytes, the last of which may be 0.
    Bytes(usize),
}

impl Item {
    /// Bytes of one item.
    pub(super) fn bytes(self) -> usize {
        match self {
            Item::Number(scalar) => scalar.bytes(),
            Item::Unicode(characters) => 4 * characters,
            Item::Bytes(bytes) => bytes,
        }
    }
}

/// The fields of the header, and where the items begin.
#[derive(Debug)]
pub(super) struct Layout {
    pub item: Item,
    pub is_big_endian: bool,
    is_fortran: bool,
    shape: Vec<u64>,
    /// The byte at which the items begin. Writers align it to 64, old ones to 16; a hostile file may not align it.
    pub offset: usize,
}

/// Reads the header of the `.npy` file `bytes`, of `axes` axes and a type that is `accepted`, which `expected` names in
/// errors. Does not check the number of bytes after it.
pub(super) fn read_layout(
    path: &Path,
    bytes: &[u8],
    axes: usize,
    accepted: impl Fn(Item) -> bool,
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
    let item = match (word.type_char(), word.size_field()) {
        (TypeChar::Float, 2) => Item::Number(Scalar::F16),
        (TypeChar::Float, 4) => Item::Number(Scalar::F32),
        (TypeChar::Float, 8) => Item::Number(Scalar::F64),
        (TypeChar::RawData, 2) => Item::Number(Scalar::Bf16),
        (TypeChar::Int, 1) => Item::Number(Scalar::I8),
        (TypeChar::Int, 4) => Item::Number(Scalar::I32),
        (TypeChar::Int, 8) => Item::Number(Scalar::I64),
        (TypeChar::Uint, 1) => Item::Number(Scalar::U8),
        (TypeChar::Uint, 4) => Item::Number(Scalar::U32),
        (TypeChar::Uint, 8) => Item::Number(Scalar::U64),
        (TypeChar::UnicodeStr, size @ 1..=MAX_TEXT) => Item::Unicode(size as usize),
        (TypeChar::ByteStr, size @ 1..=MAX_TEXT) => Item::Bytes(size as usize),
        _ => return Err(unsupported()),
    };
    if !accepted(item) {
        return Err(unsupported());
    }
    let shape = header.shape().to_vec();
    if shape.len() != axes {
        return Err(DatasetError::WrongShape { path: path.to_owned(), expected: axes, found: shape });
    }
    let is_big_endian = word.endianness() == Endianness::Big;
    Ok(Layout { item, is_big_endian, is_fortran: header.order() == Order::Fortran, shape, offset })
}

impl Layout {
    /// The number of rows, if the file of `found` bytes has exactly the items of that many rows of `dim` items.
    pub(super) fn check_rows(&self, path: &Path, dim: usize, found: usize) -> Result<usize, DatasetError> {
        let check = |rows: usize| {
            let items = rows as u64 * dim as u64;
            check_size(path, self.offset as u64 + items * self.item.bytes() as u64, found)
        };
        if self.shape[0] == 0 {
            // Checked first, so that `NoRows` is returned only for a file without data.
            check(0)?;
        }
        let rows = check_rows(path, self.shape[0])?;
        check(rows)?;
        Ok(rows)
    }

    /// An array of numbers of one axis, which is its rows, or of two. `found`: the bytes of the file.
    ///
    /// # Errors
    /// If the shape is none that an index holds, or the file does not end with the array.
    pub(super) fn array(&self, path: &Path, scalar: Scalar, found: usize) -> Result<Array, DatasetError> {
        let dim = self.shape.get(1).map_or(Ok(1), |dim| check_dim(path, *dim))?;
        let rows = self.check_rows(path, dim, found)?;
        let array =
            Array { is_big_endian: self.is_big_endian, ..Array::contiguous(scalar, rows, dim, self.offset) };
        let step = array.step;
        // Column by column.
        let is_transposed = self.is_fortran && self.shape.len() > 1;
        Ok(if is_transposed { Array { step: rows * step, stride: step, ..array } } else { array })
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
