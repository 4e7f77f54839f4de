//! Build parameters, and the two places a built index can go: memory, or a folder.

use std::fmt;
use std::path::PathBuf;
use std::time::Instant;

use super::index::Index;
use crate::base::metric::Metric;
use crate::build::{BuildError, BuildParams, ParamsError, Progress, Silent, build_taught_in_memory, stage};
use crate::dataset::{Dataset, Embeddings};
use crate::engine::Snapshot;
use crate::index::{IndexStore, Measured, RecallCurves};
use crate::recall::{CalibrateError, calibrate_built, calibrate_staged};

/// How to build an index. Made by [`Index::builder`].
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use shortlist::{Dataset, Index, Metric, SearchRequest};
///
/// // Three videos of two components; their ids are their row numbers.
/// let dataset = Dataset::from_rows(2, vec![1.0, 0.0, 0.0, 1.0, 0.7, 0.7])?;
/// let index = Index::builder(Metric::InnerProduct).build(&dataset)?;
/// let answer = index.search(&SearchRequest::vector([0.9, 0.1]).k(2))?;
/// assert_eq!(answer.candidates[0].video_id.0, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct IndexBuilder<'a> {
    metric: Metric,
    m: usize,
    ef_construction: usize,
    seed: u64,
    threads: usize,
    embedding_model: Option<String>,
    training_queries: Option<&'a Embeddings>,
    progress: &'a dyn Progress,
}

impl Index {
    /// Starts the description of a build under `metric` with the default parameters.
    pub fn builder(metric: Metric) -> IndexBuilder<'static> {
        IndexBuilder::new(metric)
    }
}

impl<'a> IndexBuilder<'a> {
    fn new(metric: Metric) -> Self {
        Self {
            metric,
            m: BuildParams::DEFAULT_M,
            ef_construction: BuildParams::DEFAULT_EF_CONSTRUCTION,
            seed: BuildParams::DEFAULT_SEED,
            threads: 0,
            embedding_model: None,
            training_queries: None,
            progress: &Silent,
        }
    }

    /// Neighbors chosen per node and layer, 2 to 1,024; layer 0 keeps up to twice as many. Default 16.
    pub fn m(self, m: usize) -> Self {
        Self { m, ..self }
    }

    /// Length of the candidate list of an insertion, 1 to 100,000. Default 200.
    pub fn ef_construction(self, ef_construction: usize) -> Self {
        Self { ef_construction, ..self }
    }

    /// Seed of the layer draw. Default 42.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Build threads; 0, the default, for one per core. One thread and the same seed give the same bytes.
    pub fn threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// The model that made the embeddings. A request that names another one is refused.
    pub fn embedding_model(self, model: impl Into<String>) -> Self {
        Self { embedding_model: Some(model.into()), ..self }
    }

    /// A sample of user embeddings, `[users × dim]`, that teaches the graph how users reach videos.
    ///
    /// Users are not distributed like videos; without a sample, recall for users is far lower at the same cost. One user
    /// in ten is held out to measure recall.
    pub fn training_queries<'b>(self, users: &'b Embeddings) -> IndexBuilder<'b>
    where
        'a: 'b,
    {
        IndexBuilder { training_queries: Some(users), ..self }
    }

    /// Reports the progress of the build to `progress`, which can cancel it: then [`BuildError::Cancelled`] is returned.
    pub fn progress<'b>(self, progress: &'b dyn Progress) -> IndexBuilder<'b>
    where
        'a: 'b,
    {
        IndexBuilder { progress, ..self }
    }

    /// Builds an index in memory, and calibrates it on the held-out users.
    ///
    /// # Errors
    /// [`BuildError`] for parameters out of range, training queries that do not fit, or a dataset that cannot be indexed.
    pub fn build(&self, dataset: &Dataset) -> Result<Index, BuildError> {
        self.check(dataset)?;
        let params = self.params()?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build()?;
        let (index, calibration) = pool.install(|| {
            let index = build_taught_in_memory(dataset, self.training_queries, &params, self.progress)?;
            let calibration = calibrate_built(&index, self.progress)?;
            Ok::<_, BuildError>((index, calibration))
        })?;
        Ok(Index::new(Snapshot::in_memory(index, measured(calibration))))
    }

    /// Builds an index, calibrates it on the held-out users, and publishes it as the next generation of the folder
    /// `dir`. A server of the folder swaps to it. Returns the index, opened from the folder.
    ///
    /// # Errors
    /// As [`Self::build`], or if the folder cannot be written; the folder then contains what it contained before.
    pub fn publish(&self, dataset: &Dataset, dir: impl Into<PathBuf>) -> Result<Index, BuildError> {
        self.check(dataset)?;
        let params = self.params()?;
        let store = IndexStore::new(dir);
        let started = Instant::now();
        let (staged, times) =
            stage(dataset, self.training_queries, None, &params, &store, self.progress, started)?;
        let curves = measured(calibrate_staged(&staged, self.threads, self.progress)?);
        store.publish(staged, times, Measured { curves, verdict: None })?;
        Ok(Index::open(store.dir())?)
    }

    /// The fields of a dataset are public, and one in memory was not checked against the metric when it was made.
    fn check(&self, dataset: &Dataset) -> Result<(), BuildError> {
        dataset.embeddings.check_finite()?;
        if self.metric == Metric::Cosine {
            dataset.embeddings.check_nonzero()?;
        }
        Ok(())
    }

    fn params(&self) -> Result<BuildParams, ParamsError> {
        Ok(BuildParams::new(self.metric, self.m, self.ef_construction)?
            .with_seed(self.seed)
            .with_threads(self.threads)
            .with_embedding_model(self.embedding_model.clone()))
    }
}

impl fmt::Debug for IndexBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexBuilder")
            .field("metric", &self.metric)
            .field("m", &self.m)
            .field("ef_construction", &self.ef_construction)
            .field("seed", &self.seed)
            .field("threads", &self.threads)
            .field("embedding_model", &self.embedding_model)
            .field("training_queries", &self.training_queries)
            .finish_non_exhaustive()
    }
}

/// The curves, if they could be measured. Logs why not.
fn measured((curves, problem): (Option<RecallCurves>, Option<CalibrateError>)) -> Option<RecallCurves> {
    if let Some(problem) = problem {
        tracing::warn!(%problem, "the index has no calibration");
    }
    curves
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::dataset::{AttributeColumn, ColumnValues};
    use crate::engine::{EngineError, SearchRequest};
    use crate::index::MemoryMode;

    const DIM: usize = 8;

    /// `[rows × DIM]` values between -1 and 1 from a seed.
    fn values(rows: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..rows * DIM).map(|_| next()).collect()
    }

    fn dataset(rows: usize) -> Dataset {
        Dataset::from_rows(DIM, values(rows, 1)).unwrap()
    }

    fn recall(index: &Index, users: &[f32], target: f32) -> f64 {
        let (mut found, k) = (0, 10);
        for user in users.chunks(DIM) {
            let request = SearchRequest::vector(user).k(k);
            let exact = index.search(&request.clone().exact()).unwrap().candidates;
            let answer = index.search(&request.target_recall(target)).unwrap().candidates;
            let least = exact[k - 1].score;
            found += answer.iter().filter(|candidate| candidate.score >= least).count();
        }
        found as f64 / (users.len() / DIM * k) as f64
    }

    #[test]
    fn an_index_in_memory_is_calibrated_on_the_held_out_users() {
        let users = Embeddings::in_memory(Path::new("users"), DIM, values(2000, 2));
        let index =
            Index::builder(Metric::InnerProduct).training_queries(&users).build(&dataset(6000)).unwrap();
        let curves = index.calibration().unwrap();
        assert_eq!(curves.queries, 200);
        let test = values(100, 3);
        for target in [0.8, 0.95] {
            assert!(recall(&index, &test, target) > f64::from(target) - 0.05, "{target}");
        }
        let request = SearchRequest::vector(&test[..DIM]).k(10).target_recall(0.9);
        assert!(index.search(&request).unwrap().stats.measured_recall.unwrap() >= 0.9);
    }

    #[test]
    fn a_target_recall_needs_users_or_an_index_that_is_scanned() {
        let query = values(1, 3);
        let request = SearchRequest::vector(query.as_slice()).k(5).target_recall(0.95);
        let untaught = Index::builder(Metric::InnerProduct).build(&dataset(6000)).unwrap();
        assert!(matches!(untaught.search(&request), Err(EngineError::NotCalibrated { .. })));
        let scanned = Index::builder(Metric::InnerProduct).build(&dataset(50)).unwrap();
        let answer = scanned.search(&request).unwrap();
        let exact = scanned.search(&request.exact()).unwrap();
        assert_eq!(answer.candidates.len(), 5);
        assert!(answer.candidates.iter().zip(&exact.candidates).all(|(a, b)| a.video_id == b.video_id));
    }

    #[test]
    fn a_published_index_answers_the_same_from_memory_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let index = Index::builder(Metric::L2).publish(&dataset(5000), folder.path()).unwrap();
        assert_eq!((index.memory(), index.generation()), (MemoryMode::Mapped, 1));
        let query = values(1, 3);
        let request = SearchRequest::vector(query.as_slice()).k(20);
        let answers = || {
            let candidates = index.search(&request).unwrap().candidates;
            candidates.iter().map(|candidate| (candidate.video_id, candidate.score)).collect::<Vec<_>>()
        };
        let mapped = answers();
        index.make_resident().unwrap();
        assert_eq!((index.memory(), answers()), (MemoryMode::Resident, mapped));
        let built = Index::builder(Metric::L2).build(&dataset(50)).unwrap();
        built.make_resident().unwrap();
        assert_eq!((built.memory(), built.generation()), (MemoryMode::Resident, 0));
    }

    #[test]
    fn videos_that_have_expired_are_no_candidates() {
        let now = jiff::Timestamp::now().as_microsecond();
        let soon = now + 200_000;
        let times = [Some(now), None, Some(i64::MAX / 64), Some(soon)];
        let times = ColumnValues::Timestamp(times.into_iter().collect());
        let column = AttributeColumn { name: "expires_at".to_owned(), values: times };
        let dataset = dataset(4).with_attribute(column).unwrap();
        let query = values(1, 3);
        let request = SearchRequest::vector(query.as_slice()).k(4);
        let folder = tempfile::tempdir().unwrap();
        let builder = Index::builder(Metric::L2);
        let indexes = [builder.build(&dataset).unwrap(), builder.publish(&dataset, folder.path()).unwrap()];
        for index in &indexes {
            let found = || {
                let candidates = index.search(&request).unwrap().candidates;
                let mut ids: Vec<u64> = candidates.iter().map(|candidate| candidate.video_id.0).collect();
                ids.sort_unstable();
                ids
            };
            while jiff::Timestamp::now().as_microsecond() < soon {
                assert!([vec![1, 2, 3], vec![1, 2]].contains(&found()));
            }
            assert_eq!(found(), [1, 2]);
            assert_eq!(index.len(), 4);
        }
    }

    #[test]
    fn a_threshold_is_a_finite_number() {
        let index = Index::builder(Metric::L2).build(&dataset(4)).unwrap();
        let query = values(1, 3);
        for threshold in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let request = SearchRequest::vector(query.as_slice()).score_threshold(threshold);
            let error = index.search(&request).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("score_threshold: expected a finite number, found {threshold}")
            );
        }
    }

    /// Cancels after this many questions.
    struct CancelAfter(AtomicU64);

    impl Progress for CancelAfter {
        fn begin(&self, _: &'static str, _: u64) {}
        fn advance(&self, _: u64) {}
        fn is_cancelled(&self) -> bool {
            let left = self.0.load(Ordering::Relaxed);
            self.0.store(left.saturating_sub(1), Ordering::Relaxed);
            left == 0
        }
    }

    #[test]
    fn a_cancelled_build_leaves_nothing() {
        let users = Embeddings::in_memory(Path::new("users"), DIM, values(1000, 2));
        let dataset = dataset(5000);
        for questions in [0, 20, 200] {
            let progress = CancelAfter(questions.into());
            let builder =
                Index::builder(Metric::InnerProduct).training_queries(&users).threads(1).progress(&progress);
            assert!(matches!(builder.build(&dataset), Err(BuildError::Cancelled)), "{questions}");
            let folder = tempfile::tempdir().unwrap();
            progress.0.store(questions, Ordering::Relaxed);
            assert!(matches!(builder.publish(&dataset, folder.path()), Err(BuildError::Cancelled)));
            assert!(Index::open(folder.path()).is_err());
        }
    }
}
