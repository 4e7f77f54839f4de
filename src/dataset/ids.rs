//! One id per row, from `.npy` or from lines of text.
//!
//! What flows in: a path. What flows out: [`VideoId`]s in row order. Uniqueness is a separate check, made once the ids
//! of a catalog are known.

use std::path::Path;

use rayon::prelude::*;

use super::error::DatasetError;
use super::limits::{check_rows, extension, map_file};
use super::npy::{self, Scalar};
use crate::base::id::VideoId;

/// Reads ids from `.npy` (`<u8` or `<i8`, one axis) or `.txt` (one decimal number per line).
///
/// # Errors
/// [`DatasetError`]; for a signed id below 0 and a line that is not a number, with its row or line.
pub fn read_ids(path: &Path) -> Result<Vec<VideoId>, DatasetError> {
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
pub fn read_id_list(path: &Path) -> Result<Vec<VideoId>, DatasetError> {
    match read_ids(path) {
        Err(DatasetError::NoRows { .. }) => Ok(Vec::new()),
        Err(DatasetError::EmptyFile { .. }) if extension(path).is_ok_and(|found| found == "txt") => {
            Ok(Vec::new())
        }
        read => read,
    }
}

/// Checks that no id occurs twice. `path`: the file of the ids, for the error.
pub(super) fn check_unique(path: &Path, ids: &[VideoId]) -> Result<(), DatasetError> {
    let mut sorted: Vec<(VideoId, u32)> = ids.iter().copied().zip(0u32..).collect();
    sorted.par_sort_unstable();
    let twice = sorted.windows(2).filter(|pair| pair[0].0 == pair[1].0);
    // Report the duplicate that comes first in the file.
    match twice.min_by_key(|pair| pair[1].1) {
        None => Ok(()),
        Some(pair) => Err(DatasetError::DuplicateId {
            path: path.to_owned(),
            id: pair[0].0,
            first: pair[0].1 as usize,
            second: pair[1].1 as usize,
        }),
    }
}

fn parse_npy(path: &Path, bytes: &[u8]) -> Result<Vec<VideoId>, DatasetError> {
    let layout = npy::read_layout(path, bytes, 1, &[Scalar::U64, Scalar::I64], "'<u8' or '<i8'")?;
    if layout.shape[0] == 0 {
        // Checked first, so that `NoRows` is returned only for a file without data.
        layout.check_size(path, 0, bytes.len())?;
    }
    layout.check_size(path, check_rows(path, layout.shape[0])?, bytes.len())?;
    let numbers = &bytes[layout.offset..];
    if layout.scalar == Scalar::U64 {
        return Ok(npy::numbers::<u64>(numbers).iter().map(|&id| VideoId(id)).collect());
    }
    let id = |(row, &found): (usize, &i64)| {
        let negative = |_| DatasetError::NegativeId { path: path.to_owned(), row, found };
        u64::try_from(found).map(VideoId).map_err(negative)
    };
    npy::numbers::<i64>(numbers).iter().enumerate().map(id).collect()
}

fn parse_text(path: &Path, bytes: &[u8]) -> Result<Vec<VideoId>, DatasetError> {
    let lines = bytes.trim_ascii_end();
    if lines.is_empty() {
        return Err(DatasetError::NoRows { path: path.to_owned() });
    }
    let ids: Result<Vec<_>, _> = lines
        .split(|byte| *byte == b'\n')
        .zip(1..)
        .map(|(text, line)| parse_line(path, line, text))
        .collect();
    let ids = ids?;
    check_rows(path, ids.len() as u64)?;
    Ok(ids)
}

/// `line` counts from 1.
fn parse_line(path: &Path, line: usize, text: &[u8]) -> Result<VideoId, DatasetError> {
    /// Bytes of an invalid line that the message shows.
    const SHOWN: usize = 40;

    let text = text.trim_ascii();
    let digits = text.iter().all(u8::is_ascii_digit).then(|| std::str::from_utf8(text).ok()).flatten();
    digits.and_then(|digits| digits.parse().ok()).map(VideoId).ok_or_else(|| DatasetError::BadIdLine {
        path: path.to_owned(),
        line,
        found: String::from_utf8_lossy(&text[..text.len().min(SHOWN)]).into_owned(),
    })
}
