//! Reads the files of an argument, each by its extension, as one table.
//!
//! What flows in: paths, and which columns are wanted. What flows out: [`Records`]: the rows of all files in order. Files of
//! one argument have the same columns: an attribute that one of them lacks is null there.
//!
//! ```text
//! .npy                                   f32 and f16 in place, others converted
//! .fvecs .bvecs                          f32 in place, u8 converted
//! .fbin .f16bin .i8bin .u8bin            f32 and f16 in place, others converted
//! .hdf5 .h5                              rows of a public benchmark, decoded into memory
//! .parquet .jsonl .ndjson                records, decoded into memory
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::column::{AttributeColumn, ColumnValues, Keywords, Mismatch};
use super::components::Floats;
use super::embeddings::Embeddings;
use super::error::DatasetError;
use super::ids::Ids;
use super::limits::{check_rows, extension, map_file};
use super::npy::Item;
use super::places::Places;
use super::scalar::Scalar;
use super::sources::{Source, sources};
use super::table::{ColumnNames, Matrix, Table, Wanted};
use super::view::EmbeddingsView;
use super::{bins, hdf5, jsonl, npy, parquet, vecs};

/// What the extensions of embeddings are, for errors.
const EMBEDDINGS: &str =
    ".npy, .fvecs, .bvecs, .fbin, .f16bin, .i8bin, .u8bin, .hdf5, .h5, .parquet, .jsonl or .ndjson";
const RECORDS: &str = ".parquet, .jsonl or .ndjson";

/// The rows of all files.
#[derive(Debug)]
pub(super) struct Records {
    pub rows: usize,
    pub places: Places,
    /// `Some` if wanted.
    pub embeddings: Option<Embeddings>,
    pub ids: Option<Ids>,
    pub attributes: Vec<AttributeColumn>,
    /// The names of all columns, also of those that were not read.
    pub names: BTreeSet<String>,
}

impl Embeddings {
    /// Opens the embeddings that `path` names: a file, all files of a folder, or those that match a glob pattern. Of
    /// Parquet and JSON files, the column `embedding` alone is read. The numbers of other formats are not read unless
    /// they must be converted: see [`Self::check_finite`].
    ///
    /// `.npy` of f32 or f16, row by row and little-endian, `.fvecs`, `.fbin` and `.f16bin` are used in place. Others
    /// are copied into memory: f64 and bf16 as f32, i8 and u8 as f16, several files as one. Of HDF5 files, the dataset `train`
    /// is read; its other integers become f32.
    ///
    /// # Errors
    /// [`DatasetError`] with the path, the expected and the found value.
    pub fn open(path: &Path) -> Result<Self, DatasetError> {
        Self::open_columns(&[path.to_owned()], &ColumnNames::default())
    }

    /// As [`Self::open`], of several paths, with the column that `names` has for embeddings.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_columns(paths: &[PathBuf], names: &ColumnNames) -> Result<Self, DatasetError> {
        let records = read(paths, Wanted::Embeddings, names)?;
        Ok(records.embeddings.expect("wanted embeddings are read"))
    }
}

/// Reads all files that the paths name, in this order.
pub(super) fn read(paths: &[PathBuf], wanted: Wanted, names: &ColumnNames) -> Result<Records, DatasetError> {
    let mut files = Vec::new();
    for path in paths {
        files.extend(sources(path)?);
    }
    let mut files = files.into_iter();
    let no_files = || DatasetError::NoFiles { path: paths.first().cloned().unwrap_or_default() };
    let first = read_file(files.next().ok_or_else(no_files)?, wanted, names)?;
    let mut all = Joined { records: first, components: None };
    for file in files {
        all.append(read_file(file, wanted, names)?, names)?;
    }
    Ok(all.finish())
}

fn read_file(source: Source, wanted: Wanted, names: &ColumnNames) -> Result<Records, DatasetError> {
    let Source { path, partitions } = source;
    let path = path.as_path();
    let found = extension(path)?;
    let records = match found.as_str() {
        "parquet" => of_table(path, parquet::read(path, wanted, names)?, wanted)?,
        "jsonl" | "ndjson" => of_table(path, jsonl::read(path, wanted, names)?, wanted)?,
        _ if wanted == Wanted::AllButEmbeddings => {
            return Err(DatasetError::UnknownExtension { path: path.to_owned(), found, accepted: RECORDS });
        }
        extension => of_embeddings(path, open_embeddings(path, extension)?),
    };
    with_partitions(path, records, partitions, wanted, names)
}

fn of_table(path: &Path, table: Table, wanted: Wanted) -> Result<Records, DatasetError> {
    let embeddings = table.embeddings.map(|matrix| Embeddings::decoded(Places::of(path), matrix));
    if embeddings.is_none() && wanted != Wanted::AllButEmbeddings {
        return Err(DatasetError::NoRows { path: path.to_owned() });
    }
    Ok(Records {
        rows: table.rows,
        places: Places::of(path),
        embeddings,
        ids: table.ids,
        attributes: table.attributes,
        names: table.names.into_iter().collect(),
    })
}

fn of_embeddings(path: &Path, embeddings: Embeddings) -> Records {
    Records {
        rows: embeddings.view().len(),
        places: Places::of(path),
        embeddings: Some(embeddings),
        ids: None,
        attributes: Vec::new(),
        names: BTreeSet::new(),
    }
}

/// Opens a file without ids and attributes.
fn open_embeddings(path: &Path, extension: &str) -> Result<Embeddings, DatasetError> {
    let array = |read: fn(&Path, &[u8], Scalar) -> _, scalar| {
        let file = map_file(path)?;
        let array = read(path, file.bytes(), scalar)?;
        Embeddings::of_array(path, file, &array)
    };
    match extension {
        "npy" => open_npy(path),
        "fvecs" => array(vecs::read_layout, Scalar::F32),
        "bvecs" => array(vecs::read_layout, Scalar::U8),
        "fbin" => array(bins::read_layout, Scalar::F32),
        "f16bin" => array(bins::read_layout, Scalar::F16),
        "i8bin" => array(bins::read_layout, Scalar::I8),
        "u8bin" => array(bins::read_layout, Scalar::U8),
        hdf5 if hdf5::is_hdf5(hdf5) => {
            let (place, matrix) = hdf5::read_train(path)?;
            Ok(Embeddings::decoded(Places::of(&place), matrix))
        }
        other => {
            let (path, found) = (path.to_owned(), other.to_owned());
            Err(DatasetError::UnknownExtension { path, found, accepted: EMBEDDINGS })
        }
    }
}

fn open_npy(path: &Path) -> Result<Embeddings, DatasetError> {
    use Scalar::{Bf16, F16, F32, F64, I8, U8};
    let file = map_file(path)?;
    let bytes = file.bytes();
    let accepted = |item| [F16, F32, F64, Bf16, I8, U8].iter().any(|scalar| item == Item::Number(*scalar));
    let layout = npy::read_layout(path, bytes, 2, accepted, "f32, f16, f64, bf16 ('V2'), i8 or u8")?;
    let Item::Number(scalar) = layout.item else { unreachable!("text is not accepted") };
    let array = layout.array(path, scalar, bytes.len())?;
    Embeddings::of_array(path, file, &array)
}

/// Adds the values that the folders of the file give as attributes.
fn with_partitions(
    path: &Path,
    mut records: Records,
    partitions: Vec<(String, Option<String>)>,
    wanted: Wanted,
    names: &ColumnNames,
) -> Result<Records, DatasetError> {
    for (name, value) in partitions {
        let is_new = records.names.insert(name.clone());
        if wanted == Wanted::Embeddings || !names.is_attribute(&name) {
            continue;
        }
        if !is_new || name == names.id() || name == names.embedding() {
            return Err(DatasetError::DuplicateColumn {
                path: path.to_owned(),
                name,
                first: path.to_owned(),
            });
        }
        let words: Keywords = std::iter::repeat_n(value.as_deref(), records.rows).collect();
        records.attributes.push(AttributeColumn { name, values: ColumnValues::Keyword(words) });
    }
    Ok(records)
}

/// The rows of the files until now.
struct Joined {
    records: Records,
    /// The embeddings in memory, once there are several files.
    components: Option<Matrix>,
}

impl Joined {
    fn append(&mut self, next: Records, names: &ColumnNames) -> Result<(), DatasetError> {
        let path = next.places.first().to_owned();
        let records = &mut self.records;
        let before = records.rows;
        let rows = check_rows(&path, (before + next.rows) as u64)?;
        let other = || records.places.first().to_owned();
        let mismatch = |name: &str, other, Mismatch { expected, found }| DatasetError::ColumnMismatch {
            path: path.clone(),
            other,
            name: name.to_owned(),
            expected,
            found,
        };
        match (&mut records.ids, next.ids) {
            (None, None) => {}
            (Some(Ids::Numbers(ids)), Some(Ids::Numbers(more))) => ids.extend(more),
            (Some(Ids::Text(ids)), Some(Ids::Text(more))) => more.iter().for_each(|id| ids.push(id)),
            (known, found) => {
                let kind = |ids: &Option<Ids>| match ids {
                    None => "no ids",
                    Some(Ids::Numbers(_)) => "integers",
                    Some(Ids::Text(_)) => "text",
                };
                let kinds = Mismatch { expected: kind(known), found: kind(&found) };
                return Err(mismatch(names.id(), other(), kinds));
            }
        }
        for AttributeColumn { name, values } in next.attributes {
            let known = records.attributes.iter_mut().find(|column| column.name == name);
            match known {
                Some(column) => {
                    column.values.append(values).map_err(|kinds| mismatch(&name, other(), kinds))?;
                }
                None => {
                    let mut all = ColumnValues::Keyword(Keywords::default());
                    all.push_nulls(before);
                    all.append(values).expect("nulls are of every type");
                    records.attributes.push(AttributeColumn { name, values: all });
                }
            }
        }
        for column in &mut records.attributes {
            let missing = rows - column.values.len();
            column.values.push_nulls(missing);
        }
        if let Some(next) = next.embeddings {
            let first = records.embeddings.take();
            let matrix = self
                .components
                .get_or_insert_with(|| first.map(|first| matrix_of(&first)).expect("rows before"));
            append_rows(matrix, &next, &records.places)?;
        }
        records.names.extend(next.names);
        records.places.push(&path, before);
        records.rows = rows;
        Ok(())
    }

    fn finish(mut self) -> Records {
        if let Some(matrix) = self.components {
            self.records.embeddings = Some(Embeddings::decoded(self.records.places.clone(), matrix));
        }
        self.records
    }
}

fn matrix_of(embeddings: &Embeddings) -> Matrix {
    let view = embeddings.view();
    let values = match view {
        EmbeddingsView::F32(rows) => Floats::F32(rows.iter().flatten().copied().collect()),
        EmbeddingsView::F16(rows) => Floats::F16(rows.iter().flatten().copied().collect()),
    };
    Matrix { dim: view.dim(), values, flushed: embeddings.flushed() }
}

/// Appends rows: in half precision only if all are.
fn append_rows(matrix: &mut Matrix, next: &Embeddings, places: &Places) -> Result<(), DatasetError> {
    let view = next.view();
    if view.dim() != matrix.dim {
        return Err(DatasetError::DimensionMismatch {
            path: next.path().to_owned(),
            other: places.first().to_owned(),
            expected: matrix.dim,
            found: view.dim(),
        });
    }
    matrix.flushed += next.flushed();
    match (&mut matrix.values, view) {
        (Floats::F32(values), EmbeddingsView::F32(rows)) => {
            rows.iter().for_each(|row| values.extend_from_slice(row))
        }
        (Floats::F32(values), EmbeddingsView::F16(rows)) => {
            rows.iter().for_each(|row| values.extend(row.iter().map(|value| value.to_f32())));
        }
        (Floats::F16(values), EmbeddingsView::F16(rows)) => {
            rows.iter().for_each(|row| values.extend_from_slice(row))
        }
        (Floats::F16(values), EmbeddingsView::F32(rows)) => {
            let mut wide: Vec<f32> = values.iter().map(|value| value.to_f32()).collect();
            rows.iter().for_each(|row| wide.extend_from_slice(row));
            matrix.values = Floats::F32(wide);
        }
    }
    Ok(())
}
