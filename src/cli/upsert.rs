//! `shortlist upsert`: sends a catalog to a running server.
//!
//! Batches flow over one stream: the server says by its flow control how many are in flight. Batches that it has no room for
//! are sent again, after the delay that it suggests.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, ensure};
use prost::Message as _;
use serde::Serialize;
use serde_json::json;
use shortlist_client::{Client, Error};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::ids::shown;
use super::inputs::CatalogArguments;
use super::interrupt::Interrupted;
use super::progress::BuildBars;
use super::remote::Remote;
use crate::attributes;
use crate::base::metric::Metric;
use crate::base::text::visible_text;
use crate::build::Progress as _;
use crate::dataset::{ColumnValues, Dataset, ID_COLUMN, IdSource, Keywords, NEVER};
use crate::service::proto::attribute_value::Value;
use crate::service::proto::stream_upsert_response::Item;
use crate::service::proto::{
    AttributeValue, KeywordList, StreamUpsertRequest, UpsertRequest, Vector, Video, WriteResponse,
};

/// A batch ends after this many bytes, so that it is below the message limit of any server.
const BATCH_BYTES: usize = 1 << 20;
/// How often in a row the server may have no room for any batch.
const MOST_IN_VAIN: u32 = 20;

/// Insert or replace the videos of a catalog on a running server. Videos that it refuses are reported; the others are
/// written.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    remote: Remote,
    /// The name of the index. Not needed if the server has only one.
    #[arg(long, value_name = "NAME", default_value = "")]
    index: String,
    #[command(flatten)]
    catalog: CatalogArguments,
    /// The model that produced the embeddings. Default: the model of the index.
    #[arg(long, value_name = "NAME", default_value = "")]
    embedding_model: String,
    /// Videos per batch. A batch with more than 1 MiB is split.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..))]
    batch_size: u16,
}

/// Sends the catalog, and prints what was written.
///
/// # Errors
/// If a file is invalid, a video is refused, or the server goes away.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let started = Instant::now();
    let bars = BuildBars::new()?;
    let catalog = Arc::new(Catalog::read(arguments)?);
    let videos = catalog.dataset.ids.len();
    bars.begin("sending videos", videos as u64);
    let mut sent = Sent::default();
    let ended = arguments.remote.ask(async |client| sent.send(&client, &catalog, &bars).await);
    match &ended {
        Ok(()) => bars.finish(),
        Err(_) => bars.abandon(),
    }
    let Sent { written, sequence, refused, .. } = &sent;
    let result = json!({
        "videos": videos,
        "written": written,
        "refused": refused,
        "unanswered": videos - *written - refused.len(),
        "last_sequence": sequence,
        "seconds": started.elapsed().as_secs_f64(),
    });
    arguments.remote.format.print(&result, || {
        let last = sequence.map(|sequence| format!(" · last sequence {sequence}")).unwrap_or_default();
        say!("{written} of {videos} videos written{last}");
    })?;
    ended?;
    ensure!(refused.is_empty(), "{} of {videos} videos were refused", refused.len());
    Ok(())
}

/// The videos to send.
struct Catalog {
    dataset: Dataset,
    /// The ids as text, if they are text.
    texts: Option<Keywords>,
    index: String,
    embedding_model: String,
    batch_size: usize,
}

impl Catalog {
    fn read(arguments: &Arguments) -> anyhow::Result<Self> {
        // The server checks what only some metrics need.
        let (mut dataset, read) = arguments.catalog.read(Metric::InnerProduct)?;
        if read.ids == IdSource::RowNumbers {
            bail!("no column video_id and no --ids: row numbers would replace other videos");
        }
        let texts = if read.has_text_ids { take_texts(&mut dataset) } else { None };
        dataset.attributes.iter().try_for_each(|column| attributes::check(column).map(drop))?;
        let (index, embedding_model) = (arguments.index.clone(), arguments.embedding_model.clone());
        Ok(Self { dataset, texts, index, embedding_model, batch_size: arguments.batch_size.into() })
    }

    /// The id of a row as text, if the ids are text.
    fn text_id(&self, row: usize) -> &str {
        self.texts.as_ref().and_then(|texts| texts.get(row)).unwrap_or_default()
    }

    fn video(&self, row: usize) -> Video {
        let Dataset { embeddings, ids, attributes, expires_at } = &self.dataset;
        let mut components = Vec::new();
        embeddings.view().copy_row(row, &mut components);
        let attributes = attributes.iter().filter_map(|column| {
            let value = Some(value(&column.values, row)?);
            Some((column.name.clone(), AttributeValue { value }))
        });
        let expires_at = expires_at.as_ref().map(|times| times[row]).filter(|time| *time != NEVER);
        let text_id = self.text_id(row).to_owned();
        Video {
            video_id: if text_id.is_empty() { ids[row].0 } else { 0 },
            text_id,
            vector: Some(Vector::packed(&components)),
            attributes: attributes.collect(),
            expires_at: expires_at.map(timestamp),
            embedding_model: self.embedding_model.clone(),
            vectors: Default::default(),
        }
    }
}

/// Takes the ids that are text out of the attributes: a request has them in a field of their own.
fn take_texts(dataset: &mut Dataset) -> Option<Keywords> {
    let at = dataset.attributes.iter().position(|column| column.name == ID_COLUMN)?;
    match dataset.attributes.remove(at).values {
        ColumnValues::Keyword(texts) => Some(texts),
        _ => None,
    }
}

/// The value of an attribute, unless it is null.
fn value(values: &ColumnValues, row: usize) -> Option<Value> {
    Some(match values {
        ColumnValues::Keyword(words) => Value::Keyword(words.get(row)?.to_owned()),
        ColumnValues::KeywordList(lists) => {
            Value::KeywordList(KeywordList { values: lists.get(row)?.map(str::to_owned).collect() })
        }
        ColumnValues::Int64(numbers) => Value::Int64(numbers.get(row)?),
        ColumnValues::Uint64(numbers) => Value::Uint64(numbers.get(row)?),
        ColumnValues::Double(numbers) => Value::Double(numbers.get(row)?),
        ColumnValues::Bool(values) => Value::Bool(values.get(row)?),
        ColumnValues::Timestamp(times) => Value::Timestamp(timestamp(times.get(row)?)),
    })
}

fn timestamp(microseconds: i64) -> prost_types::Timestamp {
    let (seconds, rest) = (microseconds.div_euclid(1_000_000), microseconds.rem_euclid(1_000_000));
    prost_types::Timestamp { seconds, nanos: rest as i32 * 1000 }
}

/// What became of the videos so far.
#[derive(Default)]
struct Sent {
    written: usize,
    /// Of the last write.
    sequence: Option<u64>,
    refused: Vec<Refused>,
    /// Rows that the server had no room for, and the longest delay that it suggested.
    again: Vec<Range<usize>>,
    delay: Duration,
}

/// A video that was not written.
#[derive(Debug, Serialize)]
struct Refused {
    row: usize,
    video_id: u64,
    text_id: Option<String>,
    code: &'static str,
    problem: String,
}

impl Sent {
    /// Sends all rows, until the server refuses a whole batch or goes away, or Ctrl-C.
    async fn send(
        &mut self,
        client: &Client,
        catalog: &Arc<Catalog>,
        bars: &BuildBars,
    ) -> anyhow::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        self.again.push(0..catalog.dataset.ids.len());
        let mut in_vain = 0;
        while !self.again.is_empty() {
            let before = self.answered();
            tokio::select! {
                done = self.round(client, catalog, bars) => done?,
                _ = interrupt.recv() => return Err(Interrupted.into()),
            }
            in_vain = if self.answered() > before { 0 } else { in_vain + 1 };
            ensure!(
                in_vain < MOST_IN_VAIN,
                "the server has too much to do: it took no videos {in_vain} times"
            );
            if !self.again.is_empty() {
                tokio::select! {
                    () = tokio::time::sleep(self.delay) => {}
                    _ = interrupt.recv() => return Err(Interrupted.into()),
                }
            }
        }
        Ok(())
    }

    fn answered(&self) -> usize {
        self.written + self.refused.len()
    }

    /// Sends the rows that are left over one stream.
    async fn round(
        &mut self,
        client: &Client,
        catalog: &Arc<Catalog>,
        bars: &BuildBars,
    ) -> anyhow::Result<()> {
        self.delay = Duration::ZERO;
        let (sent, mut in_flight) = mpsc::unbounded_channel();
        let rows = std::mem::take(&mut self.again).into();
        let batches = Batches { catalog: Arc::clone(catalog), rows, sent };
        let mut answers = client.stream_upsert(tokio_stream::iter(batches)).await?;
        // The server answers in the order of the batches.
        loop {
            let answer = answers.message().await.map_err(|status| lost(&Error::from(&status)))?;
            let batch = in_flight.recv().await;
            match (answer.map(|answer| answer.item), batch) {
                (None, None) => return Ok(()),
                (Some(Some(Item::Response(response))), Some(batch)) => {
                    bars.advance(batch.len() as u64);
                    self.take(&response, batch.start, catalog);
                }
                (Some(Some(Item::Error(status))), Some(batch)) => {
                    let error = Error::of_item(&status);
                    let delay = error.retry_after.ok_or(error)?;
                    self.delay = self.delay.max(delay);
                    self.again.push(batch);
                }
                _ => bail!("the server ended the stream before it answered every batch"),
            }
        }
    }

    /// Counts the answer to a batch that begins at `row`, and notes the videos that were refused.
    fn take(&mut self, response: &WriteResponse, row: usize, catalog: &Catalog) {
        self.written += response.written as usize;
        if response.written > 0 {
            self.sequence = self.sequence.max(Some(response.sequence));
        }
        for error in &response.errors {
            let position = error.position as usize;
            let row = row + position;
            let video_id = catalog.dataset.ids.get(row).map_or(0, |id| id.0);
            let status = error.status.as_ref().map(Error::of_item);
            let (code, message) =
                status.map_or(("UNKNOWN", String::new()), |error| (error.name(), error.message));
            // Positions in a batch mean nothing to the user.
            let problem = message.replace(&format!("upsert.videos[{position}]."), "");
            let text_id = catalog.text_id(row);
            note!("row {row}, video {}: {code}: {}", shown(video_id, text_id), visible_text(&problem));
            let text_id = Some(text_id.to_owned()).filter(|text| !text.is_empty());
            self.refused.push(Refused { row, video_id, text_id, code, problem });
        }
    }
}

fn lost(error: &Error) -> anyhow::Error {
    anyhow!("the server ended the stream: {error}; sending the same files again is safe")
}

/// The requests for some rows, made as the server takes them. Says which rows each request has.
struct Batches {
    catalog: Arc<Catalog>,
    rows: VecDeque<Range<usize>>,
    sent: mpsc::UnboundedSender<Range<usize>>,
}

impl Iterator for Batches {
    type Item = StreamUpsertRequest;

    fn next(&mut self) -> Option<StreamUpsertRequest> {
        let mut rows = self.rows.pop_front()?;
        let start = rows.start;
        let (mut videos, mut bytes) = (Vec::new(), 0);
        while !rows.is_empty() && videos.len() < self.catalog.batch_size && bytes < BATCH_BYTES {
            let video = self.catalog.video(rows.start);
            bytes += video.encoded_len();
            videos.push(video);
            rows.start += 1;
        }
        // Nobody listens after an error.
        let _ = self.sent.send(start..rows.start);
        if !rows.is_empty() {
            self.rows.push_front(rows);
        }
        let upsert = UpsertRequest { index: self.catalog.index.clone(), videos, partial: true };
        Some(StreamUpsertRequest { upsert: Some(upsert) })
    }
}
