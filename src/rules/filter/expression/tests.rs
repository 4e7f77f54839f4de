use std::ops::Bound::{self, Excluded, Included, Unbounded};

use jiff::SignedDuration;

use super::*;
use crate::base::id::VideoId;
use crate::rules::filter::conditions::{Condition, Number, Time};

pub(super) fn parsed(text: &str) -> Filter {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

pub(super) fn must(must: impl Into<Vec<Condition>>) -> Filter {
    Filter { must: must.into(), ..Filter::default() }
}

fn should(should: impl Into<Vec<Condition>>) -> Filter {
    Filter { should: should.into(), ..Filter::default() }
}

fn must_not(must_not: impl Into<Vec<Condition>>) -> Filter {
    Filter { must_not: must_not.into(), ..Filter::default() }
}

fn keyword(attribute: &str, any_of: &[&str]) -> Condition {
    Condition::Keyword { attribute: attribute.to_owned(), any_of: strings(any_of) }
}

fn list(attribute: &str, any_of: &[&str], all_of: &[&str]) -> Condition {
    Condition::List { attribute: attribute.to_owned(), any_of: strings(any_of), all_of: strings(all_of) }
}

fn strings(strings: &[&str]) -> Vec<String> {
    strings.iter().map(|string| (*string).to_owned()).collect()
}

fn number(attribute: &str, lower: Bound<Number>, upper: Bound<Number>) -> Condition {
    Condition::Number { attribute: attribute.to_owned(), lower, upper }
}

fn time(lower: Bound<Time>, upper: Bound<Time>) -> Condition {
    Condition::Time { attribute: "published_at".to_owned(), lower, upper }
}

fn at(text: &str) -> Time {
    Time::At(text.parse().unwrap())
}

fn ago(seconds: i64) -> Time {
    Time::Ago(SignedDuration::from_secs(seconds))
}

fn is_null(attribute: &str) -> Condition {
    Condition::IsNull { attribute: attribute.to_owned() }
}

#[test]
fn the_form_of_a_value_says_what_is_compared() {
    use Number::{Double, Int64, Uint64};
    let live = |value| Condition::Bool { attribute: "is_live".to_owned(), value };
    let ids = |ids: &[u64]| Condition::VideoId { any_of: ids.iter().copied().map(VideoId).collect() };
    let cases = [
        ("region = \"US\"", keyword("region", &["US"])),
        ("region = '2026-11-01'", keyword("region", &["2026-11-01"])),
        ("Region IN (\"US\", 'DE')", keyword("Region", &["US", "DE"])),
        ("`is` = \"a\"", keyword("is", &["a"])),
        ("`a b``c` = \"\"", keyword("a b`c", &[""])),
        (r#"_x.y_1 = "q\"\\\n\u{1f600}""z""#, keyword("_x.y_1", &["q\"\\\n😀\"z"])),
        ("tags contains \"x\"", list("tags", &["x"], &[])),
        ("tags contains any (\"x\", \"y\")", list("tags", &["x", "y"], &[])),
        ("tags contains all (\"x\", \"y\")", list("tags", &[], &["x", "y"])),
        ("tags contains any (\"x\") and all (\"y\")", list("tags", &["x"], &["y"])),
        ("views >= 1000", number("views", Included(Int64(1000)), Unbounded)),
        ("views>-5", number("views", Excluded(Int64(-5)), Unbounded)),
        ("views < 18446744073709551615", number("views", Unbounded, Excluded(Uint64(u64::MAX)))),
        ("rating <= 1.5e-3", number("rating", Unbounded, Included(Double(0.0015)))),
        ("views = 7", number("views", Included(Int64(7)), Included(Int64(7)))),
        ("views between 5 and 9.5", number("views", Included(Int64(5)), Included(Double(9.5)))),
        ("5 < views <= 10", number("views", Excluded(Int64(5)), Included(Int64(10)))),
        ("10 >= views > 5", number("views", Excluded(Int64(5)), Included(Int64(10)))),
        ("5 < views", number("views", Excluded(Int64(5)), Unbounded)),
        ("published_at > -7d", time(Excluded(ago(7 * 86_400)), Unbounded)),
        ("published_at > -2w", time(Excluded(ago(14 * 86_400)), Unbounded)),
        ("-12h <= published_at < now", time(Included(ago(12 * 3600)), Excluded(ago(0)))),
        ("published_at between -30m and +90s", time(Included(ago(1800)), Included(ago(-90)))),
        ("published_at >= 2026-11-01", time(Included(at("2026-11-01T00:00:00Z")), Unbounded)),
        ("published_at < '2026-11-01'", time(Unbounded, Excluded(at("2026-11-01T00:00:00Z")))),
        (
            "published_at < 2026-11-01T12:00:00.5+02:00",
            time(Unbounded, Excluded(at("2026-11-01T10:00:00.5Z"))),
        ),
        ("is_live = TRUE", live(true)),
        ("is_live = false", live(false)),
        ("duration is null", is_null("duration")),
        ("video_id = 5", ids(&[5])),
        ("VIDEO_ID in (1, 18446744073709551615)", ids(&[1, u64::MAX])),
    ];
    for (text, condition) in cases {
        assert_eq!(parsed(text), must([condition]), "{text}");
    }
}

#[test]
fn what_is_denied_is_a_plain_complement() {
    let us = || keyword("region", &["US"]);
    let tagged = || list("tags", &["x"], &[]);
    let five = || number("views", Included(Number::Int64(5)), Included(Number::Int64(5)));
    let cases = [
        ("region != \"US\"", us()),
        ("not region = \"US\"", us()),
        ("not not not region = \"US\"", us()),
        ("region not in (\"US\")", us()),
        ("views != 5", five()),
        ("views not between 5 and 5", five()),
        ("tags not contains \"x\"", tagged()),
        ("title is not null", is_null("title")),
        ("video_id != 5", Condition::VideoId { any_of: vec![VideoId(5)] }),
        ("video_id not in (5)", Condition::VideoId { any_of: vec![VideoId(5)] }),
        ("not (region = \"US\" and tags contains \"x\")", Condition::Filter(must([us(), tagged()]))),
    ];
    for (text, condition) in cases {
        assert_eq!(parsed(text), must_not([condition]), "{text}");
    }
    assert_eq!(parsed("not (region = \"US\" or views = 5)"), must_not([us(), five()]));
    assert_eq!(parsed("not region != \"US\""), must([us()]));
}

#[test]
fn filters_nest_only_where_they_must() {
    let [a, b, c, d, e] = ["a", "b", "c", "d", "e"].map(is_null);
    let short = |text: &str| {
        let words = text.split(' ').map(|word| {
            let name = word.trim_matches(['(', ')', ',']);
            if name.len() == 1 && name.parse::<u8>().is_err() {
                word.replacen(name, &format!("{name} is null"), 1)
            } else {
                word.to_owned()
            }
        });
        parsed(&words.collect::<Vec<_>>().join(" "))
    };
    let nested = Condition::Filter;
    assert_eq!(short("a and b and c"), must([a.clone(), b.clone(), c.clone()]));
    assert_eq!(short("((a and b) and (c))"), must([a.clone(), b.clone(), c.clone()]));
    assert_eq!(short("a or (b or c)"), should([a.clone(), b.clone(), c.clone()]));
    assert_eq!(short("a or b and c"), should([a.clone(), nested(must([b.clone(), c.clone()]))]));
    let both = Filter { must_not: vec![c.clone()], ..must([a.clone(), b.clone()]) };
    assert_eq!(short("a and not c and b"), both);
    let one_filter =
        Filter { should: vec![b.clone(), c.clone()], must_not: vec![d.clone()], ..must([a.clone()]) };
    assert_eq!(short("a and (b or c) and not d"), one_filter);
    let two_groups =
        Filter { should: vec![c.clone(), d.clone()], ..must([nested(should([a.clone(), b.clone()]))]) };
    assert_eq!(short("(a or b) and (c or d)"), two_groups);
    let two_of = Filter { min_should: Some(2), ..should([a.clone(), b.clone(), c.clone()]) };
    assert_eq!(short("at least 2 of (a, b, c)"), two_of);
    let two_of =
        Filter { must: vec![d.clone()], should: vec![nested(must([a.clone(), b.clone()])), c], ..two_of };
    assert_eq!(short("At Least 2 Of (a and b, c) AND d"), two_of);
    assert_eq!(short("a or not e"), should([a, nested(must_not([e]))]));
    assert_eq!(parsed("true"), Filter::default());
    assert_eq!(short("true and b"), must([b]));
    assert_eq!(parsed("not true"), must_not([nested(Filter::default())]));
    let [one, two] = [1, 2].map(|n| number("n", Included(Number::Int64(n)), Included(Number::Int64(n))));
    assert_eq!(parsed("n in (1, 2)"), should([one, two]));
}

#[test]
fn says_where_a_text_is_wrong_and_what_was_expected() {
    let cases = [
        ("", 1, "a condition, such as region = \"US\"", "the end"),
        ("and", 1, "a condition, such as region = \"US\"", "`and`"),
        ("a = \"x\" b", 9, "`and`, `or` or the end", "`b`"),
        ("a = \"x\")", 8, "`and`, `or` or the end", "`)`"),
        ("(a = \"x\"", 9, "`and`, `or` or `)`", "the end"),
        ("region = US", 10, A_VALUE, "`US`"),
        ("a == 5", 3, "`=`, which compares two values", "`==`"),
        ("a in ()", 7, A_VALUE, "`)`"),
        ("a in (5 6)", 9, "`,` or `)`", "`6`"),
        ("a in (5, \"x\")", 10, "a value of the same kind as the first", "`\"x\"`"),
        ("a in (5, now)", 10, "a value of the same kind as the first", "`now`"),
        ("a < \"x\"", 5, A_BOUND, "`\"x\"`"),
        ("a < true", 5, A_BOUND, "`true`"),
        ("a < 2026-11-31", 5, A_BOUND, "`2026-11-31`"),
        ("a < 2026-11-01T12:00:00", 5, A_BOUND, "`2026-11-01T12:00:00`"),
        ("a < 7d", 5, A_BOUND, "`7d`"),
        ("a < -1.5d", 5, A_BOUND, "`-1.5d`"),
        ("a < -99999999999999999w", 5, A_BOUND, "`-99999999999999999w`"),
        ("a < 1e999", 5, A_BOUND, "`1e999`"),
        ("a < 18446744073709551616", 5, A_BOUND, "`18446744073709551616`"),
        ("a between 5 and now", 17, "a number, like the other bound", "`now`"),
        ("now < a < 5", 11, "a time, like the other bound", "`5`"),
        ("5 < a > 3", 7, "`<` or `<=`", "`>`"),
        ("5 = a", 3, "`<`, `<=`, `>` or `>=` and an attribute", "`=`"),
        ("5 < 6", 5, "an attribute", "`6`"),
        ("a not null", 7, "`in`, `between` or `contains`", "`null`"),
        ("a is 5", 6, "`null`", "`5`"),
        ("a contains 5", 12, "a string in quotes, or `any` or `all` and several", "`5`"),
        ("a contains any \"x\"", 16, "`(`", "`\"x\"`"),
        ("video_id < 5", 10, "`=`, `!=`, `in` or `not in`", "`<`"),
        ("video_id = -5", 12, "a video id, 0 to 18446744073709551615", "`-5`"),
        ("at most 2 of (a)", 4, "`least`", "`most`"),
        ("at least 3 of (a is null, b is null)", 10, "at most 2, the number of alternatives", "`3`"),
        ("a = \"x", 7, "the closing \"", "the end"),
        ("a = \"\\x\"", 6, r#"an escape: \\ \" \' \` \n \r \t or \u{…}"#, "`\\x`"),
        ("a = \"\\u{d800}\"", 6, r#"an escape: \\ \" \' \` \n \r \t or \u{…}"#, "`\\u`"),
        ("a = 5 & b = 6", 7, "a word, a value, a parenthesis, a comma or a comparison", "`&`"),
    ];
    for (text, at, wanted, was) in cases {
        match text.parse::<Filter>().unwrap_err() {
            ExpressionError::Unexpected { line, column, expected, found, .. } => {
                assert_eq!((line, column), (1, at), "{text}: {found}");
                assert_eq!((expected.as_str(), found.as_str()), (wanted, was), "{text}");
            }
            ExpressionError::TooLong { .. } => panic!("{text}: refused for its length"),
        }
    }
}

const A_VALUE: &str = "a value: \"text\", a number, `true`, `false`, or a time such as 2026-11-01 or -7d";
const A_BOUND: &str = "a number, or a time such as 2026-11-01, 2026-11-01T12:00:00Z or -7d";

#[test]
fn an_error_shows_the_place_in_less_than_the_width_of_a_terminal() {
    let error = "title = \"Ü\"\n  and naïve = Ü".parse::<Filter>().unwrap_err().to_string();
    assert!(error.starts_with("line 2, column 9: expected "), "{error}");
    let excerpt = error.split_once('\n').unwrap().1;
    assert_eq!(excerpt, "    and naïve = Ü\n          ^");
    // Characters that take two terminal columns, and one that takes none.
    let error = "`地域` = '日本' & 猫".parse::<Filter>().unwrap_err().to_string();
    assert!(error.starts_with("line 1, column 13: "), "{error}");
    assert!(error.ends_with("\n  `地域` = '日本' & 猫\n                  ^"), "{error}");
    let error = "title = 'e\u{301}' & b".parse::<Filter>().unwrap_err().to_string();
    assert!(error.ends_with("\n              ^"), "{error}");
    let long = format!("{} & {}", vec!["a is null"; 50].join(" and "), "b".repeat(1000));
    let error = long.parse::<Filter>().unwrap_err().to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line.chars().count() < 120), "{error}");
    let caret = lines[2].chars().count() - 1;
    assert_eq!(lines[1].chars().nth(caret), Some('&'), "{error}");
    let unprintable = "a = \x1b[2J".parse::<Filter>().unwrap_err().to_string();
    assert!(!unprintable.contains('\x1b'), "{unprintable:?}");
}

#[test]
fn hostile_text_is_refused_before_the_stack_is_full() {
    let unexpected = |text: &str| match text.parse::<Filter>() {
        Err(ExpressionError::Unexpected { column, expected, .. }) => (column, expected),
        other => panic!("{other:?}"),
    };
    let deep = |levels: usize, inside: &str| format!("{}{inside}{}", "(".repeat(levels), ")".repeat(levels));
    assert_eq!(parsed(&deep(32, "a is null")), must([is_null("a")]));
    assert_eq!(unexpected(&deep(33, "a is null")), (33, "at most 32 nested parentheses".into()));
    assert_eq!(unexpected(&"(".repeat(MAX_BYTES)).0, 33);
    assert_eq!(unexpected(&"at least 1 of (".repeat(4000)).0, 15 * 33);
    let nots = format!("{}a is null", "not ".repeat(16_000));
    assert_eq!(parsed(&nots), must([is_null("a")]));
    let too_long = " ".repeat(MAX_BYTES + 1).parse::<Filter>();
    assert_eq!(too_long, Err(ExpressionError::TooLong { most: MAX_BYTES, found: MAX_BYTES + 1 }));

    // A list of numbers repeats the name of the attribute for each of them.
    let numbers = |count: usize| format!("a in ({})", vec!["1"; count].join(","));
    assert_eq!(parsed(&numbers(1000)).should.len(), 1000);
    let (column, expected) = unexpected(&numbers(1001));
    assert_eq!((column, expected), (numbers(1001).len() - 1, "at most 1000 conditions in all".into()));
    assert_eq!(unexpected(&vec!["a = 1"; 1001].join(" or ")).1, "at most 1000 conditions in all");
    let named = |bytes| format!("{} is null", "a".repeat(bytes));
    assert_eq!(parsed(&named(1000)), must([is_null(&"a".repeat(1000))]));
    assert_eq!(unexpected(&named(1001)), (1, "a name of at most 1000 bytes".into()));

    // Each level is nested in the one around it.
    let filters = |levels: usize| {
        let mut text = "a is null or b is null".to_owned();
        for _ in 1..levels {
            text = format!("not (a is null and ({text}))");
        }
        text
    };
    assert_eq!(depth(&parsed(&filters(16))), 16);
    let (column, expected) = unexpected(&filters(17));
    assert_eq!(expected, "at most 16 nested filters");
    assert_eq!(column, filters(17).rfind('(').unwrap() + 1);
}

#[test]
fn every_depth_that_is_allowed_can_be_written_and_read() {
    let deepen: [fn(Condition) -> Filter; 4] = [
        |inner| Filter { must_not: vec![inner], ..must([is_null("a")]) },
        |inner| Filter { should: vec![inner, is_null("b")], ..must([is_null("a")]) },
        |inner| Filter { should: vec![inner], min_should: Some(1), ..must([is_null("a")]) },
        |inner| Filter {
            should: vec![is_null("b"), is_null("c")],
            must_not: vec![inner],
            ..must([is_null("a")])
        },
    ];
    for deepen in deepen {
        let mut filter = deepen(is_null("z"));
        while depth(&filter) < Filter::MAX_DEPTH {
            let deeper = deepen(Condition::Filter(filter.clone()));
            if depth(&deeper) > Filter::MAX_DEPTH {
                break;
            }
            filter = deeper;
        }
        assert!(depth(&filter) >= Filter::MAX_DEPTH - 1);
        assert_eq!(parsed(&filter.to_string()), filter, "{filter}");
    }
}

pub(super) fn depth(filter: &Filter) -> usize {
    let conditions = filter.must.iter().chain(&filter.should).chain(&filter.must_not);
    let inner = |condition: &Condition| if let Condition::Filter(f) = condition { depth(f) } else { 0 };
    1 + conditions.map(inner).max().unwrap_or(0)
}

#[test]
fn shows_a_filter_as_a_person_would_write_it() {
    for text in [
        r#"region in ("US", "DE") and views >= 1000 and not tags contains "spoiler""#,
        r#"a = 1 and title is not null and (b = 2 or c = 3 and d != "x")"#,
        "at least 2 of (a is null, b is null or c is null, not (d is null and e is null))",
        "published_at between -7d and now",
        "-36h < published_at <= 2026-11-01T00:00:00Z",
        "published_at > -1.000000001s",
        "published_at > -9223372036854775807s",
        "published_at > +9223372036854775808s",
        r#"`null` = "a\nb" or `a-b` = 'it' or video_id not in (1, 2)"#,
        "true or a = 5.0 or a = 1e300",
    ] {
        let shown = parsed(text).to_string();
        let expected = text
            .replace(r#"not tags contains "spoiler""#, r#"tags not contains "spoiler""#)
            .replace("'it'", "\"it\"");
        assert_eq!(shown, expected);
    }
}
