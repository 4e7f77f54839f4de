//! Memory maps: read-only files, and anonymous memory, on huge pages from 2 MiB on. With `map_guard.rs`, the only file outside
//! `kernel/` that needs `unsafe`.

#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::{Advice, Mmap, MmapMut, UncheckedAdvice};

use super::local_path::check_local;
use super::map_guard::MapGuard;
use super::regular_file;
use crate::base::file_identity::FileStamp;

/// The size of a huge page on all supported processors with 4 KiB pages.
const HUGE_PAGE: usize = 2 << 20;
/// Bytes that one system call maps or releases. Other threads that map memory wait for that call; for a whole large
/// file it takes milliseconds.
const PIECE: usize = 4 << 20;

/// A whole file mapped read-only, or bytes in memory that take its place.
///
/// Contract: the owner of the file does not truncate it or rewrite it in place while it is mapped. The files of
/// Shortlist itself satisfy this, since each is created once under a temporary name and then renamed. If it is truncated
/// nevertheless, reads find zeros, and [`MappedFile::is_damaged`] says so.
#[derive(Debug)]
pub struct MappedFile {
    source: Source,
    path: PathBuf,
}

#[derive(Debug)]
enum Source {
    /// The guard is dropped first.
    File {
        guard: MapGuard,
        map: Mmap,
        stamp: FileStamp,
    },
    Memory(HugeMemory),
}

impl MappedFile {
    /// Maps the file at `path`. The bytes of an empty file are an empty slice.
    ///
    /// # Errors
    /// If it cannot be opened or mapped, or is not a regular file on this machine.
    pub fn open(path: &Path) -> io::Result<Self> {
        check_local(path)?;
        let file = regular_file::open(path)?;
        let metadata = file.metadata()?;
        // SAFETY: the map is read-only and private to this value. By contract, the mapped files (inputs and published
        // generations) are not changed in place while they are in use.
        let map = unsafe { Mmap::map(&file)? };
        let source = Source::File { guard: MapGuard::of(&map), map, stamp: FileStamp::of(&metadata) };
        Ok(Self { source, path: path.to_owned() })
    }

    /// Copies `bytes` into memory of this process. `name` takes the place of the path of a file.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub fn in_memory(name: &Path, bytes: &[u8]) -> io::Result<Self> {
        let mut memory = HugeMemory::zeroed(bytes.len())?;
        memory.bytes_mut().copy_from_slice(bytes);
        Ok(Self { source: Source::Memory(memory), path: name.to_owned() })
    }

    /// The bytes of the file; the first is page-aligned.
    pub fn bytes(&self) -> &[u8] {
        match &self.source {
            Source::File { map, .. } => map,
            Source::Memory(memory) => memory.bytes(),
        }
    }

    /// The path that the file was opened with, or the name of the bytes in memory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The stamp of the file when it was opened; `None` for bytes in memory.
    pub fn stamp(&self) -> Option<FileStamp> {
        match self.source {
            Source::File { stamp, .. } => Some(stamp),
            Source::Memory(_) => None,
        }
    }

    /// Whether a part of the file was lost after it was mapped. What was read from it before may be zeros.
    pub fn is_damaged(&self) -> bool {
        matches!(&self.source, Source::File { guard, .. } if guard.is_damaged())
    }

    /// Whether the bytes are only in memory of this process, without a file.
    pub fn is_in_memory(&self) -> bool {
        matches!(self.source, Source::Memory(_))
    }

    /// Reads the pages of `range` into memory before they are needed.
    ///
    /// # Panics
    /// If `range` exceeds the file.
    pub fn populate(&self, range: Range<usize>) {
        let bytes = &self.bytes()[range.clone()];
        let Source::File { map, .. } = &self.source else { return };
        // Both are hints: without them the same bytes are read later. The first starts reading ahead; the second waits
        // for every page and maps it.
        let _ = map.advise_range(Advice::WillNeed, range.start, range.len());
        #[cfg(target_os = "linux")]
        if pieces(range).all(|piece| map.advise_range(Advice::PopulateRead, piece.start, piece.len()).is_ok())
        {
            return;
        }
        std::hint::black_box(bytes.iter().step_by(4096).fold(0u8, |sum, byte| sum.wrapping_add(*byte)));
    }

    /// Releases the pages of `range`, which will not be read soon. Reading them later is allowed, and loads them from
    /// the file again. Does nothing for bytes in memory.
    ///
    /// # Panics
    /// If `range` exceeds the file.
    pub fn release(&self, range: Range<usize>) {
        assert!(range.start <= range.end && range.end <= self.bytes().len(), "the range exceeds the file");
        let Source::File { map, .. } = &self.source else { return };
        for piece in pieces(range) {
            // SAFETY: this is a read-only map of a file, so a released page is read from the file again on the next
            // access, with the same bytes. Anonymous memory, whose released pages become zero, has returned above.
            let _ =
                unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, piece.start, piece.len()) };
        }
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        // In pieces, so that the final unmap has nothing to release: it blocks every other mapping of the process.
        self.release(0..self.bytes().len());
    }
}

/// Splits a range at the multiples of [`PIECE`].
fn pieces(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let first = range.start / PIECE;
    (first..range.end.div_ceil(PIECE))
        .map(move |piece| range.start.max(piece * PIECE)..range.end.min((piece + 1) * PIECE))
}

/// Private memory of this process, on huge pages if the kernel provides them: one TLB entry then covers 2 MiB instead
/// of 4 KiB. Memory smaller than one huge page is on pages of the usual size.
#[derive(Debug)]
pub struct HugeMemory {
    map: MmapMut,
    /// The part of the map that is used: it starts at a huge page.
    range: Range<usize>,
    advised: bool,
}

impl HugeMemory {
    /// Allocates `bytes` zero bytes.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub fn zeroed(bytes: usize) -> io::Result<Self> {
        if bytes < HUGE_PAGE {
            let map = MmapMut::map_anon(bytes.max(1))?;
            return Ok(Self { map, range: 0..bytes, advised: false });
        }
        let whole = bytes.next_multiple_of(HUGE_PAGE);
        // One huge page more, so that the bytes can start at a multiple of one. Untouched pages take no memory.
        let map = MmapMut::map_anon(whole + HUGE_PAGE)?;
        let start = map.as_ptr().align_offset(HUGE_PAGE);
        let advised = advise_huge_pages(&map, start, whole).is_ok();
        Ok(Self { map, range: start..start + bytes, advised })
    }

    /// The bytes; the first is aligned to a page, or to a huge page from 2 MiB on.
    pub fn bytes(&self) -> &[u8] {
        &self.map[self.range.clone()]
    }

    /// The bytes, writable.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.map[self.range.clone()]
    }

    /// Whether the kernel accepted the advice to use huge pages.
    pub fn is_advised(&self) -> bool {
        self.advised
    }
}

impl Drop for HugeMemory {
    fn drop(&mut self) {
        for piece in pieces(0..self.map.len()) {
            // SAFETY: released pages become zero, and the memory is not read after the drop.
            let _ = unsafe {
                self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, piece.start, piece.len())
            };
        }
    }
}

#[cfg(target_os = "linux")]
fn advise_huge_pages(map: &MmapMut, start: usize, len: usize) -> io::Result<()> {
    map.advise_range(Advice::HugePage, start, len)
}

#[cfg(not(target_os = "linux"))]
fn advise_huge_pages(_map: &MmapMut, _start: usize, _len: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
