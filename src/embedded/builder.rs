//! Build parameters, and the two places a built index can go: memory, or a folder.

use std::path::PathBuf;
use std::time::Instant;

use super::index::Index;
use crate::base::metric::Metric;
use crate::build::{BuildError, BuildParams, ParamsError, Silent, build_taught_in_memory, stage};
use crate::dataset::{Dataset, Embeddings};
use crate::engine::Snapshot;
use crate::index::{IndexStore, Measured};
use crate::recall::calibrate_staged;

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
#[derive(Clone, Debug)]
pub struct IndexBuilder<'a> {
    metric: Metric,
    m: usize,
    ef_construction: usize,
    seed: u64,
    threads: usize,
    embedding_model: Option<String>,
    training_queries: Option<&'a Embeddings>,
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

    /// Builds an index in memory.
    ///
    /// # Errors
    /// [`BuildError`] for parameters out of range, training queries that do not fit, or a dataset that cannot be indexed.
    pub fn build(&self, dataset: &Dataset) -> Result<Index, BuildError> {
        self.check(dataset)?;
        let params = self.params()?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build()?;
        let index =
            pool.install(|| build_taught_in_memory(dataset, self.training_queries, &params, &Silent))?;
        Ok(Index::new(Snapshot::in_memory(index)))
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
        let (staged, times) =
            stage(dataset, self.training_queries, None, &params, &store, &Silent, Instant::now())?;
        let (curves, uncalibrated) = calibrate_staged(&staged, self.threads, &Silent)?;
        if let Some(problem) = uncalibrated {
            tracing::warn!(%problem, "the generation is published without a calibration");
        }
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
