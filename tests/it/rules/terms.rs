//! Score terms, against sums of what the proto says that each term adds.

use std::collections::HashSet;
use std::path::Path;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use shortlist::attributes::{Columns, Value};
use shortlist::base::element::Dtype;
use shortlist::base::id::VideoId;
use shortlist::base::interrupt::Interrupt;
use shortlist::base::metric::Metric;
use shortlist::engine::{
    Budget, Effort, Engine, EngineError, EngineOptions, Field, Plan, SearchRequest, SearchResponse, WriteMode,
};
use shortlist::index::{Codes, Index};
use shortlist::live::{Mutation, Upsert};
use shortlist::rules::{BoundTerms, Rules, ScoreTerm};

use crate::rules::dataset::{Components, RuledDataset, Shape};
use crate::rules::naive::Naive;

const SHAPE: Shape = Shape {
    videos: 3000,
    dim: 16,
    metric: Metric::InnerProduct,
    dtype: Dtype::F32,
    codes: Codes::Sq8,
    components: Components::Normal,
    has_duplicates: false,
    seed: 31,
};

fn terms(texts: &[&str]) -> Vec<ScoreTerm> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn request(dataset: &RuledDataset, seed: u64, texts: &[&str]) -> SearchRequest {
    let query = dataset.query(&mut ChaCha8Rng::seed_from_u64(seed));
    let rules = Rules { score_terms: terms(texts), ..Rules::default() };
    SearchRequest { rules, k: 50, ..SearchRequest::vector(query) }
}

fn ids(response: &SearchResponse) -> Vec<VideoId> {
    response.candidates.iter().map(|candidate| candidate.video_id).collect()
}

/// Every form, under every metric: the scores, and what each term adds to them.
#[test]
fn scores_are_those_of_the_embeddings_and_what_the_terms_add() {
    let texts = [
        "0.05*linear(views)",
        "-0.3*log1p(views)",
        "0.5*clamp(score, 0.2, 0.7)",
        "2*decay(published_at, 20d)",
        "1*window(published_at, 40d)",
        "0.7*match(region, de, jp)",
        "-0.4*match(topics, cats, nothing)",
        "3*linear(score)",
    ];
    for (metric, components) in [
        (Metric::InnerProduct, Components::Normal),
        (Metric::Cosine, Components::Normal),
        (Metric::L2, Components::Normal),
    ] {
        let dataset = RuledDataset::new(Shape { metric, components, ..SHAPE });
        for seed in 0..8 {
            let mut request = request(&dataset, seed, &texts[..=(seed as usize).min(7)]);
            for effort in [Effort::Exact, Effort::Default] {
                request.effort = effort;
                let naive = Naive::new(&dataset, &request);
                let found = dataset.engine.search(&request, &Budget::default()).unwrap();
                assert_eq!(found.candidates.len(), 50);
                for candidate in &found.candidates {
                    let row =
                        dataset.videos.iter().position(|video| video.id == candidate.video_id.0).unwrap();
                    let expected = naive.scored[row].score;
                    assert!((candidate.score - expected).abs() < 2e-3, "{metric}: {candidate:?}, {expected}");
                    assert_eq!(candidate.terms.len(), request.rules.score_terms.len());
                    let added = naive.added(row);
                    for (found, expected) in candidate.terms.iter().zip(&added) {
                        assert!((f64::from(*found) - expected).abs() < 1e-4, "{candidate:?}, {added:?}");
                    }
                }
                // Nothing better is left out, but for the rounding of scores.
                let last = found.candidates.last().unwrap().score;
                let returned: HashSet<VideoId> = ids(&found).into_iter().collect();
                let better = naive.scored.iter().filter(|scored| scored.score > last + 4e-3);
                let left_out =
                    better.filter(|scored| !returned.contains(&VideoId(dataset.videos[scored.row].id)));
                assert_eq!(left_out.count(), 0, "{metric} {effort:?}");
            }
            let of = ids(&dataset.engine.search(&request, &Budget::default()).unwrap())[3];
            let explained = dataset.engine.explain(&request, of, &Budget::default()).unwrap();
            let found = dataset.engine.search(&request, &Budget::default()).unwrap();
            assert_eq!((explained.rank, explained.exact_rank), (Some(4), Some(4)));
            assert_eq!(explained.terms.len(), found.candidates[3].terms.len());
            assert!((explained.score - found.candidates[3].score).abs() < 1e-4);
        }
    }
}

/// A traversal goes deeper where terms decide much of the answer, unless the request sets the effort.
#[test]
fn the_default_effort_grows_with_what_the_terms_decide() {
    let dataset = RuledDataset::new(Shape { videos: 6000, dim: 32, ..SHAPE });
    let mut recalls = Vec::new();
    for weight in ["0", "3", "15"] {
        let (mut hits, mut of_fixed, mut most) = (0, 0, 0);
        for seed in 0..20 {
            let text = format!("{weight}*linear(score)");
            let request = SearchRequest { plan: Some(Plan::Graph), ..request(&dataset, seed, &[&text]) };
            let search = |effort, plan| {
                let request = SearchRequest { effort, plan, ..request.clone() };
                dataset.engine.search(&request, &Budget::default()).unwrap()
            };
            let exact: HashSet<VideoId> = ids(&search(Effort::Exact, None)).into_iter().collect();
            let found = search(Effort::Default, Some(Plan::Graph));
            let fixed = search(Effort::EfSearch(128), Some(Plan::Graph));
            assert_eq!(fixed.stats.ef_search, 128);
            hits += ids(&found).iter().filter(|id| exact.contains(id)).count();
            of_fixed += ids(&fixed).iter().filter(|id| exact.contains(id)).count();
            most = most.max(found.stats.ef_search);
        }
        assert!(hits >= of_fixed);
        recalls.push((hits as f64 / 1000.0, most));
    }
    assert_eq!(recalls[0].1, 128);
    assert!(recalls[2].1 > 256, "{recalls:?}");
    assert!(recalls.iter().all(|(recall, _)| *recall > 0.93), "{recalls:?}");
}

#[test]
fn a_written_video_gets_its_terms_at_once() {
    let dataset = RuledDataset::new(SHAPE);
    let indexes = vec![("videos".to_owned(), dataset.folder().join("index"))];
    let options = EngineOptions { indexes, is_writable: true, threads: 1, ..EngineOptions::default() };
    let engine = Engine::open(options).unwrap();
    let request = request(&dataset, 1, &["1*linear(views)", "5*match(creator, new)"]);
    let upsert = |views: i64| {
        Mutation::Upsert(Upsert {
            video_id: VideoId(7),
            embedding: vec![0.01; 16],
            attributes: vec![
                ("views".to_owned(), Value::Int64(views)),
                ("creator".to_owned(), Value::Keyword("new".to_owned())),
            ],
            expires_at: None,
            embedding_model: None,
        })
    };
    for (views, is_first) in [(1_000_000, true), (-1_000_000, false), (2_000_000, true)] {
        engine.write("videos", vec![upsert(views)], WriteMode::EachAlone).unwrap();
        for effort in [Effort::Exact, Effort::Default] {
            let found =
                engine.search(&SearchRequest { effort, ..request.clone() }, &Budget::default()).unwrap();
            assert_eq!(found.candidates[0].video_id == VideoId(7), is_first, "{views}");
            if is_first {
                assert_eq!(found.candidates[0].terms, [views as f32, 5.0]);
            }
        }
    }
}

#[test]
fn a_wrong_term_is_named() {
    let dataset = RuledDataset::new(Shape { videos: 20, ..SHAPE });
    let refused = |texts: &[&str]| {
        let request = request(&dataset, 1, texts);
        match dataset.engine.search(&request, &Budget::default()) {
            Err(EngineError::InvalidArgument { field, problem, .. }) => (field, problem),
            other => panic!("{texts:?}: {other:?}"),
        }
    };
    let form = |form| Field::ScoreTermForm { position: 1, form };
    let valid = "1*linear(views)";
    for (text, field, problem) in [
        ("1*linear(viws)", Field::ScoreTermAttribute(1), "no attribute \"viws\""),
        ("1*linear(region)", Field::ScoreTermAttribute(1), "expected type int64 or uint64 or double"),
        ("1*log1p(published_at)", Field::ScoreTermAttribute(1), "found timestamp"),
        ("1*decay(views, 7d)", Field::ScoreTermAttribute(1), "expected type timestamp, found int64"),
        ("1*match(safe, true)", Field::ScoreTermAttribute(1), "found bool"),
        ("inf*linear(views)", Field::ScoreTermWeight(1), "expected a weight of at most 1e15, found inf"),
        ("NaN*linear(views)", Field::ScoreTermWeight(1), "found NaN"),
        ("-2e15*linear(views)", Field::ScoreTermWeight(1), "found -2000000000000000"),
        ("1*clamp(views, 3, 3)", form("clamp"), "from below to, found 3 and 3"),
        ("1*clamp(views, -inf, 3)", form("clamp"), "expected finite numbers"),
        ("1*decay(published_at, 0s)", form("decay.half_life"), "expected more than 0 s"),
        ("1*window(published_at, 0s)", form("decay.window"), "expected more than 0 s"),
    ] {
        let (found, said) = refused(&[valid, text]);
        assert_eq!(found, field, "{text}");
        assert!(said.contains(problem), "{text}: {said}");
    }
    assert_eq!(refused(&[valid; 9]).0, Field::ScoreTerms);
    let mut request = request(&dataset, 1, &["1*match(region, de)"]);
    let found = dataset.engine.search(&request, &Budget::default());
    assert!(found.is_ok(), "{found:?}");
    request.rules.score_terms[0].form = shortlist::rules::TermForm::Match { any_of: Vec::new() };
    let found = dataset.engine.search(&request, &Budget::default()).unwrap_err();
    assert!(found.to_string().contains("expected 1 to 10000 keywords, found 0"), "{found}");
}

/// Generations of formats without levels give the same sums.
#[test]
fn terms_are_exact_in_every_format_version() {
    for version in 1..=13 {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/format-{version}.index"));
        let index = Index::open(&path).unwrap();
        let columns = Columns::open(&index).unwrap();
        let number = columns
            .schema()
            .iter()
            .position(|column| columns.numbers(columns.find(&column.name).unwrap()).is_some());
        let name = &columns.schema()[number.unwrap()].name;
        let has_levels = columns.levels(number.unwrap()).is_some();
        assert_eq!(has_levels, version >= 13, "{version}");
        let time = "1*window(published_at, 20000d)".parse().unwrap();
        let terms: Vec<ScoreTerm> = match name.as_str() {
            "published_at" => vec![time],
            name => vec![time, format!("0.5*linear({name:?})").parse().unwrap()],
        };
        let now = jiff::Timestamp::now();
        let bound = BoundTerms::of(&terms, columns, now, &mut Interrupt::never()).unwrap();
        for node in 0..60 {
            // Sixty different values are their own levels.
            let (exact, nearly) = (bound.added(node), bound.added_nearly(node));
            assert!((exact - nearly).abs() <= 1e-3 * exact.abs().max(1e-3), "{version}: {exact} {nearly}");
            assert!((exact - bound.each(node).iter().sum::<f32>()).abs() <= 1e-3 * exact.abs().max(1e-3));
            assert!(nearly <= bound.most());
        }
    }
}
