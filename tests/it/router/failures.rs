//! Shards and replicas that are killed, stopped or slow: answers keep their deadline and say what they lack.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use shortlist::base::element::Dtype;
use shortlist::base::metric::Metric;
use shortlist::engine::{EngineOptions, SearchRequest};
use shortlist::index::Codes;
use shortlist::service::ServiceOptions;
use shortlist::service::proto;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::harness::process::{Served, shortlist};
use crate::harness::remote::message;
use crate::harness::{eventually, http1_get};
use crate::router::fixture::{SHARDS, Serving, folder, list, serve_shards, shards};
use crate::rules::dataset::{Components, RuledDataset, Shape};

const SHAPE: Shape = Shape {
    videos: 800,
    dim: 16,
    metric: Metric::InnerProduct,
    dtype: Dtype::F32,
    codes: Codes::Sq8,
    components: Components::Grid,
    has_duplicates: false,
    seed: 78,
};

fn request(k: usize) -> proto::SearchRequest {
    message(&SearchRequest { k, ..SearchRequest::vector([0.5; 16]) })
}

async fn search(
    router: &Serving,
    request: proto::SearchRequest,
    timeout: Duration,
) -> Result<proto::SearchResponse, Status> {
    let mut request = Request::new(request);
    request.set_timeout(timeout);
    router.retrieval().await.search(request).await.map(tonic::Response::into_inner)
}

#[test]
fn an_answer_without_a_killed_shard_says_so() {
    let dataset = RuledDataset::routed(SHAPE).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut servers = serve_shards(&dataset).await;
        let router = Serving::router(&list(&servers), ServiceOptions::default()).await;
        let second = Duration::from_secs(1);
        let whole = search(&router, request(50), second).await.unwrap();
        assert_eq!(whole.coverage.unwrap().videos_searched, 800);

        servers[2].kill();
        let mut found = None;
        eventually("the loss of a shard", async || {
            let answer = search(&router, request(50), second).await.unwrap();
            let is_lost = answer.coverage.unwrap().shards_answered == 3;
            found = Some(answer);
            is_lost
        })
        .await;
        let found = found.unwrap();
        let coverage = found.coverage.unwrap();
        assert_eq!((coverage.shards_total, coverage.videos_total), (SHARDS, 800));
        let lost = dataset.videos_of(2);
        assert_eq!(coverage.videos_searched as usize, 800 - lost.len());
        assert_eq!(found.candidates.len(), 50);
        assert!(found.candidates.iter().all(|candidate| !lost.contains(&candidate.video_id)));

        let strict = proto::SearchRequest { min_coverage: Some(0.9), ..request(50) };
        let status = search(&router, strict, second).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(status.get_error_details().retry_info().is_some());
        assert!(status.message().starts_with("3 of 4 shards answered"), "{status:?}");
        let loose = proto::SearchRequest { min_coverage: Some(0.5), ..request(50) };
        assert!(search(&router, loose, second).await.is_ok());

        servers.iter_mut().for_each(Serving::kill);
        let none = proto::SearchRequest { min_coverage: Some(0.0), ..request(50) };
        eventually("the loss of all shards", async || {
            search(&router, none.clone(), second)
                .await
                .is_err_and(|status| status.code() == Code::Unavailable)
        })
        .await;
    });
}

/// Copies what a server sends to its client this much later. Returns the address of the slow link.
async fn slow_link(to: SocketAddr, delay: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(to).await.unwrap();
            let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                (client.into_split(), server.into_split());
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
            tokio::spawn(async move {
                let mut buffer = vec![0; 1 << 16];
                while let Ok(bytes @ 1..) = from_server.read(&mut buffer).await {
                    tokio::time::sleep(delay).await;
                    if to_client.write_all(&buffer[..bytes]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[test]
fn a_slow_shard_is_left_out_at_the_deadline() {
    let dataset = RuledDataset::routed(SHAPE).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let servers = serve_shards(&dataset).await;
        let slow = slow_link(servers[1].address, Duration::from_millis(200)).await;
        let addresses = list(&servers).replace(&servers[1].address.to_string(), &slow.to_string());
        let router = Serving::router(&addresses, ServiceOptions::default()).await;
        let mut client = router.retrieval().await;
        let mut one = async |timeout: u64| {
            let mut request = Request::new(request(50));
            request.set_timeout(Duration::from_millis(timeout));
            let began = Instant::now();
            (client.search(request).await, began.elapsed())
        };
        // Connections are made.
        let whole = one(5_000).await.0.unwrap().into_inner();
        assert_eq!(whole.coverage.unwrap().shards_answered, 4);
        for _ in 0..3 {
            let (answer, took) = one(150).await;
            let answer = answer.unwrap().into_inner();
            assert!(took < Duration::from_millis(200), "{took:?}");
            assert_eq!(answer.coverage.unwrap().shards_answered, 3);
            assert_eq!(answer.candidates.len(), 50);
        }
        let whole = one(5_000).await.0.unwrap().into_inner();
        assert_eq!(whole.coverage.unwrap().shards_answered, 4);
    });
}

/// Real processes: two replicas of every shard, of which one is stopped.
#[test]
fn a_stopped_replica_is_hidden_by_the_other() {
    let dataset = RuledDataset::routed(SHAPE).unwrap();
    let start = |shard| {
        let mut command = shortlist();
        let index = folder(dataset.folder(), shard).join("index");
        command.args(["serve", "--listen", "127.0.0.1:0", "--threads", "1", "--index"]);
        command.arg(format!("videos={}", index.display()));
        Served::start(command)
    };
    // The second replica of a folder would take its log. Replicas that only read come with the shared log.
    let first: Vec<Served> = shards().map(start).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let second = servers_that_read(&dataset).await;
        let pairs: Vec<String> = first
            .iter()
            .zip(&second)
            .map(|(one, other)| format!("{}+{}", one.address, other.address))
            .collect();
        let router = Serving::router(&pairs.join(","), ServiceOptions::default()).await;
        let mut client = router.retrieval().await;
        let mut one = async || {
            let mut request = Request::new(request(20));
            request.set_timeout(Duration::from_secs(2));
            let began = Instant::now();
            let answer = client.search(request).await.unwrap().into_inner();
            assert_eq!(answer.coverage.unwrap().shards_answered, 4);
            began.elapsed()
        };
        for _ in 0..300 {
            one().await;
        }
        first[1].signal("STOP");
        let mut times = Vec::new();
        for _ in 0..400 {
            times.push(one().await);
        }
        first[1].signal("CONT");
        times.sort_unstable();
        let (p99, worst) = (times[396], times[399]);
        println!("with a stopped replica: p50 {:?}, p99 {p99:?}, worst {worst:?}", times[200]);
        assert!(worst < Duration::from_millis(1500), "{worst:?}");
        let metrics = http1_get(router.address, "/metrics").await;
        let sum = |name: &str| -> f64 {
            let lines = metrics.lines().filter(|line| line.starts_with(name));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        let (hedged, calls) =
            (sum("shortlist_router_hedged_calls_total"), sum("shortlist_router_shard_call_seconds_count"));
        println!("{hedged} hedges of {calls} calls");
        // How many are needed depends on which replica is asked first. The four shards may have saved up ten each.
        assert!(hedged <= 0.05 * calls + 40.0, "{hedged} hedges of {calls} calls");
    });
}

/// Servers of copies of the folders, in this process.
async fn servers_that_read(dataset: &RuledDataset) -> Vec<Serving> {
    let mut servers = Vec::new();
    for shard in shards() {
        let dir = folder(dataset.folder(), shard);
        let copy = dir.join("copy");
        std::fs::create_dir(&copy).unwrap();
        for entry in std::fs::read_dir(dir.join("index")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "index" || extension == "json") {
                std::fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
            }
        }
        let options = EngineOptions { threads: 1, ..EngineOptions::default() };
        servers.push(Serving::index(copy, options).await);
    }
    servers
}
