//! Aliases: which index a request means, writes to several, changes under load, rights.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use shortlist::service::proto::admin_client::AdminClient;
use shortlist::service::proto::catalog_client::CatalogClient;
use shortlist::service::proto::lookup::State;
use shortlist::service::proto::retrieval_client::RetrievalClient;
use shortlist::service::proto::{
    Alias, BatchSearchRequest, CancelRebuildRequest, ExplainRequest, GetRequest, GetStatusRequest,
    IndexWrite, ListAliasesRequest, ListChangesRequest, ListIndexesRequest, SearchRequest, SearchResponse,
    SetAliasRequest, TakedownRequest, UpsertRequest, Vector, Video, batch_search_result, search_stream_item,
};
use shortlist::service::{AccessOptions, Aliases, Audit, Role, ServiceOptions};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::access::audit::Lines;
use crate::harness::credentials::{connect, key, with_access};
use crate::harness::wire::{fields, ids};
use crate::harness::{DIM, MODEL, Setup, TestIndex, TestServer, eventually, request, video_id};
use crate::router::fixture::Serving;

const OTHER: &str = "towers-4";
const QUERY: [f32; DIM] = [1.0, 0.5, -0.25, 0.0, 0.125, 1.0, -1.0, 0.5];

/// Two indexes of different models and videos.
fn indexes() -> (TestIndex, TestIndex) {
    let old = TestIndex::new(60);
    let mut new = TestIndex::new(40);
    OTHER.clone_into(&mut new.model);
    new.publish(50);
    (old, new)
}

fn with_aliases(file: &Path) -> ServiceOptions {
    let aliases = Arc::new(Aliases::open(file).unwrap());
    ServiceOptions { aliases, poll_interval: Duration::from_millis(20), ..ServiceOptions::default() }
}

async fn start(old: &TestIndex, new: &TestIndex, file: &Path) -> TestServer {
    let setup = Setup { service: with_aliases(file), ..Setup::default() };
    TestServer::start(&[("v41", old), ("v42", new)], setup).await
}

fn names(indexes: &[&str]) -> Vec<String> {
    indexes.iter().map(|index| (*index).to_owned()).collect()
}

async fn set(admin: &mut AdminClient<Channel>, alias: &str, indexes: &[&str]) -> Result<Alias, Status> {
    let request = SetAliasRequest { alias: alias.to_owned(), indexes: names(indexes) };
    Ok(admin.set_alias(request).await?.into_inner().before.unwrap())
}

fn search(index: &str, model: &str) -> SearchRequest {
    SearchRequest { index: index.into(), embedding_model: model.into(), ..request(&QUERY, 5) }
}

/// The videos of the exact answer of an index to [`search`].
fn exact(index: &TestIndex) -> Vec<u64> {
    index.exact(&QUERY, 5).into_iter().map(|(id, _)| id).collect()
}

#[tokio::test]
async fn a_request_goes_to_the_index_of_its_model() {
    let ((old, new), folder) = (indexes(), tempfile::tempdir().unwrap());
    let server = start(&old, &new, &folder.path().join("aliases.json")).await;
    let (mut admin, mut client) = (server.admin().await, server.retrieval().await);
    let before = set(&mut admin, "videos", &["v42", "v41"]).await.unwrap();
    assert_eq!(before, Alias { alias: "videos".into(), indexes: Vec::new() });
    for (name, model, index, of) in [
        ("videos", "", "v42", &new),
        ("videos", MODEL, "v41", &old),
        ("videos", OTHER, "v42", &new),
        ("v41", "", "", &old),
    ] {
        let answer = client.search(search(name, model)).await.unwrap().into_inner();
        assert_eq!((answer.index.as_str(), ids(&answer)), (index, exact(of)), "{name} {model}");
    }
    let status = client.search(search("videos", "towers-5")).await.unwrap_err();
    assert_eq!(
        (status.code(), fields(&status)),
        (Code::FailedPrecondition, vec!["embedding_model".to_owned()])
    );
    let expected =
        "expected a model of \"videos\", which has \"towers-4\" in \"v42\", \"towers-3\" in \"v41\"";
    assert!(status.message().contains(expected), "{}", status.message());
    let explain = ExplainRequest {
        request: Some(search("videos", MODEL)),
        video_id: exact(&old)[0],
        ..ExplainRequest::default()
    };
    assert_eq!(client.explain(explain).await.unwrap().into_inner().rank, Some(1));

    let mut catalog = CatalogClient::new(server.channel().await);
    let mut get = async |index: &str, model: &str| {
        let request = GetRequest {
            index: index.into(),
            embedding_model: model.into(),
            video_ids: vec![video_id(55)],
            ..GetRequest::default()
        };
        let found = catalog.get(request).await?.into_inner();
        Ok::<_, Status>((found.embedding_model, found.results[0].state()))
    };
    // Only the old one has as many videos.
    assert_eq!(get("videos", MODEL).await.unwrap(), (MODEL.to_owned(), State::Found));
    assert_eq!(get("videos", "").await.unwrap(), (OTHER.to_owned(), State::Unknown));
    assert_eq!(get("v41", OTHER).await.unwrap_err().code(), Code::FailedPrecondition);

    let status = set(&mut admin, "v41", &["v42"]).await.unwrap_err();
    assert_eq!((status.code(), fields(&status)), (Code::InvalidArgument, vec!["alias".to_owned()]));
    assert_eq!(set(&mut admin, "videos", &["v43"]).await.unwrap_err().code(), Code::NotFound);
    let cancel = CancelRebuildRequest { index: "videos".into() };
    let status = admin.cancel_rebuild(cancel.clone()).await.unwrap_err();
    assert_eq!((status.code(), fields(&status)), (Code::InvalidArgument, vec!["index".to_owned()]));
    set(&mut admin, "videos", &["v42"]).await.unwrap();
    admin.cancel_rebuild(cancel).await.unwrap();
}

#[tokio::test]
async fn an_alias_is_kept_and_shown_everywhere() {
    let ((old, new), folder) = (indexes(), tempfile::tempdir().unwrap());
    let file = folder.path().join("aliases.json");
    let server = start(&old, &new, &file).await;
    set(&mut server.admin().await, "videos", &["v41"]).await.unwrap();
    server.stop().await;

    let server = start(&old, &new, &file).await;
    let mut admin = server.admin().await;
    let listed = admin.list_aliases(ListAliasesRequest {}).await.unwrap().into_inner().aliases;
    assert_eq!(listed, [Alias { alias: "videos".into(), indexes: names(&["v41"]) }]);
    let status = admin.get_status(GetStatusRequest { index: "videos".into() }).await.unwrap().into_inner();
    assert_eq!((status.indexes.len(), status.indexes[0].name.as_str()), (1, "v41"));
    assert_eq!(status.aliases, listed);
    let of_new = admin.get_status(GetStatusRequest { index: "v42".into() }).await.unwrap().into_inner();
    assert_eq!(of_new.aliases, []);
    server.until("shortlist_alias_info{alias=\"videos\",index=\"v41\",position=\"0\"}", 1.0).await;

    let mut health = HealthClient::new(server.channel().await);
    let mut check = async |service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        health.check(request).await.map(|answer| answer.into_inner().status())
    };
    eventually("health of the alias", async || check("videos").await.ok() == Some(ServingStatus::Serving))
        .await;

    // Somebody else writes the file.
    std::fs::write(&file, r#"{"current": ["v42"]}"#).unwrap();
    server.until("shortlist_alias_info{alias=\"current\",index=\"v42\",position=\"0\"}", 1.0).await;
    assert_eq!(
        server.metric("shortlist_alias_info{alias=\"videos\",index=\"v41\",position=\"0\"}").await,
        None
    );
    let mut client = server.retrieval().await;
    assert_eq!(client.search(search("videos", "")).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(ids(&client.search(search("current", "")).await.unwrap().into_inner()), exact(&new));
    // A file that cannot be read changes nothing.
    std::fs::write(&file, "{").unwrap();
    server.until("shortlist_reload_failed{what=\"aliases\"}", 1.0).await;
    assert_eq!(ids(&client.search(search("current", "")).await.unwrap().into_inner()), exact(&new));
}

#[tokio::test]
async fn pages_stay_with_their_index() {
    let ((old, new), folder) = (indexes(), tempfile::tempdir().unwrap());
    let server = start(&old, &new, &folder.path().join("aliases.json")).await;
    let (mut admin, mut client) = (server.admin().await, server.retrieval().await);
    set(&mut admin, "videos", &["v41"]).await.unwrap();
    let first = client.search(search("videos", "")).await.unwrap().into_inner();
    let second = SearchRequest { page_token: first.next_page_token, ..search("videos", "") };
    let expected: Vec<u64> = old.exact(&QUERY, 10).into_iter().skip(5).map(|(id, _)| id).collect();
    assert_eq!(ids(&client.search(second.clone()).await.unwrap().into_inner()), expected);
    let by_name = SearchRequest { index: "v41".into(), ..second.clone() };
    assert_eq!(ids(&client.search(by_name).await.unwrap().into_inner()), expected);
    // The other index may have a generation of the same number.
    set(&mut admin, "videos", &["v42"]).await.unwrap();
    let status = client.search(second).await.unwrap_err();
    assert_eq!((status.code(), fields(&status)), (Code::FailedPrecondition, vec!["page_token".to_owned()]));
}

/// Fails unless an answer is the exact one of the index that it names.
fn check(answer: &SearchResponse, old: &[u64], new: &[u64]) {
    let expected = match answer.index.as_str() {
        "v41" => old,
        "v42" => new,
        other => panic!("index {other:?}"),
    };
    assert_eq!(ids(answer), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alias_changes_under_load_and_no_answer_fails_or_mixes_indexes() {
    let ((old, new), folder) = (indexes(), tempfile::tempdir().unwrap());
    let server = start(&old, &new, &folder.path().join("aliases.json")).await;
    let mut admin = server.admin().await;
    set(&mut admin, "videos", &["v41"]).await.unwrap();
    let (of_old, of_new) = (exact(&old), exact(&new));
    let (done, seen) = (Arc::new(AtomicBool::new(false)), Arc::new([const { AtomicUsize::new(0) }; 2]));
    let mut load = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let mut client = RetrievalClient::new(server.channel().await);
        let (of_old, of_new) = (of_old.clone(), of_new.clone());
        let (done, seen) = (Arc::clone(&done), Arc::clone(&seen));
        load.spawn(async move {
            while !done.load(Ordering::Relaxed) {
                let answer = client.search(search("videos", "")).await.unwrap().into_inner();
                check(&answer, &of_old, &of_new);
                seen[usize::from(answer.index == "v42")].fetch_add(1, Ordering::Relaxed);
                let requests = vec![search("videos", ""); 4];
                let batch =
                    client.batch_search(BatchSearchRequest { requests: requests.clone() }).await.unwrap();
                let mut indexes = Vec::new();
                for result in batch.into_inner().results {
                    let Some(batch_search_result::Result::Response(answer)) = result.result else { panic!() };
                    check(&answer, &of_old, &of_new);
                    indexes.push(answer.index);
                }
                indexes.dedup();
                assert_eq!(indexes.len(), 1, "a batch sees one alias");
                let stream = client.stream_search(tokio_stream::iter(requests)).await.unwrap();
                let mut stream = stream.into_inner();
                while let Some(item) = stream.message().await.unwrap() {
                    let Some(search_stream_item::Item::Response(answer)) = item.item else { panic!() };
                    check(&answer, &of_old, &of_new);
                }
            }
        });
    }
    for flip in 0..200 {
        let to = if flip % 2 == 0 { "v42" } else { "v41" };
        set(&mut admin, "videos", &[to]).await.unwrap();
        // A search that begins now is answered by the new index.
        let mut client = server.retrieval().await;
        assert_eq!(client.search(search("videos", "")).await.unwrap().into_inner().index, to);
    }
    done.store(true, Ordering::Relaxed);
    while let Some(ended) = load.join_next().await {
        ended.unwrap();
    }
    assert!(seen.iter().all(|count| count.load(Ordering::Relaxed) > 0), "{seen:?}");
}

fn vector(value: f32, dim: usize) -> Vector {
    Vector { values: vec![value; dim], packed: None }
}

fn video(video_id: u64, vectors: &[(&str, Vector)]) -> Video {
    let vectors = vectors.iter().map(|(model, vector)| ((*model).to_owned(), vector.clone())).collect();
    Video { video_id, vectors, ..Video::default() }
}

/// Writes through a server and through a router: both must do the same.
async fn check_writes(channel: Channel, checks_first: bool) {
    let mut admin = AdminClient::new(channel.clone());
    let mut catalog = CatalogClient::new(channel);
    let upsert = |videos: Vec<Video>, partial| UpsertRequest { index: "videos".into(), videos, partial };
    let states = async |catalog: &mut CatalogClient<Channel>, video_id| {
        let mut states = Vec::new();
        for index in ["v41", "v42"] {
            let request = GetRequest {
                index: index.into(),
                video_ids: vec![video_id],
                return_vectors: true,
                ..GetRequest::default()
            };
            let lookup = catalog.get(request).await.unwrap().into_inner().results.remove(0);
            let vector = lookup.video.as_ref().and_then(|video| video.vector.as_ref()).map(|of| of.values[0]);
            states.push((lookup.state(), vector));
        }
        states
    };
    let unknown = (State::Unknown, None);

    let both = [(MODEL, vector(1.0, DIM)), (OTHER, vector(2.0, DIM)), ("towers-9", vector(3.0, 2))];
    let written = catalog.upsert(upsert(vec![video(1, &both)], false)).await.unwrap().into_inner();
    assert_eq!((written.written, written.errors.len()), (1, 0));
    assert_eq!(written.unused_models, ["towers-9"]);
    let of = |index: &str, sequence, written| IndexWrite { index: index.into(), sequence, written };
    assert_eq!(written.indexes, [of("v41", 1, 1), of("v42", 1, 1)]);
    let expected = [(State::Found, Some(1.0)), (State::Found, Some(2.0))];
    assert_eq!(states(&mut catalog, 1).await, expected);

    // A video with one embedding goes to the index of its model, which is that of the first index by default.
    let plain = |video_id, model: &str| Video {
        video_id,
        vector: Some(vector(4.0, DIM)),
        embedding_model: model.into(),
        ..Video::default()
    };
    let written =
        catalog.upsert(upsert(vec![plain(2, ""), plain(3, OTHER)], false)).await.unwrap().into_inner();
    assert_eq!((written.written, written.indexes), (2, vec![of("v41", 2, 1), of("v42", 2, 1)]));
    assert_eq!(states(&mut catalog, 2).await, [(State::Found, Some(4.0)), unknown]);
    assert_eq!(states(&mut catalog, 3).await, [unknown, (State::Found, Some(4.0))]);

    // What one index refuses is reported at its place in the request.
    let wrong = [(MODEL, vector(5.0, DIM)), (OTHER, vector(5.0, DIM + 1))];
    let none = [("towers-9", vector(5.0, DIM))];
    let videos = vec![video(4, &none), video(5, &both), video(6, &wrong)];
    let written = catalog.upsert(upsert(videos.clone(), true)).await.unwrap().into_inner();
    let refused: Vec<(u32, String)> = written
        .errors
        .iter()
        .map(|error| (error.position, error.status.as_ref().unwrap().message.clone()))
        .collect();
    assert_eq!((written.written, refused.len()), (1, 2), "{refused:?}");
    assert_eq!((refused[0].0, refused[1].0), (0, 2));
    assert!(refused[0].1.starts_with("videos[0].vectors: expected an embedding of "), "{refused:?}");
    let place = if checks_first { "videos[2].vectors[\"towers-4\"]: " } else { "videos[2].vector: " };
    assert!(refused[1].1.starts_with(place), "{refused:?}");
    assert_eq!(states(&mut catalog, 5).await, expected);

    // Unless they may be written alone. A router cannot check what another index accepts.
    let whole = upsert(vec![video(7, &both), video(8, &wrong)], false);
    let status = catalog.upsert(whole).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    if checks_first {
        assert_eq!(fields(&status), ["videos[1].vectors[\"towers-4\"]"]);
        assert_eq!(states(&mut catalog, 7).await, [unknown, unknown]);
    } else {
        assert!(
            status.message().ends_with("(index \"v42\"; \"v41\" has written it)"),
            "{}",
            status.message()
        );
    }

    // What no index is asked to write is recorded, too.
    let whole = upsert(vec![video(5, &both), video(4, &none)], false);
    assert_eq!(fields(&catalog.upsert(whole).await.unwrap_err()), ["videos[1].vectors"]);
    let newest = ListChangesRequest { limit: 1, ..ListChangesRequest::default() };
    let newest = admin.list_changes(newest).await.unwrap().into_inner().changes.remove(0);
    assert_eq!(
        (newest.method.as_str(), newest.outcome.as_str(), newest.index.as_str(), newest.count),
        ("Upsert", "INVALID_ARGUMENT", "v41", 2)
    );

    // A takedown is of the video, whatever its embeddings are of.
    let takedown =
        TakedownRequest { index: "videos".into(), video_ids: vec![1], ..TakedownRequest::default() };
    let written = catalog.takedown(takedown).await.unwrap().into_inner();
    assert_eq!((written.written, written.indexes.len()), (1, 2));
    assert_eq!(states(&mut catalog, 1).await, [(State::TakenDown, None); 2]);
    let of_video = ListChangesRequest { index: "videos".into(), limit: 0, video_id: Some(1) };
    let changes = admin.list_changes(of_video).await.unwrap().into_inner().changes;
    let mut of: Vec<_> = changes.iter().map(|of| (of.method.as_str(), of.index.as_str())).collect();
    of.sort_unstable();
    assert_eq!(of, [("Takedown", "v41"), ("Takedown", "v42")]);

    // An index by its own name takes the embedding of its model, too.
    let by_name = UpsertRequest { index: "v42".into(), videos: vec![video(9, &both)], partial: false };
    let written = catalog.upsert(by_name).await.unwrap().into_inner();
    assert_eq!((written.written, written.indexes.len()), (1, 0));
    assert_eq!(written.unused_models, [MODEL, "towers-9"]);
    assert_eq!(states(&mut catalog, 9).await, [unknown, (State::Found, Some(2.0))]);
}

#[tokio::test]
async fn a_write_goes_to_every_index_of_an_alias() {
    let ((old, new), folder) = (indexes(), tempfile::tempdir().unwrap());
    let server = start(&old, &new, &folder.path().join("aliases.json")).await;
    set(&mut server.admin().await, "videos", &["v41", "v42"]).await.unwrap();
    check_writes(server.channel().await, true).await;
}

#[tokio::test]
async fn a_router_has_aliases_of_its_own() {
    let ((old, new), folder) = (indexes(), tempfile::tempdir().unwrap());
    let server = TestServer::start(&[("v41", &old), ("v42", &new)], Setup::default()).await;
    let shards = ["v41", "v42"].map(|name| (name.to_owned(), server.address.to_string()));
    let router = Serving::router_of(shards.into(), with_aliases(&folder.path().join("aliases.json"))).await;
    let mut admin = AdminClient::new(crate::harness::channel(router.address).await);
    set(&mut admin, "videos", &["v41", "v42"]).await.unwrap();
    let mut client = router.retrieval().await;
    for (model, index, of) in [("", "v41", &old), (MODEL, "v41", &old), (OTHER, "v42", &new)] {
        let answer = client.search(search("videos", model)).await.unwrap().into_inner();
        assert_eq!((answer.index.as_str(), ids(&answer)), (index, exact(of)), "{model}");
        let next = SearchRequest { page_token: answer.next_page_token, ..search("videos", model) };
        let expected: Vec<u64> = of.exact(&QUERY, 10).into_iter().skip(5).map(|(id, _)| id).collect();
        assert_eq!(ids(&client.search(next).await.unwrap().into_inner()), expected);
    }
    let status = client.search(search("videos", "towers-5")).await.unwrap_err();
    assert_eq!(
        (status.code(), fields(&status)),
        (Code::FailedPrecondition, vec!["embedding_model".to_owned()])
    );
    let status = admin.get_status(GetStatusRequest { index: "videos".into() }).await.unwrap().into_inner();
    assert_eq!((status.indexes.len(), status.aliases.len()), (2, 1));
    let mut catalog = CatalogClient::new(crate::harness::channel(router.address).await);
    let listed = catalog.list_indexes(ListIndexesRequest {}).await.unwrap().into_inner();
    let models: Vec<&str> = listed.indexes.iter().map(|index| index.embedding_model.as_str()).collect();
    assert_eq!((models, listed.aliases), (vec![MODEL, OTHER], status.aliases));
    check_writes(crate::harness::channel(router.address).await, false).await;
}

#[tokio::test]
async fn an_alias_gives_no_rights_that_a_key_does_not_have() {
    let ((old, new), folder) = (indexes(), tempfile::tempdir().unwrap());
    let keys = vec![
        key("ops", &Role::ALL, None),
        key("of-alias", &Role::ALL, Some("videos")),
        key("of-old", &Role::ALL, Some("v41")),
    ];
    let lines = Lines::default();
    let options = AccessOptions { keys, audit: Audit::to(lines.clone()), ..AccessOptions::default() };
    let mut setup = with_access(options);
    setup.service.aliases = with_aliases(&folder.path().join("aliases.json")).aliases;
    let server = TestServer::start(&[("v41", &old), ("v42", &new)], setup).await;
    let admin = async |key: &str| AdminClient::new(connect(server.address, Some(key)).await);
    let client = async |key: &str| RetrievalClient::new(connect(server.address, Some(key)).await);
    let to = |alias: &str, index: &str| SetAliasRequest { alias: alias.into(), indexes: names(&[index]) };
    let mut ops = admin("ops").await;
    ops.set_alias(to("videos", "v41")).await.unwrap();
    let events = lines.take();
    let expected = json!({
        "who": "ops", "peer": "127.0.0.1", "method": "SetAlias", "index": "", "alias": "videos",
        "indexes": ["v41"], "outcome": "OK",
    });
    assert_eq!(events, [expected]);

    // Who may use an alias may use what it stands for, under that name only.
    let mut of_alias = client("of-alias").await;
    assert_eq!(ids(&of_alias.search(search("videos", "")).await.unwrap().into_inner()), exact(&old));
    assert_eq!(of_alias.search(search("v41", "")).await.unwrap_err().code(), Code::PermissionDenied);
    let mut of_old = client("of-old").await;
    assert_eq!(ids(&of_old.search(search("videos", "")).await.unwrap().into_inner()), exact(&old));
    // Nobody gets at another index by leading an alias there.
    for (key, alias, index) in
        [("of-alias", "videos", "v42"), ("of-old", "videos", "v41"), ("of-old", "v41", "v42")]
    {
        let status = admin(key).await.set_alias(to(alias, index)).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{key} {alias} {index}");
    }
    // Nothing is written if one of the indexes is not the caller's.
    let both = SetAliasRequest { alias: "videos".into(), indexes: names(&["v41", "v42"]) };
    ops.set_alias(both).await.unwrap();
    let mut catalog = CatalogClient::new(connect(server.address, Some("of-old")).await);
    let video_ids = vec![video_id(3)];
    let takedown = TakedownRequest { index: "videos".into(), video_ids, ..TakedownRequest::default() };
    assert_eq!(catalog.takedown(takedown).await.unwrap_err().code(), Code::PermissionDenied);
    let upsert = UpsertRequest { index: "videos".into(), videos: vec![video(1, &[])], partial: true };
    assert_eq!(catalog.upsert(upsert).await.unwrap_err().code(), Code::PermissionDenied);
    let get = GetRequest { index: "v41".into(), video_ids: vec![video_id(3)], ..GetRequest::default() };
    assert_eq!(catalog.get(get).await.unwrap().into_inner().results[0].state(), State::Found);
    ops.set_alias(to("videos", "v42")).await.unwrap();
    assert_eq!(of_old.search(search("videos", "")).await.unwrap_err().code(), Code::PermissionDenied);
    let listed =
        admin("of-old").await.list_aliases(ListAliasesRequest {}).await.unwrap().into_inner().aliases;
    assert_eq!(listed, []);
    let listed = admin("of-alias").await.get_status(GetStatusRequest::default()).await.unwrap().into_inner();
    assert_eq!((listed.indexes.len(), listed.indexes[0].name.as_str(), listed.aliases.len()), (1, "v42", 1));
}
