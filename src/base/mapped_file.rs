//! Maps: files read-only, and memory, on huge pages where it is much. The one place outside `kernel/` that needs
//! `unsafe`.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::{Advice, Mmap, MmapMut, UncheckedAdvice};

/// The size of a huge page on every processor the kernels are written for, where pages are of 4 KiB.
const HUGE_PAGE: usize = 2 << 20;
/// Bytes whose pages are mapped, or given back, at a time: whoever needs other memory of the process waits for no more.
/// All of a large file takes milliseconds.
const PIECE: usize = 4 << 20;

/// A whole file mapped read-only, or bytes in memory in the place of one.
///
/// The contract with whoever owns the file: it is not truncated or rewritten in place while it is
/// mapped. Everything Shortlist writes is created once under a temporary name and then renamed, so
/// its own files keep to that.
#[derive(Debug)]
pub struct MappedFile {
    source: Source,
    path: PathBuf,
}

#[derive(Debug)]
enum Source {
    File(Mmap),
    Memory(HugeMemory),
}

impl MappedFile {
    /// Maps the file at `path`. An empty file gives an empty slice.
    ///
    /// # Errors
    /// What the operating system says of opening or mapping it; directories are refused.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        // SAFETY: the map is read-only and private to this value; the files mapped are inputs and
        // published generations, which by contract are not changed in place while in use.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self { source: Source::File(map), path: path.to_owned() })
    }

    /// A copy of `bytes` in memory of this process, which goes by `name` where a file has its path.
    ///
    /// # Errors
    /// If the operating system does not have as much memory.
    pub fn in_memory(name: &Path, bytes: &[u8]) -> io::Result<Self> {
        let mut memory = HugeMemory::zeroed(bytes.len())?;
        memory.bytes_mut().copy_from_slice(bytes);
        Ok(Self { source: Source::Memory(memory), path: name.to_owned() })
    }

    /// The bytes of the file. The first is aligned to a page.
    pub fn bytes(&self) -> &[u8] {
        match &self.source {
            Source::File(map) => map,
            Source::Memory(memory) => memory.bytes(),
        }
    }

    /// The path the file was opened by, or the name of what is in memory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is no file: the bytes are in memory of this process, and nowhere else.
    pub fn is_in_memory(&self) -> bool {
        matches!(self.source, Source::Memory(_))
    }

    /// Brings the pages of `range` into memory before they are needed.
    ///
    /// # Panics
    /// If the file ends before the range does.
    pub fn populate(&self, range: Range<usize>) {
        let bytes = &self.bytes()[range.clone()];
        let Source::File(map) = &self.source else { return };
        // Hints: a kernel that does not take them still serves the same bytes. The first reads ahead of
        // the second, which waits for every page and maps it.
        let _ = map.advise_range(Advice::WillNeed, range.start, range.len());
        #[cfg(target_os = "linux")]
        if pieces(range).all(|piece| map.advise_range(Advice::PopulateRead, piece.start, piece.len()).is_ok())
        {
            return;
        }
        std::hint::black_box(bytes.iter().step_by(4096).fold(0u8, |sum, byte| sum.wrapping_add(*byte)));
    }

    /// Gives back the pages of `range`, which is not read any more soon. They may still be read. Memory that no file
    /// is behind stays.
    ///
    /// # Panics
    /// If the file ends before the range does.
    pub fn release(&self, range: Range<usize>) {
        assert!(range.start <= range.end && range.end <= self.bytes().len(), "a range of another file");
        let Source::File(map) = &self.source else { return };
        for piece in pieces(range) {
            // SAFETY: of a read-only map of a file, every page that is given back is read from the file again
            // when it is touched: no byte that anybody sees changes. Memory, which would be zero then, has returned.
            let _ =
                unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, piece.start, piece.len()) };
        }
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        // Nothing is left to do for the call that ends the map, during which the process gets no other memory.
        self.release(0..self.bytes().len());
    }
}

/// A range in pieces, which end at multiples of their size.
fn pieces(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let first = range.start / PIECE;
    (first..range.end.div_ceil(PIECE))
        .map(move |piece| range.start.max(piece * PIECE)..range.end.min((piece + 1) * PIECE))
}

/// Memory of this process alone, on huge pages where the kernel has them: one entry of the processor's
/// address cache covers 2 MiB of it instead of 4 KiB. Less than one of them lies on pages of the usual size.
#[derive(Debug)]
pub struct HugeMemory {
    map: MmapMut,
    /// Where the bytes lie in the map: they start at a huge page.
    range: Range<usize>,
    advised: bool,
}

impl HugeMemory {
    /// `bytes` zeros.
    ///
    /// # Errors
    /// If the operating system does not have as much.
    pub fn zeroed(bytes: usize) -> io::Result<Self> {
        if bytes < HUGE_PAGE {
            let map = MmapMut::map_anon(bytes.max(1))?;
            return Ok(Self { map, range: 0..bytes, advised: false });
        }
        let whole = bytes.next_multiple_of(HUGE_PAGE);
        // Room to start at a huge page, wherever the map starts; what is never touched takes no memory.
        let map = MmapMut::map_anon(whole + HUGE_PAGE)?;
        let start = map.as_ptr().align_offset(HUGE_PAGE);
        let advised = advise_huge_pages(&map, start, whole).is_ok();
        Ok(Self { map, range: start..start + bytes, advised })
    }

    /// The bytes. The first is aligned to a page of the size that they lie on.
    pub fn bytes(&self) -> &[u8] {
        &self.map[self.range.clone()]
    }

    /// The bytes, to be filled.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.map[self.range.clone()]
    }

    /// Whether the kernel took the advice to use huge pages.
    pub fn is_advised(&self) -> bool {
        self.advised
    }
}

impl Drop for HugeMemory {
    fn drop(&mut self) {
        for piece in pieces(0..self.map.len()) {
            // SAFETY: nobody reads the memory any more, which would be zero.
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
