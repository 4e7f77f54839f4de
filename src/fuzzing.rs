//! The bodies of the fuzz targets: bytes of a file, a peer or a log in, no panic out.
//!
//! `fuzz/` runs them under libFuzzer, and the tests below replay `fuzz/corpus/`. Compiled for those two only.

use std::path::Path;
use std::sync::LazyLock;

use prost::Message;

use crate::attributes::Columns;
use crate::base::id::VideoId;
use crate::base::instant::Instant;
use crate::base::interrupt::Interrupt;
use crate::base::metric::Metric;
use crate::dataset::{
    AttributeColumn, BenchmarkSet, ColumnValues, Dataset, DatasetFiles, Embeddings, Keywords, Neighbors,
    Numbers, metric_of, read_ids,
};
use crate::embedded;
use crate::engine::SearchRequest;
use crate::index::{self, HEADER_BYTES, verify};
use crate::live::log::mutation::{Mutation, Upsert};
use crate::live::log::record;
use crate::rules::{Bloom, Exclude, Exclusion, Filter};
use crate::search::{Effort, Interest, NodeRules, SearchParams, Searcher, Segment};
use crate::serialized_bitmap::SerializedBitmap;
use crate::service::{convert, proto};

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of the folder of its corpus.
    pub name: &'static str,
    /// Runs it on one input.
    pub run: fn(&[u8]),
    /// Valid inputs to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: [Target; 12] = [
    Target { name: "generation", run: generation, seeds: generations },
    Target { name: "filter_text", run: filter_text, seeds: filter_texts },
    Target { name: "filter", run: filter, seeds: filters },
    Target { name: "request", run: request, seeds: requests },
    Target { name: "bloom", run: bloom, seeds: blooms },
    Target { name: "roaring", run: roaring, seeds: roarings },
    Target { name: "npy", run: |bytes| files(bytes, "npy"), seeds: npys },
    Target {
        name: "vectors",
        run: |bytes| {
            let extensions = ["fvecs", "bvecs", "ivecs", "fbin", "f16bin", "i8bin", "u8bin", "ibin", "txt"];
            extensions.iter().for_each(|of| files(bytes, of));
        },
        seeds: vectors,
    },
    Target { name: "hdf5", run: |bytes| files(bytes, "hdf5"), seeds: hdf5s },
    Target { name: "parquet", run: |bytes| files(bytes, "parquet"), seeds: parquets },
    Target { name: "jsonl", run: |bytes| files(bytes, "jsonl"), seeds: records },
    Target { name: "log_record", run: log_record, seeds: log_records },
];

/// Returns the target of this name.
///
/// # Panics
/// If there is none.
pub fn target(name: &str) -> Target {
    TARGETS.into_iter().find(|target| target.name == name).expect("a target of this name")
}

const ROWS: [[f32; 2]; 4] = [[1.0, 0.1], [0.9, 0.3], [0.2, 0.8], [0.5, 0.5]];

/// Four videos with an attribute of each kind that a filter compares.
fn videos() -> Dataset {
    let words: Keywords = [Some("US"), Some("IN"), None, Some("US")].into_iter().collect();
    let numbers: Numbers<i64> = [Some(1), None, Some(3), Some(-4)].into_iter().collect();
    let column = |name: &str, values| AttributeColumn { name: name.to_owned(), values };
    let dataset = Dataset::from_rows(2, ROWS.as_flattened().to_vec()).expect("valid rows");
    let dataset = dataset.with_attribute(column("region", ColumnValues::Keyword(words)));
    let dataset = dataset
        .and_then(|dataset| dataset.with_attribute(column("views", ColumnValues::Int64(numbers.clone()))));
    dataset
        .and_then(|dataset| dataset.with_attribute(column("at", ColumnValues::Timestamp(numbers))))
        .expect("new names")
}

static INDEX: LazyLock<embedded::Index> = LazyLock::new(|| {
    embedded::Index::builder(Metric::InnerProduct).threads(1).build(&videos()).expect("valid rows")
});

/// The bytes of small generations: the sections that an index in memory has, as a file.
fn generations() -> Vec<Vec<u8>> {
    [Metric::InnerProduct, Metric::Cosine, Metric::L2]
        .into_iter()
        .map(|metric| {
            let folder = tempfile::tempdir().expect("a folder");
            embedded::Index::builder(metric)
                .threads(1)
                .publish(&videos(), folder.path())
                .expect("valid rows");
            std::fs::read(folder.path().join("generation-00000001.index")).expect("a published file")
        })
        .collect()
}

/// A generation file, whose checksums are corrected first: an attacker would do so, too.
fn generation(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    correct_checksums(&mut bytes);
    let Ok(index) = index::Index::in_memory(Path::new("fuzzed"), &bytes) else { return };
    let _ = verify(&index);
    let Ok(columns) = Columns::open(&index) else { return };
    let _ = columns.verify();
    let segments = [Segment::whole(&index)];
    let rules = NodeRules::none(&segments);
    let vector = vec![0.5f32; index.dim()];
    let interest = |weight, at_least| Interest { vector: (&vector[..]).into(), weight, at_least };
    for effort in [Effort::EfSearch(1), Effort::EfSearch(50), Effort::Exact] {
        let params = SearchParams::new(10, effort).expect("k is not 0");
        for interests in [vec![interest(1.0, 0)], vec![interest(0.5, 3), interest(2.0, 3)]] {
            let found = Searcher::default().search_segments(
                &interests,
                &params,
                &rules,
                None,
                &mut Interrupt::never(),
            );
            for hit in found.hits {
                (0..columns.schema().len()).for_each(|column| drop(columns.value(column, hit.node)));
            }
        }
    }
}

/// Corrects the checksums of all sections, of their table and of the header, and the length.
fn correct_checksums(bytes: &mut [u8]) {
    const ENTRY_BYTES: usize = 32;
    if bytes.len() < HEADER_BYTES {
        return;
    }
    let number =
        |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes")) as usize;
    let count = u32::from_le_bytes(bytes[12..16].try_into().expect("4 bytes")) as usize;
    let length = bytes.len() as u64;
    bytes[16..24].copy_from_slice(&length.to_le_bytes());
    let entries = count.min((bytes.len() - HEADER_BYTES) / ENTRY_BYTES);
    for at in (0..entries).map(|entry| HEADER_BYTES + entry * ENTRY_BYTES) {
        let (start, length) = (number(bytes, at + 8), number(bytes, at + 16));
        if let Some(section) = start.checked_add(length).and_then(|end| bytes.get(start..end)) {
            let checksum = crc32c::crc32c(section);
            bytes[at + 24..at + 28].copy_from_slice(&checksum.to_le_bytes());
        }
    }
    let table = crc32c::crc32c(&bytes[HEADER_BYTES..HEADER_BYTES + entries * ENTRY_BYTES]);
    bytes[24..28].copy_from_slice(&table.to_le_bytes());
    let header = crc32c::crc32c(&bytes[..28]);
    bytes[28..32].copy_from_slice(&header.to_le_bytes());
}

/// The text of a filter.
fn filter_text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(filter) = text.parse::<Filter>() else { return };
    let _ = INDEX.search(&SearchRequest::vector([1.0, 0.0]).k(2).filter(filter));
}

fn filter_texts() -> Vec<Vec<u8>> {
    const TEXTS: [&str; 6] = [
        r#"region = "US" and views > 1"#,
        r#"region in ("US", "IN") or not (views <= -3)"#,
        "at > -7d and region is null",
        r#"at >= 2026-01-01T00:00:00Z and at < now"#,
        r#"region != "a\"b""#,
        "video_id in (1, 2, 3)",
    ];
    TEXTS.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// A filter message.
fn filter(bytes: &[u8]) {
    let Ok(filter) = proto::Filter::decode(bytes) else { return };
    answer(proto::SearchRequest { filter: Some(filter), ..wire_request() });
}

fn filters() -> Vec<Vec<u8>> {
    let domain = |text: &Vec<u8>| std::str::from_utf8(text).ok()?.parse::<Filter>().ok();
    filter_texts()
        .iter()
        .filter_map(domain)
        .map(|filter| proto::Filter::from(filter).encode_to_vec())
        .collect()
}

/// A search request.
fn request(bytes: &[u8]) {
    if let Ok(request) = proto::SearchRequest::decode(bytes) {
        answer(request);
    }
}

fn wire_request() -> proto::SearchRequest {
    let vector = proto::Vector { values: vec![1.0, 0.0], ..proto::Vector::default() };
    let query = Some(proto::search_request::Query::Vector(vector));
    proto::SearchRequest { query, k: 3, ..proto::SearchRequest::default() }
}

fn requests() -> Vec<Vec<u8>> {
    let mut requests = vec![wire_request()];
    for filter in filters() {
        let filter = proto::Filter::decode(&filter[..]).ok();
        requests.push(proto::SearchRequest {
            filter,
            offset: 1,
            return_attributes: vec!["*".to_owned()],
            ..wire_request()
        });
    }
    let exclude =
        proto::Exclude { video_ids: vec![1, 2], roaring: roarings().remove(0), ..proto::Exclude::default() };
    requests.push(proto::SearchRequest { exclude: Some(exclude), ..wire_request() });
    requests.iter().map(Message::encode_to_vec).collect()
}

fn answer(request: proto::SearchRequest) {
    if let Ok(request) = convert::search_request(request)
        && let Ok(answer) = INDEX.search(&request)
    {
        convert::search_response(answer, true, None, None).encode_to_vec();
    }
}

/// A Bloom filter: the number of hashes, the seed, the bits.
fn bloom(bytes: &[u8]) {
    let Some((head, bits)) = bytes.split_first_chunk::<9>() else { return };
    let (hashes, seed) = (u32::from(head[0]), u64::from_le_bytes(*head.last_chunk().expect("8 bytes")));
    exclude(Exclude { bloom: Some(Bloom { bits: bits.to_vec(), hashes, seed }), ..Exclude::default() });
}

fn blooms() -> Vec<Vec<u8>> {
    [(1, 1), (4, 64), (32, 300)]
        .map(|(hashes, bytes)| [&[hashes; 9][..], &vec![0x5a; bytes]].concat())
        .to_vec()
}

/// A Roaring bitmap, of 64-bit ids as in a request, and of nodes as in a file.
fn roaring(bytes: &[u8]) {
    exclude(Exclude { roaring: bytes.to_vec(), ..Exclude::default() });
    if let Ok((bitmap, _)) = SerializedBitmap::parse(bytes) {
        let mut count = 0;
        bitmap.for_each(|_| count += 1);
        assert_eq!(count, bitmap.len());
    }
}

fn exclude(exclude: Exclude) {
    if let Ok(exclusion) = Exclusion::of(&exclude) {
        let ids = [0, 1, 7, 1 << 16, 1 << 32, u64::MAX];
        let _ = ids.map(|id| exclusion.contains(VideoId(id)));
    }
}

fn roarings() -> Vec<Vec<u8>> {
    use roaring::{RoaringBitmap, RoaringTreemap};
    let sets: [Vec<u64>; 4] =
        [vec![1, 2, 3], vec![5 << 32, 9 << 40, 7], (0..5_000).collect(), (0..9_000).step_by(2).collect()];
    let treemap = |ids: &Vec<u64>| {
        let mut bytes = Vec::new();
        ids.iter().collect::<RoaringTreemap>().serialize_into(&mut bytes).expect("memory");
        bytes
    };
    let bitmap = |ids: &Vec<u64>| {
        let mut bytes = Vec::new();
        let mut bitmap: RoaringBitmap = ids.iter().map(|id| *id as u32).collect();
        bitmap.optimize();
        bitmap.serialize_into(&mut bytes).expect("memory");
        bytes
    };
    sets.iter().map(treemap).chain(sets.iter().map(bitmap)).collect()
}

/// A file of embeddings, ids, neighbors or a catalog, by every reader of the extension.
fn files(bytes: &[u8], extension: &str) {
    thread_local!(static FOLDER: tempfile::TempDir = tempfile::tempdir().expect("a folder"));
    FOLDER.with(|folder| {
        let path = folder.path().join(format!("input.{extension}"));
        std::fs::write(&path, bytes).expect("a writable folder");
        let checked = |embeddings: Embeddings| embeddings.check_finite().and(embeddings.check_nonzero());
        let _ = Embeddings::open(&path).and_then(checked);
        let _ = read_ids(&path);
        let _ = Neighbors::open(&path);
        if ["parquet", "jsonl"].contains(&extension) {
            let files =
                DatasetFiles { embeddings: vec![path.clone()], ids: None, attributes: vec![path.clone()] };
            let _ = Dataset::open(&files, Metric::Cosine);
        } else if extension == "hdf5" {
            let _ = BenchmarkSet::open(&path);
            let _ = metric_of(&path);
        }
    });
}

fn npys() -> Vec<Vec<u8>> {
    let file = |descr: &str, shape: &str, bytes: &[u8]| {
        let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        let text = format!("{text:117}\n");
        [b"\x93NUMPY\x01\x00", &(text.len() as u16).to_le_bytes()[..], text.as_bytes(), bytes].concat()
    };
    let rows = bytemuck::cast_slice::<f32, u8>(ROWS.as_flattened());
    vec![
        file("<f4", "(4, 2)", rows),
        file("<f2", "(4, 4)", rows),
        file("<u8", "(4,)", rows),
        file("<i4", "(4, 2)", &[0; 32]),
        file(">f4", "(4, 2)", rows),
        file("<f8", "(2, 2)", rows),
        file("<V2", "(4, 4)", rows),
        file("|u1", "(4, 8)", rows),
        file("<U2", "(4,)", b"a\0\0\0b\0\0\0a\0\0\0c\0\0\0a\0\0\0d\0\0\0a\0\0\0\0\0\0\0"),
        file("|S2", "(4,)", b"abacada\0"),
    ]
}

fn vectors() -> Vec<Vec<u8>> {
    let row = |row: &[f32; 2]| [&2i32.to_le_bytes(), bytemuck::cast_slice::<f32, u8>(row)].concat();
    let fbin = [bytemuck::cast_slice::<u32, u8>(&[4, 2]), bytemuck::cast_slice(ROWS.as_flattened())].concat();
    let bytes = |values: &[u8]| [&(values.len() as i32).to_le_bytes(), values].concat();
    let header = bytemuck::cast_slice::<u32, u8>(&[2, 4]);
    vec![
        ROWS.iter().flat_map(row).collect(),
        fbin,
        b"1\n22\n333\n".to_vec(),
        b"\xef\xbb\xbfdQw4w9WgXcQ\r\n\xc3\xbc\r\n".to_vec(),
        [bytes(b"abcd"), bytes(b"efgh")].concat(),
        [header, b"abcdefgh"].concat(),
        [header, b"abcdefghijklmnop"].concat(),
    ]
}

fn records() -> Vec<Vec<u8>> {
    let numbers = "{\"video_id\":7,\"embedding\":[1,0.5],\"views\":1,\"tags\":[\"x\",3],\"at\":\"2026-01-01T00:00:00Z\"}\n\
                   {\"embedding\":[0.25,-2e0],\"video_id\":8,\"views\":0.5,\"ok\":true,\"tags\":null}\n";
    let texts =
        "{\"video_id\":\"dQw4w9WgXcQ\",\"embedding\":[1e-40]}\r\n\n{\"video_id\":\"b\",\"embedding\":[-1]}";
    vec![numbers.into(), texts.into()]
}

/// Files of the test suite, as pyarrow writes them: this crate only reads Parquet.
fn parquets() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet");
    let read = |name| std::fs::read(folder.join(name)).expect("a file of the test suite");
    ["catalog.parquet", "halves.parquet", "one_row.parquet", "text_ids.parquet", "uuids.parquet"]
        .map(read)
        .to_vec()
}

/// Files of the test suite, as h5py writes them.
fn hdf5s() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hdf5");
    let read = |name| std::fs::read(folder.join(name)).expect("a file of the test suite");
    ["f4.h5", "f8.h5", "packed.h5", "packed_latest.h5"].map(read).to_vec()
}

/// A record of the log, whose checksum is corrected first. What can be read is written as it was read.
fn log_record(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    if let Some((head, message)) = bytes.split_first_chunk_mut::<5>() {
        head[1..].copy_from_slice(&crc32c::crc32c(message).to_le_bytes());
    }
    if let Ok(mutation) = record::decode(&bytes) {
        let again = record::encode(&mutation, Instant::MAX);
        let read = record::decode(&again).expect("an encoded mutation");
        assert_eq!(record::encode(&read, Instant::MAX), again);
    }
}

fn log_records() -> Vec<Vec<u8>> {
    use crate::attributes::Value;
    let attributes = [
        ("region", Value::Keyword("US".to_owned())),
        ("tags", Value::KeywordList(vec!["a".to_owned(), "b".to_owned()])),
        ("views", Value::Int64(-5)),
        ("score", Value::Double(0.5)),
        ("safe", Value::Bool(true)),
        ("at", Value::Timestamp(Instant::from_microsecond(1_700_000_000_000_000).expect("in range"))),
    ];
    let upsert = Upsert {
        video_id: VideoId(7),
        embedding: vec![0.5, -1.0],
        attributes: attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        expires_at: Some(Instant::from_microsecond(1_800_000_000_000_000).expect("in range")),
        embedding_model: Some("m".to_owned()),
    };
    let of = [
        Mutation::Upsert(upsert),
        Mutation::Delete(VideoId(1)),
        Mutation::Takedown(VideoId(2)),
        Mutation::Restore(VideoId(2)),
    ];
    of.iter().map(|mutation| record::encode(mutation, Instant::MAX)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corpus(target: Target) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name)
    }

    #[test]
    fn no_input_of_the_corpora_panics() {
        for target in TARGETS {
            let folder = corpus(target);
            let files: Vec<_> = folder.read_dir().unwrap().map(|file| file.unwrap().path()).collect();
            assert!(!files.is_empty(), "{} is empty", folder.display());
            for file in files {
                let bytes = std::fs::read(&file).unwrap();
                let result = std::panic::catch_unwind(|| (target.run)(&bytes));
                assert!(result.is_ok(), "{} panics", file.display());
            }
        }
    }

    /// Most changes of one byte reach the code behind the first check.
    #[test]
    fn no_seed_with_a_changed_byte_panics() {
        for target in TARGETS {
            for seed in (target.seeds)() {
                (target.run)(&seed);
                let step = seed.len().div_ceil(20);
                for at in (0..seed.len()).step_by(step.max(1)) {
                    let mut changed = seed.clone();
                    changed[at] ^= 0x81;
                    (target.run)(&changed);
                }
            }
        }
    }

    #[test]
    #[ignore = "writes the seeds into fuzz/corpus"]
    fn write_seeds() {
        for target in TARGETS {
            let folder = corpus(target);
            std::fs::create_dir_all(&folder).unwrap();
            for (number, seed) in (target.seeds)().iter().enumerate() {
                std::fs::write(folder.join(format!("seed-{number:02}")), seed).unwrap();
            }
        }
    }
}
