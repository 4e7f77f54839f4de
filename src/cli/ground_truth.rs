//! `shortlist ground-truth`: the exact neighbors of queries.

use std::path::PathBuf;

use anyhow::ensure;

use super::progress::bar;
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
}

/// Scans all embeddings and writes the file.
///
/// # Errors
/// If an input is invalid, or the file cannot be written.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
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
    bar.finish();
    truth.write(&arguments.out)?;
    let written = format!("{}  [{} × {}] i32", arguments.out.display(), truth.rows, truth.k);
    if is_standard_output(&arguments.out) {
        note!("{written}")
    } else {
        say!("{written}")
    }
    Ok(())
}
