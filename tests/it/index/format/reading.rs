//! Sections as they are read: by id, and from a copy in memory.

use shortlist::attributes::Columns;
use shortlist::base::id::{NodeId, VideoId};
use shortlist::base::interrupt::Interrupt;
use shortlist::base::metric::Metric;
use shortlist::build::BuildParams;
use shortlist::index::{IndexError, MemoryMode, SectionKind, verify};
use shortlist::search::{Effort, SearchParams, Searcher};

use super::{Sample, search_every_way};
use crate::harness::indexes::{build_index, dataset_of, random_rows};

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
fn videos_are_found_by_id_one_by_one_and_many_together() {
    for rows in [1, 2, 60] {
        let folder = tempfile::tempdir().unwrap();
        let dataset = dataset_of(folder.path(), &random_rows(rows, 4, 1), 4, Metric::InnerProduct);
        let params = BuildParams::new(Metric::InnerProduct, 4, 20).unwrap().with_threads(1);
        let index = build_index(&dataset, &params, &folder.path().join("index"));
        // Without an id file, ids are row numbers.
        let wanted: Vec<VideoId> = (0..70).chain([0, 3, u64::MAX]).map(VideoId).collect();
        let expected: Vec<NodeId> = wanted.iter().filter_map(|id| index.node_of(*id)).collect();
        assert!(expected.iter().all(|node| node.index() < rows) && expected.len() >= rows);
        let known = wanted.iter().filter(|id| index.video_ids().contains(id));
        assert!(known.eq(expected.iter().map(|node| &index.video_ids()[node.index()])));
        let mut found = Vec::new();
        index.nodes_of(&wanted, |node| found.push(node));
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
