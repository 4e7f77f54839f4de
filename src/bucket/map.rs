//! The map of an index: into how many shards it is divided, and the generations that they had then.
//!
//! A map is created once and never changed. The readable one with the highest number counts, and its number is the epoch. Routers
//! follow the newest epoch of which every shard has a ready replica, so a new map moves nothing and stops nothing.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::BucketError;
use super::handle::Bucket;
use super::manifests::{manifest_numbers, next_number, read_manifest};
use super::position::{Position, read_sealed};
use crate::base::partition::Shard;
use crate::index::{Manifest, number_in, seal};

/// The version of the fields.
const VERSION: u32 = 1;
/// The names of maps, before and after the epoch.
const MAP_NAME: (&str, &str) = ("map-", ".json");
/// How many numbers are tried if others keep taking the next one.
const ATTEMPTS: usize = 1000;

/// How an index is divided into shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterMap {
    /// The version of these fields: 1.
    pub format_version: u32,
    /// The number of this map.
    pub epoch: u64,
    /// The number of shards.
    pub shards: u32,
    /// The newest generation of each shard when the map was made.
    pub generations: Vec<u64>,
    /// The last entry of the log before those that each of these generations needs.
    pub log_sequences: Vec<u64>,
    /// When this map was made.
    pub created_at: Timestamp,
}

/// What a shard has in its bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Publication {
    /// The newest readable manifest.
    pub manifest: Manifest,
    /// What is known of its generation.
    pub position: Position,
}

impl ClusterMap {
    /// Returns the newest readable map of the index in `root`, if there is one, and the error of each newer one.
    ///
    /// # Errors
    /// If the bucket cannot be read.
    pub fn newest(root: &Bucket) -> Result<(Option<Self>, Vec<BucketError>), BucketError> {
        let (maps, passed_over) = Self::recent(root, 1)?;
        Ok((maps.into_iter().next(), passed_over))
    }

    /// Returns the newest readable maps of the index in `root`, `most` of them at most, newest first, and the error of each that
    /// was passed over.
    ///
    /// # Errors
    /// If the bucket cannot be read.
    pub fn recent(root: &Bucket, most: usize) -> Result<(Vec<Self>, Vec<BucketError>), BucketError> {
        let (names, _) = root.list()?;
        let mut epochs: Vec<u64> =
            names.iter().filter_map(|name| number_in(name, MAP_NAME.0, MAP_NAME.1)).collect();
        epochs.sort_unstable();
        let (mut maps, mut passed_over) = (Vec::new(), Vec::new());
        for epoch in epochs.into_iter().rev() {
            if maps.len() == most {
                break;
            }
            match Self::read(root, epoch) {
                Ok(map) => maps.push(map),
                Err(error) if error.is_defect() => passed_over.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok((maps, passed_over))
    }

    /// Reads the map of an epoch.
    ///
    /// # Errors
    /// If there is none, it is damaged, or the bucket cannot be read.
    pub fn read(root: &Bucket, epoch: u64) -> Result<Self, BucketError> {
        let name = name_of(epoch);
        let url = root.url_of(&name);
        let map: Self = read_sealed(root, &name, "map")?;
        let damaged = |problem: String| BucketError::Damaged { url: url.clone(), problem };
        if (map.format_version, map.epoch) != (VERSION, epoch) {
            let (version, found) = (map.format_version, map.epoch);
            return Err(damaged(format!(
                "expected version {VERSION} of epoch {epoch}, found version {version} of epoch {found}"
            )));
        }
        Shard::new(0, map.shards).map_err(|error| damaged(error.to_string()))?;
        let lengths = [map.generations.len(), map.log_sequences.len()];
        if lengths.iter().any(|length| *length != map.shards as usize) {
            return Err(damaged(format!("expected {} shards, found {lengths:?}", map.shards)));
        }
        Ok(map)
    }

    /// Adds a map of what the shards have now, with the next epoch.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add(root: &Bucket, shards: &[Publication]) -> Result<Self, BucketError> {
        for _ in 0..ATTEMPTS {
            let map = Self {
                format_version: VERSION,
                epoch: next_number(&root.list()?.0, &[MAP_NAME]),
                shards: shards.len() as u32,
                generations: shards.iter().map(|shard| shard.manifest.generation).collect(),
                log_sequences: shards.iter().map(|shard| shard.position.held_after).collect(),
                created_at: Timestamp::now(),
            };
            if root.create(&name_of(map.epoch), &seal("map", &map))? {
                return Ok(map);
            }
        }
        Err(BucketError::Contended { url: root.url().to_owned(), attempts: ATTEMPTS })
    }
}

impl Publication {
    /// Returns the newest publication in the bucket of a shard, if there is one.
    ///
    /// # Errors
    /// If the newest manifest or what is known of its generation is damaged or missing, or the bucket cannot be read.
    pub fn newest(bucket: &Bucket) -> Result<Option<Self>, BucketError> {
        let (names, _) = bucket.list()?;
        let Some(number) = manifest_numbers(&names).last().copied() else { return Ok(None) };
        let manifest = read_manifest(bucket, number)?;
        let position = Position::read(bucket, manifest.generation)?;
        Ok(Some(Self { manifest, position }))
    }
}

fn name_of(epoch: u64) -> String {
    format!("{}{epoch:08}{}", MAP_NAME.0, MAP_NAME.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::Location;
    use crate::index::BuildTimes;

    fn publication(generation: u64) -> Publication {
        let manifest = Manifest::of_build(1, generation, 4096, BuildTimes::default());
        Publication { manifest, position: Position::new(generation, 10, 7, 5) }
    }

    #[test]
    fn the_newest_readable_map_counts() {
        let folder = tempfile::tempdir().unwrap();
        let root = Bucket::open(&Location::File { dir: folder.path().to_owned() }).unwrap();
        assert_eq!(ClusterMap::newest(&root).unwrap().0, None);
        let one = ClusterMap::add(&root, &[publication(3), publication(1)]).unwrap();
        assert_eq!(
            (one.epoch, one.shards, &one.generations[..], &one.log_sequences[..]),
            (1, 2, &[3, 1][..], &[5, 5][..])
        );
        let two = ClusterMap::add(&root, &[publication(4)]).unwrap();
        assert_eq!(ClusterMap::newest(&root).unwrap().0, Some(two.clone()));
        let path = folder.path().join("map-00000002.json");
        let text = std::fs::read_to_string(&path).unwrap();
        for damaged in
            [text.replace("\"shards\": 1", "\"shards\": 3"), text.replace("crc32c", "crc"), String::new()]
        {
            std::fs::write(&path, damaged).unwrap();
            let (found, passed_over) = ClusterMap::newest(&root).unwrap();
            assert_eq!((found.as_ref(), passed_over.len()), (Some(&one), 1));
            assert!(passed_over[0].to_string().contains("map-00000002.json"), "{}", passed_over[0]);
        }
        assert_eq!(ClusterMap::add(&root, &[publication(5)]).unwrap().epoch, 3);
    }
}
