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

use shortlist_client::Id;

use super::ids::id;
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
    explain: Option<String>,
}

/// Prints the candidates, or why a video is, or is not, one of them.
///
/// # Errors
/// If the filter is malformed, a file cannot be read, the server cannot be reached, or it refuses the request.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let request = request::request(&arguments.request)?;
    let remote = &arguments.remote;
    if let Some(video) = &arguments.explain {
        let request = match id(video, arguments.request.text_ids) {
            Id::Number(video_id) => {
                ExplainRequest { request: Some(request), video_id, ..ExplainRequest::default() }
            }
            Id::Text(text_id) => {
                ExplainRequest { request: Some(request), text_id, ..ExplainRequest::default() }
            }
        };
        let answer = remote.ask(async |client| Ok(client.explain(request).await?))?;
        return remote.print("ExplainResponse", &answer, |answer| explain::render(video, answer));
    }
    let layout = render::Layout::of(&request);
    let answer = remote.ask(async |client| Ok(client.search(request).await?))?;
    remote.print("SearchResponse", &answer, |answer| render::render(answer, &layout))
}
