//! Limits of the callers with one key or role.

use std::time::Duration;

use serde::Deserialize;

use crate::base::duration::some_duration;
use crate::base::whole::some_whole;
use crate::engine::Limits;

/// Limits of the callers with one key or role, in place of those of all callers, which hold where it is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OwnLimits {
    /// Whether every video may be scored: searches with exact effort, and explanations.
    pub allow_exact: Option<bool>,
    /// Largest k, and largest sum of offset and k.
    #[serde(deserialize_with = "some_whole")]
    pub max_k: Option<usize>,
    /// Largest ef_search: given, by default, or for a recall.
    #[serde(deserialize_with = "some_whole")]
    pub max_ef_search: Option<usize>,
    /// Maximum number of searches in one batch.
    #[serde(deserialize_with = "some_whole")]
    pub max_batch: Option<usize>,
    /// Largest offset of a page.
    #[serde(deserialize_with = "some_whole")]
    pub max_offset: Option<usize>,
    /// Most interests in one query.
    #[serde(deserialize_with = "some_whole")]
    pub max_interests: Option<usize>,
    /// Maximum number of searches that wait for the compute pool.
    #[serde(deserialize_with = "some_whole")]
    pub max_queued_per_client: Option<usize>,
    /// Searches per second; 0 for any number.
    #[serde(deserialize_with = "some_whole")]
    pub max_searches_per_second: Option<usize>,
    /// Expected cost of searches per second, in milliseconds of one thread; 0 for any.
    #[serde(deserialize_with = "some_whole")]
    pub max_cost_ms_per_second: Option<usize>,
    /// Longest time for one search.
    #[serde(deserialize_with = "some_duration")]
    pub max_deadline: Option<Duration>,
}

impl OwnLimits {
    /// Returns the most generous of each limit that any of `all` sets.
    pub(super) fn most_generous<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        all.fold(Self::default(), |all, one| Self {
            allow_exact: all.allow_exact.max(one.allow_exact),
            max_k: all.max_k.max(one.max_k),
            max_ef_search: all.max_ef_search.max(one.max_ef_search),
            max_batch: all.max_batch.max(one.max_batch),
            max_offset: all.max_offset.max(one.max_offset),
            max_interests: all.max_interests.max(one.max_interests),
            max_queued_per_client: all.max_queued_per_client.max(one.max_queued_per_client),
            max_searches_per_second: faster(all.max_searches_per_second, one.max_searches_per_second),
            max_cost_ms_per_second: faster(all.max_cost_ms_per_second, one.max_cost_ms_per_second),
            max_deadline: all.max_deadline.max(one.max_deadline),
        })
    }

    /// Returns these limits, and those of `others` where these are not set.
    pub(super) fn or(&self, others: &Self) -> Self {
        Self {
            allow_exact: self.allow_exact.or(others.allow_exact),
            max_k: self.max_k.or(others.max_k),
            max_ef_search: self.max_ef_search.or(others.max_ef_search),
            max_batch: self.max_batch.or(others.max_batch),
            max_offset: self.max_offset.or(others.max_offset),
            max_interests: self.max_interests.or(others.max_interests),
            max_queued_per_client: self.max_queued_per_client.or(others.max_queued_per_client),
            max_searches_per_second: self.max_searches_per_second.or(others.max_searches_per_second),
            max_cost_ms_per_second: self.max_cost_ms_per_second.or(others.max_cost_ms_per_second),
            max_deadline: self.max_deadline.or(others.max_deadline),
        }
    }

    /// Returns the limits of the engine for a caller, if they differ from those of all.
    pub(crate) fn over_engine(&self, all: &Limits) -> Option<Limits> {
        if self.max_k.is_none() && self.max_ef_search.is_none() {
            return None;
        }
        let max_k = self.max_k.map_or(all.max_k, |own| own.min(all.max_k));
        let max_ef_search = self.max_ef_search.map_or(all.max_ef_search, |own| own.min(all.max_ef_search));
        Some(Limits { max_k, max_ef_search, ..*all })
    }
}

/// Returns the more generous of two rates, where 0 is any rate.
fn faster(a: Option<usize>, b: Option<usize>) -> Option<usize> {
    if a == Some(0) || b == Some(0) { Some(0) } else { a.max(b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_generous_of_several_counts_and_the_own_one_above_all() {
        let strict = OwnLimits {
            allow_exact: Some(false),
            max_k: Some(5),
            max_searches_per_second: Some(7),
            max_deadline: Some(Duration::from_secs(1)),
            ..OwnLimits::default()
        };
        let generous = OwnLimits {
            allow_exact: Some(true),
            max_k: Some(6),
            max_offset: Some(3),
            max_searches_per_second: Some(0),
            max_deadline: Some(Duration::from_secs(2)),
            ..OwnLimits::default()
        };
        let of = |all: &[OwnLimits]| OwnLimits::most_generous(all.iter());
        assert_eq!((of(&[]), of(&[strict])), (OwnLimits::default(), strict));
        assert_eq!((of(&[strict, generous]), of(&[generous, strict])), (generous, generous));
        let own = OwnLimits { max_k: Some(1), max_searches_per_second: Some(9), ..OwnLimits::default() };
        let expected = OwnLimits { max_k: Some(1), max_searches_per_second: Some(9), ..generous };
        assert_eq!(own.or(&generous), expected);
        let engine = Limits::default();
        assert_eq!(OwnLimits::default().over_engine(&engine), None);
        assert_eq!(strict.over_engine(&engine), Some(Limits { max_k: 5, ..engine }));
    }
}
