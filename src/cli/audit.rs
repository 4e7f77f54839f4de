//! Where `serve` writes the record of changes and refusals.

use std::fs::OpenOptions;

use anyhow::Context as _;

use crate::config::ServeConfig;
use crate::config::telemetry::{StderrWriter, stderr_writer};
use crate::service::Audit;

/// Opens the record of a configuration. Its lines are written until the second value is dropped.
///
/// # Errors
/// If the file cannot be opened.
pub(super) fn open(config: &ServeConfig) -> anyhow::Result<(Audit, Option<StderrWriter>)> {
    let has_credentials = !config.keys.is_empty() || config.jwt.jwks.is_some();
    match config.audit.as_str() {
        "off" => Ok((Audit::default(), None)),
        "" if !has_credentials => Ok((Audit::default(), None)),
        "" | "stderr" => {
            let (writer, guard) = stderr_writer("audit");
            Ok((Audit::to(writer), Some(guard)))
        }
        path => {
            let file = OpenOptions::new().append(true).create(true).open(path);
            Ok((Audit::to(file.with_context(|| format!("audit: {path}"))?), None))
        }
    }
}
