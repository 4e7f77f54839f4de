//! Score terms: what a request adds to the scores of videos for their attributes.
//!
//! What flows in: [`ScoreTerm`]s by attribute name, and the columns of one generation. What flows out: [`BoundTerms`], which give what
//! is added to the score of a node, exactly or nearly. Nothing here knows of embeddings, graphs or gRPC.
//!
//! | file | duty |
//! |---|---|
//! | `term.rs`  | a term, and what it makes of a value |
//! | `text.rs`  | its text form |
//! | `bound.rs` | terms bound to the columns of an index |
//! | `nearly.rs` | what terms add, approximately, from one byte per node and term |
//! | `error.rs` | errors in terms |

mod bound;
mod error;
mod nearly;
mod term;
mod text;

pub use bound::BoundTerms;
pub use error::{BindError, TermError, TermField, TermProblem};
pub use term::{ScoreTerm, TermForm};
