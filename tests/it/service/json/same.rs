//! What gRPC answers, JSON answers.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use shortlist::service::proto::catalog_client::CatalogClient;
use shortlist::service::proto::{
    BatchSearchRequest, BatchSearchResponse, ExplainRequest, ExplainResponse, GetRequest, GetResponse,
    GetStatusResponse, SearchRequest, SearchResponse, UpsertRequest, WriteResponse, batch_search_result,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::client::{Answer, Client, Messages};
use super::random;
use crate::harness::wire::fields;
use crate::harness::{DIM, TestIndex, TestServer, eventually, request, video_id};

const SEARCHES: usize = 1_000;
const QUERY: [f32; DIM] = [0.5, -1.0, 0.25, 2.0, -0.125, 1.0, 0.75, -0.5];

/// The same answer without the time that it took.
fn timeless(mut response: SearchResponse) -> SearchResponse {
    if let Some(stats) = &mut response.stats {
        stats.elapsed = None;
    }
    response
}

/// Checks that an error says the same as that of gRPC.
#[track_caller]
fn is_same_error(answer: &Answer, status: &Status) {
    let error = &answer.body["error"];
    assert_eq!(error["code"], answer.code, "{answer:?}");
    assert_eq!(error["message"], status.message());
    let (http, name) = match status.code() {
        Code::InvalidArgument => (400, "INVALID_ARGUMENT"),
        Code::FailedPrecondition => (400, "FAILED_PRECONDITION"),
        Code::NotFound => (404, "NOT_FOUND"),
        other => panic!("{other:?}: {status}"),
    };
    assert_eq!((answer.code, answer.status()), (http, name));
    assert_eq!(answer.fields(), fields(status));
    let details = error["details"].as_array().map_or(0, Vec::len);
    assert_eq!(details, status.get_error_details_vec().len(), "{answer:?}");
}

#[tokio::test]
async fn random_searches_have_the_same_answers_and_errors() {
    let index = TestIndex::new(200);
    let server = TestServer::of(&index).await;
    let (mut grpc, clients) =
        (server.retrieval().await, [Client::new(server.address), Client::http2(server.address)]);
    let messages = Messages::new();
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let (mut answered, mut refused) = (0, 0);
    for at in 0..SEARCHES {
        let request = random::search(&mut random);
        let json = messages.json("SearchRequest", &request);
        let expected = grpc.search(request.clone()).await;
        let found = clients[at % 2].call(":search", &json).await;
        match expected {
            Ok(expected) => {
                let body = found.ok();
                let expected = timeless(expected.into_inner());
                let response = timeless(messages.message("SearchResponse", &body));
                assert_eq!(response, expected, "{request:?}");
                let candidates = body["candidates"].as_array().cloned().unwrap_or_default();
                for (candidate, expected) in candidates.iter().zip(&expected.candidates) {
                    assert_eq!(candidate["videoId"], expected.video_id.to_string());
                    let score = candidate.get("score").map_or(0.0, |score| score.as_f64().unwrap() as f32);
                    assert_eq!(score.to_bits(), expected.score.to_bits());
                }
                answered += 1;
            }
            Err(status) => {
                is_same_error(&found, &status);
                refused += 1;
            }
        }
    }
    assert!(answered > SEARCHES / 3 && refused > SEARCHES / 10, "{answered} answered, {refused} refused");
}

#[tokio::test]
async fn batches_and_explanations_have_the_same_answers_and_errors() {
    let index = TestIndex::new(200);
    let server = TestServer::of(&index).await;
    let (mut grpc, client, messages) =
        (server.retrieval().await, Client::new(server.address), Messages::new());
    let mut random = ChaCha8Rng::seed_from_u64(8);
    let mut failed = 0;
    for _ in 0..20 {
        let requests: Vec<_> = (0..random.random_range(0..12)).map(|_| random::search(&mut random)).collect();
        let batch = BatchSearchRequest { requests };
        let found = client.call(":batchSearch", &messages.json("BatchSearchRequest", &batch)).await.ok();
        let expected = grpc.batch_search(batch).await.unwrap().into_inner();
        for (position, expected) in expected.results.into_iter().enumerate() {
            let found = &found["results"][position];
            match expected.result.unwrap() {
                batch_search_result::Result::Response(response) => {
                    let found: SearchResponse = messages.message("SearchResponse", &found["response"]);
                    assert_eq!(timeless(found), timeless(response));
                }
                batch_search_result::Result::Error(error) => {
                    assert_eq!(
                        (&found["error"]["code"], &found["error"]["message"]),
                        (&json!(error.code), &json!(error.message))
                    );
                    let details = found["error"]["details"].as_array().unwrap();
                    let urls: Vec<_> =
                        details.iter().map(|detail| detail["@type"].as_str().unwrap()).collect();
                    assert_eq!(
                        urls,
                        error.details.iter().map(|any| any.type_url.as_str()).collect::<Vec<_>>()
                    );
                    failed += 1;
                }
            }
        }
        let explain = ExplainRequest {
            request: Some(random::search(&mut random)),
            video_id: video_id(3),
            ..ExplainRequest::default()
        };
        let found = client.call(":explain", &messages.json("ExplainRequest", &explain)).await;
        match grpc.explain(explain).await {
            Ok(expected) => {
                let mut expected = expected.into_inner();
                let mut found: ExplainResponse = messages.message("ExplainResponse", &found.ok());
                expected.stats.as_mut().unwrap().elapsed = None;
                found.stats.as_mut().unwrap().elapsed = None;
                assert_eq!(found, expected);
            }
            Err(status) => is_same_error(&found, &status),
        }
    }
    assert!(failed > 5, "{failed} errors");
    let empty: BatchSearchResponse =
        messages.message("BatchSearchResponse", &client.call(":batchSearch", &json!({})).await.ok());
    assert_eq!(empty, BatchSearchResponse::default());
}

#[tokio::test]
async fn videos_are_written_read_taken_down_and_restored() {
    let index = TestIndex::new(50);
    let server = TestServer::of(&index).await;
    let (client, messages) = (Client::new(server.address), Messages::new());
    let id = u64::MAX - 1;
    let video = json!({
        "videoId": id.to_string(),
        "vector": { "values": QUERY },
        "attributes": {
            "title": { "keyword": "é \"quoted\" \u{1f3ac}" },
            "tags": { "keywordList": { "values": ["a", "b"] } },
            "delta": { "int64": (i64::MIN).to_string() },
            "views": { "uint64": id.to_string() },
            "rating": { "double": 0.1 },
            "safe": { "bool": false },
            "published_at": { "timestamp": "2026-01-02T03:04:05.000006Z" },
        },
    });
    let written = client.call("/videos:upsert", &json!({ "videos": [video], "index": "videos" })).await.ok();
    assert_eq!(written, json!({ "sequence": "1", "written": 1 }));
    let get = json!({ "videoIds": [id, "7"], "returnAttributes": ["*"], "returnVectors": true });
    let found = client.call("/videos:get", &get).await.ok();
    assert_eq!(found["results"][0]["state"], "STATE_FOUND");
    assert_eq!(found["results"][0]["video"], video);
    assert_eq!(found["results"][1], json!({ "videoId": "7", "state": "STATE_UNKNOWN" }));
    let mut grpc = CatalogClient::new(server.channel().await);
    let request = GetRequest {
        video_ids: vec![id, 7],
        return_attributes: vec!["*".into()],
        return_vectors: true,
        ..GetRequest::default()
    };
    let expected: GetResponse = grpc.get(request).await.unwrap().into_inner();
    assert_eq!(messages.message::<GetResponse>("GetResponse", &found), expected);

    // What was written by gRPC reads the same.
    let video = expected.results[0].video.clone().unwrap();
    let again = UpsertRequest { videos: vec![video.clone()], ..UpsertRequest::default() };
    grpc.upsert(again).await.unwrap();
    assert_eq!(client.call("/videos:get", &get).await.ok(), found);

    let ids = json!({ "videoIds": [id] });
    let state = async || {
        client.call("/videos:get", &ids).await.ok()["results"][0]["state"].as_str().unwrap().to_owned()
    };
    for (method, expected) in
        [("takedown", "STATE_TAKEN_DOWN"), ("restore", "STATE_FOUND"), ("delete", "STATE_UNKNOWN")]
    {
        let written: WriteResponse =
            messages.message("WriteResponse", &client.call(&format!("/videos:{method}"), &ids).await.ok());
        assert_eq!((written.written, state().await.as_str()), (1, expected), "{method}");
    }
    let bad = json!({ "videos": [{ "videoId": 1, "vector": { "values": [1] } }, { "videoId": 2, "vector": { "values": QUERY } }], "partial": true });
    let partly = client.call("/videos:upsert", &bad).await.ok();
    assert_eq!((&partly["written"], &partly["errors"][0]["status"]["code"]), (&json!(1), &json!(3)));
    assert_eq!(
        partly["errors"][0]["status"]["details"][0]["fieldViolations"][0]["field"],
        "videos[0].vector"
    );
}

#[tokio::test]
async fn operations_work_and_report_the_state() {
    let mut index = TestIndex::new(50);
    index.publish(60);
    let server =
        TestServer::start(&[("videos", &index), ("a/b:c d", &TestIndex::new(20))], Default::default()).await;
    let (client, messages) = (Client::new(server.address), Messages::new());
    let all: GetStatusResponse = messages.message("GetStatusResponse", &client.get("/v1/indexes").await.ok());
    assert_eq!(
        all.indexes.iter().map(|index| index.name.as_str()).collect::<Vec<_>>(),
        ["a/b:c d", "videos"]
    );
    let one: GetStatusResponse =
        messages.message("GetStatusResponse", &client.get("/v1/indexes/videos").await.ok());
    assert_eq!((one.indexes.len(), one.indexes[0].generation), (1, 2));
    let missing = client.get("/v1/indexes/none").await;
    assert_eq!((missing.code, missing.status()), (404, "NOT_FOUND"));
    let activated = client.call(":activate", &json!({ "generation": "1", "force": true })).await.ok();
    assert_eq!(activated["index"]["generation"], "1");
    assert_eq!(client.call(":cancelRebuild", &json!({})).await.ok()["rebuild"]["state"], "STATE_IDLE");
    let written = client.call("/videos:delete", &json!({ "videoIds": [video_id(1)] })).await.ok();
    assert_eq!(written["written"], 1);
    client.call(":rebuild", &json!({})).await.ok();
    eventually("the rebuild", async || {
        let status: Value = client.get("/v1/indexes/videos").await.ok();
        status["indexes"][0]["rebuild"]["state"] == "STATE_DONE"
    })
    .await;
    // Names are percent-encoded, and a route may not name another index than its body.
    let query = json!({ "vector": { "values": QUERY }, "k": 3 });
    for path in ["/v1/indexes/a%2Fb%3Ac%20d:search", "/v1/indexes/a%2fb:c%20d:search"] {
        let found = client.post(path, &query).await.ok();
        assert_eq!(found["candidates"].as_array().unwrap().len(), 3, "{path}");
    }
    assert_eq!(client.get("/v1/indexes/a%2Fb%3Ac%20d").await.ok()["indexes"][0]["vectors"], "20");
    for (method, body, field) in [
        (":search", json!({ "index": "a/b:c d", "k": 3 }), "index"),
        (
            ":batchSearch",
            json!({ "requests": [{ "index": "videos" }, { "index": "other" }] }),
            "requests[1].index",
        ),
        (":explain", json!({ "request": { "index": "other" } }), "request.index"),
        ("/videos:takedown", json!({ "videoIds": [1], "index": "other" }), "index"),
    ] {
        let refused = client.call(method, &body).await;
        assert_eq!((refused.code, refused.fields()), (400, vec![field.to_owned()]), "{method}: {refused:?}");
    }
    let named = SearchRequest { index: "videos".into(), ..request(&QUERY, 3) };
    client.call(":search", &messages.json("SearchRequest", &named)).await.ok();
}
