//! The files of an index are removed, replaced or restored under a running engine: what is acknowledged is found after a
//! restart, and what could not be found is not acknowledged.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shortlist::base::id::VideoId;
use shortlist::engine::{
    Budget, Effort, Engine, EngineError, EngineOptions, Lookup, Readiness, RebuildOptions, Refresh,
    ReturnAttributes, WriteMode,
};
use shortlist::live::Mutation;
use tempfile::TempDir;

use crate::harness::{DIM, TestIndex};
use crate::live::engine::{request, upsert};

pub(super) const VIDEOS: usize = 30;

pub(super) fn open(dir: &Path) -> Result<Engine, EngineError> {
    let rebuild = RebuildOptions { delta_share: 0.0, deleted_share: 0.0, ..RebuildOptions::default() };
    let indexes = vec![("videos".to_owned(), dir.to_owned())];
    let options =
        EngineOptions { indexes, threads: 1, is_writable: true, rebuild, ..EngineOptions::default() };
    Engine::open(options)
}

pub(super) fn write(engine: &Engine, video: u64) -> Result<u64, EngineError> {
    let mutation = Mutation::Upsert(upsert(video, [1.0; DIM], "new", true));
    engine.write("", vec![mutation], WriteMode::AllOrNothing).map(|written| written.sequence)
}

pub(super) fn assert_refused(engine: &Engine, context: &str) {
    let error = write(engine, 999).expect_err(context);
    assert!(
        matches!(error, EngineError::ReadOnly { .. } | EngineError::OutOfService { .. }),
        "{context}: {error}"
    );
    let live = engine.status("").unwrap().live;
    assert!(!live.writable && live.read_only_reason.is_some(), "{context}: {live:?}");
    assert_ne!(engine.readiness("").unwrap(), Readiness::Ready, "{context}");
}

pub(super) fn has(engine: &Engine, video: u64) -> bool {
    let found = engine.get("", &[VideoId(video)], &ReturnAttributes::None, false).unwrap();
    matches!(found[0], Lookup::Found(_))
}

pub(super) fn answers(engine: &Engine) -> bool {
    engine.search(&request([1.0; DIM], 5, Effort::Exact), &Budget::default()).is_ok()
}

pub(super) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// A folder behind a link.
pub(super) struct Folder {
    pub(super) root: TempDir,
    pub(super) index: TestIndex,
    number: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Anew,
    Link,
    Removed,
    Restored,
    Emptied,
    LogRemoved,
    LogReplaced,
    LogOverwritten,
    ManifestReplaced,
    GenerationReplaced,
}

const CHANGES: [Change; 10] = [
    Change::Anew,
    Change::Link,
    Change::Removed,
    Change::Restored,
    Change::Emptied,
    Change::LogRemoved,
    Change::LogReplaced,
    Change::LogOverwritten,
    Change::ManifestReplaced,
    Change::GenerationReplaced,
];

impl Folder {
    pub(super) fn new() -> Self {
        let folder = Self { root: tempfile::tempdir().unwrap(), index: TestIndex::new(VIDEOS), number: 0 };
        copy_folder(&folder.index.dir(), &folder.real());
        symlink(folder.real(), folder.link()).unwrap();
        folder
    }

    pub(super) fn link(&self) -> PathBuf {
        self.root.path().join("live")
    }

    pub(super) fn real(&self) -> PathBuf {
        self.root.path().join(format!("folder-{}", self.number))
    }

    pub(super) fn log(&self) -> PathBuf {
        self.real().join("mutations.redb")
    }

    /// The only file with this prefix.
    pub(super) fn file(&self, prefix: &str) -> PathBuf {
        let names = fs::read_dir(self.real()).unwrap().map(|entry| entry.unwrap().path());
        let is_it = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(prefix);
        names.filter(is_it).max().unwrap()
    }

    /// Replaces a file by a copy of itself.
    fn replace(&self, path: &Path) {
        let copy = self.root.path().join("copy");
        fs::copy(path, &copy).unwrap();
        fs::rename(copy, path).unwrap();
    }

    /// Makes a change; `write` writes once more. Returns whether anything changed, and whether writes may be lost.
    pub(super) fn change(&mut self, change: Change, write: impl FnOnce()) -> (bool, bool) {
        let spare = self.root.path().join("spare");
        match change {
            Change::Anew => {
                fs::remove_dir_all(self.real()).unwrap();
                copy_folder(&self.index.dir(), &self.real());
                (true, true)
            }
            Change::Link => {
                self.number += 1;
                copy_folder(&self.index.dir(), &self.real());
                symlink(self.real(), &spare).unwrap();
                fs::rename(spare, self.link()).unwrap();
                (true, true)
            }
            Change::Removed => {
                fs::remove_dir_all(self.real()).unwrap();
                (true, true)
            }
            Change::Restored => {
                copy_folder(&self.real(), &spare);
                write();
                fs::remove_dir_all(self.real()).unwrap();
                fs::rename(spare, self.real()).unwrap();
                (true, true)
            }
            // The folder stays, its files are others.
            Change::Emptied => {
                fs::read_dir(self.real())
                    .unwrap()
                    .for_each(|entry| fs::remove_file(entry.unwrap().path()).unwrap());
                for entry in fs::read_dir(self.index.dir()).unwrap() {
                    let path = entry.unwrap().path();
                    fs::copy(&path, self.real().join(path.file_name().unwrap())).unwrap();
                }
                (true, true)
            }
            _ if !self.log().exists() && format!("{change:?}").starts_with("Log") => (false, false),
            Change::LogRemoved => {
                fs::remove_file(self.log()).unwrap();
                (true, true)
            }
            Change::LogReplaced => {
                fs::copy(self.log(), &spare).unwrap();
                write();
                fs::rename(spare, self.log()).unwrap();
                (true, true)
            }
            Change::LogOverwritten => {
                fs::copy(self.log(), &spare).unwrap();
                write();
                let changes = fs::read(&spare).unwrap() != fs::read(self.log()).unwrap();
                fs::copy(&spare, self.log()).unwrap();
                fs::remove_file(spare).unwrap();
                (changes, true)
            }
            Change::ManifestReplaced => {
                self.replace(&self.file("manifest-"));
                (true, false)
            }
            Change::GenerationReplaced => {
                self.replace(&self.file("generation-"));
                (true, false)
            }
        }
    }
}

/// Random changes with writes before and after each. What was acknowledged since the last change that may lose writes is
/// there after a restart.
#[test]
fn what_is_acknowledged_is_found_after_a_restart_whatever_happens_to_the_folder() {
    for seed in 0..16 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut folder = Folder::new();
        let engine = open(&folder.link()).unwrap();
        engine.refresh();
        let (mut acknowledged, mut next) = (Vec::new(), 1);
        for step in 0..8 {
            for _ in 0..random.random_range(0..3) {
                if write(&engine, next).is_ok() {
                    acknowledged.push(next);
                }
                next += 1;
            }
            let change =
                if folder.real().exists() { *CHANGES.choose(&mut random).unwrap() } else { Change::Link };
            let context = format!("seed {seed}, step {step}: {change:?}");
            let once_more = next;
            next += 1;
            let (is_changed, may_lose) = folder.change(change, || drop(write(&engine, once_more)));
            if may_lose {
                acknowledged.clear();
            }
            if is_changed {
                assert_refused(&engine, &context);
            }
            let news = engine.refresh();
            assert!(answers(&engine), "{context}: {news:?}");
            let is_writable = engine.status("").unwrap().live.writable;
            match change {
                Change::Removed => assert!(!is_writable, "{context}"),
                Change::Anew | Change::Link | Change::Emptied => assert!(is_writable, "{context}: {news:?}"),
                _ => {}
            }
            assert_eq!(write(&engine, next).is_ok(), is_writable, "{context}: {news:?}");
            if is_writable {
                acknowledged.push(next);
                assert!(acknowledged.iter().all(|video| has(&engine, *video)), "{context}: {acknowledged:?}");
            }
            next += 1;
        }
        drop(engine);
        if !acknowledged.is_empty() {
            let engine = open(&folder.link()).unwrap();
            assert!(acknowledged.iter().all(|video| has(&engine, *video)), "seed {seed}: {acknowledged:?}");
        }
    }
}

/// Files that are moved away: nothing is acknowledged until they are back, and then nothing was lost.
#[test]
fn files_that_come_back_are_written_again() {
    let folder = Folder::new();
    let engine = open(&folder.link()).unwrap();
    engine.refresh();
    write(&engine, 1).unwrap();
    let files =
        [folder.real(), folder.link(), folder.log(), folder.file("manifest-"), folder.file("generation-")];
    for (path, next) in files.iter().zip(2..) {
        let context = path.display().to_string();
        let away = folder.root.path().join("away");
        fs::rename(path, &away).unwrap();
        assert_refused(&engine, &context);
        assert!(matches!(&engine.refresh()[..], [Refresh::Detached { generation: 1, .. }]), "{context}");
        assert!(engine.refresh().is_empty(), "it is reported once");
        assert_refused(&engine, &context);
        assert!(engine.status("").unwrap().refused.is_some());
        assert!(answers(&engine) && has(&engine, 1), "{context}");
        fs::rename(&away, path).unwrap();
        write(&engine, next).unwrap();
        assert!(matches!(&engine.refresh()[..], [Refresh::Opened { generation: 1, .. }]), "{context}");
        assert!(engine.refresh().is_empty());
        assert_eq!(
            (engine.status("").unwrap().refused, engine.readiness("").unwrap()),
            (None, Readiness::Ready)
        );
    }
    drop(engine);
    let engine = open(&folder.link()).unwrap();
    assert!((1..7).all(|video| has(&engine, video)));
}

/// The new folder has a smaller manifest and generation number than the old one.
#[test]
fn a_folder_that_was_built_anew_is_taken_although_its_numbers_are_smaller() {
    let folder = Folder::new();
    let mut old = TestIndex::new(VIDEOS);
    (0..3).for_each(|_| _ = old.publish(VIDEOS));
    let engine = open(&old.dir()).unwrap();
    engine.refresh();
    assert_eq!(engine.status("").unwrap().generation, 4);
    fs::remove_dir_all(old.dir()).unwrap();
    assert!(matches!(&engine.refresh()[..], [Refresh::Detached { generation: 4, .. }]));
    copy_folder(&folder.index.dir(), &old.dir());
    let news = engine.refresh();
    assert!(
        matches!(&news[..], [Refresh::Opened { generation: 1, .. }, Refresh::Checked { .. }]),
        "{news:?}"
    );
    let status = engine.status("").unwrap();
    assert_eq!((status.generation, status.manifest, status.live.writable), (1, 1, true));
}

#[test]
fn what_replaces_a_folder_is_not_taken_if_it_cannot_be_served() {
    let folder = Folder::new();
    let engine = open(&folder.link()).unwrap();
    engine.refresh();
    write(&engine, 1).unwrap();
    fs::remove_dir_all(folder.real()).unwrap();
    copy_folder(&folder.index.dir(), &folder.real());
    crate::harness::damage(&folder.file("generation-"));
    for expected in [1, 0, 0] {
        assert_eq!(engine.refresh().len(), expected);
        assert_refused(&engine, "damaged");
        let status = engine.status("").unwrap();
        assert!(status.refused.unwrap().contains("is damaged"));
        assert!(answers(&engine) && has(&engine, 1));
    }
    fs::copy(folder.index.generation_path(1), folder.file("generation-")).unwrap();
    assert!(matches!(&engine.refresh()[..], [Refresh::Opened { .. }, Refresh::Checked { .. }]));
    write(&engine, 2).unwrap();
}

/// An older log cannot be the one of a generation that contains later writes.
#[test]
fn a_log_that_lacks_writes_of_the_generation_is_not_taken() {
    let folder = Folder::new();
    let engine = open(&folder.link()).unwrap();
    engine.refresh();
    write(&engine, 1).unwrap();
    let backup = folder.root.path().join("backup");
    fs::copy(folder.log(), &backup).unwrap();
    (2..5).for_each(|video| _ = write(&engine, video).unwrap());
    engine.start_rebuild("").unwrap();
    while engine.status("").unwrap().live.rebuild.state.is_underway() {
        std::thread::yield_now();
    }
    assert_eq!(engine.status("").unwrap().generation, 2);
    fs::remove_file(folder.real().join("generation-00000001.index")).unwrap();
    fs::rename(backup, folder.log()).unwrap();
    assert_refused(&engine, "an older log");
    engine.refresh();
    assert_refused(&engine, "an older log");
    let refused = engine.status("").unwrap().refused.unwrap();
    assert!(refused.contains("expected a log position of at most 1"), "{refused}");
    assert!((1..5).all(|video| has(&engine, video)));
}
