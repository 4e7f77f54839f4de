//! Where the writes to an index go: its log, on disk before they are acknowledged.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::engine::write::shared::Shared;
use crate::index::{Index, IndexStore};
use crate::live::{GroupCommit, LogError, Mutation, MutationLog, RedbLog};

/// The file of the log in the folder of the index.
const LOG_FILE: &str = "mutations.redb";

/// The log of an index if there is one: opened before anything answers, which might bring back what was taken down.
///
/// # Errors
/// If it cannot be opened.
pub(crate) fn existing_log(store: &IndexStore) -> Result<Option<Arc<dyn MutationLog>>, LogError> {
    let path = store.dir().join(LOG_FILE);
    Ok(if path.exists() { Some(Arc::new(RedbLog::open(path)?)) } else { None })
}

/// How a generation and the log of its index go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// The log has every write that the generation does not know of.
    Fits,
    /// Writes between the two are neither in the generation nor in the log any more.
    BeforeLog { position: u64, trimmed_to: u64 },
    /// The log never had the writes that the generation knows of: it would take later ones for those.
    BeyondLog { position: u64, last: u64 },
}

impl Position {
    pub(crate) fn of(index: &Index, log: Option<&dyn MutationLog>) -> Self {
        let position = index.metadata().log_sequence;
        match log {
            Some(log) if position > log.last_sequence() => {
                Position::BeyondLog { position, last: log.last_sequence() }
            }
            Some(log) if position < log.trimmed_to() => {
                Position::BeforeLog { position, trimmed_to: log.trimmed_to() }
            }
            _ => Position::Fits,
        }
    }

    /// What is wrong; a generation that somebody insists on may lose writes, but not mistake them.
    pub(crate) fn problem(self, is_forced: bool) -> Option<String> {
        match self {
            Position::BeforeLog { position, trimmed_to } if !is_forced => Some(format!(
                "expected a log position of at least {trimmed_to}, found {position}: writes after that would be lost, \
                 for the log has only those after {trimmed_to}; build with --log-sequence, the `sequence` of the index \
                 before the files were made"
            )),
            Position::BeyondLog { position, last } => Some(format!(
                "expected a log position of at most {last}, the last write to the index, found {position}"
            )),
            Position::Fits | Position::BeforeLog { .. } => None,
        }
    }
}

/// The log of one index; made by the first write.
#[derive(Debug)]
pub(crate) struct Writing {
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
    /// Writes go to `log`, all of which `shared` knows, or to one that the first write makes.
    pub(crate) fn new(
        store: &IndexStore,
        shared: &Arc<Shared>,
        is_writable: bool,
        log: Option<Arc<dyn MutationLog>>,
    ) -> Self {
        let writing = Self {
            path: store.dir().join(LOG_FILE),
            is_writable,
            shared: Arc::clone(shared),
            open: Mutex::new(None),
            problem: Arc::default(),
        };
        *writing.open.lock() = log.map(|log| writing.group(log));
        writing
    }

    /// Writes `mutations`, in their order; gives the number of the last.
    ///
    /// # Errors
    /// If they may not be on disk: they are not acknowledged, and nothing is written from then on.
    pub(crate) fn write(&self, mutations: Vec<Mutation>) -> Result<u64, LogError> {
        let open = self.opened()?;
        open.group.write(mutations).inspect_err(|error| {
            self.problem.lock().get_or_insert_with(|| error.to_string());
        })
    }

    /// The log, if there is one.
    pub(crate) fn log(&self) -> Option<Arc<dyn MutationLog>> {
        self.open.lock().as_ref().map(|open| Arc::clone(&open.log))
    }

    /// Whether another server has made a log of this index, which this one does not know.
    pub(crate) fn is_foreign(&self) -> bool {
        let open = self.open.lock();
        self.is_writable && open.is_none() && self.path.exists()
    }

    /// The path of the log.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Why nothing can be written, if nothing can.
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
        let group = GroupCommit::new(Arc::clone(&log), move |entries| {
            // They were checked before, and are in the log whatever happens here.
            if let Err(error) = shared.apply(entries) {
                tracing::error!(%error, "what was written cannot be searched");
                problem.lock().get_or_insert_with(|| error.to_string());
            }
        });
        Arc::new(OpenLog { log, group })
    }
}
