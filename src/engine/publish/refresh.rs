//! The events that a refresh of an index reports.

use std::time::Duration;

use crate::base::available_memory::AvailableMemory;
use crate::engine::error::EngineError;
use crate::engine::memory::Shortage;
use crate::index::{IndexError, Residence, StoreError};

/// One change by a refresh.
#[derive(Debug)]
pub enum Refresh {
    /// The generation that the start opened is sound and warm.
    Checked {
        /// The index.
        index: String,
        /// The generation that answers.
        generation: u64,
        /// How long warming and checking took.
        elapsed: Duration,
    },
    /// The generation that the start opened is damaged; another one answers from now on.
    Replaced {
        /// The index.
        index: String,
        /// The damaged generation.
        from: u64,
        /// The generation that answers now.
        to: u64,
        /// What is wrong with the damaged one.
        error: EngineError,
    },
    /// The generation that the start opened is damaged and no other is sound, or another server writes. The index is out
    /// of service.
    Withdrawn {
        /// The index.
        index: String,
        /// The generation that answered.
        generation: u64,
        /// Why it must not answer.
        error: EngineError,
    },
    /// The files of the index are not those that this process opened. They are not opened anew, either because nothing
    /// was put in their place or because that cannot be served. Searches are answered as before, and nothing is written.
    Detached {
        /// The index.
        index: String,
        /// The generation that answers.
        generation: u64,
        /// What happened to the files, and why nothing else is served.
        error: EngineError,
    },
    /// The files of the index, which could not be opened before or are not those that this process had opened, were
    /// opened anew.
    Opened {
        /// The index.
        index: String,
        /// The generation that answers now.
        generation: u64,
        /// Why they had to be opened.
        reason: String,
    },
    /// The index cannot be opened, for another reason than before.
    Unopened {
        /// The index.
        index: String,
        /// Why not.
        error: EngineError,
    },
    /// Another generation answers from now on.
    Swapped {
        /// The index.
        index: String,
        /// The generation that answered before.
        from: u64,
        /// The generation that answers now.
        to: u64,
    },
    /// The current generation has a new calibration.
    Calibrated {
        /// The index.
        index: String,
        /// The generation.
        generation: u64,
        /// Number of queries that it was measured with.
        queries: u32,
    },
    /// A publication cannot be served; the current generation goes on.
    Refused {
        /// The index.
        index: String,
        /// The manifest of the publication.
        manifest: u64,
        /// What is wrong with it.
        error: EngineError,
    },
    /// The current generation was copied into memory and is searched there from now on.
    Resident {
        /// The index.
        index: String,
        /// The generation that answers.
        generation: u64,
        /// The copied bytes and their pages.
        residence: Residence,
    },
    /// The current generation could not be copied into memory; it is still searched in the mapped file.
    StaysMapped {
        /// The index.
        index: String,
        /// The generation that answers.
        generation: u64,
        /// Why not.
        error: IndexError,
    },
    /// There is not enough memory for a copy of the current generation; the mapped file is searched until there is.
    NotCopied {
        /// The index.
        index: String,
        /// The generation that answers.
        generation: u64,
        /// What a copy needs, and what there is.
        shortage: Shortage,
    },
    /// Memory became short, so the copy of the current generation was given back; the mapped file is searched again.
    GivenBack {
        /// The index.
        index: String,
        /// The generation that answers.
        generation: u64,
        /// Bytes of the copy.
        bytes: u64,
        /// How much memory there was.
        memory: AvailableMemory,
    },
    /// Memory became short, but the file of the current generation cannot be mapped again; the copy is still searched.
    StaysResident {
        /// The index.
        index: String,
        /// The generation that answers.
        generation: u64,
        /// Why not.
        error: StoreError,
    },
}
