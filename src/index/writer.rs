//! Sections in, one staged generation file out.

use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::error::IndexError;
use super::format::{self, ALIGNMENT};
use super::section::{Section, SectionKind};
use super::view::Index;
use crate::staged_file::StagedFile;

/// Writes a generation file section by section under a temporary name.
///
/// Dropped before [`IndexWriter::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct IndexWriter {
    file: BufWriter<StagedFile>,
    path: PathBuf,
    planned: usize,
    sections: Vec<Section>,
    position: u64,
}

/// A complete generation file that has no name yet; dropping it removes it.
#[derive(Debug)]
pub struct StagedIndex {
    pub(super) file: StagedFile,
    pub(super) bytes: u64,
}

impl StagedIndex {
    /// Opens the file where it is for now, to measure it before it is published.
    ///
    /// # Errors
    /// As [`Index::open`].
    pub fn open(&self) -> Result<Index, IndexError> {
        Index::open(self.file.temporary_path())
    }
}

impl IndexWriter {
    /// Starts a file with exactly `sections` sections in `dir`.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn create(dir: &Path, sections: usize) -> Result<Self, IndexError> {
        let file = StagedFile::create_in(dir).map_err(IndexError::io(dir))?;
        let path = file.temporary_path().to_owned();
        let mut writer = Self {
            file: BufWriter::with_capacity(1 << 20, file),
            path,
            planned: sections,
            sections: Vec::with_capacity(sections),
            position: 0,
        };
        writer.pad_to(format::encoded_bytes(sections))?;
        Ok(writer)
    }

    /// Appends one section made of `parts`, one after the other.
    ///
    /// # Errors
    /// If writing fails.
    ///
    /// # Panics
    /// If sections come out of order or more of them than planned.
    pub fn section<'a>(
        &mut self,
        kind: SectionKind,
        ordinal: u32,
        parts: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), IndexError> {
        assert!(self.sections.len() < self.planned, "more sections than planned");
        assert!(
            self.sections.last().is_none_or(|last| (last.kind, last.ordinal) < (kind, ordinal)),
            "sections out of order"
        );
        self.pad_to(self.position.next_multiple_of(ALIGNMENT))?;
        let offset = self.position;
        let mut crc32c = 0;
        for part in parts {
            crc32c = crc32c::crc32c_append(crc32c, part);
            self.write(part)?;
        }
        let bytes = self.position - offset;
        self.sections.push(Section { kind, ordinal, offset, bytes, crc32c });
        Ok(())
    }

    /// Writes the header.
    ///
    /// # Errors
    /// If writing fails.
    ///
    /// # Panics
    /// If fewer sections were written than planned.
    pub fn finish(self) -> Result<StagedIndex, IndexError> {
        assert_eq!(self.sections.len(), self.planned, "fewer sections than planned");
        let header = format::encode(&self.sections, self.position);
        let io = |source| IndexError::Io { path: self.path.clone(), source };
        let mut file = self.file.into_inner().map_err(|error| io(error.into_error()))?;
        file.file_mut().seek(SeekFrom::Start(0)).map_err(io)?;
        file.write_all(&header).map_err(io)?;
        Ok(StagedIndex { file, bytes: self.position })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), IndexError> {
        self.file.write_all(bytes).map_err(IndexError::io(&self.path))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn pad_to(&mut self, position: u64) -> Result<(), IndexError> {
        while self.position < position {
            let zeros = [0u8; ALIGNMENT as usize];
            let missing = (position - self.position).min(ALIGNMENT) as usize;
            self.write(&zeros[..missing])?;
        }
        Ok(())
    }
}
