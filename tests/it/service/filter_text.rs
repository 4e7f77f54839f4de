//! Filters as text over gRPC: they mean what the tree means, and errors name the place.

use shortlist::service::proto::explain_response::Rule;
use shortlist::service::proto::{
    BatchSearchRequest, ExplainRequest, Filter, SearchRequest, batch_search_result,
};
use shortlist::service::{ServiceLimits, ServiceOptions};
use tonic::Code;

use crate::harness::wire::{at_least, bool_is, exact, fields, ids, must};
use crate::harness::{DIM, Setup, TestIndex, TestServer, request, video_id};

const QUERY: [f32; DIM] = [0.5, -1.0, 0.25, 2.0, -0.125, 1.0, 0.75, -0.5];

fn of_text(text: &str) -> SearchRequest {
    SearchRequest { filter_text: text.to_owned(), params: exact(), ..request(&QUERY, 10) }
}

fn of_tree(filter: Filter) -> SearchRequest {
    SearchRequest { filter: Some(filter), params: exact(), ..request(&QUERY, 10) }
}

#[tokio::test]
async fn a_text_finds_what_the_tree_finds() {
    let index = TestIndex::new(300);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let tree = of_tree(must(vec![bool_is("safe", true), at_least("delta", -99)]));
    let expected = ids(&client.search(tree).await.unwrap().into_inner());
    assert_eq!(expected.len(), 10);
    let text = of_text("safe = true and delta >= -99");
    assert_eq!(ids(&client.search(text).await.unwrap().into_inner()), expected);
}

#[tokio::test]
async fn a_wrong_text_is_refused_with_its_place_and_the_next_request_is_answered() {
    let index = TestIndex::new(20);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let both =
        SearchRequest { filter_text: "safe = true".to_owned(), ..of_tree(must(vec![bool_is("safe", true)])) };
    let too_long = format!("safe = true{}", " ".repeat(64 << 10));
    let many = format!("delta in ({})", vec!["1"; 1001].join(","));
    for (sent, message) in [
        (of_text("safe = true and"), "filter_text: line 1, column 16: expected a condition, such as"),
        (of_text("safe = true\n or region"), "filter_text: line 2, column 11: expected a comparison"),
        (of_text("color = \"red\""), "filter_text: no attribute \"color\": expected one of "),
        (of_text("safe = true and safe = \"yes\""), "filter_text: attribute \"safe\": expected type keyword"),
        (of_text(&too_long), "filter_text: expected a filter of at most 65536 bytes, found 65547"),
        (of_text(&many), "filter_text: line 1, column 2011: expected at most 1000 conditions in all"),
        (both, "filter_text: expected filter or filter_text, found both"),
    ] {
        let status = client.search(sent.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert_eq!(fields(&status), ["filter_text"]);
        assert!(status.message().starts_with(message), "{status}");
        let requests = vec![request(&QUERY, 10), sent];
        let answer = client.batch_search(BatchSearchRequest { requests }).await.unwrap().into_inner();
        let results: Vec<_> = answer.results.into_iter().map(|result| result.result.unwrap()).collect();
        let [batch_search_result::Result::Response(_), batch_search_result::Result::Error(error)] =
            &results[..]
        else {
            panic!("{results:?}");
        };
        assert!(error.message.starts_with(&format!("requests[1].{message}")), "{}", error.message);
    }
}

#[tokio::test]
async fn an_explanation_names_the_text() {
    let index = TestIndex::new(20);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    // Videos in odd rows are not safe.
    let explain = ExplainRequest {
        request: Some(of_text("safe = true")),
        video_id: video_id(3),
        ..ExplainRequest::default()
    };
    let explanation = client.explain(explain).await.unwrap().into_inner();
    assert_eq!((explanation.removed_by(), explanation.removed_at.as_str()), (Rule::Filter, "filter_text"));
}

/// A list of numbers takes two bytes per number in the text, and a condition with the name of the attribute in memory.
#[tokio::test]
async fn the_memory_of_a_text_is_that_of_its_tree() {
    let index = TestIndex::new(20);
    let (max_bytes_in_flight, max_connection_bytes) = (4 << 20, 1 << 20);
    let limits = ServiceLimits { max_bytes_in_flight, max_connection_bytes, ..ServiceLimits::default() };
    let service = ServiceOptions { limits, ..ServiceOptions::default() };
    let server = TestServer::start(&[("videos", &index)], Setup { service, ..Setup::default() }).await;
    let mut client = server.retrieval().await;
    let named = |bytes| of_text(&format!("{} in ({})", "a".repeat(bytes), vec!["1"; 1000].join(",")));
    let status = client.search(named(1000)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    // The tree of a shorter name fits. It is refused because there is no such attribute.
    assert_eq!(client.search(named(100)).await.unwrap_err().code(), Code::InvalidArgument);
}
