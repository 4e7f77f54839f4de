//! The size of a log: trims and compaction give the disk back.

use std::sync::Arc;
use std::thread;

use redb::StorageBackend as _;
use shortlist::base::id::VideoId;
use shortlist::live::{LogCompactor, Mutation, MutationLog, RedbLog, Upsert};

use super::{ENTRIES, META, delete, folder, sequences, tamper, upsert};
use crate::harness::disk::SimulatedDisk;

#[test]
fn gives_disk_back_when_most_is_trimmed() {
    let disk = SimulatedDisk::new(1);
    let log = RedbLog::with_backend(disk).unwrap();
    let large = |video| {
        let Mutation::Upsert(upsert) = upsert(video) else { unreachable!() };
        Mutation::Upsert(Upsert { embedding: vec![0.25; 512], ..upsert })
    };
    for batch in 0..8 {
        log.append(&(0..500).map(|video| large(batch * 500 + video)).collect::<Vec<_>>()).unwrap();
    }
    let full = log.bytes().unwrap();
    assert!(full > 8 << 20, "{full}");
    log.trim(3_900).unwrap();
    let left = log.bytes().unwrap();
    assert!(left < full / 4, "{left} of {full} bytes");
    assert_eq!(log.read(0, 1_000).unwrap().len(), 100);
    assert_eq!(log.append(&[large(4_000)]).unwrap(), 4_001);
}

#[test]
fn the_oldest_entry_is_the_first_that_is_left() {
    let log = RedbLog::with_backend(SimulatedDisk::new(1)).unwrap();
    assert_eq!(log.oldest().unwrap(), None);
    let micros = || jiff::Timestamp::now().as_microsecond();
    let before = micros();
    log.append(&[upsert(1), upsert(2)]).unwrap();
    let between = micros();
    let first = log.oldest().unwrap().unwrap().as_microsecond();
    assert!((before..=between).contains(&first), "{before} {first} {between}");
    log.append(&[delete(3)]).unwrap();
    assert_eq!(log.oldest().unwrap().unwrap().as_microsecond(), first);
    log.trim(2).unwrap();
    let second = log.oldest().unwrap().unwrap().as_microsecond();
    assert!((between..=micros()).contains(&second), "{between} {second}");
}

/// The same few videos again and again, in a log that nothing trims.
#[test]
fn a_hot_set_does_not_make_the_log_grow() {
    let (_folder, path) = folder();
    let log: Arc<dyn MutationLog> = Arc::new(RedbLog::open(&path).unwrap());
    let compactor = LogCompactor::new(Arc::clone(&log), |panic| panic!("{panic}"));
    let large = |video, value| {
        let Mutation::Upsert(upsert) = upsert(video) else { unreachable!() };
        Mutation::Upsert(Upsert { embedding: vec![value; 512], ..upsert })
    };
    let written = 60 * 500;
    for round in 0..60u8 {
        log.append(&(0..500).map(|video| large(video, f32::from(round) + 1.0)).collect::<Vec<_>>()).unwrap();
        compactor.wake();
    }
    let started = std::time::Instant::now();
    // 500 entries are about 1 MB.
    while log.size().entry_bytes > 5 << 20 || log.bytes().unwrap() > 24 << 20 {
        assert!(started.elapsed().as_secs() < 60, "{:?} in {} bytes", log.size(), log.bytes().unwrap());
        thread::yield_now();
    }
    drop(compactor);
    assert_eq!(log.last_sequence(), written);
    let entries = log.read(0, usize::MAX).unwrap();
    let last_of_all = &entries[entries.len() - 500..];
    let expected: Vec<Mutation> = (0..500).map(|video| large(video, 60.0)).collect();
    assert!(last_of_all.iter().map(|entry| &entry.mutation).eq(&expected));
    assert_eq!(sequences(last_of_all), (written - 499..=written).collect::<Vec<_>>());
}

/// A trim that removes most of a large log does not leave the room to a hot set.
#[test]
fn a_hot_set_does_not_grow_to_what_the_log_was_before_a_trim() {
    let (_folder, path) = folder();
    let log: Arc<dyn MutationLog> = Arc::new(RedbLog::open(&path).unwrap());
    let compactor = LogCompactor::new(Arc::clone(&log), |panic| panic!("{panic}"));
    let append = |first: u64| {
        let Mutation::Upsert(upsert) = upsert(0) else { unreachable!() };
        let large = |video| {
            Mutation::Upsert(Upsert { video_id: VideoId(video), embedding: vec![0.5; 512], ..upsert.clone() })
        };
        log.append(&(first..first + 500).map(large).collect::<Vec<_>>()).unwrap();
        compactor.wake();
    };
    let until = |is_reached: &dyn Fn() -> bool| {
        let started = std::time::Instant::now();
        while !is_reached() {
            assert!(started.elapsed().as_secs() < 60, "{:?}", log.size());
            compactor.wake();
            thread::yield_now();
        }
    };
    // 500 entries are about 1 MB: 11 MB, of which the first was written twice.
    [0, 0].into_iter().chain((1..10).map(|batch| batch * 500)).for_each(append);
    until(&|| log.size().entries == 5_000);
    log.trim(log.last_sequence()).unwrap();
    (0..6).for_each(|_| append(0));
    until(&|| log.size().entry_bytes < 5 << 20);
}

/// A disk with a log of `entries` whose last number is `last`.
fn sparse_log(entries: u64, last: u64) -> SimulatedDisk {
    let (_folder, path) = folder();
    RedbLog::open(&path).unwrap().append(&(1..=entries).map(delete).collect::<Vec<_>>()).unwrap();
    tamper(&path, |transaction| {
        let mut table = transaction.open_table(ENTRIES).unwrap();
        let record = table.remove(entries).unwrap().unwrap().value().to_vec();
        table.insert(last, record.as_slice()).unwrap();
        let mut meta = transaction.open_table(META).unwrap();
        for (key, value) in [("version", 2), ("last", last), ("entries", entries)] {
            meta.insert(key, value).unwrap();
        }
    });
    let (disk, bytes) = (SimulatedDisk::new(1), std::fs::read(&path).unwrap());
    disk.set_len(bytes.len() as u64).unwrap();
    disk.write(0, &bytes).unwrap();
    disk.sync_data().unwrap();
    disk
}

/// A hot set leaves few entries of many: transactions go by the entries.
#[test]
fn trims_a_sparse_log_in_few_transactions() {
    const LAST: u64 = 1_000_000_000;
    for (entries, to, kept, left) in [
        (20, LAST, vec![], vec![]),
        (20, LAST - 1, vec![], vec![LAST]),
        (20, LAST - 1, vec![3, 17], vec![3, 17, LAST]),
        (120_000, LAST - 1, vec![60_000], vec![60_000, LAST]),
    ] {
        let disk = sparse_log(entries, LAST);
        let log = RedbLog::with_backend(disk.clone()).unwrap();
        let before = disk.syncs();
        log.trim_except(to, &kept).unwrap();
        let syncs = disk.syncs() - before;
        assert!(syncs < 50, "{syncs} syncs for {entries} entries");
        assert_eq!((log.trimmed_to(), log.last_sequence()), (to, LAST));
        assert_eq!(sequences(&log.read(0, 10).unwrap()), left);
        drop(log);
        let log = RedbLog::with_backend(disk).unwrap();
        assert_eq!((log.trimmed_to(), log.size().entries), (to, left.len() as u64));
        assert_eq!(log.append(&[delete(1)]).unwrap(), LAST + 1);
    }
}

/// Takedowns outlive their entries: a file of them alone is as small as it gets.
#[test]
fn a_log_of_takedowns_is_not_compacted_again_and_again() {
    let disk = SimulatedDisk::new(1);
    let log = RedbLog::with_backend(disk.clone()).unwrap().compacting_from(1 << 20);
    let takedowns = |first: u64| (first..first + 50_000).map(|video| Mutation::Takedown(VideoId(video)));
    for batch in 0..6 {
        log.append(&takedowns(batch * 50_000).collect::<Vec<_>>()).unwrap();
    }
    log.trim(u64::MAX).unwrap();
    let compacted = log.bytes().unwrap();
    assert!(compacted > 4 << 20, "{compacted}");
    for round in 0..5 {
        let last = log.append(&[delete(round), delete(round)]).unwrap();
        let before = disk.syncs();
        log.remove(&[last - 1]).unwrap();
        log.trim(last).unwrap();
        let syncs = disk.syncs() - before;
        // Two transactions.
        assert!(syncs <= 8, "{syncs} syncs in round {round}");
    }
    assert_eq!(log.takedowns().unwrap().len(), 300_000);
}
