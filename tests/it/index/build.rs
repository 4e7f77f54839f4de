//! Built graphs are connected, deterministic and reach their expected recall.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use shortlist::base::id::{NodeId, VideoId};
use shortlist::base::interrupt::Interrupt;
use shortlist::base::metric::Metric;
use shortlist::build::{
    Ancestor, BuildError, BuildParams, Builder, Progress, Silent, build, build_taught_in_memory, stage,
};
use shortlist::dataset::{ColumnValues, Dataset, DatasetFiles, Embeddings, Neighbors, write_npy};
use shortlist::eval::{Hits, Sweep, sweep};
use shortlist::index::{Codes, Index, IndexStore, Measured, verify};
use shortlist::node_set::NodeSet;
use shortlist::recall::ground_truth;
use shortlist::search::{Effort, Plan, SearchParams, Searcher};

use crate::harness::indexes::{
    TestDataset, build_index, build_taught_index, dataset_of, random_rows, shared_data,
};

fn params(metric: Metric, builder: Builder) -> BuildParams {
    BuildParams::new(metric, 12, 100).unwrap().with_builder(builder).unwrap()
}

/// Recall of a graph traversal at one effort, over the held-out queries of the catalog.
fn recall(store: &IndexStore, queries: &Embeddings, truth: &Neighbors, k: usize, ef_search: usize) -> f64 {
    let (manifest, index, _) = store.open_current().unwrap();
    let plan = Sweep {
        k: vec![k],
        ef_search: vec![ef_search],
        to_the_end: false,
        hits: Hits::Equal,
        plan: Some(Plan::Graph),
        threads: 1,
        limit: None,
    };
    sweep(&index, &manifest, queries.view(), truth, &plan, |_| {}).unwrap().rows[0].recall
}

#[test]
fn every_metric_and_builder_gives_a_sound_graph_that_finds_what_is_near() {
    let dataset = TestDataset::new(3000, 24);
    let queries = Embeddings::open(&dataset.files.videos_test).unwrap();
    for metric in Metric::ALL {
        let opened = dataset.open(metric);
        let truth = ground_truth(opened.embeddings.view(), queries.view(), metric, 10, |_| {});
        for builder in Builder::ALL {
            let dir = dataset.folder.path().join(format!("{metric}-{}", builder.name()));
            let index = build_index(&opened, &params(metric, builder), &dir);
            let report = verify(&index).unwrap();
            assert_eq!(report.nodes, 3000);
            assert_eq!(index.metadata().build.builder, builder.name());
            let recall = recall(&IndexStore::new(&dir), &queries, &truth, 10, 300);
            assert!(recall > 0.97, "{metric} {}: recall@10 {recall}", builder.name());
        }
    }
}

#[test]
fn half_precision_rows_are_kept_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<half::f16> = random_rows(500, 16, 1).into_iter().map(half::f16::from_f32).collect();
    let path = folder.path().join("rows.npy");
    write_npy(&path, &[500, 16], &rows).unwrap();
    let files = DatasetFiles::of(path);
    let dataset = Dataset::open(&files, Metric::L2).unwrap();
    let index = build_index(&dataset, &params(Metric::L2, Builder::Native), &folder.path().join("index"));
    verify(&index).unwrap();
    let mut row = Vec::new();
    for node in 0..500 {
        index.vectors().copy_row(node, &mut row);
        let input = index.input_row(NodeId(node as u32)) as usize;
        let expected: Vec<f32> =
            rows[input * 16..(input + 1) * 16].iter().map(|value| value.to_f32()).collect();
        assert_eq!(row, expected);
    }
}

#[test]
fn one_thread_and_a_seed_give_the_same_bytes() {
    let dataset = TestDataset::new(1500, 12);
    let opened = dataset.open(Metric::InnerProduct);
    let bytes = |name: &str, builder: Builder, seed: u64| {
        let params = params(Metric::InnerProduct, builder).with_threads(1).with_seed(seed);
        let index = build_index(&opened, &params, &dataset.folder.path().join(name));
        std::fs::read(index.path()).unwrap()
    };
    for builder in Builder::ALL {
        let name = builder.name();
        let first = bytes(&format!("{name}-1"), builder, 5);
        assert_eq!(first, bytes(&format!("{name}-2"), builder, 5), "{name}");
        assert_ne!(first, bytes(&format!("{name}-3"), builder, 6), "{name}");
    }
}

#[test]
fn rows_that_are_all_alike_are_all_reachable() {
    let folder = tempfile::tempdir().unwrap();
    let rows = [0.5f32, -1.0, 2.0].repeat(700);
    for metric in Metric::ALL {
        for builder in Builder::ALL {
            let dataset = dataset_of(folder.path(), &rows, 3, metric);
            let dir = folder.path().join(format!("{metric}-{}", builder.name()));
            verify(&build_index(&dataset, &params(metric, builder), &dir)).unwrap();
        }
    }
}

#[test]
fn norms_that_differ_by_orders_of_magnitude_leave_nothing_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    let mut rows = random_rows(4000, 16, 3);
    for (row, values) in rows.chunks_mut(16).enumerate() {
        let scale = 10f32.powi(-((row % 4) as i32));
        values.iter_mut().for_each(|value| *value *= scale);
    }
    let dataset = dataset_of(folder.path(), &rows, 16, Metric::InnerProduct);
    let index =
        build_index(&dataset, &params(Metric::InnerProduct, Builder::Native), &folder.path().join("index"));
    verify(&index).unwrap();
    let repair = index.metadata().repair;
    assert!(repair.unreachable > 0, "this catalog is meant to need repair");
    assert!(repair.edges_added + repair.edges_replaced <= repair.unreachable);
}

#[test]
fn the_smallest_catalogs_build() {
    let folder = tempfile::tempdir().unwrap();
    for rows in 1..20 {
        for builder in Builder::ALL {
            let dataset = dataset_of(folder.path(), &random_rows(rows, 1, 9), 1, Metric::InnerProduct);
            let dir = folder.path().join(format!("{rows}-{}", builder.name()));
            verify(&build_index(&dataset, &params(Metric::InnerProduct, builder), &dir)).unwrap();
        }
    }
}

#[test]
fn the_length_of_a_row_does_not_matter_under_cosine() {
    let folder = tempfile::tempdir().unwrap();
    let rows = random_rows(300, 8, 4);
    let mut scaled = rows.clone();
    for (row, values) in scaled.chunks_mut(8).enumerate() {
        // Powers of two from 2^-90 to 2^45: the squares of the small ones are outside the range of f32.
        let scale = 2f32.powi(row as i32 % 136 - 90);
        values.iter_mut().for_each(|value| *value *= scale);
    }
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    let params = params(Metric::Cosine, Builder::Native).with_threads(1);
    let one = build_index(&dataset_of(folder.path(), &rows, 8, Metric::Cosine), &params, &one);
    let other = build_index(&dataset_of(folder.path(), &scaled, 8, Metric::Cosine), &params, &other);
    assert_eq!(std::fs::read(one.path()).unwrap(), std::fs::read(other.path()).unwrap());
}

/// Cancels the build after a number of steps.
struct StopAfter {
    steps: u64,
    done: AtomicU64,
}

impl Progress for StopAfter {
    fn begin(&self, _: &'static str, _: u64) {}
    fn advance(&self, steps: u64) {
        self.done.fetch_add(steps, Ordering::Relaxed);
    }
    fn is_cancelled(&self) -> bool {
        self.done.load(Ordering::Relaxed) >= self.steps
    }
}

#[test]
fn a_cancelled_build_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset_of(folder.path(), &random_rows(6000, 8, 5), 8, Metric::InnerProduct);
    let users = folder.path().join("users.npy");
    write_npy(&users, &[400, 8], &random_rows(400, 8, 6)).unwrap();
    let users = Embeddings::open(&users).unwrap();
    let store = IndexStore::new(folder.path().join("index"));
    for builder in Builder::ALL {
        // Before, during and after insertion, and while the file is written.
        for steps in [0, 3000, 6000, 6001, 20_000] {
            let progress = StopAfter { steps, done: AtomicU64::new(0) };
            let params = params(Metric::InnerProduct, builder);
            let built = build(&dataset, Some(&users), &params, &store, &progress, Instant::now());
            assert!(matches!(built, Err(BuildError::Cancelled)), "{} {steps}", builder.name());
            assert_eq!(std::fs::read_dir(store.dir()).unwrap().count(), 0);
        }
    }
}

#[test]
fn parameters_out_of_range_are_named() {
    let error =
        |m, ef_construction| BuildParams::new(Metric::L2, m, ef_construction).unwrap_err().to_string();
    assert_eq!(error(1, 100), "m: expected 2 to 1024, found 1");
    assert_eq!(error(16, 0), "ef_construction: expected 1 to 100000, found 0");
}

#[cfg(feature = "hnsw-rs")]
#[test]
fn the_builder_hnsw_rs_takes_no_more_neighbors_than_its_crate_has_room_for() {
    let too_many = BuildParams::new(Metric::L2, 300, 400).unwrap().with_builder(Builder::HnswRs).unwrap_err();
    assert_eq!(too_many.to_string(), "m for builder hnsw-rs: expected 2 to 256, found 300");
}

#[test]
fn unknown_builders_and_builders_left_out_are_told_apart() {
    let unknown = "hnsw".parse::<Builder>().unwrap_err();
    assert_eq!(unknown, "unknown builder \"hnsw\": expected native or hnsw-rs");
    if !cfg!(feature = "hnsw-rs") {
        let left_out = "hnsw-rs".parse::<Builder>().unwrap_err();
        assert_eq!(left_out, "builder hnsw-rs: this binary was built without the feature hnsw-rs");
    }
}

#[test]
fn users_teach_the_graph_what_other_users_want() {
    let folder = tempfile::tempdir().unwrap();
    // Norms of videos differ by two orders of magnitude, and all users are on one side of them.
    let mut items = random_rows(6000, 16, 31);
    for (row, values) in items.chunks_mut(16).enumerate() {
        let scale = 10f32.powf(-2.0 * (row % 100) as f32 / 100.0);
        values.iter_mut().for_each(|value| *value *= scale);
    }
    let mut users = random_rows(1600, 16, 32);
    users.chunks_mut(16).for_each(|user| user[0] += 2.0);
    let (train, test) = (folder.path().join("train.npy"), folder.path().join("test.npy"));
    write_npy(&train, &[1500, 16], &users[..1500 * 16]).unwrap();
    write_npy(&test, &[100, 16], &users[1500 * 16..]).unwrap();
    let (train, test) = (Embeddings::open(&train).unwrap(), Embeddings::open(&test).unwrap());
    let dataset = dataset_of(folder.path(), &items, 16, Metric::InnerProduct);
    let truth = ground_truth(dataset.embeddings.view(), test.view(), Metric::InnerProduct, 100, |_| {});
    let params = params(Metric::InnerProduct, Builder::Native);
    let (plain, taught) = (folder.path().join("plain"), folder.path().join("taught"));
    let index = build_index(&dataset, &params, &plain);
    assert_eq!(index.metadata().training, None);
    assert!(index.held_out_queries().is_none());
    let index = build_taught_index(&dataset, Some(&train), &params, &taught);
    verify(&index).unwrap();
    let training = index.metadata().training.as_ref().unwrap();
    assert_eq!((training.users, training.held_out), (1350, 150));
    // With so few videos, two users for each.
    assert_eq!(training.multiplied, 2 * 6000 - 1350);
    assert!(training.edges_added > 0);
    let kept = index.held_out_queries().unwrap();
    assert_eq!(kept.len(), 150);
    let (mut kept_user, mut user) = (Vec::new(), Vec::new());
    for row in [0, 77, 149] {
        kept.copy_row(row, &mut kept_user);
        train.view().copy_row(10 * row + 9, &mut user);
        assert_eq!(kept_user, user, "held-out user {row}");
    }
    let taught_by = index.training_queries().unwrap();
    assert_eq!(taught_by.len(), 1350);
    for row in [0, 8, 9, 1349] {
        taught_by.copy_row(row, &mut kept_user);
        train.view().copy_row(row / 9 * 10 + row % 9, &mut user);
        assert_eq!(kept_user, user, "training user {row}");
    }
    let (plain, taught) = (IndexStore::new(plain), IndexStore::new(taught));
    let (before, after) = (recall(&plain, &test, &truth, 100, 200), recall(&taught, &test, &truth, 100, 200));
    // The miss rate falls to less than a tenth.
    assert!(10.0 * (1.0 - after) < 1.0 - before, "recall@100 {before} untaught, {after} taught");
    // The recall that inspect reports for held-out users is that of other users.
    let reported = training.recall.iter().find(|measured| measured.k == 100).unwrap();
    assert_eq!(reported.ef_search, 200);
    assert!((reported.recall - after).abs() < 0.02, "reported {}, measured {after}", reported.recall);
    // Recall rises to 1 with the effort.
    let most = recall(&taught, &test, &truth, 100, 3000);
    assert!(most > 0.999, "recall@100 {most}");
}

#[test]
fn every_metric_and_builder_learns() {
    let dataset = TestDataset::new(1200, 12);
    let users = Embeddings::open(&dataset.files.users_train).unwrap();
    for metric in Metric::ALL {
        let opened = dataset.open(metric);
        for builder in Builder::ALL {
            let params = params(metric, builder).with_threads(1);
            let bytes = ["one", "other"].map(|name| {
                let dir = dataset.folder.path().join(format!("{metric}-{}-{name}", builder.name()));
                let index = build_taught_index(&opened, Some(&users), &params, &dir);
                verify(&index).unwrap();
                let training = index.metadata().training.clone().unwrap();
                assert!(training.recall.iter().all(|measured| measured.recall > 0.9), "{training:?}");
                std::fs::read(index.path()).unwrap()
            });
            assert_eq!(bytes[0], bytes[1], "{metric} {}", builder.name());
        }
    }
}

#[test]
fn a_handful_of_users_is_enough_to_build_with() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset_of(folder.path(), &random_rows(30, 4, 1), 4, Metric::InnerProduct);
    for users in [1, 2, 9, 10, 11] {
        let path = folder.path().join("users.npy");
        write_npy(&path, &[users, 4], &random_rows(users, 4, 2)).unwrap();
        let training = Embeddings::open(&path).unwrap();
        let params = params(Metric::InnerProduct, Builder::Native);
        let index = build_taught_index(&dataset, Some(&training), &params, &folder.path().join("index"));
        verify(&index).unwrap();
        let report = index.metadata().training.clone().unwrap();
        assert_eq!(report.users + report.held_out, users as u32);
    }
}

/// Users without a history are zeros and teach nothing: too few others leave a graph as good as without users.
#[test]
fn users_that_are_nearly_all_zeros_cost_no_recall() {
    const DIM: usize = 16;
    let rows = random_rows(5000, DIM, 1);
    let dataset = Dataset::from_rows(DIM, rows.clone()).unwrap();
    let queries = random_rows(100, DIM, 2);
    let recall = |users: Option<Vec<f32>>| {
        let users = users.map(|users| Embeddings::in_memory("users".as_ref(), DIM, users));
        let params = params(Metric::InnerProduct, Builder::Native);
        let index = build_taught_in_memory(&dataset, users.as_ref(), &params, &Silent).unwrap();
        let effort = SearchParams::new(10, Effort::EfSearch(40)).unwrap();
        let searcher = Searcher::default();
        let exact = SearchParams::new(10, Effort::Exact).unwrap();
        let found = |query: &[f32], params: &SearchParams| -> Vec<VideoId> {
            let found = searcher.search(&index, query, params, &mut Interrupt::never());
            found.hits.iter().map(|hit| index.video_ids()[hit.node.index()]).collect()
        };
        let hits = queries.chunks(DIM).map(|query| {
            let exact = found(query, &exact);
            found(query, &effort).iter().filter(|video| exact.contains(video)).count()
        });
        (
            hits.sum::<usize>() as f64 / 1000.0,
            index.metadata().training.clone().map(|training| training.users),
        )
    };
    let (without, _) = recall(None);
    for (usable, users) in [(vec![9], 40), (vec![3, 99, 500, 700, 999], 1000)] {
        let mut sample = vec![0.0; users * DIM];
        for user in &usable {
            sample[user * DIM..][..DIM].copy_from_slice(&random_rows(1, DIM, *user as u64));
        }
        let (taught, teaching) = recall(Some(sample));
        assert_eq!(teaching, Some(usable.len() as u32));
        assert!(taught >= without - 0.02, "{usable:?} of {users}: {taught} instead of {without}");
    }
}

#[test]
fn training_queries_that_cannot_be_used_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset_of(folder.path(), &random_rows(30, 4, 1), 4, Metric::InnerProduct);
    let store = IndexStore::new(folder.path().join("index"));
    let refused = |dim: usize, rows: &[f32]| {
        let path = folder.path().join("users.npy");
        write_npy(&path, &[rows.len() / dim, dim], rows).unwrap();
        let training = Embeddings::open(&path).unwrap();
        let params = params(Metric::InnerProduct, Builder::Native);
        let error = build(&dataset, Some(&training), &params, &store, &Silent, Instant::now()).unwrap_err();
        assert!(!store.dir().exists());
        error
    };
    assert!(matches!(refused(5, &[0.0; 10]), BuildError::TrainingDimension { expected: 4, found: 5, .. }));
    assert!(matches!(refused(4, &[0.0, 1.0, f32::NAN, 0.0]), BuildError::Training(_)));
}

#[test]
fn codes_cost_no_recall_and_can_be_left_out() {
    let dataset = TestDataset::new(3000, 24);
    let queries = Embeddings::open(&dataset.files.users_test).unwrap();
    for metric in Metric::ALL {
        let opened = dataset.open(metric);
        let truth = ground_truth(opened.embeddings.view(), queries.view(), metric, 100, |_| {});
        let recalls = [Codes::Sq8, Codes::None].map(|codes| {
            let params = params(metric, Builder::Native).with_threads(1).with_codes(codes).unwrap();
            let dir = dataset.folder.path().join(format!("{metric}-{}", codes.name()));
            let index = build_index(&opened, &params, &dir);
            verify(&index).unwrap();
            assert_eq!((index.metadata().codes, index.codes().is_some()), (codes, codes == Codes::Sq8));
            let store = IndexStore::new(&dir);
            [(10, 60), (100, 200)].map(|(k, ef_search)| recall(&store, &queries, &truth, k, ef_search))
        });
        for (coded, plain) in recalls[0].iter().zip(recalls[1]) {
            assert!((coded - plain).abs() < 0.02, "{metric}: {coded} with codes, {plain} without");
        }
    }
}

#[test]
fn ids_and_attributes_stay_with_their_video() {
    let dataset = TestDataset::new(400, 8);
    let opened = dataset.open(Metric::InnerProduct);
    let index = build_index(
        &opened,
        &params(Metric::InnerProduct, Builder::Native),
        &dataset.folder.path().join("index"),
    );
    let columns = shortlist::attributes::Columns::open(&index).unwrap();
    assert!(columns.find("video_id").is_none());
    let title = columns.find("title").unwrap();
    let expected = opened.attributes.iter().find(|column| column.name == "title").unwrap();
    let ColumnValues::Keyword(expected) = &expected.values else { panic!("titles are words") };
    for (row, id) in opened.ids.iter().enumerate() {
        let node = index.node_of(*id).unwrap();
        assert_eq!(index.video_ids()[node.index()], *id);
        assert_eq!(columns.value(title, node).unwrap().to_string(), expected.get(row).unwrap());
    }
    assert_eq!(index.node_of(VideoId(12345)), None);
}

#[test]
fn real_videos_are_found_from_parquet_and_npy_alike() {
    let Some(data) = shared_data() else { return };
    let videos = data.join("videos");
    let folder = tempfile::tempdir().unwrap();
    let queries = Embeddings::open(&videos.join("viewers.npy")).unwrap();
    let truth = Neighbors::open(&videos.join("viewers.ground_truth.npy")).unwrap();
    let parquet = DatasetFiles::of(videos.join("videos.parquet"));
    let npy = DatasetFiles {
        embeddings: vec![videos.join("videos.f16.npy")],
        ids: Some(videos.join("video_ids.npy")),
        attributes: Vec::new(),
    };
    let params = BuildParams::new(Metric::InnerProduct, 16, 200).unwrap();
    let mut indexes: Vec<Index> = Vec::new();
    for (name, files) in [("parquet", parquet), ("npy", npy)] {
        let dataset = Dataset::open(&files, Metric::InnerProduct).unwrap();
        let dir = folder.path().join(name);
        indexes.push(build_index(&dataset, &params, &dir));
        let store = IndexStore::new(dir);
        let (at_10, at_100) =
            (recall(&store, &queries, &truth, 10, 400), recall(&store, &queries, &truth, 100, 400));
        assert!(at_10 >= 0.99, "{name}: recall@10 {at_10}");
        assert!(at_100 >= 0.98, "{name}: recall@100 {at_100}");
    }
    let [parquet, npy] = [0, 1].map(|at: usize| BTreeSet::from_iter(indexes[at].video_ids()));
    assert_eq!(parquet, npy);
}

/// Replaces the first tenth of an index, starting from its graph: every node is reachable, and recall is that of a build
/// from scratch.
#[test]
fn a_renewed_graph_is_as_good_as_a_new_one() {
    const ROWS: usize = 6_000;
    const DIM: usize = 16;
    let folder = tempfile::tempdir().unwrap();
    let all = random_rows(ROWS + ROWS / 10, DIM, 3);
    let users = random_rows(100, DIM, 4);
    let queries = folder.path().join("users.npy");
    write_npy(&queries, &[100, DIM], &users).unwrap();
    let queries = Embeddings::open(&queries).unwrap();
    for metric in [Metric::InnerProduct, Metric::Cosine, Metric::L2] {
        let (before, after) = (&all[..ROWS * DIM], &all[ROWS / 10 * DIM..]);
        let dir = |name: &str| folder.path().join(format!("{name}-{metric}"));
        let params = params(metric, Builder::Native);
        let folder_of = |name: &str| {
            let path = dir(name).with_extension("rows");
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        let dataset = dataset_of(&folder_of("before"), before, DIM, metric);
        let old = build_index(&dataset, &params, &dir("before"));
        let mut kept = NodeSet::none(old.len());
        let is_kept = |node: &u32| old.video_ids()[*node as usize].0 >= dataset.ids[ROWS / 10].0;
        let nodes: Vec<u32> = (0..old.len() as u32).filter(is_kept).collect();
        nodes.iter().for_each(|node| kept.insert(*node));
        // Surviving rows in node order, then the new rows.
        let mut rows: Vec<f32> = Vec::new();
        for node in &nodes {
            let row = old.input_row(NodeId(*node)) as usize;
            rows.extend_from_slice(&before[row * DIM..(row + 1) * DIM]);
        }
        rows.extend_from_slice(&all[ROWS * DIM..]);
        assert_eq!(rows.len(), after.len());
        let dataset = dataset_of(&folder_of("after"), &rows, DIM, metric);
        let ancestor = Ancestor::of_first(&old, &kept, ROWS).unwrap();
        let store = IndexStore::new(dir("renewed"));
        let (staged, times) =
            stage(&dataset, None, Some(&ancestor), &params, &store, &Silent, Instant::now()).unwrap();
        store.publish(staged, times, Measured::default()).unwrap();
        let renewed = store.open_current().unwrap().1;
        verify(&renewed).unwrap();
        // Not twice in a row, and not if too many rows are new.
        assert!(renewed.metadata().renewed && !old.metadata().renewed);
        assert!(Ancestor::of_first(&renewed, &NodeSet::all(renewed.len()), ROWS).is_none());
        assert!(Ancestor::of_first(&old, &kept, ROWS + ROWS / 10).is_none());
        build_index(&dataset, &params, &dir("anew"));
        let truth = ground_truth(dataset.embeddings.view(), queries.view(), metric, 10, |_| {});
        let found = |name: &str| recall(&IndexStore::new(dir(name)), &queries, &truth, 10, 60);
        let (renewed, anew) = (found("renewed"), found("anew"));
        assert!(renewed > anew - 0.02, "{metric}: recall@10 {renewed} renewed, {anew} anew");
    }
}
