//! Reports of the quality gate: the measurements of a generation before it is served, and the reasons against serving
//! it.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::folder::IndexStore;
use super::refusal::{Refusal, RefusalReason};
use super::reports::{Report, Tag};
use crate::index::generation::Index;

/// The result of the quality gate for one generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateReport {
    /// The version of these fields: 1.
    pub format_version: u32,
    /// The generation that was measured.
    pub generation: u64,
    /// The number of this report among those of the generation.
    pub report: u64,
    /// Length of the generation file.
    pub bytes: u64,
    /// Checksum of its section table, which contains the checksums of the sections.
    pub table_crc32c: u32,
    /// When it was measured.
    pub created_at: Timestamp,
    /// The measurements.
    pub found: GateFindings,
    /// The problems that keep the generation from being served, with expected and found; empty if it may be served.
    pub problems: Vec<String>,
    /// The reason of each problem; empty in reports older than this field.
    // Skipped if empty: the checksum of an older report covers only the fields that it was written with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<RefusalReason>,
}

/// Measurements of a generation, and of the generation that was served at that time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateFindings {
    /// The generation that was served at that time; 0 if the two cannot be compared.
    pub current: u64,
    /// Nodes that cannot be reached from the entry point.
    pub unreachable: u32,
    /// Number of queries. If 0, nothing was measured: `source` says why, and the fields below it have no meaning.
    pub queries: u32,
    /// The source of the queries, in words.
    pub source: String,
    /// Hits per query.
    pub k: u32,
    /// Candidate list size.
    pub ef_search: u32,
    /// Recall in parts per million.
    pub recall_ppm: u32,
    /// Recall of the served generation, in parts per million.
    pub current_recall_ppm: Option<u32>,
    /// Share of the hits of the served generation that the new one returns too, in parts per million.
    pub overlap_ppm: Option<u32>,
    /// 99th percentile of query latency, in nanoseconds.
    pub p99_ns: u64,
    /// 99th percentile of query latency of the served generation, in nanoseconds.
    pub current_p99_ns: Option<u64>,
}

/// The verdict of the quality gate on a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The measurements.
    pub found: GateFindings,
    /// What speaks against serving the generation; empty if it may be served.
    pub refusals: Vec<Refusal>,
}

impl GateReport {
    fn new(tag: Tag, verdict: &Verdict) -> Self {
        Self {
            format_version: tag.format_version,
            generation: tag.generation,
            report: tag.number,
            bytes: tag.bytes,
            table_crc32c: tag.table_crc32c,
            created_at: Timestamp::now(),
            found: verdict.found.clone(),
            problems: verdict.refusals.iter().map(|refusal| refusal.problem.clone()).collect(),
            reasons: verdict.refusals.iter().map(|refusal| refusal.reason).collect(),
        }
    }

    /// A report about an open generation that is in no file. Its number is 0.
    pub fn unstored(generation: u64, index: &Index, verdict: &Verdict) -> Self {
        Self::new(Tag::new::<Self>(generation, 0, index), verdict)
    }
}

impl Report for GateReport {
    const WORD: &'static str = "gate";
    const VERSION: u32 = 1;

    fn tag(&self) -> Tag {
        Tag {
            format_version: self.format_version,
            generation: self.generation,
            number: self.report,
            bytes: self.bytes,
            table_crc32c: self.table_crc32c,
        }
    }

    fn renumbered(&self, generation: u64, number: u64) -> Self {
        Self { generation, report: number, ..self.clone() }
    }

    fn problem(&self) -> Option<String> {
        None
    }

    fn bad(path: PathBuf, problem: String) -> StoreError {
        StoreError::BadGateReport { path, problem }
    }
}

impl IndexStore {
    /// Returns the newest readable report of the quality gate about an open generation, if any, and the error of each
    /// newer one, newest first.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn open_gate_report(
        &self,
        generation: u64,
        index: &Index,
    ) -> Result<(Option<GateReport>, Vec<StoreError>), StoreError> {
        self.open_report(generation, index)
    }

    /// Adds a report of the quality gate about an open generation, which counts from now on.
    ///
    /// # Errors
    /// If the file cannot be written; then nothing is changed.
    pub fn add_gate_report(
        &self,
        generation: u64,
        index: &Index,
        verdict: &Verdict,
    ) -> Result<GateReport, StoreError> {
        self.add_report(generation, index, |tag| GateReport::new(tag, verdict))
    }
}
