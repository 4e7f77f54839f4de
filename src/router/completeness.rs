//! Why a page has the number of candidates that it has, as one server would say it.
//!
//! Shards say why they have no more. Where the router left out videos itself, seeds or rows that it knew already, a shard may call
//! that exclusion; then it is asked once more without them. Where videos both exceed a cap and score below the threshold, one server names
//! the threshold; a router that left their values out names the cap, which is as true.

use tonic::Status;

use super::gather::Gather;
use super::page::Page;
use super::wanted::Source;
use crate::service::proto::completeness::Reason;

/// Returns the reason. `max_k`: the most that a shard may be asked for.
///
/// # Errors
/// As [`Gather::fetch`].
pub(super) async fn reason(gather: &mut Gather<'_>, page: &Page, max_k: usize) -> Result<Reason, Status> {
    let wanted = gather.wanted;
    if gather.is_late {
        return Ok(Reason::Deadline);
    }
    if page.found.len() == wanted.k {
        return Ok(Reason::Complete);
    }
    if page.shorts.contains(&Reason::ScoreThreshold) {
        return Ok(Reason::ScoreThreshold);
    }
    if page.is_capped || page.shorts.contains(&Reason::CapsExhausted) {
        return Ok(Reason::CapsExhausted);
    }
    if page.is_similar {
        return Ok(Reason::TooSimilar);
    }
    let none_left = if wanted.has_filter() { Reason::TooFewMatches } else { Reason::IndexExhausted };
    let hides_seeds = !wanted.excluded.seeds().is_empty() && wanted.excluded.is_asked_for();
    let shards: Vec<usize> = match hides_seeds {
        true => gather.live().collect(),
        false => page.unclear.iter().map(|(shard, _)| *shard).collect(),
    };
    let request = |at: usize| match hides_seeds {
        true => {
            let k = (wanted.end() + wanted.excluded.seeds().len() + 1).min(max_k);
            wanted.without_seeds(shards[at], k)
        }
        false => {
            let (shard, rows) = page.unclear[at];
            wanted.list(shard, Source::All, (rows + 1).min(max_k), false)
        }
    };
    let parts = gather.fetch(&shards, &request).await?;
    if !hides_seeds && parts.iter().any(|(_, _, part)| part.short.is_none()) {
        // There are more, and caps kept them out.
        return Ok(Reason::CapsExhausted);
    }
    let clear = page.shorts.iter().copied().filter(|_| shards.is_empty());
    let is_excluded = parts.iter().filter_map(|(_, _, part)| part.short).chain(clear).any(is_exclusion);
    Ok(if is_excluded && wanted.excluded.is_asked_for() { Reason::Excluded } else { none_left })
}

fn is_exclusion(reason: Reason) -> bool {
    reason == Reason::Excluded
}
