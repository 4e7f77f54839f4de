//! Requests in JSON that are refused, each with its code, its field and its place.

use serde_json::{Value, json};
use shortlist::service::proto::attribute_value::Value as Attribute;
use shortlist::service::proto::catalog_client::CatalogClient;
use shortlist::service::proto::{AttributeValue, UpsertRequest, Vector, Video};
use shortlist::service::{CallerLimits, ServiceLimits, ServiceOptions};
use tonic::Code;

use super::client::Client;
use crate::harness::{DIM, Setup, TestIndex, TestServer};

const ONES: [f32; DIM] = [1.0; DIM];

fn query(k: usize) -> Value {
    json!({ "vector": { "values": ONES }, "k": k })
}

fn limited(limits: ServiceLimits) -> Setup {
    Setup { threads: 1, service: ServiceOptions { limits, ..ServiceOptions::default() }, ..Setup::default() }
}

#[tokio::test]
async fn a_text_that_is_no_request_is_refused_with_its_field_line_and_column() {
    let index = TestIndex::new(20);
    let server = TestServer::of(&index).await;
    let client = Client::new(server.address);
    for (method, text, field, problem) in [
        (":search", "", "request", "EOF while parsing a value at line 1 column 0"),
        (":search", "{", "request", "EOF while parsing an object at line 1 column 1"),
        (":search", "nul", "request", "EOF while parsing a value at line 1 column 3"),
        (":search", "[1]", "request", "invalid type: sequence, expected an object at line 1 column 1"),
        (":search", "{\"k\":1} x", "request", "trailing characters at line 1 column 9"),
        (":search", "{\"k\":1,}", "request", "trailing comma at line 1 column 8"),
        (":search", "{\n\"k\":\n\"x\"}", "k", "at line 3 column 3"),
        (":search", "{\"k\":-1}", "k", "at line 1 column 7"),
        (":search", "{\"k\":true}", "k", "invalid type: boolean `true`, expected a 32-bit unsigned integer"),
        (":search", "{\"find\":1}", "find", "unrecognized field name 'find' at line 1 column 7"),
        (":search", "{\"index\":1}", "index", "invalid type: integer `1`, expected a string"),
        (
            ":search",
            "{\"params\":{\"plan\":\"PLAN_NONE\"}}",
            "params.plan",
            "unrecognized enum value 'PLAN_NONE'",
        ),
        (":search", "{\"vector\":{\"values\":[1,\"x\"]}}", "vector.values[1]", "invalid float literal"),
        (":search", "{\"vector\":{\"values\":[1,null]}}", "vector.values[1]", "invalid type: null"),
        (":search", "{\"vector\":{},\"seeds\":{}}", "request", "multiple fields provided for oneof 'query'"),
        (
            ":search",
            "{\"filter\":{\"must\":[{},{\"a\":1}]}}",
            "filter.must[1].a",
            "unrecognized field name 'a'",
        ),
        (
            ":search",
            "{\"fresh\":{\"within\":\"1h\"}}",
            "fresh.within",
            "failed to parse duration at line 1 column 23",
        ),
        (":search", "{\"exclude\":{\"roaring\":\"?\"}}", "exclude.roaring", "invalid base64"),
        (
            ":batchSearch",
            "{\"requests\":[{},{\"k\":\"\"}]}",
            "requests[1].k",
            "cannot parse integer from empty string",
        ),
        (":batchSearch", "{\"requests\":[],\"requests\":[]}", "requests", "expected the field once"),
        (":batchSearch", "{\"requests\":{}}", "requests", "invalid type: map, expected a list"),
        (
            "/videos:upsert",
            "{\"videos\":[{\"expires_at\":1}]}",
            "videos[0].expires_at",
            "expected a rfc3339 timestamp",
        ),
        ("/videos:get", "{\"videoIds\":[-1]}", "videoIds[0]", "at line 1 column 15"),
        ("/videos:get", "{\"videoIds\":[1.5]}", "videoIds[0]", "expected integer value"),
    ] {
        let answer = client.text(&format!("/v1/indexes/videos{method}"), text).await;
        assert_eq!((answer.code, answer.status()), (400, "INVALID_ARGUMENT"), "{text}: {answer:?}");
        assert_eq!(answer.fields(), [field], "{text}: {answer:?}");
        let error = &answer.body["error"];
        let description = error["details"][0]["fieldViolations"][0]["description"].as_str().unwrap();
        assert!(description.contains(problem) && description.contains("at line "), "{text}: {description}");
        assert_eq!(error["message"], format!("{field}: {description}"));
        assert_eq!(error["details"][0]["@type"], "type.googleapis.com/google.rpc.BadRequest");
    }
    let refused = "shortlist_requests_total{index=\"\",method=\"Get\",code=\"INVALID_ARGUMENT\"}";
    assert_eq!(server.metric(refused).await, Some(2.0));
}

#[tokio::test]
async fn ids_are_exact_or_refused() {
    let index = TestIndex::new(20);
    let server = TestServer::of(&index).await;
    let client = Client::new(server.address);
    for (text, id) in [
        ("18446744073709551615", u64::MAX),
        ("\"18446744073709551615\"", u64::MAX),
        ("9007199254740993", (1 << 53) + 1),
        ("9007199254740991.0", (1 << 53) - 1),
        ("1e3", 1000),
        ("0", 0),
    ] {
        let found =
            client.text("/v1/indexes/videos/videos:get", format!("{{\"videoIds\":[{text}]}}")).await.ok();
        let found = found["results"][0].get("videoId").map_or("0", |id| id.as_str().unwrap());
        assert_eq!(found, id.to_string(), "{text}");
    }
    for text in
        ["18446744073709551616", "\"18446744073709551616\"", "9007199254740993.0", "1e19", "1e400", "\"0x1\""]
    {
        let answer = client.text("/v1/indexes/videos/videos:get", format!("{{\"videoIds\":[{text}]}}")).await;
        assert_eq!(
            (answer.code, answer.fields()),
            (400, vec!["videoIds[0]".to_owned()]),
            "{text}: {answer:?}"
        );
    }
    // Large numbers are as good as any where fractions are.
    let range = json!({ "attribute": "rating", "lt": { "double": 1e300 }, "gt": { "double": -1.5e20 } });
    let request = json!({ "vector": { "values": [1e14, 0, 0, 0, 0, 0, 0, 0] }, "k": 20, "filter": { "must": [{ "number": range }] } });
    assert_eq!(client.call(":search", &request).await.ok()["completeness"]["returned"], 20);
    // Of a field that occurs twice, the last one counts.
    let text = format!("{{\"k\":1,\"vector\":{{\"values\":{ONES:?}}},\"k\":2}}");
    let found = client.text("/v1/indexes/videos:search", text).await.ok();
    assert_eq!(found["completeness"]["returned"], 2);
    // Enums by number, fields by their name in the proto, and null for nothing.
    let request = json!({ "vector": { "values": [1, 0, 0, 0, 0, 0, 0, 0] }, "k": 1, "params": { "plan": 2 }, "return_stats": true, "fresh": null });
    assert_eq!(client.call(":search", &request).await.ok()["stats"]["plan"], "PLAN_EXACT_SCAN");
}

#[tokio::test]
async fn paths_methods_and_types_that_do_not_exist_are_refused() {
    let index = TestIndex::new(20);
    let server = TestServer::of(&index).await;
    for client in [Client::new(server.address), Client::http2(server.address)] {
        let body = query(3).to_string();
        for path in ["/v1/indexes/videos:find", "/v1/indexes/", "/v1/x", "/v1/indexes/videos/videos"] {
            let answer = client.text(path, body.clone()).await;
            assert_eq!((answer.code, answer.status()), (404, "NOT_FOUND"), "{path}");
        }
        let answer = client.get("/v1/indexes/videos:search").await;
        assert_eq!((answer.code, answer.header("allow")), (405, Some("POST")));
        let answer = client.text("/openapi.json", body.clone()).await;
        assert_eq!((answer.code, answer.header("allow")), (405, Some("GET, HEAD")));
        let answer = client.text("/v1/indexes/%ff:search", body.clone()).await;
        assert_eq!((answer.code, answer.fields()), (400, vec!["index".to_owned()]));
        for content_type in
            ["text/plain", "application/grpc", "application/jsonp", "application/x-www-form-urlencoded"]
        {
            let (code, headers, text) = client
                .with("content-type", content_type)
                .send("POST", "/v1/indexes/videos:search", body.clone())
                .await;
            assert_eq!(
                (code.as_u16(), &headers["content-type"]),
                (415, &"application/json".parse().unwrap()),
                "{content_type}"
            );
            assert!(String::from_utf8(text).unwrap().contains("\"INVALID_ARGUMENT\""));
        }
        let gzip =
            client.with("content-encoding", "gzip").text("/v1/indexes/videos:search", body.clone()).await;
        assert_eq!(gzip.code, 415);
        let typed = client.with("content-type", "Application/JSON; charset=utf-8");
        assert_eq!(typed.send("POST", "/v1/indexes/videos:search", body.clone()).await.0, 200);
        // Headers of gRPC have no effect on JSON.
        client.with("grpc-encoding", "gzip").text("/v1/indexes/videos:search", body).await.ok();
        for path in ["/unknown", "/v1/x", "/openapi.json", "/v1/indexes", "/healthz"] {
            let (expected, _, text) = client.send("GET", path, "").await;
            let (code, _, body) = client.send("HEAD", path, "").await;
            assert_eq!((code, body.len(), text.is_empty()), (expected, 0, false), "{path}");
        }
        let (code, _, text) = client.send("GET", "/unknown", "").await;
        let text = String::from_utf8(text).unwrap();
        assert!(code == 404 && text.contains("/v1/indexes") && text.contains("/openapi.json"), "{text}");
        let document = client.get("/openapi.json").await;
        assert!(document.header("cache-control").unwrap().contains("max-age"));
        assert!(document.ok()["paths"]["/v1/indexes/{index}:search"].is_object());
    }
}

#[tokio::test]
async fn deadlines_and_limits_end_calls_as_they_end_those_of_grpc() {
    let index = TestIndex::new(20);
    let caller = CallerLimits { max_searches_per_second: 1, ..CallerLimits::default() };
    let limits = ServiceLimits { max_batch: 2, caller, ..ServiceLimits::default() };
    let server = TestServer::start(&[("videos", &index)], limited(limits)).await;
    let client = Client::new(server.address);
    client.call(":search", &query(3)).await.ok();
    let refused = client.call(":search", &query(3)).await;
    assert_eq!((refused.code, refused.status()), (429, "RESOURCE_EXHAUSTED"), "{refused:?}");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.body["error"]["details"][0]["@type"], "type.googleapis.com/google.rpc.RetryInfo");
    let batch = client.call(":batchSearch", &json!({ "requests": [{}, {}, {}] })).await;
    assert_eq!((batch.code, batch.fields()), (400, vec!["requests".to_owned()]));

    let server =
        TestServer::start(&[("videos", &TestIndex::new(20))], limited(ServiceLimits::default())).await;
    let gate = server.close_gate();
    let late = Client::new(server.address).with("grpc-timeout", "50m").call(":search", &query(3)).await;
    assert_eq!((late.code, late.status()), (504, "DEADLINE_EXCEEDED"));
    // A caller that hangs up ends its search.
    let waiting = tokio::spawn({
        let client = Client::new(server.address);
        async move { client.call(":search", &query(3)).await }
    });
    server.until("shortlist_in_flight", 2.0).await;
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    // Only the connection that asks is left.
    server.until("shortlist_connections", 1.0).await;
    drop(gate);
    server.until("shortlist_in_flight", 0.0).await;
    let count =
        |code| format!("shortlist_requests_total{{index=\"videos\",method=\"Search\",code=\"{code}\"}}");
    assert_eq!(server.metric(&count("CANCELLED")).await, Some(1.0));
    assert_eq!(server.metric(&count("DEADLINE_EXCEEDED")).await, Some(1.0));
}

#[tokio::test]
async fn a_value_that_json_does_not_have_is_named() {
    let index = TestIndex::new(20);
    let server = TestServer::of(&index).await;
    let (client, mut grpc) = (Client::new(server.address), CatalogClient::new(server.channel().await));
    let time = prost_types::Timestamp { seconds: -100_000_000_000, nanos: 0 };
    let value = AttributeValue { value: Some(Attribute::Timestamp(time)) };
    let video = Video {
        video_id: 5,
        vector: Some(Vector { values: vec![1.0; DIM], packed: None }),
        attributes: [("published_at".to_owned(), value)].into(),
        ..Video::default()
    };
    match grpc.upsert(UpsertRequest { videos: vec![video], ..UpsertRequest::default() }).await {
        Ok(_) => {
            let get = json!({ "videoIds": [5], "returnAttributes": ["published_at"] });
            let refused = client.call("/videos:get", &get).await;
            assert_eq!((refused.code, refused.status()), (400, "FAILED_PRECONDITION"), "{refused:?}");
            assert!(refused.body["error"]["message"].as_str().unwrap().contains("timestamp out of range"));
        }
        Err(status) => assert_eq!(status.code(), Code::InvalidArgument, "{status}"),
    }
}
