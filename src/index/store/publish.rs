//! Adding a generation together with its reports, and removing one.

use super::calibration::Calibration;
use super::error::StoreError;
use super::folder::{IndexStore, PUBLISH_ATTEMPTS};
use super::gate_report::{GateReport, Verdict};
use super::manifest::{BuildTimes, Manifest, PublishReason};
use super::recall_curve::RecallCurves;
use crate::base::file_identity::OpenFolder;
use crate::base::staged_file::sync_folder;
use crate::index::generation::{Index, StagedIndex};

/// Measurements of a build, made before it is published.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Recall against effort.
    pub curves: Option<RecallCurves>,
    /// The verdict of the quality gate.
    pub verdict: Option<Verdict>,
}

impl IndexStore {
    /// Publishes a staged file under the next generation number and makes it current. The reports in `measured` are
    /// written before the manifest, so no reader sees the generation without them.
    ///
    /// # Errors
    /// If renaming or syncing fails. The current generation is then unchanged, and at most a generation is left that no
    /// manifest names.
    pub fn publish(
        &self,
        staged: StagedIndex,
        times: BuildTimes,
        measured: Measured,
    ) -> Result<Manifest, StoreError> {
        let bytes = staged.bytes;
        let generation = self.hold(staged, measured)?;
        self.add_manifest(generation, bytes, times, PublishReason::Build)
    }

    /// Adds a staged file under the next generation number, with its reports, and does not make it current. Returns the number.
    ///
    /// # Errors
    /// If renaming or syncing fails.
    pub fn hold(&self, staged: StagedIndex, measured: Measured) -> Result<u64, StoreError> {
        let StagedIndex { mut file, bytes: _ } = staged;
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
                    return Ok(generation);
                }
                Err(unpublished) => file = unpublished,
            }
        }
        Err(self.too_contended())
    }

    /// Removes the manifests of activations before the last `kept` manifests, from `folder`, which was opened at the path of
    /// this store. The manifest that published a generation stays as long as the generation.
    ///
    /// # Errors
    /// If a file cannot be removed, or the path leads to another folder.
    pub fn remove_activations_before(&self, kept: usize, folder: &OpenFolder) -> Result<(), StoreError> {
        let manifests = self.manifests()?;
        let old = manifests.len().saturating_sub(kept);
        for number in &manifests[..old] {
            let is_activation = |manifest: Manifest| manifest.reason == PublishReason::Activate;
            if self.read_manifest(*number).is_ok_and(is_activation) {
                let path = self.manifest_path(*number);
                let name = path.file_name().unwrap_or_default();
                folder.remove_file(name).map_err(StoreError::io(&path))?;
            }
        }
        Ok(())
    }

    /// Removes a generation that is not current, with its manifests and reports, from `folder`, which was opened at the path
    /// of this store.
    ///
    /// # Errors
    /// If a file cannot be removed, or the path leads to another folder. No remaining manifest then names a removed
    /// generation.
    pub fn remove(&self, generation: u64, folder: &OpenFolder) -> Result<(), StoreError> {
        let mut paths = Vec::new();
        for number in self.manifests()? {
            if self.read_manifest(number).is_ok_and(|manifest| manifest.generation == generation) {
                paths.push(self.manifest_path(number));
            }
        }
        paths.push(self.generation_path(generation));
        // Last: as long as a generation exists, so do its reports of the quality gate.
        paths.extend(self.report_paths::<Calibration>(generation)?);
        paths.extend(self.report_paths::<GateReport>(generation)?);
        for path in paths {
            let name = path.file_name().unwrap_or_default();
            folder.remove_file(name).map_err(StoreError::io(&path))?;
        }
        sync_folder(self.dir()).map_err(StoreError::io(self.dir()))
    }
}
