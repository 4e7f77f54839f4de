//! Calibrations: reports with the recall that each effort reaches on a generation.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::folder::IndexStore;
use super::recall_curve::RecallCurves;
use super::reports::{Report, Tag};
use crate::index::generation::Index;

/// The recall of each effort, measured on one generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// The version of these fields: 1.
    pub format_version: u32,
    /// The generation that was measured.
    pub generation: u64,
    /// The number of this calibration among those of the generation.
    pub calibration: u64,
    /// Length of the generation file.
    pub bytes: u64,
    /// Checksum of its section table, which contains the checksums of the sections.
    pub table_crc32c: u32,
    /// When this calibration was written.
    pub created_at: Timestamp,
    /// Recall against effort.
    pub recall: RecallCurves,
}

impl Report for Calibration {
    const WORD: &'static str = "calibration";
    const VERSION: u32 = 1;

    fn tag(&self) -> Tag {
        Tag {
            format_version: self.format_version,
            generation: self.generation,
            number: self.calibration,
            bytes: self.bytes,
            table_crc32c: self.table_crc32c,
        }
    }

    fn renumbered(&self, generation: u64, number: u64) -> Self {
        Self { generation, calibration: number, ..self.clone() }
    }

    fn problem(&self) -> Option<String> {
        self.recall.problem()
    }

    fn bad(path: PathBuf, problem: String) -> StoreError {
        StoreError::BadCalibration { path, problem }
    }
}

impl IndexStore {
    /// Returns the numbers of the calibrations of a generation, ascending, valid or not.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn calibrations(&self, generation: u64) -> Result<Vec<u64>, StoreError> {
        self.report_numbers::<Calibration>(generation)
    }

    /// Reads and checks one calibration of `index`, which is the open `generation`.
    ///
    /// # Errors
    /// [`StoreError::BadCalibration`] if it is damaged or was measured on another file.
    pub fn read_calibration(
        &self,
        generation: u64,
        number: u64,
        index: &Index,
    ) -> Result<Calibration, StoreError> {
        self.read_report(generation, number, index)
    }

    /// Returns the newest readable calibration of an open generation, if any, and the error of each newer one, newest
    /// first.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn open_calibration(
        &self,
        generation: u64,
        index: &Index,
    ) -> Result<(Option<Calibration>, Vec<StoreError>), StoreError> {
        self.open_report(generation, index)
    }

    /// Adds a calibration of an open generation, which counts from now on.
    ///
    /// # Errors
    /// If the file cannot be written; then nothing is changed.
    pub fn add_calibration(
        &self,
        generation: u64,
        index: &Index,
        recall: RecallCurves,
    ) -> Result<Calibration, StoreError> {
        let created_at = Timestamp::now();
        self.add_report(generation, index, |tag| Calibration {
            format_version: tag.format_version,
            generation: tag.generation,
            calibration: tag.number,
            bytes: tag.bytes,
            table_crc32c: tag.table_crc32c,
            created_at,
            recall: recall.clone(),
        })
    }
}
