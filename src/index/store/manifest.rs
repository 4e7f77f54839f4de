//! Manifests: which generation is current, and when and why it became so.
//!
//! A manifest is created once and never changed. The readable manifest with the highest number counts. Publishing and
//! going back both add a manifest, so the folder records every change.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::folder::{IndexStore, MANIFEST_NAME, PUBLISH_ATTEMPTS, manifest_name};
use super::sealed_json;
use crate::index::generation::{Index, IndexError};

/// The version of the fields of a manifest.
const MANIFEST_VERSION: u32 = 1;
/// The key of a manifest in its file.
const MANIFEST: &str = "manifest";

/// Why a manifest was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PublishReason {
    /// A build published a new generation.
    Build,
    /// An existing generation was made current.
    Activate,
}

/// Names the generation that is current until the next manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of these fields: 1.
    pub format_version: u32,
    /// The number of this manifest.
    pub manifest: u64,
    /// The generation that it makes current.
    pub generation: u64,
    /// Length of the generation file.
    pub bytes: u64,
    /// Wall-clock milliseconds of the build, from opening the input to the synced file.
    pub build_ms: u64,
    /// The phases of the build, in order; empty in manifests older than this field.
    // Skipped if empty: the checksum of an older manifest covers only the fields that it was written with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub build_phases: Vec<BuildPhase>,
    /// When this manifest was written.
    pub created_at: Timestamp,
    /// Why it was written.
    pub reason: PublishReason,
}

/// One phase of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildPhase {
    /// The name in the progress bar.
    pub name: String,
    /// Wall-clock milliseconds.
    pub ms: u64,
}

/// How long a build took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildTimes {
    /// Wall-clock milliseconds in all.
    pub ms: u64,
    /// The phases, in order.
    pub phases: Vec<BuildPhase>,
}

impl Manifest {
    /// The largest length of [`Manifest::to_bytes`].
    pub const MAX_BYTES: u64 = sealed_json::MAX_BYTES;

    /// A manifest of a build that was not published yet.
    pub fn of_build(manifest: u64, generation: u64, bytes: u64, times: BuildTimes) -> Self {
        Self {
            format_version: MANIFEST_VERSION,
            manifest,
            generation,
            bytes,
            build_ms: times.ms,
            build_phases: times.phases,
            created_at: Timestamp::now(),
            reason: PublishReason::Build,
        }
    }

    /// Returns the bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        sealed_json::encode(MANIFEST, self)
    }

    /// Reads and checks the bytes of manifest `number`, which errors say are at `path`.
    ///
    /// # Errors
    /// [`StoreError::BadManifest`] if they are damaged.
    pub fn from_bytes(bytes: &[u8], number: u64, path: &Path) -> Result<Self, StoreError> {
        let bad = |problem: String| StoreError::BadManifest { path: path.to_owned(), problem };
        sealed_json::decode::<Self, _>(bytes, MANIFEST, bad)?.checked(number, path)
    }

    fn checked(self, number: u64, path: &Path) -> Result<Self, StoreError> {
        let bad = |problem: String| StoreError::BadManifest { path: path.to_owned(), problem };
        if self.format_version != MANIFEST_VERSION {
            let found = self.format_version;
            return Err(bad(format!("format version {found} is not supported: expected {MANIFEST_VERSION}")));
        }
        if self.manifest != number {
            return Err(bad(format!("expected manifest number {number}, found {}", self.manifest)));
        }
        Ok(self)
    }

    /// Returns whether two manifests are the same but for their numbers.
    pub fn is_copy_of(&self, other: &Self) -> bool {
        Self { manifest: other.manifest, ..self.clone() } == *other
    }
}

impl IndexStore {
    /// The path of a manifest.
    pub fn manifest_path(&self, manifest: u64) -> PathBuf {
        self.dir().join(manifest_name(manifest))
    }

    /// Returns the numbers of the manifests on disk, ascending, valid or not.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn manifests(&self) -> Result<Vec<u64>, StoreError> {
        self.numbered(MANIFEST_NAME.0, MANIFEST_NAME.1)
    }

    /// Reads and checks one manifest, but not the generation that it names.
    ///
    /// # Errors
    /// [`StoreError::BadManifest`] if it is damaged.
    pub fn read_manifest(&self, number: u64) -> Result<Manifest, StoreError> {
        let path = self.manifest_path(number);
        let bad = |problem: String| StoreError::BadManifest { path: path.clone(), problem };
        sealed_json::read::<Manifest>(&path, MANIFEST, bad)?.checked(number, &path)
    }

    /// Reads one manifest and opens the generation that it names.
    ///
    /// # Errors
    /// If either is damaged or missing.
    pub fn open_manifest(&self, number: u64) -> Result<(Manifest, Index), StoreError> {
        let manifest = self.read_manifest(number)?;
        let path = self.generation_path(manifest.generation);
        let index = Index::open(&path)?;
        if index.bytes() != manifest.bytes {
            let (expected, found) = (manifest.bytes, index.bytes());
            return Err(IndexError::WrongLength { path, expected, found }.into());
        }
        Ok((manifest, index))
    }

    /// Opens the newest manifest whose generation opens. Also returns the error of each newer one, newest first.
    ///
    /// # Errors
    /// As [`IndexStore::open_newest`].
    pub fn open_current(&self) -> Result<(Manifest, Index, Vec<StoreError>), StoreError> {
        self.open_newest(|_, _| Ok(()))
    }

    /// Opens the newest manifest whose generation opens and passes `check`. Also returns the error of each newer one,
    /// newest first.
    ///
    /// # Errors
    /// [`StoreError::Empty`] without any manifest, [`StoreError::NothingUsable`] if no manifest names a generation that
    /// opens and passes `check`.
    pub fn open_newest(
        &self,
        check: impl Fn(&Manifest, &Index) -> Result<(), StoreError>,
    ) -> Result<(Manifest, Index, Vec<StoreError>), StoreError> {
        self.open_before(u64::MAX, check)
    }

    /// Like [`IndexStore::open_newest`], but only for manifests with a number below `manifest`.
    ///
    /// # Errors
    /// As [`IndexStore::open_newest`].
    pub fn open_before(
        &self,
        manifest: u64,
        check: impl Fn(&Manifest, &Index) -> Result<(), StoreError>,
    ) -> Result<(Manifest, Index, Vec<StoreError>), StoreError> {
        let mut passed_over = Vec::new();
        for number in self.manifests()?.into_iter().rev().filter(|number| *number < manifest) {
            let opened = self.open_manifest(number).and_then(|(manifest, index)| {
                check(&manifest, &index)?;
                Ok((manifest, index))
            });
            match opened {
                Ok((manifest, index)) => return Ok((manifest, index, passed_over)),
                Err(error) => passed_over.push(error),
            }
        }
        let dir = self.dir().to_owned();
        let mut passed_over = passed_over.into_iter();
        Err(match passed_over.next() {
            None => StoreError::Empty { dir },
            Some(newest) => {
                StoreError::NothingUsable { dir, newest: Box::new(newest), older: passed_over.collect() }
            }
        })
    }

    /// Makes an open generation current, which the caller has checked.
    ///
    /// # Errors
    /// If the manifest cannot be written.
    pub fn activate(&self, generation: u64, index: &Index) -> Result<Manifest, StoreError> {
        let times = self.build_times(generation)?;
        self.add_manifest(generation, index.bytes(), times, PublishReason::Activate)
    }

    /// Returns the build times in the manifest that published the generation; 0 and no phases if that is gone.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn build_times(&self, generation: u64) -> Result<BuildTimes, StoreError> {
        let manifests = self.manifests()?;
        let read = |number: &u64| self.read_manifest(*number).ok();
        let first = manifests.iter().filter_map(read).find(|manifest| manifest.generation == generation);
        let times = first.map(|manifest| BuildTimes { ms: manifest.build_ms, phases: manifest.build_phases });
        Ok(times.unwrap_or_default())
    }

    /// Adds a manifest from another place, whose generation is here: with its number, or with the next free one if that is
    /// taken or is not the newest.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn adopt_manifest(&self, manifest: &Manifest) -> Result<Manifest, StoreError> {
        for _ in 0..PUBLISH_ATTEMPTS {
            let next = self.manifests()?.last().map_or(1, |last| last.saturating_add(1));
            let adopted = Manifest { manifest: next.max(manifest.manifest), ..manifest.clone() };
            if sealed_json::create(&self.manifest_path(adopted.manifest), MANIFEST, &adopted)? {
                return Ok(adopted);
            }
        }
        Err(self.too_contended())
    }

    /// Adds a manifest with the next free number.
    pub(super) fn add_manifest(
        &self,
        generation: u64,
        bytes: u64,
        times: BuildTimes,
        reason: PublishReason,
    ) -> Result<Manifest, StoreError> {
        for _ in 0..PUBLISH_ATTEMPTS {
            let number = self.manifests()?.last().map_or(1, |last| last.saturating_add(1));
            let manifest = Manifest {
                format_version: MANIFEST_VERSION,
                manifest: number,
                generation,
                bytes,
                build_ms: times.ms,
                build_phases: times.phases.clone(),
                created_at: Timestamp::now(),
                reason,
            };
            if sealed_json::create(&self.manifest_path(number), MANIFEST, &manifest)? {
                return Ok(manifest);
            }
        }
        Err(self.too_contended())
    }
}
