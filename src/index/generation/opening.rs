//! The checks that opening a generation makes: the metadata is sound, and every section has the length that follows
//! from it.
//!
//! What flows in: the sections of a mapped file. What flows out: [`Metadata`], or the first [`IndexError`]. No vector
//! and no edge is read here: [`super::verify()`] checks the contents.

use super::error::IndexError;
use super::mapped_sections::MappedSections;
use super::metadata::Metadata;
use super::section::{Length, SECTIONS, SectionKind};
use crate::base::id::{MAX_SEQUENCE, NodeId};
use crate::quantize::{BlockSummary, Codes, are_widths, plain_widths, residual_block_bytes};

/// The largest dimension an index may have.
const MAX_DIM: u32 = 1 << 16;
/// The most edge slots per node.
pub const MAX_DEGREE: u32 = 1 << 12;
/// The most nodes that every traversal starts from for their copies.
pub const MAX_MOST_COPIED: usize = 64;
/// The most layers above layer 0, far above those of the largest graph: each search looks at all of them.
const MAX_UPPER_LAYERS: u32 = 1 << 8;
/// Limits the size of the JSON before it is parsed.
const MAX_METADATA_BYTES: u64 = 1 << 24;

/// Reads the metadata and checks every field that has bounds.
///
/// # Errors
/// [`IndexError::MissingSection`], [`IndexError::DamagedSection`] or [`IndexError::BadMetadata`].
pub(super) fn read_metadata(sections: &MappedSections) -> Result<Metadata, IndexError> {
    let bad = |problem: String| IndexError::BadMetadata { path: sections.path().to_owned(), problem };
    let length = sections.length(SectionKind::Metadata, 0)?;
    if length > MAX_METADATA_BYTES {
        return Err(bad(format!("expected at most {MAX_METADATA_BYTES} bytes, found {length}")));
    }
    let bytes: &[u8] = sections.cast(SectionKind::Metadata, 0);
    if let Some(section) = sections.find(SectionKind::Metadata, 0) {
        sections.compare_checksum(section, crc32c::crc32c(bytes))?;
    }
    let facts: Metadata = serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
    let within = |field: &str, value: u32, low: u32, high: u32| {
        if (low..=high).contains(&value) {
            Ok(())
        } else {
            Err(bad(format!("{field}: expected {low} to {high}, found {value}")))
        }
    };
    if facts.log_sequence > MAX_SEQUENCE {
        let found = facts.log_sequence;
        return Err(bad(format!("log_sequence: expected at most {MAX_SEQUENCE}, found {found}")));
    }
    within("rows", facts.rows, 1, NodeId::MAX_NODES as u32)?;
    within("dim", facts.dim, 1, MAX_DIM)?;
    within("m", facts.m, 1, MAX_DEGREE)?;
    within("m0", facts.m0, 1, MAX_DEGREE)?;
    within("entry_point", facts.entry_point, 0, facts.rows - 1)?;
    within("unrepresented", facts.unrepresented, 0, facts.rows)?;
    within("copies", facts.copies, 0, facts.rows - 1)?;
    within("landmarks", facts.landmarks, 0, facts.rows)?;
    within("length of most_copied", facts.most_copied.len() as u32, 0, MAX_MOST_COPIED as u32)?;
    for node in &facts.most_copied {
        within("most_copied", *node, 0, facts.rows - 1)?;
    }
    within("length of upper_layers", facts.upper_layers.len() as u32, 0, MAX_UPPER_LAYERS)?;
    for count in &facts.upper_layers {
        within("upper_layers", *count, 1, facts.rows)?;
    }
    Ok(facts)
}

/// Checks that every section has whole elements, and as many as the metadata says. How many the sections of attribute
/// columns have is checked when these open.
///
/// # Errors
/// [`IndexError::MissingSection`] or [`IndexError::WrongSectionLength`] for the first wrong section, and
/// [`IndexError::BadMetadata`] for codes under a metric that has none.
pub(super) fn check_lengths(sections: &MappedSections, facts: &Metadata) -> Result<(), IndexError> {
    if facts.codes != Codes::None && !facts.codes.serves(facts.metric) {
        let (metric, codes) = (facts.metric, facts.codes.name());
        let problem = format!("codes: expected none under metric {metric}, found {codes}");
        return Err(IndexError::BadMetadata { path: sections.path().to_owned(), problem });
    }
    for section in sections.table() {
        if let Some(element_bytes) = section.kind.spec().element.bytes(facts) {
            let whole = section.bytes / element_bytes * element_bytes;
            sections.expect_bytes(section.kind, section.ordinal, whole)?;
        }
    }
    for spec in &SECTIONS {
        let elements = match (spec.length)(facts) {
            Length::Exactly(elements) => elements,
            Length::AbsentOr(elements) if sections.has(spec.kind) => elements,
            Length::AbsentOr(_) | Length::Unspecified => continue,
        };
        let Some(element_bytes) = spec.element.bytes(facts) else { continue };
        sections.expect_bytes(spec.kind, 0, elements * element_bytes)?;
    }
    if facts.codes != Codes::None {
        check_block_lengths(sections, facts)?;
    }
    check_layer0_length(sections, facts)
}

/// Checks the sections of blocks and residual codes, whose lengths follow from each other. The regions themselves are
/// checked when a search opens the index: it does not scan blocks whose regions are inconsistent.
fn check_block_lengths(sections: &MappedSections, facts: &Metadata) -> Result<(), IndexError> {
    let (rows, dim) = ((facts.rows - facts.unrepresented) as usize, facts.dim as usize);
    let Some(regions) = sections.find(SectionKind::BlockRegions, 0) else {
        return match sections.find(SectionKind::ResidualDeviations, 0) {
            Some(_) => sections.length(SectionKind::BlockRegions, 0).map(drop),
            None => Ok(()),
        };
    };
    let starts = (regions.bytes / 4).max(1);
    sections.expect_bytes(SectionKind::BlockRegions, 0, starts * 4)?;
    let blocks = BlockSummary::blocks(rows);
    let summaries = blocks as u64 + starts - 1;
    sections.expect_bytes(SectionKind::BlockMeans, 0, summaries * facts.codes.stride(dim) as u64)?;
    if !sections.has(SectionKind::ResidualDeviations) {
        return Ok(());
    }
    let plain;
    let widths = if let Some(section) = sections.find(SectionKind::ResidualWidths, 0) {
        // One byte per axis: at least one axis, and no more than dimensions.
        let axes = section.bytes.clamp(1, dim as u64);
        sections.expect_bytes(SectionKind::ResidualWidths, 0, axes)?;
        for kind in [SectionKind::RowAxes, SectionKind::QueryAxes] {
            sections.expect_bytes(kind, 0, axes.saturating_mul(dim as u64 * 4))?;
        }
        sections.cast(SectionKind::ResidualWidths, 0)
    } else {
        for kind in [SectionKind::RowAxes, SectionKind::QueryAxes] {
            if sections.has(kind) {
                sections.length(SectionKind::ResidualWidths, 0)?;
            }
        }
        plain = plain_widths(dim);
        &plain
    };
    if !are_widths(widths) {
        let problem = "expected 4, 2, 1 or 0, never ascending".to_owned();
        return Err(IndexError::bad_entry(sections.path(), SectionKind::ResidualWidths, 0, problem));
    }
    let (axes, block_bytes) = (widths.len() as u64, residual_block_bytes(widths) as u64);
    sections.expect_bytes(SectionKind::ResidualSpreads, 0, summaries * 4)?;
    sections.expect_bytes(SectionKind::ResidualDeviations, 0, axes * 4)?;
    sections.expect_bytes(SectionKind::RowResiduals, 0, blocks as u64 * block_bytes)
}

/// Checks the length of layer 0. The starts of its lists are checked when a list is read: a list with inconsistent
/// bounds is empty.
fn check_layer0_length(sections: &MappedSections, facts: &Metadata) -> Result<(), IndexError> {
    if sections.has(SectionKind::Layer0Starts) {
        let found = sections.length(SectionKind::Layer0, 0)?;
        sections.expect_bytes(SectionKind::Layer0, 0, found / 4 * 4)
    } else {
        sections.expect_bytes(SectionKind::Layer0, 0, u64::from(facts.rows) * u64::from(facts.m0) * 4)
    }
}

/// The start of each list of layer 0, `[rows + 1]`, in a file of version 1, whose lists all have `m0` slots; empty if
/// the file stores the starts.
///
/// # Errors
/// [`IndexError::BadMetadata`] if there are 2^32 edges or more.
pub(super) fn fixed_starts(sections: &MappedSections, facts: &Metadata) -> Result<Vec<u32>, IndexError> {
    if sections.has(SectionKind::Layer0Starts) {
        return Ok(Vec::new());
    }
    let starts = (0..=u64::from(facts.rows)).map(|row| u32::try_from(row * u64::from(facts.m0)));
    starts.collect::<Result<_, _>>().map_err(|_| {
        let problem = format!("m0: expected fewer than 2^32 edges in all, found {}", facts.m0);
        IndexError::BadMetadata { path: sections.path().to_owned(), problem }
    })
}
