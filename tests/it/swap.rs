//! Generations that change places under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use shortlist::engine::Refresh;
use shortlist::index::IndexStore;
use shortlist::service::ServiceOptions;
use shortlist::service::proto::ActivateRequest;

use crate::harness::{DIM, Setup, TestIndex, TestServer, eventually, request};

const SWAPS: u64 = 100;
const CLIENTS: usize = 4;
const K: u32 = 20;

/// What each generation answers to `query`, exactly.
fn expected(index: &TestIndex, query: &[f32; DIM]) -> Vec<(u64, f32)> {
    index.exact(query, K as usize)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_swaps_under_load_fail_no_request_and_mix_no_answer() {
    let query = [0.5, -1.0, 0.25, 1.0, 0.0, -0.75, 0.5, 1.5];
    let mut index = TestIndex::new(400);
    let one = expected(&index, &query);
    index.publish(300);
    let two = expected(&index, &query);
    assert_ne!(one, two);
    // Two looks a second of the server's own would only race with those below.
    let service = ServiceOptions { poll_interval: Duration::from_secs(3600), ..ServiceOptions::default() };
    let server = TestServer::start(&[("videos", &index)], Setup { service, ..Setup::default() }).await;

    let done = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = server.retrieval().await;
        let (done, answered, one, two) = (Arc::clone(&done), Arc::clone(&answered), one.clone(), two.clone());
        clients.push(tokio::spawn(async move {
            let mut seen = [0u64; 2];
            while !done.load(Ordering::Relaxed) {
                let mut request = request(&query, K);
                request.return_attributes = vec!["title".to_owned()];
                let response = client.search(request).await.expect("no request fails").into_inner();
                let expected = if response.generation == 1 { &one } else { &two };
                let found: Vec<(u64, f32)> = response
                    .candidates
                    .iter()
                    .map(|candidate| (candidate.video_id, candidate.score))
                    .collect();
                assert_eq!(&found, expected, "a mix of two generations, or a wrong answer");
                seen[response.generation as usize - 1] += 1;
                answered.fetch_add(1, Ordering::Relaxed);
            }
            seen
        }));
    }

    let store = IndexStore::new(index.dir());
    let mut admin = server.admin().await;
    for swap in 0..SWAPS {
        let generation = 1 + swap % 2;
        let before = answered.load(Ordering::Relaxed);
        if swap % 4 < 2 {
            let activate = ActivateRequest { index: "videos".to_owned(), generation };
            admin.activate(activate).await.unwrap();
        } else {
            // As another process would publish it; the server finds it when it looks.
            let published = store.open_generation(generation).unwrap();
            store.activate(generation, &published).unwrap();
            let engine = Arc::clone(&server.engine);
            let refreshed = tokio::task::spawn_blocking(move || engine.refresh()).await.unwrap();
            assert!(
                matches!(refreshed[..], [Refresh::Swapped { to, .. }] if to == generation),
                "{refreshed:?}"
            );
        }
        // Not the next swap before this one was seen by somebody.
        eventually("requests", async || answered.load(Ordering::Relaxed) > before + CLIENTS as u64).await;
    }
    done.store(true, Ordering::Relaxed);
    let mut seen = [0u64; 2];
    for client in clients {
        let client = client.await.unwrap();
        seen = [seen[0] + client[0], seen[1] + client[1]];
    }
    assert!(seen[0] >= SWAPS / 2 && seen[1] >= SWAPS / 2, "{seen:?}");
    assert_eq!(store.manifests().unwrap().last(), Some(&(2 + SWAPS)));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_passes_over_a_damaged_generation_and_says_so() {
    let mut index = TestIndex::new(50);
    index.publish(60);
    crate::harness::damage(&index.generation_path(2));
    let server = TestServer::of(&index).await;
    let status = server.engine.status("videos").unwrap();
    assert_eq!((status.generation, status.vectors), (1, 50));
    let refused = status.refused.unwrap();
    assert!(
        refused.contains("generation-00000002.index: section") && refused.contains("damaged"),
        "{refused}"
    );
    assert!(server.engine.refresh().is_empty(), "what was refused once is not tried again");
    server.stop().await;
}
