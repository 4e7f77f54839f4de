//! Selects the charts of a page and fills them.

use std::fmt::Write;

use super::format::{grouped, mebibytes, seconds};
use crate::eval::chart::{
    Axis, Bar, Chart, Curve, Part, Point, Stroke, bars, curves, escape, part_key, stroke_key,
};
use crate::eval::comparison::{Comparison, pareto_front};
use crate::eval::report::{Report, SweepRow};

/// Number of parts of a bar with their own color; all smaller parts are combined.
const PARTS: usize = 7;
const OTHER: &str = "other";

/// Sizes of charts in units. Text has a fixed number of units, so that it is 12 to 16 pixels high where the style shows
/// them: the narrow ones in figures of up to 377 pixels, the wide ones up to 502.
const NARROW: i32 = 330;
const WIDE: i32 = 440;
/// In a file of charts.
const IN_FILE: (i32, i32) = (420, 320);

/// What a point costs, where it has such a cost.
type Cost = fn(&SweepRow) -> Option<f64>;

/// A legend, and a chart per k, on one scale.
pub(super) fn throughput(comparison: &Comparison) -> String {
    let mut html = legend(comparison, |_| true);
    let ks = comparison.ks();
    let _ = writeln!(html, "<div class=\"figures {}\">", columns(ks.len()));
    for k in ks {
        figure(&mut html, &format!("k = {k}"), |size| throughput_chart(comparison, k, size, true));
    }
    html + "</div>\n<p class=\"note\">Up and to the right is better. Both axes are logarithmic; the recall axis in 1 − recall, so \
            0.9 to 0.99 is as long as 0.99 to 0.999. Only points on the Pareto front of each engine are shown. All charts \
            have the same scales.</p>\n"
}

/// Charts of a file, one per k.
pub(super) fn throughput_charts(comparison: &Comparison) -> Vec<Chart> {
    comparison.ks().into_iter().map(|k| throughput_chart(comparison, k, IN_FILE, false)).collect()
}

fn throughput_chart(comparison: &Comparison, k: usize, size: (i32, i32), has_tips: bool) -> Chart {
    let reports = || comparison.reports().iter();
    let all: Vec<&SweepRow> = comparison
        .ks()
        .into_iter()
        .flat_map(|k| reports().flat_map(move |report| report.fastest(k)))
        .collect();
    let x = recall_axis(comparison, k, &all);
    let y = Axis::logarithmic("queries/s".to_owned(), all.iter().map(|row| row.qps), short);
    let lines = strokes(comparison).zip(reports()).map(|(stroke, report)| {
        let points = report.fastest(k).into_iter().map(|row| Point {
            at: (row.recall, row.qps),
            tip: if has_tips {
                tip(&report.engine, row, &format!("{} queries/s", grouped(row.qps)))
            } else {
                Vec::new()
            },
        });
        Curve { stroke, points: points.collect() }
    });
    curves(&format!("Queries per second against recall@{k}"), size, &x, &y, &lines.collect::<Vec<_>>())
}

/// A legend, and three charts per k, all on one scale; `None` if no report has latencies.
pub(super) fn latency(comparison: &Comparison) -> Option<String> {
    const PERCENTILES: [(&str, Cost); 3] =
        [("p50", |row| row.p50_us), ("p95", |row| row.p95_us), ("p99", |row| row.p99_us)];
    let has_latency = |report: &Report| report.rows.iter().any(|row| row.p50_us.is_some());
    if !comparison.reports().iter().any(has_latency) {
        return None;
    }
    let reports = || comparison.reports().iter();
    let curves_of = comparison.ks().into_iter().flat_map(|k| PERCENTILES.map(|(_, cost)| (k, cost)));
    let points_of = |(k, cost): (usize, Cost)| {
        let fronts = reports().flat_map(move |report| front(report, k, cost));
        fronts.filter_map(move |row| Some((row, cost(row)?)))
    };
    let all: Vec<(&SweepRow, f64)> = curves_of.flat_map(points_of).collect();
    let rows: Vec<&SweepRow> = all.iter().map(|(row, _)| *row).collect();
    let mut html = legend(comparison, has_latency);
    for k in comparison.ks() {
        if rows.iter().all(|row| row.k != k) {
            continue;
        }
        let _ = write!(html, "<h3>k = {k}</h3>\n<div class=\"figures three\">\n");
        for (name, cost) in PERCENTILES {
            let x = recall_axis(comparison, k, &rows);
            let y = Axis::logarithmic("latency".to_owned(), all.iter().map(|(_, micros)| *micros), duration);
            let lines = strokes(comparison).zip(reports()).map(|(stroke, report)| {
                let points = front(report, k, cost).into_iter().filter_map(|row| {
                    let micros = cost(row)?;
                    let tip = tip(&report.engine, row, &format!("{name} {micros:.1} µs"));
                    Some(Point { at: (row.recall, micros), tip })
                });
                Curve { stroke, points: points.collect() }
            });
            let (title, lines) = (format!("{name} latency against recall@{k}"), lines.collect::<Vec<_>>());
            figure(&mut html, name, |size| curves(&title, size, &x, &y, &lines));
        }
        html += "</div>\n";
    }
    Some(
        html + "<p class=\"note\">Down and to the right is better. Search time only, without network or server. Only points on \
            the Pareto front of each engine are shown. All charts have the same scales.</p>\n",
    )
}

/// The Pareto front of recall at `k` and of `cost`.
fn front(report: &Report, k: usize, cost: Cost) -> Vec<&SweepRow> {
    let rows = report.rows.iter().filter(|row| row.k == k && cost(row).is_some()).collect();
    pareto_front(rows, |row| row.recall, |a, b| cost(a).unwrap_or(0.0).total_cmp(&cost(b).unwrap_or(0.0)))
}

/// An axis of recall@k for `rows` of every k, with ticks that the queries can tell apart.
fn recall_axis(comparison: &Comparison, k: usize, rows: &[&SweepRow]) -> Axis {
    let queries = comparison.reports().iter().filter_map(|report| report.queries).min();
    let resolution = |k: usize| queries.map_or(0.0, |queries| 1.0 / (queries * k).max(1) as f64);
    let most = comparison.ks().last().copied().unwrap_or(k);
    let values = rows.iter().map(|row| row.recall);
    Axis::recall(format!("recall@{k}"), values, resolution(k), resolution(most))
}

/// What is shown of a point.
fn tip(engine: &str, row: &SweepRow, cost: &str) -> Vec<String> {
    let effort = row.ef_search.map(|ef_search| format!("ef_search {ef_search}"));
    let settings: Vec<String> = effort.into_iter().chain(row.plan.clone()).collect();
    let lines =
        [engine.to_owned(), format!("recall {:.4}", row.recall), cost.to_owned(), settings.join(", ")];
    lines.into_iter().filter(|line| !line.is_empty()).collect()
}

/// The class of a grid of `count` charts: none is alone in a row of three.
fn columns(count: usize) -> &'static str {
    match count {
        1 => "one",
        2 => "two",
        count if count % 3 == 1 => "two",
        _ => "three",
    }
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
                format!("{} MiB{hot}", mebibytes(report.bytes))
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
    let mut html = "<div class=\"figures two\">\n".to_owned();
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
                return vec![Part { color: None, name: String::new(), length: *whole }];
            }
            let mut lengths = vec![0.0; PARTS + 1];
            parts.iter().for_each(|(name, length)| lengths[color(name)] += length);
            let name =
                |color: usize| names.get(color).map_or(OTHER.to_owned(), |name| name.replace('_', " "));
            let parts = lengths.into_iter().enumerate();
            parts.map(|(color, length)| Part { color: Some(color), name: name(color), length }).collect()
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
        let (title, bars_of) = (self.title, bars_of.collect::<Vec<_>>());
        let [narrow, wide] = [("narrow", NARROW), ("wide", WIDE)]
            .map(|(class, width)| bars(title, width, &bars_of).inline(class));
        if self.parts.iter().any(Vec::is_empty) {
            keys += &part_key(None, "no breakdown");
        }
        let _ = write!(
            html,
            "<figure><figcaption>{title}</figcaption>\n<ul class=\"legend\">{keys}</ul>\n{narrow}{wide}</figure>\n"
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

/// A figure of a chart for narrow and one for wide containers.
fn figure(html: &mut String, caption: &str, chart: impl Fn((i32, i32)) -> Chart) {
    let (narrow, wide) = (chart((NARROW, NARROW * 6 / 7)), chart((WIDE, WIDE * 3 / 4)));
    let (caption, narrow, wide) = (escape(caption), narrow.inline("narrow"), wide.inline("wide"));
    let _ = write!(html, "<figure><figcaption>{caption}</figcaption>\n{narrow}{wide}</figure>\n");
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
