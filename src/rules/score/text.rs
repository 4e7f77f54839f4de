//! The text form of a term: `0.1*log1p(views)`.
//!
//! ```text
//! term      = [ weight "*" ] form
//! form      = "linear" "(" attribute ")"
//!           | "log1p" "(" attribute ")"
//!           | "clamp" "(" attribute "," number "," number ")"
//!           | "decay" "(" attribute "," duration ")"             half-life
//!           | "window" "(" attribute "," duration ")"
//!           | "match" "(" attribute { "," keyword } ")"
//! attribute = a name without ( ) , and ", or a JSON string
//! keyword   = a JSON string, or a word without ( ) , and "
//! duration  = a number with the unit s, m, h, d or w: 7d, 1.5s
//! ```

use std::fmt;
use std::str::FromStr;

use jiff::SignedDuration;

use super::term::{ScoreTerm, TermForm};
use crate::rules::duration;

const EXPECTED: &str = "expected a term such as 0.1*log1p(views), 2*linear(quality), 0.3*clamp(views, 0, 1000), \
                        0.5*decay(published_at, 7d), 0.5*window(published_at, 30d) or 0.2*match(language, \"en\")";

impl FromStr for ScoreTerm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |problem: &str| format!("{EXPECTED}, found {text:?}: {problem}");
        let (before, rest) = text.split_once('(').ok_or_else(|| wrong("no parenthesis"))?;
        let (weight, name) = match before.split_once('*') {
            Some((weight, name)) => {
                let weight = weight.trim().parse().map_err(|_| wrong("the weight is no number"))?;
                (weight, name.trim())
            }
            None => (1.0, before.trim()),
        };
        let arguments =
            arguments(rest).ok_or_else(|| wrong("its arguments do not end with a parenthesis"))?;
        let [attribute, arguments @ ..] = &arguments[..] else { return Err(wrong("no attribute")) };
        let number =
            |text: &String| text.parse::<f64>().map_err(|_| wrong(&format!("{text:?} is no number")));
        let time = |text: &String| {
            duration(text).ok_or_else(|| wrong(&format!("{text:?} is no duration in s, m, h, d or w")))
        };
        let form = match (name, arguments) {
            ("linear", []) => TermForm::Linear,
            ("log1p", []) => TermForm::Log1p,
            ("clamp", [from, to]) => TermForm::Clamp { from: number(from)?, to: number(to)? },
            ("decay", [half_life]) => TermForm::HalfLife(time(half_life)?),
            ("window", [window]) => TermForm::Window(time(window)?),
            ("match", [_, ..]) => TermForm::Match { any_of: arguments.to_vec() },
            ("linear" | "log1p" | "clamp" | "decay" | "window" | "match", _) => {
                return Err(wrong("another number of arguments"));
            }
            _ => return Err(wrong(&format!("no form {name:?}"))),
        };
        Ok(Self { attribute: attribute.clone(), weight, form })
    }
}

/// The arguments before the parenthesis that ends `text`; `None` if they are malformed.
fn arguments(text: &str) -> Option<Vec<String>> {
    let mut rest = text.trim_end().strip_suffix(')')?.trim_start();
    let mut arguments = Vec::new();
    loop {
        let argument = if rest.starts_with('"') {
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<String>();
            let value = values.next()?.ok()?;
            rest = rest[values.byte_offset()..].trim_start();
            value
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            let (bare, after) = rest.split_at(end);
            rest = after;
            let bare = bare.trim();
            if bare.is_empty() || bare.contains(['(', ')', '"']) {
                return None;
            }
            bare.to_owned()
        };
        arguments.push(argument);
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None if rest.is_empty() => return Some(arguments),
            None => return None,
        }
    }
}

impl fmt::Display for ScoreTerm {
    /// Prints the term as [`ScoreTerm::from_str`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attribute, weight, form } = self;
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let attribute = quoted(attribute);
        match form {
            TermForm::Linear => write!(f, "{weight}*linear({attribute})"),
            TermForm::Log1p => write!(f, "{weight}*log1p({attribute})"),
            TermForm::Clamp { from, to } => write!(f, "{weight}*clamp({attribute}, {from}, {to})"),
            TermForm::HalfLife(half_life) => {
                write!(f, "{weight}*decay({attribute}, {})", seconds(*half_life))
            }
            TermForm::Window(window) => write!(f, "{weight}*window({attribute}, {})", seconds(*window)),
            TermForm::Match { any_of } => {
                let words: Vec<String> = any_of.iter().map(|word| quoted(word)).collect();
                write!(f, "{weight}*match({attribute}, {})", words.join(", "))
            }
        }
    }
}

fn seconds(duration: SignedDuration) -> String {
    format!("{}.{:09}s", duration.as_secs(), duration.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn form() -> impl Strategy<Value = TermForm> {
        let duration = || (0i64..1 << 40, 0i32..1_000_000_000).prop_map(|(s, n)| SignedDuration::new(s, n));
        prop_oneof![
            Just(TermForm::Linear),
            Just(TermForm::Log1p),
            (-1e9..1e9f64, -1e9..1e9f64).prop_map(|(from, to)| TermForm::Clamp { from, to }),
            duration().prop_map(TermForm::HalfLife),
            duration().prop_map(TermForm::Window),
            prop::collection::vec(any::<String>(), 1..4).prop_map(|any_of| TermForm::Match { any_of }),
        ]
    }

    proptest! {
        #[test]
        fn a_printed_term_is_read_as_it_was(attribute in any::<String>(), weight in -1e20..1e20f64, form in form()) {
            let term = ScoreTerm { attribute, weight, form };
            prop_assert_eq!(term.to_string().parse(), Ok(term));
        }

        #[test]
        fn any_text_is_a_term_or_an_error(text in "[-0-9.*a-z(), \"\\\\]{0,40}") {
            let _ = text.parse::<ScoreTerm>();
        }
    }

    #[test]
    fn terms_are_read_as_people_write_them() {
        let term = |text: &str| text.parse::<ScoreTerm>();
        let of =
            |attribute: &str, weight, form| Ok(ScoreTerm { attribute: attribute.to_owned(), weight, form });
        let week = SignedDuration::from_hours(24 * 7);
        assert_eq!(term("0.1*log1p(views)"), of("views", 0.1, TermForm::Log1p));
        assert_eq!(term(" -2 * linear( like rate ) "), of("like rate", -2.0, TermForm::Linear));
        assert_eq!(term("clamp(views,0,1e3)"), of("views", 1.0, TermForm::Clamp { from: 0.0, to: 1000.0 }));
        assert_eq!(term("0.5*decay(published_at, 7d)"), of("published_at", 0.5, TermForm::HalfLife(week)));
        assert_eq!(term("0.5*window(published_at, 1w)"), of("published_at", 0.5, TermForm::Window(week)));
        let any_of = vec!["en".to_owned(), "d,e".to_owned()];
        assert_eq!(term("1*match(language, en, \"d,e\")"), of("language", 1.0, TermForm::Match { any_of }));
        for wrong in [
            "views",
            "0.1*views",
            "x*log1p(views)",
            "log1p()",
            "log1p(views",
            "log1p(views, 1)",
            "decay(views)",
            "decay(views, 7)",
            "clamp(views, a, 1)",
            "match(language)",
            "tanh(views)",
            "linear(a(b))",
            "linear(\"a)",
            "linear(a,)",
            "linear(a)b",
        ] {
            let error = term(wrong).unwrap_err();
            assert!(error.starts_with("expected a term such as"), "{wrong}: {error}");
        }
    }
}
