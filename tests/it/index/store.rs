//! Generations and manifests in a folder.

use std::path::Path;

use shortlist::base::metric::Metric;
use shortlist::build::BuildParams;
use shortlist::index::{Index, IndexError, IndexStore, PublishReason, StoreError};
use tempfile::TempDir;

use crate::harness::indexes::{build_index, dataset_of, random_rows};

/// A folder with generations of 10, 20, … videos.
fn store_with(generations: usize) -> (TempDir, IndexStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = IndexStore::new(folder.path().join("index"));
    for generation in 1..=generations {
        publish(folder.path(), &store, generation * 10);
    }
    (folder, store)
}

fn publish(dir: &Path, store: &IndexStore, videos: usize) {
    let rows = random_rows(videos, 4, videos as u64);
    let params = BuildParams::new(Metric::InnerProduct, 4, 20).unwrap();
    build_index(&dataset_of(dir, &rows, 4, Metric::InnerProduct), &params, store.dir());
}

fn manifest_path(store: &IndexStore, number: u64) -> std::path::PathBuf {
    store.dir().join(format!("manifest-{number:08}.json"))
}

fn current(store: &IndexStore) -> (u64, usize) {
    let (manifest, index, _) = store.open_current().unwrap();
    (manifest.generation, index.len())
}

#[test]
fn the_newest_manifest_is_current_and_nothing_is_overwritten() {
    let (folder, store) = store_with(2);
    let before = std::fs::read(store.generation_path(1)).unwrap();
    publish(folder.path(), &store, 30);
    assert_eq!(store.generations().unwrap(), [1, 2, 3]);
    assert_eq!(store.manifests().unwrap(), [1, 2, 3]);
    assert_eq!(current(&store), (3, 30));
    assert_eq!(std::fs::read(store.generation_path(1)).unwrap(), before);
    let hidden = std::fs::read_dir(store.dir())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(hidden.count(), 0, "temporary files are left");
}

#[test]
fn an_empty_or_absent_folder_is_named_as_such() {
    let folder = tempfile::tempdir().unwrap();
    for dir in [folder.path().to_owned(), folder.path().join("absent")] {
        assert!(matches!(IndexStore::new(dir).open_current(), Err(StoreError::Empty { .. })));
    }
}

#[test]
fn going_back_adds_a_manifest() {
    let (_folder, store) = store_with(2);
    let index = store.open_generation(1).unwrap();
    let manifest = store.activate(1, &index).unwrap();
    assert_eq!((manifest.manifest, manifest.generation, manifest.reason), (3, 1, PublishReason::Activate));
    assert_eq!(current(&store), (1, 10));
    assert!(matches!(
        store.open_generation(9),
        Err(StoreError::UnknownGeneration { generation: 9, available, .. }) if available == [1, 2]
    ));
}

#[test]
fn the_time_of_each_phase_is_on_record_and_stays_with_the_generation() {
    let (_folder, store) = store_with(2);
    let first = store.read_manifest(1).unwrap();
    let names: Vec<&str> = first.build_phases.iter().map(|phase| phase.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "reading the input",
            "grouping videos",
            "encoding",
            "inserting videos",
            "checking reachability",
            "writing the index"
        ]
    );
    let again = store.activate(1, &store.open_generation(1).unwrap()).unwrap();
    assert_eq!((again.build_ms, again.build_phases), (first.build_ms, first.build_phases));
}

#[test]
fn a_manifest_from_before_phases_were_recorded_is_read() {
    let (_folder, store) = store_with(0);
    store.create().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/manifest-1.json");
    std::fs::copy(fixture, manifest_path(&store, 1)).unwrap();
    let manifest = store.read_manifest(1).unwrap();
    assert_eq!((manifest.build_ms, manifest.build_phases), (11_170, Vec::new()));
}

#[test]
fn a_damaged_manifest_is_passed_over() {
    let (_folder, store) = store_with(2);
    let path = manifest_path(&store, 2);
    let text = std::fs::read_to_string(&path).unwrap();
    for damaged in [
        text.replace("\"generation\": 2", "\"generation\": 1"),
        text.replace("\"format_version\": 1", "\"format_version\": 2"),
        text.replace("\"reason\"", "\"unreason\""),
        text[..text.len() / 2].to_owned(),
        String::new(),
    ] {
        assert_ne!(damaged, text);
        std::fs::write(&path, damaged).unwrap();
        assert!(matches!(store.read_manifest(2), Err(StoreError::BadManifest { .. })));
        let (manifest, _, passed_over) = store.open_current().unwrap();
        assert_eq!((manifest.generation, passed_over.len()), (1, 1));
    }
}

#[test]
fn a_generation_that_does_not_open_is_passed_over() {
    let (_folder, store) = store_with(2);
    let path = store.generation_path(2);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let (manifest, _, passed_over) = store.open_current().unwrap();
    assert_eq!(manifest.generation, 1);
    assert!(matches!(passed_over[..], [StoreError::Index(IndexError::WrongLength { .. })]));
    std::fs::remove_file(store.generation_path(1)).unwrap();
    assert!(matches!(store.open_current(), Err(StoreError::NothingUsable { .. })));
}

#[test]
fn another_file_under_the_name_of_a_generation_is_refused() {
    let (_folder, store) = store_with(2);
    std::fs::copy(store.generation_path(1), store.generation_path(2)).unwrap();
    assert!(matches!(store.open_manifest(2), Err(StoreError::Index(IndexError::WrongLength { .. }))));
}

#[test]
fn a_folder_where_a_file_should_be_gives_an_error() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Index::open(folder.path()), Err(IndexError::Io { .. })));
}

#[test]
fn builds_that_publish_at_once_each_get_a_number_of_their_own() {
    let (folder, store) = store_with(0);
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (store, dir) = (&store, folder.path().join(writer.to_string()));
            scope.spawn(move || {
                std::fs::create_dir(&dir).unwrap();
                (0..5).for_each(|_| publish(&dir, store, 10));
            });
        }
    });
    assert_eq!(store.generations().unwrap(), (1..=20).collect::<Vec<_>>());
    assert_eq!(store.manifests().unwrap(), (1..=20).collect::<Vec<_>>());
}
