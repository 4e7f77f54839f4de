//! `shortlist status`, `list` and `activate`: the indexes of a running server and their generations.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};

use super::remote::Remote;
use super::terminal::{columns, wrapped};
use super::value::instant;
use crate::base::text::visible_text;
use crate::service::proto::rebuild_status::State;
use crate::service::proto::{
    ActivateRequest, Alias, GateReport, GetStatusRequest, IndexStatus, MemoryMode, RebuildStatus,
};

/// Columns of the names of facts.
const NAME: usize = 12;

/// Show the state of the indexes of a running server: what serves, its writes, rebuild and quality gate.
#[derive(Debug, clap::Args)]
pub struct Status {
    #[command(flatten)]
    remote: Remote,
    /// The name of the index. Default: all.
    #[arg(long, value_name = "NAME", default_value = "")]
    index: String,
}

/// List the indexes of a running server, one line each.
#[derive(Debug, clap::Args)]
pub struct List {
    #[command(flatten)]
    remote: Remote,
}

/// Make a generation of an index current, to roll back or forward.
#[derive(Debug, clap::Args)]
pub struct Activate {
    #[command(flatten)]
    remote: Remote,
    /// The name of the index. Not needed if the server has only one.
    #[arg(long, value_name = "NAME", default_value = "")]
    index: String,
    /// The number of the generation.
    #[arg(value_name = "GENERATION")]
    generation: u64,
    /// Activate it even if the quality gate refuses it, or if it lacks writes that the log no longer has.
    #[arg(long)]
    force: bool,
}

/// Prints a few lines per index.
///
/// # Errors
/// If the server cannot be reached, or does not have the index.
pub fn status(Status { remote, index }: Status) -> anyhow::Result<()> {
    let answer = remote.ask(async |client| Ok(client.get_status(GetStatusRequest { index }).await?))?;
    remote.print("GetStatusResponse", &answer, |answer| {
        let indexes = answer.indexes.iter().map(details).collect::<Vec<_>>().join("\n");
        let alias = |of: &Alias| {
            format!("alias {}: {}\n", visible_text(&of.alias), visible_text(&of.indexes.join(" ")))
        };
        let aliases: String = answer.aliases.iter().map(alias).collect();
        let aliases = if aliases.is_empty() { aliases } else { format!("{aliases}\n") };
        format!("server {} · kernel {}\n\n{aliases}{indexes}", answer.server_version, answer.kernel)
    })
}

/// Prints a table.
///
/// # Errors
/// If the server cannot be reached.
pub fn list(List { remote }: List) -> anyhow::Result<()> {
    let index = String::new();
    let answer = remote.ask(async |client| Ok(client.get_status(GetStatusRequest { index }).await?))?;
    remote.print("GetStatusResponse", &answer, |answer| table(&answer.indexes))
}

/// Prints the state of the index after the call.
///
/// # Errors
/// If the server cannot be reached, or refuses the generation.
pub fn activate(Activate { remote, index, generation, force }: Activate) -> anyhow::Result<()> {
    let request = ActivateRequest { index, generation, force };
    let answer = remote.ask(async |client| Ok(client.activate(request).await?))?;
    remote.print("ActivateResponse", &answer, |answer| answer.index.as_ref().map(details).unwrap_or_default())
}

fn table(indexes: &[IndexStatus]) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header([
        "index",
        "serves",
        "writable",
        "generation",
        "available",
        "videos",
        "dim",
    ]);
    for column in [3, 5, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for status in indexes {
        let available: Vec<String> = status.available_generations.iter().map(u64::to_string).collect();
        table.add_row([
            visible_text(&status.name).replace('|', "\\|"),
            yes_or_no(status.serving).to_owned(),
            yes_or_no(status.writable).to_owned(),
            status.generation.to_string(),
            available.join(" "),
            status.vectors.to_string(),
            status.dim.to_string(),
        ]);
    }
    table.to_string()
}

fn yes_or_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

/// Renders one index: each line begins with what it is about.
fn details(status: &IndexStatus) -> String {
    let (mut text, columns) = (String::new(), columns());
    let mut line = |name: &str, value: String| {
        if value.is_empty() {
            return;
        }
        let value = visible_text(&value);
        let lines = columns.map_or_else(|| vec![value.clone()], |columns| wrapped(&value, columns - NAME));
        for (row, line) in lines.iter().enumerate() {
            let name = if row == 0 { name } else { "" };
            let _ = writeln!(text, "{name:<NAME$}{line}");
        }
    };
    let IndexStatus { generation, vectors, dim, sequence, delta_vectors, deleted, takedowns, .. } = status;
    line("index", status.name.clone());
    line("folder", status.dir.clone());
    line("serves", yes_or_no(status.serving).to_owned());
    line("refused", status.refused.clone());
    let published = status.published_at.as_ref().map(|at| format!(", published {}", instant(at)));
    line("generation", format!("{generation}{}", published.unwrap_or_default()));
    let available: Vec<String> = status.available_generations.iter().map(u64::to_string).collect();
    line("available", available.join(" "));
    let dtype = word(status.dtype().as_str_name(), "DTYPE_");
    let metric = word(status.metric().as_str_name(), "METRIC_");
    let memory = match status.memory() {
        MemoryMode::Unspecified => String::new(),
        mode => format!(", {}", word(mode.as_str_name(), "MEMORY_MODE_")),
    };
    line("videos", format!("{vectors} × {dim} {dtype}, {metric}{memory}"));
    line("model", status.embedding_model.clone());
    let attributes: Vec<String> = status
        .attributes
        .iter()
        .map(|column| format!("{} {}", column.name, word(column.kind().as_str_name(), "ATTRIBUTE_KIND_")))
        .collect();
    line("attributes", attributes.join(", "));
    let recalls: Vec<String> =
        status.calibration.iter().map(|of| format!("{:.4} at k = {}", of.max_recall, of.k)).collect();
    line("calibrated", recalls.join(", "));
    let live: Vec<String> = status
        .recall
        .iter()
        .map(|of| format!("{:.4} at k = {} ({} answers)", of.recall, of.k, of.answers))
        .collect();
    line("live recall", live.join(", "));
    line(
        "writes",
        match status.writable {
            true => format!(
                "sequence {sequence}, {delta_vectors} videos in the delta, {deleted} deleted, {takedowns} taken down"
            ),
            false => format!("none: {}", status.read_only_reason),
        },
    );
    line("rebuild", status.rebuild.as_ref().map(rebuild).unwrap_or_default());
    let shadow = status.shadow.as_ref().map(|shadow| {
        let candidate = super::shadow::candidate(shadow.candidate.as_ref());
        format!("{candidate}, {} searches compared", shadow.compared)
    });
    line("shadow", shadow.unwrap_or_default());
    line("gate", status.gate.as_ref().map(gate).unwrap_or_default());
    text
}

fn rebuild(status: &RebuildStatus) -> String {
    match status.state() {
        State::Unspecified | State::Idle => String::new(),
        State::Running => format!("running: {} {:.0} %", status.phase, status.progress * 100.0),
        State::Failed => format!("failed: {}", status.problem),
        state => word(state.as_str_name(), "STATE_"),
    }
}

fn gate(report: &GateReport) -> String {
    let verdict = match report.passed {
        true => "passed".to_owned(),
        false => format!("refused: {}", report.problems.join("; ")),
    };
    let recall = match report.queries {
        0 => String::new(),
        queries => format!(", recall@{} {:.4} of {queries} {}", report.k, report.recall, report.source),
    };
    format!("generation {} {verdict}{recall}", report.generation)
}

/// The name of a value of an enum without its prefix, in lower case.
fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::proto::{Dtype, Metric};

    #[test]
    fn an_index_is_described_line_by_line() {
        let status = IndexStatus {
            name: "videos".into(),
            dir: "a\u{1b}b".into(),
            serving: true,
            generation: 3,
            available_generations: vec![2, 3],
            vectors: 1000,
            dim: 64,
            dtype: Dtype::F32.into(),
            metric: Metric::Ip.into(),
            read_only_reason: "another server has the log".into(),
            ..IndexStatus::default()
        };
        let expected = "index       videos\nfolder      a b\nserves      yes\ngeneration  3\navailable   2 3\n\
                        videos      1000 × 64 f32, ip\nwrites      none: another server has the log\n";
        assert_eq!(details(&status), expected);
        let row = table(&[status]).lines().last().unwrap().to_owned();
        assert_eq!(row, "| videos | yes    | no       |          3 | 2 3       |   1000 |  64 |");
    }
}
