//! How many hits, and how much effort to spend on them.

use std::time::Instant;

use super::plan::Plan;
use crate::index::{Index, RecallCurves};

/// The effort of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Traverse the graph with a candidate list of this length on layer 0. A length below k still returns k hits, more of
    /// them wrong.
    EfSearch(usize),
    /// Score every video.
    Exact,
}

/// Valid parameters of one search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SearchParams {
    k: usize,
    effort: Effort,
    plan: Option<Plan>,
    is_timed: bool,
    widest: usize,
}

/// An invalid parameter of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SearchParamsError {
    /// k = 0.
    #[error("k: expected at least 1, found 0")]
    ZeroK,
    /// ef_search = 0.
    #[error("ef_search: expected at least 1, found 0")]
    ZeroEfSearch,
}

/// The usual `ef_search` of a search without an effort of its own, per hit that is wanted; and the least.
const DEFAULT_EF_SEARCH_PER_HIT: usize = 2;
const LEAST_DEFAULT_EF_SEARCH: usize = 128;
/// At most this multiple of the usual `ef_search` is the default. A search then takes up to about three times as long.
const MOST_DEFAULTS: usize = 4;

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
        Ok(Self { k, effort, plan: None, is_timed: false, widest: 0 })
    }

    /// Forces a plan instead of the one that should be fastest, for measurements. A code scan of an index without codes
    /// is a traversal.
    pub fn with_plan(self, plan: Option<Plan>) -> Self {
        let effort = if plan == Some(Plan::ExactScan) { Effort::Exact } else { self.effort };
        Self { plan, effort, ..self }
    }

    /// Times the stages of the search, or not.
    pub fn with_timing(self, is_timed: bool) -> Self {
        Self { is_timed, ..self }
    }

    /// Lets a traversal have a candidate list longer than `ef_search`, of at most `widest`, where score terms need it.
    pub fn with_widest(self, widest: usize) -> Self {
        Self { widest, ..self }
    }

    /// The longest candidate list that score terms may lead to, if it is longer than `ef_search`.
    pub(super) fn widest(&self) -> usize {
        self.widest
    }

    /// The time now; `None` if the search is not timed.
    pub(super) fn clock(&self) -> Option<Instant> {
        self.is_timed.then(Instant::now)
    }

    /// The forced plan, if any.
    pub fn plan(&self) -> Option<Plan> {
        self.plan
    }

    /// The recall that a search without an effort of its own aims at.
    pub const DEFAULT_RECALL: f64 = 0.95;

    /// The effort of a search that sets none: a candidate list twice as long as the answer, at least 128. If that reaches
    /// less than [`Self::DEFAULT_RECALL`] by the `measured` curves, the shortest that reaches it, up to four times as
    /// long. At most `most` in any case.
    pub fn default_effort(k: usize, measured: Option<&RecallCurves>, most: usize) -> Effort {
        let usual = usual_ef_search(k);
        let longest = usual.saturating_mul(MOST_DEFAULTS);
        let raised = measured.map(|curves| curves.ef_search_within(k, Self::DEFAULT_RECALL, usual, longest));
        Effort::EfSearch(raised.unwrap_or(usual).min(most))
    }

    /// Whether a plain search that sets no effort considers every video, whatever its k.
    pub fn finds_all_by_default(index: &Index) -> bool {
        let least = usual_ef_search(1);
        index.len() <= least || Plan::of_plain(None, index, least).scores_all()
    }

    /// How many hits are wanted.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The effort.
    pub fn effort(&self) -> Effort {
        self.effort
    }
}

fn usual_ef_search(k: usize) -> usize {
    k.saturating_mul(DEFAULT_EF_SEARCH_PER_HIT).max(LEAST_DEFAULT_EF_SEARCH)
}
