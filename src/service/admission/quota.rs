//! What one caller may ask for.
//!
//! What flows in: a request in domain terms and its caller. What flows out: nothing, or why the request is refused: a limit
//! on what it asks for, or a rate of the client that is used up.

use std::time::Duration;

use tonic::Status;

use super::dispatcher::refusal;
use super::rates::Rate;
use crate::engine::{Effort, Plan, Query, SearchRequest};
use crate::service::caller::Client;
use crate::service::error::InvalidField;
use crate::service::options::CallerLimits;
use crate::service::status;

/// What callers used of their rates.
#[derive(Default)]
pub(crate) struct Quota {
    searches: Rate,
    /// In nanoseconds.
    cost: Rate,
}

impl Quota {
    /// Uses the rates of a client for this many searches, and for their expected cost in nanoseconds, at `now` in
    /// nanoseconds of any clock. On refusal also returns the name of the rate.
    pub(crate) fn take(
        &self,
        client: &Client,
        limits: &CallerLimits,
        searches: u64,
        cost: u64,
        now: u64,
    ) -> Result<(), (&'static str, Status)> {
        let refuse = |reason, key: &str, most: usize, nanos| {
            let text = format!("{key}: this client uses more than {most}");
            (reason, refusal(text, Duration::from_nanos(nanos)))
        };
        let CallerLimits { max_searches_per_second, max_cost_ms_per_second, .. } = *limits;
        if searches > 0 {
            self.searches.take(client, max_searches_per_second as u64, searches, now).map_err(|nanos| {
                refuse("search_rate", "limits.max_searches_per_second", max_searches_per_second, nanos)
            })?;
        }
        let nanos_per_second = (max_cost_ms_per_second as u64).saturating_mul(1_000_000);
        self.cost.take(client, nanos_per_second, cost, now).map_err(|nanos| {
            refuse("cost_rate", "limits.max_cost_ms_per_second", max_cost_ms_per_second, nanos)
        })
    }
}

/// Checks that a caller may ask for an explanation, which scores every video.
///
/// # Errors
/// `INVALID_ARGUMENT` with the field and the limit.
pub(crate) fn check_explanation(limits: &CallerLimits) -> Result<(), Status> {
    if limits.allow_exact {
        return Ok(());
    }
    let problem = "expected no explanation, which scores every video: limits.allow_exact is false";
    Err(status::of(&InvalidField::new("video_id", problem).into(), ""))
}

/// Checks what a request asks for. `path` is the path of the request within the call.
///
/// # Errors
/// `INVALID_ARGUMENT` with the field, the limit and what was found.
pub(crate) fn check(limits: &CallerLimits, request: &SearchRequest, path: &str) -> Result<(), Status> {
    let is_exact = request.effort == Effort::Exact || request.plan == Some(Plan::ExactScan);
    let interests = match &request.query {
        Query::Interests(interests) => interests.len(),
        Query::Vector(_) | Query::Seeds(_) => 1,
    };
    let problem = if is_exact && !limits.allow_exact {
        let field = if request.effort == Effort::Exact { "params.exact" } else { "params.plan" };
        Some((field, "expected another effort: limits.allow_exact is false, found exact".to_owned()))
    } else if request.offset > limits.max_offset {
        let most = limits.max_offset;
        Some(("offset", format!("expected at most {most} (limits.max_offset), found {}", request.offset)))
    } else if interests > limits.max_interests {
        let most = limits.max_interests;
        let problem = format!("expected at most {most} (limits.max_interests), found {interests}");
        Some(("query.interests", problem))
    } else {
        None
    };
    match problem {
        Some((field, problem)) => Err(status::of(&InvalidField::new(field, problem).into(), path)),
        None => Ok(()),
    }
}
