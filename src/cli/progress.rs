//! Progress on standard error: bars with rate and remaining time, and lines.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{HumanCount, ProgressBar, ProgressFinish, ProgressState, ProgressStyle};

use crate::build::Progress;
use crate::index::Residence;

/// Creates a bar for one phase of `total` steps. Shows nothing if standard error is not a terminal.
pub fn bar(phase: &'static str, total: u64) -> ProgressBar {
    let style = "{msg:28} {wide_bar} {human_pos}/{human_len} {rate} {eta} left";
    let style = ProgressStyle::with_template(style).expect("the template is valid");
    let style = style.with_key("rate", |state: &ProgressState, text: &mut dyn std::fmt::Write| {
        let _ = write!(text, "{}/s", HumanCount(state.per_sec() as u64));
    });
    ProgressBar::new(total).with_style(style).with_message(phase).with_finish(ProgressFinish::AndLeave)
}

/// Shows one bar per phase of a build. Ctrl-C cancels the build.
#[derive(Debug)]
pub struct BuildBars {
    current: Mutex<ProgressBar>,
    cancelled: Arc<AtomicBool>,
}

impl BuildBars {
    /// Handles Ctrl-C for the rest of the process. Handlers that are set later also run.
    ///
    /// # Errors
    /// If the signal handler cannot be set.
    pub fn new() -> anyhow::Result<Self> {
        let cancelled = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&cancelled);
        ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))?;
        Ok(Self { current: Mutex::new(ProgressBar::hidden()), cancelled })
    }

    /// Finishes the bar of the current phase, so that other lines can follow it.
    pub fn finish(&self) {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).finish();
    }
}

impl Progress for BuildBars {
    fn begin(&self, phase: &'static str, total: u64) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.finish();
        *current = bar(phase, total);
    }

    fn advance(&self, steps: u64) {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).inc(steps);
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

impl Drop for BuildBars {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Reports on standard error that an index was copied into memory.
pub fn report_residence(name: &str, Residence { bytes, huge_pages }: Residence) {
    let advised = if huge_pages { "advised" } else { "refused" };
    note!("{name}: resident: {bytes} bytes, huge pages {advised}");
}
