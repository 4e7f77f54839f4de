//! `shortlist serve`: opens indexes and serves them until told to stop.

use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::net::TcpSocket;
use tokio::signal::unix::{SignalKind, signal};

use super::sample;
use crate::config::ServeConfig;
use crate::config::telemetry;
use crate::engine::Engine;
use crate::index::MemoryMode;
use crate::service;

/// The name of an index that is given without one.
const DEFAULT_NAME: &str = "default";
/// Connections the operating system holds until they are accepted.
const BACKLOG: u32 = 1024;

/// Serve indexes over gRPC; without any, make a sample catalog and serve that.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// An index folder, as `DIR` or `NAME=DIR`; may be given several times.
    #[arg(long, value_name = "[NAME=]DIR")]
    index: Vec<String>,
    /// Host and port to listen on; port 0 takes a free one [default: 127.0.0.1:50051].
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Settings in TOML; SHORTLIST_SERVE_* variables and flags win over it.
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Threads that search; 0 for one per core.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// mapped, or resident: copied onto huge pages in the background [default: mapped].
    #[arg(long, value_name = "MODE")]
    memory: Option<MemoryMode>,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// If the settings, an index or the address cannot be used.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut config = settings(arguments)?;
    telemetry::init(&config.log, config.log_format)?;
    // Claimed before the indexes are opened, so that a taken address is known at once; nobody can
    // connect until it is listened on.
    let socket = claim(&config.listen).with_context(|| format!("cannot listen on {}", config.listen))?;
    let is_sample = config.indexes.is_empty();
    if is_sample {
        config.indexes.insert(DEFAULT_NAME.to_owned(), sample::ensure(Path::new(sample::ROOT))?);
    }
    let engine = Arc::new(Engine::open(config.engine_options())?);
    for index in engine.index_names() {
        if let Some(problem) = engine.status(&index)?.refused {
            tracing::error!(index, problem, "refused the newest publication; an older generation serves");
        }
    }

    // They only read requests and write answers: with as many as there are cores, they and the threads that
    // search would mostly wait for each other.
    let writers = std::thread::available_parallelism()?.get().div_ceil(2);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(writers).enable_all().build()?;
    let served = runtime.block_on(async {
        let listener =
            socket.listen(BACKLOG).with_context(|| format!("cannot listen on {}", config.listen))?;
        let shutdown = shutdown_signal()?;
        announce(&engine, listener.local_addr()?, is_sample)?;
        service::serve(listener, engine, config.service_options(), shutdown).await?;
        Ok(())
    });
    // Whatever is left was given its time to drain.
    runtime.shutdown_background();
    served
}

fn settings(arguments: &Arguments) -> anyhow::Result<ServeConfig> {
    let mut config = ServeConfig::load(arguments.config.as_deref())?;
    if let Some(listen) = &arguments.listen {
        config.listen.clone_from(listen);
    }
    if let Some(threads) = arguments.threads {
        config.threads = threads;
    }
    if let Some(memory) = arguments.memory {
        config.memory = memory;
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

/// A socket bound to the first address of `listen` that can be had.
fn claim(listen: &str) -> std::io::Result<TcpSocket> {
    let mut refused = std::io::Error::new(std::io::ErrorKind::NotFound, "no such address");
    for address in listen.to_socket_addrs()? {
        match bind(address) {
            Ok(socket) => return Ok(socket),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn bind(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A server that was just stopped leaves connections behind that would keep its address taken.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Done when somebody asks this process to stop.
fn shutdown_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Tells whoever started this that it can be used now.
fn announce(engine: &Engine, address: SocketAddr, is_sample: bool) -> anyhow::Result<()> {
    let names = engine.index_names();
    let mut lines = String::new();
    for name in &names {
        let status = engine.status(name)?;
        let of_index = if names.len() == 1 { String::new() } else { format!(" of {name}") };
        let (vectors, generation) = (status.vectors, status.generation);
        lines += &format!("serving {vectors} videos{of_index} on {address} (generation {generation})\n");
    }
    if is_sample {
        // The client knows the default address.
        let default = ServeConfig::default().listen;
        let addr = if address.to_string() == default { String::new() } else { format!(" --addr {address}") };
        lines += &format!("try: cargo run --release -- query --sample-user 7{addr}\n");
    }
    let mut stdout = std::io::stdout().lock();
    // A closed stdout is no reason not to serve.
    let _ = stdout.write_all(lines.as_bytes()).and_then(|()| stdout.flush());
    Ok(())
}
