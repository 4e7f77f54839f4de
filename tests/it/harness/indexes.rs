//! Small catalogs and indexes for the tests that need no server.

use std::borrow::Cow;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use shortlist::base::metric::Metric;
use shortlist::build::{BuildParams, Silent, build};
use shortlist::dataset::{Dataset, DatasetFiles, Embeddings, write_npy};
use shortlist::index::{Index, IndexError, IndexStore, IndexWriter, SectionKind, SectionSet};
use shortlist::synth::{SynthFiles, SynthParams, synth};
use tempfile::TempDir;

/// `[rows × dim]` from a normal distribution, each row scaled by its own factor.
pub fn random_rows(rows: usize, dim: usize, seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..rows)
        .flat_map(|_| {
            let norm = 0.5 + random.random::<f32>();
            let row: Vec<f32> = (0..dim)
                .map(|_| {
                    let normal: f32 = StandardNormal.sample(&mut random);
                    norm * normal
                })
                .collect();
            row
        })
        .collect()
}

/// A synthetic catalog in its own folder.
pub struct TestDataset {
    pub folder: TempDir,
    pub files: SynthFiles,
}

impl TestDataset {
    pub fn new(videos: usize, dim: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let params = SynthParams { videos, dim, users: 500, seed: 7, duplicates: 0 };
        let files = synth(params, folder.path(), |_| {}).unwrap();
        Self { folder, files }
    }

    pub fn files(&self) -> DatasetFiles {
        DatasetFiles {
            embeddings: vec![self.files.videos.clone()],
            ids: Some(self.files.video_ids.clone()),
            attributes: vec![self.files.attributes.clone()],
        }
    }

    pub fn open(&self, metric: Metric) -> Dataset {
        Dataset::open(&self.files(), metric).unwrap()
    }
}

/// Writes rows to a file and opens them as a dataset without ids or attributes.
pub fn dataset_of(dir: &Path, rows: &[f32], dim: usize, metric: Metric) -> Dataset {
    let path = dir.join("rows.npy");
    write_npy(&path, &[rows.len() / dim, dim], rows).unwrap();
    Dataset::open(&DatasetFiles::of(path), metric).unwrap()
}

/// Builds into `dir` and opens the published generation.
pub fn build_index(dataset: &Dataset, params: &BuildParams, dir: &Path) -> Index {
    build_taught_index(dataset, None, params, dir)
}

/// The same, with training queries.
pub fn build_taught_index(
    dataset: &Dataset,
    training_queries: Option<&Embeddings>,
    params: &BuildParams,
    dir: &Path,
) -> Index {
    let store = IndexStore::new(dir);
    let manifest = build(dataset, training_queries, params, &store, &Silent, Instant::now()).unwrap();
    store.open_generation(manifest.generation).unwrap()
}

/// Rewrites the file of an index with correct checksums. `change` may modify each section, and drops it by returning
/// `false`.
pub fn rewritten(
    index: &Index,
    mut change: impl FnMut(SectionKind, u32, &mut Vec<u8>) -> bool,
) -> Result<Index, IndexError> {
    let file = std::fs::read(index.path()).unwrap();
    let mut sections = SectionSet::default();
    for section in index.sections() {
        let mut bytes = file[section.range()].to_vec();
        if change(section.kind, section.ordinal, &mut bytes) {
            sections.add_parts(section.kind, section.ordinal, [Cow::Owned(bytes)]);
        }
    }
    let mut writer = IndexWriter::create(index.path().parent().unwrap()).unwrap();
    assert!(writer.write(&sections, |_| ControlFlow::Continue(())).unwrap().is_continue());
    writer.finish().unwrap().open()
}

/// The folder of real data on development machines; `None`, with a notice, if it is absent.
pub fn shared_data() -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let root = std::env::var_os("SHORTLIST_SHARED").map_or(default, PathBuf::from);
    let data = root.join("data");
    if !data.is_dir() {
        // eprintln! would be captured by the test runner when the test passes.
        let _ = writeln!(std::io::stderr(), "SKIPPED: no data at {}; nothing was checked", data.display());
        return None;
    }
    Some(data)
}
