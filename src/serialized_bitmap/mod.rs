//! 32-bit Roaring bitmaps in the portable serialization, read in place.
//!
//! ```text
//! no runs    cookie 12346 u32 │ containers u32                   │ descriptions │ offsets          │ containers
//! with runs  cookie 12347 u16 │ containers − 1 u16 │ run flags   │ descriptions │ offsets, from 4  │ containers
//! ```
//!
//! There is one run flag (a bit) per container. A description is the upper 16 bits of the values and their number − 1;
//! an offset is the first byte of a container. With runs, offsets are present from 4 containers on. Everything is
//! little-endian. Specification: <https://github.com/RoaringBitmap/RoaringFormatSpec>.
//!
//! | file | duty |
//! |---|---|
//! | `input.rs`     | reads fixed-size pieces of the bytes |
//! | `container.rs` | values with the same upper 16 bits |
//! | `error.rs`     | errors in the bytes |
//!
//! What flows in: untrusted bytes. What flows out: their values, or bits set in an array of words. The `roaring` crate
//! writes such bitmaps. It is not used to read them, since it allocates per container: for 64-bit ids that are hashes,
//! that is one allocation per id.

mod container;
mod error;
mod input;
#[cfg(test)]
mod tests;

pub use error::BitmapError;

use container::{CONTAINER_WORDS, Container, check_order};
use error::MAX_CONTAINERS;
use input::Input;

/// The first 4 bytes of a bitmap without runs.
const COOKIE: u32 = 12_346;
/// The first 2 bytes of a bitmap with runs.
const COOKIE_WITH_RUNS: u32 = 12_347;
/// Length of the prefix of a singleton, a bitmap with exactly one value. The lower 16 bits of the value follow it.
pub const SINGLETON_PREFIX_BYTES: usize = 16;
/// The prefix of a singleton: cookie, one container, any key, number of values − 1 = 0, offset of the container.
const SINGLETON_PREFIX: [u64; SINGLETON_PREFIX_BYTES / 8] =
    [1 << 32 | COOKIE as u64, (SINGLETON_PREFIX_BYTES as u64) << 32];
/// The bits of the prefix that are fixed: all but the key.
const SINGLETON_PREFIX_MASK: [u64; SINGLETON_PREFIX_BYTES / 8] = [u64::MAX, !0xffff];
/// A bitmap with runs has offsets if it has at least this many containers.
const MIN_OFFSETS: usize = 4;

/// A set of `u32`, read from its serialized bytes without copying.
#[derive(Clone, Copy)]
pub struct SerializedBitmap<'a> {
    len: u64,
    /// Bit i mod 8 of byte i / 8 is set if container i consists of runs; empty if none does.
    run_flags: &'a [u8],
    /// For each container the upper 16 bits of its values and their number − 1.
    descriptions: &'a [[u8; 4]],
    /// The containers back to back.
    containers: &'a [u8],
}

impl<'a> SerializedBitmap<'a> {
    /// Parses the bitmap at the start of `bytes` and checks every length, count and order. Returns the bitmap and the
    /// bytes after it.
    ///
    /// Adjacent runs are accepted: the format allows them.
    ///
    /// # Errors
    /// [`BitmapError`] for the first thing that is wrong.
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
            let found = Container::read(&mut input, len, bitmap.has_runs(position))?.check(at)?;
            if found != len {
                return Err(BitmapError::WrongCount { at, expected: len, found });
            }
            bitmap.len += len as u64;
        }
        bitmap.containers = &bitmap.containers[..bitmap.containers.len() - input.rest.len()];
        Ok((bitmap, input.rest))
    }

    /// Returns the bitmap at the start of `bytes` without checking its containers: [`SerializedBitmap::parse`] reads
    /// every byte of them, which takes longer than [`SerializedBitmap::add_to`].
    ///
    /// Meant for bytes that were checked before. For invalid bytes the values and [`SerializedBitmap::len`] are wrong;
    /// there is no panic and no other harm.
    ///
    /// # Errors
    /// [`BitmapError`] if the bytes before the containers are invalid.
    pub fn skim(bytes: &'a [u8]) -> Result<Self, BitmapError> {
        let mut input = Input::new(bytes);
        let Header { run_flags, descriptions, .. } = Header::read(&mut input)?;
        let len = descriptions.iter().map(|description| described(*description).1 as u64).sum();
        Ok(Self { len, run_flags, descriptions, containers: input.rest })
    }

    /// Whether all bitmaps with these first bytes are singletons (contain exactly one value). No branch depends on the
    /// bytes.
    #[inline]
    pub fn are_singletons<'b>(prefixes: impl Iterator<Item = &'b [u8; SINGLETON_PREFIX_BYTES]>) -> bool {
        // The bits that are set in any prefix, and those set in all of them.
        let (mut any, mut all) = ([0; SINGLETON_PREFIX.len()], [u64::MAX; SINGLETON_PREFIX.len()]);
        for prefix in prefixes {
            for (at, word) in prefix.as_chunks().0.iter().enumerate() {
                let word = u64::from_le_bytes(*word);
                any[at] |= word;
                all[at] &= word;
            }
        }
        (0..SINGLETON_PREFIX.len()).all(|at| {
            let wrong = any[at] & !SINGLETON_PREFIX[at] | !all[at] & SINGLETON_PREFIX[at];
            wrong & SINGLETON_PREFIX_MASK[at] == 0
        })
    }

    /// Returns the value of a singleton and the bytes after it, or `None` for any other bytes, which must be parsed.
    ///
    /// Most buckets of a 64-bit bitmap of hashes are singletons. This reads one in 1 ns, parsing takes 18 ns.
    #[inline]
    pub fn singleton_value(bytes: &[u8]) -> Option<(u32, &[u8])> {
        let (bitmap, rest) = bytes.split_first_chunk::<18>()?;
        let is_singleton = Self::are_singletons(bitmap.first_chunk().into_iter());
        is_singleton.then_some((u32::from_le_bytes([bitmap[16], bitmap[17], bitmap[8], bitmap[9]]), rest))
    }

    /// The number of values.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Calls `each` with every value, ascending.
    pub fn for_each(&self, mut each: impl FnMut(u32)) {
        for (key, container) in self.containers() {
            container.for_each(|low| each(u32::from(key) << 16 | low));
        }
    }

    /// Sets the bit of every value in `words`: value v is bit v mod 32 (bit 0 is the least significant) of word v / 32.
    /// Values past the end of `words` are ignored.
    pub fn add_to(&self, words: &mut [u32]) {
        for (key, container) in self.containers() {
            let Some(words) = words.get_mut(usize::from(key) * CONTAINER_WORDS..) else { return };
            container.add_to(words);
        }
    }

    /// The containers, each with the upper 16 bits of its values.
    fn containers(&self) -> impl Iterator<Item = (u16, Container<'a>)> {
        let bitmap = *self;
        let mut input = Input::new(self.containers);
        self.descriptions.iter().enumerate().map_while(move |(position, description)| {
            let (key, len) = described(*description);
            // Fails only for a bitmap whose containers were not checked.
            Container::read(&mut input, len, bitmap.has_runs(position)).ok().map(|container| (key, container))
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

/// Everything before the containers.
struct Header<'a> {
    run_flags: &'a [u8],
    descriptions: &'a [[u8; 4]],
    /// Byte offset in the bitmap.
    descriptions_at: usize,
    /// Empty for a bitmap without offsets.
    offsets: &'a [[u8; 4]],
    /// Byte offset in the bitmap.
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

/// Decodes a description: the upper 16 bits of the values of a container, and their number.
fn described([low, high, less_low, less_high]: [u8; 4]) -> (u16, usize) {
    (u16::from_le_bytes([low, high]), usize::from(u16::from_le_bytes([less_low, less_high])) + 1)
}
