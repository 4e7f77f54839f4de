//! The columns of a file of records: which are wanted, and what was read.

use super::column::AttributeColumn;
use super::components::Floats;
use super::ids::Ids;

/// The column of ids, unless another one is named.
pub const ID_COLUMN: &str = "video_id";
/// The column of embeddings, unless another one is named.
pub const EMBEDDING_COLUMN: &str = "embedding";

/// Which columns of Parquet and JSON files are ids, embeddings and attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnNames {
    /// The column of ids, which at least one file must have. Default: [`ID_COLUMN`], if there is one.
    pub id: Option<String>,
    /// The column of embeddings. Default: [`EMBEDDING_COLUMN`].
    pub embedding: Option<String>,
    /// The attributes, each of which at least one file must have. Default: every other column.
    pub attributes: Option<Vec<String>>,
    /// Columns that are not read, each of which at least one file must have.
    pub skipped: Vec<String>,
}

impl ColumnNames {
    pub(super) fn id(&self) -> &str {
        self.id.as_deref().unwrap_or(ID_COLUMN)
    }

    pub(super) fn embedding(&self) -> &str {
        self.embedding.as_deref().unwrap_or(EMBEDDING_COLUMN)
    }

    /// Whether a column that is neither ids nor embeddings is an attribute.
    pub(super) fn is_attribute(&self, name: &str) -> bool {
        let is_named = self.attributes.as_ref().is_none_or(|names| names.iter().any(|other| other == name));
        is_named && !self.skipped.iter().any(|other| other == name)
    }

    /// The columns that must exist in at least one file, apart from the embeddings.
    pub(super) fn required(&self) -> impl Iterator<Item = &String> {
        self.id.iter().chain(self.attributes.iter().flatten()).chain(&self.skipped)
    }
}

/// What is wanted of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Only the embeddings, which must exist.
    Embeddings,
    /// All columns; the embeddings must exist.
    All,
    /// All columns except the embeddings.
    AllButEmbeddings,
}

/// What a column is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Ids,
    Embeddings,
    Attribute,
}

impl Wanted {
    /// What the column is read as; `None` if it is not read.
    pub(super) fn role(self, name: &str, names: &ColumnNames) -> Option<Role> {
        if name == names.embedding() {
            return (self != Wanted::AllButEmbeddings).then_some(Role::Embeddings);
        }
        if self == Wanted::Embeddings {
            return None;
        }
        if name == names.id() {
            return Some(Role::Ids);
        }
        names.is_attribute(name).then_some(Role::Attribute)
    }
}

/// The columns that were read.
#[derive(Debug)]
pub(super) struct Table {
    /// Rows of every column.
    pub rows: usize,
    /// The names of all columns of the file, in its order, also of those that were not read.
    pub names: Vec<String>,
    /// `Some` if wanted.
    pub embeddings: Option<Matrix>,
    /// `Some` if wanted and there.
    pub ids: Option<Ids>,
    /// In the order of the file.
    pub attributes: Vec<AttributeColumn>,
}

/// Embeddings in memory.
#[derive(Debug)]
pub(super) struct Matrix {
    pub dim: usize,
    /// `[rows × dim]` row-major.
    pub values: Floats,
    /// How many numbers lost their range when they became components: they are not 0 and smaller than any normal `f32`.
    pub flushed: u64,
}
