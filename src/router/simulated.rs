//! A router over replicas that are late, fail, hang and send nonsense, at random: each answer is exact for the shards that it covers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Status;

use super::all::Boxed;
use super::gather::{Ask, Gather};
use super::metrics::RouterMetrics;
use super::ranked::Ranking;
use super::replica::Replica;
use super::shard::ShardCalls;
use super::tests::{Server, Video};
use super::transport::{Call, Reply, Transport};
use super::wanted::Wanted;
use super::{completeness, places};
use crate::base::id::VideoId;
use crate::base::partition::Shard;
use crate::service::parts::search_request;
use crate::service::proto::search_request::Query;
use crate::service::proto::{Cap, Fresh, SearchParams, SearchRequest, SearchResponse, Vector, search_params};

const SEEDS: u64 = 1_000;
/// Simulations at a time.
const AT_ONCE: u64 = 100;
const SEARCHES: usize = 12;
const SHARDS: u32 = 4;
const DEADLINE: Duration = Duration::from_millis(150);
/// Only a hang takes longer.
const HANG: Duration = Duration::from_secs(30);

/// How a replica behaves.
#[derive(Clone, Copy, Debug)]
enum Mood {
    Sound,
    Slow,
    Failing,
    Hanging,
    /// Sends answers that no sound replica sends.
    Lying,
    /// Any of the others, call by call.
    Moody,
}

const MOODS: [Mood; 6] = [Mood::Sound, Mood::Slow, Mood::Failing, Mood::Hanging, Mood::Lying, Mood::Moody];

struct Faulty {
    server: Arc<Server>,
    mood: Mood,
    random: Mutex<ChaCha8Rng>,
    calls: Arc<AtomicUsize>,
}

impl Transport for Faulty {
    fn call(&self, call: Call, _: Duration) -> Boxed<'static, Result<Reply, Status>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mut random = self.random.lock();
        let mood = match self.mood {
            Mood::Moody => MOODS[random.random_range(0..5)],
            mood => mood,
        };
        let usual = Duration::from_micros(random.random_range(0..2_000));
        let (after, lie) = match mood {
            Mood::Slow => (usual + Duration::from_millis(random.random_range(5..300)), None),
            Mood::Hanging => (HANG, None),
            Mood::Lying => (usual, Some(random.random_range(0..4))),
            _ => (usual, None),
        };
        let server = Arc::clone(&self.server);
        Box::pin(async move {
            tokio::time::sleep(after).await;
            let Call::Search(request) = call else { return Err(Status::internal("another call")) };
            if matches!(mood, Mood::Failing) {
                return Err(Status::unavailable("on purpose"));
            }
            let mut answer = server.search(&request);
            if let Some(lie) = lie {
                change(&mut answer, lie);
            }
            Ok(Reply::Search(Box::new(answer)))
        })
    }
}

/// Makes an answer that no sound replica sends.
fn change(answer: &mut SearchResponse, lie: u32) {
    let candidates = &mut answer.candidates;
    match (lie, candidates.len()) {
        (0, 2..) => candidates.swap(0, 1),
        (1, 1..) => candidates[0].score = f32::NAN,
        (2, 1..) => candidates.push(candidates[0].clone()),
        // Of another shard.
        (_, 1..) => {
            let own = VideoId(candidates[0].video_id);
            let other = |id: &u64| Shard::of_video(VideoId(*id), SHARDS) != Shard::of_video(own, SHARDS);
            candidates[0].video_id = (0..).find(other).expect("there is one");
        }
        _ => answer.completeness = None,
    }
}

struct Simulated {
    shards: Vec<Shard>,
    calls: Vec<Arc<ShardCalls>>,
    until: Instant,
}

impl Ask for Simulated {
    fn shards(&self) -> &[Shard] {
        &self.shards
    }

    fn ask(&self, shard: usize, request: SearchRequest) -> Boxed<'_, Result<SearchResponse, Status>> {
        Box::pin(async move {
            match self.calls[shard].call(&Call::Search(request), self.until).await? {
                Reply::Search(answer) => Ok(*answer),
                _ => Err(Status::internal("another answer")),
            }
        })
    }

    fn embeddings(&self, _: usize, _: Vec<u64>) -> Boxed<'_, Result<Vec<Option<Vec<f32>>>, Status>> {
        unreachable!("no request compares embeddings")
    }
}

fn video(random: &mut ChaCha8Rng) -> Video {
    Video {
        id: random.random(),
        score: random.random_range(0..200) as f32 / 4.0,
        interest: 0,
        creator: random.random_bool(0.8).then(|| random.random_range(0..12)),
        topics: Vec::new(),
        views: 0,
        age: random.random_range(0..40),
    }
}

fn request(random: &mut ChaCha8Rng) -> SearchRequest {
    let k = random.random_range(1..60);
    let cap = Cap { attribute: "creator".to_owned(), max_per_value: random.random_range(1..6) };
    let within = Some(prost_types::Duration { seconds: random.random_range(1..40) * 3600, nanos: 0 });
    let fresh = Fresh { attribute: String::new(), within, at_least: random.random_range(0..=k) };
    SearchRequest {
        query: Some(Query::Vector(Vector { values: vec![1.0], packed: None })),
        k,
        offset: if random.random_bool(0.3) { k } else { 0 },
        caps: if random.random_bool(0.4) { vec![cap] } else { Vec::new() },
        fresh: random.random_bool(0.3).then_some(fresh),
        params: Some(SearchParams {
            effort: Some(search_params::Effort::Exact(true)),
            ..SearchParams::default()
        }),
        ..SearchRequest::default()
    }
}

/// What one simulation saw.
#[derive(Default)]
struct Seen {
    whole: usize,
    partial: usize,
    late: usize,
    extra: usize,
    asked: usize,
}

async fn simulate(seed: u64) -> Seen {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let count = random.random_range(0..400);
    let videos: Vec<Video> = (0..count).map(|_| video(&mut random)).collect();
    let now = Timestamp::now().as_second();
    let shards: Vec<Shard> = Shard::all(SHARDS).unwrap().collect();
    let own = |shard: &Shard| -> Vec<Video> {
        videos.iter().filter(|video| shard.contains(VideoId(video.id))).cloned().collect()
    };
    let metrics = RouterMetrics::default();
    let asked = Arc::new(AtomicUsize::new(0));
    // Most replicas are sound, so that most answers are whole.
    let mut shard_calls = |shard: &Shard| {
        let server = Arc::new(Server { videos: own(shard), now });
        let replicas = (0..random.random_range(1..4)).map(|replica| {
            let mood = if random.random_bool(0.6) { Mood::Sound } else { MOODS[random.random_range(0..6)] };
            let faulty = Faulty {
                server: Arc::clone(&server),
                mood,
                random: Mutex::new(ChaCha8Rng::seed_from_u64(random.random())),
                calls: Arc::clone(&asked),
            };
            Arc::new(Replica::new(replica.to_string(), Arc::new(faulty)))
        });
        Arc::new(ShardCalls::new("videos", *shard, replicas.collect(), &metrics))
    };
    let calls: Vec<Arc<ShardCalls>> = shards.iter().map(&mut shard_calls).collect();
    let mut seen = Seen::default();
    for _ in 0..SEARCHES {
        let request = request(&mut random);
        let began = Instant::now();
        let simulated = Simulated { shards: shards.clone(), calls: calls.clone(), until: began + DEADLINE };
        let checked = search_request(request.clone()).unwrap();
        let wanted = Wanted::of(request.clone(), &checked, shards.len(), Vec::new(), usize::MAX).unwrap();
        let mut gather = Gather::new(&simulated, &wanted);
        let page = match wanted.rules.has_pages() {
            true => places::page(&mut gather, 10_000).await,
            false => Ranking::new(&mut gather).page(10_000).await,
        };
        let page = page.unwrap_or_else(|status| panic!("seed {seed}: {status}"));
        completeness::reason(&mut gather, &page, 10_000).await.unwrap();
        assert!(began.elapsed() < HANG / 2, "seed {seed}");
        let found: Vec<u64> = page.found.iter().map(|found| found.row.video.0).collect();
        let answered: Vec<&Shard> = gather
            .live()
            .map(|shard| &shards[shard])
            .filter(|shard| gather.facts[shard.index() as usize].is_some())
            .collect();
        // A shard that was lost after its first answer leaves what it had said.
        if gather.is_late {
            seen.late += 1;
            continue;
        }
        let covered = Server { videos: answered.iter().flat_map(|shard| own(shard)).collect(), now };
        let expected: Vec<u64> =
            covered.search(&request).candidates.iter().map(|candidate| candidate.video_id).collect();
        assert_eq!(found, expected, "seed {seed}, {} shards answered: {request:?}", answered.len());
        match answered.len() == shards.len() {
            true => seen.whole += 1,
            false => seen.partial += 1,
        }
    }
    seen.asked = asked.load(Ordering::Relaxed);
    seen.extra = (0..SHARDS).map(|shard| metrics.of_shard("videos", shard).hedged.get() as usize).sum();
    seen
}

#[test]
fn answers_are_exact_for_the_shards_that_they_cover() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let total = runtime.block_on(async {
        let mut total = Seen::default();
        for first in (0..SEEDS).step_by(AT_ONCE as usize) {
            let mut running: JoinSet<Seen> = (first..first + AT_ONCE).map(simulate).collect();
            while let Some(seen) = running.join_next().await {
                let seen = seen.unwrap();
                total.whole += seen.whole;
                total.partial += seen.partial;
                total.late += seen.late;
                total.extra += seen.extra;
                total.asked += seen.asked;
            }
        }
        total
    });
    let Seen { whole, partial, late, extra, asked } = total;
    assert!(late < whole, "{late} cut short");
    assert!(whole > partial && partial > 0, "{whole} whole, {partial} partial");
    // 5 %, and what a shard may save up before.
    assert!(extra <= asked / 20 + SEEDS as usize * 4 * 10, "{extra} of {asked}");
}
