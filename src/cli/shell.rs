//! `shortlist completions` and `shortlist man`: what shells and `man` read.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Command;
use clap_complete::Shell;

const NAME: &str = "shortlist";

/// Print the completions of a shell, such as for `source <(shortlist completions bash)`.
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Write the manual pages, one per command.
#[derive(Debug, clap::Args)]
pub struct Man {
    /// The folder to write to, such as ~/.local/share/man/man1. Created if it does not exist.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

/// Prints the completions.
///
/// # Errors
/// Never: a closed pipe is not an error.
pub fn completions(Completions { shell }: &Completions, mut command: Command) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(*shell, &mut command, NAME, &mut text);
    // A closed pipe is not an error.
    let _: io::Result<()> = io::stdout().write_all(&text);
    Ok(())
}

/// Writes the pages.
///
/// # Errors
/// If the folder cannot be written.
pub fn man(Man { out }: &Man, command: Command) -> anyhow::Result<()> {
    let problem = || out.display().to_string();
    std::fs::create_dir_all(out).with_context(problem)?;
    clap_mangen::generate_to(command, out).with_context(problem)
}
