//! Property tests: random filters and random text.

use std::hash::{DefaultHasher, Hash, Hasher};

use proptest::collection::vec;
use proptest::prelude::*;

use super::tests::{depth, must, parsed};
use crate::rules::filter::arbitrary::{any_filter, any_leaf};
use crate::rules::filter::conditions::{Condition, Filter};

/// Whether a filter matches a video whose conditions hold pseudo-randomly, by hash of the condition and `seed`.
fn holds(filter: &Filter, seed: u64) -> bool {
    let condition = |condition: &&Condition| match condition {
        Condition::Filter(filter) => holds(filter, seed),
        leaf => {
            let mut hasher = DefaultHasher::new();
            (format!("{leaf:?}"), seed).hash(&mut hasher);
            hasher.finish().is_multiple_of(2)
        }
    };
    let least = filter.min_should.unwrap_or(usize::from(!filter.should.is_empty()));
    filter.must.iter().all(|c| condition(&c))
        && filter.should.iter().filter(condition).count() >= least
        && !filter.must_not.iter().any(|c| condition(&c))
}

proptest! {
    #[test]
    fn text_of_a_filter_reads_as_one_that_means_the_same(filter in any_filter()) {
        let read: Filter = filter.to_string().parse().unwrap();
        for seed in 0..64 {
            prop_assert_eq!(holds(&filter, seed), holds(&read, seed), "{}", filter);
        }
        prop_assert!(depth(&read) <= depth(&filter), "{}", filter);
        // A filter that was parsed is printed and parsed without change.
        let again: Filter = read.to_string().parse().unwrap();
        prop_assert_eq!(again, read);
    }

    #[test]
    fn one_condition_comes_back_as_it_is(condition in any_leaf()) {
        let filter = must([condition]);
        prop_assert_eq!(parsed(&filter.to_string()), filter);
    }

    #[test]
    fn no_text_is_too_strange_to_be_refused(text in any::<String>()) {
        let _ = text.parse::<Filter>();
    }

    #[test]
    fn no_order_of_words_is_too_strange_to_be_refused(words in vec(prop_oneof![
        Just("("), Just(")"), Just(","), Just("="), Just("!="), Just("<"), Just(">="), Just("and"), Just("or"),
        Just("not"), Just("in"), Just("is"), Just("null"), Just("at"), Just("least"), Just("of"), Just("2"),
        Just("-7d"), Just("\"x\""), Just("a"), Just("`b`"), Just("video_id"), Just("contains"), Just("any"),
        Just("all"), Just("between"), Just("true"), Just("now"), Just("\\"), Just("\""),
    ], 0..20)) {
        if let Ok(filter) = words.join(" ").parse::<Filter>() {
            prop_assert_eq!(parsed(&filter.to_string()), filter);
        }
    }
}
