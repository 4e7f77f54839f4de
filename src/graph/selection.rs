//! Selects the best of many scores without sorting the others.

use super::candidates::{Candidate, keep_best};
use crate::kernel::{Kernels, PACKED_ROWS};

/// Steps of the search for a threshold. If it has not ended by then, many scores are nearly equal, and the exact selection
/// that follows separates them.
const HALVINGS: usize = 16;

/// Maxima per wanted score, where many scores are reduced to lane-wise maxima first.
const LANES_PER_PLACE: usize = 4;

/// Selects the best of many scores. Keeps its memory from one call to the next.
#[derive(Debug, Default)]
pub struct Selection {
    positions: Vec<u32>,
    maxima: Vec<f32>,
    best: Vec<Candidate>,
}

impl Selection {
    /// The positions of all scores that are at least `least`, ascending.
    #[inline]
    pub fn at_least(&mut self, scores: &[f32], least: f32) -> &[u32] {
        self.positions.clear();
        Kernels::get().at_least(scores, least, &mut self.positions);
        &self.positions
    }

    /// The positions of a small superset of the scores that are among the best `k` and at least `least`.
    pub fn promising(&mut self, scores: &[f32], k: usize, least: f32) -> &[u32] {
        let lanes = LANES_PER_PLACE * enough(k);
        let kernels = Kernels::get();
        let threshold = if scores.len() <= 2 * lanes {
            threshold(scores, k, least)
        } else if least > f32::NEG_INFINITY && kernels.count_at_least(scores, least) <= enough(k) {
            least
        } else {
            // One pass over all scores instead of several: most of the best k are among these maxima.
            self.maxima.resize(lanes.next_multiple_of(PACKED_ROWS), 0.0);
            kernels.maxima(scores, &mut self.maxima);
            threshold(&self.maxima, k, least)
        };
        self.at_least(scores, threshold)
    }

    /// The best `k` scores with their positions as nodes, best first, equal scores by position.
    pub fn best(&mut self, scores: &[f32], k: usize) -> &[Candidate] {
        self.promising(scores, k, f32::NEG_INFINITY);
        let Self { positions, best, .. } = self;
        best.clear();
        best.extend(positions.iter().map(|at| Candidate::new(*at, scores[*at as usize])));
        keep_best(best, k);
        best.sort_unstable();
        best
    }
}

/// Returns `least` if few scores reach it, otherwise a score that `k` scores reach, and few more.
fn threshold(scores: &[f32], k: usize, least: f32) -> f32 {
    let kernels = Kernels::get();
    let count = kernels.count_at_least(scores, least);
    if count <= enough(k) {
        return least;
    }
    let (smallest, mut missed) = kernels.range(scores);
    let mut reached = smallest.max(least);
    let (mut above, mut below) = (count, 1);
    for halving in 0..HALVINGS {
        // The number of scores above a threshold falls about exponentially. Every second step halves the range, in case it
        // does not.
        let share = if halving % 2 == 0 { ln(above, k + k / 8 + 4) / ln(above, below) } else { 0.5 };
        let middle = reached * (1.0 - share) + missed * share;
        match kernels.count_at_least(scores, middle) {
            count if count < k => (missed, below) = (middle, count.max(1)),
            count if count <= enough(k) => return middle,
            count => (reached, above) = (middle, count),
        }
    }
    reached
}

/// With at most this many promising scores for `k` places, a tighter threshold is not worth another pass.
fn enough(k: usize) -> usize {
    k + k / 4 + 8
}

/// The natural logarithm of `a / b`.
fn ln(a: usize, b: usize) -> f32 {
    (a as f32 / b as f32).ln()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_best_are_those_that_sorting_finds(
            scores in prop::collection::vec(
                prop_oneof![-1e3f32..1e3, (-3i8..3).prop_map(f32::from), Just(f32::MAX), Just(f32::MIN)],
                0..500,
            ),
            k in 0usize..200,
            least in prop_oneof![Just(f32::NEG_INFINITY), -1e3f32..1e3],
        ) {
            let mut selection = Selection::default();
            let mut expected: Vec<Candidate> =
                scores.iter().zip(0..).map(|(score, position)| Candidate::new(position, *score)).collect();
            expected.sort_unstable();
            expected.truncate(k);
            prop_assert_eq!(selection.best(&scores, k), &expected[..]);
            let promising = selection.promising(&scores, k, least);
            for candidate in expected.iter().filter(|candidate| candidate.score() >= least) {
                prop_assert!(promising.contains(&candidate.node()));
            }
        }

        #[test]
        fn promising_scores_are_not_many_more_than_wanted(scores in prop::collection::vec(-1e3f32..1e3, 0..2000), k in 1usize..200) {
            let promising = Selection::default().promising(&scores, k, f32::NEG_INFINITY).len();
            prop_assert!(promising <= 2 * enough(k), "{} for {}", promising, k);
        }
    }

    /// Two inputs for which the search for a threshold once returned too many: a few scores far above many equal ones, and
    /// scores that are spread evenly.
    #[test]
    fn promising_scores_are_few_among_outliers_and_even_spreads() {
        let outliers = |at: usize| if at % 14 == 1 { 1000.0 - at as f32 / 4.0 } else { 0.0 };
        let spread = |at: usize| (at * 619 % 1000) as f32 * 2.0 - 1000.0;
        let cases: [(Vec<f32>, usize); 2] =
            [((0..450).map(outliers).collect(), 3), ((0..1000).map(spread).collect(), 16)];
        for (scores, k) in cases {
            let promising = Selection::default().promising(&scores, k, f32::NEG_INFINITY).len();
            assert!((k..=2 * enough(k)).contains(&promising), "{promising} for {k}");
        }
    }
}
