//! What a file may expand to: bounds that are checked before the parquet crate allocates.
//!
//! A page of a few bytes can claim gigabytes: compressed, as runs of one value, or as a long word that every row repeats. And
//! the parquet crate descends into a schema recursively. So the schema is measured first, the head of every wanted page is
//! charged to a budget before the page is read, and text is charged as it is copied.

use std::cell::Cell;
use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;

use super::compact::{Compact, FALSE, I32, LIST, STRUCT, TRUE};
use super::schema::{Element, Leaf};
use crate::dataset::error::DatasetError;

/// Deeper columns than lists in structs in maps are none that an index stores.
const MAX_SCHEMA_DEPTH: usize = 64;
/// Bytes that the columns of a file of any length may decode to,
const BASE_BYTES: u64 = 512 << 20;
/// and more for each byte of the file. Catalogs expand less than a tenth of that.
const BYTES_PER_BYTE: u64 = 1000;
/// Bytes that a value takes while it is decoded, with its levels,
const VALUE_BYTES: u64 = 8;
/// and one of a type that is decoded into objects, in a list, which is decoded as a whole.
const OBJECT_BYTES: u64 = 40;

/// How much a file may still expand.
pub(super) struct Expansion<'a> {
    path: &'a Path,
    most: u64,
    left: Cell<u64>,
}

impl<'a> Expansion<'a> {
    /// The budget of a file of `bytes` bytes.
    pub(super) fn new(path: &'a Path, bytes: usize) -> Self {
        let most = BASE_BYTES.saturating_add(BYTES_PER_BYTE.saturating_mul(bytes as u64));
        Self { path, most, left: Cell::new(most) }
    }

    /// Takes bytes from the budget.
    ///
    /// # Errors
    /// [`DatasetError::Expands`] if fewer are left.
    pub(super) fn charge(&self, bytes: u64) -> Result<(), DatasetError> {
        let left = self.left.get().checked_sub(bytes);
        self.left
            .set(left.ok_or_else(|| DatasetError::Expands { path: self.path.to_owned(), most: self.most })?);
        Ok(())
    }

    /// Charges the pages of one column of one row group of `file`.
    ///
    /// # Errors
    /// [`DatasetError::Expands`], or [`DatasetError::Corrupt`] for a page header that cannot be read.
    pub(super) fn charge_pages(
        &self,
        file: &[u8],
        chunk: &ColumnChunkMetaData,
        leaf: &Leaf,
    ) -> Result<(), DatasetError> {
        let (start, length) = chunk.byte_range();
        let end = start.saturating_add(length).min(file.len() as u64) as usize;
        let is_object = leaf.empty_list.is_some() && matches!(leaf.element, Element::Text | Element::F16);
        let value_bytes = if is_object { OBJECT_BYTES } else { VALUE_BYTES };
        let mut at = start as usize;
        while let Some(bytes) = file.get(at..end).filter(|bytes| !bytes.is_empty()) {
            let Some(head) = PageHead::read(bytes) else {
                let reason = format!(
                    "expected the header of a data page or dictionary page at byte {at}, found other bytes"
                );
                return Err(DatasetError::Corrupt { path: self.path.to_owned(), reason });
            };
            self.charge(head.uncompressed.saturating_add(value_bytes.saturating_mul(head.values)))?;
            at = at.saturating_add(head.length).saturating_add(head.compressed as usize);
        }
        Ok(())
    }
}

/// The sizes in a page header.
struct PageHead {
    /// Bytes of the head.
    length: usize,
    uncompressed: u64,
    compressed: u64,
    values: u64,
}

/// The types of the fields of a data page header, a dictionary page header and a data page header of version 2, from id 1 on.
const DATA: &[u8] = &[I32, I32, I32, I32, STRUCT];
const DICTIONARY: &[u8] = &[I32, I32, TRUE];
const DATA_V2: &[u8] = &[I32, I32, I32, I32, I32, I32, TRUE, STRUCT];

impl PageHead {
    /// Reads a header as the parquet crate does, or refuses it. The crate ignores the types that the file gives to the fields
    /// it knows, and reads the lower half of a long integer. If the header for the type of the page is missing, it reads the
    /// contents of the page as the next header.
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut head = Compact::new(bytes);
        let (mut page, mut uncompressed, mut compressed) = (None, None, None);
        let (mut data, mut dictionary, mut data_v2) = (None, None, None);
        head.fields(|head, id, kind| {
            match (id, kind) {
                (1, I32) => page = Some(size(head)?),
                (2, I32) => uncompressed = Some(size(head)?),
                (3, I32) => compressed = Some(size(head)?),
                (5, STRUCT) => data = Some(values(head, DATA)?),
                (7, STRUCT) => dictionary = Some(values(head, DICTIONARY)?),
                (8, STRUCT) => data_v2 = Some(values(head, DATA_V2)?),
                // The checksum, and the header of an index page.
                (4, I32) | (6, STRUCT) => head.skip(kind)?,
                (1..=8, _) => return None,
                _ => head.skip(kind)?,
            }
            Some(())
        })?;
        let values = match page? {
            0 => data?,
            2 => dictionary?,
            3 => data_v2?,
            _ => return None,
        };
        Some(Self { length: head.position(), uncompressed: uncompressed?, compressed: compressed?, values })
    }
}

/// Reads an integer of 32 bits that is not negative.
fn size(head: &mut Compact<'_>) -> Option<u64> {
    let size = i32::try_from(head.int()?).ok()?;
    u64::try_from(size).ok()
}

/// Reads the header for one type of page, with fields of `kinds` from id 1 on. Returns the first, the number of values.
fn values(head: &mut Compact<'_>, kinds: &[u8]) -> Option<u64> {
    let mut values = None;
    head.fields(|head, id, kind| {
        let expected = usize::try_from(id).ok()?.checked_sub(1).and_then(|at| kinds.get(at));
        let found = if kind == FALSE { TRUE } else { kind };
        match expected {
            Some(expected) if *expected != found => None,
            Some(_) if id == 1 => {
                values = Some(size(head)?);
                Some(())
            }
            _ => head.skip(kind),
        }
    })?;
    values
}

/// Checks that the parquet crate can read the footer of a file: that its schema is not deeper than the crate can descend, and
/// that what the crate passes over takes no longer than its bytes. A footer that is not in the file is left to the crate.
///
/// # Errors
/// [`DatasetError::DeepSchema`], or [`DatasetError::Parquet`] for other bytes than fields.
pub(super) fn check_footer(path: &Path, file: &[u8]) -> Result<(), DatasetError> {
    let footer = file.len().checked_sub(8).and_then(|end| {
        let length = u32::from_le_bytes(file[end..].first_chunk().copied()?) as usize;
        Some(&file[end.checked_sub(length)?..end])
    });
    match footer.map(schema_depth) {
        Some(Some(depth)) if depth > MAX_SCHEMA_DEPTH => {
            Err(DatasetError::DeepSchema { path: path.to_owned(), most: MAX_SCHEMA_DEPTH })
        }
        Some(None) => {
            let problem = "expected metadata in the footer, found other bytes".to_owned();
            Err(DatasetError::Parquet { path: path.to_owned(), source: ParquetError::General(problem) })
        }
        _ => Ok(()),
    }
}

/// Returns the depth of the schema, or a depth above [`MAX_SCHEMA_DEPTH`] once it is known to be deeper; `None` for a footer
/// that cannot be read. The elements are in depth-first order, each with the number of its children.
fn schema_depth(footer: &[u8]) -> Option<usize> {
    let mut deepest = 0;
    // Children to come, of each element that the current one is in.
    let mut open: Vec<i64> = Vec::new();
    let read = Compact::new(footer).fields(|footer, id, kind| {
        if (id, kind) != (2, LIST) {
            return footer.skip(kind);
        }
        let (elements, _) = footer.list()?;
        for _ in 0..elements {
            let mut children = 0;
            footer.fields(|element, id, kind| match (id, kind) {
                (5, 5) => {
                    children = element.int()?;
                    Some(())
                }
                _ => element.skip(kind),
            })?;
            while open.pop_if(|left| *left <= 0).is_some() {}
            if let Some(left) = open.last_mut() {
                *left -= 1;
            }
            open.push(children);
            deepest = deepest.max(open.len());
            if open.len() > MAX_SCHEMA_DEPTH {
                return None;
            }
        }
        Some(())
    });
    (read.is_some() || deepest > MAX_SCHEMA_DEPTH).then_some(deepest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A data page of version 2 of 7 bytes and 8 values: its type, two sizes, and its own header of 7 fields.
    const HEAD: [u8; 22] = [
        0x15, 6, 0x15, 14, 0x15, 14, 0x5c, 0x15, 16, 0x15, 0, 0x15, 8, 0x15, 0, 0x15, 4, 0x15, 4, 0x12, 0, 0,
    ];
    /// Where its fields begin, but for the boolean.
    const FIELDS: [usize; 10] = [0, 2, 4, 6, 7, 9, 11, 13, 15, 17];

    #[test]
    fn the_head_of_a_page_is_read() {
        let head = PageHead::read(&[&HEAD[..], &[0xff; 7]].concat()).unwrap();
        assert_eq!((head.length, head.uncompressed, head.compressed, head.values), (22, 7, 7, 8));
    }

    #[test]
    fn fields_of_other_kinds_than_theirs_are_refused() {
        for at in FIELDS {
            for kind in (0..16).filter(|kind| *kind != HEAD[at] & 15) {
                let mut bytes = [&HEAD[..], &[0; 64]].concat();
                bytes[at] = HEAD[at] & 0xf0 | kind;
                assert!(PageHead::read(&bytes).is_none(), "kind {kind} at byte {at}");
            }
        }
    }

    #[test]
    fn integers_beyond_32_bits_are_refused() {
        // 7 and 2^32 more, of which the parquet crate takes the 7.
        for at in [1, 3, 5, 8] {
            let bytes = [&HEAD[..at], &[0x8e, 0x80, 0x80, 0x80, 0x20], &HEAD[at + 1..]].concat();
            assert!(PageHead::read(&bytes).is_none(), "at byte {at}");
        }
    }

    #[test]
    fn pages_without_the_head_of_their_type_are_refused() {
        for page in (0..8).filter(|page| *page != 3) {
            let mut bytes = HEAD;
            bytes[1] = 2 * page;
            assert!(PageHead::read(&bytes).is_none(), "type {page}");
        }
    }

    /// Of several headers, the one for the type of the page counts.
    #[test]
    fn the_number_of_values_is_that_of_the_type_of_the_page() {
        // Field 7, a dictionary of one value, after field 8.
        let dictionary = [0x0c, 14, 0x15, 2, 0x15, 0, 0, 0];
        let head = PageHead::read(&[&HEAD[..21], &dictionary].concat()).unwrap();
        assert_eq!(head.values, 8);
    }
}
