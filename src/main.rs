//! The `shortlist` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    match shortlist::cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(shortlist::cli::exit_code(&error))
        }
    }
}
