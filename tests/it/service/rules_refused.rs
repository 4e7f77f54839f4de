//! Invalid rules are refused with the path of the field at fault, and the next request is answered.

use roaring::{RoaringBitmap, RoaringTreemap};
use shortlist::service::proto::retrieval_client::RetrievalClient;
use shortlist::service::proto::{
    BatchSearchRequest, Bloom, Condition, Exclude, Filter, KeywordCondition, ListCondition, NullCondition,
    Number, NumberRange, SearchRequest, TimeRange, VideoIdCondition, batch_search_result, condition, number,
};
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::wire::{
    at_least, bool_is, cap, excluding, excluding_roaring, fields, fresh, interests, keyword, list, must,
    wrapped,
};
use crate::harness::{DIM, TestIndex, TestServer, request};

const QUERY: [f32; DIM] = [0.5, -1.0, 0.25, 2.0, -0.125, 1.0, 0.75, -0.5];

async fn refuses(client: &mut RetrievalClient<Channel>, sent: SearchRequest, field: &str) {
    let status = client.search(sent).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status}");
    assert_eq!(fields(&status), [field], "{status}");
    assert!(status.message().starts_with(field), "{status}");
    let answer = client.search(request(&QUERY, 10)).await.unwrap().into_inner();
    assert_eq!(answer.candidates.len(), 10, "after {field}");
}

fn safe() -> condition::Condition {
    bool_is("safe", true)
}

fn of_filter(filter: Filter) -> SearchRequest {
    SearchRequest { filter: Some(filter), ..request(&QUERY, 10) }
}

/// A condition nested in `filters` filters.
fn nested(filters: usize) -> Filter {
    (1..filters).fold(must(vec![safe()]), |inner, _| must(vec![condition::Condition::Filter(inner)]))
}

#[tokio::test]
async fn a_condition_on_an_attribute_that_it_is_not_for_is_refused_where_it_stands() {
    let index = TestIndex::new(20);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let is_null =
        |attribute: &str| condition::Condition::IsNull(NullCondition { attribute: attribute.into() });
    let since = |attribute: &str| {
        let time = shortlist::service::proto::Time {
            time: Some(shortlist::service::proto::time::Time::At(prost_types::Timestamp::default())),
        };
        let gte = Some(time);
        condition::Condition::Time(TimeRange { attribute: attribute.into(), gte, ..TimeRange::default() })
    };
    let inside = |conditions| {
        let inner = Filter { must_not: wrapped(conditions), ..Filter::default() };
        Filter { should: wrapped(vec![condition::Condition::Filter(inner)]), ..Filter::default() }
    };
    let cases = [
        (must(vec![safe(), keyword("color", &["red"])]), "filter.must[1].keyword.attribute"),
        (must(vec![list("color", &["red"])]), "filter.must[0].list.attribute"),
        (must(vec![bool_is("", true)]), "filter.must[0].bool.attribute"),
        (must(vec![is_null("color")]), "filter.must[0].is_null.attribute"),
        (must(vec![since("color")]), "filter.must[0].time.attribute"),
        (inside(vec![safe(), at_least("color", 1)]), "filter.should[0].filter.must_not[1].number.attribute"),
        (must(vec![keyword("tags", &["all"])]), "filter.must[0].keyword.attribute"),
        (must(vec![safe(), list("title", &["title 3"])]), "filter.must[1].list.attribute"),
        (must(vec![bool_is("rating", true)]), "filter.must[0].bool.attribute"),
        (must(vec![at_least("published_at", 1)]), "filter.must[0].number.attribute"),
        (inside(vec![since("delta")]), "filter.should[0].filter.must_not[0].time.attribute"),
    ];
    for (filter, field) in cases {
        refuses(&mut client, of_filter(filter), field).await;
    }
    // In a batch the path starts at the batch, and the other requests are answered.
    let bad = of_filter(must(vec![keyword("color", &["red"])]));
    let requests = vec![request(&QUERY, 10), bad, request(&QUERY, 10)];
    let answer = client.batch_search(BatchSearchRequest { requests }).await.unwrap().into_inner();
    let results: Vec<_> = answer.results.into_iter().map(|result| result.result.unwrap()).collect();
    let [
        batch_search_result::Result::Response(_),
        batch_search_result::Result::Error(error),
        batch_search_result::Result::Response(_),
    ] = results.as_slice()
    else {
        panic!("{results:?}")
    };
    let start = "requests[1].filter.must[0].keyword.attribute: ";
    assert!(error.message.starts_with(start), "{}", error.message);
}

#[tokio::test]
async fn a_condition_that_says_nothing_or_too_much_is_refused() {
    let index = TestIndex::new(20);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let one = || Some(Number { number: Some(number::Number::Int64(1)) });
    let range = || NumberRange { attribute: "delta".into(), ..NumberRange::default() };
    let number = |range| must(vec![condition::Condition::Number(range)]);
    let nan = Some(Number { number: Some(number::Number::Double(f64::NAN)) });
    let video_ids =
        |ids| must(vec![condition::Condition::VideoId(VideoIdCondition { any_of: vec![7; ids] })]);
    let nothing = Filter { must: vec![Condition::default()], ..Filter::default() };
    let should = |conditions: Vec<condition::Condition>, least| Filter {
        should: wrapped(conditions),
        min_should: Some(least),
        ..Filter::default()
    };
    let no_words =
        condition::Condition::List(ListCondition { attribute: "tags".into(), ..Default::default() });
    let many_words = condition::Condition::Keyword(KeywordCondition {
        attribute: "title".into(),
        any_of: vec!["a".into(); 60_000],
    });
    let many_ids = condition::Condition::VideoId(VideoIdCondition { any_of: vec![7; 40_001] });
    let cases = [
        (nothing, "filter.must[0]"),
        (must(vec![safe(), keyword("title", &[])]), "filter.must[1].keyword.any_of"),
        (must(vec![no_words]), "filter.must[0].list"),
        (video_ids(0), "filter.must[0].video_id.any_of"),
        (number(range()), "filter.must[0].number"),
        (number(NumberRange { gt: one(), gte: one(), ..range() }), "filter.must[0].number"),
        (number(NumberRange { lt: nan, ..range() }), "filter.must[0].number.lt.double"),
        (should(vec![safe(), safe()], 3), "filter.min_should"),
        (should(Vec::new(), 1), "filter.min_should"),
        (nested(17), &format!("filter{}", ".must[0].filter".repeat(16))),
        (must(vec![safe(); 1_001]), "filter.must[1000]"),
        (must(vec![many_words, many_ids]), "filter.must[1].video_id.any_of"),
    ];
    for (filter, field) in cases {
        refuses(&mut client, of_filter(filter), field).await;
    }
    // Requests at the limits are answered; half of the videos are safe.
    for filter in [nested(16), must(vec![safe(); 1_000]), should(vec![safe(), safe()], 2)] {
        let answer = client.search(of_filter(filter)).await.unwrap().into_inner();
        assert_eq!(answer.candidates.len(), 10);
    }
    assert!(client.search(of_filter(video_ids(100_000))).await.unwrap().into_inner().candidates.is_empty());
}

#[tokio::test]
async fn bytes_that_are_no_exclusion_are_refused_and_the_server_goes_on() {
    let index = TestIndex::new(20);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let written = |ids: RoaringTreemap| {
        let mut bytes = Vec::new();
        ids.serialize_into(&mut bytes).unwrap();
        bytes
    };
    let good = written([5, 1 << 40, (1 << 40) + 1].into_iter().collect());
    let claiming = |buckets: u64| [&buckets.to_le_bytes(), &good[8..]].concat();
    let mut runs = RoaringBitmap::new();
    runs.insert_range(0..=u32::MAX - 1);
    runs.optimize();
    let everything = written(RoaringTreemap::from_bitmaps([(0, runs)]));
    assert!(everything.len() < 2_000_000, "billions of ids in {} bytes", everything.len());
    let mut malformed: Vec<Vec<u8>> = (1..good.len()).map(|cut| good[..cut].to_vec()).collect();
    malformed.extend([claiming(u64::MAX), claiming(3), claiming(0), everything, vec![0xff; 64]]);
    malformed.push([&good[..], &[0]].concat());
    for roaring in malformed {
        let sent = SearchRequest { exclude: excluding_roaring(roaring), ..request(&QUERY, 10) };
        refuses(&mut client, sent, "exclude.roaring").await;
    }
    let bloom = |bits: usize, hashes| Some(Bloom { bits: vec![0; bits], hashes, seed: 1 });
    let of_bloom = |bloom| Some(Exclude { bloom, ..Exclude::default() });
    let together =
        Some(Exclude { video_ids: (0..99_998).collect(), ..excluding_roaring(good.clone()).unwrap() });
    let cases = [
        (of_bloom(bloom(8, 0)), "exclude.bloom.hashes"),
        (of_bloom(bloom(8, 33)), "exclude.bloom.hashes"),
        (of_bloom(bloom(8, u32::MAX)), "exclude.bloom.hashes"),
        (of_bloom(bloom(0, 4)), "exclude.bloom.bits"),
        (excluding(0..100_001), "exclude.video_ids"),
        (together, "exclude.roaring"),
    ];
    for (exclude, field) in cases {
        refuses(&mut client, SearchRequest { exclude, ..request(&QUERY, 10) }, field).await;
    }
    for exclude in [excluding_roaring(good), of_bloom(bloom(8, 32)), excluding(0..100_000)] {
        let sent = SearchRequest { exclude, ..request(&QUERY, 10) };
        assert_eq!(client.search(sent).await.unwrap().into_inner().candidates.len(), 10);
    }
}

#[tokio::test]
async fn caps_fresh_interests_and_pages_are_refused_where_they_cannot_be() {
    let index = TestIndex::new(20);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let caps = |caps| SearchRequest { caps, ..request(&QUERY, 10) };
    let kept =
        |attribute, at_least| SearchRequest { fresh: fresh(attribute, at_least), ..request(&QUERY, 10) };
    let one = |min_share| (QUERY.as_slice(), 1.0, min_share);
    let of = |of: &[(&[f32], f32, f32)]| SearchRequest { query: interests(of), ..request(&[], 10) };
    let cases = [
        (caps(vec![cap("safe", 1), cap("color", 1)]), "caps[1].attribute"),
        (caps(vec![cap("rating", 1)]), "caps[0].attribute"),
        (caps(vec![cap("published_at", 1)]), "caps[0].attribute"),
        (caps(vec![cap("safe", 1), cap("tags", 0)]), "caps[1].max_per_value"),
        (caps(vec![cap("safe", 1); 17]), "caps"),
        (kept("color", 1), "fresh.attribute"),
        (kept("delta", 1), "fresh.attribute"),
        (kept("published_at", 11), "fresh.at_least"),
        (of(&[]), "query.interests"),
        (of(&[one(0.0); 17]), "query.interests"),
        (of(&[(&QUERY, 1.0, 0.5), (&QUERY, 1.0, 0.51)]), "query.interests"),
        (of(&[(&QUERY, 1.0, 0.5), (&QUERY, 1.0, 1.01)]), "query.interests.interests[1].min_share"),
        (of(&[(&QUERY, 1.0, f32::NAN)]), "query.interests.interests[0].min_share"),
        (of(&[(&QUERY, 1.0, 0.5), (&QUERY, 0.0, 0.0)]), "query.interests.interests[1].weight"),
        (of(&[(&QUERY, f32::INFINITY, 0.0)]), "query.interests.interests[0].weight"),
        (of(&[(&QUERY, 1.0, 0.0), (&QUERY[1..], 1.0, 0.0)]), "query.interests.interests[1].vector"),
        (
            SearchRequest { fresh: fresh("", 6), ..of(&[(&QUERY, 1.0, 0.3), (&QUERY, 1.0, 0.2)]) },
            "fresh.at_least",
        ),
        (SearchRequest { offset: 9_991, ..request(&QUERY, 10) }, "offset"),
        (SearchRequest { offset: u32::MAX, ..request(&QUERY, 10) }, "offset"),
    ];
    for (sent, field) in cases {
        refuses(&mut client, sent, field).await;
    }
    // The maximum allowed.
    let allowed = [
        caps(vec![cap("delta", 1); 16]),
        kept("", 10),
        of(&[one(0.0625); 16]),
        SearchRequest { fresh: fresh("", 5), ..of(&[(&QUERY, 1.0, 0.3), (&QUERY, 1.0, 0.2)]) },
    ];
    for sent in allowed {
        assert_eq!(client.search(sent).await.unwrap().into_inner().candidates.len(), 10);
    }
    let past_the_end = SearchRequest { offset: 9_990, ..request(&QUERY, 10) };
    assert!(client.search(past_the_end).await.unwrap().into_inner().candidates.is_empty());
}

#[tokio::test]
async fn names_of_any_length_are_refused_in_few_words() {
    let index = TestIndex::new(20);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let sent = || request(&QUERY, 10);
    let kept = |attribute: &str| SearchRequest { fresh: fresh(attribute, 1), ..sent() };
    for name in ["a".repeat(3_000), "a".repeat(1 << 20), "é".repeat(3_000)] {
        let name = name.as_str();
        let cases = [
            (of_filter(must(vec![keyword(name, &["red"])])), "filter.must[0].keyword.attribute"),
            (SearchRequest { caps: vec![cap(name, 1)], ..sent() }, "caps[0].attribute"),
            (SearchRequest { return_attributes: vec![name.into()], ..sent() }, "return_attributes[0]"),
            (kept(name), "fresh.attribute"),
            (SearchRequest { embedding_model: name.into(), ..sent() }, "embedding_model"),
            (SearchRequest { index: name.into(), ..sent() }, "index"),
        ];
        for (sent, field) in cases {
            let status = client.search(sent).await.unwrap_err();
            let code = match field {
                "embedding_model" => Code::FailedPrecondition,
                "index" => Code::NotFound,
                _ => Code::InvalidArgument,
            };
            assert_eq!(status.code(), code, "{field}: {status}");
            assert_eq!(fields(&status), [field], "{status}");
            assert!(status.message().len() <= 512 && status.message().ends_with('…'), "{status}");
            let headers = status.into_http::<()>().headers().clone();
            let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
            assert!(bytes < 5 << 10, "{field}: {bytes}");
        }
    }
}

#[tokio::test]
async fn an_unknown_attribute_is_refused_in_the_same_words_wherever_it_stands() {
    let index = TestIndex::new(20);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let sent = || request(&QUERY, 10);
    let cases = [
        (of_filter(must(vec![keyword("color", &["red"])])), "filter.must[0].keyword.attribute"),
        (SearchRequest { caps: vec![cap("color", 1)], ..sent() }, "caps[0].attribute"),
        (SearchRequest { return_attributes: vec!["color".into()], ..sent() }, "return_attributes[0]"),
        (SearchRequest { fresh: fresh("color", 1), ..sent() }, "fresh.attribute"),
    ];
    for (sent, field) in cases {
        let status = client.search(sent).await.unwrap_err();
        let known = "title, tags, delta, views, rating, safe, published_at";
        assert_eq!(status.message(), format!("{field}: no attribute \"color\": expected one of {known}"));
    }
}
