//! Files with damaged bytes, header or section table.

use shortlist::index::{FORMAT_VERSION, HEADER_BYTES, IndexError, SectionKind};

use super::{ENTRY_BYTES, Sample};

#[test]
fn a_whole_file_verifies() {
    let sample = Sample::new();
    sample.check(&sample.bytes).unwrap();
    let kinds = sample.sections.iter().map(|section| section.kind);
    assert!(kinds.clone().any(|kind| kind == SectionKind::AttributeWords));
    assert!(kinds.clone().any(|kind| kind == SectionKind::Codes));
    assert!(kinds.clone().any(|kind| kind == SectionKind::HeldOutQueries));
    assert!(kinds.clone().any(|kind| kind == SectionKind::LandmarkNodes));
    assert!(
        sample.sections.iter().any(|section| section.kind == SectionKind::UpperNodes && section.bytes > 0)
    );
}

#[test]
fn a_flipped_byte_names_its_section() {
    let sample = Sample::new();
    for section in sample.sections.iter().filter(|section| section.bytes > 0) {
        let range = section.range();
        for at in [range.start, (range.start + range.end) / 2, range.end - 1] {
            let mut bytes = sample.bytes.clone();
            bytes[at] ^= 0x10;
            match sample.check(&bytes) {
                Err(IndexError::DamagedSection { section: named, .. }) => assert_eq!(named, section.label()),
                other => panic!("{} at {at}: {other:?}", section.label()),
            }
        }
    }
}

#[test]
fn every_single_flipped_byte_is_found() {
    let sample = Sample::new();
    for at in 0..sample.bytes.len() {
        let mut bytes = sample.bytes.clone();
        bytes[at] ^= 0x01;
        assert!(sample.check(&bytes).is_err(), "a flipped bit at byte {at} went unnoticed");
    }
}

#[test]
fn a_flipped_byte_between_sections_is_named() {
    let sample = Sample::new();
    let ends = sample.sections.iter().map(|section| section.range().end);
    let starts = sample.sections.iter().skip(1).map(|section| section.range().start);
    let gap = ends.zip(starts).find(|(end, start)| end < start).unwrap().0;
    let mut bytes = sample.bytes.clone();
    bytes[gap] = 9;
    let error = sample.check(&bytes).unwrap_err();
    assert!(
        matches!(error, IndexError::DamagedPadding { offset, found: 9, .. } if offset == gap as u64),
        "{error}"
    );
}

#[test]
fn a_file_truncated_at_any_boundary_is_refused() {
    let sample = Sample::new();
    let whole = sample.bytes.len();
    let table = (0..=sample.sections.len()).map(|entry| HEADER_BYTES + entry * ENTRY_BYTES);
    let sections = sample.sections.iter().flat_map(|section| [section.range().start, section.range().end]);
    let boundaries = [1, 7, 8, 12, 31, HEADER_BYTES - 1, whole - 1].into_iter().chain(table).chain(sections);
    for length in boundaries.flat_map(|boundary| [boundary - 1, boundary, boundary + 1]) {
        if length >= whole {
            continue;
        }
        let error = sample.check(&sample.bytes[..length]).unwrap_err();
        match error {
            IndexError::WrongLength { expected, found, .. } => {
                assert_eq!(found, length as u64);
                let least = if length < HEADER_BYTES { HEADER_BYTES } else { whole };
                assert_eq!(expected, least as u64);
            }
            IndexError::ForeignFile { .. } => assert_eq!(length, 0),
            other => panic!("{length}: {other}"),
        }
    }
}

#[test]
fn a_file_that_grew_is_refused() {
    let sample = Sample::new();
    let mut bytes = sample.bytes.clone();
    bytes.push(0);
    assert!(matches!(sample.open(&bytes), Err(IndexError::WrongLength { .. })));
}

#[test]
fn a_foreign_file_is_named_as_such() {
    let sample = Sample::new();
    for foreign in [&b"\x93NUMPY\x01\x00v\x00"[..], b"PAR1", b"", b"SHRTLISU and more"] {
        let error = sample.open(foreign).unwrap_err();
        assert!(
            matches!(&error, IndexError::ForeignFile { expected, .. } if expected == "SHRTLIST"),
            "{error}"
        );
    }
}

#[test]
fn a_future_version_is_named_as_such() {
    let sample = Sample::new();
    let bytes = sample.with_header(|header| header[8] = FORMAT_VERSION as u8 + 1);
    let error = sample.open(&bytes).unwrap_err();
    let (known, future) = (FORMAT_VERSION, FORMAT_VERSION + 1);
    assert!(
        matches!(error, IndexError::UnsupportedVersion { expected, found, .. } if (expected, found) == (known, future)),
        "{error}"
    );
}

#[test]
fn each_header_field_is_checked() {
    let sample = Sample::new();
    let mut bytes = sample.bytes.clone();
    bytes[28] ^= 1;
    assert!(matches!(sample.open(&bytes), Err(IndexError::DamagedHeader { part: "header", .. })));
    let mut bytes = sample.bytes.clone();
    bytes[HEADER_BYTES + 3] ^= 1;
    assert!(matches!(sample.open(&bytes), Err(IndexError::DamagedHeader { part: "section table", .. })));
    let zero = sample.with_header(|header| header[40] = 1);
    assert!(matches!(sample.open(&zero), Err(IndexError::DamagedHeader { part: "header", .. })));
    let length = sample.with_header(|header| header[16] ^= 1);
    assert!(matches!(sample.open(&length), Err(IndexError::WrongLength { .. })));
    // Two entries are as long as the alignment of the first section.
    let fewer = sample.with_header(|header| header[12] -= 2);
    assert!(matches!(sample.open(&fewer), Err(IndexError::BadSectionTable { entry: 0, .. })));
    let absurd = sample.with_header(|header| header[12..16].fill(0xff));
    assert!(matches!(sample.open(&absurd), Err(IndexError::BadSectionTable { .. })));
}

#[test]
fn each_field_of_the_section_table_is_checked() {
    let sample = Sample::new();
    let bad_entry = |bytes: Vec<u8>, expected: usize| {
        let error = sample.open(&bytes).unwrap_err();
        assert!(matches!(error, IndexError::BadSectionTable { entry, .. } if entry == expected), "{error}");
    };
    bad_entry(sample.with_entry(2, |entry| entry[0] = 99), 2);
    bad_entry(sample.with_entry(2, |entry| entry[0] = SectionKind::Metadata as u8), 2);
    bad_entry(sample.with_entry(2, |entry| entry[8] ^= 1), 2);
    bad_entry(sample.with_entry(2, |entry| entry[8..16].fill(0xff)), 2);
    bad_entry(sample.with_entry(2, |entry| entry[16..24].fill(0xff)), 2);
    let last = sample.sections.len() - 1;
    let shorter = (sample.sections[last].bytes - 1).to_le_bytes();
    let shorter = sample.with_entry(last, |entry| entry[16..24].copy_from_slice(&shorter));
    assert!(matches!(sample.open(&shorter), Err(IndexError::WrongLength { .. })));
    let missing = sample.with_entry(0, |entry| entry[0] = 0);
    assert!(matches!(sample.open(&missing), Err(IndexError::BadSectionTable { entry: 0, .. })));
}
