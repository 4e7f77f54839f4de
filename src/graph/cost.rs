//! What a search cost, in counts that do not depend on the machine.

/// What a search cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Nodes whose neighbor lists were read.
    pub expanded: u64,
    /// Embeddings scored, by codes or in full precision.
    pub distances: u64,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.expanded += other.expanded;
        self.distances += other.distances;
    }
}
