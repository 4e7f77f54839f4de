//! `shortlist shadow`: repeats searches of a running server on a candidate, and shows the report.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};

use super::remote::Remote;
use super::value::instant;
use crate::base::text::visible_text;
use crate::service::proto::{
    GetStatusRequest, SetShadowRequest, Shadow, ShadowCandidate, ShadowComparison, ShadowServer,
    shadow_candidate,
};

/// Show how a candidate compares with an index of a running server, or begin or end the comparison.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    remote: Remote,
    /// The name of the index. Not needed if the server has only one.
    #[arg(long, value_name = "NAME", default_value = "")]
    index: String,
    /// Compare with this generation of the index, which does not serve.
    #[arg(long, value_name = "N", group = "candidate")]
    generation: Option<u64>,
    /// Compare with another index of the server.
    #[arg(long, value_name = "NAME", group = "candidate")]
    candidate_index: Option<String>,
    /// Compare with an index of another server, as `ADDR` or `ADDR=INDEX`. The settings of the server must list the address.
    #[arg(long, value_name = "ADDR[=INDEX]", group = "candidate")]
    candidate_server: Option<String>,
    /// The share of the searches to repeat: greater than 0, at most 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, requires = "candidate")]
    share: f64,
    /// End the comparison. Prints its report.
    #[arg(long, conflicts_with = "candidate")]
    stop: bool,
}

/// Prints the report, or what was begun.
///
/// # Errors
/// If the server cannot be reached, or refuses the candidate.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    use shadow_candidate::Candidate;
    let Arguments { remote, index, generation, candidate_index, candidate_server, share, stop } = arguments;
    let candidate = generation
        .map(Candidate::Generation)
        .or(candidate_index.map(Candidate::Index))
        .or(candidate_server.map(|server| Candidate::Server(read_server(&server))));
    if candidate.is_none() && !stop {
        let answer = remote.ask(async |client| Ok(client.get_status(GetStatusRequest { index }).await?))?;
        return remote.print("GetStatusResponse", &answer, |answer| {
            let reports = answer.indexes.iter().filter_map(|of| Some((&of.name, of.shadow.as_ref()?)));
            let text: Vec<String> = reports.map(|(name, shadow)| report(name, shadow)).collect();
            if text.is_empty() { "no index has a shadow".to_owned() } else { text.join("\n") }
        });
    }
    let name = index.clone();
    let begun = candidate.map(|candidate| ShadowCandidate { candidate: Some(candidate) });
    let request = SetShadowRequest { index, candidate: begun.clone(), share };
    let answer = remote.ask(async |client| Ok(client.set_shadow(request).await?))?;
    remote.print("SetShadowResponse", &answer, |answer| match (&begun, &answer.before) {
        (Some(_), _) => format!("repeating {share} of the searches; `shortlist shadow` shows the report"),
        (None, Some(before)) => report(&name, before),
        (None, None) => "the index had no shadow".to_owned(),
    })
}

/// Reads `ADDR` or `ADDR=INDEX`.
fn read_server(text: &str) -> ShadowServer {
    let (address, index) = text.split_once('=').unwrap_or((text, ""));
    ShadowServer { address: address.to_owned(), index: index.to_owned() }
}

/// The candidate in words.
pub(super) fn candidate(candidate: Option<&ShadowCandidate>) -> String {
    use shadow_candidate::Candidate;
    match candidate.and_then(|candidate| candidate.candidate.as_ref()) {
        None => "nothing".to_owned(),
        Some(Candidate::Generation(generation)) => format!("generation {generation}"),
        Some(Candidate::Index(index)) => format!("index {}", visible_text(index)),
        Some(Candidate::Server(ShadowServer { address, index })) if index.is_empty() => visible_text(address),
        Some(Candidate::Server(ShadowServer { address, index })) => {
            format!("index {} of {}", visible_text(index), visible_text(address))
        }
    }
}

fn report(index: &str, shadow: &Shadow) -> String {
    let mut text = String::new();
    let name = if index.is_empty() { "the index".to_owned() } else { visible_text(index) };
    let since = shadow.started_at.as_ref().map(|at| format!(" since {}", instant(at))).unwrap_or_default();
    let Shadow { share, generation, compared, failed, skipped, problem, .. } = shadow;
    let candidate = candidate(shadow.candidate.as_ref());
    let _ =
        writeln!(text, "{name} (generation {generation}) and {candidate}: {share} of the searches{since}");
    let _ = writeln!(text, "{compared} compared, {failed} failed, {skipped} skipped for lack of CPU time");
    if !problem.is_empty() {
        let _ = writeln!(text, "last failure: {}", visible_text(problem));
    }
    if !shadow.comparisons.is_empty() {
        let _ = writeln!(text, "\n{}", table(&shadow.comparisons));
    }
    text
}

fn table(comparisons: &[ShadowComparison]) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header([
        "k up to",
        "answers",
        "overlap",
        "score gap",
        "recall",
        "candidate",
        "p50 ms",
        "candidate",
        "p99 ms",
        "candidate",
    ]);
    table.column_iter_mut().for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    let share = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{share:.4}"));
    let millis = |time: &Option<prost_types::Duration>| {
        let time = time.unwrap_or_default();
        format!("{:.3}", time.seconds as f64 * 1e3 + f64::from(time.nanos) / 1e6)
    };
    for of in comparisons {
        table.add_row([
            if of.k == 0 { "any".to_owned() } else { of.k.to_string() },
            of.answers.to_string(),
            format!("{:.4}", of.overlap),
            format!("{:.6}", of.score_gap),
            share(of.recall),
            share(of.candidate_recall),
            millis(&of.p50),
            millis(&of.candidate_p50),
            millis(&of.p99),
            millis(&of.candidate_p99),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_a_row_for_each_k() {
        let comparison = ShadowComparison {
            k: 100,
            answers: 7,
            overlap: 0.5,
            score_gap: 0.25,
            recall: Some(0.75),
            p50: Some(prost_types::Duration { seconds: 0, nanos: 1_500_000 }),
            ..ShadowComparison::default()
        };
        let server = ShadowServer { address: "b:1".into(), index: "videos".into() };
        let shadow = Shadow {
            candidate: Some(ShadowCandidate { candidate: Some(shadow_candidate::Candidate::Server(server)) }),
            share: 0.1,
            generation: 3,
            compared: 7,
            comparisons: vec![comparison],
            ..Shadow::default()
        };
        let text = report("videos", &shadow);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "videos (generation 3) and index videos of b:1: 0.1 of the searches");
        assert_eq!(lines[1], "7 compared, 0 failed, 0 skipped for lack of CPU time");
        let cells: Vec<&str> = lines[5].split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert_eq!(
            cells,
            ["100", "7", "0.5000", "0.250000", "0.7500", "-", "1.500", "0.000", "0.000", "0.000"]
        );
        assert_eq!(read_server("a:1"), ShadowServer { address: "a:1".into(), index: String::new() });
    }
}
