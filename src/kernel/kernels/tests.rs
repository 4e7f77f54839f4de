use proptest::prelude::*;

use half::f16;

use super::*;
use crate::kernel::generic::nibbles::MAX_PAIRS;
use crate::kernel::{MAX_ENTRY, pack, prefetch, row_of};

const MAX_DIM: usize = 300;
/// Offsets of slices after an aligned address, in components.
const MAX_OFFSET: usize = 17;

fn simd() -> impl Iterator<Item = &'static Kernels> {
    Kernels::detected().filter(|kernels| kernels.isa() != Isa::Scalar)
}

fn scalar() -> &'static Kernels {
    Kernels::for_isa(Isa::Scalar).unwrap()
}

/// A matrix that starts `offset` components into a buffer of NaN: a load outside of the matrix makes the score NaN.
struct Surrounded<T> {
    buffer: Vec<T>,
    offset: usize,
}

impl<T: Element> Surrounded<T> {
    fn new(offset: usize, components: &[f32]) -> Self {
        let stray = std::iter::repeat_n(f32::NAN, offset);
        let end = std::iter::repeat_n(f32::NAN, MAX_OFFSET);
        let all = stray.chain(components.iter().copied()).chain(end);
        Surrounded { buffer: all.map(T::from_f32).collect(), offset }
    }

    fn get(&self) -> &[T] {
        &self.buffer[self.offset..self.buffer.len() - MAX_OFFSET]
    }
}

/// A dimension, the offsets of query and matrix, a query and a matrix of whole rows.
fn cases(
    component: impl Strategy<Value = f32> + Clone,
) -> impl Strategy<Value = (usize, usize, Vec<f32>, Vec<f32>)> {
    (0..=MAX_DIM, 0..=7_usize).prop_flat_map(move |(dim, rows)| {
        (
            0..=MAX_OFFSET,
            0..=MAX_OFFSET,
            prop::collection::vec(component.clone(), dim),
            prop::collection::vec(component.clone(), dim * rows),
        )
    })
}

/// Finite components: mostly of the size embeddings have, some that are subnormal in `f16`.
fn finite() -> impl Strategy<Value = f32> + Clone {
    prop_oneof![4 => -8.0_f32..8.0, 1 => -6e-5_f32..6e-5]
}

/// Small integers: every product and every partial sum is exact, in any order.
fn integers() -> impl Strategy<Value = f32> + Clone {
    (-8_i8..=8).prop_map(f32::from)
}

/// The largest difference between two orders of summation, given the sum of the magnitudes of the terms.
fn tolerance(dim: usize, magnitudes: f32) -> f32 {
    2.0 * dim as f32 * f32::EPSILON * magnitudes
}

fn agrees_with_scalar<T: Element>(
    (query_offset, offset, query, matrix): &(usize, usize, Vec<f32>, Vec<f32>),
    exact: bool,
) -> Result<(), TestCaseError> {
    let dim = query.len();
    let query = Surrounded::<f32>::new(*query_offset, query);
    let matrix = Surrounded::<T>::new(*offset, matrix);
    let (query, matrix) = (query.get(), matrix.get());
    let mut rows: Vec<&[T]> = matrix.chunks_exact(dim.max(1)).collect();
    rows.extend((dim == 0).then_some(matrix));
    for kernels in simd() {
        for row in &rows {
            let close = |name: &str, got: f32, expected: f32, magnitudes: f32| {
                let allowed = if exact { 0.0 } else { tolerance(dim, magnitudes) };
                let off = (got - expected).abs();
                prop_assert!(off <= allowed, "{} {name}: {got}, scalar has {expected}", kernels.isa());
                Ok(())
            };
            let magnitudes = query.iter().zip(*row).map(|(q, x)| (q * x.to_f32()).abs()).sum();
            close("dot", kernels.dot(query, row), scalar().dot(query, row), magnitudes)?;
            let distance = scalar().l2_squared(query, row);
            close("l2_squared", kernels.l2_squared(query, row), distance, distance)?;
            let norm = scalar().norm_squared(row);
            close("norm_squared", kernels.norm_squared(row), norm, norm)?;
        }
    }
    Ok(())
}

fn batches_equal_singles<T: Element>(
    (query_offset, offset, query, matrix): &(usize, usize, Vec<f32>, Vec<f32>),
    picks: &[prop::sample::Index],
) -> Result<(), TestCaseError> {
    let dim = query.len();
    let query = Surrounded::<f32>::new(*query_offset, query);
    let matrix = Surrounded::<T>::new(*offset, matrix);
    let (query, matrix) = (query.get(), matrix.get());
    let count = matrix.len().checked_div(dim).unwrap_or(3);
    let row = |id: usize| &matrix[id * dim..][..dim];
    let rows: Vec<u32> = match count {
        0 => Vec::new(),
        _ => picks.iter().map(|pick| pick.index(count) as u32).collect(),
    };
    for kernels in Kernels::detected() {
        let dot = |id: usize| kernels.dot(query, row(id)).to_bits();
        let l2_squared = |id: usize| kernels.l2_squared(query, row(id)).to_bits();
        let bits = |scores: &[f32]| scores.iter().map(|score| score.to_bits()).collect::<Vec<_>>();

        let mut out = vec![f32::NAN; rows.len()];
        kernels.dot_rows(query, matrix, &rows, &mut out);
        prop_assert_eq!(bits(&out), rows.iter().map(|&id| dot(id as usize)).collect::<Vec<_>>());
        kernels.l2_squared_rows(query, matrix, &rows, &mut out);
        prop_assert_eq!(bits(&out), rows.iter().map(|&id| l2_squared(id as usize)).collect::<Vec<_>>());

        let mut out = vec![f32::NAN; count];
        kernels.dot_scan(query, matrix, &mut out);
        prop_assert_eq!(bits(&out), (0..count).map(dot).collect::<Vec<_>>());
        kernels.l2_squared_scan(query, matrix, &mut out);
        prop_assert_eq!(bits(&out), (0..count).map(l2_squared).collect::<Vec<_>>());
    }
    Ok(())
}

proptest! {
    #[test]
    fn every_isa_agrees_with_scalar(case in cases(finite())) {
        agrees_with_scalar::<f32>(&case, false)?;
        agrees_with_scalar::<f16>(&case, false)?;
    }

    #[test]
    fn every_component_counts_exactly_once(case in cases(integers())) {
        agrees_with_scalar::<f32>(&case, true)?;
        agrees_with_scalar::<f16>(&case, true)?;
    }

    #[test]
    fn rows_and_scan_are_bit_equal_to_single_calls(
        case in cases(finite()),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        batches_equal_singles::<f32>(&case, &picks)?;
        batches_equal_singles::<f16>(&case, &picks)?;
    }
}

#[test]
fn every_dimension_to_4096_counts_every_component() {
    let ones = vec![1.0_f32; 4096];
    let halves = vec![f16::ONE; 4096];
    for kernels in Kernels::detected() {
        for dim in 0..=4096 {
            assert_eq!(kernels.dot(&ones[..dim], &ones[..dim]), dim as f32, "{}", kernels.isa());
            assert_eq!(kernels.dot(&ones[..dim], &halves[..dim]), dim as f32, "{}", kernels.isa());
        }
    }
}

proptest! {
    #[test]
    fn a_row_is_near_a_tile_if_it_is_near_one_of_its_rows(
        (dim, rows) in (0..=70usize, 0..=TILE_ROWS),
        seed in prop::collection::vec(-8i8..=8, 1..200),
        bound in 0u32..2_000,
    ) {
        // Small integers, whose distances are exact. The last rows of the tile are not there.
        let value = |at: usize| f32::from(seed[(at * 31 + at / 7) % seed.len()]);
        let row: Vec<f32> = (0..dim).map(value).collect();
        let all: Vec<Vec<f32>> = (0..rows).map(|of| (0..dim).map(|at| value(at + of * dim + of)).collect()).collect();
        let mut tile = vec![f32::INFINITY; dim * TILE_ROWS];
        for (of, other) in all.iter().enumerate() {
            other.iter().enumerate().for_each(|(at, value)| tile[at * TILE_ROWS + of] = *value);
        }
        let bound = bound as f32;
        let expected = dim > 0 && all.iter().any(|other| scalar().l2_squared(&row, other) < bound);
        for kernels in Kernels::detected() {
            let found = dim > 0 && kernels.is_near(&row, &tile, bound);
            prop_assert_eq!(found, expected, "{}", kernels.isa());
        }
    }
}

#[test]
fn every_finite_f16_widens_exactly() {
    let finite: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).filter(|half| half.is_finite()).collect();
    for kernels in Kernels::detected() {
        for &half in &finite {
            // A whole register and a tail, with the value alone in each.
            for (dim, at) in [(16, 5), (3, 2)] {
                let mut row = vec![f16::ZERO; dim];
                row[at] = half;
                let got = kernels.dot(&vec![1.0; dim], &row);
                assert_eq!(got, half.to_f32(), "{} of {:#06x}", kernels.isa(), half.to_bits());
            }
        }
    }
}

#[test]
fn available_kernels_end_with_scalar_and_begin_with_the_best() {
    let available: Vec<Isa> = Kernels::available().map(Kernels::isa).collect();
    assert_eq!(available.last(), Some(&Isa::Scalar));
    assert_eq!(Kernels::named(None).unwrap().isa(), available[0]);
}

#[test]
fn every_available_isa_is_found_by_its_name() {
    for kernels in Kernels::available() {
        assert_eq!(Kernels::named(Some(kernels.isa().name())).unwrap().isa(), kernels.isa());
    }
}

#[test]
fn unknown_kernel_is_refused() {
    let error = Kernels::named(Some("sse9")).unwrap_err();
    assert_eq!(error, KernelError::Unknown { word: "sse9".to_owned() });
    assert_eq!(error.to_string(), "unknown kernel \"sse9\": expected avx512, avx2, neon, scalar");
}

#[test]
fn unavailable_kernel_is_refused() {
    let foreign = if cfg!(target_arch = "aarch64") { Isa::Avx2 } else { Isa::Neon };
    let error = Kernels::named(Some(foreign.name())).unwrap_err();
    assert_eq!(
        error,
        KernelError::Unavailable {
            isa: foreign,
            available: Kernels::available().map(Kernels::isa).collect()
        }
    );
    let text = error.to_string();
    assert!(text.starts_with(&format!("kernel {foreign} is not available on this machine: available are ")));
    assert!(text.ends_with("scalar"), "{text}");
}

proptest! {
    #[test]
    fn scores_above_a_threshold_are_found_and_counted(
        scores in prop::collection::vec(
            prop_oneof![6 => -10.0_f32..10.0, 1 => Just(f32::NAN), 1 => Just(f32::INFINITY), 1 => Just(f32::NEG_INFINITY)],
            0..200,
        ),
        least in prop_oneof![4 => -10.0_f32..10.0, 1 => Just(f32::NEG_INFINITY), 1 => Just(f32::INFINITY)],
        lanes in 1_usize..40,
    ) {
        let positions: Vec<u32> =
            (0..scores.len() as u32).filter(|at| scores[*at as usize] >= least).collect();
        let numbers = || scores.iter().copied().filter(|score| !score.is_nan());
        let range =
            (numbers().fold(f32::INFINITY, f32::min), numbers().fold(f32::NEG_INFINITY, f32::max));
        let of_lane = |lane| scores.iter().skip(lane).step_by(lanes).copied();
        let largest: Vec<f32> =
            (0..lanes).map(|lane| of_lane(lane).fold(f32::NEG_INFINITY, f32::max)).collect();
        for kernels in Kernels::detected() {
            let mut found = vec![u32::MAX];
            kernels.at_least(&scores, least, &mut found);
            prop_assert_eq!(&found[1..], &positions[..], "{}", kernels.isa());
            prop_assert_eq!(kernels.count_at_least(&scores, least), positions.len(), "{}", kernels.isa());
            prop_assert_eq!(kernels.range(&scores), range, "{}", kernels.isa());
            let mut maxima = vec![0.0; lanes];
            kernels.maxima(&scores, &mut maxima);
            prop_assert_eq!(&maxima, &largest, "{}", kernels.isa());
        }
    }

    #[test]
    fn ids_that_a_bitmap_lacks_are_found(
        words in prop::collection::vec(any::<u32>(), 0..20),
        spare in 0_u32..40,
        ids in prop::collection::vec(prop_oneof![9 => 0_u32..700, 1 => Just(u32::MAX)], 0..200),
    ) {
        let bits = (words.len() * WORD_BITS) as u32;
        let limit = bits - spare.min(bits);
        let absent = |id: &u32| *id < limit && words[*id as usize / 32] >> (*id % 32) & 1 == 0;
        let expected: Vec<u32> = ids.iter().copied().filter(absent).collect();
        for kernels in Kernels::detected() {
            let mut out = vec![7; ids.len() + 1];
            let count = kernels.absent(&words, limit, &ids, &mut out);
            prop_assert_eq!(&out[..count], &expected[..], "{}", kernels.isa());
            prop_assert_eq!(out[ids.len()], 7, "{} wrote past the end", kernels.isa());
        }
    }
}

#[test]
#[should_panic(expected = "a bitmap of 32 bits for ids below 33")]
fn absent_panics_when_the_bitmap_is_short() {
    Kernels::get().absent(&[0], 33, &[], &mut []);
}

#[test]
#[should_panic(expected = "2 ids into 1 places")]
fn absent_panics_when_out_is_short() {
    Kernels::get().absent(&[0], 32, &[1, 2], &mut [0]);
}

#[test]
fn prefetch_takes_any_slice() {
    prefetch::<f32>(&[]);
    prefetch(&[1_u8]);
    prefetch(&vec![0_u32; 1000][3..997]);
}

#[test]
#[should_panic(expected = "the query has dimension 3, the row has dimension 2")]
fn dot_panics_on_mismatched_length() {
    Kernels::get().dot(&[0.0; 3], &[0.0_f32; 2]);
}

#[test]
#[should_panic(expected = "the query has dimension 2, the row has dimension 3")]
fn l2_squared_panics_on_mismatched_length() {
    Kernels::get().l2_squared(&[0.0; 2], &[f16::ZERO; 3]);
}

#[test]
#[should_panic(expected = "2 rows to score into 1 places")]
fn dot_rows_panics_when_out_is_short() {
    Kernels::get().dot_rows(&[0.0; 3], &[0.0_f32; 9], &[0, 1], &mut [0.0]);
}

#[test]
#[should_panic(expected = "row 3 of dimension 3 is outside a matrix of 9 components")]
fn dot_rows_panics_on_a_row_past_the_end() {
    Kernels::get().dot_rows(&[0.0; 3], &[0.0_f32; 9], &[0, 3, 1], &mut [0.0; 3]);
}

#[test]
#[should_panic(expected = "row 4294967295 of dimension 3 is outside a matrix of 9 components")]
fn l2_squared_rows_panics_on_a_row_past_the_end() {
    Kernels::get().l2_squared_rows(&[0.0; 3], &[f16::ZERO; 9], &[u32::MAX], &mut [0.0]);
}

#[test]
#[should_panic(expected = "a matrix of 9 components is not 2 rows of dimension 3")]
fn dot_scan_panics_when_out_is_short() {
    Kernels::get().dot_scan(&[0.0; 3], &[0.0_f32; 9], &mut [0.0; 2]);
}

#[test]
#[should_panic(expected = "a matrix of 8 components is not 3 rows of dimension 3")]
fn l2_squared_scan_panics_on_a_broken_row() {
    Kernels::get().l2_squared_scan(&[0.0; 3], &[f16::ZERO; 8], &mut [0.0; 3]);
}

/// The dot product in wide integers.
fn exact(query: &[i8], row: &[u8]) -> f32 {
    query.iter().zip(row).map(|(q, code)| i64::from(*q) * i64::from(*code)).sum::<i64>() as f32
}

proptest! {
    #[test]
    fn every_instruction_set_is_exact_in_codes(
        lines in 1usize..20,
        rows in 1usize..40,
        shift in 0usize..16,
        seed in prop::collection::vec(any::<u8>(), 64),
    ) {
        let len = lines * CODE_ALIGNMENT;
        let byte = |at: usize| seed[at % 64].wrapping_mul(31).wrapping_add((at / 64) as u8 ^ (at % 251) as u8);
        let query: Vec<i8> = (0..len + shift).map(|at| byte(at * 7) as i8).collect();
        let query = &query[shift..];
        let matrix: Vec<u8> = (0..rows * len + shift).map(byte).collect();
        let matrix = &matrix[shift..];
        let ids: Vec<u32> = (0..rows as u32).rev().chain([0, 0]).collect();
        for kernels in Kernels::detected() {
            let mut out = vec![0f32; ids.len()];
            kernels.code_rows(query, matrix, &ids, &mut out);
            for (id, score) in ids.iter().zip(&out) {
                let row = &matrix[*id as usize * len..(*id as usize + 1) * len];
                prop_assert_eq!(*score, exact(query, row), "{} row {}", kernels.isa(), id);
            }
            let mut scan = vec![0f32; rows];
            kernels.code_scan(query, matrix, &mut scan);
            scan.reverse();
            prop_assert_eq!(&scan[..], &out[..rows], "{}", kernels.isa());
        }
    }

    #[test]
    fn packed_rows_have_the_same_sums(
        lines in 0usize..5,
        rows in 1usize..40,
        queries in 0usize..20,
        seed in prop::collection::vec(any::<u8>(), 64),
    ) {
        let len = lines * CODE_ALIGNMENT;
        let byte = |at: usize| seed[at % 64].wrapping_mul(31).wrapping_add((at / 64) as u8 ^ (at % 251) as u8);
        let queries: Vec<i8> = (0..queries * len).map(|at| byte(at * 7) as i8).collect();
        let matrix: Vec<u8> = (0..rows * len).map(byte).collect();
        let mut blocks = Vec::new();
        pack((0..rows).map(|row| &matrix[row * len..(row + 1) * len]), len, &mut blocks);
        let count = queries.len().checked_div(len).unwrap_or_default();
        let padded = rows.next_multiple_of(PACKED_ROWS);
        for kernels in Kernels::detected() {
            let mut out = vec![-1; count * padded];
            kernels.code_packed(&queries, len, &blocks, &mut out);
            for (query, sums) in queries.chunks(len.max(1)).zip(out.chunks(padded)) {
                let scores = matrix.chunks(len).map(|row| exact(query, row) as i32);
                let expected: Vec<i32> = scores.chain(std::iter::repeat(0)).take(padded).collect();
                prop_assert_eq!(sums, &expected[..], "{}", kernels.isa());
            }
        }
    }
}

proptest! {
    #[test]
    fn sums_become_scores(sums in prop::collection::vec(-1000i32..1000, 0..200)) {
        let offsets: Vec<f32> = (0..sums.len()).map(|at| (at % 7) as f32).collect();
        let expected: Vec<f32> =
            sums.iter().zip(&offsets).map(|(sum, offset)| 3.0 + 0.5 * *sum as f32 - offset).collect();
        for kernels in Kernels::detected() {
            let mut scores = vec![0.0; sums.len()];
            kernels.scores_of_sums(&sums, 3.0, 0.5, &offsets, &mut scores);
            prop_assert_eq!(&scores, &expected, "{}", kernels.isa());
        }
    }
}

#[test]
fn the_largest_products_do_not_saturate() {
    for extreme in [i8::MIN, i8::MAX] {
        let (query, row) = (vec![extreme; 4096], vec![u8::MAX; 4096]);
        for kernels in Kernels::detected() {
            let mut out = [0f32];
            kernels.code_rows(&query, &row, &[0], &mut out);
            assert_eq!(out[0], exact(&query, &row), "{}", kernels.isa());
        }
    }
}

fn check_nibbles(pairs: usize, byte: impl Fn(usize) -> u8) {
    let table: Vec<u8> = (0..pairs * (2 * TABLE_BYTES)).map(|at| byte(7 * at) & MAX_ENTRY).collect();
    let codes: Vec<u8> = (0..pairs * NIBBLE_ROWS).map(&byte).collect();
    let entry = |code: usize, nibble: u8| u32::from(table[code * TABLE_BYTES + usize::from(nibble)]);
    let mut sums = [0u32; NIBBLE_ROWS];
    for (at, code) in codes.iter().enumerate() {
        let pair = at / NIBBLE_ROWS;
        sums[row_of(at % NIBBLE_ROWS)] += entry(2 * pair, code & 15) + entry(2 * pair + 1, code >> 4);
    }
    let expected = sums.map(|sum| -3.0 + 0.25 * sum as f32);
    for least in [expected[5], f32::NEG_INFINITY, f32::INFINITY] {
        let reached = (0..NIBBLE_ROWS).map(|row| u64::from(expected[row] >= least) << row).sum::<u64>();
        for kernels in Kernels::detected() {
            let mut out = [-1.0; NIBBLE_ROWS];
            let found = kernels.nibble_scores(&table, &codes, (-3.0, 0.25), least, &mut out);
            assert_eq!((found, out), (reached, expected), "{}", kernels.isa());
        }
    }
}

proptest! {
    #[test]
    fn every_instruction_set_has_the_same_scores_of_nibbles(
        pairs in 0usize..70,
        seed in prop::collection::vec(any::<u8>(), 64),
    ) {
        check_nibbles(pairs, |at| seed[at % 64].wrapping_mul(31).wrapping_add((at / 64) as u8 ^ (at % 251) as u8));
    }
}

#[test]
fn the_largest_sums_of_the_longest_rows_do_not_overflow() {
    for pairs in [MAX_PAIRS - 1, MAX_PAIRS, MAX_PAIRS + 1, 3 * MAX_PAIRS + 5] {
        check_nibbles(pairs, |_| u8::MAX);
    }
}
