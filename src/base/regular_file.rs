//! Opens files that must be regular: a FIFO or a device in place of one would stall its reader for ever.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// Opens the regular file at `path` for reading. Never waits for another process.
///
/// # Errors
/// If it cannot be opened, or is not a regular file.
pub fn open(path: &Path) -> io::Result<File> {
    open_with(OpenOptions::new().read(true), path)
}

/// Opens the regular file at `path`. Never waits for another process.
///
/// # Errors
/// As [`open`].
pub fn open_with(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    // Without this flag, opening a FIFO waits for its other end. It has no effect on a regular file.
    let file = options.custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}

/// Reads the regular file at `path`, or returns its length if it has more than `most` bytes.
///
/// # Errors
/// As [`open`].
pub fn read_up_to(path: &Path, most: u64) -> io::Result<Result<Vec<u8>, u64>> {
    let file = open(path)?;
    let length = file.metadata()?.len();
    let mut bytes = Vec::new();
    // It may have grown since.
    file.take(most + 1).read_to_end(&mut bytes)?;
    let length = length.max(bytes.len() as u64);
    Ok(if length > most { Err(length) } else { Ok(bytes) })
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;

    #[test]
    fn what_is_not_a_regular_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        mkfifoat(CWD, &fifo, Mode::RWXU).unwrap();
        for path in [&fifo, folder.path(), Path::new("/dev/zero")] {
            let error = open(path).unwrap_err();
            assert_eq!(error.to_string(), "not a regular file", "{}", path.display());
            assert!(read_up_to(path, 10).is_err());
        }
    }

    #[test]
    fn a_longer_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"0123456789").unwrap();
        assert_eq!(read_up_to(&path, 10).unwrap().unwrap(), b"0123456789");
        assert_eq!(read_up_to(&path, 9).unwrap().unwrap_err(), 10);
    }
}
