//! The process of a server, whatever it serves: its settings, log, threads, sockets and signals.
//!
//! What flows in: the settings of a subcommand. What flows out: sockets that are bound and do not listen yet, and the signal to shut
//! down. Knows neither engine nor router.

use std::io::{IsTerminal, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::audit;
use crate::config::telemetry::{self, Log, StderrWriter};
use crate::config::{ConfigError, ServeConfig, key_file};
use crate::service::{self, Access, AccessOptions, Aliases, Listeners};

/// The name of an index that is configured without a name.
pub(super) const DEFAULT_NAME: &str = "default";
/// Open files that are not connections: indexes, logs and the files of the runtime.
const OWN_FILES: usize = 40;
/// Length of the operating system's queue of connections that are not accepted yet.
const BACKLOG: u32 = 1024;

/// A process that is about to serve.
pub(super) struct Process {
    /// To be kept until the process ends.
    pub(super) records: Records,
    pub(super) config: ServeConfig,
    pub(super) runtime: Runtime,
    pub(super) sockets: Sockets,
    pub(super) access: Access,
    pub(super) aliases: Arc<Aliases>,
    pub(super) signals: Signals,
}

/// The log and the record of changes. Their last lines are written when this is dropped.
pub(super) struct Records {
    _audit: Option<StderrWriter>,
    _log: Arc<OnceLock<Log>>,
}

/// Signals that are caught.
pub(super) struct Signals {
    hangup: Signal,
    had_terminal: bool,
}

impl Process {
    /// Reads the settings, which a file at `path` may be part of, starts the log and the threads, and binds the ports.
    ///
    /// # Errors
    /// If the settings are invalid, a file cannot be read, or an address is not available.
    pub(super) fn start(
        path: Option<&Path>,
        io_threads: usize,
        settings: impl FnOnce() -> anyhow::Result<ServeConfig>,
    ) -> anyhow::Result<Self> {
        // Before the settings are read, so that a change meanwhile is seen.
        let log = Arc::new(OnceLock::<Log>::new());
        // Weak, so that the last lines are written when the process ends, whatever still has the file.
        let of_file = Arc::downgrade(&log);
        let set_log = move |filter: &str| match of_file.upgrade().as_deref().and_then(OnceLock::get) {
            Some(log) => log.set_filter(filter),
            None => Ok(()),
        };
        let key_file = path.and_then(|path| key_file(path, set_log));
        let mut config = settings()?;
        let set = log.set(telemetry::init(&config.log, config.log_format)?);
        debug_assert!(set.is_ok(), "set once");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(io_threads).enable_all().build()?;
        // From now on a SIGHUP does not end the process: a reload may come before it serves.
        let had_terminal = has_terminal();
        let hangup = {
            let _runtime = runtime.enter();
            signal(SignalKind::hangup())?
        };
        limit_connections(&mut config);
        // Bound before anything else is opened, so that an address in use is reported at once. Nobody can connect until the
        // socket listens.
        let sockets = Sockets::claim(&config)?;
        let (audit, writer) = audit::open(&config)?;
        let access = Access::open(AccessOptions { key_file, ..config.access_options(audit)? })?;
        let aliases = match config.aliases.as_os_str().is_empty() {
            true => Aliases::default(),
            false => Aliases::open(&config.aliases).context("aliases")?,
        };
        let aliases = Arc::new(aliases);
        let records = Records { _audit: writer, _log: log };
        let signals = Signals { hangup, had_terminal };
        Ok(Self { records, config, runtime, sockets, access, aliases, signals })
    }
}

/// Raises the limit of open files as far as the system allows, and limits the connections to what it leaves.
fn limit_connections(config: &mut ServeConfig) {
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

/// The sockets of the ports, bound to their addresses.
pub(super) struct Sockets {
    main: TcpSocket,
    admin: Option<TcpSocket>,
    metrics: Option<TcpSocket>,
}

impl Sockets {
    fn claim(config: &ServeConfig) -> anyhow::Result<Self> {
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

impl Signals {
    /// Returns a future that completes on SIGTERM or SIGINT, and when the terminal of the process closes. On any other SIGHUP,
    /// it reads the files of credentials and of the log filter again.
    pub(super) fn shutdown(self, access: Access) -> std::io::Result<impl Future<Output = ()>> {
        let Self { mut hangup, had_terminal } = self;
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
}

/// Returns whether the process has a terminal that is open.
fn has_terminal() -> bool {
    std::io::stdin().is_terminal() || std::io::stdout().is_terminal() || std::io::stderr().is_terminal()
}

/// Prints that the process is ready. It also serves if standard output is closed.
pub(super) fn print(lines: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(lines.as_bytes()).and_then(|()| stdout.flush());
}
