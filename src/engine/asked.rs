//! A sample of what users ask: to measure recall with, to judge generations by, and to teach them.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::request::{Completeness, Effort, Query, SearchRequest, SearchResponse};
use super::snapshot::Snapshot;
use crate::id::VideoId;

/// Users that are remembered, the newest.
const MAX_USERS: usize = 10_000;
/// Answers that wait to be compared with the truth; more are not taken.
const MAX_WAITING: usize = 32;
/// Answers that the recall is the mean of, the newest.
const WINDOW: usize = 1_000;
/// The k that recall is told apart by: each counts under the least that is not below its own.
const K: [usize; 7] = [1, 10, 50, 100, 200, 500, 1_000];

/// What share of searches is sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleOptions {
    /// 0 to 1.
    pub share: f64,
}

impl Default for SampleOptions {
    fn default() -> Self {
        Self { share: 0.01 }
    }
}

/// The recall of answers that were compared with the truth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LiveRecall {
    /// The largest k of them; `None` for any above 1,000.
    pub k: Option<usize>,
    /// The share of the true candidates that they had.
    pub recall: f64,
    /// How many there were, of late.
    pub answers: usize,
}

/// An answer to be compared with the truth.
pub(super) struct Sample {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) request: SearchRequest,
    pub(super) found: Vec<VideoId>,
}

/// A sample of what was asked of one index.
#[derive(Default)]
pub(super) struct Asked {
    /// A search is sampled if a hash of its number is below this.
    threshold: u64,
    searches: AtomicU64,
    users: Mutex<VecDeque<Vec<f32>>>,
    waiting: Mutex<VecDeque<Sample>>,
    /// Hits and true candidates, by the place of k among [`K`].
    compared: Mutex<BTreeMap<usize, VecDeque<(u32, u32)>>>,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked").field("searches", &self.searches).finish_non_exhaustive()
    }
}

impl Asked {
    pub(super) fn new(options: SampleOptions) -> Self {
        let threshold = (options.share.clamp(0.0, 1.0) * u64::MAX as f64) as u64;
        Self { threshold, ..Self::default() }
    }

    /// Whether the next search is one of the sample. No caller can tell which are.
    pub(super) fn takes(&self) -> bool {
        if self.threshold == 0 {
            return false;
        }
        let number = self.searches.fetch_add(1, Ordering::Relaxed);
        scattered(number) <= self.threshold
    }

    /// Remembers who asked, and what the answer was.
    pub(super) fn take(&self, snapshot: &Arc<Snapshot>, request: &SearchRequest, answer: &SearchResponse) {
        let Query::Vector(vector) = &request.query else { return };
        let mut users = self.users.lock();
        if users.len() == MAX_USERS {
            users.pop_front();
        }
        users.push_back(vector.clone());
        drop(users);
        if request.effort == Effort::Exact || answer.completeness == Completeness::Deadline {
            return;
        }
        let mut waiting = self.waiting.lock();
        if waiting.len() < MAX_WAITING {
            let found = answer.candidates.iter().map(|candidate| candidate.video_id).collect();
            waiting.push_back(Sample { snapshot: Arc::clone(snapshot), request: request.clone(), found });
        }
    }

    /// The next answer to be compared with the truth.
    pub(super) fn next(&self) -> Option<Sample> {
        self.waiting.lock().pop_front()
    }

    /// Takes in how many of the `exact` candidates the answer to a search for `k` had.
    pub(super) fn compare(&self, k: usize, found: &[VideoId], exact: &[VideoId]) {
        if exact.is_empty() {
            return;
        }
        let hits = exact.iter().filter(|video| found.contains(video)).count();
        let k = K.partition_point(|most| *most < k);
        let mut compared = self.compared.lock();
        let window = compared.entry(k).or_default();
        if window.len() == WINDOW {
            window.pop_front();
        }
        window.push_back((hits as u32, exact.len() as u32));
    }

    /// The recall of late, by ascending k.
    pub(super) fn recall(&self) -> Vec<LiveRecall> {
        let of_window = |(k, window): (&usize, &VecDeque<(u32, u32)>)| {
            let sum = |of: fn(&(u32, u32)) -> u32| window.iter().map(|pair| u64::from(of(pair))).sum::<u64>();
            let recall = sum(|pair| pair.0) as f64 / sum(|pair| pair.1) as f64;
            LiveRecall { k: K.get(*k).copied(), recall, answers: window.len() }
        };
        self.compared.lock().iter().map(of_window).collect()
    }

    /// The users that asked of late, `[n × dim]`.
    pub(super) fn users(&self) -> Vec<f32> {
        self.users.lock().iter().flatten().copied().collect()
    }

    /// The same, each once.
    pub(super) fn distinct_users(&self) -> Vec<f32> {
        let mut seen = HashSet::new();
        let bits = |user: &Vec<f32>| user.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        let users = self.users.lock();
        users.iter().filter(|user| seen.insert(bits(user))).flatten().copied().collect()
    }

    /// Another generation answers: its recall is not that of the one before, nor, if the embedding model is another,
    /// are its users.
    pub(super) fn begin_generation(&self, is_same_model: bool) {
        self.waiting.lock().clear();
        self.compared.lock().clear();
        if !is_same_model {
            self.users.lock().clear();
        }
    }
}

/// A number that says nothing of its neighbours (the finaliser of `SplitMix64`).
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
            let asked = Asked::new(SampleOptions { share });
            let taken = (0..100_000).filter(|_| asked.takes()).count();
            assert!((low..=high).contains(&taken), "{taken} for {share}");
        }
    }

    #[test]
    fn recall_is_told_apart_by_k_and_of_late() {
        let asked = Asked::new(SampleOptions::default());
        let videos = |ids: std::ops::Range<u64>| ids.map(VideoId).collect::<Vec<_>>();
        asked.compare(10, &videos(0..10), &videos(0..10));
        asked.compare(7, &videos(0..4), &videos(0..5));
        asked.compare(100, &videos(50..150), &videos(0..100));
        asked.compare(5_000, &[], &[]);
        let ten = LiveRecall { k: Some(10), recall: 14.0 / 15.0, answers: 2 };
        assert_eq!(asked.recall(), [ten, LiveRecall { k: Some(100), recall: 0.5, answers: 1 }]);
        (0..WINDOW).for_each(|_| asked.compare(10, &videos(0..1), &videos(0..2)));
        assert_eq!(asked.recall()[0], LiveRecall { k: Some(10), recall: 0.5, answers: WINDOW });
        asked.begin_generation(true);
        assert_eq!(asked.recall(), []);
    }
}
