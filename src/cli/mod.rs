//! The command line: one thin file per subcommand.
//!
//! What flows in: arguments. What flows out: calls into the library, and tables and lines on the terminal.
//!
//! | file | duty |
//! |---|---|
//! | `synth.rs`        | `synth`: generates a dataset |
//! | `build.rs`        | `build`: builds an index and publishes it |
//! | `serve.rs`        | `serve`: serves indexes over gRPC |
//! | `announce.rs`     | `serve` announces itself to routers |
//! | `route.rs`        | `route`: serves indexes that are divided over the servers of shards |
//! | `process.rs`      | the process of `serve` and `route`: log, threads, sockets, signals |
//! | `audit.rs`        | the record of changes and refusals |
//! | `ids.rs`          | ids on the command line |
//! | `inputs.rs`       | the flags of a catalog in files |
//! | `key.rs`          | `key`: makes a key of `serve` |
//! | `mirrors.rs`      | the indexes of `serve` that are in buckets |
//! | `backup.rs`       | `backup`: copies an index with its log to a bucket, and back |
//! | `target.rs`       | where `build` publishes: a folder or a bucket |
//! | `shared_logs.rs`  | the logs of `serve` that other servers write to, too |
//! | `sample.rs`       | the sample catalog of `serve` |
//! | `query/`          | `query`: searches a running server |
//! | `catalog.rs`      | `takedown`, `restore`, `delete`, `get`: single videos of a running server |
//! | `upsert.rs`       | `upsert`: sends a catalog to a running server |
//! | `value.rs`        | attribute values as text |
//! | `status.rs`       | `status`, `list`, `activate`: indexes of a running server and their generations |
//! | `alias.rs`        | `alias`: names that stand for indexes on a running server |
//! | `shadow.rs`       | `shadow`: compares a candidate with an index of a running server |
//! | `shell.rs`        | `completions`, `man`: files for shells and `man` |
//! | `nats.rs`         | the flags of the servers of NATS |
//! | `cluster.rs`      | `cluster`: into how many shards an index is divided |
//! | `rebuild_job.rs`  | `rebuild --at`: rebuilds a shard as a job |
//! | `rebuild.rs`      | `rebuild`: rebuilds an index on a running server |
//! | `remote.rs`       | the connection to a running server |
//! | `ground_truth.rs` | `ground-truth`: exact neighbors |
//! | `bench/`          | `bench`: recall and latency |
//! | `tune.rs`         | `tune`: calibrates an index |
//! | `inspect.rs`      | `inspect`: describes an index |
//! | `verify.rs`       | `verify`: checks an index |
//! | `log.rs`          | `log`: describes and salvages the log of an index |
//! | `progress.rs`     | progress bars |
//! | `interrupt.rs`    | Ctrl-C |
//! | `say.rs`          | lines on standard output and standard error, and results as JSON |
//! | `terminal.rs`     | what a terminal can show |

#[macro_use]
mod say;

mod alias;
mod announce;
mod audit;
#[cfg(feature = "cluster")]
mod backup;
mod bench;
mod build;
mod catalog;
#[cfg(feature = "cluster")]
mod cluster;
mod ground_truth;
mod health;
mod ids;
mod inputs;
mod inspect;
mod interrupt;
mod key;
mod log;
mod mirrors;
#[cfg(feature = "cluster")]
mod nats;
mod process;
mod progress;
mod query;
mod rebuild;
#[cfg(feature = "cluster")]
mod rebuild_job;
mod remote;
#[cfg(feature = "cluster")]
mod route;
mod sample;
mod serve;
mod shadow;
mod shared_logs;
mod shell;
mod status;
mod synth;
mod target;
mod terminal;
mod tune;
mod upsert;
mod value;
mod verify;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::dataset::DatasetError;
use crate::engine::EngineError;
use crate::index::StoreError;
use crate::kernel::Kernels;

/// Candidate retrieval for short-video recommenders.
#[derive(Debug, Parser)]
#[command(name = "shortlist", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Synth(synth::Arguments),
    Build(build::Arguments),
    Serve(serve::Arguments),
    #[cfg(feature = "cluster")]
    Route(route::Arguments),
    Key(key::Arguments),
    Query(query::Arguments),
    Takedown(catalog::Takedown),
    Restore(catalog::Restore),
    Delete(catalog::Delete),
    Get(catalog::Get),
    Upsert(upsert::Arguments),
    Health(health::Arguments),
    Status(status::Status),
    List(status::List),
    Activate(status::Activate),
    Alias(alias::Arguments),
    Shadow(shadow::Arguments),
    Rebuild(rebuild::Arguments),
    #[cfg(feature = "cluster")]
    Cluster(cluster::Arguments),
    GroundTruth(ground_truth::Arguments),
    Bench(bench::Arguments),
    Tune(tune::Arguments),
    Inspect(inspect::Arguments),
    Verify(verify::Arguments),
    Log(log::Arguments),
    #[cfg(feature = "cluster")]
    Backup(backup::Arguments),
    Completions(shell::Completions),
    Man(shell::Man),
}

/// Parses the arguments of this process and runs the subcommand.
///
/// # Errors
/// The error of the subcommand, with a message for users.
pub fn run() -> anyhow::Result<()> {
    run_command().map_err(|error| match error.chain().find_map(remedy) {
        Some(remedy) => anyhow::anyhow!("{error:#}; {remedy}"),
        None => error,
    })
}

/// Returns the exit code of an error of [`run`]: that of a process ended by Ctrl-C if the work was cancelled, else 1.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if interrupt::caused(error) { interrupt::EXIT_CODE } else { 1 }
}

/// Returns the command or the flag that resolves an error, if there is one.
fn remedy(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(DatasetError::UnsupportedColumn { name, .. }) = error.downcast_ref() {
        return Some(format!("--skip-columns {name} leaves it out"));
    }
    let store = match error.downcast_ref() {
        Some(EngineError::Store(error)) => Some(error),
        _ => error.downcast_ref(),
    };
    match store {
        Some(StoreError::Empty { dir }) => {
            Some(format!("`shortlist build --out {}` makes one", dir.display()))
        }
        _ => None,
    }
}

fn run_command() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    Kernels::from_environment().context("SHORTLIST_KERNEL")?;
    // The others do more than end.
    let ends_by_itself = match arguments.command {
        #[cfg(feature = "cluster")]
        Command::Route(_) => false,
        #[cfg(feature = "cluster")]
        Command::Rebuild(ref arguments) if arguments.is_job() => false,
        Command::Synth(_) | Command::Build(_) | Command::Serve(_) | Command::Tune(_) | Command::Upsert(_) => {
            false
        }
        _ => true,
    };
    if ends_by_itself {
        interrupt::end_process()?;
    }
    match arguments.command {
        Command::Synth(arguments) => synth::run(&arguments),
        Command::Build(arguments) => build::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        #[cfg(feature = "cluster")]
        Command::Route(arguments) => route::run(&arguments),
        Command::Key(arguments) => key::run(&arguments),
        Command::Query(arguments) => query::run(&arguments),
        Command::Takedown(arguments) => catalog::takedown(arguments),
        Command::Restore(arguments) => catalog::restore(arguments),
        Command::Delete(arguments) => catalog::delete(arguments),
        Command::Get(arguments) => catalog::get(arguments),
        Command::Upsert(arguments) => upsert::run(&arguments),
        Command::Health(arguments) => health::run(&arguments),
        Command::Status(arguments) => status::status(arguments),
        Command::List(arguments) => status::list(arguments),
        Command::Activate(arguments) => status::activate(arguments),
        Command::Alias(arguments) => alias::run(arguments),
        Command::Shadow(arguments) => shadow::run(arguments),
        Command::Rebuild(arguments) => rebuild::run(&arguments),
        #[cfg(feature = "cluster")]
        Command::Cluster(arguments) => cluster::run(&arguments),
        Command::GroundTruth(arguments) => ground_truth::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Tune(arguments) => tune::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Log(arguments) => log::run(&arguments),
        #[cfg(feature = "cluster")]
        Command::Backup(arguments) => backup::run(&arguments),
        Command::Completions(arguments) => shell::completions(&arguments, Arguments::command()),
        Command::Man(arguments) => shell::man(&arguments, Arguments::command()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_well_formed() {
        Arguments::command().debug_assert();
    }
}
