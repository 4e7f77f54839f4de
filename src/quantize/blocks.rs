//! Blocks of rows that lie beside each other and near each other: what is known of them without their rows, and the
//! rows in terms of that.

use rayon::prelude::*;

use super::residual::{encode_residual, residual_block_bytes};
use super::sq8::Sq8;
use crate::element::Element;
use crate::kernel::NIBBLE_ROWS;

/// Rows of a block; the last one may have fewer.
pub const ROWS_PER_BLOCK: usize = NIBBLE_ROWS;
/// Blocks whose deviations are added up before those of others are: a sum of as many parts on any number of threads.
const BLOCKS_ADDED_UP: usize = 64;

/// The mean of every block and region, how far its rows are from that, and the rows as what they differ from the mean
/// by. A region is some blocks beside each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlockSummary {
    /// `[regions + 1]`: the first block of each region, ascending, and how many blocks there are.
    pub regions: Vec<u32>,
    /// `[(blocks + regions) × stride]`: the codes of the means.
    pub means: Vec<u8>,
    /// `[blocks + regions]`: of a block, the root mean square of what its rows differ from its mean by, per
    /// dimension; of a region, the same of the means of its blocks.
    pub spreads: Vec<f32>,
    /// `[dim]`: how much the rows of a block differ in each dimension, as a share of the spread.
    pub deviations: Vec<f32>,
    /// The rows as what they differ from the mean of their block by: residual codes, in blocks of 64.
    pub row_residuals: Vec<u8>,
}

impl BlockSummary {
    /// How many blocks so many rows are.
    pub fn blocks(rows: usize) -> usize {
        rows.div_ceil(ROWS_PER_BLOCK)
    }

    /// The largest spread of the blocks of each region, `[regions]`, given the fields of a summary; −∞ for a region that
    /// does not come after those before it, or whose blocks are not there.
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

    /// Of `vectors`, `[n × dim]`; `regions` as the field says. The same rows give the same bytes.
    pub fn of<T: Element>(vectors: &[T], dim: usize, quantizer: &Sq8, regions: Vec<u32>) -> Self {
        let centres = Centres::of(vectors, dim, quantizer, &regions);
        let spreads = centres.spreads(vectors, &regions);
        let deviations = centres.deviations(vectors, &spreads);
        let row_residuals: Vec<u8> = vectors
            .par_chunks(dim * ROWS_PER_BLOCK)
            .enumerate()
            .flat_map_iter(|(block, rows)| {
                let rows = rows.chunks(dim).map(|row| (block, T::widen(row)));
                centres.encode(rows, &spreads, &deviations)
            })
            .collect();
        let Centres { codes: means, .. } = centres;
        Self { regions, means, spreads, deviations, row_residuals }
    }
}

/// The means of blocks and then of regions, as their codes have them.
struct Centres {
    dim: usize,
    codes: Vec<u8>,
    /// `[(blocks + regions) × dim]`.
    rows: Vec<f32>,
}

impl Centres {
    fn of<T: Element>(vectors: &[T], dim: usize, quantizer: &Sq8, regions: &[u32]) -> Self {
        let of_blocks = vectors.par_chunks(dim * ROWS_PER_BLOCK);
        let of_regions = regions.par_windows(2).map(|ends| {
            let [first, end] = [ends[0], ends[1]].map(|block| block as usize * ROWS_PER_BLOCK * dim);
            &vectors[first..end.min(vectors.len())]
        });
        let coded = of_blocks.chain(of_regions).map(|rows| {
            let mut code = vec![0; Sq8::stride(dim)];
            quantizer.encode(&mean(rows, dim), &mut code);
            let row: Vec<f32> = quantizer.decode(&code).collect();
            (code, row)
        });
        let (codes, rows): (Vec<Vec<u8>>, Vec<Vec<f32>>) = coded.unzip();
        Self { dim, codes: codes.concat(), rows: rows.concat() }
    }

    fn row(&self, at: usize) -> &[f32] {
        &self.rows[at * self.dim..(at + 1) * self.dim]
    }

    fn spreads<T: Element>(&self, vectors: &[T], regions: &[u32]) -> Vec<f32> {
        let of_blocks = vectors.par_chunks(self.dim * ROWS_PER_BLOCK).enumerate().map(|(block, rows)| {
            let rows = rows.chunks(self.dim).map(T::widen);
            spread(rows, self.row(block))
        });
        let blocks = BlockSummary::blocks(vectors.len() / self.dim);
        let of_regions = regions.par_windows(2).enumerate().map(|(region, ends)| {
            let means = (ends[0]..ends[1]).map(|block| self.row(block as usize));
            spread(means, self.row(blocks + region))
        });
        of_blocks.chain(of_regions).collect()
    }

    /// The root mean square of what rows differ from the mean of their block by, in terms of its spread.
    fn deviations<T: Element>(&self, vectors: &[T], spreads: &[f32]) -> Vec<f32> {
        let rows_of_part = ROWS_PER_BLOCK * BLOCKS_ADDED_UP;
        let of_part = |(part, rows): (usize, &[T])| {
            let mut squares = vec![0f64; self.dim];
            for (block, rows) in rows.chunks(self.dim * ROWS_PER_BLOCK).enumerate() {
                let block = part * BLOCKS_ADDED_UP + block;
                let inverse = if spreads[block] > 0.0 { 1.0 / spreads[block] } else { 0.0 };
                for row in rows.chunks(self.dim) {
                    for ((sum, value), mean) in
                        squares.iter_mut().zip(T::widen(row).iter()).zip(self.row(block))
                    {
                        let scaled = f64::from((value - mean) * inverse);
                        *sum += scaled * scaled;
                    }
                }
            }
            squares
        };
        let parts: Vec<Vec<f64>> =
            vectors.par_chunks(self.dim * rows_of_part).enumerate().map(of_part).collect();
        let rows = (vectors.len() / self.dim).max(1) as f64;
        let total = |dim: usize| parts.iter().map(|part| part[dim]).sum::<f64>();
        (0..self.dim).map(|dim| (total(dim) / rows).sqrt() as f32).collect()
    }

    /// A block of residual codes, of up to 64 rows each with its centre.
    fn encode<R: AsRef<[f32]>>(
        &self,
        rows: impl Iterator<Item = (usize, R)>,
        spreads: &[f32],
        deviations: &[f32],
    ) -> Vec<u8> {
        let mut block = vec![0; residual_block_bytes(self.dim)];
        let mut residual = vec![0.0; self.dim];
        for (at, (centre, row)) in rows.enumerate() {
            let differences = row.as_ref().iter().zip(self.row(centre)).map(|(value, mean)| value - mean);
            residual.iter_mut().zip(differences).for_each(|(residual, difference)| *residual = difference);
            encode_residual(&residual, (spreads[centre], deviations), at, &mut block);
        }
        block
    }
}

fn mean<T: Element>(rows: &[T], dim: usize) -> Vec<f32> {
    let mut sums = vec![0f64; dim];
    for row in rows.chunks(dim) {
        sums.iter_mut().zip(T::widen(row).iter()).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    let count = (rows.len() / dim).max(1) as f64;
    sums.into_iter().map(|sum| (sum / count) as f32).collect()
}

/// The root mean square of what rows differ from `centre` by, per dimension.
fn spread<R: AsRef<[f32]>>(rows: impl Iterator<Item = R>, centre: &[f32]) -> f32 {
    let (mut squares, mut count) = (0f64, 0usize);
    for row in rows {
        let of_row = row.as_ref().iter().zip(centre).map(|(value, mean)| f64::from(value - mean));
        squares += of_row.map(|difference| difference * difference).sum::<f64>();
        count += centre.len();
    }
    (squares / count.max(1) as f64).sqrt() as f32
}
