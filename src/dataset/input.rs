//! A catalog: embeddings, ids and attributes of files, checked against each other.
//!
//! What flows in: paths, the names of columns, and the metric. What flows out: one embedding, one id and one value of
//! each attribute per row, all of them checked before the caller writes anything.

use std::fmt;
use std::path::{Path, PathBuf};

use super::column::{AttributeColumn, ColumnValues, Keywords};
use super::embeddings::Embeddings;
use super::error::DatasetError;
use super::files::{self, Records};
use super::ids::{Ids, check_unique, hashes, read_ids};
use super::places::Places;
use super::table::{ColumnNames, ID_COLUMN, Wanted};
use crate::base::id::VideoId;
use crate::base::metric::Metric;

/// The attribute that is also the expiry of a video, if it is a column of times.
pub const EXPIRES_AT: &str = "expires_at";
/// The expiry of a video that does not expire.
pub const NEVER: i64 = i64::MAX;

/// The files of a catalog. Each path is a file, a folder, of which all files are read, or a glob pattern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatasetFiles {
    /// Arrays, or Parquet or JSON files, which may also have ids and attributes.
    pub embeddings: Vec<PathBuf>,
    /// `.npy` or `.txt`.
    pub ids: Option<PathBuf>,
    /// Parquet or JSON files: every column but ids and embeddings is an attribute.
    pub attributes: Vec<PathBuf>,
}

impl DatasetFiles {
    /// Embeddings of one path, which may also have ids and attributes.
    pub fn of(embeddings: impl Into<PathBuf>) -> Self {
        Self { embeddings: vec![embeddings.into()], ..Self::default() }
    }
}

/// How the files of a catalog are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetOptions {
    /// What the embeddings must be fit for.
    pub metric: Metric,
    /// The columns of Parquet and JSON files.
    pub columns: ColumnNames,
    /// Whether embeddings are scaled to norm 1.
    pub normalize: bool,
}

impl DatasetOptions {
    /// The default columns, and embeddings as they are.
    pub fn new(metric: Metric) -> Self {
        Self { metric, columns: ColumnNames::default(), normalize: false }
    }
}

/// Where the ids of a catalog are from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdSource {
    /// A column of Parquet or JSON files.
    Column {
        /// Its name.
        name: String,
        /// The first of the files.
        path: PathBuf,
    },
    /// A file of ids.
    File {
        /// The file.
        path: PathBuf,
    },
    /// No file has ids: the id of a video is the number of its row, from 0.
    RowNumbers,
}

impl fmt::Display for IdSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Column { name, path } => write!(f, "column {name:?} of {}", path.display()),
            Self::File { path } => path.display().fmt(f),
            Self::RowNumbers => f.write_str("row numbers"),
        }
    }
}

/// What a caller may want to know of files that were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadReport {
    /// Where the ids are from.
    pub ids: IdSource,
    /// Whether the ids are text.
    pub has_text_ids: bool,
    /// How many numbers lost their range when they became components: they are not 0 and smaller than any normal `f32`.
    pub flushed: u64,
}

/// A catalog that passed every check.
#[derive(Debug)]
pub struct Dataset {
    /// Finite; without zero rows under cosine.
    pub embeddings: Embeddings,
    /// Unique, one per row: from the files, or row numbers if none has ids.
    pub ids: Vec<VideoId>,
    /// One value per row each, names unique.
    pub attributes: Vec<AttributeColumn>,
    /// Microseconds since 1970, one per row: from this time on the video is not a candidate; [`NEVER`] for a video
    /// that does not expire. `None` if no video expires.
    pub expires_at: Option<Vec<i64>>,
}

impl Dataset {
    /// Opens the files and checks everything a build relies on.
    ///
    /// Ids given more than once (`ids`, and a column of `embeddings` or `attributes`) agree row by row. Without any, row
    /// numbers are the ids. Ids that are text are kept as the attribute [`ID_COLUMN`]. An attribute [`EXPIRES_AT`] of dates
    /// or timestamps is also when videos expire, those without one never.
    ///
    /// # Errors
    /// [`DatasetError`] for the first check that fails, with file, row, expected and found value.
    pub fn open(files: &DatasetFiles, metric: Metric) -> Result<Self, DatasetError> {
        Self::read(files, &DatasetOptions::new(metric)).map(|(dataset, _)| dataset)
    }

    /// Opens the files as [`Self::open`] does, with these options, and reports what was read.
    ///
    /// # Errors
    /// As [`Self::open`]; also if no file has a column that `options` name.
    pub fn read(files: &DatasetFiles, options: &DatasetOptions) -> Result<(Self, ReadReport), DatasetError> {
        let columns = &options.columns;
        let catalog = files::read(&files.embeddings, Wanted::All, columns)?;
        let Records { rows, places, embeddings, ids, mut attributes, mut names } = catalog;
        let embeddings = embeddings.expect("wanted embeddings are read");
        let path = places.first().to_owned();
        let mut known = KnownIds::default();
        let source = || IdSource::Column { name: columns.id().to_owned(), path: path.clone() };
        known.add(places, ids, source)?;
        let check_rows = |other: &Path, found: usize| {
            let mismatch = || DatasetError::RowCountMismatch {
                path: other.to_owned(),
                other: path.clone(),
                expected: rows,
                found,
            };
            (found == rows).then_some(()).ok_or_else(mismatch)
        };

        if let Some(path) = &files.ids {
            let ids = read_ids(path)?;
            check_rows(path, ids.len())?;
            known.add(Places::of(path), Some(ids), || IdSource::File { path: path.clone() })?;
        }
        if !files.attributes.is_empty() {
            let table = files::read(&files.attributes, Wanted::AllButEmbeddings, columns)?;
            let other = table.places.first().to_owned();
            check_rows(&other, table.rows)?;
            names.extend(table.names);
            let source = || IdSource::Column { name: columns.id().to_owned(), path: other.clone() };
            known.add(table.places, table.ids, source)?;
            for column in table.attributes {
                push_attribute(&mut attributes, column, &other, &path)?;
            }
        }
        if let Some(name) = columns.required().find(|name| !names.contains(*name)) {
            let paths = files.embeddings.iter().chain(&files.attributes).cloned().collect();
            let (name, found) = (name.clone(), names.into_iter().collect());
            return Err(DatasetError::UnknownColumn { paths, name, found });
        }
        let (ids, texts, source) = known.into_unique(rows)?;
        let has_text_ids = texts.is_some();
        if let Some(texts) = texts {
            let column = AttributeColumn { name: ID_COLUMN.to_owned(), values: ColumnValues::Keyword(texts) };
            push_attribute(&mut attributes, column, &path, &path)?;
        }
        let flushed = embeddings.flushed();
        let embeddings = if options.normalize { embeddings.normalized()? } else { embeddings };
        embeddings.check_finite()?;
        if options.metric == Metric::Cosine {
            embeddings.check_nonzero()?;
        }
        let expires_at = attributes.iter().find(|column| column.name == EXPIRES_AT).and_then(expiries);
        let report = ReadReport { ids: source, has_text_ids, flushed };
        Ok((Self { embeddings, ids, attributes, expires_at }, report))
    }
}

/// Adds an attribute of the files at `path`. Those at `first` may have one of the same name.
fn push_attribute(
    attributes: &mut Vec<AttributeColumn>,
    column: AttributeColumn,
    path: &Path,
    first: &Path,
) -> Result<(), DatasetError> {
    if attributes.iter().any(|other| other.name == column.name) {
        let (path, first) = (path.to_owned(), first.to_owned());
        return Err(DatasetError::DuplicateColumn { path, name: column.name, first });
    }
    attributes.push(column);
    Ok(())
}

/// When each video expires, if the column has times and at least one video has one.
pub(super) fn expiries(column: &AttributeColumn) -> Option<Vec<i64>> {
    let ColumnValues::Timestamp(times) = &column.values else { return None };
    let some_expire = times.validity().nulls() < times.len();
    some_expire.then(|| times.iter().map(|time| time.unwrap_or(NEVER)).collect())
}

/// The ids of the first files with ids. The ids of all others must be equal.
#[derive(Default)]
struct KnownIds {
    first: Option<(Places, IdSource, Vec<VideoId>)>,
    /// The texts of the ids, if any of the files has text.
    texts: Option<Keywords>,
}

impl KnownIds {
    /// `ids`: of the same length in every call.
    fn add(
        &mut self,
        places: Places,
        ids: Option<Ids>,
        source: impl Fn() -> IdSource,
    ) -> Result<(), DatasetError> {
        let ids = match ids {
            None => return Ok(()),
            Some(Ids::Numbers(ids)) => ids,
            Some(Ids::Text(texts)) => {
                let ids = hashes(&texts);
                self.texts = Some(texts);
                ids
            }
        };
        let Some((others, _, known)) = &self.first else {
            self.first = Some((places, source(), ids));
            return Ok(());
        };
        let Some(row) = known.iter().zip(&ids).position(|(known, id)| known != id) else { return Ok(()) };
        let (other, _) = others.of_row(row);
        let (expected, found) = (known[row], ids[row]);
        let (path, row) = places.of_row(row);
        Err(DatasetError::IdMismatch { path, other, row, expected, found })
    }

    /// The ids, checked to be unique, and their texts.
    fn into_unique(self, rows: usize) -> Result<(Vec<VideoId>, Option<Keywords>, IdSource), DatasetError> {
        let Some((places, source, ids)) = self.first else {
            return Ok(((0..rows as u64).map(VideoId).collect(), None, IdSource::RowNumbers));
        };
        check_unique(&places, &ids, self.texts.as_ref())?;
        Ok((ids, self.texts, source))
    }
}
