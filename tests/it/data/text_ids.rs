//! Ids that are text: hashed to 64 bits, kept as an attribute, and refused if two of them collide.

use parquet::basic::{LogicalType, Type as Physical};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use shortlist::base::id::VideoId;
use shortlist::base::metric::Metric;
use shortlist::dataset::{ColumnValues, Dataset, DatasetError, DatasetFiles, ID_COLUMN};

use crate::harness::files::{Folder, ROWS, assert_refused, npy, three_rows, video_ids};
use crate::harness::parquet::{Cell, Column, Leaf, text, values};

/// Two texts whose SHA-256 begins with the same 8 bytes.
pub const COLLISION: [&str; 2] = ["XgLFX3hmvCG", "LFUZaYll3_A"];

fn texts(dataset: &Dataset) -> Vec<String> {
    let column = dataset.attributes.iter().find(|column| column.name == ID_COLUMN).expect("texts are kept");
    let ColumnValues::Keyword(words) = &column.values else { panic!("expected text") };
    words.iter().map(|word| word.expect("no null").to_owned()).collect()
}

fn open(files: &DatasetFiles) -> Result<Dataset, DatasetError> {
    Dataset::open(files, Metric::InnerProduct)
}

proptest! {
    #[test]
    fn the_id_of_text_is_the_head_of_its_hash(text in ".{1,40}") {
        let digest = Sha256::digest(text.as_bytes());
        let head: [u8; 8] = digest[..8].try_into().unwrap();
        prop_assert_eq!(VideoId::of_text(&text), VideoId(u64::from_le_bytes(head)));
    }
}

#[test]
fn every_file_of_ids_may_have_text() {
    let folder = Folder::new();
    let rows =
        folder.file("rows.npy", npy("<f4", "False", "(3, 4)", bytemuck::cast_slice(ROWS.as_flattened())));
    let expected = ["dQw4w9WgXcQ", "ü", "a b"];
    let wide = |order: fn(u32) -> [u8; 4]| {
        let item = |word: &str| {
            let mut codes: Vec<u32> = word.chars().map(u32::from).collect();
            codes.resize(11, 0);
            codes.into_iter().flat_map(order).collect::<Vec<u8>>()
        };
        expected.iter().flat_map(|word| item(word)).collect::<Vec<u8>>()
    };
    let narrow: Vec<u8> = expected
        .iter()
        .flat_map(|word| {
            let mut bytes = word.as_bytes().to_vec();
            bytes.resize(11, 0);
            bytes
        })
        .collect();
    let files = [
        folder.file("u.npy", npy("<U11", "False", "(3,)", &wide(u32::to_le_bytes))),
        folder.file("b.npy", npy(">U11", "False", "(3,)", &wide(u32::to_be_bytes))),
        folder.file("s.npy", npy("|S11", "False", "(3,)", &narrow)),
        folder.file("a.txt", "dQw4w9WgXcQ\nü\na b\n"),
        folder.file("b.txt", "\u{feff}dQw4w9WgXcQ\r\nü\r\na b\r\n\r\n"),
    ];
    for ids in files {
        let files = DatasetFiles { ids: Some(ids.clone()), ..DatasetFiles::of(&rows) };
        let dataset = open(&files).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(texts(&dataset), expected, "{}", ids.display());
        assert_eq!(dataset.ids, expected.map(VideoId::of_text));
    }
}

#[test]
fn columns_of_text_and_uuids_are_ids() {
    let folder = Folder::new();
    let uuid = |logical| Leaf { physical: Physical::FIXED_LEN_BYTE_ARRAY, logical, length: 16 };
    let number = 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210u128;
    let uuids = [number, 0, u128::MAX].map(|number| Some(Cell::Fixed(number.to_be_bytes().to_vec())));
    let hyphened = [
        "01234567-89ab-cdef-fedc-ba9876543210",
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
    ];
    let words = ["a", "b", "c"];
    let bytes = crate::harness::parquet::leaf(Physical::BYTE_ARRAY, None);
    for (column, expected) in [
        (values("video_id", text(), words.map(Some)), words),
        (values("video_id", bytes, words.map(Some)).required(), words),
        (values("video_id", uuid(Some(LogicalType::Uuid)), uuids.clone()), hyphened),
        (values("video_id", uuid(None), uuids.clone()), hyphened),
    ] {
        let path = folder.parquet("a.parquet", &[column, three_rows()]);
        let dataset = open(&DatasetFiles::of(path)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(texts(&dataset), expected);
        assert_eq!(dataset.ids, expected.map(VideoId::of_text));
    }
    // A UUID that is no id is an attribute of text.
    let path =
        folder.parquet("a.parquet", &[values("session", uuid(Some(LogicalType::Uuid)), uuids), three_rows()]);
    let dataset = open(&DatasetFiles::of(path)).unwrap();
    let expected = ColumnValues::Keyword(hyphened.map(Some).into_iter().collect());
    assert_eq!(dataset.attributes[0].values, expected);
    let json = "{\"video_id\":\"x\",\"embedding\":[1]}\n{\"video_id\":\"7\",\"embedding\":[2]}\n";
    assert_eq!(texts(&open(&DatasetFiles::of(folder.file("a.jsonl", json))).unwrap()), ["x", "7"]);
}

#[test]
fn ids_that_cannot_be_kept_apart_are_refused() {
    let folder = Folder::new();
    let [one, other] = COLLISION;
    assert_eq!(VideoId::of_text(one), VideoId::of_text(other));
    let with = |ids: [&str; 3]| {
        let column = values("video_id", text(), ids.map(Some));
        open(&DatasetFiles::of(folder.parquet("a.parquet", &[column, three_rows()])))
    };
    let path = folder.path("a.parquet");
    assert_refused!(with([one, "x", other]), TextIdCollision { path: path, row: 2, text: other, other: one });
    assert_refused!(with(["x", one, "x"]), DuplicateId { id: VideoId::of_text("x"), first: 0, second: 2 });
    assert_refused!(with(["x", "", "y"]), TextIdLength { row: 1, most: 1024, found: 0 });
    let long = "x".repeat(1025);
    assert_refused!(with(["x", &long, "y"]), TextIdLength { row: 1, found: 1025 });
    with(["x", &long[1..], "y"]).expect("1,024 bytes are allowed");
    let not_utf8 = Column { leaf: text(), ..values("video_id", text(), [Some(Cell::Bytes(vec![0xff]))]) };
    let path = folder.parquet("b.parquet", &[not_utf8, crate::harness::parquet::embeddings(&[[1.0]])]);
    let error = open(&DatasetFiles::of(path)).unwrap_err().to_string();
    assert!(error.contains("column \"video_id\": row 0: expected UTF-8 text"), "{error}");
    let rows =
        folder.file("rows.npy", npy("<f4", "False", "(3, 4)", bytemuck::cast_slice(ROWS.as_flattened())));
    let ids =
        |bytes: &[u8]| DatasetFiles { ids: Some(folder.file("i.txt", bytes)), ..DatasetFiles::of(&rows) };
    assert_refused!(open(&ids(b"x\n\xff\ny\n")), BadText { row: 1 });
    assert_refused!(open(&ids(b"x\n\ny\n")), TextIdLength { row: 1, found: 0 });
    // One line more than rows: a header.
    assert_refused!(open(&ids(b"video_id\n1\n2\n3\n")), RowCountMismatch { expected: 3, found: 4 });
    let surrogate = npy("<U1", "False", "(3,)", &[0x78, 0, 0, 0, 0, 0xd8, 0, 0, 0x79, 0, 0, 0]);
    let files = DatasetFiles { ids: Some(folder.file("i.npy", surrogate)), ..DatasetFiles::of(&rows) };
    assert_refused!(open(&files), BadText { row: 1 });
    // Text of one file, numbers of another.
    let numbers = folder.parquet("n.parquet", &[video_ids([1, 2, 3]), three_rows()]);
    let files = DatasetFiles { ids: Some(folder.file("j.txt", "a\nb\nc\n")), ..DatasetFiles::of(numbers) };
    assert_refused!(open(&files), IdMismatch { row: 0, expected: VideoId(1) });
}
