//! Generation files that are valid, damaged, truncated, foreign or hostile.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use shortlist::attributes::Columns;
use shortlist::base::id::{NodeId, VideoId};
use shortlist::base::interrupt::Interrupt;
use shortlist::base::metric::Metric;
use shortlist::build::BuildParams;
use shortlist::dataset::{Embeddings, NEVER};
use shortlist::index::{
    Codes, FORMAT_VERSION, HEADER_BYTES, Index, IndexError, MemoryMode, Section, SectionKind, verify,
};
use shortlist::node_set::{CountedSet, NodeSet};
use shortlist::search::{Effort, Interest, NodeRules, Plan, SearchParams, Searcher, Segment};

use crate::harness::indexes::{
    TestDataset, build_index, build_taught_index, dataset_of, random_rows, rewritten,
};
use crate::harness::typed::typed_index;

const ENTRY_BYTES: usize = 32;

/// A small taught index with attributes and upper layers, and the bytes of its file.
struct Sample {
    dataset: TestDataset,
    sections: Vec<Section>,
    bytes: Vec<u8>,
}

impl Sample {
    fn new() -> Self {
        Self::with(Metric::InnerProduct, BuildParams::new(Metric::InnerProduct, 4, 20).unwrap())
    }

    /// An index whose residual codes are along axes other than the dimensions.
    fn along_axes() -> Self {
        let params = BuildParams::new(Metric::InnerProduct, 4, 20).unwrap();
        Self::of(TestDataset::new(4_200, 16), Metric::InnerProduct, params)
    }

    fn with(metric: Metric, params: BuildParams) -> Self {
        Self::of(TestDataset::new(60, 4), metric, params)
    }

    fn of(dataset: TestDataset, metric: Metric, params: BuildParams) -> Self {
        let users = Embeddings::open(&dataset.files.users_train).unwrap();
        let index = build_taught_index(
            &dataset.open(metric),
            (metric == Metric::InnerProduct).then_some(&users),
            &params.with_threads(1),
            &dataset.folder.path().join("index"),
        );
        let bytes = std::fs::read(index.path()).unwrap();
        Self { sections: index.sections().to_vec(), dataset, bytes }
    }

    /// Writes other bytes as an index file.
    fn write(&self, bytes: &[u8]) -> PathBuf {
        let path = self.dataset.folder.path().join("changed.index");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn open(&self, bytes: &[u8]) -> Result<Index, IndexError> {
        Index::open(&self.write(bytes))
    }

    /// Opens, and verifies if it opens.
    fn check(&self, bytes: &[u8]) -> Result<(), IndexError> {
        let index = self.open(bytes)?;
        verify(&index)?;
        Columns::open(&index)?.verify()
    }

    /// The file with a changed header and a corrected header checksum.
    fn with_header(&self, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        change(&mut bytes[..HEADER_BYTES]);
        reseal(&mut bytes);
        bytes
    }

    /// The file with one changed table entry and both checksums corrected.
    fn with_entry(&self, entry: usize, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let start = HEADER_BYTES + entry * ENTRY_BYTES;
        change(&mut bytes[start..start + ENTRY_BYTES]);
        reseal(&mut bytes);
        bytes
    }

    /// The file with one changed section and all checksums corrected, as an attacker would send it.
    fn with_section(&self, kind: SectionKind, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let position = self.sections.iter().position(|section| section.kind == kind).unwrap();
        let range = self.sections[position].range();
        change(&mut bytes[range.clone()]);
        let crc = crc32c::crc32c(&bytes[range]);
        let at = HEADER_BYTES + position * ENTRY_BYTES + 24;
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        reseal(&mut bytes);
        bytes
    }
}

/// Corrects the checksums of table and header.
fn reseal(bytes: &mut [u8]) {
    let count = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let table_end = (HEADER_BYTES + count * ENTRY_BYTES).min(bytes.len());
    let table = crc32c::crc32c(&bytes[HEADER_BYTES..table_end]);
    bytes[24..28].copy_from_slice(&table.to_le_bytes());
    let header = crc32c::crc32c(&bytes[..28]);
    bytes[28..32].copy_from_slice(&header.to_le_bytes());
}

#[test]
fn a_whole_file_verifies() {
    let sample = Sample::new();
    sample.check(&sample.bytes).unwrap();
    let kinds = sample.sections.iter().map(|section| section.kind);
    assert!(kinds.clone().any(|kind| kind == SectionKind::AttributeWords));
    assert!(kinds.clone().any(|kind| kind == SectionKind::Codes));
    assert!(kinds.clone().any(|kind| kind == SectionKind::HeldOutQueries));
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

/// Searches with every plan; only termination without a panic matters.
fn search_every_way(index: &Index) {
    let searcher = Searcher::default();
    for effort in [Effort::EfSearch(1), Effort::EfSearch(200), Effort::Exact] {
        let params = SearchParams::new(10, effort).unwrap();
        let found = searcher.search(index, &vec![0.5; index.dim()], &params, &mut Interrupt::never());
        assert!(found.hits.len() <= 10);
        for hit in found.hits {
            let columns = Columns::of(index);
            (0..columns.schema().len()).for_each(|column| drop(columns.value(column, hit.node)));
        }
    }
    let mut matches = NodeSet::all(index.len());
    matches.remove(0);
    let matches = CountedSet::new(matches);
    let segments = [Segment { matches: Some(matches.as_ref()), ..Segment::whole(index) }];
    let rules = NodeRules::none(&segments);
    let vector = vec![0.5f32; index.dim()];
    let interest = |weight| Interest { vector: (&vector[..]).into(), weight, at_least: 0 };
    let plans = [Plan::Graph, Plan::FilteredGraph, Plan::MatchScan, Plan::BlockScan, Plan::ExactScan];
    for plan in plans.into_iter().filter(|plan| *plan != Plan::BlockScan || index.blocks().is_some()) {
        let params = SearchParams::new(10, Effort::EfSearch(20)).unwrap().with_plan(Some(plan));
        for interests in [vec![interest(1.0)], vec![interest(0.5), interest(2.0)]] {
            let found = searcher.search_segments(&interests, &params, &rules, None, &mut Interrupt::never());
            assert!(found.hits.iter().all(|hit| hit.node != NodeId(0)));
        }
    }
    let found = index.video_ids().iter().filter(|id| index.node_of(**id).is_some()).count();
    assert!(found <= index.len());
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
fn a_copy_in_memory_gives_the_same_answers() {
    let sample = Sample::new();
    let index = sample.open(&sample.bytes).unwrap();
    let searcher = Searcher::default();
    let params = SearchParams::new(10, Effort::EfSearch(20)).unwrap();
    let search = || searcher.search(&index, &[0.5; 4], &params, &mut Interrupt::never());
    let (before, ids) = (search(), index.video_ids().to_vec());
    assert_eq!(index.memory(), MemoryMode::Mapped);
    let first = index.make_resident().unwrap();
    assert!(first.bytes > 0 && first.bytes < index.bytes());
    assert_eq!(index.memory(), MemoryMode::Resident);
    assert_eq!((search(), index.video_ids()), (before, &ids[..]));
    assert_eq!(index.make_resident().unwrap(), first, "a second time there is nothing to do");
    verify(&index).unwrap();
    Columns::open(&index).unwrap().verify().unwrap();
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
fn videos_are_found_by_id_one_by_one_and_many_together() {
    for rows in [1, 2, 60] {
        let folder = tempfile::tempdir().unwrap();
        let dataset = dataset_of(folder.path(), &random_rows(rows, 4, 1), 4, Metric::InnerProduct);
        let params = BuildParams::new(Metric::InnerProduct, 4, 20).unwrap().with_threads(1);
        let index = build_index(&dataset, &params, &folder.path().join("index"));
        // Without an id file, ids are row numbers.
        let asked: Vec<VideoId> = (0..70).chain([0, 3, u64::MAX]).map(VideoId).collect();
        let expected: Vec<NodeId> = asked.iter().filter_map(|id| index.node_of(*id)).collect();
        assert!(expected.iter().all(|node| node.index() < rows) && expected.len() >= rows);
        let known = asked.iter().filter(|id| index.video_ids().contains(id));
        assert!(known.eq(expected.iter().map(|node| &index.video_ids()[node.index()])));
        let mut found = Vec::new();
        index.nodes_of(&asked, |node| found.push(node));
        assert_eq!(found, expected);
    }
}

#[test]
fn a_section_that_is_damaged_is_not_copied() {
    let sample = Sample::new();
    let section = *sample.sections.iter().find(|section| section.kind == SectionKind::Layer0).unwrap();
    let mut bytes = sample.bytes.clone();
    bytes[section.offset as usize] ^= 1;
    let (index, table) = (sample.open(&bytes).unwrap(), section.crc32c);
    let error = index.make_resident().unwrap_err();
    assert!(
        matches!(&error, IndexError::DamagedSection { section, expected, .. }
            if section == "layer0" && *expected == table),
        "{error}"
    );
    assert_eq!(index.memory(), MemoryMode::Mapped);
    search_every_way(&index);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// A file with correct checksums and wrong contents causes an error or an answer, never a panic.
    #[test]
    fn a_hostile_file_never_brings_a_search_down(
        section in 0usize..64,
        patches in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
    ) {
        thread_local!(static SAMPLE: Sample = Sample::new());
        SAMPLE.with(|sample| {
            let kind = sample.sections[section % sample.sections.len()].kind;
            let bytes = sample.with_section(kind, |section| {
                for (at, byte) in &patches {
                    if !section.is_empty() {
                        section[at.index(section.len())] = *byte;
                    }
                }
            });
            if let Ok(index) = sample.open(&bytes)
                && Columns::open(&index).is_ok()
            {
                search_every_way(&index);
                let _ = verify(&index);
            }
        });
    }

    /// Opening arbitrary bytes terminates without a panic.
    #[test]
    fn any_bytes_after_the_magic_are_refused_without_a_panic(tail in prop::collection::vec(any::<u8>(), 0..400)) {
        thread_local!(static SAMPLE: Sample = Sample::new());
        SAMPLE.with(|sample| {
            let mut bytes = b"SHRTLIST\x01\x00\x00\x00".to_vec();
            bytes.extend(&tail);
            if bytes.len() >= HEADER_BYTES {
                reseal_any(&mut bytes);
            }
            assert!(sample.open(&bytes).is_err());
        });
    }
}

fn reseal_any(bytes: &mut [u8]) {
    bytes[12..16].copy_from_slice(&1u32.to_le_bytes());
    let length = bytes.len() as u64;
    bytes[16..24].copy_from_slice(&length.to_le_bytes());
    reseal(bytes);
}

/// Files of every earlier format version must open.
#[test]
fn opens_the_fixture_of_each_format_version() {
    let held_out = [None, Some(32), Some(40), Some(40), Some(40), Some(40), Some(40), Some(40), Some(40)];
    for (version, held_out) in (1..).zip(held_out) {
        let name = format!("tests/fixtures/format-{version}.index");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        assert_eq!(std::fs::read(&path).unwrap()[8], version);
        let index = Index::open(&path).unwrap();
        verify(&index).unwrap();
        Columns::open(&index).unwrap().verify().unwrap();
        assert_eq!((index.len(), index.dim(), index.metadata().metric), (60, 4, Metric::InnerProduct));
        assert_eq!(index.metadata().build.builder, "native");
        assert_eq!(index.format_version(), u32::from(version));
        for section in index.sections() {
            let spec = section.kind.spec();
            let versions = spec.since..=spec.until.unwrap_or(FORMAT_VERSION);
            assert!(versions.contains(&version.into()), "{} in version {version}", section.label());
        }
        assert_eq!(Columns::of(&index).are_inverted(), version >= 3);
        assert_eq!(index.held_out_queries().map(|queries| queries.len()), held_out);
        let taught = index.training_queries().map(|queries| queries.len());
        assert_eq!(
            (taught, index.metadata().log_sequence),
            if version < 6 { (None, 0) } else { (Some(360), 7) }
        );
        let found = |effort, plan| {
            let params = SearchParams::new(3, effort).unwrap().with_plan(plan);
            Searcher::default().search(&index, &[1.0, 0.0, 0.0, 0.0], &params, &mut Interrupt::never()).hits
        };
        assert_eq!(found(Effort::EfSearch(60), Some(Plan::Graph)), found(Effort::Exact, None));
    }
}
