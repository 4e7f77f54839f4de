//! Vectors of every magnitude: each is refused by name, or gives the scores of double precision.

use proptest::collection::vec;
use proptest::prelude::*;
use shortlist::base::id::VideoId;
use shortlist::engine::{
    Budget, Effort, Engine, EngineOptions, Interest, Query, SearchRequest, Seed, WriteMode,
};
use shortlist::{Dataset, Embeddings, Index, IndexBuilder, Metric, Mutation, Upsert};

/// The largest accepted norm.
const MAX_NORM: f64 = 1e15;

/// Finite numbers of every exponent, zeros included. Most vectors keep to one order of magnitude.
fn vectors(dim: usize) -> impl Strategy<Value = Vec<f32>> {
    let any_bits = any::<u32>().prop_map(f32::from_bits).prop_filter("finite", |value| value.is_finite());
    let scaled = (-149i32..128, vec(-1f64..1.0, dim)).prop_map(|(exponent, values)| {
        values.iter().map(|value| (value * 2f64.powi(exponent)) as f32).collect()
    });
    prop_oneof![
        6 => scaled,
        4 => vec(-2f32..2.0, dim),
        2 => vec(any_bits, dim),
        1 => Just(vec![0.0; dim]),
    ]
}

fn norm(vector: &[f32]) -> f64 {
    vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

fn dot(one: &[f64], other: &[f32]) -> f64 {
    one.iter().zip(other).map(|(a, b)| a * f64::from(*b)).sum()
}

fn is_zero(vector: &[f32]) -> bool {
    vector.iter().all(|value| *value == 0.0)
}

/// The score in double precision, and how much single precision may be off.
fn oracle(metric: Metric, query: &[f64], row: &[f32]) -> (f64, f64) {
    let of_query = query.iter().map(|value| value * value).sum::<f64>().sqrt();
    let (scale, of_row) = (1e-4, norm(row));
    // Squares and products below the smallest normal number lose digits.
    let least = 1e-36;
    match metric {
        Metric::InnerProduct => (dot(query, row), scale * of_query * of_row + least),
        Metric::Cosine => (dot(query, row) / of_query / of_row, scale),
        Metric::L2 => {
            let difference = query.iter().zip(row).map(|(a, b)| (a - f64::from(*b)).powi(2));
            (-difference.sum::<f64>(), scale * (of_query + of_row).powi(2) + least)
        }
    }
}

/// Checks answers for a query against every row.
fn check(
    metric: Metric,
    query: &[f64],
    rows: &[(u64, &[f32])],
    found: &[(VideoId, f32)],
) -> Result<(), TestCaseError> {
    prop_assert_eq!(found.len(), rows.len());
    for (video, score) in found {
        let (_, row) = rows.iter().find(|(id, _)| *id == video.0).unwrap();
        let (expected, tolerance) = oracle(metric, query, row);
        prop_assert!(score.is_finite(), "{} scores {}", video.0, score);
        let off = (f64::from(*score) - expected).abs();
        prop_assert!(
            off <= tolerance,
            "{} scores {} under {}, expected {}",
            video.0,
            score,
            metric,
            expected
        );
    }
    prop_assert!(found.is_sorted_by(|a, b| a.1 >= b.1));
    Ok(())
}

fn metrics() -> impl Strategy<Value = Metric> {
    prop::sample::select(Metric::ALL.to_vec())
}

fn wide(vector: &[f32]) -> Vec<f64> {
    vector.iter().map(|value| f64::from(*value)).collect()
}

/// Whether a row or a query of the index is to be refused.
fn is_refused(vector: &[f32], zeros_refused: bool) -> bool {
    norm(vector) > MAX_NORM || zeros_refused && is_zero(vector)
}

/// Norms so close to the bound that rounding decides are not of interest.
fn is_clear(vector: &[f32]) -> bool {
    (norm(vector) / MAX_NORM - 1.0).abs() > 1e-3
}

fn found(response: &shortlist::SearchResponse) -> Vec<(VideoId, f32)> {
    response.candidates.iter().map(|candidate| (candidate.video_id, candidate.score)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn rows_and_queries_are_refused_or_scored_as_in_double_precision(
        metric in metrics(),
        (rows, query, users) in (1usize..40).prop_flat_map(|dim| {
            (vec(vectors(dim).prop_filter("clear", |row| is_clear(row)), 1..12), vectors(dim), vec(vectors(dim), 1..4))
        }),
        is_exact in any::<bool>(),
    ) {
        prop_assume!(is_clear(&query) && users.iter().all(|user| is_clear(user)));
        let dim = query.len();
        let built = Dataset::from_rows(dim, rows.concat());
        let long = rows.iter().position(|row| norm(row) > MAX_NORM);
        if let Some(row) = long {
            let error = built.unwrap_err().to_string();
            let expected = format!("dataset in memory: row {row}: expected a vector of norm 1e15 at most");
            prop_assert!(error.starts_with(&expected), "{}", error);
            return Ok(());
        }
        let built = Index::builder(metric).build(&built.unwrap());
        let zero = rows.iter().position(|row| is_zero(row)).filter(|_| metric == Metric::Cosine);
        if let Some(row) = zero {
            let error = built.unwrap_err().to_string();
            prop_assert!(error.contains(&format!("row {row}: expected a non-zero vector")), "{}", error);
            return Ok(());
        }
        let index = built.unwrap();
        let all: Vec<(u64, &[f32])> = (0..).zip(rows.iter().map(Vec::as_slice)).collect();
        let ask = |query: Query| {
            let request = SearchRequest { query, k: rows.len(), ..SearchRequest::default() };
            index.search(&if is_exact { request.exact() } else { request })
        };
        let zeros_refused = metric != Metric::L2;
        match ask(Query::Vector(query.clone())) {
            Ok(answer) => {
                prop_assert!(!is_refused(&query, zeros_refused));
                check(metric, &wide(&query), &all, &found(&answer))?;
            }
            Err(error) => {
                prop_assert!(is_refused(&query, zeros_refused), "{}", error);
                prop_assert!(error.to_string().contains("vector: expected"), "{}", error);
            }
        }
        // The best interest of each video; the one that cannot be used is named.
        let interests: Vec<Interest> = users
            .iter()
            .zip([1e6, 1.0, 1e-6])
            .map(|(vector, weight)| Interest { vector: vector.clone(), weight, min_share: 0.0 })
            .collect();
        match ask(Query::Interests(interests)) {
            Ok(answer) => prop_assert!(answer.candidates.iter().all(|candidate| candidate.score.is_finite())),
            Err(error) => {
                let first = users.iter().position(|user| is_refused(user, zeros_refused)).unwrap();
                prop_assert!(error.to_string().contains(&format!("interests[{first}].vector: expected")), "{}", error);
            }
        }
    }

    #[test]
    fn seeds_are_refused_or_scored_as_in_double_precision(
        metric in metrics(),
        rows in (1usize..20).prop_flat_map(|dim| vec(vectors(dim).prop_filter("short", |row| norm(row) < 9e14), 1..8)),
        seeds in vec((0usize..8, any::<u32>().prop_map(f32::from_bits).prop_filter("finite", |w| w.is_finite())), 1..5),
        is_ordinary in any::<bool>(),
    ) {
        prop_assume!(metric != Metric::Cosine || rows.iter().all(|row| !is_zero(row)));
        let dim = rows[0].len();
        let index = Index::builder(metric).build(&Dataset::from_rows(dim, rows.concat()).unwrap()).unwrap();
        let seeds: Vec<Seed> = seeds
            .iter()
            .map(|(row, weight)| Seed {
                video_id: VideoId((row % rows.len()) as u64),
                weight: if is_ordinary { weight.signum() * 0.5 } else { *weight },
            })
            .collect();
        // Rows are stored normalized under cosine, in single precision.
        let stored = |row: &[f32]| match metric {
            Metric::Cosine => wide(row).iter().map(|value| value / norm(row)).collect(),
            _ => wide(row),
        };
        let mut sum = vec![0.0; dim];
        let mut lengths = 0.0;
        for seed in &seeds {
            let row = stored(&rows[seed.video_id.0 as usize]);
            sum.iter_mut().zip(&row).for_each(|(sum, value)| *sum += f64::from(seed.weight) * value);
            lengths += f64::from(seed.weight.abs()) * row.iter().map(|value| value * value).sum::<f64>().sqrt();
        }
        let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
        let request = SearchRequest { query: Query::Seeds(seeds.clone()), k: rows.len(), ..SearchRequest::default() };
        match index.search(&request) {
            Err(error) => {
                let text = error.to_string();
                prop_assert!(text.contains("seeds: expected a weighted sum"), "{}", text);
                let cancels = length <= 1e-5 * lengths || length < 1e-30;
                prop_assert!(length > 0.99 * MAX_NORM || cancels, "{} of {}: {}", length, lengths, text);
            }
            Ok(answer) => {
                prop_assert!(length <= 1.01 * MAX_NORM);
                let left: Vec<(u64, &[f32])> = (0..)
                    .zip(rows.iter().map(Vec::as_slice))
                    .filter(|(id, _)| seeds.iter().all(|seed| seed.video_id.0 != *id))
                    .collect();
                // Sums below the smallest normal number, and sums that nearly cancel, have few digits.
                if length > 1e-30 && length > 0.1 * lengths {
                    check(metric, &sum, &left, &found(&answer))?;
                }
                prop_assert!(answer.candidates.iter().all(|candidate| candidate.score.is_finite()));
            }
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn upserts_are_refused_or_scored_as_in_double_precision(
        metric in metrics(), upserts in vec(vectors(6).prop_filter("clear", |row| is_clear(row)), 1..10),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("videos");
        let first = vec![1.0, 2.0, 0.5, -1.0, 0.25, 3.0];
        Index::builder(metric).publish(&Dataset::from_rows(6, first.clone()).unwrap(), &dir).unwrap();
        let indexes = vec![("videos".to_owned(), dir)];
        let engine = Engine::open(EngineOptions { indexes, threads: 1, is_writable: true, ..EngineOptions::default() }).unwrap();
        let mutations = (1..).zip(&upserts);
        let mutations = mutations.map(|(id, row)| Mutation::Upsert(Upsert::new(VideoId(id), row.clone()))).collect();
        let written = engine.write("videos", mutations, WriteMode::EachAlone).unwrap();
        let is_refused = |row: &[f32]| is_refused(row, metric == Metric::Cosine);
        let refused: Vec<usize> = written.refused.iter().map(|(position, _)| *position).collect();
        let expected: Vec<usize> = (0..upserts.len()).filter(|position| is_refused(&upserts[*position])).collect();
        prop_assert_eq!(refused, expected);
        let mut rows: Vec<(u64, &[f32])> = (1..).zip(upserts.iter().map(Vec::as_slice)).collect();
        rows.retain(|(_, row)| !is_refused(row));
        rows.push((0, &first));
        let query = vec![1.0f32, -0.5, 2.0, 0.125, -1.0, 0.75];
        let request = SearchRequest { query: Query::Vector(query.clone()), k: rows.len(), ..SearchRequest::default() };
        let answer = engine.search(&request, &Budget::default()).unwrap();
        check(metric, &wide(&query), &rows, &found(&answer))?;
    }
}

/// A graph, with and without users: one row or user of every magnitude among ordinary ones.
#[test]
fn one_vector_of_any_magnitude_never_panics_a_build() {
    let dim = 4;
    let ordinary = |count: usize| -> Vec<f32> {
        (0..count * dim).map(|at| ((at * 7919 + at / 5) % 1009) as f32 / 500.0 - 1.0).collect()
    };
    let users = |odd: f32| {
        let mut users = ordinary(300);
        users[7 * dim..8 * dim].fill(odd);
        Embeddings::in_memory(std::path::Path::new("users"), dim, users)
    };
    for odd in [0.0, 1e-45, 4e14, 1e16, 1e30, 3e38] {
        for metric in Metric::ALL {
            let dataset = Dataset::from_rows(dim, ordinary(4_200)).unwrap();
            let users = users(odd);
            let builder: IndexBuilder<'_> = Index::builder(metric).threads(1).training_queries(&users);
            match builder.build(&dataset) {
                Ok(index) => {
                    assert!(odd < 1e15, "{odd:e}");
                    let request = SearchRequest::vector(vec![1.0; dim]).k(5);
                    let answer = index.search(&request).unwrap();
                    assert!(answer.candidates.iter().all(|candidate| candidate.score.is_finite()));
                }
                Err(error) => assert_eq!(
                    (odd > 1e15, error.to_string().starts_with("users: row 7: expected a vector of norm")),
                    (true, true),
                    "{error}"
                ),
            }
        }
    }
    // Users without any that ranks.
    let zeros = Embeddings::in_memory(std::path::Path::new("users"), dim, vec![0f32; 40 * dim]);
    let dataset = Dataset::from_rows(dim, ordinary(4_200)).unwrap();
    let error = Index::builder(Metric::InnerProduct).training_queries(&zeros).build(&dataset).unwrap_err();
    assert!(error.to_string().starts_with("users: row 0: expected a query other than zeros"), "{error}");
}

#[test]
fn effort_does_not_matter_to_what_is_refused() {
    let index =
        Index::builder(Metric::InnerProduct).build(&Dataset::from_rows(2, vec![1.0, 2.0, 3.0, 4.0]).unwrap());
    let index = index.unwrap();
    for effort in [Effort::Default, Effort::Exact, Effort::EfSearch(10)] {
        for vector in [vec![0.0, -0.0], vec![1e15, 1e15]] {
            let request = SearchRequest { effort, ..SearchRequest::vector(vector) };
            assert!(index.search(&request).unwrap_err().to_string().contains("vector: expected"));
        }
    }
}
