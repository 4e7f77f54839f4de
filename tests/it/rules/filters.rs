//! Filters against a scan of every value of every video, and refused filters.

use std::collections::BTreeSet;
use std::ops::{Bound, RangeBounds};
use std::path::Path;

use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use shortlist::attributes::{Columns, Value};
use shortlist::base::id::{NodeId, VideoId};
use shortlist::base::interrupt::Interrupt;
use shortlist::index::Index;
use shortlist::rules::{Condition, Filter, MatchError, Number, Time, matching};

use crate::harness::typed::{now, random_filter, typed_index};

fn filter_holds(filter: &Filter, columns: &Columns<'_>, node: NodeId) -> bool {
    let holds = |condition: &&Condition| condition_holds(condition, columns, node);
    let least = filter.min_should.unwrap_or(filter.should.len().min(1));
    filter.must.iter().all(|condition| holds(&condition))
        && filter.should.iter().filter(holds).count() >= least
        && !filter.must_not.iter().any(|condition| holds(&condition))
}

fn condition_holds(condition: &Condition, columns: &Columns<'_>, node: NodeId) -> bool {
    let value = |attribute: &str| columns.value(columns.find(attribute).unwrap(), node);
    match condition {
        Condition::Filter(filter) => filter_holds(filter, columns, node),
        Condition::Keyword { attribute, any_of } => {
            matches!(value(attribute), Some(Value::Keyword(word)) if any_of.contains(&word))
        }
        Condition::List { attribute, any_of, all_of } => match value(attribute) {
            Some(Value::KeywordList(list)) => {
                (any_of.is_empty() || any_of.iter().any(|word| list.contains(word)))
                    && all_of.iter().all(|word| list.contains(word))
            }
            _ => false,
        },
        Condition::Number { attribute, lower, upper } => match value(attribute) {
            Some(value) if !is_nan(&value) => {
                let above = match lower {
                    Bound::Included(bound) => !less(&value, bound),
                    Bound::Excluded(bound) => greater(&value, bound),
                    Bound::Unbounded => true,
                };
                let below = match upper {
                    Bound::Included(bound) => !greater(&value, bound),
                    Bound::Excluded(bound) => less(&value, bound),
                    Bound::Unbounded => true,
                };
                above && below
            }
            _ => false,
        },
        Condition::Time { attribute, lower, upper } => match value(attribute) {
            Some(Value::Timestamp(time)) => (lower.map(at), upper.map(at)).contains(&time.as_nanosecond()),
            _ => false,
        },
        Condition::Bool { attribute, value: expected } => value(attribute) == Some(Value::Bool(*expected)),
        Condition::IsNull { attribute } => value(attribute).is_none(),
        Condition::VideoId { any_of } => any_of.contains(&columns.index().video_ids()[node.index()]),
    }
}

fn at(time: Time) -> i128 {
    match time {
        Time::At(time) => time.as_nanosecond(),
        Time::Ago(ago) => now().as_nanosecond() - ago.as_nanos(),
    }
}

fn is_nan(value: &Value) -> bool {
    matches!(value, Value::Double(value) if value.is_nan())
}

fn less(value: &Value, bound: &Number) -> bool {
    match (integer(value), bound) {
        (Ok(value), Number::Int64(bound)) => value < i128::from(*bound),
        (Ok(value), Number::Uint64(bound)) => value < i128::from(*bound),
        (Ok(value), Number::Double(bound)) => value < bound.ceil() as i128,
        (Err(value), Number::Int64(bound)) => (value.floor() as i128) < i128::from(*bound),
        (Err(value), Number::Uint64(bound)) => (value.floor() as i128) < i128::from(*bound),
        (Err(value), Number::Double(bound)) => value < *bound,
    }
}

fn greater(value: &Value, bound: &Number) -> bool {
    match (integer(value), bound) {
        (Ok(value), Number::Int64(bound)) => value > i128::from(*bound),
        (Ok(value), Number::Uint64(bound)) => value > i128::from(*bound),
        (Ok(value), Number::Double(bound)) => value > bound.floor() as i128,
        (Err(value), Number::Int64(bound)) => value.ceil() as i128 > i128::from(*bound),
        (Err(value), Number::Uint64(bound)) => value.ceil() as i128 > i128::from(*bound),
        (Err(value), Number::Double(bound)) => value > *bound,
    }
}

fn integer(value: &Value) -> Result<i128, f64> {
    match value {
        Value::Int64(value) => Ok((*value).into()),
        Value::Uint64(value) => Ok((*value).into()),
        Value::Double(value) => Err(*value),
        other => panic!("{other} is no number"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_filter_lets_through_what_a_look_at_every_value_does(rows in 1usize..200, seed in any::<u64>()) {
        let (_folder, index) = typed_index(rows, seed);
        let columns = Columns::open(&index).unwrap();
        columns.verify().unwrap();
        let mut random = ChaCha8Rng::seed_from_u64(seed ^ 1);
        for _ in 0..100 {
            let filter = random_filter(&mut random, 3);
            let found = matching(&filter, &columns, now(), &mut Interrupt::never()).unwrap();
            let nodes = (0..rows as u32).filter(|node| filter_holds(&filter, &columns, NodeId(*node)));
            let expected: BTreeSet<u32> = nodes.collect();
            prop_assert_eq!(found.iter().collect::<BTreeSet<u32>>(), expected, "{:?}", filter);
            prop_assert_eq!((found.nodes(), found.count()), (rows, found.iter().count()));
        }
    }
}

fn must(condition: Condition) -> Filter {
    Filter { must: vec![condition], ..Filter::default() }
}

fn keyword(attribute: &str, any_of: &[&str]) -> Condition {
    let any_of = any_of.iter().map(|word| (*word).to_owned()).collect();
    Condition::Keyword { attribute: attribute.to_owned(), any_of }
}

fn list(attribute: &str, any_of: &[&str], all_of: &[&str]) -> Condition {
    let [any_of, all_of] =
        [any_of, all_of].map(|words| words.iter().map(|word| (*word).to_owned()).collect());
    Condition::List { attribute: attribute.to_owned(), any_of, all_of }
}

fn number(attribute: &str, lower: Bound<Number>, upper: Bound<Number>) -> Condition {
    Condition::Number { attribute: attribute.to_owned(), lower, upper }
}

fn time(attribute: &str, lower: Bound<Time>, upper: Bound<Time>) -> Condition {
    Condition::Time { attribute: attribute.to_owned(), lower, upper }
}

fn safe() -> Condition {
    Condition::Bool { attribute: "bool".to_owned(), value: true }
}

/// A condition nested in filters, the outermost included in the depth.
fn nested(filters: usize) -> Filter {
    (1..filters).fold(must(safe()), |inner, _| must(Condition::Filter(inner)))
}

/// The error of a filter, if it is refused.
fn refusal(filter: &Filter) -> Result<(), String> {
    thread_local!(static INDEX: (tempfile::TempDir, Index) = typed_index(40, 1));
    INDEX.with(|(_, index)| {
        let columns = Columns::open(index).unwrap();
        match matching(filter, &columns, now(), &mut Interrupt::never()) {
            Ok(_) => Ok(()),
            Err(error @ MatchError::Invalid { .. }) => Err(error.to_string()),
            Err(other) => panic!("{other}"),
        }
    })
}

#[test]
fn a_condition_on_an_unknown_attribute_names_the_known_ones() {
    let expected = "no attribute \"color\": expected one of keyword, list, int64, uint64, double, bool, time";
    let one = Bound::Included(Number::Int64(1));
    let then = Bound::Excluded(Time::At(now().into()));
    for (name, condition) in [
        ("keyword", keyword("color", &["a"])),
        ("list", list("color", &["a"], &[])),
        ("number", number("color", one, Bound::Unbounded)),
        ("time", time("color", Bound::Unbounded, then)),
        ("bool", Condition::Bool { attribute: "color".to_owned(), value: false }),
        ("is_null", Condition::IsNull { attribute: "color".to_owned() }),
    ] {
        let filter = Filter { should: vec![safe(), condition], ..Filter::default() };
        assert_eq!(refusal(&filter), Err(format!("filter.should[1].{name}.attribute: {expected}")));
    }
}

#[test]
fn a_condition_on_an_attribute_of_another_type_names_both() {
    let (one, then) = (Bound::Included(Number::Int64(1)), Bound::Included(Time::At(now().into())));
    for (name, condition, attribute, expected, found) in [
        ("keyword", keyword("list", &["a"]), "list", "keyword", "keyword_list"),
        ("list", list("keyword", &[], &["a"]), "keyword", "keyword_list", "keyword"),
        ("number", number("time", one, one), "time", "int64 or uint64 or double", "timestamp"),
        ("number", number("bool", one, one), "bool", "int64 or uint64 or double", "bool"),
        ("time", time("int64", then, then), "int64", "timestamp", "int64"),
        ("bool", Condition::Bool { attribute: "double".to_owned(), value: true }, "double", "bool", "double"),
    ] {
        let filter = Filter { must_not: vec![condition], ..Filter::default() };
        let problem = format!("attribute {attribute:?}: expected type {expected}, found {found}");
        assert_eq!(refusal(&filter), Err(format!("filter.must_not[0].{name}.attribute: {problem}")));
    }
}

#[test]
fn a_condition_that_says_nothing_is_refused() {
    let value = "expected at least one value, found none";
    for (condition, expected) in [
        (keyword("keyword", &[]), format!("filter.must[0].keyword.any_of: {value}")),
        (list("list", &[], &[]), format!("filter.must[0].list: {value}")),
        (Condition::VideoId { any_of: Vec::new() }, format!("filter.must[0].video_id.any_of: {value}")),
        (
            number("double", Bound::Unbounded, Bound::Unbounded),
            "filter.must[0].number: expected at least one bound, found none".to_owned(),
        ),
        (
            time("time", Bound::Unbounded, Bound::Unbounded),
            "filter.must[0].time: expected at least one bound, found none".to_owned(),
        ),
    ] {
        assert_eq!(refusal(&must(condition)), Err(expected));
    }
}

#[test]
fn a_bound_that_is_not_finite_is_refused() {
    let of = |value| Number::Double(value);
    for (lower, upper, field, found) in [
        (Bound::Included(of(f64::NAN)), Bound::Unbounded, "gte", "NaN"),
        (Bound::Excluded(of(f64::INFINITY)), Bound::Unbounded, "gt", "inf"),
        (Bound::Unbounded, Bound::Included(of(f64::NEG_INFINITY)), "lte", "-inf"),
        (Bound::Included(of(1.0)), Bound::Excluded(of(f64::NAN)), "lt", "NaN"),
    ] {
        let expected = format!("filter.must[0].number.{field}: expected a finite number, found {found}");
        assert_eq!(refusal(&must(number("int64", lower, upper))), Err(expected));
    }
}

#[test]
fn no_more_conditions_can_be_asked_for_than_there_are() {
    let of = |conditions: usize, min_should| Filter {
        should: vec![safe(); conditions],
        min_should: Some(min_should),
        ..Filter::default()
    };
    assert_eq!(refusal(&of(2, 2)), Ok(()));
    assert_eq!(refusal(&of(0, 0)), Ok(()));
    let problem = |expected, found| {
        format!("min_should: expected at most {expected}, the number of `should`, found {found}")
    };
    assert_eq!(refusal(&of(2, 3)), Err(format!("filter.{}", problem(2, 3))));
    let inside = must(Condition::Filter(of(0, 1)));
    assert_eq!(refusal(&inside), Err(format!("filter.must[0].filter.{}", problem(0, 1))));
}

#[test]
fn a_filter_is_as_deep_and_as_large_as_the_contract_allows() {
    let (max_depth, max_conditions, max_values) =
        (Filter::MAX_DEPTH, Filter::MAX_CONDITIONS, Filter::MAX_VALUES);
    assert_eq!(refusal(&nested(max_depth)), Ok(()));
    let path = format!("filter{}", ".must[0].filter".repeat(max_depth));
    let expected = format!("{path}: expected at most {max_depth} nested filters");
    assert_eq!(refusal(&nested(max_depth + 1)), Err(expected));

    // A nested filter counts as a condition.
    let of = |conditions| {
        must(Condition::Filter(Filter { must_not: vec![safe(); conditions], ..Filter::default() }))
    };
    assert_eq!(refusal(&of(max_conditions - 1)), Ok(()));
    let expected =
        format!("filter: expected at most {max_conditions} conditions in all, found {}", max_conditions + 1);
    assert_eq!(refusal(&of(max_conditions)), Err(expected));

    let half = vec!["a"; max_values / 2 - 1];
    let of = |ids| Filter {
        must: vec![list("list", &half, &["a"]), keyword("keyword", &half)],
        must_not: vec![Condition::VideoId { any_of: vec![VideoId(1); ids] }],
        ..Filter::default()
    };
    assert_eq!(refusal(&of(1)), Ok(()));
    let expected = format!("filter: expected at most {max_values} values in all, found {}", max_values + 1);
    assert_eq!(refusal(&of(2)), Err(expected));
}

#[test]
fn what_is_wrong_deep_inside_is_found_whatever_else_the_filter_says() {
    let bad = number("double", Bound::Unbounded, Bound::Unbounded);
    let inner = Filter { must_not: vec![safe(), safe(), bad], ..Filter::default() };
    let filter = Filter {
        must: vec![keyword("keyword", &["no video has this"])],
        should: vec![Condition::Filter(inner)],
        min_should: Some(0),
        ..Filter::default()
    };
    let expected = "filter.should[0].filter.must_not[2].number: expected at least one bound, found none";
    assert_eq!(refusal(&filter), Err(expected.to_owned()));
}

#[test]
fn a_question_whether_to_go_on_is_asked_before_every_condition() {
    let (_folder, index) = typed_index(40, 1);
    let columns = Columns::open(&index).unwrap();
    let filter = Filter {
        must: vec![safe(), Condition::Filter(must(safe()))],
        should: vec![list("list", &["a"], &[]), keyword("keyword", &["a", "b"])],
        must_not: vec![Condition::IsNull { attribute: "bool".to_owned() }],
        ..Filter::default()
    };
    let answered = |answers: usize| {
        let mut checks = 0;
        let mut stops = || {
            checks += 1;
            checks > answers
        };
        let found = matching(&filter, &columns, now(), &mut Interrupt::when(&mut stops));
        (found, checks)
    };
    assert_eq!(answered(6).1, 6);
    assert!(answered(6).0.is_ok());
    for answers in 0..6 {
        assert_eq!(answered(answers), (Err(MatchError::Interrupted), answers + 1));
    }
    let long = must(Condition::VideoId { any_of: vec![VideoId(1); Filter::MAX_VALUES] });
    let mut checks = 0;
    let mut stops = || {
        checks += 1;
        false
    };
    matching(&long, &columns, now(), &mut Interrupt::when(&mut stops)).unwrap();
    assert!(checks > 50, "expected more than 50 interrupt checks over 100,000 ids, found {checks}");
}

#[test]
fn a_generation_from_before_filters_is_to_be_built_again() {
    for version in [1, 2] {
        let name = format!("tests/fixtures/format-{version}.index");
        let index = Index::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
        let columns = Columns::open(&index).unwrap();
        let error = matching(&Filter::default(), &columns, now(), &mut Interrupt::never()).unwrap_err();
        assert_eq!(error, MatchError::BuiltBeforeFilters { expected: 3, found: version });
        assert_eq!(
            error.to_string(),
            format!(
                "this generation was built before filters: expected format version 3 or later, found \
                 {version}; build it again"
            )
        );
    }
}
