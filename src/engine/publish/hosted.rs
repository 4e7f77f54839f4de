//! One named index of an engine: opens its folder, and opens it anew when its files are not those that were opened.
//!
//! ```text
//!  closed ─► look: the folder opens ─► open
//!  open   ─► look: files in place ───► refresh
//!            look: files gone ───────► read-only, until they are back
//!            look: files replaced ───► read-only ─► opens as at a start ─┬─► the new files answer
//!                                                                        └─► the old generation answers, read-only
//! ```
//!
//! While another process has the log, or the next entries of a shared log are gone, the index is out of service: without
//! the log it would return videos that are taken down.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use crate::base::file_identity::FolderStamp;
use crate::base::panics::Panicked;
use crate::engine::error::EngineError;
use crate::engine::options::EngineOptions;
use crate::engine::publish::detached::Detached;
use crate::engine::publish::refresh::Refresh;
use crate::engine::publish::served::ServedIndex;
use crate::engine::publish::swap::wait_for_searches;
use crate::engine::publish::{learn, next_generation};
use crate::engine::supervise::{Background, Task};
use crate::engine::write::problem::LogProblem;
use crate::live::{LOG_FILE, LogError};

/// A folder under a name, and the index that was opened from it.
#[derive(Debug)]
pub(crate) struct HostedIndex {
    name: String,
    dir: PathBuf,
    options: Arc<EngineOptions>,
    background: Background,
    served: ArcSwapOption<ServedIndex>,
    /// The last reported reason why the folder is not open or no longer matches.
    problem: Mutex<Option<String>>,
    /// Locked during a look. The folder when opening it failed: as long as it is the same, opening it would fail again.
    failed: Mutex<Option<FolderStamp>>,
}

impl HostedIndex {
    /// Opens the folder. If that fails, a later [`HostedIndex::look`] tries again; also returns why it failed.
    pub(crate) fn open(
        name: String,
        dir: PathBuf,
        options: &Arc<EngineOptions>,
        background: &Background,
    ) -> (Self, Option<EngineError>) {
        let hosted = Self {
            name,
            dir,
            options: Arc::clone(options),
            background: background.clone(),
            served: ArcSwapOption::empty(),
            problem: Mutex::default(),
            failed: Mutex::default(),
        };
        let before = FolderStamp::of(&hosted.dir).ok();
        let error = match hosted.open_folder() {
            Ok(served) => {
                hosted.served.store(Some(Arc::new(served)));
                None
            }
            Err(error) => {
                *hosted.failed.lock() = hosted.failed_on(before, &error);
                hosted.is_new(&error.to_string());
                Some(error)
            }
        };
        (hosted, error)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs `work` on the open index.
    ///
    /// # Errors
    /// [`EngineError::OutOfService`] if the folder is not open, and the errors of `work`.
    pub(crate) fn with<R>(
        &self,
        work: impl FnOnce(&Arc<ServedIndex>) -> Result<R, EngineError>,
    ) -> Result<R, EngineError> {
        match &*self.served.load() {
            Some(served) => work(served),
            None => {
                let problem = self.problem.lock().clone().unwrap_or_default();
                Err(EngineError::OutOfService { index: self.name.clone(), problem })
            }
        }
    }

    /// Looks at the folder: opens it if it is not open or was replaced, else refreshes the open index. Appends what
    /// changed to `events`.
    pub(crate) fn look(&self, events: &mut Vec<Refresh>) {
        let Some(mut failed) = self.failed.try_lock() else { return };
        // The supervisor reports a panic. The next look tries again.
        let _ = self.background.supervisor.run(Task::Refresh, || {
            let Some(served) = self.served.load_full() else { return self.open_later(&mut failed, events) };
            // Also if the files are not those that were opened: they may have been rewritten in place.
            served.scrub(events);
            match served.check_in_place() {
                Ok(()) => self.refresh(&served, events),
                Err(detached) => self.reattach(served, &detached, &mut failed, events),
            }
        });
    }

    /// Gives the reserve for takedowns back if the disk is full, and opens the log again. Returns false if that does not help
    /// a takedown that failed.
    pub(crate) fn make_room(&self) -> bool {
        if !self.with(|served| Ok(served.log().make_room())).unwrap_or(false) {
            return false;
        }
        tracing::warn!(index = self.name, "the disk is full: the room that is kept for takedowns is used");
        let mut events = Vec::new();
        self.look(&mut events);
        if let Some(served) = &*self.served.load() {
            served.events.lock().extend(events);
        }
        true
    }

    fn open_later(&self, failed: &mut Option<FolderStamp>, events: &mut Vec<Refresh>) {
        let reason = self.problem.lock().clone().unwrap_or_default();
        if self.would_fail(failed) {
            return;
        }
        let before = FolderStamp::of(&self.dir).ok();
        *failed = None;
        if let Err(error) = self.open_anew(reason, events) {
            *failed = self.failed_on(before, &error);
            if self.is_new(&error.to_string()) {
                events.push(Refresh::Unopened { index: self.name.clone(), error });
            }
        }
    }

    fn refresh(&self, served: &Arc<ServedIndex>, events: &mut Vec<Refresh>) {
        if self.problem.lock().take().is_some() {
            served.set_unopened(None);
            events.push(self.opened(served, "its files are back".to_owned()));
        }
        if served.refresh(events) {
            next_generation::start_if_due(served);
            learn::start_if_due(served);
        }
    }

    /// The files are not those of the open index.
    fn reattach(
        &self,
        served: Arc<ServedIndex>,
        detached: &Detached,
        failed: &mut Option<FolderStamp>,
        events: &mut Vec<Refresh>,
    ) {
        let reason = detached.to_string();
        if let Detached::Log(LogProblem::Stopped) = detached {
            self.background.supervisor.report(Task::Log, &Panicked(reason.clone()));
        }
        let error = if detached.is_gone() && !served.has_news() {
            EngineError::ReadOnly { index: self.name.clone(), problem: reason }
        } else {
            // Before the folder is opened: a lock on its log is released.
            served.release(&reason);
            if self.would_fail(failed) {
                return;
            }
            let before = FolderStamp::of(&self.dir).ok();
            *failed = None;
            let error = match self.open_anew(reason, events) {
                Ok(()) => return wait_for_searches(served),
                Err(error) => error,
            };
            *failed = self.failed_on(before, &error);
            served.set_unopened(Some(error.to_string()));
            error
        };
        let (index, generation) = (self.name.clone(), served.generation());
        // It would return videos that are taken down in entries that it cannot read.
        if matches!(error, EngineError::Log(LogError::InUse { .. } | LogError::Gone { .. })) {
            if !served.withdraw(&error) {
                events.push(Refresh::Withdrawn { index, generation, error });
            }
        } else if self.is_new(&error.to_string()) {
            events.push(Refresh::Detached { index, generation, error });
        }
    }

    /// Opens the folder, checks its generation completely, also against the one that answers now, and lets it answer.
    fn open_anew(&self, reason: String, events: &mut Vec<Refresh>) -> Result<(), EngineError> {
        let fresh = self.open_folder()?;
        let mut news = Vec::new();
        fresh.refresh(&mut news);
        // A damaged generation answers nothing. The one that answers now may be sound.
        fresh.snapshot()?;
        self.served.load().as_ref().map_or(Ok(()), |before| fresh.check_continues(before))?;
        events.push(self.opened(&fresh, reason));
        events.append(&mut news);
        self.served.store(Some(Arc::new(fresh)));
        *self.problem.lock() = None;
        Ok(())
    }

    fn open_folder(&self) -> Result<ServedIndex, EngineError> {
        let (name, dir) = (self.name.clone(), self.dir.clone());
        let open = || ServedIndex::open(name, dir, &self.options, &self.background);
        self.background.supervisor.run_on(Task::Refresh, &self.dir, open)
    }

    fn opened(&self, served: &ServedIndex, reason: String) -> Refresh {
        Refresh::Opened { index: self.name.clone(), generation: served.generation(), reason }
    }

    /// Returns whether the folder is as it was when opening it failed.
    fn would_fail(&self, failed: &Option<FolderStamp>) -> bool {
        failed.as_ref().is_some_and(|failed| FolderStamp::of(&self.dir).is_ok_and(|now| now == *failed))
    }

    /// Returns the folder to remember after opening it failed. Returns `None` if the cause may end without a change of the
    /// folder, or if the folder has changed since `before`, when opening it began: it may have been repaired.
    fn failed_on(&self, before: Option<FolderStamp>, error: &EngineError) -> Option<FolderStamp> {
        let after = FolderStamp::of(&self.dir).ok()?;
        // Opening the log rewrites it.
        let is_same = after.is_as_before(&before?, LOG_FILE.as_ref());
        (is_same && !error.is_transient()).then_some(after)
    }

    /// Records a problem, and returns whether it was another one before.
    fn is_new(&self, problem: &str) -> bool {
        self.problem.lock().replace(problem.to_owned()).as_deref() != Some(problem)
    }
}
