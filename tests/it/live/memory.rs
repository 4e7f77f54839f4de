//! Copies in memory that come and go with the memory that is available: `memory = "auto"`.

use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use shortlist::base::available_memory::AvailableMemory;
use shortlist::engine::{
    Effort, Engine, EngineOptions, MemoryGauge, MemoryPolicy, RebuildOptions, RebuildState, Refresh,
    WriteMode,
};
use shortlist::index::MemoryMode;
use shortlist::live::Mutation;
use shortlist::service::ServiceOptions;

use crate::harness::{DIM, Setup, TestIndex, TestServer, eventually, request};
use crate::live::engine::{self, Ledger, VIDEOS, check, random_mutation};

const TOTAL: u64 = 1 << 40;
const PLENTY: u64 = TOTAL / 2;
/// Too little for a copy, but not so little that one is given back.
const LITTLE: u64 = TOTAL / 10;
const SHORT: u64 = TOTAL / 20;
const HOUR: Duration = Duration::from_secs(3600);
const CLIENTS: usize = 4;
const K: u32 = 20;
const QUERY: [f32; DIM] = [0.5, -1.0, 0.25, 1.0, 0.0, -0.75, 0.5, 1.5];
const RESIDENT: &str = "shortlist_resident{index=\"videos\"}";

/// The available memory, which the test sets.
struct Memory(Arc<AtomicU64>);

impl Memory {
    fn new(available: u64) -> Self {
        Self(Arc::new(AtomicU64::new(available)))
    }

    fn set(&self, available: u64) {
        self.0.store(available, Ordering::Relaxed);
    }

    /// A gauge that reads it. Nothing is copied for `wait` after a copy was given back.
    fn gauge(&self, wait: Duration) -> MemoryGauge {
        let available = Arc::clone(&self.0);
        let read = move || {
            let available = available.load(Ordering::Relaxed);
            Some(AvailableMemory { total: TOTAL, available })
        };
        MemoryGauge::new(read, wait)
    }
}

fn open(index: &TestIndex, memory: MemoryPolicy, memory_gauge: MemoryGauge) -> Engine {
    // Rebuild only on request.
    let rebuild = RebuildOptions { delta_share: 0.0, deleted_share: 0.0, ..RebuildOptions::default() };
    let options = EngineOptions {
        indexes: vec![("videos".to_owned(), index.dir())],
        threads: 1,
        is_writable: true,
        memory,
        memory_gauge,
        rebuild,
        ..EngineOptions::default()
    };
    Engine::open(options).unwrap()
}

fn open_auto(index: &TestIndex, memory: &Memory, wait: Duration) -> Engine {
    open(index, MemoryPolicy::Auto, memory.gauge(wait))
}

/// The events of a refresh, without that of the start.
fn refresh(engine: &Engine) -> Vec<Refresh> {
    let mut events = engine.refresh();
    events.retain(|event| !matches!(event, Refresh::Checked { .. }));
    events
}

fn mode(engine: &Engine) -> MemoryMode {
    engine.status("").unwrap().memory
}

fn answer(engine: &Engine) -> String {
    let response = engine.search(&engine::request(QUERY, 20, Effort::Exact), &Default::default()).unwrap();
    format!("{:?}", response.candidates)
}

async fn serve(index: &TestIndex, memory: &Memory, wait: Duration) -> TestServer {
    let service = ServiceOptions { poll_interval: Duration::from_millis(5), ..ServiceOptions::default() };
    let memory_gauge = memory.gauge(wait);
    let setup = Setup { memory: MemoryPolicy::Auto, memory_gauge, service, ..Setup::default() };
    TestServer::start(&[("videos", index)], setup).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_copy_comes_and_goes_with_the_memory_under_load_and_all_answers_are_the_same() {
    let index = TestIndex::new(400);
    let memory = Memory::new(PLENTY);
    let server = serve(&index, &memory, Duration::ZERO).await;
    let expected = index.exact(&QUERY, K as usize);
    let (done, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = server.retrieval().await;
        let (done, answered, expected) = (Arc::clone(&done), Arc::clone(&answered), expected.clone());
        clients.push(tokio::spawn(async move {
            while !done.load(Ordering::Relaxed) {
                let response =
                    client.search(request(&QUERY, K)).await.expect("no request fails").into_inner();
                let found: Vec<(u64, f32)> =
                    response.candidates.iter().map(|found| (found.video_id, found.score)).collect();
                assert_eq!(found, expected);
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    for round in 0..10 {
        for (available, is_resident, mode) in [
            (PLENTY, 1.0, MemoryMode::Resident),
            (LITTLE, 1.0, MemoryMode::Resident),
            (SHORT, 0.0, MemoryMode::Mapped),
        ] {
            memory.set(available);
            server.until(RESIDENT, is_resident).await;
            // Wait until requests have used it.
            let before = answered.load(Ordering::Relaxed);
            eventually("requests", async || answered.load(Ordering::Relaxed) > before + 2 * CLIENTS as u64)
                .await;
            assert_eq!(server.engine.status("").unwrap().memory, mode, "round {round}");
        }
    }
    done.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_memory_for_a_copy_answers_from_the_mapped_file() {
    let index = TestIndex::new(400);
    let server = serve(&index, &Memory::new(LITTLE), HOUR).await;
    eventually("the start", async || {
        server.engine.readiness("").unwrap() == shortlist::engine::Readiness::Ready
    })
    .await;
    assert_eq!(server.engine.status("").unwrap().memory, MemoryMode::Mapped);
    server.until(RESIDENT, 0.0).await;
    let response = server.retrieval().await.search(request(&QUERY, K)).await.unwrap().into_inner();
    let found: Vec<(u64, f32)> =
        response.candidates.iter().map(|found| (found.video_id, found.score)).collect();
    assert_eq!(found, index.exact(&QUERY, K as usize));
    server.stop().await;
}

#[test]
fn why_a_generation_is_not_copied_is_reported_once_per_generation() {
    let mut index = TestIndex::new(VIDEOS);
    let memory = Memory::new(LITTLE);
    let engine = open_auto(&index, &memory, HOUR);
    let whole = engine.status("").unwrap().bytes;
    let events = refresh(&engine);
    let [Refresh::NotCopied { generation: 1, shortage, .. }] = &events[..] else { panic!("{events:?}") };
    assert!(0 < shortage.bytes && shortage.bytes < whole);
    assert_eq!(shortage.memory, Some(AvailableMemory { total: TOTAL, available: LITTLE }));
    assert!(refresh(&engine).is_empty());
    memory.set(SHORT);
    assert!(refresh(&engine).is_empty(), "there is nothing to give back");
    index.publish(VIDEOS);
    let events = refresh(&engine);
    let [Refresh::Swapped { .. }, Refresh::NotCopied { generation: 2, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    // The wait is one after a copy was given back.
    memory.set(PLENTY);
    let events = refresh(&engine);
    assert!(matches!(events[..], [Refresh::Resident { generation: 2, .. }]), "{events:?}");
    assert_eq!(mode(&engine), MemoryMode::Resident);
}

#[test]
fn nothing_is_copied_if_the_memory_is_not_known() {
    let index = TestIndex::new(VIDEOS);
    let engine = open(&index, MemoryPolicy::Auto, MemoryGauge::new(|| None, HOUR));
    let events = refresh(&engine);
    assert!(
        matches!(&events[..], [Refresh::NotCopied { shortage, .. }] if shortage.memory.is_none()),
        "{events:?}"
    );
    assert!(refresh(&engine).is_empty() && mode(&engine) == MemoryMode::Mapped);
}

#[test]
fn the_other_policies_do_not_ask_for_the_memory() {
    for (memory, mode_of) in
        [(MemoryPolicy::Mapped, MemoryMode::Mapped), (MemoryPolicy::Resident, MemoryMode::Resident)]
    {
        let index = TestIndex::new(VIDEOS);
        let engine = open(&index, memory, MemoryGauge::new(|| panic!("nobody asks"), HOUR));
        refresh(&engine);
        assert!(refresh(&engine).is_empty());
        assert_eq!(mode(&engine), mode_of);
    }
}

#[test]
fn after_a_copy_was_given_back_the_next_one_waits_also_that_of_another_generation() {
    let mut index = TestIndex::new(VIDEOS);
    for (wait, is_copied) in [(HOUR, false), (Duration::ZERO, true)] {
        let memory = Memory::new(PLENTY);
        let engine = open_auto(&index, &memory, wait);
        let events = refresh(&engine);
        assert!(matches!(events[..], [Refresh::Resident { .. }]), "{events:?}");
        let expected = answer(&engine);
        memory.set(SHORT);
        let events = refresh(&engine);
        let [Refresh::GivenBack { bytes, memory: found, .. }] = events[..] else { panic!("{events:?}") };
        assert!(bytes > 0);
        assert_eq!(found, AvailableMemory { total: TOTAL, available: SHORT });
        assert_eq!((mode(&engine), answer(&engine)), (MemoryMode::Mapped, expected.clone()));
        assert!(refresh(&engine).is_empty(), "reported once");
        memory.set(PLENTY);
        for _ in 0..3 {
            refresh(&engine);
        }
        let expected_mode = if is_copied { MemoryMode::Resident } else { MemoryMode::Mapped };
        assert_eq!((mode(&engine), answer(&engine)), (expected_mode, expected));
        index.publish(VIDEOS);
        refresh(&engine);
        assert_eq!(mode(&engine), expected_mode);
    }
}

/// Random writes with takedowns and rebuilds, while the copy comes and goes. Some of the rebuilds run meanwhile.
#[test]
fn writes_and_rebuilds_are_the_same_with_and_without_a_copy() {
    for seed in 0..4 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let index = TestIndex::new(VIDEOS);
        let memory = Memory::new(PLENTY);
        let engine = open_auto(&index, &memory, Duration::ZERO);
        let mut ledger = Ledger::of(&index);
        for round in 0..12 {
            let batch: Vec<Mutation> = (0..10).map(|_| random_mutation(&mut random)).collect();
            batch.iter().for_each(|mutation| ledger.take_in(mutation));
            engine.write("", batch, WriteMode::AllOrNothing).unwrap();
            if round % 3 == 1 {
                engine.start_rebuild("").unwrap();
            }
            memory.set(if round % 2 == 0 { PLENTY } else { SHORT });
            engine.refresh();
            check(&engine, &ledger, &mut random, seed);
            if round % 3 == 1 {
                eventually_done(&engine);
            }
            engine.refresh();
            let expected = if round % 2 == 0 { MemoryMode::Resident } else { MemoryMode::Mapped };
            assert_eq!(mode(&engine), expected, "round {round}");
            check(&engine, &ledger, &mut random, seed);
        }
        assert_eq!(engine.status("").unwrap().generation, 5);
    }
}

/// Of enough videos for the rebuild to be running when the copy is given back.
#[test]
fn a_rebuild_is_published_although_the_copy_was_given_back_while_it_ran() {
    let index = TestIndex::new(3_000);
    let memory = Memory::new(PLENTY);
    let engine = open_auto(&index, &memory, HOUR);
    refresh(&engine);
    engine.start_rebuild("").unwrap();
    memory.set(SHORT);
    while mode(&engine) == MemoryMode::Resident {
        refresh(&engine);
    }
    eventually_done(&engine);
    assert_eq!((engine.status("").unwrap().generation, mode(&engine)), (2, MemoryMode::Mapped));
}

fn eventually_done(engine: &Engine) {
    let started = std::time::Instant::now();
    loop {
        let rebuild = engine.status("").unwrap().live.rebuild;
        if !rebuild.state.is_underway() {
            assert_eq!((rebuild.state, rebuild.problem), (RebuildState::Done, None));
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "still {rebuild:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The header of the file is overwritten in place, and its time of change set back: only what it says has changed.
#[test]
fn a_copy_is_kept_if_its_file_cannot_be_mapped_again() {
    let index = TestIndex::new(VIDEOS);
    let memory = Memory::new(PLENTY);
    let engine = open_auto(&index, &memory, Duration::ZERO);
    refresh(&engine);
    let expected = answer(&engine);
    let file = fs::OpenOptions::new().write(true).open(index.generation_path(1)).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(b"SHORT", 0).unwrap();
    file.set_modified(modified).unwrap();
    memory.set(SHORT);
    let events = refresh(&engine);
    let [Refresh::StaysResident { generation: 1, error, .. }] = &events[..] else { panic!("{events:?}") };
    assert!(error.to_string().contains("generation-00000001.index: "), "{error}");
    assert!(refresh(&engine).is_empty(), "reported once");
    assert_eq!((mode(&engine), answer(&engine)), (MemoryMode::Resident, expected));
}
