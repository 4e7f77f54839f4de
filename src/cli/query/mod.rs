//! `shortlist query`: searches a running server and prints the candidates as a table.
//!
//! | file | duty |
//! |---|---|
//! | `request.rs` | flags → request |
//! | `values.rs`  | parsers of flag values |
//! | `render.rs`  | the answer as a table |
//! | `explain.rs` | why a video is, or is not, in the answer |

mod explain;
mod render;
mod request;
mod values;

use super::remote::Remote;
use crate::service::proto::ExplainRequest;

/// Search a running server.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    request: request::RequestArguments,
    /// Explain why this video is, or is not, in the answer, instead of printing the answer. Scores every video.
    #[arg(long, value_name = "ID")]
    explain: Option<u64>,
}

/// Prints the candidates, or why a video is, or is not, one of them.
///
/// # Errors
/// If the filter is malformed, a file cannot be read, the server cannot be reached, or it refuses the request.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let request = request::request(&arguments.request)?;
    let remote = &arguments.remote;
    if let Some(video_id) = arguments.explain {
        let request = ExplainRequest { request: Some(request), video_id };
        let answer = remote.ask(async |client| Ok(client.explain(request).await?))?;
        return remote.print("ExplainResponse", &answer, |answer| explain::render(video_id, answer));
    }
    let layout = render::Layout::of(&request);
    let answer = remote.ask(async |client| Ok(client.search(request).await?))?;
    remote.print("SearchResponse", &answer, |answer| render::render(answer, &layout))
}
