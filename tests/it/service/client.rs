//! The client for Rust over real servers: balance, health, retries, deadlines, tokens and certificates.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use shortlist::service::proto::{
    AttributeValue, ExplainRequest, GetRequest, GetStatusRequest, TakedownRequest, UpsertRequest, Vector,
    Video, attribute_value, lookup, search_stream_item,
};
use shortlist::service::{AccessOptions, KeyOptions, Role, ServiceLimits, ServiceOptions};
use shortlist_client::{Client, Code, Error, SearchRequest, Tls};
use tokio::net::TcpListener;

use crate::access::tls::Files;
use crate::harness::credentials::{Authority, key, with_access};
use crate::harness::wire::ids;
use crate::harness::{DIM, Setup, TestIndex, TestServer, eventually, row_of, video_id};

const QUERY: [f32; DIM] = [0.5, -1.0, 0.25, 2.0, -0.125, 1.0, 0.75, -0.5];

fn search() -> SearchRequest {
    SearchRequest::of_vector(&QUERY).with_k(5).with_exact()
}

fn client(servers: &[&TestServer]) -> Client {
    let addresses: Vec<String> = servers.iter().map(|server| server.address.to_string()).collect();
    Client::builder(&addresses.join(",")).build().unwrap()
}

#[tokio::test]
async fn every_call_reaches_the_server_and_rules_are_sent() {
    let index = TestIndex::new(100);
    let server = TestServer::of(&index).await;
    let client = client(&[&server]);
    let best: Vec<u64> = index.exact(&QUERY, 100).into_iter().map(|(id, _)| id).collect();
    let rules = search()
        .with_filter("safe = true")
        .with_exclude([best[0], best[1]])
        .with_attributes(["title"])
        .with_stats()
        .with_index("videos");
    let expected = best[2..].iter().copied().filter(|id| row_of(*id).is_multiple_of(2)).take(5);
    let answer = client.search(rules.clone()).await.unwrap();
    assert_eq!(ids(&answer), expected.collect::<Vec<_>>());
    assert!(answer.candidates.iter().all(|found| found.attributes.contains_key("title")));
    let of_interests = SearchRequest::of_interests([(&QUERY[..], 1.0)]).with_exact().with_k(5);
    let wrong = search().with_k(0);
    let results = client.batch_search(vec![of_interests, wrong, rules.clone()]).await.unwrap();
    assert_eq!(ids(results[0].as_ref().unwrap()), best[..5]);
    let refused: &Error = results[1].as_ref().unwrap_err();
    assert_eq!((refused.code, refused.fields[0].path.as_str()), (Code::InvalidArgument, "requests[1].k"));
    assert_eq!(results[2].as_ref().unwrap().candidates, answer.candidates);

    let mut answers = client.stream_search(tokio_stream::iter([search(), search()])).await.unwrap();
    let mut count = 0;
    while let Some(item) = answers.message().await.unwrap() {
        let Some(search_stream_item::Item::Response(answer)) = item.item else { panic!("{item:?}") };
        assert_eq!(ids(&answer), best[..5]);
        count += 1;
    }
    assert_eq!(count, 2);

    let value = Some(attribute_value::Value::Keyword("new".to_owned()));
    let video = Video {
        video_id: 7,
        vector: Some(Vector::packed(&QUERY.map(|component| component * 10.0))),
        attributes: [("title".to_owned(), AttributeValue { value })].into(),
        ..Video::default()
    };
    let written = client.upsert(UpsertRequest { videos: vec![video], ..Default::default() }).await.unwrap();
    let seen = client.search(search().with_min_sequence(written.sequence)).await.unwrap();
    assert_eq!(ids(&seen)[0], 7);
    let similar = client.search(SearchRequest::similar_to([7]).with_k(3)).await.unwrap();
    assert_eq!(similar.candidates.len(), 3);
    let explain = ExplainRequest { request: Some(search()), video_id: 7, ..ExplainRequest::default() };
    assert_eq!(client.explain(explain).await.unwrap().rank, Some(1));
    client.takedown(TakedownRequest { video_ids: vec![7], ..Default::default() }).await.unwrap();
    let got = client.get(GetRequest { video_ids: vec![7], ..Default::default() }).await.unwrap();
    assert_eq!(got.results[0].state(), lookup::State::TakenDown);
    let status = client.get_status(GetStatusRequest::default()).await.unwrap();
    assert_eq!((status.indexes[0].vectors, status.indexes[0].takedowns), (100, 1));
    let missing = client.search(search().with_index("music")).await.unwrap_err();
    assert_eq!((missing.code, missing.resource.unwrap().name.as_str()), (Code::NotFound, "music"));
}

#[tokio::test]
async fn no_call_fails_while_one_of_two_servers_stops() {
    let (first, second) = (TestIndex::new(50), TestIndex::new(50));
    let (first, second) = (TestServer::of(&first).await, TestServer::of(&second).await);
    let client = client(&[&first, &second]);
    let answered = Arc::new(AtomicUsize::new(0));
    let callers = (0..4).map(|_| {
        let (client, answered) = (client.clone(), Arc::clone(&answered));
        tokio::spawn(async move {
            for _ in 0..300 {
                client.search(search()).await?;
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, Error>(())
        })
    });
    let callers: Vec<_> = callers.collect();
    eventually("some answers", async || answered.load(Ordering::Relaxed) > 200).await;
    let calls = "shortlist_requests_total{index=\"videos\",method=\"Search\",code=\"OK\"}";
    assert!(first.metric(calls).await > Some(20.0) && second.metric(calls).await > Some(20.0));
    first.stop().await;
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    assert_eq!(answered.load(Ordering::Relaxed), 1200);
}

#[tokio::test]
async fn a_server_that_does_not_serve_is_left_out() {
    let index = TestIndex::new(50);
    let server = TestServer::of(&index).await;
    // It answers searches with UNIMPLEMENTED, which is not repeated.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let unhealthy = listener.local_addr().unwrap();
    let (reporter, health) = tonic_health::server::health_reporter();
    let not_serving = tonic_health::ServingStatus::NotServing;
    reporter.set_service_status("shortlist.v1.Retrieval", not_serving).await;
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(tonic::transport::Server::builder().add_service(health).serve_with_incoming(incoming));
    let client = Client::builder(&format!("{unhealthy},{}", server.address)).build().unwrap();
    eventually("only the server that serves is asked", async || {
        for _ in 0..20 {
            if client.search(search()).await.is_err() {
                return false;
            }
        }
        true
    })
    .await;
    // Nobody listens on the first port any more; refused connections are repeated elsewhere.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = Client::builder(&format!("{gone},{}", server.address)).build().unwrap();
    for _ in 0..20 {
        client.search(search()).await.unwrap();
    }
    let lost = Client::builder(&gone.to_string()).build().unwrap().search(search()).await.unwrap_err();
    assert!(lost.is_unanswered && lost.message.contains("refused"), "{lost}");
    assert_eq!(lost.message.matches("refused").count(), 1, "{lost}");
}

#[tokio::test]
async fn what_the_server_sheds_is_repeated_and_the_timeout_ends_all() {
    let index = TestIndex::new(50);
    let limits = ServiceLimits { max_in_flight: 1, ..ServiceLimits::default() };
    let service = ServiceOptions { limits, ..ServiceOptions::default() };
    let setup = Setup { threads: 1, service, ..Setup::default() };
    let server = TestServer::start(&[("videos", &index)], setup).await;
    let client = client(&[&server]);
    let gate = server.close_gate();
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.search(search()).await }
    });
    server.until("shortlist_in_flight", 1.0).await;
    let began = Instant::now();
    let late = client.with_timeout(Duration::from_millis(150)).search(search()).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(matches!(late.code, Code::ResourceExhausted | Code::DeadlineExceeded), "{late}");
    let refused = "shortlist_refused_searches_total{reason=\"in_flight\"}";
    assert!(server.metric(refused).await > Some(1.0), "{:?}", server.metric(refused).await);
    drop(gate);
    waiting.await.unwrap().unwrap();
    let gate = server.close_gate();
    let late = client.with_timeout(Duration::from_millis(100)).search(search()).await.unwrap_err();
    assert_eq!(late.code, Code::DeadlineExceeded, "{late}");
    drop(gate);
    client.search(search()).await.unwrap();
}

#[tokio::test]
async fn tokens_and_certificates_are_sent_as_told() {
    let index = TestIndex::new(50);
    let authority = Authority::new();
    let files = Files::new(&authority);
    let reader: KeyOptions = key("reader", &[Role::Read], None);
    let options = AccessOptions { keys: vec![reader], ..files.options(None) };
    let server = TestServer::start(&[("videos", &index)], with_access(options)).await;
    let builder = Client::builder(&server.address.to_string());
    let tls = Tls::system().authority(authority.pem());
    let trusting = builder.clone().tls(tls.clone());
    let client = trusting.clone().token("reader").build().unwrap();
    assert_eq!(ids(&client.search(search()).await.unwrap()).len(), 5);
    let refused =
        client.takedown(TakedownRequest { video_ids: vec![video_id(1)], ..Default::default() }).await;
    assert_eq!(refused.unwrap_err().code, Code::PermissionDenied);
    let unknown = trusting.token("other").build().unwrap().search(search()).await.unwrap_err();
    assert_eq!(unknown.code, Code::Unauthenticated);
    for stranger in [builder.clone(), builder.tls(Tls::system().authority(Authority::new().pem()))] {
        let client = stranger.timeout(Duration::from_secs(2)).build().unwrap();
        assert!(client.search(search()).await.unwrap_err().is_unanswered);
    }
}
