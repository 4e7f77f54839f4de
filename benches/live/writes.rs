//! Writes during searches.

use std::time::{Duration, Instant};

use shortlist::engine::WriteMode;

use super::load::{during, quantile};
use super::world::{World, setting};

/// Writes by one or more writers during searches.
pub fn run(world: &World) {
    let seconds = Duration::from_secs(setting("SHORTLIST_BENCH_SECONDS", 10) as u64);
    println!("\n| writers × videos in a write | upserts/s | p99 of a write | searches/s | p99 of a search |");
    println!("|---|---|---|---|---|");
    let videos: Vec<usize> = (0..world.videos).collect();
    for (writers, batch) in [(0, 0), (1, 1), (16, 1), (1, 100), (4, 100)] {
        let engine = world.open(&world.build(&format!("writes-{writers}-{batch}"), &videos, 0));
        let (mut searches, mut acknowledged) = during(world, &engine, None, || {
            let until = Instant::now() + seconds;
            let write = |writer: usize| {
                let mut times = Vec::new();
                let mut next = writer;
                while Instant::now() < until {
                    let of_batch = (0..batch).map(|at| world.videos + (next + at * 31) % world.videos);
                    let mutations = world.upserts(of_batch);
                    let began = Instant::now();
                    engine.write("", mutations, WriteMode::AllOrNothing).expect("a write");
                    times.push(began.elapsed());
                    next += 31 * batch;
                }
                times
            };
            if writers == 0 {
                std::thread::sleep(seconds);
            }
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..writers).map(|writer| scope.spawn(move || write(writer))).collect();
                threads.into_iter().flat_map(|thread| thread.join().expect("a writer")).collect::<Vec<_>>()
            })
        });
        let per_second = |count: usize| count as f64 / seconds.as_secs_f64();
        println!(
            "| {writers} × {batch} | {:.0} | {:.2?} | {:.0} | {:.2?} |",
            per_second(acknowledged.len() * batch),
            quantile(&mut acknowledged, 0.99),
            per_second(searches.alone.len()),
            quantile(&mut searches.alone, 0.99),
        );
    }
}
