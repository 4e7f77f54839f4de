//! Runs the quality gate of one index: once per generation, with its report kept next to the generation.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use parking_lot::Mutex;

use crate::dataset::{Embeddings, EmbeddingsView, Rows};
use crate::engine::error::EngineError;
use crate::engine::field::Field;
use crate::engine::options::GateOptions;
use crate::engine::publish::continuity::{Next, Served, is_calibrated};
use crate::engine::publish::gate::{self, GateQueries};
use crate::engine::publish::servable::is_same_model;
use crate::engine::query::snapshot::Snapshot;
use crate::engine::rebuild::sampled::{QuerySample, hash, is_usable};
use crate::index::{
    GateReport, Index, IndexStore, Manifest, PublishReason, RefusalReason, StoreError, Verdict,
};

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
            None => {
                let is_calibrated = is_calibrated(store, generation, index)?;
                let next = Next { index, is_calibrated };
                match self.measure(next, reference, pool, &|| true)? {
                    Some(verdict) => store.add_gate_report(generation, index, &verdict)?,
                    None => return Ok(()),
                }
            }
        };
        self.log(&report);
        *self.last_report.lock() = Some(report);
        Ok(())
    }

    /// Compares a generation with the reference, and measures both on `pool` if the gate is enabled. Returns `None` if
    /// it is disabled and nothing speaks against the generation, or once `keep_going` returns false.
    ///
    /// # Errors
    /// If it cannot be measured.
    pub(crate) fn measure(
        &self,
        next: Next<'_>,
        reference: &Reference<'_>,
        pool: &rayon::ThreadPool,
        keep_going: &(dyn Fn() -> bool + Sync),
    ) -> Result<Option<Verdict>, EngineError> {
        let (current, index) = (reference.current, next.index);
        let mut refusals = Served::of(current).refusals(next, &self.options);
        if !self.is_enabled() && refusals.is_empty() {
            return Ok(None);
        }
        let is_same_model = is_same_model(&current.index, index);
        let is_same_metric = current.index.metadata().metric == index.metadata().metric;
        let compared =
            (is_same_model && is_same_metric).then(|| (current.manifest.generation, &*current.index));
        let queries = self.queries(index, is_same_model.then_some(reference))?;
        let measure = || pool.install(|| gate::measure(index, compared, &queries, &self.options, keep_going));
        // A generation that makes searches panic must not end the refresh thread of the server.
        let found = catch_unwind(AssertUnwindSafe(measure)).map_err(|_| StoreError::NotServable {
            path: index.path().to_owned(),
            problem: "it could not be measured: a search of it panicked".to_owned(),
            reasons: vec![RefusalReason::Measurement],
        })?;
        let Some(found) = found else { return Ok(None) };
        refusals.extend(gate::judge(&found, is_same_model, &self.options));
        Ok(Some(Verdict { found, refusals }))
    }

    /// Returns the users that judge a generation: those of the configured file, else sampled ones if there are enough,
    /// else those that its build and the build of the current generation held out. `reference` is `None` if users of the
    /// current generation cannot ask this one.
    fn queries(&self, index: &Index, reference: Option<&Reference<'_>>) -> Result<GateQueries, EngineError> {
        let dim = index.dim();
        let none =
            |why: &str| GateQueries { vectors: Vec::new(), source: format!("nothing measured: {why}") };
        if !self.is_enabled() {
            return Ok(none("gate.queries is 0"));
        }
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
        let sampled = reference.map(|reference| reference.sample.judging_users(dim)).unwrap_or_default();
        if sampled.len() / dim >= self.options.queries.min(MIN_SAMPLED) {
            let sampled = EmbeddingsView::F32(Rows::contiguous(&sampled, dim));
            return Ok(self.spaced(sampled, "sampled users".to_owned()));
        }
        let own = index.held_out_queries();
        let current = reference.and_then(|reference| reference.current.index.held_out_queries());
        let source = match (own.is_some(), current.is_some()) {
            (true, true) => "users that the build and that of the current generation held out",
            (true, false) => "users that the build held out",
            (false, true) => "users that the build of the current generation held out",
            (false, false) => return Ok(none("there are no users to ask")),
        };
        let users = distinct(own.into_iter().chain(current));
        Ok(self.spaced(EmbeddingsView::F32(Rows::contiguous(&users, dim)), source.to_owned()))
    }

    /// Logs the result, and a warning if nothing was measured.
    fn log(&self, report: &GateReport) {
        let GateReport { generation, found, problems, .. } = report;
        let share = |ppm: u32| f64::from(ppm) / 1e6;
        let micros = |ns: u64| Duration::from_nanos(ns).as_micros() as u64;
        tracing::info!(
            index = self.name,
            generation,
            passed = problems.is_empty(),
            problems = problems.join("; "),
            current = found.current,
            unreachable = found.unreachable,
            queries = found.queries,
            source = found.source,
            k = found.k,
            ef_search = found.ef_search,
            recall = share(found.recall_ppm),
            current_recall = found.current_recall_ppm.map(share),
            overlap = found.overlap_ppm.map(share),
            p99_us = micros(found.p99_ns),
            current_p99_us = found.current_p99_ns.map(micros),
            "quality gate"
        );
        if found.queries == 0 {
            let why = &found.source;
            tracing::warn!(index = self.name, generation, why, "the quality gate measured no recall");
        }
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

/// Returns all users once, `[n × dim]`.
fn distinct<'a>(users: impl Iterator<Item = EmbeddingsView<'a>>) -> Vec<f32> {
    let (mut distinct, mut user, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for users in users {
        for row in 0..users.len() {
            users.copy_row(row, &mut user);
            if seen.insert(hash(&user)) {
                distinct.extend_from_slice(&user);
            }
        }
    }
    distinct
}
