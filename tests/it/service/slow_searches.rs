//! The log of slow searches of a real server.

use prost_types::Duration;
use shortlist::service::proto::retrieval_client::RetrievalClient;
use shortlist::service::proto::{Cap, Exclude, Fresh, SearchParams, SearchRequest, search_params};
use tonic::Request;
use tonic::transport::Channel;

use crate::harness::log::Log;
use crate::harness::process::{Served, serve};
use crate::harness::{DIM, TestIndex, channel, eventually, http1_get, request, video_id};

const MESSAGE: &str = "slow search";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// A server for which every search is slow, with further settings.
fn slow(index: &TestIndex, settings: &[(&str, &str)]) -> (Served, Log) {
    let mut command = serve(index);
    command.env("SHORTLIST_SERVE_SLOW_SEARCH_THRESHOLD", "1ns");
    for (key, value) in settings {
        command.env(format!("SHORTLIST_SERVE_{key}"), value);
    }
    Served::logged(command)
}

async fn retrieval(served: &Served) -> RetrievalClient<Channel> {
    RetrievalClient::new(channel(served.address).await)
}

async fn counted(served: &Served) -> u64 {
    let text = http1_get(served.address, "/metrics").await;
    let name = "shortlist_slow_searches_total{index=\"default\"} ";
    let count = text.lines().find_map(|line| line.strip_prefix(name));
    count.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

#[tokio::test]
async fn a_slow_search_is_logged_with_what_it_asked_for_and_what_it_cost() {
    let index = TestIndex::new(40);
    let (served, log) = slow(&index, &[]);
    let within = Some(Duration { seconds: 3600, nanos: 0 });
    let searched = SearchRequest {
        filter_text: format!("delta <= 0 and title != \"{}\"", "x".repeat(2000)),
        exclude: Some(Exclude { video_ids: vec![video_id(1), video_id(2)], ..Exclude::default() }),
        caps: vec![Cap { attribute: "safe".to_owned(), max_per_value: 3 }],
        fresh: Some(Fresh { attribute: "published_at".to_owned(), within, at_least: 1 }),
        score_threshold: Some(-1e6),
        params: Some(SearchParams {
            effort: Some(search_params::Effort::EfSearch(77)),
            ..SearchParams::default()
        }),
        ..request(&[0.625; DIM], 4)
    };
    let mut call = Request::new(searched);
    call.metadata_mut().insert("traceparent", format!("00-{TRACE}-b7ad6b7169203331-00").parse().unwrap());
    let answer = retrieval(&served).await.search(call).await.unwrap().into_inner();
    let fields = log.until(MESSAGE).await;
    for (key, value) in [
        ("index", "default"),
        ("method", "Search"),
        ("client", "127.0.0.1"),
        ("effort", "ef_search"),
        ("completeness", "complete"),
        ("cap_attributes", "safe"),
        ("trace_id", TRACE),
    ] {
        assert_eq!(fields[key], value, "{fields}");
    }
    for (key, value) in [
        ("k", 4),
        ("offset", 0),
        ("ef_search", 77),
        ("exclusions", 2),
        ("caps", 1),
        ("fresh_at_least", 1),
        ("candidates", answer.candidates.len() as u64),
    ] {
        assert_eq!(fields[key], value, "{key}: {fields}");
    }
    assert_eq!(fields["fresh_within_seconds"], 3600.0);
    assert_eq!(fields["score_threshold"], -1e6);
    let seconds = |key: &str| fields[key].as_f64().unwrap_or_else(|| panic!("{key}: {fields}"));
    assert!(seconds("seconds") >= seconds("compute_seconds") && seconds("queue_seconds") >= 0.0, "{fields}");
    assert!(fields["distances"].as_u64().unwrap() > 0 && fields["hops"].is_u64(), "{fields}");
    assert!(!fields["plan"].as_str().unwrap().is_empty());
    let filter = fields["filter"].as_str().unwrap();
    assert!(filter.starts_with("delta <= 0") && filter.ends_with("x…"), "{filter}");
    assert!(filter.len() < 1100, "{}", filter.len());
    for absent in
        ["embeddings", "interests", "seeds", "problem", "left_out", "target_recall", "exclusion_bytes"]
    {
        assert!(fields.get(absent).is_none(), "{absent}: {fields}");
    }
    let event = log.events().into_iter().find(|event| event["fields"]["message"] == MESSAGE).unwrap();
    assert_eq!((&event["level"], &event["target"]), (&"WARN".into(), &"shortlist::slow_search".into()));
    assert!(!event.to_string().contains("0.625"), "{event}");
    assert_eq!(counted(&served).await, 1);
}

#[tokio::test]
async fn embeddings_are_logged_only_if_asked_for() {
    let index = TestIndex::new(20);
    let (served, log) = slow(&index, &[("SLOW_SEARCH_EMBEDDINGS", "true")]);
    let query = [0.5, -1.0, 0.25, 3.0, 0.0, 1e-7, 2.0, 4.0];
    retrieval(&served).await.search(request(&query, 2)).await.unwrap();
    let fields = log.until(MESSAGE).await;
    let logged: Vec<f32> = fields["embeddings"]
        .as_str()
        .unwrap()
        .split(',')
        .map(|component| component.parse().unwrap())
        .collect();
    assert_eq!(logged, query);
}

#[tokio::test]
async fn more_slow_searches_than_allowed_per_second_are_counted_in_the_next_line() {
    let index = TestIndex::new(20);
    let (served, log) = slow(&index, &[("SLOW_SEARCH_PER_SECOND", "1")]);
    let mut client = retrieval(&served).await;
    let mut searches = 0;
    eventually("a line that counts others", async || {
        client.search(request(&[1.0; DIM], 2)).await.unwrap();
        searches += 1;
        log.of(MESSAGE).iter().any(|fields| fields["left_out"].is_u64())
    })
    .await;
    assert_eq!(counted(&served).await, searches);
    let lines = log.of(MESSAGE);
    let left_out: u64 = lines.iter().filter_map(|fields| fields["left_out"].as_u64()).sum();
    assert!(left_out > 0 && lines.len() as u64 + left_out <= searches, "{lines:?} of {searches}");
}

#[tokio::test]
async fn the_target_can_be_filtered_and_every_slow_search_counts() {
    let index = TestIndex::new(20);
    let (mut served, log) = slow(&index, &[("LOG", "info,shortlist::slow_search=off")]);
    retrieval(&served).await.search(request(&[1.0; DIM], 2)).await.unwrap();
    assert_eq!(counted(&served).await, 1);
    served.terminate();
    assert!(served.process.wait().unwrap().success());
    assert!(log.end().iter().all(|event| event["fields"]["message"] != MESSAGE));
}

#[tokio::test]
async fn by_default_no_search_is_slow() {
    let index = TestIndex::new(20);
    let (mut served, log) = Served::logged(serve(&index));
    retrieval(&served).await.search(request(&[1.0; DIM], 2)).await.unwrap();
    assert_eq!(counted(&served).await, 0);
    served.terminate();
    assert!(served.process.wait().unwrap().success());
    assert!(log.end().iter().all(|event| event["fields"]["message"] != MESSAGE));
}
