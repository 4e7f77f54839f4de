//! `shortlist cluster`: shows and changes into how many shards an index is divided.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::nats::NatsArguments;
use super::say::Format;
use crate::base::partition::Shard;
use crate::bucket::{Bucket, ClusterMap, Location, Probed, Publication, TakedownObjects};
use crate::live::{StreamOpener, StreamOptions};
use crate::nats::NatsOptions;
use crate::nats::presence::{Replica, replicas};

/// Show or change into how many shards an index in a bucket is divided.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show the map of an index, the newest generation of each shard and, with --nats, the servers that are there.
    Status(Place),
    /// Say what must be done so that the index can be divided into --shards, and change nothing.
    Plan(Division),
    /// Divide the index into --shards, each of which must have a generation: add a map. Routers follow it once each shard has a
    /// ready server.
    Apply(Division),
}

/// Where an index is.
#[derive(Debug, clap::Args)]
struct Place {
    /// Where the index is, with all its shards: s3://BUCKET/PREFIX or file:///FOLDER.
    #[arg(long, value_name = "LOCATION")]
    at: PathBuf,
    /// The name of the index, which its log has. Needed with --nats.
    #[arg(long, value_name = "NAME", default_value = "")]
    index: String,
    #[command(flatten)]
    nats: NatsArguments,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct Division {
    #[command(flatten)]
    place: Place,
    /// Into how many shards: 1, 2, 4, 8, 16, 32 or 64.
    #[arg(long, value_name = "N")]
    shards: u32,
}

/// A shard and what it has.
struct Found {
    shard: Shard,
    location: Location,
    publication: Option<Publication>,
}

/// Runs one of the commands.
///
/// # Errors
/// If the bucket or NATS cannot be read, or a shard has no generation.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.command {
        Command::Status(place) => status(place),
        Command::Plan(division) => plan(division),
        Command::Apply(division) => apply(division),
    }
}

impl Place {
    fn location(&self) -> anyhow::Result<Location> {
        let location = Location::parse(&self.at)?;
        if !location.is_bucket() {
            bail!("--at {location}: expected s3://BUCKET/PREFIX or file:///FOLDER, found a folder");
        }
        Ok(location)
    }

    /// Where the servers of NATS are, if they are named.
    fn nats(&self) -> anyhow::Result<Option<NatsOptions>> {
        let nats = self.nats.options();
        if nats.is_some() && self.index.is_empty() {
            bail!("--nats: set --index to the name of the index, which its log has");
        }
        Ok(nats)
    }

    fn index(&self) -> &str {
        if self.index.is_empty() { "NAME" } else { &self.index }
    }
}

fn find(root: &Location, shards: u32) -> anyhow::Result<Vec<Found>> {
    Shard::new(0, shards).map_err(anyhow::Error::msg)?;
    let find = |index| {
        let shard = Shard::new(index, shards).map_err(anyhow::Error::msg)?;
        let location = root.of_shard(shard);
        let publication = Publication::newest(&Bucket::open(&location)?)?;
        Ok(Found { shard, location, publication })
    };
    (0..shards).map(find).collect()
}

fn map_of(root: &Bucket) -> anyhow::Result<Option<ClusterMap>> {
    let (map, passed_over) = ClusterMap::newest(root)?;
    passed_over.iter().for_each(|error| note!("passed over: {error}"));
    Ok(map)
}

fn facts(found: &Found) -> Value {
    let Found { shard, location, publication } = found;
    let of = |Publication { manifest, position }: &Publication| {
        json!({
            "generation": manifest.generation,
            "published_at": manifest.created_at,
            "size_bytes": manifest.bytes,
            "videos": position.videos,
            "log_sequence": position.log_sequence,
        })
    };
    json!({ "shard": shard.to_string(), "location": location.to_string(), "newest": publication.as_ref().map(of) })
}

fn describe(found: &Found) -> String {
    match &found.publication {
        Some(Publication { manifest, position }) => format!(
            "generation {} of {} videos, up to write {}, published {}",
            manifest.generation, position.videos, position.log_sequence, manifest.created_at
        ),
        None => format!("no generation in {}", found.location),
    }
}

fn status(place: &Place) -> anyhow::Result<()> {
    let root = place.location()?;
    let map = map_of(&Bucket::open(&root)?)?;
    let shards = find(&root, map.as_ref().map_or(1, |map| map.shards))?;
    let there = match place.nats()? {
        Some(nats) => Some(replicas(&nats, &place.index).map_err(anyhow::Error::msg).context("NATS")?),
        None => None,
    };
    let result = json!({
        "location": root.to_string(),
        "map": &map,
        "shards": shards.iter().map(facts).collect::<Vec<_>>(),
        "replicas": &there,
    });
    place.format.print(&result, || {
        match &map {
            Some(map) => say!("epoch {}: {} shards, since {}", map.epoch, map.shards, map.created_at),
            None => say!("no map: the index is not divided"),
        }
        shards.iter().for_each(|found| fact!(&format!("shard {}", found.shard), "{}", describe(found)));
        for Replica { name, address, shard, is_ready, generation, sequence, .. } in there.iter().flatten() {
            let state = if *is_ready { "ready" } else { "not ready" };
            fact!(name, "shard {shard} at {address}: {state}, generation {generation}, write {sequence}");
        }
    })?;
    Ok(())
}

fn plan(Division { place, shards }: &Division) -> anyhow::Result<()> {
    let root = place.location()?;
    let map = map_of(&Bucket::open(&root)?)?;
    let found = find(&root, *shards)?;
    let now = map.as_ref().map_or(1, |map| map.shards);
    let has_source = now != *shards && find(&root, now)?.iter().all(|source| source.publication.is_some());
    let missing = found.iter().filter(|found| found.publication.is_none());
    let mut commands: Vec<String> = missing
        .map(|Found { shard, .. }| match has_source {
            true => {
                format!("shortlist rebuild --at {root} --index {} --shard {shard} --of {now}", place.index())
            }
            false => format!("shortlist build --embeddings FILES --out {root} --shard {shard}"),
        })
        .collect();
    let is_applied = map.as_ref().is_some_and(|map| map.shards == *shards);
    if !is_applied {
        commands.push(format!("shortlist cluster apply --at {root} --shards {shards}"));
    }
    let result = json!({
        "from_shards": now,
        "to_shards": shards,
        "shards": found.iter().map(facts).collect::<Vec<_>>(),
        "commands": &commands,
    });
    place.format.print(&result, || {
        found.iter().for_each(|found| fact!(&format!("shard {}", found.shard), "{}", describe(found)));
        match commands.is_empty() {
            true => say!("nothing to do"),
            false => say!("to do, in this order; the first commands can run at the same time:"),
        }
        commands.iter().for_each(|command| say!("  {command}"));
    })?;
    Ok(())
}

/// The log of the index.
struct Log {
    nats: NatsOptions,
    index: String,
    opener: StreamOpener,
}

impl Log {
    fn open(nats: NatsOptions, index: &str, root: &Bucket) -> anyhow::Result<Self> {
        let options = StreamOptions {
            nats: nats.clone(),
            index: index.to_owned(),
            replicas: 1,
            shard: Shard::WHOLE,
            takedowns: Some(Arc::new(TakedownObjects::of(root))),
        };
        Ok(Self { nats, index: index.to_owned(), opener: StreamOpener::new(options)? })
    }

    /// Checks that the log has all entries that the generations need.
    fn check_continues(&self, publications: &[Publication]) -> anyhow::Result<()> {
        let first = self.opener.first_entry()?.unwrap_or(1);
        for Publication { manifest, position } in publications {
            let needed = position.held_after + 1;
            if needed < first {
                bail!(
                    "generation {} needs the writes from {needed} on, found that those before {first} were removed from the log: rebuild the shard",
                    manifest.generation
                );
            }
        }
        Ok(())
    }

    /// Removes the entries up to `to` that all servers that are there have applied. Returns the last one, if there are any.
    fn trim(&self, to: u64) -> anyhow::Result<Option<u64>> {
        let there = replicas(&self.nats, &self.index).map_err(anyhow::Error::msg).context("NATS")?;
        let to = there.iter().map(|replica| replica.sequence).fold(to, u64::min);
        if to == 0 {
            return Ok(None);
        }
        self.opener.trim(to)?;
        Ok(Some(to))
    }
}

fn apply(Division { place, shards }: &Division) -> anyhow::Result<()> {
    let root = place.location()?;
    let bucket = Bucket::open(&root)?;
    if bucket.probe()? == Probed::ReadOnly {
        bail!("{root}: the credentials do not permit to write");
    }
    let mut publications = Vec::new();
    for found in find(&root, *shards)? {
        let Found { shard, location, publication } = found;
        let publication = publication.with_context(|| {
            format!("shard {shard} has no generation in {location}; `shortlist cluster plan` says how to build one")
        })?;
        publications.push(publication);
    }
    let before = map_of(&bucket)?;
    let log = match place.nats()? {
        Some(nats) => Some(Log::open(nats, &place.index, &bucket)?),
        None => None,
    };
    if let Some(log) = &log {
        log.check_continues(&publications)?;
    }
    let map = ClusterMap::add(&bucket, &publications)?;
    // Neither this epoch nor the one before needs them.
    let needed = [Some(&map), before.as_ref()].into_iter().flatten().flat_map(|map| map.log_sequences.iter());
    let trim_to = needed.copied().min().filter(|_| before.is_some());
    let trimmed = match (log, trim_to) {
        (Some(log), Some(to)) => log.trim(to)?,
        _ => None,
    };
    let result = json!({ "map": &map, "log_trimmed_to": trimmed });
    place.format.print(&result, || {
        say!("epoch {}: {} shards", map.epoch, map.shards);
        if let Some(to) = trimmed {
            say!("removed the writes up to {to} from the log");
        }
    })?;
    Ok(())
}
