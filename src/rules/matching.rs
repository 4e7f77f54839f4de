//! Which nodes of an index a filter lets through.

use jiff::Timestamp;

use super::filter::Filter;
use super::match_error::MatchError;
use super::resolve::{Resolved, Tree, resolve};
use crate::attributes::{Columns, Postings, Words};
use crate::base::id::VideoId;
use crate::node_set::NodeSet;

/// Values that are looked up between two questions whether to go on.
const VALUES_AT_A_TIME: usize = 1_024;

/// The nodes for which `filter` holds at `now`.
///
/// `keep_going` is asked before every condition and every so many values.
///
/// # Errors
/// [`MatchError::Invalid`] if anything in the filter makes no sense on this index, whatever the rest of it;
/// [`MatchError::BuiltBeforeFilters`] on a generation of an older format; [`MatchError::Interrupted`] once
/// `keep_going` says no.
pub fn matching(
    filter: &Filter,
    columns: &Columns<'_>,
    now: Timestamp,
    keep_going: impl FnMut() -> bool,
) -> Result<NodeSet, MatchError> {
    let tree = resolve(filter, columns, now)?;
    Evaluation { columns: *columns, spare: Vec::new(), keep_going }.tree(&tree)
}

struct Evaluation<'a, F> {
    columns: Columns<'a>,
    /// Sets that are done with, to be used again: a filter over a million nodes touches its memory once.
    spare: Vec<NodeSet>,
    keep_going: F,
}

impl<F: FnMut() -> bool> Evaluation<'_, F> {
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

    /// The nodes for which `min` or more of the conditions hold; `min` is at least 1.
    fn at_least(&mut self, min: usize, conditions: &[Resolved<'_>]) -> Result<NodeSet, MatchError> {
        let mut reached = self.empty();
        // Bit b of what each node still lacks to reach 2^bits, counted up as sums are on paper.
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
        self.ask()?;
        match condition {
            Resolved::Tree(tree) => self.tree(tree),
            Resolved::Words { words, any_of, all_of } => self.words(words, any_of, all_of),
            Resolved::Range { sorted, positions } => {
                let mut set = self.any();
                sorted.fill(positions.clone(), &mut set);
                Ok(set)
            }
            Resolved::Bool { bools, value } => Ok(self.word(bools, Some(u32::from(*value)))),
            Resolved::IsNull { column } => {
                let mut set = self.any();
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
            for some in any_of.chunks(VALUES_AT_A_TIME) {
                let found = some.iter().filter_map(|word| words.find(word));
                found.for_each(|word| postings.add_to(word, &mut any));
                self.ask_between(some.len())?;
            }
            set = Some(any);
        }
        for word in all_of {
            self.ask()?;
            let found = self.word(&postings, words.find(word));
            self.narrow(&mut set, found);
        }
        Ok(set.unwrap_or_else(|| self.empty()))
    }

    fn word(&mut self, postings: &Postings<'_>, word: Option<u32>) -> NodeSet {
        let mut set = self.empty();
        if let Some(word) = word {
            postings.add_to(word, &mut set);
        }
        set
    }

    fn videos(&mut self, ids: &[VideoId]) -> Result<NodeSet, MatchError> {
        let mut set = self.empty();
        for some in ids.chunks(VALUES_AT_A_TIME) {
            self.columns.index().nodes_of(some, |node| set.insert(node.0));
            self.ask_between(some.len())?;
        }
        Ok(set)
    }

    fn narrow(&mut self, set: &mut Option<NodeSet>, found: NodeSet) {
        match set {
            None => *set = Some(found),
            Some(set) => {
                set.intersect(&found);
                self.spare.push(found);
            }
        }
    }

    /// A set of no nodes.
    fn empty(&mut self) -> NodeSet {
        match self.spare.pop() {
            Some(mut set) => {
                set.words_mut().fill(0);
                set
            }
            None => NodeSet::none(self.columns.index().len()),
        }
    }

    /// A set of any nodes.
    fn any(&mut self) -> NodeSet {
        self.spare.pop().unwrap_or_else(|| NodeSet::any(self.columns.index().len()))
    }

    fn ask_between(&mut self, values: usize) -> Result<(), MatchError> {
        if values == VALUES_AT_A_TIME { self.ask() } else { Ok(()) }
    }

    fn ask(&mut self) -> Result<(), MatchError> {
        if (self.keep_going)() { Ok(()) } else { Err(MatchError::Interrupted) }
    }
}
