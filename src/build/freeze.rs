//! Turns a finished build into the sections of an index.

use std::borrow::Cow;
use std::io::Write;
use std::ops::ControlFlow;

use super::progress::Progress;
use super::{BuildError, NodeCodes};
use crate::attributes::{FrozenColumn, table_of};
use crate::base::element::Element;
use crate::base::id::VideoId;
use crate::graph::{Graph, LandmarkTable};
use crate::index::{IndexWriter, Metadata, SectionKind, SectionSet};

/// The data of an index, without its attributes.
pub(super) struct Contents<'a, T> {
    pub(super) metadata: &'a Metadata,
    /// `[n × dim]`, by node.
    pub(super) vectors: &'a [T],
    /// The input row of each node.
    pub(super) rows: &'a [u32],
    /// The video id of each node.
    pub(super) ids: &'a [VideoId],
    pub(super) graph: &'a Graph,
    pub(super) codes: Option<&'a NodeCodes>,
    pub(super) landmarks: Option<&'a LandmarkTable>,
    /// `[count × dim]`; may be empty.
    pub(super) held_out_queries: &'a [f32],
    /// `[count × dim]`; may be empty.
    pub(super) training_queries: &'a [f32],
    /// Expiry times by input row, if any video expires.
    pub(super) expires_at: Option<&'a [i64]>,
}

/// Writes everything to `writer`, and leaves it to the caller to finish it.
///
/// # Errors
/// [`BuildError::Cancelled`], or if writing fails.
pub(super) fn freeze<T: Element, W: Write>(
    mut writer: IndexWriter<W>,
    contents: &Contents<'_, T>,
    columns: Vec<FrozenColumn>,
    progress: &dyn Progress,
) -> Result<IndexWriter<W>, BuildError> {
    let Contents {
        metadata,
        vectors,
        rows,
        ids,
        graph,
        codes,
        landmarks,
        held_out_queries,
        training_queries,
        expires_at,
    } = *contents;
    let mut nodes_by_id: Vec<u32> = (0..ids.len() as u32).collect();
    nodes_by_id.sort_unstable_by_key(|node| ids[*node as usize]);
    let expiries: Option<Vec<i64>> =
        expires_at.map(|times| rows.iter().map(|row| times[*row as usize]).collect());

    let mut sections = SectionSet::default();
    let json = serde_json::to_vec(metadata).expect("metadata has only string map keys");
    sections.add(SectionKind::Metadata, json);
    sections.add(SectionKind::Vectors, bytes(vectors));
    sections.add(SectionKind::VideoIds, bytes(ids));
    sections.add(SectionKind::NodesById, bytes(&nodes_by_id));
    sections.add(SectionKind::InputRows, bytes(rows));
    add_graph(&mut sections, graph);
    if let Some(codes) = codes {
        add_codes(&mut sections, codes);
    }
    if let Some(LandmarkTable { quantizer, codes, nodes, .. }) = landmarks {
        sections.add(SectionKind::LandmarkCodes, codes.as_slice());
        sections.add(SectionKind::LandmarkLevels, bytes(quantizer.parameters()));
        sections.add(SectionKind::LandmarkNodes, bytes(nodes));
    }
    for (kind, queries) in
        [(SectionKind::HeldOutQueries, held_out_queries), (SectionKind::TrainingQueries, training_queries)]
    {
        if !queries.is_empty() {
            sections.add(kind, bytes(queries));
        }
    }
    if let Some(expiries) = &expiries {
        sections.add(SectionKind::Expiries, bytes(expiries));
    }
    let levels: Vec<&[u8]> = columns.iter().filter_map(|column| column.levels.as_deref()).collect();
    if !levels.is_empty() {
        sections.add_parts(SectionKind::Levels, 0, [Cow::Owned(table_of(&levels, rows.len()))]);
    }
    for (ordinal, column) in columns.into_iter().enumerate() {
        for (kind, bytes) in column.sections {
            sections.add_parts(kind, ordinal as u32, [Cow::Owned(bytes)]);
        }
    }

    progress.begin("writing the index", sections.bytes());
    let written = writer.write(&sections, |bytes| {
        progress.advance(bytes);
        if progress.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if written.is_break() { Err(BuildError::Cancelled) } else { Ok(writer) }
}

fn add_graph<'a>(sections: &mut SectionSet<'a>, graph: &'a Graph) {
    sections.add(SectionKind::Layer0, bytes(&graph.layer0.edges));
    sections.add(SectionKind::Layer0Starts, bytes(&graph.layer0.starts));
    let nodes = graph.upper.iter().map(|layer| bytes(&layer.nodes).into());
    sections.add_parts(SectionKind::UpperNodes, 0, nodes);
    let edges = graph.upper.iter().map(|layer| bytes(&layer.edges).into());
    sections.add_parts(SectionKind::UpperEdges, 0, edges);
}

fn add_codes<'a>(sections: &mut SectionSet<'a>, codes: &'a NodeCodes) {
    let NodeCodes { quantizer, codes, fine, half_norms, blocks, .. } = codes;
    sections.add(SectionKind::Codes, codes.as_slice());
    sections.add(SectionKind::CodeLevels, bytes(quantizer.parameters()));
    if !fine.is_empty() {
        sections.add(SectionKind::FineCodes, fine.as_slice());
    }
    if !half_norms.is_empty() {
        sections.add(SectionKind::CodeHalfNorms, bytes(half_norms));
    }
    let Some(blocks) = blocks else { return };
    sections.add(SectionKind::BlockMeans, blocks.means.as_slice());
    sections.add(SectionKind::BlockRegions, bytes(&blocks.regions));
    sections.add(SectionKind::ResidualSpreads, bytes(&blocks.spreads));
    sections.add(SectionKind::ResidualDeviations, bytes(&blocks.deviations));
    sections.add(SectionKind::RowResiduals, blocks.row_residuals.as_slice());
    if let Some(axes) = &blocks.axes {
        sections.add(SectionKind::ResidualWidths, blocks.widths.as_slice());
        sections.add(SectionKind::RowAxes, bytes(&axes.of_rows));
        sections.add(SectionKind::QueryAxes, bytes(&axes.of_queries));
    }
}

fn bytes<T: bytemuck::Pod>(values: &[T]) -> &[u8] {
    bytemuck::cast_slice(values)
}
