//! Embeddings, ids and attributes of several files, checked against each other.

use std::path::PathBuf;

use half::f16;
use shortlist::base::id::VideoId;
use shortlist::base::metric::Metric;
use shortlist::dataset::{Dataset, DatasetError, DatasetFiles, EmbeddingsView, Neighbors};

use crate::harness::files::{Folder, assert_refused, fbin, flat, numbers, three_rows, video_ids};

/// Opens `a.fbin` of three rows, with the ids and attributes of a test.
fn open_beside(
    folder: &Folder,
    ids: Option<PathBuf>,
    attributes: Option<PathBuf>,
) -> Result<Dataset, DatasetError> {
    let embeddings = folder.file("a.fbin", fbin(3, 4, &flat()));
    Dataset::open(
        &DatasetFiles { embeddings: vec![embeddings], ids, attributes: attributes.into_iter().collect() },
        Metric::InnerProduct,
    )
}

#[test]
fn ids_come_from_whichever_file_has_them() {
    let folder = Folder::new();
    let text = Some(folder.file("ids.txt", "30\n10\n20\n"));
    let with_ids =
        Some(folder.parquet("ids.parquet", &[video_ids([30, 10, 20]), numbers("views", [1, 2, 3])]));
    let without = Some(folder.parquet("plain.parquet", &[numbers("views", [1, 2, 3]), three_rows()]));
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
    let attributes = folder.parquet("a.parquet", &[video_ids([30, 10, 21]), numbers("views", [1, 2, 3])]);
    let expected = VideoId(20);
    assert_refused!(
        open_beside(&folder, Some(ids.clone()), Some(attributes.clone())),
        IdMismatch { path: attributes, other: ids.clone(), row: 2, expected: expected, found: VideoId(21) }
    );
    let embeddings = folder.parquet("b.parquet", &[video_ids([30, 11, 20]), three_rows()]);
    let files =
        DatasetFiles { embeddings: vec![embeddings.clone()], ids: Some(ids.clone()), attributes: Vec::new() };
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
    let attributes = folder.parquet("a.parquet", &[numbers("views", [1, 2, 3]).truncated(1)]);
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
    let embeddings = folder.parquet("a.parquet", &[three_rows(), numbers("views", [1, 2, 3])]);
    let attributes = folder.parquet("b.parquet", &[numbers("age", [1, 2, 3]), numbers("views", [1, 2, 3])]);
    let files = DatasetFiles {
        embeddings: vec![embeddings.clone()],
        ids: None,
        attributes: vec![attributes.clone()],
    };
    assert_refused!(
        Dataset::open(&files, Metric::L2),
        DuplicateColumn { path: attributes, name: "views", first: embeddings }
    );
    let twice = folder.parquet("c.parquet", &[numbers("views", [1, 2, 3]), numbers("views", [1, 2, 3])]);
    assert_refused!(
        open_beside(&folder, None, Some(twice.clone())),
        DuplicateColumn { first: twice, name: "views" }
    );
    let csv = folder.file("a.csv", "views\n1\n");
    assert_refused!(
        open_beside(&folder, None, Some(csv)),
        UnknownExtension { found: "csv", accepted: ".parquet, .jsonl or .ndjson" }
    );
}

#[test]
fn a_catalog_with_a_nan_is_refused() {
    let folder = Folder::new();
    let embeddings = folder.file("a.fbin", fbin(2, 2, &[1.0, 0.0, 0.0, f32::NAN]));
    let files = DatasetFiles::of(embeddings);
    assert_refused!(Dataset::open(&files, Metric::InnerProduct), NotFinite { row: 1, column: 1 });
}

#[test]
fn a_real_catalog_is_the_same_from_parquet_and_npy() {
    let Some(data) = crate::harness::indexes::shared_data() else { return };
    let videos = data.join("videos");
    let from_parquet = DatasetFiles::of(videos.join("videos.parquet"));
    let from_npy = DatasetFiles {
        embeddings: vec![videos.join("videos.f16.npy")],
        ids: Some(videos.join("video_ids.npy")),
        attributes: vec![videos.join("videos.parquet")],
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
        assert_eq!(one.values, other.values, "{}", one.name);
    }

    let truth =
        Neighbors::open(&videos.join("viewers.ground_truth.npy")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((truth.rows, truth.k), (6_000, 100));
    assert!(truth.data.iter().all(|row| *row < 20_102));
}
