//! A sample of user queries: measures live recall, judges new generations, and teaches them.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::hash::Hasher as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use rustc_hash::FxHasher;

use crate::base::hits::hits;
use crate::base::id::VideoId;
use crate::engine::options::SampleOptions;
use crate::engine::query::request::{Candidate, Completeness, Effort, Query, SearchRequest, SearchResponse};
use crate::engine::query::snapshot::Snapshot;
use crate::engine::rebuild::sampled_users::SampledUsers;
use crate::engine::status::{LiveRecall, LiveTarget, RECALL_K};
use crate::kernel::{is_bounded, norm};

/// Most query vectors kept.
const MAX_USERS: usize = 10_000;
/// Most answers waiting to be compared with the exact one; the oldest is dropped first.
const MAX_WAITING: usize = 32;
/// Number of most recent answers that live recall averages over.
const WINDOW: usize = 1_000;
/// One in this many users judges generations; the others teach them.
const JUDGES: u64 = 5;
/// The least norm of a user that can teach or judge. Scores of much shorter vectors are denormal numbers: rounding
/// decides the order of videos, and no graph finds the exact neighbors.
const MIN_NORM: f64 = 1e-15;

/// An answer that waits to be compared with the exact answer.
pub(crate) struct Sample {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) request: SearchRequest,
    /// Videos and scores.
    pub(crate) found: Vec<(VideoId, f32)>,
    /// The recall that it was to reach, if that is known.
    target: Option<f64>,
}

/// How many candidates of an answer were as good as the exact ones.
#[derive(Clone, Copy)]
struct Compared {
    hits: u32,
    exact: u32,
    /// The recall that it was to reach, if that is known.
    target: Option<f64>,
}

/// A sample of the queries to one index.
#[derive(Debug, Default)]
pub(crate) struct QuerySample {
    /// A search is sampled if the hash of its number is at most this; 0 samples none.
    threshold: u64,
    searches: AtomicU64,
    state: Mutex<State>,
}

/// The sample of the current generation.
#[derive(Default)]
struct State {
    /// The manifest that made the generation current; answers of other manifests are ignored.
    manifest: u64,
    users: SampledUsers,
    waiting: VecDeque<Sample>,
    /// Counts of compared answers by bucket of k: the position in [`RECALL_K`], or its length for a larger k.
    compared: BTreeMap<usize, VecDeque<Compared>>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("manifest", &self.manifest).finish_non_exhaustive()
    }
}

impl QuerySample {
    /// Starts a sample for the generation of `manifest`.
    pub(crate) fn new(options: SampleOptions, manifest: u64) -> Self {
        let threshold = (options.share.clamp(0.0, 1.0) * u64::MAX as f64) as u64;
        let state = Mutex::new(State { manifest, ..State::default() });
        Self { threshold, searches: AtomicU64::new(0), state }
    }

    /// Counts a search and returns whether it is sampled. Callers cannot predict which are.
    pub(crate) fn takes(&self) -> bool {
        if self.threshold == 0 {
            return false;
        }
        let number = self.searches.fetch_add(1, Ordering::Relaxed);
        scattered(number) <= self.threshold
    }

    /// Records the query vector of a search by `caller`, and its answer for comparison unless it was exact or cut short.
    pub(crate) fn take(
        &self,
        caller: Option<IpAddr>,
        snapshot: &Arc<Snapshot>,
        request: &SearchRequest,
        answer: &SearchResponse,
    ) {
        let Query::Vector(vector) = &request.query else { return };
        let mut state = self.state.lock();
        if state.manifest != snapshot.manifest.manifest || !is_usable(vector) {
            return;
        }
        state.users.push(caller, Instant::now(), vector.clone(), MAX_USERS);
        if request.effort == Effort::Exact || answer.completeness == Completeness::Deadline {
            return;
        }
        let found = answer.candidates.iter().map(|candidate| (candidate.video_id, candidate.score)).collect();
        let target = request.effort.target().or(answer.stats.measured_recall);
        let sample = Sample { snapshot: Arc::clone(snapshot), request: request.clone(), found, target };
        push(&mut state.waiting, sample, MAX_WAITING);
    }

    /// Takes the oldest answer that waits to be compared.
    pub(crate) fn next(&self) -> Option<Sample> {
        self.state.lock().waiting.pop_front()
    }

    /// Records how many candidates of an answer were as good as the `exact` ones.
    pub(crate) fn compare(&self, sample: &Sample, exact: &[Candidate]) {
        let videos: Vec<VideoId> = exact.iter().map(|candidate| candidate.video_id).collect();
        let metric = sample.snapshot.index.metadata().metric;
        let hits = hits(metric, sample.found.iter().copied(), &videos, |at| exact[at].score);
        let mut state = self.state.lock();
        if state.manifest == sample.snapshot.manifest.manifest {
            state.compare(sample.request.k, hits, exact.len(), sample.target);
        }
    }

    /// Returns the recent recall of each bucket, by ascending k.
    pub(crate) fn recall(&self) -> Vec<LiveRecall> {
        self.state.lock().recall()
    }

    /// Returns the sampled users that may teach a generation (four in five), without duplicates: `[n × dim]`.
    pub(crate) fn training_users(&self, dim: usize) -> Vec<f32> {
        self.users(|user| user.len() == dim && !is_judge(user))
    }

    /// Returns the other sampled users (one in five). They teach no generation, so they can judge one: `[n × dim]`.
    pub(crate) fn judging_users(&self, dim: usize) -> Vec<f32> {
        self.users(|user| user.len() == dim && is_judge(user))
    }

    /// Returns all sampled users: `[n × dim]`.
    pub(crate) fn sampled_users(&self, dim: usize) -> Vec<f32> {
        self.users(|user| user.len() == dim)
    }

    fn users(&self, is_wanted: impl Fn(&[f32]) -> bool) -> Vec<f32> {
        let mut seen = HashSet::new();
        let state = self.state.lock();
        let users = state.users.iter().filter(|user| is_wanted(user) && seen.insert(hash(user)));
        users.flatten().copied().collect()
    }

    /// Drops the answers that wait to be compared, and with them their snapshots.
    pub(crate) fn drop_waiting(&self) {
        self.state.lock().waiting.clear();
    }

    /// Starts over for the generation of `manifest`: drops measured recall and, if the embedding model changed, the
    /// users.
    pub(crate) fn begin_generation(&self, manifest: u64, is_same_model: bool) {
        let mut state = self.state.lock();
        state.manifest = manifest;
        state.waiting.clear();
        state.compared.clear();
        if !is_same_model {
            state.users.clear();
        }
    }
}

impl State {
    fn compare(&mut self, k: usize, hits: usize, exact: usize, target: Option<f64>) {
        if exact == 0 {
            return;
        }
        let window = self.compared.entry(RECALL_K.partition_point(|most| *most < k)).or_default();
        push(window, Compared { hits: hits as u32, exact: exact as u32, target }, WINDOW);
    }

    fn recall(&self) -> Vec<LiveRecall> {
        let of_window = |(bucket, window): (&usize, &VecDeque<Compared>)| {
            let (recall, answers) = recall_of(window.iter());
            let target = target_of(window);
            LiveRecall { k: RECALL_K.get(*bucket).copied(), recall, answers, target }
        };
        self.compared.iter().map(of_window).collect()
    }
}

/// The share of the exact candidates in these answers, and their number.
fn recall_of<'a>(answers: impl Iterator<Item = &'a Compared>) -> (f64, usize) {
    let (mut hits, mut exact, mut count) = (0_u64, 0_u64, 0);
    for answer in answers {
        hits += u64::from(answer.hits);
        exact += u64::from(answer.exact);
        count += 1;
    }
    (hits as f64 / exact as f64, count)
}

fn target_of(window: &VecDeque<Compared>) -> Option<LiveTarget> {
    let (recall, answers) = recall_of(window.iter().filter(|one| one.target.is_some()));
    let sum: f64 = window.iter().filter_map(|one| one.target).sum();
    (answers > 0).then(|| LiveTarget { target: sum / answers as f64, recall, answers })
}

/// Appends `newest`, dropping the oldest item of a full queue.
fn push<T>(queue: &mut VecDeque<T>, newest: T, most: usize) {
    if queue.len() == most {
        queue.pop_front();
    }
    queue.push_back(newest);
}

/// Returns whether a user can teach or judge: its scores are finite, and it is neither zero, which ranks nothing, nor close
/// to it. Users of files and of older generations were not checked.
pub(crate) fn is_usable(user: &[f32]) -> bool {
    is_bounded(user) && norm(user) >= MIN_NORM
}

fn is_judge(user: &[f32]) -> bool {
    scattered(hash(user)).is_multiple_of(JUDGES)
}

/// Hashes a user: equal users have equal hashes.
pub(crate) fn hash(user: &[f32]) -> u64 {
    let mut hasher = FxHasher::default();
    user.iter().for_each(|value| hasher.write_u32(value.to_bits()));
    hasher.finish()
}

/// Hashes a number (finalizer of `SplitMix64`): results of consecutive numbers look independent.
fn scattered(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configured_share_of_searches_is_sampled() {
        for (share, low, high) in
            [(0.0, 0, 0), (0.01, 800, 1_200), (0.5, 49_000, 51_000), (1.0, 100_000, 100_000)]
        {
            let sample = QuerySample::new(SampleOptions { share }, 1);
            let taken = (0..100_000).filter(|_| sample.takes()).count();
            assert!((low..=high).contains(&taken), "{taken} for {share}");
        }
    }

    #[test]
    fn recall_is_recent_and_separate_for_each_bucket_of_k() {
        let mut state = State::default();
        state.compare(10, 10, 10, None);
        state.compare(7, 4, 5, None);
        state.compare(100, 50, 100, None);
        state.compare(5_000, 0, 0, None);
        let of = |k, recall, answers| LiveRecall { k: Some(k), recall, answers, target: None };
        assert_eq!(state.recall(), [of(10, 14.0 / 15.0, 2), of(100, 0.5, 1)]);
        (0..WINDOW).for_each(|_| state.compare(10, 1, 2, None));
        assert_eq!(state.recall()[0], of(10, 0.5, WINDOW));
    }

    #[test]
    fn a_target_is_compared_with_the_recall_of_the_answers_that_had_one() {
        let mut state = State::default();
        state.compare(10, 0, 10, None);
        state.compare(10, 9, 10, Some(0.875));
        state.compare(10, 7, 10, Some(0.625));
        let target = LiveTarget { target: 0.75, recall: 0.8, answers: 2 };
        let expected = LiveRecall { k: Some(10), recall: 16.0 / 30.0, answers: 3, target: Some(target) };
        assert_eq!(state.recall(), [expected]);
    }

    #[test]
    fn users_teach_or_judge_but_never_both() {
        let sample = QuerySample::new(SampleOptions::default(), 1);
        let users: Vec<Vec<f32>> = (0..1_000).map(|user| vec![user as f32, 1.0]).collect();
        // Every user twice, and one of another dimension.
        for user in users.iter().chain(&users).cloned().chain([vec![1.0; 3]]) {
            sample.state.lock().users.push(None, Instant::now(), user, MAX_USERS);
        }
        let (teachers, judges) = (sample.training_users(2), sample.judging_users(2));
        assert_eq!((teachers.len() + judges.len()) / 2, 1_000);
        assert!((150..250).contains(&(judges.len() / 2)), "{}", judges.len() / 2);
        assert!(judges.chunks(2).all(|judge| !teachers.chunks(2).any(|teacher| teacher == judge)));
        assert!(is_usable(&[1.0, -9e14]) && !is_usable(&[1.0, 3e38]) && !is_usable(&[f32::NAN, 1.0]));
        assert!(!is_usable(&[0.0, -0.0]) && !is_usable(&[1e-42; 128]) && !is_usable(&[1e-17; 128]));
        assert!(is_usable(&[1e-42, 1e-14]));
    }
}
