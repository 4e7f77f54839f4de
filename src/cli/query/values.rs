//! Parsers of flag values such as `ID=WEIGHT` and `FILE.npy:ROW`.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use shortlist_client::Id;

use crate::cli::ids::id;
use crate::dataset::Embeddings;
use crate::rules::duration;
use crate::service::proto::{Cap, Fresh, Seed, Vector};

/// A row of an embedding file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) path: PathBuf,
    pub(super) row: usize,
}

impl Row {
    /// Reads the embedding.
    ///
    /// # Errors
    /// If the file cannot be read, or does not have the row.
    pub(super) fn read(&self) -> anyhow::Result<Vector> {
        let embeddings = Embeddings::open(&self.path)?;
        let view = embeddings.view();
        anyhow::ensure!(
            self.row < view.len(),
            "{}: row {}: the file has rows 0 to {}",
            self.path.display(),
            self.row,
            view.len().saturating_sub(1)
        );
        let mut values = Vec::new();
        view.copy_row(self.row, &mut values);
        Ok(Vector { values, packed: None })
    }
}

/// An interest: the source of its embedding, and its weight.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct InterestSource {
    pub(super) row: Row,
    pub(super) weight: Option<f32>,
    pub(super) min_share: Option<f32>,
}

/// Parses `FILE.npy[:ROW]`. The path may contain colons; only digits after the last one are a row.
pub(super) fn row(text: &str) -> Result<Row, String> {
    let (path, row) = before_number(text, ':');
    Ok(Row { path: Path::new(path).to_owned(), row: row.unwrap_or(0) })
}

/// Parses `FILE.npy[:ROW][=WEIGHT][@SHARE]`. The path may contain these separators; only a number after the last one is
/// a value.
pub(super) fn interest(text: &str) -> Result<InterestSource, String> {
    let (rest, min_share) = before_number(text, '@');
    let (rest, weight) = before_number(rest, '=');
    Ok(InterestSource { row: row(rest)?, weight, min_share })
}

/// Parses `ID[=WEIGHT]`. An id that is text may have equals signs; only a number after the last one is a weight.
pub(super) fn seed(text: &str, is_text: bool) -> anyhow::Result<Seed> {
    let (id, weight) = before_number(text, '=');
    ensure!(!id.is_empty(), "--seed {text}: expected ID or ID=WEIGHT, such as 42=-0.5");
    Ok(seed_of(id, weight, is_text))
}

/// A seed of this id and weight.
pub(super) fn seed_of(argument: &str, weight: Option<f32>, is_text: bool) -> Seed {
    match id(argument, is_text) {
        Id::Number(video_id) => Seed { video_id, weight, ..Seed::default() },
        Id::Text(text_id) => Seed { text_id, weight, ..Seed::default() },
    }
}

/// Parses `ATTRIBUTE=N`.
pub(super) fn cap(text: &str) -> Result<Cap, String> {
    match before_number(text, '=') {
        (attribute, Some(max_per_value)) if !attribute.is_empty() => {
            Ok(Cap { attribute: attribute.to_owned(), max_per_value })
        }
        _ => Err("expected ATTRIBUTE=N, such as creator=2".to_owned()),
    }
}

/// Parses `N:DURATION[:ATTRIBUTE]`.
pub(super) fn fresh(text: &str) -> Result<Fresh, String> {
    let wrong = || {
        "expected N:DURATION or N:DURATION:ATTRIBUTE, such as 10:7d, with a duration in s, m, h, d or w"
            .to_owned()
    };
    let mut parts = text.splitn(3, ':');
    let at_least = parts.next().and_then(|count| count.parse().ok()).ok_or_else(wrong)?;
    let within = parts.next().and_then(duration).ok_or_else(wrong)?;
    let attribute = parts.next().unwrap_or_default().to_owned();
    let within = prost_types::Duration { seconds: within.as_secs(), nanos: within.subsec_nanos() };
    Ok(Fresh { attribute, within: Some(within), at_least })
}

/// Splits `text` at the last `separator` if a number follows it. Otherwise returns all of it and `None`.
fn before_number<T: std::str::FromStr>(text: &str, separator: char) -> (&str, Option<T>) {
    let split = text.rsplit_once(separator).and_then(|(before, number)| Some((before, number.parse().ok()?)));
    match split {
        Some((before, number)) => (before, Some(number)),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str, row: usize) -> Row {
        Row { path: PathBuf::from(path), row }
    }

    #[test]
    fn a_row_is_digits_after_the_last_colon() {
        assert_eq!(row("a.npy"), Ok(of("a.npy", 0)));
        assert_eq!(row("a.npy:12"), Ok(of("a.npy", 12)));
        assert_eq!(row("a:b.npy"), Ok(of("a:b.npy", 0)));
        assert_eq!(row("a:b.npy:3"), Ok(of("a:b.npy", 3)));
    }

    #[test]
    fn an_interest_is_a_row_with_a_weight_and_a_share() {
        let interest_of = |row, weight, min_share| Ok(InterestSource { row, weight, min_share });
        assert_eq!(interest("a.npy"), interest_of(of("a.npy", 0), None, None));
        assert_eq!(interest("a.npy:7=2"), interest_of(of("a.npy", 7), Some(2.0), None));
        assert_eq!(interest("a.npy:7@0.25"), interest_of(of("a.npy", 7), None, Some(0.25)));
        assert_eq!(interest("a.npy=0.5@0.25"), interest_of(of("a.npy", 0), Some(0.5), Some(0.25)));
        assert_eq!(interest("day=3/u@x.npy:7"), interest_of(of("day=3/u@x.npy", 7), None, None));
    }

    #[test]
    fn a_seed_is_an_id_with_a_weight() {
        let number = |video_id, weight| Seed { video_id, weight, ..Seed::default() };
        let text = |text_id: &str, weight| Seed { text_id: text_id.to_owned(), weight, ..Seed::default() };
        for (argument, is_text, expected) in [
            ("5", false, number(5, None)),
            ("18446744073709551615=-0.5", false, number(u64::MAX, Some(-0.5))),
            ("5", true, text("5", None)),
            ("5=2", true, text("5", Some(2.0))),
            ("dQw4w9WgXcQ=-0.5", false, text("dQw4w9WgXcQ", Some(-0.5))),
            ("a=b=1", false, text("a=b", Some(1.0))),
            ("5=x", false, text("5=x", None)),
        ] {
            assert_eq!(seed(argument, is_text).unwrap(), expected, "{argument}");
        }
        for wrong in ["", "=1"] {
            assert!(seed(wrong, false).unwrap_err().to_string().contains("42=-0.5"), "{wrong}");
        }
    }

    #[test]
    fn a_cap_is_an_attribute_with_a_number() {
        assert_eq!(cap("creator=2"), Ok(Cap { attribute: "creator".to_owned(), max_per_value: 2 }));
        assert_eq!(cap("a=b=2"), Ok(Cap { attribute: "a=b".to_owned(), max_per_value: 2 }));
        for wrong in ["", "creator", "creator=", "creator=x", "creator=-1", "=2"] {
            assert!(cap(wrong).unwrap_err().contains("creator=2"), "{wrong}");
        }
    }

    #[test]
    fn fresh_is_a_number_within_a_duration() {
        let of = |attribute: &str, seconds, nanos| {
            let within = Some(prost_types::Duration { seconds, nanos });
            Ok(Fresh { attribute: attribute.to_owned(), within, at_least: 10 })
        };
        assert_eq!(fresh("10:7d"), of("", 7 * 86_400, 0));
        assert_eq!(fresh("10:1.5s:edited:at"), of("edited:at", 1, 500_000_000));
        for wrong in ["", "10", "10:", "10:7", "10:-7d", "x:7d", "-1:7d"] {
            assert!(fresh(wrong).unwrap_err().contains("such as 10:7d"), "{wrong}");
        }
    }
}
