//! Reports of the quality gate beside a generation: what was measured before it was to answer, and what spoke against
//! it.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::beside::{Report, Tag};
use super::error::StoreError;
use super::store::IndexStore;
use super::view::Index;

/// What the quality gate found of one generation.
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
    /// Checksum of its section table, which holds the checksums of the sections.
    pub table_crc32c: u32,
    /// When it was measured.
    pub created_at: Timestamp,
    /// What was found.
    pub found: GateFindings,
    /// What speaks against the generation, with expected and found; nothing if it may answer.
    pub problems: Vec<String>,
}

/// What was measured of a generation, and of the one that answered then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateFindings {
    /// The generation that answered then; 0 if it cannot be compared with.
    pub current: u64,
    /// Nodes that cannot be reached from the entry point.
    pub unreachable: u32,
    /// Users that were asked for; 0 if there were none, and then nothing below was measured.
    pub queries: u32,
    /// Where they are from, in words.
    pub source: String,
    /// Hits per query.
    pub k: u32,
    /// Candidate list size.
    pub ef_search: u32,
    /// Of a million true neighbors, how many were found.
    pub recall_ppm: u32,
    /// The same of the generation that answered then.
    pub current_recall_ppm: Option<u32>,
    /// Of a million of its hits, how many the new one has too.
    pub overlap_ppm: Option<u32>,
    /// Time that 99 in 100 queries take at most, in nanoseconds.
    pub p99_ns: u64,
    /// The same of the generation that answered then.
    pub current_p99_ns: Option<u64>,
}

/// What the quality gate makes of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What was found.
    pub found: GateFindings,
    /// What speaks against the generation; nothing if it may answer.
    pub problems: Vec<String>,
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

    fn problem(&self) -> Option<String> {
        None
    }

    fn bad(path: PathBuf, problem: String) -> StoreError {
        StoreError::BadGateReport { path, problem }
    }
}

impl IndexStore {
    /// The newest report of the quality gate on an open generation that can be read, if there is one. Those passed
    /// over are given with the reason, newest first.
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

    /// Adds a report of the quality gate on an open generation, which is the one that counts from now on.
    ///
    /// # Errors
    /// If the file cannot be written; then nothing has changed.
    pub fn add_gate_report(
        &self,
        generation: u64,
        index: &Index,
        verdict: &Verdict,
    ) -> Result<GateReport, StoreError> {
        let created_at = Timestamp::now();
        self.add_report(generation, index, |tag| GateReport {
            format_version: tag.format_version,
            generation: tag.generation,
            report: tag.number,
            bytes: tag.bytes,
            table_crc32c: tag.table_crc32c,
            created_at,
            found: verdict.found.clone(),
            problems: verdict.problems.clone(),
        })
    }
}
