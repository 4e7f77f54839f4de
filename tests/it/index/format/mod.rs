//! Generation files that are valid, damaged, truncated, foreign or hostile.

mod contents;
mod damage;
mod hostile;
mod mutants;
mod reading;
mod versions;

use std::path::PathBuf;

use shortlist::attributes::Columns;
use shortlist::base::id::NodeId;
use shortlist::base::interrupt::Interrupt;
use shortlist::base::metric::Metric;
use shortlist::build::BuildParams;
use shortlist::dataset::Embeddings;
use shortlist::index::{HEADER_BYTES, Index, IndexError, Rescoring, Section, SectionKind, verify};
use shortlist::node_set::{CountedSet, NodeSet};
use shortlist::search::{Effort, Interest, NodeRules, Plan, SearchParams, Searcher, Segment};

use crate::harness::indexes::{TestDataset, build_taught_index};

const ENTRY_BYTES: usize = 32;

/// A small taught index with attributes and upper layers, and the bytes of its file.
struct Sample {
    dataset: TestDataset,
    sections: Vec<Section>,
    bytes: Vec<u8>,
}

impl Sample {
    fn new() -> Self {
        let params = BuildParams::new(Metric::InnerProduct, 4, 20).unwrap();
        Self::with(Metric::InnerProduct, params.with_rescoring(Rescoring::Codes))
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
