//! `shortlist bench`: recall, throughput and latency, compared with other engines.
//!
//! | file | duty |
//! |---|---|
//! | `arguments.rs` | the flags, and the indexes and threads that they name |
//! | `load.rs` `load_arguments.rs` | measures a running server under load |
//! | `outputs.rs`   | the files to write, and the tables |
//! | `plain.rs`     | measures plain queries |
//! | `requests.rs`  | measures requests with rules |
//! | `tables.rs`    | reports as tables |

mod arguments;
mod load;
mod load_arguments;
mod outputs;
mod plain;
mod requests;
mod tables;

use std::path::PathBuf;

use anyhow::{bail, ensure};
use jiff::Timestamp;

use self::outputs::Outputs;
use self::tables::{points, summary};
use crate::eval::{Comparison, Provenance, Report, read_reports};

pub use self::arguments::Arguments;

/// Measures, prints one row per k and effort, and compares.
///
/// # Errors
/// If an input is invalid, a file cannot be written, or an answer breaks a rule of its request.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(addr) = &arguments.load.addr {
        return load::run(arguments, addr);
    }
    // All inputs are checked before anything is measured.
    let peers = read_all(&arguments.against)?;
    let mut ours = read_all(&arguments.from)?;
    let outputs = Outputs::open(arguments)?;
    check_kinds(arguments, &ours, &peers)?;
    if let (Some(plan), None) = (arguments.plan.filter(|plan| plan.needs_filter()), &arguments.requests) {
        bail!("--plan {}: expected --requests, which have filters", plan.name());
    }
    let measured = match (&arguments.hdf5, &arguments.requests, &arguments.queries) {
        (Some(benchmark), ..) => plain::measure_benchmark(arguments, benchmark)?,
        (_, Some(requests), _) => requests::measure(arguments, requests)?,
        (.., Some(queries)) => plain::measure_file(arguments, queries)?,
        _ => Vec::new(),
    };
    let violations = measured.iter().flat_map(|report| &report.rows).filter_map(|row| row.violations);
    let broken: usize = violations.sum();
    ours.extend(measured.into_iter().map(with_command));
    let comparison = Comparison::new(ours, peers);
    for report in comparison.ours() {
        if comparison.reports().len() > 1 {
            outputs.show(&report.engine);
        }
        outputs.show(points(report));
    }
    let of_requests = comparison.reports().iter().filter(|report| report.is_of_requests()).count();
    let are_alike = [0, comparison.reports().len()].contains(&of_requests);
    if comparison.reports().len() > 1 && are_alike {
        outputs.show("queries/s at recall@k");
        outputs.show(summary(&comparison));
    }
    outputs.write(&comparison)?;
    ensure!(broken == 0, "{broken} answers broke a rule of their request");
    Ok(())
}

/// Checks that figures of requests are not drawn, and not compared with figures of plain queries.
///
/// # Errors
/// If they would be.
fn check_kinds(arguments: &Arguments, ours: &[Report], peers: &[Report]) -> anyhow::Result<()> {
    let all = || ours.iter().chain(peers);
    let is_drawn = arguments.html.is_some() || arguments.svg.is_some();
    if let (true, Some(report)) = (is_drawn, all().find(|report| report.is_of_requests())) {
        bail!(
            "{}: expected figures of plain queries for --html and --svg, found those of --requests",
            report.engine
        );
    }
    let has_kind = |is_of_requests: bool| {
        let is_measured = match (&arguments.requests, &arguments.queries, &arguments.hdf5) {
            (Some(_), ..) => is_of_requests,
            (None, None, None) => false,
            _ => !is_of_requests,
        };
        is_measured || all().any(|report| report.is_of_requests() == is_of_requests)
    };
    ensure!(
        peers.is_empty() || !(has_kind(true) && has_kind(false)),
        "--against: expected figures of one kind, found those of plain queries and those of requests, which have labels"
    );
    Ok(())
}

fn read_all(paths: &[PathBuf]) -> anyhow::Result<Vec<Report>> {
    let reports = paths.iter().map(|path| read_reports(path)).collect::<Result<Vec<_>, _>>()?;
    Ok(reports.concat())
}

/// Adds the command line and the time to a report.
fn with_command(report: Report) -> Report {
    let words = std::env::args_os().map(|word| quoted(&word.to_string_lossy()));
    let command = Some(words.collect::<Vec<_>>().join(" "));
    let measured_at = Some(Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    let provenance = report.provenance.map(|of| Provenance { command, measured_at, ..of });
    Report { provenance, ..report }
}

/// Quotes an argument for a shell, where that is needed. Control characters are replaced.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./=,:+@%".contains(c);
    let word: String = word.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if !word.is_empty() && word.chars().all(is_plain) {
        return word;
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}
