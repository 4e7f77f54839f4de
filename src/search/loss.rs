//! Where a search lost a node.

use crate::graph::Stage;

/// Where a search lost a node, the later the nearer it came to being a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// It never came to it.
    NotReached,
    /// It came to it, and its code did not score well enough to be scored in full precision.
    NotRescored,
    /// It was scored in full precision, and others took its place.
    Displaced,
    /// It is a hit, on a page before the one that was asked for.
    EarlierPage,
}

impl From<Stage> for Loss {
    /// Of a node that is no hit.
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Unvisited => Self::NotReached,
            Stage::Visited => Self::NotRescored,
            Stage::Found => Self::Displaced,
        }
    }
}
