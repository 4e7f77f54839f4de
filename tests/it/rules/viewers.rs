//! Real viewers and real videos, over gRPC: seen videos are excluded, videos are of the viewer's region, no creator occurs
//! twice, and answers are complete.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use shortlist::base::metric::Metric;
use shortlist::build::BuildParams;
use shortlist::dataset::{Dataset, DatasetFiles};
use shortlist::service::proto::completeness::Reason;
use shortlist::service::proto::{
    BatchSearchRequest, BatchSearchResult, SearchRequest, SearchResponse, batch_search_result,
};

use crate::harness::indexes::{build_index, shared_data};
use crate::harness::wire::{cap, excluding, ids, list, must, product};
use crate::harness::{Setup, TestServer, request};

const K: usize = 100;
/// Requests per batch.
const BATCH: usize = 200;

struct Video {
    id: u64,
    vector: Vec<f32>,
    /// The number of its creator.
    creator: Option<usize>,
    regions: Vec<String>,
}

struct Viewer {
    vector: Vec<f32>,
    region: String,
    seen: HashSet<u64>,
}

/// The result of a scan of every video for a viewer.
struct Expected {
    /// At most k, best first.
    best: Vec<u64>,
    /// Number of videos that qualify, of any score.
    all: usize,
    /// Whether the exclusion and the cap change the answer.
    is_seen_felt: bool,
    is_cap_felt: bool,
}

fn read(path: &Path) -> Vec<Row> {
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    reader.get_row_iter(None).unwrap().map(Result::unwrap).collect()
}

fn field<'r>(row: &'r Row, name: &str) -> &'r Field {
    row.get_column_iter().find(|(of, _)| *of == name).expect("the column").1
}

/// The items of a list that are not null.
fn items<'r, T>(row: &'r Row, name: &str, item: impl Fn(&'r Field) -> T) -> Vec<T> {
    match field(row, name) {
        Field::ListInternal(list) => {
            list.elements().iter().filter(|item| **item != Field::Null).map(item).collect()
        }
        Field::Null => Vec::new(),
        other => panic!("expected a list, found {other}"),
    }
}

fn text(field: &Field) -> Option<String> {
    match field {
        Field::Str(text) => Some(text.clone()),
        Field::Null => None,
        other => panic!("expected text, found {other}"),
    }
}

fn id(field: &Field) -> u64 {
    if let Field::ULong(id) = field { *id } else { panic!("expected an id, found {field}") }
}

fn vector(row: &Row) -> Vec<f32> {
    items(row, "embedding", |component| {
        if let Field::Float(component) = component { *component } else { panic!("found {component}") }
    })
}

fn read_videos(path: &Path) -> Vec<Video> {
    let mut numbers = HashMap::new();
    let mut number = |creator: String| {
        let next = numbers.len();
        *numbers.entry(creator).or_insert(next)
    };
    let mut video = |row: &Row| Video {
        id: id(field(row, "video_id")),
        vector: vector(row),
        creator: text(field(row, "creator")).map(&mut number),
        regions: items(row, "regions", text).into_iter().flatten().collect(),
    };
    read(path).iter().map(&mut video).collect()
}

fn read_viewers(path: &Path) -> Vec<Viewer> {
    let viewer = |row: &Row| Viewer {
        vector: vector(row),
        region: text(field(row, "region")).expect("a region"),
        seen: items(row, "seen", id).into_iter().collect(),
    };
    read(path).iter().map(viewer).collect()
}

/// `videos` are those of the viewer's region.
fn expected(videos: &[&Video], viewer: &Viewer) -> Expected {
    let score = |video: &&Video| product(&viewer.vector, &video.vector);
    let mut order: Vec<(f32, &Video)> = videos.iter().map(|video| (score(video), *video)).collect();
    order.sort_unstable_by(|(a, one), (b, other)| b.total_cmp(a).then(one.id.cmp(&other.id)));
    let mut expected = Expected { best: Vec::new(), all: 0, is_seen_felt: false, is_cap_felt: false };
    let mut creators = HashSet::new();
    for (_, video) in order {
        let is_page_open = expected.best.len() < K;
        if viewer.seen.contains(&video.id) {
            expected.is_seen_felt |= is_page_open;
        } else if video.creator.is_some_and(|creator| !creators.insert(creator)) {
            expected.is_cap_felt |= is_page_open;
        } else {
            expected.best.extend(is_page_open.then_some(video.id));
            expected.all += 1;
        }
    }
    expected
}

fn search(viewer: &Viewer) -> SearchRequest {
    SearchRequest {
        filter: Some(must(vec![list("regions", &[&viewer.region])])),
        exclude: excluding(viewer.seen.iter().copied()),
        caps: vec![cap("creator", 1)],
        ..request(&viewer.vector, K as u32)
    }
}

fn response(result: BatchSearchResult) -> SearchResponse {
    match result.result.unwrap() {
        batch_search_result::Result::Response(response) => response,
        batch_search_result::Result::Error(error) => panic!("{error:?}"),
    }
}

/// The first violation of the rules in an answer.
fn violations(response: &SearchResponse, viewer: &Viewer, videos: &HashMap<u64, &Video>) -> Vec<String> {
    let (mut wrong, mut creators, mut before) = (Vec::new(), HashSet::new(), HashSet::new());
    for candidate in &response.candidates {
        let video = videos[&candidate.video_id];
        let score = product(&viewer.vector, &video.vector);
        let checks = [
            (viewer.seen.contains(&video.id), "was seen"),
            (!video.regions.contains(&viewer.region), "is of other regions"),
            (video.creator.is_some_and(|creator| !creators.insert(creator)), "is of a creator that is there"),
            (!before.insert(video.id), "is there twice"),
            ((candidate.score - score).abs() > 1e-5, "scores otherwise"),
        ];
        let broken = checks.into_iter().filter(|(is_so, _)| *is_so);
        wrong.extend(broken.map(|(_, what)| format!("video {} {what}", video.id)));
    }
    wrong
}

#[tokio::test]
async fn every_viewer_gets_unseen_videos_of_the_region_one_of_each_creator() {
    let Some(data) = shared_data() else { return };
    let folder = tempfile::tempdir().unwrap();
    let parquet = data.join("videos/videos.parquet");
    let files = DatasetFiles::of(parquet.clone());
    let dataset = Dataset::open(&files, Metric::InnerProduct).unwrap();
    let params = BuildParams::new(Metric::InnerProduct, 16, 100).unwrap();
    build_index(&dataset, &params, folder.path());
    let server =
        TestServer::over(vec![("videos".to_owned(), folder.path().to_owned())], Setup::default()).await;
    let mut client = server.retrieval().await;

    let videos = read_videos(&parquet);
    let by_id: HashMap<u64, &Video> = videos.iter().map(|video| (video.id, video)).collect();
    let mut by_region: HashMap<&str, Vec<&Video>> = HashMap::new();
    for video in &videos {
        video.regions.iter().for_each(|region| by_region.entry(region).or_default().push(video));
    }
    let viewers = read_viewers(&data.join("videos/viewers.parquet"));
    assert_eq!((videos.len(), viewers.len()), (20_102, 6_000));

    let (mut recall, mut complete, mut seen_felt, mut caps_felt) = (0.0, 0, 0, 0);
    let mut wrong = Vec::new();
    for viewers in viewers.chunks(BATCH) {
        let requests = viewers.iter().map(search).collect();
        let answer = client.batch_search(BatchSearchRequest { requests }).await.unwrap().into_inner();
        assert_eq!(answer.results.len(), viewers.len());
        for (viewer, result) in viewers.iter().zip(answer.results) {
            let (response, expected) = (response(result), expected(&by_region[&*viewer.region], viewer));
            wrong.extend(violations(&response, viewer, &by_id));
            let found = response.candidates.len();
            let is_complete = response.completeness.unwrap().reason() == Reason::Complete;
            if found != expected.all.min(K) || is_complete != (expected.all >= K) {
                wrong.push(format!("{found} candidates of {} that there are", expected.all));
            }
            let best: HashSet<u64> = expected.best.iter().copied().collect();
            let hits = ids(&response).iter().filter(|id| best.contains(id)).count();
            recall += hits as f64 / expected.best.len() as f64;
            complete += usize::from(expected.all >= K);
            seen_felt += usize::from(expected.is_seen_felt);
            caps_felt += usize::from(expected.is_cap_felt);
        }
    }
    recall /= viewers.len() as f64;
    println!("recall@{K} {recall:.4} over {} viewers; {complete} can have {K}", viewers.len());
    println!("{seen_felt} have seen some of the best, {caps_felt} would have had a creator twice");
    let some: Vec<&String> = wrong.iter().take(5).collect();
    assert!(wrong.is_empty(), "{} violations; the first: {some:?}", wrong.len());
    assert!(recall >= 0.95, "recall@{K} {recall}");
    // The rules must change many answers, or the test would pass without them.
    assert!(seen_felt > 1_000 && caps_felt > 1_000 && complete > 1_000);
}
