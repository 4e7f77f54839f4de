//! Shards and replicas as real processes: together they answer as one server with all videos and the same writes does.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use shortlist_client::Client;
use shortlist_client::proto::{
    Candidate, GetStatusRequest, IndexStatus, SearchParams, SearchRequest, TakedownRequest, UpsertRequest,
    Vector, Video, search_params, search_request,
};
use tempfile::TempDir;

use crate::harness::process::{Served, shortlist};
use crate::nats::{Brokers, free_ports};

const DIM: usize = 8;
const VIDEOS: usize = 3_000;
const K: usize = 50;

/// An index in a bucket, its catalog, and one server with all of it.
struct Place {
    folder: TempDir,
    brokers: Brokers,
    one: Served,
}

impl Place {
    fn new() -> Option<Self> {
        let brokers = Brokers::start(1)?;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let [videos, dim] = [VIDEOS, DIM].map(|number| number.to_string());
        run(shortlist()
            .args(["synth", "--videos", &videos, "--dim", &dim, "--users", "200", "--out"])
            .arg(path.join("catalog")));
        run(build(path).arg("--out").arg(path.join("one")));
        let mut serve = shortlist();
        let index = format!("videos={}", path.join("one").display());
        serve.args(["serve", "--listen", "127.0.0.1:0", "--index", &index]);
        let one = Served::start(serve);
        Some(Self { folder, brokers, one })
    }

    fn root(&self) -> String {
        format!("file://{}", self.folder.path().join("bucket").display())
    }

    fn build_shard(&self, shard: &str) {
        run(build(self.folder.path()).args(["--out", &self.root(), "--shard", shard]));
    }

    fn rebuild(&self, arguments: &[&str]) -> Output {
        let mut command = shortlist();
        command.args(["rebuild", "--index", "videos", "--at", &self.root()]).args(arguments);
        run(&mut command)
    }

    fn nats(&self) -> String {
        self.brokers.urls().join(",")
    }

    fn cluster(&self, arguments: &[&str]) -> String {
        let mut command = shortlist();
        command.arg("cluster").args(arguments).args(["--at", &self.root()]);
        String::from_utf8(run(&mut command).stdout).unwrap()
    }

    fn serve(&self, name: &str, shard: &str) -> Served {
        let address = format!("127.0.0.1:{}", free_ports(1)[0]);
        let mut command = shortlist();
        command.args(["serve", "--index", &format!("videos={}", self.root()), "--shard", shard]);
        command.args(["--nats", &self.nats(), "--listen", &address, "--advertise", &address, "--cache"]);
        command.arg(self.folder.path().join(name));
        command
            .env("SHORTLIST_SERVE_CLUSTER__NATS_REPLICAS", "1")
            .env("SHORTLIST_SERVE_CLUSTER__REPLICA", name);
        command.env("SHORTLIST_SERVE_POLL_INTERVAL", "100ms");
        Served::start(command)
    }

    fn query(&self, row: usize) -> Vec<f32> {
        let bytes = std::fs::read(self.folder.path().join("catalog/users_test.npy")).unwrap();
        let header = bytes.len() % (4 * DIM);
        let start = if header == 0 { 4 * DIM * (bytes.len() / (4 * DIM) - 40) } else { header };
        let values = bytes[start + row * 4 * DIM..][..4 * DIM].chunks_exact(4);
        values.map(|value| f32::from_le_bytes(value.try_into().unwrap())).collect()
    }

    /// Compares the merged answers of one server per shard with that of the server with all videos.
    async fn check(&self, shards: &[&Served], sequence: u64) {
        for row in 0..40 {
            let query = self.query(row);
            let expected = best(&self.one, &query, 0).await;
            let mut merged = Vec::new();
            for server in shards {
                merged.extend(best(server, &query, sequence).await);
            }
            merged.sort_by(|a: &Candidate, b| b.score.total_cmp(&a.score).then(a.video_id.cmp(&b.video_id)));
            merged.truncate(K);
            let ids = |candidates: &[Candidate]| {
                candidates.iter().map(|one| (one.video_id, one.score)).collect::<Vec<_>>()
            };
            assert_eq!(ids(&merged), ids(&expected), "row {row}");
        }
    }
}

fn build(path: &Path) -> Command {
    let catalog = path.join("catalog");
    let file = |name: &str| -> PathBuf { catalog.join(name) };
    let mut command = shortlist();
    command.arg("build").arg("--embeddings").arg(file("videos.npy")).arg("--ids").arg(file("video_ids.npy"));
    command.arg("--attributes").arg(file("attributes.parquet"));
    command
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn client(server: &Served) -> Client {
    Client::builder(&server.address.to_string()).build().unwrap()
}

fn vector(values: &[f32]) -> Vector {
    Vector { values: values.to_vec(), packed: None }
}

async fn best(server: &Served, query: &[f32], min_sequence: u64) -> Vec<Candidate> {
    let effort = Some(search_params::Effort::Exact(true));
    let request = SearchRequest {
        query: Some(search_request::Query::Vector(vector(query))),
        k: K as u32,
        params: Some(SearchParams { effort, ..SearchParams::default() }),
        min_sequence,
        ..SearchRequest::default()
    };
    let began = Instant::now();
    loop {
        match client(server).search(request.clone()).await {
            Ok(answer) => return answer.candidates,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(60), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn status(server: &Served) -> IndexStatus {
    let answer = client(server).get_status(GetStatusRequest { index: "videos".to_owned() }).await.unwrap();
    answer.indexes.into_iter().next().unwrap()
}

async fn until_generation(server: &Served, generation: u64) {
    let began = Instant::now();
    while status(server).await.generation < generation {
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", status(server).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Writes the same to both, and returns the sequence of the cluster.
async fn write(servers: [&Served; 2], upserts: std::ops::Range<u64>, takedown: u64) -> u64 {
    let mut last = 0;
    for server in servers {
        let videos = upserts.clone().map(|video| {
            let values: Vec<f32> =
                (0..DIM as u64).map(|at| ((video * 31 + at * 7) % 17) as f32 / 17.0).collect();
            Video { video_id: video, vector: Some(vector(&values)), ..Video::default() }
        });
        let request = UpsertRequest {
            index: "videos".to_owned(),
            videos: videos.collect(),
            ..UpsertRequest::default()
        };
        client(server).upsert(request).await.unwrap();
        let request = TakedownRequest {
            index: "videos".to_owned(),
            video_ids: vec![takedown],
            ..TakedownRequest::default()
        };
        last = client(server).takedown(request).await.unwrap().sequence;
    }
    last
}

/// The life of a divided index: build, write, kill, rebuild, divide further.
#[test]
fn shards_answer_as_one_server_through_writes_rebuilds_and_divisions() {
    let Some(place) = Place::new() else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    ["0/2", "1/2"].iter().for_each(|shard| place.build_shard(shard));
    assert!(place.cluster(&["plan", "--shards", "2"]).contains("cluster apply"));
    assert_eq!(place.cluster(&["apply", "--shards", "2"]), "epoch 1: 2 shards\n");
    let mut first = place.serve("a", "0/2");
    let (other, second) = (place.serve("b", "0/2"), place.serve("c", "1/2"));
    runtime.block_on(async {
        place.check(&[&first, &second], 0).await;
        // Any replica takes writes for all shards.
        let taken_down = best(&place.one, &place.query(0), 0).await[0].video_id;
        let last = write([&place.one, &first], 1..40, taken_down).await;
        for replica in [&first, &other] {
            place.check(&[replica, &second], last).await;
        }
        let taken_down = best(&place.one, &place.query(1), 0).await[0].video_id;
        let last = write([&place.one, &second], 20..60, taken_down).await;
        first.process.kill().unwrap();
        first.process.wait().unwrap();
        place.check(&[&other, &second], last).await;
        let taken_down = best(&place.one, &place.query(2), 0).await[0].video_id;
        let last = write([&place.one, &other], 50..70, taken_down).await;
        // What it missed is received at its start.
        first = place.serve("a", "0/2");
        place.check(&[&first, &second], last).await;
        // Rebuilds as jobs, while servers answer.
        for shard in ["0/2", "1/2"] {
            place.rebuild(&["--shard", shard, "--nats", &place.nats()]);
        }
        for server in [&first, &other, &second] {
            until_generation(server, 2).await;
        }
        place.check(&[&first, &second], last).await;
        let status = status(&first).await;
        assert_eq!((status.generation_sequence, status.sequence), (last, last));
        let nats = place.nats();
        let of_log = ["--index", "videos", "--nats", &nats];
        assert_eq!(
            place.cluster(&[&["apply", "--shards", "2"], &of_log[..]].concat()),
            "epoch 2: 2 shards\n"
        );
        let trimmed = place.cluster(&[&["apply", "--shards", "2"], &of_log[..]].concat());
        assert_eq!(trimmed, format!("epoch 3: 2 shards\nremoved the writes up to {last} from the log\n"));
        // A replica of a machine that was never there.
        let fresh = place.serve("d", "1/2");
        place.check(&[&other, &fresh], last).await;
        // Twice as many shards.
        let plan = place.cluster(&["plan", "--shards", "4", "--index", "videos"]);
        let commands: Vec<&str> =
            plan.lines().filter_map(|line| line.trim().strip_prefix("shortlist ")).collect();
        assert_eq!(commands.len(), 5, "{plan}");
        for command in commands {
            run(shortlist().args(command.split(' ')));
        }
        let four: Vec<Served> =
            (0..4).map(|index| place.serve(&format!("four-{index}"), &format!("{index}/4"))).collect();
        let last = write([&place.one, &four[3]], 60..90, 61).await;
        place.check(&four.iter().collect::<Vec<_>>(), last).await;
        place.check(&[&first, &fresh], last).await;
        let shown = place.cluster(&[&["status"], &of_log[..]].concat());
        assert!(shown.contains("epoch 4: 4 shards"), "{shown}");
        assert_eq!(shown.matches(": ready, generation").count(), 8, "{shown}");
        // And back.
        for command in place.cluster(&["plan", "--shards", "1", "--index", "videos"]).lines() {
            if let Some(command) = command.trim().strip_prefix("shortlist ") {
                run(shortlist().args(command.split(' ')));
            }
        }
        let whole = place.serve("whole", "0/1");
        place.check(&[&whole], last).await;
        // A server that ends is gone at once.
        four.iter().for_each(Served::terminate);
        let began = Instant::now();
        while place.cluster(&[&["status"], &of_log[..]].concat()).contains("four-") {
            assert!(began.elapsed() < Duration::from_secs(30));
        }
    });
}

#[test]
fn a_division_without_a_generation_of_each_shard_is_refused() {
    let Some(place) = Place::new() else { return };
    place.build_shard("0/2");
    let mut command = shortlist();
    command.args(["cluster", "apply", "--shards", "2", "--at", &place.root()]);
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("shard 1/2 has no generation in"), "{error}");
    for (shards, problem) in [("3", "expected a power of two"), ("128", "of at most 64")] {
        let mut command = shortlist();
        command.args(["cluster", "plan", "--shards", shards, "--at", &place.root()]);
        let error = String::from_utf8_lossy(&command.output().unwrap().stderr).into_owned();
        assert!(error.contains(problem), "{error}");
    }
}
