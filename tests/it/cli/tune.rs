//! Target recall: calibrations of an index, and how a server uses them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Duration;

use shortlist::base::interrupt::Interrupt;
use shortlist::base::metric::Metric;
use shortlist::build::{BuildParams, Progress, Silent};
use shortlist::dataset::{Embeddings, EmbeddingsView, Neighbors, Rows, write_npy};
use shortlist::engine::Limits;
use shortlist::index::{Codes, Index, IndexStore, QuerySource, RecallCurves, StoreError};
use shortlist::recall::{CalibrateError, calibrate, ground_truth};
use shortlist::search::{Effort, SearchParams as Params, Searcher};
use shortlist::service::ServiceOptions;
use shortlist::service::proto::{
    ActivateRequest, BatchSearchRequest, GetStatusRequest, SearchParams, SearchRequest, SearchResponse,
    batch_search_result, search_params,
};
use shortlist::synth::{SynthFiles, SynthParams, synth};
use tempfile::TempDir;
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::indexes::{build_index, dataset_of, random_rows};
use crate::harness::{DIM, Setup, TestIndex, TestServer, eventually, request};
use crate::index::recall_curve::{curves, simple};

/// A catalog with many users and a poor graph, so that recall depends on the effort, built by the command. One thread
/// builds the same graph every time.
struct Taught {
    folder: TempDir,
    files: SynthFiles,
    built: String,
}

impl Taught {
    fn get() -> &'static Self {
        static TAUGHT: OnceLock<Taught> = OnceLock::new();
        TAUGHT.get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let params = SynthParams { videos: 5000, dim: 32, users: 12_500, seed: 12, duplicates: 0 };
            let files = synth(params, &folder.path().join("catalogue"), |_| {}).unwrap();
            let built = succeed(&[
                "build",
                "--embeddings",
                text(&files.videos),
                "--ids",
                text(&files.video_ids),
                "--training-queries",
                text(&files.users_train),
                "--m",
                "4",
                "--ef-construction",
                "16",
                "--threads",
                "1",
                "--out",
                text(&folder.path().join("index")),
            ]);
            Self { folder, files, built }
        })
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("index")
    }
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shortlist")).args(arguments).output().unwrap()
}

fn succeed(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn fail(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Every file of a folder, with its bytes.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect()
}

fn target(request: SearchRequest, recall: f32) -> SearchRequest {
    let effort = Some(search_params::Effort::TargetRecall(recall));
    SearchRequest {
        params: Some(SearchParams { effort, ..SearchParams::default() }),
        return_stats: true,
        ..request
    }
}

/// Polls for publications at short intervals.
fn watchful() -> Setup {
    let poll_interval = Duration::from_millis(5);
    Setup { service: ServiceOptions { poll_interval, ..ServiceOptions::default() }, ..Setup::default() }
}

#[test]
fn one_traversal_answers_every_k_as_a_search_of_its_own_would() {
    let folder = tempfile::tempdir().unwrap();
    for (metric, codes) in [
        (Metric::InnerProduct, Codes::Sq8),
        (Metric::Cosine, Codes::Sq8),
        (Metric::L2, Codes::Sq8),
        (Metric::L2, Codes::None),
    ] {
        let dataset = dataset_of(folder.path(), &random_rows(800, 12, 5), 12, metric);
        let params = BuildParams::new(metric, 6, 40).unwrap().with_codes(codes).unwrap();
        let index = build_index(&dataset, &params, &folder.path().join(metric.to_string()));
        let searcher = Searcher::default();
        let ks = [1, 7, 40, 90];
        for query in random_rows(20, 12, 6).chunks(12) {
            for ef_search in [1, 3, 20, 90] {
                let each =
                    searcher.search_each(&index, query, &ks, ef_search, &mut Interrupt::never()).unwrap();
                for (k, hits) in ks.iter().zip(each) {
                    let params = Params::new(*k, Effort::EfSearch(ef_search)).unwrap();
                    let alone = searcher.search(&index, query, &params, &mut Interrupt::never()).hits;
                    assert_eq!(hits, alone, "{metric} {k} {ef_search}");
                    assert_eq!(hits.len(), *k);
                }
            }
            let mut is_over = || true;
            let mut interrupt = Interrupt::when(&mut is_over);
            assert!(searcher.search_each(&index, query, &ks, 90, &mut interrupt).is_err());
        }
    }
}

/// Cancels from a phase on.
struct StopAt(&'static str, std::sync::atomic::AtomicBool);

impl Progress for StopAt {
    fn begin(&self, phase: &'static str, _: u64) {
        self.1.fetch_or(phase == self.0, std::sync::atomic::Ordering::Relaxed);
    }
    fn advance(&self, _: u64) {}
    fn is_cancelled(&self) -> bool {
        self.1.load(std::sync::atomic::Ordering::Relaxed)
    }
}

#[test]
fn a_calibration_that_cannot_be_made_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset_of(folder.path(), &random_rows(300, 4, 1), 4, Metric::InnerProduct);
    let params = BuildParams::new(Metric::InnerProduct, 6, 40).unwrap();
    let index = build_index(&dataset, &params, &folder.path().join("index"));
    let rows = random_rows(30, 4, 2);
    let users = EmbeddingsView::F32(Rows::contiguous(&rows, 4));
    let tune = |users, ks: &[usize]| calibrate(&index, users, QuerySource::Queries, ks, &Silent);
    for phase in ["finding exact answers", "measuring recall"] {
        let stop = StopAt(phase, false.into());
        let stopped = calibrate(&index, users, QuerySource::Queries, &[10], &stop);
        assert!(matches!(stopped, Err(CalibrateError::Cancelled)), "{phase}");
    }
    let wide = EmbeddingsView::F32(Rows::contiguous(&rows, 5));
    assert!(matches!(tune(wide, &[10]), Err(CalibrateError::Dimension { expected: 4, found: 5 })));
    assert!(matches!(tune(users, &[]), Err(CalibrateError::Nothing("k"))));
    assert!(matches!(tune(users, &[0, 5]), Err(CalibrateError::ZeroK)));
    let none = EmbeddingsView::F32(Rows::contiguous(&[], 4));
    assert!(matches!(tune(none, &[10]), Err(CalibrateError::Nothing("queries"))));
    // A k above the number of videos counts as that number.
    let curves = tune(users, &[1000, 10, 500, 10]).unwrap();
    assert_eq!(curves.reaches().map(|(k, _)| k).collect::<Vec<_>>(), [10, 300]);
    assert_eq!(curves.queries, 30);
    assert_eq!(curves.ef_search(300, 1.0), Ok(1), "an index this small is scanned");
}

/// The measured recall of a server over users, and the recall that it reports.
async fn asked_for(
    server: &TestServer,
    users: EmbeddingsView<'_>,
    truth: &Neighbors,
    ids: &[u64],
    k: usize,
    recall: f32,
) -> (f64, f64, u32) {
    let mut client = server.retrieval().await;
    let (mut found, mut stats) = (0, Vec::new());
    let rows: Vec<usize> = (0..users.len()).collect();
    for rows in rows.chunks(250) {
        let request_of = |row: &usize| {
            let mut user = Vec::new();
            users.copy_row(*row, &mut user);
            target(request(&user, k as u32), recall)
        };
        let batch = BatchSearchRequest { requests: rows.iter().map(request_of).collect() };
        let results = client.batch_search(batch).await.unwrap().into_inner().results;
        for (row, result) in rows.iter().zip(results) {
            let Some(batch_search_result::Result::Response(response)) = result.result else {
                panic!("k {k}, {recall}: {result:?}")
            };
            let exact: Vec<u64> = truth.row(*row)[..k].iter().map(|row| ids[*row as usize]).collect();
            found += response.candidates.iter().filter(|found| exact.contains(&found.video_id)).count();
            stats.push(response.stats.unwrap());
        }
    }
    assert!(stats.iter().all(|one| one.ef_search == stats[0].ef_search));
    let measured = f64::from(stats[0].measured_recall.unwrap());
    (found as f64 / (users.len() * k) as f64, measured, stats[0].ef_search)
}

#[tokio::test(flavor = "multi_thread")]
async fn users_whom_nobody_has_seen_find_what_was_asked_for() {
    let taught = Taught::get();
    assert!(taught.built.contains("1000 held-out users"), "{}", taught.built);
    let store = IndexStore::new(taught.dir());
    assert_eq!(store.calibrations(1).unwrap(), [1]);
    let index = store.open_generation(1).unwrap();
    let ids: Vec<u64> = index.video_ids().iter().map(|id| id.0).collect();
    let users = Embeddings::open(&taught.files.users_test).unwrap();
    let truth = ground_truth(index.vectors(), users.view(), Metric::InnerProduct, 100, |_| {});
    let server = TestServer::over(vec![("videos".into(), taught.dir())], Setup::default()).await;
    let mut last = 0;
    for k in [10, 40, 100] {
        for recall in [0.9f32, 0.95, 0.99] {
            let (found, measured, ef_search) =
                asked_for(&server, users.view(), &truth, &ids, k, recall).await;
            let context =
                format!("k {k}, target {recall}, ef_search {ef_search}: {measured} measured, {found} found");
            assert!(measured >= f64::from(recall) - 1e-6, "{context}");
            assert!((found - measured).abs() < 0.015, "{context}");
            // The minimum effort may exceed the target.
            let surplus = ef_search == 1;
            assert!(found > f64::from(recall) - 0.015, "{context}");
            assert!(surplus || found < f64::from(recall) + 0.015, "{context}");
            assert!(ef_search > last || recall == 0.9, "{context}");
            last = ef_search;
        }
    }
    server.stop().await;
}

/// A copy of an index that a test may modify.
fn copy(dir: &Path) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, bytes) in contents(dir) {
        std::fs::write(folder.path().join(path.file_name().unwrap()), bytes).unwrap();
    }
    folder
}

#[test]
fn tune_adds_a_file_and_changes_none() {
    let folder = copy(&Taught::get().dir());
    let before = contents(folder.path());
    let said = succeed(&["tune", "--index", text(folder.path()), "-k", "5,20"]);
    assert!(said.contains("1000 held-out users"), "{said}");
    let efforts = |k: &str| -> Vec<String> {
        let mut rows =
            said.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        rows.rfind(|cells| cells.first().is_some_and(|cell| cell == k)).unwrap_or_default()
    };
    for k in ["5", "20"] {
        let cells = efforts(k);
        assert!(cells.len() == 5 && cells[1].parse::<u32>().is_ok_and(|effort| effort >= 1), "{said}");
        assert!(cells[4].parse::<f64>().is_ok_and(|recall| (0.9..=1.0).contains(&recall)), "{said}");
    }
    let mut after = contents(folder.path());
    let added = after.remove(&folder.path().join("calibration-00000001-0002.json"));
    assert!(added.is_some());
    assert!(before == after, "tune changed a file, or left one");
    let inspected = succeed(&["inspect", text(folder.path())]);
    assert!(
        inspected.contains("calibration      2 of") && inspected.contains("\n                       5 "),
        "{inspected}"
    );
    assert!(succeed(&["verify", text(folder.path())]).contains("2 calibrations"));
    let users = text(&Taught::get().files.users_test);
    let said = succeed(&["tune", "--index", text(folder.path()), "--queries", users, "--threads", "1"]);
    assert!(said.contains("2500 queries of a file"), "{said}");
}

/// An index without a calibration, open.
fn untuned() -> (TestIndex, IndexStore, Index) {
    let index = TestIndex::new(400);
    let store = IndexStore::new(index.dir());
    let open = store.open_generation(1).unwrap();
    (index, store, open)
}

async fn search(server: &TestServer, request: SearchRequest) -> Result<SearchResponse, tonic::Status> {
    server.retrieval().await.search(request).await.map(tonic::Response::into_inner)
}

fn refused(result: Result<SearchResponse, tonic::Status>) -> (Code, String) {
    let status = result.unwrap_err();
    let details = status.get_error_details();
    let violation = &details.bad_request().unwrap().field_violations[0];
    assert_eq!(violation.field, "params.target_recall");
    (status.code(), status.message().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recall_that_nobody_measured_is_refused_until_a_running_server_finds_it_measured() {
    let (index, store, open) = untuned();
    let server = TestServer::start(&[("videos", &index)], watchful()).await;
    let dir = index.dir().display().to_string();
    let of = |recall| target(request(&index.rows[3], 10), recall);
    let (code, message) = refused(search(&server, of(0.9)).await);
    assert_eq!(code, Code::FailedPrecondition);
    assert_eq!(
        message,
        format!(
            "params.target_recall: index \"videos\" is not calibrated: the recall of generation 1 was not \
             measured; run `shortlist tune --index {dir}`, or set ef_search"
        )
    );
    for impossible in [0.0, -0.5, 1.01, f32::NAN, f32::INFINITY] {
        let (code, message) = refused(search(&server, of(impossible)).await);
        assert_eq!(code, Code::InvalidArgument);
        let expected =
            format!("params.target_recall: expected more than 0 and at most 1, found {impossible}");
        assert_eq!(message, expected);
    }
    let mut by_effort = request(&index.rows[3], 10);
    by_effort.return_stats = true;
    let stats = search(&server, by_effort.clone()).await.unwrap().stats.unwrap();
    assert_eq!(stats.measured_recall, None);
    assert!(succeed(&["inspect", &dir]).contains("calibration      none"));
    let error = fail(&["tune", "--index", &dir]);
    assert!(
        error.contains("built without users to measure with: pass user embeddings with --queries"),
        "{error}"
    );
    assert!(store.calibrations(1).unwrap().is_empty());

    let users = index.dir().with_file_name("users.npy");
    let rows: Vec<[f32; DIM]> = index.rows.iter().map(|row| row.map(|value| value + 0.3)).collect();
    write_npy(&users, &[rows.len(), DIM], rows.as_flattened()).unwrap();
    let error = fail(&["tune", "--index", &dir, "--queries", &dir]);
    assert!(error.starts_with(&format!("error: {dir}")), "{error}");
    succeed(&["tune", "--index", &dir, "--queries", text(&users)]);
    eventually("the calibration", async || search(&server, of(0.9)).await.is_ok()).await;
    let stats = search(&server, of(0.95)).await.unwrap().stats.unwrap();
    let recall = store.read_calibration(1, 1, &open).unwrap().recall;
    assert_eq!(stats.ef_search as usize, recall.ef_search(10, 0.95).unwrap());
    assert!(stats.measured_recall.unwrap() >= 0.95, "{stats:?}");
    let stats = search(&server, by_effort).await.unwrap().stats.unwrap();
    assert!(stats.measured_recall.is_some());

    let address = server.address.to_string();
    let vector = format!("{}:7", text(&users));
    let query = ["query", "--addr", &address, "--vector", &vector, "--target-recall", "0.9"];
    let said = tokio::task::spawn_blocking({
        let query = query.map(str::to_owned);
        move || succeed(&query.each_ref().map(String::as_str))
    });
    let said = said.await.unwrap();
    assert!(said.contains(" · ef_search ") && said.contains(" · measured recall "), "{said}");
    let both = run(&[&query[..], &["--exact"]].concat());
    assert_eq!(both.status.code(), Some(2), "--exact and --target-recall exclude each other");
    server.stop().await;
}

#[tokio::test]
async fn what_was_not_measured_or_never_reached_is_refused() {
    let (index, store, open) = untuned();
    store.add_calibration(1, &open, simple()).unwrap();
    let limits = Limits { max_ef_search: 50, ..Limits::default() };
    let setup = Setup { limits, ..Setup::default() };
    let server = TestServer::start(&[("videos", &index)], setup).await;
    let of = |k, recall| target(request(&index.rows[3], k), recall);
    let stats = search(&server, of(10, 0.9)).await.unwrap().stats.unwrap();
    assert_eq!((stats.ef_search, stats.measured_recall), (20, Some(0.9)));
    let (code, message) = refused(search(&server, of(10, 0.99)).await);
    assert_eq!(code, Code::FailedPrecondition);
    assert_eq!(
        message,
        "params.target_recall: the best recall measured for k = 10 on generation 1 of index \"videos\", with the \
         effort that this server allows, is 0.97, the request is for 0.99; an exact search finds all"
    );
    // Reachable, but only above the maximum effort of the server.
    let (_, message) = refused(search(&server, of(10, 0.97)).await);
    assert!(message.contains("is 0.9462, the request is for 0.97"), "{message}");
    let (code, message) = refused(search(&server, of(30, 0.5)).await);
    assert_eq!(code, Code::FailedPrecondition);
    assert_eq!(
        message,
        "params.target_recall: generation 1 of index \"videos\" is calibrated up to k = 20, the request is for 30"
    );
    let status = server.admin().await.get_status(GetStatusRequest::default()).await.unwrap().into_inner();
    let reaches: Vec<(u32, f32)> =
        status.indexes[0].calibration.iter().map(|one| (one.k, one.max_recall)).collect();
    assert_eq!(reaches, [(10, 0.97), (20, 0.98)]);
    let exact = Some(search_params::Effort::Exact(true));
    let exact = SearchRequest {
        params: Some(SearchParams { effort: exact, ..SearchParams::default() }),
        ..of(10, 0.9)
    };
    assert_eq!(search(&server, exact).await.unwrap().stats.unwrap().measured_recall, None);
    server.stop().await;
}

#[tokio::test]
async fn each_generation_has_its_own_calibrations() {
    let (mut index, store, open) = untuned();
    store.add_calibration(1, &open, simple()).unwrap();
    index.publish(300);
    let server = TestServer::of(&index).await;
    let of = |recall| target(request(&index.rows[3], 10), recall);
    assert!(refused(search(&server, of(0.9)).await).1.contains("generation 2"));
    let activate = ActivateRequest { generation: 1, ..ActivateRequest::default() };
    let status = server.admin().await.activate(activate).await.unwrap().into_inner().index.unwrap();
    assert_eq!(status.calibration.len(), 2);
    let answer = search(&server, of(0.9)).await.unwrap();
    assert_eq!((answer.generation, answer.stats.unwrap().ef_search), (1, 20));
    server.stop().await;
}

#[tokio::test]
async fn a_calibration_that_cannot_be_trusted_is_passed_over() {
    let (mut index, store, open) = untuned();
    store.add_calibration(1, &open, simple()).unwrap();
    let (one, two) = (
        index.dir().join("calibration-00000001-0001.json"),
        index.dir().join("calibration-00000001-0002.json"),
    );
    let text_of_one = std::fs::read_to_string(&one).unwrap();
    let problem = || match store.read_calibration(1, 2, &open) {
        Err(StoreError::BadCalibration { path, problem }) if path == two => problem,
        other => panic!("{other:?}"),
    };
    for (from, to, expected) in [
        ("\"found\": 970", "\"found\": 999", "damaged: expected crc32c "),
        ("\"format_version\": 1", "\"format_version\": 2", "damaged: expected crc32c "),
        ("\"queries\": 100", "\"users\": 100", "unknown field `users`"),
        ("\"crc32c\"", "\"crc\"", "field \"crc32c\" is missing"),
        ("\"crc32c\"", "\"more\": 1, \"crc32c\"", "unknown field \"more\""),
        ("", "", "expected calibration 2 of generation 1, found 1 of 1"),
    ] {
        assert!(text_of_one.contains(from));
        std::fs::write(&two, text_of_one.replacen(from, to, 1)).unwrap();
        assert!(problem().starts_with(expected), "{from}: {}", problem());
        let (calibration, passed_over) = store.open_calibration(1, &open).unwrap();
        assert_eq!((calibration.unwrap().calibration, passed_over.len()), (1, 1));
    }
    let dir = index.dir();
    assert!(succeed(&["inspect", text(&dir)]).contains("passed over      "));
    assert!(fail(&["verify", text(&dir)]).contains("calibration-00000001-0002.json: expected calibration 2"));
    let server = TestServer::of(&index).await;
    let answer = search(&server, target(request(&index.rows[3], 10), 0.9)).await.unwrap();
    assert_eq!(answer.stats.unwrap().ef_search, 20);
    server.stop().await;

    // Well-formed, but with contradictory curves.
    for wrong in [
        curves(&[]),
        curves(&[(10, &[])]),
        curves(&[(0, &[(10, 5)])]),
        curves(&[(10, &[(0, 5)])]),
        curves(&[(10, &[(10, 5), (20, 5)])]),
        curves(&[(10, &[(10, 5), (10, 6)])]),
        curves(&[(10, &[(10, 1001)])]),
        curves(&[(10, &[(10, 5)]), (10, &[(10, 5)])]),
        RecallCurves { queries: 0, ..simple() },
    ] {
        std::fs::remove_file(&two).unwrap();
        store.add_calibration(1, &open, wrong.clone()).unwrap();
        let problem = problem();
        assert!(problem.contains("expected") || problem.contains("contradicts"), "{wrong:?}: {problem}");
    }

    // Well-formed, but measured on another file of the same name.
    index.publish(400);
    let other = store.open_generation(2).unwrap();
    std::fs::remove_file(&two).unwrap();
    store.add_calibration(1, &other, simple()).unwrap();
    assert!(problem().starts_with("measured on another generation 1: expected "), "{}", problem());
}
