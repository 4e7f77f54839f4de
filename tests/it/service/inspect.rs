//! What people look at: history, generations, users, values, the map, the newest changes.

use shortlist::base::metric::Metric;
use shortlist::build::BuildParams;
use shortlist::dataset::Embeddings;
use shortlist::engine::{Budget, SearchRequest};
use shortlist::service::proto::admin_client::AdminClient;
use shortlist::service::proto::catalog_client::CatalogClient;
use shortlist::service::proto::{
    CompareGenerationsRequest, GetHistoryRequest, GetMapRequest, GetStatusRequest, ListChangesRequest,
    ListGenerationsRequest, ListIndexesRequest, ListValuesRequest, SampleUsersRequest, SetAliasRequest,
    TakedownRequest,
};
use shortlist::service::{AccessOptions, Role};
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::credentials::{connect, key, with_access};
use crate::harness::indexes::{TestDataset, build_taught_index};
use crate::harness::wire::fields;
use crate::harness::{
    DIM, MODEL, Setup, TestIndex, TestServer, damage, eventually, request, row_of, video_id,
};
use crate::live::gate::open;

#[tokio::test]
async fn the_last_hour_has_a_point_for_every_ten_seconds() {
    let index = TestIndex::new(30);
    let server = TestServer::of(&index).await;
    let mut admin = server.admin().await;
    for _ in 0..20 {
        server.retrieval().await.search(request(&[1.0; DIM], 3)).await.unwrap();
    }
    let mut points = Vec::new();
    eventually("a point", async || {
        let history = admin.get_history(GetHistoryRequest::default()).await.unwrap().into_inner();
        assert_eq!(history.step.unwrap().seconds, 10);
        points = history.points;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        !points.is_empty()
    })
    .await;
    let point = &points[0];
    assert!((1.0..=2.0).contains(&point.searches_per_second), "{point:?}");
    assert!(
        point.p50.unwrap().nanos > 0 && point.p99.unwrap().nanos >= point.p50.unwrap().nanos,
        "{point:?}"
    );
    assert!(point.resident_memory_bytes > 1 << 20 && point.refused_per_second == 0.0, "{point:?}");
    let unknown = GetHistoryRequest { index: "other".into() };
    assert_eq!(admin.get_history(unknown).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn generations_are_described_also_those_that_do_not_open() {
    let mut index = TestIndex::new(30);
    index.publish(40);
    index.publish(50);
    let server = TestServer::of(&index).await;
    let mut admin = server.admin().await;
    damage(&index.generation_path(1));
    std::fs::write(index.generation_path(2), "short").unwrap();
    let listed = admin.list_generations(ListGenerationsRequest::default()).await.unwrap().into_inner();
    let numbers: Vec<(u64, bool)> = listed.generations.iter().map(|of| (of.generation, of.serves)).collect();
    assert_eq!(numbers, [(1, false), (2, false), (3, true)]);
    assert!(!listed.generations[1].problem.is_empty() && listed.generations[1].vectors == 0);
    let serving = &listed.generations[2];
    assert_eq!((serving.problem.as_str(), serving.reason.as_str()), ("", "build"));
    assert_eq!((serving.vectors, serving.dim, serving.m, serving.ef_construction), (50, DIM as u32, 8, 64));
    assert_eq!((serving.builder.as_str(), serving.embedding_model.as_str()), ("native", MODEL));
    assert_eq!(serving.bytes, std::fs::metadata(index.generation_path(3)).unwrap().len());
    assert!(serving.created_at.is_some() && serving.gate.is_none() && serving.curves.is_empty());
    let status = admin.get_status(GetStatusRequest::default()).await.unwrap().into_inner();
    let sections = &status.indexes[0].sections;
    assert!(
        sections.iter().any(|section| section.name == "video_ids" && section.bytes == 50 * 8),
        "{sections:?}"
    );
    assert!(sections.is_sorted_by_key(|section| std::cmp::Reverse(section.bytes)), "{sections:?}");
    assert!(status.started_at.unwrap().seconds > 1_700_000_000);
}

#[tokio::test]
async fn users_to_try_are_those_of_recent_searches_if_the_build_held_none_out() {
    let index = TestIndex::new(30);
    let server = TestServer::of(&index).await;
    let mut admin = server.admin().await;
    let sample = admin.sample_users(SampleUsersRequest::default()).await.unwrap().into_inner();
    assert!(sample.source.starts_with("none: ") && sample.users.is_empty(), "{sample:?}");
    let many = SampleUsersRequest { count: 1001, ..SampleUsersRequest::default() };
    assert_eq!(fields(&admin.sample_users(many).await.unwrap_err()), ["count"]);
    server.stop().await;
    // Takes a sample of every search.
    let engine = open(&index, Default::default());
    for user in 0..5 {
        let request = SearchRequest { k: 3, ..SearchRequest::vector(vec![user as f32 + 1.0; DIM]) };
        engine.search(&request, &Budget::default()).unwrap();
    }
    let sample = engine.sample_users("", 3).unwrap();
    assert_eq!((sample.source, sample.users.len()), ("users of recent searches", 3));
    assert_eq!(sample.users[0].len(), DIM);
}

#[tokio::test]
async fn values_are_completed_by_their_frequency() {
    let index = TestIndex::new(30);
    let server = TestServer::of(&index).await;
    let catalog = CatalogClient::new(server.channel().await);
    let list = async |attribute: &str, prefix: &str, limit| {
        let (attribute, prefix) = (attribute.to_owned(), prefix.to_owned());
        let request = ListValuesRequest { index: String::new(), attribute, prefix, limit };
        let answer = catalog.clone().list_values(request).await?.into_inner();
        Ok::<_, tonic::Status>(answer.values.into_iter().map(|of| (of.value, of.videos)).collect::<Vec<_>>())
    };
    let all = list("tags", "", 3).await.unwrap();
    assert_eq!((all.len(), &all[0]), (3, &("all".to_owned(), 30)));
    let some = list("tags", "tag-2", 100).await.unwrap();
    // tag-2, and tag-20 to tag-29.
    assert_eq!((some.len(), &some[0]), (11, &("tag-2".to_owned(), 1)));
    assert_eq!(list("title", "nothing", 0).await.unwrap(), []);
    for (attribute, limit, field) in
        [("views", 5, "attribute"), ("colour", 5, "attribute"), ("tags", 1001, "limit")]
    {
        let status = list(attribute, "", limit).await.unwrap_err();
        assert_eq!((status.code(), fields(&status)), (Code::InvalidArgument, vec![field.to_owned()]));
    }
}

#[tokio::test]
async fn a_map_places_videos_as_its_axes_say() {
    let index = TestIndex::new(60);
    let server = TestServer::of(&index).await;
    let mut catalog = CatalogClient::new(server.channel().await);
    let request =
        |points, color_by: &str| GetMapRequest { index: String::new(), points, color_by: color_by.into() };
    let map = catalog.get_map(request(0, "title")).await.unwrap().into_inner();
    assert_eq!((map.video_ids.len(), map.x.len(), map.y.len(), map.text_ids.len()), (60, 60, 60, 0));
    let axes = map.axes.unwrap();
    for (at, id) in map.video_ids.iter().enumerate() {
        let row = row_of(*id);
        let along =
            |axis: &[f32]| -> f32 { (0..DIM).map(|d| axis[d] * (index.rows[row][d] - axes.mean[d])).sum() };
        assert!(
            (map.x[at] - along(&axes.first)).abs() < 1e-4 && (map.y[at] - along(&axes.second)).abs() < 1e-4
        );
        let title = if row == 1 { String::new() } else { format!("title {row}") };
        assert_eq!(map.colors[at], title);
    }
    let spread = |values: &[f32]| values.iter().map(|value| value * value).sum::<f32>();
    assert!(spread(&map.x) >= spread(&map.y) && spread(&map.y) > 0.0);
    // Videos that searches do not return are not on it.
    let takedown = TakedownRequest { video_ids: vec![video_id(7)], ..TakedownRequest::default() };
    catalog.takedown(takedown).await.unwrap();
    let map = catalog.get_map(request(100, "")).await.unwrap().into_inner();
    assert_eq!((map.video_ids.len(), map.colors.len()), (59, 0));
    assert!(!map.video_ids.contains(&video_id(7)));
    let few = catalog.get_map(request(10, "")).await.unwrap().into_inner().video_ids.len();
    assert_eq!(few, 10);
    for (wrong, field) in [(request(20_001, ""), "points"), (request(5, "colour"), "color_by")] {
        assert_eq!(fields(&catalog.get_map(wrong).await.unwrap_err()), [field]);
    }
}

#[tokio::test]
async fn the_newest_changes_are_kept_for_who_may_know_of_them() {
    let (one, other) = (TestIndex::new(30), TestIndex::new(30));
    let keys = vec![key("ops", &Role::ALL, None), key("own", &Role::ALL, Some("one"))];
    let options = AccessOptions { keys, ..AccessOptions::default() };
    let server = TestServer::start(&[("one", &one), ("other", &other)], with_access(options)).await;
    let ops = connect(server.address, Some("ops")).await;
    let mut admin = AdminClient::new(ops.clone());
    let mut catalog = CatalogClient::new(ops);
    for (index, row) in [("one", 3), ("other", 4), ("one", 5)] {
        let video_ids = vec![video_id(row)];
        let request = TakedownRequest { index: index.into(), video_ids, ..TakedownRequest::default() };
        catalog.takedown(request).await.unwrap();
    }
    let alias = SetAliasRequest { alias: "a".into(), indexes: vec!["one".into()] };
    assert_eq!(admin.set_alias(alias).await.unwrap_err().code(), Code::FailedPrecondition);
    let all = admin.list_changes(ListChangesRequest::default()).await.unwrap().into_inner().changes;
    let said: Vec<_> =
        all.iter().map(|of| (of.method.as_str(), of.index.as_str(), of.outcome.as_str())).collect();
    assert_eq!(
        said,
        [
            ("SetAlias", "", "FAILED_PRECONDITION"),
            ("Takedown", "one", "OK"),
            ("Takedown", "other", "OK"),
            ("Takedown", "one", "OK")
        ]
    );
    assert_eq!((all[1].who.as_str(), &all[1].video_ids, all[1].count), ("ops", &vec![video_id(5)], 1));
    let newest = ListChangesRequest { index: "one".into(), limit: 1, video_id: None };
    let newest = admin.list_changes(newest).await.unwrap().into_inner().changes;
    assert_eq!((newest.len(), &newest[0]), (1, &all[1]));
    let of_video = ListChangesRequest { video_id: Some(video_id(3)), ..ListChangesRequest::default() };
    assert_eq!(admin.list_changes(of_video).await.unwrap().into_inner().changes, all[3..]);
    let none = ListChangesRequest { index: "none".into(), ..ListChangesRequest::default() };
    assert_eq!(admin.list_changes(none).await.unwrap_err().code(), Code::NotFound);
    let own = connect(server.address, Some("own")).await;
    let mut admin = AdminClient::new(own);
    let own = admin.list_changes(ListChangesRequest::default()).await.unwrap().into_inner().changes;
    assert_eq!(own.iter().map(|of| of.index.as_str()).collect::<Vec<_>>(), ["one", "one"]);
    let other = ListChangesRequest { index: "other".into(), ..ListChangesRequest::default() };
    assert_eq!(admin.list_changes(other).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn two_generations_are_compared_by_answers_to_sample_users() {
    let dataset = TestDataset::new(600, 16);
    let users = Embeddings::open(&dataset.files.users_train).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for ef_construction in [100, 8, 8] {
        let params = BuildParams::new(Metric::InnerProduct, 4, ef_construction).unwrap();
        build_taught_index(&dataset.open(Metric::InnerProduct), Some(&users), &params, folder.path());
    }
    let server =
        TestServer::over(vec![("videos".to_owned(), folder.path().to_owned())], Setup::default()).await;
    let mut admin = server.admin().await;
    let compare = async |admin: &mut AdminClient<Channel>, generation, candidate| {
        let request = CompareGenerationsRequest { generation, candidate, k: 10, ..Default::default() };
        admin.compare_generations(request).await.map(tonic::Response::into_inner)
    };
    // The third one serves.
    let same = compare(&mut admin, 2, 3).await.unwrap();
    assert_eq!((same.generation, same.candidate), (2, 3));
    assert_eq!(same.source, "users that the build held out");
    let found = same.comparison.unwrap();
    assert_eq!((found.k, found.answers, found.exact_answers), (10, 40, 40));
    assert_eq!((found.overlap, found.score_gap), (1.0, 0.0));
    assert_eq!(found.recall, found.candidate_recall);
    let other = compare(&mut admin, 0, 1).await.unwrap();
    assert_eq!((other.generation, other.candidate), (3, 1));
    let found = other.comparison.unwrap();
    assert!(found.p50.unwrap().nanos > 0 && found.candidate_p99.unwrap().nanos > 0, "{found:?}");
    assert!(found.candidate_recall.unwrap() >= found.recall.unwrap(), "{found:?}");
    // Which one is the candidate decides what is called better.
    let turned = compare(&mut admin, 1, 3).await.unwrap().comparison.unwrap();
    assert!((turned.score_gap + found.score_gap).abs() < 1e-9, "{turned:?} {found:?}");
    assert_eq!((turned.recall, turned.candidate_recall), (found.candidate_recall, found.recall));

    for (generation, candidate, code) in
        [(0, 0, Code::InvalidArgument), (2, 2, Code::InvalidArgument), (0, 9, Code::NotFound)]
    {
        assert_eq!(compare(&mut admin, generation, candidate).await.unwrap_err().code(), code);
    }
    let index = TestIndex::new(30);
    let server = TestServer::of(&index).await;
    let status = compare(&mut server.admin().await, 0, 2).await.unwrap_err();
    assert_eq!((status.code(), fields(&status)), (Code::FailedPrecondition, vec!["index".to_owned()]));
}

#[tokio::test]
async fn a_caller_learns_what_requests_to_its_indexes_have_to_look_like() {
    let (one, other) = (TestIndex::new(30), TestIndex::new(30));
    let keys = vec![key("all", &[Role::Read], None), key("own", &[Role::Read], Some("one"))];
    let options = AccessOptions { keys, ..AccessOptions::default() };
    let server = TestServer::start(&[("one", &one), ("other", &other)], with_access(options)).await;
    let list = async |key: &str| {
        let mut catalog = CatalogClient::new(connect(server.address, Some(key)).await);
        catalog.list_indexes(ListIndexesRequest {}).await.unwrap().into_inner().indexes
    };
    let all = list("all").await;
    assert_eq!(all.iter().map(|of| of.name.as_str()).collect::<Vec<_>>(), ["one", "other"]);
    assert_eq!(
        (all[0].dim, all[0].embedding_model.as_str(), all[0].has_text_ids),
        (DIM as u32, MODEL, false)
    );
    assert!(all[0].attributes.iter().any(|of| of.name == "title"), "{all:?}");
    assert_eq!(list("own").await, all[..1]);
}
