//! `shortlist bench`: recall against latency, side by side with others.
//!
//! | file | duty |
//! |---|---|
//! | `requests.rs` | requests with rules instead of plain queries |
//! | `tables.rs`   | reports as tables |

mod requests;
mod tables;

use std::io::Write as _;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::ArgGroup;
use jiff::Timestamp;

use crate::base::staged_file::StagedFile;
use crate::dataset::{Embeddings, Neighbors};
use crate::eval::{Comparison, Report, Sweep, SweepRow, is_printable, page, picture, read_reports, sweep};
use crate::index::{Index, IndexStore, Manifest, MemoryMode, Residence};
use crate::search::Plan;
use tables::{points, summary};

/// What an index is called that is alone and was not named.
const ENGINE: &str = "shortlist";
/// More threads than any machine has.
const MAX_THREADS: usize = 4096;

/// Measure recall, queries per second and latency of indexes, in this process.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("answers").args(["ground_truth", "requests"])))]
pub struct Arguments {
    /// A folder of generations, as `DIR` or `NAME=DIR`; the current one is measured. May be given several times.
    #[arg(long, value_name = "[NAME=]DIR", required_unless_present = "from", requires = "answers")]
    index: Vec<String>,
    /// The query embeddings.
    #[arg(long, requires = "index")]
    queries: Option<PathBuf>,
    /// Their exact neighbors by row number, as ground-truth writes them.
    #[arg(long, requires_all = ["index", "queries"])]
    ground_truth: Option<PathBuf>,
    /// Requests with rules to measure instead of plain queries: a JSON object per line.
    ///
    /// They are answered by an engine in this process, and compared with exact answers under the same rules. There
    /// is a row per label, k and ef_search. All fields may be left out:
    ///
    ///   label            what rows are measured by, such as "1 % random"
    ///   query            a row of --queries; the number of the line, from 0, modulo the rows of it unless told
    ///   interests        [{"query": ROW, "weight": 1, "min_share": 0}] instead of a query
    ///   seeds            [{"video_id": ID, "weight": 1}] instead of a query
    ///   filter           an expression as in query --filter; -7d is so long before the start
    ///   exclude          a list of ids
    ///   exclude_file     ids as .npy or .txt, beside the file of requests; sent as a Roaring bitmap
    ///   caps             {"creator": 2}
    ///   fresh            {"within": "7d", "at_least": 10, "attribute": "published_at"}
    ///   score_threshold  0.5
    ///   offset           20
    ///   plan             as --plan
    ///
    /// An answer that breaks a rule of its request counts as a violation, and makes the command fail.
    #[arg(
        long,
        value_name = "FILE",
        requires = "index",
        conflicts_with_all = ["html", "svg"],
        verbatim_doc_comment
    )]
    requests: Option<PathBuf>,
    /// Hits per query.
    #[arg(short, long, value_delimiter = ',', default_value = "10,100")]
    k: Vec<usize>,
    /// Candidate list sizes.
    #[arg(long, value_delimiter = ',', default_value = "10,20,30,40,60,80,100,130,170,220,300,400,600,900")]
    ef_search: Vec<usize>,
    /// Threads that search at once: a number, several, or a range such as 1..4, whose end belongs to it.
    #[arg(long, value_delimiter = ',', default_value = "1", value_parser = thread_counts)]
    threads: Vec<RangeInclusive<usize>>,
    /// At most so many queries; with --requests, so many under each label.
    #[arg(long)]
    limit: Option<usize>,
    /// graph, code_scan or exact_scan, and for filters filtered_graph, match_scan or block_scan; what seems fastest
    /// unless told.
    #[arg(long)]
    plan: Option<Plan>,
    /// mapped, or resident: the hot sections copied onto huge pages.
    #[arg(long, default_value = "mapped")]
    memory: MemoryMode,
    /// Figures that an earlier run wrote with --json, instead of or beside those of this one.
    #[arg(long, value_name = "FILE")]
    from: Vec<PathBuf>,
    /// Figures of other engines, as --json writes them, to compare with; those of requests label by label.
    #[arg(long, value_name = "FILE")]
    against: Vec<PathBuf>,
    /// Write the figures here as well: an object, or an array where there is more than one.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with charts and tables, which needs no other file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the charts of recall against queries per second alone.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Measures, prints a row per k and effort, and compares.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    // Whatever can be refused is refused before anything is measured.
    let peers = read_all(&arguments.against)?;
    let mut ours = read_all(&arguments.from)?;
    let outputs = [&arguments.json, &arguments.html, &arguments.svg];
    for path in outputs.into_iter().flatten() {
        StagedFile::beside(path).with_context(|| path.display().to_string())?;
    }
    check_kinds(arguments, &ours, &peers)?;
    if let (Some(plan), None) = (arguments.plan.filter(|plan| plan.is_of_matches()), &arguments.requests) {
        bail!("--plan {}: expected --requests, which have filters", plan.name());
    }
    if let (Some(queries), Some(truth)) = (&arguments.queries, &arguments.ground_truth) {
        ours.extend(measure(arguments, queries, truth)?);
    }
    let mut broken = 0;
    if let Some(path) = &arguments.requests {
        let measured = requests::measure(arguments, path)?;
        let counts = measured.iter().flat_map(|report| &report.rows).filter_map(|row| row.violations);
        broken = counts.sum();
        ours.extend(measured);
    }
    let comparison = Comparison::new(ours, peers);
    for report in comparison.ours() {
        if comparison.reports().len() > 1 {
            say!("{}", report.engine);
        }
        say!("{}", points(report));
    }
    let of_requests = comparison.reports().iter().filter(|report| report.is_of_requests()).count();
    let are_alike = [0, comparison.reports().len()].contains(&of_requests);
    if comparison.reports().len() > 1 && are_alike {
        say!("queries/s at recall@k");
        say!("{}", summary(&comparison));
    }
    if let Some(path) = &arguments.json {
        let json = match comparison.ours() {
            [report] => serde_json::to_string(report),
            reports => serde_json::to_string(reports),
        };
        write(path, &(json? + "\n"))?;
    }
    if let Some(path) = &arguments.html {
        write(path, &page(&comparison, Timestamp::now()))?;
    }
    if let Some(path) = &arguments.svg {
        write(path, &picture(&comparison))?;
    }
    ensure!(broken == 0, "{broken} answers broke a rule of their request");
    Ok(())
}

/// Refuses to draw figures of requests, and to compare them with those of plain queries.
fn check_kinds(arguments: &Arguments, ours: &[Report], peers: &[Report]) -> anyhow::Result<()> {
    let all = || ours.iter().chain(peers);
    let is_drawn = arguments.html.is_some() || arguments.svg.is_some();
    if let (true, Some(report)) = (is_drawn, all().find(|report| report.is_of_requests())) {
        bail!(
            "{}: expected figures of plain queries for --html and --svg, found those of --requests",
            report.engine
        );
    }
    let has_kind = |is_of_requests: bool| {
        let measured = if is_of_requests { &arguments.requests } else { &arguments.ground_truth };
        measured.is_some() || all().any(|report| report.is_of_requests() == is_of_requests)
    };
    ensure!(
        peers.is_empty() || !(has_kind(true) && has_kind(false)),
        "--against: expected figures of one kind, found those of plain queries and those of requests, which have labels"
    );
    Ok(())
}

fn read_all(paths: &[PathBuf]) -> anyhow::Result<Vec<Report>> {
    let reports = paths.iter().map(|path| read_reports(path)).collect::<Result<Vec<_>, _>>()?;
    Ok(reports.concat())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let whole = || {
        let mut staged = StagedFile::beside(path)?;
        staged.write_all(text.as_bytes())?;
        staged.replace(path)
    };
    whole().with_context(|| path.display().to_string())
}

/// A report per index and thread count.
fn measure(arguments: &Arguments, queries: &Path, truth: &Path) -> anyhow::Result<Vec<Report>> {
    let mut indexes: Vec<(String, Manifest, Index)> = Vec::new();
    for (name, dir) in names_and_dirs(arguments)? {
        let (manifest, index, passed_over) = IndexStore::new(dir).open_current()?;
        passed_over.iter().for_each(|error| eprintln!("passed over: {error}"));
        indexes.push((name, manifest, index));
    }
    let queries = Embeddings::open(queries)?;
    queries.check_finite()?;
    let truth = Neighbors::open(truth)?;
    let counts = all_threads(arguments);
    let plan = |threads| Sweep {
        k: arguments.k.clone(),
        ef_search: arguments.ef_search.clone(),
        plan: arguments.plan,
        threads,
        limit: arguments.limit,
    };
    for (name, _, index) in &indexes {
        for threads in &counts {
            plan(*threads).check(index, queries.view(), &truth).with_context(|| name.clone())?;
        }
    }
    let mut reports = Vec::new();
    for (name, manifest, index) in &indexes {
        index.populate();
        if arguments.memory == MemoryMode::Resident {
            tell_residence(name, index.make_resident()?);
        }
        for threads in &counts {
            let done = |row: &SweepRow| {
                let (k, recall, qps) = (row.k, row.recall, row.qps);
                let ef_search = row.ef_search.unwrap_or(k);
                eprintln!(
                    "{name}: threads {threads} k {k} ef_search {ef_search}: recall {recall:.4}, {qps:.0} queries/s"
                );
            };
            let plan = plan(*threads);
            let mut report = sweep(index, manifest, queries.view(), &truth, &plan, done)?;
            report.engine.clone_from(name);
            if counts.len() > 1 {
                report.name_threads();
            }
            reports.push(report);
        }
    }
    Ok(reports)
}

/// Of every index, under names that differ.
fn names_and_dirs(arguments: &Arguments) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let mut found: Vec<(String, PathBuf)> = Vec::new();
    for argument in &arguments.index {
        let (name, dir) = name_and_dir(argument, arguments.index.len() == 1);
        ensure!(is_printable(&name), "--index {argument}: expected a name of 1 to 100 printable characters");
        if found.iter().any(|(other, _)| *other == name) {
            bail!("--index {argument}: there is an index {name:?} already; name one with NAME=DIR");
        }
        found.push((name, dir));
    }
    Ok(found)
}

/// Every number of threads once, ascending.
fn all_threads(arguments: &Arguments) -> Vec<usize> {
    let mut counts: Vec<usize> = arguments.threads.iter().cloned().flatten().collect();
    counts.sort_unstable();
    counts.dedup();
    counts
}

fn tell_residence(name: &str, Residence { bytes, huge_pages }: Residence) {
    let advised = if huge_pages { "advised" } else { "refused" };
    eprintln!("{name}: resident: {bytes} bytes, huge pages {advised}");
}

/// The name that was given, or that of the folder; a folder whose name has an equals sign is one, too.
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

/// `4`, or `1..4` with both ends.
fn thread_counts(text: &str) -> Result<RangeInclusive<usize>, String> {
    let count = |text: &str| match text.parse::<usize>() {
        Ok(count) if (1..=MAX_THREADS).contains(&count) => Ok(count),
        _ => Err(format!("expected 1 to {MAX_THREADS} threads, found {text:?}")),
    };
    let Some((first, last)) = text.split_once("..") else { return count(text).map(|count| count..=count) };
    let range = count(first)?..=count(last.strip_prefix('=').unwrap_or(last))?;
    if range.is_empty() { Err(format!("expected FIRST..LAST, found {text}")) } else { Ok(range) }
}
