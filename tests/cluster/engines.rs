//! Engines and logs on one stream.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use shortlist::base::id::VideoId;
use shortlist::base::partition::Shard;
use shortlist::engine::{Engine, EngineError, EngineOptions, Lookup, RebuildOptions, ReturnAttributes};
use shortlist::live::{LogError, Mutation, StreamLog, StreamOpener, StreamOptions, TakedownRecords};
use shortlist::nats::NatsOptions;
use tempfile::TempDir;

use crate::harness::TestIndex;
use crate::harness::ledger::VIDEOS;
use crate::nats::Brokers;

/// Takedowns in memory, as a bucket keeps them.
#[derive(Debug, Default)]
pub struct Records {
    pub all: Mutex<BTreeMap<(VideoId, u64), bool>>,
    pub is_away: Mutex<bool>,
}

impl TakedownRecords for Records {
    fn record(&self, video: VideoId, sequence: u64, is_down: bool) -> Result<(), String> {
        if *self.is_away.lock() {
            return Err("the bucket cannot be reached".to_owned());
        }
        self.all.lock().insert((video, sequence), is_down);
        Ok(())
    }

    fn all(&self) -> Result<Vec<(VideoId, u64, bool)>, String> {
        if *self.is_away.lock() {
            return Err("the bucket cannot be reached".to_owned());
        }
        let mut last = BTreeMap::new();
        for ((video, sequence), is_down) in &*self.all.lock() {
            last.insert(*video, (*sequence, *is_down));
        }
        Ok(last.into_iter().map(|(video, (sequence, is_down))| (video, sequence, is_down)).collect())
    }
}

/// A cluster of engines on one stream.
pub struct Cluster {
    pub brokers: Brokers,
    pub index: TestIndex,
    pub root: TempDir,
    pub records: Arc<Records>,
}

impl Cluster {
    pub fn new(brokers: usize) -> Option<Self> {
        let brokers = Brokers::start(brokers)?;
        let root = tempfile::tempdir().unwrap();
        Some(Self { brokers, index: TestIndex::new(VIDEOS), root, records: Arc::default() })
    }

    pub fn options(&self, shard: Shard) -> StreamOptions {
        StreamOptions {
            nats: NatsOptions { servers: self.brokers.urls(), ..NatsOptions::default() },
            index: "videos".to_owned(),
            replicas: self.brokers.replicas(),
            shard,
            takedowns: Some(Arc::clone(&self.records) as Arc<dyn TakedownRecords>),
        }
    }

    pub fn dir(&self, name: &str) -> PathBuf {
        let dir = self.root.path().join(name);
        if !dir.exists() {
            fs::create_dir(&dir).unwrap();
            copy_new(&self.index.dir(), &dir);
        }
        dir
    }

    /// Opens a replica with all videos, in a folder of this name.
    pub fn replica(&self, name: &str) -> Result<Engine, EngineError> {
        let opener = StreamOpener::new(self.options(Shard::WHOLE)).unwrap();
        Engine::open(EngineOptions {
            indexes: vec![("videos".to_owned(), self.dir(name))],
            threads: 1,
            is_writable: true,
            shared_logs: [("videos".to_owned(), Arc::new(opener) as _)].into(),
            rebuild: RebuildOptions { keep_writes: 0, ..RebuildOptions::default() },
            ..EngineOptions::default()
        })
    }

    /// Removes entries of the stream.
    pub fn trim(&self, to: u64) {
        StreamOpener::new(self.options(Shard::WHOLE)).unwrap().trim(to).unwrap();
    }

    /// Opens the log of a process without an engine, that received nothing before.
    pub fn log(&self, name: &str, shard: Shard) -> StreamLog {
        self.log_after(name, shard, &[0]).unwrap()
    }

    /// The same, for generations up to these entries.
    pub fn log_after(&self, name: &str, shard: Shard, held: &[u64]) -> Result<StreamLog, LogError> {
        let path = self.root.path().join(name);
        StreamOpener::new(self.options(shard)).unwrap().open_log(&path, held)
    }

    /// Removes one entry of the stream, as no trim does.
    pub fn remove(&self, sequence: u64) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let client = async_nats::connect(&self.brokers.urls()).await.unwrap();
            let stream = async_nats::jetstream::new(client).get_stream("shortlist-videos").await.unwrap();
            assert!(stream.delete_message(sequence).await.unwrap());
        });
    }
}

/// Copies the files that are not there yet.
pub fn copy_new(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if !target.exists() {
            fs::copy(&path, target).unwrap();
        }
    }
}

pub fn until(engine: &Engine, sequence: u64) {
    let began = Instant::now();
    loop {
        let status = engine.status("");
        if status.as_ref().is_ok_and(|status| status.live.sequence >= sequence) {
            return;
        }
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{sequence}: {:?}",
            status.map(|status| status.live)
        );
        engine.refresh();
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until the engine takes no writes for this reason.
pub fn until_read_only(engine: &Engine, expected: &str) {
    let began = Instant::now();
    while !engine.status("").unwrap().live.read_only_reason.is_some_and(|reason| reason.contains(expected)) {
        engine.refresh();
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", engine.status("").unwrap().live);
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn is_down(engine: &Engine, video: VideoId) -> bool {
    let found = engine.get("", &[video], &ReturnAttributes::None, false).unwrap();
    matches!(found[0], Lookup::TakenDown(_))
}

pub fn deletes(count: u64) -> Vec<Mutation> {
    (1..=count).map(|video| Mutation::Delete(VideoId(video))).collect()
}
