//! The hot sections of an open generation, copied into memory on huge pages.
//!
//! What flows in: sections of the mapped file. What flows out: the same bytes at other addresses. A
//! traversal jumps about in hundreds of megabytes, so most of its steps miss the processor's cache of
//! page addresses; one entry of that covers 2 MiB of a huge page, and files cannot be mapped on those.

use serde::Deserialize;

use super::error::IndexError;
use super::section::{Section, SectionKind};
use super::view::Index;
use crate::base::mapped_file::HugeMemory;

/// Copied at a time: enough to be quick, and little enough to be in the cache still when it is checked.
const CHUNK: usize = 256 << 10;
/// Where a section may start in the copy: as in the file, a cache line.
const ALIGNMENT: usize = 64;

/// Where the hot sections of an index are read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryMode {
    /// The mapped file: its pages are shared by every process that maps it.
    #[default]
    Mapped,
    /// Memory of this process: a copy on huge pages, or an index that was never in a file.
    Resident,
}

impl MemoryMode {
    /// The word for it on the command line and in settings.
    pub fn name(self) -> &'static str {
        match self {
            MemoryMode::Mapped => "mapped",
            MemoryMode::Resident => "resident",
        }
    }
}

impl std::str::FromStr for MemoryMode {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        [MemoryMode::Mapped, MemoryMode::Resident]
            .into_iter()
            .find(|mode| mode.name() == word)
            .ok_or_else(|| format!("unknown memory mode {word:?}: expected mapped or resident"))
    }
}

/// What [`Index::make_resident`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Residence {
    /// Bytes copied.
    pub bytes: u64,
    /// Whether the kernel was willing to put them on huge pages.
    pub huge_pages: bool,
}

/// A copy of some sections.
#[derive(Debug)]
pub(super) struct ResidentSections {
    memory: HugeMemory,
    /// Each section copied, and where it starts.
    places: Vec<(Section, usize)>,
}

impl ResidentSections {
    /// Copies, and compares the checksum of every copy.
    fn copy(index: &Index) -> Result<Self, IndexError> {
        let mut end = 0;
        let mut places = Vec::new();
        for section in index.sections().iter().filter(|section| Heat::of(section.kind) != Heat::Other) {
            places.push((*section, end));
            end = (end + section.bytes as usize).next_multiple_of(ALIGNMENT);
        }
        let mut memory = HugeMemory::zeroed(end).map_err(IndexError::io(index.path()))?;
        for (section, start) in &places {
            let copy = &mut memory.bytes_mut()[*start..*start + section.bytes as usize];
            let mut found = 0;
            for (from, to) in index.section_bytes(section).chunks(CHUNK).zip(copy.chunks_mut(CHUNK)) {
                to.copy_from_slice(from);
                found = crc32c::crc32c_append(found, to);
            }
            index.compare_checksum(section, found)?;
        }
        Ok(Self { memory, places })
    }

    /// The copy of a section, if there is one.
    pub(super) fn bytes_of(&self, section: &Section) -> Option<&[u8]> {
        let (_, start) = self.places.iter().find(|(copied, _)| copied.offset == section.offset)?;
        Some(&self.memory.bytes()[*start..*start + section.bytes as usize])
    }
}

/// How often a search reads a section, most often first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Heat {
    /// In every step of the traversal.
    Step,
    /// For every candidate that is scored again and every hit; in every step where there are no codes.
    Candidate,
    /// When it is asked for.
    Other,
}

impl Heat {
    pub(super) fn of(kind: SectionKind) -> Self {
        match kind {
            SectionKind::Layer0
            | SectionKind::Layer0Starts
            | SectionKind::UpperNodes
            | SectionKind::UpperEdges
            | SectionKind::Codes => Heat::Step,
            SectionKind::Vectors
            | SectionKind::VideoIds
            | SectionKind::BlockMeans
            | SectionKind::BlockRegions
            | SectionKind::ResidualSpreads
            | SectionKind::ResidualDeviations
            | SectionKind::RowResiduals
            | SectionKind::ResidualWidths
            | SectionKind::QueryAxes => Heat::Candidate,
            _ => Heat::Other,
        }
    }
}

impl Index {
    /// Copies graph, codes, embeddings and ids into memory of this process, on huge pages where there are
    /// any, and gives back their pages of the map. Searches may go on meanwhile: they read the map until the
    /// copy is whole and its checksums are right, and then the copy. An index in memory is there already, and nothing
    /// is copied.
    ///
    /// # Errors
    /// If there is not enough memory or a checksum differs; then the map goes on being read.
    pub fn make_resident(&self) -> Result<Residence, IndexError> {
        if self.is_in_memory() {
            return Ok(Residence { bytes: 0, huge_pages: false });
        }
        let copied = match self.resident.get() {
            Some(copied) => copied,
            None => {
                let copied = ResidentSections::copy(self)?;
                let copied = self.resident.get_or_init(|| copied);
                copied.places.iter().for_each(|(section, _)| self.release(section));
                copied
            }
        };
        let bytes = copied.places.iter().map(|(section, _)| section.bytes).sum();
        Ok(Residence { bytes, huge_pages: copied.memory.is_advised() })
    }

    /// Where the hot sections are read from now.
    pub fn memory(&self) -> MemoryMode {
        if self.resident.get().is_some() || self.is_in_memory() {
            MemoryMode::Resident
        } else {
            MemoryMode::Mapped
        }
    }
}
