//! `shortlist ground-truth`: the exact neighbors of queries.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::ensure;
use serde_json::json;

use super::progress::{bar, finish};
use super::say::Format;
use crate::base::metric::Metric;
use crate::base::output::is_standard_output;
use crate::dataset::Embeddings;
use crate::recall::ground_truth;

/// Compute the exact neighbors of every query, as row numbers.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The embeddings to search, in any format of build --embeddings.
    #[arg(long)]
    embeddings: PathBuf,
    /// The query embeddings, in any of the same formats.
    #[arg(long)]
    queries: PathBuf,
    /// How embeddings are compared: ip, cosine or l2.
    #[arg(long, default_value = "ip")]
    metric: Metric,
    /// Neighbors per query.
    #[arg(short, default_value_t = 100)]
    k: usize,
    /// The .npy file to write: [queries × k] i32.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    format: Format,
}

/// Scans all embeddings and writes the file.
///
/// # Errors
/// If an input is invalid, or the file cannot be written.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let started = Instant::now();
    let items = Embeddings::open(&arguments.embeddings)?;
    let queries = Embeddings::open(&arguments.queries)?;
    let (expected, found) = (items.view().dim(), queries.view().dim());
    ensure!(
        expected == found,
        "{}: expected {expected} dimensions as in {}, found {found}",
        queries.path().display(),
        items.path().display()
    );
    ensure!(arguments.k >= 1, "k: expected at least 1, found 0");
    let rows = items.view().len();
    ensure!(
        arguments.k <= rows,
        "k: expected at most {rows}, the number of embeddings, found {}",
        arguments.k
    );
    items.check_finite()?;
    queries.check_queries(arguments.metric)?;
    if arguments.metric == Metric::Cosine {
        items.check_nonzero()?;
    }
    let bar = bar("scanning", queries.view().len() as u64);
    let truth = ground_truth(items.view(), queries.view(), arguments.metric, arguments.k, |queries| {
        bar.inc(queries as u64);
    });
    finish(&bar);
    truth.write(&arguments.out)?;
    let (path, rows, k) = (&arguments.out, truth.rows, truth.k);
    let text = format!("{}  [{rows} × {k}] i32", path.display());
    if is_standard_output(path) {
        note!("{text}");
        return Ok(());
    }
    let seconds = started.elapsed().as_secs_f64();
    let result = json!({ "path": path, "queries": rows, "k": k, "dtype": "i32", "seconds": seconds });
    arguments.format.print(&result, || say!("{text}"))?;
    Ok(())
}
