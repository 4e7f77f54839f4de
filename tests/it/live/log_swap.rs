//! Swaps of generations during searches and writes: rebuilds and rollbacks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use shortlist::service::proto::catalog_client::CatalogClient;
use shortlist::service::proto::rebuild_status::State;
use shortlist::service::proto::{
    ActivateRequest, DeleteRequest, GetStatusRequest, IndexStatus, RebuildRequest, UpsertRequest, Vector,
    Video,
};

use crate::harness::{DIM, TestIndex, TestServer, eventually, request};

const SWAPS: u64 = 200;
const SEARCHERS: u64 = 2;

/// Repeatedly upserts a video that scores best, checks that it is found, deletes it, and checks that it is not.
async fn write(server: &TestServer, done: Arc<AtomicBool>) -> u64 {
    let mut catalog = CatalogClient::new(server.channel().await);
    let mut retrieval = server.retrieval().await;
    let mut rounds = 0;
    while !done.load(Ordering::Relaxed) {
        let video_id = 1 + rounds % 50;
        let vector = Some(Vector { values: vec![1_000.0; DIM], packed: None });
        let videos = vec![Video { video_id, vector, ..Video::default() }];
        let upserted = catalog.upsert(UpsertRequest { videos, ..UpsertRequest::default() }).await.unwrap();
        let mut best = request(&[1.0; DIM], 1);
        best.min_sequence = upserted.into_inner().sequence;
        let seen = retrieval.search(best.clone()).await.unwrap().into_inner();
        assert_eq!(seen.candidates[0].video_id, video_id, "upsert {rounds} is not seen");
        assert!(seen.sequence >= best.min_sequence);
        let video_ids = vec![video_id];
        let deleted = catalog.delete(DeleteRequest { video_ids, ..DeleteRequest::default() }).await.unwrap();
        best.min_sequence = deleted.into_inner().sequence;
        let seen = retrieval.search(best).await.unwrap().into_inner();
        assert!(seen.candidates[0].score < 8_000.0, "delete {rounds} is not seen");
        rounds += 1;
    }
    rounds
}

async fn status(server: &TestServer) -> IndexStatus {
    server.admin().await.get_status(GetStatusRequest::default()).await.unwrap().into_inner().indexes.remove(0)
}

/// The generations of an index that this process has mapped, including removed files.
fn mapped(index: &TestIndex) -> BTreeSet<String> {
    let dir = index.dir().canonicalize().unwrap().display().to_string();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let paths = maps.lines().filter_map(|line| line.find(&dir).map(|at| line[at..].to_owned()));
    paths.filter(|path| path.contains("generation-")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn swaps_under_load_with_writes_fail_nothing_and_hide_no_write() {
    let index = TestIndex::new(300);
    let server = Arc::new(TestServer::of(&index).await);
    let done = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let mut searchers = Vec::new();
    for _ in 0..SEARCHERS {
        let (server, done, answered) = (Arc::clone(&server), Arc::clone(&done), Arc::clone(&answered));
        searchers.push(tokio::spawn(async move {
            let mut client = server.retrieval().await;
            while !done.load(Ordering::Relaxed) {
                let answer = client.search(request(&[0.5; DIM], 20)).await.expect("no request fails");
                assert_eq!(answer.into_inner().candidates.len(), 20);
                answered.fetch_add(1, Ordering::Relaxed);
                // Moderate load.
                tokio::time::sleep(Duration::from_micros(500)).await;
            }
        }));
    }
    let writer = {
        let (server, done) = (Arc::clone(&server), Arc::clone(&done));
        tokio::spawn(async move { write(&server, done).await })
    };
    let mut admin = server.admin().await;
    for swap in 0..SWAPS {
        let before = (status(&server).await.generation, answered.load(Ordering::Relaxed));
        if swap % 2 == 0 {
            admin.rebuild(RebuildRequest::default()).await.unwrap();
            eventually("a rebuild", async || {
                let rebuild = status(&server).await.rebuild.unwrap();
                assert!(!matches!(rebuild.state(), State::Failed | State::Cancelled), "{rebuild:?}");
                rebuild.state() == State::Done
            })
            .await;
        } else {
            let others = status(&server).await.available_generations;
            let generation = *others.iter().find(|other| **other != before.0).unwrap();
            let activate = ActivateRequest { generation, ..ActivateRequest::default() };
            admin.activate(activate).await.unwrap();
        }
        assert_ne!(status(&server).await.generation, before.0);
        // Wait until searches have used this generation.
        eventually("answers", async || answered.load(Ordering::Relaxed) > before.1 + SEARCHERS).await;
    }
    eventually("old generations to be unmapped", async || mapped(&index).len() <= 2).await;
    done.store(true, Ordering::Relaxed);
    for searcher in searchers {
        searcher.await.unwrap();
    }
    let rounds = writer.await.unwrap();
    assert!(rounds > SWAPS, "only {rounds} writes were looked for");
    let found = status(&server).await;
    assert_eq!(found.available_generations.len(), 2, "{:?}", found.available_generations);
}
