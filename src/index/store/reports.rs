//! Reports about a generation: numbered, create-once JSON files next to it, of which the newest readable one counts.
//!
//! A generation never changes, so a report identifies it by number, length and checksum.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::StoreError;
use super::folder::{IndexStore, PUBLISH_ATTEMPTS};
use super::sealed_json;
use crate::index::generation::Index;

/// The fields that every report has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    /// The version of the fields of the report.
    pub(super) format_version: u32,
    pub(super) generation: u64,
    /// The number of the report among those of its kind and generation.
    pub(super) number: u64,
    /// Length of the generation file.
    pub(super) bytes: u64,
    /// Checksum of its section table, which contains the checksums of the sections.
    pub(super) table_crc32c: u32,
}

impl Tag {
    pub(super) fn new<R: Report>(generation: u64, number: u64, index: &Index) -> Self {
        Self {
            format_version: R::VERSION,
            generation,
            number,
            bytes: index.bytes(),
            table_crc32c: index.table_crc32c(),
        }
    }
}

/// A kind of report.
pub(super) trait Report: Clone + PartialEq + Serialize + DeserializeOwned {
    /// The name of the kind, which the names of its files begin with.
    const WORD: &'static str;
    /// The version of the fields.
    const VERSION: u32;

    /// The common fields of this report.
    fn tag(&self) -> Tag;

    /// Returns the same report under another number, of another generation number.
    fn renumbered(&self, generation: u64, number: u64) -> Self;

    /// Returns an inconsistency of the contents, if there is one.
    fn problem(&self) -> Option<String>;

    /// The error for a report at `path` that cannot be used.
    fn bad(path: PathBuf, problem: String) -> StoreError;
}

impl IndexStore {
    /// The path of a report.
    pub(super) fn report_path<R: Report>(&self, generation: u64, number: u64) -> PathBuf {
        self.dir().join(format!("{}{number:04}.json", prefix::<R>(generation)))
    }

    /// Returns the numbers of the reports of a kind about a generation, ascending, valid or not.
    pub(super) fn report_numbers<R: Report>(&self, generation: u64) -> Result<Vec<u64>, StoreError> {
        self.numbered(&prefix::<R>(generation), ".json")
    }

    /// Reads and checks one report about `index`, which is the open `generation`.
    pub(super) fn read_report<R: Report>(
        &self,
        generation: u64,
        number: u64,
        index: &Index,
    ) -> Result<R, StoreError> {
        let path = self.report_path::<R>(generation, number);
        let report: R = sealed_json::read(&path, R::WORD, |problem| R::bad(path.clone(), problem))?;
        check(report, generation, number, index, &path)
    }

    /// Returns the newest readable report about an open generation, if any, and the error of each newer one, newest
    /// first.
    pub(super) fn open_report<R: Report>(
        &self,
        generation: u64,
        index: &Index,
    ) -> Result<(Option<R>, Vec<StoreError>), StoreError> {
        let mut passed_over = Vec::new();
        for number in self.report_numbers::<R>(generation)?.into_iter().rev() {
            match self.read_report(generation, number, index) {
                Ok(report) => return Ok((Some(report), passed_over)),
                Err(error) => passed_over.push(error),
            }
        }
        Ok((None, passed_over))
    }

    /// Adds a report about an open generation, which counts from now on.
    pub(super) fn add_report<R: Report>(
        &self,
        generation: u64,
        index: &Index,
        report: impl Fn(Tag) -> R,
    ) -> Result<R, StoreError> {
        for _ in 0..PUBLISH_ATTEMPTS {
            let number =
                self.report_numbers::<R>(generation)?.last().map_or(1, |last| last.saturating_add(1));
            let report = report(Tag::new::<R>(generation, number, index));
            if sealed_json::create(&self.report_path::<R>(generation, number), R::WORD, &report)? {
                return Ok(report);
            }
        }
        Err(self.too_contended())
    }

    /// Returns the paths of the reports of a kind about a generation.
    pub(super) fn report_paths<R: Report>(&self, generation: u64) -> Result<Vec<PathBuf>, StoreError> {
        let numbers = self.report_numbers::<R>(generation)?.into_iter();
        Ok(numbers.map(|number| self.report_path::<R>(generation, number)).collect())
    }
}

/// Returns the names of the reports of a kind about a generation, before the number.
pub(super) fn prefix<R: Report>(generation: u64) -> String {
    format!("{}-{generation:08}-", R::WORD)
}

/// Checks that a report that was read from `path` is the report `number` about `index`, which is the open `generation`.
pub(super) fn check<R: Report>(
    report: R,
    generation: u64,
    number: u64,
    index: &Index,
    path: &Path,
) -> Result<R, StoreError> {
    let bad = |problem: String| R::bad(path.to_owned(), problem);
    let tag = report.tag();
    if tag.format_version != R::VERSION {
        let (found, expected) = (tag.format_version, R::VERSION);
        return Err(bad(format!("format version {found} is not supported: expected {expected}")));
    }
    let word = R::WORD;
    if (tag.generation, tag.number) != (generation, number) {
        return Err(bad(format!(
            "expected {word} {number} of generation {generation}, found {} of {}",
            tag.number, tag.generation
        )));
    }
    let (expected, found) = ((index.bytes(), index.table_crc32c()), (tag.bytes, tag.table_crc32c));
    if found != expected {
        return Err(bad(format!(
            "measured on another generation {generation}: expected {} bytes with crc32c {:08x}, found {} with \
             {:08x}",
            expected.0, expected.1, found.0, found.1
        )));
    }
    match report.problem() {
        Some(problem) => Err(bad(problem)),
        None => Ok(report),
    }
}
