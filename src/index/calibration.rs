//! Calibrations beside a generation: what recall each effort measured on it.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::beside::{Report, Tag};
use super::error::StoreError;
use super::recall_curve::RecallCurves;
use super::store::IndexStore;
use super::view::Index;

/// What recall each effort measured on one generation.
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
    /// Checksum of its section table, which holds the checksums of the sections.
    pub table_crc32c: u32,
    /// When this calibration was written.
    pub created_at: Timestamp,
    /// What was measured.
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

    fn problem(&self) -> Option<String> {
        self.recall.problem()
    }

    fn bad(path: PathBuf, problem: String) -> StoreError {
        StoreError::BadCalibration { path, problem }
    }
}

impl IndexStore {
    /// The calibrations of a generation on disk, ascending; not all of them need be valid.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn calibrations(&self, generation: u64) -> Result<Vec<u64>, StoreError> {
        self.report_numbers::<Calibration>(generation)
    }

    /// Reads one calibration of `index`, which is the open `generation`, and checks it.
    ///
    /// # Errors
    /// [`StoreError::BadCalibration`] if it is damaged or was measured on something else.
    pub fn read_calibration(
        &self,
        generation: u64,
        number: u64,
        index: &Index,
    ) -> Result<Calibration, StoreError> {
        self.read_report(generation, number, index)
    }

    /// The newest calibration of an open generation that can be read, if there is one. Those passed over
    /// are given with the reason, newest first.
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

    /// Adds a calibration of an open generation, which is the one that counts from now on.
    ///
    /// # Errors
    /// If the file cannot be written; then nothing has changed.
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
