//! Layer 0 from overlapping groups: the best neighbors of every row within each of its groups, pruned.
//!
//! In: rows and their groups. Out: neighbor lists of up to 2m nodes. Instead of searching for the neighbors of each row,
//! all rows of a group are compared with each other, many at a time, with integer kernels (after PiPNN, arXiv 2602.21247).
//!
//! As in an HNSW built by insertion, rows have a random order; a row chooses among the rows before it and is chosen by
//! those after it: early rows get long edges, and no pair is compared twice.

use std::ops::Range;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::coded::{CodedRows, PackedRows, TILE, Tile};
use super::error::BuildError;
use super::groups::{Groups, OVERLAP};
use super::params::BuildParams;
use super::progress::Progress;
use super::select::select;
use crate::base::element::Element;
use crate::base::metric::Metric;
use crate::base::parallel;
use crate::graph::{Candidate, NONE, Score, Scorer, Selection};

/// Rows whose candidates are in memory at a time, about. Fewer take longer: their groups are compared in parts.
const PART: usize = 2_500_000;
/// Minimum number of rows per task.
pub(super) const SHARE: usize = 256;

/// Returns the neighbors of each row.
pub(super) fn from_groups<T: Element>(
    rows: &CodedRows<T>,
    groups: &Groups,
    params: &BuildParams,
    progress: &dyn Progress,
) -> Result<Vec<Vec<u32>>, BuildError> {
    progress.begin("comparing videos within groups", (rows.len() * (OVERLAP + 1)) as u64);
    let mut members = groups.members(OVERLAP);
    let ranks = ranks(rows.len(), params.seed);
    parallel::for_chunks_mut(&mut members, 1, 1, |_, members| {
        members[0].sort_unstable_by_key(|node| ranks[*node as usize]);
    });
    let mut chosen = Vec::with_capacity(rows.len());
    let parts = rows.len().div_ceil(PART);
    for part in 0..parts {
        let part = part * rows.len() / parts..(part + 1) * rows.len() / parts;
        let near = NearWithin::new(rows, &members, part.clone(), params, progress);
        chosen.extend(choose(rows, part, params, progress, |node| near.of_row(node as usize).collect()));
        stop_if_cancelled(progress)?;
    }
    drop(members);
    link_back(rows, params, &chosen, progress)
}

/// Returns an error if the build was cancelled.
pub(super) fn stop_if_cancelled(progress: &dyn Progress) -> Result<(), BuildError> {
    if progress.is_cancelled() { Err(BuildError::Cancelled) } else { Ok(()) }
}

/// Lets every row choose among the rows that it chose and those that chose it.
fn link_back<T: Element>(
    rows: &CodedRows<T>,
    params: &BuildParams,
    chosen: &[Vec<u32>],
    progress: &dyn Progress,
) -> Result<Vec<Vec<u32>>, BuildError> {
    progress.begin("linking back", rows.len() as u64);
    let back = BackEdges::of(chosen);
    let linked = choose(rows, 0..rows.len(), params, progress, |node| {
        [&chosen[node as usize], back.to(node)].concat()
    });
    stop_if_cancelled(progress)?;
    Ok(linked)
}

/// Returns how many rows of each of its groups a row chooses among.
pub(super) fn per_group(params: &BuildParams) -> usize {
    (params.ef_construction / 8).max(params.m)
}

/// Returns the neighbors that each row of `part` keeps of the candidates in `near`: at most 2m.
pub(super) fn choose<T: Element>(
    rows: &CodedRows<T>,
    part: Range<usize>,
    params: &BuildParams,
    progress: &dyn Progress,
    near: impl Fn(u32) -> Vec<u32> + Sync,
) -> Vec<Vec<u32>> {
    let choose_for = |choice: &mut Choice, node: u32| {
        if progress.is_cancelled() {
            return Vec::new();
        }
        if (node as usize).is_multiple_of(SHARE) {
            progress.advance(SHARE as u64);
        }
        choice.of(rows, params, node, near(node))
    };
    parallel::map_with(part.len(), SHARE, Choice::default, |choice, at| {
        choose_for(choice, (part.start + at) as u32)
    })
}

/// Buffers, reused from row to row.
#[derive(Default)]
pub(super) struct Choice {
    scores: Vec<f32>,
    competing: Vec<Candidate>,
}

impl Choice {
    /// Returns the neighbors that a row keeps of the candidates in `near`, at most 2m. They may be in any order and repeat.
    pub(super) fn of<T: Element>(
        &mut self,
        rows: &CodedRows<T>,
        params: &BuildParams,
        node: u32,
        mut near: Vec<u32>,
    ) -> Vec<u32> {
        let Self { scores, competing } = self;
        near.sort_unstable();
        near.dedup();
        scores.resize(near.len(), 0.0);
        let query = T::widen(rows.row(node));
        Scorer::new(params.metric, &query, &rows.vectors).score_rows(&near, scores);
        competing.clear();
        competing.extend(near.iter().zip(scores.iter()).map(|(node, score)| Candidate::new(*node, *score)));
        competing.sort_unstable();
        let kept = select(rows.selectable(params.metric), competing, 2 * params.m);
        kept.iter().map(Candidate::node).collect()
    }
}

/// By row of a part of the rows: the best other rows of each of its groups.
struct NearWithin {
    /// The first row of the part.
    first: usize,
    per_group: usize,
    /// One list of `per_group` nodes for each row of each group, padded with [`NONE`].
    lists: Vec<u32>,
    /// By row: the positions of its lists, padded with [`NONE`].
    places: Vec<[u32; OVERLAP]>,
}

impl NearWithin {
    /// `members`: the rows of each group by rank.
    fn new<T: Element>(
        rows: &CodedRows<T>,
        members: &[Vec<u32>],
        part: Range<usize>,
        params: &BuildParams,
        progress: &dyn Progress,
    ) -> Self {
        let per_group = per_group(params);
        // The positions of the rows of the part in each group.
        let wanted: Vec<Vec<u32>> = parallel::map(members.len(), 1, |group| {
            let members = members[group].iter().zip(0u32..);
            members.filter(|(node, _)| part.contains(&(**node as usize))).map(|(_, at)| at).collect()
        });
        let mut places = vec![[NONE; OVERLAP]; part.len()];
        let nodes = wanted
            .iter()
            .zip(members)
            .flat_map(|(wanted, members)| wanted.iter().map(|at| members[*at as usize]));
        for (place, node) in (0u32..).zip(nodes) {
            let free = places[node as usize - part.start].iter_mut().find(|place| **place == NONE);
            *free.expect("a row is in OVERLAP groups at most") = place;
        }
        let mut lists = vec![NONE; wanted.iter().map(Vec::len).sum::<usize>() * per_group];
        let mut rest = lists.as_mut_slice();
        let mut of_groups = Vec::with_capacity(members.len());
        for wanted in &wanted {
            let (of_group, after) = rest.split_at_mut(wanted.len() * per_group);
            of_groups.push(of_group);
            rest = after;
        }
        parallel::for_chunks_mut_with(&mut of_groups, 1, 1, Default::default, |tools, group, lists| {
            if !progress.is_cancelled() && !wanted[group].is_empty() {
                let members = (&members[group][..], &wanted[group][..]);
                compare(rows, members, params.metric, per_group, lists[0], tools);
                progress.advance(wanted[group].len() as u64);
            }
        });
        Self { first: part.start, per_group, lists, places }
    }

    fn of_row(&self, row: usize) -> impl Iterator<Item = u32> {
        let places = self.places[row - self.first].iter().filter(|place| **place != NONE);
        let lists = places.map(|place| {
            let start = *place as usize * self.per_group;
            &self.lists[start..start + self.per_group]
        });
        lists.flat_map(|list| list.iter().copied().take_while(|node| *node != NONE))
    }
}

/// Writes to `lists` for each of the members at the positions `wanted` the best `count` of the members before it, best
/// first.
fn compare<T: Element>(
    rows: &CodedRows<T>,
    (members, wanted): (&[u32], &[u32]),
    metric: Metric,
    count: usize,
    lists: &mut [u32],
    (packed, tile, selection): &mut (PackedRows, Tile, Selection),
) {
    packed.pack(rows, members, metric);
    for (share, lists) in wanted.chunks(TILE).zip(lists.chunks_mut(count * TILE)) {
        let nodes = share.iter().map(|at| members[*at as usize]);
        let scores = tile.score_nodes(rows, nodes, packed, share[share.len() - 1] as usize);
        for ((own, scores), list) in share.iter().zip(scores).zip(lists.chunks_mut(count)) {
            let before = selection.best(&scores[..*own as usize], count).iter();
            let others = before.map(|found| members[found.node() as usize]);
            list.iter_mut().zip(others).for_each(|(place, other)| *place = other);
        }
    }
}

/// The edges of a graph by target.
pub(super) struct BackEdges {
    /// `[n + 1]`: where the sources of each target start in `from`.
    starts: Vec<u32>,
    from: Vec<u32>,
}

impl BackEdges {
    pub(super) fn of(lists: &[Vec<u32>]) -> Self {
        let edges =
            || lists.iter().zip(0u32..).flat_map(|(list, from)| list.iter().map(move |to| (from, *to)));
        let mut starts = vec![0u32; lists.len() + 1];
        edges().for_each(|(_, to)| starts[to as usize] += 1);
        let mut total = 0;
        for start in &mut starts {
            total += *start;
            *start = total;
        }
        // Each range is filled from its end, which leaves `starts` at the beginning of each range.
        let mut from = vec![0u32; total as usize];
        for (node, to) in edges() {
            starts[to as usize] -= 1;
            from[starts[to as usize] as usize] = node;
        }
        Self { starts, from }
    }

    pub(super) fn to(&self, node: u32) -> &[u32] {
        &self.from[self.starts[node as usize] as usize..self.starts[node as usize + 1] as usize]
    }
}

/// Returns the rank of each row in a random order.
fn ranks(rows: usize, seed: u64) -> Vec<u32> {
    let mut ranks: Vec<u32> = (0..rows as u32).collect();
    ranks.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::progress::Silent;
    use crate::quantize::{Codes, fit_tightest};

    #[test]
    fn parts_have_the_same_candidates_as_the_whole() {
        let (dim, nodes) = (4, 1500);
        let vectors: Vec<f32> = (0..nodes * dim).map(|at| (at * 7919 % 1009) as f32 / 1009.0).collect();
        let params = BuildParams::new(Metric::InnerProduct, 16, 200).expect("they are valid");
        for metric in [Metric::InnerProduct, Metric::L2] {
            let groups = Groups::new(&vectors, dim, metric, &Silent);
            let quantizer = fit_tightest(Codes::Sq8, &vectors, dim, metric).quantizer;
            let rows = CodedRows::new(vectors.clone(), dim, quantizer, nodes, true);
            let members = groups.members(OVERLAP);
            let near = |part: Range<usize>| {
                let near = NearWithin::new(&rows, &members, part.clone(), &params, &Silent);
                part.map(|row| near.of_row(row).collect::<Vec<u32>>()).collect::<Vec<_>>()
            };
            let whole = near(0..nodes);
            assert!(whole.iter().filter(|near| near.len() > per_group(&params)).count() > nodes / 2);
            assert_eq!([near(0..1), near(1..700), near(700..nodes)].concat(), whole);
        }
    }
}
