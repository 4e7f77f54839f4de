use proptest::prelude::*;

use super::*;

const MAX_DIM: usize = 300;
/// Components that a slice may start after an aligned address.
const MAX_OFFSET: usize = 17;

fn simd() -> impl Iterator<Item = &'static Kernels> {
    Kernels::available().filter(|kernels| kernels.isa() != Isa::Scalar)
}

fn scalar() -> &'static Kernels {
    Kernels::for_isa(Isa::Scalar).unwrap()
}

/// A matrix that starts `offset` components into its buffer, whose every other component is NaN: a
/// load that strays shows in the score.
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

/// How far two orders of summation may lie apart, given the sum of the magnitudes of the terms.
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
    for kernels in Kernels::available() {
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
    for kernels in Kernels::available() {
        for dim in 0..=4096 {
            assert_eq!(kernels.dot(&ones[..dim], &ones[..dim]), dim as f32, "{}", kernels.isa());
            assert_eq!(kernels.dot(&ones[..dim], &halves[..dim]), dim as f32, "{}", kernels.isa());
        }
    }
}

#[test]
fn every_finite_f16_widens_exactly() {
    let finite: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).filter(|half| half.is_finite()).collect();
    for kernels in Kernels::available() {
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
    assert_eq!(error, KernelError::Unavailable { isa: foreign });
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
        for kernels in Kernels::available() {
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
        for kernels in Kernels::available() {
            let mut out = vec![7; ids.len() + 1];
            let count = kernels.absent(&words, limit, &ids, &mut out);
            prop_assert_eq!(&out[..count], &expected[..], "{}", kernels.isa());
            prop_assert_eq!(out[ids.len()], 7, "{} wrote past the places", kernels.isa());
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
