//! What a file may expand to: bounds that are checked before the parquet crate allocates.
//!
//! A page of a few bytes can claim gigabytes: compressed, as runs of one value, or as a long word that every row
//! repeats. And the parquet crate descends into a schema recursively. So the schema is measured first, the head of
//! every wanted page is charged to a budget before the page is read, and text is charged as it is copied.

use std::cell::Cell;
use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;

use super::compact::{Compact, Malformed};
use super::format::{
    DATA_PAGE_HEADER, DATA_PAGE_HEADER_V2, DICTIONARY_PAGE_HEADER, FILE_META_DATA, PAGE_HEADER,
    SCHEMA_ELEMENT, Structure, Type,
};
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
/// Bytes that count for a page, however empty it is, as many columns can have the same pages.
const PAGE_BYTES: u64 = 16 << 10;
/// Bytes that count for a name in the path of a column, in addition to its text.
const NAME_BYTES: usize = 1 << 10;

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

    /// Checks that the parquet crate can read the footer of `file`: that every field is of its type, and that the
    /// schema is not deeper than the crate can descend. Charges the paths of the columns, which the crate copies for
    /// each column. A footer that is not in the file is left to the crate.
    ///
    /// # Errors
    /// [`DatasetError::Parquet`], [`DatasetError::DeepSchema`] or [`DatasetError::Expands`].
    pub(super) fn charge_footer(&self, file: &[u8]) -> Result<(), DatasetError> {
        let footer = file.len().checked_sub(8).and_then(|end| {
            let length = u32::from_le_bytes(file[end..].first_chunk().copied()?) as usize;
            Some((&file[..end], end.checked_sub(length)?))
        });
        let Some((bytes, start)) = footer else { return Ok(()) };
        let schema = Schema::read(bytes, start).map_err(|malformed| DatasetError::Parquet {
            path: self.path.to_owned(),
            source: ParquetError::General(malformed.to_string()),
        })?;
        if schema.depth > MAX_SCHEMA_DEPTH {
            return Err(DatasetError::DeepSchema { path: self.path.to_owned(), most: MAX_SCHEMA_DEPTH });
        }
        self.charge(schema.path_bytes)
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
        let is_object =
            leaf.empty_list.is_some() && matches!(leaf.element, Element::Text | Element::Uuid | Element::F16);
        let value_bytes = if is_object { OBJECT_BYTES } else { VALUE_BYTES };
        let mut at = start as usize;
        while at < end {
            let head = PageHead::read(&file[..end], at).map_err(|malformed| DatasetError::Corrupt {
                path: self.path.to_owned(),
                reason: malformed.to_string(),
            })?;
            let values = value_bytes.saturating_mul(head.values as u64);
            self.charge(values.saturating_add(head.uncompressed as u64).saturating_add(PAGE_BYTES))?;
            at = head.end.saturating_add(head.compressed);
        }
        Ok(())
    }
}

/// The sizes in a page header.
#[derive(Debug, PartialEq, Eq)]
struct PageHead {
    /// The byte behind the header.
    end: usize,
    uncompressed: usize,
    compressed: usize,
    values: usize,
}

impl PageHead {
    /// Reads the header at byte `at`. It must have the header for the type of the page: without, the parquet crate
    /// reads the contents of the page as the next header.
    fn read(bytes: &[u8], at: usize) -> Result<Self, Malformed> {
        let (mut page, mut uncompressed, mut compressed) = (None, None, None);
        let (mut data, mut dictionary, mut data_v2) = (None, None, None);
        let end = Compact::read(bytes, at, &PAGE_HEADER, |head, id, of| {
            match id {
                1 => page = Some(size(head)?),
                2 => uncompressed = Some(size(head)?),
                3 => compressed = Some(size(head)?),
                5 => data = values(head, &DATA_PAGE_HEADER)?,
                7 => dictionary = values(head, &DICTIONARY_PAGE_HEADER)?,
                8 => data_v2 = values(head, &DATA_PAGE_HEADER_V2)?,
                _ => head.pass(of)?,
            }
            Ok(())
        })?;
        let values = match page {
            Some(0) => data,
            Some(2) => dictionary,
            Some(3) => data_v2,
            _ => None,
        };
        let head =
            (|| Some(Self { end, uncompressed: uncompressed?, compressed: compressed?, values: values? }))();
        head.ok_or_else(|| {
            let expected = "the type, the sizes and the number of values of a data page or dictionary page";
            Malformed::new(PAGE_HEADER.name.to_owned(), at, expected, "a header without")
        })
    }
}

/// Reads an integer of 32 bits that is not negative. Of a longer one, the parquet crate takes the lower half.
fn size(head: &mut Compact<'_>) -> Result<usize, Malformed> {
    head.size(i32::MAX as usize)
}

/// Reads the header for one type of page. Returns its first field, the number of values.
fn values(head: &mut Compact<'_>, of: &'static Structure) -> Result<Option<usize>, Malformed> {
    let mut values = None;
    head.fields(of, |head, id, of| {
        match id {
            1 => values = Some(size(head)?),
            _ => head.pass(of)?,
        }
        Ok(())
    })?;
    Ok(values)
}

/// The size of a schema. Its elements are in depth-first order, each with the number of its children.
#[derive(Debug, Default, PartialEq, Eq)]
struct Schema {
    depth: usize,
    /// Bytes of the paths of all columns from the root.
    path_bytes: u64,
    /// Of each element that the current one is in: the number of its children to come, and the bytes of its path.
    open: Vec<(usize, u64)>,
    /// The sum of the children to come.
    children: usize,
}

impl Schema {
    /// Reads the footer that begins at byte `at`.
    fn read(bytes: &[u8], at: usize) -> Result<Self, Malformed> {
        let mut schema = Self::default();
        Compact::read(bytes, at, &FILE_META_DATA, |footer, id, of| {
            let (2, Type::List(element)) = (id, of) else { return footer.pass(of) };
            let elements = footer.list(element)?;
            (0..elements).rev().try_for_each(|left| schema.element(footer, left))
        })?;
        Ok(schema)
    }

    /// Reads an element that `left` elements follow. The parquet crate reserves memory for the children that it
    /// announces.
    fn element(&mut self, footer: &mut Compact<'_>, left: usize) -> Result<(), Malformed> {
        while self.open.pop_if(|(children, _)| *children == 0).is_some() {}
        let outer = match self.open.last_mut() {
            Some((children, path_bytes)) => {
                *children -= 1;
                self.children -= 1;
                Some(*path_bytes)
            }
            None => None,
        };
        let (mut name, mut children) = (0, 0);
        let most = left.saturating_sub(self.children);
        footer.fields(&SCHEMA_ELEMENT, |element, id, of| {
            match id {
                4 => name = element.text()?,
                5 => children = element.size(most)?,
                _ => element.pass(of)?,
            }
            Ok(())
        })?;
        // The name of the root is in no path.
        let path_bytes = outer.map_or(0, |outer| outer + (NAME_BYTES + name) as u64);
        if children == 0 {
            self.path_bytes = self.path_bytes.saturating_add(path_bytes);
        }
        self.children += children;
        self.open.push((children, path_bytes));
        self.depth = self.depth.max(self.open.len());
        Ok(())
    }
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
        let head = PageHead::read(&[&[0xff; 3], &HEAD[..], &[0xff; 7]].concat(), 3);
        assert_eq!(head, Ok(PageHead { end: 25, uncompressed: 7, compressed: 7, values: 8 }));
    }

    #[test]
    fn fields_of_other_kinds_than_theirs_are_refused() {
        for at in FIELDS {
            for kind in (0..16).filter(|kind| *kind != HEAD[at] & 15) {
                let mut bytes = [&HEAD[..], &[0; 64]].concat();
                bytes[at] = HEAD[at] & 0xf0 | kind;
                assert!(PageHead::read(&bytes, 0).is_err(), "kind {kind} at byte {at}");
            }
        }
    }

    #[test]
    fn integers_beyond_32_bits_are_refused() {
        // 7 and 2^32 more, of which the parquet crate takes the 7.
        for at in [1, 3, 5, 8] {
            let bytes = [&HEAD[..at], &[0x8e, 0x80, 0x80, 0x80, 0x20], &HEAD[at + 1..]].concat();
            let error = PageHead::read(&bytes, 0).unwrap_err().to_string();
            let text = format!("expected an integer from 0 to 2147483647 at byte {at}, found 4294967303");
            assert!(error.ends_with(&text), "{error}");
        }
    }

    #[test]
    fn pages_without_the_head_of_their_type_are_refused() {
        for page in (0..8).filter(|page| *page != 3) {
            let mut bytes = HEAD;
            bytes[1] = 2 * page;
            let error = PageHead::read(&bytes, 0).unwrap_err().to_string();
            let text = "PageHeader: expected the type, the sizes and the number of values of a data page or \
                        dictionary page at byte 0, found a header without";
            assert_eq!(error, text, "type {page}");
        }
    }

    /// Of several headers, the one for the type of the page counts.
    #[test]
    fn the_number_of_values_is_that_of_the_type_of_the_page() {
        // Field 7, a dictionary of one value, before field 8.
        let dictionary = [0x4c, 0x15, 2, 0x15, 0, 0];
        let data = [&[0x1c], &HEAD[7..]].concat();
        let head = PageHead::read(&[&HEAD[..6], &dictionary, &data].concat(), 0);
        assert_eq!(head.map(|head| head.values), Ok(8));
    }

    /// A footer with a schema of these elements: names, and numbers of children.
    fn footer(elements: &[(&str, u8)]) -> Vec<u8> {
        let mut bytes = vec![0x29, 0x0c | (elements.len() as u8) << 4];
        for (name, children) in elements {
            bytes.extend([0x48, name.len() as u8]);
            bytes.extend(name.as_bytes());
            bytes.extend([0x15, 2 * children, 0]);
        }
        [&bytes[..], &[0]].concat()
    }

    #[test]
    fn the_depth_of_a_schema_and_the_paths_of_its_columns_are_measured() {
        // Paths: a.bb, a.ccc.d, e.
        let elements = [("root", 2), ("a", 2), ("bb", 0), ("ccc", 1), ("d", 0), ("e", 0)];
        let schema = Schema::read(&footer(&elements), 0).unwrap();
        assert_eq!((schema.depth, schema.path_bytes), (4, 6 * NAME_BYTES as u64 + 3 + 5 + 1));
        assert_eq!(
            Schema::read(&footer(&[("root", 0)]), 0).map(|schema| (schema.depth, schema.path_bytes)),
            Ok((1, 0))
        );
    }

    #[test]
    fn schemas_that_announce_more_children_than_follow_are_refused() {
        for (elements, most, found) in [
            (&[("root", 1)][..], 0, 1),
            (&[("root", 3), ("a", 0), ("b", 0)], 2, 3),
            (&[("root", 2), ("a", 1), ("b", 0)], 0, 1),
            (&[("root", 1), ("a", 2), ("b", 0)], 1, 2),
        ] {
            let error = Schema::read(&footer(elements), 0).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!(
                    "SchemaElement.num_children: expected an integer from 0 to {most} at"
                )),
                "{error}"
            );
            assert!(error.ends_with(&format!("found {found}")), "{error}");
        }
    }
}
