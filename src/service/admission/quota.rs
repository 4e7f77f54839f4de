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

/// The limits of callers, and what they used of their rates.
pub(crate) struct Quota {
    pub(crate) limits: CallerLimits,
    searches: Rate,
    /// In nanoseconds.
    cost: Rate,
}

impl Quota {
    pub(crate) fn new(limits: CallerLimits) -> Self {
        let searches = Rate::new(limits.max_searches_per_second as u64);
        let cost = Rate::new((limits.max_cost_ms_per_second as u64).saturating_mul(1_000_000));
        Self { limits, searches, cost }
    }

    /// Checks what a request asks for. `path` is the path of the request within the call.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with the field, the limit and what was found.
    pub(crate) fn check(&self, request: &SearchRequest, path: &str) -> Result<(), Status> {
        let limits = &self.limits;
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

    /// Uses the rates of a client for one search of an expected cost, both in nanoseconds of any clock. On refusal also
    /// returns the name of the rate.
    pub(crate) fn take(&self, client: &Client, cost: u64, now: u64) -> Result<(), (&'static str, Status)> {
        let refuse = |reason, key: &str, most: usize, nanos| {
            let text = format!("{key}: this client uses more than {most}");
            (reason, refusal(text, Duration::from_nanos(nanos)))
        };
        let CallerLimits { max_searches_per_second, max_cost_ms_per_second, .. } = self.limits;
        self.searches.take(client, 1, now).map_err(|nanos| {
            refuse("search_rate", "limits.max_searches_per_second", max_searches_per_second, nanos)
        })?;
        self.cost.take(client, cost, now).map_err(|nanos| {
            refuse("cost_rate", "limits.max_cost_ms_per_second", max_cost_ms_per_second, nanos)
        })
    }
}
