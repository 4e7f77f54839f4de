//! The native module of the Python package `shortlist`.
//!
//! What flows in: arrays and options that the Python package checked and converted. What flows out: arrays, and
//! exceptions of the classes in `shortlist._errors`. The interpreter lock is released while the library computes.
//!
//! | file | duty |
//! |---|---|
//! | `index.rs`   | the class `Index`: open, search, explain |
//! | `builder.rs` | builds, which Ctrl-C cancels |
//! | `client/`    | the classes `Client` and `Stream`: calls to servers |
//! | `request.rs` | arguments become search requests |
//! | `answers.rs` | answers become arrays |
//! | `columns.rs` | attribute columns, in both directions |
//! | `arrays.rs`  | NumPy arrays as embeddings, without a copy |
//! | `pools.rs`   | thread pools that outlive a call, but not a fork |
//! | `error.rs`   | errors of the library become exceptions |

mod answers;
mod arrays;
mod builder;
mod client;
mod columns;
mod error;
mod ids;
mod index;
mod pools;
mod request;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    #[pymodule_export]
    use crate::builder::build;
    #[pymodule_export]
    use crate::client::{Client, Stream};
    #[pymodule_export]
    use crate::columns::Columns;
    #[pymodule_export]
    use crate::index::Index;
}
