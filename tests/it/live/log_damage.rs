//! A damaged log: whatever its bytes are, it is refused with an error that names it, or has all that was acknowledged.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use shortlist::base::id::VideoId;
use shortlist::live::{Entry, LogError, Mutation, MutationLog, RedbLog, Salvaged, Upsert};
use tempfile::TempDir;

/// How many random mutants are tried of each log.
const MUTANTS: u64 = 300;
const PAGE: usize = 4096;
const HEAD: usize = 320;
const TRIMMED: u64 = 40;

fn upsert(video: u64) -> Mutation {
    Mutation::Upsert(Upsert {
        video_id: VideoId(video),
        embedding: vec![video as f32; 16],
        attributes: Vec::new(),
        expires_at: None,
        embedding_model: None,
    })
}

fn takedown(number: u64) -> VideoId {
    VideoId(0x7700_0000_0000 + number)
}

/// A log with every kind of record, whole and as bytes.
struct Original {
    _folder: TempDir,
    path: PathBuf,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    takedowns: Vec<(VideoId, u64)>,
}

impl Original {
    fn new(is_closed: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mutations.redb");
        let log = RedbLog::open(&path).unwrap();
        log.append(&(0..120).map(upsert).collect::<Vec<_>>()).unwrap();
        for number in 0..40 {
            log.append(&[Mutation::Takedown(takedown(number)), Mutation::Delete(VideoId(number))]).unwrap();
        }
        log.append(&(0..10).map(|number| Mutation::Restore(takedown(number))).collect::<Vec<_>>()).unwrap();
        log.trim(TRIMMED).unwrap();
        // The last write is a takedown alone: it must not be lost with the last transaction.
        log.append(&[Mutation::Takedown(takedown(50))]).unwrap();
        let (entries, takedowns) = (log.read(TRIMMED, 1000).unwrap(), log.takedowns().unwrap());
        assert_eq!((entries.len(), takedowns.len()), (171, 31));
        let unclosed = std::fs::read(&path).unwrap();
        drop(log);
        let bytes = if is_closed { std::fs::read(&path).unwrap() } else { unclosed };
        Self { _folder: folder, path, bytes, entries, takedowns }
    }

    /// Opens, reads, appends to and closes a log with these bytes. Returns whether it was refused.
    fn try_bytes(&self, bytes: &[u8], how: &str) -> bool {
        std::fs::write(&self.path, bytes).unwrap();
        match self.use_log(how) {
            Ok(()) => false,
            Err(error) => {
                let message = error.to_string();
                let path = self.path.display().to_string();
                assert!(message.starts_with(&path), "{how}: {message}");
                let is_explained = message.contains("shortlist log salvage")
                    || matches!(error, LogError::ForeignFile { .. });
                assert!(is_explained, "{how}: {message}");
                true
            }
        }
    }

    fn use_log(&self, how: &str) -> Result<(), LogError> {
        let log = open_once_free(&self.path)?;
        assert_eq!(log.trimmed_to(), TRIMMED);
        assert!(log.read(TRIMMED, 1000)? == self.entries, "{how}: other entries");
        assert_eq!(log.takedowns()?, self.takedowns);
        log.append(&[Mutation::Takedown(VideoId(7))])?;
        log.trim(100)?;
        drop(log);
        let log = open_once_free(&self.path)?;
        let taken_down: Vec<VideoId> = log.takedowns()?.into_iter().map(|(video, _)| video).collect();
        let mut expected = vec![VideoId(7)];
        expected.extend(self.takedowns.iter().map(|(video, _)| *video));
        assert_eq!(taken_down, expected);
        Ok(())
    }
}

/// Opens a log. A process that another test starts has every open file, with its lock, until it becomes another program.
fn open_once_free(path: &Path) -> Result<RedbLog, LogError> {
    let started = Instant::now();
    loop {
        match RedbLog::open(path) {
            Err(LogError::InUse { .. }) if started.elapsed() < Duration::from_secs(10) => {
                std::thread::sleep(Duration::from_millis(5));
            }
            opened => return opened,
        }
    }
}

fn mutants() -> u64 {
    std::env::var("LOG_MUTANTS").map_or(MUTANTS, |number| number.parse().unwrap())
}

/// Returns how a mutant differs from the original.
fn mutate(bytes: &mut Vec<u8>, seed: u64) -> String {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let pages = bytes.len() / PAGE;
    let page = |number: usize| number * PAGE..(number + 1) * PAGE;
    match random.random_range(0..10) {
        0 => {
            let length = random.random_range(0..bytes.len());
            bytes.truncate(length);
            format!("cut to {length} bytes")
        }
        1 => {
            let zero = random.random_range(0..pages);
            bytes[page(zero)].fill(0);
            format!("page {zero} is zero")
        }
        2 => {
            let (from, to) = (random.random_range(0..pages), random.random_range(0..pages));
            bytes.copy_within(page(from), to * PAGE);
            format!("page {from} is also page {to}")
        }
        3 => {
            let at = random.random_range(0..HEAD);
            bytes[at] = random.random();
            format!("byte {at} of the header is {}", bytes[at])
        }
        _ => {
            let mut flipped = Vec::new();
            for _ in 0..random.random_range(1..4) {
                // Where something is.
                let at = std::iter::repeat_with(|| random.random_range(0..bytes.len()))
                    .take(50)
                    .find(|at| bytes[*at] != 0)
                    .unwrap_or_default();
                bytes[at] ^= 1 << random.random_range(0..8);
                flipped.push(at);
            }
            format!("flipped bits in bytes {flipped:?}")
        }
    }
}

#[test]
fn no_mutant_panics_or_loses_a_takedown() {
    for is_closed in [true, false] {
        let original = Original::new(is_closed);
        let mut refused = 0;
        for seed in 0..mutants() {
            let mut bytes = original.bytes.clone();
            let how = mutate(&mut bytes, seed);
            refused +=
                u64::from(original.try_bytes(&bytes, &format!("closed {is_closed}, seed {seed}: {how}")));
        }
        assert!(refused > mutants() / 10, "{refused} were refused");
    }
}

#[test]
fn every_flipped_bit_of_the_header_is_found_or_changes_nothing() {
    for is_closed in [true, false] {
        let original = Original::new(is_closed);
        for byte in (0..HEAD).filter(|byte| *byte < 64 || byte % 8 == 0) {
            for bit in 0..8 {
                let mut bytes = original.bytes.clone();
                bytes[byte] ^= 1 << bit;
                original.try_bytes(&bytes, &format!("closed {is_closed}, header byte {byte}, bit {bit}"));
            }
        }
    }
}

/// Every place that has the number of a taken-down video: the table, the entry, pages that are not used any more.
#[test]
fn a_takedown_with_another_number_is_refused() {
    let original = Original::new(true);
    let number = takedown(20).0.to_le_bytes();
    let places: Vec<usize> = positions(&original.bytes, &number);
    let refused = places.iter().filter(|place| {
        let mut bytes = original.bytes.clone();
        bytes[**place + 7] ^= 1;
        original.try_bytes(&bytes, &format!("byte {}", **place + 7))
    });
    assert!(refused.count() >= 2, "the entry and the table, of {places:?}");
}

fn positions(bytes: &[u8], of: &[u8]) -> Vec<usize> {
    (0..=bytes.len() - of.len()).filter(|at| bytes[*at..].starts_with(of)).collect()
}

/// Damage that happens while the log is open.
#[test]
fn damage_under_an_open_log_is_an_error() {
    let original = Original::new(true);
    for seed in 0..20 {
        std::fs::write(&original.path, &original.bytes).unwrap();
        let log = RedbLog::open(&original.path).unwrap();
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut bytes = std::fs::read(&original.path).unwrap();
        bytes[PAGE..].iter_mut().for_each(|byte| *byte = random.random());
        overwrite(&original.path, &bytes);
        let used = log.read(TRIMMED, 1000).map(drop).and_then(|()| log.takedowns().map(drop));
        let used = used.and_then(|()| log.append(&[upsert(1)]).map(drop)).and_then(|()| log.trim(150));
        drop(log);
        // What redb had in its cache is served from there.
        if let Err(error) = used {
            assert!(error.to_string().contains("mutations.redb"), "{error}");
        }
    }
}

/// Writes into the file that is there.
fn overwrite(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::FileExt as _;
    std::fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, 0).unwrap();
}

/// Whatever is damaged, takedowns whose record is intact are saved, and no entry is changed.
#[test]
fn what_is_intact_is_salvaged() {
    let original = Original::new(true);
    let out = original.path.with_file_name("salvaged.redb");
    let taken_down: Vec<VideoId> = original.takedowns.iter().map(|(video, _)| *video).collect();
    for seed in 0..100 {
        let mut bytes = original.bytes.clone();
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        // A page that nobody reads any more may have the same records as the one that is damaged.
        let how = match seed {
            0 => "nothing".to_owned(),
            1 => {
                bytes[..PAGE].fill(0);
                "the header".to_owned()
            }
            _ => {
                let page = random.random_range(1..bytes.len() / PAGE);
                bytes[page * PAGE..(page + 1) * PAGE].fill_with(|| random.random());
                format!("page {page}")
            }
        };
        std::fs::write(&original.path, &bytes).unwrap();
        let salvaged = Salvaged::of(&original.path, 150).unwrap();
        salvaged.write(&out).unwrap();
        let log = RedbLog::open(&out).unwrap();
        let found: Vec<VideoId> = log.takedowns().unwrap().into_iter().map(|(video, _)| video).collect();
        let lost = taken_down.iter().filter(|video| !found.contains(video)).count();
        assert!(lost == 0, "{how}: {lost} takedowns are lost, {:?}", salvaged.problems);
        let entries = log.read(TRIMMED, 1000).unwrap();
        assert!(entries.iter().all(|entry| original.entries.contains(entry)), "{how}");
        assert_eq!(log.append(&[upsert(1)]).unwrap(), original.entries.last().unwrap().sequence + 1, "{how}");
        if seed < 2 {
            assert_eq!(entries, original.entries, "{how}");
            assert_eq!(found, taken_down, "{how}");
        } else {
            assert!(entries.len() == original.entries.len() || !salvaged.problems.is_empty(), "{how}");
        }
        drop(log);
        std::fs::remove_file(&out).unwrap();
    }
    assert!(Salvaged::of(&original.path, 0).unwrap().write(&original.path).is_err(), "it exists");
}
