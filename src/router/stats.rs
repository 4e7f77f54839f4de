//! The cost of a search, of several shards together.

use crate::service::proto::SearchStats;

/// Adds the cost of another search that ran at the same time.
#[expect(deprecated, reason = "fills the deprecated fields as well, for clients that still read them")]
pub(super) fn add(stats: &mut SearchStats, other: &SearchStats) {
    let sum = |one: Option<u64>, other: Option<u64>| match (one, other) {
        (None, None) => None,
        (one, other) => Some(one.unwrap_or_default().saturating_add(other.unwrap_or_default())),
    };
    stats.visited = stats.visited.saturating_add(other.visited);
    stats.expanded = stats.expanded.saturating_add(other.expanded);
    stats.distances = stats.distances.saturating_add(other.distances);
    stats.matches = sum(stats.matches, other.matches);
    stats.estimated_matches = sum(stats.estimated_matches, other.estimated_matches);
    let key = |elapsed: &Option<prost_types::Duration>| {
        elapsed.as_ref().map_or((0, 0), |elapsed| (elapsed.seconds, elapsed.nanos))
    };
    if key(&other.elapsed) > key(&stats.elapsed) {
        stats.elapsed = other.elapsed;
    }
}

/// Takes the number of matches of another search.
#[expect(deprecated, reason = "fills the deprecated field as well, for clients that still read it")]
pub(super) fn keep_matches(stats: &mut SearchStats, of: &SearchStats) {
    (stats.matches, stats.estimated_matches) = (of.matches, of.estimated_matches);
}
