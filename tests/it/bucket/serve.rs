//! A real server of an index in a bucket.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use shortlist::bucket::publish;
use shortlist::index::{IndexStore, generation_name};
use shortlist::service::proto::admin_client::AdminClient;
use shortlist::service::proto::retrieval_client::RetrievalClient;
use shortlist::service::proto::{GetStatusRequest, RebuildRequest};
use tonic::Code;

use super::places::Place;
use crate::harness::process::{Served, shortlist};
use crate::harness::{DIM, TestIndex, channel, eventually, http1_get, request};

fn serve(place: &Place, cache: &Path) -> Command {
    let mut command = place.with(shortlist());
    command.args(["serve", "--listen", "127.0.0.1:0", "--index", &format!("videos={}", place.url)]);
    command.arg("--cache").arg(cache);
    command
}

fn publish_next(place: &Place, index: &mut TestIndex) -> u64 {
    let generation = index.publish(60);
    publish(&place.bucket(), &IndexStore::new(index.dir()), generation, &|_, _| true).unwrap().generation
}

async fn generation_of(served: &Served) -> u64 {
    let mut admin = AdminClient::new(channel(served.address).await);
    let status = admin.get_status(GetStatusRequest { index: "videos".into() }).await.unwrap().into_inner();
    status.indexes[0].generation
}

async fn until_generation(served: &Served, generation: u64) {
    eventually("the generation", async || generation_of(served).await == generation).await;
}

async fn metric(served: &Served, name: &str) -> f64 {
    let page = http1_get(served.address, "/metrics").await;
    let name = format!("{name}{{index=\"videos\"}} ");
    page.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap()
}

/// Searches until `stop` is set, and counts the answers.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    searching: tokio::task::JoinHandle<()>,
}

impl Load {
    async fn on(served: &Served) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut client = RetrievalClient::new(channel(served.address).await);
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&answered));
        let searching = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                let found = client.search(request(&[1.0; DIM], 5)).await.unwrap().into_inner();
                assert_eq!(found.candidates.len(), 5);
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, answered, searching }
    }

    /// Waits for further answers, and returns whether every search was answered.
    async fn end(self) {
        let before = self.answered.load(Ordering::Relaxed);
        eventually("answers", async || {
            self.answered.load(Ordering::Relaxed) > before + 10 || self.searching.is_finished()
        })
        .await;
        self.stop.store(true, Ordering::Relaxed);
        self.searching.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn publications_are_swapped_in_under_load_and_damaged_ones_are_not() {
    for place in tokio::task::spawn_blocking(Place::all).await.unwrap() {
        let (mut index, cache) = (TestIndex::new(60), tempfile::tempdir().unwrap());
        publish(&place.bucket(), &IndexStore::new(index.dir()), 1, &|_, _| true).unwrap();
        let (served, _log) = Served::logged(serve(&place, cache.path()));
        assert!(served.announcement.contains("(generation 1)"), "{}", served.announcement);
        let load = Load::on(&served).await;
        assert_eq!(publish_next(&place, &mut index), 2);
        until_generation(&served, 2).await;
        assert_eq!(metric(&served, "shortlist_bucket_up").await, 1.0);
        assert_eq!(metric(&served, "shortlist_bucket_failures_total").await, 0.0);

        // Damaged after this server has it.
        assert_eq!(publish_next(&place, &mut index), 3);
        until_generation(&served, 3).await;
        let name = generation_name(3);
        tokio::task::block_in_place(|| {
            let mut bytes = place.read(&name);
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            place.write(&name, bytes);
        });
        // A replica that starts now cannot have it, and serves the one before.
        let other_cache = tempfile::tempdir().unwrap();
        let (other, other_log) = Served::logged(serve(&place, other_cache.path()));
        assert!(other.announcement.contains("(generation 2)"), "{}", other.announcement);
        let error = other_log.until("passed over an object in the bucket").await["error"].to_string();
        assert!(error.contains(&name), "{error}");
        assert!(metric(&other, "shortlist_bucket_failures_total").await >= 1.0);
        // The next one is sound.
        assert_eq!(publish_next(&place, &mut index), 4);
        until_generation(&served, 4).await;
        until_generation(&other, 4).await;
        load.end().await;

        // Two are kept.
        let store = IndexStore::new(cache.path().join("videos"));
        eventually("the removal", async || store.generations().unwrap() == [3, 4]).await;
        // Its generations are built elsewhere.
        let mut admin = AdminClient::new(channel(served.address).await);
        let refused = admin.rebuild(RebuildRequest { index: "videos".into() }).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains(&place.url), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_bucket_a_server_serves_what_it_has() {
    let Some(mut place) = tokio::task::spawn_blocking(Place::s3).await.unwrap() else { return };
    let (index, cache) = (TestIndex::new(60), tempfile::tempdir().unwrap());
    publish(&place.bucket(), &IndexStore::new(index.dir()), 1, &|_, _| true).unwrap();
    let (served, log) = Served::logged(serve(&place, cache.path()));
    place.kill();
    let error = log.until("cannot mirror the bucket").await["error"].to_string();
    assert!(error.contains(&place.url), "{error}");
    assert_eq!(metric(&served, "shortlist_bucket_up").await, 0.0);
    let load = Load::on(&served).await;
    load.end().await;
    drop(served);
    // A start without the bucket.
    let (served, log) = Served::logged(serve(&place, cache.path()));
    assert!(served.announcement.contains("(generation 1)"), "{}", served.announcement);
    log.until("serving the newest generation in the cache").await;
    Load::on(&served).await.end().await;
}
