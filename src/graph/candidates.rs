//! The candidate list: one sorted buffer instead of two heaps.

/// A node and its score. The order is best first: larger scores first (by `f32::total_cmp`), equal scores by node.
///
/// Stored as one integer, so that comparisons are branch-free: the score in the upper half, mapped so that smaller is
/// better, then the node, then whether the node was expanded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate(u64);

const EXPANDED: u64 = 1;
/// Copies of a row have consecutive numbers, and a search meets most of them. Candidates of equal score whose numbers differ by
/// more are different rows.
const COPY_DISTANCE: u32 = 64;

impl Candidate {
    /// A scored node that is not expanded yet. `node < 2³¹`.
    #[inline]
    pub fn new(node: u32, score: f32) -> Self {
        debug_assert!(node < 1 << 31);
        Self(u64::from(!ascending(score.to_bits())) << 32 | u64::from(node) << 1)
    }

    /// The last candidate with this score: no candidate with an equal or better score comes after it.
    #[inline]
    pub fn last_of(score: f32) -> Self {
        Self(u64::from(!ascending(score.to_bits())) << 32 | u64::from(u32::MAX))
    }

    /// The node, or the slot in an upper layer.
    #[inline]
    pub fn node(&self) -> u32 {
        self.0 as u32 >> 1
    }

    /// Larger is better.
    #[inline]
    pub fn score(&self) -> f32 {
        f32::from_bits(descending(!((self.0 >> 32) as u32)))
    }

    /// Whether this candidate, which comes after `other`, is taken for a copy of it: it has the same score, and a number
    /// at most [`COPY_DISTANCE`] larger. A build numbers the copies of a row consecutively.
    fn is_copy_of(&self, other: &Self) -> bool {
        self.0.wrapping_sub(other.0) <= u64::from(COPY_DISTANCE) << 1
    }

    fn scores_as(&self, other: &Self) -> bool {
        (self.0 ^ other.0) >> 32 == 0
    }

    fn is_expanded(&self) -> bool {
        self.0 & EXPANDED != 0
    }
}

impl std::fmt::Debug for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.node(), self.score())
    }
}

/// Maps the bits of a float to an integer that grows with it, in the order of `f32::total_cmp`.
#[inline]
fn ascending(bits: u32) -> u32 {
    bits ^ ((bits as i32 >> 31) as u32 | 1 << 31)
}

/// The inverse of [`ascending`].
#[inline]
fn descending(ascending: u32) -> u32 {
    ascending ^ ((!ascending as i32 >> 31) as u32 | 1 << 31)
}

/// Drops all but the best `count`. The rest is in no particular order, but its worst candidate comes last if any was
/// dropped.
pub fn keep_best(candidates: &mut Vec<Candidate>, count: usize) {
    if count < candidates.len() {
        if count > 0 {
            candidates.select_nth_unstable(count - 1);
        }
        candidates.truncate(count);
    }
}

/// Drops all candidates that are worse than `last` and keeps the order of the others.
pub fn drop_worse(candidates: &mut Vec<Candidate>, last: Candidate) {
    // Branch-free: always store the candidate; advance `kept` only if it stays.
    let mut kept = 0;
    for at in 0..candidates.len() {
        let candidate = candidates[at];
        candidates[kept] = candidate;
        kept += usize::from(candidate <= last);
    }
    candidates.truncate(kept);
}

/// The candidate list: the best `capacity` (`ef_search`) candidates so far, best first, with a mark on those that were expanded.
///
/// Copies of a row must not push out candidates that lead elsewhere, so a copy of the candidate before it does not count towards
/// `capacity`. The list has at most `capacity` copies in addition.
#[derive(Debug, Default)]
pub struct CandidateList {
    entries: Vec<Candidate>,
    capacity: usize,
    /// Every entry before this position is expanded.
    next: usize,
    copies: ExpectedCopies,
    /// Whether the list has `capacity` candidates that are no copies.
    is_full: bool,
    /// Whether a candidate was dropped that scores more than the last entry.
    has_dropped: bool,
}

/// Which candidates may be copies of each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ExpectedCopies {
    /// None.
    #[default]
    None,
    /// Those of the same score whose numbers are near.
    Near,
    /// All of the same score: a filter left some of the copies, so that their numbers may be far apart.
    Anywhere,
}

/// With more entries than this per arrival, a binary search for each arrival is faster than a merge.
const FAR: usize = 12;

impl CandidateList {
    /// Empties the list and sets how many candidates it keeps.
    pub fn reset(&mut self, capacity: usize) {
        self.entries.clear();
        self.entries.reserve(capacity + 1);
        self.capacity = capacity;
        self.next = 0;
        (self.is_full, self.has_dropped) = (capacity == 0, false);
    }

    /// Sets which candidates may be copies, until the next call: looking for them takes time.
    pub(super) fn expect_copies(&mut self, copies: ExpectedCopies) {
        self.copies = copies;
    }

    /// How many candidates the list keeps, without copies.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The smallest score with which a new candidate enters the list. A score equal to the worst of a full list is not
    /// enough: among equal scores a search would go on to ever smaller nodes.
    #[inline]
    pub fn least(&self) -> f32 {
        if self.is_full {
            self.entries.last().map_or(f32::INFINITY, |worst| worst.score().next_up())
        } else {
            f32::NEG_INFINITY
        }
    }

    /// Inserts the candidate if it is among the best `capacity`.
    #[inline]
    pub fn insert(&mut self, candidate: Candidate) {
        let at = self.entries.partition_point(|entry| *entry < candidate);
        self.entries.insert(at, candidate);
        self.next = self.next.min(at);
        self.shorten();
    }

    /// Drops what is too much after insertions.
    #[inline]
    fn shorten(&mut self) {
        if self.entries.len() < self.capacity || self.capacity == 0 {
            return self.entries.truncate(self.capacity);
        }
        if self.copies != ExpectedCopies::None && self.has_copies() {
            self.shorten_copies();
        } else {
            self.entries.truncate(self.capacity);
            self.is_full = true;
        }
    }

    /// Whether any entry is a copy of the one before. Branch-free: few lists have copies, even where the index has some.
    fn has_copies(&self) -> bool {
        let pairs = self.entries.iter().zip(self.entries.iter().skip(1));
        match self.copies {
            ExpectedCopies::Anywhere => pairs.fold(false, |found, (one, next)| found | next.scores_as(one)),
            _ => pairs.fold(false, |found, (one, next)| found | next.is_copy_of(one)),
        }
    }

    #[cold]
    fn shorten_copies(&mut self) {
        let (mut kept, mut different, mut copies) = (0, 0, 0);
        let mut last: Option<Candidate> = None;
        let is_anywhere = self.copies == ExpectedCopies::Anywhere;
        for at in 0..self.entries.len() {
            let entry = self.entries[at];
            let is_crowded = copies == self.capacity;
            // The copies between two of a large group may have been dropped before.
            let is_copy = |last: Candidate| {
                entry.is_copy_of(&last) || (is_anywhere || is_crowded) && entry.scores_as(&last)
            };
            if last.replace(entry).is_some_and(is_copy) {
                if is_crowded {
                    self.has_dropped = true;
                    self.next = self.next.min(kept);
                    continue;
                }
                copies += 1;
            } else {
                if different == self.capacity {
                    break;
                }
                different += 1;
            }
            self.entries[kept] = entry;
            kept += 1;
        }
        self.entries.truncate(kept);
        // It stays full: of two candidates that counted, one may have become a copy of a third.
        self.is_full |= different == self.capacity;
    }

    /// Inserts the `arrivals`, given in any order, that are among the best `capacity`. Sorts `arrivals`.
    ///
    /// Every entry moves at most once, instead of once per arrival.
    #[inline]
    pub fn merge(&mut self, arrivals: &mut [Candidate]) {
        arrivals.sort_unstable();
        let (mut kept, mut arriving) = (self.entries.len(), arrivals.len());
        self.entries.resize(kept + arriving, Candidate(0));
        if kept > FAR * arriving {
            // Sparse arrivals: the entries between two of them move as one block.
            for arrival in arrivals.iter().rev() {
                let at = self.entries[..kept].partition_point(|entry| entry < arrival);
                self.entries.copy_within(at..kept, at + arriving);
                arriving -= 1;
                self.entries[at + arriving] = *arrival;
                kept = at;
            }
        }
        // From the back: the worse of the two last candidates goes to the last free position.
        while kept > 0 && arriving > 0 {
            let (entry, arrival) = (self.entries[kept - 1], arrivals[arriving - 1]);
            let stays = entry > arrival;
            self.entries[kept + arriving - 1] = if stays { entry } else { arrival };
            kept -= usize::from(stays);
            arriving -= usize::from(!stays);
        }
        self.entries[..arriving].copy_from_slice(&arrivals[..arriving]);
        self.next = self.next.min(kept);
        self.shorten();
    }

    /// Marks the best candidate that is not expanded yet as expanded and returns it.
    #[inline]
    pub fn expand_next(&mut self) -> Option<Candidate> {
        let best = self.peek_index()?;
        let entry = &mut self.entries[best];
        let candidate = *entry;
        entry.0 |= EXPANDED;
        self.next = best + 1;
        Some(candidate)
    }

    /// The nodes that the next `count` calls of [`Self::expand_next`] would return.
    pub fn peek(&self, count: usize) -> impl Iterator<Item = u32> {
        let rest = self.entries.get(self.next..).unwrap_or_default();
        rest.iter().filter(|entry| !entry.is_expanded()).take(count).map(Candidate::node)
    }

    /// Whether some visited node that is not in the list scores more than the last candidate of the list.
    pub fn has_dropped(&self) -> bool {
        self.has_dropped
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
        fn drops_those_that_score_less(scores in prop::collection::vec(-5i32..5, 0..100), least in -6i32..6) {
            let of = |score: &i32| *score as f32;
            let mut left: Vec<Candidate> =
                scores.iter().zip(0..).map(|(score, node)| Candidate::new(node, of(score))).collect();
            let expected: Vec<Candidate> = left.iter().filter(|one| one.score() >= of(&least)).copied().collect();
            drop_worse(&mut left, Candidate::last_of(of(&least)));
            prop_assert_eq!(left, expected);
        }

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
                scores.iter().zip(0..).map(|(score, at)| Candidate::new(1000 * at, *score as f32)).collect();
            for (turn, arrivals) in arrivals.chunks(chunk).enumerate() {
                match arrivals {
                    [one] => list.insert(*one),
                    several => list.merge(&mut several.to_vec()),
                }
                if turn % 3 == 0 && let Some(candidate) = list.expand_next() {
                    expanded.push(candidate.node());
                }
            }
            let mut kept: Vec<i32> = list.as_slice().iter().map(|c| c.score() as i32).collect();
            let mut expected = scores.clone();
            expected.sort_by(|a, b| b.cmp(a));
            expected.truncate(capacity);
            prop_assert_eq!(&kept, &expected);
            prop_assert!(!list.has_dropped());
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

    /// However many copies arrive, the list keeps as many other candidates as without them.
    #[test]
    fn copies_push_out_nothing_else() {
        let others = |from: u32| (from..from + 8).map(|at| Candidate::new(100_000 * (1 + at), -(at as f32)));
        // Consecutive numbers, and those that a filter left.
        let ways = [(ExpectedCopies::Near, 1), (ExpectedCopies::Anywhere, 500)];
        for (copies, (expected, step)) in
            [0, 1, 5, 8, 9, 500].into_iter().flat_map(|copies| ways.map(|way| (copies, way)))
        {
            let mut list = CandidateList::default();
            list.expect_copies(expected);
            list.reset(8);
            list.merge(&mut others(8).collect::<Vec<_>>());
            let of_one: Vec<Candidate> = (0..=copies).map(|at| Candidate::new(step * at, 0.5)).collect();
            for some in of_one.chunks(7) {
                list.merge(&mut some.to_vec());
            }
            list.merge(&mut others(0).collect::<Vec<_>>());
            let (same, rest): (Vec<_>, Vec<_>) = list.as_slice().iter().partition(|one| one.score() == 0.5);
            assert_eq!(same.len() as u32, 1 + copies.min(8), "{copies}");
            let rest: Vec<Candidate> = rest.into_iter().copied().collect();
            assert_eq!(rest, others(0).take(7).collect::<Vec<_>>(), "{copies}");
            assert_eq!(list.has_dropped(), copies > 8, "{copies}");
            assert_eq!(list.least(), (-6f32).next_up());
        }
    }

    /// A candidate between two of equal score may make the second of them a copy.
    #[test]
    fn a_full_list_stays_full() {
        let mut list = CandidateList::default();
        list.expect_copies(ExpectedCopies::Near);
        list.reset(2);
        list.merge(&mut [Candidate::new(0, 0.5), Candidate::new(100, 0.5)]);
        list.merge(&mut [Candidate::new(50, 0.5)]);
        assert_eq!(list.least(), 0.5f32.next_up());
    }
}
