//! Who is there: each replica keeps a record of itself in a key-value bucket of JetStream, and routers read all of them.
//!
//! A record is renewed every second and removed at a clean end. Records expire only while others are renewed. If none is, the
//! brokers are unreachable, and the last list stays in use.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use async_nats::jetstream::kv::{Config, Operation, Store};
use async_nats::jetstream::stream::StorageType;
use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};
use tokio_stream::StreamExt as _;

use super::{Nats, NatsOptions, REQUEST};
use crate::base::text::shortened;

/// The interval at which a replica renews its record.
const INTERVAL: Duration = Duration::from_secs(1);
/// The age at which a record is dropped.
const MAX_AGE: Duration = Duration::from_secs(5);
/// How long the removal of a record is waited for.
const LONGEST_END: Duration = Duration::from_millis(500);
/// The pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest record, and the most replicas of an index.
const MAX_BYTES: usize = 4096;
const MOST_REPLICAS: usize = 10_000;
/// How many keys of records that were left out are remembered, so that each is logged once.
const MOST_LEFT_OUT: usize = 1_000;

/// What a replica says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// Its name, unique in the index.
    pub name: String,
    /// Host and port at which routers reach it.
    pub address: String,
    /// Its shard, such as `0/4`.
    pub shard: String,
    /// Whether it should get searches.
    pub is_ready: bool,
    /// The generation that answers.
    #[serde(default)]
    pub generation: u64,
    /// The last entry of the log that it applied.
    #[serde(default)]
    pub sequence: u64,
    /// The last entry of the block of the log of which `digest` is the hash; 0 without one.
    #[serde(default)]
    pub digest_sequence: u64,
    /// See `digest_sequence`.
    #[serde(default)]
    pub digest: u64,
}

/// Keeps the record of one replica.
#[derive(Debug)]
pub struct Announcer {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

/// The replicas of an index that are there.
#[derive(Debug)]
pub struct Watcher {
    replicas: Arc<Mutex<Vec<Replica>>>,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Stop {
    is_set: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Stop {
    fn set(&self) {
        self.is_set.store(true, Ordering::Release);
        let _lock = self.lock.lock();
        self.changed.notify_all();
    }

    fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Acquire)
    }

    /// Waits for `pause` or until this is set.
    fn wait(&self, pause: Duration) {
        let mut lock = self.lock.lock();
        if !self.is_set() {
            self.changed.wait_for(&mut lock, pause);
        }
    }
}

impl Announcer {
    /// Begins to announce the replica that `replica` returns, among those of `index`; nothing while it returns `None`.
    ///
    /// # Errors
    /// The problem, if the options are malformed or there can be no thread.
    pub fn start(
        options: &NatsOptions,
        index: &str,
        brokers: usize,
        replica: impl Fn() -> Option<Replica> + Send + 'static,
    ) -> Result<Self, String> {
        let nats = Nats::open(options)?;
        let stop = Arc::<Stop>::default();
        let (of_thread, index) = (Arc::clone(&stop), index.to_owned());
        let run = move || {
            let mut announced = None;
            let mut problem = None;
            while !of_thread.is_set() {
                let renewed = nats.run(renew(&nats, &index, brokers, replica(), &mut announced));
                let found = renewed.err();
                if let Some(found) = found.as_ref().filter(|found| problem.as_ref() != Some(*found)) {
                    tracing::warn!(index, problem = found, "cannot announce this server");
                }
                problem = found;
                of_thread.wait(INTERVAL);
            }
            // Routers stop sending searches before the server drains.
            if let Some((store, name)) = announced {
                let removed: Result<(), String> =
                    nats.run(async { store.delete(&name).await.map_err(|error| error.to_string()) });
                if let Err(problem) = removed {
                    tracing::warn!(index, problem, "cannot remove the announcement of this server");
                }
            }
        };
        let thread = thread::Builder::new().name("presence".to_owned()).spawn(run);
        Ok(Self { stop, thread: Some(thread.map_err(|error| error.to_string())?) })
    }

    /// Ends announcing, and removes the record, for which it waits a moment: the brokers may not answer.
    pub fn end(&mut self) {
        self.stop.set();
        let Some(thread) = self.thread.take() else { return };
        let until = Instant::now() + LONGEST_END;
        while !thread.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        self.end();
    }
}

async fn renew(
    nats: &Nats,
    index: &str,
    brokers: usize,
    replica: Option<Replica>,
    announced: &mut Option<(Store, String)>,
) -> Result<(), String> {
    let Some(replica) = replica else { return Ok(()) };
    let key = key_of(&replica.name);
    let store = match announced {
        Some((store, _)) => store.clone(),
        None => store_of(nats, index, brokers).await?,
    };
    let record = serde_json::to_vec(&replica).map_err(|error| error.to_string())?;
    store.put(&key, record.into()).await.map_err(|error| error.to_string())?;
    *announced = Some((store, key));
    Ok(())
}

/// The key of a replica: what keys may not have is written as its number.
fn key_of(name: &str) -> String {
    let character = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => char::from(byte).to_string(),
        other => format!("_{other:02x}"),
    };
    name.bytes().map(character).collect()
}

fn bucket_of(index: &str) -> String {
    format!("shortlist-{index}-replicas")
}

async fn store_of(nats: &Nats, index: &str, brokers: usize) -> Result<Store, String> {
    let bucket = bucket_of(index);
    if let Ok(store) = nats.jetstream.get_key_value(&bucket).await {
        return Ok(store);
    }
    let config = Config {
        bucket,
        history: 1,
        max_age: MAX_AGE,
        storage: StorageType::Memory,
        num_replicas: brokers,
        ..Config::default()
    };
    nats.jetstream.create_key_value(config).await.map_err(|error| error.to_string())
}

impl Watcher {
    /// Begins to read who is there of `index`. `on_change` is called whenever the result changes.
    ///
    /// # Errors
    /// The problem, if the options are malformed or there can be no thread.
    pub fn start(
        options: &NatsOptions,
        index: &str,
        on_change: impl Fn(&[Replica]) + Send + 'static,
    ) -> Result<Self, String> {
        let nats = Nats::open(options)?;
        let (stop, replicas) = (Arc::<Stop>::default(), Arc::new(Mutex::new(Vec::new())));
        let (of_thread, shared, index) = (Arc::clone(&stop), Arc::clone(&replicas), index.to_owned());
        let run = move || {
            let mut known = Known::default();
            let mut problem = None;
            while !of_thread.is_set() {
                let watched = nats.run(watch(&nats, &index, &of_thread, &mut known, |found| {
                    *shared.lock() = found.to_vec();
                    on_change(found);
                }));
                let found = watched.err();
                if let Some(found) = found.as_ref().filter(|found| problem.as_ref() != Some(*found)) {
                    tracing::warn!(index, problem = found, "cannot read which servers are there");
                }
                problem = found;
                of_thread.wait(PAUSE);
            }
        };
        let thread = thread::Builder::new().name("presence".to_owned()).spawn(run);
        Ok(Self { replicas, stop, thread: Some(thread.map_err(|error| error.to_string())?) })
    }

    /// Returns the replicas that are there, by name.
    pub fn replicas(&self) -> Vec<Replica> {
        self.replicas.lock().clone()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.set();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The records that were read, each with the time at which it was renewed last.
#[derive(Debug, Default)]
struct Known {
    records: BTreeMap<String, (Replica, Instant)>,
    /// When any was renewed last.
    newest: Option<Instant>,
    /// When one was renewed after none was for a while.
    resumed_at: Option<Instant>,
    /// What was reported last.
    reported: Vec<Replica>,
    /// The keys of records that were left out, which were logged.
    left_out: BTreeSet<String>,
}

impl Known {
    fn put(&mut self, key: &str, record: &[u8], now: Instant) {
        let replica = if record.len() > MAX_BYTES {
            Err(format!("expected at most {MAX_BYTES} bytes, found {}", record.len()))
        } else if !self.records.contains_key(key) && self.records.len() >= MOST_REPLICAS {
            Err(format!("there are {MOST_REPLICAS} other records"))
        } else {
            serde_json::from_slice(record).map_err(|error| error.to_string())
        };
        match replica {
            Ok(replica) => {
                self.left_out.remove(key);
                let before = self.newest.replace(now);
                if before.is_none_or(|before| now.duration_since(before) >= 2 * INTERVAL) {
                    self.resumed_at = Some(now);
                }
                self.records.insert(key.to_owned(), (replica, now));
            }
            Err(problem) if self.is_new_problem(key) => {
                let key = shortened(key, 200);
                tracing::warn!(key, problem, "the record of a server is left out");
            }
            Err(_) => {}
        }
    }

    /// Returns whether a record was not left out before: each is renewed every second.
    fn is_new_problem(&mut self, key: &str) -> bool {
        self.left_out.len() < MOST_LEFT_OUT && self.left_out.insert(key.to_owned())
    }

    fn remove(&mut self, key: &str) {
        self.records.remove(key);
        self.left_out.remove(key);
    }

    /// Drops records that were not renewed although others were, and returns the rest if it differs from what was reported.
    fn settle(&mut self, now: Instant) -> Option<&[Replica]> {
        if let Some(newest) = self.newest.filter(|newest| now.duration_since(*newest) < 2 * INTERVAL) {
            // After the brokers were away, each has the same time to be renewed.
            let since = |renewed: Instant| self.resumed_at.map_or(renewed, |resumed| resumed.max(renewed));
            self.records.retain(|_, (_, renewed)| newest.duration_since(since(*renewed)) < MAX_AGE);
        }
        let found: Vec<Replica> = self.records.values().map(|(replica, _)| replica.clone()).collect();
        if found == self.reported {
            return None;
        }
        self.reported = found;
        Some(&self.reported)
    }
}

async fn watch(
    nats: &Nats,
    index: &str,
    stop: &Stop,
    known: &mut Known,
    report: impl Fn(&[Replica]),
) -> Result<(), String> {
    let store = nats.jetstream.get_key_value(bucket_of(index)).await.map_err(|error| error.to_string())?;
    let mut changes = store.watch_with_history(">").await.map_err(|error| error.to_string())?;
    while !stop.is_set() {
        match tokio::time::timeout(INTERVAL / 4, changes.next()).await {
            Ok(Some(Ok(change))) => match change.operation {
                Operation::Put => known.put(&change.key, &change.value, Instant::now()),
                Operation::Delete | Operation::Purge => known.remove(&change.key),
            },
            Ok(Some(Err(error))) => return Err(error.to_string()),
            Ok(None) => return Err("the records ended".to_owned()),
            Err(_) => {}
        }
        if let Some(found) = known.settle(Instant::now()) {
            report(found);
        }
    }
    Ok(())
}

/// Reads who is there of `index` once.
///
/// # Errors
/// The problem, if the servers of NATS do not answer.
pub fn replicas(options: &NatsOptions, index: &str) -> Result<Vec<Replica>, String> {
    let nats = Nats::open(options)?;
    nats.run(async {
        let found = async {
            let bucket = nats.jetstream.get_key_value(bucket_of(index)).await;
            let store = bucket.map_err(|error| error.to_string())?;
            let mut known = Known::default();
            let mut keys = store.keys().await.map_err(|error| error.to_string())?;
            while let Some(key) = keys.next().await {
                let key = key.map_err(|error| error.to_string())?;
                if let Some(record) = store.get(&key).await.map_err(|error| error.to_string())? {
                    known.put(&key, &record, Instant::now());
                }
            }
            Ok(known.records.into_values().map(|(replica, _)| replica).collect())
        };
        let found = tokio::time::timeout(4 * REQUEST, found).await;
        found.unwrap_or_else(|_| Err(format!("no answer within {} s", (4 * REQUEST).as_secs())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(name: &str) -> Replica {
        Replica {
            name: name.to_owned(),
            address: "10.0.0.1:50051".to_owned(),
            shard: "0/2".to_owned(),
            is_ready: true,
            generation: 3,
            sequence: 7,
            digest_sequence: 0,
            digest: 0,
        }
    }

    fn put(known: &mut Known, name: &str, at: Instant) {
        known.put(name, &serde_json::to_vec(&replica(name)).unwrap(), at);
    }

    fn names(known: &mut Known, now: Instant) -> Option<Vec<String>> {
        known.settle(now).map(|found| found.iter().map(|replica| replica.name.clone()).collect())
    }

    #[test]
    fn a_record_is_dropped_if_others_are_renewed_and_it_is_not() {
        let (mut known, start) = (Known::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        put(&mut known, "a", start);
        put(&mut known, "b", start);
        assert_eq!(names(&mut known, start), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(names(&mut known, after(1)), None);
        // The brokers do not answer.
        assert_eq!(names(&mut known, after(600)), None);
        // Nor is it dropped as soon as they do: each has the same time to be renewed.
        for seconds in 601..606 {
            put(&mut known, "a", after(seconds));
            assert_eq!(names(&mut known, after(seconds)), None);
        }
        put(&mut known, "a", after(606));
        assert_eq!(names(&mut known, after(606)), Some(vec!["a".to_owned()]));
        // Without an interruption, it has that time since it was renewed last.
        put(&mut known, "b", after(606));
        assert!(names(&mut known, after(606)).is_some());
        for seconds in 607..611 {
            put(&mut known, "a", after(seconds));
            assert_eq!(names(&mut known, after(seconds)), None);
        }
        put(&mut known, "a", after(611));
        assert_eq!(names(&mut known, after(611)), Some(vec!["a".to_owned()]));
    }

    #[test]
    fn a_record_that_cannot_be_read_is_left_out() {
        let mut known = Known::default();
        known.put("x", b"noise", Instant::now());
        known.put("y", &vec![b' '; MAX_BYTES + 1], Instant::now());
        // A later release may have more fields.
        let record = br#"{"name":"z","address":"h:1","shard":"0/1","is_ready":false,"new":1}"#;
        known.put("z", record, Instant::now());
        assert_eq!(names(&mut known, Instant::now()), Some(vec!["z".to_owned()]));
    }

    #[test]
    fn a_record_that_is_left_out_is_a_new_problem_once() {
        let mut known = Known::default();
        known.put("x", b"noise", Instant::now());
        assert!(!known.is_new_problem("x"));
        // It was read, or removed, in between.
        put(&mut known, "x", Instant::now());
        assert!(known.is_new_problem("x"));
        known.remove("x");
        assert!(known.is_new_problem("x"));
        for key in 0..2 * MOST_LEFT_OUT {
            known.put(&key.to_string(), b"noise", Instant::now());
        }
        assert_eq!((known.left_out.len(), known.records.len()), (MOST_LEFT_OUT, 0));
    }

    #[test]
    fn keys_are_names_that_nats_accepts_and_differ_if_the_names_do() {
        assert_eq!(key_of("pod-0"), "pod-0");
        assert_eq!(key_of("a.b c_d>"), "a_2eb_20c_5fd_3e");
        assert_eq!(key_of("ä"), "_c3_a4");
    }
}
