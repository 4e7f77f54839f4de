//! A bucket as the target of a build.

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
