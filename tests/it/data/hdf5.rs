//! HDF5 files of public benchmarks, made by h5py: `tests/fixtures/hdf5/make.py`.

use std::path::{Path, PathBuf};

use shortlist::base::element::Dtype;
use shortlist::base::metric::Metric;
use shortlist::dataset::{BenchmarkSet, DatasetError, Embeddings, Neighbors, metric_of};
use shortlist::recall::ground_truth;

use crate::harness::files::{Folder, assert_refused, rows_of};

const ROWS: [[f32; 3]; 6] =
    [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0], [3.0, 1.0, 2.0], [9.0, 9.0, 1.0], [2.0, 7.0, 5.0]];
const QUERIES: [[f32; 3]; 2] = [[1.0, 2.0, 2.0], [9.0, 8.0, 1.0]];
const NEIGHBORS: [u32; 8] = [0, 1, 2, 5, 4, 2, 1, 3];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hdf5").join(name)
}

#[test]
fn every_type_and_layout_gives_the_same_rows() {
    let types = ["f2", "f4", "f8", "big_f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"];
    let layouts = ["packed", "packed_latest", "without_neighbors", "user_block"];
    for name in types.into_iter().chain(layouts) {
        let path = fixture(&format!("{name}.h5"));
        let set = BenchmarkSet::open(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(
            (rows_of(&set.train), rows_of(&set.test)),
            (ROWS.map(Vec::from).into(), QUERIES.map(Vec::from).into()),
            "{name}"
        );
        // As in other formats: half precision holds bytes exactly.
        let dtype = if ["f2", "i1", "u1"].contains(&name) { Dtype::F16 } else { Dtype::F32 };
        assert_eq!(set.train.view().dtype(), dtype, "{name}");
        assert_eq!(rows_of(&Embeddings::open(&path).unwrap()), ROWS, "{name}");
        let metric = match name {
            "f4" => Some(Metric::InnerProduct),
            "without_neighbors" => None,
            _ => Some(Metric::L2),
        };
        assert_eq!((set.metric, metric_of(&path).unwrap()), (metric, metric), "{name}");
        let neighbors = Neighbors { rows: 2, k: 4, data: NEIGHBORS.to_vec() };
        assert_eq!(set.neighbors, (name != "without_neighbors").then_some(neighbors), "{name}");
    }
    assert_eq!(metric_of(Path::new("a.npy")).unwrap(), None);
}

#[test]
fn neighbors_of_a_benchmark_are_the_nearest_rows_under_its_metric() {
    for (name, metric) in [("angular.hdf5", Metric::Cosine), ("euclidean.hdf5", Metric::L2)] {
        let set = BenchmarkSet::open(&fixture(name)).unwrap();
        assert_eq!(set.metric, Some(metric));
        assert_eq!((set.train.view().len(), set.test.view().len(), set.train.view().dim()), (200, 20, 8));
        let found = ground_truth(set.train.view(), set.test.view(), metric, 10, |_| {});
        assert_eq!(set.neighbors, Some(found), "{name}");
    }
}

#[test]
fn what_is_not_a_benchmark_is_refused_with_file_and_dataset() {
    let place = |name: &str, dataset: &str| fixture(name).join(dataset);
    let open = |name: &str| BenchmarkSet::open(&fixture(name));
    let path = fixture("hamming.h5");
    assert_refused!(open("hamming.h5"), UnknownDistance { path: path.clone(), found: "hamming" });
    assert_refused!(metric_of(&path), UnknownDistance { path: path.clone() });
    let path = place("bits.h5", "train");
    assert_refused!(open("bits.h5"), UnsupportedType { path: path.clone(), found: "an enumeration" });
    let path = place("beyond_single.h5", "train");
    assert_refused!(
        open("beyond_single.h5"),
        ExceedsF32 { path: path.clone(), row: 2usize, column: 2usize, found: 1e39 }
    );
    let path = place("other_width.h5", "test");
    assert_refused!(
        open("other_width.h5"),
        DimensionMismatch { path: path.clone(), expected: 3usize, found: 2usize }
    );
    let path = place("few_neighbors.h5", "neighbors");
    assert_refused!(
        open("few_neighbors.h5"),
        RowCountMismatch { path: path.clone(), expected: 2usize, found: 1usize }
    );
    let path = place("negative_neighbor.h5", "neighbors");
    assert_refused!(
        open("negative_neighbor.h5"),
        NeighborOutOfRange { path: path.clone(), row: 0usize, column: 0usize, found: -1i128 }
    );
    let path = place("one_axis.h5", "train");
    assert_refused!(
        open("one_axis.h5"),
        WrongShape { path: path.clone(), expected: 2usize, found: vec![18u64] }
    );
    let error = Embeddings::open(&fixture("without_train.h5")).unwrap_err();
    let expected = format!(
        "{}: expected a dataset \"train\", found [\"other\", \"test\"]",
        fixture("without_train.h5").display()
    );
    assert_eq!(error.to_string(), expected);
    // A filter that is not decoded, a link to another file, and a link to itself.
    for name in ["checksums.h5", "links.h5", "loop.h5"] {
        let error = Embeddings::open(&fixture(name)).unwrap_err();
        let is_decoders = matches!(error, DatasetError::Hdf5 { .. } | DatasetError::MissingDataset { .. });
        assert!(is_decoders && error.to_string().contains(name), "{error:?}");
    }
    let folder = Folder::new();
    let npy = folder.file("a.hdf5", b"\x93NUMPY\x01\x00");
    assert_refused!(
        Embeddings::open(&npy),
        WrongMagic { path: npy.clone(), format: "HDF5", found: "\"\\x93NUMPY\\x01\\x00\"" }
    );
}

/// Files of 1,400 bytes that announce gigabytes.
#[test]
fn announced_data_is_not_allocated() {
    let open = |name: &str| Embeddings::open(&fixture(name));
    let path = fixture("announced.h5").join("train");
    assert_refused!(
        open("announced.h5"),
        Truncated { path: path.clone(), expected: 4u64 << 30, found: 1400u64 }
    );
    for name in ["announced_packed.h5", "tiny_chunks.h5", "large_chunk.h5"] {
        let path = fixture(name).join("train");
        assert_refused!(open(name), Expands { path: path.clone() });
    }
}
