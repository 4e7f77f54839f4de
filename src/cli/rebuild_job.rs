//! `shortlist rebuild --at`: rebuilds one shard of an index as a job, without a server.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::json;
use tempfile::TempDir;

use super::nats::NatsArguments;
use super::progress::BuildBars;
use super::say::Format;
use crate::base::partition::Shard;
use crate::bucket::{Bucket, BucketError, Location, Mirror, Probed, TakedownObjects, publish_newest};
use crate::build::{BuildError, Progress as _};
use crate::engine::{Engine, EngineOptions, RebuildOptions, RebuildState, reshard};
use crate::index::{IndexStore, generation_name};
use crate::live::{OpenSharedLog, StreamOpener, StreamOptions, TakedownRecords};

/// The interval between two looks at the rebuild.
const INTERVAL: Duration = Duration::from_millis(200);

/// What a job rebuilds, and from what.
#[derive(Debug, clap::Args)]
pub(super) struct JobArguments {
    /// Rebuild as a job of its own: from the newest generations of the index at this location, and the writes since. Publishes
    /// there, too.
    #[arg(long, value_name = "LOCATION", conflicts_with_all = ["addr", "cancel", "follow"])]
    pub(super) at: Option<PathBuf>,
    /// With --at: the shard to build, from 0, and of how many, such as 0/4.
    #[arg(long, value_name = "I/N", default_value_t = Shard::WHOLE, requires = "at")]
    shard: Shard,
    /// With --at: of how many shards the generations are that it is built from. If that differs from N, writes since are left to
    /// the log. Default: N.
    #[arg(long, value_name = "M", requires = "at")]
    of: Option<u32>,
    #[command(flatten)]
    nats: NatsArguments,
    /// With --at: a sample of user embeddings to teach the graph with; default: that of the generation.
    #[arg(long, value_name = "PATH", requires = "at")]
    training_queries: Option<PathBuf>,
    /// With --at: number of threads; 0 for one per core.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "at")]
    threads: usize,
    /// With --at: the folder in which to build, in a folder that is removed afterwards [default: that of the system].
    #[arg(long, value_name = "DIR", requires = "at")]
    scratch: Option<PathBuf>,
}

/// Rebuilds the shard, and publishes it.
///
/// # Errors
/// If there is no generation to build from, the quality gate refuses the new one, or the bucket cannot be read or written.
pub(super) fn run(job: &JobArguments, at: &Path, index: &str, format: Format) -> anyhow::Result<()> {
    let root = Location::parse(at)?;
    if !root.is_bucket() {
        bail!("--at {root}: expected s3://BUCKET/PREFIX or file:///FOLDER, found a folder");
    }
    let of = job.of.unwrap_or(job.shard.of());
    Shard::new(0, of).map_err(anyhow::Error::msg).context("--of")?;
    let to = Bucket::open(&root.of_shard(job.shard))?;
    if to.probe()? == Probed::ReadOnly {
        bail!("{}: the credentials do not permit to write", to.url());
    }
    let within = job.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let scratch = tempfile::Builder::new().prefix("shortlist-rebuild-").tempdir_in(&within);
    let scratch = scratch.with_context(|| format!("cannot make a scratch folder in {}", within.display()))?;
    let bars = BuildBars::new()?;
    let (store, generation) = match of == job.shard.of() {
        true => rebuild(job, &root, index, &scratch, &bars)?,
        false => divide(job, &root, of, index, &scratch, &bars)?,
    };
    let built = store.open_generation(generation)?;
    let facts = built.metadata();
    let (videos, log_sequence) = (facts.rows, facts.log_sequence);
    let manifest =
        publish_newest(&to, &store, generation, &|_, _| !bars.is_cancelled()).map_err(cancelled)?;
    bars.finish();
    let url = to.url_of(&generation_name(manifest.generation));
    let result = json!({
        "shard": job.shard.to_string(),
        "generation": manifest.generation,
        "path": url,
        "videos": videos,
        "log_sequence": log_sequence,
        "build_seconds": manifest.build_ms as f64 / 1000.0,
    });
    format.print(&result, || {
        say!(
            "published generation {} of {videos} videos, up to write {log_sequence}: {url}",
            manifest.generation
        );
    })?;
    Ok(())
}

/// Rebuilds the shard from its newest generation and the log. Returns where the new generation is.
fn rebuild(
    job: &JobArguments,
    root: &Location,
    index: &str,
    scratch: &TempDir,
    bars: &BuildBars,
) -> anyhow::Result<(IndexStore, u64)> {
    let dir = scratch.path().join("index");
    bring(&root.of_shard(job.shard), &dir, bars)?;
    let opener = match job.nats.options() {
        None => None,
        Some(_) if index.is_empty() => {
            bail!("--nats: set --index to the name of the index, which its log has")
        }
        Some(nats) => {
            let takedowns = TakedownObjects::of(&Bucket::open(root)?);
            Some(StreamOpener::new(StreamOptions {
                nats,
                index: index.to_owned(),
                // The stream is there: the index has writes, or the replicas have created it.
                replicas: 1,
                shard: job.shard,
                takedowns: Some(Arc::new(takedowns) as Arc<dyn TakedownRecords>),
            })?)
        }
    };
    let name = if index.is_empty() { "index" } else { index };
    let shared_logs = opener.map(|opener| (name.to_owned(), Arc::new(opener) as Arc<dyn OpenSharedLog>));
    let mut options = options(job, name);
    options.keep_writes = u64::MAX;
    let engine = Engine::open(EngineOptions {
        indexes: vec![(name.to_owned(), dir.clone())],
        threads: 1,
        is_writable: true,
        shared_logs: shared_logs.into_iter().collect(),
        rebuild: options,
        ..EngineOptions::default()
    })?;
    let before = engine.status(name)?;
    if let Some(problem) = before.live.read_only_reason.filter(|_| !job.nats.nats.is_empty()) {
        bail!("the log was not received: {problem}");
    }
    engine.start_rebuild(name)?;
    loop {
        let status = engine.status(name)?.live.rebuild;
        match status.state {
            RebuildState::Done => break,
            RebuildState::Failed => bail!("the rebuild failed: {}", status.problem.unwrap_or_default()),
            RebuildState::Cancelled => return Err(BuildError::Cancelled.into()),
            _ => bars.show_share(&status.phase, status.progress),
        }
        if bars.is_cancelled() {
            engine.cancel_rebuild(name)?;
        }
        std::thread::sleep(INTERVAL);
    }
    let generation = engine.status(name)?.generation;
    Ok((IndexStore::new(dir), generation))
}

/// Builds the shard from those of another size. Returns where the new generation is.
fn divide(
    job: &JobArguments,
    root: &Location,
    of: u32,
    index: &str,
    scratch: &TempDir,
    bars: &BuildBars,
) -> anyhow::Result<(IndexStore, u64)> {
    let mut sources = Vec::new();
    for source in sources_of(job.shard, of) {
        let dir = scratch.path().join(format!("source-{}", source.index()));
        bring(&root.of_shard(source), &dir, bars)?;
        sources.push(IndexStore::new(dir));
    }
    let store = IndexStore::new(scratch.path().join("index"));
    let manifest = reshard(index, &sources, job.shard, &store, &options(job, index), bars)?;
    Ok((store, manifest.generation))
}

/// The shards, of `of`, that have the videos of `shard`.
fn sources_of(shard: Shard, of: u32) -> Vec<Shard> {
    let (index, shards) = (shard.index(), shard.of());
    let range = match of <= shards {
        true => index * of / shards..index * of / shards + 1,
        false => index * of / shards..(index + 1) * of / shards,
    };
    range.map(|source| Shard::new(source, of).expect("both are powers of two")).collect()
}

fn options(job: &JobArguments, index: &str) -> RebuildOptions {
    let training = job.training_queries.iter().map(|path| (index.to_owned(), path.clone()));
    let threads = match job.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    RebuildOptions { threads, training_queries: training.collect(), ..RebuildOptions::default() }
}

/// Brings the newest generation at `from` into a folder.
fn bring(from: &Location, dir: &Path, bars: &BuildBars) -> anyhow::Result<()> {
    let bucket = Bucket::open(from)?;
    let mut mirror = Mirror::new(bucket.clone(), dir.to_owned())?;
    let mirrored = mirror.bring(&|_, _| !bars.is_cancelled()).map_err(cancelled)?;
    match mirrored.passed_over.into_iter().next() {
        // A job must not build from an older generation without saying so.
        Some(error) => Err(error.into()),
        None if mirrored.published.is_some() => Ok(()),
        None => Err(BucketError::Empty { url: bucket.url().to_owned() }.into()),
    }
}

fn cancelled(error: BucketError) -> anyhow::Error {
    match error {
        BucketError::Stopped => BuildError::Cancelled.into(),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::VideoId;

    #[test]
    fn the_sources_of_a_shard_have_its_videos_and_there_are_no_others() {
        for (shards, of) in [(1, 1), (1, 4), (2, 4), (4, 4), (8, 2), (64, 1), (4, 64)] {
            for index in 0..shards {
                let shard = Shard::new(index, shards).unwrap();
                let sources = sources_of(shard, of);
                for id in 0..2_000 {
                    let video = VideoId(id);
                    let owner = Shard::new(Shard::of_video(video, of), of).unwrap();
                    assert!(!shard.contains(video) || sources.contains(&owner));
                }
                assert_eq!(sources.len() as u32, of.div_ceil(shards));
            }
        }
    }
}
