//! Why a generation file cannot be written, opened or trusted.

use std::io;
use std::path::{Path, PathBuf};

use super::section::SectionKind;
use crate::base::file_identity::Displaced;

/// Why a generation file cannot be written, opened or trusted.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The operating system reported an error.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error.
        r#source: io::Error,
    },
    /// The path does not lead to the file that was opened.
    #[error(transparent)]
    Displaced(#[from] Displaced),
    /// The file is not an index.
    #[error("{}: not a Shortlist index: expected magic {expected:?}, found {found:?}", path.display())]
    ForeignFile {
        /// The file.
        path: PathBuf,
        /// The magic of an index.
        expected: String,
        /// The first bytes of the file.
        found: String,
    },
    /// The file has a format version that this release does not read.
    #[error("{}: format version {found} is not supported: this release reads versions up to {expected}", path.display())]
    UnsupportedVersion {
        /// The file.
        path: PathBuf,
        /// The newest version that this release reads.
        expected: u32,
        /// The version in the file.
        found: u32,
    },
    /// The length of the file differs from the one in its header.
    #[error("{}: truncated or grown: expected {expected} bytes, found {found}", path.display())]
    WrongLength {
        /// The file.
        path: PathBuf,
        /// The length in the header, or the least length of a header.
        expected: u64,
        /// Bytes in the file.
        found: u64,
    },
    /// The header or the section table does not match its checksum.
    #[error("{}: the {part} is damaged: expected crc32c {expected:08x}, found {found:08x}", path.display())]
    DamagedHeader {
        /// The file.
        path: PathBuf,
        /// `header` or `section table`.
        part: &'static str,
        /// The checksum in the file.
        expected: u32,
        /// The checksum of the bytes.
        found: u32,
    },
    /// The section table contradicts itself or the file.
    #[error("{}: section table entry {entry}: {problem}", path.display())]
    BadSectionTable {
        /// The file.
        path: PathBuf,
        /// Position in the table.
        entry: usize,
        /// The problem, with expected and found.
        problem: String,
    },
    /// A required section is missing.
    #[error("{}: section {section} is missing", path.display())]
    MissingSection {
        /// The file.
        path: PathBuf,
        /// The section.
        section: String,
    },
    /// The length of a section differs from the one that follows from the metadata.
    #[error("{}: section {section}: expected {expected} bytes, found {found}", path.display())]
    WrongSectionLength {
        /// The file.
        path: PathBuf,
        /// The section.
        section: String,
        /// Bytes that follow from the metadata.
        expected: u64,
        /// Bytes in the table.
        found: u64,
    },
    /// The metadata cannot be read or has an impossible value.
    #[error("{}: metadata: {problem}", path.display())]
    BadMetadata {
        /// The file.
        path: PathBuf,
        /// The problem, with field, expected and found.
        problem: String,
    },
    /// A section does not match its checksum.
    #[error("{}: section {section} is damaged: expected crc32c {expected:08x}, found {found:08x}", path.display())]
    DamagedSection {
        /// The file.
        path: PathBuf,
        /// The section.
        section: String,
        /// The checksum in the file.
        expected: u32,
        /// The checksum of the bytes.
        found: u32,
    },
    /// A byte between two sections is not zero.
    #[error("{}: byte {offset} is between sections: expected 0, found {found}", path.display())]
    DamagedPadding {
        /// The file.
        path: PathBuf,
        /// Offset in the file.
        offset: u64,
        /// The value there.
        found: u8,
    },
    /// A value in a section is out of its range.
    #[error("{}: section {section}, entry {entry}: {problem}", path.display())]
    BadEntry {
        /// The file.
        path: PathBuf,
        /// The section.
        section: String,
        /// Position in the section.
        entry: usize,
        /// The problem, with expected and found.
        problem: String,
    },
    /// Some nodes are not reachable from the entry point.
    #[error("{}: {unreachable} of {nodes} nodes cannot be reached from the entry point over layer 0", path.display())]
    Unreachable {
        /// The file.
        path: PathBuf,
        /// Number of unreachable nodes.
        unreachable: usize,
        /// Number of nodes in the index.
        nodes: usize,
    },
}

impl IndexError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| IndexError::Io { path, source }
    }

    pub(crate) fn bad_entry(path: &Path, section: SectionKind, entry: usize, problem: String) -> Self {
        IndexError::BadEntry { path: path.to_owned(), section: section.to_string(), entry, problem }
    }
}
