//! A log that another process on this machine, or with this volume, writes to: it is copied again whenever it has changed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::error::LogError;
use super::mutation::{Entry, Mutation};
use super::mutation_log::{LogSize, MutationLog};
use super::redb_log::RedbLog;
use super::shared_log::{Received, SharedLog};
use super::snapshot::head;
use crate::base::file_identity::{Displaced, FileId};
use crate::base::id::VideoId;
use crate::base::instant::Instant as Moment;
use crate::base::regular_file;

/// The interval between two looks at the file.
const INTERVAL: Duration = Duration::from_millis(20);
/// A copy is made again after this many times the time that the last one took, so that a large log takes little of a core.
const PAUSE_FACTOR: u32 = 20;

/// The log of another process, to be read.
#[derive(Debug)]
pub struct FollowedLog {
    path: PathBuf,
    file: File,
    id: FileId,
    copy: Mutex<Copy>,
}

/// The log as it was copied last.
#[derive(Debug)]
struct Copy {
    log: Arc<RedbLog>,
    /// The header of the file before it was copied.
    head: Vec<u8>,
    /// When it may be copied again.
    due: Instant,
}

impl Copy {
    fn of(path: &Path, file: &File) -> Result<Self, LogError> {
        let began = Instant::now();
        // Before the copy: a change during it is seen at the next look.
        let head = head(file).map_err(LogError::io(path))?;
        let log = Arc::new(RedbLog::open_beside_writer(path)?);
        Ok(Self { log, head, due: Instant::now() + PAUSE_FACTOR * began.elapsed() })
    }
}

impl FollowedLog {
    /// Opens the log at `path`, which another process may write to.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, LogError> {
        let path = path.as_ref();
        let file = regular_file::open(path).map_err(LogError::io(path))?;
        let id = FileId::of(&file.metadata().map_err(LogError::io(path))?);
        let copy = Mutex::new(Copy::of(path, &file)?);
        Ok(Self { path: path.to_owned(), file, id, copy })
    }

    fn log(&self) -> Arc<RedbLog> {
        Arc::clone(&self.copy.lock().log)
    }

    /// Copies the log again if it has changed and a copy is due. Returns whether it was copied.
    fn renew(&self) -> Result<bool, LogError> {
        let mut copy = self.copy.lock();
        if Instant::now() < copy.due || head(&self.file).map_err(LogError::io(&self.path))? == copy.head {
            return Ok(false);
        }
        self.id.check(&self.path).map_err(|displaced| LogError::Displaced(Arc::new(displaced)))?;
        *copy = Copy::of(&self.path, &self.file)?;
        Ok(true)
    }

    fn refuse<T>(&self) -> Result<T, LogError> {
        Err(LogError::ReadOnly { path: self.path.clone() })
    }
}

impl SharedLog for FollowedLog {
    fn receive(&self, after: u64, wait: Duration) -> Result<Option<Received>, LogError> {
        let until = Instant::now() + wait;
        loop {
            let is_renewed = self.renew()?;
            let log = self.log();
            let (first, last) = (log.trimmed_to() + 1, log.last_sequence());
            if last > after && first > after + 1 {
                return Err(LogError::Gone { log: self.path.display().to_string(), after, first });
            } else if last > after {
                let entries = log.read(after, usize::MAX)?;
                return Ok(Some(Received { entries, last, taken_down: Vec::new(), has_more: false }));
            } else if is_renewed && last < after {
                // Another log was written over it.
                let changed = Displaced::Changed { path: self.path.clone() };
                return Err(LogError::Displaced(Arc::new(changed)));
            } else if Instant::now() >= until {
                return Ok(None);
            }
            thread::sleep(INTERVAL);
        }
    }

    fn read_only(&self) -> Option<String> {
        Some("this server follows the log of the server that writes, and takes no writes".to_owned())
    }
}

impl MutationLog for FollowedLog {
    fn append(&self, _: &[Mutation]) -> Result<u64, LogError> {
        self.refuse()
    }

    fn last_sequence(&self) -> u64 {
        self.log().last_sequence()
    }

    fn trimmed_to(&self) -> u64 {
        self.log().trimmed_to()
    }

    fn read(&self, after: u64, limit: usize) -> Result<Vec<Entry>, LogError> {
        self.log().read(after, limit)
    }

    fn takedowns(&self) -> Result<Vec<(VideoId, u64)>, LogError> {
        self.log().takedowns()
    }

    fn trim_except(&self, _: u64, _: &[u64]) -> Result<(), LogError> {
        self.refuse()
    }

    fn remove(&self, _: &[u64]) -> Result<(), LogError> {
        self.refuse()
    }

    fn size(&self) -> LogSize {
        self.log().size()
    }

    fn oldest(&self) -> Result<Option<Moment>, LogError> {
        self.log().oldest()
    }

    fn bytes(&self) -> Result<u64, LogError> {
        self.log().bytes()
    }

    fn check_in_place(&self) -> Result<(), Displaced> {
        self.id.check(&self.path)
    }
}
