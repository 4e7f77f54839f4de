//! What a file may expand to: bounds that are checked before the parquet crate allocates.
//!
//! A page of a few bytes can claim gigabytes: compressed, as runs of one value, or as a long word that every row repeats. And
//! the parquet crate descends into a schema recursively. So the schema is measured first, the head of every wanted page is
//! charged to a budget before the page is read, and text is charged as it is copied.

use std::cell::Cell;
use std::path::Path;

use parquet::file::metadata::ColumnChunkMetaData;

use super::compact::{Compact, LIST, STRUCT};
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
    /// [`DatasetError::Expands`], or [`DatasetError::Corrupt`] for the head of a page that cannot be read.
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
                let reason = format!("expected the head of a page at byte {at}, found other bytes");
                return Err(DatasetError::Corrupt { path: self.path.to_owned(), reason });
            };
            self.charge(head.uncompressed.saturating_add(value_bytes.saturating_mul(head.values)))?;
            at = at.saturating_add(head.length).saturating_add(head.compressed as usize);
        }
        Ok(())
    }
}

/// The sizes in the head of a page.
struct PageHead {
    /// Bytes of the head.
    length: usize,
    uncompressed: u64,
    compressed: u64,
    values: u64,
}

impl PageHead {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut head = Compact::new(bytes);
        let (mut uncompressed, mut compressed, mut values) = (0, 0, 0);
        let size = |head: &mut Compact<'_>| u64::try_from(head.int()?).ok();
        head.fields(|head, id, kind| {
            match (id, kind) {
                (2, 5) => uncompressed = size(head)?,
                (3, 5) => compressed = size(head)?,
                // The heads of a data page, a dictionary, and a data page of version 2.
                (5 | 7 | 8, STRUCT) => head.fields(|head, id, kind| match (id, kind) {
                    (1, 5) => {
                        values = size(head)?;
                        Some(())
                    }
                    _ => head.skip(kind),
                })?,
                _ => head.skip(kind)?,
            }
            Some(())
        })?;
        Some(Self { length: head.position(), uncompressed, compressed, values })
    }
}

/// Checks that the schema in the footer of a file is not deeper than the parquet crate can descend. Malformed bytes are left
/// to the crate, which reads no further.
///
/// # Errors
/// [`DatasetError::DeepSchema`].
pub(super) fn check_schema_depth(path: &Path, file: &[u8]) -> Result<(), DatasetError> {
    let depth = file.len().checked_sub(8).and_then(|end| {
        let length = u32::from_le_bytes(file[end..].first_chunk().copied()?) as usize;
        schema_depth(&file[end.checked_sub(length)?..end])
    });
    match depth {
        Some(depth) if depth > MAX_SCHEMA_DEPTH => {
            Err(DatasetError::DeepSchema { path: path.to_owned(), most: MAX_SCHEMA_DEPTH })
        }
        _ => Ok(()),
    }
}

/// Returns the depth of the schema, or a depth above [`MAX_SCHEMA_DEPTH`] once it is known to be deeper; `None` without a
/// schema. The elements are in depth-first order, each with the number of its children.
fn schema_depth(footer: &[u8]) -> Option<usize> {
    let mut deepest = None;
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
            deepest = deepest.max(Some(open.len()));
            if open.len() > MAX_SCHEMA_DEPTH {
                return None;
            }
        }
        Some(())
    });
    read.and(deepest).or(deepest.filter(|depth| *depth > MAX_SCHEMA_DEPTH))
}
