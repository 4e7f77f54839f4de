//! Header and section table: their bytes, and every check that opening a file makes of them.

use std::path::Path;

use bytemuck::{Pod, Zeroable};

use super::error::IndexError;
use super::section::{Section, SectionKind, section_label};

/// The version of the byte layout, raised with every change of it.
///
/// | version | change |
/// |---|---|
/// | 1 | first |
/// | 2 | variable-length neighbor lists on layer 0; nodes in another order than the input rows |
/// | 3 | for every attribute, the nodes of each value, which filters need |
/// | 4 | residual codes |
/// | 5 | hash tables of dictionary words; expiry times |
/// | 6 | the last write of the mutation log that the input contained; users to teach the next build |
/// | 7 | postings as bit masks per block; 64 marks instead of 32 |
/// | 8 | no residual codes of block means |
/// | 9 | residual codes along query-aware axes |
/// | 10 | codes under L2; rows that their codes do not represent; recall of the codes; copies of rows |
/// | 11 | landmarks |
/// | 12 | fine codes |
/// | 13 | levels of numbers and times |
pub const FORMAT_VERSION: u32 = 13;
/// The first version with the nodes of each attribute value, which filters need.
pub const FILTER_VERSION: u32 = 3;
/// The first version with hash tables of dictionary words.
pub const WORD_SLOTS_VERSION: u32 = 5;
/// The first version with 64 marks instead of 32.
pub const MARKS_VERSION: u32 = 7;
/// The first version with levels of numbers and times.
pub const LEVELS_VERSION: u32 = 13;
/// The oldest version that is readable.
const OLDEST_VERSION: u32 = 1;
/// Length of the header; the section table follows it.
pub const HEADER_BYTES: usize = 64;
/// Every section starts at a multiple of this, one cache line.
pub(super) const ALIGNMENT: u64 = 64;
pub(super) const ENTRY_BYTES: usize = size_of::<TableEntry>();
const MAGIC: [u8; 8] = *b"SHRTLIST";
/// Limits the section table before it is allocated; far more than any index has.
const MAX_SECTIONS: u32 = 1 << 16;

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

/// The part of the header that its checksum covers.
const CHECKED_HEADER_BYTES: usize = 28;

/// Encodes header and table of a file with these sections, in file order.
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

/// Length of header and table of a file with this number of sections.
pub(super) fn encoded_bytes(sections: usize) -> u64 {
    (HEADER_BYTES + sections * ENTRY_BYTES) as u64
}

/// The checksum of the section table, from the header of a file that [`parse`] accepted.
pub(super) fn table_crc32c(file: &[u8]) -> u32 {
    header(file).table_crc32c
}

/// The version, from the header of a file that [`parse`] accepted.
pub(super) fn version(file: &[u8]) -> u32 {
    header(file).version
}

fn header(file: &[u8]) -> Header {
    bytemuck::pod_read_unaligned(&file[..HEADER_BYTES])
}

/// Reads and checks header and table: magic, version, length, checksums, kinds, order, bounds, alignment.
///
/// # Errors
/// An [`IndexError`] variant for each of these, with expected and found.
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
            return Err(table_error(position, format!("section {label} is out of order or occurs twice")));
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
