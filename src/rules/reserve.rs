//! Places kept for videos that match a filter.
//!
//! The text form is `PLACES[/TEMPERATURE[/SEED]]:FILTER`, where the places are a number or a percentage of k:
//! `10:language = "pt"`, `20%:impressions < 1000`, `5/0.3/42:impressions < 1000`.

use std::fmt;
use std::str::FromStr;

use super::Filter;
use crate::base::id::VideoId;
use crate::base::mix::mix;

/// Places kept for the videos that match a filter.
#[derive(Clone, Debug, PartialEq)]
pub struct Reserve {
    /// Videos that match it may get the places.
    pub filter: Filter,
    /// How many places.
    pub places: Places,
    /// How the videos that get them are drawn; `None` for the best.
    pub sample: Option<Sample>,
}

/// How many of the k candidates at least must match, as far as enough videos do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Places {
    /// This many.
    AtLeast(usize),
    /// This share of k, rounded down; 0 to 1.
    Share(f32),
}

/// How the videos are drawn that get reserved places: one after another, each with a probability proportional to
/// exp(score / temperature) among those that are left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// In units of scores; greater than 0 and finite. The larger, the less the score counts.
    pub temperature: f32,
    /// Equal seeds draw the same videos from the same scores.
    pub seed: u64,
}

impl Reserve {
    /// Most reserves of a request.
    pub const MAX_RESERVES: usize = 8;

    /// Keeps `at_least` places for the best videos that match `filter`.
    pub fn new(filter: Filter, at_least: usize) -> Self {
        Self { filter, places: Places::AtLeast(at_least), sample: None }
    }

    /// How many of `k` places are kept.
    pub fn at_least(&self, k: usize) -> usize {
        match self.places {
            Places::AtLeast(count) => count,
            Places::Share(share) => share_of(share, k),
        }
    }
}

/// Rounds a share to six decimal digits: 0.95 as an `f32` is not exactly 0.95.
pub(crate) fn decimal(share: f32) -> f64 {
    (f64::from(share) * 1e6).round() / 1e6
}

/// A share of k, rounded down.
pub(crate) fn share_of(share: f32, k: usize) -> usize {
    // 0.7 as an f32 is not exactly 0.7: without the tolerance, the share could be one too small.
    (decimal(share) * k as f64 + 1e-6) as usize
}

const EXPECTED: &str = "expected PLACES[/TEMPERATURE[/SEED]]:FILTER, such as 10:language = \"pt\", \
                        20%:impressions < 1000 or 5/0.3/42:impressions < 1000";

impl FromStr for Reserve {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |problem: String| format!("{EXPECTED}, found {text:?}: {problem}");
        let (places, filter) = text.split_once(':').ok_or_else(|| wrong("no colon".to_owned()))?;
        let mut parts = places.trim().splitn(3, '/');
        let places = parts.next().unwrap_or_default();
        let places = match places.strip_suffix('%') {
            Some(percent) => percent.parse().map(|percent: f32| Places::Share(percent / 100.0)).ok(),
            None => places.parse().map(Places::AtLeast).ok(),
        };
        let places = places.ok_or_else(|| wrong("the places are no number".to_owned()))?;
        let sample = match parts.next() {
            None => None,
            Some(temperature) => Some(Sample {
                temperature: temperature
                    .parse()
                    .map_err(|_| wrong(format!("the temperature {temperature:?} is no number")))?,
                seed: match parts.next() {
                    None => 0,
                    Some(seed) => {
                        seed.parse().map_err(|_| wrong(format!("the seed {seed:?} is no whole number")))?
                    }
                },
            }),
        };
        let filter = filter.parse().map_err(|error| wrong(format!("{error}")))?;
        Ok(Self { filter, places, sample })
    }
}

impl fmt::Display for Reserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.places {
            Places::AtLeast(count) => write!(f, "{count}")?,
            Places::Share(share) => write!(f, "{}%", (f64::from(share) * 1e8).round() / 1e6)?,
        }
        if let Some(Sample { temperature, seed }) = self.sample {
            write!(f, "/{temperature}/{seed}")?;
        }
        write!(f, ":{}", self.filter)
    }
}

impl Sample {
    /// More than the noise of any video.
    pub(crate) const MOST_NOISE: f64 = 38.0;

    /// Whether the temperature is.
    pub(crate) fn is_valid(&self) -> bool {
        self.temperature > 0.0 && self.temperature.is_finite()
    }

    /// Videos are drawn in the order of their keys, the largest first.
    ///
    /// With independent noise from the Gumbel distribution, this draws without replacement as described for [`Sample`].
    pub(crate) fn key(&self, score: f32, video: VideoId) -> f64 {
        f64::from(score) / f64::from(self.temperature) + self.noise(video)
    }

    /// A number from the Gumbel distribution, which the seed and the video determine.
    #[inline]
    pub(crate) fn noise(&self, video: VideoId) -> f64 {
        let bits = mix(mix(video.0 ^ mix(self.seed)));
        // Between 0 and 1, and neither of them.
        let uniform = ((bits >> 12) as f64 + 0.5) / (1u64 << 52) as f64;
        -(-uniform.ln()).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_down_as_it_is_written() {
        assert_eq!([0.7, 0.29, 0.1, 1.0, 0.0].map(|share| share_of(share, 10)), [7, 2, 1, 10, 0]);
        assert_eq!(share_of(0.1, 9), 0);
    }

    /// Two of three videos, drawn with many seeds, against the probabilities of drawing without replacement.
    #[test]
    fn videos_are_drawn_with_probabilities_that_rise_with_the_score() {
        let scores = [0.0f32, 1.0, 2.0];
        let weight = |at: usize| (f64::from(scores[at]) / 0.8).exp();
        let total: f64 = (0..3).map(weight).sum();
        let draws = 40_000;
        let mut found = [[0usize; 3]; 3];
        for seed in 0..draws {
            let sample = Sample { temperature: 0.8, seed };
            let mut order = [0usize, 1, 2];
            let key = |at: usize| sample.key(scores[at], VideoId(1_000 + at as u64));
            order.sort_by(|one, other| key(*other).total_cmp(&key(*one)));
            found[order[0]][order[1]] += 1;
        }
        for (first, found) in found.iter().enumerate() {
            for second in (0..3).filter(|second| *second != first) {
                let expected = weight(first) / total * weight(second) / (total - weight(first));
                let share = found[second] as f64 / draws as f64;
                assert!((share - expected).abs() < 0.01, "{first}, {second}: {share} for {expected}");
            }
        }
    }

    #[test]
    fn texts_are_read_and_printed() {
        let filter = || r#"language = "pt""#.parse::<Filter>().unwrap();
        let of = |places, sample| Reserve { filter: filter(), places, sample };
        let sample = |temperature, seed| Some(Sample { temperature, seed });
        let cases = [
            (r#"10:language = "pt""#, of(Places::AtLeast(10), None)),
            (r#"12.5%:language = "pt""#, of(Places::Share(0.125), None)),
            (r#"5/0.5/42:language = "pt""#, of(Places::AtLeast(5), sample(0.5, 42))),
        ];
        for (text, reserve) in cases {
            assert_eq!(text.parse(), Ok(reserve.clone()));
            assert_eq!(reserve.to_string(), text);
        }
        assert_eq!(r#" 5/2 : language = "pt""#.parse(), Ok(of(Places::AtLeast(5), sample(2.0, 0))));
        for (text, problem) in [
            ("10", "no colon"),
            ("many:views > 1", "the places are no number"),
            ("-1:views > 1", "the places are no number"),
            ("1/hot:views > 1", "the temperature \"hot\" is no number"),
            ("1/2/-3:views > 1", "the seed \"-3\" is no whole number"),
        ] {
            let error = text.parse::<Reserve>().unwrap_err();
            assert!(error.starts_with("expected PLACES") && error.ends_with(problem), "{error}");
        }
        assert!("1:views >".parse::<Reserve>().unwrap_err().contains("line 1"));
    }

    #[test]
    fn noise_is_finite_and_bounded() {
        let bound = Sample::MOST_NOISE;
        for uniform in [0.5 / (1u64 << 52) as f64, 1.0 - 0.5 / (1u64 << 52) as f64] {
            let noise = -(-uniform.ln()).ln();
            assert!(noise.is_finite() && noise.abs() < bound, "{noise}");
        }
    }
}
