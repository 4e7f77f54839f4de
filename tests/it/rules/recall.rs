//! Rules do not cost recall at any ratio of k to the effort: a search with rules reaches the recall of a search without.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use shortlist::base::id::VideoId;
use shortlist::base::metric::Metric;
use shortlist::build::{BuildParams, Silent, build};
use shortlist::dataset::{Dataset, DatasetFiles, Embeddings};
use shortlist::engine::{
    Budget, Effort, Engine, EngineOptions, Query, ReturnAttributes, SampleOptions, SearchRequest,
    SearchResponse,
};
use shortlist::index::IndexStore;
use shortlist::rules::{Cap, Condition, Exclude, Filter, Rules};
use shortlist::synth::{SynthParams, synth};

const DIM: usize = 128;
const VIDEOS: usize = 50_000;
const USERS: usize = 100;
/// Recall above which a search with a filter need not match the search without.
const ENOUGH: f64 = 0.96;
/// Tolerated loss of recall.
const TOLERANCE: f64 = 0.02;

struct World {
    engine: Engine,
    /// `[n × DIM]`.
    users: Vec<f32>,
    videos: Vec<VideoId>,
    _folder: tempfile::TempDir,
}

/// What each user asks for, and the best answers.
struct Asked {
    rules: Vec<Rules>,
    exact: Vec<Vec<VideoId>>,
}

/// The world of the tests that run now: building it takes longer than most of them.
fn world() -> Arc<World> {
    static SHARED: Mutex<Weak<World>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let world = Arc::new(new_world());
        *shared = Arc::downgrade(&world);
        world
    })
}

fn new_world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let params = SynthParams { videos: VIDEOS, dim: DIM, users: 20_000, seed: 7, duplicates: 0 };
    let files = synth(params, &folder.path().join("synth"), |_| {}).unwrap();
    let users = Embeddings::open(&files.users_test).unwrap();
    let dataset = DatasetFiles {
        embeddings: vec![files.videos],
        ids: Some(files.video_ids),
        attributes: vec![files.attributes],
    };
    let dataset = Dataset::open(&dataset, Metric::InnerProduct).unwrap();
    let store = IndexStore::new(folder.path().join("index"));
    // One thread builds the same graph every time.
    let params = BuildParams::new(Metric::InnerProduct, 16, 100).unwrap().with_threads(1);
    build(&dataset, None, &params, &store, &Silent, Instant::now()).unwrap();
    let engine = Engine::open(EngineOptions {
        indexes: vec![("videos".to_owned(), store.dir().to_owned())],
        threads: 1,
        sample: SampleOptions { share: 0.0 },
        ..EngineOptions::default()
    });
    let mut rows = Vec::new();
    let users: Vec<f32> = (0..USERS)
        .flat_map(|user| {
            users.view().copy_row(user, &mut rows);
            rows.clone()
        })
        .collect();
    World { engine: engine.unwrap(), users, videos: dataset.ids, _folder: folder }
}

impl World {
    fn search(&self, user: &[f32], rules: &Rules, k: usize, effort: Effort) -> Vec<VideoId> {
        let answer = self.answer(user, rules, k, effort);
        answer.candidates.iter().map(|candidate| candidate.video_id).collect()
    }

    fn answer(&self, user: &[f32], rules: &Rules, k: usize, effort: Effort) -> SearchResponse {
        let request = SearchRequest {
            query: Query::Vector(user.to_vec()),
            k,
            effort,
            rules: rules.clone(),
            return_attributes: ReturnAttributes::Named(vec!["topic".to_owned()]),
            ..SearchRequest::default()
        };
        self.engine.search(&request, &Budget::default()).unwrap()
    }

    /// Answers `rules` of each user exactly, with the best `k`: the best of them are those for a smaller k.
    fn ask(&self, rules: impl Fn(&[f32]) -> Rules, k: usize) -> Asked {
        let rules: Vec<Rules> = self.users.chunks_exact(DIM).map(rules).collect();
        let users = self.users.chunks_exact(DIM).zip(&rules);
        let exact = users.map(|(user, rules)| self.search(user, rules, k, Effort::Exact)).collect();
        Asked { rules, exact }
    }

    fn recall(&self, asked: &Asked, k: usize, ef_search: usize) -> f64 {
        let mut found = 0;
        for ((user, rules), exact) in self.users.chunks_exact(DIM).zip(&asked.rules).zip(&asked.exact) {
            let answer = self.search(user, rules, k, Effort::EfSearch(ef_search));
            assert_eq!(answer.len(), k, "a short answer");
            found += answer.iter().filter(|video| exact[..k].contains(video)).count();
        }
        found as f64 / (USERS * k) as f64
    }
}

#[test]
fn rules_cost_no_recall_at_any_k_and_effort() {
    let world = world();
    let every = |step: usize| Exclude {
        video_ids: world.videos.iter().step_by(step).copied().collect(),
        ..Exclude::default()
    };
    let cap = |attribute: &str, max_per_value| Cap { attribute: attribute.to_owned(), max_per_value };
    let filter = |text: &str| Some(text.parse().unwrap());
    let of_rules = [
        ("one in 20 excluded", Rules { exclude: every(20), ..Rules::default() }),
        ("half excluded", Rules { exclude: every(2), ..Rules::default() }),
        ("one in 3 excluded", Rules { exclude: every(3), ..Rules::default() }),
        ("2 of a creator", Rules { caps: vec![cap("creator", 2)], ..Rules::default() }),
        ("half of all", Rules { filter: filter("experiment < 0.5"), ..Rules::default() }),
        ("one in 10", Rules { filter: filter("experiment < 0.1"), ..Rules::default() }),
        (
            "half of all, 2 of a creator, one in 20 excluded",
            Rules {
                filter: filter("experiment < 0.5"),
                caps: vec![cap("creator", 2)],
                exclude: every(20),
                ..Rules::default()
            },
        ),
    ];
    let mut worse = Vec::new();
    let without = world.ask(|_| Rules::default(), 500);
    let of_rules = of_rules.map(|(name, rules)| (name, world.ask(|_| rules.clone(), 500)));
    for (k, ef_search) in [(10, 50), (100, 100), (100, 200), (500, 100), (500, 200), (500, 500)] {
        let without = world.recall(&without, k, ef_search);
        for (name, asked) in &of_rules {
            let with = world.recall(asked, k, ef_search);
            if with < without.min(ENOUGH) - TOLERANCE {
                worse.push(format!(
                    "k {k}, ef_search {ef_search}: {with:.4} with {name}, {without:.4} without"
                ));
            }
        }
    }
    assert!(worse.is_empty(), "{worse:#?}");
}

/// The share excluded among the best candidates need not be that among the others. If the best are excluded, the scores
/// of the rest are so close that codes misorder them.
#[test]
fn exclusions_of_the_best_or_behind_them_cost_no_recall() {
    let world = world();
    let unruled = world.ask(|_| Rules::default(), 500);
    for (k, ef_search, best, excluded) in [
        (100, 200, 64, 64),
        (500, 500, 64, 450),
        (500, 500, 200, 2_000),
        (20, 128, 0, 1_000),
        (20, 128, 0, 10_000),
        (100, 200, 0, 10_000),
    ] {
        let without = world.recall(&unruled, k, ef_search);
        let behind_the_best = |user: &[f32]| {
            let ranked = world.search(user, &Rules::default(), best + excluded, Effort::Exact);
            Rules {
                exclude: Exclude { video_ids: ranked[best..].to_vec(), ..Exclude::default() },
                ..Rules::default()
            }
        };
        let with = world.recall(&world.ask(behind_the_best, k), k, ef_search);
        assert!(
            with >= without.min(ENOUGH) - TOLERANCE,
            "k {k}, ef_search {ef_search}: {with:.4} with {excluded} excluded after {best}, {without:.4} without"
        );
    }
}

/// A filter on the topics that a user would get anyway changes little.
#[test]
fn filters_around_the_user_cost_no_recall() {
    let world = world();
    // The topics of the best fifth of the videos. More than a quarter of all videos have one of them.
    let topics_of_the_best = |user: &[f32]| {
        let best = world.answer(user, &Rules::default(), 10_000, Effort::Exact);
        let topics: BTreeSet<String> =
            best.candidates.iter().map(|candidate| candidate.attributes[0].1.to_string()).collect();
        let any_of = topics.into_iter().collect();
        let topic = Condition::Keyword { attribute: "topic".to_owned(), any_of };
        Rules { filter: Some(Filter { must: vec![topic], ..Filter::default() }), ..Rules::default() }
    };
    let (without, with) = (world.ask(|_| Rules::default(), 300), world.ask(topics_of_the_best, 300));
    for (k, ef_search) in [(100, 100), (100, 200), (300, 300)] {
        let without = world.recall(&without, k, ef_search);
        let with = world.recall(&with, k, ef_search);
        assert!(
            with >= without.min(ENOUGH) - TOLERANCE,
            "k {k}, ef_search {ef_search}: {with:.4} with topics around the user, {without:.4} without"
        );
    }
    for (user, rules) in world.users.chunks_exact(DIM).zip(&with.rules) {
        let matches = world.answer(user, rules, 100, Effort::EfSearch(100)).stats.matches;
        assert!(matches > Some(VIDEOS / 4), "{matches:?} match");
    }
}
