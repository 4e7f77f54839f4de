//! Runs the quality gate of one index: once per generation, with its report kept next to the generation.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::attributes::Columns;
use crate::dataset::{Embeddings, EmbeddingsView, Rows};
use crate::engine::error::EngineError;
use crate::engine::field::Field;
use crate::engine::options::GateOptions;
use crate::engine::publish::continuity::{Next, Served, curves};
use crate::engine::publish::gate::{self, GateQueries};
use crate::engine::publish::servable::{check_report, is_same_model};
use crate::engine::query::snapshot::Snapshot;
use crate::engine::rebuild::sampled::{QuerySample, hash, is_usable};
use crate::engine::supervise::{Supervisor, Task};
use crate::index::{
    GateFindings, GateReport, Index, IndexStore, Manifest, PublishReason, Refusal, RefusalReason, StoreError,
    Verdict, check_vectors, verify,
};

/// Judge by sampled users only if there are at least this many: fewer tell too little about a generation.
const MIN_SAMPLED: usize = 100;

/// The quality gate of one index.
#[derive(Debug)]
pub(crate) struct QualityGate {
    /// Name of the index.
    name: String,
    options: GateOptions,
    supervisor: Arc<Supervisor>,
    last_report: Mutex<Option<GateReport>>,
}

/// What a generation is compared with.
pub(crate) struct Reference<'a> {
    /// The snapshot that answers.
    pub(crate) current: &'a Snapshot,
    /// Queries to the current generation.
    pub(crate) sample: &'a QuerySample,
}

/// How a measurement runs.
pub(crate) struct Run<'a> {
    /// The task that a panic counts for.
    pub(crate) task: Task,
    pub(crate) pool: &'a rayon::ThreadPool,
    /// Whether the measurement is still wanted.
    pub(crate) keep_going: &'a (dyn Fn() -> bool + Sync),
}

impl QualityGate {
    pub(crate) fn new(name: String, options: GateOptions, supervisor: Arc<Supervisor>) -> Self {
        Self { name, options, supervisor, last_report: Mutex::default() }
    }

    /// Returns whether generations are measured.
    fn is_enabled(&self) -> bool {
        self.options.queries > 0
    }

    /// Returns the last report since the start.
    pub(crate) fn last_report(&self) -> Option<GateReport> {
        self.last_report.lock().clone()
    }

    /// Checks that a generation may answer in place of the current one. It is measured on `pool` and the report stored,
    /// unless it has a report or was activated by hand. If the report cannot be stored, it counts until a restart.
    ///
    /// # Errors
    /// [`StoreError::NotServable`], or if a report or a calibration cannot be read.
    pub(crate) fn check(
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
        let curves = curves(store, generation, index)?;
        let next = Next::after(reference.current, index, curves.as_ref());
        let before = store.open_gate_report(generation, index)?.0;
        let report = match before {
            Some(report) if is_final(&report, next.is_calibrated()) => report,
            before => {
                let run = Run { task: Task::Refresh, pool, keep_going: &|| true };
                let Some(verdict) = self.measure(next, reference, &run) else { return Ok(()) };
                let report = GateReport::unstored(generation, index, &verdict);
                match before.filter(|before| before.problems == report.problems) {
                    Some(before) => before,
                    None => store.add_gate_report(generation, index, &verdict).unwrap_or_else(|error| {
                        tracing::warn!(index = self.name, generation, %error, "cannot store the report of the quality gate");
                        report
                    }),
                }
            }
        };
        self.log(&report);
        *self.last_report.lock() = Some(report.clone());
        Ok(check_report(report, index)?)
    }

    /// Checks that the quality gate did not refuse a generation, and that one without a report has in common with the
    /// current one what requests rely on.
    ///
    /// # Errors
    /// [`StoreError::NotServable`], or if a report or a calibration cannot be read.
    pub(crate) fn check_activation(
        &self,
        store: &IndexStore,
        generation: u64,
        index: &Index,
        current: &Snapshot,
    ) -> Result<(), StoreError> {
        match store.open_gate_report(generation, index)?.0 {
            Some(report) => check_report(report, index),
            None => {
                let curves = curves(store, generation, index)?;
                self.compare(Next::after(current, index, curves.as_ref()), current)
            }
        }
    }

    /// Checks that a generation has in common with the current one what requests rely on. Measures nothing.
    ///
    /// # Errors
    /// [`StoreError::NotServable`].
    pub(crate) fn compare(&self, next: Next<'_>, current: &Snapshot) -> Result<(), StoreError> {
        Served::of(current).check(next, &self.options)
    }

    /// Compares a generation with the reference, and measures both if the gate is enabled. Returns `None` if it is
    /// disabled and nothing speaks against the generation, or once the run is cancelled. A generation that cannot be
    /// measured is refused.
    pub(crate) fn measure(
        &self,
        next: Next<'_>,
        reference: &Reference<'_>,
        run: &Run<'_>,
    ) -> Option<Verdict> {
        let (current, index) = (reference.current, next.index);
        let mut refusals = Served::of(current).refusals(next, &self.options);
        let checked = self.check_contents(index, run);
        if !self.is_enabled() && checked.is_ok() && refusals.is_empty() {
            return None;
        }
        let is_same_model = is_same_model(&current.index, index);
        let (reason, found) = match checked {
            Ok(()) => (RefusalReason::Measurement, self.find(next, reference, run)),
            Err(problem) => (RefusalReason::Other, Err(problem)),
        };
        let found = match found {
            Ok(found) => found?,
            Err(problem) => {
                let source = format!("nothing measured: {problem}");
                refusals.push(Refusal { reason, problem });
                GateFindings { source, ..GateFindings::default() }
            }
        };
        refusals.extend(gate::judge(&found, is_same_model, &self.options));
        Some(Verdict { found, refusals })
    }

    /// Checks the contents of a generation: all of them if that is configured. Otherwise, only that embeddings are finite,
    /// if searches are measured: else the scores of exact answers are not numbers.
    ///
    /// # Errors
    /// What is wrong.
    fn check_contents(&self, index: &Index, run: &Run<'_>) -> Result<(), String> {
        let check = || match self.options.verify {
            true => verify(index).and_then(|_| Columns::open(index)?.verify()),
            false if self.is_enabled() => check_vectors(index),
            false => Ok(()),
        };
        let checked = self.supervisor.run(run.task, || run.pool.install(check));
        checked.map_err(|panic| panic.to_string())?.map_err(|error| error.to_string())
    }

    /// Measures a generation, and the current one if the two can be compared. Returns `None` once the run is cancelled.
    ///
    /// # Errors
    /// Why it cannot be measured.
    fn find(
        &self,
        next: Next<'_>,
        reference: &Reference<'_>,
        run: &Run<'_>,
    ) -> Result<Option<GateFindings>, String> {
        let (current, index) = (reference.current, next.index);
        let is_same_model = is_same_model(&current.index, index);
        let is_same_metric = current.index.metadata().metric == index.metadata().metric;
        let compared =
            (is_same_model && is_same_metric).then(|| (current.manifest.generation, &*current.index));
        let queries = self.queries(index, is_same_model.then_some(reference));
        let queries = queries.map_err(|error| error.to_string())?;
        let measure = || gate::measure(next, compared, &queries, &self.options, run.keep_going);
        // A generation that makes searches panic must not end the thread of a refresh or a rebuild.
        let found = self.supervisor.run(run.task, || run.pool.install(measure));
        found.map_err(|panic| format!("it could not be measured: {panic}"))
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
            problems = problems.len(),
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
        for (at, problem) in problems.iter().enumerate() {
            let reason = report.reasons.get(at).map(|reason| reason.name());
            tracing::warn!(
                index = self.name,
                generation,
                reason,
                problem,
                "the quality gate refuses the generation"
            );
        }
        if found.queries == 0 {
            let why = &found.source;
            tracing::warn!(index = self.name, generation, why, "the quality gate measured no recall");
        }
    }

    /// Picks the configured number of usable queries, evenly spaced.
    fn spaced(&self, queries: EmbeddingsView<'_>, source: String) -> GateQueries {
        let mut query = Vec::new();
        let mut row_is_usable = |row: &usize| {
            queries.copy_row(*row, &mut query);
            is_usable(&query)
        };
        let usable: Vec<usize> = (0..queries.len()).filter(&mut row_is_usable).collect();
        if usable.is_empty() {
            let all = queries.len();
            let source = format!("nothing measured: none of the {all} queries of {source} is usable");
            return GateQueries { vectors: Vec::new(), source };
        }
        let count = usable.len().min(self.options.queries);
        let mut vectors = Vec::new();
        for position in 0..count {
            queries.copy_row(usable[position * usable.len() / count], &mut query);
            vectors.extend_from_slice(&query);
        }
        GateQueries { vectors, source }
    }
}

/// Returns whether a report counts for good. A calibration that was missing may be there now, and a measurement that failed
/// is tried again.
fn is_final(report: &GateReport, is_calibrated: bool) -> bool {
    let is_over =
        |reason: &RefusalReason| reason.may_end() && (*reason != RefusalReason::Calibration || is_calibrated);
    report.reasons.is_empty() || !report.reasons.iter().all(is_over)
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
