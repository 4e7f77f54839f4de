//! The errors of input files. Every message names the file, the expected and the found value.

use std::io;
use std::path::{Path, PathBuf};

#[cfg(feature = "parquet")]
use parquet::errors::ParquetError;

use crate::base::id::VideoId;
use crate::base::instant::OutOfRange;
use crate::base::metric::Metric;

/// Why a file of embeddings, ids, attributes or ground truth was refused.
///
/// Rows and columns count from 0, lines of text from 1, sizes are bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are named for what the messages say of them")]
pub enum DatasetError {
    /// The operating system returned an error.
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, r#source: io::Error },

    /// A folder or a pattern without files.
    #[error("{path}: expected at least one file, found none", path = path.display())]
    NoFiles { path: PathBuf },

    /// A malformed pattern, or one of too many files.
    #[error("{path}: {reason}", path = path.display())]
    BadPattern { path: PathBuf, reason: String },

    /// The extension selects the format, and this extension is of no supported format.
    #[error("{path}: unknown extension {found:?}: expected {accepted}", path = path.display())]
    UnknownExtension { path: PathBuf, found: String, accepted: &'static str },

    /// The file has no bytes at all.
    #[error("{path}: the file is empty", path = path.display())]
    EmptyFile { path: PathBuf },

    /// The file does not begin (Parquet: or end) as its format does.
    #[error("{path}: not a {format} file: expected it to {expected}, found {found}", path = path.display())]
    WrongMagic { path: PathBuf, format: &'static str, expected: &'static str, found: String },

    /// The header does not follow the format.
    #[error("{path}: malformed {format} header: {reason}", path = path.display())]
    BadHeader { path: PathBuf, format: &'static str, reason: String },

    /// A number type that this kind of file cannot hold.
    #[error("{path}: unsupported type: expected {expected}, found {found}", path = path.display())]
    UnsupportedType { path: PathBuf, expected: &'static str, found: String },

    /// The array has too few or too many axes.
    #[error("{path}: expected an array of {expected} axes, found shape {found:?}", path = path.display())]
    WrongShape { path: PathBuf, expected: usize, found: Vec<u64> },

    /// There is no row.
    #[error("{path}: expected at least one row, found none", path = path.display())]
    NoRows { path: PathBuf },

    /// More rows than one index can hold.
    #[error("{path}: expected at most {most} rows, found {found}", path = path.display())]
    TooManyRows { path: PathBuf, most: u64, found: u64 },

    /// Rows have no component.
    #[error("{path}: expected at least one component per row, found dimension 0", path = path.display())]
    ZeroDimension { path: PathBuf },

    /// Rows have more components than are supported.
    #[error("{path}: expected a dimension of at most {most}, found {found}", path = path.display())]
    DimensionTooLarge { path: PathBuf, most: u64, found: u64 },

    /// The file ends before its rows do.
    #[error("{path}: truncated: expected {expected} bytes, found {found}", path = path.display())]
    Truncated { path: PathBuf, expected: u64, found: u64 },

    /// The file goes on after its last row.
    #[error("{path}: bytes after the last row: expected {expected} bytes, found {found}", path = path.display())]
    TrailingBytes { path: PathBuf, expected: u64, found: u64 },

    /// A row of another dimension than row 0.
    #[error("{path}: row {row}: expected {expected} components as in the rows before, found {found}", path = path.display())]
    RaggedRow { path: PathBuf, row: usize, expected: usize, found: usize },

    /// A component is NaN or infinite.
    #[error("{path}: row {row}, column {column}: expected a finite number, found {found}", path = path.display())]
    NotFinite { path: PathBuf, row: usize, column: usize, found: f32 },

    /// A number in double precision that single precision cannot hold.
    #[error("{path}: row {row}, column {column}: expected a number of at most {max:e}, found {found:e}", path = path.display(), max = f32::MAX)]
    ExceedsF32 { path: PathBuf, row: usize, column: usize, found: f64 },

    /// A row is longer than scores in single precision allow.
    #[error("{path}: row {row}: expected a vector of norm {most:e} at most, found norm {found:.3e}", path = path.display())]
    TooLong { path: PathBuf, row: usize, most: f32, found: f64 },

    /// A query that gives every video the same score.
    #[error(
        "{path}: row {row}: expected a query other than zeros, found only zeros, which rank nothing under {metric}",
        path = path.display()
    )]
    ZeroQuery { path: PathBuf, row: usize, metric: Metric },

    /// A row has no direction, which the cosine needs.
    #[error("{path}: row {row}: expected a non-zero vector under cosine, found only zeros", path = path.display())]
    ZeroRow { path: PathBuf, row: usize },

    /// A file without a column that it must have.
    #[error("{path}: expected a column {name:?}, found {found:?}", path = path.display())]
    MissingColumn { path: PathBuf, name: String, found: Vec<String> },

    /// A named column that no file has.
    #[error("expected a column {name:?} in {paths}, found {found:?}", paths = list(paths))]
    UnknownColumn { paths: Vec<PathBuf>, name: String, found: Vec<String> },

    /// An attribute of a type that no index stores.
    #[error(
        "{path}: column {name:?}: type {found} is not supported: expected text, a list of text or integers, an integer, \
         a floating-point number, a boolean, a date or a timestamp",
        path = path.display()
    )]
    UnsupportedColumn { path: PathBuf, name: String, found: String },

    /// A column of another type than in another file of the same data.
    #[error(
        "{path}: column {name:?}: expected {expected} as in {other}, found {found}",
        path = path.display(),
        other = other.display()
    )]
    ColumnMismatch {
        path: PathBuf,
        other: PathBuf,
        name: String,
        expected: &'static str,
        found: &'static str,
    },

    /// Embeddings of another dimension than in another file of the same data.
    #[error(
        "{path}: expected {expected} components per row as in {other}, found {found}",
        path = path.display(),
        other = other.display()
    )]
    DimensionMismatch { path: PathBuf, other: PathBuf, expected: usize, found: usize },

    /// A column of a type it cannot have.
    #[error("{path}: column {name:?}: expected {expected}, found {found}", path = path.display())]
    ColumnType { path: PathBuf, name: String, expected: &'static str, found: String },

    /// A column that must have a value in every row.
    #[error("{path}: row {row}: expected a value in column {name:?}, found null", path = path.display())]
    NullValue { path: PathBuf, name: String, row: usize },

    /// A time of a year that no index stores.
    #[error("{path}: row {row}, column {name:?}: {source}", path = path.display())]
    Time { path: PathBuf, name: String, row: usize, r#source: OutOfRange },

    /// A component of a Parquet embedding is null.
    #[error("{path}: row {row}, column {column}: expected a finite number, found null", path = path.display())]
    NullComponent { path: PathBuf, row: usize, column: usize },

    /// One attribute name, two columns.
    #[error(
        "{path}: column {name:?} is already given by {first}",
        path = path.display(),
        first = first.display()
    )]
    DuplicateColumn { path: PathBuf, name: String, first: PathBuf },

    /// Two files that belong together have different lengths.
    #[error(
        "{path}: expected {expected} rows as in {other}, found {found}",
        path = path.display(),
        other = other.display()
    )]
    RowCountMismatch { path: PathBuf, other: PathBuf, expected: usize, found: usize },

    /// A line of an ids file that begins with a number is not a decimal number below 2^64.
    #[error("{path}: line {line}: expected a decimal id below 2^64, found {found:?}", path = path.display())]
    BadIdLine { path: PathBuf, line: usize, found: String },

    /// Ids that are text where only numbers are read.
    #[error("{path}: expected ids that are numbers, found text", path = path.display())]
    TextIds { path: PathBuf },

    /// An id that is text of no length, or of a great one.
    #[error("{path}: row {row}: expected an id of 1 to {most} bytes, found {found}", path = path.display())]
    TextIdLength { path: PathBuf, row: usize, most: usize, found: usize },

    /// Text that is not UTF-8.
    #[error("{path}: row {row}: expected UTF-8 text, found other bytes", path = path.display())]
    BadText { path: PathBuf, row: usize },

    /// A line that is no record, or not of the columns of the lines before it.
    #[error("{path}: line {line}: {reason}", path = path.display())]
    BadLine { path: PathBuf, line: usize, reason: String },

    /// A signed id below zero.
    #[error("{path}: row {row}: expected an id of at least 0, found {found}", path = path.display())]
    NegativeId { path: PathBuf, row: usize, found: i64 },

    /// Two rows are the same video.
    #[error("{path}: row {second}: id {id} is already the id of row {first}", path = path.display())]
    DuplicateId { path: PathBuf, id: VideoId, first: usize, second: usize },

    /// Rows of two files are the same video.
    #[error(
        "{path}: row {row}: id {id} is already the id of row {first} of {other}",
        path = path.display(),
        other = other.display()
    )]
    DuplicateIdOfFiles { path: PathBuf, row: usize, id: VideoId, other: PathBuf, first: usize },

    /// Two texts have the same 64-bit id.
    #[error(
        "{path}: row {row}: the ids {text:?} and {other:?} cannot be in one index: their first 64 bits of SHA-256 are equal",
        path = path.display()
    )]
    TextIdCollision { path: PathBuf, row: usize, text: String, other: String },

    /// Two files give the same row different ids.
    #[error(
        "{path}: row {row}: expected id {expected} as in {other}, found {found}",
        path = path.display(),
        other = other.display()
    )]
    IdMismatch { path: PathBuf, other: PathBuf, row: usize, expected: VideoId, found: VideoId },

    /// A neighbor that cannot be a row of a catalog.
    #[error(
        "{path}: row {row}, column {column}: expected a row number of 0 to {most}, found {found}",
        path = path.display()
    )]
    NeighborOutOfRange { path: PathBuf, row: usize, column: usize, most: u64, found: i128 },

    /// The number of values written does not match the announced shape.
    #[error("{path}: expected {expected} values to write, found {found}", path = path.display())]
    WrongLength { path: PathBuf, expected: u64, found: u64 },

    /// Bytes that contradict the format. The decoder may have panicked on them.
    #[error("{path}: corrupt: {reason}", path = path.display())]
    Corrupt { path: PathBuf, reason: String },

    /// More columns than an index stores.
    #[error("{path}: expected at most {most} columns, found {found}", path = path.display())]
    TooManyColumns { path: PathBuf, most: usize, found: usize },

    /// A schema that is nested too deeply.
    #[error("{path}: expected columns of at most {most} levels, found a deeper schema", path = path.display())]
    DeepSchema { path: PathBuf, most: usize },

    /// A small file that expands to a large catalog.
    #[error("{path}: expected data of at most {most} bytes, decoded, in a file of this length, found more", path = path.display())]
    Expands { path: PathBuf, most: u64 },

    /// This build does not read Parquet.
    #[error("{path}: Parquet files are not supported: built without the feature `parquet`", path = path.display())]
    WithoutParquet { path: PathBuf },

    /// This build does not read HDF5.
    #[error("{path}: HDF5 files are not supported: built without the feature `hdf5`", path = path.display())]
    WithoutHdf5 { path: PathBuf },

    /// An HDF5 file without a dataset it must have.
    #[error("{path}: expected a dataset {name:?}, found {found:?}", path = path.display())]
    MissingDataset { path: PathBuf, name: &'static str, found: Vec<String> },

    /// The distance that an HDF5 file names is of no supported metric.
    #[error(
        "{path}: expected the distance \"angular\", \"euclidean\", \"dot\" or \"ip\", found {found:?}",
        path = path.display()
    )]
    UnknownDistance { path: PathBuf, found: String },

    /// HDF5 that cannot be decoded.
    #[cfg(feature = "hdf5")]
    #[error("{path}: {source}", path = path.display())]
    Hdf5 { path: PathBuf, r#source: hdf5_reader::error::Error },

    /// Parquet that cannot be decoded.
    #[cfg(feature = "parquet")]
    #[error("{path}: {source}", path = path.display())]
    Parquet { path: PathBuf, r#source: ParquetError },
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

impl DatasetError {
    /// Adds the path to an error of the operating system.
    pub(super) fn io(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        |source| DatasetError::Io { path: path.to_owned(), source }
    }

    /// The error for a file with fewer bytes than expected.
    pub(super) fn truncated(path: &Path, expected: usize, bytes: &[u8]) -> Self {
        DatasetError::Truncated {
            path: path.to_owned(),
            expected: expected as u64,
            found: bytes.len() as u64,
        }
    }
}
