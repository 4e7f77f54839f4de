//! What every other module shares, and what knows none of them.
//!
//! | file | duty |
//! |---|---|
//! | `id.rs`          | [`VideoId`](id::VideoId) outside, [`NodeId`](id::NodeId) inside |
//! | `metric.rs`      | how embeddings are compared |
//! | `element.rs`     | the types an embedding component is stored in |
//! | `mapped_file.rs` | a read-only memory map |
//! | `staged_file.rs` | a file that is written whole, then renamed into place |
//! | `interrupt.rs`   | whether long work should stop before it is done |
//! | `text.rs`        | text from outside, made safe for a terminal |

pub mod element;
pub mod id;
pub mod interrupt;
pub mod mapped_file;
pub mod metric;
pub mod staged_file;
pub mod text;
