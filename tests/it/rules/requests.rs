//! Random requests that cover the corner cases of every rule.

use std::ops::Bound;

use jiff::SignedDuration;
use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use shortlist::base::id::VideoId;
use shortlist::base::metric::Metric;
use shortlist::engine::{Interest, Query, SearchRequest, Seed};
use shortlist::rules::{
    Cap, Condition, Diversity, Exclude, Filter, Fresh, Number, Places, Reserve, Sample, ScoreTerm, TermForm,
    Time,
};

use crate::rules::dataset::{Components, REGIONS, RuledDataset, TOPICS, VIEWS};
use crate::rules::naive::Naive;

/// A search for the `k` best of a vector, without rules.
pub fn plain(query: Query, k: usize) -> SearchRequest {
    SearchRequest { query, k, ..SearchRequest::default() }
}

/// Any request that is valid for the catalog, with the effort left to the server.
pub fn random_request(dataset: &RuledDataset, random: &mut ChaCha8Rng) -> SearchRequest {
    let k = *[1, 2, 3, 7, 10, 25, 100, 250].choose(random).unwrap();
    let mut request = plain(query(dataset, k, random), k);
    request.rules.filter = filter(dataset, random);
    request.rules.caps = caps(random);
    let kept: usize = Naive::new(dataset, &request).kept().1.iter().sum();
    request.rules.fresh = fresh(k - kept, random);
    let kept = kept + request.rules.fresh.as_ref().map_or(0, |fresh| fresh.at_least);
    request.rules.reserves = reserves(dataset, k, k - kept, random);
    request.rules.score_terms = score_terms(random);
    request.rules.diversity = max_similarity(random).map(Diversity::max_similarity);
    // These two depend on what would be found without them.
    request.rules.exclude = exclude(dataset, &request, random);
    request.rules.score_threshold = threshold(dataset, &request, random);
    request
}

fn query(dataset: &RuledDataset, k: usize, random: &mut ChaCha8Rng) -> Query {
    match random.random_range(0..20) {
        // Zeros are a point under L2, and refused elsewhere.
        0 if dataset.shape.metric == Metric::L2 => Query::Vector(vec![0.0; dataset.shape.dim]),
        0..10 => Query::Vector(dataset.query(random)),
        10..14 => seeds(dataset, random),
        _ => interests(dataset, k, random),
    }
}

fn seeds(dataset: &RuledDataset, random: &mut ChaCha8Rng) -> Query {
    // Normalizing is exact for one vector of signs, but not for a sum of several.
    let most = if dataset.shape.components == Components::Signs { 1 } else { 3 };
    // Some of these never add up to zero: a video may be drawn twice.
    let mut weights = [1.0, 0.5, -0.25, -2.0];
    weights.shuffle(random);
    let mut seeds: Vec<Seed> = weights[..random.random_range(1..=most)]
        .iter()
        .map(|weight| {
            let video_id = VideoId(dataset.videos.choose(random).unwrap().id);
            Seed { video_id, weight: *weight }
        })
        .collect();
    if random.random_bool(0.3) {
        seeds.push(Seed { video_id: VideoId(12), weight: 100.0 });
    }
    Query::Seeds(seeds)
}

fn interests(dataset: &RuledDataset, k: usize, random: &mut ChaCha8Rng) -> Query {
    let count = *[1, 2, 3, 5, 16].choose(random).unwrap();
    let vectors: Vec<Vec<f32>> = (0..count).map(|_| dataset.query(random)).collect();
    // Equal weights, a first interest 100 times as heavy, or a second of half the weight.
    let weights = random.random_range(0..3);
    let weight = |at: usize| match (weights, at) {
        (0, _) => 1.0,
        (1, 0) => 100.0,
        (_, 1) => 0.5,
        _ => 1.0,
    };
    let shares = random.random_range(0..4);
    let hundredths = |at: usize| match shares {
        0 | 1 => 0,
        2 => 100 / count,
        _ => [50, 30, 15].get(at).copied().unwrap_or_default(),
    };
    let interest = |(at, vector): (usize, Vec<f32>)| {
        let min_share = if k == 1 { 0.0 } else { hundredths(at) as f32 / 100.0 };
        Interest { vector, weight: weight(at), min_share }
    };
    let mut interests: Vec<Interest> = vectors.into_iter().enumerate().map(interest).collect();
    if count > 1 && random.random_bool(0.2) {
        // The second interest equals the first and gets nothing: ties go to the first.
        interests[1].vector = interests[0].vector.clone();
    }
    Query::Interests(interests)
}

fn caps(random: &mut ChaCha8Rng) -> Vec<Cap> {
    let cap = |attribute: &str, max_per_value| Cap { attribute: attribute.to_owned(), max_per_value };
    match random.random_range(0..12) {
        0..5 => Vec::new(),
        5 => vec![cap("creator", 1)],
        6 => vec![cap("region", 1)],
        7 => vec![cap("topics", random.random_range(1..4))],
        8 => vec![cap("creator", 2), cap("topics", random.random_range(2..30))],
        9 => vec![cap("views", random.random_range(1..4)), cap("region", random.random_range(1..20))],
        10 => vec![cap("safe", random.random_range(1..20)), cap("safe", random.random_range(1..20))],
        _ => {
            let names = ["creator", "region", "topics", "views", "safe"];
            (0..16).map(|_| cap(names.choose(random).unwrap(), random.random_range(5..60))).collect()
        }
    }
}

fn fresh(most: usize, random: &mut ChaCha8Rng) -> Option<Fresh> {
    // Videos are of the last 2,000 hours, a tenth without time. These match few, some, most or all of them; the last
    // exceeds the range of timestamps.
    let hours = [1, 10, 200, 1_500, 3_000, 200_000_000];
    random.random_bool(0.3).then(|| Fresh {
        attribute: "published_at".to_owned(),
        within: SignedDuration::from_hours(*hours.choose(random).unwrap()),
        at_least: random.random_range(0..=most),
    })
}

/// Few or many pairs of videos are more similar than these, which no cosine of small integers is near.
fn max_similarity(random: &mut ChaCha8Rng) -> Option<f32> {
    random.random_bool(0.25).then(|| *[0.98, 0.8123, 0.4987, 0.2019].choose(random).unwrap())
}

/// Up to three reserves, for which at most `most` of `k` places are kept.
fn reserves(dataset: &RuledDataset, k: usize, most: usize, random: &mut ChaCha8Rng) -> Vec<Reserve> {
    if random.random_bool(0.6) {
        return Vec::new();
    }
    let mut left = most;
    let mut reserve = |_| {
        let mut at_least = random.random_range(0..=left);
        let places = match (random.random_range(0..3), k) {
            (0, 10 | 100) => Places::Share(at_least as f32 / k as f32),
            (1, _) => {
                at_least /= 4;
                Places::AtLeast(at_least)
            }
            _ => Places::AtLeast(at_least),
        };
        left -= at_least;
        // Rounding could change which videos are drawn.
        let is_drawn = dataset.shape.components.are_exact() && random.random_bool(0.4);
        // From nearly the best to nearly any.
        let temperatures = [0.01, 1.0, 100.0, 1e9];
        let sample = is_drawn
            .then(|| Sample { temperature: *temperatures.choose(random).unwrap(), seed: random.random() });
        Reserve { filter: filter(dataset, random).unwrap_or_default(), places, sample }
    };
    let count = [1, 1, 2, 3][k % 4];
    (0..count).map(&mut reserve).collect()
}

/// Terms whose sums do not depend on the time, and are numbers that `f32` has exactly.
fn score_terms(random: &mut ChaCha8Rng) -> Vec<ScoreTerm> {
    if random.random_bool(0.6) {
        return Vec::new();
    }
    // Steps of the grid that embeddings are on, some of them as large as the differences of scores.
    let weight =
        f64::from(random.random_range(-4i32..=16)) / 8.0 * *[0.125, 1.0, 8.0].choose(random).unwrap();
    let of = |attribute: &str, weight, form| ScoreTerm { attribute: attribute.to_owned(), weight, form };
    let clamp = TermForm::Clamp { from: 2.0, to: 6.0 };
    let any_of =
        |words: &[&str]| TermForm::Match { any_of: words.iter().map(|word| (*word).to_owned()).collect() };
    let mut terms = vec![
        of("views", weight, TermForm::Linear),
        of("views", -weight, clamp),
        of("region", weight, any_of(&[REGIONS[0], "nowhere", REGIONS[1]])),
        of("topics", weight / 2.0, any_of(&TOPICS[..2])),
        of("creator", weight, any_of(&["creator-1", "creator-3"])),
    ];
    terms.shuffle(random);
    terms.truncate(random.random_range(1..=3));
    terms
}

/// A request may exclude at most 100,000 videos.
const MOST_EXCLUDED: usize = 99_000;

fn exclude(dataset: &RuledDataset, request: &SearchRequest, random: &mut ChaCha8Rng) -> Exclude {
    let naive = Naive::new(dataset, request);
    let mut order: Vec<usize> = (0..dataset.videos.len()).filter(|row| naive.passes(*row)).collect();
    naive.sort(&mut order);
    let best = match random.random_range(0..12) {
        0..6 => 0,
        6 => random.random_range(0..10),
        7 => request.k,
        8 => 10 * request.k,
        9 => order.len(),
        10 => order.len() - order.len() / 20,
        _ => {
            let some = (0..200).filter_map(|_| order.choose(random));
            order = some.copied().collect();
            order.len()
        }
    };
    let mut video_ids: Vec<VideoId> =
        order.iter().take(best.min(MOST_EXCLUDED)).map(|row| VideoId(dataset.videos[*row].id)).collect();
    if random.random_bool(0.3) {
        video_ids.extend([VideoId(0), VideoId(u64::MAX), VideoId(0)]);
    }
    Exclude { video_ids, ..Exclude::default() }
}

/// A threshold midway between two scores, so that rounding does not matter, or equal to a score if scores are exact.
fn threshold(dataset: &RuledDataset, request: &SearchRequest, random: &mut ChaCha8Rng) -> Option<f32> {
    let naive = Naive::new(dataset, request);
    let mut scores: Vec<f32> = naive.scored.iter().map(|scored| scored.score).collect();
    scores.sort_by(|a, b| b.total_cmp(a));
    let (best, worst) = (scores[0], scores[scores.len() - 1]);
    match random.random_range(0..10) {
        0 => Some(best + 1.0),
        1 => Some(worst - 1.0),
        2 | 3 => {
            let at = random.random_range(0..(2 * request.k).min(scores.len()));
            if dataset.shape.components.are_exact() {
                return Some(scores[at]);
            }
            let (upper, lower) = (scores[at], *scores.get(at + 1)?);
            (upper - lower > 1e-3 * upper.abs().max(1.0)).then_some((upper + lower) / 2.0)
        }
        _ => None,
    }
}

fn filter(dataset: &RuledDataset, random: &mut ChaCha8Rng) -> Option<Filter> {
    let must = |condition| Filter { must: vec![condition], ..Filter::default() };
    let some = |count: usize, random: &mut ChaCha8Rng| {
        let ids = (0..count).map(|_| VideoId(dataset.videos.choose(random).unwrap().id));
        Condition::VideoId { any_of: ids.collect() }
    };
    Some(match random.random_range(0..14) {
        0..4 => return None,
        4 => Filter::default(),
        5 => must(keyword("creator", &["nobody"])),
        6 => must(some(1, random)),
        7 => must(some(random.random_range(2..60), random)),
        8 => must(keyword("region", &REGIONS[..random.random_range(1..3)])),
        _ => tree(2, random),
    })
}

fn keyword(attribute: &str, any_of: &[&str]) -> Condition {
    let any_of = any_of.iter().map(|word| (*word).to_owned()).collect();
    Condition::Keyword { attribute: attribute.to_owned(), any_of }
}

/// A random filter with at most `depth` levels nested in it.
fn tree(depth: usize, random: &mut ChaCha8Rng) -> Filter {
    let mut clause = |most: usize| -> Vec<Condition> {
        (0..random.random_range(0..=most)).map(|_| condition(depth, random)).collect()
    };
    let (must, should, must_not) = (clause(2), clause(3), clause(1));
    let min_should = random.random_bool(0.5).then(|| random.random_range(0..=should.len()));
    Filter { must, should, must_not, min_should }
}

fn condition(depth: usize, random: &mut ChaCha8Rng) -> Condition {
    let words = |least: usize, random: &mut ChaCha8Rng| -> Vec<String> {
        let count = random.random_range(least..least + 3);
        (0..count).map(|_| (*TOPICS.choose(random).unwrap()).to_owned()).collect()
    };
    match random.random_range(if depth == 0 { 1 } else { 0 }..8) {
        0 => Condition::Filter(tree(depth - 1, random)),
        1 => keyword("region", &[REGIONS.choose(random).unwrap()]),
        2 => {
            let least = random.random_range(0..2);
            let (any_of, all_of) = (words(least, random), words(1 - least, random));
            Condition::List { attribute: "topics".to_owned(), any_of, all_of }
        }
        3 => Condition::Number {
            attribute: "views".to_owned(),
            lower: Bound::Included(Number::Int64(random.random_range(0..VIEWS))),
            upper: Bound::Unbounded,
        },
        4 => Condition::Number {
            attribute: "score".to_owned(),
            lower: Bound::Excluded(Number::Double(random.random_range(0.0..0.5))),
            upper: Bound::Included(Number::Double(random.random_range(0.0..1.5))),
        },
        5 => {
            let ago = Time::Ago(SignedDuration::from_hours(random.random_range(0..2_500)));
            let (lower, upper) = match random.random() {
                true => (Bound::Included(ago), Bound::Unbounded),
                false => (Bound::Unbounded, Bound::Excluded(ago)),
            };
            Condition::Time { attribute: "published_at".to_owned(), lower, upper }
        }
        6 => Condition::Bool { attribute: "safe".to_owned(), value: random.random_bool(0.8) },
        _ => {
            let attribute = ["creator", "topics", "published_at"].choose(random).unwrap().to_string();
            Condition::IsNull { attribute }
        }
    }
}
