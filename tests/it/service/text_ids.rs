//! Ids that are text over gRPC: taken in every request, returned in every answer, and refused where the index has numbers.

use shortlist::base::id::VideoId;
use shortlist::base::metric::Metric;
use shortlist::build::BuildParams;
use shortlist::dataset::{Dataset, DatasetFiles};
use shortlist::service::proto::catalog_client::CatalogClient;
use shortlist::service::proto::explain_response::Rule;
use shortlist::service::proto::lookup::State;
use shortlist::service::proto::{
    DeleteRequest, Exclude, ExplainRequest, GetRequest, GetStatusRequest, Lookup, RebuildRequest,
    RestoreRequest, SearchRequest, Seed, Seeds, TakedownRequest, UpsertRequest, Vector, Video,
    search_request,
};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::data::text_ids::COLLISION;
use crate::harness::indexes::build_index;
use crate::harness::wire::{exact, fields};
use crate::harness::{DIM, Setup, TestIndex, TestServer, eventually, request};

/// The ids: some are numbers, too, one has every kind of character, and one collides with another text.
const TEXTS: [&str; 6] = ["dQw4w9WgXcQ", "17", "ü/\"x\" 日本", "a=b", "last", COLLISION[0]];

fn row(number: usize) -> [f32; DIM] {
    std::array::from_fn(|column| if column == number { 1.0 } else { 0.1 })
}

/// A folder with a published index of [`TEXTS`].
fn published() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let records: String = TEXTS
        .iter()
        .enumerate()
        .map(|(number, text)| {
            format!("{}\n", serde_json::json!({"video_id": text, "embedding": row(number), "views": number}))
        })
        .collect();
    let path = folder.path().join("videos.jsonl");
    std::fs::write(&path, records).unwrap();
    let dataset = Dataset::open(&DatasetFiles::of(path), Metric::InnerProduct).unwrap();
    let params = BuildParams::new(Metric::InnerProduct, 4, 16).unwrap().with_threads(1);
    build_index(&dataset, &params, &folder.path().join("index"));
    folder
}

async fn serve(folder: &tempfile::TempDir) -> TestServer {
    TestServer::over(vec![("videos".to_owned(), folder.path().join("index"))], Setup::default()).await
}

fn search(near: usize) -> SearchRequest {
    SearchRequest { params: exact(), ..request(&row(near), 6) }
}

async fn found(server: &TestServer, request: SearchRequest) -> Vec<String> {
    let response = server.retrieval().await.search(request).await.unwrap_or_else(|error| panic!("{error}"));
    let candidates = response.into_inner().candidates;
    for candidate in &candidates {
        assert_eq!(candidate.video_id, VideoId::of_text(&candidate.text_id).0);
    }
    candidates.into_iter().map(|candidate| candidate.text_id).collect()
}

fn texts(of: &[&str]) -> Vec<String> {
    of.iter().map(|text| (*text).to_owned()).collect()
}

async fn catalog(server: &TestServer) -> CatalogClient<Channel> {
    CatalogClient::new(server.channel().await)
}

async fn get(server: &TestServer, of: &[&str]) -> Vec<Lookup> {
    let request =
        GetRequest { text_ids: texts(of), return_attributes: texts(&["*"]), ..GetRequest::default() };
    catalog(server).await.get(request).await.unwrap().into_inner().results
}

fn upsert(video: Video) -> UpsertRequest {
    UpsertRequest { videos: vec![video], ..UpsertRequest::default() }
}

fn video(text: &str, near: usize) -> Video {
    let vector = Some(Vector { values: row(near).to_vec(), packed: None });
    Video { text_id: text.to_owned(), vector, ..Video::default() }
}

#[tokio::test]
async fn candidates_have_the_text_of_their_id() {
    let folder = published();
    let server = serve(&folder).await;
    for (near, text) in TEXTS.iter().enumerate() {
        assert_eq!(found(&server, search(near)).await[0], *text);
    }
    // Without attributes, and as an attribute.
    let mut client = server.retrieval().await;
    let request = SearchRequest { return_attributes: texts(&["video_id"]), ..search(2) };
    let candidate = client.search(request).await.unwrap().into_inner().candidates.remove(0);
    let attribute = candidate.attributes["video_id"].value.clone().unwrap();
    assert_eq!(format!("{attribute:?}"), format!("Keyword({:?})", TEXTS[2]));
}

#[tokio::test]
async fn requests_name_videos_by_text() {
    let folder = published();
    let server = serve(&folder).await;
    let exclude = Some(Exclude {
        text_ids: texts(&["dQw4w9WgXcQ", "unknown"]),
        video_ids: vec![VideoId::of_text("17").0],
        ..Exclude::default()
    });
    let rest = found(&server, SearchRequest { exclude, ..search(0) }).await;
    assert_eq!(rest.len(), 4);
    assert!(!rest.iter().any(|text| text == "dQw4w9WgXcQ" || text == "17"), "{rest:?}");

    let seed = |text: &str| Seed { text_id: text.to_owned(), ..Seed::default() };
    let seeds = Seeds { seeds: vec![seed("a=b"), seed("unknown")] };
    let query = Some(search_request::Query::Seeds(seeds));
    let response = server.retrieval().await.search(SearchRequest { query, ..search(0) }).await.unwrap();
    let response = response.into_inner();
    assert_eq!(response.unknown_video_ids, [VideoId::of_text("unknown").0]);
    assert!(response.candidates.iter().all(|candidate| candidate.text_id != "a=b"));

    for (filter, expected) in [
        (r#"video_id = "17""#, vec!["17"]),
        (r#"video_id in ("17", 'last', "unknown")"#, vec!["17", "last"]),
        (r#"video_id != "17" and views > 3"#, vec![COLLISION[0], "last"]),
    ] {
        let mut matching =
            found(&server, SearchRequest { filter_text: filter.to_owned(), ..search(0) }).await;
        matching.sort();
        assert_eq!(matching, expected, "{filter}");
    }

    let exclude = Some(Exclude { text_ids: texts(&["17"]), ..Exclude::default() });
    let explain = ExplainRequest {
        request: Some(SearchRequest { exclude, ..search(0) }),
        text_id: "17".to_owned(),
        ..ExplainRequest::default()
    };
    let explained = server.retrieval().await.explain(explain).await.unwrap().into_inner();
    assert_eq!(explained.removed_by(), Rule::Exclude);
}

#[tokio::test]
async fn writes_name_videos_by_text_and_texts_survive() {
    let folder = published();
    let server = serve(&folder).await;
    let mut client = catalog(&server).await;
    let written = client.upsert(upsert(video("new", 4))).await.unwrap().into_inner();
    assert_eq!(written.written, 1);
    // Again, of the same text: it replaces the video.
    client.upsert(upsert(video("new", 5))).await.unwrap();
    let takedown = TakedownRequest { text_ids: texts(&["last", "unknown"]), ..TakedownRequest::default() };
    assert_eq!(client.takedown(takedown).await.unwrap().into_inner().written, 2);
    let delete = DeleteRequest { text_ids: texts(&["17"]), ..DeleteRequest::default() };
    client.delete(delete).await.unwrap();
    let check = async |server: &TestServer| {
        let mut all = found(server, search(5)).await;
        all.sort();
        let mut expected = [TEXTS[0], TEXTS[2], TEXTS[3], TEXTS[5], "new"];
        expected.sort_unstable();
        assert_eq!(all, expected);
        let lookups = get(server, &["new", "last", "17", "dQw4w9WgXcQ"]).await;
        let states: Vec<_> = lookups.iter().map(|lookup| (lookup.text_id.as_str(), lookup.state())).collect();
        let expected = [
            ("new", State::Found),
            ("last", State::TakenDown),
            ("17", State::Unknown),
            ("dQw4w9WgXcQ", State::Found),
        ];
        assert_eq!(states, expected);
        assert_eq!(lookups[0].video.as_ref().unwrap().text_id, "new");
    };
    check(&server).await;
    server.stop().await;
    // From the log.
    let server = serve(&folder).await;
    check(&server).await;
    let restore = RestoreRequest { text_ids: texts(&["last"]), ..RestoreRequest::default() };
    catalog(&server).await.restore(restore).await.unwrap();
    assert_eq!(get(&server, &["last"]).await[0].state(), State::Found);
    // In the next generation, which the server builds.
    server.admin().await.rebuild(RebuildRequest::default()).await.unwrap();
    eventually("the rebuilt generation answers", async || {
        let status = server.admin().await.get_status(GetStatusRequest::default()).await.unwrap();
        status.into_inner().indexes[0].generation == 2
    })
    .await;
    let mut all = found(&server, search(5)).await;
    all.sort();
    let mut expected = [TEXTS[0], TEXTS[2], TEXTS[3], TEXTS[4], TEXTS[5], "new"];
    expected.sort_unstable();
    assert_eq!(all, expected);
    assert_eq!(get(&server, &["17"]).await[0].state(), State::Unknown);
    let status = catalog(&server).await.upsert(upsert(video(COLLISION[1], 0))).await.unwrap_err();
    refused(&status, "videos[0].text_id", &format!("those of {:?}", COLLISION[0]));
    // By its number, it is the same video.
    let video_ids = vec![VideoId::of_text("last").0];
    let request = GetRequest { video_ids, ..GetRequest::default() };
    let lookup = catalog(&server).await.get(request).await.unwrap().into_inner().results.remove(0);
    assert_eq!((lookup.state(), lookup.text_id.as_str()), (State::Found, "last"));
}

fn refused(status: &Status, field: &str, problem: &str) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert_eq!(fields(status), [field], "{status}");
    assert!(status.message().contains(problem), "{status}");
}

#[tokio::test]
async fn writes_without_a_text_and_texts_that_collide_are_refused() {
    let folder = published();
    let server = serve(&folder).await;
    let mut client = catalog(&server).await;
    let number = Video { video_id: 7, ..video("", 0) };
    let status = client.upsert(upsert(number)).await.unwrap_err();
    refused(&status, "videos[0].text_id", "expected the id as text");
    let [one, other] = COLLISION;
    let status = client.upsert(upsert(video(other, 0))).await.unwrap_err();
    refused(&status, "videos[0].text_id", &format!("those of {one:?}"));
    let long = "x".repeat(1025);
    let status = client.upsert(upsert(video(&long, 0))).await.unwrap_err();
    refused(&status, "videos[0].text_id", "expected 1 to 1024 bytes, found 1025");
    let both = Video { video_id: 7, ..video("x", 0) };
    let status = client.upsert(upsert(both)).await.unwrap_err();
    refused(&status, "videos[0].text_id", "expected video_id or text_id, found both");
    // Two of one batch.
    let delete = DeleteRequest { text_ids: texts(&[one]), ..DeleteRequest::default() };
    client.delete(delete).await.unwrap();
    let videos = vec![video(one, 0), video(other, 1)];
    let batch = UpsertRequest { videos, partial: true, ..UpsertRequest::default() };
    let answer = client.upsert(batch).await.unwrap().into_inner();
    assert_eq!((answer.written, answer.errors[0].position), (1, 1));
    assert_eq!(get(&server, &[one]).await[0].text_id, one);

    let takedown =
        TakedownRequest { video_ids: vec![7], text_ids: texts(&["x"]), ..TakedownRequest::default() };
    let status = client.takedown(takedown).await.unwrap_err();
    refused(&status, "text_ids", "expected video_ids or text_ids, found both");
    let request = GetRequest { text_ids: texts(&["x", ""]), ..GetRequest::default() };
    refused(&client.get(request).await.unwrap_err(), "text_ids[1]", "expected 1 to 1024 bytes, found 0");
    let exclude = Some(Exclude { text_ids: vec!["x".to_owned(); 100_001], ..Exclude::default() });
    let status = server.retrieval().await.search(SearchRequest { exclude, ..search(0) }).await.unwrap_err();
    refused(&status, "exclude.text_ids", "expected at most 100000 ids");
}

#[tokio::test]
async fn an_index_of_numbers_refuses_text() {
    let index = TestIndex::new(40);
    let server = TestServer::of(&index).await;
    let (mut client, mut retrieval) = (catalog(&server).await, server.retrieval().await);
    let problem = "expected ids as numbers, since the ids of the index are numbers, found text";
    let text_ids = || texts(&["x"]);
    let delete = DeleteRequest { text_ids: text_ids(), ..DeleteRequest::default() };
    refused(&client.delete(delete).await.unwrap_err(), "text_ids", problem);
    let takedown = TakedownRequest { text_ids: text_ids(), ..TakedownRequest::default() };
    refused(&client.takedown(takedown).await.unwrap_err(), "text_ids", problem);
    let restore = RestoreRequest { text_ids: text_ids(), ..RestoreRequest::default() };
    refused(&client.restore(restore).await.unwrap_err(), "text_ids", problem);
    let get = GetRequest { text_ids: text_ids(), ..GetRequest::default() };
    refused(&client.get(get).await.unwrap_err(), "text_ids", problem);
    refused(&client.upsert(upsert(video("x", 0))).await.unwrap_err(), "videos[0].text_id", problem);
    let exclude = Some(Exclude { text_ids: text_ids(), ..Exclude::default() });
    let status = retrieval.search(SearchRequest { exclude, ..search(0) }).await.unwrap_err();
    refused(&status, "exclude.text_ids", problem);
    let seeds = Seeds { seeds: vec![Seed { text_id: "x".to_owned(), ..Seed::default() }] };
    let query = Some(search_request::Query::Seeds(seeds));
    let status = retrieval.search(SearchRequest { query, ..search(0) }).await.unwrap_err();
    refused(&status, "query.seeds.seeds[0].text_id", problem);
    let explain =
        ExplainRequest { request: Some(search(0)), text_id: "x".to_owned(), ..ExplainRequest::default() };
    refused(&retrieval.explain(explain).await.unwrap_err(), "text_id", problem);
    let filter_text = r#"video_id = "x""#.to_owned();
    let status = retrieval.search(SearchRequest { filter_text, ..search(0) }).await.unwrap_err();
    refused(&status, "filter_text", "no attribute \"video_id\"");
    let candidates = retrieval.search(search(0)).await.unwrap().into_inner().candidates;
    assert!(candidates.iter().all(|candidate| candidate.text_id.is_empty()));
}
