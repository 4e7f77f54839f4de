//! Where figures are from: the program, the machine, the files and the index.
//!
//! What flows in: an open index, and what the command knows. What flows out: text for a report. Every field may be absent:
//! in reports of older versions and of other engines, and where the machine does not tell.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::base::program::COMMIT;
use crate::index::{Index, Manifest};
use crate::kernel::Kernels;

/// Where the figures of a report are from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Provenance {
    /// The command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// When it was run: RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured_at: Option<String>,
    /// The version of the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The commit that the program was built from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The model of the processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// Cores that the process may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<usize>,
    /// The instruction set of the kernels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernels: Option<String>,
    /// Operating system, release and architecture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    /// The file of the public benchmark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// The file of the queries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queries: Option<String>,
    /// The file of the exact neighbors; absent if they were computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ground_truth: Option<String>,
    /// What counts as a hit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall: Option<String>,
    /// Components per embedding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dim: Option<usize>,
    /// How embeddings are compared: `ip`, `cosine` or `l2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// The type of the embeddings: `f32` or `f16`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtype: Option<String>,
    /// The codes that a traversal scores: `sq8` or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codes: Option<String>,
    /// The builder of the graph.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub builder: Option<String>,
    /// Neighbors selected per node and layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub m: Option<usize>,
    /// Size of the candidate list while a node was inserted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ef_construction: Option<usize>,
    /// Users that taught the graph; 0 without training queries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training_users: Option<usize>,
    /// When the generation was published: RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub built_at: Option<String>,
}

impl Provenance {
    /// What an index, this program and this machine tell.
    pub fn of_index(index: &Index, manifest: &Manifest) -> Self {
        let metadata = index.metadata();
        Self {
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            commit: COMMIT.map(str::to_owned),
            cpu: cpu(),
            cores: std::thread::available_parallelism().ok().map(usize::from),
            kernels: Some(Kernels::get().isa().name().to_owned()),
            os: Some(os()),
            dim: Some(index.dim()),
            metric: Some(metadata.metric.name().to_owned()),
            dtype: Some(metadata.dtype.name().to_owned()),
            codes: Some(metadata.codes.name().to_owned()),
            builder: Some(metadata.build.builder.clone()),
            m: Some(metadata.m as usize),
            ef_construction: Some(metadata.build.ef_construction as usize),
            training_users: Some(metadata.training.as_ref().map_or(0, |training| training.users as usize)),
            built_at: Some(manifest.created_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            ..Self::default()
        }
    }

    /// Every fact with its name, in the order of a table; `None` is unknown.
    pub fn facts(&self) -> [(&'static str, Option<String>); 21] {
        let number = |number: Option<usize>| number.map(|number| number.to_string());
        [
            ("dataset", self.dataset.clone()),
            ("queries", self.queries.clone()),
            ("ground truth", self.ground_truth.clone()),
            ("recall", self.recall.clone()),
            ("metric", self.metric.clone()),
            ("dimensions", number(self.dim)),
            ("embeddings", self.dtype.clone()),
            ("codes", self.codes.clone()),
            ("builder", self.builder.clone()),
            ("m", number(self.m)),
            ("ef_construction", number(self.ef_construction)),
            ("users that taught the graph", number(self.training_users)),
            ("index built", self.built_at.clone()),
            ("processor", self.cpu.clone()),
            ("cores", number(self.cores)),
            ("kernels", self.kernels.clone()),
            ("operating system", self.os.clone()),
            ("version", self.version.clone()),
            ("commit", self.commit.clone()),
            ("measured", self.measured_at.clone()),
            ("command", self.command.clone()),
        ]
    }
}

fn cpu() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let model = text.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(model.trim_start_matches([' ', '\t', ':']).to_owned())
}

fn os() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let parts = [std::env::consts::OS, release.trim(), std::env::consts::ARCH];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}
