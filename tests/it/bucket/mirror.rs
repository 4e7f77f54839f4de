//! Publishing to a bucket and mirroring it, without a server.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use shortlist::bucket::{BucketError, Mirror, Mirrored, publish};
use shortlist::index::{IndexStore, generation_name, verify};
use tempfile::TempDir;

use super::places::Place;
use crate::harness::TestIndex;
use crate::index::recall_curve::simple;

/// A bucket, an index to publish there, and an empty cache.
struct Case {
    place: Place,
    index: TestIndex,
    cache: TempDir,
}

impl Case {
    fn of(place: Place) -> Self {
        let case = Self { place, index: TestIndex::new(40), cache: tempfile::tempdir().unwrap() };
        case.publish(1);
        case
    }

    fn folder() -> Self {
        Self::of(Place::folder())
    }

    fn publish(&self, generation: u64) -> u64 {
        let store = IndexStore::new(self.index.dir());
        publish(&self.place.bucket(), &store, generation, &|_, _| true).unwrap().generation
    }

    /// Builds and publishes another generation.
    fn next(&mut self) -> u64 {
        let generation = self.index.publish(40);
        self.publish(generation)
    }

    fn mirror(&self) -> Mirror {
        Mirror::new(self.place.bucket(), self.cache.path().to_owned()).unwrap()
    }

    fn store(&self) -> IndexStore {
        IndexStore::new(self.cache.path())
    }

    /// The newest generation in the cache, which is sound and equal to that in the bucket.
    fn newest(&self) -> u64 {
        let (manifest, index, _) = self.store().open_current().unwrap();
        verify(&index).unwrap();
        let name = generation_name(manifest.generation);
        assert!(fs::read(index.path()).unwrap() == self.place.read(&name), "another file");
        manifest.generation
    }

    /// The names in the cache that are not those of an index.
    fn left(&self) -> Vec<String> {
        let names = fs::read_dir(self.cache.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with('.')).collect()
    }
}

fn bring(mirror: &mut Mirror) -> Mirrored {
    mirror.bring(&|_, _| true).unwrap()
}

#[test]
fn a_generation_comes_once_with_its_reports_and_later_ones() {
    for place in Place::all() {
        let mut case = Case::of(place);
        let mut mirror = case.mirror();
        let published = bring(&mut mirror).published.unwrap();
        assert_eq!((published.generation, published.manifest), (1, 1));
        assert_eq!(case.newest(), 1);
        assert!(bring(&mut mirror).published.is_none());
        assert!(bring(&mut case.mirror()).published.is_none(), "after a restart");
        // Published again with a calibration, generation 2 has it, and later so has generation 1.
        let store = IndexStore::new(case.index.dir());
        let index = store.open_generation(1).unwrap();
        store.add_calibration(1, &index, simple()).unwrap();
        assert_eq!(case.publish(1), 2);
        bring(&mut mirror);
        let cached = case.store();
        let second = cached.open_generation(2).unwrap();
        assert_eq!(cached.calibrations(2).unwrap(), [1]);
        assert!(cached.open_calibration(2, &second).unwrap().0.is_some());
        let report = cached.portable_reports(2, &second, 1).unwrap().swap_remove(0);
        case.place.write(&report.name, report.bytes);
        // The mirror's own calibration has the number already.
        let mut other = simple();
        other.queries += 1;
        cached.add_calibration(1, &cached.open_generation(1).unwrap(), other).unwrap();
        assert_eq!(bring(&mut mirror).reports, 1);
        assert_eq!(cached.calibrations(1).unwrap(), [1, 2]);
        assert_eq!(bring(&mut mirror).reports, 0);
        assert_eq!(bring(&mut case.mirror()).reports, 0, "after a restart");
        assert_eq!(case.next(), 3);
        bring(&mut mirror);
        assert_eq!(case.newest(), 3);
    }
}

/// Longer than one part of an upload and one chunk of a download.
#[test]
fn a_generation_of_several_parts_arrives_whole() {
    let mut index = TestIndex::new(60_000);
    for place in Place::all() {
        let case = Case { place, index, cache: tempfile::tempdir().unwrap() };
        case.publish(1);
        bring(&mut case.mirror());
        assert_eq!(case.newest(), 1);
        let bytes = case.store().open_generation(1).unwrap().bytes();
        assert!(bytes > 9 << 20, "only {bytes} bytes");
        index = case.index;
    }
}

#[test]
fn racing_publishers_all_land() {
    for place in Place::all() {
        let case = Case::of(place);
        let mut numbers: Vec<u64> = std::thread::scope(|scope| {
            let publishers: Vec<_> = (0..4).map(|_| scope.spawn(|| case.publish(1))).collect();
            publishers.into_iter().map(|publisher| publisher.join().unwrap()).collect()
        });
        numbers.sort_unstable();
        assert_eq!(numbers, [2, 3, 4, 5]);
        let newest = bring(&mut case.mirror()).published.unwrap();
        assert_eq!(newest.manifest, 5);
        case.newest();
    }
}

#[test]
fn goes_on_where_a_download_was_cut() {
    for place in Place::all() {
        let case = Case::of(place);
        let whole = case.place.read(&generation_name(1));
        let partial = case.cache.path().join(".mirror-00000001.part");
        for (part, from) in [
            (whole[..whole.len() / 2].to_vec(), whole.len() / 2),
            // All but the rename.
            (whole.clone(), whole.len()),
        ] {
            fs::write(&partial, part).unwrap();
            let first = Cell::new(None);
            let bring = case.mirror().bring(&|done, total| {
                assert_eq!(total, whole.len() as u64);
                first.set(first.get().or(Some(done)));
                // Cut again.
                false
            });
            if from < whole.len() {
                assert!(matches!(bring, Err(BucketError::Stopped)));
                assert_eq!(first.get(), Some(from as u64));
                assert_eq!(fs::metadata(&partial).unwrap().len(), from as u64);
            }
        }
        bring(&mut case.mirror());
        assert_eq!(case.newest(), 1);
        assert_eq!(case.left(), [] as [&str; 0]);
    }
}

#[test]
fn a_part_of_another_object_does_no_harm() {
    for length in [100, usize::MAX] {
        let case = Case::folder();
        let mut part = case.place.read(&generation_name(1));
        part.truncate(length);
        part.iter_mut().for_each(|byte| *byte ^= 1);
        if length == usize::MAX {
            part.push(0);
        }
        fs::write(case.cache.path().join(".mirror-00000001.part"), part).unwrap();
        bring(&mut case.mirror());
        assert_eq!(case.newest(), 1);
    }
}

#[test]
fn a_damaged_object_is_passed_over_and_not_tried_again_at_once() {
    let damages: [fn(&mut Vec<u8>); 3] =
        [|bytes| _ = bytes.pop(), |bytes| bytes[1000] ^= 1, |bytes| bytes.fill(0)];
    for place in Place::all() {
        let mut case = Case::of(place);
        let mut mirror = case.mirror();
        for damage in damages {
            let number = case.next();
            let name = generation_name(number);
            let sound = case.place.read(&name);
            let mut bytes = sound.clone();
            damage(&mut bytes);
            case.place.write(&name, bytes);
            let newest = number - 1;
            let mirrored = bring(&mut mirror);
            let [error] = &mirrored.passed_over[..] else { panic!("{mirrored:?}") };
            assert!(error.is_defect() && error.to_string().contains(&name), "{error}");
            assert_eq!(case.newest(), newest, "the older one");
            assert!(!case.store().generation_path(number).exists());
            assert_eq!(bring(&mut mirror).passed_over.len(), 0, "tried again at once");
            // Repaired: a mirror without the memory of the failure brings it.
            case.place.write(&name, sound);
            mirror = case.mirror();
            assert_eq!(bring(&mut mirror).published.unwrap().generation, number);
        }
        case.place.write("manifest-00000009.json", b"{}".to_vec());
        let mirrored = bring(&mut mirror);
        let [BucketError::Damaged { url, .. }] = &mirrored.passed_over[..] else { panic!("{mirrored:?}") };
        assert!(url.ends_with("manifest-00000009.json"));
        assert_eq!(case.newest(), 4);
    }
}

#[test]
fn numbers_that_this_machine_took_are_left_alone() {
    let mut case = Case::folder();
    let mut mirror = case.mirror();
    bring(&mut mirror);
    let store = case.store();
    let activated = store.activate(1, &store.open_generation(1).unwrap()).unwrap();
    assert_eq!(activated.manifest, 2);
    case.next();
    let published = bring(&mut mirror).published.unwrap();
    assert_eq!((published.generation, published.manifest), (2, 3));
    assert!(bring(&mut case.mirror()).published.is_none(), "after a restart");
}

#[test]
fn two_generations_are_kept_and_the_one_that_serves() {
    let mut case = Case::folder();
    let mut mirror = case.mirror();
    bring(&mut mirror);
    assert_eq!(mirror.remove_old(1).unwrap(), [] as [u64; 0]);
    for _ in 0..3 {
        case.next();
        bring(&mut mirror);
    }
    assert_eq!(mirror.remove_old(1).unwrap(), [2]);
    assert_eq!(case.store().generations().unwrap(), [1, 3, 4]);
    assert_eq!(mirror.remove_old(4).unwrap(), [1]);
    assert_eq!(case.store().generations().unwrap(), [3, 4]);
    assert_eq!(case.store().manifests().unwrap(), [3, 4]);
    assert_eq!(case.newest(), 4);
}

#[test]
fn a_cache_belongs_to_one_bucket() {
    let case = Case::folder();
    bring(&mut case.mirror());
    let mut other = Case { cache: case.cache, ..Case::folder() };
    other.index.publish(41);
    fs::remove_file(other.store().manifest_path(1)).unwrap();
    let name = generation_name(1);
    let store = IndexStore::new(other.index.dir());
    other.place = Place::folder();
    publish(&other.place.bucket(), &store, 2, &|_, _| true).unwrap();
    let mirrored = bring(&mut other.mirror());
    let [error @ BucketError::Foreign { .. }] = &mirrored.passed_over[..] else { panic!("{mirrored:?}") };
    assert!(error.to_string().contains(&name), "{error}");
}

#[test]
fn an_empty_bucket_has_its_error() {
    let (place, cache) = (Place::folder(), tempfile::tempdir().unwrap());
    let mut mirror = Mirror::new(place.bucket(), cache.path().to_owned()).unwrap();
    let error = mirror.bring(&|_, _| true).unwrap_err();
    let expected = format!("{}: no index here: the bucket contains no manifest", place.url);
    assert_eq!(error.to_string(), expected);
}

/// On a disk of its own, which only root can make.
#[test]
fn a_full_disk_has_its_error_and_loses_nothing() {
    let mut case = Case::folder();
    let disk = Disk::new(case.cache.path(), "16m");
    let Some(_disk) = disk else { return };
    let mut mirror = case.mirror();
    bring(&mut mirror);
    case.next();
    fs::write(case.cache.path().join("filler"), vec![0; 10 << 20]).unwrap();
    let error = mirror.bring(&|_, _| true).unwrap_err();
    let BucketError::DiskFull { needed, free, .. } = &error else { panic!("{error}") };
    assert!(needed > free, "{error}");
    assert_eq!(case.newest(), 1);
    fs::remove_file(case.cache.path().join("filler")).unwrap();
    bring(&mut mirror);
    assert_eq!(case.newest(), 2);
}

struct Disk(PathBuf);

impl Disk {
    fn new(at: &Path, size: &str) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at);
        if mount.status().is_ok_and(|status| status.success()) {
            return Some(Self(at.to_owned()));
        }
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "SKIPPED: cannot mount a tmpfs; a full disk was not tested");
        None
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
