//! Buckets to test with.
//!
//! A folder always, and SeaweedFS where its program `weed` is.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use object_store::aws::AmazonS3Builder;
use object_store::{ClientOptions, ObjectStore};
use shortlist::bucket::{Bucket, Location};
use tempfile::TempDir;

use super::tools::{free_ports, tool};

const KEY: &str = "testkey";
const SECRET: &str = "testsecret";
/// Timeout that only a hang reaches.
const HANG: Duration = Duration::from_secs(60);

/// A bucket, empty at first.
pub struct Place {
    pub url: String,
    folder: TempDir,
    server: Option<Seaweed>,
}

struct Seaweed {
    process: Child,
    endpoint: String,
}

impl Place {
    /// A folder that is used like a bucket.
    pub fn folder() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}", folder.path().join("bucket").display());
        Self { url, folder, server: None }
    }

    /// A bucket of a real S3 server; `None`, with a notice, if there is no such program.
    pub fn s3() -> Option<Self> {
        let weed = tool("weed")?;
        let folder = tempfile::tempdir().unwrap();
        let server = Seaweed::start(&weed, folder.path());
        Some(Self { url: "s3://videos/some/prefix".to_owned(), folder, server: Some(server) })
    }

    /// Every place there is.
    pub fn all() -> Vec<Self> {
        std::iter::once(Self::folder()).chain(Self::s3()).collect()
    }

    pub fn bucket(&self) -> Bucket {
        match &self.server {
            None => Bucket::open(&Location::parse(Path::new(&self.url)).unwrap()).unwrap(),
            Some(server) => Bucket::with_store(server.client(), "some/prefix", self.url.clone()).unwrap(),
        }
    }

    /// The command with the credentials.
    pub fn with(&self, mut command: Command) -> Command {
        if let Some(server) = &self.server {
            command.env("AWS_ENDPOINT_URL", &server.endpoint).env("AWS_ALLOW_HTTP", "true");
            command.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", SECRET);
        }
        command
    }

    /// The contents of an object.
    pub fn read(&self, name: &str) -> Vec<u8> {
        match &self.server {
            None => std::fs::read(self.folder.path().join("bucket").join(name)).unwrap(),
            Some(server) => runtime().block_on(async {
                use object_store::ObjectStoreExt as _;
                let found = server.client().get(&Seaweed::path(name)).await.unwrap();
                found.bytes().await.unwrap().to_vec()
            }),
        }
    }

    /// Replaces the contents of an object, as no publisher does.
    pub fn write(&self, name: &str, bytes: Vec<u8>) {
        match &self.server {
            None => std::fs::write(self.folder.path().join("bucket").join(name), bytes).unwrap(),
            Some(server) => runtime().block_on(async {
                use object_store::ObjectStoreExt as _;
                server.client().put(&Seaweed::path(name), bytes.into()).await.unwrap();
            }),
        }
    }

    /// Stops the server at once, as a power loss does. Only of an S3 server.
    pub fn kill(&mut self) {
        let server = self.server.as_mut().unwrap();
        server.process.kill().unwrap();
        server.process.wait().unwrap();
    }
}

impl Seaweed {
    fn start(weed: &Path, folder: &Path) -> Self {
        let config = format!(
            r#"{{"identities":[{{"name":"t","credentials":[{{"accessKey":"{KEY}","secretKey":"{SECRET}"}}],
                "actions":["Admin","Read","Write","List","Tagging"]}}]}}"#
        );
        std::fs::write(folder.join("s3.json"), config).unwrap();
        std::fs::create_dir(folder.join("data")).unwrap();
        let ports = free_ports(8);
        let mut command = Command::new(weed);
        command.arg("server").current_dir(folder);
        command.args(["-dir=data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]);
        command.args([
            "-s3.config=s3.json",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.volumeSizeLimitMB=64",
        ]);
        command.args(["-volume.max=50", "-master.telemetry=false", "-metricsPort=0"]);
        for (name, port) in [
            "master.port",
            "master.port.grpc",
            "volume.port",
            "volume.port.grpc",
            "filer.port",
            "filer.port.grpc",
            "s3.port",
            "s3.port.grpc",
        ]
        .iter()
        .zip(&ports)
        {
            command.arg(format!("-{name}={port}"));
        }
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = process.spawn().unwrap();
        let mut server = Self { process, endpoint: format!("http://127.0.0.1:{}", ports[6]) };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", ports[6])).is_err() || !server.create_bucket(&ports[4]) {
            let ended = server.process.try_wait().unwrap();
            assert!(ended.is_none(), "SeaweedFS does not start: {ended:?}");
            assert!(started.elapsed() < HANG, "SeaweedFS does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    /// A folder of the filer is a bucket.
    fn create_bucket(&self, filer: &u16) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", *filer)) else { return false };
        let request =
            "POST /buckets/videos/ HTTP/1.1\r\nHost: filer\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let mut answer = String::new();
        let sent = stream.write_all(request.as_bytes());
        sent.and_then(|()| std::io::Read::read_to_string(&mut stream, &mut answer)).is_ok()
            && answer.starts_with("HTTP/1.1 2")
    }

    fn client(&self) -> Arc<dyn ObjectStore> {
        // The client of the tests is built without a provider, too.
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        let builder = AmazonS3Builder::new().with_bucket_name("videos").with_endpoint(&self.endpoint);
        let builder = builder.with_access_key_id(KEY).with_secret_access_key(SECRET);
        Arc::new(builder.with_client_options(ClientOptions::new().with_allow_http(true)).build().unwrap())
    }

    fn path(name: &str) -> object_store::path::Path {
        object_store::path::Path::from(format!("some/prefix/{name}"))
    }
}

impl Drop for Seaweed {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
