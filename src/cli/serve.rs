//! `shortlist serve`: opens indexes and serves them until the process is asked to stop.

use std::io::{IsTerminal, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use anyhow::{Context, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpSocket;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::announce::Announcements;
use super::mirrors::Mirrors;
use super::shared_logs::shared_logs;
use super::{audit, sample};
use crate::base::partition::Shard;
use crate::config::telemetry::{self, Log};
use crate::config::{ConfigError, ServeConfig, key_file};
use crate::engine::{Engine, EngineOptions, MemoryPolicy};
use crate::service::{self, Access, AccessOptions, Listeners, ServiceOptions};

/// The name of an index that is configured without a name.
const DEFAULT_NAME: &str = "default";
/// Open files that are not connections: indexes, logs and the files of the runtime.
const OWN_FILES: usize = 40;
/// Length of the operating system's queue of connections that are not accepted yet.
const BACKLOG: u32 = 1024;

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
    // Before the settings are read, so that a change meanwhile is seen.
    let log = Arc::new(OnceLock::<Log>::new());
    // Weak, so that the last lines are written when this function returns, whatever still has the file.
    let of_file = Arc::downgrade(&log);
    let set_log = move |filter: &str| match of_file.upgrade().as_deref().and_then(OnceLock::get) {
        Some(log) => log.set_filter(filter),
        None => Ok(()),
    };
    let key_file = arguments.config.as_deref().and_then(|path| key_file(path, set_log));
    let mut config = settings(arguments)?;
    let set = log.set(telemetry::init(&config.log, config.log_format)?);
    debug_assert!(set.is_ok(), "set once");
    // These threads only read requests and write answers. With one per core, they would compete with the search threads
    // for the cores.
    let io_threads = std::thread::available_parallelism()?.get().div_ceil(2);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(io_threads).enable_all().build()?;
    // From now on a SIGHUP does not end the process: a reload may come while the indexes are opened.
    let had_terminal = has_terminal();
    let hangup = {
        let _runtime = runtime.enter();
        signal(SignalKind::hangup())?
    };
    limit_connections(&mut config);
    // Bound before the indexes are opened, so that an address in use is reported at once. Nobody can connect until the
    // socket listens.
    let sockets = Sockets::claim(&config)?;
    let (audit, _writer) = audit::open(&config)?;
    let access = Access::open(AccessOptions { key_file, ..config.access_options(audit)? })?;
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
        let shutdown = signals(access.clone(), hangup, had_terminal)?;
        announce(&engine, address, is_sample)?;
        let options = ServiceOptions { buckets, ..config.service_options(access) };
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

/// Raises the limit of open files as far as the system allows, and limits the connections to what it leaves.
pub(super) fn limit_connections(config: &mut ServeConfig) {
    let hard = getrlimit(Resource::Nofile).maximum;
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let Some(files) = getrlimit(Resource::Nofile).current else { return };
    let most = usize::try_from(files).unwrap_or(usize::MAX).saturating_sub(OWN_FILES).max(1);
    let connections = &mut config.connections.max_connections;
    if *connections > most {
        tracing::warn!(
            files,
            connections = most,
            "the limit of open files allows fewer connections than configured"
        );
        *connections = most;
    }
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

/// The sockets of the ports, bound to their addresses.
pub(super) struct Sockets {
    main: TcpSocket,
    admin: Option<TcpSocket>,
    metrics: Option<TcpSocket>,
}

impl Sockets {
    pub(super) fn claim(config: &ServeConfig) -> anyhow::Result<Self> {
        let claim = |key: &'static str, listen: &str| {
            claim(listen, |address| config.check_exposure(key, address))
                .with_context(|| format!("cannot listen on {listen}"))
        };
        let other = |key, listen: &str| (!listen.is_empty()).then(|| claim(key, listen)).transpose();
        Ok(Self {
            main: claim("listen", &config.listen)?,
            admin: other("admin_listen", &config.admin_listen)?,
            metrics: other("metrics_listen", &config.metrics_listen)?,
        })
    }

    /// Returns the address of searches, and all listeners.
    pub(super) fn listen(self) -> anyhow::Result<(SocketAddr, Listeners)> {
        let Self { main, admin, metrics } = self;
        let listen = |socket: TcpSocket| {
            let address = socket.local_addr()?;
            socket.listen(BACKLOG).with_context(|| format!("cannot listen on {address}"))
        };
        let main = listen(main)?;
        let address = main.local_addr()?;
        let (admin, metrics) = (admin.map(listen).transpose()?, metrics.map(listen).transpose()?);
        for (what, listener) in [("admin", &admin), ("metrics", &metrics)] {
            if let Some(listener) = listener {
                tracing::info!(what, address = %listener.local_addr()?, "listens on a port of its own");
            }
        }
        Ok((address, Listeners::new(main, admin, metrics)))
    }
}

/// Returns a socket bound to the first available address of `listen`.
fn claim(listen: &str, check: impl Fn(SocketAddr) -> Result<(), ConfigError>) -> anyhow::Result<TcpSocket> {
    let mut refused = std::io::Error::new(std::io::ErrorKind::NotFound, "no such address");
    for address in listen.to_socket_addrs()? {
        check(address)?;
        if !service::is_loopback(address.ip()) {
            tracing::info!(%address, "other machines reach this address");
        }
        match bind(address) {
            Ok(socket) => return Ok(socket),
            Err(error) => refused = error,
        }
    }
    Err(refused.into())
}

fn bind(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of a server that was just stopped would otherwise keep the address in use.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Returns a future that completes on SIGTERM or SIGINT, and when the terminal of the process closes. On any other SIGHUP,
/// it reads the files of credentials and of the log filter again.
pub(super) fn signals(
    access: Access,
    mut hangup: Signal,
    had_terminal: bool,
) -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = hangup.recv() => {}
            }
            if had_terminal && !has_terminal() {
                return;
            }
            tracing::info!("SIGHUP: reading the files of credentials and settings again");
            let access = access.clone();
            // Fails only if a reader panicked, which is logged.
            let _ = tokio::task::spawn_blocking(move || access.reload()).await;
        }
    })
}

/// Returns whether the process has a terminal that is open.
pub(super) fn has_terminal() -> bool {
    std::io::stdin().is_terminal() || std::io::stdout().is_terminal() || std::io::stderr().is_terminal()
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
    let mut stdout = std::io::stdout().lock();
    // The server also serves if standard output is closed.
    let _ = stdout.write_all(lines.as_bytes()).and_then(|()| stdout.flush());
    Ok(())
}
