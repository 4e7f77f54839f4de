//! Whole generations with correct checksums and wrong contents, under an engine: open, search, look up, explain, write,
//! rebuild. Whatever the sections hold, nothing panics, and everything ends.
//!
//! `HOSTILE_GENERATIONS=10000 cargo test --test it format::mutants::` tries more of them; `HOSTILE_FROM` is the first.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use half::f16;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shortlist::attributes::Columns;
use shortlist::base::id::VideoId;
use shortlist::base::metric::Metric;
use shortlist::build::BuildParams;
use shortlist::dataset::{AttributeColumn, ColumnValues, Dataset};
use shortlist::engine::{
    Budget, Completeness, Engine, EngineOptions, GateOptions, Interest, Plan, RebuildOptions,
    ReturnAttributes, SearchRequest, Task, WriteMode,
};
use shortlist::index::{
    BuildTimes, Index, IndexError, IndexStore, IndexWriter, Measured, Section, SectionKind, SectionSet,
    StagedIndex, verify,
};
use shortlist::live::Mutation;
use shortlist::quantize::Codes;
use shortlist::rules::{Cap, Fresh};

use super::Sample;
use crate::harness::files::npy;
use crate::harness::indexes::{TestDataset, build_index, random_rows};

/// Far longer than any request to 60 videos takes. A request that is cut did not end by itself.
const LIMIT: Duration = Duration::from_secs(60);
const DIM: usize = 4;

type Sections = Vec<(SectionKind, u32, Vec<u8>)>;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Small generations of each kind.
fn bases() -> Vec<Sections> {
    let params = |metric| BuildParams::new(metric, 4, 20).unwrap();
    let halves = TestDataset::new(60, DIM);
    let rows: Vec<u8> = {
        let (dataset, mut row, mut bytes) = (halves.open(Metric::Cosine), Vec::new(), Vec::new());
        for at in 0..60 {
            dataset.embeddings.view().copy_row(at, &mut row);
            bytes.extend(row.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()));
        }
        bytes
    };
    std::fs::write(&halves.files.videos, npy("<f2", "False", "(60, 4)", &rows)).unwrap();
    let without_codes = params(Metric::InnerProduct).with_codes(Codes::None).unwrap();
    let samples = [
        Sample::new(),
        Sample::of(halves, Metric::Cosine, params(Metric::Cosine)),
        Sample::with(Metric::L2, params(Metric::L2)),
        Sample::with(Metric::InnerProduct, without_codes),
    ];
    let mut bases: Vec<Sections> =
        samples.iter().map(|sample| sections_of(&sample.sections, &sample.bytes)).collect();
    bases.push(with_lists());
    bases
}

fn sections_of(table: &[Section], bytes: &[u8]) -> Sections {
    let section = |section: &Section| (section.kind, section.ordinal, bytes[section.range()].to_vec());
    table.iter().map(section).collect()
}

/// A generation with one column, of lists of words.
fn with_lists() -> Sections {
    let rows = random_rows(60, DIM, 5);
    let tags = (0..60).map(|row| (row % 7 > 0).then(|| (0..row % 5).map(|tag| format!("tag {tag}"))));
    let values = ColumnValues::KeywordList(tags.collect());
    let dataset = Dataset::from_rows(DIM, rows).unwrap();
    let dataset = dataset.with_attribute(AttributeColumn { name: "tags".to_owned(), values }).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let index = build_index(&dataset, &BuildParams::new(Metric::InnerProduct, 4, 20).unwrap(), folder.path());
    sections_of(index.sections(), &std::fs::read(index.path()).unwrap())
}

/// A number at or near a bound: of rows, of a type, of a float.
fn odd(random: &mut ChaCha8Rng) -> u64 {
    const ODD: [u64; 22] = [
        0,
        1,
        2,
        59,
        60,
        61,
        63,
        64,
        4_096,
        1 << 16,
        0x3f80_0000,
        0x7f7f_ffff,
        0x7f80_0000,
        0x7fc0_0000,
        0xff80_0000,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        1 << 32,
        1 << 62,
        1 << 63,
        u64::MAX,
    ];
    if random.random_ratio(1, 4) { random.random() } else { *ODD.choose(random).unwrap() }
}

/// Changes one section in one of the ways in which a file can be wrong.
fn mutate(sections: &mut Sections, random: &mut ChaCha8Rng) {
    // Each kind equally often, however many columns have it.
    let mut kinds: Vec<SectionKind> = sections.iter().map(|section| section.0).collect();
    kinds.dedup();
    let kind = *kinds.choose(random).unwrap();
    let of_kind: Vec<usize> = (0..sections.len()).filter(|at| sections[*at].0 == kind).collect();
    let at = *of_kind.choose(random).unwrap();
    let other = random.random_range(0..sections.len());
    let bytes = &mut sections[at].2;
    if kind == SectionKind::Metadata {
        return mutate_metadata(bytes, random);
    }
    let width = *[4, 8].choose(random).unwrap();
    match random.random_range(0..10) {
        0..=2 => {
            let value = odd(random);
            let count = bytes.len() / width;
            for _ in 0..random.random_range(1..=8) {
                let entry = width * random.random_range(0..count.max(1));
                bytes
                    .iter_mut()
                    .skip(entry)
                    .zip(value.to_le_bytes())
                    .take(width)
                    .for_each(|(to, from)| *to = from);
            }
        }
        3 => {
            let value = odd(random).to_le_bytes();
            bytes.chunks_mut(width).for_each(|entry| entry.copy_from_slice(&value[..entry.len()]));
        }
        4 => random.fill_bytes(bytes),
        5 => bytes.chunks_exact_mut(width).for_each(|entry| {
            entry.copy_from_slice(&odd(random).to_le_bytes()[..width]);
        }),
        6 => {
            let length = bytes.len();
            let lengths =
                [0, length + 1, length + 4, length + 8, length.saturating_sub(4), length.saturating_sub(8)];
            bytes.resize(*lengths.choose(random).unwrap(), 0);
        }
        7 => drop(sections.remove(at)),
        8 => {
            let taken = std::mem::take(&mut sections[at].2);
            let given = std::mem::replace(&mut sections[other].2, taken);
            sections[at].2 = given;
        }
        _ => bytes.reverse(),
    }
}

fn mutate_metadata(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    let mut facts: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    let fields = facts.as_object_mut().unwrap();
    let names: Vec<String> = fields.keys().cloned().collect();
    let value = &mut fields[names.choose(random).unwrap()];
    match value {
        serde_json::Value::Number(_) => *value = odd(random).into(),
        serde_json::Value::String(text) => {
            *text =
                (*["ip", "cosine", "l2", "f32", "f16", "none", "sq8", "native", ""].choose(random).unwrap())
                    .to_owned();
        }
        serde_json::Value::Array(items) if random.random() => items.reverse(),
        serde_json::Value::Array(items) => {
            let copy = items.first().cloned().unwrap_or_else(|| 1.into());
            items.extend(std::iter::repeat_n(copy, random.random_range(1..300)));
        }
        other => *other = serde_json::Value::Null,
    }
    *bytes = serde_json::to_vec(&facts).unwrap();
}

fn staged(store: &IndexStore, sections: &Sections) -> StagedIndex {
    let mut set = SectionSet::default();
    for (kind, ordinal, bytes) in sections {
        set.add_parts(*kind, *ordinal, [Cow::Borrowed(bytes.as_slice())]);
    }
    let mut writer = IndexWriter::create(store.dir()).unwrap();
    assert!(writer.write(&set, |_| ControlFlow::Continue(())).unwrap().is_continue());
    writer.finish().unwrap()
}

fn open(store: &IndexStore) -> Option<Engine> {
    let options = EngineOptions {
        indexes: vec![("videos".to_owned(), store.dir().to_owned())],
        threads: 1,
        is_writable: true,
        rebuild: RebuildOptions { delta_share: 0.0, deleted_share: 0.0, ..RebuildOptions::default() },
        gate: GateOptions { queries: 20, k: 10, ..GateOptions::default() },
        ..EngineOptions::default()
    };
    Engine::open(options).ok()
}

/// Requests of every shape.
fn requests(ids: &[VideoId]) -> Vec<SearchRequest> {
    let vector =
        || SearchRequest::vector((0..DIM).map(|at| (at as f32 * 0.7).sin()).collect::<Vec<_>>()).k(10);
    let interest = |at: usize| Interest {
        vector: (0..DIM).map(|of| ((of + at) as f32).cos()).collect(),
        weight: 1.0 + at as f32,
        min_share: 0.2,
    };
    let interests = || SearchRequest::interests((0..3).map(interest).collect::<Vec<_>>()).k(10);
    let fresh = Fresh {
        attribute: "published_at".to_owned(),
        within: jiff::SignedDuration::from_hours(20_000),
        at_least: 5,
    };
    let mut all = vec![
        vector(),
        vector().k(1_000).ef_search(2_000),
        vector().exact(),
        vector().offset(25),
        vector().exclude(ids.iter().copied().take(30)),
        vector().score_threshold(0.1),
        vector().fresh(fresh.clone()),
        interests(),
        interests().offset(7).fresh(fresh),
        SearchRequest::similar_to(ids.iter().copied().take(3)).k(10),
    ];
    for plan in [Plan::Graph, Plan::FilteredGraph, Plan::MatchScan, Plan::BlockScan, Plan::ExactScan] {
        all.push(vector().plan(plan));
    }
    for filter in [r#"region = "US""#, r#"language = "en" and duration_s < 100"#, r#"tags = "tag 1""#] {
        all.extend(vector().filter_text(filter).ok());
    }
    for attribute in ["region", "tags", "creator_id", "language"] {
        all.push(vector().cap(attribute, 1));
        let mut capped = interests();
        capped.rules.caps = vec![Cap { attribute: attribute.to_owned(), max_per_value: 2 }];
        all.push(capped);
    }
    all.into_iter().map(|request| request.return_all_attributes().return_vectors()).collect()
}

/// Does with a generation what a server does. Returns whether it was served.
fn exercise(store: &IndexStore, staged: StagedIndex, ids: &[VideoId]) -> bool {
    if let Ok(index) = staged.open() {
        let _ = verify(&index).and_then(|_| Columns::open(&index)?.verify());
        let _ = index.make_resident();
    }
    store.publish(staged, BuildTimes::default(), Measured::default()).unwrap();
    let Some(engine) = open(store) else { return false };
    let budget = || Budget::until(Some(Instant::now() + LIMIT));
    for request in requests(ids) {
        if let Ok(answer) = engine.search(&request, &budget()) {
            assert_ne!(answer.completeness, Completeness::Deadline, "{request:?} does not end");
        }
        let _ = engine.explain(&request, ids[0], &budget());
    }
    let _ = engine.get("", ids, &ReturnAttributes::All, true);
    let writes = [Mutation::Delete(ids[1]), Mutation::Takedown(ids[2]), Mutation::Restore(ids[2])];
    let _ = engine.write("", writes.to_vec(), WriteMode::EachAlone);
    let _ = engine.search(&requests(ids)[0], &budget());
    if engine.start_rebuild("").is_ok() {
        while engine.status("").is_ok_and(|status| status.live.rebuild.state.is_underway()) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    engine.refresh();
    for task in Task::ALL {
        assert_eq!(
            engine.supervisor().restarts(task),
            0,
            "{} panicked: {:?}",
            task.name(),
            engine.status("")
        );
    }
    true
}

#[test]
fn an_engine_survives_any_generation_with_correct_checksums() {
    let bases = bases();
    let (first, count) = (number("HOSTILE_FROM", 0), number("HOSTILE_GENERATIONS", 200));
    let mut served = 0;
    for seed in first..first + count {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut sections = bases[seed as usize % bases.len()].clone();
        let ids = sections.iter().find(|section| section.0 == SectionKind::VideoIds).unwrap();
        let ids: Vec<VideoId> =
            ids.2.chunks_exact(8).map(|id| VideoId(u64::from_le_bytes(id.try_into().unwrap()))).collect();
        for _ in 0..if random.random_ratio(1, 4) { 3 } else { 1 } {
            mutate(&mut sections, &mut random);
        }
        let folder = tempfile::tempdir().unwrap();
        let store = IndexStore::new(folder.path());
        let staged = staged(&store, &sections);
        let result = std::panic::catch_unwind(|| exercise(&store, staged, &ids));
        served += usize::from(result.unwrap_or_else(|panic| {
            eprintln!("HOSTILE_FROM={seed} HOSTILE_GENERATIONS=1");
            std::panic::resume_unwind(panic)
        }));
    }
    assert!(first > 0 || served > count as usize / 20, "only {served} of {count} were served");
}

fn changed(base: &Sections, kind: SectionKind, change: impl Fn(&mut Vec<u8>)) -> Sections {
    let mut sections = base.clone();
    sections.iter_mut().filter(|section| section.0 == kind).for_each(|section| change(&mut section.2));
    sections
}

/// Scores that are not numbers have no order that kept places could rely on.
#[test]
fn embeddings_that_are_not_numbers_neither_stall_a_search_nor_pass_the_gate_or_a_rebuild() {
    for (at, base) in bases().iter().enumerate() {
        for value in [0xffff_ffff_u32, 0x7fc0_7fc0, 0x7f80_7c00, 0xff80_fc00] {
            let bad = changed(base, SectionKind::Vectors, |bytes| {
                bytes
                    .chunks_exact_mut(4)
                    .step_by(3)
                    .for_each(|word| word.copy_from_slice(&value.to_le_bytes()));
            });
            let folder = tempfile::tempdir().unwrap();
            let store = IndexStore::new(folder.path());
            let ids = [VideoId(1), VideoId(2), VideoId(3)];
            assert!(exercise(&store, staged(&store, &bad), &ids), "base {at}");
            let engine = open(&store).unwrap();
            let status = engine.start_rebuild("").and_then(|_| {
                while engine.status("")?.live.rebuild.state.is_underway() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                engine.status("")
            });
            let problem = status.unwrap().live.rebuild.problem.unwrap();
            assert!(problem.contains("finite"), "base {at}: {problem}");
        }
        // The gate of an engine that serves the sound generation.
        let folder = tempfile::tempdir().unwrap();
        let store = IndexStore::new(folder.path());
        store.publish(staged(&store, base), BuildTimes::default(), Measured::default()).unwrap();
        let engine = open(&store).unwrap();
        let bad = changed(base, SectionKind::Vectors, |bytes| bytes[..4].fill(0xff));
        store.publish(staged(&store, &bad), BuildTimes::default(), Measured::default()).unwrap();
        engine.refresh();
        let status = engine.status("").unwrap();
        let problem = status.refused.unwrap();
        assert_eq!(status.generation, 1);
        assert!(
            problem.contains("component 0 is not finite") || problem.contains("component 1"),
            "{problem}"
        );
    }
}

/// A file of some hundred bytes could return any number of them.
#[test]
fn lists_and_words_that_overlap_are_refused_when_the_columns_are_opened() {
    let base = &with_lists();
    let numbers = |numbers: &[u64]| bytemuck::cast_slice::<u64, u8>(numbers).to_vec();
    let folder = tempfile::tempdir().unwrap();
    let store = IndexStore::new(folder.path());
    let problem = |sections: &Sections| {
        let index: Index = staged(&store, sections).open().unwrap();
        match Columns::open(&index).map(drop).unwrap_err() {
            IndexError::BadEntry { section, problem, .. } => (section, problem),
            other => panic!("{other}"),
        }
    };
    let overlapping = changed(base, SectionKind::AttributeLists, |bytes| {
        let last = u64::from_le_bytes(*bytes.last_chunk().unwrap());
        let rows = bytes.len() / 8;
        let starts: Vec<u64> = (0..rows as u64).map(|row| if row % 2 == 0 { 0 } else { last }).collect();
        *bytes = numbers(&starts);
        bytes[8 * (rows - 1)..].copy_from_slice(&last.to_le_bytes());
    });
    assert_eq!(problem(&overlapping).0, "attribute_lists");
    let words = changed(base, SectionKind::AttributeWordOffsets, |bytes| {
        let (last, words) = (u64::from_le_bytes(*bytes.last_chunk().unwrap()), bytes.len() / 8);
        *bytes = numbers(&vec![last; words]);
        bytes[8..16].fill(0);
    });
    assert_eq!(problem(&words).0, "attribute_word_offsets");

    // One list of one long word, a hundred times.
    let mut long = base.clone();
    for (kind, _, bytes) in &mut long {
        let entries = bytes.len() / 8;
        match kind {
            SectionKind::AttributeLists => *bytes = numbers(&[vec![0], vec![100; entries - 1]].concat()),
            SectionKind::AttributeValues => *bytes = vec![0; 400],
            SectionKind::AttributeWordOffsets => {
                *bytes = numbers(&[vec![0], vec![1 << 20; entries - 1]].concat());
            }
            SectionKind::AttributeWords => *bytes = vec![b'x'; 1 << 20],
            _ => {}
        }
    }
    assert_eq!(problem(&long).1, "expected a list of at most 16777216 bytes, found 104857600");
}

/// The checks of the gate when `gate.verify` is set.
#[test]
fn a_gate_that_verifies_refuses_what_verify_refuses() {
    let base = &bases()[0];
    let bad = changed(base, SectionKind::Codes, |bytes| bytes[0] ^= 1);
    for verifies in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let store = IndexStore::new(folder.path());
        store.publish(staged(&store, base), BuildTimes::default(), Measured::default()).unwrap();
        let engine = Engine::open(EngineOptions {
            indexes: vec![("videos".to_owned(), store.dir().to_owned())],
            threads: 1,
            is_writable: true,
            gate: GateOptions { verify: verifies, max_p99_ratio: 0.0, ..GateOptions::default() },
            ..EngineOptions::default()
        });
        let engine = engine.unwrap();
        store.publish(staged(&store, &bad), BuildTimes::default(), Measured::default()).unwrap();
        engine.refresh();
        let status = engine.status("").unwrap();
        assert_eq!(status.generation, if verifies { 1 } else { 2 }, "{:?}", status.refused);
        if verifies {
            let problem = status.refused.unwrap();
            assert!(problem.contains("the code is not that of the embedding"), "{problem}");
        }
    }
}
