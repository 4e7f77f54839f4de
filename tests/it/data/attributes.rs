//! Lookups in attribute columns, intact and damaged.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::SignedDuration;
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use shortlist::attributes::{Columns, Value};
use shortlist::base::id::NodeId;
use shortlist::base::instant::Instant;
use shortlist::base::interrupt::Interrupt;
use shortlist::index::{Index, IndexError, Section, SectionKind};
use shortlist::rules::{Filter, matching};
use tempfile::TempDir;

use crate::harness::indexes::rewritten;
use crate::harness::typed::{now, random_filter, typed_index};

/// The sections that only filters read, and columns that have them.
const INVERTED: [(SectionKind, [&str; 3]); 4] = [
    (SectionKind::AttributePostings, ["keyword", "list", "bool"]),
    (SectionKind::AttributePostingOffsets, ["keyword", "list", "bool"]),
    (SectionKind::AttributeOrder, ["uint64", "double", "time"]),
    (SectionKind::AttributeMarks, ["uint64", "double", "time"]),
];

/// The distinct values of a video as keys: words by their rank in the dictionary.
fn expected_keys(value: Option<Value>, words: &BTreeSet<String>) -> BTreeSet<u64> {
    let rank = |word: &String| words.iter().position(|other| other == word).unwrap() as u64;
    match value {
        None => BTreeSet::new(),
        Some(Value::Keyword(word)) => BTreeSet::from([rank(&word)]),
        Some(Value::KeywordList(list)) => list.iter().map(rank).collect(),
        Some(Value::Int64(value)) => BTreeSet::from([value as u64]),
        Some(Value::Uint64(value)) => BTreeSet::from([value]),
        Some(Value::Bool(value)) => BTreeSet::from([value.into()]),
        Some(other) => panic!("{other} has no key"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn keys_are_equal_where_values_are(rows in 1usize..100, seed in any::<u64>()) {
        let (_folder, index) = typed_index(rows, seed);
        let columns = Columns::open(&index).unwrap();
        for (column, schema) in columns.schema().iter().enumerate() {
            let Some(keys) = columns.value_keys(column) else {
                prop_assert!(["double", "time"].contains(&schema.name.as_str()));
                continue;
            };
            let values = || (0..rows as u32).map(|node| columns.value(column, NodeId(node)));
            let words = values().flatten().flat_map(|value| match value {
                Value::Keyword(word) => vec![word],
                Value::KeywordList(list) => list,
                _ => Vec::new(),
            });
            let words: BTreeSet<String> = words.collect();
            for (value, node) in values().zip(0..) {
                let mut found = vec![77];
                keys.append(NodeId(node), &mut found);
                prop_assert_eq!(found.remove(0), 77, "what was there stays");
                let distinct: BTreeSet<u64> = found.iter().copied().collect();
                prop_assert_eq!(distinct.len(), found.len());
                prop_assert_eq!(distinct, expected_keys(value, &words));
            }
            let mut found = Vec::new();
            keys.append(NodeId(u32::MAX - 1), &mut found);
            prop_assert!(found.is_empty());
        }
    }

    #[test]
    fn since_has_the_videos_of_that_time_and_later(rows in 1usize..100, seed in any::<u64>()) {
        let (_folder, index) = typed_index(rows, seed);
        let columns = Columns::open(&index).unwrap();
        let time = columns.find("time").unwrap();
        let near = [-2001, -1000, -999, -1, 0, 1, 999, 1000, 1001].map(SignedDuration::from_nanos);
        for earliest in near.map(|step| Instant::from(now() + step)).into_iter().chain([Instant::MIN, Instant::MAX]) {
            let found = columns.since(time, earliest).unwrap();
            for node in 0..rows as u32 {
                let expected = match columns.value(time, NodeId(node)) {
                    Some(Value::Timestamp(time)) => time >= earliest,
                    _ => false,
                };
                prop_assert_eq!(found.contains(node), expected);
            }
        }
        prop_assert_eq!(columns.since(columns.find("int64").unwrap(), now().into()), None);
    }
}

#[test]
fn since_is_as_right_in_a_generation_from_before_filters() {
    for version in 1..=10 {
        let name = format!("tests/fixtures/format-{version}.index");
        let index = Index::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
        let columns = Columns::open(&index).unwrap();
        let time = columns.find("published_at").unwrap();
        let times: Vec<Instant> = (0..60)
            .map(|node| match columns.value(time, NodeId(node)) {
                Some(Value::Timestamp(time)) => time,
                other => panic!("expected a time, found {other:?}"),
            })
            .collect();
        for earliest in &times {
            let found: Vec<u32> = columns.since(time, *earliest).unwrap().iter().collect();
            let expected: Vec<u32> = (0..60).filter(|node| times[*node as usize] >= *earliest).collect();
            assert_eq!(found, expected);
        }
    }
}

/// An index, filters, and the nodes that match them.
struct Sample {
    _folder: TempDir,
    index: Index,
    filters: Vec<Filter>,
    found: Vec<Option<Vec<u32>>>,
}

impl Sample {
    fn new() -> Self {
        let (folder, index) = typed_index(80, 3);
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let filters: Vec<Filter> = (0..60).map(|_| random_filter(&mut random, 1)).collect();
        let found = answers(&index, &filters);
        Self { _folder: folder, index, filters, found }
    }

    fn column(&self, name: &str) -> u32 {
        Columns::of(&self.index).find(name).unwrap() as u32
    }

    /// The index with one section changed.
    fn with(
        &self,
        kind: SectionKind,
        column: u32,
        change: impl Fn(&mut Vec<u8>),
    ) -> Result<Index, IndexError> {
        rewritten(&self.index, |section, ordinal, bytes| {
            if (section, ordinal) == (kind, column) {
                change(bytes);
            }
            true
        })
    }
}

/// Runs every operation that reads attributes.
fn answers(index: &Index, filters: &[Filter]) -> Vec<Option<Vec<u32>>> {
    let columns = Columns::of(index);
    let mut keys = Vec::new();
    for column in 0..columns.schema().len() {
        let value_keys = columns.value_keys(column);
        for node in (0..index.len() as u32).map(NodeId) {
            columns.value(column, node);
            value_keys.iter().for_each(|value_keys| value_keys.append(node, &mut keys));
        }
    }
    let found = filters.iter().map(|filter| {
        let found = matching(filter, &columns, now(), &mut Interrupt::never()).ok()?;
        assert!(found.iter().all(|node| (node as usize) < index.len()), "a node beyond the last");
        Some(found.iter().collect())
    });
    let since = columns.find("time").and_then(|time| columns.since(time, now().into()));
    found.chain([since.map(|found| found.iter().collect())]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Any change of an attribute section is found by verify or changes no answer.
    #[test]
    fn damaged_attributes_are_found_by_verify_and_never_bring_a_filter_down(
        section in any::<prop::sample::Index>(),
        patches in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..8u32), 1..5),
        bits in any::<bool>(),
    ) {
        thread_local!(static SAMPLE: Sample = Sample::new());
        SAMPLE.with(|sample| {
            let of_attributes: Vec<_> = sample
                .index
                .sections()
                .iter()
                .filter(|section| section.kind >= SectionKind::AttributePostings && section.bytes > 0)
                .collect();
            let section = section.get(&of_attributes);
            let damaged = sample.with(section.kind, section.ordinal, |bytes| {
                for (at, byte, bit) in &patches {
                    let at = at.index(bytes.len());
                    bytes[at] = if bits { bytes[at] ^ 1 << bit } else { *byte };
                }
            });
            let Ok(damaged) = damaged else { return };
            let Ok(columns) = Columns::open(&damaged) else { return };
            let verified = columns.verify();
            let found = answers(&damaged, &sample.filters);
            if verified.is_ok() {
                assert_eq!(found, sample.found, "{} is damaged", section.label());
            }
        });
    }

    /// The same for the values themselves, which verify cannot check beyond being readable.
    #[test]
    fn damaged_values_never_bring_a_filter_down(
        section in any::<prop::sample::Index>(),
        patches in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        thread_local!(static SAMPLE: Sample = Sample::new());
        SAMPLE.with(|sample| {
            let of_attributes: Vec<_> = sample
                .index
                .sections()
                .iter()
                .filter(|section| section.kind >= SectionKind::AttributeValidity && section.bytes > 0)
                .collect();
            let section = section.get(&of_attributes);
            let damaged = sample.with(section.kind, section.ordinal, |bytes| {
                for (at, byte) in &patches {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
            });
            if let Ok(damaged) = damaged
                && let Ok(columns) = Columns::open(&damaged)
            {
                let _ = columns.verify();
                answers(&damaged, &sample.filters);
            }
        });
    }
}

/// The section and entry that verify reports.
fn found_by_verify(index: Result<Index, IndexError>) -> (String, usize, String) {
    let index = index.unwrap();
    match Columns::open(&index).unwrap().verify() {
        Err(IndexError::BadEntry { section, entry, problem, .. }) => (section, entry, problem),
        other => panic!("expected a bad entry, found {other:?}"),
    }
}

#[test]
fn entries_that_say_otherwise_than_the_values_are_found_by_verify() {
    let sample = Sample::new();
    let (keyword, double) = (sample.column("keyword"), sample.column("double"));
    let put = |kind, column, at: usize, value: u32| {
        let index =
            sample.with(kind, column, |bytes| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes()));
        let (section, entry, problem) = found_by_verify(index);
        assert_eq!(section, kind.to_string());
        (entry, problem)
    };
    let cookie = put(SectionKind::AttributePostings, keyword, 0, 7);
    let foreign = "byte 0: not a Roaring bitmap: expected cookie 12346 or 12347, found 7";
    assert_eq!(cookie, (0, format!("column \"keyword\": {foreign}")));
    let first = put(SectionKind::AttributePostingOffsets, keyword, 0, 1);
    assert_eq!(first, (0, "column \"keyword\": expected 0, found 1".to_owned()));
    let (entry, problem) = put(SectionKind::AttributePostingOffsets, keyword, 8, u32::MAX);
    assert_eq!(entry, 1, "{problem}");
    let (entry, problem) = put(SectionKind::AttributeOrder, double, 8, 80);
    assert_eq!((entry, problem.as_str()), (2, "column \"double\": expected a node with a value, found 80"));
    let (_, problem) = put(SectionKind::AttributeOrder, double, 0, u32::MAX);
    assert_eq!(problem, "column \"double\": expected a node with a value, found 4294967295");
    let (entry, problem) = put(SectionKind::AttributeMarks, double, 0, 0xffff_ffff);
    assert_eq!(entry, 0, "{problem}");

    let (entry, problem) = put(SectionKind::AttributeWordSlots, keyword, 0, u32::MAX);
    assert_eq!(entry, 0, "{problem}");

    let twice = sample.with(SectionKind::AttributeOrder, double, |bytes| bytes.copy_within(0..4, 4));
    let (section, entry, problem) = found_by_verify(twice);
    assert_eq!((section.as_str(), entry), ("attribute_order", 1), "{problem}");
    let fewer = sample.with(SectionKind::AttributeOrder, double, |bytes| bytes.truncate(bytes.len() - 4));
    let (section, _, problem) = found_by_verify(fewer);
    assert!(section == "attribute_order" && problem.contains(" nodes, found "), "{section}: {problem}");
    let no_order = sample.with(SectionKind::AttributeWords, keyword, |bytes| bytes.reverse());
    let (section, _, problem) = found_by_verify(no_order);
    assert!(section == "attribute_word_offsets" || section == "attribute_values", "{section}: {problem}");
}

#[test]
fn a_posting_that_lacks_a_video_or_has_another_is_found_by_verify() {
    let sample = Sample::new();
    let bools = sample.column("bool");
    // Swap false and true, which keeps their number.
    let swapped = rewritten(&sample.index, |kind, ordinal, bytes| {
        if (kind, ordinal) == (SectionKind::AttributeValues, bools) {
            bytes.iter_mut().for_each(|value| *value ^= 1);
        }
        true
    });
    let (section, entry, problem) = found_by_verify(swapped);
    assert_eq!((section.as_str(), entry), ("attribute_postings", 0));
    assert!(problem.starts_with("column \"bool\": expected nodes that have the word, found "), "{problem}");
    // One more video has a value.
    let unknown =
        (0..80).find(|node| Columns::of(&sample.index).value(bools as usize, NodeId(*node)).is_none());
    let unknown = unknown.expect("a tenth are null") as usize;
    let known =
        sample.with(SectionKind::AttributeValidity, bools, |bytes| bytes[unknown / 8] |= 1 << (unknown % 8));
    let (section, entry, problem) = found_by_verify(known);
    assert_eq!((section.as_str(), entry), ("attribute_postings", 2));
    assert!(problem.contains(" nodes of all words together, found "), "{problem}");
}

#[test]
fn sections_of_a_wrong_length_or_missing_are_refused() {
    let sample = Sample::new();
    for (kind, columns) in INVERTED {
        for name in columns {
            let column = sample.column(name);
            let label = format!("{kind} of column {column}");
            let missing =
                rewritten(&sample.index, |section, ordinal, _| (section, ordinal) != (kind, column)).unwrap();
            let error = Columns::open(&missing).unwrap_err();
            assert!(
                matches!(&error, IndexError::MissingSection { section, .. } if *section == label),
                "{label}: {error}"
            );
            for change in
                [|bytes: &mut Vec<u8>| bytes.push(0), |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 1)]
            {
                // Broken elements are refused when the index opens.
                let index = sample.with(kind, column, change);
                let error = index.and_then(|index| Columns::open(&index).map(drop)).unwrap_err();
                assert!(
                    matches!(&error, IndexError::WrongSectionLength { section, .. } if *section == label),
                    "{label}: {error}"
                );
            }
        }
    }
    let double = sample.column("double");
    let longer = sample.with(SectionKind::AttributeOrder, double, |bytes| bytes.resize(81 * 4, 0)).unwrap();
    assert!(matches!(
        Columns::open(&longer),
        Err(IndexError::WrongSectionLength { expected: 320, found: 324, .. })
    ));
}

/// More than 4 GiB of text in one column fits.
#[test]
fn text_and_lists_have_offsets_of_64_bits() {
    let rows = 40;
    let (_folder, index) = typed_index(rows, 7);
    let columns = Columns::open(&index).unwrap();
    let bytes = |kind, column: usize| {
        let sections = index.sections().iter();
        let of_column = |section: &&_| {
            let Section { kind: found, ordinal, .. } = **section;
            found == kind && ordinal as usize == column
        };
        sections.filter(of_column).map(|section| section.bytes as usize).sum::<usize>()
    };
    for name in ["keyword", "list"] {
        let column = columns.find(name).unwrap();
        let words = columns.words(column).unwrap().len();
        assert_eq!(bytes(SectionKind::AttributeWordOffsets, column), (words + 1) * size_of::<u64>());
        assert_eq!(bytes(SectionKind::AttributePostingOffsets, column), (words + 1) * size_of::<u64>());
    }
    let list = columns.find("list").unwrap();
    assert_eq!(bytes(SectionKind::AttributeLists, list), (rows + 1) * size_of::<u64>());
}
