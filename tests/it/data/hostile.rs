//! Files of any bytes: whatever is in them, they are read or refused without a panic.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use half::f16;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use shortlist::base::metric::Metric;
use shortlist::dataset::{
    BenchmarkSet, Dataset, DatasetError, DatasetFiles, Embeddings, Neighbors, metric_of, read_ids,
};

use crate::harness::files::{
    Folder, ROWS, fbin, flat, fvecs, npy, npy_with_text, numbers, rows_of, three_rows, video_ids,
};
use crate::harness::parquet::{half, lists, text, values};

static VALID_FILES: LazyLock<Vec<(&str, Vec<u8>)>> = LazyLock::new(valid_files);

/// A valid file of every format, by extension.
fn valid_files() -> Vec<(&'static str, Vec<u8>)> {
    let folder = Folder::new();
    let half_rows = ROWS.map(|row| Some(row.map(|value| Some(f16::from_f32(value)))));
    let tags = [Some(vec![Some("a"), None]), None, Some(vec![])];
    let parquet = folder.parquet(
        "a.parquet",
        &[
            video_ids([5, 6, 7]),
            three_rows(),
            values("title", text(), [Some("a"), None, Some("c")]),
            lists("tags", text(), tags),
            numbers("views", [1, 2, 3]),
        ],
    );
    let halves = folder.parquet("b.parquet", &[lists("embedding", half(), half_rows)]);
    let hdf5 = |name: &str| {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hdf5");
        fs::read(fixtures.join(name)).expect("read")
    };
    vec![
        ("h5", hdf5("f8.h5")),
        ("h5", hdf5("packed_latest.h5")),
        ("npy", npy("<f4", "False", "(3, 4)", bytemuck::cast_slice(&flat()))),
        ("npy", npy("<u8", "False", "(6,)", bytemuck::cast_slice(&flat()))),
        ("npy", npy("<i4", "False", "(3, 4)", &[0; 48])),
        ("fvecs", fvecs(&[&ROWS[0], &ROWS[1], &ROWS[2]])),
        ("fbin", fbin(3, 4, &flat())),
        ("txt", b"1\n22\n333\n".to_vec()),
        ("parquet", fs::read(parquet).expect("read")),
        ("parquet", fs::read(halves).expect("read")),
    ]
}

/// Opens `bytes` with every reader of the extension. Any result is accepted; a panic is not.
fn open_by_every_reader(folder: &Folder, extension: &str, bytes: &[u8]) {
    let path = folder.file(&format!("a.{extension}"), bytes);
    let checked = |embeddings: Embeddings| embeddings.check_finite().and(embeddings.check_nonzero());
    let _ = Embeddings::open(&path).and_then(checked);
    let _ = read_ids(&path);
    let _ = Neighbors::open(&path);
    if extension == "parquet" {
        let attributes = vec![path.clone()];
        let files = DatasetFiles { embeddings: vec![path], ids: None, attributes };
        let _ = Dataset::open(&files, Metric::Cosine);
    } else if extension == "h5" {
        let _ = BenchmarkSet::open(&path);
        let _ = metric_of(&path);
    }
}

#[test]
fn files_cut_at_any_byte_are_no_panic() {
    let folder = Folder::new();
    for (extension, bytes) in VALID_FILES.iter() {
        for end in 0..bytes.len() {
            open_by_every_reader(&folder, extension, &bytes[..end]);
        }
    }
}

/// `video_id` or `embedding`, and `title` or `tags`; at most 20 kB. Each decodes to at least 600 MB: one word of 1 MB
/// in every row or many times in one list, one list of 100 million zeros, one page of one text. Made by pyarrow 21,
/// with zstd.
#[test]
fn parquet_files_that_expand_without_bound_are_refused() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet");
    for name in ["one_word", "one_list", "one_row", "one_page"] {
        let path = fixtures.join(format!("{name}.parquet"));
        let files = DatasetFiles::of(path.clone());
        let error = Dataset::open(&files, Metric::L2).unwrap_err();
        assert!(matches!(&error, DatasetError::Expands { path: found, .. } if *found == path), "{error}");
    }
}

/// A Parquet file of these bytes and this footer.
fn parquet(bytes: &[u8], footer: &[u8]) -> Vec<u8> {
    [b"PAR1", bytes, footer, &(footer.len() as u32).to_le_bytes(), b"PAR1"].concat()
}

/// An unsigned integer in the compact protocol of Thrift.
fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 128 {
        bytes.push(value as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A signed one.
fn int(value: usize) -> Vec<u8> {
    varint(2 * value)
}

/// A list of structs.
fn list(elements: &[Vec<u8>]) -> Vec<u8> {
    [&[0xfc], &varint(elements.len())[..], &elements.concat()].concat()
}

/// A footer with these schema elements and row groups.
fn footer(schema: &[Vec<u8>], row_groups: &[Vec<u8>]) -> Vec<u8> {
    [b"\x15\x02\x19", &list(schema)[..], b"\x16\x02\x19", &list(row_groups), b"\0"].concat()
}

/// A schema element: a required group.
fn group(name: &str, children: usize) -> Vec<u8> {
    [b"\x35\0\x18", &varint(name.len())[..], name.as_bytes(), b"\x15", &int(children), b"\0"].concat()
}

/// A schema element: a repeated column of f32.
fn floats(name: &str) -> Vec<u8> {
    [b"\x15\x08\x25\x04\x18", &varint(name.len())[..], name.as_bytes(), b"\0"].concat()
}

fn nested_schema(depth: usize) -> Vec<u8> {
    let groups = vec![group("a", 1); depth + 1];
    parquet(b"", &footer(&[groups, vec![floats("b")]].concat(), &[]))
}

/// The parquet crate descends recursively: a deep schema would overflow the stack, which nothing catches.
#[test]
fn deep_parquet_schemas_are_refused_and_shallow_ones_are_read() {
    let folder = Folder::new();
    let open = |depth| Embeddings::open(&folder.file("a.parquet", nested_schema(depth))).unwrap_err();
    for depth in [63, 64, 1_000, 20_000, 1_000_000] {
        assert!(matches!(open(depth), DatasetError::DeepSchema { most: 64, .. }), "{depth}");
    }
    for depth in [1, 5, 50, 62] {
        assert!(!matches!(open(depth), DatasetError::DeepSchema { .. }), "{depth}");
    }
}

/// The parquet crate would loop over two billion elements that take no bytes.
#[test]
fn parquet_footers_that_claim_elements_without_bytes_are_refused() {
    let folder = Folder::new();
    // Field 20, a list of ten lists of 2^31 - 1 booleans.
    let lists = [b"\x09\x28\xa9", &b"\xf1\xff\xff\xff\xff\x07".repeat(10)[..], b"\x00"].concat();
    // Field 1, a text with such a list, which is an integer by the specification. The parquet crate reads the length of
    // the text as the integer, and what is in it as fields. The file has 23 bytes.
    let hidden = b"\x18\x08\xe9\xf1\xff\xff\xff\xff\x07\x00\x00";
    for (footer, problem) in [
        (
            &lists[..],
            "FileMetaData, field 20: expected at most 55 elements, which is the number of bytes left at byte 7, \
             found 2147483647",
        ),
        (hidden, "FileMetaData.version: expected i32 at byte 4, found binary"),
    ] {
        let path = folder.file("a.parquet", parquet(b"", footer));
        let error = Embeddings::open(&path).unwrap_err().to_string();
        assert_eq!(error, format!("{}: Parquet error: {problem}", path.display()));
    }
}

/// The parquet crate would reserve 17 GB.
#[test]
fn parquet_schemas_that_announce_children_without_bytes_are_refused() {
    let folder = Folder::new();
    let path =
        folder.file("a.parquet", parquet(b"", &footer(&[group("a", i32::MAX as usize), floats("b")], &[])));
    let error = Embeddings::open(&path).unwrap_err().to_string();
    let problem = "SchemaElement.num_children: expected an integer from 0 to 1 at byte 15, found 2147483647";
    assert_eq!(error, format!("{}: Parquet error: {problem}", path.display()));
}

/// The parquet crate copies the names of all groups that a column is in: 20,000 times 100,000 bytes.
#[test]
fn parquet_schemas_with_many_columns_below_a_long_name_are_refused() {
    let folder = Folder::new();
    let open = |name: &str| {
        let schema = [vec![group("root", 1), group(name, 20_000)], vec![floats("b"); 20_000]].concat();
        Embeddings::open(&folder.file("a.parquet", parquet(b"", &footer(&schema, &[])))).unwrap_err()
    };
    let error = open(&"a".repeat(100_000));
    assert!(matches!(error, DatasetError::Expands { .. }), "{error}");
    let error = open("a");
    assert!(matches!(error, DatasetError::MissingColumn { .. }), "{error}");
}

/// 1,500 row groups with the same 2,001 pages, all empty but the first.
#[test]
fn parquet_columns_that_share_many_pages_are_refused() {
    let folder = Folder::new();
    // Data pages of version 2: a list of one zero, and nothing.
    let levels = b"\x02\x00\x02\x01";
    let first = b"\x15\x06\x15\x10\x15\x10\x5c\x15\x02\x15\x00\x15\x02\x15\x00\x15\x04\x15\x04\x12\x00\x00";
    let empty = b"\x15\x06\x15\x00\x15\x00\x5c\x15\x00\x15\x00\x15\x00\x15\x00\x15\x00\x15\x00\x12\x00\x00";
    let open = |groups: usize, pages: usize| {
        let bytes = [&first[..], levels, &[0; 4], &empty.repeat(pages)].concat();
        let (path, length) = (b"\x19\x18\x09embedding", int(bytes.len()));
        let column = [
            b"\x15\x08\x19\x15\x00",
            &path[..],
            b"\x15\x00\x16\x02\x16",
            &length,
            b"\x16",
            &length,
            b"\x26\x08\x00",
        ];
        let chunk = [b"\x26\x00\x1c", &column.concat()[..], b"\x00"].concat();
        let group = [b"\x19", &list(&[chunk])[..], b"\x16\x00\x16\x02\x00"].concat();
        let schema = [[b"\x48\x04root\x15\x02\0".to_vec()], [floats("embedding")]].concat();
        let file = parquet(&bytes, &footer(&schema, &vec![group; groups]));
        Embeddings::open(&folder.file("a.parquet", file))
    };
    assert_eq!(rows_of(&open(3, 10).unwrap()), [[0.0]; 3]);
    let error = open(1_500, 2_000).unwrap_err();
    assert!(matches!(error, DatasetError::Expands { .. }), "{error}");
}

#[test]
fn more_columns_than_an_index_stores_are_refused_with_the_name_of_the_file() {
    let folder = Folder::new();
    let column = |at: usize| numbers(&format!("c{at}"), [1, 2, 3]);
    let columns: Vec<_> = [three_rows()].into_iter().chain((0..8_000).map(column)).collect();
    let path = folder.parquet("wide.parquet", &columns);
    let files = DatasetFiles::of(path.clone());
    let error = Dataset::open(&files, Metric::L2).unwrap_err();
    let expected = format!("{}: expected at most 8000 columns, found 8001", path.display());
    assert_eq!(error.to_string(), expected);
    assert!(Embeddings::open(&path).is_ok());
}

/// To open a named pipe waits for its other end.
#[test]
fn only_regular_files_are_opened() {
    let folder = Folder::new();
    for extension in ["npy", "fvecs", "fbin", "h5", "parquet", "txt"] {
        let path = folder.path(&format!("pipe.{extension}"));
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let device = folder.path(&format!("device.{extension}"));
        std::os::unix::fs::symlink("/dev/zero", &device).unwrap();
        let inside = folder.path(&format!("folder.{extension}"));
        fs::create_dir(&inside).unwrap();
        for path in [path, device, inside] {
            let errors = [
                Embeddings::open(&path).map(drop).unwrap_err(),
                read_ids(&path).map(drop).unwrap_err(),
                Neighbors::open(&path).map(drop).unwrap_err(),
            ];
            let expected = format!("{}: not a regular file", path.display());
            let regular = |error: &DatasetError| match error {
                DatasetError::UnknownExtension { .. } => true,
                // A folder stands for the files in it, of which this one has none.
                DatasetError::NoFiles { path } => path.is_dir(),
                _ => error.to_string() == expected,
            };
            assert!(errors.iter().all(regular), "{errors:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, rng_seed: RngSeed::Fixed(17), ..ProptestConfig::default() })]

    #[test]
    fn files_with_changed_bytes_are_no_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let folder = Folder::new();
        for (extension, bytes) in VALID_FILES.iter() {
            let mut bytes = bytes.clone();
            for (at, byte) in &flips {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            open_by_every_reader(&folder, extension, &bytes);
        }
    }

    #[test]
    fn npy_headers_of_any_text_are_no_panic(text in "[{}()\\[\\],:'\"<>|=0-9a-fTFLdeschaportn_ ]{0,80}", data in 0_usize..64) {
        let folder = Folder::new();
        open_by_every_reader(&folder, "npy", &npy_with_text(&text, &vec![0; data]));
        let shape = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({text})}}");
        open_by_every_reader(&folder, "npy", &npy_with_text(&shape, &vec![0; data]));
        let descr = format!("{{'descr': '{text}', 'fortran_order': False, 'shape': (3, 4)}}");
        open_by_every_reader(&folder, "npy", &npy_with_text(&descr, &vec![0; data]));
    }
}
