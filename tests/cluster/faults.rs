//! What a stream, a bucket or a cache may lose, or have in place of what was there: it is named, and no answer is wrong.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use shortlist::base::id::VideoId;
use shortlist::base::partition::Shard;
use shortlist::engine::{Engine, Lookup, ReturnAttributes, WriteMode};
use shortlist::live::{LogError, Mutation, MutationLog as _, StreamOpener, StreamOptions, TakedownRecords};

use crate::engines::{Cluster, copy_new, deletes, is_down, until, until_read_only};
use crate::harness::ledger::{Ledger, VIDEOS, check, random_mutation};
use crate::harness::video_id;

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
