//! `shortlist inspect`: describes the folder of an index and its current generation.

use std::path::PathBuf;

use comfy_table::{Table, presets};

use super::tune;
use crate::base::id::NodeId;
use crate::base::text::visible_text;
use crate::index::{
    BuildPhase, CodeCheck, Codes, GateReport, HeldOutRecall, Index, IndexStore, Manifest, Metadata,
};

/// Describe the current generation of an index: build, graph, training, calibration, quality gate, sections.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The folder of the index.
    dir: PathBuf,
}

/// Prints the description.
///
/// # Errors
/// If the folder has no usable generation.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let store = IndexStore::new(&arguments.dir);
    let (manifest, index, passed_over) = store.open_current()?;
    passed_over.iter().for_each(|error| say!("passed over      {error}"));
    print_facts(&store, &manifest, &index)?;
    say!("\n{}", sections(&index));
    Ok(())
}

fn print_facts(store: &IndexStore, manifest: &Manifest, index: &Index) -> anyhow::Result<()> {
    let facts = index.metadata();
    say!("generation       {} of {:?}", manifest.generation, store.generations()?);
    say!("manifest         {} ({:?}, {})", manifest.manifest, manifest.reason, manifest.created_at);
    say!("file             {}", index.path().display());
    say!("bytes            {}", index.bytes());
    say!("videos           {}", facts.rows);
    let mut ids = index.video_ids().iter().zip((0..).map(NodeId));
    if ids.all(|(id, node)| id.0 == u64::from(index.input_row(node))) {
        say!("ids              equal to the row numbers of the input");
    }
    say!("dimensions       {} {}", facts.dim, facts.dtype);
    say!("metric           {}", facts.metric);
    if facts.copies > 0 {
        say!("copies           {} videos have the embedding of another one", facts.copies);
    }
    say!("codes            {}", described_codes(facts));
    say!("scores           {}", described_scores(index));
    say!("embedding model  {}", visible_text(facts.embedding_model.as_deref().unwrap_or("none")));
    say!("log position     {}", facts.log_sequence);
    say!(
        "builder          {}, m {}, ef_construction {}, seed {}, {:.1} s",
        facts.build.builder,
        facts.m,
        facts.build.ef_construction,
        facts.build.seed,
        manifest.build_ms as f64 / 1000.0
    );
    for BuildPhase { name, ms } in &manifest.build_phases {
        say!("                 {name}: {:.2} s", *ms as f64 / 1000.0);
    }
    let layer0 = index.graph().layer0;
    let edges: usize = (0..facts.rows).map(|node| layer0.of(node).len()).sum();
    say!(
        "layer 0          {:.1} edges per node on average, at most {}",
        edges as f64 / f64::from(facts.rows),
        facts.m0
    );
    say!("upper layers     {:?} nodes", facts.upper_layers);
    say!("entry point      node {}", facts.entry_point);
    say!(
        "reachability     every node is reachable from the entry point; the build linked {} that were not: {} edges \
         added, {} replaced",
        facts.repair.unreachable,
        facts.repair.edges_added,
        facts.repair.edges_replaced
    );
    match &facts.training {
        Some(training) => {
            let multiplied = match training.multiplied {
                0 => String::new(),
                synthesized => format!(" and {synthesized} derived from them"),
            };
            say!(
                "training         taught by {} users{multiplied}: {} edges added; {} more users were held out:",
                training.users,
                training.edges_added,
                training.held_out
            );
            for HeldOutRecall { k, ef_search, recall } in &training.recall {
                say!("                 recall@{k} {recall:.4} at ef_search {ef_search}");
            }
        }
        None => say!(
            "training         none: WARNING: a graph built from videos alone has a lower recall for users at every \
             ef_search, often much lower; pass a sample of user embeddings to build with --training-queries"
        ),
    }
    let (calibration, passed_over) = store.open_calibration(manifest.generation, index)?;
    passed_over.iter().for_each(|error| say!("passed over      {error}"));
    match &calibration {
        Some(calibration) => tune::show(calibration),
        None => say!("calibration      none: requests cannot use target_recall; see tune"),
    }
    let (gate, passed_over) = store.open_gate_report(manifest.generation, index)?;
    passed_over.iter().for_each(|error| say!("passed over      {error}"));
    if let Some(report) = &gate {
        show_gate(report);
    }
    for column in &facts.attributes {
        say!("attribute        {} {:?}", visible_text(&column.name), column.kind);
    }
    Ok(())
}

/// The codes, what they cost, and why there are none.
fn described_codes(facts: &Metadata) -> String {
    let name = facts.codes.name();
    let Some(CodeCheck { codes, queries, recall }) = facts.code_check else { return name.to_owned() };
    if facts.codes == Codes::None {
        let asked = codes.name();
        return format!(
            "{name}: {asked} would find only {:.1} % of the exact answers, measured with {queries} queries",
            100.0 * recall
        );
    }
    let unrepresented = match facts.unrepresented {
        0 => String::new(),
        rows => format!("; {rows} videos with extreme components are scored in full precision"),
    };
    let lost = 100.0 * (1.0 - recall);
    format!("{name}: loses {lost:.2} % of the exact answers, measured with {queries} queries{unrepresented}")
}

/// What searches score results with, and how much of the file they read.
fn described_scores(index: &Index) -> String {
    let per_video = |bytes: u64| bytes / index.len() as u64;
    let (hot, all) = (per_video(index.hot_bytes()), per_video(index.bytes()));
    let with = match index.fine_codes() {
        Some(_) => "codes of 16 bits per component",
        None => "the embeddings",
    };
    format!("from {with}; searches read {hot} of {all} bytes per video")
}

fn show_gate(report: &GateReport) {
    let GateReport { found, problems, .. } = report;
    let verdict = if problems.is_empty() { "passed" } else { "REFUSED" };
    say!("quality gate     {verdict}, {}", report.created_at);
    problems.iter().for_each(|problem| say!("                 {problem}"));
    if found.queries == 0 {
        say!("                 no queries to measure with: only reachability was checked");
        return;
    }
    let share = |ppm: u32| f64::from(ppm) / 1e6;
    let (k, users, source) = (found.k, found.queries, &found.source);
    let recall = share(found.recall_ppm);
    say!("                 recall@{k} {recall:.4} at ef_search {} of {users} {source}", found.ef_search);
    say!("                 p99 {} us", found.p99_ns / 1000);
    if let (Some(recall), Some(overlap), Some(p99)) =
        (found.current_recall_ppm, found.overlap_ppm, found.current_p99_ns)
    {
        say!(
            "                 generation {} had recall@{k} {:.4} and p99 {} us; overlap of the answers {:.4}",
            found.current,
            share(recall),
            p99 / 1000,
            share(overlap)
        );
    }
}

fn sections(index: &Index) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header([
        "section",
        "offset",
        "bytes",
        "bytes per video",
        "crc32c",
    ]);
    for section in index.sections() {
        table.add_row([
            section.label(),
            section.offset.to_string(),
            section.bytes.to_string(),
            format!("{:.2}", section.bytes as f64 / index.len() as f64),
            format!("{:08x}", section.crc32c),
        ]);
    }
    table
}
