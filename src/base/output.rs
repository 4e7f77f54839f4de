//! A file that a user named for output: replaced as a whole, unless it is a device, a pipe or standard output.
//!
//! | path | what happens |
//! |---|---|
//! | a file, or nothing | a complete file takes the name, or nothing changes |
//! | a symbolic link | the same with its target; the link stays |
//! | a device or a pipe, also `/dev/stdout` | it is written to |
//! | `-` | standard output, for text |
//! | a folder, a socket, an address such as `s3://` | refused |

use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::local_path::check_local;
use super::staged_file::{StagedFile, folder};

/// The path of standard output, for text.
const STANDARD_OUTPUT: &str = "-";
/// The kernel follows at most this many links.
const MAX_LINKS: usize = 40;

/// An output that can be written. Nothing is changed yet.
#[derive(Debug)]
pub enum Output {
    /// The path of a file, without links. The file may not exist yet.
    File(PathBuf),
    /// A device, a pipe or a standard stream, open.
    Stream(File),
}

impl Output {
    /// Opens `path` for any bytes.
    ///
    /// # Errors
    /// If it cannot be written, or is `-`, a folder, a socket or an address.
    pub fn open(path: &Path) -> io::Result<Self> {
        if path.as_os_str() == STANDARD_OUTPUT {
            return Err(invalid("expected a file, found standard output, which takes text only"));
        }
        check_local(path)?;
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::file(target(path)),
            Err(error) => return Err(error),
        };
        if let Some(stream) = standard_stream(&metadata) {
            return Ok(Self::Stream(stream));
        }
        let found = metadata.file_type();
        if found.is_file() {
            Self::file(path.canonicalize()?)
        } else if found.is_char_device() || found.is_block_device() || found.is_fifo() {
            OpenOptions::new().write(true).open(path).map(Self::Stream)
        } else {
            Err(invalid(&format!("expected a file, a device or a pipe, found {}", name(found))))
        }
    }

    /// Opens `path` for text: as [`Self::open`], but `-` is standard output.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_text(path: &Path) -> io::Result<Self> {
        if path.as_os_str() == STANDARD_OUTPUT {
            duplicate(io::stdout()).map(Self::Stream)
        } else {
            Self::open(path)
        }
    }

    /// Checks that a file can be created next to `path`.
    fn file(path: PathBuf) -> io::Result<Self> {
        StagedFile::create_for(&path)?;
        Ok(Self::File(path))
    }

    /// Begins to write.
    ///
    /// # Errors
    /// If the folder of a file cannot be written.
    pub fn create(self) -> io::Result<OutputFile> {
        Ok(match self {
            Self::File(path) => OutputFile::Staged { file: StagedFile::create_for(&path)?, path },
            Self::Stream(stream) => OutputFile::Stream(stream),
        })
    }

    /// Writes all of `text`. A pipe may be closed before its reader has read all of it.
    ///
    /// # Errors
    /// If it cannot be written; a file is then unchanged.
    pub fn write(self, text: &str) -> io::Result<()> {
        let mut file = self.create()?;
        match file.write_all(text.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written.and_then(|()| file.finish()),
        }
    }
}

/// An output that is being written. Dropping it leaves a file unchanged.
#[derive(Debug)]
pub enum OutputFile {
    /// A file that will replace the one at `path`.
    Staged {
        /// Invisible until it is finished.
        file: StagedFile,
        /// Without links.
        path: PathBuf,
    },
    /// A device, a pipe or a standard stream.
    Stream(File),
}

impl OutputFile {
    /// Ends the output. A file is synced and takes its name, and its folder is synced.
    ///
    /// # Errors
    /// If syncing or renaming fails; a file is then unchanged.
    pub fn finish(self) -> io::Result<()> {
        match self {
            Self::Staged { file, path } => file.replace(&path),
            Self::Stream(mut stream) => stream.flush(),
        }
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Staged { file, .. } => file.write(bytes),
            Self::Stream(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Staged { file, .. } => file.flush(),
            Self::Stream(stream) => stream.flush(),
        }
    }
}

/// Returns whether output to `path` goes to standard output, so that nothing else should.
pub fn is_standard_output(path: &Path) -> bool {
    let is_same =
        || Some(is_same(&fs::metadata(path).ok()?, &duplicate(io::stdout()).ok()?.metadata().ok()?));
    path.as_os_str() == STANDARD_OUTPUT || is_same().unwrap_or(false)
}

/// Returns the standard stream that a path leads to, such as `/dev/stdout`, or the file that the stream is redirected
/// to. Replacing that file would lose what is written to the stream.
fn standard_stream(metadata: &Metadata) -> Option<File> {
    let streams = [duplicate(io::stdout()), duplicate(io::stderr())];
    streams
        .into_iter()
        .flatten()
        .find(|stream| stream.metadata().is_ok_and(|other| is_same(metadata, &other)))
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn duplicate(stream: impl AsFd) -> io::Result<File> {
    Ok(stream.as_fd().try_clone_to_owned()?.into())
}

/// Follows links whose target does not exist.
fn target(path: &Path) -> PathBuf {
    let mut target = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&target) {
            Ok(next) => target = folder(&target).join(next),
            Err(_) => break,
        }
    }
    target
}

fn name(found: FileType) -> &'static str {
    if found.is_dir() {
        "a folder"
    } else if found.is_socket() {
        "a socket"
    } else {
        "something else"
    }
}

fn invalid(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, problem)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn write(path: &Path, text: &str) -> io::Result<()> {
        Output::open(path)?.write(text)
    }

    #[test]
    fn links_stay_and_their_target_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("sub")).unwrap();
        fs::write(path("sub/old"), "old").unwrap();
        symlink("sub/old", path("link")).unwrap();
        symlink("link", path("chain")).unwrap();
        symlink("sub/new", path("dangling")).unwrap();
        for (name, target) in
            [("link", "sub/old"), ("chain", "sub/old"), ("dangling", "sub/new"), ("plain", "plain")]
        {
            write(&path(name), name).unwrap();
            assert_eq!(fs::read_to_string(path(target)).unwrap(), name);
            assert_eq!(fs::symlink_metadata(path(name)).unwrap().is_symlink(), name != target, "{name}");
        }
        let loops = path("loops");
        symlink("loops", &loops).unwrap();
        assert!(write(&loops, "x").is_err());
        let names = fs::read_dir(path("sub")).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names.count(), 2, "no temporary file is left");
    }

    #[test]
    fn an_output_that_is_not_finished_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "old").unwrap();
        let mut file = Output::open(&path).unwrap().create().unwrap();
        file.write_all(b"new").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn devices_are_written_to() {
        let is_device = || fs::metadata("/dev/null").unwrap().file_type().is_char_device();
        write(Path::new("/dev/null"), "text").unwrap();
        assert!(is_device());
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("null");
        symlink("/dev/null", &link).unwrap();
        write(&link, "text").unwrap();
        assert!(is_device() && fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(write(Path::new("/dev/full"), "text").unwrap_err().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        let refused = |path: &Path| Output::open(path).unwrap_err().to_string();
        assert!(refused(dir.path()).ends_with("found a folder"));
        assert!(refused(&socket).ends_with("found a socket"));
        assert!(refused(Path::new("-")).contains("standard output"));
        assert!(refused(Path::new("s3://b/x")).contains("s3://"));
        assert_eq!(Output::open(&dir.path().join("none/x")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
