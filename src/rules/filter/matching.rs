//! Computes the set of nodes that match a filter.

use jiff::Timestamp;

use super::conditions::Filter;
use super::error::MatchError;
use super::resolve::{Resolved, Tree, resolve};
use crate::attributes::{Columns, Postings, Words};
use crate::base::id::VideoId;
use crate::base::interrupt::Interrupt;
use crate::node_set::NodeSet;

/// Values that are looked up between two checks for an interruption.
const VALUES_PER_CHECK: usize = 1_024;

/// Returns the nodes that match `filter` at `now`.
///
/// Checks `interrupt` before every condition and after every 1,024 values.
///
/// # Errors
/// [`MatchError::Invalid`] if any part of the filter is invalid for this index, even one that would not change the
/// result; [`MatchError::BuiltBeforeFilters`] on a generation of an older format; [`MatchError::Interrupted`] if
/// interrupted.
pub fn matching(
    filter: &Filter,
    columns: &Columns<'_>,
    now: Timestamp,
    interrupt: &mut Interrupt<'_>,
) -> Result<NodeSet, MatchError> {
    let tree = resolve(filter, columns, now)?;
    Evaluation { columns: *columns, spare: Vec::new(), interrupt }.tree(&tree)
}

/// The evaluation of one filter.
struct Evaluation<'a, 'i> {
    columns: Columns<'a>,
    /// Sets that are no longer needed, for reuse: a filter over a million nodes then allocates little and stays in the
    /// cache.
    spare: Vec<NodeSet>,
    interrupt: &'a mut Interrupt<'i>,
}

/// Words of a request, looked up.
struct Distinct {
    /// The codes of those that a video has, ascending.
    known: Vec<u32>,
    /// Whether there are others.
    has_unknown: bool,
}

impl Evaluation<'_, '_> {
    fn tree(&mut self, tree: &Tree<'_>) -> Result<NodeSet, MatchError> {
        let mut set = None;
        for condition in &tree.must {
            let found = self.condition(condition)?;
            self.narrow(&mut set, found);
        }
        if tree.min_should > 0 {
            let found = self.at_least(tree.min_should, &tree.should)?;
            self.narrow(&mut set, found);
        }
        for condition in &tree.must_not {
            let mut found = self.condition(condition)?;
            match &mut set {
                Some(set) => {
                    set.subtract(&found);
                    self.spare.push(found);
                }
                None => {
                    found.invert();
                    set = Some(found);
                }
            }
        }
        Ok(set.unwrap_or_else(|| NodeSet::all(self.columns.index().len())))
    }

    /// The nodes for which at least `min` of the conditions hold; `min` is at least 1.
    fn at_least(&mut self, min: usize, conditions: &[Resolved<'_>]) -> Result<NodeSet, MatchError> {
        let mut reached = self.empty();
        // A bit-sliced counter per node: set b holds bit b of every count. Counts start at 2^bits − min, so the carry out
        // of the highest bit marks the nodes that reached `min`.
        let bits = min.next_power_of_two().trailing_zeros();
        let start = (1usize << bits) - min;
        let mut counts = Vec::new();
        for bit in 0..bits {
            let mut count = self.empty();
            if start >> bit & 1 != 0 {
                count.invert();
            }
            counts.push(count);
        }
        for condition in conditions {
            let mut carry = self.condition(condition)?;
            for count in &mut counts {
                for (count, carry) in count.words_mut().iter_mut().zip(carry.words_mut()) {
                    (*count, *carry) = (*count ^ *carry, *count & *carry);
                }
            }
            reached.unite(&carry);
            self.spare.push(carry);
        }
        self.spare.append(&mut counts);
        Ok(reached)
    }

    fn condition(&mut self, condition: &Resolved<'_>) -> Result<NodeSet, MatchError> {
        self.check()?;
        match condition {
            Resolved::Tree(tree) => self.tree(tree),
            Resolved::Words { words, any_of, all_of } => self.words(words, any_of, all_of),
            Resolved::Range { sorted, positions } => {
                let mut set = self.uninitialized();
                sorted.fill(positions.clone(), &mut set);
                Ok(set)
            }
            Resolved::Bool { bools, value } => Ok(self.word(bools, u32::from(*value))),
            Resolved::IsNull { column } => {
                let mut set = self.uninitialized();
                self.columns.fill_with_valued(*column, &mut set);
                set.invert();
                Ok(set)
            }
            Resolved::Videos(ids) => self.videos(ids),
        }
    }

    fn words(
        &mut self,
        words: &Words<'_>,
        any_of: &[String],
        all_of: &[String],
    ) -> Result<NodeSet, MatchError> {
        let postings = words.postings();
        let mut set = None;
        if !any_of.is_empty() {
            let mut any = self.empty();
            let found = self.distinct(words, any_of)?;
            for chunk in found.known.chunks(VALUES_PER_CHECK) {
                chunk.iter().for_each(|word| postings.add_to(*word, &mut any));
                self.check_between(chunk.len())?;
            }
            set = Some(any);
        }
        if !all_of.is_empty() {
            let found = self.distinct(words, all_of)?;
            if found.has_unknown {
                return Ok(self.empty());
            }
            for word in found.known {
                self.check()?;
                let found = self.word(&postings, word);
                self.narrow(&mut set, found);
                if set.as_ref().is_some_and(NodeSet::is_empty) {
                    break;
                }
            }
        }
        Ok(set.unwrap_or_else(|| self.empty()))
    }

    /// The distinct words among `texts`. A request may repeat a word any number of times, and a word of many nodes takes
    /// long.
    fn distinct(&mut self, words: &Words<'_>, texts: &[String]) -> Result<Distinct, MatchError> {
        let mut known = Vec::new();
        for chunk in texts.chunks(VALUES_PER_CHECK) {
            known.extend(chunk.iter().filter_map(|text| words.find(text)));
            self.check_between(chunk.len())?;
        }
        let has_unknown = known.len() < texts.len();
        known.sort_unstable();
        known.dedup();
        Ok(Distinct { known, has_unknown })
    }

    fn word(&mut self, postings: &Postings<'_>, word: u32) -> NodeSet {
        let mut set = self.empty();
        postings.add_to(word, &mut set);
        set
    }

    fn videos(&mut self, ids: &[VideoId]) -> Result<NodeSet, MatchError> {
        let mut set = self.empty();
        for chunk in ids.chunks(VALUES_PER_CHECK) {
            self.columns.index().nodes_of(chunk, |node| set.insert(node.0));
            self.check_between(chunk.len())?;
        }
        Ok(set)
    }

    /// Intersects `set` with `found`; `None` is the set of all nodes.
    fn narrow(&mut self, set: &mut Option<NodeSet>, found: NodeSet) {
        match set {
            None => *set = Some(found),
            Some(set) => {
                set.intersect(&found);
                self.spare.push(found);
            }
        }
    }

    /// Returns an empty set.
    fn empty(&mut self) -> NodeSet {
        match self.spare.pop() {
            Some(mut set) => {
                set.words_mut().fill(0);
                set
            }
            None => NodeSet::none(self.columns.index().len()),
        }
    }

    /// Returns a set with arbitrary content, to be overwritten.
    fn uninitialized(&mut self) -> NodeSet {
        self.spare.pop().unwrap_or_else(|| NodeSet::any(self.columns.index().len()))
    }

    fn check_between(&mut self, values: usize) -> Result<(), MatchError> {
        if values == VALUES_PER_CHECK { self.check() } else { Ok(()) }
    }

    fn check(&mut self) -> Result<(), MatchError> {
        if self.interrupt.should_stop() { Err(MatchError::Interrupted) } else { Ok(()) }
    }
}
