//! A sample of what users ask: to measure recall with, to judge generations by, and to teach them.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::hash::Hasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rustc_hash::FxHasher;

use crate::base::id::VideoId;
use crate::engine::options::SampleOptions;
use crate::engine::query::request::{Completeness, Effort, Query, SearchRequest, SearchResponse};
use crate::engine::query::snapshot::Snapshot;
use crate::engine::status::{LiveRecall, RECALL_K};

/// Users that are remembered, the newest.
const MAX_USERS: usize = 10_000;
/// Answers that wait to be compared with the truth, the newest.
const MAX_WAITING: usize = 32;
/// Answers that the recall is the mean of, the newest.
const WINDOW: usize = 1_000;
/// One user in so many judges generations, and the others teach them.
const JUDGES: u64 = 5;
/// Of users that are remembered.
const MAX_COMPONENT: f32 = 1e15;

/// An answer to be compared with the truth.
pub(crate) struct Sample {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) request: SearchRequest,
    pub(crate) found: Vec<VideoId>,
}

/// A sample of what was asked of one index.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// A search is sampled if a hash of its number is below this.
    threshold: u64,
    searches: AtomicU64,
    state: Mutex<State>,
}

/// Of the generation that answers.
#[derive(Default)]
struct State {
    /// The manifest that made it current: whatever was answered by another one is not taken.
    manifest: u64,
    users: VecDeque<Vec<f32>>,
    waiting: VecDeque<Sample>,
    /// Hits and true candidates, by the place of k among [`RECALL_K`].
    compared: BTreeMap<usize, VecDeque<(u32, u32)>>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("manifest", &self.manifest).finish_non_exhaustive()
    }
}

impl Asked {
    /// Of what the generation of `manifest` is asked.
    pub(crate) fn new(options: SampleOptions, manifest: u64) -> Self {
        let threshold = (options.share.clamp(0.0, 1.0) * u64::MAX as f64) as u64;
        let state = Mutex::new(State { manifest, ..State::default() });
        Self { threshold, searches: AtomicU64::new(0), state }
    }

    /// Whether the next search is one of the sample. No caller can tell which are.
    pub(crate) fn takes(&self) -> bool {
        if self.threshold == 0 {
            return false;
        }
        let number = self.searches.fetch_add(1, Ordering::Relaxed);
        scattered(number) <= self.threshold
    }

    /// Remembers who asked, and what the answer was.
    pub(crate) fn take(&self, snapshot: &Arc<Snapshot>, request: &SearchRequest, answer: &SearchResponse) {
        let Query::Vector(vector) = &request.query else { return };
        let mut state = self.state.lock();
        if state.manifest != snapshot.manifest.manifest || !is_usable(vector) {
            return;
        }
        push(&mut state.users, vector.clone(), MAX_USERS);
        if request.effort == Effort::Exact || answer.completeness == Completeness::Deadline {
            return;
        }
        let found = answer.candidates.iter().map(|candidate| candidate.video_id).collect();
        let sample = Sample { snapshot: Arc::clone(snapshot), request: request.clone(), found };
        push(&mut state.waiting, sample, MAX_WAITING);
    }

    /// The next answer to be compared with the truth.
    pub(crate) fn next(&self) -> Option<Sample> {
        self.state.lock().waiting.pop_front()
    }

    /// Takes in how many of the `exact` candidates an answer had.
    pub(crate) fn compare(&self, sample: &Sample, exact: &[VideoId]) {
        let mut state = self.state.lock();
        if state.manifest == sample.snapshot.manifest.manifest {
            state.compare(sample.request.k, &sample.found, exact);
        }
    }

    /// The recall of late, by ascending k.
    pub(crate) fn recall(&self) -> Vec<LiveRecall> {
        self.state.lock().recall()
    }

    /// Four in five of the users that asked of late, each once, `[n × dim]`.
    pub(crate) fn teachers(&self, dim: usize) -> Vec<f32> {
        self.users(|user| user.len() == dim && !is_judge(user))
    }

    /// The others: they teach nothing, so that they can judge.
    pub(crate) fn judges(&self, dim: usize) -> Vec<f32> {
        self.users(|user| user.len() == dim && is_judge(user))
    }

    fn users(&self, are: impl Fn(&[f32]) -> bool) -> Vec<f32> {
        let mut seen = HashSet::new();
        let state = self.state.lock();
        let users = state.users.iter().filter(|user| are(user) && seen.insert(hash(user)));
        users.flatten().copied().collect()
    }

    /// The generation of another manifest answers: its recall is not that of the one before, nor, if the embedding model
    /// is another, are its users.
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
    fn compare(&mut self, k: usize, found: &[VideoId], exact: &[VideoId]) {
        if exact.is_empty() {
            return;
        }
        let hits = exact.iter().filter(|video| found.contains(video)).count();
        let window = self.compared.entry(RECALL_K.partition_point(|most| *most < k)).or_default();
        push(window, (hits as u32, exact.len() as u32), WINDOW);
    }

    fn recall(&self) -> Vec<LiveRecall> {
        let of_window = |(k, window): (&usize, &VecDeque<(u32, u32)>)| {
            let sum = |of: fn(&(u32, u32)) -> u32| window.iter().map(|pair| u64::from(of(pair))).sum::<u64>();
            let recall = sum(|pair| pair.0) as f64 / sum(|pair| pair.1) as f64;
            LiveRecall { k: RECALL_K.get(*k).copied(), recall, answers: window.len() }
        };
        self.compared.iter().map(of_window).collect()
    }
}

/// Adds the newest, in place of the oldest where there are too many.
fn push<T>(queue: &mut VecDeque<T>, newest: T, most: usize) {
    if queue.len() == most {
        queue.pop_front();
    }
    queue.push_back(newest);
}

/// Whether scores for a user are numbers: a sum of products with what embeddings hold does not overflow.
pub(crate) fn is_usable(user: &[f32]) -> bool {
    user.iter().all(|value| value.abs() <= MAX_COMPONENT)
}

fn is_judge(user: &[f32]) -> bool {
    scattered(hash(user)).is_multiple_of(JUDGES)
}

fn hash(user: &[f32]) -> u64 {
    let mut hasher = FxHasher::default();
    user.iter().for_each(|value| hasher.write_u32(value.to_bits()));
    hasher.finish()
}

/// A number that says nothing of its neighbors (the finalizer of `SplitMix64`).
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
    fn the_share_of_searches_that_is_asked_for_is_sampled() {
        for (share, low, high) in
            [(0.0, 0, 0), (0.01, 800, 1_200), (0.5, 49_000, 51_000), (1.0, 100_000, 100_000)]
        {
            let asked = Asked::new(SampleOptions { share }, 1);
            let taken = (0..100_000).filter(|_| asked.takes()).count();
            assert!((low..=high).contains(&taken), "{taken} for {share}");
        }
    }

    #[test]
    fn recall_is_told_apart_by_k_and_of_late() {
        let mut state = State::default();
        let videos = |ids: std::ops::Range<u64>| ids.map(VideoId).collect::<Vec<_>>();
        state.compare(10, &videos(0..10), &videos(0..10));
        state.compare(7, &videos(0..4), &videos(0..5));
        state.compare(100, &videos(50..150), &videos(0..100));
        state.compare(5_000, &[], &[]);
        let ten = LiveRecall { k: Some(10), recall: 14.0 / 15.0, answers: 2 };
        assert_eq!(state.recall(), [ten, LiveRecall { k: Some(100), recall: 0.5, answers: 1 }]);
        (0..WINDOW).for_each(|_| state.compare(10, &videos(0..1), &videos(0..2)));
        assert_eq!(state.recall()[0], LiveRecall { k: Some(10), recall: 0.5, answers: WINDOW });
    }

    #[test]
    fn users_teach_or_judge_but_never_both() {
        let asked = Asked::new(SampleOptions::default(), 1);
        let users: Vec<Vec<f32>> = (0..1_000).map(|user| vec![user as f32, 1.0]).collect();
        // Each twice, and some of another dimension.
        asked.state.lock().users.extend(users.iter().chain(&users).cloned().chain([vec![1.0; 3]]));
        let (teachers, judges) = (asked.teachers(2), asked.judges(2));
        assert_eq!((teachers.len() + judges.len()) / 2, 1_000);
        assert!((150..250).contains(&(judges.len() / 2)), "{}", judges.len() / 2);
        assert!(judges.chunks(2).all(|judge| !teachers.chunks(2).any(|teacher| teacher == judge)));
        assert!(is_usable(&[1.0, -1e15]) && !is_usable(&[1.0, 3e38]) && !is_usable(&[f32::NAN]));
    }
}
