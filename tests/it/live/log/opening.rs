//! Files that are no log, are in use or are damaged.

use std::path::Path;

use redb::{Database, ReadableTable as _, TableDefinition};
use shortlist::base::id::{MAX_SEQUENCE, VideoId};
use shortlist::live::{LogError, Mutation, MutationLog, RedbLog};

use super::{ENTRIES, TAKEDOWNS, delete, folder, sequences, tamper, upsert};

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
