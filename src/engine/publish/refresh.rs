//! The events that a refresh of an index reports.

use std::time::Duration;

use crate::engine::error::EngineError;
use crate::index::{IndexError, Residence};

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
}
