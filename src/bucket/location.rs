//! Where an index is: a folder, or the URL of a bucket.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::base::partition::Shard;

use crate::base::local_path::scheme;

/// Where an index is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A folder that is used like a bucket: `file:///folder`.
    File {
        /// An absolute path.
        dir: PathBuf,
    },
    /// `s3://bucket/prefix`, with credentials from the usual environment.
    S3 {
        /// The name of the bucket.
        bucket: String,
        /// What the names of all objects begin with, without a slash at either end; may be empty.
        prefix: String,
    },
}

/// Why a text is no location.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// It has a scheme that is not known.
    #[error(
        "{text}: expected a folder, s3://BUCKET/PREFIX or file:///FOLDER, found an address with {scheme}://"
    )]
    UnknownScheme {
        /// The text.
        text: String,
        /// The scheme.
        scheme: String,
    },
    /// What follows the scheme is not as expected.
    #[error("{text}: expected {expected}, found {found:?}")]
    Malformed {
        /// The text.
        text: String,
        /// What was expected.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// The program has no client of buckets.
    #[error("{text}: this program was built without the feature `cluster`, which buckets need")]
    NotBuilt {
        /// The text.
        text: String,
    },
    /// A bucket where only a folder can be.
    #[error("{text}: expected a folder of this machine, found the address of a bucket")]
    NotAFolder {
        /// The text.
        text: String,
    },
}

impl Location {
    /// Reads a folder or a URL. A folder that is named like a scheme is `./s3:/x`.
    ///
    /// # Errors
    /// [`LocationError`], if the text is a URL.
    pub fn parse(path: &Path) -> Result<Self, LocationError> {
        let text = path.to_string_lossy();
        let Some(scheme) = scheme(&text) else { return Ok(Self::Folder(path.to_owned())) };
        let rest = &text[scheme.len() + "://".len()..];
        let malformed = |expected, found: &str| {
            Err(LocationError::Malformed { text: text.to_string(), expected, found: found.to_owned() })
        };
        let location = match scheme {
            "s3" => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                let is_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
                if bucket.is_empty() || !bucket.chars().all(is_name) {
                    return malformed("the name of a bucket after s3://", bucket);
                }
                let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
                if !prefix.is_empty() && !prefix.split('/').all(is_segment) {
                    return malformed("a prefix of names separated by single slashes", prefix);
                }
                Self::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() }
            }
            "file" => {
                let folder = rest.strip_suffix('/').unwrap_or(rest);
                let is_absolute =
                    folder.strip_prefix('/').is_some_and(|path| path.split('/').all(is_segment));
                if !is_absolute {
                    return malformed("file:/// and the absolute path of a folder", rest);
                }
                Self::File { dir: PathBuf::from(folder) }
            }
            scheme => {
                return Err(LocationError::UnknownScheme {
                    text: text.to_string(),
                    scheme: scheme.to_owned(),
                });
            }
        };
        if cfg!(feature = "cluster") {
            Ok(location)
        } else {
            Err(LocationError::NotBuilt { text: text.into_owned() })
        }
    }

    /// Returns whether objects are written and read here, and not the files of a folder.
    pub fn is_bucket(&self) -> bool {
        !matches!(self, Self::Folder(_))
    }

    /// Returns the path of the folder.
    ///
    /// # Errors
    /// [`LocationError::NotAFolder`] for a bucket.
    pub fn folder(&self) -> Result<&Path, LocationError> {
        match self {
            Self::Folder(dir) => Ok(dir),
            other => Err(LocationError::NotAFolder { text: other.to_string() }),
        }
    }

    /// Returns the location of a shard of the index here: this one if the index is not divided.
    pub fn of_shard(&self, shard: Shard) -> Self {
        match shard.of() {
            1 => self.clone(),
            of => self.join(&format!("shard-{}-of-{of}", shard.index())),
        }
    }

    /// Returns the location of `name`, one or more names separated by slashes, below this one.
    pub fn join(&self, name: &str) -> Self {
        match self {
            Self::Folder(dir) => Self::Folder(dir.join(name)),
            Self::File { dir } => Self::File { dir: dir.join(name) },
            Self::S3 { bucket, prefix } if prefix.is_empty() => {
                Self::S3 { bucket: bucket.clone(), prefix: name.to_owned() }
            }
            Self::S3 { bucket, prefix } => {
                Self::S3 { bucket: bucket.clone(), prefix: format!("{prefix}/{name}") }
            }
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(dir) => write!(f, "{}", dir.display()),
            Self::File { dir } => write!(f, "file://{}", dir.display()),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// Returns whether a part of a path is a name, and leads neither nowhere nor upwards.
fn is_segment(segment: &str) -> bool {
    !["", ".", ".."].contains(&segment) && !segment.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Location, LocationError> {
        Location::parse(Path::new(text))
    }

    #[test]
    fn paths_are_folders() {
        for path in ["x", "/x/y", "./s3://b", "s3:/x", ""] {
            assert_eq!(parse(path), Ok(Location::Folder(PathBuf::from(path))));
        }
    }

    #[cfg(feature = "cluster")]
    #[test]
    fn urls_are_buckets() {
        for (text, normal) in [
            ("s3://videos", "s3://videos"),
            ("s3://videos/", "s3://videos"),
            ("s3://videos/a/b/", "s3://videos/a/b"),
            ("file:///srv/index/", "file:///srv/index"),
        ] {
            let location = parse(text).unwrap();
            assert!(location.is_bucket() && location.folder().is_err());
            assert_eq!(location.to_string(), normal);
            let child = location.join("shard-0-of-4");
            assert_eq!(child.to_string(), format!("{normal}/shard-0-of-4"));
            assert_eq!(parse(&child.to_string()), Ok(child));
        }
    }

    #[cfg(not(feature = "cluster"))]
    #[test]
    fn buckets_need_the_feature() {
        let error = parse("s3://videos/a").unwrap_err().to_string();
        assert!(error.contains("the feature `cluster`"), "{error}");
    }

    #[test]
    fn errors_name_what_is_known_and_what_was_found() {
        for (text, expected) in [
            (
                "gs://b/x",
                "expected a folder, s3://BUCKET/PREFIX or file:///FOLDER, found an address with gs://",
            ),
            ("S3://b/x", "found an address with S3://"),
            ("s3://", "expected the name of a bucket after s3://, found \"\""),
            ("s3:///x", "expected the name of a bucket after s3://, found \"\""),
            ("s3://b c/x", "found \"b c\""),
            ("s3://b/x//y", "expected a prefix of names separated by single slashes, found \"x//y\""),
            ("s3://b/../y", "found \"../y\""),
            ("file://host/x", "expected file:/// and the absolute path of a folder, found \"host/x\""),
            ("file:///", "found \"/\""),
            ("file:///a/../b", "found \"/a/../b\""),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(text) && error.contains(expected), "{error}");
        }
    }
}
