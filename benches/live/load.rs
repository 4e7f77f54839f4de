//! Searches while something else runs, and their latencies.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use shortlist::engine::{Budget, Effort, Engine};

use super::world::{EF_SEARCH, K, World};

/// The quantile `share` of `times`, which are sorted in place.
pub fn quantile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    let at = (times.len() as f64 * share) as usize;
    times.get(at.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// Latencies of searches.
#[derive(Default)]
pub struct Times {
    /// From start to end of the search.
    pub alone: Vec<Duration>,
    /// From the time it was due; the same if each search starts when the last one ends.
    pub with_waiting: Vec<Duration>,
}

/// Searches until `done`, back to back or once per `every`.
fn search_until(world: &World, engine: &Engine, done: &AtomicBool, every: Option<Duration>) -> Times {
    let began = Instant::now();
    let mut times = Times::default();
    for turn in 0.. {
        if done.load(Ordering::Relaxed) {
            break;
        }
        let mut due = Instant::now();
        if let Some(every) = every {
            due = began + every * turn as u32;
            // Busy-wait: a sleep wakes up late, and a yield can give a whole time slice away.
            while Instant::now() < due {
                std::hint::spin_loop();
            }
        }
        let request = world.request(turn, Effort::EfSearch(EF_SEARCH));
        let began_search = Instant::now();
        let answer = engine.search(&request, &Budget::default()).expect("an answer");
        assert_eq!(answer.candidates.len(), K, "a short answer");
        times.alone.push(began_search.elapsed());
        times.with_waiting.push(due.elapsed());
    }
    times
}

/// Searches while `work` runs. Returns the latencies and the result of `work`.
pub fn during<R>(
    world: &World,
    engine: &Engine,
    every: Option<Duration>,
    work: impl FnOnce() -> R,
) -> (Times, R) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let searches = scope.spawn(|| search_until(world, engine, &done, every));
        // Refreshes once a second, as a server does.
        scope.spawn(|| {
            for turn in 1.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
                if turn % 10 == 0 {
                    engine.refresh();
                }
            }
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        (searches.join().expect("searches"), result)
    })
}
