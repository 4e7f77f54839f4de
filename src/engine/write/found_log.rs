//! The log of an index as a start finds it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::base::file_identity::is_there;
use crate::index::IndexStore;
use crate::live::{FollowedLog, LOG_FILE, LogError, MutationLog, OpenSharedLog, RedbLog, SharedLog};

/// How a start opens the log of an index.
#[derive(Debug)]
pub(crate) enum LogOpening<'a> {
    /// It does not.
    None,
    /// To write it. No other process can open it.
    Own,
    /// To read what another process writes.
    Followed,
    /// With this.
    Shared(&'a dyn OpenSharedLog),
}

/// The log of an index as a start finds it.
#[derive(Debug)]
pub(crate) enum FoundLog {
    /// There is none. The first write creates one.
    Absent,
    /// It is open for writing.
    Writable(Arc<dyn MutationLog>),
    /// Other processes write to it, too.
    Shared(Arc<dyn SharedLog>),
    /// This process follows another one, which has not created it yet.
    Awaited,
    /// It is not written to, for this reason.
    ReadOnly { log: Option<Arc<dyn MutationLog>>, reason: String },
}

impl FoundLog {
    /// Opens the log of an index if it exists. Do so before the index answers, or it would return videos that are taken
    /// down.
    ///
    /// # Errors
    /// If it cannot be opened, or the operating system does not say whether it exists.
    pub(crate) fn open(store: &IndexStore, opening: &LogOpening<'_>) -> Result<Self, LogError> {
        let path = store.dir().join(LOG_FILE);
        match opening {
            LogOpening::None => {
                Ok(Self::ReadOnly { log: None, reason: "this server takes no writes".to_owned() })
            }
            LogOpening::Shared(opener) => Ok(Self::Shared(opener.open(&path, &held(store))?)),
            _ if !is_there(&path).map_err(LogError::io(&path))? => match opening {
                LogOpening::Followed => Ok(Self::Awaited),
                _ => Ok(Self::Absent),
            },
            LogOpening::Followed => Ok(Self::Shared(Arc::new(FollowedLog::open(&path)?))),
            LogOpening::Own => Self::open_own(&path),
        }
    }

    /// Opens the log at `path` for writing. Without the permission or the room to write, it is only read.
    fn open_own(path: &Path) -> Result<Self, LogError> {
        match RedbLog::open(path) {
            Ok(log) => Ok(Self::Writable(Arc::new(log))),
            Err(error) if is_forbidden(&error) || is_full(&error) => {
                let log = Arc::new(RedbLog::open_read_only(path)?);
                Ok(Self::ReadOnly { log: Some(log), reason: error.to_string() })
            }
            Err(error) => Err(error),
        }
    }

    /// Returns whether other processes write to it, too.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self, Self::Shared(_))
    }

    /// Returns the log if there is one.
    pub(crate) fn log(&self) -> Option<Arc<dyn MutationLog>> {
        match self {
            Self::Absent | Self::Awaited => None,
            Self::Writable(log) => Some(Arc::clone(log)),
            Self::Shared(log) => Some(Arc::clone(log) as Arc<dyn MutationLog>),
            Self::ReadOnly { log, .. } => log.clone(),
        }
    }
}

/// Returns the last entry before those that each generation needs. A generation that does not open has none.
fn held(store: &IndexStore) -> Vec<u64> {
    let generations = store.generations().unwrap_or_default();
    let opened = generations.into_iter().filter_map(|generation| store.open_generation(generation).ok());
    opened.map(|index| index.metadata().held_after()).collect()
}

/// Returns whether a log cannot be opened for lack of room. It can still be read.
fn is_full(error: &LogError) -> bool {
    let LogError::Io { source, .. } = error else { return false };
    matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Returns whether a log cannot be opened for lack of the permission to write.
fn is_forbidden(error: &LogError) -> bool {
    let LogError::Io { source, .. } = error else { return false };
    matches!(source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}
