//! Where `build` publishes: in a folder, or in a bucket by way of a scratch folder.

use std::path::Path;

use anyhow::bail;

use super::progress::BuildBars;
use crate::bucket::Location;
use crate::index::IndexStore;

/// Where a build publishes.
#[derive(Debug)]
pub enum Target {
    /// In this folder.
    Folder(IndexStore),
    /// In a bucket.
    #[cfg(feature = "cluster")]
    Bucket(remote::Remote),
}

impl Target {
    /// Checks that `location` can be written to. Nothing is made yet.
    ///
    /// # Errors
    /// If its store lets two creators win, or `scratch` is given for a folder.
    pub fn open(location: &Location, scratch: Option<&Path>) -> anyhow::Result<Self> {
        if let Location::Folder(dir) = location {
            if let Some(scratch) = scratch {
                bail!("--scratch {}: expected --out in a bucket, found a folder", scratch.display());
            }
            return Ok(Self::Folder(IndexStore::new(dir)));
        }
        #[cfg(feature = "cluster")]
        return Ok(Self::Bucket(remote::Remote::open(location, scratch)?));
        #[cfg(not(feature = "cluster"))]
        bail!("{location}: expected a folder");
    }

    /// Returns the folder to build in. That of a bucket is removed with this value.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn store(&mut self) -> anyhow::Result<IndexStore> {
        match self {
            Self::Folder(store) => Ok(store.clone()),
            #[cfg(feature = "cluster")]
            Self::Bucket(remote) => remote.store(),
        }
    }

    /// Publishes a generation of that folder here. Returns its number, and where it is.
    ///
    /// # Errors
    /// If it cannot be sent, or is cancelled.
    pub fn publish(&self, generation: u64, bars: &BuildBars) -> anyhow::Result<(u64, String)> {
        match self {
            Self::Folder(store) => {
                let _ = bars;
                Ok((generation, store.generation_path(generation).display().to_string()))
            }
            #[cfg(feature = "cluster")]
            Self::Bucket(remote) => remote.publish(generation, bars),
        }
    }
}

#[cfg(feature = "cluster")]
mod remote {
    use std::cell::Cell;
    use std::path::{Path, PathBuf};

    use anyhow::{Context as _, bail};
    use tempfile::TempDir;

    use super::super::progress::BuildBars;
    use crate::bucket::{Bucket, BucketError, Location, Probed, publish};
    use crate::build::{BuildError, Progress as _};
    use crate::index::{IndexStore, generation_name};

    /// A bucket, and the folder in which its next generation is built.
    #[derive(Debug)]
    pub struct Remote {
        bucket: Bucket,
        within: PathBuf,
        scratch: Option<TempDir>,
    }

    impl Remote {
        pub fn open(location: &Location, scratch: Option<&Path>) -> anyhow::Result<Self> {
            let bucket = Bucket::open(location)?;
            if bucket.probe()? == Probed::ReadOnly {
                bail!("{location}: the credentials do not permit to write");
            }
            let within = scratch.map_or_else(std::env::temp_dir, Path::to_owned);
            Ok(Self { bucket, within, scratch: None })
        }

        pub fn store(&mut self) -> anyhow::Result<IndexStore> {
            let made = tempfile::Builder::new().prefix("shortlist-build-").tempdir_in(&self.within);
            let made =
                made.with_context(|| format!("cannot make a scratch folder in {}", self.within.display()))?;
            let store = IndexStore::new(made.path());
            self.scratch = Some(made);
            Ok(store)
        }

        pub fn publish(&self, generation: u64, bars: &BuildBars) -> anyhow::Result<(u64, String)> {
            let scratch = self.scratch.as_ref().context("nothing was built")?;
            let shown = Cell::new(None);
            let keep_going = |sent: u64, total: u64| {
                let before = shown.replace(Some(sent)).unwrap_or_else(|| {
                    bars.begin("uploading the index", total);
                    0
                });
                bars.advance(sent.saturating_sub(before));
                !bars.is_cancelled()
            };
            match publish(&self.bucket, &IndexStore::new(scratch.path()), generation, &keep_going) {
                Ok(manifest) => {
                    let name = generation_name(manifest.generation);
                    Ok((manifest.generation, self.bucket.url_of(&name)))
                }
                Err(BucketError::Stopped) => Err(BuildError::Cancelled.into()),
                Err(error) => Err(error.into()),
            }
        }
    }
}
