//! `shortlist verify`: every byte of the current generation and of its calibrations.

use std::path::PathBuf;

use crate::attributes::Columns;
use crate::index::{IndexStore, verify};

/// Check the current generation of a folder: checksums, ids, degrees, edges, reachability, attributes, and
/// its calibrations.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The folder of generations.
    dir: PathBuf,
}

/// Says that all is well, or what is not.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let store = IndexStore::new(&arguments.dir);
    let newest = store.manifests()?.last().copied();
    let (manifest, index) = match newest {
        // Not the newest usable one: what is damaged must be found.
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
    Ok(())
}
