//! The answer to a search, from the page and what is known of the shards.

use tonic::Status;

use super::failure::unavailable;
use super::gather::Gather;
use super::page::Page;
use super::row::stripped;
use super::stats::add;
use crate::service::proto::completeness::Reason;
use crate::service::proto::{Completeness, Coverage, SearchResponse, SearchStats};

/// Shards of an index up to which all but one suffice by default.
const FEW_SHARDS: u32 = 10;
/// The least share of the videos by default, with more shards.
const LEAST_SHARE: f64 = 0.9;

/// How much of an index was searched. `videos`: in all of it.
pub(super) fn coverage(gather: &Gather<'_>, videos: u64) -> Coverage {
    let answered = gather.facts.iter().flatten();
    let searched = answered.clone().fold(0u64, |sum, facts| sum.saturating_add(facts.videos));
    Coverage {
        videos_total: videos.max(searched),
        videos_searched: searched,
        shards_total: gather.count() as u32,
        shards_answered: answered.count() as u32,
    }
}

/// The share of the videos that was searched.
pub(super) fn share(coverage: &Coverage) -> f64 {
    match coverage.videos_total {
        0 => f64::from(coverage.shards_answered) / f64::from(coverage.shards_total.max(1)),
        total => coverage.videos_searched as f64 / total as f64,
    }
}

/// Whether this many shards, with this share of the videos, suffice for an answer unless the request says otherwise.
pub(super) fn suffices(answered: u32, total: u32, share: f64) -> bool {
    answered > 0 && if total <= FEW_SHARDS { answered + 1 >= total } else { share >= LEAST_SHARE }
}

/// Checks that enough was searched.
///
/// # Errors
/// `UNAVAILABLE` with `RetryInfo`.
pub(super) fn check(gather: &Gather<'_>, coverage: &Coverage, least: Option<f32>) -> Result<(), Status> {
    let Coverage { videos_total, videos_searched, shards_total, shards_answered } = *coverage;
    let share = share(coverage);
    let suffices = match least {
        Some(least) => shards_answered > 0 && share >= f64::from(least) - 1e-9,
        None => suffices(shards_answered, shards_total, share),
    };
    if suffices {
        return Ok(());
    }
    let lost = gather.lost.iter().enumerate().find_map(|(at, lost)| Some((at, lost.as_ref()?)));
    let why = lost.map_or_else(String::new, |(at, status)| {
        format!("; shard {at}: {}", crate::base::text::shortened(status.message(), 200))
    });
    if shards_answered == 0
        && let Some((_, status)) = lost
        && status.code() == tonic::Code::DeadlineExceeded
    {
        return Err(Status::deadline_exceeded(status.message()));
    }
    Err(unavailable(format!(
        "{shards_answered} of {shards_total} shards answered, with {videos_searched} of {videos_total} videos{why}"
    )))
}

/// The answer.
pub(super) fn response(
    gather: &Gather<'_>,
    page: Page,
    reason: Reason,
    coverage: Coverage,
    unknown: Vec<u64>,
) -> SearchResponse {
    let wanted = gather.wanted;
    let returned = page.found.len();
    let facts = || gather.facts.iter().flatten();
    let mut stats: Option<SearchStats> = None;
    for of_shard in facts().filter_map(|facts| facts.stats.as_ref()) {
        match &mut stats {
            Some(stats) => add(stats, of_shard),
            None => stats = Some(*of_shard),
        }
    }
    SearchResponse {
        candidates: page.found.into_iter().map(|found| stripped(found.candidate, wanted)).collect(),
        completeness: Some(Completeness {
            requested: u32::try_from(wanted.k).unwrap_or(u32::MAX),
            returned: u32::try_from(returned).unwrap_or(u32::MAX),
            reason: reason.into(),
        }),
        generation: facts().map(|facts| facts.generation).max().unwrap_or_default(),
        sequence: facts().map(|facts| facts.sequence).min().unwrap_or_default(),
        stats,
        unknown_video_ids: unknown,
        coverage: Some(coverage),
        next_page_token: String::new(),
        index: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_shards_but_one_suffice_of_few_and_nine_of_ten_videos_of_many() {
        let of_shards = |answered, total| suffices(answered, total, f64::from(answered) / f64::from(total));
        let all = [(1, 1), (1, 2), (3, 4), (8, 8), (15, 16), (29, 32), (58, 64)];
        assert!(all.iter().all(|(answered, total)| of_shards(*answered, *total)));
        let none = [(0, 0), (0, 1), (0, 2), (2, 4), (14, 16), (28, 32), (57, 64)];
        assert!(none.iter().all(|(answered, total)| !of_shards(*answered, *total)));
    }
}
