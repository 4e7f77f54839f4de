//! `shortlist query`: asks a running server for candidates and shows them as a table.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use comfy_table::{CellAlignment, Table, presets};
use tonic::Status;
use tonic::transport::Endpoint;
use tonic_types::StatusExt;

use super::sample;
use crate::dataset::Embeddings;
use crate::service::code_name;
use crate::service::proto::retrieval_client::RetrievalClient;
use crate::service::proto::{
    Candidate, Plan, SearchParams, SearchRequest, SearchResponse, Seed, Seeds, Vector, attribute_value,
    search_params, search_request,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Larger than what a server sends unless configured otherwise.
const MAX_RESPONSE_BYTES: usize = 256 << 20;

/// Ask a running server for candidates.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where the server is; `http://` may be left out.
    #[arg(long, value_name = "ADDR", default_value = "http://127.0.0.1:50051")]
    addr: String,
    /// The index by name; not needed when the server has one.
    #[arg(long, value_name = "NAME", default_value = "")]
    index: String,
    #[command(flatten)]
    query: QuerySource,
    /// How many candidates.
    #[arg(short, value_name = "K", default_value_t = 10)]
    k: u32,
    /// The size of the candidate list: larger finds more of the true top k and takes longer.
    #[arg(long, value_name = "N")]
    ef_search: Option<u32>,
    /// The share of the true top k to find, such as 0.95; the index must be calibrated.
    #[arg(long, value_name = "R", conflicts_with = "ef_search")]
    target_recall: Option<f32>,
    /// Score every video: the true top k.
    #[arg(long, conflicts_with_all = ["ef_search", "target_recall"])]
    exact: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct QuerySource {
    /// A user embedding: a row of a .npy file, the first unless told.
    #[arg(long, value_name = "FILE.npy[:ROW]")]
    vector: Option<String>,
    /// Candidates like this video.
    #[arg(long, value_name = "ID")]
    video: Option<u64>,
    /// A user of the sample catalogue that was held out of it.
    #[arg(long, value_name = "N")]
    sample_user: Option<usize>,
}

/// Prints the candidates.
///
/// # Errors
/// If the embedding cannot be read, the server cannot be reached, or it refuses.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let request = SearchRequest {
        index: arguments.index.clone(),
        query: Some(query(&arguments.query)?),
        k: arguments.k,
        params: Some(SearchParams {
            effort: match (arguments.ef_search, arguments.target_recall) {
                (Some(ef_search), _) => Some(search_params::Effort::EfSearch(ef_search)),
                (None, Some(recall)) => Some(search_params::Effort::TargetRecall(recall)),
                (None, None) => arguments.exact.then_some(search_params::Effort::Exact(true)),
            },
            plan: Plan::Unspecified.into(),
        }),
        return_attributes: vec!["*".to_owned()],
        return_stats: true,
        ..SearchRequest::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let response = runtime.block_on(search(&arguments.addr, request))?;
    say!("{}", render(&response).trim_end());
    Ok(())
}

fn query(source: &QuerySource) -> anyhow::Result<search_request::Query> {
    if let Some(video_id) = source.video {
        let seeds = vec![Seed { video_id, weight: None }];
        return Ok(search_request::Query::Seeds(Seeds { seeds }));
    }
    let (path, row) = match (&source.vector, source.sample_user) {
        (Some(vector), _) => file_and_row(vector),
        (None, Some(user)) => (sample::files(Path::new(sample::ROOT)).users_test, user),
        (None, None) => bail!("expected --vector, --video or --sample-user"),
    };
    let embeddings = Embeddings::open(&path)?;
    let view = embeddings.view();
    if row >= view.len() {
        bail!("{}: row {row}: the file has rows 0 to {}", path.display(), view.len().saturating_sub(1));
    }
    let mut values = Vec::new();
    view.copy_row(row, &mut values);
    Ok(search_request::Query::Vector(Vector { values, packed: None }))
}

/// A path may hold colons; only digits after the last one are a row.
fn file_and_row(argument: &str) -> (PathBuf, usize) {
    let row =
        argument.rsplit_once(':').and_then(|(path, row)| Some((PathBuf::from(path), row.parse().ok()?)));
    row.unwrap_or_else(|| (PathBuf::from(argument), 0))
}

async fn search(addr: &str, request: SearchRequest) -> anyhow::Result<SearchResponse> {
    let uri = if addr.contains("://") { addr.to_owned() } else { format!("http://{addr}") };
    let endpoint = Endpoint::from_shared(uri).with_context(|| format!("--addr {addr}: not an address"))?;
    let channel = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .connect()
        .await
        .with_context(|| format!("cannot reach {addr}; is `shortlist serve` running?"))?;
    let mut client = RetrievalClient::new(channel).max_decoding_message_size(MAX_RESPONSE_BYTES);
    client.search(request).await.map(tonic::Response::into_inner).map_err(|status| explain(&status))
}

/// The code, the message, and each field that was refused.
fn explain(status: &Status) -> anyhow::Error {
    let mut text = format!("{}: {}", code_name(status.code()), status.message());
    let details = status.get_error_details();
    for violation in details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default() {
        let _ = write!(text, "\n  {}: {}", violation.field, violation.description);
    }
    anyhow!(text)
}

fn render(response: &SearchResponse) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(["rank", "video id", "title", "creator", "score"]);
    for column in [0, 1, 4] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for (rank, candidate) in response.candidates.iter().enumerate() {
        table.add_row([
            (rank + 1).to_string(),
            candidate.video_id.to_string(),
            attribute(candidate, "title"),
            attribute(candidate, "creator"),
            format!("{:.4}", candidate.score),
        ]);
    }
    let mut text = format!("{table}\n");
    let _ = write!(text, "generation {}", response.generation);
    if let Some(stats) = &response.stats {
        let plan = match stats.plan() {
            Plan::Unspecified => "unknown",
            Plan::Graph => "graph",
            Plan::CodeScan => "code_scan",
            Plan::ExactScan => "exact_scan",
            Plan::FilteredGraph => "filtered_graph",
            Plan::MatchScan => "match_scan",
            Plan::BlockScan => "block_scan",
        };
        let elapsed = stats.elapsed.and_then(|elapsed| Duration::try_from(elapsed).ok()).unwrap_or_default();
        let _ = write!(text, " · plan {plan} · ef_search {}", stats.ef_search);
        if let Some(recall) = stats.measured_recall {
            let _ = write!(text, " · measured recall {recall:.4}");
        }
        let _ = write!(text, " · distances {} · elapsed {elapsed:.1?}", stats.distances);
    }
    text.push('\n');
    text
}

/// The value in words, or `-`.
fn attribute(candidate: &Candidate, name: &str) -> String {
    use attribute_value::Value;
    match candidate.attributes.get(name).and_then(|value| value.value.as_ref()) {
        None => "-".to_owned(),
        Some(Value::Keyword(word)) => word.clone(),
        Some(Value::KeywordList(list)) => list.values.join(", "),
        Some(Value::Int64(value)) => value.to_string(),
        Some(Value::Uint64(value)) => value.to_string(),
        Some(Value::Double(value)) => value.to_string(),
        Some(Value::Bool(value)) => value.to_string(),
        Some(Value::Timestamp(value)) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_digits_after_the_last_colon() {
        assert_eq!(file_and_row("a.npy"), (PathBuf::from("a.npy"), 0));
        assert_eq!(file_and_row("a.npy:12"), (PathBuf::from("a.npy"), 12));
        assert_eq!(file_and_row("a:b.npy"), (PathBuf::from("a:b.npy"), 0));
        assert_eq!(file_and_row("a:b.npy:3"), (PathBuf::from("a:b.npy"), 3));
    }

    #[test]
    fn shows_a_dash_for_what_a_video_has_not() {
        let title = Some(attribute_value::Value::Keyword("night cats".to_owned()));
        let attributes =
            [("title".to_owned(), crate::service::proto::AttributeValue { value: title })].into();
        let response = SearchResponse {
            candidates: vec![Candidate { video_id: 42, score: 0.5, attributes, ..Candidate::default() }],
            generation: 3,
            ..SearchResponse::default()
        };
        let text = render(&response);
        let row = text.lines().find(|line| line.contains("42")).unwrap();
        assert_eq!(
            row.split_whitespace().collect::<Vec<_>>(),
            ["|", "1", "|", "42", "|", "night", "cats", "|", "-", "|", "0.5000", "|"]
        );
        assert!(text.ends_with("generation 3\n"), "{text}");
    }

    #[test]
    fn explains_every_refused_field() {
        let details = tonic_types::ErrorDetails::with_bad_request_violation("k", "expected 1 to 10, found 0");
        let status = Status::with_error_details(tonic::Code::InvalidArgument, "k: expected", details);
        assert_eq!(
            explain(&status).to_string(),
            "INVALID_ARGUMENT: k: expected\n  k: expected 1 to 10, found 0"
        );
    }
}
