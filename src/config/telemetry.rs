//! Logs, to standard error.
//!
//! What flows in: a filter and a format. What flows out: a process-wide subscriber. Only commands call this; the library
//! only emits `tracing` events.

use std::io::{self, IsTerminal};

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// The format of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Plain text.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Why logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is malformed.
    #[error("log: {filter:?} is not a filter such as \"info\" or \"warn,shortlist=debug\": {source}")]
    Filter {
        /// The filter.
        filter: String,
        /// The parse error.
        r#source: tracing_subscriber::filter::ParseError,
    },
    /// The process already has a subscriber.
    #[error("logging is already set up: {0}")]
    AlreadySet(Box<dyn std::error::Error + Send + Sync>),
}

/// Logs the events that pass `filter` to standard error, for the rest of the process. A line that cannot be written, for
/// lack of a reader or of disk space, is dropped.
///
/// # Errors
/// If the filter is malformed, or the process already has a subscriber.
pub fn init(filter: &str, format: LogFormat) -> Result<(), TelemetryError> {
    let parsed = EnvFilter::try_new(filter)
        .map_err(|source| TelemetryError::Filter { filter: filter.to_owned(), source })?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        // Otherwise a failed write is reported with `eprintln!`, which panics if standard error has no reader.
        .log_internal_errors(false)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let set = match format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().try_init(),
    };
    set.map_err(TelemetryError::AlreadySet)
}
