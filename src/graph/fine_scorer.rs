//! A query bound to rows of codes and their fine codes.

use std::ops::Range;

use super::scorer::{Scan, Score};
use crate::kernel::Kernels;
use crate::quantize::{FineDots, FineQuery};

/// Rows scored at a time: their codes stay in the first-level cache.
const ROWS: usize = 64;

/// Scores rows by both levels of their codes, and those that codes do not represent by their embeddings.
#[derive(Clone, Debug)]
pub struct FineScorer<'a, S> {
    kernels: &'static Kernels,
    query: FineQuery,
    codes: &'a [u8],
    fine: &'a [u8],
    represented: usize,
    exact: S,
}

/// By row, the dot products in the order of the fields of [`FineDots`].
type Dots = [[f32; ROWS]; 4];

impl<'a, S: Scan> FineScorer<'a, S> {
    /// `codes`, `fine`: `[n × stride]`. `exact` scores the same `n` rows; it is asked from row `represented` on.
    ///
    /// # Panics
    /// If the query is empty or the lengths do not agree.
    pub fn new(query: FineQuery, codes: &'a [u8], fine: &'a [u8], represented: usize, exact: S) -> Self {
        let stride = query.coarse().len();
        assert!(
            stride > 0 && codes.len() == exact.rows() * stride && codes.len() == fine.len(),
            "expected codes of {stride} bytes for {} rows, found {} and {} bytes",
            exact.rows(),
            codes.len(),
            fine.len()
        );
        Self { kernels: Kernels::get(), query, codes, fine, represented, exact }
    }

    /// `out`: at most [`ROWS`].
    fn combine(&self, dots: &Dots, out: &mut [f32]) {
        for (at, out) in out.iter_mut().enumerate() {
            let [coarse, of_query, of_row, rest] = dots.each_ref().map(|dots| dots[at]);
            *out = self.query.score(FineDots { coarse, of_query, of_row, rest });
        }
    }
}

impl<S: Scan> Score for FineScorer<'_, S> {
    fn rows(&self) -> usize {
        self.exact.rows()
    }

    fn score_rows(&self, rows: &[u32], out: &mut [f32]) {
        assert_eq!(rows.len(), out.len(), "expected one score per row");
        let (coarse, rest) = (self.query.coarse(), self.query.rest());
        let mut dots: Dots = [[0.0; ROWS]; 4];
        for (rows, out) in rows.chunks(ROWS).zip(out.chunks_mut(ROWS)) {
            let count = rows.len();
            self.kernels.code_rows(coarse, self.codes, rows, &mut dots[0][..count]);
            self.kernels.code_rows(rest, self.codes, rows, &mut dots[1][..count]);
            self.kernels.code_rows(coarse, self.fine, rows, &mut dots[2][..count]);
            self.kernels.code_rows(rest, self.fine, rows, &mut dots[3][..count]);
            self.combine(&dots, out);
            for (row, out) in rows.iter().zip(out) {
                if *row as usize >= self.represented {
                    *out = self.exact.score(*row);
                }
            }
        }
    }

    fn score(&self, row: u32) -> f32 {
        if row as usize >= self.represented {
            return self.exact.score(row);
        }
        let dot = |query: &[i8], codes: &[u8]| {
            let mut dot = [0.0];
            self.kernels.code_rows(query, codes, &[row], &mut dot);
            dot[0]
        };
        let (coarse, rest) = (self.query.coarse(), self.query.rest());
        self.query.score(FineDots {
            coarse: dot(coarse, self.codes),
            of_query: dot(rest, self.codes),
            of_row: dot(coarse, self.fine),
            rest: dot(rest, self.fine),
        })
    }
}

impl<S: Scan> Scan for FineScorer<'_, S> {
    fn score_scan(&self, first: usize, out: &mut [f32]) {
        let (coarse, rest) = (self.query.coarse(), self.query.rest());
        let mut dots: Dots = [[0.0; ROWS]; 4];
        for (chunk, out) in out.chunks_mut(ROWS).enumerate() {
            let first = first + chunk * ROWS;
            let bytes = Range { start: first * coarse.len(), end: (first + out.len()) * coarse.len() };
            let (codes, fine, count) = (&self.codes[bytes.clone()], &self.fine[bytes], out.len());
            self.kernels.code_scan(coarse, codes, &mut dots[0][..count]);
            self.kernels.code_scan(rest, codes, &mut dots[1][..count]);
            self.kernels.code_scan(coarse, fine, &mut dots[2][..count]);
            self.kernels.code_scan(rest, fine, &mut dots[3][..count]);
            self.combine(&dots, out);
            let coded = self.represented.saturating_sub(first).min(count);
            if coded < count {
                self.exact.score_scan(first + coded, &mut out[coded..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::base::metric::Metric;
    use crate::graph::Scorer;
    use crate::quantize::{Codes, Fitted, fit_tightest};

    proptest! {
        /// Also if all values are far from zero, rows have extremes, or a dimension never varies.
        #[test]
        fn scores_are_those_of_full_precision_but_for_a_small_share_of_a_step(
            dim in 1usize..150,
            seed in any::<u64>(),
            offset in prop_oneof![Just(0.0f32), -50f32..50.0],
            extremes in 0usize..5,
            scale in prop_oneof![Just(1.0f32), 1e-30f32..1e-3, 1e3f32..1e12],
        ) {
            const ROWS: usize = 200;
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let mut rows: Vec<f32> =
                (0..ROWS * dim).map(|_| scale * (offset + random.random_range(-1.0f32..1.0))).collect();
            rows[(ROWS - extremes) * dim..].iter_mut().for_each(|value| *value *= 1e3);
            if seed % 3 == 0 {
                rows.chunks_mut(dim).for_each(|row| row[0] = offset);
            }
            let query: Vec<f32> = (0..dim).map(|_| random.random_range(-1.0f32..1.0)).collect();
            let Fitted { quantizer, unrepresented } = fit_tightest(Codes::Sq8, &rows, dim, Metric::InnerProduct);
            prop_assume!(unrepresented.iter().zip(ROWS - unrepresented.len()..).all(|(row, at)| *row as usize == at));
            let represented = ROWS - unrepresented.len();
            let codes = quantizer.encode_all(&rows);
            let fine = quantizer.encode_all_fine(&rows, &codes);
            let exact = Scorer::new(Metric::InnerProduct, &query, &rows);
            let query_codes = quantizer.fine_query(&query).unwrap();
            let scorer = FineScorer::new(query_codes, &codes, &fine, represented, exact);
            let mut scanned = vec![0.0; ROWS];
            scorer.score_scan(0, &mut scanned);
            let mut from_within = vec![0.0; ROWS - 7];
            scorer.score_scan(7, &mut from_within);
            prop_assert_eq!(&scanned[7..], &from_within[..]);
            let all: Vec<u32> = (0..ROWS as u32).rev().collect();
            let mut scattered = vec![0.0; ROWS];
            scorer.score_rows(&all, &mut scattered);
            scattered.reverse();
            prop_assert_eq!(&scanned, &scattered);
            let singly: Vec<f32> = (0..ROWS as u32).map(|row| scorer.score(row)).collect();
            prop_assert_eq!(&scanned, &singly);
            let steps = &quantizer.parameters()[dim..2 * dim];
            let weights = || query.iter().zip(steps).map(|(value, step)| (value * step).abs());
            let largest = weights().fold(0.0, f32::max);
            // Half a fine level of each component, and a fine level of each weight for half of the levels of the row.
            let slack = weights().sum::<f32>() / 512.0 + dim as f32 * largest / 127.0 / 256.0 * 128.0;
            for row in 0..ROWS {
                let (found, expected) = (scanned[row], exact.score(row as u32));
                let sizes = query.iter().zip(&rows[row * dim..]).map(|(a, b)| (a * b).abs()).sum::<f32>();
                let rounding = 1e-5 * sizes;
                prop_assert!((found - expected).abs() <= slack + rounding, "{} {} {} {}", row, found, expected, slack);
                if row >= represented {
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }

    #[test]
    fn there_are_no_fine_queries_under_l2() {
        let quantizer = fit_tightest(Codes::Sq8, &[0.0, 1.0], 1, Metric::L2).quantizer;
        assert_eq!(quantizer.fine_query(&[1.0]), None);
    }
}
