//! What the comparisons of a shadow found.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use super::candidate::Answer;
use crate::base::hits::hits;
use crate::base::metric::Metric;
use crate::engine::RECALL_K;
use crate::service::convert::duration;
use crate::service::proto;

/// The newest answers of each bucket that the report is of.
const WINDOW: usize = 1_000;

/// The answers of an index and of its candidate to one search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Compared {
    /// Candidates that both have, and candidates of the index.
    overlap: (usize, usize),
    /// The mean difference of the scores at the same rank.
    score_gap: f64,
    time: Duration,
    candidate_time: Duration,
    /// Hits and exact candidates, of the index and of the candidate.
    exact: Option<[(usize, usize); 2]>,
}

impl Compared {
    /// Compares two answers. `exact`: the exact answers of the same two, if they were asked for.
    pub(super) fn of(
        metric: Metric,
        index: &Answer,
        candidate: &Answer,
        exact: Option<(&Answer, &Answer)>,
    ) -> Self {
        let gaps = index.videos.iter().zip(&candidate.videos);
        let (sum, count) = gaps.fold((0.0, 0usize), |(sum, count), ((_, ours), (_, theirs))| {
            (sum + f64::from(*ours) - f64::from(*theirs), count + 1)
        });
        Self {
            // By identity: scores of another model say nothing about these.
            overlap: (common(index, candidate), index.videos.len()),
            score_gap: if count == 0 { 0.0 } else { sum / count as f64 },
            time: index.elapsed,
            candidate_time: candidate.elapsed,
            exact: exact.map(|(of_index, of_candidate)| {
                [
                    (found(metric, index, of_index), of_index.videos.len()),
                    (found(metric, candidate, of_candidate), of_candidate.videos.len()),
                ]
            }),
        }
    }

    /// How long index and candidate took.
    pub(super) fn times(&self) -> [Duration; 2] {
        [self.time, self.candidate_time]
    }
}

/// The number of videos that both answers have.
fn common(one: &Answer, other: &Answer) -> usize {
    let ids: HashSet<u64> = one.videos.iter().map(|(id, _)| *id).collect();
    other.videos.iter().filter(|(id, _)| ids.contains(id)).count()
}

/// The number of exact candidates that an answer has, or has as good ones of.
fn found(metric: Metric, answer: &Answer, exact: &Answer) -> usize {
    let ids: Vec<u64> = exact.videos.iter().map(|(id, _)| *id).collect();
    hits(metric, answer.videos.iter().copied(), &ids, |at| exact.videos[at].1)
}

/// The comparisons of one candidate with one generation of an index.
#[derive(Debug, Default)]
pub(super) struct Comparisons {
    /// By the bucket of k: the position in [`RECALL_K`], or its length for a larger k.
    windows: BTreeMap<usize, VecDeque<Compared>>,
}

impl Comparisons {
    pub(super) fn push(&mut self, k: usize, compared: Compared) {
        let window = self.windows.entry(RECALL_K.partition_point(|most| *most < k)).or_default();
        if window.len() == WINDOW {
            window.pop_front();
        }
        window.push_back(compared);
    }

    /// One summary for each bucket of k, ascending.
    pub(super) fn summaries(&self) -> Vec<proto::ShadowComparison> {
        self.windows.iter().map(|(bucket, window)| summary(*bucket, window)).collect()
    }
}

fn summary(bucket: usize, window: &VecDeque<Compared>) -> proto::ShadowComparison {
    let ratio = |pairs: &mut dyn Iterator<Item = (usize, usize)>| {
        let (part, all) = pairs.fold((0, 0), |(part, all), (of, among)| (part + of, all + among));
        (all > 0).then(|| part as f64 / all as f64)
    };
    let exact = |side: usize| ratio(&mut window.iter().filter_map(|one| Some(one.exact?[side])));
    let (p50, p99) = percentiles(window.iter().map(|one| one.time));
    let (candidate_p50, candidate_p99) = percentiles(window.iter().map(|one| one.candidate_time));
    let count = window.len();
    proto::ShadowComparison {
        k: RECALL_K.get(bucket).map_or(0, |k| *k as u32),
        answers: count as u32,
        // Two empty answers are the same.
        overlap: ratio(&mut window.iter().map(|one| one.overlap)).unwrap_or(1.0),
        score_gap: window.iter().map(|one| one.score_gap).sum::<f64>() / count.max(1) as f64,
        exact_answers: window.iter().filter(|one| one.exact.is_some()).count() as u32,
        recall: exact(0),
        candidate_recall: exact(1),
        p50: Some(duration(p50)),
        p99: Some(duration(p99)),
        candidate_p50: Some(duration(candidate_p50)),
        candidate_p99: Some(duration(candidate_p99)),
    }
}

/// Median and 99th percentile, by nearest rank.
fn percentiles(times: impl Iterator<Item = Duration>) -> (Duration, Duration) {
    let mut sorted: Vec<Duration> = times.collect();
    sorted.sort_unstable();
    let at = |percent: usize| {
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    };
    (at(50), at(99))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(videos: &[(u64, f32)], micros: u64) -> Answer {
        Answer { videos: videos.to_vec(), elapsed: Duration::from_micros(micros), generation: 1 }
    }

    #[test]
    fn answers_are_compared_with_each_other_and_each_with_its_exact_one() {
        let index = answer(&[(1, 4.0), (2, 3.0), (3, 2.0)], 10);
        let candidate = answer(&[(1, 4.0), (4, 2.5), (3, 2.0), (5, 1.0)], 20);
        let exact = (answer(&[(1, 4.0), (2, 3.0), (6, 2.5)], 0), answer(&[(1, 4.0), (4, 2.5), (3, 2.0)], 0));
        let compared = Compared::of(Metric::InnerProduct, &index, &candidate, Some((&exact.0, &exact.1)));
        assert_eq!(compared.overlap, (2, 3));
        assert!((compared.score_gap - 0.5 / 3.0).abs() < 1e-9);
        assert_eq!(compared.exact, Some([(2, 3), (3, 3)]));
        let mut comparisons = Comparisons::default();
        comparisons.push(3, compared);
        comparisons.push(3, Compared::of(Metric::InnerProduct, &index, &index, None));
        let [summary] = &comparisons.summaries()[..] else { panic!("one bucket") };
        assert_eq!((summary.k, summary.answers, summary.exact_answers), (10, 2, 1));
        assert!((summary.overlap - 5.0 / 6.0).abs() < 1e-9);
        assert_eq!(summary.recall.map(|recall| (recall * 3.0).round()), Some(2.0));
        assert_eq!(summary.candidate_recall, Some(1.0));
        let micros = |time: &Option<prost_types::Duration>| time.as_ref().unwrap().nanos / 1000;
        assert_eq!((micros(&summary.p50), micros(&summary.candidate_p99)), (10, 20));
    }

    #[test]
    fn empty_answers_are_the_same() {
        let nothing = answer(&[], 1);
        let mut comparisons = Comparisons::default();
        comparisons.push(5_000, Compared::of(Metric::L2, &nothing, &nothing, None));
        let summary = comparisons.summaries().remove(0);
        assert_eq!((summary.k, summary.overlap, summary.score_gap), (0, 1.0, 0.0));
        assert_eq!((summary.recall, summary.candidate_recall), (None, None));
    }

    #[test]
    fn the_newest_answers_count() {
        let (one, other) = (answer(&[(1, 1.0)], 1), answer(&[(2, 1.0)], 1));
        let mut comparisons = Comparisons::default();
        for _ in 0..WINDOW {
            comparisons.push(1, Compared::of(Metric::L2, &one, &other, None));
        }
        for _ in 0..WINDOW {
            comparisons.push(1, Compared::of(Metric::L2, &one, &one, None));
        }
        let summary = comparisons.summaries().remove(0);
        assert_eq!((summary.answers as usize, summary.overlap), (WINDOW, 1.0));
    }
}
