//! The flags of a catalog in files.

use std::path::PathBuf;

use crate::base::metric::Metric;
use crate::dataset::{
    ColumnNames, Dataset, DatasetFiles, DatasetOptions, Embeddings, IdSource, ReadReport, metric_of,
};

/// The files of a catalog, and what their columns are.
#[derive(Debug, clap::Args)]
pub struct CatalogArguments {
    /// The embeddings: .npy (f32, f16, f64, bf16, i8 or u8), .fvecs, .bvecs, .fbin, .f16bin, .i8bin, .u8bin, .hdf5 or .h5
    /// (the rows of a public benchmark), or records in .parquet or .jsonl, whose other columns are attributes.
    ///
    /// A folder stands for all files in it, in the order of their names, and a pattern such as 'part-*.parquet' for those
    /// that match. Names that begin with _ or . are not read. A folder named region=US gives its files the attribute
    /// region. Several paths are one catalog, in this order.
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    embeddings: Vec<PathBuf>,
    /// The video ids: .npy (integers of 4 or 8 bytes, or text), or .txt with one id per line. Default: row numbers, if no
    /// other file has ids.
    #[arg(long)]
    ids: Option<PathBuf>,
    /// The attributes: records in .parquet or .jsonl, in files, folders or patterns as --embeddings.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    attributes: Vec<PathBuf>,
    /// The column of ids in records: integers, text or UUIDs. Default: video_id, if there is one.
    #[arg(long, value_name = "NAME")]
    id_column: Option<String>,
    /// The column of embeddings in records. Default: embedding.
    #[arg(long, value_name = "NAME")]
    embedding_column: Option<String>,
    /// The columns that are attributes. Default: all others.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    attribute_columns: Option<Vec<String>>,
    /// Columns that are not read.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    skip_columns: Vec<String>,
    /// Scale every embedding to norm 1.
    #[arg(long)]
    normalize: bool,
}

impl CatalogArguments {
    /// Reads the catalog, and says where the ids are from.
    ///
    /// # Errors
    /// If the files are no valid catalog for `metric`.
    pub fn read(&self, metric: Metric) -> anyhow::Result<(Dataset, ReadReport)> {
        let files = DatasetFiles {
            embeddings: self.embeddings.clone(),
            ids: self.ids.clone(),
            attributes: self.attributes.clone(),
        };
        let options = DatasetOptions { metric, columns: self.columns(), normalize: self.normalize };
        let (dataset, report) = Dataset::read(&files, &options)?;
        for path in &self.embeddings {
            if let Some(named) = metric_of(path)?.filter(|named| *named != metric) {
                note!("{}: compared by --metric {metric}, where the file says {named}", path.display());
            }
        }
        match &report.ids {
            // The commands say what this means for them.
            IdSource::RowNumbers => {}
            source if report.has_text_ids => note!("ids: {source}, text; requests take it as text_id"),
            source => note!("ids: {source}"),
        }
        note_flushed("embeddings", &dataset.embeddings);
        Ok((dataset, report))
    }

    /// Reads the embeddings of users, whose column has the same name as that of the catalog.
    ///
    /// # Errors
    /// If the files are not valid.
    pub fn read_users(&self, paths: &[PathBuf]) -> anyhow::Result<Embeddings> {
        let users = Embeddings::open_columns(paths, &self.columns())?;
        note_flushed("training queries", &users);
        Ok(if self.normalize { users.normalized()? } else { users })
    }

    fn columns(&self) -> ColumnNames {
        ColumnNames {
            id: self.id_column.clone(),
            embedding: self.embedding_column.clone(),
            attributes: self.attribute_columns.clone(),
            skipped: self.skip_columns.clone(),
        }
    }
}

fn note_flushed(of: &str, embeddings: &Embeddings) {
    let flushed = embeddings.flushed();
    if flushed > 0 {
        note!(
            "{of}: numbers closer to 0 than {:.1e}, of which single precision keeps few digits or none: {flushed}",
            f32::MIN_POSITIVE
        );
    }
}
