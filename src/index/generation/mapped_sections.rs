//! The sections of one mapped generation file: lookup, cast, paging and checksums.
//!
//! What flows in: a mapped file. What flows out: bytes and typed slices of its sections, from the map or from the copy
//! in memory. Nothing here knows what the sections mean.

use std::path::Path;
use std::sync::OnceLock;

use bytemuck::Pod;

use super::error::IndexError;
use super::format;
use super::resident::{MemoryMode, Residence, ResidentSections};
use super::section::{Heat, Section, SectionKind, section_label};
use crate::base::file_identity::FileStamp;
use crate::base::mapped_file::MappedFile;

/// A mapped generation file, or the bytes of one in memory, with its section table.
#[derive(Debug)]
pub(super) struct MappedSections {
    file: MappedFile,
    /// Sorted by kind and ordinal.
    sections: Vec<Section>,
    /// Set at most once; from then on these sections are read from here instead of from the map.
    resident: OnceLock<ResidentSections>,
}

/// How far the checksums of a generation were compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckedUpTo {
    section: usize,
    offset: usize,
    /// Of the section up to the offset.
    crc32c: u32,
}

impl MappedSections {
    /// Reads and checks header and section table.
    pub(super) fn new(file: MappedFile) -> Result<Self, IndexError> {
        let sections = format::parse(file.path(), file.bytes())?;
        Ok(Self { file, sections, resident: OnceLock::new() })
    }

    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// The stamp of the file when it was opened; `None` for bytes in memory.
    pub(super) fn stamp(&self) -> Option<FileStamp> {
        self.file.stamp()
    }

    /// Whether a part of the file was lost after it was mapped.
    pub(super) fn is_damaged(&self) -> bool {
        self.file.is_damaged()
    }

    /// The whole file.
    pub(super) fn file_bytes(&self) -> &[u8] {
        self.file.bytes()
    }

    pub(super) fn is_in_memory(&self) -> bool {
        self.file.is_in_memory()
    }

    /// The section table.
    pub(super) fn table(&self) -> &[Section] {
        &self.sections
    }

    pub(super) fn find(&self, kind: SectionKind, ordinal: u32) -> Option<&Section> {
        let at =
            self.sections.binary_search_by_key(&(kind, ordinal), |section| (section.kind, section.ordinal));
        at.ok().map(|at| &self.sections[at])
    }

    pub(super) fn has(&self, kind: SectionKind) -> bool {
        self.find(kind, 0).is_some()
    }

    pub(super) fn bytes_of(&self, section: &Section) -> &[u8] {
        let copied = self.resident.get().and_then(|copied| copied.bytes_of(section));
        copied.unwrap_or_else(|| &self.file.bytes()[section.range()])
    }

    /// The section cast to `T`, which is the type of its elements or `u8`; empty if there is no such section.
    pub(super) fn cast<T: Pod>(&self, kind: SectionKind, ordinal: u32) -> &[T] {
        debug_assert!(size_of::<T>() == 1 || kind.spec().element.can_have(size_of::<T>()), "cast of {kind}");
        self.find(kind, ordinal).map_or(&[], |section| bytemuck::cast_slice(self.bytes_of(section)))
    }

    /// Length in bytes of a section that must be there.
    ///
    /// # Errors
    /// [`IndexError::MissingSection`].
    pub(super) fn length(&self, kind: SectionKind, ordinal: u32) -> Result<u64, IndexError> {
        self.find(kind, ordinal).map(|section| section.bytes).ok_or_else(|| IndexError::MissingSection {
            path: self.path().to_owned(),
            section: section_label(kind, ordinal),
        })
    }

    /// Checks that a section is there and has `expected` bytes.
    ///
    /// # Errors
    /// [`IndexError::MissingSection`] or [`IndexError::WrongSectionLength`].
    pub(super) fn expect_bytes(
        &self,
        kind: SectionKind,
        ordinal: u32,
        expected: u64,
    ) -> Result<(), IndexError> {
        let found = self.length(kind, ordinal)?;
        if found == expected {
            return Ok(());
        }
        let (path, section) = (self.path().to_owned(), section_label(kind, ordinal));
        Err(IndexError::WrongSectionLength { path, section, expected, found })
    }

    /// Compares a computed checksum with the one in the table.
    ///
    /// # Errors
    /// [`IndexError::DamagedSection`].
    pub(super) fn compare_checksum(&self, section: &Section, found: u32) -> Result<(), IndexError> {
        if found == section.crc32c {
            return Ok(());
        }
        Err(IndexError::DamagedSection {
            path: self.path().to_owned(),
            section: section.label(),
            expected: section.crc32c,
            found,
        })
    }

    /// Compares the checksum of every section, and checks that all bytes between sections are zero.
    ///
    /// # Errors
    /// [`IndexError::DamagedSection`] or [`IndexError::DamagedPadding`] for the first difference.
    pub(super) fn check_checksums(&self) -> Result<(), IndexError> {
        // On one thread: a server runs this while it answers searches, which need the other cores.
        for section in &self.sections {
            self.compare_checksum(section, crc32c::crc32c(self.bytes_of(section)))?;
        }
        self.check_padding()
    }

    /// Compares checksums from `up_to` on, about `bytes` bytes of them. Returns true if that was the end of the file, after
    /// which it starts again.
    ///
    /// # Errors
    /// [`IndexError::DamagedSection`] for the first difference; the next call continues after it.
    pub(super) fn check_next(&self, up_to: &mut CheckedUpTo, bytes: usize) -> Result<bool, IndexError> {
        let mut left = bytes;
        while let Some(section) = self.sections.get(up_to.section) {
            let all = self.bytes_of(section);
            let part = &all[up_to.offset..];
            let part = &part[..left.min(part.len())];
            up_to.crc32c = crc32c::crc32c_append(up_to.crc32c, part);
            (up_to.offset, left) = (up_to.offset + part.len(), left - part.len());
            if up_to.offset < all.len() {
                return Ok(false);
            }
            let found = up_to.crc32c;
            *up_to = CheckedUpTo { section: up_to.section + 1, ..CheckedUpTo::default() };
            self.compare_checksum(section, found)?;
        }
        *up_to = CheckedUpTo::default();
        Ok(true)
    }

    fn check_padding(&self) -> Result<(), IndexError> {
        let mut end = format::encoded_bytes(self.sections.len()) as usize;
        for Section { offset, bytes, .. } in &self.sections {
            let gap = &self.file.bytes()[end..*offset as usize];
            if let Some(at) = gap.iter().position(|byte| *byte != 0) {
                let (path, offset) = (self.path().to_owned(), (end + at) as u64);
                return Err(IndexError::DamagedPadding { path, offset, found: gap[at] });
            }
            end = (offset + bytes) as usize;
        }
        Ok(())
    }

    /// Whether it is the section of embeddings, and searches read fine codes instead.
    fn is_replaced(&self, section: &Section) -> bool {
        section.kind == SectionKind::Vectors && self.has(SectionKind::FineCodes)
    }

    /// The sections that searches read.
    pub(super) fn hot(&self) -> impl Iterator<Item = &Section> {
        let is_hot =
            |section: &&Section| section.kind.spec().heat != Heat::Cold && !self.is_replaced(section);
        self.sections.iter().filter(is_hot)
    }

    /// Reads the pages of all sections into memory but for embeddings that searches do not read, the hottest sections first.
    pub(super) fn populate(&self) {
        let mut sections: Vec<&Section> =
            self.sections.iter().filter(|section| !self.is_replaced(section)).collect();
        sections.sort_by_key(|section| section.kind.spec().heat);
        sections.iter().for_each(|section| self.file.populate(section.range()));
    }

    /// Copies the hot sections into memory of this process, compares the checksum of each copy, and releases their
    /// pages of the map. Does nothing for an index that is in memory already.
    pub(super) fn make_resident(&self) -> Result<Residence, IndexError> {
        if self.is_in_memory() {
            return Ok(Residence { bytes: 0, huge_pages: false });
        }
        if let Some(copied) = self.resident.get() {
            return Ok(copied.residence());
        }
        let hot: Vec<Section> = self.hot().copied().collect();
        let (copied, checksums) = ResidentSections::copy(&hot, |section| self.bytes_of(section))
            .map_err(IndexError::io(self.path()))?;
        for (section, checksum) in copied.sections().zip(checksums) {
            self.compare_checksum(section, checksum)?;
        }
        let copied = self.resident.get_or_init(|| copied);
        copied.sections().for_each(|section| self.file.release(section.range()));
        Ok(copied.residence())
    }

    /// Bytes of the hot sections.
    pub(super) fn hot_bytes(&self) -> u64 {
        self.hot().map(|section| section.bytes).sum()
    }

    /// The memory that the hot sections are read from.
    pub(super) fn memory(&self) -> MemoryMode {
        if self.resident.get().is_some() || self.is_in_memory() {
            MemoryMode::Resident
        } else {
            MemoryMode::Mapped
        }
    }
}
