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
    /// Only this many, the best, are expanded once the list is full.
    expanded: usize,
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
        self.expanded = capacity;
        self.next = 0;
    }

    /// Lets only the best `count` be expanded once the list is full; the others are kept as they are.
    pub fn expand_only(&mut self, count: usize) {
        self.expanded = count.min(self.capacity);
    }

    /// How many candidates are expanded.
    pub fn expanded(&self) -> usize {
        self.expanded
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

    /// Keeps of `arrivals`, in any order, those that are among the best `capacity`; of equal scores, those
    /// that were there first. `arrivals` is left in order of score.
    ///
    /// All at once: what is behind them moves one time, not once for each.
    #[inline]
    pub fn merge(&mut self, arrivals: &mut [Candidate]) {
        arrivals.sort_unstable_by(|a, b| b.score.total_cmp(&a.score));
        let mut end = self.entries.len();
        self.entries.resize(end + arrivals.len(), Candidate::new(0, 0.0));
        for (position, arrival) in arrivals.iter().enumerate().rev() {
            let at = self.entries[..end].partition_point(|entry| entry.score >= arrival.score);
            self.entries.copy_within(at..end, at + position + 1);
            self.entries[at + position] = *arrival;
            end = at;
        }
        self.entries.truncate(self.capacity);
        self.next = self.next.min(end);
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

    /// The nodes that the next `count` calls of [`Self::expand_next`] would take.
    pub fn peek(&self, count: usize) -> impl Iterator<Item = u32> {
        let rest = self.entries.get(self.next..self.open()).unwrap_or_default();
        rest.iter().filter(|entry| !entry.is_expanded()).take(count).map(Candidate::node)
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

    /// How many entries, from the first on, may be expanded: all while there is room for more, so that a list
    /// is filled wherever there is enough to fill it.
    #[inline]
    fn open(&self) -> usize {
        if self.entries.len() < self.capacity { self.entries.len() } else { self.expanded }
    }

    #[inline]
    fn peek_index(&self) -> Option<usize> {
        let rest = self.entries.get(self.next..self.open())?;
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
            chunk in 1usize..8,
        ) {
            let mut list = CandidateList::default();
            list.reset(capacity);
            let mut expanded = Vec::new();
            let arrivals: Vec<Candidate> =
                scores.iter().zip(0..).map(|(score, node)| Candidate::new(node, *score as f32)).collect();
            for (turn, arrivals) in arrivals.chunks(chunk).enumerate() {
                match arrivals {
                    [one] => list.insert(*one),
                    several => list.merge(&mut several.to_vec()),
                }
                if turn % 3 == 0 && let Some(candidate) = list.expand_next() {
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
