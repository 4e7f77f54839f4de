//! Takedowns as objects, so that they outlive the log: each is created once and never changed.
//!
//! ```text
//! takedowns/<video, 16 hexadecimal digits>-<sequence, 20 digits>.down    the video is taken down by this write
//! takedowns/<video, 16 hexadecimal digits>-<sequence, 20 digits>.up      the takedown is ended by this write
//! ```
//!
//! The write with the highest sequence counts. The objects are empty: their names say everything, and one listing reads all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::BucketError;
use super::handle::Bucket;
use crate::base::id::VideoId;
use crate::live::TakedownRecords;

/// The folder of the objects.
const FOLDER: &str = "takedowns";
/// Limits a listing, and so its memory.
const MOST: usize = 20_000_000;
/// How many unknown names are kept.
const MOST_UNKNOWN: usize = 10;

/// The takedowns of an index in its bucket.
#[derive(Clone, Debug)]
pub struct TakedownObjects {
    bucket: Bucket,
}

/// What a listing found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Takedowns {
    /// The latest write about each video, and whether it took the video down.
    pub videos: BTreeMap<VideoId, (u64, bool)>,
    /// Some names of objects that are no takedowns.
    pub unknown: Vec<String>,
}

impl TakedownObjects {
    /// Those of the index in `bucket`.
    pub fn of(bucket: &Bucket) -> Self {
        Self { bucket: bucket.child(FOLDER) }
    }

    /// Records that the write `sequence` took a video down, or ended its takedown. The record is durable once this returns.
    /// Recording it again has no effect.
    ///
    /// # Errors
    /// If the bucket cannot be written.
    pub fn record(&self, video: VideoId, sequence: u64, is_down: bool) -> Result<(), BucketError> {
        // An object of this name says the same, if there is one.
        self.bucket.begin_create(&name_of(video, sequence, is_down), b"").wait().map(drop)
    }

    /// Reads all takedowns.
    ///
    /// # Errors
    /// If the bucket cannot be read, or has too many.
    pub fn all(&self) -> Result<Takedowns, BucketError> {
        let found = Arc::new(Mutex::new(Takedowns::default()));
        let shared = Arc::clone(&found);
        self.bucket.list_each(MOST, move |name| {
            shared.lock().unwrap_or_else(PoisonError::into_inner).add(name);
        })?;
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut *found))
    }
}

impl TakedownRecords for TakedownObjects {
    fn record(&self, video: VideoId, sequence: u64, is_down: bool) -> Result<(), String> {
        Self::record(self, video, sequence, is_down).map_err(|error| error.to_string())
    }

    fn all(&self) -> Result<Vec<(VideoId, u64, bool)>, String> {
        let Takedowns { videos, unknown } = Self::all(self).map_err(|error| error.to_string())?;
        if let Some(name) = unknown.first() {
            tracing::warn!(bucket = self.bucket.url(), name, "not a takedown");
        }
        Ok(videos.into_iter().map(|(video, (sequence, is_down))| (video, sequence, is_down)).collect())
    }
}

impl Takedowns {
    fn add(&mut self, name: &str) {
        let Some((video, sequence, is_down)) = parse(name) else {
            if self.unknown.len() < MOST_UNKNOWN {
                self.unknown.push(name.to_owned());
            }
            return;
        };
        let latest = self.videos.entry(video).or_insert((sequence, is_down));
        // One write does one thing. Should two objects disagree, the video stays down.
        *latest = (*latest).max((sequence, is_down));
    }
}

fn name_of(video: VideoId, sequence: u64, is_down: bool) -> String {
    format!("{:016x}-{sequence:020}.{}", video.0, if is_down { "down" } else { "up" })
}

fn parse(name: &str) -> Option<(VideoId, u64, bool)> {
    let (name, what) = name.split_once('.')?;
    let is_down = match what {
        "down" => true,
        "up" => false,
        _ => return None,
    };
    let (video, sequence) = name.split_once('-')?;
    let is_hex = video.len() == 16 && video.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_number = sequence.len() == 20 && sequence.bytes().all(|byte| byte.is_ascii_digit());
    if !is_hex || !is_number {
        return None;
    }
    Some((VideoId(u64::from_str_radix(video, 16).ok()?), sequence.parse().ok()?, is_down))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::Location;

    #[test]
    fn the_highest_sequence_counts() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = Bucket::open(&Location::Folder(folder.path().to_owned())).unwrap();
        let takedowns = TakedownObjects::of(&bucket);
        assert_eq!(takedowns.all().unwrap(), Takedowns::default());
        for (video, sequence, is_down) in
            [(7, 1, true), (7, 3, false), (7, 2, true), (u64::MAX, u64::MAX, true), (7, 3, false)]
        {
            takedowns.record(VideoId(video), sequence, is_down).unwrap();
        }
        std::fs::write(folder.path().join("takedowns/7-1.down"), "").unwrap();
        let found = takedowns.all().unwrap();
        let expected = [(VideoId(7), (3, false)), (VideoId(u64::MAX), (u64::MAX, true))];
        assert_eq!(found, Takedowns { videos: expected.into(), unknown: vec!["7-1.down".to_owned()] });
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for (video, sequence, is_down) in [(0, 0, true), (1 << 63, 1 << 40, false)] {
            let name = name_of(VideoId(video), sequence, is_down);
            assert_eq!(parse(&name), Some((VideoId(video), sequence, is_down)));
            assert_eq!(parse(&name.to_uppercase()), None);
        }
        for name in ["", "x", "0000000000000001-1.down", "000000000000000g-00000000000000000001.down"] {
            assert_eq!(parse(name), None, "{name}");
        }
        let too_large = "0000000000000001-99999999999999999999.down";
        assert_eq!(parse(too_large), None);
    }
}
