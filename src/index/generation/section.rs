//! The table of section kinds: one row per kind, which the writer, the view, verification and residency read.

use std::fmt;
use std::ops::Range;

use super::metadata::Metadata;
use crate::base::metric::Metric;
use crate::graph::NODES_PER_LANDMARK;
use crate::quantize::Codes;

/// The contents of a section. The numbers are stored in files and never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum SectionKind {
    /// JSON: [`Metadata`].
    Metadata = 1,
    /// `[rows × dim]` components, row-major, f32 or f16.
    Vectors = 2,
    /// `[rows]` u64: the video id of each node.
    VideoIds = 3,
    /// `[rows]` u32: nodes by ascending video id.
    NodesById = 4,
    /// u32: the neighbors of each node, one list after another; in version 1 `[rows × m0]`.
    Layer0 = 5,
    /// u32: nodes of the upper layers, layer 1 first, ascending within a layer.
    UpperNodes = 6,
    /// `[upper nodes × m]` u32: the neighbors of each upper node, as slots of the same layer.
    UpperEdges = 7,
    /// `[rows × stride]` u8: the 8-bit codes of the embeddings, each row a whole number of cache lines.
    Codes = 8,
    /// `[2 × dim]` f32: the lowest level of each dimension, then the distance between its levels; under L2 `[3 × dim]`, then
    /// the point that half norms are measured from.
    CodeLevels = 9,
    /// `[count × dim]` f32: users of the training sample that did not teach the graph, to measure recall with.
    HeldOutQueries = 10,
    /// `[rows]` u32: the input row of each node. Absent if both numbers are the same for all nodes.
    InputRows = 11,
    /// `[rows + 1]` u32: where the neighbors of each node start in `layer0`.
    Layer0Starts = 12,
    /// `[(blocks + regions) × stride]` u8: the code of the mean of each block of 64 nodes, then of each region of
    /// blocks.
    BlockMeans = 13,
    /// `[blocks + regions]` f32. Only in version 3, and no longer read.
    BlockSpreads = 14,
    /// `[regions + 1]` u32: the first block of each region, then the number of blocks.
    BlockRegions = 15,
    /// One bit per row, least significant first: set if the attribute has a value.
    AttributeValidity = 16,
    /// One value per row (8 bytes), dictionary code per row or list item (u32), or bool per row (u8).
    AttributeValues = 17,
    /// `[rows + 1]` u64: where the list of each row starts among the values.
    AttributeLists = 18,
    /// `[words + 1]` u64: where each dictionary word starts.
    AttributeWordOffsets = 19,
    /// UTF-8: the dictionary words, ascending.
    AttributeWords = 20,
    /// The nodes of each dictionary word, or of false and then true for a bool, one posting after another. A posting is
    /// a portable 32-bit Roaring bitmap or, from version 7 on, `MASK` followed by one entry per block of 64 nodes that
    /// has a node in it: the block number (u32) and one bit per node (u64, least significant first).
    AttributePostings = 21,
    /// `[words + 1]` u64: where the posting of each word starts. A bool has 2 words.
    AttributePostingOffsets = 22,
    /// u32: nodes with a number or time, ascending by value and then by node, without those whose value is NaN.
    AttributeOrder = 23,
    /// `[marks × rows / 32, rounded up]` u32, with 64 marks or, before version 7, 32: bit n of mark j, least
    /// significant first, is set if node n is among the first (j + 1) · nodes / marks of the order.
    AttributeMarks = 24,
    /// `[blocks + regions]` f32: the root mean square, per axis, of the differences of the rows of a block (or of the
    /// means of the blocks of a region) from its mean.
    ResidualSpreads = 25,
    /// `[axes]` f32: the deviation of the rows of a block along each axis, as a multiple of the spread.
    ResidualDeviations = 26,
    /// `[blocks / 64, rounded up, × residual block]` u8. Only in versions 4 to 7, and no longer read.
    MeanResiduals = 27,
    /// `[blocks × residual block]` u8: the residual codes of the rows.
    RowResiduals = 28,
    /// `[slots]` u32, `slots` a power of two: a hash table from dictionary word to its code. A slot holds the code + 1,
    /// or 0 if it is empty; a word is stored at or near the slot that its hash names.
    AttributeWordSlots = 29,
    /// `[rows]` i64: the time, in microseconds since 1970, from which a video is no longer a candidate; the largest
    /// value means never. Absent if no video expires.
    Expiries = 30,
    /// `[count × dim]` f32: some users of the training sample that taught the graph, kept to teach the next build.
    TrainingQueries = 31,
    /// `[axes]` u8: the bits of residual codes per axis: 4, 2, 1 or 0, never ascending. Absent if the axes are the
    /// dimensions, with 2 bits each.
    ResidualWidths = 32,
    /// `[axes × dim]` f32: the vectors that a row is multiplied with to get its components along the axes. Absent
    /// together with the widths.
    RowAxes = 33,
    /// `[axes × dim]` f32: the vectors that a query is multiplied with to get its components along the axes. Absent
    /// together with the widths.
    QueryAxes = 34,
    /// `[rows]` f32: half of the squared distance of the row that each code represents from the point that code levels
    /// end with. Only under L2.
    CodeHalfNorms = 35,
    /// `[landmarks × stride]` u8: 8-bit codes of the landmarks, which traversals start near.
    LandmarkCodes = 36,
    /// The levels of these codes, as [`Self::CodeLevels`].
    LandmarkLevels = 37,
    /// `[landmarks × 4]` u32: the best nodes of each landmark, best first.
    LandmarkNodes = 38,
    /// `[rows × stride]` u8: what the 8-bit codes round off, in 8 more bits per component. With it, searches do not read the
    /// embeddings. Never under L2.
    FineCodes = 39,
    /// `[rows × columns]` u8, row-major: the level of each number or time of each node, 0 without one; of the columns of numbers and
    /// times, in their order. All levels of a node are in one or few cache lines.
    Levels = 40,
    /// `[levels]` f64, at most 256: the value of each level, ascending; NaN for level 0. Times are in microseconds since 1970.
    AttributeLevelValues = 41,
}

/// The type of the elements of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    /// Bytes of a JSON document.
    Json,
    /// Bytes of UTF-8 text.
    Utf8,
    /// Unsigned bytes, codes, or bits.
    U8,
    /// Unsigned 32-bit.
    U32,
    /// Unsigned 64-bit.
    U64,
    /// Signed 64-bit.
    I64,
    /// Single precision.
    F32,
    /// Double precision.
    F64,
    /// The component type of the embeddings: [`Metadata::dtype`].
    Component,
    /// Depends on the attribute column: 1, 4 or 8 bytes.
    AttributeValue,
}

impl ElementType {
    /// Bytes of one element, or `None` if that depends on the attribute column.
    pub fn bytes(self, metadata: &Metadata) -> Option<u64> {
        Some(match self {
            ElementType::Json | ElementType::Utf8 | ElementType::U8 => 1,
            ElementType::U32 | ElementType::F32 => 4,
            ElementType::U64 | ElementType::I64 | ElementType::F64 => 8,
            ElementType::Component => metadata.dtype.bytes() as u64,
            ElementType::AttributeValue => return None,
        })
    }

    /// Whether an element can have this number of bytes, for some metadata and column.
    pub(super) fn can_have(self, bytes: usize) -> bool {
        match self {
            ElementType::Json | ElementType::Utf8 | ElementType::U8 => bytes == 1,
            ElementType::U32 | ElementType::F32 => bytes == 4,
            ElementType::U64 | ElementType::I64 | ElementType::F64 => bytes == 8,
            ElementType::Component => [2, 4].contains(&bytes),
            ElementType::AttributeValue => [1, 4, 8].contains(&bytes),
        }
    }
}

/// How many elements a section has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// The section is there and has this many elements.
    Exactly(u64),
    /// The section is absent or has this many elements.
    AbsentOr(u64),
    /// The metadata does not say: the length follows from another section or from the attribute column, and the
    /// reader of that checks it, or the section is not read at all.
    Unspecified,
}

/// How often a search reads a section, most often first. The hot sections are read ahead first, and are copied into
/// memory of the process in [`MemoryMode::Resident`](super::MemoryMode::Resident).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Heat {
    /// In every step of a traversal.
    Step,
    /// For every candidate that is rescored and every hit; in every step of an index without codes.
    Candidate,
    /// Only on demand.
    Cold,
}

/// One row of [`SECTIONS`].
#[derive(Clone, Copy, Debug)]
pub struct SectionSpec {
    /// The kind, whose number is stored in files.
    pub kind: SectionKind,
    /// The name in errors and in `inspect`.
    pub name: &'static str,
    /// The type of its elements.
    pub element: ElementType,
    /// How many elements it has.
    pub length: fn(&Metadata) -> Length,
    /// Whether there is one section per attribute column; otherwise there is at most one, with ordinal 0.
    pub per_column: bool,
    /// How often a search reads it.
    pub heat: Heat,
    /// The first format version that has it.
    pub since: u32,
    /// The last format version that has it; `None` if the current one does.
    pub until: Option<u32>,
}

impl SectionSpec {
    /// A section of the index as a whole, cold, in every format version: what most rows start from.
    const fn new(
        kind: SectionKind,
        name: &'static str,
        element: ElementType,
        length: fn(&Metadata) -> Length,
    ) -> Self {
        Self { kind, name, element, length, per_column: false, heat: Heat::Cold, since: 1, until: None }
    }

    /// A section of one attribute column; [`crate::attributes`] checks its length.
    const fn of_column(kind: SectionKind, name: &'static str, element: ElementType) -> Self {
        Self { per_column: true, ..Self::new(kind, name, element, unspecified) }
    }

    const fn heat(self, heat: Heat) -> Self {
        Self { heat, ..self }
    }

    const fn since(self, since: u32) -> Self {
        Self { since, ..self }
    }

    const fn until(self, until: u32) -> Self {
        Self { until: Some(until), ..self }
    }
}

/// Every section kind, in the order of their numbers, which is also their order in a file.
#[rustfmt::skip]
pub static SECTIONS: [SectionSpec; 41] = {
    use ElementType::{AttributeValue, Component, F32, F64, I64, Json, U8, U32, U64, Utf8};
    use Heat::{Candidate, Step};
    use SectionKind as Kind;
    use SectionSpec as Spec;
    [
        Spec::new(Kind::Metadata, "metadata", Json, unspecified),
        Spec::new(Kind::Vectors, "vectors", Component, vectors).heat(Candidate),
        Spec::new(Kind::VideoIds, "video_ids", U64, one_per_row).heat(Candidate),
        Spec::new(Kind::NodesById, "nodes_by_id", U32, one_per_row),
        Spec::new(Kind::Layer0, "layer0", U32, unspecified).heat(Step),
        Spec::new(Kind::UpperNodes, "upper_nodes", U32, upper_nodes).heat(Step),
        Spec::new(Kind::UpperEdges, "upper_edges", U32, upper_edges).heat(Step),
        Spec::new(Kind::Codes, "codes", U8, codes).heat(Step),
        Spec::new(Kind::CodeLevels, "code_levels", F32, code_levels),
        Spec::new(Kind::HeldOutQueries, "held_out_queries", F32, held_out_queries),
        Spec::new(Kind::InputRows, "input_rows", U32, none_or_one_per_row).since(2),
        Spec::new(Kind::Layer0Starts, "layer0_starts", U32, layer0_starts).heat(Step).since(2),
        Spec::new(Kind::BlockMeans, "block_means", U8, unspecified).heat(Candidate).since(3),
        Spec::new(Kind::BlockSpreads, "block_spreads", F32, unspecified).since(3).until(3),
        Spec::new(Kind::BlockRegions, "block_regions", U32, unspecified).heat(Candidate).since(3),
        Spec::of_column(Kind::AttributeValidity, "attribute_validity", U8),
        Spec::of_column(Kind::AttributeValues, "attribute_values", AttributeValue),
        Spec::of_column(Kind::AttributeLists, "attribute_lists", U64),
        Spec::of_column(Kind::AttributeWordOffsets, "attribute_word_offsets", U64),
        Spec::of_column(Kind::AttributeWords, "attribute_words", Utf8),
        Spec::of_column(Kind::AttributePostings, "attribute_postings", U8).since(3),
        Spec::of_column(Kind::AttributePostingOffsets, "attribute_posting_offsets", U64).since(3),
        Spec::of_column(Kind::AttributeOrder, "attribute_order", U32).since(3),
        Spec::of_column(Kind::AttributeMarks, "attribute_marks", U32).since(3),
        Spec::new(Kind::ResidualSpreads, "residual_spreads", F32, unspecified).heat(Candidate).since(4),
        Spec::new(Kind::ResidualDeviations, "residual_deviations", F32, unspecified).heat(Candidate).since(4),
        Spec::new(Kind::MeanResiduals, "mean_residuals", U8, unspecified).since(4).until(7),
        Spec::new(Kind::RowResiduals, "row_residuals", U8, unspecified).heat(Candidate).since(4),
        Spec::of_column(Kind::AttributeWordSlots, "attribute_word_slots", U32).since(5),
        Spec::new(Kind::Expiries, "expiries", I64, none_or_one_per_row).since(5),
        Spec::new(Kind::TrainingQueries, "training_queries", F32, training_queries).since(6),
        Spec::new(Kind::ResidualWidths, "residual_widths", U8, unspecified).heat(Candidate).since(9),
        Spec::new(Kind::RowAxes, "row_axes", F32, unspecified).since(9),
        Spec::new(Kind::QueryAxes, "query_axes", F32, unspecified).heat(Candidate).since(9),
        Spec::new(Kind::CodeHalfNorms, "code_half_norms", F32, code_half_norms).heat(Step).since(10),
        Spec::new(Kind::LandmarkCodes, "landmark_codes", U8, landmark_codes).heat(Step).since(11),
        Spec::new(Kind::LandmarkLevels, "landmark_levels", F32, landmark_levels).since(11),
        Spec::new(Kind::LandmarkNodes, "landmark_nodes", U32, landmark_nodes).heat(Step).since(11),
        Spec::new(Kind::FineCodes, "fine_codes", U8, fine_codes).heat(Candidate).since(12),
        Spec::new(Kind::Levels, "levels", U8, levels).heat(Candidate).since(13),
        Spec::of_column(Kind::AttributeLevelValues, "attribute_level_values", F64).since(13),
    ]
};

fn unspecified(_: &Metadata) -> Length {
    Length::Unspecified
}

fn levels(of: &Metadata) -> Length {
    let columns = of.attributes.iter().filter(|column| column.kind.has_levels()).count() as u64;
    // Older formats have none; the reader of attributes checks that the others do.
    Length::AbsentOr(rows(of) * columns)
}

fn rows(of: &Metadata) -> u64 {
    of.rows.into()
}

fn dim(of: &Metadata) -> u64 {
    of.dim.into()
}

fn count_upper(of: &Metadata) -> u64 {
    of.upper_layers.iter().map(|count| u64::from(*count)).sum()
}

fn vectors(of: &Metadata) -> Length {
    Length::Exactly(rows(of) * dim(of))
}

fn one_per_row(of: &Metadata) -> Length {
    Length::Exactly(rows(of))
}

fn none_or_one_per_row(of: &Metadata) -> Length {
    Length::AbsentOr(rows(of))
}

fn layer0_starts(of: &Metadata) -> Length {
    Length::AbsentOr(rows(of) + 1)
}

fn upper_nodes(of: &Metadata) -> Length {
    Length::Exactly(count_upper(of))
}

fn upper_edges(of: &Metadata) -> Length {
    Length::Exactly(count_upper(of) * u64::from(of.m))
}

fn codes(of: &Metadata) -> Length {
    with_codes(of, rows(of) * of.codes.stride(of.dim as usize) as u64)
}

fn fine_codes(of: &Metadata) -> Length {
    match codes(of) {
        Length::Exactly(bytes) => Length::AbsentOr(bytes),
        other => other,
    }
}

fn code_levels(of: &Metadata) -> Length {
    with_codes(of, of.codes.parameter_count(of.dim as usize, of.metric) as u64)
}

fn code_half_norms(of: &Metadata) -> Length {
    match of.metric {
        Metric::L2 => with_codes(of, rows(of)),
        Metric::InnerProduct | Metric::Cosine => Length::Unspecified,
    }
}

fn held_out_queries(of: &Metadata) -> Length {
    queries(of, of.held_out_queries)
}

fn training_queries(of: &Metadata) -> Length {
    queries(of, of.training_queries)
}

fn landmark_codes(of: &Metadata) -> Length {
    of_landmarks(of, u64::from(of.landmarks) * Codes::Sq8.stride(of.dim as usize) as u64)
}

fn landmark_levels(of: &Metadata) -> Length {
    of_landmarks(of, Codes::Sq8.parameter_count(of.dim as usize, of.metric) as u64)
}

fn landmark_nodes(of: &Metadata) -> Length {
    of_landmarks(of, u64::from(of.landmarks) * NODES_PER_LANDMARK as u64)
}

/// Sections of landmarks are not read in an index that the metadata says has none.
fn of_landmarks(of: &Metadata, elements: u64) -> Length {
    if of.landmarks == 0 { Length::Unspecified } else { Length::Exactly(elements) }
}

/// Sections of codes are not read in an index that the metadata says has no codes.
fn with_codes(of: &Metadata, elements: u64) -> Length {
    if of.codes == Codes::None { Length::Unspecified } else { Length::Exactly(elements) }
}

fn queries(of: &Metadata, count: u32) -> Length {
    let elements = u64::from(count) * dim(of);
    if count > 0 { Length::Exactly(elements) } else { Length::AbsentOr(elements) }
}

impl SectionKind {
    pub(super) fn from_code(code: u32) -> Option<Self> {
        let position = usize::try_from(code).ok()?.checked_sub(1)?;
        SECTIONS.get(position).map(|spec| spec.kind)
    }

    /// The row of [`SECTIONS`] for this kind.
    pub fn spec(self) -> &'static SectionSpec {
        &SECTIONS[self as usize - 1]
    }

    /// The name of the section in errors and in `inspect`.
    pub fn name(self) -> &'static str {
        self.spec().name
    }
}

impl fmt::Display for SectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One entry of the section table of an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// What the section contains.
    pub kind: SectionKind,
    /// The attribute column it belongs to; 0 for the kinds that are not per column.
    pub ordinal: u32,
    /// Offset of its first byte in the file.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// The checksum of its bytes.
    pub crc32c: u32,
}

impl Section {
    /// The bytes of the file that are the section.
    pub fn range(&self) -> Range<usize> {
        self.offset as usize..(self.offset + self.bytes) as usize
    }

    /// The name of the kind, with the column if the kind is per column.
    pub fn label(&self) -> String {
        section_label(self.kind, self.ordinal)
    }
}

pub(super) fn section_label(kind: SectionKind, ordinal: u32) -> String {
    if kind.spec().per_column { format!("{kind} of column {ordinal}") } else { kind.to_string() }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::index::FORMAT_VERSION;

    #[test]
    fn the_table_has_one_row_per_kind_in_the_order_of_their_numbers() {
        for (position, spec) in SECTIONS.iter().enumerate() {
            assert_eq!(spec.kind as usize, position + 1, "{}", spec.name);
            assert_eq!(SectionKind::from_code(spec.kind as u32), Some(spec.kind));
            assert_eq!(spec.kind.spec().name, spec.name);
        }
        assert_eq!(SectionKind::from_code(0), None);
        assert_eq!(SectionKind::from_code(SECTIONS.len() as u32 + 1), None);
    }

    #[test]
    fn the_table_is_complete() {
        let source = include_str!("section.rs");
        let (_, variants) = source.split_once("pub enum SectionKind {").unwrap();
        let (variants, _) = variants.split_once("\n}").unwrap();
        let numbers = variants.lines().filter_map(|line| line.strip_suffix(',')?.split_once(" = "));
        let numbers: Vec<u32> = numbers.map(|(_, number)| number.parse().unwrap()).collect();
        let rows: Vec<u32> = SECTIONS.iter().map(|spec| spec.kind as u32).collect();
        assert_eq!(numbers, rows);
    }

    #[test]
    fn names_are_unique_and_versions_are_known() {
        let names: HashSet<&str> = SECTIONS.iter().map(|spec| spec.name).collect();
        assert_eq!(names.len(), SECTIONS.len());
        for spec in &SECTIONS {
            let until = spec.until.unwrap_or(FORMAT_VERSION);
            assert!(1 <= spec.since && spec.since <= until && until <= FORMAT_VERSION, "{}", spec.name);
            assert_eq!(spec.per_column, spec.name.starts_with("attribute_"), "{}", spec.name);
        }
    }
}
