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

use crate::harness::{DIM, TestIndex, video_id};
use crate::live::engine::{request, upsert};

const VIDEOS: usize = 30;

fn open(dir: &Path) -> Result<Engine, EngineError> {
    let rebuild = RebuildOptions { delta_share: 0.0, deleted_share: 0.0, ..RebuildOptions::default() };
    let indexes = vec![("videos".to_owned(), dir.to_owned())];
    let options =
        EngineOptions { indexes, threads: 1, is_writable: true, rebuild, ..EngineOptions::default() };
    Engine::open(options)
}

fn write(engine: &Engine, video: u64) -> Result<u64, EngineError> {
    let mutation = Mutation::Upsert(upsert(video, [1.0; DIM], "new", true));
    engine.write("", vec![mutation], WriteMode::AllOrNothing).map(|written| written.sequence)
}

fn assert_refused(engine: &Engine, context: &str) {
    let error = write(engine, 999).expect_err(context);
    assert!(
        matches!(error, EngineError::ReadOnly { .. } | EngineError::OutOfService { .. }),
        "{context}: {error}"
    );
    let live = engine.status("").unwrap().live;
    assert!(!live.writable && live.read_only_reason.is_some(), "{context}: {live:?}");
    assert_ne!(engine.readiness("").unwrap(), Readiness::Ready, "{context}");
}

fn has(engine: &Engine, video: u64) -> bool {
    let found = engine.get("", &[VideoId(video)], &ReturnAttributes::None, false).unwrap();
    matches!(found[0], Lookup::Found(_))
}

fn answers(engine: &Engine) -> bool {
    engine.search(&request([1.0; DIM], 5, Effort::Exact), &Budget::default()).is_ok()
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// A folder behind a link.
struct Folder {
    root: TempDir,
    index: TestIndex,
    number: u32,
}

#[derive(Clone, Copy, Debug)]
enum Change {
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
    fn new() -> Self {
        let folder = Self { root: tempfile::tempdir().unwrap(), index: TestIndex::new(VIDEOS), number: 0 };
        copy_folder(&folder.index.dir(), &folder.real());
        symlink(folder.real(), folder.link()).unwrap();
        folder
    }

    fn link(&self) -> PathBuf {
        self.root.path().join("live")
    }

    fn real(&self) -> PathBuf {
        self.root.path().join(format!("folder-{}", self.number))
    }

    fn log(&self) -> PathBuf {
        self.real().join("mutations.redb")
    }

    /// The only file with this prefix.
    fn file(&self, prefix: &str) -> PathBuf {
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
    fn change(&mut self, change: Change, write: impl FnOnce()) -> (bool, bool) {
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

#[test]
fn of_two_servers_one_writes_before_and_after_the_folder_is_replaced() {
    let mut folder = Folder::new();
    let first = open(&folder.link()).unwrap();
    first.refresh();
    write(&first, 1).unwrap();
    folder.change(Change::Anew, || ());
    let second = open(&folder.link()).unwrap();
    second.refresh();
    // The first has not looked yet.
    write(&second, 2).unwrap();
    assert_refused(&first, "not its folder");
    assert!(matches!(&first.refresh()[..], [Refresh::Withdrawn { .. }]));
    assert_refused(&first, "the log of another server");
    assert!(!answers(&first), "it does not know what is taken down");
    let problem = first.activate("", 1).unwrap_err();
    assert!(matches!(problem, EngineError::ReadOnly { .. } | EngineError::OutOfService { .. }), "{problem}");
    write(&second, 3).unwrap();
    drop(second);
    let news = first.refresh();
    assert!(matches!(&news[..], [Refresh::Opened { .. }, Refresh::Checked { .. }]), "{news:?}");
    assert!(has(&first, 2) && has(&first, 3) && !has(&first, 1));
    assert_eq!(first.readiness("").unwrap(), Readiness::Ready);
    write(&first, 4).unwrap();
    assert!(open(&folder.link()).unwrap_err().to_string().contains("in use"));
}

/// Two servers start before anything is written, and the one that writes ends.
#[test]
fn a_server_that_stepped_back_takes_over_when_the_log_is_free() {
    let folder = Folder::new();
    let (first, second) = (open(&folder.link()).unwrap(), open(&folder.link()).unwrap());
    [&first, &second].iter().for_each(|engine| drop(engine.refresh()));
    let takedown = Mutation::Takedown(VideoId(video_id(3)));
    first.write("", vec![takedown], WriteMode::AllOrNothing).unwrap();
    assert_refused(&second, "before it has looked");
    assert!(matches!(&second.refresh()[..], [Refresh::Withdrawn { .. }]));
    let status = second.status("").unwrap();
    assert_eq!((status.serving, status.live.writable), (false, false));
    assert!(second.activate("", 1).is_err() && second.activate_forced("", 1).is_err());
    drop(first);
    let news = second.refresh();
    assert!(matches!(&news[..], [Refresh::Opened { .. }, Refresh::Checked { .. }]), "{news:?}");
    let found = second.get("", &[VideoId(video_id(3))], &ReturnAttributes::None, false).unwrap();
    assert!(matches!(found[0], Lookup::TakenDown(_)));
    assert_eq!(write(&second, 1).unwrap(), 2);
}

/// The first of two servers writes and ends before the second has looked.
#[test]
fn a_log_that_another_server_left_is_read_before_it_is_written() {
    let folder = Folder::new();
    let (first, second) = (open(&folder.link()).unwrap(), open(&folder.link()).unwrap());
    [&first, &second].iter().for_each(|engine| drop(engine.refresh()));
    write(&first, 1).unwrap();
    drop(first);
    assert_refused(&second, "entries that it has not read");
    second.refresh();
    assert!(has(&second, 1));
    assert_eq!(write(&second, 2).unwrap(), 2);
}

fn of_two(good: &Path, bad: &Path) -> Engine {
    let indexes = vec![("bad".to_owned(), bad.to_owned()), ("good".to_owned(), good.to_owned())];
    let options = EngineOptions { indexes, threads: 1, is_writable: true, ..EngineOptions::default() };
    Engine::open(options).unwrap()
}

/// Makes a folder one that does not open.
type Spoil = fn(&Folder);

/// One index that does not open does not stop the others, and serves once it opens.
#[test]
fn an_index_that_does_not_open_is_served_once_it_is_mended() {
    let good = TestIndex::new(VIDEOS);
    let spoil: [(&str, Spoil); 5] = [
        ("no folder", |folder| fs::rename(folder.real(), folder.root.path().join("away")).unwrap()),
        ("no manifest", |folder| fs::remove_file(folder.file("manifest-")).unwrap()),
        ("no generation", |folder| fs::remove_file(folder.file("generation-")).unwrap()),
        ("a file that is no generation", |folder| fs::write(folder.file("generation-"), "nonsense").unwrap()),
        ("a log that is none", |folder| fs::write(folder.log(), "nonsense").unwrap()),
    ];
    for (name, spoil) in spoil {
        let folder = Folder::new();
        spoil(&folder);
        let engine = of_two(&good.dir(), &folder.link());
        let of = |index: &str| {
            let query = request([1.0; DIM], 5, Effort::Exact);
            engine.search(&shortlist::SearchRequest { index: index.to_owned(), ..query }, &Budget::default())
        };
        let refused = |error: EngineError| matches!(error, EngineError::OutOfService { .. });
        for _ in 0..2 {
            assert_eq!(of("good").unwrap().candidates.len(), 5);
            assert!(refused(of("bad").unwrap_err()) && refused(engine.status("bad").unwrap_err()), "{name}");
            assert!(matches!(engine.readiness("bad").unwrap(), Readiness::NotYet(_)));
            let news = engine.refresh();
            assert!(!news.iter().any(|news| matches!(news, Refresh::Unopened { .. })), "{name}: it is known");
        }
        let _ = fs::remove_dir_all(folder.real());
        copy_folder(&folder.index.dir(), &folder.real());
        let news = engine.refresh();
        let is_opened = |news: &Refresh| matches!(news, Refresh::Opened { index, .. } if index == "bad");
        assert!(news.iter().any(is_opened), "{name}: {news:?}");
        assert_eq!(of("bad").unwrap().candidates.len(), 5);
        let upserted = Mutation::Upsert(upsert(1, [1.0; DIM], "new", true));
        engine.write("bad", vec![upserted], WriteMode::AllOrNothing).unwrap();
    }
    let nothing = good.dir().join("nothing");
    assert!(matches!(open(&nothing), Err(EngineError::Store(_))), "the only index has to open");
}

/// A folder that cannot be written, by a mount or by permissions.
struct Sealed<'a>(&'a Path);

impl<'a> Sealed<'a> {
    fn new(dir: &'a Path) -> Self {
        let mount = |arguments: &[&str]| {
            let done = std::process::Command::new("mount").args(arguments).arg(dir).status();
            done.is_ok_and(|status| status.success())
        };
        let is_mounted = rustix::process::geteuid().is_root()
            && mount(&["--bind", dir.to_str().unwrap()])
            && mount(&["-o", "remount,ro,bind"]);
        if !is_mounted {
            set_writable(dir, false);
        }
        Self(dir)
    }
}

impl Drop for Sealed<'_> {
    fn drop(&mut self) {
        let unmounted = std::process::Command::new("umount").arg("-l").arg(self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            set_writable(self.0, true);
        }
    }
}

fn set_writable(dir: &Path, is_writable: bool) {
    use std::os::unix::fs::PermissionsExt;
    let mode = |bits: u32| fs::Permissions::from_mode(if is_writable { bits | 0o200 } else { bits });
    for entry in fs::read_dir(dir).unwrap() {
        fs::set_permissions(entry.unwrap().path(), mode(0o444)).unwrap();
    }
    fs::set_permissions(dir, mode(0o555)).unwrap();
}

#[test]
fn a_folder_that_cannot_be_written_is_served_with_its_log() {
    let folder = Folder::new();
    {
        let engine = open(&folder.real()).unwrap();
        write(&engine, 1).unwrap();
        let takedown = Mutation::Takedown(VideoId(video_id(3)));
        engine.write("", vec![takedown], WriteMode::AllOrNothing).unwrap();
    }
    for has_log in [true, false] {
        if !has_log {
            fs::remove_file(folder.log()).unwrap();
        }
        let real = folder.real();
        let sealed = Sealed::new(&real);
        if fs::File::create(real.join("probe")).is_ok() {
            println!("this user may write everywhere");
            return;
        }
        let engine = open(&real).unwrap();
        engine.refresh();
        assert!(answers(&engine));
        assert_eq!(has(&engine, 1), has_log);
        assert_eq!(has(&engine, video_id(3)), !has_log);
        assert_refused(&engine, "a folder that cannot be written");
        drop(sealed);
        engine.refresh();
        assert_eq!(has(&engine, 1), has_log);
        write(&engine, 2).unwrap();
        assert_eq!(engine.readiness("").unwrap(), Readiness::Ready);
    }
}
