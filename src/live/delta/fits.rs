//! Whether an upsert fits a generation: the one check that writes and the replay of the log share.

use crate::index::Index;
use crate::live::delta::rows::{UpsertError, check_attributes, check_embedding};
use crate::live::log::mutation::Upsert;

/// Why an upsert does not fit a generation.
#[derive(Debug, PartialEq)]
pub(crate) enum Misfit {
    /// Its embedding is of another model.
    EmbeddingModel,
    /// Its embedding has another dimension, or a value that cannot be stored.
    Embedding(UpsertError),
    /// It has attributes that the generation does not have, or values of another type.
    Attributes(UpsertError),
}

/// Checks that an upsert fits a generation. An upsert without a model is of the model of the generation.
///
/// A write is checked once, against the current generation. The replay of the log checks again, because a later
/// generation may have another model, dimension or schema.
///
/// # Errors
/// The first [`Misfit`].
pub(crate) fn check_upsert(upsert: &Upsert, base: &Index) -> Result<(), Misfit> {
    let facts = base.metadata();
    if upsert.embedding_model.is_some() && upsert.embedding_model != facts.embedding_model {
        return Err(Misfit::EmbeddingModel);
    }
    check_embedding(&upsert.embedding, base.dim(), facts.dtype, facts.metric).map_err(Misfit::Embedding)?;
    check_attributes(upsert, &facts.attributes).map_err(Misfit::Attributes)
}
