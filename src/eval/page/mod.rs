//! A comparison as one HTML file that needs nothing else.
//!
//! What flows in: reports under names that differ. What flows out: a page with charts and tables, for
//! narrow and wide screens, light and dark. Nothing here knows how anything was measured.
//!
//! | file | duty |
//! |---|---|
//! | `figures.rs` | which charts, and what is in them |
//! | `tables.rs`  | the figures themselves |
//! | `style.css`  | how the page looks |

mod figures;
mod tables;

use std::fmt::Write;

use jiff::Timestamp;

use super::chart::{Chart, Stroke, panels, stylesheet};
use super::comparison::Comparison;

/// The whole page; `written_at` stands in its footer.
pub fn page(comparison: &Comparison, written_at: Timestamp) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Shortlist: recall against speed</title>\n<style>\n{}{}</style>\n</head>\n<body>\n<main>\n\
         <header><h1>Recall against speed</h1>\n<p>{}</p></header>\n",
        stylesheet(),
        include_str!("style.css"),
        subject(comparison)
    );
    section(&mut page, "At the recall that is asked for", &tables::summary(comparison));
    section(&mut page, "Recall against queries per second", &figures::throughput(comparison));
    if let Some(latency) = figures::latency(comparison) {
        section(&mut page, "Latency against recall", &latency);
    }
    section(&mut page, "Memory and build", &figures::cost(comparison));
    section(&mut page, "Every figure", &tables::details(comparison));
    let minute = written_at.strftime("%Y-%m-%d %H:%M UTC");
    let version = env!("CARGO_PKG_VERSION");
    let _ = write!(
        page,
        "<footer>Written {minute} by shortlist {version}.</footer>\n</main>\n</body>\n</html>\n"
    );
    page
}

/// The charts of recall against queries per second alone, as an SVG file.
pub fn picture(comparison: &Comparison) -> String {
    let charts: Vec<Chart> =
        comparison.ks().iter().map(|k| figures::throughput_chart(comparison, *k)).collect();
    let names = comparison.reports().iter().map(|report| report.engine.as_str());
    let legend: Vec<(Stroke, &str)> = strokes(comparison).zip(names).collect();
    panels("Recall against queries per second", &charts, &legend)
}

fn section(page: &mut String, heading: &str, content: &str) {
    let _ = write!(page, "<section>\n<h2>{heading}</h2>\n{content}</section>\n");
}

/// What was measured, in a sentence.
fn subject(comparison: &Comparison) -> String {
    let mut facts = Vec::new();
    let shared = |values: Vec<Option<usize>>| match values[..] {
        [Some(first), ref rest @ ..] if rest.iter().all(|value| *value == Some(first)) => Some(first),
        _ => None,
    };
    let ours = comparison.ours().iter();
    if let Some(videos) = shared(ours.clone().map(|report| report.videos).collect()) {
        facts.push(format!("{} videos", grouped(videos as f64)));
    }
    if let Some(queries) = shared(ours.clone().map(|report| report.queries).collect()) {
        facts.push(format!("{} queries per point", grouped(queries as f64)));
    }
    match shared(ours.map(|report| report.threads).collect()) {
        Some(1) => facts.push("one search thread".to_owned()),
        Some(threads) => facts.push(format!("{threads} search threads")),
        None => {}
    }
    let peers = comparison.reports().len() - comparison.ours().len();
    if peers > 0 {
        facts.push("hollow markers are peers".to_owned());
    }
    facts.join(" · ")
}

/// How each report is drawn.
fn strokes(comparison: &Comparison) -> impl Iterator<Item = Stroke> + '_ {
    (0..comparison.reports().len()).map(|engine| Stroke { engine, is_peer: comparison.is_peer(engine) })
}

/// A whole number with its thousands apart.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn mebibytes(bytes: u64) -> String {
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    if mebibytes < 10.0 { format!("{mebibytes:.2}") } else { grouped(mebibytes) }
}

fn seconds(seconds: f64) -> String {
    if seconds < 100.0 { format!("{seconds:.1}") } else { grouped(seconds) }
}
