//! Where the writes to an index go: its log, on disk before they are acknowledged.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::error::EngineError;
use super::shared::Shared;
use crate::index::IndexStore;
use crate::live::{GroupCommit, LogError, Mutation, MutationLog, RedbLog};

/// The file of the log in the folder of the index.
const LOG_FILE: &str = "mutations.redb";

/// The log of one index; made by the first write.
#[derive(Debug)]
pub(super) struct Writing {
    path: PathBuf,
    is_writable: bool,
    shared: Arc<Shared>,
    open: Mutex<Option<Arc<OpenLog>>>,
    /// Why nothing is written any more.
    problem: Arc<Mutex<Option<String>>>,
}

#[derive(Debug)]
struct OpenLog {
    log: Arc<dyn MutationLog>,
    group: GroupCommit,
}

impl Writing {
    /// Opens the log if there is one, and lets searches know of all that is in it.
    ///
    /// # Errors
    /// If it cannot be opened or read: answers without it might bring back what was taken down.
    pub(super) fn open(
        store: &IndexStore,
        shared: &Arc<Shared>,
        is_writable: bool,
    ) -> Result<Self, EngineError> {
        let path = store.dir().join(LOG_FILE);
        let writing = Self {
            path,
            is_writable,
            shared: Arc::clone(shared),
            open: Mutex::new(None),
            problem: Arc::default(),
        };
        if is_writable && writing.path.exists() {
            let open = writing.open_log()?;
            shared.replay(&*open.log)?;
            *writing.open.lock() = Some(Arc::new(open));
        }
        Ok(writing)
    }

    /// Writes `mutations`, in their order; gives the number of the last.
    ///
    /// # Errors
    /// If they may not be on disk: they are not acknowledged, and nothing is written from then on.
    pub(super) fn write(&self, mutations: Vec<Mutation>) -> Result<u64, LogError> {
        let open = self.opened()?;
        open.group.write(mutations).inspect_err(|error| {
            self.problem.lock().get_or_insert_with(|| error.to_string());
        })
    }

    /// The log, if there is one.
    pub(super) fn log(&self) -> Option<Arc<dyn MutationLog>> {
        self.open.lock().as_ref().map(|open| Arc::clone(&open.log))
    }

    /// Why nothing can be written, if nothing can.
    pub(super) fn read_only(&self) -> Option<String> {
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
        let opened = Arc::new(self.open_log()?);
        *open = Some(Arc::clone(&opened));
        Ok(opened)
    }

    fn open_log(&self) -> Result<OpenLog, LogError> {
        let log: Arc<dyn MutationLog> = Arc::new(RedbLog::open(&self.path)?);
        let (shared, problem) = (Arc::clone(&self.shared), Arc::clone(&self.problem));
        let group = GroupCommit::new(Arc::clone(&log), move |entries| {
            // They were checked before, and are in the log whatever happens here.
            if let Err(error) = shared.apply(entries) {
                tracing::error!(%error, "what was written cannot be searched");
                problem.lock().get_or_insert_with(|| error.to_string());
            }
        });
        Ok(OpenLog { log, group })
    }
}
