//! What looking at an index leads to.

use std::time::Duration;

use crate::engine::error::EngineError;
use crate::index::{IndexError, Residence};

/// What one look at an index led to.
#[derive(Debug)]
pub enum Refresh {
    /// What the start opened is sound and warm.
    Checked {
        /// The index.
        index: String,
        /// The generation that answers.
        generation: u64,
        /// How long warming and checking took.
        elapsed: Duration,
    },
    /// What the start opened is damaged; another generation answers from now on.
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
    /// What the start opened is damaged and nothing else is sound, or another server writes; the index is out of
    /// service.
    Withdrawn {
        /// The index.
        index: String,
        /// The generation that answered.
        generation: u64,
        /// What is wrong with it, or with answering.
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
    /// The generation that answers has a new calibration.
    Calibrated {
        /// The index.
        index: String,
        /// The generation.
        generation: u64,
        /// Queries that it was measured with.
        queries: u32,
    },
    /// A publication cannot be served; the old generation goes on.
    Refused {
        /// The index.
        index: String,
        /// The manifest of the publication.
        manifest: u64,
        /// What is wrong with it.
        error: EngineError,
    },
    /// What answers was copied into memory and is searched there from now on.
    Resident {
        /// The index.
        index: String,
        /// The generation that answers.
        generation: u64,
        /// How much was copied, and to where.
        residence: Residence,
    },
    /// What answers could not be copied into memory; it goes on being searched in the mapped file.
    StaysMapped {
        /// The index.
        index: String,
        /// The generation that answers.
        generation: u64,
        /// Why it could not.
        error: IndexError,
    },
}
