//! The mutation log: entries, errors and concurrent callers.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use redb::{Database, ReadableDatabase, ReadableTable as _, StorageBackend as _, TableDefinition};
use shortlist::attributes::Value;
use shortlist::base::id::{MAX_SEQUENCE, VideoId};
use shortlist::base::instant::Instant;
use shortlist::live::{Entry, GroupCommit, LogCompactor, LogError, Mutation, MutationLog, RedbLog, Upsert};
use tempfile::TempDir;

use crate::harness::disk::SimulatedDisk;

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mutations.redb");
    (folder, path)
}

fn upsert(video: u64) -> Mutation {
    Mutation::Upsert(Upsert {
        video_id: VideoId(video),
        embedding: vec![video as f32, -0.5],
        attributes: vec![("title".to_owned(), Value::Keyword(format!("title {video}")))],
        expires_at: Some(Instant::from_microsecond(1_700_000_000_000_001).unwrap()),
        embedding_model: Some("towers-3".to_owned()),
    })
}

fn delete(video: u64) -> Mutation {
    Mutation::Delete(VideoId(video))
}

fn sequences(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.sequence).collect()
}

/// A log written by the version in its name, with every kind of mutation and value, and its first entry trimmed.
#[test]
fn a_log_of_version_1_is_read() {
    let (_folder, path) = folder();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/log-1.redb");
    std::fs::copy(fixture, &path).unwrap();
    let time = Instant::from_microsecond(1_700_000_000_000_001).unwrap();
    let attributes = [
        ("title", Value::Keyword("ø".to_owned())),
        ("tags", Value::KeywordList(vec!["a".to_owned(), String::new()])),
        ("likes", Value::Int64(-5)),
        ("creator", Value::Uint64(u64::MAX)),
        ("score", Value::Double(0.25)),
        ("safe", Value::Bool(true)),
        ("published_at", Value::Timestamp(time)),
    ];
    let full = Upsert {
        video_id: VideoId(u64::MAX),
        embedding: vec![1.5, -0.5, 0.0],
        attributes: attributes.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        expires_at: Some(time),
        embedding_model: Some("towers-3".to_owned()),
    };
    let bare = Upsert {
        video_id: VideoId(10),
        embedding: vec![0.0, 2.0, 1.0],
        attributes: Vec::new(),
        expires_at: None,
        embedding_model: None,
    };
    let mutations = [
        Mutation::Upsert(full),
        delete(8),
        Mutation::Takedown(VideoId(7)),
        Mutation::Takedown(VideoId(9)),
        Mutation::Restore(VideoId(9)),
        Mutation::Upsert(bare),
    ];
    let expected: Vec<Entry> =
        (2..).zip(mutations).map(|(sequence, mutation)| Entry { sequence, mutation }).collect();
    let log = RedbLog::open(&path).unwrap();
    assert_eq!((log.trimmed_to(), log.last_sequence()), (1, 7));
    assert_eq!(log.read(1, 10).unwrap(), expected);
    assert_eq!(log.takedowns().unwrap(), [(VideoId(7), 4)]);
    assert_eq!(log.append(&[delete(1)]).unwrap(), 8);
}

/// A log written by the version in its name: an upsert, a delete, three takedowns and a restore.
#[test]
fn a_log_of_version_3_is_read() {
    let (_folder, path) = folder();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/log-3.redb");
    std::fs::copy(fixture, &path).unwrap();
    let log = RedbLog::open(&path).unwrap();
    let bare = Upsert::new(VideoId(10), [0.5; 16]);
    let mutations = [
        Mutation::Upsert(bare),
        delete(8),
        Mutation::Takedown(VideoId(7)),
        Mutation::Takedown(VideoId(9)),
        Mutation::Takedown(VideoId(u64::MAX)),
        Mutation::Restore(VideoId(9)),
    ];
    let expected: Vec<Entry> =
        (1..).zip(mutations).map(|(sequence, mutation)| Entry { sequence, mutation }).collect();
    assert_eq!(log.read(0, 10).unwrap(), expected);
    assert_eq!(log.takedowns().unwrap(), [(VideoId(7), 3), (VideoId(u64::MAX), 5)]);
    assert_eq!(log.append(&[delete(1)]).unwrap(), 7);
}

#[test]
fn keeps_what_was_appended_in_order() {
    let (folder, path) = folder();
    let log = RedbLog::open(&path).unwrap();
    assert_eq!((log.last_sequence(), log.trimmed_to()), (0, 0));
    assert_eq!(log.append(&[]).unwrap(), 0);
    assert_eq!(log.append(&[upsert(7), delete(8)]).unwrap(), 2);
    assert_eq!(log.append(&[upsert(9)]).unwrap(), 3);
    let expected: Vec<Entry> = (1..)
        .zip([upsert(7), delete(8), upsert(9)])
        .map(|(sequence, mutation)| Entry { sequence, mutation })
        .collect();
    assert_eq!(log.read(0, 10).unwrap(), expected);
    drop(log);

    let log = RedbLog::open(&path).unwrap();
    assert_eq!(log.last_sequence(), 3);
    assert_eq!(log.read(0, 10).unwrap(), expected);
    assert_eq!(log.read(1, 1).unwrap(), expected[1..2]);
    assert_eq!(log.read(0, 0).unwrap(), []);
    assert_eq!(log.read(3, 10).unwrap(), []);
    assert_eq!(log.read(u64::MAX, 10).unwrap(), []);
    assert_eq!(log.bytes().unwrap(), std::fs::metadata(&path).unwrap().len());
    let names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["mutations.redb"]);
}

#[test]
fn trims_entries_and_keeps_numbers_and_takedowns() {
    let (_folder, path) = folder();
    let log = RedbLog::open(&path).unwrap();
    let takedown = |video| Mutation::Takedown(VideoId(video));
    let restore = |video| Mutation::Restore(VideoId(video));
    // An upsert does not restore a video, and a second takedown replaces the first.
    log.append(&[takedown(5), takedown(4), takedown(3), upsert(4), restore(3), takedown(5)]).unwrap();
    let taken_down = [(VideoId(4), 2), (VideoId(5), 6)];
    assert_eq!(log.takedowns().unwrap(), taken_down);

    log.trim(4).unwrap();
    assert_eq!((log.trimmed_to(), log.last_sequence()), (4, 6));
    assert_eq!(sequences(&log.read(0, 10).unwrap()), [5, 6]);
    log.trim(2).unwrap();
    assert_eq!(log.trimmed_to(), 4);
    log.trim(u64::MAX).unwrap();
    assert_eq!((log.trimmed_to(), log.last_sequence()), (6, 6));
    drop(log);

    let log = RedbLog::open(&path).unwrap();
    assert_eq!((log.trimmed_to(), log.last_sequence()), (6, 6));
    assert_eq!(log.read(0, 10).unwrap(), []);
    assert_eq!(log.takedowns().unwrap(), taken_down);
    assert_eq!(log.append(&[restore(4)]).unwrap(), 7);
    assert_eq!(sequences(&log.read(6, 10).unwrap()), [7]);
    assert_eq!(log.takedowns().unwrap(), taken_down[1..]);
}

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

#[test]
fn rejects_a_log_that_is_in_use() {
    let (_folder, path) = folder();
    let log = RedbLog::open(&path).unwrap();
    log.append(&[delete(1)]).unwrap();
    let second = RedbLog::open(&path).unwrap_err();
    assert!(matches!(&second, LogError::InUse { path: found } if *found == path), "{second}");
    log.append(&[delete(2)]).unwrap();
    drop(log);
    assert_eq!(RedbLog::open(&path).unwrap().last_sequence(), 2);
}

#[test]
fn rejects_what_is_no_log() {
    let (_folder, path) = folder();
    let problem = |path: &Path| match RedbLog::open(path).unwrap_err() {
        LogError::ForeignFile { path: found, problem } if found == *path => problem,
        other => panic!("{other}"),
    };
    std::fs::write(&path, "").unwrap();
    assert_eq!(problem(&path), "expected a log, found an empty file");
    let magic = r#"expected magic "redb\x1a\n\xa9\r\n", found "#;
    std::fs::write(&path, "redb").unwrap();
    assert_eq!(problem(&path), format!(r#"{magic}"\x00\x00\x00\x00\x00\x00\x00\x00\x00""#));
    std::fs::write(&path, "sequence,video\n1,7\n").unwrap();
    assert_eq!(problem(&path), format!(r#"{magic}"sequence,""#));
    assert_eq!(std::fs::read(&path).unwrap(), b"sequence,video\n1,7\n");

    std::fs::remove_file(&path).unwrap();
    let other = Database::create(&path).unwrap();
    let transaction = other.begin_write().unwrap();
    transaction.open_table(TableDefinition::<u64, u64>::new("songs")).unwrap();
    transaction.commit().unwrap();
    drop(other);
    assert_eq!(problem(&path), r#"expected a table "meta", found ["songs"]"#);

    let nowhere = path.with_file_name("no-such-folder").join("log");
    let missing = RedbLog::open(&nowhere).unwrap_err();
    assert!(matches!(&missing, LogError::Io { path: found, .. } if *found == nowhere), "{missing}");
}

/// Changes a table of a log file directly.
fn tamper(path: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

const TAKEDOWNS: TableDefinition<'_, u64, (u64, u32)> = TableDefinition::new("checked_takedowns");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");

#[test]
fn rejects_another_version() {
    let (_folder, path) = folder();
    drop(RedbLog::open(&path).unwrap());
    tamper(&path, |transaction| drop(transaction.open_table(META).unwrap().insert("version", 4).unwrap()));
    let error = RedbLog::open(&path).unwrap_err();
    assert!(matches!(error, LogError::WrongVersion { expected: 3, found: 4, .. }), "{error}");
}

#[test]
fn rejects_damage_and_names_where() {
    let (_folder, path) = folder();
    let log = RedbLog::open(&path).unwrap();
    log.append(&[delete(1), upsert(2), delete(3)]).unwrap();
    drop(log);
    let whole = std::fs::read(&path).unwrap();

    // A truncated file.
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let error = RedbLog::open(&path).unwrap_err();
    assert!(matches!(&error, LogError::Damaged { path: found, .. } if *found == path), "{error}");

    // A flipped bit in an embedding.
    let mut flipped = whole.clone();
    let at = whole.windows(8).position(|bytes| bytes == [0, 0, 0, 64, 0, 0, 0, 191]).unwrap();
    flipped[at] ^= 1;
    std::fs::write(&path, flipped).unwrap();
    let error = RedbLog::open(&path).unwrap_err();
    assert!(matches!(&error, LogError::Damaged { path: found, .. } if *found == path), "{error}");

    // A record that was stored damaged.
    std::fs::write(&path, &whole).unwrap();
    tamper(&path, |transaction| {
        let mut entries = transaction.open_table(ENTRIES).unwrap();
        let mut record = entries.get(2).unwrap().unwrap().value().to_vec();
        *record.last_mut().unwrap() ^= 1;
        entries.insert(2, record.as_slice()).unwrap();
    });
    let log = RedbLog::open(&path).unwrap();
    let error = log.read(0, 10).unwrap_err();
    assert!(matches!(&error, LogError::BadRecord { sequence: 2, problem, .. } if problem.contains("crc32c")));
    assert_eq!(sequences(&log.read(2, 10).unwrap()), [3]);
    drop(log);

    // Takedowns that were stored damaged, added or removed.
    let log = RedbLog::open(&path).unwrap();
    log.append(&[Mutation::Takedown(VideoId(4)), Mutation::Takedown(VideoId(5))]).unwrap();
    drop(log);
    let taken_down = std::fs::read(&path).unwrap();
    type Change = fn(&mut redb::Table<'_, u64, (u64, u32)>);
    let changes: [(Change, &str); 3] = [
        (
            |table| drop(table.insert(4, (9, 1)).unwrap()),
            "takedown of video 4, entry 9: expected crc32c 00000001",
        ),
        (|table| drop(table.remove(4).unwrap()), "expected 2 takedowns with checksum"),
        (
            |table| {
                let (sequence, checksum) = table.get(4).unwrap().unwrap().value();
                table.remove(4).unwrap();
                table.insert(6, (sequence, checksum)).unwrap();
            },
            "takedown of video 6, entry 4: expected crc32c",
        ),
    ];
    for (change, expected) in changes {
        std::fs::write(&path, &taken_down).unwrap();
        tamper(&path, |transaction| change(&mut transaction.open_table(TAKEDOWNS).unwrap()));
        let error = RedbLog::open(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    // A missing entry, at the end and in the middle.
    std::fs::write(&path, &whole).unwrap();
    tamper(&path, |transaction| drop(transaction.open_table(ENTRIES).unwrap().remove(3).unwrap()));
    let error = RedbLog::open(&path).unwrap_err().to_string();
    let found = "expected 3 entries, the last at 3, trimmed to 0; found 2 entries, the first and last at ";
    assert!(error.contains(&format!("{found}[1, 2]")), "{error}");
    std::fs::write(&path, &whole).unwrap();
    tamper(&path, |transaction| drop(transaction.open_table(ENTRIES).unwrap().remove(2).unwrap()));
    let error = RedbLog::open(&path).unwrap_err().to_string();
    assert!(error.contains(&format!("{found}[1, 3]")), "{error}");

    // The same in a log with gaps.
    std::fs::write(&path, &whole).unwrap();
    let log = RedbLog::open(&path).unwrap();
    log.append(&[delete(4), delete(5)]).unwrap();
    log.remove(&[4]).unwrap();
    drop(log);
    let whole = std::fs::read(&path).unwrap();
    for missing in [1, 3, 5] {
        std::fs::write(&path, &whole).unwrap();
        tamper(&path, |transaction| drop(transaction.open_table(ENTRIES).unwrap().remove(missing).unwrap()));
        let error = RedbLog::open(&path).unwrap_err().to_string();
        assert!(
            error.contains("expected 4 entries, the last at 5, trimmed to 0; found 3 entries"),
            "{error}"
        );
    }
}

fn version(path: &Path) -> u64 {
    let database = Database::open(path).unwrap();
    database.begin_read().unwrap().open_table(META).unwrap().get("version").unwrap().unwrap().value()
}

#[test]
fn removes_single_entries_and_keeps_numbers() {
    let (_folder, path) = folder();
    let log = RedbLog::open(&path).unwrap();
    let takedown = Mutation::Takedown(VideoId(9));
    log.append(&[upsert(1), upsert(2), upsert(1), takedown, upsert(2)]).unwrap();
    let full = log.size();
    assert_eq!(full.entries, 5);
    drop(log);

    let log = RedbLog::open(&path).unwrap();
    assert_eq!(log.size(), full);
    // The last entry stays, and so does the takedown without its entry.
    log.remove(&[1, 2, 4, 5, 77]).unwrap();
    assert_eq!(sequences(&log.read(0, 10).unwrap()), [3, 5]);
    assert_eq!((log.size().entries, log.last_sequence(), log.trimmed_to()), (2, 5, 0));
    assert!(log.size().entry_bytes < full.entry_bytes && log.size().written_bytes == full.entry_bytes);
    assert_eq!(log.read(3, 1).unwrap()[0].mutation, upsert(2));
    assert_eq!(log.append(&[delete(7)]).unwrap(), 6);
    let size = log.size();
    drop(log);
    assert_eq!(version(&path), 3);

    let log = RedbLog::open(&path).unwrap();
    assert_eq!((log.size().entries, log.size().entry_bytes), (size.entries, size.entry_bytes));
    assert_eq!(sequences(&log.read(0, 10).unwrap()), [3, 5, 6]);
    assert_eq!(log.takedowns().unwrap(), [(VideoId(9), 4)]);
    log.trim(5).unwrap();
    assert_eq!(sequences(&log.read(0, 10).unwrap()), [6]);
}

#[test]
fn trims_all_but_some_entries_until_they_are_not_kept() {
    let (_folder, path) = folder();
    let log = RedbLog::open(&path).unwrap();
    log.append(&(1..=9).map(upsert).collect::<Vec<_>>()).unwrap();
    log.trim_except(6, &[2, 5, 8]).unwrap();
    assert_eq!((log.trimmed_to(), sequences(&log.read(0, 10).unwrap())), (6, vec![2, 5, 7, 8, 9]));
    drop(log);
    let log = RedbLog::open(&path).unwrap();
    assert_eq!((log.trimmed_to(), log.size().entries), (6, 5));
    log.trim_except(6, &[5]).unwrap();
    assert_eq!(sequences(&log.read(0, 10).unwrap()), [5, 7, 8, 9]);
    // Everything but one entry in front of the trimmed part.
    log.trim_except(u64::MAX, &[5]).unwrap();
    assert_eq!(
        (log.trimmed_to(), log.last_sequence(), sequences(&log.read(0, 10).unwrap())),
        (9, 9, vec![5])
    );
    drop(log);
    let log = RedbLog::open(&path).unwrap();
    assert_eq!(log.append(&[delete(1)]).unwrap(), 10);
    assert_eq!(sequences(&log.read(0, 10).unwrap()), [5, 10]);
    log.trim(10).unwrap();
    assert_eq!(log.size().entries, 0);
    drop(log);
    assert_eq!(RedbLog::open(&path).unwrap().append(&[delete(1)]).unwrap(), 11);
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

/// A log with gaps and with an entry in front of the trimmed part, written by the version in its name.
#[test]
fn a_log_of_version_2_is_read() {
    let (_folder, path) = folder();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/log-2.redb");
    std::fs::copy(fixture, &path).unwrap();
    let log = RedbLog::open(&path).unwrap();
    assert_eq!((log.trimmed_to(), log.last_sequence(), log.size().entries), (3, 8, 4));
    let expected = [(2, upsert(2)), (4, Mutation::Takedown(VideoId(4))), (7, upsert(5)), (8, delete(6))];
    let expected = expected.map(|(sequence, mutation)| Entry { sequence, mutation });
    assert_eq!(log.read(0, 10).unwrap(), expected);
    assert_eq!(log.takedowns().unwrap(), [(VideoId(4), 4)]);
    assert_eq!(log.append(&[delete(1)]).unwrap(), 9);
}

#[test]
fn a_damaged_header_is_an_error_and_never_a_panic() {
    let (_folder, path) = folder();
    let log = RedbLog::open(&path).unwrap();
    log.append(&[delete(1), upsert(2)]).unwrap();
    drop(log);
    let whole = std::fs::read(&path).unwrap();
    for at in 0..64 {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        std::fs::write(&path, damaged).unwrap();
        if let Ok(log) = RedbLog::open(&path) {
            assert_eq!(sequences(&log.read(0, 10).unwrap()), [1, 2], "byte {at}");
        }
    }
}

#[test]
fn file_stays_a_plain_redb_database() {
    let (_folder, path) = folder();
    RedbLog::open(&path).unwrap().append(&[delete(1)]).unwrap();
    let mut database = Database::open(&path).unwrap();
    assert!(database.check_integrity().unwrap());
    let meta = database.begin_read().unwrap().open_table(META).unwrap();
    for (key, value) in [("version", 3), ("last", 1), ("trimmed", 0)] {
        assert_eq!(meta.get(key).unwrap().unwrap().value(), value, "{key}");
    }
}

/// The file is on a disk that is not mounted.
#[test]
fn a_link_that_leads_nowhere_is_an_error_and_not_an_absent_log() {
    let (folder, path) = folder();
    let target = folder.path().join("disk").join("mutations.redb");
    std::os::unix::fs::symlink(&target, &path).unwrap();
    for opened in [RedbLog::open(&path), RedbLog::open_after(&path, 7)] {
        let error = opened.unwrap_err();
        assert!(matches!(&error, LogError::Io { path: found, .. } if *found == path), "{error:?}");
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    std::fs::create_dir(target.parent().unwrap()).unwrap();
    let log = RedbLog::open(folder.path().join("other.redb")).unwrap();
    assert_eq!(log.append(&[delete(1)]).unwrap(), 1);
    drop(log);
    std::fs::rename(folder.path().join("other.redb"), &target).unwrap();
    assert_eq!(RedbLog::open(&path).unwrap().last_sequence(), 1);
}

#[test]
fn many_callers_have_one_order() {
    const CALLERS: u64 = 16;
    const WRITES: u64 = 40;
    let (_folder, path) = folder();
    let log = Arc::new(RedbLog::open(&path).unwrap());
    let applied = Arc::new(Mutex::new(Vec::<Entry>::new()));
    let to = Arc::clone(&applied);
    let group = GroupCommit::new(log.clone(), move |entries| to.lock().unwrap().extend_from_slice(entries));
    let caller = |caller: u64| {
        let (group, applied) = (&group, &applied);
        move || {
            let mut before = 0;
            for write in 0..WRITES {
                let size = 1 + (caller + write) % 3;
                let mutations: Vec<Mutation> =
                    (0..size).map(|at| delete(caller << 32 | write << 8 | at)).collect();
                let last = group.write(mutations.clone()).unwrap();
                assert!(last >= before + size, "{last} after {before}");
                before = last;
                // They are applied together, in order, with the returned sequences.
                let applied = applied.lock().unwrap();
                let mine = &applied[(last - size) as usize..last as usize];
                assert!((last - size + 1..=last).eq(mine.iter().map(|entry| entry.sequence)));
                assert!(mutations.iter().eq(mine.iter().map(|entry| &entry.mutation)));
            }
        }
    };
    thread::scope(|scope| (0..CALLERS).for_each(|number| drop(scope.spawn(caller(number)))));
    assert_eq!(group.write(Vec::new()).unwrap(), log.last_sequence());
    drop(group);
    assert_eq!(log.read(0, usize::MAX).unwrap(), *applied.lock().unwrap());
}

#[test]
fn a_log_whose_numbers_would_overflow_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for last in [MAX_SEQUENCE + 1, u64::MAX] {
        let path = folder.path().join(format!("{last}.redb"));
        let error = RedbLog::open_after(&path, last).unwrap_err();
        assert!(matches!(error, LogError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(&format!("of at most {MAX_SEQUENCE}, found {last}")), "{error}");
    }
    let path = folder.path().join("last.redb");
    let log = RedbLog::open_after(&path, MAX_SEQUENCE - 2).unwrap();
    let error = log.append(&(0..3).map(upsert).collect::<Vec<_>>()).unwrap_err();
    let expected = format!("expected sequence numbers of at most {MAX_SEQUENCE}, found {}", MAX_SEQUENCE + 1);
    assert!(error.to_string().ends_with(&expected), "{error}");
    assert_eq!(log.append(&(0..2).map(upsert).collect::<Vec<_>>()).unwrap(), MAX_SEQUENCE);
    log.append(&[upsert(3)]).unwrap_err();
    drop(log);
    let log = RedbLog::open(&path).unwrap();
    assert_eq!(log.read(MAX_SEQUENCE - 2, 10).unwrap().len(), 2);
}
