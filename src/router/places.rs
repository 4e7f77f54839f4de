//! A page with kept places: for fresh videos, for interests.
//!
//! What flows in: what a search wants. What flows out: its page, as one server with all videos would return it.
//!
//! One kind of kept places, without caps, on the first page: each shard is asked for a whole page with the same kept places, and
//! the page is chosen from all of theirs. That suffices: choosing takes the best x of the rows that fill no kept place, and the best
//! y_i of those of kind i, with x + Σ y_i = k and y_i at least what is kept, if there are as many. Let a row of a shard be on the page
//! of all videos but not on that of the shard. If it is of kind i, at least as many better ones of kind i are on the page of the shard as
//! are kept, so it fills no kept place of the page of all: it was taken in its turn, and nothing better was passed over. But the shard
//! has k better rows. If it is of no kind, the page of the shard has k - Σ (what it has of each kind) better ones of no kind. Where the shard
//! has more than what is kept of some kind, nothing was passed over there, and again k better rows of the shard are taken before it. Where it
//! has what is kept or all there are, the page of all has no more places for rows of no kind than that of the shard.
//!
//! This fails if one row fills two kept places, if caps choose among rows, and on later pages. Then the lists of several sources are
//! deepened until no unknown row could change the page, as one server does: the best of all, the best fresh ones, the best of each
//! interest.

use std::collections::HashSet;

use tonic::Status;

use super::gather::Gather;
use super::page::Page;
use super::row::Found;
use super::share::share;
use super::wanted::Source;
use crate::base::id::VideoId;
use crate::search::{Row, RowPage, RowPages};
use crate::service::proto::completeness::Reason;

/// The lists of one source.
struct Lists {
    source: Source,
    /// How many each shard is asked for.
    depth: usize,
    /// By shard.
    found: Vec<Vec<Found>>,
    /// By shard: why it has no more; `None` if it may have more.
    short: Vec<Option<Reason>>,
}

impl Lists {
    fn new(source: Source, depth: usize, shards: usize) -> Self {
        Self { source, depth: depth.max(1), found: vec![Vec::new(); shards], short: vec![None; shards] }
    }

    /// The score down to which every row is known; negative infinite if all are.
    fn reached(&self, gather: &Gather<'_>) -> f32 {
        let open = gather.live().filter(|at| self.short[*at].is_none());
        let last = |at: usize| self.found[at].last().map_or(f32::INFINITY, |found| found.row.score);
        open.map(last).fold(f32::NEG_INFINITY, f32::max)
    }

    /// Whether every row with this score or a better one is known.
    fn covers(&self, gather: &Gather<'_>, score: f32) -> bool {
        let reached = self.reached(gather);
        reached == f32::NEG_INFINITY || score > reached
    }
}

/// Returns the page. `max_k`: the most that a shard may be asked for.
///
/// # Errors
/// As [`Gather::fetch`].
pub(super) async fn page(gather: &mut Gather<'_>, max_k: usize) -> Result<Page, Status> {
    let rules = &gather.wanted.rules;
    let of_interests = rules.of_interests.iter().any(|at_least| *at_least > 0);
    let is_one_kind = (rules.fresh > 0) != of_interests;
    if is_one_kind && rules.caps.is_empty() && gather.wanted.offset == 0 {
        return whole(gather).await;
    }
    let mut lists = sources(gather, max_k);
    let mut behind: Vec<usize> = (0..lists.len()).collect();
    loop {
        fetch(gather, &mut lists, &behind).await?;
        let known = union(&lists);
        let rows: Vec<Row> = known.iter().map(|found| found.row.clone()).collect();
        let (page, pages) = choose(gather, &rows);
        behind = pages.iter().flat_map(|page| unsettled(gather, &lists, page)).collect();
        behind.sort_unstable();
        behind.dedup();
        behind.retain(|at| lists[*at].depth < max_k);
        if behind.is_empty() {
            let is_capped = pages.last().is_some_and(|page| page.is_capped);
            let found = page.into_iter().map(|at| known[at].clone()).collect();
            let shorts = lists[0].short.iter().flatten().copied().collect();
            return Ok(Page { found, is_capped, shorts, unclear: Vec::new() });
        }
        behind.iter().for_each(|at| lists[*at].depth = (2 * lists[*at].depth).min(max_k));
    }
}

/// The page of whole pages of the shards.
async fn whole(gather: &mut Gather<'_>) -> Result<Page, Status> {
    let wanted = gather.wanted;
    let requests = gather.live().map(|at| (at, wanted.whole(wanted.k))).collect();
    let parts = gather.fetch(requests).await?;
    let shorts = parts.iter().filter_map(|(_, _, part)| part.short).collect();
    let mut known: Vec<Found> = parts.into_iter().flat_map(|(_, _, part)| part.found).collect();
    known.sort_by(|one, other| one.row.best_first(&other.row));
    let rows: Vec<Row> = known.iter().map(|found| found.row.clone()).collect();
    let taken = RowPages::new(&rows, &wanted.rules).next_page(wanted.k).taken;
    let found = taken.into_iter().map(|at| known[at].clone()).collect();
    Ok(Page { found, is_capped: false, shorts, unclear: Vec::new() })
}

/// The sources of the request, the best of all first.
fn sources(gather: &Gather<'_>, max_k: usize) -> Vec<Lists> {
    let (wanted, shards) = (gather.wanted, gather.count());
    let pages = wanted.end().div_ceil(wanted.k);
    let lists = |source, count: usize| Lists::new(source, share(count.min(max_k), shards), shards);
    let mut all = vec![lists(Source::All, wanted.end())];
    if wanted.rules.fresh > 0 {
        all.push(lists(Source::Fresh, wanted.rules.fresh * pages));
    }
    for (at, at_least) in wanted.rules.of_interests.iter().enumerate().filter(|(_, least)| **least > 0) {
        all.push(lists(Source::Interest(at), at_least * pages));
    }
    all
}

/// Asks the shards that may have more rows of these lists.
async fn fetch(gather: &mut Gather<'_>, lists: &mut [Lists], behind: &[usize]) -> Result<(), Status> {
    let wanted = gather.wanted;
    let (mut requests, mut of_lists) = (Vec::new(), Vec::new());
    for at in behind {
        let Lists { source, depth, ref short, .. } = lists[*at];
        for shard in gather.live().filter(|shard| short[*shard].is_none()) {
            requests.push((shard, wanted.list(source, depth, false)));
            of_lists.push(*at);
        }
    }
    for (position, shard, part) in gather.fetch(requests).await? {
        let list = &mut lists[of_lists[position]];
        let mut found = part.found;
        list.short[shard] = part.short;
        if let Source::Interest(interest) = list.source {
            // All places are kept for this interest. Others only have those that it cannot fill.
            found.retain(|found| found.row.interest == interest);
            if found.len() < list.depth {
                list.short[shard] = list.short[shard].or(Some(Reason::TooFewMatches));
            }
        }
        list.found[shard] = found;
    }
    Ok(())
}

/// All rows that are known, best first.
fn union(lists: &[Lists]) -> Vec<Found> {
    let mut seen: HashSet<VideoId> = HashSet::new();
    let all = lists.iter().flat_map(|list| list.found.iter().flatten());
    let mut known: Vec<Found> = all.filter(|found| seen.insert(found.row.video)).cloned().collect();
    known.sort_by(|one, other| one.row.best_first(&other.row));
    known
}

/// The positions of the rows of the page, and all pages up to it.
fn choose(gather: &Gather<'_>, rows: &[Row]) -> (Vec<usize>, Vec<RowPage>) {
    let wanted = gather.wanted;
    let mut choosing = RowPages::new(rows, &wanted.rules);
    let (mut order, mut pages) = (Vec::new(), Vec::new());
    while order.len() < wanted.end() {
        let page = choosing.next_page(wanted.k);
        let is_short = page.taken.len() < wanted.k;
        order.extend(&page.taken);
        pages.push(page);
        if is_short {
            break;
        }
    }
    let mut page: Vec<usize> = order.into_iter().skip(wanted.offset).take(wanted.k).collect();
    // Of two pages, each sorted by itself.
    page.sort_unstable();
    (page, pages)
}

/// The lists that may have rows that change a page.
fn unsettled(gather: &Gather<'_>, lists: &[Lists], page: &RowPage) -> Vec<usize> {
    let (main, k) = (&lists[0], gather.wanted.k);
    let is_short = page.taken.len() < k;
    if is_short && main.reached(gather) > f32::NEG_INFINITY || !main.covers(gather, page.lowest_plain) {
        return vec![0];
    }
    let filled = |list: &Lists| match list.source {
        Source::All => f32::INFINITY,
        Source::Fresh => page.filled_fresh,
        Source::Interest(at) => page.filled[at],
    };
    let is_open = |list: &Lists| {
        let filled = filled(list);
        !main.covers(gather, filled) && !list.covers(gather, filled)
    };
    (1..lists.len()).filter(|at| is_open(&lists[*at])).collect()
}
