//! `shortlist verify`: checks every byte of the current generation and of its calibrations, and every record of the log.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::log::Contents;
use super::say::Format;
use crate::attributes::Columns;
use crate::base::file_identity::is_there;
use crate::index::{IndexStore, verify};
use crate::live::{LOG_FILE, LogError};

/// Check the current generation of an index: checksums, ids, degrees, edges, reachability, attributes and calibrations;
/// and every record of its log, unless a server has it open.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The folder of the index.
    dir: PathBuf,
    #[command(flatten)]
    format: Format,
}

/// Prints that the generation is sound.
///
/// # Errors
/// The first problem that was found.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let store = IndexStore::new(&arguments.dir);
    let newest = store.manifests()?.last().copied();
    let (manifest, index) = match newest {
        // The newest manifest, not the newest usable one, so that damage is found.
        Some(newest) => store.open_manifest(newest)?,
        None => store.open_current().map(|(manifest, index, _)| (manifest, index))?,
    };
    let report = verify(&index)?;
    Columns::open(&index)?.verify()?;
    let calibrations = store.calibrations(manifest.generation)?;
    for number in &calibrations {
        store.read_calibration(manifest.generation, *number, &index)?;
    }
    let log = arguments.dir.join(LOG_FILE);
    let log = match is_there(&log)? {
        false => LogCheck::None,
        true => match Contents::read(&log) {
            Ok(contents) => LogCheck::Sound(contents),
            Err(LogError::InUse { .. }) => LogCheck::InUse,
            Err(error) => return Err(error.into()),
        },
    };
    let (generation, calibrations) = (manifest.generation, calibrations.len());
    let result = json!({
        "generation": generation,
        "sections": report.sections,
        "videos": report.nodes,
        "edges": report.edges,
        "max_degree": report.max_degree,
        "calibrations": calibrations,
        "log": log.facts(),
    });
    arguments.format.print(&result, || {
        say!(
            "generation {generation} is sound: {} sections, {} videos, {} edges, at most {} per video, every video \
             reachable, {calibrations} calibrations",
            report.sections,
            report.nodes,
            report.edges,
            report.max_degree
        );
        match &log {
            LogCheck::None => {}
            LogCheck::Sound(contents) => say!("the log is sound: {contents}"),
            LogCheck::InUse => say!("the log is not checked: a server has it open"),
        }
    })?;
    Ok(())
}

/// What is known of the log of an index.
enum LogCheck {
    None,
    Sound(Contents),
    InUse,
}

impl LogCheck {
    fn facts(&self) -> Value {
        match self {
            Self::None => json!({ "state": "none", "contents": null }),
            Self::Sound(contents) => json!({ "state": "sound", "contents": contents.facts() }),
            Self::InUse => json!({ "state": "in_use", "contents": null }),
        }
    }
}
