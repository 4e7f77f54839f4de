//! The engine without a server: build an index, or open one, and search it in this process.
//!
//! What flows in: a [`Dataset`](crate::Dataset) or a folder of generations, and search requests. What flows out: an
//! [`Index`] and its answers. Nothing here knows of gRPC or of writes; [`Engine`](crate::Engine) takes writes.
//!
//! | file | duty |
//! |---|---|
//! | `index.rs`   | [`Index`]: one generation, opened or built, and its searches |
//! | `builder.rs` | [`IndexBuilder`]: build parameters; an index in memory, or a published generation |

mod builder;
mod index;

pub use builder::IndexBuilder;
pub use index::Index;
