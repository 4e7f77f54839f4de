//! The k best of a scan, in a total order.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::searcher::Hit;
use crate::base::id::VideoId;

/// Keeps the k best hits: larger scores first, equal scores by video id.
#[derive(Debug)]
pub struct TopK<'a> {
    ids: &'a [VideoId],
    k: usize,
    /// The worst of those kept on top.
    heap: BinaryHeap<Ranked>,
}

#[derive(Debug)]
struct Ranked {
    hit: Hit,
    video: VideoId,
}

impl<'a> TopK<'a> {
    /// Keeps `k` hits of an index with these `ids`, by node.
    pub fn new(k: usize, ids: &'a [VideoId]) -> Self {
        Self { ids, k, heap: BinaryHeap::with_capacity(k.min(ids.len()) + 1) }
    }

    /// The score below which nothing is kept any more.
    pub fn threshold(&self) -> f32 {
        match self.heap.peek() {
            Some(worst) if self.heap.len() == self.k => worst.hit.score,
            _ => f32::NEG_INFINITY,
        }
    }

    /// Keeps the hit if it is among the best.
    ///
    /// # Panics
    /// If its node has no id.
    pub fn push(&mut self, hit: Hit) {
        let ranked = Ranked { hit, video: self.ids[hit.node.index()] };
        if self.heap.len() < self.k {
            self.heap.push(ranked);
        } else if self.heap.peek().is_some_and(|worst| ranked < *worst) {
            self.heap.pop();
            self.heap.push(ranked);
        }
    }

    /// The hits, best first.
    pub fn into_sorted(self) -> Vec<Hit> {
        self.heap.into_sorted_vec().into_iter().map(|ranked| ranked.hit).collect()
    }
}

/// Best first: `Less` is better.
impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        other.hit.score.total_cmp(&self.hit.score).then(self.video.cmp(&other.video))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Ranked {}
