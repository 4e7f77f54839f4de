//! Mutated requests to a real server: each gets an answer with a documented code, and the server stays as it was.
//!
//! `MESSAGE_MUTANTS=1000000 cargo test --test it service::mutants` tries more of them; `MESSAGE_SEED` sets the seed.

mod seeds;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{HeaderMap, Request, StatusCode};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use prost::Message;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use shortlist::service::proto::catalog_client::CatalogClient;
use shortlist::service::proto::lookup::State;
use shortlist::service::proto::retrieval_client::RetrievalClient;
use shortlist::service::proto::{
    BatchSearchResponse, GetRequest, SearchRequest, SearchStreamItem, StreamUpsertResponse, TakedownRequest,
    UpsertRequest, Vector, Video, VideoIdCondition, WriteResponse, batch_search_result, condition,
    search_stream_item, stream_upsert_response,
};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::Code;

use self::seeds::QUERY;
use self::wire::{Descriptors, mutant};
use crate::harness::process::{Served, shortlist};
use crate::harness::wire::must;
use crate::harness::{TestIndex, channel, http1_get, request};

/// How many mutants are tried.
const MUTANTS: u64 = 4_000;
const CONNECTIONS: u64 = 4;
const CALLS_PER_CONNECTION: u64 = 32;
/// Messages of a call that may have several.
const MESSAGES_PER_STREAM: u64 = 4;
/// Beside the writes that mutants made, which stay in memory until they are in a generation.
const MEMORY_MIB: u64 = 128;
/// Videos that no seed names.
const TAKEN_DOWN: u64 = 0x5eed_7a4e_d011_0001;
const WRITTEN: u64 = 0x5eed_7a4e_d011_0002;

const METHODS: [&str; 25] = [
    "Retrieval/Search",
    "Retrieval/BatchSearch",
    "Retrieval/StreamSearch",
    "Retrieval/Explain",
    "Catalog/Upsert",
    "Catalog/StreamUpsert",
    "Catalog/Delete",
    "Catalog/Takedown",
    "Catalog/Restore",
    "Catalog/Get",
    "Admin/GetStatus",
    // Before the generation of its seeds is activated.
    "Admin/SetShadow",
    "Admin/Activate",
    "Admin/Rebuild",
    "Admin/CancelRebuild",
    "Admin/SetAlias",
    "Admin/ListAliases",
    "Admin/GetHistory",
    "Admin/ListGenerations",
    "Admin/CompareGenerations",
    "Admin/SampleUsers",
    "Admin/ListChanges",
    "Catalog/ListIndexes",
    "Catalog/ListValues",
    "Catalog/GetMap",
];

/// The codes that the services document.
const DOCUMENTED: [Code; 8] = [
    Code::Ok,
    Code::InvalidArgument,
    Code::NotFound,
    Code::FailedPrecondition,
    Code::ResourceExhausted,
    Code::OutOfRange,
    Code::DeadlineExceeded,
    Code::Unavailable,
];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// What the tasks of all connections share.
struct Mutants {
    seeds: Vec<(&'static str, Vec<u8>)>,
    first_seed: u64,
    count: u64,
    next: AtomicU64,
}

impl Mutants {
    /// The next call: its seed, method and messages. `None` after the last one.
    fn next(&self) -> Option<(u64, &'static str, Vec<Vec<u8>>)> {
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        if at >= self.count {
            return None;
        }
        let seed = self.first_seed + at;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (method, message) = self.seeds.choose(&mut random).unwrap();
        let messages =
            if method.contains("/Stream") { random.random_range(1..=MESSAGES_PER_STREAM) } else { 1 };
        self.next.fetch_add(messages - 1, Ordering::Relaxed);
        let mutants = (0..messages).map(|_| {
            let (_, other) = self.seeds.choose(&mut random).unwrap();
            mutant(message, other, &mut random)
        });
        let mutants = mutants.collect();
        Some((seed, method, mutants))
    }
}

#[test]
fn seeds_set_every_field_of_every_request() {
    let descriptors = Descriptors::new();
    let named: Vec<&str> = descriptors.methods.iter().map(|(method, _)| method.as_str()).collect();
    assert_eq!(named.iter().collect::<BTreeSet<_>>(), METHODS.iter().collect());
    let (mut all, mut set) = (BTreeSet::new(), BTreeSet::new());
    for (method, request) in &descriptors.methods {
        descriptors.fields(request, &mut all);
        let seeds = [seeds::of(method), seeds::with_texts(method)].concat();
        seeds.iter().for_each(|seed| descriptors.set_fields(request, seed, &mut set));
    }
    assert_eq!(all.difference(&set).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn mutated_messages_get_documented_codes_and_change_nothing_else() {
    let mut index = TestIndex::new(60);
    index.publish(60);
    let mut command = shortlist();
    let named = format!("videos={}", index.dir().display());
    command.args(["serve", "--listen", "127.0.0.1:0", "--index", &named]);
    command.arg("--aliases").arg(index.dir().with_extension("aliases"));
    command.env("SHORTLIST_SERVE_LOG", "warn").env("SHORTLIST_SERVE_AUDIT", "off");
    let mut served = Served::start(command);
    let (address, process, stderr) = (served.address, &mut served.process, &mut served.stderr);
    let log = std::thread::scope(|scope| {
        let log = scope.spawn(|| {
            let mut log = String::new();
            stderr.read_to_string(&mut log).unwrap();
            log
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let pid = process.id();
        let tried = runtime.unwrap().block_on(async { tokio::spawn(try_mutants(address, pid)).await });
        let ended = process.try_wait().unwrap();
        let _ = process.kill();
        let log = log.join().unwrap();
        assert!(ended.is_none(), "the server ended with {ended:?}: {log}");
        tried.unwrap().unwrap_or_else(|problem| panic!("{problem}\nlog: {log}"));
        log
    });
    assert!(!log.contains("panicked"), "{log}");
}

async fn try_mutants(address: SocketAddr, pid: u32) -> Result<(), String> {
    let mut catalog = CatalogClient::new(channel(address).await);
    let mut retrieval = RetrievalClient::new(channel(address).await);
    let takedown = TakedownRequest { video_ids: vec![TAKEN_DOWN], ..TakedownRequest::default() };
    catalog.takedown(takedown).await.unwrap();
    let seeds = METHODS.iter().flat_map(|method| seeds::of(method).into_iter().map(|seed| (*method, seed)));
    let mut seeds: Vec<_> = seeds.collect();
    for (method, seed) in &seeds {
        let codes = Connection::new(address).await?.call(method, std::slice::from_ref(seed)).await?;
        // The index is not calibrated for a target recall.
        let is_valid = |code: &Code| matches!(code, Code::Ok | Code::FailedPrecondition);
        assert!(codes.iter().all(is_valid), "{method} without a mutation: {codes:?}");
    }
    for method in METHODS {
        for seed in seeds::with_texts(method) {
            let codes = Connection::new(address).await?.call(method, std::slice::from_ref(&seed)).await?;
            // The ids of the index are numbers.
            assert_eq!(codes, [Code::InvalidArgument], "{method} with text");
            seeds.push((method, seed));
        }
    }

    let count = number("MESSAGE_MUTANTS", MUTANTS);
    let mutants = |first_seed, count| {
        Arc::new(Mutants { seeds: seeds.clone(), first_seed, count, next: AtomicU64::new(0) })
    };
    let first_seed = number("MESSAGE_SEED", 0);
    // Memory is compared with that after the first tenth, when all caches and threads are there.
    let warm_up = count / 10;
    let mut codes = run(address, mutants(first_seed, warm_up)).await?;
    let before = resident_mib(pid);
    for (code, calls) in run(address, mutants(first_seed + warm_up, count - warm_up)).await? {
        *codes.entry(code).or_default() += calls;
    }
    let after = resident_mib(pid);
    eprintln!("{count} messages: {codes:?}, {before} MiB of memory after a tenth, {after} MiB after all");

    // What was taken down is not back, and everything else works.
    let vector = Some(Vector { values: QUERY.to_vec(), packed: None });
    let video = Video { video_id: WRITTEN, vector, ..Video::default() };
    let upsert = UpsertRequest { videos: vec![video], ..UpsertRequest::default() };
    catalog.upsert(upsert).await.map_err(|status| format!("a write afterwards: {status}"))?;
    let is_written = condition::Condition::VideoId(VideoIdCondition { any_of: vec![WRITTEN] });
    for filter in [None, Some(must(vec![is_written]))] {
        let expected = if filter.is_none() { 5 } else { 1 };
        let found = retrieval.search(SearchRequest { filter, ..request(&QUERY, 5) }).await;
        let found = found.map_err(|status| format!("a search afterwards: {status}"))?.into_inner();
        if found.candidates.len() != expected {
            return Err(format!("a search afterwards finds {found:?}"));
        }
    }
    let get = GetRequest { video_ids: vec![TAKEN_DOWN], ..GetRequest::default() };
    let state = catalog.get(get).await.unwrap().into_inner().results[0].state();
    if state != State::TakenDown {
        return Err(format!("the video taken down before is {state:?}"));
    }
    let metrics = http1_get(address, "/metrics").await;
    let is_failure = |line: &&str| {
        let is_code = line.contains("code=\"INTERNAL\"") || line.contains("code=\"UNKNOWN\"");
        let is_restart = line.starts_with("shortlist_background_restarts");
        (is_code || is_restart) && !line.ends_with(" 0")
    };
    if let Some(line) = metrics.lines().find(is_failure) {
        return Err(format!("a metric of failures: {line}"));
    }
    if after > before + MEMORY_MIB {
        return Err(format!("the server had {before} MiB of memory, and has {after} MiB"));
    }
    Ok(())
}

/// Sends all mutants over a few connections. Returns the number of answers of each code.
async fn run(address: SocketAddr, mutants: Arc<Mutants>) -> Result<BTreeMap<i32, u64>, String> {
    let mut calls = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let connection = Connection::new(address).await?;
        for _ in 0..CALLS_PER_CONNECTION {
            let (mut connection, mutants) = (connection.clone(), Arc::clone(&mutants));
            calls.spawn(async move {
                let mut codes = BTreeMap::<i32, u64>::new();
                while let Some((seed, method, messages)) = mutants.next() {
                    let named = |problem: String| format!("MESSAGE_SEED={seed} ({method}): {problem}");
                    for code in connection.call(method, &messages).await.map_err(named)? {
                        if !DOCUMENTED.contains(&code) {
                            return Err(named(format!("{code:?}")));
                        }
                        *codes.entry(code as i32).or_default() += 1;
                    }
                }
                Ok(codes)
            });
        }
    }
    let mut all = BTreeMap::new();
    while let Some(codes) = calls.join_next().await {
        for (code, number) in codes.unwrap()? {
            *all.entry(code).or_default() += number;
        }
    }
    Ok(all)
}

/// An HTTP/2 connection for calls whose messages are bytes.
#[derive(Clone)]
struct Connection {
    client: SendRequest<Bytes>,
}

impl Connection {
    async fn new(address: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let client = h2::client::Builder::new().initial_window_size(1 << 24).handshake(stream);
        let (client, connection) = client.await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(Self { client })
    }

    /// Returns the code of the call, and those inside of its answers.
    async fn call(&mut self, method: &str, messages: &[Vec<u8>]) -> Result<Vec<Code>, String> {
        let failed = |error: h2::Error| error.to_string();
        let call = Request::post(format!("http://localhost/shortlist.v1.{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        self.client = self.client.clone().ready().await.map_err(failed)?;
        let (response, mut body) = self.client.send_request(call, false).map_err(failed)?;
        // The server may have answered, and closed the stream, before all was sent.
        let _ = body.send_data(framed(messages), true);
        let (head, mut body) = response.await.map_err(failed)?.into_parts();
        if head.status != StatusCode::OK {
            return Err(format!("HTTP status {}", head.status));
        }
        let mut answers = BytesMut::new();
        while let Some(data) = body.data().await {
            let data = data.map_err(failed)?;
            body.flow_control().release_capacity(data.len()).map_err(failed)?;
            answers.extend(data);
        }
        let trailers = body.trailers().await.map_err(failed)?;
        let code = code(&head.headers).or_else(|| code(&trailers?)).ok_or("no grpc-status")?;
        let mut codes = vec![code];
        while answers.remaining() >= 5 {
            let length = (&answers[1..5]).get_u32() as usize;
            answers.advance(5);
            inner_codes(method, answers.split_to(length).freeze(), &mut codes);
        }
        Ok(codes)
    }
}

fn framed(messages: &[Vec<u8>]) -> Bytes {
    let mut bytes = BytesMut::new();
    for message in messages {
        bytes.put_u8(0);
        bytes.put_u32(message.len() as u32);
        bytes.put_slice(message);
    }
    bytes.freeze()
}

fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()))
}

/// Adds the codes of the parts of an answer that failed.
fn inner_codes(method: &str, answer: Bytes, codes: &mut Vec<Code>) {
    fn decoded<M: Message + Default>(answer: Bytes) -> M {
        M::decode(answer).unwrap()
    }
    let statuses = match method {
        "Retrieval/BatchSearch" => {
            let results = decoded::<BatchSearchResponse>(answer).results.into_iter();
            results
                .filter_map(|result| match result.result {
                    Some(batch_search_result::Result::Error(status)) => Some(status),
                    _ => None,
                })
                .collect()
        }
        "Retrieval/StreamSearch" => match decoded::<SearchStreamItem>(answer).item {
            Some(search_stream_item::Item::Error(status)) => vec![status],
            _ => Vec::new(),
        },
        "Catalog/StreamUpsert" => match decoded::<StreamUpsertResponse>(answer).item {
            Some(stream_upsert_response::Item::Error(status)) => vec![status],
            Some(stream_upsert_response::Item::Response(written)) => refused(written),
            None => Vec::new(),
        },
        "Catalog/Upsert" => refused(decoded(answer)),
        _ => Vec::new(),
    };
    codes.extend(statuses.into_iter().map(|status| Code::from_i32(status.code)));
}

fn refused(written: WriteResponse) -> Vec<tonic_types::pb::Status> {
    written.errors.into_iter().filter_map(|error| error.status).collect()
}

/// Resident memory of a process.
fn resident_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or_default() / 1024
}
