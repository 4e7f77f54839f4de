//! Engines that write to one stream: each answers as a ledger does, whatever happens to the brokers and to them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shortlist::base::id::VideoId;
use shortlist::base::partition::Shard;
use shortlist::engine::{
    Engine, EngineError, EngineOptions, Lookup, RebuildOptions, ReturnAttributes, WriteMode,
};
use shortlist::live::{
    LogError, Mutation, MutationLog as _, SharedLog as _, StreamLog, StreamOpener, StreamOptions,
    TakedownRecords,
};
use shortlist::nats::NatsOptions;
use tempfile::TempDir;

use crate::harness::ledger::{Ledger, VIDEOS, check, random_mutation, upsert};
use crate::harness::{DIM, TestIndex, video_id};
use crate::nats::Brokers;

/// Takedowns in memory, as a bucket keeps them.
#[derive(Debug, Default)]
struct Records {
    all: Mutex<BTreeMap<(VideoId, u64), bool>>,
    is_away: Mutex<bool>,
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
struct Cluster {
    brokers: Brokers,
    index: TestIndex,
    root: TempDir,
    records: Arc<Records>,
}

impl Cluster {
    fn new(brokers: usize) -> Option<Self> {
        let brokers = Brokers::start(brokers)?;
        let root = tempfile::tempdir().unwrap();
        Some(Self { brokers, index: TestIndex::new(VIDEOS), root, records: Arc::default() })
    }

    fn options(&self, shard: Shard) -> StreamOptions {
        StreamOptions {
            nats: NatsOptions { servers: self.brokers.urls(), ..NatsOptions::default() },
            index: "videos".to_owned(),
            replicas: self.brokers.replicas(),
            shard,
            takedowns: Some(Arc::clone(&self.records) as Arc<dyn TakedownRecords>),
        }
    }

    fn dir(&self, name: &str) -> PathBuf {
        let dir = self.root.path().join(name);
        if !dir.exists() {
            fs::create_dir(&dir).unwrap();
            copy_new(&self.index.dir(), &dir);
        }
        dir
    }

    /// Opens a replica with all videos, in a folder of this name.
    fn replica(&self, name: &str) -> Result<Engine, EngineError> {
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
    fn trim(&self, to: u64) {
        StreamOpener::new(self.options(Shard::WHOLE)).unwrap().trim(to).unwrap();
    }

    /// Opens the log of a process without an engine, that received nothing before.
    fn log(&self, name: &str, shard: Shard) -> StreamLog {
        self.log_after(name, shard, &[0]).unwrap()
    }

    /// The same, for generations up to these entries.
    fn log_after(&self, name: &str, shard: Shard, held: &[u64]) -> Result<StreamLog, LogError> {
        let path = self.root.path().join(name);
        StreamOpener::new(self.options(shard)).unwrap().open_log(&path, held)
    }

    /// Removes one entry of the stream, as no trim does.
    fn remove(&self, sequence: u64) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let client = async_nats::connect(&self.brokers.urls()).await.unwrap();
            let stream = async_nats::jetstream::new(client).get_stream("shortlist-videos").await.unwrap();
            assert!(stream.delete_message(sequence).await.unwrap());
        });
    }
}

/// Copies the files that are not there yet.
fn copy_new(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if !target.exists() {
            fs::copy(&path, target).unwrap();
        }
    }
}

fn until(engine: &Engine, sequence: u64) {
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
fn until_read_only(engine: &Engine, expected: &str) {
    let began = Instant::now();
    while !engine.status("").unwrap().live.read_only_reason.is_some_and(|reason| reason.contains(expected)) {
        engine.refresh();
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", engine.status("").unwrap().live);
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_down(engine: &Engine, video: VideoId) -> bool {
    let found = engine.get("", &[video], &ReturnAttributes::None, false).unwrap();
    matches!(found[0], Lookup::TakenDown(_))
}

fn deletes(count: u64) -> Vec<Mutation> {
    (1..=count).map(|video| Mutation::Delete(VideoId(video))).collect()
}

#[test]
fn replicas_answer_as_the_ledger_at_equal_sequence() {
    let Some(cluster) = Cluster::new(1) else { return };
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut ledger = Ledger::of(&cluster.index);
    let mut replicas: Vec<(String, Engine)> = (0..3)
        .map(|number| (format!("replica-{number}"), cluster.replica(&format!("replica-{number}")).unwrap()))
        .collect();
    for round in 0..60 {
        let at = random.random_range(0..replicas.len());
        match random.random_range(0..12) {
            // A restart, which goes on after what was received before.
            0 => {
                let (name, engine) = replicas.remove(at);
                drop(engine);
                let engine = cluster.replica(&name).unwrap();
                replicas.push((name, engine));
            }
            // Another machine, which receives everything.
            1 => {
                let name = format!("new-{round}");
                drop(replicas.remove(at));
                let engine = cluster.replica(&name).unwrap();
                replicas.push((name, engine));
            }
            _ => {
                let batch: Vec<Mutation> =
                    (0..random.random_range(1..20)).map(|_| random_mutation(&mut random)).collect();
                batch.iter().for_each(|mutation| ledger.take_in(mutation));
                let written = replicas[at].1.write("", batch, WriteMode::AllOrNothing).unwrap();
                assert_eq!(written.sequence, ledger.sequence);
                // What was written here is read here.
                check(&replicas[at].1, &ledger, &mut random, 1);
            }
        }
        for (_, engine) in &replicas {
            until(engine, ledger.sequence);
            check(engine, &ledger, &mut random, 1);
        }
    }
}

/// Writers on different machines at the same time: each write has a place in the one order, and each batch its places together.
#[test]
fn concurrent_writers_have_one_order_without_gaps() {
    let Some(cluster) = Cluster::new(1) else { return };
    let logs: Vec<StreamLog> =
        (0..3).map(|number| cluster.log(&format!("log-{number}"), Shard::WHOLE)).collect();
    std::thread::scope(|scope| {
        for (writer, log) in (0u64..).zip(&logs) {
            scope.spawn(move || {
                for batch in 0..40u64 {
                    let size = batch % 7 + 1;
                    let first = writer << 40 | batch << 20;
                    let mutations: Vec<Mutation> =
                        (first..first + size).map(|video| Mutation::Delete(VideoId(video))).collect();
                    log.append(&mutations).unwrap();
                }
            });
        }
    });
    let total: u64 = 3 * (0..40u64).map(|batch| batch % 7 + 1).sum::<u64>();
    let received: Vec<_> = logs
        .iter()
        .map(|log| {
            while log.last_sequence() < total {
                shortlist::live::SharedLog::receive(log, log.last_sequence(), Duration::from_secs(10))
                    .unwrap();
            }
            log.read(0, usize::MAX).unwrap()
        })
        .collect();
    assert_eq!(
        received[0].iter().map(|entry| entry.sequence).collect::<Vec<_>>(),
        (1..=total).collect::<Vec<_>>()
    );
    assert!(received.iter().all(|entries| *entries == received[0]));
    for pair in received[0].windows(2) {
        let [one, next] = [&pair[0], &pair[1]].map(|entry| entry.mutation.video_id().0);
        assert!(next == one + 1 || next & 0xf_ffff == 0, "batches stay together");
    }
    assert!(logs.iter().all(|log| log.digest() == logs[0].digest()));
}

#[test]
fn a_shard_has_its_own_videos_and_the_sequence_of_all() {
    let Some(cluster) = Cluster::new(1) else { return };
    let log = cluster.log("writer", Shard::WHOLE);
    log.append(&deletes(500)).unwrap();
    let mut seen = 0;
    for index in 0..4 {
        let shard = Shard::new(index, 4).unwrap();
        let part = cluster.log(&format!("shard-{index}"), shard);
        assert_eq!(part.last_sequence(), 500);
        let entries = part.read(0, usize::MAX).unwrap();
        assert!(entries.iter().all(|entry| shard.contains(entry.mutation.video_id())));
        seen += entries.len();
    }
    assert_eq!(seen, 500);
}

/// What was acknowledged is there after the leader of three brokers was killed, again and again.
#[test]
fn nothing_acknowledged_is_lost_when_brokers_are_killed() {
    let Some(mut cluster) = Cluster::new(3) else { return };
    let writes = if std::env::var_os("SHORTLIST_CLUSTER_LONG").is_some() { 5_000 } else { 1_500 };
    let log = Arc::new(cluster.log("writer", Shard::WHOLE));
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let (of_thread, to_write) = (Arc::clone(&acknowledged), Arc::clone(&log));
    let writer = std::thread::spawn(move || {
        for video in 1..=writes {
            // A write that is refused may be in the stream. It is not tried again.
            if let Ok(sequence) = to_write.append(&[Mutation::Delete(VideoId(video))]) {
                of_thread.lock().push((video, sequence));
            }
        }
    });
    let mut broker = 0;
    while !writer.is_finished() {
        std::thread::sleep(Duration::from_millis(1_500));
        cluster.brokers.kill(broker);
        std::thread::sleep(Duration::from_millis(1_000));
        cluster.brokers.restart(broker);
        broker = (broker + 1) % 3;
    }
    writer.join().unwrap();
    let reader = cluster.log("reader", Shard::WHOLE);
    let last = acknowledged.lock().iter().map(|(_, sequence)| *sequence).max().unwrap();
    while reader.last_sequence() < last {
        shortlist::live::SharedLog::receive(&reader, reader.last_sequence(), Duration::from_secs(20))
            .unwrap();
    }
    let entries: BTreeMap<u64, VideoId> = reader
        .read(0, usize::MAX)
        .unwrap()
        .iter()
        .map(|entry| (entry.sequence, entry.mutation.video_id()))
        .collect();
    for (video, sequence) in &*acknowledged.lock() {
        assert_eq!(entries.get(sequence), Some(&VideoId(*video)), "write {sequence}");
    }
    // None was stored twice.
    let mut stored: Vec<VideoId> = entries.values().copied().collect();
    stored.sort_unstable();
    stored.dedup();
    assert_eq!(stored.len(), entries.len());
    eprintln!(
        "{} of {writes} writes acknowledged, all there; killed a broker every 2.5 s",
        acknowledged.lock().len()
    );
}

/// A consumer ends with the broker that it is on. The one that receives notices, wherever its consumer was.
#[test]
fn messages_come_again_soon_after_any_broker_is_killed() {
    let Some(mut cluster) = Cluster::new(3) else { return };
    let writer = cluster.log("writer", Shard::WHOLE);
    let readers: Vec<StreamLog> =
        (0..6).map(|reader| cluster.log(&format!("reader-{reader}"), Shard::WHOLE)).collect();
    for round in 0..6 {
        let broker = round % 3;
        cluster.brokers.kill(broker);
        let began = Instant::now();
        let last = loop {
            match writer.append(&deletes(3)) {
                Ok(last) => break last,
                Err(error) => assert!(began.elapsed() < Duration::from_secs(60), "{error}"),
            }
        };
        let acknowledged = Instant::now();
        for (at, reader) in readers.iter().enumerate() {
            while reader.last_sequence() < last {
                // Fails while there is no leader.
                let _ = reader.receive(reader.last_sequence(), Duration::from_millis(200));
                assert!(acknowledged.elapsed() < Duration::from_secs(20), "round {round}, reader {at}");
            }
        }
        cluster.brokers.restart(broker);
    }
}

/// Without brokers, a replica that received before goes on answering, says that it takes no writes, and comes back by itself.
#[test]
fn a_replica_answers_while_no_broker_can_be_reached() {
    let Some(mut cluster) = Cluster::new(1) else { return };
    let mut ledger = Ledger::of(&cluster.index);
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let engine = cluster.replica("one").unwrap();
    let write = |engine: &Engine, ledger: &mut Ledger, video: u64| {
        let mutation = Mutation::Upsert(upsert(video, [1.0; DIM], "new", true));
        let written = engine.write("", vec![mutation.clone()], WriteMode::AllOrNothing)?;
        ledger.take_in(&mutation);
        assert_eq!(written.sequence, ledger.sequence);
        Ok::<(), EngineError>(())
    };
    write(&engine, &mut ledger, 1).unwrap();
    cluster.brokers.kill(0);
    check(&engine, &ledger, &mut random, 3);
    let error = write(&engine, &mut ledger, 2).unwrap_err();
    assert!(matches!(error, EngineError::ReadOnly { .. } | EngineError::Unconfirmed { .. }), "{error}");
    // A restart without brokers.
    drop(engine);
    let engine = cluster.replica("one").unwrap();
    check(&engine, &ledger, &mut random, 3);
    // A new machine has nothing that it may answer from.
    let error = cluster.replica("two").unwrap_err();
    assert!(error.to_string().contains("stream shortlist-videos"), "{error}");
    cluster.brokers.restart(0);
    let began = Instant::now();
    // The one that was refused may have been stored: its message may have been on its way.
    while let Err(error) = engine.write("", deletes(1), WriteMode::AllOrNothing) {
        assert!(began.elapsed() < Duration::from_secs(30), "{error}");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(engine.status("").unwrap().live.read_only_reason, None);
}

/// A takedown is there after the stream lost it, and after the entries were removed from the stream.
#[test]
fn a_takedown_outlives_the_stream() {
    let Some(mut cluster) = Cluster::new(1) else { return };
    let engine = cluster.replica("one").unwrap();
    let taken_down = [3, 5, 8].map(|row| VideoId(video_id(row)));
    let write = |engine: &Engine, mutation| engine.write("", vec![mutation], WriteMode::AllOrNothing);
    taken_down.iter().for_each(|video| drop(write(&engine, Mutation::Takedown(*video)).unwrap()));
    write(&engine, Mutation::Restore(taken_down[0])).unwrap();
    *cluster.records.is_away.lock() = true;
    let error = write(&engine, Mutation::Takedown(VideoId(video_id(9)))).unwrap_err();
    assert!(error.to_string().contains("bucket"), "{error}");
    *cluster.records.is_away.lock() = false;
    let down = |engine: &Engine| {
        let found = engine.get("", &taken_down, &ReturnAttributes::None, false).unwrap();
        found.iter().map(|lookup| matches!(lookup, Lookup::TakenDown(_))).collect::<Vec<_>>()
    };
    assert_eq!(down(&engine), [false, true, true]);
    let last = engine.status("").unwrap().live.sequence;
    // A batch build that contains all writes, and a stream without them.
    cluster.index.log_sequence = last;
    cluster.index.publish(VIDEOS);
    cluster.trim(last);
    let fresh = cluster.replica("fresh").unwrap();
    assert_eq!(down(&fresh), [false, true, true]);
    assert!(fresh.status("").unwrap().live.sequence >= last);
    // A replica that was away meanwhile cannot receive what is gone. It opens the newer generation once it has it.
    drop(engine);
    let error = cluster.replica("late").map(drop);
    assert!(error.is_ok(), "it has the new generation: {error:?}");
    // The disks of the brokers are lost.
    cluster.brokers.lose();
    cluster.brokers.restart(0);
    let lost = "the log was replaced or lost entries";
    let error = cluster.replica("after").unwrap_err();
    assert!(error.to_string().contains(lost), "{error}");
    // One that received before goes on answering, also after a restart, and takes no writes.
    let until_lost = |engine: &Engine| {
        until_read_only(engine, lost);
        assert_eq!(down(engine), [false, true, true]);
    };
    until_lost(&fresh);
    drop(fresh);
    let again = cluster.replica("fresh").unwrap();
    until_lost(&again);
}

/// A start without the bucket is answered from what was received. What the log lacks of the takedowns in the bucket holds once they
/// can be read.
#[test]
fn a_start_goes_on_without_the_bucket_and_reads_its_takedowns_later() {
    let Some(cluster) = Cluster::new(1) else { return };
    let engine = cluster.replica("one").unwrap();
    let [received, recorded] = [3, 5].map(|row| VideoId(video_id(row)));
    engine.write("", vec![Mutation::Takedown(received)], WriteMode::AllOrNothing).unwrap();
    drop(engine);
    // As if the stream had lost its entry.
    cluster.records.record(recorded, 1, true).unwrap();
    *cluster.records.is_away.lock() = true;
    assert!(cluster.replica("two").is_err(), "nothing was received that it could answer from");
    let engine = cluster.replica("one").unwrap();
    let down = |video| is_down(&engine, video);
    assert!(down(received) && !down(recorded));
    *cluster.records.is_away.lock() = false;
    let began = Instant::now();
    while !down(recorded) {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
    engine.write("", vec![Mutation::Restore(recorded)], WriteMode::AllOrNothing).unwrap();
    assert!(down(received) && !down(recorded));
}

/// What is received says whether the log has more: until then, a replica is behind.
#[test]
fn a_reader_knows_whether_it_is_behind() {
    let Some(cluster) = Cluster::new(1) else { return };
    let (reader, writer) = (cluster.log("reader", Shard::WHOLE), cluster.log("writer", Shard::WHOLE));
    writer.append(&deletes(9_500)).unwrap();
    let (mut after, mut times) = (0, 0);
    while let Some(received) = reader.receive(after, Duration::from_secs(5)).unwrap() {
        (after, times) = (received.last, times + 1);
        assert_eq!(received.has_more, after < 9_500, "{after}");
        if !received.has_more {
            break;
        }
    }
    assert!(after == 9_500 && times > 2, "{after} in {times} parts");
    writer.append(&deletes(1)).unwrap();
    let received = reader.receive(after, Duration::from_secs(5)).unwrap().unwrap();
    assert!(received.last == 9_501 && !received.has_more);
}

/// What was received of a stream is never continued with another one, of the same name and with more entries.
#[test]
fn a_stream_in_place_of_another_is_refused_however_long_it_is() {
    let Some(mut cluster) = Cluster::new(1) else { return };
    let mut ledger = Ledger::of(&cluster.index);
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let engine = cluster.replica("one").unwrap();
    for _ in 0..5 {
        let mutation = random_mutation(&mut random);
        ledger.take_in(&mutation);
        engine.write("", vec![mutation], WriteMode::AllOrNothing).unwrap();
    }
    cluster.brokers.lose();
    cluster.brokers.restart(0);
    // Nothing creates it anew for one that has entries.
    until_read_only(&engine, "the log was replaced or lost entries");
    drop(engine);
    let engine = cluster.replica("one").unwrap();
    until_read_only(&engine, "the log was replaced or lost entries");
    let opener = StreamOpener::new(cluster.options(Shard::WHOLE)).unwrap();
    assert_eq!(opener.first_entry().unwrap(), None);
    let other = cluster.log("other", Shard::WHOLE);
    assert_eq!(other.append(&deletes(20)).unwrap(), 20);
    let replaced = "found another one of the same name: the log was replaced";
    until_read_only(&engine, replaced);
    check(&engine, &ledger, &mut random, 4);
    drop(engine);
    let engine = cluster.replica("one").unwrap();
    until_read_only(&engine, replaced);
    check(&engine, &ledger, &mut random, 4);
    assert!(engine.write("", deletes(1), WriteMode::AllOrNothing).is_err());
    // Nothing was written to the other stream.
    assert_eq!(cluster.log("third", Shard::WHOLE).last_sequence(), 20);
}

/// The entries of one shard are not those of another.
#[test]
fn what_was_received_for_another_shard_is_refused() {
    let Some(cluster) = Cluster::new(1) else { return };
    let all: Vec<Shard> = Shard::all(2).unwrap().chain(Shard::all(4).unwrap()).collect();
    for shard in &all {
        drop(cluster.log(&format!("shard-{shard}").replace('/', "-"), *shard));
    }
    for cached in &all {
        for shard in &all {
            let opened = cluster.log_after(&format!("shard-{cached}").replace('/', "-"), *shard, &[0]);
            match opened {
                Err(LogError::OtherShard { expected, found, .. }) => {
                    assert!(cached != shard && (expected, found) == (*shard, *cached));
                }
                opened => assert!(opened.is_ok() && cached == shard, "{cached} {shard}"),
            }
        }
    }
}

/// The end of a takedown counts although only the log has it.
#[test]
fn a_restored_video_stays_although_the_bucket_lacks_its_restore() {
    let Some(cluster) = Cluster::new(1) else { return };
    let engine = cluster.replica("one").unwrap();
    let videos = [3, 5].map(|row| VideoId(video_id(row)));
    let write = |mutation| engine.write("", vec![mutation], WriteMode::AllOrNothing);
    videos.iter().for_each(|video| drop(write(Mutation::Takedown(*video)).unwrap()));
    *cluster.records.is_away.lock() = true;
    // It is in the stream, so it holds.
    assert!(write(Mutation::Restore(videos[0])).is_err());
    let began = Instant::now();
    while is_down(&engine, videos[0]) {
        assert!(began.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(is_down(&engine, videos[1]));
    drop(engine);
    *cluster.records.is_away.lock() = false;
    for name in ["one", "two"] {
        let engine = cluster.replica(name).unwrap();
        assert!(!is_down(&engine, videos[0]) && is_down(&engine, videos[1]), "{name}");
    }
    // The start has recorded it, for those that come after the entry is gone.
    let mut recorded = cluster.records.all().unwrap();
    recorded.sort_by_key(|(_, sequence, _)| *sequence);
    assert_eq!(recorded, [(videos[1], 2, true), (videos[0], 3, false)]);
}

/// Entries that were removed from the middle stop what needs them, and nothing else.
#[test]
fn a_hole_in_the_stream_is_named_and_passed_by_a_generation_that_contains_it() {
    let Some(cluster) = Cluster::new(1) else { return };
    let writer = cluster.log("writer", Shard::WHOLE);
    writer.append(&deletes(10)).unwrap();
    cluster.remove(5);
    let error = cluster.log_after("first", Shard::WHOLE, &[0]).unwrap_err();
    assert!(matches!(error, LogError::Gone { first: 6, .. }), "{error}");
    let error = cluster.log_after("before", Shard::WHOLE, &[3]).unwrap_err();
    assert!(matches!(error, LogError::Gone { first: 6, .. }), "{error}");
    for held in [&[0, 5][..], &[5], &[2, 8]] {
        let name = format!("with-{held:?}");
        let log = cluster.log_after(&name, Shard::WHOLE, held).unwrap();
        let after = *held.last().unwrap();
        assert_eq!(log.last_sequence(), 10);
        let entries: Vec<u64> =
            log.read(after, usize::MAX).unwrap().iter().map(|entry| entry.sequence).collect();
        assert_eq!(entries, (after + 1..=10).collect::<Vec<_>>(), "{held:?}");
    }
}

/// Whoever wrote them, takedowns and their ends are in the bucket before the stream loses them.
#[test]
fn a_trim_records_takedowns_first() {
    let Some(mut cluster) = Cluster::new(1) else { return };
    let [down, up] = [3, 5].map(|row| VideoId(video_id(row)));
    let without = StreamOptions { takedowns: None, ..cluster.options(Shard::WHOLE) };
    let path = cluster.root.path().join("writer");
    let writer = StreamOpener::new(without).unwrap().open_log(&path, &[0]).unwrap();
    writer.append(&[Mutation::Takedown(down), Mutation::Takedown(up)]).unwrap();
    writer.append(&deletes(300)).unwrap();
    writer.append(&[Mutation::Restore(up), Mutation::Takedown(VideoId(7))]).unwrap();
    // A hole, as a stream with a limit has.
    cluster.remove(100);
    *cluster.records.is_away.lock() = true;
    let opener = StreamOpener::new(cluster.options(Shard::WHOLE)).unwrap();
    let error = opener.trim(303).unwrap_err();
    assert!(error.to_string().contains("bucket"), "{error}");
    assert_eq!(opener.first_entry().unwrap(), Some(1), "nothing was removed");
    *cluster.records.is_away.lock() = false;
    opener.trim(303).unwrap();
    assert_eq!(opener.first_entry().unwrap(), Some(304));
    let recorded: BTreeMap<VideoId, (u64, bool)> = cluster
        .records
        .all()
        .unwrap()
        .into_iter()
        .map(|(video, sequence, is_down)| (video, (sequence, is_down)))
        .collect();
    assert_eq!(recorded, [(down, (1, true)), (up, (303, false))].into());
    cluster.index.log_sequence = 303;
    cluster.index.publish(VIDEOS);
    let fresh = cluster.replica("fresh").unwrap();
    assert!(is_down(&fresh, down) && !is_down(&fresh, up));
    // More than there is.
    opener.trim(u64::MAX).unwrap();
    assert_eq!(opener.first_entry().unwrap(), Some(305));
}

/// A replica whose next entries are gone goes out of service, and comes back with a generation that contains them.
#[test]
fn a_replica_that_was_away_for_too_long_bootstraps_from_a_newer_generation() {
    let Some(mut cluster) = Cluster::new(1) else { return };
    let mut ledger = Ledger::of(&cluster.index);
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let writer = cluster.replica("writer").unwrap();
    let dir = cluster.dir("away");
    drop(cluster.replica("away").unwrap());
    for _ in 0..20 {
        let mutation = random_mutation(&mut random);
        ledger.take_in(&mutation);
        writer.write("", vec![mutation], WriteMode::AllOrNothing).unwrap();
    }
    cluster.trim(10);
    let error = cluster.replica("away").unwrap_err();
    assert!(error.to_string().contains("entries before 11 were removed"), "{error}");
    assert!(error.to_string().contains("a generation that contains them is needed"), "{error}");
    // A batch build that says it contains all writes.
    cluster.index.log_sequence = 20;
    cluster.index.publish(VIDEOS);
    let mut after = Ledger::of(&cluster.index);
    after.sequence = ledger.sequence;
    after.takedowns = ledger.takedowns.clone();
    copy_new(&cluster.index.dir(), &dir);
    let back = cluster.replica("away").unwrap();
    until(&back, 20);
    check(&back, &after, &mut random, 4);
}

/// A replica has a generation before it has received the writes that the generation contains.
#[test]
fn a_generation_waits_until_the_writes_that_it_contains_are_received() {
    let Some(mut cluster) = Cluster::new(1) else { return };
    let writer = cluster.replica("writer").unwrap();
    let write = |count| writer.write("", deletes(count), WriteMode::AllOrNothing).unwrap().sequence;
    write(1);
    drop(cluster.replica("late").unwrap());
    let last = write(5);
    cluster.index.log_sequence = last;
    cluster.index.publish(VIDEOS);
    copy_new(&cluster.index.dir(), &cluster.dir("late"));
    cluster.brokers.kill(0);
    let late = cluster.replica("late").unwrap();
    for _ in 0..3 {
        late.refresh();
        let status = late.status("").unwrap();
        assert_eq!((status.generation, status.live.sequence), (1, 1));
        let problem = status.refused.unwrap();
        assert!(problem.contains("log position") || problem.contains("were not received yet"), "{problem}");
    }
    cluster.brokers.restart(0);
    let began = Instant::now();
    while late.status("").unwrap().generation == 1 {
        late.refresh();
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", late.status("").unwrap());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(late.status("").unwrap().live.sequence, last);
}

/// A message that no release wrote stops the replica that receives it, and says so.
#[test]
fn a_damaged_message_stops_the_replica_and_is_named() {
    let Some(cluster) = Cluster::new(1) else { return };
    let engine = cluster.replica("one").unwrap();
    engine.write("", deletes(1), WriteMode::AllOrNothing).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = async_nats::connect(&cluster.brokers.urls()).await.unwrap();
        let jetstream = async_nats::jetstream::new(client);
        jetstream.publish("shortlist.videos.log", "noise".into()).await.unwrap().await.unwrap();
    });
    let began = Instant::now();
    let reason = loop {
        engine.refresh();
        if let Some(reason) = engine.status("").unwrap().live.read_only_reason {
            break reason;
        }
        assert!(began.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(reason.contains("message 2: expected"), "{reason}");
    assert_eq!(engine.status("").unwrap().live.sequence, 1);
}
