//! `shortlist inspect`: describes the folder of an index and its current generation.

use std::path::PathBuf;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use super::say::Format;
use super::tune;
use crate::base::id::NodeId;
use crate::base::text::visible_text;
use crate::engine::Size;
use crate::index::{
    BuildPhase, Calibration, CodeCheck, Codes, GateReport, HeldOutRecall, Index, IndexStore, Manifest,
    Metadata, Section,
};

/// Describe the current generation of an index: build, graph, training, calibration, quality gate, sections.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The folder of the index.
    dir: PathBuf,
    #[command(flatten)]
    format: Format,
}

/// Prints the description.
///
/// # Errors
/// If the folder has no usable generation.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let store = IndexStore::new(&arguments.dir);
    let (manifest, index, passed_over) = store.open_current()?;
    let mut problems: Vec<String> = passed_over.iter().map(ToString::to_string).collect();
    let (calibration, passed_over) = store.open_calibration(manifest.generation, &index)?;
    problems.extend(passed_over.iter().map(ToString::to_string));
    let (gate, passed_over) = store.open_gate_report(manifest.generation, &index)?;
    problems.extend(passed_over.iter().map(ToString::to_string));
    let found = Found { manifest, index, generations: store.generations()?, calibration, gate, problems };
    arguments.format.print(&found.facts(), || {
        found.show();
        say!("\n{}", sections(&found.index));
    })?;
    Ok(())
}

/// What is known of the current generation of a folder.
struct Found {
    manifest: Manifest,
    index: Index,
    /// All generations of the folder.
    generations: Vec<u64>,
    calibration: Option<Calibration>,
    gate: Option<GateReport>,
    /// What was passed over, because it cannot be used.
    problems: Vec<String>,
}

impl Found {
    /// Returns the description as printed with `--json`.
    fn facts(&self) -> Value {
        let Self { manifest, index, generations, calibration, gate, problems } = self;
        let facts = index.metadata();
        let phase = |BuildPhase { name, ms }: &BuildPhase| json!({ "name": name, "seconds": seconds(*ms) });
        let section = |section: &Section| {
            json!({
                "name": section.label(),
                "offset_bytes": section.offset,
                "size_bytes": section.bytes,
                "crc32c": section.crc32c,
            })
        };
        let check = facts.code_check.map(|CodeCheck { codes, queries, recall }| {
            json!({ "codes": codes, "queries": queries, "recall": recall })
        });
        let training = facts.training.as_ref().map(|training| {
            json!({
                "users": training.users,
                "derived_users": training.multiplied,
                "edges_added": training.edges_added,
                "held_out_users": training.held_out,
                "recall": training.recall,
            })
        });
        json!({
            "generation": manifest.generation,
            "generations": generations,
            "manifest": manifest.manifest,
            "reason": manifest.reason,
            "published_at": manifest.created_at,
            "path": index.path(),
            "size_bytes": index.bytes(),
            "read_by_searches_bytes": index.hot_bytes(),
            "videos": facts.rows,
            "copies": facts.copies,
            "ids_are_row_numbers": self.ids_are_row_numbers(),
            "dim": facts.dim,
            "dtype": facts.dtype,
            "metric": facts.metric,
            "codes": facts.codes,
            "code_check": check,
            "scored_in_full_precision": facts.unrepresented,
            "scores_from": if index.fine_codes().is_some() { "codes" } else { "embeddings" },
            "embedding_model": facts.embedding_model,
            "log_sequence": facts.log_sequence,
            "builder": facts.build.builder,
            "m": facts.m,
            "ef_construction": facts.build.ef_construction,
            "seed": facts.build.seed,
            "build_seconds": seconds(manifest.build_ms),
            "phases": manifest.build_phases.iter().map(phase).collect::<Vec<_>>(),
            "edges_per_node": self.edges_per_node(),
            "max_edges_per_node": facts.m0,
            "upper_layer_nodes": facts.upper_layers,
            "entry_point": facts.entry_point,
            "repair": facts.repair,
            "training": training,
            "calibration": calibration.as_ref().map(tune::facts),
            "gate": gate.as_ref().map(gate_facts),
            "attributes": facts.attributes,
            "sections": index.sections().iter().map(section).collect::<Vec<_>>(),
            "problems": problems,
        })
    }

    fn ids_are_row_numbers(&self) -> bool {
        let mut ids = self.index.video_ids().iter().zip((0..).map(NodeId));
        ids.all(|(id, node)| id.0 == u64::from(self.index.input_row(node)))
    }

    /// On layer 0, on average.
    fn edges_per_node(&self) -> f64 {
        let (layer0, nodes) = (self.index.graph().layer0, self.index.metadata().rows);
        let edges: usize = (0..nodes).map(|node| layer0.of(node).len()).sum();
        edges as f64 / f64::from(nodes)
    }

    fn show(&self) {
        let Self { manifest, index, generations, calibration, gate, problems } = self;
        let facts = index.metadata();
        problems.iter().for_each(|problem| fact!("passed over", "{problem}"));
        fact!("generation", "{} of {generations:?}", manifest.generation);
        fact!("manifest", "{} ({:?}, {})", manifest.manifest, manifest.reason, manifest.created_at);
        fact!("file", "{}", index.path().display());
        fact!("bytes", "{} ({})", index.bytes(), Size(index.bytes()));
        fact!("videos", "{}", facts.rows);
        if self.ids_are_row_numbers() {
            fact!("ids", "equal to the row numbers of the input");
        }
        fact!("dimensions", "{} {}", facts.dim, facts.dtype);
        fact!("metric", "{}", facts.metric);
        if facts.copies > 0 {
            fact!("copies", "{} videos have the embedding of another one", facts.copies);
        }
        fact!("codes", "{}", described_codes(facts));
        fact!("scores", "{}", described_scores(index));
        fact!("embedding model", "{}", visible_text(facts.embedding_model.as_deref().unwrap_or("none")));
        fact!("log position", "{}", facts.log_sequence);
        fact!(
            "builder",
            "{}, m {}, ef_construction {}, seed {}, {:.1} s",
            facts.build.builder,
            facts.m,
            facts.build.ef_construction,
            facts.build.seed,
            seconds(manifest.build_ms)
        );
        for BuildPhase { name, ms } in &manifest.build_phases {
            fact!("", "{name}: {:.2} s", seconds(*ms));
        }
        let edges = self.edges_per_node();
        fact!("layer 0", "{edges:.1} edges per node on average, at most {}", facts.m0);
        fact!("upper layers", "{:?} nodes", facts.upper_layers);
        fact!("entry point", "node {}", facts.entry_point);
        fact!(
            "reachability",
            "every node is reachable from the entry point; the build linked {} that were not: {} edges added, {} \
             replaced",
            facts.repair.unreachable,
            facts.repair.edges_added,
            facts.repair.edges_replaced
        );
        show_training(facts);
        match calibration {
            Some(calibration) => tune::show(calibration),
            None => fact!("calibration", "none: requests cannot use target_recall; see tune"),
        }
        if let Some(report) = gate {
            show_gate(report);
        }
        for column in &facts.attributes {
            fact!("attribute", "{} {:?}", visible_text(&column.name), column.kind);
        }
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

fn share(ppm: u32) -> f64 {
    f64::from(ppm) / 1e6
}

fn show_training(facts: &Metadata) {
    let Some(training) = &facts.training else {
        fact!(
            "training",
            "none: WARNING: a graph built from videos alone has a lower recall for users at every ef_search, often \
             much lower; pass a sample of user embeddings to build with --training-queries"
        );
        return;
    };
    let multiplied = match training.multiplied {
        0 => String::new(),
        synthesized => format!(" and {synthesized} derived from them"),
    };
    fact!(
        "training",
        "taught by {} users{multiplied}: {} edges added; {} more users were held out:",
        training.users,
        training.edges_added,
        training.held_out
    );
    for HeldOutRecall { k, ef_search, recall } in &training.recall {
        fact!("", "recall@{k} {recall:.4} at ef_search {ef_search}");
    }
}

/// Returns the report of the quality gate as printed with `--json`.
fn gate_facts(GateReport { created_at, found, problems, reasons, .. }: &GateReport) -> Value {
    let microseconds = |ns: u64| ns / 1000;
    json!({
        "created_at": created_at,
        "passed": problems.is_empty(),
        "problems": problems,
        "reasons": reasons,
        "queries": found.queries,
        "source": found.source,
        "k": found.k,
        "ef_search": found.ef_search,
        "recall": share(found.recall_ppm),
        "p99_us": microseconds(found.p99_ns),
        "current": found.current,
        "current_recall": found.current_recall_ppm.map(share),
        "current_p99_us": found.current_p99_ns.map(microseconds),
        "overlap": found.overlap_ppm.map(share),
    })
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
    fact!("quality gate", "{verdict}, {}", report.created_at);
    problems.iter().for_each(|problem| fact!("", "{problem}"));
    if found.queries == 0 {
        fact!("", "no queries to measure with: only reachability was checked");
        return;
    }
    let (k, users, source) = (found.k, found.queries, &found.source);
    let recall = share(found.recall_ppm);
    fact!("", "recall@{k} {recall:.4} at ef_search {} of {users} {source}", found.ef_search);
    fact!("", "p99 {} us", found.p99_ns / 1000);
    if let (Some(recall), Some(overlap), Some(p99)) =
        (found.current_recall_ppm, found.overlap_ppm, found.current_p99_ns)
    {
        fact!(
            "",
            "generation {} had recall@{k} {:.4} and p99 {} us; overlap of the answers {:.4}",
            found.current,
            share(recall),
            p99 / 1000,
            share(overlap)
        );
    }
}

/// Fits 80 columns up to sections of 1 GB.
fn sections(index: &Index) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header([
        "section",
        "offset",
        "bytes",
        "per video",
        "crc32c",
    ]);
    for column in 1..4 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for section in index.sections() {
        table.add_row([
            section.label().replace(" of column ", " "),
            section.offset.to_string(),
            section.bytes.to_string(),
            format!("{:.2}", section.bytes as f64 / index.len() as f64),
            format!("{:08x}", section.crc32c),
        ]);
    }
    table
}
