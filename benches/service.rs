//! What a search costs a caller over loopback: one at a time, in a batch, over a stream; and how long the
//! first answer takes of a server that was not there before.
//!
//! The server and its caller share the cores of this machine. Each way of asking is checked against the
//! others before it is timed, and so is what a server answers first. `SHORTLIST_BENCH_INDEX` names an index
//! folder to start servers on instead of the one made here; it is not written to.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shortlist::build::{BuildParams, Silent, build};
use shortlist::dataset::{Catalogue, CatalogueFiles, write_npy};
use shortlist::engine::{self, Engine, EngineOptions};
use shortlist::index::IndexStore;
use shortlist::metric::Metric;
use shortlist::service::proto::retrieval_client::RetrievalClient;
use shortlist::service::proto::{
    BatchSearchRequest, Dtype, PackedVector, SearchParams, SearchRequest, SearchResponse, Vector,
    batch_search_result, search_params, search_request, search_stream_item,
};
use shortlist::service::{ServiceOptions, serve};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::transport::Channel;

const VIDEOS: usize = 20_000;
const DIM: usize = 128;
const QUERIES: usize = 64;
const EF_SEARCH: u32 = 100;

fn random(rng: &mut ChaCha8Rng, rows: usize) -> Vec<f32> {
    (0..rows * DIM).map(|_| rng.random_range(-1.0..1.0)).collect()
}

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

async fn one(client: &mut RetrievalClient<Channel>, request: SearchRequest) -> SearchResponse {
    client.search(request).await.expect("a search succeeds").into_inner()
}

async fn batch(client: &mut RetrievalClient<Channel>, requests: Vec<SearchRequest>) -> Vec<SearchResponse> {
    let results = client.batch_search(BatchSearchRequest { requests }).await.expect("a batch succeeds");
    let response = |result| match result {
        Some(batch_search_result::Result::Response(response)) => response,
        other => panic!("expected a response, found {other:?}"),
    };
    results.into_inner().results.into_iter().map(|result| response(result.result)).collect()
}

async fn stream(client: &mut RetrievalClient<Channel>, requests: Vec<SearchRequest>) -> Vec<SearchResponse> {
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
    let store = build_index(folder.path());

    let runtime = Runtime::new().expect("a runtime");
    let indexes = vec![("videos".to_owned(), store.dir().to_owned())];
    let engine =
        Engine::open(EngineOptions { indexes, ..EngineOptions::default() }).expect("the index opens");
    let mut client = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(serve(listener, Arc::new(engine), ServiceOptions::default(), std::future::pending()));
        RetrievalClient::connect(format!("http://{address}")).await.expect("a connection")
    });

    let queries = random(&mut ChaCha8Rng::seed_from_u64(8), QUERIES);
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

/// A server of its own process; killed when dropped.
struct Process(Child);

impl Process {
    /// The time from here to its first answer, and that answer.
    fn start(
        dir: &Path,
        memory: &str,
        runtime: &Runtime,
        request: SearchRequest,
    ) -> (Duration, SearchResponse) {
        let started = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_shortlist"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--memory", memory, "--index"]).arg(dir);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Self(command.spawn().expect("the server starts"));
        let stdout = process.0.stdout.take().expect("a pipe");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("the server announces itself");
        let address = line.split_whitespace().nth(4).expect("an address");
        let answer = runtime.block_on(async {
            let url = format!("http://{address}");
            one(&mut RetrievalClient::connect(url).await.expect("a connection"), request).await
        });
        (started.elapsed(), answer)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// From starting the process to its first answer, with the index in the page cache.
fn cold_start(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = std::env::var_os("SHORTLIST_BENCH_INDEX").map(PathBuf::from);
    let dir = dir.unwrap_or_else(|| build_index(folder.path()).dir().to_owned());
    let indexes = vec![("videos".to_owned(), dir.clone())];
    let engine =
        Engine::open(EngineOptions { indexes, ..EngineOptions::default() }).expect("the index opens");
    engine.refresh();
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
                    let (elapsed, answer) = Process::start(&dir, memory, &runtime, request.clone());
                    let found: Vec<u64> = answer.candidates.iter().map(|found| found.video_id).collect();
                    assert_eq!(found, expected, "the first answer is another one");
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
        index: String::new(),
        query: engine::Query::Vector(query.to_vec()),
        k,
        plan: None,
        effort: engine::Effort::EfSearch(EF_SEARCH as usize),
        return_attributes: engine::ReturnAttributes::None,
        embedding_model: None,
    };
    let answer = engine.search(&request, &engine::Budget::default()).expect("a search succeeds");
    answer.candidates.iter().map(|candidate| candidate.video_id.0).collect()
}

/// An index of random embeddings.
fn build_index(folder: &Path) -> IndexStore {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let embeddings = folder.join("embeddings.npy");
    write_npy(&embeddings, &[VIDEOS, DIM], &random(&mut rng, VIDEOS)).expect("embeddings are written");
    let files = CatalogueFiles { embeddings, ..CatalogueFiles::default() };
    let catalogue = Catalogue::open(&files, Metric::InnerProduct).expect("the catalogue opens");
    let params = BuildParams::new(Metric::InnerProduct, 16, 100).expect("parameters are in range");
    let store = IndexStore::new(folder.join("index"));
    build(&catalogue, None, &params, &store, &Silent, Instant::now()).expect("the index is built");
    store
}

criterion_group!(benches, service, cold_start);
criterion_main!(benches);
