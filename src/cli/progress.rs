//! Progress on standard error: bars with rate and remaining time, and lines.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{HumanCount, ProgressBar, ProgressFinish, ProgressState, ProgressStyle};

use crate::build::Progress;
use crate::engine::Shortage;
use crate::index::Residence;

/// Creates a bar for one phase of `total` steps. Shows nothing if standard error is not a terminal. A bar that is dropped
/// before it is finished stays where it is.
pub fn bar(phase: &'static str, total: u64) -> ProgressBar {
    let style = "{msg:28} {wide_bar} {human_pos}/{human_len} {rate} {eta} left";
    let style = ProgressStyle::with_template(style).expect("the template is valid");
    let style = style.with_key("rate", |state: &ProgressState, text: &mut dyn std::fmt::Write| {
        let _ = write!(text, "{}/s", HumanCount(state.per_sec() as u64));
    });
    ProgressBar::new(total).with_style(style).with_message(phase).with_finish(ProgressFinish::Abandon)
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
        end(&self.current.lock().unwrap_or_else(PoisonError::into_inner), self.is_cancelled());
    }
}

impl Progress for BuildBars {
    fn begin(&self, phase: &'static str, total: u64) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        end(&current, self.is_cancelled());
        *current = bar(phase, total);
    }

    fn advance(&self, steps: u64) {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).inc(steps);
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// After an error, the bar stays where it is.
impl Drop for BuildBars {
    fn drop(&mut self) {
        end(&self.current.lock().unwrap_or_else(PoisonError::into_inner), true);
    }
}

/// Ends a bar: full, unless the phase ended early.
fn end(bar: &ProgressBar, is_early: bool) {
    match bar.is_finished() {
        true => {}
        false if is_early => bar.abandon(),
        false => bar.finish(),
    }
}

/// Reports on standard error that an index was copied into memory.
pub fn report_residence(name: &str, Residence { bytes, huge_pages }: Residence) {
    let advised = if huge_pages { "advised" } else { "refused" };
    note!("{name}: resident: {bytes} bytes, huge pages {advised}");
}

/// Reports on standard error that no index was copied into memory.
pub fn report_mapped(shortage: &Shortage) {
    note!("mapped: {shortage}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bars(cancelled: bool) -> BuildBars {
        let cancelled = Arc::new(AtomicBool::new(cancelled));
        BuildBars { current: Mutex::new(ProgressBar::hidden()), cancelled }
    }

    fn current(bars: &BuildBars) -> ProgressBar {
        bars.current.lock().unwrap().clone()
    }

    #[test]
    fn a_bar_is_full_only_after_a_phase_that_ended() {
        let position = |cancelled, end: fn(BuildBars)| {
            let bars = bars(cancelled);
            bars.begin("linking", 100);
            bars.advance(16);
            let bar = current(&bars);
            end(bars);
            assert!(bar.is_finished());
            bar.position()
        };
        assert_eq!(position(false, |bars| bars.finish()), 100);
        assert_eq!(position(false, |bars| bars.begin("next", 1)), 100);
        assert_eq!(position(true, |bars| bars.finish()), 16);
        assert_eq!(position(true, |bars| bars.begin("next", 1)), 16);
        // A phase that failed.
        assert_eq!(position(false, drop), 16);
    }
}
