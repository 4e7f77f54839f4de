//! The parameters of a build, valid by construction.

use crate::base::metric::Metric;
use crate::index::Rescoring;
use crate::quantize::Codes;

/// Which implementation builds the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builder {
    /// Our own parallel HNSW.
    Native,
    /// The hnsw_rs crate: the reference. Exists only with the feature `hnsw-rs`.
    #[cfg(feature = "hnsw-rs")]
    HnswRs,
}

impl Builder {
    /// Every builder of this binary, in the order the command line lists them.
    pub const ALL: [Builder; 1 + cfg!(feature = "hnsw-rs") as usize] = [
        Builder::Native,
        #[cfg(feature = "hnsw-rs")]
        Builder::HnswRs,
    ];
    /// The name of the builder that needs the feature of the same name.
    const HNSW_RS: &'static str = "hnsw-rs";

    /// The name of the builder on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Builder::Native => "native",
            #[cfg(feature = "hnsw-rs")]
            Builder::HnswRs => Builder::HNSW_RS,
        }
    }
}

impl std::str::FromStr for Builder {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        if let Some(builder) = Builder::ALL.into_iter().find(|builder| builder.name() == word) {
            return Ok(builder);
        }
        Err(if word == Builder::HNSW_RS {
            format!("builder {word}: this binary was built without the feature hnsw-rs")
        } else {
            format!("unknown builder {word:?}: expected native or hnsw-rs")
        })
    }
}

/// [`Rescoring::Auto`] keeps embeddings of fewer bytes in memory: they take little, and are mostly in the caches.
const FINE_FROM_BYTES: usize = 32 << 20;

/// A parameter is out of its range.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{parameter}: expected {expected}, found {found}")]
pub struct ParamsError {
    parameter: &'static str,
    expected: String,
    found: String,
}

/// The parameters of a build; see [`BuildParams::new`] for their ranges.
#[derive(Clone, Debug, PartialEq)]
pub struct BuildParams {
    pub(super) metric: Metric,
    pub(super) m: usize,
    pub(super) ef_construction: usize,
    pub(super) builder: Builder,
    pub(super) seed: u64,
    pub(super) threads: usize,
    pub(super) codes: Codes,
    pub(super) rescoring: Rescoring,
    pub(super) embedding_model: Option<String>,
    pub(super) log_sequence: u64,
    pub(super) held_after: Option<u64>,
}

impl BuildParams {
    /// The default `m`: neighbors chosen per node and layer; layer 0 keeps up to twice as many.
    pub const DEFAULT_M: usize = 16;
    /// The default `ef_construction`: candidates kept while inserting.
    pub const DEFAULT_EF_CONSTRUCTION: usize = 200;
    /// The default seed.
    pub const DEFAULT_SEED: u64 = 42;

    /// Creates parameters for the native builder on all cores, with the preferred codes of the metric.
    ///
    /// # Errors
    /// `m` outside 2..=1024, or `ef_construction` outside 1..=100,000.
    pub fn new(metric: Metric, m: usize, ef_construction: usize) -> Result<Self, ParamsError> {
        within("m", m, 2, 1024)?;
        within("ef_construction", ef_construction, 1, 100_000)?;
        Ok(Self {
            metric,
            m,
            ef_construction: ef_construction.max(m),
            builder: Builder::Native,
            seed: Self::DEFAULT_SEED,
            threads: 0,
            codes: Codes::preferred(metric),
            rescoring: Rescoring::Auto,
            embedding_model: None,
            log_sequence: 0,
            held_after: None,
        })
    }

    /// Sets the builder.
    ///
    /// # Errors
    /// `hnsw-rs` with `m` above 256, for which the crate ends the process.
    pub fn with_builder(self, builder: Builder) -> Result<Self, ParamsError> {
        #[cfg(feature = "hnsw-rs")]
        if builder == Builder::HnswRs {
            within("m for builder hnsw-rs", self.m, 2, 256)?;
        }
        Ok(Self { builder, ..self })
    }

    /// Sets the codes that the graph is traversed with; the default is [`Codes::preferred`].
    ///
    /// # Errors
    /// The codes do not serve the metric.
    pub fn with_codes(self, codes: Codes) -> Result<Self, ParamsError> {
        if !codes.serves(self.metric) {
            let expected = format!("none under metric {}", self.metric);
            return Err(ParamsError { parameter: "codes", expected, found: codes.name().to_owned() });
        }
        Ok(Self { codes, ..self })
    }

    /// Sets what results are scored with; the default is [`Rescoring::Auto`].
    pub fn with_rescoring(self, rescoring: Rescoring) -> Self {
        Self { rescoring, ..self }
    }

    /// The same for an index in memory, where fine codes would spare no memory: the embeddings are there anyway.
    pub(super) fn in_memory(self) -> Self {
        let rescoring =
            if self.rescoring == Rescoring::Auto { Rescoring::Embeddings } else { self.rescoring };
        Self { rescoring, ..self }
    }

    /// Whether an index with codes of this many bytes of embeddings gets fine codes.
    pub(super) fn has_fine_codes(&self, bytes: usize) -> bool {
        let is_wanted = match self.rescoring {
            Rescoring::Auto => bytes >= FINE_FROM_BYTES,
            Rescoring::Codes => true,
            Rescoring::Embeddings => false,
        };
        is_wanted && self.metric != Metric::L2
    }

    /// Sets the seed. With one thread, the same input and seed result in the same bytes.
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Sets the number of threads; 0 for one per core.
    pub fn with_threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// Sets the name of the embedding model; searches may require it.
    pub fn with_embedding_model(self, embedding_model: Option<String>) -> Self {
        Self { embedding_model, ..self }
    }

    /// Sets the last write of the mutation log that the input contains; only later ones are replayed on the build.
    pub fn with_log_sequence(self, log_sequence: u64) -> Self {
        Self { log_sequence, ..self }
    }

    /// Sets the write after which upserts that did not fit the index were left out of the input.
    pub fn with_held_after(self, held_after: u64) -> Self {
        Self { held_after: Some(held_after), ..self }
    }
}

fn within(parameter: &'static str, found: usize, low: usize, high: usize) -> Result<(), ParamsError> {
    if (low..=high).contains(&found) {
        return Ok(());
    }
    Err(ParamsError { parameter, expected: format!("{low} to {high}"), found: found.to_string() })
}
