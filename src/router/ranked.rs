//! The best of all shards, without kept places.
//!
//! What flows in: what a search wants. What flows out: its page, as one server with all videos would return it.
//!
//! Scores are exact, so rows of all shards compare. Each shard is asked for a share of the page, and asked again while its last row
//! is better than the last one of the page: then it may have more of the best. How it is asked again depends on the caps:
//!
//! - None: for as many as the page ends at.
//! - One cap on single values: the same, with the cap. A shard leaves out a row only if better rows of it fill the cap for that
//!   value, and these or better ones fill it in the merged order, too.
//! - Several caps, or one on lists: a row of one shard may be kept out by another one that a row of another shard keeps out, so
//!   caps are not sent. Rows down to the best of the last rows of the shards are final. The values that they fill are left out of
//!   the next round, together with the rows that are known. So each round finds at least one more row of the page, or ends a shard.
//!
//! Without exact effort, a deeper search may find better rows than a search for an earlier page. As on one server, pages up to twice
//! the depth share one search, and a row that is better than those of the pages before is passed over until no others are left.

use std::collections::HashSet;

use tonic::Status;

use super::gather::Gather;
use super::page::Page;
use super::row::Found;
use super::share::share;
use super::value::Value;
use super::wanted::Source;
use crate::base::id::VideoId;
use crate::search::{Acceptance, Row};
use crate::service::proto::completeness::Reason;

/// Rounds of calls for one page. Each ends a shard or finds rows of the page, so it takes fewer.
const MAX_ROUNDS: usize = 200;
/// Values to leave out by the filter. More are left to the caps.
const MAX_FULL: usize = 500;

/// The rows of one shard.
#[derive(Debug, Default)]
struct List {
    found: Vec<Found>,
    /// The number that it was asked for in one call.
    asked: usize,
    /// Why it has no more; `None` if it may have more.
    short: Option<Reason>,
    /// Whether `short` is of a request that also left out known rows.
    is_next: bool,
}

impl List {
    /// The worst row.
    fn last(&self) -> Option<&Row> {
        self.found.iter().map(|found| &found.row).max_by(|one, other| one.best_first(other))
    }
}

/// The search for the best of all shards.
pub(super) struct Ranking<'g, 'a> {
    gather: &'g mut Gather<'a>,
    lists: Vec<List>,
    /// Rows of the pages before, in their order.
    chosen: Vec<Found>,
    /// Whether a video has several values of a capped attribute.
    has_lists: bool,
    is_capped: bool,
}

impl<'g, 'a> Ranking<'g, 'a> {
    pub(super) fn new(gather: &'g mut Gather<'a>) -> Self {
        let has_lists = gather.wanted.rules.caps.len() > 1;
        Self { gather, lists: Vec::new(), chosen: Vec::new(), has_lists, is_capped: false }
    }

    /// Returns the page. `max_k`: the most that a shard may be asked for.
    ///
    /// # Errors
    /// As [`Gather::fetch`].
    pub(super) async fn page(mut self, max_k: usize) -> Result<Page, Status> {
        let wanted = self.gather.wanted;
        for depth in depths(wanted.k, wanted.offset, wanted.is_exact, max_k) {
            let accepted = self.top(depth).await?;
            let is_short = accepted.len() < depth;
            self.chosen = accepted;
            if is_short {
                break;
            }
        }
        let mut page = Page { found: self.chosen, is_capped: self.is_capped, ..Page::default() };
        page.found.drain(..wanted.offset.min(page.found.len()));
        page.found.truncate(wanted.k);
        page.found.sort_by(|one, other| one.row.best_first(&other.row));
        if !wanted.marks_matches {
            page.found.iter_mut().for_each(|found| found.candidate.reserved.clear());
        }
        for (shard, list) in self.lists.iter().enumerate() {
            page.shorts.extend(list.short);
            if list.is_next && list.short.is_some() {
                page.unclear.push((shard, list.found.len()));
            }
        }
        Ok(page)
    }

    /// Whether the only cap is applied by the shards, too.
    fn sends_caps(&self) -> bool {
        !self.has_lists && !self.gather.wanted.rules.caps.is_empty()
    }

    /// The best `depth` rows: those chosen before, and those that follow.
    async fn top(&mut self, depth: usize) -> Result<Vec<Found>, Status> {
        let wanted = self.gather.wanted;
        let first = share(depth, self.gather.count());
        self.lists = (0..self.gather.count()).map(|_| List::default()).collect();
        let live: Vec<usize> = self.gather.live().collect();
        self.replace(live, first).await?;
        for _ in 0..MAX_ROUNDS {
            if self.sends_caps() && self.lists.iter().flat_map(|list| &list.found).any(has_several) {
                self.has_lists = true;
                return Box::pin(self.top(depth)).await;
            }
            let (accepted, order) = self.accept(depth, false);
            let cut = accepted.get(depth - 1).map(|at| order[*at]);
            let is_behind = |at: &usize| {
                let list = &self.lists[*at];
                let may_have = |cut: &Found| list.last().is_none_or(|last| last.best_first(&cut.row).is_lt());
                list.short.is_none() && cut.is_none_or(may_have)
            };
            let behind: Vec<usize> = self.gather.live().filter(is_behind).collect();
            let is_asked = if self.has_lists {
                self.append(behind, first).await?
            } else {
                let behind = behind.into_iter().filter(|at| self.lists[*at].asked < depth).collect();
                self.replace(behind, depth).await?
            };
            if !is_asked {
                break;
            }
        }
        let (mut accepted, mut order) = self.accept(depth, false);
        if accepted.len() < depth {
            (accepted, order) = self.accept(depth, true);
        }
        let is_capped = accepted.last().is_some_and(|last| accepted.len() < *last + 1)
            || accepted.len() < depth.min(order.len());
        let accepted: Vec<Found> = accepted.into_iter().map(|at| order[at].clone()).collect();
        self.is_capped = is_capped && !wanted.rules.caps.is_empty();
        Ok(accepted)
    }

    /// Asks shards for their best `count`. Returns whether there are any.
    async fn replace(&mut self, shards: Vec<usize>, count: usize) -> Result<bool, Status> {
        let (wanted, has_caps) = (self.gather.wanted, self.sends_caps());
        let request = |at: usize| wanted.list(shards[at], Source::All, count, has_caps);
        for (_, shard, part) in self.gather.fetch(&shards, &request).await? {
            self.lists[shard] = List { found: part.found, asked: count, short: part.short, is_next: false };
        }
        Ok(!shards.is_empty())
    }

    /// Asks shards for `count` more rows, as far as they can exclude those that are known. Returns whether any was asked.
    async fn append(&mut self, shards: Vec<usize>, count: usize) -> Result<bool, Status> {
        let (wanted, full) = (self.gather.wanted, self.full());
        let ids = |list: &List| list.found.iter().map(|found| found.row.video.0).collect::<Vec<u64>>();
        let (mut asked, mut known) = (Vec::new(), Vec::new());
        for shard in shards {
            let of_shard = ids(&self.lists[shard]);
            if wanted.excluded.has_room(shard, of_shard.len()) {
                asked.push(shard);
                known.push(of_shard);
            }
        }
        let request = |at: usize| wanted.next(asked[at], count, &known[at], &full);
        for (_, shard, part) in self.gather.fetch(&asked, &request).await? {
            let list = &mut self.lists[shard];
            let known: HashSet<VideoId> = list.found.iter().map(|found| found.row.video).collect();
            list.found.extend(part.found.into_iter().filter(|found| !known.contains(&found.row.video)));
            (list.short, list.is_next) = (part.short, true);
        }
        Ok(!asked.is_empty())
    }

    /// Accepts up to `depth` rows. Returns their positions, and all rows in the order in which they were looked at: those of the
    /// pages before, then the others that score no more. `with_better`: then those that score more, too.
    fn accept(&self, depth: usize, with_better: bool) -> (Vec<usize>, Vec<&Found>) {
        let ceiling = self.chosen.last().map_or(f32::INFINITY, |last| last.row.score);
        let chosen: HashSet<VideoId> = self.chosen.iter().map(|found| found.row.video).collect();
        let mut rest: Vec<&Found> = self.lists.iter().flat_map(|list| &list.found).collect();
        rest.retain(|found| !chosen.contains(&found.row.video));
        rest.sort_unstable_by(|one, other| one.row.best_first(&other.row));
        let better = rest.partition_point(|found| found.row.score > ceiling);
        let better: Vec<&Found> = rest.drain(..better).collect();
        let order = self.chosen.iter().chain(rest).chain(better.into_iter().filter(|_| with_better));
        let order: Vec<&Found> = order.collect();
        let rules = &self.gather.wanted.rules;
        if rules.caps.is_empty() {
            return ((0..depth.min(order.len())).collect(), order);
        }
        let rows: Vec<Row> = order.iter().map(|found| found.row.clone()).collect();
        let mut acceptance = Acceptance::new(&rows, rules);
        let accepted = (0..rows.len()).filter(|at| acceptance.accept(*at)).take(depth).collect();
        (accepted, order)
    }

    /// The values that have no room left after the rows that are final: those down to which every shard is known.
    fn full(&self) -> Vec<(usize, Value)> {
        let open = self.gather.live().map(|at| &self.lists[at]).filter(|list| list.short.is_none());
        let frontier = open.filter_map(List::last).min_by(|one, other| one.best_first(other)).cloned();
        let (_, order) = self.accept(0, false);
        let is_final = |found: &&&Found| {
            frontier.as_ref().is_none_or(|frontier| !found.row.best_first(frontier).is_gt())
        };
        let rows: Vec<Row> = order.iter().take_while(is_final).map(|found| found.row.clone()).collect();
        let mut acceptance = Acceptance::new(&rows, &self.gather.wanted.rules);
        (0..rows.len()).for_each(|at| _ = acceptance.accept(at));
        let value = |(cap, key)| Some((cap, self.gather.keys.value(key)?.clone()));
        acceptance.full_keys().into_iter().filter_map(value).take(MAX_FULL).collect()
    }
}

/// Whether a video has several values of a capped attribute.
fn has_several(found: &Found) -> bool {
    found.row.keys.iter().any(|keys| keys.len() > 1)
}

/// The depths of the searches for a page.
fn depths(k: usize, offset: usize, is_exact: bool, max_k: usize) -> Vec<usize> {
    let end = offset + k;
    if is_exact || offset == 0 {
        return vec![end];
    }
    let mut depths = vec![k];
    while depths.last().is_some_and(|last| *last < end) {
        let deeper = (depths[depths.len() - 1] * 2).min(max_k.max(end));
        depths.push(deeper);
    }
    depths
}
