//! Answers with rules over gRPC, checked against the exact order of all videos.

use std::collections::HashSet;

use shortlist::service::proto::attribute_value::Value;
use shortlist::service::proto::completeness::Reason;
use shortlist::service::proto::{Bloom, Exclude, Plan, SearchParams, SearchRequest, SearchResponse};

use crate::harness::wire::{at_least, bool_is, by_plan, cap, ef_search, exact, excluding, ids, must, seeds};
use crate::harness::{DIM, TestIndex, TestServer, request, row_of, video_id};

const QUERY: [f32; DIM] = [0.5, -1.0, 0.25, 2.0, -0.125, 1.0, 0.75, -0.5];

/// The videos in exact order.
fn order(index: &TestIndex) -> Vec<u64> {
    index.exact(&QUERY, index.rows.len()).into_iter().map(|(id, _)| id).collect()
}

fn is_safe(video: u64) -> bool {
    row_of(video).is_multiple_of(2)
}

/// Keeps at most `max` safe and `max` unsafe videos.
fn capped(order: impl IntoIterator<Item = u64>, max: usize) -> Vec<u64> {
    let mut taken = [0, 0];
    let has_room = |video: &u64| {
        let taken = &mut taken[usize::from(is_safe(*video))];
        *taken += 1;
        *taken <= max
    };
    order.into_iter().filter(has_room).collect()
}

fn completeness(response: &SearchResponse) -> (u32, u32, Reason) {
    let completeness = response.completeness.unwrap();
    (completeness.requested, completeness.returned, completeness.reason())
}

#[tokio::test]
async fn every_reason_for_a_short_answer_is_reported() {
    let index = TestIndex::new(60);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let order = order(&index);
    let threshold = index.exact(&QUERY, 4)[3].1;
    let above = index.exact(&QUERY, 60).into_iter().filter(|(_, score)| *score >= threshold).count();
    let cases = [
        (
            SearchRequest { filter: Some(must(vec![at_least("delta", -4)])), ..request(&QUERY, 50) },
            order.iter().copied().filter(|video| row_of(*video) < 5).collect(),
            Reason::TooFewMatches,
        ),
        (
            SearchRequest { exclude: excluding(order[..53].iter().copied()), ..request(&QUERY, 50) },
            order[53..].to_vec(),
            Reason::Excluded,
        ),
        (
            SearchRequest { caps: vec![cap("safe", 3)], ..request(&QUERY, 50) },
            capped(order.iter().copied(), 3),
            Reason::CapsExhausted,
        ),
        (
            SearchRequest { score_threshold: Some(threshold), ..request(&QUERY, 50) },
            order[..above].to_vec(),
            Reason::ScoreThreshold,
        ),
        (
            SearchRequest { caps: vec![cap("delta", 1)], ..request(&QUERY, 70) },
            order.clone(),
            Reason::IndexExhausted,
        ),
        (
            SearchRequest { filter: Some(must(vec![bool_is("safe", true)])), ..request(&QUERY, 30) },
            order.iter().copied().filter(|video| is_safe(*video)).collect(),
            Reason::Complete,
        ),
    ];
    for (sent, expected, reason) in cases {
        for params in [None, exact(), by_plan(Plan::Graph), ef_search(1)] {
            let response =
                client.search(SearchRequest { params, ..sent.clone() }).await.unwrap().into_inner();
            assert_eq!(ids(&response), expected, "{reason:?} {params:?}");
            assert_eq!(completeness(&response), (sent.k, expected.len() as u32, reason), "{params:?}");
        }
    }
}

#[tokio::test]
async fn attributes_vectors_and_stats_come_with_filtered_candidates() {
    let index = TestIndex::new(300);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let sent = SearchRequest {
        filter: Some(must(vec![bool_is("safe", true), at_least("delta", -99)])),
        exclude: excluding([video_id(4), video_id(7), 12345]),
        return_attributes: vec!["delta".into(), "safe".into(), "title".into()],
        return_vectors: true,
        return_stats: true,
        ..request(&QUERY, 20)
    };
    let response = client.search(sent.clone()).await.unwrap().into_inner();
    let is_match = |video: &u64| is_safe(*video) && row_of(*video) < 100 && row_of(*video) != 4;
    let expected: Vec<u64> = order(&index).into_iter().filter(is_match).take(20).collect();
    assert_eq!(ids(&response), expected);
    for candidate in &response.candidates {
        let row = row_of(candidate.video_id);
        let value = |name: &str| candidate.attributes[name].value.clone().unwrap();
        assert_eq!(candidate.attributes.len(), 3);
        assert_eq!(value("delta"), Value::Int64(-(row as i64)));
        assert_eq!(value("safe"), Value::Bool(true));
        assert_eq!(value("title"), Value::Keyword(format!("title {row}")));
        assert_eq!(candidate.vector.as_ref().unwrap().values, index.rows[row]);
        assert_eq!(candidate.interest, None);
    }
    // Matches are counted before exclusions.
    let stats = response.stats.unwrap();
    assert_eq!((stats.plan(), stats.matches), (Plan::MatchScan, Some(50)));
    assert!(stats.distances >= 49 && stats.elapsed.is_some());
    let unfiltered = SearchRequest { filter: None, ..sent };
    let stats = client.search(unfiltered).await.unwrap().into_inner().stats.unwrap();
    assert_eq!(stats.matches, None);
}

#[tokio::test]
async fn pages_under_rules_are_one_long_answer_in_parts() {
    let index = TestIndex::new(1000);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let order = order(&index);
    let excluded: HashSet<u64> = order.iter().copied().step_by(3).take(100).collect();
    let passes = |video: &u64| row_of(*video) <= 800 && !excluded.contains(video);
    // The cap allows three pages of 20.
    let expected = capped(order.iter().copied().filter(passes), 30);
    assert_eq!(expected.len(), 60);
    let sent = SearchRequest {
        filter: Some(must(vec![at_least("delta", -800)])),
        exclude: excluding(excluded.iter().copied()),
        caps: vec![cap("safe", 30)],
        ..request(&QUERY, 20)
    };
    let ways: [Option<SearchParams>; 4] = [exact(), None, by_plan(Plan::FilteredGraph), ef_search(1)];
    for params in ways {
        let mut pages = Vec::new();
        for offset in [0, 20, 40] {
            let page = SearchRequest { params, offset, ..sent.clone() };
            let response = client.search(page).await.unwrap().into_inner();
            assert_eq!(completeness(&response), (20, 20, Reason::Complete), "{params:?} at {offset}");
            pages.extend(ids(&response));
        }
        assert_eq!(pages.iter().collect::<HashSet<_>>().len(), 60, "{params:?}: something comes twice");
        assert!(pages.iter().all(passes), "{params:?}");
        assert_eq!(pages.iter().filter(|video| is_safe(**video)).count(), 30, "{params:?}");
        let beyond = SearchRequest { params, offset: 60, ..sent.clone() };
        let beyond = client.search(beyond).await.unwrap().into_inner();
        assert_eq!(completeness(&beyond), (20, 0, Reason::CapsExhausted), "{params:?}");
        if params == exact() {
            let whole = SearchRequest { params, k: 60, ..sent.clone() };
            assert_eq!(ids(&client.search(whole).await.unwrap().into_inner()), pages);
            assert_eq!(pages, expected);
        }
    }
}

#[tokio::test]
async fn unknown_seeds_are_reported_and_known_ones_are_searched_under_rules() {
    let index = TestIndex::new(100);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let query = seeds(&[(12345, None), (video_id(6), None), (54321, Some(-1.0))]);
    let filter = Some(must(vec![bool_is("safe", true)]));
    let sent = SearchRequest { query, filter, ..request(&[], 60) };
    let response = client.search(sent).await.unwrap().into_inner();
    assert_eq!(response.unknown_video_ids, [12345, 54321]);
    let like = index.exact(&index.rows[6], 100).into_iter().map(|(id, _)| id);
    let expected: Vec<u64> = like.filter(|video| is_safe(*video) && *video != video_id(6)).collect();
    assert_eq!(ids(&response), expected);
    assert_eq!(completeness(&response), (60, 49, Reason::TooFewMatches));
}

/// An independent implementation of the Bloom filter that the proto describes.
struct Described(Bloom);

impl Described {
    fn new(bytes: usize, hashes: u32, seed: u64) -> Self {
        Self(Bloom { bits: vec![0; bytes], hashes, seed })
    }

    fn bits(&self, id: u64) -> Vec<usize> {
        let mix = |z: u64| {
            let z = u128::from(z ^ (z >> 30)) * 0xbf58_476d_1ce4_e5b9 % (1 << 64);
            let z = (z ^ (z >> 27)) * 0x94d0_49bb_1331_11eb % (1 << 64);
            (z ^ (z >> 31)) as u64
        };
        let a = mix(id ^ self.0.seed);
        let b = mix(a) | 1;
        let m = 8 * self.0.bits.len() as u128;
        let bit = |i: u128| ((u128::from(a) + i * u128::from(b)) % (1 << 64) % m) as usize;
        (0..u128::from(self.0.hashes)).map(bit).collect()
    }

    fn insert(&mut self, id: u64) {
        for bit in self.bits(id) {
            self.0.bits[bit / 8] |= 1 << (bit % 8);
        }
    }

    fn contains(&self, id: u64) -> bool {
        self.bits(id).into_iter().all(|bit| self.0.bits[bit / 8] & (1 << (bit % 8)) != 0)
    }
}

#[tokio::test]
async fn a_bloom_filter_filled_as_described_leaves_out_what_it_contains() {
    let mut example = Described::new(13, 4, 7);
    example.insert(1);
    example.insert(18_364_758_544_493_064_720);
    assert_eq!(example.0.bits, [0x02, 0x10, 0, 0x20, 0, 0, 0x04, 0x40, 0, 0x80, 0, 0x90, 0]);

    let index = TestIndex::new(1000);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let order = order(&index);
    // Sizes that are and are not powers of 2; the last is small and has many false positives.
    for (bytes, hashes, seed) in [(1024, 7, 0), (1000, 1, 42), (777, 32, u64::MAX), (250, 3, 9)] {
        let mut bloom = Described::new(bytes, hashes, seed);
        order[..400].iter().for_each(|video| bloom.insert(*video));
        let exclude = Some(Exclude { bloom: Some(bloom.0.clone()), ..Exclude::default() });
        let response =
            client.search(SearchRequest { exclude, ..request(&QUERY, 1000) }).await.unwrap().into_inner();
        let left: Vec<u64> = order.iter().copied().filter(|video| !bloom.contains(*video)).collect();
        assert!(order[..400].iter().all(|video| !left.contains(video)));
        assert!(bytes == 777 || left.len() > 200, "{} left", left.len());
        assert_eq!(ids(&response), left, "{bytes} bytes, {hashes} hashes");
        assert_eq!(completeness(&response), (1000, left.len() as u32, Reason::Excluded));
    }
}
