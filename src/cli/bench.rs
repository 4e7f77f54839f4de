//! `shortlist bench`: recall against latency.

use std::path::PathBuf;

use anyhow::Context as _;
use comfy_table::{Table, presets};

use crate::dataset::{Embeddings, Neighbors};
use crate::eval::{Report, Sweep, SweepRow, sweep};
use crate::index::{IndexStore, MemoryMode, Residence};

/// Measure recall, queries per second and latency of an index, in this process.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The folder of generations; the current one is measured.
    #[arg(long)]
    index: PathBuf,
    /// The query embeddings.
    #[arg(long)]
    queries: PathBuf,
    /// Their exact neighbours by row number, as ground-truth writes them.
    #[arg(long)]
    ground_truth: PathBuf,
    /// Hits per query.
    #[arg(short, long, value_delimiter = ',', default_value = "10,100")]
    k: Vec<usize>,
    /// Candidate list sizes; those below k are left out.
    #[arg(long, value_delimiter = ',', default_value = "10,20,30,40,60,80,100,130,170,220,300,400,600,900")]
    ef_search: Vec<usize>,
    /// Threads that search at once.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// At most so many queries.
    #[arg(long)]
    limit: Option<usize>,
    /// mapped, or resident: the hot sections copied onto huge pages.
    #[arg(long, default_value = "mapped")]
    memory: MemoryMode,
    /// Write the figures here as well.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Measures and prints a row per k and effort.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let store = IndexStore::new(&arguments.index);
    let (manifest, index, passed_over) = store.open_current()?;
    passed_over.iter().for_each(|error| eprintln!("passed over: {error}"));
    index.populate();
    if arguments.memory == MemoryMode::Resident {
        let Residence { bytes, huge_pages } = index.make_resident()?;
        eprintln!("resident: {bytes} bytes, huge pages {}", if huge_pages { "advised" } else { "refused" });
    }
    let queries = Embeddings::open(&arguments.queries)?;
    queries.check_finite()?;
    let truth = Neighbors::open(&arguments.ground_truth)?;
    let plan = Sweep {
        k: arguments.k.clone(),
        ef_search: arguments.ef_search.clone(),
        threads: arguments.threads,
        limit: arguments.limit,
    };
    let report = sweep(&index, &manifest, queries.view(), &truth, &plan, |row| {
        eprintln!(
            "k {} ef_search {}: recall {:.4}, {:.0} queries/s",
            row.k, row.ef_search, row.recall, row.qps
        );
    })?;
    say!("{}", table(&report));
    if let Some(path) = &arguments.json {
        let json = serde_json::to_string(&report)?;
        std::fs::write(path, json + "\n").with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn table(report: &Report) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header([
        "k",
        "ef_search",
        "recall@k",
        "queries/s",
        "p50 µs",
        "p95 µs",
        "p99 µs",
        "distances",
        "hops",
    ]);
    for row in &report.rows {
        let SweepRow { k, ef_search, recall, qps, p50_us, p95_us, p99_us, distances, hops } = row;
        table.add_row([
            k.to_string(),
            ef_search.to_string(),
            format!("{recall:.4}"),
            format!("{qps:.0}"),
            format!("{p50_us:.1}"),
            format!("{p95_us:.1}"),
            format!("{p99_us:.1}"),
            format!("{distances:.0}"),
            format!("{hops:.0}"),
        ]);
    }
    table
}
