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
//! | file | duty |
//! |---|---|
//! | `container.rs` | values with the same upper 16 bits |
//! | `error.rs`     | what can be wrong |
//!
//! What flows in: bytes that nobody vouches for. What flows out: their values, or bits in a bitmap of words.
//! The `roaring` crate writes such bitmaps. It does not read them here, since it allocates for every container:
//! for 64-bit ids that are hashes, that is for every id.

mod container;
mod error;
#[cfg(test)]
mod tests;

pub use error::BitmapError;

use container::{CONTAINER_WORDS, Container, Input, MAX_CONTAINERS, check_order};

/// The first 4 bytes of a bitmap that has no runs.
const COOKIE: u32 = 12_346;
/// The first 2 bytes of a bitmap that has some.
const COOKIE_WITH_RUNS: u32 = 12_347;
/// Bytes in front of the lower half of the value of a bitmap that has one alone.
pub const LONE_START_BYTES: usize = 16;
/// What they are: one container, whose key may be any, one value less one, and where it is. Which bits have to be so.
const LONE_START: [u64; LONE_START_BYTES / 8] = [1 << 32 | COOKIE as u64, (LONE_START_BYTES as u64) << 32];
const LONE_START_BITS: [u64; LONE_START_BYTES / 8] = [u64::MAX, !0xffff];
/// A bitmap with runs has offsets from so many containers on.
const MIN_OFFSETS: usize = 4;

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

impl<'a> SerializedBitmap<'a> {
    /// Checks every length, count and order; gives the bitmap and what follows it.
    ///
    /// Runs may touch each other: the format allows it, and they are one set all the same.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), BitmapError> {
        let mut input = Input::new(bytes);
        let Header { run_flags, descriptions, descriptions_at, offsets, offsets_at } =
            Header::read(&mut input)?;
        let mut bitmap = Self { len: 0, run_flags, descriptions, containers: input.rest };
        let mut least_key = 0;
        for (position, description) in descriptions.iter().enumerate() {
            let (key, len) = described(*description);
            check_order("key", descriptions_at + 4 * position, least_key, key)?;
            least_key = u32::from(key) + 1;
            let at = input.at;
            let offset = offsets.get(position).map(|offset| u32::from_le_bytes(*offset));
            if let Some(found) = offset.filter(|offset| *offset as usize != at) {
                return Err(BitmapError::WrongOffset { at: offsets_at + 4 * position, expected: at, found });
            }
            let found = input.container(len, bitmap.has_runs(position))?.check(at)?;
            if found != len {
                return Err(BitmapError::WrongCount { at, expected: len, found });
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
        let mut input = Input::new(bytes);
        let Header { run_flags, descriptions, .. } = Header::read(&mut input)?;
        let len = descriptions.iter().map(|description| described(*description).1 as u64).sum();
        Ok(Self { len, run_flags, descriptions, containers: input.rest })
    }

    /// Whether all bitmaps that begin so have one value each. No branch depends on the bytes.
    #[inline]
    pub fn are_lone<'b>(starts: impl Iterator<Item = &'b [u8; LONE_START_BYTES]>) -> bool {
        // Which bits any of them has, and which all of them have.
        let (mut any, mut all) = ([0; LONE_START.len()], [u64::MAX; LONE_START.len()]);
        for start in starts {
            for (at, word) in start.as_chunks().0.iter().enumerate() {
                let word = u64::from_le_bytes(*word);
                any[at] |= word;
                all[at] &= word;
            }
        }
        (0..LONE_START.len()).all(|at| {
            let wrong = any[at] & !LONE_START[at] | !all[at] & LONE_START[at];
            wrong & LONE_START_BITS[at] == 0
        })
    }

    /// The value of a bitmap that has one alone, and what follows the bitmap: what most buckets of a 64-bit bitmap
    /// are where ids are hashes, read in a nanosecond instead of 18. Of any other bytes, `None`; parse those.
    #[inline]
    pub fn lone_value(bytes: &[u8]) -> Option<(u32, &[u8])> {
        let (bitmap, rest) = bytes.split_first_chunk::<18>()?;
        let is_lone = Self::are_lone(bitmap.first_chunk().into_iter());
        is_lone.then_some((u32::from_le_bytes([bitmap[16], bitmap[17], bitmap[8], bitmap[9]]), rest))
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
            container.for_each(|low| each(u32::from(key) << 16 | low));
        }
    }

    /// Sets the bit of every value in `words`: value v is bit v mod 32, the least significant being bit 0, of word
    /// v / 32. Values beyond the words are passed over.
    pub fn add_to(&self, words: &mut [u32]) {
        for (key, container) in self.containers() {
            let Some(words) = words.get_mut(usize::from(key) * CONTAINER_WORDS..) else { return };
            container.add_to(words);
        }
    }

    /// The containers with the upper 16 bits of their values.
    fn containers(&self) -> impl Iterator<Item = (u16, Container<'a>)> {
        let bitmap = *self;
        let mut input = Input::new(self.containers);
        self.descriptions.iter().enumerate().map_while(move |(position, description)| {
            let (key, len) = described(*description);
            // They are all there unless the containers went unchecked.
            input.container(len, bitmap.has_runs(position)).ok().map(|container| (key, container))
        })
    }

    fn has_runs(&self, container: usize) -> bool {
        self.run_flags.get(container / 8).is_some_and(|flags| flags >> (container % 8) & 1 != 0)
    }
}

impl std::fmt::Debug for SerializedBitmap<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SerializedBitmap").field("len", &self.len).finish_non_exhaustive()
    }
}

/// What comes before the containers.
struct Header<'a> {
    run_flags: &'a [u8],
    descriptions: &'a [[u8; 4]],
    /// Byte of the bitmap.
    descriptions_at: usize,
    /// Empty if there are none.
    offsets: &'a [[u8; 4]],
    /// Byte of the bitmap.
    offsets_at: usize,
}

impl<'a> Header<'a> {
    fn read(input: &mut Input<'a>) -> Result<Self, BitmapError> {
        let cookie = u32::from_le_bytes(*input.array()?);
        let with_runs = cookie & 0xffff == COOKIE_WITH_RUNS;
        let (count, run_flags) = if with_runs {
            let count = (cookie >> 16) as usize + 1;
            (count, input.bytes(count.div_ceil(8))?)
        } else if cookie == COOKIE {
            let count = u32::from_le_bytes(*input.array()?);
            if count as usize > MAX_CONTAINERS {
                return Err(BitmapError::TooManyContainers { found: count });
            }
            (count as usize, &[][..])
        } else {
            return Err(BitmapError::ForeignCookie { found: cookie });
        };
        let descriptions_at = input.at;
        let descriptions = input.chunks(count)?;
        let offsets_at = input.at;
        let offsets = input.chunks(if with_runs && count < MIN_OFFSETS { 0 } else { count })?;
        Ok(Self { run_flags, descriptions, descriptions_at, offsets, offsets_at })
    }
}

/// The upper 16 bits of the values of a container, and how many they are.
fn described([low, high, less_low, less_high]: [u8; 4]) -> (u16, usize) {
    (u16::from_le_bytes([low, high]), usize::from(u16::from_le_bytes([less_low, less_high])) + 1)
}
