//! `shortlist serve`: opens indexes and serves them until the process is asked to stop.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::bail;

use super::announce::Announcements;
use super::mirrors::Mirrors;
use super::process::{DEFAULT_NAME, Process, print};
use super::sample;
use super::shared_logs::shared_logs;
use crate::base::partition::Shard;
use crate::config::ServeConfig;
use crate::engine::{Engine, EngineOptions, MemoryPolicy};
use crate::service::{self, ServiceOptions};

/// Serve indexes over gRPC. If no index is configured, make a sample catalog and serve it.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where an index is, as `LOCATION` or `NAME=LOCATION`: a folder, s3://BUCKET/PREFIX or file:///FOLDER. Can be repeated.
    #[arg(long, value_name = "[NAME=]LOCATION")]
    index: Vec<String>,
    /// The folder for the generations of indexes in buckets, each in a folder with the name of the index.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Which shard of each index in a bucket to serve, from 0, and of how many, such as 0/4 [default: 0/1].
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// The servers of NATS whose JetStream has the logs of the indexes, such as nats://10.0.0.1:4222. Other servers write to
    /// them, too.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    nats: Vec<String>,
    /// Host and port at which routers reach this server. It announces itself in NATS.
    #[arg(long, value_name = "ADDR")]
    advertise: Option<String>,
    /// Host and port to listen on; port 0 picks a free port [default: 127.0.0.1:50051].
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// A file of names that stand for indexes, which `shortlist alias` sets.
    #[arg(long, value_name = "FILE")]
    aliases: Option<PathBuf>,
    /// Configuration in TOML. SHORTLIST_SERVE_* variables and flags override it.
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Number of search threads; 0 for one per core.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// The memory to search: auto (a copy on huge pages, made in the background, while there is enough memory, else the
    /// file), mapped (the file), or resident (the copy) [default: auto].
    #[arg(long, value_name = "MODE")]
    memory: Option<MemoryPolicy>,
    /// Follow the log of another server that writes the indexes: return its writes, and take none.
    #[arg(long)]
    follow: bool,
}

/// Serves until SIGTERM or SIGINT, or until the terminal of the process closes.
///
/// # Errors
/// If the configuration is invalid, no index can be opened, or the address is not available.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    // These threads only read requests and write answers. With one per core, they would compete with the search threads
    // for the cores.
    let io_threads = std::thread::available_parallelism()?.get().div_ceil(2);
    let process = Process::start(arguments.config.as_deref(), io_threads, || settings(arguments))?;
    let Process { records: _records, mut config, runtime, sockets, access, aliases, signals } = process;
    let is_sample = config.indexes.is_empty();
    if is_sample {
        config.indexes.insert(DEFAULT_NAME.to_owned(), sample::ensure(Path::new(sample::ROOT))?);
    }
    let mirrors = Mirrors::open(&mut config)?;
    let started = Instant::now();
    let shared_logs = shared_logs(&config, mirrors.roots())?;
    let options = EngineOptions { built_at: mirrors.locations(), shared_logs, ..config.engine_options() };
    let engine = Arc::new(Engine::open(options)?);
    let seconds = started.elapsed().as_secs_f64();
    for index in engine.index_names() {
        let status = match engine.status(&index) {
            Ok(status) => status,
            Err(error) => {
                tracing::error!(index, %error, "cannot open the index; the others serve");
                continue;
            }
        };
        let (generation, videos) = (status.generation, status.vectors);
        tracing::info!(index, generation, videos, seconds, "opened the index");
        if let Some(problem) = status.refused {
            tracing::error!(index, problem, "refused the newest publication; an older generation serves");
        }
    }

    let buckets = mirrors.health();
    let following = mirrors.follow(&engine, config.poll_interval)?;
    let mut announcements = Announcements::start(&config, &engine)?;
    let served = runtime.block_on(async {
        let (address, listeners) = sockets.listen()?;
        let shutdown = signals.shutdown(access.clone())?;
        announce(&engine, address, is_sample)?;
        let options = ServiceOptions { buckets, aliases, ..config.service_options(access) };
        let shutdown = async {
            shutdown.await;
            following.stop();
            // Waits for NATS, for a moment.
            tokio::task::block_in_place(|| announcements.end());
        };
        service::serve(listeners, engine, options, shutdown).await?;
        Ok(())
    });
    // Does not wait for the remaining tasks: the drain timeout has already passed for them.
    runtime.shutdown_background();
    served
}

fn settings(arguments: &Arguments) -> anyhow::Result<ServeConfig> {
    let mut config = ServeConfig::load(arguments.config.as_deref())?;
    if let Some(listen) = &arguments.listen {
        config.listen.clone_from(listen);
    }
    if let Some(aliases) = &arguments.aliases {
        config.aliases.clone_from(aliases);
    }
    if let Some(threads) = arguments.threads {
        config.threads = threads;
    }
    if let Some(memory) = arguments.memory {
        config.memory = memory;
    }
    if let Some(cache) = &arguments.cache {
        config.cluster.cache.clone_from(cache);
    }
    config.follow |= arguments.follow;
    if let Some(shard) = arguments.shard {
        config.cluster.shard = shard.to_string();
    }
    if !arguments.nats.is_empty() {
        config.cluster.nats.clone_from(&arguments.nats);
    }
    if let Some(advertise) = &arguments.advertise {
        config.cluster.advertise.clone_from(advertise);
    }
    if !arguments.index.is_empty() {
        config.indexes.clear();
    }
    for index in &arguments.index {
        let (name, dir) = index.split_once('=').unwrap_or((DEFAULT_NAME, index));
        if name.is_empty() || dir.is_empty() {
            bail!("--index {index}: expected DIR or NAME=DIR");
        }
        if config.indexes.insert(name.to_owned(), PathBuf::from(dir)).is_some() {
            bail!("--index {index}: there is an index {name:?} already");
        }
    }
    config.check()?;
    Ok(config)
}

/// Prints on standard output that the server is ready, and how to try it.
fn announce(engine: &Engine, address: SocketAddr, is_sample: bool) -> anyhow::Result<()> {
    let names = engine.index_names();
    let (mut lines, mut closed) = (String::new(), String::new());
    for name in &names {
        let status = match engine.status(name) {
            Ok(status) => status,
            Err(error) => {
                closed += &format!("not serving {name}: {error}\n");
                continue;
            }
        };
        let of_index = if names.len() == 1 { String::new() } else { format!(" of {name}") };
        let (vectors, generation) = (status.vectors, status.generation);
        lines += &format!("serving {vectors} videos{of_index} on {address} (generation {generation})\n");
    }
    lines += &closed;
    if is_sample {
        // The default address is also the client's default.
        let default = ServeConfig::default().listen;
        let addr = if address.to_string() == default { String::new() } else { format!(" --addr {address}") };
        lines += &format!("try: cargo run --release -- query --sample-user 7{addr}\n");
    }
    print(&lines);
    Ok(())
}
