//! `shortlist query`: asks a running server for candidates and shows them as a table.
//!
//! | file | duty |
//! |---|---|
//! | `request.rs` | flags to a request |
//! | `values.rs`  | what some flags take |
//! | `render.rs`  | the answer as a table |
//! | `explain.rs` | why a video is, or is not, in the answer |

mod explain;
mod render;
mod request;
mod values;

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt;

use crate::service::code_name;
use crate::service::proto::ExplainRequest;
use crate::service::proto::retrieval_client::RetrievalClient;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Larger than what a server sends unless configured otherwise.
const MAX_RESPONSE_BYTES: usize = 256 << 20;

/// Ask a running server for candidates.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where the server is; `http://` may be left out.
    #[arg(long, value_name = "ADDR", default_value = "http://127.0.0.1:50051")]
    addr: String,
    #[command(flatten)]
    request: request::Arguments,
    /// Instead of the candidates: why this video is among them, or is not. Scores every video.
    #[arg(long, value_name = "ID")]
    explain: Option<u64>,
}

/// Prints the candidates, or why a video is or is not one of them.
///
/// # Errors
/// If the filter is none, a file cannot be read, the server cannot be reached, or it refuses.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let request = request::request(&arguments.request)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let text = runtime.block_on(async {
        let mut client = connect(&arguments.addr).await?;
        if let Some(video_id) = arguments.explain {
            let request = ExplainRequest { request: Some(request), video_id };
            let answer = client.explain(request).await.map_err(|status| refusal(&status))?;
            return Ok::<_, anyhow::Error>(explain::render(video_id, answer.get_ref()));
        }
        let layout = render::Layout::of(&request);
        let answer = client.search(request).await.map_err(|status| refusal(&status))?;
        Ok(render::render(answer.get_ref(), layout))
    })?;
    say!("{}", text.trim_end());
    Ok(())
}

async fn connect(addr: &str) -> anyhow::Result<RetrievalClient<Channel>> {
    let uri = if addr.contains("://") { addr.to_owned() } else { format!("http://{addr}") };
    let endpoint = Endpoint::from_shared(uri).with_context(|| format!("--addr {addr}: not an address"))?;
    let channel = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .connect()
        .await
        .with_context(|| format!("cannot reach {addr}; is `shortlist serve` running?"))?;
    Ok(RetrievalClient::new(channel).max_decoding_message_size(MAX_RESPONSE_BYTES))
}

/// The code, the message, and each field that was refused.
fn refusal(status: &Status) -> anyhow::Error {
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
