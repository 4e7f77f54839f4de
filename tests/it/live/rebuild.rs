//! Rebuilds by the engine, and batch builds that include some of the writes, checked against a ledger of the expected
//! state.

use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use shortlist::base::id::VideoId;
use shortlist::engine::{
    Budget, Effort, Engine, EngineError, EngineOptions, LiveStatus, Lookup, RebuildOptions, RebuildState,
    ReturnAttributes, WriteMode,
};
use shortlist::index::StoreError;
use shortlist::live::{Mutation, MutationLog, RedbLog};

use crate::harness::{DIM, TestIndex, video_id};
use crate::live::engine::{Ledger, VIDEOS, check, open, random_mutation, request, upsert};

fn write(engine: &Engine, ledger: &mut Ledger, batch: Vec<Mutation>) {
    batch.iter().for_each(|mutation| ledger.take_in(mutation));
    let written = engine.write("", batch, WriteMode::AllOrNothing).unwrap();
    assert_eq!(written.sequence, ledger.sequence);
}

fn wait(engine: &Engine) -> LiveStatus {
    let started = Instant::now();
    loop {
        let live = engine.status("").unwrap().live;
        if !live.rebuild.state.is_underway() {
            return live;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "still {:?}", live.rebuild);
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(super) fn rebuild(engine: &Engine) -> LiveStatus {
    engine.start_rebuild("").unwrap();
    let live = wait(engine);
    assert_eq!((live.rebuild.state, live.rebuild.problem.as_deref()), (RebuildState::Done, None));
    live
}

fn state_of(engine: &Engine, video: u64) -> &'static str {
    match &engine.get("", &[VideoId(video)], &ReturnAttributes::None, false).unwrap()[0] {
        Lookup::Found(_) => "found",
        Lookup::TakenDown(_) => "taken down",
        Lookup::Unknown(_) => "unknown",
    }
}

/// Random writes before, during and after rebuilds, with occasional restarts.
#[test]
fn a_rebuild_knows_exactly_what_was_written() {
    for seed in 0..8 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let index = TestIndex::new(VIDEOS);
        let mut engine = open(&index).unwrap();
        let mut ledger = Ledger::of(&index);
        for round in 0..6 {
            let batch = |random: &mut ChaCha8Rng| (0..10).map(|_| random_mutation(random)).collect();
            write(&engine, &mut ledger, batch(&mut random));
            engine.start_rebuild("").unwrap();
            // Some of these are before the rebuild reads the delta, some after.
            for _ in 0..5 {
                write(&engine, &mut ledger, batch(&mut random));
            }
            check(&engine, &ledger, &mut random, seed);
            let live = wait(&engine);
            assert_eq!(live.rebuild.state, RebuildState::Done, "{:?}", live.rebuild.problem);
            check(&engine, &ledger, &mut random, seed);
            if round % 2 == 1 {
                drop(engine);
                engine = open(&index).unwrap();
                check(&engine, &ledger, &mut random, seed);
            }
        }
        let status = engine.status("").unwrap();
        assert_eq!((status.generation, status.available_generations), (7, vec![6, 7]));
        assert!(status.live.generation_sequence > 0);
    }
}

#[test]
fn a_rebuild_folds_the_delta_trims_the_log_and_removes_old_generations() {
    let index = TestIndex::new(VIDEOS);
    let engine = open(&index).unwrap();
    let mut ledger = Ledger::of(&index);
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let news = (1..20).map(|video| Mutation::Upsert(upsert(video, [1.0; DIM], "new", true)));
    write(&engine, &mut ledger, news.collect());
    write(&engine, &mut ledger, (0..10).map(|row| Mutation::Delete(VideoId(video_id(row)))).collect());
    write(&engine, &mut ledger, (10..15).map(|row| Mutation::Takedown(VideoId(video_id(row)))).collect());
    let live = rebuild(&engine);
    assert_eq!((live.delta_vectors, live.generation_sequence, live.takedowns), (0, 34, 5));
    // Videos that are taken down stay in the generation as tombstones, since they may be restored.
    let status = engine.status("").unwrap();
    assert_eq!((status.generation, status.vectors, status.live.deleted), (2, VIDEOS as u64 + 9, 5));
    check(&engine, &ledger, &mut random, 1);
    write(&engine, &mut ledger, vec![Mutation::Restore(VideoId(video_id(12)))]);
    check(&engine, &ledger, &mut random, 1);
    rebuild(&engine);
    drop(engine);
    // Generation 2 is the oldest one kept.
    let log = RedbLog::open(index.dir().join("mutations.redb")).unwrap();
    assert_eq!((log.trimmed_to(), log.last_sequence(), log.takedowns().unwrap().len()), (34, 35, 4));
    drop(log);
    let engine = open(&index).unwrap();
    check(&engine, &ledger, &mut random, 1);
    assert_eq!(engine.status("").unwrap().available_generations, [2, 3]);
    engine.activate("", 2).unwrap();
    check(&engine, &ledger, &mut random, 1);
}

/// The log keeps entries for batch builds, up to a quarter of the number of videos.
#[test]
fn some_writes_are_kept_that_no_generation_needs() {
    for (keep_writes, trimmed_to) in [(100_000, 85), (4, 96)] {
        let index = TestIndex::new(VIDEOS);
        let engine = Engine::open(EngineOptions {
            indexes: vec![("videos".to_owned(), index.dir())],
            threads: 1,
            is_writable: true,
            rebuild: RebuildOptions { keep_writes, ..RebuildOptions::default() },
            ..EngineOptions::default()
        });
        let engine = engine.unwrap();
        let unknown = (0..100).map(|_| Mutation::Delete(VideoId(1)));
        engine.write("", unknown.collect(), WriteMode::AllOrNothing).unwrap();
        rebuild(&engine);
        rebuild(&engine);
        drop(engine);
        let log = RedbLog::open(index.dir().join("mutations.redb")).unwrap();
        assert_eq!((log.trimmed_to(), log.last_sequence()), (trimmed_to, 100));
    }
}

#[test]
fn a_rebuild_begins_by_itself_when_enough_has_changed() {
    let index = TestIndex::new(VIDEOS);
    let rebuild = RebuildOptions { min_changes: 7, ..RebuildOptions::default() };
    let options = EngineOptions {
        indexes: vec![("videos".to_owned(), index.dir())],
        threads: 1,
        is_writable: true,
        rebuild,
        ..EngineOptions::default()
    };
    let engine = Engine::open(options).unwrap();
    let mut ledger = Ledger::of(&index);
    let upserts = |ids: std::ops::Range<u64>| {
        ids.map(|video| Mutation::Upsert(upsert(video, [1.0; DIM], "new", true))).collect::<Vec<_>>()
    };
    write(&engine, &mut ledger, upserts(1..7));
    engine.refresh();
    assert_eq!(engine.status("").unwrap().live.rebuild.state, RebuildState::Idle);
    write(&engine, &mut ledger, upserts(7..8));
    engine.refresh();
    assert_eq!(wait(&engine).rebuild.state, RebuildState::Done);
    assert_eq!(engine.status("").unwrap().generation, 2);
    // Takedowns are kept in the generation and do not trigger a rebuild.
    write(&engine, &mut ledger, (0..20).map(|row| Mutation::Takedown(VideoId(video_id(row)))).collect());
    engine.refresh();
    wait(&engine);
    assert_eq!(engine.status("").unwrap().generation, 2);
    write(&engine, &mut ledger, (20..27).map(|row| Mutation::Delete(VideoId(video_id(row)))).collect());
    engine.refresh();
    assert_eq!(wait(&engine).rebuild.state, RebuildState::Done);
    assert_eq!(engine.status("").unwrap().generation, 3);
}

#[test]
fn a_cancelled_rebuild_publishes_nothing() {
    let index = TestIndex::new(3_000);
    let engine = open(&index).unwrap();
    engine.write("", vec![Mutation::Delete(VideoId(video_id(0)))], WriteMode::AllOrNothing).unwrap();
    engine.start_rebuild("").unwrap();
    engine.cancel_rebuild("").unwrap();
    let live = wait(&engine);
    assert_eq!(live.rebuild.state, RebuildState::Cancelled);
    let status = engine.status("").unwrap();
    assert_eq!((status.generation, status.available_generations), (1, vec![1]));
    assert_eq!(rebuild(&engine).generation_sequence, 1);
}

#[test]
fn a_rebuild_of_nothing_fails_and_the_generation_serves_on() {
    let index = TestIndex::new(3);
    let engine = open(&index).unwrap();
    let all = (0..3).map(|row| Mutation::Delete(VideoId(video_id(row))));
    engine.write("", all.collect(), WriteMode::AllOrNothing).unwrap();
    engine.start_rebuild("").unwrap();
    let live = wait(&engine);
    assert_eq!(live.rebuild.state, RebuildState::Failed);
    assert!(live.rebuild.problem.unwrap().contains("expected at least one video"));
    assert_eq!(engine.status("").unwrap().generation, 1);
    let read_only = Engine::open(EngineOptions {
        indexes: vec![("videos".to_owned(), TestIndex::new(3).dir())],
        ..EngineOptions::default()
    });
    // The folder of that index is deleted, which does not affect an open engine.
    let error = read_only.unwrap().start_rebuild("").unwrap_err();
    assert!(matches!(error, EngineError::ReadOnly { .. }), "{error}");
}

#[test]
fn only_writes_after_the_position_of_a_batch_build_are_replayed_and_takedowns_always_hold() {
    let mut index = TestIndex::new(VIDEOS);
    let engine = open(&index).unwrap();
    let mut before = Ledger::of(&index);
    let up = |video| Mutation::Upsert(upsert(video, [9.0; DIM], "new", true));
    let (deleted, replaced, taken) = (video_id(0), video_id(1), video_id(2));
    write(&engine, &mut before, vec![up(5), up(replaced), Mutation::Delete(VideoId(deleted))]);
    write(&engine, &mut before, vec![Mutation::Takedown(VideoId(taken))]);
    write(&engine, &mut before, vec![up(6), Mutation::Delete(VideoId(video_id(3)))]);
    index.log_sequence = 4;
    index.publish(VIDEOS);
    engine.refresh();
    // The batch file includes the first four writes; its values take precedence over them.
    let mut ledger = Ledger::of(&index);
    ledger.sequence = 4;
    ledger.takedowns.insert(taken);
    [up(6), Mutation::Delete(VideoId(video_id(3)))].iter().for_each(|later| ledger.take_in(later));
    let mut random = ChaCha8Rng::seed_from_u64(1);
    check(&engine, &ledger, &mut random, 1);
    let states = [5, 6, deleted, replaced, taken, video_id(3)].map(|video| state_of(&engine, video));
    assert_eq!(states, ["unknown", "found", "found", "found", "taken down", "unknown"]);
    drop(engine);
    let engine = open(&index).unwrap();
    check(&engine, &ledger, &mut random, 1);
    write(&engine, &mut ledger, vec![Mutation::Restore(VideoId(taken))]);
    check(&engine, &ledger, &mut random, 1);
}

#[test]
fn a_batch_build_that_would_lose_writes_is_refused_unless_it_is_forced() {
    let mut index = TestIndex::new(VIDEOS);
    let engine = open(&index).unwrap();
    let mut ledger = Ledger::of(&index);
    write(&engine, &mut ledger, vec![Mutation::Upsert(upsert(5, [1.0; DIM], "new", true))]);
    rebuild(&engine);
    write(&engine, &mut ledger, vec![Mutation::Upsert(upsert(6, [1.0; DIM], "new", true))]);
    rebuild(&engine);
    // The log now begins after the first write.
    index.publish(VIDEOS);
    engine.refresh();
    let status = engine.status("").unwrap();
    assert_eq!(status.generation, 3);
    let problem = status.refused.unwrap();
    assert!(problem.contains("expected a log position of at least 1, found 0"), "{problem}");
    assert!(problem.contains("log sequence of those files"), "{problem}");
    drop(engine);
    // The choice survives a restart.
    let engine = open(&index).unwrap();
    assert_eq!(engine.status("").unwrap().generation, 3);
    let error = engine.activate("", 4).unwrap_err();
    assert!(matches!(error, EngineError::Store(StoreError::NotServable { .. })), "{error}");
    engine.activate_forced("", 4).unwrap();
    assert_eq!([5, 6].map(|video| state_of(&engine, video)), ["unknown", "found"]);
    drop(engine);
    let engine = open(&index).unwrap();
    assert_eq!(engine.status("").unwrap().generation, 4);
}

/// It would treat later writes as included.
#[test]
fn a_batch_build_that_knows_of_writes_that_never_were_is_refused() {
    let mut index = TestIndex::new(VIDEOS);
    let engine = open(&index).unwrap();
    let mut ledger = Ledger::of(&index);
    write(&engine, &mut ledger, vec![Mutation::Upsert(upsert(5, [1.0; DIM], "new", true))]);
    index.log_sequence = 2;
    index.publish(VIDEOS);
    engine.refresh();
    let status = engine.status("").unwrap();
    assert_eq!(status.generation, 1);
    let problem = status.refused.unwrap();
    assert!(problem.contains("expected a log position of at most 1"), "{problem}");
    assert!(engine.activate_forced("", 2).is_err());
}

/// A folder without its log: sequences continue after those that the generation includes.
#[test]
fn a_new_log_goes_on_after_the_position_of_the_generation() {
    let mut index = TestIndex::new(VIDEOS);
    index.log_sequence = 41;
    index.publish(VIDEOS);
    let engine = open(&index).unwrap();
    assert_eq!(engine.status("").unwrap().live.sequence, 41);
    let mut ledger = Ledger::of(&index);
    ledger.sequence = 41;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    write(&engine, &mut ledger, vec![Mutation::Upsert(upsert(5, [1.0; DIM], "new", true))]);
    check(&engine, &ledger, &mut random, 1);
    drop(engine);
    let engine = open(&index).unwrap();
    check(&engine, &ledger, &mut random, 1);
}

/// Entries of another model stay parked through rebuilds, restarts and trimming until a generation fits them or the video
/// is embedded again.
#[test]
fn upserts_of_another_model_outlive_rebuilds() {
    let mut index = TestIndex::new(VIDEOS);
    let engine = open(&index).unwrap();
    let mut ledger = Ledger::of(&index);
    let up = |video| Mutation::Upsert(upsert(video, [9.0; DIM], "new", true));
    write(&engine, &mut ledger, vec![up(5), up(6)]);
    index.model = "towers-4".to_owned();
    index.log_sequence = 1;
    index.publish(VIDEOS);
    engine.refresh();
    let held = |engine: &Engine| engine.status("").unwrap().live.parked_entries;
    // The generation of the new model includes the first entry.
    assert_eq!(held(&engine), 1);
    let live = rebuild(&engine);
    assert_eq!((live.parked_entries, live.rebuild.bad_records, live.generation_sequence), (1, 1, 2));
    rebuild(&engine);
    assert_eq!(held(&engine), 1);
    drop(engine);
    let log = RedbLog::open(index.dir().join("mutations.redb")).unwrap();
    assert_eq!(log.trimmed_to(), 1);
    drop(log);
    let engine = open(&index).unwrap();
    assert_eq!(held(&engine), 1);
    let again = shortlist::live::Upsert { embedding_model: None, ..upsert(6, [9.0; DIM], "new", true) };
    engine.write("", vec![Mutation::Upsert(again)], WriteMode::AllOrNothing).unwrap();
    assert_eq!(held(&engine), 0);
    let best = engine.search(&request([1.0; DIM], 1, Effort::Exact), &Budget::default()).unwrap();
    assert_eq!(best.candidates[0].video_id.0, 6);
    rebuild(&engine);
    rebuild(&engine);
    drop(engine);
    assert_eq!(RedbLog::open(index.dir().join("mutations.redb")).unwrap().trimmed_to(), 3);
}

/// Large enough that the log is large compared with any generation of a test.
fn long(video: u64, round: u64) -> Mutation {
    let title = format!("{:>0width$}", round, width = 60_000);
    Mutation::Upsert(upsert(video, [1.0; DIM], &title, true))
}

/// A parked entry keeps those behind it only while the log is small.
#[test]
fn one_parked_upsert_does_not_make_the_log_grow() {
    let mut index = TestIndex::new(VIDEOS);
    let engine = open(&index).unwrap();
    let mut ledger = Ledger::of(&index);
    write(&engine, &mut ledger, vec![Mutation::Upsert(upsert(5, [9.0; DIM], "new", true))]);
    index.model = "towers-4".to_owned();
    index.publish(VIDEOS);
    engine.refresh();
    let parked = |engine: &Engine| engine.status("").unwrap().live.parked_entries;
    assert_eq!(parked(&engine), 1);
    let news = |from: u64| {
        (from..from + 350).map(|video| match long(video, 1) {
            Mutation::Upsert(one) => {
                Mutation::Upsert(shortlist::live::Upsert { embedding_model: None, ..one })
            }
            other => other,
        })
    };
    // Different videos: no entry supersedes another.
    engine.write("", news(1_000).collect(), WriteMode::AllOrNothing).unwrap();
    engine.write("", vec![Mutation::Takedown(VideoId(1_000))], WriteMode::AllOrNothing).unwrap();
    let before = engine.status("").unwrap().live;
    assert!(before.log_entry_bytes > 16 << 20, "{before:?}");
    rebuild(&engine);
    rebuild(&engine);
    let after = engine.status("").unwrap().live;
    assert_eq!((after.parked_entries, after.log_entries, after.sequence), (1, 1, 352));
    assert!(after.log_bytes < before.log_bytes / 4, "{} of {}", after.log_bytes, before.log_bytes);
    drop(engine);
    let log = RedbLog::open(index.dir().join("mutations.redb")).unwrap();
    assert_eq!((log.trimmed_to(), log.last_sequence()), (352, 352));
    drop(log);
    let engine = open(&index).unwrap();
    assert_eq!((parked(&engine), engine.status("").unwrap().live.sequence), (1, 352));
    assert_eq!((state_of(&engine, 1_000), state_of(&engine, 1_001)), ("taken down", "found"));
    // Written again, it is not parked any more, and not kept.
    let again = shortlist::live::Upsert { embedding_model: None, ..upsert(5, [9.0; DIM], "new", true) };
    engine.write("", vec![Mutation::Upsert(again)], WriteMode::AllOrNothing).unwrap();
    rebuild(&engine);
    rebuild(&engine);
    let live = engine.status("").unwrap().live;
    assert_eq!((live.parked_entries, live.log_entries), (0, 0));
}

/// Few videos, but a log that is larger than the generation.
#[test]
fn a_rebuild_begins_by_itself_when_the_log_is_large() {
    let index = TestIndex::new(VIDEOS);
    let options = EngineOptions {
        indexes: vec![("videos".to_owned(), index.dir())],
        threads: 1,
        is_writable: true,
        rebuild: RebuildOptions { keep_writes: 0, ..RebuildOptions::default() },
        ..EngineOptions::default()
    };
    let engine = Engine::open(options).unwrap();
    let write = |from: u64, count: u64| {
        let news = (from..from + count).map(|video| long(video, 1));
        engine.write("", news.collect(), WriteMode::AllOrNothing).unwrap();
        engine.refresh();
    };
    write(1_000, 100);
    assert_eq!(wait(&engine).rebuild.state, RebuildState::Idle);
    write(2_000, 250);
    assert_eq!(wait(&engine).rebuild.state, RebuildState::Done);
    assert_eq!(engine.status("").unwrap().generation, 2);
    // As much must be written again.
    write(3_000, 1);
    assert_eq!(wait(&engine).rebuild.state, RebuildState::Done);
    assert_eq!(engine.status("").unwrap().generation, 2);
}

/// Upserts with attributes that a batch build dropped on purpose are parked too; the server starts with them.
#[test]
fn upserts_that_do_not_fit_a_generation_wait_for_one_that_they_fit() {
    let mut index = TestIndex::new(VIDEOS);
    let engine = open(&index).unwrap();
    let mut ledger = Ledger::of(&index);
    write(&engine, &mut ledger, vec![Mutation::Upsert(upsert(5, [9.0; DIM], "new", true))]);
    index.has_attributes = false;
    index.publish(VIDEOS);
    engine.refresh();
    // A generation without any attributes must be meant.
    assert_eq!(engine.status("").unwrap().generation, 1);
    engine.activate_forced("", 2).unwrap();
    let held = |engine: &Engine| {
        let status = engine.status("").unwrap();
        (status.generation, status.live.parked_entries, state_of(engine, 5))
    };
    assert_eq!(held(&engine), (2, 1, "unknown"));
    drop(engine);
    let engine = open(&index).unwrap();
    assert_eq!(held(&engine), (2, 1, "unknown"));
    engine.activate("", 1).unwrap();
    assert_eq!(held(&engine), (1, 0, "found"));
}

/// A rollback or a batch build during a rebuild: the rebuild is based on a generation that is no longer current.
#[test]
fn a_rebuild_does_not_undo_what_was_chosen_meanwhile() {
    let mut index = TestIndex::new(3_000);
    index.publish(3_000);
    let engine = open(&index).unwrap();
    engine.write("", vec![Mutation::Delete(VideoId(video_id(0)))], WriteMode::AllOrNothing).unwrap();
    engine.start_rebuild("").unwrap();
    engine.activate("", 1).unwrap();
    let live = wait(&engine);
    assert!(matches!(live.rebuild.state, RebuildState::Cancelled | RebuildState::Failed), "{live:?}");
    engine.refresh();
    let status = engine.status("").unwrap();
    assert_eq!((status.generation, status.available_generations), (1, vec![1, 2]));
    assert_eq!(rebuild(&engine).generation_sequence, 1);
}

/// An index without writes is not rebuilt automatically, even if its videos expire: its batch builder decides when.
#[test]
fn an_index_without_writes_is_not_rebuilt_by_itself() {
    let mut index = TestIndex::new(VIDEOS);
    index.expires_at = Some(vec![1; VIDEOS]);
    index.publish(VIDEOS);
    let engine = Engine::open(EngineOptions {
        indexes: vec![("videos".to_owned(), index.dir())],
        threads: 1,
        is_writable: true,
        rebuild: RebuildOptions { min_changes: 1, ..RebuildOptions::default() },
        ..EngineOptions::default()
    })
    .unwrap();
    engine.get("", &[VideoId(1)], &ReturnAttributes::None, false).unwrap();
    assert_eq!(engine.status("").unwrap().live.deleted, VIDEOS as u64);
    engine.refresh();
    assert_eq!(wait(&engine).rebuild.state, RebuildState::Idle);
}
