//! Recall curves of calibrations.

use proptest::prelude::*;
use shortlist::index::{QuerySource, RecallCurve, RecallCurves, RecallPoint, Uncovered};
use shortlist::search::{Effort, SearchParams};

/// Curves of 100 queries: `(k, [(ef_search, found)])`.
pub(crate) fn curves(curves: &[(u32, &[(u32, u64)])]) -> RecallCurves {
    let point = |(ef_search, found): &(u32, u64)| RecallPoint { ef_search: *ef_search, found: *found };
    let curve = |(k, points): &(u32, &[(u32, u64)])| RecallCurve {
        k: *k,
        points: points.iter().map(point).collect(),
    };
    RecallCurves { source: QuerySource::Queries, queries: 100, curves: curves.iter().map(curve).collect() }
}

pub(crate) fn simple() -> RecallCurves {
    curves(&[(10, &[(10, 500), (20, 900), (80, 970)]), (20, &[(20, 1000), (60, 1900), (100, 1960)])])
}

#[test]
fn recall_is_interpolated_between_points_and_between_k() {
    let curves = simple();
    let close = |a: Option<f64>, b: f64| assert!((a.unwrap() - b).abs() < 1e-12, "{a:?}, expected {b}");
    assert_eq!(curves.recall(10, 20), Some(0.9));
    close(curves.recall(10, 15), 0.5 + 0.4 * 1.5f64.log2());
    assert_eq!(curves.recall(10, 5000), Some(0.97));
    assert_eq!(curves.recall(10, 9), None);
    assert_eq!(curves.recall(21, 100), None);
    assert_eq!(curves.ef_search(10, 0.9), Ok(20));
    assert_eq!(curves.ef_search(10, 0.94), Ok(45), "44.2, rounded up");
    assert_eq!(curves.ef_search(10, 0.01), Ok(10));
    assert_eq!(curves.ef_search(10, 0.971), Err(Uncovered::Recall { best: 0.97 }));
    assert_eq!(curves.ef_search(20, 0.95), Ok(60));
    assert_eq!(curves.ef_search(21, 0.5), Err(Uncovered::K { largest: 20 }));
    // Midway between the recall of k = 10 and of k = 20.
    let (ten, twenty) = (curves.recall(10, 66).unwrap(), curves.recall(20, 66).unwrap());
    close(Some(ten), 0.9 + 0.07 * 3.3f64.ln() / 4f64.ln());
    close(curves.recall(15, 66), (ten + twenty) / 2.0);
    assert_eq!(curves.ef_search(15, 0.9496), Ok(60));
    assert_eq!(curves.ef_search(15, 0.1), Ok(20));
    assert_eq!(curves.recall(15, 19), None);
    assert!(curves.ef_search(15, 0.974).is_ok());
    assert!(matches!(curves.ef_search(15, 0.976), Err(Uncovered::Recall { best }) if best < 0.976));
    // A smaller k uses the curve of the smallest.
    assert_eq!(curves.ef_search(1, 0.9), Ok(20));
    assert_eq!((curves.recall(1, 9), curves.recall(1, 10)), (None, Some(0.5)));
}

#[test]
fn the_default_effort_is_raised_to_a_recall_of_095_within_four_times_the_usual_one() {
    let default = |curves: &RecallCurves, k| SearchParams::default_effort(k, Some(curves), 10_000);
    // The usual effort is enough.
    let easy = curves(&[(10, &[(64, 960)]), (100, &[(128, 9_000), (180, 9_600)])]);
    assert_eq!((default(&easy, 10), default(&easy, 100)), (Effort::EfSearch(128), Effort::EfSearch(200)));
    let hard = curves(&[(10, &[(128, 900), (300, 950), (400, 990)]), (100, &[(200, 8_000), (4_000, 9_600)])]);
    assert_eq!((default(&hard, 1), default(&hard, 10)), (Effort::EfSearch(300), Effort::EfSearch(300)));
    assert_eq!(default(&hard, 100), Effort::EfSearch(800), "no more than four times 200");
    assert_eq!(default(&hard, 1_000), Effort::EfSearch(8_000), "a k that nobody measured");
    assert_eq!(SearchParams::default_effort(10, Some(&hard), 250), Effort::EfSearch(250));
    // No effort reaches it: the least that reaches the most.
    let flat = curves(&[(10, &[(128, 800), (200, 850)])]);
    assert_eq!(default(&flat, 10), Effort::EfSearch(200));
    // Twice k takes twice the effort.
    assert_eq!(default(&flat, 100), Effort::EfSearch(800));
    assert_eq!(default(&curves(&[(10, &[(150, 960)])]), 20), Effort::EfSearch(300));
    assert_eq!(SearchParams::default_effort(10, None, 10_000), Effort::EfSearch(128));
}

/// Up to four curves of 50 queries whose efforts and counts rise.
fn any_curves() -> impl Strategy<Value = RecallCurves> {
    let points = prop::collection::vec((1u32..50, 1u64..40), 1..8);
    prop::collection::vec((1u32..40, 0u32..90, points), 1..5).prop_map(|drawn| {
        let mut last_k = 0;
        let curves = drawn.into_iter().map(|(step, first, points)| {
            last_k += step;
            let (mut ef_search, mut found) = (first, 0);
            let points = points.into_iter().map(|(effort, more)| {
                ef_search += effort;
                found += more;
                RecallPoint { ef_search, found: found.min(50 * u64::from(last_k)) }
            });
            let mut points: Vec<RecallPoint> = points.collect();
            points.dedup_by_key(|point| point.found);
            RecallCurve { k: last_k, points }
        });
        RecallCurves { source: QuerySource::HeldOut, queries: 50, curves: curves.collect() }
    })
}

proptest! {
    #[test]
    fn curves_rise_and_never_promise_more_than_was_measured(
        curves in any_curves(),
        k in 1usize..160,
        targets in prop::collection::vec(0.0f64..=1.0, 2..20),
    ) {
        let largest = curves.curves.last().unwrap().k as usize;
        let mut targets = targets;
        targets.sort_by(f64::total_cmp);
        let mut last = 0;
        for target in targets {
            match curves.ef_search(k, target) {
                Ok(ef_search) => {
                    prop_assert!(ef_search >= last, "{ef_search} after {last}");
                    let reached = curves.recall(k, ef_search).unwrap();
                    prop_assert!(reached >= target, "{reached} for {target}");
                    if let Some(less) = curves.recall(k, ef_search - 1) {
                        prop_assert!(less < target && less <= reached, "{less} was enough for {target}");
                    }
                    last = ef_search;
                }
                Err(Uncovered::Recall { best }) => {
                    prop_assert!(best < target && k <= largest);
                    prop_assert_eq!(curves.recall(k, 1_000_000), Some(best));
                }
                Err(Uncovered::K { largest: named }) => {
                    prop_assert!(named == largest && k > largest);
                    prop_assert_eq!(curves.recall(k, 1000), None);
                }
            }
        }
    }

    #[test]
    fn the_default_effort_reaches_what_it_aims_at_or_is_bounded(curves in any_curves(), k in 1usize..600) {
        let of = |curves| match SearchParams::default_effort(k, curves, usize::MAX) {
            Effort::EfSearch(ef_search) => ef_search,
            Effort::Exact => 0,
        };
        let (usual, default) = (of(None), of(Some(&curves)));
        prop_assert!((usual..=4 * usual).contains(&default), "{default} for the usual {usual}");
        if let Some(recall) = curves.recall(k, default) {
            let best = curves.recall(k, usize::MAX).unwrap();
            let is_enough = recall >= best.min(SearchParams::DEFAULT_RECALL);
            prop_assert!(is_enough || default == 4 * usual, "{recall} at {default}, at most {best}");
        }
    }

    #[test]
    fn curves_are_exact_where_they_were_measured(curves in any_curves()) {
        for curve in &curves.curves {
            let k = curve.k as usize;
            for point in &curve.points {
                let recall = point.found as f64 / (50.0 * f64::from(curve.k));
                prop_assert_eq!(curves.ef_search(k, recall), Ok(point.ef_search as usize));
                prop_assert_eq!(curves.recall(k, point.ef_search as usize), Some(recall));
            }
        }
    }
}
