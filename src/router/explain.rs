//! `Explain` over shards.
//!
//! What flows in: a video and a search. What flows out: what the shard of the video says of it, with its rank among the videos of all
//! shards. The rank is its place in an exact search of the router for as many candidates as the limit of k allows; a video that is not
//! among those has no rank.

use tonic::Status;

use super::failure::{self, nonsense};
use super::search::{Shards, at_offset, check_limits, pinned};
use super::seeds;
use super::state::RouterCall;
use super::transport::{Call, Reply};
use crate::base::id::VideoId;
use crate::engine::Query;
use crate::service::parts::{Named, explained_id, quota, search_request, status};
use crate::service::proto::completeness::Reason;
use crate::service::proto::explain_response::Rule;
use crate::service::proto::{
    ExplainRequest, ExplainResponse, SearchParams, SearchRequest, SearchResponse, search_params,
    search_request as wire,
};

/// The path of the search within the call.
const PATH: &str = "request.";

/// Explains why a video is or is not in the answer to a search.
///
/// # Errors
/// Those of one server, and `UNAVAILABLE` if the shard of the video does not answer.
pub(super) async fn explain(
    call: &RouterCall<'_>,
    named: Named,
    request: ExplainRequest,
) -> Result<ExplainResponse, Status> {
    let ExplainRequest { request, video_id, text_id } = request;
    let mut request = request.unwrap_or_default();
    let (name, map) = call.index(named, &request.index, PATH)?;
    let pinned = pinned(&mut request, map.shards.len()).map_err(|status| failure::at(status, PATH))?;
    let checked = search_request(request.clone()).map_err(|error| status::of(&error.into(), PATH))?;
    quota::check(&call.limits, &checked, PATH)?;
    quota::check_explanation(&call.limits)?;
    call.use_rates()?;
    check_limits(&checked, &call.engine_limits).map_err(|status| failure::at(status, PATH))?;
    let video = explained_id(video_id, &text_id).map_err(|error| status::of(&error.into(), ""))?;
    let owner = map.owner(video);
    let mut of_owner = request.clone();
    let seeds = match &checked.query {
        Query::Seeds(seeds) if map.count() > 1 => Some(seeds.as_slice()),
        _ => None,
    };
    let max_seeds = call.router.engine_limits.max_seeds;
    if let Some(token) = pinned.get(owner) {
        of_owner.page_token = at_offset(token, std::mem::take(&mut of_owner.offset));
    }
    let shards = Shards::new(call, name, &map).pinned_to(pinned);
    let found = seeds::resolve(&mut of_owner, seeds, (name, &map), shards.until, max_seeds).await;
    let found = found.map_err(|status| failure::at(status, PATH))?;
    of_owner.exclude.get_or_insert_default().video_ids.extend(&found.known);
    let asked = ExplainRequest { request: Some(of_owner), video_id, text_id };
    let mut explained = match map.shards[owner].call(&Call::Explain(asked), shards.until).await? {
        Reply::Explain(explained) => *explained,
        _ => return Err(nonsense("another answer than to an explanation")),
    };
    if map.count() == 1 {
        return Ok(explained);
    }
    if found.known.contains(&video.0) {
        explained.set_removed_by(Rule::Seed);
        "query.seeds".clone_into(&mut explained.removed_at);
        "it is a seed of the query".clone_into(&mut explained.reason);
        return Ok(explained);
    }
    let answer =
        shards.search(request.clone(), &checked).await.map_err(|status| failure::at(status, PATH))?;
    let rank = place(&answer, video);
    (explained.found, explained.rank) = (rank.is_some(), rank.map(|rank| rank as u32));
    if explained.removed_by() == Rule::KeptPlace || explained.removed_by() == Rule::Unspecified {
        let all = everything(&request, call.router.engine_limits.max_k);
        let checked_all = search_request(all.clone()).map_err(|error| status::of(&error.into(), PATH))?;
        let all = shards.search(all, &checked_all).await.map_err(|status| failure::at(status, PATH))?;
        let exact_rank = place(&all, video);
        explained.exact_rank = exact_rank.map(|rank| rank as u64);
        let is_whole = all.completeness.as_ref().is_some_and(|of| of.reason() != Reason::Complete);
        if exact_rank.is_none() && is_whole && !request.caps.is_empty() {
            explained.set_removed_by(Rule::Cap);
            "caps".clone_into(&mut explained.removed_at);
            "videos of other shards with a better score and the same value fill a cap"
                .clone_into(&mut explained.reason);
        }
        let exact = with_exact_effort(request);
        let checked_exact = search_request(exact.clone()).map_err(|error| status::of(&error.into(), PATH))?;
        let exact = shards.search(exact, &checked_exact).await.map_err(|status| failure::at(status, PATH))?;
        explained.in_exact_answer = place(&exact, video).is_some();
    }
    Ok(explained)
}

/// The rank of a video in an answer, from 1.
fn place(answer: &SearchResponse, video: VideoId) -> Option<usize> {
    answer.candidates.iter().position(|candidate| candidate.video_id == video.0).map(|at| at + 1)
}

fn with_exact_effort(request: SearchRequest) -> SearchRequest {
    let effort = Some(search_params::Effort::Exact(true));
    SearchRequest { params: Some(SearchParams { effort, ..SearchParams::default() }), ..request }
}

/// The exact search for as many candidates as possible, without kept places.
fn everything(request: &SearchRequest, max_k: usize) -> SearchRequest {
    let mut request = with_exact_effort(request.clone());
    (request.k, request.offset, request.fresh) = (u32::try_from(max_k).unwrap_or(u32::MAX), 0, None);
    request.return_attributes.clear();
    request.return_vectors = false;
    if let Some(wire::Query::Interests(interests)) = &mut request.query {
        interests.interests.iter_mut().for_each(|interest| interest.min_share = 0.0);
    }
    request
}
