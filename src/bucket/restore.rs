//! Makes an index folder of a backup.
//!
//! Files appear one by one, each after its checksum was compared, and the manifest last: without it the folder is no index. A
//! restore that was cut goes on where it ended.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::backup::{Backup, BackupFile, folder, list_backups};
use super::download::download;
use super::error::BucketError;
use super::handle::Bucket;
use super::mirror::check_generation;
use crate::base::regular_file;
use crate::base::staged_file::sync_folder;
use crate::index::{IndexStore, generation_name, is_report_of, manifest_name};
use crate::live::{LOG_FILE, MutationLog as _, RedbLog};

/// Bytes read at a time.
const BUFFER: usize = 1 << 20;

/// Writes the files of a backup to the folder `dir`: of the backup `number`, or of the newest one.
///
/// # Errors
/// If there is no such backup, one of its objects is damaged, or the folder has an index.
pub fn restore_backup(bucket: &Bucket, number: Option<u64>, dir: &Path) -> Result<Backup, BucketError> {
    let (backups, damaged) = list_backups(bucket)?;
    let available = backups.iter().map(|backup| backup.backup).collect();
    let is_wanted = |backup: &Backup| number.is_none_or(|number| backup.backup == number);
    let Some(backup) = backups.into_iter().rev().find(is_wanted) else {
        let url = bucket.url().to_owned();
        let expected = number.map_or_else(|| "of any number".to_owned(), |number| number.to_string());
        let none = BucketError::NoBackup { url, expected, available };
        // A damaged one may be the one that is wanted.
        return Err(damaged.into_iter().next_back().unwrap_or(none));
    };
    let (store, folder) = (IndexStore::new(dir), folder(bucket, backup.backup));
    for BackupFile { name, .. } in &backup.files {
        let is_known = *name == generation_name(backup.generation)
            || *name == manifest_name(backup.manifest)
            || *name == LOG_FILE
            || is_report_of(name, backup.generation);
        if !is_known {
            let problem = format!("expected the files of an index, found {name:?}");
            return Err(BucketError::Damaged { url: folder.url().to_owned(), problem });
        }
    }
    store.create()?;
    check_free(&store, &backup)?;
    for file in &backup.files {
        restore_file(&folder, file, &backup, dir)?;
    }
    Ok(backup)
}

/// Checks that the folder has nothing of an index but files of this backup without their manifest.
fn check_free(store: &IndexStore, backup: &Backup) -> Result<(), BucketError> {
    let in_the_way = |found: String| Err(BucketError::InTheWay { dir: store.dir().to_owned(), found });
    if let Some(manifest) = store.manifests()?.last() {
        return in_the_way(manifest_name(*manifest));
    }
    let mut generations = store.generations()?.into_iter();
    if let Some(other) = generations.find(|generation| *generation != backup.generation) {
        return in_the_way(generation_name(other));
    }
    for file in &backup.files {
        let path = store.dir().join(&file.name);
        if path.exists() && !has_contents(&path, file)? {
            return in_the_way(file.name.clone());
        }
    }
    let has_log = backup.files.iter().any(|file| file.name == LOG_FILE);
    if !has_log && store.dir().join(LOG_FILE).exists() {
        return in_the_way(LOG_FILE.to_owned());
    }
    Ok(())
}

fn restore_file(folder: &Bucket, file: &BackupFile, backup: &Backup, dir: &Path) -> Result<(), BucketError> {
    let (path, partial) = (dir.join(&file.name), partial(dir, &file.name));
    if path.exists() {
        return Ok(());
    }
    let url = folder.url_of(&file.name);
    let mut had_part = download(folder, &file.name, file.bytes, &partial, &|_, _| true)?;
    // The part may be of another backup.
    while !has_contents(&partial, file)? {
        fs::remove_file(&partial).map_err(BucketError::io(&partial))?;
        if !had_part {
            let problem = format!("damaged: expected crc32c {:08x}, found another", file.crc32c);
            return Err(BucketError::Damaged { url, problem });
        }
        had_part = download(folder, &file.name, file.bytes, &partial, &|_, _| true)?;
    }
    if file.name == generation_name(backup.generation) {
        check_generation(&partial, url)?;
    } else if file.name == LOG_FILE {
        let last = RedbLog::open_read_only(&partial)?.last_sequence();
        if last > backup.sequence {
            let problem = format!("expected writes up to {}, found {last}", backup.sequence);
            return Err(BucketError::Damaged { url, problem });
        }
    }
    fs::rename(&partial, &path).map_err(BucketError::io(&path))?;
    sync_folder(dir).map_err(BucketError::io(dir))
}

/// Where a file is until it is complete.
fn partial(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!(".restore-{name}.part"))
}

/// Returns whether a file has the length and the checksum of one in a backup.
fn has_contents(path: &Path, expected: &BackupFile) -> Result<bool, BucketError> {
    let mut file = regular_file::open(path).map_err(BucketError::io(path))?;
    if file.metadata().map_err(BucketError::io(path))?.len() != expected.bytes {
        return Ok(false);
    }
    let (mut checksum, mut buffer) = (0, vec![0; BUFFER]);
    loop {
        match file.read(&mut buffer).map_err(BucketError::io(path))? {
            0 => return Ok(checksum == expected.crc32c),
            read => checksum = crc32c::crc32c_append(checksum, &buffer[..read]),
        }
    }
}
