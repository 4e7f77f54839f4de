//! Whether a generation may answer: its position in the log, and the verdict of the quality gate.

use crate::engine::write::position::Position;
use crate::index::{GateReport, Index, IndexStore, Manifest, PublishReason, RefusalReason, StoreError};
use crate::live::MutationLog;

/// Checks that a generation may answer. A generation that was activated by hand may answer although it lost writes or
/// was refused by the gate.
///
/// # Errors
/// [`StoreError::NotServable`], or if its gate report cannot be read.
pub(crate) fn check_servable(
    store: &IndexStore,
    manifest: &Manifest,
    index: &Index,
    log: Option<&dyn MutationLog>,
) -> Result<(), StoreError> {
    let is_forced = manifest.reason == PublishReason::Activate;
    check_position(index, log, is_forced)?;
    if is_forced { Ok(()) } else { check_verdict(store, manifest.generation, index) }
}

/// Checks that the quality gate did not refuse a generation. A generation that was never measured passes.
///
/// # Errors
/// [`StoreError::NotServable`], or if the gate report cannot be read.
pub(crate) fn check_verdict(store: &IndexStore, generation: u64, index: &Index) -> Result<(), StoreError> {
    store.open_gate_report(generation, index)?.0.map_or(Ok(()), |report| check_report(report, index))
}

/// Checks that a report of the quality gate does not refuse its generation.
///
/// # Errors
/// [`StoreError::NotServable`].
pub(crate) fn check_report(report: GateReport, index: &Index) -> Result<(), StoreError> {
    if report.problems.is_empty() {
        return Ok(());
    }
    let problem = format!("refused by the quality gate: {}", report.problems.join("; "));
    let reasons = match report.reasons.is_empty() {
        true => vec![RefusalReason::Other],
        false => report.reasons,
    };
    Err(StoreError::NotServable { path: index.path().to_owned(), problem, reasons })
}

/// Returns whether a generation was activated by hand or passed the quality gate.
pub(crate) fn has_passed(store: &IndexStore, manifest: &Manifest, index: &Index) -> bool {
    let has_good_report = || {
        let report = store.open_gate_report(manifest.generation, index);
        report.is_ok_and(|(report, _)| report.is_some_and(|report| report.problems.is_empty()))
    };
    manifest.reason == PublishReason::Activate || has_good_report()
}

/// Returns whether two generations can be searched with the same query vectors.
pub(crate) fn is_same_model(one: &Index, other: &Index) -> bool {
    one.dim() == other.dim() && one.metadata().embedding_model == other.metadata().embedding_model
}

/// Checks that the log of an index continues where a generation ends. `is_forced` accepts lost writes.
///
/// # Errors
/// [`StoreError::NotServable`].
pub(crate) fn check_position(
    index: &Index,
    log: Option<&dyn MutationLog>,
    is_forced: bool,
) -> Result<(), StoreError> {
    match Position::of(index, log).problem(is_forced) {
        Some(problem) => {
            let reasons = vec![RefusalReason::Writes];
            Err(StoreError::NotServable { path: index.path().to_owned(), problem, reasons })
        }
        None => Ok(()),
    }
}
