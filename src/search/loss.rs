//! Where a search lost a node.

use crate::graph::Stage;

/// Where a search lost a node. A later variant is closer to being a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// The search did not score it.
    NotReached,
    /// Its code was scored, too low to be rescored.
    NotRescored,
    /// It was rescored, and other nodes took its place.
    Displaced,
    /// It is a hit on an earlier page than the one requested.
    EarlierPage,
}

impl From<Stage> for Loss {
    /// The loss of a node that is not a hit.
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Unvisited => Self::NotReached,
            Stage::Visited => Self::NotRescored,
            Stage::Found => Self::Displaced,
        }
    }
}
