//! The mutation log: entries, errors and concurrent callers.
//!
//! | file | duty |
//! |---|---|
//! | `opening.rs`  | files that are no log, are in use or are damaged |
//! | `versions.rs` | logs of this and of earlier versions |
//! | `entries.rs`  | appended, read, trimmed and removed |
//! | `size.rs`     | trims and compaction give the disk back |

mod entries;
mod opening;
mod size;
mod versions;

use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, TableDefinition};
use shortlist::attributes::Value;
use shortlist::base::id::VideoId;
use shortlist::base::instant::Instant;
use shortlist::live::{Entry, Mutation, Upsert};
use tempfile::TempDir;

const TAKEDOWNS: TableDefinition<'_, u64, (u64, u32)> = TableDefinition::new("checked_takedowns");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mutations.redb");
    (folder, path)
}

fn upsert(video: u64) -> Mutation {
    Mutation::Upsert(Upsert {
        video_id: VideoId(video),
        embedding: vec![video as f32, -0.5],
        attributes: vec![("title".to_owned(), Value::Keyword(format!("title {video}")))],
        expires_at: Some(Instant::from_microsecond(1_700_000_000_000_001).unwrap()),
        embedding_model: Some("towers-3".to_owned()),
    })
}

fn delete(video: u64) -> Mutation {
    Mutation::Delete(VideoId(video))
}

fn sequences(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.sequence).collect()
}

/// Changes a table of a log file directly.
fn tamper(path: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

fn version(path: &Path) -> u64 {
    let database = Database::open(path).unwrap();
    database.begin_read().unwrap().open_table(META).unwrap().get("version").unwrap().unwrap().value()
}
