//! An index in a bucket with its catalog: its servers, routers and jobs as real processes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use shortlist_client::Client;
use shortlist_client::proto::{
    Candidate, GetStatusRequest, IndexStatus, SearchParams, SearchRequest, Vector, search_params,
    search_request,
};
use tempfile::TempDir;

use crate::harness::process::{Served, shortlist};
use crate::nats::Brokers;
use crate::tools::free_ports;

pub const DIM: usize = 8;
pub const VIDEOS: usize = 3_000;
pub const K: usize = 50;

/// An index in a bucket, and its brokers.
pub struct Place {
    pub folder: TempDir,
    pub brokers: Brokers,
}

impl Place {
    /// Makes a catalog, and starts this number of brokers; `None` without the program.
    pub fn new(brokers: usize) -> Option<Self> {
        let brokers = Brokers::start(brokers)?;
        let folder = tempfile::tempdir().unwrap();
        let [videos, dim] = [VIDEOS, DIM].map(|number| number.to_string());
        let mut synth = shortlist();
        synth.args(["synth", "--videos", &videos, "--dim", &dim, "--users", "200", "--out"]);
        run(synth.arg(folder.path().join("catalog")));
        Some(Self { folder, brokers })
    }

    /// Builds `shards` shards, and makes the map.
    pub fn divide(&self, shards: u32) {
        (0..shards).for_each(|shard| self.build_shard(&format!("{shard}/{shards}")));
        self.cluster(&["apply", "--shards", &shards.to_string()]);
    }

    /// Builds all of the catalog in a folder, and serves it.
    pub fn one_server(&self) -> Served {
        let path = self.folder.path().join("one");
        run(build(self.folder.path()).arg("--out").arg(&path));
        let mut serve = shortlist();
        let index = format!("videos={}", path.display());
        serve.args(["serve", "--listen", "127.0.0.1:0", "--index", &index]);
        Served::start(serve)
    }

    pub fn root(&self) -> String {
        format!("file://{}", self.folder.path().join("bucket").display())
    }

    pub fn build_shard(&self, shard: &str) {
        run(build(self.folder.path()).args(["--out", &self.root(), "--shard", shard]));
    }

    pub fn rebuild(&self, arguments: &[&str]) -> Output {
        run(&mut self.job(arguments))
    }

    /// The command of a job that rebuilds.
    pub fn job(&self, arguments: &[&str]) -> Command {
        let mut command = shortlist();
        command.args(["rebuild", "--index", "videos", "--at", &self.root()]).args(arguments);
        command
    }

    pub fn nats(&self) -> String {
        self.brokers.urls().join(",")
    }

    pub fn cluster(&self, arguments: &[&str]) -> String {
        let mut command = shortlist();
        command.arg("cluster").args(arguments).args(["--at", &self.root()]);
        String::from_utf8(run(&mut command).stdout).unwrap()
    }

    /// Starts a replica, of this name, of a shard.
    pub fn serve(&self, name: &str, shard: &str) -> Served {
        self.serve_at(name, shard, free_ports(1)[0])
    }

    pub fn serve_at(&self, name: &str, shard: &str, port: u16) -> Served {
        Served::start(self.replica(name, shard, port))
    }

    /// The command of a replica.
    pub fn replica(&self, name: &str, shard: &str, port: u16) -> Command {
        let address = format!("127.0.0.1:{port}");
        let mut command = shortlist();
        command.args(["serve", "--index", &format!("videos={}", self.root()), "--shard", shard]);
        command.args(["--nats", &self.nats(), "--listen", &address, "--advertise", &address, "--cache"]);
        command.arg(self.folder.path().join(name));
        command.env("SHORTLIST_SERVE_CLUSTER__NATS_REPLICAS", self.brokers.replicas().to_string());
        command.env("SHORTLIST_SERVE_CLUSTER__REPLICA", name);
        command.env("SHORTLIST_SERVE_POLL_INTERVAL", "100ms").env("SHORTLIST_SERVE_THREADS", "1");
        command
    }

    /// Starts a router that follows the map.
    pub fn route_at(&self, port: u16) -> Served {
        Served::start(self.router(port))
    }

    /// The command of a router that follows the map.
    pub fn router(&self, port: u16) -> Command {
        let mut command = shortlist();
        command.args(["route", "--map", &format!("videos={}", self.root()), "--nats", &self.nats()]);
        command.args(["--listen", &format!("127.0.0.1:{port}")]);
        command.env("SHORTLIST_SERVE_POLL_INTERVAL", "200ms");
        command
    }

    pub fn route(&self) -> Served {
        self.route_at(free_ports(1)[0])
    }

    /// The embeddings of a file of the catalog.
    pub fn rows(&self, name: &str) -> Vec<Vec<f32>> {
        let path = self.folder.path().join("catalog").join(name);
        let embeddings = shortlist::dataset::Embeddings::open(&path).unwrap();
        let row = |row| {
            let mut values = Vec::new();
            embeddings.view().copy_row(row, &mut values);
            values
        };
        (0..embeddings.view().len()).map(row).collect()
    }

    /// The ids of the catalog.
    pub fn ids(&self) -> Vec<u64> {
        let path = self.folder.path().join("catalog/video_ids.npy");
        let ids = shortlist::dataset::read_ids(&path).unwrap().into_numbers(&path).unwrap();
        ids.into_iter().map(|id| id.0).collect()
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

pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

pub fn client(server: &Served) -> Client {
    Client::builder(&server.address.to_string()).build().unwrap()
}

pub fn vector(values: &[f32]) -> Vector {
    Vector { values: values.to_vec(), packed: None }
}

/// An exact search for the best [`K`].
pub fn exact(query: &[f32], min_sequence: u64) -> SearchRequest {
    let effort = Some(search_params::Effort::Exact(true));
    SearchRequest {
        query: Some(search_request::Query::Vector(vector(query))),
        k: K as u32,
        params: Some(SearchParams { effort, ..SearchParams::default() }),
        min_sequence,
        ..SearchRequest::default()
    }
}

pub async fn best(server: &Served, query: &[f32], min_sequence: u64) -> Vec<Candidate> {
    let began = Instant::now();
    loop {
        match client(server).search(exact(query, min_sequence)).await {
            Ok(answer) => return answer.candidates,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(60), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub async fn status(server: &Served) -> IndexStatus {
    let answer = client(server).get_status(GetStatusRequest { index: "videos".to_owned() }).await.unwrap();
    answer.indexes.into_iter().next().unwrap()
}

pub async fn until_generation(server: &Served, generation: u64) {
    let began = Instant::now();
    while status(server).await.generation < generation {
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", status(server).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
