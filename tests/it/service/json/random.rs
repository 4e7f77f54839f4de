//! Random searches of a [`TestIndex`](crate::harness::TestIndex), some of which are refused.

use prost_types::{Duration, Timestamp};
use rand::RngExt as _;
use rand::seq::IndexedRandom as _;
use rand_chacha::ChaCha8Rng;
use shortlist::service::proto::{
    Bloom, Condition, Dtype, Exclude, Filter, Number, NumberRange, PackedVector, Plan, SearchParams,
    SearchRequest, Time, TimeRange, Vector, VideoIdCondition, condition, number, search_params,
    search_request, time,
};

use crate::harness::wire::{bool_is, cap, fresh, interests, keyword, list, seeds, wrapped};
use crate::harness::{DIM, MODEL, request, video_id};

/// Attributes of the index, and one that it does not have.
const NAMES: [&str; 8] = ["title", "tags", "delta", "views", "rating", "safe", "published_at", "none"];
/// Those that may be capped, and one that may not.
const CAPPED: [&str; 12] =
    ["title", "tags", "delta", "views", "safe", "safe", "tags", "title", "delta", "views", "safe", "rating"];
const VIDEOS: usize = 200;
/// Filters as text, and one that is none.
const TEXTS: [&str; 4] =
    ["safe = true", "delta >= -50 and not title = \"title 3\"", "views > 10 or rating < 0.5", "safe = yes"];

/// Any request. Most are valid.
pub fn search(random: &mut ChaCha8Rng) -> SearchRequest {
    let k = *[1, 3, 10, 50, 300].choose(random).unwrap();
    let name = |random: &mut ChaCha8Rng, share| {
        random.random_bool(share).then(|| (*NAMES.choose(random).unwrap()).to_owned())
    };
    SearchRequest {
        query: query(random),
        k: if random.random_bool(0.02) { 0 } else { k },
        params: random.random_bool(0.5).then(|| params(random)),
        filter: random.random_bool(0.6).then(|| filter(random, 3)),
        filter_text: match random.random_bool(0.1) {
            true => (*TEXTS.choose(random).unwrap()).to_owned(),
            false => String::new(),
        },
        exclude: random.random_bool(0.4).then(|| exclude(random)),
        caps: (0..random.random_range(0..3))
            .map(|_| cap(CAPPED.choose(random).unwrap(), random.random_range(1..20)))
            .collect(),
        fresh: random.random_bool(0.2).then(|| fresh("published_at", random.random_range(0..5))).flatten(),
        score_threshold: random.random_bool(0.2).then(|| random.random_range(-3.0..3.0)),
        offset: if random.random_bool(0.2) { random.random_range(0..20) } else { 0 },
        return_attributes: name(random, 0.4)
            .into_iter()
            .chain(random.random_bool(0.2).then(|| "*".to_owned()))
            .collect(),
        return_vectors: random.random_bool(0.3),
        return_stats: random.random_bool(0.3),
        embedding_model: ["", "", MODEL, if k == 1 { "other" } else { "" }]
            .choose(random)
            .unwrap()
            .to_string(),
        ..request(&[], 0)
    }
}

fn components(random: &mut ChaCha8Rng) -> Vec<f32> {
    let strange = [f32::NAN, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE, -0.0, 1e-40];
    let one = |random: &mut ChaCha8Rng| match random.random_range(0..400) {
        0 => *strange.choose(random).unwrap(),
        _ => random.random_range(-2.0..2.0f32),
    };
    let count = if random.random_bool(0.02) { DIM + 1 } else { DIM };
    (0..count).map(|_| one(random)).collect()
}

fn query(random: &mut ChaCha8Rng) -> Option<search_request::Query> {
    let some = |random: &mut ChaCha8Rng| video_id(random.random_range(0..VIDEOS + 5));
    match random.random_range(0..20) {
        0 => None,
        1..10 => request(&components(random), 1).query,
        10..13 => {
            let data = components(random).iter().flat_map(|value| value.to_le_bytes()).collect();
            let packed = Some(PackedVector { data, dtype: Dtype::F32.into() });
            Some(search_request::Query::Vector(Vector { values: Vec::new(), packed }))
        }
        13..16 => seeds(&[(some(random), None), (some(random), Some(random.random_range(-1.0..1.0)))]),
        _ => interests(&[
            (&components(random), 1.0, 0.2),
            (&components(random), random.random_range(0.1..2.0), 0.1),
        ]),
    }
}

fn params(random: &mut ChaCha8Rng) -> SearchParams {
    let effort = match random.random_range(0..16) {
        0 => search_params::Effort::Exact(random.random()),
        1 => search_params::Effort::TargetRecall(0.9),
        _ => search_params::Effort::EfSearch(random.random_range(1..400)),
    };
    let plans =
        [[Plan::Unspecified; 4], [Plan::Unspecified, Plan::Graph, Plan::ExactScan, Plan::MatchScan]].concat();
    let plan = if random.random_bool(0.02) { 77 } else { i32::from(*plans.choose(random).unwrap()) };
    SearchParams {
        effort: random.random_bool(0.8).then_some(effort),
        plan,
        effort_k: random.random_range(0..300),
        mark_matches: random.random_bool(0.1),
    }
}

fn exclude(random: &mut ChaCha8Rng) -> Exclude {
    let video_ids =
        (0..random.random_range(0..30)).map(|_| video_id(random.random_range(0..VIDEOS))).collect();
    let bits = (0..random.random_range(0..20)).map(|_| random.random()).collect();
    let bloom = random.random_bool(0.2).then(|| Bloom {
        bits,
        hashes: random.random_range(0..30),
        seed: random.random(),
    });
    Exclude { video_ids, bloom, ..Exclude::default() }
}

fn filter(random: &mut ChaCha8Rng, depth: usize) -> Filter {
    let clause = |random: &mut ChaCha8Rng| -> Vec<Condition> {
        let conditions = (0..random.random_range(0..2)).map(|_| condition(random, depth)).collect();
        wrapped(conditions)
    };
    let (must, should, must_not) = (clause(random), clause(random), clause(random));
    Filter { must, should, must_not, min_should: random.random_bool(0.2).then(|| random.random_range(0..3)) }
}

fn condition(random: &mut ChaCha8Rng, depth: usize) -> condition::Condition {
    let bound = |random: &mut ChaCha8Rng| {
        let number = match random.random_range(0..4) {
            0 => number::Number::Uint64(u64::MAX - random.random_range(0..300)),
            1 => number::Number::Double(random.random_range(-300.0..300.0)),
            _ => number::Number::Int64(random.random_range(-300..300)),
        };
        random.random_bool(0.7).then_some(Number { number: Some(number) })
    };
    let at = |random: &mut ChaCha8Rng| {
        let nanos = *[0, 1_000, 500_000_000].choose(random).unwrap();
        let time = match random.random() {
            true => time::Time::At(Timestamp { seconds: random.random_range(-10..400), nanos }),
            false => time::Time::Ago(Duration { seconds: random.random_range(0..2_000_000_000), nanos }),
        };
        random.random_bool(0.7).then_some(Time { time: Some(time) })
    };
    let attribute = if random.random_bool(0.01) { "none" } else { "" };
    let or = |name: &'static str| if attribute.is_empty() { name } else { attribute };
    match random.random_range(0..8) {
        0 if depth > 0 => condition::Condition::Filter(filter(random, depth - 1)),
        1 => keyword(or("title"), &["title 3", "title 5", "é\"\\\n"]),
        2 => list(or("tags"), &["all", "tag-9"][random.random_range(0..2)..]),
        3 => condition::Condition::Number(NumberRange {
            attribute: or(["delta", "views", "rating"].choose(random).unwrap()).to_owned(),
            gte: bound(random),
            lt: bound(random),
            ..NumberRange::default()
        }),
        4 => condition::Condition::Time(TimeRange {
            attribute: or("published_at").to_owned(),
            gt: at(random),
            lte: at(random),
            ..TimeRange::default()
        }),
        5 => condition::Condition::VideoId(VideoIdCondition {
            any_of: (0..random.random_range(0..50))
                .map(|_| video_id(random.random_range(0..VIDEOS)))
                .collect(),
        }),
        _ => bool_is(or("safe"), random.random()),
    }
}
