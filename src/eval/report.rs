//! The figures of one engine, written and read as JSON.
//!
//! What flows in: measured points, or an untrusted file of them from another program. What flows out: figures that are
//! finite and within their ranges. Nothing here knows how they were measured or how they are shown.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::provenance::Provenance;
use crate::base::local_path::check_local;
use crate::index::BuildPhase;

/// Maximum size of a file of reports, checked before parsing: thousands of times what a sweep writes.
const MAX_FILE_BYTES: u64 = 16 << 20;
const MAX_REPORTS: usize = 64;
const MAX_ROWS: usize = 10_000;
/// Maximum number of sections, phases or plans.
const MAX_ENTRIES: usize = 64;
const MAX_NAME_CHARS: usize = 100;
/// Of a fact about the origin of figures: command lines are long.
const MAX_FACT_CHARS: usize = 10_000;
const MAX_BYTES: f64 = 1e18;
const QPS: RangeInclusive<f64> = 1e-3..=1e9;
/// A picosecond to a day.
const MICROS: RangeInclusive<f64> = 1e-6..=8.64e10;
const SECONDS: RangeInclusive<f64> = 0.0..=1e9;

/// All measured points of one engine. Fields that the tool of another engine does not measure are absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Name of the engine in comparisons.
    pub engine: String,
    /// Wall-clock seconds of the build.
    pub build_s: f64,
    /// Bytes of the generation file; for peers, bytes in memory.
    pub bytes: u64,
    /// Threads that searched at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Queries per pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queries: Option<usize>,
    /// The points.
    pub rows: Vec<SweepRow>,
    /// Videos in the index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub videos: Option<usize>,
    /// Bytes of the sections that a traversal reads (codes or vectors, and edges), per video.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hot_bytes_per_vector: Option<f64>,
    /// Bytes of each kind of section.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sections: BTreeMap<String, u64>,
    /// Phases of the build with their times, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<BuildPhase>,
    /// Where the figures are from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
}

/// One measured point: plain queries, or the requests of one label.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SweepRow {
    /// Label of the requests; `None` for plain queries and requests without a label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Number of results requested.
    pub k: usize,
    /// Candidate list size; their mean for the default effort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ef_search: Option<usize>,
    /// Whether the requests set no effort.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub default_effort: bool,
    /// Share of the exact results that were found.
    pub recall: f64,
    /// The same if a video of another distance than the last exact result is no hit, where [`Self::recall`] counts those
    /// that are at most 0.001 farther.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equal_recall: Option<f64>,
    /// Queries per second of all threads together.
    pub qps: f64,
    /// Mean latency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_us: Option<f64>,
    /// Median latency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<f64>,
    /// 95th percentile of the latency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_us: Option<f64>,
    /// 99th percentile of the latency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<f64>,
    /// Mean number of embeddings scored per query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distances: Option<f64>,
    /// Mean number of nodes expanded per query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hops: Option<f64>,
    /// The most frequent plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Share of the searches per plan.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub plans: BTreeMap<String, f64>,
    /// Number of requests; this and the fields below are `None` for plain queries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<usize>,
    /// Mean number of videos that match the filters; `None` if no request has a filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<f64>,
    /// Answers with fewer candidates than requested, since no more qualified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_answers: Option<usize>,
    /// Answers that broke a rule of their request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub violations: Option<usize>,
}

impl Report {
    /// Appends the number of threads to the name, to distinguish reports of one index with several thread counts.
    pub fn name_threads(&mut self) {
        self.engine += &self.threads_name();
    }

    /// The name without the suffix of [`Report::name_threads`].
    pub fn index_name(&self) -> &str {
        self.engine.strip_suffix(&self.threads_name()).unwrap_or(&self.engine)
    }

    /// Whether it has points of requests with rules. Those form one curve per label, not one in total.
    pub fn is_of_requests(&self) -> bool {
        self.rows.iter().any(|row| row.requests.is_some() || row.label.is_some())
    }

    fn threads_name(&self) -> String {
        match self.threads {
            None => String::new(),
            Some(1) => ", 1 thread".to_owned(),
            Some(threads) => format!(", {threads} threads"),
        }
    }
}

/// Why a file of reports was refused.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        r#source: io::Error,
    },
    /// The file is larger than any sweep writes.
    #[error("{}: expected at most {most} bytes of figures, found more", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Maximum bytes.
        most: u64,
    },
    /// The file is not JSON, or has another structure.
    #[error("{}: expected one object {{engine, build_s, bytes, rows: [{{k, recall, qps}}]}} or an array of them: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is missing or wrong, with line and column.
        r#source: serde_json::Error,
    },
    /// A figure or a name is out of range.
    #[error("{}: {field} of engine {engine}: expected {expected}, found {found}", path.display())]
    OutOfRange {
        /// The file.
        path: PathBuf,
        /// Position of the report in the file, from 0.
        engine: usize,
        /// The field.
        field: &'static str,
        /// The allowed range.
        expected: String,
        /// The value found.
        found: String,
    },
}

/// Reads a file of `bench --json` or of a tool for peers: one report, or an array of them.
///
/// # Errors
/// [`ReportError`], which names the file and, where possible, the field.
pub fn read_reports(path: &Path) -> Result<Vec<Report>, ReportError> {
    let io = |source| ReportError::Io { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    check_local(path).map_err(io)?;
    File::open(path).map_err(io)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(ReportError::TooLarge { path: path.to_owned(), most: MAX_FILE_BYTES });
    }
    // The first byte decides the form: an untagged enum would report neither form's error.
    let parsed = match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => serde_json::from_slice(&bytes),
        _ => serde_json::from_slice(&bytes).map(|report| vec![report]),
    };
    let reports: Vec<Report> =
        parsed.map_err(|source| ReportError::Malformed { path: path.to_owned(), source })?;
    let number = Check { path, engine: 0 };
    number.within("number of reports", reports.len() as f64, &(1.0..=MAX_REPORTS as f64))?;
    for (engine, report) in reports.iter().enumerate() {
        Check { path, engine }.report(report)?;
    }
    Ok(reports)
}

/// Whether a name can be displayed: 1 to 100 characters, none of which is a control character or noncharacter.
pub fn is_printable(name: &str) -> bool {
    is_shown(name, MAX_NAME_CHARS)
}

fn is_shown(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.chars().count())
        && !text.chars().any(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'))
}

/// Range checks of one report of a file.
struct Check<'a> {
    path: &'a Path,
    engine: usize,
}

impl Check<'_> {
    fn report(&self, report: &Report) -> Result<(), ReportError> {
        self.name("engine", &report.engine)?;
        self.within("build_s", report.build_s, &SECONDS)?;
        self.within("bytes", report.bytes as f64, &(0.0..=MAX_BYTES))?;
        self.within("number of rows", report.rows.len() as f64, &(1.0..=MAX_ROWS as f64))?;
        self.optional("hot_bytes_per_vector", report.hot_bytes_per_vector, &(0.0..=MAX_BYTES))?;
        let entries = report.sections.len().max(report.phases.len());
        self.within("number of sections or phases", entries as f64, &(0.0..=MAX_ENTRIES as f64))?;
        for (name, bytes) in &report.sections {
            self.name("section", name)?;
            self.within("bytes of a section", *bytes as f64, &(0.0..=MAX_BYTES))?;
        }
        for BuildPhase { name, ms } in &report.phases {
            self.name("phase", name)?;
            self.within("seconds of a phase", *ms as f64 / 1000.0, &SECONDS)?;
        }
        for (field, fact) in report.provenance.iter().flat_map(Provenance::facts) {
            fact.iter().try_for_each(|fact| self.text(field, fact, MAX_FACT_CHARS))?;
        }
        report.rows.iter().try_for_each(|row| self.row(row))
    }

    fn row(&self, row: &SweepRow) -> Result<(), ReportError> {
        self.within("k", row.k as f64, &(1.0..=1e6))?;
        self.within("recall", row.recall, &(0.0..=1.0))?;
        self.within("qps", row.qps, &QPS)?;
        self.optional("equal_recall", row.equal_recall, &(0.0..=1.0))?;
        self.optional("mean_us", row.mean_us, &MICROS)?;
        self.optional("p50_us", row.p50_us, &MICROS)?;
        self.optional("p95_us", row.p95_us, &MICROS)?;
        self.optional("p99_us", row.p99_us, &MICROS)?;
        self.optional("distances", row.distances, &(0.0..=1e12))?;
        self.optional("hops", row.hops, &(0.0..=1e12))?;
        self.optional("matches", row.matches, &(0.0..=1e12))?;
        self.within("number of plans", row.plans.len() as f64, &(0.0..=MAX_ENTRIES as f64))?;
        for (name, share) in &row.plans {
            self.name("plan", name)?;
            self.within("share of a plan", *share, &(0.0..=1.0))?;
        }
        row.plan.iter().try_for_each(|plan| self.name("plan", plan))?;
        row.label.iter().try_for_each(|label| self.name("label", label))
    }

    fn optional(
        &self,
        field: &'static str,
        found: Option<f64>,
        expected: &RangeInclusive<f64>,
    ) -> Result<(), ReportError> {
        found.map_or(Ok(()), |found| self.within(field, found, expected))
    }

    fn within(
        &self,
        field: &'static str,
        found: f64,
        expected: &RangeInclusive<f64>,
    ) -> Result<(), ReportError> {
        if expected.contains(&found) {
            return Ok(());
        }
        let expected = format!("{} to {}", expected.start(), expected.end());
        Err(self.refuse(field, expected, found.to_string()))
    }

    fn name(&self, field: &'static str, found: &str) -> Result<(), ReportError> {
        self.text(field, found, MAX_NAME_CHARS)
    }

    fn text(&self, field: &'static str, found: &str, most: usize) -> Result<(), ReportError> {
        if is_shown(found, most) {
            return Ok(());
        }
        let expected = format!("a name of 1 to {most} printable characters");
        let start: String = found.chars().take(MAX_NAME_CHARS).collect();
        Err(self.refuse(field, expected, format!("{start:?}")))
    }

    fn refuse(&self, field: &'static str, expected: String, found: String) -> ReportError {
        ReportError::OutOfRange { path: self.path.to_owned(), engine: self.engine, field, expected, found }
    }
}
