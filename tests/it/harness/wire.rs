//! Builders of proto requests, and accessors of answers and errors.

use prost_types::Duration;
use shortlist::service::proto::{
    BoolCondition, Cap, Condition, Exclude, Filter, Fresh, Interest, Interests, KeywordCondition,
    ListCondition, Number, NumberRange, Plan, SearchParams, SearchResponse, Seed, Seeds, Vector, condition,
    number, search_params, search_request,
};
use tonic::Status;
use tonic_health::pb::HealthCheckResponse;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_types::StatusExt;

pub fn exact() -> Option<SearchParams> {
    Some(SearchParams { effort: Some(search_params::Effort::Exact(true)), ..SearchParams::default() })
}

pub fn ef_search(ef_search: u32) -> Option<SearchParams> {
    Some(SearchParams { effort: Some(search_params::Effort::EfSearch(ef_search)), ..SearchParams::default() })
}

/// A request with the default effort of the server.
pub fn by_plan(plan: Plan) -> Option<SearchParams> {
    Some(SearchParams { plan: plan.into(), ..SearchParams::default() })
}

/// Seeds and their weights.
pub fn seeds(seeds: &[(u64, Option<f32>)]) -> Option<search_request::Query> {
    let seeds = seeds
        .iter()
        .map(|(video_id, weight)| Seed { video_id: *video_id, weight: *weight, ..Seed::default() })
        .collect();
    Some(search_request::Query::Seeds(Seeds { seeds }))
}

/// Interests with their weights and shares.
pub fn interests(interests: &[(&[f32], f32, f32)]) -> Option<search_request::Query> {
    let interest = |(values, weight, min_share): &(&[f32], f32, f32)| Interest {
        vector: Some(Vector { values: values.to_vec(), packed: None }),
        weight: Some(*weight),
        min_share: *min_share,
    };
    let interests = interests.iter().map(interest).collect();
    Some(search_request::Query::Interests(Interests { interests }))
}

/// A filter that requires all of these.
pub fn must(conditions: Vec<condition::Condition>) -> Filter {
    Filter { must: wrapped(conditions), ..Filter::default() }
}

/// Wraps conditions for a filter.
pub fn wrapped(conditions: Vec<condition::Condition>) -> Vec<Condition> {
    conditions.into_iter().map(|condition| Condition { condition: Some(condition) }).collect()
}

pub fn keyword(attribute: &str, any_of: &[&str]) -> condition::Condition {
    let any_of = any_of.iter().map(|word| (*word).to_owned()).collect();
    condition::Condition::Keyword(KeywordCondition { attribute: attribute.to_owned(), any_of })
}

pub fn list(attribute: &str, any_of: &[&str]) -> condition::Condition {
    let any_of = any_of.iter().map(|word| (*word).to_owned()).collect();
    condition::Condition::List(ListCondition {
        attribute: attribute.to_owned(),
        any_of,
        ..ListCondition::default()
    })
}

/// A number of at least this.
pub fn at_least(attribute: &str, least: i64) -> condition::Condition {
    let gte = Some(Number { number: Some(number::Number::Int64(least)) });
    condition::Condition::Number(NumberRange {
        attribute: attribute.to_owned(),
        gte,
        ..NumberRange::default()
    })
}

pub fn bool_is(attribute: &str, value: bool) -> condition::Condition {
    condition::Condition::Bool(BoolCondition { attribute: attribute.to_owned(), value })
}

pub fn excluding(video_ids: impl IntoIterator<Item = u64>) -> Option<Exclude> {
    Some(Exclude { video_ids: video_ids.into_iter().collect(), ..Exclude::default() })
}

pub fn excluding_roaring(roaring: Vec<u8>) -> Option<Exclude> {
    Some(Exclude { roaring, ..Exclude::default() })
}

pub fn cap(attribute: &str, max_per_value: u32) -> Cap {
    Cap { attribute: attribute.to_owned(), max_per_value }
}

/// Places kept for videos published within the last hour.
pub fn fresh(attribute: &str, at_least: u32) -> Option<Fresh> {
    let within = Some(Duration { seconds: 3600, nanos: 0 });
    Some(Fresh { attribute: attribute.to_owned(), within, at_least })
}

/// The video ids of an answer, in order.
pub fn ids(response: &SearchResponse) -> Vec<u64> {
    response.candidates.iter().map(|candidate| candidate.video_id).collect()
}

/// The fields of the BadRequest of a status.
pub fn fields(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    violations.into_iter().map(|violation| violation.field).collect()
}

/// The inner product in f32, with eight partial sums.
pub fn product(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let mut sums = [0f32; 8];
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    sums.iter().sum()
}

/// Waits until a watch of the health reports SERVING. On a busy machine the port opens before the indexes are warm.
pub async fn until_serving(watch: &mut tonic::Streaming<HealthCheckResponse>) {
    let serving =
        async { while watch.message().await.unwrap().unwrap().status() != ServingStatus::Serving {} };
    tokio::time::timeout(std::time::Duration::from_secs(30), serving)
        .await
        .expect("the index serves within 30 s");
}
