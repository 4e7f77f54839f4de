//! An open generation or part: mapped, checked, cast.

use std::path::Path;
use std::sync::OnceLock;

use bytemuck::Pod;
use half::f16;

use super::error::IndexError;
use super::format;
use super::metadata::Metadata;
use super::resident::{Heat, ResidentSections};
use super::section::{Section, SectionKind, section_label};
use crate::base::element::Dtype;
use crate::base::id::{NodeId, VideoId};
use crate::base::mapped_file::MappedFile;
use crate::dataset::{EmbeddingsView, Rows};
use crate::graph::{Blocks, GraphView, Lists, UpperLayerView};
use crate::quantize::{
    Axes, BlockSummary, Codes, Quantizer, ResidualCodes, RowCodes, are_widths, plain_widths,
    residual_block_bytes,
};

/// The largest dimension an index may have.
const MAX_DIM: u32 = 1 << 16;
/// The most edge slots per node.
const MAX_DEGREE: u32 = 1 << 12;
/// Bounds the JSON before it is parsed.
const MAX_METADATA_BYTES: u64 = 1 << 24;

/// An open generation file, or what one would hold in memory.
///
/// Opening checks the header, the section table, and that every section has the length that the
/// metadata asks for; it reads no vectors and no edges. Whoever walks the edges checks that they
/// lead to a node. [`super::verify()`] looks at the rest.
#[derive(Debug)]
pub struct Index {
    file: MappedFile,
    sections: Vec<Section>,
    metadata: Metadata,
    quantizer: Option<Quantizer>,
    /// Where the neighbors of each node start, in a file of version 1: its lists have all the same length.
    fixed_starts: Vec<u32>,
    /// Of the blocks of each region.
    largest_spreads: Vec<f32>,
    /// The bits for each axis of residual codes, where the file does not say: axes are those of the dimensions.
    plain_widths: Vec<u8>,
    /// Set once, and then read instead of the same sections of the file.
    pub(super) resident: OnceLock<ResidentSections>,
}

impl Index {
    /// Maps and checks the generation file at `path`.
    ///
    /// # Errors
    /// Each way in which a file can be foreign, of another version, truncated, or inconsistent has its
    /// own [`IndexError`].
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        Self::of(MappedFile::open(path).map_err(IndexError::io(path))?)
    }

    /// Copies and checks the bytes of a generation file that there is no file of; `name` stands in the place of its
    /// path.
    ///
    /// # Errors
    /// If there is not enough memory, or as [`Index::open`].
    pub fn in_memory(name: &Path, bytes: &[u8]) -> Result<Self, IndexError> {
        Self::of(MappedFile::in_memory(name, bytes).map_err(IndexError::io(name))?)
    }

    fn of(file: MappedFile) -> Result<Self, IndexError> {
        let sections = format::parse(file.path(), file.bytes())?;
        let metadata = read_metadata(file.path(), &file, &sections)?;
        let mut index = Self {
            file,
            sections,
            metadata,
            quantizer: None,
            fixed_starts: Vec::new(),
            largest_spreads: Vec::new(),
            plain_widths: Vec::new(),
            resident: OnceLock::new(),
        };
        index.check_counts()?;
        index.check_layer0()?;
        if index.metadata.codes != Codes::None {
            index.quantizer = index.metadata.codes.quantizer(index.cast(SectionKind::CodeLevels));
            let (regions, spreads) =
                (index.cast(SectionKind::BlockRegions), index.cast(SectionKind::ResidualSpreads));
            index.largest_spreads = BlockSummary::largest_spreads(regions, spreads);
            if index.find(SectionKind::ResidualWidths, 0).is_none() {
                index.plain_widths = plain_widths(index.dim());
            }
        }
        Ok(index)
    }

    /// The file this index is mapped from, or the name of one in memory.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The checksum of the section table, which holds the checksums of all sections: two generations that
    /// share it and their length are the same.
    pub fn table_crc32c(&self) -> u32 {
        format::table_crc32c(self.file.bytes())
    }

    /// The version of the byte layout that the file was written in.
    pub fn format_version(&self) -> u32 {
        format::version(self.file.bytes())
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.file.bytes().len() as u64
    }

    /// Brings every page into memory, those first that searches read most often.
    pub fn populate(&self) {
        let mut sections: Vec<&Section> = self.sections.iter().collect();
        sections.sort_by_key(|section| Heat::of(section.kind));
        sections.iter().for_each(|section| self.file.populate(section.range()));
    }

    /// Whether there is no file that this index is mapped from.
    pub fn is_in_memory(&self) -> bool {
        self.file.is_in_memory()
    }

    /// Gives back the pages of a section that is not read from the file any more.
    pub(super) fn release(&self, section: &Section) {
        self.file.release(section.range());
    }

    /// Sizes, types and origin.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The sections in file order.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Number of videos.
    pub fn len(&self) -> usize {
        self.metadata.rows as usize
    }

    /// Whether there is no video; an index that opens has at least one.
    pub fn is_empty(&self) -> bool {
        self.metadata.rows == 0
    }

    /// Components per embedding.
    pub fn dim(&self) -> usize {
        self.metadata.dim as usize
    }

    /// The embeddings, `[rows × dim]`, contiguous; normalized under cosine.
    pub fn vectors(&self) -> EmbeddingsView<'_> {
        match self.metadata.dtype {
            Dtype::F32 => {
                EmbeddingsView::F32(Rows::contiguous(self.cast::<f32>(SectionKind::Vectors), self.dim()))
            }
            Dtype::F16 => {
                EmbeddingsView::F16(Rows::contiguous(self.cast::<f16>(SectionKind::Vectors), self.dim()))
            }
        }
    }

    /// Whether a traversal finds anything: small parts have no edges, and are only scanned.
    pub fn has_graph(&self) -> bool {
        self.len() == 1 || !self.cast::<u32>(SectionKind::Layer0).is_empty()
    }

    /// The graph.
    pub fn graph(&self) -> GraphView<'_> {
        let m = self.metadata.m as usize;
        let mut nodes = self.cast::<u32>(SectionKind::UpperNodes);
        let mut edges = self.cast::<u32>(SectionKind::UpperEdges);
        let mut upper = Vec::with_capacity(self.metadata.upper_layers.len());
        for count in &self.metadata.upper_layers {
            let (layer_nodes, other_nodes) = nodes.split_at(*count as usize);
            let (layer_edges, other_edges) = edges.split_at(*count as usize * m);
            upper.push(UpperLayerView { m, nodes: layer_nodes, edges: layer_edges });
            (nodes, edges) = (other_nodes, other_edges);
        }
        GraphView {
            layer0: Lists::new(self.layer0_starts(), self.cast(SectionKind::Layer0)),
            upper,
            entry_point: NodeId(self.metadata.entry_point),
        }
    }

    fn layer0_starts(&self) -> &[u32] {
        if self.fixed_starts.is_empty() { self.cast(SectionKind::Layer0Starts) } else { &self.fixed_starts }
    }

    /// The codes of all rows; `None` if the index was built without codes.
    pub fn codes(&self) -> Option<RowCodes<'_>> {
        Some(RowCodes { rows: self.cast(SectionKind::Codes), quantizer: self.quantizer.as_ref()? })
    }

    /// The blocks that the nodes are in; `None` where there are no codes, or the build was before there were
    /// residual codes.
    pub fn blocks(&self) -> Option<Blocks<'_>> {
        // Their lengths are checked where there are codes.
        self.quantizer.as_ref()?;
        let blocks = Blocks {
            rows: self.len(),
            regions: self.cast(SectionKind::BlockRegions),
            means: self.cast(SectionKind::BlockMeans),
            spreads: self.cast(SectionKind::ResidualSpreads),
            largest_spreads: &self.largest_spreads,
            codes: ResidualCodes {
                axes: self.axes(),
                deviations: self.cast(SectionKind::ResidualDeviations),
                widths: self.residual_widths(),
            },
            row_residuals: self.cast(SectionKind::RowResiduals),
        };
        (!blocks.codes.deviations.is_empty()).then_some(blocks)
    }

    /// The axes of residual codes; `None` where they are those of the dimensions.
    pub(super) fn axes(&self) -> Option<Axes<'_>> {
        let axes =
            Axes { of_rows: self.cast(SectionKind::RowAxes), of_queries: self.cast(SectionKind::QueryAxes) };
        (!axes.of_queries.is_empty()).then_some(axes)
    }

    /// The bits of residual codes for each axis.
    pub(super) fn residual_widths(&self) -> &[u8] {
        if self.plain_widths.is_empty() { self.cast(SectionKind::ResidualWidths) } else { &self.plain_widths }
    }

    /// Users of the training sample that taught the graph nothing, `[count × dim]`; `None` where the build
    /// kept none.
    pub fn held_out_queries(&self) -> Option<EmbeddingsView<'_>> {
        self.queries(SectionKind::HeldOutQueries)
    }

    /// Some users of the training sample that taught the graph, `[count × dim]`; `None` where the build kept none.
    pub fn training_queries(&self) -> Option<EmbeddingsView<'_>> {
        self.queries(SectionKind::TrainingQueries)
    }

    fn queries(&self, kind: SectionKind) -> Option<EmbeddingsView<'_>> {
        let queries = self.cast::<f32>(kind);
        (!queries.is_empty()).then(|| EmbeddingsView::F32(Rows::contiguous(queries, self.dim())))
    }

    /// Node to video id, `[rows]`.
    pub fn video_ids(&self) -> &[VideoId] {
        self.cast(SectionKind::VideoIds)
    }

    /// Microseconds since 1970, `[rows]`: from when on each video is no candidate any more, `i64::MAX` for never;
    /// `None` where none expires.
    pub fn expiries(&self) -> Option<&[i64]> {
        Some(self.cast(SectionKind::Expiries)).filter(|expiries: &&[i64]| !expiries.is_empty())
    }

    /// The row of the input that became `node`.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn input_row(&self, node: NodeId) -> u32 {
        assert!(node.index() < self.len(), "no such node");
        self.cast(SectionKind::InputRows).get(node.index()).copied().unwrap_or(node.0)
    }

    /// The section of this kind and column cast to `T`; empty where there is none.
    pub(crate) fn column<T: Pod>(&self, kind: SectionKind, ordinal: u32) -> &[T] {
        self.find(kind, ordinal).map_or(&[], |section| bytemuck::cast_slice(self.section_bytes(section)))
    }

    /// Refuses a section that is not there or not of the length expected.
    pub(crate) fn expect_bytes(
        &self,
        kind: SectionKind,
        ordinal: u32,
        expected: u64,
    ) -> Result<(), IndexError> {
        let section = section_label(kind, ordinal);
        let path = self.path().to_owned();
        match self.find(kind, ordinal) {
            None => Err(IndexError::MissingSection { path, section }),
            Some(found) if found.bytes != expected => {
                Err(IndexError::WrongSectionLength { path, section, expected, found: found.bytes })
            }
            Some(_) => Ok(()),
        }
    }

    /// Length of a section whose length does not follow from the metadata.
    pub(crate) fn section_length(&self, kind: SectionKind, ordinal: u32) -> Result<u64, IndexError> {
        self.find(kind, ordinal).map(|section| section.bytes).ok_or_else(|| IndexError::MissingSection {
            path: self.path().to_owned(),
            section: section_label(kind, ordinal),
        })
    }

    pub(super) fn section_bytes(&self, section: &Section) -> &[u8] {
        let copied = self.resident.get().and_then(|copied| copied.bytes_of(section));
        copied.unwrap_or_else(|| &self.file.bytes()[section.range()])
    }

    pub(super) fn file_bytes(&self) -> &[u8] {
        self.file.bytes()
    }

    fn find(&self, kind: SectionKind, ordinal: u32) -> Option<&Section> {
        let at =
            self.sections.binary_search_by_key(&(kind, ordinal), |section| (section.kind, section.ordinal));
        at.ok().map(|at| &self.sections[at])
    }

    fn cast<T: Pod>(&self, kind: SectionKind) -> &[T] {
        self.column(kind, 0)
    }

    fn check_counts(&self) -> Result<(), IndexError> {
        let facts = &self.metadata;
        let rows = u64::from(facts.rows);
        let upper: u64 = facts.upper_layers.iter().map(|count| u64::from(*count)).sum();
        let vector_bytes = rows * u64::from(facts.dim) * facts.dtype.bytes() as u64;
        self.expect_bytes(SectionKind::Vectors, 0, vector_bytes)?;
        self.expect_bytes(SectionKind::VideoIds, 0, rows * 8)?;
        self.expect_bytes(SectionKind::NodesById, 0, rows * 4)?;
        self.expect_bytes(SectionKind::UpperNodes, 0, upper * 4)?;
        self.expect_bytes(SectionKind::UpperEdges, 0, upper * u64::from(facts.m) * 4)?;
        if self.find(SectionKind::InputRows, 0).is_some() {
            self.expect_bytes(SectionKind::InputRows, 0, rows * 4)?;
        }
        if self.find(SectionKind::Expiries, 0).is_some() {
            self.expect_bytes(SectionKind::Expiries, 0, rows * 8)?;
        }
        if facts.codes != Codes::None {
            if !facts.codes.serves(facts.metric) {
                let (metric, codes) = (facts.metric, facts.codes.name());
                let problem = format!("codes: expected none under metric {metric}, found {codes}");
                return Err(IndexError::BadMetadata { path: self.path().to_owned(), problem });
            }
            self.expect_bytes(SectionKind::Codes, 0, rows * facts.codes.stride(self.dim()) as u64)?;
            let levels = facts.codes.parameter_count(self.dim()) * size_of::<f32>();
            self.expect_bytes(SectionKind::CodeLevels, 0, levels as u64)?;
            self.check_block_counts()?;
        }
        let queries = [
            (SectionKind::HeldOutQueries, facts.held_out_queries),
            (SectionKind::TrainingQueries, facts.training_queries),
        ];
        for (kind, count) in queries {
            if count > 0 || self.find(kind, 0).is_some() {
                self.expect_bytes(kind, 0, u64::from(count) * u64::from(facts.dim) * 4)?;
            }
        }
        Ok(())
    }

    /// Where regions begin and end is looked at when an index is opened: one that does not fit is not scanned.
    fn check_block_counts(&self) -> Result<(), IndexError> {
        let Some(regions) = self.find(SectionKind::BlockRegions, 0) else {
            return match self.find(SectionKind::ResidualDeviations, 0) {
                Some(_) => self.section_length(SectionKind::BlockRegions, 0).map(drop),
                None => Ok(()),
            };
        };
        let starts = (regions.bytes / 4).max(1);
        self.expect_bytes(SectionKind::BlockRegions, 0, starts * 4)?;
        let blocks = BlockSummary::blocks(self.len());
        let summaries = blocks as u64 + starts - 1;
        self.expect_bytes(
            SectionKind::BlockMeans,
            0,
            summaries * self.metadata.codes.stride(self.dim()) as u64,
        )?;
        if self.find(SectionKind::ResidualDeviations, 0).is_none() {
            return Ok(());
        }
        let plain;
        let widths = if let Some(section) = self.find(SectionKind::ResidualWidths, 0) {
            // As many axes as it says: at least one, and no more than dimensions.
            let axes = section.bytes.clamp(1, self.dim() as u64);
            self.expect_bytes(SectionKind::ResidualWidths, 0, axes)?;
            for kind in [SectionKind::RowAxes, SectionKind::QueryAxes] {
                self.expect_bytes(kind, 0, axes.saturating_mul(self.dim() as u64 * 4))?;
            }
            self.cast(SectionKind::ResidualWidths)
        } else {
            for kind in [SectionKind::RowAxes, SectionKind::QueryAxes] {
                if self.find(kind, 0).is_some() {
                    self.section_length(SectionKind::ResidualWidths, 0)?;
                }
            }
            plain = plain_widths(self.dim());
            &plain
        };
        if !are_widths(widths) {
            let problem = "expected 4, 2, 1 or 0, and never more than before".to_owned();
            return Err(IndexError::bad_entry(self.path(), SectionKind::ResidualWidths, 0, problem));
        }
        let (axes, block_bytes) = (widths.len() as u64, residual_block_bytes(widths) as u64);
        self.expect_bytes(SectionKind::ResidualSpreads, 0, summaries * 4)?;
        self.expect_bytes(SectionKind::ResidualDeviations, 0, axes * 4)?;
        self.expect_bytes(SectionKind::RowResiduals, 0, blocks as u64 * block_bytes)
    }

    /// The lengths of layer 0, and that the search starts on the topmost layer. Where a list starts and
    /// ends is looked at when it is walked: one that does not fit is empty.
    fn check_layer0(&mut self) -> Result<(), IndexError> {
        let facts = &self.metadata;
        let rows = u64::from(facts.rows);
        if self.find(SectionKind::Layer0Starts, 0).is_some() {
            self.expect_bytes(SectionKind::Layer0Starts, 0, (rows + 1) * 4)?;
            let found = self.section_length(SectionKind::Layer0, 0)?;
            self.expect_bytes(SectionKind::Layer0, 0, found / 4 * 4)?;
        } else {
            self.expect_bytes(SectionKind::Layer0, 0, rows * u64::from(facts.m0) * 4)?;
            let starts = (0..=rows).map(|row| u32::try_from(row * u64::from(facts.m0)));
            self.fixed_starts = starts.collect::<Result<_, _>>().map_err(|_| {
                let problem = format!("m0: expected fewer than 2^32 edges in all, found {}", facts.m0);
                IndexError::BadMetadata { path: self.path().to_owned(), problem }
            })?;
        }
        let facts = &self.metadata;
        if let Some(top) = self.graph().upper.last()
            && top.slot_of(facts.entry_point).is_none()
        {
            let problem =
                format!("entry_point: expected a node of the topmost layer, found {}", facts.entry_point);
            return Err(IndexError::BadMetadata { path: self.path().to_owned(), problem });
        }
        Ok(())
    }
}

fn read_metadata(path: &Path, file: &MappedFile, sections: &[Section]) -> Result<Metadata, IndexError> {
    let bad = |problem: String| IndexError::BadMetadata { path: path.to_owned(), problem };
    let Some(section) = sections.iter().find(|section| section.kind == SectionKind::Metadata) else {
        return Err(IndexError::MissingSection {
            path: path.to_owned(),
            section: SectionKind::Metadata.to_string(),
        });
    };
    if section.bytes > MAX_METADATA_BYTES {
        return Err(bad(format!("expected at most {MAX_METADATA_BYTES} bytes, found {}", section.bytes)));
    }
    let bytes = &file.bytes()[section.range()];
    let found = crc32c::crc32c(bytes);
    if found != section.crc32c {
        return Err(IndexError::DamagedSection {
            path: path.to_owned(),
            section: section.label(),
            expected: section.crc32c,
            found,
        });
    }
    let facts: Metadata = serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
    let within = |field: &str, value: u32, low: u32, high: u32| {
        if (low..=high).contains(&value) {
            Ok(())
        } else {
            Err(bad(format!("{field}: expected {low} to {high}, found {value}")))
        }
    };
    within("rows", facts.rows, 1, NodeId::MAX_NODES as u32)?;
    within("dim", facts.dim, 1, MAX_DIM)?;
    within("m", facts.m, 1, MAX_DEGREE)?;
    within("m0", facts.m0, 1, MAX_DEGREE)?;
    within("entry_point", facts.entry_point, 0, facts.rows - 1)?;
    for count in &facts.upper_layers {
        within("upper_layers", *count, 1, facts.rows)?;
    }
    Ok(facts)
}
