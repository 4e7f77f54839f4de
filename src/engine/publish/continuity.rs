//! What a generation must have in common with the one that serves, whatever the recall: requests rely on it.
//!
//! A batch job that lost its input, its attributes or its users publishes a sound generation that finds its own videos
//! well. So the two are compared: dimension, metric, embedding model, attributes, calibration and number of videos.

use crate::engine::options::GateOptions;
use crate::engine::publish::servable::check_servable;
use crate::engine::query::snapshot::Snapshot;
use crate::engine::query::usage::Usage;
use crate::index::{
    AttributeKind, AttributeSchema, Index, IndexStore, Manifest, RecallCurves, Refusal, RefusalReason,
    StoreError,
};
use crate::live::delta::segments::IndexSegment;

/// The generation that serves, and what is used of it.
pub(crate) struct Served<'a> {
    pub(crate) generation: u64,
    pub(crate) index: &'a Index,
    /// Videos that searches can return.
    pub(crate) videos: usize,
    pub(crate) is_calibrated: bool,
    /// `None` if no request is known.
    pub(crate) usage: Option<&'a Usage>,
}

/// The generation that is to follow.
#[derive(Clone, Copy)]
pub(crate) struct Next<'a> {
    pub(crate) index: &'a Index,
    pub(crate) curves: Option<&'a RecallCurves>,
    /// Videos that searches can return then.
    videos: usize,
}

impl<'a> Next<'a> {
    /// A generation without writes.
    pub(crate) fn alone(index: &'a Index, curves: Option<&'a RecallCurves>) -> Self {
        Self { index, curves, videos: index.len() }
    }

    /// A generation in place of that of `current`, whose writes are then served with it if it does not contain them.
    pub(crate) fn after(current: &Snapshot, index: &'a Index, curves: Option<&'a RecallCurves>) -> Self {
        let contains_writes = index.metadata().log_sequence > current.index.metadata().log_sequence;
        let written = if contains_writes {
            0
        } else {
            current.segments.iter().skip(1).map(IndexSegment::live_count).sum()
        };
        Self { index, curves, videos: index.len() + written }
    }

    /// A generation with the writes of its log.
    pub(crate) fn opened(snapshot: &'a Snapshot) -> Self {
        Self { index: &snapshot.index, curves: snapshot.calibrated.curves(), videos: live(snapshot) }
    }

    /// Whether requests may have a target recall.
    pub(crate) fn is_calibrated(&self) -> bool {
        self.curves.is_some_and(|curves| curves.source.allows_targets())
    }
}

/// Videos that searches can return.
fn live(snapshot: &Snapshot) -> usize {
    snapshot.segments.iter().map(IndexSegment::live_count).sum()
}

impl<'a> Served<'a> {
    pub(crate) fn of(snapshot: &'a Snapshot) -> Self {
        Self {
            generation: snapshot.manifest.generation,
            index: &snapshot.index,
            videos: live(snapshot),
            is_calibrated: snapshot.calibrated.targets().is_some(),
            usage: Some(&snapshot.usage),
        }
    }

    /// A generation of which only the files are known.
    pub(crate) fn on_disk(generation: u64, index: &'a Index, is_calibrated: bool) -> Self {
        Self { generation, index, videos: index.len(), is_calibrated, usage: None }
    }

    /// Checks that nothing speaks against serving `next` in place of this generation.
    ///
    /// # Errors
    /// [`StoreError::NotServable`].
    pub(crate) fn check(&self, next: Next<'_>, options: &GateOptions) -> Result<(), StoreError> {
        let refusals = self.refusals(next, options);
        if refusals.is_empty() {
            return Ok(());
        }
        let reasons = refusals.iter().map(|refusal| refusal.reason).collect();
        let problems: Vec<String> = refusals.into_iter().map(|refusal| refusal.problem).collect();
        let (path, problem) = (next.index.path().to_owned(), problems.join("; "));
        Err(StoreError::NotServable { path, problem, reasons })
    }

    /// Returns what speaks against serving `next` in place of this generation.
    pub(crate) fn refusals(&self, next: Next<'_>, options: &GateOptions) -> Vec<Refusal> {
        let checks = [
            self.dimension(next.index),
            self.metric(next.index),
            self.embedding_model(next.index),
            self.attributes(next.index),
            self.calibration(next),
            self.videos(next, options.min_videos_share),
        ];
        checks.into_iter().flatten().collect()
    }

    fn dimension(&self, next: &Index) -> Option<Refusal> {
        let (expected, found) = (self.index.dim(), next.dim());
        let problem =
            || format!("expected {expected} dimensions as in generation {}, found {found}", self.generation);
        refusal(expected != found, RefusalReason::Dimension, problem)
    }

    fn metric(&self, next: &Index) -> Option<Refusal> {
        let (expected, found) = (self.index.metadata().metric, next.metadata().metric);
        let problem =
            || format!("expected the metric {expected} as in generation {}, found {found}", self.generation);
        refusal(expected != found, RefusalReason::Metric, problem)
    }

    /// Another named model is a rollout, unless requests name the model of this generation: all of those would fail.
    fn embedding_model(&self, next: &Index) -> Option<Refusal> {
        let expected = self.index.metadata().embedding_model.as_ref()?;
        let found = next.metadata().embedding_model.as_ref();
        let is_named = self.usage.is_some_and(Usage::names_model);
        let problem = || {
            let found = found.map_or("none".to_owned(), |name| format!("{name:?}"));
            let named = if is_named { ", which requests name" } else { "" };
            format!(
                "expected the embedding model {expected:?} as in generation {}{named}, found {found}",
                self.generation
            )
        };
        let is_lost = found.is_none() || is_named && found != Some(expected);
        refusal(is_lost, RefusalReason::EmbeddingModel, problem)
    }

    fn attributes(&self, next: &Index) -> Option<Refusal> {
        let (before, after) = (&self.index.metadata().attributes, &next.metadata().attributes);
        if after.is_empty() && !before.is_empty() {
            let (count, generation) = (before.len(), self.generation);
            let problem = || {
                format!("expected attributes as in generation {generation}, which has {count}, found none")
            };
            return refusal(true, RefusalReason::Attributes, problem);
        }
        let kind = |schema: &[AttributeSchema], name: &str| {
            schema.iter().find(|column| column.name == name).map(|column| column.kind)
        };
        let lost = |name: &str| {
            let (expected, found) = (kind(before, name)?, kind(after, name));
            let word = found.map_or("none", AttributeKind::name);
            (found != Some(expected)).then(|| format!("{name:?} of type {}, found {word}", expected.name()))
        };
        let lost: Vec<String> =
            self.usage.into_iter().flat_map(Usage::used_attributes).filter_map(lost).collect();
        let problem = || format!("expected attributes that requests use: {}", lost.join(", "));
        refusal(!lost.is_empty(), RefusalReason::Attributes, problem)
    }

    /// A generation that was calibrated by hand, on other users than those of its build, cannot pass its calibration on.
    fn calibration(&self, next: Next<'_>) -> Option<Refusal> {
        let is_used = self.usage.is_some_and(Usage::has_target_recall);
        let is_lost = self.is_calibrated && !next.is_calibrated();
        let problem = || {
            let used = if is_used { ", which requests with a target recall use" } else { "" };
            format!(
                "expected a calibration as in generation {}{used}, found none; a build with training queries has one",
                self.generation
            )
        };
        refusal(
            is_lost && (is_used || self.index.held_out_queries().is_some()),
            RefusalReason::Calibration,
            problem,
        )
    }

    fn videos(&self, next: Next<'_>, share: f64) -> Option<Refusal> {
        let (before, found) = (self.videos, next.videos);
        let problem = || format!("expected at least {share} of {before} videos, found {found}");
        refusal((found as f64) < share * before as f64, RefusalReason::Videos, problem)
    }
}

/// The generation of a folder that a server serves, as far as the files tell.
#[derive(Debug)]
pub struct Predecessor {
    generation: u64,
    index: Index,
    is_calibrated: bool,
}

impl Predecessor {
    /// Opens the newest generation that may be served; `None` without one.
    pub fn open(store: &IndexStore) -> Option<Self> {
        let check = |manifest: &Manifest, index: &Index| check_servable(store, manifest, index, None);
        let (Manifest { generation, .. }, index, _) = store.open_newest(check).ok()?;
        let curves = curves(store, generation, &index).ok()?;
        let is_calibrated = Next::alone(&index, curves.as_ref()).is_calibrated();
        Some(Self { generation, index, is_calibrated })
    }

    /// Returns what makes a server refuse `generation`, as far as it does not depend on requests, writes or settings.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn refusals(&self, store: &IndexStore, generation: u64) -> Result<Vec<Refusal>, StoreError> {
        let index = store.open_generation(generation)?;
        let curves = curves(store, generation, &index)?;
        let served = Served::on_disk(self.generation, &self.index, self.is_calibrated);
        Ok(served.refusals(Next::alone(&index, curves.as_ref()), &GateOptions::default()))
    }

    /// The number of the generation.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

/// Returns the newest readable calibration of a published generation.
pub(crate) fn curves(
    store: &IndexStore,
    generation: u64,
    index: &Index,
) -> Result<Option<RecallCurves>, StoreError> {
    Ok(store.open_calibration(generation, index)?.0.map(|calibration| calibration.recall))
}

fn refusal(is_refused: bool, reason: RefusalReason, problem: impl FnOnce() -> String) -> Option<Refusal> {
    is_refused.then(|| Refusal { reason, problem: problem() })
}
