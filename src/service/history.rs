//! The last hour of the searches of each index, in steps of ten seconds.
//!
//! What flows in: searches as they end, and the state of indexes. What flows out: one point per step. A search pays for two
//! counters.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;
use tonic::Code;

use super::convert::{duration, timestamp};
use super::proto;

/// The time between two points.
pub(crate) const STEP: Duration = Duration::from_secs(10);
/// The most points: one hour.
const MOST_POINTS: usize = 360;
/// The methods that search.
const SEARCHES: [&str; 3] = ["Search", "BatchSearch", "StreamSearch"];
/// Buckets of times: four for each power of two of microseconds, from 16 on.
const BUCKETS: usize = 96;

/// The last hour of every index.
pub(crate) struct History {
    tracks: BTreeMap<String, Track>,
    /// When the last point was made.
    last: Mutex<Instant>,
}

/// The last hour of one index.
struct Track {
    counts: Counts<AtomicU64>,
    /// The counts at the last point, and the points.
    points: Mutex<(Counts<u64>, VecDeque<proto::HistoryPoint>)>,
}

#[derive(Clone)]
struct Counts<N> {
    answered: N,
    failed: N,
    refused: N,
    /// Answered searches by their time.
    times: [N; BUCKETS],
}

/// What a point says that searches do not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gauges {
    /// Searches that are queued or being computed.
    pub(crate) in_flight: u64,
    /// Memory of the process in bytes.
    pub(crate) resident_memory: u64,
}

impl History {
    pub(crate) fn new(indexes: &[String]) -> Self {
        let track = |index: &String| (index.clone(), Track::default());
        Self { tracks: indexes.iter().map(track).collect(), last: Mutex::new(Instant::now()) }
    }

    /// Counts a request that ended, if it is a search of an index.
    pub(crate) fn count(&self, index: &str, method: &str, code: Code, elapsed: Duration) {
        if !SEARCHES.contains(&method) {
            return;
        }
        let Some(Track { counts, .. }) = self.tracks.get(index) else { return };
        match code {
            Code::Ok => {
                counts.answered.fetch_add(1, Ordering::Relaxed);
                counts.times[bucket(elapsed)].fetch_add(1, Ordering::Relaxed);
            }
            Code::ResourceExhausted => _ = counts.refused.fetch_add(1, Ordering::Relaxed),
            _ => _ = counts.failed.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Makes a point of every index, if it is time for one. `recall`: that of an index, and its target.
    pub(crate) fn sample(&self, gauges: Gauges, recall: impl Fn(&str) -> Option<(f64, Option<f64>)>) {
        let mut last = self.last.lock();
        let elapsed = last.elapsed();
        if elapsed < STEP {
            return;
        }
        *last = Instant::now();
        for (index, track) in &self.tracks {
            track.sample(elapsed, gauges, recall(index));
        }
    }

    /// The points of an index, the oldest first.
    pub(crate) fn points(&self, index: &str) -> Vec<proto::HistoryPoint> {
        self.tracks
            .get(index)
            .map(|track| track.points.lock().1.iter().copied().collect())
            .unwrap_or_default()
    }
}

impl Default for Track {
    fn default() -> Self {
        Self {
            counts: Counts {
                answered: AtomicU64::new(0),
                failed: AtomicU64::new(0),
                refused: AtomicU64::new(0),
                times: [const { AtomicU64::new(0) }; BUCKETS],
            },
            points: Mutex::new((Counts::default(), VecDeque::new())),
        }
    }
}

impl Default for Counts<u64> {
    fn default() -> Self {
        Self { answered: 0, failed: 0, refused: 0, times: [0; BUCKETS] }
    }
}

impl Counts<AtomicU64> {
    fn now(&self) -> Counts<u64> {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            answered: read(&self.answered),
            failed: read(&self.failed),
            refused: read(&self.refused),
            times: std::array::from_fn(|at| read(&self.times[at])),
        }
    }
}

impl Track {
    fn sample(&self, elapsed: Duration, gauges: Gauges, recall: Option<(f64, Option<f64>)>) {
        let now = self.counts.now();
        let mut points = self.points.lock();
        let before = std::mem::replace(&mut points.0, now.clone());
        let times: [u64; BUCKETS] = std::array::from_fn(|at| now.times[at] - before.times[at]);
        let rate = |now: u64, before: u64| (now - before) as f64 / elapsed.as_secs_f64();
        let point = proto::HistoryPoint {
            at: Some(timestamp(Timestamp::now())),
            searches_per_second: rate(now.answered, before.answered),
            failed_per_second: rate(now.failed, before.failed),
            refused_per_second: rate(now.refused, before.refused),
            p50: percentile(&times, 50).map(duration),
            p99: percentile(&times, 99).map(duration),
            in_flight: u32::try_from(gauges.in_flight).unwrap_or(u32::MAX),
            recall: recall.map(|(recall, _)| recall),
            recall_target: recall.and_then(|(_, target)| target),
            resident_memory_bytes: gauges.resident_memory,
        };
        if points.1.len() == MOST_POINTS {
            points.1.pop_front();
        }
        points.1.push_back(point);
    }
}

fn bucket(time: Duration) -> usize {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    if micros < 16 {
        return 0;
    }
    let power = micros.ilog2() as usize;
    let quarter = (micros >> (power - 2)) as usize & 3;
    ((power - 4) * 4 + quarter + 1).min(BUCKETS - 1)
}

/// The first time that is above those of a bucket.
fn end_of(bucket: usize) -> Duration {
    let (power, quarter) = (bucket.div_ceil(4) + 3, (bucket + 3) % 4);
    Duration::from_micros(if bucket == 0 { 16 } else { (5 + quarter as u64) << (power - 2) })
}

/// A percentile by nearest rank, up to a quarter too high; `None` without times.
fn percentile(times: &[u64; BUCKETS], percent: u64) -> Option<Duration> {
    let all: u64 = times.iter().sum();
    let rank = (all * percent).div_ceil(100).max(1);
    let mut seen = 0;
    let found = times.iter().position(|count| {
        seen += count;
        seen >= rank
    });
    found.map(end_of)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_time_is_in_the_bucket_that_ends_after_it(micros in 0u64..60_000_000) {
            let time = Duration::from_micros(micros);
            let end = end_of(bucket(time));
            prop_assert!(time < end, "{time:?} {end:?}");
            prop_assert!(micros < 16 || end.as_secs_f64() <= time.as_secs_f64() * 1.25 + 1e-6, "{time:?} {end:?}");
        }
    }

    #[test]
    fn a_point_is_of_the_searches_since_the_last_one() {
        let history = History::new(&["videos".to_owned()]);
        let count = |code, millis| history.count("videos", "Search", code, Duration::from_millis(millis));
        (0..99).for_each(|_| count(Code::Ok, 1));
        count(Code::Ok, 100);
        count(Code::ResourceExhausted, 1);
        count(Code::Internal, 1);
        history.count("videos", "Upsert", Code::Ok, Duration::from_secs(1));
        history.count("other", "Search", Code::Ok, Duration::from_secs(1));
        let track = &history.tracks["videos"];
        track.sample(Duration::from_secs(10), Gauges::default(), Some((0.9, Some(0.95))));
        (0..5).for_each(|_| count(Code::Ok, 10));
        track.sample(Duration::from_secs(5), Gauges { in_flight: 3, resident_memory: 7 }, None);
        let points = history.points("videos");
        let rates: Vec<_> =
            points.iter().map(|point| (point.searches_per_second, point.refused_per_second)).collect();
        assert_eq!(rates, [(10.0, 0.1), (1.0, 0.0)]);
        assert_eq!(points[0].failed_per_second, 0.1);
        assert_eq!(
            (points[0].recall, points[0].recall_target, points[1].recall),
            (Some(0.9), Some(0.95), None)
        );
        let millis = |time: &Option<prost_types::Duration>| time.unwrap().nanos / 1_000_000;
        assert_eq!((millis(&points[0].p50), millis(&points[0].p99), millis(&points[1].p50)), (1, 1, 10));
        assert_eq!((points[1].in_flight, points[1].resident_memory_bytes), (3, 7));
        // Not yet time for another one.
        history.sample(Gauges::default(), |_| None);
        assert_eq!(history.points("videos").len(), 2);
    }

    #[test]
    fn an_hour_is_kept() {
        let history = History::new(&["videos".to_owned()]);
        for _ in 0..MOST_POINTS + 5 {
            history.tracks["videos"].sample(STEP, Gauges::default(), None);
        }
        assert_eq!(history.points("videos").len(), MOST_POINTS);
        assert_eq!(history.points("videos")[0].p50, None);
    }
}
