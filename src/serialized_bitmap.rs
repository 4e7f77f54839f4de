//! 32-bit Roaring bitmaps in the portable serialization, read where they lie.
//!
//! ```text
//! no runs    cookie 12346 u32 │ containers u32                   │ descriptions │ offsets          │ containers
//! with runs  cookie 12347 u16 │ containers − 1 u16 │ a bit each  │ descriptions │ offsets, from 4  │ containers
//! ```
//!
//! A description is the upper 16 bits of the values and their number less 1; the offsets are those of the
//! containers. Little-endian, all of it: <https://github.com/RoaringBitmap/RoaringFormatSpec>.
//!
//! What flows in: bytes that nobody vouches for. What flows out: their values, or bits in a bitmap of words.
//! The `roaring` crate writes such bitmaps. It does not read them here, since it allocates for every container:
//! for 64-bit ids that are hashes, that is for every id.

use std::fmt;

/// The first 4 bytes of a bitmap that has no runs.
const COOKIE: u32 = 12_346;
/// The first 2 bytes of a bitmap that has some.
const COOKIE_WITH_RUNS: u32 = 12_347;
/// A bitmap with runs has offsets from so many containers on.
const MIN_OFFSETS: usize = 4;
/// There are no more: the upper 16 bits of their values differ.
const MAX_CONTAINERS: usize = 1 << 16;
/// More values than these are a bit each, however few the rest of the container has.
const MAX_ARRAY: usize = 4_096;
/// The words of a container.
const CONTAINER_WORDS: usize = 2_048;

/// A set of `u32` in the bytes that it was written to.
#[derive(Clone, Copy)]
pub struct SerializedBitmap<'a> {
    len: u64,
    /// Bit i of byte i / 8 is set where container i holds runs; empty if none does.
    run_flags: &'a [u8],
    /// Of each container the upper 16 bits of its values and their number less 1.
    descriptions: &'a [[u8; 4]],
    /// One after the other.
    containers: &'a [u8],
}

/// Values that have their upper 16 bits in common; these are the lower ones.
#[derive(Clone, Copy)]
enum Container<'a> {
    /// At most [`MAX_ARRAY`], ascending.
    Array(&'a [[u8; 2]]),
    /// A bit each, the least significant first.
    Bits(&'a [[u8; 4]]),
    /// Ascending: the first value of a run and how many follow it.
    Runs(&'a [[u8; 4]]),
}

/// What is wrong with the bytes of a bitmap. `at` counts bytes from its start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BitmapError {
    /// The bytes end within something.
    #[error("byte {at}: truncated: expected {expected} more bytes, found {found}")]
    Truncated {
        /// Where it starts.
        at: usize,
        /// Bytes that it has.
        expected: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// Not a bitmap at all.
    #[error("byte 0: not a Roaring bitmap: expected cookie 12346 or 12347, found {found}")]
    ForeignCookie {
        /// The first 4 bytes.
        found: u32,
    },
    /// More containers than differ in the upper 16 bits of their values.
    #[error("byte 4: expected at most {MAX_CONTAINERS} containers, found {found}")]
    TooManyContainers {
        /// How many the bitmap claims.
        found: u32,
    },
    /// Containers, or the values or runs of one, do not ascend, or they overlap.
    #[error("byte {at}: {what}: expected {expected} or more, found {found}")]
    NotAscending {
        /// Where it lies.
        at: usize,
        /// `key`, `value` or `run`.
        what: &'static str,
        /// The least that may follow what is before it.
        expected: u32,
        /// What does.
        found: u16,
    },
    /// A container lies elsewhere than its offset says.
    #[error("byte {at}: expected a container at byte {expected}, found offset {found}")]
    WrongOffset {
        /// Where the offset lies.
        at: usize,
        /// Where the container lies.
        expected: usize,
        /// The offset.
        found: u32,
    },
    /// A run passes the end of its container.
    #[error("byte {at}: expected a run up to 65535 at most, found one up to {found}")]
    RunTooLong {
        /// Where the run lies.
        at: usize,
        /// Its last value.
        found: u32,
    },
    /// A container has more or fewer values than its description says.
    #[error("byte {at}: expected a container of {expected} values, found {found}")]
    WrongCount {
        /// Where the container lies.
        at: usize,
        /// As described.
        expected: usize,
        /// As counted.
        found: usize,
    },
}

impl<'a> SerializedBitmap<'a> {
    /// Checks every length, count and order; gives the bitmap and what follows it.
    ///
    /// Runs may touch each other: the format allows it, and they are one set all the same.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), BitmapError> {
        let mut input = Input { rest: bytes, at: 0 };
        let Header { run_flags, descriptions, descriptions_at, offsets, offsets_at } = input.header()?;
        let mut bitmap = Self { len: 0, run_flags, descriptions, containers: input.rest };
        let mut least_key = 0;
        for (at, description) in descriptions.iter().enumerate() {
            let (key, len) = described(*description);
            if u32::from(key) < least_key {
                let at = descriptions_at + 4 * at;
                return Err(BitmapError::NotAscending { at, what: "key", expected: least_key, found: key });
            }
            least_key = u32::from(key) + 1;
            let offset = offsets.get(at).map(|offset| u32::from_le_bytes(*offset));
            if let Some(found) = offset.filter(|offset| *offset as usize != input.at) {
                let at = offsets_at + 4 * at;
                return Err(BitmapError::WrongOffset { at, expected: input.at, found });
            }
            let container_at = input.at;
            let found = input.container(len, bitmap.has_runs(at))?.check(container_at)?;
            if found != len {
                return Err(BitmapError::WrongCount { at: container_at, expected: len, found });
            }
            bitmap.len += len as u64;
        }
        bitmap.containers = &bitmap.containers[..bitmap.containers.len() - input.rest.len()];
        Ok((bitmap, input.rest))
    }

    /// The bitmap at the start of `bytes` with its containers unchecked: [`SerializedBitmap::parse`] reads every
    /// byte of them, which takes longer than [`SerializedBitmap::add_to`].
    ///
    /// For bytes that were checked when they came. Others give other values, and [`SerializedBitmap::len`] another
    /// number than there are; nothing else goes wrong.
    ///
    /// # Errors
    /// If the bytes before the containers are not those of a bitmap.
    pub fn skim(bytes: &'a [u8]) -> Result<Self, BitmapError> {
        let mut input = Input { rest: bytes, at: 0 };
        let Header { run_flags, descriptions, .. } = input.header()?;
        let len = descriptions.iter().map(|description| described(*description).1 as u64).sum();
        Ok(Self { len, run_flags, descriptions, containers: input.rest })
    }

    /// How many values.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Calls `each` with the values, ascending.
    pub fn for_each(&self, mut each: impl FnMut(u32)) {
        for (key, container) in self.containers() {
            let first = u32::from(key) << 16;
            match container {
                Container::Array(values) => {
                    values.iter().for_each(|value| each(first | u32::from(u16::from_le_bytes(*value))));
                }
                Container::Bits(words) => {
                    for (word, at) in words.iter().zip(0..) {
                        let mut rest = u32::from_le_bytes(*word);
                        while rest != 0 {
                            each(first | (at * u32::BITS + rest.trailing_zeros()));
                            rest &= rest - 1;
                        }
                    }
                }
                Container::Runs(runs) => {
                    ascending(runs).for_each(|(start, end)| {
                        (start..=end).for_each(|value| each(first | value));
                    });
                }
            }
        }
    }

    /// Sets the bit of every value in `words`: value v is bit v mod 32, the least significant being bit 0, of word
    /// v / 32. Values beyond the words are passed over.
    pub fn add_to(&self, words: &mut [u32]) {
        for (key, container) in self.containers() {
            let Some(words) = words.get_mut(usize::from(key) * CONTAINER_WORDS..) else { return };
            match container {
                Container::Array(values) => {
                    let values = values.iter().map(|value| u16::from_le_bytes(*value));
                    if let Some(words) = words.first_chunk_mut::<CONTAINER_WORDS>() {
                        // Every value has a word, and none is checked.
                        values.for_each(|value| words[usize::from(value / 32)] |= 1 << (value % 32));
                        continue;
                    }
                    for value in values {
                        if let Some(word) = words.get_mut(usize::from(value / 32)) {
                            *word |= 1 << (value % 32);
                        }
                    }
                }
                Container::Bits(bits) => {
                    words.iter_mut().zip(bits).for_each(|(word, bits)| *word |= u32::from_le_bytes(*bits));
                }
                Container::Runs(runs) => ascending(runs).for_each(|run| add_run(words, run)),
            }
        }
    }

    /// The containers with the upper 16 bits of their values.
    fn containers(&self) -> impl Iterator<Item = (u16, Container<'a>)> {
        let bitmap = *self;
        let mut input = Input { rest: self.containers, at: 0 };
        self.descriptions.iter().enumerate().map_while(move |(at, description)| {
            let (key, len) = described(*description);
            // They are all there unless the containers went unchecked.
            input.container(len, bitmap.has_runs(at)).ok().map(|container| (key, container))
        })
    }

    fn has_runs(&self, container: usize) -> bool {
        self.run_flags.get(container / 8).is_some_and(|flags| flags >> (container % 8) & 1 != 0)
    }
}

impl fmt::Debug for SerializedBitmap<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SerializedBitmap").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Container<'_> {
    /// Checks the order of a container that starts at byte `at` of the bitmap, and counts its values.
    fn check(self, at: usize) -> Result<usize, BitmapError> {
        match self {
            Container::Array(values) => {
                let ascends =
                    |pair: (&[u8; 2], &[u8; 2])| u16::from_le_bytes(*pair.0) < u16::from_le_bytes(*pair.1);
                let pairs = || values.iter().zip(values.iter().skip(1));
                // To its end even where it fails early: so the compiler compares many at a time.
                if !pairs().fold(true, |all, pair| all & ascends(pair)) {
                    let wrong = pairs().position(|pair| !ascends(pair)).unwrap_or_default();
                    return Err(BitmapError::NotAscending {
                        at: at + 2 * (wrong + 1),
                        what: "value",
                        expected: u32::from(u16::from_le_bytes(values[wrong])) + 1,
                        found: u16::from_le_bytes(values[wrong + 1]),
                    });
                }
                Ok(values.len())
            }
            Container::Bits(words) => {
                Ok(words.iter().map(|word| u32::from_le_bytes(*word).count_ones() as usize).sum())
            }
            Container::Runs(runs) => {
                let (mut least, mut count) = (0, 0);
                for (run, position) in runs.iter().zip(0..) {
                    let at = at + 2 + 4 * position;
                    let (start, end) = bounds(*run);
                    if start < least {
                        let found = start as u16;
                        return Err(BitmapError::NotAscending { at, what: "run", expected: least, found });
                    }
                    if end > u32::from(u16::MAX) {
                        return Err(BitmapError::RunTooLong { at, found: end });
                    }
                    least = end + 1;
                    count += (least - start) as usize;
                }
                Ok(count)
            }
        }
    }
}

/// What comes before the containers.
struct Header<'a> {
    run_flags: &'a [u8],
    descriptions: &'a [[u8; 4]],
    descriptions_at: usize,
    /// Empty if there are none.
    offsets: &'a [[u8; 4]],
    offsets_at: usize,
}

/// What is still to be read, and where in the bitmap it starts.
struct Input<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], BitmapError> {
        let Some((taken, rest)) = self.rest.split_at_checked(bytes) else {
            return Err(BitmapError::Truncated { at: self.at, expected: bytes, found: self.rest.len() });
        };
        self.rest = rest;
        self.at += bytes;
        Ok(taken)
    }

    fn chunks<const BYTES: usize>(&mut self, count: usize) -> Result<&'a [[u8; BYTES]], BitmapError> {
        Ok(self.take(count * BYTES)?.as_chunks().0)
    }

    fn array<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], BitmapError> {
        let Some((array, rest)) = self.rest.split_first_chunk() else {
            return Err(BitmapError::Truncated { at: self.at, expected: BYTES, found: self.rest.len() });
        };
        self.rest = rest;
        self.at += BYTES;
        Ok(*array)
    }

    fn header(&mut self) -> Result<Header<'a>, BitmapError> {
        let cookie = u32::from_le_bytes(self.array()?);
        let with_runs = cookie & 0xffff == COOKIE_WITH_RUNS;
        let (count, run_flags) = if with_runs {
            let count = (cookie >> 16) as usize + 1;
            (count, self.take(count.div_ceil(8))?)
        } else if cookie == COOKIE {
            let count = u32::from_le_bytes(self.array()?);
            if count as usize > MAX_CONTAINERS {
                return Err(BitmapError::TooManyContainers { found: count });
            }
            (count as usize, &[][..])
        } else {
            return Err(BitmapError::ForeignCookie { found: cookie });
        };
        let descriptions_at = self.at;
        let descriptions = self.chunks::<4>(count)?;
        let offsets_at = self.at;
        let offsets = self.chunks::<4>(if with_runs && count < MIN_OFFSETS { 0 } else { count })?;
        Ok(Header { run_flags, descriptions, descriptions_at, offsets, offsets_at })
    }

    fn container(&mut self, len: usize, runs: bool) -> Result<Container<'a>, BitmapError> {
        Ok(if runs {
            let count = usize::from(u16::from_le_bytes(self.array()?));
            Container::Runs(self.chunks(count)?)
        } else if len <= MAX_ARRAY {
            Container::Array(self.chunks(len)?)
        } else {
            Container::Bits(self.chunks(CONTAINER_WORDS)?)
        })
    }
}

fn described([low, high, less_low, less_high]: [u8; 4]) -> (u16, usize) {
    (u16::from_le_bytes([low, high]), usize::from(u16::from_le_bytes([less_low, less_high])) + 1)
}

/// The first value and the last.
fn bounds([low, high, more_low, more_high]: [u8; 4]) -> (u32, u32) {
    let start = u32::from(u16::from_le_bytes([low, high]));
    (start, start + u32::from(u16::from_le_bytes([more_low, more_high])))
}

/// The bounds of runs up to the first that does not follow the one before it: of checked ones, all.
fn ascending(runs: &[[u8; 4]]) -> impl Iterator<Item = (u32, u32)> {
    let mut least = 0;
    runs.iter().map(|run| bounds(*run)).take_while(move |(start, end)| {
        let follows = *start >= least;
        least = end + 1;
        follows
    })
}

fn add_run(words: &mut [u32], (start, end): (u32, u32)) {
    let (first, last) = ((start / 32) as usize, (end / 32) as usize);
    let (from, to) = (u32::MAX << (start % 32), u32::MAX >> (31 - end % 32));
    if first == last {
        words.get_mut(first).into_iter().for_each(|word| *word |= from & to);
        return;
    }
    words.get_mut(first).into_iter().for_each(|word| *word |= from);
    let whole = first + 1..last.min(words.len());
    words.get_mut(whole).into_iter().flatten().for_each(|word| *word = u32::MAX);
    words.get_mut(last).into_iter().for_each(|word| *word |= to);
}

#[cfg(test)]
mod tests;
