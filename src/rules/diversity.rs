//! How candidates must differ from each other.

/// How candidates must differ from each other. The similarity of two videos is the cosine of their embeddings, for every metric; 0 for an
/// embedding of zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Diversity {
    /// A video that is more similar than this to a candidate before it is left out; more than 0, at most 1. `None` leaves none out.
    pub max_similarity: Option<f32>,
    /// How much scores count in the choice of candidates, against similarity to those before; 0 to 1. `None` for the best scores.
    pub lambda: Option<f32>,
}

impl Diversity {
    /// With a `lambda`, the k candidates of a page are chosen among this many times as many of the best videos.
    pub const CHOSEN_AMONG: usize = 3;

    /// Leaves out videos that are more similar than this to a candidate before them.
    pub fn max_similarity(max_similarity: f32) -> Self {
        Self { max_similarity: Some(max_similarity), ..Self::default() }
    }

    /// Chooses candidates by maximal marginal relevance.
    pub fn lambda(lambda: f32) -> Self {
        Self { lambda: Some(lambda), ..Self::default() }
    }

    /// The most embeddings that a search of this page holds in memory at a time.
    pub(crate) fn held_rows(&self, offset: usize, k: usize) -> usize {
        let chosen = offset.saturating_add(k);
        let distinct = if self.max_similarity.is_some() { chosen } else { 0 };
        let chosen_among = match self.lambda {
            // Each place may be kept for a group, whose best are compared, too.
            Some(_) => chosen.saturating_add(2 * Self::CHOSEN_AMONG.saturating_mul(k)),
            None => 0,
        };
        distinct.saturating_add(chosen_among)
    }
}
