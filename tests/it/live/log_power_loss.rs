//! The log on disks that lose power or fail, checked against a ledger of acknowledged entries.
//!
//! `SHORTLIST_POWER_LOSS_SEEDS=10000` runs more seeds, `SHORTLIST_POWER_LOSS_SEED=7` a single one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shortlist::attributes::Value;
use shortlist::base::id::VideoId;
use shortlist::live::{Entry, LogError, Mutation, MutationLog, RedbLog, Upsert};

use crate::harness::disk::SimulatedDisk;

/// Few videos, so that takedowns and restores affect the same ones.
const VIDEOS: u64 = 12;

fn seeds() -> Range<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    if let Some(seed) = number("SHORTLIST_POWER_LOSS_SEED") {
        return seed..seed + 1;
    }
    // A seed takes 20 times as long without optimization.
    let default = if cfg!(debug_assertions) { 50 } else { 1_000 };
    0..number("SHORTLIST_POWER_LOSS_SEEDS").unwrap_or(default)
}

/// Prints its seed on panic.
struct Announced<'a>(&'a str, u64);

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{} failed: run it again with SHORTLIST_POWER_LOSS_SEED={}", self.0, self.1);
        }
    }
}

fn for_each_seed(name: &str, run: impl Fn(u64) + Sync) {
    let (next, end) = (AtomicU64::new(seeds().start), seeds().end);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    let _announced = Announced(name, seed);
                    run(seed);
                }
            });
        }
    });
}

/// The appends, trims and removals of a log, and their results.
#[derive(Default)]
struct Ledger {
    /// Entries that were acknowledged, or found after reopening, from sequence 1.
    mutations: Vec<Mutation>,
    /// Entries of the unacknowledged append.
    open: Vec<Mutation>,
    /// The numbers of the entries that are there, and up to which one the log is trimmed.
    present: Present,
    /// The same after a trim or a removal that was not acknowledged.
    changing: Option<Present>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Present {
    sequences: BTreeSet<u64>,
    trimmed: u64,
}

impl Ledger {
    fn last(&self) -> u64 {
        self.mutations.len() as u64
    }

    fn acknowledge(&mut self, mutations: Vec<Mutation>, last: u64) {
        let first = self.last() + 1;
        self.mutations.extend(mutations);
        self.present.sequences.extend(first..=self.last());
        assert_eq!(last, self.last(), "the number of the last mutation");
    }

    fn takedowns(&self) -> Vec<(VideoId, u64)> {
        let mut takedowns = BTreeMap::new();
        for (sequence, mutation) in (1..).zip(&self.mutations) {
            match mutation {
                Mutation::Takedown(video) => drop(takedowns.insert(*video, sequence)),
                Mutation::Restore(video) => drop(takedowns.remove(video)),
                Mutation::Upsert(_) | Mutation::Delete(_) => {}
            }
        }
        takedowns.into_iter().collect()
    }

    /// After reopening: the unacknowledged append is present in full or not at all.
    fn settle(&mut self, log: &RedbLog) {
        let open = std::mem::take(&mut self.open);
        if log.last_sequence() != self.last() {
            self.acknowledge(open, log.last_sequence());
        }
        let sequences = log.read(0, usize::MAX).unwrap().iter().map(|entry| entry.sequence).collect();
        let found = Present { sequences, trimmed: log.trimmed_to() };
        self.present =
            self.changing.take().filter(|changed| *changed == found).unwrap_or(self.present.clone());
        self.check(log);
    }

    fn check(&self, log: &RedbLog) {
        assert_eq!((log.last_sequence(), log.trimmed_to()), (self.last(), self.present.trimmed));
        let entry = |sequence: &u64| Entry {
            sequence: *sequence,
            mutation: self.mutations[*sequence as usize - 1].clone(),
        };
        let expected: Vec<Entry> = self.present.sequences.iter().map(entry).collect();
        assert_eq!(log.size().entries, expected.len() as u64, "entries of {self}");
        assert!(log.read(0, usize::MAX).unwrap() == expected, "entries of {self}");
        assert_eq!(log.takedowns().unwrap(), self.takedowns(), "takedowns of {self}");
    }
}

impl std::fmt::Display for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a log with {} mutations, trimmed to {}", self.last(), self.present.trimmed)
    }
}

fn mutation(rng: &mut ChaCha8Rng) -> Mutation {
    let video = VideoId(rng.random_range(0..VIDEOS));
    match rng.random_range(0..6) {
        0 => Mutation::Delete(video),
        1 => Mutation::Takedown(video),
        2 => Mutation::Restore(video),
        _ => Mutation::Upsert(Upsert {
            video_id: video,
            embedding: (0..rng.random_range(0..200)).map(|_| rng.random()).collect(),
            attributes: vec![("views".to_owned(), Value::Uint64(rng.random()))],
            expires_at: None,
            embedding_model: None,
        }),
    }
}

fn mutations(rng: &mut ChaCha8Rng) -> Vec<Mutation> {
    // Occasionally enough entries to grow the file.
    let count = if rng.random_bool(0.03) { 1_000 } else { rng.random_range(1..20) };
    (0..count).map(|_| mutation(rng)).collect()
}

/// Number of operations until a fault; often it falls into opening the log.
fn soon(rng: &mut ChaCha8Rng) -> u64 {
    let most = if rng.random_bool(0.2) { 12 } else { 200 };
    rng.random_range(0..most)
}

/// Writes until an error or `steps` steps, recording them in the ledger.
fn write(log: &RedbLog, ledger: &mut Ledger, rng: &mut ChaCha8Rng, steps: u64) -> Result<(), LogError> {
    for _ in 0..steps {
        let mut changed = ledger.present.clone();
        if rng.random_bool(0.15) {
            let to = rng.random_range(0..=ledger.last() + 2);
            let some = rng.random_bool(0.5);
            let kept: Vec<u64> =
                changed.sequences.iter().copied().filter(|_| some && rng.random_bool(0.2)).collect();
            changed.trimmed = changed.trimmed.max(to.min(ledger.last()));
            changed.sequences.retain(|sequence| *sequence > changed.trimmed || kept.contains(sequence));
            ledger.changing = Some(changed);
            log.trim_except(to, &kept)?;
            ledger.present = ledger.changing.take().unwrap();
        } else if rng.random_bool(0.15) {
            let removed: Vec<u64> =
                changed.sequences.iter().copied().filter(|_| rng.random_bool(0.5)).collect();
            changed.sequences.retain(|sequence| *sequence == ledger.last() || !removed.contains(sequence));
            ledger.changing = Some(changed);
            log.remove(&removed)?;
            ledger.present = ledger.changing.take().unwrap();
        } else {
            let mutations = mutations(rng);
            ledger.open = mutations.clone();
            let last = log.append(&mutations)?;
            ledger.open.clear();
            ledger.acknowledge(mutations, last);
        }
        if rng.random_bool(0.1) && ledger.last() < 500 {
            ledger.check(log);
        }
    }
    Ok(())
}

fn open(disk: &SimulatedDisk, compacts: bool) -> Result<RedbLog, LogError> {
    let log = RedbLog::with_backend(disk.clone())?;
    Ok(if compacts { log.compacting_from(0) } else { log })
}

/// A disk with an empty log, created without faults: a file gets its name only when it is complete.
fn disk_with_log(seed: u64) -> SimulatedDisk {
    let disk = SimulatedDisk::new(seed);
    drop(RedbLog::with_backend(disk.clone()).unwrap());
    disk
}

#[test]
fn power_loss_loses_nothing_acknowledged() {
    for_each_seed("power_loss_loses_nothing_acknowledged", |seed| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (disk, compacts) = (disk_with_log(seed), rng.random_bool(0.5));
        let mut ledger = Ledger::default();
        for _ in 0..4 {
            // Power may also be lost while the log is opened or closed.
            disk.lose_power_after(soon(&mut rng));
            if let Ok(log) = open(&disk, compacts) {
                ledger.settle(&log);
                let steps = rng.random_range(1..25);
                if write(&log, &mut ledger, &mut rng, steps).is_err() {
                    assert!(!disk.has_power(), "failed without a reason");
                }
            } else {
                assert!(!disk.has_power(), "cannot be opened");
            }
            // Even if the log was closed normally, unsynced writes are lost.
            disk.cycle_power();
        }
        ledger.settle(&open(&disk, compacts).unwrap());
    });
}

#[test]
fn failing_writes_and_syncs_acknowledge_nothing_that_is_not_there() {
    for_each_seed("failing_writes_and_syncs_acknowledge_nothing_that_is_not_there", |seed| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (disk, compacts) = (disk_with_log(seed), rng.random_bool(0.5));
        let mut ledger = Ledger::default();
        for _ in 0..3 {
            let kind = if rng.random_bool(0.5) { ErrorKind::StorageFull } else { ErrorKind::Other };
            let before = disk.faults();
            disk.fail_after(soon(&mut rng), kind);
            match open(&disk, compacts) {
                Err(_) => assert!(disk.faults() > before, "cannot be opened"),
                Ok(log) => {
                    ledger.settle(&log);
                    let steps = rng.random_range(1..25);
                    if let Err(error) = write(&log, &mut ledger, &mut rng, steps) {
                        assert!(disk.faults() > before, "failed without a reason: {error}");
                        refuses(&log, &ledger);
                    }
                }
            }
            // Reopen at once, or after a power loss.
            disk.plan_nothing();
            if rng.random_bool(0.3) {
                disk.cycle_power();
            }
            let log = open(&disk, compacts).unwrap();
            ledger.settle(&log);
            write(&log, &mut ledger, &mut rng, 3).unwrap();
            // Later entries are appended after whatever the failure left.
            if rng.random_bool(0.7) {
                disk.lose_power_after(0);
                drop(log);
                disk.cycle_power();
            }
        }
        ledger.settle(&open(&disk, compacts).unwrap());
    });
}

/// A log refuses writes after a failed one, with the cause.
fn refuses(log: &RedbLog, ledger: &Ledger) {
    for again in [log.append(&[Mutation::Delete(VideoId(1))]).map(drop), log.trim(ledger.last())] {
        assert!(
            matches!(&again, Err(LogError::Poisoned { problem, .. }) if !problem.is_empty()),
            "{again:?}"
        );
    }
    assert!(log.failed().is_some_and(|problem| !problem.is_empty()));
    assert_eq!(log.last_sequence(), ledger.last());
    // Entries that it still returns are correct.
    if let Ok(entries) = log.read(0, usize::MAX) {
        let is_right = |entry: &Entry| ledger.mutations[entry.sequence as usize - 1] == entry.mutation;
        assert!(entries.iter().all(is_right));
    }
}
