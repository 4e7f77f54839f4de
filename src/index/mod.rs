//! The frozen index: one immutable file per generation, and the folder that holds the generations of an index.
//!
//! What flows in: the graph, vectors, ids and attribute columns of a finished build. What flows out: typed slices of a
//! memory-mapped file. This module does not know how a graph is built or how it is searched.
//!
//! | folder | duty |
//! |---|---|
//! | `generation/` | one generation file: byte layout, sections, metadata, writer, view, verification |
//! | `store/`      | a folder of generations: manifests, calibrations, gate reports, publishing, removal |
//!
//! `store` imports `generation`, never the other way around.

mod generation;
mod store;

pub use crate::quantize::Codes;
pub use generation::{
    AttributeKind, AttributeSchema, BuildFacts, CheckedUpTo, CodeCheck, ElementType, FILTER_VERSION,
    FORMAT_VERSION, HEADER_BYTES, Heat, HeldOutRecall, Index, IndexError, IndexWriter, LEVELS_VERSION,
    Length, MARKS_VERSION, MAX_DEGREE, MAX_MOST_COPIED, MemoryMode, Metadata, RepairReport, Rescoring,
    Residence, SECTIONS, Section, SectionKind, SectionSet, SectionSpec, StagedIndex, TrainingReport,
    VerifyReport, WORD_SLOTS_VERSION, check_vectors, verify,
};
pub use store::{
    BuildPhase, BuildTimes, Calibration, GENERATION_NAME, GateFindings, GateReport, IndexStore,
    MANIFEST_NAME, Manifest, Measured, PortableReport, PublishReason, QuerySource, RecallCurve, RecallCurves,
    RecallPoint, Refusal, RefusalReason, StoreError, Uncovered, Verdict, generation_name, is_report_of,
    manifest_name, number_in, seal, unseal,
};
