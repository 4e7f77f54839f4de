//! Attributes: typed columns beside the embeddings, kept in the frozen index and returned on request.
//!
//! What flows in: Arrow columns. What flows out: sections of the frozen index and, from an open one, the
//! values of a node, the nodes of a value and Arrow columns again. Nothing here knows of graphs.
//!
//! | file | duty |
//! |---|---|
//! | `freeze.rs` | Arrow columns become sections |
//! | `thaw.rs`   | sections become Arrow columns |
//! | `invert.rs` | the nodes of every word, and the nodes by value |
//! | `column.rs` | [`Columns`]: open, values of nodes |
//! | `words.rs`  | nodes of a word |
//! | `posting.rs` | the same as bytes |
//! | `sorted.rs` | nodes of a range of numbers or times |
//! | `keys.rs`   | the values of a node as numbers, to count by |
//! | `verify.rs` | everything that opening does not look at |

mod column;
mod freeze;
mod invert;
mod keys;
mod posting;
mod sorted;
mod thaw;
mod value;
mod verify;
mod words;

pub use column::Columns;
pub use freeze::{AttributeError, CheckedColumn, FrozenColumn, check, list_item, stored_type};
pub use keys::{ValueKeys, keys_of_words};
pub use sorted::{Scalar, Sorted};
pub use value::Value;
pub use words::{Postings, Words};
