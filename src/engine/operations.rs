//! What operators ask of an index: its state, another generation, a rebuild.

use super::Engine;
use super::error::EngineError;
use super::publish::next_generation;
use super::publish::refresh::Refresh;
use super::status::{IndexStatus, LiveRecall, Readiness, RebuildStatus};

impl Engine {
    /// Returns whether requests should be sent to an index. It answers while it is being warmed, but slower.
    ///
    /// # Errors
    /// If there is no such index.
    pub fn readiness(&self, name: &str) -> Result<Readiness, EngineError> {
        let hosted = self.hosted(name)?;
        let readiness = hosted.with(|served| Ok(served.readiness()));
        Ok(readiness.unwrap_or_else(|error| Readiness::NotYet(error.to_string())))
    }

    /// Returns the state of one index. Lists its folder.
    ///
    /// # Errors
    /// If there is no such index, or it is not open ([`EngineError::OutOfService`]).
    pub fn status(&self, name: &str) -> Result<IndexStatus, EngineError> {
        self.with(name, |served| Ok(served.status()))
    }

    /// Returns the recall of a sample of recent answers, by ascending k.
    ///
    /// # Errors
    /// If there is no such index, or it is not open.
    pub fn recall(&self, name: &str) -> Result<Vec<LiveRecall>, EngineError> {
        self.with(name, |served| Ok(served.sample().recall()))
    }

    /// Publishes that `generation` is current, and swaps it in.
    ///
    /// # Errors
    /// If there is no such index or generation, or the generation is damaged, is refused by the gate, or lacks writes
    /// that were trimmed from the log; then nothing changes.
    pub fn activate(&self, name: &str, generation: u64) -> Result<IndexStatus, EngineError> {
        self.with(name, |served| {
            served.activate(generation, false)?;
            Ok(served.status())
        })
    }

    /// Like [`Engine::activate`], but accepts a generation that the quality gate refused or that lacks writes.
    ///
    /// # Errors
    /// If there is no such index or generation, or the generation is damaged or contains writes that the log never had.
    pub fn activate_forced(&self, name: &str, generation: u64) -> Result<IndexStatus, EngineError> {
        self.with(name, |served| {
            served.activate(generation, true)?;
            Ok(served.status())
        })
    }

    /// Starts to build the next generation of an index unless a rebuild is running. Does not wait for it.
    ///
    /// # Errors
    /// If there is no such index, [`EngineError::ReadOnly`] or [`EngineError::BuiltElsewhere`].
    pub fn start_rebuild(&self, name: &str) -> Result<RebuildStatus, EngineError> {
        self.with(name, |served| {
            next_generation::start(served, "requested")?;
            Ok(served.rebuilder().status())
        })
    }

    /// Asks the running rebuild to end. Does not wait for it.
    ///
    /// # Errors
    /// If there is no such index.
    pub fn cancel_rebuild(&self, name: &str) -> Result<RebuildStatus, EngineError> {
        self.with(name, |served| {
            served.rebuilder().cancel();
            Ok(served.rebuilder().status())
        })
    }

    /// Completes the start, and serves what was published since the last call. Searches continue meanwhile.
    ///
    /// Once per start, the opened generation is warmed and its checksums are compared. If one differs, the newest sound
    /// generation takes over; without one, the index is out of service until one is published or activated. A new
    /// publication is checked, warmed and measured before it is swapped in; each one that cannot be served is reported
    /// once, and the current generation goes on serving. A new calibration of the current generation is loaded. Then
    /// the generation is copied into memory, or the copy is given back, as [`MemoryPolicy`](super::MemoryPolicy) says;
    /// large delta segments are compacted, and a rebuild starts if one is due.
    ///
    /// An index whose folder, log, manifest or generation file was removed is read-only until the files are back. If they
    /// were replaced, or the index is not open, the folder is opened as by [`Engine::open`]; what replaced another folder
    /// must have in common with it what requests rely on.
    pub fn refresh(&self) -> Vec<Refresh> {
        let mut events = Vec::new();
        self.indexes.values().for_each(|hosted| hosted.look(&mut events));
        events
    }

    /// Like [`Engine::refresh`], but only for one index. The indexes can be refreshed at the same time, so that a long
    /// measurement of one does not delay the others.
    ///
    /// # Errors
    /// If there is no such index.
    pub fn refresh_index(&self, name: &str) -> Result<Vec<Refresh>, EngineError> {
        let mut events = Vec::new();
        self.hosted(name)?.look(&mut events);
        Ok(events)
    }
}
