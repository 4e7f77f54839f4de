//! Measured recall against effort: the effort that reaches a recall, and the recall that an effort reaches.
//!
//! What flows in: the number of true neighbors that each `ef_search` found, per k. What flows out: an `ef_search` for a
//! recall, and a recall for an `ef_search`. Nothing is extrapolated beyond the measured range.
//!
//! Between two points of a curve, recall is interpolated linearly over the logarithm of effort. Recall is a nearly
//! linear, concave function of it, so the interpolation is slightly too low rather than too high. Between two
//! calibrated k, the recalls of both at the same effort are interpolated linearly over k.

use serde::{Deserialize, Serialize};

/// Recall against effort for several k, over the same queries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecallCurves {
    /// The source of the queries.
    pub source: QuerySource,
    /// Number of queries.
    pub queries: u32,
    /// Ascending by k.
    pub curves: Vec<RecallCurve>,
}

/// The source of the queries of a calibration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuerySource {
    /// Users of the training sample that did not teach the graph.
    HeldOut,
    /// A file of queries.
    Queries,
    /// Users of recent searches.
    Sampled,
    /// Queries made from the videos, in place of users that nobody knows.
    Guessed,
}

impl QuerySource {
    /// Whether requests may have a target recall. It takes users that somebody chose: sampled ones are lost by a restart,
    /// so that the next generation could not keep what this one offers, and guessed ones are none.
    pub fn allows_targets(self) -> bool {
        match self {
            Self::HeldOut | Self::Queries => true,
            Self::Sampled | Self::Guessed => false,
        }
    }
}

/// Recall against effort for one k.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecallCurve {
    /// Hits per query.
    pub k: u32,
    /// Both `ef_search` and `found` rise from each point to the next.
    pub points: Vec<RecallPoint>,
}

/// The true neighbors that one effort found: a count, since a fraction may not survive the round trip through JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecallPoint {
    /// Candidate list size.
    pub ef_search: u32,
    /// Number found of the `queries × k` true neighbors.
    pub found: u64,
}

/// Why no effort is known to reach a recall.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Uncovered {
    /// No k this large was measured.
    K {
        /// The largest measured k.
        largest: usize,
    },
    /// No measured effort reaches the recall.
    Recall {
        /// The best measured recall.
        best: f64,
    },
}

impl RecallCurves {
    /// Returns the smallest `ef_search` that reaches `recall` (0 to 1) for the best `k`. A k below the smallest
    /// measured one counts as that one.
    ///
    /// # Errors
    /// [`Uncovered`] if the measurements do not reach this k or this recall.
    pub fn ef_search(&self, k: usize, recall: f64) -> Result<usize, Uncovered> {
        let between = self.between(k).ok_or_else(|| Uncovered::K { largest: self.largest_k() })?;
        let (mut least, mut most) = between.efforts();
        let best = between.recall(most);
        if recall > best {
            return Err(Uncovered::Recall { best });
        }
        // Invariant of the binary search: `most` reaches the recall.
        while least < most {
            let middle = least.midpoint(most);
            if between.recall(middle) >= recall { most = middle } else { least = middle + 1 }
        }
        Ok(least)
    }

    /// Returns the recall that `ef_search` reaches for the best `k`; above the largest measured effort, the recall of
    /// that one. `None` if this k was not measured, or only with larger efforts.
    pub fn recall(&self, k: usize, ef_search: usize) -> Option<f64> {
        let between = self.between(k)?;
        (ef_search >= between.efforts().0).then(|| between.recall(ef_search))
    }

    /// Returns an `ef_search` of at least `usual` and at most `most` for the best `k`: the smallest that reaches `recall`,
    /// or, if none does, the smallest that reaches the best measured recall. For a k beyond the largest measured one, the
    /// effort of that one grows with k.
    pub fn ef_search_within(&self, k: usize, recall: f64, usual: usize, most: usize) -> usize {
        let measured = k.min(self.largest_k());
        let ef_search = match self.ef_search(measured, recall) {
            Err(Uncovered::Recall { best }) => self.ef_search(measured, best),
            found => found,
        };
        let in_proportion = |ef_search: usize| ef_search.saturating_mul(k).div_ceil(measured.max(1));
        ef_search.map_or(usual, in_proportion).clamp(usual, most.max(usual))
    }

    /// Returns each measured k with its best recall.
    pub fn reaches(&self) -> impl Iterator<Item = (usize, f64)> {
        self.curves.iter().map(|curve| (curve.k as usize, curve.reach(self.queries)))
    }

    /// Returns a violated invariant of the fields, if there is one.
    pub(super) fn problem(&self) -> Option<String> {
        if self.queries == 0 || self.curves.is_empty() {
            let (queries, curves) = (self.queries, self.curves.len());
            return Some(format!("expected at least one query and one curve, found {queries} and {curves}"));
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
        let k = (k as f64).max(self.curves[0].k.into());
        let lower = if f64::from(upper.k) <= k { upper } else { &self.curves[at - 1] };
        Some(Between { lower, upper, k, queries: self.queries })
    }
}

impl RecallCurve {
    fn is_sound(&self, queries: u32) -> bool {
        let rises = |a: &RecallPoint, b: &RecallPoint| a.ef_search < b.ef_search && a.found < b.found;
        let bounds = self.points.first().zip(self.points.last());
        self.k > 0
            && self.points.is_sorted_by(rises)
            && bounds.is_some_and(|(first, last)| {
                first.ef_search > 0 && last.found <= u64::from(queries) * u64::from(self.k)
            })
    }

    fn recall(&self, point: &RecallPoint, queries: u32) -> f64 {
        point.found as f64 / (f64::from(queries) * f64::from(self.k))
    }

    fn reach(&self, queries: u32) -> f64 {
        self.points.last().map_or(0.0, |last| self.recall(last, queries))
    }

    /// The recall of an effort, interpolated between points over its logarithm; beyond the last point, that of the
    /// last.
    fn recall_at(&self, ef_search: f64, queries: u32) -> f64 {
        let at = self.points.partition_point(|point| f64::from(point.ef_search) <= ef_search);
        let Some(low) = at.checked_sub(1).map(|at| &self.points[at]) else { return 0.0 };
        let Some(high) = self.points.get(at) else { return self.recall(low, queries) };
        let (low_recall, high_recall) = (self.recall(low, queries), self.recall(high, queries));
        let effort = |point: &RecallPoint| f64::from(point.ef_search);
        let share = (ef_search / effort(low)).ln() / (effort(high) / effort(low)).ln();
        low_recall + share * (high_recall - low_recall)
    }
}

/// The curves on both sides of a k; the same one twice if k was measured.
struct Between<'a> {
    lower: &'a RecallCurve,
    upper: &'a RecallCurve,
    k: f64,
    queries: u32,
}

impl Between<'_> {
    /// The recall of an effort that is at least the first of [`Self::efforts`].
    fn recall(&self, ef_search: usize) -> f64 {
        let of = |curve: &RecallCurve| curve.recall_at(ef_search as f64, self.queries);
        let (lower, upper) = (of(self.lower), of(self.upper));
        let distance = f64::from(self.upper.k - self.lower.k);
        let share = if distance > 0.0 { (self.k - f64::from(self.lower.k)) / distance } else { 0.0 };
        lower + share * (upper - lower)
    }

    /// The smallest effort that both curves cover, and one beyond which neither rises.
    fn efforts(&self) -> (usize, usize) {
        let effort = |point: Option<&RecallPoint>| point.map_or(0, |point| point.ef_search as usize);
        let (lower, upper) = (&self.lower.points, &self.upper.points);
        (effort(lower.first()).max(effort(upper.first())), effort(lower.last()).max(effort(upper.last())))
    }
}
