//! Files of any bytes: whatever is in them, they are read or refused without a panic.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use half::f16;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use shortlist::base::metric::Metric;
use shortlist::dataset::{Dataset, DatasetError, DatasetFiles, Embeddings, Neighbors, read_ids};

use crate::harness::files::{
    Folder, ROWS, fbin, flat, fvecs, npy, npy_with_text, numbers, three_rows, video_ids,
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
    vec![
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
        let attributes = Some(path.clone());
        let files = DatasetFiles { embeddings: path, ids: None, attributes };
        let _ = Dataset::open(&files, Metric::Cosine);
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

/// `video_id` or `embedding`, and `title` or `tags`; at most 20 kB. Each decodes to at least 600 MB: one word of 1 MB in
/// every row or many times in one list, one list of 100 million zeros, one page of one text. Made by pyarrow 21, with zstd.
#[test]
fn parquet_files_that_expand_without_bound_are_refused() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet");
    for name in ["one_word", "one_list", "one_row", "one_page"] {
        let path = fixtures.join(format!("{name}.parquet"));
        let files = DatasetFiles { embeddings: path.clone(), ids: None, attributes: None };
        let error = Dataset::open(&files, Metric::L2).unwrap_err();
        assert!(matches!(&error, DatasetError::Expands { path: found, .. } if *found == path), "{error}");
    }
}

/// A schema of groups in groups, in the compact protocol of Thrift.
fn nested_schema(depth: usize) -> Vec<u8> {
    let group = b"\x35\x02\x18\x01a\x15\x02\x00".repeat(depth);
    let leaf = b"\x15\x04\x25\x02\x18\x01b\x00";
    let (mut count, mut left) = (Vec::new(), depth + 2);
    while left >= 128 {
        count.push(left as u8 | 128);
        left >>= 7;
    }
    count.push(left as u8);
    let root = b"\x48\x06schema\x15\x02\x00";
    let footer = [b"\x15\x02\x19\xfc", &count[..], root, &group, leaf, b"\x16\x02\x19\x0c\x00"].concat();
    [b"PAR1", &footer[..], &(footer.len() as u32).to_le_bytes(), b"PAR1"].concat()
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

/// The parquet crate would loop over two billion elements that take no bytes, ten times, for a minute.
#[test]
fn parquet_footers_that_claim_elements_without_bytes_are_refused() {
    let folder = Folder::new();
    // Field 20, a list of ten lists of 2^31 - 1 booleans.
    let list = b"\xf1\xff\xff\xff\xff\x07".repeat(10);
    let footer = [b"\x09\x28\xa9", &list[..], b"\x00"].concat();
    let bytes = [b"PAR1", &footer[..], &(footer.len() as u32).to_le_bytes(), b"PAR1"].concat();
    let path = folder.file("a.parquet", bytes);
    let error = Embeddings::open(&path).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("{}: Parquet error: expected metadata in the footer, found other bytes", path.display())
    );
}

#[test]
fn more_columns_than_an_index_stores_are_refused_with_the_name_of_the_file() {
    let folder = Folder::new();
    let column = |at: usize| numbers(&format!("c{at}"), [1, 2, 3]);
    let columns: Vec<_> = [three_rows()].into_iter().chain((0..8_000).map(column)).collect();
    let path = folder.parquet("wide.parquet", &columns);
    let files = DatasetFiles { embeddings: path.clone(), ids: None, attributes: None };
    let error = Dataset::open(&files, Metric::L2).unwrap_err();
    let expected = format!("{}: expected at most 8000 columns, found 8001", path.display());
    assert_eq!(error.to_string(), expected);
    assert!(Embeddings::open(&path).is_ok());
}

/// To open a named pipe waits for its other end.
#[test]
fn only_regular_files_are_opened() {
    let folder = Folder::new();
    for extension in ["npy", "fvecs", "fbin", "parquet", "txt"] {
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
            let regular = |error: &DatasetError| {
                matches!(error, DatasetError::UnknownExtension { .. }) || error.to_string() == expected
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
