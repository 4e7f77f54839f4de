//! Logs, to standard error.
//!
//! What flows in: a filter and a format. What flows out: a process-wide subscriber. Only commands call this; the library
//! only emits `tracing` events.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::{self, IsTerminal};
use std::panic;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::base::panics::{Panicked, caught};

/// Lines that wait for a slow reader of standard error. Further lines are dropped.
const WAITING_LINES: usize = 8192;

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

/// The log of the process.
#[must_use = "lines are lost when it is dropped"]
pub struct Log {
    _writer: StderrWriter,
    /// Replaces the filter.
    set: reload::Handle<EnvFilter, Registry>,
    filter: Mutex<String>,
}

impl Log {
    /// Logs the events that pass another filter from now on.
    ///
    /// # Errors
    /// If the filter is malformed. The old one stays in force.
    pub fn set_filter(&self, filter: &str) -> Result<(), TelemetryError> {
        let mut current = self.filter.lock();
        if *current == filter {
            return Ok(());
        }
        self.set.reload(parse(filter)?).map_err(|error| TelemetryError::AlreadySet(error.into()))?;
        filter.clone_into(&mut current);
        drop(current);
        tracing::info!(filter, "the log has another filter");
        Ok(())
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("filter", &self.filter).finish_non_exhaustive()
    }
}

/// The writer of standard error. When it is dropped, the waiting lines are written, for as long as about a second.
#[derive(Debug)]
#[must_use = "lines are lost when it is dropped"]
pub struct StderrWriter(Option<WorkerGuard>);

impl Drop for StderrWriter {
    fn drop(&mut self) {
        let writer = self.0.take();
        // It reports a writer that does not end on standard output, and panics if nobody reads that either.
        let _ = caught(|| drop(writer));
    }
}

/// Logs panics and the events that pass `filter` to standard error, until the result is dropped. Nobody waits for the
/// reader: a line that cannot be written, for lack of a reader or of disk space, or since many lines wait, is dropped.
///
/// # Errors
/// If the filter is malformed, or the process already has a subscriber.
pub fn init(filter: &str, format: LogFormat) -> Result<Log, TelemetryError> {
    let parsed = parse(filter)?;
    let (writer, guard) = stderr_writer("log");
    let (filtered, set) = reload::Layer::new(parsed);
    let lines = tracing_subscriber::fmt::layer()
        // Otherwise a failed write is reported with `eprintln!`, which panics if standard error has no reader.
        .log_internal_errors(false)
        .with_writer(writer)
        .with_ansi(io::stderr().is_terminal());
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let set_up = tracing_subscriber::registry().with(filtered).with(lines).try_init();
    set_up.map_err(|error| TelemetryError::AlreadySet(error.into()))?;
    log_panics();
    Ok(Log { _writer: guard, set, filter: Mutex::new(filter.to_owned()) })
}

fn parse(filter: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::try_new(filter).map_err(|source| TelemetryError::Filter { filter: filter.to_owned(), source })
}

/// Returns a writer of standard error that nobody waits for, on a thread of this name.
pub fn stderr_writer(thread: &str) -> (NonBlocking, StderrWriter) {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING_LINES)
        .lossy(true)
        .thread_name(thread)
        .finish(io::stderr());
    (writer, StderrWriter(Some(guard)))
}

/// Logs panics as events, with a backtrace if `RUST_BACKTRACE` asks for one.
fn log_panics() {
    panic::set_hook(Box::new(|info| {
        let location = info.location().map(tracing::field::display);
        let thread = std::thread::current();
        let backtrace = Backtrace::capture();
        let backtrace = (backtrace.status() == BacktraceStatus::Captured).then_some(&backtrace);
        let backtrace = backtrace.map(tracing::field::display);
        tracing::error!(thread = thread.name(), location, backtrace, "{}", Panicked::of(info.payload()));
    }));
}
