//! From a catalogue to a published generation.
//!
//! What flows in: embeddings, ids, attributes and parameters. What flows out: a frozen index in its
//! folder. Nothing here knows of search requests.
//!
//! ```text
//! Catalogue ─► rows (contiguous, normalised under cosine) ─► builder ─► Graph ─► repair ─► IndexWriter ─► publish
//!                                                     native │ hnsw_rs   ▲
//! training users ─► their answers, from a partition of the rows ─► edges ┘
//! ```
//!
//! | file | duty |
//! |---|---|
//! | `params.rs`   | what can be asked of a build |
//! | `native.rs`   | our own HNSW, inserted in parallel |
//! | `select.rs`   | which neighbours a node keeps |
//! | `hnsw_rs.rs`  | the graph of the hnsw_rs crate |
//! | `partition.rs`| rows in groups, and the answers of many users from them |
//! | `teach.rs`    | edges that training users need; recall on those held out |
//! | `repair.rs`   | every node reachable |
//! | `freeze.rs`   | the sections of the generation file |
//! | `progress.rs` | how far a build is, and whether to go on |
//! | `phases.rs`   | how long each phase of it takes |

mod freeze;
mod hnsw_rs;
mod native;
mod params;
mod partition;
mod phases;
mod progress;
mod repair;
mod select;
mod teach;

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Instant;

use rayon::prelude::*;

use crate::attributes::AttributeError;
use crate::dataset::{Catalogue, DatasetError, Embeddings, EmbeddingsView, Rows};
use crate::element::Element;
use crate::graph::Graph;
use crate::index::{
    BuildFacts, Codes, IndexError, IndexStore, Manifest, Metadata, RepairReport, StoreError, TrainingReport,
};
use crate::kernel::Kernels;
use crate::metric::Metric;
use crate::quantize::Sq8;
use crate::with_rows;

use phases::PhaseClock;
use teach::Lesson;

pub use params::{BuildParams, Builder, ParamsError};
pub use progress::{Progress, Silent};

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A parameter is out of its range.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// The training queries are of another dimension.
    #[error("{}: expected {expected} dimensions as in the catalogue, found {found}", path.display())]
    TrainingDimension {
        /// The file.
        path: PathBuf,
        /// Of the catalogue.
        expected: usize,
        /// Of the training queries.
        found: usize,
    },
    /// The training queries cannot be used.
    #[error(transparent)]
    Training(#[from] DatasetError),
    /// An attribute column cannot be kept.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    /// The generation could not be written.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The generation could not be published.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The compute threads could not be started.
    #[error("cannot start the build threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// Somebody asked to stop; nothing was published.
    #[error("the build was cancelled; nothing was published")]
    Cancelled,
}

/// Builds an index over `catalogue` and makes it the current generation of `store`.
///
/// The graph learns from `training_queries`, a sample of user embeddings `[users × dim]`, if there is one.
///
/// `started` is when the work on the input began: the manifest records the time since then, and of each
/// phase.
///
/// # Errors
/// [`BuildError`]; the folder then holds what it held before.
pub fn build(
    catalogue: &Catalogue,
    training_queries: Option<&Embeddings>,
    params: &BuildParams,
    store: &IndexStore,
    progress: &dyn Progress,
    started: Instant,
) -> Result<Manifest, BuildError> {
    if let Some(training_queries) = training_queries {
        let (expected, found) = (catalogue.embeddings.view().dim(), training_queries.view().dim());
        if expected != found {
            let path = training_queries.path().to_owned();
            return Err(BuildError::TrainingDimension { path, expected, found });
        }
        training_queries.check_finite()?;
    }
    let columns =
        catalogue.attributes.iter().map(crate::attributes::freeze).collect::<Result<Vec<_>, _>>()?;
    store.create()?;
    let clock = PhaseClock::new(progress, started);
    let progress: &dyn Progress = &clock;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(params.threads)
        .thread_name(|thread| format!("build-{thread}"))
        .build()?;
    let staged = pool.install(|| {
        with_rows!(catalogue.embeddings.view(), rows => {
            let vectors = prepare(rows, params.metric);
            let training_queries = training_queries.map(Embeddings::view);
            let built = build_graph(&vectors, rows.dim(), training_queries, params, progress)?;
            let BuiltGraph { graph, repair, training, codes } = built;
            let metadata = Metadata {
                rows: rows.len() as u32,
                dim: rows.dim() as u32,
                dtype: catalogue.embeddings.view().dtype(),
                metric: params.metric,
                codes: params.codes,
                m: graph.m as u32,
                m0: graph.m0 as u32,
                entry_point: graph.entry_point.0,
                upper_layers: graph.upper.iter().map(|layer| layer.nodes.len() as u32).collect(),
                attributes: columns.iter().map(|column| column.schema.clone()).collect(),
                embedding_model: params.embedding_model.clone(),
                build: BuildFacts {
                    builder: params.builder.name().to_owned(),
                    ef_construction: params.ef_construction as u32,
                    seed: params.seed,
                },
                repair,
                training,
            };
            let parts = freeze::Parts { metadata: &metadata, vectors: &vectors, ids: &catalogue.ids, graph: &graph, codes: codes.as_ref() };
            freeze::freeze(store.dir(), &parts, columns, progress)
        })
    })?;
    if progress.is_cancelled() {
        return Err(BuildError::Cancelled);
    }
    Ok(store.publish(staged, started.elapsed().as_millis() as u64, clock.finish())?)
}

/// A finished graph and how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct BuiltGraph {
    /// The graph.
    pub graph: Graph,
    /// What had to be mended.
    pub repair: RepairReport,
    /// What users taught it, if any did.
    pub training: Option<TrainingReport>,
    /// The codes to traverse it with, if any were asked for.
    pub codes: Option<RowCodes>,
}

/// Every row in codes.
#[derive(Clone, Debug, PartialEq)]
pub struct RowCodes {
    /// How they came about.
    pub quantizer: Sq8,
    /// `[n × stride]`.
    pub codes: Vec<u8>,
}

/// Builds, teaches and repairs a graph over `vectors`, `[n × dim]`, on the current rayon pool.
///
/// # Errors
/// [`BuildError::Cancelled`], or what the builder refuses.
pub fn build_graph<T: Element>(
    vectors: &[T],
    dim: usize,
    training_queries: Option<EmbeddingsView<'_>>,
    params: &BuildParams,
    progress: &dyn Progress,
) -> Result<BuiltGraph, BuildError> {
    let mut graph = match params.builder {
        Builder::Native => native::build(vectors, dim, params, progress)?,
        Builder::HnswRs => hnsw_rs::build(vectors, dim, params, progress)?,
    };
    let lesson = training_queries.map(|users| Lesson::new(vectors, users, params.metric));
    let mut edges_added = 0;
    if let Some(lesson) = &lesson {
        // Half as many again as items alone get.
        let slots = graph.m0 + params.m;
        graph = graph.with_layer0_slots(slots);
        edges_added = lesson.teach(&mut graph, vectors, progress);
        if progress.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
    }
    progress.begin("checking reachability", 1);
    let repair = repair::repair(&mut graph, vectors, dim);
    let codes = (params.codes == Codes::Sq8).then(|| {
        progress.begin("encoding", 1);
        let quantizer = Sq8::train(vectors, dim);
        let codes = quantizer.encode_all(vectors);
        RowCodes { quantizer, codes }
    });
    let training = lesson.map(|lesson| {
        progress.begin("asking held-out users", 1);
        lesson.examine(&graph, vectors, codes.as_ref(), edges_added)
    });
    if progress.is_cancelled() {
        return Err(BuildError::Cancelled);
    }
    Ok(BuiltGraph { graph, repair, training, codes })
}

/// The rows as the index stores them: contiguous, and of norm 1 under cosine. Borrowed where they are already.
fn prepare<'a, T: Element>(rows: Rows<'a, T>, metric: Metric) -> Cow<'a, [T]> {
    if metric != Metric::Cosine
        && let Some(contiguous) = rows.as_contiguous()
    {
        return Cow::Borrowed(contiguous);
    }
    let mut copy = vec![T::zeroed(); rows.len() * rows.dim()];
    copy.par_chunks_mut(rows.dim()).enumerate().for_each(|(row, copied)| {
        copied.copy_from_slice(rows.row(row));
        if metric == Metric::Cosine {
            normalise(copied);
        }
    });
    Cow::Owned(copy)
}

fn normalise<T: Element>(row: &mut [T]) {
    // Scaling by the largest component first keeps the squares of very large and very small rows finite.
    let largest = row.iter().fold(0f32, |largest, value| largest.max(value.to_f32().abs()));
    let scaled: Vec<f32> = row.iter().map(|value| value.to_f32() / largest).collect();
    let norm = Kernels::get().norm_squared(&scaled).sqrt();
    for (value, scaled) in row.iter_mut().zip(scaled) {
        *value = T::from_f32(scaled / norm);
    }
}
