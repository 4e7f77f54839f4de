//! Shadows: searches that are repeated on a candidate.

use shortlist::service::proto::catalog_client::CatalogClient;
use shortlist::service::proto::{
    ActivateRequest, GetStatusRequest, SearchRequest, SetShadowRequest, Shadow, ShadowCandidate,
    ShadowServer, UpsertRequest, Vector, Video, shadow_candidate::Candidate,
};
use shortlist::service::{AccessOptions, Role, ServiceOptions, ShadowOptions};
use tonic::{Code, Status};

use crate::harness::credentials::{connect, key, with_access};
use crate::harness::wire::fields;
use crate::harness::{DIM, Setup, TestIndex, TestServer, eventually, request};

const QUERY: [f32; DIM] = [1.0, 0.5, -0.25, 0.0, 0.125, 1.0, -1.0, 0.5];
const K: u32 = 5;

fn service(servers: &[String]) -> ServiceOptions {
    let shadow = ShadowOptions { cpu_share: 1.0, servers: servers.to_vec(), ..ShadowOptions::default() };
    ServiceOptions {
        shadow,
        poll_interval: std::time::Duration::from_millis(20),
        ..ServiceOptions::default()
    }
}

async fn start(indexes: &[(&str, &TestIndex)], servers: &[String]) -> TestServer {
    TestServer::start(indexes, Setup { service: service(servers), ..Setup::default() }).await
}

fn shadowed(index: &str, candidate: Candidate, share: f64) -> SetShadowRequest {
    let candidate = Some(ShadowCandidate { candidate: Some(candidate) });
    SetShadowRequest { index: index.to_owned(), candidate, share }
}

async fn report(server: &TestServer, index: &str) -> Option<Shadow> {
    let request = GetStatusRequest { index: index.to_owned() };
    let mut answer = server.admin().await.get_status(request).await.unwrap().into_inner();
    answer.indexes.remove(0).shadow
}

async fn search(server: &TestServer, index: &str) {
    let request = SearchRequest { index: index.to_owned(), ..request(&QUERY, K) };
    server.retrieval().await.search(request).await.unwrap();
}

/// Searches until this many searches were compared or failed, and returns the report.
async fn compared(server: &TestServer, index: &str, count: u64) -> Shadow {
    let mut last = None;
    eventually("comparisons", async || {
        search(server, index).await;
        last = report(server, index).await;
        last.as_ref().is_some_and(|report| report.compared + report.failed >= count)
    })
    .await;
    last.unwrap()
}

/// The share of the first answer that the second one has, too.
fn overlap(one: &[(u64, f32)], other: &[(u64, f32)]) -> f64 {
    let common = one.iter().filter(|(id, _)| other.iter().any(|(of_other, _)| of_other == id)).count();
    common as f64 / one.len() as f64
}

fn gap(one: &[(u64, f32)], other: &[(u64, f32)]) -> f64 {
    let sum: f64 = one.iter().zip(other).map(|(one, other)| f64::from(one.1 - other.1)).sum();
    sum / one.len() as f64
}

#[tokio::test]
async fn a_generation_is_compared_before_it_is_activated() {
    let mut index = TestIndex::new(60);
    let old = index.exact(&QUERY, K as usize);
    index.publish(60);
    let new = index.exact(&QUERY, K as usize);
    let server = start(&[("videos", &index)], &[]).await;
    let mut admin = server.admin().await;
    let first = admin.set_shadow(shadowed("", Candidate::Generation(1), 1.0)).await.unwrap().into_inner();
    assert_eq!(first.before, None);
    let shadow = compared(&server, "videos", 12).await;
    assert_eq!((shadow.generation, shadow.failed, shadow.problem.as_str()), (2, 0, ""));
    let [of] = &shadow.comparisons[..] else { panic!("{shadow:?}") };
    assert_eq!((of.k, u64::from(of.answers)), (10, shadow.compared));
    assert!((of.overlap - overlap(&new, &old)).abs() < 1e-6, "{of:?}");
    assert!((of.score_gap - gap(&new, &old)).abs() < 1e-4, "{of:?}");
    assert!(of.exact_answers >= 2);
    assert_eq!((of.recall, of.candidate_recall), (Some(1.0), Some(1.0)));
    for time in [&of.p50, &of.p99, &of.candidate_p50, &of.candidate_p99] {
        assert!(time.as_ref().is_some_and(|time| time.nanos > 0), "{of:?}");
    }
    let series = "shortlist_shadow_overlap_at_k{index=\"videos\",k=\"10\"}";
    eventually("overlap", async || {
        server.metric(series).await.is_some_and(|of| of > 0.0 || overlap(&new, &old) == 0.0)
    })
    .await;
    let metrics = server.metrics().await;
    assert!(metrics.contains("shortlist_shadow_searches_total{index=\"videos\",outcome=\"compared\"}"));
    assert!(
        metrics.contains("shortlist_shadow_recall_at_k{index=\"videos\",k=\"10\",side=\"candidate\"} 1.0")
    );
    assert!(metrics.contains("shortlist_shadow_search_seconds_count{index=\"videos\",side=\"index\"}"));

    // The candidate has the writes since it was built, and those from now on.
    let ended = admin.set_shadow(SetShadowRequest::default()).await.unwrap().into_inner().before.unwrap();
    assert!(ended.compared >= shadow.compared);
    assert_eq!(report(&server, "videos").await, None);
    admin.set_shadow(shadowed("videos", Candidate::Generation(1), 1.0)).await.unwrap();
    let best = (0..K as usize).map(|at| Video {
        video_id: at as u64,
        vector: Some(Vector {
            values: QUERY.map(|value| value * (100.0 + at as f32)).to_vec(),
            packed: None,
        }),
        ..Video::default()
    });
    let upsert = UpsertRequest { videos: best.collect(), ..UpsertRequest::default() };
    CatalogClient::new(server.channel().await).upsert(upsert).await.unwrap();
    // Each once for the index and once for the candidate.
    let shadow = compared(&server, "videos", 5).await;
    let [of] = &shadow.comparisons[..] else { panic!("{shadow:?}") };
    assert_eq!((of.overlap, of.score_gap), (1.0, 0.0));

    // A candidate that serves is compared with nothing.
    admin.activate(ActivateRequest { index: String::new(), generation: 1, force: true }).await.unwrap();
    eventually("end of the shadow", async || {
        search(&server, "videos").await;
        report(&server, "videos").await.is_none()
    })
    .await;
    assert_eq!(server.metric(series).await, None);
}

#[tokio::test]
async fn an_index_is_compared_with_another_one_and_with_another_server() {
    let (index, other) = (TestIndex::new(60), TestIndex::new(30));
    let remote = start(&[("elsewhere", &other)], &[]).await;
    let address = remote.address.to_string();
    let server = start(&[("videos", &index), ("other", &other)], std::slice::from_ref(&address)).await;
    let mut admin = server.admin().await;
    let expected = overlap(&index.exact(&QUERY, K as usize), &other.exact(&QUERY, K as usize));
    let of_server = |address: &str| {
        Candidate::Server(ShadowServer { address: address.to_owned(), index: "elsewhere".to_owned() })
    };
    for candidate in [Candidate::Index("other".to_owned()), of_server(&address)] {
        admin.set_shadow(shadowed("videos", candidate.clone(), 1.0)).await.unwrap();
        let shadow = compared(&server, "videos", 3).await;
        assert_eq!(shadow.candidate, Some(ShadowCandidate { candidate: Some(candidate) }));
        let [of] = &shadow.comparisons[..] else { panic!("{shadow:?}") };
        assert!((of.overlap - expected).abs() < 1e-6, "{of:?}");
        assert_eq!((of.recall, of.candidate_recall), (Some(1.0), Some(1.0)));
    }
    // Searches go on without the candidate.
    remote.stop().await;
    let before = report(&server, "videos").await.unwrap().compared;
    let mut last = None;
    eventually("failures", async || {
        search(&server, "videos").await;
        last = report(&server, "videos").await;
        last.as_ref().is_some_and(|report| report.failed > 2)
    })
    .await;
    let shadow = last.unwrap();
    assert!(shadow.problem.starts_with("candidate: ") && shadow.compared <= before + 3, "{shadow:?}");

    let status = admin.set_shadow(shadowed("videos", of_server("10.0.0.9:50051"), 1.0)).await.unwrap_err();
    assert_eq!(
        (status.code(), fields(&status)),
        (Code::FailedPrecondition, vec!["candidate.server.address".to_owned()])
    );
    // The old one goes on.
    assert!(report(&server, "videos").await.is_some());
}

#[tokio::test]
async fn a_shadow_that_makes_no_sense_is_refused() {
    let (mut index, other) = (TestIndex::new(30), TestIndex::new(30));
    index.publish(40);
    let keys = vec![key("own", &Role::ALL, Some("videos"))];
    let mut setup = with_access(AccessOptions { keys, ..AccessOptions::default() });
    setup.service.shadow = service(&[]).shadow;
    let server = TestServer::start(&[("videos", &index), ("other", &other)], setup).await;
    let admin =
        shortlist::service::proto::admin_client::AdminClient::new(connect(server.address, Some("own")).await);
    let refused = async |request: SetShadowRequest| {
        let status: Status = admin.clone().set_shadow(request).await.unwrap_err();
        (status.code(), fields(&status).pop().unwrap_or_default())
    };
    let invalid = |field: &str| (Code::InvalidArgument, field.to_owned());
    for share in [0.0, -0.5, 1.5, f64::NAN, f64::INFINITY] {
        let request = shadowed("videos", Candidate::Generation(1), share);
        assert_eq!(refused(request).await, invalid("share"), "{share}");
    }
    let of = |candidate| shadowed("videos", candidate, 0.5);
    assert_eq!(refused(of(Candidate::Generation(2))).await, invalid("candidate.generation"));
    assert_eq!(refused(of(Candidate::Generation(9))).await.0, Code::NotFound);
    assert_eq!(refused(of(Candidate::Index("videos".to_owned()))).await, invalid("candidate.index"));
    // The report would say what is in it.
    assert_eq!(refused(of(Candidate::Index("other".to_owned()))).await.0, Code::PermissionDenied);
    let none =
        SetShadowRequest { candidate: Some(ShadowCandidate::default()), ..of(Candidate::Generation(1)) };
    assert_eq!(refused(none).await, invalid("candidate"));
    assert_eq!(refused(shadowed("other", Candidate::Generation(1), 0.5)).await.0, Code::PermissionDenied);
}

#[tokio::test]
async fn searches_that_there_is_no_time_for_are_left_out() {
    let mut index = TestIndex::new(60);
    index.publish(60);
    let shadow = ShadowOptions { cpu_share: 1e-6, ..ShadowOptions::default() };
    let service = ServiceOptions { shadow, ..ServiceOptions::default() };
    let server = TestServer::start(&[("videos", &index)], Setup { service, ..Setup::default() }).await;
    server.admin().await.set_shadow(shadowed("", Candidate::Generation(1), 1.0)).await.unwrap();
    for _ in 0..200 {
        search(&server, "videos").await;
    }
    // One is compared, some wait, and the thread does not keep the server from stopping.
    let report = report(&server, "videos").await.unwrap();
    assert!(report.compared <= 1 && report.skipped >= 100, "{report:?}");
    server.stop().await;
}
