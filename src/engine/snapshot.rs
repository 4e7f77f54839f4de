//! One generation, open and searchable.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::calibrated::Calibrated;
use super::error::EngineError;
use super::request::{
    Budget, Candidate, Effort, Limits, Query, ReturnAttributes, SearchRequest, SearchResponse, SearchStats,
    Seed,
};
use crate::attributes::{Columns, Value};
use crate::id::{NodeId, VideoId};
use crate::index::{Index, IndexStore, Manifest, StoreError, Uncovered};
use crate::search::{self, Found, Hit, Plan, SearchParams, Searcher};

/// One generation, the manifest that made it current, and its calibration. Never changes; a swap replaces
/// it whole.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) manifest: Manifest,
    pub(super) index: Arc<Index>,
    pub(super) calibrated: Calibrated,
}

/// Checks what keeps a search from failing, whatever the sections hold: their lengths. Reads next to nothing.
pub(super) fn check_structure(index: &Index) -> Result<(), StoreError> {
    Columns::open(index)?;
    Ok(())
}

/// Checks everything that a right answer relies on, down to the last checksum, and brings the pages into memory.
pub(super) fn check_and_warm(index: &Index) -> Result<(), StoreError> {
    index.populate();
    index.check_checksums()?;
    check_structure(index)
}

/// What a request searches for, in terms of one generation.
struct ResolvedQuery<'q> {
    /// `[dim]`, finite.
    vector: Cow<'q, [f32]>,
    /// The nodes it was made of.
    seeds: Vec<NodeId>,
    /// Seeds that are not in the index.
    unknown_seeds: Vec<VideoId>,
}

impl Snapshot {
    /// With the newest calibration in `store`.
    pub(super) fn new(manifest: Manifest, index: Index, store: &IndexStore) -> Result<Self, StoreError> {
        let calibrated = Calibrated::load(store, manifest.generation, &index)?;
        Ok(Self { manifest, index: Arc::new(index), calibrated })
    }

    /// The same generation with a newer calibration, if there is one in `store`.
    pub(super) fn recalibrated(&self, store: &IndexStore) -> Result<Option<Self>, StoreError> {
        let calibrated = self.calibrated.reload(store, self.manifest.generation, &self.index)?;
        Ok(calibrated.map(|calibrated| Self {
            manifest: self.manifest.clone(),
            index: Arc::clone(&self.index),
            calibrated,
        }))
    }

    pub(super) fn search(
        &self,
        name: &str,
        searcher: &Searcher,
        limits: &Limits,
        request: &SearchRequest,
        budget: &Budget,
    ) -> Result<SearchResponse, EngineError> {
        let started = Instant::now();
        self.check_model(name, request)?;
        let columns = self.columns(&request.return_attributes)?;
        let ResolvedQuery { vector, seeds, unknown_seeds } = self.query(name, limits, &request.query)?;
        // Seeds come out of the answer again, so as many more are asked for.
        let params = self.params(name, limits, request, seeds.len())?;
        let found = searcher.search(&self.index, &vector, &params, keep_going(budget));
        if found.is_interrupted {
            let is_gone = budget.is_cancelled();
            return Err(if is_gone { EngineError::Cancelled } else { EngineError::DeadlineExceeded });
        }
        let stats = self.stats(&params, &found, started);
        let hits = found.hits.iter().filter(|hit| !seeds.contains(&hit.node)).take(request.k);
        let ids = self.index.video_ids();
        let candidate = |hit: &Hit| Candidate {
            video_id: ids[hit.node.index()],
            score: hit.score,
            interest: None,
            attributes: self.attributes(hit.node, &columns),
            vector: None,
        };
        let candidates = hits.map(candidate).collect();
        Ok(SearchResponse {
            candidates,
            requested: request.k,
            unknown_seeds,
            generation: self.manifest.generation,
            stats,
        })
    }

    fn check_model(&self, name: &str, request: &SearchRequest) -> Result<(), EngineError> {
        let expected = &self.index.metadata().embedding_model;
        match &request.embedding_model {
            Some(found) if expected.as_ref() != Some(found) => Err(EngineError::EmbeddingModel {
                index: name.to_owned(),
                expected: expected.clone(),
                found: found.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// The ordinals of the attributes to return.
    fn columns(&self, wanted: &ReturnAttributes) -> Result<Vec<usize>, EngineError> {
        let schema = &self.index.metadata().attributes;
        let names = match wanted {
            ReturnAttributes::None => return Ok(Vec::new()),
            ReturnAttributes::All => return Ok((0..schema.len()).collect()),
            ReturnAttributes::Named(names) => names,
        };
        let ordinal = |(position, name): (usize, &String)| {
            schema.iter().position(|column| column.name == *name).ok_or_else(|| {
                let known: Vec<&str> = schema.iter().map(|column| column.name.as_str()).collect();
                let field = format!("return_attributes[{position}]");
                EngineError::invalid(field, format!("unknown attribute {name:?}: expected one of {known:?}"))
            })
        };
        names.iter().enumerate().map(ordinal).collect()
    }

    fn query<'q>(
        &self,
        name: &str,
        limits: &Limits,
        query: &'q Query,
    ) -> Result<ResolvedQuery<'q>, EngineError> {
        match query {
            Query::Vector(values) => {
                self.check_vector(values)?;
                let vector = Cow::Borrowed(values.as_slice());
                Ok(ResolvedQuery { vector, seeds: Vec::new(), unknown_seeds: Vec::new() })
            }
            Query::Interests(_) => Err(EngineError::invalid("query.interests", "not supported")),
            Query::Seeds(seeds) => self.query_of_seeds(name, limits, seeds),
        }
    }

    fn check_vector(&self, values: &[f32]) -> Result<(), EngineError> {
        let (expected, found) = (self.index.dim(), values.len());
        if found != expected {
            return Err(EngineError::invalid(
                "query.vector",
                format!("expected {expected} dimensions, found {found}"),
            ));
        }
        if let Some(position) = values.iter().position(|value| !value.is_finite()) {
            let problem =
                format!("component {position}: expected a finite number, found {}", values[position]);
            return Err(EngineError::invalid("query.vector", problem));
        }
        Ok(())
    }

    fn query_of_seeds(
        &self,
        name: &str,
        limits: &Limits,
        seeds: &[Seed],
    ) -> Result<ResolvedQuery<'static>, EngineError> {
        if seeds.is_empty() || seeds.len() > limits.max_seeds {
            let problem = format!("expected 1 to {} seeds, found {}", limits.max_seeds, seeds.len());
            return Err(EngineError::invalid("query.seeds", problem));
        }
        let (mut query, mut row) = (vec![0f32; self.index.dim()], Vec::new());
        let (mut nodes, mut unknown) = (Vec::new(), Vec::new());
        for (position, seed) in seeds.iter().enumerate() {
            if !seed.weight.is_finite() {
                let field = format!("query.seeds.seeds[{position}].weight");
                let problem = format!("expected a finite number, found {}", seed.weight);
                return Err(EngineError::invalid(field, problem));
            }
            let Some(node) = self.index.node_of(seed.video_id) else {
                unknown.push(seed.video_id);
                continue;
            };
            self.index.vectors().copy_row(node.index(), &mut row);
            query.iter_mut().zip(&row).for_each(|(sum, value)| *sum += seed.weight * value);
            nodes.push(node);
        }
        if nodes.is_empty() {
            return Err(EngineError::UnknownVideo { index: name.to_owned(), video: unknown[0] });
        }
        if query.iter().any(|value| !value.is_finite()) {
            return Err(EngineError::invalid("query.seeds", "the weighted sum of the seeds is not finite"));
        }
        Ok(ResolvedQuery { vector: Cow::Owned(query), seeds: nodes, unknown_seeds: unknown })
    }

    fn params(
        &self,
        name: &str,
        limits: &Limits,
        request: &SearchRequest,
        seeds: usize,
    ) -> Result<SearchParams, EngineError> {
        if request.k == 0 || request.k > limits.max_k {
            let problem = format!("expected 1 to {}, found {}", limits.max_k, request.k);
            return Err(EngineError::invalid("k", problem));
        }
        let k = request.k + seeds;
        let effort = match request.effort {
            Effort::Default => SearchParams::default_effort(k),
            Effort::Exact => search::Effort::Exact,
            Effort::EfSearch(ef_search) if (1..=limits.max_ef_search).contains(&ef_search) => {
                search::Effort::EfSearch(ef_search)
            }
            Effort::EfSearch(ef_search) => {
                let problem = format!("expected 1 to {}, found {ef_search}", limits.max_ef_search);
                return Err(EngineError::invalid("params.ef_search", problem));
            }
            Effort::TargetRecall(recall) if recall > 0.0 && recall <= 1.0 => {
                search::Effort::EfSearch(self.ef_search(name, limits, k, recall)?)
            }
            Effort::TargetRecall(recall) => {
                let problem = format!("expected more than 0 and at most 1, found {recall}");
                return Err(EngineError::invalid("params.target_recall", problem));
            }
        };
        let params = SearchParams::new(k, effort);
        let params = params.map_err(|error| EngineError::invalid("params", error.to_string()))?;
        if request.plan == Some(Plan::CodeScan) && self.index.codes().is_none() {
            return Err(EngineError::invalid("params.plan", "expected another plan: the index has no codes"));
        }
        if effort == search::Effort::Exact && matches!(request.plan, Some(Plan::Graph | Plan::CodeScan)) {
            return Err(EngineError::invalid("params.plan", "expected no other plan with exact"));
        }
        Ok(params.with_plan(request.plan))
    }

    /// The effort that is known to find `recall` of the best `k`, and that the server allows.
    fn ef_search(&self, name: &str, limits: &Limits, k: usize, recall: f32) -> Result<usize, EngineError> {
        let (index, generation) = (name.to_owned(), self.manifest.generation);
        let Some(curves) = self.calibrated.curves() else {
            let dir = self.index.path().parent().map(Path::to_owned).unwrap_or_default();
            return Err(EngineError::NotCalibrated { index, generation, dir });
        };
        // There are no more than all of them to find.
        let k = k.min(self.index.len());
        // 0.95 of a single float is not quite that, and must not be missed for it.
        let target = (f64::from(recall) * 1e6).round() / 1e6;
        let best = match curves.ef_search(k, target) {
            Ok(ef_search) if ef_search <= limits.max_ef_search => return Ok(ef_search),
            Ok(_) => curves.recall(k, limits.max_ef_search).unwrap_or_default(),
            Err(Uncovered::Recall { best }) => best,
            Err(Uncovered::K { largest }) => {
                return Err(EngineError::KNotCalibrated { index, generation, k, largest });
            }
        };
        Err(EngineError::RecallUnreachable { index, generation, k, target, best })
    }

    fn stats(&self, params: &SearchParams, found: &Found, started: Instant) -> SearchStats {
        let ef_search = match params.effort() {
            search::Effort::EfSearch(ef_search) => ef_search,
            search::Effort::Exact => 0,
        };
        // Measured with the plan that seemed fastest, and with no other.
        let measured_recall = match (params.effort(), params.plan()) {
            (search::Effort::EfSearch(_), None) => {
                let k = params.k().min(self.index.len());
                self.calibrated.curves().and_then(|curves| curves.recall(k, ef_search))
            }
            _ => None,
        };
        SearchStats {
            plan: found.plan,
            ef_search,
            measured_recall,
            visited: found.stats.hops,
            distances: found.stats.distances,
            elapsed: started.elapsed(),
        }
    }

    /// Names and values of `columns`, without those that are null.
    fn attributes(&self, node: NodeId, columns: &[usize]) -> Vec<(String, Value)> {
        let values = Columns::of(&self.index);
        let named =
            |column: &usize| Some((values.schema()[*column].name.clone(), values.value(*column, node)?));
        columns.iter().filter_map(named).collect()
    }
}

/// Looks at the cancellation every time and at the clock every sixteenth time.
fn keep_going(budget: &Budget) -> impl FnMut() -> bool {
    let mut asked = 0u32;
    move || {
        asked = asked.wrapping_add(1);
        !budget.is_cancelled() && (asked % 16 != 1 || !budget.is_expired())
    }
}
