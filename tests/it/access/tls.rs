//! Encrypted connections, and clients with certificates.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use shortlist::service::proto::retrieval_client::RetrievalClient;
use shortlist::service::{Access, AccessOptions, TlsOptions};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::harness::credentials::{Authority, replace, with_access};
use crate::harness::{DIM, TestIndex, TestServer, eventually, request};

/// The files of a server.
pub struct Files {
    folder: TempDir,
}

impl Files {
    pub fn new(authority: &Authority) -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap() };
        files.install(authority);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces certificate and key.
    fn install(&self, authority: &Authority) {
        let (certificate, key) = authority.certificate();
        replace(&self.path("server.pem"), &certificate);
        replace(&self.path("server.key"), &key);
    }

    pub fn options(&self, clients: Option<&Authority>) -> AccessOptions {
        let client_ca = clients.map(|authority| {
            replace(&self.path("clients.pem"), &authority.pem());
            self.path("clients.pem")
        });
        let (certificate, key) = (self.path("server.pem"), self.path("server.key"));
        AccessOptions { tls: Some(TlsOptions { certificate, key, client_ca }), ..AccessOptions::default() }
    }
}

/// Connects with TLS, trusting `authority`.
pub(super) async fn connected(
    address: SocketAddr,
    authority: &Authority,
    client: Option<(String, String)>,
) -> Result<Channel, tonic::transport::Error> {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()));
    if let Some((certificate, key)) = client {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?.connect().await
}

/// Whether a search over a connection is answered.
async fn answers(channel: Result<Channel, tonic::transport::Error>) -> bool {
    let Ok(channel) = channel else { return false };
    RetrievalClient::new(channel).search(request(&[1.0; DIM], 1)).await.is_ok()
}

#[tokio::test]
async fn an_encrypted_port_answers_trusting_clients_and_nobody_in_plain_text() {
    let index = TestIndex::new(20);
    let (authority, other) = (Authority::new(), Authority::new());
    let files = Files::new(&authority);
    let server = TestServer::start(&[("videos", &index)], with_access(files.options(None))).await;
    assert!(answers(connected(server.address, &authority, None).await).await);
    assert!(!answers(connected(server.address, &other, None).await).await);
    let plain = Endpoint::from_shared(format!("http://{}", server.address)).unwrap().connect().await;
    assert!(!answers(plain).await);
    for bytes in [
        &b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03",
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // The server may close before it has read all.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    }
    assert!(answers(connected(server.address, &authority, None).await).await);
    server.stop().await;
}

#[tokio::test]
async fn clients_need_a_certificate_of_their_authority_if_one_is_set() {
    let index = TestIndex::new(20);
    let (authority, clients) = (Authority::new(), Authority::new());
    let files = Files::new(&authority);
    let options = files.options(Some(&clients));
    let server = TestServer::start(&[("videos", &index)], with_access(options)).await;
    let with = async |client| answers(connected(server.address, &authority, client).await).await;
    assert!(with(Some(clients.certificate())).await);
    assert!(!with(None).await);
    assert!(!with(Some(authority.certificate())).await);
    assert!(!with(Some(Authority::new().certificate())).await);
    assert!(with(Some(clients.certificate())).await);
}

#[tokio::test]
async fn changed_certificates_are_used_and_bad_ones_are_not() {
    let index = TestIndex::new(20);
    let (old, new) = (Authority::new(), Authority::new());
    let files = Files::new(&old);
    let server = TestServer::start(&[("videos", &index)], with_access(files.options(None))).await;
    let is_of = async |authority: &Authority| answers(connected(server.address, authority, None).await).await;
    assert!(is_of(&old).await);
    // A connection outlives the change.
    let kept = connected(server.address, &old, None).await;
    replace(&files.path("server.pem"), "not a certificate");
    assert!(is_of(&old).await);
    // A certificate without its key.
    replace(&files.path("server.pem"), &new.certificate().0);
    assert!(is_of(&old).await);
    files.install(&new);
    eventually("the new certificate", async || is_of(&new).await).await;
    assert!(!is_of(&old).await);
    assert!(answers(kept).await);
}

#[tokio::test]
async fn a_reload_uses_other_certificates_at_once() {
    let index = TestIndex::new(20);
    let (old, new) = (Authority::new(), Authority::new());
    let files = Files::new(&old);
    let mut options = with_access(files.options(None));
    // Nothing is looked at by itself before the test ends.
    options.service.poll_interval = Duration::from_secs(3600);
    let access = options.service.access.clone();
    let server = TestServer::start(&[("videos", &index)], options).await;
    assert!(answers(connected(server.address, &old, None).await).await);
    files.install(&new);
    access.reload();
    assert!(answers(connected(server.address, &new, None).await).await);
    assert!(!answers(connected(server.address, &old, None).await).await);
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let authority = Authority::new();
    let files = Files::new(&authority);
    let opened = || Access::open(files.options(Some(&authority)));
    opened().unwrap();
    for (name, text, problem) in [
        ("server.pem", String::new(), "expected certificates in PEM: found none"),
        ("server.key", "x".to_owned(), "expected a private key in PEM"),
        ("server.key", authority.certificate().1, "cannot be used with the key"),
    ] {
        replace(&files.path(name), &text);
        let error = opened().unwrap_err().to_string();
        assert!(error.contains(problem) && error.contains(&*files.path(name).to_string_lossy()), "{error}");
        files.install(&authority);
    }
    std::fs::remove_file(files.path("server.key")).unwrap();
    let error = opened().unwrap_err().to_string();
    assert!(error.starts_with(&*files.path("server.key").to_string_lossy()), "{error}");
}
