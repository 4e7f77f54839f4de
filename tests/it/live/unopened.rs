//! Folders that do not open, or cannot be written: the other indexes serve, and so does what can be read.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;

use shortlist::base::id::VideoId;
use shortlist::engine::{
    Budget, Effort, Engine, EngineError, EngineOptions, Lookup, Readiness, Refresh, ReturnAttributes,
    WriteMode,
};
use shortlist::live::Mutation;
use shortlist::service::proto::GetStatusRequest;
use shortlist::service::proto::admin_client::AdminClient;

use super::replaced::{Folder, VIDEOS, answers, assert_refused, copy_folder, has, open, write};
use crate::harness::process::{Served, shortlist};
use crate::harness::{DIM, Setup, TestIndex, TestServer, channel, eventually, video_id};
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

/// The log is a link to a disk that is not mounted: the index must not answer without it, nor take writes.
#[test]
fn a_log_that_cannot_be_reached_is_waited_for() {
    let good = TestIndex::new(VIDEOS);
    let folder = Folder::new();
    let (disk, away) = (folder.root.path().join("disk"), folder.root.path().join("away"));
    fs::create_dir(&disk).unwrap();
    {
        let engine = open(&folder.real()).unwrap();
        let takedown = Mutation::Takedown(VideoId(video_id(3)));
        engine.write("", vec![takedown], WriteMode::AllOrNothing).unwrap();
    }
    fs::rename(folder.log(), disk.join("mutations.redb")).unwrap();
    symlink(disk.join("mutations.redb"), folder.log()).unwrap();
    fs::rename(&disk, &away).unwrap();
    let error = open(&folder.real()).unwrap_err().to_string();
    assert!(error.contains("mutations.redb: a link that cannot be followed"), "{error}");
    let engine = of_two(&good.dir(), &folder.link());
    engine.refresh();
    assert!(matches!(engine.status("bad"), Err(EngineError::OutOfService { .. })));
    fs::rename(&away, &disk).unwrap();
    engine.refresh();
    let found = engine.get("bad", &[VideoId(video_id(3))], &ReturnAttributes::None, false).unwrap();
    assert!(matches!(found[0], Lookup::TakenDown(_)));
    assert!(engine.status("bad").unwrap().live.writable);
}

#[test]
fn the_first_write_does_not_follow_a_link_that_leads_nowhere() {
    let folder = Folder::new();
    let engine = open(&folder.link()).unwrap();
    engine.refresh();
    for target in ["nowhere", "mutations.redb"] {
        symlink(target, folder.log()).unwrap();
        assert_refused(&engine, target);
        engine.refresh();
        assert_refused(&engine, target);
        let reason = engine.status("").unwrap().live.read_only_reason.unwrap();
        assert!(reason.contains("mutations.redb: a link that cannot be followed"), "{reason}");
        assert!(answers(&engine));
        fs::remove_file(folder.log()).unwrap();
    }
    engine.refresh();
    write(&engine, 1).unwrap();
    assert_eq!(engine.readiness("").unwrap(), Readiness::Ready);
}

/// The generation cannot be opened when it is published, and can be later.
#[test]
fn a_publication_is_tried_again_after_an_error_of_the_operating_system() {
    let mut index = TestIndex::new(VIDEOS);
    let engine = open(&index.dir()).unwrap();
    engine.refresh();
    index.publish(VIDEOS);
    index.publish(VIDEOS);
    let away = index.dir().join("away");
    fs::rename(index.generation_path(3), &away).unwrap();
    let news = engine.refresh();
    let is_expected = |news: &[Refresh]| {
        matches!(news, [Refresh::Refused { manifest: 3, .. }, Refresh::Swapped { from: 1, to: 2, .. }])
    };
    assert!(is_expected(&news), "{news:?}");
    assert!(engine.refresh().is_empty(), "it is reported once");
    assert!(engine.status("").unwrap().refused.is_some());
    fs::rename(&away, index.generation_path(3)).unwrap();
    let news = engine.refresh();
    assert!(matches!(&news[..], [Refresh::Swapped { from: 2, to: 3, .. }]), "{news:?}");
    assert_eq!(engine.status("").unwrap().refused, None);
}

/// A generation that the server may not read. Allowing it changes neither the contents of the file nor their time.
#[tokio::test]
async fn a_generation_that_could_not_be_read_is_served_once_it_can() {
    /// Any user without special rights.
    const NOBODY: u32 = 65534;
    let (good, bad) = (TestIndex::new(VIDEOS), TestIndex::new(VIDEOS));
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    set(&bad.generation_path(1), 0o000);
    let mut command = shortlist();
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    for (name, index) in [("bad", &bad), ("good", &good)] {
        set(index.dir().parent().unwrap(), 0o755);
        command.arg("--index").arg(format!("{name}={}", index.dir().display()));
    }
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY);
    }
    let served = Served::start(command);
    let mut admin = AdminClient::new(channel(served.address).await);
    let mut is_serving = async || {
        let status = admin.get_status(GetStatusRequest { index: "bad".to_owned() }).await.unwrap();
        status.into_inner().indexes[0].serving
    };
    assert!(!is_serving().await);
    set(&bad.generation_path(1), 0o444);
    eventually("a generation that can be read", is_serving).await;
}

/// The folder of one index cannot be listed. The others have a state, and so has this one.
#[tokio::test]
async fn an_index_has_a_state_whatever_becomes_of_its_folder() {
    let (good, bad) = (TestIndex::new(VIDEOS), TestIndex::new(VIDEOS));
    let server = TestServer::start(&[("bad", &bad), ("good", &good)], Setup::default()).await;
    server.until("shortlist_writable{index=\"bad\"}", 1.0).await;
    let away = bad.dir().with_extension("away");
    fs::rename(bad.dir(), &away).unwrap();
    fs::write(bad.dir(), "no folder").unwrap();
    let mut admin = server.admin().await;
    let status = admin.get_status(GetStatusRequest::default()).await.unwrap().into_inner();
    let [of_bad, of_good] = &status.indexes[..] else { panic!("{status:?}") };
    assert!(of_bad.available_generations.is_empty() && !of_bad.writable && of_bad.serving, "{of_bad:?}");
    assert!(of_good.available_generations == [1] && of_good.writable, "{of_good:?}");
    server.until("shortlist_writable{index=\"bad\"}", 0.0).await;
    fs::remove_file(bad.dir()).unwrap();
    fs::rename(&away, bad.dir()).unwrap();
    server.until("shortlist_writable{index=\"bad\"}", 1.0).await;
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
