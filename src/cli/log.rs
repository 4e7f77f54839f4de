//! `shortlist log`: describes and salvages the mutation log of an index.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::say::Format;
use crate::index::IndexStore;
use crate::live::{LOG_FILE, LogError, Mutation, MutationLog, RedbLog, Salvaged};

/// Entries read at a time.
const ENTRIES_AT_ONCE: usize = 4096;

/// Describe or salvage the log of an index, while no server has it open.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Check every record of the log, and describe it.
    Inspect {
        /// The folder of the index, or its log.
        path: PathBuf,
        #[command(flatten)]
        format: Format,
    },
    /// Write a new log with every record whose checksum is right, and say what could not be saved.
    Salvage {
        /// The folder of the index, or its log.
        path: PathBuf,
        /// The file to write; it must not exist.
        #[arg(long)]
        out: PathBuf,
        #[command(flatten)]
        format: Format,
    },
}

/// Runs one of the commands.
///
/// # Errors
/// If the log is damaged, in use or cannot be read, or the new one cannot be written.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.command {
        Command::Inspect { path, format } => {
            let contents = Contents::read(&log_at(path))?;
            format.print(&contents.facts(), || say!("{contents}"))?;
        }
        Command::Salvage { path, out, format } => salvage(&log_at(path), out, *format)?,
    }
    Ok(())
}

fn log_at(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(LOG_FILE) } else { path.to_owned() }
}

fn salvage(path: &Path, out: &Path, format: Format) -> anyhow::Result<()> {
    let position = position(path.parent().unwrap_or(Path::new(".")));
    let salvaged = Salvaged::of(path, position)?;
    salvaged.write(out)?;
    for problem in &salvaged.problems {
        note!("{problem}");
    }
    let (takedowns, entries, last) = (salvaged.takedowns(), salvaged.entries(), salvaged.last_sequence());
    let result = json!({
        "path": out,
        "takedowns": takedowns,
        "entries": entries,
        "last_sequence": last,
        "problems": salvaged.problems,
    });
    format.print(&result, || {
        say!("saved {takedowns} takedowns and {entries} entries, the last at {last}, in {}", out.display());
    })?;
    Ok(())
}

/// Returns the last entry that the generations in a folder contain: the numbers of a new log must continue after it.
fn position(dir: &Path) -> u64 {
    let store = IndexStore::new(dir);
    let generations = store.generations().unwrap_or_default().into_iter();
    let opened = generations.filter_map(|generation| store.open_generation(generation).ok());
    opened.map(|index| index.metadata().log_sequence).max().unwrap_or_default()
}

/// What a log has, every record of it read.
#[derive(Debug, Default)]
pub(super) struct Contents {
    upserts: u64,
    deletes: u64,
    takedowns: u64,
    restores: u64,
    taken_down: u64,
    trimmed: u64,
    last: u64,
    bytes: u64,
}

impl Contents {
    /// Reads and checks the log at `path`.
    ///
    /// # Errors
    /// The first problem that was found.
    pub(super) fn read(path: &Path) -> Result<Self, LogError> {
        let log = RedbLog::open_read_only(path)?;
        let taken_down = log.takedowns()?.len() as u64;
        let (trimmed, last, bytes) = (log.trimmed_to(), log.last_sequence(), log.bytes()?);
        let mut contents = Self { taken_down, trimmed, last, bytes, ..Self::default() };
        let mut after = 0;
        loop {
            let entries = log.read(after, ENTRIES_AT_ONCE)?;
            let Some(last) = entries.last() else { return Ok(contents) };
            after = last.sequence;
            for entry in entries {
                *match entry.mutation {
                    Mutation::Upsert(_) => &mut contents.upserts,
                    Mutation::Delete(_) => &mut contents.deletes,
                    Mutation::Takedown(_) => &mut contents.takedowns,
                    Mutation::Restore(_) => &mut contents.restores,
                } += 1;
            }
        }
    }
}

impl Contents {
    /// Returns the contents as printed with `--json`.
    pub(super) fn facts(&self) -> Value {
        let Self { upserts, deletes, takedowns, restores, taken_down, trimmed, last, bytes } = self;
        json!({
            "entries": self.entries(),
            "last_sequence": last,
            "trimmed_to_sequence": trimmed,
            "upserts": upserts,
            "deletes": deletes,
            "takedowns": takedowns,
            "restores": restores,
            "taken_down_videos": taken_down,
            "size_bytes": bytes,
        })
    }

    fn entries(&self) -> u64 {
        self.upserts + self.deletes + self.takedowns + self.restores
    }
}

impl std::fmt::Display for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { upserts, deletes, takedowns, restores, taken_down, trimmed, last, bytes } = self;
        write!(
            f,
            "{} entries, the last at {last}, trimmed to {trimmed}: {upserts} upserts, {deletes} deletes, {takedowns} \
             takedowns, {restores} restores; {taken_down} videos are taken down; {bytes} bytes",
            self.entries()
        )
    }
}
