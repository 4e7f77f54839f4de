//! Rounds that replace videos, each with a rebuild.

use std::path::Path;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use shortlist::engine::{RebuildState, WriteMode};
use shortlist::live::Mutation;

use super::world::{BATCH, K, World, id, setting};

/// A churn round replaces 1 in this many videos.
const REPLACED: usize = 20;

/// Replaces a share of the catalog per round, each followed by a rebuild, and compares the last generation with a build of
/// the same videos from scratch.
pub fn run(world: &World) {
    let rounds = setting("SHORTLIST_BENCH_ROUNDS", 20);
    let mut videos: Vec<usize> = (0..world.videos).collect();
    let dir = world.build("churn", &videos, 0);
    let engine = world.open(&dir);
    // The order of replacement is drawn once for all rounds.
    let mut order: Vec<usize> = (0..world.videos).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(3));
    let share = world.videos / REPLACED;
    println!(
        "\n| round | before the rebuild: us, recall | rebuild s | us per search | recall@{K} | folder / generation | resident MB |"
    );
    println!("|---|---|---|---|---|---|---|");
    for round in 0..rounds {
        let first = round * share % world.videos;
        for batch in (first..(first + share).min(world.videos)).collect::<Vec<_>>().chunks(BATCH) {
            let deletes = batch.iter().map(|at| Mutation::Delete(id(videos[order[*at]]))).collect::<Vec<_>>();
            batch.iter().for_each(|at| videos[order[*at]] = world.videos + at);
            let upserts = world.upserts(batch.iter().map(|at| world.videos + at));
            for batch in [deletes, upserts] {
                engine.write("", batch, WriteMode::AllOrNothing).expect("a write");
            }
        }
        engine.refresh();
        let (us_before, recall_before) = world.measure(&engine);
        let began = Instant::now();
        engine.start_rebuild("").expect("a rebuild");
        let ended = loop {
            let rebuild = engine.status("").expect("a status").live.rebuild;
            if !rebuild.state.is_underway() {
                break rebuild;
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        assert_eq!(ended.state, RebuildState::Done, "{ended:?}");
        let seconds = began.elapsed().as_secs_f64();
        engine.refresh();
        let (us, recall) = world.measure(&engine);
        println!(
            "| {} | {us_before:.1}, {recall_before:.4} | {seconds:.1} | {us:.1} | {recall:.4} | {:.2} | {} |",
            round + 1,
            folder_bytes(&dir) as f64 / engine.status("").expect("a status").bytes as f64,
            resident_mb(),
        );
    }
    let (us, recall) = world.measure(&engine);
    // The number of threads of a rebuild.
    let threads = (std::thread::available_parallelism().map_or(1, usize::from) / 2).max(1);
    let began = Instant::now();
    let fresh = world.build("fresh", &videos, threads);
    let seconds = began.elapsed().as_secs_f64();
    let (us_fresh, recall_fresh) = world.measure(&world.open(&fresh));
    println!("| fresh build | | {seconds:.1} | {us_fresh:.1} | {recall_fresh:.4} | | |");
    println!("\nrecall {:+.4}, searches/s {:.3} of a fresh build's", recall - recall_fresh, us_fresh / us);
}

fn folder_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("a folder");
    entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).sum()
}

/// Anonymous memory of this process in MiB.
fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kb = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:")?.split_whitespace().next()?.parse().ok());
    kb.unwrap_or(0u64) / 1024
}
