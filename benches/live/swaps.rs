//! Swaps of generations under load.

use std::time::{Duration, Instant};

use shortlist::engine::{Effort, Engine, SearchRequest, WriteMode};

use super::load::{Times, during, quantile};
use super::world::{EF_SEARCH, K, World, ids_of, setting};

/// Load during swaps, as a share of the maximum search rate.
const LOAD: f64 = 0.7;
const SWAPS: usize = 200;
const TURNS: usize = 20;
const BETWEEN_SWAPS: Duration = Duration::from_millis(250);
const BETWEEN_WRITES: Duration = Duration::from_millis(25);

/// Swaps of generations with writes, at a share of the maximum search rate of one thread. Turns with swaps alternate with
/// equally long turns without, so that other load of the machine affects both alike.
pub fn run(world: &World) {
    let videos: Vec<usize> = (0..world.videos).collect();
    let dir = world.build("swaps", &videos, 0);
    world.build("swaps", &videos, 0);
    let engine = world.open(&dir);
    let seconds = Duration::from_secs(setting("SHORTLIST_BENCH_SECONDS", 10) as u64);
    let mut written = 0;
    let mut write = |engine: &Engine| {
        let batch = std::iter::once(world.videos + written * 7 % world.videos);
        let sequence =
            engine.write("", world.upserts(batch), WriteMode::AllOrNothing).expect("a write").sequence;
        written += 1;
        let request =
            SearchRequest { min_sequence: sequence, ..world.request(written, Effort::EfSearch(EF_SEARCH)) };
        assert!(ids_of(engine, &request).len() == K);
        std::thread::sleep(BETWEEN_WRITES);
    };
    let mut until = |until: Instant| {
        while Instant::now() < until {
            write(&engine);
        }
    };
    let (unlimited, ()) = during(world, &engine, None, || until(Instant::now() + seconds));
    let every = seconds.div_f64(unlimited.alone.len() as f64 * LOAD);
    let (mut steady, mut swapping, mut ratios) = (Times::default(), Times::default(), Vec::new());
    let mut elapsed = Duration::ZERO;
    for _ in 0..TURNS {
        let (mut with, took) = during(world, &engine, Some(every), || {
            let began = Instant::now();
            for swap in 0..SWAPS / TURNS {
                engine.activate("", 1 + swap as u64 % 2).expect("a swap");
                until(Instant::now() + BETWEEN_SWAPS);
            }
            began.elapsed()
        });
        let (mut without, ()) = during(world, &engine, Some(every), || until(Instant::now() + took));
        let p99 = |times: &mut Times| quantile(&mut times.alone, 0.99).as_secs_f64();
        ratios.push(p99(&mut with) / p99(&mut without));
        for (all, of_turn) in [(&mut swapping, with), (&mut steady, without)] {
            all.alone.extend(of_turn.alone);
            all.with_waiting.extend(of_turn.with_waiting);
        }
        elapsed += took;
    }
    println!("\n| | searches/s | p50 | p99 | p99.9 | p99 with waiting |\n|---|---|---|---|---|---|");
    let with = format!("{SWAPS} swaps in {elapsed:.1?}");
    for (name, times) in [("steady", &mut steady), (&*with, &mut swapping)] {
        let rate = times.alone.len() as f64 / elapsed.as_secs_f64();
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| quantile(&mut times.alone, share));
        let waiting = quantile(&mut times.with_waiting, 0.99);
        println!("| {name} | {rate:.0} | {p50:.2?} | {p99:.2?} | {p999:.2?} | {waiting:.2?} |");
    }
    ratios.sort_unstable_by(f64::total_cmp);
    println!("\nratios of p99 with swaps to p99 of the same turn without: {ratios:.2?}");
}
