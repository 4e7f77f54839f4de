//! Opens one Parquet file and decodes the wanted columns of every row group.

use std::collections::BTreeSet;
use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::attributes::{ID, append_ids, append_values};
use super::embeddings::{EMBEDDING, EmbeddingColumn, Reserve};
use super::expansion::Expansion;
use super::records::Chunk;
use super::schema::{Element, Field, Leaf, empty_column, fields, is_embedding};
use super::table::{Columns, Table};
use crate::base::id::VideoId;
use crate::base::regular_file;
use crate::dataset::column::{AttributeColumn, ColumnValues};
use crate::dataset::error::DatasetError;
use crate::dataset::limits::{check_rows, map_file};

const MAGIC: &[u8; 4] = b"PAR1";
/// The most columns that are read: an index has room for the sections of that many lists of words.
const MAX_COLUMNS: usize = 8_000;

/// Decodes the wanted columns of the Parquet file at `path`.
///
/// The parquet crate asserts some of what a file claims (a negative column length, a missing dictionary), so a corrupt
/// file can panic inside it. Such a panic becomes [`DatasetError::Corrupt`]; no state that the decoding may have left
/// incomplete outlives it.
pub(in crate::dataset) fn read(path: &Path, columns: Columns) -> Result<Table, DatasetError> {
    std::panic::catch_unwind(|| decode(path, columns)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
        let reason = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let reason = reason.unwrap_or_else(|| "the Parquet decoder panicked".to_owned());
        Err(DatasetError::Corrupt { path: path.to_owned(), reason })
    })
}

fn decode(path: &Path, columns: Columns) -> Result<Table, DatasetError> {
    let mapped = map_file(path)?;
    let bytes = mapped.bytes();
    check_magic(path, bytes)?;
    let expansion = Expansion::new(path, bytes.len());
    expansion.charge_footer(bytes)?;
    let file = regular_file::open(path).map_err(DatasetError::io(path))?;
    let broken = |source: ParquetError| DatasetError::Parquet { path: path.to_owned(), source };
    let reader = SerializedFileReader::new(file).map_err(broken)?;
    let metadata = reader.metadata().file_metadata();
    let announced = check_rows(path, u64::try_from(metadata.num_rows()).unwrap_or(0))?;
    let fields = fields(metadata.schema_descr());
    check_names(path, &fields, columns)?;
    let is_wanted = |field: &&Field| match columns {
        Columns::Embedding => field.name == EMBEDDING,
        Columns::All => true,
        Columns::AllButEmbedding => field.name != EMBEDDING,
    };
    let found = fields.iter().filter(is_wanted).count();
    if found > MAX_COLUMNS {
        return Err(DatasetError::TooManyColumns { path: path.to_owned(), most: MAX_COLUMNS, found });
    }
    let wanted = fields.iter().filter(is_wanted);
    let reserve = Reserve { rows: announced, bytes: bytes.len().saturating_mul(2) };
    let mut columns = wanted.map(|field| Column::new(path, field, reserve)).collect::<Result<Vec<_>, _>>()?;

    let mut rows = 0;
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(broken)?;
        let found = u64::try_from(group.metadata().num_rows()).unwrap_or(u64::MAX);
        let total = match rows as u64 + found.min(u64::from(u32::MAX)) {
            0 => continue,
            total => check_rows(path, total)?,
        };
        for column in &mut columns {
            let is_unsupported =
                matches!(column.decoded, DecodedColumn::Attribute(ColumnValues::Unsupported { .. }));
            let Some(leaf) = column.field.leaf.filter(|_| !is_unsupported) else { continue };
            let name = &column.field.name;
            let chunk =
                Chunk { path, name, leaf, first_row: rows, rows: total - rows, expansion: &expansion };
            expansion.charge_pages(bytes, group.metadata().column(leaf.column), &leaf)?;
            let reader = group.get_column_reader(leaf.column).map_err(broken)?;
            match &mut column.decoded {
                DecodedColumn::Embeddings(embeddings) => embeddings.append(chunk, reader)?,
                DecodedColumn::Ids(ids) => append_ids(chunk, reader, ids)?,
                DecodedColumn::Attribute(values) => append_values(chunk, reader, values)?,
            }
        }
        rows = total;
    }
    check_rows(path, rows as u64)?;

    let mut table = Table { rows, embeddings: None, ids: None, attributes: Vec::new() };
    for column in columns {
        match column.decoded {
            DecodedColumn::Embeddings(embeddings) => table.embeddings = embeddings.finish(),
            DecodedColumn::Ids(ids) => table.ids = Some(ids),
            DecodedColumn::Attribute(mut values) => {
                // A column that is not decoded has rows all the same.
                if let ColumnValues::Unsupported { rows: found, .. } = &mut values {
                    *found = rows;
                }
                table.attributes.push(AttributeColumn { name: column.field.name.clone(), values });
            }
        }
    }
    Ok(table)
}

/// A wanted column.
struct Column<'a> {
    field: &'a Field,
    decoded: DecodedColumn,
}

/// The rows of a column that were decoded until now.
enum DecodedColumn {
    Embeddings(EmbeddingColumn),
    Ids(Vec<VideoId>),
    Attribute(ColumnValues),
}

impl<'a> Column<'a> {
    fn new(path: &Path, field: &'a Field, reserve: Reserve) -> Result<Self, DatasetError> {
        let unexpected = |name, expected| DatasetError::ColumnType {
            path: path.to_owned(),
            name,
            expected,
            found: field.text.clone(),
        };
        let decoded = match field.name.as_str() {
            EMBEDDING => {
                let leaf = field.leaf.filter(is_embedding);
                let column = leaf.and_then(|leaf| EmbeddingColumn::new(leaf.element, reserve));
                let expected = "lists of f32 or f16";
                DecodedColumn::Embeddings(column.ok_or_else(|| unexpected(EMBEDDING, expected))?)
            }
            ID => {
                let is_id = |leaf: &Leaf| {
                    let element = leaf.element;
                    leaf.empty_list.is_none()
                        && matches!(element, Element::Signed(64) | Element::Unsigned(64))
                };
                field.leaf.filter(is_id).ok_or_else(|| unexpected(ID, "u64 or i64"))?;
                DecodedColumn::Ids(Vec::new())
            }
            _ => {
                let values = field.leaf.as_ref().and_then(empty_column);
                let unsupported = || ColumnValues::Unsupported { found: field.text.clone(), rows: 0 };
                DecodedColumn::Attribute(values.unwrap_or_else(unsupported))
            }
        };
        Ok(Self { field, decoded })
    }
}

/// Checks that a file begins and ends as Parquet does.
fn check_magic(path: &Path, bytes: &[u8]) -> Result<(), DatasetError> {
    let ends = [&bytes[..bytes.len().min(4)], &bytes[bytes.len().saturating_sub(4)..]].concat();
    if ends == [*MAGIC, *MAGIC].concat() && bytes.len() >= 12 {
        return Ok(());
    }
    Err(DatasetError::WrongMagic {
        path: path.to_owned(),
        format: "Parquet",
        expected: r#"begin and end with "PAR1""#,
        found: format!("\"{}\"", ends.escape_ascii()),
    })
}

fn check_names(path: &Path, fields: &[Field], columns: Columns) -> Result<(), DatasetError> {
    let names: Vec<&String> = fields.iter().map(|field| &field.name).collect();
    // Names can be chosen to collide in a hash set without a seed.
    let mut seen = BTreeSet::new();
    if let Some(name) = names.iter().find(|name| !seen.insert(**name)) {
        let name = (*name).clone();
        return Err(DatasetError::DuplicateColumn { path: path.to_owned(), name, first: path.to_owned() });
    }
    if columns != Columns::AllButEmbedding && !names.iter().any(|name| *name == EMBEDDING) {
        let found = names.into_iter().cloned().collect();
        return Err(DatasetError::MissingColumn { path: path.to_owned(), name: EMBEDDING, found });
    }
    Ok(())
}
