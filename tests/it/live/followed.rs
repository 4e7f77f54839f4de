//! Servers that follow the log of the server that writes: each answers as that one does at the same sequence.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shortlist::base::id::VideoId;
use shortlist::engine::{
    Budget, Effort, Engine, EngineError, EngineOptions, Readiness, RebuildOptions, SearchRequest, WriteMode,
};
use shortlist::live::{Mutation, MutationLog as _, RedbLog};

use super::engine::{Ledger, VIDEOS, check, open, random_mutation, request};
use super::rebuild::rebuild;
use super::replaced::{self, Change, Folder, has, write};
use crate::harness::{TestIndex, video_id};

/// A writer whose log keeps only what the newest generations lack.
fn writer(index: &TestIndex) -> Engine {
    open(index).unwrap()
}

fn follower(dir: &Path) -> Engine {
    let indexes = vec![("videos".to_owned(), dir.to_owned())];
    let options = EngineOptions {
        indexes,
        threads: 1,
        is_writable: true,
        follows: true,
        rebuild: RebuildOptions { min_changes: 1, ..RebuildOptions::default() },
        ..EngineOptions::default()
    };
    Engine::open(options).unwrap()
}

/// Waits until the engine has seen a write. Looks at the folder meanwhile, as a server does.
fn until(engine: &Engine, sequence: u64) {
    let began = Instant::now();
    while engine.status("").unwrap().live.sequence < sequence {
        engine.refresh();
        assert!(began.elapsed() < Duration::from_secs(20), "still {:?}", engine.status("").unwrap().live);
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn search(min_sequence: u64) -> SearchRequest {
    SearchRequest { min_sequence, ..request([1.0; crate::harness::DIM], 5, Effort::Exact) }
}

/// Random writes and rebuilds, restarts of the writer with and without a clean end, and followers that come and go.
#[test]
fn followers_answer_as_the_writer_at_equal_sequence() {
    for seed in 0..12 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let index = TestIndex::new(VIDEOS);
        let mut ledger = Ledger::of(&index);
        let mut writes = Some(writer(&index));
        let mut followers = vec![follower(&index.dir())];
        for _ in 0..30 {
            let engine = writes.get_or_insert_with(|| writer(&index));
            match random.random_range(0..10) {
                0 => _ = rebuild(engine),
                // As after a crash: the file stays as it is, without the mark of a clean end.
                1 => {
                    let copy = fs::read(index.dir().join("mutations.redb"));
                    writes = None;
                    if let Ok(bytes) = copy {
                        fs::write(index.dir().join("mutations.redb"), bytes).unwrap();
                    }
                }
                2 if followers.len() < 3 => followers.push(follower(&index.dir())),
                3 => drop(followers.pop()),
                _ => {
                    let batch: Vec<Mutation> =
                        (0..random.random_range(1..20)).map(|_| random_mutation(&mut random)).collect();
                    batch.iter().for_each(|mutation| ledger.take_in(mutation));
                    engine.write("", batch, WriteMode::AllOrNothing).unwrap();
                }
            }
            for engine in writes.iter().chain(&followers) {
                until(engine, ledger.sequence);
                check(engine, &ledger, &mut random, seed);
            }
        }
    }
}

#[test]
fn a_follower_takes_no_writes_and_says_so() {
    let folder = Folder::new();
    let follows = follower(&folder.link());
    follows.refresh();
    for _ in 0..2 {
        let error = write(&follows, 7).unwrap_err();
        assert!(
            matches!(&error, EngineError::ReadOnly { problem, .. } if problem.contains("follows")),
            "{error}"
        );
        assert!(matches!(follows.start_rebuild(""), Err(EngineError::ReadOnly { .. })));
        assert!(matches!(follows.readiness("").unwrap(), Readiness::ReadOnly(_)));
        // Before and after the writer has created the log.
        let writes = replaced::open(&folder.link()).unwrap();
        write(&writes, 1).unwrap();
        let sequence = writes.status("").unwrap().live.sequence;
        until(&follows, sequence);
        assert!(has(&follows, 1));
        drop(writes);
    }
    assert_eq!(folder.file("manifest-").file_name().unwrap(), "manifest-00000001.json");
}

#[test]
fn a_search_is_answered_only_once_the_writes_that_it_names_are_seen() {
    let folder = Folder::new();
    let writes = replaced::open(&folder.link()).unwrap();
    write(&writes, 1).unwrap();
    let follows = follower(&folder.link());
    let last = write(&writes, 2).unwrap();
    assert!(follows.search(&search(last + 1), &Budget::default()).is_err());
    until(&follows, last);
    assert_eq!(follows.search(&search(last), &Budget::default()).unwrap().sequence, last);
}

/// A follower that did not look for so long that the writes after its last one are gone from the log.
#[test]
fn a_follower_of_which_the_next_entries_are_gone_opens_the_newest_generation() {
    let index = TestIndex::new(VIDEOS);
    let mut ledger = Ledger::of(&index);
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let take_down = |engine: &Engine, ledger: &mut Ledger, row: usize| {
        let mutation = Mutation::Takedown(VideoId(video_id(row)));
        ledger.take_in(&mutation);
        engine.write("", vec![mutation], WriteMode::AllOrNothing).unwrap();
    };
    let writes = writer(&index);
    take_down(&writes, &mut ledger, 1);
    drop(writes);
    // It copies nothing while its folder is elsewhere.
    let away = index.dir().with_extension("away");
    let follows = follower(&index.dir());
    fs::rename(index.dir(), &away).unwrap();
    for row in 2..5 {
        let options = EngineOptions {
            indexes: vec![("videos".to_owned(), away.clone())],
            threads: 1,
            is_writable: true,
            rebuild: RebuildOptions { keep_writes: 0, ..RebuildOptions::default() },
            ..EngineOptions::default()
        };
        let writes = Engine::open(options).unwrap();
        take_down(&writes, &mut ledger, row);
        rebuild(&writes);
    }
    let trimmed_to = RedbLog::open(away.join("mutations.redb")).unwrap().trimmed_to();
    assert!(trimmed_to > 1, "{trimmed_to}");
    fs::rename(&away, index.dir()).unwrap();
    until(&follows, ledger.sequence);
    check(&follows, &ledger, &mut random, 5);
}

/// Whatever happens to the files, an answer contains the writes up to the sequence that it names.
#[test]
fn a_follower_of_files_that_are_replaced_is_never_behind_what_it_says() {
    for change in [Change::LogReplaced, Change::LogRemoved, Change::Link, Change::Removed, Change::Anew] {
        let mut folder = Folder::new();
        let writes = replaced::open(&folder.link()).unwrap();
        write(&writes, 1).unwrap();
        let follows = follower(&folder.link());
        follows.refresh();
        folder.change(change, || _ = write(&writes, 2));
        for _ in 0..3 {
            follows.refresh();
            let answer = follows.search(&search(0), &Budget::default());
            if let Ok(answer) = answer {
                assert!(answer.sequence == 0 || has(&follows, 1), "{change:?}");
            }
        }
    }
}
