//! The log of one index: writes are on disk before they are acknowledged.

use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::{Access, access};

use crate::base::file_identity::Displaced;
use crate::base::panics::Panicked;
use crate::engine::supervise::{Supervisor, Task};
use crate::engine::write::shared::Shared;
use crate::index::IndexStore;
use crate::live::{GroupCommit, LogCompactor, LogError, Mutation, MutationLog, RedbLog};

/// The file name of the log in the folder of the index.
const LOG_FILE: &str = "mutations.redb";
/// How long to wait for writes in flight before the log is closed.
const LONGEST_WRITE: Duration = Duration::from_secs(10);

/// The log of an index as a start finds it.
#[derive(Debug)]
pub(crate) enum FoundLog {
    /// There is none. The first write creates one.
    Absent,
    /// It is open for writing.
    Writable(Arc<dyn MutationLog>),
    /// It is not written to, for this reason.
    ReadOnly { log: Option<Arc<dyn MutationLog>>, reason: String },
}

impl FoundLog {
    /// Opens the log of an index if it exists. Do so before the index answers, or it would return videos that are taken
    /// down. Without the permission to write, the log is only read.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub(crate) fn open(store: &IndexStore, is_writable: bool) -> Result<Self, LogError> {
        let path = store.dir().join(LOG_FILE);
        if !is_writable {
            return Ok(Self::ReadOnly { log: None, reason: "this server takes no writes".to_owned() });
        }
        if !path.exists() {
            return Ok(Self::Absent);
        }
        match RedbLog::open(&path) {
            Ok(log) => Ok(Self::Writable(Arc::new(log))),
            Err(error) if is_forbidden(&error) => {
                let log = Arc::new(RedbLog::open_read_only(&path)?);
                Ok(Self::ReadOnly { log: Some(log), reason: error.to_string() })
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the log if there is one.
    pub(crate) fn log(&self) -> Option<&Arc<dyn MutationLog>> {
        match self {
            Self::Absent => None,
            Self::Writable(log) => Some(log),
            Self::ReadOnly { log, .. } => log.as_ref(),
        }
    }
}

/// The log of one index, created by the first write.
#[derive(Debug)]
pub(crate) struct WriteLog {
    dir: PathBuf,
    path: PathBuf,
    shared: Arc<Shared>,
    supervisor: Arc<Supervisor>,
    state: Mutex<State>,
    /// Why writes have stopped.
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
    /// For this reason.
    Closed(String),
}

#[derive(Debug)]
struct OpenLog {
    log: Arc<dyn MutationLog>,
    group: GroupCommit,
    /// Joined after the group, which wakes it.
    _compactor: Arc<LogCompactor>,
}

/// Why the log of an index has to be opened again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogProblem {
    #[error("the log is not the one that was opened: {0}")]
    Displaced(#[from] Displaced),
    #[error("another process has created the log {}", path.display())]
    Foreign { path: PathBuf },
    #[error("the writer of the log stopped")]
    Stopped,
    #[error("the log can be written to now")]
    Permitted,
    #[error("{0}")]
    Closed(String),
}

impl WriteLog {
    /// Uses the log that was `found`, whose entries `shared` contains.
    pub(crate) fn new(
        store: &IndexStore,
        shared: &Arc<Shared>,
        supervisor: &Arc<Supervisor>,
        found: FoundLog,
    ) -> Self {
        let (shared, supervisor, problem) = (Arc::clone(shared), Arc::clone(supervisor), Arc::default());
        let state = match found {
            FoundLog::Absent => State::Absent { failed: None },
            FoundLog::Writable(log) => State::Open(group(log, &shared, &supervisor, &problem)),
            FoundLog::ReadOnly { log, reason } => State::ReadOnly { log, reason },
        };
        let (dir, path) = (store.dir().to_owned(), store.dir().join(LOG_FILE));
        Self { dir, path, shared, supervisor, state: Mutex::new(state), problem }
    }

    /// Writes `mutations` in their order, and returns the sequence number of the last one.
    ///
    /// # Errors
    /// If they may not be on disk: they are not acknowledged, and every later write fails.
    pub(crate) fn write(&self, mutations: Vec<Mutation>) -> Result<u64, LogError> {
        let open = self.opened()?;
        open.group.write(mutations).inspect_err(|error| {
            self.problem.lock().get_or_insert_with(|| error.to_string());
        })
    }

    /// Returns the log, if it exists and this process has opened it.
    pub(crate) fn log(&self) -> Option<Arc<dyn MutationLog>> {
        match &*self.state.lock() {
            State::Open(open) => Some(Arc::clone(&open.log)),
            State::ReadOnly { log, .. } => log.clone(),
            State::Absent { .. } | State::Closed(_) => None,
        }
    }

    /// Returns the log, if this process writes to it.
    pub(crate) fn written(&self) -> Option<Arc<dyn MutationLog>> {
        match &*self.state.lock() {
            State::Open(open) => Some(Arc::clone(&open.log)),
            _ => None,
        }
    }

    /// Checks that the log need not be opened again.
    ///
    /// # Errors
    /// Why it must be.
    pub(crate) fn check_in_place(&self) -> Result<(), LogProblem> {
        match &*self.state.lock() {
            State::Absent { .. } if self.path.exists() => {
                Err(LogProblem::Foreign { path: self.path.clone() })
            }
            State::Open(open) => {
                open.log.check_in_place()?;
                if open.group.has_stopped() { Err(LogProblem::Stopped) } else { Ok(()) }
            }
            State::ReadOnly { log: Some(log), .. } => {
                log.check_in_place()?;
                if is_permitted(&self.path) { Err(LogProblem::Permitted) } else { Ok(()) }
            }
            State::Absent { .. } | State::ReadOnly { log: None, .. } => Ok(()),
            State::Closed(reason) => Err(LogProblem::Closed(reason.clone())),
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
            State::Closed(reason) => Some(reason.clone()),
            State::Open(_) => None,
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

    /// Ends writing for `reason`, and closes the file once the writes in flight are answered: another process may open it.
    pub(crate) fn close(&self, reason: &str) {
        let mut state = self.state.lock();
        if matches!(&*state, State::Closed(_)) {
            return;
        }
        let State::Open(open) = mem::replace(&mut *state, State::Closed(reason.to_owned())) else { return };
        // Writes in flight need it.
        drop(state);
        let began = Instant::now();
        while Arc::strong_count(&open) > 1 && began.elapsed() < LONGEST_WRITE {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn opened(&self) -> Result<Arc<OpenLog>, LogError> {
        let mut state = self.state.lock();
        match &*state {
            State::Open(open) => return Ok(Arc::clone(open)),
            State::ReadOnly { .. } => return Err(LogError::ReadOnly { path: self.path.clone() }),
            State::Closed(_) => return Err(LogError::Stopped),
            State::Absent { .. } => {}
        }
        match self.create() {
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
    }

    /// Creates the log. It continues after the last write that the generation contains.
    fn create(&self) -> Result<Arc<dyn MutationLog>, LogError> {
        let known = self.shared.with_live(|live| live.sequence);
        let in_use = || LogError::InUse { path: self.path.clone() };
        // One that exists has entries that searches do not see yet.
        if self.path.exists() {
            return Err(in_use());
        }
        let log = RedbLog::open_after(&self.path, known)?;
        // Another process may have created it in the meantime, and have left.
        if (log.trimmed_to(), log.last_sequence()) != (known, known) {
            return Err(in_use());
        }
        Ok(Arc::new(log))
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

/// Returns whether a log cannot be opened for lack of the permission to write.
fn is_forbidden(error: &LogError) -> bool {
    let LogError::Io { source, .. } = error else { return false };
    matches!(source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

fn is_permitted(path: &Path) -> bool {
    access(path, Access::READ_OK | Access::WRITE_OK).is_ok()
}
