//! The expected state of an index that is written to, and the comparison of an engine with it.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use shortlist::attributes::Value;
use shortlist::base::id::VideoId;
use shortlist::engine::{
    Budget, Effort, Engine, EngineError, EngineOptions, Lookup, Query, RebuildOptions, ReturnAttributes,
    SearchRequest,
};
use shortlist::live::{Mutation, Upsert};
use shortlist::rules::{Cap, Rules};

use super::{DIM, MODEL, TestIndex, video_id};

pub const VIDEOS: usize = 60;
pub const TITLES: [&str; 4] = ["title 0", "title 2", "new", "newer"];

pub fn open(index: &TestIndex) -> Result<Engine, EngineError> {
    let indexes = vec![("videos".to_owned(), index.dir())];
    // Rebuild only on request.
    let rebuild =
        RebuildOptions { delta_share: 0.0, deleted_share: 0.0, keep_writes: 0, ..RebuildOptions::default() };
    Engine::open(EngineOptions {
        indexes,
        threads: 1,
        is_writable: true,
        rebuild,
        ..EngineOptions::default()
    })
}

pub fn upsert(video: u64, embedding: [f32; DIM], title: &str, safe: bool) -> Upsert {
    Upsert {
        video_id: VideoId(video),
        embedding: embedding.to_vec(),
        attributes: vec![
            ("title".to_owned(), Value::Keyword(title.to_owned())),
            ("safe".to_owned(), Value::Bool(safe)),
        ],
        expires_at: None,
        embedding_model: Some(MODEL.to_owned()),
    }
}

pub fn request(vector: [f32; DIM], k: usize, effort: Effort) -> SearchRequest {
    SearchRequest {
        index: String::new(),
        query: Query::Vector(vector.to_vec()),
        k,
        effort,
        effort_k: 0,
        generation: None,
        plan: None,
        rules: Rules::default(),
        marks_matches: false,
        offset: 0,
        return_attributes: ReturnAttributes::Named(vec!["title".to_owned()]),
        return_vectors: false,
        embedding_model: None,
        min_sequence: 0,
    }
}

/// The expected state of a video.
#[derive(Clone)]
pub struct Known {
    embedding: [f32; DIM],
    title: Option<String>,
    safe: bool,
}

/// The expected state of all videos.
#[derive(Clone)]
pub struct Ledger {
    pub videos: BTreeMap<u64, Known>,
    pub takedowns: BTreeSet<u64>,
    pub sequence: u64,
}

impl Ledger {
    pub fn of(index: &TestIndex) -> Self {
        let known = |row: usize| Known {
            embedding: index.rows[row],
            title: (row != 1).then(|| format!("title {row}")),
            safe: row.is_multiple_of(2),
        };
        let videos = (0..index.rows.len()).map(|row| (video_id(row), known(row))).collect();
        Self { videos, takedowns: BTreeSet::new(), sequence: 0 }
    }

    pub fn take_in(&mut self, mutation: &Mutation) {
        self.sequence += 1;
        match mutation {
            Mutation::Upsert(upsert) => {
                let (title, safe) = match upsert.attributes.as_slice() {
                    [(_, Value::Keyword(title)), (_, Value::Bool(safe))] => (title.clone(), *safe),
                    other => panic!("unexpected attributes {other:?}"),
                };
                let embedding = upsert.embedding.as_slice().try_into().unwrap();
                self.videos.insert(upsert.video_id.0, Known { embedding, title: Some(title), safe });
            }
            Mutation::Delete(video) => _ = self.videos.remove(&video.0),
            Mutation::Takedown(video) => _ = self.takedowns.insert(video.0),
            Mutation::Restore(video) => _ = self.takedowns.remove(&video.0),
        }
    }

    /// The ids of the expected answer, best first.
    pub fn answer(&self, query: [f32; DIM], k: usize, only_safe: bool, cap: Option<usize>) -> Vec<u64> {
        let score = |known: &Known| known.embedding.iter().zip(&query).map(|(a, b)| a * b).sum::<f32>();
        let visible = self
            .videos
            .iter()
            .filter(|(id, known)| !self.takedowns.contains(id) && (known.safe || !only_safe));
        let mut ranked: Vec<(f32, u64, &Known)> =
            visible.map(|(id, known)| (score(known), *id, known)).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let mut taken = Vec::new();
        for (_, id, known) in ranked {
            if let (Some(cap), Some(title)) = (cap, &known.title) {
                let count = counts.entry(title).or_default();
                if *count == cap {
                    continue;
                }
                *count += 1;
            }
            taken.push(id);
        }
        taken.truncate(k);
        taken
    }
}

pub fn random_vector(random: &mut ChaCha8Rng) -> [f32; DIM] {
    std::array::from_fn(|_| f32::from(random.random_range(-64i8..64)) / 32.0)
}

pub fn random_mutation(random: &mut ChaCha8Rng) -> Mutation {
    // Videos in the generation and others.
    let video = match random.random_range(0..3) {
        0 => random.random_range(1..20),
        _ => video_id(random.random_range(0..VIDEOS)),
    };
    let id = VideoId(video);
    match random.random_range(0..10) {
        0..6 => {
            let title = TITLES.choose(random).unwrap();
            Mutation::Upsert(upsert(video, random_vector(random), title, random.random_bool(0.5)))
        }
        6 | 7 => Mutation::Delete(id),
        8 => Mutation::Takedown(id),
        _ => Mutation::Restore(id),
    }
}

/// Checks searches with and without rules, and lookups of every video.
pub fn check(engine: &Engine, ledger: &Ledger, random: &mut ChaCha8Rng, seed: u64) {
    // With so few videos, this effort finds all of them.
    check_efforts(engine, ledger, random, seed, &[Effort::Exact, Effort::EfSearch(200)]);
}

pub fn check_efforts(
    engine: &Engine,
    ledger: &Ledger,
    random: &mut ChaCha8Rng,
    seed: u64,
    efforts: &[Effort],
) {
    let query = random_vector(random);
    for effort in efforts.iter().copied() {
        for (only_safe, cap) in [(false, None), (true, None), (false, Some(1)), (true, Some(2))] {
            let filter = only_safe.then(|| "safe = true".parse().unwrap());
            let caps = cap.map(|max_per_value| Cap { attribute: "title".to_owned(), max_per_value });
            let rules = Rules { filter, caps: caps.into_iter().collect(), ..Rules::default() };
            let request =
                SearchRequest { rules, min_sequence: ledger.sequence, ..request(query, 25, effort) };
            let answer = engine.search(&request, &Budget::default()).unwrap();
            let found: Vec<u64> = answer.candidates.iter().map(|candidate| candidate.video_id.0).collect();
            let expected = ledger.answer(query, 25, only_safe, cap);
            assert_eq!(found, expected, "seed {seed}, write {}, {effort:?}", ledger.sequence);
            assert_eq!(answer.sequence, ledger.sequence);
            for candidate in answer.candidates {
                let title = ledger.videos[&candidate.video_id.0].title.clone().map(Value::Keyword);
                let found = candidate.attributes.first().map(|(_, value)| value.clone());
                assert_eq!(found, title);
            }
        }
    }
    let ids: Vec<VideoId> = (1..20).chain((0..VIDEOS).map(video_id)).map(VideoId).collect();
    let lookups = engine.get("", &ids, &ReturnAttributes::None, true).unwrap();
    for (id, lookup) in ids.iter().zip(lookups) {
        match lookup {
            Lookup::TakenDown(_) => assert!(ledger.takedowns.contains(&id.0)),
            Lookup::Unknown(_) => assert!(!ledger.videos.contains_key(&id.0)),
            Lookup::Found(video) => {
                assert!(!ledger.takedowns.contains(&id.0));
                assert_eq!(video.vector.unwrap(), ledger.videos[&id.0].embedding);
            }
        }
    }
}
