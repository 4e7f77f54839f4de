//! Recall against effort, measured: which effort reaches a recall, and which recall an effort reached.
//!
//! What flows in: how many true neighbours each `ef_search` found, per k. What flows out: an `ef_search`
//! for a recall, and back. Nothing here guesses: beyond what was measured there is no answer.
//!
//! Between two points of a curve `ef_search` is interpolated over recall. Recall rises ever more slowly
//! with effort, so that the straight line lies on the expensive side. Between two calibrated k the
//! `ef_search` that either needs for the same recall is interpolated over k.

use serde::{Deserialize, Serialize};

/// Recall against effort for several k, over the same queries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecallCurves {
    /// Where the queries came from.
    pub source: QuerySource,
    /// How many there were.
    pub queries: u32,
    /// Ascending by k.
    pub curves: Vec<RecallCurve>,
}

/// Where the queries of a calibration came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuerySource {
    /// Users of the training sample that taught the graph nothing.
    HeldOut,
    /// A file of queries.
    Queries,
}

/// Recall against effort for one k.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecallCurve {
    /// Hits per query.
    pub k: u32,
    /// Both effort and what it found rise from each point to the next.
    pub points: Vec<RecallPoint>,
}

/// What one effort found. A count, since a fraction would not come back from JSON to the bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecallPoint {
    /// Candidate list size.
    pub ef_search: u32,
    /// How many of the `queries × k` true neighbours were found.
    pub found: u64,
}

/// Why no effort is known to reach a recall.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Uncovered {
    /// Nothing was measured for so many hits.
    K {
        /// The largest k that was.
        largest: usize,
    },
    /// The recall was not reached.
    Recall {
        /// The best that was.
        best: f64,
    },
}

impl RecallCurves {
    /// The least `ef_search` that is known to reach `recall`, 0 to 1, for the best `k`. A k below the
    /// smallest that was measured is taken for that.
    ///
    /// # Errors
    /// [`Uncovered`] if that was not measured.
    pub fn ef_search(&self, k: usize, recall: f64) -> Result<usize, Uncovered> {
        let between = self.between(k).ok_or_else(|| Uncovered::K { largest: self.largest_k() })?;
        let best = between.reach();
        if recall > best {
            return Err(Uncovered::Recall { best });
        }
        Ok(between.ef_search(recall).ceil() as usize)
    }

    /// The recall that `ef_search` is known to reach for the best `k`: never more than the largest effort
    /// measured did. `None` if nothing was measured for this k, or only larger efforts.
    pub fn recall(&self, k: usize, ef_search: usize) -> Option<f64> {
        let between = self.between(k)?;
        let reach = between.reach();
        let effort = ef_search as f64;
        let (mut below, mut above): (Option<(f64, f64)>, Option<(f64, f64)>) = (None, None);
        for recall in between.recalls().filter(|recall| *recall <= reach) {
            let needed = between.ef_search(recall);
            if needed > effort {
                above = above.filter(|(least, _)| *least < recall).or(Some((recall, needed)));
            } else {
                below = below.filter(|(most, _)| *most > recall).or(Some((recall, needed)));
            }
        }
        let (low, low_effort) = below?;
        let Some((high, high_effort)) = above else { return Some(low) };
        Some(low + (effort - low_effort) / (high_effort - low_effort) * (high - low))
    }

    /// What can be asked for: each k and the best recall that was measured for it.
    pub fn reaches(&self) -> impl Iterator<Item = (usize, f64)> {
        self.curves.iter().map(|curve| (curve.k as usize, curve.reach(self.queries)))
    }

    /// What contradicts the invariants of the fields, if anything does.
    pub(super) fn problem(&self) -> Option<String> {
        if self.queries == 0 || self.curves.is_empty() {
            let (queries, curves) = (self.queries, self.curves.len());
            return Some(format!("expected a query and a curve at least, found {queries} and {curves}"));
        }
        if !self.curves.is_sorted_by(|a, b| a.k < b.k) {
            return Some("expected curves with ascending k".to_owned());
        }
        let wrong = self.curves.iter().find(|curve| !curve.is_sound(self.queries))?;
        Some(format!("the curve of k = {} contradicts itself", wrong.k))
    }

    fn largest_k(&self) -> usize {
        self.curves.last().map_or(0, |curve| curve.k as usize)
    }

    fn between(&self, k: usize) -> Option<Between<'_>> {
        let at = self.curves.partition_point(|curve| (curve.k as usize) < k);
        let upper = self.curves.get(at)?;
        let lower = if upper.k as usize <= k { upper } else { self.curves[..at].last().unwrap_or(upper) };
        let distance = f64::from(upper.k - lower.k);
        let share = if distance > 0.0 { (k as f64 - f64::from(lower.k)) / distance } else { 0.0 };
        Some(Between { lower, upper, share, queries: self.queries })
    }
}

impl RecallCurve {
    fn is_sound(&self, queries: u32) -> bool {
        let rises = |a: &RecallPoint, b: &RecallPoint| a.ef_search < b.ef_search && a.found < b.found;
        let bounds = self.points.first().zip(self.points.last());
        self.k > 0
            && self.points.is_sorted_by(rises)
            && bounds.is_some_and(|(first, last)| {
                first.ef_search >= self.k && last.found <= u64::from(queries) * u64::from(self.k)
            })
    }

    fn recall(&self, point: &RecallPoint, queries: u32) -> f64 {
        point.found as f64 / (f64::from(queries) * f64::from(self.k))
    }

    fn recalls(&self, queries: u32) -> impl Iterator<Item = f64> {
        self.points.iter().map(move |point| self.recall(point, queries))
    }

    fn reach(&self, queries: u32) -> f64 {
        self.points.last().map_or(0.0, |last| self.recall(last, queries))
    }

    /// The effort for a recall, at most [`Self::reach`]: linear between points, the first effort below them.
    fn ef_search(&self, recall: f64, queries: u32) -> f64 {
        let at = self.points.partition_point(|point| self.recall(point, queries) < recall);
        let high = &self.points[at];
        let Some(low) = at.checked_sub(1).map(|at| &self.points[at]) else { return high.ef_search.into() };
        let (low_recall, high_recall) = (self.recall(low, queries), self.recall(high, queries));
        let share = (recall - low_recall) / (high_recall - low_recall);
        f64::from(low.ef_search) + share * f64::from(high.ef_search - low.ef_search)
    }
}

/// The curves on either side of a k; the same one twice where k was measured.
struct Between<'a> {
    lower: &'a RecallCurve,
    upper: &'a RecallCurve,
    /// Where k lies between them, 0 to 1.
    share: f64,
    queries: u32,
}

impl Between<'_> {
    fn reach(&self) -> f64 {
        self.lower.reach(self.queries).min(self.upper.reach(self.queries))
    }

    /// Where the effort bends: it is linear in between.
    fn recalls(&self) -> impl Iterator<Item = f64> {
        self.lower.recalls(self.queries).chain(self.upper.recalls(self.queries))
    }

    /// The effort for a recall, at most [`Self::reach`]. Rises strictly above the least recall.
    fn ef_search(&self, recall: f64) -> f64 {
        let (lower, upper) =
            (self.lower.ef_search(recall, self.queries), self.upper.ef_search(recall, self.queries));
        lower + self.share * (upper - lower)
    }
}
