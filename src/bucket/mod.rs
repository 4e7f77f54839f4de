//! Generations in a bucket: an object store, or a folder that is used like one.
//!
//! What flows in: the folder of an index, or a location such as `s3://bucket/prefix`. What flows out: the same files under the
//! same names at the location, or in a cache folder, where a server finds them as in any other folder. This module does not
//! know what a search is, and serves nothing.
//!
//! ```text
//! build ─► IndexStore (scratch) ─► upload: claim, generation, reports, manifest ─► bucket
//! bucket ─► mirror: generation, reports, manifest ─► IndexStore (cache) ─► engine: verifies, gates, swaps
//! ```
//!
//! | object | contents |
//! |---|---|
//! | `claim-00000001`               | create-once; who created it writes generation 1 |
//! | `generation-00000001.index`    | as in a folder |
//! | `calibration-00000001-0001.json`, `gate-00000001-0001.json` | as in a folder |
//! | `manifest-00000001.json`       | create-once, after all others; the newest readable one counts |
//! | `position-00000001.json`       | where generation 1 is in the log |
//! | `map-00000001.json`            | create-once; into how many shards the index is divided |
//! | `takedowns/…`                  | create-once, one for each takedown and its end |
//! | `backup-00000001/…`            | a backup: the files of a folder, and `backup.json` |
//!
//! **No generation is overwritten.** A publisher takes the number after the largest in the bucket, and creates the claim with
//! `If-None-Match: *`. Of two that race, one creates it and the other takes the next number. Only who created the claim writes
//! the generation of its number, and an upload of many parts, which has no such condition, needs none. A publisher that is
//! killed leaves a claim, and perhaps a generation that no manifest names: its number stays unused. Manifests get their
//! numbers in the same way, so the order in which two racing builds publish is that of their manifests.
//!
//! | file | duty |
//! |---|---|
//! | `location.rs`  | [`Location`]: folders and URLs as text |
//! | `error.rs`     | [`BucketError`] |
//! | `health.rs`    | [`BucketHealth`]: whether a bucket is in reach |
//! | `handle.rs`    | [`Bucket`]: blocking calls to the object store |
//! | `chunks.rs`    | one object as chunks in order, some of them ahead of the reader |
//! | `probe.rs`     | whether the store refuses a second creator |
//! | `upload.rs`    | publishes a generation to a bucket |
//! | `download.rs`  | one object to a file, resumed after a cut |
//! | `mirror.rs`    | brings the newest generation into a cache folder |
//! | `manifests.rs` | the manifests of a bucket, and the numbers of its objects |
//! | `position.rs`  | where a generation is in the log |
//! | `map.rs`       | into how many shards an index is divided |
//! | `backup.rs`    | copies an index and its log to a bucket |
//! | `restore.rs`   | makes an index folder of a backup |
//! | `takedowns.rs` | takedowns as objects |

mod health;
mod location;

#[cfg(feature = "cluster")]
mod backup;
#[cfg(feature = "cluster")]
mod chunks;
#[cfg(feature = "cluster")]
mod download;
#[cfg(feature = "cluster")]
mod error;
#[cfg(feature = "cluster")]
mod handle;
#[cfg(feature = "cluster")]
mod manifests;
#[cfg(feature = "cluster")]
mod map;
#[cfg(feature = "cluster")]
mod mirror;
#[cfg(feature = "cluster")]
mod position;
#[cfg(feature = "cluster")]
mod probe;
#[cfg(feature = "cluster")]
mod restore;
#[cfg(feature = "cluster")]
mod takedowns;
#[cfg(feature = "cluster")]
mod upload;

pub use self::health::BucketHealth;
pub use self::location::{Location, LocationError};

#[cfg(feature = "cluster")]
pub use self::backup::{Backup, BackupFile, create_backup, list_backups};
#[cfg(feature = "cluster")]
pub use self::chunks::KeepGoing;
#[cfg(feature = "cluster")]
pub use self::error::BucketError;
#[cfg(feature = "cluster")]
pub use self::handle::Bucket;
#[cfg(feature = "cluster")]
pub use self::map::{ClusterMap, Publication};
#[cfg(feature = "cluster")]
pub use self::mirror::{Mirror, Mirrored};
#[cfg(feature = "cluster")]
pub use self::position::Position;
#[cfg(feature = "cluster")]
pub use self::probe::Probed;
#[cfg(feature = "cluster")]
pub use self::restore::restore_backup;
#[cfg(feature = "cluster")]
pub use self::takedowns::{TakedownObjects, Takedowns};
#[cfg(feature = "cluster")]
pub use self::upload::{publish, publish_newest};
