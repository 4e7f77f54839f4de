//! Writes Parquet files with the low-level writer: any physical and logical type, any encoding of lists.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::Int96;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{Type, TypePtr};

/// A value of a physical type.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Bool(bool),
    Int32(i32),
    Int64(i64),
    /// Nanoseconds of the day in two words, the low one first, and the Julian day number.
    Int96([u32; 3]),
    Float(f32),
    Double(f64),
    /// Of variable length.
    Bytes(Vec<u8>),
    /// Of the length of the column.
    Fixed(Vec<u8>),
}

macro_rules! cell {
    ($($from:ty => $variant:ident),*) => {$(
        impl From<$from> for Cell {
            fn from(value: $from) -> Self {
                Cell::$variant(value.into())
            }
        }
    )*};
}
cell!(bool => Bool, i32 => Int32, i64 => Int64, f32 => Float, f64 => Double, &str => Bytes, String => Bytes);

impl From<u64> for Cell {
    fn from(value: u64) -> Self {
        Cell::Int64(value as i64)
    }
}

impl From<half::f16> for Cell {
    fn from(value: half::f16) -> Self {
        Cell::Fixed(value.to_le_bytes().to_vec())
    }
}

/// The type of the values of a column.
#[derive(Clone, Debug)]
pub struct Leaf {
    pub physical: Physical,
    pub logical: Option<LogicalType>,
    /// Of values of fixed length.
    pub length: i32,
}

pub fn leaf(physical: Physical, logical: Option<LogicalType>) -> Leaf {
    let length = if physical == Physical::FIXED_LEN_BYTE_ARRAY { 2 } else { -1 };
    Leaf { physical, logical, length }
}

pub fn text() -> Leaf {
    leaf(Physical::BYTE_ARRAY, Some(LogicalType::String))
}

pub fn int64() -> Leaf {
    leaf(Physical::INT64, None)
}

pub fn integer(bits: i8, is_signed: bool) -> Leaf {
    let physical = if bits == 64 { Physical::INT64 } else { Physical::INT32 };
    leaf(physical, Some(LogicalType::integer(bits, is_signed)))
}

pub fn float() -> Leaf {
    leaf(Physical::FLOAT, None)
}

pub fn double() -> Leaf {
    leaf(Physical::DOUBLE, None)
}

pub fn half() -> Leaf {
    leaf(Physical::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::Float16))
}

pub fn boolean() -> Leaf {
    leaf(Physical::BOOLEAN, None)
}

pub fn timestamp(unit: TimeUnit, is_utc: bool) -> Leaf {
    leaf(Physical::INT64, Some(LogicalType::timestamp(is_utc, unit)))
}

/// How the lists of a column are encoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ListEncoding {
    /// `group (LIST) { repeated group list { element } }`, as writers of today do.
    ThreeLevels,
    /// `group (LIST) { repeated element }`, as older writers do.
    TwoLevels,
    /// `repeated element`, without a null list.
    Repeated,
}

#[derive(Clone, Debug)]
pub enum Rows {
    Values(Vec<Option<Cell>>),
    Lists(ListEncoding, Vec<Option<Vec<Option<Cell>>>>),
}

/// One column of a file.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub leaf: Leaf,
    pub rows: Rows,
    /// Whether no row is null.
    pub is_required: bool,
    /// Whether no item of a list is null.
    pub has_required_items: bool,
}

/// A column that may have nulls.
pub fn values<C: Into<Cell>>(name: &str, leaf: Leaf, values: impl IntoIterator<Item = Option<C>>) -> Column {
    let rows = Rows::Values(values.into_iter().map(|value| value.map(Into::into)).collect());
    Column { name: name.to_owned(), leaf, rows, is_required: false, has_required_items: false }
}

/// A column of lists of three levels that may have nulls.
pub fn lists<C: Into<Cell>, L: IntoIterator<Item = Option<C>>>(
    name: &str,
    leaf: Leaf,
    lists: impl IntoIterator<Item = Option<L>>,
) -> Column {
    let list = |list: L| list.into_iter().map(|item| item.map(Into::into)).collect();
    let lists = lists.into_iter().map(|items| items.map(list)).collect();
    let rows = Rows::Lists(ListEncoding::ThreeLevels, lists);
    Column { name: name.to_owned(), leaf, rows, is_required: false, has_required_items: false }
}

/// Embeddings, without nulls.
pub fn embeddings<R: AsRef<[f32]>>(rows: &[R]) -> Column {
    lists("embedding", float(), rows.iter().map(|row| Some(row.as_ref().iter().map(|value| Some(*value)))))
}

/// Writes `columns`, which are of one length, in row groups of `group` rows.
pub fn write(path: &Path, columns: &[Column], group: usize, properties: WriterProperties) {
    let fields = columns.iter().map(|column| Arc::new(column.schema())).collect();
    let schema = Type::group_type_builder("schema").with_fields(fields).build().unwrap();
    let file = File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties)).unwrap();
    let rows = columns.iter().map(Column::len).max().unwrap_or(0);
    for first in (0..rows).step_by(group) {
        let mut row_group = writer.next_row_group().unwrap();
        for column in columns {
            let mut chunk = row_group.next_column().unwrap().unwrap();
            column.write(first..rows.min(first + group), chunk.untyped());
            chunk.close().unwrap();
        }
        row_group.close().unwrap();
    }
    writer.close().unwrap();
}

impl Column {
    pub fn required(mut self) -> Self {
        self.is_required = true;
        self.has_required_items = true;
        self
    }

    pub fn encoded(mut self, encoding: ListEncoding) -> Self {
        if let Rows::Lists(of, _) = &mut self.rows {
            *of = encoding;
        }
        self
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        match &self.rows {
            Rows::Values(values) => values.len(),
            Rows::Lists(_, lists) => lists.len(),
        }
    }

    /// Keeps the first rows.
    pub fn truncated(mut self, rows: usize) -> Self {
        match &mut self.rows {
            Rows::Values(values) => values.truncate(rows),
            Rows::Lists(_, lists) => lists.truncate(rows),
        }
        self
    }

    fn is_optional(&self) -> bool {
        !self.is_required && !matches!(self.rows, Rows::Lists(ListEncoding::Repeated, _))
    }

    fn has_optional_items(&self) -> bool {
        !self.has_required_items && matches!(self.rows, Rows::Lists(ListEncoding::ThreeLevels, _))
    }

    fn schema(&self) -> Type {
        let optional = |is: bool| if is { Repetition::OPTIONAL } else { Repetition::REQUIRED };
        let primitive = |name: &str, repetition| {
            let builder = Type::primitive_type_builder(name, self.leaf.physical);
            let builder = builder.with_repetition(repetition).with_length(self.leaf.length);
            builder.with_logical_type(self.leaf.logical.clone()).build().unwrap()
        };
        let group = |name: &str, repetition, logical, field: Type| {
            let builder = Type::group_type_builder(name).with_repetition(repetition);
            let fields: Vec<TypePtr> = vec![Arc::new(field)];
            builder.with_logical_type(logical).with_fields(fields).build().unwrap()
        };
        let outer = optional(self.is_optional());
        let list = Some(LogicalType::List);
        match &self.rows {
            Rows::Values(_) => primitive(&self.name, outer),
            Rows::Lists(ListEncoding::ThreeLevels, _) => {
                let element = primitive("element", optional(self.has_optional_items()));
                let repeated = group("list", Repetition::REPEATED, None, element);
                group(&self.name, outer, list, repeated)
            }
            Rows::Lists(ListEncoding::TwoLevels, _) => {
                group(&self.name, outer, list, primitive("array", Repetition::REPEATED))
            }
            Rows::Lists(ListEncoding::Repeated, _) => primitive(&self.name, Repetition::REPEATED),
        }
    }

    /// Levels and values of some rows.
    fn levels(&self, rows: Range<usize>) -> (Vec<i16>, Vec<i16>, Vec<&Cell>) {
        let outer = i16::from(self.is_optional());
        let (mut definition, mut repetition, mut cells) = (Vec::new(), Vec::new(), Vec::new());
        match &self.rows {
            Rows::Values(values) => {
                for value in &values[rows] {
                    definition.push(if value.is_some() { outer } else { 0 });
                    cells.extend(value);
                }
            }
            Rows::Lists(_, lists) => {
                let item = outer + 1 + i16::from(self.has_optional_items());
                for list in &lists[rows] {
                    repetition.push(0);
                    match list {
                        None => definition.push(0),
                        Some(list) if list.is_empty() => definition.push(outer),
                        Some(list) => {
                            repetition.resize(repetition.len() + list.len() - 1, 1);
                            definition.extend(list.iter().map(|cell| item - i16::from(cell.is_none())));
                            cells.extend(list.iter().flatten());
                        }
                    }
                }
            }
        }
        (definition, repetition, cells)
    }

    fn write(&self, rows: Range<usize>, writer: &mut ColumnWriter<'_>) {
        let (definition, repetition, cells) = self.levels(rows);
        let repetition = (!repetition.is_empty()).then_some(repetition.as_slice());
        macro_rules! write {
            ($writer:ident, $variant:ident, $value:ident => $convert:expr) => {{
                let value = |cell: &&Cell| match cell {
                    Cell::$variant($value) => $convert,
                    other => panic!("{other:?} in column {}", self.name),
                };
                let values: Vec<_> = cells.iter().map(value).collect();
                $writer.write_batch(&values, Some(&definition), repetition).unwrap();
            }};
        }
        match writer {
            ColumnWriter::BoolColumnWriter(writer) => write!(writer, Bool, value => *value),
            ColumnWriter::Int32ColumnWriter(writer) => write!(writer, Int32, value => *value),
            ColumnWriter::Int64ColumnWriter(writer) => write!(writer, Int64, value => *value),
            ColumnWriter::Int96ColumnWriter(writer) => {
                write!(writer, Int96, value => Int96::from(value.to_vec()));
            }
            ColumnWriter::FloatColumnWriter(writer) => write!(writer, Float, value => *value),
            ColumnWriter::DoubleColumnWriter(writer) => write!(writer, Double, value => *value),
            ColumnWriter::ByteArrayColumnWriter(writer) => {
                write!(writer, Bytes, value => value.clone().into());
            }
            ColumnWriter::FixedLenByteArrayColumnWriter(writer) => {
                write!(writer, Fixed, value => value.clone().into());
            }
        }
    }
}
