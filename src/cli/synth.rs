//! `shortlist synth`: generates a synthetic dataset.

use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde::Serialize;
use serde_json::json;

use super::interrupt;
use super::progress::{bar, finish};
use super::say::Format;
use crate::synth::{SynthParams, synth_until};

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
    /// Make about this share of the videos re-uploads of others, such as 5%: half of them copies, the others encoded again.
    #[arg(long, value_name = "PERCENT%", default_value = "0%", value_parser = percentage)]
    duplicates: f64,
    /// The random seed. The same seed gives the same files.
    #[arg(long, default_value_t = SynthParams::DEFAULT_SEED)]
    seed: u64,
    #[command(flatten)]
    format: Format,
}

/// Generates the dataset and prints the files.
///
/// # Errors
/// If a parameter is invalid, or a file cannot be written.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let started = Instant::now();
    let interrupted = interrupt::flag()?;
    let Arguments { videos, dim, users, seed, .. } = *arguments;
    let duplicates = (arguments.duplicates * videos as f64).round() as usize;
    let params = SynthParams { videos, dim, users, seed, duplicates };
    let bar = bar("generating videos and users", (videos + params.held_out_videos() + users) as u64);
    let files = synth_until(params, &arguments.out, |rows| {
        bar.inc(rows as u64);
        if interrupted.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    finish(&bar);
    let (held_out, held_out_videos) = (params.held_out_users(), params.held_out_videos());
    let matrix = |name, path, rows, what| Written {
        name,
        path,
        rows: Some(rows),
        dim: Some(dim),
        dtype: Some("f32"),
        what,
    };
    let table = |name, path, what| Written { name, path, rows: None, dim: None, dtype: None, what };
    let ids = &files.video_ids;
    let files = [
        matrix("videos", &files.videos, videos, ""),
        Written { name: "video_ids", path: ids, rows: Some(videos), dim: None, dtype: Some("u64"), what: "" },
        table("attributes", &files.attributes, "attributes of each video"),
        matrix("users_train", &files.users_train, users - held_out, "training users"),
        matrix("users_test", &files.users_test, held_out, "held-out users"),
        matrix("videos_test", &files.videos_test, held_out_videos, "held-out videos"),
        table("requests", &files.requests, "requests with rules, for bench --requests"),
        table("excluded", &files.excluded, "u64: ids that some requests exclude"),
    ];
    let result = json!({ "files": files, "seconds": started.elapsed().as_secs_f64() });
    arguments.format.print(&result, || files.iter().for_each(|file| say!("{file}")))?;
    Ok(())
}

/// Parses a percentage as a share.
fn percentage(text: &str) -> Result<f64, String> {
    let share =
        text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok()).map(|percent| percent / 100.0);
    let share = share.filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("expected 0% to 100%, such as 5%, found {text:?}"))
}

/// A file that was written.
#[derive(Serialize)]
struct Written<'a> {
    name: &'static str,
    path: &'a Path,
    /// Not known of files that are no `.npy`.
    rows: Option<usize>,
    /// Components per row.
    dim: Option<usize>,
    dtype: Option<&'static str>,
    #[serde(skip)]
    what: &'static str,
}

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, rows, dim, dtype, what, .. } = self;
        write!(f, "{} ", path.display())?;
        if let (Some(rows), Some(dtype)) = (rows, dtype) {
            let dim = dim.map_or(String::new(), |dim| format!(" × {dim}"));
            let colon = if what.is_empty() { "" } else { ":" };
            write!(f, " [{rows}{dim}] {dtype}{colon}")?;
        }
        if what.is_empty() { Ok(()) } else { write!(f, " {what}") }
    }
}
