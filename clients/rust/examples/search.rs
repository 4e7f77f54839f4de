//! Searches for random users, and prints the best candidates and how long the calls took.
//!
//! `cargo run -p shortlist-client --example search -- 127.0.0.1:50051 64`, with the addresses and the dimension.

use std::time::Instant;

use shortlist_client::{Client, SearchRequest};

const CALLS: usize = 1000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, addresses, dim] = &arguments[..] else { return Err("expected ADDRESSES and DIM".into()) };
    let dim: usize = dim.parse()?;
    let client = Client::builder(addresses).build()?;
    let mut seconds = Vec::with_capacity(CALLS);
    for call in 0..CALLS {
        let user: Vec<f32> = (0..dim).map(|_| rand::random_range(-1.0..1.0)).collect();
        let began = Instant::now();
        let answer = client.search(SearchRequest::of_vector(&user).with_k(100)).await?;
        seconds.push(began.elapsed().as_secs_f64());
        if call == 0 {
            for candidate in answer.candidates.iter().take(5) {
                println!("{:>20} {:.4}", candidate.video_id, candidate.score);
            }
        }
    }
    seconds.sort_by(f64::total_cmp);
    let at = |share: f64| seconds[(share * (CALLS - 1) as f64) as usize] * 1e6;
    println!("{CALLS} calls, us: median {:.0}, 99 % {:.0}", at(0.5), at(0.99));
    Ok(())
}
