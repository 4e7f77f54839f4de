//! Engines that write to one stream: each answers as a ledger does, whatever happens to the brokers and to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shortlist::base::id::VideoId;
use shortlist::base::partition::Shard;
use shortlist::engine::{Engine, EngineError, WriteMode};
use shortlist::live::{Mutation, MutationLog as _, SharedLog as _, StreamLog};

use crate::engines::{Cluster, copy_new, deletes, until};
use crate::harness::DIM;
use crate::harness::ledger::{Ledger, VIDEOS, check, random_mutation, upsert};

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
