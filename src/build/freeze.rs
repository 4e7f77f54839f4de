//! A finished build becomes the sections of an index.

use std::io::Write;

use super::progress::Progress;
use super::{BuildError, NodeCodes};
use crate::attributes::FrozenColumn;
use crate::base::element::Element;
use crate::base::id::VideoId;
use crate::graph::Graph;
use crate::index::{IndexError, IndexWriter, Metadata, SectionKind};

/// How many bytes go to the file between two looks at the progress.
const WRITE_BYTES: usize = 16 << 20;

/// What an index is made of, besides its attributes.
pub(super) struct Parts<'a, T> {
    pub(super) metadata: &'a Metadata,
    /// `[n × dim]`.
    pub(super) vectors: &'a [T],
    /// Node to row of the input.
    pub(super) rows: &'a [u32],
    pub(super) ids: &'a [VideoId],
    pub(super) graph: &'a Graph,
    pub(super) codes: Option<&'a NodeCodes>,
    /// `[count × dim]`; may be empty.
    pub(super) held_out_queries: &'a [f32],
    /// `[count × dim]`; may be empty.
    pub(super) training_queries: &'a [f32],
    /// By row of the input, if a video expires.
    pub(super) expires_at: Option<&'a [i64]>,
}

/// Writes everything to what `start` gives for so many sections, and leaves it to be finished.
pub(super) fn freeze<T: Element, W: Write>(
    start: impl FnOnce(usize) -> Result<IndexWriter<W>, IndexError>,
    parts: &Parts<'_, T>,
    columns: Vec<FrozenColumn>,
    progress: &dyn Progress,
) -> Result<IndexWriter<W>, BuildError> {
    let Parts { metadata, vectors, rows, ids, graph, codes, held_out_queries, training_queries, expires_at } =
        *parts;
    let json = serde_json::to_vec(metadata).expect("metadata has no map keys that JSON could not hold");
    let mut nodes_by_id: Vec<u32> = (0..ids.len() as u32).collect();
    nodes_by_id.sort_unstable_by_key(|node| ids[*node as usize]);
    let upper_nodes = graph.upper.iter().map(|layer| bytes(&layer.nodes));
    let upper_edges = graph.upper.iter().map(|layer| bytes(&layer.edges));
    let mut attributes: Vec<(SectionKind, u32, Vec<u8>)> = Vec::new();
    for (ordinal, column) in columns.into_iter().enumerate() {
        attributes.extend(column.sections.into_iter().map(|(kind, bytes)| (kind, ordinal as u32, bytes)));
    }
    attributes.sort_by_key(|(kind, ordinal, _)| (*kind, *ordinal));

    progress.begin("writing the index", size_of_val(vectors) as u64);
    let vector_parts = bytemuck::cast_slice::<T, u8>(vectors).chunks(WRITE_BYTES);
    let blocks = codes.and_then(|codes| codes.blocks.as_ref());
    let expiries: Option<Vec<i64>> =
        expires_at.map(|times| rows.iter().map(|row| times[*row as usize]).collect());
    let code_sections = if codes.is_some() { 2 } else { 0 };
    let axes = blocks.and_then(|blocks| Some((blocks.axes.as_ref()?, &blocks.widths)));
    let block_sections = if blocks.is_some() { 5 } else { 0 } + if axes.is_some() { 3 } else { 0 };
    let others = [!held_out_queries.is_empty(), !training_queries.is_empty(), expiries.is_some()];
    let others = others.into_iter().filter(|is_there| *is_there).count();
    let mut writer = start(9 + code_sections + block_sections + others + attributes.len())?;
    writer.section(SectionKind::Metadata, 0, [json.as_slice()])?;
    writer.section(
        SectionKind::Vectors,
        0,
        vector_parts
            .take_while(|_| !progress.is_cancelled())
            .inspect(|part| progress.advance(part.len() as u64)),
    )?;
    if progress.is_cancelled() {
        return Err(BuildError::Cancelled);
    }
    writer.section(SectionKind::VideoIds, 0, [bytes(ids)])?;
    writer.section(SectionKind::NodesById, 0, [bytes(&nodes_by_id)])?;
    writer.section(SectionKind::Layer0, 0, [bytes(&graph.layer0.edges)])?;
    writer.section(SectionKind::UpperNodes, 0, upper_nodes)?;
    writer.section(SectionKind::UpperEdges, 0, upper_edges)?;
    if let Some(NodeCodes { quantizer, codes, .. }) = codes {
        writer.section(SectionKind::Codes, 0, [codes.as_slice()])?;
        writer.section(SectionKind::CodeLevels, 0, [bytes(quantizer.parameters())])?;
    }
    if !held_out_queries.is_empty() {
        writer.section(SectionKind::HeldOutQueries, 0, [bytes(held_out_queries)])?;
    }
    writer.section(SectionKind::InputRows, 0, [bytes(rows)])?;
    writer.section(SectionKind::Layer0Starts, 0, [bytes(&graph.layer0.starts)])?;
    if let Some(blocks) = blocks {
        writer.section(SectionKind::BlockMeans, 0, [blocks.means.as_slice()])?;
        writer.section(SectionKind::BlockRegions, 0, [bytes(&blocks.regions)])?;
    }
    // Sections go by their number, and those of attributes are of several versions.
    let before = attributes.partition_point(|(kind, ..)| *kind < SectionKind::ResidualSpreads);
    for (kind, ordinal, bytes) in &attributes[..before] {
        writer.section(*kind, *ordinal, [bytes.as_slice()])?;
    }
    if let Some(blocks) = blocks {
        writer.section(SectionKind::ResidualSpreads, 0, [bytes(&blocks.spreads)])?;
        writer.section(SectionKind::ResidualDeviations, 0, [bytes(&blocks.deviations)])?;
        writer.section(SectionKind::RowResiduals, 0, [blocks.row_residuals.as_slice()])?;
    }
    for (kind, ordinal, bytes) in &attributes[before..] {
        writer.section(*kind, *ordinal, [bytes.as_slice()])?;
    }
    if let Some(expiries) = &expiries {
        writer.section(SectionKind::Expiries, 0, [bytes(expiries)])?;
    }
    if !training_queries.is_empty() {
        writer.section(SectionKind::TrainingQueries, 0, [bytes(training_queries)])?;
    }
    if let Some((axes, widths)) = axes {
        writer.section(SectionKind::ResidualWidths, 0, [widths.as_slice()])?;
        writer.section(SectionKind::RowAxes, 0, [bytes(&axes.of_rows)])?;
        writer.section(SectionKind::QueryAxes, 0, [bytes(&axes.of_queries)])?;
    }
    Ok(writer)
}

fn bytes<T: bytemuck::Pod>(values: &[T]) -> &[u8] {
    bytemuck::cast_slice(values)
}
