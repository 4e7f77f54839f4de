//! Many searches or videos, in calls of bounded size.

use std::sync::Arc;

use prost::Message as _;
use shortlist_client::proto::{
    DeleteRequest, RestoreRequest, TakedownRequest, UpsertRequest, Video, WriteResponse,
};
use shortlist_client::{Client, Error, SearchRequest, SearchResponse};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::error::fault;
use crate::error::{Code, Fault};

/// Most searches of a call, and most videos: what servers accept by default.
const MAX_SEARCHES: usize = 256;
const MAX_VIDEOS: usize = 1000;
/// Bytes of a call: half of what servers accept by default.
const MAX_BYTES: usize = 2 << 20;
/// Most candidates that the searches of a call ask for.
const MAX_CANDIDATES: usize = 100_000;
/// Calls of a batch in flight.
const CALLS: usize = 4;

/// Answers all requests, in their order.
pub(super) async fn search(
    servers: &Client,
    mut requests: Vec<SearchRequest>,
) -> Result<Vec<SearchResponse>, Fault> {
    if requests.len() <= 1 {
        let Some(request) = requests.pop() else { return Ok(Vec::new()) };
        return Ok(vec![servers.search(request).await.map_err(|error| fault(error, None))?]);
    }
    let candidates = requests[0].k as usize;
    let most = MAX_SEARCHES.min(MAX_CANDIDATES / candidates.max(1)).max(1);
    let permits = Arc::new(Semaphore::new(CALLS));
    // Dropped calls end.
    let mut calls = JoinSet::<Result<(usize, Vec<SearchResponse>), Fault>>::new();
    let mut first = 0;
    for part in parts(requests, most, SearchRequest::encoded_len) {
        let (servers, permits, start) = (servers.clone(), Arc::clone(&permits), first);
        first += part.len();
        calls.spawn(async move {
            let _permit = permits.acquire_owned().await;
            let found = servers.batch_search(part).await.map_err(|error| fault(error, Some(start)))?;
            let found = found.into_iter().map(|result| result.map_err(|error| fault(error, Some(start))));
            Ok((start, found.collect::<Result<Vec<_>, _>>()?))
        });
    }
    let mut found = Vec::with_capacity(first);
    while let Some(call) = calls.join_next().await {
        found.push(call.map_err(|error| Fault::new(Code::Internal, None, error.to_string()))??);
    }
    found.sort_unstable_by_key(|(start, _)| *start);
    Ok(found.into_iter().flat_map(|(_, found)| found).collect())
}

/// The result of a write: the last sequence, the number of videos written, and row, code and reason of each other.
pub(super) type Written = (u64, usize, Vec<(usize, &'static str, String)>);

/// Writes videos, call after call.
pub(super) async fn upsert(
    servers: Client,
    videos: Vec<Video>,
    index: String,
    partial: bool,
) -> Result<Written, Fault> {
    written(parts(videos, MAX_VIDEOS, Video::encoded_len), |videos| {
        let (servers, index) = (servers.clone(), index.clone());
        async move { servers.upsert(UpsertRequest { index, videos, partial }).await }
    })
    .await
}

/// Deletes videos, takes them down or restores them, call after call. One of the lists is empty.
pub(super) async fn write(
    servers: Client,
    kind: String,
    (ids, texts): (Vec<u64>, Vec<String>),
    index: String,
) -> Result<Written, Fault> {
    let call = |video_ids, text_ids| {
        let (servers, kind, index) = (servers.clone(), kind.clone(), index.clone());
        async move {
            match kind.as_str() {
                "delete" => servers.delete(DeleteRequest { index, video_ids, text_ids }).await,
                "takedown" => servers.takedown(TakedownRequest { index, video_ids, text_ids }).await,
                _ => servers.restore(RestoreRequest { index, video_ids, text_ids }).await,
            }
        }
    };
    if texts.is_empty() {
        return written(parts(ids, MAX_VIDEOS, |_| size_of::<u64>()), |ids| call(ids, Vec::new())).await;
    }
    written(parts(texts, MAX_VIDEOS, String::len), |texts| call(Vec::new(), texts)).await
}

async fn written<T, F: Future<Output = Result<WriteResponse, Error>>>(
    parts: Vec<Vec<T>>,
    call: impl Fn(Vec<T>) -> F,
) -> Result<Written, Fault> {
    let (mut first, mut sequence, mut count, mut errors) = (0, 0, 0, Vec::new());
    for part in parts {
        let rows = part.len();
        let response = call(part).await.map_err(|error| fault(error, Some(first)))?;
        sequence = response.sequence;
        count += response.written as usize;
        for error in response.errors {
            let of_item = Error::of_item(&error.status.unwrap_or_default());
            errors.push((first + error.position as usize, of_item.name(), of_item.message));
        }
        first += rows;
    }
    Ok((sequence, count, errors))
}

/// Splits items into parts of at most `most` items and about [`MAX_BYTES`]; at least one part.
fn parts<T>(items: Vec<T>, most: usize, size: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let (mut parts, mut bytes) = (vec![Vec::new()], 0);
    for item in items {
        let size = size(&item);
        let last = parts.len() - 1;
        if !parts[last].is_empty() && (parts[last].len() == most || bytes + size > MAX_BYTES) {
            parts.push(vec![item]);
            bytes = size;
        } else {
            parts[last].push(item);
            bytes += size;
        }
    }
    parts
}
