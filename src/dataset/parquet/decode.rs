//! Opens one Parquet file and decodes the wanted columns of every row group.

use std::collections::BTreeSet;
use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::attributes::{append_ids, append_values, empty_ids};
use super::embeddings::{EmbeddingColumn, Reserve};
use super::expansion::Expansion;
use super::records::Chunk;
use super::schema::{Field, empty_column, fields, is_embedding, is_id};
use crate::base::regular_file;
use crate::dataset::column::{AttributeColumn, ColumnValues};
use crate::dataset::error::DatasetError;
use crate::dataset::ids::Ids;
use crate::dataset::limits::{MAX_COLUMNS, check_rows, map_file};
use crate::dataset::table::{ColumnNames, Role, Table, Wanted};

const MAGIC: &[u8; 4] = b"PAR1";

/// Decodes the wanted columns of the Parquet file at `path`.
///
/// The parquet crate asserts some of what a file claims (a negative column length, a missing dictionary), so a corrupt
/// file can panic inside it. Such a panic becomes [`DatasetError::Corrupt`]; no state that the decoding may have left
/// incomplete outlives it.
pub(in crate::dataset) fn read(
    path: &Path,
    wanted: Wanted,
    names: &ColumnNames,
) -> Result<Table, DatasetError> {
    std::panic::catch_unwind(|| decode(path, wanted, names)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
        let reason = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let reason = reason.unwrap_or_else(|| "the Parquet decoder panicked".to_owned());
        Err(DatasetError::Corrupt { path: path.to_owned(), reason })
    })
}

fn decode(path: &Path, wanted: Wanted, names: &ColumnNames) -> Result<Table, DatasetError> {
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
    check_names(path, &fields, wanted, names)?;
    let roles = || fields.iter().filter_map(|field| Some((field, wanted.role(&field.name, names)?)));
    let found = roles().count();
    if found > MAX_COLUMNS {
        return Err(DatasetError::TooManyColumns { path: path.to_owned(), most: MAX_COLUMNS, found });
    }
    let reserve = Reserve { rows: announced, bytes: bytes.len().saturating_mul(2) };
    let column = |(field, role)| Column::new(path, field, role, reserve);
    let mut columns = roles().map(column).collect::<Result<Vec<_>, _>>()?;

    let mut rows = 0;
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(broken)?;
        let found = u64::try_from(group.metadata().num_rows()).unwrap_or(u64::MAX);
        let total = match rows as u64 + found.min(u64::from(u32::MAX)) {
            0 => continue,
            total => check_rows(path, total)?,
        };
        for column in &mut columns {
            let Some(leaf) = column.field.leaf else { continue };
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

    let names = fields.iter().map(|field| field.name.clone()).collect();
    let mut table = Table { rows, names, embeddings: None, ids: None, attributes: Vec::new() };
    for column in columns {
        match column.decoded {
            DecodedColumn::Embeddings(embeddings) => table.embeddings = embeddings.finish(),
            DecodedColumn::Ids(ids) => table.ids = Some(ids),
            DecodedColumn::Attribute(values) => {
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
    Ids(Ids),
    Attribute(ColumnValues),
}

impl<'a> Column<'a> {
    fn new(path: &Path, field: &'a Field, role: Role, reserve: Reserve) -> Result<Self, DatasetError> {
        let unexpected = |expected| DatasetError::ColumnType {
            path: path.to_owned(),
            name: field.name.clone(),
            expected,
            found: field.text.clone(),
        };
        let unsupported = || DatasetError::UnsupportedColumn {
            path: path.to_owned(),
            name: field.name.clone(),
            found: field.text.clone(),
        };
        let leaf = field.leaf.as_ref();
        let decoded = match role {
            Role::Embeddings => {
                let leaf = leaf.filter(|leaf| is_embedding(leaf));
                let leaf = leaf.ok_or_else(|| unexpected("lists of f32, f64, f16, i8 or u8"))?;
                DecodedColumn::Embeddings(EmbeddingColumn::new(leaf.element, reserve))
            }
            Role::Ids => {
                let leaf = leaf.filter(|leaf| is_id(leaf));
                let leaf = leaf.ok_or_else(|| unexpected("integers, text or UUIDs"))?;
                DecodedColumn::Ids(empty_ids(leaf.element))
            }
            Role::Attribute => DecodedColumn::Attribute(leaf.and_then(empty_column).ok_or_else(unsupported)?),
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

fn check_names(
    path: &Path,
    fields: &[Field],
    wanted: Wanted,
    names: &ColumnNames,
) -> Result<(), DatasetError> {
    let found: Vec<&String> = fields.iter().map(|field| &field.name).collect();
    // Names can be chosen to collide in a hash set without a seed.
    let mut seen = BTreeSet::new();
    if let Some(name) = found.iter().find(|name| !seen.insert(**name)) {
        let name = (*name).clone();
        return Err(DatasetError::DuplicateColumn { path: path.to_owned(), name, first: path.to_owned() });
    }
    let name = names.embedding();
    if wanted != Wanted::AllButEmbeddings && !found.iter().any(|found| *found == name) {
        let (name, found) = (name.to_owned(), found.into_iter().cloned().collect());
        return Err(DatasetError::MissingColumn { path: path.to_owned(), name, found });
    }
    Ok(())
}
