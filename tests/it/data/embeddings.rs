//! Embeddings files of every format, opened, and refused where they are wrong.

use std::fs;
use std::path::{Path, PathBuf};

use half::f16;
use shortlist::base::element::Dtype;
use shortlist::base::metric::Metric;
use shortlist::dataset::{
    Dataset, DatasetError, DatasetFiles, Embeddings, EmbeddingsView, read_ids, write_npy,
};

use crate::harness::files::{
    Folder, ROWS, assert_refused, fbin, flat, fvecs, npy, npy_with_text, rows_of, three_rows,
};
use crate::harness::parquet::{ListEncoding, embeddings, half, lists};

#[test]
fn every_format_gives_the_same_rows() {
    let folder = Folder::new();
    let halves: Vec<f16> = flat().into_iter().map(f16::from_f32).collect();
    let half_lists = halves.chunks(4).map(|row| Some(row.iter().map(|value| Some(*value))));
    let half_lists = lists("embedding", half(), half_lists);
    let half_npy = folder.path("half.npy");
    write_npy(&half_npy, &[3, 4], &halves).expect("written");
    let written = folder.path("single.npy");
    write_npy(&written, &[3, 4], &flat()).expect("written");

    let files = [
        (Dtype::F32, written),
        (Dtype::F16, half_npy),
        (Dtype::F32, folder.file("numpy.NPY", npy("<f4", "False", "(3, 4)", bytemuck::cast_slice(&flat())))),
        (Dtype::F32, folder.file("a.fvecs", fvecs(&[&ROWS[0], &ROWS[1], &ROWS[2]]))),
        (Dtype::F32, folder.file("a.fbin", fbin(3, 4, &flat()))),
        (Dtype::F32, folder.parquet("list.parquet", &[three_rows()])),
        (Dtype::F32, folder.parquet("required.parquet", &[three_rows().required()])),
        (Dtype::F32, folder.parquet("two.parquet", &[three_rows().encoded(ListEncoding::TwoLevels)])),
        (Dtype::F32, folder.parquet("repeated.parquet", &[three_rows().encoded(ListEncoding::Repeated)])),
        (Dtype::F16, folder.parquet("half.parquet", std::slice::from_ref(&half_lists))),
        (Dtype::F16, folder.parquet("half_required.parquet", &[half_lists.required()])),
    ];
    for (dtype, path) in files {
        let embeddings = Embeddings::open(&path).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(embeddings.view().dtype(), dtype, "{}", path.display());
        assert_eq!(embeddings.view().dim(), 4, "{}", path.display());
        assert_eq!(rows_of(&embeddings), ROWS, "{}", path.display());
        assert_eq!(embeddings.path(), path);
        embeddings.check_finite().expect("finite");
        embeddings.check_nonzero().expect("no zero row");
    }
}

#[test]
fn every_version_of_npy_is_read() {
    let folder = Folder::new();
    let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }\n";
    for version in [2, 3] {
        let header =
            [b"\x93NUMPY".as_slice(), &[version, 0], &(text.len() as u32).to_le_bytes(), text.as_bytes()];
        let bytes = [header.concat(), bytemuck::cast_slice(&flat()).to_vec()].concat();
        assert_eq!(rows_of(&Embeddings::open(&folder.file("a.npy", bytes)).expect("opened")), ROWS);
    }
}

#[test]
fn npy_of_any_alignment_is_read() {
    let folder = Folder::new();
    let halves: Vec<f16> = flat().into_iter().map(f16::from_f32).collect();
    for padding in 0..9 {
        for (descr, data) in
            [("<f4", bytemuck::cast_slice::<f32, u8>(&flat())), ("<f2", bytemuck::cast_slice(&halves))]
        {
            let spaces = " ".repeat(padding);
            let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (3, 4)}}{spaces}\n");
            let embeddings =
                Embeddings::open(&folder.file("a.npy", npy_with_text(&text, data))).expect("opened");
            assert_eq!(rows_of(&embeddings), ROWS);
        }
    }
}

#[test]
fn fvecs_is_strided_and_npy_contiguous() {
    let folder = Folder::new();
    let strided = Embeddings::open(&folder.file("a.fvecs", fvecs(&[&ROWS[0], &ROWS[1]]))).expect("opened");
    let contiguous = Embeddings::open(&folder.file("a.fbin", fbin(3, 4, &flat()))).expect("opened");
    let slice = |embeddings: &Embeddings| match embeddings.view() {
        EmbeddingsView::F32(rows) => rows.as_contiguous().map(<[f32]>::len),
        EmbeddingsView::F16(_) => panic!("expected f32"),
    };
    assert_eq!(slice(&strided), None);
    assert_eq!(slice(&contiguous), Some(12));
}

#[test]
fn refuses_unknown_extensions_with_the_accepted_ones() {
    for (name, extension) in [("a.npz", "npz"), ("a", "")] {
        let accepted =
            ".npy, .fvecs, .bvecs, .fbin, .f16bin, .i8bin, .u8bin, .hdf5, .h5, .parquet, .jsonl or .ndjson";
        assert_refused!(
            Embeddings::open(Path::new(name)),
            UnknownExtension { found: extension, accepted: accepted, path: PathBuf::from(name) }
        );
    }
    assert_refused!(read_ids(Path::new("a.csv")), UnknownExtension { accepted: ".npy or .txt" });
}

#[test]
fn refuses_missing_and_empty_files() {
    let folder = Folder::new();
    for extension in ["npy", "fvecs", "fbin", "hdf5", "parquet"] {
        let missing = folder.path(&format!("missing.{extension}"));
        assert_refused!(Embeddings::open(&missing), Io { path: missing });
        let empty = folder.file(&format!("empty.{extension}"), []);
        assert_refused!(Embeddings::open(&empty), EmptyFile { path: empty });
    }
}

#[test]
fn refuses_wrong_magic() {
    let folder = Folder::new();
    let found = "\"PAR1no\"";
    assert_refused!(
        Embeddings::open(&folder.file("a.npy", "PAR1nope")),
        WrongMagic { format: "npy", found: found }
    );
    let parquet = folder.parquet("a.parquet", &[three_rows()]);
    let mut bytes = fs::read(parquet).expect("read");
    let end = bytes.len() - 1;
    bytes[end] = b'2';
    let found = "\"PAR1PAR2\"";
    assert_refused!(
        Embeddings::open(&folder.file("b.parquet", bytes)),
        WrongMagic { format: "Parquet", found: found }
    );
    assert_refused!(Embeddings::open(&folder.file("c.parquet", "PAR1")), WrongMagic { format: "Parquet" });
}

#[test]
fn refuses_files_that_are_too_short_or_too_long() {
    let folder = Folder::new();
    let whole = [
        ("a.npy", npy("<f4", "False", "(3, 4)", bytemuck::cast_slice(&flat()))),
        ("a.fvecs", fvecs(&[&ROWS[0], &ROWS[1], &ROWS[2]])),
        ("a.fbin", fbin(3, 4, &flat())),
    ];
    for (name, bytes) in whole {
        let (expected, found) = (bytes.len() as u64, bytes.len() as u64 - 1);
        let short = folder.file(name, &bytes[..bytes.len() - 1]);
        assert_refused!(Embeddings::open(&short), Truncated { expected: expected, found: found });
        if name != "a.fvecs" {
            let long = folder.file(name, [bytes.as_slice(), b"x"].concat());
            assert_refused!(
                Embeddings::open(&long),
                TrailingBytes { expected: expected, found: expected + 1 }
            );
        }
    }
    assert_refused!(Embeddings::open(&folder.file("b.fbin", [1, 0, 0])), Truncated { expected: 8, found: 3 });
    assert_refused!(
        Embeddings::open(&folder.file("b.fvecs", [1, 0, 0])),
        Truncated { expected: 4, found: 3 }
    );
    assert_refused!(
        Embeddings::open(&folder.file("b.npy", b"\x93NUMPY\x01")),
        Truncated { expected: 12, found: 7 }
    );
    let cut_header = npy_with_text(&" ".repeat(100), &[]);
    assert_refused!(
        Embeddings::open(&folder.file("c.npy", &cut_header[..50])),
        Truncated { expected: 110, found: 50 }
    );
}

#[test]
fn refuses_shapes_no_index_holds() {
    let folder = Folder::new();
    let open = |shape: &str| Embeddings::open(&folder.file("a.npy", npy("<f4", "False", shape, &[])));
    assert_refused!(open("(0, 4)"), NoRows {});
    assert_refused!(open("(3, 0)"), ZeroDimension {});
    assert_refused!(open("(2147483648, 4)"), TooManyRows { found: 2_147_483_648, most: 2_147_483_647 });
    assert_refused!(open("(3, 65537)"), DimensionTooLarge { found: 65_537, most: 65_536 });
    assert_refused!(
        open("(2147483647, 65536)"),
        Truncated { expected: 128 + 2_147_483_647 * 65_536 * 4, found: 128 }
    );
    assert_refused!(open("(12,)"), WrongShape { expected: 2, found: [12] });
    assert_refused!(open("(1, 3, 4)"), WrongShape { expected: 2, found: [1, 3, 4] });
    assert_refused!(open("()"), WrongShape { expected: 2, found: Vec::<u64>::new() });

    let open = |rows, dim| Embeddings::open(&folder.file("a.fbin", fbin(rows, dim, &[])));
    assert_refused!(open(0, 4), NoRows {});
    assert_refused!(open(3, 0), ZeroDimension {});
    assert_refused!(open(u32::MAX, 4), TooManyRows { found: u64::from(u32::MAX) });
    assert_refused!(open(3, 65_537), DimensionTooLarge { found: 65_537 });
    assert_refused!(open(3, u32::MAX), DimensionTooLarge { found: u64::from(u32::MAX) });

    let open = |dim: i32| Embeddings::open(&folder.file("a.fvecs", dim.to_le_bytes()));
    assert_refused!(open(0), ZeroDimension {});
    assert_refused!(open(-1), DimensionTooLarge { most: 65_536 });
    assert_refused!(open(65_537), DimensionTooLarge { found: 65_537 });

    let empty = folder.parquet("a.parquet", &[three_rows().truncated(0)]);
    assert_refused!(Embeddings::open(&empty), NoRows {});
    let flat = folder.parquet("b.parquet", &[embeddings::<[f32; 0]>(&[[], []])]);
    assert_refused!(Embeddings::open(&flat), ZeroDimension {});
}

#[test]
fn refuses_npy_of_other_types() {
    let folder = Folder::new();
    let data = bytemuck::cast_slice(ROWS.as_flattened());
    let open = |descr, fortran| Embeddings::open(&folder.file("a.npy", npy(descr, fortran, "(3, 4)", data)));
    for descr in ["<i4", "<i8", "<c8", "|S4", "<U1", "|V4", "|b1"] {
        let (expected, found) = ("f32, f16, f64, bf16 ('V2'), i8 or u8", format!("'{descr}'"));
        assert_refused!(open(descr, "False"), UnsupportedType { found: found, expected: expected });
    }
}

#[test]
fn refuses_malformed_npy_headers() {
    let folder = Folder::new();
    let open = |bytes: &[u8]| Embeddings::open(&folder.file("a.npy", bytes));
    let texts = [
        String::new(),
        "{}".to_owned(),
        "{'descr': '<f4', 'fortran_order': False}".to_owned(),
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4)".to_owned(),
        "{'descr': '<f4', 'fortran_order': 1, 'shape': (3, 4)}".to_owned(),
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-3, 4)}".to_owned(),
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4.0)}".to_owned(),
        "{'descr': '<f4', 'fortran_order': False, 'shape': (0x3, 4)}".to_owned(),
        "{'descr': 'é', 'fortran_order': False, 'shape': (3, 4)}".to_owned(),
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3, 4)}".to_owned(),
        // Would wrap around to a plausible number of elements.
        "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775808, 4)}".to_owned(),
        // Would exhaust the stack of a recursive parser.
        "(".repeat(8_000),
        "{'descr':".repeat(800),
    ];
    for text in texts {
        let bytes = npy_with_text(&text, &[0; 48]);
        assert_refused!(open(&bytes), BadHeader { format: "npy" });
    }
    let too_long = npy_with_text(&" ".repeat(9_000), &[]);
    assert_refused!(open(&too_long), BadHeader { format: "npy" });
    let announces_4_gib = [b"\x93NUMPY\x02\x00".as_slice(), &[0xff; 4]].concat();
    assert_refused!(open(&announces_4_gib), BadHeader { format: "npy" });
    assert_refused!(
        open(b"\x93NUMPY\x09\x00\x00\x00"),
        BadHeader { reason: "expected version 1, 2 or 3, found 9" }
    );
}

#[test]
fn refuses_ragged_rows_with_the_row() {
    let folder = Folder::new();
    let ragged: [&[f32]; 3] = [&ROWS[0], &ROWS[1], &[1.0, 2.0]];
    let path = folder.file("a.fvecs", fvecs(&ragged));
    assert_refused!(Embeddings::open(&path), RaggedRow { row: 2, expected: 4, found: 2 });
    let path = folder.parquet("a.parquet", &[embeddings(&ragged)]);
    assert_refused!(Embeddings::open(&path), RaggedRow { row: 2, expected: 4, found: 2 });
}

#[test]
fn names_the_first_component_that_is_not_finite() {
    let folder = Folder::new();
    let mut values = vec![1.0_f32; 5_000 * 4];
    values[17 * 4 + 3] = f32::NAN;
    values[4_000 * 4] = f32::INFINITY;
    let path = folder.path("a.npy");
    write_npy(&path, &[5_000, 4], &values).expect("written");
    let refused = Embeddings::open(&path).expect("opened").check_finite().expect_err("refused");
    let message = format!("{}: row 17, column 3: expected a finite number, found NaN", path.display());
    assert_eq!(refused.to_string(), message);

    let mut halves = vec![f16::ONE; 12];
    halves[6] = f16::NEG_INFINITY;
    write_npy(&path, &[3, 4], &halves).expect("written");
    let embeddings = Embeddings::open(&path).expect("opened");
    assert_refused!(embeddings.check_finite(), NotFinite { row: 1, column: 2, found: f32::NEG_INFINITY });

    let path = folder.file("a.fvecs", fvecs(&[&ROWS[0], &[0.0, f32::INFINITY, 0.0, 0.0]]));
    let embeddings = Embeddings::open(&path).expect("opened");
    assert_refused!(embeddings.check_finite(), NotFinite { row: 1, column: 1, found: f32::INFINITY });
}

#[test]
fn zero_rows_are_refused_under_cosine_only() {
    let folder = Folder::new();
    let embeddings = folder.file("a.fbin", fbin(3, 2, &[1.0, 0.0, 0.0, -0.0, 0.0, 0.0]));
    let files = DatasetFiles::of(embeddings);
    assert_refused!(Dataset::open(&files, Metric::Cosine), ZeroRow { row: 1 });
    Dataset::open(&files, Metric::InnerProduct).expect("a zero row has an inner product");
    Dataset::open(&files, Metric::L2).expect("a zero row has a distance");
}
