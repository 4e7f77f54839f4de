//! Diversity: maximal marginal relevance, replayed choice by choice; re-uploads; and what is refused.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use shortlist::base::element::Dtype;
use shortlist::base::id::VideoId;
use shortlist::base::metric::Metric;
use shortlist::engine::{Budget, Completeness, Effort, EngineError, Field, Plan, Query, Rule, SearchRequest};
use shortlist::index::Codes;
use shortlist::rules::{Diversity, Rules};

use crate::rules::case::{Case, Failures};
use crate::rules::dataset::{Components, RuledDataset, Shape};
use crate::rules::naive::similarity;
use crate::rules::requests::random_request;

const SHAPE: Shape = Shape {
    videos: 1500,
    dim: 16,
    metric: Metric::InnerProduct,
    dtype: Dtype::F32,
    codes: Codes::Sq8,
    components: Components::Grid,
    has_duplicates: true,
    seed: 51,
};

/// Values that differ less are equal but for rounding.
const ROUNDING: f64 = 1e-5;

/// A page, choice by choice: each candidate has the largest value of those that the page, or the rest of it, is chosen among and that may
/// be taken.
fn check_page(
    case: &Case<'_>,
    dataset: &RuledDataset,
    request: &SearchRequest,
    before: &[usize],
    page: &[usize],
) -> Result<(), String> {
    let naive = &case.naive;
    let lambda = f64::from(request.rules.diversity.unwrap().lambda.unwrap());
    let score = |row: usize| f64::from(case.score(row));
    let (fresh, interests) = naive.kept();
    let is_of = |group: usize, row: usize| match group {
        0 => naive.is_fresh(row),
        _ if group <= interests.len() => naive.scored[row].interest == group - 1,
        _ => naive.is_of_reserve(group - interests.len() - 1, row),
    };
    let mut unmet = vec![fresh];
    unmet.extend(&interests);
    unmet.extend(naive.kept_for_reserves());
    let mut left: Vec<usize> =
        (0..dataset.videos.len()).filter(|row| naive.passes(*row) && !before.contains(row)).collect();
    naive.sort(&mut left);
    let mut chosen: Vec<usize> = before.to_vec();
    let mut at = 0;
    loop {
        left.retain(|row| !chosen.contains(row) && naive.fits_caps(*row, &chosen));
        let mut among: Vec<usize> = left.iter().copied().take(3 * (request.k - at)).collect();
        for (group, places) in unmet.iter().enumerate() {
            among.extend(left.iter().copied().filter(|row| is_of(group, *row)).take(3 * places));
        }
        naive.sort(&mut among);
        among.dedup();
        let (best, worst) = match among[..] {
            [best, .., worst] => (score(best), score(worst)),
            _ => (0.0, 0.0),
        };
        let relevance = |row| if best > worst { (score(row) - worst) / (best - worst) } else { 1.0 };
        while at < request.k {
            let value = |row: usize| {
                let similar = chosen.iter();
                let similar = similar.map(|other| similarity(&dataset.videos[row], &dataset.videos[*other]));
                lambda * relevance(row) - (1.0 - lambda) * similar.fold(-1.0, f64::max)
            };
            let free = request.k - at - 1;
            let fills =
                |row: usize| (0..unmet.len()).filter(|group| unmet[*group] > 0 && is_of(*group, row)).count();
            let fitting: Vec<usize> = among
                .iter()
                .copied()
                .filter(|row| !chosen.contains(row) && naive.fits(*row, &chosen))
                .collect();
            let mut some: Vec<usize> = fitting
                .iter()
                .copied()
                .filter(|row| free + fills(*row) >= unmet.iter().sum::<usize>())
                .collect();
            let is_exhausted =
                |group: usize| left.iter().all(|row| !is_of(group, *row) || among.contains(row));
            if some.is_empty() && (0..unmet.len()).all(|group| unmet[group] == 0 || is_exhausted(group)) {
                some = fitting;
            }
            if some.is_empty() {
                break;
            }
            let most = some.iter().map(|row| value(*row)).fold(f64::NEG_INFINITY, f64::max);
            let Some(row) = page.get(at) else {
                return Err(format!("ends after {at}, and {} may be taken", some.len()));
            };
            if !some.contains(row) {
                return Err(format!("choice {at}, row {row}, may not be taken"));
            }
            if value(*row) < most - ROUNDING {
                return Err(format!("choice {at}, row {row}, has value {}, expected {most}", value(*row)));
            }
            let groups = unmet.iter_mut().enumerate().filter(|(group, _)| is_of(*group, *row));
            groups.for_each(|(_, unmet)| *unmet = unmet.saturating_sub(1));
            chosen.push(*row);
            at += 1;
        }
        if at == request.k || among.len() == left.len() {
            break;
        }
        left.retain(|row| !among.contains(row) || naive.fits(*row, &chosen));
    }
    if page.len() == at { Ok(()) } else { Err(format!("{} candidates, expected {at}", page.len())) }
}

#[test]
fn each_candidate_has_the_largest_marginal_relevance() {
    let mut failures = Failures::default();
    let mut checked = HashMap::new();
    for (components, metric, codes) in [
        (Components::Grid, Metric::InnerProduct, Codes::Sq8),
        (Components::Grid, Metric::L2, Codes::None),
        (Components::Signs, Metric::Cosine, Codes::Sq8),
    ] {
        let dataset = RuledDataset::new(Shape { components, metric, codes, ..SHAPE });
        for number in 0..60 {
            let mut random = ChaCha8Rng::seed_from_u64(number);
            let mut request = random_request(&dataset, &mut random);
            request.k = request.k.min(25);
            request
                .rules
                .fresh
                .iter_mut()
                .for_each(|fresh| fresh.at_least = fresh.at_least.min(request.k / 4));
            // Drawn videos come first, and are checked with the other rules.
            request.rules.reserves.retain(|reserve| reserve.sample.is_none());
            for reserve in &mut request.rules.reserves {
                reserve.places = shortlist::rules::Places::Share(0.1);
            }
            if let Query::Interests(interests) = &mut request.query {
                interests.iter_mut().for_each(|interest| interest.min_share = interest.min_share.min(0.1));
                interests.truncate(4);
            }
            let lambda = Some([0.0, 0.2, 0.5, 0.8, 1.0][number as usize % 5]);
            request.rules.diversity =
                Some(Diversity { lambda, ..request.rules.diversity.unwrap_or_default() });
            let case = Case::new(&dataset, &request);
            let mut before = Vec::new();
            for page in 0..3 {
                let variant = case.with(Effort::Exact, None, page * request.k);
                let answer = dataset.engine.search(&variant, &Budget::default()).unwrap();
                let rows = case.diverse_rows(&answer, &before);
                let context = format!("{components:?} {metric}, request {number}, page {page}");
                let outcome = rows.and_then(|rows| {
                    let checked = check_page(&case, &dataset, &request, &before, &rows);
                    before.extend(&rows);
                    checked
                });
                failures.add(outcome, &variant, &context);
                *checked.entry((page, before.len() == (page + 1) * request.k)).or_insert(0) += 1;
            }
        }
    }
    failures.check();
    assert!(checked[&(2, true)] > 50 && checked[&(0, false)] > 3, "{checked:?}");
}

/// Approximate searches, too, return k candidates that differ, and no page repeats one.
#[test]
fn approximate_pages_differ_and_are_of_one_choice() {
    let dataset = RuledDataset::new(Shape { components: Components::Normal, videos: 4000, ..SHAPE });
    for seed in 0..20 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let diversity = Diversity { max_similarity: Some(0.9), lambda: (seed % 2 == 0).then_some(0.6) };
        let rules = Rules { diversity: Some(diversity), ..Rules::default() };
        let request = SearchRequest { rules, k: 30, ..SearchRequest::vector(dataset.query(&mut random)) };
        let case = Case::new(&dataset, &request);
        let mut before = Vec::new();
        for page in 0..4 {
            let variant = case.with(Effort::EfSearch(40), None, page * 30);
            let answer = dataset.engine.search(&variant, &Budget::default()).unwrap();
            before.extend(case.diverse_rows(&answer, &before).unwrap());
        }
        assert_eq!(before.len(), 120);
    }
}

/// A budget that expires at once: the rest of the page is chosen by scores, and no rule is broken.
#[test]
fn late_pages_are_filled() {
    let dataset = RuledDataset::new(Shape { components: Components::Normal, videos: 4000, ..SHAPE });
    let (mut late, mut found) = (0, 0);
    for seed in 0..40 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let diversity = Diversity { max_similarity: Some(0.95), lambda: Some(0.4) };
        let rules = Rules { diversity: Some(diversity), ..Rules::default() };
        let request = SearchRequest { rules, k: 100, ..SearchRequest::vector(dataset.query(&mut random)) };
        let case = Case::new(&dataset, &request);
        let variant = case.with(Effort::EfSearch(300), Some(Plan::Graph), 0);
        let budget = Budget::until(Some(Instant::now() + Duration::from_micros(450 + 20 * seed)));
        let Ok(answer) = dataset.engine.search(&variant, &budget) else { continue };
        if answer.completeness == Completeness::Deadline {
            late += 1;
            found += answer.candidates.len();
        }
        case.diverse_rows(&answer, &[]).unwrap();
    }
    assert!(late > 5 && found > 0, "{late} late answers with {found} candidates");
}

/// A share of the videos are re-uploads: none is returned beside its original, and Explain says which candidate keeps it out.
#[test]
fn a_re_upload_is_left_out_and_explained() {
    let dataset = RuledDataset::new(Shape { has_duplicates: false, components: Components::Normal, ..SHAPE });
    let mut random = ChaCha8Rng::seed_from_u64(9);
    let query = dataset.query(&mut random);
    let plain = SearchRequest { k: 50, ..SearchRequest::vector(query) };
    let best = dataset.engine.search(&plain, &Budget::default()).unwrap();
    let rules = Rules { diversity: Some(Diversity::max_similarity(0.7)), ..Rules::default() };
    let request = SearchRequest { rules, ..plain };
    let found = dataset.engine.search(&request, &Budget::default()).unwrap();
    assert_eq!(found.candidates.len(), 50);
    let is_left_out = |id: &VideoId| found.candidates.iter().all(|candidate| candidate.video_id != *id);
    let left_out: Vec<VideoId> =
        best.candidates.iter().map(|candidate| candidate.video_id).filter(is_left_out).collect();
    assert!(!left_out.is_empty());
    for video in left_out {
        let explained = dataset.engine.explain(&request, video, &Budget::default()).unwrap();
        let removal = explained.removal.unwrap();
        assert_eq!((removal.rule, &removal.field), (Rule::Diversity, &Field::DiversityMaxSimilarity));
        assert!(removal.reason.starts_with("its similarity to candidate "), "{}", removal.reason);
        assert!(explained.exact_rank.is_some_and(|rank| rank <= 50));
    }
}

#[test]
fn a_wrong_number_is_named() {
    let dataset = RuledDataset::new(SHAPE);
    let mut random = ChaCha8Rng::seed_from_u64(9);
    let query = dataset.query(&mut random);
    let refused = |diversity| {
        let rules = Rules { diversity: Some(diversity), ..Rules::default() };
        let request = SearchRequest { rules, ..SearchRequest::vector(query.clone()) };
        match dataset.engine.search(&request, &Budget::default()) {
            Err(EngineError::InvalidArgument { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    };
    for wrong in [0.0, -0.5, 1.001, f32::NAN, f32::INFINITY] {
        assert_eq!(refused(Diversity::max_similarity(wrong)), Field::DiversityMaxSimilarity);
    }
    for wrong in [-0.001, 1.001, f32::NAN, f32::NEG_INFINITY] {
        assert_eq!(refused(Diversity::lambda(wrong)), Field::DiversityLambda);
    }
}
