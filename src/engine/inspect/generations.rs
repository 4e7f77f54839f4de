//! The generations in the folder of an index.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::engine::Engine;
use crate::engine::error::EngineError;
use crate::engine::publish::served::ServedIndex;
use crate::index::{GateReport, IndexStore, Manifest, Metadata, RecallCurves, StoreError};

/// One generation in the folder of an index.
#[derive(Clone, Debug)]
pub struct GenerationInfo {
    /// Its number.
    pub generation: u64,
    /// Whether it answers.
    pub serves: bool,
    /// The newest manifest that makes it current; `None` if it was never current.
    pub manifest: Option<Manifest>,
    /// Milliseconds of its build, and their phases by name; empty if no manifest has them.
    pub phases: Vec<(String, u64)>,
    /// When its newest manifest was written, or its file if there is none.
    pub created_at: Option<Timestamp>,
    /// What is in it, or why it cannot be opened.
    pub contents: Result<GenerationContents, String>,
}

/// What is in a generation.
#[derive(Clone, Debug)]
pub struct GenerationContents {
    /// The facts of the build.
    pub metadata: Metadata,
    /// Bytes of its file.
    pub bytes: u64,
    /// Its newest calibration.
    pub curves: Option<RecallCurves>,
    /// Its newest report of the quality gate.
    pub gate: Option<GateReport>,
}

impl Engine {
    /// Describes every generation in the folder of an index, ascending. Opens all of them, and reads almost nothing.
    ///
    /// # Errors
    /// If there is no such index, or its folder cannot be read.
    pub fn generations(&self, index: &str) -> Result<Vec<GenerationInfo>, EngineError> {
        self.with(index, |served| Ok(generations(served)?))
    }
}

fn generations(served: &ServedIndex) -> Result<Vec<GenerationInfo>, StoreError> {
    let (store, current) = (served.store(), served.generation());
    let mut newest: BTreeMap<u64, Manifest> = BTreeMap::new();
    let mut built: BTreeMap<u64, Vec<(String, u64)>> = BTreeMap::new();
    for number in store.manifests()? {
        // One that cannot be read makes nothing current.
        let Ok(manifest) = store.read_manifest(number) else { continue };
        if !manifest.build_phases.is_empty() {
            let phases = manifest.build_phases.iter().map(|phase| (phase.name.clone(), phase.ms)).collect();
            built.insert(manifest.generation, phases);
        }
        newest.insert(manifest.generation, manifest);
    }
    let describe = |generation: u64| {
        let manifest = newest.remove(&generation);
        GenerationInfo {
            generation,
            serves: generation == current,
            phases: built.remove(&generation).unwrap_or_default(),
            created_at: manifest
                .as_ref()
                .map(|manifest| manifest.created_at)
                .or_else(|| modified(store, generation)),
            manifest,
            contents: contents(store, generation).map_err(|error| error.to_string()),
        }
    };
    Ok(store.generations()?.into_iter().map(describe).collect())
}

fn modified(store: &IndexStore, generation: u64) -> Option<Timestamp> {
    let modified = std::fs::metadata(store.generation_path(generation)).ok()?.modified().ok()?;
    Timestamp::try_from(modified).ok()
}

fn contents(store: &IndexStore, generation: u64) -> Result<GenerationContents, StoreError> {
    let index = store.open_generation(generation)?;
    Ok(GenerationContents {
        metadata: index.metadata().clone(),
        bytes: index.bytes(),
        curves: store.open_calibration(generation, &index)?.0.map(|calibration| calibration.recall),
        gate: store.open_gate_report(generation, &index)?.0,
    })
}
