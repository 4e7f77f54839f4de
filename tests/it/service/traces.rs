//! Traces of a real server, which a real collector receives.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use parking_lot::Mutex;
use serde_json::json;
use shortlist::service::proto::catalog_client::CatalogClient;
use shortlist::service::proto::retrieval_client::RetrievalClient;
use shortlist::service::proto::{
    BatchSearchRequest, Cap, ExplainRequest, SearchRequest, UpsertRequest, Vector, Video,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status};

use super::json::client::Client;
use crate::harness::credentials::Authority;
use crate::harness::log::Log;
use crate::harness::process::{Served, serve};
use crate::harness::{DIM, TestIndex, channel, eventually, request};

const SEARCH: &str = "shortlist.v1.Retrieval/Search";
const DOWN: &str = "the collector of traces does not take spans; they are lost until it does";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
/// Every attribute that a span may have: none of them is an embedding or an id of a video.
const ATTRIBUTES: [&str; 31] = [
    "rpc.grpc.status_code",
    "rpc.method",
    "rpc.service",
    "rpc.system",
    "shortlist.batch_size",
    "shortlist.candidates",
    "shortlist.caps",
    "shortlist.class",
    "shortlist.client",
    "shortlist.completeness",
    "shortlist.distances",
    "shortlist.ef_search",
    "shortlist.effort",
    "shortlist.expected_cost_seconds",
    "shortlist.generation",
    "shortlist.has_exclusions",
    "shortlist.has_filter",
    "shortlist.hops",
    "shortlist.index",
    "shortlist.interests",
    "shortlist.k",
    "shortlist.log.mutations",
    "shortlist.matches",
    "shortlist.offset",
    "shortlist.plan",
    "shortlist.protocol",
    "shortlist.queue_seconds",
    "shortlist.request",
    "shortlist.requests",
    "shortlist.runs",
    "shortlist.sequence",
];

/// A collector, which keeps what it receives.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    services: Arc<Mutex<BTreeSet<String>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let attributes = attributes(&resource.resource.unwrap_or_default().attributes);
            self.services.lock().insert(attributes["service.name"].clone());
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.spans.lock().extend(spans);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start() -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let collector = Self::default();
        collector.listen(listener);
        (collector, address)
    }

    fn listen(&self, listener: TcpListener) {
        let server = Server::builder().add_service(TraceServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    }

    fn of_trace(&self, trace: &str) -> Vec<Span> {
        let spans = self.spans.lock();
        spans.iter().filter(|span| hex(&span.trace_id) == trace).cloned().collect()
    }

    /// The spans of calls.
    fn calls(&self) -> Vec<Span> {
        let spans = self.spans.lock();
        spans.iter().filter(|span| span.kind() == SpanKind::Server).cloned().collect()
    }

    /// Waits for the span of a call of this name, which is exported after those of its parts, and returns all of its trace.
    async fn call(&self, name: &str) -> Vec<Span> {
        let find = || self.calls().into_iter().find(|span| span.name == name);
        eventually(name, async || find().is_some()).await;
        self.of_trace(&hex(&find().unwrap().trace_id))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Values as text.
fn attributes(list: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => format!("{number:?}"),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        other => panic!("{other:?}"),
    };
    list.iter().map(|pair| (pair.key.clone(), text(&pair.value))).collect()
}

/// The only span of this name.
#[track_caller]
fn one<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let mut found = spans.iter().filter(|span| span.name == name);
    let span = found.next().unwrap_or_else(|| panic!("no {name} in {spans:#?}"));
    assert!(found.next().is_none(), "several {name}");
    span
}

#[track_caller]
fn assert_below(child: &Span, parent: &Span) {
    assert_eq!(hex(&child.parent_span_id), hex(&parent.span_id), "{} below {}", child.name, parent.name);
    assert_eq!(child.trace_id, parent.trace_id);
    assert!(child.start_time_unix_nano <= child.end_time_unix_nano, "{}", child.name);
    assert!(parent.start_time_unix_nano <= child.start_time_unix_nano, "{} in {}", child.name, parent.name);
}

/// A server that exports to `collector`, with further settings of `[traces]`.
fn traced(index: &TestIndex, collector: SocketAddr, settings: &[(&str, &str)]) -> (Served, Log) {
    let mut command = serve(index);
    command.env("SHORTLIST_SERVE_TRACES__ENDPOINT", format!("http://{collector}"));
    for (key, value) in settings {
        command.env(format!("SHORTLIST_SERVE_TRACES__{key}"), value);
    }
    Served::logged(command)
}

async fn retrieval(served: &Served) -> RetrievalClient<Channel> {
    RetrievalClient::new(channel(served.address).await)
}

/// A search with rules, whose query nobody else has.
fn ruled() -> SearchRequest {
    let cap = Cap { attribute: "safe".to_owned(), max_per_value: 3 };
    SearchRequest { filter_text: "delta <= 0".to_owned(), caps: vec![cap], ..request(&[0.625; DIM], 4) }
}

/// A request with a W3C parent.
fn below<T>(message: T, flags: &str) -> Request<T> {
    let mut request = Request::new(message);
    let parent = format!("00-{TRACE}-{PARENT}-{flags}");
    request.metadata_mut().insert("traceparent", parent.parse().unwrap());
    request.metadata_mut().insert("tracestate", "vendor=a".parse().unwrap());
    request
}

/// Ends the server and waits until it has.
async fn end(mut served: Served) {
    served.terminate();
    eventually("the end of the server", async || served.process.try_wait().unwrap().is_some()).await;
    assert!(served.process.wait().unwrap().success());
}

#[tokio::test]
async fn a_search_has_a_span_and_spans_of_its_stages() {
    let index = TestIndex::new(40);
    let (collector, address) = Collector::start().await;
    let settings = [("SAMPLE", "1"), ("SERVICE_NAME", "candidates")];
    let (served, _log) = traced(&index, address, &settings);
    let mut client = retrieval(&served).await;
    assert_eq!(client.search(ruled()).await.unwrap().into_inner().candidates.len(), 4);
    let spans = collector.call(SEARCH).await;
    let names: BTreeSet<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, [SEARCH, "admission", "choosing", "planning", "rescoring", "search"].into());
    let call = one(&spans, SEARCH);
    assert!(call.parent_span_id.is_empty());
    let of_call = attributes(&call.attributes);
    for (key, value) in [
        ("rpc.system", "grpc"),
        ("rpc.service", "shortlist.v1.Retrieval"),
        ("rpc.method", "Search"),
        ("rpc.grpc.status_code", "0"),
        ("shortlist.index", "default"),
        ("shortlist.client", "127.0.0.1"),
        ("shortlist.protocol", "grpc"),
        ("shortlist.requests", "1"),
    ] {
        assert_eq!(of_call[key], value, "{key}");
    }
    let (admission, planning, search) =
        (one(&spans, "admission"), one(&spans, "planning"), one(&spans, "search"));
    for span in [admission, planning, search] {
        assert_below(span, call);
    }
    assert_below(one(&spans, "rescoring"), search);
    assert_below(one(&spans, "choosing"), search);
    assert!(planning.end_time_unix_nano <= search.start_time_unix_nano);
    let of_admission = attributes(&admission.attributes);
    assert_eq!(of_admission["shortlist.class"], "short");
    assert!(of_admission["shortlist.expected_cost_seconds"].parse::<f64>().unwrap() > 0.0);
    let of_planning = attributes(&planning.attributes);
    assert_eq!((&*of_planning["shortlist.k"], &*of_planning["shortlist.caps"]), ("4", "1"));
    assert_eq!((&*of_planning["shortlist.has_filter"], &*of_planning["shortlist.matches"]), ("true", "40"));
    let of_search = attributes(&search.attributes);
    assert_eq!(
        (&*of_search["shortlist.candidates"], &*of_search["shortlist.completeness"]),
        ("4", "complete")
    );
    assert!(of_search["shortlist.distances"].parse::<u64>().unwrap() >= 4);
    assert!(!of_search["shortlist.plan"].is_empty());
    for (key, value) in spans.iter().flat_map(|span| attributes(&span.attributes)) {
        assert!(ATTRIBUTES.contains(&key.as_str()), "{key}");
        assert!(!value.contains("0.625"), "{key}: {value}");
    }
    assert_eq!(*collector.services.lock(), ["candidates".to_owned()].into());
}

#[tokio::test]
async fn a_collector_is_verified_with_the_certificates_of_the_system() {
    let index = TestIndex::new(20);
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let (trusted, stranger) = (folder.path().join("trusted.pem"), folder.path().join("stranger.pem"));
    std::fs::write(&trusted, authority.pem()).unwrap();
    std::fs::write(&stranger, Authority::new().pem()).unwrap();
    let (certificate, key) = authority.certificate();
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let collector = Collector::default();
    let server =
        Server::builder().tls_config(tls).unwrap().add_service(TraceServiceServer::new(collector.clone()));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    for (certificates, is_trusted) in [(stranger, false), (trusted, true)] {
        let mut command = serve(&index);
        command.env("SSL_CERT_FILE", certificates).env_remove("SSL_CERT_DIR");
        command.env("SHORTLIST_SERVE_TRACES__ENDPOINT", &endpoint).env("SHORTLIST_SERVE_TRACES__SAMPLE", "1");
        let (served, log) = Served::logged(command);
        retrieval(&served).await.search(request(&[1.0; DIM], 2)).await.unwrap();
        end(served).await;
        assert_eq!(collector.calls().len(), usize::from(is_trusted));
        let is_down = |event: &serde_json::Value| event["fields"]["message"] == DOWN;
        assert_eq!(log.end().iter().any(is_down), !is_trusted);
    }
}

#[tokio::test]
async fn a_parent_in_metadata_or_headers_is_continued_if_it_is_sampled() {
    let index = TestIndex::new(20);
    let (collector, address) = Collector::start().await;
    let (served, log) = traced(&index, address, &[("SAMPLE", "0")]);
    let mut client = retrieval(&served).await;
    client.search(below(request(&[1.0; DIM], 2), "01")).await.unwrap();
    let spans = collector.call(SEARCH).await;
    let call = one(&spans, SEARCH);
    assert_eq!((hex(&call.trace_id).as_str(), hex(&call.parent_span_id).as_str()), (TRACE, PARENT));
    assert_eq!(call.trace_state, "vendor=a");

    let other = TRACE.replace('0', "1");
    let json = Client::new(served.address).with("traceparent", &format!("00-{other}-{PARENT}-01"));
    let body = json!({"vector": {"values": [1, 1, 1, 1, 1, 1, 1, 1]}, "k": 2});
    let body = json.post("/v1/indexes/default:search", &body).await;
    assert_eq!(body.code, 200, "{body:?}");
    eventually("the call in JSON", async || {
        collector.of_trace(&other).iter().any(|span| span.name == SEARCH)
    })
    .await;
    let spans = collector.of_trace(&other);
    let call = one(&spans, SEARCH);
    assert_eq!(hex(&call.parent_span_id), PARENT);
    let of_call = attributes(&call.attributes);
    assert_eq!((&*of_call["shortlist.protocol"], &*of_call["rpc.grpc.status_code"]), ("json", "0"));
    // Nothing is sampled here without a parent.
    client.search(request(&[1.0; DIM], 2)).await.unwrap();
    end(served).await;
    assert_eq!(collector.calls().len(), 2);
    assert!(!log.end().iter().any(|event| event["level"] == "WARN"));
}

#[tokio::test]
async fn an_unsampled_parent_is_not_traced_whatever_is_sampled_here() {
    let index = TestIndex::new(20);
    let (collector, address) = Collector::start().await;
    let (served, _log) = traced(&index, address, &[("SAMPLE", "1")]);
    let mut client = retrieval(&served).await;
    client.search(below(request(&[1.0; DIM], 2), "00")).await.unwrap();
    let json = Client::new(served.address).with("traceparent", &format!("00-{TRACE}-{PARENT}-00"));
    json.get("/v1/indexes").await.ok();
    // Health and metrics are no calls of Shortlist.
    assert!(crate::harness::http1_get(served.address, "/metrics").await.contains("shortlist_"));
    client.search(request(&[1.0; DIM], 2)).await.unwrap();
    end(served).await;
    assert!(collector.of_trace(TRACE).is_empty());
    assert_eq!(collector.calls().iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), [SEARCH]);
}

#[tokio::test]
async fn the_configured_share_of_calls_is_traced() {
    const CALLS: usize = 400;
    let index = TestIndex::new(20);
    let (collector, address) = Collector::start().await;
    let (served, _log) = traced(&index, address, &[("SAMPLE", "0.5"), ("MAX_PER_SECOND", "100000")]);
    let mut client = retrieval(&served).await;
    for _ in 0..CALLS {
        client.search(request(&[1.0; DIM], 2)).await.unwrap();
    }
    end(served).await;
    // Ten standard deviations around the mean.
    let traced = collector.calls().len();
    assert!((CALLS / 4..=CALLS * 3 / 4).contains(&traced), "{traced}");
}

#[tokio::test]
async fn callers_cannot_ask_for_more_traces_per_second_than_allowed() {
    const CALLS: u64 = 300;
    const PER_SECOND: u64 = 3;
    let index = TestIndex::new(20);
    let (collector, address) = Collector::start().await;
    let (served, _log) = traced(&index, address, &[("SAMPLE", "0"), ("MAX_PER_SECOND", "3")]);
    let mut client = retrieval(&served).await;
    let started = std::time::Instant::now();
    for _ in 0..CALLS {
        client.search(below(request(&[1.0; DIM], 2), "01")).await.unwrap();
    }
    // As many seconds may have begun.
    let most = PER_SECOND * (started.elapsed().as_secs() + 2);
    end(served).await;
    let traced = collector.calls().len() as u64;
    assert!((1..=most).contains(&traced), "{traced} of {CALLS}, at most {most}");
}

#[tokio::test]
async fn the_searches_of_a_batch_have_spans_of_their_own_and_their_number_is_bounded() {
    let index = TestIndex::new(20);
    let (collector, address) = Collector::start().await;
    let (served, _log) = traced(&index, address, &[("SAMPLE", "1")]);
    let mut client = retrieval(&served).await;
    let mut requests = vec![request(&[1.0; DIM], 2); 40];
    requests[1].k = 0;
    client.batch_search(BatchSearchRequest { requests }).await.unwrap();
    let spans = collector.call("shortlist.v1.Retrieval/BatchSearch").await;
    let call = one(&spans, "shortlist.v1.Retrieval/BatchSearch");
    assert_eq!(attributes(&call.attributes)["shortlist.requests"], "40");
    let requests: Vec<&Span> = spans.iter().filter(|span| span.name == "request").collect();
    assert_eq!(requests.len(), 32);
    let codes: BTreeMap<String, String> = requests
        .iter()
        .map(|span| {
            assert_below(span, call);
            let of_request = attributes(&span.attributes);
            (of_request["shortlist.request"].clone(), of_request["rpc.grpc.status_code"].clone())
        })
        .collect();
    assert_eq!(codes["requests[0]"], "0");
    assert_eq!(codes["requests[1]"], i32::from(Code::InvalidArgument).to_string());
    let of_requests = |span: &&Span| requests.iter().any(|request| request.span_id == span.parent_span_id);
    assert_eq!(spans.iter().filter(|span| span.name == "planning").filter(of_requests).count(), 31);
}

#[tokio::test]
async fn a_write_has_spans_of_its_wait_and_of_the_log() {
    let index = TestIndex::new(20);
    let (collector, address) = Collector::start().await;
    let (served, _log) = traced(&index, address, &[("SAMPLE", "1")]);
    let mut client = CatalogClient::new(channel(served.address).await);
    let video = |video_id| Video {
        video_id,
        vector: Some(Vector { values: vec![0.625; DIM], packed: None }),
        ..Video::default()
    };
    let upsert = UpsertRequest { videos: vec![video(1), video(2)], ..UpsertRequest::default() };
    client.upsert(upsert).await.unwrap();
    let spans = collector.call("shortlist.v1.Catalog/Upsert").await;
    let call = one(&spans, "shortlist.v1.Catalog/Upsert");
    assert_below(one(&spans, "admission"), call);
    let (write, append) = (one(&spans, "log write"), one(&spans, "log append"));
    assert_below(write, call);
    assert_below(append, write);
    assert!(append.end_time_unix_nano <= write.end_time_unix_nano);
    let of_write = attributes(&write.attributes);
    assert_eq!((&*of_write["shortlist.batch_size"], &*of_write["shortlist.sequence"]), ("2", "2"));
    assert_eq!(attributes(&append.attributes)["shortlist.log.mutations"], "2");
    assert_eq!(attributes(&call.attributes)["shortlist.index"], "default");
}

#[tokio::test]
async fn a_refused_call_has_its_code_and_a_server_error_is_an_error() {
    let index = TestIndex::new(20);
    let (collector, address) = Collector::start().await;
    let (served, _log) = traced(&index, address, &[("SAMPLE", "1")]);
    let mut client = retrieval(&served).await;
    assert_eq!(client.search(request(&[1.0; DIM], 0)).await.unwrap_err().code(), Code::InvalidArgument);
    let spans = collector.call(SEARCH).await;
    let call = one(&spans, SEARCH);
    assert_eq!(attributes(&call.attributes)["rpc.grpc.status_code"], "3");
    assert_eq!(call.status.clone().unwrap_or_default().code, 0);
    // A write that the server does not have yet.
    let unwritten = SearchRequest { min_sequence: 99, ..request(&[1.0; DIM], 2) };
    let explain = ExplainRequest { request: Some(unwritten), video_id: 1, ..ExplainRequest::default() };
    assert_eq!(client.explain(explain).await.unwrap_err().code(), Code::Unavailable);
    let spans = collector.call("shortlist.v1.Retrieval/Explain").await;
    let call = one(&spans, "shortlist.v1.Retrieval/Explain");
    assert_eq!(attributes(&call.attributes)["rpc.grpc.status_code"], "14");
    assert_eq!(call.status.clone().unwrap_or_default().code, 2);
    assert_below(one(&spans, "explain"), call);
}

/// The address of a port where nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn without_a_collector_calls_go_on_and_one_warning_is_logged() {
    let index = TestIndex::new(20);
    let (served, log) = traced(&index, nobody().await, &[("SAMPLE", "1"), ("MAX_PER_SECOND", "100000")]);
    let mut client = retrieval(&served).await;
    // Of at least four spans each: several batches of 512.
    for _ in 0..1000 {
        client.search(request(&[1.0; DIM], 2)).await.unwrap();
    }
    log.until(DOWN).await;
    end(served).await;
    let warnings = log.end().into_iter().filter(|event| event["fields"]["message"] == DOWN).count();
    assert_eq!(warnings, 1);
}

#[tokio::test]
async fn a_collector_that_comes_back_gets_spans_and_the_log_counts_those_lost() {
    let index = TestIndex::new(20);
    let address = nobody().await;
    let (served, log) = traced(&index, address, &[("SAMPLE", "1")]);
    let mut client = retrieval(&served).await;
    client.search(request(&[1.0; DIM], 2)).await.unwrap();
    log.until(DOWN).await;
    let collector = Collector::default();
    collector.listen(TcpListener::bind(address).await.unwrap());
    let recovered = "the collector of traces takes spans again";
    eventually(recovered, async || {
        client.search(request(&[1.0; DIM], 2)).await.unwrap();
        !log.of(recovered).is_empty()
    })
    .await;
    assert!(log.of(recovered)[0]["lost_spans"].as_u64().unwrap() > 0);
    assert!(!collector.calls().is_empty());
}

#[tokio::test]
async fn a_collector_that_does_not_answer_delays_neither_calls_nor_the_end() {
    let index = TestIndex::new(20);
    // Connections wait in its queue.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = [("SAMPLE", "1"), ("MAX_PER_SECOND", "100000")];
    let (served, log) = traced(&index, silent.local_addr().unwrap(), &settings);
    let mut client = retrieval(&served).await;
    // More spans than the queue holds.
    for _ in 0..3000 {
        client.search(request(&[1.0; DIM], 2)).await.unwrap();
    }
    end(served).await;
    assert!(log.end().iter().any(|event| event["fields"]["message"] == "stopped"));
}
