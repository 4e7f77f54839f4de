use std::sync::atomic::AtomicUsize;

use super::super::transport::Transport;
use super::*;

/// A replica that answers, or fails, after some time.
struct Fake {
    after: Duration,
    failure: Option<Status>,
    calls: AtomicUsize,
}

impl Transport for Arc<Fake> {
    fn call(&self, _: Call, _: Duration) -> Boxed<'static, Result<Reply, Status>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let (after, failure) = (self.after, self.failure.clone());
        Box::pin(async move {
            tokio::time::sleep(after).await;
            failure.map_or(Ok(Reply::Health(true)), Err)
        })
    }
}

fn shard(replicas: &[(u64, bool)]) -> (ShardCalls, Vec<Arc<Fake>>) {
    let replica = |(millis, fails): &(u64, bool)| (*millis, fails.then(|| Status::unavailable("gone")));
    failing(&replicas.iter().map(replica).collect::<Vec<_>>())
}

fn failing(replicas: &[(u64, Option<Status>)]) -> (ShardCalls, Vec<Arc<Fake>>) {
    let fake = |(millis, failure): &(u64, Option<Status>)| {
        let after = Duration::from_millis(*millis);
        Arc::new(Fake { after, failure: failure.clone(), calls: AtomicUsize::new(0) })
    };
    let fakes: Vec<Arc<Fake>> = replicas.iter().map(fake).collect();
    let replica =
        |(at, fake): (usize, &Arc<Fake>)| Arc::new(Replica::new(at.to_string(), Arc::new(Arc::clone(fake))));
    let replicas = fakes.iter().enumerate().map(replica).collect();
    let shard = ShardCalls::new("videos", Shard::WHOLE, replicas, &RouterMetrics::default());
    (shard, fakes)
}

fn in_seconds(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

fn search() -> Call {
    Call::Search(crate::service::proto::SearchRequest::default())
}

#[tokio::test]
async fn a_replica_that_fails_is_replaced_at_once_and_rests() {
    // The one that fails is the faster one, so it is asked first.
    let (shard, fakes) = shard(&[(0, true), (3, false)]);
    let mut has_rested = false;
    for _ in 0..40 {
        assert!(shard.call(&search(), in_seconds(5)).await.is_ok());
        has_rested |= shard.replicas[0].rests();
    }
    assert!(has_rested);
    // Five until it rests. On a slow machine, a rest may end before the last call.
    assert!(fakes[0].calls.load(Ordering::Relaxed) <= 15);
    assert_eq!(fakes[1].calls.load(Ordering::Relaxed), 40);
    assert_eq!(shard.replicas[1].load().0, 0);
}

#[tokio::test]
async fn a_slow_replica_is_overtaken_and_rests() {
    let (shard, fakes) = shard(&[(100_000, false), (1, false)]);
    for _ in 0..60 {
        let began = Instant::now();
        assert!(shard.call(&search(), in_seconds(20)).await.is_ok());
        assert!(began.elapsed() < Duration::from_secs(10));
    }
    assert_eq!(shard.replicas[0].load().0, 0);
    assert!(fakes[0].calls.load(Ordering::Relaxed) < 12);
}

/// Hedges are spent where calls vary much. Then a replica that hangs costs time, but no call.
#[tokio::test]
async fn a_replica_that_hangs_loses_no_call_although_hedges_are_spent() {
    let (shard, fakes) = shard(&[(100_000, false), (1, false)]);
    for _ in 0..60 {
        while shard.measured.hedges.take() {}
        assert!(shard.call(&search(), in_seconds(20)).await.is_ok());
    }
    assert!(fakes[0].calls.load(Ordering::Relaxed) < 12);
    // Nor does it cost calls without end if all hang.
    let (hanging, fakes) = self::shard(&[(100_000, false), (100_000, false)]);
    for _ in 0..200 {
        let until = Instant::now() + Duration::from_millis(1);
        assert!(hanging.call(&search(), until).await.is_err());
    }
    while hanging.measured.hedges.take() {}
    let before: usize = fakes.iter().map(|fake| fake.calls.load(Ordering::Relaxed)).sum();
    let calls = (0..100)
        .map(|_| async { hanging.call(&search(), Instant::now() + Duration::from_millis(400)).await });
    let ended = super::super::all::all(calls.map(|call| Box::pin(call) as Boxed<'_, _>).collect()).await;
    assert!(ended.iter().all(Result::is_err));
    let extra = fakes.iter().map(|fake| fake.calls.load(Ordering::Relaxed)).sum::<usize>() - before - 100;
    assert!((1..=SAVED_RETRIES as usize + 10).contains(&extra), "{extra}");
}

#[tokio::test]
async fn the_last_failure_and_the_deadline_end_a_call() {
    let (shard, fakes) = shard(&[(0, true), (0, true)]);
    let status = shard.call(&search(), in_seconds(5)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "gone"));
    assert!(fakes.iter().all(|fake| fake.calls.load(Ordering::Relaxed) == 1));
    let (slow, _) = self::shard(&[(100_000, false)]);
    let until = Instant::now() + Duration::from_millis(30);
    let status = slow.call(&search(), until).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_shard_without_replicas_is_unavailable() {
    let (shard, _) = shard(&[]);
    let write = Call::Delete(crate::service::proto::DeleteRequest::default());
    for call in [search(), write] {
        let status = shard.call(&call, in_seconds(5)).await.unwrap_err();
        let expected = (Code::Unavailable, "shard 0/1: no replica was found");
        assert_eq!((status.code(), status.message()), expected);
    }
}

/// A status that names a field.
fn of_field(code: Code, field: &str) -> Status {
    let details = tonic_types::ErrorDetails::with_bad_request_violation(field, "expected another");
    <Status as tonic_types::StatusExt>::with_error_details(code, "expected another", details)
}

#[tokio::test]
async fn a_generation_that_one_replica_lacks_is_asked_of_the_others_whatever_was_retried() {
    let gone = of_field(Code::FailedPrecondition, "page_token");
    let (shard, fakes) = failing(&[(0, Some(gone.clone())), (1, None)]);
    // More often than retries are saved up.
    for _ in 0..3 * SAVED_RETRIES {
        assert!(shard.call(&search(), in_seconds(5)).await.is_ok());
    }
    assert!(!shard.replicas[0].rests() && fakes[0].calls.load(Ordering::Relaxed) > 0);
    let (all, fakes) = failing(&[(0, Some(gone.clone())), (1, Some(gone))]);
    let status = all.call(&search(), in_seconds(5)).await.unwrap_err();
    assert!(lacks_generation(&status) && !is_final(&status));
    assert!(fakes.iter().all(|fake| fake.calls.load(Ordering::Relaxed) == 1));
}

#[tokio::test]
async fn what_a_replica_refuses_the_router_is_not_what_its_caller_is_refused() {
    let between_servers = [
        Status::unauthenticated("no key"),
        Status::permission_denied("the key is for others"),
        Status::out_of_range("the message is too large"),
        of_field(Code::NotFound, "index"),
    ];
    for status in between_servers {
        let (shard, fakes) = failing(&[(0, Some(status.clone()))]);
        let found = shard.call(&search(), in_seconds(5)).await.unwrap_err();
        let expected = format!("shard 0/1: {}", status.message());
        assert_eq!((found.code(), found.message()), (Code::Unavailable, expected.as_str()));
        assert_eq!(fakes[0].calls.load(Ordering::Relaxed), 1);
    }
    let mut of_replica = Status::out_of_range("the message is too large");
    of_replica.metadata_mut().insert("content-type", "application/grpc".parse().unwrap());
    let of_caller =
        [of_replica, of_field(Code::InvalidArgument, "k"), of_field(Code::NotFound, "query.seeds")];
    for status in of_caller {
        let (shard, _) = failing(&[(0, Some(status.clone())), (0, Some(status.clone()))]);
        let found = shard.call(&search(), in_seconds(5)).await.unwrap_err();
        assert_eq!(found.code(), status.code());
    }
}

#[tokio::test]
async fn a_replica_lacks_the_index_and_another_answers() {
    let lost = of_field(Code::NotFound, "index");
    let (shard, _) = failing(&[(0, Some(lost)), (1, None)]);
    let mut has_rested = false;
    for _ in 0..20 {
        assert!(shard.call(&search(), in_seconds(5)).await.is_ok());
        has_rested |= shard.replicas[0].rests();
    }
    assert!(has_rested);
}

#[tokio::test]
async fn a_deadline_that_is_too_near_for_the_usual_time_is_no_failure() {
    let (shard, _) = shard(&[(100, false)]);
    for _ in 0..16 {
        assert!(shard.call(&search(), in_seconds(5)).await.is_ok());
    }
    for _ in 0..10 {
        let until = Instant::now() + Duration::from_millis(30);
        let status = shard.call(&search(), until).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
    }
    assert!(!shard.replicas[0].rests());
}

#[tokio::test]
async fn a_write_goes_to_the_first_replica_only() {
    let (shard, fakes) = shard(&[(0, true), (0, false)]);
    let write = Call::Delete(crate::service::proto::DeleteRequest::default());
    assert!(shard.call(&write, in_seconds(5)).await.is_err());
    assert_eq!(fakes[1].calls.load(Ordering::Relaxed), 0);
}
