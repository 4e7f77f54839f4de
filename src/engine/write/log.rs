//! The log of one index: writes are on disk before they are acknowledged.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::engine::write::shared::Shared;
use crate::index::IndexStore;
use crate::live::{GroupCommit, LogCompactor, LogError, Mutation, MutationLog, RedbLog};

/// The file name of the log in the folder of the index.
const LOG_FILE: &str = "mutations.redb";

/// Opens the log of an index if it exists. Do so before the index answers, or it would return videos that are taken
/// down.
///
/// # Errors
/// If it cannot be opened.
pub(crate) fn existing_log(store: &IndexStore) -> Result<Option<Arc<dyn MutationLog>>, LogError> {
    let path = store.dir().join(LOG_FILE);
    Ok(if path.exists() { Some(Arc::new(RedbLog::open(path)?)) } else { None })
}

/// The log of one index, created by the first write.
#[derive(Debug)]
pub(crate) struct WriteLog {
    path: PathBuf,
    is_writable: bool,
    shared: Arc<Shared>,
    open: Mutex<Option<Arc<OpenLog>>>,
    /// Why writes have stopped.
    problem: Arc<Mutex<Option<String>>>,
}

#[derive(Debug)]
struct OpenLog {
    log: Arc<dyn MutationLog>,
    group: GroupCommit,
    /// Joined after the group, which wakes it.
    _compactor: Arc<LogCompactor>,
}

impl WriteLog {
    /// Uses `log`, whose entries `shared` contains; without it, the first write creates one.
    pub(crate) fn new(
        store: &IndexStore,
        shared: &Arc<Shared>,
        is_writable: bool,
        log: Option<Arc<dyn MutationLog>>,
    ) -> Self {
        let write_log = Self {
            path: store.dir().join(LOG_FILE),
            is_writable,
            shared: Arc::clone(shared),
            open: Mutex::new(None),
            problem: Arc::default(),
        };
        *write_log.open.lock() = log.map(|log| write_log.group(log));
        write_log
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
        self.open.lock().as_ref().map(|open| Arc::clone(&open.log))
    }

    /// Returns whether another server has created a log of this index, which this one cannot read.
    pub(crate) fn is_foreign(&self) -> bool {
        let open = self.open.lock();
        self.is_writable && open.is_none() && self.path.exists()
    }

    /// Returns the path of the log.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns why nothing can be written, or `None` if writes are accepted.
    pub(crate) fn read_only(&self) -> Option<String> {
        if !self.is_writable {
            return Some("this server takes no writes".to_owned());
        }
        self.problem.lock().clone()
    }

    fn opened(&self) -> Result<Arc<OpenLog>, LogError> {
        let mut open = self.open.lock();
        if let Some(open) = &*open {
            return Ok(Arc::clone(open));
        }
        let known = self.shared.with_live(|live| live.sequence);
        let opened = self.group(Arc::new(RedbLog::open_after(&self.path, known)?));
        *open = Some(Arc::clone(&opened));
        Ok(opened)
    }

    fn group(&self, log: Arc<dyn MutationLog>) -> Arc<OpenLog> {
        let (shared, problem) = (Arc::clone(&self.shared), Arc::clone(&self.problem));
        let compactor = Arc::new(LogCompactor::new(Arc::clone(&log)));
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
}
