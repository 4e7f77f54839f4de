//! The memory of searches, kept so that searching does not allocate.

use parking_lot::Mutex;

use crate::graph::{BlockScratch, Scratch};
use crate::quantize::{QueryCodes, ResidualTable};

/// The memory of one search.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    pub(super) scratch: Scratch,
    pub(super) blocks: BlockScratch,
    pub(super) query_codes: QueryCodes,
    pub(super) residual_tables: Vec<ResidualTable>,
}

/// The workspaces that no search uses at the moment.
#[derive(Debug, Default)]
pub(super) struct Workspaces(Mutex<Vec<Workspace>>);

impl Workspaces {
    /// Runs `work` with a workspace of its own.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut Workspace) -> R) -> R {
        let mut workspace = self.0.lock().pop().unwrap_or_default();
        let result = work(&mut workspace);
        self.0.lock().push(workspace);
        result
    }
}
