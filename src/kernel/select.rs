//! Which of many: scores above a threshold, ids that a bitmap lacks.
#![allow(unsafe_code)]

/// Bits per word of a bitmap.
pub const WORD_BITS: usize = 32;

/// Values that the loops look at together.
const LANES: usize = 16;

/// The functions of one instruction set.
///
/// # Safety
///
/// The processor has the instruction set. For `absent`: `words` has a bit for every id below `limit`, and
/// `out` a place for every id.
pub(super) struct SelectTable {
    pub(super) absent: unsafe fn(words: &[u32], limit: u32, ids: &[u32], out: &mut [u32]) -> usize,
    pub(super) at_least: unsafe fn(scores: &[f32], least: f32, found: &mut Vec<u32>),
    pub(super) count: unsafe fn(scores: &[f32], least: f32) -> usize,
    pub(super) maxima: unsafe fn(scores: &[f32], maxima: &mut [f32]),
    pub(super) range: unsafe fn(scores: &[f32]) -> (f32, f32),
    pub(super) ones: unsafe fn(words: &[u32]) -> usize,
}

/// Whether an id is there is a coin toss that no branch predictor wins: it is written down either way, and
/// counted only if it is not.
fn absent(words: &[u32], limit: u32, ids: &[u32], out: &mut [u32]) -> usize {
    let mut count = 0;
    for id in ids {
        if *id < limit {
            out[count] = *id;
            count += (!words[*id as usize / WORD_BITS] >> (*id as usize % WORD_BITS) & 1) as usize;
        }
    }
    count
}

#[inline(always)]
fn at_least(scores: &[f32], least: f32, found: &mut Vec<u32>) {
    for (at, chunk) in scores.chunks(LANES).enumerate() {
        // Where few reach it, one vector comparison passes a chunk over; where many do, none is predictable.
        if chunk.iter().fold(false, |any, score| any | (*score >= least)) {
            let (mut here, mut count) = ([0; LANES], 0);
            for (offset, score) in chunk.iter().enumerate() {
                here[count] = (at * LANES + offset) as u32;
                count += usize::from(*score >= least);
            }
            found.extend_from_slice(&here[..count]);
        }
    }
}

#[inline(always)]
fn count(scores: &[f32], least: f32) -> usize {
    let chunks = scores.chunks_exact(LANES);
    let rest = chunks.remainder().iter().filter(|score| **score >= least).count();
    let mut counts = [0u32; LANES];
    for chunk in chunks {
        counts.iter_mut().zip(chunk).for_each(|(count, score)| *count += u32::from(*score >= least));
    }
    rest + counts.iter().map(|count| *count as usize).sum::<usize>()
}

/// Set bits. In lanes, so that an instruction set without a count of its own counts in vectors.
#[inline(always)]
fn ones(words: &[u32]) -> usize {
    let chunks = words.chunks_exact(LANES);
    let rest: u32 = chunks.remainder().iter().map(|word| word.count_ones()).sum();
    let mut counts = [0u32; LANES];
    for chunk in chunks {
        counts.iter_mut().zip(chunk).for_each(|(count, word)| *count += word.count_ones());
    }
    rest as usize + counts.iter().map(|count| *count as usize).sum::<usize>()
}

#[inline(always)]
fn maxima(scores: &[f32], maxima: &mut [f32]) {
    maxima.fill(f32::NEG_INFINITY);
    for part in scores.chunks(maxima.len()) {
        for (largest, score) in maxima.iter_mut().zip(part) {
            *largest = if *score > *largest { *score } else { *largest };
        }
    }
}

#[inline(always)]
fn range(scores: &[f32]) -> (f32, f32) {
    let (mut smallest, mut largest) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    let (chunks, rest) = scores.as_chunks::<LANES>();
    // Whole chunks apart: their lanes stay in registers.
    let mut look_at = |scores: &[f32]| {
        for ((smallest, largest), score) in smallest.iter_mut().zip(&mut largest).zip(scores) {
            *smallest = if *score < *smallest { *score } else { *smallest };
            *largest = if *score > *largest { *score } else { *largest };
        }
    };
    chunks.iter().for_each(|chunk| look_at(chunk));
    look_at(rest);
    (
        smallest.into_iter().fold(f32::INFINITY, f32::min),
        largest.into_iter().fold(f32::NEG_INFINITY, f32::max),
    )
}

/// Stamps out the functions of one instruction set, compiled for `$features`.
macro_rules! select_table {
    ($table:ident, $absent:path, $at_least:path, $count:path, $ones:path $(, $features:tt)?) => {
        pub(super) const $table: SelectTable = {
            $(#[target_feature(enable = $features)])?
            fn every_at_least(scores: &[f32], least: f32, found: &mut Vec<u32>) {
                $at_least(scores, least, found)
            }
            $(#[target_feature(enable = $features)])?
            fn whole_count(scores: &[f32], least: f32) -> usize {
                $count(scores, least)
            }
            $(#[target_feature(enable = $features)])?
            fn whole_maxima(scores: &[f32], out: &mut [f32]) {
                maxima(scores, out)
            }
            $(#[target_feature(enable = $features)])?
            fn whole_range(scores: &[f32]) -> (f32, f32) {
                range(scores)
            }
            $(#[target_feature(enable = $features)])?
            fn whole_ones(words: &[u32]) -> usize {
                $ones(words)
            }
            SelectTable {
                absent: $absent,
                at_least: every_at_least,
                count: whole_count,
                maxima: whole_maxima,
                range: whole_range,
                ones: whole_ones,
            }
        };
    };
}

select_table!(PORTABLE, absent, at_least, count, ones);
#[cfg(target_arch = "x86_64")]
select_table!(AVX2, absent, at_least, count, ones, "avx2");
#[cfg(target_arch = "x86_64")]
select_table!(AVX512, x86::absent, x86::at_least, x86::count, x86::ones, "avx512f,popcnt");

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::LANES;

    /// As many lanes as there are values, at most all.
    fn lanes(values: usize) -> __mmask16 {
        (1u32 << values).wrapping_sub(1) as __mmask16
    }

    /// Writes those of `values` that `mask` names from `to` on, and gives their number.
    ///
    /// # Safety
    ///
    /// There is room for that many.
    #[target_feature(enable = "avx512f,popcnt")]
    unsafe fn compress(mask: __mmask16, values: __m512i, to: *mut u32) -> usize {
        let count = mask.count_ones() as usize;
        // In a register first: straight to memory it is microcoded on some processors.
        let packed = _mm512_maskz_compress_epi32(mask, values);
        // SAFETY: the caller's promise.
        unsafe { _mm512_mask_storeu_epi32(to.cast(), lanes(count), packed) };
        count
    }

    /// Sixteen ids at a time, their words gathered.
    ///
    /// # Safety
    ///
    /// As for [`SelectTable`](super::SelectTable).
    #[target_feature(enable = "avx512f,popcnt")]
    pub(super) unsafe fn absent(words: &[u32], limit: u32, ids: &[u32], out: &mut [u32]) -> usize {
        let (limit, one) = (_mm512_set1_epi32(limit as i32), _mm512_set1_epi32(1));
        let mut count = 0;
        for chunk in ids.chunks(LANES) {
            let lanes = lanes(chunk.len());
            // SAFETY: only lanes of the chunk are read; the words of ids below the limit are there; at most as
            // many are written as were read.
            unsafe {
                let ids = _mm512_maskz_loadu_epi32(lanes, chunk.as_ptr().cast());
                let inside = _mm512_mask_cmplt_epu32_mask(lanes, ids, limit);
                let at = _mm512_srli_epi32::<5>(ids);
                let gathered = _mm512_mask_i32gather_epi32::<4>(one, inside, at, words.as_ptr().cast());
                let bits = _mm512_sllv_epi32(one, _mm512_and_si512(ids, _mm512_set1_epi32(31)));
                let absent = _mm512_mask_testn_epi32_mask(inside, gathered, bits);
                count += compress(absent, ids, out.as_mut_ptr().add(count));
            }
        }
        count
    }

    #[target_feature(enable = "avx512f,popcnt")]
    pub(super) fn at_least(scores: &[f32], least: f32, found: &mut Vec<u32>) {
        let least = _mm512_set1_ps(least);
        let mut at = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        for chunk in scores.chunks(LANES) {
            found.reserve(LANES);
            // SAFETY: only lanes of the chunk are read; there is room for all of them, and only what was written
            // counts.
            unsafe {
                let scores = _mm512_maskz_loadu_ps(lanes(chunk.len()), chunk.as_ptr());
                let reached = _mm512_mask_cmp_ps_mask::<_CMP_GE_OQ>(lanes(chunk.len()), scores, least);
                let count = compress(reached, at, found.as_mut_ptr().add(found.len()));
                found.set_len(found.len() + count);
            }
            at = _mm512_add_epi32(at, _mm512_set1_epi32(LANES as i32));
        }
    }

    /// A word at a time, which is faster than what a compiler makes of it in vectors.
    #[target_feature(enable = "popcnt")]
    pub(super) fn ones(words: &[u32]) -> usize {
        let (pairs, rest) = words.as_chunks::<2>();
        let pairs = pairs.iter().map(|[low, high]| u64::from(*low) | u64::from(*high) << 32);
        let count = |count: usize, ones: u32| count + ones as usize;
        let of_pairs = pairs.map(u64::count_ones).fold(0, count);
        rest.iter().map(|word| word.count_ones()).fold(of_pairs, count)
    }

    #[target_feature(enable = "avx512f,popcnt")]
    pub(super) fn count(scores: &[f32], least: f32) -> usize {
        let least = _mm512_set1_ps(least);
        let mut count = 0;
        for chunk in scores.chunks(LANES) {
            // SAFETY: only lanes of the chunk are read.
            let scores = unsafe { _mm512_maskz_loadu_ps(lanes(chunk.len()), chunk.as_ptr()) };
            let reached = _mm512_mask_cmp_ps_mask::<_CMP_GE_OQ>(lanes(chunk.len()), scores, least);
            count += reached.count_ones() as usize;
        }
        count
    }
}
