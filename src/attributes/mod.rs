//! Attributes: typed columns next to the embeddings, stored in the frozen index and returned on request.
//!
//! What flows in: attribute columns of a dataset. What flows out: sections of the frozen index and, from an open one,
//! the value of a node, the nodes of a value, and attribute columns again. Nothing here knows of graphs.
//!
//! | file | duty |
//! |---|---|
//! | `freeze.rs` | columns to sections |
//! | `bytes.rs` | values to the bytes of a section |
//! | `thaw.rs`   | sections to columns |
//! | `invert.rs` | the inverted sections: the nodes of every word, and the nodes sorted by value |
//! | `column.rs` | [`Columns`]: opens the sections; values of nodes |
//! | `words.rs`  | the dictionary of a column and the nodes of each word |
//! | `posting.rs` | the nodes of one word, as the bytes of a Roaring bitmap |
//! | `sorted.rs` | the nodes of a range of numbers or times |
//! | `numbers.rs` | the numbers or times of single nodes |
//! | `levels.rs` | numbers and times in one byte per node |
//! | `keys.rs`   | the values of a node as integers to count by |
//! | `value.rs`  | [`Value`]: one value of any type |
//! | `verify.rs` | checks of everything that opening does not read |

mod bytes;
mod column;
mod freeze;
mod invert;
mod keys;
mod levels;
mod numbers;
mod posting;
mod sorted;
mod thaw;
mod value;
mod verify;
mod words;

pub use column::Columns;
pub use freeze::{AttributeError, CheckedColumn, FrozenColumn, check};
pub use keys::{ValueKeys, keys_of_words};
pub use levels::{Levels, table_of};
pub use numbers::Numbers;
pub use sorted::{Scalar, Sorted};
pub use thaw::empty_column;
pub use value::Value;
pub use words::{Postings, Words};
