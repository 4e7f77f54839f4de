//! Searches when half of the videos expire at once.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use shortlist::engine::Effort;

use super::load::quantile;
use super::world::{EF_SEARCH, World, ids_of};

/// Searches back to back on one thread, while every second video expires at the same time. The first search after it
/// removes them from the snapshot.
pub fn run(world: &World) {
    const BEFORE: Duration = Duration::from_secs(5);
    let videos: Vec<usize> = (0..world.videos).collect();
    let began = Instant::now();
    world.build("lasting", &videos, 0);
    let margin = began.elapsed() + BEFORE * 2;
    println!(
        "\n| expire at once | search before: p50 | slowest | first search after | slowest of the next 10,000 |"
    );
    println!("|---|---|---|---|---|");
    for turn in 0..3 {
        let at = SystemTime::now() + margin;
        let micros = at.duration_since(UNIX_EPOCH).expect("after 1970").as_micros() as i64;
        let engine = world.open(&world.build_expiring(&format!("expiry-{turn}"), &videos, Some(micros), 0));
        let wait = at.duration_since(SystemTime::now()).expect("a build that takes as long as the first one");
        std::thread::sleep(wait.saturating_sub(BEFORE));
        let search = |turn| {
            let request = world.request(turn, Effort::EfSearch(EF_SEARCH));
            let began = Instant::now();
            ids_of(&engine, &request);
            began.elapsed()
        };
        let (mut before, mut first, mut after) = (Vec::new(), Duration::ZERO, Vec::new());
        while after.len() < 10_000 {
            let was_due = SystemTime::now() >= at;
            let took = search(before.len() + after.len());
            match (was_due, first.is_zero()) {
                (true, true) => first = took,
                (true, false) => after.push(took),
                (false, _) if SystemTime::now() >= at => first = took,
                (false, _) => before.push(took),
            }
        }
        println!(
            "| {} | {:.2?} | {:.2?} | {first:.2?} | {:.2?} |",
            videos.len().div_ceil(2),
            quantile(&mut before, 0.5),
            quantile(&mut before, 1.0),
            quantile(&mut after, 1.0),
        );
    }
}
