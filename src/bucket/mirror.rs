//! Brings the newest generation of a bucket into a cache folder, which then is an ordinary folder of an index.
//!
//! ```text
//! newest manifest that is not here ─► generation to .mirror-00000002.part, resumed ─► length, checksums ─► rename
//!                                     ─► reports ─► manifest
//! ```
//!
//! The manifest comes last, so that a server which looks at the folder sees the generation complete, verifies it once more,
//! measures it and swaps it in. Numbers in the folder are those of the bucket, unless a manifest or a report of this machine has
//! taken one: then the file gets the next number that is free.
//!
//! A damaged object is passed over: an older publication is brought instead if it is newer than what is here. It is tried again
//! after a pause that doubles each time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::chunks::KeepGoing;
use super::download::download;
use super::error::BucketError;
use super::handle::Bucket;
use super::manifests::{manifest_numbers, read_manifest};
use crate::base::file_identity::OpenFolder;
use crate::base::regular_file;
use crate::base::staged_file::sync_folder;
use crate::index::{
    HEADER_BYTES, Index, IndexError, IndexStore, Manifest, PortableReport, StoreError, generation_name,
    is_report_of, number_in,
};

/// Generations that the cache keeps, the newest ones.
const KEPT: usize = 2;
/// The pause before a damaged object is tried again.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// The names of files that are not complete, before and after the number of the generation.
const PARTIAL_NAME: (&str, &str) = (".mirror-", ".part");

/// The cache folder of one index, and the bucket that it follows.
#[derive(Debug)]
pub struct Mirror {
    bucket: Bucket,
    store: IndexStore,
    /// The manifest of the bucket that was brought last.
    brought: u64,
    /// Reports that need not be read again.
    known: BTreeSet<String>,
    failed: BTreeMap<u64, Failure>,
}

#[derive(Clone, Copy, Debug)]
struct Failure {
    again_at: Instant,
    pause: Duration,
}

/// What one pass did.
#[derive(Debug, Default)]
pub struct Mirrored {
    /// The manifest that was added to the folder.
    pub published: Option<Manifest>,
    /// How many reports were added to generations that were in the folder before.
    pub reports: usize,
    /// What is wrong with objects that were passed over.
    pub passed_over: Vec<BucketError>,
}

impl Mirror {
    /// Mirrors `bucket` to the folder `dir`.
    ///
    /// # Errors
    /// If the folder cannot be created.
    pub fn new(bucket: Bucket, dir: PathBuf) -> Result<Self, BucketError> {
        let store = IndexStore::new(dir);
        store.create()?;
        Ok(Self { bucket, store, brought: 0, known: BTreeSet::new(), failed: BTreeMap::new() })
    }

    /// Returns whether the folder has a generation that opens.
    pub fn has_generation(&self) -> bool {
        self.store.open_current().is_ok()
    }

    /// Brings the newest publication and new reports of the generations in the folder. `keep_going` returns false to stop.
    ///
    /// # Errors
    /// If the bucket cannot be read or the folder cannot be written. What has arrived stays, and the next pass goes on.
    pub fn bring(&mut self, keep_going: KeepGoing<'_>) -> Result<Mirrored, BucketError> {
        let (names, _) = self.bucket.list()?;
        let numbers = manifest_numbers(&names);
        if numbers.is_empty() {
            return Err(BucketError::Empty { url: self.bucket.url().to_owned() });
        }
        let mut mirrored = Mirrored::default();
        let brought = self.brought;
        for number in numbers.into_iter().rev().take_while(|number| *number > brought) {
            if self.failed.get(&number).is_some_and(|failure| Instant::now() < failure.again_at) {
                continue;
            }
            match self.bring_manifest(number, &names, keep_going) {
                Ok(published) => {
                    self.brought = number;
                    self.failed.retain(|failed, _| *failed > number);
                    mirrored.published = published;
                    break;
                }
                Err(error) if error.is_defect() => {
                    self.note_failure(number);
                    mirrored.passed_over.push(error);
                }
                Err(error) => return Err(error),
            }
        }
        for generation in self.store.generations()? {
            mirrored.reports += self.bring_reports(generation, &names, &mut mirrored.passed_over)?;
        }
        Ok(mirrored)
    }

    fn note_failure(&mut self, number: u64) {
        let pause = self.failed.get(&number).map_or(FIRST_PAUSE, |last| (last.pause * 2).min(LONGEST_PAUSE));
        self.failed.insert(number, Failure { again_at: Instant::now() + pause, pause });
    }

    /// Brings what a manifest names, and the manifest. Returns `None` if it is here.
    fn bring_manifest(
        &mut self,
        number: u64,
        names: &[String],
        keep_going: KeepGoing<'_>,
    ) -> Result<Option<Manifest>, BucketError> {
        let manifest = read_manifest(&self.bucket, number)?;
        let here = self.store.manifests()?;
        let read = |number: &u64| self.store.read_manifest(*number).ok();
        if here.iter().rev().filter_map(read).any(|other| other.is_copy_of(&manifest)) {
            return Ok(None);
        }
        self.bring_generation(&manifest, keep_going)?;
        self.bring_reports(manifest.generation, names, &mut Vec::new())?;
        let adopted = self.store.adopt_manifest(&manifest)?;
        self.remove_partials()?;
        Ok(Some(adopted))
    }

    fn bring_generation(&self, manifest: &Manifest, keep_going: KeepGoing<'_>) -> Result<(), BucketError> {
        let name = generation_name(manifest.generation);
        let path = self.store.generation_path(manifest.generation);
        if path.exists() {
            return self.check_same(&name, &path, manifest.bytes);
        }
        let partial =
            self.store.dir().join(format!("{}{:08}{}", PARTIAL_NAME.0, manifest.generation, PARTIAL_NAME.1));
        let get = || -> Result<bool, BucketError> {
            let had_part = download(&self.bucket, &name, manifest.bytes, &partial, keep_going)?;
            match check_generation(&partial, self.bucket.url_of(&name)) {
                Ok(()) => Ok(true),
                Err(error) => {
                    fs::remove_file(&partial).map_err(BucketError::io(&partial))?;
                    // The first part may have been that of another object.
                    if had_part { Ok(false) } else { Err(error) }
                }
            }
        };
        let is_whole = get()? || get()?;
        debug_assert!(is_whole, "without a part, it is whole or an error");
        fs::rename(&partial, &path).map_err(BucketError::io(&path))?;
        sync_folder(self.store.dir()).map_err(BucketError::io(self.store.dir()))
    }

    /// Checks that the file of a generation is that of the bucket: equal lengths and equal headers, which have the checksum of
    /// all checksums.
    fn check_same(&self, name: &str, path: &Path, expected: u64) -> Result<(), BucketError> {
        let file = regular_file::open(path).map_err(BucketError::io(path))?;
        let length = file.metadata().map_err(BucketError::io(path))?.len();
        let mut header = Vec::new();
        file.take(HEADER_BYTES as u64).read_to_end(&mut header).map_err(BucketError::io(path))?;
        let there = self.bucket.begin_range(name, 0..HEADER_BYTES as u64, None).wait()?;
        if length != expected || header != there {
            return Err(BucketError::Foreign { path: path.to_owned(), url: self.bucket.url_of(name) });
        }
        Ok(())
    }

    /// Brings the reports about a generation in the folder. Returns how many are new.
    fn bring_reports(
        &mut self,
        generation: u64,
        names: &[String],
        passed_over: &mut Vec<BucketError>,
    ) -> Result<usize, BucketError> {
        let names = names.iter().filter(|name| is_report_of(name, generation) && !self.known.contains(*name));
        let names: Vec<String> = names.cloned().collect();
        if names.is_empty() {
            return Ok(0);
        }
        // It may be damaged. The server says so, and looks for another.
        let Ok(index) = self.store.open_generation(generation) else { return Ok(0) };
        let mut added = 0;
        for name in names {
            let url = self.bucket.url_of(&name);
            let found = match self.bucket.read_up_to(&name, Manifest::MAX_BYTES) {
                Ok(found) => found,
                Err(error) if error.is_defect() => {
                    passed_over.push(error);
                    None
                }
                Err(error) => return Err(error),
            };
            if let Some(bytes) = found {
                let report = PortableReport { name: name.clone(), bytes };
                match self.store.adopt_report(&report, generation, &index, Path::new(&url)) {
                    Ok(is_new) => added += usize::from(is_new),
                    Err(
                        StoreError::BadCalibration { problem, .. }
                        | StoreError::BadGateReport { problem, .. },
                    ) => passed_over.push(BucketError::Damaged { url, problem }),
                    Err(error) => return Err(error.into()),
                }
            }
            self.known.insert(name);
        }
        Ok(added)
    }

    /// Removes the generations that are neither among the newest two nor `serving`, the one that answers.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn remove_old(&self, serving: u64) -> Result<Vec<u64>, BucketError> {
        let (mut kept, mut removed) = (Vec::new(), Vec::new());
        for number in self.store.manifests()?.into_iter().rev() {
            let Ok(manifest) = self.store.read_manifest(number) else { continue };
            if kept.len() < KEPT && !kept.contains(&manifest.generation) {
                kept.push(manifest.generation);
            }
        }
        // With fewer, nothing is old.
        if kept.len() < KEPT {
            return Ok(removed);
        }
        kept.push(serving);
        let least = kept.iter().copied().min().unwrap_or_default();
        let is_named = |generation: u64| {
            let numbers = self.store.manifests().unwrap_or_default().into_iter();
            let mut manifests = numbers.filter_map(|number| self.store.read_manifest(number).ok());
            manifests.any(|manifest| manifest.generation == generation)
        };
        let mut folder = None;
        for generation in self.store.generations()? {
            // If no manifest names it, its manifest may not be written yet.
            if kept.contains(&generation) || generation > least && !is_named(generation) {
                continue;
            }
            let dir = self.store.dir();
            let opened = match folder.take() {
                Some(opened) => opened,
                None => OpenFolder::open(dir).map_err(BucketError::io(dir))?,
            };
            self.store.remove(generation, &opened)?;
            folder = Some(opened);
            removed.push(generation);
        }
        Ok(removed)
    }

    /// Removes what is left of downloads that were cut and of which nothing will be needed.
    fn remove_partials(&self) -> Result<(), BucketError> {
        let dir = self.store.dir();
        for entry in fs::read_dir(dir).map_err(BucketError::io(dir))? {
            let entry = entry.map_err(BucketError::io(dir))?;
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| number_in(name, PARTIAL_NAME.0, PARTIAL_NAME.1).is_some()) {
                fs::remove_file(entry.path()).map_err(BucketError::io(&entry.path()))?;
            }
        }
        Ok(())
    }
}

/// Opens a generation that was downloaded, and compares every checksum.
pub(super) fn check_generation(path: &Path, url: String) -> Result<(), BucketError> {
    match Index::open(path).and_then(|index| index.check_checksums()) {
        Ok(()) => Ok(()),
        Err(error @ IndexError::Io { .. }) => Err(error.into()),
        Err(error) => Err(BucketError::Damaged { url, problem: error.to_string() }),
    }
}
