//! The connection of subcommands to a running server.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};
use tonic_types::StatusExt;

use crate::base::local_path::scheme;
use crate::service::{code_name, is_loopback};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer to accept. Larger than the server's default limit.
pub(super) const MAX_RESPONSE_BYTES: usize = 256 << 20;

/// The server, and how this client proves who it is.
#[derive(Debug, clap::Args)]
pub(super) struct Remote {
    /// The address of the server; `http://` is optional. `https://` encrypts the connection.
    #[arg(long, value_name = "ADDR", default_value = "http://127.0.0.1:50051")]
    addr: String,
    /// A key or signed token. Other users of this machine see arguments, but not variables.
    #[arg(long, value_name = "TOKEN", env = "SHORTLIST_TOKEN", hide_env_values = true)]
    token: Option<Secret>,
    /// Send the token unencrypted to another machine.
    #[arg(long)]
    insecure: bool,
    /// The authorities of the server's certificate, in PEM; default: those of the system.
    #[arg(long, value_name = "FILE.pem")]
    ca: Option<PathBuf>,
    /// The certificate of this client, in PEM, for servers that require one.
    #[arg(long, value_name = "FILE.pem", requires = "key")]
    cert: Option<PathBuf>,
    /// The private key of this client's certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

/// A key or token, which is not printed.
#[derive(Clone)]
struct Secret(String);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// A connection that sends the token with every call.
pub(super) type Connection = InterceptedService<Channel, Bearer>;

/// Adds the token to a call.
#[derive(Clone)]
pub(super) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

impl Remote {
    /// Connects to the server and runs `ask` on the connection.
    ///
    /// # Errors
    /// If the server cannot be reached, or `ask` fails.
    pub(super) fn ask<T>(&self, ask: impl AsyncFnOnce(Connection) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { ask(self.connect().await?).await })
    }

    async fn connect(&self) -> anyhow::Result<Connection> {
        let addr = &self.addr;
        let (uri, is_encrypted) = match scheme(addr) {
            None => (format!("http://{addr}"), false),
            Some(scheme) if scheme.eq_ignore_ascii_case("http") => (addr.clone(), false),
            Some(scheme) if scheme.eq_ignore_ascii_case("https") => (addr.clone(), true),
            Some(scheme) => bail!("--addr {addr}: expected http:// or https://, found {scheme}://"),
        };
        let bearer = self.bearer()?;
        let mut endpoint =
            Endpoint::from_shared(uri).with_context(|| format!("--addr {addr}: not an address"))?;
        if self.token.is_some() && !is_encrypted && !self.insecure && !is_this_machine(endpoint.uri().host())
        {
            bail!(
                "--addr {addr}: the token would be sent unencrypted, and everybody on the way could use it: expected \
                 https:// or an address of this machine. --insecure sends it all the same"
            );
        }
        if is_encrypted {
            endpoint = endpoint.tls_config(self.tls()?).context("the certificates cannot be used")?;
        } else if self.ca.is_some() || self.cert.is_some() {
            bail!(
                "--addr {addr}: expected https:// with --ca and --cert, which are for encrypted connections"
            );
        }
        let channel = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .connect()
            .await
            .with_context(|| format!("cannot reach {addr}; is `shortlist serve` running?"))?;
        Ok(InterceptedService::new(channel, bearer))
    }

    fn bearer(&self) -> anyhow::Result<Bearer> {
        let Some(Secret(token)) = &self.token else { return Ok(Bearer(None)) };
        // The parser's error is short and does not quote the token.
        let mut value: MetadataValue<Ascii> = format!("Bearer {}", token.trim())
            .parse()
            .context("--token: expected visible ASCII characters")?;
        value.set_sensitive(true);
        Ok(Bearer(Some(value)))
    }

    fn tls(&self) -> anyhow::Result<ClientTlsConfig> {
        let mut tls = ClientTlsConfig::new();
        tls = match &self.ca {
            Some(ca) => tls.ca_certificate(Certificate::from_pem(read("--ca", ca)?)),
            None => tls.with_native_roots(),
        };
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            tls = tls.identity(Identity::from_pem(read("--cert", cert)?, read("--key", key)?));
        }
        Ok(tls)
    }
}

/// Returns whether a host is a loopback address, or the name that always means one. Other names are not looked up: who
/// answers for them may be lying.
fn is_this_machine(host: Option<&str>) -> bool {
    let Some(host) = host else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(is_loopback)
}

fn read(flag: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{flag} {}", path.display()))
}

/// Returns an error with the code, the message, and each invalid field that the message does not name.
pub(super) fn refusal(status: &Status) -> anyhow::Error {
    let mut text = format!("{}: {}", code_name(status.code()), status.message());
    let details = status.get_error_details();
    for violation in details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default() {
        let line = format!("{}: {}", violation.field, violation.description);
        if !status.message().contains(&line) {
            let _ = write!(text, "\n  {line}");
        }
    }
    anyhow!(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_this_machine() {
        for host in ["127.0.0.1", "127.9.9.9", "[::1]", "::1", "[::ffff:127.0.0.1]", "localhost", "LOCALHOST"]
        {
            assert!(is_this_machine(Some(host)), "{host}");
        }
        for host in [
            "10.0.0.1",
            "[fe80::1]",
            "example.com",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "0.0.0.0",
        ] {
            assert!(!is_this_machine(Some(host)), "{host}");
        }
        assert!(!is_this_machine(None));
    }

    #[test]
    fn explains_every_refused_field_once() {
        let refused = |message| {
            let problem = "expected 1 to 10, found 0";
            let details = tonic_types::ErrorDetails::with_bad_request_violation("k", problem);
            refusal(&Status::with_error_details(tonic::Code::InvalidArgument, message, details)).to_string()
        };
        assert_eq!(refused("k: expected"), "INVALID_ARGUMENT: k: expected\n  k: expected 1 to 10, found 0");
        assert_eq!(refused("k: expected 1 to 10, found 0"), "INVALID_ARGUMENT: k: expected 1 to 10, found 0");
    }
}
