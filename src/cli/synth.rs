//! `shortlist synth`: makes up a catalog.

use std::path::PathBuf;

use super::progress::bar;
use crate::synth::{SynthParams, synth};

/// Make up a catalog: embeddings, ids, attributes, users to learn from and to measure with, and requests with rules.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Videos in the catalog.
    #[arg(long)]
    videos: usize,
    /// Components per embedding.
    #[arg(long)]
    dim: usize,
    /// The folder to write to.
    #[arg(long)]
    out: PathBuf,
    /// Users; one in five, and no more than 10,000, go to users_test.npy, the others to users_train.npy.
    #[arg(long, default_value_t = SynthParams::DEFAULT_USERS)]
    users: usize,
    /// What everything is drawn from: the same seed gives the same files.
    #[arg(long, default_value_t = SynthParams::DEFAULT_SEED)]
    seed: u64,
}

/// Makes up the catalog and prints what was written.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { videos, dim, users, seed, .. } = *arguments;
    let params = SynthParams { videos, dim, users, seed };
    let bar = bar("making up videos and users", (videos + params.held_out_videos() + users) as u64);
    let files = synth(params, &arguments.out, |rows| bar.inc(rows as u64))?;
    bar.finish();
    let held_out = params.held_out_users();
    say!("{}  [{videos} × {dim}] f32", files.videos.display());
    say!("{}  [{videos}] u64", files.video_ids.display());
    say!("{}  attributes of each video", files.attributes.display());
    say!("{}  [{} × {dim}] f32: users to learn from", files.users_train.display(), users - held_out);
    say!("{}  [{held_out} × {dim}] f32: held-out users", files.users_test.display());
    say!("{}  [{} × {dim}] f32: held-out videos", files.videos_test.display(), params.held_out_videos());
    say!("{}  requests with rules, for bench --requests", files.requests.display());
    say!("{}  u64: ids that some of them exclude", files.excluded.display());
    Ok(())
}
