//! Operations: status, activation, health, reflection, metrics, swaps and draining.

use std::time::Duration;

use shortlist::service::proto::admin_client::AdminClient;
use shortlist::service::proto::catalog_client::CatalogClient;
use shortlist::service::proto::rebuild_status::State;
use shortlist::service::proto::retrieval_client::RetrievalClient;
use shortlist::service::proto::{
    ActivateRequest, AttributeKind, CancelRebuildRequest, Dtype, GetStatusRequest, IndexStatus, Metric,
    RebuildRequest, SearchRequest, UpsertRequest, Vector, Video,
};
use shortlist::service::{Drained, ServiceOptions};
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use crate::harness::wire::until_serving;
use crate::harness::{DIM, MODEL, Setup, TestIndex, TestServer, damage, eventually, http1_get, request};

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

async fn status(admin: &mut AdminClient<Channel>) -> IndexStatus {
    let response = admin.get_status(GetStatusRequest::default()).await.unwrap().into_inner();
    assert_eq!(response.indexes.len(), 1);
    response.indexes.into_iter().next().unwrap()
}

fn activate(generation: u64) -> ActivateRequest {
    ActivateRequest { index: String::new(), generation, force: false }
}

/// Polls for publications at short intervals; shuts down within `drain_timeout`.
fn watchful(drain_timeout: Duration) -> Setup {
    let service = ServiceOptions {
        poll_interval: Duration::from_millis(5),
        drain_timeout,
        ..ServiceOptions::default()
    };
    Setup { threads: 1, service, ..Setup::default() }
}

/// A drain that takes this long hangs.
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn status_tells_what_is_served() {
    let (first, second) = (TestIndex::new(40), TestIndex::new(30));
    let server = TestServer::start(&[("b", &first), ("a", &second)], Setup::default()).await;
    let mut admin = server.admin().await;
    let all = admin.get_status(GetStatusRequest::default()).await.unwrap().into_inner();
    assert_eq!(all.server_version, env!("CARGO_PKG_VERSION"));
    assert_eq!(all.kernel, shortlist::kernel::Kernels::get().isa().name());
    assert_eq!(all.indexes.iter().map(|index| index.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);

    let of_b = admin.get_status(GetStatusRequest { index: "b".into() }).await.unwrap().into_inner();
    let [status] = of_b.indexes.as_slice() else { panic!("expected one index") };
    assert_eq!(status.dir, first.dir().display().to_string());
    assert_eq!((status.generation, status.manifest, status.vectors, status.dim), (1, 1, 40, DIM as u32));
    assert_eq!(status.available_generations, [1]);
    assert_eq!((status.dtype(), status.metric()), (Dtype::F32, Metric::Ip));
    assert_eq!((status.builder.as_str(), status.m, status.ef_construction), ("native", 8, 64));
    assert_eq!(status.bytes, std::fs::metadata(first.generation_path(1)).unwrap().len());
    assert_eq!((status.embedding_model.as_str(), status.refused.as_str()), (MODEL, ""));
    assert!(status.published_at.unwrap().seconds > 1_700_000_000);
    assert!(status.build_time.is_some());
    let kinds =
        status.attributes.iter().map(|column| (column.name.as_str(), column.kind())).collect::<Vec<_>>();
    assert!(kinds.contains(&("title", AttributeKind::Keyword)), "{kinds:?}");
    assert!(kinds.contains(&("tags", AttributeKind::KeywordList)), "{kinds:?}");
    assert!(kinds.contains(&("published_at", AttributeKind::Timestamp)), "{kinds:?}");

    let status = admin.get_status(GetStatusRequest { index: "c".into() }).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(status.get_details_resource_info().unwrap().resource_name, "c");
}

#[tokio::test]
async fn a_generation_can_be_activated_and_the_next_again() {
    let mut index = TestIndex::new(40);
    index.publish(30);
    let server = TestServer::of(&index).await;
    let mut admin = server.admin().await;
    let mut client = server.retrieval().await;
    assert_eq!(status(&mut admin).await.generation, 2);
    for (generation, vectors) in [(1, 40), (2, 30), (2, 30)] {
        let now = admin.activate(activate(generation)).await.unwrap().into_inner().index.unwrap();
        assert_eq!((now.generation, now.vectors), (generation, vectors));
        assert_eq!(now, status(&mut admin).await);
        let response = client.search(request(&[1.0; DIM], 100)).await.unwrap().into_inner();
        assert_eq!((response.generation, response.candidates.len() as u64), (generation, vectors));
        assert_eq!(server.metric("shortlist_generation{index=\"videos\"}").await, Some(generation as f64));
        assert_eq!(server.metric("shortlist_vectors{index=\"videos\"}").await, Some(vectors as f64));
    }
}

#[tokio::test]
async fn what_cannot_be_activated_changes_nothing() {
    let mut index = TestIndex::new(40);
    index.publish(30);
    let server = TestServer::of(&index).await;
    damage(&index.generation_path(1));
    let mut admin = server.admin().await;
    let before = status(&mut admin).await;

    let refused = admin.activate(activate(1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("damaged"), "{refused}");
    let refused = admin.activate(activate(9)).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let details = refused.get_error_details();
    let resource = details.resource_info().unwrap();
    assert_eq!(
        (resource.resource_type.as_str(), resource.resource_name.as_str()),
        ("shortlist.v1.Generation", "9")
    );
    let refused = admin.activate(activate(0)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(refused.get_details_bad_request().unwrap().field_violations[0].field, "generation");
    let elsewhere = ActivateRequest { index: "c".into(), generation: 1, force: false };
    assert_eq!(admin.activate(elsewhere).await.unwrap_err().code(), Code::NotFound);

    assert_eq!(status(&mut admin).await, before);
    assert!(server.retrieval().await.search(request(&[1.0; DIM], 5)).await.is_ok());
}

#[tokio::test]
async fn a_publication_is_picked_up_and_a_broken_one_refused() {
    let mut index = TestIndex::new(40);
    let server = TestServer::start(&[("videos", &index)], watchful(LONG)).await;
    let mut client = server.retrieval().await;
    let mut admin = server.admin().await;
    assert_eq!(client.search(request(&[1.0; DIM], 5)).await.unwrap().into_inner().generation, 1);
    index.publish(30);
    server.until("shortlist_generation{index=\"videos\"}", 2.0).await;
    assert_eq!(client.search(request(&[1.0; DIM], 5)).await.unwrap().into_inner().generation, 2);

    // The third is built and damaged elsewhere, so that it never exists intact in the folder.
    let (scratch, target) = (tempfile::tempdir().unwrap(), index.dir());
    index.publish_elsewhere(scratch.path(), 20);
    damage(&scratch.path().join("generation-00000003.index"));
    for file in ["generation-00000003.index", "manifest-00000003.json"] {
        std::fs::copy(scratch.path().join(file), target.join(file)).unwrap();
    }
    eventually("the refusal", async || !status(&mut admin).await.refused.is_empty()).await;
    let now = status(&mut admin).await;
    assert_eq!((now.generation, now.vectors), (2, 30));
    assert!(now.refused.contains("damaged"), "{}", now.refused);
    assert_eq!(client.search(request(&[1.0; DIM], 5)).await.unwrap().into_inner().generation, 2);
}

#[tokio::test]
async fn health_is_known_per_index_and_for_the_server() {
    let index = TestIndex::new(10);
    let server = TestServer::start(&[("a", &index), ("b", &index)], Setup::default()).await;
    let mut health = HealthClient::new(server.channel().await);
    for service in ["", "a", "b", "shortlist.v1.Retrieval", "shortlist.v1.Catalog"] {
        // On a busy machine the port opens before the indexes are warm.
        let is_serving = async || {
            let response = health.clone().check(of(service)).await.unwrap().into_inner();
            response.status() == ServingStatus::Serving
        };
        eventually(&format!("{service:?} serving"), is_serving).await;
    }
    assert_eq!(health.check(of("c")).await.unwrap_err().code(), Code::NotFound);
    let mut watch = health.watch(of("a")).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
}

#[tokio::test]
async fn a_rebuild_can_be_cancelled_and_begun_again() {
    let index = TestIndex::new(20_000);
    let server = TestServer::start(&[("videos", &index)], watchful(LONG)).await;
    let mut admin = server.admin().await;
    let begun = admin.rebuild(RebuildRequest::default()).await.unwrap().into_inner().rebuild.unwrap();
    assert_eq!(begun.state(), State::Running);
    assert!(begun.started_at.is_some());
    let index_name = || "videos".to_owned();
    let cancelled = admin.cancel_rebuild(CancelRebuildRequest { index: index_name() }).await.unwrap();
    let state = cancelled.into_inner().rebuild.unwrap().state();
    assert!(matches!(state, State::Running | State::Cancelled), "{state:?}");
    let ended = async |expected: State| {
        let is_ended = async || status(&mut server.admin().await).await.rebuild.unwrap().state() == expected;
        eventually("the rebuild goes on", is_ended).await;
    };
    ended(State::Cancelled).await;
    let before = status(&mut admin).await;
    assert_eq!((before.generation, before.available_generations), (1, vec![1]));
    admin.rebuild(RebuildRequest { index: index_name() }).await.unwrap();
    ended(State::Done).await;
    assert_eq!(status(&mut admin).await.generation, 2);
    let unknown = admin.cancel_rebuild(CancelRebuildRequest { index: "c".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test]
async fn reflection_knows_every_service() {
    use tonic_reflection::pb;
    let index = TestIndex::new(10);
    let server = TestServer::of(&index).await;
    let expected = ["grpc.health.v1.Health", "shortlist.v1.Admin", "shortlist.v1.Retrieval"];

    use pb::v1::server_reflection_request::MessageRequest;
    use pb::v1::server_reflection_response::MessageResponse;
    let mut client = pb::v1::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let ask = |message_request| pb::v1::ServerReflectionRequest {
        message_request: Some(message_request),
        ..Default::default()
    };
    let questions = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("shortlist.v1.Retrieval".into())),
        ask(MessageRequest::FileByFilename("google/rpc/status.proto".into())),
    ];
    let mut answers =
        client.server_reflection_info(tokio_stream::iter(questions)).await.unwrap().into_inner();
    match answers.message().await.unwrap().unwrap().message_response.unwrap() {
        MessageResponse::ListServicesResponse(list) => {
            let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
            assert!(expected.iter().all(|name| names.contains(&(*name).to_owned())), "{names:?}");
        }
        other => panic!("expected the services, found {other:?}"),
    }
    for _ in 0..2 {
        let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
        assert!(matches!(answer, MessageResponse::FileDescriptorResponse(_)), "{answer:?}");
    }

    use pb::v1alpha::server_reflection_request::MessageRequest as OldRequest;
    use pb::v1alpha::server_reflection_response::MessageResponse as OldResponse;
    let mut client =
        pb::v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let question = pb::v1alpha::ServerReflectionRequest {
        message_request: Some(OldRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut answers =
        client.server_reflection_info(tokio_stream::iter([question])).await.unwrap().into_inner();
    match answers.message().await.unwrap().unwrap().message_response.unwrap() {
        OldResponse::ListServicesResponse(list) => {
            let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
            assert!(expected.iter().all(|name| names.contains(&(*name).to_owned())), "{names:?}");
        }
        other => panic!("expected the services, found {other:?}"),
    }
}

#[tokio::test]
async fn metrics_count_requests_under_bounded_labels() {
    let index = TestIndex::new(50);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    client.search(request(&[1.0; DIM], 5)).await.unwrap();
    client.search(SearchRequest { index: "videos".into(), ..request(&[1.0; DIM], 5) }).await.unwrap();
    client.search(request(&[1.0; DIM], 0)).await.unwrap_err();
    for name in ["x", "y\"}\n", "z"] {
        client.search(SearchRequest { index: name.into(), ..request(&[1.0; DIM], 5) }).await.unwrap_err();
    }
    let text = server.metrics().await;
    assert!(
        text.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{text}"
    );
    for line in [
        "shortlist_requests_total{index=\"videos\",method=\"Search\",code=\"OK\"} 2",
        "shortlist_requests_total{index=\"videos\",method=\"Search\",code=\"INVALID_ARGUMENT\"} 1",
        "shortlist_requests_total{index=\"\",method=\"Search\",code=\"NOT_FOUND\"} 3",
        "shortlist_request_seconds_count{index=\"videos\",method=\"Search\"} 3",
        "shortlist_distances_per_query_count{index=\"videos\"} 2",
        "shortlist_in_flight 0",
        "shortlist_generation{index=\"videos\"} 1",
        "shortlist_vectors{index=\"videos\"} 50",
    ] {
        assert!(text.lines().any(|found| found == line), "expected {line}, found {text}");
    }
    assert!(
        text.contains("shortlist_request_seconds_bucket{le=\"0.00005\",index=\"videos\",method=\"Search\"}"),
        "{text}"
    );
    assert!(
        text.contains("shortlist_request_seconds_bucket{le=\"5.0\",index=\"videos\",method=\"Search\"}"),
        "{text}"
    );
}

#[tokio::test]
async fn what_nobody_serves_is_refused_in_the_callers_language() {
    let index = TestIndex::new(10);
    let server = TestServer::of(&index).await;
    let response = http1_get(server.address, "/elsewhere").await;
    assert!(response.starts_with("HTTP/1.1 404 Not Found"), "{response}");
    let other = RetrievalClient::with_origin(
        server.channel().await,
        format!("http://{}/elsewhere", server.address).parse().unwrap(),
    );
    let status = other.clone().search(request(&[1.0; DIM], 1)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn draining_answers_what_is_in_flight_and_ends_what_would_never_end() {
    let index = TestIndex::new(20);
    let server = TestServer::start(&[("videos", &index)], watchful(LONG)).await;
    let gate = server.close_gate();
    let address = server.address;
    let mut client = server.retrieval().await;
    let mut watch = HealthClient::new(server.channel().await).watch(of("videos")).await.unwrap().into_inner();
    until_serving(&mut watch).await;
    let idle = tokio_stream::pending::<SearchRequest>();
    let mut idle = server.retrieval().await.stream_search(idle).await.unwrap().into_inner();
    let call = tokio::spawn(async move { client.search(request(&[1.0; DIM], 5)).await });
    server.until("shortlist_in_flight", 1.0).await;

    let served = server.begin_stop();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(idle.message().await.unwrap_err().code(), Code::Unavailable);
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "the port is still open");
    assert!(!call.is_finished());
    drop(gate);
    assert_eq!(call.await.unwrap().unwrap().into_inner().candidates.len(), 5);
    assert!(watch.message().await.unwrap().is_none());
    assert_eq!(served.await.unwrap().unwrap(), Drained::Complete);
}

#[tokio::test]
async fn draining_is_bounded() {
    let index = TestIndex::new(20);
    let server = TestServer::start(&[("videos", &index)], watchful(Duration::from_millis(20))).await;
    let gate = server.close_gate();
    let mut client = server.retrieval().await;
    let call = tokio::spawn(async move { client.search(request(&[1.0; DIM], 5)).await });
    server.until("shortlist_in_flight", 1.0).await;
    assert_eq!(server.stop().await, Drained::TimedOut);
    assert!(call.await.unwrap().is_err());
    drop(gate);
}

/// Writes, gate results and live recall in metrics and status.
#[tokio::test]
async fn a_changing_catalog_is_seen_in_metrics_and_status() {
    let index = TestIndex::new(60);
    let service = ServiceOptions { poll_interval: Duration::from_millis(20), ..ServiceOptions::default() };
    let server = TestServer::start(&[("videos", &index)], Setup { service, ..Setup::default() }).await;
    let mut catalog = CatalogClient::new(server.channel().await);
    let vector = Some(Vector { values: vec![1.0; DIM], packed: None });
    let videos = vec![Video { video_id: 1, vector, ..Video::default() }];
    catalog.upsert(UpsertRequest { videos, ..UpsertRequest::default() }).await.unwrap();
    for (name, value) in [("delta_vectors", 1.0), ("sequence", 1.0), ("writable", 1.0), ("held_entries", 0.0)]
    {
        server.until(&format!("shortlist_{name}{{index=\"videos\"}}"), value).await;
    }
    // About ten of these are sampled.
    let mut retrieval = server.retrieval().await;
    for user in 0..1_000u16 {
        retrieval.search(request(&[f32::from(user), 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 10)).await.unwrap();
    }
    server.until("shortlist_recall_at_k{index=\"videos\",k=\"10\"}", 1.0).await;
    let mut admin = server.admin().await;
    let recall = status(&mut admin).await.recall.remove(0);
    assert!(recall.k == 10 && recall.recall == 1.0 && recall.answers > 0, "{recall:?}");
    admin.rebuild(RebuildRequest::default()).await.unwrap();
    server.until("shortlist_generation{index=\"videos\"}", 2.0).await;
    server.until("shortlist_gate_passed{index=\"videos\"}", 1.0).await;
    server.until("shortlist_delta_vectors{index=\"videos\"}", 0.0).await;
    let found = status(&mut admin).await;
    let gate = found.gate.unwrap();
    assert!(gate.passed && gate.generation == 2 && gate.unreachable == 0, "{gate:?}");
    assert_eq!((found.sequence, found.generation_sequence, found.vectors), (1, 1, 61));
    // Live recall is that of the current generation.
    let recall = "shortlist_recall_at_k{index=\"videos\",k=\"10\"}";
    eventually("no recall", async || server.metric(recall).await.is_none()).await;
}

#[tokio::test]
async fn an_index_that_does_not_open_is_reported_and_the_others_serve() {
    let (good, other) = (TestIndex::new(40), TestIndex::new(30));
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad");
    let indexes = vec![("bad".to_owned(), bad.clone()), ("good".to_owned(), good.dir())];
    let server = TestServer::over(indexes, watchful(LONG)).await;
    server.until("shortlist_serving{index=\"bad\"}", 0.0).await;
    assert_eq!(server.metric("shortlist_writable{index=\"bad\"}").await, Some(0.0));
    let all = server.admin().await.get_status(GetStatusRequest::default()).await.unwrap().into_inner();
    let [closed, open] = &all.indexes[..] else { panic!("{all:?}") };
    assert_eq!((closed.name.as_str(), closed.dir.as_str()), ("bad", bad.to_str().unwrap()));
    assert!(!closed.serving && !closed.writable && closed.refused.contains("no index here"), "{closed:?}");
    assert_eq!(closed.read_only_reason, closed.refused);
    assert!(open.serving && open.writable, "{open:?}");
    let mut health = HealthClient::new(server.channel().await);
    let mut retrieval = server.retrieval().await;
    let of_index = |index: &str| SearchRequest { index: index.to_owned(), ..request(&[1.0; DIM], 5) };
    for (name, expected) in [("bad", ServingStatus::NotServing), ("", ServingStatus::Serving)] {
        eventually("health", async || {
            health.check(of(name)).await.unwrap().into_inner().status() == expected
        })
        .await;
    }
    let status = retrieval.search(of_index("bad")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().starts_with("index \"bad\" is out of service: "), "{status}");
    assert_eq!(retrieval.search(of_index("good")).await.unwrap().into_inner().candidates.len(), 5);
    let mut catalog = CatalogClient::new(server.channel().await);
    let vector = Some(Vector { values: vec![1.0; DIM], packed: None });
    let videos = vec![Video { video_id: 1, vector, ..Video::default() }];
    let write = UpsertRequest { index: "bad".to_owned(), videos, ..UpsertRequest::default() };
    assert_eq!(catalog.upsert(write.clone()).await.unwrap_err().code(), Code::Unavailable);
    let activate = ActivateRequest { index: "bad".to_owned(), ..activate(1) };
    assert_eq!(server.admin().await.activate(activate).await.unwrap_err().code(), Code::Unavailable);
    let page = http1_get(server.address, "/healthz").await;
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("bad: not serving: "), "{page}");

    std::fs::rename(other.dir(), &bad).unwrap();
    server.until("shortlist_serving{index=\"bad\"}", 1.0).await;
    server.until("shortlist_writable{index=\"bad\"}", 1.0).await;
    assert_eq!(retrieval.search(of_index("bad")).await.unwrap().into_inner().candidates.len(), 5);
    catalog.upsert(write).await.unwrap();
    eventually("health", async || {
        health.check(of("bad")).await.unwrap().into_inner().status() == ServingStatus::Serving
    })
    .await;
    server.stop().await;
}
