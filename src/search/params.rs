//! How many hits, and how hard to look for them.

/// How hard to search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Traverse the graph with a candidate list of this size on layer 0, at least k.
    EfSearch(usize),
    /// Score every video.
    Exact,
}

/// Valid parameters of one search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SearchParams {
    k: usize,
    effort: Effort,
}

/// A parameter that no search can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SearchParamsError {
    /// k = 0.
    #[error("k: expected at least 1, found 0")]
    ZeroK,
    /// ef_search = 0.
    #[error("ef_search: expected at least 1, found 0")]
    ZeroEfSearch,
}

impl SearchParams {
    /// Parameters for the best `k`.
    ///
    /// # Errors
    /// If `k` or `ef_search` is 0.
    pub fn new(k: usize, effort: Effort) -> Result<Self, SearchParamsError> {
        if k == 0 {
            return Err(SearchParamsError::ZeroK);
        }
        let effort = match effort {
            Effort::EfSearch(0) => return Err(SearchParamsError::ZeroEfSearch),
            Effort::EfSearch(ef_search) => Effort::EfSearch(ef_search.max(k)),
            Effort::Exact => Effort::Exact,
        };
        Ok(Self { k, effort })
    }

    /// The effort of a search that asks for none in particular: a candidate list twice as long as the
    /// answer, and 128 at least.
    pub fn default_effort(k: usize) -> Effort {
        Effort::EfSearch(k.saturating_mul(2).max(128))
    }

    /// How many hits are wanted.
    pub fn k(&self) -> usize {
        self.k
    }

    /// How hard to search; an `ef_search` is never smaller than k.
    pub fn effort(&self) -> Effort {
        self.effort
    }
}
