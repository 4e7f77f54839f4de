//! How many hits, and how hard to look for them.

/// How hard to search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Traverse the graph and expand this many candidates, the best, on layer 0. Fewer than k give k hits all
    /// the same, and more of them wrong.
    EfSearch(usize),
    /// Score every video.
    Exact,
}

/// How a search is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Traversal of the graph, over codes where there are any.
    Graph,
    /// Every code is scored, and the best again in full precision.
    CodeScan,
    /// Every embedding is scored.
    ExactScan,
    /// Traversal of the graph that scores only what matches a filter.
    FilteredGraph,
    /// Everything that matches a filter is scored.
    MatchScan,
    /// What matches a filter is scored in the blocks where good ones are likely; edges lead from those to others.
    BlockScan,
}

impl Plan {
    const ALL: [Plan; 6] =
        [Plan::Graph, Plan::CodeScan, Plan::ExactScan, Plan::FilteredGraph, Plan::MatchScan, Plan::BlockScan];

    /// The word for it in answers and reports.
    pub fn name(self) -> &'static str {
        match self {
            Plan::Graph => "graph",
            Plan::CodeScan => "code_scan",
            Plan::ExactScan => "exact_scan",
            Plan::FilteredGraph => "filtered_graph",
            Plan::MatchScan => "match_scan",
            Plan::BlockScan => "block_scan",
        }
    }

    /// Whether it is one for what matches a filter.
    pub fn is_of_matches(self) -> bool {
        matches!(self, Plan::FilteredGraph | Plan::MatchScan | Plan::BlockScan)
    }

    /// What takes less time over so many bytes of codes: reading them one after another, or a traversal that
    /// keeps `ef_search` candidates, whose reads are scattered.
    pub(super) fn for_effort(code_bytes: usize, ef_search: usize) -> Self {
        if ef_search >= Self::scanned_from(code_bytes) { Plan::CodeScan } else { Plan::Graph }
    }

    /// The least `ef_search` with which so many bytes of codes are scanned. Measured at 20,102 x 128 and
    /// 38,576 x 64, where scan and traversal meet at 320 and 400 candidates.
    pub fn scanned_from(code_bytes: usize) -> usize {
        const BYTES_PER_CANDIDATE: usize = 7 << 10;
        code_bytes / BYTES_PER_CANDIDATE
    }
}

impl std::str::FromStr for Plan {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|plan| plan.name() == word);
        let known = Self::ALL.map(Plan::name).join(", ");
        found.ok_or_else(|| format!("unknown plan {word:?}: expected one of {known}"))
    }
}

/// Valid parameters of one search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SearchParams {
    k: usize,
    effort: Effort,
    plan: Option<Plan>,
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
            Effort::EfSearch(ef_search) => Effort::EfSearch(ef_search),
            Effort::Exact => Effort::Exact,
        };
        Ok(Self { k, effort, plan: None })
    }

    /// Searched as `plan` says, not as seems fastest; for measurement. A code scan of an index without codes
    /// is a traversal.
    pub fn with_plan(self, plan: Option<Plan>) -> Self {
        let effort = if plan == Some(Plan::ExactScan) { Effort::Exact } else { self.effort };
        Self { plan, effort, ..self }
    }

    /// The plan that is asked for, if one is.
    pub fn plan(&self) -> Option<Plan> {
        self.plan
    }

    /// The effort of a search that asks for none in particular: a candidate list twice as long as the
    /// answer, and 128 at least, but no longer than `most`.
    pub fn default_effort(k: usize, most: usize) -> Effort {
        Effort::EfSearch(k.saturating_mul(2).max(128).min(most))
    }

    /// How many hits are wanted.
    pub fn k(&self) -> usize {
        self.k
    }

    /// How hard to search.
    pub fn effort(&self) -> Effort {
        self.effort
    }
}
