//! Clients that do not do their part: who do not read, do not finish, or say nothing.

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::{HeaderMap, Request};
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use prost::Message;
use shortlist::service::proto::retrieval_client::RetrievalClient;
use shortlist::service::proto::{SearchRequest, SearchResponse};
use shortlist::service::{ConnectionOptions, Drained, ServiceLimits, ServiceOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::{DIM, Setup, TestIndex, TestServer, channel, eventually, http1_get, request};

const QUERY: [f32; DIM] = [0.5, -1.0, 0.25, 2.0, -0.125, 1.0, 0.75, -0.5];
const SEARCH: &str = "/shortlist.v1.Retrieval/Search";
const STREAM: &str = "/shortlist.v1.Retrieval/StreamSearch";
/// The default window of HTTP/2.
const WINDOW: u32 = 65_535;
/// Long enough for any machine; tests that wait for a timeout set a short one.
const NEVER: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(100);
const REFUSED_FOR_MEMORY: &str = "shortlist_refused_for_memory_total{reason=\"connection\"}";

fn patient() -> ConnectionOptions {
    ConnectionOptions {
        handshake_timeout: NEVER,
        message_timeout: NEVER,
        stall_timeout: NEVER,
        ..ConnectionOptions::default()
    }
}

/// A server of one index with these limits on connections.
async fn serve(index: &TestIndex, connections: ConnectionOptions) -> TestServer {
    serve_within(index, connections, ServiceLimits::default()).await
}

async fn serve_within(
    index: &TestIndex,
    connections: ConnectionOptions,
    limits: ServiceLimits,
) -> TestServer {
    let service = ServiceOptions { connections, limits, drain_timeout: NEVER, ..ServiceOptions::default() };
    TestServer::start(&[("videos", index)], Setup { service, ..Setup::default() }).await
}

/// A server on which one connection may use 12 MiB, and all of them 16.
async fn serve_with_little_memory(index: &TestIndex) -> TestServer {
    let limits = ServiceLimits {
        max_bytes_in_flight: 16 << 20,
        max_connection_bytes: 12 << 20,
        ..ServiceLimits::default()
    };
    serve_within(index, patient(), limits).await
}

/// Checks that what is in flight takes no more than one connection may use.
async fn check_bytes_in_flight(server: &TestServer) {
    let held = server.metric("shortlist_bytes_in_flight").await.unwrap();
    assert!(held <= f64::from(12 << 20), "{held} bytes");
}

/// A client that decides what it sends and reads.
async fn raw(address: SocketAddr, window: u32) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, connection) =
        h2::client::Builder::new().initial_window_size(window).handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

fn open(client: &mut SendRequest<Bytes>, path: &str) -> (ResponseFuture, SendStream<Bytes>) {
    let call = Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    client.send_request(call.body(()).unwrap(), false).unwrap()
}

/// Opens a call and sends this as its whole request.
fn send(client: &mut SendRequest<Bytes>, path: &str, message: &impl Message) -> ResponseFuture {
    let (response, mut body) = open(client, path);
    body.send_data(framed(message), true).unwrap();
    response
}

fn framed(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(message.encoded_len() as u32);
    message.encode(&mut bytes).unwrap();
    bytes.freeze()
}

fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()))
}

/// A search whose answer has about 150 kB.
fn large() -> SearchRequest {
    SearchRequest { return_attributes: vec!["*".to_owned()], ..request(&QUERY, 1000) }
}

async fn check_search(client: &mut RetrievalClient<Channel>) {
    let answer = client.search(request(&QUERY, 5)).await.unwrap().into_inner();
    assert_eq!(answer.candidates.len(), 5);
}

/// A client that has made a search.
async fn searching(address: SocketAddr) -> RetrievalClient<Channel> {
    let mut client = RetrievalClient::new(channel(address).await);
    check_search(&mut client).await;
    client
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    // A reset is an error.
    stream.read_to_end(&mut Vec::new()).await.map_or(true, |_| true)
}

#[tokio::test]
async fn answers_that_nobody_reads_take_no_more_than_the_budget() {
    let index = TestIndex::new(2_000);
    let server = serve_with_little_memory(&index).await;
    let mut client = raw(server.address, 0).await;
    let mut waiting = Vec::new();
    let mut refused = 0;
    for _ in 0..150 {
        let response = send(&mut client, SEARCH, &large()).await.unwrap();
        match code(response.headers()) {
            Some(Code::ResourceExhausted) => refused += 1,
            None => waiting.push(response),
            other => panic!("{other:?}"),
        }
        check_bytes_in_flight(&server).await;
    }
    assert!(waiting.len() > 10 && refused > 10, "{} waiting, {refused} refused", waiting.len());
    // The last quarter is for connections that take little.
    searching(server.address).await;
    assert!(server.metric(REFUSED_FOR_MEMORY).await >= Some(f64::from(refused)));
    drop((client, waiting));
    server.until("shortlist_bytes_in_flight", 0.0).await;
}

#[tokio::test]
async fn a_stream_whose_answers_are_not_read_takes_no_more_than_the_budget() {
    let index = TestIndex::new(2_000);
    let server = serve_with_little_memory(&index).await;
    let mut client = raw(server.address, 0).await;
    let mut calls = Vec::new();
    for _ in 0..20 {
        let (response, mut body) = open(&mut client, STREAM);
        (0..20).for_each(|_| body.send_data(framed(&large()), false).unwrap());
        calls.push((response, body));
    }
    server.until("shortlist_in_flight", 0.0).await;
    eventually("a refusal", async || {
        check_bytes_in_flight(&server).await;
        server.metric(REFUSED_FOR_MEMORY).await > Some(0.0)
    })
    .await;
    searching(server.address).await;
    drop((client, calls));
    server.until("shortlist_bytes_in_flight", 0.0).await;
}

#[tokio::test]
async fn an_answer_that_is_not_read_ends_and_those_that_are_read_go_on() {
    let index = TestIndex::new(2_000);
    let server = serve(&index, ConnectionOptions { stall_timeout: SOON, ..patient() }).await;
    let mut client = raw(server.address, 100).await;
    let (idle, _requests) = open(&mut client, STREAM);
    let mut answer = send(&mut client, SEARCH, &large()).await.unwrap().into_body();
    // The first 100 bytes, and no more window.
    while let Some(part) = answer.data().await {
        match part {
            Ok(bytes) => assert!(bytes.len() <= 100),
            Err(error) => {
                assert_eq!(error.reason(), Some(Reason::CANCEL), "{error}");
                break;
            }
        }
    }
    server.until("shortlist_stalled_answers_total", 1.0).await;
    server.until("shortlist_connections", 2.0).await;
    // The connection and its other stream go on, though nothing was sent on it for longer.
    drop(idle);
    assert_eq!(send(&mut client, SEARCH, &request(&QUERY, 1)).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_request_that_does_not_end_is_refused() {
    let index = TestIndex::new(20);
    let server = serve(&index, ConnectionOptions { message_timeout: SOON, ..patient() }).await;
    let mut client = raw(server.address, WINDOW).await;
    let mut beginning = framed(&request(&QUERY, 5));
    beginning.truncate(beginning.len() - 1);
    for sent in [Bytes::new(), beginning.clone(), framed(&request(&QUERY, 5))] {
        let (response, mut body) = open(&mut client, SEARCH);
        body.send_data(sent, false).unwrap();
        let response = response.await.unwrap();
        assert_eq!(code(response.headers()), Some(Code::DeadlineExceeded));
    }
    // A stream may wait between messages, but not within one.
    let (response, mut body) = open(&mut client, STREAM);
    body.send_data(framed(&request(&QUERY, 5)), false).unwrap();
    let mut answers = response.await.unwrap().into_body();
    assert!(answers.data().await.unwrap().is_ok());
    body.send_data(beginning, false).unwrap();
    while let Some(part) = answers.data().await {
        part.unwrap();
    }
    assert_eq!(code(&answers.trailers().await.unwrap().unwrap()), Some(Code::DeadlineExceeded));

    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "POST {SEARCH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc\r\ncontent-length: 1000\r\n\r\nabc"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(is_closed(&mut stream).await);
    server.until("shortlist_bytes_in_flight", 0.0).await;
}

/// Sockets that say nothing, or only a beginning.
async fn silent(address: SocketAddr) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for beginning in ["", "P", "PRI * HTT", "GET", "GET /metrics HTTP/1.1\r\nhost: x\r\nx-a: "] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(beginning.as_bytes()).await.unwrap();
        streams.push(stream);
    }
    streams
}

#[tokio::test]
async fn sockets_that_say_nothing_are_closed() {
    let index = TestIndex::new(20);
    let server = serve(&index, ConnectionOptions { handshake_timeout: SOON, ..patient() }).await;
    let (_client, idle) = (raw(server.address, WINDOW).await, channel(server.address).await);
    for mut stream in silent(server.address).await {
        assert!(is_closed(&mut stream).await);
    }
    // Connections of HTTP/2 may be idle.
    check_search(&mut RetrievalClient::new(idle)).await;
    assert!(server.metric("shortlist_closed_connections_total{reason=\"silent\"}").await >= Some(1.0));
}

#[tokio::test]
async fn silent_sockets_keep_nobody_out_and_busy_ones_keep_their_place() {
    let index = TestIndex::new(20);
    let server = serve(&index, ConnectionOptions { max_connections: 4, ..patient() }).await;
    let mut busy = Vec::new();
    for _ in 0..3 {
        busy.push(searching(server.address).await);
        drop(silent(server.address).await);
    }
    let _silent = silent(server.address).await;
    searching(server.address).await;
    for client in &mut busy {
        check_search(client).await;
    }
    let last = searching(server.address).await;
    assert!(is_closed(&mut TcpStream::connect(server.address).await.unwrap()).await);
    drop(last);
    eventually("the count of refusals", async || {
        let text = http1_get(server.address, "/metrics").await;
        text.contains("shortlist_refused_connections_total{reason=\"total\"}")
    })
    .await;
}

#[tokio::test]
async fn neither_half_a_call_nor_silence_delays_the_end() {
    let index = TestIndex::new(20);
    let server = serve(&index, patient()).await;
    let mut client = raw(server.address, WINDOW).await;
    let (response, mut body) = open(&mut client, SEARCH);
    let message = framed(&request(&QUERY, 5));
    body.send_data(message.slice(..10), false).unwrap();
    let (_idle, _requests) = open(&mut client, STREAM);
    let (_reflection, _questions) =
        open(&mut client, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
    let _silent = silent(server.address).await;
    let mut preface = TcpStream::connect(server.address).await.unwrap();
    preface.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    // All calls have arrived.
    server.until("shortlist_connections", 8.0).await;
    assert_eq!(server.stop().await, Drained::Complete);
    assert_eq!(code(response.await.unwrap().headers()), Some(Code::Unavailable));
}

#[tokio::test]
async fn a_client_that_gives_up_many_calls_keeps_its_connection() {
    let index = TestIndex::new(20);
    let server = serve(&index, patient()).await;
    let mut client = raw(server.address, WINDOW).await;
    // Of one task, so that the server finds calls and resets at once.
    for _ in 0..200 {
        let (_, mut body) = open(&mut client, SEARCH);
        body.send_reset(Reason::CANCEL);
    }
    let mut client = client.ready().await.unwrap();
    assert_eq!(send(&mut client, SEARCH, &request(&QUERY, 5)).await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_old_connection_is_closed_after_its_calls() {
    let index = TestIndex::new(20);
    let server = serve(&index, ConnectionOptions { max_age: SOON, ..patient() }).await;
    let mut client = searching(server.address).await;
    eventually("the end of the connection", async || {
        check_search(&mut client).await;
        server.metric("shortlist_closed_connections_total{reason=\"age\"}").await >= Some(1.0)
    })
    .await;
    searching(server.address).await;
}

/// One frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Reads frames until a stream ends. Returns the kind of the last one and the bytes of its DATA.
async fn end_of_stream(socket: &mut TcpStream, stream: u32) -> (u8, Vec<u8>) {
    let mut data = Vec::new();
    loop {
        let mut head = [0; 9];
        socket.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        socket.read_exact(&mut payload).await.unwrap();
        let (kind, flags) = (head[3], head[4]);
        if u32::from_be_bytes([head[5], head[6], head[7], head[8]]) != stream {
            continue;
        }
        match kind {
            0 => data.extend(payload),
            // RST_STREAM, or trailers.
            3 => return (kind, data),
            1 if flags & 1 != 0 => return (kind, data),
            _ => {}
        }
    }
}

/// What a client of the C library of gRPC sends that was given `ipv4:10.0.0.1:50051,10.0.0.2:50051`.
#[tokio::test]
async fn a_list_of_addresses_as_authority_is_answered() {
    let index = TestIndex::new(20);
    let server = serve(&index, patient()).await;
    let authority = b"10.0.0.1:50051,10.0.0.2:50051";
    let literal =
        |name: &[u8], value: &[u8]| [&[0x40, name.len() as u8], name, &[value.len() as u8], value].concat();
    let first = [
        literal(b":path", SEARCH.as_bytes()),
        literal(b":authority", authority),
        vec![0x83, 0x86],
        literal(b"content-type", b"application/grpc"),
        literal(b"te", b"trailers"),
    ]
    .concat();
    // The same fields by their index in the dynamic table.
    let second = vec![0xc1, 0xc0, 0x83, 0x86, 0xbf, 0xbe];
    let message = framed(&request(&QUERY, 5));
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket
        .write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(4, 0, 0, b"")[..]].concat())
        .await
        .unwrap();
    for (stream, block) in [(1, first), (3, second)] {
        let call = [frame(1, 4, stream, &block), frame(0, 1, stream, &message)].concat();
        // In parts, so that the list arrives in several.
        for part in call.chunks(50) {
            socket.write_all(part).await.unwrap();
            socket.flush().await.unwrap();
        }
        let (kind, data) = end_of_stream(&mut socket, stream).await;
        assert_eq!(kind, 1, "stream {stream}: reset, {data:x?}");
        let answer = SearchResponse::decode(&data[5..]).unwrap();
        assert_eq!(answer.candidates.len(), 5);
    }
}
