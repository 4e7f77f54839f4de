//! One generation and its searches.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::base::id::VideoId;
use crate::base::metric::Metric;
use crate::base::sync::ArcSwap;
use crate::engine::{
    Budget, EngineError, Explanation, Limits, RequestContext, SearchRequest, SearchResponse, Snapshot,
    unexpired,
};
use crate::index::{AttributeSchema, IndexStore, MemoryMode, RecallCurves, StoreError};
use crate::search::Searcher;

/// The name that error messages give to an embedded index.
const NAME: &str = "embedded";

/// One read-only index in this process.
///
/// It is one generation: a folder that gets a newer one is opened again to see it. Videos that have expired are no
/// candidates. Any number of threads may search at the same time; each search computes on the thread that calls it. Use
/// [`Engine`](crate::Engine) for writes, rebuilds and swaps of generations.
pub struct Index {
    /// As opened or built.
    whole: Arc<Snapshot>,
    /// The same without the videos that expired until the last search.
    current: ArcSwap<Snapshot>,
    searcher: Searcher,
    limits: Limits,
}

impl Index {
    /// Opens the newest sound generation of an index folder and maps it read-only.
    ///
    /// Every section is checked against its checksum, which reads the whole file once. Writes that a server keeps in the
    /// log of the folder are not part of a generation and are not seen.
    ///
    /// # Errors
    /// If the folder has no sound generation.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use shortlist::{Index, SearchRequest};
    ///
    /// let index = Index::open("index-data/videos")?;
    /// let user = vec![0.1; index.dim()];
    /// let answer = index.search(&SearchRequest::vector(user).k(100).target_recall(0.95))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Ok(Self::new(Snapshot::open(&IndexStore::new(dir))?))
    }

    /// Copies what searches read onto huge pages of this process, so that they read memory faster than from the mapped
    /// file. Searches may run meanwhile. Changes nothing for an index that was built in memory.
    ///
    /// # Errors
    /// If there is not enough memory or a checksum differs; then the map stays in use.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use shortlist::{Index, MemoryMode};
    ///
    /// let index = Index::open("index-data/videos")?;
    /// index.make_resident()?;
    /// assert_eq!(index.memory(), MemoryMode::Resident);
    /// # Ok(())
    /// # }
    /// ```
    pub fn make_resident(&self) -> Result<(), StoreError> {
        self.whole.index.make_resident()?;
        Ok(())
    }

    /// The memory that searches read.
    pub fn memory(&self) -> MemoryMode {
        self.whole.index.memory()
    }

    pub(super) fn new(snapshot: Snapshot) -> Self {
        let current = ArcSwap::from_pointee(snapshot.expiring());
        Self { whole: current.load_full(), current, searcher: Searcher::default(), limits: Limits::default() }
    }

    /// Raises or lowers what a request may ask for.
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Answers one request. [`SearchRequest::index`] is ignored.
    ///
    /// # Errors
    /// [`EngineError`] naming the field that cannot be used.
    pub fn search(&self, request: &SearchRequest) -> Result<SearchResponse, EngineError> {
        self.search_within(request, &Budget::default())
    }

    /// Answers one request until `budget` ends: then with the best candidates found so far.
    ///
    /// # Errors
    /// As [`Self::search`]; [`EngineError::DeadlineExceeded`] or [`EngineError::Cancelled`] if nothing was found before.
    pub fn search_within(
        &self,
        request: &SearchRequest,
        budget: &Budget,
    ) -> Result<SearchResponse, EngineError> {
        let (response, _) = unexpired(&self.current).search(&self.context(budget), request, None)?;
        Ok(response)
    }

    /// Explains why a video is, or is not, in the answer to a request. Scores every video.
    ///
    /// # Errors
    /// As [`Self::search`], or if the index does not contain the video.
    pub fn explain(&self, request: &SearchRequest, video: VideoId) -> Result<Explanation, EngineError> {
        unexpired(&self.current).explain(&self.context(&Budget::default()), request, video)
    }

    /// The number of videos, including those that have expired.
    pub fn len(&self) -> usize {
        self.whole.index.len()
    }

    /// Whether the index has no video. It never is: a build refuses an empty dataset.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of components of an embedding.
    pub fn dim(&self) -> usize {
        self.whole.index.dim()
    }

    /// How embeddings are compared.
    pub fn metric(&self) -> Metric {
        self.whole.index.metadata().metric
    }

    /// The names and types of the attributes.
    pub fn attributes(&self) -> &[AttributeSchema] {
        &self.whole.index.metadata().attributes
    }

    /// Whether the ids are text: [`VideoId::of_text`] is the id of a text.
    pub fn has_text_ids(&self) -> bool {
        self.whole.has_text_ids()
    }

    /// The number of the generation; 0 for an index built in memory.
    pub fn generation(&self) -> u64 {
        self.whole.manifest.generation
    }

    /// The name of the model that made the embeddings, if the build was told.
    pub fn embedding_model(&self) -> Option<&str> {
        self.whole.index.metadata().embedding_model.as_deref()
    }

    /// The recall that was measured when the index was built, for several k and efforts; `None` if it was not measured.
    pub fn calibration(&self) -> Option<&RecallCurves> {
        self.whole.calibrated.curves()
    }

    fn context<'a>(&'a self, budget: &'a Budget) -> RequestContext<'a> {
        RequestContext {
            name: NAME,
            searcher: &self.searcher,
            limits: budget.limits.as_ref().unwrap_or(&self.limits),
            budget,
        }
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index")
            .field("generation", &self.generation())
            .field("len", &self.len())
            .field("dim", &self.dim())
            .field("metric", &self.metric())
            .finish_non_exhaustive()
    }
}
