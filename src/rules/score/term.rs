//! A term, and what it makes of a value.

use jiff::SignedDuration;

/// A part of the score of a video that depends on one of its attributes. Adds nothing where a video has no value.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreTerm {
    /// Name of the attribute.
    pub attribute: String,
    /// What the form gives is multiplied by it. Negative to lower scores.
    pub weight: f64,
    /// What it makes of the value of a video.
    pub form: TermForm,
}

/// What a term makes of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum TermForm {
    /// A number as it is.
    Linear,
    /// ln(1 + x) of a number; 0 for negative ones.
    Log1p,
    /// Where a number is between two: 0 up to `from`, 1 from `to` on.
    Clamp {
        /// Less than `to`.
        from: f64,
        /// Finite.
        to: f64,
    },
    /// 1 for a time that is now or later, and half as much each time this long ago.
    HalfLife(SignedDuration),
    /// 1 for a time that is now or later, falling evenly to 0 this long ago.
    Window(SignedDuration),
    /// 1 if the keyword, or one of a list of keywords, is one of these.
    Match {
        /// At least one.
        any_of: Vec<String>,
    },
}

impl TermForm {
    /// Returns the name of the form, with that of the part that may be wrong.
    pub(crate) fn field(&self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Log1p => "log1p",
            Self::Clamp { .. } => "clamp",
            Self::HalfLife(_) => "decay.half_life",
            Self::Window(_) => "decay.window",
            Self::Match { .. } => "match.any_of",
        }
    }
}

/// What a term adds is at most this, or this below zero: sums of terms and scores stay finite.
const MOST: f64 = 1e30;

impl ScoreTerm {
    /// Most terms of a request.
    pub const MAX_TERMS: usize = 8;
    /// Most keywords of a term.
    pub const MAX_KEYWORDS: usize = 10_000;
    /// The largest weight, and the largest below zero.
    pub const MAX_WEIGHT: f64 = 1e15;

    /// Returns what the term adds for a number, or for a time in microseconds since 1970. `now`: in microseconds since 1970.
    pub fn of_value(&self, value: f64, now: f64) -> f64 {
        let age = (now - value).max(0.0);
        let part = match &self.form {
            TermForm::Linear => value,
            TermForm::Log1p => value.max(0.0).ln_1p(),
            TermForm::Clamp { from, to } => (value.clamp(*from, *to) - from) / (to - from),
            TermForm::HalfLife(half_life) => (-age / micros(*half_life)).exp2(),
            TermForm::Window(window) => (1.0 - age / micros(*window)).max(0.0),
            TermForm::Match { .. } => 0.0,
        };
        self.weighted(part)
    }

    /// Returns what the term adds for a video that has one of the keywords.
    pub fn of_match(&self) -> f64 {
        self.weighted(1.0)
    }

    fn weighted(&self, part: f64) -> f64 {
        let added = self.weight * part;
        if added.is_nan() { 0.0 } else { added.clamp(-MOST, MOST) }
    }
}

fn micros(duration: SignedDuration) -> f64 {
    duration.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn term(weight: f64, form: TermForm) -> ScoreTerm {
        ScoreTerm { attribute: "a".to_owned(), weight, form }
    }

    #[test]
    fn each_form_gives_what_its_documentation_says() {
        let hour = SignedDuration::from_hours(1);
        let (now, ago) = (1e15, |hours: f64| 1e15 - hours * 3.6e9);
        let cases = [
            (term(2.0, TermForm::Linear), -3.5, -7.0),
            (term(2.0, TermForm::Log1p), 1.0f64.exp() - 1.0, 2.0),
            (term(2.0, TermForm::Log1p), -5.0, 0.0),
            (term(2.0, TermForm::Clamp { from: 10.0, to: 20.0 }), 9.0, 0.0),
            (term(2.0, TermForm::Clamp { from: 10.0, to: 20.0 }), 12.5, 0.5),
            (term(2.0, TermForm::Clamp { from: 10.0, to: 20.0 }), 99.0, 2.0),
            (term(-2.0, TermForm::HalfLife(hour)), ago(0.0), -2.0),
            (term(-2.0, TermForm::HalfLife(hour)), ago(-7.0), -2.0),
            (term(-2.0, TermForm::HalfLife(hour)), ago(3.0), -0.25),
            (term(1.0, TermForm::Window(hour)), ago(0.25), 0.75),
            (term(1.0, TermForm::Window(hour)), ago(1.5), 0.0),
            (term(1.0, TermForm::Window(hour)), ago(-1.5), 1.0),
        ];
        for (term, value, expected) in cases {
            let found = term.of_value(value, now);
            assert!(
                (found - expected).abs() < 1e-9,
                "{term:?} of {value}: expected {expected}, found {found}"
            );
        }
        assert_eq!(term(0.5, TermForm::Match { any_of: vec!["a".to_owned()] }).of_match(), 0.5);
    }

    proptest! {
        #[test]
        fn what_is_added_is_bounded_and_monotonic(
            weight in -ScoreTerm::MAX_WEIGHT..ScoreTerm::MAX_WEIGHT,
            values in (any::<f64>(), any::<f64>()),
            now in -1e18..1e18f64,
            micros in 1i64..i64::MAX,
            bounds in (-1e300..1e300f64, 1e-9..1e300f64),
        ) {
            let duration = SignedDuration::from_micros(micros);
            let clamp = TermForm::Clamp { from: bounds.0, to: (bounds.0 + bounds.1).max(bounds.0.next_up()) };
            for form in [
                TermForm::Linear, TermForm::Log1p, clamp, TermForm::HalfLife(duration), TermForm::Window(duration),
            ] {
                let term = term(weight.abs(), form);
                let (least, most) = (values.0.min(values.1), values.0.max(values.1));
                let [of_least, of_most] = [least, most].map(|value| term.of_value(value, now));
                prop_assert!(of_least.abs() <= MOST && of_most.abs() <= MOST, "{:?}", term);
                prop_assert!(of_least <= of_most || most.is_nan() || least.is_nan(), "{:?} {} {}", term, of_least, of_most);
            }
        }
    }
}
