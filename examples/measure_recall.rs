//! Measure recall against effort on queries of your own: `cargo run --release --example measure_recall`.
//!
//! Recall@k is the share of the true k best videos that an answer contains. Measure it on users that did not teach the
//! graph.

use std::path::Path;
use std::time::Instant;

use shortlist::{Dataset, Embeddings, Index, Metric, SearchRequest};

const DIM: usize = 32;
const K: usize = 10;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let videos = values(20_000, 1);
    // Users are not distributed like videos: here they use half of the components.
    let users: Vec<f32> =
        values(4_200, 2).chunks(DIM).flat_map(|user| user.iter().enumerate().map(half)).collect();
    let (training, test) = users.split_at(4_000 * DIM);

    let dataset = Dataset::from_rows(DIM, videos)?;
    let training = Embeddings::in_memory(Path::new("training users"), DIM, training.to_vec());
    let index = Index::builder(Metric::InnerProduct).training_queries(&training).build(&dataset)?;

    println!("ef_search  recall@{K}  distances  µs");
    let mut last = 0.0;
    for ef_search in [10, 20, 50, 100, 200] {
        let (mut found, mut distances, mut micros) = (0, 0, 0.0);
        for user in test.chunks(DIM) {
            let request = SearchRequest::vector(user).k(K);
            let exact = index.search(&request.clone().exact())?;
            let started = Instant::now();
            let answer = index.search(&request.ef_search(ef_search))?;
            micros += started.elapsed().as_secs_f64() * 1e6;
            distances += answer.stats.distances;
            let is_found = |video| answer.candidates.iter().any(|candidate| candidate.video_id == video);
            found += exact.candidates.iter().filter(|candidate| is_found(candidate.video_id)).count();
        }
        let users = test.len() / DIM;
        last = found as f64 / (users * K) as f64;
        println!("{ef_search:9}  {last:9.4}  {:9}  {:.0}", distances / users as u64, micros / users as f64);
    }
    assert!(last > 0.9, "recall {last} at the largest effort");
    Ok(())
}

fn half((component, value): (usize, &f32)) -> f32 {
    if component % 2 == 0 { *value } else { value * 0.1 }
}

/// `[rows × DIM]` values between -1 and 1 from a seed.
fn values(rows: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..rows * DIM).map(|_| next()).collect()
}
