//! Scalar quantization: every dimension gets 256 levels between its smallest and its largest value.
//!
//! A row is `x ≈ low + step · code`, per dimension. For inner product the offset `q · low` is the same for
//! every row, so ranking needs only `(q · step) · code`: one integer dot product, with the steps folded
//! into the query before that is cut to 8 bits itself.

use bytemuck::Zeroable;
use rayon::prelude::*;

use crate::base::element::Element;
use crate::kernel::CODE_ALIGNMENT;

/// The largest level.
const TOP: f32 = 255.0;
/// Rows per task of encoding: enough that a task costs more than handing it out.
const ROWS_PER_TASK: usize = 1024;
/// The largest magnitude of a query code.
const QUERY_TOP: f32 = 127.0;

/// The levels of every dimension.
#[derive(Clone, Debug, PartialEq)]
pub struct Sq8 {
    /// `[dim]` smallest values, then `[dim]` distances between levels.
    levels: Vec<f32>,
}

/// The nearest whole number, for magnitudes below 2²²; vector code everywhere, unlike `f32::round`.
#[inline(always)]
fn nearest(value: f32) -> f32 {
    const WHOLE: f32 = 1.5 * (1 << 23) as f32;
    (value + WHOLE) - WHOLE
}

/// Folds `values` in sixteen lanes, from zero: an order that vector code can keep.
#[inline(always)]
fn lanes(mut values: impl ExactSizeIterator<Item = f32>, fold: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0f32; 16];
    while values.len() > 0 {
        lanes.iter_mut().zip(values.by_ref()).for_each(|(lane, value)| *lane = fold(*lane, value));
    }
    lanes.into_iter().fold(0.0, fold)
}

/// What turns a dot product of codes into an inner product of vectors: `bias + scale · dot`, nearly.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Affine {
    /// What the query has with every row.
    pub bias: f32,
    /// What one step of the dot product is worth.
    pub scale: f32,
}

impl Affine {
    /// The inner product that a dot product of codes stands for.
    #[inline(always)]
    pub fn apply(self, dot: f32) -> f32 {
        self.bias + self.scale * dot
    }
}

/// Queries in codes, one after another; kept and reused, so that searching does not allocate.
#[derive(Clone, Debug, Default)]
pub struct QueryCodes {
    codes: Vec<i8>,
    affine: Vec<Affine>,
}

impl QueryCodes {
    /// `[queries × stride]`, each padded with zeros.
    pub fn as_slice(&self) -> &[i8] {
        &self.codes
    }

    /// For each query, what its dot products stand for.
    pub fn affine(&self) -> &[Affine] {
        &self.affine
    }

    /// Codes per query: the dimensions, rounded up to whole cache lines; 0 without a query.
    pub fn stride(&self) -> usize {
        self.codes.len().checked_div(self.affine.len()).unwrap_or_default()
    }

    /// `[stride]`: one of the queries.
    ///
    /// # Panics
    /// If there are not that many.
    pub fn query(&self, at: usize) -> &[i8] {
        &self.codes[at * self.stride()..(at + 1) * self.stride()]
    }

    /// Adds one of the queries of `other`, which has the same dimension.
    ///
    /// # Panics
    /// If there are not that many.
    pub fn push_copy(&mut self, other: &QueryCodes, at: usize) {
        self.codes.extend_from_slice(other.query(at));
        self.affine.push(other.affine[at]);
    }

    /// Takes all queries out.
    pub fn clear(&mut self) {
        self.codes.clear();
        self.affine.clear();
    }
}

impl Sq8 {
    /// Bytes per row of codes: the dimensions, rounded up to whole cache lines.
    pub fn stride(dim: usize) -> usize {
        dim.next_multiple_of(CODE_ALIGNMENT)
    }

    /// Takes the levels from all of `vectors`, `[n × dim]`, finite.
    pub fn train<T: Element>(vectors: &[T], dim: usize) -> Self {
        let bounds = vectors
            .par_chunks(dim * 4096)
            .map(|rows| {
                let mut bounds = vec![(f32::INFINITY, f32::NEG_INFINITY); dim];
                for row in rows.chunks(dim) {
                    for ((low, high), value) in bounds.iter_mut().zip(T::widen(row).iter()) {
                        (*low, *high) = (low.min(*value), high.max(*value));
                    }
                }
                bounds
            })
            .reduce_with(|mut all, some| {
                for ((low, high), (other_low, other_high)) in all.iter_mut().zip(some) {
                    (*low, *high) = (low.min(other_low), high.max(other_high));
                }
                all
            })
            .unwrap_or_default();
        let lows = bounds.iter().map(|(low, _)| *low);
        // Halved first: the width of a dimension may exceed what f32 holds.
        let steps = bounds.iter().map(|(low, high)| (high / TOP) - (low / TOP));
        Self { levels: lows.chain(steps).collect() }
    }

    /// The levels as [`Sq8::levels`] gave them; `None` if that is no whole number of dimensions.
    pub fn from_levels(levels: &[f32]) -> Option<Self> {
        levels.len().is_multiple_of(2).then(|| Self { levels: levels.to_vec() })
    }

    /// `[2 × dim]`: smallest values, then distances between levels.
    pub fn levels(&self) -> &[f32] {
        &self.levels
    }

    fn dim(&self) -> usize {
        self.levels.len() / 2
    }

    /// The code of a row, `[dim]`, into `out`, `[stride]`; what is beyond the dimensions becomes 0.
    ///
    /// # Panics
    /// If the lengths are not those.
    pub fn encode<T: Element>(&self, row: &[T], out: &mut [u8]) {
        let dim = self.dim();
        assert!(row.len() == dim && out.len() == Self::stride(dim), "a row of another dimension");
        let (lows, steps) = self.levels.split_at(dim);
        out[dim..].fill(0);
        for (((code, value), low), step) in out.iter_mut().zip(T::widen(row).iter()).zip(lows).zip(steps) {
            // A dimension that never varies has no levels: every row is at its smallest value.
            let level = if *step > 0.0 { (value - low) / step } else { 0.0 };
            *code = nearest(level).clamp(0.0, TOP) as u8;
        }
    }

    /// The row, `[dim]`, that a code, `[stride]`, stands for.
    pub fn decode<'a>(&'a self, code: &'a [u8]) -> impl Iterator<Item = f32> + 'a {
        let (lows, steps) = self.levels.split_at(self.dim());
        lows.iter().zip(steps).zip(code).map(|((low, step), level)| low + step * f32::from(*level))
    }

    /// The codes of all rows, `[n × stride]`.
    pub fn encode_all<T: Element>(&self, vectors: &[T]) -> Vec<u8> {
        let (dim, stride) = (self.dim(), Self::stride(self.dim()));
        let mut codes = vec![u8::zeroed(); vectors.len() / dim * stride];
        codes
            .par_chunks_mut(stride)
            .with_min_len(ROWS_PER_TASK)
            .zip(vectors.par_chunks(dim))
            .for_each(|(code, row)| self.encode(row, code));
        codes
    }

    /// Adds the codes of a query, `[dim]` finite: a larger dot product with a row's code means a larger
    /// inner product.
    ///
    /// # Panics
    /// If the query has another dimension.
    pub fn push_query(&self, query: &[f32], out: &mut QueryCodes) {
        let dim = self.dim();
        assert_eq!(query.len(), dim, "a query of another dimension");
        let (lows, steps) = self.levels.split_at(dim);
        let weights = || query.iter().zip(steps).map(|(value, step)| value * step);
        let largest = lanes(weights().map(f32::abs), |a, b| if b > a { b } else { a });
        let (inverse, scale) =
            if largest > 0.0 { (QUERY_TOP / largest, largest / QUERY_TOP) } else { (0.0, 0.0) };
        let start = out.codes.len();
        out.codes.extend(weights().map(|weight| nearest(weight * inverse) as i8));
        let rounded = out.codes[start..].iter().map(|code| f32::from(*code) * scale);
        // What rounding takes from a weight counts with the row's level, half the top one on average.
        let lost = lanes(weights().zip(rounded).map(|(weight, rounded)| weight - rounded), |a, b| a + b);
        let lowest = lanes(query.iter().zip(lows).map(|(value, low)| value * low), |a, b| a + b);
        out.codes.resize(start + Self::stride(dim), 0);
        out.affine.push(Affine { bias: lowest + lost * TOP / 2.0, scale });
    }

    /// The codes of one query in the place of what `out` holds; as [`Self::push_query`].
    pub fn encode_query(&self, query: &[f32], out: &mut QueryCodes) {
        out.clear();
        self.push_query(query, out);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_code_is_within_half_a_step_of_its_value(
            dim in 1usize..70,
            values in prop::collection::vec(-1000.0f32..1000.0, 70..700),
        ) {
            let vectors = &values[..values.len() / dim * dim];
            let quantizer = Sq8::train(vectors, dim);
            let codes = quantizer.encode_all(vectors);
            let stride = Sq8::stride(dim);
            for (row, code) in vectors.chunks(dim).zip(codes.chunks(stride)) {
                prop_assert!(code[dim..].iter().all(|padding| *padding == 0));
                for (at, value) in row.iter().enumerate() {
                    let step = quantizer.levels()[dim + at];
                    let decoded = quantizer.decode(code).nth(at).unwrap();
                    prop_assert!((decoded - value).abs() <= 0.51 * step + 1e-3);
                }
            }
        }

        #[test]
        fn dot_products_of_codes_follow_inner_products(
            dim in 8usize..130,
            seed in prop::collection::vec(-1.0f32..1.0, 130 * 8),
        ) {
            let vectors = &seed[..dim * 7];
            let query = &seed[seed.len() - dim..];
            let quantizer = Sq8::train(vectors, dim);
            let codes = quantizer.encode_all(vectors);
            let mut query_codes = QueryCodes::default();
            quantizer.encode_query(query, &mut query_codes);
            let exact = |row: &[f32]| row.iter().zip(query).map(|(a, b)| a * b).sum::<f32>();
            let coded = |code: &[u8]| -> i32 {
                query_codes.as_slice().iter().zip(code).map(|(q, c)| i32::from(*q) * i32::from(*c)).sum()
            };
            let steps = &quantizer.levels()[dim..];
            let largest = query.iter().zip(steps).fold(0f32, |largest, (q, step)| largest.max((q * step).abs()));
            let rows: Vec<&[f32]> = vectors.chunks(dim).collect();
            let codes: Vec<&[u8]> = codes.chunks(Sq8::stride(dim)).collect();
            for (a, b) in (0..7).flat_map(|a| (0..7).map(move |b| (a, b))) {
                let affine = query_codes.affine()[0];
                let difference = (affine.apply(coded(codes[a]) as f32) - exact(rows[a])).abs();
                prop_assert!(difference <= largest * dim as f32 * (1.0 + 255.0 / 127.0) + 1e-3, "{}", difference);
                let wanted = exact(rows[a]) - exact(rows[b]);
                let found = (coded(codes[a]) - coded(codes[b])) as f32 * largest / 127.0;
                // Half a level of each row and half a level of the query, in every dimension.
                let slack = largest * dim as f32 * (1.0 + 255.0 / 127.0);
                prop_assert!((wanted - found).abs() <= slack, "{} {}", wanted, found);
            }
        }
    }

    #[test]
    fn dimensions_that_never_vary_and_queries_of_zeros_are_fine() {
        let vectors = [5.0f32, 0.0, 5.0, 1.0];
        let quantizer = Sq8::train(&vectors, 2);
        let codes = quantizer.encode_all(&vectors);
        assert_eq!([codes[0], codes[1], codes[64], codes[65]], [0, 0, 0, 255]);
        let mut query = QueryCodes::default();
        quantizer.encode_query(&[0.0, 0.0], &mut query);
        assert!(query.as_slice().iter().all(|code| *code == 0) && query.as_slice().len() == 64);
    }

    #[test]
    fn extreme_values_stay_finite() {
        let vectors = [f32::MAX, f32::MIN, f32::MIN, f32::MAX];
        let quantizer = Sq8::train(&vectors, 2);
        assert!(quantizer.levels().iter().all(|level| level.is_finite()));
    }
}
