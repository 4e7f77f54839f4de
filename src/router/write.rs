//! The way of writes to the replicas of their shards.
//!
//! What flows in: batches of any videos. What flows out: what was written, once it is durable where it was sent.
//!
//! If all shards have one log, a batch goes to one replica of any shard. Otherwise each video goes to the first replica of its shard,
//! which has the log of the shard. Each shard then writes its part of a batch on its own, so a batch that must be written as a whole
//! may be written in part.
//!
//! A write that fails is not sent to another replica. It may have been written, and a second one could undo a newer write of the same
//! video. The caller decides. Only a replica that takes no writes, such as one whose disk is full, writes nothing before it says so:
//! then another one is asked.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;

use super::all::{Boxed, all};
use super::failure::{nonsense, of_item, refuses_writes};
use super::positions::{Items, divide, restored};
use super::topology::ShardMap;
use super::transport::{Call, Reply};
use crate::base::id::VideoId;
use crate::service::parts::status;
use crate::service::proto::{
    DeleteRequest, RestoreRequest, TakedownRequest, UpsertRequest, Video, WriteError, WriteResponse,
};

/// How long a write may take, whatever the deadline of its caller: what has begun is finished.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// The most shards whose replicas are asked to take one write. If three refuse, the others cannot reach the log, either.
const MOST_SHARDS: usize = 3;

/// What to do with videos that are named by their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ById {
    Delete,
    Takedown,
    Restore,
}

impl ById {
    fn call(self, index: &str, video_ids: Vec<u64>, text_ids: Vec<String>) -> Call {
        let index = index.to_owned();
        match self {
            ById::Delete => Call::Delete(DeleteRequest { index, video_ids, text_ids }),
            ById::Takedown => Call::Takedown(TakedownRequest { index, video_ids, text_ids }),
            ById::Restore => Call::Restore(RestoreRequest { index, video_ids, text_ids }),
        }
    }
}

/// The id of a video to write.
pub(super) fn id_of(video: &Video) -> VideoId {
    if video.text_id.is_empty() { VideoId(video.video_id) } else { VideoId::of_text(&video.text_id) }
}

/// Inserts or replaces videos.
///
/// # Errors
/// The first of a shard, with the positions of the request.
pub(super) async fn upsert(
    index: &str,
    map: &ShardMap,
    request: UpsertRequest,
) -> Result<WriteResponse, Status> {
    let UpsertRequest { videos, partial, .. } = request;
    let calls = match videos.is_empty() {
        true => everywhere(map, || upsert_call(index, Vec::new(), partial)),
        false => {
            let part =
                |Items { shard, items, positions }| (shard, upsert_call(index, items, partial), positions);
            parts(map, videos, id_of).into_iter().map(part).collect()
        }
    };
    send(map, calls, "videos").await
}

/// Deletes videos, takes them down or restores them.
///
/// # Errors
/// As [`upsert`].
pub(super) async fn by_id(
    what: ById,
    index: &str,
    map: &ShardMap,
    (video_ids, text_ids): (Vec<u64>, Vec<String>),
) -> Result<WriteResponse, Status> {
    let (calls, field) = match (video_ids.is_empty(), text_ids.is_empty()) {
        (true, true) => (everywhere(map, || what.call(index, Vec::new(), Vec::new())), "video_ids"),
        // A shard says what is wrong with both.
        (false, false) => {
            let shard = if map.has_shared_log { map.writer(0) } else { 0 };
            (vec![(shard, what.call(index, video_ids, text_ids), Vec::new())], "video_ids")
        }
        (false, true) => {
            let part =
                |Items { shard, items, positions }| (shard, what.call(index, items, Vec::new()), positions);
            let parts = parts(map, video_ids, |id| VideoId(*id));
            (parts.into_iter().map(part).collect(), "video_ids")
        }
        (true, false) => {
            let part =
                |Items { shard, items, positions }| (shard, what.call(index, Vec::new(), items), positions);
            let parts = parts(map, text_ids, |text: &String| VideoId::of_text(text));
            (parts.into_iter().map(part).collect(), "text_ids")
        }
    };
    send(map, calls, field).await
}

/// Asks the replicas of the shard at `shard`, and of further ones if all have one log and these take no writes.
async fn write_to(map: &ShardMap, shard: usize, call: &Call, until: Instant) -> Result<Reply, Status> {
    let mut reply = map.shards[shard].call(call, until).await;
    let count = map.shards.len();
    for step in 1..count.min(MOST_SHARDS) {
        match &reply {
            Err(status) if map.has_shared_log && refuses_writes(status) => {}
            _ => break,
        }
        reply = map.shards[map.writer((shard + step) % count)].call(call, until).await;
    }
    reply
}

async fn send(
    map: &ShardMap,
    calls: Vec<(usize, Call, Vec<usize>)>,
    field: &str,
) -> Result<WriteResponse, Status> {
    let until = Instant::now() + WRITE_TIMEOUT;
    let sent =
        calls.iter().map(|(shard, call, _)| -> Boxed<'_, _> { Box::pin(write_to(map, *shard, call, until)) });
    let replies = all(sent.collect()).await;
    let mut whole = WriteResponse::default();
    for ((_, _, positions), reply) in calls.iter().zip(replies) {
        let response = match reply.map_err(|status| restored(status, field, positions))? {
            Reply::Write(response) => response,
            _ => return Err(nonsense("another answer than to a write")),
        };
        whole.sequence = whole.sequence.max(response.sequence);
        whole.written = whole.written.saturating_add(response.written);
        whole.errors.extend(at_positions(response.errors, field, positions)?);
        whole.unused_models.extend(response.unused_models);
    }
    whole.errors.sort_by_key(|error| error.position);
    whole.unused_models.sort_unstable();
    whole.unused_models.dedup();
    Ok(whole)
}

/// The same errors with the positions of the caller's request.
///
/// # Errors
/// If one is of an item that was not sent.
pub(super) fn at_positions(
    errors: Vec<WriteError>,
    field: &str,
    positions: &[usize],
) -> Result<Vec<WriteError>, Status> {
    let restore = |WriteError { position, status: item }| {
        let at = positions.get(position as usize);
        let at = at.ok_or_else(|| nonsense(format!("an error of item {position}, which was not sent")))?;
        let item = item.map(|item| status::to_item(&restored(of_item(&item), field, positions)));
        Ok(WriteError { position: u32::try_from(*at).unwrap_or(u32::MAX), status: item })
    };
    errors.into_iter().map(restore).collect()
}

/// Divides the items of a batch between the shards of their videos. If all shards have one log, the batch stays whole, and goes to
/// the shard of its first video, or to another one while that has no replica: so it is written as a whole or not at all.
fn parts<T>(map: &ShardMap, items: Vec<T>, id: impl Fn(&T) -> VideoId) -> Vec<Items<T>> {
    match items.first() {
        Some(first) if map.has_shared_log => {
            let (shard, positions) = (map.writer(map.owner(id(first))), (0..items.len()).collect());
            vec![Items { shard, items, positions }]
        }
        _ => divide(map, items, id),
    }
}

fn upsert_call(index: &str, videos: Vec<Video>, partial: bool) -> Call {
    Call::Upsert(UpsertRequest { index: index.to_owned(), videos, partial })
}

/// The same call of every shard, or of one if all have one log.
fn everywhere(map: &ShardMap, call: impl Fn() -> Call) -> Vec<(usize, Call, Vec<usize>)> {
    if map.has_shared_log {
        return vec![(map.writer(0), call(), Vec::new())];
    }
    (0..map.shards.len()).map(|shard| (shard, call(), Vec::new())).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tonic::Code;
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::super::metrics::RouterMetrics;
    use super::super::replica::{Health, Replica};
    use super::super::shard::ShardCalls;
    use super::super::transport::Transport;
    use super::*;
    use crate::base::partition::Shard;

    /// Takes every write.
    struct Log;

    impl Transport for Log {
        fn call(&self, _: Call, _: Duration) -> Boxed<'static, Result<Reply, Status>> {
            Box::pin(std::future::ready(Ok(Reply::Write(WriteResponse::default()))))
        }
    }

    /// Two shards with one log. The first has no replica, or one that does not serve.
    fn map(has_replica: bool) -> ShardMap {
        let shards = Shard::all(2).unwrap().map(|shard| {
            let health = if shard.index() == 0 { Health::NotServing } else { Health::Serving };
            let replica = Replica::new(shard.to_string(), Arc::new(Log));
            replica.set_health(health);
            let replicas =
                if health == Health::Serving || has_replica { vec![Arc::new(replica)] } else { vec![] };
            let calls = ShardCalls::new("videos", shard, replicas, &RouterMetrics::default());
            Arc::new(calls.with_shared_log())
        });
        ShardMap { shards: shards.collect(), has_shared_log: true }
    }

    #[tokio::test]
    async fn a_replica_of_any_shard_takes_writes_of_a_shard_without_one() {
        for map in [map(false), map(true)] {
            assert_eq!([map.writer(0), map.writer(1)], [1, 1]);
            for video_ids in [vec![], (0..20).collect::<Vec<u64>>(), vec![1], vec![2], vec![3]] {
                let written = by_id(ById::Delete, "videos", &map, (video_ids, Vec::new())).await;
                assert!(written.is_ok(), "{written:?}");
            }
            let both = by_id(ById::Delete, "videos", &map, (vec![1], vec!["one".to_owned()])).await;
            let none = upsert("videos", &map, UpsertRequest::default()).await;
            assert!(both.is_ok() && none.is_ok());
        }
    }

    /// Answers each write with this status, and counts them.
    struct Refusing(Status, AtomicUsize);

    impl Transport for Arc<Refusing> {
        fn call(&self, _: Call, _: Duration) -> Boxed<'static, Result<Reply, Status>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Box::pin(std::future::ready(Err(self.0.clone())))
        }
    }

    /// Shards whose replicas refuse writes, or take them where this says so. Returns the transport of those that refuse.
    fn refusing(status: Status, takes: &[&[bool]], has_shared_log: bool) -> (ShardMap, Arc<Refusing>) {
        let refusing = Arc::new(Refusing(status, AtomicUsize::new(0)));
        let shards = Shard::all(takes.len() as u32).unwrap().zip(takes).map(|(shard, takes)| {
            let transport = |takes: &bool| -> Arc<dyn Transport> {
                if *takes { Arc::new(Log) } else { Arc::new(Arc::clone(&refusing)) }
            };
            let replicas = takes.iter().enumerate().map(|(at, takes)| {
                let replica = Replica::new(format!("{shard}-{at}"), transport(takes));
                replica.set_health(Health::Serving);
                Arc::new(replica)
            });
            let calls = ShardCalls::new("videos", shard, replicas.collect(), &RouterMetrics::default());
            Arc::new(if has_shared_log { calls.with_shared_log() } else { calls })
        });
        (ShardMap { shards: shards.collect(), has_shared_log }, refusing)
    }

    #[tokio::test]
    async fn a_write_that_a_replica_refuses_is_taken_by_another_one() {
        let read_only = || Status::failed_precondition("the disk is full");
        let delete = async |map: &ShardMap| {
            let written = by_id(ById::Delete, "videos", map, (vec![7], Vec::new())).await;
            written.map_err(|status| status.code())
        };
        let has_one =
            [&[&[false, true][..]][..], &[&[true, false]], &[&[false], &[true]], &[&[true], &[false]]];
        for takes in has_one {
            let (map, _) = refusing(read_only(), takes, true);
            for _ in 0..20 {
                assert!(delete(&map).await.is_ok(), "{takes:?}");
            }
        }
        // All refuse: some are asked, and each once.
        let (map, asked) = refusing(read_only(), &[&[false, false][..]; 64], true);
        assert_eq!(delete(&map).await, Err(Code::FailedPrecondition));
        assert_eq!(asked.1.load(Ordering::Relaxed), 2 * MOST_SHARDS);
        // One that may have been written is not sent again, nor one that is at fault itself, nor one to a log of the shard alone.
        let details = ErrorDetails::with_bad_request_violation("videos[0].embedding_model", "");
        let at_fault = Status::with_error_details(Code::FailedPrecondition, "", details);
        for (status, has_shared_log) in
            [(Status::unavailable("may be lost"), true), (at_fault, true), (read_only(), false)]
        {
            let code = status.code();
            let (map, asked) = refusing(status, &[&[false, false][..]; 2], has_shared_log);
            assert_eq!(delete(&map).await, Err(code));
            assert_eq!(asked.1.load(Ordering::Relaxed), 1);
        }
    }
}
