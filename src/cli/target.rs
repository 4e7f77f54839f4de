//! Where `build` publishes: in a folder, or in a bucket by way of a scratch folder.

use std::path::Path;

use anyhow::bail;

use super::progress::BuildBars;
use crate::bucket::Location;
use crate::index::IndexStore;

#[cfg(feature = "cluster")]
mod remote;

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
