//! The `shortlist` command.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match shortlist::cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // `eprintln!` would panic if nobody reads standard error.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::from(shortlist::cli::exit_code(&error))
        }
    }
}
