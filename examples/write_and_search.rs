//! Upsert, take down and search without a server: `cargo run --release --example write_and_search`.
//!
//! The engine writes every change to a log in the index folder before it returns, and every later search sees it.

use shortlist::{
    Budget, Dataset, Engine, EngineOptions, Index, Metric, Mutation, SearchRequest, Upsert, VideoId,
    WriteMode,
};

const DIM: usize = 8;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let dir = folder.path().join("videos");
    let rows = (0..1_000 * DIM).map(|at| ((at * 53 % 991) as f32 / 991.0) - 0.5).collect();
    Index::builder(Metric::InnerProduct).publish(&Dataset::from_rows(DIM, rows)?, &dir)?;

    let options = EngineOptions {
        indexes: vec![("videos".to_owned(), dir)],
        is_writable: true,
        ..EngineOptions::default()
    };
    let engine = Engine::open(options)?;

    // A new video that fits the user better than any other.
    let user = vec![0.5; DIM];
    let fresh = VideoId(1_000_000);
    let upsert = Upsert::new(fresh, vec![1.0; DIM]);
    let written = engine.write("videos", vec![Mutation::Upsert(upsert)], WriteMode::AllOrNothing)?;
    println!("written as sequence {}", written.sequence);

    let request = SearchRequest::vector(user).k(3).min_sequence(written.sequence);
    let answer = engine.search(&request, &Budget::default())?;
    assert_eq!(answer.candidates[0].video_id, fresh);

    // A takedown outlives later upserts and batch builds. Only `Restore` ends it.
    let written = engine.write("videos", vec![Mutation::Takedown(fresh)], WriteMode::AllOrNothing)?;
    let answer = engine.search(&request.min_sequence(written.sequence), &Budget::default())?;
    assert!(answer.candidates.iter().all(|candidate| candidate.video_id != fresh));
    println!("taken down as sequence {}", written.sequence);
    Ok(())
}
