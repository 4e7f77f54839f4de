//! Ids of videos from the wire: numbers or text.

use super::path::Path;
use crate::base::id::VideoId;
use crate::dataset::MAX_TEXT_ID;
use crate::service::error::InvalidField;
use crate::service::proto;

/// Reads an id that is a number or, if `text` is not empty, text. `path`: of the text.
///
/// # Errors
/// If there are both, or the text is too long.
pub(super) fn id(video_id: u64, text: &str, path: &Path<'_>) -> Result<VideoId, InvalidField> {
    match (video_id, text) {
        (id, "") => Ok(VideoId(id)),
        (0, text) => of_text(text, path),
        _ => Err(path.invalid("expected video_id or text_id, found both")),
    }
}

/// Reads ids that are all numbers or all text.
///
/// # Errors
/// If there are both, or a text is empty or too long.
pub(super) fn ids(video_ids: Vec<u64>, text_ids: &[String]) -> Result<Vec<VideoId>, InvalidField> {
    if !video_ids.is_empty() && !text_ids.is_empty() {
        return Err(InvalidField::new("text_ids", "expected video_ids or text_ids, found both"));
    }
    let mut ids: Vec<VideoId> = video_ids.into_iter().map(VideoId).collect();
    for (position, text) in text_ids.iter().enumerate() {
        ids.push(of_text(text, &Path::root_item("text_ids", position))?);
    }
    Ok(ids)
}

fn of_text(text: &str, path: &Path<'_>) -> Result<VideoId, InvalidField> {
    if (1..=MAX_TEXT_ID).contains(&text.len()) {
        return Ok(VideoId::of_text(text));
    }
    Err(path.invalid(format!("expected 1 to {MAX_TEXT_ID} bytes, found {}", text.len())))
}

/// Reads the video of an explanation.
///
/// # Errors
/// As [`id`].
pub(crate) fn explained_id(video_id: u64, text: &str) -> Result<VideoId, InvalidField> {
    id(video_id, text, &Path::root("text_id"))
}

/// The first field of a search that has an id as text.
pub(crate) fn text_field(request: &proto::SearchRequest) -> Option<String> {
    if request.exclude.as_ref().is_some_and(|exclude| !exclude.text_ids.is_empty()) {
        return Some("exclude.text_ids".to_owned());
    }
    let Some(proto::search_request::Query::Seeds(seeds)) = &request.query else { return None };
    let position = seeds.seeds.iter().position(|seed| !seed.text_id.is_empty())?;
    Some(format!("query.seeds.seeds[{position}].text_id"))
}
