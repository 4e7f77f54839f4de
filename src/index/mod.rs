//! The frozen index: one immutable file per generation, mapped and served as it lies.
//!
//! What flows in: the graph, vectors, ids and attribute columns of a finished build. What flows out:
//! typed slices of the mapped file. Nothing here knows how a graph was built or how it is searched.
//!
//! ```text
//! DIR/generation-00000001.index     immutable; written under a temporary name, synced, renamed
//! DIR/manifest-00000001.json        create-once; the newest valid one names the current generation
//!
//! generation file, little-endian
//!   0   8  magic "SHRTLIST"              16  8  bytes in the whole file
//!   8   4  format version (1)            24  4  crc32c of the section table
//!  12   4  number of sections            28  4  crc32c of bytes 0..28
//!  32  32  zero                          64     section table, 32 bytes each:
//!                                               kind u32 · ordinal u32 · offset u64 · bytes u64 · crc32c u32 · zero u32
//!  then the sections, each at a multiple of 64, zero bytes between them
//! ```
//!
//! | file | duty |
//! |---|---|
//! | `format.rs`   | header, section table, section kinds: parse, check, encode |
//! | `metadata.rs` | the small facts of a generation (JSON section) |
//! | `writer.rs`   | sections in, one staged file out |
//! | `view.rs`     | [`Index`]: open, check, cast |
//! | `verify.rs`   | everything that opening does not look at |
//! | `store.rs`    | generations and manifests in a folder |

mod error;
mod format;
mod metadata;
mod store;
mod verify;
mod view;
mod writer;

pub use error::{IndexError, StoreError};
pub use format::{FORMAT_VERSION, HEADER_BYTES, Section, SectionKind};
pub use metadata::{
    AttributeKind, AttributeSchema, BuildFacts, Codes, HeldOutRecall, Metadata, RepairReport, TrainingReport,
};
pub use store::{BuildPhase, IndexStore, Manifest, PublishReason};
pub use verify::{VerifyReport, verify};
pub use view::Index;
pub use writer::{IndexWriter, StagedIndex};
