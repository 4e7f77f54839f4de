//! `shortlist health`: whether a running server serves, for health checks that run a command.

use std::time::Duration;

use anyhow::bail;
use serde::Serialize;

use super::remote::Remote;
use crate::base::text::visible_text;

/// How long to wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Check whether a running server serves; exit with 0 if it does and 1 if not. Needs no key.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    remote: Remote,
    /// The name of an index, or shortlist.v1.Retrieval (searches), shortlist.v1.Catalog (writes) or shortlist.v1.Admin (the
    /// process is alive). Default: any index.
    #[arg(long, value_name = "NAME", default_value = "")]
    service: String,
}

#[derive(Serialize)]
struct Health<'a> {
    service: &'a str,
    serving: bool,
}

/// Prints `serving` or `not serving`.
///
/// # Errors
/// If it does not serve, the server does not answer within three seconds, or there is nothing of this name.
pub fn run(Arguments { remote, service }: &Arguments) -> anyhow::Result<()> {
    let serving = remote
        .ask(async |client| Ok(client.with_timeout(TIMEOUT).is_serving(service).await?))
        .map_err(|error| match service.as_str() {
            "" => error,
            service => error.context(format!("--service {}", visible_text(service))),
        })?;
    remote.format.print(&Health { service, serving }, || say!("{}", word(serving)))?;
    if !serving {
        bail!("the server answers, and does not serve");
    }
    Ok(())
}

fn word(serving: bool) -> &'static str {
    if serving { "serving" } else { "not serving" }
}
