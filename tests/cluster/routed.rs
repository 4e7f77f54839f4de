//! A router that follows the map: the index is divided further, generations are swapped, replicas come and go, and no search fails.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use shortlist_client::proto::{SearchRequest, TakedownRequest};

use crate::harness::process::{Served, shortlist};
use crate::place::{K, Place, client, exact, run, until_generation};

/// Searches all the time, and counts answers and failures.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU32>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

impl Load {
    /// Searches through `router`, page after page.
    fn start(router: &Served, users: Vec<Vec<f32>>) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&answered));
        let client = client(router);
        let task = tokio::spawn(async move {
            let mut failures = Vec::new();
            let mut at = 0;
            while !stopped.load(Ordering::Relaxed) {
                at += 1;
                let (mut seen, mut token) = (HashSet::new(), String::new());
                for page in 0..3 {
                    let request =
                        SearchRequest { page_token: token.clone(), ..exact(&users[at % users.len()], 0) };
                    match client.search(request).await {
                        Ok(answer) => {
                            if answer.candidates.len() != K {
                                failures.push(format!("{} candidates", answer.candidates.len()));
                            }
                            let repeated = answer
                                .candidates
                                .iter()
                                .filter(|candidate| !seen.insert(candidate.video_id))
                                .count();
                            if repeated > 0 {
                                failures.push(format!("{repeated} repeated on page {page}"));
                            }
                            count.fetch_add(1, Ordering::Relaxed);
                            token = answer.next_page_token;
                        }
                        // The generations of the first page are gone: the caller begins again.
                        Err(error) if page > 0 && error.to_string().contains("page_token") => break,
                        Err(error) => failures.push(error.to_string()),
                    }
                }
            }
            failures
        });
        Self { stop, answered, task }
    }

    async fn end(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        let failures = self.task.await.unwrap();
        let answered = self.answered.load(Ordering::Relaxed);
        assert!(failures.is_empty() && answered > 0, "{answered} answers, failures: {failures:#?}");
        answered
    }
}

async fn until_routed(router: &Served, shards: u32) {
    let began = Instant::now();
    loop {
        let answer = client(router).search(exact(&[1.0; crate::place::DIM], 0)).await;
        let coverage = answer.as_ref().ok().and_then(|answer| answer.coverage);
        if coverage.is_some_and(|found| (found.shards_total, found.shards_answered) == (shards, shards)) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{answer:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn divisions_and_generations_change_under_load_without_a_failed_search() {
    let Some(place) = Place::new(1) else { return };
    place.divide(2);
    let two = [place.serve("a", "0/2"), place.serve("b", "1/2")];
    let router = place.route();
    let users = place.rows("users_test.npy");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        until_routed(&router, 2).await;
        let load = Load::start(&router, users.clone());
        // Generations.
        let swaps = if std::env::var_os("SHORTLIST_CLUSTER_LONG").is_some() { 50 } else { 3 };
        for generation in 2..2 + swaps {
            for (shard, server) in ["0/2", "1/2"].iter().zip(&two) {
                place.rebuild(&["--shard", shard, "--nats", &place.nats()]);
                until_generation(server, generation).await;
            }
        }
        // Twice as many shards, and back.
        for command in place.cluster(&["plan", "--shards", "4", "--index", "videos"]).lines() {
            if let Some(command) = command.trim().strip_prefix("shortlist ") {
                run(shortlist().args(command.split(' ')));
            }
        }
        let four: Vec<Served> =
            (0..4).map(|shard| place.serve(&format!("four-{shard}"), &format!("{shard}/4"))).collect();
        until_routed(&router, 4).await;
        place.cluster(&["apply", "--shards", "2"]);
        until_routed(&router, 2).await;
        four.iter().for_each(Served::terminate);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let answered = load.end().await;
        eprintln!(
            "{} generations swapped, 2, 4 and 2 shards: {answered} searches answered, none failed",
            2 * swaps
        );
    });
}

/// A takedown is acknowledged while a replica does not run. Once it runs again, it returns the video to nobody.
#[test]
fn a_takedown_reaches_a_replica_that_was_cut_off() {
    let Some(place) = Place::new(1) else { return };
    place.divide(1);
    let (stopped, other) = (place.serve("a", "0/1"), place.serve("b", "0/1"));
    let users = place.rows("users_test.npy");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let query = &users[0];
        let best = client(&other).search(exact(query, 0)).await.unwrap().candidates[0].video_id;
        stopped.signal("STOP");
        let request = TakedownRequest {
            index: "videos".to_owned(),
            video_ids: vec![best],
            ..TakedownRequest::default()
        };
        let sequence = client(&other).takedown(request).await.unwrap().sequence;
        stopped.signal("CONT");
        let began = Instant::now();
        loop {
            match client(&stopped).search(exact(query, sequence)).await {
                Ok(answer) => {
                    assert!(answer.candidates.iter().all(|candidate| candidate.video_id != best));
                    break;
                }
                Err(error) => assert!(began.elapsed() < Duration::from_secs(30), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}
