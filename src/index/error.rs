//! What can be wrong with an index file or an index folder.

use std::io;
use std::path::{Path, PathBuf};

use super::section::SectionKind;

/// Why a generation file cannot be written, opened or trusted.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        r#source: io::Error,
    },
    /// Not an index at all.
    #[error("{}: not a Shortlist index: expected magic {expected:?}, found {found:?}", path.display())]
    ForeignFile {
        /// The file.
        path: PathBuf,
        /// The magic of an index.
        expected: String,
        /// The first bytes of the file.
        found: String,
    },
    /// Written by another release of the format.
    #[error("{}: format version {found} is not supported: this release reads versions up to {expected}", path.display())]
    UnsupportedVersion {
        /// The file.
        path: PathBuf,
        /// The newest version that this release reads.
        expected: u32,
        /// The version in the file.
        found: u32,
    },
    /// The file is not as long as its header says.
    #[error("{}: truncated or grown: expected {expected} bytes, found {found}", path.display())]
    WrongLength {
        /// The file.
        path: PathBuf,
        /// Bytes that the header promises, or the least a header needs.
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
        /// The checksum on file.
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
        /// What is wrong, with expected and found.
        problem: String,
    },
    /// A section that every index has is not there.
    #[error("{}: section {section} is missing", path.display())]
    MissingSection {
        /// The file.
        path: PathBuf,
        /// The section.
        section: String,
    },
    /// A section does not hold as many bytes as the metadata asks for.
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
    /// The metadata cannot be read or says something impossible.
    #[error("{}: metadata: {problem}", path.display())]
    BadMetadata {
        /// The file.
        path: PathBuf,
        /// What is wrong, with field, expected and found.
        problem: String,
    },
    /// A section does not match its checksum.
    #[error("{}: section {section} is damaged: expected crc32c {expected:08x}, found {found:08x}", path.display())]
    DamagedSection {
        /// The file.
        path: PathBuf,
        /// The section.
        section: String,
        /// The checksum on file.
        expected: u32,
        /// The checksum of the bytes.
        found: u32,
    },
    /// Bytes that no section covers are not zero.
    #[error("{}: byte {offset} lies between sections and must be zero, found {found}", path.display())]
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
        /// What is wrong, with expected and found.
        problem: String,
    },
    /// Not every node can be found from the entry point.
    #[error("{}: {unreachable} of {nodes} nodes cannot be reached from the entry point over layer 0", path.display())]
    Unreachable {
        /// The file.
        path: PathBuf,
        /// How many cannot be reached.
        unreachable: usize,
        /// How many there are.
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

/// Why an index folder has nothing to serve, or cannot take a new generation.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        r#source: io::Error,
    },
    /// The folder holds no manifest.
    #[error("{}: no index here: the folder holds no manifest; `shortlist build --out` makes one", dir.display())]
    Empty {
        /// The folder.
        dir: PathBuf,
    },
    /// A manifest cannot be read or was damaged.
    #[error("{}: {problem}", path.display())]
    BadManifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong, with expected and found.
        problem: String,
    },
    /// A calibration cannot be read, was damaged, or is of another generation.
    #[error("{}: {problem}", path.display())]
    BadCalibration {
        /// The calibration.
        path: PathBuf,
        /// What is wrong, with expected and found.
        problem: String,
    },
    /// A report of the quality gate cannot be read, was damaged, or is of another generation.
    #[error("{}: {problem}", path.display())]
    BadGateReport {
        /// The report.
        path: PathBuf,
        /// What is wrong, with expected and found.
        problem: String,
    },
    /// No manifest in the folder leads to a generation that opens.
    #[error("{}: no manifest leads to a usable generation; the newest failed with: {newest}", dir.display())]
    NothingUsable {
        /// The folder.
        dir: PathBuf,
        /// What is wrong with the newest manifest or its generation.
        newest: Box<StoreError>,
    },
    /// The generation asked for is not in the folder.
    #[error("{}: no generation {generation}; there are {available:?}", dir.display())]
    UnknownGeneration {
        /// The folder.
        dir: PathBuf,
        /// The generation asked for.
        generation: u64,
        /// The generations there are.
        available: Vec<u64>,
    },
    /// The generation is sound, and must not answer.
    #[error("{}: cannot be served: {problem}", path.display())]
    NotServable {
        /// The file.
        path: PathBuf,
        /// Why, with expected and found.
        problem: String,
    },
    /// The generation cannot be opened.
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl StoreError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| StoreError::Io { path, source }
    }
}
