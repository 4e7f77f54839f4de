//! The property tests of rules, against a router over four shards.

use crate::rules::dataset::RuledDataset;
use crate::rules::oracle;

#[test]
fn exact_answers_are_those_of_a_look_at_every_video() {
    oracle::check_exact_answers(RuledDataset::routed);
}

#[test]
fn no_answer_breaks_a_rule_or_is_short_whatever_the_plan() {
    oracle::check_every_plan(RuledDataset::routed);
}

#[test]
fn pages_are_of_one_order() {
    oracle::check_pages(RuledDataset::routed);
}
