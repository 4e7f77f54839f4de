//! Sections in; one staged generation file out, or an index in memory.

use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::error::IndexError;
use super::format::{self, ALIGNMENT};
use super::section::{Section, SectionKind};
use super::view::Index;
use crate::base::staged_file::StagedFile;

/// Writes an index section by section: a generation file under a temporary name, or into memory.
///
/// Dropped before it is finished, it leaves nothing behind.
#[derive(Debug)]
pub struct IndexWriter<W = BufWriter<StagedFile>> {
    target: W,
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
        Self::start(BufWriter::with_capacity(1 << 20, file), path, sections)
    }

    /// Writes the header.
    ///
    /// # Errors
    /// If writing fails.
    ///
    /// # Panics
    /// If fewer sections were written than planned.
    pub fn finish(self) -> Result<StagedIndex, IndexError> {
        let header = self.header();
        let io = |source| IndexError::Io { path: self.path.clone(), source };
        let mut file = self.target.into_inner().map_err(|error| io(error.into_error()))?;
        file.file_mut().seek(SeekFrom::Start(0)).map_err(io)?;
        file.write_all(&header).map_err(io)?;
        Ok(StagedIndex { file, bytes: self.position })
    }
}

impl IndexWriter<Vec<u8>> {
    /// Starts an index with exactly `sections` sections in memory; it goes by `name` where a file has its path.
    pub fn in_memory(name: &Path, sections: usize) -> Self {
        Self::start(Vec::new(), name.to_owned(), sections).expect("a vector takes every byte")
    }

    /// Opens what was written.
    ///
    /// # Errors
    /// If there is not enough memory, or as [`Index::open`].
    ///
    /// # Panics
    /// If fewer sections were written than planned.
    pub fn finish(mut self) -> Result<Index, IndexError> {
        let header = self.header();
        self.target[..header.len()].copy_from_slice(&header);
        Index::in_memory(&self.path, &self.target)
    }
}

impl<W: Write> IndexWriter<W> {
    fn start(target: W, path: PathBuf, sections: usize) -> Result<Self, IndexError> {
        let planned = Vec::with_capacity(sections);
        let mut writer = Self { target, path, planned: sections, sections: planned, position: 0 };
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

    fn header(&self) -> Vec<u8> {
        assert_eq!(self.sections.len(), self.planned, "fewer sections than planned");
        format::encode(&self.sections, self.position)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), IndexError> {
        self.target.write_all(bytes).map_err(IndexError::io(&self.path))?;
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
