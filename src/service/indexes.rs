//! What the shell of a server asks of the services behind it: which indexes they serve, and how they stand.

use crate::engine::{Engine, Readiness};

/// The indexes of a server.
pub(crate) trait Indexes: Send + Sync {
    /// The names of all indexes.
    fn names(&self) -> Vec<String>;

    /// Returns the full name of an index. An empty name means the only index. `None` if it is not served.
    fn resolve(&self, name: &str) -> Option<&str>;

    /// Whether an index answers and accepts writes.
    fn readiness(&self, name: &str) -> Readiness;

    /// The model of the embeddings of an index; `None` if it names none, or does not serve.
    fn embedding_model(&self, name: &str) -> Option<String>;
}

impl Indexes for Engine {
    fn names(&self) -> Vec<String> {
        self.index_names()
    }

    fn resolve(&self, name: &str) -> Option<&str> {
        Engine::resolve(self, name).ok()
    }

    fn readiness(&self, name: &str) -> Readiness {
        Engine::readiness(self, name).unwrap_or_else(|error| Readiness::NotYet(error.to_string()))
    }

    fn embedding_model(&self, name: &str) -> Option<String> {
        Engine::embedding_model(self, name).ok().flatten()
    }
}
