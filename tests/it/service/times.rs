//! Times over gRPC: written, replayed, looked up and compared.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shortlist::base::instant::Instant;
use shortlist::rules::Filter;
use shortlist::service::proto;
use shortlist::service::proto::attribute_value::Value;
use shortlist::service::proto::catalog_client::CatalogClient;
use shortlist::service::proto::lookup::State;
use shortlist::service::proto::{
    AttributeValue, GetRequest, Lookup, TimeRange, UpsertRequest, Vector, Video, time,
};

use crate::harness::{DIM, TestIndex, TestServer, request};

/// The first and the last second of a `google.protobuf.Timestamp`.
const FIRST: i64 = -62_135_596_800;
const LAST: i64 = 253_402_300_799;

type Wire = prost_types::Timestamp;

/// Times near the borders of the proto and of the epoch, and anywhere between.
fn instants() -> Vec<Wire> {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let nanos = [0, 1, 999, 1_000, 999_999_000, 999_999_999];
    let borders = [FIRST, FIRST + 1, -1, 0, LAST - 93_600, LAST - 86_399, LAST - 1, LAST];
    let near = borders.iter().flat_map(|seconds| nanos.map(|nanos| Wire { seconds: *seconds, nanos }));
    let mut anywhere =
        || Wire { seconds: random.random_range(FIRST..=LAST), nanos: random.random_range(0..1_000_000_000) };
    near.chain((0..50).map(|_| anywhere())).collect()
}

fn nanos(at: &Wire) -> i128 {
    i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos)
}

/// Rounded down to the microsecond.
fn stored(at: &Wire) -> Wire {
    Wire { nanos: at.nanos / 1_000 * 1_000, ..*at }
}

fn videos(times: &[Wire], of: impl Fn(Wire, Video) -> Video) -> Vec<Video> {
    let vector = Some(Vector { values: vec![0.5; DIM], packed: None });
    let video =
        |(at, id): (&Wire, u64)| of(*at, Video { video_id: id, vector: vector.clone(), ..Video::default() });
    times.iter().zip(0..).map(video).collect()
}

async fn written(server: &TestServer, videos: Vec<Video>) -> Vec<u64> {
    let ids = videos.iter().map(|video| video.video_id).collect();
    let mut catalog = CatalogClient::new(server.channel().await);
    let answer = catalog.upsert(UpsertRequest { videos, ..UpsertRequest::default() }).await.unwrap();
    assert!(answer.get_ref().errors.is_empty(), "{answer:?}");
    ids
}

async fn found(server: &TestServer, video_ids: Vec<u64>) -> Vec<Lookup> {
    let request = GetRequest { video_ids, return_attributes: vec!["*".to_owned()], ..GetRequest::default() };
    CatalogClient::new(server.channel().await).get(request).await.unwrap().into_inner().results
}

async fn matched(server: &TestServer, filter: proto::Filter) -> Vec<u64> {
    let request = proto::SearchRequest { filter: Some(filter), ..request(&[1.0; DIM], 1_000) };
    let answer = server.retrieval().await.search(request).await.unwrap().into_inner();
    let mut ids: Vec<u64> = answer.candidates.iter().map(|candidate| candidate.video_id).collect();
    ids.sort_unstable();
    ids
}

/// Restarts the server, which replays its log.
async fn restarted(server: TestServer, index: &TestIndex) -> TestServer {
    server.stop().await;
    TestServer::of(index).await
}

#[tokio::test]
async fn every_time_of_the_proto_is_stored_and_compared() {
    let index = TestIndex::new(3);
    let mut server = TestServer::of(&index).await;
    let times = instants();
    let attribute = |at| AttributeValue { value: Some(Value::Timestamp(at)) };
    let of = |at, video| Video { attributes: [("published_at".to_owned(), attribute(at))].into(), ..video };
    let ids = written(&server, videos(&times, of)).await;
    for is_replayed in [false, true] {
        if is_replayed {
            server = restarted(server, &index).await;
        }
        for (lookup, at) in found(&server, ids.clone()).await.iter().zip(&times) {
            let value = &lookup.video.as_ref().unwrap().attributes["published_at"];
            assert_eq!(*value, attribute(stored(at)));
        }
    }
    for bound in times.iter().step_by(3) {
        let at = Some(proto::Time { time: Some(time::Time::At(*bound)) });
        let text = Instant::from_nanosecond(nanos(bound)).unwrap();
        type Holds = fn(&i128, &i128) -> bool;
        let comparisons: [(&str, TimeRange, Holds); 4] = [
            ("<", TimeRange { lt: at, ..TimeRange::default() }, i128::lt),
            ("<=", TimeRange { lte: at, ..TimeRange::default() }, i128::le),
            (">", TimeRange { gt: at, ..TimeRange::default() }, i128::gt),
            (">=", TimeRange { gte: at, ..TimeRange::default() }, i128::ge),
        ];
        for (operator, range, holds) in comparisons {
            // The videos of the index are of the first seconds of 1970.
            let range = TimeRange { attribute: "published_at".to_owned(), ..range };
            let condition = proto::Condition { condition: Some(proto::condition::Condition::Time(range)) };
            let wire = proto::Filter { must: vec![condition], ..proto::Filter::default() };
            let parsed: Filter = format!("published_at {operator} {text}").parse().unwrap();
            assert_eq!(proto::Filter::from(parsed), wire, "{operator} {text}");
            let mut expected = ids.clone();
            expected.retain(|id| holds(&nanos(&stored(&times[*id as usize])), &nanos(bound)));
            let mut found = matched(&server, wire).await;
            found.retain(|id| ids.contains(id));
            assert_eq!(found, expected, "{operator} {text}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_video_expires_at_its_time_and_not_before() {
    let index = TestIndex::new(3);
    let mut server = TestServer::of(&index).await;
    let times = instants();
    let ids = written(&server, videos(&times, |at, video| Video { expires_at: Some(at), ..video })).await;
    let now = jiff::Timestamp::now().as_second();
    for is_replayed in [false, true] {
        if is_replayed {
            server = restarted(server, &index).await;
        }
        for (lookup, at) in found(&server, ids.clone()).await.iter().zip(&times) {
            if at.seconds <= now {
                assert_eq!(lookup.state(), State::Unknown, "{at:?}");
            } else {
                assert_eq!(lookup.video.as_ref().unwrap().expires_at, Some(stored(at)), "{at:?}");
            }
        }
    }
    server.stop().await;
}
