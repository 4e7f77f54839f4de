//! Answers to random requests with rules, against a scan of every video.
//!
//! `ORACLE_REQUESTS` is the number of requests per catalog, `ORACLE_FROM` the number of the first one, and
//! `ORACLE_ALL_FAILURES` prints every wrong answer.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use shortlist::base::element::Dtype;
use shortlist::base::id::VideoId;
use shortlist::base::metric::Metric;
use shortlist::engine::{
    Budget, Completeness, Effort, Plan, Query, Rule, SearchRequest, SearchResponse, Shortfall,
};
use shortlist::index::Codes;
use shortlist::rules::Places;

use crate::rules::case::{Case, Failures};
use crate::rules::dataset::{Components, RuledDataset, Shape};
use crate::rules::naive::Page;
use crate::rules::requests::random_request;

const REQUESTS_PER_CATALOG: u64 = 40;

/// Every metric with every element type and quantizer that it supports, from one video to some thousands. Catalogs of 320
/// dimensions are large enough that the planner chooses a traversal.
fn shapes() -> Vec<Shape> {
    use Components::{Grid, Normal, Signs};
    use Dtype::{F16, F32};
    use Metric::{Cosine, InnerProduct, L2};
    let shapes = [
        (1, 8, InnerProduct, F32, Codes::Sq8, Grid, false),
        (2, 8, L2, F16, Codes::None, Grid, false),
        (7, 16, Cosine, F32, Codes::Sq8, Signs, true),
        (65, 16, InnerProduct, F16, Codes::Sq8, Grid, true),
        (300, 16, L2, F32, Codes::None, Grid, true),
        (400, 64, Cosine, F16, Codes::Sq8, Signs, true),
        (500, 24, Cosine, F32, Codes::None, Normal, false),
        (1000, 24, InnerProduct, F32, Codes::None, Grid, true),
        (1000, 24, Cosine, F16, Codes::Sq8, Normal, false),
        (2000, 32, InnerProduct, F32, Codes::Sq8, Normal, false),
        (3000, 32, L2, F16, Codes::None, Grid, false),
        (3000, 32, InnerProduct, F16, Codes::Sq8, Grid, true),
        (3000, 320, InnerProduct, F32, Codes::Sq8, Grid, false),
        (300, 16, L2, F16, Codes::Sq8, Normal, false),
        (3000, 24, L2, F32, Codes::Sq8, Grid, true),
    ];
    let of = |(seed, (videos, dim, metric, dtype, codes, components, has_duplicates))| Shape {
        videos,
        dim,
        metric,
        dtype,
        codes,
        components,
        has_duplicates,
        seed,
    };
    (100..).zip(shapes).map(of).collect()
}

/// Non-exact efforts with every plan that applies to this request.
fn ways(dataset: &RuledDataset, request: &SearchRequest) -> Vec<(Effort, Option<Plan>)> {
    let has_codes = dataset.shape.codes == Codes::Sq8;
    let mut plans = vec![Plan::Graph];
    if has_codes {
        plans.push(Plan::CodeScan);
    }
    if request.rules.filter.is_some() {
        plans.extend([Plan::FilteredGraph, Plan::MatchScan]);
        if has_codes && dataset.shape.metric != Metric::L2 {
            plans.push(Plan::BlockScan);
        }
    }
    let mut ways = vec![(Effort::Default, None), (Effort::EfSearch(1), None), (Effort::EfSearch(20), None)];
    for plan in plans {
        ways.extend([(Effort::Default, Some(plan)), (Effort::EfSearch(request.k.div_ceil(2)), Some(plan))]);
    }
    ways
}

fn search(dataset: &RuledDataset, request: &SearchRequest) -> SearchResponse {
    dataset.search(request)
}

/// The catalog of a shape on the server under test; `None` if it does not serve such catalogs.
pub type New = fn(Shape) -> Option<RuledDataset>;

fn on_engine(shape: Shape) -> Option<RuledDataset> {
    Some(RuledDataset::new(shape))
}

/// All catalogs on a server, one after another.
fn datasets(new: New) -> impl Iterator<Item = (Shape, RuledDataset)> {
    shapes().into_iter().filter_map(move |shape| Some((shape, new(shape)?)))
}

/// The numbered requests of a catalog.
fn requests(dataset: &RuledDataset) -> impl Iterator<Item = (u64, SearchRequest)> + '_ {
    let n = std::env::var("ORACLE_REQUESTS").map_or(REQUESTS_PER_CATALOG, |n| n.parse().unwrap());
    let from = std::env::var("ORACLE_FROM").map_or(0, |n| n.parse().unwrap());
    (from..from + n).map(|number| {
        let mut random = ChaCha8Rng::seed_from_u64(1_000_000_000 + 1_000_000 * dataset.shape.seed + number);
        (number, random_request(dataset, &mut random))
    })
}

#[test]
fn exact_answers_are_those_of_a_look_at_every_video() {
    check_exact_answers(on_engine);
}

pub fn check_exact_answers(new: New) {
    let mut failures = Failures::default();
    for (shape, dataset) in datasets(new) {
        for (number, request) in requests(&dataset) {
            let case = Case::new(&dataset, &request);
            let pages = case.naive.held_pages(3);
            let mut before = Vec::new();
            for (page, Page { rows: expected, held }) in pages.iter().enumerate() {
                let variant = case.with(Effort::Exact, None, page * request.k);
                let answer = search(&dataset, &variant);
                assert_eq!(answer.stats.plan, Plan::ExactScan);
                assert_eq!(
                    answer.stats.matches,
                    request.rules.filter.is_some().then(|| case.naive.count_matches())
                );
                let checked = case.rows(&answer, &before).and_then(|rows| case.equals(&rows, expected));
                let checked = checked.and_then(|()| case.marks(&answer, held));
                failures.add(checked, &variant, &format!("{shape:?}, request {number}"));
                before.extend(expected);
            }
        }
    }
    failures.check();
}

/// Explains videos from all places of the order: which rule excludes or moves them.
#[test]
fn explanations_are_those_of_a_look_at_every_video() {
    let mut failures = Failures::default();
    let mut said: HashMap<String, usize> = HashMap::new();
    for shape in shapes() {
        let dataset = RuledDataset::new(shape);
        for (number, request) in requests(&dataset) {
            let case = Case::new(&dataset, &request);
            if case.tolerance > 0.0 {
                continue;
            }
            let page = number as usize % 3;
            let variant = case.with(Effort::Exact, None, page * request.k);
            let pages = case.naive.pages(page + 1);
            let mut order: Vec<usize> = (0..dataset.videos.len()).collect();
            case.naive.sort(&mut order);
            let near = order.iter().take(4 * request.k).step_by(request.k / 3 + 1);
            let far = order.iter().skip(number as usize % 7).step_by(order.len() / 4 + 1);
            for row in near.chain(far).copied() {
                let video = VideoId(dataset.videos[row].id);
                let found = dataset.engine.explain(&variant, video, &Budget::default()).unwrap();
                let rule = found.removal.as_ref().map(|removal| removal.rule);
                let expected = case.explanation(row, &pages);
                let is_explained = found.rank == expected.2 && found.in_exact_answer == found.rank.is_some();
                let is_right = is_explained
                    && (rule, found.exact_rank) == (expected.0, expected.1)
                    && found.loss == expected.3
                    && found.score == case.score(row);
                let context = format!("{shape:?}, request {number}, video {video}");
                let outcome =
                    if is_right { Ok(()) } else { Err(format!("{found:?}, expected {expected:?}")) };
                failures.add(outcome, &variant, &context);
                *said.entry(format!("{rule:?}")).or_default() += 1;
                *said.entry(format!("{:?}", found.loss)).or_default() += 1;
            }
        }
    }
    failures.check();
    let rules = [Rule::Seed, Rule::Filter, Rule::Exclude, Rule::ScoreThreshold, Rule::Cap, Rule::KeptPlace];
    for rule in rules.into_iter().chain([Rule::Diversity]) {
        assert!(said.get(&format!("{:?}", Some(rule))).is_some_and(|times| *times > 4), "{rule:?}: {said:?}");
    }
    assert!(said.contains_key("Some(EarlierPage)"), "{said:?}");
}

#[test]
fn no_answer_breaks_a_rule_or_is_short_whatever_the_plan() {
    check_every_plan(on_engine);
}

pub fn check_every_plan(new: New) {
    let mut failures = Failures::default();
    let mut recalls = Vec::new();
    for (shape, dataset) in datasets(new) {
        for (number, request) in requests(&dataset) {
            let case = Case::new(&dataset, &request);
            let expected = &case.naive.pages(1)[0];
            for (effort, plan) in ways(&dataset, &request) {
                let variant = case.with(effort, plan, 0);
                let answer = search(&dataset, &variant);
                let rows = case.rows(&answer, &[]);
                let kept = rows.as_ref().map_or(Ok(()), |rows| case.keeps_places(rows));
                if let (Ok(rows), Effort::Default) = (&rows, effort) {
                    recalls.push(case.recall(rows, expected));
                }
                let context = format!("{shape:?}, request {number}, by {:?}", answer.stats.plan);
                failures.add(rows.map(|_| ()).and(kept), &variant, &context);
            }
        }
    }
    let recall = recalls.iter().sum::<f64>() / recalls.len() as f64;
    println!("recall {recall:.4} over {} searches", recalls.len());
    failures.check();
    assert!(recall >= 0.9, "recall {recall}");
}

/// A budget that expires at once: the answer has what was found by then, and is marked.
#[test]
fn late_answers_are_marked_and_break_no_rule() {
    let mut failures = Failures::default();
    let (mut late, mut found) = (0, 0);
    for shape in shapes() {
        let dataset = RuledDataset::new(shape);
        for (number, request) in requests(&dataset) {
            let case = Case::new(&dataset, &request);
            let ways = ways(&dataset, &request).into_iter().chain([(Effort::Exact, None)]);
            for (effort, plan) in ways {
                let variant = case.with(effort, plan, 0);
                // The engine reserves at least 500 µs for the later stages, so the first check already stops.
                let budget = Budget::until(Some(Instant::now() + Duration::from_micros(450)));
                let Ok(answer) = dataset.engine.search(&variant, &budget) else { continue };
                if answer.completeness == Completeness::Deadline {
                    late += 1;
                    found += answer.candidates.len();
                }
                let rows = case.rows(&answer, &[]).map(|_| ());
                failures.add(rows, &variant, &format!("late, {shape:?}, request {number}, by {plan:?}"));
            }
        }
    }
    failures.check();
    assert!(late > 100 && found > 100, "{late} late answers with {found} candidates");
}

#[test]
fn pages_are_of_one_order() {
    check_pages(on_engine);
}

pub fn check_pages(new: New) {
    let mut failures = Failures::default();
    for (shape, dataset) in datasets(new) {
        for (number, request) in requests(&dataset).filter(|(_, request)| request.k > 1) {
            let case = Case::new(&dataset, &request);
            let k = request.k;
            let mut ways = ways(&dataset, &request);
            ways.push((Effort::Exact, None));
            let (effort, plan) = ways[number as usize % ways.len()];
            let (fresh, of_interests) = case.naive.kept();
            let all = of_interests.into_iter().chain(case.naive.kept_for_reserves());
            let keeps_places = fresh + all.sum::<usize>() > 0;
            // Then the pages end with what the search for earlier ones missed.
            let runs_out = case.naive.pages(16).iter().map(Vec::len).sum::<usize>() < 16 * k;
            let mut order = Vec::new();
            let mut lowest = f32::INFINITY;
            let mut is_sound = true;
            for page in 0..5 {
                let variant = case.with(effort, plan, page * k);
                let context = format!("{shape:?}, request {number}, page {page}");
                let answer = search(&dataset, &variant);
                if let Some(first) = answer.candidates.first()
                    && !keeps_places
                    && !runs_out
                    && first.score > lowest
                {
                    let problem = format!("begins with {} after {lowest}", first.score);
                    failures.add(Err(problem), &variant, &context);
                }
                lowest = answer.candidates.last().map_or(lowest, |last| last.score);
                match case.rows(&answer, &order) {
                    Ok(rows) => order.extend(rows),
                    Err(problem) => {
                        failures.add(Err(problem), &variant, &context);
                        is_sound = false;
                        break;
                    }
                }
            }
            // An offset that is no multiple of k overlaps two pages.
            for offset in [1, k - 1, k + k / 2, 3 * k - 1] {
                if !is_sound {
                    break;
                }
                let variant = case.with(effort, plan, offset);
                let found = search(&dataset, &variant).candidates;
                let mut expected: Vec<usize> = order.iter().skip(offset).take(k).copied().collect();
                case.naive.sort(&mut expected);
                let rows: Vec<usize> =
                    found.iter().map(|candidate| case.rows[&candidate.video_id.0]).collect();
                let context = format!("{shape:?}, request {number}, between pages");
                failures.add(case.equals(&rows, &expected), &variant, &context);
            }
        }
    }
    failures.check();
}

#[test]
fn the_requests_meet_every_corner() {
    let mut met: HashMap<String, usize> = HashMap::new();
    for shape in shapes() {
        let dataset = RuledDataset::new(shape);
        for (_, request) in requests(&dataset) {
            let case = Case::new(&dataset, &request);
            let mut add =
                |is_so: bool, what: &str| *met.entry(what.to_owned()).or_default() += usize::from(is_so);
            let (naive, all) = (&case.naive, dataset.videos.len());
            let (kept_fresh, kept) = naive.kept();
            let page = &naive.pages(1)[0];
            let has_filter = request.rules.filter.is_some();
            add(request.k == 1, "k = 1");
            add(request.k > naive.count_matches(), "k above the matches");
            add(has_filter && naive.count_matches() == 0, "a filter that nothing matches");
            add(has_filter && naive.count_matches() == 1 && all > 1, "a filter that one video matches");
            add(has_filter && naive.count_matches() == all, "a filter that everything matches");
            let is_out = |row| naive.is_excluded(row) || !naive.matches(row) || naive.is_seed(row);
            add(naive.count_matches() > 0 && (0..all).all(is_out), "everything excluded");
            let fresh = page.iter().filter(|row| naive.is_fresh(**row)).count();
            add(fresh < kept_fresh, "too few fresh videos");
            add(kept_fresh > 0 && fresh >= kept_fresh, "enough fresh videos");
            add(kept.iter().any(|kept| *kept > 0), "places kept for interests");
            let for_reserves = naive.kept_for_reserves();
            let reserves = &request.rules.reserves;
            let of_reserve = |at: usize| page.iter().filter(|row| naive.is_of_reserve(at, **row)).count();
            let has_few = |at: usize| of_reserve(at) < for_reserves[at];
            add((0..reserves.len()).any(|at| for_reserves[at] > 0 && !has_few(at)), "enough of a reserve");
            add((0..reserves.len()).any(has_few), "too few of a reserve");
            let is_drawn = |at: &usize| reserves[*at].sample.is_some() && for_reserves[*at] > 0;
            add((0..reserves.len()).any(|at| is_drawn(&at)), "a reserve that is drawn from");
            add((0..reserves.len()).filter(is_drawn).count() > 1, "two reserves that are drawn from");
            add(reserves.iter().any(|of| matches!(of.places, Places::Share(_))), "a share of places");
            let of = |at: usize| naive.scored.iter().filter(|scored| scored.interest == at).count();
            add(
                kept.len() > 1 && (0..kept.len()).any(|at| of(at) == 0),
                "an interest that nothing fits best",
            );
            add(kept.len() == 16, "16 interests");
            add(request.rules.caps.len() == 2, "two caps");
            add(request.rules.caps.len() == 16, "16 caps");
            let of_caps = |name: &str| {
                request.rules.caps.iter().any(|cap| cap.attribute == name && cap.max_per_value == 1)
            };
            add(of_caps("region"), "one per region");
            add(of_caps("topics"), "one per topic");
            if page.len() < request.k {
                for reason in naive.reasons(page) {
                    add(true, &format!("{reason:?}"));
                }
            }
            match &request.query {
                Query::Vector(vector) => add(vector.iter().all(|value| *value == 0.0), "a query of zeros"),
                Query::Seeds(_) => add(true, "seeds"),
                Query::Interests(_) => {}
            }
        }
    }
    let corners = [
        "k = 1",
        "k above the matches",
        "a filter that nothing matches",
        "a filter that one video matches",
        "a filter that everything matches",
        "everything excluded",
        "too few fresh videos",
        "enough fresh videos",
        "places kept for interests",
        "enough of a reserve",
        "too few of a reserve",
        "a reserve that is drawn from",
        "two reserves that are drawn from",
        "a share of places",
        "an interest that nothing fits best",
        "16 interests",
        "two caps",
        "16 caps",
        "one per region",
        "one per topic",
        "a query of zeros",
        "seeds",
    ];
    let shortfalls = [
        Shortfall::IndexExhausted,
        Shortfall::TooFewMatches,
        Shortfall::Excluded,
        Shortfall::CapsExhausted,
        Shortfall::ScoreThreshold,
        Shortfall::TooSimilar,
    ];
    let short = shortfalls.map(|shortfall| format!("{:?}", Completeness::Short(shortfall)));
    for corner in corners.map(str::to_owned).iter().chain(&short) {
        assert!(
            met.get(corner).is_some_and(|times| *times >= 3),
            "expected {corner} 3 times or more: {met:#?}"
        );
    }
}
