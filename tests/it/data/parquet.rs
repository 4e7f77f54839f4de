//! Parquet files of every type of column and every encoding, read, and refused where they are wrong.

use std::fs;
use std::path::Path;

use half::f16;
use parquet::basic::{LogicalType, TimeUnit, Type as Physical};
use parquet::file::properties::WriterProperties;
use shortlist::base::id::VideoId;
use shortlist::base::metric::Metric;
use shortlist::dataset::{
    AttributeColumn, ColumnValues, Dataset, DatasetError, DatasetFiles, DatasetOptions, EXPIRES_AT,
    Embeddings, NEVER, write_npy,
};

use crate::harness::files::{Folder, ROWS, assert_refused, numbers, rows_of, three_rows, video_ids};
use crate::harness::parquet::{
    Cell, Column, ListEncoding, boolean, double, float, half, int64, integer, leaf, lists, text, timestamp,
    values, write,
};

#[test]
fn parquet_brings_ids_and_attributes() {
    let folder = Folder::new();
    let titles = [Some("a"), None, Some("c")];
    let embeddings = folder.parquet(
        "a.parquet",
        &[
            numbers("views", [7, 8, 9]),
            video_ids([5, u64::MAX, 0]),
            three_rows(),
            values("title", text(), titles),
        ],
    );
    let dataset = Dataset::open(&DatasetFiles::of(embeddings), Metric::Cosine).expect("opened");
    assert_eq!(dataset.ids, [5, u64::MAX, 0].map(VideoId));
    assert_eq!(rows_of(&dataset.embeddings), ROWS);
    let column = |name: &str, values| AttributeColumn { name: name.to_owned(), values };
    let views = ColumnValues::Int64([7, 8, 9].into_iter().map(Some).collect());
    let titles = ColumnValues::Keyword(titles.into_iter().collect());
    assert_eq!(dataset.attributes, [column("views", views), column("title", titles)]);
}

#[test]
fn a_column_of_times_named_for_it_is_when_videos_expire() {
    let folder = Folder::new();
    let embeddings = folder.path("rows.npy");
    write_npy(&embeddings, &[3, 4], ROWS.as_flattened()).unwrap();
    let millis = |of: [Option<i64>; 3]| values(EXPIRES_AT, timestamp(TimeUnit::MILLIS, false), of);
    let micros = values(EXPIRES_AT, timestamp(TimeUnit::MICROS, true), [Some(1i64), None, Some(-1)]);
    let dates = values(EXPIRES_AT, leaf(Physical::INT32, Some(LogicalType::Date)), [1, 0, 2].map(Some));
    for (column, expected) in [
        (millis([None, Some(7), None]), Some(vec![NEVER, 7_000, NEVER])),
        (millis([None; 3]), None),
        (micros, Some(vec![1, NEVER, -1])),
        (dates, Some(vec![86_400_000_000, 0, 2 * 86_400_000_000])),
        (numbers(EXPIRES_AT, [1, 2, 3]), None),
    ] {
        let attributes = vec![folder.parquet("attributes.parquet", &[column])];
        let files = DatasetFiles { embeddings: vec![embeddings.clone()], ids: None, attributes };
        let dataset = Dataset::open(&files, Metric::L2).unwrap();
        assert_eq!(dataset.expires_at, expected);
        assert_eq!(dataset.attributes[0].name, EXPIRES_AT, "it is an attribute as well");
    }
}

#[test]
fn signed_parquet_ids_are_read_and_negative_ones_refused() {
    let folder = Folder::new();
    let open = |ids: Column| {
        let embeddings = folder.parquet("a.parquet", &[ids, three_rows()]);
        Dataset::open(&DatasetFiles::of(embeddings), Metric::L2)
    };
    let signed = |of| open(numbers("video_id", of));
    assert_eq!(signed([3, 0, i64::MAX]).expect("opened").ids, [3, 0, i64::MAX as u64].map(VideoId));
    assert_refused!(signed([3, 0, -7]), NegativeId { row: 2, found: -7 });
    let nulls = values("video_id", integer(64, false), [Some(1u64), Some(2), None]);
    assert_refused!(open(nulls), NullValue { row: 2, name: "video_id" });
    let doubles = values("video_id", double(), [1.0, 2.0, 3.0].map(Some));
    let (expected, found) = ("integers, text or UUIDs", "OPTIONAL DOUBLE video_id");
    assert_refused!(open(doubles), ColumnType { name: "video_id", expected: expected, found: found });
    for (bits, is_signed, of) in [(8, true, -1), (16, true, -1), (32, true, -1)] {
        let narrow = values("video_id", integer(bits, is_signed), [1, of, 3].map(Some));
        assert_refused!(open(narrow), NegativeId { row: 1, found: -1 });
    }
    for (bits, is_signed, largest) in [
        (8, true, 127),
        (8, false, 255),
        (16, false, 65_535),
        (32, true, i32::MAX as u64),
        (32, false, u32::MAX.into()),
    ] {
        let narrow = values("video_id", integer(bits, is_signed), [1, largest as i64 as i32, 3].map(Some));
        assert_eq!(open(narrow).expect("opened").ids, [1, largest, 3].map(VideoId));
    }
    let list = lists("video_id", int64(), [1i64, 2, 3].map(|id| Some([Some(id)])));
    assert_refused!(open(list), ColumnType { name: "video_id" });
    assert_refused!(open(video_ids([4, 9, 4])), DuplicateId { id: VideoId(4), first: 0, second: 2 });
}

#[test]
fn refuses_parquet_embeddings_with_nulls_or_of_other_types() {
    let folder = Folder::new();
    let open = |column: Column| Embeddings::open(&folder.parquet("a.parquet", &[column]));
    let pair = Some(vec![Some(1.0f32), Some(2.0)]);
    let with = |last: Option<Vec<Option<f32>>>| {
        open(lists("embedding", float(), [pair.clone(), pair.clone(), last]))
    };
    assert_refused!(with(None), NullValue { row: 2, name: "embedding" });
    assert_refused!(with(Some(vec![Some(1.0), None])), NullComponent { row: 2, column: 1 });
    assert_refused!(with(Some(vec![])), RaggedRow { row: 2, expected: 2, found: 0 });
    assert_refused!(with(Some(vec![None; 3])), RaggedRow { row: 2, expected: 2, found: 3 });
    let doubles = values("embedding", double(), [Some(1.0)]);
    let found = "OPTIONAL DOUBLE embedding";
    assert_refused!(open(doubles), ColumnType { name: "embedding", found: found });
    let integers = lists("embedding", int64(), [Some([Some(1i64)])]);
    assert_refused!(
        open(integers),
        ColumnType { name: "embedding", expected: "lists of f32, f64, f16, i8 or u8" }
    );

    let vector = Column { name: "vector".to_owned(), ..three_rows() };
    let path = folder.parquet("b.parquet", &[vector, numbers("views", [1, 2, 3])]);
    assert_refused!(Embeddings::open(&path), MissingColumn { name: "embedding", found: ["vector", "views"] });
}

#[test]
fn refuses_parquet_embeddings_that_are_wrong_in_a_later_batch() {
    let folder = Folder::new();
    let path = folder.path("a.parquet");
    type Rows = Vec<Option<Vec<Option<f32>>>>;
    let write_with = |change: &dyn Fn(&mut Rows)| {
        let mut rows = vec![Some(vec![Some(0.5f32), Some(1.0)]); 5_000];
        change(&mut rows);
        write(&path, &[lists("embedding", float(), rows)], 3_000, WriterProperties::default());
        Embeddings::open(&path)
    };
    assert_eq!(write_with(&|_| {}).expect("opened").view().len(), 5_000);
    assert_refused!(write_with(&|rows| rows[4_321] = None), NullValue { row: 4_321 });
    let ragged = |rows: &mut Vec<Option<Vec<_>>>| rows[1_700].as_mut().unwrap().push(Some(1.0));
    assert_refused!(write_with(&ragged), RaggedRow { row: 1_700, expected: 2, found: 3 });
    let null = |rows: &mut Vec<Option<Vec<_>>>| rows[4_999].as_mut().unwrap()[1] = None;
    assert_refused!(write_with(&null), NullComponent { row: 4_999, column: 1 });
    // Lengths that add up to the same number of components.
    let shifted = |rows: &mut Vec<Option<Vec<_>>>| {
        rows[2_000].as_mut().unwrap().push(Some(1.0));
        rows[2_001].as_mut().unwrap().pop();
    };
    assert_refused!(write_with(&shifted), RaggedRow { row: 2_000, expected: 2, found: 3 });
}

#[test]
fn columns_that_are_not_wanted_are_not_decoded() {
    let folder = Folder::new();
    let path = folder.parquet("a.parquet", &[three_rows(), values("title", text(), ["é"; 3].map(Some))]);
    let mut bytes = fs::read(&path).unwrap();
    // Not UTF-8 any more, wherever a page or a statistic has it.
    let at: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with("é".as_bytes())).collect();
    at.into_iter().for_each(|at| bytes[at + 1] = b'?');
    let path = folder.file("b.parquet", bytes);
    assert_eq!(rows_of(&Embeddings::open(&path).expect("titles are not read")), ROWS);
    let files = DatasetFiles::of(path);
    let error = Dataset::open(&files, Metric::L2).unwrap_err().to_string();
    assert!(error.contains("corrupt: column \"title\": row 0: expected UTF-8 text"), "{error}");
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

/// The attribute columns of a file, which has no embeddings.
fn attributes(folder: &Folder, path: &Path) -> Vec<AttributeColumn> {
    open_attributes(folder, path, &[]).unwrap_or_else(|error| panic!("{error}"))
}

/// As [`attributes`], without the skipped ones.
fn open_attributes(
    folder: &Folder,
    path: &Path,
    skipped: &[&str],
) -> Result<Vec<AttributeColumn>, DatasetError> {
    let embeddings = folder.path("rows.npy");
    write_npy(&embeddings, &[3, 4], ROWS.as_flattened()).unwrap();
    let files = DatasetFiles { embeddings: vec![embeddings], ids: None, attributes: vec![path.to_owned()] };
    let mut options = DatasetOptions::new(Metric::L2);
    options.columns.skipped = skipped.iter().map(|name| (*name).to_owned()).collect();
    Dataset::read(&files, &options).map(|(dataset, _)| dataset.attributes)
}

/// The values of one column of three rows.
fn read(column: Column) -> ColumnValues {
    let folder = Folder::new();
    let path = folder.parquet("a.parquet", &[column]);
    attributes(&folder, &path).remove(0).values
}

fn keywords(of: [Option<&str>; 3]) -> ColumnValues {
    ColumnValues::Keyword(of.into_iter().collect())
}

#[test]
fn every_type_of_number_is_read() {
    let int64s = |of: [Option<i64>; 3]| ColumnValues::Int64(of.into_iter().collect());
    for (bits, expected) in [(8, -1), (16, -1), (32, -1)] {
        let column = values("a", integer(bits, true), [Some(-1), None, Some(7)]);
        assert_eq!(read(column), int64s([Some(expected), None, Some(7)]));
    }
    for (bits, expected) in [(8, 255), (16, 65_535), (32, 4_294_967_295)] {
        let column = values("a", integer(bits, false), [Some(-1), None, Some(7)]);
        assert_eq!(read(column), int64s([Some(expected), None, Some(7)]));
    }
    let column = values("a", leaf(Physical::INT32, None), [i32::MIN, 0, i32::MAX].map(Some)).required();
    assert_eq!(read(column), int64s([i32::MIN, 0, i32::MAX].map(|value| Some(value.into()))));
    assert_eq!(
        read(values("a", int64(), [Some(i64::MIN), None, Some(1)])),
        int64s([Some(i64::MIN), None, Some(1)])
    );
    let unsigned = [Some(u64::MAX), None, Some(1)];
    let expected = ColumnValues::Uint64(unsigned.into_iter().collect());
    assert_eq!(read(values("a", integer(64, false), unsigned)), expected);

    let doubles = |of: [Option<f64>; 3]| ColumnValues::Double(of.into_iter().collect());
    let expected = doubles([Some(0.5), None, Some(f64::INFINITY)]);
    assert_eq!(read(values("a", double(), [Some(0.5), None, Some(f64::INFINITY)])), expected);
    assert_eq!(read(values("a", float(), [Some(0.5f32), None, Some(f32::INFINITY)])), expected);
    assert_eq!(read(values("a", half(), [Some(f16::from_f32(0.5)), None, Some(f16::INFINITY)])), expected);

    let booleans = [Some(true), None, Some(false)];
    assert_eq!(read(values("a", boolean(), booleans)), ColumnValues::Bool(booleans.into_iter().collect()));
}

#[test]
fn every_type_of_text_is_read() {
    let words = [Some("é"), None, Some("")];
    for logical in [LogicalType::String, LogicalType::Json] {
        let column = values("a", leaf(Physical::BYTE_ARRAY, Some(logical)), words);
        assert_eq!(read(column), keywords(words));
    }
    let unknown = leaf(Physical::INT32, Some(LogicalType::Unknown));
    assert_eq!(read(values::<i32>("a", unknown.clone(), [None; 3])), keywords([None; 3]));
    let of_nothing = [Some(vec![None::<i32>]), None, Some(vec![])];
    let expected = [Some(vec![]), None, Some(Vec::<String>::new())];
    let expected = ColumnValues::KeywordList(expected.into_iter().collect());
    assert_eq!(read(lists("a", unknown, of_nothing)), expected);
}

#[test]
fn lists_of_every_encoding_are_read() {
    let words = [Some(vec![Some("a"), None, Some("ü")]), None, Some(vec![])];
    let integers = [Some(vec![Some(-1)]), None, Some(vec![Some(1), Some(2)])];
    let read_words = |column| match read(column) {
        ColumnValues::KeywordList(lists) => {
            let list =
                |row| lists.get(row).map(|words| words.map(str::to_owned).collect::<Vec<_>>().join(" "));
            [0, 1, 2].map(list)
        }
        other => panic!("expected lists, found {other:?}"),
    };
    let some = |text: &str| Some(text.to_owned());
    let column = lists("tags", text(), words.clone());
    assert_eq!(read_words(column.clone()), [some("a ü"), None, some("")]);
    let no_null_items = lists("tags", text(), [Some(vec![Some("a"), Some("ü")]), None, Some(vec![])]);
    let required_items = Column { has_required_items: true, ..no_null_items.clone() };
    assert_eq!(read_words(required_items), [some("a ü"), None, some("")]);
    let two_levels = no_null_items.encoded(ListEncoding::TwoLevels);
    assert_eq!(read_words(two_levels), [some("a ü"), None, some("")]);
    let no_nulls = lists(
        "tags",
        text(),
        [vec!["a", "ü"], vec![], vec!["b"]].map(|list| Some(list.into_iter().map(Some))),
    );
    assert_eq!(read_words(no_nulls.clone().required()), [some("a ü"), some(""), some("b")]);
    let expected = [some("a ü"), some(""), some("b")];
    assert_eq!(read_words(no_nulls.clone().required().encoded(ListEncoding::TwoLevels)), expected);
    assert_eq!(read_words(no_nulls.encoded(ListEncoding::Repeated)), expected);

    for (leaf, first) in [
        (leaf(Physical::INT32, None), "-1"),
        (integer(8, true), "-1"),
        (integer(16, false), "65535"),
        (integer(32, false), "4294967295"),
    ] {
        assert_eq!(read_words(lists("a", leaf, integers.clone())), [some(first), None, some("1 2")]);
    }
    let wide = [Some(vec![Some(u64::MAX)]), None, Some(vec![Some(1), Some(2)])];
    let signed = lists("a", int64(), wide.clone());
    assert_eq!(read_words(signed), [some("-1"), None, some("1 2")]);
    let unsigned = lists("a", integer(64, false), wide);
    assert_eq!(read_words(unsigned), [some("18446744073709551615"), None, some("1 2")]);
}

#[test]
fn other_types_are_refused_as_attributes_with_their_name_and_type() {
    let fixed = |bytes: u8| [Some(Cell::Fixed(vec![bytes; 2])), None, None];
    let bytes = |logical| values("a", leaf(Physical::BYTE_ARRAY, logical), ["x"; 3].map(Some));
    let int32s = |logical| values("a", leaf(Physical::INT32, logical), [1; 3].map(Some));
    for (column, found) in [
        (bytes(None), "OPTIONAL BYTE_ARRAY a"),
        (bytes(Some(LogicalType::Enum)), "OPTIONAL BYTE_ARRAY a (ENUM)"),
        (bytes(Some(LogicalType::Bson)), "OPTIONAL BYTE_ARRAY a (BSON)"),
        (
            values("a", leaf(Physical::FIXED_LEN_BYTE_ARRAY, None), fixed(1)),
            "OPTIONAL FIXED_LEN_BYTE_ARRAY (2) a",
        ),
        (int32s(Some(LogicalType::time(true, TimeUnit::MILLIS))), "OPTIONAL INT32 a (TIME(MILLIS,true))"),
        (
            lists("a", float(), [Some([Some(1.0f32)]), None, None]),
            "OPTIONAL group a (LIST) { REPEATED group list { OPTIONAL FLOAT element; } }",
        ),
        (
            lists("a", boolean(), [Some([Some(true)]), None, None]).encoded(ListEncoding::TwoLevels),
            "OPTIONAL group a (LIST) { REPEATED BOOLEAN array; }",
        ),
    ] {
        let folder = Folder::new();
        let path = folder.parquet("a.parquet", &[column]);
        let error = open_attributes(&folder, &path, &[]).unwrap_err().to_string();
        let expected = format!("{}: column \"a\": type {found} is not supported: ", path.display());
        assert!(error.starts_with(&expected), "{error}");
        assert_eq!(open_attributes(&folder, &path, &["a"]).unwrap(), []);
    }
}

#[test]
fn structs_and_maps_are_refused_as_attributes() {
    use parquet::data_type::Int32Type;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    let folder = Folder::new();
    let path = folder.path("a.parquet");
    let schema = "message schema {
        optional group point { required int32 x; required int32 y; }
        optional group single { required int32 x; }
        optional int32 price (DECIMAL(4,1));
        required group counts (MAP) { repeated group key_value { required int32 key; required int32 value; } }
        required group keys (MAP) { repeated group key_value { required int32 key; } }
        required group boxed (LIST) { repeated group array { required int32 x; } }
        required group deep (LIST) {
            repeated group list { required group element (LIST) { repeated group list { required int32 element; } } }
        }
    }";
    let schema = parse_message_type(schema).unwrap().into();
    let file = fs::File::create(&path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, WriterProperties::default().into()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    while let Some(mut column) = group.next_column().unwrap() {
        let writer = column.typed::<Int32Type>();
        let definition = [writer.get_descriptor().max_def_level(); 3];
        let repetition = [0; 3];
        let repetition = (writer.get_descriptor().max_rep_level() > 0).then_some(&repetition[..]);
        writer.write_batch(&[7, 8, 9], Some(&definition), repetition).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();

    let refused = ["point", "single", "price", "counts", "boxed", "deep"];
    for name in refused {
        let others: Vec<&str> = refused.into_iter().filter(|other| *other != name).collect();
        match open_attributes(&folder, &path, &others) {
            Err(DatasetError::UnsupportedColumn { name: column, found, .. }) => {
                assert_eq!(column, name);
                assert!(found.contains(&format!(" {name} ")), "{found}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    let columns = open_attributes(&folder, &path, &refused).unwrap();
    let [AttributeColumn { name, values: ColumnValues::KeywordList(lists) }] = &columns[..] else {
        panic!("keys alone are a list, found {columns:?}")
    };
    assert_eq!(name, "keys");
    assert_eq!(lists.get(1).map(|words| words.collect::<Vec<_>>()), Some(vec!["8"]));
}
