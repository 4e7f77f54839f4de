//! An open generation: mapped, checked, and read through typed accessors.

use std::path::Path;

use bytemuck::Pod;
use half::f16;

use super::error::IndexError;
use super::format;
use super::mapped_sections::{CheckedUpTo, MappedSections};
use super::metadata::Metadata;
use super::opening::{check_lengths, fixed_starts, read_metadata};
use super::resident::{MemoryMode, Residence};
use super::section::{Section, SectionKind};
use crate::base::element::Dtype;
use crate::base::file_identity::Displaced;
use crate::base::id::{NodeId, VideoId};
use crate::base::mapped_file::MappedFile;
use crate::base::metric::Metric;
use crate::dataset::{EmbeddingsView, Rows};
use crate::graph::{Blocks, GraphView, Landmarks, Lists, UpperLayerView};
use crate::quantize::{Axes, BlockSummary, Codes, Quantizer, ResidualCodes, RowCodes, plain_widths};

/// An open generation file, or the bytes of one in memory.
///
/// Opening checks the header, the section table, the metadata, and that every section has the length that follows from
/// the metadata. It reads no vectors and no edges: a traversal checks that each edge leads to a node, and
/// [`super::verify()`] checks everything else.
#[derive(Debug)]
pub struct Index {
    sections: MappedSections,
    metadata: Metadata,
    quantizer: Option<Quantizer>,
    /// The start of each list of layer 0 in a file of version 1, whose lists all have the same length; empty otherwise.
    fixed_starts: Vec<u32>,
    /// The quantizer of the landmarks, and the half norm of each under L2.
    landmarks: Option<(Quantizer, Vec<f32>)>,
    /// The largest spread among the blocks of each region.
    largest_spreads: Vec<f32>,
    /// The bits per axis of residual codes in a file without [`SectionKind::ResidualWidths`], whose axes are the
    /// dimensions; empty otherwise.
    plain_widths: Vec<u8>,
}

impl Index {
    /// Maps and checks the generation file at `path`.
    ///
    /// # Errors
    /// An [`IndexError`] for each way in which the file can be foreign, of an unsupported version, truncated or
    /// inconsistent.
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        Self::of(MappedFile::open(path).map_err(IndexError::io(path))?)
    }

    /// Copies and checks the bytes of a generation file. `name` takes the place of its path.
    ///
    /// # Errors
    /// If there is not enough memory, or as [`Index::open`].
    pub fn in_memory(name: &Path, bytes: &[u8]) -> Result<Self, IndexError> {
        Self::of(MappedFile::in_memory(name, bytes).map_err(IndexError::io(name))?)
    }

    fn of(file: MappedFile) -> Result<Self, IndexError> {
        let sections = MappedSections::new(file)?;
        let metadata = read_metadata(&sections)?;
        check_lengths(&sections, &metadata)?;
        let mut index = Self {
            fixed_starts: fixed_starts(&sections, &metadata)?,
            sections,
            metadata,
            quantizer: None,
            landmarks: None,
            largest_spreads: Vec::new(),
            plain_widths: Vec::new(),
        };
        index.check_entry_point()?;
        if index.metadata.landmarks > 0 {
            let levels = index.cast(SectionKind::LandmarkLevels);
            let quantizer = Codes::Sq8.quantizer(levels, index.metadata.metric);
            index.landmarks = quantizer.map(|quantizer| {
                let half_norms = quantizer.half_norms(index.cast(SectionKind::LandmarkCodes));
                (quantizer, half_norms)
            });
        }
        if index.metadata.codes != Codes::None {
            index.quantizer = {
                let facts = &index.metadata;
                facts.codes.quantizer(index.cast(SectionKind::CodeLevels), facts.metric)
            };
            let (regions, spreads) =
                (index.cast(SectionKind::BlockRegions), index.cast(SectionKind::ResidualSpreads));
            index.largest_spreads = BlockSummary::largest_spreads(regions, spreads);
            if !index.sections.has(SectionKind::ResidualWidths) {
                index.plain_widths = plain_widths(index.dim());
            }
        }
        Ok(index)
    }

    /// The path of the file, or the name of an index in memory.
    pub fn path(&self) -> &Path {
        self.sections.path()
    }

    /// Checks that the path still leads to the file that was opened.
    ///
    /// # Errors
    /// [`Displaced`]; never for an index in memory.
    pub fn check_in_place(&self) -> Result<(), Displaced> {
        self.sections.stamp().map_or(Ok(()), |stamp| stamp.check(self.path()))
    }

    /// Whether a part of the file was lost after it was opened, because it was truncated or its disk failed. What was read
    /// from it before may be zeros.
    pub fn is_damaged(&self) -> bool {
        self.sections.is_damaged()
    }

    /// Maps the file of this index again: the same generation, without a copy in memory.
    ///
    /// # Errors
    /// If the path does not lead to the file that was opened, or its section table has changed, or as [`Index::open`].
    /// Always for an index in memory.
    pub fn reopen(&self) -> Result<Self, IndexError> {
        let fresh = Self::open(self.path())?;
        self.check_in_place()?;
        let path = || self.path().to_owned();
        if fresh.sections.stamp() != self.sections.stamp() {
            return Err(Displaced::Replaced { path: path() }.into());
        }
        if fresh.sections() != self.sections() {
            return Err(Displaced::Changed { path: path() }.into());
        }
        Ok(fresh)
    }

    /// The checksum of the section table, which contains the checksums of all sections: two generations with the same
    /// table checksum and the same length are the same.
    pub fn table_crc32c(&self) -> u32 {
        format::table_crc32c(self.sections.file_bytes())
    }

    /// The version of the byte layout that the file was written in.
    pub fn format_version(&self) -> u32 {
        format::version(self.sections.file_bytes())
    }

    /// Length of the file in bytes.
    pub fn bytes(&self) -> u64 {
        self.sections.file_bytes().len() as u64
    }

    /// Reads all pages into memory, the sections that searches read most often first.
    pub fn populate(&self) {
        self.sections.populate();
    }

    /// Compares checksums of sections from `up_to` on, about `bytes` bytes of them. Returns true if that was the end of the
    /// file, after which it starts again.
    ///
    /// # Errors
    /// [`IndexError::DamagedSection`] for the first difference; the next call continues after it.
    pub fn check_next(&self, up_to: &mut CheckedUpTo, bytes: usize) -> Result<bool, IndexError> {
        self.sections.check_next(up_to, bytes)
    }

    /// Whether the index is only in memory, without a file.
    pub fn is_in_memory(&self) -> bool {
        self.sections.is_in_memory()
    }

    /// Copies the sections that searches read into memory of this process, on huge pages if the system has them, and
    /// releases their pages of the map. Searches continue during the copy: they read the map until the copy is complete
    /// and its checksums are verified, and the copy after that. Does nothing for an index that is in memory already.
    ///
    /// # Errors
    /// If there is not enough memory or a checksum differs; then the map stays in use.
    pub fn make_resident(&self) -> Result<Residence, IndexError> {
        self.sections.make_resident()
    }

    /// Bytes of the sections that searches read, which [`Index::make_resident`] copies.
    pub fn hot_bytes(&self) -> u64 {
        self.sections.hot_bytes()
    }

    /// The memory that the hot sections are read from.
    pub fn memory(&self) -> MemoryMode {
        self.sections.memory()
    }

    /// Compares the checksum of every section, and checks that all bytes between sections are zero.
    ///
    /// # Errors
    /// [`IndexError::DamagedSection`] or [`IndexError::DamagedPadding`] for the first difference.
    pub fn check_checksums(&self) -> Result<(), IndexError> {
        self.sections.check_checksums()
    }

    /// Sizes, types and origin.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The sections in file order.
    pub fn sections(&self) -> &[Section] {
        self.sections.table()
    }

    /// Number of videos.
    pub fn len(&self) -> usize {
        self.metadata.rows as usize
    }

    /// Whether the index has no video. Never true: opening requires at least one.
    pub fn is_empty(&self) -> bool {
        self.metadata.rows == 0
    }

    /// Components per embedding.
    pub fn dim(&self) -> usize {
        self.metadata.dim as usize
    }

    /// The embeddings, `[rows × dim]`, contiguous; of norm 1 under cosine.
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

    /// Whether the index can be traversed. Small segments have no edges and are only scanned.
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
            has_copies: self.metadata.has_crowds(),
            most_copied: &self.metadata.most_copied,
            landmarks: self.landmarks(),
        }
    }

    /// Where traversals start; `None` in a small index and in a file older than version 11.
    pub fn landmarks(&self) -> Option<Landmarks<'_>> {
        let (quantizer, half_norms) = self.landmarks.as_ref()?;
        Some(Landmarks {
            quantizer,
            codes: self.cast(SectionKind::LandmarkCodes),
            half_norms,
            nodes: self.cast(SectionKind::LandmarkNodes),
        })
    }

    fn layer0_starts(&self) -> &[u32] {
        if self.fixed_starts.is_empty() { self.cast(SectionKind::Layer0Starts) } else { &self.fixed_starts }
    }

    /// The codes of all rows; `None` if the index was built without codes.
    pub fn codes(&self) -> Option<RowCodes<'_>> {
        let quantizer = self.quantizer.as_ref()?;
        Some(RowCodes {
            rows: self.cast(SectionKind::Codes),
            half_norms: match self.metadata.metric {
                Metric::L2 => self.cast(SectionKind::CodeHalfNorms),
                Metric::InnerProduct | Metric::Cosine => &[],
            },
            represented: self.represented(),
            quantizer,
        })
    }

    /// The fine codes of all rows, `[rows × stride]`, with which searches score instead of with the embeddings; `None` if the
    /// index has none.
    pub fn fine_codes(&self) -> Option<&[u8]> {
        self.quantizer.as_ref().filter(|_| self.metadata.metric != Metric::L2)?;
        Some(self.cast(SectionKind::FineCodes)).filter(|fine: &&[u8]| !fine.is_empty())
    }

    /// The number of nodes that their codes represent: all but the last ones.
    pub(super) fn represented(&self) -> usize {
        (self.metadata.rows - self.metadata.unrepresented) as usize
    }

    /// The blocks of nodes with their residual codes; `None` if the index has no codes, is of a format version without
    /// residual codes, or compares by L2: a distance is no function of the residual alone.
    pub fn blocks(&self) -> Option<Blocks<'_>> {
        // Only in an index with codes are the lengths of these sections checked.
        self.quantizer.as_ref().filter(|_| self.metadata.metric != Metric::L2)?;
        let blocks = Blocks {
            rows: self.represented(),
            nodes: self.len(),
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

    /// The axes of residual codes; `None` if they are the dimensions.
    pub(super) fn axes(&self) -> Option<Axes<'_>> {
        let axes =
            Axes { of_rows: self.cast(SectionKind::RowAxes), of_queries: self.cast(SectionKind::QueryAxes) };
        (!axes.of_queries.is_empty()).then_some(axes)
    }

    /// The bits of residual codes per axis.
    pub(super) fn residual_widths(&self) -> &[u8] {
        if self.plain_widths.is_empty() { self.cast(SectionKind::ResidualWidths) } else { &self.plain_widths }
    }

    /// Users of the training sample that did not teach the graph, `[count × dim]`; `None` if the build kept none.
    pub fn held_out_queries(&self) -> Option<EmbeddingsView<'_>> {
        self.queries(SectionKind::HeldOutQueries)
    }

    /// Some users of the training sample that taught the graph, `[count × dim]`; `None` if the build kept none.
    pub fn training_queries(&self) -> Option<EmbeddingsView<'_>> {
        self.queries(SectionKind::TrainingQueries)
    }

    fn queries(&self, kind: SectionKind) -> Option<EmbeddingsView<'_>> {
        let queries = self.cast::<f32>(kind);
        (!queries.is_empty()).then(|| EmbeddingsView::F32(Rows::contiguous(queries, self.dim())))
    }

    /// The video id of each node, `[rows]`.
    pub fn video_ids(&self) -> &[VideoId] {
        self.cast(SectionKind::VideoIds)
    }

    /// The time from which each video is no longer a candidate, `[rows]`, in microseconds since 1970; `i64::MAX` means
    /// never. `None` if no video expires.
    pub fn expiries(&self) -> Option<&[i64]> {
        Some(self.cast(SectionKind::Expiries)).filter(|expiries: &&[i64]| !expiries.is_empty())
    }

    /// The input row of `node`.
    ///
    /// # Panics
    /// If `node` is not below [`Index::len`].
    pub fn input_row(&self, node: NodeId) -> u32 {
        assert!(node.index() < self.len(), "no such node");
        self.cast(SectionKind::InputRows).get(node.index()).copied().unwrap_or(node.0)
    }

    /// The section of this kind and column cast to `T`; empty if there is no such section.
    pub(crate) fn column<T: Pod>(&self, kind: SectionKind, ordinal: u32) -> &[T] {
        self.sections.cast(kind, ordinal)
    }

    /// Checks that a section is there and has `expected` bytes.
    pub(crate) fn expect_bytes(
        &self,
        kind: SectionKind,
        ordinal: u32,
        expected: u64,
    ) -> Result<(), IndexError> {
        self.sections.expect_bytes(kind, ordinal, expected)
    }

    /// Length in bytes of a section whose length does not follow from the metadata.
    pub(crate) fn section_length(&self, kind: SectionKind, ordinal: u32) -> Result<u64, IndexError> {
        self.sections.length(kind, ordinal)
    }

    fn cast<T: Pod>(&self, kind: SectionKind) -> &[T] {
        self.sections.cast(kind, 0)
    }

    /// Checks that a search starts on the topmost layer.
    fn check_entry_point(&self) -> Result<(), IndexError> {
        let entry_point = self.metadata.entry_point;
        match self.graph().upper.last() {
            Some(top) if top.slot_of(entry_point).is_none() => {
                let problem =
                    format!("entry_point: expected a node of the topmost layer, found {entry_point}");
                Err(IndexError::BadMetadata { path: self.path().to_owned(), problem })
            }
            _ => Ok(()),
        }
    }
}
