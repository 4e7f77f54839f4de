//! The rules of a search request, from the wire.
//!
//! The bytes of bitmaps and Bloom filters are moved here and parsed later, on a compute thread, because parsing takes
//! time.

use jiff::SignedDuration;

use super::bound::signed_duration;
use super::filter;
use super::path::Path;
use crate::base::id::VideoId;
use crate::rules::{Bloom, Cap, Diversity, Exclude, Fresh, Rules};
use crate::service::error::InvalidField;
use crate::service::proto;

/// The default attribute for the age of a video.
const PUBLISHED_AT: &str = "published_at";

/// The fields of a request that are rules, as received.
pub(super) struct WireRules {
    pub(super) filter: Option<proto::Filter>,
    pub(super) filter_text: String,
    pub(super) exclude: Option<proto::Exclude>,
    pub(super) caps: Vec<proto::Cap>,
    pub(super) fresh: Option<proto::Fresh>,
    pub(super) score_threshold: Option<f32>,
    pub(super) score_terms: Vec<proto::ScoreTerm>,
    pub(super) reserves: Vec<proto::Reserve>,
    pub(super) diversity: Option<proto::Diversity>,
}

/// Reads the rules.
///
/// # Errors
/// [`InvalidField`] with the path of the field.
pub(super) fn rules(wire: WireRules) -> Result<Rules, InvalidField> {
    let WireRules {
        filter,
        filter_text,
        exclude,
        caps,
        fresh: fresh_wire,
        score_threshold,
        score_terms,
        reserves,
        diversity,
    } = wire;
    if let Some(found) = score_threshold.filter(|threshold| !threshold.is_finite()) {
        let problem = format!("expected a finite number, found {found}");
        return Err(InvalidField::new("score_threshold", problem));
    }
    Ok(Rules {
        filter: filter::either(filter, &filter_text, None)?,
        exclude: exclude.map(excluded).unwrap_or_default(),
        caps: caps.into_iter().map(cap).collect(),
        fresh: fresh_wire.map(fresh).transpose()?,
        score_threshold,
        score_terms: super::score_terms::score_terms(score_terms)?,
        reserves: super::reserves::reserves(reserves)?,
        diversity: diversity.map(Into::into),
    })
}

impl From<proto::Diversity> for Diversity {
    fn from(proto::Diversity { max_similarity, lambda }: proto::Diversity) -> Self {
        Self { max_similarity, lambda }
    }
}

impl From<Diversity> for proto::Diversity {
    fn from(Diversity { max_similarity, lambda }: Diversity) -> Self {
        Self { max_similarity, lambda }
    }
}

fn excluded(exclude: proto::Exclude) -> Exclude {
    let proto::Exclude { video_ids, roaring, bloom, text_ids } = exclude;
    Exclude {
        video_ids: video_ids.into_iter().map(VideoId).collect(),
        text_ids,
        roaring,
        bloom: bloom.map(|proto::Bloom { bits, hashes, seed }| Bloom { bits, hashes, seed }),
    }
}

fn cap(cap: proto::Cap) -> Cap {
    Cap { attribute: cap.attribute, max_per_value: cap.max_per_value as usize }
}

fn fresh(fresh: proto::Fresh) -> Result<Fresh, InvalidField> {
    let path = Path::root("fresh");
    let path = path.field("within");
    let within =
        fresh.within.ok_or_else(|| path.invalid("is required: expected more than 0 s, found none"))?;
    let within = signed_duration(&within, &path)?;
    if within <= SignedDuration::ZERO {
        return Err(path.invalid(format!("expected more than 0 s, found {within:#}")));
    }
    let attribute = if fresh.attribute.is_empty() { PUBLISHED_AT.to_owned() } else { fresh.attribute };
    Ok(Fresh { attribute, within, at_least: fresh.at_least as usize })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> WireRules {
        WireRules {
            filter: None,
            filter_text: String::new(),
            exclude: None,
            caps: Vec::new(),
            fresh: None,
            score_threshold: None,
            score_terms: Vec::new(),
            reserves: Vec::new(),
            diversity: None,
        }
    }

    fn refused(wire: WireRules) -> (String, String) {
        match rules(wire) {
            Err(InvalidField { path, problem }) => (path, problem),
            other => panic!("expected an invalid argument, found {other:?}"),
        }
    }

    #[test]
    fn a_request_without_rules_has_none() {
        assert_eq!(rules(wire()).unwrap(), Rules::default());
    }

    #[test]
    fn bytes_of_an_exclusion_are_moved_as_they_are() {
        let bloom = proto::Bloom { bits: vec![1, 2], hashes: 77, seed: u64::MAX };
        let exclude = proto::Exclude {
            video_ids: vec![9, 3, 9],
            roaring: vec![0xff; 3],
            bloom: Some(bloom),
            text_ids: vec!["a".to_owned()],
        };
        let expected = Exclude {
            text_ids: vec!["a".to_owned()],
            video_ids: vec![VideoId(9), VideoId(3), VideoId(9)],
            roaring: vec![0xff; 3],
            bloom: Some(Bloom { bits: vec![1, 2], hashes: 77, seed: u64::MAX }),
        };
        assert_eq!(rules(WireRules { exclude: Some(exclude), ..wire() }).unwrap().exclude, expected);
    }

    #[test]
    fn fresh_means_published_at_by_default_and_needs_a_duration() {
        let fresh =
            |attribute: &str, within| proto::Fresh { attribute: attribute.to_owned(), within, at_least: 5 };
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let of = |fresh| rules(WireRules { fresh: Some(fresh), ..wire() }).unwrap().fresh.unwrap();
        let expected =
            Fresh { attribute: "published_at".into(), within: SignedDuration::from_hours(1), at_least: 5 };
        assert_eq!(of(fresh("", seconds(3600))), expected);
        assert_eq!(of(fresh("edited", seconds(3600))), Fresh { attribute: "edited".into(), ..expected });
        let disagreeing = Some(prost_types::Duration { seconds: 1, nanos: -1 });
        for within in [None, seconds(0), seconds(-1), seconds(i64::MAX), disagreeing] {
            assert_eq!(refused(WireRules { fresh: Some(fresh("", within)), ..wire() }).0, "fresh.within");
        }
    }

    #[test]
    fn a_threshold_is_finite() {
        let threshold = |score_threshold| WireRules { score_threshold: Some(score_threshold), ..wire() };
        assert_eq!(rules(threshold(-0.5)).unwrap().score_threshold, Some(-0.5));
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let problem = format!("expected a finite number, found {wrong}");
            assert_eq!(refused(threshold(wrong)), ("score_threshold".to_owned(), problem));
        }
    }
}
