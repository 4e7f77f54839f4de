//! From a catalog to a published generation.
//!
//! What flows in: embeddings, ids, attributes and parameters. What flows out: a frozen index, in its
//! folder or in memory. Nothing here knows of search requests.
//!
//! ```text
//! Catalog ─► rows ─► groups ─► rows by group ─► builder ─► draft ─► lesson ─► repair ─► IndexWriter ─► publish
//!           normalized │ k-means   in codes    insertion │              ▲
//!         under cosine │                       layer 0 from groups      │
//!                      │                       hnsw_rs                  │
//! training users ──────┴─► their answers, from the groups ─► edges ─────┘
//! ```
//!
//! | file | duty |
//! |---|---|
//! | `params.rs`   | what can be asked of a build |
//! | `coded.rs`    | rows in codes, many scored for many queries at once |
//! | `groups.rs`   | rows in overlapping groups that lie close together |
//! | `order.rs`    | the order in which rows become nodes, and the regions and blocks that this makes |
//! | `insertion.rs`| our own HNSW, inserted in parallel |
//! | `layer0.rs`   | layer 0 from groups: many times faster, for builds that users teach |
//! | `renew.rs`    | layer 0 from that of an index with most of the same rows |
//! | `select.rs`   | which neighbors a node keeps |
//! | `hnsw_rs.rs`  | the graph of the hnsw_rs crate |
//! | `draft.rs`    | a graph while it is made |
//! | `answers.rs`  | the true answers of many users, from the groups |
//! | `multiply.rs` | more users from a small sample |
//! | `teach.rs`    | edges that training users need; recall on those held out |
//! | `repair.rs`   | every node reachable |
//! | `small.rs`    | what few rows get in the place of a graph |
//! | `freeze.rs`   | the sections of the index |
//! | `progress.rs` | how far a build is, and whether to go on |
//! | `phases.rs`   | how long each phase of it takes |

mod answers;
mod coded;
mod draft;
mod freeze;
mod groups;
#[cfg(feature = "hnsw-rs")]
mod hnsw_rs;
mod insertion;
mod layer0;
mod multiply;
mod order;
mod params;
mod phases;
mod progress;
mod renew;
mod repair;
mod select;
mod small;
mod teach;

use std::borrow::Cow;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use rayon::prelude::*;

use crate::attributes::{AttributeError, CheckedColumn, FrozenColumn};
use crate::base::element::Element;
use crate::base::id::VideoId;
use crate::base::metric::Metric;
use crate::dataset::{Dataset, DatasetError, Embeddings, EmbeddingsView, Rows};
use crate::graph::Graph;
use crate::index::{
    BuildFacts, BuildTimes, Index, IndexError, IndexStore, IndexWriter, Manifest, Measured, Metadata,
    RepairReport, StagedIndex, StoreError, TrainingReport,
};
use crate::kernel::Kernels;
use crate::quantize::{BlockSummary, Codes, Quantizer, SecondMoment};
use crate::with_rows;

use coded::CodedRows;
use draft::Draft;
use groups::Groups;
use phases::PhaseClock;
use teach::Lesson;

pub use params::{BuildParams, Builder, ParamsError};
pub use progress::{Progress, Silent};
pub use renew::Ancestor;
pub use small::GRAPH_FROM;

/// Rows per task where each takes little: enough that a task costs more than handing it out.
const ROWS_PER_TASK: usize = 1024;
/// From so many rows on, and up to so many dimensions, it matters what queries look at, and can be found out in no time.
const MOMENT_FROM: usize = 4096;
const MOMENT_UP_TO: usize = 512;

/// Why nothing was built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A parameter is out of its range.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// The training queries are of another dimension.
    #[error("{}: expected {expected} dimensions as in the catalog, found {found}", path.display())]
    TrainingDimension {
        /// The file.
        path: PathBuf,
        /// Of the catalog.
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

/// Builds an index over `dataset` and makes it the current generation of `store`, not calibrated.
///
/// # Errors
/// As [`stage`].
pub fn build(
    dataset: &Dataset,
    training_queries: Option<&Embeddings>,
    params: &BuildParams,
    store: &IndexStore,
    progress: &dyn Progress,
    started: Instant,
) -> Result<Manifest, BuildError> {
    let (staged, times) = stage(dataset, training_queries, None, params, store, progress, started)?;
    Ok(store.publish(staged, times, Measured::default())?)
}

/// Builds an index over `dataset`, ready to be published in `store`.
///
/// The graph learns from `training_queries`, a sample of user embeddings `[users × dim]`, if there is one; if not,
/// it is that of `ancestor`, renewed, if there is one.
/// The times are since `started`, when the work on the input began.
///
/// # Errors
/// [`BuildError`]; the folder then holds what it held before.
pub fn stage(
    dataset: &Dataset,
    training_queries: Option<&Embeddings>,
    ancestor: Option<&Ancestor<'_>>,
    params: &BuildParams,
    store: &IndexStore,
    progress: &dyn Progress,
    started: Instant,
) -> Result<(StagedIndex, BuildTimes), BuildError> {
    check_training_queries(dataset, training_queries)?;
    let columns = checked_columns(dataset)?;
    store.create()?;
    let clock = PhaseClock::new(progress, started);
    let progress: &dyn Progress = &clock;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(params.threads)
        .thread_name(|thread| format!("build-{thread}"))
        .build()?;
    let staged = pool.install(|| {
        with_rows!(dataset.embeddings.view(), rows => {
            let vectors = prepare(rows, params.metric);
            let training_queries = training_queries.map(Embeddings::view);
            let built = build_graph(&vectors, rows.dim(), training_queries, ancestor, params, progress)?;
            let writer = IndexWriter::create(store.dir())?;
            Ok::<_, BuildError>(write(dataset, &columns, built, params, writer, progress)?.finish()?)
        })
    })?;
    if progress.is_cancelled() {
        return Err(BuildError::Cancelled);
    }
    let times = BuildTimes { ms: started.elapsed().as_millis() as u64, phases: clock.finish() };
    Ok((staged, times))
}

/// Builds an index over `dataset` in memory, on the current rayon pool; `params` do not say how many threads.
///
/// Fewer rows than [`GRAPH_FROM`] get no graph, and are only scanned: see [`Index::has_graph`].
///
/// # Errors
/// [`BuildError`].
pub fn build_in_memory(
    dataset: &Dataset,
    params: &BuildParams,
    progress: &dyn Progress,
) -> Result<Index, BuildError> {
    build_taught_in_memory(dataset, None, params, progress)
}

/// Like [`build_in_memory`], taught by `training_queries`, `[users × dim]`, if there are any.
///
/// # Errors
/// [`BuildError`].
pub fn build_taught_in_memory(
    dataset: &Dataset,
    training_queries: Option<&Embeddings>,
    params: &BuildParams,
    progress: &dyn Progress,
) -> Result<Index, BuildError> {
    check_training_queries(dataset, training_queries)?;
    let columns = checked_columns(dataset)?;
    let writer = with_rows!(dataset.embeddings.view(), rows => {
        let vectors = prepare(rows, params.metric);
        let built = if rows.len() < GRAPH_FROM {
            small::without_graph(vectors.into_owned(), rows.dim(), params)
        } else {
            let training_queries = training_queries.map(Embeddings::view);
            build_graph(&vectors, rows.dim(), training_queries, None, params, progress)?
        };
        let writer = IndexWriter::in_memory(dataset.embeddings.path());
        write(dataset, &columns, built, params, writer, progress)?
    });
    if progress.is_cancelled() {
        return Err(BuildError::Cancelled);
    }
    Ok(writer.finish()?)
}

/// Checks that training queries have the dimension of the dataset and are finite.
fn check_training_queries(
    dataset: &Dataset,
    training_queries: Option<&Embeddings>,
) -> Result<(), BuildError> {
    let Some(training_queries) = training_queries else { return Ok(()) };
    let (expected, found) = (dataset.embeddings.view().dim(), training_queries.view().dim());
    if expected != found {
        let path = training_queries.path().to_owned();
        return Err(BuildError::TrainingDimension { path, expected, found });
    }
    Ok(training_queries.check_finite()?)
}

fn checked_columns(dataset: &Dataset) -> Result<Vec<CheckedColumn<'_>>, BuildError> {
    Ok(dataset.attributes.iter().map(crate::attributes::check).collect::<Result<_, _>>()?)
}

/// Writes the index that was built over `dataset` to `writer`.
fn write<T: Element, W: Write>(
    dataset: &Dataset,
    columns: &[CheckedColumn<'_>],
    built: BuiltGraph<T>,
    params: &BuildParams,
    writer: IndexWriter<W>,
    progress: &dyn Progress,
) -> Result<IndexWriter<W>, BuildError> {
    let BuiltGraph {
        graph,
        rows,
        vectors,
        repair,
        training,
        held_out_queries,
        training_queries,
        codes,
        is_renewed,
    } = built;
    let ids: Vec<VideoId> = rows.iter().map(|row| dataset.ids[*row as usize]).collect();
    // Few rows are done before another thread is awake.
    let columns_at_a_time = if rows.len() < ROWS_PER_TASK { columns.len().max(1) } else { 1 };
    let columns = columns.par_iter().with_min_len(columns_at_a_time).map(|column| column.freeze(&rows));
    let columns: Vec<FrozenColumn> = columns.collect();
    let dim = dataset.embeddings.view().dim();
    let has_graph = rows.len() == 1 || !graph.layer0.edges.is_empty();
    let metadata = Metadata {
        rows: rows.len() as u32,
        dim: dim as u32,
        dtype: T::DTYPE,
        metric: params.metric,
        codes: params.codes,
        m: graph.m as u32,
        m0: graph.layer0.max_degree().max(1) as u32,
        entry_point: graph.entry_point.0,
        upper_layers: graph.upper.iter().map(|layer| layer.nodes.len() as u32).collect(),
        attributes: columns.iter().map(|column| column.schema.clone()).collect(),
        embedding_model: params.embedding_model.clone(),
        build: BuildFacts {
            builder: if has_graph { params.builder.name() } else { BuildFacts::NO_BUILDER }.to_owned(),
            ef_construction: params.ef_construction as u32,
            seed: params.seed,
        },
        repair,
        training,
        held_out_queries: (held_out_queries.len() / dim) as u32,
        training_queries: (training_queries.len() / dim) as u32,
        log_sequence: params.log_sequence,
        held_after: params.held_after,
        renewed: is_renewed,
    };
    let contents = freeze::Contents {
        metadata: &metadata,
        vectors: &vectors,
        rows: &rows,
        ids: &ids,
        graph: &graph,
        codes: codes.as_ref(),
        held_out_queries: &held_out_queries,
        training_queries: &training_queries,
        expires_at: dataset.expires_at.as_deref(),
    };
    freeze::freeze(writer, &contents, columns, progress)
}

/// A finished graph and how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct BuiltGraph<T> {
    /// The graph.
    pub graph: Graph,
    /// Node to row of the input, `[n]`: nodes that are searched together are numbered together.
    pub rows: Vec<u32>,
    /// `[n × dim]`, by node.
    pub vectors: Vec<T>,
    /// What had to be mended.
    pub repair: RepairReport,
    /// What users taught it, if any did.
    pub training: Option<TrainingReport>,
    /// Users that taught it nothing, `[count × dim]`.
    pub held_out_queries: Vec<f32>,
    /// Some users that taught it, `[count × dim]`.
    pub training_queries: Vec<f32>,
    /// The codes to traverse it with, if any were asked for.
    pub codes: Option<NodeCodes>,
    /// Whether it is that of an older index, renewed.
    pub is_renewed: bool,
}

/// Every node in codes.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeCodes {
    /// How they came about.
    pub quantizer: Quantizer,
    /// `[n × stride]`.
    pub codes: Vec<u8>,
    /// The blocks that the nodes are in, if there are enough of them.
    pub blocks: Option<BlockSummary>,
}

/// Builds, teaches and repairs a graph over `vectors`, `[n × dim]`, on the current rayon pool.
///
/// # Errors
/// [`BuildError::Cancelled`], or what the builder refuses.
pub fn build_graph<T: Element>(
    vectors: &[T],
    dim: usize,
    training_queries: Option<EmbeddingsView<'_>>,
    ancestor: Option<&Ancestor<'_>>,
    params: &BuildParams,
    progress: &dyn Progress,
) -> Result<BuiltGraph<T>, BuildError> {
    progress.begin("grouping videos", 1);
    let groups = Groups::new(vectors, dim, params.metric);
    let queries = queries_to_expect(vectors, dim, training_queries, ancestor);
    let (order, regions) = order::order(vectors, dim, &groups, queries.as_ref());
    let groups = groups.reordered(&order);
    let vectors = reordered(vectors, dim, &order);
    progress.begin("encoding", 1);
    let quantizer = params.codes.train(&vectors, dim);
    let quantizer = quantizer.unwrap_or_else(|| Quantizer::for_comparing(&vectors, dim));
    let rows = CodedRows::new(vectors, dim, quantizer);
    let is_renewed = params.builder == Builder::Native && training_queries.is_none() && ancestor.is_some();
    let mut draft = match (params.builder, ancestor) {
        // Users bring the long edges that groups lack, in a fifth of the time; without any, insertion
        // finds far more of what they will ask for (recall@10 0.946 against 0.878 for the same distances).
        (Builder::Native, _) if training_queries.is_some() => {
            let (upper, entry_point) = insertion::upper_layers(&rows.vectors, dim, params, progress)?;
            let layer0 = layer0::from_groups(&rows, &groups, params, progress)?;
            Draft::new(params.m, layer0, upper, entry_point)
        }
        // Rows that most others are beside already need not be inserted one by one.
        (Builder::Native, Some(ancestor)) => {
            let (upper, entry_point) = insertion::upper_layers(&rows.vectors, dim, params, progress)?;
            let layer0 = renew::layer0(&rows, &groups, ancestor, &order, params, progress)?;
            Draft::new(params.m, layer0, upper, entry_point)
        }
        (Builder::Native, None) => insertion::whole(&rows.vectors, dim, params, progress)?,
        #[cfg(feature = "hnsw-rs")]
        (Builder::HnswRs, _) => hnsw_rs::build(&rows.vectors, dim, params, progress)?,
    };
    let lesson = training_queries.map(|users| Lesson::new(&rows, &groups, users, params));
    let edges_added = lesson.as_ref().map_or(0, |lesson| lesson.teach(&mut draft, progress));
    if progress.is_cancelled() {
        return Err(BuildError::Cancelled);
    }
    progress.begin("checking reachability", 1);
    let repair = repair::repair(&mut draft, &rows, &groups);
    let graph = draft.pack();
    if lesson.is_some() {
        progress.begin("asking held-out users", 1);
    }
    let held_out_queries = lesson.as_ref().map(Lesson::held_out_queries).unwrap_or_default();
    let training_queries = lesson.as_ref().map(Lesson::kept_queries).unwrap_or_default();
    let training = lesson.as_ref().map(|lesson| lesson.examine(&graph, params.codes, edges_added));
    if progress.is_cancelled() {
        return Err(BuildError::Cancelled);
    }
    let CodedRows { vectors, quantizer, codes, .. } = rows;
    let codes = (params.codes != Codes::None).then(|| {
        let blocks = Some(BlockSummary::of(&vectors, dim, &quantizer, regions, queries.as_ref()));
        NodeCodes { quantizer, codes, blocks }
    });
    Ok(BuiltGraph {
        graph,
        rows: order,
        vectors,
        repair,
        training,
        held_out_queries,
        training_queries,
        codes,
        is_renewed,
    })
}

/// What the queries of an index are like: half of them as those that teach it, half of them as its rows, which are asked
/// for their like. `None` where there are so few rows, or so many dimensions, that it is not worth finding out.
fn queries_to_expect<T: Element>(
    vectors: &[T],
    dim: usize,
    training_queries: Option<EmbeddingsView<'_>>,
    ancestor: Option<&Ancestor<'_>>,
) -> Option<SecondMoment> {
    if vectors.len() / dim < MOMENT_FROM || dim > MOMENT_UP_TO {
        return None;
    }
    let row = |at: usize| T::widen(&vectors[at * dim..(at + 1) * dim]).into_owned();
    let rows = SecondMoment::of_directions(vectors.len() / dim, dim, row);
    let Some(users) = training_queries.or_else(|| ancestor.and_then(Ancestor::training_queries)) else {
        return Some(rows);
    };
    let user = |at: usize| {
        let mut user = Vec::with_capacity(dim);
        users.copy_row(at, &mut user);
        user
    };
    Some(SecondMoment::of_directions(users.len(), dim, user).mixed_with(&rows))
}

fn reordered<T: Element>(vectors: &[T], dim: usize, order: &[u32]) -> Vec<T> {
    let mut copy = vec![T::zeroed(); vectors.len()];
    copy.par_chunks_mut(dim).zip(order).for_each(|(copied, row)| {
        let start = *row as usize * dim;
        copied.copy_from_slice(&vectors[start..start + dim]);
    });
    copy
}

/// The rows as the index stores them: contiguous, and of norm 1 under cosine. Borrowed where they are already.
fn prepare<'a, T: Element>(rows: Rows<'a, T>, metric: Metric) -> Cow<'a, [T]> {
    if metric != Metric::Cosine
        && let Some(contiguous) = rows.as_contiguous()
    {
        return Cow::Borrowed(contiguous);
    }
    let mut copy = vec![T::zeroed(); rows.len() * rows.dim()];
    copy.par_chunks_mut(rows.dim()).with_min_len(ROWS_PER_TASK).enumerate().for_each(|(row, copied)| {
        copied.copy_from_slice(rows.row(row));
        if metric == Metric::Cosine {
            normalize(copied);
        }
    });
    Cow::Owned(copy)
}

fn normalize<T: Element>(row: &mut [T]) {
    // Scaling by the largest component first keeps the squares of very large and very small rows finite.
    let largest = row.iter().fold(0f32, |largest, value| largest.max(value.to_f32().abs()));
    let scaled: Vec<f32> = row.iter().map(|value| value.to_f32() / largest).collect();
    let norm = Kernels::get().norm_squared(&scaled).sqrt();
    for (value, scaled) in row.iter_mut().zip(scaled) {
        *value = T::from_f32(scaled / norm);
    }
}
