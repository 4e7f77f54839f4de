//! The candidate list: one sorted buffer instead of two heaps.

/// A node and its score. The top bit of the stored node remembers that it was expanded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Larger is better.
    pub score: f32,
    tagged: u32,
}

const EXPANDED: u32 = 1 << 31;

impl Candidate {
    /// A node that was scored and not yet expanded.
    pub fn new(node: u32, score: f32) -> Self {
        debug_assert!(node & EXPANDED == 0);
        Self { score, tagged: node }
    }

    /// The node, or the slot in an upper layer.
    #[inline]
    pub fn node(&self) -> u32 {
        self.tagged & !EXPANDED
    }

    fn is_expanded(&self) -> bool {
        self.tagged & EXPANDED != 0
    }
}

/// The best `capacity` candidates seen, best first, and which of them were expanded.
#[derive(Debug, Default)]
pub struct CandidateList {
    entries: Vec<Candidate>,
    capacity: usize,
    /// Every entry before this one was expanded.
    next: usize,
}

impl CandidateList {
    /// An empty list that keeps `capacity` candidates.
    pub fn with_capacity(capacity: usize) -> Self {
        let mut list = Self::default();
        list.reset(capacity);
        list
    }

    /// Empties the list and sets how many candidates it keeps (`ef`).
    pub fn reset(&mut self, capacity: usize) {
        self.entries.clear();
        self.entries.reserve(capacity + 1);
        self.capacity = capacity;
        self.next = 0;
    }

    /// The score a new candidate must exceed to be kept.
    #[inline]
    pub fn threshold(&self) -> f32 {
        if self.entries.len() < self.capacity {
            f32::NEG_INFINITY
        } else {
            self.entries.last().map_or(f32::INFINITY, |worst| worst.score)
        }
    }

    /// Keeps the candidate if it is among the best `capacity`. Equal scores stay in order of arrival.
    #[inline]
    pub fn insert(&mut self, candidate: Candidate) {
        if self.entries.len() == self.capacity {
            if candidate.score <= self.threshold() {
                return;
            }
            self.entries.pop();
        }
        let at = self.entries.partition_point(|entry| entry.score >= candidate.score);
        self.entries.insert(at, candidate);
        self.next = self.next.min(at);
    }

    /// Takes the best candidate that was not expanded yet and marks it.
    #[inline]
    pub fn expand_next(&mut self) -> Option<Candidate> {
        let best = self.peek_index()?;
        let entry = &mut self.entries[best];
        let candidate = *entry;
        entry.tagged |= EXPANDED;
        self.next = best + 1;
        Some(candidate)
    }

    /// The node that [`Self::expand_next`] would take.
    #[inline]
    pub fn peek_next(&self) -> Option<u32> {
        self.peek_index().map(|index| self.entries[index].tagged)
    }

    /// Puts `candidates` in the place of those there are, best first.
    pub fn replace(&mut self, candidates: impl Iterator<Item = Candidate>) {
        self.entries.clear();
        self.entries.extend(candidates);
        self.entries.sort_by(|a, b| b.score.total_cmp(&a.score));
        self.next = 0;
    }

    /// The candidates, best first.
    pub fn as_slice(&self) -> &[Candidate] {
        &self.entries
    }

    #[inline]
    fn peek_index(&self) -> Option<usize> {
        let rest = self.entries.get(self.next..)?;
        rest.iter().position(|entry| !entry.is_expanded()).map(|offset| self.next + offset)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keeps_the_best_and_expands_each_once(
            scores in prop::collection::vec(-50i32..50, 0..200),
            capacity in 1usize..40,
        ) {
            let mut list = CandidateList::default();
            list.reset(capacity);
            let mut expanded = Vec::new();
            for (node, score) in scores.iter().enumerate() {
                list.insert(Candidate::new(node as u32, *score as f32));
                if node % 3 == 0 && let Some(candidate) = list.expand_next() {
                    expanded.push(candidate.node());
                }
            }
            let mut kept: Vec<i32> = list.as_slice().iter().map(|c| c.score as i32).collect();
            let mut expected = scores.clone();
            expected.sort_by(|a, b| b.cmp(a));
            expected.truncate(capacity);
            prop_assert_eq!(&kept, &expected);
            while let Some(candidate) = list.expand_next() {
                expanded.push(candidate.node());
            }
            kept.clear();
            let mut unique = expanded.clone();
            unique.sort_unstable();
            unique.dedup();
            prop_assert_eq!(unique.len(), expanded.len());
            for candidate in list.as_slice() {
                prop_assert!(unique.binary_search(&candidate.node()).is_ok());
            }
        }
    }
}
