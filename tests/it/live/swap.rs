//! Swaps of generations under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use shortlist::engine::{Engine, EngineOptions, MemoryPolicy, Refresh};
use shortlist::index::{IndexStore, MemoryMode, SectionKind};
use shortlist::service::ServiceOptions;
use shortlist::service::proto::{self, ActivateRequest, GetStatusRequest};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{DIM, Setup, TestIndex, TestServer, damage_section, eventually, request};

const SWAPS: u64 = 100;
const CLIENTS: usize = 4;
const K: u32 = 20;

/// The exact answer of a generation to `query`.
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
    // Polling by the server would only race with the refreshes below.
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
            let activate = ActivateRequest { index: "videos".to_owned(), generation, force: false };
            admin.activate(activate).await.unwrap();
        } else {
            // Published as by another process; the server finds it on refresh.
            let published = store.open_generation(generation).unwrap();
            store.activate(generation, &published).unwrap();
            let engine = Arc::clone(&server.engine);
            let refreshed = tokio::task::spawn_blocking(move || engine.refresh()).await.unwrap();
            assert!(
                matches!(refreshed[..], [Refresh::Swapped { to, .. }] if to == generation),
                "{refreshed:?}"
            );
        }
        // Wait until requests have used this generation.
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

/// Opens an engine. Returns it with the result of its first refresh.
fn first_look(index: &TestIndex) -> (Engine, Vec<Refresh>) {
    let indexes = vec![("videos".to_owned(), index.dir())];
    let engine = Engine::open(EngineOptions { indexes, threads: 1, ..EngineOptions::default() }).unwrap();
    let found = engine.refresh();
    (engine, found)
}

#[test]
fn a_start_is_checked_once_and_serves_before_that() {
    let index = TestIndex::new(50);
    let (engine, found) = first_look(&index);
    assert!(matches!(found[..], [Refresh::Checked { generation: 1, .. }]), "{found:?}");
    assert!(engine.refresh().is_empty());
    let status = engine.status("videos").unwrap();
    assert_eq!((status.serving, status.refused), (true, None));
}

#[test]
fn a_generation_found_damaged_after_the_start_gives_way_to_the_newest_sound_one() {
    for kind in [SectionKind::Vectors, SectionKind::Codes, SectionKind::Layer0, SectionKind::AttributeWords] {
        let mut index = TestIndex::new(40);
        index.publish(50);
        index.publish(60);
        damage_section(&index.generation_path(3), kind);
        let (engine, found) = first_look(&index);
        let [Refresh::Replaced { from: 3, to: 2, error, .. }] = &found[..] else { panic!("{found:?}") };
        let expected = format!("generation-00000003.index: section {kind}");
        assert!(error.to_string().contains(&expected), "{error}");
        assert!(error.to_string().contains("is damaged: expected crc32c "), "{error}");
        let status = engine.status("videos").unwrap();
        assert_eq!((status.generation, status.vectors, status.serving), (2, 50, true));
        assert_eq!(status.refused, Some(error.to_string()));
        assert!(engine.refresh().is_empty(), "what was refused once is not tried again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_passes_over_a_generation_whose_structure_is_damaged_and_says_so() {
    let mut index = TestIndex::new(50);
    index.publish(60);
    let path = index.generation_path(2);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let server = TestServer::of(&index).await;
    let status = server.engine.status("videos").unwrap();
    assert_eq!((status.generation, status.vectors), (1, 50));
    let refused = status.refused.unwrap();
    assert!(refused.contains("generation-00000002.index: truncated or grown"), "{refused}");
    server.stop().await;
}

/// The health of a service, and the result of a search.
async fn serves(server: &TestServer, service: &str) -> (ServingStatus, Result<usize, Status>) {
    let service = service.to_owned();
    let health = HealthClient::new(server.channel().await).check(HealthCheckRequest { service }).await;
    let answer = server.retrieval().await.search(request(&[1.0; DIM], 5)).await;
    (health.unwrap().into_inner().status(), answer.map(|answer| answer.into_inner().candidates.len()))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_with_nothing_sound_left_is_out_of_service_until_something_is_published() {
    let mut index = TestIndex::new(50);
    damage_section(&index.generation_path(1), SectionKind::Codes);
    let service = ServiceOptions { poll_interval: Duration::from_millis(5), ..ServiceOptions::default() };
    let server = TestServer::start(&[("videos", &index)], Setup { service, ..Setup::default() }).await;
    server.until("shortlist_serving{index=\"videos\"}", 0.0).await;
    for name in ["videos", ""] {
        let (health, answer) = serves(&server, name).await;
        assert_eq!(health, ServingStatus::NotServing, "{name:?}");
        let status = answer.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().starts_with("index \"videos\" is out of service"), "{status}");
        assert!(status.message().contains("section codes is damaged: expected crc32c "), "{status}");
    }
    let status = server.admin().await.get_status(GetStatusRequest::default()).await.unwrap().into_inner();
    assert!(!status.indexes[0].serving && status.indexes[0].refused.contains("section codes is damaged"));
    let activate = ActivateRequest { index: "videos".to_owned(), generation: 1, force: false };
    let refused = server.admin().await.activate(activate).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");

    index.publish(60);
    server.until("shortlist_serving{index=\"videos\"}", 1.0).await;
    for name in ["videos", ""] {
        let (health, answer) = serves(&server, name).await;
        assert_eq!((health, answer.unwrap()), (ServingStatus::Serving, 5), "{name:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_searched_in_memory_when_asked_and_answers_the_same() {
    let query = [0.5, -1.0, 0.25, 1.0, 0.0, -0.75, 0.5, 1.5];
    let mut index = TestIndex::new(400);
    let service = ServiceOptions { poll_interval: Duration::from_millis(5), ..ServiceOptions::default() };
    let setup = Setup { memory: MemoryPolicy::Resident, service, ..Setup::default() };
    let server = TestServer::start(&[("videos", &index)], setup).await;
    let mut client = server.retrieval().await;
    let resident = "shortlist_resident{index=\"videos\"}";
    for generation in [1u32, 2] {
        server.until("shortlist_generation{index=\"videos\"}", f64::from(generation)).await;
        server.until(resident, 1.0).await;
        let status = server.engine.status("videos").unwrap();
        assert_eq!((status.generation, status.memory), (generation.into(), MemoryMode::Resident));
        let response = client.search(request(&query, K)).await.unwrap().into_inner();
        let found: Vec<(u64, f32)> =
            response.candidates.iter().map(|candidate| (candidate.video_id, candidate.score)).collect();
        assert_eq!((response.generation, found), (generation.into(), expected(&index, &query)));
        if generation == 1 {
            index.publish(300);
        }
    }
    let mut admin = server.admin().await;
    let activate = ActivateRequest { index: "videos".to_owned(), generation: 1, force: false };
    let activated = admin.activate(activate).await.unwrap().into_inner().index.unwrap();
    assert_eq!(activated.generation, 1);
    eventually("the copy", async || {
        let status = admin.get_status(GetStatusRequest::default()).await.unwrap().into_inner();
        status.indexes[0].memory() == proto::MemoryMode::Resident
    })
    .await;
    server.stop().await;
}
