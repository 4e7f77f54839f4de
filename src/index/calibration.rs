//! Calibrations beside a generation: what recall each effort measured on it.
//!
//! What flows in: curves. What flows out: a file of their own, created once, and the newest that can be
//! read. A generation never changes, so a calibration is tied to it by number, length and checksum.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::recall_curve::RecallCurves;
use super::sealed_json;
use super::store::{IndexStore, PUBLISH_ATTEMPTS};
use super::view::Index;

/// The version of the fields of a calibration.
const CALIBRATION_VERSION: u32 = 1;
/// The word for a calibration in its file.
const CALIBRATION: &str = "calibration";

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

impl IndexStore {
    fn calibration_path(&self, generation: u64, number: u64) -> PathBuf {
        self.dir().join(format!("{}{number:04}.json", prefix(generation)))
    }

    /// The calibrations of a generation on disk, ascending; not all of them need be valid.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn calibrations(&self, generation: u64) -> Result<Vec<u64>, StoreError> {
        self.numbered(&prefix(generation), ".json")
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
        let path = self.calibration_path(generation, number);
        let bad = |problem: String| StoreError::BadCalibration { path: path.clone(), problem };
        let calibration: Calibration = sealed_json::read(&path, CALIBRATION, bad)?;
        let found = calibration.format_version;
        if found != CALIBRATION_VERSION {
            return Err(bad(format!(
                "format version {found} is not supported: expected {CALIBRATION_VERSION}"
            )));
        }
        let found = (calibration.generation, calibration.calibration);
        if found != (generation, number) {
            return Err(bad(format!(
                "expected calibration {number} of generation {generation}, found {} of {}",
                found.1, found.0
            )));
        }
        let (expected, found) =
            ((index.bytes(), index.table_crc32c()), (calibration.bytes, calibration.table_crc32c));
        if found != expected {
            return Err(bad(format!(
                "measured on another generation {generation}: expected {} bytes with crc32c {:08x}, found {} with \
                 {:08x}",
                expected.0, expected.1, found.0, found.1
            )));
        }
        match calibration.recall.problem() {
            Some(problem) => Err(bad(problem)),
            None => Ok(calibration),
        }
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
        let mut passed_over = Vec::new();
        for number in self.calibrations(generation)?.into_iter().rev() {
            match self.read_calibration(generation, number, index) {
                Ok(calibration) => return Ok((Some(calibration), passed_over)),
                Err(error) => passed_over.push(error),
            }
        }
        Ok((None, passed_over))
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
        let mut calibration = Calibration {
            format_version: CALIBRATION_VERSION,
            generation,
            calibration: 0,
            bytes: index.bytes(),
            table_crc32c: index.table_crc32c(),
            created_at: Timestamp::now(),
            recall,
        };
        for _ in 0..PUBLISH_ATTEMPTS {
            calibration.calibration =
                self.calibrations(generation)?.last().map_or(1, |last| last.saturating_add(1));
            let path = self.calibration_path(generation, calibration.calibration);
            if sealed_json::create(&path, CALIBRATION, &calibration)? {
                return Ok(calibration);
            }
        }
        Err(self.too_contended())
    }
}

fn prefix(generation: u64) -> String {
    format!("calibration-{generation:08}-")
}
