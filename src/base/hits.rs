//! Recall by score: how much of an exact answer another answer has.
//!
//! What flows in: the items of both answers, with scores. What flows out: the number of hits. Everything in the crate
//! that measures recall counts hits with [`hits`].
//!
//! Items with equal scores are equally good, and which of them an exact answer has depends on the order of rows or ids
//! alone. Recall by identity counts the others as misses.

use std::hash::Hash;

use rustc_hash::{FxHashMap, FxHashSet};

use super::metric::Metric;

/// Scores are equal if they differ by at most this share of the smaller one: four units in the last place. Copies of a
/// row score the same to the bit. Rows that are copies only once they are normalized differ by rounding, which is
/// relative to the product of the norms: under cosine the scores are those of vectors of norm 1, so the share is that of 1.
const TOLERANCE: f32 = 4.0 * f32::EPSILON;

/// Counts the items of an answer that are in the exact answer, or as good as one of it that the answer lacks. If all
/// scores differ, this is the number of items that both have.
///
/// An item with the score of the last exact one does not make up for a better one that the answer lacks: otherwise a
/// search that finds copies of one video alone would have recall 1 wherever the last exact one is such a copy.
///
/// `found`: items with their scores; one that occurs twice counts once. `exact`: the items of the exact answer. `score`
/// returns the score of the exact item at a position, from the same kernel as the scores of `found`; it is called only
/// for items that the answer lacks.
pub fn hits<T: Copy + Eq + Hash>(
    metric: Metric,
    found: impl IntoIterator<Item = (T, f32)>,
    exact: &[T],
    score: impl Fn(usize) -> f32,
) -> usize {
    let mut lacking: FxHashMap<T, usize> = exact.iter().copied().zip(0..).collect();
    let wanted = lacking.len();
    let mut seen = FxHashSet::default();
    let mut others = Vec::new();
    for (item, score) in found {
        if seen.insert(item) && lacking.remove(&item).is_none() {
            others.push(score);
        }
    }
    let are_equal = |one: f32, other: f32| are_equal(metric, one, other);
    let hits = wanted - lacking.len();
    if others.is_empty() || lacking.is_empty() {
        return hits;
    }
    let mut lacking: Vec<f32> = lacking.into_values().map(score).collect();
    lacking.sort_unstable_by(f32::total_cmp);
    others.sort_unstable_by(f32::total_cmp);
    let mut others = others.into_iter().peekable();
    let substitutes = lacking.into_iter().filter(|wanted| {
        let is_too_low = |other: &f32| other.total_cmp(wanted).is_lt() && !are_equal(*other, *wanted);
        while others.next_if(is_too_low).is_some() {}
        others.next_if(|other| are_equal(*other, *wanted)).is_some()
    });
    hits + substitutes.count()
}

fn are_equal(metric: Metric, one: f32, other: f32) -> bool {
    let size = if metric == Metric::Cosine { 1.0 } else { one.abs().min(other.abs()) };
    one == other || size.is_finite() && (one - other).abs() <= TOLERANCE * size
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The best `k` of `scores`, in an order in which `tie_order` decides between equals.
    fn best(scores: &[f32], tie_order: &[u32], k: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..scores.len()).collect();
        all.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(tie_order[*a].cmp(&tie_order[*b])));
        all.truncate(k);
        all
    }

    fn hits_of(found: &[usize], exact: &[usize], scores: &[f32]) -> usize {
        let found = found.iter().map(|item| (*item, scores[*item]));
        hits(Metric::InnerProduct, found, exact, |at| scores[exact[at]])
    }

    proptest! {
        /// Few levels of scores make many ties.
        #[test]
        fn an_exact_answer_in_any_order_of_equals_has_all_hits(
            rows in prop::collection::vec((-3i8..3, any::<u32>(), any::<u32>()), 1..60),
            k in 1usize..80,
        ) {
            let scores: Vec<f32> = rows.iter().map(|(level, ..)| f32::from(*level) * 0.37).collect();
            let one: Vec<u32> = rows.iter().map(|(_, order, _)| *order).collect();
            let other: Vec<u32> = rows.iter().map(|(.., order)| *order).collect();
            let (found, exact) = (best(&scores, &one, k), best(&scores, &other, k));
            prop_assert_eq!(hits_of(&found, &exact, &scores), k.min(rows.len()));
        }

        /// Hits by score are never fewer than those by identity, nor more than either answer has, whatever was found.
        #[test]
        fn distinct_scores_count_as_identities_and_ties_add_to_them(
            levels in prop::collection::vec(-40i8..40, 1..60),
            places in prop::collection::vec(any::<prop::sample::Index>(), 0..80),
            k in 1usize..80,
            are_distinct in any::<bool>(),
        ) {
            let score = |(row, level): (usize, &i8)| if are_distinct { row as f32 } else { f32::from(*level) };
            let scores: Vec<f32> = levels.iter().enumerate().map(score).collect();
            let exact = best(&scores, &vec![0; scores.len()], k);
            // With repetitions.
            let found: Vec<usize> = places.iter().map(|place| place.index(scores.len())).collect();
            let distinct: FxHashSet<usize> = found.iter().copied().collect();
            let shared = distinct.iter().filter(|item| exact.contains(item)).count();
            let counted = hits_of(&found, &exact, &scores);
            prop_assert!(counted >= shared && counted <= exact.len().min(distinct.len()));
            if are_distinct {
                prop_assert_eq!(counted, shared);
            }
            let least = exact.iter().map(|item| scores[*item]).fold(f32::INFINITY, f32::min);
            let as_good = distinct.iter().filter(|item| scores[**item] >= least).count();
            prop_assert!(counted <= as_good);
        }
    }

    #[test]
    fn rounding_is_no_difference_and_what_is_not_finite_is_no_substitute() {
        let of = |found: f32, wanted: f32| hits(Metric::L2, [(1, found)], &[2], |_| wanted);
        let next = |score: f32| f32::from_bits(score.to_bits() + 3);
        assert_eq!((of(next(0.3), 0.3), of(0.3, next(0.3)), of(-next(7e9), -7e9)), (1, 1, 1));
        assert_eq!((of(0.0, -0.0), of(f32::INFINITY, f32::INFINITY)), (1, 1));
        assert_eq!((of(0.300_01, 0.3), of(0.3, 0.300_01), of(1.0, -1.0)), (0, 0, 0));
        let cosine = |found: f32, wanted: f32| hits(Metric::Cosine, [(1, found)], &[2], |_| wanted);
        assert_eq!((cosine(1e-7, 3e-7), cosine(1e-7, 9e-7), of(1e-7, 3e-7)), (1, 0, 0));
        assert_eq!((of(f32::INFINITY, 1.0), of(1.0, f32::INFINITY), of(f32::NAN, f32::NAN)), (0, 0, 0));
    }

    /// A place that is kept for a video with a low score is no place for every video that scores higher, and equals of the
    /// last video do not stand for better ones.
    #[test]
    fn a_better_item_is_no_substitute_for_a_worse_one() {
        let exact = [(1, 9.0), (2, 8.0), (3, 0.5)];
        let ids = exact.map(|(id, _)| id);
        assert_eq!(hits(Metric::L2, [(1, 9.0), (4, 7.0), (3, 0.5)], &ids, |at| exact[at].1), 2);
        assert_eq!(hits(Metric::L2, [(1, 9.0), (4, 8.0), (5, 0.5)], &ids, |at| exact[at].1), 3);
        assert_eq!(hits(Metric::L2, [(3, 0.5), (4, 0.5), (5, 0.5)], &ids, |at| exact[at].1), 1);
    }
}
