//! The steps of a build in order: group, order, encode, build the graph, teach, repair, measure, summarize blocks.

use super::built::{BuiltGraph, NodeCodes};
use super::coded::CodedRows;
use super::draft::Draft;
use super::error::BuildError;
use super::groups::Groups;
#[cfg(feature = "hnsw-rs")]
use super::hnsw_rs;
use super::insertion;
use super::layer0;
use super::order;
use super::params::{BuildParams, Builder};
use super::progress::Progress;
use super::renew::{self, Ancestor};
use super::repair;
use super::teach::Teacher;
use crate::base::element::Element;
use crate::base::parallel::{self, ROWS_PER_TASK};
use crate::dataset::EmbeddingsView;
use crate::quantize::{BlockSummary, Codes, Quantizer, SecondMoment};

/// Fit query-aware axes only from this many rows on (with fewer they gain nothing) and up to this many dimensions (with
/// more the eigendecomposition is slow).
const MOMENT_FROM: usize = 4096;
const MOMENT_UP_TO: usize = 512;

/// Builds, teaches and repairs a graph over `vectors`, `[n × dim]`, on the current rayon pool.
///
/// # Errors
/// [`BuildError::Cancelled`], or an error of the builder.
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
    let queries = expected_queries(vectors, dim, training_queries, ancestor);
    let (order, regions) = order::order(vectors, dim, &groups, queries.as_ref());
    let groups = groups.reordered(&order);
    let vectors = reordered(vectors, dim, &order);
    progress.begin("encoding", 1);
    let quantizer = params.codes.train(&vectors, dim);
    let quantizer = quantizer.unwrap_or_else(|| Quantizer::for_comparing(&vectors, dim));
    let rows = CodedRows::new(vectors, dim, quantizer);
    let is_renewed = params.builder == Builder::Native && training_queries.is_none() && ancestor.is_some();
    let mut draft = match (params.builder, ancestor) {
        // Training queries add the long edges that groups lack, and this takes a fifth of the time of insertion. Without
        // training queries, insertion has far better recall (recall@10 0.946 against 0.878 for the same distances).
        (Builder::Native, _) if training_queries.is_some() => {
            let (upper, entry_point) = insertion::upper_layers(&rows.vectors, dim, params, progress)?;
            let layer0 = layer0::from_groups(&rows, &groups, params, progress)?;
            Draft::new(params.m, layer0, upper, entry_point)
        }
        // Most rows have neighbors already, so there is no need to insert them one by one.
        (Builder::Native, Some(ancestor)) => {
            let (upper, entry_point) = insertion::upper_layers(&rows.vectors, dim, params, progress)?;
            let layer0 = renew::layer0(&rows, &groups, ancestor, &order, params, progress)?;
            Draft::new(params.m, layer0, upper, entry_point)
        }
        (Builder::Native, None) => insertion::whole(&rows.vectors, dim, params, progress)?,
        #[cfg(feature = "hnsw-rs")]
        (Builder::HnswRs, _) => hnsw_rs::build(&rows.vectors, dim, params, progress)?,
    };
    let teacher = training_queries.map(|users| Teacher::new(&rows, &groups, users, params));
    let edges_added = teacher.as_ref().map_or(0, |teacher| teacher.teach(&mut draft, progress));
    if progress.is_cancelled() {
        return Err(BuildError::Cancelled);
    }
    progress.begin("checking reachability", 1);
    let repair = repair::repair(&mut draft, &rows, &groups);
    let graph = draft.pack();
    if teacher.is_some() {
        progress.begin("asking held-out users", 1);
    }
    let held_out_queries = teacher.as_ref().map(Teacher::held_out_queries).unwrap_or_default();
    let training_queries = teacher.as_ref().map(Teacher::kept_queries).unwrap_or_default();
    let training = teacher.as_ref().map(|teacher| teacher.measure(&graph, params.codes, edges_added));
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

/// Returns the second moment of the queries to expect: half like the training queries, half like rows, as in searches for
/// similar videos. `None` outside the limits of [`MOMENT_FROM`] and [`MOMENT_UP_TO`].
fn expected_queries<T: Element>(
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

/// Returns a copy of the rows in the order of nodes.
fn reordered<T: Element>(vectors: &[T], dim: usize, order: &[u32]) -> Vec<T> {
    let mut copy = vec![T::zeroed(); vectors.len()];
    parallel::for_chunks_mut(&mut copy, dim, ROWS_PER_TASK, |node, copied| {
        let start = order[node] as usize * dim;
        copied.copy_from_slice(&vectors[start..start + dim]);
    });
    copy
}
