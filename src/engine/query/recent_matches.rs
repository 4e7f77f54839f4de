//! The matches of the filters that requests used last.
//!
//! What flows in: the filter of a request. What flows out: the nodes of the base segment that match it, found once for all
//! requests with an equal filter, as those of a batch or of one surface of an app often have.

use std::mem::size_of_val;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::node_set::{CountedSet, NodeSet};
use crate::rules::{Condition, Filter, Time};

/// How many filters are kept. Their matches take 2 bytes per video together.
const KEPT: usize = 16;
/// A filter whose words, names and ids have more bytes is not kept: long ones are rarely repeated, and cost more to copy and
/// compare.
const MAX_FILTER_BYTES: usize = 1 << 10;

/// The nodes that match a filter, tombstones included.
pub(crate) type Matches = CountedSet<Arc<NodeSet>>;

/// The last filters of the requests to one generation.
#[derive(Debug, Default)]
pub(crate) struct RecentMatches {
    /// The last used comes last.
    kept: Mutex<Vec<(Filter, Matches)>>,
}

impl RecentMatches {
    /// Returns the matches of a filter: those that are kept, or else what `find` returns.
    pub(crate) fn of<E>(
        &self,
        filter: &Filter,
        find: impl FnOnce() -> Result<NodeSet, E>,
    ) -> Result<Matches, E> {
        if !may_be_kept(filter) {
            return find().map(counted);
        }
        if let Some(known) = self.known(filter) {
            return Ok(known);
        }
        let (found, filter) = (counted(find()?), filter.clone());
        let mut kept = self.kept.lock();
        // Another request may have found them in the meantime.
        if kept.iter().all(|(known, _)| *known != filter) {
            if kept.len() == KEPT {
                kept.remove(0);
            }
            kept.push((filter, found.clone()));
        }
        Ok(found)
    }

    fn known(&self, filter: &Filter) -> Option<Matches> {
        let mut kept = self.kept.lock();
        let at = kept.iter().rposition(|(known, _)| known == filter)?;
        kept[at..].rotate_left(1);
        kept.last().map(|(_, matches)| matches.clone())
    }
}

/// Counts the matches of a filter.
pub(crate) fn counted(nodes: NodeSet) -> Matches {
    CountedSet { count: nodes.count(), nodes: Arc::new(nodes) }
}

/// Whether a filter is small, and matches the same videos at any time.
fn may_be_kept(filter: &Filter) -> bool {
    let (mut bytes, mut is_timeless) = (0, true);
    filter.each_condition(&mut |condition| {
        let of_words = |words: &[String]| words.iter().map(String::len).sum::<usize>();
        bytes += size_of_val(condition);
        bytes += match condition {
            Condition::Keyword { attribute, any_of } => attribute.len() + of_words(any_of),
            Condition::List { attribute, any_of, all_of } => {
                attribute.len() + of_words(any_of) + of_words(all_of)
            }
            Condition::Time { attribute, lower, upper } => {
                let is_relative = |bound: &Bound<Time>| {
                    matches!(bound, Bound::Included(Time::Ago(_)) | Bound::Excluded(Time::Ago(_)))
                };
                is_timeless &= !is_relative(lower) && !is_relative(upper);
                attribute.len()
            }
            Condition::Number { attribute, .. }
            | Condition::Bool { attribute, .. }
            | Condition::IsNull { attribute } => attribute.len(),
            Condition::VideoId { any_of } => size_of_val(any_of.as_slice()),
            Condition::Filter(_) => 0,
        };
    });
    is_timeless && bytes <= MAX_FILTER_BYTES
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn filter(number: usize) -> Filter {
        let word = Condition::Keyword { attribute: "region".into(), any_of: vec![number.to_string()] };
        Filter { must: vec![word], ..Filter::default() }
    }

    /// Looks up the matches of a filter; returns whether they were found anew.
    fn is_found(recent: &RecentMatches, filter: &Filter) -> bool {
        let mut is_found = false;
        let matches = recent.of(filter, || {
            is_found = true;
            Ok::<_, ()>(NodeSet::all(70))
        });
        assert_eq!(matches.unwrap(), counted(NodeSet::all(70)));
        is_found
    }

    #[test]
    fn the_filters_that_were_used_last_are_kept() {
        let recent = RecentMatches::default();
        for number in 0..KEPT {
            assert!(is_found(&recent, &filter(number)));
        }
        assert!(!is_found(&recent, &filter(0)));
        // Takes the place of number 1, which was not used for the longest time.
        assert!(is_found(&recent, &filter(KEPT)));
        assert!(!is_found(&recent, &filter(0)));
        assert!(is_found(&recent, &filter(1)));
        assert_eq!(recent.kept.lock().len(), KEPT);
    }

    #[test]
    fn filters_that_depend_on_the_time_or_are_large_are_not_kept() {
        let time = |lower, upper| Condition::Time { attribute: "uploaded".into(), lower, upper };
        let ago = Time::Ago(SignedDuration::from_hours(1));
        let nested = |condition| Filter {
            must_not: vec![Condition::Filter(Filter { should: vec![condition], ..Filter::default() })],
            ..Filter::default()
        };
        let large =
            Condition::Keyword { attribute: "region".into(), any_of: vec!["x".repeat(MAX_FILTER_BYTES)] };
        let recent = RecentMatches::default();
        for condition in [
            time(Bound::Included(ago), Bound::Unbounded),
            time(Bound::Unbounded, Bound::Excluded(ago)),
            large,
        ] {
            let filter = nested(condition);
            assert!(is_found(&recent, &filter) && is_found(&recent, &filter), "{filter:?}");
        }
    }

    #[test]
    fn errors_are_not_kept() {
        let recent = RecentMatches::default();
        assert_eq!(recent.of(&filter(1), || Err("interrupted")), Err("interrupted"));
        assert!(is_found(&recent, &filter(1)));
    }
}
