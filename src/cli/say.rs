//! Lines on standard output and standard error.

use std::io::{self, Write};

use serde::Serialize;

use super::terminal::{ascii, columns, has_unicode, wrapped};

/// The width of the names of facts, in characters.
const FACT_NAME: usize = 17;

/// Prints one line on standard output. A closed pipe is not an error.
macro_rules! say {
    ($($line:tt)*) => {
        $crate::cli::say::print_line(std::io::stdout().lock(), format_args!($($line)*))
    };
}

/// Prints one line on standard error. A closed pipe is not an error.
macro_rules! note {
    ($($line:tt)*) => {
        $crate::cli::say::print_line(std::io::stderr().lock(), format_args!($($line)*))
    };
}

/// Prints a name and what there is to say of it on standard output, in two columns.
macro_rules! fact {
    ($name:expr, $($text:tt)*) => {
        $crate::cli::say::print_fact($name, &format!($($text)*))
    };
}

/// How a command prints its result.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(super) struct Format {
    /// Print the result as one line of JSON. Notes and progress go to standard error.
    #[arg(long)]
    json: bool,
}

impl Format {
    /// Prints a result: as JSON, or as the lines that `show` prints.
    ///
    /// # Errors
    /// If the result has no form in JSON.
    pub(super) fn print(self, result: &impl Serialize, show: impl FnOnce()) -> serde_json::Result<()> {
        if self.json {
            print_json(result)
        } else {
            show();
            Ok(())
        }
    }
}

/// Prints `line` and a line break. Ignores errors, on which `println!` would panic: the reader may close the pipe at any
/// time.
pub(super) fn print_line(to: impl Write, line: std::fmt::Arguments<'_>) {
    let line = line.to_string();
    let line = if has_unicode() { line } else { ascii(&line) };
    print(to, &line);
}

/// Prints a value as one line of JSON on standard output, in UTF-8 whatever the locale.
///
/// # Errors
/// If the value has no form in JSON.
pub(super) fn print_json(value: &impl Serialize) -> serde_json::Result<()> {
    print(io::stdout().lock(), &serde_json::to_string(value)?);
    Ok(())
}

/// Prints a fact. On a terminal, its text is broken between words and indented.
pub(super) fn print_fact(name: &str, text: &str) {
    let lines = match columns() {
        Some(columns) => wrapped(text, columns - FACT_NAME),
        None => vec![text.to_owned()],
    };
    for (row, line) in lines.iter().enumerate() {
        let name = if row == 0 { name } else { "" };
        say!("{name:<FACT_NAME$}{line}");
    }
}

fn print(mut to: impl Write, line: &str) {
    let _: io::Result<()> = to.write_all(line.as_bytes()).and_then(|()| to.write_all(b"\n"));
}
