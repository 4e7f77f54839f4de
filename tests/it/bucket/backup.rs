//! Backups: an index and its log, copied and restored.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;
use shortlist::base::id::VideoId;
use shortlist::engine::{Budget, Engine, EngineOptions, Lookup, ReturnAttributes, SearchRequest, WriteMode};
use shortlist::live::Mutation;
use tempfile::TempDir;

use super::places::Place;
use crate::harness::process::shortlist;
use crate::harness::{DIM, TestIndex, row_of, video_id};

fn run(place: &Place, arguments: &[&str]) -> Output {
    let mut command: Command = place.with(shortlist());
    command.arg("backup").args(arguments).output().unwrap()
}

fn json(place: &Place, arguments: &[&str]) -> Value {
    let Output { status, stdout, stderr } = run(place, &[arguments, &["--json"]].concat());
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    serde_json::from_slice(&stdout).unwrap()
}

fn refused(place: &Place, arguments: &[&str]) -> String {
    let Output { status, stderr, .. } = run(place, arguments);
    let error = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{error}");
    error
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn engine(dir: &Path) -> Engine {
    let indexes = vec![("videos".to_owned(), dir.to_owned())];
    let engine =
        Engine::open(EngineOptions { indexes, threads: 1, is_writable: true, ..EngineOptions::default() })
            .unwrap();
    drop(engine.refresh());
    engine
}

fn take_down(engine: &Engine, rows: std::ops::Range<usize>) {
    let takedowns = rows.map(|row| Mutation::Takedown(VideoId(video_id(row)))).collect();
    engine.write("", takedowns, WriteMode::AllOrNothing).unwrap();
}

/// The best of a query, with their scores.
fn answer(engine: &Engine) -> Vec<(VideoId, f32)> {
    let request = SearchRequest::vector([1.0; DIM]).k(50);
    let found = engine.search(&request, &Budget::default()).unwrap();
    found.candidates.iter().map(|candidate| (candidate.video_id, candidate.score)).collect()
}

/// A folder and the index in it.
struct Restored(TempDir);

impl Restored {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn dir(&self) -> std::path::PathBuf {
        self.0.path().join("index")
    }
}

#[test]
fn a_restored_index_answers_as_the_one_that_was_copied() {
    for place in Place::all() {
        let index = TestIndex::new(60);
        let dir = index.dir();
        // Without a log.
        let made = json(&place, &["create", "--index", text(&dir), "--out", &place.url]);
        assert_eq!((&made["backup"], &made["sequence"], &made["videos"]), (&1.into(), &0.into(), &60.into()));
        let written = engine(&dir);
        take_down(&written, 0..20);
        let expected = answer(&written);
        drop(written);
        let made = json(&place, &["create", "--index", text(&dir), "--out", &place.url]);
        assert_eq!((&made["backup"], &made["sequence"]), (&2.into(), &20.into()));
        assert_eq!(made["taken_down_videos"], 20);
        let listed = json(&place, &["list", "--from", &place.url]);
        assert_eq!(listed["backups"].as_array().unwrap().len(), 2);
        assert_eq!(listed["backups"][1], made);

        let newest = Restored::new();
        let restored = json(&place, &["restore", "--from", &place.url, "--out", text(&newest.dir())]);
        assert_eq!(restored, made);
        let opened = engine(&newest.dir());
        assert_eq!(answer(&opened), expected);
        let found = opened.get("", &[VideoId(video_id(3))], &ReturnAttributes::None, false).unwrap();
        assert!(matches!(found[0], Lookup::TakenDown(_)));
        // Writes go on after the last one.
        take_down(&opened, 20..21);
        assert_eq!(opened.status("").unwrap().live.sequence, 21);
        drop(opened);

        let oldest = Restored::new();
        json(&place, &["restore", "--from", &place.url, "--out", text(&oldest.dir()), "--backup", "1"]);
        assert_eq!(answer(&engine(&oldest.dir())).len(), 50);
        let error = refused(&place, &["restore", "--from", &place.url, "--out", text(&oldest.dir())]);
        assert!(
            error.contains("expected a folder without an index, found manifest-00000001.json"),
            "{error}"
        );
        let none = Restored::new();
        let error =
            refused(&place, &["restore", "--from", &place.url, "--out", text(&none.dir()), "--backup", "7"]);
        assert!(error.contains("no backup 7 here; available: [1, 2]"), "{error}");
    }
}

#[test]
fn a_damaged_backup_is_refused_and_a_restore_that_was_cut_goes_on() {
    let place = Place::folder();
    let index = TestIndex::new(60);
    let written = engine(&index.dir());
    take_down(&written, 0..20);
    let expected = answer(&written);
    drop(written);
    json(&place, &["create", "--index", text(&index.dir()), "--out", &place.url]);
    for name in ["generation-00000001.index", "mutations.redb", "manifest-00000001.json", "backup.json"] {
        let object = format!("backup-00000001/{name}");
        let sound = place.read(&object);
        for damage in [true, false] {
            let mut bytes = sound.clone();
            if damage {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            } else {
                bytes.truncate(bytes.len() / 2);
            }
            place.write(&object, bytes);
            let restored = Restored::new();
            let error = refused(&place, &["restore", "--from", &place.url, "--out", text(&restored.dir())]);
            assert!(error.contains(&object), "{name}: {error}");
            assert!(!restored.dir().join("manifest-00000001.json").exists(), "{name}: a damaged index");
            // The files before it are there. With a sound object, the rest follows.
            place.write(&object, sound.clone());
            json(&place, &["restore", "--from", &place.url, "--out", text(&restored.dir())]);
            assert_eq!(answer(&engine(&restored.dir())), expected, "{name}");
        }
    }
    let restored = Restored::new();
    fs::create_dir(restored.dir()).unwrap();
    fs::write(restored.dir().join("mutations.redb"), "another log").unwrap();
    let error = refused(&place, &["restore", "--from", &place.url, "--out", text(&restored.dir())]);
    assert!(error.contains("expected a folder without an index, found mutations.redb"), "{error}");
}

/// Each write takes down the next video, so the sequence of a backup says what it must contain.
#[test]
fn a_backup_during_writes_has_every_write_up_to_its_sequence() {
    const VIDEOS: usize = 400;
    let place = Place::folder();
    let index = TestIndex::new(VIDEOS);
    let written = engine(&index.dir());
    take_down(&written, 0..1);
    let acknowledged = AtomicUsize::new(1);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for row in 1..VIDEOS - 100 {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                take_down(&written, row..row + 1);
                acknowledged.store(row + 1, Ordering::Relaxed);
            }
        });
        for _ in 0..5 {
            let before = acknowledged.load(Ordering::Relaxed);
            let made = json(&place, &["create", "--index", text(&index.dir()), "--out", &place.url]);
            let sequence = made["sequence"].as_u64().unwrap() as usize;
            assert!(sequence >= before, "{sequence} after {before} were acknowledged");
            assert_eq!(made["taken_down_videos"], sequence);
            let restored = Restored::new();
            json(&place, &["restore", "--from", &place.url, "--out", text(&restored.dir())]);
            let opened = engine(&restored.dir());
            let live = opened.status("").unwrap().live;
            assert_eq!((live.sequence, live.takedowns), (sequence as u64, sequence as u64));
            let alive: Vec<_> = index.exact(&[1.0; DIM], VIDEOS);
            let alive = alive.into_iter().filter(|(id, _)| row_of(*id) >= sequence).take(50);
            let expected: Vec<_> = alive.map(|(id, score)| (VideoId(id), score)).collect();
            assert_eq!(answer(&opened), expected);
        }
        stop.store(true, Ordering::Relaxed);
    });
}
