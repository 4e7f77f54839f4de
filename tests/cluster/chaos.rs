//! Writes and searches through routers while brokers, replicas and routers are killed and stopped: no acknowledged write is lost, no
//! takedown is undone, and each answer is the one that an oracle computes from the log.
//!
//! `SHORTLIST_CLUSTER_SECONDS` says how long it runs (30).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shortlist_client::Client;
use shortlist_client::proto::completeness::Reason;
use shortlist_client::proto::{
    DeleteRequest, RestoreRequest, SearchResponse, TakedownRequest, UpsertRequest, Video,
};
use tokio::sync::Mutex;

use crate::harness::process::Served;
use crate::oracle::Oracle;
use crate::place::{DIM, K, Place, exact, vector};
use crate::tools::free_ports;

/// What happened.
#[derive(Debug, Default)]
struct Counts {
    broker_kills: u32,
    replica_kills: u32,
    replica_stops: u32,
    router_kills: u32,
    acknowledged: u32,
    refused: u32,
    checked: u32,
    unavailable: u32,
    wrong: Vec<String>,
}

/// A process that is started again at the same port.
struct Process {
    name: String,
    shard: Option<&'static str>,
    port: u16,
    served: Served,
}

impl Process {
    fn start(place: &Place, name: String, shard: Option<&'static str>, port: u16) -> Self {
        let served = match shard {
            Some(shard) => place.serve_at(&name, shard, port),
            None => place.route_at(port),
        };
        Self { name, shard, port, served }
    }

    fn kill(&mut self) {
        let _ = self.served.process.kill();
        let _ = self.served.process.wait();
    }

    fn restart(&mut self, place: &Place) {
        *self = Self::start(place, self.name.clone(), self.shard, self.port);
    }
}

fn seconds() -> u64 {
    std::env::var("SHORTLIST_CLUSTER_SECONDS").map_or(30, |text| text.parse().unwrap())
}

/// Kills and stops one thing after the other, and lets each come back.
fn disturb(place: &mut Place, processes: &mut [Process], random: &mut ChaCha8Rng, counts: &mut Counts) {
    let pause =
        |random: &mut ChaCha8Rng| std::thread::sleep(Duration::from_millis(random.random_range(300..1_500)));
    match random.random_range(0..5) {
        0 => {
            let broker = random.random_range(0..3);
            place.brokers.kill(broker);
            pause(random);
            place.brokers.restart(broker);
            counts.broker_kills += 1;
        }
        1 | 2 => {
            // One replica of each shard stays.
            let process = &mut processes[random.random_range(0..4)];
            process.kill();
            pause(random);
            process.restart(place);
            counts.replica_kills += 1;
        }
        3 => {
            let process = &processes[random.random_range(0..4)];
            process.served.signal("STOP");
            pause(random);
            process.served.signal("CONT");
            counts.replica_stops += 1;
        }
        _ => {
            let process = &mut processes[random.random_range(4..6)];
            process.kill();
            pause(random);
            process.restart(place);
            counts.router_kills += 1;
        }
    }
}

/// Makes one random write of one video, and returns its sequence if it was acknowledged.
async fn write(client: &Client, ids: &[u64], random: &mut ChaCha8Rng) -> (u64, Option<u64>) {
    let index = || "videos".to_owned();
    let video = match random.random_bool(0.5) {
        true => *ids.choose(random).unwrap(),
        false => random.random_range(1 << 40..1 << 40 | 200),
    };
    let written = match random.random_range(0..10) {
        0..6 => {
            let values: Vec<f32> = (0..DIM).map(|_| random.random_range(-1.0..1.0)).collect();
            let videos = vec![Video { video_id: video, vector: Some(vector(&values)), ..Video::default() }];
            client.upsert(UpsertRequest { index: index(), videos, ..UpsertRequest::default() }).await
        }
        6 => {
            client
                .delete(DeleteRequest { index: index(), video_ids: vec![video], ..DeleteRequest::default() })
                .await
        }
        7 | 8 => {
            let request =
                TakedownRequest { index: index(), video_ids: vec![video], ..TakedownRequest::default() };
            client.takedown(request).await
        }
        _ => {
            let request =
                RestoreRequest { index: index(), video_ids: vec![video], ..RestoreRequest::default() };
            client.restore(request).await
        }
    };
    (video, written.ok().map(|written| written.sequence))
}

/// Whether an answer says that it lacks nothing.
fn is_whole(answer: &SearchResponse) -> bool {
    let reason = answer.completeness.unwrap_or_default().reason();
    reason == Reason::Complete && answer.coverage.is_some_and(|coverage| coverage.shards_answered == 2)
}

#[test]
fn answers_are_right_and_writes_stay_whatever_is_killed() {
    let Some(mut place) = Place::new(3) else { return };
    place.divide(2);
    let ports = free_ports(6);
    let shards = [Some("0/2"), Some("0/2"), Some("1/2"), Some("1/2"), None, None];
    let mut processes: Vec<Process> = shards
        .into_iter()
        .zip(&ports)
        .enumerate()
        .map(|(at, (shard, port))| Process::start(&place, format!("process-{at}"), shard, *port))
        .collect();
    let (ids, users) = (place.ids(), place.rows("users_test.npy"));
    let mut oracle = Oracle::new(&place);
    let addresses = format!("127.0.0.1:{},127.0.0.1:{}", ports[4], ports[5]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = {
        let _runtime = runtime.enter();
        Client::builder(&addresses).timeout(Duration::from_secs(15)).build().unwrap()
    };
    let is_over = Arc::new(AtomicBool::new(false));
    let counts = Arc::new(Mutex::new(Counts::default()));
    let (of_task, over) = (Arc::clone(&counts), Arc::clone(&is_over));
    let began = Instant::now();
    let checks = runtime.spawn(async move {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut acknowledged: BTreeMap<u64, u64> = BTreeMap::new();
        let mut last = false;
        while !last {
            // Once more after everything has come back.
            last = over.load(Ordering::Relaxed);
            for _ in 0..random.random_range(1..8) {
                let (video, sequence) = write(&client, &ids, &mut random).await;
                let mut counts = of_task.lock().await;
                match sequence {
                    Some(sequence) => {
                        acknowledged.insert(sequence, video);
                        counts.acknowledged += 1;
                    }
                    None => counts.refused += 1,
                }
            }
            let newest = acknowledged.last_key_value().map_or(0, |(sequence, _)| *sequence);
            let query = users.choose(&mut random).unwrap();
            let (before, mut of_thread) =
                tokio::task::spawn_blocking(move || (oracle.catch_up(newest), oracle)).await.unwrap();
            let until = Instant::now() + Duration::from_secs(if last { 60 } else { 3 });
            let answer = loop {
                match client.search(exact(query, before)).await {
                    // An answer of which shards are missing says so.
                    Ok(answer) if is_whole(&answer) => break Some(answer),
                    _ if Instant::now() >= until => break None,
                    _ => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            };
            let after;
            (after, oracle) =
                tokio::task::spawn_blocking(move || (of_thread.catch_up(newest), of_thread)).await.unwrap();
            let mut counts = of_task.lock().await;
            match answer {
                // A write that was not acknowledged may have arrived late.
                Some(_) if after != before => {}
                Some(answer) => {
                    counts.checked += 1;
                    let problem = oracle.check(query, &answer.candidates);
                    let at = began.elapsed().as_secs_f32();
                    counts
                        .wrong
                        .extend(problem.map(|problem| format!("{at:.1} s, write {before}: {problem}")));
                }
                None => counts.unavailable += 1,
            }
            // A late write came between: once more.
            last &= after == before;
        }
        let lost =
            acknowledged.iter().filter(|(sequence, video)| oracle.entries.get(sequence) != Some(video));
        lost.map(|(sequence, video)| format!("write {sequence} of video {video}")).collect::<Vec<String>>()
    });
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let mut disturbed = Counts::default();
    while began.elapsed() < Duration::from_secs(seconds()) && !checks.is_finished() {
        disturb(&mut place, &mut processes, &mut random, &mut disturbed);
        std::thread::sleep(Duration::from_millis(500));
    }
    is_over.store(true, Ordering::Relaxed);
    let lost = runtime.block_on(checks).unwrap();
    let counts = runtime.block_on(counts.lock());
    eprintln!(
        "{} s: killed brokers {}, replicas {}, routers {}; stopped replicas {}; writes acknowledged {}, refused {}, lost {}; \
         answers checked {}, unavailable {}, wrong {} (k {K})",
        began.elapsed().as_secs(),
        disturbed.broker_kills,
        disturbed.replica_kills,
        disturbed.router_kills,
        disturbed.replica_stops,
        counts.acknowledged,
        counts.refused,
        lost.len(),
        counts.checked,
        counts.unavailable,
        counts.wrong.len(),
    );
    assert!(lost.is_empty(), "{lost:?}");
    assert!(counts.wrong.is_empty(), "{:?}", counts.wrong);
    assert!(counts.acknowledged > 10 && counts.checked > counts.unavailable.max(5), "{counts:?}");
}
