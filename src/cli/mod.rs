//! The command line: one thin file per subcommand.
//!
//! What flows in: arguments. What flows out: calls into the library, tables and lines for people.

/// Prints one line on standard output. Whoever reads it may stop reading: that is no error.
macro_rules! say {
    ($($line:tt)*) => {
        $crate::cli::say(format_args!($($line)*))
    };
}

mod bench;
mod build;
mod catalog;
mod ground_truth;
mod inspect;
mod progress;
mod query;
mod rebuild;
mod remote;
mod sample;
mod serve;
mod synth;
mod tune;
mod verify;

use std::io::Write as _;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

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
    Query(query::Arguments),
    Takedown(catalog::Takedown),
    Restore(catalog::Restore),
    Delete(catalog::Delete),
    Get(catalog::Get),
    Rebuild(rebuild::Arguments),
    GroundTruth(ground_truth::Arguments),
    Bench(bench::Arguments),
    Tune(tune::Arguments),
    Inspect(inspect::Arguments),
    Verify(verify::Arguments),
}

/// Parses the arguments of this process and does what they say.
///
/// # Errors
/// What the subcommand could not do, for a person to read.
pub fn run() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    Kernels::from_environment().context("SHORTLIST_KERNEL")?;
    match arguments.command {
        Command::Synth(arguments) => synth::run(&arguments),
        Command::Build(arguments) => build::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Query(arguments) => query::run(&arguments),
        Command::Takedown(arguments) => catalog::takedown(arguments),
        Command::Restore(arguments) => catalog::restore(arguments),
        Command::Delete(arguments) => catalog::delete(arguments),
        Command::Get(arguments) => catalog::get(arguments),
        Command::Rebuild(arguments) => rebuild::run(&arguments),
        Command::GroundTruth(arguments) => ground_truth::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Tune(arguments) => tune::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
    }
}

fn say(line: std::fmt::Arguments<'_>) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_fmt(line).and_then(|()| stdout.write_all(b"\n"));
}
