//! Build an index in memory and search it: `cargo run --release --example build_and_search`.

use shortlist::{Dataset, Index, Metric, SearchRequest, VideoId};

const DIM: usize = 32;
const VIDEOS: usize = 5_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // One embedding per video, row-major. Ids are any u64; without `with_ids` they are row numbers.
    let dataset = Dataset::from_rows(DIM, embeddings(VIDEOS))?
        .with_ids((0..VIDEOS as u64).map(|row| VideoId(1_000 + row)).collect())?;
    let index = Index::builder(Metric::InnerProduct).build(&dataset)?;
    println!("{} videos of {} components", index.len(), index.dim());

    let user = &embeddings(1)[..];
    let answer = index.search(&SearchRequest::vector(user).k(5).ef_search(100))?;
    for candidate in &answer.candidates {
        println!("video {} scores {:.3}", candidate.video_id, candidate.score);
    }
    assert_eq!(answer.candidates.len(), 5);
    assert!(answer.candidates.is_sorted_by(|one, next| one.score >= next.score));
    Ok(())
}

/// `[rows × DIM]` values between -1 and 1 that only depend on their position.
fn embeddings(rows: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..rows * DIM).map(|_| next()).collect()
}
