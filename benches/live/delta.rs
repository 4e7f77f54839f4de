//! Searches over a delta.

use shortlist::engine::WriteMode;

use super::world::{BATCH, K, World};

/// Search time and recall against the number of videos written since the build.
pub fn run(world: &World) {
    let engine = world.open(&world.build("delta", &(0..world.videos).collect::<Vec<_>>(), 0));
    println!("\n| written since | us per search | recall@{K} |\n|---|---|---|");
    let mut written = 0;
    for target in [0, 1, 1_000, 10_000, 100_000] {
        if target > world.videos {
            break;
        }
        // Not in order of drift, so that the delta has videos from everywhere.
        let of_target: Vec<usize> =
            (written..target).map(|at| world.videos + at * 7 % world.videos).collect();
        for batch in of_target.chunks(BATCH) {
            let batch = world.upserts(batch.iter().copied());
            engine.write("", batch, WriteMode::AllOrNothing).expect("a write");
        }
        written = target;
        engine.refresh();
        let (us, recall) = world.measure(&engine);
        println!("| {target} | {us:.1} | {recall:.4} |");
    }
}
