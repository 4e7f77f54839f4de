//! Records of JSON and Parquet: columns by name, files of folders and patterns, and what is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};
use shortlist::base::id::VideoId;
use shortlist::base::metric::Metric;
use shortlist::dataset::{
    AttributeColumn, ColumnNames, ColumnValues, Dataset, DatasetError, DatasetFiles, DatasetOptions,
    Embeddings, IdSource, ReadReport,
};

use crate::harness::files::{Folder, assert_refused, numbers, rows_of, three_rows, video_ids};
use crate::harness::parquet::{Column, embeddings, int64, text, values};

fn open(path: &Path) -> Result<Dataset, DatasetError> {
    Dataset::open(&DatasetFiles::of(path), Metric::InnerProduct)
}

fn read(files: &DatasetFiles, columns: ColumnNames) -> Result<(Dataset, ReadReport), DatasetError> {
    let options = DatasetOptions { columns, ..DatasetOptions::new(Metric::InnerProduct) };
    Dataset::read(files, &options)
}

fn lines(records: &[Value]) -> String {
    records.iter().map(|record| format!("{record}\n")).collect()
}

/// The columns as text, null as "-".
fn table(dataset: &Dataset) -> BTreeMap<String, Vec<String>> {
    let cell = |values: &ColumnValues, row| match values {
        ColumnValues::Keyword(words) => words.get(row).map(str::to_owned),
        ColumnValues::KeywordList(lists) => lists.get(row).map(|list| list.collect::<Vec<_>>().join(" ")),
        ColumnValues::Int64(values) => values.get(row).map(|value| format!("{value}i")),
        ColumnValues::Uint64(values) => values.get(row).map(|value| format!("{value}u")),
        ColumnValues::Double(values) => values.get(row).map(|value| format!("{value}d")),
        ColumnValues::Bool(values) => values.get(row).map(|value| value.to_string()),
        ColumnValues::Timestamp(values) => values.get(row).map(|value| format!("{value}us")),
    };
    let mut columns = BTreeMap::new();
    for AttributeColumn { name, values } in &dataset.attributes {
        let rows = (0..dataset.ids.len()).map(|row| cell(values, row).unwrap_or("-".to_owned()));
        columns.insert(name.clone(), rows.collect());
    }
    columns
}

#[test]
fn json_lines_have_ids_embeddings_and_attributes_of_every_type() {
    let folder = Folder::new();
    let records = [
        json!({"video_id": 7, "embedding": [1, 0.5], "title": "a", "tags": ["x", 3], "views": 1, "big": 1,
               "score": 1, "ok": true, "at": "2026-01-01T00:00:00Z", "nothing": null}),
        json!({"embedding": [0.25, -2e0], "video_id": u64::MAX, "views": -1, "score": 0.5, "late": "x",
               "at": "1970-01-01T01:00:00.000001+01:00", "big": u64::MAX, "tags": []}),
        json!({"video_id": 0, "embedding": [1e-40, 0], "title": null, "ok": null, "tags": null, "late": "y"}),
    ];
    for (name, text) in [
        ("a.jsonl", lines(&records)),
        ("a.ndjson", format!("\u{feff}{}\r\n\n", lines(&records).trim_end().replace('\n', "\r\n\n"))),
    ] {
        let (dataset, report) =
            read(&DatasetFiles::of(folder.file(name, text)), ColumnNames::default()).expect("read");
        assert_eq!(dataset.ids, [7, u64::MAX, 0].map(VideoId));
        assert_eq!(rows_of(&dataset.embeddings), [[1.0, 0.5], [0.25, -2.0], [1e-40, 0.0]]);
        assert_eq!(report.flushed, 1);
        assert_eq!(report.ids, IdSource::Column { name: "video_id".to_owned(), path: folder.path(name) });
        let expected = [
            ("at", ["1767225600000000us", "1us", "-"]),
            ("big", ["1u", "18446744073709551615u", "-"]),
            ("late", ["-", "x", "y"]),
            ("nothing", ["-", "-", "-"]),
            ("ok", ["true", "-", "-"]),
            ("score", ["1d", "0.5d", "-"]),
            ("tags", ["x 3", "", "-"]),
            ("title", ["a", "-", "-"]),
            ("views", ["1i", "-1i", "-"]),
        ];
        let found = table(&dataset);
        let found: Vec<_> = found
            .iter()
            .map(|(name, rows)| (name.as_str(), rows.iter().map(String::as_str).collect::<Vec<_>>()))
            .collect();
        let expected: Vec<_> = expected.iter().map(|(name, rows)| (*name, rows.to_vec())).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn lines_that_are_no_records_are_named() {
    let folder = Folder::new();
    let first = r#"{"video_id":1,"embedding":[1,2],"a":1,"t":"x","l":["x"],"u":18446744073709551615}"#;
    let record = |rest: &str| format!(r#"{{"video_id":2,"embedding":[3,4]{rest}}}"#);
    for (line, expected) in [
        ("7".to_owned(), "line 2: invalid type: integer `7`, expected an object (character 1)"),
        ("{".to_owned(), "line 2: EOF while parsing an object (character 1)"),
        (record("}"), "line 2: trailing characters"),
        (record(r#","a":1,"a":2"#), r#"line 2: the name "a" is given twice"#),
        (
            record(r#","a":"x""#),
            r#"line 2: column "a": expected a number as in the lines before, found text"#,
        ),
        (record(r#","t":1"#), r#"line 2: column "t": expected text as in the lines before, found a number"#),
        (
            record(r#","l":7"#),
            r#"line 2: column "l": expected a list as in the lines before, found a number"#,
        ),
        (record(r#","u":-7"#), r#"line 2: column "u": expected an integer of at least 0"#),
        (record(r#","o":{"x":1}"#), r#"column "o": type an object in line 2 is not supported"#),
        (
            record(r#","f":[0.5]"#),
            r#"column "f": type a list of other items than text and integers in line 2"#,
        ),
        (
            record(r#","f":[["x"]]"#),
            r#"column "f": type a list of other items than text and integers in line 2"#,
        ),
        (
            r#"{"video_id":2,"embedding":[3,4,5]}"#.to_owned(),
            "row 1: expected 2 components as in the rows before, found 3",
        ),
        (
            r#"{"video_id":2,"embedding":[3,null]}"#.to_owned(),
            r#"line 2: column "embedding": invalid type: null"#,
        ),
        (
            r#"{"video_id":2,"embedding":[3,1e39]}"#.to_owned(),
            "row 1, column 1: expected a number of at most 3.4028235e38, found 1e39",
        ),
        (
            r#"{"video_id":2,"embedding":"x"}"#.to_owned(),
            r#"line 2: column "embedding": invalid type: string "x""#,
        ),
        (
            r#"{"video_id":2,"embedding":null}"#.to_owned(),
            r#"row 1: expected a value in column "embedding", found null"#,
        ),
        (r#"{"video_id":2}"#.to_owned(), r#"row 1: expected a value in column "embedding", found null"#),
        (r#"{"embedding":[3,4]}"#.to_owned(), r#"row 1: expected a value in column "video_id", found null"#),
        (
            r#"{"video_id":-2,"embedding":[3,4]}"#.to_owned(),
            r#"line 2: column "video_id": expected an integer from 0 to 2^64 - 1"#,
        ),
        (
            r#"{"video_id":2.5,"embedding":[3,4]}"#.to_owned(),
            r#"line 2: column "video_id": expected an integer from 0 to 2^64 - 1"#,
        ),
        (
            r#"{"video_id":"x","embedding":[3,4]}"#.to_owned(),
            r#"line 2: column "video_id": expected an integer"#,
        ),
        (r#"{"video_id":1,"embedding":[3,4]}"#.to_owned(), "row 1: id 1 is already the id of row 0"),
        ("x".repeat((4 << 20) + 1), "line 2: expected at most 4194304 bytes, found 4194305"),
    ] {
        let path = folder.file("a.jsonl", format!("{first}\n{line}\n"));
        let error = open(&path).map(drop).unwrap_err().to_string();
        let expected = format!("{}: {expected}", path.display());
        assert!(error.starts_with(&expected), "expected {expected}\nfound {error}");
    }
    assert_refused!(open(&folder.file("b.jsonl", "\n \n")), NoRows {});
    assert_refused!(open(&folder.file("b.jsonl", "")), EmptyFile {});
    assert_refused!(open(&folder.file("b.jsonl", r#"{"embedding":[]}"#)), ZeroDimension {});
}

#[test]
fn a_small_file_of_records_does_not_expand() {
    let folder = Folder::new();
    let wide: String = (0..7_999).map(|column| format!(r#","{column}":1"#)).collect();
    let mut text = format!("{{\"embedding\":[1]{wide}}}\n");
    text.extend(std::iter::repeat_n("{\"embedding\":[1]}\n", 200_000));
    let path = folder.file("a.jsonl", text);
    assert_refused!(open(&path), Expands { path: path });
    let many: String = (0..8_001).map(|column| format!(r#","{column}":1"#)).collect();
    let path = folder.file("b.jsonl", format!("{{\"embedding\":[1]{many}}}\n"));
    assert_refused!(open(&path), TooManyColumns { most: 8_000 });
    // Their names alone count.
    assert_eq!(
        Embeddings::open(&path).map(drop).unwrap_err().to_string(),
        open(&path).map(drop).unwrap_err().to_string()
    );
}

proptest! {
    #[test]
    fn json_lines_and_parquet_of_the_same_records_are_the_same_catalog(
        records in prop::collection::vec(
            (any::<u32>(), prop::array::uniform3(-1e3f32..1e3), any::<Option<i64>>(), prop::option::of("[a-z\"\\\\é]{0,5}")),
            1..20,
        ),
    ) {
        let folder = Folder::new();
        let records: BTreeMap<u32, _> = records.into_iter().map(|record| (record.0, record)).collect();
        let records: Vec<_> = records.into_values().collect();
        let json: Vec<Value> = records
            .iter()
            .map(|(id, row, number, word)| json!({"video_id": id, "embedding": row, "number": number, "word": word}))
            .collect();
        let rows: Vec<[f32; 3]> = records.iter().map(|record| record.1).collect();
        let columns = [
            values("video_id", int64(), records.iter().map(|record| Some(i64::from(record.0)))),
            embeddings(&rows),
            values("number", int64(), records.iter().map(|record| record.2)),
            values("word", text(), records.iter().map(|record| record.3.clone())),
        ];
        let json = open(&folder.file("a.jsonl", lines(&json))).unwrap();
        let parquet = open(&folder.parquet("a.parquet", &columns)).unwrap();
        prop_assert_eq!(&json.ids, &parquet.ids);
        prop_assert_eq!(rows_of(&json.embeddings), rows_of(&parquet.embeddings));
        // A column without values has no type in JSON.
        if records.iter().any(|record| record.2.is_some()) {
            prop_assert_eq!(&json.attributes, &parquet.attributes);
        }
    }
}

#[test]
fn columns_are_chosen_by_name() {
    let folder = Folder::new();
    let named = |name: &str, column: Column| Column { name: name.to_owned(), ..column };
    let parquet = folder.parquet(
        "a.parquet",
        &[
            named("key", video_ids([5, 6, 7])),
            named("vector", three_rows()),
            numbers("views", [1, 2, 3]),
            numbers("likes", [4, 5, 6]),
            values(
                "raw",
                crate::harness::parquet::leaf(parquet::basic::Type::BYTE_ARRAY, None),
                ["a"; 3].map(Some),
            ),
        ],
    );
    let rows = [[1.0, -2.0, 0.5, 0.0], [0.25, 3.0, -1.5, 8.0], [0.0, 0.0, 0.0, -0.125]];
    let records: Vec<Value> = (0..3)
        .map(|row| json!({"key": row + 5, "vector": rows[row], "views": row + 1, "likes": row + 4, "raw": {"x": 1}}))
        .collect();
    let json = folder.file("a.jsonl", lines(&records));
    let names = || ColumnNames {
        id: Some("key".to_owned()),
        embedding: Some("vector".to_owned()),
        ..Default::default()
    };
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    for path in [parquet, json] {
        let files = DatasetFiles::of(&path);
        let only = |attributes: &[&str]| ColumnNames { attributes: Some(owned(attributes)), ..names() };
        let without = |skipped: &[&str]| ColumnNames { skipped: owned(skipped), ..names() };
        let attributes = |columns| {
            let (dataset, _) = read(&files, columns).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(dataset.ids, [5, 6, 7].map(VideoId));
            assert_eq!(rows_of(&dataset.embeddings), rows);
            // JSON of the test has them by name, Parquet as above.
            let names: BTreeSet<String> = dataset.attributes.into_iter().map(|column| column.name).collect();
            names.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(attributes(without(&["raw"])), ["likes", "views"]);
        assert_eq!(attributes(without(&["views", "raw"])), ["likes"]);
        assert_eq!(attributes(only(&["likes"])), ["likes"]);
        assert_eq!(attributes(only(&[])), Vec::<String>::new());
        assert_refused!(read(&files, names()), UnsupportedColumn { path: path, name: "raw" });
        assert_refused!(read(&files, only(&["shares"])), UnknownColumn { name: "shares" });
        assert_refused!(read(&files, without(&["raw", "share"])), UnknownColumn { name: "share" });
        let other_id = ColumnNames { id: Some("id".to_owned()), ..without(&["raw"]) };
        assert_refused!(read(&files, other_id), UnknownColumn { name: "id" });
    }
    let default = DatasetFiles::of(folder.path("a.parquet"));
    assert_refused!(read(&default, ColumnNames::default()), MissingColumn { name: "embedding" });
}

/// A Parquet file of these rows of two components, the second of which is 1.
fn part(folder: &Folder, name: &str, ids: &[i64], more: &[Column]) -> PathBuf {
    std::fs::create_dir_all(folder.path(name).parent().unwrap()).unwrap();
    let rows: Vec<[f32; 2]> = ids.iter().map(|id| [*id as f32, 1.0]).collect();
    let ids = values("video_id", int64(), ids.iter().map(|id| Some(*id)));
    folder.parquet(name, &[&[ids, embeddings(&rows)], more].concat())
}

#[test]
fn files_of_a_folder_are_one_catalog_in_the_order_of_their_names() {
    let folder = Folder::new();
    let views = |of: &[i64]| values("views", int64(), of.iter().map(|value| Some(*value)));
    part(&folder, "in/region=US/part-1.parquet", &[3, 1], &[views(&[30, 10])]);
    part(&folder, "in/region=DE/part-9.parquet", &[9], &[]);
    part(&folder, "in/region=__HIVE_DEFAULT_PARTITION__/part-0.parquet", &[4], &[views(&[40])]);
    folder.file("in/_SUCCESS", "");
    folder.file("in/.part-1.parquet.crc", "x");
    let whole = open(&folder.path("in")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(whole.ids, [9, 3, 1, 4].map(VideoId));
    assert_eq!(rows_of(&whole.embeddings), [[9.0, 1.0], [3.0, 1.0], [1.0, 1.0], [4.0, 1.0]]);
    let found = table(&whole);
    assert_eq!(found["region"], ["DE", "US", "US", "-"]);
    assert_eq!(found["views"], ["-", "30i", "10i", "40i"]);
    assert_eq!(open(&folder.path("in/region=*/part-[19].parquet")).unwrap().ids, [9, 3, 1].map(VideoId));
    // Several paths, in the order in which they are given.
    let files = DatasetFiles {
        embeddings: vec![folder.path("in/region=US"), folder.path("in/region=DE/part-9.parquet")],
        ..DatasetFiles::default()
    };
    let (dataset, _) = read(&files, ColumnNames::default()).unwrap();
    assert_eq!(dataset.ids, [3, 1, 9].map(VideoId));
    assert_eq!(table(&dataset).keys().collect::<Vec<_>>(), ["views"]);
    // Partitions are columns: they can be left out.
    let skipped = ColumnNames { skipped: vec!["region".to_owned()], ..ColumnNames::default() };
    let (dataset, _) = read(&DatasetFiles::of(folder.path("in")), skipped).unwrap();
    assert_eq!(table(&dataset).keys().collect::<Vec<_>>(), ["views"]);
    assert_eq!(Embeddings::open(&folder.path("in")).unwrap().view().len(), 4);
}

#[test]
fn formats_and_precisions_mix() {
    let folder = Folder::new();
    let halves: Vec<u8> =
        [1.0, 2.0].map(half::f16::from_f32).iter().flat_map(|value| value.to_le_bytes()).collect();
    let half = folder.file("a.npy", crate::harness::files::npy("<f2", "False", "(1, 2)", &halves));
    let single = folder.file("b.fbin", crate::harness::files::fbin(1, 2, &[0.1, 4.0]));
    let json = folder.file("c.jsonl", "{\"embedding\":[5,6]}\n");
    let files = |embeddings: Vec<PathBuf>| DatasetFiles { embeddings, ..DatasetFiles::default() };
    let (all, report) =
        read(&files(vec![half.clone(), single.clone(), json.clone(), half.clone()]), ColumnNames::default())
            .unwrap();
    assert_eq!(rows_of(&all.embeddings), [[1.0, 2.0], [0.1, 4.0], [5.0, 6.0], [1.0, 2.0]]);
    assert_eq!(report.ids, IdSource::RowNumbers);
    let (halves, _) = read(&files(vec![half.clone(), half]), ColumnNames::default()).unwrap();
    assert_eq!(halves.embeddings.view().dtype(), shortlist::base::element::Dtype::F16);
    let other = folder.file("d.fbin", crate::harness::files::fbin(1, 3, &[0.1, 4.0, 5.0]));
    assert_refused!(
        read(&files(vec![single.clone(), other.clone()]), ColumnNames::default()),
        DimensionMismatch { path: other, other: single, expected: 2, found: 3 }
    );
}

#[test]
fn files_that_do_not_belong_together_are_named() {
    let folder = Folder::new();
    let words = values("v", text(), [Some("x")]);
    let number = values("v", int64(), [Some(1i64)]);
    let first = part(&folder, "in/a.parquet", &[1], &[number]);
    let second = part(&folder, "in/b.parquet", &[2], &[words]);
    assert_refused!(
        open(&folder.path("in")),
        ColumnMismatch {
            path: second.clone(),
            other: first.clone(),
            name: "v",
            expected: "integers",
            found: "text"
        }
    );
    part(&folder, "in/b.parquet", &[2, 1], &[]);
    assert_refused!(
        open(&folder.path("in")),
        DuplicateIdOfFiles { path: second.clone(), row: 1, id: VideoId(1), other: first.clone(), first: 0 }
    );
    folder.parquet("in/b.parquet", &[embeddings(&[[1.0, 2.0]])]);
    assert_refused!(
        open(&folder.path("in")),
        ColumnMismatch { name: "video_id", expected: "integers", found: "no ids" }
    );
    let rows = [[1.0, 2.0], [f32::NAN, 1.0]];
    folder.parquet("in/b.parquet", &[numbers("video_id", [5, 6, 7]).truncated(2), embeddings(&rows)]);
    assert_refused!(open(&folder.path("in")), NotFinite { path: second, row: 1, column: 0 });
    std::fs::remove_file(folder.path("in/b.parquet")).unwrap();
    folder.file("in/notes.md", "x");
    assert_refused!(
        open(&folder.path("in")),
        UnknownExtension { path: folder.path("in/notes.md"), found: "md" }
    );
    assert_refused!(open(&folder.path("in/*.orc")), NoFiles { path: folder.path("in/*.orc") });
}
