//! `shortlist rebuild`: rebuilds an index on a running server, or as a job.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, bail};
use shortlist_client::Client;

use super::progress::BuildBars;
#[cfg(feature = "cluster")]
use super::rebuild_job::{self, JobArguments};
use super::remote::Remote;
use crate::engine::Size;
use crate::service::proto::rebuild_status::State;
use crate::service::proto::{
    CancelRebuildRequest, GateReport, GetStatusRequest, IndexStatus, RebuildRequest, RebuildStatus,
};

/// The interval between two requests for the state of a rebuild.
const INTERVAL: Duration = Duration::from_secs(1);
const NO_STATE: &str = "the answer of the server has no state of the rebuild";

/// Rebuild an index: build the next generation from the current one and the writes since, on a running server or, with --at, as a
/// job of its own.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    remote: Remote,
    /// The name of the index. Not needed if the server has only one.
    #[arg(long, value_name = "NAME", default_value = "")]
    index: String,
    /// Cancel the running rebuild instead of starting one.
    #[arg(long)]
    cancel: bool,
    /// Wait for the rebuild to end, show its progress on standard error, and print the generation that it made. With --json,
    /// that is the state of the index after the rebuild.
    #[arg(long)]
    follow: bool,
    #[cfg(feature = "cluster")]
    #[command(flatten)]
    job: JobArguments,
}

#[cfg(feature = "cluster")]
impl Arguments {
    /// Returns whether it rebuilds in this process, which Ctrl-C cancels.
    pub fn is_job(&self) -> bool {
        self.job.at.is_some()
    }
}

/// Prints the state of the rebuild, or what it made.
///
/// # Errors
/// If the server cannot be reached, or refuses the request; with `--follow` or `--at`, if the rebuild makes no generation.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    #[cfg(feature = "cluster")]
    if let Some(at) = &arguments.job.at {
        return rebuild_job::run(&arguments.job, at, &arguments.index, arguments.remote.format);
    }
    let Arguments { remote, index, cancel, follow, .. } = arguments;
    remote.ask(async |client| {
        let status = begin(&client, index, *cancel).await?;
        if !follow || status.state() == State::Idle {
            return remote.print("RebuildStatus", &status, render);
        }
        let bars = BuildBars::watching();
        let ended = loop {
            let ended = fetch(&client, index).await?;
            let status = ended.rebuild.as_ref().context(NO_STATE)?;
            match status.state() {
                State::Running => bars.show_share(&status.phase, status.progress),
                State::Gating => bars.show_share("comparing with what serves", 0.0),
                _ => break ended,
            }
            tokio::time::sleep(INTERVAL).await;
        };
        bars.finish();
        let status = ended.rebuild.clone().unwrap_or_default();
        match status.state() {
            State::Failed => bail!("the rebuild failed: {}", status.problem),
            State::Cancelled if !cancel => bail!("the rebuild was cancelled"),
            _ => remote.print("IndexStatus", &ended, |ended| made(ended, &status)),
        }
    })
}

async fn begin(client: &Client, index: &str, cancel: bool) -> anyhow::Result<RebuildStatus> {
    let index = index.to_owned();
    let status = if cancel {
        client.cancel_rebuild(CancelRebuildRequest { index }).await?.rebuild
    } else {
        client.rebuild(RebuildRequest { index }).await?.rebuild
    };
    status.context(NO_STATE)
}

/// Requests the state of the index.
///
/// # Errors
/// If the server no longer has the index, or refuses the request.
async fn fetch(client: &Client, index: &str) -> anyhow::Result<IndexStatus> {
    let answer = client.get_status(GetStatusRequest { index: index.to_owned() }).await?;
    answer.indexes.into_iter().next().context(NO_STATE)
}

/// Renders the state of a rebuild.
fn render(status: &RebuildStatus) -> String {
    let RebuildStatus { phase, progress, bad_records, problem, .. } = status;
    let mut parts = vec![match status.state() {
        State::Unspecified | State::Idle => return "no rebuild".to_owned(),
        State::Running => format!("running · {phase} · {:.0} %", progress * 100.0),
        State::Gating => "gating".to_owned(),
        State::Done => "done".to_owned(),
        State::Failed => "failed".to_owned(),
        State::Cancelled => "cancelled".to_owned(),
    }];
    parts.extend((*bad_records > 0).then(|| format!("bad records {bad_records}")));
    parts.extend(Some(problem.clone()).filter(|problem| !problem.is_empty()));
    parts.join(" · ")
}

/// Renders what a rebuild made.
fn made(index: &IndexStatus, status: &RebuildStatus) -> String {
    if status.state() != State::Done {
        return render(status);
    }
    let IndexStatus { generation, vectors, bytes, gate, published_at, .. } = index;
    let mut text = format!("done: generation {generation} of {vectors} videos, {}", Size(*bytes));
    match gate.as_ref().filter(|gate| gate.generation == *generation && gate.queries > 0) {
        Some(GateReport { k, recall, queries, source, .. }) => {
            let _ = write!(text, ", recall@{k} {recall:.4} of {queries} {source}");
        }
        None => text += ", recall not measured",
    }
    let seconds = |at: &prost_types::Timestamp| at.seconds as f64 + f64::from(at.nanos) / 1e9;
    if let (Some(started), Some(published)) = (&status.started_at, published_at) {
        let _ = write!(text, ", {:.1} s", (seconds(published) - seconds(started)).max(0.0));
    }
    if status.bad_records > 0 {
        let _ = write!(text, "; {} bad records were left out", status.bad_records);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_how_far_a_rebuild_is() {
        let of = |state: State| RebuildStatus { state: state.into(), ..RebuildStatus::default() };
        assert_eq!(render(&of(State::Idle)), "no rebuild");
        assert_eq!(render(&of(State::Done)), "done");
        let running =
            RebuildStatus { phase: "graph".into(), progress: 0.125, bad_records: 3, ..of(State::Running) };
        assert_eq!(render(&running), "running · graph · 12 % · bad records 3");
        let failed = RebuildStatus { problem: "disk full".into(), ..of(State::Failed) };
        assert_eq!(render(&failed), "failed · disk full");
    }

    #[test]
    fn says_what_a_rebuild_made() {
        let at = |seconds, nanos| Some(prost_types::Timestamp { seconds, nanos });
        let status =
            RebuildStatus { state: State::Done.into(), started_at: at(7, 0), ..RebuildStatus::default() };
        let gate = GateReport {
            generation: 2,
            k: 10,
            recall: 0.9912,
            queries: 200,
            source: "sampled users".into(),
            ..GateReport::default()
        };
        let published_at = at(9, 500_000_000);
        let gate = Some(gate);
        let index = IndexStatus {
            generation: 2,
            vectors: 49,
            bytes: 3 << 20,
            gate,
            published_at,
            ..Default::default()
        };
        let text = "done: generation 2 of 49 videos, 3.0 MiB, recall@10 0.9912 of 200 sampled users, 2.5 s";
        assert_eq!(made(&index, &status), text);
        let bad = RebuildStatus { bad_records: 3, ..status };
        let text = "done: generation 3 of 49 videos, 3.0 MiB, recall not measured, 2.5 s; 3 bad records were left out";
        assert_eq!(made(&IndexStatus { generation: 3, ..index }, &bad), text);
    }
}
