//! The connection of subcommands to a running server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use prost::Message;
use prost_reflect::DynamicMessage;
use shortlist_client::{BuildError, Builder, Client, Error, Tls};

use super::say::Format;
use crate::base::local_path::scheme;
use crate::service::message_of_proto;

/// The server, and how this client proves who it is.
#[derive(Debug, clap::Args)]
pub(super) struct Remote {
    /// The address of the server; `http://` is optional. `https://` encrypts the connection.
    #[arg(long, value_name = "ADDR", default_value = "http://127.0.0.1:50051")]
    addr: String,
    #[command(flatten)]
    credentials: Credentials,
    #[command(flatten)]
    pub(super) format: Format,
}

/// How this client proves who it is, and knows the server.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Credentials {
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

impl Remote {
    /// A server whose answers nobody prints.
    pub(super) fn new(addr: &str, credentials: &Credentials) -> Self {
        Self { addr: addr.to_owned(), credentials: credentials.clone(), format: Format::default() }
    }

    /// Runs `ask` with a client of the server.
    ///
    /// # Errors
    /// If the server cannot be reached, or refuses a request.
    pub(super) fn ask<T>(&self, ask: impl AsyncFnOnce(Client) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let asked = runtime.block_on(async {
            let client = self.builder()?.build().map_err(Self::unusable)?;
            ask(client).await
        });
        asked.map_err(|error| self.explained(error))
    }

    /// Makes clients with a connection each, which repeat no call. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// If the address, the token or a certificate cannot be used.
    pub(super) fn clients_without_retries(&self, count: usize) -> anyhow::Result<Vec<Client>> {
        let builder = self.builder()?.without_retries();
        (0..count).map(|_| builder.build().map_err(Self::unusable)).collect()
    }

    /// Says what to do about an error of a call, if the server cannot be reached.
    pub(super) fn explained(&self, error: anyhow::Error) -> anyhow::Error {
        match error.downcast::<Error>() {
            Ok(error) if error.is_unanswered => {
                let addr = &self.addr;
                anyhow!(error.message).context(format!("cannot reach {addr}; is `shortlist serve` running?"))
            }
            Ok(error) => error.into(),
            Err(error) => error,
        }
    }

    /// Prints an answer, the message `name` of the proto: with `--json` as it is, otherwise as `render` shows it.
    pub(super) fn print<M: Message>(
        &self,
        name: &str,
        answer: &M,
        render: impl FnOnce(&M) -> String,
    ) -> anyhow::Result<()> {
        let message = message_of_proto(name).with_context(|| format!("{name}: no such message"))?;
        let dynamic = DynamicMessage::decode(message, answer.encode_to_vec().as_slice())?;
        self.format.print(&dynamic, || say!("{}", render(answer).trim_end()))?;
        Ok(())
    }

    fn builder(&self) -> anyhow::Result<Builder> {
        let addr = &self.addr;
        let mut builder = Client::builder(addr).timeout(Duration::MAX);
        let credentials = &self.credentials;
        if let Some(Secret(token)) = &credentials.token {
            builder = builder.token(token);
        }
        if credentials.insecure {
            builder = builder.insecure();
        }
        if scheme(addr).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")) {
            builder = builder.tls(credentials.tls()?);
        } else if credentials.ca.is_some() || credentials.cert.is_some() {
            bail!(
                "--addr {addr}: expected https:// with --ca and --cert, which are for encrypted connections"
            );
        }
        Ok(builder)
    }

    fn unusable(error: BuildError) -> anyhow::Error {
        match error {
            BuildError::Unencrypted { .. } => anyhow!("--addr {error}. --insecure sends it all the same"),
            BuildError::Token => anyhow!("--token: expected visible ASCII characters"),
            error => anyhow!("--addr {error}"),
        }
    }
}

impl Credentials {
    fn tls(&self) -> anyhow::Result<Tls> {
        let mut tls = Tls::system();
        if let Some(ca) = &self.ca {
            tls = tls.authority(read("--ca", ca)?);
        }
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            tls = tls.identity(read("--cert", cert)?, read("--key", key)?);
        }
        Ok(tls)
    }
}

fn read(flag: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{flag} {}", path.display()))
}
