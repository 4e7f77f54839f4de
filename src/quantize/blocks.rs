//! Blocks of rows that lie beside each other and near each other: what is known of them without their rows.

use rayon::prelude::*;

use super::sq8::Sq8;
use crate::element::Element;

/// Rows of a block; the last one may have fewer.
pub const ROWS_PER_BLOCK: usize = 64;

/// The mean of every block and region, and how far its rows are from that. A region is some blocks beside each
/// other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlockSummary {
    /// `[regions + 1]`: the first block of each region, ascending, and how many blocks there are.
    pub regions: Vec<u32>,
    /// `[(blocks + regions) × stride]`: the codes of the means.
    pub means: Vec<u8>,
    /// `[blocks + regions]`: the root mean square distance from the mean, per dimension.
    pub spreads: Vec<f32>,
}

impl BlockSummary {
    /// How many blocks so many rows are.
    pub fn blocks(rows: usize) -> usize {
        rows.div_ceil(ROWS_PER_BLOCK)
    }

    /// Of `vectors`, `[n × dim]`; `regions` as the field says. The same rows give the same bytes.
    pub fn of<T: Element>(vectors: &[T], dim: usize, quantizer: &Sq8, regions: Vec<u32>) -> Self {
        let stride = Sq8::stride(dim);
        let of_blocks = vectors.par_chunks(dim * ROWS_PER_BLOCK);
        let of_regions = regions.par_windows(2).map(|ends| {
            let [first, end] = [ends[0], ends[1]].map(|block| block as usize * ROWS_PER_BLOCK * dim);
            &vectors[first..end.min(vectors.len())]
        });
        let (means, spreads): (Vec<Vec<u8>>, Vec<f32>) = of_blocks
            .chain(of_regions)
            .map(|rows| {
                let (mean, spread) = summary(rows, dim);
                let mut code = vec![0; stride];
                quantizer.encode(&mean, &mut code);
                (code, spread)
            })
            .unzip();
        Self { regions, means: means.concat(), spreads }
    }
}

/// The mean of `rows`, and their root mean square distance from it, per dimension.
fn summary<T: Element>(rows: &[T], dim: usize) -> (Vec<f32>, f32) {
    let (mut sums, mut squares) = (vec![0f64; dim], 0f64);
    for row in rows.chunks(dim) {
        for (sum, value) in sums.iter_mut().zip(T::widen(row).iter()) {
            *sum += f64::from(*value);
            squares += f64::from(*value) * f64::from(*value);
        }
    }
    let count = (rows.len() / dim).max(1) as f64;
    sums.iter_mut().for_each(|sum| *sum /= count);
    let of_mean: f64 = sums.iter().map(|mean| mean * mean).sum();
    let variance = (squares / count - of_mean).max(0.0) / dim as f64;
    (sums.into_iter().map(|mean| mean as f32).collect(), variance.sqrt() as f32)
}
