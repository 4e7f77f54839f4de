//! Whether a generation may answer: its position in the log, and what the quality gate finds of it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::dataset::{Embeddings, EmbeddingsView, Rows};
use crate::engine::error::EngineError;
use crate::engine::publish::gate::{self, GateQueries};
use crate::engine::publish::served::ServedIndex;
use crate::engine::rebuild::sampled::is_usable;
use crate::engine::write::log::Position;
use crate::index::{GateReport, Index, IndexStore, Manifest, PublishReason, StoreError, Verdict};
use crate::live::MutationLog;

/// Fewer users that asked say too little of a generation.
const LEAST_ASKED: usize = 100;

/// Whether a generation may answer. One that somebody activated may, whatever it lacks.
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

/// Whether the quality gate let a generation answer, if it ever measured it.
pub(crate) fn check_verdict(store: &IndexStore, generation: u64, index: &Index) -> Result<(), StoreError> {
    match store.open_gate_report(generation, index)?.0 {
        Some(report) if !report.problems.is_empty() => {
            let problem = format!("refused by the quality gate: {}", report.problems.join("; "));
            Err(StoreError::NotServable { path: index.path().to_owned(), problem })
        }
        _ => Ok(()),
    }
}

/// Whether somebody chose a generation, or the quality gate let it pass.
pub(crate) fn has_passed(store: &IndexStore, manifest: &Manifest, index: &Index) -> bool {
    let is_measured = || {
        let report = store.open_gate_report(manifest.generation, index);
        report.is_ok_and(|(report, _)| report.is_some_and(|report| report.problems.is_empty()))
    };
    manifest.reason == PublishReason::Activate || is_measured()
}

/// [`has_passed`], or what is missing.
pub(crate) fn check_passed(store: &IndexStore, manifest: &Manifest, index: &Index) -> Result<(), StoreError> {
    if has_passed(store, manifest, index) {
        return Ok(());
    }
    let problem = "the quality gate has not measured it yet".to_owned();
    Err(StoreError::NotServable { path: index.path().to_owned(), problem })
}

/// Whether users of one can be asked of the other.
pub(crate) fn is_same_model(one: &Index, other: &Index) -> bool {
    one.dim() == other.dim() && one.metadata().embedding_model == other.metadata().embedding_model
}

pub(crate) fn check_position(
    index: &Index,
    log: Option<&dyn MutationLog>,
    is_forced: bool,
) -> Result<(), StoreError> {
    match Position::of(index, log).problem(is_forced) {
        Some(problem) => Err(StoreError::NotServable { path: index.path().to_owned(), problem }),
        None => Ok(()),
    }
}

impl ServedIndex {
    /// Measures a generation that nobody chose nor measured, and keeps what is found beside it.
    ///
    /// # Errors
    /// If it cannot be measured, or that cannot be kept.
    pub(crate) fn ensure_measured(&self, manifest: &Manifest, index: &Index) -> Result<(), EngineError> {
        if manifest.reason == PublishReason::Activate {
            return Ok(());
        }
        let generation = manifest.generation;
        let report = match self.store.open_gate_report(generation, index)?.0 {
            Some(report) => report,
            None => match self.measure(index, &self.pool, &|| true)? {
                Some(verdict) => self.store.add_gate_report(generation, index, &verdict)?,
                None => return Ok(()),
            },
        };
        let GateReport { generation, found, problems, .. } = &report;
        tracing::info!(index = self.name, generation, ?found, ?problems, "quality gate");
        *self.gate_report.lock() = Some(report);
        Ok(())
    }

    /// Measures what may answer, beside what does, on `pool`; nothing if the gate is open, or once `keep_going` says no.
    ///
    /// # Errors
    /// If it cannot be measured.
    pub(crate) fn measure(
        &self,
        index: &Index,
        pool: &rayon::ThreadPool,
        keep_going: &(dyn Fn() -> bool + Sync),
    ) -> Result<Option<Verdict>, EngineError> {
        if self.gate_options.queries == 0 {
            return Ok(None);
        }
        let current = self.shared.current.load_full();
        let is_same_model = is_same_model(&current.index, index);
        let beside = is_same_model.then(|| (current.manifest.generation, &*current.index));
        let queries = self.gate_queries(index, is_same_model)?;
        let options = &self.gate_options;
        let measure = || pool.install(|| gate::measure(index, beside, &queries, options, keep_going));
        // A generation that nobody can search must not take the server's looks with it.
        let found = catch_unwind(AssertUnwindSafe(measure)).map_err(|_| StoreError::NotServable {
            path: index.path().to_owned(),
            problem: "it could not be measured: a search of it panicked".to_owned(),
        })?;
        let Some(found) = found else { return Ok(None) };
        let problems = gate::judge(&found, is_same_model, options);
        Ok(Some(Verdict { found, problems }))
    }

    /// Users to judge a generation by.
    fn gate_queries(&self, index: &Index, is_same_model: bool) -> Result<GateQueries, EngineError> {
        let dim = index.dim();
        if let Some(path) = self.gate_options.query_files.get(&self.name) {
            let queries = Embeddings::open(path).and_then(|file| file.check_finite().map(|()| file));
            let queries =
                queries.map_err(|error| EngineError::invalid("gate.query_files", error.to_string()))?;
            if queries.view().dim() != dim {
                let (path, found) = (path.display(), queries.view().dim());
                let problem = format!("{path}: expected {dim} dimensions as in the index, found {found}");
                return Err(EngineError::invalid("gate.query_files", problem));
            }
            return Ok(self.sampled(queries.view(), path.display().to_string()));
        }
        let asked = if is_same_model { self.asked.judges(dim) } else { Vec::new() };
        let is_enough = asked.len() / dim >= self.gate_options.queries.min(LEAST_ASKED);
        Ok(match index.held_out_queries() {
            _ if is_enough => {
                let asked = EmbeddingsView::F32(Rows::contiguous(&asked, dim));
                self.sampled(asked, "users that asked of late".to_owned())
            }
            Some(held_out) => self.sampled(held_out, "users that the build held out".to_owned()),
            None => GateQueries { vectors: Vec::new(), source: String::new() },
        })
    }

    /// As many as are to be asked for, evenly spaced.
    fn sampled(&self, queries: EmbeddingsView<'_>, source: String) -> GateQueries {
        let count = queries.len().min(self.gate_options.queries);
        let (mut vectors, mut query) = (Vec::new(), Vec::new());
        for position in 0..count {
            queries.copy_row(position * queries.len() / count, &mut query);
            if is_usable(&query) {
                vectors.extend_from_slice(&query);
            }
        }
        GateQueries { vectors, source }
    }
}
