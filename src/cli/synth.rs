//! `shortlist synth`: generates a synthetic dataset.

use std::path::PathBuf;

use super::progress::bar;
use crate::synth::{SynthParams, synth};

/// Generate a synthetic dataset: embeddings, ids, attributes, training and test users, and requests with rules.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Number of videos.
    #[arg(long)]
    videos: usize,
    /// Components per embedding.
    #[arg(long)]
    dim: usize,
    /// The folder to write to.
    #[arg(long)]
    out: PathBuf,
    /// Number of users. One in five, at most 10,000, go to users_test.npy, the others to users_train.npy.
    #[arg(long, default_value_t = SynthParams::DEFAULT_USERS)]
    users: usize,
    /// The random seed. The same seed gives the same files.
    #[arg(long, default_value_t = SynthParams::DEFAULT_SEED)]
    seed: u64,
}

/// Generates the dataset and prints the files.
///
/// # Errors
/// If a parameter is invalid, or a file cannot be written.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { videos, dim, users, seed, .. } = *arguments;
    let params = SynthParams { videos, dim, users, seed };
    let bar = bar("generating videos and users", (videos + params.held_out_videos() + users) as u64);
    let files = synth(params, &arguments.out, |rows| bar.inc(rows as u64))?;
    bar.finish();
    let held_out = params.held_out_users();
    say!("{}  [{videos} × {dim}] f32", files.videos.display());
    say!("{}  [{videos}] u64", files.video_ids.display());
    say!("{}  attributes of each video", files.attributes.display());
    say!("{}  [{} × {dim}] f32: training users", files.users_train.display(), users - held_out);
    say!("{}  [{held_out} × {dim}] f32: held-out users", files.users_test.display());
    say!("{}  [{} × {dim}] f32: held-out videos", files.videos_test.display(), params.held_out_videos());
    say!("{}  requests with rules, for bench --requests", files.requests.display());
    say!("{}  u64: ids that some requests exclude", files.excluded.display());
    Ok(())
}
