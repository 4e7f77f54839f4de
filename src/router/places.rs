//! A page with kept places: for fresh videos, for other reserves, for interests.
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
//! deepened until no unknown row could change the page, as one server does: the best of all, the best of each reserve, the best of
//! each interest. Of a reserve whose videos are drawn, each shard says which it would draw first, and the order in which all of them are
//! drawn is known from their scores.

use std::collections::{HashMap, HashSet};

use tonic::Status;

use super::gather::Gather;
use super::page::Page;
use super::row::Found;
use super::share::share;
use super::wanted::Source;
use crate::base::id::VideoId;
use crate::rules::{Diversity, Sample};
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
    /// Whether it was fetched before. Then most embeddings are known, and the others are looked up.
    is_known: bool,
}

impl Lists {
    fn new(source: Source, depth: usize, shards: usize) -> Self {
        Self {
            source,
            depth: depth.max(1),
            found: vec![Vec::new(); shards],
            short: vec![None; shards],
            is_known: false,
        }
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
    let (k, end, offset) = (gather.wanted.k, gather.wanted.end(), gather.wanted.offset);
    let rules = &gather.wanted.rules;
    let of_interests = rules.of_interests.iter().any(|at_least| *at_least > 0);
    let of_reserves = rules.of_reserves.iter().filter(|reserve| reserve.at_least > 0);
    let kinds = of_reserves.count() + usize::from(of_interests);
    let has_whole_pages = kinds == 1
        && gather.wanted.sampled.is_empty()
        && rules.caps.is_empty()
        && !gather.wanted.is_diverse();
    if has_whole_pages && offset == 0 {
        return whole(gather).await;
    }
    if gather.wanted.is_exact || offset == 0 {
        let mut lists = sources(gather, end.div_ceil(k), max_k);
        let all = (0..lists.len()).collect();
        let chosen = settle(gather, &mut lists, all, Page::default(), end, max_k).await?;
        return Ok(cut(gather, chosen));
    }
    // One page after another, each as the search for it found it, so that no row is on two pages.
    let (mut chosen, mut lists, mut level) = (Page::default(), Vec::new(), 0);
    for number in 0..end.div_ceil(k) {
        let count = chosen.found.len();
        if number == 0 && has_whole_pages {
            chosen = whole(gather).await?;
        } else {
            let mut behind = Vec::new();
            if level != (number + 1).next_power_of_two() {
                level = (number + 1).next_power_of_two();
                lists = sources(gather, level, max_k);
                behind = (0..lists.len()).collect();
            }
            chosen = settle(gather, &mut lists, behind, chosen, count + k, max_k).await?;
        }
        if chosen.found.len() < count + k {
            break;
        }
    }
    Ok(cut(gather, chosen))
}

/// Cuts a page out of the rows of all pages.
fn cut(gather: &Gather<'_>, mut chosen: Page) -> Page {
    let wanted = gather.wanted;
    chosen.found.drain(..wanted.offset.min(chosen.found.len()));
    chosen.found.truncate(wanted.k);
    if wanted.rules.diversity.lambda.is_none() {
        // Of two pages, each sorted by itself.
        chosen.found.sort_by(|one, other| one.row.best_first(&other.row));
    }
    chosen
}

/// Chooses pages after those that are `chosen`, up to `end` rows, from lists that are deepened until no unknown row could change
/// them. `behind`: the lists that are fetched first.
async fn settle(
    gather: &mut Gather<'_>,
    lists: &mut [Lists],
    mut behind: Vec<usize>,
    mut chosen: Page,
    end: usize,
    max_k: usize,
) -> Result<Page, Status> {
    loop {
        fetch(gather, lists, &behind).await?;
        let mut known = union(gather, lists, &chosen.found);
        if gather.wanted.is_diverse() {
            complete(gather, &mut known).await?;
        }
        let rows: Vec<Row> = known.iter().map(|found| found.row.clone()).collect();
        let draws = draws(gather, lists, &rows);
        let (order, pages) = choose(gather, &rows, draws, &chosen.found, end);
        behind = pages.iter().flat_map(|page| unsettled(gather, lists, &rows, page)).collect();
        behind.sort_unstable();
        behind.dedup();
        behind.retain(|at| lists[*at].depth < max_k);
        if behind.is_empty() {
            let held: HashMap<usize, u32> = held_by_row(&pages);
            chosen.found.extend(order.into_iter().map(|at| marked(gather, &known[at], held.get(&at))));
            chosen.is_capped = pages.last().is_some_and(|page| page.is_capped);
            chosen.is_similar = pages.last().is_some_and(|page| page.is_similar);
            chosen.shorts = lists[0].short.iter().flatten().copied().collect();
            return Ok(chosen);
        }
        behind.iter().for_each(|at| lists[*at].depth = (2 * lists[*at].depth).min(max_k));
    }
}

/// The page of whole pages of the shards.
async fn whole(gather: &mut Gather<'_>) -> Result<Page, Status> {
    let wanted = gather.wanted;
    let shards: Vec<usize> = gather.live().collect();
    let parts = gather.fetch(&shards, &|at| wanted.whole(shards[at], wanted.k)).await?;
    let shorts = parts.iter().filter_map(|(_, _, part)| part.short).collect();
    let mut known: Vec<Found> = parts.into_iter().flat_map(|(_, _, part)| part.found).collect();
    known.sort_by(|one, other| one.row.best_first(&other.row));
    let rows: Vec<Row> = known.iter().map(|found| found.row.clone()).collect();
    let page = RowPages::new(&rows, &wanted.rules, Vec::new()).next_page(wanted.k);
    let held = held_by_row(std::slice::from_ref(&page));
    let found = page.taken.into_iter().map(|at| marked(gather, &known[at], held.get(&at))).collect();
    Ok(Page { found, shorts, ..Page::default() })
}

/// The sources of this many pages of the request, the best of all first.
fn sources(gather: &Gather<'_>, pages: usize, max_k: usize) -> Vec<Lists> {
    let (wanted, shards) = (gather.wanted, gather.count());
    let lists = |source, count: usize| Lists::new(source, share(count.min(max_k), shards), shards);
    // A page by marginal relevance is chosen among more rows.
    let factor = if wanted.rules.diversity.lambda.is_some() { Diversity::CHOSEN_AMONG } else { 1 };
    let pages = pages * factor;
    let mut all = vec![lists(Source::All, wanted.k * pages)];
    let has_fresh = wanted.fresh.is_some();
    for (group, reserve) in wanted.rules.of_reserves.iter().enumerate() {
        let source = match group.checked_sub(usize::from(has_fresh)) {
            None => Source::Fresh,
            Some(at) if reserve.is_drawn => Source::Drawn(at),
            Some(at) => Source::Reserve(at),
        };
        if reserve.at_least > 0 {
            all.push(lists(source, reserve.at_least * pages));
        }
    }
    for (at, at_least) in wanted.rules.of_interests.iter().enumerate().filter(|(_, least)| **least > 0) {
        all.push(lists(Source::Interest(at), at_least * pages));
    }
    // A row that is known from another list, too, may be chosen for its score.
    all.sort_by_key(|lists| matches!(lists.source, Source::Drawn(_)));
    all
}

/// Asks the shards that may have more rows of these lists.
async fn fetch(gather: &mut Gather<'_>, lists: &mut [Lists], behind: &[usize]) -> Result<(), Status> {
    let wanted = gather.wanted;
    let (mut shards, mut of_lists) = (Vec::new(), Vec::new());
    for at in behind {
        let open = gather.live().filter(|shard| lists[*at].short[*shard].is_none());
        let open: Vec<usize> = open.collect();
        of_lists.extend(open.iter().map(|_| (*at, lists[*at].source, lists[*at].depth)));
        shards.extend(open);
    }
    let is_known: Vec<bool> = of_lists.iter().map(|(list, ..)| lists[*list].is_known).collect();
    let request = |at: usize| {
        let (_, source, depth) = of_lists[at];
        let mut request = wanted.list(shards[at], source, depth, false);
        request.return_vectors |= wanted.is_diverse() && !is_known[at];
        request
    };
    behind.iter().for_each(|at| lists[*at].is_known = true);
    for (position, shard, part) in gather.fetch(&shards, &request).await? {
        let list = &mut lists[of_lists[position].0];
        let mut found = part.found;
        list.short[shard] = part.short;
        // All places are kept for this group. Others only have those that it cannot fill.
        match list.source {
            Source::All | Source::Fresh => {}
            Source::Interest(interest) => found.retain(|found| found.row.interest == interest),
            Source::Reserve(_) | Source::Drawn(_) => {
                let group = wanted.group(list.source).unwrap_or_default();
                found.retain(|found| found.row.reserves >> group & 1 != 0);
            }
        }
        if found.len() < list.depth {
            list.short[shard] = list.short[shard].or(Some(Reason::TooFewMatches));
        }
        list.found[shard] = found;
    }
    Ok(())
}

/// Adds the embeddings that are not known yet.
async fn complete(gather: &mut Gather<'_>, known: &mut [Found]) -> Result<(), Status> {
    let lacking = known.iter().filter(|found| found.row.embedding.is_none());
    let videos: Vec<VideoId> = lacking.map(|found| found.row.video).collect();
    gather.fetch_embeddings(&videos).await?;
    for found in known.iter_mut().filter(|found| found.row.embedding.is_none()) {
        found.row.embedding = gather.keys.embeddings.get(&found.row.video).cloned();
    }
    Ok(())
}

/// The rows of the pages before and those down to which each list is known, best first. Rows that one shard has below are left out:
/// another shard may have better ones.
fn union(gather: &Gather<'_>, lists: &[Lists], chosen: &[Found]) -> Vec<Found> {
    let mut seen: HashSet<VideoId> = HashSet::new();
    let mut known: Vec<Found> = chosen.to_vec();
    seen.extend(chosen.iter().map(|found| found.row.video));
    for list in lists {
        let open = gather.live().filter(|at| list.short[*at].is_none());
        let last = open.filter_map(|at| list.found[at].last()).map(|found| &found.row);
        let frontier = last.min_by(|one, other| one.best_first(other));
        let is_known =
            |found: &&Found| frontier.is_none_or(|frontier| !found.row.best_first(frontier).is_gt());
        let is_drawn = matches!(list.source, Source::Drawn(_));
        let found = list.found.iter().flatten().filter(|found| is_drawn || is_known(found));
        let new = found.filter(|found| seen.insert(found.row.video)).cloned();
        known.extend(new.map(|mut found| {
            found.row.is_ranked = !is_drawn;
            found
        }));
    }
    known.sort_by(|one, other| one.row.best_first(&other.row));
    known
}

/// The positions of the rows of further pages, and these pages.
fn choose(
    gather: &Gather<'_>,
    rows: &[Row],
    draws: Vec<(usize, Vec<usize>)>,
    chosen: &[Found],
    end: usize,
) -> (Vec<usize>, Vec<RowPage>) {
    let wanted = gather.wanted;
    let mut choosing = RowPages::new(rows, &wanted.rules, draws);
    let before: HashSet<VideoId> = chosen.iter().map(|found| found.row.video).collect();
    let taken = rows.iter().enumerate().filter(|(_, row)| before.contains(&row.video));
    taken.for_each(|(at, _)| choosing.take(at));
    let (mut order, mut pages) = (Vec::new(), Vec::new());
    while chosen.len() + order.len() < end {
        let page = choosing.next_page(wanted.k);
        let is_short = page.taken.len() < wanted.k;
        order.extend(&page.taken);
        pages.push(page);
        if is_short {
            break;
        }
    }
    (order, pages)
}

/// The lists that may have rows that change a page.
fn unsettled(gather: &Gather<'_>, lists: &[Lists], rows: &[Row], page: &RowPage) -> Vec<usize> {
    let (main, k) = (&lists[0], gather.wanted.k);
    let is_diverse = gather.wanted.rules.diversity.lambda.is_some();
    let is_short = page.taken.len() < k;
    let is_main_behind = match is_diverse {
        true => !main.covers(gather, page.lowest),
        false => {
            is_short && main.reached(gather) > f32::NEG_INFINITY
                || !main.covers(gather, lowest_free(rows, page))
        }
    };
    if is_main_behind {
        return vec![0];
    }
    // Down to these scores, the rows of each group must be known.
    let needed = if is_diverse { &page.lowest_of } else { &page.filled };
    let is_open = |list: &Lists| {
        let Some(group) = gather.wanted.group(list.source) else { return false };
        if matches!(list.source, Source::Drawn(_)) {
            return page.undrawn.contains(&group) && list.reached(gather) > f32::NEG_INFINITY;
        }
        !main.covers(gather, needed[group]) && !list.covers(gather, needed[group])
    };
    (1..lists.len()).filter(|at| is_open(&lists[*at])).collect()
}

/// The lowest score of a row of a page that fills no kept place: it was taken in its turn, or a place that was kept stayed free. No
/// unknown row may be better. Infinite if there is none.
fn lowest_free(rows: &[Row], page: &RowPage) -> f32 {
    let held: HashSet<usize> = page.held.iter().map(|(at, _)| *at).collect();
    let free = page.taken.iter().filter(|at| !held.contains(*at)).map(|at| rows[*at].score);
    free.fold(page.lowest_plain, f32::min)
}

/// For each reserve whose videos are drawn, the positions of its rows in the order in which they are. Rows after the last known one of
/// some shard are left out: it may have others that are drawn before.
fn draws(gather: &Gather<'_>, lists: &[Lists], rows: &[Row]) -> Vec<(usize, Vec<usize>)> {
    let wanted = gather.wanted;
    let position: HashMap<VideoId, usize> =
        rows.iter().enumerate().map(|(at, row)| (row.video, at)).collect();
    let of = |(reserve, sample): &(usize, Sample)| {
        let source = Source::Drawn(*reserve);
        let list = lists.iter().find(|list| list.source == source)?;
        let key = |found: &Found| sample.key(found.row.score, found.row.video);
        let lowest = |shard: usize| list.found[shard].iter().map(key).min_by(f64::total_cmp);
        let open = gather.live().filter(|shard| list.short[*shard].is_none());
        let frontier =
            open.map(|shard| lowest(shard).unwrap_or(f64::INFINITY)).fold(f64::NEG_INFINITY, f64::max);
        let all = list.found.iter().flatten().map(|found| (key(found), found.row.video));
        let mut known: Vec<(f64, VideoId)> = all.filter(|(key, _)| *key >= frontier).collect();
        known.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
        let order = known.iter().filter_map(|(_, video)| position.get(video).copied());
        Some((wanted.group(source)?, order.collect()))
    };
    wanted.sampled.iter().filter_map(of).collect()
}

/// The groups whose kept places rows hold, by position.
fn held_by_row(pages: &[RowPage]) -> HashMap<usize, u32> {
    let mut held: HashMap<usize, u32> = HashMap::new();
    for (at, groups) in pages.iter().flat_map(|page| &page.held) {
        *held.entry(*at).or_default() |= groups;
    }
    held
}

/// The row with the reserves whose places it holds, unless the caller wants those that it matches.
fn marked(gather: &Gather<'_>, found: &Found, held: Option<&u32>) -> Found {
    let wanted = gather.wanted;
    let mut found = found.clone();
    if !wanted.marks_matches {
        let bits = held.copied().unwrap_or_default() >> u32::from(wanted.fresh.is_some());
        let reserves = wanted.request.reserve.len() as u32;
        found.candidate.reserved = (0..reserves).filter(|at| bits >> at & 1 != 0).collect();
    }
    found
}
