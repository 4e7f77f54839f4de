//! Header and section table: the bytes of them, and every check that opening a file makes.

use std::path::Path;

use bytemuck::{Pod, Zeroable};

use super::error::IndexError;

/// The version of the byte layout, raised with every change of it. Version 2 has neighbour lists of any
/// length on layer 0 and nodes in another order than the rows of the input.
pub const FORMAT_VERSION: u32 = 2;
/// The oldest version that is still read.
const OLDEST_VERSION: u32 = 1;
/// Bytes before the section table.
pub const HEADER_BYTES: usize = 64;
/// Every section starts at a multiple of this: one cache line.
pub(super) const ALIGNMENT: u64 = 64;
pub(super) const ENTRY_BYTES: usize = size_of::<TableEntry>();
const MAGIC: [u8; 8] = *b"SHRTLIST";
/// More than any index has: a bound before allocating.
const MAX_SECTIONS: u32 = 1 << 16;

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
    /// u32: the neighbours of each node, one list after another; in version 1 `[rows × m0]`.
    Layer0 = 5,
    /// u32: nodes of the upper layers, layer 1 first, ascending within a layer.
    UpperNodes = 6,
    /// `[upper nodes × m]` u32: the neighbours of each, as slots of the same layer.
    UpperEdges = 7,
    /// `[rows × stride]` u8: the 8-bit codes of the embeddings, each row a whole number of cache lines.
    Codes = 8,
    /// `[2 × dim]` f32: the smallest value of each dimension, then the distance between its levels.
    CodeLevels = 9,
    /// `[count × dim]` f32: users of the training sample that taught the graph nothing, to measure with.
    HeldOutQueries = 10,
    /// `[rows]` u32: node to row of the input; absent where they are the same.
    InputRows = 11,
    /// `[rows + 1]` u32: where the neighbours of each node start in `layer0`.
    Layer0Starts = 12,
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
}

impl SectionKind {
    const ALL: [SectionKind; 17] = [
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
        SectionKind::AttributeValidity,
        SectionKind::AttributeValues,
        SectionKind::AttributeLists,
        SectionKind::AttributeWordOffsets,
        SectionKind::AttributeWords,
    ];

    fn from_code(code: u32) -> Option<Self> {
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
            SectionKind::AttributeValidity => "attribute_validity",
            SectionKind::AttributeValues => "attribute_values",
            SectionKind::AttributeLists => "attribute_lists",
            SectionKind::AttributeWordOffsets => "attribute_word_offsets",
            SectionKind::AttributeWords => "attribute_words",
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
    if kind as u32 >= SectionKind::AttributeValidity as u32 {
        format!("{kind} of column {ordinal}")
    } else {
        kind.to_string()
    }
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    version: u32,
    section_count: u32,
    file_bytes: u64,
    table_crc32c: u32,
    header_crc32c: u32,
    zero: [u8; 32],
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct TableEntry {
    kind: u32,
    ordinal: u32,
    offset: u64,
    bytes: u64,
    crc32c: u32,
    zero: u32,
}

const CHECKED_HEADER_BYTES: usize = 28;

/// Header and table of a file with these sections, in file order.
pub(super) fn encode(sections: &[Section], file_bytes: u64) -> Vec<u8> {
    let table: Vec<TableEntry> = sections
        .iter()
        .map(|section| TableEntry {
            kind: section.kind as u32,
            ordinal: section.ordinal,
            offset: section.offset,
            bytes: section.bytes,
            crc32c: section.crc32c,
            zero: 0,
        })
        .collect();
    let table: &[u8] = bytemuck::cast_slice(&table);
    let mut header = Header {
        magic: MAGIC,
        version: FORMAT_VERSION,
        section_count: sections.len() as u32,
        file_bytes,
        table_crc32c: crc32c::crc32c(table),
        header_crc32c: 0,
        zero: [0; 32],
    };
    header.header_crc32c = crc32c::crc32c(&bytemuck::bytes_of(&header)[..CHECKED_HEADER_BYTES]);
    let mut bytes = bytemuck::bytes_of(&header).to_vec();
    bytes.extend_from_slice(table);
    bytes
}

/// Bytes that [`encode`] gives for so many sections.
pub(super) fn encoded_bytes(sections: usize) -> u64 {
    (HEADER_BYTES + sections * ENTRY_BYTES) as u64
}

/// The checksum of the section table, from the header of a file that [`parse`] accepted.
pub(super) fn table_crc32c(file: &[u8]) -> u32 {
    bytemuck::pod_read_unaligned::<Header>(&file[..HEADER_BYTES]).table_crc32c
}

/// Reads and checks header and table: magic, version, length, checksums, kinds, order, bounds, alignment.
pub(super) fn parse(path: &Path, file: &[u8]) -> Result<Vec<Section>, IndexError> {
    let found_bytes = file.len() as u64;
    let magic = &file[..file.len().min(MAGIC.len())];
    if magic != &MAGIC[..magic.len()] || magic.is_empty() {
        return Err(IndexError::ForeignFile {
            path: path.to_owned(),
            expected: MAGIC.escape_ascii().to_string(),
            found: magic.escape_ascii().to_string(),
        });
    }
    let wrong_length =
        |expected| IndexError::WrongLength { path: path.to_owned(), expected, found: found_bytes };
    let Some(header) = file.get(..HEADER_BYTES) else { return Err(wrong_length(HEADER_BYTES as u64)) };
    let header: Header = bytemuck::pod_read_unaligned(header);
    if !(OLDEST_VERSION..=FORMAT_VERSION).contains(&header.version) {
        return Err(IndexError::UnsupportedVersion {
            path: path.to_owned(),
            expected: FORMAT_VERSION,
            found: header.version,
        });
    }
    let damaged =
        |part, expected, found| IndexError::DamagedHeader { path: path.to_owned(), part, expected, found };
    let found_crc = crc32c::crc32c(&file[..CHECKED_HEADER_BYTES]);
    if header.header_crc32c != found_crc {
        return Err(damaged("header", header.header_crc32c, found_crc));
    }
    if header.zero != [0; 32] {
        return Err(damaged("header", 0, crc32c::crc32c(&header.zero)));
    }
    if header.file_bytes != found_bytes {
        return Err(wrong_length(header.file_bytes));
    }
    let table_error = |entry, problem| IndexError::BadSectionTable { path: path.to_owned(), entry, problem };
    if header.section_count > MAX_SECTIONS {
        return Err(table_error(
            0,
            format!("at most {MAX_SECTIONS} sections, found {}", header.section_count),
        ));
    }
    let table_end = encoded_bytes(header.section_count as usize);
    let Some(table) = file.get(HEADER_BYTES..table_end as usize) else { return Err(wrong_length(table_end)) };
    let found_crc = crc32c::crc32c(table);
    if header.table_crc32c != found_crc {
        return Err(damaged("section table", header.table_crc32c, found_crc));
    }

    let mut sections: Vec<Section> = Vec::with_capacity(header.section_count as usize);
    let mut end = table_end;
    for (position, entry) in table.chunks_exact(ENTRY_BYTES).enumerate() {
        let entry: TableEntry = bytemuck::pod_read_unaligned(entry);
        let Some(kind) = SectionKind::from_code(entry.kind) else {
            return Err(table_error(position, format!("unknown section kind {}", entry.kind)));
        };
        if entry.offset != end.next_multiple_of(ALIGNMENT) {
            let expected = end.next_multiple_of(ALIGNMENT);
            return Err(table_error(position, format!("expected offset {expected}, found {}", entry.offset)));
        }
        end = match entry.offset.checked_add(entry.bytes) {
            Some(end) if end <= found_bytes => end,
            _ => {
                let room = found_bytes.saturating_sub(entry.offset);
                return Err(table_error(
                    position,
                    format!("expected at most {room} bytes, found {}", entry.bytes),
                ));
            }
        };
        if let Some(last) = sections.last()
            && (last.kind, last.ordinal) >= (kind, entry.ordinal)
        {
            let label = section_label(kind, entry.ordinal);
            return Err(table_error(position, format!("section {label} is out of order or there twice")));
        }
        sections.push(Section {
            kind,
            ordinal: entry.ordinal,
            offset: entry.offset,
            bytes: entry.bytes,
            crc32c: entry.crc32c,
        });
    }
    if end != found_bytes {
        return Err(wrong_length(end));
    }
    Ok(sections)
}
