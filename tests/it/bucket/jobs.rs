//! Jobs that divide an index anew.

use std::path::Path;
use std::process::Output;

use shortlist::Metric;
use shortlist::base::partition::Shard;
use shortlist::bucket::{Bucket, Location, Publication, publish};
use shortlist::build::BuildParams;
use shortlist::index::IndexStore;

use super::places::Place;
use crate::harness::indexes::{TestDataset, build_index};
use crate::harness::process::shortlist;

/// The bucket of a shard.
fn bucket(place: &Place, shard: &str) -> Bucket {
    let root = Location::parse(Path::new(&place.url)).unwrap();
    Bucket::open(&root.of_shard(shard.parse::<Shard>().unwrap())).unwrap()
}

/// Publishes a generation with all videos as that of a shard.
fn publish_as(place: &Place, shard: &str, dataset: &TestDataset, metric: Metric, params: &BuildParams) {
    let folder = tempfile::tempdir().unwrap();
    build_index(&dataset.open(metric), params, folder.path());
    publish(&bucket(place, shard), &IndexStore::new(folder.path()), 1, &|_, _| true).unwrap();
}

/// Builds a shard from shards of another size.
fn divide(place: &Place, shard: &str, of: &str) -> Output {
    let mut command = shortlist();
    command.args(["rebuild", "--index", "videos", "--at", &place.url, "--shard", shard, "--of", of]);
    command.output().unwrap()
}

fn params(metric: Metric) -> BuildParams {
    BuildParams::new(metric, 8, 60).unwrap()
}

/// Upserts that fit no generation yet are in the log only, so a new one must say that it lacks them, too.
#[test]
fn shards_of_another_size_need_the_same_entries_of_the_log() {
    let (place, dataset) = (Place::folder(), TestDataset::new(300, 8));
    for (shard, written, held_after) in [("0/2", 90, 20), ("1/2", 80, 60)] {
        let params = params(Metric::InnerProduct).with_log_sequence(written).with_held_after(held_after);
        publish_as(&place, shard, &dataset, Metric::InnerProduct, &params);
    }
    for (shard, expected) in [("0/4", (90, 20)), ("3/4", (80, 60)), ("0/1", (80, 20))] {
        let output = divide(&place, shard, "2");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let Publication { position, .. } = Publication::newest(&bucket(&place, shard)).unwrap().unwrap();
        assert_eq!((position.log_sequence, position.held_after), expected, "{shard}");
    }
}

/// Scores of different metrics and models cannot be compared.
#[test]
fn shards_that_differ_are_not_merged() {
    for (metric, model, problem) in [
        (Metric::L2, None, "expected the metric ip, as the first shard has it, found l2"),
        (
            Metric::InnerProduct,
            Some("next"),
            "expected the embedding model none, as the first shard has it, found next",
        ),
    ] {
        let (place, dataset) = (Place::folder(), TestDataset::new(60, 8));
        let first = params(Metric::InnerProduct);
        publish_as(&place, "0/2", &dataset, Metric::InnerProduct, &first);
        let other = params(metric).with_embedding_model(model.map(str::to_owned));
        publish_as(&place, "1/2", &dataset, metric, &other);
        let output = divide(&place, "0/1", "2");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && error.contains(problem), "{error}");
        assert!(Publication::newest(&bucket(&place, "0/1")).unwrap().is_none());
    }
}
