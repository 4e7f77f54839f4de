//! Group commit and the publication of snapshots under many interleavings of their threads, which shuttle chooses.
//!
//! `.ci/shuttle` runs these tests; `SHUTTLE_ITERATIONS` sets the number of interleavings per test and scheduler.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};

use crate::base::id::VideoId;
use crate::base::metric::Metric;
use crate::base::sync::{Mutex, thread};
use crate::build::{BuildParams, Silent, build};
use crate::dataset::{AttributeColumn, ColumnValues, Dataset, EXPIRES_AT, Numbers};
use crate::engine::query::snapshot::Snapshot;
use crate::engine::write::shared::Shared;
use crate::index::{Index, IndexStore};
use crate::live::delta::state::LiveState;
use crate::live::log::memory_log::MemoryLog;
use crate::live::{Entry, GroupCommit, LogError, Mutation, MutationLog, Upsert};

const ITERATIONS: usize = 1_000;
/// Points at which the second scheduler lets another thread run although the first could continue.
const SWITCHES: usize = 4;
const STACK_BYTES: usize = 1 << 20;

fn explore(model: impl Fn() + Send + Sync + 'static) {
    let iterations = std::env::var("SHUTTLE_ITERATIONS").map_or(ITERATIONS, |number| number.parse().unwrap());
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    let model = Arc::new(model);
    let again = Arc::clone(&model);
    Runner::new(RandomScheduler::new(iterations), config.clone()).run(move || model());
    Runner::new(PctScheduler::new(SWITCHES, iterations), config).run(move || again());
}

/// Succeeds after other threads had the chance to run.
fn slowly(_: &[Mutation]) -> Result<(), LogError> {
    thread::yield_now();
    Ok(())
}

#[test]
fn a_write_is_answered_after_it_is_appended_and_applied_and_never_after_a_failed_append() {
    explore(|| {
        let appends = Arc::new(Mutex::new(0));
        let count = Arc::clone(&appends);
        let log = MemoryLog::new(move |mutations| {
            let append = {
                let mut appends = count.lock();
                *appends += 1;
                *appends
            };
            slowly(mutations)?;
            if append == 2 {
                return Err(LogError::Storage { path: "log".into(), problem: "full".into() });
            }
            Ok(())
        });
        let applied = Arc::new(Mutex::new(Vec::new()));
        let apply = Arc::clone(&applied);
        let group = Arc::new(GroupCommit::new(Arc::clone(&log) as _, move |entries| {
            apply.lock().extend_from_slice(entries);
        }));
        let writers: Vec<_> = (1..4u64)
            .map(|writer| {
                let (group, log, applied) = (Arc::clone(&group), Arc::clone(&log), Arc::clone(&applied));
                thread::spawn(move || {
                    for round in 0..2 {
                        let videos = (0..writer).map(|video| VideoId(100 * writer + 10 * round + video));
                        let mutations: Vec<Mutation> = videos.map(Mutation::Delete).collect();
                        let answer = group.write(mutations.clone());
                        let (entries, applied) = (log.read(0, usize::MAX).unwrap(), applied.lock().clone());
                        let own = |entries: &[Entry], last| {
                            let first = last + 1 - writer;
                            let own = entries.iter().filter(|entry| (first..=last).contains(&entry.sequence));
                            own.map(|entry| entry.mutation.clone()).collect::<Vec<_>>()
                        };
                        match answer {
                            Ok(last) => {
                                assert_eq!(own(&entries, last), mutations);
                                assert_eq!(own(&applied, last), mutations);
                            }
                            Err(error) => {
                                assert_eq!(error.to_string(), "log: full");
                                assert!(!entries.iter().any(|entry| mutations.contains(&entry.mutation)));
                            }
                        }
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        assert!(*appends.lock() <= 6);
        drop(group);
        assert_eq!(*applied.lock(), log.read(0, usize::MAX).unwrap());
    });
}

#[test]
fn dropping_answers_every_write_that_was_queued() {
    explore(|| {
        let group = GroupCommit::new(MemoryLog::new(slowly), |_| ());
        // A caller of `write` would keep the group from being dropped.
        let queued = [0, 1, 2].map(|video| group.queue(vec![Mutation::Delete(VideoId(video))]).unwrap());
        drop(group);
        assert_eq!(queued.map(|answer| answer.try_recv().unwrap().unwrap().sequence), [1, 2, 3]);
    });
}

/// The file of a generation of the videos `first` to 4, which has the writes up to `log_sequence`. Video 4 expires at
/// `expires_at`, in microseconds since 1970.
fn generation(first: u64, log_sequence: u64, expires_at: Option<i64>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let store = IndexStore::new(folder.path());
    let rows = (first..5).flat_map(|video| [1.0, video as f32]).collect();
    let dataset = Dataset { ids: (first..5).map(VideoId).collect(), ..Dataset::from_rows(2, rows).unwrap() };
    let expiries: Numbers<i64> = (first..5).map(|video| expires_at.filter(|_| video == 4)).collect();
    let values = ColumnValues::Timestamp(expiries);
    let dataset = dataset.with_attribute(AttributeColumn { name: EXPIRES_AT.to_owned(), values }).unwrap();
    let params = BuildParams::new(Metric::InnerProduct, 4, 20).unwrap();
    let params = params.with_threads(1).with_log_sequence(log_sequence);
    let manifest = build(&dataset, None, &params, &store, &Silent, Instant::now()).unwrap();
    std::fs::read(store.generation_path(manifest.generation)).unwrap()
}

fn snapshot(generation: &[u8]) -> Snapshot {
    Snapshot::in_memory(Index::in_memory(Path::new("generation"), generation).unwrap(), None)
}

fn has(snapshot: &Snapshot, video: u64) -> bool {
    snapshot.segments.node_of(VideoId(video)).is_some()
}

/// A snapshot is of one generation: its delta was made for its index.
fn assert_whole(snapshot: &Snapshot) {
    assert!(Arc::ptr_eq(&snapshot.segments.base().index, &snapshot.index), "the delta of another generation");
}

/// Video 0 is deleted before the rebuild. Then 1 is taken down, 2 deleted and 9 added, while the rebuilt generation is
/// swapped in and searches take snapshots.
#[test]
fn snapshots_have_every_answered_write_before_during_and_after_a_swap() {
    let (base, rebuilt) = (generation(0, 0, None), generation(1, 1, None));
    explore(move || {
        let log = MemoryLog::new(slowly);
        let source = {
            let log = Arc::clone(&log);
            move || Ok(Some(Arc::clone(&log) as Arc<dyn MutationLog>))
        };
        let shared = Arc::new(Shared::new(snapshot(&base), &source).unwrap());
        let apply = Arc::clone(&shared);
        let group = Arc::new(GroupCommit::new(Arc::clone(&log) as _, move |entries| {
            apply.apply(entries).unwrap();
        }));
        group.write(vec![Mutation::Delete(VideoId(0))]).unwrap();
        // The last write that was answered, and whether that of video 1 was.
        let answered = Arc::new(Mutex::new((1, false)));

        let write = |mutations: Vec<Mutation>| {
            let (group, answered, shared) = (Arc::clone(&group), Arc::clone(&answered), Arc::clone(&shared));
            thread::spawn(move || {
                for mutation in mutations {
                    let is_takedown = matches!(mutation, Mutation::Takedown(_));
                    let sequence = group.write(vec![mutation]).unwrap();
                    let mut answered = answered.lock();
                    answered.0 = answered.0.max(sequence);
                    answered.1 |= is_takedown;
                    drop(answered);
                    assert!(shared.unexpired().sequence >= sequence);
                }
            })
        };
        let mut threads = vec![
            write(vec![Mutation::Takedown(VideoId(1))]),
            write(vec![
                Mutation::Upsert(Upsert::new(VideoId(9), [0.5, 0.5])),
                Mutation::Delete(VideoId(2)),
                Mutation::Upsert(Upsert::new(VideoId(1), [0.5, 0.5])),
            ]),
        ];
        let (searched, seen) = (Arc::clone(&shared), Arc::clone(&answered));
        threads.push(thread::spawn(move || {
            let mut last = 0;
            for _ in 0..6 {
                let (sequence, is_taken_down) = *seen.lock();
                let snapshot = searched.unexpired();
                assert_whole(&snapshot);
                assert!(snapshot.sequence >= sequence.max(last), "an older snapshot");
                assert!(!has(&snapshot, 0), "a deleted video");
                assert!(!(is_taken_down && has(&snapshot, 1)), "a video that is taken down");
                last = snapshot.sequence;
            }
        }));
        let swapped = Arc::clone(&shared);
        let next = snapshot(&rebuilt);
        threads.push(thread::spawn(move || drop(swapped.swap(next, &source).unwrap())));
        threads.into_iter().for_each(|thread| thread.join().unwrap());

        let end = shared.unexpired();
        assert_whole(&end);
        assert_eq!(end.sequence, log.last_sequence());
        assert_eq!(end.index.len(), 4, "the rebuilt generation serves");
        let found: Vec<u64> = (0..10).filter(|video| has(&end, *video)).collect();
        assert_eq!(found, [3, 4, 9]);
    });
}

/// The generation is mapped again while videos are written and searched, and a swap and another map compete with it.
#[test]
fn a_generation_that_is_mapped_again_loses_no_write() {
    let (base, rebuilt) = (generation(0, 0, None), generation(1, 1, None));
    explore(move || {
        let log = MemoryLog::new(slowly);
        let source = {
            let log = Arc::clone(&log);
            move || Ok(Some(Arc::clone(&log) as Arc<dyn MutationLog>))
        };
        let shared = Arc::new(Shared::new(snapshot(&base), &source).unwrap());
        let apply = Arc::clone(&shared);
        let group = GroupCommit::new(Arc::clone(&log) as _, move |entries| {
            apply.apply(entries).unwrap();
        });
        group.write(vec![Mutation::Delete(VideoId(0))]).unwrap();
        let before = Arc::clone(&shared.current.load_full().index);
        let written = Arc::clone(&shared);
        let mut threads = vec![thread::spawn(move || {
            let upsert = Mutation::Upsert(Upsert::new(VideoId(9), [0.5, 0.5]));
            for mutation in [Mutation::Takedown(VideoId(1)), upsert, Mutation::Delete(VideoId(2))] {
                let sequence = group.write(vec![mutation]).unwrap();
                assert!(written.unexpired().sequence >= sequence);
            }
        })];
        let searched = Arc::clone(&shared);
        threads.push(thread::spawn(move || {
            let mut last = 1;
            for _ in 0..4 {
                let snapshot = searched.unexpired();
                assert_whole(&snapshot);
                assert!(snapshot.sequence >= last, "an older snapshot");
                assert!(!has(&snapshot, 0), "a deleted video");
                last = snapshot.sequence;
            }
        }));
        let mapped = Arc::new(Mutex::new(0));
        for _ in 0..2 {
            let (shared, before, mapped) = (Arc::clone(&shared), Arc::clone(&before), Arc::clone(&mapped));
            let fresh = Index::in_memory(Path::new("generation"), &base).unwrap();
            threads.push(thread::spawn(move || {
                *mapped.lock() += usize::from(shared.replace_map(&before, fresh));
            }));
        }
        let swapped = Arc::clone(&shared);
        let next = snapshot(&rebuilt);
        threads.push(thread::spawn(move || drop(swapped.swap(next, &source).unwrap())));
        threads.into_iter().for_each(|thread| thread.join().unwrap());

        assert!(*mapped.lock() <= 1, "one that is not current is not replaced");
        let end = shared.unexpired();
        assert_whole(&end);
        assert_eq!(
            (end.sequence, end.index.len()),
            (log.last_sequence(), 4),
            "the rebuilt generation serves"
        );
        let found: Vec<u64> = (0..10).filter(|video| has(&end, *video)).collect();
        assert_eq!(found, [3, 4, 9]);
    });
}

/// Explores writes and a swap while the current snapshot is `outdated` about video 4, which expires at `expires_at`: searches
/// and the background correct it.
fn explore_expiry(expires_at: i64, outdated: fn(&Snapshot) -> Snapshot) {
    let file = generation(0, 0, Some(expires_at));
    let is_expired = expires_at <= Timestamp::now().as_microsecond();
    explore(move || {
        let log = MemoryLog::new(slowly);
        let source = {
            let log = Arc::clone(&log);
            move || Ok(Some(Arc::clone(&log) as Arc<dyn MutationLog>))
        };
        let shared = Arc::new(Shared::new(snapshot(&file), &source).unwrap());
        let current = shared.current.load_full();
        shared.current.store(Arc::new(outdated(&current)));
        let apply = Arc::clone(&shared);
        let group = GroupCommit::new(Arc::clone(&log) as _, move |entries| {
            apply.apply(entries).unwrap();
        });
        let answered = Arc::new(Mutex::new(0));

        let (written, publishes) = (Arc::clone(&shared), Arc::clone(&answered));
        let writer = thread::spawn(move || {
            for video in [0, 1] {
                let sequence = group.write(vec![Mutation::Delete(VideoId(video))]).unwrap();
                *publishes.lock() = sequence;
                assert!(written.unexpired().sequence >= sequence);
            }
        });
        let searched = Arc::clone(&shared);
        let searcher = thread::spawn(move || {
            let mut last = 0;
            for _ in 0..4 {
                let sequence = *answered.lock();
                let snapshot = searched.unexpired();
                assert_whole(&snapshot);
                assert!(snapshot.sequence >= sequence.max(last), "an older snapshot");
                assert!(!(is_expired && has(&snapshot, 4)), "an expired video");
                last = snapshot.sequence;
            }
        });
        let next = snapshot(&file);
        let generation = Arc::clone(&next.index);
        let swapped = Arc::clone(&shared);
        let swapper = thread::spawn(move || drop(swapped.swap(next, &source).unwrap()));
        let expired = Arc::clone(&shared);
        let background = thread::spawn(move || {
            expired.expire();
            assert_eq!(has(&expired.unexpired(), 4), !is_expired);
        });
        [writer, searcher, swapper, background].into_iter().for_each(|thread| thread.join().unwrap());

        let end = shared.unexpired();
        assert_whole(&end);
        assert_eq!(end.sequence, log.last_sequence());
        assert!(Arc::ptr_eq(&end.index, &generation), "the new generation serves");
        let found: Vec<u64> = (0..5).filter(|video| has(&end, *video)).collect();
        assert_eq!(found, if is_expired { vec![2, 3] } else { vec![2, 3, 4] });
    });
}

#[test]
fn a_snapshot_without_what_expired_replaces_no_later_snapshot() {
    let before_expiry = |current: &Snapshot| current.with_live(&LiveState::new(Arc::clone(&current.index)));
    explore_expiry(1, before_expiry);
}

#[test]
fn what_expired_by_a_wrong_clock_is_found_again_and_no_write_is_lost() {
    let year_2100 = 4_102_444_800_000_000;
    explore_expiry(year_2100, |current| current.expired(i64::MAX - 1));
}
