//! Addresses, token, certificates and timeout of a client.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::client::{Client, Shared};
use crate::retry::Budget;
use crate::servers::{Bearer, Connection, Servers};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection without traffic is asked this often whether it still works; servers tolerate a second.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// What a server may send before the client takes it, per call and per connection: an answer to a batch, in bytes.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// The default time for a call and its retries.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How to reach the servers. Made by [`Client::builder`].
#[derive(Clone)]
pub struct Builder {
    addresses: Vec<String>,
    token: Option<String>,
    is_insecure: bool,
    tls: Option<Tls>,
    timeout: Duration,
    has_retries: bool,
}

/// Certificates of encrypted connections.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    ca: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
    domain: Option<String>,
}

impl Tls {
    /// Trusts the authorities of the system.
    pub fn system() -> Self {
        Self::default()
    }

    /// Trusts these authorities, in PEM, instead of those of the system.
    pub fn authority(self, pem: impl Into<Vec<u8>>) -> Self {
        Self { ca: Some(pem.into()), ..self }
    }

    /// The certificate and the private key of this client, in PEM, for servers that require one.
    pub fn identity(self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        Self { identity: Some((certificate.into(), key.into())), ..self }
    }

    /// The name in the certificate of the server, if it is not the host of the address.
    pub fn domain(self, domain: impl Into<String>) -> Self {
        Self { domain: Some(domain.into()), ..self }
    }

    fn config(&self) -> ClientTlsConfig {
        let mut config = match &self.ca {
            Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        if let Some((certificate, key)) = &self.identity {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        match &self.domain {
            Some(domain) => config.domain_name(domain),
            None => config,
        }
    }
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// There is no address.
    #[error("expected at least one address, such as 127.0.0.1:50051")]
    NoAddress,
    /// An address cannot be used.
    #[error("{address}: {problem}")]
    Address {
        /// As given.
        address: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The token has characters that no header may have.
    #[error("the token: expected visible ASCII characters")]
    Token,
    /// The token would be readable on the way.
    #[error(
        "{address}: the token would be sent unencrypted, and everybody on the way could use it: expected https:// or an \
         address of this machine"
    )]
    Unencrypted {
        /// The address of another machine.
        address: String,
    },
    /// The certificates cannot be used.
    #[error("{address}: the certificates cannot be used: {problem}")]
    Certificates {
        /// The address that they are for.
        address: String,
        /// Why not.
        problem: String,
    },
}

impl Builder {
    pub(crate) fn new(addresses: &str) -> Self {
        let addresses = addresses.split(',').map(str::trim).filter(|address| !address.is_empty());
        Self {
            addresses: addresses.map(str::to_owned).collect(),
            token: None,
            is_insecure: false,
            tls: None,
            timeout: TIMEOUT,
            has_retries: true,
        }
    }

    /// A key or signed token, sent with every call.
    pub fn token(self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self }
    }

    /// Sends the token unencrypted to other machines, too.
    pub fn insecure(self) -> Self {
        Self { is_insecure: true, ..self }
    }

    /// Encrypts the connections. Addresses with `https://` are encrypted without it, too.
    pub fn tls(self, tls: Tls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// The time for a call with its retries, unless [`Client::with_timeout`] says otherwise. Default: 10 s.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Repeats no call, so that every failure is seen.
    pub fn without_retries(self) -> Self {
        Self { has_retries: false, ..self }
    }

    /// Makes the client. Connections are made by the first calls. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// If an address, the token or a certificate cannot be used.
    pub fn build(&self) -> Result<Client, BuildError> {
        let shared = Shared {
            servers: Servers::new(self.connections()?),
            budget: Budget::full(),
            has_retries: self.has_retries,
        };
        Ok(Client::new(Arc::new(shared), self.timeout))
    }

    /// Makes one connection per address, for a program that chooses the server of each call itself. They are made by the first
    /// calls, and neither balance nor repeat them. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub fn connections(&self) -> Result<Vec<Connection>, BuildError> {
        if self.addresses.is_empty() {
            return Err(BuildError::NoAddress);
        }
        let bearer = self.bearer()?;
        self.addresses.iter().map(|address| self.connection(address, bearer.clone())).collect()
    }

    fn connection(&self, address: &str, bearer: Bearer) -> Result<Connection, BuildError> {
        let wrong =
            |problem: &str| BuildError::Address { address: address.to_owned(), problem: problem.to_owned() };
        let (uri, is_encrypted) = match address.split_once("://") {
            None if self.tls.is_some() => (format!("https://{address}"), true),
            None => (format!("http://{address}"), false),
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => (address.to_owned(), true),
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("http") && self.tls.is_none() => {
                (address.to_owned(), false)
            }
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("http") => {
                return Err(wrong("expected https:// with certificates, found http://"));
            }
            Some((scheme, _)) => {
                return Err(wrong(&format!("expected http:// or https://, found {scheme}://")));
            }
        };
        let endpoint =
            Endpoint::from_shared(uri).map_err(|_| wrong("expected an address such as host:50051"))?;
        let host = endpoint.uri().host().unwrap_or_default();
        if self.token.is_some() && !is_encrypted && !self.is_insecure && !is_this_machine(host) {
            return Err(BuildError::Unencrypted { address: address.to_owned() });
        }
        let mut endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        if is_encrypted {
            let config = self.tls.clone().unwrap_or_default().config();
            endpoint = endpoint.tls_config(config).map_err(|error| BuildError::Certificates {
                address: address.to_owned(),
                problem: std::error::Error::source(&error)
                    .map_or_else(|| error.to_string(), ToString::to_string),
            })?;
        }
        Ok(InterceptedService::new(endpoint.connect_lazy(), bearer))
    }

    fn bearer(&self) -> Result<Bearer, BuildError> {
        let Some(token) = &self.token else { return Ok(Bearer(None)) };
        let mut value: MetadataValue<Ascii> =
            format!("Bearer {}", token.trim()).parse().map_err(|_| BuildError::Token)?;
        value.set_sensitive(true);
        Ok(Bearer(Some(value)))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the token.
        f.debug_struct("Builder").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// Returns whether a host is a loopback address, or the name that always means one. Other names are not looked up: who
/// answers for them may be lying.
fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse();
    let is_loopback = |address: IpAddr| match address {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.to_ipv4_mapped().is_some_and(|address| address.is_loopback())
        }
    };
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_this_machine() {
        for host in ["127.0.0.1", "127.9.9.9", "[::1]", "::1", "[::ffff:127.0.0.1]", "localhost", "LOCALHOST"]
        {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["10.0.0.1", "[fe80::1]", "example.com", "localhost.example.com", "0.0.0.0", ""] {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_used_is_refused_when_the_client_is_made() {
        let refused = |builder: Builder| builder.build().unwrap_err().to_string();
        assert_eq!(refused(Client::builder(" ,")), "expected at least one address, such as 127.0.0.1:50051");
        assert_eq!(
            refused(Client::builder("127.0.0.1:1,ftp://a:1")),
            "ftp://a:1: expected http:// or https://, found ftp://"
        );
        assert!(refused(Client::builder("a b")).starts_with("a b: expected an address"));
        assert_eq!(
            refused(Client::builder("127.0.0.1:1").token("a\nb")),
            "the token: expected visible ASCII characters"
        );
        let remote = Client::builder("10.0.0.1:1").token("secret");
        assert!(refused(remote.clone()).contains("would be sent unencrypted"));
        assert!(!format!("{remote:?}").contains("secret"));
        assert!(remote.insecure().build().is_ok());
        let plain = Client::builder("http://127.0.0.1:1").tls(Tls::system());
        assert!(refused(plain).contains("expected https://"));
    }
}
