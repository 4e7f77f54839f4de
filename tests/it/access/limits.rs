//! Limits of keys and roles.

use std::time::Duration;

use serde_json::json;
use shortlist::service::proto::retrieval_client::RetrievalClient;
use shortlist::service::proto::{
    BatchSearchRequest, ExplainRequest, Interest, Interests, SearchRequest, Vector, batch_search_result,
    search_request,
};
use shortlist::service::{AccessOptions, KeyOptions, OwnLimits, Role, RoleLimits};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::credentials::{
    Connection, claims, connect, key, signing_key, token, token_folder, token_options, with_access,
};
use crate::harness::wire::{ef_search, exact};
use crate::harness::{Setup, TestIndex, TestServer, request, video_id};

fn plain(index: &TestIndex) -> SearchRequest {
    request(&index.rows[0], 3)
}

async fn search(connection: &Connection, request: SearchRequest) -> Result<(), Status> {
    RetrievalClient::new(connection.clone()).search(request).await.map(drop)
}

/// A server with a key `reader`, whose role has limits, a key `both`, which also has a role with other ones, and a key
/// `writer` that may read and write. Only the role `write` has no limits.
fn options(read: OwnLimits, admin: OwnLimits) -> Setup {
    let options = AccessOptions {
        keys: vec![
            key("reader", &[Role::Read], None),
            key("both", &[Role::Read, Role::Admin], None),
            key("writer", &[Role::Read, Role::Write], None),
        ],
        role_limits: RoleLimits::from([(Role::Read, read), (Role::Admin, admin)]),
        tokens: Some(token_options(token_folder().join("jwks.json"))),
        ..AccessOptions::default()
    };
    Setup { threads: 1, ..with_access(options) }
}

#[tokio::test]
async fn what_a_role_may_not_ask_for_another_may() {
    let index = TestIndex::new(50);
    let read = OwnLimits {
        allow_exact: Some(false),
        max_k: Some(10),
        max_ef_search: Some(64),
        max_batch: Some(2),
        max_offset: Some(5),
        max_interests: Some(2),
        ..OwnLimits::default()
    };
    let admin = OwnLimits {
        allow_exact: Some(true),
        max_k: Some(20),
        max_ef_search: Some(128),
        max_batch: Some(4),
        max_offset: Some(8),
        max_interests: Some(3),
        ..OwnLimits::default()
    };
    let server = TestServer::start(&[("videos", &index)], options(read, admin)).await;
    let (reader, both) =
        (connect(server.address, Some("reader")).await, connect(server.address, Some("both")).await);
    let writer = connect(server.address, Some("writer")).await;
    let by_token = async |roles: &[&str]| {
        let mut claims = claims();
        claims["roles"] = json!(roles);
        connect(server.address, Some(&token(&claims, Some("es"), &signing_key("es")))).await
    };
    let (token_reader, token_both) = (by_token(&["read"]).await, by_token(&["read", "admin"]).await);
    let vector = Vector { values: index.rows[0].to_vec(), packed: None };
    let interest = Interest { vector: Some(vector), ..Interest::default() };
    let interests = |count| {
        let interests = Interests { interests: vec![interest.clone(); count] };
        SearchRequest { query: Some(search_request::Query::Interests(interests)), ..plain(&index) }
    };
    let with_ef = |most| SearchRequest { params: ef_search(most), ..plain(&index) };
    let k = |k| SearchRequest { k, ..plain(&index) };
    let offset = |offset| SearchRequest { offset, ..plain(&index) };
    // What nobody, only the second role, and everybody may ask for.
    for (field, nobody, one, all) in [
        ("k", Some(k(21)), k(20), k(10)),
        ("offset", Some(offset(9)), offset(8), offset(5)),
        ("offset", None, SearchRequest { k: 10, ..offset(5) }, SearchRequest { k: 5, ..offset(5) }),
        ("params.ef_search", Some(with_ef(129)), with_ef(128), with_ef(64)),
        ("query.interests", Some(interests(4)), interests(3), interests(2)),
        ("params.exact", None, SearchRequest { params: exact(), ..plain(&index) }, plain(&index)),
    ] {
        for (connection, is_both) in
            [(&reader, false), (&both, true), (&writer, false), (&token_reader, false), (&token_both, true)]
        {
            search(connection, all.clone()).await.unwrap();
            let found = search(connection, one.clone()).await;
            let mut refusals = Vec::new();
            if is_both {
                found.unwrap_or_else(|status| panic!("{field}: {status}"));
            } else {
                refusals.push(found.expect_err(field));
            }
            if let Some(nobody) = nobody.clone() {
                refusals.push(search(connection, nobody).await.expect_err(field));
            }
            for status in refusals {
                assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status}");
                let violation = &status.get_details_bad_request().unwrap().field_violations[0];
                assert_eq!(violation.field, field, "{status}");
                assert!(violation.description.contains("expected"), "{status}");
            }
        }
    }
    // A default effort stays below the limit, whatever the others may use.
    let mut client = RetrievalClient::new(reader.clone());
    let answer = client.search(SearchRequest { return_stats: true, ..k(10) }).await.unwrap().into_inner();
    assert_eq!(answer.candidates.len(), 10);
    for (connection, most) in [(&reader, 2), (&both, 4), (&writer, 2), (&token_both, 4)] {
        let batch = async |searches| {
            let requests = vec![plain(&index); searches];
            RetrievalClient::new(connection.clone()).batch_search(BatchSearchRequest { requests }).await
        };
        let results = batch(most).await.unwrap().into_inner().results;
        assert!(
            results
                .iter()
                .all(|result| matches!(result.result, Some(batch_search_result::Result::Response(_))))
        );
        let status = batch(most + 1).await.unwrap_err();
        let expected = format!("requests: expected at most {most} searches, found {}", most + 1);
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, expected.as_str()));
    }
    // An explanation scores every video.
    let explain =
        ExplainRequest { request: Some(plain(&index)), video_id: video_id(1), ..ExplainRequest::default() };
    let status = RetrievalClient::new(reader).explain(explain.clone()).await.unwrap_err();
    let expected = "video_id: expected no explanation, which scores every video: limits.allow_exact is false";
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, expected));
    RetrievalClient::new(both).explain(explain).await.unwrap();
}

#[tokio::test]
async fn each_role_has_its_rates() {
    let index = TestIndex::new(20);
    for (read, admin, reason) in [
        (
            OwnLimits { max_searches_per_second: Some(2), ..OwnLimits::default() },
            OwnLimits { max_searches_per_second: Some(0), ..OwnLimits::default() },
            "search_rate",
        ),
        (
            OwnLimits { max_cost_ms_per_second: Some(1), ..OwnLimits::default() },
            OwnLimits { max_cost_ms_per_second: Some(1_000_000), ..OwnLimits::default() },
            "cost_rate",
        ),
    ] {
        let server = TestServer::start(&[("videos", &index)], options(read, admin)).await;
        let (reader, both) =
            (connect(server.address, Some("reader")).await, connect(server.address, Some("both")).await);
        let mut refused = None;
        for _ in 0..1000 {
            search(&both, plain(&index)).await.unwrap();
            if let Err(status) = search(&reader, plain(&index)).await {
                refused = Some(status);
                break;
            }
        }
        let status = refused.expect("some search is over the rate");
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        assert!(status.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
        let refused = format!("shortlist_refused_searches_total{{reason=\"{reason}\"}}");
        assert_eq!(metric(&server, &refused).await, 1.0);
    }
}

/// The value of a metric of a server that needs a key.
async fn metric(server: &TestServer, name: &str) -> f64 {
    let header = "Authorization: Bearer reader\r\n";
    let scrape = crate::harness::http1_get_with(server.address, "/metrics", header).await;
    let line = scrape.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name}: {scrape}")).parse().unwrap()
}

#[tokio::test]
async fn each_role_has_its_queue_and_its_deadline() {
    let index = TestIndex::new(20);
    let read = OwnLimits {
        max_queued_per_client: Some(2),
        max_deadline: Some(Duration::from_millis(50)),
        ..OwnLimits::default()
    };
    let admin = OwnLimits {
        max_queued_per_client: Some(5),
        max_deadline: Some(Duration::from_secs(600)),
        ..OwnLimits::default()
    };
    let server = TestServer::start(&[("videos", &index)], options(read, admin)).await;
    let gate = server.close_gate();
    let mut waiting = Vec::new();
    for (name, most) in [("both", 5), ("reader", 2)] {
        let connection = connect(server.address, Some(name)).await;
        let (answered, mut answers) = tokio::sync::mpsc::unbounded_channel();
        for _ in 0..=most {
            let (connection, request, answered) = (connection.clone(), plain(&index), answered.clone());
            tokio::spawn(async move { answered.send(search(&connection, request).await) });
        }
        // One is too many, at once.
        let status = answers.recv().await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{name}: {status}");
        let expected =
            format!("limits.max_queued_per_client: expected at most {most} searches, found {}", most + 1);
        assert_eq!(status.message(), expected);
        waiting.push((name, most, answers));
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(gate);
    for (name, most, mut answers) in waiting {
        for _ in 0..most {
            let code = answers.recv().await.unwrap().err().map(|status| status.code());
            let expected = (name == "reader").then_some(Code::DeadlineExceeded);
            assert_eq!(code, expected, "{name}");
        }
    }
}

#[tokio::test]
async fn the_limits_of_a_key_count_before_those_of_its_roles() {
    let index = TestIndex::new(20);
    let own = |name: &str, max_offset| KeyOptions {
        limits: OwnLimits { max_offset, ..OwnLimits::default() },
        ..key(name, &[Role::Read], None)
    };
    let role = OwnLimits { max_offset: Some(5), max_k: Some(4), ..OwnLimits::default() };
    let options = AccessOptions {
        keys: vec![own("role", None), own("less", Some(3)), own("more", Some(9))],
        role_limits: RoleLimits::from([(Role::Read, role)]),
        ..AccessOptions::default()
    };
    let server = TestServer::start(&[("videos", &index)], with_access(options)).await;
    for (name, most) in [("role", 5), ("less", 3), ("more", 9)] {
        let connection = connect(server.address, Some(name)).await;
        let at = |offset, k| SearchRequest { offset, k, ..plain(&index) };
        // The engine counts the offset as part of k, so k is small.
        let status = search(&connection, at(most + 1, 1)).await.unwrap_err();
        let expected = format!("offset: expected at most {most} (limits.max_offset), found {}", most + 1);
        assert_eq!(status.message(), expected, "{name}");
        search(&connection, at(0, 4)).await.unwrap();
        assert_eq!(search(&connection, at(0, 5)).await.unwrap_err().code(), Code::InvalidArgument);
    }
}
