//! Logs of this and of earlier versions.

use std::path::Path;

use redb::{Database, ReadableDatabase};
use shortlist::attributes::Value;
use shortlist::base::id::VideoId;
use shortlist::base::instant::Instant;
use shortlist::live::{Entry, LogError, Mutation, MutationLog, RedbLog, Upsert};

use super::{META, delete, folder, tamper, upsert};

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
fn rejects_another_version() {
    let (_folder, path) = folder();
    drop(RedbLog::open(&path).unwrap());
    tamper(&path, |transaction| drop(transaction.open_table(META).unwrap().insert("version", 4).unwrap()));
    let error = RedbLog::open(&path).unwrap_err();
    assert!(matches!(error, LogError::WrongVersion { expected: 3, found: 4, .. }), "{error}");
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
