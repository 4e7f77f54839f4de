//! The calibration of a generation, if its folder contains one.

use crate::index::{Index, IndexStore, RecallCurves, StoreError};

/// The measured recall of a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Calibrated {
    /// Those of the newest calibration that can be read, unless others were learned since.
    curves: Option<RecallCurves>,
    /// The highest number of a calibration that was read or found unreadable; 0 without any.
    newest: u64,
}

impl Calibrated {
    /// The curves of an index without a folder.
    pub(crate) fn in_memory(curves: Option<RecallCurves>) -> Self {
        Self { curves, newest: 0 }
    }

    /// Reads the newest readable calibration. Logs those that cannot be read.
    pub(crate) fn load(store: &IndexStore, generation: u64, index: &Index) -> Result<Self, StoreError> {
        let newest = store.calibrations(generation)?.last().copied().unwrap_or_default();
        let (calibration, passed_over) = store.open_calibration(generation, index)?;
        for error in passed_over {
            tracing::warn!(%error, "passed over a calibration");
        }
        Ok(Self { curves: calibration.map(|calibration| calibration.recall), newest })
    }

    /// The measured curves, if there are any.
    pub(crate) fn curves(&self) -> Option<&RecallCurves> {
        self.curves.as_ref()
    }

    /// The measured curves, if requests may have a target recall.
    pub(crate) fn targets(&self) -> Option<&RecallCurves> {
        self.curves().filter(|curves| curves.source.allows_targets())
    }

    /// Other curves of the same generation, which count until there is a newer calibration in its folder.
    pub(crate) fn learned(&self, curves: RecallCurves) -> Self {
        Self { curves: Some(curves), newest: self.newest }
    }

    /// Reads again if there is a newer calibration than the last one seen.
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
