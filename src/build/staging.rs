//! From a dataset to a staged generation or to an index in memory.

use std::borrow::Cow;
use std::io::Write;
use std::time::Instant;

use super::built::BuiltGraph;
use super::error::BuildError;
use super::freeze;
use super::params::BuildParams;
use super::phases::PhaseClock;
use super::pipeline::build_graph;
use super::progress::Progress;
use super::renew::Ancestor;
use super::small::{self, GRAPH_FROM};
use crate::attributes::{CheckedColumn, FrozenColumn};
use crate::base::element::Element;
use crate::base::id::VideoId;
use crate::base::metric::Metric;
use crate::base::parallel::{self, ROWS_PER_TASK};
use crate::dataset::{Dataset, Embeddings, Rows};
use crate::graph::LandmarkTable;
use crate::index::{
    BuildFacts, BuildTimes, Index, IndexStore, IndexWriter, Manifest, Measured, Metadata, StagedIndex,
};
use crate::kernel::normalize;
use crate::quantize::Codes;
use crate::with_rows;

/// Builds an index over `dataset` and publishes it as the current generation of `store`, without a calibration.
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
/// `training_queries`, a sample of user embeddings `[users × dim]`, teaches the graph. Without it, the graph of `ancestor`
/// is renewed; without either, a graph is built from the rows alone. The times are measured from `started`, when reading
/// the input began.
///
/// # Errors
/// [`BuildError`]; the folder is then unchanged.
pub fn stage(
    dataset: &Dataset,
    training_queries: Option<&Embeddings>,
    ancestor: Option<&Ancestor<'_>>,
    params: &BuildParams,
    store: &IndexStore,
    progress: &dyn Progress,
    started: Instant,
) -> Result<(StagedIndex, BuildTimes), BuildError> {
    check_training_queries(dataset, training_queries, params.metric)?;
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
            let copied = || dataset.embeddings.release();
            let built = build_graph(vectors, &copied, rows.dim(), training_queries, ancestor, params, progress)?;
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

/// Builds an index over `dataset` in memory, on the current rayon pool; the thread count in `params` is ignored.
///
/// Fewer than [`GRAPH_FROM`] rows get no graph and are scanned: see [`Index::has_graph`].
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
    check_training_queries(dataset, training_queries, params.metric)?;
    let params = &params.clone().in_memory();
    let columns = checked_columns(dataset)?;
    let writer = with_rows!(dataset.embeddings.view(), rows => {
        let vectors = prepare(rows, params.metric);
        let built = if rows.len() < GRAPH_FROM {
            small::without_graph(vectors.into_owned(), rows.dim(), params)
        } else {
            let training_queries = training_queries.map(Embeddings::view);
            build_graph(vectors, &|| dataset.embeddings.release(), rows.dim(), training_queries, None, params, progress)?
        };
        let writer = IndexWriter::in_memory(dataset.embeddings.path());
        write(dataset, &columns, built, params, writer, progress)?
    });
    if progress.is_cancelled() {
        return Err(BuildError::Cancelled);
    }
    Ok(writer.finish()?)
}

/// Checks that training queries have the dimension of the dataset, and that at least one of them can teach.
fn check_training_queries(
    dataset: &Dataset,
    training_queries: Option<&Embeddings>,
    metric: Metric,
) -> Result<(), BuildError> {
    let Some(training_queries) = training_queries else { return Ok(()) };
    let (expected, found) = (dataset.embeddings.view().dim(), training_queries.view().dim());
    if expected != found {
        let path = training_queries.path().to_owned();
        return Err(BuildError::TrainingDimension { path, expected, found });
    }
    training_queries.check_finite()?;
    // Users without a history are often zeros. They are skipped, unless there is no other.
    let view = training_queries.view();
    let is_zeros =
        with_rows!(view, rows => rows.iter().all(|row| row.iter().all(|value| value.to_f32() == 0.0)));
    if is_zeros {
        training_queries.check_queries(metric)?;
    }
    Ok(())
}

fn checked_columns(dataset: &Dataset) -> Result<Vec<CheckedColumn<'_>>, BuildError> {
    Ok(dataset.attributes.iter().map(crate::attributes::check).collect::<Result<_, _>>()?)
}

/// Writes `built` and the attributes of `dataset` to `writer`.
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
        copies,
        most_copies,
        most_copied,
        repair,
        training,
        held_out_queries,
        training_queries,
        codes,
        landmarks,
        code_check,
        is_renewed,
    } = built;
    let ids: Vec<VideoId> = rows.iter().map(|row| dataset.ids[*row as usize]).collect();
    // A few rows take less time than waking another thread.
    let columns_at_a_time = if rows.len() < ROWS_PER_TASK { columns.len().max(1) } else { 1 };
    let columns: Vec<FrozenColumn> =
        parallel::map(columns.len(), columns_at_a_time, |column| columns[column].freeze(&rows));
    let dim = dataset.embeddings.view().dim();
    let has_graph = rows.len() == 1 || !graph.layer0.edges.is_empty();
    let metadata = Metadata {
        rows: rows.len() as u32,
        dim: dim as u32,
        dtype: T::DTYPE,
        metric: params.metric,
        codes: codes.as_ref().map_or(Codes::None, |codes| codes.quantizer.kind()),
        unrepresented: codes.as_ref().map_or(0, |codes| rows.len() - codes.represented) as u32,
        code_check,
        copies,
        most_copies,
        most_copied,
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
            rescoring: params.rescoring,
        },
        repair,
        training,
        held_out_queries: (held_out_queries.len() / dim) as u32,
        training_queries: (training_queries.len() / dim) as u32,
        landmarks: landmarks.as_ref().map_or(0, LandmarkTable::len) as u32,
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
        landmarks: landmarks.as_ref(),
        held_out_queries: &held_out_queries,
        training_queries: &training_queries,
        expires_at: dataset.expires_at.as_deref(),
    };
    freeze::freeze(writer, &contents, columns, progress)
}

/// Returns the rows as the index stores them: contiguous, and of norm 1 under cosine. Borrows them if possible.
fn prepare<'a, T: Element>(rows: Rows<'a, T>, metric: Metric) -> Cow<'a, [T]> {
    if metric != Metric::Cosine
        && let Some(contiguous) = rows.as_contiguous()
    {
        return Cow::Borrowed(contiguous);
    }
    let mut copy = vec![T::zeroed(); rows.len() * rows.dim()];
    parallel::for_chunks_mut(&mut copy, rows.dim(), ROWS_PER_TASK, |row, copied| {
        copied.copy_from_slice(rows.row(row));
        if metric == Metric::Cosine {
            normalize(copied);
        }
    });
    Cow::Owned(copy)
}
