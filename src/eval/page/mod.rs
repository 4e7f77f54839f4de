//! A comparison as one self-contained HTML file.
//!
//! What flows in: reports with distinct names. What flows out: a page with charts and tables, for narrow and wide
//! screens, in light and dark mode. Nothing here knows how anything was measured.
//!
//! | file | duty |
//! |---|---|
//! | `figures.rs` | selects and fills the charts |
//! | `tables.rs`  | the figures as tables |
//! | `format.rs`  | formats numbers |
//! | `style.css`  | the style of the page |

mod figures;
mod format;
mod tables;

use std::fmt::Write;

use jiff::Timestamp;

use figures::strokes;
use format::grouped;

use crate::eval::chart::{Stroke, panels, stylesheet};
use crate::eval::comparison::Comparison;

/// Returns the whole page; `written_at` is shown in its footer.
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
    section(&mut page, "Speed at equal recall", &tables::summary(comparison));
    section(&mut page, "Recall against queries per second", &figures::throughput(comparison));
    if let Some(latency) = figures::latency(comparison) {
        section(&mut page, "Latency against recall", &latency);
    }
    section(&mut page, "Memory and build time", &figures::cost(comparison));
    section(&mut page, "All measurements", &tables::details(comparison));
    if let Some(setup) = tables::setup(comparison) {
        section(&mut page, "Setup", &setup);
    }
    let minute = written_at.strftime("%Y-%m-%d %H:%M UTC");
    let version = env!("CARGO_PKG_VERSION");
    let _ = write!(
        page,
        "<footer>Written {minute} by shortlist {version}.</footer>\n</main>\n</body>\n</html>\n"
    );
    page
}

/// Returns the charts of recall against queries per second as an SVG file.
pub fn picture(comparison: &Comparison) -> String {
    let charts = figures::throughput_charts(comparison);
    let names = comparison.reports().iter().map(|report| report.engine.as_str());
    let legend: Vec<(Stroke, &str)> = strokes(comparison).zip(names).collect();
    panels("Recall against queries per second", &charts, &legend)
}

fn section(page: &mut String, heading: &str, content: &str) {
    let _ = write!(page, "<section>\n<h2>{heading}</h2>\n{content}</section>\n");
}

/// Describes what was measured, in one line.
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
        facts.push("hollow markers: other engines".to_owned());
    }
    facts.join(" · ")
}
