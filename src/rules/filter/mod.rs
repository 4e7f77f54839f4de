//! Filters: conditions on attributes and ids that candidates must meet.
//!
//! What flows in: a [`Filter`], from a request or parsed from text, and the columns of one generation. What flows out:
//! the set of nodes that match, or the place in the filter that is wrong. Nothing here knows excluded ids, scores or
//! gRPC.
//!
//! | file | duty |
//! |---|---|
//! | `conditions.rs` | the tree of conditions |
//! | `expression/`   | its text form: parser and printer |
//! | `resolve.rs`    | validates a filter and binds it to the columns of an index |
//! | `matching.rs`   | computes the set of matching nodes |
//! | `failing.rs`    | finds the clause that rejects one video |
//! | `number.rs`     | exact comparison of numbers of different types |
//! | `error.rs`      | errors in a filter |
//! | `arbitrary.rs`  | random filters for property tests |

#[cfg(test)]
pub(crate) mod arbitrary;
mod conditions;
mod error;
mod expression;
mod failing;
mod matching;
mod number;
mod resolve;

pub use conditions::{Condition, Filter, FilterWork, Number, Time};
pub use error::{FilterProblem, MatchError};
pub use expression::ExpressionError;
pub(crate) use expression::duration;
pub use failing::failing_clause;
pub use matching::matching;
