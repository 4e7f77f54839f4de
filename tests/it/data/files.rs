//! Dataset files: written by independent code, opened, and damaged on purpose.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, FixedSizeListArray, Float64Array, Int64Array, LargeListArray,
    ListArray, StringArray, TimestampMicrosecondArray, TimestampMillisecondArray, UInt64Array, builder,
};
use arrow::datatypes::{ArrowPrimitiveType, Field, Float16Type, Float32Type, Int64Type};
use arrow::record_batch::RecordBatch;
use half::f16;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use shortlist::base::element::Dtype;
use shortlist::base::id::VideoId;
use shortlist::base::metric::Metric;
use shortlist::dataset::{
    Dataset, DatasetError, DatasetFiles, EXPIRES_AT, Embeddings, EmbeddingsView, NEVER, Neighbors, NpyWriter,
    read_id_list, read_ids, write_npy,
};
use tempfile::TempDir;

/// `[3 × 4]`, exact in half precision.
const ROWS: [[f32; 4]; 3] = [[1.0, -2.0, 0.5, 0.0], [0.25, 3.0, -1.5, 8.0], [0.0, 0.0, 0.0, -0.125]];

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().expect("a temporary folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).expect("a file in the temporary folder");
        path
    }

    fn parquet(&self, name: &str, columns: &[(&str, ArrayRef)]) -> PathBuf {
        let batch = RecordBatch::try_from_iter_with_nullable(
            columns.iter().map(|(name, array)| (*name, array.clone(), true)),
        );
        let batch = batch.expect("columns of one length");
        // Small row groups, so that every test spans several.
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(2)).build();
        let path = self.path(name);
        let file = fs::File::create(&path).expect("a file");
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).expect("a writer");
        writer.write(&batch).expect("a batch");
        writer.close().expect("a footer");
        path
    }
}

fn flat() -> Vec<f32> {
    ROWS.concat()
}

fn npy(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}");
    while !(text.len() + 11).is_multiple_of(64) {
        text.push(' ');
    }
    npy_with_text(&format!("{text}\n"), data)
}

fn npy_with_text(text: &str, data: &[u8]) -> Vec<u8> {
    [b"\x93NUMPY\x01\x00".as_slice(), &(text.len() as u16).to_le_bytes(), text.as_bytes(), data].concat()
}

fn fvecs(rows: &[&[f32]]) -> Vec<u8> {
    let row =
        |row: &&[f32]| [&(row.len() as i32).to_le_bytes(), bytemuck::cast_slice::<f32, u8>(row)].concat();
    rows.iter().flat_map(row).collect()
}

fn fbin(rows: u32, dim: u32, data: &[f32]) -> Vec<u8> {
    [rows.to_le_bytes().as_slice(), &dim.to_le_bytes(), bytemuck::cast_slice(data)].concat()
}

fn f32_lists(rows: &[&[f32]]) -> ArrayRef {
    let rows = rows.iter().map(|row| Some(row.iter().map(|value| Some(*value))));
    Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(rows))
}

fn fixed_size_lists<P: ArrowPrimitiveType>(values: Vec<P::Native>) -> ArrayRef {
    let field = Arc::new(Field::new("element", P::DATA_TYPE, true));
    let values = arrow::array::PrimitiveArray::<P>::from_iter_values(values);
    Arc::new(FixedSizeListArray::new(field, 4, Arc::new(values), None))
}

fn three_rows() -> ArrayRef {
    f32_lists(&[&ROWS[0], &ROWS[1], &ROWS[2]])
}

fn numbers(values: [i64; 3]) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

fn unsigned(values: [u64; 3]) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(values))
}

fn rows_of(embeddings: &Embeddings) -> Vec<Vec<f32>> {
    let mut row = Vec::new();
    let view = embeddings.view();
    (0..view.len())
        .map(|at| {
            view.copy_row(at, &mut row);
            row.clone()
        })
        .collect()
}

/// Expects `$result` to be the error `$variant` with the fields given equal to their values.
macro_rules! assert_refused {
    ($result:expr, $variant:ident { $($field:ident: $value:expr),* $(,)? }) => {
        match $result {
            Err(error @ DatasetError::$variant { .. }) => {
                $({
                    // Evaluated before the field is bound, so that a variable of the same name refers to the caller's.
                    let wanted = $value;
                    let DatasetError::$variant { $field, .. } = &error else { unreachable!() };
                    assert_eq!(*$field, wanted, "{error}");
                })*
                drop(error);
            }
            other => panic!("expected {}, found {other:?}", stringify!($variant)),
        }
    };
}

// ---- formats ----

#[test]
fn every_format_gives_the_same_rows() {
    let folder = Folder::new();
    let halves: Vec<f16> = flat().into_iter().map(f16::from_f32).collect();
    let large = ROWS.iter().map(|row| Some(row.iter().map(|value| Some(*value))));
    let large: ArrayRef = Arc::new(LargeListArray::from_iter_primitive::<Float32Type, _, _>(large));
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
        (Dtype::F32, folder.parquet("list.parquet", &[("embedding", three_rows())])),
        (Dtype::F32, folder.parquet("large.parquet", &[("embedding", large)])),
        (
            Dtype::F32,
            folder.parquet("fixed.parquet", &[("embedding", fixed_size_lists::<Float32Type>(flat()))]),
        ),
        (
            Dtype::F16,
            folder.parquet("half.parquet", &[("embedding", fixed_size_lists::<Float16Type>(halves))]),
        ),
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

// ---- errors common to all embedding files ----

#[test]
fn refuses_unknown_extensions_with_the_accepted_ones() {
    for (name, extension) in [("a.f16bin", "f16bin"), ("a", "")] {
        let accepted = ".npy, .fvecs, .fbin or .parquet";
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
    for extension in ["npy", "fvecs", "fbin", "parquet"] {
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
    let parquet = folder.parquet("a.parquet", &[("embedding", three_rows())]);
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

    let empty = folder.parquet("a.parquet", &[("embedding", three_rows().slice(0, 0))]);
    assert_refused!(Embeddings::open(&empty), NoRows {});
    let flat = folder.parquet("b.parquet", &[("embedding", f32_lists(&[&[], &[]]))]);
    assert_refused!(Embeddings::open(&flat), ZeroDimension {});
}

#[test]
fn refuses_npy_of_other_orders_and_types() {
    let folder = Folder::new();
    let data = bytemuck::cast_slice(ROWS.as_flattened());
    let open = |descr, fortran| Embeddings::open(&folder.file("a.npy", npy(descr, fortran, "(3, 4)", data)));
    assert_refused!(open("<f4", "True"), FortranOrder {});
    assert_refused!(open(">f4", "False"), BigEndian { found: "'>f4'", expected: "'<f4' or '<f2'" });
    for descr in ["<f8", "<i4", "|u1", "<c8", "|S4"] {
        let found = format!("'{descr}'");
        assert_refused!(open(descr, "False"), UnsupportedType { found: found, expected: "'<f4' or '<f2'" });
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
    let path = folder.parquet("a.parquet", &[("embedding", f32_lists(&ragged))]);
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
    let files = DatasetFiles { embeddings, ..Default::default() };
    assert_refused!(Dataset::open(&files, Metric::Cosine), ZeroRow { row: 1 });
    Dataset::open(&files, Metric::InnerProduct).expect("a zero row has an inner product");
    Dataset::open(&files, Metric::L2).expect("a zero row has a distance");
}

// ---- Parquet ----

#[test]
fn parquet_brings_ids_and_attributes() {
    let folder = Folder::new();
    let titles: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("c")]));
    let embeddings = folder.parquet(
        "a.parquet",
        &[
            ("views", numbers([7, 8, 9])),
            ("video_id", unsigned([5, u64::MAX, 0])),
            ("embedding", three_rows()),
            ("title", titles.clone()),
        ],
    );
    let dataset =
        Dataset::open(&DatasetFiles { embeddings, ..Default::default() }, Metric::Cosine).expect("opened");
    assert_eq!(dataset.ids, [5, u64::MAX, 0].map(VideoId));
    assert_eq!(rows_of(&dataset.embeddings), ROWS);
    let names: Vec<&str> = dataset.attributes.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["views", "title"]);
    assert_eq!(dataset.attributes[0].values.as_primitive::<Int64Type>().values(), &[7, 8, 9]);
    assert_eq!(dataset.attributes[1].values.to_data(), titles.to_data());
}

#[test]
fn a_column_of_times_named_for_it_is_when_videos_expire() {
    let folder = Folder::new();
    let embeddings = folder.path("rows.npy");
    write_npy(&embeddings, &[3, 4], ROWS.as_flattened()).unwrap();
    let millis =
        |values: [Option<i64>; 3]| -> ArrayRef { Arc::new(TimestampMillisecondArray::from_iter(values)) };
    let zoned = TimestampMicrosecondArray::from(vec![Some(1), None, Some(-1)]).with_timezone("Europe/Berlin");
    for (values, expected) in [
        (millis([None, Some(7), None]), Some(vec![NEVER, 7_000, NEVER])),
        (millis([None; 3]), None),
        (Arc::new(zoned) as ArrayRef, Some(vec![1, NEVER, -1])),
        (Arc::new(Date32Array::from(vec![1, 0, 2])), Some(vec![86_400_000_000, 0, 2 * 86_400_000_000])),
        (Arc::new(Int64Array::from(vec![1, 2, 3])), None),
    ] {
        let attributes = Some(folder.parquet("attributes.parquet", &[(EXPIRES_AT, values)]));
        let files = DatasetFiles { embeddings: embeddings.clone(), ids: None, attributes };
        let dataset = Dataset::open(&files, Metric::L2).unwrap();
        assert_eq!(dataset.expires_at, expected);
        assert_eq!(dataset.attributes[0].name, EXPIRES_AT, "it is an attribute as well");
    }
}

#[test]
fn signed_parquet_ids_are_read_and_negative_ones_refused() {
    let folder = Folder::new();
    let open = |ids: ArrayRef| {
        let embeddings = folder.parquet("a.parquet", &[("video_id", ids), ("embedding", three_rows())]);
        Dataset::open(&DatasetFiles { embeddings, ..Default::default() }, Metric::L2)
    };
    assert_eq!(open(numbers([3, 0, i64::MAX])).expect("opened").ids, [3, 0, i64::MAX as u64].map(VideoId));
    assert_refused!(open(numbers([3, 0, -7])), NegativeId { row: 2, found: -7 });
    let nulls: ArrayRef = Arc::new(UInt64Array::from(vec![Some(1), Some(2), None]));
    assert_refused!(open(nulls), NullValue { row: 2, name: "video_id" });
    let text: ArrayRef = Arc::new(StringArray::from(vec!["1", "2", "3"]));
    assert_refused!(open(text), ColumnType { name: "video_id", expected: "u64 or i64", found: "Utf8" });
    assert_refused!(open(unsigned([4, 9, 4])), DuplicateId { id: VideoId(4), first: 0, second: 2 });
}

#[test]
fn refuses_parquet_embeddings_with_nulls_or_of_other_types() {
    let folder = Folder::new();
    let open = |array: ArrayRef| Embeddings::open(&folder.parquet("a.parquet", &[("embedding", array)]));
    let with_null = |null_row: bool| {
        let mut lists = builder::ListBuilder::new(builder::Float32Builder::new());
        lists.append_value([Some(1.0), Some(2.0)]);
        lists.append_value([Some(1.0), Some(2.0)]);
        if null_row {
            lists.append_null();
        } else {
            lists.append_value([Some(1.0), None]);
        }
        Arc::new(lists.finish()) as ArrayRef
    };
    assert_refused!(open(with_null(true)), NullValue { row: 2, name: "embedding" });
    assert_refused!(open(with_null(false)), NullComponent { row: 2, column: 1 });
    let doubles: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
    assert_refused!(open(doubles), ColumnType { name: "embedding", found: "Float64" });
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1)])]);
    assert_refused!(open(Arc::new(lists)), ColumnType { name: "embedding", expected: "lists of f32 or f16" });

    let path = folder.parquet("b.parquet", &[("vector", three_rows()), ("views", numbers([1, 2, 3]))]);
    assert_refused!(Embeddings::open(&path), MissingColumn { name: "embedding", found: ["vector", "views"] });
}

#[test]
fn refuses_corrupt_parquet() {
    let folder = Folder::new();
    let mut bytes = b"PAR1".to_vec();
    bytes.extend([0xff; 64]);
    bytes.extend(40_u32.to_le_bytes());
    bytes.extend(b"PAR1");
    let path = folder.file("a.parquet", bytes);
    assert_refused!(Embeddings::open(&path), Parquet { path: path });
}

// ---- ids ----

#[test]
fn ids_are_read_from_npy_and_text() {
    let folder = Folder::new();
    let expected = [7, u64::MAX >> 1, 0].map(VideoId);
    let ids = expected.map(|id| id.0);
    let unsigned = folder.path("u.npy");
    write_npy(&unsigned, &[3], &ids).expect("written");
    let files = [
        unsigned,
        folder.file("i.npy", npy("<i8", "False", "(3,)", bytemuck::cast_slice(&ids))),
        folder.file(
            "odd.npy",
            npy_with_text(
                "{'descr': '<u8', 'fortran_order': False, 'shape': (3,)}\n",
                bytemuck::cast_slice(&ids),
            ),
        ),
        folder.file("a.txt", format!("{}\n{}\n{}", ids[0], ids[1], ids[2])),
        folder.file("b.txt", format!("{}\r\n{}\r\n{}\r\n\r\n", ids[0], ids[1], ids[2])),
    ];
    for path in files {
        assert_eq!(read_ids(&path).unwrap_or_else(|error| panic!("{error}")), expected, "{}", path.display());
    }
}

#[test]
fn refuses_ids_that_are_none() {
    let folder = Folder::new();
    let ids = |text: &str| read_ids(&folder.file("a.txt", text));
    assert_refused!(ids("1\n2\nthree\n"), BadIdLine { line: 3, found: "three" });
    assert_refused!(ids("1\n\n3\n"), BadIdLine { line: 2, found: "" });
    assert_refused!(ids("1\n-2\n"), BadIdLine { line: 2, found: "-2" });
    assert_refused!(ids("+1\n"), BadIdLine { line: 1, found: "+1" });
    assert_refused!(ids("18446744073709551616"), BadIdLine { line: 1, found: "18446744073709551616" });
    assert_refused!(ids("\n\n"), NoRows {});
    assert_refused!(ids(""), EmptyFile {});

    let open = |descr, shape, ids: &[i64]| {
        read_ids(&folder.file("a.npy", npy(descr, "False", shape, bytemuck::cast_slice(ids))))
    };
    assert_refused!(open("<i8", "(2,)", &[4, -1]), NegativeId { row: 1, found: -1 });
    assert_refused!(
        open("<f8", "(2,)", &[4, 1]),
        UnsupportedType { expected: "'<u8' or '<i8'", found: "'<f8'" }
    );
    assert_refused!(open("<u8", "(1, 2)", &[4, 1]), WrongShape { expected: 1, found: [1, 2] });
    assert_refused!(open("<u8", "(3,)", &[4, 1]), Truncated {});
    assert_refused!(open("<u8", "(0,)", &[]), NoRows {});
    assert_refused!(open("<u8", "(0,)", &[4]), TrailingBytes {});
}

#[test]
fn a_list_of_ids_may_be_empty() {
    let folder = Folder::new();
    let array = |ids: &[i64], shape| npy("<u8", "False", shape, bytemuck::cast_slice(ids));
    for empty in [
        folder.file("nothing.txt", ""),
        folder.file("newline.TXT", "\n"),
        folder.file("array.npy", array(&[], "(0,)")),
    ] {
        assert_eq!(read_id_list(&empty).unwrap_or_else(|error| panic!("{error}")), []);
    }
    assert_eq!(read_id_list(&folder.file("one.npy", array(&[7], "(1,)"))).unwrap(), [VideoId(7)]);
    assert_refused!(read_id_list(&folder.file("nothing.npy", "")), EmptyFile {});
    assert_refused!(read_id_list(&folder.file("longer.npy", array(&[7], "(0,)"))), TrailingBytes {});
    assert_refused!(read_id_list(&folder.file("word.txt", "one\n")), BadIdLine { line: 1 });
}

// ---- catalogs ----

/// `a.npy` of three rows, with the ids and attributes of a test.
fn open_beside(
    folder: &Folder,
    ids: Option<PathBuf>,
    attributes: Option<PathBuf>,
) -> Result<Dataset, DatasetError> {
    let embeddings = folder.file("a.fbin", fbin(3, 4, &flat()));
    Dataset::open(&DatasetFiles { embeddings, ids, attributes }, Metric::InnerProduct)
}

#[test]
fn ids_come_from_whichever_file_has_them() {
    let folder = Folder::new();
    let text = Some(folder.file("ids.txt", "30\n10\n20\n"));
    let with_ids = Some(
        folder.parquet("ids.parquet", &[("video_id", unsigned([30, 10, 20])), ("views", numbers([1, 2, 3]))]),
    );
    let without =
        Some(folder.parquet("plain.parquet", &[("views", numbers([1, 2, 3])), ("embedding", three_rows())]));
    let given = [30, 10, 20].map(VideoId);
    for (ids, attributes, expected, names) in [
        (None, None, [0, 1, 2].map(VideoId), 0),
        (text.clone(), None, given, 0),
        (None, with_ids.clone(), given, 1),
        (text.clone(), with_ids, given, 1),
        (text, without.clone(), given, 1),
        (None, without, [0, 1, 2].map(VideoId), 1),
    ] {
        let dataset = open_beside(&folder, ids, attributes).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(dataset.ids, expected);
        assert_eq!(dataset.attributes.len(), names);
        assert!(dataset.attributes.iter().all(|column| column.name == "views" && column.values.len() == 3));
    }
}

#[test]
fn ids_of_two_files_agree_row_by_row() {
    let folder = Folder::new();
    let ids = folder.file("ids.txt", "30\n10\n20\n");
    let attributes =
        folder.parquet("a.parquet", &[("video_id", unsigned([30, 10, 21])), ("views", numbers([1, 2, 3]))]);
    let expected = VideoId(20);
    assert_refused!(
        open_beside(&folder, Some(ids.clone()), Some(attributes.clone())),
        IdMismatch { path: attributes, other: ids.clone(), row: 2, expected: expected, found: VideoId(21) }
    );
    let embeddings =
        folder.parquet("b.parquet", &[("video_id", unsigned([30, 11, 20])), ("embedding", three_rows())]);
    let files = DatasetFiles { embeddings: embeddings.clone(), ids: Some(ids.clone()), attributes: None };
    assert_refused!(
        Dataset::open(&files, Metric::L2),
        IdMismatch { path: ids, other: embeddings, row: 1, expected: VideoId(11), found: VideoId(10) }
    );
}

#[test]
fn refuses_files_of_different_lengths_naming_both() {
    let folder = Folder::new();
    let ids = folder.file("ids.txt", "1\n2\n");
    let embeddings = folder.path("a.fbin");
    assert_refused!(
        open_beside(&folder, Some(ids.clone()), None),
        RowCountMismatch { path: ids, other: embeddings.clone(), expected: 3, found: 2 }
    );
    let attributes = folder.parquet("a.parquet", &[("views", numbers([1, 2, 3]).slice(0, 1))]);
    assert_refused!(
        open_beside(&folder, None, Some(attributes.clone())),
        RowCountMismatch { path: attributes, other: embeddings, expected: 3, found: 1 }
    );
}

#[test]
fn refuses_duplicate_ids_naming_both_rows() {
    let folder = Folder::new();
    let ids = folder.file("ids.txt", "8\n9\n8\n");
    assert_refused!(
        open_beside(&folder, Some(ids.clone()), None),
        DuplicateId { path: ids, id: VideoId(8), first: 0, second: 2 }
    );
}

#[test]
fn refuses_attributes_given_twice_or_not_as_parquet() {
    let folder = Folder::new();
    let embeddings =
        folder.parquet("a.parquet", &[("embedding", three_rows()), ("views", numbers([1, 2, 3]))]);
    let attributes =
        folder.parquet("b.parquet", &[("age", numbers([1, 2, 3])), ("views", numbers([1, 2, 3]))]);
    let files =
        DatasetFiles { embeddings: embeddings.clone(), ids: None, attributes: Some(attributes.clone()) };
    assert_refused!(
        Dataset::open(&files, Metric::L2),
        DuplicateColumn { path: attributes, name: "views", first: embeddings }
    );
    let twice = folder.parquet("c.parquet", &[("views", numbers([1, 2, 3])), ("views", numbers([1, 2, 3]))]);
    assert_refused!(
        open_beside(&folder, None, Some(twice.clone())),
        DuplicateColumn { first: twice, name: "views" }
    );
    let csv = folder.file("a.csv", "views\n1\n");
    assert_refused!(
        open_beside(&folder, None, Some(csv)),
        UnknownExtension { found: "csv", accepted: ".parquet" }
    );
}

#[test]
fn a_catalog_with_a_nan_is_refused() {
    let folder = Folder::new();
    let embeddings = folder.file("a.fbin", fbin(2, 2, &[1.0, 0.0, 0.0, f32::NAN]));
    let files = DatasetFiles { embeddings, ..Default::default() };
    assert_refused!(Dataset::open(&files, Metric::InnerProduct), NotFinite { row: 1, column: 1 });
}

// ---- ground truth and writing ----

#[test]
fn neighbors_round_trip_and_are_read_from_every_integer() {
    let folder = Folder::new();
    let neighbors = Neighbors { rows: 2, k: 3, data: vec![5, 0, 2, 1, i32::MAX as u32, 4] };
    let path = folder.path("written.npy");
    neighbors.write(&path).expect("written");
    let wide: Vec<u64> = neighbors.data.iter().map(|&row| row.into()).collect();
    let files = [
        path,
        folder.file("i8.npy", npy("<i8", "False", "(2, 3)", bytemuck::cast_slice(&wide))),
        folder.file("u8.npy", npy("<u8", "False", "(2, 3)", bytemuck::cast_slice(&wide))),
        folder.file("u4.npy", npy("<u4", "False", "(2, 3)", bytemuck::cast_slice(&neighbors.data))),
    ];
    for path in files {
        assert_eq!(Neighbors::open(&path).unwrap_or_else(|error| panic!("{error}")), neighbors);
    }
    assert_eq!(neighbors.row(1), [1, i32::MAX as u32, 4]);
}

#[test]
fn refuses_neighbors_that_are_no_rows() {
    let folder = Folder::new();
    let negative =
        folder.file("a.npy", npy("<i4", "False", "(2, 2)", bytemuck::cast_slice(&[0_i32, 1, 2, -1])));
    assert_refused!(Neighbors::open(&negative), NeighborOutOfRange { row: 1, column: 1, found: -1 });
    let huge = folder.file("a.npy", npy("<u8", "False", "(1, 2)", bytemuck::cast_slice(&[0_u64, u64::MAX])));
    assert_refused!(
        Neighbors::open(&huge),
        NeighborOutOfRange { row: 0, column: 1, found: i128::from(u64::MAX) }
    );
    let floats = folder.file("a.npy", npy("<f4", "False", "(3, 4)", bytemuck::cast_slice(&flat())));
    assert_refused!(Neighbors::open(&floats), UnsupportedType { found: "'<f4'" });
    let path = folder.path("out.npy");
    let neighbors = Neighbors { rows: 1, k: 2, data: vec![0, u32::MAX] };
    assert_refused!(
        neighbors.write(&path),
        NeighborOutOfRange { row: 0, column: 1, found: i128::from(u32::MAX) }
    );
    let neighbors = Neighbors { rows: 2, k: 2, data: vec![0] };
    assert_refused!(neighbors.write(&path), WrongLength { expected: 4, found: 1 });
    assert!(!path.exists());
}

#[test]
fn a_file_appears_only_once_it_is_complete() {
    let folder = Folder::new();
    let path = folder.file("a.npy", "what was there before");
    let mut writer = NpyWriter::<f32>::create(&path, &[3, 4]).expect("created");
    writer.write(&flat()[..8]).expect("written");
    assert_refused!(writer.finish(), WrongLength { expected: 12, found: 8 });
    assert_eq!(fs::read(&path).expect("read"), b"what was there before");
    assert_eq!(fs::read_dir(folder.0.path()).expect("listed").count(), 1, "no temporary file is left");

    let mut writer = NpyWriter::<f32>::create(&path, &[3, 4]).expect("created");
    for row in &ROWS {
        writer.write(row).expect("written");
    }
    writer.finish().expect("complete");
    assert_eq!(fs::read(&path).expect("read"), npy("<f4", "False", "(3, 4)", bytemuck::cast_slice(&flat())));
    let ids = folder.path("ids.npy");
    write_npy(&ids, &[2], &[1_u64, 2]).expect("written");
    assert_eq!(fs::read(&ids).expect("read"), npy("<u8", "False", "(2,)", bytemuck::cast_slice(&[1_u64, 2])));
    assert_refused!(write_npy(&folder.path("no/folder.npy"), &[1], &[1_u64]), Io {});
}

// ---- hostile bytes ----

static VALID_FILES: LazyLock<Vec<(&str, Vec<u8>)>> = LazyLock::new(valid_files);

/// A valid file of every format, by extension.
fn valid_files() -> Vec<(&'static str, Vec<u8>)> {
    let folder = Folder::new();
    let titles: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("c")]));
    let parquet = folder.parquet(
        "a.parquet",
        &[
            ("video_id", unsigned([5, 6, 7])),
            ("embedding", three_rows()),
            ("title", titles),
            ("views", numbers([1, 2, 3])),
        ],
    );
    vec![
        ("npy", npy("<f4", "False", "(3, 4)", bytemuck::cast_slice(&flat()))),
        ("npy", npy("<u8", "False", "(6,)", bytemuck::cast_slice(&flat()))),
        ("npy", npy("<i4", "False", "(3, 4)", &[0; 48])),
        ("fvecs", fvecs(&[&ROWS[0], &ROWS[1], &ROWS[2]])),
        ("fbin", fbin(3, 4, &flat())),
        ("txt", b"1\n22\n333\n".to_vec()),
        ("parquet", fs::read(parquet).expect("read")),
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

// ---- real files ----

#[test]
fn a_real_catalog_is_the_same_from_parquet_and_npy() {
    let Some(data) = crate::harness::indexes::shared_data() else { return };
    let videos = data.join("videos");
    let from_parquet = DatasetFiles { embeddings: videos.join("videos.parquet"), ..Default::default() };
    let from_npy = DatasetFiles {
        embeddings: videos.join("videos.f16.npy"),
        ids: Some(videos.join("video_ids.npy")),
        attributes: Some(videos.join("videos.parquet")),
    };
    let from_parquet = Dataset::open(&from_parquet, Metric::Cosine).unwrap_or_else(|error| panic!("{error}"));
    let from_npy = Dataset::open(&from_npy, Metric::Cosine).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(from_parquet.ids, from_npy.ids);
    assert_eq!(from_parquet.ids.len(), 20_102);
    let EmbeddingsView::F32(single) = from_parquet.embeddings.view() else { panic!("expected f32") };
    let EmbeddingsView::F16(half) = from_npy.embeddings.view() else { panic!("expected f16") };
    for (row, (single, half)) in single.iter().zip(half.iter()).enumerate() {
        let rounded: Vec<f16> = single.iter().map(|value| f16::from_f32(*value)).collect();
        assert_eq!(rounded, half, "row {row}");
    }
    let names: Vec<&str> = from_npy.attributes.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["source_id", "title", "creator", "category", "regions", "published_at", "views"]);
    for (one, other) in from_parquet.attributes.iter().zip(&from_npy.attributes) {
        assert_eq!(one.values.as_ref(), other.values.as_ref(), "{}", one.name);
    }

    let truth =
        Neighbors::open(&videos.join("viewers.ground_truth.npy")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((truth.rows, truth.k), (6_000, 100));
    assert!(truth.data.iter().all(|row| *row < 20_102));
}
