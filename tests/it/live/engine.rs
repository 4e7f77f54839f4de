//! Writes to an engine, checked against a ledger of the expected state: one search and one ledger entry per write,
//! restarts, other generations.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shortlist::attributes::Value;
use shortlist::base::id::VideoId;
use shortlist::engine::{
    Budget, Effort, Engine, EngineError, EngineOptions, Lookup, Query, RebuildOptions, Refresh,
    ReturnAttributes, SearchRequest, WriteMode,
};
use shortlist::live::{Mutation, Upsert};
use shortlist::rules::{Cap, Rules};

use crate::harness::{DIM, MODEL, TestIndex, video_id};

pub const VIDEOS: usize = 60;
const TITLES: [&str; 4] = ["title 0", "title 2", "new", "newer"];

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
        plan: None,
        rules: Rules::default(),
        offset: 0,
        return_attributes: ReturnAttributes::Named(vec!["title".to_owned()]),
        return_vectors: false,
        embedding_model: None,
        min_sequence: 0,
        generation: None,
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
pub struct Ledger {
    videos: BTreeMap<u64, Known>,
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
    fn answer(&self, query: [f32; DIM], k: usize, only_safe: bool, cap: Option<usize>) -> Vec<u64> {
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

/// Random writes with searches after each batch, and occasional restarts and refreshes.
#[test]
fn searches_know_exactly_what_was_written() {
    for seed in 0..12 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let index = TestIndex::new(VIDEOS);
        let mut engine = open(&index).unwrap();
        let mut ledger = Ledger::of(&index);
        for _ in 0..25 {
            let batch: Vec<Mutation> =
                (0..random.random_range(1..8)).map(|_| random_mutation(&mut random)).collect();
            batch.iter().for_each(|mutation| ledger.take_in(mutation));
            let written = engine.write("videos", batch, WriteMode::AllOrNothing).unwrap();
            assert_eq!(written.sequence, ledger.sequence);
            check(&engine, &ledger, &mut random, seed);
            match random.random_range(0..8) {
                0 => {
                    drop(engine);
                    engine = open(&index).unwrap();
                    check(&engine, &ledger, &mut random, seed);
                }
                1 => {
                    engine.refresh();
                    check(&engine, &ledger, &mut random, seed);
                }
                _ => {}
            }
        }
    }
}

#[test]
fn what_was_written_outlives_a_batch_build() {
    let mut index = TestIndex::new(VIDEOS);
    let engine = open(&index).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let batch: Vec<Mutation> = (0..40).map(|_| random_mutation(&mut random)).collect();
    engine.write("", batch.clone(), WriteMode::AllOrNothing).unwrap();
    index.publish(VIDEOS);
    engine.refresh();
    assert_eq!(engine.status("videos").unwrap().generation, 2);
    let mut ledger = Ledger::of(&index);
    batch.iter().for_each(|mutation| ledger.take_in(mutation));
    check(&engine, &ledger, &mut random, 1);
    engine.activate("videos", 1).unwrap();
    assert_eq!(engine.status("videos").unwrap().live.sequence, 40);
}

#[test]
fn a_video_is_no_candidate_after_it_expires() {
    let index = TestIndex::new(VIDEOS);
    let engine = open(&index).unwrap();
    let soon = Timestamp::now() + Duration::from_millis(300);
    let expiring = Upsert { expires_at: Some(soon.into()), ..upsert(5, [9.0; DIM], "new", true) };
    let staying = upsert(6, [8.0; DIM], "new", true);
    let both = vec![Mutation::Upsert(expiring), Mutation::Upsert(staying)];
    engine.write("", both, WriteMode::AllOrNothing).unwrap();
    let best = || {
        let answer = engine.search(&request([1.0; DIM], 1, Effort::Exact), &Budget::default()).unwrap();
        answer.candidates[0].video_id.0
    };
    if Timestamp::now() < soon {
        let found = best();
        assert!(found == 5 || Timestamp::now() >= soon);
    }
    while Timestamp::now() < soon {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(best(), 6);
    assert_eq!(
        engine.get("", &[VideoId(5)], &ReturnAttributes::None, false).unwrap(),
        [Lookup::Unknown(VideoId(5))]
    );
    drop(engine);
    let engine = open(&index).unwrap();
    let answer = engine.search(&request([1.0; DIM], 1, Effort::Exact), &Budget::default()).unwrap();
    assert_eq!(answer.candidates[0].video_id.0, 6);
}

/// Many videos expire at once, while writes and searches go on: each answer is right as of its request.
#[test]
fn a_mass_expiry_is_exact_under_writes_and_searches() {
    const MANY: usize = 5_000;
    let mut index = TestIndex::new(VIDEOS);
    let start = Timestamp::now().as_microsecond();
    // A third never expires; the others do so in three moments.
    let moments = [1_500_000, 1_500_001, 1_700_000].map(|after| start + after);
    let expiry = |row: usize| if row.is_multiple_of(3) { i64::MAX } else { moments[row % 7 % 3] };
    index.expires_at = Some((0..MANY).map(expiry).collect());
    index.publish(MANY);
    let by_id: BTreeMap<u64, i64> = (0..MANY).map(|row| (video_id(row), expiry(row))).collect();
    let engine = open(&index).unwrap();
    let is_over = || Timestamp::now().as_microsecond() > moments[2] + 100_000;
    std::thread::scope(|scope| {
        for effort in [Effort::Exact, Effort::EfSearch(200), Effort::Default] {
            let (engine, by_id) = (&engine, &by_id);
            scope.spawn(move || {
                while !is_over() {
                    let before = Timestamp::now().as_microsecond();
                    let answer =
                        engine.search(&request([1.0; DIM], 300, effort), &Budget::default()).unwrap();
                    assert_eq!(answer.candidates.len(), 300);
                    for candidate in answer.candidates {
                        let expires_at = by_id.get(&candidate.video_id.0).copied().unwrap_or(i64::MAX);
                        assert!(expires_at > before, "{} at {before}", candidate.video_id);
                    }
                }
            });
        }
        let mut written = 0;
        while !is_over() {
            written += 1;
            let one = Mutation::Upsert(upsert(written, [0.5; DIM], "new", true));
            engine.write("", vec![one], WriteMode::AllOrNothing).unwrap();
            engine.refresh();
        }
    });
    let expired = by_id.values().filter(|expiry| **expiry != i64::MAX).count() as u64;
    assert_eq!(engine.status("").unwrap().live.deleted, expired);
    // A batch written again after it expired is back.
    let row = 1;
    engine
        .write(
            "",
            vec![Mutation::Upsert(upsert(video_id(row), [9.0; DIM], "new", true))],
            WriteMode::AllOrNothing,
        )
        .unwrap();
    let answer = engine.search(&request([1.0; DIM], 1, Effort::Exact), &Budget::default()).unwrap();
    assert_eq!(answer.candidates[0].video_id.0, video_id(row));
}

#[test]
fn a_video_of_a_batch_file_is_no_candidate_after_it_expires() {
    let mut index = TestIndex::new(VIDEOS);
    let mut expires_at = vec![i64::MAX; VIDEOS];
    expires_at[..VIDEOS / 2].fill(Timestamp::now().as_microsecond());
    index.expires_at = Some(expires_at);
    index.publish(VIDEOS);
    let engine = open(&index).unwrap();
    let mut ledger = Ledger::of(&index);
    (0..VIDEOS / 2).for_each(|row| drop(ledger.videos.remove(&video_id(row))));
    let mut random = ChaCha8Rng::seed_from_u64(1);
    check(&engine, &ledger, &mut random, 1);
    assert_eq!(engine.status("").unwrap().live.deleted, 30);
}

/// Delta segments too large for writes to compact are compacted while their videos are written again.
#[test]
fn large_parts_are_merged_while_writes_go_on() {
    const BATCHES: u64 = 12;
    const BATCH: u64 = 1_000;
    let index = TestIndex::new(VIDEOS);
    let engine = open(&index).unwrap();
    let mut ledger = Ledger::of(&index);
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let write = |ledger: &mut Ledger, batch: Vec<Mutation>| {
        batch.iter().for_each(|mutation| ledger.take_in(mutation));
        engine.write("", batch, WriteMode::AllOrNothing).unwrap();
    };
    let mut new = |video: u64| {
        let title = TITLES.choose(&mut random).unwrap();
        Mutation::Upsert(upsert(video, random_vector(&mut random), title, video.is_multiple_of(2)))
    };
    for batch in 0..BATCHES {
        write(&mut ledger, (batch * BATCH..(batch + 1) * BATCH).map(|video| new(1 + video)).collect());
    }
    write(&mut ledger, (1..500).map(|video| Mutation::Takedown(VideoId(video))).collect());
    std::thread::scope(|scope| {
        let merging = scope.spawn(|| engine.refresh());
        let mut round = 0;
        while !merging.is_finished() || round < 20 {
            let videos = (0..8).map(|step| 1 + (round * 131 + step * 1_489) % (BATCHES * BATCH));
            let batch = videos.map(|video| match video % 4 {
                0 => Mutation::Delete(VideoId(video)),
                1 => Mutation::Takedown(VideoId(video)),
                2 => Mutation::Restore(VideoId(video)),
                _ => new(video),
            });
            write(&mut ledger, batch.collect());
            round += 1;
        }
    });
    let mut random = ChaCha8Rng::seed_from_u64(3);
    check_efforts(&engine, &ledger, &mut random, 2, &[Effort::Exact]);
    // A video taken down before the compaction is restored to its last upsert.
    write(&mut ledger, (1..500).map(|video| Mutation::Restore(VideoId(video))).collect());
    engine.refresh();
    check_efforts(&engine, &ledger, &mut random, 3, &[Effort::Exact]);
    let query = random_vector(&mut random);
    let expected = ledger.answer(query, 25, false, None);
    let answer = engine.search(&request(query, 25, Effort::EfSearch(200)), &Budget::default()).unwrap();
    let hits = answer.candidates.iter().filter(|found| expected.contains(&found.video_id.0)).count();
    assert!(hits >= 23, "{hits} of 25 through the graph of a part");
    let visible = ledger.videos.keys().filter(|id| !ledger.takedowns.contains(id));
    let beside = visible.filter(|id| **id <= BATCHES * BATCH).count();
    assert_eq!(engine.status("").unwrap().live.delta_vectors, beside as u64);
}

/// An upsert without a model gets the model that it was checked against.
#[test]
fn upserts_wait_for_a_generation_of_their_model() {
    let mut index = TestIndex::new(VIDEOS);
    let engine = open(&index).unwrap();
    let replaced = video_id(0);
    let unnamed = Upsert { embedding_model: None, ..upsert(5, [9.0; DIM], "new", true) };
    let batch = vec![
        Mutation::Upsert(unnamed),
        Mutation::Upsert(upsert(replaced, [8.0; DIM], "new", true)),
        Mutation::Takedown(VideoId(video_id(1))),
    ];
    engine.write("", batch, WriteMode::AllOrNothing).unwrap();
    let lookups = || {
        let ids = [5, replaced, video_id(1)].map(VideoId);
        let lookups = engine.get("", &ids, &ReturnAttributes::None, false).unwrap();
        let word = |lookup: &Lookup| match lookup {
            Lookup::Found(_) => "found",
            Lookup::TakenDown(_) => "taken down",
            Lookup::Unknown(_) => "unknown",
        };
        lookups.iter().map(word).collect::<Vec<_>>()
    };
    assert_eq!(lookups(), ["found", "found", "taken down"]);
    index.model = "towers-4".to_owned();
    index.publish(VIDEOS);
    engine.refresh();
    let status = engine.status("").unwrap();
    assert_eq!((status.generation, status.live.parked_entries, status.live.takedowns), (2, 2, 1));
    // A replaced video is as in the batch file until it is embedded again.
    assert_eq!(lookups(), ["unknown", "found", "taken down"]);
    engine.activate("", 1).unwrap();
    assert_eq!(lookups(), ["found", "found", "taken down"]);
    assert_eq!(engine.status("").unwrap().live.parked_entries, 0);
}

#[test]
fn a_batch_is_refused_as_it_asks() {
    let index = TestIndex::new(VIDEOS);
    let engine = open(&index).unwrap();
    let sound = || Mutation::Upsert(upsert(5, [1.0; DIM], "new", true));
    let short = Mutation::Upsert(Upsert { embedding: vec![1.0], ..upsert(7, [1.0; DIM], "new", true) });
    let other = Upsert { embedding_model: Some("towers-4".to_owned()), ..upsert(8, [1.0; DIM], "new", true) };
    let batch = || vec![sound(), short.clone(), Mutation::Upsert(other.clone())];
    let refused = engine.write("", batch(), WriteMode::AllOrNothing).unwrap();
    let positions = |refused: &[(usize, EngineError)]| refused.iter().map(|(at, _)| *at).collect::<Vec<_>>();
    assert_eq!((refused.sequence, refused.written, positions(&refused.refused)), (0, 0, vec![1, 2]));
    assert!(
        matches!(&refused.refused[1].1, EngineError::EmbeddingModel { found, .. } if found == "towers-4")
    );
    let some = engine.write("", batch(), WriteMode::EachAlone).unwrap();
    assert_eq!((some.sequence, some.written, positions(&some.refused)), (1, 1, vec![1, 2]));
}

#[test]
fn the_log_of_an_index_has_one_server() {
    let index = TestIndex::new(VIDEOS);
    let engine = open(&index).unwrap();
    engine.write("", vec![Mutation::Takedown(VideoId(video_id(3)))], WriteMode::AllOrNothing).unwrap();
    // Without the log, answers would contain videos that were taken down.
    let error = open(&index).unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    let late = SearchRequest { min_sequence: 2, ..request([1.0; DIM], 1, Effort::Exact) };
    let error = engine.search(&late, &Budget::default()).unwrap_err();
    assert!(matches!(error, EngineError::NotYetWritten { expected: 2, found: 1, .. }), "{error}");
}

/// Two servers start before anything is written. The first to write owns the log; the other would continue to return
/// videos that are taken down.
#[test]
fn a_server_steps_back_when_another_one_writes() {
    let index = TestIndex::new(VIDEOS);
    let (first, second) = (open(&index).unwrap(), open(&index).unwrap());
    [&first, &second].iter().for_each(|engine| drop(engine.refresh()));
    let any = || request([1.0; DIM], 1, Effort::Exact);
    second.search(&any(), &Budget::default()).unwrap();
    first.write("", vec![Mutation::Takedown(VideoId(video_id(3)))], WriteMode::AllOrNothing).unwrap();
    assert!(matches!(second.refresh().as_slice(), [Refresh::Withdrawn { generation: 1, .. }]));
    let error = second.search(&any(), &Budget::default()).unwrap_err();
    assert!(
        matches!(&error, EngineError::OutOfService { problem, .. } if problem.contains("in use")),
        "{error}"
    );
    assert!(first.refresh().is_empty() && second.refresh().is_empty());
    first.search(&any(), &Budget::default()).unwrap();
}
