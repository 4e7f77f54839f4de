//! Builds the next generation from the segments of the current one.

use std::sync::Arc;
use std::time::Instant;

use crate::build::{Ancestor, BuildParams, Builder, Progress, stage};
use crate::dataset::Embeddings;
use crate::engine::options::RebuildOptions;
use crate::engine::rebuild::error::RebuildError;
use crate::engine::rebuild::sampled::{QuerySample, is_usable};
use crate::index::{BuildTimes, Index, IndexStore, Measured, StagedIndex};
use crate::live::delta::state::RebuildInput;
use crate::live::{RowsError, gather};
use crate::node_set::NodeSet;
use crate::recall::calibrate_staged;

/// A graph that was built without training queries is not taught with fewer sampled users than this: it would not
/// improve.
const MIN_USERS: usize = 1_000;

/// The index that a rebuild is of.
pub(crate) struct Source<'a> {
    pub(crate) name: &'a str,
    pub(crate) store: &'a IndexStore,
    pub(crate) sample: &'a QuerySample,
    pub(crate) options: &'a RebuildOptions,
}

/// A finished build, with its measurements.
pub(crate) struct Built {
    pub(crate) staged: StagedIndex,
    pub(crate) times: BuildTimes,
    pub(crate) measured: Measured,
}

impl Source<'_> {
    /// Builds the next generation from `input` and calibrates it. Build times count from `started`.
    ///
    /// # Errors
    /// [`RebuildError`], also if the rebuild is cancelled.
    pub(crate) fn build(
        &self,
        input: RebuildInput,
        progress: &dyn Progress,
        started: Instant,
    ) -> Result<Built, RebuildError> {
        let threads = self.options.threads();
        let (base, _) = input.kept.first().ok_or(RowsError::NoVideos)?;
        let base = Arc::clone(base);
        let params = params(&base, &input)?.with_threads(threads);
        let training = self.training(&base)?;
        let kept: Vec<(&Index, &NodeSet)> = input.kept.iter().map(|(index, kept)| (&**index, kept)).collect();
        let dataset = gather(&kept, &base.metadata().attributes)?;
        // Those of a file that nobody verified may be anything.
        dataset.embeddings.check_finite().map_err(RebuildError::Embeddings)?;
        let of_base = kept[0].1;
        let ancestor = match training {
            // Training starts from an empty graph, and the held-out users must not have taught it.
            Some(_) => None,
            None => Ancestor::of_first(&base, of_base, dataset.ids.len()),
        };
        let (staged, times) =
            stage(&dataset, training.as_ref(), ancestor.as_ref(), &params, self.store, progress, started)?;
        drop((dataset, training, ancestor, kept));
        drop((base, input));
        let (curves, uncalibrated) = calibrate_staged(&staged, threads, progress)?;
        if let Some(problem) = uncalibrated {
            tracing::warn!(index = self.name, %problem, "a rebuilt generation is not calibrated");
        }
        Ok(Built { staged, times, measured: Measured { curves, verdict: None } })
    }

    /// Returns the users that teach the next generation: those of the configured file; without one, the training and
    /// held-out users of the current generation and the sampled ones. Returns `None` if they are too few to help.
    fn training(&self, base: &Index) -> Result<Option<Embeddings>, RebuildError> {
        if let Some(path) = self.options.training_queries.get(self.name) {
            return Ok(Some(Embeddings::open(path)?));
        }
        let (mut users, mut user) = (Vec::new(), Vec::new());
        for queries in [base.training_queries(), base.held_out_queries()].into_iter().flatten() {
            for row in 0..queries.len() {
                queries.copy_row(row, &mut user);
                users.extend_from_slice(&user);
            }
        }
        let dim = base.dim();
        users.extend(self.sample.training_users(dim));
        let users: Vec<f32> =
            users.chunks_exact(dim).filter(|user| is_usable(user)).flatten().copied().collect();
        if base.metadata().training.is_none() && users.len() < MIN_USERS * dim || users.is_empty() {
            return Ok(None);
        }
        let name = std::path::Path::new("sampled users");
        Ok(Some(Embeddings::in_memory(name, dim, users)))
    }
}

/// Returns the parameters that the current generation was built with, at the log position of `input`.
fn params(base: &Index, input: &RebuildInput) -> Result<BuildParams, RebuildError> {
    let facts = base.metadata();
    let builder = facts.build.builder.parse().unwrap_or(Builder::Native);
    let params = BuildParams::new(facts.metric, facts.m as usize, facts.build.ef_construction as usize)?
        .with_builder(builder)?
        // The codes that were asked for: the rows of now may be such that codes represent them.
        .with_codes(facts.code_check.map_or(facts.codes, |check| check.codes))?
        .with_rescoring(facts.build.rescoring)
        .with_seed(facts.build.seed)
        .with_embedding_model(facts.embedding_model.clone())
        .with_log_sequence(input.sequence)
        .with_held_after(input.held_after);
    Ok(params)
}
