//! Blocks of consecutive rows that are near each other: a summary of every block, and its rows relative to its mean.

use super::axes::{Axes, FittedAxes, along};
use super::moment::SecondMoment;
use super::registry::Quantizer;
use super::residual::encode_residual;
use super::widths::{plain_widths, residual_block_bytes};
use crate::base::element::Element;
use crate::base::parallel;
use crate::kernel::NIBBLE_ROWS;

/// Rows per block; the last block may have fewer.
pub const ROWS_PER_BLOCK: usize = NIBBLE_ROWS;
/// Blocks per partial sum of deviations. Fixed, so that the result does not depend on the number of threads.
const BLOCKS_PER_SUM: usize = 64;
/// Sample of blocks from whose rows the axes are fitted.
const SAMPLED_BLOCKS: usize = 128;

/// The mean of every block and region, the spread around it, and residual codes of all rows relative to the mean of their
/// block. A region is a range of consecutive blocks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlockSummary {
    /// `[regions + 1]`: the first block of each region, ascending, then the number of blocks.
    pub regions: Vec<u32>,
    /// `[(blocks + regions) × stride]`: the codes of the means.
    pub means: Vec<u8>,
    /// `[blocks + regions]`: of a block, the root mean square of the differences between its rows and its mean, per
    /// axis; of a region, the same for the means of its blocks.
    pub spreads: Vec<f32>,
    /// `None` if the axes are the dimensions.
    pub axes: Option<FittedAxes>,
    /// `[axes]`: the standard deviation of residuals along each axis, as a share of the spread.
    pub deviations: Vec<f32>,
    /// `[axes]`: the bits per axis.
    pub widths: Vec<u8>,
    /// Residual codes of the rows relative to the mean of their block, in blocks of 64.
    pub row_residuals: Vec<u8>,
}

impl BlockSummary {
    /// Returns the number of blocks of `rows` rows.
    pub fn blocks(rows: usize) -> usize {
        rows.div_ceil(ROWS_PER_BLOCK)
    }

    /// Returns the largest spread of the blocks of each region, `[regions]`, given the fields of a summary; −∞ for a region
    /// that overlaps an earlier one or has blocks without a spread.
    pub fn largest_spreads(regions: &[u32], spreads: &[f32]) -> Vec<f32> {
        let mut reached = 0;
        let of_region = |ends: &[u32]| {
            let blocks =
                (ends[0] >= reached).then(|| spreads.get(ends[0] as usize..ends[1] as usize)).flatten();
            reached = reached.max(ends[1]);
            blocks.map_or(f32::NEG_INFINITY, |spreads| spreads.iter().copied().fold(0.0, f32::max))
        };
        regions.windows(2).map(of_region).collect()
    }

    /// Summarizes `vectors`, `[n × dim]`, with `regions` as in the field. The axes are fitted to the second moment of
    /// `queries`. The same rows give the same bytes.
    pub fn of<T: Element>(
        vectors: &[T],
        dim: usize,
        quantizer: &Quantizer,
        regions: Vec<u32>,
        queries: Option<&SecondMoment>,
    ) -> Self {
        let centers = Centers::of(vectors, dim, quantizer, &regions);
        let fitted = queries.and_then(|queries| FittedAxes::fit(queries, &centers.differences(vectors), dim));
        let (axes, widths) =
            fitted.map_or_else(|| (None, plain_widths(dim)), |(axes, widths)| (Some(axes), widths));
        Self::along_axes(vectors, &centers, regions, axes, widths)
    }

    /// As [`Self::of`], with given `axes` and `widths`.
    ///
    /// # Panics
    /// If the numbers of widths and axes differ.
    pub fn with_axes<T: Element>(
        vectors: &[T],
        dim: usize,
        quantizer: &Quantizer,
        regions: Vec<u32>,
        axes: Option<FittedAxes>,
        widths: Vec<u8>,
    ) -> Self {
        let centers = Centers::of(vectors, dim, quantizer, &regions);
        Self::along_axes(vectors, &centers, regions, axes, widths)
    }

    fn along_axes<T: Element>(
        vectors: &[T],
        centers: &Centers,
        regions: Vec<u32>,
        axes: Option<FittedAxes>,
        widths: Vec<u8>,
    ) -> Self {
        let differences =
            Differences { centers, axes: axes.as_ref().map(FittedAxes::view), count: widths.len() };
        let (mut spreads, deviations) = differences.of_rows(vectors);
        spreads.extend(differences.of_blocks(&regions, spreads.len()));
        let encoded = parallel::map_chunks(vectors, centers.dim * ROWS_PER_BLOCK, 1, |block, rows| {
            let mut codes = vec![0; residual_block_bytes(&widths)];
            let mut along = Vec::new();
            for (at, row) in rows.chunks(centers.dim).enumerate() {
                differences.along(&T::widen(row), block, &mut along);
                encode_residual(&along, spreads[block], (&deviations, &widths), at, &mut codes);
            }
            codes
        });
        let row_residuals = encoded.concat();
        Self { regions, means: centers.codes.clone(), spreads, axes, deviations, widths, row_residuals }
    }
}

/// The means of all blocks, then of all regions, rounded to their codes.
struct Centers {
    dim: usize,
    codes: Vec<u8>,
    /// `[(blocks + regions) × dim]`.
    rows: Vec<f32>,
}

impl Centers {
    fn of<T: Element>(vectors: &[T], dim: usize, quantizer: &Quantizer, regions: &[u32]) -> Self {
        let of_blocks = vectors.chunks(dim * ROWS_PER_BLOCK);
        let of_regions = regions.windows(2).map(|ends| {
            let [first, end] = [ends[0], ends[1]].map(|block| block as usize * ROWS_PER_BLOCK * dim);
            &vectors[first..end.min(vectors.len())]
        });
        let groups: Vec<&[T]> = of_blocks.chain(of_regions).collect();
        let coded = parallel::map(groups.len(), 1, |group| {
            let mut code = vec![0; quantizer.stride()];
            quantizer.encode(&mean(groups[group], dim), &mut code);
            let row = quantizer.decode(&code);
            (code, row)
        });
        let (codes, rows): (Vec<Vec<u8>>, Vec<Vec<f32>>) = coded.into_iter().unzip();
        Self { dim, codes: codes.concat(), rows: rows.concat() }
    }

    fn row(&self, at: usize) -> &[f32] {
        &self.rows[at * self.dim..(at + 1) * self.dim]
    }

    /// Computes the second moment of the differences between the rows of sampled blocks and their means.
    fn differences<T: Element>(&self, vectors: &[T]) -> SecondMoment {
        let blocks: Vec<(usize, &[T])> = vectors.chunks(self.dim * ROWS_PER_BLOCK).enumerate().collect();
        let every = blocks.len().div_ceil(SAMPLED_BLOCKS).max(1);
        let some = blocks.into_iter().step_by(every);
        let rows: Vec<(usize, &[T])> =
            some.flat_map(|(block, rows)| rows.chunks(self.dim).map(move |row| (block, row))).collect();
        SecondMoment::of(&rows, self.dim, |(block, row)| {
            T::widen(row).iter().zip(self.row(*block)).map(|(value, mean)| value - mean).collect()
        })
    }
}

/// Differences between rows and centers, in coordinates along axes.
struct Differences<'a> {
    centers: &'a Centers,
    /// `None` if the axes are the dimensions.
    axes: Option<Axes<'a>>,
    /// The number of axes.
    count: usize,
}

impl Differences<'_> {
    /// Replaces the contents of `out` with the difference between `row` and a center, `[axes]`.
    fn along(&self, row: &[f32], center: usize, out: &mut Vec<f32>) {
        let differences = row.iter().zip(self.centers.row(center)).map(|(value, mean)| value - mean);
        out.clear();
        match self.axes {
            Some(axes) => out.extend(along(axes.of_rows, &differences.collect::<Vec<f32>>())),
            None => out.extend(differences),
        }
        assert_eq!(out.len(), self.count, "the numbers of widths and axes differ");
    }

    /// Returns the spread of each block, and the standard deviation of residuals along each axis as a share of it.
    fn of_rows<T: Element>(&self, vectors: &[T]) -> (Vec<f32>, Vec<f32>) {
        let dim = self.centers.dim;
        let of_share = |share: usize, rows: &[T]| {
            let (mut squares, mut spreads) = (vec![0f64; self.count], Vec::with_capacity(BLOCKS_PER_SUM));
            let (mut along, mut of_block) = (Vec::new(), Vec::new());
            for (block, rows) in rows.chunks(dim * ROWS_PER_BLOCK).enumerate() {
                of_block.clear();
                for row in rows.chunks(dim) {
                    self.along(&T::widen(row), share * BLOCKS_PER_SUM + block, &mut along);
                    of_block.extend_from_slice(&along);
                }
                let spread = spread(of_block.chunks(self.count));
                let inverse = if spread > 0.0 { 1.0 / spread } else { 0.0 };
                for along in of_block.chunks(self.count) {
                    for (sum, difference) in squares.iter_mut().zip(along) {
                        let scaled = f64::from(difference * inverse);
                        *sum += scaled * scaled;
                    }
                }
                spreads.push(spread);
            }
            (spreads, squares)
        };
        let shares = parallel::map_chunks(vectors, dim * ROWS_PER_BLOCK * BLOCKS_PER_SUM, 1, of_share);
        let (spreads, squares): (Vec<Vec<f32>>, Vec<Vec<f64>>) = shares.into_iter().unzip();
        let rows = (vectors.len() / dim).max(1) as f64;
        let total = |axis: usize| squares.iter().map(|part| part[axis]).sum::<f64>();
        (spreads.concat(), (0..self.count).map(|axis| (total(axis) / rows).sqrt() as f32).collect())
    }

    /// Returns the spread of the means of the blocks of each region, given the number of all `blocks`.
    fn of_blocks(&self, regions: &[u32], blocks: usize) -> Vec<f32> {
        let of_region = |region: usize| {
            let mut along = Vec::new();
            let of_means = (regions[region]..regions[region + 1]).map(|block| {
                self.along(self.centers.row(block as usize), blocks + region, &mut along);
                along.clone()
            });
            spread(of_means)
        };
        parallel::map(regions.len().saturating_sub(1), 1, of_region)
    }
}

/// Returns the mean of `rows`, `[n × dim]`.
fn mean<T: Element>(rows: &[T], dim: usize) -> Vec<f32> {
    let mut sums = vec![0f64; dim];
    for row in rows.chunks(dim) {
        sums.iter_mut().zip(T::widen(row).iter()).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    let count = (rows.len() / dim).max(1) as f64;
    sums.into_iter().map(|sum| (sum / count) as f32).collect()
}

/// Returns the root mean square of differences, per axis.
fn spread<R: AsRef<[f32]>>(differences: impl Iterator<Item = R>) -> f32 {
    let (mut squares, mut count) = (0f64, 0usize);
    for row in differences {
        squares += row
            .as_ref()
            .iter()
            .map(|difference| f64::from(*difference))
            .map(|value| value * value)
            .sum::<f64>();
        count += row.as_ref().len();
    }
    (squares / count.max(1) as f64).sqrt() as f32
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::base::metric::Metric;
    use crate::quantize::{Codes, ResidualCodes, ResidualTable, fit_tightest};

    const DIM: usize = 48;

    /// Returns the root mean square error of estimated scores relative to the spread of the scores within a block.
    fn error_of(summary: &BlockSummary, vectors: &[f32], quantizer: &Quantizer, query: &[f32]) -> f32 {
        let BlockSummary { axes, deviations, widths, .. } = summary;
        let mut table = ResidualTable::default();
        table.fill(
            query,
            &ResidualCodes { axes: axes.as_ref().map(FittedAxes::view), deviations, widths },
            1.0,
        );
        let centers = Centers::of(vectors, DIM, quantizer, &summary.regions);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let (mut squares, mut all) = (0.0, 0.0);
        for (block, rows) in vectors.chunks(DIM * ROWS_PER_BLOCK).enumerate() {
            let bytes = residual_block_bytes(widths);
            let codes = &summary.row_residuals[block * bytes..(block + 1) * bytes];
            let center = dot(query, centers.row(block));
            let mut estimates = [0.0; ROWS_PER_BLOCK];
            table.score(codes, (center, summary.spreads[block]), 0.0, &mut estimates);
            for (row, estimate) in rows.chunks(DIM).zip(estimates) {
                let score = dot(query, row);
                squares += (score - estimate) * (score - estimate);
                all += (score - center) * (score - center);
            }
        }
        (squares / all).sqrt()
    }

    #[test]
    fn fitted_axes_take_fewer_bytes_for_equally_good_estimates() {
        let mut random = ChaCha8Rng::seed_from_u64(9);
        // Rows differ in all directions; queries are large along some directions that are not dimensions.
        let mut vector = |scale: &dyn Fn(usize) -> f32| -> Vec<f32> {
            (0..DIM).map(|dim| scale(dim) * random.random_range(-1.0f32..1.0)).collect()
        };
        let vectors: Vec<f32> = (0..40 * ROWS_PER_BLOCK).flat_map(|_| vector(&|_| 1.0)).collect();
        let turned = |vector: Vec<f32>| -> Vec<f32> {
            let along =
                |a: usize| (0..DIM).map(move |b| ((a * b) as f32 * std::f32::consts::PI / DIM as f32).cos());
            let mut turned = vec![0.0; DIM];
            for (a, value) in vector.iter().enumerate() {
                turned.iter_mut().zip(along(a)).for_each(|(sum, along)| *sum += value * along);
            }
            turned
        };
        let scale_of_query = |dim: usize| 0.8f32.powi(dim as i32);
        let queries: Vec<f32> = (0..500).flat_map(|_| turned(vector(&scale_of_query))).collect();
        let query = |at: usize| queries[at * DIM..(at + 1) * DIM].to_vec();
        let moment = SecondMoment::of_directions(queries.len() / DIM, DIM, query);
        let quantizer = fit_tightest(Codes::Sq8, &vectors, DIM, Metric::InnerProduct).quantizer;
        let plain = BlockSummary::of(&vectors, DIM, &quantizer, vec![0, 16, 40], None);
        let fitted = BlockSummary::of(&vectors, DIM, &quantizer, vec![0, 16, 40], Some(&moment));
        assert!(2 * fitted.row_residuals.len() < plain.row_residuals.len(), "{:?}", fitted.widths);
        let error = |summary| {
            let queries = queries.chunks(DIM).take(50);
            queries.map(|query| error_of(summary, &vectors, &quantizer, query)).sum::<f32>() / 50.0
        };
        let (plain, fitted_error) = (error(&plain), error(&fitted));
        assert!(plain < 0.4 && fitted_error < 0.4, "{plain}, {fitted_error}");
        let BlockSummary { regions, axes, widths, .. } = fitted.clone();
        assert_eq!(BlockSummary::with_axes(&vectors, DIM, &quantizer, regions, axes, widths), fitted);
    }
}
