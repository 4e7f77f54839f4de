//! The connection of subcommands to a running server.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt;

use crate::base::local_path::scheme;
use crate::service::code_name;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer to accept. Larger than the server's default limit.
pub(super) const MAX_RESPONSE_BYTES: usize = 256 << 20;

/// The server.
#[derive(Debug, clap::Args)]
pub(super) struct Remote {
    /// The address of the server; `http://` is optional.
    #[arg(long, value_name = "ADDR", default_value = "http://127.0.0.1:50051")]
    addr: String,
}

impl Remote {
    /// Connects to the server and runs `ask` on the connection.
    ///
    /// # Errors
    /// If the server cannot be reached, or `ask` fails.
    pub(super) fn ask<T>(&self, ask: impl AsyncFnOnce(Channel) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { ask(self.connect().await?).await })
    }

    async fn connect(&self) -> anyhow::Result<Channel> {
        let addr = &self.addr;
        let uri = match scheme(addr) {
            None => format!("http://{addr}"),
            Some(scheme) if scheme.eq_ignore_ascii_case("http") => addr.clone(),
            Some(scheme) => {
                bail!("--addr {addr}: expected http://, found {scheme}://: connections are not encrypted")
            }
        };
        let endpoint =
            Endpoint::from_shared(uri).with_context(|| format!("--addr {addr}: not an address"))?;
        endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .connect()
            .await
            .with_context(|| format!("cannot reach {addr}; is `shortlist serve` running?"))
    }
}

/// Returns an error with the code, the message, and each invalid field.
pub(super) fn refusal(status: &Status) -> anyhow::Error {
    let mut text = format!("{}: {}", code_name(status.code()), status.message());
    let details = status.get_error_details();
    for violation in details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default() {
        let _ = write!(text, "\n  {}: {}", violation.field, violation.description);
    }
    anyhow!(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explains_every_refused_field() {
        let details = tonic_types::ErrorDetails::with_bad_request_violation("k", "expected 1 to 10, found 0");
        let status = Status::with_error_details(tonic::Code::InvalidArgument, "k: expected", details);
        assert_eq!(
            refusal(&status).to_string(),
            "INVALID_ARGUMENT: k: expected\n  k: expected 1 to 10, found 0"
        );
    }
}
