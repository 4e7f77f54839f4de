//! A catalog: embeddings, ids and attributes from up to three files, checked against each other.
//!
//! What flows in: paths and the metric. What flows out: one embedding, one id and one value of each attribute per row,
//! all of them checked before the caller writes anything.

use std::path::{Path, PathBuf};

use super::column::{AttributeColumn, ColumnValues};
use super::embeddings::Embeddings;
use super::error::DatasetError;
use super::ids::{check_unique, read_ids};
use super::limits::extension;
use super::parquet::{self, Columns};
use crate::base::id::VideoId;
use crate::base::metric::Metric;

/// The attribute that is also the expiry of a video, if it is a column of times.
pub const EXPIRES_AT: &str = "expires_at";
/// The expiry of a video that does not expire.
pub const NEVER: i64 = i64::MAX;

/// The files of a catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatasetFiles {
    /// `.npy`, `.fvecs`, `.fbin`, or `.parquet`, which may also have ids and attributes.
    pub embeddings: PathBuf,
    /// `.npy` or `.txt`.
    pub ids: Option<PathBuf>,
    /// `.parquet`; every column but `video_id` and `embedding` is an attribute.
    pub attributes: Option<PathBuf>,
}

/// Where the ids of a catalog are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdSource {
    /// At least one of the files has ids.
    Files,
    /// No file has ids: the id of a video is the number of its row, from 0.
    RowNumbers,
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
    /// Ids given by more than one file (`ids`, and a column `video_id` of either Parquet file) agree row
    /// by row. Without any, row numbers are the ids. An attribute [`EXPIRES_AT`] of dates or timestamps is
    /// also when videos expire, those without one never.
    ///
    /// # Errors
    /// [`DatasetError`] for the first check that fails, with file, row, expected and found value.
    pub fn open(files: &DatasetFiles, metric: Metric) -> Result<Self, DatasetError> {
        Self::read(files, metric).map(|(dataset, _)| dataset)
    }

    /// Opens the files as [`Self::open`] does, and returns where the ids are from.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn read(files: &DatasetFiles, metric: Metric) -> Result<(Self, IdSource), DatasetError> {
        let path = files.embeddings.as_path();
        let mut known = KnownIds::default();
        let mut attributes = Vec::new();
        let embeddings = if extension(path)? == "parquet" {
            let table = parquet::read(path, Columns::All)?;
            known.add(path, table.ids)?;
            attributes = table.attributes;
            Embeddings::decoded(path, table.embeddings)?
        } else {
            Embeddings::open(path)?
        };
        let rows = embeddings.view().len();
        let check_rows = |other: &Path, found: usize| {
            let mismatch = || DatasetError::RowCountMismatch {
                path: other.to_owned(),
                other: path.to_owned(),
                expected: rows,
                found,
            };
            (found == rows).then_some(()).ok_or_else(mismatch)
        };

        if let Some(path) = &files.ids {
            let ids = read_ids(path)?;
            check_rows(path, ids.len())?;
            known.add(path, Some(ids))?;
        }
        if let Some(other) = &files.attributes {
            let table = read_attributes(other)?;
            check_rows(other, table.rows)?;
            known.add(other, table.ids)?;
            let given_twice =
                table.attributes.iter().find(|new| attributes.iter().any(|old| is_same(old, new)));
            if let Some(AttributeColumn { name, .. }) = given_twice {
                let (path, name, first) = (other.clone(), name.clone(), path.to_owned());
                return Err(DatasetError::DuplicateColumn { path, name, first });
            }
            attributes.extend(table.attributes);
        }
        let source = if known.first.is_some() { IdSource::Files } else { IdSource::RowNumbers };
        let ids = known.into_unique(rows)?;
        embeddings.check_finite()?;
        if metric == Metric::Cosine {
            embeddings.check_nonzero()?;
        }
        let expires_at = attributes.iter().find(|column| column.name == EXPIRES_AT).and_then(expiries);
        Ok((Self { embeddings, ids, attributes, expires_at }, source))
    }
}

/// When each video expires, if the column has times and at least one video has one.
pub(super) fn expiries(column: &AttributeColumn) -> Option<Vec<i64>> {
    let ColumnValues::Timestamp(times) = &column.values else { return None };
    let some_expire = times.validity().nulls() < times.len();
    some_expire.then(|| times.iter().map(|time| time.unwrap_or(NEVER)).collect())
}

/// The ids of the first file with ids. The ids of every other file must be equal.
#[derive(Default)]
struct KnownIds {
    first: Option<(PathBuf, Vec<VideoId>)>,
}

impl KnownIds {
    /// `ids`: of the same length in every call.
    fn add(&mut self, path: &Path, ids: Option<Vec<VideoId>>) -> Result<(), DatasetError> {
        let Some(ids) = ids else { return Ok(()) };
        let Some((other, known)) = &self.first else {
            self.first = Some((path.to_owned(), ids));
            return Ok(());
        };
        match known.iter().zip(&ids).position(|(known, id)| known != id) {
            None => Ok(()),
            Some(row) => Err(DatasetError::IdMismatch {
                path: path.to_owned(),
                other: other.clone(),
                row,
                expected: known[row],
                found: ids[row],
            }),
        }
    }

    fn into_unique(self, rows: usize) -> Result<Vec<VideoId>, DatasetError> {
        let Some((path, ids)) = self.first else { return Ok((0..rows as u64).map(VideoId).collect()) };
        check_unique(&path, &ids)?;
        Ok(ids)
    }
}

fn read_attributes(path: &Path) -> Result<parquet::Table, DatasetError> {
    match extension(path)?.as_str() {
        "parquet" => parquet::read(path, Columns::AllButEmbedding),
        other => Err(DatasetError::UnknownExtension {
            path: path.to_owned(),
            found: other.to_owned(),
            accepted: ".parquet",
        }),
    }
}

fn is_same(one: &AttributeColumn, other: &AttributeColumn) -> bool {
    one.name == other.name
}
