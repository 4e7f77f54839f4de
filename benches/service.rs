//! Cost of a search over gRPC on loopback: latency of single, batched and streamed searches; processor time of the server
//! compared with the engine alone, with encryption and credentials, and with traces; and time from starting a server to its first answer.
//!
//! Server and caller share the cores of this machine. All ways to search are checked to give equal answers before they
//! are timed. `SHORTLIST_BENCH_INDEX` names an index folder to serve instead of a random one; it is not written to.
//! `SHORTLIST_BENCH_QUERIES` names a file of queries for it, `.npy`; by default they are random.

#[path = "common/credentials.rs"]
mod credentials;
#[path = "common/processor_time.rs"]
mod processor_time;
#[path = "common/random.rs"]
mod random;
#[path = "common/server.rs"]
mod server;

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use shortlist::dataset::Embeddings;
use shortlist::engine::{self, Engine, EngineOptions};
use shortlist::service::proto::retrieval_client::RetrievalClient;
use shortlist::service::proto::{
    BatchSearchRequest, Dtype, PackedVector, SearchParams, SearchRequest, SearchResponse, Vector,
    batch_search_result, search_params, search_request, search_stream_item,
};
use shortlist::service::{ServiceOptions, serve};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use self::credentials::{Credential, Files, Secured};
use self::processor_time::processor_time;
use self::random::{random_index, random_rows};
use self::server::Server;

/// A client with or without a credential.
type Client = RetrievalClient<Secured>;

const VIDEOS: usize = 20_000;
const DIM: usize = 128;
const QUERIES: usize = 64;
const EF_SEARCH: u32 = 200;

fn packed(values: &[f32], k: u32) -> SearchRequest {
    let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let packed = Some(PackedVector { data, dtype: Dtype::F32.into() });
    SearchRequest {
        query: Some(search_request::Query::Vector(Vector { values: Vec::new(), packed })),
        k,
        params: Some(SearchParams {
            effort: Some(search_params::Effort::EfSearch(EF_SEARCH)),
            ..SearchParams::default()
        }),
        ..SearchRequest::default()
    }
}

fn repeated(values: &[f32], k: u32) -> SearchRequest {
    let vector = Vector { values: values.to_vec(), packed: None };
    SearchRequest { query: Some(search_request::Query::Vector(vector)), ..packed(values, k) }
}

/// Returns a client that sends `credential` with each call.
fn client(channel: Channel, credential: Option<&str>) -> Client {
    RetrievalClient::with_interceptor(channel, Credential::new(credential))
}

async fn one(client: &mut Client, request: SearchRequest) -> SearchResponse {
    client.search(request).await.expect("a search succeeds").into_inner()
}

async fn batch(client: &mut Client, requests: Vec<SearchRequest>) -> Vec<SearchResponse> {
    let results = client.batch_search(BatchSearchRequest { requests }).await.expect("a batch succeeds");
    let response = |result| match result {
        Some(batch_search_result::Result::Response(response)) => response,
        other => panic!("expected a response, found {other:?}"),
    };
    results.into_inner().results.into_iter().map(|result| response(result.result)).collect()
}

async fn stream(client: &mut Client, requests: Vec<SearchRequest>) -> Vec<SearchResponse> {
    let call = client.stream_search(tokio_stream::iter(requests)).await;
    let (mut items, mut responses) = (call.expect("a stream begins").into_inner(), Vec::new());
    while let Some(item) = items.message().await.expect("a stream goes on") {
        match item.item {
            Some(search_stream_item::Item::Response(response)) => responses.push(response),
            other => panic!("expected a response, found {other:?}"),
        }
    }
    responses
}

fn service(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = random_index(folder.path(), VIDEOS, DIM);

    let runtime = Runtime::new().expect("a runtime");
    let indexes = vec![("videos".to_owned(), store.dir().to_owned())];
    let engine =
        Engine::open(EngineOptions { indexes, ..EngineOptions::default() }).expect("the index opens");
    let mut client = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(serve(listener, Arc::new(engine), ServiceOptions::default(), std::future::pending()));
        let channel = Endpoint::from_shared(format!("http://{address}")).expect("an address").connect().await;
        client(channel.expect("a connection"), None)
    });

    let queries = random_rows(&mut ChaCha8Rng::seed_from_u64(8), QUERIES, DIM);
    let queries: Vec<&[f32]> = queries.chunks_exact(DIM).collect();
    let all = |k| queries.iter().map(|query| packed(query, k)).collect::<Vec<_>>();
    let expected: Vec<SearchResponse> =
        queries.iter().map(|query| runtime.block_on(one(&mut client, repeated(query, 100)))).collect();
    assert!(expected.iter().all(|response| response.candidates.len() == 100), "short answers");
    assert_eq!(runtime.block_on(batch(&mut client, all(100))), expected, "a batch answers differently");
    assert_eq!(runtime.block_on(stream(&mut client, all(100))), expected, "a stream answers differently");

    let mut group = criterion.benchmark_group("service");
    group.throughput(Throughput::Elements(1));
    for k in [10, 100] {
        for (name, request) in [("repeated", repeated(queries[0], k)), ("packed", packed(queries[0], k))] {
            group.bench_function(format!("search/{name}/k{k}"), |bencher| {
                bencher.iter(|| runtime.block_on(one(&mut client, request.clone())));
            });
        }
    }
    group.throughput(Throughput::Elements(QUERIES as u64));
    group.bench_function(format!("batch/{QUERIES}/k100"), |bencher| {
        bencher.iter(|| runtime.block_on(batch(&mut client, all(100))));
    });
    group.bench_function(format!("stream/{QUERIES}/k100"), |bencher| {
        bencher.iter(|| runtime.block_on(stream(&mut client, all(100))));
    });
    group.finish();
}

/// Concurrent searches.
const CONCURRENT: usize = 32;
/// Connections that they are distributed over.
const CONNECTIONS: usize = 4;

/// Sends each of `requests` in its own call, [`CONCURRENT`] at a time.
async fn unary(clients: &[Client], requests: Vec<SearchRequest>) {
    let queue = Arc::new(parking_lot::Mutex::new(requests));
    let run = |caller: usize| {
        let (mut client, queue) = (clients[caller % clients.len()].clone(), Arc::clone(&queue));
        tokio::spawn(async move {
            loop {
                let Some(request) = queue.lock().pop() else { return };
                one(&mut client, request).await;
            }
        })
    };
    for caller in (0..CONCURRENT).map(run).collect::<Vec<_>>() {
        caller.await.expect("a caller ends");
    }
}

/// Processor time of the server per search, and of the engine alone on one thread. The ratio engine / server is the share
/// of the engine's queries per second and core that remains over gRPC.
fn cost_of_server(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = index_dir(folder.path());
    let engine = open(&dir);
    let dim = engine.status("videos").expect("the index has a state").dim;
    let queries = queries(dim as usize);
    let runtime = Runtime::new().expect("a runtime");
    // Mapped, like the index of the engine that it is compared with.
    let mapped = ["--memory", "mapped", "--index"].map(OsStr::new);
    let server = Server::start(mapped.into_iter().chain([dir.as_os_str()]));
    let clients: Vec<_> =
        (0..CONNECTIONS).map(|_| client(runtime.block_on(server.connect()), None)).collect();
    let requests = |count: u64| -> Vec<SearchRequest> {
        (0..count as usize).map(|at| packed(&queries[at % queries.len()], 100)).collect()
    };
    let of_server = |count: u64, run: &dyn Fn(Vec<SearchRequest>)| {
        let before = processor_time(server.id(), "");
        run(requests(count));
        processor_time(server.id(), "") - before
    };

    let mut group = criterion.benchmark_group("processor_time");
    group.throughput(Throughput::Elements(1)).sample_size(10).measurement_time(Duration::from_secs(10));
    group.bench_function("engine/k100", |bencher| {
        bencher.iter_custom(|count| {
            let before = processor_time(std::process::id(), "");
            for at in 0..count as usize {
                engine_answer(&engine, &queries[at % queries.len()], 100);
            }
            processor_time(std::process::id(), "") - before
        });
    });
    group.bench_function("search/k100", |bencher| {
        bencher
            .iter_custom(|count| of_server(count, &|requests| runtime.block_on(unary(&clients, requests))));
    });
    group.bench_function(format!("batch/{QUERIES}/k100"), |bencher| {
        bencher.iter_custom(|count| {
            of_server(count, &|requests| {
                for chunk in requests.chunks(QUERIES) {
                    runtime.block_on(batch(&mut clients[0].clone(), chunk.to_vec()));
                }
            })
        });
    });
    group.bench_function("stream/k100", |bencher| {
        bencher.iter_custom(|count| {
            of_server(count, &|requests| {
                runtime.block_on(stream(&mut clients[0].clone(), requests));
            })
        });
    });
    group.finish();
}

/// Returns queries of `dim` dimensions, from the named file or random.
fn queries(dim: usize) -> Vec<Vec<f32>> {
    let Some(path) = std::env::var_os("SHORTLIST_BENCH_QUERIES") else {
        let values = random_rows(&mut ChaCha8Rng::seed_from_u64(8), QUERIES, dim);
        return values.chunks_exact(dim).map(<[f32]>::to_vec).collect();
    };
    let file = Embeddings::open(Path::new(&path)).expect("the queries open");
    assert_eq!(file.view().dim(), dim, "queries and index have different dimensions");
    let row = |row| {
        let mut values = Vec::new();
        file.view().copy_row(row, &mut values);
        values
    };
    (0..file.view().len()).map(row).collect()
}

/// Processor time of the server per search, in plaintext and encrypted, with credentials and without. Each way has its own
/// server.
fn access(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = index_dir(folder.path());
    let dim = open(&dir).status("videos").expect("the index has a state").dim;
    let queries = queries(dim as usize);
    let runtime = Runtime::new().expect("a runtime");
    let files = Files::new();
    let mut group = criterion.benchmark_group("access");
    group.throughput(Throughput::Elements(1)).sample_size(10).measurement_time(Duration::from_secs(10));
    let ways = [
        ("plain", false, None),
        ("tls", true, None),
        ("key", false, Some(files.key())),
        ("tls_key", true, Some(files.key())),
        ("token_hs256", false, Some(files.token("hs"))),
        ("token_es256", false, Some(files.token("es"))),
    ];
    for (name, is_encrypted, credential) in &ways {
        let config = files.config(*is_encrypted, credential.is_some());
        let server = Server::start(["--config".as_ref(), config.as_path(), "--index".as_ref(), &dir]);
        let connect = |_| {
            let channel = runtime.block_on(files.connect(&server.address, *is_encrypted));
            client(channel, credential.as_deref())
        };
        let clients: Vec<Client> = (0..CONNECTIONS).map(connect).collect();
        group.bench_function(format!("{name}/k100"), |bencher| {
            bencher.iter_custom(|count| {
                let request = |at: usize| packed(&queries[at % queries.len()], 100);
                let requests = (0..count as usize).map(request).collect();
                let before = processor_time(server.id(), "");
                runtime.block_on(unary(&clients, requests));
                processor_time(server.id(), "") - before
            });
        });
    }
    group.finish();
}

/// A collector of traces, which drops what it receives.
struct Collector;

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        _: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// Starts a collector in this process, and returns its address.
async fn collector() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(Collector));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

/// Processor time per search of a server that traces a share of the searches, next to one that traces none. Both serve the
/// same searches by turns. Prints the median of the ratios of all pairs.
fn traces(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = index_dir(folder.path());
    let dim = open(&dir).status("videos").expect("the index has a state").dim;
    let queries = queries(dim as usize);
    let runtime = Runtime::new().expect("a runtime");
    let endpoint = format!("http://{}", runtime.block_on(collector()));
    let start = |traces: &str| {
        let config = folder.path().join("serve.toml");
        std::fs::write(&config, traces).expect("a file");
        let server = Server::start(["--config".as_ref(), config.as_path(), "--index".as_ref(), &dir]);
        let clients: Vec<Client> =
            (0..CONNECTIONS).map(|_| client(runtime.block_on(server.connect()), None)).collect();
        (server, clients)
    };
    let cost = |(server, clients): &(Server, Vec<Client>), count: u64| {
        let request = |at: usize| packed(&queries[at % queries.len()], 100);
        let requests = (0..count as usize).map(request).collect();
        let before = processor_time(server.id(), "");
        runtime.block_on(unary(clients, requests));
        processor_time(server.id(), "") - before
    };
    let off = start("");
    let mut group = criterion.benchmark_group("traces");
    group.throughput(Throughput::Elements(1)).sample_size(10).measurement_time(Duration::from_secs(20));
    for (name, sample) in [("sample_1_percent", 0.01), ("sample_all", 1.0)] {
        let limit = 1_000_000;
        let config =
            format!("[traces]\nendpoint = '{endpoint}'\nsample = {sample}\nmax_per_second = {limit}\n");
        let on = start(&config);
        let mut ratios = Vec::new();
        group.bench_function(format!("{name}/k100"), |bencher| {
            bencher.iter_custom(|count| {
                let (with, without) = match ratios.len() % 2 {
                    0 => {
                        let without = cost(&off, count);
                        (cost(&on, count), without)
                    }
                    _ => (cost(&on, count), cost(&off, count)),
                };
                // The first calls of the harness are short, and mostly noise.
                if without > Duration::from_millis(500) {
                    ratios.push(with.as_secs_f64() / without.as_secs_f64());
                }
                with
            });
        });
        ratios.sort_by(f64::total_cmp);
        if let (Some(first), Some(last)) = (ratios.first(), ratios.last()) {
            let (median, pairs) = (ratios[ratios.len() / 2], ratios.len());
            println!(
                "{name}: {median:.4} of the time without traces ({first:.4} to {last:.4}, {pairs} pairs)"
            );
        }
    }
    group.finish();
}

/// Time from starting the process to its first answer, with the index in the page cache.
fn cold_start(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = index_dir(folder.path());
    let engine = open(&dir);
    let status = engine.status("videos").expect("the index has a state");
    let query: Vec<f32> = (0..status.dim).map(|at| (at as f32).sin()).collect();
    let request = packed(&query, 100);
    let expected = engine_answer(&engine, &query, 100);

    let runtime = Runtime::new().expect("a runtime");
    let mut group = criterion.benchmark_group("cold_start");
    group.sample_size(20);
    for memory in ["mapped", "resident"] {
        group.bench_function(format!("first_answer/{memory}"), |bencher| {
            bencher.iter_custom(|starts| {
                let start = |_| {
                    let started = Instant::now();
                    let server = Server::start(
                        ["--memory", memory, "--index"].map(OsStr::new).into_iter().chain([dir.as_os_str()]),
                    );
                    let answer = runtime.block_on(async {
                        let mut client = client(server.connect().await, None);
                        one(&mut client, request.clone()).await
                    });
                    let elapsed = started.elapsed();
                    let found: Vec<u64> = answer.candidates.iter().map(|found| found.video_id).collect();
                    assert_eq!(found, expected, "the first answer differs from the engine's");
                    elapsed
                };
                (0..starts).map(start).sum()
            });
        });
    }
    group.finish();
}

fn engine_answer(engine: &Engine, query: &[f32], k: usize) -> Vec<u64> {
    let request = engine::SearchRequest {
        query: engine::Query::Vector(query.to_vec()),
        k,
        effort: engine::Effort::EfSearch(EF_SEARCH as usize),
        ..engine::SearchRequest::default()
    };
    let answer = engine.search(&request, &engine::Budget::default()).expect("a search succeeds");
    answer.candidates.iter().map(|candidate| candidate.video_id.0).collect()
}

/// The index to serve: the named one, or a random one built in `folder`.
fn index_dir(folder: &Path) -> PathBuf {
    let named = std::env::var_os("SHORTLIST_BENCH_INDEX").map(PathBuf::from);
    named.unwrap_or_else(|| random_index(folder, VIDEOS, DIM).dir().to_owned())
}

fn open(dir: &Path) -> Engine {
    let indexes = vec![("videos".to_owned(), dir.to_owned())];
    let options = EngineOptions { indexes, ..EngineOptions::default() };
    let engine = Engine::open(options).expect("the index opens");
    engine.refresh();
    engine
}

criterion_group!(benches, service, cost_of_server, access, traces, cold_start);
criterion_main!(benches);
