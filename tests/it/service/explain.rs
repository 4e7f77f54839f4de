//! `Retrieval.Explain`: why a video is or is not in an answer, checked against the exact order of all videos.

use shortlist::service::proto::explain_response::{Loss, Rule};
use shortlist::service::proto::retrieval_client::RetrievalClient;
use shortlist::service::proto::{
    Condition, ExplainRequest, ExplainResponse, Filter, Plan, SearchParams, SearchRequest, condition,
};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::harness::wire::{
    at_least, bool_is, by_plan, cap, ef_search, exact, excluding, fields, ids, interests, keyword, list,
    must, seeds, wrapped,
};
use crate::harness::{DIM, TestIndex, TestServer, request, row_of, video_id};

const QUERY: [f32; DIM] = [0.5, -1.0, 0.25, 2.0, -0.125, 1.0, 0.75, -0.5];
const OTHER: [f32; DIM] = [-1.0, 0.5, 1.0, -0.25, 2.0, -0.75, 0.125, 1.0];

type Client = RetrievalClient<Channel>;

async fn ask(client: &mut Client, sent: &SearchRequest, video_id: u64) -> Result<ExplainResponse, Status> {
    let request = ExplainRequest { request: Some(sent.clone()), video_id, ..ExplainRequest::default() };
    client.explain(request).await.map(tonic::Response::into_inner)
}

/// Explains a video that is in the index.
async fn explain(client: &mut Client, sent: &SearchRequest, video_id: u64) -> ExplainResponse {
    ask(client, sent, video_id).await.unwrap()
}

/// Whether a rule removes the video from the exact answer, from the answer of the request, and from the order.
fn is_removed(explanation: &ExplainResponse) -> bool {
    assert_eq!(explanation.lost(), Loss::Unspecified);
    explanation.exact_rank.is_none()
        && explanation.rank.is_none()
        && !explanation.in_exact_answer
        && !explanation.found
        && !explanation.reason.is_empty()
}

#[tokio::test]
async fn score_and_place_are_the_exact_ones_inside_the_answer_and_below_it() {
    let index = TestIndex::new(300);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let sent = request(&QUERY, 10);
    for (at, (video, score)) in index.exact(&QUERY, 300).into_iter().enumerate().step_by(3) {
        let explanation = explain(&mut client, &sent, video).await;
        assert_eq!((explanation.exact_score, explanation.exact_rank), (score, Some(at as u64 + 1)));
        assert_eq!((explanation.in_exact_answer, explanation.found), (at < 10, at < 10), "at {at}");
        assert_eq!(explanation.rank, (at < 10).then_some(at as u32 + 1));
        assert_eq!((explanation.removed_by(), explanation.lost()), (Rule::Unspecified, Loss::Unspecified));
        assert_eq!((explanation.removed_at.as_str(), explanation.reason.as_str()), ("", ""));
        assert_eq!((explanation.interest, explanation.generation), (None, 1));
        assert_eq!(explanation.stats.unwrap().plan(), Plan::CodeScan);
    }
    // The second page continues after the first.
    let page = SearchRequest { offset: 10, ..sent };
    for (at, (video, _)) in index.exact(&QUERY, 30).into_iter().enumerate() {
        let explanation = explain(&mut client, &page, video).await;
        assert_eq!(explanation.exact_rank, Some(at as u64 + 1));
        assert_eq!(explanation.in_exact_answer, (10..20).contains(&at), "at {at}");
        assert_eq!(explanation.rank, (10..20).contains(&at).then(|| at as u32 - 9));
    }
}

#[tokio::test]
async fn a_video_is_explained_by_the_interest_that_it_fits_best() {
    let index = TestIndex::new(200);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let query = interests(&[(&QUERY, 1.0, 0.0), (&OTHER, 0.5, 0.0)]);
    let sent = SearchRequest { query, ..request(&[], 10) };
    let (first, second) = (index.exact(&QUERY, 200), index.exact(&OTHER, 200));
    let mut attributed = [0, 0];
    for (video, score) in first {
        let other = 0.5 * second.iter().find(|(id, _)| *id == video).unwrap().1;
        let explanation = explain(&mut client, &sent, video).await;
        let interest = usize::from(other > score);
        assert_eq!(explanation.exact_score, score.max(other));
        assert_eq!(explanation.interest, Some(interest as u32));
        attributed[interest] += 1;
    }
    assert!(attributed.iter().all(|videos| *videos > 20), "{attributed:?}");
}

#[tokio::test]
async fn the_innermost_part_of_the_filter_is_named() {
    let index = TestIndex::new(100);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let safe = || bool_is("safe", true);
    let few = || at_least("delta", -10);
    let inner = |filter: Filter| condition::Condition::Filter(filter);
    let of =
        |must_not: Vec<Condition>, should: Vec<Condition>| Filter { must_not, should, ..Filter::default() };
    // Each rejects row 50, which is safe and has a delta of -50.
    let cases = [
        (must(vec![safe(), few()]), "filter.must[1].number"),
        (
            must(vec![safe(), inner(must(vec![safe(), safe(), few()]))]),
            "filter.must[1].filter.must[2].number",
        ),
        (must(vec![keyword("title", &["title 7", "title 8"])]), "filter.must[0].keyword"),
        (must(vec![list("tags", &["tag-7", "tag-8"])]), "filter.must[0].list"),
        (of(wrapped(vec![few(), safe()]), Vec::new()), "filter.must_not[1].bool"),
        (of(Vec::new(), wrapped(vec![few(), bool_is("safe", false)])), "filter.should"),
        (must(vec![inner(of(wrapped(vec![safe()]), Vec::new()))]), "filter.must[0].filter.must_not[0].bool"),
    ];
    let score = index.exact(&QUERY, 100).into_iter().find(|(id, _)| *id == video_id(50)).unwrap().1;
    for (filter, path) in cases {
        let sent = SearchRequest { filter: Some(filter), ..request(&QUERY, 10) };
        let explanation = explain(&mut client, &sent, video_id(50)).await;
        assert!(is_removed(&explanation), "{path}: {explanation:?}");
        assert_eq!((explanation.removed_by(), explanation.removed_at.as_str()), (Rule::Filter, path));
        assert_eq!(explanation.exact_score, score);
    }
}

#[tokio::test]
async fn a_part_of_the_filter_with_very_many_words_is_cut() {
    let index = TestIndex::new(20);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let words = vec!["é".repeat(10); 100_000];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let any = Filter { should: wrapped(vec![keyword("title", &words)]), ..Filter::default() };
    for (filter, path) in
        [(must(vec![keyword("title", &words)]), "filter.must[0].keyword"), (any, "filter.should")]
    {
        let sent = SearchRequest { filter: Some(filter), ..request(&QUERY, 10) };
        let explanation = explain(&mut client, &sent, video_id(3)).await;
        assert!(is_removed(&explanation), "{path}");
        assert_eq!(explanation.removed_at, path);
        let reason = &explanation.reason;
        assert!(reason.contains("title in (") && reason.ends_with('…'), "{reason}");
        assert!((1_000..1_100).contains(&reason.len()), "{}", reason.len());
    }
}

#[tokio::test]
async fn seeds_exclusions_and_the_threshold_are_named_and_leave_their_places_to_others() {
    let index = TestIndex::new(200);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let order = index.exact(&QUERY, 200);

    let sent = SearchRequest { exclude: excluding([order[0].0, order[2].0]), ..request(&QUERY, 10) };
    let excluded = explain(&mut client, &sent, order[2].0).await;
    assert!(is_removed(&excluded), "{excluded:?}");
    assert_eq!((excluded.removed_by(), excluded.removed_at.as_str()), (Rule::Exclude, "exclude"));
    assert_eq!(excluded.exact_score, order[2].1);
    let after = explain(&mut client, &sent, order[3].0).await;
    assert_eq!((after.exact_rank, after.rank), (Some(2), Some(2)));

    // A score equal to the threshold is not below it.
    let sent = SearchRequest { score_threshold: Some(order[5].1), ..request(&QUERY, 10) };
    let at_threshold = explain(&mut client, &sent, order[5].0).await;
    assert_eq!((at_threshold.found, at_threshold.removed_by()), (true, Rule::Unspecified));
    let (below, score) = *order.iter().find(|(_, score)| *score < order[5].1).unwrap();
    let below = explain(&mut client, &sent, below).await;
    assert!(is_removed(&below), "{below:?}");
    assert_eq!((below.removed_by(), below.removed_at.as_str()), (Rule::ScoreThreshold, "score_threshold"));
    assert_eq!(below.exact_score, score);

    let query = seeds(&[(video_id(3), None), (video_id(8), Some(2.0)), (12345, None)]);
    let sent = SearchRequest { query, ..request(&[], 10) };
    let sum: Vec<f32> = index.rows[3].iter().zip(&index.rows[8]).map(|(a, b)| a + 2.0 * b).collect();
    let mut order = index.exact(&sum, 200);
    let score = order.iter().find(|(id, _)| *id == video_id(8)).unwrap().1;
    let seed = explain(&mut client, &sent, video_id(8)).await;
    assert!(is_removed(&seed), "{seed:?}");
    assert_eq!((seed.removed_by(), seed.removed_at.as_str()), (Rule::Seed, "query.seeds"));
    assert_eq!(seed.exact_score, score);
    order.retain(|(id, _)| *id != video_id(3) && *id != video_id(8));
    let first = explain(&mut client, &sent, order[0].0).await;
    assert_eq!((first.exact_score, first.exact_rank, first.rank), (order[0].1, Some(1), Some(1)));
}

#[tokio::test]
async fn the_cap_that_is_full_is_named_and_what_it_keeps_out_has_no_place() {
    let index = TestIndex::new(200);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    // All deltas are distinct; every other video is safe.
    let caps = vec![cap("delta", 1), cap("safe", 3)];
    let sent = SearchRequest { caps, ..request(&QUERY, 5) };
    let (mut taken, mut kept_out) = ([0, 0], 0);
    for (video, score) in index.exact(&QUERY, 40) {
        let explanation = explain(&mut client, &sent, video).await;
        assert_eq!(explanation.exact_score, score);
        let before = taken[0] + taken[1];
        let of_value = &mut taken[row_of(video) % 2];
        if *of_value == 3 {
            assert!(is_removed(&explanation), "{explanation:?}");
            assert_eq!((explanation.removed_by(), explanation.removed_at.as_str()), (Rule::Cap, "caps[1]"));
            kept_out += 1;
        } else {
            *of_value += 1;
            assert_eq!(explanation.exact_rank, Some(before + 1));
            assert_eq!((explanation.in_exact_answer, explanation.found), (before < 5, before < 5));
            assert_eq!(explanation.removed_by(), Rule::Unspecified);
        }
    }
    assert_eq!((taken, kept_out), ([3, 3], 34));
}

#[tokio::test]
async fn kept_places_are_named_to_those_that_they_cost_theirs_and_earlier_pages_to_what_they_have() {
    let index = TestIndex::new(200);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let field = "query.interests.interests[1].min_share";
    let sent =
        SearchRequest { query: interests(&[(&QUERY, 1.0, 0.0), (&OTHER, 0.01, 0.3)]), ..request(&[], 10) };
    let mut pages = Vec::new();
    for page in 0..3 {
        let sent = SearchRequest { offset: 10 * page, params: exact(), ..sent.clone() };
        pages.push(ids(&client.search(sent).await.unwrap().into_inner()));
    }
    let mut displaced = 0;
    for (video, _) in index.exact(&QUERY, 60) {
        let page = pages.iter().position(|page| page.contains(&video)).unwrap_or(3);
        for at in 0..3 {
            let sent = SearchRequest { offset: 10 * at as u32, ..sent.clone() };
            let explanation = explain(&mut client, &sent, video).await;
            let context = format!("{field}, on page {page}, requested page {at}: {explanation:?}");
            let is_due = explanation.exact_rank.unwrap() <= 10 * (at as u64 + 1);
            let is_displaced = is_due && page > at;
            let rule = if is_displaced { Rule::KeptPlace } else { Rule::Unspecified };
            assert_eq!((explanation.removed_by(), explanation.reason.is_empty()), (rule, !is_displaced));
            assert_eq!(explanation.removed_at, if is_displaced { field } else { "" }, "{context}");
            let lost = if page < at { Loss::EarlierPage } else { Loss::Unspecified };
            assert_eq!((explanation.lost(), explanation.found), (lost, page == at), "{context}");
            displaced += usize::from(is_displaced);
        }
    }
    assert!(displaced > 4, "{field}: {displaced} displaced");
}

#[tokio::test]
async fn videos_of_an_earlier_page_are_explained_without_rules_and_on_short_pages() {
    for videos in [5, 200] {
        let index = TestIndex::new(videos);
        let server = TestServer::of(&index).await;
        let mut client = server.retrieval().await;
        let page = SearchRequest { offset: 10, ..request(&QUERY, 10) };
        for (at, (video, _)) in index.exact(&QUERY, 30.min(videos)).into_iter().enumerate() {
            for params in [None, exact()] {
                let explanation =
                    explain(&mut client, &SearchRequest { params, ..page.clone() }, video).await;
                let lost = if at < 10 { Loss::EarlierPage } else { Loss::Unspecified };
                assert_eq!((explanation.lost(), explanation.removed_by()), (lost, Rule::Unspecified));
                assert_eq!(explanation.found, (10..20).contains(&at));
            }
        }
    }
}

#[tokio::test]
async fn what_an_approximate_search_loses_is_in_the_exact_answer_and_its_loss_is_explained() {
    let index = TestIndex::new(2000);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let params = Some(SearchParams { plan: Plan::Graph.into(), ..ef_search(1).unwrap() });
    let sent = SearchRequest { params, ..request(&QUERY, 50) };
    let answer = ids(&client.search(sent.clone()).await.unwrap().into_inner());
    assert_eq!(answer.len(), 50);
    let (mut lost, mut not_reached) = (0, Vec::new());
    for (at, (video, score)) in index.exact(&QUERY, 50).into_iter().enumerate() {
        let explanation = explain(&mut client, &sent, video).await;
        assert_eq!((explanation.exact_score, explanation.exact_rank), (score, Some(at as u64 + 1)));
        assert!(explanation.in_exact_answer);
        let rank = answer.iter().position(|id| *id == video).map(|at| at as u32 + 1);
        assert_eq!((explanation.found, explanation.rank), (rank.is_some(), rank));
        assert_eq!(explanation.lost() == Loss::Unspecified, explanation.found, "{explanation:?}");
        assert_eq!(explanation.removed_by(), Rule::Unspecified);
        lost += usize::from(rank.is_none());
        not_reached.extend((explanation.lost() == Loss::NotReached).then_some(video));
    }
    assert!(lost > 0 && !not_reached.is_empty(), "nothing was lost: nothing was checked");
    // The candidate found instead is not in the exact answer, and no rule removes it.
    let exact_answer: Vec<u64> = index.exact(&QUERY, 50).into_iter().map(|(id, _)| id).collect();
    let instead = answer.iter().find(|id| !exact_answer.contains(id)).unwrap();
    let explanation = explain(&mut client, &sent, *instead).await;
    assert_eq!((explanation.found, explanation.in_exact_answer), (true, false));
    assert_eq!((explanation.removed_by(), explanation.lost()), (Rule::Unspecified, Loss::Unspecified));
    // More effort finds them.
    for params in [ef_search(2000), exact(), by_plan(Plan::CodeScan)] {
        let sent = SearchRequest { params, ..sent.clone() };
        let explanation = explain(&mut client, &sent, not_reached[0]).await;
        assert_eq!((explanation.found, explanation.lost()), (true, Loss::Unspecified));
    }
}

#[tokio::test]
async fn a_video_that_is_not_there_and_a_request_that_cannot_be_are_refused() {
    let index = TestIndex::new(20);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let status = ask(&mut client, &request(&QUERY, 5), 77).await.unwrap_err();
    assert_eq!((status.code(), fields(&status)), (Code::NotFound, vec!["video_id".to_owned()]));
    let details = status.get_error_details();
    let resource = details.resource_info().unwrap();
    assert_eq!(
        (resource.resource_type.as_str(), resource.resource_name.as_str()),
        ("shortlist.v1.Video", "77")
    );
    let filter = Some(must(vec![keyword("color", &["red"])]));
    let cases = [
        (request(&QUERY, 0), "request.k"),
        (SearchRequest { query: None, ..request(&QUERY, 5) }, "request.query"),
        (SearchRequest { filter, ..request(&QUERY, 5) }, "request.filter.must[0].keyword.attribute"),
    ];
    for (sent, field) in cases {
        let status = ask(&mut client, &sent, video_id(0)).await.unwrap_err();
        assert_eq!((status.code(), fields(&status)), (Code::InvalidArgument, vec![field.to_owned()]));
    }
    let nothing = ExplainRequest { request: None, video_id: video_id(0), ..ExplainRequest::default() };
    let status = client.explain(nothing).await.unwrap_err();
    assert_eq!((status.code(), fields(&status)), (Code::InvalidArgument, vec!["request.query".to_owned()]));
    assert!(explain(&mut client, &request(&QUERY, 20), video_id(0)).await.found);
}
