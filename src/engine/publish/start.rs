//! Which generation a start serves: the one that a running server would have come to, as far as the files tell.
//!
//! ```text
//!  accepted ─► not judged ─► not judged ─► refused
//!  (or oldest)     └── each is served if it continues the one before
//! ```
//!
//! Nothing is measured, so that a start is fast. If the gate accepted an older generation, that one is served, and the first
//! refresh measures the newer ones.

use crate::engine::options::GateOptions;
use crate::engine::publish::continuity::{Next, Served, curves};
use crate::engine::publish::servable::{check_servable, has_passed};
use crate::engine::query::snapshot::check_structure;
use crate::index::{Index, IndexStore, Manifest, RefusalReason, StoreError};
use crate::live::MutationLog;

/// The generation that a start serves.
pub(crate) struct Start {
    pub(crate) manifest: Manifest,
    pub(crate) index: Index,
    /// The newest manifest that was judged. The first refresh tries later ones.
    pub(crate) judged: u64,
    /// Why the newest generation is not served.
    pub(crate) problem: Option<String>,
}

impl Start {
    /// Opens the newest generation that may be served and has in common with the one before it what requests rely on. `may_grow`:
    /// whether the log may receive what a generation contains and it lacks.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn open(
        store: &IndexStore,
        log: Option<&dyn MutationLog>,
        may_grow: bool,
        options: &GateOptions,
    ) -> Result<Self, StoreError> {
        let check = |manifest: &Manifest, index: &Index| {
            check_structure(index)?;
            check_servable(store, manifest, index, log)
        };
        let last = store.manifests()?.last().copied().unwrap_or_default();
        let (newest, index, skipped) = store.open_newest(check)?;
        let newest_servable = newest.manifest;
        // Newest first, to the first one that was accepted, or the oldest.
        let mut line = vec![(newest, index)];
        while let Some((manifest, index)) = line.last()
            && !has_passed(store, manifest, index)
            && let Ok((before, index, _)) = store.open_before(manifest.manifest, check)
        {
            line.push((before, index));
        }
        let mut refused = None;
        let mut line = line.into_iter().rev();
        let (mut manifest, mut index) = line.next().expect("the newest is there");
        let is_measured = options.queries > 0 && has_passed(store, &manifest, &index);
        for (next, index_next) in line.filter(|_| !is_measured) {
            refused = continues(store, (&manifest, &index), (&next, &index_next), options).err();
            if refused.is_none() {
                (manifest, index) = (next, index_next);
            }
        }
        let is_open =
            manifest.manifest < newest_servable || skipped.iter().any(|error| may_end(error, may_grow));
        let judged = if is_open { manifest.manifest } else { last };
        let problem = skipped.first().or(refused.as_ref()).map(ToString::to_string);
        Ok(Self { manifest, index, judged, problem })
    }
}

/// Checks that one generation may follow another.
fn continues(
    store: &IndexStore,
    (before, index_before): (&Manifest, &Index),
    (next, index): (&Manifest, &Index),
    options: &GateOptions,
) -> Result<(), StoreError> {
    let of_before = curves(store, before.generation, index_before)?;
    let was_calibrated = Next::alone(index_before, of_before.as_ref()).is_calibrated();
    let served = Served::on_disk(before.generation, index_before, was_calibrated);
    let of_next = curves(store, next.generation, index)?;
    served.check(Next::alone(index, of_next.as_ref()), options)
}

/// Whether a generation may be servable at a later look.
fn may_end(error: &StoreError, may_grow: bool) -> bool {
    let may_end = |reason: &RefusalReason| reason.may_end() || may_grow && *reason == RefusalReason::Writes;
    error.is_transient()
        || matches!(error, StoreError::NotServable { reasons, .. } if reasons.iter().all(may_end))
}
