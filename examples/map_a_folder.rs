//! Publish a generation to a folder, map it, and search it: `cargo run --release --example map_a_folder`.
//!
//! `shortlist serve --index videos=DIR` serves the same folder over gRPC.

use shortlist::{Dataset, Index, Metric, SearchRequest};

const DIM: usize = 16;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let dir = folder.path().join("videos");

    // A batch job builds. Each build adds a numbered generation; the newest sound one is current.
    let rows = (0..2_000 * DIM).map(|at| ((at * 37 % 1_009) as f32 / 1_009.0) - 0.5).collect();
    let dataset = Dataset::from_rows(DIM, rows)?;
    Index::builder(Metric::Cosine).embedding_model("towers-1").publish(&dataset, &dir)?;

    // A searcher maps the newest generation. Processes that map the same file share its pages.
    let index = Index::open(&dir)?;
    println!("generation {}: {} videos under {}", index.generation(), index.len(), index.metric());
    let user = vec![0.25; DIM];
    let answer = index.search(&SearchRequest::vector(user).k(3).embedding_model("towers-1"))?;
    for candidate in &answer.candidates {
        println!("video {} scores {:.3}", candidate.video_id, candidate.score);
    }
    assert_eq!(answer.candidates.len(), 3);
    Ok(())
}
