//! Bodies of JSON that are large, slow or nested.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use serde_json::json;
use shortlist::service::{ConnectionOptions, ServiceLimits, ServiceOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::Client;
use crate::harness::{DIM, Setup, TestIndex, TestServer, video_id};

const MAX: usize = 4 << 20;
const HALVES: [f32; DIM] = [0.5; DIM];

async fn raw(server: &TestServer, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "POST /v1/indexes/videos:search HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{head}\r\n",
        server.address
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[tokio::test]
async fn nested_texts_are_refused_where_the_server_says_so() {
    let index = TestIndex::new(20);
    let server = TestServer::of(&index).await;
    let client = Client::new(server.address);
    let filter = |levels: usize| {
        let (open, close) = ("{\"must\":[{\"filter\":".repeat(levels), "}]}".repeat(levels));
        format!("{{\"vector\":{{\"values\":{:?}}},\"k\":3,\"filter\":{open}{{}}{close}}}", [1.0; DIM])
    };
    let path = "/v1/indexes/videos:search";
    client.text(path, filter(15)).await.ok();
    let deep = client.text(path, filter(17)).await;
    assert_eq!(deep.code, 400);
    assert!(deep.fields()[0].starts_with("filter.must[0].filter"), "{deep:?}");
    for text in [filter(30), "[".repeat(MAX), "{\"filter\":".repeat(100_000)] {
        let refused = client.text(path, text).await;
        assert_eq!((refused.code, refused.fields()), (400, vec!["request".to_owned()]), "{refused:?}");
        assert!(refused.body["error"]["message"].as_str().unwrap().contains("at most 64 objects and lists"));
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_it_is_read() {
    let index = TestIndex::new(20);
    let server = TestServer::of(&index).await;
    let client = Client::new(server.address);
    let expected = format!("expected a request of at most {MAX} bytes, found more");
    // Nothing but the head is sent.
    let answer = raw(&server, &format!("Content-Length: {}\r\n", MAX + 1), "").await;
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("OUT_OF_RANGE") && answer.contains(&expected),
        "{answer}"
    );
    let chunks = (0..MAX / 65_536 + 1).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 65_536])));
    let answer =
        client.text("/v1/indexes/videos:search", Body::from_stream(tokio_stream::iter(chunks))).await;
    assert_eq!(
        (answer.code, answer.status(), &answer.body["error"]["message"]),
        (400, "OUT_OF_RANGE", &json!(expected))
    );
    // Small as text, and large as a message.
    let text = format!("{{\"videoIds\":[{}1]}}", "1,".repeat(700_000));
    let answer = client.text("/v1/indexes/videos/videos:get", text).await;
    assert_eq!(answer.code, 400, "{answer:?}");
    assert!(["OUT_OF_RANGE", "INVALID_ARGUMENT"].contains(&answer.status()), "{answer:?}");
    // As large as allowed.
    let spaces = format!("{{\"k\":3,\"vector\":{{\"values\":{:?}}}}}", [1.0; DIM]);
    let padding = " ".repeat(MAX - spaces.len());
    client.text("/v1/indexes/videos:search", spaces + &padding).await.ok();
    server.until("shortlist_bytes_in_flight", 0.0).await;
}

#[tokio::test]
async fn memory_of_texts_and_answers_is_counted_and_given_back() {
    let index = TestIndex::new(2_000);
    let limits = ServiceLimits {
        max_bytes_in_flight: 1 << 20,
        max_connection_bytes: 1 << 20,
        ..ServiceLimits::default()
    };
    let service = ServiceOptions { limits, ..ServiceOptions::default() };
    let server = TestServer::start(&[("videos", &index)], Setup { service, ..Setup::default() }).await;
    let client = Client::new(server.address);
    // 40 kB, of which numbers would make more than a megabyte.
    let text = format!("{{\"vector\":{{\"values\":[{}0]}},\"k\":3}}", "0,".repeat(20_000));
    let refused = client.text("/v1/indexes/videos:search", text).await;
    assert_eq!(
        (refused.code, refused.status(), refused.header("retry-after")),
        (429, "RESOURCE_EXHAUSTED", Some("1"))
    );
    server.until("shortlist_bytes_in_flight", 0.0).await;
    // The answer fits as a message, and not as text.
    let ids: Vec<_> = (0..1000).map(|row| video_id(row).to_string()).collect();
    let get = json!({ "videoIds": ids, "returnAttributes": ["*"], "returnVectors": true });
    let refused = client.call("/videos:get", &get).await;
    assert_eq!((refused.code, refused.status()), (429, "RESOURCE_EXHAUSTED"), "{:?}", refused.headers);
    server.until("shortlist_bytes_in_flight", 0.0).await;
    let small = json!({ "videoIds": ids[..100], "returnAttributes": ["*"], "returnVectors": true });
    assert_eq!(client.call("/videos:get", &small).await.ok()["results"].as_array().unwrap().len(), 100);
    server.until("shortlist_bytes_in_flight", 0.0).await;
}

#[tokio::test]
async fn large_bodies_and_answers_are_handled_like_small_ones() {
    let index = TestIndex::new(3_000);
    let server = TestServer::of(&index).await;
    let client = Client::new(server.address);
    let one = json!({ "vector": { "values": HALVES }, "k": 100, "exclude": { "videoIds": (1..500).collect::<Vec<_>>() } });
    let expected = client.call(":search", &one).await.ok();
    let batch = client.call(":batchSearch", &json!({ "requests": vec![&one; 200] })).await.ok();
    for result in batch["results"].as_array().unwrap() {
        assert_eq!(result["response"]["candidates"], expected["candidates"]);
    }
    let videos: Vec<_> = (0..1000)
        .map(|id| {
            let attributes =
                json!({ "title": { "keyword": "x" }, "tags": { "keywordList": { "values": ["a", "b"] } } });
            json!({ "videoId": id, "vector": { "values": HALVES }, "attributes": attributes })
        })
        .collect();
    assert_eq!(client.call("/videos:upsert", &json!({ "videos": videos })).await.ok()["written"], 1000);
}

#[tokio::test]
async fn a_body_that_does_not_arrive_ends_as_one_of_grpc() {
    let index = TestIndex::new(20);
    let connections =
        ConnectionOptions { message_timeout: Duration::from_millis(100), ..ConnectionOptions::default() };
    let service = ServiceOptions { connections, ..ServiceOptions::default() };
    let server = TestServer::start(&[("videos", &index)], Setup { service, ..Setup::default() }).await;
    for body in ["", "{\"k\":"] {
        let answer = raw(&server, "Content-Length: 100\r\n", body).await;
        assert!(answer.starts_with("HTTP/1.1 504") && answer.contains("DEADLINE_EXCEEDED"), "{answer}");
        assert!(answer.contains("did not arrive within"), "{answer}");
    }
    let refused = "shortlist_requests_total{index=\"\",method=\"Search\",code=\"DEADLINE_EXCEEDED\"}";
    assert_eq!(server.metric(refused).await, Some(2.0));
}
