//! Parquet catalogs: the columns `video_id` and `embedding`, and attributes under every other name.
//!
//! What flows in: a path and which columns are wanted; the others are not decoded. What flows out: ids,
//! embeddings in one row-major vector, and Arrow arrays. Nothing here knows of other files.

use std::fs::File;
use std::path::Path;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, ListArray};
use arrow::datatypes::{DataType, Float16Type, Float32Type, Int64Type, SchemaRef, UInt64Type};
use arrow::record_batch::RecordBatchReader;
use half::f16;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;

use super::limits::{check_dim, check_rows};
use super::{AttributeColumn, DatasetError};
use crate::base::id::VideoId;

const ID: &str = "video_id";
const EMBEDDING: &str = "embedding";

/// Rows decoded at a time: 4 MiB of f32 at 1,024 dimensions.
const BATCH_ROWS: usize = 1_024;

/// Which columns are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Columns {
    /// `embedding` alone, which must be there.
    Embedding,
    /// All of them; `embedding` must be there.
    All,
    /// All but `embedding`.
    AllButEmbedding,
}

/// What was decoded.
#[derive(Debug)]
pub(super) struct Table {
    pub rows: usize,
    /// There, if wanted.
    pub embeddings: Option<Decoded>,
    /// There, if wanted and the file has a column `video_id`.
    pub ids: Option<Vec<VideoId>>,
    pub attributes: Vec<AttributeColumn>,
}

/// Embeddings as they came out of the file, `[rows × dim]`.
#[derive(Debug)]
pub(super) enum Decoded {
    F32 { dim: usize, values: Vec<f32> },
    F16 { dim: usize, values: Vec<f16> },
}

/// Decodes the wanted columns of the Parquet file at `path`.
///
/// The parquet crate asserts some of what a file claims (a negative column length, a dictionary that is
/// missing), so that corrupt files can panic inside it. Such a panic becomes [`DatasetError::Corrupt`];
/// nothing outlives the decoding that it could have left half done.
pub(super) fn read(path: &Path, columns: Columns) -> Result<Table, DatasetError> {
    std::panic::catch_unwind(|| decode(path, columns)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
        let reason = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let reason = reason.unwrap_or_else(|| "the Parquet decoder panicked".to_owned());
        Err(DatasetError::Corrupt { path: path.to_owned(), reason })
    })
}

fn decode(path: &Path, columns: Columns) -> Result<Table, DatasetError> {
    let file = File::open(path).map_err(DatasetError::io(path))?;
    let file_bytes = check_magic(path, &file)?;
    let broken = |source: ParquetError| DatasetError::Parquet { path: path.to_owned(), source };

    // The Arrow schema some writers embed is skipped: it adds nothing that is needed, and without it
    // every writer's lists and strings arrive as the same types.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options).map_err(broken)?;
    let announced = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
    check_rows(path, announced)?;
    let schema = builder.schema().clone();
    check_schema(path, &schema, columns)?;
    let wanted = schema.fields().iter().enumerate().filter(|(_, field)| match columns {
        Columns::Embedding => field.name() == EMBEDDING,
        Columns::All => true,
        Columns::AllButEmbedding => field.name() != EMBEDDING,
    });
    let mask = ProjectionMask::roots(builder.parquet_schema(), wanted.map(|(at, _)| at));
    let reader = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build().map_err(broken)?;

    // How much to reserve rests on the row count announced, but no further than the file is long:
    // embeddings hardly compress, and a false count must not reserve what was never written.
    let reserve = Reserve { rows: announced as usize, bytes: file_bytes.saturating_mul(2) as usize };
    let fields = reader.schema().fields().clone();
    let mut chunks: Vec<Vec<ArrayRef>> = vec![Vec::new(); fields.len()];
    let (mut rows, mut embeddings, mut ids) = (0, None, None);
    for batch in reader {
        let batch = batch.map_err(|error| broken(error.into()))?;
        for ((field, array), chunks) in fields.iter().zip(batch.columns()).zip(&mut chunks) {
            match field.name().as_str() {
                EMBEDDING => decode_embeddings(path, &mut embeddings, reserve, rows, array)?,
                ID => decode_ids(path, ids.get_or_insert_default(), array)?,
                _ => chunks.push(array.clone()),
            }
        }
        rows += batch.num_rows();
        check_rows(path, rows as u64)?;
    }
    check_rows(path, rows as u64)?;

    let mut attributes = Vec::new();
    for (field, chunks) in fields.iter().zip(chunks).filter(|(_, chunks)| !chunks.is_empty()) {
        let chunks: Vec<&dyn Array> = chunks.iter().map(AsRef::as_ref).collect();
        let values = arrow::compute::concat(&chunks).map_err(|error| broken(error.into()))?;
        attributes.push(AttributeColumn { name: field.name().clone(), values });
    }
    Ok(Table { rows, embeddings, ids, attributes })
}

/// The length of the file, if it begins and ends as Parquet does.
fn check_magic(path: &Path, file: &File) -> Result<u64, DatasetError> {
    use std::io::{Read, Seek, SeekFrom};
    const MAGIC: &[u8; 4] = b"PAR1";

    let mut file = file;
    let bytes = file.metadata().map_err(DatasetError::io(path))?.len();
    if bytes == 0 {
        return Err(DatasetError::EmptyFile { path: path.to_owned() });
    }
    let mut ends = Vec::new();
    let mut read = |from| -> std::io::Result<()> {
        file.seek(from)?;
        file.take(MAGIC.len() as u64).read_to_end(&mut ends).map(drop)
    };
    read(SeekFrom::Start(0)).map_err(DatasetError::io(path))?;
    read(SeekFrom::Start(bytes.saturating_sub(4))).map_err(DatasetError::io(path))?;
    if ends != [*MAGIC, *MAGIC].concat() || bytes < 12 {
        return Err(DatasetError::WrongMagic {
            path: path.to_owned(),
            format: "Parquet",
            expected: r#"begin and end with "PAR1""#,
            found: format!("\"{}\"", ends.escape_ascii()),
        });
    }
    Ok(bytes)
}

fn check_schema(path: &Path, schema: &SchemaRef, columns: Columns) -> Result<(), DatasetError> {
    let names: Vec<&String> = schema.fields().iter().map(|field| field.name()).collect();
    if let Some(at) = (1..names.len()).find(|&at| names[..at].contains(&names[at])) {
        let name = names[at].clone();
        return Err(DatasetError::DuplicateColumn { path: path.to_owned(), name, first: path.to_owned() });
    }
    if columns != Columns::AllButEmbedding && !names.iter().any(|name| *name == EMBEDDING) {
        let found = names.into_iter().cloned().collect();
        return Err(DatasetError::MissingColumn { path: path.to_owned(), name: EMBEDDING, found });
    }
    Ok(())
}

/// Appends one batch of the column `video_id`.
fn decode_ids(path: &Path, ids: &mut Vec<VideoId>, array: &ArrayRef) -> Result<(), DatasetError> {
    if array.null_count() > 0 {
        let row = ids.len() + (0..array.len()).position(|row| array.is_null(row)).unwrap_or(0);
        return Err(DatasetError::NullValue { path: path.to_owned(), name: ID, row });
    }
    if let Some(array) = array.as_primitive_opt::<UInt64Type>() {
        ids.extend(array.values().iter().map(|&id| VideoId(id)));
        return Ok(());
    }
    let Some(array) = array.as_primitive_opt::<Int64Type>() else {
        return Err(column_type(path, ID, "u64 or i64", array.data_type()));
    };
    for &found in array.values() {
        let row = ids.len();
        let negative = |_| DatasetError::NegativeId { path: path.to_owned(), row, found };
        ids.push(VideoId(u64::try_from(found).map_err(negative)?));
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Reserve {
    rows: usize,
    bytes: usize,
}

impl Reserve {
    fn components<T>(self, dim: usize) -> usize {
        self.rows.saturating_mul(dim).min(self.bytes / size_of::<T>())
    }
}

/// Appends one batch of the column `embedding`, whose first row is row `first_row` of the file.
fn decode_embeddings(
    path: &Path,
    decoded: &mut Option<Decoded>,
    reserve: Reserve,
    first_row: usize,
    array: &ArrayRef,
) -> Result<(), DatasetError> {
    let unexpected = || column_type(path, EMBEDDING, "lists of f32 or f16", array.data_type());
    let lists = array.as_list_opt::<i32>().ok_or_else(unexpected)?;
    if lists.is_empty() {
        return Ok(());
    }
    if let Some(row) = (0..lists.len()).find(|&row| lists.is_null(row)) {
        let row = first_row + row;
        return Err(DatasetError::NullValue { path: path.to_owned(), name: EMBEDDING, row });
    }
    match decoded {
        None => {
            let dim = check_dim(path, lists.value_length(0).max(0) as u64)?;
            *decoded = Some(match lists.value_type() {
                DataType::Float32 => {
                    Decoded::F32 { dim, values: Vec::with_capacity(reserve.components::<f32>(dim)) }
                }
                DataType::Float16 => {
                    Decoded::F16 { dim, values: Vec::with_capacity(reserve.components::<f16>(dim)) }
                }
                _ => return Err(unexpected()),
            });
            decode_embeddings(path, decoded, reserve, first_row, array)
        }
        Some(Decoded::F32 { dim, values }) => {
            append_rows::<Float32Type>(path, lists, first_row, *dim, values)
        }
        Some(Decoded::F16 { dim, values }) => {
            append_rows::<Float16Type>(path, lists, first_row, *dim, values)
        }
    }
}

fn append_rows<P: ArrowPrimitiveType>(
    path: &Path,
    lists: &ListArray,
    first_row: usize,
    dim: usize,
    out: &mut Vec<P::Native>,
) -> Result<(), DatasetError> {
    let unexpected = || column_type(path, EMBEDDING, "lists of one type", lists.data_type());
    for (row, found) in lists.offsets().lengths().enumerate() {
        if found != dim {
            let row = first_row + row;
            return Err(DatasetError::RaggedRow { path: path.to_owned(), row, expected: dim, found });
        }
    }
    let components = lists.values().as_primitive_opt::<P>().ok_or_else(unexpected)?;
    let components = components.slice(lists.offsets()[0] as usize, lists.len() * dim);
    if components.null_count() > 0 {
        let at = (0..components.len()).position(|at| components.is_null(at)).unwrap_or(0);
        let (row, column) = (first_row + at / dim, at % dim);
        return Err(DatasetError::NullComponent { path: path.to_owned(), row, column });
    }
    out.extend_from_slice(components.values());
    Ok(())
}

fn column_type(path: &Path, name: &'static str, expected: &'static str, found: &DataType) -> DatasetError {
    DatasetError::ColumnType { path: path.to_owned(), name, expected, found: found.to_string() }
}
