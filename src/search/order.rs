//! The one order of hits: best first, equal scores by video id.

use std::cmp::Ordering;

use super::hit::Hit;
use crate::base::id::{NodeId, VideoId};
use crate::graph::Candidate;

/// Compares two hits, each given by its score and its video. `Less` is better. Scores compare by `f32::total_cmp`, so that
/// NaN has a place, too.
pub(super) fn best_first(one: (f32, VideoId), other: (f32, VideoId)) -> Ordering {
    other.0.total_cmp(&one.0).then(one.1.cmp(&other.1))
}

/// Sorts candidates of one index. `ids`: its video ids by node.
pub(super) fn sort_candidates(candidates: &mut [Candidate], ids: &[VideoId]) {
    candidates.sort_unstable();
    sort_ties(candidates, Candidate::score, |candidate| ids[candidate.node() as usize]);
}

/// Sorts hits.
pub(super) fn sort_hits(hits: &mut [Hit], video_id: impl Fn(NodeId) -> VideoId) {
    // As integers, whose comparison is branch-free.
    let place = |(at, hit): (usize, &Hit)| Candidate::new(at as u32, hit.score);
    let mut places: Vec<Candidate> = hits.iter().enumerate().map(place).collect();
    places.sort_unstable();
    let sorted: Vec<Hit> = places.iter().map(|place| hits[place.node() as usize]).collect();
    hits.copy_from_slice(&sorted);
    sort_ties(hits, |hit| hit.score, |hit| video_id(hit.node));
}

/// Sorts each run of equal scores by video id. Few scores are equal, so that few ids are looked up.
fn sort_ties<T>(sorted: &mut [T], score: impl Fn(&T) -> f32, video_id: impl Fn(&T) -> VideoId) {
    for equal in sorted.chunk_by_mut(|a, b| score(a).total_cmp(&score(b)).is_eq()) {
        if equal.len() > 1 {
            equal.sort_unstable_by_key(&video_id);
        }
    }
}
