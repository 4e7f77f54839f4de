//! Folders that do not open, or cannot be written: the other indexes serve, and so does what can be read.

use std::fs;
use std::path::Path;

use shortlist::base::id::VideoId;
use shortlist::engine::{Budget, Effort, Engine, EngineError, EngineOptions, Readiness, Refresh, WriteMode};
use shortlist::live::Mutation;

use super::replaced::{Folder, VIDEOS, answers, assert_refused, copy_folder, has, open, write};
use crate::harness::{DIM, TestIndex, video_id};
use crate::live::engine::{request, upsert};

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
