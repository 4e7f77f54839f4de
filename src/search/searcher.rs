//! The face of the search: one query against one index, or a request with rules against all of its segments.

use super::explore::explore_plain_each;
use super::hit::{Found, Hit, Interrupted};
use super::pages::Pages;
use super::params::SearchParams;
use super::rules::{Interest, NodeRules, Segment};
use super::scorers::prepared;
use super::workspace::Workspaces;
use crate::base::id::NodeId;
use crate::base::interrupt::Interrupt;
use crate::index::Index;

/// Searches indexes. Contains no index: only the memory that searches reuse.
///
/// Any number of threads may search at once.
#[derive(Debug, Default)]
pub struct Searcher {
    workspaces: Workspaces,
}

impl Searcher {
    /// The best `params.k()` nodes of `index` for `query`, `[dim]` finite.
    ///
    /// `interrupt` is checked once per step of a traversal or block of a scan. After an interrupt, the hits are the best so
    /// far.
    ///
    /// # Panics
    /// If the dimension of the query is not that of the index.
    pub fn search(
        &self,
        index: &Index,
        query: &[f32],
        params: &SearchParams,
        interrupt: &mut Interrupt<'_>,
    ) -> Found {
        let interests = [Interest::single(query.into())];
        self.search_segments(&interests, params, &NodeRules::none(&[Segment::whole(index)]), None, interrupt)
    }

    /// The best `params.k()` nodes for `interests` that pass `rules`, after the first `rules.offset`, of all segments.
    ///
    /// There are fewer only if no more exist. `interrupt` is checked throughout; after an interrupt, the hits are the best
    /// so far. If a node is `watched`, the result says how far it got.
    ///
    /// # Panics
    /// If there is no interest, or the dimension of one is not that of the segments.
    pub fn search_segments(
        &self,
        interests: &[Interest<'_>],
        params: &SearchParams,
        rules: &NodeRules<'_>,
        watched: Option<NodeId>,
        interrupt: &mut Interrupt<'_>,
    ) -> Found {
        let base = rules.segments[0].index;
        let queries: Vec<_> = interests.iter().map(|interest| prepared(base, &interest.vector)).collect();
        self.workspaces.with(|workspace| {
            Pages::new(interests, &queries, params, rules, watched, workspace, interrupt).search()
        })
    }

    /// The hits of [`Self::search`] for each k of `ks`, ascending, at `ef_search`, mostly for the price of one traversal:
    /// k only decides how many candidates are rescored.
    ///
    /// # Errors
    /// [`Interrupted`].
    ///
    /// # Panics
    /// If the dimension of the query is not that of the index, or `ks` do not ascend.
    pub fn search_each(
        &self,
        index: &Index,
        query: &[f32],
        ks: &[usize],
        ef_search: usize,
        interrupt: &mut Interrupt<'_>,
    ) -> Result<Vec<Vec<Hit>>, Interrupted> {
        assert!(ks.is_sorted(), "expected ascending k, found {ks:?}");
        let query = &prepared(index, query);
        self.workspaces
            .with(|workspace| explore_plain_each(index, query, ks, ef_search, workspace, interrupt))
    }
}
