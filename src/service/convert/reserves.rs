//! Reserves, both ways.

use super::filter;
use super::path::Path;
use crate::rules::{Places, Reserve, Sample};
use crate::service::error::InvalidField;
use crate::service::proto;

/// Reads the reserves of a request.
///
/// # Errors
/// If a reserve has no filter or no number of places, or its filter is malformed.
pub(super) fn reserves(reserves: Vec<proto::Reserve>) -> Result<Vec<Reserve>, InvalidField> {
    let read = |(position, reserve)| self::reserve(reserve, &Path::root_item("reserve", position));
    reserves.into_iter().enumerate().map(read).collect()
}

fn reserve(reserve: proto::Reserve, path: &Path<'_>) -> Result<Reserve, InvalidField> {
    let proto::Reserve { filter, filter_text, places, sample } = reserve;
    let filter = filter::either(filter, &filter_text, Some(path))?;
    let filter = filter.ok_or_else(|| {
        path.field("filter").invalid("is required: expected filter or filter_text, found none of them")
    })?;
    let places = match places {
        Some(proto::reserve::Places::AtLeast(count)) => Places::AtLeast(count as usize),
        Some(proto::reserve::Places::Share(share)) => Places::Share(share),
        None => return Err(path.invalid("expected at_least or share, found none of them")),
    };
    let sample = sample.map(|proto::reserve::Sample { temperature, seed }| Sample { temperature, seed });
    Ok(Reserve { filter, places, sample })
}

impl From<Reserve> for proto::Reserve {
    fn from(reserve: Reserve) -> Self {
        let Reserve { filter, places, sample } = reserve;
        Self {
            filter: Some(filter.into()),
            filter_text: String::new(),
            places: Some(match places {
                Places::AtLeast(count) => {
                    proto::reserve::Places::AtLeast(u32::try_from(count).unwrap_or(u32::MAX))
                }
                Places::Share(share) => proto::reserve::Places::Share(share),
            }),
            sample: sample.map(|Sample { temperature, seed }| proto::reserve::Sample { temperature, seed }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserves_survive_the_wire() {
        let texts = ["10:views > 5", "12.5%:views > 5", "5/0.5/42:views > 5 and is_live = true"];
        let expected: Vec<Reserve> = texts.iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(reserves(expected.iter().cloned().map(Into::into).collect()), Ok(expected.clone()));
        let text = proto::Reserve {
            filter: None,
            filter_text: "views > 5".to_owned(),
            ..expected[0].clone().into()
        };
        assert_eq!(reserves(vec![text]), Ok(expected[..1].to_vec()));
    }

    #[test]
    fn what_is_missing_is_named() {
        let complete: proto::Reserve = "10:views > 5".parse::<Reserve>().unwrap().into();
        let of = |reserve| reserves(vec![complete.clone(), reserve]).unwrap_err().path;
        assert_eq!(of(proto::Reserve { filter: None, ..complete.clone() }), "reserve[1].filter");
        assert_eq!(of(proto::Reserve { places: None, ..complete.clone() }), "reserve[1]");
        let both = proto::Reserve { filter_text: "views > 5".to_owned(), ..complete.clone() };
        assert_eq!(of(both), "reserve[1].filter_text");
        let text = proto::Reserve { filter: None, filter_text: "views >".to_owned(), ..complete.clone() };
        assert_eq!(of(text), "reserve[1].filter_text");
    }
}
