//! `shortlist verify`: checks every byte of the current generation and of its calibrations, and every record of the log.

use std::path::PathBuf;

use super::log::Contents;
use crate::attributes::Columns;
use crate::base::file_identity::is_there;
use crate::engine::LOG_FILE;
use crate::index::{IndexStore, verify};
use crate::live::LogError;

/// Check the current generation of an index: checksums, ids, degrees, edges, reachability, attributes and calibrations;
/// and every record of its log, unless a server has it open.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The folder of the index.
    dir: PathBuf,
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
    say!(
        "generation {} is sound: {} sections, {} videos, {} edges, at most {} per video, every video \
         reachable, {} calibrations",
        manifest.generation,
        report.sections,
        report.nodes,
        report.edges,
        report.max_degree,
        calibrations.len()
    );
    let log = arguments.dir.join(LOG_FILE);
    if is_there(&log)? {
        match Contents::read(&log) {
            Ok(contents) => say!("the log is sound: {contents}"),
            Err(LogError::InUse { .. }) => say!("the log is not checked: a server has it open"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
