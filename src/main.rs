//! The `shortlist` command.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::io::Write as _;
use std::process::ExitCode;

use shortlist::base::text::visible_text;

fn main() -> ExitCode {
    match shortlist::cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Names from files and servers must not control the terminal.
            let message = format!("error: {error:#}");
            let lines: Vec<String> = message.lines().map(visible_text).collect();
            // `eprintln!` would panic if nobody reads standard error.
            let _ = writeln!(std::io::stderr(), "{}", lines.join("\n"));
            ExitCode::from(shortlist::cli::exit_code(&error))
        }
    }
}
