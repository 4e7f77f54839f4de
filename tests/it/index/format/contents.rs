//! Sections with wrong contents and correct checksums.

use shortlist::base::id::MAX_SEQUENCE;
use shortlist::base::metric::Metric;
use shortlist::build::BuildParams;
use shortlist::dataset::NEVER;
use shortlist::index::{Codes, ElementType, IndexError, SectionKind, verify};

use super::{Sample, search_every_way};
use crate::harness::indexes::rewritten;
use crate::harness::typed::typed_index;

/// Changes numbers in the metadata without changing its length.
fn with_metadata(sample: &Sample, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    sample.with_section(SectionKind::Metadata, |section| {
        let text = String::from_utf8(section.to_vec()).unwrap();
        assert!(text.contains(from), "{text}");
        section.copy_from_slice(text.replacen(from, to, 1).as_bytes());
    })
}

#[test]
fn metadata_that_contradicts_the_sections_is_refused() {
    let sample = Sample::new();
    for (from, to) in [
        ("\"rows\":60", "\"rows\":61"),
        ("\"dim\":4", "\"dim\":5"),
        ("\"held_out_queries\":40", "\"held_out_queries\":41"),
        ("\"held_out_queries\":40", "\"held_out_queries\":39"),
        ("\"training_queries\":360", "\"training_queries\":361"),
        ("\"training_queries\":360", "\"training_queries\":359"),
    ] {
        let error = sample.open(&with_metadata(&sample, from, to)).unwrap_err();
        assert!(matches!(error, IndexError::WrongSectionLength { .. }), "{to}: {error}");
    }
    for (from, to) in [
        ("\"rows\":60", "\"rows\":00"),
        ("\"dim\":4", "\"dim\":0"),
        ("\"metric\":\"ip\"", "\"metric\":\"xx\""),
    ] {
        let error = sample.open(&with_metadata(&sample, from, to)).unwrap_err();
        assert!(matches!(error, IndexError::BadMetadata { .. }), "{to}: {error}");
    }
}

#[test]
fn sections_of_broken_elements_are_refused_whichever_others_are_missing() {
    let (_folder, index) = typed_index(60, 7);
    let sections: Vec<(SectionKind, u32)> =
        index.sections().iter().map(|section| (section.kind, section.ordinal)).collect();
    let is_broken = |kind: SectionKind| {
        !matches!(
            kind.spec().element,
            ElementType::Json | ElementType::Utf8 | ElementType::U8 | ElementType::AttributeValue
        )
    };
    let mut tried = 0;
    for broken in sections.iter().filter(|(kind, _)| is_broken(*kind)) {
        for missing in &sections {
            let changed = rewritten(&index, |kind, ordinal, bytes| {
                if (kind, ordinal) == *broken {
                    bytes.push(0);
                }
                (kind, ordinal) != *missing
            });
            assert!(changed.is_err() || broken == missing, "{broken:?} without {missing:?}");
            tried += 1;
        }
    }
    assert!(tried > 300, "only {tried}");
}

/// Changes the first `u32` of a section.
fn with_first_u32(sample: &Sample, kind: SectionKind, value: u32) -> Vec<u8> {
    sample.with_section(kind, |section| section[..4].copy_from_slice(&value.to_le_bytes()))
}

#[test]
fn entries_that_lead_nowhere_are_found_by_verify() {
    let sample = Sample::new();
    for (kind, value) in [
        (SectionKind::NodesById, 60),
        (SectionKind::Layer0, 60),
        (SectionKind::Layer0, 0),
        (SectionKind::UpperNodes, 1_000_000),
        (SectionKind::UpperEdges, 1_000_000),
        (SectionKind::Vectors, f32::NAN.to_bits()),
        (SectionKind::Codes, 0x0102_0304),
        (SectionKind::CodeLevels, f32::INFINITY.to_bits()),
        (SectionKind::HeldOutQueries, f32::NAN.to_bits()),
        (SectionKind::TrainingQueries, f32::NAN.to_bits()),
        (SectionKind::BlockRegions, 1),
        (SectionKind::BlockMeans, 0x0102_0304),
        (SectionKind::ResidualSpreads, f32::NAN.to_bits()),
        (SectionKind::ResidualDeviations, f32::NAN.to_bits()),
        (SectionKind::RowResiduals, 0x0102_0304),
    ] {
        let error = sample.check(&with_first_u32(&sample, kind, value)).unwrap_err();
        let named = matches!(&error, IndexError::BadEntry { section, .. } if *section == kind.to_string());
        assert!(named, "{kind} = {value}: {error}");
    }
    let cut_off = sample.with_section(SectionKind::Layer0, |section| section.fill(0xff));
    assert!(matches!(
        sample.check(&cut_off),
        Err(IndexError::Unreachable { unreachable: 59, nodes: 60, .. })
    ));
    let words = sample.with_section(SectionKind::AttributeWords, |section| section.fill(0xff));
    assert!(matches!(sample.check(&words), Err(IndexError::BadEntry { .. })));
}

#[test]
fn half_norms_that_are_not_those_of_the_codes_are_found() {
    let sample = Sample::with(Metric::L2, BuildParams::new(Metric::L2, 4, 20).unwrap());
    sample.check(&sample.bytes).unwrap();
    let kind = SectionKind::CodeHalfNorms;
    for value in [f32::NAN, f32::INFINITY, -1.0, 1e30] {
        let bytes = with_first_u32(&sample, kind, value.to_bits());
        search_every_way(&sample.open(&bytes).unwrap());
        let error = sample.check(&bytes).unwrap_err();
        assert!(
            matches!(&error, IndexError::BadEntry { section, .. } if *section == kind.to_string()),
            "{error}"
        );
    }
    let index = sample.open(&sample.bytes).unwrap();
    let error = rewritten(&index, |other, _, _| other != kind).unwrap_err();
    assert!(
        matches!(&error, IndexError::MissingSection { section, .. } if *section == kind.to_string()),
        "{error}"
    );
}

/// What is impossible is refused. A search does not trust the rest: it may find other videos, but it ends.
#[test]
fn wrong_numbers_of_extremes_and_copies_are_refused_or_do_not_keep_a_search_from_ending() {
    for metric in [Metric::InnerProduct, Metric::L2] {
        let sample = Sample::with(metric, BuildParams::new(metric, 4, 20).unwrap());
        let index = sample.open(&sample.bytes).unwrap();
        let many = vec![0; 65];
        let cases: [(u32, u32, &[u32]); 8] = [
            (0, 59, &[]),
            (1, 0, &[]),
            (60, 1, &[]),
            (0, 0, &[59; 64]),
            (61, 0, &[]),
            (0, 60, &[]),
            (0, 0, &[60]),
            (0, 0, &many),
        ];
        for (case, (unrepresented, copies, most_copied)) in cases.into_iter().enumerate() {
            let changed = rewritten(&index, |kind, _, bytes| {
                if kind == SectionKind::Metadata {
                    let text = String::from_utf8(bytes.clone()).unwrap();
                    let numbers = format!("\"unrepresented\":{unrepresented},\"copies\":{copies}");
                    let with = format!("{{{numbers},\"most_copied\":{most_copied:?},");
                    *bytes = text.replacen('{', &with, 1).into_bytes();
                }
                true
            });
            match changed {
                Ok(changed) => search_every_way(&changed),
                Err(error) if case >= 4 => {
                    assert!(matches!(error, IndexError::BadMetadata { .. }), "{error}");
                }
                // The blocks are those of all rows.
                Err(error) => assert!(matches!(error, IndexError::WrongSectionLength { .. }), "{error}"),
            }
        }
    }
}

/// The writes after it get the next numbers.
#[test]
fn a_log_position_after_which_numbers_would_overflow_is_refused() {
    let sample = Sample::new();
    let index = sample.open(&sample.bytes).unwrap();
    let with_position = |position: u64| {
        rewritten(&index, |kind, _, bytes| {
            if kind == SectionKind::Metadata {
                let text = String::from_utf8(bytes.clone()).unwrap();
                let with = text.replacen("\"log_sequence\":0", &format!("\"log_sequence\":{position}"), 1);
                assert_ne!(with, text);
                *bytes = with.into_bytes();
            }
            true
        })
    };
    with_position(MAX_SEQUENCE).unwrap();
    for position in [MAX_SEQUENCE + 1, u64::MAX - 1, u64::MAX] {
        let error = with_position(position).unwrap_err();
        let expected = format!("log_sequence: expected at most {MAX_SEQUENCE}, found {position}");
        assert!(matches!(&error, IndexError::BadMetadata { problem, .. } if *problem == expected), "{error}");
    }
}

#[test]
fn axes_that_do_not_fit_are_found() {
    let sample = Sample::along_axes();
    sample.check(&sample.bytes).unwrap();
    let change = |kind, change: fn(&mut [u8])| sample.with_section(kind, change);
    let widths = SectionKind::ResidualWidths;
    for bytes in
        [change(widths, |widths| widths[0] = 3), change(widths, |widths| *widths.last_mut().unwrap() = 4)]
    {
        let error = sample.open(&bytes).unwrap_err();
        assert!(
            matches!(&error, IndexError::BadEntry { section, .. } if section == "residual_widths"),
            "{error}"
        );
    }
    for value in [f32::NAN, f32::INFINITY, f32::MAX, 0.0] {
        for kind in [SectionKind::RowAxes, SectionKind::QueryAxes] {
            let index = sample.open(&with_first_u32(&sample, kind, value.to_bits())).unwrap();
            search_every_way(&index);
            let error = verify(&index).unwrap_err();
            assert!(matches!(&error, IndexError::BadEntry { .. }), "{kind} = {value}: {error}");
        }
    }
    let index = sample.open(&sample.bytes).unwrap();
    let more = rewritten(&index, |kind, _, bytes| {
        match kind {
            SectionKind::ResidualWidths => bytes.push(0),
            SectionKind::RowAxes | SectionKind::QueryAxes => bytes.extend([0; 16 * 4]),
            _ => {}
        }
        true
    });
    let error = more.unwrap_err();
    assert!(
        matches!(&error, IndexError::WrongSectionLength { expected: 16, found: 17, .. }),
        "more axes than dimensions: {error}"
    );
    let without = |gone: &[SectionKind]| rewritten(&index, |kind, _, _| !gone.contains(&kind)).unwrap_err();
    for gone in [widths, SectionKind::RowAxes, SectionKind::QueryAxes] {
        let error = without(&[gone]);
        assert!(
            matches!(&error, IndexError::MissingSection { section, .. } if *section == gone.to_string()),
            "without {gone}: {error}"
        );
    }
    let error = without(&[widths, SectionKind::RowAxes, SectionKind::QueryAxes]);
    assert!(
        matches!(&error, IndexError::WrongSectionLength { section, .. } if section == "row_residuals"),
        "{error}"
    );
}

#[test]
fn embeddings_that_are_no_numbers_do_not_keep_a_search_from_ending() {
    for metric in [Metric::InnerProduct, Metric::L2] {
        // Without codes, so that the traversal reads the embeddings.
        let params = BuildParams::new(metric, 4, 20).unwrap().with_codes(Codes::None).unwrap();
        let sample = Sample::with(metric, params);
        let bytes = sample.with_section(SectionKind::Vectors, |section| section.fill(0xff));
        search_every_way(&sample.open(&bytes).unwrap());
    }
}

#[test]
fn expiries_that_are_none_are_found() {
    let seeds = (0..).map(|seed| typed_index(40, seed));
    let (_folder, index) = seeds.into_iter().find(|(_, index)| index.expiries().is_some()).unwrap();
    let with = |change: fn(&mut Vec<u8>)| {
        rewritten(&index, |kind, _, bytes| {
            if kind == SectionKind::Expiries {
                change(bytes);
            }
            true
        })
    };
    verify(&with(|_| ()).unwrap()).unwrap();
    assert!(matches!(
        with(|bytes| bytes.truncate(39 * 8)).unwrap_err(),
        IndexError::WrongSectionLength { section, expected: 320, found: 312, .. } if section == "expiries"
    ));
    let never = with(|bytes| bytes.chunks_mut(8).for_each(|time| time.copy_from_slice(&NEVER.to_le_bytes())));
    let outside = with(|bytes| bytes[8..16].copy_from_slice(&i64::MIN.to_le_bytes()));
    for (index, node) in [(never, 0), (outside, 1)] {
        let error = verify(&index.unwrap()).unwrap_err();
        assert!(
            matches!(&error, IndexError::BadEntry { section, entry, .. } if section == "expiries" && *entry == node),
            "{error}"
        );
    }
}

#[test]
fn landmarks_that_lead_nowhere_are_found() {
    for metric in [Metric::InnerProduct, Metric::L2] {
        let sample = Sample::with(metric, BuildParams::new(metric, 4, 20).unwrap());
        let changed = [
            (SectionKind::LandmarkNodes, 60),
            (SectionKind::LandmarkNodes, u32::MAX),
            (SectionKind::LandmarkLevels, f32::NAN.to_bits()),
            (SectionKind::LandmarkLevels, f32::INFINITY.to_bits()),
        ];
        for (kind, value) in changed {
            let index = sample.open(&with_first_u32(&sample, kind, value)).unwrap();
            search_every_way(&index);
            let error = verify(&index).unwrap_err();
            assert!(
                matches!(&error, IndexError::BadEntry { section, entry: 0, .. } if *section == kind.to_string()),
                "{metric} {kind} {value}: {error}"
            );
        }
        let index = sample.open(&sample.bytes).unwrap();
        for gone in [SectionKind::LandmarkCodes, SectionKind::LandmarkLevels, SectionKind::LandmarkNodes] {
            let error = rewritten(&index, |kind, _, _| kind != gone).unwrap_err();
            assert!(
                matches!(&error, IndexError::MissingSection { section, .. } if *section == gone.to_string()),
                "without {gone}: {error}"
            );
        }
        let longer = rewritten(&index, |kind, _, bytes| {
            if kind == SectionKind::LandmarkNodes {
                bytes.extend([0; 4]);
            }
            true
        });
        assert!(matches!(
            longer.unwrap_err(),
            IndexError::WrongSectionLength { section, .. } if section == "landmark_nodes"
        ));
    }
}
