//! Read-only memory maps: the one place outside `kernel/` that needs `unsafe`.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use memmap2::{Advice, Mmap};

/// A whole file mapped read-only.
///
/// The contract with whoever owns the file: it is not truncated or rewritten in place while it is
/// mapped. Everything Shortlist writes is created once under a temporary name and then renamed, so
/// its own files keep to that.
#[derive(Debug)]
pub struct MappedFile {
    map: Mmap,
    path: PathBuf,
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
        Ok(Self { map, path: path.to_owned() })
    }

    /// The bytes of the file. The first is aligned to a page.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// The path the file was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Brings every page into memory before it is needed.
    pub fn populate(&self) {
        // A hint: a kernel that does not take it still serves the same bytes.
        let _ = self.map.advise(Advice::WillNeed);
        let pages = self.map.iter().step_by(4096);
        std::hint::black_box(pages.fold(0u8, |sum, byte| sum.wrapping_add(*byte)));
    }
}
