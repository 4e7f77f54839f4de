//! The calibration of the generation that answers, as far as the folder has one.

use crate::index::{Calibration, Index, IndexStore, RecallCurves, StoreError};

/// What is known of the recall of a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Calibrated {
    /// The newest calibration that can be read.
    calibration: Option<Calibration>,
    /// The highest number that was looked at; 0 without any.
    newest: u64,
}

impl Calibrated {
    /// Reads the newest calibration; what cannot be read is passed over, and said so in the log.
    pub(crate) fn load(store: &IndexStore, generation: u64, index: &Index) -> Result<Self, StoreError> {
        let newest = store.calibrations(generation)?.last().copied().unwrap_or_default();
        let (calibration, passed_over) = store.open_calibration(generation, index)?;
        for error in passed_over {
            tracing::warn!(%error, "passed over a calibration");
        }
        Ok(Self { calibration, newest })
    }

    /// What was measured, if anything was.
    pub(crate) fn curves(&self) -> Option<&RecallCurves> {
        Some(&self.calibration.as_ref()?.recall)
    }

    /// Reads it again if there is a newer one than was looked at.
    pub(crate) fn reload(
        &self,
        store: &IndexStore,
        generation: u64,
        index: &Index,
    ) -> Result<Option<Self>, StoreError> {
        let is_news = store.calibrations(generation)?.last().is_some_and(|last| *last > self.newest);
        is_news.then(|| Self::load(store, generation, index)).transpose()
    }
}
