use std::collections::BTreeSet;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::candidates::Candidate;
use super::super::scorer::CodeScorer;
use super::super::scratch::Scratch;
use super::*;
use crate::base::interrupt::Interrupt;
use crate::base::metric::Metric;
use crate::graph::scan_matching;
use crate::node_set::NodeSet;
use crate::quantize::{
    BlockSummary, Codes, FittedAxes, QueryCodes, ResidualCodes, ResidualTable, fit_tightest,
};

const DIM: usize = 32;
pub(super) const ROWS: usize = 5_000;

fn codes_of(summary: &BlockSummary) -> ResidualCodes<'_> {
    let BlockSummary { axes, deviations, widths, .. } = summary;
    ResidualCodes { axes: axes.as_ref().map(FittedAxes::view), deviations, widths }
}

/// Rows of ten clusters, one cluster after another, in blocks; and a query.
pub(super) struct Sample {
    summary: BlockSummary,
    codes: Vec<u8>,
    query_codes: QueryCodes,
    residuals: ResidualTable,
}

impl Sample {
    fn new() -> Self {
        Self::in_regions_of(8)
    }

    /// With regions of `size` blocks.
    pub(super) fn in_regions_of(size: usize) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let mut row = |center: usize| -> Vec<f32> {
            let at = |dim: usize| if dim == center % DIM { 2.0 } else { 0.0 };
            (0..DIM).map(|dim| at(dim) + random.random_range(-0.5f32..0.5)).collect()
        };
        let vectors: Vec<f32> = (0..ROWS).flat_map(|at| row(at * 10 / ROWS)).collect();
        let query = row(3);
        let quantizer = fit_tightest(Codes::Sq8, &vectors, DIM, Metric::InnerProduct).quantizer;
        let blocks = BlockSummary::blocks(ROWS) as u32;
        let regions = (0..blocks).step_by(size).chain([blocks]).collect();
        let summary = BlockSummary::of(&vectors, DIM, &quantizer, regions, None);
        let (mut query_codes, mut residuals) = (QueryCodes::default(), ResidualTable::default());
        quantizer.encode_query(&query, &mut query_codes);
        residuals.fill(&query, &codes_of(&summary), 1.0 / query_codes.affine()[0].scale);
        Self { codes: quantizer.encode_all(&vectors), summary, query_codes, residuals }
    }

    fn scan(&self, matches: Option<&NodeSet>, keep: usize, missed: f32, scratch: &mut Scratch) -> Vec<u32> {
        let scorer = |rows| CodeScorer::new(self.query_codes.as_slice(), rows);
        let scan = BlockScan { k: (keep * 2 / 3).max(1), keep, missed };
        let scorers = BlockScorers { queries: &[self.query()], nodes: &scorer(&self.codes) };
        let (mut memory, mut never) = (BlockScratch::default(), Interrupt::never());
        self.with_blocks(|blocks| {
            scan_blocks(blocks, scorers, matches, &scan, scratch, &mut memory, &mut never)
        });
        scratch.found.sort_unstable();
        scratch.found.iter().map(Candidate::node).collect()
    }

    pub(super) fn query(&self) -> BlockQuery<'_> {
        let means = CodeScorer::new(self.query_codes.as_slice(), &self.summary.means);
        BlockQuery { means, offset: 0.0, scale: 1.0, residuals: &self.residuals }
    }

    pub(super) fn with_blocks<R>(&self, use_blocks: impl FnOnce(&Blocks<'_>) -> R) -> R {
        let BlockSummary { regions, means, spreads, row_residuals, .. } = &self.summary;
        let largest_spreads = &BlockSummary::largest_spreads(regions, spreads)[..];
        use_blocks(&Blocks {
            rows: ROWS,
            nodes: ROWS,
            regions,
            means,
            spreads,
            largest_spreads,
            codes: codes_of(&self.summary),
            row_residuals,
        })
    }
}

#[test]
fn the_best_of_a_set_are_found_wherever_it_lies() {
    let (sample, mut scratch) = (Sample::new(), Scratch::default());
    let sets: [fn(u32) -> bool; 5] =
        [|_| true, |node| node % 7 == 0, |node| node < 1_000, |node| node >= 4_000, |node| node == 4_999];
    for (number, holds) in sets.into_iter().enumerate() {
        let mut matches = NodeSet::none(ROWS);
        (0..ROWS as u32).filter(|node| holds(*node)).for_each(|node| matches.insert(node));
        let codes = CodeScorer::new(sample.query_codes.as_slice(), &sample.codes);
        scan_matching(&codes, &matches, 30, &mut scratch, &mut Interrupt::never());
        let expected: Vec<u32> = scratch.found.iter().map(Candidate::node).collect();
        let found = sample.scan((number > 0).then_some(&matches), 45, 0.0, &mut scratch);
        let hits = expected.iter().filter(|node| found.contains(node)).count();
        assert!(found.iter().all(|node| matches.contains(*node)), "set {number}: {found:?}");
        assert!(hits * 100 >= 95 * expected.len(), "set {number}: {hits} of {}", expected.len());
    }
}

#[test]
fn damaged_blocks_bring_no_scan_down() {
    let half = {
        let mut half = NodeSet::none(ROWS);
        (0..ROWS as u32).step_by(2).for_each(|node| half.insert(node));
        half
    };
    let mut scratch = Scratch::default();
    for damage in [f32::NAN, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 0.0] {
        for every in [1, 3] {
            let mut sample = Sample::new();
            sample.summary.spreads.iter_mut().step_by(every).for_each(|spread| *spread = damage);
            for matches in [None, Some(&half), Some(&NodeSet::none(ROWS))] {
                for keep in [0, 1, 100] {
                    assert!(sample.scan(matches, keep, 0.05, &mut scratch).len() <= keep);
                }
            }
            sample.summary.regions.fill(7);
            sample.scan(Some(&NodeSet::none(ROWS)), 0, 0.05, &mut scratch);
            sample.scan(None, 100, 0.05, &mut scratch);
            // Where regions overlap, no node is found twice.
            for regions in [[0, 50, 3, 60], [9, 9, 90, 5], [3, u32::MAX, 0, 79]] {
                sample.summary.regions[..4].copy_from_slice(&regions);
                let found = sample.scan(None, 100, 0.05, &mut scratch);
                assert_eq!(BTreeSet::from_iter(&found).len(), found.len(), "{regions:?}");
            }
        }
    }
}
