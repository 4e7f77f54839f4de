//! The flags of `bench`, and the indexes and threads that they name.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::ArgGroup;

use super::load_arguments::LoadArguments;
use crate::base::metric::Metric;
use crate::cli::progress::report_mapped;
use crate::engine::{MemoryGauge, MemoryPolicy};
use crate::eval::is_printable;
use crate::search::Plan;

/// The name of a single index that was given without a name.
const ENGINE: &str = "shortlist";
/// Every k, and the first candidate list sizes, if none are given.
const DEFAULT_K: [usize; 2] = [10, 100];
const DEFAULT_EF_SEARCH: [usize; 14] = [10, 20, 30, 40, 60, 80, 100, 130, 170, 220, 300, 400, 600, 900];
/// The largest number of threads: more than any machine has.
const MAX_THREADS: usize = 4096;

/// Measure recall, queries per second and latency of indexes, in this process.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("searches").args(["queries", "requests", "hdf5"]).multiple(true)))]
#[command(group(ArgGroup::new("searched").args(["index", "addr"]).multiple(true)))]
pub struct Arguments {
    /// The folder of an index, as `DIR` or `NAME=DIR`. Its current generation is measured. Can be repeated.
    #[arg(long, value_name = "[NAME=]DIR", required_unless_present_any = ["from", "hdf5", "addr"], requires = "searches")]
    pub(super) index: Vec<String>,
    /// The query embeddings.
    #[arg(long, requires = "searched")]
    pub(super) queries: Option<PathBuf>,
    /// The exact neighbors of the queries as row numbers, as written by ground-truth. Default: they are computed.
    #[arg(long, requires_all = ["index", "queries"], conflicts_with = "requests")]
    pub(super) ground_truth: Option<PathBuf>,
    /// Measure a public benchmark: an HDF5 file of ann-benchmarks, with its rows, queries and exact neighbors. An index is
    /// built from its rows, as build does by default, unless --index is given. Recall is that of ann-benchmarks.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["queries", "ground_truth", "requests"])]
    pub(super) hdf5: Option<PathBuf>,
    /// How the embeddings of --hdf5 are compared: ip, cosine or l2. Default: as the file says.
    #[arg(long, requires = "hdf5")]
    pub(super) metric: Option<Metric>,
    /// A sample of users to teach the index of --hdf5 with, in any format of build --embeddings.
    #[arg(long, value_name = "FILE", requires = "hdf5", conflicts_with = "index")]
    pub(super) training_queries: Option<PathBuf>,
    /// Measure requests with rules instead of plain queries: one JSON object per line.
    ///
    /// An engine in this process answers the requests, and the answers are compared with exact answers under the same
    /// rules. The result has one row per label, k and ef_search. All fields are optional:
    ///
    ///   label            groups the requests into rows, such as "1 % random"
    ///   query            a row of --queries; default: the number of the line, from 0, modulo the number of rows
    ///   interests        [{"query": ROW, "weight": 1, "min_share": 0}] instead of a query
    ///   seeds            [{"video_id": ID, "weight": 1}] instead of a query
    ///   filter           an expression as in query --filter; -7d is relative to the start
    ///   exclude          a list of ids
    ///   exclude_file     ids as .npy or .txt, in the folder of the requests file; passed as a Roaring bitmap
    ///   caps             {"creator": 2}
    ///   fresh            {"within": "7d", "at_least": 10, "attribute": "published_at"}
    ///   reserve          [{"filter": "views < 1000", "at_least": 10, "sample": {"temperature": 0.5, "seed": 0}}], or "share": 0.1
    ///   diversity        {"max_similarity": 0.98, "lambda": 0.7}, either or both
    ///   score_terms      ["0.1*log1p(views)"], as query --score-term
    ///   score_threshold  0.5
    ///   offset           20
    ///   plan             as --plan
    ///
    /// An answer that breaks a rule of its request counts as a violation. The command then fails.
    #[arg(
        long,
        value_name = "FILE",
        requires = "index",
        conflicts_with_all = ["html", "svg"],
        verbatim_doc_comment
    )]
    pub(super) requests: Option<PathBuf>,
    /// Hits per query [default: 10,100; at most the neighbors that --hdf5 has]
    #[arg(short, long, value_delimiter = ',')]
    k: Vec<usize>,
    /// Candidate list sizes [default: 10,20,30,40,60,80,100,130,170,220,300,400,600,900]
    ///
    /// Without this option, plain queries are measured with larger ones, too, until recall ends: where all neighbors are found,
    /// where two more efforts find no more, or where all videos are scored.
    #[arg(long, value_delimiter = ',')]
    ef_search: Vec<usize>,
    /// With --requests, measure the effort of requests that set none: alone, or before the sizes of --ef-search. The result has the mean size
    /// of the candidate list, which score terms may lengthen.
    #[arg(long, requires = "requests")]
    pub(super) default_effort: bool,
    /// Numbers of search threads: a number, a list, or an inclusive range such as 1..4.
    #[arg(long, value_delimiter = ',', default_value = "1", value_parser = thread_counts)]
    pub(super) threads: Vec<RangeInclusive<usize>>,
    /// Measure at most this many queries; with --requests, this many per label.
    #[arg(long)]
    pub(super) limit: Option<usize>,
    /// The search plan: graph, code_scan or exact_scan; with filters also filtered_graph, match_scan or block_scan.
    /// Default: the plan that is expected to be fastest.
    #[arg(long)]
    pub(super) plan: Option<Plan>,
    /// The memory to search: auto (a copy of the hot sections on huge pages if there is enough memory for all indexes,
    /// else the file), mapped (the file), or resident (the copy).
    #[arg(long, default_value = "auto")]
    memory: MemoryPolicy,
    /// Reports that an earlier run wrote with --json, in addition to, or instead of, measuring indexes.
    #[arg(long, value_name = "FILE")]
    pub(super) from: Vec<PathBuf>,
    /// Reports of other engines to compare with, in the format of --json. Reports of requests are compared per label.
    #[arg(long, value_name = "FILE")]
    pub(super) against: Vec<PathBuf>,
    /// Write the reports to this file: a JSON object, or an array if there are several. `-` is standard output; the
    /// tables are then on standard error.
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Write the measurements to this file as CSV, one row per report, k and ef_search. `-` is standard output; the tables are
    /// then on standard error.
    #[arg(long, value_name = "FILE")]
    pub(super) csv: Option<PathBuf>,
    /// Write a self-contained HTML page with charts and tables.
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
    /// Write only the charts of recall against queries per second.
    #[arg(long, value_name = "FILE")]
    pub(super) svg: Option<PathBuf>,
    #[command(flatten)]
    pub(super) load: LoadArguments,
}

impl Arguments {
    /// Returns the name and the folder of every index.
    ///
    /// # Errors
    /// If a name is not printable or not unique.
    pub(super) fn names_and_dirs(&self) -> anyhow::Result<Vec<(String, PathBuf)>> {
        let mut found: Vec<(String, PathBuf)> = Vec::new();
        for argument in &self.index {
            let (name, dir) = name_and_dir(argument, self.index.len() == 1);
            ensure!(
                is_printable(&name),
                "--index {argument}: expected a name of 1 to 100 printable characters"
            );
            if found.iter().any(|(other, _)| *other == name) {
                bail!("--index {argument}: there is an index {name:?} already; name one with NAME=DIR");
            }
            found.push((name, dir));
        }
        Ok(found)
    }

    /// Returns every k. `most` is the number of exact neighbors, if they are given: without `-k`, larger ones are left out.
    pub(super) fn all_k(&self, most: Option<usize>) -> Vec<usize> {
        if !self.k.is_empty() {
            return self.k.clone();
        }
        let most = most.unwrap_or(usize::MAX);
        let mut all: Vec<usize> = DEFAULT_K.into_iter().map(|k| k.min(most)).collect();
        all.dedup();
        all
    }

    /// Returns every k of a load: 100, if none is given.
    ///
    /// # Errors
    /// If a k is larger than that of any request.
    pub(super) fn all_k_of_load(&self) -> anyhow::Result<Vec<u32>> {
        if self.k.is_empty() {
            return Ok(vec![100]);
        }
        let k = |k: &usize| {
            u32::try_from(*k).with_context(|| format!("-k: expected at most {}, found {k}", u32::MAX))
        };
        self.k.iter().map(k).collect()
    }

    /// Returns the candidate list sizes, and whether the sweep goes on after the last one.
    pub(super) fn efforts(&self) -> (Vec<usize>, bool) {
        match self.ef_search.is_empty() {
            true => (DEFAULT_EF_SEARCH.into(), true),
            false => (self.ef_search.clone(), false),
        }
    }

    /// Returns the candidate list sizes that requests with rules are measured with.
    pub(super) fn efforts_of_requests(&self) -> Vec<usize> {
        match (self.ef_search.is_empty(), self.default_effort) {
            (true, true) => Vec::new(),
            _ => self.efforts().0,
        }
    }

    /// Decides whether indexes are copied into memory, and reports it if they are not for lack of it. `hot_bytes` is the
    /// size of all copies: figures are comparable only if all indexes are copied or none.
    pub(super) fn is_resident(&self, hot_bytes: u64) -> bool {
        match self.memory {
            MemoryPolicy::Mapped => false,
            MemoryPolicy::Resident => true,
            MemoryPolicy::Auto => {
                MemoryGauge::default().check_room(hot_bytes).inspect_err(report_mapped).is_ok()
            }
        }
    }

    /// Returns the numbers of threads, ascending and without duplicates.
    pub(super) fn all_threads(&self) -> Vec<usize> {
        let mut counts: Vec<usize> = self.threads.iter().cloned().flatten().collect();
        counts.sort_unstable();
        counts.dedup();
        counts
    }
}

/// Returns the given name, or else the name of the folder. If the whole text is an existing folder, an equals sign in it
/// does not separate a name.
fn name_and_dir(argument: &str, is_alone: bool) -> (String, PathBuf) {
    let whole = Path::new(argument);
    if let (false, Some((name, dir))) = (whole.exists(), argument.split_once('=')) {
        return (name.to_owned(), PathBuf::from(dir));
    }
    let folder = whole.canonicalize().ok();
    let folder =
        folder.as_deref().unwrap_or(whole).file_name().map(|name| name.to_string_lossy().into_owned());
    let name = if is_alone { ENGINE.to_owned() } else { folder.unwrap_or_else(|| argument.to_owned()) };
    (name, whole.to_owned())
}

/// Parses `4`, or the inclusive range `1..4`.
fn thread_counts(text: &str) -> Result<RangeInclusive<usize>, String> {
    let count = |text: &str| match text.parse::<usize>() {
        Ok(count) if (1..=MAX_THREADS).contains(&count) => Ok(count),
        _ => Err(format!("expected 1 to {MAX_THREADS} threads, found {text:?}")),
    };
    let Some((first, last)) = text.split_once("..") else { return count(text).map(|count| count..=count) };
    let range = count(first)?..=count(last.strip_prefix('=').unwrap_or(last))?;
    if range.is_empty() { Err(format!("expected FIRST..LAST, found {text}")) } else { Ok(range) }
}
