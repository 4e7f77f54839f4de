//! Runs the quality gate of one index: once per generation, with its report kept next to the generation.

use std::panic::{AssertUnwindSafe, catch_unwind};

use parking_lot::Mutex;

use crate::dataset::{Embeddings, EmbeddingsView, Rows};
use crate::engine::error::EngineError;
use crate::engine::field::Field;
use crate::engine::options::GateOptions;
use crate::engine::publish::gate::{self, GateQueries};
use crate::engine::publish::servable::is_same_model;
use crate::engine::query::snapshot::Snapshot;
use crate::engine::rebuild::sampled::{QuerySample, is_usable};
use crate::index::{GateReport, Index, IndexStore, Manifest, PublishReason, StoreError, Verdict};

/// Judge by sampled users only if there are at least this many: fewer tell too little about a generation.
const MIN_SAMPLED: usize = 100;

/// The quality gate of one index.
#[derive(Debug)]
pub(crate) struct QualityGate {
    /// Name of the index.
    name: String,
    options: GateOptions,
    last_report: Mutex<Option<GateReport>>,
}

/// What a generation is compared with.
pub(crate) struct Reference<'a> {
    /// The snapshot that answers.
    pub(crate) current: &'a Snapshot,
    /// Queries to the current generation.
    pub(crate) sample: &'a QuerySample,
}

impl QualityGate {
    pub(crate) fn new(name: String, options: GateOptions) -> Self {
        Self { name, options, last_report: Mutex::default() }
    }

    /// Returns whether generations are measured.
    pub(crate) fn is_enabled(&self) -> bool {
        self.options.queries > 0
    }

    /// Returns the last report since the start.
    pub(crate) fn last_report(&self) -> Option<GateReport> {
        self.last_report.lock().clone()
    }

    /// Measures a generation that has no report yet on `pool` and stores the report. A generation that was activated by
    /// hand is not measured.
    ///
    /// # Errors
    /// If it cannot be measured, or the report cannot be read or written.
    pub(crate) fn ensure_measured(
        &self,
        store: &IndexStore,
        manifest: &Manifest,
        index: &Index,
        reference: &Reference<'_>,
        pool: &rayon::ThreadPool,
    ) -> Result<(), EngineError> {
        if manifest.reason == PublishReason::Activate {
            return Ok(());
        }
        let generation = manifest.generation;
        let report = match store.open_gate_report(generation, index)?.0 {
            Some(report) => report,
            None => match self.measure(index, reference, pool, &|| true)? {
                Some(verdict) => store.add_gate_report(generation, index, &verdict)?,
                None => return Ok(()),
            },
        };
        let GateReport { generation, found, problems, .. } = &report;
        tracing::info!(index = self.name, generation, ?found, ?problems, "quality gate");
        *self.last_report.lock() = Some(report);
        Ok(())
    }

    /// Measures `index` and the reference on `pool`. Returns `None` if the gate is disabled, or once `keep_going`
    /// returns false.
    ///
    /// # Errors
    /// If it cannot be measured.
    pub(crate) fn measure(
        &self,
        index: &Index,
        reference: &Reference<'_>,
        pool: &rayon::ThreadPool,
        keep_going: &(dyn Fn() -> bool + Sync),
    ) -> Result<Option<Verdict>, EngineError> {
        if !self.is_enabled() {
            return Ok(None);
        }
        let current = reference.current;
        let is_same_model = is_same_model(&current.index, index);
        let compared = is_same_model.then(|| (current.manifest.generation, &*current.index));
        let queries = self.queries(index, is_same_model.then_some(reference.sample))?;
        let measure = || pool.install(|| gate::measure(index, compared, &queries, &self.options, keep_going));
        // A generation that makes searches panic must not end the refresh thread of the server.
        let found = catch_unwind(AssertUnwindSafe(measure)).map_err(|_| StoreError::NotServable {
            path: index.path().to_owned(),
            problem: "it could not be measured: a search of it panicked".to_owned(),
        })?;
        let Some(found) = found else { return Ok(None) };
        let problems = gate::judge(&found, is_same_model, &self.options);
        Ok(Some(Verdict { found, problems }))
    }

    /// Returns the users that judge a generation: those of the configured file, else sampled ones if there are enough,
    /// else those that its build held out.
    fn queries(&self, index: &Index, sample: Option<&QuerySample>) -> Result<GateQueries, EngineError> {
        let dim = index.dim();
        if let Some(path) = self.options.query_files.get(&self.name) {
            let queries = Embeddings::open(path).and_then(|file| file.check_finite().map(|()| file));
            let queries =
                queries.map_err(|error| EngineError::invalid(Field::GateQueryFiles, error.to_string()))?;
            if queries.view().dim() != dim {
                let (path, found) = (path.display(), queries.view().dim());
                let problem = format!("{path}: expected {dim} dimensions as in the index, found {found}");
                return Err(EngineError::invalid(Field::GateQueryFiles, problem));
            }
            return Ok(self.spaced(queries.view(), path.display().to_string()));
        }
        let sampled = sample.map(|sample| sample.judging_users(dim)).unwrap_or_default();
        let is_enough = sampled.len() / dim >= self.options.queries.min(MIN_SAMPLED);
        Ok(match index.held_out_queries() {
            _ if is_enough => {
                let sampled = EmbeddingsView::F32(Rows::contiguous(&sampled, dim));
                self.spaced(sampled, "sampled users".to_owned())
            }
            Some(held_out) => self.spaced(held_out, "users that the build held out".to_owned()),
            None => GateQueries { vectors: Vec::new(), source: String::new() },
        })
    }

    /// Picks the configured number of queries, evenly spaced.
    fn spaced(&self, queries: EmbeddingsView<'_>, source: String) -> GateQueries {
        let count = queries.len().min(self.options.queries);
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
