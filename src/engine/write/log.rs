//! The log of one index: writes are on disk before they are acknowledged.

use std::fs;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::{Access, access};

use crate::base::file_identity::{Displaced, OpenFolder, is_there};
use crate::base::panics::Panicked;
use crate::engine::status::SharedLogStatus;
use crate::engine::supervise::{Supervisor, Task};
use crate::engine::write::found_log::FoundLog;
use crate::engine::write::problem::LogProblem;
use crate::engine::write::reserve::{Reserve, has_room};
use crate::engine::write::shared::Shared;
use crate::engine::write::tailed::TailedLog;
use crate::index::IndexStore;
use crate::live::{Appended, GroupCommit, LOG_FILE, LogCompactor, LogError, Mutation, MutationLog, RedbLog};

/// Why an index takes no writes before the server that it follows has written any.
const FOLLOWS: &str = "this server follows the log of the server that writes, and takes no writes";
/// A log that was opened while the disk was full is opened for writing once this much is free.
const ROOM_BYTES: u64 = 2 << 20;
/// How long to wait for writes in flight and for readers before the log is closed.
const LONGEST_USE: Duration = Duration::from_secs(10);

/// The log of one index, created by the first write.
#[derive(Debug)]
pub(crate) struct WriteLog {
    dir: PathBuf,
    path: PathBuf,
    folder: Arc<OpenFolder>,
    shared: Arc<Shared>,
    supervisor: Arc<Supervisor>,
    reserve: Reserve,
    /// Never locked before the delta.
    state: Mutex<State>,
    /// Why writes in the log cannot be searched.
    problem: Arc<Mutex<Option<String>>>,
}

#[derive(Debug)]
enum State {
    /// No write has created the log yet; `failed` if one tried to.
    Absent {
        failed: Option<String>,
    },
    Open(Arc<OpenLog>),
    ReadOnly {
        log: Option<Arc<dyn MutationLog>>,
        reason: String,
    },
    /// Other processes write to it, too.
    Tailed(Arc<TailedLog>),
    /// Another process has yet to create it. This one only reads it, for this reason.
    Awaited(&'static str),
    Closed {
        reason: String,
        /// When this process last knew what there is to receive, if the log is shared.
        current_at: Option<Instant>,
    },
}

#[derive(Debug)]
struct OpenLog {
    log: Arc<dyn MutationLog>,
    group: GroupCommit,
    /// Joined after the group, which wakes it.
    _compactor: Arc<LogCompactor>,
}

impl WriteLog {
    /// Uses the log that was `found` in `folder`, whose entries `shared` contains.
    pub(crate) fn new(
        store: &IndexStore,
        folder: &Arc<OpenFolder>,
        shared: &Arc<Shared>,
        supervisor: &Arc<Supervisor>,
        found: FoundLog,
    ) -> Self {
        let (shared, supervisor, problem) = (Arc::clone(shared), Arc::clone(supervisor), Arc::default());
        let state = match found {
            FoundLog::Absent => State::Absent { failed: None },
            FoundLog::Writable(log) => State::Open(group(log, &shared, &supervisor, &problem)),
            FoundLog::ReadOnly { log, reason } => State::ReadOnly { log, reason },
            FoundLog::Shared(log) => State::Tailed(Arc::new(TailedLog::start(log, &shared, &supervisor))),
            FoundLog::Awaited => State::Awaited(FOLLOWS),
        };
        let (dir, path) = (store.dir().to_owned(), store.dir().join(LOG_FILE));
        let folder = Arc::clone(folder);
        let reserve = Reserve::new(&dir);
        Self { dir, path, folder, shared, supervisor, reserve, state: Mutex::new(state), problem }
    }

    /// Writes `mutations` in their order, and returns the sequence number of the last one, with the append that wrote it.
    ///
    /// # Errors
    /// If they may not be on disk: they are not acknowledged. Every later write may fail until the log is opened again. If
    /// the disk has no room for the reserve, only takedowns are written.
    pub(crate) fn write(&self, mutations: Vec<Mutation>) -> Result<Appended, LogError> {
        if let Some(tailed) = self.tailed() {
            return tailed.write(&mutations);
        }
        let opened = self.opened()?;
        if let Err(error) = self.reserve.fill()
            && !mutations.iter().all(Mutation::is_takedown)
        {
            return Err(LogError::io(self.reserve.path())(error));
        }
        opened.group.write_timed(mutations)
    }

    /// Gives the reserve back if the disk is full. Returns false if that does not help a write that failed.
    pub(crate) fn make_room(&self) -> bool {
        !has_room(&self.path, ROOM_BYTES) && self.reserve.release()
    }

    /// Returns the log if there is one. Keep it only for a moment: [`WriteLog::close`] waits for it.
    ///
    /// # Errors
    /// [`LogProblem::Closed`]: there may be one, with entries that nobody here knows.
    pub(crate) fn log(&self) -> Result<Option<Arc<dyn MutationLog>>, LogProblem> {
        match &*self.state.lock() {
            State::Open(open) => Ok(Some(Arc::clone(&open.log))),
            State::ReadOnly { log, .. } => Ok(log.clone()),
            State::Tailed(tailed) => Ok(Some(tailed.log())),
            State::Absent { .. } | State::Awaited(_) => Ok(None),
            State::Closed { reason, .. } => Err(LogProblem::Closed(reason.clone())),
        }
    }

    /// Returns the log, if this process writes to it. Keep it only for a moment: [`WriteLog::close`] waits for it.
    pub(crate) fn written(&self) -> Option<Arc<dyn MutationLog>> {
        match &*self.state.lock() {
            State::Open(open) => Some(Arc::clone(&open.log)),
            State::Tailed(tailed) => tailed.kept(),
            _ => None,
        }
    }

    /// Returns whether other processes write to the log, too.
    pub(crate) fn is_shared(&self) -> bool {
        self.tailed().is_some()
    }

    /// Returns the log that other processes write to, too.
    pub(crate) fn tailed(&self) -> Option<Arc<TailedLog>> {
        match &*self.state.lock() {
            State::Tailed(tailed) => Some(Arc::clone(tailed)),
            _ => None,
        }
    }

    /// Returns how what is received stands, if the log is shared.
    pub(crate) fn shared_status(&self) -> Option<SharedLogStatus> {
        match &*self.state.lock() {
            State::Tailed(tailed) => Some(tailed.status()),
            State::Closed { reason, current_at: Some(current_at) } => {
                let problem = Some(reason.clone());
                Some(SharedLogStatus { problem, age: current_at.elapsed(), digest: None })
            }
            _ => None,
        }
    }

    /// Checks that the log need not be opened again.
    ///
    /// # Errors
    /// Why it must be.
    pub(crate) fn check_in_place(&self) -> Result<(), LogProblem> {
        match &*self.state.lock() {
            State::Absent { .. } | State::Awaited(_) => match is_there(&self.path) {
                Ok(false) => Ok(()),
                Ok(true) => Err(LogProblem::Foreign { path: self.path.clone() }),
                Err(source) => Err(LogProblem::Unknown { path: self.path.clone(), source }),
            },
            State::Open(open) => {
                open.log.check_in_place()?;
                match open.log.failed() {
                    Some(problem) => Err(LogProblem::Failed(problem)),
                    None if open.group.has_stopped() => Err(LogProblem::Stopped),
                    None => Ok(()),
                }
            }
            State::ReadOnly { log: Some(log), .. } => {
                log.check_in_place()?;
                if is_permitted(&self.path) { Err(LogProblem::Permitted) } else { Ok(()) }
            }
            State::ReadOnly { log: None, .. } => Ok(()),
            State::Tailed(tailed) => tailed.check(),
            State::Closed { reason, .. } => Err(LogProblem::Closed(reason.clone())),
        }
    }

    /// Returns why nothing can be written, or `None` if writes are accepted.
    pub(crate) fn read_only(&self) -> Option<String> {
        let of_state = match &*self.state.lock() {
            State::Absent { failed: Some(problem) } => Some(problem.clone()),
            State::Absent { failed: None } => access(&self.dir, Access::WRITE_OK)
                .err()
                .map(|error| format!("{}: {}", self.dir.display(), io::Error::from(error))),
            State::ReadOnly { reason, .. } => Some(reason.clone()),
            State::Tailed(tailed) => tailed.read_only(),
            State::Awaited(reason) => Some((*reason).to_owned()),
            State::Closed { reason, .. } => Some(reason.clone()),
            State::Open(open) => open.log.failed(),
        };
        of_state.or_else(|| self.problem.lock().clone())
    }

    /// Tries again to create the log, if a write failed to.
    pub(crate) fn retry(&self) {
        if matches!(&*self.state.lock(), State::Absent { failed: Some(_) }) {
            // A failure is recorded in the state.
            let _ = self.opened();
        }
    }

    /// Ends writing for `reason`, and closes the file once the writes in flight are answered and nothing reads it: another
    /// process may open it.
    pub(crate) fn close(&self, reason: &str) {
        let mut state = self.state.lock();
        let current_at = match &*state {
            State::Closed { .. } => return,
            State::Tailed(tailed) => Some(tailed.current_at()),
            _ => None,
        };
        let closed = mem::replace(&mut *state, State::Closed { reason: reason.to_owned(), current_at });
        // Writes in flight need it.
        drop(state);
        match closed {
            State::Open(open) => end(Arc::clone(&open.log), open),
            State::Tailed(tailed) => end(tailed.log(), tailed),
            _ => {}
        }
    }

    fn opened(&self) -> Result<Arc<OpenLog>, LogError> {
        let existing = self.existing(&self.state.lock())?;
        if let Some(open) = existing {
            return Ok(open);
        }
        // The delta must not be replaced meanwhile: the log continues after it.
        self.shared.with_live(|live| {
            let mut state = self.state.lock();
            if let Some(open) = self.existing(&state)? {
                return Ok(open);
            }
            match self.create(live.sequence) {
                Ok(log) => {
                    let opened = group(log, &self.shared, &self.supervisor, &self.problem);
                    *state = State::Open(Arc::clone(&opened));
                    Ok(opened)
                }
                Err(error) => {
                    *state = State::Absent { failed: Some(error.to_string()) };
                    Err(error)
                }
            }
        })
    }

    /// Returns the log if it need not be created.
    fn existing(&self, state: &State) -> Result<Option<Arc<OpenLog>>, LogError> {
        match state {
            State::Open(open) => Ok(Some(Arc::clone(open))),
            State::ReadOnly { .. } | State::Tailed(_) | State::Awaited(_) => {
                Err(LogError::ReadOnly { path: self.path.clone() })
            }
            State::Closed { .. } => Err(LogError::Stopped),
            State::Absent { .. } => Ok(None),
        }
    }

    /// Creates the log in the folder that was opened. It continues after `known`, the last write that searches see.
    fn create(&self, known: u64) -> Result<Arc<dyn MutationLog>, LogError> {
        let in_use = || LogError::InUse { path: self.path.clone() };
        let displaced = |displaced: Displaced| LogError::Displaced(Arc::new(displaced));
        self.folder.check().map_err(displaced)?;
        // One that exists has entries that searches do not see yet.
        if is_there(&self.path).map_err(LogError::io(&self.path))? {
            return Err(in_use());
        }
        let log = RedbLog::open_after(&self.path, known)?;
        // Another process may have created it in the meantime, and have left.
        if (log.trimmed_to(), log.last_sequence()) != (known, known) || !log.takedowns()?.is_empty() {
            return Err(in_use());
        }
        // Another folder may have taken the path in the meantime. Its log must not continue after this generation.
        if let Err(replaced) = self.folder.check() {
            if log.check_in_place().is_ok() {
                fs::remove_file(&self.path).map_err(LogError::io(&self.path))?;
            }
            return Err(displaced(replaced));
        }
        log.check_in_place().map_err(displaced)?;
        Ok(Arc::new(log))
    }
}

/// Ends the threads of a log once nothing else uses them, and waits until nothing else uses the log: the file is locked as
/// long as it is open.
fn end<T>(log: Arc<dyn MutationLog>, threads: Arc<T>) {
    let until = Instant::now() + LONGEST_USE;
    wait_for_others(&threads, until);
    // The last owner ends the threads, which own the log, too.
    drop(threads);
    wait_for_others(&log, until);
}

/// Waits until nothing else owns `shared`, but not longer than `until`.
fn wait_for_others<T: ?Sized>(shared: &Arc<T>, until: Instant) {
    while Arc::strong_count(shared) > 1 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Starts group commit to `log`, which makes its entries visible in `shared`.
fn group(
    log: Arc<dyn MutationLog>,
    shared: &Arc<Shared>,
    supervisor: &Arc<Supervisor>,
    problem: &Arc<Mutex<Option<String>>>,
) -> Arc<OpenLog> {
    let (shared, supervisor, problem) = (Arc::clone(shared), Arc::clone(supervisor), Arc::clone(problem));
    let on_panic = move |panic: &Panicked| supervisor.report(Task::Compaction, panic);
    let compactor = Arc::new(LogCompactor::new(Arc::clone(&log), on_panic));
    let woken = Arc::clone(&compactor);
    let group = GroupCommit::new(Arc::clone(&log), move |entries| {
        woken.wake();
        // The entries are in the log even if this fails. They were checked, so it should not.
        if let Err(error) = shared.apply(entries) {
            tracing::error!(%error, "writes in the log cannot be searched");
            problem.lock().get_or_insert_with(|| error.to_string());
        }
    });
    Arc::new(OpenLog { log, group, _compactor: compactor })
}

/// Returns whether a log that could not be opened for writing can probably be now.
fn is_permitted(path: &Path) -> bool {
    access(path, Access::READ_OK | Access::WRITE_OK).is_ok() && has_room(path, ROOM_BYTES)
}
