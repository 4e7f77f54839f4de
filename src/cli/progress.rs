//! Progress on standard error: bars with rate and remaining time, and lines.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressFinish, ProgressState, ProgressStyle};

use crate::build::Progress;
use crate::engine::Shortage;
use crate::index::Residence;

/// Without a terminal, a line of a phase is printed this often, and so none of a short one.
const REPORT_EVERY: Duration = Duration::from_secs(30);

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

/// Shows one bar per phase of a build; without a terminal, a line now and then. Ctrl-C cancels the build.
#[derive(Debug)]
pub struct BuildBars {
    current: Mutex<Phase>,
    cancelled: Arc<AtomicBool>,
    has_terminal: bool,
}

/// One phase of a build.
#[derive(Debug)]
struct Phase {
    name: &'static str,
    total: u64,
    done: u64,
    bar: ProgressBar,
    began: Instant,
    /// When a line was printed.
    reported: Instant,
}

impl Phase {
    fn begin(name: &'static str, total: u64, bar: ProgressBar) -> Self {
        let now = Instant::now();
        Self { name, total, done: 0, bar, began: now, reported: now }
    }

    /// Returns a line for a log, if the last one is long ago.
    fn line(&mut self, now: Instant) -> Option<String> {
        if now.duration_since(self.reported) < REPORT_EVERY {
            return None;
        }
        self.reported = now;
        let percent = self.done.min(self.total) * 100 / self.total.max(1);
        let seconds = now.duration_since(self.began).as_secs();
        Some(format!("{}: {percent} % after {seconds} s", self.name))
    }

    /// Returns a line for a log, if there was one for this phase before.
    fn last_line(&self, now: Instant) -> Option<String> {
        let seconds = now.duration_since(self.began).as_secs();
        (self.reported > self.began).then(|| format!("{}: done after {seconds} s", self.name))
    }
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
        let current = Mutex::new(Phase::begin("", 0, ProgressBar::hidden()));
        Ok(Self { current, cancelled, has_terminal: std::io::stderr().is_terminal() })
    }

    /// Finishes the bar of the current phase, so that other lines can follow it.
    pub fn finish(&self) {
        self.end(&self.current());
    }

    fn current(&self) -> MutexGuard<'_, Phase> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, phase: &Phase) {
        end(&phase.bar, self.is_cancelled());
        if let Some(line) = phase.last_line(Instant::now()).filter(|_| !self.has_terminal) {
            note!("{line}");
        }
    }
}

impl Progress for BuildBars {
    fn begin(&self, name: &'static str, total: u64) {
        let mut current = self.current();
        self.end(&current);
        *current = Phase::begin(name, total, bar(name, total));
    }

    fn advance(&self, steps: u64) {
        let mut current = self.current();
        current.bar.inc(steps);
        current.done += steps;
        if !self.has_terminal
            && let Some(line) = current.line(Instant::now())
        {
            note!("{line}");
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// After an error, the bar stays where it is.
impl Drop for BuildBars {
    fn drop(&mut self) {
        end(&self.current().bar, true);
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
        let current = Mutex::new(Phase::begin("", 0, ProgressBar::hidden()));
        BuildBars { current, cancelled, has_terminal: false }
    }

    #[test]
    fn a_long_phase_is_reported_now_and_then_and_a_short_one_is_not() {
        let mut phase = Phase::begin("linking", 200, ProgressBar::hidden());
        let after = |seconds| phase.began + Duration::from_secs(seconds);
        let (soon, later, last) = (after(29), after(31), after(65));
        phase.done = 50;
        assert_eq!((phase.line(soon), phase.last_line(soon)), (None, None));
        assert_eq!(phase.line(later).as_deref(), Some("linking: 25 % after 31 s"));
        assert_eq!(phase.line(later), None);
        assert_eq!(phase.last_line(last).as_deref(), Some("linking: done after 65 s"));
    }

    #[test]
    fn a_bar_is_full_only_after_a_phase_that_ended() {
        let position = |cancelled, end: fn(BuildBars)| {
            let bars = bars(cancelled);
            bars.begin("linking", 100);
            bars.advance(16);
            let bar = bars.current().bar.clone();
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
