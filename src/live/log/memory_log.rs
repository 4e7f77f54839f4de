//! A log in memory, for tests of code that writes to a log.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::error::LogError;
use super::mutation::{Entry, Mutation};
use super::mutation_log::{LogSize, MutationLog};
use crate::base::id::VideoId;
use crate::base::sync::Mutex;

/// Called with the mutations of each append before they are in the log; an error of it fails the append.
type BeforeAppend = dyn Fn(&[Mutation]) -> Result<(), LogError> + Send + Sync;

/// A log that keeps every entry.
pub(crate) struct MemoryLog {
    entries: Mutex<Vec<Entry>>,
    before_append: Box<BeforeAppend>,
}

impl MemoryLog {
    pub(crate) fn new(
        before_append: impl Fn(&[Mutation]) -> Result<(), LogError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { entries: Mutex::new(Vec::new()), before_append: Box::new(before_append) })
    }
}

impl fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLog").finish_non_exhaustive()
    }
}

impl MutationLog for MemoryLog {
    fn append(&self, mutations: &[Mutation]) -> Result<u64, LogError> {
        (self.before_append)(mutations)?;
        let mut entries = self.entries.lock();
        let first = entries.len() as u64 + 1;
        entries.extend(
            (first..).zip(mutations.iter().cloned()).map(|(sequence, mutation)| Entry { sequence, mutation }),
        );
        Ok(entries.len() as u64)
    }

    fn last_sequence(&self) -> u64 {
        self.entries.lock().len() as u64
    }

    fn trimmed_to(&self) -> u64 {
        0
    }

    fn read(&self, after: u64, limit: usize) -> Result<Vec<Entry>, LogError> {
        Ok(self.entries.lock().iter().skip(after as usize).take(limit).cloned().collect())
    }

    fn takedowns(&self) -> Result<Vec<(VideoId, u64)>, LogError> {
        let mut takedowns = BTreeMap::new();
        for Entry { sequence, mutation } in self.entries.lock().iter() {
            match mutation {
                Mutation::Takedown(video) => _ = takedowns.insert(*video, *sequence),
                Mutation::Restore(video) => _ = takedowns.remove(video),
                Mutation::Upsert(_) | Mutation::Delete(_) => {}
            }
        }
        Ok(takedowns.into_iter().collect())
    }

    fn trim_except(&self, _: u64, _: &[u64]) -> Result<(), LogError> {
        Ok(())
    }

    fn remove(&self, _: &[u64]) -> Result<(), LogError> {
        Ok(())
    }

    fn size(&self) -> LogSize {
        LogSize::default()
    }

    fn bytes(&self) -> Result<u64, LogError> {
        Ok(0)
    }
}
