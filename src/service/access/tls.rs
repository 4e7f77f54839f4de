//! Certificates: those of this server, and the authority of its clients.
//!
//! What flows in: PEM files. What flows out: the configuration of rustls, for HTTP/2 and HTTP/1.1.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::service::file_error::FileError;
use crate::service::reloaded::Reloaded;

/// The files of TLS, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// The certificate of this server, followed by those that lead to its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities that sign the certificates of clients. If given, a client needs one.
    pub client_ca: Option<PathBuf>,
}

/// Opens the files, to be read again when they change.
///
/// # Errors
/// If one cannot be read, or they do not fit together.
pub(super) fn open(options: TlsOptions) -> Result<Reloaded<Arc<ServerConfig>>, FileError> {
    let TlsOptions { certificate, key, client_ca } = &options;
    let files = [Some(certificate), Some(key), client_ca.as_ref()].into_iter().flatten().cloned().collect();
    Reloaded::open("certificates", files, move || read(&options).map(Arc::new))
}

fn read(TlsOptions { certificate, key, client_ca }: &TlsOptions) -> Result<ServerConfig, FileError> {
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| FileError::new(certificate, error))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut authorities = RootCertStore::empty();
            for authority in certificates(path)? {
                authorities.add(authority).map_err(|error| FileError::new(path, error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(|error| FileError::new(path, error))?)
        }
    };
    let chain = certificates(certificate)?;
    let key_der = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| FileError::new(key, format!("expected a private key in PEM: {error}")))?;
    let mut config = builder.with_single_cert(chain, key_der).map_err(|error| {
        FileError::new(certificate, format!("cannot be used with the key {}: {error}", key.display()))
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Reads one or more certificates.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let wrong = |problem: String| FileError::new(path, format!("expected certificates in PEM: {problem}"));
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| wrong(error.to_string()))?;
    if certificates.is_empty() { Err(wrong("found none".to_owned())) } else { Ok(certificates) }
}
