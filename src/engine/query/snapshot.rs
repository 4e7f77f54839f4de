//! One generation, open and searchable.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use crate::attributes::{Columns, Value};
use crate::base::file_identity::{Displaced, FileStamp};
use crate::base::id::NodeId;
use crate::base::interrupt::Interrupt;
use crate::base::sync::ArcSwap;
use crate::engine::error::EngineError;
use crate::engine::field::Field;
use crate::engine::options::Limits;
use crate::engine::query::answer_size::AnswerSize;
use crate::engine::query::calibrated::Calibrated;
use crate::engine::query::context::RequestContext;
use crate::engine::query::recent_matches::RecentMatches;
use crate::engine::query::request::{
    Candidate, Completeness, Effort, ReturnAttributes, SearchRequest, SearchResponse, SearchStages,
    SearchStats,
};
use crate::engine::query::resolved_query::ResolvedQuery;
use crate::engine::query::rules::{ResolvedRules, Searched, has_rules};
use crate::engine::query::text_ids;
use crate::engine::query::usage::Usage;
use crate::index::{BuildTimes, Index, IndexStore, Manifest, RecallCurves, StoreError, Uncovered};
use crate::live::delta::segments::Segments;
use crate::live::delta::state::LiveState;
use crate::rules::{FilterProblem, decimal};
use crate::search::{self, Found, Hit, Located, Loss, Plan, SearchParams};

/// One generation with its delta, the manifest that made it current, and its calibration. Immutable: a swap or a write
/// replaces it.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) manifest: Manifest,
    /// The file of the manifest; `None` if there is none.
    manifest_stamp: Option<FileStamp>,
    pub(crate) index: Arc<Index>,
    pub(crate) segments: Segments,
    /// The last write that the segments contain.
    pub(crate) sequence: u64,
    /// When the next of its videos expires, in microseconds since 1970.
    pub(crate) next_expiry: i64,
    pub(crate) calibrated: Arc<Calibrated>,
    /// The column of the ids as text; `None` if ids are numbers.
    text_ids: Option<usize>,
    /// What requests used of the generation.
    pub(crate) usage: Arc<Usage>,
    recent_matches: Arc<RecentMatches>,
}

/// Returns the current snapshot without videos that have expired. The first search after an expiry makes the snapshot, and
/// replaces the current one unless somebody else just did.
pub(crate) fn unexpired(current: &ArcSwap<Snapshot>) -> Arc<Snapshot> {
    let before = current.load_full();
    if before.next_expiry == i64::MAX {
        return before;
    }
    let now = Timestamp::now().as_microsecond();
    if now < before.next_expiry {
        return before;
    }
    let unexpired = Arc::new(before.expired(now));
    current.compare_and_swap(&before, Arc::clone(&unexpired));
    unexpired
}

/// The manifest of a generation that no manifest made current.
fn unpublished(generation: u64, index: &Index) -> Manifest {
    Manifest::of_build(0, generation, index.bytes(), BuildTimes::default())
}

/// Checks the lengths of the sections: with these lengths, no search fails on any content. Reads almost nothing.
pub(crate) fn check_structure(index: &Index) -> Result<(), StoreError> {
    Columns::open(index)?;
    Ok(())
}

/// Checks the lengths and checksums of all sections, and loads them into memory.
pub(crate) fn check_and_warm(index: &Index) -> Result<(), StoreError> {
    index.populate();
    index.check_checksums()?;
    check_structure(index)
}

impl Snapshot {
    /// Opens the newest sound generation in `store`, every section of it checked, without a delta.
    pub(crate) fn open(store: &IndexStore) -> Result<Self, StoreError> {
        let (manifest, index, _) = store.open_newest(|_, index| check_and_warm(index))?;
        Self::new(manifest, index, store)
    }

    /// A generation that was built in memory: of no folder, with these measurements.
    pub(crate) fn in_memory(index: Index, curves: Option<RecallCurves>) -> Self {
        Self::whole(unpublished(0, &index), None, index, Arc::new(Calibrated::in_memory(curves)))
    }

    /// A generation of `store` that is not current, with its newest calibration.
    pub(crate) fn of_generation(
        generation: u64,
        index: Index,
        store: &IndexStore,
    ) -> Result<Self, StoreError> {
        let calibrated = Arc::new(Calibrated::load(store, generation, &index)?);
        Ok(Self::whole(unpublished(generation, &index), None, index, calibrated))
    }

    /// A generation without a delta, with the newest calibration in `store`.
    pub(crate) fn new(manifest: Manifest, index: Index, store: &IndexStore) -> Result<Self, StoreError> {
        let manifest_stamp = FileStamp::at(&store.manifest_path(manifest.manifest)).ok();
        let calibrated = Arc::new(Calibrated::load(store, manifest.generation, &index)?);
        Ok(Self::whole(manifest, manifest_stamp, index, calibrated))
    }

    /// The same generation, whose videos expire.
    pub(crate) fn expiring(self) -> Self {
        let segments = Segments::expiring(Arc::clone(&self.index));
        Self { next_expiry: segments.next_expiry(), segments, ..self }
    }

    fn whole(
        manifest: Manifest,
        manifest_stamp: Option<FileStamp>,
        index: Index,
        calibrated: Arc<Calibrated>,
    ) -> Self {
        let usage = Arc::new(Usage::of(&index.metadata().attributes));
        let text_ids = text_ids::column(&index);
        let index = Arc::new(index);
        let segments = Segments::whole(Arc::clone(&index));
        Self {
            manifest,
            manifest_stamp,
            index,
            segments,
            sequence: 0,
            next_expiry: i64::MAX,
            calibrated,
            text_ids,
            usage,
            recent_matches: Arc::default(),
        }
    }

    /// Checks that the files of the generation are still those that were opened.
    ///
    /// # Errors
    /// [`Displaced`].
    pub(crate) fn check_in_place(&self, store: &IndexStore) -> Result<(), Displaced> {
        if let Some(stamp) = self.manifest_stamp {
            stamp.check(&store.manifest_path(self.manifest.manifest))?;
        }
        self.index.check_in_place()
    }

    /// The same generation with another delta.
    pub(crate) fn with_live(&self, live: &LiveState) -> Self {
        Self {
            manifest: self.manifest.clone(),
            manifest_stamp: self.manifest_stamp,
            index: Arc::clone(&self.index),
            segments: live.segments.clone(),
            sequence: live.sequence,
            next_expiry: live.segments.next_expiry(),
            calibrated: Arc::clone(&self.calibrated),
            text_ids: self.text_ids,
            usage: Arc::clone(&self.usage),
            recent_matches: Arc::clone(&self.recent_matches),
        }
    }

    /// The same generation with another delta, which has the generation mapped again.
    pub(crate) fn with_base(&self, live: &LiveState) -> Self {
        Self { index: Arc::clone(&live.segments.base().index), ..self.with_live(live) }
    }

    /// The same generation and delta without the videos that expire until `now`, in microseconds since 1970.
    pub(crate) fn expired(&self, now: i64) -> Self {
        let mut segments = self.segments.clone();
        segments.expire(now);
        Self {
            manifest: self.manifest.clone(),
            manifest_stamp: self.manifest_stamp,
            index: Arc::clone(&self.index),
            next_expiry: segments.next_expiry(),
            segments,
            sequence: self.sequence,
            calibrated: Arc::clone(&self.calibrated),
            text_ids: self.text_ids,
            usage: Arc::clone(&self.usage),
            recent_matches: Arc::clone(&self.recent_matches),
        }
    }

    /// Reads a newer calibration of the generation, if there is one in `store`.
    pub(crate) fn reload_calibration(&self, store: &IndexStore) -> Result<Option<Calibrated>, StoreError> {
        self.calibrated.reload(store, self.manifest.generation, &self.index)
    }

    /// The same generation and delta with another calibration.
    pub(crate) fn with_calibration(&self, calibrated: Arc<Calibrated>) -> Self {
        Self {
            manifest: self.manifest.clone(),
            manifest_stamp: self.manifest_stamp,
            index: Arc::clone(&self.index),
            segments: self.segments.clone(),
            sequence: self.sequence,
            next_expiry: self.next_expiry,
            calibrated,
            text_ids: self.text_ids,
            usage: Arc::clone(&self.usage),
            recent_matches: Arc::clone(&self.recent_matches),
        }
    }

    /// Answers a request. If a node is `watched` and not in the answer, also returns how far the search got with it.
    ///
    /// # Errors
    /// Names the field that is invalid, or says that the budget ended.
    pub(crate) fn search(
        &self,
        context: &RequestContext<'_>,
        request: &SearchRequest,
        watched: Option<NodeId>,
    ) -> Result<(SearchResponse, Option<Loss>), EngineError> {
        let RequestContext { name, searcher, budget, .. } = *context;
        let started = Instant::now();
        if budget.is_expired() {
            return Err(EngineError::DeadlineExceeded);
        }
        self.check_model(context, request)?;
        if request.min_sequence > self.sequence {
            let (index, expected, found) = (name.to_owned(), request.min_sequence, self.sequence);
            return Err(EngineError::NotYetWritten { index, expected, found });
        }
        let found = self.manifest.generation;
        if let Some(expected) = request.generation.filter(|expected| *expected != found) {
            return Err(EngineError::OtherGeneration { index: name.to_owned(), expected, found });
        }
        let columns = self.columns(&request.return_attributes)?;
        let query = ResolvedQuery::of(context, &self.segments, request)?;
        // Seeds may be among the best, and are dropped. The effort of a search without rules covers them.
        let has_rules = has_rules(request) || !query.is_single() || self.segments.as_whole().is_none();
        let dropped = if has_rules { 0 } else { query.seeds.len() };
        let params = self.params(context, request, dropped)?;
        let mut is_over = context.is_over();
        let mut interrupt = Interrupt::when(&mut is_over);
        let rules = self.rules(context, request, &query, &mut interrupt)?;
        let segments = rules.as_ref().map(ResolvedRules::segments).unwrap_or_default();
        let planned = budget.is_timed.then(Instant::now);
        let found = match &rules {
            Some(rules) => {
                let rules = rules.of_nodes(&segments, &query.seeds);
                searcher.search_segments(&query.interests, &params, &rules, watched, &mut interrupt)
            }
            None => Found::interrupted(Plan::MatchScan),
        };
        let stages = planned.map(|planned| SearchStages {
            began: started,
            planned,
            searched: Instant::now(),
            rescoring: found.stages.rescoring,
            choosing: found.stages.choosing,
        });
        if budget.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        self.usage.record(request);
        let completeness = match (found.is_interrupted, found.shortfall) {
            (true, _) => Completeness::Deadline,
            (false, Some(shortfall)) => Completeness::Short(shortfall),
            (false, None) => Completeness::Complete,
        };
        let candidate = |hit: &Hit| Candidate {
            video_id: Located::of(hit.node, &segments).video_id(),
            text_id: None,
            score: hit.score,
            interest: query.has_interests.then_some(hit.interest),
            attributes: Vec::new(),
            vector: None,
            terms: Vec::new(),
            reserved: Vec::new(),
        };
        let mut size = AnswerSize::new(budget, !columns.is_empty(), request.return_vectors);
        let dim = if request.return_vectors { self.index.dim() } else { 0 };
        size.add_items(
            found.hits.len(),
            dim + request.rules.score_terms.len() + request.rules.reserves.len(),
        )?;
        let mut candidates: Vec<Candidate> = found.hits.iter().map(candidate).collect();
        let has_terms = !request.rules.score_terms.is_empty();
        let has_reserves = !request.rules.reserves.is_empty();
        if let Some(rules) = rules.as_ref().filter(|_| has_terms || has_reserves) {
            let rules = rules.of_nodes(&segments, &query.seeds);
            for (candidate, hit) in candidates.iter_mut().zip(&found.hits) {
                candidate.terms = rules.terms(hit.node);
                candidate.reserved = match request.marks_matches {
                    true => request.rules.reserved(rules.reserves_of(hit.node)),
                    false => found
                        .held
                        .get(&hit.node.0)
                        .map_or_else(Vec::new, |held| request.rules.reserved(*held)),
                };
            }
        }
        // A loop of its own, since most requests need none of them.
        if self.has_text_ids() || !columns.is_empty() || request.return_vectors {
            for (candidate, hit) in candidates.iter_mut().zip(&found.hits) {
                let (segment, node) = self.segments.locate(hit.node);
                candidate.text_id = self.text_id(&segment.index, node);
                size.add_text(candidate.text_id.as_deref())?;
                candidate.attributes = attributes(&segment.index, node, &columns);
                size.add_values(&candidate.attributes)?;
                candidate.vector = request.return_vectors.then(|| vector(&segment.index, node));
            }
        }
        let response = SearchResponse {
            candidates,
            requested: request.k,
            completeness,
            unknown_seeds: query.unknown_seeds,
            generation: self.manifest.generation,
            sequence: self.sequence,
            videos: self.segments.iter().map(|segment| segment.live_count() as u64).sum(),
            stats: SearchStats {
                plan: found.plan,
                ef_search: match params.effort() {
                    // Terms may have made it larger.
                    search::Effort::EfSearch(ef_search) if has_terms => ef_search.max(found.ef_search),
                    search::Effort::EfSearch(ef_search) => ef_search,
                    search::Effort::Exact => 0,
                },
                measured_recall: self.measured_recall(&params, dropped).filter(|_| found.is_plain),
                expanded: found.cost.expanded,
                distances: found.cost.distances,
                elapsed: started.elapsed(),
                matches: rules.as_ref().and_then(ResolvedRules::matches),
                stages,
            },
        };
        self.check_undamaged(name)?;
        Ok((response, found.loss))
    }

    /// Checks that nothing that was read from the generation may have been zeros in place of lost pages.
    ///
    /// # Errors
    /// [`EngineError::OutOfService`].
    pub(crate) fn check_undamaged(&self, name: &str) -> Result<(), EngineError> {
        if !self.index.is_damaged() {
            return Ok(());
        }
        let path = self.index.path().display();
        let problem = format!(
            "{path}: a part of the file was lost while it was served: it was truncated, or its disk failed"
        );
        Err(EngineError::OutOfService { index: name.to_owned(), problem })
    }

    /// The rules of a request; `None` if the budget ends first.
    pub(crate) fn rules<'a>(
        &'a self,
        context: &RequestContext<'_>,
        request: &'a SearchRequest,
        query: &ResolvedQuery<'_>,
        interrupt: &mut Interrupt<'_>,
    ) -> Result<Option<ResolvedRules<'a>>, EngineError> {
        let (generation, recent) = (self.manifest.generation, &*self.recent_matches);
        let searched = Searched { generation, segments: &self.segments, recent };
        ResolvedRules::of(context, searched, request, &query.interests, interrupt)
    }

    fn check_model(&self, context: &RequestContext<'_>, request: &SearchRequest) -> Result<(), EngineError> {
        let expected = &self.index.metadata().embedding_model;
        match &request.embedding_model {
            Some(found) if expected.as_ref() != Some(found) => Err(EngineError::EmbeddingModel {
                index: context.name.to_owned(),
                expected: expected.clone(),
                found: found.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// The ordinals of the attributes to return.
    pub(crate) fn columns(&self, wanted: &ReturnAttributes) -> Result<Vec<usize>, EngineError> {
        match wanted {
            ReturnAttributes::None => Ok(Vec::new()),
            // Not recorded: a request that takes whatever there is does not need any of them.
            ReturnAttributes::All => Ok((0..self.index.metadata().attributes.len()).collect()),
            ReturnAttributes::Named(names) => {
                let columns = self.named_columns(names)?;
                self.usage.record_returned(&columns);
                Ok(columns)
            }
        }
    }

    fn named_columns(&self, names: &[String]) -> Result<Vec<usize>, EngineError> {
        let schema = &self.index.metadata().attributes;
        let ordinal = |(position, name): (usize, &String)| {
            schema.iter().position(|column| column.name == *name).ok_or_else(|| {
                let known = schema.iter().map(|column| column.name.as_str());
                let field = Field::ReturnAttribute(position);
                EngineError::invalid(field, FilterProblem::unknown_attribute(name, known).to_string())
            })
        };
        names.iter().enumerate().map(ordinal).collect()
    }

    /// Whether videos are identified by text.
    pub(crate) fn has_text_ids(&self) -> bool {
        self.text_ids.is_some()
    }

    /// The id of a node of the generation or its delta as text, if ids are text.
    pub(crate) fn text_id(&self, index: &Index, node: NodeId) -> Option<String> {
        text_ids::of_node(index, node, self.text_ids?)
    }

    /// The parameters of the search for a request. Its effort covers k and `dropped` more hits, which are dropped.
    fn params(
        &self,
        context: &RequestContext<'_>,
        request: &SearchRequest,
        dropped: usize,
    ) -> Result<SearchParams, EngineError> {
        let limits = context.limits;
        if request.k == 0 || request.k > limits.max_k {
            let problem = format!("expected 1 to {}, found {}", limits.max_k, request.k);
            return Err(EngineError::invalid(Field::K, problem));
        }
        if request.effort_k > limits.max_k {
            let problem = format!("expected at most {}, found {}", limits.max_k, request.effort_k);
            return Err(EngineError::invalid(Field::EffortK, problem));
        }
        let k = request.k.max(request.effort_k) + dropped;
        let effort = match request.effort {
            Effort::Default => self.default_effort(k, limits),
            Effort::Exact => search::Effort::Exact,
            Effort::EfSearch(ef_search) if (1..=limits.max_ef_search).contains(&ef_search) => {
                search::Effort::EfSearch(ef_search)
            }
            Effort::EfSearch(ef_search) => {
                let problem = format!("expected 1 to {}, found {ef_search}", limits.max_ef_search);
                return Err(EngineError::invalid(Field::EfSearch, problem));
            }
            Effort::TargetRecall(recall) if recall > 0.0 && recall <= 1.0 => {
                search::Effort::EfSearch(self.ef_search(context, k, recall)?)
            }
            Effort::TargetRecall(recall) => {
                let problem = format!("expected more than 0 and at most 1, found {recall}");
                return Err(EngineError::invalid(Field::TargetRecall, problem));
            }
        };
        let params = SearchParams::new(request.k, effort);
        let params = params.map_err(|error| EngineError::invalid(Field::Params, error.to_string()))?;
        let lacks = match request.plan {
            Some(Plan::CodeScan) if self.index.codes().is_none() => "the index has no codes",
            Some(Plan::BlockScan) if self.index.blocks().is_none() => "the index has no blocks",
            Some(plan) if plan.needs_filter() && request.rules.filter.is_none() => {
                "the request has no filter"
            }
            _ => "",
        };
        if !lacks.is_empty() {
            return Err(EngineError::invalid(Field::Plan, format!("expected another plan: {lacks}")));
        }
        if effort == search::Effort::Exact && request.plan.is_some_and(|plan| plan != Plan::ExactScan) {
            return Err(EngineError::invalid(Field::Plan, "expected no other plan with exact"));
        }
        let widest = match request.effort {
            Effort::Default | Effort::TargetRecall(_) => limits.max_ef_search,
            Effort::EfSearch(_) | Effort::Exact => 0,
        };
        Ok(params.with_plan(request.plan).with_widest(widest).with_timing(context.budget.is_timed))
    }

    /// The effort of a request that sets none.
    pub(crate) fn default_effort(&self, k: usize, limits: &Limits) -> search::Effort {
        SearchParams::default_effort(k, self.calibrated.curves(), limits.max_ef_search)
    }

    /// The least `ef_search` that finds `recall` of the best `k` by the calibration, within the limits.
    fn ef_search(&self, context: &RequestContext<'_>, k: usize, recall: f32) -> Result<usize, EngineError> {
        let (index, generation) = (context.name.to_owned(), self.manifest.generation);
        let Some(curves) = self.calibrated.targets() else {
            // Without a graph, every search scans every video, and the usual effort finds practically all.
            if !self.index.has_graph()
                && let search::Effort::EfSearch(ef_search) = self.default_effort(k, context.limits)
            {
                return Ok(ef_search);
            }
            let dir = self.index.path().parent().map(Path::to_owned).unwrap_or_default();
            return Err(EngineError::NotCalibrated { index, generation, dir });
        };
        let k = k.min(self.index.len());
        let target = decimal(recall);
        let best = match curves.ef_search(k, target) {
            Ok(ef_search) if ef_search <= context.limits.max_ef_search => return Ok(ef_search),
            Ok(_) => curves.recall(k, context.limits.max_ef_search).unwrap_or_default(),
            Err(Uncovered::Recall { best }) => best,
            Err(Uncovered::K { largest }) => {
                return Err(EngineError::KNotCalibrated { index, generation, k, largest });
            }
        };
        Err(EngineError::RecallUnreachable { index, generation, k, target, best })
    }

    /// The recall of this effort for k and the `dropped` hits, as measured with the plan that is chosen for it. `None` if
    /// another plan is forced.
    fn measured_recall(&self, params: &SearchParams, dropped: usize) -> Option<f64> {
        match (params.effort(), params.plan()) {
            (search::Effort::EfSearch(ef_search), None) => {
                let k = (params.k() + dropped).min(self.index.len());
                self.calibrated.targets().and_then(|curves| curves.recall(k, ef_search))
            }
            _ => None,
        }
    }
}

/// The embedding of a node, `[dim]`.
pub(crate) fn vector(index: &Index, node: NodeId) -> Vec<f32> {
    let mut row = Vec::new();
    index.vectors().copy_row(node.index(), &mut row);
    row
}

/// Names and values of the `columns` of a node, without null values.
pub(crate) fn attributes(index: &Index, node: NodeId, columns: &[usize]) -> Vec<(String, Value)> {
    if columns.is_empty() {
        return Vec::new();
    }
    let values = Columns::of(index);
    let named = |column: &usize| Some((values.schema()[*column].name.clone(), values.value(*column, node)?));
    columns.iter().filter_map(named).collect()
}
