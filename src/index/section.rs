//! What sections there are, and where one lies.

/// What a section holds. The numbers are in files and never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum SectionKind {
    /// JSON: [`super::Metadata`].
    Metadata = 1,
    /// `[rows × dim]` components, row-major, f32 or f16.
    Vectors = 2,
    /// `[rows]` u64: node to video id.
    VideoIds = 3,
    /// `[rows]` u32: nodes by ascending video id.
    NodesById = 4,
    /// u32: the neighbors of each node, one list after another; in version 1 `[rows × m0]`.
    Layer0 = 5,
    /// u32: nodes of the upper layers, layer 1 first, ascending within a layer.
    UpperNodes = 6,
    /// `[upper nodes × m]` u32: the neighbors of each, as slots of the same layer.
    UpperEdges = 7,
    /// `[rows × stride]` u8: the 8-bit codes of the embeddings, each row a whole number of cache lines.
    Codes = 8,
    /// `[2 × dim]` f32: the smallest value of each dimension, then the distance between its levels.
    CodeLevels = 9,
    /// `[count × dim]` f32: users of the training sample that taught the graph nothing, to measure with.
    HeldOutQueries = 10,
    /// `[rows]` u32: node to row of the input; absent where they are the same.
    InputRows = 11,
    /// `[rows + 1]` u32: where the neighbors of each node start in `layer0`.
    Layer0Starts = 12,
    /// `[(blocks + regions) × stride]` u8: the codes of the mean of each block of 64 nodes, and of each region of
    /// blocks.
    BlockMeans = 13,
    /// Only in version 3, and not read any more: `[blocks + regions]` f32.
    BlockSpreads = 14,
    /// `[regions + 1]` u32: the first block of each region, and how many blocks there are.
    BlockRegions = 15,
    /// One bit per row, least significant first: whether the attribute has a value.
    AttributeValidity = 16,
    /// One value per row (8 bytes), dictionary code per row or list item (u32), or bool per row (u8).
    AttributeValues = 17,
    /// `[rows + 1]` u64: where the list of each row starts among the values.
    AttributeLists = 18,
    /// `[words + 1]` u64: where each dictionary word starts.
    AttributeWordOffsets = 19,
    /// UTF-8: the dictionary words, ascending.
    AttributeWords = 20,
    /// The nodes that have each dictionary word, or false and then true of a bool, one after another: a portable 32-bit
    /// Roaring bitmap or, from version 7 on, `MASK` and for each block of 64 nodes that has some its number u32 and a
    /// bit per node u64, the least significant first.
    AttributePostings = 21,
    /// `[words + 1]` u64: where the bitmap of each word starts; 2 words for a bool.
    AttributePostingOffsets = 22,
    /// u32: nodes with a number or time, ascending by that and then by node. Those that are NaN are not there.
    AttributeOrder = 23,
    /// `[marks × rows / 32, rounded up]` u32, of 64 marks or, before version 7, 32: bit n of mark j, the least
    /// significant first, is set if node n is among the first (j + 1) · nodes / marks of the order.
    AttributeMarks = 24,
    /// `[blocks + regions]` f32: the root mean square of what the rows of a block, or the means of the blocks of a
    /// region, differ from its mean by, per axis.
    ResidualSpreads = 25,
    /// `[axes]` f32: how much rows of a block differ along each axis, in terms of the spread.
    ResidualDeviations = 26,
    /// Only in versions 4 to 7, and not read any more: `[blocks / 64, rounded up, × residual block]` u8.
    MeanResiduals = 27,
    /// `[blocks × residual block]` u8: the residual codes of the rows.
    RowResiduals = 28,
    /// `[slots]` u32, a power of two: the code of a dictionary word and 1, near where the hash of the word says; 0
    /// where there is none.
    AttributeWordSlots = 29,
    /// `[rows]` i64: microseconds since 1970, from when on the video is no candidate any more; the largest value for
    /// never. Absent where no video expires.
    Expiries = 30,
    /// `[count × dim]` f32: some users of the training sample that taught the graph, to teach the next build.
    TrainingQueries = 31,
    /// `[axes]` u8: the bits of residual codes for each axis, 4, 2, 1 or 0, never more than before. Absent where axes are
    /// those of the dimensions, with two bits each.
    ResidualWidths = 32,
    /// `[axes × dim]` f32: what a row is multiplied with to get its part along each axis. Absent as the widths.
    RowAxes = 33,
    /// `[axes × dim]` f32: the same for a query.
    QueryAxes = 34,
}

impl SectionKind {
    const ALL: [SectionKind; 34] = [
        SectionKind::Metadata,
        SectionKind::Vectors,
        SectionKind::VideoIds,
        SectionKind::NodesById,
        SectionKind::Layer0,
        SectionKind::UpperNodes,
        SectionKind::UpperEdges,
        SectionKind::Codes,
        SectionKind::CodeLevels,
        SectionKind::HeldOutQueries,
        SectionKind::InputRows,
        SectionKind::Layer0Starts,
        SectionKind::BlockMeans,
        SectionKind::BlockSpreads,
        SectionKind::BlockRegions,
        SectionKind::AttributeValidity,
        SectionKind::AttributeValues,
        SectionKind::AttributeLists,
        SectionKind::AttributeWordOffsets,
        SectionKind::AttributeWords,
        SectionKind::AttributePostings,
        SectionKind::AttributePostingOffsets,
        SectionKind::AttributeOrder,
        SectionKind::AttributeMarks,
        SectionKind::ResidualSpreads,
        SectionKind::ResidualDeviations,
        SectionKind::MeanResiduals,
        SectionKind::RowResiduals,
        SectionKind::AttributeWordSlots,
        SectionKind::Expiries,
        SectionKind::TrainingQueries,
        SectionKind::ResidualWidths,
        SectionKind::RowAxes,
        SectionKind::QueryAxes,
    ];

    pub(super) fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == code)
    }

    /// The word for the section in errors and in `inspect`.
    pub fn name(self) -> &'static str {
        match self {
            SectionKind::Metadata => "metadata",
            SectionKind::Vectors => "vectors",
            SectionKind::VideoIds => "video_ids",
            SectionKind::NodesById => "nodes_by_id",
            SectionKind::Layer0 => "layer0",
            SectionKind::UpperNodes => "upper_nodes",
            SectionKind::UpperEdges => "upper_edges",
            SectionKind::Codes => "codes",
            SectionKind::CodeLevels => "code_levels",
            SectionKind::HeldOutQueries => "held_out_queries",
            SectionKind::InputRows => "input_rows",
            SectionKind::Layer0Starts => "layer0_starts",
            SectionKind::BlockMeans => "block_means",
            SectionKind::BlockSpreads => "block_spreads",
            SectionKind::BlockRegions => "block_regions",
            SectionKind::AttributeValidity => "attribute_validity",
            SectionKind::AttributeValues => "attribute_values",
            SectionKind::AttributeLists => "attribute_lists",
            SectionKind::AttributeWordOffsets => "attribute_word_offsets",
            SectionKind::AttributeWords => "attribute_words",
            SectionKind::AttributePostings => "attribute_postings",
            SectionKind::AttributePostingOffsets => "attribute_posting_offsets",
            SectionKind::AttributeOrder => "attribute_order",
            SectionKind::AttributeMarks => "attribute_marks",
            SectionKind::ResidualSpreads => "residual_spreads",
            SectionKind::ResidualDeviations => "residual_deviations",
            SectionKind::MeanResiduals => "mean_residuals",
            SectionKind::RowResiduals => "row_residuals",
            SectionKind::AttributeWordSlots => "attribute_word_slots",
            SectionKind::Expiries => "expiries",
            SectionKind::TrainingQueries => "training_queries",
            SectionKind::ResidualWidths => "residual_widths",
            SectionKind::RowAxes => "row_axes",
            SectionKind::QueryAxes => "query_axes",
        }
    }
}

impl std::fmt::Display for SectionKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// One section of an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// What it holds.
    pub kind: SectionKind,
    /// The attribute column it belongs to; 0 for the others.
    pub ordinal: u32,
    /// Where it starts in the file.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
    /// The checksum of its bytes.
    pub crc32c: u32,
}

impl Section {
    /// Where the section lies in the file.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset as usize..(self.offset + self.bytes) as usize
    }

    /// The kind, with the column where there can be several.
    pub fn label(&self) -> String {
        section_label(self.kind, self.ordinal)
    }
}

pub(super) fn section_label(kind: SectionKind, ordinal: u32) -> String {
    let of_columns = SectionKind::AttributeValidity..=SectionKind::AttributeMarks;
    if of_columns.contains(&kind) || kind == SectionKind::AttributeWordSlots {
        format!("{kind} of column {ordinal}")
    } else {
        kind.to_string()
    }
}
