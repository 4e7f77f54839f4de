//! Containers: the values of a bitmap that share their upper 16 bits.

use super::error::BitmapError;
use super::input::Input;

/// Number of `u32` words with one bit per possible value of a container.
pub(super) const CONTAINER_WORDS: usize = 2_048;
/// The same in bytes.
const CONTAINER_BYTES: usize = 4 * CONTAINER_WORDS;
/// A container with more values than this is stored as a bit per possible value.
const MAX_ARRAY: usize = 4_096;

/// The lower 16 bits of the values of one container, ascending.
#[derive(Clone, Copy)]
pub(super) enum Container<'a> {
    /// The values, at most [`MAX_ARRAY`].
    Array(&'a [[u8; 2]]),
    /// A bit per possible value, the least significant first.
    Bits(&'a [u8; CONTAINER_BYTES]),
    /// For each run its first value and the number of further values.
    Runs(&'a [[u8; 4]]),
}

impl<'a> Container<'a> {
    /// Reads a container of `len` values.
    pub(super) fn read(input: &mut Input<'a>, len: usize, of_runs: bool) -> Result<Self, BitmapError> {
        Ok(if of_runs {
            let count = usize::from(u16::from_le_bytes(*input.array()?));
            Container::Runs(input.chunks(count)?)
        } else if len <= MAX_ARRAY {
            Container::Array(input.chunks(len)?)
        } else {
            Container::Bits(input.array()?)
        })
    }

    /// Checks the order of a container that starts at byte `at` of the bitmap. Returns its number of values.
    pub(super) fn check(self, at: usize) -> Result<usize, BitmapError> {
        match self {
            Container::Array(values) => check_array(values, at),
            Container::Bits(bytes) => Ok(count_ones(bytes)),
            Container::Runs(runs) => check_runs(runs, at + 2),
        }
    }

    /// Calls `each` with every value, ascending.
    pub(super) fn for_each(self, mut each: impl FnMut(u32)) {
        match self {
            Container::Array(values) => {
                values.iter().for_each(|value| each(u32::from(u16::from_le_bytes(*value))));
            }
            Container::Bits(bytes) => {
                for (word, at) in bytes.as_chunks().0.iter().zip(0..) {
                    let mut rest = u64::from_le_bytes(*word);
                    while rest != 0 {
                        each(at * u64::BITS + rest.trailing_zeros());
                        rest &= rest - 1;
                    }
                }
            }
            Container::Runs(runs) => {
                ascending(runs).for_each(|(start, end)| (start..=end).for_each(&mut each));
            }
        }
    }

    /// Sets the bits of the values; values past the end of `words` are ignored.
    pub(super) fn add_to(self, words: &mut [u32]) {
        match self {
            Container::Array(values) => {
                let values = values.iter().map(|value| u16::from_le_bytes(*value));
                if let Some(words) = words.first_chunk_mut::<CONTAINER_WORDS>() {
                    // With a full-size array the compiler drops the bounds checks.
                    values.for_each(|value| words[usize::from(value / 32)] |= 1 << (value % 32));
                    return;
                }
                for value in values {
                    if let Some(word) = words.get_mut(usize::from(value / 32)) {
                        *word |= 1 << (value % 32);
                    }
                }
            }
            Container::Bits(bytes) => {
                let (bits, _) = bytes.as_chunks();
                words.iter_mut().zip(bits).for_each(|(word, bits)| *word |= u32::from_le_bytes(*bits));
            }
            Container::Runs(runs) => match words.first_chunk_mut::<{ CONTAINER_WORDS + 1 }>() {
                Some(words) => ascending(runs).for_each(|run| add_run_within(words, run)),
                None => ascending(runs).for_each(|run| add_run(words, run)),
            },
        }
    }
}

fn check_array(values: &[[u8; 2]], at: usize) -> Result<usize, BitmapError> {
    let pairs = || {
        let each = values.iter().map(|value| u16::from_le_bytes(*value));
        each.clone().zip(each.skip(1))
    };
    // The fast path compares all pairs even after a failure, which lets the compiler vectorize it.
    if pairs().fold(true, |ascending, (value, next)| ascending & (value < next)) {
        return Ok(values.len());
    }
    pairs().zip(1..).try_for_each(|((value, next), position)| {
        check_order("value", at + 2 * position, u32::from(value) + 1, next)
    })?;
    Ok(values.len())
}

fn check_runs(runs: &[[u8; 4]], at: usize) -> Result<usize, BitmapError> {
    let (mut least, mut count) = (0, 0);
    for (run, position) in runs.iter().zip(0..) {
        let at = at + 4 * position;
        let (start, end) = bounds(*run);
        check_order("run", at, least, start as u16)?;
        if end > u32::from(u16::MAX) {
            return Err(BitmapError::RunTooLong { at, found: end });
        }
        least = end + 1;
        count += (least - start) as usize;
    }
    Ok(count)
}

/// Eight words, processed bit-parallel: wide enough for the vector registers of any target.
type Lanes = [u64; 8];

/// Counts the bits with a carry-save adder tree: ones, twos and fours are kept bit-parallel in registers, and only every
/// eighth vector is counted (Harley and Seal, after Muła, Kurz and Lemire, "Faster Population Counts Using AVX2
/// Instructions", 2018).
///
/// Takes half the time of a word at a time without the POPCNT instruction, which baseline x86-64 lacks.
fn count_ones(bytes: &[u8; CONTAINER_BYTES]) -> usize {
    let lanes = |bytes: &[u8; 64]| -> Lanes {
        let (words, _) = bytes.as_chunks();
        std::array::from_fn(|lane| u64::from_le_bytes(words[lane]))
    };
    let count = |lanes: Lanes| lanes.iter().map(|word| word.count_ones() as usize).sum::<usize>();
    let (mut ones, mut twos, mut fours, mut eights) = ([0; 8], [0; 8], [0; 8], 0);
    for blocks in bytes.as_chunks().0.as_chunks::<8>().0 {
        let [a, b, c, d, e, f, g, h] = blocks.each_ref().map(lanes);
        let (ab, cd) = (add(&mut ones, a, b), add(&mut ones, c, d));
        let (ef, gh) = (add(&mut ones, e, f), add(&mut ones, g, h));
        let (abcd, efgh) = (add(&mut twos, ab, cd), add(&mut twos, ef, gh));
        eights += count(add(&mut fours, abcd, efgh));
    }
    8 * eights + 4 * count(fours) + 2 * count(twos) + count(ones)
}

/// Carry-save adder: adds the bits of `one` and `other` to `sum`, modulo 2, and returns the carries.
#[inline(always)]
fn add(sum: &mut Lanes, one: Lanes, other: Lanes) -> Lanes {
    std::array::from_fn(|lane| {
        let (old, half) = (sum[lane], one[lane] ^ other[lane]);
        sum[lane] = old ^ half;
        old & half | one[lane] & other[lane]
    })
}

/// Checks that the key, value or run at byte `at` is at least `expected`.
pub(super) fn check_order(
    what: &'static str,
    at: usize,
    expected: u32,
    found: u16,
) -> Result<(), BitmapError> {
    match u32::from(found) < expected {
        true => Err(BitmapError::NotAscending { at, what, expected, found }),
        false => Ok(()),
    }
}

/// The first and last value of a run.
fn bounds([low, high, more_low, more_high]: [u8; 4]) -> (u32, u32) {
    let start = u32::from(u16::from_le_bytes([low, high]));
    (start, start + u32::from(u16::from_le_bytes([more_low, more_high])))
}

/// The bounds of the runs, up to the first run out of order; all runs of a checked container.
fn ascending(runs: &[[u8; 4]]) -> impl Iterator<Item = (u32, u32)> {
    let mut least = 0;
    runs.iter().map(|run| bounds(*run)).take_while(move |(start, end)| {
        let follows = *start >= least;
        least = end + 1;
        follows
    })
}

/// Same as [`add_run`], for an array with one word more than the container. A run of at most 32 values is written to two
/// words without branching on whether it crosses a word boundary: most runs are short, and that branch would be
/// mispredicted.
#[inline(always)]
fn add_run_within(words: &mut [u32; CONTAINER_WORDS + 1], (start, end): (u32, u32)) {
    let (more, at) = (end - start, start as usize / 32);
    if more >= u32::BITS {
        return add_run(words, (start, end));
    }
    let bits = (u64::MAX >> (u64::BITS - 1 - more)) << (start % u32::BITS);
    words[at] |= bits as u32;
    words[at + 1] |= (bits >> u32::BITS) as u32;
}

/// Sets the bits `start..=end`, as far as there are words for them.
fn add_run(words: &mut [u32], (start, end): (u32, u32)) {
    let (first, last) = ((start / u32::BITS) as usize, (end / u32::BITS) as usize);
    let from_start = u32::MAX << (start % u32::BITS);
    let to_end = u32::MAX >> (u32::BITS - 1 - end % u32::BITS);
    let mut add = |at: usize, bits: u32| words.get_mut(at).into_iter().for_each(|word| *word |= bits);
    if first == last {
        add(first, from_start & to_end);
        return;
    }
    add(first, from_start);
    add(last, to_end);
    let between = first + 1..last.min(words.len());
    words.get_mut(between).into_iter().for_each(|words| words.fill(u32::MAX));
}
