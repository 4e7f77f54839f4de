//! Excluded videos: the ids that a request lists, a Roaring bitmap or a Bloom filter.
//!
//! What flows in: an unchecked [`Exclude`]. What flows out: an [`Exclusion`], which answers whether a video is excluded.
//! Nothing here knows filters, indexes or gRPC.
//!
//! | file | duty |
//! |---|---|
//! | `exclusion.rs`      | decodes and checks an [`Exclude`]; lookup in all three forms |
//! | `serialized_ids.rs` | zero-copy lookup in the serialized bitmap |
//! | `id_set.rs`         | an owned hash set of ids |
//! | `bloom.rs`          | the Bloom filter of the proto |
//! | `error.rs`          | errors in an [`Exclude`] |

mod bloom;
mod error;
mod exclusion;
mod id_set;
mod serialized_ids;

pub use bloom::Bloom;
pub use error::{ExcludeField, ExclusionError};
pub use exclusion::{Exclude, Exclusion};
