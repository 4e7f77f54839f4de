//! `shortlist rebuild`: rebuilds an index on a running server.

use std::time::Duration;

use anyhow::{Context, bail};
use shortlist_client::Client;

use super::remote::Remote;
use crate::service::proto::rebuild_status::State;
use crate::service::proto::{CancelRebuildRequest, GetStatusRequest, RebuildRequest, RebuildStatus};

/// The interval between two requests for the state of a rebuild.
const INTERVAL: Duration = Duration::from_secs(1);

/// Rebuild an index on a running server: build the next generation from the current one and the writes since.
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
    /// Wait for the rebuild to end, and print its progress every second.
    #[arg(long)]
    follow: bool,
}

/// Prints the state of the rebuild.
///
/// # Errors
/// If the server cannot be reached, or refuses the request; with `--follow`, if the rebuild fails.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { remote, index, cancel, follow } = arguments;
    remote.ask(async |client| {
        let mut status = begin(&client, index, *cancel).await?;
        remote.print("RebuildStatus", &status, render)?;
        while *follow && matches!(status.state(), State::Running | State::Gating) {
            tokio::time::sleep(INTERVAL).await;
            status = fetch(&client, index).await?;
            remote.print("RebuildStatus", &status, render)?;
        }
        if *follow && status.state() == State::Failed {
            bail!("the rebuild failed: {}", status.problem);
        }
        Ok(())
    })
}

async fn begin(client: &Client, index: &str, cancel: bool) -> anyhow::Result<RebuildStatus> {
    let index = index.to_owned();
    let status = if cancel {
        client.cancel_rebuild(CancelRebuildRequest { index }).await?.rebuild
    } else {
        client.rebuild(RebuildRequest { index }).await?.rebuild
    };
    status.context("the answer of the server has no state of the rebuild")
}

/// Requests the state of the rebuild.
///
/// # Errors
/// If the server no longer has the index, or refuses the request.
async fn fetch(client: &Client, index: &str) -> anyhow::Result<RebuildStatus> {
    let answer = client.get_status(GetStatusRequest { index: index.to_owned() }).await?;
    let status = answer.indexes.into_iter().next().and_then(|index| index.rebuild);
    status.context("the answer of the server has no state of the rebuild")
}

fn render(status: &RebuildStatus) -> String {
    let RebuildStatus { phase, progress, rows_per_second, bad_records, problem, .. } = status;
    let word = match status.state() {
        State::Unspecified | State::Idle => return "no rebuild".to_owned(),
        State::Running => "running",
        State::Gating => "gating",
        State::Done => "done",
        State::Failed => "failed",
        State::Cancelled => "cancelled",
    };
    let mut parts = vec![word.to_owned()];
    if matches!(status.state(), State::Running | State::Gating) {
        parts.extend(Some(phase.clone()).filter(|phase| !phase.is_empty()));
        parts.push(format!("{:.1} %", progress * 100.0));
        parts.push(format!("{rows_per_second:.0} videos/s"));
    }
    if *bad_records > 0 {
        parts.push(format!("bad records {bad_records}"));
    }
    parts.extend(Some(problem.clone()).filter(|problem| !problem.is_empty()));
    parts.join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_how_far_a_rebuild_is() {
        let of = |state: State| RebuildStatus { state: state.into(), ..RebuildStatus::default() };
        assert_eq!(render(&of(State::Idle)), "no rebuild");
        assert_eq!(render(&of(State::Done)), "done");
        let running = RebuildStatus {
            phase: "graph".into(),
            progress: 0.125,
            rows_per_second: 20_000.4,
            bad_records: 3,
            ..of(State::Running)
        };
        assert_eq!(render(&running), "running · graph · 12.5 % · 20000 videos/s · bad records 3");
        let failed = RebuildStatus { problem: "disk full".into(), ..of(State::Failed) };
        assert_eq!(render(&failed), "failed · disk full");
    }
}
