//! Reports on their way from one folder to another, where their generation has another number.
//!
//! What flows in: a folder with a generation and its reports, or the name and the bytes of one report from elsewhere. What
//! flows out: the bytes of reports with the new numbers, or a report of the folder. Nothing here knows where the bytes were.

use std::path::Path;

use super::calibration::Calibration;
use super::error::StoreError;
use super::folder::{IndexStore, PUBLISH_ATTEMPTS, number_in};
use super::gate_report::GateReport;
use super::reports::{Report, check, prefix};
use super::sealed_json;
use crate::index::generation::Index;

/// A report as a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortableReport {
    /// The name of the file.
    pub name: String,
    /// Its contents.
    pub bytes: Vec<u8>,
}

/// Returns whether a file of this name is a report about the generation.
pub fn is_report_of(name: &str, generation: u64) -> bool {
    number_in(name, &prefix::<Calibration>(generation), ".json").is_some()
        || number_in(name, &prefix::<GateReport>(generation), ".json").is_some()
}

impl IndexStore {
    /// Returns the readable reports about an open generation, as those of generation number `to`, numbered from 1.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn portable_reports(
        &self,
        generation: u64,
        index: &Index,
        to: u64,
    ) -> Result<Vec<PortableReport>, StoreError> {
        let mut reports = Vec::new();
        self.add_portable::<Calibration>(generation, index, to, &mut reports)?;
        self.add_portable::<GateReport>(generation, index, to, &mut reports)?;
        Ok(reports)
    }

    fn add_portable<R: Report>(
        &self,
        generation: u64,
        index: &Index,
        to: u64,
        reports: &mut Vec<PortableReport>,
    ) -> Result<(), StoreError> {
        let numbers = self.report_numbers::<R>(generation)?.into_iter();
        let readable = numbers.filter_map(|number| self.read_report::<R>(generation, number, index).ok());
        for (report, number) in readable.zip(1..) {
            let name = format!("{}{number:04}.json", prefix::<R>(to));
            reports.push(PortableReport {
                name,
                bytes: sealed_json::encode(R::WORD, &report.renumbered(to, number)),
            });
        }
        Ok(())
    }

    /// Adds a report about `index`, which is the open `generation`, unless it is there under any number. It keeps its number
    /// if that is free, and otherwise gets the next one that is. `origin` is where errors say that it comes from. Returns
    /// whether it was added.
    ///
    /// # Errors
    /// If its name is not that of a report about the generation, it is damaged, was measured on another file, or cannot be
    /// written.
    pub fn adopt_report(
        &self,
        report: &PortableReport,
        generation: u64,
        index: &Index,
        origin: &Path,
    ) -> Result<bool, StoreError> {
        if let Some(number) = number_in(&report.name, &prefix::<Calibration>(generation), ".json") {
            return self.adopt::<Calibration>(&report.bytes, (generation, number), index, origin);
        }
        match number_in(&report.name, &prefix::<GateReport>(generation), ".json") {
            Some(number) => self.adopt::<GateReport>(&report.bytes, (generation, number), index, origin),
            None => {
                let problem = format!("expected a report about generation {generation}");
                Err(StoreError::BadCalibration { path: origin.to_owned(), problem })
            }
        }
    }

    fn adopt<R: Report>(
        &self,
        bytes: &[u8],
        (generation, number): (u64, u64),
        index: &Index,
        origin: &Path,
    ) -> Result<bool, StoreError> {
        let report: R = sealed_json::decode(bytes, R::WORD, |problem| R::bad(origin.to_owned(), problem))?;
        let report = check(report, generation, number, index, origin)?;
        let is_copy = |other: &R| other.renumbered(generation, number) == report;
        for attempt in 0..PUBLISH_ATTEMPTS {
            let numbers = self.report_numbers::<R>(generation)?;
            let read = |other: &u64| self.read_report::<R>(generation, *other, index).ok();
            if numbers.iter().filter_map(read).any(|other| is_copy(&other)) {
                return Ok(false);
            }
            let next = numbers.last().map_or(1, |last| last.saturating_add(1));
            let number = if attempt == 0 { number } else { next.max(number) };
            let path = self.report_path::<R>(generation, number);
            if sealed_json::create(&path, R::WORD, &report.renumbered(generation, number))? {
                return Ok(true);
            }
        }
        Err(self.too_contended())
    }
}
