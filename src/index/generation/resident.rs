//! A copy of the hot sections of an open generation in memory of this process, on huge pages.
//!
//! What flows in: sections of a mapped file. What flows out: the same bytes at other addresses. A traversal reads
//! random rows of hundreds of megabytes, so most of its steps miss the TLB. One TLB entry covers 2 MiB of a huge page
//! instead of 4 KiB, and a file cannot be mapped on huge pages.

use std::io;

use super::section::Section;
use crate::base::mapped_file::HugeMemory;

/// Bytes copied at a time: large enough for fast copies, and small enough to be still in the cache when the checksum is
/// computed.
const CHUNK: usize = 256 << 10;
/// Alignment of sections in the copy: one cache line, as in the file.
const ALIGNMENT: usize = 64;

/// The memory that the hot sections of an index are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryMode {
    /// The mapped file, whose pages are shared by all processes that map it.
    Mapped,
    /// Memory of this process: a copy on huge pages, or an index that was never in a file.
    Resident,
}

/// The result of [`Index::make_resident`](super::Index::make_resident).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Residence {
    /// Bytes copied.
    pub bytes: u64,
    /// Whether the kernel accepted the advice to use huge pages.
    pub huge_pages: bool,
}

/// A copy of the hot sections.
#[derive(Debug)]
pub(super) struct ResidentSections {
    memory: HugeMemory,
    /// Each copied section, and where it starts in `memory`.
    places: Vec<(Section, usize)>,
}

impl ResidentSections {
    /// Copies `sections`. Returns also the checksum of each copy, in the order of [`Self::sections`].
    ///
    /// # Errors
    /// If there is not enough memory.
    pub(super) fn copy<'a>(
        sections: &[Section],
        bytes_of: impl Fn(&Section) -> &'a [u8],
    ) -> io::Result<(Self, Vec<u32>)> {
        let mut end = 0;
        let mut places = Vec::new();
        for section in sections {
            places.push((*section, end));
            end = (end + section.bytes as usize).next_multiple_of(ALIGNMENT);
        }
        let mut memory = HugeMemory::zeroed(end)?;
        let mut checksums = Vec::with_capacity(places.len());
        for (section, start) in &places {
            let copy = &mut memory.bytes_mut()[*start..*start + section.bytes as usize];
            let mut checksum = 0;
            for (from, to) in bytes_of(section).chunks(CHUNK).zip(copy.chunks_mut(CHUNK)) {
                to.copy_from_slice(from);
                checksum = crc32c::crc32c_append(checksum, to);
            }
            checksums.push(checksum);
        }
        Ok((Self { memory, places }, checksums))
    }

    /// The sections that were copied.
    pub(super) fn sections(&self) -> impl Iterator<Item = &Section> {
        self.places.iter().map(|(section, _)| section)
    }

    /// The copy of a section, if it was copied.
    pub(super) fn bytes_of(&self, section: &Section) -> Option<&[u8]> {
        // An empty section has the offset of the next one.
        let (_, start) = self.places.iter().find(|(copied, _)| copied == section)?;
        Some(&self.memory.bytes()[*start..*start + section.bytes as usize])
    }

    /// The size of the copy, and whether it is on huge pages.
    pub(super) fn residence(&self) -> Residence {
        let bytes = self.sections().map(|section| section.bytes).sum();
        Residence { bytes, huge_pages: self.memory.is_advised() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::index::generation::section::SectionKind;

    proptest! {
        #[test]
        fn sections_are_found_also_beside_empty_ones(
            lengths in prop::collection::vec((0u64..200, any::<bool>()), 1..12),
        ) {
            let file: Vec<u8> = (0..4096u32).map(|byte| byte as u8).collect();
            let (mut offset, mut sections) = (0, Vec::new());
            for (ordinal, (bytes, is_empty)) in (0..).zip(&lengths) {
                let bytes = if *is_empty { 0 } else { *bytes };
                sections.push(Section { kind: SectionKind::AttributeValues, ordinal, offset, bytes, crc32c: 0 });
                offset = (offset + bytes).next_multiple_of(64);
            }
            // Every other one is copied.
            let copied: Vec<Section> = sections.iter().step_by(2).copied().collect();
            let (copy, _) = ResidentSections::copy(&copied, |section| &file[section.range()]).unwrap();
            for (at, section) in sections.iter().enumerate() {
                let expected = (at % 2 == 0).then(|| &file[section.range()]);
                prop_assert_eq!(copy.bytes_of(section), expected);
            }
        }
    }
}
