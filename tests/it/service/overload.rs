//! More searches than the pool can compute: whose turn it is, and what is refused.

use std::time::Duration;

use shortlist::service::proto::catalog_client::CatalogClient;
use shortlist::service::proto::retrieval_client::RetrievalClient;
use shortlist::service::proto::{
    BatchSearchRequest, Exclude, GetRequest, Interest, Interests, SearchRequest, Vector, batch_search_result,
    search_request,
};
use shortlist::service::{CallerLimits, ServiceLimits, ServiceOptions};
use tokio::sync::mpsc;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::harness::credentials::{Connection, connect};
use crate::harness::wire::exact;
use crate::harness::{Setup, TestIndex, TestServer, request, video_id};

fn limited(limits: ServiceLimits) -> Setup {
    let service = ServiceOptions { limits, ..ServiceOptions::default() };
    Setup { threads: 1, service, ..Setup::default() }
}

fn of_caller(caller: CallerLimits) -> Setup {
    limited(ServiceLimits { caller, ..ServiceLimits::default() })
}

fn plain(index: &TestIndex) -> SearchRequest {
    request(&index.rows[0], 3)
}

/// A search that is expected to take milliseconds.
fn dear(index: &TestIndex) -> SearchRequest {
    let exclude = Exclude { video_ids: (0..100_000).collect(), ..Exclude::default() };
    SearchRequest { exclude: Some(exclude), ..plain(index) }
}

/// A connection of its own, with a key.
async fn caller(server: &TestServer, key: Option<&str>) -> RetrievalClient<Connection> {
    RetrievalClient::new(connect(server.address, key).await)
}

/// Sends `calls` calls at a time, and the name of the caller to `answered` for each answer.
fn send(
    client: &RetrievalClient<Connection>,
    name: &'static str,
    calls: usize,
    request: &SearchRequest,
    answered: &mpsc::UnboundedSender<(&'static str, Result<(), Status>)>,
) {
    for _ in 0..calls {
        let (mut client, request, answered) = (client.clone(), request.clone(), answered.clone());
        tokio::spawn(async move {
            let answer = client.search(request).await.map(|_| ());
            let _ = answered.send((name, answer));
        });
    }
}

#[tokio::test]
async fn a_caller_with_one_search_waits_for_few_of_another_with_hundreds() {
    const HOSTILE: usize = 200;
    let index = TestIndex::new(20);
    let server = TestServer::start(&[("videos", &index)], limited(ServiceLimits::default())).await;
    let gate = server.close_gate();
    let (hostile, other) = (caller(&server, None).await, caller(&server, None).await);
    let (answered, mut answers) = mpsc::unbounded_channel();
    send(&hostile, "hostile", HOSTILE, &SearchRequest { params: exact(), ..plain(&index) }, &answered);
    server.until("shortlist_in_flight", HOSTILE as f64).await;
    send(&other, "other", 1, &plain(&index), &answered);
    server.until("shortlist_in_flight", HOSTILE as f64 + 1.0).await;
    drop(gate);
    let mut before = 0;
    for at in 0..=HOSTILE {
        let (name, answer) = answers.recv().await.unwrap();
        answer.unwrap();
        if name == "other" {
            before = at;
        }
    }
    // In the order of arrival it would be the last. Answers of two connections may overtake each other on the way.
    assert!(before < HOSTILE / 2, "answered after {before} of the others");
}

#[tokio::test]
async fn a_full_server_takes_places_from_who_has_most_and_never_from_who_has_few() {
    let index = TestIndex::new(20);
    let limits = ServiceLimits { max_in_flight: 10, max_batch: 4, ..ServiceLimits::default() };
    let server = TestServer::start(&[("videos", &index)], limited(limits)).await;
    let gate = server.close_gate();
    let (hostile, other) = (caller(&server, None).await, caller(&server, None).await);
    let (answered, mut answers) = mpsc::unbounded_channel();
    send(&hostile, "hostile", 10, &plain(&index), &answered);
    server.until("shortlist_in_flight", 10.0).await;
    send(&other, "other", 2, &plain(&index), &answered);
    for _ in 0..2 {
        let (name, answer) = answers.recv().await.unwrap();
        let status = answer.unwrap_err();
        assert_eq!((name, status.code()), ("hostile", Code::ResourceExhausted), "{status}");
        assert!(status.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
    }
    // A batch is admitted whole.
    let batch = {
        let (mut other, requests) = (other.clone(), vec![plain(&index); 2]);
        tokio::spawn(async move { other.batch_search(BatchSearchRequest { requests }).await })
    };
    for _ in 0..2 {
        assert_eq!(answers.recv().await.unwrap().0, "hostile");
    }
    server.until("shortlist_refused_searches_total{reason=\"displaced\"}", 4.0).await;
    drop(gate);
    for _ in 0..8 {
        answers.recv().await.unwrap().1.unwrap();
    }
    let results = batch.await.unwrap().unwrap().into_inner().results;
    assert!(
        results
            .iter()
            .all(|result| { matches!(result.result, Some(batch_search_result::Result::Response(_))) })
    );
}

#[tokio::test]
async fn lookups_give_way_like_searches() {
    let index = TestIndex::new(20);
    let limits = ServiceLimits { max_in_flight: 10, ..ServiceLimits::default() };
    let server = TestServer::start(&[("videos", &index)], limited(limits)).await;
    let gate = server.close_gate();
    let hostile = CatalogClient::new(connect(server.address, None).await);
    let other = caller(&server, None).await;
    let get = GetRequest { video_ids: vec![video_id(3)], ..GetRequest::default() };
    let lookups: Vec<_> = (0..10)
        .map(|_| {
            let (mut hostile, get) = (hostile.clone(), get.clone());
            tokio::spawn(async move { hostile.get(get).await })
        })
        .collect();
    server.until("shortlist_in_flight", 10.0).await;
    let (answered, mut answers) = mpsc::unbounded_channel();
    send(&other, "other", 2, &plain(&index), &answered);
    server.until("shortlist_refused_searches_total{reason=\"displaced\"}", 2.0).await;
    drop(gate);
    for _ in 0..2 {
        answers.recv().await.unwrap().1.unwrap();
    }
    let mut refused = 0;
    for lookup in lookups {
        match lookup.await.unwrap() {
            Ok(answer) => assert_eq!(answer.into_inner().results.len(), 1),
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 2);
}

#[tokio::test]
async fn a_search_whose_deadline_passes_before_its_turn_is_refused_at_once() {
    let index = TestIndex::new(5_000);
    let server = TestServer::start(&[("videos", &index)], limited(ServiceLimits::default())).await;
    let gate = server.close_gate();
    let mut client = server.retrieval().await;
    let (answered, mut answers) = mpsc::unbounded_channel();
    // Expected to take 3 ms each, so two thirds of a second are too short for all of them. They are small: all of them
    // arrive within their time.
    let interest = Interest {
        vector: Some(Vector { values: index.rows[0].to_vec(), packed: None }),
        ..Interest::default()
    };
    let interests = Interests { interests: vec![interest; 16] };
    let query = Some(search_request::Query::Interests(interests));
    let deep = SearchRequest { query, offset: 4_990, ..plain(&index) };
    for _ in 0..400 {
        let (mut client, answered) = (client.clone(), answered.clone());
        let mut request = Request::new(deep.clone());
        request.set_timeout(Duration::from_secs(1));
        tokio::spawn(async move { answered.send(client.search(request).await) });
    }
    drop(answered);
    let status = loop {
        match answers.recv().await.expect("a refusal") {
            Err(status) if status.code() == Code::ResourceExhausted => break status,
            // Of those that were admitted.
            Err(status) => {
                assert!([Code::Cancelled, Code::DeadlineExceeded].contains(&status.code()), "{status}")
            }
            Ok(_) => panic!("answered while the gate is closed"),
        }
    };
    assert!(status.message().starts_with("the deadline would pass before its turn"), "{status}");
    assert!(status.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
    assert!(server.metric("shortlist_refused_searches_total{reason=\"deadline\"}").await > Some(0.0));
    // One that can wait is answered.
    let patient = tokio::spawn(async move { client.search(plain(&index)).await });
    drop(gate);
    patient.await.unwrap().unwrap();
    assert!(server.metric("shortlist_admitted_cost_seconds_total").await.unwrap() > 0.3);
    assert!(server.metric("shortlist_queue_seconds_count").await > Some(0.0));
}

#[tokio::test]
async fn a_search_without_a_deadline_gets_the_longest() {
    let index = TestIndex::new(20);
    let caller = CallerLimits { max_deadline: Duration::from_millis(50), ..CallerLimits::default() };
    let server = TestServer::start(&[("videos", &index)], of_caller(caller)).await;
    let gate = server.close_gate();
    let mut client = server.retrieval().await;
    let call = {
        let (mut client, request) = (client.clone(), plain(&index));
        tokio::spawn(async move { client.search(request).await })
    };
    server.until("shortlist_in_flight", 1.0).await;
    tokio::time::sleep(caller.max_deadline).await;
    drop(gate);
    assert_eq!(call.await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(server.metric("shortlist_distances_per_query_count{index=\"videos\"}").await, Some(0.0));
    // With a free pool there is time enough, or a few candidates until then.
    let _ = client.search(plain(&index)).await;
}

#[tokio::test]
async fn what_a_caller_may_not_ask_for_is_refused_with_field_limit_and_found() {
    let index = TestIndex::new(20);
    let caller =
        CallerLimits { allow_exact: false, max_offset: 5, max_interests: 2, ..CallerLimits::default() };
    let server = TestServer::start(&[("videos", &index)], of_caller(caller)).await;
    let mut client = server.retrieval().await;
    let vector = Vector { values: index.rows[0].to_vec(), packed: None };
    let interest = Interest { vector: Some(vector), ..Interest::default() };
    let interests = |count| {
        let interests = Interests { interests: vec![interest.clone(); count] };
        SearchRequest { query: Some(search_request::Query::Interests(interests)), ..plain(&index) }
    };
    for (refused, field, problem) in [
        (
            SearchRequest { params: exact(), ..plain(&index) },
            "params.exact",
            "expected another effort: limits.allow_exact is false, found exact",
        ),
        (
            SearchRequest { offset: 6, ..plain(&index) },
            "offset",
            "expected at most 5 (limits.max_offset), found 6",
        ),
        (interests(3), "query.interests", "expected at most 2 (limits.max_interests), found 3"),
    ] {
        let status = client.search(refused.clone()).await.unwrap_err();
        let violation = &status.get_details_bad_request().unwrap().field_violations[0];
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!((violation.field.as_str(), violation.description.as_str()), (field, problem));
        // In a batch, only the item is refused, under its own path.
        let requests = vec![plain(&index), refused];
        let results =
            client.batch_search(BatchSearchRequest { requests }).await.unwrap().into_inner().results;
        assert!(matches!(results[0].result, Some(batch_search_result::Result::Response(_))));
        match &results[1].result {
            Some(batch_search_result::Result::Error(error)) => {
                assert_eq!(error.message, format!("requests[1].{field}: {problem}"));
            }
            other => panic!("expected an error, found {other:?}"),
        }
    }
    client.search(SearchRequest { offset: 5, ..plain(&index) }).await.unwrap();
    client.search(interests(2)).await.unwrap();
}

#[tokio::test]
async fn a_caller_over_its_rate_is_refused_and_told_when_to_retry() {
    for (caller, reason) in [
        (CallerLimits { max_searches_per_second: 2, ..CallerLimits::default() }, "search_rate"),
        (CallerLimits { max_cost_ms_per_second: 1, ..CallerLimits::default() }, "cost_rate"),
    ] {
        let index = TestIndex::new(20);
        let server = TestServer::start(&[("videos", &index)], of_caller(caller)).await;
        let mut client = server.retrieval().await;
        let mut refused = None;
        for _ in 0..1000 {
            if let Err(status) = client.search(dear(&index)).await {
                refused = Some(status);
                break;
            }
        }
        let status = refused.expect("some search is over the rate");
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        assert!(status.message().starts_with("limits.max_"), "{status}");
        assert!(status.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
        let refused = format!("shortlist_refused_searches_total{{reason=\"{reason}\"}}");
        assert_eq!(server.metric(&refused).await, Some(1.0));
    }
}
