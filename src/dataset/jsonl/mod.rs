//! Records of JSON, one object per line: ids, embeddings and attributes.
//!
//! What flows in: a path, and which columns are wanted. What flows out: a [`Table`]. A field that an object lacks is null.
//!
//! ```text
//! true, false                       boolean
//! 7, -7                             integer: unsigned if one is above 2^63 - 1
//! 7.5                               floating-point number, with integers of the same column
//! "text"                            text: a time, if each one of the column is (RFC 3339, with its offset from UTC)
//! ["text", 7]                       list of text
//! null                              null
//! ```
//!
//! `cells.rs` has the types of attributes, this file everything else.

mod cells;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use rayon::prelude::*;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use self::cells::{Cells, Refused, kind_of};
use super::column::{AttributeColumn, Keywords};
use super::components::Floats;
use super::error::DatasetError;
use super::ids::{Ids, push_text};
use super::limits::{MAX_COLUMNS, check_dim, check_rows, map_file};
use super::scalar::{Narrowed, exceeds};
use super::table::{ColumnNames, Matrix, Role, Table, Wanted};
use crate::base::id::VideoId;

/// The most bytes of a line.
const MAX_LINE: usize = 4 << 20;
/// Lines that are parsed at a time, on all threads,
const BATCH_LINES: usize = 4_096;
/// and about how many bytes.
const BATCH_BYTES: usize = 32 << 20;
/// Bytes of the cells of a file of any length, nulls included,
const BASE_BYTES: u64 = 512 << 20;
/// and more for each byte of the file. A field takes at least five bytes of it.
const BYTES_PER_BYTE: u64 = 64;
/// Bytes of a cell.
const CELL_BYTES: u64 = 8;

/// Reads the wanted columns of the file at `path`.
pub(super) fn read(path: &Path, wanted: Wanted, names: &ColumnNames) -> Result<Table, DatasetError> {
    let file = map_file(path)?;
    let bytes = file.bytes();
    let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let mut reader = Reader::new(path, wanted, names, bytes.len());
    let mut lines =
        text.split(|byte| *byte == b'\n').zip(1..).filter(|(line, _)| !line.trim_ascii().is_empty());
    loop {
        let mut batch: Vec<(&[u8], usize)> = Vec::new();
        let mut batch_bytes = 0;
        while batch.len() < BATCH_LINES && batch_bytes < BATCH_BYTES {
            let Some(line) = lines.next() else { break };
            batch_bytes += line.0.len();
            batch.push(line);
        }
        if batch.is_empty() {
            return reader.finish();
        }
        // Of several bad lines, the first is reported.
        let records: Vec<Result<Record<'_>, DatasetError>> =
            batch.into_par_iter().map(|(line, number)| reader.parse(line, number)).collect();
        for record in records {
            reader.push(record?)?;
        }
        reader.check_cells()?;
    }
}

/// The fields of an object, in its order, not parsed.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// The name of a field, borrowed if it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    fields.push((name, value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A parsed line.
struct Record<'a> {
    line: usize,
    fields: Vec<(Cow<'a, str>, Cell)>,
}

/// A parsed field.
enum Cell {
    /// Of a column that is not wanted.
    Skipped,
    Embedding(Option<Vec<f64>>),
    Id(Value),
    Attribute(Value),
}

struct Reader<'a> {
    path: &'a Path,
    wanted: Wanted,
    names: &'a ColumnNames,
    most_bytes: u64,
    rows: usize,
    /// The place of each name in `columns`.
    places: HashMap<String, usize>,
    columns: Vec<Column>,
    ids: Option<Ids>,
    dim: usize,
    components: Vec<f32>,
    flushed: u64,
}

/// A column until now.
struct Column {
    name: String,
    /// The last line that has it.
    last_line: usize,
    /// `None` if it is not an attribute.
    cells: Option<Cells>,
}

impl<'a> Reader<'a> {
    fn new(path: &'a Path, wanted: Wanted, names: &'a ColumnNames, bytes: usize) -> Self {
        let most_bytes = BASE_BYTES.saturating_add(BYTES_PER_BYTE.saturating_mul(bytes as u64));
        let (places, columns, components) = (HashMap::new(), Vec::new(), Vec::new());
        Self {
            path,
            wanted,
            names,
            most_bytes,
            rows: 0,
            places,
            columns,
            ids: None,
            dim: 0,
            components,
            flushed: 0,
        }
    }

    fn bad_line(&self, line: usize, reason: impl fmt::Display) -> DatasetError {
        DatasetError::BadLine { path: self.path.to_owned(), line, reason: reason.to_string() }
    }

    fn parse<'l>(&self, line: &'l [u8], number: usize) -> Result<Record<'l>, DatasetError> {
        if line.len() > MAX_LINE {
            let reason = format!("expected at most {MAX_LINE} bytes, found {}", line.len());
            return Err(self.bad_line(number, reason));
        }
        let broken = |error: serde_json::Error| self.bad_line(number, reason(&error));
        let Fields(fields) = serde_json::from_slice(line).map_err(broken)?;
        let mut record = Record { line: number, fields: Vec::with_capacity(fields.len()) };
        for (name, text) in fields {
            let in_column = |error: serde_json::Error| {
                self.bad_line(number, format!("column {name:?}: {}", reason(&error)))
            };
            let cell = match self.wanted.role(&name, self.names) {
                None => Cell::Skipped,
                Some(Role::Embeddings) => {
                    Cell::Embedding(serde_json::from_str(text.get()).map_err(in_column)?)
                }
                Some(Role::Ids) => Cell::Id(serde_json::from_str(text.get()).map_err(in_column)?),
                Some(Role::Attribute) => {
                    Cell::Attribute(serde_json::from_str(text.get()).map_err(in_column)?)
                }
            };
            record.fields.push((name, cell));
        }
        Ok(record)
    }

    fn push(&mut self, record: Record<'_>) -> Result<(), DatasetError> {
        let (row, line) = (self.rows, record.line);
        check_rows(self.path, row as u64 + 1)?;
        let (mut has_embedding, mut has_id) = (false, false);
        let null =
            |name: &str| DatasetError::NullValue { path: self.path.to_owned(), name: name.to_owned(), row };
        let (no_embedding, no_id) = (null(self.names.embedding()), null(self.names.id()));
        for (name, cell) in record.fields {
            let place = self.place(&name)?;
            if std::mem::replace(&mut self.columns[place].last_line, line) == line {
                return Err(self.bad_line(line, format!("the name {name:?} is given twice")));
            }
            match cell {
                Cell::Skipped => {}
                Cell::Embedding(None) => return Err(no_embedding),
                Cell::Embedding(Some(numbers)) => {
                    self.push_embedding(row, &numbers)?;
                    has_embedding = true;
                }
                Cell::Id(Value::Null) => return Err(no_id),
                Cell::Id(value) => {
                    self.push_id(row, line, &value)?;
                    has_id = true;
                }
                Cell::Attribute(value) => {
                    let cells = self.columns[place].cells.get_or_insert_default();
                    let found = kind_of(&value);
                    match cells.push(row, value) {
                        Ok(()) => {}
                        Err(Refused::Type { expected }) => {
                            let reason = format!(
                                "column {name:?}: expected {expected} as in the lines before, found {found}"
                            );
                            return Err(self.bad_line(line, reason));
                        }
                        Err(Refused::Unsupported) => {
                            return Err(DatasetError::UnsupportedColumn {
                                path: self.path.to_owned(),
                                name: name.into_owned(),
                                found: format!("{found} in line {line}"),
                            });
                        }
                    }
                }
            }
        }
        if self.wanted != Wanted::AllButEmbeddings && !has_embedding {
            return Err(no_embedding);
        }
        if self.ids.is_some() && !has_id {
            return Err(no_id);
        }
        self.rows += 1;
        Ok(())
    }

    /// The place of the column of this name, which is added if it is new.
    fn place(&mut self, name: &str) -> Result<usize, DatasetError> {
        if let Some(place) = self.places.get(name) {
            return Ok(*place);
        }
        let place = self.columns.len();
        if place == MAX_COLUMNS {
            let (most, found) = (MAX_COLUMNS, place + 1);
            return Err(DatasetError::TooManyColumns { path: self.path.to_owned(), most, found });
        }
        self.places.insert(name.to_owned(), place);
        self.columns.push(Column { name: name.to_owned(), last_line: 0, cells: None });
        Ok(place)
    }

    fn push_embedding(&mut self, row: usize, numbers: &[f64]) -> Result<(), DatasetError> {
        if row == 0 {
            self.dim = check_dim(self.path, numbers.len() as u64)?;
        }
        if numbers.len() != self.dim {
            let (expected, found) = (self.dim, numbers.len());
            return Err(DatasetError::RaggedRow { path: self.path.to_owned(), row, expected, found });
        }
        for (column, number) in numbers.iter().enumerate() {
            let Narrowed { value, is_flushed } =
                Narrowed::new(*number).ok_or_else(|| exceeds(self.path, row, column, *number))?;
            self.components.push(value);
            self.flushed += u64::from(is_flushed);
        }
        Ok(())
    }

    fn push_id(&mut self, row: usize, line: usize, value: &Value) -> Result<(), DatasetError> {
        let name = self.names.id();
        if row > 0 && self.ids.is_none() {
            return Err(DatasetError::NullValue {
                path: self.path.to_owned(),
                name: name.to_owned(),
                row: 0,
            });
        }
        let empty =
            || if value.is_string() { Ids::Text(Keywords::default()) } else { Ids::Numbers(Vec::new()) };
        let expected = match (self.ids.get_or_insert_with(empty), value) {
            (Ids::Text(ids), Value::String(text)) => return push_text(self.path, row, text, ids),
            (Ids::Text(_), _) => "text as in the lines before",
            (Ids::Numbers(ids), value) => match value.as_u64() {
                Some(id) => {
                    ids.push(VideoId(id));
                    return Ok(());
                }
                None => "an integer from 0 to 2^64 - 1, or text in every line",
            },
        };
        Err(self.bad_line(line, format!("column {name:?}: expected {expected}, found {}", kind_of(value))))
    }

    /// Checks that the file does not expand to far more cells than it has fields.
    fn check_cells(&self) -> Result<(), DatasetError> {
        let cells = self.rows as u64 * self.columns.len() as u64;
        if cells.saturating_mul(CELL_BYTES) > self.most_bytes {
            return Err(DatasetError::Expands { path: self.path.to_owned(), most: self.most_bytes });
        }
        Ok(())
    }

    fn finish(self) -> Result<Table, DatasetError> {
        let rows = check_rows(self.path, self.rows as u64)?;
        let names = self.columns.iter().map(|column| column.name.clone()).collect();
        let attribute = |Column { name, cells, .. }: Column| {
            let values = cells?.finish(rows);
            Some(AttributeColumn { name, values })
        };
        let matrix = Matrix { dim: self.dim, values: Floats::F32(self.components), flushed: self.flushed };
        Ok(Table {
            rows,
            names,
            embeddings: (self.wanted != Wanted::AllButEmbeddings).then_some(matrix),
            ids: self.ids,
            attributes: self.columns.into_iter().filter_map(attribute).collect(),
        })
    }
}

/// The message of a parser without the place, which is in a line of its own.
fn reason(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let (text, column) = (message.split(" at line ").next().unwrap_or(&message), error.column());
    format!("{text} (character {column})")
}
