//! Copies an index and its log to a bucket, while a server may write to it.
//!
//! ```text
//! newest generation, opened ─► log, copied at one moment ─► do they fit? ─► claim ─► files ─► backup.json, create-once
//!            ▲                                                   │ no: the generation was replaced meanwhile
//!            └───────────────────────────────────────────────────┘
//! ```
//!
//! The generation is opened first, and the log is copied after it. So the log has every write that the generation lacks. Only a
//! rebuild in between may have trimmed the log further: then the backup starts again with the new generation. A backup contains
//! every write that was acknowledged before it began, and ends with the last write of its log.

use std::fs::File;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::BucketError;
use super::handle::Bucket;
use super::manifests::next_number;
use super::upload::{claim_object, send, send_file};
use crate::base::file_identity::is_there;
use crate::index::{Index, IndexStore, Manifest, generation_name, manifest_name, number_in, seal, unseal};
use crate::live::{LOG_FILE, MutationLog as _, RedbLog};

/// The version of the fields of [`Backup`].
const VERSION: u32 = 1;
/// The name of the description of a backup, and the key of its contents.
const DESCRIPTION: &str = "backup.json";
const KEY: &str = "backup";
const MAX_DESCRIPTION_BYTES: u64 = 1 << 20;
/// The names of the folders of backups, before and after the number.
const FOLDER_NAME: (&str, &str) = ("backup-", "");
/// How often a backup starts again because generations were published meanwhile.
const ATTEMPTS: usize = 10;
/// How many numbers are tried if other backups keep taking the next one.
const CLAIMS: usize = 1000;

/// The description of one backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// The version of these fields: 1.
    pub format_version: u32,
    /// The number of this backup in its bucket.
    pub backup: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// The generation that it contains.
    pub generation: u64,
    /// The manifest that makes it current.
    pub manifest: u64,
    /// The videos of the generation.
    pub videos: u64,
    /// The last write that it contains.
    pub sequence: u64,
    /// How many videos are taken down by the log.
    pub takedowns: u64,
    /// Its files, in the order in which a restore writes them.
    pub files: Vec<BackupFile>,
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupFile {
    /// The name in the folder of an index.
    pub name: String,
    /// The length.
    pub bytes: u64,
    /// The checksum of all bytes.
    pub crc32c: u32,
}

impl Backup {
    /// The length of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// What a backup is made of.
struct Contents {
    manifest: Manifest,
    index: Index,
    /// Held open: a server may remove the file while it is sent.
    file: File,
    log: Option<CopiedLog>,
}

struct CopiedLog {
    path: PathBuf,
    last: u64,
    takedowns: u64,
}

/// Copies the index in the folder `dir` to a new backup in `bucket`. A copy of the log is made in the folder `scratch`.
///
/// # Errors
/// If the folder has no sound generation, the log cannot be copied, or the bucket cannot be written: then no backup is listed.
pub fn create_backup(dir: &Path, bucket: &Bucket, scratch: &Path) -> Result<Backup, BucketError> {
    let store = IndexStore::new(dir);
    let Contents { manifest, index, file, log } = gather(&store, scratch)?;
    // Damaged bytes would be found when they are needed.
    index.check_checksums()?;
    let (number, folder) = claim(bucket)?;
    let mut files = Vec::new();
    let keep_going = |_, _| true;
    let path = store.generation_path(manifest.generation);
    let name = generation_name(manifest.generation);
    let (bytes, crc32c) = send_file(&folder, &name, &file, &path, &keep_going)?;
    files.push(BackupFile { name, bytes, crc32c });
    let mut send_bytes = |name: String, contents: &[u8]| -> Result<(), BucketError> {
        send(&folder, &name, contents)?;
        files.push(BackupFile { name, bytes: contents.len() as u64, crc32c: crc32c::crc32c(contents) });
        Ok(())
    };
    for report in store.portable_reports(manifest.generation, &index, manifest.generation)? {
        send_bytes(report.name, &report.bytes)?;
    }
    send_bytes(manifest_name(manifest.manifest), &manifest.to_bytes())?;
    let (mut sequence, mut takedowns) = (index.metadata().log_sequence, 0);
    if let Some(CopiedLog { path, last, takedowns: found }) = log {
        (sequence, takedowns) = (last.max(sequence), found);
        let file = File::open(&path).map_err(BucketError::io(&path))?;
        let (bytes, crc32c) = send_file(&folder, LOG_FILE, &file, &path, &keep_going)?;
        // Before the manifest: a folder with the manifest is complete.
        files.insert(files.len() - 1, BackupFile { name: LOG_FILE.to_owned(), bytes, crc32c });
    }
    let backup = Backup {
        format_version: VERSION,
        backup: number,
        created_at: Timestamp::now(),
        generation: manifest.generation,
        manifest: manifest.manifest,
        videos: u64::from(index.metadata().rows - index.metadata().copies),
        sequence,
        takedowns,
        files,
    };
    send(&folder, DESCRIPTION, &seal(KEY, &backup))?;
    Ok(backup)
}

/// Opens the newest generation and copies the log that continues it.
fn gather(store: &IndexStore, scratch: &Path) -> Result<Contents, BucketError> {
    let mut problem = String::new();
    for attempt in 0..ATTEMPTS {
        let (manifest, index, _) = store.open_current()?;
        // It may have been removed since.
        let path = store.generation_path(manifest.generation);
        let Ok(file) = File::open(&path) else { continue };
        let copy = scratch.join(format!("log-{attempt}"));
        let log = copy_log(&store.dir().join(LOG_FILE), &copy)?;
        let Some((log, trimmed)) = log else { return Ok(Contents { manifest, index, file, log: None }) };
        let position = index.metadata().log_sequence;
        let fits = trimmed <= position && position <= log.last;
        // If nothing was published meanwhile, this is how the index is.
        if fits || store.manifests()?.last().copied() == Some(manifest.manifest) {
            return Ok(Contents { manifest, index, file, log: Some(log) });
        }
        problem = format!(
            "expected a generation whose log position is {trimmed} to {}, found generation {} at {position}, {ATTEMPTS} times",
            log.last, manifest.generation
        );
    }
    Err(BucketError::Inconsistent { path: store.dir().to_owned(), problem })
}

/// Copies the log at `path` to `copy`, and returns what was trimmed of it. Returns `None` if there is no log.
fn copy_log(path: &Path, copy: &Path) -> Result<Option<(CopiedLog, u64)>, BucketError> {
    if !is_there(path).map_err(BucketError::io(path))? {
        return Ok(None);
    }
    let log = RedbLog::open_beside_writer(path)?;
    log.copy_to(copy)?;
    let copied = CopiedLog {
        path: copy.to_owned(),
        last: log.last_sequence(),
        takedowns: log.takedowns()?.len() as u64,
    };
    Ok(Some((copied, log.trimmed_to())))
}

/// Claims the next number of a backup, and returns it with its folder.
fn claim(bucket: &Bucket) -> Result<(u64, Bucket), BucketError> {
    for _ in 0..CLAIMS {
        let number = next_number(&bucket.list()?.1, &[FOLDER_NAME]);
        let folder = folder(bucket, number);
        if claim_object(&folder, "claim")? {
            return Ok((number, folder));
        }
    }
    Err(BucketError::Contended { url: bucket.url().to_owned(), attempts: CLAIMS })
}

/// The objects of one backup.
pub(super) fn folder(bucket: &Bucket, number: u64) -> Bucket {
    bucket.child(&format!("{}{number:08}", FOLDER_NAME.0))
}

/// Reads the descriptions of the complete backups in `bucket`, ascending, and the error of each that is damaged.
///
/// # Errors
/// If the bucket cannot be read.
pub fn list_backups(bucket: &Bucket) -> Result<(Vec<Backup>, Vec<BucketError>), BucketError> {
    let (mut backups, mut damaged) = (Vec::new(), Vec::new());
    let folders = bucket.list()?.1;
    let mut numbers: Vec<u64> =
        folders.iter().filter_map(|name| number_in(name, FOLDER_NAME.0, FOLDER_NAME.1)).collect();
    numbers.sort_unstable();
    for number in numbers {
        match read_description(bucket, number) {
            Ok(Some(backup)) => backups.push(backup),
            // It was not completed, or is being made.
            Ok(None) => {}
            Err(error) if error.is_defect() => damaged.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok((backups, damaged))
}

fn read_description(bucket: &Bucket, number: u64) -> Result<Option<Backup>, BucketError> {
    let folder = folder(bucket, number);
    let Some(bytes) = folder.read_up_to(DESCRIPTION, MAX_DESCRIPTION_BYTES)? else { return Ok(None) };
    let bad = |problem| BucketError::Damaged { url: folder.url_of(DESCRIPTION), problem };
    let backup: Backup = unseal(&bytes, KEY, bad)?;
    if backup.format_version != VERSION {
        let found = backup.format_version;
        return Err(bad(format!("format version {found} is not supported: expected {VERSION}")));
    }
    if backup.backup != number {
        return Err(bad(format!("expected backup {number}, found {}", backup.backup)));
    }
    Ok(Some(backup))
}
