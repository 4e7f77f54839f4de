//! The matches of the filters that requests repeat.
//!
//! What flows in: the filter of a request. What flows out: the nodes of the base segment that match it, found once for all
//! requests with an equal filter, as those of a batch or of one surface of an app often have. A filter is kept when it is seen
//! for the second time: those that are seen once would only take the place of others.

use std::hash::{Hash as _, Hasher as _};
use std::mem::{discriminant, size_of_val};
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxHasher;

use crate::node_set::{CountedSet, NodeSet};
use crate::rules::{Condition, Filter, Number, Time};

/// How many filters are kept. Their matches take 2 bytes per video together.
const KEPT: usize = 16;
/// How many filters are remembered to have been seen once.
const SEEN: usize = 64;
/// A filter whose words, names and ids have more bytes is not kept: long ones are rarely repeated, and cost more to copy and
/// compare.
const MAX_FILTER_BYTES: usize = 1 << 10;

/// The nodes that match a filter, tombstones included.
pub(crate) type Matches = CountedSet<Arc<NodeSet>>;

/// The last filters of the requests to one generation.
#[derive(Debug, Default)]
pub(crate) struct RecentMatches(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    /// The last used comes last.
    kept: Vec<(Filter, Matches)>,
    /// Fingerprints of the filters that were seen last and are not kept, the oldest first.
    seen: Vec<u64>,
}

impl RecentMatches {
    /// Returns the matches of a filter: those that are kept, or else what `find` returns.
    pub(crate) fn of<E>(
        &self,
        filter: &Filter,
        find: impl FnOnce() -> Result<NodeSet, E>,
    ) -> Result<Matches, E> {
        let Some(fingerprint) = fingerprint(filter) else { return find().map(counted) };
        let known = self.0.lock().known(filter);
        if let Some(known) = known {
            return Ok(known);
        }
        let found = counted(find()?);
        self.0.lock().add(filter, fingerprint, &found);
        Ok(found)
    }
}

impl Recent {
    fn known(&mut self, filter: &Filter) -> Option<Matches> {
        let at = self.kept.iter().rposition(|(known, _)| known == filter)?;
        self.kept[at..].rotate_left(1);
        self.kept.last().map(|(_, matches)| matches.clone())
    }

    fn add(&mut self, filter: &Filter, fingerprint: u64, found: &Matches) {
        let Some(at) = self.seen.iter().position(|seen| *seen == fingerprint) else {
            if self.seen.len() == SEEN {
                self.seen.remove(0);
            }
            self.seen.push(fingerprint);
            return;
        };
        // Another request may have added it in the meantime.
        if self.kept.iter().all(|(known, _)| known != filter) {
            self.seen.remove(at);
            if self.kept.len() == KEPT {
                self.kept.remove(0);
            }
            self.kept.push((filter.clone(), found.clone()));
        }
    }
}

/// Counts the matches of a filter.
pub(crate) fn counted(nodes: NodeSet) -> Matches {
    CountedSet { count: nodes.count(), nodes: Arc::new(nodes) }
}

/// A number that equal filters share, and others hardly ever. `None` for a filter that is large, or that matches other videos at
/// another time.
fn fingerprint(filter: &Filter) -> Option<u64> {
    let (mut bytes, mut is_timeless, mut hasher) = (0, true, FxHasher::default());
    filter.each_condition(&mut |condition| {
        bytes += size_of_val(condition);
        discriminant(condition).hash(&mut hasher);
        let mut word = |word: &String| {
            bytes += word.len();
            if bytes <= MAX_FILTER_BYTES {
                word.hash(&mut hasher);
            }
        };
        match condition {
            Condition::Keyword { attribute, any_of } => {
                [attribute].into_iter().chain(any_of).for_each(word);
            }
            Condition::List { attribute, any_of, all_of } => {
                [attribute].into_iter().chain(any_of).chain(all_of).for_each(word);
            }
            Condition::Time { attribute, lower, upper } => {
                word(attribute);
                for bound in [lower, upper] {
                    match bound {
                        Bound::Included(Time::At(time)) | Bound::Excluded(Time::At(time)) => {
                            time.as_nanosecond().hash(&mut hasher);
                        }
                        Bound::Included(Time::Ago(_)) | Bound::Excluded(Time::Ago(_)) => is_timeless = false,
                        Bound::Unbounded => {}
                    }
                }
            }
            Condition::Number { attribute, lower, upper } => {
                word(attribute);
                for bound in [lower, upper] {
                    if let Bound::Included(number) | Bound::Excluded(number) = bound {
                        match number {
                            Number::Int64(value) => value.hash(&mut hasher),
                            Number::Uint64(value) => value.hash(&mut hasher),
                            // Zeros of both signs are equal.
                            Number::Double(value) => (value + 0.0).to_bits().hash(&mut hasher),
                        }
                    }
                }
            }
            Condition::Bool { attribute, value } => {
                word(attribute);
                value.hash(&mut hasher);
            }
            Condition::IsNull { attribute } => word(attribute),
            Condition::VideoId { any_of } => {
                bytes += size_of_val(any_of.as_slice());
                any_of.hash(&mut hasher);
            }
            Condition::Filter(_) => {}
        }
    });
    (is_timeless && bytes <= MAX_FILTER_BYTES).then(|| hasher.finish())
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
    fn the_filters_that_were_repeated_last_are_kept() {
        let recent = RecentMatches::default();
        for number in 0..KEPT {
            assert!(is_found(&recent, &filter(number)));
            assert!(is_found(&recent, &filter(number)), "kept when it is seen again");
        }
        assert!(!is_found(&recent, &filter(0)));
        // Filters that are not repeated take no place, and are forgotten.
        for number in KEPT..KEPT + 2 * SEEN {
            assert!(is_found(&recent, &filter(number)));
        }
        assert!(is_found(&recent, &filter(KEPT)));
        assert!(!is_found(&recent, &filter(0)) && !is_found(&recent, &filter(2)));
        // Takes the place of number 1, which was not used for the longest time.
        assert!(is_found(&recent, &filter(KEPT)));
        assert!(!is_found(&recent, &filter(0)) && !is_found(&recent, &filter(KEPT)));
        assert!(is_found(&recent, &filter(1)));
        let state = recent.0.lock();
        assert_eq!((state.kept.len(), state.seen.len()), (KEPT, SEEN));
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
            assert!((0..3).all(|_| is_found(&recent, &filter)), "{filter:?}");
        }
    }

    #[test]
    fn errors_are_not_kept() {
        let recent = RecentMatches::default();
        assert_eq!(recent.of(&filter(1), || Err("interrupted")), Err("interrupted"));
        assert!(is_found(&recent, &filter(1)));
    }
}
