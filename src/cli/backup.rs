//! `shortlist backup`: copies an index with its log to a folder or a bucket, and back.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::interrupt;
use super::say::Format;
use crate::bucket::{Backup, Bucket, Location, create_backup, list_backups, restore_backup};

/// Copy an index with its log to a folder or a bucket, and back.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Copy the newest generation of an index, its reports and its log. A server may write to the index meanwhile.
    Create {
        /// The folder of the index.
        #[arg(long, value_name = "DIR")]
        index: PathBuf,
        /// Where the backups are: a folder, s3://BUCKET/PREFIX or file:///FOLDER.
        #[arg(long, value_name = "LOCATION")]
        out: PathBuf,
        #[command(flatten)]
        format: Format,
    },
    /// List the complete backups.
    List {
        /// Where the backups are.
        #[arg(long, value_name = "LOCATION")]
        from: PathBuf,
        #[command(flatten)]
        format: Format,
    },
    /// Make an index folder of a backup, for a server to open.
    Restore {
        /// Where the backups are.
        #[arg(long, value_name = "LOCATION")]
        from: PathBuf,
        /// The folder to fill, without an index.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// The number of the backup [default: the newest].
        #[arg(long, value_name = "N")]
        backup: Option<u64>,
        #[command(flatten)]
        format: Format,
    },
}

/// Runs one of the commands.
///
/// # Errors
/// If the index or the backup is damaged, or something cannot be read or written.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.command {
        Command::Create { index, out, format } => create(index, out, *format),
        Command::List { from, format } => list(from, *format),
        Command::Restore { from, out, backup, format } => restore(from, out, *backup, *format),
    }
}

fn create(index: &Path, out: &Path, format: Format) -> anyhow::Result<()> {
    let dir = Location::parse(index)?;
    let bucket = Bucket::open(&Location::parse(out)?)?;
    bucket.probe()?;
    let scratch = tempfile::Builder::new().prefix("shortlist-backup-").tempdir()?;
    interrupt::remove_at_end(scratch.path());
    let backup = create_backup(dir.folder()?, &bucket, scratch.path())?;
    format.print(&facts(&backup), || say!("made {}: {}", described(&backup), bucket.url()))?;
    Ok(())
}

fn list(from: &Path, format: Format) -> anyhow::Result<()> {
    let bucket = existing(from)?;
    let (backups, damaged) = list_backups(&bucket)?;
    for error in &damaged {
        note!("{error}");
    }
    let result = json!({
        "backups": backups.iter().map(facts).collect::<Vec<_>>(),
        "damaged": damaged.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    format.print(&result, || {
        for backup in &backups {
            say!("{}, made {}", described(backup), backup.created_at);
        }
        if backups.is_empty() {
            say!("no backups: {}", bucket.url());
        }
    })?;
    Ok(())
}

fn restore(from: &Path, out: &Path, number: Option<u64>, format: Format) -> anyhow::Result<()> {
    let dir = Location::parse(out)?;
    let backup = restore_backup(&existing(from)?, number, dir.folder()?)?;
    format.print(&facts(&backup), || say!("restored {}: {}", described(&backup), out.display()))?;
    Ok(())
}

/// Opens a location that is only read: a folder that does not exist is not made.
fn existing(from: &Path) -> anyhow::Result<Bucket> {
    let location = Location::parse(from)?;
    if let Location::Folder(dir) | Location::File { dir } = &location
        && !dir.is_dir()
    {
        anyhow::bail!("{location}: there is no such folder");
    }
    Ok(Bucket::open(&location)?)
}

fn described(backup: &Backup) -> String {
    let Backup { backup: number, generation, videos, sequence, takedowns, .. } = backup;
    let bytes = backup.bytes();
    format!(
        "backup {number} of generation {generation} with {videos} videos, writes up to {sequence} and {takedowns} \
         takedowns, {bytes} bytes"
    )
}

fn facts(backup: &Backup) -> Value {
    let Backup { backup: number, created_at, generation, manifest, videos, sequence, takedowns, .. } = backup;
    json!({
        "backup": number,
        "created_at": created_at,
        "generation": generation,
        "manifest": manifest,
        "videos": videos,
        "sequence": sequence,
        "taken_down_videos": takedowns,
        "size_bytes": backup.bytes(),
    })
}
