//! Logs of the command line, to stderr.
//!
//! What flows in: which events are wanted, and in which form. What flows out: a process-wide subscriber.
//! Only commands call this; the library just emits `tracing` events.

use std::io::{self, IsTerminal};

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error("log: {filter:?} is not a filter such as \"info\" or \"warn,shortlist=debug\": {source}")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        r#source: tracing_subscriber::filter::ParseError,
    },
    /// This process has a subscriber already.
    #[error("logs are set up already: {0}")]
    AlreadySet(Box<dyn std::error::Error + Send + Sync>),
}

/// Sends the events that `filter` lets through to stderr, for the rest of the process.
///
/// # Errors
/// If the filter cannot be read, or the process has a subscriber already.
pub fn init(filter: &str, format: LogFormat) -> Result<(), TelemetryError> {
    let parsed = EnvFilter::try_new(filter)
        .map_err(|source| TelemetryError::Filter { filter: filter.to_owned(), source })?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let set = match format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().try_init(),
    };
    set.map_err(TelemetryError::AlreadySet)
}
