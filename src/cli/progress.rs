//! Progress on standard error: bars with rate and remaining time, and lines.

use std::borrow::Cow;
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressFinish, ProgressState, ProgressStyle};

use super::interrupt;
use super::terminal::has_unicode;
use crate::build::Progress;
use crate::engine::Shortage;
use crate::index::Residence;

/// Without a terminal, a line of a phase is printed this often, and so none of a short one.
const REPORT_EVERY: Duration = Duration::from_secs(30);

/// The phases of a build whose steps are bytes.
const OF_BYTES: [&str; 2] = ["writing the index", "uploading the index"];
/// The total of a phase of which only the share that is done is known.
const PERCENT: u64 = 100;

/// What the steps of a phase are.
#[derive(Clone, Copy, Debug)]
enum Unit {
    Steps,
    Bytes,
    Percent,
}

impl Unit {
    fn of(phase: &str) -> Self {
        if OF_BYTES.contains(&phase) { Self::Bytes } else { Self::Steps }
    }

    /// The template of a bar, after the name of the phase and the bar.
    fn running(self) -> &'static str {
        match self {
            Self::Steps => "{human_pos}/{human_len} {rate} {eta} left",
            Self::Bytes => "{binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta} left",
            Self::Percent => "{percent} % {eta} left",
        }
    }

    /// The same for a phase of `total` steps that is done.
    fn done(self, total: u64) -> &'static str {
        match self {
            Self::Steps if total > 1 => "{human_len} in {took}",
            Self::Bytes => "{binary_total_bytes} in {took}",
            Self::Steps | Self::Percent => "{took}",
        }
    }
}

/// Creates a bar for one phase of `total` steps. Shows nothing if standard error is not a terminal. A bar that is dropped
/// before it is finished stays where it is.
pub fn bar(phase: &'static str, total: u64) -> ProgressBar {
    bar_of(phase.into(), total, Unit::of(phase))
}

fn bar_of(phase: Cow<'static, str>, total: u64, unit: Unit) -> ProgressBar {
    let bar = ProgressBar::new(total).with_style(style(unit.running()));
    bar.with_message(phase).with_finish(ProgressFinish::Abandon)
}

/// Fills a bar of [`bar`] and shows how long the phase took.
pub fn finish(bar: &ProgressBar) {
    finish_of(bar, Unit::of(&bar.message()));
}

fn finish_of(bar: &ProgressBar, unit: Unit) {
    bar.set_style(style(unit.done(bar.length().unwrap_or_default())));
    bar.finish();
}

fn style(figures: &str) -> ProgressStyle {
    let template = format!("{{msg:30}} {{wide_bar}} {figures}");
    let style = ProgressStyle::with_template(&template).expect("the template is valid");
    let style = style.with_key("rate", |state: &ProgressState, text: &mut dyn std::fmt::Write| {
        let _ = write!(text, "{}/s", HumanCount(state.per_sec() as u64));
    });
    let style = style.with_key("took", |state: &ProgressState, text: &mut dyn std::fmt::Write| {
        let _ = write!(text, "{:.1} s", state.elapsed().as_secs_f64());
    });
    if has_unicode() { style } else { style.progress_chars("#>-") }
}

/// Shows one bar per phase of long work; without a terminal, a line now and then. Ctrl-C cancels the work.
#[derive(Debug)]
pub struct BuildBars {
    current: Mutex<Phase>,
    cancelled: Arc<AtomicBool>,
    has_terminal: bool,
}

/// One phase of a build.
#[derive(Debug)]
struct Phase {
    name: Cow<'static, str>,
    unit: Unit,
    total: u64,
    done: u64,
    bar: ProgressBar,
    began: Instant,
    /// When a line was printed.
    reported: Instant,
}

impl Phase {
    fn begin(name: Cow<'static, str>, total: u64, unit: Unit) -> Self {
        let now = Instant::now();
        let bar = bar_of(name.clone(), total, unit);
        Self { name, unit, total, done: 0, bar, began: now, reported: now }
    }

    /// Before the first phase.
    fn none() -> Self {
        let now = Instant::now();
        let bar = ProgressBar::hidden();
        Self { name: "".into(), unit: Unit::Steps, total: 0, done: 0, bar, began: now, reported: now }
    }

    /// Ends the bar: full, unless the phase ended early.
    fn end(&self, is_early: bool) {
        match self.bar.is_finished() {
            true => {}
            false if is_early => self.bar.abandon(),
            false => finish_of(&self.bar, self.unit),
        }
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
        let cancelled = interrupt::flag()?;
        Ok(Self::cancelled_by(cancelled))
    }

    /// Shows work of another process, which Ctrl-C does not cancel.
    pub fn watching() -> Self {
        Self::cancelled_by(Arc::default())
    }

    fn cancelled_by(cancelled: Arc<AtomicBool>) -> Self {
        Self { current: Mutex::new(Phase::none()), cancelled, has_terminal: std::io::stderr().is_terminal() }
    }

    /// Shows the share of a phase that is done, from 0 to 1. A phase of another name begins.
    pub fn show_share(&self, phase: &str, share: f64) {
        let is_new = self.current().name != phase;
        if is_new {
            self.start(phase.to_owned().into(), PERCENT, Unit::Percent);
        }
        let done = (share.clamp(0.0, 1.0) * PERCENT as f64) as u64;
        let before = self.current().done;
        self.advance(done.saturating_sub(before));
    }

    fn start(&self, name: Cow<'static, str>, total: u64, unit: Unit) {
        let mut current = self.current();
        self.end(&current);
        *current = Phase::begin(name, total, unit);
    }

    /// Finishes the bar of the current phase, so that other lines can follow it.
    pub fn finish(&self) {
        self.end(&self.current());
    }

    /// Leaves the bar of the current phase where it is, so that other lines can follow it.
    pub fn abandon(&self) {
        self.current().end(true);
    }

    fn current(&self) -> MutexGuard<'_, Phase> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, phase: &Phase) {
        phase.end(self.is_cancelled());
        if let Some(line) = phase.last_line(Instant::now()).filter(|_| !self.has_terminal) {
            note!("{line}");
        }
    }
}

impl Progress for BuildBars {
    fn begin(&self, name: &'static str, total: u64) {
        self.start(name.into(), total, Unit::of(name));
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
        self.abandon();
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
        let mut bars = BuildBars::cancelled_by(Arc::new(AtomicBool::new(cancelled)));
        bars.has_terminal = false;
        bars
    }

    #[test]
    fn a_long_phase_is_reported_now_and_then_and_a_short_one_is_not() {
        let mut phase = Phase::begin("linking".into(), 200, Unit::Steps);
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
