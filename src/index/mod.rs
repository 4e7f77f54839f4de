//! The frozen index: one immutable file per generation, mapped and served as it lies.
//!
//! What flows in: the graph, vectors, ids and attribute columns of a finished build. What flows out:
//! typed slices of the mapped file. Nothing here knows how a graph was built or how it is searched.
//!
//! ```text
//! DIR/generation-00000001.index        immutable; written under a temporary name, synced, renamed
//! DIR/calibration-00000001-0001.json   create-once, of generation 1; the newest valid one counts
//! DIR/gate-00000001-0001.json          create-once, of generation 1; the newest valid one counts
//! DIR/manifest-00000001.json           create-once; the newest valid one names the current generation
//!
//! generation file, little-endian
//!   0   8  magic "SHRTLIST"              16  8  bytes in the whole file
//!   8   4  version: FORMAT_VERSION       24  4  crc32c of the section table
//!  12   4  number of sections            28  4  crc32c of bytes 0..28
//!  32  32  zero                          64     section table, 32 bytes each:
//!                                               kind u32 · ordinal u32 · offset u64 · bytes u64 · crc32c u32 · zero u32
//!  then the sections, each at a multiple of 64, zero bytes between them
//! ```
//!
//! | file | duty |
//! |---|---|
//! | `format.rs`       | header and section table: parse, check, encode |
//! | `section.rs`      | what sections there are |
//! | `metadata.rs`     | the small facts of a generation (JSON section) |
//! | `writer.rs`       | sections in; one staged file out, or an index in memory |
//! | `view.rs`         | [`Index`]: open, check, cast |
//! | `lookup.rs`       | the nodes of videos |
//! | `resident.rs`     | the hot sections copied onto huge pages |
//! | `verify.rs`       | everything that opening does not look at |
//! | `store.rs`        | generations and manifests in a folder |
//! | `beside.rs`       | reports beside a generation |
//! | `gate_report.rs`  | what the quality gate found of it |
//! | `calibration.rs`  | the recall that each effort measured on it |
//! | `recall_curve.rs` | effort for recall, and recall for effort |
//! | `sealed_json.rs`  | create-once JSON with a checksum |

mod beside;
mod calibration;
mod error;
mod format;
mod gate_report;
mod lookup;
mod metadata;
mod recall_curve;
mod resident;
mod sealed_json;
mod section;
mod store;
mod verify;
mod view;
mod writer;

pub use crate::quantize::Codes;
pub use calibration::Calibration;
pub use error::{IndexError, StoreError};
pub use format::{FILTER_VERSION, FORMAT_VERSION, HEADER_BYTES, MARKS_VERSION, WORD_SLOTS_VERSION};
pub use gate_report::{GateFindings, GateReport, Verdict};
pub use metadata::{
    AttributeKind, AttributeSchema, BuildFacts, HeldOutRecall, Metadata, RepairReport, TrainingReport,
};
pub use recall_curve::{QuerySource, RecallCurve, RecallCurves, RecallPoint, Uncovered};
pub use resident::{MemoryMode, Residence};
pub use section::{Section, SectionKind};
pub use store::{BuildPhase, BuildTimes, IndexStore, Manifest, Measured, PublishReason};
pub use verify::{VerifyReport, verify};
pub use view::Index;
pub use writer::{IndexWriter, StagedIndex};
