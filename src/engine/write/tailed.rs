//! The log of an index that other processes write to, too: what it receives is made visible to searches.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::panics::Panicked;
use crate::engine::status::SharedLogStatus;
use crate::engine::supervise::{Supervisor, Task};
use crate::engine::write::problem::LogProblem;
use crate::engine::write::shared::Shared;
use crate::live::{
    Append, Appended, LogCompactor, LogError, Mutation, MutationLog, Received, SharedLog, Tail,
};

/// How long a write that is durable may take to be received. It is acknowledged in any case.
const LONGEST_RECEIPT: Duration = Duration::from_secs(5);

/// A shared log, and the threads that receive its entries and keep what was received small.
#[derive(Debug)]
pub(crate) struct TailedLog {
    log: Arc<dyn SharedLog>,
    tail: Tail,
    /// `None` if another process owns what is received.
    _compactor: Option<Arc<LogCompactor>>,
}

impl TailedLog {
    /// Starts to receive what follows the entries that `shared` contains.
    pub(crate) fn start(log: Arc<dyn SharedLog>, shared: &Arc<Shared>, supervisor: &Arc<Supervisor>) -> Self {
        let compactor = log.read_only().is_none().then(|| {
            let supervisor = Arc::clone(supervisor);
            let on_panic = move |panic: &Panicked| supervisor.report(Task::Compaction, panic);
            Arc::new(LogCompactor::new(Arc::clone(&log) as Arc<dyn MutationLog>, on_panic))
        });
        let (woken, shared) = (compactor.clone(), Arc::clone(shared));
        let applied = shared.with_live(|live| live.sequence);
        let tail = Tail::start(Arc::clone(&log), applied, move |received: &Received| {
            if let Some(compactor) = &woken {
                compactor.wake();
            }
            shared.receive(received).map_err(|error| LogError::Unsearchable { problem: error.to_string() })
        });
        Self { log, tail, _compactor: compactor }
    }

    /// Appends `mutations`, and waits until they are visible to searches here.
    ///
    /// # Errors
    /// If they may not be durable.
    pub(crate) fn write(&self, mutations: &[Mutation]) -> Result<Appended, LogError> {
        let began = Instant::now();
        let sequence = self.log.append(mutations)?;
        let append = Some(Append { began, took: began.elapsed(), mutations: mutations.len() });
        if !self.tail.wait_for(sequence, LONGEST_RECEIPT) {
            tracing::warn!(sequence, "a durable write cannot be searched here yet");
        }
        Ok(Appended { sequence, append })
    }

    pub(crate) fn log(&self) -> Arc<dyn MutationLog> {
        Arc::clone(&self.log) as Arc<dyn MutationLog>
    }

    /// Returns the log if this process owns what was received, and keeps it small.
    pub(crate) fn kept(&self) -> Option<Arc<dyn MutationLog>> {
        self.log.read_only().is_none().then(|| self.log())
    }

    /// Checks that entries can be received.
    ///
    /// # Errors
    /// Why the index must be opened again.
    pub(crate) fn check(&self) -> Result<(), LogProblem> {
        self.log.check_in_place()?;
        match self.tail.state().ended {
            Some(error) => Err(LogProblem::Ended(error)),
            None => Ok(()),
        }
    }

    /// Returns why nothing can be written.
    pub(crate) fn read_only(&self) -> Option<String> {
        let state = self.tail.state();
        let ended = state.ended.map(|error| error.to_string());
        self.log.read_only().or(ended).or(state.interrupted).or_else(|| self.log.failed())
    }

    /// When this process last knew what there is to receive.
    pub(crate) fn current_at(&self) -> Instant {
        self.tail.state().current_at
    }

    /// Returns how what is received stands.
    pub(crate) fn status(&self) -> SharedLogStatus {
        let state = self.tail.state();
        let ended = state.ended.map(|error| error.to_string());
        SharedLogStatus {
            problem: ended.or(state.interrupted).or_else(|| self.log.failed()),
            age: state.current_at.elapsed(),
            digest: self.log.digest(),
        }
    }
}
