//! One search over all shards, from the request to the answer.
//!
//! What flows in: a request of a caller. What flows out: the answer that one server with all videos would give, or its error with the
//! paths of the caller's request. Shards get other requests than the caller sent. If one of those is refused, the shard is asked
//! what it says of the caller's own.

use std::sync::Arc;

use parking_lot::Mutex;
use prost::Message as _;
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::all::Boxed;
use super::completeness;
use super::failure::{self, is_final, nonsense};
use super::gather::{Ask, Gather};
use super::part::Facts;
use super::places;
use super::ranked::Ranking;
use super::response;
use super::seeds;
use super::state::RouterCall;
use super::topology::ShardMap;
use super::transport::{Call, Reply};
use super::wanted::Wanted;
use crate::base::partition::Shard;
use crate::engine::{self, Effort, EngineError, Field, Limits, Query};
use crate::rules::{Diversity, Places, Reserve};
use crate::service::parts::{
    CallError, Charge, FilterTexts, InvalidField, Named, PageToken, quota, search_request, status,
    vector_values,
};
use crate::service::proto::completeness::Reason;
use crate::service::proto::{GetRequest, Lookup, SearchRequest, SearchResponse};

/// Searches all shards of the index of a request. `named`: how the caller named it. `path`: of the request within the call.
///
/// # Errors
/// Those of one server, and `UNAVAILABLE` if too few shards answer.
pub(super) async fn search(
    call: &RouterCall<'_>,
    named: Named,
    request: SearchRequest,
    path: &str,
) -> Result<SearchResponse, Status> {
    let by_alias = named.by_alias();
    let (name, map) = call.index(named, &request.index, path)?;
    let mut answer = search_index(call, (name, &map), request, path).await?;
    if by_alias {
        if let Ok(token) = PageToken::read(&answer.next_page_token) {
            answer.next_page_token = token.of_index(name).text();
        }
        name.clone_into(&mut answer.index);
    }
    Ok(answer)
}

/// Searches all shards of an index.
async fn search_index(
    call: &RouterCall<'_>,
    (name, map): (&str, &ShardMap),
    mut request: SearchRequest,
    path: &str,
) -> Result<SearchResponse, Status> {
    let pinned = pinned(&mut request, map.shards.len()).map_err(|status| failure::at(status, path))?;
    let checked = search_request(request.clone()).map_err(|error| status::of(&error.into(), path))?;
    quota::check(&call.limits, &checked, path)?;
    call.use_rates()?;
    check_limits(&checked, &call.engine_limits).map_err(|status| failure::at(status, path))?;
    let _charge = match (FilterTexts::of(&request).heap_bytes(&checked.rules), &call.memory) {
        (bytes @ 1.., Some(memory)) => Some(memory.charged(bytes)?),
        _ => None,
    };
    let shards = Shards::new(call, name, map).pinned_to(pinned);
    shards.search(request, &checked).await.map_err(|status| failure::at(status, path))
}

/// The shards of an index, during one search.
pub(super) struct Shards<'a> {
    call: &'a RouterCall<'a>,
    name: &'a str,
    map: &'a ShardMap,
    shards: Vec<Shard>,
    pub(super) until: Instant,
    /// By shard: the token of the generation of the pages before; empty for any.
    pinned: Vec<String>,
    charges: Mutex<Vec<Charge>>,
    /// Why there is no memory for the answers of shards.
    refused: Mutex<Option<Status>>,
}

impl<'a> Shards<'a> {
    pub(super) fn new(call: &'a RouterCall<'a>, name: &'a str, map: &'a ShardMap) -> Self {
        Self {
            call,
            name,
            map,
            shards: map.shards.iter().map(|shard| shard.shard).collect(),
            until: call.due(),
            pinned: Vec::new(),
            charges: Mutex::default(),
            refused: Mutex::default(),
        }
    }

    /// The same search of the generations of these tokens, by shard.
    pub(super) fn pinned_to(self, pinned: Vec<String>) -> Self {
        Self { pinned, ..self }
    }

    /// Searches all shards, whatever the limits of the caller.
    pub(super) async fn search(
        &self,
        mut request: SearchRequest,
        checked: &engine::SearchRequest,
    ) -> Result<SearchResponse, Status> {
        let Limits { max_k, max_seeds, .. } = self.call.router.engine_limits;
        let least = request.min_coverage;
        if let [_] = self.shards[..] {
            return self.only(request).await;
        }
        if !is_consistent(checked) {
            return Err(self.refusal(&request, None).await);
        }
        let seeds = match &checked.query {
            Query::Seeds(seeds) => Some(seeds.as_slice()),
            Query::Vector(_) | Query::Interests(_) => None,
        };
        let original = request.clone();
        let found = seeds::resolve(&mut request, seeds, (self.name, self.map), self.until, max_seeds).await?;
        let Ok(wanted) = Wanted::of(request, checked, self.shards.len(), found.known, max_k) else {
            return Err(self.refusal(&original, None).await);
        };
        let mut gather = Gather::new(self, &wanted);
        let page = match wanted.rules.has_pages() {
            true => places::page(&mut gather, max_k).await,
            false => Ranking::new(&mut gather).page(max_k).await,
        };
        let page = match page {
            Err(status) if is_final(&status) => return Err(self.refusal(&original, Some(status)).await),
            page => page?,
        };
        if gather.keys.has_wrong_type {
            return Err(self.refusal(&original, None).await);
        }
        let reason = completeness::reason(&mut gather, &page, max_k).await?;
        if let Some(refused) = self.refused.lock().take() {
            return Err(refused);
        }
        for (shard, facts) in self.map.shards.iter().zip(&gather.facts) {
            facts.iter().for_each(|facts| shard.set_videos(facts.videos));
        }
        let coverage = response::coverage(&gather, self.map.videos());
        self.call.router.metrics.covered(self.name, response::share(&coverage));
        response::check(&gather, &coverage, least)?;
        let mut answer = response::response(&gather, page, reason, coverage, found.unknown);
        if reason == Reason::Complete {
            answer.next_page_token = next_page(&gather, self.call.engine_limits.max_k);
        }
        Ok(answer)
    }

    /// The answer of the only shard.
    async fn only(&self, request: SearchRequest) -> Result<SearchResponse, Status> {
        let k = request.k as usize;
        let answer = self.ask(0, request).await?;
        if let Some(refused) = self.refused.lock().take() {
            return Err(refused);
        }
        if answer.candidates.len() > k {
            return Err(nonsense(format!("{} candidates where {k} were asked for", answer.candidates.len())));
        }
        let videos = answer.coverage.as_ref().map_or(0, |coverage| coverage.videos_searched);
        self.map.shards[0].set_videos(videos);
        self.call.router.metrics.covered(self.name, 1.0);
        Ok(answer)
    }

    /// What a shard says of the caller's own request; `otherwise`, or that it is impossible, if nothing.
    async fn refusal(&self, request: &SearchRequest, otherwise: Option<Status>) -> Status {
        for shard in &self.map.shards {
            match shard.call(&Call::Search(request.clone()), self.until).await {
                // A shard does not have the seeds of others.
                Err(status) if is_final(&status) && status.code() != Code::NotFound => return status,
                Err(status) if otherwise.is_none() => return status,
                Err(_) => {}
                Ok(_) => break,
            }
        }
        otherwise.unwrap_or_else(|| nonsense("it accepts a request that breaks the rules"))
    }

    /// Charges an answer of a shard until the search ends.
    fn charge(&self, bytes: usize) {
        match self.call.charged_message(bytes) {
            Ok(charge) => self.charges.lock().extend(charge),
            Err(status) => *self.refused.lock() = Some(status),
        }
    }
}

impl Ask for Shards<'_> {
    fn shards(&self) -> &[Shard] {
        &self.shards
    }

    fn ask(&self, shard: usize, mut request: SearchRequest) -> Boxed<'_, Result<SearchResponse, Status>> {
        if let Some(token) = self.pinned.get(shard) {
            request.page_token.clone_from(token);
        }
        let shard = Arc::clone(&self.map.shards[shard]);
        Box::pin(async move {
            let charged = self.call.charged_message(request.encoded_len());
            let _charge = charged.inspect_err(|status| *self.refused.lock() = Some(status.clone()))?;
            match shard.call(&Call::Search(request), self.until).await? {
                Reply::Search(answer) => {
                    self.charge(answer.encoded_len());
                    Ok(*answer)
                }
                _ => Err(nonsense("another answer than to a search")),
            }
        })
    }

    fn embeddings(&self, shard: usize, videos: Vec<u64>) -> Boxed<'_, Result<Vec<Option<Vec<f32>>>, Status>> {
        let get = GetRequest {
            index: self.name.to_owned(),
            video_ids: videos,
            return_vectors: true,
            ..GetRequest::default()
        };
        let shard = Arc::clone(&self.map.shards[shard]);
        Box::pin(async move {
            let count = get.video_ids.len();
            let found = match shard.call(&Call::Get(get), self.until).await? {
                Reply::Get(found) if found.results.len() == count => found,
                _ => return Err(nonsense("another number of videos than were looked up")),
            };
            self.charge(found.encoded_len());
            let row = |lookup: Lookup| {
                let vector = lookup.video.and_then(|video| video.vector);
                vector.map(|vector| vector_values(vector).map_err(nonsense)).transpose()
            };
            found.results.into_iter().map(row).collect()
        })
    }

    fn asks_again(&self) {
        self.call.router.metrics.asked_again(self.name);
    }
}

/// Takes the token of the pages before out of a request to an index of several shards: its offset becomes that of the request.
/// Returns the tokens of the shards.
///
/// # Errors
/// `INVALID_ARGUMENT` if it is no token. `FAILED_PRECONDITION` if the index had another number of shards then.
pub(super) fn pinned(request: &mut SearchRequest, shards: usize) -> Result<Vec<String>, Status> {
    if request.page_token.is_empty() {
        return Ok(Vec::new());
    }
    let invalid = |error: InvalidField| status::of(&error.into(), "");
    PageToken::check_index(&request.page_token, &request.index)
        .map_err(|error| status::of(&CallError::Precondition(error), ""))?;
    let token = PageToken::read(&request.page_token).map_err(invalid)?;
    let found = token.generations.len();
    if found != shards {
        let problem =
            format!("the index has {shards} shards now and had {found}: begin again with the first page");
        let details = ErrorDetails::with_bad_request_violation("page_token", &problem);
        let message = format!("page_token: {problem}");
        return Err(Status::with_error_details(Code::FailedPrecondition, message, details));
    }
    if shards == 1 {
        request.page_token = PageToken::new(token.offset, token.generations).text();
        return Ok(Vec::new());
    }
    if request.offset > 0 {
        let problem = format!("expected none with page_token, found {}", request.offset);
        return Err(invalid(InvalidField::new("offset", problem)));
    }
    let PageToken { offset, generations, .. } = token;
    request.page_token.clear();
    request.offset = offset;
    let token = |generation| PageToken::new(0, vec![generation]).text();
    Ok(generations.into_iter().map(token).collect())
}

/// The token of the same generations for a page that begins at `offset`.
pub(super) fn at_offset(token: &str, offset: u32) -> String {
    PageToken::read(token).map_or_else(|_| token.to_owned(), |token| token.at(offset).text())
}

/// The token of the page after that of a search; empty if it would exceed the limit of k.
fn next_page(gather: &Gather<'_>, max_k: usize) -> String {
    let (end, k) = (gather.wanted.end(), gather.wanted.k);
    if end + k > max_k {
        return String::new();
    }
    let generation = |facts: &Option<Facts>| facts.as_ref().map_or(0, |facts| facts.generation);
    let generations = gather.facts.iter().map(generation).collect();
    PageToken::new(u32::try_from(end).unwrap_or(u32::MAX), generations).text()
}

/// Checks what shards cannot: k and the offset, which they see others of, and the limits of the caller, whom they do not know.
///
/// # Errors
/// As one server.
pub(super) fn check_limits(checked: &engine::SearchRequest, limits: &Limits) -> Result<(), Status> {
    let Limits { max_k, max_ef_search, .. } = *limits;
    let invalid = |field, problem| Err(status::of(&EngineError::invalid(field, problem).into(), ""));
    let (k, offset, effort_k) = (checked.k, checked.offset, checked.effort_k);
    if k == 0 || k > max_k {
        return invalid(Field::K, format!("expected 1 to {max_k}, found {k}"));
    }
    if offset > max_k - k {
        let most = max_k - k;
        return invalid(Field::Offset, format!("expected at most {most} with k = {k}, found {offset}"));
    }
    if effort_k > max_k {
        return invalid(Field::EffortK, format!("expected at most {max_k}, found {effort_k}"));
    }
    match checked.effort {
        Effort::EfSearch(found) if found > max_ef_search => {
            invalid(Field::EfSearch, format!("expected 1 to {max_ef_search}, found {found}"))
        }
        _ => Ok(()),
    }
}

/// Whether the rules that shards do not see as the caller sent them can be met. If not, a shard says why.
fn is_consistent(checked: &engine::SearchRequest) -> bool {
    let rules = &checked.rules;
    let (mut kept, mut shares) = (rules.fresh.as_ref().map_or(0, |fresh| fresh.at_least), 0.0);
    for reserve in &rules.reserves {
        let is_share = |share: &f32| (0.0..=1.0).contains(share);
        if matches!(&reserve.places, Places::Share(share) if !is_share(share))
            || reserve.sample.is_some_and(|sample| !sample.is_valid())
        {
            return false;
        }
        kept = kept.saturating_add(reserve.at_least(checked.k));
    }
    if let Query::Interests(interests) = &checked.query {
        if interests.len() > Limits::MAX_INTERESTS
            || interests.iter().any(|interest| !(0.0..=1.0).contains(&interest.min_share))
        {
            return false;
        }
        kept = kept.saturating_add(interests.iter().map(|interest| interest.at_least(checked.k)).sum());
        shares = interests.iter().map(|interest| f64::from(interest.min_share)).sum();
    }
    let is_diverse = rules.diversity.is_none_or(|Diversity { max_similarity, lambda }| {
        max_similarity.is_none_or(|most| most > 0.0 && most <= 1.0)
            && lambda.is_none_or(|lambda| (0.0..=1.0).contains(&lambda))
    });
    kept <= checked.k
        && is_diverse
        && shares <= 1.0 + 1e-5
        && rules.reserves.len() <= Reserve::MAX_RESERVES
        && rules.caps.len() <= Limits::MAX_CAPS
        && rules.caps.iter().all(|cap| cap.max_per_value > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_the_caller_are_those_of_one_server() {
        let limits = Limits { max_k: 100, max_ef_search: 500, max_seeds: 10 };
        let found = |k, offset, effort_k, effort| {
            let checked = engine::SearchRequest { k, offset, effort_k, effort, ..Default::default() };
            check_limits(&checked, &limits).map_err(|status| status.message().to_owned())
        };
        for effort in [Effort::Default, Effort::EfSearch(500)] {
            assert_eq!(found(60, 40, 100, effort), Ok(()));
        }
        let refused = |k, offset, effort_k, effort| found(k, offset, effort_k, effort).unwrap_err();
        assert_eq!(refused(0, 0, 0, Effort::Default), "k: expected 1 to 100, found 0");
        assert_eq!(refused(101, 0, 0, Effort::Default), "k: expected 1 to 100, found 101");
        assert_eq!(refused(60, 41, 0, Effort::Default), "offset: expected at most 40 with k = 60, found 41");
        assert_eq!(
            refused(60, usize::MAX, 0, Effort::Default).split(',').next(),
            Some("offset: expected at most 40 with k = 60")
        );
        let message = "params.effort_k: expected at most 100, found 101";
        assert_eq!(refused(60, 0, 101, Effort::Default), message);
        let message = "params.ef_search: expected 1 to 500, found 501";
        assert_eq!(refused(60, 0, 0, Effort::EfSearch(501)), message);
    }
}
