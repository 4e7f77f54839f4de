//! Tables of a page: a summary at the target recalls, and every figure.

use std::fmt::Write;

use super::format::{grouped, mebibytes, seconds};
use crate::eval::chart::escape;
use crate::eval::comparison::{Comparison, Speed, TARGETS};
use crate::eval::report::Report;

/// A row per engine: build cost, and queries/s at each target recall of each k. The best of each column is bold.
pub(super) fn summary(comparison: &Comparison) -> String {
    let columns: Vec<(usize, f64)> =
        comparison.ks().into_iter().flat_map(|k| TARGETS.map(|target| (k, target))).collect();
    let best: Vec<f64> = columns
        .iter()
        .map(|(k, target)| {
            let reached = comparison.reports().iter().filter_map(|report| report.qps_at(*k, *target));
            reached.fold(f64::NEG_INFINITY, f64::max)
        })
        .collect();
    let mut html = "<p class=\"note sideways\">The table scrolls sideways.</p>\n\
                    <div class=\"scroll\" tabindex=\"0\"><table>\n<thead><tr><th rowspan=\"2\" scope=\"col\">engine</th>\
                    <th rowspan=\"2\" scope=\"col\">build s</th><th rowspan=\"2\" scope=\"col\">MiB</th>"
        .to_owned();
    for k in comparison.ks() {
        let _ = write!(
            html,
            "<th colspan=\"{}\" scope=\"colgroup\" class=\"first\">queries/s at recall@{k}</th>",
            TARGETS.len()
        );
    }
    html += "</tr>\n<tr>";
    for (_, target) in &columns {
        let _ = write!(html, "<th scope=\"col\"{}>{target:.2}</th>", first_of_k(*target));
    }
    html += "</tr></thead>\n<tbody>\n";
    for report in comparison.reports() {
        let Report { engine, build_s, bytes, .. } = report;
        let (engine, build_s, bytes) = (escape(engine), seconds(*build_s), mebibytes(*bytes));
        let _ = write!(html, "<tr><th scope=\"row\">{engine}</th><td>{build_s}</td><td>{bytes}</td>");
        for ((k, target), best) in columns.iter().zip(&best) {
            let cell = match report.speed_at(*k, *target) {
                None => "<span class=\"never\">never</span>".to_owned(),
                Some(Speed { qps, is_least }) => {
                    let shown = format!("{}{}", if is_least { "≥ " } else { "" }, grouped(qps));
                    let is_best = qps == *best && comparison.reports().len() > 1;
                    if is_best { format!("<strong>{shown}</strong>") } else { shown }
                }
            };
            let _ = write!(html, "<td{}>{cell}</td>", first_of_k(*target));
        }
        html += "</tr>\n";
    }
    html + "</tbody>\n</table></div>\n<p class=\"note\">Values between measured points are interpolated log-linearly along the \
            Pareto front. “≥”: every measured setting has a higher recall. “never”: no measured setting reaches this \
            recall.</p>\n"
}

/// Every row, section and phase of every report, collapsed.
pub(super) fn details(comparison: &Comparison) -> String {
    let mut html = String::new();
    for report in comparison.reports() {
        let _ = write!(
            html,
            "<details>\n<summary>{} <span>{} points</span></summary>\n",
            escape(&report.engine),
            report.rows.len()
        );
        html += &points(report);
        if !report.sections.is_empty() {
            let per_video = |bytes: u64| match report.videos {
                Some(videos) if videos > 0 => format!("{:.1}", bytes as f64 / videos as f64),
                _ => String::new(),
            };
            let rows = report.sections.iter();
            let rows = rows.map(|(name, bytes)| [name.clone(), grouped(*bytes as f64), per_video(*bytes)]);
            html += &table(&["section", "bytes", "bytes per video"], rows);
        }
        if !report.phases.is_empty() {
            let rows = report.phases.iter();
            let rows = rows.map(|phase| [phase.name.clone(), format!("{:.2}", phase.ms as f64 / 1000.0)]);
            html += &table(&["build phase", "seconds"], rows);
        }
        html += "</details>\n";
    }
    html
}

/// A row per fact about the origin of the figures. Where reports differ, each value is followed by the names of its
/// engines. `None` if nothing is known.
pub(super) fn setup(comparison: &Comparison) -> Option<String> {
    let known: Vec<(&str, _)> = comparison
        .reports()
        .iter()
        .filter_map(|report| Some((report.engine.as_str(), report.provenance.as_ref()?.facts())))
        .collect();
    let mut html = "<div class=\"scroll\" tabindex=\"0\"><table class=\"facts\">\n<tbody>\n".to_owned();
    for (at, (fact, _)) in known.first()?.1.iter().enumerate() {
        let mut values: Vec<(&str, Vec<&str>)> = Vec::new();
        for (engine, facts) in &known {
            let Some(found) = facts[at].1.as_deref() else { continue };
            match values.iter_mut().find(|(value, _)| *value == found) {
                Some((_, engines)) => engines.push(engine),
                None => values.push((found, vec![engine])),
            }
        }
        let is_of_all = |engines: &[&str]| engines.len() == comparison.reports().len();
        let cells = values.iter().map(|(value, engines)| match is_of_all(engines) {
            true => escape(value),
            false => {
                format!("{} <span class=\"engines\">{}</span>", escape(value), escape(&engines.join(", ")))
            }
        });
        let cells = cells.collect::<Vec<_>>().join("<br/>");
        if !cells.is_empty() {
            let _ = writeln!(html, "<tr><th scope=\"row\">{fact}</th><td>{cells}</td></tr>");
        }
    }
    Some(html + "</tbody>\n</table></div>\n")
}

fn points(report: &Report) -> String {
    let optional = |value: Option<f64>, digits: usize| {
        value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
    };
    let header = [
        "k",
        "ef_search",
        "recall",
        "queries/s",
        "mean µs",
        "p50 µs",
        "p95 µs",
        "p99 µs",
        "distances",
        "hops",
        "plan",
    ];
    let rows = report.rows.iter().map(|row| {
        [
            row.k.to_string(),
            row.ef_search.map_or("–".to_owned(), |ef_search| ef_search.to_string()),
            format!("{:.4}", row.recall),
            grouped(row.qps),
            optional(row.mean_us, 1),
            optional(row.p50_us, 1),
            optional(row.p95_us, 1),
            optional(row.p99_us, 1),
            optional(row.distances, 0),
            optional(row.hops, 0),
            row.plan.clone().unwrap_or_else(|| "–".to_owned()),
        ]
    });
    table(&header, rows)
}

fn table<const N: usize>(header: &[&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut html = "<div class=\"scroll\" tabindex=\"0\"><table>\n<thead><tr>".to_owned();
    header.iter().for_each(|name| html += &format!("<th scope=\"col\">{name}</th>"));
    html += "</tr></thead>\n<tbody>\n";
    for row in rows {
        html += "<tr>";
        row.iter().for_each(|cell| html += &format!("<td>{}</td>", escape(cell)));
        html += "</tr>\n";
    }
    html + "</tbody>\n</table></div>\n"
}

/// The class that draws a line between one k and the next.
fn first_of_k(target: f64) -> &'static str {
    if target == TARGETS[0] { " class=\"first\"" } else { "" }
}
