//! Generations and manifests in a folder: what is current, how a new one is published, how one goes back.
//!
//! Both kinds of file are created once and never changed. The manifest with the highest number that
//! can be read is current; publishing and going back both add a manifest, so every step is on record.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::calibration::Calibration;
use super::error::{IndexError, StoreError};
use super::gate_report::{GateReport, Verdict};
use super::recall_curve::RecallCurves;
use super::sealed_json;
use super::view::Index;
use super::writer::StagedIndex;
use crate::base::staged_file::sync_folder;

/// The version of the manifest's fields.
const MANIFEST_VERSION: u32 = 1;
/// The word for a manifest in its file.
const MANIFEST: &str = "manifest";
/// How often a number that somebody else took first is tried again with the next one.
pub(super) const PUBLISH_ATTEMPTS: usize = 1000;

/// What was measured of a build before it is published.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// What recall it has at what effort.
    pub curves: Option<RecallCurves>,
    /// What the quality gate makes of it.
    pub verdict: Option<Verdict>,
}

/// Why a manifest was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PublishReason {
    /// A build published a new generation.
    Build,
    /// Somebody made an existing generation current.
    Activate,
}

/// Names the generation that is current from this manifest on.
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
    /// What the build spent them on, in order; empty in manifests from before this was recorded.
    // Skipped when empty: the checksum of such a manifest is over the fields it was written with.
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
    /// As the progress bar names it.
    pub name: String,
    /// Wall-clock milliseconds.
    pub ms: u64,
}

/// How long a build took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildTimes {
    /// Wall-clock milliseconds in all.
    pub ms: u64,
    /// Of each phase, in their order.
    pub phases: Vec<BuildPhase>,
}

/// A folder of generations.
#[derive(Clone, Debug)]
pub struct IndexStore {
    dir: PathBuf,
}

impl IndexStore {
    /// The store in `dir`, which need not exist yet.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Makes the folder if it is not there.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn create(&self) -> Result<(), StoreError> {
        fs::create_dir_all(&self.dir).map_err(StoreError::io(&self.dir))
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file of a generation.
    pub fn generation_path(&self, generation: u64) -> PathBuf {
        self.dir.join(format!("generation-{generation:08}.index"))
    }

    fn manifest_path(&self, manifest: u64) -> PathBuf {
        self.dir.join(format!("manifest-{manifest:08}.json"))
    }

    /// The generations on disk, ascending.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn generations(&self) -> Result<Vec<u64>, StoreError> {
        self.numbered("generation-", ".index")
    }

    /// The manifests on disk, ascending; not all of them need be valid.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn manifests(&self) -> Result<Vec<u64>, StoreError> {
        self.numbered("manifest-", ".json")
    }

    /// Reads one manifest and checks it, but not the generation that it names.
    ///
    /// # Errors
    /// [`StoreError::BadManifest`] if it is damaged.
    pub fn read_manifest(&self, number: u64) -> Result<Manifest, StoreError> {
        let path = self.manifest_path(number);
        let bad = |problem: String| StoreError::BadManifest { path: path.clone(), problem };
        let manifest: Manifest = sealed_json::read(&path, MANIFEST, bad)?;
        if manifest.format_version != MANIFEST_VERSION {
            let found = manifest.format_version;
            return Err(bad(format!("format version {found} is not supported: expected {MANIFEST_VERSION}")));
        }
        if manifest.manifest != number {
            return Err(bad(format!("expected manifest number {number}, found {}", manifest.manifest)));
        }
        Ok(manifest)
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

    /// Opens the newest manifest whose generation opens. Those passed over are given with the reason.
    ///
    /// # Errors
    /// As [`IndexStore::open_newest`].
    pub fn open_current(&self) -> Result<(Manifest, Index, Vec<StoreError>), StoreError> {
        self.open_newest(|_, _| Ok(()))
    }

    /// Opens the newest manifest whose generation opens and passes `check`. Those passed over are given
    /// with the reason, newest first.
    ///
    /// # Errors
    /// [`StoreError::Empty`] without any manifest, [`StoreError::NothingUsable`] if none leads to an index.
    pub fn open_newest(
        &self,
        check: impl Fn(&Manifest, &Index) -> Result<(), StoreError>,
    ) -> Result<(Manifest, Index, Vec<StoreError>), StoreError> {
        let mut passed_over = Vec::new();
        for number in self.manifests()?.into_iter().rev() {
            let opened = self.open_manifest(number).and_then(|(manifest, index)| {
                check(&manifest, &index)?;
                Ok((manifest, index))
            });
            match opened {
                Ok((manifest, index)) => return Ok((manifest, index, passed_over)),
                Err(error) => passed_over.push(error),
            }
        }
        let dir = self.dir.clone();
        Err(match passed_over.into_iter().next() {
            None => StoreError::Empty { dir },
            Some(newest) => StoreError::NothingUsable { dir, newest: Box::new(newest) },
        })
    }

    /// Gives a staged file the next generation number and makes it current, with what was `measured` of it beside it
    /// from the start.
    ///
    /// # Errors
    /// If renaming or syncing fails; what was current still is, and at most a generation is left that no
    /// manifest names.
    pub fn publish(
        &self,
        staged: StagedIndex,
        times: BuildTimes,
        measured: Measured,
    ) -> Result<Manifest, StoreError> {
        let StagedIndex { mut file, bytes } = staged;
        for _ in 0..PUBLISH_ATTEMPTS {
            let generation = self.generations()?.last().map_or(1, |last| last.saturating_add(1));
            let path = self.generation_path(generation);
            match file.publish(&path).map_err(StoreError::io(&path))? {
                Ok(()) => {
                    let Measured { curves, verdict } = measured;
                    if let Some(curves) = curves {
                        self.add_calibration(generation, &Index::open(&path)?, curves)?;
                    }
                    if let Some(verdict) = verdict {
                        self.add_gate_report(generation, &Index::open(&path)?, &verdict)?;
                    }
                    return self.add_manifest(generation, bytes, times, PublishReason::Build);
                }
                Err(unpublished) => file = unpublished,
            }
        }
        Err(self.too_contended())
    }

    /// Opens a generation that is on disk, current or not.
    ///
    /// # Errors
    /// If there is no such generation, or it does not open.
    pub fn open_generation(&self, generation: u64) -> Result<Index, StoreError> {
        let available = self.generations()?;
        if !available.contains(&generation) {
            return Err(StoreError::UnknownGeneration { dir: self.dir.clone(), generation, available });
        }
        Ok(Index::open(&self.generation_path(generation))?)
    }

    /// Makes an open generation current; the caller has checked it.
    ///
    /// # Errors
    /// If the manifest cannot be written.
    pub fn activate(&self, generation: u64, index: &Index) -> Result<Manifest, StoreError> {
        let times = self.build_times(generation)?;
        self.add_manifest(generation, index.bytes(), times, PublishReason::Activate)
    }

    /// Removes a generation that is not current, with everything that is about it.
    ///
    /// # Errors
    /// If a file cannot be removed; what is left names no generation that is gone.
    pub fn remove(&self, generation: u64) -> Result<(), StoreError> {
        let mut paths = Vec::new();
        for number in self.manifests()? {
            if self.read_manifest(number).is_ok_and(|manifest| manifest.generation == generation) {
                paths.push(self.manifest_path(number));
            }
        }
        paths.push(self.generation_path(generation));
        // Last: as long as it is there, so is what the quality gate said of it.
        paths.extend(self.report_paths::<Calibration>(generation)?);
        paths.extend(self.report_paths::<GateReport>(generation)?);
        for path in paths {
            fs::remove_file(&path).map_err(StoreError::io(&path))?;
        }
        sync_folder(&self.dir).map_err(StoreError::io(&self.dir))
    }

    /// What the manifest that published the generation says of its build; 0 and nothing if that is gone.
    fn build_times(&self, generation: u64) -> Result<BuildTimes, StoreError> {
        let manifests = self.manifests()?;
        let read = |number: &u64| self.read_manifest(*number).ok();
        let first = manifests.iter().filter_map(read).find(|manifest| manifest.generation == generation);
        let times = first.map(|manifest| BuildTimes { ms: manifest.build_ms, phases: manifest.build_phases });
        Ok(times.unwrap_or_default())
    }

    fn add_manifest(
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

    /// The numbers of the files whose names are a number between `prefix` and `suffix`, ascending.
    pub(super) fn numbered(&self, prefix: &str, suffix: &str) -> Result<Vec<u64>, StoreError> {
        let mut numbers = Vec::new();
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(numbers),
            Err(error) => return Err(StoreError::Io { path: self.dir.clone(), source: error }),
        };
        for entry in entries {
            let name = entry.map_err(StoreError::io(&self.dir))?.file_name();
            let number = name
                .to_str()
                .and_then(|name| name.strip_prefix(prefix)?.strip_suffix(suffix))
                .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|digits| digits.parse::<u64>().ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    pub(super) fn too_contended(&self) -> StoreError {
        StoreError::Io {
            path: self.dir.clone(),
            source: std::io::Error::other(format!("no free number after {PUBLISH_ATTEMPTS} attempts")),
        }
    }
}
