//! The steps of a build in order: set copies aside, group, choose codes, order, encode, build the graph, teach, repair,
//! measure, attach copies, summarize blocks.

use std::borrow::Cow;

use super::built::{BuiltGraph, NodeCodes};
use super::coded::CodedRows;
use super::codes::{self, Chosen};
use super::copies::Copies;
use super::draft::Draft;
use super::error::BuildError;
use super::groups::Groups;
#[cfg(feature = "hnsw-rs")]
use super::hnsw_rs;
use super::insertion;
use super::landmarks;
use super::layer0::{self, stop_if_cancelled};
use super::order;
use super::params::{BuildParams, Builder};
use super::progress::Progress;
use super::renew::{self, Ancestor};
use super::repair;
use super::teach::Teacher;
use crate::base::element::Element;
use crate::base::parallel::{self, ROWS_PER_TASK};
use crate::dataset::EmbeddingsView;
use crate::graph::LandmarkTable;
use crate::quantize::{BlockSummary, Codes, Fitted, ROWS_PER_BLOCK, SecondMoment};

/// Fit query-aware axes only from this many rows on (with fewer they gain nothing) and up to this many dimensions (with
/// more the eigendecomposition is slow).
const MOMENT_FROM: usize = 4096;
const MOMENT_UP_TO: usize = 512;

/// Builds, teaches and repairs a graph over `vectors`, `[n × dim]`, on the current rayon pool. Calls `copied` once they are
/// copied into the order of nodes and are not read any more.
///
/// # Errors
/// [`BuildError::Cancelled`], or an error of the builder.
pub fn build_graph<T: Element>(
    vectors: Cow<'_, [T]>,
    copied: &dyn Fn(),
    dim: usize,
    training_queries: Option<EmbeddingsView<'_>>,
    ancestor: Option<&Ancestor<'_>>,
    params: &BuildParams,
    progress: &dyn Progress,
) -> Result<BuiltGraph<T>, BuildError> {
    progress.begin("grouping videos", Groups::steps(vectors.len() / dim));
    let users = training_queries.or_else(|| ancestor.and_then(Ancestor::training_queries));
    let queries = expected_queries(&vectors, dim, users);
    let taught = (training_queries, queries.as_ref());
    let Some(copies) = Copies::find(&vectors, dim) else {
        let distinct = build_distinct(vectors, copied, dim, taught, ancestor, params, progress)?;
        return Ok(distinct.finish(dim, queries.as_ref()));
    };
    let rows: Vec<T> = copies.distinct.iter().flat_map(|row| row_of(&vectors, dim, *row)).copied().collect();
    drop(vectors);
    copied();
    let ancestor = ancestor.map(|ancestor| ancestor.of_rows(&copies.distinct));
    let distinct = build_distinct(rows.into(), &|| {}, dim, taught, ancestor.as_ref(), params, progress)?;
    Ok(distinct.with_copies(&copies, dim).finish(dim, queries.as_ref()))
}

fn row_of<T>(vectors: &[T], dim: usize, row: u32) -> &[T] {
    &vectors[row as usize * dim..(row as usize + 1) * dim]
}

/// Builds a graph over distinct rows. `taught`: the training queries, and the second moment of the queries to expect.
fn build_distinct<T: Element>(
    vectors: Cow<'_, [T]>,
    copied: &dyn Fn(),
    dim: usize,
    (training_queries, queries): (Option<EmbeddingsView<'_>>, Option<&SecondMoment>),
    ancestor: Option<&Ancestor<'_>>,
    params: &BuildParams,
    progress: &dyn Progress,
) -> Result<Distinct<T>, BuildError> {
    let groups = Groups::new(&vectors, dim, params.metric, progress);
    stop_if_cancelled(progress)?;
    progress.begin("encoding", 1);
    let users = training_queries.or_else(|| ancestor.and_then(Ancestor::training_queries));
    let Chosen { fitted, is_precise, check } = codes::choose(&vectors, dim, users, params);
    let is_searched = is_precise && params.codes != Codes::None;
    let Fitted { quantizer, unrepresented } = fitted;
    let (order, regions) = order::order(&vectors, dim, &groups, queries, &unrepresented);
    let groups = groups.reordered(&order);
    let vectors = {
        let input = vectors;
        reordered(&input, dim, &order)
    };
    copied();
    let represented = order.len() - unrepresented.len();
    let rows = CodedRows::new(vectors, dim, quantizer, represented, is_precise);
    let teacher = training_queries.map(|users| Teacher::new(&rows, &groups, users, params));
    let is_renewed = params.builder == Builder::Native && training_queries.is_none() && ancestor.is_some();
    let mut draft = match (params.builder, ancestor) {
        // Training queries add the long edges that groups lack, and this takes a fifth of the time of insertion. Without
        // training queries, insertion has far better recall (recall@10 0.946 against 0.878 for the same distances).
        (Builder::Native, _) if teacher.as_ref().is_some_and(Teacher::has_enough) => {
            let (upper, entry_point) =
                insertion::upper_layers(&rows.vectors, dim, represented, params, progress)?;
            let layer0 = layer0::from_groups(&rows, &groups, params, progress)?;
            Draft::new(params.m, layer0, upper, entry_point)
        }
        // Most rows have neighbors already, so there is no need to insert them one by one.
        (Builder::Native, Some(ancestor)) if is_renewed => {
            let (upper, entry_point) =
                insertion::upper_layers(&rows.vectors, dim, represented, params, progress)?;
            let layer0 = renew::layer0(&rows, &groups, ancestor, &order, params, progress)?;
            Draft::new(params.m, layer0, upper, entry_point)
        }
        (Builder::Native, _) => insertion::whole(&rows.vectors, dim, represented, params, progress)?,
        #[cfg(feature = "hnsw-rs")]
        (Builder::HnswRs, _) => hnsw_rs::build(&rows.vectors, dim, represented, params, progress)?,
    };
    let taught = teacher.as_ref().map(|teacher| (teacher, teacher.teach(&mut draft, progress)));
    stop_if_cancelled(progress)?;
    progress.begin("checking reachability", 1);
    let repair = repair::repair(&mut draft, &rows, &groups);
    let known: Cow<'_, [f32]> = match (&teacher, users) {
        (Some(teacher), _) => teacher.taught().into(),
        (None, Some(users)) => components(users).into(),
        (None, None) => Cow::default(),
    };
    let landmarks = landmarks::place(&rows, &groups, &known, params.metric, progress);
    let (graph, edges_added) = match taught {
        Some((teacher, (added, answers))) => {
            progress.begin("asking users", teacher.steps_to_measure());
            let (graph, linked) =
                teacher.link_lost(&mut draft, &answers, landmarks.as_ref(), is_searched, progress);
            (graph, added + linked)
        }
        None => (draft.pack(), 0),
    };
    drop(draft);
    let held_out_queries = teacher.as_ref().map(Teacher::held_out_queries).unwrap_or_default();
    let training_queries = teacher.as_ref().map(Teacher::kept_queries).unwrap_or_default();
    let training = teacher
        .as_ref()
        .map(|teacher| teacher.measure(&graph, landmarks.as_ref(), is_searched, edges_added, progress));
    stop_if_cancelled(progress)?;
    let CodedRows { vectors, quantizer, codes, half_norms, .. } = rows;
    let half_norms = if quantizer.origin().is_some() { half_norms } else { Vec::new() };
    let has_fine = is_searched && params.has_fine_codes(size_of_val(&vectors[..]));
    let fine = if has_fine { quantizer.encode_all_fine(&vectors, &codes) } else { Vec::new() };
    let codes =
        is_searched.then_some(NodeCodes { quantizer, codes, fine, half_norms, represented, blocks: None });
    Ok(Distinct {
        regions,
        built: BuiltGraph {
            graph,
            rows: order,
            vectors,
            copies: 0,
            most_copies: 0,
            most_copied: Vec::new(),
            repair,
            training,
            held_out_queries,
            training_queries,
            codes,
            landmarks,
            code_check: check,
            is_renewed,
        },
    })
}

/// A graph over distinct rows, and the regions of blocks of its nodes.
struct Distinct<T> {
    built: BuiltGraph<T>,
    regions: Vec<u32>,
}

impl<T: Element> Distinct<T> {
    /// Attaches the copies: every node is followed by its copies.
    fn with_copies(self, copies: &Copies, dim: usize) -> Self {
        let Self { built, regions } = self;
        let expansion = copies.expand(&built.rows);
        let codes = built.codes.map(|codes| NodeCodes {
            codes: expansion.repeated(codes.codes, codes.quantizer.stride()),
            fine: expansion.repeated(codes.fine, codes.quantizer.stride()),
            half_norms: expansion.repeated(codes.half_norms, 1),
            represented: expansion.first(codes.represented as u32) as usize,
            ..codes
        });
        let landmarks = built.landmarks.map(|landmarks| LandmarkTable {
            nodes: landmarks.nodes.iter().map(|node| expansion.first(*node)).collect(),
            ..landmarks
        });
        let represented = codes.as_ref().map_or(0, |codes| codes.represented as u32);
        let moved = |region: &u32| {
            let node = (region * ROWS_PER_BLOCK as u32).min(built.rows.len() as u32);
            expansion.first(node).min(represented).div_ceil(ROWS_PER_BLOCK as u32)
        };
        let mut regions: Vec<u32> = regions.iter().map(moved).collect();
        regions.dedup();
        let built = BuiltGraph {
            graph: expansion.graph(built.graph),
            vectors: expansion.repeated(built.vectors, dim),
            copies: (expansion.rows.len() - built.rows.len()) as u32,
            most_copies: expansion.most_copies(),
            most_copied: expansion.most_copied(),
            codes,
            landmarks,
            rows: expansion.rows,
            ..built
        };
        Self { built, regions }
    }

    /// Summarizes the blocks of an index with codes. Under L2 there are none: a distance is no function of the residual.
    fn finish(self, dim: usize, queries: Option<&SecondMoment>) -> BuiltGraph<T> {
        let Self { mut built, regions } = self;
        if let Some(codes) = built.codes.as_mut().filter(|codes| codes.half_norms.is_empty()) {
            let vectors = &built.vectors[..codes.represented * dim];
            codes.blocks = Some(BlockSummary::of(vectors, dim, &codes.quantizer, regions, queries));
        }
        built
    }
}

/// Returns the second moment of the queries to expect: half like the training queries, half like rows, as in searches for
/// similar videos. `None` outside the limits of [`MOMENT_FROM`] and [`MOMENT_UP_TO`].
fn expected_queries<T: Element>(
    vectors: &[T],
    dim: usize,
    users: Option<EmbeddingsView<'_>>,
) -> Option<SecondMoment> {
    if vectors.len() / dim < MOMENT_FROM || dim > MOMENT_UP_TO {
        return None;
    }
    let row = |at: usize| T::widen(&vectors[at * dim..(at + 1) * dim]).into_owned();
    let rows = SecondMoment::of_directions(vectors.len() / dim, dim, row);
    let Some(users) = users else { return Some(rows) };
    let user = |at: usize| {
        let mut user = Vec::with_capacity(dim);
        users.copy_row(at, &mut user);
        user
    };
    Some(SecondMoment::of_directions(users.len(), dim, user).mixed_with(&rows))
}

/// Returns the components of all users, `[count × dim]`.
fn components(users: EmbeddingsView<'_>) -> Vec<f32> {
    let (mut all, mut user) = (Vec::with_capacity(users.len() * users.dim()), Vec::new());
    for at in 0..users.len() {
        users.copy_row(at, &mut user);
        all.extend_from_slice(&user);
    }
    all
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
