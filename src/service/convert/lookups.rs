//! Lookups of videos from the wire, and their answers.

use super::catalog::{TEXT_IDS, check_count};
use super::ids::ids;
use super::request::attributes_to_return;
use super::response::attribute_value;
use super::scalar::timestamp;
use crate::base::id::VideoId;
use crate::engine::{Lookup, ReturnAttributes, StoredVideo};
use crate::service::error::InvalidField;
use crate::service::proto;

/// The videos to look up, and what to return of each.
#[derive(Debug)]
pub(crate) struct Lookups {
    /// The name of the index, as in the request.
    pub(crate) index: String,
    pub(crate) videos: Vec<VideoId>,
    /// Their ids as text, if they were requested as text.
    pub(crate) texts: Vec<String>,
    pub(crate) attributes: ReturnAttributes,
    pub(crate) with_vectors: bool,
}

/// Reads the ids of a lookup.
///
/// # Errors
/// If there are more than `max_videos` ids, both kinds of ids, or an id that is no text id.
pub(crate) fn lookups(request: proto::GetRequest, max_videos: usize) -> Result<Lookups, InvalidField> {
    let proto::GetRequest {
        index,
        video_ids,
        return_attributes,
        return_vectors,
        text_ids,
        embedding_model: _,
    } = request;
    check_count("video_ids", video_ids.len(), max_videos)?;
    check_count(TEXT_IDS, text_ids.len(), max_videos)?;
    Ok(Lookups {
        index,
        videos: ids(video_ids, &text_ids)?,
        texts: text_ids,
        attributes: attributes_to_return(return_attributes)?,
        with_vectors: return_vectors,
    })
}

/// Creates the answer to [`lookups`]. `texts`: the ids of the lookups as text, or none. `model`: that of the index.
pub(crate) fn get_response(lookups: Vec<Lookup>, texts: Vec<String>, model: String) -> proto::GetResponse {
    let texts = texts.into_iter().map(Some).chain(std::iter::repeat(None));
    let results = lookups.into_iter().zip(texts).map(lookup).collect();
    proto::GetResponse { results, embedding_model: model }
}

fn lookup((lookup, text): (Lookup, Option<String>)) -> proto::Lookup {
    use proto::lookup::State;
    let (VideoId(video_id), state, video) = match lookup {
        Lookup::Found(video) => (video.video_id, State::Found, Some(stored(video))),
        Lookup::TakenDown(video) => (video, State::TakenDown, None),
        Lookup::Unknown(video) => (video, State::Unknown, None),
    };
    let text_id = text.or_else(|| video.as_ref().map(|video| video.text_id.clone()));
    proto::Lookup { video_id, state: state.into(), video, text_id: text_id.unwrap_or_default() }
}

fn stored(video: StoredVideo) -> proto::Video {
    let attribute = |(name, value)| (name, attribute_value(value));
    proto::Video {
        video_id: video.video_id.0,
        vector: video.vector.map(|values| proto::Vector { values, packed: None }),
        attributes: video.attributes.into_iter().map(attribute).collect(),
        expires_at: video.expires_at.map(timestamp),
        embedding_model: String::new(),
        text_id: video.text_id.unwrap_or_default(),
        vectors: Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::Value;
    use crate::base::instant::Instant;

    #[test]
    fn lookups_are_bounded() {
        let get = |count| proto::GetRequest { video_ids: vec![1; count], ..Default::default() };
        assert!(lookups(get(2), 2).is_ok());
        assert!(lookups(get(3), 2).is_err());
    }

    #[test]
    fn a_lookup_says_what_became_of_each_video() {
        let found = StoredVideo {
            video_id: VideoId(7),
            text_id: None,
            vector: Some(vec![1.0]),
            attributes: vec![("views".into(), Value::Uint64(3))],
            expires_at: Some(Instant::from_microsecond(5_000_000).unwrap()),
        };
        let lookups = vec![Lookup::Unknown(VideoId(9)), Lookup::Found(found), Lookup::TakenDown(VideoId(8))];
        let results = get_response(lookups, Vec::new(), String::new()).results;
        let states: Vec<_> = results.iter().map(|result| (result.video_id, result.state())).collect();
        use proto::lookup::State;
        assert_eq!(states, [(9, State::Unknown), (7, State::Found), (8, State::TakenDown)]);
        assert_eq!((&results[0].video, &results[2].video), (&None, &None));
        let video = results[1].video.as_ref().unwrap();
        assert_eq!(
            (video.video_id, video.expires_at),
            (7, Some(prost_types::Timestamp { seconds: 5, nanos: 0 }))
        );
        assert_eq!(video.vector.as_ref().unwrap().values, [1.0]);
        assert_eq!(video.attributes["views"].value, Some(proto::attribute_value::Value::Uint64(3)));
    }
}
