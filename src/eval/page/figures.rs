//! Selects the charts of a page and fills them.

use std::fmt::Write;

use super::format::{grouped, mebibytes, seconds};
use crate::eval::chart::{Axis, Bar, Chart, Curve, Stroke, bars, curves, escape, part_key, stroke_key};
use crate::eval::comparison::{Comparison, pareto_front};
use crate::eval::report::{Report, SweepRow};

/// Number of parts of a bar with their own color; all smaller parts are combined.
const PARTS: usize = 7;
const OTHER: &str = "other";

/// A legend, and a chart per k.
pub(super) fn throughput(comparison: &Comparison) -> String {
    let mut html = legend(comparison, |_| true);
    html += "<div class=\"figures\">\n";
    for k in comparison.ks() {
        figure(&mut html, &format!("k = {k}"), &throughput_chart(comparison, k));
    }
    html + "</div>\n<p class=\"note\">Up and to the right is better. Both axes are logarithmic; the recall axis in 1 − recall, so \
            0.9 to 0.99 is as long as 0.99 to 0.999. Only points on the Pareto front of each engine are shown.</p>\n"
}

pub(super) fn throughput_chart(comparison: &Comparison, k: usize) -> Chart {
    let fronts: Vec<Vec<(f64, f64)>> =
        comparison.reports().iter().map(|report| report.pareto_front(k)).collect();
    let x = Axis::recall(format!("recall@{k}"), fronts.iter().flatten().map(|point| point.0));
    let y = Axis::logarithmic("queries/s".to_owned(), fronts.iter().flatten().map(|point| point.1), short);
    let lines = strokes(comparison).zip(fronts).map(|(stroke, points)| Curve { stroke, points });
    curves(&format!("Queries per second against recall@{k}"), &x, &y, &lines.collect::<Vec<_>>())
}

/// A legend, and three charts per k on one scale; `None` if no report has latencies.
pub(super) fn latency(comparison: &Comparison) -> Option<String> {
    type Percentile = (&'static str, fn(&SweepRow) -> Option<f64>);
    const PERCENTILES: [Percentile; 3] =
        [("p50", |row| row.p50_us), ("p95", |row| row.p95_us), ("p99", |row| row.p99_us)];
    let has_latency = |report: &Report| report.rows.iter().any(|row| row.p50_us.is_some());
    if !comparison.reports().iter().any(has_latency) {
        return None;
    }
    let mut html = legend(comparison, has_latency);
    for k in comparison.ks() {
        let points = |report: &Report, percentile: fn(&SweepRow) -> Option<f64>| {
            let rows = report.rows.iter().filter(|row| row.k == k);
            let points = rows.filter_map(|row| Some((row.recall, percentile(row)?))).collect();
            pareto_front(points, |a, b| a.total_cmp(&b))
        };
        let all: Vec<(f64, f64)> = comparison
            .reports()
            .iter()
            .flat_map(|report| {
                PERCENTILES.iter().flat_map(move |(_, percentile)| points(report, *percentile))
            })
            .collect();
        if all.is_empty() {
            continue;
        }
        let _ = write!(html, "<h3>k = {k}</h3>\n<div class=\"figures three\">\n");
        for (name, percentile) in PERCENTILES {
            let x = Axis::recall(format!("recall@{k}"), all.iter().map(|point| point.0));
            let y = Axis::logarithmic("latency".to_owned(), all.iter().map(|point| point.1), duration);
            let lines = strokes(comparison).zip(comparison.reports());
            let lines = lines.map(|(stroke, report)| Curve { stroke, points: points(report, percentile) });
            let title = format!("{name} latency against recall@{k}");
            figure(&mut html, name, &curves(&title, &x, &y, &lines.collect::<Vec<_>>()));
        }
        html += "</div>\n";
    }
    Some(
        html + "<p class=\"note\">Down and to the right is better. Search time only, without network or server. Only points on \
            the Pareto front of each engine are shown.</p>\n",
    )
}

/// Bytes by section and seconds by phase.
pub(super) fn cost(comparison: &Comparison) -> String {
    let reports = one_per_index(comparison);
    let memory = Stack {
        title: "Memory",
        parts: reports.iter().map(|report| sections(report)).collect(),
        wholes: reports.iter().map(|report| report.bytes as f64).collect(),
        totals: reports
            .iter()
            .map(|report| {
                let hot = report.hot_bytes_per_vector;
                let hot = hot.map_or(String::new(), |bytes| format!(" · {bytes:.0} hot B/vector"));
                format!("{} MB{hot}", mebibytes(report.bytes))
            })
            .collect(),
    };
    let build = Stack {
        title: "Build time",
        parts: reports
            .iter()
            .map(|report| {
                report.phases.iter().map(|phase| (phase.name.as_str(), phase.ms as f64 / 1000.0)).collect()
            })
            .collect(),
        wholes: reports.iter().map(|report| report.build_s).collect(),
        totals: reports.iter().map(|report| format!("{} s", seconds(report.build_s))).collect(),
    };
    let mut html = "<div class=\"figures\">\n".to_owned();
    memory.write(&mut html, &reports);
    build.write(&mut html, &reports);
    html + "</div>\n<p class=\"note\">Memory: size of the memory-mapped index, full vectors included; for other engines, \
            memory used. Hot bytes are those a traversal reads: codes (vectors in an index without codes) and edges.</p>\n"
}

/// Drops repeated reports of one index measured with several thread counts.
fn one_per_index(comparison: &Comparison) -> Vec<&Report> {
    let mut reports: Vec<&Report> = Vec::new();
    for report in comparison.reports() {
        let is_same = |other: &&Report| {
            !report.sections.is_empty()
                && (&other.sections, &other.phases, other.build_s)
                    == (&report.sections, &report.phases, report.build_s)
        };
        if !reports.iter().any(is_same) {
            reports.push(report);
        }
    }
    reports
}

/// Sections that a traversal reads come first, then the others by size, descending.
fn sections(report: &Report) -> Vec<(&str, f64)> {
    const HOT: [&str; 4] = ["codes", "layer0", "upper_edges", "upper_nodes"];
    let rank = |name: &str| HOT.iter().position(|hot| *hot == name).unwrap_or(HOT.len());
    let mut sections: Vec<(&str, f64)> =
        report.sections.iter().map(|(name, bytes)| (name.as_str(), *bytes as f64)).collect();
    sections.sort_by(|a, b| rank(a.0).cmp(&rank(b.0)).then(b.1.total_cmp(&a.1)));
    sections
}

/// A bar per report, each made of parts.
struct Stack<'a> {
    title: &'a str,
    parts: Vec<Vec<(&'a str, f64)>>,
    /// The length of the bars without parts.
    wholes: Vec<f64>,
    totals: Vec<String>,
}

impl Stack<'_> {
    fn write(&self, html: &mut String, reports: &[&Report]) {
        let names = self.names();
        let color = |name: &str| names.iter().position(|known| *known == name).unwrap_or(PARTS);
        let stacked = self.parts.iter().zip(&self.wholes).map(|(parts, whole)| {
            if parts.is_empty() {
                return vec![(None, *whole)];
            }
            let mut lengths = vec![0.0; PARTS + 1];
            parts.iter().for_each(|(name, length)| lengths[color(name)] += length);
            lengths.into_iter().enumerate().map(|(color, length)| (Some(color), length)).collect()
        });
        let bars_of = reports.iter().zip(stacked).zip(&self.totals);
        let bars_of = bars_of.map(|((report, parts), total)| Bar {
            name: report.index_name().to_owned(),
            total: total.clone(),
            parts,
        });
        let mut keys: String = names
            .iter()
            .enumerate()
            .map(|(part, name)| part_key(Some(part), &name.replace('_', " ")))
            .collect();
        if self.parts.iter().flatten().any(|(name, _)| color(name) == PARTS) {
            keys += &part_key(Some(PARTS), OTHER);
        }
        let chart = bars(self.title, &bars_of.collect::<Vec<_>>());
        let title = self.title;
        if self.parts.iter().any(Vec::is_empty) {
            keys += &part_key(None, "no breakdown");
        }
        let _ = write!(
            html,
            "<figure><figcaption>{title}</figcaption>\n<ul class=\"legend\">{keys}</ul>\n{}</figure>\n",
            chart.inline()
        );
    }

    /// The largest parts of at least 1 %, in order of first appearance.
    fn names(&self) -> Vec<&str> {
        let mut sums: Vec<(&str, f64)> = Vec::new();
        // The bar with the most parts determines the order.
        let mut bars: Vec<_> = self.parts.iter().collect();
        bars.sort_by_key(|parts| std::cmp::Reverse(parts.len()));
        for (name, length) in bars.into_iter().flatten() {
            match sums.iter_mut().find(|(known, _)| known == name) {
                Some((_, sum)) => *sum += length,
                None => sums.push((name, *length)),
            }
        }
        let all: f64 = sums.iter().map(|(_, sum)| sum).sum();
        let mut largest = sums.clone();
        largest.sort_by(|a, b| b.1.total_cmp(&a.1));
        largest.truncate(PARTS);
        largest.retain(|(_, sum)| *sum >= all / 100.0);
        sums.retain(|(name, _)| largest.iter().any(|(known, _)| known == name));
        sums.into_iter().map(|(name, _)| name).collect()
    }
}

fn legend(comparison: &Comparison, is_shown: impl Fn(&Report) -> bool) -> String {
    let shown = strokes(comparison).zip(comparison.reports()).filter(|(_, report)| is_shown(report));
    let keys: String = shown.map(|(stroke, report)| stroke_key(stroke, &report.engine)).collect();
    format!("<ul class=\"legend\">{keys}</ul>\n")
}

fn figure(html: &mut String, caption: &str, chart: &Chart) {
    let _ =
        write!(html, "<figure><figcaption>{}</figcaption>\n{}</figure>\n", escape(caption), chart.inline());
}

/// `20k` for 20,000.
fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{}M", value / 1e6),
        value if value >= 1e3 => format!("{}k", value / 1e3),
        value if value >= 1.0 => grouped(value),
        value => format!("{value:.3}"),
    }
}

/// `20 µs`, `5 ms`.
fn duration(micros: f64) -> String {
    match micros {
        micros if micros >= 1e6 => format!("{} s", micros / 1e6),
        micros if micros >= 1e3 => format!("{} ms", micros / 1e3),
        micros if micros >= 1.0 => format!("{micros:.0} µs"),
        micros => format!("{:.0} ns", micros * 1e3),
    }
}

/// The line style of each report.
pub(super) fn strokes(comparison: &Comparison) -> impl Iterator<Item = Stroke> + '_ {
    (0..comparison.reports().len()).map(|engine| Stroke { engine, is_peer: comparison.is_peer(engine) })
}
