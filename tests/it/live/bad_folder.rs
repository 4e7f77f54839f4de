//! Files in the folder of an index that stall a reader, are lost while they are served, or have numbers that nobody gave.

use std::fs;
use std::path::Path;

use rustix::fs::{CWD, Mode, mkfifoat};
use shortlist::base::id::VideoId;
use shortlist::engine::{
    Effort, Engine, EngineError, EngineOptions, Lookup, MemoryPolicy, Refresh, ReturnAttributes, WriteMode,
};
use shortlist::index::IndexStore;
use shortlist::live::Mutation;

use crate::harness::{DIM, TestIndex, video_id};
use crate::live::engine::{VIDEOS, open, request};

fn fifo(path: &Path) {
    mkfifoat(CWD, path, Mode::RWXU).unwrap();
}

fn takes_down(engine: &Engine, row: usize) {
    let takedown = vec![Mutation::Takedown(VideoId(video_id(row)))];
    engine.write("", takedown, WriteMode::AllOrNothing).unwrap();
    let found = engine.get("", &[VideoId(video_id(row))], &ReturnAttributes::Named(vec![]), false).unwrap();
    assert_eq!(found, [Lookup::TakenDown(VideoId(video_id(row)))]);
}

#[test]
fn a_fifo_in_place_of_a_file_stalls_nothing() {
    let mut index = TestIndex::new(VIDEOS);
    let dir = index.dir();
    let engine = open(&index).unwrap();
    engine.refresh();
    fifo(&dir.join("calibration-00000001-0009.json"));
    engine.refresh();
    takes_down(&engine, 1);
    // A manifest and a generation that are published, and those of a start.
    fifo(&dir.join("generation-00000002.index"));
    fifo(&dir.join("manifest-00000007.json"));
    let events = engine.refresh();
    assert!(
        matches!(&events[..], [Refresh::Refused { manifest: 7, error, .. }] if error.to_string().contains("not a regular file")),
        "{events:?}"
    );
    takes_down(&engine, 2);
    assert_eq!(index.publish(VIDEOS), 3);
    assert!(engine.refresh().iter().any(|event| matches!(event, Refresh::Swapped { to: 3, .. })));
    drop(engine);
    let engine = open(&index).unwrap();
    assert_eq!(engine.status("").unwrap().generation, 3);
    drop(engine);
    fs::remove_file(dir.join("mutations.redb")).unwrap();
    fifo(&dir.join("mutations.redb"));
    assert!(open(&index).unwrap_err().to_string().contains("mutations.redb: not a regular file"));
}

#[test]
fn files_with_the_highest_numbers_do_not_stop_publications() {
    let mut index = TestIndex::new(VIDEOS);
    for name in ["generation-18446744073709551615.index", "manifest-18446744073709551615.json"] {
        fs::write(index.dir().join(name), "").unwrap();
    }
    let engine = open(&index).unwrap();
    assert_eq!(index.publish(VIDEOS), 2);
    assert!(engine.refresh().iter().any(|event| matches!(event, Refresh::Swapped { to: 2, .. })));
    engine.activate("", 1).unwrap();
    assert_eq!(engine.status("").unwrap().generation, 1);
}

#[test]
fn manifests_of_activations_do_not_pile_up() {
    let mut index = TestIndex::new(VIDEOS);
    index.publish(VIDEOS);
    let engine = open(&index).unwrap();
    for round in 0..75 {
        engine.activate("", 1 + round % 2).unwrap();
        engine.activate("", 2 - round % 2).unwrap();
    }
    let store = IndexStore::new(index.dir());
    let manifests = store.manifests().unwrap();
    assert!(manifests.len() <= 102, "{}", manifests.len());
    assert_eq!((manifests[0], manifests[1], manifests.last()), (1, 2, Some(&152)));
    assert_eq!(engine.status("").unwrap().manifest, 152);
}

/// The file is truncated, as `cp` and `rsync --inplace` do, while searches read it.
#[test]
fn a_truncated_generation_takes_one_index_out_of_service() {
    for memory in [MemoryPolicy::Mapped, MemoryPolicy::Resident, MemoryPolicy::Auto] {
        let (cut, whole) = (TestIndex::new(2000), TestIndex::new(VIDEOS));
        let indexes = vec![("cut".to_owned(), cut.dir()), ("whole".to_owned(), whole.dir())];
        let options =
            EngineOptions { indexes, threads: 1, is_writable: true, memory, ..EngineOptions::default() };
        let engine = Engine::open(options).unwrap();
        engine.refresh();
        let search = |index: &str, effort: Effort| {
            let mut request = request([0.25; DIM], 10, effort);
            request.index = index.to_owned();
            request.return_vectors = true;
            engine.search(&request, &Default::default())
        };
        let expected = format!("{:?}", search("cut", Effort::Exact).unwrap().candidates);
        let path = cut.generation_path(1);
        let length = fs::metadata(&path).unwrap().len();
        for kept in [length / 4096 * 4096 - 4096, length / 2, 4096, 0] {
            fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(kept).unwrap();
            for _ in 0..3 {
                // What is not in the lost part is still right.
                match search("cut", Effort::Exact) {
                    Ok(answer) => assert_eq!(format!("{:?}", answer.candidates), expected),
                    Err(error) => assert!(matches!(error, EngineError::OutOfService { .. }), "{error}"),
                }
            }
        }
        let error = search("cut", Effort::Exact).unwrap_err().to_string();
        assert!(error.contains("generation-00000001.index"), "{error}");
        let get = engine.get("cut", &[VideoId(video_id(1))], &ReturnAttributes::All, true);
        assert!(matches!(get, Err(EngineError::OutOfService { .. })), "{get:?}");
        engine.refresh();
        assert!(search("cut", Effort::Exact).is_err());
        assert_eq!(search("whole", Effort::Exact).unwrap().candidates.len(), 10);
    }
}

/// Bytes that change while they are served, and after the start has compared them.
#[test]
fn the_scrub_takes_changed_bytes_out_of_service() {
    let index = TestIndex::new(VIDEOS);
    let options = EngineOptions {
        indexes: vec![("videos".to_owned(), index.dir())],
        threads: 1,
        scrub_bytes_per_second: u64::MAX,
        ..EngineOptions::default()
    };
    let engine = Engine::open(options).unwrap();
    let status = || engine.status("").map(|status| status.scrub);
    while status().unwrap().last_pass.is_none() {
        engine.refresh();
    }
    assert_eq!(status().unwrap().mismatches, 0);
    // The last byte of the file is one of a section.
    let path = index.generation_path(1);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
    while status().unwrap().mismatches == 0 {
        engine.refresh();
    }
    let error = engine.search(&request([0.25; DIM], 10, Effort::Exact), &Default::default()).unwrap_err();
    assert!(matches!(error, EngineError::OutOfService { .. }), "{error}");
    assert!(!engine.status("").unwrap().serving);
}
