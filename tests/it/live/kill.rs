//! A real server keeps every acknowledged write, even if it is killed at any moment or its disk fails.
//!
//! `SHORTLIST_KILLS` sets the number of kills. A failing run prints its seed; `SHORTLIST_KILL_SEED` sets it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{ChildStderr, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use shortlist::index::IndexStore;
use shortlist::live::{MutationLog, RedbLog};
use shortlist::service::proto::admin_client::AdminClient;
use shortlist::service::proto::catalog_client::CatalogClient;
use shortlist::service::proto::lookup::State;
use shortlist::service::proto::retrieval_client::RetrievalClient;
use shortlist::service::proto::{
    AttributeValue, DeleteRequest, GetRequest, GetStatusRequest, RebuildRequest, RestoreRequest,
    TakedownRequest, UpsertRequest, Vector, Video, attribute_value, rebuild_status,
};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::process::{Served, serve};
use crate::harness::{DIM, TestIndex, channel, eventually, http1_get, request, video_id};

const KILLS: u64 = 50;
/// Bytes of a title.
const TITLE_BYTES: usize = 30_000;
const WRITERS: u64 = 4;
/// Videos per writer; writers share none.
const VIDEOS: u64 = 8;
/// Rounds between two batch builds, which are published during writes, and between two rebuilds.
const ROUNDS_PER_BUILD: u64 = 7;
const ROUNDS_PER_REBUILD: u64 = 3;
/// High enough that no generation is removed and the log is not trimmed.
const ALL_GENERATIONS: &str = "100000";

/// A possible state of a video: its last upserted version, `None` if deleted, and whether it is taken down.
type Fate = (Option<u32>, bool);

#[derive(Clone, Copy, Debug)]
enum Write {
    Upsert(u32),
    Delete,
    Takedown,
    Restore,
}

impl Write {
    fn of((version, taken_down): Fate, write: Self) -> Fate {
        match write {
            Write::Upsert(version) => (Some(version), taken_down),
            Write::Delete => (None, taken_down),
            Write::Takedown => (version, true),
            Write::Restore => (version, false),
        }
    }
}

/// The possible states of each video; more than one after an unanswered write.
#[derive(Debug, Default)]
struct Ledger {
    fates: BTreeMap<u64, BTreeSet<Fate>>,
    acknowledged: u64,
}

impl Ledger {
    fn fates(&mut self, video: u64) -> &mut BTreeSet<Fate> {
        self.fates.entry(video).or_insert_with(|| BTreeSet::from([(None, false)]))
    }

    fn written(&mut self, video: u64, write: Write, is_acknowledged: bool) {
        let fates = self.fates(video);
        let after: BTreeSet<Fate> = fates.iter().map(|fate| Write::of(*fate, write)).collect();
        if is_acknowledged {
            *fates = after;
        } else {
            fates.extend(after);
        }
        self.acknowledged += u64::from(is_acknowledged);
    }

    /// Keeps the states consistent with the answer of the server; at least one must remain.
    fn observed(&mut self, video: u64, state: State, version: Option<u32>) {
        let fates = self.fates(video);
        let before = fates.clone();
        fates.retain(|(known, taken_down)| match state {
            State::TakenDown => *taken_down,
            State::Unknown => !taken_down && known.is_none(),
            State::Found => !taken_down && *known == version,
            State::Unspecified => false,
        });
        assert!(!fates.is_empty(), "video {video} is {state:?} {version:?}, expected one of {before:?}");
    }
}

async fn send(client: &mut CatalogClient<Channel>, video: u64, write: Write) -> Result<(), Status> {
    let video_ids = vec![video];
    let index = String::new();
    match write {
        Write::Upsert(version) => {
            let mut values = vec![0.0; DIM];
            values[0] = version as f32;
            let vector = Some(Vector { values, packed: None });
            // Long enough that the log is compacted every hundred writes or so.
            let title = format!("{version:>0$}", TITLE_BYTES);
            let title = AttributeValue { value: Some(attribute_value::Value::Keyword(title)) };
            let attributes = [("title".to_owned(), title)].into();
            let videos = vec![Video { video_id: video, vector, attributes, ..Video::default() }];
            client.upsert(UpsertRequest { videos, ..UpsertRequest::default() }).await.map(drop)
        }
        Write::Delete => {
            client.delete(DeleteRequest { index, video_ids, ..DeleteRequest::default() }).await.map(drop)
        }
        Write::Takedown => client
            .takedown(TakedownRequest { index, video_ids, ..TakedownRequest::default() })
            .await
            .map(drop),
        Write::Restore => {
            client.restore(RestoreRequest { index, video_ids, ..RestoreRequest::default() }).await.map(drop)
        }
    }
}

/// Writes until the server is killed.
async fn write(channel: Channel, writer: u64, seed: u64, mut ledger: Ledger) -> Ledger {
    let mut client = CatalogClient::new(channel);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    loop {
        let video = 1 + writer * VIDEOS + random.random_range(0..VIDEOS);
        let write = match random.random_range(0..10) {
            0..6 => Write::Upsert(random.random_range(1..1 << 20)),
            6 | 7 => Write::Delete,
            8 => Write::Takedown,
            _ => Write::Restore,
        };
        let written = send(&mut client, video, write).await;
        ledger.written(video, write, written.is_ok());
        if written.is_err() {
            return ledger;
        }
    }
}

async fn look_up(client: &mut CatalogClient<Channel>, ids: Vec<u64>) -> Vec<(u64, State, Option<u32>)> {
    let request = GetRequest { video_ids: ids, return_vectors: true, ..GetRequest::default() };
    let results = client.get(request).await.unwrap().into_inner().results;
    let version = |video: &Video| video.vector.as_ref().map(|vector| first(vector) as u32);
    let of = |result: shortlist::service::proto::Lookup| {
        (result.video_id, result.state(), result.video.as_ref().and_then(version))
    };
    results.into_iter().map(of).collect()
}

fn first(vector: &Vector) -> f32 {
    match &vector.packed {
        Some(packed) => f32::from_le_bytes(packed.data[..4].try_into().unwrap()),
        None => vector.values[0],
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_keeps_what_it_acknowledged() {
    let kills = setting("SHORTLIST_KILLS").unwrap_or(KILLS);
    let seed = setting("SHORTLIST_KILL_SEED").unwrap_or_else(rand::random);
    println!("SHORTLIST_KILL_SEED={seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut index = TestIndex::new(40);
    let mut ledgers: Vec<Ledger> = (0..WRITERS).map(|_| Ledger::default()).collect();
    // Present in every batch file.
    let taken_down = video_id(3);
    let mut is_taken_down = false;
    let mut is_compacted = false;
    for round in 0..kills {
        // A batch build without a log sequence would lose trimmed writes, so the second half has no batch builds.
        let is_trimmed = round >= kills / 2;
        let command = || {
            let mut command = serve(&index);
            command.env("SHORTLIST_SERVE_REBUILD__KEEP_WRITES", "0");
            if !is_trimmed {
                command.env("SHORTLIST_SERVE_REBUILD__KEEP_GENERATIONS", ALL_GENERATIONS);
            }
            command
        };
        let mut served = Served::start(command());
        let mut client = CatalogClient::new(channel(served.address).await);
        for (writer, ledger) in (0..).zip(&mut ledgers) {
            let ids = (1 + writer * VIDEOS..1 + (writer + 1) * VIDEOS).collect();
            for (video, state, version) in look_up(&mut client, ids).await {
                ledger.observed(video, state, version);
            }
        }
        if !is_taken_down {
            send(&mut client, taken_down, Write::Takedown).await.unwrap();
            is_taken_down = true;
        }
        assert_eq!(look_up(&mut client, vec![taken_down]).await[0].1, State::TakenDown);
        let mut writers = Vec::new();
        for (writer, ledger) in (0..).zip(ledgers.drain(..)) {
            writers.push(tokio::spawn(write(channel(served.address).await, writer, random.random(), ledger)));
        }
        let is_built = round % ROUNDS_PER_BUILD == 1 && !is_trimmed;
        // Kills hit the build, the swap, or the cleanup after it.
        if round % ROUNDS_PER_REBUILD == 0 {
            let mut admin = AdminClient::new(channel(served.address).await);
            admin.rebuild(RebuildRequest::default()).await.unwrap();
        }
        let starting = random.random_bool(0.2).then(&command);
        if is_built {
            index.publish(40);
        }
        // The server looks for a publication once a second; some kills hit the swap.
        let longest = if is_built { 1_400 } else { 150 };
        tokio::time::sleep(Duration::from_millis(random.random_range(0..longest))).await;
        served.process.kill().unwrap();
        served.process.wait().unwrap();
        for writer in writers {
            ledgers.push(writer.await.unwrap());
        }
        if round + 1 == kills / 2 {
            // Nothing was trimmed so far.
            let log = RedbLog::open(index.dir().join("mutations.redb")).unwrap();
            assert_eq!(log.trimmed_to(), 0);
            println!("{:?} after {} writes", log.size(), log.last_sequence());
            is_compacted = log.size().entries < log.last_sequence();
        }
        // Some servers are killed again during startup.
        if let Some(mut starting) = starting {
            let mut starting = starting.spawn().unwrap();
            tokio::time::sleep(Duration::from_millis(random.random_range(0..30))).await;
            starting.kill().unwrap();
            starting.wait().unwrap();
        }
    }
    let acknowledged: u64 = ledgers.iter().map(|ledger| ledger.acknowledged).sum();
    println!("{acknowledged} writes acknowledged over {kills} kills");
    assert!(acknowledged > kills, "{acknowledged}");
    assert!(is_compacted || acknowledged < 1_000, "superseded entries stay in the log");
    // Leftover files of killed servers are removed once a server runs long enough to swap.
    let served = Served::start({
        let mut command = serve(&index);
        command.env("SHORTLIST_SERVE_REBUILD__KEEP_WRITES", "0");
        command
    });
    let mut admin = AdminClient::new(channel(served.address).await);
    let store = IndexStore::new(index.dir());
    eventually("old generations to be removed", async || {
        admin.rebuild(RebuildRequest::default()).await.unwrap();
        store.generations().unwrap().len() <= 4
    })
    .await;
}

/// Sets the limit on the size of the files that a process writes.
fn limit_files(served: &Served, bytes: Option<u64>) {
    let pid = Pid::from_child(&served.process);
    let maximum = getrlimit(Resource::Fsize).maximum;
    prlimit(Some(pid), Resource::Fsize, Rlimit { current: bytes, maximum }).unwrap();
}

/// A limit on file size simulates a full disk: writes beyond it fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_disk_fails_is_read_only_until_it_has_space_and_goes_on_answering() {
    const LIMIT_KIB: u32 = 4096;
    let index = TestIndex::new(40);
    // The inherited trap makes the write fail instead of SIGXFSZ ending the process.
    let limited = format!("trap '' XFSZ; ulimit -S -f {LIMIT_KIB}; exec \"$0\" \"$@\"");
    let bare = serve(&index);
    let mut command = std::process::Command::new("bash");
    command.args(["-c", &limited]).arg(bare.get_program()).args(bare.get_args());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let served = Served::start(command);
    let mut client = CatalogClient::new(channel(served.address).await);
    let mut acknowledged = 0;
    let refused = loop {
        let video = |video_id: u64| Video {
            video_id,
            vector: Some(Vector { values: vec![video_id as f32; DIM], packed: None }),
            ..Video::default()
        };
        let videos = (acknowledged..acknowledged + 500).map(|at| video(1 + at)).collect();
        match client.upsert(UpsertRequest { videos, ..UpsertRequest::default() }).await {
            Ok(_) => acknowledged += 500,
            Err(status) => break status,
        }
        assert!(acknowledged < 1_000_000, "the limit was never reached");
    };
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("read-only"), "{refused}");
    // The log is opened again, and its file may have free pages.
    limit_files(&served, Some(0));
    assert!(send(&mut client, 1, Write::Delete).await.is_err(), "nothing is written any more");
    let mut admin = AdminClient::new(channel(served.address).await);
    let status = admin.get_status(GetStatusRequest::default()).await.unwrap().into_inner().indexes.remove(0);
    assert!(!status.writable && !status.read_only_reason.is_empty(), "{status:?}");
    let health = http1_get(served.address, "/healthz").await;
    assert!(
        health.starts_with("HTTP/1.1 200") && health.contains("default: serving, read-only: "),
        "{health}"
    );
    let mut health = HealthClient::new(channel(served.address).await);
    let mut state = async |service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        health.check(request).await.unwrap().into_inner().status()
    };
    eventually("no word of it", async || state("shortlist.v1.Catalog").await == ServingStatus::NotServing)
        .await;
    for service in ["", "default", "shortlist.v1.Retrieval"] {
        assert_eq!(state(service).await, ServingStatus::Serving, "{service:?}");
    }
    let mut retrieval = RetrievalClient::new(channel(served.address).await);
    let answer = retrieval.search(request(&[1.0; DIM], 5)).await.unwrap().into_inner();
    assert_eq!(answer.candidates[0].video_id, acknowledged, "the last that was acknowledged scores best");
    limit_files(&served, None);
    let last = acknowledged;
    eventually("a write", async || send(&mut client, last, Write::Upsert(last as u32)).await.is_ok()).await;
    assert_eq!(state("shortlist.v1.Retrieval").await, ServingStatus::Serving);
    drop(served);
    let served = Served::start(serve(&index));
    let mut client = CatalogClient::new(channel(served.address).await);
    for first in (1..=acknowledged).step_by(1_000) {
        let ids: Vec<u64> = (first..=acknowledged.min(first + 999)).collect();
        for (video, state, version) in look_up(&mut client, ids).await {
            assert_eq!((state, version), (State::Found, Some(video as u32)), "video {video}");
        }
    }
    send(&mut client, 1, Write::Delete).await.unwrap();
}

/// Writes until the server is killed or refuses to, and returns what was acknowledged after `replaced` was set.
async fn write_new(
    channel: Channel,
    first: u64,
    replaced: Arc<AtomicBool>,
    done: Arc<AtomicBool>,
) -> Vec<u64> {
    let mut client = CatalogClient::new(channel);
    let mut acknowledged = Vec::new();
    for video in (first..).step_by(WRITERS as usize) {
        if done.load(Ordering::Acquire) {
            break;
        }
        // A write that began before may have been acknowledged before.
        let is_new = replaced.load(Ordering::Acquire);
        match send(&mut client, video, Write::Upsert(1)).await {
            Ok(()) if is_new => acknowledged.push(video),
            Ok(()) => {}
            Err(status) if matches!(status.code(), Code::FailedPrecondition | Code::Unavailable) => {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Err(status) => panic!("{status}"),
        }
    }
    acknowledged
}

/// Copies the folder of an index, as it is without a log, to `target`.
fn copy_without_log(index: &TestIndex, target: &Path) {
    std::fs::create_dir(target).unwrap();
    for entry in std::fs::read_dir(index.dir()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension != "redb") {
            std::fs::copy(&path, target.join(path.file_name().unwrap())).unwrap();
        }
    }
}

/// The folder is removed, or exchanged by a rename, while four clients write. The server is killed afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_folder_is_replaced_keeps_what_it_acknowledges_from_then_on() {
    for round in 0..6 {
        let index = TestIndex::new(40);
        let spare = tempfile::tempdir_in(index.dir().parent().unwrap()).unwrap();
        let (fresh, away) = (spare.path().join("fresh"), spare.path().join("away"));
        copy_without_log(&index, &fresh);
        let mut command = serve(&index);
        command.env("SHORTLIST_SERVE_POLL_INTERVAL", "20ms");
        let mut served = Served::start(command);
        let (replaced, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let channel = channel(served.address).await;
            writers.push(tokio::spawn(write_new(
                channel,
                1 + writer,
                Arc::clone(&replaced),
                Arc::clone(&done),
            )));
        }
        let mut client = CatalogClient::new(channel(served.address).await);
        eventually("the first writes", async || {
            look_up(&mut client, vec![WRITERS * 5]).await[0].1 == State::Found
        })
        .await;
        if round % 2 == 0 {
            std::fs::remove_dir_all(index.dir()).unwrap();
        } else {
            std::fs::rename(index.dir(), &away).unwrap();
        }
        std::fs::rename(&fresh, index.dir()).unwrap();
        replaced.store(true, Ordering::Release);
        // A search sees the new folder once its first write is there.
        let mut admin = AdminClient::new(channel(served.address).await);
        eventually("writes to the new folder", async || {
            let status = admin.get_status(GetStatusRequest::default()).await.unwrap().into_inner();
            let status = &status.indexes[0];
            status.writable && status.sequence > 50 && index.dir().join("mutations.redb").exists()
        })
        .await;
        done.store(true, Ordering::Release);
        let mut acknowledged = Vec::new();
        for writer in writers {
            acknowledged.extend(writer.await.unwrap());
        }
        served.process.kill().unwrap();
        served.process.wait().unwrap();
        assert!(!acknowledged.is_empty());
        let served = Served::start(serve(&index));
        let mut client = CatalogClient::new(channel(served.address).await);
        for ids in acknowledged.chunks(1_000) {
            for (video, state, _) in look_up(&mut client, ids.to_vec()).await {
                assert_eq!(state, State::Found, "video {video} of round {round}");
            }
        }
    }
}

/// Whoever reads the log of the server dies, or stops reading: publications, writes and rebuilds go on, and so does the
/// shutdown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_log_reader_dies_or_stops_goes_on() {
    tokio::join!(goes_on_without_reader(true), goes_on_without_reader(false));
}

async fn goes_on_without_reader(dies: bool) {
    let mut index = TestIndex::new(40);
    let mut command = serve(&index);
    command.env("SHORTLIST_SERVE_POLL_INTERVAL", "20ms").env("SHORTLIST_SERVE_LOG", "debug");
    let mut served = Served::start(command);
    if dies {
        let (unused, _) = std::io::pipe().unwrap();
        drop(std::mem::replace(&mut served.stderr, ChildStderr::from(OwnedFd::from(unused))));
    } else {
        // The server logs more than this.
        rustix::pipe::fcntl_setpipe_size(&served.stderr, 4096).unwrap();
    }
    let mut admin = AdminClient::new(channel(served.address).await);
    let mut client = CatalogClient::new(channel(served.address).await);
    for generation in [2, 4] {
        index.publish(40);
        eventually("the publication", async || {
            let status = admin.get_status(GetStatusRequest::default()).await.unwrap().into_inner();
            status.indexes[0].generation == generation
        })
        .await;
        send(&mut client, generation, Write::Upsert(1)).await.unwrap();
        admin.rebuild(RebuildRequest::default()).await.unwrap();
        eventually("the rebuild", async || {
            let status = admin.get_status(GetStatusRequest::default()).await.unwrap().into_inner();
            let rebuild = status.indexes[0].rebuild.clone().unwrap();
            assert!(!matches!(rebuild.state(), rebuild_status::State::Failed), "{rebuild:?}");
            rebuild.state() == rebuild_status::State::Done
        })
        .await;
    }
    let metrics = http1_get(served.address, "/metrics").await;
    assert!(metrics.contains("shortlist_background_restarts_total{task=\"refresh\"} 0"), "{metrics}");
    served.terminate();
    assert!(served.process.wait().unwrap().success());
}
