//! The checks that opening an index does not make: checksums and the contents of every section.

use super::error::IndexError;
use super::metadata::BuildFacts;
use super::section::SectionKind;
use super::view::Index;
use crate::base::element::Element;
use crate::base::id::VideoId;
use crate::base::instant::Instant;
use crate::base::parallel;
use crate::dataset::{EmbeddingsView, NEVER};
use crate::graph::{NONE, used};
use crate::kernel::Kernels;
use crate::quantize::{Axes, BlockSummary, FittedAxes, RowCodes, residual_block_bytes};
use crate::with_rows;

/// Tolerance for inner products of axes, which are computed in single precision.
const PRODUCT_TOLERANCE: f32 = 1e-3;
/// Components that a task checks at a time.
const COMPONENTS_PER_CHUNK: usize = 1 << 14;

/// Counts of an index in which [`verify`] found no error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VerifyReport {
    /// Number of sections; the checksum of each was compared.
    pub sections: usize,
    /// Number of videos.
    pub nodes: usize,
    /// Number of edges on layer 0.
    pub edges: u64,
    /// Largest degree on layer 0.
    pub max_degree: usize,
}

/// Checks checksums, embeddings, codes, ids, degrees, edges and reachability. Attribute columns are checked by
/// [`Columns::verify`](crate::attributes::Columns::verify).
///
/// # Errors
/// The first [`IndexError`] found; checksums are compared first.
pub fn verify(index: &Index) -> Result<VerifyReport, IndexError> {
    index.check_checksums()?;
    check_vectors(index)?;
    check_codes(index)?;
    check_blocks(index)?;
    check_queries(index)?;
    check_landmarks(index)?;
    check_ids(index)?;
    check_input_rows(index)?;
    check_expiries(index)?;
    check_upper_layers(index)?;
    let (edges, max_degree) = check_layer0(index)?;
    // A small segment is built without a graph. In any other index, missing edges mean a damaged file.
    let is_scanned = !index.has_graph() && index.metadata().build.builder == BuildFacts::NO_BUILDER;
    let reached = index.graph().reachable();
    let unreachable = if is_scanned { 0 } else { reached.iter().filter(|seen| !**seen).count() };
    if unreachable > 0 {
        return Err(IndexError::Unreachable {
            path: index.path().to_owned(),
            unreachable,
            nodes: index.len(),
        });
    }
    Ok(VerifyReport { sections: index.sections().len(), nodes: index.len(), edges, max_degree })
}

/// Checks that every component of the embeddings is finite. [`verify`] does so, too.
///
/// # Errors
/// [`IndexError::BadEntry`] for the first that is not.
pub fn check_vectors(index: &Index) -> Result<(), IndexError> {
    check_finite(index, SectionKind::Vectors, index.vectors())
}

fn check_queries(index: &Index) -> Result<(), IndexError> {
    let check = |kind, queries: Option<_>| queries.map_or(Ok(()), |some| check_finite(index, kind, some));
    check(SectionKind::HeldOutQueries, index.held_out_queries())?;
    check(SectionKind::TrainingQueries, index.training_queries())
}

/// Checks that landmarks have finite levels, and nodes that exist.
fn check_landmarks(index: &Index) -> Result<(), IndexError> {
    let Some(landmarks) = index.landmarks() else { return Ok(()) };
    if let Some(at) = landmarks.quantizer.parameters().iter().position(|level| !level.is_finite()) {
        let problem = "the level is not finite".to_owned();
        return Err(IndexError::bad_entry(index.path(), SectionKind::LandmarkLevels, at, problem));
    }
    let bad = landmarks.nodes.iter().position(|node| *node as usize >= index.len());
    bad.map_or(Ok(()), |at| {
        let problem = format!("expected a node below {}, found {}", index.len(), landmarks.nodes[at]);
        Err(IndexError::bad_entry(index.path(), SectionKind::LandmarkNodes, at, problem))
    })
}

fn check_finite(index: &Index, section: SectionKind, rows: EmbeddingsView<'_>) -> Result<(), IndexError> {
    fn first_bad<T: Element>(components: &[T]) -> Option<usize> {
        let chunks = components.len().div_ceil(COMPONENTS_PER_CHUNK);
        parallel::find_map_first(chunks, 1, |chunk| {
            let start = chunk * COMPONENTS_PER_CHUNK;
            let chunk = &components[start..components.len().min(start + COMPONENTS_PER_CHUNK)];
            chunk.iter().position(|value| !value.to_f32().is_finite()).map(|at| start + at)
        })
    }
    let bad = with_rows!(rows, rows => rows.as_contiguous().and_then(first_bad));
    bad.map_or(Ok(()), |at| {
        let problem = format!("component {} is not finite", at % index.dim());
        Err(IndexError::bad_entry(index.path(), section, at / index.dim(), problem))
    })
}

/// Encodes every vector again, and compares the codes bit by bit.
fn check_codes(index: &Index) -> Result<(), IndexError> {
    let Some(RowCodes { rows: codes, half_norms, quantizer, .. }) = index.codes() else { return Ok(()) };
    if let Some(at) = quantizer.parameters().iter().position(|level| !level.is_finite()) {
        let problem = "the level is not finite".to_owned();
        return Err(IndexError::bad_entry(index.path(), SectionKind::CodeLevels, at, problem));
    }
    let stride = quantizer.stride();
    let differs = |row: usize, code: &[u8]| {
        let mut expected = vec![0; stride];
        with_rows!(index.vectors(), rows => quantizer.encode(rows.row(row), &mut expected));
        expected != code
    };
    let bad = parallel::find_first(codes.len() / stride, 1, |row| {
        differs(row, &codes[row * stride..(row + 1) * stride])
    });
    if let Some(row) = bad {
        let problem = "the code is not that of the embedding".to_owned();
        return Err(IndexError::bad_entry(index.path(), SectionKind::Codes, row, problem));
    }
    if let Some(fine) = index.fine_codes() {
        let differs = |row: usize| {
            let (at, mut expected) = (row * stride..(row + 1) * stride, vec![0; stride]);
            with_rows!(index.vectors(), rows => {
                quantizer.encode_fine(rows.row(row), &codes[at.clone()], &mut expected);
            });
            expected != fine[at]
        };
        if let Some(row) = parallel::find_first(fine.len() / stride, 1, differs) {
            let problem = "the fine code is not that of the embedding".to_owned();
            return Err(IndexError::bad_entry(index.path(), SectionKind::FineCodes, row, problem));
        }
    }
    let bad = parallel::find_first(half_norms.len(), 1, |row| {
        quantizer.half_norm(&codes[row * stride..(row + 1) * stride]).to_bits() != half_norms[row].to_bits()
    });
    bad.map_or(Ok(()), |row| {
        let problem = "the half norm is not that of the code".to_owned();
        Err(IndexError::bad_entry(index.path(), SectionKind::CodeHalfNorms, row, problem))
    })
}

/// Checks that regions ascend and cover all blocks; then computes means, spreads, deviations and residual codes from
/// the vectors again and compares them bit by bit.
fn check_blocks(index: &Index) -> Result<(), IndexError> {
    let (Some(RowCodes { quantizer, .. }), Some(_)) = (index.codes(), index.blocks()) else { return Ok(()) };
    let bad = |section, entry, problem| Err(IndexError::bad_entry(index.path(), section, entry, problem));
    let regions: &[u32] = index.column(SectionKind::BlockRegions, 0);
    let blocks = BlockSummary::blocks(index.represented()) as u32;
    if let Some(at) = (1..regions.len()).find(|at| regions[at - 1] >= regions[*at]) {
        return bad(
            SectionKind::BlockRegions,
            at,
            format!("expected ascending blocks, found {}", regions[at]),
        );
    }
    for (at, expected) in [(0, 0), (regions.len() - 1, blocks)] {
        if regions[at] != expected {
            return bad(SectionKind::BlockRegions, at, format!("expected {expected}, found {}", regions[at]));
        }
    }
    check_axes(index)?;
    let expected = with_rows!(index.vectors(), rows => {
        let rows = rows.as_contiguous().expect("the rows of an index are contiguous");
        let rows = &rows[..index.represented() * index.dim()];
        let (axes, widths) = (index.axes(), index.residual_widths().to_vec());
        BlockSummary::with_axes(rows, index.dim(), quantizer, regions.to_vec(), axes.map(FittedAxes::from), widths)
    });
    let (stride, block_bytes) = (quantizer.stride(), residual_block_bytes(&expected.widths));
    let numbers = |numbers: &[f32]| bytemuck::cast_slice::<f32, u8>(numbers).to_vec();
    for (section, entry_bytes, expected) in [
        (SectionKind::BlockMeans, stride, expected.means),
        (SectionKind::ResidualSpreads, size_of::<f32>(), numbers(&expected.spreads)),
        (SectionKind::ResidualDeviations, size_of::<f32>(), numbers(&expected.deviations)),
        (SectionKind::RowResiduals, block_bytes, expected.row_residuals),
    ] {
        let found = index.column::<u8>(section, 0).chunks(entry_bytes);
        if let Some(at) =
            found.zip(expected.chunks(entry_bytes)).position(|(found, expected)| found != expected)
        {
            return bad(section, at, "the entry is not that of the embeddings".to_owned());
        }
    }
    Ok(())
}

/// Checks that the axes of rows and those of queries are dual, so that the inner product of a row and a query equals
/// that of their components along the axes: each axis of queries has the product 1 with the same axis of rows, and 0
/// with every other.
fn check_axes(index: &Index) -> Result<(), IndexError> {
    let Some(Axes { of_rows, of_queries }) = index.axes() else { return Ok(()) };
    let kernels = Kernels::get();
    let is_bad = |of_query: &[f32], at: usize| {
        of_rows.chunks(index.dim()).enumerate().any(|(axis, of_row)| {
            let expected = if axis == at { 1.0 } else { 0.0 };
            let off = (kernels.dot(of_row, of_query) - expected).abs();
            off.is_nan() || off > PRODUCT_TOLERANCE
        })
    };
    let bad = of_queries.chunks(index.dim()).enumerate().position(|(at, of_query)| is_bad(of_query, at));
    bad.map_or(Ok(()), |at| {
        let problem = "the axis is not dual to those of rows".to_owned();
        Err(IndexError::bad_entry(index.path(), SectionKind::QueryAxes, at, problem))
    })
}

fn check_ids(index: &Index) -> Result<(), IndexError> {
    let ids = index.video_ids();
    let by_id: &[u32] = index.column(SectionKind::NodesById, 0);
    let bad = |entry, problem| IndexError::bad_entry(index.path(), SectionKind::NodesById, entry, problem);
    let mut last: Option<VideoId> = None;
    for (entry, node) in by_id.iter().enumerate() {
        let Some(id) = ids.get(*node as usize) else {
            return Err(bad(entry, format!("expected a node below {}, found {node}", ids.len())));
        };
        if last.is_some_and(|last| last >= *id) {
            return Err(bad(entry, format!("expected ascending, unique video ids, found {id}")));
        }
        last = Some(*id);
    }
    Ok(())
}

/// Checks that every input row became exactly one node.
fn check_input_rows(index: &Index) -> Result<(), IndexError> {
    let rows: &[u32] = index.column(SectionKind::InputRows, 0);
    let mut seen = vec![false; rows.len()];
    for (node, row) in rows.iter().enumerate() {
        let problem = match seen.get_mut(*row as usize) {
            None => format!("expected a row below {}, found {row}", rows.len()),
            Some(true) => format!("row {row} occurs twice"),
            Some(seen) => {
                *seen = true;
                continue;
            }
        };
        return Err(IndexError::bad_entry(index.path(), SectionKind::InputRows, node, problem));
    }
    Ok(())
}

/// Checks that every expiry is a valid timestamp, and that at least one video expires: otherwise the section is
/// omitted.
fn check_expiries(index: &Index) -> Result<(), IndexError> {
    let Some(expiries) = index.expiries() else { return Ok(()) };
    let bad = |node, problem| Err(IndexError::bad_entry(index.path(), SectionKind::Expiries, node, problem));
    let expires = |expiry: i64| expiry != NEVER;
    for (node, expiry) in expiries.iter().enumerate().filter(|(_, expiry)| expires(**expiry)) {
        if let Err(error) = Instant::from_microsecond(*expiry) {
            return bad(node, error.to_string());
        }
    }
    if !expiries.iter().any(|expiry| expires(*expiry)) {
        return bad(0, "expected a video that expires, found none".to_owned());
    }
    Ok(())
}

fn check_upper_layers(index: &Index) -> Result<(), IndexError> {
    let (mut first_node, mut below): (usize, Option<&[u32]>) = (0, None);
    for layer in &index.graph().upper {
        let bad_node = |slot: usize, problem| {
            Err(IndexError::bad_entry(index.path(), SectionKind::UpperNodes, first_node + slot, problem))
        };
        for (slot, node) in layer.nodes.iter().enumerate() {
            if *node as usize >= index.len() {
                return bad_node(slot, format!("expected a node below {}, found {node}", index.len()));
            }
            if slot > 0 && layer.nodes[slot - 1] >= *node {
                return bad_node(slot, format!("expected ascending nodes, found {node}"));
            }
            if below.is_some_and(|below| below.binary_search(node).is_err()) {
                return bad_node(slot, format!("node {node} is not on the layer below"));
            }
        }
        check_lists(layer.nodes.len(), |slot| &layer.edges[slot * layer.m..(slot + 1) * layer.m]).map_err(
            |(slot, problem)| {
                IndexError::bad_entry(index.path(), SectionKind::UpperEdges, first_node + slot, problem)
            },
        )?;
        first_node += layer.nodes.len();
        below = Some(layer.nodes);
    }
    Ok(())
}

fn check_layer0(index: &Index) -> Result<(u64, usize), IndexError> {
    let (starts, edges): (&[u32], &[u32]) =
        (index.column(SectionKind::Layer0Starts, 0), index.column(SectionKind::Layer0, 0));
    let bad_start = |node: usize, problem| {
        Err(IndexError::bad_entry(index.path(), SectionKind::Layer0Starts, node, problem))
    };
    for (node, pair) in starts.windows(2).enumerate() {
        if node == 0 && pair[0] != 0 {
            return bad_start(0, format!("expected 0, found {}", pair[0]));
        }
        if pair[1] < pair[0] || pair[1] as usize > edges.len() {
            let problem = format!("expected {} to {}, found {}", pair[0], edges.len(), pair[1]);
            return bad_start(node + 1, problem);
        }
        let (degree, m0) = (pair[1] - pair[0], index.metadata().m0);
        if degree > m0 {
            return bad_start(node + 1, format!("expected at most m0 = {m0} edges, found {degree}"));
        }
    }
    if let Some(end) = starts.last().filter(|end| **end as usize != edges.len()) {
        return bad_start(index.len(), format!("expected {}, found {end}", edges.len()));
    }
    let layer0 = index.graph().layer0;
    check_lists(index.len(), |node| layer0.slots(node as u32))
        .map_err(|(node, problem)| IndexError::bad_entry(index.path(), SectionKind::Layer0, node, problem))
}

/// Checks every list. Returns the number of edges and the largest degree, or the position of a bad list and its
/// problem.
fn check_lists<'a>(
    nodes: usize,
    list_of: impl Fn(usize) -> &'a [u32] + Sync,
) -> Result<(u64, usize), (usize, String)> {
    let check_list = |node: usize| {
        let list = list_of(node);
        let used = used(list);
        for (position, edge) in used.iter().enumerate() {
            if *edge as usize >= nodes {
                return Err((node, format!("expected an edge to below {nodes}, found {edge}")));
            }
            if *edge as usize == node {
                return Err((node, "an edge leads to the node itself".to_owned()));
            }
            if used[..position].contains(edge) {
                return Err((node, format!("the edge to {edge} occurs twice")));
            }
        }
        match list[used.len()..].iter().find(|edge| **edge != NONE) {
            Some(edge) => Err((node, format!("an edge to {edge} follows the end of the list"))),
            None => Ok((used.len() as u64, used.len())),
        }
    };
    let of_ranges = parallel::map_ranges(nodes, 1, |mut range| {
        range.try_fold((0, 0), |(edges, most), node| {
            check_list(node).map(|(of_list, degree)| (edges + of_list, most.max(degree)))
        })
    });
    of_ranges.into_iter().try_fold((0, 0), |(edges, most), of_range| {
        of_range.map(|(of_range, degree)| (edges + of_range, most.max(degree)))
    })
}
