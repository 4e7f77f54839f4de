//! Compares engines by queries per second at equal recall.

use std::cmp::Ordering;

use super::report::{Report, SweepRow};

/// The recalls at which engines are compared.
pub const TARGETS: [f64; 3] = [0.90, 0.95, 0.99];

/// Reports with distinct names, ours before those of peers.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    reports: Vec<Report>,
    ours: usize,
}

impl Comparison {
    /// Numbers reports that share a name. Drops duplicates: files of peers often contain our own figures as well.
    pub fn new(ours: Vec<Report>, peers: Vec<Report>) -> Self {
        let mut distinct: Vec<Report> = Vec::with_capacity(ours.len() + peers.len());
        let mut count = 0;
        for (position, report) in ours.iter().chain(&peers).enumerate() {
            let is_there = |other: &Report| (&other.engine, &other.rows) == (&report.engine, &report.rows);
            if !distinct.iter().any(is_there) {
                distinct.push(report.clone());
                count += usize::from(position < ours.len());
            }
        }
        let mut reports: Vec<Report> = Vec::with_capacity(distinct.len());
        for mut report in distinct {
            let is_taken = |name: &str| reports.iter().any(|other| other.engine == name);
            if is_taken(&report.engine) {
                let numbered = (2..).map(|number| format!("{} ({number})", report.engine));
                report.engine =
                    numbered.into_iter().find(|name| !is_taken(name)).expect("numbers do not end");
            }
            reports.push(report);
        }
        Self { reports, ours: count }
    }

    /// Every report.
    pub fn reports(&self) -> &[Report] {
        &self.reports
    }

    /// Our reports.
    pub fn ours(&self) -> &[Report] {
        &self.reports[..self.ours]
    }

    /// Whether the report at `position` is of a peer.
    pub fn is_peer(&self, position: usize) -> bool {
        position >= self.ours
    }

    /// Every measured k, ascending.
    pub fn ks(&self) -> Vec<usize> {
        let mut ks: Vec<usize> =
            self.reports.iter().flat_map(|report| &report.rows).map(|row| row.k).collect();
        ks.sort_unstable();
        ks.dedup();
        ks
    }

    /// Every label, in order of first appearance; `None` is the label of plain queries.
    pub fn labels(&self) -> Vec<Option<&str>> {
        let mut labels: Vec<Option<&str>> = Vec::new();
        for row in self.reports.iter().flat_map(|report| &report.rows) {
            if !labels.contains(&row.label.as_deref()) {
                labels.push(row.label.as_deref());
            }
        }
        labels
    }
}

impl Report {
    /// The report restricted to the points of one label, which form one curve.
    pub fn of_label(&self, label: Option<&str>) -> Self {
        let rows = self.rows.iter().filter(|row| row.label.as_deref() == label).cloned().collect();
        Self { rows, ..self.clone() }
    }

    /// The Pareto front of the points of `k`: `(recall, queries/s)`, recall ascending.
    pub fn pareto_front(&self, k: usize) -> Vec<(f64, f64)> {
        let rows = self.fastest(k).into_iter();
        rows.map(|row| (row.recall, row.qps)).collect()
    }

    /// The points of [`Self::pareto_front`].
    pub(super) fn fastest(&self, k: usize) -> Vec<&SweepRow> {
        let rows = self.rows.iter().filter(|row| row.k == k).collect();
        pareto_front(rows, |row| row.recall, |a, b| b.qps.total_cmp(&a.qps))
    }

    /// Queries per second at recall@k = `recall`, interpolated log-linearly between points of the Pareto front; `None` if
    /// no point reaches that recall.
    pub fn qps_at(&self, k: usize, recall: f64) -> Option<f64> {
        self.speed_at(k, recall).map(|speed| speed.qps)
    }

    /// [`Self::qps_at`], and whether that is a lower bound.
    pub fn speed_at(&self, k: usize, recall: f64) -> Option<Speed> {
        let front = self.pareto_front(k);
        let first = front.first()?;
        if first.0 >= recall {
            return Some(Speed { qps: first.1, is_least: first.0 > recall });
        }
        let pair = front.windows(2).find(|pair| pair[0].0 < recall && recall <= pair[1].0)?;
        let ((r0, q0), (r1, q1)) = (pair[0], pair[1]);
        let share = (recall - r0) / (r1 - r0);
        let qps = (q0.ln() * (1.0 - share) + q1.ln() * share).exp();
        Some(Speed { qps, is_least: false })
    }
}

/// Queries per second at a recall.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Queries per second.
    pub qps: f64,
    /// Whether it is a lower bound: every measured point has a higher recall.
    pub is_least: bool,
}

/// The Pareto front of `points`, `recall` ascending. `cheaper` orders the best cost first.
pub(super) fn pareto_front<T>(
    mut points: Vec<T>,
    recall: impl Fn(&T) -> f64,
    cheaper: impl Fn(&T, &T) -> Ordering,
) -> Vec<T> {
    points.sort_by(|a, b| cheaper(a, b).then(recall(b).total_cmp(&recall(a))));
    let mut front: Vec<T> = Vec::new();
    for point in points {
        if front.last().is_none_or(|last| recall(&point) > recall(last)) {
            front.push(point);
        }
    }
    front
}
