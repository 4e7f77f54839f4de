//! Merging, against one server with all videos: both are simulated from plain rows, so that thousands of cases take seconds.

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use jiff::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;
use tonic::Status;

use super::all::Boxed;
use super::completeness;
use super::gather::{Ask, Gather};
use super::places;
use super::ranked::Ranking;
use super::row::Keys;
use super::wanted::{Source, Wanted};
use crate::base::id::VideoId;
use crate::base::partition::Shard;
use crate::search::{ReservedRows, Row, RowPages, RowRules};
use crate::service::parts::search_request;
use crate::service::proto::completeness::Reason;
use crate::service::proto::reserve::{Places, Sample};
use crate::service::proto::search_request::Query;
use crate::service::proto::{
    AttributeValue, Candidate, Cap, Completeness, Condition, Coverage, Exclude, Filter, Fresh, Interest,
    Interests, KeywordCondition, KeywordList, Reserve, SearchParams, SearchRequest, SearchResponse, Vector,
    attribute_value, condition, number, search_params, time,
};

const SHARDS: u32 = 4;
const HOUR: i64 = 3600;

#[derive(Clone, Debug)]
pub(super) struct Video {
    pub(super) id: u64,
    pub(super) score: f32,
    pub(super) interest: u32,
    pub(super) creator: Option<u8>,
    pub(super) topics: Vec<u8>,
    pub(super) views: i64,
    /// Hours ago.
    pub(super) age: i64,
}

impl Video {
    fn attributes(&self, now: i64) -> BTreeMap<String, AttributeValue> {
        use attribute_value::Value;
        let word = |number: &u8| format!("w{number}");
        let topics = KeywordList { values: self.topics.iter().map(word).collect() };
        let published = prost_types::Timestamp { seconds: now - self.age * HOUR - HOUR / 2, nanos: 0 };
        let of = |name: &str, value| (name.to_owned(), AttributeValue { value: Some(value) });
        let creator = self.creator.iter().map(|creator| of("creator", Value::Keyword(word(creator))));
        let rest = [
            of("topics", Value::KeywordList(topics)),
            of("views", Value::Int64(self.views)),
            of("published_at", Value::Timestamp(published)),
        ];
        creator.chain(rest).collect()
    }
}

/// A server with some of the videos.
pub(super) struct Server {
    pub(super) videos: Vec<Video>,
    pub(super) now: i64,
}

impl Server {
    fn matches(&self, video: &Video, request: &SearchRequest) -> bool {
        let attributes = video.attributes(self.now);
        let holds = |of: &crate::service::proto::Condition| match of.condition.as_ref().unwrap() {
            condition::Condition::Keyword(any) => {
                match attributes.get(&any.attribute).and_then(|of| of.value.as_ref()) {
                    Some(attribute_value::Value::Keyword(word)) => any.any_of.contains(word),
                    _ => false,
                }
            }
            condition::Condition::List(any) => {
                match attributes.get(&any.attribute).and_then(|of| of.value.as_ref()) {
                    Some(attribute_value::Value::KeywordList(list)) => {
                        list.values.iter().any(|word| any.any_of.contains(word))
                    }
                    _ => false,
                }
            }
            condition::Condition::Number(range) => {
                let Some(number::Number::Int64(value)) = range.gte.unwrap().number else { panic!() };
                video.views == value
            }
            condition::Condition::Time(range) => {
                let Some(time::Time::At(at)) = range.gte.unwrap().time else { panic!() };
                let Some(attribute_value::Value::Timestamp(found)) = &attributes["published_at"].value else {
                    panic!()
                };
                found.seconds >= at.seconds
            }
            other => panic!("{other:?}"),
        };
        let Some(filter) = &request.filter else { return true };
        filter.must.iter().all(holds) && !filter.must_not.iter().any(holds)
    }

    pub(super) fn search(&self, request: &SearchRequest) -> SearchResponse {
        let checked = search_request(request.clone()).unwrap();
        let excluded: HashSet<u64> = request.exclude.iter().flat_map(|of| &of.video_ids).copied().collect();
        let matching: Vec<&Video> = self.videos.iter().filter(|video| self.matches(video, request)).collect();
        let wanted = Wanted::of(request.clone(), &checked, 1, Vec::new(), usize::MAX).unwrap();
        let mut keys = Keys::default();
        let mut row = |video: &&Video| {
            let matching = checked.rules.reserves.iter().enumerate().filter(|(at, _)| {
                let filter = request.reserve[*at].filter.clone();
                self.matches(video, &SearchRequest { filter, ..SearchRequest::default() })
            });
            let candidate = Candidate {
                reserved: matching.map(|(at, _)| at as u32).collect(),
                video_id: video.id,
                score: video.score,
                interest: wanted.has_interests.then_some(video.interest),
                attributes: video.attributes(self.now),
                ..Candidate::default()
            };
            keys.row(&wanted, candidate)
        };
        let is_left = |video: &&&Video| !excluded.contains(&video.id);
        let mut found: Vec<_> =
            matching.iter().copied().filter(|video| is_left(&video)).map(|video| row(&video)).collect();
        found.sort_by(|one, other| one.row.best_first(&other.row));
        let below =
            found.iter().filter(|found| request.score_threshold.is_some_and(|least| found.row.score < least));
        let below = below.count();
        found.truncate(found.len() - below);
        let rows: Vec<Row> = found.iter().map(|found| found.row.clone()).collect();
        let (k, offset) = (checked.k, checked.offset);
        let (marks_matches, first) = (checked.marks_matches, usize::from(request.fresh.is_some()));
        let (mut order, mut is_capped) = (Vec::new(), false);
        let draws = wanted.sampled.iter().map(|(reserve, sample)| {
            let group = wanted.group(Source::Drawn(*reserve)).unwrap();
            let mut order: Vec<usize> =
                (0..rows.len()).filter(|at| rows[*at].reserves >> group & 1 != 0).collect();
            let key = |at: usize| sample.key(rows[at].score, rows[at].video);
            order.sort_by(|one, other| key(*other).total_cmp(&key(*one)));
            (group, order)
        });
        let mut pages = RowPages::new(&rows, &wanted.rules, draws.collect());
        while order.len() < offset + k {
            let page = pages.next_page(k);
            is_capped = page.is_capped;
            order.extend(&page.taken);
            for at in page.taken.iter().filter(|_| !marks_matches) {
                found[*at].candidate.reserved.clear();
            }
            for (at, groups) in page.held.iter().filter(|_| !marks_matches) {
                let all = (0..request.reserve.len()).filter(|reserve| groups >> (reserve + first) & 1 != 0);
                let reserved = &mut found[*at].candidate.reserved;
                reserved.extend(all.map(|reserve| reserve as u32));
                reserved.sort_unstable();
            }
            if page.taken.len() < k {
                break;
            }
        }
        let taken = order.len();
        let mut page: Vec<usize> = order.into_iter().skip(offset).take(k).collect();
        page.sort_unstable();
        let reason = if page.len() == k {
            Reason::Complete
        } else if below > 0 {
            Reason::ScoreThreshold
        } else if is_capped {
            Reason::CapsExhausted
        } else if taken < matching.len() {
            Reason::Excluded
        } else if request.filter.is_some() {
            Reason::TooFewMatches
        } else {
            Reason::IndexExhausted
        };
        let videos = self.videos.len() as u64;
        SearchResponse {
            completeness: Some(Completeness {
                requested: k as u32,
                returned: page.len() as u32,
                reason: reason.into(),
            }),
            candidates: page.into_iter().map(|at| found[at].candidate.clone()).collect(),
            coverage: Some(Coverage { videos_total: videos, videos_searched: videos, ..Coverage::default() }),
            ..SearchResponse::default()
        }
    }
}

struct Servers {
    shards: Vec<Shard>,
    servers: Vec<Server>,
}

impl Ask for Servers {
    fn shards(&self) -> &[Shard] {
        &self.shards
    }

    fn ask(&self, shard: usize, request: SearchRequest) -> Boxed<'_, Result<SearchResponse, Status>> {
        Box::pin(std::future::ready(Ok(self.servers[shard].search(&request))))
    }

    fn embeddings(&self, _: usize, _: Vec<u64>) -> Boxed<'_, Result<Vec<Option<Vec<f32>>>, Status>> {
        unreachable!("no request compares embeddings")
    }
}

/// The output of a future that never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

fn videos() -> impl Strategy<Value = Vec<Video>> {
    let creator = prop_oneof![1 => Just(None), 4 => (0u8..12).prop_map(Some)];
    // Few scores, so that many are equal.
    let video = (any::<u64>(), 0i32..60, 0u32..3, creator, vec(0u8..5, 0..3), 0i64..6, 0i64..40);
    let video = video.prop_map(|(id, score, interest, creator, mut topics, views, age)| {
        topics.dedup();
        Video { id, score: score as f32 / 4.0, interest, creator, topics, views, age }
    });
    vec(video, 0..300)
}

fn requests() -> impl Strategy<Value = SearchRequest> {
    let caps = vec((prop_oneof![Just("creator"), Just("topics"), Just("views")], 1u32..6), 0..3);
    let fresh = proptest::option::of((1i64..40, 0.0f64..1.0));
    let interests = proptest::option::of(Just([0.5f32, 0.3, 0.0]));
    let threshold = proptest::option::weighted(0.2, 0.0f32..15.0);
    let sample = proptest::option::of((prop_oneof![Just(0.1f32), Just(10.0)], any::<u64>()));
    let reserves = vec((vec(0u8..12, 1..6), 0.0f64..0.5, sample), 0..3);
    let shares = prop_oneof![Just(true), Just(false)];
    (1usize..40, 0usize..3, caps, (fresh, reserves), interests, threshold, shares, 0usize..40).prop_map(
        |(k, page, caps, (fresh, reserves), interests, score_threshold, has_shares, shift)| {
            let query = match interests {
                Some(shares) => Query::Interests(Interests {
                    interests: shares
                        .iter()
                        .map(|share| Interest {
                            vector: Some(Vector { values: vec![1.0], packed: None }),
                            weight: None,
                            min_share: if has_shares { *share } else { 0.0 },
                        })
                        .collect(),
                }),
                None => Query::Vector(Vector { values: vec![1.0], packed: None }),
            };
            let kept = match (&query, has_shares) {
                (Query::Interests(_), true) => (0.8 * k as f64) as usize,
                _ => 0,
            };
            let mut left = (k - kept) as u32;
            let mut at_least = |share: f64| {
                let count = (f64::from(left) * share) as u32;
                left -= count;
                count
            };
            let offset = if shift % 3 == 0 { page * k + shift % k } else { page * k };
            SearchRequest {
                query: Some(query),
                k: k as u32,
                offset: offset as u32,
                caps: caps
                    .into_iter()
                    .map(|(attribute, max_per_value)| Cap { attribute: attribute.to_owned(), max_per_value })
                    .collect(),
                fresh: fresh.map(|(hours, share)| Fresh {
                    attribute: String::new(),
                    within: Some(prost_types::Duration { seconds: hours * HOUR, nanos: 0 }),
                    at_least: at_least(share),
                }),
                reserve: reserves
                    .into_iter()
                    .map(|(creators, share, sample)| {
                        let any_of = creators.iter().map(|creator| format!("w{creator}")).collect();
                        let any = KeywordCondition { attribute: "creator".to_owned(), any_of };
                        let condition = Condition { condition: Some(condition::Condition::Keyword(any)) };
                        let filter = Filter { must: vec![condition], ..Filter::default() };
                        Reserve {
                            filter: Some(filter),
                            places: Some(Places::AtLeast(at_least(share))),
                            sample: sample.map(|(temperature, seed)| Sample { temperature, seed }),
                            ..Reserve::default()
                        }
                    })
                    .collect(),
                score_threshold,
                params: Some(SearchParams {
                    effort: Some(search_params::Effort::Exact(true)),
                    ..SearchParams::default()
                }),
                ..SearchRequest::default()
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn merged_answers_are_those_of_one_server(
        mut videos in videos(),
        request in requests(),
        excluded in vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let mut seen = HashSet::new();
        videos.retain(|video| seen.insert(video.id));
        let mut request = request;
        if !videos.is_empty() && excluded.len() > 10 {
            let video_ids = excluded.iter().map(|at| videos[at.index(videos.len())].id).collect();
            request.exclude = Some(Exclude { video_ids, ..Exclude::default() });
        }
        let seconds = Timestamp::now().as_second();
        let of = |videos: Vec<Video>| Server { videos, now: seconds };
        let shards: Vec<Shard> = Shard::all(SHARDS).unwrap().collect();
        let own = |shard: &Shard| {
            of(videos.iter().filter(|video| shard.contains(VideoId(video.id))).cloned().collect())
        };
        let servers = Servers { servers: shards.iter().map(own).collect(), shards };
        let expected = of(videos.clone()).search(&request);
        let checked = search_request(request.clone()).unwrap();
        let wanted = Wanted::of(request, &checked, servers.servers.len(), Vec::new(), usize::MAX).unwrap();
        let mut gather = Gather::new(&servers, &wanted);
        let page = match wanted.rules.has_pages() {
            true => now(places::page(&mut gather, 10_000)).unwrap(),
            false => now(Ranking::new(&mut gather).page(10_000)).unwrap(),
        };
        let reason = now(completeness::reason(&mut gather, &page, 10_000)).unwrap();
        let found: Vec<u64> = page.found.iter().map(|found| found.row.video.0).collect();
        let ids: Vec<u64> = expected.candidates.iter().map(|candidate| candidate.video_id).collect();
        prop_assert_eq!(found, ids, "{:?}", wanted);
        for (found, expected) in page.found.iter().zip(&expected.candidates) {
            prop_assert_eq!(&found.candidate.reserved, &expected.reserved, "{:?}", wanted);
        }
        let of_one = expected.completeness.unwrap().reason();
        // Videos below the threshold that also exceed a cap are not looked at.
        let is_hidden = (reason, of_one) == (Reason::CapsExhausted, Reason::ScoreThreshold);
        prop_assert!(reason == of_one || is_hidden, "{:?}, expected {:?}: {:?}", reason, of_one, wanted);
    }
}

#[test]
fn rules_without_kept_places_keep_none() {
    assert!(!RowRules::default().keeps_places());
    let reserve = ReservedRows { at_least: 1, is_drawn: true };
    assert!(RowRules { of_reserves: vec![reserve], ..RowRules::default() }.keeps_places());
}
