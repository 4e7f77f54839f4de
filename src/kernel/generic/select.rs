//! Selection: scores above a threshold, ids whose bit in a bitmap is not set.

/// Bits per word of a bitmap.
pub const WORD_BITS: usize = 32;

/// Values per iteration.
pub(in crate::kernel) const LANES: usize = 16;

/// Branch-free for ids below the limit, since membership is unpredictable: always stores the id, and advances `count`
/// only if its bit is not set.
pub(in crate::kernel) fn absent(words: &[u32], limit: u32, ids: &[u32], out: &mut [u32]) -> usize {
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
pub(in crate::kernel) fn at_least(scores: &[f32], least: f32, found: &mut Vec<u32>) {
    for (at, chunk) in scores.chunks(LANES).enumerate() {
        // If few scores reach it, one vector comparison skips a chunk; if many do, a branch per score is unpredictable.
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
pub(in crate::kernel) fn count(scores: &[f32], least: f32) -> usize {
    let chunks = scores.chunks_exact(LANES);
    let rest = chunks.remainder().iter().filter(|score| **score >= least).count();
    let mut counts = [0u32; LANES];
    for chunk in chunks {
        counts.iter_mut().zip(chunk).for_each(|(count, score)| *count += u32::from(*score >= least));
    }
    rest + counts.iter().map(|count| *count as usize).sum::<usize>()
}

/// Counts set bits in lanes, so that the compiler emits vector code where there is no instruction for it.
#[inline(always)]
pub(in crate::kernel) fn ones(words: &[u32]) -> usize {
    let chunks = words.chunks_exact(LANES);
    let rest: u32 = chunks.remainder().iter().map(|word| word.count_ones()).sum();
    let mut counts = [0u32; LANES];
    for chunk in chunks {
        counts.iter_mut().zip(chunk).for_each(|(count, word)| *count += word.count_ones());
    }
    rest as usize + counts.iter().map(|count| *count as usize).sum::<usize>()
}

#[inline(always)]
pub(in crate::kernel) fn maxima(scores: &[f32], maxima: &mut [f32]) {
    maxima.fill(f32::NEG_INFINITY);
    for part in scores.chunks(maxima.len()) {
        for (largest, score) in maxima.iter_mut().zip(part) {
            *largest = if *score > *largest { *score } else { *largest };
        }
    }
}

#[inline(always)]
pub(in crate::kernel) fn range(scores: &[f32]) -> (f32, f32) {
    let (mut smallest, mut largest) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    let (chunks, rest) = scores.as_chunks::<LANES>();
    // Whole chunks in a loop of their own: the lanes stay in registers.
    let mut widen = |scores: &[f32]| {
        for ((smallest, largest), score) in smallest.iter_mut().zip(&mut largest).zip(scores) {
            *smallest = if *score < *smallest { *score } else { *smallest };
            *largest = if *score > *largest { *score } else { *largest };
        }
    };
    chunks.iter().for_each(|chunk| widen(chunk));
    widen(rest);
    (
        smallest.into_iter().fold(f32::INFINITY, f32::min),
        largest.into_iter().fold(f32::NEG_INFINITY, f32::max),
    )
}

/// Returns the [`SelectTable`](crate::kernel::tables::SelectTable) of one instruction set, compiled for `$features`, from
/// its implementation of the first four functions.
macro_rules! select_table {
    ($absent:path, $at_least:path, $count:path, $ones:path $(, $features:tt)?) => {{
        use $crate::kernel::tables::SelectTable;

        $(#[target_feature(enable = $features)])?
        fn table_at_least(scores: &[f32], least: f32, found: &mut Vec<u32>) {
            $at_least(scores, least, found)
        }
        $(#[target_feature(enable = $features)])?
        fn table_count(scores: &[f32], least: f32) -> usize {
            $count(scores, least)
        }
        $(#[target_feature(enable = $features)])?
        fn table_maxima(scores: &[f32], out: &mut [f32]) {
            $crate::kernel::generic::select::maxima(scores, out)
        }
        $(#[target_feature(enable = $features)])?
        fn table_range(scores: &[f32]) -> (f32, f32) {
            $crate::kernel::generic::select::range(scores)
        }
        $(#[target_feature(enable = $features)])?
        fn table_ones(words: &[u32]) -> usize {
            $ones(words)
        }
        SelectTable {
            absent: $absent,
            at_least: table_at_least,
            count: table_count,
            maxima: table_maxima,
            range: table_range,
            ones: table_ones,
        }
    }};
}

pub(in crate::kernel) use select_table;
