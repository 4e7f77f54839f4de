//! Parses one line of a file of requests: a JSON object in which every field is optional.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;

use jiff::SignedDuration;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::rules::{Cap, Diversity, Filter, Fresh, Places, Reserve, Sample, ScoreTerm, duration};
use crate::search::Plan;

/// The fields of a line.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Line {
    /// Requests with the same label are measured together.
    pub(super) label: Option<String>,
    /// A row of the queries.
    pub(super) query: Option<usize>,
    pub(super) interests: Option<Vec<InterestLine>>,
    pub(super) seeds: Option<Vec<SeedLine>>,
    #[serde(deserialize_with = "filter")]
    pub(super) filter: Option<Filter>,
    pub(super) exclude: Vec<u64>,
    /// Relative to the file of requests.
    pub(super) exclude_file: Option<PathBuf>,
    /// Caps by attribute, in the order of the line.
    #[serde(deserialize_with = "caps")]
    pub(super) caps: Vec<Cap>,
    pub(super) fresh: Option<FreshLine>,
    pub(super) reserve: Vec<ReserveLine>,
    pub(super) diversity: Option<DiversityLine>,
    #[serde(deserialize_with = "optional_number")]
    pub(super) score_threshold: Option<f32>,
    #[serde(deserialize_with = "score_terms")]
    pub(super) score_terms: Vec<ScoreTerm>,
    pub(super) offset: usize,
    #[serde(deserialize_with = "plan")]
    pub(super) plan: Option<Plan>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InterestLine {
    /// A row of the queries.
    pub(super) query: usize,
    #[serde(default = "one", deserialize_with = "number")]
    pub(super) weight: f32,
    #[serde(default, deserialize_with = "number")]
    pub(super) min_share: f32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SeedLine {
    pub(super) video_id: u64,
    #[serde(default = "one", deserialize_with = "number")]
    pub(super) weight: f32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FreshLine {
    #[serde(deserialize_with = "within")]
    within: SignedDuration,
    at_least: usize,
    #[serde(default = "published_at")]
    attribute: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReserveLine {
    #[serde(deserialize_with = "filter")]
    filter: Option<Filter>,
    at_least: Option<usize>,
    #[serde(default, deserialize_with = "optional_number")]
    share: Option<f32>,
    sample: Option<SampleLine>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DiversityLine {
    #[serde(default, deserialize_with = "optional_number")]
    max_similarity: Option<f32>,
    #[serde(default, deserialize_with = "optional_number")]
    lambda: Option<f32>,
}

impl From<DiversityLine> for Diversity {
    fn from(DiversityLine { max_similarity, lambda }: DiversityLine) -> Self {
        Self { max_similarity, lambda }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SampleLine {
    #[serde(deserialize_with = "number")]
    temperature: f32,
    #[serde(default)]
    seed: u64,
}

impl ReserveLine {
    /// Reads the reserve at a position of a line.
    pub(super) fn read(self, position: usize) -> Result<Reserve, String> {
        let places = match (self.at_least, self.share) {
            (Some(count), None) => Places::AtLeast(count),
            (None, Some(share)) => Places::Share(share),
            _ => return Err(format!("reserve[{position}]: expected either at_least or share")),
        };
        let sample = self.sample.map(|SampleLine { temperature, seed }| Sample { temperature, seed });
        Ok(Reserve { filter: self.filter.unwrap_or_default(), places, sample })
    }
}

impl Line {
    /// Parses a line.
    ///
    /// # Errors
    /// A message with the column and the field at fault.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        // serde would also accept an array of the field values.
        if text.trim_ascii_start().first() != Some(&b'{') {
            return Err("expected an object, such as {\"filter\": \"region = 'US'\"}".to_owned());
        }
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        let line = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
            let path = error.path().to_string();
            // The field is named only for wrong values: a JSON syntax error may be between fields, so the column locates
            // it better.
            let is_of_field = error.inner().is_data() && path != ".";
            let field = if is_of_field { format!("{path}: ") } else { String::new() };
            problem(&field, error.inner())
        })?;
        deserializer.end().map_err(|error| problem("", &error))?;
        Ok(line)
    }
}

impl From<FreshLine> for Fresh {
    fn from(FreshLine { within, at_least, attribute }: FreshLine) -> Self {
        Fresh { attribute, within, at_least }
    }
}

/// Drops the line number of serde, which is always 1: the caller adds the line in the file.
fn problem(field: &str, error: &serde_json::Error) -> String {
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = error.to_string();
    format!("column {}: {field}{}", error.column(), text.strip_suffix(&place).unwrap_or(&text))
}

fn one() -> f32 {
    1.0
}

/// Reads a number that may be too large, which the check of the request says with the field.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
    Ok(f64::deserialize(deserializer)? as f32)
}

fn optional_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f32>, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.map(|number| number as f32))
}

fn published_at() -> String {
    "published_at".to_owned()
}

fn filter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Filter>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(D::Error::custom)
}

fn score_terms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ScoreTerm>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
}

/// Rejects duplicate attributes, which a map would silently drop, and keeps their order.
fn caps<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Cap>, D::Error> {
    struct Caps;

    impl<'de> Visitor<'de> for Caps {
        type Value = Vec<Cap>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of attributes and numbers")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut caps = Vec::new();
            let mut known = HashSet::new();
            while let Some(attribute) = map.next_key::<String>()? {
                if !known.insert(attribute.clone()) {
                    return Err(A::Error::custom(format_args!("duplicate field `{attribute}`")));
                }
                caps.push(Cap { attribute, max_per_value: map.next_value()? });
            }
            Ok(caps)
        }
    }

    deserializer.deserialize_map(Caps)
}

fn plan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Plan>, D::Error> {
    let word = String::deserialize(deserializer)?;
    word.parse().map(Some).map_err(D::Error::custom)
}

fn within<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SignedDuration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let within = duration(&text).filter(|within| within.is_positive());
    within.ok_or_else(|| {
        D::Error::custom(format!("expected a duration in s, m, h, d or w, such as 7d, found {text:?}"))
    })
}
