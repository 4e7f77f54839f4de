//! Bad days of a machine: its clock is wrong, its disk is full, it does not answer.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use shortlist_client::proto::{UpsertRequest, Video};

use crate::harness::http1_get;
use crate::harness::process::Served;
use crate::place::{DIM, Place, best, client, exact, status, until_generation, vector};
use crate::shards::{check, write};
use crate::tools::{free_ports, tool};

/// Lets the clock of a process be wrong by this number of seconds.
fn with_clock(mut command: Command, library: &Path, seconds: i32) -> Command {
    command.env("LD_PRELOAD", library).env("FAKETIME", format!("{seconds:+}"));
    // Timers go on as they do on a machine whose clock is wrong.
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    command
}

/// The order of writes is that of the log, whatever the clocks of those who write, rebuild and answer say.
#[test]
fn clocks_an_hour_apart_change_no_answer() {
    let (Some(place), Some(library)) = (Place::new(1), tool("libfaketime.so.1")) else { return };
    let date = with_clock(Command::new("date"), &library, 3600).arg("+%s").output().unwrap();
    let shown: i64 = String::from_utf8_lossy(&date.stdout).trim().parse().unwrap();
    let ahead = shown - jiff::Timestamp::now().as_second();
    assert!((3500..3700).contains(&ahead), "{} changes no clock", library.display());
    place.divide(2);
    let (one, users) = (place.one_server(), place.rows("users_test.npy"));
    let start = |name: &str, shard: &str, seconds: i32| {
        Served::start(with_clock(place.replica(name, shard, free_ports(1)[0]), &library, seconds))
    };
    let mut ahead = start("ahead", "0/2", 3600);
    let (behind, second) = (start("behind", "0/2", -3600), start("second", "1/2", 0));
    let router = Served::start(with_clock(place.router(free_ports(1)[0]), &library, 1800));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        // Each of these videos is written by one after the other.
        for (round, writer) in [&ahead, &behind, &second, &ahead, &router].into_iter().enumerate() {
            let round = round as u64;
            let last = write([&one, writer], 10 * round..10 * round + 40, 50 + round).await;
            check(&one, &users, &[&router], last).await;
            check(&one, &users, &[&ahead, &second], last).await;
            check(&one, &users, &[&behind, &second], last).await;
        }
        let last = write([&one, &behind], 100..120, 60).await;
        // Generations of jobs whose clocks differ.
        for (generation, seconds) in [(2, 3600), (3, -3600)] {
            for shard in ["0/2", "1/2"] {
                let job = place.job(&["--shard", shard, "--nats", &place.nats()]);
                crate::place::run(&mut with_clock(job, &library, seconds));
            }
            for server in [&ahead, &behind, &second] {
                until_generation(server, generation).await;
            }
            check(&one, &users, &[&router], last).await;
        }
        ahead.process.kill().unwrap();
        ahead.process.wait().unwrap();
        let last = write([&one, &behind], 110..130, 61).await;
        ahead = start("ahead", "0/2", 3600);
        check(&one, &users, &[&ahead, &second], last).await;
    });
}

/// The command, with files that cannot grow beyond `bytes`: a write past that fails as one on a full disk does.
fn with_small_disk(command: &Command, bytes: u64) -> Command {
    let mut limited = Command::new("prlimit");
    limited.arg(format!("--fsize={bytes}"));
    // Otherwise the write ends the process.
    limited.args(["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"]);
    limited.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    limited.stderr(std::process::Stdio::piped());
    limited
}

/// A replica that cannot store what it receives says so, answers what it has, and lets the other replica take the writes. The log
/// keeps what it lacks.
#[test]
fn a_replica_with_a_full_disk_is_named_and_loses_nothing() {
    let Some(place) = Place::new(1) else { return };
    place.divide(1);
    let users = place.rows("users_test.npy");
    let command = place.replica("full", "0/1", free_ports(1)[0]);
    let full = Served::start(with_small_disk(&command, 3 << 20));
    let other = place.serve("other", "0/1");
    let router = place.route();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let began = Instant::now();
        let mut last = 0;
        let reason = loop {
            let videos = (1..=500u64).map(|video| {
                let values: Vec<f32> = (0..DIM as u64).map(|at| ((video + at + last) % 13) as f32).collect();
                Video { video_id: video, vector: Some(vector(&values)), ..Video::default() }
            });
            let request = UpsertRequest { videos: videos.collect(), ..UpsertRequest::default() };
            last = client(&router).upsert(request).await.unwrap().sequence;
            let found = status(&full).await;
            if !found.writable {
                break found.read_only_reason;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{found:?}");
        };
        assert!(reason.contains("File too large") && reason.contains("full"), "{reason}");
        // It opens the log again now and then, and is connected until an entry finds no space.
        loop {
            let metrics = http1_get(full.address, "/metrics").await;
            if metrics.contains("shortlist_log_connected{index=\"videos\"} 0") {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(90), "{metrics}");
        }
        // It answers, but not those who have seen later writes.
        for query in users.iter().take(20) {
            let answer = client(&full).search(exact(query, 0)).await.unwrap();
            assert!(!answer.candidates.is_empty());
            let late = client(&full).search(exact(query, last)).await.unwrap_err();
            assert!(late.to_string().contains("min_sequence"), "{late}");
            let (expected, found) = (best(&other, query, last).await, best(&router, query, last).await);
            assert_eq!(found, expected);
        }
        // Every generation contains the writes that it lacks, and the log keeps them for it.
        let held = status(&full).await.sequence;
        let nats = place.nats();
        place.rebuild(&["--shard", "0/1", "--nats", &nats]);
        let apply = ["apply", "--shards", "1", "--index", "videos", "--nats", &nats];
        place.cluster(&apply);
        let shown = place.cluster(&apply);
        let trimmed = shown.lines().find_map(|line| line.strip_prefix("removed the writes up to "));
        let trimmed: u64 = trimmed.and_then(|rest| rest.split(' ').next()?.parse().ok()).expect(&shown);
        assert!(0 < trimmed && trimmed <= held && held < last, "{trimmed}, {held}, {last}");
        let request = UpsertRequest {
            videos: vec![Video { video_id: 7, vector: Some(vector(&[1.0; DIM])), ..Video::default() }],
            ..UpsertRequest::default()
        };
        last = client(&router).upsert(request).await.unwrap().sequence;
        // With space, it has everything.
        drop(full);
        let again = place.serve("full", "0/1");
        for query in users.iter().take(20) {
            assert_eq!(best(&again, query, last).await, best(&other, query, last).await);
        }
        let found = status(&again).await;
        assert!(found.writable && found.sequence == last, "{found:?}");
    });
}

/// Latencies and extra calls while one of two replicas does not answer. The figures are printed; what is checked is that no search
/// fails, and that the calls stay few.
#[test]
fn a_stopped_replica_costs_few_calls_and_no_search() {
    let Some(place) = Place::new(1) else { return };
    place.divide(1);
    let (stopped, _other) = (place.serve("a", "0/1"), place.serve("b", "0/1"));
    let (router, users) = (place.route(), place.rows("users_test.npy"));
    let rounds = if std::env::var_os("SHORTLIST_CLUSTER_LONG").is_some() { 6 } else { 2 };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = {
        let _runtime = runtime.enter();
        client(&router)
    };
    let load = async |searches: usize| {
        let mut latencies = Vec::new();
        for query in users.iter().cycle().take(searches) {
            tokio::time::sleep(Duration::from_millis(2)).await;
            let began = Instant::now();
            client.search(exact(query, 0)).await.unwrap();
            latencies.push(began.elapsed());
        }
        latencies
    };
    runtime.block_on(async {
        best(&router, &users[0], 0).await;
        let (mut before, mut during) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            before.extend(load(1_000).await);
            stopped.signal("STOP");
            during.extend(load(1_000).await);
            stopped.signal("CONT");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let figures = [&mut before, &mut during].map(|latencies| {
            latencies.sort_unstable();
            [0.5, 0.99, 0.999].map(|share| latencies[(latencies.len() as f64 * share) as usize])
        });
        let metrics = http1_get(router.address, "/metrics").await;
        let sum = |name: &str| -> f64 {
            let lines = metrics.lines().filter(|line| line.starts_with(name));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        let searches = (before.len() + during.len()) as f64;
        let hedged = sum("shortlist_router_hedged_calls_total");
        let retried = sum("shortlist_router_retried_calls_total");
        eprintln!(
            "p50, p99, p99.9 with both replicas {:?}, with one of them stopped {:?}; {searches} searches, {hedged} hedged, {retried} retried",
            figures[0], figures[1]
        );
        assert!(hedged <= searches * 0.05 + 10.0, "{hedged} of {searches}");
    });
}
