//! Files of any bytes: whatever is in them, they are read or refused without a panic.

use std::fs;
use std::sync::LazyLock;

use half::f16;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use shortlist::base::metric::Metric;
use shortlist::dataset::{Dataset, DatasetFiles, Embeddings, Neighbors, read_ids};

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
