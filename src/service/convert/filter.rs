//! Filters, both ways.
//!
//! When reading from the wire, the depth of a filter is checked before recursing into it, and its size before it is
//! stored. Writing to the wire checks nothing, because the server does.

use std::ops::Bound;

use super::bound::{number, time};
use super::path::Path;
use super::scalar::saturate;
use crate::base::id::VideoId;
use crate::rules::{Condition, ExpressionError, Filter};
use crate::service::error::InvalidField;
use crate::service::proto;

/// Reads the filter of a search request, which is a tree or a text.
///
/// # Errors
/// As [`filter`]; and [`InvalidField`] if there are both, or with the place in the text that is no filter.
pub(super) fn either(
    tree: Option<proto::Filter>,
    text: &str,
    within: Option<&Path<'_>>,
) -> Result<Option<Filter>, InvalidField> {
    let field = |name| within.map_or(Path::root(name), |within| within.field(name));
    let refused = |problem: String| field("filter_text").invalid(problem);
    match tree {
        Some(_) if !text.is_empty() => Err(refused("expected filter or filter_text, found both".to_owned())),
        Some(tree) => filter(tree, &field("filter")).map(Some),
        None if text.is_empty() => Ok(None),
        None => text.parse().map(Some).map_err(|error: ExpressionError| refused(error.to_string())),
    }
}

/// Reads a filter. `path` is its path in the request.
///
/// # Errors
/// [`InvalidField`] with the path of the part that the domain cannot express, or that exceeds a limit of
/// the contract.
fn filter(filter: proto::Filter, path: &Path<'_>) -> Result<Filter, InvalidField> {
    Reader { conditions: 0, values: 0 }.filter(filter, path, 1)
}

/// Reads one filter and counts its conditions and values.
struct Reader {
    conditions: usize,
    values: usize,
}

impl Reader {
    fn filter(
        &mut self,
        filter: proto::Filter,
        path: &Path<'_>,
        depth: usize,
    ) -> Result<Filter, InvalidField> {
        if depth > Filter::MAX_DEPTH {
            return Err(
                path.invalid(format!("expected at most {} nested filters, found more", Filter::MAX_DEPTH))
            );
        }
        let proto::Filter { must, should, must_not, min_should } = filter;
        let mut conditions = |clause: Vec<proto::Condition>, name| {
            let condition =
                |(position, condition)| self.condition(condition, &path.item(name, position), depth);
            clause.into_iter().enumerate().map(condition).collect::<Result<Vec<_>, _>>()
        };
        Ok(Filter {
            must: conditions(must, "must")?,
            should: conditions(should, "should")?,
            must_not: conditions(must_not, "must_not")?,
            min_should: min_should.map(|least| least as usize),
        })
    }

    fn condition(
        &mut self,
        condition: proto::Condition,
        path: &Path<'_>,
        depth: usize,
    ) -> Result<Condition, InvalidField> {
        use proto::condition::Condition as Wire;
        self.conditions += 1;
        if self.conditions > Filter::MAX_CONDITIONS {
            return Err(path.invalid(format!(
                "expected at most {} conditions in all, found more",
                Filter::MAX_CONDITIONS
            )));
        }
        Ok(match condition.condition {
            None => {
                let expected = "filter, keyword, list, number, time, bool, is_null or video_id";
                return Err(path.invalid(format!("expected {expected}, found none of them")));
            }
            Some(Wire::Filter(filter)) => {
                Condition::Filter(self.filter(filter, &path.field("filter"), depth + 1)?)
            }
            Some(Wire::Keyword(proto::KeywordCondition { attribute, any_of })) => {
                self.count(any_of.len(), &path.field("keyword").field("any_of"))?;
                Condition::Keyword { attribute, any_of }
            }
            Some(Wire::List(proto::ListCondition { attribute, any_of, all_of })) => {
                self.count(any_of.len(), &path.field("list").field("any_of"))?;
                self.count(all_of.len(), &path.field("list").field("all_of"))?;
                Condition::List { attribute, any_of, all_of }
            }
            Some(Wire::Number(proto::NumberRange { attribute, gt, gte, lt, lte })) => {
                let (lower, upper) = bounds([gt, gte, lt, lte], &path.field("number"), number)?;
                Condition::Number { attribute, lower, upper }
            }
            Some(Wire::Time(proto::TimeRange { attribute, gt, gte, lt, lte })) => {
                let (lower, upper) = bounds([gt, gte, lt, lte], &path.field("time"), time)?;
                Condition::Time { attribute, lower, upper }
            }
            Some(Wire::Bool(proto::BoolCondition { attribute, value })) => {
                Condition::Bool { attribute, value }
            }
            Some(Wire::IsNull(proto::NullCondition { attribute })) => Condition::IsNull { attribute },
            Some(Wire::VideoId(proto::VideoIdCondition { any_of })) => {
                self.count(any_of.len(), &path.field("video_id").field("any_of"))?;
                Condition::VideoId { any_of: any_of.into_iter().map(VideoId).collect() }
            }
        })
    }

    fn count(&mut self, values: usize, path: &Path<'_>) -> Result<(), InvalidField> {
        self.values += values;
        if self.values <= Filter::MAX_VALUES {
            return Ok(());
        }
        Err(path.invalid(format!("expected at most {} values in all, found more", Filter::MAX_VALUES)))
    }
}

/// Reads the lower and the upper bound from the fields gt, gte, lt and lte.
fn bounds<W, T>(
    [gt, gte, lt, lte]: [Option<W>; 4],
    path: &Path<'_>,
    value: fn(W, &Path<'_>) -> Result<T, InvalidField>,
) -> Result<(Bound<T>, Bound<T>), InvalidField> {
    let bound =
        |(excluded, without): (Option<W>, _), (included, with): (Option<W>, _)| match (excluded, included) {
            (Some(_), Some(_)) => Err(path.invalid(format!("expected {without} or {with}, found both"))),
            (Some(bound), None) => Ok(Bound::Excluded(value(bound, &path.field(without))?)),
            (None, Some(bound)) => Ok(Bound::Included(value(bound, &path.field(with))?)),
            (None, None) => Ok(Bound::Unbounded),
        };
    match (bound((gt, "gt"), (gte, "gte"))?, bound((lt, "lt"), (lte, "lte"))?) {
        (Bound::Unbounded, Bound::Unbounded) => {
            Err(path.invalid("expected gt, gte, lt or lte, found none of them"))
        }
        bounds => Ok(bounds),
    }
}

impl From<Filter> for proto::Filter {
    fn from(filter: Filter) -> Self {
        let conditions = |conditions: Vec<Condition>| conditions.into_iter().map(Into::into).collect();
        Self {
            must: conditions(filter.must),
            should: conditions(filter.should),
            must_not: conditions(filter.must_not),
            min_should: filter.min_should.map(saturate),
        }
    }
}

impl From<Condition> for proto::Condition {
    fn from(condition: Condition) -> Self {
        use proto::condition::Condition as Wire;
        let condition = match condition {
            Condition::Filter(filter) => Wire::Filter(filter.into()),
            Condition::Keyword { attribute, any_of } => {
                Wire::Keyword(proto::KeywordCondition { attribute, any_of })
            }
            Condition::List { attribute, any_of, all_of } => {
                Wire::List(proto::ListCondition { attribute, any_of, all_of })
            }
            Condition::Number { attribute, lower, upper } => {
                let ((gt, gte), (lt, lte)) = (sides(lower), sides(upper));
                Wire::Number(proto::NumberRange { attribute, gt, gte, lt, lte })
            }
            Condition::Time { attribute, lower, upper } => {
                let ((gt, gte), (lt, lte)) = (sides(lower), sides(upper));
                Wire::Time(proto::TimeRange { attribute, gt, gte, lt, lte })
            }
            Condition::Bool { attribute, value } => Wire::Bool(proto::BoolCondition { attribute, value }),
            Condition::IsNull { attribute } => Wire::IsNull(proto::NullCondition { attribute }),
            Condition::VideoId { any_of } => {
                let any_of = any_of.into_iter().map(|VideoId(id)| id).collect();
                Wire::VideoId(proto::VideoIdCondition { any_of })
            }
        };
        Self { condition: Some(condition) }
    }
}

/// Splits a bound into its exclusive and its inclusive field.
fn sides<T, W: From<T>>(bound: Bound<T>) -> (Option<W>, Option<W>) {
    match bound {
        Bound::Excluded(value) => (Some(value.into()), None),
        Bound::Included(value) => (None, Some(value.into())),
        Bound::Unbounded => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rules::arbitrary::any_filter;
    use proto::condition::Condition as Wire;

    fn read(filter: proto::Filter) -> Result<Filter, InvalidField> {
        super::filter(filter, &Path::root("filter"))
    }

    fn must(conditions: Vec<proto::Condition>) -> proto::Filter {
        proto::Filter { must: conditions, ..Default::default() }
    }

    fn wire(condition: Wire) -> proto::Condition {
        proto::Condition { condition: Some(condition) }
    }

    fn is_null() -> proto::Condition {
        wire(Wire::IsNull(proto::NullCondition { attribute: "a".to_owned() }))
    }

    fn int(value: i64) -> Option<proto::Number> {
        Some(proto::Number { number: Some(proto::number::Number::Int64(value)) })
    }

    fn refused(filter: proto::Filter) -> (String, String) {
        match read(filter) {
            Err(InvalidField { path, problem }) => (path, problem),
            other => panic!("expected an invalid argument, found {other:?}"),
        }
    }

    #[test]
    fn a_text_is_read_like_a_tree_and_instead_of_one() {
        let text = "region = \"US\" and views > 5";
        assert_eq!(either(None, text, None), Ok(Some(text.parse().unwrap())));
        assert_eq!(either(None, "", None), Ok(None));
        let tree = must(vec![is_null()]);
        assert_eq!(either(Some(tree.clone()), "", None), read(tree.clone()).map(Some));
        let both = either(Some(tree), text, None).unwrap_err();
        assert_eq!(both.to_string(), "filter_text: expected filter or filter_text, found both");
        let wrong = either(None, "region = US", None).unwrap_err().to_string();
        assert!(wrong.starts_with("filter_text: line 1, column 10: expected a value: "), "{wrong}");
    }

    #[test]
    fn names_the_condition_that_says_nothing() {
        let nothing = proto::Condition { condition: None };
        let path = |filter| refused(filter).0;
        assert_eq!(path(must(vec![is_null(), nothing.clone()])), "filter.must[1]");
        let inner = proto::Filter { must_not: vec![is_null(), nothing.clone()], ..Default::default() };
        let outer = proto::Filter { should: vec![wire(Wire::Filter(inner))], ..Default::default() };
        let (field, problem) = refused(outer);
        assert_eq!(field, "filter.should[0].filter.must_not[1]");
        assert!(problem.ends_with("video_id, found none of them"), "{problem}");
    }

    #[test]
    fn bounds_are_one_on_each_side_and_one_at_least() {
        let range = |range| refused(must(vec![wire(Wire::Number(range))]));
        let attribute = || "views".to_owned();
        let of = || proto::NumberRange { attribute: attribute(), ..Default::default() };
        let (field, problem) = range(of());
        assert_eq!(field, "filter.must[0].number");
        assert_eq!(problem, "expected gt, gte, lt or lte, found none of them");
        let (field, problem) = range(proto::NumberRange { gt: int(1), gte: int(2), ..of() });
        assert_eq!(
            (field.as_str(), problem.as_str()),
            ("filter.must[0].number", "expected gt or gte, found both")
        );
        let (field, problem) = range(proto::NumberRange { lt: int(1), lte: int(2), ..of() });
        assert_eq!(
            (field.as_str(), problem.as_str()),
            ("filter.must[0].number", "expected lt or lte, found both")
        );
        let none = Some(proto::Number { number: None });
        assert_eq!(
            range(proto::NumberRange { gt: int(1), lte: none, ..of() }).0,
            "filter.must[0].number.lte"
        );
        let time = proto::TimeRange { gte: Some(proto::Time { time: None }), ..Default::default() };
        assert_eq!(refused(must(vec![wire(Wire::Time(time))])).0, "filter.must[0].time.gte");
    }

    #[test]
    fn a_filter_may_be_sixteen_deep_and_no_deeper() {
        let deep = |levels: usize| {
            (1..levels).fold(must(vec![is_null()]), |inner, _| must(vec![wire(Wire::Filter(inner))]))
        };
        assert!(read(deep(16)).is_ok());
        for levels in [17, 30, 49] {
            let (field, problem) = refused(deep(levels));
            assert_eq!(field, format!("filter{}", ".must[0].filter".repeat(16)));
            assert_eq!(problem, "expected at most 16 nested filters, found more");
        }
    }

    #[test]
    fn conditions_and_values_are_counted_over_the_whole_tree() {
        let inner = |conditions| wire(Wire::Filter(must(vec![is_null(); conditions])));
        assert!(read(must(vec![inner(499), inner(499)])).is_ok());
        let (field, problem) = refused(must(vec![inner(499), inner(500)]));
        assert_eq!(field, "filter.must[1].filter.must[499]");
        assert_eq!(problem, "expected at most 1000 conditions in all, found more");

        let words = |words| vec!["w".to_owned(); words];
        let keyword = |count| {
            wire(Wire::Keyword(proto::KeywordCondition { attribute: String::new(), any_of: words(count) }))
        };
        let list = |any_of, all_of| {
            let (any_of, all_of) = (words(any_of), words(all_of));
            wire(Wire::List(proto::ListCondition { attribute: String::new(), any_of, all_of }))
        };
        let ids = |ids| wire(Wire::VideoId(proto::VideoIdCondition { any_of: vec![7; ids] }));
        assert!(read(must(vec![keyword(40_000), list(10_000, 10_000), ids(40_000)])).is_ok());
        let cases = [
            (vec![keyword(100_001)], "filter.must[0].keyword.any_of"),
            (vec![keyword(99_999), list(1, 1)], "filter.must[1].list.all_of"),
            (vec![keyword(99_999), list(2, 1)], "filter.must[1].list.any_of"),
            (vec![list(50_000, 50_000), ids(1)], "filter.must[1].video_id.any_of"),
        ];
        for (conditions, path) in cases {
            let (field, problem) = refused(must(conditions));
            assert_eq!(field, path);
            assert_eq!(problem, "expected at most 100000 values in all, found more");
        }
    }

    proptest! {
        #[test]
        fn a_filter_survives_the_wire(filter in any_filter()) {
            let bytes = prost::Message::encode_to_vec(&proto::Filter::from(filter.clone()));
            let wire: proto::Filter = prost::Message::decode(bytes.as_slice()).unwrap();
            prop_assert_eq!(read(wire).unwrap(), filter);
        }
    }
}
