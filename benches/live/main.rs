//! Cost of a changing catalog: searches over a delta, writes during searches, swaps of generations under load, and recall
//! while every video is replaced. And searches when half of the videos expire at once.
//!
//! `cargo bench --bench live -- delta writes swaps churn expiry` runs the named sections, all of them by default. Settings:
//! `SHORTLIST_BENCH_VIDEOS` (100,000), `SHORTLIST_BENCH_ROUNDS` of churn (20), `SHORTLIST_BENCH_SECONDS` per measurement
//! of writes and swaps (10), `SHORTLIST_BENCH_TAUGHT=0` to build graphs without training queries. Prints tables, each
//! measured once, since a run takes minutes.
//!
//! | file | duty |
//! |---|---|
//! | `world.rs`  | the catalog, its index and the searches |
//! | `load.rs`   | searches while something else runs, and their latencies |
//! | `delta.rs`  | searches over a delta |
//! | `writes.rs` | writes during searches |
//! | `swaps.rs`  | swaps of generations under load |
//! | `churn.rs`  | rounds that replace videos, each with a rebuild |
//! | `expiry.rs` | searches when half of the videos expire at once |

mod churn;
mod delta;
mod expiry;
mod load;
#[path = "../common/rows.rs"]
mod rows;
mod swaps;
mod world;
mod writes;

use std::collections::HashSet;

use self::world::{World, setting};

fn main() {
    let wanted: HashSet<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.contains(name);
    let world = World::new(setting("SHORTLIST_BENCH_VIDEOS", 100_000));
    if is_wanted("delta") {
        delta::run(&world);
    }
    if is_wanted("writes") {
        writes::run(&world);
    }
    if is_wanted("swaps") {
        swaps::run(&world);
    }
    if is_wanted("churn") {
        churn::run(&world);
    }
    if is_wanted("expiry") {
        expiry::run(&world);
    }
}
