//! The k best of a scan.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::hit::Hit;
use super::order::best_first;
use crate::base::id::{NodeId, VideoId};

/// Keeps the k best nodes of an index: larger scores first, equal scores by video id.
#[derive(Debug)]
pub struct TopK<'a> {
    ids: &'a [VideoId],
    k: usize,
    /// The worst kept node on top.
    heap: BinaryHeap<Scored>,
}

#[derive(Debug)]
struct Scored {
    node: NodeId,
    score: f32,
    video: VideoId,
}

impl<'a> TopK<'a> {
    /// Keeps `k` nodes of an index with these video `ids`, by node.
    pub fn new(k: usize, ids: &'a [VideoId]) -> Self {
        Self { ids, k, heap: BinaryHeap::with_capacity(k.min(ids.len()) + 1) }
    }

    /// The score below which no node is kept any more.
    pub fn threshold(&self) -> f32 {
        match self.heap.peek() {
            Some(worst) if self.heap.len() == self.k => worst.score,
            _ => f32::NEG_INFINITY,
        }
    }

    /// Keeps the node if it is among the best.
    ///
    /// # Panics
    /// If the node has no id.
    pub fn push(&mut self, node: NodeId, score: f32) {
        let scored = Scored { node, score, video: self.ids[node.index()] };
        if self.heap.len() < self.k {
            self.heap.push(scored);
        } else if self.heap.peek().is_some_and(|worst| scored < *worst) {
            self.heap.pop();
            self.heap.push(scored);
        }
    }

    /// The kept nodes, best first, of interest 0.
    pub fn into_sorted(self) -> Vec<Hit> {
        let hit = |scored: Scored| Hit { node: scored.node, score: scored.score, interest: 0 };
        self.heap.into_sorted_vec().into_iter().map(hit).collect()
    }
}

/// Best first: `Less` is better.
impl Ord for Scored {
    fn cmp(&self, other: &Self) -> Ordering {
        best_first((self.score, self.video), (other.score, other.video))
    }
}

impl PartialOrd for Scored {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scored {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scored {}
