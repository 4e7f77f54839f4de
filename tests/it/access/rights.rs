//! Role × method × port × credential.

use shortlist::service::proto::GetStatusRequest;
use shortlist::service::proto::SearchRequest;
use shortlist::service::proto::admin_client::AdminClient;
use shortlist::service::proto::retrieval_client::RetrievalClient;
use shortlist::service::{AccessOptions, Listeners, Role, ServiceOptions, serve};
use tokio::net::TcpListener;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::credentials::{METHODS, call, connect, key, with_access};
use crate::harness::{DIM, TestIndex, TestServer, http1_get, http1_get_with, request};

/// Whether the call passed the checks, whatever became of it then.
fn is_allowed(code: Code) -> bool {
    !matches!(code, Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented)
}

#[tokio::test]
async fn every_method_needs_its_role_and_no_other_role_will_do() {
    let index = TestIndex::new(30);
    let keys = Role::ALL.map(|role| key(role.name(), &[role], None)).to_vec();
    let options = AccessOptions { keys, ..AccessOptions::default() };
    let server = TestServer::start(&[("videos", &index)], with_access(options)).await;
    let nobody = connect(server.address, None).await;
    let stranger = connect(server.address, Some("shortlist_00")).await;
    for (method, _) in METHODS {
        assert_eq!(call(&nobody, method, "videos").await, Code::Unauthenticated, "{method}");
        assert_eq!(call(&stranger, method, "videos").await, Code::Unauthenticated, "{method}");
    }
    for role in Role::ALL {
        let connection = connect(server.address, Some(role.name())).await;
        for (method, needed) in METHODS {
            let code = call(&connection, method, "videos").await;
            if role == needed {
                assert!(is_allowed(code), "{role:?} {method}: {code:?}");
            } else {
                assert_eq!(code, Code::PermissionDenied, "{role:?} {method}");
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_key_for_one_index_learns_nothing_of_the_others() {
    let (own, other) = (TestIndex::new(30), TestIndex::new(20));
    let keys = vec![key("own", &Role::ALL, Some("own")), key("all", &Role::ALL, None)];
    let options = AccessOptions { keys, ..AccessOptions::default() };
    let server = TestServer::start(&[("own", &own), ("other", &other)], with_access(options)).await;
    let connection = connect(server.address, Some("own")).await;
    for (method, _) in METHODS {
        assert!(is_allowed(call(&connection, method, "own").await), "{method}");
        if method == "BatchSearch" {
            continue;
        }
        for index in ["other", "unknown"] {
            assert_eq!(call(&connection, method, index).await, Code::PermissionDenied, "{method} {index}");
        }
    }
    let search = |index: &str| SearchRequest { index: index.into(), ..request(&[1.0; DIM], 1) };
    let mut retrieval = RetrievalClient::new(connection.clone());
    let mut messages = Vec::new();
    for index in ["other", "unknown", ""] {
        messages.push(retrieval.search(search(index)).await.unwrap_err().message().to_owned());
    }
    assert_eq!(messages, ["index: the credential is for these indexes only: own"; 3]);
    let requests = vec![search("own"), search("other")];
    let batch = shortlist::service::proto::BatchSearchRequest { requests };
    let results = retrieval.batch_search(batch).await.unwrap().into_inner().results;
    use shortlist::service::proto::batch_search_result::Result as Item;
    assert!(matches!(&results[0].result, Some(Item::Response(response)) if response.candidates.len() == 1));
    let Some(Item::Error(error)) = &results[1].result else { panic!("{results:?}") };
    assert_eq!(error.code, Code::PermissionDenied as i32);

    let status = AdminClient::new(connection).get_status(GetStatusRequest::default()).await.unwrap();
    let names = |answer: shortlist::service::proto::GetStatusResponse| -> Vec<String> {
        answer.indexes.into_iter().map(|index| index.name).collect()
    };
    assert_eq!(names(status.into_inner()), ["own"]);
    let all = connect(server.address, Some("all")).await;
    let status = AdminClient::new(all).get_status(GetStatusRequest::default()).await.unwrap();
    assert_eq!(names(status.into_inner()), ["other", "own"]);

    let page = async |key: &str, path: &str| {
        http1_get_with(server.address, path, &format!("Authorization: Bearer {key}\r\n")).await
    };
    assert!(page("own", "/healthz").await.ends_with("\r\n\r\nown: serving\n"));
    assert!(page("all", "/healthz").await.ends_with("\r\n\r\nother: serving\nown: serving\n"));
    assert!(page("own", "/metrics").await.starts_with("HTTP/1.1 403"));
    assert!(page("all", "/metrics").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn probes_need_no_key_and_see_no_names() {
    let index = TestIndex::new(10);
    let keys = vec![key("read", &[Role::Read], None)];
    let options = AccessOptions { keys, ..AccessOptions::default() };
    let server = TestServer::start(&[("videos", &index)], with_access(options)).await;
    crate::harness::eventually("the index to be ready", async || {
        http1_get(server.address, "/healthz").await.starts_with("HTTP/1.1 200")
    })
    .await;
    assert!(http1_get(server.address, "/healthz").await.ends_with("\r\n\r\nserving\n"));
    let mut health = HealthClient::new(server.channel().await);
    health.check(HealthCheckRequest::default()).await.unwrap();
    let metrics = http1_get(server.address, "/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 401") && metrics.contains("www-authenticate: Bearer"), "{metrics}");
    assert!(!metrics.contains("videos"), "{metrics}");
}

#[tokio::test]
async fn a_credential_is_one_header_of_the_known_form() {
    let index = TestIndex::new(10);
    let keys = vec![key("read", &[Role::Read], None)];
    let options = AccessOptions { keys, ..AccessOptions::default() };
    let server = TestServer::start(&[("videos", &index)], with_access(options)).await;
    let mut client = server.retrieval().await;
    let with = |values: &[&str]| {
        let mut request = Request::new(request(&[1.0; DIM], 1));
        for value in values {
            request.metadata_mut().append("authorization", value.parse().unwrap());
        }
        request
    };
    for passes in [["Bearer read"], ["bearer read"], ["BEARER  read "]] {
        client.search(with(&passes)).await.unwrap();
    }
    for refused in [
        &["read"][..],
        &["Basic read"],
        &["Bearer"],
        &["Bearer "],
        &["Bearer Read"],
        &["Bearer rea"],
        &["Bearer reads"],
        &["Bearer read read"],
        &["Bearer read", "Bearer read"],
        &["Bearer no", "Bearer read"],
    ] {
        let status = client.search(with(refused)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{refused:?}");
        assert!(!status.message().contains("read"), "{status}");
    }
}

#[tokio::test]
async fn what_has_a_port_of_its_own_is_on_no_other() {
    let index = TestIndex::new(20);
    let engine = TestServer::of(&index).await.engine;
    let mut listeners = Vec::new();
    for _ in 0..3 {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
    let (metrics, admin, main) =
        (listeners.pop().unwrap(), listeners.pop().unwrap(), listeners.pop().unwrap());
    let listeners = Listeners::new(main, Some(admin), Some(metrics));
    let keys = vec![key("all", &Role::ALL, None)];
    let setup = with_access(AccessOptions { keys, ..AccessOptions::default() });
    let service: ServiceOptions = setup.service;
    tokio::spawn(serve(listeners, engine, service, std::future::pending()));
    for (port, address) in addresses.iter().enumerate() {
        let connection = connect(*address, Some("all")).await;
        for (method, role) in METHODS {
            let own = if role == Role::Admin { 1 } else { 0 };
            let code = call(&connection, method, "videos").await;
            assert_eq!(is_allowed(code), port == own, "port {port} {method}: {code:?}");
            assert_eq!(code == Code::Unimplemented, port != own, "port {port} {method}: {code:?}");
        }
        HealthClient::new(connection).check(HealthCheckRequest::default()).await.unwrap();
        let healthz = http1_get(*address, "/healthz").await;
        assert!(!healthz.starts_with("HTTP/1.1 404"), "{healthz}");
        let scrape = http1_get_with(*address, "/metrics", "Authorization: Bearer all\r\n").await;
        let expected = if port == 2 { "HTTP/1.1 200" } else { "HTTP/1.1 404" };
        assert!(scrape.starts_with(expected), "port {port}: {scrape}");
    }
}

#[tokio::test]
async fn refused_callers_are_counted_by_reason() {
    let index = TestIndex::new(10);
    let keys = vec![key("own", &[Role::Read], Some("other")), key("reader", &[Role::Read], None)];
    let options = AccessOptions { keys, ..AccessOptions::default() };
    let server =
        TestServer::start(&[("videos", &index), ("other", &TestIndex::new(5))], with_access(options)).await;
    let search = async |credential: Option<&str>| {
        call(&connect(server.address, credential).await, "Search", "videos").await
    };
    assert_eq!(search(None).await, Code::Unauthenticated);
    for _ in 0..2 {
        assert_eq!(search(Some("shortlist_00")).await, Code::Unauthenticated);
    }
    assert_eq!(search(Some("own")).await, Code::PermissionDenied);
    let reader = connect(server.address, Some("reader")).await;
    assert_eq!(call(&reader, "Takedown", "videos").await, Code::PermissionDenied);
    http1_get_with(server.address, "/v1/indexes", "authorization: Basic x\r\n").await;
    http1_get_with(server.address, "/v1/indexes", "origin: https://evil.example\r\n").await;
    let page = http1_get_with(server.address, "/metrics", "authorization: Bearer reader\r\n").await;
    let counted = |name: &str, reason: &str| {
        let start = format!("shortlist_{name}_failures_total{{reason=\"{reason}\"}} ");
        let line = page.lines().find_map(|line| line.strip_prefix(start.as_str()));
        line.unwrap_or_else(|| panic!("no {start} in {page}")).parse::<u64>().unwrap()
    };
    for (reason, count) in
        [("missing", 1), ("malformed", 1), ("unknown_key", 2), ("invalid_token", 0), ("changed", 0)]
    {
        assert_eq!(counted("authentication", reason), count, "{reason}");
    }
    for (reason, count) in [("role", 1), ("index", 1), ("web_page", 1)] {
        assert_eq!(counted("authorization", reason), count, "{reason}");
    }
}
