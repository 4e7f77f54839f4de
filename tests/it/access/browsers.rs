//! What a web page makes a browser send to a server on loopback.

use prost::Message as _;
use shortlist::service::proto::catalog_client::CatalogClient;
use shortlist::service::proto::lookup::State;
use shortlist::service::proto::{GetRequest, TakedownRequest};
use shortlist::service::{Access, AccessOptions, ServiceOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Setup, TestIndex, TestServer, http1_get_with, video_id};

/// Sends a takedown of the first video over HTTP/1.1 with these header lines. Returns the status.
async fn post(server: &TestServer, headers: &str) -> u16 {
    let message =
        TakedownRequest { video_ids: vec![video_id(0)], ..TakedownRequest::default() }.encode_to_vec();
    let mut body = vec![0];
    body.extend_from_slice(&(message.len() as u32).to_be_bytes());
    body.extend_from_slice(&message);
    let head = format!(
        "POST /shortlist.v1.Catalog/Takedown HTTP/1.1\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(!answer.to_lowercase().contains("access-control"), "{answer}");
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

async fn state(server: &TestServer) -> State {
    let mut catalog = CatalogClient::new(server.channel().await);
    let request = GetRequest { video_ids: vec![video_id(0)], ..GetRequest::default() };
    catalog.get(request).await.unwrap().into_inner().results[0].state()
}

#[tokio::test]
async fn a_web_page_cannot_take_a_video_down() {
    let index = TestIndex::new(20);
    let server = TestServer::of(&index).await;
    let own = format!("Host: {}\r\n", server.address);
    let grpc = "Content-Type: application/grpc\r\n";
    for content_type in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: multipart/form-data\r\n",
        "Content-Type: application/grpc-web+proto\r\n",
        "Content-Type: application/json\r\n",
    ] {
        assert_eq!(post(&server, &format!("{own}{content_type}")).await, 415, "{content_type}");
    }
    for origin in ["https://evil.example", "null", "http://127.0.0.1"] {
        assert_eq!(post(&server, &format!("{own}{grpc}Origin: {origin}\r\n")).await, 403, "{origin}");
    }
    for host in ["evil.example", "evil.example:50051", "10.0.0.1", "localhost.evil.example"] {
        let headers = format!("Host: {host}\r\n{grpc}Origin: http://{host}\r\n");
        assert_eq!(post(&server, &headers).await, 403, "{host}");
        assert_eq!(post(&server, &format!("Host: {host}\r\n{grpc}")).await, 403, "{host}");
        assert_eq!(state(&server).await, State::Found, "{host}");
    }
    assert_eq!(state(&server).await, State::Found);
    // The pages that only read stay readable.
    for path in ["/metrics", "/healthz"] {
        let page = http1_get_with(server.address, path, "Origin: https://evil.example\r\n").await;
        assert!(!page.starts_with("HTTP/1.1 4") && !page.contains("access-control"), "{page}");
    }
    // A client of gRPC does act.
    for host in [&own[..], "Host: localhost\r\n", "Host: [::1]:50051\r\n"] {
        assert_eq!(post(&server, &format!("{host}{grpc}")).await, 200, "{host}");
        assert_eq!(state(&server).await, State::TakenDown, "{host}");
    }
}

#[tokio::test]
async fn other_names_of_the_server_can_be_allowed() {
    let index = TestIndex::new(20);
    let options = AccessOptions { allowed_hosts: vec!["search.test".to_owned()], ..AccessOptions::default() };
    let access = Access::open(options).unwrap();
    let service = ServiceOptions { access, ..ServiceOptions::default() };
    let server = TestServer::start(&[("videos", &index)], Setup { service, ..Setup::default() }).await;
    post(&server, "Host: other.test\r\nContent-Type: application/grpc\r\n").await;
    assert_eq!(state(&server).await, State::Found);
    post(&server, "Host: Search.test:50051\r\nContent-Type: application/grpc\r\n").await;
    assert_eq!(state(&server).await, State::TakenDown);
}
