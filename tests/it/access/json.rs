//! Who may call in JSON: roles, tokens, ports, and web pages.

use serde_json::json;
use shortlist::service::{Access, AccessOptions, Listeners, Role, ServiceOptions, serve};
use tokio::net::TcpListener;

use crate::harness::credentials::{
    claims, key, signing_key, token, token_folder, token_options, with_access,
};
use crate::harness::{DIM, Setup, TestIndex, TestServer, http1_get};
use crate::service::json::client::{Answer, Client};

const ONES: [f32; DIM] = [1.0; DIM];

/// Every route, and the role that the documentation says it needs.
const ROUTES: [(&str, Role); 14] = [
    (":search", Role::Read),
    (":batchSearch", Role::Read),
    (":explain", Role::Read),
    ("/videos:get", Role::Read),
    ("/videos:upsert", Role::Write),
    ("/videos:delete", Role::Write),
    ("/videos:takedown", Role::Takedown),
    ("/videos:restore", Role::Takedown),
    (":activate", Role::Admin),
    (":rebuild", Role::Admin),
    (":cancelRebuild", Role::Admin),
    ("", Role::Admin),
    ("GET /v1/indexes", Role::Admin),
    ("GET /v1/indexes:list", Role::Read),
];

async fn call(client: &Client, route: &str) -> Answer {
    match route {
        "" => client.get("/v1/indexes/videos").await,
        "GET /v1/indexes" => client.get("/v1/indexes").await,
        "GET /v1/indexes:list" => client.get("/v1/indexes:list").await,
        method => client.call(method, &json!({})).await,
    }
}

fn bearer(client: &Client, credential: &str) -> Client {
    client.with("authorization", &format!("Bearer {credential}"))
}

#[tokio::test]
async fn every_route_needs_its_role_on_its_port() {
    let index = TestIndex::new(30);
    let engine = TestServer::of(&index).await.engine;
    let keys = Role::ALL.map(|role| key(role.name(), &[role], None)).to_vec();
    let tokens = Some(token_options(token_folder().join("jwks.json")));
    let access = with_access(AccessOptions { keys, tokens, ..AccessOptions::default() });
    let (search, admin) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let addresses = [&search, &admin].map(|listener| listener.local_addr().unwrap());
    let clients = addresses.map(Client::new);
    let listeners = Listeners::new(search, Some(admin), None);
    tokio::spawn(serve(listeners, engine, access.service, std::future::pending()));
    for (port, client) in clients.iter().enumerate() {
        assert!(http1_get(addresses[port], "/").await.contains("<title>Shortlist</title>"));
        assert_eq!(client.get("/openapi.json").await.code, 200);
        for (route, needed) in ROUTES {
            let is_served = (port == 1) == (needed == Role::Admin);
            for stranger in [client.clone(), bearer(client, "shortlist_00"), bearer(client, "a.b.c")] {
                let refused = call(&stranger, route).await;
                if is_served {
                    assert_eq!((refused.code, refused.status()), (401, "UNAUTHENTICATED"), "{port} {route}");
                    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
                } else {
                    assert_eq!((refused.code, refused.status()), (404, "NOT_FOUND"), "{port} {route}");
                }
            }
            for role in Role::ALL {
                let mut claims = claims();
                claims["roles"] = json!([role.name()]);
                for credential in [role.name().to_owned(), token(&claims, Some("es"), &signing_key("es"))] {
                    let answer = call(&bearer(client, &credential), route).await;
                    let what = format!("{port} {route} {role:?}: {answer:?}");
                    match (is_served, role == needed) {
                        (false, _) => assert_eq!(answer.code, 404, "{what}"),
                        (true, false) => {
                            assert_eq!((answer.code, answer.status()), (403, "PERMISSION_DENIED"), "{what}")
                        }
                        (true, true) => assert!(![401, 403, 404].contains(&answer.code), "{what}"),
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a_key_for_one_index_learns_nothing_of_the_others() {
    let (own, other) = (TestIndex::new(30), TestIndex::new(20));
    let options =
        AccessOptions { keys: vec![key("own", &Role::ALL, Some("videos"))], ..AccessOptions::default() };
    let server = TestServer::start(&[("videos", &own), ("other", &other)], with_access(options)).await;
    let client = bearer(&Client::new(server.address), "own");
    let query = json!({ "vector": { "values": ONES }, "k": 3 });
    client.call(":search", &query).await.ok();
    for index in ["other", "unknown"] {
        let refused = client.post(&format!("/v1/indexes/{index}:search"), &query).await;
        assert_eq!((refused.code, refused.status()), (403, "PERMISSION_DENIED"), "{index}");
        assert_eq!(client.get(&format!("/v1/indexes/{index}")).await.code, 403);
    }
    assert_eq!(client.get("/v1/indexes").await.ok()["indexes"].as_array().unwrap().len(), 1);
}

fn service(options: AccessOptions) -> Setup {
    let access = Access::open(options).unwrap();
    Setup { service: ServiceOptions { access, ..ServiceOptions::default() }, ..Setup::default() }
}

/// What a page of `origin` gets, and whether it may read it.
async fn from_page(client: &Client, origin: &str) -> (u16, bool) {
    let client = client.with("origin", origin);
    let answer = client.call("/videos:takedown", &json!({ "videoIds": ["1"] })).await;
    let shared = answer.header("access-control-allow-origin").map(str::to_owned);
    assert!(shared.is_none() || shared.as_deref() == Some(origin), "{answer:?}");
    assert_eq!(answer.header("vary"), Some("origin"));
    (answer.code, shared.is_some())
}

#[tokio::test]
async fn pages_of_this_server_and_of_allowed_origins_call_and_no_others() {
    let index = TestIndex::new(20);
    let allowed_origins = vec!["https://console.example".to_owned()];
    let options = AccessOptions { allowed_origins, ..AccessOptions::default() };
    let server = TestServer::start(&[("videos", &index)], service(options)).await;
    let port = server.address.port();
    for client in [Client::new(server.address), Client::http2(server.address)] {
        assert_eq!(from_page(&client, "https://console.example").await, (200, true));
        for own in [format!("http://127.0.0.1:{port}"), format!("HTTPS://127.0.0.1:{port}")] {
            assert_eq!(from_page(&client, &own).await, (200, false), "{own}");
        }
        for other in [
            "https://evil.example",
            "http://console.example",
            "https://console.example:8443",
            "https://console.example.evil.example",
            "http://127.0.0.1",
            &format!("http://localhost:{port}"),
            &format!("ftp://127.0.0.1:{port}"),
            "null",
            "",
        ] {
            assert_eq!(from_page(&client, other).await, (403, false), "{other}");
        }
        let twice = client.with("origin", "https://console.example");
        assert_eq!(from_page(&twice, "https://evil.example").await, (403, false));

        let ask = |origin: &str, method: &str| {
            let client = client.with("origin", origin).with("access-control-request-method", method);
            async move { client.send("OPTIONS", "/v1/indexes/videos/videos:takedown", "").await }
        };
        let (code, headers, body) = ask("https://console.example", "POST").await;
        assert_eq!((code.as_u16(), body.len()), (204, 0));
        assert_eq!(headers["access-control-allow-origin"], "https://console.example");
        assert_eq!(headers["access-control-allow-headers"], "content-type, authorization, grpc-timeout");
        assert_eq!(headers["access-control-allow-methods"], "GET, POST");
        assert_eq!(headers["access-control-max-age"], "600");
        assert!(!headers.contains_key("access-control-allow-credentials"));
        let (code, headers, _) = ask("https://evil.example", "POST").await;
        assert_eq!((code.as_u16(), headers.contains_key("access-control-allow-origin")), (403, false));
        assert_eq!(ask("https://console.example", "DELETE").await.0, 405);
        let refused = client.with("origin", "https://console.example").call(":search", &json!({})).await;
        assert_eq!(
            (refused.code, refused.header("access-control-allow-origin")),
            (400, Some("https://console.example"))
        );
        // gRPC stays closed to every page.
        let grpc = client.with("origin", "https://console.example").with("content-type", "application/grpc");
        let (code, headers, _) = grpc.send("POST", "/shortlist.v1.Catalog/Takedown", "").await;
        assert_eq!((code.as_u16(), headers.contains_key("access-control-allow-origin")), (403, false));
    }
}

#[tokio::test]
async fn no_name_of_a_stranger_makes_a_page_one_of_this_server() {
    let index = TestIndex::new(20);
    let server = TestServer::of(&index).await;
    let client = Client::new(server.address);
    for host in ["evil.example", "localhost.evil.example:80", "10.0.0.1"] {
        let rebound = client.with("host", host);
        assert_eq!(rebound.call("/videos:takedown", &json!({})).await.code, 403, "{host}");
        assert_eq!(from_page(&rebound, &format!("http://{host}")).await, (403, false), "{host}");
        assert_eq!(rebound.get("/v1/indexes").await.code, 403, "{host}");
    }
    assert_eq!(from_page(&client.with("host", "localhost"), "http://localhost").await, (200, false));
    // With keys, a page needs one, and no browser adds it.
    let other = TestIndex::new(20);
    let keys = vec![key("all", &Role::ALL, None)];
    let server =
        TestServer::start(&[("videos", &other)], service(AccessOptions { keys, ..AccessOptions::default() }))
            .await;
    let rebound = Client::new(server.address).with("host", "search.example");
    assert_eq!(from_page(&rebound, "http://search.example").await, (401, false));
    assert_eq!(from_page(&bearer(&rebound, "all"), "http://search.example").await, (200, false));
}
