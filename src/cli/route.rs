//! `shortlist route`: serves indexes that are divided over the servers of shards.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::bail;

use super::process::{DEFAULT_NAME, Process, print};
use crate::config::ServeConfig;
use crate::router::Routing;
use crate::service::ServiceOptions;

/// Serve indexes that are divided over the servers of shards: searches ask one replica of every shard and merge the answers.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The shards of an index, as `[NAME=]ADDR+ADDR,ADDR+ADDR`: replicas joined by +, shards by comma. Can be repeated.
    #[arg(long, value_name = "[NAME=]SHARDS")]
    shards: Vec<String>,
    /// Where the map of an index is, as `[NAME=]LOCATION`: s3://BUCKET/PREFIX or file:///FOLDER. Its replicas announce themselves in
    /// NATS. Can be repeated.
    #[arg(long, value_name = "[NAME=]LOCATION")]
    map: Vec<String>,
    /// The servers of NATS, such as nats://10.0.0.1:4222.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    nats: Vec<String>,
    /// Host and port to listen on; port 0 picks a free port [default: 127.0.0.1:50051].
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// A file of names that stand for indexes, which `shortlist alias` sets.
    #[arg(long, value_name = "FILE")]
    aliases: Option<PathBuf>,
    /// Configuration in TOML, as for serve, with a section [route]. SHORTLIST_SERVE_* variables and flags override it.
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
}

/// Serves until SIGTERM or SIGINT, or until the terminal of the process closes.
///
/// # Errors
/// If the configuration is invalid, or the address is not available.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let threads = std::thread::available_parallelism()?.get();
    let process = Process::start(arguments.config.as_deref(), threads, || settings(arguments))?;
    let Process { records: _records, config, runtime, sockets, access, aliases, signals } = process;
    let mut routing = {
        // Connections need it. NATS and buckets have threads of their own, and wait for them here.
        let _runtime = runtime.enter();
        Routing::new(&config.route, config.limits.service.max_response_bytes)?
    };
    let served = runtime.block_on(async {
        routing.find_replicas().await;
        let (address, listeners) = sockets.listen()?;
        let shutdown = signals.shutdown(access.clone())?;
        announce(&routing.indexes(), address);
        let options = ServiceOptions { aliases, ..config.service_options(access) };
        routing.serve(listeners, config.limits.engine, options, shutdown).await?;
        Ok(())
    });
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
    if !arguments.shards.is_empty() {
        config.route.shards.clear();
    }
    for shards in &arguments.shards {
        let (name, list) = shards.split_once('=').unwrap_or((DEFAULT_NAME, shards));
        if name.is_empty() || list.is_empty() {
            bail!("--shards {shards}: expected [NAME=]ADDR+ADDR,ADDR+ADDR");
        }
        if config.route.shards.insert(name.to_owned(), list.to_owned()).is_some() {
            bail!("--shards {shards}: there is an index {name:?} already");
        }
    }
    if !arguments.map.is_empty() {
        config.route.maps.clear();
    }
    for map in &arguments.map {
        let (name, location) = map.split_once('=').unwrap_or((DEFAULT_NAME, map));
        if name.is_empty() || location.is_empty() {
            bail!("--map {map}: expected [NAME=]LOCATION");
        }
        if config.route.maps.insert(name.to_owned(), location.to_owned()).is_some() {
            bail!("--map {map}: there is an index {name:?} already");
        }
    }
    if !arguments.nats.is_empty() {
        config.route.nats.clone_from(&arguments.nats);
    }
    config.check()?;
    Ok(config)
}

/// Prints on standard output that the router is ready.
fn announce(indexes: &[(String, u32)], address: SocketAddr) {
    let line = |(name, shards): &(String, u32)| format!("routing {name} to {shards} shards on {address}\n");
    let lines: String = indexes.iter().map(line).collect();
    print(&lines);
}
