//! `shortlist takedown`, `restore`, `delete` and `get`: single videos of a running server.

use std::fmt::Write;

use anyhow::bail;

use super::ids::{shown, split};
use super::remote::Remote;
use super::value::{instant, value};
use crate::base::text::visible_text;
use crate::service::proto::lookup::State;
use crate::service::proto::{
    DeleteRequest, GetRequest, Lookup, RestoreRequest, TakedownRequest, Video, WriteResponse,
};

/// The videos, and their server.
#[derive(Debug, clap::Args)]
struct Videos {
    #[command(flatten)]
    remote: Remote,
    /// The name of the index. Not needed if the server has only one.
    #[arg(long, value_name = "NAME", default_value = "")]
    index: String,
    /// The ids of the videos, all numbers or all text.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// The ids are text, also those that are numbers. Without this flag, what is no number is text.
    #[arg(long)]
    text_ids: bool,
}

/// Take videos down: searches do not return them, even after later writes and builds, until they are restored.
#[derive(Debug, clap::Args)]
pub struct Takedown {
    #[command(flatten)]
    videos: Videos,
}

/// Restore videos that were taken down.
#[derive(Debug, clap::Args)]
pub struct Restore {
    #[command(flatten)]
    videos: Videos,
}

/// Delete videos: searches do not return them until a later write or build brings them back.
#[derive(Debug, clap::Args)]
pub struct Delete {
    #[command(flatten)]
    videos: Videos,
}

/// Show the attributes of videos as searches see them.
#[derive(Debug, clap::Args)]
pub struct Get {
    #[command(flatten)]
    videos: Videos,
    /// Also show the embeddings.
    #[arg(long)]
    vectors: bool,
    /// The model of the index to ask, of several that an alias stands for.
    #[arg(long, value_name = "NAME")]
    embedding_model: Option<String>,
}

/// Takes videos down.
///
/// # Errors
/// If the server cannot be reached, or refuses the request.
pub fn takedown(
    Takedown { videos: Videos { remote, index, ids, text_ids } }: Takedown,
) -> anyhow::Result<()> {
    let (video_ids, text_ids) = split(&ids, text_ids);
    let request = TakedownRequest { index, video_ids, text_ids };
    let response = remote.ask(async |client| Ok(client.takedown(request).await?))?;
    report(&remote, &response)
}

/// Restores videos that were taken down.
///
/// # Errors
/// If the server cannot be reached, or refuses the request.
pub fn restore(Restore { videos: Videos { remote, index, ids, text_ids } }: Restore) -> anyhow::Result<()> {
    let (video_ids, text_ids) = split(&ids, text_ids);
    let request = RestoreRequest { index, video_ids, text_ids };
    let response = remote.ask(async |client| Ok(client.restore(request).await?))?;
    report(&remote, &response)
}

/// Deletes videos.
///
/// # Errors
/// If the server cannot be reached, or refuses the request.
pub fn delete(Delete { videos: Videos { remote, index, ids, text_ids } }: Delete) -> anyhow::Result<()> {
    let (video_ids, text_ids) = split(&ids, text_ids);
    let request = DeleteRequest { index, video_ids, text_ids };
    let response = remote.ask(async |client| Ok(client.delete(request).await?))?;
    report(&remote, &response)
}

/// Prints videos.
///
/// # Errors
/// If the server cannot be reached, or refuses the request.
pub fn get(
    Get { videos: Videos { remote, index, ids, text_ids }, vectors, embedding_model }: Get,
) -> anyhow::Result<()> {
    let return_attributes = vec!["*".to_owned()];
    let (video_ids, text_ids) = split(&ids, text_ids);
    let embedding_model = embedding_model.unwrap_or_default();
    let return_vectors = vectors;
    let request =
        GetRequest { index, video_ids, text_ids, return_attributes, return_vectors, embedding_model };
    let response = remote.ask(async |client| Ok(client.get(request).await?))?;
    remote.print("GetResponse", &response, |response| response.results.iter().map(render).collect())
}

/// Prints the result of a write.
///
/// # Errors
/// If any video was not written.
fn report(remote: &Remote, response: &WriteResponse) -> anyhow::Result<()> {
    remote.print("WriteResponse", response, |response| {
        format!("{} written · sequence {}", response.written, response.sequence)
    })?;
    check(response)
}

fn check(response: &WriteResponse) -> anyhow::Result<()> {
    let problems = response.errors.iter().filter_map(|error| error.status.as_ref());
    let problems: Vec<&str> = problems.map(|status| status.message.as_str()).collect();
    if problems.is_empty() {
        return Ok(());
    }
    bail!("{} not written\n  {}", problems.len(), problems.join("\n  "))
}

/// Renders one line for the video, and one per attribute.
fn render(lookup: &Lookup) -> String {
    let state = match lookup.state() {
        State::Found => "",
        State::TakenDown => ": taken down",
        State::Unknown | State::Unspecified => ": not in the index",
    };
    let mut text = format!("video {}{state}\n", shown(lookup.video_id, &lookup.text_id));
    let Some(Video { vector, attributes, expires_at, .. }) = &lookup.video else { return text };
    for (name, attribute) in attributes {
        let value = attribute.value.as_ref().map(value).unwrap_or_default();
        let _ = writeln!(text, "  {} = {}", visible_text(name), visible_text(&value));
    }
    if let Some(at) = expires_at {
        let _ = writeln!(text, "  expires at {}", instant(at));
    }
    if let Some(vector) = vector {
        let _ = writeln!(text, "  vector {:?}", vector.values);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::proto::attribute_value::Value;
    use crate::service::proto::{AttributeValue, Vector, WriteError};

    #[test]
    fn shows_what_is_known_of_a_video() {
        let lookup =
            |state: State, video| Lookup { video_id: 7, state: state.into(), video, ..Lookup::default() };
        assert_eq!(render(&lookup(State::Unknown, None)), "video 7: not in the index\n");
        assert_eq!(render(&lookup(State::TakenDown, None)), "video 7: taken down\n");
        let at = prost_types::Timestamp { seconds: 1, nanos: 500_000_000 };
        let attribute = |name: &str, value| (name.to_owned(), AttributeValue { value: Some(value) });
        let video = Video {
            video_id: 7,
            vector: Some(Vector { values: vec![0.5, -1.0], packed: None }),
            attributes: [
                attribute("title", Value::Keyword("cats".into())),
                attribute("at", Value::Timestamp(at)),
            ]
            .into(),
            expires_at: Some(at),
            ..Video::default()
        };
        let expected = "video 7\n  at = 1970-01-01T00:00:01.5Z\n  title = cats\n  \
                        expires at 1970-01-01T00:00:01.5Z\n  vector [0.5, -1.0]\n";
        assert_eq!(render(&lookup(State::Found, Some(video))), expected);
    }

    #[test]
    fn an_attribute_is_one_line_and_does_nothing_to_the_terminal() {
        let value = Some(Value::Keyword("cats\n  expires at never\r\u{1b}[2J\u{202e}".into()));
        let attributes = [("ti\ntle".to_owned(), AttributeValue { value })].into();
        let video = Some(Video { video_id: 7, attributes, ..Video::default() });
        let text = render(&Lookup { video_id: 7, state: State::Found.into(), video, ..Lookup::default() });
        assert_eq!(text, "video 7\n  ti tle = cats   expires at never  [2J \n");
    }

    #[test]
    fn fails_when_not_everything_was_written() {
        assert!(check(&WriteResponse { sequence: 3, written: 1, ..WriteResponse::default() }).is_ok());
        let status = tonic_types::Status { message: "video_ids[1]: no".into(), ..Default::default() };
        let errors = vec![WriteError { position: 1, status: Some(status) }];
        let error = check(&WriteResponse { sequence: 3, written: 1, errors, ..WriteResponse::default() })
            .unwrap_err();
        assert_eq!(error.to_string(), "1 not written\n  video_ids[1]: no");
    }
}
