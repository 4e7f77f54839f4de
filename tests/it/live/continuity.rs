//! What a publication must have in common with the generation that serves: each kind of loss is refused by a running
//! server, stays refused after a restart, and answers only if forced.

use std::path::Path;
use std::time::{Duration, Instant};

use shortlist::base::id::VideoId;
use shortlist::base::metric::Metric;
use shortlist::build::{BuildParams, Silent, stage};
use shortlist::dataset::{AttributeColumn, ColumnValues, Dataset, Embeddings};
use shortlist::engine::{GateOptions, RebuildState, WriteMode};
use shortlist::index::{IndexStore, Measured};
use shortlist::live::Mutation;
use shortlist::recall::calibrate_staged;
use shortlist::service::ServiceOptions;
use shortlist::service::proto::search_params::Effort;
use shortlist::service::proto::{
    ActivateRequest, GetStatusRequest, IndexStatus, SearchParams, SearchRequest,
};
use tonic::Code;

use crate::harness::indexes::random_rows;
use crate::harness::process::{Served, serve};
use crate::harness::wire::{at_least, cap, fresh, must};
use crate::harness::{Setup, TestIndex, TestServer, eventually, request};
use crate::live::gate::open;

const VIDEOS: usize = 1_200;
pub(super) const DIM: usize = 8;
const MODEL: &str = "towers-3";
/// Attributes that [`Job`] writes: a timestamp, and integers.
const PUBLISHED_AT: &str = "published_at";
const VIEWS: &str = "views";
const LIKES: &str = "likes";

/// A batch job.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) videos: usize,
    pub(super) dim: usize,
    pub(super) metric: Metric,
    pub(super) model: Option<&'static str>,
    pub(super) attributes: Vec<&'static str>,
    /// The attribute that is of another type.
    pub(super) double: Option<&'static str>,
    pub(super) has_users: bool,
}

impl Job {
    pub(super) fn new() -> Self {
        Self {
            videos: VIDEOS,
            dim: DIM,
            metric: Metric::InnerProduct,
            model: Some(MODEL),
            attributes: vec![PUBLISHED_AT, VIEWS, LIKES],
            double: None,
            has_users: true,
        }
    }

    pub(super) fn publish(&self, dir: &Path) -> u64 {
        let column = |name: &&'static str| {
            let rows = 0..self.videos as i64;
            let values = match *name {
                name if self.double == Some(name) => {
                    ColumnValues::Double(rows.map(|row| Some(row as f64)).collect())
                }
                PUBLISHED_AT => ColumnValues::Timestamp(rows.map(Some).collect()),
                _ => ColumnValues::Int64(rows.map(Some).collect()),
            };
            AttributeColumn { name: (*name).to_owned(), values }
        };
        let dataset = Dataset {
            embeddings: Embeddings::in_memory(dir, self.dim, random_rows(self.videos, self.dim, 1)),
            ids: (0..self.videos as u64).map(VideoId).collect(),
            attributes: self.attributes.iter().map(column).collect(),
            expires_at: None,
        };
        let users = Embeddings::in_memory(dir, self.dim, random_rows(400, self.dim, 2));
        let params = BuildParams::new(self.metric, 8, 64).unwrap().with_threads(1);
        let params = params.with_embedding_model(self.model.map(str::to_owned));
        let store = IndexStore::new(dir);
        let users = self.has_users.then_some(&users);
        let (staged, times) = stage(&dataset, users, None, &params, &store, &Silent, Instant::now()).unwrap();
        let (curves, _) = calibrate_staged(&staged, 1, &Silent).unwrap();
        store.publish(staged, times, Measured { curves, verdict: None }).unwrap().generation
    }
}

fn quick() -> Setup {
    let service = ServiceOptions { poll_interval: Duration::from_millis(5), ..ServiceOptions::default() };
    // The latency of two small generations differs by chance.
    let gate = GateOptions { max_p99_ratio: 0.0, ..GateOptions::default() };
    Setup { threads: 1, service, gate, ..Setup::default() }
}

async fn start(dir: &Path) -> TestServer {
    TestServer::over(vec![("videos".to_owned(), dir.to_owned())], quick()).await
}

async fn status(server: &TestServer) -> IndexStatus {
    let status = server.admin().await.get_status(GetStatusRequest::default()).await.unwrap();
    status.into_inner().indexes.remove(0)
}

fn plain() -> SearchRequest {
    request(&[1.0; DIM], 5)
}

fn by_target_recall() -> SearchRequest {
    let params = SearchParams { effort: Some(Effort::TargetRecall(0.5)), ..SearchParams::default() };
    SearchRequest { params: Some(params), ..plain() }
}

/// Publishes `job` next to a server that answered `asked`, and checks that it is refused for `reason`.
async fn is_refused(asked: SearchRequest, job: Job, reason: &str, problem: &str) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("index");
    Job::new().publish(&dir);
    let server = start(&dir).await;
    let mut client = server.retrieval().await;
    let before = client.search(asked.clone()).await.unwrap().into_inner();
    job.publish(&dir);
    let counted = format!("shortlist_refused_publications_total{{index=\"videos\",reason=\"{reason}\"}}");
    server.until(&counted, 1.0).await;
    let found = status(&server).await;
    assert_eq!((found.generation, found.available_generations.as_slice()), (1, &[1, 2][..]), "{reason}");
    assert!(
        found.refused.contains("refused by the quality gate") && found.refused.contains(problem),
        "{found:?}"
    );
    let gate = found.gate.unwrap();
    assert_eq!((gate.generation, gate.passed, gate.reasons), (2, false, vec![reason.to_owned()]));
    assert_eq!(gate.problems.len(), 1);
    server.until("shortlist_gate_passed{index=\"videos\"}", 0.0).await;
    // What is asked is answered as before, and the publication is not tried again.
    let after = client.search(asked).await.unwrap().into_inner();
    assert_eq!((after.generation, &after.candidates), (1, &before.candidates));
    assert!(server.engine.refresh().is_empty());
    assert_eq!(server.metric(&counted).await, Some(1.0));
    let mut admin = server.admin().await;
    let activate = |force| ActivateRequest { index: String::new(), generation: 2, force };
    let refused = admin.activate(activate(false)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains(problem), "{refused}");
    server.stop().await;
    // A restart knows the verdict.
    let server = start(&dir).await;
    assert_eq!(status(&server).await.generation, 1);
    let mut admin = server.admin().await;
    let forced = admin.activate(activate(true)).await.unwrap().into_inner().index.unwrap();
    assert_eq!((forced.generation, forced.refused.as_str()), (2, ""));
    server.stop().await;
}

/// Publishes `job` next to a server that answered `asked`, and checks that it serves.
async fn is_served(asked: SearchRequest, job: Job) -> IndexStatus {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("index");
    Job::new().publish(&dir);
    let server = start(&dir).await;
    server.retrieval().await.search(asked).await.unwrap();
    job.publish(&dir);
    server.until("shortlist_generation{index=\"videos\"}", 2.0).await;
    let status = status(&server).await;
    assert_eq!(status.refused, "");
    server.stop().await;
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn another_dimension_or_metric_is_refused() {
    let problem = "expected 8 dimensions as in generation 1, found 4";
    is_refused(plain(), Job { dim: 4, ..Job::new() }, "dimension", problem).await;
    for (metric, name) in [(Metric::Cosine, "cosine"), (Metric::L2, "l2")] {
        let problem = format!("expected the metric ip as in generation 1, found {name}");
        is_refused(plain(), Job { metric, ..Job::new() }, "metric", &problem).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_model_is_refused_and_another_one_if_requests_name_the_old() {
    let named = SearchRequest { embedding_model: MODEL.to_owned(), ..plain() };
    let other = |model| Job { model, ..Job::new() };
    let problem = "expected the embedding model \"towers-3\" as in generation 1, found none";
    is_refused(plain(), other(None), "embedding_model", problem).await;
    let problem = "expected the embedding model \"towers-3\" as in generation 1, which requests name, found \"towers-4\"";
    is_refused(named, other(Some("towers-4")), "embedding_model", problem).await;
    assert_eq!(is_served(plain(), other(Some("towers-4"))).await.embedding_model, "towers-4");
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_that_requests_use_must_stay() {
    let uses = [
        SearchRequest { filter: Some(must(vec![at_least(VIEWS, 3)])), ..plain() },
        SearchRequest { caps: vec![cap(VIEWS, 3)], ..plain() },
        SearchRequest { return_attributes: vec![VIEWS.to_owned()], ..plain() },
    ];
    let without = |lost: &str| {
        let attributes = Job::new().attributes.into_iter().filter(|name| *name != lost).collect();
        Job { attributes, ..Job::new() }
    };
    let problem = "expected attributes that requests use: \"views\" of type int64, found none";
    for asked in uses.clone() {
        is_refused(asked, without(VIEWS), "attributes", problem).await;
    }
    let asked = SearchRequest { fresh: fresh(PUBLISHED_AT, 1), ..plain() };
    let lost = "expected attributes that requests use: \"published_at\" of type timestamp, found none";
    is_refused(asked, without(PUBLISHED_AT), "attributes", lost).await;
    let of_other_type = Job { double: Some(VIEWS), ..Job::new() };
    let problem = "expected attributes that requests use: \"views\" of type int64, found double";
    is_refused(uses[1].clone(), of_other_type.clone(), "attributes", problem).await;
    // Those that nobody uses may change.
    is_served(uses[0].clone(), without(LIKES)).await;
    is_served(plain(), of_other_type).await;
    // A request for all that there are needs none of them.
    let all = SearchRequest { return_attributes: vec!["*".to_owned()], ..plain() };
    is_served(all, without(VIEWS)).await;
    // All of them do not go by intent.
    let problem = "expected attributes as in generation 1, which has 3, found none";
    is_refused(plain(), Job { attributes: Vec::new(), ..Job::new() }, "attributes", problem).await;
}

/// Held-out users of the generation that serves are asked although the new one has none.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_calibration_is_refused_and_the_users_of_before_are_asked() {
    let job = Job { has_users: false, ..Job::new() };
    let problem =
        "expected a calibration as in generation 1, which requests with a target recall use, found none";
    is_refused(by_target_recall(), job.clone(), "calibration", problem).await;
    let problem = "expected a calibration as in generation 1, found none";
    is_refused(plain(), job.clone(), "calibration", problem).await;

    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("index");
    Job::new().publish(&dir);
    let server = start(&dir).await;
    job.publish(&dir);
    server.until("shortlist_gate_passed{index=\"videos\"}", 0.0).await;
    let gate = status(&server).await.gate.unwrap();
    assert_eq!((gate.queries, gate.current), (40, 1));
    assert_eq!(gate.source, "users that the build of the current generation held out");
    assert!(gate.recall > 0.9 && gate.current_recall.unwrap() > 0.9, "{gate:?}");
    server.until("shortlist_gate_queries{index=\"videos\"}", 40.0).await;
    server.stop().await;
}

/// The users of both generations are asked, each once.
#[tokio::test(flavor = "multi_thread")]
async fn users_of_both_generations_judge_the_new_one() {
    let gate = is_served(plain(), Job::new()).await.gate.unwrap();
    assert_eq!(gate.source, "users that the build and that of the current generation held out");
    assert_eq!((gate.queries, gate.passed), (40, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn far_fewer_videos_are_refused() {
    let job = |videos| Job { videos, ..Job::new() };
    let problem = |found| format!("expected at least 0.5 of 1200 videos, found {found}");
    is_refused(plain(), job(599), "videos", &problem(599)).await;
    is_refused(plain(), Job { has_users: true, ..job(30) }, "videos", &problem(30)).await;
    is_served(plain(), job(600)).await;
}

/// Every problem is reported, and counted under its reason.
#[tokio::test(flavor = "multi_thread")]
async fn several_problems_are_reported_together() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("index");
    Job::new().publish(&dir);
    let server = start(&dir).await;
    let job =
        Job { videos: 1, dim: 3, metric: Metric::L2, model: None, attributes: Vec::new(), ..Job::new() };
    Job { has_users: false, ..job }.publish(&dir);
    let reasons = ["dimension", "metric", "embedding_model", "attributes", "calibration", "videos"];
    for reason in reasons {
        let counted = format!("shortlist_refused_publications_total{{index=\"videos\",reason=\"{reason}\"}}");
        server.until(&counted, 1.0).await;
    }
    assert_eq!(status(&server).await.gate.unwrap().reasons, reasons);
    server.stop().await;
}

/// Videos that were deleted are not missed, and the share can be set.
#[test]
fn the_share_of_videos_counts_those_that_searches_return() {
    let index = TestIndex::new(100);
    let engine = open(&index, GateOptions::default());
    let delete = |row| Mutation::Delete(VideoId(crate::harness::video_id(row)));
    engine.write("", (0..90).map(delete).collect(), WriteMode::AllOrNothing).unwrap();
    engine.start_rebuild("").unwrap();
    while engine.status("").unwrap().live.rebuild.state.is_underway() {
        std::thread::yield_now();
    }
    let status = engine.status("").unwrap();
    assert_eq!((status.live.rebuild.state, status.generation, status.vectors), (RebuildState::Done, 2, 10));
    for (share, generation) in [(0.0, 2), (0.02, 2), (0.03, 1)] {
        let mut index = TestIndex::new(100);
        let engine = open(&index, GateOptions { min_videos_share: share, ..GateOptions::default() });
        index.publish(2);
        engine.refresh();
        assert_eq!(engine.status("").unwrap().generation, generation, "share {share}");
    }
}

/// Without measurements, the two generations are still compared.
#[test]
fn a_disabled_gate_still_refuses_another_catalog() {
    let mut index = TestIndex::new(100);
    let engine = open(&index, GateOptions { queries: 0, ..GateOptions::default() });
    index.publish(100);
    engine.refresh();
    let status = engine.status("").unwrap();
    assert_eq!((status.generation, status.gate), (2, None));
    index.publish(3);
    engine.refresh();
    let status = engine.status("").unwrap();
    assert_eq!(status.generation, 2);
    assert_eq!(status.gate.unwrap().found.source, "nothing measured: gate.queries is 0");
}

/// The log of the real server says that nothing was measured, in fields of its own, and the build says that its
/// generation is refused.
#[test]
fn the_log_has_plain_fields_and_the_build_foresees_a_refusal() {
    let mut index = TestIndex::new(100);
    let mut served = Served::start(serve(&index));
    index.publish(90);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let until = |line: &str| {
        runtime.block_on(eventually(line, async || {
            crate::harness::http1_get(served.address, "/metrics").await.lines().any(|found| found == line)
        }));
    };
    until("shortlist_generation{index=\"default\"} 2");
    until("shortlist_gate_queries{index=\"default\"} 0");
    until("shortlist_rebuild_state{index=\"default\",state=\"idle\"} 1");
    let rows = index.dir().with_file_name("few.npy");
    shortlist::dataset::write_npy(&rows, &[2, 3], &[1.0f32; 6]).unwrap();
    let mut build = crate::harness::process::shortlist();
    build.args(["build", "--embeddings"]).arg(&rows).arg("--out").arg(index.dir());
    let output = build.output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    let expected = "a server of generation 2 with default gate settings refuses generation 3 unless it is activated by \
                    force: expected 8 dimensions as in generation 2, found 3";
    assert!(told.contains(expected), "{told}");
    until("shortlist_refused_publications_total{index=\"default\",reason=\"dimension\"} 1");
    served.terminate();
    let mut log = String::new();
    std::io::Read::read_to_string(&mut served.stderr, &mut log).unwrap();
    let line =
        log.lines().find(|line| line.contains("quality gate") && line.contains("generation=2")).unwrap();
    assert!(line.contains("passed=true") && line.contains("queries=0"), "{line}");
    assert!(log.contains("the quality gate measured no recall"), "{log}");
    assert!(!log.contains("GateFindings") && !log.contains("Some("), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn short_answers_rebuilds_and_the_time_of_the_generation_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("index");
    Job::new().publish(&dir);
    let server = start(&dir).await;
    let mut client = server.retrieval().await;
    let few = SearchRequest { filter: Some(must(vec![at_least(VIEWS, VIDEOS as i64 - 3)])), ..plain() };
    for asked in [plain(), request(&[1.0; DIM], 2_000), few.clone(), few] {
        client.search(asked).await.unwrap();
    }
    let short = |reason| format!("shortlist_short_answers_total{{index=\"videos\",reason=\"{reason}\"}}");
    server.until(&short("index_exhausted"), 1.0).await;
    server.until(&short("too_few_matches"), 2.0).await;
    assert_eq!(server.metric(&short("deadline")).await, None);
    let state = |state| format!("shortlist_rebuild_state{{index=\"videos\",state=\"{state}\"}}");
    server.until(&state("idle"), 1.0).await;
    server.engine.start_rebuild("").unwrap();
    server.until(&state("done"), 1.0).await;
    assert_eq!(server.metric(&state("idle")).await, Some(0.0));
    server.until("shortlist_generation{index=\"videos\"}", 2.0).await;
    let published = server.engine.status("").unwrap().published_at.as_second();
    server.until("shortlist_generation_timestamp_seconds{index=\"videos\"}", published as f64).await;
    server.stop().await;
}
