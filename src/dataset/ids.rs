//! Ids: one per row, numbers or text, from `.npy` or from lines of text.
//!
//! What flows in: a path. What flows out: [`Ids`] in row order. Uniqueness is a separate check, made once the ids of a
//! catalog are known.

use std::path::Path;

use rayon::prelude::*;

use super::array::Array;
use super::column::Keywords;
use super::error::DatasetError;
use super::limits::{check_rows, extension, map_file};
use super::npy::{self, Item};
use super::places::Places;
use super::scalar::Scalar;
use crate::base::id::VideoId;

/// The most bytes of an id that is text.
pub const MAX_TEXT_ID: usize = 1_024;

/// The ids of the rows of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ids {
    /// Numbers.
    Numbers(Vec<VideoId>),
    /// Text, none of it null: the id is [`VideoId::of_text`].
    Text(Keywords),
}

impl Ids {
    /// The number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Numbers(ids) => ids.len(),
            Self::Text(ids) => ids.len(),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers, in row order.
    ///
    /// # Errors
    /// [`DatasetError::TextIds`] for text. `path`: of the file.
    pub fn into_numbers(self, path: &Path) -> Result<Vec<VideoId>, DatasetError> {
        match self {
            Self::Numbers(ids) => Ok(ids),
            Self::Text(_) => Err(DatasetError::TextIds { path: path.to_owned() }),
        }
    }
}

/// The ids of text without nulls.
pub(super) fn hashes(texts: &Keywords) -> Vec<VideoId> {
    texts.iter().flatten().map(VideoId::of_text).collect()
}

/// Reads ids from `.npy` (integers of 4 or 8 bytes, or text; one axis) or `.txt` (one per line).
///
/// The first line of a text file tells whether its ids are decimal numbers below 2^64 or text: whether it has only
/// digits, and maybe a sign.
///
/// # Errors
/// [`DatasetError`]; for an id below 0, and a line that is not a number where the first one is, with its row or line.
pub fn read_ids(path: &Path) -> Result<Ids, DatasetError> {
    let read = match extension(path)?.as_str() {
        "npy" => parse_npy,
        "txt" => parse_text,
        other => {
            let (found, accepted) = (other.to_owned(), ".npy or .txt");
            return Err(DatasetError::UnknownExtension { path: path.to_owned(), found, accepted });
        }
    };
    let file = map_file(path)?;
    read(path, file.bytes())
}

/// Reads a list of ids, as [`read_ids`] reads those of a catalog, that may also be empty: an array of no rows, or text
/// of no lines.
///
/// # Errors
/// As [`read_ids`]. An empty file is text of no lines, but not a valid `.npy` file.
pub fn read_id_list(path: &Path) -> Result<Ids, DatasetError> {
    let none = Ids::Numbers(Vec::new());
    match read_ids(path) {
        Err(DatasetError::NoRows { .. }) => Ok(none),
        Err(DatasetError::EmptyFile { .. }) if extension(path).is_ok_and(|found| found == "txt") => Ok(none),
        read => read,
    }
}

/// The rows of the first id that occurs twice: that of the earliest second occurrence.
fn first_duplicate(ids: &[VideoId]) -> Option<(usize, usize)> {
    let mut sorted: Vec<(VideoId, u32)> = ids.iter().copied().zip(0u32..).collect();
    sorted.par_sort_unstable();
    let twice = sorted.windows(2).filter(|pair| pair[0].0 == pair[1].0);
    let pair = twice.min_by_key(|pair| pair[1].1)?;
    Some((pair[0].1 as usize, pair[1].1 as usize))
}

/// Checks that no id occurs twice. `places`: the files of the ids, for the error. `texts`: the ids as text, if they are.
///
/// # Errors
/// For the first id that does; [`DatasetError::TextIdCollision`] if it is that of two texts.
pub(super) fn check_unique(
    places: &Places,
    ids: &[VideoId],
    texts: Option<&Keywords>,
) -> Result<(), DatasetError> {
    let Some((first, second)) = first_duplicate(ids) else { return Ok(()) };
    let id = ids[second];
    let text = |row| texts.and_then(|texts| texts.get(row));
    let texts = text(first).zip(text(second)).filter(|(first, second)| first != second);
    let ((other, first), (path, row)) = (places.of_row(first), places.of_row(second));
    Err(match texts {
        Some((other, text)) => {
            let (text, other) = (text.to_owned(), other.to_owned());
            DatasetError::TextIdCollision { path, row, text, other }
        }
        None if path == other => DatasetError::DuplicateId { path, id, first, second: row },
        None => DatasetError::DuplicateIdOfFiles { path, row, id, other, first },
    })
}

/// Appends an id that is text. `row`: of the file, from 0.
///
/// # Errors
/// If it is empty or longer than [`MAX_TEXT_ID`].
pub(super) fn push_text(path: &Path, row: usize, text: &str, ids: &mut Keywords) -> Result<(), DatasetError> {
    if text.is_empty() || text.len() > MAX_TEXT_ID {
        let (most, found) = (MAX_TEXT_ID, text.len());
        return Err(DatasetError::TextIdLength { path: path.to_owned(), row, most, found });
    }
    ids.push(Some(text));
    Ok(())
}

fn parse_npy(path: &Path, bytes: &[u8]) -> Result<Ids, DatasetError> {
    let accepted = |item| match item {
        Item::Number(scalar) => {
            matches!(scalar, Scalar::I32 | Scalar::U32 | Scalar::I64 | Scalar::U64)
        }
        Item::Unicode(_) | Item::Bytes(_) => true,
    };
    let expected = "integers of 4 or 8 bytes, or text ('<U…' or '|S…')";
    let layout = npy::read_layout(path, bytes, 1, accepted, expected)?;
    let Item::Number(scalar) = layout.item else {
        let rows = layout.check_rows(path, 1, bytes.len())?;
        return text_items(path, &bytes[layout.offset..], layout.item, layout.is_big_endian, rows);
    };
    let array = layout.array(path, scalar, bytes.len())?;
    (0..array.rows).map(|row| id_of(path, row, &array, bytes)).collect::<Result<_, _>>().map(Ids::Numbers)
}

fn id_of(path: &Path, row: usize, array: &Array, bytes: &[u8]) -> Result<VideoId, DatasetError> {
    let found = array.integer(bytes, row, 0);
    let negative = |_| DatasetError::NegativeId { path: path.to_owned(), row, found: found as i64 };
    u64::try_from(found).map(VideoId).map_err(negative)
}

fn text_items(
    path: &Path,
    bytes: &[u8],
    item: Item,
    is_big_endian: bool,
    rows: usize,
) -> Result<Ids, DatasetError> {
    let mut ids = Keywords::default();
    let mut text = String::new();
    for (row, item_bytes) in bytes.chunks_exact(item.bytes()).take(rows).enumerate() {
        text.clear();
        let not_text = || DatasetError::BadText { path: path.to_owned(), row };
        if let Item::Unicode(_) = item {
            let code = |code: &[u8; 4]| {
                if is_big_endian { u32::from_be_bytes(*code) } else { u32::from_le_bytes(*code) }
            };
            for code in item_bytes.as_chunks().0.iter().map(code) {
                text.push(char::from_u32(code).ok_or_else(not_text)?);
            }
        } else {
            text.push_str(std::str::from_utf8(item_bytes).map_err(|_| not_text())?);
        }
        push_text(path, row, text.trim_end_matches('\0'), &mut ids)?;
    }
    Ok(Ids::Text(ids))
}

fn parse_text(path: &Path, bytes: &[u8]) -> Result<Ids, DatasetError> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let lines = bytes.trim_ascii_end();
    if lines.is_empty() {
        return Err(DatasetError::NoRows { path: path.to_owned() });
    }
    let lines = || lines.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    check_rows(path, lines().count() as u64)?;
    if lines().next().is_some_and(is_numeric) {
        let ids = lines().zip(1..).map(|(text, line)| {
            number(text).map(VideoId).ok_or_else(|| DatasetError::BadIdLine {
                path: path.to_owned(),
                line,
                found: shown(text),
            })
        });
        return ids.collect::<Result<_, _>>().map(Ids::Numbers);
    }
    let mut ids = Keywords::default();
    for (row, line) in lines().enumerate() {
        let not_text = |_| DatasetError::BadText { path: path.to_owned(), row };
        push_text(path, row, std::str::from_utf8(line).map_err(not_text)?, &mut ids)?;
    }
    Ok(Ids::Text(ids))
}

/// Whether the text is meant to be a number.
fn is_numeric(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// A decimal number below 2^64.
fn number(text: &[u8]) -> Option<u64> {
    let digits = text.iter().all(u8::is_ascii_digit).then(|| std::str::from_utf8(text).ok()).flatten();
    digits.and_then(|digits| digits.parse().ok())
}

/// The beginning of a line, for messages.
fn shown(text: &[u8]) -> String {
    const SHOWN: usize = 40;
    String::from_utf8_lossy(&text[..text.len().min(SHOWN)]).into_owned()
}
