//! Attributes: typed columns beside the embeddings, kept in the frozen index and returned on request.
//!
//! What flows in: Arrow columns. What flows out: sections of the frozen index and, from a mapped one,
//! typed values. Nothing here knows of graphs.

mod column;
mod freeze;
mod value;

pub use column::Columns;
pub use freeze::{AttributeError, CheckedColumn, FrozenColumn, check};
pub use value::Value;
