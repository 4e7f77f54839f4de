//! Requests of every method. Together they set every field that a request can have.

use std::collections::BTreeMap;

use prost_types::{Duration, Timestamp};
use roaring::RoaringTreemap;
use shortlist::service::proto::{
    ActivateRequest, AttributeValue, BatchSearchRequest, Bloom, CancelRebuildRequest,
    CompareGenerationsRequest, Condition, DeleteRequest, Diversity, Dtype, Exclude, ExplainRequest, Filter,
    GetHistoryRequest, GetMapRequest, GetRequest, GetStatusRequest, KeywordCondition, KeywordList,
    ListAliasesRequest, ListChangesRequest, ListCondition, ListGenerationsRequest, ListIndexesRequest,
    ListValuesRequest, NullCondition, Number, NumberRange, PackedVector, Plan, RebuildRequest, Reserve,
    RestoreRequest, SampleUsersRequest, ScoreTerm, SearchParams, SearchRequest, Seed, Seeds, SetAliasRequest,
    SetShadowRequest, ShadowCandidate, ShadowServer, StreamUpsertRequest, TakedownRequest, Time, TimeRange,
    UpsertRequest, Vector, Video, VideoIdCondition, attribute_value, condition, number, search_params,
    search_request, shadow_candidate, time,
};

use super::METHODS;
use crate::harness::wire::{bool_is, cap, fresh, interests, seeds, wrapped};
use crate::harness::{DIM, MODEL, request, video_id};

pub const QUERY: [f32; DIM] = [0.5, -1.0, 0.25, 2.0, -0.125, 1.0, 0.75, -0.5];
const INDEX: &str = "videos";

/// The encoded seeds of a method.
pub fn of(method: &str) -> Vec<Vec<u8>> {
    let (index, video_ids) = (INDEX.to_owned(), vec![video_id(3), video_id(4)]);
    match method {
        "Retrieval/Search" | "Retrieval/StreamSearch" => encoded(searches()),
        "Retrieval/BatchSearch" => encoded([BatchSearchRequest { requests: searches() }]),
        "Retrieval/Explain" => encoded(searches().into_iter().map(|search| ExplainRequest {
            request: Some(search),
            video_id: video_id(5),
            ..ExplainRequest::default()
        })),
        "Catalog/Upsert" => encoded([upsert()]),
        "Catalog/StreamUpsert" => encoded([StreamUpsertRequest { upsert: Some(upsert()) }]),
        "Catalog/Delete" => encoded([DeleteRequest { index, video_ids, ..DeleteRequest::default() }]),
        "Catalog/Takedown" => encoded([TakedownRequest { index, video_ids, ..TakedownRequest::default() }]),
        "Catalog/Restore" => encoded([RestoreRequest { index, video_ids, ..RestoreRequest::default() }]),
        "Catalog/Get" => encoded([GetRequest {
            index,
            video_ids,
            return_attributes: vec!["title".to_owned(), "tags".to_owned()],
            return_vectors: true,
            embedding_model: MODEL.to_owned(),
            ..GetRequest::default()
        }]),
        "Admin/GetStatus" => encoded([GetStatusRequest { index }]),
        "Admin/Activate" => encoded([ActivateRequest { index, generation: 1, force: true }]),
        "Admin/Rebuild" => encoded([RebuildRequest { index }]),
        "Admin/CancelRebuild" => encoded([CancelRebuildRequest { index }]),
        "Admin/SetAlias" => encoded([SetAliasRequest { alias: "current".to_owned(), indexes: vec![index] }]),
        "Admin/SetShadow" => {
            let server = ShadowServer { address: "127.0.0.1:1".to_owned(), index };
            encoded([
                shadow(shadow_candidate::Candidate::Generation(1)),
                shadow(shadow_candidate::Candidate::Server(server)),
            ])
        }
        "Admin/GetHistory" => encoded([GetHistoryRequest { index }]),
        "Admin/ListGenerations" => encoded([ListGenerationsRequest { index }]),
        "Admin/CompareGenerations" => {
            encoded([CompareGenerationsRequest { index, generation: 2, candidate: 1, k: 5, searches: 2 }])
        }
        "Admin/SampleUsers" => encoded([SampleUsersRequest { index, count: 3 }]),
        "Admin/ListChanges" => encoded([ListChangesRequest { index, limit: 5, video_id: Some(1) }]),
        "Catalog/ListIndexes" => encoded([ListIndexesRequest {}]),
        "Catalog/ListValues" => encoded([ListValuesRequest {
            index,
            attribute: "tags".to_owned(),
            prefix: "tag-1".to_owned(),
            limit: 5,
        }]),
        "Catalog/GetMap" => encoded([GetMapRequest { index, points: 10, color_by: "title".to_owned() }]),
        "Admin/ListAliases" => encoded([ListAliasesRequest {}]),
        _ => panic!("{method} has no seeds; expected one of {METHODS:?}"),
    }
}

fn shadow(candidate: shadow_candidate::Candidate) -> SetShadowRequest {
    let candidate = Some(ShadowCandidate { candidate: Some(candidate) });
    SetShadowRequest { index: INDEX.to_owned(), candidate, share: 0.5 }
}

/// Encoded requests with ids as text, which are valid only for an index of such ids.
pub fn with_texts(method: &str) -> Vec<Vec<u8>> {
    let text_ids = vec!["dQw4w9WgXcQ".to_owned(), "a".to_owned()];
    let text_id = text_ids[0].clone();
    match method {
        "Retrieval/Search" => {
            let exclude = Some(Exclude { text_ids, ..Exclude::default() });
            let seeds = vec![Seed { text_id, ..Seed::default() }];
            let query = Some(search_request::Query::Seeds(Seeds { seeds }));
            encoded([
                SearchRequest { exclude, ..request(&QUERY, 10) },
                SearchRequest { query, ..request(&QUERY, 5) },
            ])
        }
        "Retrieval/Explain" => {
            let request = Some(request(&QUERY, 10));
            encoded([ExplainRequest { request, text_id, ..ExplainRequest::default() }])
        }
        "Catalog/Upsert" => {
            let mut upsert = upsert();
            upsert.videos.truncate(1);
            (upsert.videos[0].video_id, upsert.videos[0].text_id) = (0, text_id);
            encoded([upsert])
        }
        "Catalog/Delete" => encoded([DeleteRequest { text_ids, ..DeleteRequest::default() }]),
        "Catalog/Takedown" => encoded([TakedownRequest { text_ids, ..TakedownRequest::default() }]),
        "Catalog/Restore" => encoded([RestoreRequest { text_ids, ..RestoreRequest::default() }]),
        // No ids, and as invalid: an index is no candidate of itself.
        "Admin/SetShadow" => encoded([shadow(shadow_candidate::Candidate::Index(INDEX.to_owned()))]),
        "Catalog/Get" => encoded([GetRequest { text_ids, ..GetRequest::default() }]),
        _ => Vec::new(),
    }
}

fn encoded(messages: impl IntoIterator<Item = impl prost::Message>) -> Vec<Vec<u8>> {
    messages.into_iter().map(|message| message.encode_to_vec()).collect()
}

/// The token of the page at `offset` of any generation of an index that is not divided.
fn page_token(offset: u32) -> String {
    let mut bytes = vec![1];
    bytes.extend(offset.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One search for each kind of query, effort and bound.
fn searches() -> Vec<SearchRequest> {
    let params = |effort, plan: Plan| {
        Some(SearchParams { effort: Some(effort), plan: plan.into(), effort_k: 30, mark_matches: true })
    };
    let packed = PackedVector {
        data: QUERY.iter().flat_map(|value| value.to_le_bytes()).collect(),
        dtype: Dtype::F32.into(),
    };
    let packed = Vector { values: Vec::new(), packed: Some(packed) };
    vec![
        request(&QUERY, 10),
        SearchRequest {
            index: INDEX.to_owned(),
            filter: Some(every_condition()),
            exclude: Some(exclude()),
            caps: vec![cap("title", 2), cap("safe", 3)],
            fresh: fresh("published_at", 2),
            score_threshold: Some(-100.0),
            score_terms: score_terms(),
            reserve: reserves(),
            diversity: Some(Diversity { max_similarity: Some(0.999), lambda: Some(0.7) }),
            offset: 2,
            return_attributes: vec!["title".to_owned(), "views".to_owned()],
            return_vectors: true,
            return_stats: true,
            embedding_model: MODEL.to_owned(),
            min_sequence: 1,
            min_coverage: Some(0.5),
            params: params(search_params::Effort::EfSearch(50), Plan::FilteredGraph),
            ..request(&QUERY, 10)
        },
        SearchRequest {
            query: Some(search_request::Query::Vector(packed)),
            params: params(search_params::Effort::Exact(true), Plan::ExactScan),
            filter_text: "safe = true and delta >= -99".to_owned(),
            return_attributes: vec!["*".to_owned()],
            ..request(&QUERY, 10)
        },
        SearchRequest {
            query: interests(&[(&QUERY, 0.5, 0.2), (&QUERY.map(|value| -value), 1.0, 0.3)]),
            params: params(search_params::Effort::TargetRecall(0.9), Plan::Unspecified),
            ..request(&QUERY, 20)
        },
        SearchRequest { page_token: page_token(3), ..request(&QUERY, 3) },
        SearchRequest {
            query: seeds(&[(video_id(6), Some(0.5)), (video_id(7), None)]),
            caps: vec![cap("safe", 4)],
            return_vectors: true,
            ..request(&QUERY, 5)
        },
    ]
}

/// One term of each form.
fn score_terms() -> Vec<ScoreTerm> {
    let texts = [
        "0.001*linear(views)",
        "0.1*log1p(views)",
        "0.2*clamp(delta, -1, 3)",
        "0.3*decay(published_at, 7d)",
        "0.4*window(published_at, 30d)",
        "0.5*match(title, a, b)",
    ];
    texts.iter().map(|text| text.parse::<shortlist::ScoreTerm>().unwrap().into()).collect()
}

/// Reserves of each kind.
fn reserves() -> Vec<Reserve> {
    let texts = ["1:views > 3", "10%:safe = true", "2/0.5/42:delta < 5"];
    let mut reserves: Vec<Reserve> =
        texts.iter().map(|text| text.parse::<shortlist::Reserve>().unwrap().into()).collect();
    reserves[1].filter = None;
    reserves[1].filter_text = "safe = true".to_owned();
    reserves
}

fn every_condition() -> Filter {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let bound = |number| Some(Number { number: Some(number) });
    let time = |time| Some(Time { time: Some(time) });
    let at = |seconds, nanos| time(time::Time::At(Timestamp { seconds, nanos }));
    let ago = |seconds, nanos| time(time::Time::Ago(Duration { seconds, nanos }));
    let conditions = vec![
        condition::Condition::Keyword(KeywordCondition {
            attribute: "title".to_owned(),
            any_of: words(&["title 3", "title 5"]),
        }),
        condition::Condition::List(ListCondition {
            attribute: "tags".to_owned(),
            any_of: words(&["tag-1", "tag-9"]),
            all_of: words(&["all"]),
        }),
        condition::Condition::Number(NumberRange {
            attribute: "delta".to_owned(),
            gt: bound(number::Number::Int64(-30)),
            lte: bound(number::Number::Int64(-1)),
            ..NumberRange::default()
        }),
        condition::Condition::Number(NumberRange {
            attribute: "rating".to_owned(),
            gte: bound(number::Number::Double(0.5)),
            lt: bound(number::Number::Uint64(9)),
            ..NumberRange::default()
        }),
        condition::Condition::Time(TimeRange {
            attribute: "published_at".to_owned(),
            gt: at(1, 500),
            lte: ago(60, 500),
            ..TimeRange::default()
        }),
        condition::Condition::Time(TimeRange {
            attribute: "published_at".to_owned(),
            gte: at(2, 0),
            lt: ago(60, 0),
            ..TimeRange::default()
        }),
        bool_is("safe", true),
        condition::Condition::IsNull(NullCondition { attribute: "title".to_owned() }),
        condition::Condition::VideoId(VideoIdCondition { any_of: vec![video_id(1), video_id(2)] }),
    ];
    let nested = Filter { must_not: wrapped(conditions.clone()), ..Filter::default() };
    let should = conditions.into_iter().chain([condition::Condition::Filter(nested)]).collect();
    Filter {
        must: vec![Condition { condition: Some(bool_is("safe", true)) }],
        should: wrapped(should),
        must_not: wrapped(vec![condition::Condition::VideoId(VideoIdCondition {
            any_of: vec![video_id(8)],
        })]),
        min_should: Some(2),
    }
}

fn exclude() -> Exclude {
    let mut roaring = Vec::new();
    (1..2_000u64).chain([video_id(9)]).collect::<RoaringTreemap>().serialize_into(&mut roaring).unwrap();
    let bloom = Bloom { bits: vec![0x11; 64], hashes: 4, seed: 7 };
    Exclude { video_ids: vec![video_id(10), 12], roaring, bloom: Some(bloom), text_ids: Vec::new() }
}

fn upsert() -> UpsertRequest {
    use attribute_value::Value;
    let values = [
        ("title", Value::Keyword("new".to_owned())),
        ("tags", Value::KeywordList(KeywordList { values: vec!["all".to_owned(), "new".to_owned()] })),
        ("delta", Value::Int64(-5)),
        ("views", Value::Uint64(5)),
        ("rating", Value::Double(0.5)),
        ("safe", Value::Bool(true)),
        ("published_at", Value::Timestamp(Timestamp { seconds: 1_700_000_000, nanos: 1_000 })),
    ];
    let attributes: BTreeMap<String, AttributeValue> = values
        .into_iter()
        .map(|(name, value)| (name.to_owned(), AttributeValue { value: Some(value) }))
        .collect();
    let video = |row| Video {
        video_id: video_id(row),
        vector: Some(Vector { values: QUERY.to_vec(), packed: None }),
        attributes: attributes.clone(),
        expires_at: Some(Timestamp { seconds: 4_000_000_000, nanos: 1_000 }),
        embedding_model: MODEL.to_owned(),
        text_id: String::new(),
        vectors: Default::default(),
    };
    let several = Video {
        vector: None,
        embedding_model: String::new(),
        vectors: [(MODEL.to_owned(), Vector { values: QUERY.to_vec(), packed: None })].into(),
        ..video(7)
    };
    UpsertRequest { index: INDEX.to_owned(), videos: vec![video(3), several, video(11)], partial: true }
}
