//! Two generations of an index, compared with searches of sample users.

use std::time::{Duration, Instant};

use super::candidate::{Candidate, Work};
use super::report::{Compared, Comparisons};
use crate::engine::inspect::SampledUsers;
use crate::engine::{Budget, Engine, Pause};
use crate::service::error::{CallError, InvalidField};
use crate::service::proto::{CompareGenerationsResponse, SearchRequest, Vector, search_request};

/// The time for exact answers.
const EXACT_TIME: Duration = Duration::from_secs(2);

/// Answers searches of sample users from two generations, and compares the answers. Opens both, and reads all of their files.
/// `generation` is 0 for the one that serves. Stops where the budget ends.
///
/// # Errors
/// If there is no such index or generation, one cannot be opened, or there are no users.
pub(crate) fn compared_once(
    engine: &Engine,
    index: &str,
    (generation, candidate): (u64, u64),
    (k, searches): (usize, usize),
    budget: &Budget,
) -> Result<CompareGenerationsResponse, CallError> {
    let status = engine.status(index)?;
    let generation = if generation == 0 { status.generation } else { generation };
    if candidate == 0 || candidate == generation {
        let problem = format!("expected another generation than {generation}, found {candidate}");
        return Err(InvalidField::new("candidate", problem).into());
    }
    let SampledUsers { source, users } = engine.sample_users(index, searches)?;
    if users.is_empty() {
        return Err(CallError::Precondition(InvalidField::new(
            "index",
            format!("no sample users: {source}"),
        )));
    }
    let open = |number: u64| -> Result<Candidate, CallError> {
        Ok(Candidate::Generation(engine.open_candidate(index, number)?))
    };
    let sides = [open(generation)?, open(candidate)?];
    let (mut comparisons, mut exact_time) = (Comparisons::default(), Duration::ZERO);
    for (number, user) in users.into_iter().enumerate() {
        if budget.is_over() {
            break;
        }
        let query = Some(search_request::Query::Vector(Vector { values: user, packed: None }));
        let request =
            SearchRequest { index: index.to_owned(), k: k as u32, query, ..SearchRequest::default() };
        let both = |work: Work, first: usize| -> Result<_, CallError> {
            let search = |side: usize| {
                let answer = sides[side].search(engine, &request, work.clone());
                answer.map_err(|problem| CallError::Precondition(InvalidField::new("candidate", problem)))
            };
            // The second one may find more in the caches of the processor.
            let (one, other) = (search(first)?, search(1 - first)?);
            Ok(if first == 0 { (one, other) } else { (other, one) })
        };
        let (ours, theirs) = both(Work::AsAsked, number % 2)?;
        let began = Instant::now();
        let exact = match exact_time < EXACT_TIME {
            true => Some(both(Work::Exact(Pause::default()), 0)?),
            false => None,
        };
        exact_time += began.elapsed();
        let exact = exact.as_ref().map(|(ours, theirs)| (ours, theirs));
        comparisons.push(k, Compared::of(status.metric, &ours, &theirs, exact));
    }
    Ok(CompareGenerationsResponse {
        generation,
        candidate,
        source: source.to_owned(),
        comparison: comparisons.summaries().pop(),
    })
}
