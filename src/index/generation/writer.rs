//! Sections in; one staged generation file, or an index in memory, out.

use std::borrow::Cow;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::error::IndexError;
use super::format::{self, ALIGNMENT};
use super::section::{Section, SectionKind};
use super::view::Index;
use crate::base::staged_file::StagedFile;

/// Bytes written between two calls of the watcher.
const PIECE: usize = 16 << 20;

/// The sections of one index, added in any order.
#[derive(Debug, Default)]
pub struct SectionSet<'a> {
    sections: Vec<NewSection<'a>>,
}

#[derive(Debug)]
struct NewSection<'a> {
    kind: SectionKind,
    ordinal: u32,
    /// The contents, one part after another.
    parts: Vec<Cow<'a, [u8]>>,
}

impl<'a> SectionSet<'a> {
    /// Adds a section that is not per column.
    pub fn add(&mut self, kind: SectionKind, bytes: impl Into<Cow<'a, [u8]>>) {
        self.add_parts(kind, 0, [bytes.into()]);
    }

    /// Adds a section that consists of `parts`, one after another. `ordinal` is the attribute column, or 0 for a kind
    /// that is not per column.
    pub fn add_parts(
        &mut self,
        kind: SectionKind,
        ordinal: u32,
        parts: impl IntoIterator<Item = Cow<'a, [u8]>>,
    ) {
        self.sections.push(NewSection { kind, ordinal, parts: parts.into_iter().collect() });
    }

    /// Total length of all sections in bytes.
    pub fn bytes(&self) -> u64 {
        let parts = self.sections.iter().flat_map(|section| &section.parts);
        parts.map(|part| part.len() as u64).sum()
    }

    /// The sections in file order.
    ///
    /// # Panics
    /// If a section was added twice, or with an ordinal although its kind is not per column.
    fn sorted(&self) -> Vec<&NewSection<'a>> {
        let mut sorted: Vec<&NewSection<'a>> = self.sections.iter().collect();
        sorted.sort_by_key(|section| (section.kind, section.ordinal));
        for section in &sorted {
            let spec = section.kind.spec();
            assert!(spec.per_column || section.ordinal == 0, "section {} is not per column", spec.name);
        }
        for pair in sorted.windows(2) {
            let is_new = (pair[0].kind, pair[0].ordinal) != (pair[1].kind, pair[1].ordinal);
            assert!(is_new, "section {} was added twice", pair[0].kind);
        }
        sorted
    }
}

/// Writes an index into a generation file under a temporary name, or into memory.
///
/// Dropping an unfinished writer removes its file.
#[derive(Debug)]
pub struct IndexWriter<W = BufWriter<StagedFile>> {
    target: W,
    path: PathBuf,
    /// The sections written so far.
    sections: Vec<Section>,
    position: u64,
}

/// A complete generation file without a final name; dropping it removes the file.
#[derive(Debug)]
pub struct StagedIndex {
    pub(in crate::index) file: StagedFile,
    pub(in crate::index) bytes: u64,
}

impl StagedIndex {
    /// Opens the file under its temporary name, to measure the index before it is published.
    ///
    /// # Errors
    /// As [`Index::open`].
    pub fn open(&self) -> Result<Index, IndexError> {
        Index::open(self.file.temporary_path())
    }
}

impl IndexWriter {
    /// Creates a file under a temporary name in `dir`.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn create(dir: &Path) -> Result<Self, IndexError> {
        let file = StagedFile::create_in(dir).map_err(IndexError::io(dir))?;
        let path = file.temporary_path().to_owned();
        Ok(Self::start(BufWriter::with_capacity(1 << 20, file), path))
    }

    /// Writes the header over the space left for it.
    ///
    /// # Errors
    /// If writing fails.
    ///
    /// # Panics
    /// If [`IndexWriter::write`] was not called.
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
    /// Starts an index in memory; `name` takes the place of the path of a file.
    pub fn in_memory(name: &Path) -> Self {
        Self::start(Vec::new(), name.to_owned())
    }

    /// Completes the header and opens the index.
    ///
    /// # Errors
    /// If there is not enough memory, or as [`Index::open`].
    ///
    /// # Panics
    /// If [`IndexWriter::write`] was not called.
    pub fn finish(mut self) -> Result<Index, IndexError> {
        let header = self.header();
        self.target[..header.len()].copy_from_slice(&header);
        Index::in_memory(&self.path, &self.target)
    }
}

impl<W: Write> IndexWriter<W> {
    fn start(target: W, path: PathBuf) -> Self {
        Self { target, path, sections: Vec::new(), position: 0 }
    }

    /// Writes all sections in file order, after space for header and section table. Calls `watch` with the number of
    /// bytes written since the last call, at least every 16 MiB, and stops early if it returns `Break`: the writer is
    /// then of no use, and is dropped.
    ///
    /// # Errors
    /// If writing fails.
    ///
    /// # Panics
    /// If it is called twice, a section was added twice, or a section that is not per column has an ordinal.
    pub fn write(
        &mut self,
        sections: &SectionSet<'_>,
        mut watch: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, IndexError> {
        assert_eq!(self.position, 0, "the sections were written already");
        let sections = sections.sorted();
        self.pad_to(format::encoded_bytes(sections.len()))?;
        for NewSection { kind, ordinal, parts } in sections {
            self.pad_to(self.position.next_multiple_of(ALIGNMENT))?;
            let offset = self.position;
            let mut crc32c = 0;
            for piece in parts.iter().flat_map(|part| part.chunks(PIECE)) {
                crc32c = crc32c::crc32c_append(crc32c, piece);
                self.append(piece)?;
                if watch(piece.len() as u64).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            let bytes = self.position - offset;
            self.sections.push(Section { kind: *kind, ordinal: *ordinal, offset, bytes, crc32c });
        }
        Ok(ControlFlow::Continue(()))
    }

    fn header(&self) -> Vec<u8> {
        assert!(self.position > 0, "no sections were written");
        format::encode(&self.sections, self.position)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), IndexError> {
        self.target.write_all(bytes).map_err(IndexError::io(&self.path))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn pad_to(&mut self, position: u64) -> Result<(), IndexError> {
        while self.position < position {
            let zeros = [0u8; ALIGNMENT as usize];
            let missing = (position - self.position).min(ALIGNMENT) as usize;
            self.append(&zeros[..missing])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(kinds: &[(SectionKind, u32)]) -> IndexWriter<Vec<u8>> {
        let mut sections = SectionSet::default();
        for (kind, ordinal) in kinds {
            sections.add_parts(*kind, *ordinal, [Cow::Owned(vec![*ordinal as u8; 3])]);
        }
        let mut writer = IndexWriter::in_memory(Path::new("memory"));
        let watched = writer.write(&sections, |_| ControlFlow::Continue(())).unwrap();
        assert!(watched.is_continue());
        writer
    }

    #[test]
    fn sections_are_written_in_file_order_however_they_are_added() {
        let values = SectionKind::AttributeValues;
        let added = [(values, 1), (SectionKind::QueryAxes, 0), (values, 0), (SectionKind::Vectors, 0)];
        let writer = written(&added);
        let order: Vec<(SectionKind, u32)> =
            writer.sections.iter().map(|section| (section.kind, section.ordinal)).collect();
        assert_eq!(order, [(SectionKind::Vectors, 0), (values, 0), (values, 1), (SectionKind::QueryAxes, 0)]);
        assert!(writer.sections.iter().all(|section| section.offset % ALIGNMENT == 0 && section.bytes == 3));
    }

    #[test]
    #[should_panic(expected = "section vectors was added twice")]
    fn a_section_is_not_added_twice() {
        written(&[(SectionKind::Vectors, 0), (SectionKind::Vectors, 0)]);
    }

    #[test]
    fn writing_stops_when_the_watcher_breaks() {
        let mut sections = SectionSet::default();
        sections.add(SectionKind::Vectors, vec![0; 3 * PIECE]);
        sections.add(SectionKind::VideoIds, vec![0; 8]);
        let mut seen = Vec::new();
        let mut writer = IndexWriter::in_memory(Path::new("memory"));
        let stopped = writer.write(&sections, |bytes| {
            seen.push(bytes);
            if seen.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(stopped.unwrap().is_break());
        assert_eq!(seen, [PIECE as u64; 2]);
    }
}
