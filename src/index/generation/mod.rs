//! One generation: an immutable file of sections, written once and then memory-mapped.
//!
//! What flows in: the sections of a finished build, as bytes. What flows out: [`Index`], which returns typed slices of
//! the mapped file. This folder does not know which folder a file is published in, how a graph is built, or how it is
//! searched.
//!
//! # Byte layout
//!
//! Everything is little-endian. A file is a 64-byte header, a table with one 32-byte entry per section, and the
//! sections. Every section starts at the first multiple of 64 after the end of the one before it; the bytes in between
//! are zero. Table entries and sections are sorted by `(kind, ordinal)`, and no pair occurs twice. The file ends with
//! its last section.
//!
//! ```text
//! header                                      section table entry
//! offset bytes                                offset bytes
//!   0      8   magic "SHRTLIST"                 0      4   kind: number of a SectionKind
//!   8      4   format version                   4      4   ordinal: attribute column, or 0
//!  12      4   number of sections               8      8   offset of the section in the file
//!  16      8   length of the whole file        16      8   length of the section
//!  24      4   crc32c of the section table     24      4   crc32c of the section
//!  28      4   crc32c of bytes 0..28           28      4   zero
//!  32     32   zero
//!  64          section table
//! ```
//!
//! The checksums of the sections are in the section table, whose checksum is in the header. Two files with the same
//! length and the same table checksum are therefore the same generation.
//!
//! [`SECTIONS`] lists every section kind with its element type, its length as a function of [`Metadata`], and the
//! format versions that have it. To add a section, add a variant to [`SectionKind`] and a row to that table.
//!
//! | file | duty |
//! |---|---|
//! | `metadata.rs`        | the facts of a generation (a JSON section) |
//! | `section.rs`         | the table of section kinds |
//! | `error.rs`           | [`IndexError`] |
//! | `format.rs`          | header and section table: parse, check, encode |
//! | `resident.rs`        | a copy of the hot sections on huge pages |
//! | `mapped_sections.rs` | the sections of a mapped file: lookup, cast, page handling, checksums |
//! | `opening.rs`         | the checks that opening a file makes |
//! | `view.rs`            | [`Index`]: an open generation with typed accessors |
//! | `lookup.rs`          | video id to node |
//! | `verify.rs`          | the checks that opening a file does not make |
//! | `writer.rs`          | sections in; one staged file, or an index in memory, out |

mod error;
mod format;
mod lookup;
mod mapped_sections;
mod metadata;
mod opening;
mod resident;
mod section;
mod verify;
mod view;
mod writer;

pub use error::IndexError;
pub use format::{
    FILTER_VERSION, FORMAT_VERSION, HEADER_BYTES, LEVELS_VERSION, MARKS_VERSION, WORD_SLOTS_VERSION,
};
pub use mapped_sections::CheckedUpTo;
pub use metadata::{
    AttributeKind, AttributeSchema, BuildFacts, CodeCheck, HeldOutRecall, Metadata, RepairReport, Rescoring,
    TrainingReport,
};
pub use opening::{MAX_DEGREE, MAX_MOST_COPIED};
pub use resident::{MemoryMode, Residence};
pub use section::{ElementType, Heat, Length, SECTIONS, Section, SectionKind, SectionSpec};
pub use verify::{VerifyReport, check_vectors, verify};
pub use view::Index;
pub use writer::{IndexWriter, SectionSet, StagedIndex};
